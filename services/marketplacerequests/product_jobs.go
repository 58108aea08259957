package marketplacerequests

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Jobs of products.
const (
	jobPlaceProduct  = "place-product"
	jobSettleProduct = "settle-product"
)

// productJob is their payload. Grant is the number of the grant to everybody that is
// to be given or ended, 0 for none.
type productJob struct {
	Operation string `json:"operation,omitempty"`
	Product   string `json:"product"`
	Grant     int64  `json:"grant,omitempty"`
}

// roleUser lets its holder install a product (MR-2).
const roleUser = "marketplace.products.user"

// placeProduct is the job that puts a product into the tree.
func (s *Service) placeProduct(ctx context.Context, job productJob) error {
	p, err := s.store.Product(ctx, s.store.db, job.Product)
	if err != nil || p.Placed {
		return ignoreGone(err)
	}
	_, err = s.tree.RegisterResource(server.AsUnit(ctx), &accessv1.RegisterResourceRequest{
		Resource: &accessv1.Resource{Type: typeProduct, Id: p.ID}, Parent: &accessv1.Resource{Type: typePublisher, Id: p.PublisherID},
	})
	cause := apierr.FromRPC(err)
	if cause != nil && !final(cause) {
		return cause
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if cause != nil { // its publisher was not there yet, or no more
			if err := s.store.DeleteProduct(ctx, tx, p.ID); err != nil {
				return err
			}
			return s.operations.Fail(ctx, tx, job.Operation, nil, errParentDeleted.WithCause(cause))
		}
		p, err := s.store.LockProduct(ctx, tx, p.ID)
		if err != nil {
			return ignoreGone(err)
		}
		p.Placed = true
		if err := s.store.UpdateProduct(ctx, tx, p); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, p.proto())
	})
}

// settles says what a change of a product has to make true, and numbers the grant by
// which everybody has access; nil when nothing has.
func (p *Product) settles(before Product) *productJob {
	job := &productJob{Product: p.ID}
	open := p.State == Approved && p.Access == Public
	switch {
	case open && p.Opened == 0:
		p.Openings++
		p.Opened = p.Openings
		job.Grant = p.Opened
	case !open && p.Opened != 0:
		job.Grant, p.Opened = p.Opened, 0
	}
	if job.Grant != 0 || p.State == Archived && before.State != Archived || p.Access != before.Access {
		return job
	}
	return nil
}

// settleMost is how many requests one execution of the job ends; it goes on in
// another one.
const settleMost = 200

// settleProduct is the job that makes a change of access or state true: the grant to
// everybody, and what becomes of requests (MR-19, MR-20).
func (s *Service) settleProduct(ctx context.Context, job productJob) error {
	p, err := s.store.Product(ctx, s.store.db, job.Product)
	if err != nil {
		return ignoreGone(err)
	}
	if job.Grant != 0 {
		if err := s.open(ctx, p, job.Grant); err != nil && !final(err) {
			return fmt.Errorf("grant access to everybody: %w", err)
		}
	}
	more, err := s.endRequests(ctx, p)
	if err != nil {
		return err
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if more {
			_, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobSettleProduct, Payload: job, NotBefore: time.Now()})
			return err
		}
		if job.Operation == "" {
			return nil
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, p.proto())
	})
}

// open gives the numbered grant to everybody while it is the product's, and ends it
// once it is not.
func (s *Service) open(ctx context.Context, p Product, number int64) error {
	id := fmt.Sprintf("%s:%d", p.ID, number)
	on := &accessv1.Resource{Type: typeProduct, Id: p.ID}
	b := &accessv1.AccessBinding{RoleId: roleUser, Subject: &accessv1.Subject{Type: "system", Id: "allAuthenticatedUsers"}}
	var err error
	if p.Opened == number {
		_, err = s.grants.PutGrant(server.AsUnit(ctx), &accessv1.PutGrantRequest{GrantId: id, Resource: on, AccessBinding: b})
	} else {
		_, err = s.grants.EndGrant(server.AsUnit(ctx), &accessv1.EndGrantRequest{GrantId: id, Resource: on, AccessBinding: b})
	}
	return apierr.FromRPC(err)
}

// endRequests ends the requests that a product has no place for any more; more says
// that there are some left. A request that is decided meanwhile is met again.
func (s *Service) endRequests(ctx context.Context, p Product) (more bool, err error) {
	var ends []request.State
	switch {
	case p.State == Archived:
		ends = []request.State{request.Pending, request.Approved}
	case p.Access == Public:
		ends = []request.State{request.Pending}
	}
	left := settleMost
	for _, state := range ends {
		for left > 0 {
			query := request.Query{Thing: p.thing(), State: state, Now: s.now(), Oldest: true}
			all, err := s.requests.Store.List(ctx, s.store.db, query, page.Position{}, left)
			if err != nil || len(all) == 0 {
				if err != nil {
					return false, err
				}
				break
			}
			for _, r := range all {
				if err := s.end(ctx, r.ID, "the product is "+map[bool]string{true: "archived", false: "available to all"}[p.State == Archived]); err != nil {
					return false, err
				}
			}
			left -= len(all)
		}
	}
	return left <= 0, nil
}

// end ends a live request by the platform itself: a pending one is cancelled, an
// approved one revoked, and what it gave taken back.
func (s *Service) end(ctx context.Context, requestID, reason string) error {
	var ticket *jobs.Ticket
	err := sqldb.InBatches(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		ticket = nil
		var b sqldb.Batch
		r, a, changed, err := s.requests.EndIn(ctx, tx, &b, requestID, reason)
		if err != nil || !changed {
			return err
		}
		if err := s.acted(ctx, &b, r, a, "", ""); err != nil {
			return err
		}
		if !r.Settled {
			if ticket, err = s.requests.SettleIn(&b, requestID, ""); err != nil {
				return err
			}
		}
		return b.Commit(ctx, s.store.db, tx)
	})
	if err != nil || ticket == nil {
		return err
	}
	return s.jobs.Do(ctx, *ticket)
}
