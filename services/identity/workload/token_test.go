package workload

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/services/identity/outbound"
	"github.com/bindery-iam/bindery/services/identity/workload/workloadtest"
)

const (
	subject  = "repo:acme/app:ref:refs/heads/main"
	audience = "https://iam.example"
)

// desk is an issuer and the way to its keys.
type desk struct {
	*workloadtest.Issuer
	keys *outbound.KeySet
	now  time.Time
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{now: time.Now()}
	srv := httptest.NewUnstartedServer(nil)
	d.Issuer = workloadtest.New(t, "http://"+srv.Listener.Addr().String())
	srv.Config.Handler = d.Issuer
	srv.Start()
	t.Cleanup(srv.Close)
	d.keys = outbound.NewKeySets(outbound.NewClient(outbound.Config{Loopback: true}), nil).At(srv.URL + "/keys")
	return d
}

// take takes a token in all steps.
func (d *desk) take(t *testing.T, text string) error {
	t.Helper()
	token, err := Parse(text, d.now)
	if err != nil {
		return err
	}
	if token.Subject != subject {
		return fmt.Errorf("%w: another subject", ErrInvalid)
	}
	if err := token.For(d.URL, []string{"https://unused.example", audience}); err != nil {
		return err
	}
	return token.Verify(t.Context(), d.keys)
}

func TestGoodTokens(t *testing.T) {
	d := newDesk(t)
	for name, change := range map[string]func(map[string]any){
		"whole":                        func(map[string]any) {},
		"one audience":                 func(c map[string]any) { c["aud"] = audience },
		"further audiences":            func(c map[string]any) { c["aud"] = []string{"x", audience} },
		"no nbf":                       func(c map[string]any) { delete(c, "nbf") },
		"times with fractions":         func(c map[string]any) { c["iat"] = float64(d.now.Unix()) + 0.5 },
		"an issuer whose clock is off": func(c map[string]any) { c["iat"] = d.now.Add(Leeway / 2).Unix() },
		"a day old":                    func(c map[string]any) { c["iat"] = d.now.Add(time.Minute - MaxAge).Unix() },
		"other claims":                 func(c map[string]any) { c["kubernetes.io"] = map[string]any{"namespace": "a"} },
	} {
		claims := d.Claims(subject, audience, d.now)
		change(claims)
		if err := d.take(t, d.Token(claims)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Of the corpus nothing is taken, and the log learns nothing of it.
func TestBadTokens(t *testing.T) {
	d := newDesk(t)
	bad := d.Bad(subject, audience, d.now)
	if len(bad) < 90 {
		t.Errorf("%d tokens, want 90 at least", len(bad))
	}
	for name, text := range bad {
		err := d.take(t, text)
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want it to be refused", name, err)
		} else if len(text) > 20 && strings.Contains(err.Error(), text[:20]) {
			t.Errorf("%s: the error has the token: %v", name, err)
		}
	}
	if n := d.Reads.Load(); n != 1 {
		t.Errorf("the keys were read %d times, want 1", n)
	}
}

func FuzzParse(f *testing.F) {
	i := workloadtest.New(f, "https://issuer.example")
	now := time.Now()
	f.Add(i.Token(i.Claims(subject, audience, now)))
	for _, text := range i.Bad(subject, audience, now) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := Parse(text, now)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("another error: %v", err)
			}
			return
		}
		if token.Issuer == "" || token.Subject == "" || token.For("", nil) == nil {
			t.Error("a token of nobody")
		}
	})
}
