package doctor_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	"github.com/bindery-iam/bindery/services/accessbindings"
	"github.com/bindery-iam/bindery/services/doctor"
	"github.com/bindery-iam/bindery/services/identity"
	"github.com/bindery-iam/bindery/services/resourcemanager"
)

// patient is an installation with a small world in it.
type patient struct {
	t    *testing.T
	url  string
	db   *sqldb.DB // to hurt it
	opts doctor.Options
}

// healthy is a world without anything wrong: an owner, an organization, a cloud
// with a folder, one that is being made, and one whose deletion waits.
const healthy = `
	INSERT INTO {accessbindings.access_revision} (one, revision, epoch) VALUES (1, 9, 1);
	INSERT INTO {identity.identity_epoch} (one, epoch) VALUES (1, 1);
	INSERT INTO {accessbindings.access_changes} (revision, seq, kind, payload, write_id, changed_at) VALUES (9, 0, 'k', $b, 'w', 0);
	INSERT INTO {accessbindings.access_resources} (type, id, parent_type, parent_id, removed) VALUES
		('organization-manager.organization', 'org1', '', '', 0),
		('resource-manager.cloud', 'cld1', 'organization-manager.organization', 'org1', 0),
		('resource-manager.folder', 'fld1', 'resource-manager.cloud', 'cld1', 0),
		('resource-manager.folder', 'fld2', 'resource-manager.cloud', 'cld1', 0),
		('resource-manager.folder', 'old', 'resource-manager.cloud', 'cld0', 7),
		('iam.serviceAccount', 'sac1', 'resource-manager.folder', 'fld1', 0);
	INSERT INTO {accessbindings.access_subjects} (type, id, state) VALUES ('userAccount', 'usr1', 1), ('userAccount', 'gone', 3), ('serviceAccount', 'sac1', 1), ('federatedUser', 'fus1', 1);
	INSERT INTO {identity.identity_service_accounts} (id, folder_id, cloud_id, name, description, labels, status, version, operation, created_by, created_at, expires_at, last_authenticated_at) VALUES
		('sac1', 'fld1', 'cld1', 'a', '', '{}', 'ACTIVE', 1, '', 'usr1', 0, 0, 0), ('sac2', 'fld1', 'cld1', 'b', '', '{}', 'CREATING', 1, 'oid1', 'usr1', 0, 0, 0),
		('sac3', 'old', 'cld1', 'c', '', '{}', 'ACTIVE', 1, '', 'usr1', 0, 0, 0);
	INSERT INTO {accessbindings.access_assignments} (organization_id, pairs) VALUES ('org1', 2);
	INSERT INTO {accessbindings.access_members} (container_type, container_id, subject_type, subject_id) VALUES
		('organization-manager.organization', 'org1', 'userAccount', 'usr1');
	INSERT INTO {accessbindings.access_bindings} (resource_type, resource_id, role_id, subject_type, subject_id, source_kind, source_id, expires_at, number) VALUES
		('resource-manager.cloud', 'cld1', 'viewer', 'userAccount', 'usr1', 1, '', 0, 1),
		('resource-manager.cloud', 'cld1', 'viewer', 'system', 'allUsers', 1, '', 0, 2);
	INSERT INTO {identity.identity_users} (id, login, login_folded, email, email_folded, state, created_at, last_authenticated_at) VALUES
		('usr1', 'a', 'a', 'a', 'a', 'ACTIVE', 0, 0), ('usr2', 'b', 'b', 'b', 'b', 'CREATING', 0, 0);
	INSERT INTO {identity.identity_users} (id, login, login_folded, email, email_folded, state, created_at, last_authenticated_at, federation_id) VALUES
		('fus1', 'c', 'c', '', '', 'ACTIVE', 0, 0, 'fed1');
	INSERT INTO {resourcemanager.resourcemanager_operations} (id, resource_type, resource_id, view_permission, description, created_by, created_at, modified_at, done) VALUES
		('orm1', 't', 'fld2', 'p', 'd', 'usr1', 5, 5, $false), ('orm0', 't', 'fld1', 'p', 'd', 'usr1', 5, 5, $true);
	INSERT INTO {resourcemanager.resourcemanager_resources} (id, kind, parent_id, name, title, description, labels, status, created_by, created_at, delete_after, operation) VALUES
		('org1', 'organization', NULL, 'o', '', '', '{}', 'ACTIVE', 'usr1', 0, 0, ''),
		('cld1', 'cloud', 'org1', 'c', '', '', '{}', 'ACTIVE', 'usr1', 0, 0, ''),
		('fld1', 'folder', 'cld1', 'f1', '', '', '{}', 'ACTIVE', 'usr1', 0, 0, ''),
		('fld2', 'folder', 'cld1', 'f2', '', '', '{}', 'PENDING_DELETION', 'usr1', 0, 9000000000000000000, 'orm1'),
		('fld3', 'folder', 'cld1', 'f3', '', '', '{}', 'CREATING', 'usr1', 0, 0, 'orm2');
	INSERT INTO {identity.goqite} (id, queue, body, timeout) VALUES ('m_1', 'identity', $b, '2999-01-01T00:00:00.000Z');`

