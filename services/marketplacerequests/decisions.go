package marketplacerequests

import (
	"context"
	"database/sql"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/thread"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// trace is what an action leaves: its audit event, and who is told of what.
type trace struct {
	event      string
	permission string // that the publisher's side needs
	notice     string
	to         []request.Side
}

// traces are those of the actions (MR-14).
var traces = map[request.Action]trace{
	request.Approve: {"ApproveProductAccessRequest", "marketplace.productAccessRequests.approve", notice.AccessRequestApproved, []request.Side{request.Requester}},
	request.Reject:  {"RejectProductAccessRequest", "marketplace.productAccessRequests.reject", notice.AccessRequestRejected, []request.Side{request.Requester}},
	request.Cancel:  {"CancelProductAccessRequest", "", notice.AccessRequestCanceled, []request.Side{request.Decider}},
	request.Plead:   {"RequestRevocation", "marketplace.productAccessRequests.requestRevoke", notice.AccessRequestRevocationRequested, nil},
	request.Revoke:  {"RevokeProductAccessRequest", "", notice.AccessRequestRevoked, []request.Side{request.Requester, request.Decider}},
}

// acted adds the traces of an action that changed a request to what its transaction
// writes last.
func (s *Service) acted(ctx context.Context, b *sqldb.Batch, r request.Request, a request.Act, operationID, permission string) error {
	t := traces[a.Action]
	details := map[string]any{"state": string(r.State)}
	if a.Text != "" {
		details["reason"] = a.Text
	}
	if err := s.note(ctx, b, r, t.event, operationID, permission, details); err != nil {
		return err
	}
	to := t.to
	if a.Side == request.System { // nobody of theirs did it: both sides are told
		to = []request.Side{request.Requester, request.Decider}
	}
	return s.tellOf(b, r, t.notice, 0, to...)
}

// note adds the audit record of what happened to a request.
func (s *Service) note(ctx context.Context, b *sqldb.Batch, r request.Request, name, operationID, permission string, details map[string]any) error {
	if details == nil {
		details = map[string]any{}
	}
	details["request_id"], details["requester_id"] = r.ID, r.Requester.ID
	if operationID != "" {
		details["operation_id"] = operationID
	}
	return s.recordIn(ctx, b, event{
		name: name, permission: permission, on: authz.Resource{Type: r.Thing.Type, ID: r.Thing.ID}, details: details,
		path: []audit.Resource{{Type: typePublisher, ID: placeOf(r).Publisher}, {Type: r.Thing.Type, ID: r.Thing.ID}},
	})
}

// caller is who calls, as a party to requests.
func caller(ctx context.Context) request.Ref {
	p := authn.FromContext(ctx)
	return request.Ref{Type: p.Type, ID: p.ID}
}

// act takes an action of a caller on a request and answers with its operation, which is
// done when the outcome is in force. MR-25 [ours]: what was done before succeeds again
// without a change, and without a trace.
func (s *Service) act(ctx context.Context, requestID string, a request.Act, description string, metadata proto.Message) (*operationpb.Operation, error) {
	if a.Text != "" {
		if err := thread.Check("comment", a.Text); err != nil {
			return nil, err
		}
	}
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) (w written, err error) {
		r, changed, err := s.requests.ActIn(ctx, tx, &w.rest, requestID, a)
		if err != nil {
			return w, err
		}
		var response proto.Message // when there is nothing to wait for
		if r.Settled {
			response = message(r, thread.Size{})
		}
		if w.op, err = s.requestOperation(ctx, &w.rest, r, description, metadata, response); err != nil {
			return w, err
		}
		if changed {
			if err := s.acted(ctx, &w.rest, r, a, w.op.ID, traces[a.Action].permission); err != nil {
				return w, err
			}
		}
		if !r.Settled {
			w.ticket, err = s.requests.SettleIn(&w.rest, r.ID, w.op.ID)
		}
		return w, err
	})
}

