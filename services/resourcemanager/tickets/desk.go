package tickets

import (
	"context"
	"database/sql"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/thread"
	supportv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/support/v1"
)

// desk is OperatorService: the operators' side of tickets, at their socket.
type desk struct {
	supportv1.UnsafeOperatorServiceServer // a missing method does not compile
	*Service
}

// Keyed are the methods of the desk that make their write once for each idempotency key.
var Keyed = []string{supportv1.OperatorService_CreateComment_FullMethodName}

// ListAllTickets lists the tickets of everybody, newest first.
func (s *desk) ListAllTickets(ctx context.Context, req *supportv1.ListAllTicketsRequest) (*supportv1.ListAllTicketsResponse, error) {
	all, next, err := s.list(ctx, req, authz.Resource{}, platform)
	if err != nil {
		return nil, err
	}
	return &supportv1.ListAllTicketsResponse{Tickets: all, NextPageToken: next}, nil
}

// GetAnyTicket reads a ticket with its attachments. Fails: TICKET_NOT_FOUND.
func (s *desk) GetAnyTicket(ctx context.Context, req *supportv1.GetAnyTicketRequest) (*supportv1.Ticket, error) {
	return s.get(ctx, req.GetTicketId(), platform)
}

// ListComments lists the comments of a ticket; what it shows counts as read. Fails:
// TICKET_NOT_FOUND.
func (s *desk) ListComments(ctx context.Context, req *supportv1.ListCommentsRequest) (*supportv1.ListCommentsResponse, error) {
	if _, err := s.store.ticket(ctx, s.Writes.DB, req.GetTicketId(), ""); err != nil {
		return nil, err
	}
	all, next, err := s.listComments(ctx, req, req.GetTicketId())
	if err != nil {
		return nil, err
	}
	if len(all) > 0 {
		err = sqldb.InTx(ctx, s.Writes.DB, func(ctx context.Context, tx *sql.Tx) error {
			return s.comments.MarkRead(ctx, tx, req.GetTicketId(), platform, all[len(all)-1].GetNumber())
		})
	}
	if err != nil {
		return nil, err
	}
	return &supportv1.ListCommentsResponse{Comments: all, NextPageToken: next}, nil
}

// CreateComment answers a ticket. Fails: TICKET_NOT_FOUND, TICKET_CLOSED, THREAD_FULL.
func (s *desk) CreateComment(ctx context.Context, req *supportv1.CreateCommentRequest) (*supportv1.TicketComment, error) {
	if err := thread.Check("text", req.GetText()); err != nil {
		return nil, err
	}
	path, err := s.lastPath(ctx, req.GetTicketId())
	if err != nil {
		return nil, err
	}
	resp := new(supportv1.TicketComment)
	err = sqldb.InTx(ctx, s.Writes.DB, func(ctx context.Context, tx *sql.Tx) error {
		_, err := s.Writes.Keys.Answer(ctx, tx, resp, func() error {
			t, m, err := s.comment(ctx, tx, req.GetTicketId(), platform, req.GetText())
			if err != nil {
				return err
			}
			shown := commentOf(m)
			resp.Reset()
			resp.Number, resp.Side, resp.Text, resp.CreatedAt = shown.GetNumber(), shown.GetSide(), shown.GetText(), shown.GetCreatedAt()
			if err := s.record(ctx, tx, "CreateTicketComment", "", t, path, map[string]any{"number": m.Number}); err != nil {
				return err
			}
			return s.tellOf(ctx, tx, t, notice.TicketAnswered, m.Number)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	s.Jobs.Kick()
	return resp, nil
}

// CloseAnyTicket closes a ticket, for good. Fails: TICKET_NOT_FOUND.
func (s *desk) CloseAnyTicket(ctx context.Context, req *supportv1.CloseAnyTicketRequest) (*supportv1.Ticket, error) {
	path, err := s.lastPath(ctx, req.GetTicketId())
	if err != nil {
		return nil, err
	}
	err = sqldb.InTx(ctx, s.Writes.DB, func(ctx context.Context, tx *sql.Tx) error {
		t, changed, err := s.close(ctx, tx, req.GetTicketId(), platform)
		if err != nil || !changed {
			return err
		}
		if err := s.record(ctx, tx, "CloseTicket", "", t, path, map[string]any{}); err != nil {
			return err
		}
		return s.tellOf(ctx, tx, t, notice.TicketClosed, 0)
	})
	if err != nil {
		return nil, err
	}
	s.Jobs.Kick()
	return s.get(ctx, req.GetTicketId(), platform)
}

// DownloadAttachment sends the parts of an attachment. Fails: TICKET_NOT_FOUND,
// ATTACHMENT_NOT_FOUND.
func (s *desk) DownloadAttachment(req *supportv1.DownloadAttachmentRequest, to grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	return s.download(req.GetTicketId(), req.GetAttachmentId(), to)
}

// lastPath is where a ticket was filed; when that is gone, it alone. Fails:
// TICKET_NOT_FOUND.
func (s *desk) lastPath(ctx context.Context, ticketID string) ([]audit.Resource, error) {
	on, err := s.ResourceOf(ctx, ticketID)
	if err != nil {
		return nil, err
	}
	path, err := s.path(ctx, on)
	if apierr.CodeOf(err) == codes.NotFound {
		return []audit.Resource{{Type: on.Type, ID: on.ID}}, nil
	}
	return path, err
}
