package notifications

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

func addressed(noticeID string, emails ...string) *notificationv1.Notice {
	return &notificationv1.Notice{
		Id: noticeID, Event: "invitation.sent", Title: "Приглашение в acme", Text: "Come in.\nPlease.",
		Recipients: &notificationv1.Notice_Addresses{Addresses: &notificationv1.Addresses{Emails: emails}},
	}
}

// A notice to addresses is a mail to each, whatever the case of the letters, with an
// id that says which delivery it is; sent again, it is the same notice.
func TestMailToAddresses(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		n := addressed(newID(), "Ann@example.com", "bob@example.com", "ann@example.com")
		for i := range 3 {
			got := must(w.notify.Notify(t.Context(), &notificationv1.NotifyRequest{Notice: n}))(t)
			if got.GetKnown() != (i > 0) {
				t.Errorf("time %d: known %v", i, got.GetKnown())
			}
		}
		want := []string{"mail Ann@example.com DELIVERED", "mail bob@example.com DELIVERED"}
		if diff := cmp.Diff(want, w.settled(n.GetId())); diff != "" {
			t.Errorf("deliveries (-want +got):\n%s", diff)
		}
		letters := w.mail.letters("Ann@example.com")
		if len(letters) != 1 {
			t.Fatalf("%d letters to Ann, want one", len(letters))
		}
		l := letters[0]
		if l.subject != n.GetTitle() || l.from != "no-reply@bindery.example" || !l.secure {
			t.Errorf("letter %+v, want the title, the sender, and STARTTLS", l)
		}
		if l.header.Get("X-Bindery-Notice") != n.GetId() || l.header.Get("Auto-Submitted") != "auto-generated" {
			t.Errorf("headers %v", l.header)
		}
		if first, second := l.header.Get("Message-Id"), w.mail.letters("bob@example.com")[0].header.Get("Message-Id"); first == second || !strings.HasPrefix(first, "<dlv") {
			t.Errorf("Message-IDs %s and %s, want two ids of deliveries", first, second)
		}
	})
}

// A server that is away, or says so for now, is asked again, ever later; and what it
// then takes has the id of the first attempt. One that refuses for good ends it.
func TestMailIsRetried(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mail.set(func(m *mailServer) {
			m.refuse = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "later"}
		})
		n := addressed(newID(), "ann@example.com")
		w.tell(n)
		attempts := func() int64 {
			var n int64
			if err := w.db.QueryRowContext(t.Context(), `SELECT COALESCE(MAX(attempts), 0) FROM notifications_deliveries`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		for i := range int64(3) {
			w.eventually("an attempt", func() bool { return attempts() > i })
			w.pass(pauses[i] + pauses[i]/5)
		}
		w.mail.set(func(m *mailServer) { m.refuse = nil })
		w.eventually("the last pause passes", func() bool {
			w.pass(time.Hour)
			return len(w.mail.letters("")) > 0
		})
		if got := w.settled(n.GetId()); !slices.Equal(got, []string{"mail ann@example.com DELIVERED"}) {
			t.Errorf("deliveries %v", got)
		}
		w.mail.set(func(m *mailServer) {
			m.refuse = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody of that name"}
		})
		gone := addressed(newID(), "nobody@example.com")
		w.tell(gone)
		if got := w.settled(gone.GetId()); !slices.Equal(got, []string{"mail nobody@example.com DEAD"}) {
			t.Errorf("deliveries %v, want one that is dead at once", got)
		}
	})
}

// After GiveUpAfter nothing is tried any more, and the delivery says why.
func TestMailIsGivenUp(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mail.set(func(m *mailServer) { m.refuse = &smtp.SMTPError{Code: 450, Message: "mailbox busy"} })
		n := addressed(newID(), "ann@example.com")
		w.tell(n)
		w.eventually("it is given up", func() bool {
			w.pass(7 * time.Hour)
			return slices.Equal(w.deliveries(n.GetId()), []string{"mail ann@example.com DEAD"})
		})
		var failure string
		var age int64
		err := w.db.QueryRowContext(t.Context(), `SELECT failure, ended_at - created_at FROM notifications_deliveries`).Scan(&failure, &age)
		if err != nil || !strings.Contains(failure, "mailbox busy") {
			t.Errorf("failure %q, %v; want what the server said", failure, err)
		}
		if time.Duration(age)*time.Microsecond < DefaultGiveUpAfter-12*time.Hour {
			t.Errorf("given up after %v", time.Duration(age)*time.Microsecond)
		}
	})
}

