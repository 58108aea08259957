package identity

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

// keyMaker makes RSA keys: a second of work for one of 4096 bits. At most half of the
// processors do so at a time, so that what else the process answers, checks above
// all, keeps the others; few may wait, and each of them only as long as it likes.
type keyMaker struct {
	slots   chan struct{}
	waiting atomic.Int64
	make    func(bits int) (*rsa.PrivateKey, error) // generates, but for tests
}

// maxWaitingKeys is how many may wait for a slot.
const maxWaitingKeys = 32

var errKeysBusy = apierr.Unavailable(apierr.ReasonOverloaded, "too many keys are being made, try again")

func newKeyMaker() *keyMaker {
	return &keyMaker{
		slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		make:  func(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) },
	}
}

// key makes a key, or returns when ctx ends; the work that has begun is then finished
// for nothing, and holds its slot until it is. Fails: OVERLOADED.
func (m *keyMaker) key(ctx context.Context, bits int) (*rsa.PrivateKey, error) {
	if m.waiting.Add(1) > maxWaitingKeys+int64(cap(m.slots)) {
		m.waiting.Add(-1)
		return nil, errKeysBusy
	}
	defer m.waiting.Add(-1)
	select {
	case m.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	type made struct {
		key *rsa.PrivateKey
		err error
	}
	done := make(chan made, 1) // nobody may be there any more
	go func() {
		defer func() { <-m.slots }()
		key, err := m.make(bits)
		done <- made{key, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("make a key: %w", r.err)
		}
		return r.key, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