// eachEngine runs f with a patient on either engine.
func eachEngine(t *testing.T, f func(t *testing.T, p *patient)) {
	for _, engine := range []sqldb.Engine{sqldb.SQLite, sqldb.PostgreSQL} {
		t.Run(string(engine), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			p := &patient{t: t, url: filepath.Join(dir, "bindery.db")}
			if engine == sqldb.PostgreSQL {
				p.url = sqldbtest.URL(t)
			}
			p.opts = doctor.Options{DataDir: dir, SealKey: filepath.Join(dir, secret.SealKeyFile), Now: time.Now, Open: func(ctx context.Context) (*sqldb.DB, error) {
				return sqldb.Open(ctx, sqldb.Config{URL: p.url, ReadOnly: true})
			}}
			for _, u := range []server.Unit{accessbindings.Unit(), identity.Unit(), resourcemanager.Unit()} {
				unit := doctor.Unit{Name: u.Name, Migrations: u.Migrations}
				if u.Name == identity.Name {
					unit.Sealed = identity.Sealed()
				}
				p.opts.Units = append(p.opts.Units, unit)
				db := p.open(u.Name)
				if err := sqldb.Migrate(t.Context(), db, u.Migrations...); err != nil {
					t.Fatal(err)
				}
				db.Close()
			}
			p.db = p.open("")
			t.Cleanup(func() { p.db.Close() })
			p.heal()
			f(t, p)
		})
	}
}

func (p *patient) open(schema string) *sqldb.DB {
	p.t.Helper()
	db, err := sqldb.Open(p.t.Context(), sqldb.Config{URL: p.url, Schema: schema, NoSync: true, MaxConns: 4})
	if err != nil {
		p.t.Fatal(err)
	}
	return db
}

// heal makes everything as it is in a healthy installation.
func (p *patient) heal() {
	p.t.Helper()
	var clear strings.Builder
	for _, u := range p.opts.Units {
		tables, err := sqldb.Layout(p.t.Context(), u.Migrations...)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, table := range slices.Backward(tables) {
			clear.WriteString("DELETE FROM {" + u.Name + "." + table.Name + "};")
		}
		versions, err := sqldb.Versions(u.Migrations...)
		if err != nil {
			p.t.Fatal(err)
		}
		for series, version := range versions {
			fmt.Fprintf(&clear, "UPDATE {%s.schema_versions} SET version = %d WHERE name = '%s';", u.Name, version, series)
		}
	}
	p.do(clear.String() + healthy)
}

// do runs statements whose tables are named as {unit.table}.
func (p *patient) do(statements string) {
	p.t.Helper()
	words := []string{"$b", "''::bytea", "$true", "true", "$false", "false", "'{}'", "'{}'"}
	if p.db.Engine() == sqldb.SQLite {
		words = []string{"$b", "x''", "$true", "1", "$false", "0", "'{}'", "'{}'"}
	}
	for _, u := range p.opts.Units {
		tables, err := sqldb.Layout(p.t.Context(), u.Migrations...)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, table := range append(tables, sqldb.Table{Name: "schema_versions"}) {
			words = append(words, "{"+u.Name+"."+table.Name+"}", p.db.Qualified(u.Name, table.Name))
		}
	}
	for s := range strings.SplitSeq(strings.NewReplacer(words...).Replace(statements), ";") {
		if strings.TrimSpace(s) == "" {
			continue
		}
		if _, err := p.db.Pool().ExecContext(p.t.Context(), s); err != nil {
			p.t.Fatalf("%s: %v", s, err)
		}
	}
}