// A crash after the server took a mail and before that is recorded sends it again,
// as the same mail.
func TestMailAfterACrashHasTheSameID(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		n := addressed(newID(), "ann@example.com")
		w.mail.set(func(m *mailServer) {
			m.afterData = func() { // the database goes away until the restart: nothing can be recorded
				m.afterData = nil
				if _, err := w.db.Pool().ExecContext(t.Context(), `ALTER TABLE notifications_deliveries RENAME TO away`); err != nil {
					t.Error(err)
				}
			}
		})
		w.tell(n)
		w.eventually("the first mail", func() bool { return len(w.mail.letters("")) == 1 })
		w.Stop()
		if _, err := w.db.Pool().ExecContext(t.Context(), `ALTER TABLE away RENAME TO notifications_deliveries`); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.pass(0)
		if got := w.settled(n.GetId()); !slices.Equal(got, []string{"mail ann@example.com DELIVERED"}) {
			t.Errorf("deliveries %v", got)
		}
		letters := w.mail.letters("")
		if len(letters) < 2 {
			t.Errorf("%d letters, want the one that was not recorded again", len(letters))
		}
		for _, l := range letters {
			if id := l.header.Get("Message-Id"); id != letters[0].header.Get("Message-Id") {
				t.Errorf("Message-ID %s, want that of the first attempt", id)
			}
		}
	})
}

// No text of a notice becomes a header, a recipient or the end of a letter.
func TestMailHeadersCannotBeInjected(t *testing.T) {
	evil := []string{
		"x\r\nBcc: eve@example.com", "x\nBcc: eve@example.com", "x\rBcc: eve@example.com", "x\r\n\r\nbody", "\r\n.\r\nQUIT",
		"x\u2028Bcc: eve@example.com", "x\u0085Bcc: eve@example.com", "=?utf-8?q?=0D=0ABcc:_eve@example.com?=", strings.Repeat("long ", 300),
	}
	m := &smtpMailer{from: `"bindery" <no-reply@bindery.example>`, domain: "bindery.example"}
	for i, text := range evil {
		n := Notice{Notice: addressed(fmt.Sprint("n", i), "ann@example.com"), TakenAt: time.Now()}
		n.Title, n.Text = text, text
		n.Path = []*notificationv1.PathElement{{Type: typeCloud, Id: "cld1", Name: text}}
		msg, err := m.compose(n, Delivery{ID: "dlv1", Target: "ann@example.com"})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if _, err := msg.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(b.String(), "\r\n\r\n")
		for line := range strings.SplitSeq(head, "\r\n") {
			if lower := strings.ToLower(line); strings.HasPrefix(lower, "bcc:") || strings.ContainsAny(line, "\r\n") || line == "." {
				t.Errorf("%q: header line %q", text, line)
			}
		}
	}
	for _, address := range []string{"ann@example.com\r\nBcc: eve@example.com", "ann@example.com, eve@example.com", "ann@example.com>\r\nRCPT TO:<eve@example.com"} {
		if _, err := m.compose(Notice{Notice: addressed("n", address), TakenAt: time.Now()}, Delivery{ID: "dlv1", Target: address}); err == nil {
			t.Errorf("recipient %q was taken", address)
		}
	}
}

