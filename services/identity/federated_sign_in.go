package identity

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/email"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	"github.com/bindery-iam/bindery/services/identity/saml"
	"github.com/bindery-iam/bindery/services/identity/signin"
)

// credentialFederation is the kind of credential that the word of a federation's provider
// is.
const credentialFederation = "saml_federation"

// maxSigningCertificates is how many certificates of a federation are tried on an answer:
// the newest ones.
const maxSigningCertificates = 10

// Federation reads a federation that people may sign in through, with its key, which is
// made when first asked for, and the certificates of its provider, the newest first.
func (s *signIns) Federation(ctx context.Context, federationID string) (saml.Federation, error) {
	f, err := s.federationInUse(ctx, s.store.db, federationID)
	if err != nil {
		return saml.Federation{}, err
	}
	key, err := s.federationKey(ctx, f.ID)
	if err != nil {
		return saml.Federation{}, err
	}
	all, err := s.store.CertificatesOf(ctx, s.store.db, f.ID, "", page.Position{}, page.MaxSize)
	if err != nil {
		return saml.Federation{}, err
	}
	shown := saml.Federation{
		ID: f.ID, Name: f.Name, Issuer: f.Issuer, SSOURL: f.SSOURL, ByPost: f.Binding == "POST", Encrypted: f.EncryptedAssertions, ForceAuthn: f.ForceAuthn, Key: key,
	}
	for _, c := range slices.Backward(all) {
		parsed, err := x509.ParseCertificate(c.DER)
		if err != nil {
			return saml.Federation{}, fmt.Errorf("read certificate %s: %w", c.ID, err)
		}
		if shown.Certificates = append(shown.Certificates, parsed); len(shown.Certificates) == maxSigningCertificates {
			break
		}
	}
	return shown, nil
}

// federationInUse reads a federation whose users may sign in. Fails:
// signin.ErrNoFederation.
func (s *Service) federationInUse(ctx context.Context, q sqldb.Querier, federationID string) (SAMLFederation, error) {
	if id.Prefix(federationID) != id.Federation {
		return SAMLFederation{}, signin.ErrNoFederation
	}
	f, err := s.store.SAMLFederation(ctx, q, federationID)
	if apierr.ReasonOf(err) == ReasonFederationNotFound || err == nil && f.State != Active {
		return SAMLFederation{}, signin.ErrNoFederation
	}
	return f, err
}

// FindFederation is the federation that has an id, or whose proven domain a text is or an
// e-mail address in it.
func (s *signIns) FindFederation(ctx context.Context, text string) (string, error) {
	if len(text) > email.MaxLength || sqldb.CheckText(text) != nil {
		return "", signin.ErrNoFederation
	}
	federationID := text
	if id.Prefix(text) != id.Federation {
		domain := strings.ToLower(text[strings.LastIndexByte(text, '@')+1:])
		var err error
		federationID, err = s.store.FederationOfDomain(ctx, s.store.db, domain)
		if errors.Is(err, sql.ErrNoRows) {
			return "", signin.ErrNoFederation
		}
		if err != nil {
			return "", err
		}
	}
	f, err := s.federationInUse(ctx, s.store.db, federationID)
	return f.ID, err
}

// SignInFederated begins a session of a browser for somebody whom the provider of a
// federation vouches for, once what it says of them is in force.
func (s *signIns) SignInFederated(ctx context.Context, shown saml.Federation, who saml.Identity, device string) (signin.Grant, error) {
	ctx = authn.NewContext(ctx, authn.Principal{}) // the unit by itself: the gateway only brought the answer
	f, err := s.federationInUse(ctx, s.store.db, shown.ID)
	if err != nil {
		return signin.Grant{}, err
	}
	u, err := s.federatedUserOf(ctx, f, who)
	if err != nil {
		return signin.Grant{}, err
	}
	if !u.mayAct() {
		return signin.Grant{}, errors.Join(signin.ErrMayNot, s.RefusedFederated(ctx, shown, "USER_SUSPENDED"))
	}
	moved, err := s.followGroups(ctx, f, u, who.Groups)
	if err != nil {
		return signin.Grant{}, err
	}
	now := s.now()
	until := now.Add(min(f.CookieMaxAge, s.cfg.SessionLife))
	if !who.Ends.IsZero() && who.Ends.Before(until) {
		until = who.Ends
	}
	var n Session
	var text string
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		if err := s.store.DescribeFederatedUser(ctx, tx, described(u, who)); err != nil { // which locks the user
			return err
		}
		if err := s.stillMay(ctx, tx, f, u); err != nil {
			return err
		}
		if n, text, err = s.beginSessionUntil(ctx, tx, u.ID, ClientBrowser, device, until); err != nil {
			return err
		}
		details := map[string]any{"credential": credentialFederation, "name_id": u.Login, "issuer": f.Issuer, "refresh_token_id": n.ID}
		moved.tell(details)
		return s.recordFederatedSignIn(ctx, tx, f, audit.Done, u.ID, details)
	})
	if errors.Is(err, signin.ErrMayNot) {
		return signin.Grant{}, errors.Join(err, s.RefusedFederated(ctx, shown, "USER_SUSPENDED"))
	}
	session := shownSession(n, u.User)
	session.Federation = f.Name
	return signin.Grant{Session: session, Secret: text}, err
}

