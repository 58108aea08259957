package idempotency_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

const create = "/yandex.cloud.resourcemanager.v1.FolderService/Create"

var (
	olga = authn.Principal{Type: authn.UserAccount, ID: "olga"}
	carl = authn.Principal{Type: authn.UserAccount, ID: "carl"}
)

// with returns the context of a call.
func with(t *testing.T, who authn.Principal, method, key string, req proto.Message) context.Context {
	t.Helper()
	k, err := idempotency.New(who, method, []string{key}, req)
	if err != nil {
		t.Fatal(err)
	}
	return idempotency.NewContext(t.Context(), k)
}

// world is a unit whose writes count themselves.
type world struct {
	t     *testing.T
	db    *sqldb.DB
	store *idempotency.Store
	ahead atomic.Int64
	made  atomic.Int64
}

func forEach(t *testing.T, f func(t *testing.T, w *world)) {
	sqldbtest.ForEach(t, "unit", []sqldb.Migrations{idempotency.Migrations("unit")}, func(t *testing.T, db *sqldb.DB) {
		w := &world{t: t, db: db}
		w.store = idempotency.NewStore(db, "unit", func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) })
		f(t, w)
	})
}

// write makes an operation, unless ctx replays.
func (w *world) write(ctx context.Context, refusal error) (opID string, again bool, err error) {
	err = sqldb.InTx(ctx, w.db, func(ctx context.Context, tx *sql.Tx) error {
		opID, again, err = w.store.Operation(ctx, tx, func() (string, error) {
			if refusal != nil {
				return "", refusal
			}
			return fmt.Sprintf("op%d", w.made.Add(1)), nil
		})
		return err
	})
	return opID, again, err
}

// answer makes a message with a secret, unless ctx replays.
func (w *world) answer(ctx context.Context) (answer *identityv1.CreateUserResponse, again bool, err error) {
	answer = new(identityv1.CreateUserResponse)
	err = sqldb.InTx(ctx, w.db, func(ctx context.Context, tx *sql.Tx) error {
		again, err = w.store.Answer(ctx, tx, answer, func() error {
			answer.Id, answer.OauthToken = fmt.Sprintf("usr%d", w.made.Add(1)), "once-shown-secret"
			return nil
		})
		return err
	})
	return answer, again, err
}

// wantWrite runs a write and checks which operation it is answered by.
func (w *world) wantWrite(what string, ctx context.Context, opID string, again bool) {
	w.t.Helper()
	got, replayed, err := w.write(ctx, nil)
	if err != nil || got != opID || replayed != again {
		w.t.Errorf("%s: %s, again %t, %v; want %s, again %t", what, got, replayed, err, opID, again)
	}
}

func (w *world) rows() (n int) {
	w.t.Helper()
	if err := w.db.QueryRowContext(w.t.Context(), `SELECT COUNT(*) FROM unit_idempotency`).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestReplay(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		one := &rmv1.CreateFolderRequest{CloudId: "c", Name: "one", Labels: map[string]string{"a": "1", "b": "2", "c": "3"}}
		key := func(who authn.Principal, method, key string) context.Context { return with(t, who, method, key, one) }
		w.wantWrite("first", key(olga, create, "k"), "op1", false)
		for range 5 { // maps have no order
			w.wantWrite("again", with(t, olga, create, "k", proto.Clone(one)), "op1", true)
		}
		w.wantWrite("another caller", key(carl, create, "k"), "op2", false)
		w.wantWrite("another type of caller", key(authn.Principal{Type: authn.ServiceAccount, ID: "olga"}, create, "k"), "op3", false)
		w.wantWrite("a unit", key(authn.Principal{Unit: "olga"}, create, "k"), "op4", false)
		w.wantWrite("for a subject", key(authn.Principal{Type: authn.UserAccount, ID: "olga", Unit: "partner"}, create, "k"), "op1", true)
		w.wantWrite("another method", key(olga, create+"Other", "k"), "op5", false)
		w.wantWrite("another key", key(olga, create, "K"), "op6", false)
		w.wantWrite("no key", t.Context(), "op7", false)
		w.wantWrite("no key again", t.Context(), "op8", false)

		_, _, err := w.write(with(t, olga, create, "k", &rmv1.CreateFolderRequest{CloudId: "c", Name: "two"}), nil)
		e, ok := apierr.As(err)
		if !ok || e.Code != codes.InvalidArgument || e.Reason != idempotency.ReasonReused || len(e.Fields) != 1 || e.Fields[0].Name != idempotency.Header {
			t.Errorf("another request: %v, want INVALID_ARGUMENT with %s on %s", err, idempotency.ReasonReused, idempotency.Header)
		}
		w.wantWrite("after that", key(olga, create, "k"), "op1", true)

		opID, err := w.store.Find(key(olga, create, "k"))
		if opID != "op1" || err != nil {
			t.Errorf("Find = %q, %v; want op1", opID, err)
		}
		for what, ctx := range map[string]context.Context{
			"of another caller": key(nick, create, "k"), "without a key": t.Context(),
			"of another request": with(t, olga, create, "k", &rmv1.CreateFolderRequest{}),
		} {
			if opID, err := w.store.Find(ctx); opID != "" || err != nil {
				t.Errorf("Find %s = %q, %v; want nothing", what, opID, err)
			}
		}
	})
}

