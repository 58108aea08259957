package access

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// RevisionTrailer is the trailer of a write of deciding facts that names the revision
// which is in force with its answer: an opaque text to callers (Revision).
const RevisionTrailer = "bindery-revision"

// AtLeastHeader is the metadata of a check that is to be answered from that revision or
// a later one. Every answer is from after all that was acknowledged when it was asked;
// so this is for who asks two replicas one after the other and wants no going back.
const AtLeastHeader = "bindery-at-least-revision"

// AtLeast returns a context whose calls carry a revision, as RevisionTrailer has it, for
// checks that are to be answered from no earlier one.
func AtLeast(ctx context.Context, revision string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, AtLeastHeader, revision)
}

// Revision is a state of the deciding facts: a number on one line of the store. A
// restored backup begins another epoch, and a database that lost commits another line.
type Revision struct{ Epoch, Line, Number int64 }

// String is the form in which callers carry it.
func (r Revision) String() string { return fmt.Sprintf("%d.%d.%d", r.Epoch, r.Line, r.Number) }

// ParseRevision reads what String has written.
func ParseRevision(text string) (r Revision, ok bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return Revision{}, false
	}
	for i, into := range []*int64{&r.Epoch, &r.Line, &r.Number} {
		n, err := strconv.ParseInt(parts[i], 10, 64)
		if err != nil || n < 0 || strconv.FormatInt(n, 10) != parts[i] {
			return Revision{}, false
		}
		*into = n
	}
	return r, true
}

// before reports whether another revision is a later one.
func (r Revision) before(other Revision) bool {
	switch {
	case r.Epoch != other.Epoch:
		return r.Epoch < other.Epoch
	case r.Line != other.Line:
		return r.Line < other.Line
	default:
		return r.Number < other.Number
	}
}

// Notes gathers the revisions that come with the writes of one call, here or in the unit
// that keeps the facts. It is safe for concurrent use.
type Notes struct {
	mu  sync.Mutex
	any bool
	max Revision
}

type notesKey struct{}

// NewContext returns a context in which Note adds to notes.
func NewContext(ctx context.Context, notes *Notes) context.Context {
	return context.WithValue(ctx, notesKey{}, notes)
}

// Note notes a revision that is in force, in a context of NewContext.
func Note(ctx context.Context, r Revision) {
	n, ok := ctx.Value(notesKey{}).(*Notes)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.any || n.max.before(r) {
		n.any, n.max = true, r
	}
}

// Latest returns the latest of the revisions, false when there is none.
func (n *Notes) Latest() (Revision, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.max, n.any
}

// NoteUnary is the interceptor of calls to the unit that keeps the facts: it notes what
// their trailers tell.
func NoteUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if ctx.Value(notesKey{}) == nil {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	var trailer metadata.MD
	err := invoke(ctx, method, req, reply, cc, append(opts[:len(opts):len(opts)], grpc.Trailer(&trailer))...)
	if err == nil {
		for _, text := range trailer.Get(RevisionTrailer) {
			if r, ok := ParseRevision(text); ok {
				Note(ctx, r)
			}
		}
	}
	return err
}
