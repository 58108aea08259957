package identity

import (
	"context"
	"crypto/rsa"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// slowMaker is a keyMaker of one slot whose work takes until finish is closed.
func slowMaker() (m *keyMaker, busy *atomic.Int64, finish chan struct{}) {
	busy, finish = new(atomic.Int64), make(chan struct{})
	m = &keyMaker{slots: make(chan struct{}, 1), make: func(int) (*rsa.PrivateKey, error) {
		busy.Add(1)
		defer busy.Add(-1)
		<-finish
		return new(rsa.PrivateKey), nil
	}}
	return m, busy, finish
}

// Whoever gives up is not kept, and the work that was begun holds its slot to its end.
func TestKeyMakerEndsWithItsCaller(t *testing.T) {
	m, busy, finish := slowMaker()
	for range 2 { // one at work, one that waits for the slot
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := m.key(ctx, 4096); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller that gave up got %v", err)
		}
		cancel()
		if n := busy.Load(); n != 1 {
			t.Errorf("%d keys are made at once, in one slot", n)
		}
	}
	close(finish)
	if _, err := m.key(t.Context(), 2048); err != nil {
		t.Errorf("after that: %v", err)
	}
	if n := m.waiting.Load(); n != 0 {
		t.Errorf("%d are counted as waiting", n)
	}
}

// Only so many wait; the others are told to come again, at once.
func TestKeyMakerRefusesACrowd(t *testing.T) {
	m, busy, finish := slowMaker()
	var done sync.WaitGroup
	for range maxWaitingKeys + 1 {
		done.Go(func() {
			if _, err := m.key(t.Context(), 2048); err != nil {
				t.Errorf("one that may wait: %v", err)
			}
		})
	}
	for m.waiting.Load() < maxWaitingKeys+1 {
		time.Sleep(time.Millisecond) // until all have come
	}
	if _, err := m.key(t.Context(), 2048); !errors.Is(err, errKeysBusy) {
		t.Errorf("one too many: %v", err)
	}
	if n := busy.Load(); n > 1 {
		t.Errorf("%d keys are made at once, in one slot", n)
	}
	close(finish)
	done.Wait()
	if _, err := m.key(t.Context(), 2048); err != nil {
		t.Errorf("after the crowd: %v", err)
	}
}
