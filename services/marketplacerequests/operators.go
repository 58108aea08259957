package marketplacerequests

import (
	"context"
	"database/sql"

	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/thread"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
)

// operators is OperatorService: the platform's side.
type operators struct {
	marketplacev1.UnsafeOperatorServiceServer // a missing method does not compile
	*Service
}

// ListAllProducts lists the products of all publishers, newest first.
func (s *operators) ListAllProducts(ctx context.Context, req *marketplacev1.ListAllProductsRequest) (*marketplacev1.ListAllProductsResponse, error) {
	query := ProductQuery{}
	if req.GetState() != 0 {
		query.State = State(req.GetState().String())
	}
	all, next, err := list(ctx, s.Service, req, listing[Product, *marketplacev1.Product]{
		scope: []string{"all products", string(query.State)}, position: Product.position, show: each(Product.proto),
		fetch: func(ctx context.Context, after page.Position, limit int) ([]Product, error) {
			return s.store.Products(ctx, s.store.db, query, after, limit)
		},
	})
	if err != nil {
		return nil, err
	}
	return &marketplacev1.ListAllProductsResponse{Products: all, NextPageToken: next}, nil
}

// ReviewProduct is MR-3: after review a product is approved or rejected. The same
// decision again succeeds, and waits for the first to be in force. Fails:
// PRODUCT_NOT_FOUND, PRODUCT_STATE, UNAVAILABLE while it cannot be put in force.
func (s *operators) ReviewProduct(ctx context.Context, req *marketplacev1.ReviewProductRequest) (*marketplacev1.Product, error) {
	if req.GetComment() != "" {
		if err := thread.Check("comment", req.GetComment()); err != nil {
			return nil, err
		}
	}
	to := Rejected
	if req.GetApprove() {
		to = Approved
	}
	var p Product
	var ticket *jobs.Ticket
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		if p, err = s.store.LockProduct(ctx, tx, req.GetProductId()); err != nil {
			return err
		}
		job := &productJob{Product: p.ID, Grant: p.Opened}
		if p.State != to {
			if p.State != InReview {
				return productState(p, "reviewed")
			}
			before := p
			p.State, p.Review = to, req.GetComment()
			job = p.settles(before)
			if err := s.store.UpdateProduct(ctx, tx, p); err != nil {
				return err
			}
			if err := s.record(ctx, tx, event{name: "ReviewProduct", path: p.path(), details: map[string]any{"state": string(to)}}); err != nil {
				return err
			}
		}
		if job == nil || job.Grant == 0 {
			return nil
		}
		ticket, err = s.enqueue(ctx, tx, jobSettleProduct, *job)
		return err
	})
	if err != nil {
		return nil, err
	}
	return p.proto(), s.done(ctx, ticket)
}

// done executes the job of a call of the operator, who is told when it has to wait.
func (s *Service) done(ctx context.Context, ticket *jobs.Ticket) error {
	s.jobs.Kick()
	if ticket == nil {
		return nil
	}
	return s.jobs.Do(ctx, *ticket)
}

