package accessbindings

import (
	"context"
	"database/sql"
	"slices"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// maxExpired bounds one write of the sweep, so that others wait little.
const maxExpired = 200

// expireBindings is the intent of the sweep: the sources that have ended go.
type expireBindings struct{ record *audit.Record }

func (in *expireBindings) plan(ctx context.Context, on *state) (plan, error) {
	ended, err := on.expired(ctx, on.tx, on.now, maxExpired)
	if err != nil {
		return plan{}, err
	}
	var changes []*accessv1.Change
	for _, h := range ended {
		bindings, err := on.bindingsOn(ctx, on.tx, h.On, []string{h.Role})
		if err != nil {
			return plan{}, err
		}
		for _, b := range bindings {
			if slices.ContainsFunc(b.Sources, func(s Source) bool { return !s.current(on.now) }) {
				changes = append(changes, bindingChange(h.On, b, on.now))
			}
		}
	}
	if len(changes) == 0 {
		return plan{}, nil
	}
	return plan{changes: changes, record: onPath(in.record, nil, changes)}, nil
}

// expire drops what has ended, in as many writes as it takes; none while this process must
// not answer, and may not know what time it is for the store.
func (c *committer) expire(ctx context.Context) error {
	if !c.graph.answers() {
		return nil
	}
	self := authn.NewContext(ctx, authn.Principal{Unit: Name})
	for {
		r, err := c.submit(ctx, &expireBindings{record: recordOf(self, eventSource, "ExpireAccessBindings")})
		if err != nil || !r.changed {
			return err
		}
	}
}

// forget drops the ids of revoked tokens after their end, when the leeway that
// verifiers allow has passed too.
func (c *committer) forget(ctx context.Context) error {
	before := sqldb.Micros(c.now().Add(-2 * authn.Leeway))
	err := sqldb.InTx(ctx, c.db, func(ctx context.Context, tx *sql.Tx) error {
		return c.store.forget(ctx, tx, before)
	})
	if err == nil {
		c.graph.Forget(before)
	}
	return err
}
