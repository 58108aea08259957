package thread_test

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	"github.com/bindery-iam/bindery/pkg/thread"
)

func forEach(t *testing.T, f func(t *testing.T, db *sqldb.DB, s *thread.Store)) {
	t.Helper()
	sqldbtest.ForEach(t, "desk", []sqldb.Migrations{thread.Migrations("desk")}, func(t *testing.T, db *sqldb.DB) {
		f(t, db, thread.NewStore(db, "desk"))
	})
}

func inTx(t *testing.T, db *sqldb.DB, fn func(context.Context, *sql.Tx) error) error {
	t.Helper()
	return sqldb.InTx(t.Context(), db, fn)
}

func open(t *testing.T, db *sqldb.DB, s *thread.Store, ids ...string) {
	t.Helper()
	for _, threadID := range ids {
		if err := inTx(t, db, func(ctx context.Context, tx *sql.Tx) error { return s.Open(ctx, tx, threadID) }); err != nil {
			t.Fatal(err)
		}
	}
}

func post(t *testing.T, db *sqldb.DB, s *thread.Store, threadID, side, text string) (m thread.Message, err error) {
	t.Helper()
	err = inTx(t, db, func(ctx context.Context, tx *sql.Tx) (err error) {
		m, err = s.Post(ctx, tx, thread.Message{Thread: threadID, Side: side, Author: thread.Author{Type: "userAccount", ID: "u-" + side}, Text: text, At: time.UnixMicro(7)})
		return err
	})
	return m, err
}

func TestTextOfMessages(t *testing.T) {
	for message, good := range map[string]bool{
		"a": true, strings.Repeat("ж", thread.MaxCharacters): true, "two\nlines": true,
		"": false, "\n\n \t": false, strings.Repeat("ж", thread.MaxCharacters+1): false, "nul\x00": false, "esc\x1b": false, "\u202Eturned": false, "\xff": false,
	} {
		if err := thread.Check("text", message); (err == nil) != good {
			t.Errorf("%.20q: %v, want good %v", message, err, good)
		}
	}
}

func TestMessagesAreNumberedAndCounted(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB, s *thread.Store) {
		open(t, db, s, "one", "other")
		for i, side := range []string{"asker", "asker", "answerer", "asker"} {
			m, err := post(t, db, s, "one", side, "text")
			if err != nil || m.Number != int64(i+1) {
				t.Fatalf("message %d: %+v %v", i, m, err)
			}
		}
		if _, err := post(t, db, s, "none", "asker", "text"); apierr.ReasonOf(err) != thread.ReasonNotFound {
			t.Errorf("a message to no thread: %v", err)
		}
		want := func(side string, sizes map[string]thread.Size) {
			t.Helper()
			got, err := s.Sizes(t.Context(), db, side, "one", "other", "none")
			if diff := cmp.Diff(sizes, got); err != nil || diff != "" {
				t.Errorf("sizes for %s: %v %s", side, err, diff)
			}
		}
		want("asker", map[string]thread.Size{"one": {Messages: 4}, "other": {}}) // who answers has read
		want("answerer", map[string]thread.Size{"one": {Messages: 4, Unread: 1}, "other": {}})
		want("watcher", map[string]thread.Size{"one": {Messages: 4, Unread: 4}, "other": {}})
		for _, number := range []int64{2, 1, 99} { // back is no way, and beyond the end is the end
			if err := inTx(t, db, func(ctx context.Context, tx *sql.Tx) error { return s.MarkRead(ctx, tx, "one", "watcher", number) }); err != nil {
				t.Fatal(err)
			}
			want("watcher", map[string]thread.Size{"one": {Messages: 4, Unread: map[int64]int64{2: 2, 1: 2, 99: 0}[number]}, "other": {}})
		}
		var numbers []int64
		for after := int64(0); ; {
			page, err := s.List(t.Context(), db, "one", after, 3)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, m := range page {
				numbers = append(numbers, m.Number)
				if m.Text != "text" || m.Author.ID != "u-"+m.Side || !m.At.Equal(time.UnixMicro(7)) {
					t.Errorf("message %+v", m)
				}
			}
			after = page[len(page)-1].Number
		}
		if diff := cmp.Diff([]int64{1, 2, 3, 4}, numbers); diff != "" {
			t.Error(diff)
		}
	})
}

// However many write at once, no number is taken twice, none is left out, and the
// thread ends at its bound.
func TestConcurrentMessagesFillAThread(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB, s *thread.Store) {
		open(t, db, s, "busy")
		if _, err := db.Pool().ExecContext(t.Context(), `UPDATE desk_threads SET messages = 980`); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		seen, full := map[int64]bool{}, 0
		var writers sync.WaitGroup
		for range 8 {
			writers.Go(func() {
				for range 4 {
					m, err := post(t, db, s, "busy", "asker", "text")
					mu.Lock()
					switch {
					case apierr.ReasonOf(err) == thread.ReasonFull:
						full++
					case err != nil:
						t.Error(err)
					case seen[m.Number]:
						t.Errorf("number %d twice", m.Number)
					default:
						seen[m.Number] = true
					}
					mu.Unlock()
				}
			})
		}
		writers.Wait()
		if len(seen) != 20 || full != 12 {
			t.Errorf("%d messages and %d refusals, want 20 and 12", len(seen), full)
		}
	})
}