var nick = authn.Principal{Type: authn.UserAccount, ID: "nick"}

func TestRefusedKeepsNothing(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ctx := with(t, olga, create, "k", &rmv1.CreateFolderRequest{})
		refusal := errors.New("not now")
		if _, _, err := w.write(ctx, refusal); !errors.Is(err, refusal) {
			t.Errorf("refused: %v", err)
		}
		if n := w.rows(); n != 0 {
			t.Errorf("%d rows after a refusal, want none", n)
		}
		w.wantWrite("retried", ctx, "op1", false)
		err := sqldb.InTx(ctx, w.db, w.store.Forget)
		if err != nil {
			t.Fatal(err)
		}
		w.wantWrite("taken back", ctx, "op2", false)
	})
}

func TestKeptForADay(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ctx := with(t, olga, create, "k", &rmv1.CreateFolderRequest{})
		other := with(t, olga, create, "k", &rmv1.CreateFolderRequest{Name: "other"})
		w.wantWrite("first", ctx, "op1", false)
		w.ahead.Store(int64(idempotency.Kept - time.Minute))
		if err := w.store.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		w.wantWrite("a minute before", ctx, "op1", true)
		w.ahead.Add(int64(2 * time.Minute))
		if opID, err := w.store.Find(ctx); opID != "" || err != nil {
			t.Errorf("Find a minute after = %q, %v; want nothing", opID, err)
		}
		w.wantWrite("a minute after, another request", other, "op2", false)
		w.wantWrite("kept anew", other, "op2", true)
		for i := range 1200 { // more than one transaction of the sweep
			if _, _, err := w.write(with(t, carl, create, fmt.Sprint(i), &rmv1.CreateFolderRequest{}), nil); err != nil {
				t.Fatal(err)
			}
			if i == 1100 {
				w.ahead.Add(int64(time.Hour))
			}
		}
		w.ahead.Add(int64(idempotency.Kept - time.Minute))
		if err := w.store.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if n := w.rows(); n != 99 {
			t.Errorf("%d rows after the sweep, want the 99 young ones", n)
		}
	})
}

// Concurrent transactions with one key, as those of several processes: one has the
// effect, the others are answered by it, also when some are refused before.
func TestConcurrent(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		const keys, calls = 20, 10
		var mu sync.Mutex
		got := map[int]map[string]bool{}
		var wg sync.WaitGroup
		for i := range keys * calls {
			ctx := with(t, olga, create, fmt.Sprint(i%keys), &rmv1.CreateFolderRequest{})
			wg.Go(func() {
				var refusal error
				if i < keys { // one of each key
					refusal = errors.New("refused")
				}
				opID, _, err := w.write(ctx, refusal)
				if err != nil {
					if refusal == nil {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if got[i%keys] == nil {
					got[i%keys] = map[string]bool{}
				}
				got[i%keys][opID] = true
			})
		}
		wg.Wait()
		for i := range keys {
			if len(got[i]) != 1 {
				t.Errorf("key %d was answered by %v, want one operation", i, got[i])
			}
		}
		if n := w.rows(); n != keys {
			t.Errorf("%d rows, want %d", n, keys)
		}
	})
}

func TestAnswerIsSealed(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		const key = "3f6c1c0e-7a55-4b5e-9d46-5f4c0c4f4a10"
		ctx := with(t, olga, create, key, &identityv1.CreateUserRequest{Login: "vera"})
		first, again, err := w.answer(ctx)
		if err != nil || again || first.GetId() != "usr1" {
			t.Fatalf("first: %v, again %t, %v", first, again, err)
		}
		second, again, err := w.answer(ctx)
		if err != nil || !again || !proto.Equal(first, second) {
			t.Errorf("again: %v, again %t, %v; want %v", second, again, err, first)
		}
		if _, _, err := w.answer(with(t, olga, create, key, &identityv1.CreateUserRequest{Login: "nick"})); apierr.ReasonOf(err) != idempotency.ReasonReused {
			t.Errorf("another request: %v", err)
		}
		var ref, request, sealed []byte
		err = w.db.QueryRowContext(ctx, `SELECT ref, request, answer FROM unit_idempotency`).Scan(&ref, &request, &sealed)
		if err != nil || len(sealed) == 0 {
			t.Fatalf("row: %x, %v", sealed, err)
		}
		for _, secret := range []string{first.GetOauthToken(), first.GetId(), key, "vera", "olga"} {
			if bytes.Contains(append(append(ref, request...), sealed...), []byte(secret)) {
				t.Errorf("the row shows %q", secret)
			}
		}
		// What another key sealed, and what was touched, is not an answer.
		for what, value := range map[string][]byte{"touched": append(bytes.Clone(sealed[:len(sealed)-1]), sealed[len(sealed)-1]^1), "cut": sealed[:4], "none": nil} {
			if _, err := w.db.Pool().ExecContext(ctx, `UPDATE unit_idempotency SET answer = $1`, value); err != nil {
				t.Fatal(err)
			}
			if _, _, err := w.answer(ctx); apierr.CodeOf(err) != codes.Internal {
				t.Errorf("%s: %v, want an internal error", what, err)
			}
		}
	})
}

