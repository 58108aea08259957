package accessbindings

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/thread"
	"github.com/bindery-iam/bindery/pkg/writes"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// listOfRequests is what the lists of requests have in common.
type listOfRequests interface {
	GetPageSize() int64
	GetPageToken() string
	GetFilter() string
	GetOrderBy() string
}

// ListRoleRequests lists the requests for roles on a resource, and on what lies below
// it, where the caller may decide them.
func (s *RoleRequests) ListRoleRequests(ctx context.Context, req *accessv1.ListRoleRequestsRequest) (*accessv1.ListRoleRequestsResponse, error) {
	on := checker.Resource(refOf(req.GetResource()))
	query, may := request.Query{Thing: request.Ref(on)}, func(request.Request) bool { return true }
	if root := rootOf(s.graph.View().Path(on)); req.GetBelow() && root != "" {
		query, may = request.Query{Scope: root}, s.decidedBelow(ctx, on)
	}
	all, next, err := s.list(ctx, req, query, request.Decider, may, "role requests", on.Type, on.ID, fmt.Sprint(req.GetBelow()))
	if err != nil {
		return nil, err
	}
	return &accessv1.ListRoleRequestsResponse{Requests: all, NextPageToken: next}, nil
}

// decidedBelow tells requests for roles on a resource or below it that the caller may
// decide.
func (s *RoleRequests) decidedBelow(ctx context.Context, on checker.Resource) func(request.Request) bool {
	q, view := (&decider{graph: s.graph, now: s.now}).query(authn.FromContext(ctx), "", authz.Resource{}), s.graph.View()
	return func(r request.Request) bool {
		q.Resource, q.Permission = checker.Resource(r.Thing), s.catalog.permission(r.Thing.Type, "updateAccessBindings")
		return slices.Contains(view.Path(q.Resource), on) && view.Decide(q).Allowed
	}
}

// ListOwnRoleRequests lists the requests of the caller.
func (s *RoleRequests) ListOwnRoleRequests(ctx context.Context, req *accessv1.ListOwnRoleRequestsRequest) (*accessv1.ListOwnRoleRequestsResponse, error) {
	who := party(ctx)
	all, next, err := s.list(ctx, req, request.Query{Requester: who}, request.Requester, func(request.Request) bool { return true }, "own role requests", who.Type, who.ID)
	if err != nil {
		return nil, err
	}
	return &accessv1.ListOwnRoleRequestsResponse{Requests: all, NextPageToken: next}, nil
}

// list reads one page of requests that may be seen. It is full, by number or by bytes,
// unless it is the last one.
func (s *RoleRequests) list(ctx context.Context, req listOfRequests, query request.Query, to request.Side, may func(request.Request) bool, scope ...string) ([]*accessv1.RoleRequest, string, error) {
	f, err := filter.Parse(req.GetFilter(), "state")
	if err != nil {
		return nil, "", err
	}
	if f.Field != "" {
		if accessv1.RoleRequest_State_value[f.Value] == 0 {
			return nil, "", errListState(f.Value)
		}
		query.State, query.Now = request.State(f.Value), s.now()
	}
	switch req.GetOrderBy() {
	case "", "createdAt desc":
	case "createdAt", "createdAt asc":
		query.Oldest = true
	default:
		return nil, "", apierr.InvalidField("order_by", `must be "createdAt" or "createdAt desc"`)
	}
	scope = append(scope, f.Value, fmt.Sprint(query.Oldest))
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(req.GetPageSize())
	found, err := s.seen(ctx, query, after, size+1, may)
	if err != nil {
		return nil, "", err
	}
	shown, err := s.show(ctx, to, found[:min(len(found), size)]...)
	if err != nil {
		return nil, "", err
	}
	fit := page.Fit(len(shown), func(i int) int { return proto.Size(shown[i]) })
	if fit == len(found) {
		return shown, "", nil
	}
	token, err := s.pages.Seal(found[fit-1].Position(), scope...)
	return shown[:fit], token, err
}

