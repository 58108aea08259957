package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/email"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	"github.com/bindery-iam/bindery/services/identity/signin"
)

// jobSettle is the kind of the job that makes somebody known who signed in for the first
// time.
const jobSettle = "settle-user"

// settling is its payload.
type settling struct {
	UserID       string `json:"user_id"`
	Organization string `json:"organization,omitempty"` // whose member the user becomes
}

// userOf is the user of an account of a provider. Who signs in for the first time becomes
// a user when the provider brings members to an organization, or when the address that it
// vouches for is invited; a user that is there already is never taken for theirs because
// of an address. Fails: signin.ErrNoAccount.
func (s *Service) userOf(ctx context.Context, by signin.Provider, who signin.Identity) (u User, err error) {
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.lockExternalLogin(ctx, tx, who.Issuer, who.Subject); err != nil {
			return err
		}
		u, err = s.store.UserByExternalLogin(ctx, tx, who.Issuer, who.Subject)
		if !errors.Is(err, errUserNotFound) {
			return err
		}
		u, err = s.newExternalUser(ctx, tx, by, who)
		return err
	})
	if errors.Is(err, signin.ErrNoAccount) {
		return User{}, errors.Join(err, (&signIns{s}).Refused(ctx, by, "NO_ACCOUNT"))
	}
	if err != nil || u.State != Creating {
		return u, err
	}
	// The job comes a lease later and finds it done, unless this process dies.
	if err := s.settle(ctx, settling{UserID: u.ID, Organization: by.OrganizationID}); err != nil {
		return User{}, err
	}
	return s.store.User(ctx, s.store.db, u.ID)
}

// newExternalUser makes a user of an account of a provider.
func (s *Service) newExternalUser(ctx context.Context, tx *sql.Tx, by signin.Provider, who signin.Identity) (User, error) {
	now := s.now()
	u := User{
		ID: id.New(id.User), State: Creating, CreatedAt: now, GivenName: nameOf(who.GivenName), FamilyName: nameOf(who.FamilyName),
	}
	address, free, err := s.vouchedAddress(ctx, tx, who)
	if err != nil {
		return User{}, err
	}
	if free {
		u.Email = address
	}
	if by.OrganizationID == "" {
		invited, err := s.isInvited(ctx, tx, u.Email)
		if err != nil {
			return User{}, err
		}
		if !invited {
			return User{}, signin.ErrNoAccount
		}
	}
	if err := s.insertNamed(ctx, tx, &u, loginOf(who.Username), by.Name); err != nil {
		return User{}, err
	}
	if err := s.store.InsertExternalLogin(ctx, tx, who.Issuer, who.Subject, u.ID, now); err != nil {
		return User{}, err
	}
	if err := s.recordEvent(ctx, tx, event{name: "CreateUser", path: []audit.Resource{{Type: typeUserAccount, ID: u.ID}}, details: map[string]any{
		"login": u.Login, "provider": by.Name, "issuer": who.Issuer, "subject": who.Subject,
	}}); err != nil {
		return User{}, err
	}
	_, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobSettle, Payload: settling{UserID: u.ID, Organization: by.OrganizationID}})
	return u, err
}

// vouchedAddress is the address that a provider vouches for, "" for none, and whether no
// user has it yet.
func (s *Service) vouchedAddress(ctx context.Context, tx *sql.Tx, who signin.Identity) (address string, free bool, err error) {
	if !who.EmailVerified || email.Problem(who.Email) != "" {
		return "", false, nil
	}
	taken, err := s.store.users(ctx, tx, `WHERE u.email_folded = $1`, email.Fold(who.Email))
	return who.Email, err == nil && len(taken) == 0, err
}

// isInvited reports whether an address has a pending invitation.
func (s *Service) isInvited(ctx context.Context, tx *sql.Tx, address string) (bool, error) {
	if address == "" {
		return false, nil
	}
	found, err := s.store.ListInvitations(ctx, tx, InvitationQuery{Email: email.Fold(address), State: Pending, Now: s.now()}, page.Position{}, 1)
	return len(found) > 0, err
}

// insertNamed adds a user under a name of its own choice, behind which the provider
// stands: so it cannot be the login of a user whom the operator made. Where the name is
// taken, the id does.
func (s *Service) insertNamed(ctx context.Context, tx *sql.Tx, u *User, name, provider string) error {
	for _, login := range []string{name, u.ID} {
		if login == "" {
			continue
		}
		u.Login = login + "@" + provider
		err := s.store.insertUser(ctx, tx, *u)
		if !errors.Is(err, errLoginTaken) {
			return err
		}
	}
	return errLoginTaken
}

// maxLogin bounds the chosen part of a login, so that the whole fits where logins do.
const maxLogin = 60

// loginOf makes the first part of a login of a name that somebody chose: what stands
// before an @, of the characters that logins have.
func loginOf(username string) string {
	name, _, _ := strings.Cut(username, "@")
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		default:
			return -1
		}
	}, name)
	return strings.Trim(name[:min(len(name), maxLogin)], "._-")
}

// maxName bounds the parts of a name, in characters.
const maxName = 100

// nameOf is a part of a name as it is kept.
func nameOf(text string) string {
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, text))
	runes := []rune(text)
	return string(runes[:min(len(runes), maxName)])
}

// settle makes the permission checker know a new user and its membership, and then makes
// the user visible. One who cannot be a member, since the organization is gone or full,
// is withdrawn; that error is returned.
func (s *Service) settle(ctx context.Context, r settling) error {
	u, err := s.store.User(ctx, s.store.db, r.UserID)
	if errors.Is(err, errUserNotFound) || err == nil && u.State != Creating {
		return nil // withdrawn, or done before
	}
	if err != nil {
		return err
	}
	if err := s.tellState(ctx, u.ID, accessv1.SetSubjectRequest_ACTIVE); err != nil {
		return err
	}
	if r.Organization != "" {
		_, err := s.subjects.UpdateMembers(server.AsUnit(ctx), &accessv1.UpdateMembersRequest{
			Container: &accessv1.Resource{Type: typeOrganization, Id: r.Organization},
			Add:       []*accessv1.Subject{{Type: authn.UserAccount, Id: u.ID}},
		})
		if err = apierr.FromRPC(err); err != nil && final(err) {
			return errors.Join(fmt.Errorf("add member: %w", err), s.unsettle(ctx, u, err))
		}
		if err != nil {
			return fmt.Errorf("add member: %w", err)
		}
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.store.Activate(ctx, tx, u.ID); err != nil || r.Organization == "" {
			return err
		}
		return s.recordOrganization(ctx, tx, organizationEvent{
			name: "CreateMembership", status: audit.Done, organization: audit.Resource{Type: typeOrganization, ID: r.Organization},
			details: map[string]any{"subject_id": u.ID},
		})
	})
}

// unsettle withdraws a new user.
func (s *Service) unsettle(ctx context.Context, u User, cause error) error {
	if err := s.tellState(ctx, u.ID, accessv1.SetSubjectRequest_DELETED); err != nil {
		return err
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		withdrawn, err := s.store.Withdraw(ctx, tx, u.ID)
		if err != nil || !withdrawn {
			return err
		}
		return s.record(ctx, tx, "WithdrawUser", u.ID, map[string]any{"login": u.Login, "reason": apierr.ReasonOf(cause)})
	})
}

// settleJob is settle as a job: what could not be is over.
func (s *Service) settleJob(ctx context.Context, r settling) error {
	if err := s.settle(ctx, r); err != nil && !final(err) {
		return err
	}
	return nil
}
