package signin

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// The answer of a provider is posted by another site, and its cookie has to come along; that
// of the session must not (RFC 6265bis, 5.6.7).
func TestCookiesOfAFederatedSignIn(t *testing.T) {
	s := &service{secure: true}
	w := httptest.NewRecorder()
	s.setFederated(w, "x", time.Minute)
	s.setCookie(w, cookieSession, "y", time.Minute)
	cookies := w.Result().Cookies()
	if len(cookies) != 2 {
		t.Fatalf("cookies %v", cookies)
	}
	for i, same := range []http.SameSite{http.SameSiteNoneMode, http.SameSiteLaxMode} {
		c := cookies[i]
		if c.SameSite != same || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.Name[:7] != "__Host-" {
			t.Errorf("%v", c)
		}
	}
}
