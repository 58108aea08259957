package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	codepb "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// accessTable says what every kind of caller gets from every RPC: one row for
// each, below the name of the RPC and what it wants of its caller.
const accessTable = "testdata/access.txt"

var updateAccess = flag.Bool("update", false, "rewrite "+accessTable+" from what the process answered")

// TestAccess calls every registered RPC of the whole process, over real
// connections, as every kind of caller. Each answer is judged twice: by the guard
// of the RPC's fixture, read from the catalogue without the process's help, and by
// the table, which a person has reviewed row by row. So -update cannot write a
// wrong allow into the table and pass.
func TestAccess(t *testing.T) {
	sqldbtest.ForEach(t, "bindery", nil, func(t *testing.T, db *sqldb.DB) {
		w := newAccessWorld(t, db)
		served := w.served()
		for _, name := range missing(served) {
			t.Errorf("%s is served and nobody has said who may call it: add a fixture to access_rpcs_test.go", name)
		}
		got := make(table)
		for _, r := range allRPCs() {
			if !slices.Contains(served, r.method) {
				t.Errorf("%s has a fixture and is not served: remove it from access_rpcs_test.go", r.method)
				continue
			}
			got[r.name()] = w.judge(r)
		}
		if *updateAccess {
			got.write(t)
		}
		readTable(t).compare(t, got)
	})
}

// missing returns the served methods without a fixture.
func missing(served []string) []string {
	fixtures := make(map[string]bool)
	for _, r := range allRPCs() {
		fixtures[r.method] = true
	}
	return slices.DeleteFunc(slices.Clone(served), func(m string) bool { return fixtures[m] })
}

// judge calls one RPC as everybody and returns its rows.
func (w *accessWorld) judge(r rpc) []row {
	rows := []row{{"wants", r.wants()}}
	for _, c := range w.callers(r) {
		err := invoke(c.ctx, c.conn, r.method, r.request(c.target))
		if code := status.Code(err); c.in && code != r.inside || !c.in && !r.refused(code) {
			w.t.Errorf("%s as %q: answered %s, and by the catalogue the caller must %s\n  in full: %v",
				r.name(), c.label, outcome(err), map[bool]string{true: "get in", false: "be refused"}[c.in], err)
		}
		rows = append(rows, row{c.label, outcome(err)})
	}
	return rows
}

// refused reports whether a code keeps a caller out. On the public port the
// operator's methods do not exist.
func (r rpc) refused(code codes.Code) bool {
	return code == codes.Unauthenticated || code == codes.PermissionDenied || r.operator && code == codes.Unimplemented
}

// outcome is an answer as the table shows it: the code, and why.
func outcome(err error) string {
	st := status.Convert(err)
	text := codepb.Code(st.Code()).String()
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			text += " " + info.GetReason()
		}
	}
	return text
}

// row is one line of the table: a kind of caller and what it gets.
type row struct{ caller, outcome string }

// table holds the rows of each RPC by its name.
type table map[string][]row

// names are those of both tables, in order.
func (want table) names(got table) []string {
	var names []string
	for name := range want {
		names = append(names, name)
	}
	for name := range got {
		if _, both := want[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// compare reports every row that is missing, extra or different.
func (want table) compare(t *testing.T, got table) {
	t.Helper()
	for _, name := range want.names(got) {
		if len(got[name]) == 0 {
			t.Errorf("%s: %s has rows for it and no fixture calls it: remove them", name, accessTable)
			continue
		}
		wanted := make(map[string]string)
		for _, r := range want[name] {
			wanted[r.caller] = r.outcome
		}
		for _, r := range got[name] {
			switch outcome, known := wanted[r.caller]; {
			case !known:
				t.Errorf("%s: no row for this caller; if that is right, add to %s:\n  %s", name, accessTable, r)
			case outcome != r.outcome:
				t.Errorf("%s as %q: got %s, and %s wants %s", name, r.caller, r.outcome, accessTable, outcome)
			}
			delete(wanted, r.caller)
		}
		for caller := range wanted {
			t.Errorf("%s: nobody called as %q: remove the row from %s", name, caller, accessTable)
		}
	}
}

// String is the row as the table has it.
func (r row) String() string { return fmt.Sprintf("%-66s  %s", r.caller, r.outcome) }

func (want table) write(t *testing.T) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Who gets what from every RPC: rewritten by go test -run TestAccess -update, reviewed line by line.\n")
	for _, name := range want.names(nil) {
		fmt.Fprintf(&b, "\n%s\n", name)
		for _, r := range want[name] {
			fmt.Fprintf(&b, "  %s\n", r)
		}
	}
	if err := os.WriteFile(accessTable, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

var rowPattern = regexp.MustCompile(`^  (\S.*?)\s{2,}(\S.*)$`)

// readTable reads the table strictly: every line is a comment, a name or a row,
// and no name or caller stands twice.
func readTable(t *testing.T) table {
	t.Helper()
	text, err := os.ReadFile(accessTable)
	if err != nil {
		t.Fatal(err)
	}
	want, name := make(table), ""
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		m := rowPattern.FindStringSubmatch(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case m == nil && !strings.HasPrefix(line, " "):
			if name = line; want[name] != nil {
				t.Fatalf("%s:%d: %s stands twice", accessTable, i+1, name)
			}
			want[name] = []row{}
		case m == nil || name == "":
			t.Fatalf("%s:%d: %q is no row", accessTable, i+1, line)
		case slices.ContainsFunc(want[name], func(r row) bool { return r.caller == m[1] }):
			t.Fatalf("%s:%d: %s has two rows for %q", accessTable, i+1, name, m[1])
		default:
			want[name] = append(want[name], row{m[1], m[2]})
		}
	}
	return want
}
