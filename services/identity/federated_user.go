package identity

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/text"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
)

// maxNameID bounds a name id, in characters.
const maxNameID = 256

// tellAtOnce is how many subjects are told to the checker at a time.
const tellAtOnce = 16

// jobAddFederatedUsers makes new users of a federation known to the checker.
const jobAddFederatedUsers = "add-federated-users"

// federatedUsersJob is the payload of the jobs on users of a federation.
type federatedUsersJob struct {
	Operation  string   `json:"operation"`
	Federation string   `json:"federation"`
	Users      []string `json:"users"`             // that change
	Answer     []string `json:"answer,omitempty"`  // ids in the response
	Missing    []string `json:"missing,omitempty"` // ids that name nobody
}

// subjectTypeOf is the type of a user as a subject, by its id.
func subjectTypeOf(userID string) string {
	if id.Prefix(userID) == id.FederatedUser {
		return authn.FederatedUser
	}
	return authn.UserAccount
}

// subject names the user for the checker.
func (u User) subject() *accessv1.Subject {
	return &accessv1.Subject{Type: subjectTypeOf(u.ID), Id: u.ID}
}

// nameIDProblem says what is wrong with a name id, "" when nothing is.
func nameIDProblem(nameID string) string {
	switch {
	case sqldb.CheckText(nameID) != nil:
		return "must be valid UTF-8 without NUL"
	case nameID == "" || utf8.RuneCountInString(nameID) > maxNameID:
		return fmt.Sprintf("must have 1 to %d characters", maxNameID)
	case text.Problem(nameID) != "":
		return text.Problem(nameID)
	case strings.TrimSpace(nameID) != nameID || strings.ContainsAny(nameID, "\n\t"):
		return "must be one line, without space at its ends"
	case strings.ContainsFunc(nameID, foldsToASCII):
		return "must not have a letter whose small form is one of ASCII"
	}
	return ""
}

// foldsToASCII reports whether a letter that is not of ASCII is one when names are compared
// in any case: U+0130 is i then, and U+212A is k, so that one person could be another.
func foldsToASCII(r rune) bool { return r > unicode.MaxASCII && unicode.ToLower(r) <= unicode.MaxASCII }

// AddUserAccounts adds users by their name ids; those that are there stay as they
// are. Fails: FEDERATION_NOT_FOUND, FEDERATION_NOT_ACTIVE, BEING_DELETED,
// QUOTA_EXCEEDED (of the federation or the organization), after which nobody was
// added.
func (s *samlFederations) AddUserAccounts(ctx context.Context, req *samlv1.AddFederatedUserAccountsRequest) (*operationpb.Operation, error) {
	var problems []apierr.Field
	for i, nameID := range req.GetNameIds() {
		if problem := nameIDProblem(nameID); problem != "" {
			problems = append(problems, apierr.Field{Name: fmt.Sprintf("name_ids[%d]", i), Message: problem})
		}
	}
	if len(problems) > 0 {
		return nil, apierr.Invalid(problems...)
	}
	op, err := s.addFederatedUsers(ctx, req.GetFederationId(), req.GetNameIds(), permCreateFederatedUsers)
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// addFederatedUsers adds users of a federation, and returns the operation as it
// stands: done, unless a peer is away. permission is what was checked for it, "" when
// nothing was.
func (s *Service) addFederatedUsers(ctx context.Context, federationID string, nameIDs []string, permission string) (operation.Operation, error) {
	on := quota.Resource{Type: typeSAMLFederation, ID: federationID}
	limit, err := s.limits.Limit(ctx, catalog.QuotaFederatedUsers, on)
	if err != nil {
		return operation.Operation{}, err
	}
	var ticket jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		f, err := s.store.LockSAMLFederation(ctx, tx, federationID)
		if err == nil {
			err = f.active()
		}
		if err != nil {
			return op, err
		}
		answer, fresh, err := s.sortNames(ctx, tx, f, nameIDs)
		if err != nil {
			return op, err
		}
		n, err := s.store.CountFederatedUsers(ctx, tx, f.ID)
		if err != nil {
			return op, err
		}
		if err := quota.Exceeded(catalog.QuotaFederatedUsers, on, limit, n, int64(len(fresh))); err != nil {
			return op, err
		}
		op, err = s.insertFederationOperation(ctx, tx, f, "Add user accounts", &samlv1.AddFederatedUserAccountsMetadata{FederationId: f.ID}, nil)
		if err != nil {
			return op, err
		}
		job := federatedUsersJob{Operation: op.ID, Federation: f.ID, Answer: answer}
		for _, u := range fresh {
			u.Operation = op.ID
			if err := s.store.InsertFederatedUser(ctx, tx, f, u); err != nil {
				return op, err
			}
			job.Users = append(job.Users, u.ID)
		}
		if err := s.recordFederation(ctx, tx, f, federationEvent{
			name: "saml.AddFederatedUserAccounts", status: audit.Started, permission: permission, operation: op.ID,
			details: map[string]any{"name_ids": nameIDs},
		}); err != nil {
			return op, err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobAddFederatedUsers, Payload: job})
		return op, err
	})
	if err != nil || again {
		return op, err
	}
	if err := s.jobs.Do(ctx, ticket); err != nil {
		return op, nil //nolint:nilerr // logged there; a worker goes on, and the operation tells
	}
	return s.operations.Get(ctx, op.ID)
}

