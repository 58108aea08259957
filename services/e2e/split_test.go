package e2e

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// splitUnits are the units of an installation whose units are processes of their
// own, in the order in which the tests start them: everybody before whom it needs.
var splitUnits = []string{"gateway", "marketplacerequests", "partner", "notifications", "resourcemanager", "identity", "accessbindings"}

// tables tells the units that keep something.
var tables = map[string]bool{"notifications": true, "partner": true, "marketplacerequests": true, "resourcemanager": true, "identity": true, "accessbindings": true}

// split is an installation over one PostgreSQL with a process, a role and a schema
// for each unit. Clients know the gateway alone.
type split struct {
	*server   // the gateway, which starts and stops with all others
	unit      map[string]*server
	processes []*server // all of them, the gateway first
	admin     string    // URL of the database by which all schemas are reached
	sealKey   string    // file by which identity and notifications seal
}

// replicated is the unit that has a second process in a split installation: the one
// whose processes answer from memory.
const replicated = "accessbindings"

// startSplit starts the processes, which end with the test. They know each other
// by keys of their own and speak TLS under a private authority.
func startSplit(t testing.TB) *split {
	t.Helper()
	s := newSplit(t)
	s.start()
	return s
}

// newSplit returns an installation with empty tables that is not started.
func newSplit(t testing.TB) *split { return newSplitOn(t, sqldbtest.URL(t), 2) }

// newSplitOn is newSplit on a database, with so many replicas of the checker.
func newSplitOn(t testing.TB, admin string, replicas int) *split {
	t.Helper()
	binary(t)
	databases := unitDatabases(t, admin)
	dir := t.TempDir()
	certs := writeCerts(t, dir)
	addresses := map[string]string{}
	for _, name := range splitUnits {
		command(t, "unit-key", "create", "--out", filepath.Join(dir, name+".key"))
		addresses[name] = servertest.FreeAddress(t)
		if name == replicated {
			for range replicas - 1 {
				addresses[name] += "," + servertest.FreeAddress(t)
			}
		}
		if tables[name] {
			command(t, "migrate", name, "--data-dir", filepath.Join(dir, name), "--database-url", databases[name])
		}
	}
	s := &split{unit: map[string]*server{}, admin: admin, sealKey: filepath.Join(dir, secret.SealKeyFile)}
	command(t, "seal-key", "create", "--out", s.sealKey)
	for _, name := range splitUnits {
		flags := append(slices.Clone(certs), "--unit-key", filepath.Join(dir, name+".key"))
		for _, peer := range splitUnits {
			if peer != name {
				flags = append(flags, "--trust-unit", peer+"="+filepath.Join(dir, peer+".key.pub"))
			}
			if peer != name && peer != "gateway" {
				flags = append(flags, "--peer", peer+"="+addresses[peer])
			}
		}
		if name == "identity" || name == "notifications" {
			flags = append(flags, "--seal-key", s.sealKey)
		}
		for i, address := range strings.Split(addresses[name], ",") {
			one := newServer(t, databases[name])
			one.units, one.flags, one.grpc = []string{name}, flags, address
			one.dataDir = filepath.Join(dir, name+strings.Repeat("-again", i))
			s.processes = append(s.processes, one)
			if i == 0 {
				s.unit[name] = one
			}
		}
	}
	s.server = s.processes[0]
	s.beside = s.processes[1:]
	s.desks = map[string]string{}
	for name, one := range s.unit {
		s.desks[name] = one.dataDir
	}
	s.ca, s.operatorDir = filepath.Join(dir, "ca.pem"), s.unit["identity"].dataDir
	return s
}

// processesOf are the processes of a unit.
func (s *split) processesOf(unit string) []*server {
	return slices.DeleteFunc(slices.Clone(s.processes), func(one *server) bool { return one.units[0] != unit })
}

// unitDatabases makes a role and a schema for each unit, by the script that
// operators are given, and returns the URL by which each unit comes.
func unitDatabases(t testing.TB, databaseURL string) map[string]string {
	t.Helper()
	script, err := os.ReadFile("../../deploy/database/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.PgConn().Exec(t.Context(), string(script)).ReadAll(); err != nil {
		t.Fatalf("roles.sql: %v", err)
	}
	urls := map[string]string{}
	for name := range tables {
		u, err := url.Parse(databaseURL)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.User("bindery_" + name)
		urls[name] = u.String()
	}
	return urls
}

// writeCerts writes an authority and a certificate for this machine, and returns
// the flags that name them.
func writeCerts(t testing.TB, dir string) []string {
	t.Helper()
	ca, leaf := certificateFor(t, "localhost", "127.0.0.1")
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"ca.pem":   ca,
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}),
		"key.pem":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"--tls-ca", filepath.Join(dir, "ca.pem"), "--tls-cert", filepath.Join(dir, "cert.pem"), "--tls-key", filepath.Join(dir, "key.pem")}
}

// TestUnitsKeepApart wants that the role of a unit reads and writes its own tables
// and nobody else's.
func TestUnitsKeepApart(t *testing.T) {
	binary(t)
	databases := unitDatabases(t, sqldbtest.URL(t))
	for name := range tables {
		command(t, "migrate", name, "--data-dir", t.TempDir(), "--database-url", databases[name])
	}
	for name := range tables {
		conn, err := pgx.Connect(t.Context(), databases[name])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		for owner := range tables {
			for _, query := range []string{
				`SELECT count(*) FROM ` + owner + `.schema_versions`,
				`DELETE FROM ` + owner + `.schema_versions WHERE false`,
				`CREATE TABLE ` + owner + `.extra ()`,
			} {
				_, err := conn.Exec(t.Context(), query)
				var refused *pgconn.PgError
				if name == owner && err != nil || name != owner && (!errors.As(err, &refused) || refused.Code != "42501") {
					t.Errorf("%s as %s: %v", query, name, err)
				}
			}
		}
		if _, err := conn.Exec(t.Context(), `CREATE SCHEMA another`); err == nil {
			t.Errorf("%s can make schemas", name)
		}
	}
}
