package partner

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/email"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Permissions about access to an account.
const (
	permAccess      = "billing.accounts.updateAccessBindings"
	permAssignOwner = "billing.accounts.assignOwner"
	permPortal      = "billing.partners.access"
	permListAccess  = "billing.accounts.listAccessBindings"
)

// roleMember makes an account appear in the list of who is added to it.
const roleMember = "billing.accounts.member"

// partners is our own PartnerService.
type partners struct {
	partnerv1.UnsafePartnerServiceServer // a missing method does not compile
	*Service
}

// maxPartners is how many accounts a sign-in shows.
const maxPartners = 1000

// GetSelf signs the caller in to the portal (PT-2, PT-20). Fails: NOT_A_PARTNER.
func (s *partners) GetSelf(ctx context.Context, req *partnerv1.GetSelfRequest) (*partnerv1.GetSelfResponse, error) {
	if _, err := s.signIn(ctx); err != nil {
		return nil, err
	}
	var accounts []Account
	if accountID := req.GetBillingAccountId(); accountID != "" {
		a, err := s.store.Account(ctx, s.store.db, accountID)
		if err != nil {
			return nil, err
		}
		accounts = []Account{a}
	} else {
		var err error
		if accounts, err = s.openPartners(ctx); err != nil {
			return nil, err
		}
	}
	resp := new(partnerv1.GetSelfResponse)
	for _, a := range accounts {
		programs, err := s.store.Partner(ctx, s.store.db, a.ID)
		if err != nil {
			return nil, err
		}
		if programs != (Programs{}) && a.State == Active {
			resp.Partners = append(resp.Partners, partnerProto(a, programs))
		}
	}
	if len(resp.GetPartners()) == 0 {
		return nil, errNotAPartner
	}
	return resp, nil
}

// openPartners reads the partner accounts that the caller may open.
func (s *Service) openPartners(ctx context.Context) ([]Account, error) {
	var open []Account
	for after := (page.Position{}); len(open) < maxPartners; {
		rows, err := s.store.PartnerAccounts(ctx, after, authz.MaxEach)
		if err != nil || len(rows) == 0 {
			return open, err
		}
		refs := make([]authz.Resource, len(rows))
		for i, a := range rows {
			refs[i] = a.resource()
		}
		may, err := s.decider.AuthorizeEach(ctx, authn.FromContext(ctx), permPortal, refs)
		if err != nil {
			return nil, err
		}
		for i, a := range rows {
			if may[i] {
				open = append(open, a)
			}
		}
		after = rows[len(rows)-1].position()
	}
	return open[:maxPartners], nil
}

func partnerProto(a Account, programs Programs) *partnerv1.Partner {
	p := &partnerv1.Partner{BillingAccountId: a.ID, Name: a.Name}
	if programs.VAR {
		p.Programs = append(p.Programs, partnerv1.Partner_VAR)
	}
	if programs.Referral {
		p.Programs = append(p.Programs, partnerv1.Partner_REFERRAL)
	}
	return p
}

// AddUser gives a person roles on an account (PT-20). The bindings of somebody who is
// known are made with the rights of the caller (AS); those of somebody who is not wait for
// the first sign-in, and are refused as those would be. Fails: BILLING_ACCOUNT_NOT_FOUND,
// OWNER_NOT_ASSIGNABLE (AS-7), GRANT_ABOVE_OWN (AS-3), ROLE_NOT_FOUND, ROLE_DOES_NOT_FIT.
func (s *partners) AddUser(ctx context.Context, req *partnerv1.AddUserRequest) (*operationpb.Operation, error) {
	if problem := email.Problem(req.GetEmail()); problem != "" {
		return nil, apierr.InvalidField("email", "%s", problem)
	}
	if err := s.givable(ctx, req); err != nil {
		return nil, err
	}
	address := email.Fold(req.GetEmail())
	found, err := s.usersByEmail(ctx, address)
	if err != nil {
		return nil, err
	}
	user := &partnerv1.PartnerUser{Email: address, RoleIds: slices.Clone(req.GetRoleIds()), Invited: found[address] == ""}
	if !user.GetInvited() {
		user.SubjectType, user.SubjectId = authn.UserAccount, found[address]
		if err := s.bindUser(ctx, req.GetBillingAccountId(), user.GetSubjectId(), append([]string{roleMember}, req.GetRoleIds()...)); err != nil {
			return nil, err
		}
	} else if err := s.mayGive(ctx, req); err != nil {
		return nil, err
	}
	return s.writeUser(ctx, req.GetBillingAccountId(), userWrite{
		verb: "Add user", event: eventUserAdd, answer: user, email: address,
		do: func(ctx context.Context, tx *sql.Tx, a Account) error {
			if !user.GetInvited() {
				return nil
			}
			return s.keepPending(ctx, tx, a, address, req.GetRoleIds())
		},
	})
}

