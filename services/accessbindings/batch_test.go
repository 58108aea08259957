package accessbindings

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
)

// together has intents wait until all of them do, in this order, and then made; and
// returns how each ended, and how many transactions it took. A transaction of nobody
// else's runs meanwhile.
func (w *world) together(ctxs []context.Context, intents ...intent) (ends []answer, transactions int) {
	w.t.Helper()
	return w.togetherBy(sqldb.InBatches, ctxs, intents...)
}

// togetherBy is together with a transaction that is run so.
func (w *world) togetherBy(commit txFunc, ctxs []context.Context, intents ...intent) (ends []answer, transactions int) {
	w.t.Helper()
	c := w.service.committer
	held, release := make(chan struct{}), make(chan struct{})
	c.inTx = func(ctx context.Context, db *sqldb.DB, fn func(context.Context, *sql.Tx) error) error {
		if transactions++; transactions > 1 {
			return sqldb.InBatches(ctx, db, fn)
		}
		close(held)
		<-release
		return commit(ctx, db, fn) // it takes those along that wait by now
	}
	var all sync.WaitGroup
	all.Go(func() { _ = c.expire(w.t.Context()) }) // an intent that finds nothing to do
	select {
	case <-held:
	case <-time.After(time.Minute):
		w.t.Fatal("nothing is written any more")
	}
	ends = make([]answer, len(intents))
	for i, in := range intents {
		ctx := w.t.Context()
		if i < len(ctxs) && ctxs[i] != nil {
			ctx = ctxs[i]
		}
		all.Go(func() { ends[i].result, ends[i].err = c.submit(ctx, in) })
		for len(c.queue) <= i {
			time.Sleep(100 * time.Microsecond) // until it stands in the queue
		}
	}
	close(release)
	all.Wait()
	c.inTx = sqldb.InBatches
	return ends, transactions
}

// wishing is the intent of UpdateAccessBindings.
func (w *world) wishing(as Subject, r Ref, wishes ...wish) *changeBindings {
	in := w.service.bindings.intent(w.t.Context(), r.proto(), "Update", wishes)
	in.caller.Subject = checker.Subject(as)
	in.metadata = &accesspb.UpdateAccessBindingsMetadata{ResourceId: r.ID}
	in.limits = limits{organizationBound(catalog.QuotaAccessBindings, org1.ID): 1000, organizationBound(catalog.QuotaAccessBindings, org2.ID): 1000}
	return in
}

func granting(role string, who Subject) wish { return wish{Pair: Pair{role, who}, Add: true} }
func revoking(role string, who Subject) wish { return wish{Pair: Pair{role, who}} }

func TestWritesThatWaitAreOneTransaction(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		const writes = 50
		var intents []intent
		for i := range writes {
			who := user(fmt.Sprintf("u%d", i))
			w.know(who)
			intents = append(intents, w.wishing(adam, folder1, granting(viewer, who)))
		}
		before := w.service.committer.graph.Revision()
		ends, transactions := w.together(nil, intents...)
		for i, end := range ends {
			if end.err != nil || end.revision != before+int64(i)+1 || !end.changed {
				t.Errorf("write %d: revision %d, %v; want %d", i, end.revision, end.err, before+int64(i)+1)
			}
		}
		if transactions > 1 {
			t.Errorf("%d writes took %d transactions", writes, transactions)
		}
		if got := len(w.list(adam, folder1, 7)); got != writes {
			t.Errorf("%d of %d pairs are listed", got, writes)
		}
		w.sameAsStore()
	})
}

// A write of a batch sees what those before it have made, the more so where it would
// be refused for that.
func TestWritesOfABatchSeeEachOther(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		gone := &setSubject{subject: nick, standing: standing{State: stateDeleted}, catalog: w.service.bindings.catalog, record: recordOf(t.Context(), "test", "Test")}
		full := w.wishing(adam, folder2, granting(viewer, vera))
		full.limits = limits{organizationBound(catalog.QuotaAccessBindings, org1.ID): 4} // three are there: olga, carl, adam
		ends, _ := w.together(nil,
			w.wishing(adam, folder1, granting(viewer, vera)),
			w.wishing(adam, folder1, granting(viewer, vera)), // finds it in place
			full,
			w.wishing(adam, folder1, revoking(viewer, vera)),
			w.wishing(adam, folder1, granting(editor, vera), granting(viewer, vera)),
			w.wishing(carl, cloud1, revoking(admin, adam)),
			w.wishing(adam, folder1, granting(viewer, nick)), // who is an admin no more
			gone,
			w.wishing(carl, folder1, granting(viewer, nick)), // who is no more
		)
		want := []string{"", "", exhausted, "", "", "", "PERMISSION_DENIED", "", ReasonSubjectNotFound}
		for i, end := range ends {
			if got := apierr.ReasonOf(end.err); got != want[i] || (end.err == nil) != (want[i] == "") {
				t.Errorf("write %d: %v, want %q", i, end.err, want[i])
			}
		}
		if n := len(w.list(olga, folder1, 0)); n != 2 {
			t.Errorf("%d pairs on the folder, want 2", n)
		}
		w.counted(org1)
		w.sameAsStore()
	})
}