// seen reads the first want requests after a position that may be seen.
func (s *RoleRequests) seen(ctx context.Context, query request.Query, after page.Position, want int, may func(request.Request) bool) (seen []request.Request, err error) {
	for {
		rows, err := s.engine.Store.List(ctx, s.committer.db, query, after, want)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if may(r) {
				if seen = append(seen, r); len(seen) == want {
					return seen, nil
				}
			}
		}
		if len(rows) < want {
			return seen, nil
		}
		after = rows[len(rows)-1].Position()
	}
}

func roleMessageOf(m thread.Message) *accessv1.RoleRequestMessage {
	return &accessv1.RoleRequestMessage{
		Number: m.Number, Side: roleSides[m.Side], Author: Subject(m.Author).proto(), Text: m.Text, CreatedAt: timestamppb.New(m.At),
	}
}

// CreateRoleRequestMessage adds a message to a request, of whichever side the caller is
// on. Fails: REQUEST_NOT_FOUND, REQUEST_STATE, THREAD_FULL.
func (s *RoleRequests) CreateRoleRequestMessage(ctx context.Context, req *accessv1.CreateRoleRequestMessageRequest) (*operationpb.Operation, error) {
	if err := thread.Check("text", req.GetText()); err != nil {
		return nil, err
	}
	r, err := s.engine.Store.Get(ctx, s.committer.db, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	by := sideOf(ctx, r)
	return s.writes.Make(ctx, func(ctx context.Context, tx *sql.Tx) (w writes.Made, err error) {
		r, m, err := s.engine.Post(ctx, tx, r.ID, by, thread.Author(party(ctx)), req.GetText())
		if err != nil {
			return w, err
		}
		meta := &accessv1.CreateRoleRequestMessageMetadata{RequestId: r.ID, Number: m.Number}
		if w.Op, err = s.operation(ctx, tx, r, "Create message", meta, roleMessageOf(m)); err != nil {
			return w, err
		}
		return w, s.leave(ctx, tx, r, request.Act{Action: request.Post, Side: by, By: party(ctx), Text: m.Text}, w.Op.ID, m.Number)
	})
}

// ListRoleRequestMessages lists the messages of a request, oldest first.
func (s *RoleRequests) ListRoleRequestMessages(ctx context.Context, req *accessv1.ListRoleRequestMessagesRequest) (*accessv1.ListRoleRequestMessagesResponse, error) {
	scope := []string{"role request messages", req.GetRequestId()}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	found, err := s.engine.Threads.List(ctx, s.committer.db, req.GetRequestId(), after.Time, size+1)
	if err != nil {
		return nil, err
	}
	resp := new(accessv1.ListRoleRequestMessagesResponse)
	for _, m := range found[:min(len(found), size)] {
		resp.Messages = append(resp.Messages, roleMessageOf(m))
	}
	fit := page.Fit(len(resp.GetMessages()), func(i int) int { return proto.Size(resp.GetMessages()[i]) })
	if resp.Messages = resp.GetMessages()[:fit]; fit < len(found) {
		resp.NextPageToken, err = s.pages.Seal(page.Position{Time: found[fit-1].Number}, scope...)
	}
	return resp, err
}

// MarkRoleRequestMessagesRead notes what the caller's side has read. Fails:
// REQUEST_NOT_FOUND.
func (s *RoleRequests) MarkRoleRequestMessagesRead(ctx context.Context, req *accessv1.MarkRoleRequestMessagesReadRequest) (*accessv1.MarkRoleRequestMessagesReadResponse, error) {
	r, err := s.engine.Store.Get(ctx, s.committer.db, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	by, resp := string(sideOf(ctx, r)), new(accessv1.MarkRoleRequestMessagesReadResponse)
	err = sqldb.InTx(ctx, s.committer.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.engine.Threads.MarkRead(ctx, tx, r.ID, by, req.GetNumber()); err != nil {
			return err
		}
		sizes, err := s.engine.Threads.Sizes(ctx, tx, by, r.ID)
		resp.UnreadCount = sizes[r.ID].Unread
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