// givable refuses roles that the caller cannot give on a billing account, before anything
// is kept for somebody who is not there yet (AS-7, AS-9, AS-15, AS-16).
func (s *Service) givable(ctx context.Context, req *partnerv1.AddUserRequest) error {
	for i, role := range req.GetRoleIds() {
		field := fmt.Sprintf("role_ids[%d]", i)
		if _, listed := s.catalog.Role(role); !listed {
			return apierr.InvalidField(field, "there is no role %q", role)
		}
		if !s.catalog.Assignable(role, typeAccount) {
			return apierr.InvalidField(field, "the role %s is not given on a billing account", role)
		}
		if role == roleOwner {
			if err := s.decider.Authorize(ctx, authn.FromContext(ctx), permAssignOwner, accountResource(req.GetBillingAccountId())); err != nil {
				return err
			}
		}
	}
	return nil
}

// mayGive refuses what the rules would refuse if the person were known, so that nobody is
// invited to what the first sign-in does not give (AS-3). The rules are asked again then.
func (s *Service) mayGive(ctx context.Context, req *partnerv1.AddUserRequest) error {
	p := authn.FromContext(ctx)
	_, err := s.tree.CheckGiver(server.AsUnit(ctx), &accessv1.CheckGiverRequest{
		Resource: treeResource(accountResource(req.GetBillingAccountId())), RoleIds: append([]string{roleMember}, req.GetRoleIds()...),
		Giver: &accessv1.Subject{Type: p.Type, Id: p.ID},
	})
	if err != nil {
		return withoutFields(err)
	}
	return nil
}

// bindUser gives a user roles with the rights and the idempotency key of the caller: it
// comes before the write that answers the call, and a repetition has no second effect.
func (s *Service) bindUser(ctx context.Context, accountID, userID string, roles []string) error {
	req := &accessv1.UpdateAccessBindingsRequest{Resource: treeResource(accountResource(accountID))}
	for _, role := range slices.Compact(slices.Sorted(slices.Values(roles))) {
		req.AccessBindingDeltas = append(req.AccessBindingDeltas, &accessv1.AccessBindingDelta{
			Action: accesspb.AccessBindingAction_ADD,
			AccessBinding: &accessv1.AccessBinding{
				RoleId: role, Subject: &accessv1.Subject{Type: authn.UserAccount, Id: userID},
			},
		})
	}
	if _, err := s.bindings.UpdateAccessBindings(idempotency.PassOn(ctx), req); err != nil {
		return withoutFields(err)
	}
	return nil
}

// withoutFields is the refusal of an inner call, whose fields are not those of the
// caller's own request.
func withoutFields(err error) error {
	err = apierr.FromRPC(err)
	if e, ok := apierr.As(err); ok && len(e.Fields) > 0 {
		bare := *e
		bare.Fields = nil
		return &bare
	}
	return err
}

// keepPending keeps roles for the first sign-in of an address, and mails it.
func (s *Service) keepPending(ctx context.Context, tx *sql.Tx, a Account, address string, roles []string) error {
	now := sqldb.Micros(s.now())
	for _, role := range append([]string{roleMember}, roles...) {
		if err := s.store.InsertPending(ctx, tx, PendingRole{
			AccountID: a.ID, Email: address, RoleID: role, GivenBy: authn.FromContext(ctx).ID, GivenAt: now,
		}); err != nil {
			return err
		}
	}
	_, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobMailUser, Payload: userMail{a.ID, address, now}, NotBefore: time.Now()})
	return err
}

