package partner

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/thread"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Permissions of both sides of the door: on the subaccount, and on the organization.
const (
	permAskAccess    = permCustomerAccess
	permDecideAccess = "organization-manager.organizations.updateAccessBindings"
	permSeeAccess    = "organization-manager.organizations.listAccessBindings"
)

// accessPending is for how long a request for access waits for the customer.
const accessPending = 7 * 24 * time.Hour

// accessGrid is SC-21 [ours]: who does what with the access of somebody of a partner to a
// customer's organization. The requester's side is the partner, the decider the customer.
var accessGrid = request.Grid{
	request.Requester: {request.Cancel: {request.Pending}, request.Revoke: {request.Approved}},
	request.Decider:   {request.Approve: {request.Pending}, request.Reject: {request.Pending}, request.Revoke: {request.Approved}},
}

// accessEvents are the audit events of what is done with an access.
var accessEvents = map[request.Action]string{
	request.Approve: "CustomerAccessApprove", request.Reject: "CustomerAccessReject", request.Cancel: "CustomerAccessCancel",
	request.Revoke: "CustomerAccessRevoke", request.Expire: "CustomerAccessExpire",
}

const eventAccessRequest = "CustomerAccessRequest"

// customerAccesses is our own CustomerAccessService (SC-6, SC-21).
type customerAccesses struct {
	partnerv1.UnsafeCustomerAccessServiceServer // a missing method does not compile
	*Service
}

// entry is the body of a request for access.
type entry struct {
	Subaccount string `json:"subaccount"`
	Role       string `json:"role"`
}

func entryOf(r request.Request) (e entry) {
	_ = json.Unmarshal(r.Body, &e) // it was marshalled from one
	return e
}

// accessMessage is the message of an access.
func accessMessage(r request.Request) *partnerv1.CustomerAccess {
	e := entryOf(r)
	a := &partnerv1.CustomerAccess{
		Id: r.ID, SubaccountId: e.Subaccount, OrganizationId: r.Thing.ID, UserId: r.Requester.ID, RoleId: e.Role, Reason: r.Reason,
		State:     partnerv1.CustomerAccess_State(partnerv1.CustomerAccess_State_value[string(r.State)]),
		CreatedAt: timestamppb.New(r.CreatedAt), Duration: durationpb.New(r.Lasts), DecidedBy: r.DecidedBy.ID, EndedBy: r.EndedBy, Settled: r.Settled,
	}
	if !r.EndsAt.IsZero() {
		a.EndsAt = timestamppb.New(r.EndsAt)
	}
	return a
}

// accessedOrganization leads from an access to the organization, accessAccount to the
// subaccount. Fails: REQUEST_NOT_FOUND.
func (s *Service) accessedOrganization(ctx context.Context, accessID string) (authz.Resource, error) {
	r, err := s.requests.Store.Get(ctx, s.store.db, accessID)
	return authz.Resource{Type: r.Thing.Type, ID: r.Thing.ID}, err
}

func (s *Service) accessAccount(ctx context.Context, accessID string) (authz.Resource, error) {
	r, err := s.requests.Store.Get(ctx, s.store.db, accessID)
	return accountResource(entryOf(r).Subaccount), err
}

// RequestCustomerAccess asks for a role in the organization of a customer (SC-6). Fails:
// SUBACCOUNT_NOT_FOUND, SUBACCOUNT_STATE, REQUESTER_NOT_ELIGIBLE, REQUEST_EXISTS.
func (s *customerAccesses) RequestCustomerAccess(ctx context.Context, req *partnerv1.RequestCustomerAccessRequest) (*operationpb.Operation, error) {
	p := authn.FromContext(ctx)
	if p.Type != authn.UserAccount {
		return nil, errNotEligible
	}
	if err := thread.Check("reason", req.GetReason()); err != nil {
		return nil, err
	}
	role, listed := s.catalog.Role(req.GetRoleId())
	switch {
	case !listed:
		return nil, apierr.InvalidField("role_id", "there is no role %q", req.GetRoleId())
	case !s.catalog.Assignable(role.ID, typeOrganization) || role.AssignPermission != "" || role.LastHolderProtected:
		return nil, apierr.InvalidField("role_id", "the role %s is not given to a partner on an organization", role.ID)
	}
	if err := s.endTakenOf(ctx, req.GetSubaccountId(), p); err != nil {
		return nil, err
	}
	body, err := json.Marshal(entry{Subaccount: req.GetSubaccountId(), Role: role.ID})
	if err != nil {
		return nil, fmt.Errorf("encode access: %w", err)
	}
	return s.writeNow(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		c, err := s.store.LockCustomer(ctx, tx, req.GetSubaccountId())
		if err != nil {
			return op, err
		}
		if c.Organization == "" || c.State == AcceptanceRequired || c.State == Inactive {
			return op, errSubaccountState(c, "there is no organization to enter")
		}
		r, err := s.requests.Create(ctx, tx, request.Request{
			ID: id.New(id.CustomerAccess), Thing: request.Ref{Type: typeOrganization, ID: c.Organization}, Reason: req.GetReason(), Body: body,
			Requester: request.Ref{Type: p.Type, ID: p.ID}, Lasts: req.GetDuration().AsDuration(), PendingUntil: s.now().Add(accessPending),
		})
		if err != nil {
			return op, err
		}
		if op, err = s.accessOperation(ctx, tx, r, "Request customer access", accessMessage(r)); err != nil {
			return op, err
		}
		if _, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobAccessMail, Payload: accessMail{r.ID}, NotBefore: atOnce}); err != nil {
			return op, err
		}
		return op, s.recordAccess(ctx, tx, r, eventAccessRequest, op.ID, permAskAccess)
	})
}