// What was answered is known before the write, for as long as its key is kept.
func TestAnswered(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ctx := with(t, olga, create, "k", &identityv1.CreateUserRequest{Login: "vera"})
		answered := func(ctx context.Context, want *identityv1.CreateUserResponse, reason string) {
			t.Helper()
			got := new(identityv1.CreateUserResponse)
			known, err := w.store.Answered(ctx, got)
			if known != (want != nil) || apierr.ReasonOf(err) != reason || want != nil && !proto.Equal(got, want) {
				t.Errorf("Answered = %t, %v, %v; want %v, reason %q", known, got, err, want, reason)
			}
		}
		answered(ctx, nil, "")
		first, _, err := w.answer(ctx)
		if err != nil {
			t.Fatal(err)
		}
		answered(ctx, first, "")
		answered(t.Context(), nil, "")
		answered(with(t, olga, create, "k", &identityv1.CreateUserRequest{Login: "nick"}), nil, idempotency.ReasonReused)
		answered(with(t, olga, create, "other", &identityv1.CreateUserRequest{Login: "vera"}), nil, "")
		w.ahead.Store(int64(idempotency.Kept + time.Minute))
		answered(ctx, nil, "")
	})
}

func TestNew(t *testing.T) {
	for _, values := range [][]string{{""}, {" "}, {"a b"}, {"a\tb"}, {"ключ"}, {"a\x7f"}, {strings.Repeat("a", idempotency.MaxLength+1)}, {"a", "a"}} {
		k, err := idempotency.New(olga, create, values, &rmv1.CreateFolderRequest{})
		e, ok := apierr.As(err)
		if k != nil || !ok || e.Code != codes.InvalidArgument || len(e.Fields) != 1 || e.Fields[0].Name != idempotency.Header {
			t.Errorf("%q: %v, %v; want INVALID_ARGUMENT on %s", values, k, err, idempotency.Header)
		}
	}
	for _, value := range []string{"a", "~", "!", strings.Repeat("a", idempotency.MaxLength)} {
		k, err := idempotency.New(olga, create, []string{value}, &rmv1.CreateFolderRequest{})
		if err != nil || k == nil || strings.Contains(fmt.Sprintf("%v %+v %s", k, k, k), value+" ") {
			t.Errorf("%q: %v, %v; want a key that does not show itself", value, k, err)
		}
	}
	if k, err := idempotency.New(olga, create, nil, &rmv1.CreateFolderRequest{}); k != nil || err != nil {
		t.Errorf("without the header: %v, %v", k, err)
	}
}

func TestPassOn(t *testing.T) {
	sent := func(ctx context.Context) []string {
		md, _ := metadata.FromOutgoingContext(idempotency.PassOn(ctx))
		return md.Get(idempotency.Header)
	}
	if got := sent(t.Context()); len(got) != 0 {
		t.Errorf("without a key %q is passed on", got)
	}
	seen := map[string]bool{}
	for _, method := range []string{create, create + "Other"} {
		for _, key := range []string{"k", "K"} {
			a, b := sent(with(t, olga, method, key, &rmv1.CreateFolderRequest{})), sent(with(t, olga, method, key, &rmv1.CreateFolderRequest{Name: "x"}))
			if len(a) != 1 || len(b) != 1 || a[0] != b[0] {
				t.Fatalf("%s %s: passed on as %q and %q, want one key", method, key, a, b)
			}
			if _, err := idempotency.New(olga, method, a, &rmv1.CreateFolderRequest{}); err != nil {
				t.Errorf("%q is no key: %v", a, err)
			}
			seen[a[0]] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d derived keys of two methods and two keys, want 4", len(seen))
	}
}

func TestTurns(t *testing.T) {
	key := func(text string) *idempotency.Key {
		k, err := idempotency.New(olga, create, []string{text}, &rmv1.CreateFolderRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	var turns idempotency.Turns
	first, err := turns.Take(t.Context(), key("k"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := turns.Take(t.Context(), key("other"))
	if err != nil {
		t.Fatalf("another key waits: %v", err)
	}
	other()
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := turns.Take(short, key("k")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second turn: %v, want it to wait", err)
	}
	var inside, most atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			done, err := turns.Take(t.Context(), key("k"))
			if err != nil {
				t.Error(err)
				return
			}
			most.Store(max(most.Load(), inside.Add(1)))
			time.Sleep(time.Millisecond) // room for another to come in, were it let
			inside.Add(-1)
			done()
		})
	}
	first()
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d calls of one key at once, want 1", most.Load())
	}
}