// CancelProductAccessRequest withdraws a pending request of the caller. Fails:
// REQUEST_NOT_FOUND, ACTION_NOT_ALLOWED for another's, REQUEST_STATE.
func (s *accessRequests) CancelProductAccessRequest(ctx context.Context, req *marketplacev1.CancelProductAccessRequestRequest) (*operationpb.Operation, error) {
	r, err := s.requests.Store.Get(ctx, s.store.db, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	a := request.Act{Action: request.Cancel, Side: side(ctx, r), By: caller(ctx)}
	return s.act(ctx, r.ID, a, "Cancel product access request", &marketplacev1.CancelProductAccessRequestMetadata{RequestId: r.ID})
}

// ApproveProductAccessRequest is MR-6: the publisher's side lets the requester in. MR-23
// [ours]: nobody decides a request of their own, whatever role they hold. Fails:
// REQUEST_NOT_FOUND, REQUEST_STATE, OWN_REQUEST.
func (s *accessRequests) ApproveProductAccessRequest(ctx context.Context, req *marketplacev1.ApproveProductAccessRequestRequest) (*operationpb.Operation, error) {
	a := request.Act{Action: request.Approve, Side: request.Decider, By: caller(ctx), Text: req.GetComment()}
	return s.act(ctx, req.GetRequestId(), a, "Approve product access request",
		&marketplacev1.ApproveProductAccessRequestMetadata{RequestId: req.GetRequestId()})
}

// RejectProductAccessRequest is MR-6, too. Fails: REQUEST_NOT_FOUND, REQUEST_STATE,
// OWN_REQUEST.
func (s *accessRequests) RejectProductAccessRequest(ctx context.Context, req *marketplacev1.RejectProductAccessRequestRequest) (*operationpb.Operation, error) {
	a := request.Act{Action: request.Reject, Side: request.Decider, By: caller(ctx), Text: req.GetComment()}
	return s.act(ctx, req.GetRequestId(), a, "Reject product access request",
		&marketplacev1.RejectProductAccessRequestMetadata{RequestId: req.GetRequestId()})
}

// RequestRevocation is MR-8: the publisher cannot revoke; it asks the platform, with
// reasons. Fails: REQUEST_NOT_FOUND, REQUEST_STATE.
func (s *accessRequests) RequestRevocation(ctx context.Context, req *marketplacev1.RequestRevocationRequest) (*operationpb.Operation, error) {
	if err := thread.Check("reason", req.GetReason()); err != nil {
		return nil, err
	}
	a := request.Act{Action: request.Plead, Side: request.Decider, By: caller(ctx), Text: req.GetReason()}
	return s.act(ctx, req.GetRequestId(), a, "Request revocation", &marketplacev1.RequestRevocationMetadata{RequestId: req.GetRequestId()})
}

// consequence is what decisions on requests mean: the requester holds the role of a
// product's users, by a grant with the id of the request, or does not.
type consequence struct{ *Service }

func grantOf(r request.Request) (on *accessv1.Resource, b *accessv1.AccessBinding) {
	return &accessv1.Resource{Type: r.Thing.Type, Id: r.Thing.ID},
		&accessv1.AccessBinding{RoleId: roleUser, Subject: &accessv1.Subject{Type: r.Requester.Type, Id: r.Requester.ID}}
}

// Grant lets the requester install the product (MR-2).
func (c *consequence) Grant(ctx context.Context, r request.Request) error {
	on, b := grantOf(r)
	_, err := c.grants.PutGrant(server.AsUnit(ctx), &accessv1.PutGrantRequest{GrantId: r.ID, Resource: on, AccessBinding: b})
	return apierr.FromRPC(err)
}

// Withdraw takes that back for good: only a new request brings it again (MR-9).
func (c *consequence) Withdraw(ctx context.Context, r request.Request) error {
	on, b := grantOf(r)
	_, err := c.grants.EndGrant(server.AsUnit(ctx), &accessv1.EndGrantRequest{GrantId: r.ID, Resource: on, AccessBinding: b})
	return apierr.FromRPC(err)
}

// Settled ends the operation of an action. What could not be granted was revoked by the
// engine, and leaves the traces of that.
func (c *consequence) Settled(ctx context.Context, tx *sql.Tx, b *sqldb.Batch, r request.Request, operationID string, cause error) error {
	if cause != nil {
		a := request.Act{Action: request.Revoke, Side: request.System, Text: r.EndReason}
		if err := c.acted(ctx, b, r, a, operationID, ""); err != nil {
			return err
		}
	}
	switch {
	case operationID == "":
		return nil
	case cause != nil:
		return c.operations.Fail(ctx, tx, operationID, nil, cause)
	default:
		return c.operations.FinishIn(ctx, tx, b, operationID, nil, message(r, thread.Size{}))
	}
}

// departedBatch is how many requesters are looked up at once.
const departedBatch = 1000

// endDeparted is MR-22 [ours]: requests of people whose accounts are deleted end; the
// role went with the account, at once. A suspended one keeps its requests, and
// nothing is allowed it meanwhile.
func (s *Service) endDeparted(ctx context.Context) error {
	for after := ""; ; {
		all, err := s.requests.Store.LiveAfter(ctx, s.store.db, after, departedBatch)
		if err != nil || len(all) == 0 {
			return err
		}
		after = all[len(all)-1].ID
		known, err := s.known(ctx, all)
		if err != nil {
			return err
		}
		for _, r := range all {
			if r.Requester.Type != authn.UserAccount || known[r.Requester.ID] {
				continue
			}
			if err := s.end(ctx, r.ID, "the requester is gone"); err != nil {
				return err
			}
		}
	}
}
