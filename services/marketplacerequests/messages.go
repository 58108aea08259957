package marketplacerequests

import (
	"context"
	"database/sql"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/thread"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

func messageOf(m thread.Message) *marketplacev1.Message {
	return &marketplacev1.Message{Number: m.Number, Side: sides[m.Side], AuthorId: m.Author.ID, Text: m.Text, CreatedAt: timestamppb.New(m.At)}
}

// CreateProductAccessRequestMessage is MR-7: messages belong to a request and go both
// ways. Fails: REQUEST_NOT_FOUND, REQUEST_STATE, THREAD_FULL.
func (s *accessRequests) CreateProductAccessRequestMessage(ctx context.Context, req *marketplacev1.CreateProductAccessRequestMessageRequest) (*operationpb.Operation, error) {
	if err := thread.Check("text", req.GetText()); err != nil {
		return nil, err
	}
	r, err := s.requests.Store.Get(ctx, s.store.db, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) (w written, err error) {
		r, m, err := s.post(ctx, tx, &w.rest, r.ID, side(ctx, r), req.GetText())
		if err != nil {
			return w, err
		}
		meta := &marketplacev1.CreateProductAccessRequestMessageMetadata{RequestId: r.ID, Number: m.Number}
		if w.op, err = s.requestOperation(ctx, &w.rest, r, "Create message", meta, messageOf(m)); err != nil {
			return w, err
		}
		permission := ""
		if m.Side == string(request.Decider) {
			permission = "marketplace.productAccessRequests.createMessage"
		}
		return w, s.note(ctx, &w.rest, r, "CreateProductAccessRequestMessage", w.op.ID, permission, map[string]any{"number": m.Number})
	})
}

// post adds a message and has the other sides told.
func (s *Service) post(ctx context.Context, tx *sql.Tx, b *sqldb.Batch, requestID string, by request.Side, text string) (request.Request, thread.Message, error) {
	p := authn.FromContext(ctx)
	r, m, err := s.requests.Post(ctx, tx, requestID, by, thread.Author{Type: p.Type, ID: p.ID}, text)
	if err != nil {
		return r, m, err
	}
	to := map[request.Side][]request.Side{
		request.Requester: {request.Decider}, request.Decider: {request.Requester}, request.Platform: {request.Requester, request.Decider},
	}[by]
	return r, m, s.tellOf(b, r, notice.AccessRequestMessage, m.Number, to...)
}

// ListProductAccessRequestMessages lists the messages of a request, oldest first.
func (s *accessRequests) ListProductAccessRequestMessages(ctx context.Context, req *marketplacev1.ListProductAccessRequestMessagesRequest) (*marketplacev1.ListProductAccessRequestMessagesResponse, error) {
	all, next, err := s.listMessages(ctx, req, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	return &marketplacev1.ListProductAccessRequestMessagesResponse{Messages: all, NextPageToken: next}, nil
}

func (s *Service) listMessages(ctx context.Context, req pageRequest, requestID string) ([]*marketplacev1.Message, string, error) {
	return list(ctx, s, req, listing[thread.Message, *marketplacev1.Message]{
		scope: []string{"messages", requestID}, position: func(m thread.Message) page.Position { return page.Position{Time: m.Number} },
		show: each(messageOf),
		fetch: func(ctx context.Context, after page.Position, limit int) ([]thread.Message, error) {
			return s.requests.Threads.List(ctx, s.store.db, requestID, after.Time, limit)
		},
	})
}

// MarkProductAccessRequestMessagesRead notes what the caller's side has read. Fails:
// REQUEST_NOT_FOUND.
func (s *accessRequests) MarkProductAccessRequestMessagesRead(ctx context.Context, req *marketplacev1.MarkProductAccessRequestMessagesReadRequest) (*marketplacev1.MarkProductAccessRequestMessagesReadResponse, error) {
	r, err := s.requests.Store.Get(ctx, s.store.db, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	by := string(side(ctx, r))
	resp := new(marketplacev1.MarkProductAccessRequestMessagesReadResponse)
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.requests.Threads.MarkRead(ctx, tx, r.ID, by, req.GetNumber()); err != nil {
			return err
		}
		sizes, err := s.requests.Threads.Sizes(ctx, tx, by, r.ID)
		resp.UnreadCount = sizes[r.ID].Unread
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
