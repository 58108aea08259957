package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// TestNoSecretIsShown runs the program, as a process of its own, with a secret in every
// setting, at its lowest level of logging and with traces; calls every RPC through both
// doors with good and with bad input; and then looks for every secret that was set, sent
// or given out in all that the program wrote, answered, stored and sent to others, in any
// spelling.
func TestNoSecretIsShown(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	t.Run("sqlite", func(t *testing.T) {
		r := newCanaryRun(t)
		r.whole(filepath.Join(r.dataDir, "bindery.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		database := sqldbtest.NewServer(t)
		db, err := sql.Open("pgx", database.URL)
		if err != nil {
			t.Fatal(err)
		}
		for _, set := range []string{
			`ALTER SYSTEM SET log_statement = 'all'`, `ALTER SYSTEM SET log_parameter_max_length = -1`,
			`ALTER SYSTEM SET log_parameter_max_length_on_error = -1`, `SELECT pg_reload_conf()`,
		} {
			if _, err := db.ExecContext(t.Context(), set); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		r := newCanaryRun(t)
		r.env = []string{"DATABASE_URL=" + strings.Replace(database.URL, "//bindery@", "//bindery:"+r.setting("database-password")+"@", 1)}
		r.after = func() { r.shown.add("PostgreSQL's log", database.Log()) }
		r.whole(database.URL)
	})
}

func newCanaryRun(t testing.TB) *canaryRun {
	t.Helper()
	dir := t.TempDir()
	return &canaryRun{t: t, canaries: newCanaries(), dir: dir, dataDir: filepath.Join(dir, "data"), after: func() {}}
}

// whole is the run from the start to the search.
func (r *canaryRun) whole(databaseURL string) {
	c, err := catalog.Load()
	r.must(err)
	r.program()
	r.remote.Dial = r.taps()
	w := &accessWorld{t: r.t, catalog: c, World: servertest.Attach(r.t, r.remote)}
	w.populate(r.taps()...)
	calls := 0
	for _, one := range inputRPCs() {
		calls += r.use(w, one)
	}
	r.strayCredentials(w)
	r.deliveries(w)
	r.operatorCommands()
	r.badSettings()
	r.scrape()
	r.end()
	r.stored(databaseURL)
	r.after()
	r.judge(calls)
}

// judge searches, and wants the search to have been one: every place had something to
// say, and every kind of secret was there.
func (r *canaryRun) judge(calls int) {
	r.t.Helper()
	size := 0
	for _, where := range []string{
		"log", "standard output", "traces", "metrics", "errors", "answers", "metadata", "mail", "webhooks", "audit trail", "commands", "stored", "files",
	} {
		if r.shown.at[where] == nil {
			r.t.Errorf("nothing was seen of the %s", where)
			continue
		}
		size += r.shown.at[where].Len()
	}
	for _, kind := range []string{
		"oauth_token", "iam_token", "authorization", "private_key", "secret", "api_key", "refresh_token", "session_token", "jwt", "signature",
		"idempotency key", "unit key", "seal key", "TLS key", "smtp-password", "collector-token",
	} {
		if r.kinds[kind] == 0 {
			r.t.Errorf("there was no %s to look for", kind)
		}
	}
	if !bytes.Contains(r.shown.at["log"].Bytes(), []byte(`"level":"debug"`)) {
		r.t.Error("the log has no lines of its lowest level")
	}
	for _, l := range r.shown.search(r.canaries) {
		r.t.Errorf("%s: %s, in %s", l.where, l.kind, l.text)
	}
	r.t.Logf("%d calls, %d secrets of %d kinds, %d MB searched", calls, len(r.secrets), len(r.kinds), size>>20)
}

// taps are client interceptors: they give every call an idempotency key, learn the
// secrets of requests and answers, and keep the rest.
func (r *canaryRun) taps() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(func(ctx context.Context, name string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		key := rand.Text()
		r.add("idempotency key", key)
		out, _ := metadata.FromOutgoingContext(ctx)
		for _, value := range out.Get("authorization") {
			r.credential("authorization", strings.TrimPrefix(value, "Bearer "))
		}
		in, answer := messagesOf(name)
		if m, ok := decode(in, req); ok {
			r.learn(m)
		}
		var header, trailer metadata.MD
		err := call(metadata.AppendToOutgoingContext(ctx, "idempotency-key", key), name, req, reply, conn, append(opts, grpc.Header(&header), grpc.Trailer(&trailer))...)
		r.shown.add("metadata", fmt.Append(nil, header, trailer))
		if err != nil {
			r.shown.add("errors", []byte(protojson.Format(status.Convert(err).Proto())))
			return err
		}
		if m, ok := decode(answer, reply); ok {
			r.shown.add("answers", []byte(protojson.Format(r.learn(m))))
		}
		return nil
	})}
}

// messagesOf returns what a method is sent and answers.
func messagesOf(name string) (in, out protoreflect.MessageDescriptor) {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(name, "/"), "/", ".")))
	if err != nil {
		return nil, nil
	}
	method, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, nil
	}
	return method.Input(), method.Output()
}

