package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// serveUnits runs all units over a database.
func serveUnits(t *testing.T, db *sqldb.DB, change func(*server.Options)) *servertest.World {
	t.Helper()
	c, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	return servertest.Start(t, servertest.Options{Units: units(), DB: db, Catalog: c, Change: change})
}

// httpGet returns the code and the body of an answer.
func httpGet(t testing.TB, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // read whole
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// documentedMetric is a row of the README's table of metrics.
var documentedMetric = regexp.MustCompile("(?m)^\\| `(bindery_[a-z_]+)` \\|(.*)\\|$")

// sample is a line of a scrape: the name, which for a histogram is that of the whole,
// and the labels.
var (
	sample = regexp.MustCompile(`(?m)^(bindery_[a-z_]+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? `)
	label  = regexp.MustCompile(`(\w+)="`)
)

// TestMetricsAreDocumented holds the README's table to what a process of all units
// answers: each metric has a row with its labels, and each row a metric.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	for _, m := range documentedMetric.FindAllStringSubmatch(string(text), -1) {
		rows[m[1]] = m[2]
	}
	sqldbtest.ForEach(t, "bindery", nil, func(t *testing.T, db *sqldb.DB) {
		w := serveUnits(t, db, func(o *server.Options) { o.Version = "v1.2.3" })
		httpGet(t, "http://"+w.HTTPAddr()+"/resource-manager/v1/clouds")
		code, body := httpGet(t, "http://"+w.OpsAddr()+"/metrics")
		if code != http.StatusOK || !strings.Contains(body, `version="v1.2.3"`) {
			t.Errorf("/metrics answers %d, want 200 with the version of the program", code)
		}
		scraped := make(map[string]bool)
		for _, m := range sample.FindAllStringSubmatch(body, -1) {
			name := m[1]
			if !scraped[name] && rows[name] == "" {
				t.Errorf("%s is not in the README's table", name)
			}
			scraped[name] = true
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				if l[1] != "le" && !strings.Contains(rows[name], "`"+l[1]+"`") {
					t.Errorf("the row of %s does not name its label %s", name, l[1])
				}
			}
		}
		for name := range rows {
			if here := db.Shared() || !strings.Contains(rows[name], "on PostgreSQL"); scraped[name] != here {
				t.Errorf("the README's table names %s: expected here %t, found %t", name, here, scraped[name])
			}
		}
	})
}

func TestProfilerIsThereWhenAskedFor(t *testing.T) {
	for _, on := range []bool{false, true} {
		w := serveUnits(t, sqldbtest.Open(t, sqldb.SQLite, "bindery", nil), func(o *server.Options) { o.Pprof = on })
		code, _ := httpGet(t, "http://"+w.OpsAddr()+"/debug/pprof/heap")
		if (code == http.StatusOK) != on {
			t.Errorf("pprof %v: the ops port answers %d", on, code)
		}
		if code, _ := httpGet(t, "http://"+w.HTTPAddr()+"/debug/pprof/heap"); code == http.StatusOK {
			t.Errorf("pprof %v: REST serves profiles", on)
		}
		if code, _ := httpGet(t, "http://"+w.OpsAddr()+"/debug/pprof/cmdline"); code == http.StatusOK {
			t.Errorf("pprof %v: the command line is shown", on)
		}
	}
}