// userWrite is one write about the users of an account.
type userWrite struct {
	verb, event, email string
	answer             proto.Message
	do                 func(context.Context, *sql.Tx, Account) error
}

func (s *Service) writeUser(ctx context.Context, accountID string, w userWrite) (*operationpb.Operation, error) {
	return s.writeNow(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		a, err := s.lockLiving(ctx, tx, accountID)
		if err != nil {
			return op, err
		}
		if err := w.do(ctx, tx, a); err != nil {
			return op, err
		}
		if op, err = s.begun(ctx, tx, a.ID, operation.New{
			Description: w.verb, ViewPermission: permListAccess, Metadata: &partnerv1.UserMetadata{BillingAccountId: a.ID}, Response: w.answer,
		}); err != nil {
			return op, err
		}
		return op, s.record(ctx, tx, a, event{
			name: w.event, status: audit.Done, permission: permAccess, details: map[string]any{"operation_id": op.ID},
		})
	})
}

// RemoveUser takes all roles on an account from somebody, with the rights of the caller,
// or an invitation back. Fails: BILLING_ACCOUNT_NOT_FOUND, USER_NOT_FOUND,
// OWNER_NOT_ASSIGNABLE (AS-7), LAST_OWNER (OW-4).
func (s *partners) RemoveUser(ctx context.Context, req *partnerv1.RemoveUserRequest) (*operationpb.Operation, error) {
	subjectID, address := req.GetSubjectId(), ""
	if req.GetEmail() != "" {
		if problem := email.Problem(req.GetEmail()); problem != "" {
			return nil, apierr.InvalidField("email", "%s", problem)
		}
		address = email.Fold(req.GetEmail())
		found, err := s.usersByEmail(ctx, address)
		if err != nil {
			return nil, err
		}
		subjectID = found[address]
	}
	removed, err := s.unbindUser(ctx, req.GetBillingAccountId(), subjectID)
	if err != nil {
		return nil, err
	}
	return s.writeUser(ctx, req.GetBillingAccountId(), userWrite{
		verb: "Remove user", event: eventUserRemove, answer: new(emptypb.Empty),
		do: func(ctx context.Context, tx *sql.Tx, a Account) error {
			n, err := s.store.DeletePending(ctx, tx, a.ID, address)
			if err == nil && n == 0 && !removed {
				err = errUserNotFound
			}
			return err
		},
	})
}

// unbindUser takes all roles on an account itself from a subject and reports whether
// there were any.
func (s *Service) unbindUser(ctx context.Context, accountID, subjectID string) (bool, error) {
	if subjectID == "" {
		return false, nil
	}
	all, err := s.bindingsOf(ctx, accountID)
	if err != nil {
		return false, err
	}
	req := &accessv1.UpdateAccessBindingsRequest{Resource: treeResource(accountResource(accountID))}
	for _, b := range all {
		if b.GetSubject().GetId() == subjectID {
			req.AccessBindingDeltas = append(req.AccessBindingDeltas, &accessv1.AccessBindingDelta{
				Action: accesspb.AccessBindingAction_REMOVE, AccessBinding: &accessv1.AccessBinding{RoleId: b.GetRoleId(), Subject: b.GetSubject()},
			})
		}
	}
	if len(req.GetAccessBindingDeltas()) == 0 {
		return false, nil
	}
	if _, err := s.bindings.UpdateAccessBindings(idempotency.PassOn(ctx), req); err != nil {
		return false, withoutFields(err)
	}
	return true, nil
}

// bindingsOf reads all bindings on an account itself, with the rights of the caller.
func (s *Service) bindingsOf(ctx context.Context, accountID string) ([]*accessv1.AccessBinding, error) {
	var all []*accessv1.AccessBinding
	for token := ""; ; {
		resp, err := s.bindings.ListAccessBindings(ctx, &accessv1.ListAccessBindingsRequest{
			Resource: treeResource(accountResource(accountID)), PageSize: page.MaxSize, PageToken: token,
		})
		if err != nil {
			return nil, apierr.FromRPC(err)
		}
		all = append(all, resp.GetAccessBindings()...)
		if token = resp.GetNextPageToken(); token == "" {
			return all, nil
		}
	}
}

