package e2e

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// splitUnits are the units of an installation whose units are processes of their
// own, in the order in which the tests start them: everybody before whom it needs.
var splitUnits = []string{"gateway", "resourcemanager", "identity", "accessbindings"}

// tables tells the units that keep something.
var tables = map[string]bool{"resourcemanager": true, "identity": true, "accessbindings": true}

// split is an installation over one PostgreSQL with a process, a role and a schema
// for each unit. Clients know the gateway alone.
type split struct {
	*server // the gateway, which starts and stops with all others
	unit    map[string]*server
	admin   string // URL of the database by which all schemas are reached
}

// startSplit starts the processes, which end with the test. They know each other
// by keys of their own and speak TLS under a private authority.
func startSplit(t testing.TB) *split {
	t.Helper()
	s := newSplit(t)
	s.start()
	return s
}

// newSplit returns an installation with empty tables that is not started.
func newSplit(t testing.TB) *split {
	t.Helper()
	binary(t)
	admin := sqldbtest.URL(t)
	databases := unitDatabases(t, admin)
	dir := t.TempDir()
	certs := writeCerts(t, dir)
	addresses := map[string]string{}
	for _, name := range splitUnits {
		command(t, "unit-key", "create", "--out", filepath.Join(dir, name+".key"))
		addresses[name] = freeAddress(t)
		if tables[name] {
			command(t, "migrate", name, "--data-dir", filepath.Join(dir, name), "--database-url", databases[name])
		}
	}
	s := &split{unit: map[string]*server{}, admin: admin}
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
		s.unit[name] = newServer(t, databases[name])
		s.unit[name].units, s.unit[name].flags = []string{name}, flags
		s.unit[name].dataDir, s.unit[name].grpc = filepath.Join(dir, name), addresses[name]
	}
	s.server = s.unit["gateway"]
	for _, name := range splitUnits[1:] {
		s.beside = append(s.beside, s.unit[name])
	}
	s.ca, s.operatorDir = filepath.Join(dir, "ca.pem"), s.unit["identity"].dataDir
	return s
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

// freeAddress returns an address that nobody listens on: a process must be told
// where its peers are before they are there.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
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