// wrong is everything that is wrong, but what the test server of PostgreSQL is.
func (p *patient) wrong() string {
	var all []string
	for _, f := range doctor.Run(p.t.Context(), p.opts) {
		if f.State == doctor.Wrong && f.Check != "durability" {
			all = append(all, f.Check+": "+f.Text)
		}
	}
	return strings.Join(all, "\n")
}

func TestHealthy(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *patient) {
		if got := p.wrong(); got != "" {
			t.Errorf("a healthy installation:\n%s", got)
		}
	})
}

// Each thing that can be wrong is said, in words, and nothing else is.
func TestFacts(t *testing.T) {
	tests := []struct{ name, hurt, want string }{
		{"epochs", `UPDATE {identity.identity_epoch} SET epoch = 4`, "epoch: accessbindings is in epoch 1 and identity in 4"},
		{"revision", `UPDATE {accessbindings.access_revision} SET revision = 8`, "epoch: the revision is 8 and there is a change of revision 9"},
		{"orphan", `INSERT INTO {accessbindings.access_resources} VALUES ('x', 'leaf', 'resource-manager.folder', 'old', 0)`, "tree: resources below one that is not there: x leaf"},
		{"cycle", `INSERT INTO {accessbindings.access_resources} VALUES ('x', 'a', 'x', 'b', 0), ('x', 'b', 'x', 'a', 0)`, "tree: resources that stand below themselves: x a, x b"},
		{"binding on nothing", `UPDATE {accessbindings.access_bindings} SET resource_id = 'cld9' WHERE subject_id = 'usr1'; UPDATE {accessbindings.access_assignments} SET pairs = 1`, "bindings: bindings on resources that are not there: resource-manager.cloud cld9"},
		{"binding of nobody", `UPDATE {accessbindings.access_bindings} SET subject_id = 'usr9' WHERE subject_id = 'usr1'`, "bindings: bindings of subjects that are not there: userAccount usr9"},
		{"binding of somebody deleted", `UPDATE {accessbindings.access_bindings} SET subject_id = 'gone' WHERE subject_id = 'usr1'`, "bindings: bindings of subjects that are not there: userAccount gone"},
		{"member", `UPDATE {accessbindings.access_members} SET subject_id = 'usr9'`, "bindings: members that are not there: userAccount usr9"},
		{"row without tree", `INSERT INTO {resourcemanager.resourcemanager_resources} (id, kind, parent_id, name, title, description, labels, status, created_by, created_at, delete_after, operation)
			VALUES ('fld9', 'folder', 'cld1', 'f9', '', '', '', 'ACTIVE', 'usr1', 0, 0, '')`, "units: active resources that the checker does not know, or knows elsewhere: folder fld9"},
		{"tree elsewhere", `UPDATE {accessbindings.access_resources} SET parent_type = 'organization-manager.organization', parent_id = 'org1' WHERE id = 'fld1'`, "units: active resources that the checker does not know, or knows elsewhere: folder fld1"},
		{"tree without row", `INSERT INTO {accessbindings.access_resources} VALUES ('resource-manager.cloud', 'cld9', 'organization-manager.organization', 'org1', 0)`, "units: resources that only the checker knows: resource-manager.cloud cld9"},
		{"user", `UPDATE {identity.identity_users} SET state = 'ACTIVE' WHERE id = 'usr2'`, "units: active users that the checker does not know: usr2"},
		{"federated user", `UPDATE {accessbindings.access_subjects} SET type = 'userAccount' WHERE id = 'fus1'`, "units: active users that the checker does not know: fus1"},
		{"account without tree", `UPDATE {accessbindings.access_resources} SET removed = 9 WHERE id = 'sac1'`, "units: service accounts that the checker does not know, or knows elsewhere: sac1"},
		{"account elsewhere", `UPDATE {accessbindings.access_resources} SET parent_id = 'fld2' WHERE id = 'sac1'`, "units: service accounts that the checker does not know, or knows elsewhere: sac1"},
		{"account that is no subject", `DELETE FROM {accessbindings.access_subjects} WHERE id = 'sac1'`, "units: service accounts that the checker does not know, or knows elsewhere: sac1"},
		{"tree without account", `DELETE FROM {identity.identity_service_accounts} WHERE id = 'sac1'`, "units: service accounts that only the checker knows: sac1"},
		{"pairs", `UPDATE {accessbindings.access_assignments} SET pairs = 3`, "pairs: organizations whose number of pairs is wrong (AB-13): org1: counted 3, there are 2"},
		{"pairs uncounted", `DELETE FROM {accessbindings.access_assignments}`, "pairs: organizations whose number of pairs is wrong (AB-13): org1: counted 0, there are 2"},
		{"pairs of a folder", `INSERT INTO {accessbindings.access_bindings} (resource_type, resource_id, role_id, subject_type, subject_id, source_kind, source_id, expires_at, number) VALUES
			('resource-manager.folder', 'fld1', 'viewer', 'userAccount', 'usr1', 1, '', 0, 1), ('resource-manager.folder', 'fld1', 'viewer', 'userAccount', 'usr1', 2, 'p', 0, 1)`,
			"pairs: organizations whose number of pairs is wrong (AB-13): org1: counted 2, there are 3"},
		{"late job", `UPDATE {identity.goqite} SET timeout = '2020-01-01T00:00:00.000Z'`, "jobs: jobs of identity that were due over 5m0s ago, and nobody does: is it served?: m_1 since"},
		{"failing job", `UPDATE {identity.goqite} SET received = 5`, "jobs: jobs of identity that fail again and again: its log says why: m_1, tried 5 times"},
		{"stuck operation", `UPDATE {resourcemanager.resourcemanager_operations} SET done = $false WHERE id = 'orm0'`, "operations: operations that began over 10m0s ago and did not end: orm0"},
		{"late deletion", `UPDATE {resourcemanager.resourcemanager_resources} SET delete_after = 7 WHERE id = 'fld2'`, "operations: operations that began over 10m0s ago and did not end: orm1"},
		{"many", `DELETE FROM {accessbindings.access_subjects} WHERE type <> 'federatedUser'; INSERT INTO {identity.identity_users} (id, login, login_folded, email, email_folded, state, created_at, last_authenticated_at) VALUES
			('usr3', '3', '3', '3', '3', 'ACTIVE', 0, 0), ('usr4', '4', '4', '4', '4', 'ACTIVE', 0, 0), ('usr5', '5', '5', '5', '5', 'ACTIVE', 0, 0); DELETE FROM {accessbindings.access_members}; DELETE FROM {accessbindings.access_bindings};
			DELETE FROM {accessbindings.access_assignments}; DELETE FROM {identity.identity_service_accounts}; DELETE FROM {accessbindings.access_resources} WHERE id = 'sac1'`,
			"units: active users that the checker does not know: usr1, usr3, usr4 and 1 more"},
		{"old schema", `UPDATE {identity.schema_versions} SET version = 0 WHERE name = 'identity_audit'`, "schema: identity_audit of identity is at version 0, and this program needs 2: run bindery migrate"},
		{"new schema", `UPDATE {identity.schema_versions} SET version = 99 WHERE name = 'identity'`, "this program knows only"},
	}
	eachEngine(t, func(t *testing.T, p *patient) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				defer p.heal()
				p.do(tt.hurt)
				got := p.wrong()
				if !strings.Contains(got, tt.want) || strings.Contains(got, "\n") {
					t.Errorf("got:\n%s\nwant %q alone", got, tt.want)
				}
			})
		}
	})
}

