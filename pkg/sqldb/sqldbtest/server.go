package sqldbtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// start returns the server of this process, started on first use, or why there is
// none.
var start = sync.OnceValues(func() (*server, error) {
	if u := os.Getenv("BINDERY_TEST_POSTGRES_URL"); u != "" {
		return newServer(u, nil)
	}
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	u, keep, err := launch(bin)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL of %s: %w", bin, err)
	}
	return newServer(u, keep)
})

// findBinaries returns the folder of initdb and postgres, the newest version of
// several.
func findBinaries() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errors.New("no PostgreSQL: neither BINDERY_TEST_POSTGRES_URL nor server binaries")
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(found[len(found)-1]), nil
}

// version reads N out of /usr/lib/postgresql/N/bin/initdb.
func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0 sorts first
	return n
}

// script makes a cluster in $1, runs it on a socket there, and takes it away as
// soon as its standard input ends: when the test process ends, however it does.
// It is asked for a collation that is not that of bytes first.
const script = `
set -e
bin=$1 dir=$2
"$bin/initdb" -D "$dir/data" -U bindery -A trust -E UTF8 -N --locale=C --locale-provider=icu --icu-locale=und >"$dir/initdb.log" 2>&1 || {
	rm -rf "$dir/data"
	"$bin/initdb" -D "$dir/data" -U bindery -A trust -E UTF8 -N --locale=C >"$dir/initdb.log" 2>&1
}
"$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c fsync=off -c synchronous_commit=off \
	-c full_page_writes=off -c shared_buffers=64MB -c max_connections=300 -c wal_level=minimal -c max_wal_senders=0 \
	-c autovacuum=off -c log_min_messages=warning >"$dir/postgres.log" 2>&1 &
pid=$!
cat >/dev/null
kill -QUIT $pid 2>/dev/null || true
wait $pid || true
rm -rf "$dir"
`

// launch starts the script and returns the URL of its server, and its standard
// input, which is to be kept as long as the process lives.
func launch(bin string) (string, io.Closer, error) {
	dir, err := os.MkdirTemp("", "bindery-pg-")
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", script, "sh", bin, dir) //nolint:gosec // the paths are our own
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // an interrupt of the terminal is not for it
	if os.Geteuid() == 0 {                               // PostgreSQL refuses to run as root
		cred, err := unprivileged()
		if err != nil {
			return "", nil, err
		}
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return "", nil, err
		}
		cmd.SysProcAttr.Credential = cred
	}
	keep, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	u := url.URL{Scheme: "postgres", User: url.User("bindery"), Path: "/postgres", RawQuery: url.Values{"host": {dir}}.Encode()}
	return u.String(), keep, await(u.String(), dir, exited)
}

// unprivileged returns the user postgres, or nobody.
func unprivileged() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, err
	}
	uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uerr, gerr)
}

// await waits until the server answers.
func await(u, dir string, exited <-chan error) error {
	const patience = time.Minute
	deadline := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err := pgx.Connect(ctx, u)
		cancel()
		if err == nil {
			return conn.Close(context.Background())
		}
		select {
		case werr := <-exited:
			log, _ := os.ReadFile(filepath.Join(dir, "initdb.log")) //nolint:gosec // our own file
			return fmt.Errorf("it ended: %w\n%s", werr, log)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer within %s: %w", patience, err)
		}
	}
}
