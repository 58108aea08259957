package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// on names the database of a server to a command.
func (s *server) on() []string {
	args := []string{"--data-dir", s.dataDir}
	if s.databaseURL != "" {
		args = append(args, "--database-url", s.databaseURL)
	}
	return args
}

// backup backs up a server, which may run, and returns the file and what was said.
func (s *server) backup() (file, said string) {
	s.t.Helper()
	file = filepath.Join(s.t.TempDir(), "backup")
	if _, err := os.Stat(s.sealKey()); err == nil { // it was served
		copyFile(s.t, s.sealKey(), file+sealKeyBeside)
	}
	return file, string(command(s.t, append([]string{"backup", "--out", file}, s.on()...)...))
}

// sealKeyBeside is what the seal key is called that the tests keep beside a backup;
// an operator keeps it elsewhere.
const sealKeyBeside = ".seal.key"

// sealKey is the file of a server's own.
func (s *server) sealKey() string { return filepath.Join(s.dataDir, secret.SealKeyFile) }

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// restored starts a new server on either engine, made out of a backup.
func restored(t *testing.T, databaseURL, file string, flags ...string) (s *server, said string) {
	t.Helper()
	s = newServer(t, databaseURL)
	said = string(command(t, append(append([]string{"restore", "--in", file}, flags...), s.on()...)...))
	copyFile(t, file+sealKeyBeside, s.sealKey())
	s.start()
	return s, said
}

// TestBackupUnderWrites backs up a server while writers write, loses the server, and
// goes on elsewhere, on either engine: what was acknowledged before a backup began
// is there and enforced, what was begun after it is not, and nothing is half there.
// Tokens of the lost line are refused; people exchange their OAuth tokens again.
func TestBackupUnderWrites(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *server) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		w := newWorld(t, s)
		founder := s.createUser("founder")

		before := w.writers(t, 0, random)
		w.writeUntil(t, before, 500*time.Millisecond, s.stop)
		s.start()
		w.connect(t)
		w.each(t, before, (*writer).settle)

		type moment struct {
			file, revision string
			there, absent  string // folders made just before and just after
		}
		var moments []moment
		cloud := before[0].cloud
		during := w.writers(t, 1, random)
		w.writeUntil(t, during, 300*time.Millisecond, func() {
			for i := range 2 {
				m := moment{there: w.folder(t, cloud, fmt.Sprintf("before-backup-%d", i))}
				var said string
				m.file, said = s.backup()
				m.revision = revisionOf(t, said)
				m.absent = w.folder(t, cloud, fmt.Sprintf("after-backup-%d", i))
				moments = append(moments, m)
			}
			s.kill()
		})

		for i, m := range moments {
			url := "" // either engine in turn
			if (i == 0) == (s.databaseURL == "") {
				url = sqldbtest.URL(t)
			}
			elsewhere, said := restored(t, url, m.file)
			if got := revisionOf(t, said); got != m.revision {
				t.Errorf("restored revision %s of a backup of revision %s", got, m.revision)
			}
			w.refused(t, elsewhere)
			w.exchange(t, elsewhere, founder)
			w.moveTo(t, elsewhere)
			w.forgetCrews() // they changed after the backup
			w.each(t, before, (*writer).verify)
			w.each(t, before, func(each *writer) error { return eventually(each.settleCrew) })
			for name, c := range map[string]struct {
				id   string
				want bool
			}{"made before": {m.there, true}, "made after": {m.absent, false}} {
				if got, err := w.allowed(w.owner, c.id); err != nil || got != c.want {
					t.Errorf("backup %d: the folder %s it is there: %t, %v; want %t", i, name, got, err, c.want)
				}
			}
			w.each(t, during, (*writer).wholes)
			elsewhere.healthy()
			elsewhere.stop()
		}
	})
}

// folder makes a folder for the owner and returns its id.
func (w *world) folder(t *testing.T, cloud, name string) string {
	t.Helper()
	op, err := w.folders().Create(w.as(w.owner), &rmv1.CreateFolderRequest{CloudId: cloud, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !op.GetDone() && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if op, err = w.operations().Get(w.as(w.owner), &operationpb.GetOperationRequest{OperationId: op.GetId()}); err != nil {
			t.Fatal(err)
		}
	}
	var made rmv1.Folder
	if err := op.GetResponse().UnmarshalTo(&made); err != nil {
		t.Fatal(err)
	}
	return made.GetId()
}

// wholes checks that each folder is there whole or not at all.
func (w *writer) wholes() error {
	for _, f := range w.folders {
		if f.id == "" {
			continue
		}
		if err := eventually(func() error { return w.whole(f) }); err != nil {
			return fmt.Errorf("%s %s: %w", f.name, f.id, err)
		}
	}
	return nil
}

// moveTo goes on with another server, where everybody gets a new token.
func (w *world) moveTo(t *testing.T, s *server) {
	t.Helper()
	w.server = s
	w.connect(t)
	w.owner = s.createToken("owner")
	for i := range w.members {
		w.members[i].token = s.createToken("member-" + strconv.Itoa(i))
	}
}

// refused checks that a server takes no token that was issued before it.
func (w *world) refused(t *testing.T, s *server) {
	t.Helper()
	there := &world{server: s}
	there.connect(t)
	for _, token := range []string{w.owner, w.members[0].token} {
		_, err := there.clouds().List(there.as(token), &rmv1.ListCloudsRequest{})
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("a token of the lost line: %v, want UNAUTHENTICATED", err)
		}
	}
}