// GetAccessRequest reads a request. Fails: REQUEST_NOT_FOUND.
func (s *operators) GetAccessRequest(ctx context.Context, req *marketplacev1.GetAccessRequestRequest) (*marketplacev1.ProductAccessRequest, error) {
	r, err := s.requests.Store.Get(ctx, s.store.db, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	return s.showOne(ctx, r)
}

// showOne shows a request to the platform.
func (s *Service) showOne(ctx context.Context, r request.Request) (*marketplacev1.ProductAccessRequest, error) {
	shown, err := s.show(ctx, request.Platform, r)
	if err != nil {
		return nil, err
	}
	return shown[0], nil
}

// ListAccessRequests lists the requests for all products, newest first.
func (s *operators) ListAccessRequests(ctx context.Context, req *marketplacev1.ListAccessRequestsRequest) (*marketplacev1.ListAccessRequestsResponse, error) {
	query := request.Query{Pleaded: req.GetRevocationRequested()}
	if req.GetProductId() != "" {
		query.Thing = request.Ref{Type: typeProduct, ID: req.GetProductId()}
	}
	state := ""
	if req.GetState() != 0 {
		state = req.GetState().String()
		query.State, query.Now = request.State(state), s.now()
	}
	pleaded := map[bool]string{true: "pleaded"}[query.Pleaded]
	all, next, err := list(ctx, s.Service, req, listing[request.Request, *marketplacev1.ProductAccessRequest]{
		scope: []string{"all requests", req.GetProductId(), state, pleaded}, position: request.Request.Position,
		fetch: func(ctx context.Context, after page.Position, limit int) ([]request.Request, error) {
			return s.requests.Store.List(ctx, s.store.db, query, after, limit)
		},
		show: func(ctx context.Context, all []request.Request) ([]*marketplacev1.ProductAccessRequest, error) {
			return s.show(ctx, request.Platform, all...)
		},
	})
	if err != nil {
		return nil, err
	}
	return &marketplacev1.ListAccessRequestsResponse{Requests: all, NextPageToken: next}, nil
}

// RevokeAccessRequest is MR-8, MR-9: the platform takes access back. Fails:
// REQUEST_NOT_FOUND, REQUEST_STATE, UNAVAILABLE while it cannot be put in force.
func (s *operators) RevokeAccessRequest(ctx context.Context, req *marketplacev1.RevokeAccessRequestRequest) (*marketplacev1.ProductAccessRequest, error) {
	if err := thread.Check("reason", req.GetReason()); err != nil {
		return nil, err
	}
	a := request.Act{Action: request.Revoke, Side: request.Platform, Text: req.GetReason()}
	var ticket *jobs.Ticket
	err := sqldb.InBatches(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		ticket = nil
		var b sqldb.Batch
		r, changed, err := s.requests.ActIn(ctx, tx, &b, req.GetRequestId(), a)
		if err != nil {
			return err
		}
		if changed {
			if err := s.acted(ctx, &b, r, a, "", ""); err != nil {
				return err
			}
		}
		if !r.Settled {
			if ticket, err = s.requests.SettleIn(&b, r.ID, ""); err != nil {
				return err
			}
		}
		return b.Commit(ctx, s.store.db, tx)
	})
	if err == nil {
		err = s.done(ctx, ticket)
	}
	if err != nil {
		return nil, err
	}
	r, err := s.requests.Store.Get(ctx, s.store.db, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	return s.showOne(ctx, r)
}

// CreateMessage writes a message of the platform. Fails: REQUEST_NOT_FOUND,
// THREAD_FULL.
func (s *operators) CreateMessage(ctx context.Context, req *marketplacev1.CreateMessageRequest) (*marketplacev1.Message, error) {
	if err := thread.Check("text", req.GetText()); err != nil {
		return nil, err
	}
	resp := new(marketplacev1.Message)
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := s.keys.Answer(ctx, tx, resp, func() error {
			var b sqldb.Batch
			r, m, err := s.post(ctx, tx, &b, req.GetRequestId(), request.Platform, req.GetText())
			if err != nil {
				return err
			}
			resp.Reset()
			shown := messageOf(m)
			resp.Number, resp.Side, resp.AuthorId, resp.Text, resp.CreatedAt = shown.GetNumber(), shown.GetSide(), shown.GetAuthorId(), shown.GetText(), shown.GetCreatedAt()
			if err := s.note(ctx, &b, r, "CreateProductAccessRequestMessage", "", "", map[string]any{"number": m.Number}); err != nil {
				return err
			}
			return b.Run(ctx, s.store.db, tx)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	s.jobs.Kick()
	return resp, nil
}

// ListMessages lists the messages of a request, oldest first. Fails:
// REQUEST_NOT_FOUND.
func (s *operators) ListMessages(ctx context.Context, req *marketplacev1.ListMessagesRequest) (*marketplacev1.ListMessagesResponse, error) {
	if _, err := s.requests.Store.Get(ctx, s.store.db, req.GetRequestId()); err != nil {
		return nil, err
	}
	all, next, err := s.listMessages(ctx, req, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	return &marketplacev1.ListMessagesResponse{Messages: all, NextPageToken: next}, nil
}
