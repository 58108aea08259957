package accessbindings

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

func updateRequest(r Ref, deltas ...*accessv1.AccessBindingDelta) *accessv1.UpdateAccessBindingsRequest {
	return &accessv1.UpdateAccessBindingsRequest{Resource: r.proto(), AccessBindingDeltas: deltas}
}

// keyed updates bindings with an idempotency key.
func (w *world) keyed(as Subject, key string, r Ref, deltas ...*accessv1.AccessBindingDelta) (*operationpb.Operation, error) {
	ctx := metadata.AppendToOutgoingContext(w.Subject(as.Type, as.ID), idempotency.Header, key)
	return w.bindings.UpdateAccessBindings(ctx, updateRequest(r, deltas...))
}

func (w *world) mustKeyed(as Subject, key string, r Ref, deltas ...*accessv1.AccessBindingDelta) *operationpb.Operation {
	w.t.Helper()
	op, err := w.keyed(as, key, r, deltas...)
	w.must(err)
	return op
}

// sameAnswer checks that two answers are one.
func sameAnswer(t *testing.T, first, second *operationpb.Operation) {
	t.Helper()
	if diff := cmp.Diff(first, second, protocmp.Transform()); diff != "" {
		t.Errorf("the replay was answered otherwise (-first +replay):\n%s", diff)
	}
}

func TestIdempotencyKey(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		revision := func() int64 { return w.service.committer.graph.Revision() }
		first := w.mustKeyed(adam, "k", folder1, add(viewer, vera))
		at := revision()
		sameAnswer(t, first, w.mustKeyed(adam, "k", folder1, add(viewer, vera)))
		if revision() != at {
			t.Error("the replay took a revision")
		}
		_, err := w.keyed(adam, "k", folder1, remove(viewer, vera))
		refused(t, err, codes.InvalidArgument, idempotency.ReasonReused)

		// The replay tells of the first call, and makes nothing new.
		w.mustUpdate(adam, folder1, remove(viewer, vera))
		sameAnswer(t, first, w.mustKeyed(adam, "k", folder1, add(viewer, vera)))
		if w.allowed(vera, getFolder, folder1) {
			t.Error("the replay granted again")
		}

		if op := w.mustKeyed(carl, "k", folder1, add(viewer, vera)); op.GetId() == first.GetId() || op.GetCreatedBy() != carl.ID || !w.allowed(vera, getFolder, folder1) {
			t.Errorf("another caller's same key was answered %v", op)
		}
		_, err = w.keyed(nick, "k", folder1, add(viewer, vera))
		refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)

		// Authorization runs again: what adam may not do any more is not answered.
		w.mustUpdate(olga, cloud1, remove(admin, adam))
		_, err = w.keyed(adam, "k", folder1, add(viewer, vera))
		refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.sameAsStore()
	})
}

func TestIdempotencyKeyOfARefusal(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ghost := user("ghost")
		_, err := w.keyed(adam, "k", folder1, add(viewer, ghost))
		refused(t, err, codes.NotFound, ReasonSubjectNotFound)
		w.know(ghost)
		first := w.mustKeyed(adam, "k", folder1, add(viewer, ghost))
		sameAnswer(t, first, w.mustKeyed(adam, "k", folder1, add(viewer, ghost)))
	})
}

func TestIdempotencyKeyIsKeptForADay(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		first := w.mustKeyed(adam, "k", folder1, add(viewer, vera))
		w.clock.advance(idempotency.Kept - time.Hour)
		sameAnswer(t, first, w.mustKeyed(adam, "k", folder1, add(viewer, vera)))
		w.clock.advance(2 * time.Hour)
		w.mustKeyed(adam, "k", folder1, remove(viewer, vera)) // another request by now
		if w.allowed(vera, getFolder, folder1) {
			t.Error("the key still stood for the old request")
		}
	})
}

// The key tells how a commit ended that the process did not live to see.
func TestIdempotencyKeyFindsALostCommit(t *testing.T) {
	for name, attempt := range map[string]func(context.Context, *sqldb.DB, func(context.Context, *sql.Tx) error) error{
		"committed": committed, "rolled back": rolledBack,
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *testing.T, w *world) {
				stop := w.service.committer.stop
				w.script(func(ctx context.Context, db *sqldb.DB, fn func(context.Context, *sql.Tx) error) error {
					err := attempt(ctx, db, fn)
					stop()
					return err
				}, unreachable)
				_, err := w.keyed(adam, "k", folder1, add(viewer, vera))
				refused(t, err, codes.Unavailable, apierr.ReasonUnavailable)
				w.Stop()

				again := serve(t, w.db)
				before := again.service.committer.graph.Revision()
				op := again.mustKeyed(adam, "k", folder1, add(viewer, vera))
				sameAnswer(t, op, again.mustKeyed(adam, "k", folder1, add(viewer, vera)))
				if made := again.service.committer.graph.Revision() - before; made != 0 == (name == "committed") {
					t.Errorf("%d revisions after the restart", made)
				}
				if !again.allowed(vera, getFolder, folder1) {
					t.Error("the change is not in force")
				}
				again.sameAsStore()
			})
		})
	}
}

// A replay of what another process has written waits until it is in force here.
func TestIdempotencyKeyOfAnotherProcess(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		g, err := w.service.committer.store.load(t.Context(), testCatalog(t))
		w.must(err)
		other := newCommitter(w.db, g, w.service.operations, w.clock.now, w.service.log)
		other.start()
		defer other.close()
		elsewhere := *w.service.bindings
		elsewhere.committer = other
		elsewhere.bounded = &bounded{committer: other, limits: elsewhere.bounded.limits}

		req := updateRequest(folder1, add(viewer, vera))
		who := authn.Principal{Type: adam.Type, ID: adam.ID}
		key, err := idempotency.New(who, accessv1.AccessBindingService_UpdateAccessBindings_FullMethodName, []string{"k"}, req)
		w.must(err)
		first, err := elsewhere.UpdateAccessBindings(idempotency.NewContext(authn.NewContext(t.Context(), who), key), req)
		w.must(err)
		if w.allowed(vera, getFolder, folder1) {
			t.Fatal("known here before anybody told")
		}
		sameAnswer(t, first, w.mustKeyed(adam, "k", folder1, add(viewer, vera)))
		if !w.allowed(vera, getFolder, folder1) {
			t.Error("the replay told of what is not in force")
		}
		w.sameAsStore()
	})
}

func TestIdempotencyKeyConcurrently(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		const keys, calls = 12, 10 // as many calls at once as are let in
		before := w.service.committer.graph.Revision()
		answers := make([][]*operationpb.Operation, keys)
		for i := range answers {
			answers[i] = make([]*operationpb.Operation, calls)
		}
		var all sync.WaitGroup
		for i := range keys * calls {
			all.Go(func() {
				// Odd ones remove, so that a second effect would show as well.
				change := add(viewer, vera)
				if i%keys%2 == 1 {
					change = remove(viewer, vera)
				}
				op, err := w.keyed(adam, fmt.Sprint("k", i%keys), folder1, change)
				if err != nil {
					t.Error(err)
				}
				answers[i%keys][i/keys] = op
			})
		}
		all.Wait()
		for _, of := range answers {
			for _, op := range of[1:] {
				sameAnswer(t, of[0], op)
			}
		}
		if made := w.service.committer.graph.Revision() - before; made != keys {
			t.Errorf("%d revisions for %d keys", made, keys)
		}
		w.sameAsStore()
	})
}
