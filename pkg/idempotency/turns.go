package idempotency

import (
	"context"
	"crypto/sha256"
	"sync"
)

// Turns lets calls with one key follow one another within a process, so that those
// that wait hold no transaction, and find the first one's operation as its caller
// was given it. The zero value is ready. (Between processes the row decides alone.)
type Turns struct {
	mu    sync.Mutex
	taken map[[sha256.Size]byte]*turn
}

// turn is the calls of one key: slot holds a token while one of them is under way.
type turn struct {
	slot  chan struct{}
	calls int // that hold or wait for it
}

// Take waits until no other call with the key is under way, and returns what ends
// this one. Fails when ctx ends.
func (t *Turns) Take(ctx context.Context, k *Key) (done func(), err error) {
	mine := t.enter(k)
	select {
	case mine.slot <- struct{}{}:
		return func() {
			<-mine.slot
			t.leave(k, mine)
		}, nil
	case <-ctx.Done():
		t.leave(k, mine)
		return nil, ctx.Err()
	}
}

func (t *Turns) enter(k *Key) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.taken[k.ref]
	if mine == nil {
		if t.taken == nil {
			t.taken = make(map[[sha256.Size]byte]*turn)
		}
		mine = &turn{slot: make(chan struct{}, 1)}
		t.taken[k.ref] = mine
	}
	mine.calls++
	return mine
}

func (t *Turns) leave(k *Key, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.calls--; mine.calls == 0 {
		delete(t.taken, k.ref)
	}
}
