// Package revision names the states of the deciding facts, and carries them from where
// they are written to whoever is told of them.
package revision

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Revision is a state of the deciding facts: a number on one line of the store. A
// restored backup begins another epoch, and a database that lost commits another line.
type Revision struct{ Epoch, Line, Number int64 }

// String is the form in which callers carry it.
func (r Revision) String() string { return fmt.Sprintf("%d.%d.%d", r.Epoch, r.Line, r.Number) }

// Parse reads what String has written.
func Parse(text string) (r Revision, ok bool) {
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

// Noted is the latest revision that is noted in a context, false when there is none.
func Noted(ctx context.Context) (Revision, bool) {
	n, ok := ctx.Value(notesKey{}).(*Notes)
	if !ok {
		return Revision{}, false
	}
	return n.Latest()
}

// Taken reports whether a context is one of NewContext.
func Taken(ctx context.Context) bool { return ctx.Value(notesKey{}) != nil }

// Tell writes a revision into the field revision of the metadata of an operation, and
// reports whether it has one: those of our own packages whose work changes deciding facts.
func Tell(metadata proto.Message, r Revision) bool {
	m := metadata.ProtoReflect()
	fd := m.Descriptor().Fields().ByName("revision")
	if fd == nil || fd.Kind() != protoreflect.StringKind {
		return false
	}
	m.Set(fd, protoreflect.ValueOfString(r.String()))
	return true
}