// The test server of PostgreSQL is made for speed, and that is told.
func TestDurability(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *patient) {
		var got string
		for _, f := range doctor.Run(t.Context(), p.opts) {
			if f.Check == "durability" {
				got += f.Text
			}
		}
		var commit string
		if p.db.Engine() == sqldb.PostgreSQL {
			if err := p.db.QueryRowContext(t.Context(), `SHOW synchronous_commit`).Scan(&commit); err != nil {
				t.Fatal(err)
			}
		}
		if told := strings.Contains(got, "synchronous_commit is off: a crash of the database server loses changes"); told != (commit == "off") {
			t.Errorf("synchronous_commit is %q, and the doctor says %q", commit, got)
		}
	})
}

func TestClock(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *patient) {
		if p.db.Engine() == sqldb.SQLite {
			t.Skip("SQLite has no clock of its own")
		}
		for ahead, want := range map[time.Duration]string{time.Hour: "behind ours", -time.Hour: "ahead of ours"} {
			p.opts.Now = func() time.Time { return time.Now().Add(ahead) }
			if got := p.wrong(); !strings.Contains(got, "clock: the clock of the database is 1h0m0s "+want) {
				t.Errorf("%v: %q", ahead, got)
			}
		}
	})
}

func TestDataDirectory(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *patient) {
		if p.db.Engine() == sqldb.PostgreSQL {
			t.Skip("the same")
		}
		dir := p.opts.DataDir
		for path, mode := range map[string]os.FileMode{dir: 0o755, filepath.Join(dir, "bindery.db"): 0o640} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		got := p.wrong()
		for _, want := range []string{"has the mode 0755, so that others can look into it: chmod 0700", "bindery.db has the mode 0640, so that others can read it: chmod 0600"} {
			if !strings.Contains(got, want) {
				t.Errorf("%q does not say %q", got, want)
			}
		}
	})
}

