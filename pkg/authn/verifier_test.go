package authn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

func TestKeysAreReadWhenNeeded(t *testing.T) {
	w := newWorld(t)
	tok := w.token(t).Text
	for range 100 {
		if got := w.reason(tok); got != "" {
			t.Fatal(got)
		}
	}
	if n := w.reads.Load(); n != 1 {
		t.Errorf("%d readings for one key", n)
	}
	// A new key is found by the first token that names it.
	second := newKey("k2")
	w.keys = func() ([]Key, error) { return []Key{w.public("k2", second), w.public("k1", w.key)}, nil }
	w.issuer.Key = func() SigningKey { return SigningKey{ID: "k2", Private: second} }
	w.advance(2 * refreshPause)
	if got := w.reason(w.token(t).Text); got != "" {
		t.Error(got)
	}
	if got := w.reason(tok); got != "" {
		t.Errorf("the old key went: %q", got)
	}
	// Made-up keys cost at most one reading a second.
	before := w.reads.Load()
	for i := range 200 {
		text, err := sign(second, claims(func(c *identityv1.TokenClaims) { c.KeyId = fmt.Sprint("x", i) }))
		if err != nil {
			t.Fatal(err)
		}
		if got := w.reason(text); got != apierr.ReasonTokenInvalid {
			t.Fatal(got)
		}
		w.advance(10 * time.Millisecond)
	}
	if n := w.reads.Load() - before; n > 3 {
		t.Errorf("%d readings in 2 seconds", n)
	}
}

func TestWithdrawnKey(t *testing.T) {
	w := newWorld(t)
	tok := w.token(t).Text
	if got := w.reason(tok); got != "" {
		t.Fatal(got)
	}
	w.keys = func() ([]Key, error) { return nil, nil }
	w.advance(refreshEvery)
	deadline := time.Now().Add(5 * time.Second)
	for w.reason(tok) != apierr.ReasonTokenInvalid { // the reading runs beside the callers
		if time.Now().After(deadline) {
			t.Fatal("a kept token outlives its key")
		}
		time.Sleep(time.Millisecond) // asks again until then, or the deadline
	}
}

func TestUnreadableKeys(t *testing.T) {
	w := newWorld(t)
	keys := w.keys
	w.keys = func() ([]Key, error) { return nil, errors.New("identity is away") }
	tok := w.token(t).Text
	_, err := w.verifier.Verify(context.Background(), tok)
	if apierr.CodeOf(err) != codes.Unavailable {
		t.Errorf("no keys at all: %v, want Unavailable", err)
	}
	w.keys = keys
	w.advance(refreshPause)
	if got := w.reason(tok); got != "" {
		t.Fatal(got)
	}
	// Known keys stay in use while the source is away.
	w.keys = func() ([]Key, error) { return nil, errors.New("identity is away") }
	w.advance(refreshEvery)
	for range 50 {
		if got := w.reason(tok); got != "" {
			t.Fatal(got)
		}
		time.Sleep(time.Millisecond) // room for the reading beside the callers to fail in between
	}
}

func TestCacheIsBounded(t *testing.T) {
	w := newWorld(t)
	w.verifier.cache.limit = 64
	first := w.token(t).Text
	for range 1000 {
		if got := w.reason(w.token(t).Text); got != "" {
			t.Fatal(got)
		}
	}
	n := 0
	for i := range w.verifier.cache.shards {
		n += len(w.verifier.cache.shards[i].entries)
	}
	if n > 64 {
		t.Errorf("%d tokens kept, at most 64", n)
	}
	if got := w.reason(first); got != "" {
		t.Errorf("a dropped token: %q", got)
	}
}

func TestConcurrentVerify(t *testing.T) {
	w := newWorld(t)
	tokens := make([]string, 20)
	for i := range tokens {
		tokens[i] = w.token(t).Text
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				if got := w.reason(tokens[(i*7+j)%len(tokens)]); got != "" {
					t.Error(got)
				}
			}
		})
	}
	wg.Wait()
	if n := w.reads.Load(); n != 1 {
		t.Errorf("%d readings", n)
	}
}

func TestKeptTokenCostsNoAllocation(t *testing.T) {
	w := newWorld(t)
	tok, ctx := w.token(t).Text, context.Background()
	if got := testing.AllocsPerRun(1000, func() {
		if _, err := w.verifier.Verify(ctx, tok); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkVerifyKept(b *testing.B) {
	w := newWorld(b)
	tok, ctx := w.token(b).Text, context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.verifier.Verify(ctx, tok); err != nil {
			b.Fatal(err)
		}
	}
}