// sortNames says who has the name ids: ids in the order of the names, each once, and
// those of them that are new.
func (s *Service) sortNames(ctx context.Context, tx *sql.Tx, f SAMLFederation, nameIDs []string) (answer []string, fresh []FederatedUser, err error) {
	known, err := s.store.FederatedUsersNamed(ctx, tx, f, nameIDs)
	if err != nil {
		return nil, nil, err
	}
	byKey := make(map[string]string, len(nameIDs))
	for _, u := range known {
		if u.Operation != "" || !u.exists() {
			return nil, nil, errFederatedUserBusy
		}
		byKey[f.key(u.Login)] = u.ID
	}
	listed := make(map[string]bool, len(nameIDs))
	for _, nameID := range nameIDs {
		key := f.key(nameID)
		if listed[key] {
			continue
		}
		listed[key] = true
		if byKey[key] == "" {
			u := FederatedUser{User: User{ID: id.New(id.FederatedUser), Login: nameID, State: Creating, CreatedAt: s.now()}}
			fresh, byKey[key] = append(fresh, u), u.ID
		}
		answer = append(answer, byKey[key])
	}
	return answer, fresh, nil
}

// registerFederatedUsers is the job that makes new users subjects, members of the
// organization and of the federation (SU-7), and visible. A refusal takes them back.
func (s *Service) registerFederatedUsers(ctx context.Context, job federatedUsersJob) error {
	f, err := s.store.SAMLFederation(ctx, s.store.db, job.Federation)
	if err != nil && apierr.CodeOf(err) != codes.NotFound {
		return err
	}
	refusal := err
	if refusal == nil {
		if refusal = s.joinFederation(ctx, f, job.Users); refusal != nil && !final(refusal) {
			return refusal
		}
	}
	if refusal != nil {
		if err := s.tellStates(ctx, job.Users, accessv1.SetSubjectRequest_DELETED); err != nil {
			return err
		}
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		op, err := s.operations.GetIn(ctx, tx, job.Operation)
		if err != nil || op.Done {
			return err
		}
		e := federationEvent{name: "saml.AddFederatedUserAccounts", status: audit.Done, operation: job.Operation, below: usersBelow(job.Users)}
		if refusal != nil {
			for _, userID := range job.Users {
				if err := s.dropUser(ctx, tx, userID); err != nil {
					return err
				}
			}
			e.status, e.details = audit.Failed, map[string]any{"reason": apierr.ReasonOf(refusal)}
			if err := s.recordFederation(ctx, tx, f, e); err != nil {
				return err
			}
			return s.operations.Fail(ctx, tx, job.Operation, nil, refusal)
		}
		for _, userID := range job.Users {
			if err := s.store.Activate(ctx, tx, userID); err != nil {
				return err
			}
			if err := s.store.MarkFederatedUser(ctx, tx, userID, ""); err != nil {
				return err
			}
		}
		if err := s.recordFederation(ctx, tx, f, e); err != nil {
			return err
		}
		resp := new(samlv1.AddFederatedUserAccountsResponse)
		users, err := s.store.FederatedUsersWith(ctx, tx, f.ID, job.Answer)
		byID := make(map[string]FederatedUser, len(users))
		for _, u := range users {
			byID[u.ID] = u
		}
		for _, userID := range job.Answer {
			if u, ok := byID[userID]; ok {
				resp.UserAccounts = append(resp.UserAccounts, u.proto(false))
			}
		}
		if err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, resp)
	})
}

