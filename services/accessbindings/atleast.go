package accessbindings

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/revision"
)

// Refusals of a revision that a check is to be no older than.
var (
	errRevisionForm  = apierr.InvalidField(access.AtLeastHeader, "must be one value as %s of an answer has it", access.RevisionTrailer)
	errRevisionField = apierr.InvalidField("at_least_revision", "must be a revision as %s of an answer has it", access.RevisionTrailer)
	errRevisionAhead = apierr.New(codes.OutOfRange, "REVISION_UNKNOWN", "no write has made that revision yet")
	errRevisionLine  = apierr.Precondition("REVISION_LOST", "the revision is of a state of the store that is lost: it was restored, or lost commits")
	errRevisionLate  = apierr.Unavailable(apierr.ReasonCheckerUnavailable, "this replica has not seen that revision yet, try again")
)

// atLeastWait bounds the wait for a revision that another replica has made.
const atLeastWait = 2 * time.Second

func (l line) at(number int64) revision.Revision {
	return revision.Revision{Epoch: l.Epoch, Line: l.Number, Number: number}
}

// asksAtLeast reports whether a call carries a revision.
func asksAtLeast(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, access.AtLeastHeader)) > 0
}

// atLeast returns when the graph is no older than the revision that a call carries in its
// metadata, and than the one of a field at_least_revision; at once when there is none.
// Fails: INVALID_ARGUMENT, OUT_OF_RANGE beyond the head, FAILED_PRECONDITION for a
// revision of a lost line, UNAVAILABLE.
func (c *committer) atLeast(ctx context.Context, field string) error {
	if field != "" {
		if err := c.noOlder(ctx, field, errRevisionField); err != nil {
			return err
		}
	}
	switch values := metadata.ValueFromIncomingContext(ctx, access.AtLeastHeader); len(values) {
	case 0:
		return nil
	case 1:
		return c.noOlder(ctx, values[0], errRevisionForm)
	default:
		return errRevisionForm
	}
}

// noOlder returns when the graph is no older than a revision.
func (c *committer) noOlder(ctx context.Context, token string, malformed error) error {
	asked, ok := revision.Parse(token)
	if !ok {
		return malformed
	}
	of, number := line{asked.Epoch, asked.Line}, asked.Number
	if err := c.graph.fault(); err != nil {
		return err
	}
	was := c.graph.at()
	switch {
	case was.line.before(of):
		return c.ahead(ctx, of)
	case was.line != of:
		return errRevisionLine
	case was.revision >= number:
		return nil
	}
	if h, err := c.store.head(ctx, c.db, false); err != nil {
		return err
	} else if h.line == of && h.Revision < number {
		return errRevisionAhead
	}
	wait, cancel := context.WithTimeout(ctx, atLeastWait)
	defer cancel()
	switch err := c.graph.await(wait, of, number); {
	case err == nil:
		return nil
	case c.graph.now() != of:
		return errRevisionLine
	case ctx.Err() != nil:
		return ctx.Err()
	case wait.Err() != nil:
		return errRevisionLate
	default:
		return err
	}
}

// ahead is the refusal of a revision of a line that the graph does not follow, and might
// come to: another replica has noticed before this one that the store has begun it.
func (c *committer) ahead(ctx context.Context, of line) error {
	switch h, err := c.store.head(ctx, c.db, false); {
	case err != nil:
		return err
	case h.line == of:
		return errRevisionLate
	default:
		return errRevisionLine
	}
}
