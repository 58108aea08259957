package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/bindery-iam/bindery/pkg/checker"
	checkerfacts "github.com/bindery-iam/bindery/pkg/checker/facts"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// sends sends facts, changes and grants.
func (c *feed) sends(ctx context.Context, anew bool) error {
	for {
		var err error
		if anew {
			if err = c.snapshot(ctx); err != nil {
				return err
			}
		}
		entries, ok, more := c.followers.after(c.follower)
		if !ok {
			if entries, err = c.fromLog(ctx); errors.Is(err, errTooOld) {
				anew, err = true, c.again(ctx)
				if err == nil {
					continue
				}
			}
			if err != nil {
				return err
			}
		}
		if c.follower.of != c.committer.graph.now() { // what was read may be of another line
			return errLineLost
		}
		if anew, err = c.revisions(entries); err != nil {
			return err
		}
		if anew {
			if err := c.again(ctx); err != nil {
				return err
			}
			continue
		}
		if err := c.grant(); err != nil {
			return err
		}
		if len(entries) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.followers.stopping:
			return c.leave(ctx)
		case <-more:
		case <-c.follower.wake:
		}
	}
}

// fromLog reads what the tail does not reach back to.
func (c *feed) fromLog(ctx context.Context) (entries []followed, err error) {
	err = c.read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		h, err := c.committer.store.head(ctx, q, false)
		if err != nil {
			return err
		}
		if h.line != c.follower.of {
			return errLineLost
		}
		if h.Revision-c.follower.scanned > maxWindow {
			return errTooOld
		}
		if entries, err = c.committer.store.window(ctx, q, c.catalog, c.follower.scanned); err != nil {
			return err
		}
		if len(entries) == 0 && h.Revision > c.follower.scanned {
			return errTooOld
		}
		return nil
	})
	return entries, err
}

// revisions sends what is for the follower; anew is true at a change for which it has to
// begin anew.
func (c *feed) revisions(entries []followed) (anew bool, err error) {
	var last *accessv1.Position // of revisions with nothing for it that it was not told
	for _, e := range entries {
		var facts []checker.Change
		for _, s := range e.changes {
			send, anew := c.filter.pick(s)
			if anew {
				return true, nil
			}
			if send {
				facts = append(facts, s.Change)
			}
		}
		at := c.position(e.revision, e.line)
		c.followers.scan(c.follower, e.revision, len(facts) > 0)
		if len(facts) == 0 {
			last = at
			continue
		}
		last = nil
		if err := c.revision(at, facts); err != nil {
			return false, err
		}
		if err := c.grant(); err != nil {
			return false, err
		}
	}
	if last == nil {
		return false, nil
	}
	c.followers.progress()
	return false, c.revision(last, nil)
}

// revision sends the changes of one revision, in parts.
func (c *feed) revision(at *accessv1.Position, facts []checker.Change) error {
	for {
		part := facts[:min(len(facts), chunkFacts)]
		facts = facts[len(part):]
		changes, err := encode(part)
		if err != nil {
			return err
		}
		r := &accessv1.FollowResponse_Revision{Changes: changes, Position: at, More: len(facts) > 0}
		if err := c.send(&accessv1.FollowResponse{Event: &accessv1.FollowResponse_Revision_{Revision: r}}); err != nil {
			return err
		}
		if len(facts) == 0 {
			return nil
		}
	}
}

func (c *feed) position(revision int64, line string) *accessv1.Position {
	return &accessv1.Position{Epoch: c.committer.graph.now().Epoch, Revision: revision, Line: line, Catalog: c.contents.GetFingerprint()}
}

// grant sends the answer to the latest report, if there is one.
func (c *feed) grant() error {
	g := c.followers.take(c.follower)
	if g == nil {
		return nil
	}
	return c.send(&accessv1.FollowResponse{Event: &accessv1.FollowResponse_Grant_{Grant: &accessv1.FollowResponse_Grant{
		Sequence: g.sequence, DurationMicros: g.duration.Microseconds(), Time: stamp(g.now),
	}}})
}

// again tells the follower to begin anew, and waits until it has no right any more.
func (c *feed) again(ctx context.Context) error {
	c.followers.begin(c.follower)
	if err := c.send(c.beginning(true)); err != nil {
		return err
	}
	tick := time.NewTicker(c.followers.terms.Renew)
	defer tick.Stop()
	for !c.followers.free(c.follower) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.followers.stopping:
			return c.leave(ctx)
		case <-c.follower.wake:
		case <-tick.C:
		}
	}
	return nil
}

// leave asks the follower to go elsewhere.
func (c *feed) leave(ctx context.Context) error {
	c.leaving.Store(true)
	if err := c.send(&accessv1.FollowResponse{Event: &accessv1.FollowResponse_Leave_{Leave: &accessv1.FollowResponse_Leave{}}}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-c.left:
	case <-time.After(leavingTime):
	}
	return errStopped
}

// snapshot sends the facts of one revision. Few are read at once, since each holds a
// transaction for as long as its follower takes to read it.
func (c *feed) snapshot(ctx context.Context) error {
	select {
	case c.reading <- struct{}{}:
		defer func() { <-c.reading }()
	case <-ctx.Done():
		return ctx.Err()
	case <-c.followers.stopping:
		return errStopped
	}
	var part []checker.Change
	flush := func(at *accessv1.Position) error {
		changes, err := encode(part)
		if err != nil {
			return err
		}
		part = part[:0]
		return c.send(&accessv1.FollowResponse{Event: &accessv1.FollowResponse_Facts_{Facts: &accessv1.FollowResponse_Facts{Changes: changes, Position: at}}})
	}
	put := func(f checker.Change) error {
		if part = append(part, f); len(part) < chunkFacts {
			return nil
		}
		return flush(nil)
	}
	var h head
	err := c.read(ctx, func(ctx context.Context, q sqldb.Querier) (err error) {
		if h, err = c.committer.store.head(ctx, q, false); err != nil {
			return err
		}
		if c.filter.organization != "" {
			c.filter.foreign, err = c.committer.store.organizationFacts(ctx, q, c.catalog, c.filter.organization, put)
			return err
		}
		for f, err := range c.committer.store.facts(ctx, q, c.catalog) {
			if err != nil {
				return err
			}
			if err := put(f); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if h.line != c.follower.of { // the graph has not noticed yet; what it tells next does not go with this
		return errLineLost
	}
	c.followers.snapshot(c.follower, h.Revision)
	return flush(c.position(h.Revision, h.WriteID))
}

// read runs fn on one moment of the store.
func (c *feed) read(ctx context.Context, fn func(context.Context, sqldb.Querier) error) error {
	return sqldb.Snapshot(ctx, c.committer.db, func(ctx context.Context, tx *sql.Tx) error { return fn(ctx, tx) })
}

func encode(facts []checker.Change) ([]*accessv1.Change, error) {
	out := make([]*accessv1.Change, len(facts))
	for i, f := range facts {
		var err error
		if out[i], err = checkerfacts.Encode(f); err != nil {
			return nil, err
		}
	}
	return out, nil
}
