package doctor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/bindery-iam/bindery/pkg/server"
)

// secrets are files of the data directory that nobody else may read.
var secrets = []string{"bindery.db", "bindery.db-wal", "tls/ca-key.pem", "tls/localhost-key.pem"}

// files looks at the modes of the data directory and of what is secret in it.
func (d *doctor) files() {
	const name = "data directory"
	info, err := os.Stat(d.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		d.say(name, Note, "%s is not there; the first start makes it", d.DataDir)
		return
	}
	d.check(name, d.DataDir+" and the secrets in it are for its owner alone", func() ([]string, error) {
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			return []string{d.DataDir + " is not a directory"}, nil
		}
		var complaints []string
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			complaints = append(complaints, fmt.Sprintf("%s has the mode %04o, so that others can look into it: chmod 0700 %s", d.DataDir, mode, d.DataDir))
		}
		if uid, ok := owner(info); ok && uid != os.Geteuid() && os.Geteuid() != 0 {
			complaints = append(complaints, fmt.Sprintf("%s belongs to the user with number %d, not to the one that asks", d.DataDir, uid))
		}
		for _, file := range secrets {
			path := filepath.Join(d.DataDir, file)
			info, err := os.Stat(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return complaints, err
			}
			if mode := info.Mode().Perm(); mode&0o077 != 0 {
				complaints = append(complaints, fmt.Sprintf("%s has the mode %04o, so that others can read it: chmod 0600 %s", path, mode, path))
			}
		}
		return complaints, nil
	})
}

func owner(info os.FileInfo) (int, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// expiresSoon is how long before its end a certificate is complained about: a start
// within the last 30 days renews those made by bindery.
const expiresSoon = 14 * 24 * time.Hour

// certificates looks at the ends of the certificate that is served and of the
// authority in the data directory.
func (d *doctor) certificates() {
	paths := []string{d.CertPEM}
	renewal := "replace it and start the server again"
	if d.CertPEM == "" {
		paths = []string{server.CAPath(d.DataDir), filepath.Join(d.DataDir, "tls", "localhost.pem")}
		renewal = "start the server again, which renews it"
		if _, err := os.Stat(paths[0]); errors.Is(err, fs.ErrNotExist) {
			d.say("certificate", Note, "there is none in %s; the first start makes one for localhost", d.DataDir)
			return
		}
	}
	for _, path := range paths {
		cert, err := readCertificate(path)
		now := d.Now()
		switch {
		case err != nil:
			d.say("certificate", Wrong, "%s cannot be used: %v", path, err)
		case now.After(cert.NotAfter):
			d.say("certificate", Wrong, "%s has ended on %s: %s", path, cert.NotAfter.Format(time.DateOnly), renewal)
		case now.Before(cert.NotBefore):
			d.say("certificate", Wrong, "%s begins on %s only: is the clock right?", path, cert.NotBefore.Format(time.DateOnly))
		case now.Add(expiresSoon).After(cert.NotAfter):
			d.say("certificate", Wrong, "%s ends soon, on %s: %s", path, cert.NotAfter.Format(time.DateOnly), renewal)
		default:
			d.say("certificate", OK, "%s is good until %s", path, cert.NotAfter.Format(time.DateOnly))
		}
	}
}

func readCertificate(path string) (*x509.Certificate, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names the path
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// answerWithin bounds the wait for a running server, and for the database.
const answerWithin = 5 * time.Second

// socket asks the server that runs, if one does, how it is.
func (d *doctor) socket(ctx context.Context) {
	const name = "server"
	dir := filepath.Join(d.DataDir, "operator")
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o077 != 0 {
		d.say(name, Wrong, "%s has the mode %04o, so that others can reach the operator socket: chmod 0700 %s", dir, info.Mode().Perm(), dir)
	}
	conn, err := server.DialOperator(d.DataDir)
	if errors.Is(err, server.ErrNoOperator) {
		d.say(name, Note, "none serves %s at the moment", d.DataDir)
		return
	}
	if err != nil {
		d.say(name, Wrong, "the operator socket cannot be used: %v", err)
		return
	}
	defer func() { _ = conn.Close() }() // nothing was sent that could be lost
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	resp, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	switch {
	case err != nil:
		d.say(name, Wrong, "it runs and does not answer on the operator socket: %v", err)
	case resp.GetStatus() != healthv1.HealthCheckResponse_SERVING:
		d.say(name, Wrong, "it runs and says %s: /readyz on its ops port says which unit cannot answer, and why", resp.GetStatus())
	default:
		d.say(name, OK, "it runs and is ready")
	}
}
