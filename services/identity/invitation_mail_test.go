package identity

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"buf.build/go/protovalidate"

	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// eventually waits for something that a worker does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// Every send is one mail, also when notifications is away meanwhile; what can no
// longer be answered is not mailed.
func TestInvitationsAreMailed(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga := w.citizen("olga")
		org := w.organization(olga, "acme")
		w.post.closed.Store(true)
		vera, nick := w.invite(olga, org, "vera@example.com"), w.invite(olga, org, "nick@example.com")
		if err := w.revoke(olga, nick.GetId()); err != nil {
			t.Fatal(err)
		}
		w.post.closed.Store(false)
		eventually(t, "the first mail", func() bool { return w.post.mails()["vera@example.com "+vera.GetId()+":1"] != nil })
		if err := w.resend(olga, vera.GetId()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the second mail", func() bool { return w.post.mails()["vera@example.com "+vera.GetId()+":2"] != nil })
		eventually(t, "the end of all jobs", func() bool {
			var left int
			if err := w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM goqite`).Scan(&left); err != nil {
				t.Fatal(err)
			}
			return left == 0
		})
		all := w.post.mails()
		if len(all) != 2 {
			t.Errorf("mails %v, want two to vera", all)
		}
		for _, n := range all {
			if !strings.Contains(n.GetTitle(), "ACME") || !strings.Contains(n.GetText(), vera.GetId()) || !strings.Contains(n.GetText(), "vera@example.com") {
				t.Errorf("the mail %v does not say who invites, whom, and by what", n)
			}
			if strings.Contains(n.GetText(), "t1.") || strings.Contains(n.GetText(), oauthPrefix) || regexp.MustCompile(`[A-Za-z0-9_-]{30,}`).MatchString(n.GetText()) {
				t.Errorf("the mail %v holds what looks like a secret", n)
			}
		}
	})
}

// Whatever an organization is called, notifications takes the mail.
func TestInvitationNoticeIsTaken(t *testing.T) {
	for _, name := range []string{"", "ACME", "two\nlines\tand\u2028more\u0085", strings.Repeat("ж", 256), "\u00a0"} {
		n := Invitation{
			ID: "inv00000000000000000", OrganizationID: "org00000000000000000", OrganizationName: name, Email: strings.Repeat("a", 64) + "@example.com",
			State: Pending, Sends: maxSends, ExpiresAt: time.Now(),
		}.notice()
		if err := protovalidate.Validate(&notificationv1.NotifyRequest{Notice: n}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}