// exchange checks that a user gets a good IAM token for the OAuth token of before.
func (w *world) exchange(t *testing.T, s *server, u user) {
	t.Helper()
	there := &world{server: s}
	there.connect(t)
	resp, err := iamv1.NewIamTokenServiceClient(there.conn).Create(context.Background(), &iamv1.CreateIamTokenRequest{
		Identity: &iamv1.CreateIamTokenRequest_YandexPassportOauthToken{YandexPassportOauthToken: u.OAuthToken},
	})
	if err != nil {
		t.Errorf("exchange of an OAuth token: %v", err)
		return
	}
	if _, err := there.clouds().List(there.as(resp.GetIamToken()), &rmv1.ListCloudsRequest{}); err != nil {
		t.Errorf("a token of the new line: %v", err)
	}
}

var revisionWords = regexp.MustCompile(`revision (\d+)`)

// revisionOf reads the revision out of what backup and restore say.
func revisionOf(t *testing.T, said string) string {
	t.Helper()
	m := revisionWords.FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("no revision in %q", said)
	}
	return m[1]
}

// TestMoveToPostgreSQL moves an installation that grew out of its SQLite file, and
// back: ids, revisions, operations and keys are kept, so every token stays good.
func TestMoveToPostgreSQL(t *testing.T) {
	s := startServer(t, "")
	w := newWorld(t, s)
	all := w.writers(t, 0, rand.New(rand.NewPCG(1, 2)))
	w.writeUntil(t, all, 500*time.Millisecond, s.stop)
	s.start()
	w.connect(t)
	w.each(t, all, (*writer).settle)
	s.stop()
	file, said := s.backup()
	for i, url := range []string{sqldbtest.URL(t), ""} {
		moved, restoredAs := restored(t, url, file, "--keep-epoch")
		if got, want := revisionOf(t, restoredAs), revisionOf(t, said); got != want {
			t.Errorf("revision %s, want %s as before", got, want)
		}
		w.server = moved
		w.connect(t)
		w.each(t, all, (*writer).verify)
		w.folder(t, all[0].cloud, fmt.Sprintf("made-after-move-%d", i))
		moved.healthy()
		moved.stop()
		file, said = moved.backup()
	}
}

// TestMoveToSplitUnits moves an installation of one process into the schemas of
// units that run apart, each by a role of its own, and backs those up as they run.
func TestMoveToSplitUnits(t *testing.T) {
	s := startServer(t, "")
	w := newWorld(t, s)
	all := w.writers(t, 0, rand.New(rand.NewPCG(3, 4)))
	w.writeUntil(t, all, 300*time.Millisecond, s.stop)
	s.start()
	w.connect(t)
	w.each(t, all, (*writer).settle)
	s.stop()
	file, said := s.backup()

	units := newSplit(t)
	admin := newServer(t, units.admin)
	restoredAs := command(t, append([]string{"restore", "--in", file, "--keep-epoch"}, admin.on()...)...)
	if got, want := revisionOf(t, string(restoredAs)), revisionOf(t, said); got != want {
		t.Errorf("revision %s, want %s as before", got, want)
	}
	for _, key := range []string{units.sealKey, admin.sealKey()} {
		copyFile(t, file+sealKeyBeside, key)
	}
	units.start()
	w.server = units.server
	w.connect(t)
	w.each(t, all, (*writer).verify)
	w.folder(t, all[0].cloud, "made-by-units")
	admin.healthy()
	running, _ := admin.backup()
	units.stop()

	back, _ := restored(t, "", running, "--keep-epoch")
	w.server = back
	w.connect(t)
	w.each(t, all, (*writer).verify)
	back.healthy()
}

