package signin

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSealed(t *testing.T) {
	now := time.Unix(1000, 0)
	s, err := newSealer(make([]byte, KeySize), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	text, err := seal(s, "a", flow{State: "s"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := open[flow](s, "a", text); err != nil || got.State != "s" {
		t.Errorf("opened %v, %v", got, err)
	}
	if _, err := open[flow](s, "b", text); err == nil {
		t.Error("opened for another purpose")
	}
	other, _ := newSealer(bytes.Repeat([]byte{1}, KeySize), s.now)
	if _, err := open[flow](other, "a", text); err == nil {
		t.Error("opened by another key")
	}
	for i := range len(text) {
		changed := []byte(text)
		if changed[i]++; changed[i] == '{' || changed[i] == ':' || changed[i] == '[' || changed[i] == '.' || changed[i] == '`' {
			changed[i] = '0'
		}
		if got, err := open[flow](s, "a", string(changed)); err == nil && string(changed) != text {
			t.Errorf("opened as %v with byte %d changed", got, i)
		}
	}
	for _, bad := range []string{"", "x", text[:len(text)-1], text + "A", text + "=", " " + text} {
		if _, err := open[flow](s, "a", bad); err == nil {
			t.Errorf("opened %q", bad)
		}
	}
	now = now.Add(time.Minute)
	if _, err := open[flow](s, "a", text); err == nil {
		t.Error("opened after its end")
	}
}

func TestLeadsNowhereElse(t *testing.T) {
	for target, want := range map[string]string{
		"/device?user_code=A":    "/device?user_code=A",
		"/login/authorize?a=b":   "/login/authorize?a=b",
		"/login/authorize?a=b#c": "/login/authorize?a=b",
		"":                       "", "/": "", "/docs/": "", "//evil/login/authorize": "", "https://evil/login/authorize": "", "/login/authorize/../x": "",
		`/\evil/login/authorize`: "", "http:/login/authorize": "", "javascript:/login/authorize": "", "login/authorize": "", "/login/authorize%0d%0aX:y": "",
	} {
		if got := back(target); got != want {
			t.Errorf("%q leads to %q, not %q", target, got, want)
		}
	}
	for uri, want := range map[string]bool{
		"http://127.0.0.1:1/callback": true, "http://[::1]:65535/callback": true,
		"http://127.0.0.1/callback": false, "https://127.0.0.1:1/callback": false, "http://localhost:1/callback": false, "http://127.0.0.1:1/": false,
		"http://127.0.0.1:1/callback?x=y": false, "http://127.0.0.1:1/callback#f": false, "http://a@127.0.0.1:1/callback": false,
		"http://127.0.0.1.evil.example:1/callback": false, "http://127.0.0.2:1/callback": false, "http://0:1/callback": false, "//127.0.0.1:1/callback": false, "": false,
	} {
		if got := loopback(uri); got != want {
			t.Errorf("%q is loopback: %t", uri, got)
		}
	}
}

// One network is slowed down, others are not, and strangers do not fill the memory.
func TestLimiter(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLimiter(func() time.Time { return now })
	for range atOnce {
		if !l.allow("[2001:db8::1]:1") {
			t.Fatal("refused early")
		}
	}
	if l.allow("[2001:db8::2]:9") {
		t.Error("another address of the network is let in")
	}
	if !l.allow("[2001:db8:0:1::1]:1") || !l.allow("192.0.2.1:1") {
		t.Error("another network is refused")
	}
	now = now.Add(time.Second / perSecond)
	if !l.allow("[2001:db8::1]:1") || l.allow("[2001:db8::1]:1") {
		t.Error("not one more after the pause")
	}
	for i := range 2 * maxSenders {
		l.allow(fmt.Sprintf("10.%d.%d.%d:1", i>>16&255, i>>8&255, i&255))
	}
	if len(l.senders) > maxSenders {
		t.Errorf("%d senders are remembered", len(l.senders))
	}
}

func TestReadProvider(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("secret", "s3cret\n")
	p, err := ReadProvider("corp", write("good.json", `{"issuer": "https://sso.example", "clientId": "c", "clientSecretFile": "secret", "organizationId": "org"}`))
	if err != nil || p.secret != "s3cret" || p.OrganizationID != "org" || p.title() != "corp" {
		t.Errorf("read %+v, %v", p, err)
	}
	write("empty", " \n")
	for name, text := range map[string]string{
		"no JSON":           `{`,
		"unknown field":     `{"issuer": "https://sso.example", "clientId": "c", "clientSecret": "s"}`,
		"no issuer":         `{"clientId": "c"}`,
		"no client":         `{"issuer": "https://sso.example"}`,
		"plain elsewhere":   `{"issuer": "http://sso.example", "clientId": "c"}`,
		"issuer with query": `{"issuer": "https://sso.example?x=y", "clientId": "c"}`,
		"no secret file":    `{"issuer": "https://sso.example", "clientId": "c", "clientSecretFile": "none"}`,
		"empty secret":      `{"issuer": "https://sso.example", "clientId": "c", "clientSecretFile": "empty"}`,
	} {
		if _, err := ReadProvider("corp", write("bad.json", text)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	for _, name := range []string{"", "Corp", "callback", "token", "a/b", "1", strings.Repeat("a", 32)} {
		if _, err := ReadProvider(name, filepath.Join(dir, "good.json")); err == nil {
			t.Errorf("the name %q is taken", name)
		}
	}
}