// An installation that is not there, or whose database cannot be reached, is told
// as such.
func TestNoDatabase(t *testing.T) {
	for _, err := range []error{fs.ErrNotExist, errors.New("connection refused\nby all")} {
		report := doctor.Run(t.Context(), doctor.Options{
			DataDir: filepath.Join(t.TempDir(), "none"), Now: time.Now,
			Open: func(context.Context) (*sqldb.DB, error) { return nil, err },
		})
		last := report[len(report)-1]
		if report.Healthy() || last.Check != "database" || !strings.Contains(last.Text, "cannot be opened") || strings.Contains(last.Text, "\n") {
			t.Errorf("%v: %+v", err, report)
		}
	}
}

// A file of SQLite that was damaged is told from one that is whole.
func TestDamagedFile(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *patient) {
		if p.db.Engine() == sqldb.PostgreSQL {
			t.Skip("it has no file to look at")
		}
		if err := p.db.Close(); err != nil { // which writes all into the one file
			t.Fatal(err)
		}
		raw, err := os.ReadFile(p.url)
		if err != nil {
			t.Fatal(err)
		}
		at := strings.LastIndex(string(raw), "CREATINGusr1") // a row of a table
		copy(raw[at-200:], strings.Repeat("\xff", 190))
		if err := os.WriteFile(p.url, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := p.wrong(); !strings.Contains(got, "database: ") {
			t.Errorf("a damaged file: %q", got)
		}
		p.db = p.open("")
	})
}

func TestCertificate(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name     string
		from, to time.Duration
		state    doctor.State
		want     string
	}{
		{"good", -time.Hour, 60 * 24 * time.Hour, doctor.OK, "is good until"},
		{"ends soon", -time.Hour, 24 * time.Hour, doctor.Wrong, "ends soon"},
		{"ended", -2 * time.Hour, -time.Hour, doctor.Wrong, "has ended on"},
		{"not yet", time.Hour, 60 * 24 * time.Hour, doctor.Wrong, "is the clock right?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cert.pem")
			writeCertificate(t, path, now.Add(tt.from), now.Add(tt.to))
			if f := certificate(t, path); f.State != tt.state || !strings.Contains(f.Text, tt.want) {
				t.Errorf("%+v, want %s: %q", f, tt.state, tt.want)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "cert.pem")
	if f := certificate(t, path); f.State != doctor.Wrong || !strings.Contains(f.Text, "no such file") {
		t.Errorf("no certificate: %+v", f)
	}
	if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := certificate(t, path); f.State != doctor.Wrong || !strings.Contains(f.Text, "it is not PEM") {
		t.Errorf("no PEM: %+v", f)
	}
}

// certificate is what the doctor says of a certificate.
func certificate(t *testing.T, path string) doctor.Finding {
	t.Helper()
	report := doctor.Run(t.Context(), doctor.Options{
		DataDir: t.TempDir(), CertPEM: path, Now: time.Now,
		Open: func(context.Context) (*sqldb.DB, error) { return nil, fs.ErrNotExist },
	})
	for _, f := range report {
		if f.Check == "certificate" {
			return f
		}
	}
	t.Fatal("nothing is said of the certificate")
	return doctor.Finding{}
}

func writeCertificate(t *testing.T, path string, from, to time.Time) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
