package backup

import (
	"context"
	"database/sql"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// A backup streams: what is held in memory does not grow with what is backed up.
func TestMemoryIsBounded(t *testing.T) {
	const rows, allowed = 96, 32 << 20 // rows of a MiB; bytes on top of what there was, which the collector may be late for
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			g := newTarget(t, engine)
			g.migrate(units())
			db := g.open("")
			defer db.Close()
			text := strings.Repeat("0123456789abcdef", 1<<16)
			err := sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
				for range rows {
					if _, err := tx.ExecContext(ctx, `INSERT INTO `+db.Qualified("book", "book_log")+` (text) VALUES ($1)`, text); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "backup")
			if grown := growth(func() {
				if _, err := Create(t.Context(), path, db, units(), "v1", madeAt); err != nil {
					t.Error(err)
				}
			}); grown > allowed {
				t.Errorf("a backup of %d MiB held %d MiB", rows, grown>>20)
			}
			into := newTarget(t, engine)
			into.migrate(units())
			target := into.open("")
			defer target.Close()
			if grown := growth(func() { restore(t, target, path, Options{Now: madeAt}) }); grown > allowed {
				t.Errorf("a restore of %d MiB held %d MiB", rows, grown>>20)
			}
		})
	}
}

// growth returns how much more is alive at most while f runs.
func growth(f func()) int64 {
	live := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := live()
	var most atomic.Int64
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			most.Store(max(most.Load(), live()-before))
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	f()
	close(done)
	<-ended
	return most.Load()
}
