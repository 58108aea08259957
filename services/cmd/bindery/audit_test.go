package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// TestAU1_AU2_AU3_AU4_AU8_EveryWriteIsRecorded makes every call of the fixtures once, as somebody
// who gets in, and reads what it left in the trails of all units: a write its
// records, each once, a read nothing. Every type of event is one of the rules, or
// listed as ours.
func TestAU1_AU2_AU3_AU4_AU8_EveryWriteIsRecorded(t *testing.T) {
	db := sqldbtest.Open(t, sqldb.SQLite, "bindery", nil)
	w := newAccessWorld(t, db)
	trails := &trails{w: w, db: db, last: map[string]int64{}}
	for i, r := range allRPCs() {
		c, ok := w.admitted(r)
		if !ok || r.inside != 0 {
			continue
		}
		requestID := fmt.Sprintf("audited-%d", i)
		err := invoke(metadata.AppendToOutgoingContext(c.ctx, "x-request-id", requestID), c.conn, r.method, r.request(c.target))
		if err != nil {
			t.Errorf("%s: %v", r.name(), status.Convert(err))
			continue
		}
		var seen []string
		for _, rec := range trails.recorded(requestID) {
			event := strings.TrimPrefix(rec.EventType, "bindery.audit.")
			if !eventsOfRules[event] && eventsOfOurs[event] == "" {
				t.Errorf("%s leaves %s: no event of rules AU-1 to AU-7; if that is right, list it in eventsOfOurs and say why", r.name(), event)
			}
			if top := rootOf(rec); top != string(organization) && top != "iam.userAccount" && outside[event] == "" && rootless[r.name()] == "" {
				t.Errorf("%s leaves %s on a path that begins with %q: the trail of the organization lacks it", r.name(), event, top)
			}
			if seen = append(seen, event+" "+string(rec.EventStatus)+" "+leaf(rec)); slices.Contains(seen[:len(seen)-1], seen[len(seen)-1]) {
				t.Errorf("%s leaves %s twice", r.name(), seen[len(seen)-1])
			}
		}
		switch wrote := len(seen) > 0; {
		case wrote && isRead(r.method):
			t.Errorf("%s is a read by its name and leaves %q", r.name(), seen)
		case !wrote && !isRead(r.method) && silent[r.method] == "":
			t.Errorf("%s leaves no record", r.name())
		}
	}
}

// admitted returns a caller that gets in.
func (w *accessWorld) admitted(r rpc) (caller, bool) {
	w.t.Helper()
	all := w.callers(r)
	slices.Reverse(all)
	i := slices.IndexFunc(all, func(c caller) bool { return c.in })
	if i < 0 {
		return caller{}, false
	}
	return all[i], true
}

// trails reads the records of all units as they are written.
type trails struct {
	w    *accessWorld
	db   *sqldb.DB
	last map[string]int64 // number read last, by unit
}

// recorded returns the records that a request has left since the last call.
func (tr *trails) recorded(requestID string) []audit.Record {
	tr.w.t.Helper()
	var all []audit.Record
	for _, u := range units() {
		if !audit.Kept(u.Name, u.Migrations) {
			continue
		}
		all = append(all, tr.recordedBy(u.Name, requestID)...)
	}
	return all
}

// recordedBy returns those in the trail of a unit.
func (tr *trails) recordedBy(unit, requestID string) []audit.Record {
	tr.w.t.Helper()
	var all []audit.Record
	rows, err := tr.db.QueryContext(tr.w.t.Context(), `SELECT number, record FROM `+unit+`_audit WHERE number > $1 ORDER BY number`, tr.last[unit])
	tr.w.must(err)
	defer rows.Close()
	for rows.Next() {
		var number int64
		var text string
		var rec audit.Record
		tr.w.must(rows.Scan(&number, &text))
		tr.w.must(json.Unmarshal([]byte(text), &rec))
		if tr.last[unit] = number; rec.RequestMetadata.RequestID == requestID {
			all = append(all, rec)
		}
	}
	tr.w.must(rows.Err())
	return all
}

// rootOf is the type of what the path of a record begins with, "" for none.
func rootOf(rec audit.Record) string {
	if len(rec.ResourceMetadata.Path) == 0 {
		return ""
	}
	return rec.ResourceMetadata.Path[0].Type
}

// leaf is the id of what a record is about, "" for the installation.
func leaf(rec audit.Record) string {
	path := rec.ResourceMetadata.Path
	if len(path) == 0 {
		return ""
	}
	return path[len(path)-1].ID
}

// isRead reports whether a method only reads, by its name.
func isRead(method string) bool {
	_, name, _ := strings.Cut(method, "/")
	return slices.ContainsFunc(reads, func(verb string) bool { return strings.HasPrefix(name, verb) })
}