// stillMay refuses a user who was suspended, or is being deleted, while the groups of the
// provider were followed, or whose federation is.
func (s *signIns) stillMay(ctx context.Context, tx *sql.Tx, f SAMLFederation, u FederatedUser) error {
	if _, err := s.federationInUse(ctx, tx, f.ID); err != nil {
		return err
	}
	now, err := s.store.FederatedUsersNamed(ctx, tx, f, []string{u.Login})
	switch {
	case err != nil:
		return err
	case len(now) == 0 || now[0].ID != u.ID || now[0].Operation != "":
		return errFederatedUserBusy
	case !now[0].mayAct():
		return signin.ErrMayNot
	}
	return nil
}

// RefusedFederated records that an answer of a provider was not accepted. Anybody can post
// one, so of many at once the trail of the organization gets a few, and the log all.
func (s *signIns) RefusedFederated(ctx context.Context, shown saml.Federation, reason string) error {
	if !s.refusals.record(shown.ID, s.now()) {
		return nil
	}
	f, err := s.federationInUse(ctx, s.store.db, shown.ID)
	if err != nil {
		return err
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return s.recordFederatedSignIn(ctx, tx, f, audit.Failed, "", map[string]any{"issuer": f.Issuer, "reason": reason})
	})
}

// recordFederatedSignIn writes the audit record of a sign-in (AU-3), in the organization
// of the federation.
func (s *Service) recordFederatedSignIn(ctx context.Context, tx *sql.Tx, f SAMLFederation, status audit.Status, userID string, details map[string]any) error {
	path := []audit.Resource{{Type: typeOrganization, ID: f.OrganizationID}, {Type: typeSAMLFederation, ID: f.ID, Name: f.Name}}
	var by authn.Principal
	if userID != "" {
		by = authn.Principal{Type: authn.FederatedUser, ID: userID}
		path = append(path, usersBelow([]string{userID})...)
	}
	return s.recordEvent(authn.NewContext(ctx, by), tx, event{name: "CreateIamCookieForSubject", status: status, path: path, details: details})
}

// federatedUserOf is the user of a federation whom its provider speaks of. Where the
// federation says so, one who is not there is added. Fails: signin.ErrNoAccount.
func (s *Service) federatedUserOf(ctx context.Context, f SAMLFederation, who saml.Identity) (FederatedUser, error) {
	none := func(reason string) error {
		return errors.Join(signin.ErrNoAccount, (&signIns{s}).RefusedFederated(ctx, saml.Federation{ID: f.ID}, reason))
	}
	if nameIDProblem(who.NameID) != "" {
		return FederatedUser{}, none("NAME_ID_INVALID")
	}
	named := func() (FederatedUser, error) {
		found, err := s.store.FederatedUsersNamed(ctx, s.store.db, f, []string{who.NameID})
		if err != nil {
			return FederatedUser{}, err
		}
		if len(found) == 0 {
			return FederatedUser{}, signin.ErrNoAccount
		}
		return found[0], nil
	}
	u, err := named()
	if errors.Is(err, signin.ErrNoAccount) && f.AutoCreate {
		if reason, err := s.addSelf(ctx, f, who.NameID); err != nil {
			return u, err
		} else if reason != "" {
			return u, none(reason)
		}
		u, err = named()
	}
	if errors.Is(err, signin.ErrNoAccount) {
		return u, none("NO_ACCOUNT")
	}
	if err != nil {
		return u, err
	}
	if u.Operation != "" || !u.exists() {
		return u, errFederatedUserBusy
	}
	return u, nil
}

// addSelf adds somebody who signs in to a federation. It says why not, "" when it did.
func (s *Service) addSelf(ctx context.Context, f SAMLFederation, nameID string) (reason string, err error) {
	op, err := s.addFederatedUsers(ctx, f.ID, []string{nameID}, "")
	switch {
	case apierr.ReasonOf(err) == apierr.ReasonQuotaExceeded:
		return apierr.ReasonQuotaExceeded, nil
	case err != nil:
		return "", fmt.Errorf("add user: %w", err)
	case op.Done && op.Error != nil:
		s.log.Warn("a user of a federation could not be added", zap.String("federation", f.ID), zap.String("operation", op.ID))
		return "NOT_ADDED", nil
	default:
		return "", nil
	}
}

