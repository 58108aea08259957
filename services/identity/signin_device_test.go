package identity

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/services/identity/signin"
)

// A program without a browser gets a session of who types in its code and says yes
// (RFC 8628).
func TestSignInOfDevices(t *testing.T) {
	inSignInSuite(t, func(t *testing.T, w *signInSuite) {
		program := newBrowser(t)
		ask := func(path string, form url.Values) map[string]any {
			t.Helper()
			form.Set("client_id", signin.CLI)
			p := program.post(w.at+path, form)
			got := map[string]any{}
			if err := json.Unmarshal([]byte(p.text), &got); err != nil {
				t.Fatalf("%v: %s", err, p.text)
			}
			return got
		}
		begin := func() (deviceCode, userCode string) {
			t.Helper()
			got := ask("/login/device", url.Values{"device": {"server-1"}})
			if got["verification_uri"] != w.at+"/device" {
				t.Fatalf("begun: %v", got)
			}
			return got["device_code"].(string), got["user_code"].(string)
		}
		outcome := func(deviceCode string) map[string]any {
			t.Helper()
			w.advance(5 * time.Second)
			return ask("/login/token", url.Values{"grant_type": {signin.DeviceGrant}, "device_code": {deviceCode}})
		}
		wantError := func(got map[string]any, code string) {
			t.Helper()
			if got["error"] != code || got["access_token"] != nil {
				t.Errorf("got %v, want %s", got, code)
			}
		}

		deviceCode, userCode := begin()
		wantError(outcome(deviceCode), "authorization_pending")
		wantError(ask("/login/token", url.Values{"grant_type": {signin.DeviceGrant}, "device_code": {deviceCode}}), "slow_down")
		wantError(outcome("x"), "expired_token")

		b := newBrowser(t)
		choice := b.get(w.at + "/device") // who is not signed in does so first
		if p := b.signIn(w.at+"/login/corp"+strings.ReplaceAll(between(choice.text, `href="/login/corp`, `"`), "&amp;", "&"), "ada"); !strings.Contains(p.text, "Type in the code") {
			t.Fatalf("no form but %s", p.text)
		}
		if p := b.post(w.at+"/device", url.Values{"user_code": {"BCDF-GHJK"}}); p.StatusCode != http.StatusNotFound {
			t.Errorf("a code of nobody: %d", p.StatusCode)
		}
		question := func(userCode string) browserPage {
			t.Helper()
			p := b.post(w.at+"/device", url.Values{"user_code": {strings.ToLower(strings.ReplaceAll(userCode, "-", " "))}})
			if !strings.Contains(p.text, "on server-1") {
				t.Fatalf("no question but %s", p.text)
			}
			return p
		}
		asked := question(userCode)
		other := newBrowser(t)
		other.signIn(w.at+"/login/corp", "bob")
		if p := other.submit(asked, "/device"); p.StatusCode != http.StatusBadRequest {
			t.Errorf("another's form: %d", p.StatusCode)
		}
		wantError(outcome(deviceCode), "authorization_pending")
		w.restart()
		b.submit(asked, "/device")
		got := outcome(deviceCode)
		token, _ := got["access_token"].(string)
		w.must(w.works(token))
		if got["login"] != "ada@corp" {
			t.Errorf("signed in as %v", got["login"])
		}
		wantError(outcome(deviceCode), "expired_token")
		if p := b.submit(asked, "/device"); p.StatusCode != http.StatusNotFound {
			t.Errorf("yes again: %d", p.StatusCode)
		}

		deviceCode, userCode = begin()
		form := url.Values{"request": {hidden.FindStringSubmatch(question(userCode).text)[2]}, "answer": {"no"}}
		b.post(w.at+"/device", form)
		wantError(outcome(deviceCode), "access_denied")
		if p := b.submit(asked, "/device"); p.StatusCode != http.StatusNotFound {
			t.Errorf("yes after no: %d", p.StatusCode)
		}

		deviceCode, userCode = begin()
		asked = question(userCode)
		b.submit(asked, "/device")
		b.hold = w.corp.URL + "/end_session"
		b.post(w.at+"/logout", nil) // the person's session ends before the program asks
		wantError(outcome(deviceCode), "expired_token")

		deviceCode, _ = begin()
		w.advance(10 * time.Minute)
		wantError(outcome(deviceCode), "expired_token")
	})
}
