package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/identity/signin"
)

// ClientBrowser is the id of the client that the sign-in pages are: of sessions that
// browsers hold.
const ClientBrowser = "browser"

// credentialProvider is the kind of credential that a provider's word is.
const credentialProvider = "openid_provider"

// signIns is what the pages of sign-in know of people and sessions.
type signIns struct{ *Service }

var _ signin.Directory = (*signIns)(nil)

// openSignIn adds the pages of sign-in, where the installation has a public URL.
func (s *Service) openSignIn(ctx context.Context) error {
	if s.cfg.PublicURL == "" {
		return nil
	}
	key, err := secret.Get(ctx, s.store.db, Name, "sign-in", signin.KeySize)
	if err != nil {
		return err
	}
	return signin.Register(s.handlers, signin.Config{
		PublicURL: s.cfg.PublicURL, Providers: s.cfg.Providers, Directory: &signIns{s}, Key: key, Now: s.now, Log: s.log,
	})
}

// SignIn begins a session of a browser for somebody whom a provider vouches for.
func (s *signIns) SignIn(ctx context.Context, by signin.Provider, who signin.Identity, device string) (signin.Grant, error) {
	ctx = authn.NewContext(ctx, authn.Principal{}) // the unit by itself: the gateway only brought the answer
	u, err := s.userOf(ctx, by, who)
	if err != nil {
		return signin.Grant{}, err
	}
	if !u.mayAct() {
		return signin.Grant{}, errors.Join(signin.ErrMayNot, s.Refused(ctx, by, "USER_SUSPENDED"))
	}
	var n Session
	var text string
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		if n, text, err = s.beginSession(ctx, tx, u.ID, ClientBrowser, device); err != nil {
			return err
		}
		if err := s.store.ExternalLoginUsed(ctx, tx, who.Issuer, who.Subject, n.CreatedAt); err != nil {
			return err
		}
		return s.recordSignIn(ctx, tx, by, audit.Done, authn.Principal{Type: authn.UserAccount, ID: u.ID}, map[string]any{
			"credential": credentialProvider, "provider": by.Name, "issuer": who.Issuer, "refresh_token_id": n.ID,
		})
	})
	return signin.Grant{Session: shownSession(n, u), Secret: text}, err
}

// Refused records that an answer of a provider was not accepted.
func (s *signIns) Refused(ctx context.Context, by signin.Provider, reason string) error {
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return s.recordSignIn(ctx, tx, by, audit.Failed, authn.Principal{}, map[string]any{"provider": by.Name, "issuer": by.Issuer, "reason": reason})
	})
}

// recordSignIn writes the audit record of a sign-in (AU-3): about the organization of
// the provider, if it has one, and who signed in.
func (s *Service) recordSignIn(ctx context.Context, tx *sql.Tx, by signin.Provider, status audit.Status, who authn.Principal, details map[string]any) error {
	var path []audit.Resource
	if by.OrganizationID != "" {
		path = append(path, audit.Resource{Type: typeOrganization, ID: by.OrganizationID})
	}
	if who.ID != "" {
		path = append(path, audit.Resource{Type: typeUserAccount, ID: who.ID})
	}
	return s.recordEvent(authn.NewContext(ctx, who), tx, event{name: "CreateIamCookieForSubject", status: status, path: path, details: details})
}

func shownSession(n Session, u User) signin.Session {
	return signin.Session{ID: n.ID, UserID: u.ID, Login: u.Login, Expires: n.ExpiresAt}
}

// provenSession finds the session that a refresh token proves, and its user (TK-5). Fails:
// signin.ErrOver.
func (s *signIns) provenSession(ctx context.Context, text string) (Session, User, error) {
	n, err := s.byRefreshToken(ctx, text)
	if apierr.ReasonOf(err) == ReasonCredentialsInvalid {
		return Session{}, User{}, signin.ErrOver
	}
	if err != nil {
		return Session{}, User{}, err
	}
	u, err := s.store.User(ctx, s.store.db, n.UserID)
	return n, u, err
}

// Session reads a live session.
func (s *signIns) Session(ctx context.Context, text string) (signin.Session, error) {
	n, u, err := s.provenSession(ctx, text)
	session := shownSession(n, u)
	if err == nil && subjectTypeOf(u.ID) == authn.FederatedUser {
		session.Federation, err = s.store.FederationNameOf(ctx, s.store.db, u.ID)
	}
	return session, err
}