// TestRestoreRefuses says why there is no restore, and changes nothing.
func TestRestoreRefuses(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *server) {
		s.createUser("somebody")
		file, _ := s.backup()
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		cut := filepath.Join(t.TempDir(), "cut")
		if err := os.WriteFile(cut, whole[:len(whole)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		empty := newServer(t, "")
		refuse := func(why string, s *server, file string) {
			t.Helper()
			out, err := exec.Command(binary(t), append([]string{"restore", "--in", file}, s.on()...)...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), why) {
				t.Errorf("restore said %q (%v), want %q", out, err, why)
			}
		}
		refuse("damaged or not whole", empty, cut)
		refuse("no such file", empty, cut+"-none")
		if _, err := os.Stat(empty.dataDir); err == nil {
			t.Error("a refused restore made the data directory")
		}
		if s.databaseURL == "" {
			refuse("in use by another bindery process", s, file)
		}
		s.stop()
		refuse("not empty", s, file)
		s.start()
		s.createToken("somebody")
	})
}

// TestKeyRotationUnderLoad rotates the signing key while tokens are issued and used:
// none is refused, neither those of before nor those of the moment.
func TestKeyRotationUnderLoad(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *server) {
		w := newWorld(t, s)
		u := s.createUser("rotated")
		old := s.createToken("rotated")
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var running sync.WaitGroup
		var used atomic.Int64
		for range 4 {
			running.Go(func() {
				for ctx.Err() == nil {
					resp, err := iamv1.NewIamTokenServiceClient(w.conn).Create(context.Background(), &iamv1.CreateIamTokenRequest{
						Identity: &iamv1.CreateIamTokenRequest_YandexPassportOauthToken{YandexPassportOauthToken: u.OAuthToken},
					})
					if err != nil {
						t.Errorf("issue: %v", err)
						return
					}
					for _, token := range []string{resp.GetIamToken(), old, w.owner} {
						if _, err := w.clouds().List(w.as(token), &rmv1.ListCloudsRequest{}); err != nil {
							t.Errorf("use: %v", err)
							return
						}
						used.Add(1)
					}
				}
			})
		}
		keys := make(map[string]bool)
		for range 4 {
			time.Sleep(1200 * time.Millisecond) // a verifier reads the keys once a second at most
			keys[strings.TrimSpace(string(command(t, "key", "rotate", "--data-dir", s.dataDir)))] = true
		}
		time.Sleep(300 * time.Millisecond)
		stop()
		running.Wait()
		if len(keys) != 4 || keys[""] {
			t.Errorf("the keys were %v, want 4 different ones", keys)
		}
		t.Logf("%d tokens used", used.Load())
	})
}

// TestMigrateAtOnce starts five processes on an empty database: each migration is
// run once, by whoever comes first, and all of them succeed.
func TestMigrateAtOnce(t *testing.T) {
	binary(t)
	url := sqldbtest.URL(t)
	var running sync.WaitGroup
	for range 5 {
		dir := t.TempDir()
		running.Go(func() {
			out, err := exec.Command(binary(t), "migrate", "--data-dir", dir, "--database-url", url).CombinedOutput()
			if err != nil {
				t.Errorf("migrate: %v\n%s", err, out)
			}
		})
	}
	running.Wait()
	s := startServer(t, url)
	s.createUser("somebody")
}

// TestFoldingDatabase does not serve from a database in which different names are
// equal.
func TestFoldingDatabase(t *testing.T) {
	url := sqldbtest.URL(t)
	s := startServer(t, url)
	s.stop()
	db, err := sqldb.Open(t.Context(), sqldb.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		`CREATE COLLATION identity.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
		`ALTER TABLE identity.identity_users ALTER COLUMN login TYPE TEXT COLLATE identity.nocase`,
	} {
		if _, err := db.Pool().ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	args := append([]string{"serve", "all", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0"}, s.on()...)
	out, err := exec.Command(binary(t), args...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the database of the unit identity must not be used") {
		t.Errorf("serve: %v, %s", err, out)
	}
	out, err = exec.Command(binary(t), append([]string{"doctor"}, s.on()...)...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "identity_users.login has the collation nocase") {
		t.Errorf("doctor: %v, %s", err, out)
	}
}

// healthy checks that bindery doctor finds nothing wrong with a server, but that the
// database of a test is made for speed.
func (s *server) healthy() {
	s.t.Helper()
	out, err := exec.Command(binary(s.t), append([]string{"doctor", "--json"}, s.on()...)...).Output()
	var report struct {
		Findings []struct{ Check, State, Text string }
	}
	if jsonErr := json.Unmarshal(out, &report); jsonErr != nil || len(report.Findings) == 0 {
		s.t.Fatalf("doctor printed %q (%v, %v)", out, jsonErr, err)
	}
	for _, f := range report.Findings {
		if f.State == "wrong" && f.Check != "durability" {
			s.t.Errorf("doctor: %s: %s", f.Check, f.Text)
		}
	}
}
