package tickets

import (
	"context"
	"database/sql"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/thread"
	"github.com/bindery-iam/bindery/pkg/writes"
	supportv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/support/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Sides of a ticket.
const (
	customer = "customer"
	platform = "platform"
)

var sides = map[string]supportv1.TicketComment_Side{customer: supportv1.TicketComment_CUSTOMER, platform: supportv1.TicketComment_PLATFORM}

func commentOf(m thread.Message) *supportv1.TicketComment {
	return &supportv1.TicketComment{Number: m.Number, Side: sides[m.Side], Author: subject(m.Author), Text: m.Text, CreatedAt: timestamppb.New(m.At)}
}

// openTicket locks a ticket that takes something. ST-3: a closed one does not, for
// good. Fails: TICKET_NOT_FOUND, TICKET_CLOSED.
func (s *Service) openTicket(ctx context.Context, tx *sql.Tx, ticketID string) (Ticket, error) {
	t, err := s.store.lock(ctx, tx, ticketID)
	if err == nil && t.State != open {
		err = errTicketClosed
	}
	return t, err
}

// CloseTicket closes a ticket, for good; a closed one stays as it is. Fails:
// TICKET_NOT_FOUND.
func (s *Service) CloseTicket(ctx context.Context, req *supportv1.CloseTicketRequest) (*operationpb.Operation, error) {
	path, err := s.pathOf(ctx, req.GetTicketId())
	if err != nil {
		return nil, err
	}
	return s.Writes.Make(ctx, func(ctx context.Context, tx *sql.Tx) (w writes.Made, err error) {
		t, changed, err := s.close(ctx, tx, req.GetTicketId(), customer)
		if err != nil {
			return w, err
		}
		meta := &supportv1.CloseTicketMetadata{TicketId: t.ID}
		if w.Op, err = s.operation(ctx, tx, t, "Close ticket", meta, t.proto(thread.Size{}, nil)); err != nil || !changed {
			return w, err
		}
		return w, s.record(ctx, tx, "CloseTicket", permissionUpdate, t, path, map[string]any{"operation_id": w.Op.ID})
	})
}

// close closes a ticket; changed is false for one that is closed.
func (s *Service) close(ctx context.Context, tx *sql.Tx, ticketID, side string) (t Ticket, changed bool, err error) {
	if t, err = s.store.lock(ctx, tx, ticketID); err != nil || t.State == closed {
		return t, false, err
	}
	t.State, t.ClosedAt = closed, s.Now()
	if side == customer {
		t.ClosedBy = caller(ctx).ID
	}
	return t, true, s.store.update(ctx, tx, t)
}

// CreateTicketComment adds a comment to an open ticket. Fails: TICKET_NOT_FOUND,
// TICKET_CLOSED, THREAD_FULL.
func (s *Service) CreateTicketComment(ctx context.Context, req *supportv1.CreateTicketCommentRequest) (*operationpb.Operation, error) {
	if err := thread.Check("text", req.GetText()); err != nil {
		return nil, err
	}
	path, err := s.pathOf(ctx, req.GetTicketId())
	if err != nil {
		return nil, err
	}
	return s.Writes.Make(ctx, func(ctx context.Context, tx *sql.Tx) (w writes.Made, err error) {
		t, m, err := s.comment(ctx, tx, req.GetTicketId(), customer, req.GetText())
		if err != nil {
			return w, err
		}
		meta := &supportv1.CreateTicketCommentMetadata{TicketId: t.ID, Number: m.Number}
		if w.Op, err = s.operation(ctx, tx, t, "Create comment", meta, commentOf(m)); err != nil {
			return w, err
		}
		return w, s.record(ctx, tx, "CreateTicketComment", permissionUpdate, t, path, map[string]any{"operation_id": w.Op.ID, "number": m.Number})
	})
}

func (s *Service) comment(ctx context.Context, tx *sql.Tx, ticketID, side, text string) (Ticket, thread.Message, error) {
	t, err := s.openTicket(ctx, tx, ticketID)
	if err != nil {
		return t, thread.Message{}, err
	}
	m := thread.Message{Thread: t.ID, Side: side, Text: text, At: s.Now()}
	if side == customer {
		m.Author = caller(ctx)
	}
	m, err = s.comments.Post(ctx, tx, m)
	return t, m, err
}

// ListTicketComments lists the comments of a ticket, oldest first.
func (s *Service) ListTicketComments(ctx context.Context, req *supportv1.ListTicketCommentsRequest) (*supportv1.ListTicketCommentsResponse, error) {
	all, next, err := s.listComments(ctx, req, req.GetTicketId())
	if err != nil {
		return nil, err
	}
	return &supportv1.ListTicketCommentsResponse{Comments: all, NextPageToken: next}, nil
}

func (s *Service) listComments(ctx context.Context, req interface {
	GetPageSize() int64
	GetPageToken() string
}, ticketID string,
) ([]*supportv1.TicketComment, string, error) {
	scope := []string{"ticket comments", ticketID}
	after, err := s.Pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(req.GetPageSize())
	found, err := s.comments.List(ctx, s.Writes.DB, ticketID, after.Time, size+1)
	if err != nil {
		return nil, "", err
	}
	shown := make([]*supportv1.TicketComment, min(len(found), size))
	for i := range shown {
		shown[i] = commentOf(found[i])
	}
	fit := page.Fit(len(shown), func(i int) int { return proto.Size(shown[i]) })
	if fit == len(found) {
		return shown, "", nil
	}
	token, err := s.Pages.Seal(page.Position{Time: found[fit-1].Number}, scope...)
	return shown[:fit], token, err
}

// MarkTicketCommentsRead notes what the customer's side has read.
func (s *Service) MarkTicketCommentsRead(ctx context.Context, req *supportv1.MarkTicketCommentsReadRequest) (*supportv1.MarkTicketCommentsReadResponse, error) {
	resp := new(supportv1.MarkTicketCommentsReadResponse)
	err := sqldb.InTx(ctx, s.Writes.DB, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.comments.MarkRead(ctx, tx, req.GetTicketId(), customer, req.GetNumber()); err != nil {
			return err
		}
		sizes, err := s.comments.Sizes(ctx, tx, customer, req.GetTicketId())
		resp.UnreadCount = sizes[req.GetTicketId()].Unread
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