// accessOperation makes an operation of the caller on an access, which the customer may
// see, too.
func (s *Service) accessOperation(ctx context.Context, tx *sql.Tx, r request.Request, description string, response proto.Message) (operation.Operation, error) {
	return s.operations.Insert(ctx, tx, operation.New{
		Resource: accountResource(entryOf(r).Subaccount), ViewPermission: permSeeAccess, ViewOn: authz.Resource{Type: r.Thing.Type, ID: r.Thing.ID},
		Description: description, CreatedBy: authn.FromContext(ctx).ID, Response: response,
		Metadata: &partnerv1.CustomerAccessMetadata{AccessId: r.ID, OrganizationId: r.Thing.ID},
	})
}

// recordAccess writes the record of what was done with an access to the trail of the
// organization, so that its owner reads it there (SC-22).
func (s *Service) recordAccess(ctx context.Context, tx *sql.Tx, r request.Request, name, operationID, permission string) error {
	e := entryOf(r)
	details := map[string]any{"access_id": r.ID, "user_id": r.Requester.ID, "role_id": e.Role, "state": string(r.State)}
	if operationID != "" {
		details["operation_id"] = operationID
	}
	ev := event{name: name, status: audit.Done, permission: permission, details: details, on: accountResource(e.Subaccount)}
	if permission == permDecideAccess {
		ev.on = authz.Resource{Type: r.Thing.Type, ID: r.Thing.ID}
	}
	return s.recordOn(ctx, tx, []audit.Resource{{Type: r.Thing.Type, ID: r.Thing.ID}, {Type: typeAccount, ID: e.Subaccount}}, ev)
}

// ApproveCustomerAccess lets somebody in (SC-21). Nobody of the partner decides, whatever
// role it has in the organization (PT-18). Fails: REQUEST_STATE, OWN_REQUEST,
// PARTNERS_SIDE.
func (s *customerAccesses) ApproveCustomerAccess(ctx context.Context, req *partnerv1.ApproveCustomerAccessRequest) (*operationpb.Operation, error) {
	r, err := s.requests.Store.Get(ctx, s.store.db, req.GetAccessId())
	if err != nil {
		return nil, err
	}
	if r.Requester.ID != authn.FromContext(ctx).ID { // who asked is told that it is its own
		if err := s.notOfThePartner(ctx, entryOf(r).Subaccount); err != nil {
			return nil, err
		}
	}
	return s.act(ctx, req.GetAccessId(), request.Decider, request.Approve, "Approve customer access", permDecideAccess)
}

// notOfThePartner refuses callers who open the portal of the partner. Fails: PARTNERS_SIDE.
func (s *Service) notOfThePartner(ctx context.Context, subaccountID string) error {
	c, err := s.store.Customer(ctx, s.store.db, subaccountID)
	if err != nil {
		return err
	}
	may, err := s.decider.AuthorizeEach(ctx, authn.FromContext(ctx), permPortal, []authz.Resource{accountResource(c.PartnerID)})
	if err == nil && may[0] {
		err = errPartnersSide
	}
	return err
}

// RejectCustomerAccess keeps somebody out (SC-21). Fails: REQUEST_STATE, OWN_REQUEST.
func (s *customerAccesses) RejectCustomerAccess(ctx context.Context, req *partnerv1.RejectCustomerAccessRequest) (*operationpb.Operation, error) {
	return s.act(ctx, req.GetAccessId(), request.Decider, request.Reject, "Reject customer access", permDecideAccess)
}

// RevokeCustomerAccess throws somebody out, at once (SC-21). Fails: REQUEST_STATE.
func (s *customerAccesses) RevokeCustomerAccess(ctx context.Context, req *partnerv1.RevokeCustomerAccessRequest) (*operationpb.Operation, error) {
	return s.act(ctx, req.GetAccessId(), request.Decider, request.Revoke, "Revoke customer access", permDecideAccess)
}

// CancelCustomerAccess takes a request back, or gives an access back. Fails:
// REQUEST_STATE.
func (s *customerAccesses) CancelCustomerAccess(ctx context.Context, req *partnerv1.CancelCustomerAccessRequest) (*operationpb.Operation, error) {
	r, err := s.requests.Store.Get(ctx, s.store.db, req.GetAccessId())
	if err != nil {
		return nil, err
	}
	action := request.Cancel
	if r.Granted() {
		action = request.Revoke
	}
	return s.act(ctx, r.ID, request.Requester, action, "Cancel customer access", permAskAccess)
}

