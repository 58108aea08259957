// Package slot lets few of many calls run at once, so that the others wait in order and
// not in the queue of Go's scheduler, where everything else would wait behind them.
package slot

import (
	"container/list"
	"context"
	"sync"
)

// Pool is a number of slots. A call takes one before it begins, in the order in which
// calls come, and gives it up while it waits for what runs elsewhere (Aside). It has it back at
// once, even when there is none: a call that has begun never waits for one that has not,
// so calls that wait for each other cannot stand still.
type Pool struct {
	mu      sync.Mutex
	free    int       // below zero when more have come back than there are slots
	waiting list.List // of chan struct{}, which is closed with the slot taken
}

// New returns a pool of n slots, 1 at least.
func New(n int) *Pool { return &Pool{free: max(n, 1)} }

// Take waits for a slot. The context that it returns is that of a call that has one;
// done gives it back. Fails with the error of ctx when that ends before.
func (p *Pool) Take(ctx context.Context) (_ context.Context, done func(), err error) {
	if err := p.enter(ctx); err != nil {
		return ctx, nil, err
	}
	h := &held{pool: p}
	return context.WithValue(ctx, key{}, h), h.done, nil
}

func (p *Pool) enter(ctx context.Context) error {
	p.mu.Lock()
	if p.free > 0 {
		p.free--
		p.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	mine := p.waiting.PushBack(turn)
	p.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-turn: // at the same time
		p.leave()
	default:
		p.waiting.Remove(mine)
	}
	return ctx.Err()
}

// leave gives a slot to the call that waits longest. Its caller holds the lock.
func (p *Pool) leave() {
	p.free++
	if next := p.waiting.Front(); next != nil && p.free > 0 {
		p.free--
		close(p.waiting.Remove(next).(chan struct{}))
	}
}

type key struct{}

// held is the slot of one call.
type held struct {
	pool  *Pool
	waits int // of its goroutines for others: with any it is not counted
	ended bool
}

// Aside says that the call of ctx begins to wait for what runs elsewhere: its slot is another's
// until back is called. Without a slot it does nothing.
func Aside(ctx context.Context) (back func()) {
	h, ok := ctx.Value(key{}).(*held)
	if !ok {
		return func() {}
	}
	h.count(1)
	return func() { h.count(-1) }
}

// count notes that one more, or one less, of the call's goroutines waits.
func (h *held) count(more int) {
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	was := h.waits
	h.waits += more
	switch {
	case h.ended:
	case was == 0:
		h.pool.leave()
	case h.waits == 0:
		h.pool.free--
	}
}

func (h *held) done() {
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	h.ended = true
	if h.waits == 0 {
		h.pool.leave()
	}
}
