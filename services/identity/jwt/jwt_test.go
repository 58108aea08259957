package jwt

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/services/identity/jwt/jwttest"
)

const ownAudience = "https://bindery.example:7070/iam/v1/tokens"

var audiences = []string{PublicAudience, ownAudience}

// holders are two accounts with a key each.
func holders(t testing.TB) (h, other jwttest.Holder) {
	t.Helper()
	make := func(kid, account string) jwttest.Holder {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		return jwttest.Holder{KeyID: kid, Account: account, Private: key, Audience: PublicAudience, Now: time.Unix(1_790_000_000, 0), T: t}
	}
	return make("aky5i0lq8r2d3fk7gm1a", "sac5i0lq8r2d3fk7gm1b"), make("akyq7g3m1d9e0v4t2s6u", "sacq7g3m1d9e0v4t2s6v")
}

// accept does what the exchange does: the key of kid must be the account's.
func accept(text string, now time.Time, known ...jwttest.Holder) error {
	t, err := Parse(text, audiences, now)
	if err != nil {
		return err
	}
	for _, h := range known {
		if h.KeyID == t.KeyID && h.Account == t.Issuer {
			return t.Verify(&h.Private.PublicKey)
		}
	}
	return invalid("no such key")
}

func TestGoodTokens(t *testing.T) {
	h, other := holders(t)
	for _, c := range jwttest.Good(h) {
		if err := accept(c.Text, h.Now, h, other); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	own := h
	own.Audience = ownAudience
	if err := accept(own.Token(), h.Now, h, other); err != nil {
		t.Errorf("for our own audience: %v", err)
	}
}

// None of the corpus is accepted, each within time and memory, and no refusal says
// anything of what it refused.
func TestBadTokens(t *testing.T) {
	h, other := holders(t)
	corpus := jwttest.Bad(h, other)
	if len(corpus) < 150 {
		t.Fatalf("%d cases, at least 150 are wanted", len(corpus))
	}
	t.Logf("%d cases", len(corpus))
	var before, after runtime.MemStats
	for _, c := range corpus {
		runtime.ReadMemStats(&before)
		begin := time.Now()
		err := accept(c.Text, h.Now, h, other)
		took := time.Since(begin)
		runtime.ReadMemStats(&after)
		switch {
		case err == nil:
			t.Errorf("%s: accepted: %.200s", c.Name, c.Text)
		case !errors.Is(err, ErrInvalid):
			t.Errorf("%s: refused by %v", c.Name, err)
		case strings.Contains(err.Error(), h.KeyID) || strings.Contains(err.Error(), h.Account) || len(err.Error()) > 100:
			t.Errorf("%s: the refusal tells what it refused: %v", c.Name, err)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
			t.Errorf("%s: took %d bytes", c.Name, grown)
		}
		if took > time.Second {
			t.Errorf("%s: took %v", c.Name, took)
		}
	}
}

func TestTimesCount(t *testing.T) {
	h, _ := holders(t)
	token := h.Token()
	for ahead, good := range map[time.Duration]bool{
		-61 * time.Second: false, -60 * time.Second: true, 0: true, time.Hour: true, time.Hour + 59*time.Second: true, time.Hour + time.Minute: false,
	} {
		if err := accept(token, h.Now.Add(ahead), h); (err == nil) != good {
			t.Errorf("%v after iat: %v, want good %t", ahead, err, good)
		}
	}
}

// FuzzParse: nothing is accepted that the holder of the key has not signed, letter by
// letter.
func FuzzParse(f *testing.F) {
	h, other := holders(f)
	signed := map[string]bool{}
	for _, c := range jwttest.Good(h) {
		signed[c.Text] = true
		f.Add(c.Text)
	}
	for _, c := range jwttest.Bad(h, other) {
		if len(c.Text) <= MaxLen {
			f.Add(c.Text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		switch err := accept(text, h.Now, h); {
		case err == nil && !signed[text]:
			t.Fatalf("accepted %.200q, which nobody signed so", text)
		case err != nil && !errors.Is(err, ErrInvalid):
			t.Fatalf("refused by %v", err)
		}
	})
}