// decode reads what goes through an interceptor: a message, or the bytes of one.
func decode(as protoreflect.MessageDescriptor, what any) (proto.Message, bool) {
	switch v := what.(type) {
	case proto.Message:
		return v, true
	case *[]byte:
		return decode(as, *v)
	case []byte:
		if as == nil {
			return nil, false
		}
		m := dynamicpb.NewMessage(as)
		return m, proto.Unmarshal(v, m) == nil
	default:
		return nil, false
	}
}

// deliveries has a mail and a webhook sent, and waits for both.
func (r *canaryRun) deliveries(w *accessWorld) {
	n := w.grow(cloud)
	made, err := notificationv1.NewSubscriptionServiceClient(w.Conn).CreateCloudWebhook(w.as(n.owner), &notificationv1.CreateCloudWebhookRequest{
		CloudId: n.id, Webhook: &notificationv1.Webhook{Url: r.hook.URL + "/" + secretText(), Events: []string{"cloud"}},
	})
	r.must(err)
	if made.GetSecret() == "" {
		r.t.Error("a webhook without a secret")
	}
	w.grant("resource-manager.clouds.owner", n, w.person())
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r.shown.mu.Lock()
		both := r.shown.at["mail"] != nil && r.shown.at["webhooks"] != nil
		r.shown.mu.Unlock()
		if both {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatal("within 20 seconds neither mail nor a webhook came, or one of them")
		}
	}
}

// scrape keeps the metrics.
func (r *canaryRun) scrape() {
	for _, path := range []string{"/metrics", "/readyz", "/debug/pprof/goroutine?debug=2"} {
		code, body := httpGet(r.t, "http://"+r.remote.OpsAddr+path)
		if code != http.StatusOK {
			r.t.Errorf("%s answers %d", path, code)
		}
		r.shown.add("metrics", []byte(body))
	}
}

// operatorCommands keeps what operators read: the trail, notices, the diagnosis, and a
// backup, which is a file that leaves the machine.
func (r *canaryRun) operatorCommands() {
	backup := filepath.Join(r.dir, "all.backup")
	for _, args := range [][]string{
		{"audit", "export"}, {"notice", "deliveries"}, {"user", "list"}, {"quota", "list"}, {"doctor"}, {"doctor", "--json"}, {"backup", "--out", backup},
	} {
		err := r.command(r.env, append(args, "--data-dir", r.dataDir)...)
		if err != nil && args[0] != "doctor" { // which may have found something
			r.t.Errorf("bindery %s: %v\n%s", args, err, r.tail("commands"))
		}
	}
	raw, err := os.ReadFile(backup)
	r.must(err)
	r.shown.add("files", raw)
	r.shown.mu.Lock()
	defer r.shown.mu.Unlock()
	r.shown.at["audit trail"] = bytes.NewBuffer(bytes.Clone(r.shown.at["commands"].Bytes()))
}

func (r *canaryRun) tail(where string) []byte {
	r.shown.mu.Lock()
	defer r.shown.mu.Unlock()
	all := r.shown.at[where].Bytes()
	return all[max(0, len(all)-2000):]
}

