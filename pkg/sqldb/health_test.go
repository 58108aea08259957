package sqldb_test

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

func TestUnsafe(t *testing.T) {
	warnings, err := sqldb.Unsafe(t.Context(), sqldbtest.Open(t, sqldb.SQLite, "kit", nil))
	if err != nil || len(warnings) != 0 {
		t.Errorf("SQLite: %q, %v", warnings, err)
	}
	for _, tt := range []struct{ commit, want string }{
		{"on", ""},
		{"remote_apply", ""},
		{"local", ""}, // nobody stands by
		{"off", "synchronous_commit is off"},
	} {
		db, err := sqldb.Open(t.Context(), sqldb.Config{URL: with(t, sqldbtest.URL(t), func(u *url.URL, q url.Values) { q.Set("synchronous_commit", tt.commit) })})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		warnings, err := sqldb.Unsafe(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(warnings, "\n")
		if strings.Contains(got, "synchronous_commit") != (tt.want != "") || !strings.Contains(got, tt.want) {
			t.Errorf("with %s: %q, want %q", tt.commit, got, tt.want)
		}
	}
}

func TestUnequal(t *testing.T) {
	sqldbtest.ForEach(t, "kit", series, func(t *testing.T, db *sqldb.DB) {
		faults, err := sqldb.Unequal(t.Context(), db, "kit")
		if err != nil || len(faults) != 0 {
			t.Errorf("our own tables: %q, %v", faults, err)
		}
		folding := `CREATE TABLE folded (name TEXT COLLATE NOCASE UNIQUE)`
		if db.Engine() == sqldb.PostgreSQL {
			exec(t, db, `CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`)
			folding = `CREATE TABLE folded (name TEXT COLLATE nocase UNIQUE)`
		}
		exec(t, db, folding)
		faults, err = sqldb.Unequal(t.Context(), db, "kit")
		if err != nil || !strings.Contains(strings.ToLower(strings.Join(faults, "\n")), "folded.name has the collation nocase") {
			t.Errorf("a folding column: %q, %v", faults, err)
		}
	})
}

// A database that cannot hold every text is found out before one is refused.
func TestUnequalEncoding(t *testing.T) {
	here := sqldbtest.URL(t)
	admin, err := sqldb.Open(t.Context(), sqldb.Config{URL: here})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	latin := fmt.Sprintf("latin_%d", os.Getpid())
	if _, err := admin.Pool().ExecContext(t.Context(), `CREATE DATABASE `+latin+` TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`); err != nil {
		t.Fatal(err)
	}
	defer admin.Pool().Exec(`DROP DATABASE ` + latin + ` WITH (FORCE)`)
	db, err := sqldb.Open(t.Context(), sqldb.Config{URL: with(t, here, func(u *url.URL, _ url.Values) { u.Path = "/" + latin })})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	faults, err := sqldb.Unequal(t.Context(), db)
	if err != nil || len(faults) != 1 || !strings.Contains(faults[0], "LATIN1") {
		t.Errorf("faults %q, %v", faults, err)
	}
}

// with returns a URL with something about it changed.
func with(t *testing.T, raw string, change func(*url.URL, url.Values)) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	change(u, q)
	u.RawQuery = q.Encode()
	return u.String()
}