// Who has a right by a group has it no more once an earlier write of the batch takes it
// from the group, be it one of everybody.
func TestWritesOfABatchSeeWhatGroupsLose(t *testing.T) {
	for name, holder := range map[string]Subject{
		"group": {}, "users of the organization": {"system", "group:organization:org1:users"}, "everybody": {"system", "allAuthenticatedUsers"},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *testing.T, w *world) {
				w.must(w.members(org1, []Subject{adam}, nil))
				holder := holder
				if holder == (Subject{}) {
					team := w.group(org1, "team")
					w.join(team, adam)
					holder = group(team.ID)
				}
				w.mustUpdate(olga, cloud1, add(admin, holder), remove(admin, adam))
				w.mustUpdate(adam, folder1, add(viewer, vera))
				ends, _ := w.together(nil,
					w.wishing(carl, cloud1, revoking(admin, holder)),
					w.wishing(adam, folder2, granting(viewer, vera)),
				)
				if got := apierr.ReasonOf(ends[1].err); ends[0].err != nil || got != "PERMISSION_DENIED" {
					t.Errorf("taken from the group: %v; then given by its member: %v", ends[0].err, ends[1].err)
				}
				w.sameAsStore()
			})
		})
	}
}

// The last owner stays when all of them go in one batch.
func TestOwnersOfOneBatchLeaveOne(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		const owners = 8
		var intents []intent
		for i := range owners {
			who := user(fmt.Sprintf("o%d", i))
			w.know(who)
			w.mustUpdate(carl, cloud1, add(cloudOwner, who))
			intents = append(intents, w.wishing(who, cloud1, revoking(cloudOwner, who)))
		}
		w.mustUpdate(carl, cloud1, remove(cloudOwner, carl))
		ends, _ := w.together(nil, intents...)
		for i, end := range ends {
			if last := i == owners-1; (apierr.ReasonOf(end.err) == "LAST_OWNER") != last || (end.err == nil) == last {
				t.Errorf("owner %d: %v", i, end.err)
			}
		}
		w.sameAsStore()
	})
}

// A key that comes twice in one batch is used once.
func TestAKeyTwiceInABatch(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		key := func(deltas ...*accessv1.AccessBindingDelta) context.Context {
			k, err := idempotency.New(authn.Principal{Type: adam.Type, ID: adam.ID}, "method", []string{"k"}, updateRequest(folder1, deltas...))
			w.must(err)
			return idempotency.NewContext(t.Context(), k)
		}
		same, other := key(add(viewer, vera)), key(add(viewer, nick))
		ends, _ := w.together([]context.Context{same, same, other, same},
			w.wishing(adam, folder1, granting(viewer, vera)),
			w.wishing(adam, folder1, granting(viewer, vera)),
			w.wishing(adam, folder1, granting(viewer, nick)),
			w.wishing(adam, folder1, granting(viewer, vera)),
		)
		if ends[0].err != nil || ends[1].err != nil || ends[3].err != nil || apierr.ReasonOf(ends[2].err) != idempotency.ReasonReused {
			t.Fatalf("ended with %v, %v, %v, %v", ends[0].err, ends[1].err, ends[2].err, ends[3].err)
		}
		if first := ends[0].operation.ID; first == "" || ends[1].operation.ID != first || ends[3].operation.ID != first || ends[1].changed || ends[3].changed {
			t.Errorf("the operations are %q, %q and %q", first, ends[1].operation.ID, ends[3].operation.ID)
		}
	})
}

// poison is refused by the database.
type poison struct{}

func (poison) plan(ctx context.Context, on *state) (plan, error) {
	_, err := on.tx.ExecContext(ctx, `INSERT INTO access_resources (type) VALUES (NULL)`)
	return plan{}, err
}

func TestOneRefusedWriteSpoilsNoOther(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		var intents []intent
		for i := range 20 {
			who := user(fmt.Sprintf("u%d", i))
			w.know(who)
			intents = append(intents, w.wishing(adam, folder1, granting(viewer, who)))
		}
		intents[3], intents[17] = poison{}, poison{}
		ends, _ := w.together(nil, intents...)
		for i, end := range ends {
			if bad := i == 3 || i == 17; (end.err != nil) != bad {
				t.Errorf("write %d: %v", i, end.err)
			}
		}
		if n := len(w.list(adam, folder1, 0)); n != 18 {
			t.Errorf("%d pairs, want 18", n)
		}
		w.sameAsStore()
	})
}

// A batch whose commit is not answered is read back as one.
func TestABatchOfUnknownOutcome(t *testing.T) {
	for name, commit := range map[string]txFunc{"committed": committed, "rolled back": rolledBack} {
		forEach(t, func(t *testing.T, w *world) {
			var intents []intent
			for i := range 5 {
				who := user(fmt.Sprintf("u%d", i))
				w.know(who)
				intents = append(intents, w.wishing(adam, folder1, granting(viewer, who)))
			}
			ends, _ := w.togetherBy(commit, nil, intents...)
			for i, end := range ends {
				if (end.err == nil) != (name == "committed") {
					t.Errorf("%s: write %d: %v", name, i, end.err)
				}
			}
			w.sameAsStore()
		})
	}
}