// act takes an action of the caller on an access. The operation is done when the outcome
// is in force.
func (s *Service) act(ctx context.Context, accessID string, side request.Side, action request.Action, description, permission string) (*operationpb.Operation, error) {
	return s.writeMaybe(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, t *jobs.Ticket, err error) {
		p := authn.FromContext(ctx)
		r, changed, err := s.requests.Act(ctx, tx, accessID, request.Act{Action: action, Side: side, By: request.Ref{Type: p.Type, ID: p.ID}})
		if err != nil {
			return op, nil, err
		}
		var response proto.Message // while there is something to wait for
		if r.Settled {
			response = accessMessage(r)
		}
		if op, err = s.accessOperation(ctx, tx, r, description, response); err != nil {
			return op, nil, err
		}
		if changed {
			if err := s.recordAccess(ctx, tx, r, accessEvents[action], op.ID, permission); err != nil {
				return op, nil, err
			}
		}
		if r.Settled {
			return op, nil, nil
		}
		ticket, err := s.requests.Settle(ctx, tx, r.ID, op.ID)
		return op, &ticket, err
	})
}

// ListCustomerAccesses lists the accesses to a customer for the partner, newest first.
func (s *customerAccesses) ListCustomerAccesses(ctx context.Context, req *partnerv1.ListCustomerAccessesRequest) (*partnerv1.ListCustomerAccessesResponse, error) {
	c, err := s.store.Customer(ctx, s.store.db, req.GetSubaccountId())
	if err != nil || c.Organization == "" {
		return new(partnerv1.ListCustomerAccessesResponse), err
	}
	all, next, err := s.accesses(ctx, c.Organization, req)
	return &partnerv1.ListCustomerAccessesResponse{Accesses: all, NextPageToken: next}, err
}

// ListOrganizationAccesses lists them for the customer (SC-21).
func (s *customerAccesses) ListOrganizationAccesses(ctx context.Context, req *partnerv1.ListOrganizationAccessesRequest) (*partnerv1.ListOrganizationAccessesResponse, error) {
	all, next, err := s.accesses(ctx, req.GetOrganizationId(), req)
	return &partnerv1.ListOrganizationAccessesResponse{Accesses: all, NextPageToken: next}, err
}

// accesses reads one page of the accesses to an organization.
func (s *Service) accesses(ctx context.Context, organization string, req access.PageRequest) ([]*partnerv1.CustomerAccess, string, error) {
	scope := []string{"customer accesses", organization}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(req.GetPageSize())
	query := request.Query{Thing: request.Ref{Type: typeOrganization, ID: organization}}
	rows, err := s.requests.Store.List(ctx, s.store.db, query, after, size+1)
	if err != nil {
		return nil, "", err
	}
	fit, next, err := onPage(s, rows, size, request.Request.Position, func(r request.Request) int { return proto.Size(accessMessage(r)) }, scope...)
	if err != nil {
		return nil, "", err
	}
	all := make([]*partnerv1.CustomerAccess, len(fit))
	for i, r := range fit {
		all[i] = accessMessage(r.At(s.now()))
	}
	return all, next, s.showTaken(ctx, organization, all)
}

// letIn is what decisions on accesses mean: a role on the organization by a grant with the
// id of the access, which ends when the access does.
type letIn struct{ *Service }

func (l *letIn) grant(r request.Request) (on *accessv1.Resource, b *accessv1.AccessBinding) {
	b = &accessv1.AccessBinding{RoleId: entryOf(r).Role, Subject: &accessv1.Subject{Type: r.Requester.Type, Id: r.Requester.ID}}
	if !r.EndsAt.IsZero() {
		b.ExpiresAt = timestamppb.New(r.EndsAt)
	}
	return &accessv1.Resource{Type: r.Thing.Type, Id: r.Thing.ID}, b
}

// Grant lets somebody in.
func (l *letIn) Grant(ctx context.Context, r request.Request) error {
	on, b := l.grant(r)
	_, err := l.grants.PutGrant(server.AsUnit(ctx), &accessv1.PutGrantRequest{GrantId: r.ID, Resource: on, AccessBinding: b})
	return apierr.FromRPC(err)
}

// Withdraw throws somebody out, for good.
func (l *letIn) Withdraw(ctx context.Context, r request.Request) error {
	on, b := l.grant(r)
	_, err := l.grants.EndGrant(server.AsUnit(ctx), &accessv1.EndGrantRequest{GrantId: r.ID, Resource: on, AccessBinding: b})
	return apierr.FromRPC(err)
}

// Settled ends the operation of an action. What could not be granted was revoked by the
// engine, which is recorded.
func (l *letIn) Settled(ctx context.Context, tx *sql.Tx, _ *sqldb.Batch, r request.Request, operationID string, cause error) error {
	if cause != nil {
		if err := l.recordAccess(ctx, tx, r, accessEvents[request.Revoke], operationID, ""); err != nil {
			return err
		}
	}
	switch {
	case operationID == "":
		return nil
	case cause != nil:
		return l.operations.Fail(ctx, tx, operationID, nil, cause)
	default:
		return l.operations.Finish(ctx, tx, operationID, nil, accessMessage(r))
	}
}