// badSettings gives the program settings that it must refuse and that hold secrets.
func (r *canaryRun) badSettings() {
	file := filepath.Join(r.dir, "no-key")
	r.must(os.WriteFile(file, []byte(r.setting("bad-file")+"\n"), 0o600))
	password := r.setting("bad-password")
	for _, env := range [][]string{
		{"DATABASE_URL=postgres://bindery:" + password + "@127.0.0.1:1/bindery?connect_timeout=1"},
		{"DATABASE_URL=postgres://bindery:" + password + "@host:port/bindery"},
		{"DATABASE_URL=postgres://bindery:" + password + "@127.0.0.1/%zz"},
		{"DATABASE_URL=postgres://bindery:" + password + "@127.0.0.1:1/bindery?sslmode=never"},
		{"DATABASE_URL=mysql://bindery:" + password + "@127.0.0.1:1/bindery"},
		{"DATABASE_URL=host=127.0.0.1 port=1 user=bindery password=" + password},
		{"BINDERY_SMTP=smtp://bindery:" + password + "@:x", "BINDERY_MAIL_FROM=a@example.com"},
		{"BINDERY_SMTP=smtp://bindery:" + password + "@mail.example", "BINDERY_MAIL_FROM=nobody"},
		{"BINDERY_SMTP=http://bindery:" + password + "@mail.example", "BINDERY_MAIL_FROM=a@example.com"},
		{"BINDERY_OTLP_ENDPOINT=https://bindery:" + password + "@"},
		{"BINDERY_OTLP_ENDPOINT=ftp://bindery:" + password + "@collector.example"},
		{"BINDERY_UNIT_KEY=" + file}, {"BINDERY_SEAL_KEY=" + file}, {"BINDERY_TRUST_UNIT=gateway=" + file}, {"BINDERY_TLS_CA=" + file},
		{"BINDERY_TLS_CERT=" + file, "BINDERY_TLS_KEY=" + file},
	} {
		if err := r.command(env, "serve", "all", "--data-dir", filepath.Join(r.dir, "bad"), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0"); err == nil {
			r.t.Errorf("the program was served with %s", strings.SplitN(env[0], "=", 2)[0])
		}
		if !strings.HasPrefix(env[0], "DATABASE_URL") {
			continue
		}
		for _, args := range [][]string{{"migrate"}, {"doctor"}, {"backup", "--out", filepath.Join(r.dir, "none")}, {"restore", "--in", filepath.Join(r.dir, "all.backup")}} {
			if err := r.command(env, append(args, "--data-dir", filepath.Join(r.dir, "bad"))...); err == nil {
				r.t.Errorf("bindery %s worked without a database", args[0])
			}
		}
	}
}

// stored keeps every column of every table, and the files beside them but those that
// are keys.
func (r *canaryRun) stored(databaseURL string) {
	r.t.Helper()
	for _, u := range units() {
		if len(u.Migrations) == 0 {
			continue
		}
		conf := sqldb.Config{URL: databaseURL}
		if strings.Contains(databaseURL, "://") {
			conf.Schema = u.Name
		}
		db, err := sqldb.Open(r.t.Context(), conf)
		r.must(err)
		tables, err := sqldb.Layout(r.t.Context(), u.Migrations...)
		r.must(err)
		for _, table := range tables {
			rows, err := db.QueryContext(r.t.Context(), `SELECT * FROM `+table.Name)
			r.must(err)
			r.rows(rows)
		}
		r.must(db.Close())
	}
	r.must(filepath.WalkDir(r.dataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "seal.key" || strings.Contains(path, "tls") || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		r.shown.add("files", raw)
		return err
	}))
}

func (r *canaryRun) rows(rows *sql.Rows) {
	r.t.Helper()
	columns, err := rows.Columns()
	r.must(err)
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		r.must(rows.Scan(values...))
		for _, v := range values {
			held, _ := v.(*any)
			if b, ok := (*held).([]byte); ok {
				r.shown.add("stored", b)
			} else {
				r.shown.add("stored", fmt.Append(nil, *held))
			}
		}
	}
	r.must(errors.Join(rows.Err(), rows.Close()))
}

// secretName is how a field is called that holds a secret.
func secretName(name string) bool {
	for _, public := range []string{"page_token", "_id", "masked_", "public_"} {
		if strings.Contains(name, public) {
			return false
		}
	}
	for _, secret := range []string{"token", "secret", "password", "private_key", "jwt", "api_key", "cookie", "signature"} {
		if strings.HasSuffix(name, secret) {
			return true
		}
	}
	return false
}

// TestSecretsAreMarked wants every field of a request or an answer that is called like a
// secret to be marked as one in its proto: by that the canaries know them, and printers
// of messages leave them out.
func TestSecretsAreMarked(t *testing.T) {
	marked := 0
	var look func(m protoreflect.MessageDescriptor)
	seen := make(map[protoreflect.FullName]bool)
	look = func(m protoreflect.MessageDescriptor) {
		if seen[m.FullName()] {
			return
		}
		seen[m.FullName()] = true
		for i := range m.Fields().Len() {
			fd := m.Fields().Get(i)
			options, _ := fd.Options().(*descriptorpb.FieldOptions)
			switch {
			case options.GetDebugRedact():
				marked++
			case fd.Message() != nil:
				look(fd.Message())
			case fd.Kind() == protoreflect.StringKind && secretName(string(fd.Name())):
				t.Errorf("%s is not marked (debug_redact)", fd.FullName())
			}
		}
	}
	for _, r := range allRPCs() {
		if in, out := messagesOf(r.method); in != nil {
			look(in)
			look(out)
		}
	}
	if marked == 0 {
		t.Error("no field is marked")
	}
}
