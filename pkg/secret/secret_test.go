package secret_test

import (
	"bytes"
	"sync"
	"testing"

	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

func TestGet(t *testing.T) {
	series := []sqldb.Migrations{secret.Migrations("a"), secret.Migrations("b")}
	sqldbtest.ForEach(t, "a", series, func(t *testing.T, db *sqldb.DB) {
		get := func(unit, name string, size int) []byte {
			key, err := secret.Get(t.Context(), db, unit, name, size)
			if err != nil || len(key) != size {
				t.Errorf("Get(%s, %s) = %x, %v", unit, name, key, err)
			}
			return key
		}
		// All processes start at once.
		keys := make([][]byte, 8)
		var wg sync.WaitGroup
		for i := range keys {
			wg.Go(func() { keys[i] = get("a", "page", 32) })
		}
		wg.Wait()
		for _, k := range keys {
			if !bytes.Equal(k, keys[0]) {
				t.Fatalf("two callers got %x and %x", keys[0], k)
			}
		}
		if bytes.Equal(keys[0], make([]byte, 32)) {
			t.Error("the key is all zeros")
		}
		if bytes.Equal(get("a", "other", 32), keys[0]) || bytes.Equal(get("b", "page", 32), keys[0]) {
			t.Error("another name or unit has the same key")
		}
		if _, err := secret.Get(t.Context(), db, "a", "page", 16); err == nil {
			t.Error("a key of another size was accepted")
		}
		if _, err := secret.Get(t.Context(), db, "nobody", "page", 16); err == nil {
			t.Error("a unit without a table got a key")
		}
	})
}
