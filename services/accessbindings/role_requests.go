package accessbindings

import (
	"context"
	"database/sql"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/thread"
	"github.com/bindery-iam/bindery/pkg/writes"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// typeRoleRequest is the type of role requests as resources of operations and targets
// of notices; they stand in no tree.
const typeRoleRequest = "access.roleRequest"

// RoleRequests is bindery.access.v1.RoleRequestService: package request, whose thing is
// a resource, whose aspect is a role, and whose scope is the organization. What was
// approved is a grant with the id of the request (change_requested_role.go).
type RoleRequests struct {
	accessv1.UnsafeRoleRequestServiceServer // a missing method does not compile

	engine    *request.Engine
	writes    writes.Writer
	committer *committer
	graph     *graph
	catalog   *roleBook
	bindings  *Bindings
	pages     *page.Sealer
	jobs      *jobs.Queue
	outbox    *notice.Outbox
	directory identityv1.DirectoryServiceClient
	lists     *lists
	now       func() time.Time // to a microsecond, as it is stored
}

// newRoleRequests makes the service; its jobs become jobs of queue.
func newRoleRequests(s RoleRequests) *RoleRequests {
	made, clock := s, s.now
	made.now = func() time.Time { return clock().Truncate(time.Microsecond) }
	made.writes = writes.Writer{DB: s.committer.db, Keys: s.committer.keys, Operations: s.committer.operations, Jobs: s.jobs}
	made.engine = request.New(request.Config{
		DB: s.committer.db, Unit: Name, Jobs: s.jobs, Grid: roleGrid, Consequence: &roleConsequence{&made}, Now: made.now,
	})
	jobs.Register(s.jobs, jobTellRoleRequest, made.tell)
	return &made
}

// party is who calls, as a party to requests.
func party(ctx context.Context) request.Ref {
	p := authn.FromContext(ctx)
	return request.Ref{Type: p.Type, ID: p.ID}
}

// sideOf is the caller's side of a request that it may see.
func sideOf(ctx context.Context, r request.Request) request.Side {
	if r.Requester == party(ctx) {
		return request.Requester
	}
	return request.Decider
}

// resolve leads from a request to what the caller needs a permission on: nothing for a
// requester's own, the resource else.
func (s *RoleRequests) resolve(ctx context.Context, requestID string) (authz.Resource, error) {
	r, err := s.engine.Store.Get(ctx, s.committer.db, requestID)
	if err == nil && r.Requester == party(ctx) {
		return authz.Resource{Type: authz.UserAccount, ID: r.Requester.ID}, nil
	}
	return authz.Resource(r.Thing), err
}

// resourceOf leads from a request to its resource.
func (s *RoleRequests) resourceOf(ctx context.Context, requestID string) (authz.Resource, error) {
	r, err := s.engine.Store.Get(ctx, s.committer.db, requestID)
	return authz.Resource(r.Thing), err
}

func roleRequestOf(r request.Request, size thread.Size) *accessv1.RoleRequest {
	m := &accessv1.RoleRequest{
		Id: r.ID, Resource: Ref(r.Thing).proto(), RoleId: r.Aspect, Requester: Subject(r.Requester).proto(), OrganizationId: r.Scope,
		Reason: r.Reason, State: accessv1.RoleRequest_State(accessv1.RoleRequest_State_value[string(r.State)]), CreatedAt: timestamppb.New(r.CreatedAt),
		ExpiresAt: stampOf(r.EndsAt), PendingUntil: stampOf(r.PendingUntil), DecidedAt: stampOf(r.DecidedAt), Decision: r.Decision,
		EndedBy: r.EndedBy, EndedAt: stampOf(r.EndedAt), EndReason: r.EndReason,
		MessageCount: size.Messages, UnreadCount: size.Unread, Settled: r.Settled,
	}
	if r.Lasts > 0 {
		m.Duration = durationpb.New(r.Lasts)
	}
	if r.DecidedBy != (request.Ref{}) {
		m.DecidedBy = Subject(r.DecidedBy).proto()
	}
	return m
}

// stampOf leaves the zero time out of a message.
func stampOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// CreateRoleRequest files a request. RQ-3 [ours]: one live request for a role on a
// resource and a requester, and 50 pending ones of a requester. Fails: see
// requestable and term, REQUEST_EXISTS, TOO_MANY_REQUESTS.
func (s *RoleRequests) CreateRoleRequest(ctx context.Context, req *accessv1.CreateRoleRequestRequest) (*operationpb.Operation, error) {
	r := request.Request{
		ID: id.New(id.RoleRequest), Thing: request.Ref(refOf(req.GetResource())), Aspect: req.GetRoleId(), Requester: party(ctx), Reason: req.GetReason(), CreatedAt: s.now(),
	}
	if err := checkText("resource", r.Thing.Type, r.Thing.ID, r.Aspect); err != nil {
		return nil, err
	}
	if err := thread.Check("reason", r.Reason); err != nil {
		return nil, err
	}
	var err error
	if r.Scope, err = requestable(s.catalog, s.graph.View(), Subject(r.Requester), Ref(r.Thing), r.Aspect, nowMicros(s.now)); err != nil {
		return nil, err
	}
	if r, err = term(r, req); err != nil {
		return nil, err
	}
	return s.writes.Make(ctx, func(ctx context.Context, tx *sql.Tx) (w writes.Made, err error) {
		n, err := s.engine.Store.CountPending(ctx, tx, r.Requester, s.now()) // requests at once may make it a few more
		if err == nil && n >= maxPendingRequests {
			err = errManyRequests
		}
		if err != nil {
			return w, err
		}
		made, err := s.engine.Create(ctx, tx, r)
		if err != nil {
			return w, err
		}
		meta := &accessv1.CreateRoleRequestMetadata{RequestId: made.ID}
		if w.Op, err = s.operation(ctx, tx, made, "Create role request", meta, roleRequestOf(made, thread.Size{})); err != nil {
			return w, err
		}
		a := request.Act{Action: created, Side: request.Requester, By: made.Requester, Text: made.Reason}
		return w, s.leave(ctx, tx, made, a, w.Op.ID, 0)
	})
}

// operation makes an operation on a request, shown to whoever may decide it too.
func (s *RoleRequests) operation(ctx context.Context, tx *sql.Tx, r request.Request, description string, metadata, response proto.Message) (operation.Operation, error) {
	return s.writes.Operation(ctx, tx, operation.New{
		Resource: operation.Resource{Type: typeRoleRequest, ID: r.ID}, ViewOn: operation.Resource(r.Thing),
		ViewPermission: s.catalog.permission(r.Thing.Type, "updateAccessBindings"), Description: description, Metadata: metadata, Response: response,
	})
}

// act takes an action of a caller on a request and answers with its operation, which is
// done when the outcome is in force. What was done before succeeds again without a
// change, and without a trace.
func (s *RoleRequests) act(ctx context.Context, requestID string, a request.Act, description string, metadata proto.Message) (*operationpb.Operation, error) {
	if a.Text != "" {
		if err := thread.Check("comment", a.Text); err != nil {
			return nil, err
		}
	}
	return s.writes.Make(ctx, func(ctx context.Context, tx *sql.Tx) (w writes.Made, err error) {
		r, changed, err := s.engine.Act(ctx, tx, requestID, a)
		if err != nil {
			return w, err
		}
		var response proto.Message // when there is nothing to wait for
		if r.Settled {
			response = roleRequestOf(r, thread.Size{})
		}
		if w.Op, err = s.operation(ctx, tx, r, description, metadata, response); err != nil {
			return w, err
		}
		if changed {
			if err := s.leave(ctx, tx, r, a, w.Op.ID, 0); err != nil {
				return w, err
			}
		}
		if r.Settled {
			return w, nil
		}
		t, err := s.engine.Settle(ctx, tx, r.ID, w.Op.ID)
		w.Ticket = &t
		return w, err
	})
}

// CancelRoleRequest withdraws a pending request of the caller. Fails:
// REQUEST_NOT_FOUND, ACTION_NOT_ALLOWED for another's, REQUEST_STATE.
func (s *RoleRequests) CancelRoleRequest(ctx context.Context, req *accessv1.CancelRoleRequestRequest) (*operationpb.Operation, error) {
	r, err := s.engine.Store.Get(ctx, s.committer.db, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	a := request.Act{Action: request.Cancel, Side: sideOf(ctx, r), By: party(ctx)}
	return s.act(ctx, r.ID, a, "Cancel role request", &accessv1.CancelRoleRequestMetadata{RequestId: r.ID})
}

// ApproveRoleRequest is RQ-4 [ours]: whoever may grant the role decides, and nobody their
// own. What the caller may not grant is refused and stays pending, for another one. The
// same is asked once more on the state in which the role is given. Fails:
// REQUEST_NOT_FOUND, REQUEST_STATE, OWN_REQUEST, REQUESTER_NOT_ELIGIBLE,
// DECIDER_MAY_NOT_GRANT, QUOTA_EXCEEDED, a refusal of package rules.
func (s *RoleRequests) ApproveRoleRequest(ctx context.Context, req *accessv1.ApproveRoleRequestRequest) (*operationpb.Operation, error) {
	r, err := s.engine.Store.Get(ctx, s.committer.db, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	if r.At(s.now()).State == request.Pending && r.Requester != party(ctx) {
		if err := s.mayApprove(ctx, r); err != nil {
			return nil, err
		}
	}
	a := request.Act{Action: request.Approve, Side: request.Decider, By: party(ctx), Text: req.GetComment()}
	return s.act(ctx, r.ID, a, "Approve role request", &accessv1.ApproveRoleRequestMetadata{RequestId: r.ID})
}

// mayApprove asks, before anything is decided, what is asked again when the role is
// given.
func (s *RoleRequests) mayApprove(ctx context.Context, r request.Request) error {
	p := authn.FromContext(ctx)
	by := checker.Query{
		Subject: checker.Subject{Type: p.Type, ID: p.ID}, Token: checker.TokenID(p.TokenID), Session: checker.TokenID(p.Session), Now: nowMicros(s.now),
	}
	if err := grantable(s.graph, s.catalog, by, r); err != nil {
		return err
	}
	if !eligible(Subject(r.Requester), s.graph.View(), r.Scope, by.Now) {
		return errRequesterInactive
	}
	for _, b := range s.bindings.bounds(Ref(r.Thing)) {
		n, err := s.committer.store.countAssignments(ctx, s.committer.db, b.on.ID)
		if err == nil {
			err = s.bindings.bounded.limits.Check(ctx, b.quotaID, b.on, n, 1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// RejectRoleRequest rejects a pending request. Fails: REQUEST_NOT_FOUND, REQUEST_STATE,
// OWN_REQUEST.
func (s *RoleRequests) RejectRoleRequest(ctx context.Context, req *accessv1.RejectRoleRequestRequest) (*operationpb.Operation, error) {
	a := request.Act{Action: request.Reject, Side: request.Decider, By: party(ctx), Text: req.GetComment()}
	return s.act(ctx, req.GetRequestId(), a, "Reject role request", &accessv1.RejectRoleRequestMetadata{RequestId: req.GetRequestId()})
}

// EndRoleRequest is RQ-6 [ours]: the requester gives the role up, or whoever may grant it
// takes it back, before its time. Fails: REQUEST_NOT_FOUND, REQUEST_STATE.
func (s *RoleRequests) EndRoleRequest(ctx context.Context, req *accessv1.EndRoleRequestRequest) (*operationpb.Operation, error) {
	r, err := s.engine.Store.Get(ctx, s.committer.db, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	a := request.Act{Action: request.Revoke, Side: sideOf(ctx, r), By: party(ctx), Text: req.GetComment()}
	return s.act(ctx, r.ID, a, "End role request", &accessv1.EndRoleRequestMetadata{RequestId: r.ID})
}

// GetRoleRequest reads a request. Fails: REQUEST_NOT_FOUND.
func (s *RoleRequests) GetRoleRequest(ctx context.Context, req *accessv1.GetRoleRequestRequest) (*accessv1.RoleRequest, error) {
	r, err := s.engine.Store.Get(ctx, s.committer.db, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	shown, err := s.show(ctx, sideOf(ctx, r), r)
	if err != nil {
		return nil, err
	}
	return shown[0], nil
}

// show shows requests to a side, as they stand now.
func (s *RoleRequests) show(ctx context.Context, to request.Side, all ...request.Request) ([]*accessv1.RoleRequest, error) {
	ids := make([]string, len(all))
	for i, r := range all {
		ids[i] = r.ID
	}
	sizes, err := s.engine.Threads.Sizes(ctx, s.committer.db, string(to), ids...)
	if err != nil {
		return nil, err
	}
	shown, now := make([]*accessv1.RoleRequest, len(all)), s.now()
	for i, r := range all {
		shown[i] = roleRequestOf(r.At(now), sizes[r.ID])
	}
	return shown, nil
}

// errListState is about a filter of requests.
func errListState(value string) error {
	return apierr.InvalidField("filter", "%q is not the state of a request", value)
}