// usersBelow are users of a federation in an audit record.
func usersBelow(ids []string) []audit.Resource {
	all := make([]audit.Resource, len(ids))
	for i, userID := range ids {
		all[i] = audit.Resource{Type: "iam." + authn.FederatedUser, ID: userID}
	}
	return all
}

// joinFederation makes users subjects and members.
func (s *Service) joinFederation(ctx context.Context, f SAMLFederation, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	if err := s.tellStates(ctx, ids, accessv1.SetSubjectRequest_ACTIVE); err != nil {
		return err
	}
	for _, container := range []*accessv1.Resource{{Type: typeOrganization, Id: f.OrganizationID}, {Type: typeSAMLFederation, Id: f.ID}} {
		_, err := s.subjects.UpdateMembers(server.AsUnit(ctx), &accessv1.UpdateMembersRequest{Container: container, Add: federatedSubjects(ids)})
		if err != nil {
			return fmt.Errorf("add members: %w", apierr.FromRPC(err))
		}
	}
	return nil
}

func federatedSubjects(ids []string) []*accessv1.Subject {
	all := make([]*accessv1.Subject, len(ids))
	for i, userID := range ids {
		all[i] = &accessv1.Subject{Type: authn.FederatedUser, Id: userID}
	}
	return all
}

// tellStates tells the checker where users stand.
func (s *Service) tellStates(ctx context.Context, ids []string, state accessv1.SetSubjectRequest_State) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(tellAtOnce)
	for _, userID := range ids {
		g.Go(func() error { return s.tellState(ctx, userID, state) })
	}
	return g.Wait()
}

// ListUserAccounts reads one page of the users of a federation, oldest first. Fails:
// FEDERATION_NOT_FOUND.
func (s *samlFederations) ListUserAccounts(ctx context.Context, req *samlv1.ListFederatedUserAccountsRequest) (*samlv1.ListFederatedUserAccountsResponse, error) {
	match, err := filter.Parse(req.GetFilter(), "name_id")
	if err != nil {
		return nil, err
	}
	f, err := s.store.SAMLFederation(ctx, s.store.db, req.GetFederationId())
	if err != nil {
		return nil, err
	}
	scope := []string{"federated users", f.ID, match.Field, match.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	shown, err := s.maySeeAttributes(ctx, f.OrganizationID)
	if err != nil {
		return nil, err
	}
	resp := new(samlv1.ListFederatedUserAccountsResponse)
	if match.Field != "" {
		users, err := s.store.FederatedUsersNamed(ctx, s.store.db, f, []string{match.Value})
		for _, u := range users {
			if u.exists() && after == (page.Position{}) {
				resp.UserAccounts = append(resp.UserAccounts, u.proto(shown))
			}
		}
		return resp, err
	}
	size := page.Size(req.GetPageSize())
	users, err := s.store.FederatedUsersOf(ctx, f.ID, after, size+1)
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		resp.UserAccounts = append(resp.UserAccounts, u.proto(shown))
	}
	if fit := page.Fit(min(len(users), size), func(i int) int { return proto.Size(resp.GetUserAccounts()[i]) }); fit < len(users) {
		resp.UserAccounts = resp.GetUserAccounts()[:fit]
		resp.NextPageToken, err = s.pages.Seal(users[fit-1].position(), scope...)
	}
	return resp, err
}

// maySeeAttributes reports whether the caller may see what identity providers say
// about the people of an organization.
func (s *Service) maySeeAttributes(ctx context.Context, organizationID string) (bool, error) {
	err := s.decider.Authorize(ctx, authn.FromContext(ctx), permAttributes, authz.Resource{Type: typeOrganization, ID: organizationID})
	if err != nil && apierr.CodeOf(err) != codes.PermissionDenied {
		return false, err
	}
	return err == nil, nil
}

// proto is the public message of a user of a federation.
func (u FederatedUser) proto(attributes bool) *orgv1.UserAccount {
	account := &orgv1.SamlUserAccount{FederationId: u.FederationID, NameId: u.Login}
	if attributes && len(u.Attributes) > 0 {
		account.Attributes = make(map[string]*orgv1.SamlUserAccount_Attribute, len(u.Attributes))
		for name, values := range u.Attributes {
			account.Attributes[name] = &orgv1.SamlUserAccount_Attribute{Value: values}
		}
	}
	return &orgv1.UserAccount{Id: u.ID, UserAccount: &orgv1.UserAccount_SamlUserAccount{SamlUserAccount: account}}
}
