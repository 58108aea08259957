package accessbindings

import (
	"context"
	"database/sql"
	"errors"

	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// sweep ends the requests whose time is over, and those that have lost what they were
// for. The checker allows nothing by them from the moment on at which that was so.
func (s *RoleRequests) sweep(ctx context.Context) error {
	expired := func(ctx context.Context, tx *sql.Tx, r request.Request) error {
		return s.leave(ctx, tx, r, request.Act{Action: request.Expire, Side: request.System}, "", 0)
	}
	return errors.Join(s.engine.Sweep(ctx, expired), s.endStale(ctx))
}

// staleBatch is how many requests are looked at at once.
const staleBatch = 1000

// endStale is RQ-7 [ours]: a request ends with its resource, when that goes to another
// organization, when its requester leaves, and when the role is taken away by hand.
func (s *RoleRequests) endStale(ctx context.Context) error {
	for after := ""; ; {
		all, err := s.engine.Store.LiveAfter(ctx, s.committer.db, after, staleBatch)
		if err != nil || len(all) == 0 {
			return err
		}
		if err := s.graph.fault(); err != nil {
			return err
		}
		view := s.graph.View() // not older than what was read: what is settled is in it
		for _, r := range all {
			if reason := s.stale(view, r); reason != "" {
				if err := s.end(ctx, r.ID, reason); err != nil {
					return err
				}
			}
		}
		after = all[len(all)-1].ID
	}
}

// stale says why a request has lost what it was for; "" when it has not.
func (s *RoleRequests) stale(view *checker.View, r request.Request) string {
	on, who := checker.Resource(r.Thing), checker.Subject(r.Requester)
	path := view.Path(on)
	switch {
	case r.At(s.now()).State != r.State:
		return "" // it has ended by itself
	case len(path) == 0:
		return "the resource is gone"
	case rootOf(path) != r.Scope:
		return "the resource has gone to another organization"
	case view.State(who) != checker.Suspended && !belongs(who, view, r.Scope): // a suspended one is not asked
		return "the requester is not of the organization any more"
	case r.State == request.Approved && r.Settled && !view.Bound(on, r.Aspect, who, nowMicros(s.now)):
		return "the role was taken away"
	default:
		return ""
	}
}

// end ends a live request by the unit itself, and takes back what it gave.
func (s *RoleRequests) end(ctx context.Context, requestID, reason string) error {
	var ticket *jobs.Ticket
	err := sqldb.InTx(ctx, s.committer.db, func(ctx context.Context, tx *sql.Tx) error {
		ticket = nil
		r, a, changed, err := s.engine.End(ctx, tx, requestID, reason)
		if err != nil || !changed {
			return err
		}
		if err := s.leave(ctx, tx, r, a, "", 0); err != nil || r.Settled {
			return err
		}
		t, err := s.engine.Settle(ctx, tx, requestID, "")
		ticket = &t
		return err
	})
	if err != nil || ticket == nil {
		return err
	}
	return s.jobs.Do(ctx, *ticket)
}