// ListUsers lists who has roles on an account itself, ordered by id, then who is invited,
// ordered by address. Addresses are shown to who may see personal data (PT-23).
func (s *partners) ListUsers(ctx context.Context, req *partnerv1.ListUsersRequest) (*partnerv1.ListUsersResponse, error) {
	scope := []string{"users", req.GetBillingAccountId()}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	users, err := s.usersOn(ctx, req.GetBillingAccountId())
	if err != nil {
		return nil, err
	}
	from := int(after.Time) // how many were shown
	if from > len(users) {
		from = len(users)
	}
	size := page.Size(req.GetPageSize())
	shown, resp := users[from:], new(partnerv1.ListUsersResponse)
	fit := page.Fit(min(len(shown), size), func(i int) int { return proto.Size(shown[i]) + 2*maxName })
	if fit < len(shown) {
		if resp.NextPageToken, err = s.pages.Seal(page.Position{Time: int64(from + fit)}, scope...); err != nil {
			return nil, err
		}
	}
	resp.Users, err = s.described(ctx, req.GetBillingAccountId(), shown[:fit])
	return resp, err
}

// usersOn gathers the users of an account, without names.
func (s *Service) usersOn(ctx context.Context, accountID string) ([]*partnerv1.PartnerUser, error) {
	bindings, err := s.bindingsOf(ctx, accountID)
	if err != nil {
		return nil, err
	}
	var users []*partnerv1.PartnerUser
	bySubject := make(map[string]*partnerv1.PartnerUser)
	for _, b := range bindings {
		key := b.GetSubject().GetType() + ":" + b.GetSubject().GetId()
		if bySubject[key] == nil {
			bySubject[key] = &partnerv1.PartnerUser{SubjectType: b.GetSubject().GetType(), SubjectId: b.GetSubject().GetId()}
			users = append(users, bySubject[key])
		}
		bySubject[key].RoleIds = append(bySubject[key].RoleIds, b.GetRoleId())
	}
	slices.SortFunc(users, func(a, b *partnerv1.PartnerUser) int {
		return cmp.Or(cmp.Compare(a.GetSubjectId(), b.GetSubjectId()), cmp.Compare(a.GetSubjectType(), b.GetSubjectType()))
	})
	pending, err := s.store.PendingOn(ctx, s.store.db, accountID)
	if err != nil {
		return nil, err
	}
	for _, p := range pending {
		if last := len(users) - 1; last < 0 || users[last].GetEmail() != p.Email {
			users = append(users, &partnerv1.PartnerUser{Email: p.Email, Invited: true})
		}
		users[len(users)-1].RoleIds = append(users[len(users)-1].RoleIds, p.RoleID)
	}
	return users, nil
}

// described adds what subjects are called, and their addresses where the caller may see
// them.
func (s *Service) described(ctx context.Context, accountID string, users []*partnerv1.PartnerUser) ([]*partnerv1.PartnerUser, error) {
	personal, err := s.seesPersonalData(ctx, accountID)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, u := range users {
		if u.GetSubjectId() != "" {
			ids = append(ids, u.GetSubjectId())
		}
	}
	resp, err := s.directory.BatchGetSubjects(server.AsUnit(ctx), &identityv1.BatchGetSubjectsRequest{Ids: ids})
	if err != nil {
		return nil, fmt.Errorf("look users up: %w", apierr.FromRPC(err))
	}
	known := make(map[string]*identityv1.SubjectEntry)
	for _, e := range resp.GetSubjects() {
		known[e.GetId()] = e
	}
	for _, u := range users {
		if e := known[u.GetSubjectId()]; e != nil {
			u.Name, u.Email = e.GetName(), e.GetEmail()
		}
		if !personal {
			u.Email = ""
		}
	}
	return users, nil
}