// A password is never sent in the clear, nor shown: over STARTTLS and over TLS from
// the first byte on it signs in, and without TLS there is no mail.
func TestMailPassword(t *testing.T) {
	const password = "canary-3f9c1e"
	ca, cert := authority(t)
	conf := serverTLS(cert)
	for _, tt := range []struct {
		name     string
		tls      bool
		implicit bool
		password string
		ok       bool
	}{
		{"starttls", true, false, password, true},
		{"implicit", true, true, password, true},
		{"without tls", false, false, password, false},
		{"wrong password", true, false, "canary-wrong", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &mailServer{password: password}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if tt.tls {
				m.serve(t, l, conf, tt.implicit)
			} else {
				m.serve(t, l, nil, false)
			}
			cfg := Config{
				SMTP:     SMTP{Host: "127.0.0.1", Port: m.port, Implicit: tt.implicit, User: "bindery", Password: Secret(tt.password)},
				MailFrom: "no-reply@bindery.example", tls: clientTLS(ca),
			}
			mailer, err := newSMTPMailer(cfg)
			if err != nil {
				t.Fatal(err)
			}
			err = mailer.send(t.Context(), Notice{Notice: addressed("n", "ann@example.com"), TakenAt: time.Now()}, Delivery{ID: "dlv1", Target: "ann@example.com"})
			if (err == nil) != tt.ok || (len(m.letters("")) == 1) != tt.ok {
				t.Errorf("send: %v, %d letters; want it to succeed: %v", err, len(m.letters("")), tt.ok)
			}
			if err != nil && strings.Contains(err.Error(), tt.password) {
				t.Errorf("the error shows the password: %v", err)
			}
			shown, merr := json.Marshal(cfg.SMTP)
			if merr != nil || strings.Contains(fmt.Sprintf("%v %+v %#v %s", cfg.SMTP, cfg.SMTP, cfg.SMTP, shown), "canary") {
				t.Error("the configuration shows the password")
			}
		})
	}
}

// Without a mail server a notice is one line of the log, with these fields and not
// with its text or details.
func TestLogOfNotifications(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	n := Notice{Notice: addressed("n1", "ann@example.com"), TakenAt: time.Now()}
	n.Text, n.Details = "canary: the code is 1234", map[string]string{"code": "canary"}
	if err := (&logMailer{zap.New(core)}).send(t.Context(), n, Delivery{ID: "dlv1", Target: "ann@example.com"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"delivery_id": "dlv1", "notice_id": "n1", "event": "invitation.sent", "organization_id": "",
		"recipient": "ann@example.com", "title": n.GetTitle(),
	}
	if all := logs.All(); len(all) != 1 || all[0].Message != "notice" {
		t.Fatalf("log %v, want one line", all)
	}
	if diff := cmp.Diff(want, logs.All()[0].ContextMap()); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestParseSMTP(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		url, file string
		want      SMTP
		bad       bool
	}{
		{url: "smtp://mail.example", want: SMTP{Host: "mail.example", Port: 587}},
		{url: "smtp://mail.example:2525/", want: SMTP{Host: "mail.example", Port: 2525}},
		{url: "smtps://u:p%40w@mail.example", want: SMTP{Host: "mail.example", Port: 465, Implicit: true, User: "u", Password: "p@w"}},
		{url: "smtp://u@mail.example", file: file, want: SMTP{Host: "mail.example", Port: 587, User: "u", Password: "from file"}},
		{url: "smtp://[::1]:25", want: SMTP{Host: "::1", Port: 25}},
		{url: "smtp://u@mail.example", bad: true},
		{url: "smtp://mail.example", file: file, bad: true},
		{url: "smtp://u@mail.example", file: file + ".none", bad: true},
		{url: "http://mail.example", bad: true},
		{url: "mail.example:25", bad: true},
		{url: "smtp://", bad: true},
		{url: "smtp://u:canary@mail.example:0", bad: true},
		{url: "smtp://u:canary@mail.example:99999", bad: true},
		{url: "smtp://u:canary@mail.example/path", bad: true},
		{url: "smtp://u:canary@mail.example?x=y", bad: true},
		{url: "smtp://u:canary%zz@mail.example", bad: true},
	} {
		got, err := ParseSMTP(tt.url, tt.file)
		if (err != nil) != tt.bad || err == nil && got != tt.want {
			t.Errorf("%s: %+v, %v", tt.url, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error shows the password: %v", tt.url, err)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		cfg Config
		ok  bool
	}{
		{Config{}, true},
		{Config{SMTP: SMTP{Host: "mail.example"}, MailFrom: "a@b.example"}, true},
		{Config{SMTP: SMTP{Host: "mail.example"}}, false},
		{Config{SMTP: SMTP{Host: "mail.example"}, MailFrom: "a@b.example\r\nBcc: c@d.example"}, false},
		{Config{GiveUpAfter: -1}, false},
	} {
		if err := tt.cfg.Validate(); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt.cfg, err)
		}
	}
}
