package access

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/bindery-iam/bindery/pkg/revision"
)

// RevisionTrailer is the trailer of a write of deciding facts that names the revision
// which is in force with its answer: an opaque text to callers (revision.Revision).
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

// NoteUnary is the interceptor of calls to other units: it notes what the trailers tell of
// those that keep the facts, or that have had them changed.
func NoteUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if !revision.Taken(ctx) {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	var trailer metadata.MD
	err := invoke(ctx, method, req, reply, cc, append(opts[:len(opts):len(opts)], grpc.Trailer(&trailer))...)
	if err == nil {
		for _, text := range trailer.Get(RevisionTrailer) {
			if r, ok := revision.Parse(text); ok {
				revision.Note(ctx, r)
			}
		}
	}
	return err
}