// IAMToken issues a token of a live session.
func (s *signIns) IAMToken(ctx context.Context, text string) (signin.Grant, error) {
	n, u, err := s.provenSession(ctx, text)
	if err != nil {
		return signin.Grant{}, err
	}
	g := signin.Grant{Session: shownSession(n, u)}
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		n, err := s.store.LockSession(ctx, tx, n.ID)
		if errors.Is(err, errRefreshTokenNotFound) || err == nil && !n.live(s.now()) {
			return signin.ErrOver
		}
		if err != nil {
			return err
		}
		return s.withToken(ctx, tx, n, "", &g)
	})
	return g, err
}

// withToken issues an IAM token of a session.
func (s *signIns) withToken(ctx context.Context, tx *sql.Tx, n Session, text string, g *signin.Grant) error {
	made, err := s.carryOn(ctx, tx, n, text)
	if err != nil {
		return err
	}
	g.Secret, g.IAMToken, g.IAMExpires = text, made.GetIamToken(), made.GetIamTokenExpiresAt().AsTime()
	return nil
}

// SignOut ends a session with its tokens (TK-5).
func (s *signIns) SignOut(ctx context.Context, text string) error {
	n, err := s.byRefreshToken(ctx, text)
	if apierr.ReasonOf(err) == ReasonCredentialsInvalid {
		return nil // over before
	}
	if err != nil {
		return err
	}
	return s.endSession(authn.NewContext(ctx, authn.Principal{Type: subjectTypeOf(n.UserID), ID: n.UserID}), n.ID, "SIGNED_OUT")
}

// Allow makes a code for a program of the user of a live session.
func (s *signIns) Allow(ctx context.Context, text string, c signin.Code) (string, error) {
	n, _, err := s.provenSession(ctx, text)
	if err != nil {
		return "", err
	}
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	made := base64.RawURLEncoding.EncodeToString(b[:])
	return made, sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return s.store.InsertCode(ctx, tx, codeHash(made), n.ID, c)
	})
}

// codeHash is what the store keeps of a code, which is random.
func codeHash(text string) []byte {
	h := sha256.Sum256([]byte(text))
	return h[:]
}

// Exchange begins the session of a program for a code, which is used up whether it fits
// or not.
func (s *signIns) Exchange(ctx context.Context, text string, fits func(signin.Code) bool) (signin.Grant, error) {
	var c signin.Code
	var sessionID string
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		c, sessionID, err = s.store.TakeCode(ctx, tx, codeHash(text))
		return err
	})
	if err == nil && (!c.Ends.After(s.now()) || !fits(c)) {
		err = signin.ErrSpent
	}
	if err != nil {
		return signin.Grant{}, err
	}
	return s.programSession(ctx, sessionID, c)
}

// programSession begins the session of a program for the user of another one, which must be live
// still.
func (s *signIns) programSession(ctx context.Context, sessionID string, c signin.Code) (g signin.Grant, err error) {
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		from, err := s.store.LockSession(ctx, tx, sessionID)
		if errors.Is(err, errRefreshTokenNotFound) || err == nil && !from.live(s.now()) {
			return signin.ErrSpent
		}
		if err != nil {
			return err
		}
		u, err := s.store.User(ctx, tx, from.UserID)
		if err != nil {
			return fmt.Errorf("read the user of a session: %w", err)
		}
		if !u.mayAct() {
			return signin.ErrSpent
		}
		until := s.now().Add(s.cfg.SessionLife)
		if u.FederationID != "" {
			until = from.ExpiresAt // how long the organization wants nobody asked
		}
		n, text, err := s.beginSessionUntil(ctx, tx, u.ID, c.ClientID, c.Device, until)
		if err != nil {
			return err
		}
		g.Session = shownSession(n, u)
		return s.withToken(ctx, tx, n, text, &g)
	})
	return g, err
}

// Spend notes that something may be used once.
func (s *signIns) Spend(ctx context.Context, hash []byte, until time.Time) error {
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error { return s.store.Spend(ctx, tx, hash, until) })
}