// described is a user as the provider describes them now.
func described(u FederatedUser, who saml.Identity) FederatedUser {
	u.Attributes = who.Attributes
	u.GivenName, u.FamilyName, u.Phone = nameOf(who.GivenName), nameOf(who.FamilyName), nameOf(who.Phone)
	if u.Email = ""; email.Problem(who.Email) == "" {
		u.Email = who.Email
	}
	return u
}

// moves are the groups into which and out of which a sign-in brought somebody.
type moves struct{ in, out, leftOut []string }

// tell adds them to the details of a record.
func (m moves) tell(details map[string]any) {
	for name, groups := range map[string][]string{"groups_joined": m.in, "groups_left": m.out, "groups_not_joined": m.leftOut} {
		if len(groups) > 0 {
			details[name] = groups
		}
	}
}

// followGroups makes a user a member of those groups that the groups of the provider are
// (AS-19), and of no other for that reason: memberships that others gave stay. They are
// in force when it returns.
func (s *Service) followGroups(ctx context.Context, f SAMLFederation, u FederatedUser, external []string) (m moves, err error) {
	enabled, err := s.store.GroupMapping(ctx, s.store.db, f.ID)
	if apierr.ReasonOf(err) == ReasonMappingNotFound || err == nil && !enabled {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	wanted, err := s.store.MappedGroups(ctx, s.store.db, f.ID, external)
	if err != nil {
		return m, err
	}
	noted, err := s.store.MappedMemberships(ctx, s.store.db, u.ID)
	if err != nil || len(wanted) == 0 && len(noted) == 0 {
		return m, err
	}
	resp, err := s.subjects.ListMemberships(server.AsUnit(ctx), &accessv1.ListMembershipsRequest{Subject: u.subject(), ContainerType: typeGroup})
	if err != nil {
		return m, fmt.Errorf("read memberships: %w", apierr.FromRPC(err))
	}
	in := func(groupID string) bool {
		return slices.ContainsFunc(resp.GetContainers(), func(c *accessv1.Resource) bool { return c.GetId() == groupID })
	}
	m.in = slices.DeleteFunc(slices.Clone(wanted), in)
	var over, given []mapped // notes that go, and those of this sign-in
	for _, n := range noted {
		if !slices.Contains(wanted, n.GroupID) {
			over, m.out = append(over, n), append(m.out, n.GroupID)
		}
	}
	if len(m.in) == 0 && len(m.out) == 0 {
		return m, nil
	}
	// What the provider gives is noted before it is given, so that it is taken again
	// whatever happens in between, and once more after it: another sign-in, which knew that
	// it is over, may have found nothing to take, and have forgotten the note.
	token := rand.Text()
	for _, groupID := range m.in {
		given = append(given, mapped{groupID, token})
	}
	if err := s.noteMapped(ctx, u.ID, given, nil); err != nil {
		return m, err
	}
	for _, some := range chunked(m.in, m.out) {
		done, err := s.subjects.UpdateMemberships(server.AsUnit(ctx), &accessv1.UpdateMembershipsRequest{
			Subject: u.subject(), OrganizationId: f.OrganizationID, AddGroupIds: some.in, RemoveGroupIds: some.out,
		})
		if err != nil {
			return m, fmt.Errorf("change memberships: %w", apierr.FromRPC(err))
		}
		m.leftOut = append(m.leftOut, done.GetLeftOutGroupIds()...)
	}
	left := func(groupID string) bool { return slices.Contains(m.leftOut, groupID) }
	m.in = slices.DeleteFunc(m.in, left)
	var kept []mapped
	for _, g := range given {
		if left(g.GroupID) {
			over = append(over, g)
		} else {
			kept = append(kept, g)
		}
	}
	return m, s.noteMapped(ctx, u.ID, kept, over)
}

// chunked are changes of memberships in pieces that fit into a request.
func chunked(in, out []string) (all []moves) {
	for some := range slices.Chunk(in, maxMoves) {
		all = append(all, moves{in: some})
	}
	for some := range slices.Chunk(out, maxMoves) {
		all = append(all, moves{out: some})
	}
	return all
}

// maxMoves is how many groups one request joins or leaves.
const maxMoves = 1000

func (s *Service) noteMapped(ctx context.Context, userID string, in, out []mapped) error {
	if len(in) == 0 && len(out) == 0 {
		return nil
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return s.store.ChangeMappedMemberships(ctx, tx, userID, in, out)
	})
}
