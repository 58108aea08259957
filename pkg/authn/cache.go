package authn

import (
	"hash/maphash"
	"sync"
)

const shards = 32

var seed = maphash.MakeSeed()

// cache keeps what was proven of a text until the text expires. Its key is the
// whole text, so two texts never share an entry. Bounded: a full shard drops
// what has expired, or else any entry, which then is proven anew.
type cache[V any] struct {
	limit  int // entries in all; 0 keeps nothing
	shards [shards]struct {
		sync.RWMutex
		entries map[string]entry[V]
	}
}

type entry[V any] struct {
	value   V
	expires int64 // unix seconds
}

// get returns the value kept for text. The caller judges its expiry.
func (c *cache[V]) get(text string) (V, bool) {
	s := &c.shards[maphash.String(seed, text)%shards]
	s.RLock()
	e, ok := s.entries[text]
	s.RUnlock()
	return e.value, ok
}

// put keeps value for text until expires.
func (c *cache[V]) put(text string, value V, expires, now int64) {
	s := &c.shards[maphash.String(seed, text)%shards]
	s.Lock()
	defer s.Unlock()
	if s.entries == nil {
		s.entries = make(map[string]entry[V])
	}
	if len(s.entries) >= max(c.limit/shards, 1) {
		c.shrink(s.entries, now)
	}
	s.entries[text] = entry[V]{value, expires}
}

// shrink drops the expired entries of a full shard, or an eighth of the others.
func (c *cache[V]) shrink(entries map[string]entry[V], now int64) {
	before := len(entries)
	for k, e := range entries {
		if e.expires <= now {
			delete(entries, k)
		}
	}
	if len(entries) < before {
		return
	}
	drop := before/8 + 1
	for k := range entries {
		if drop--; drop < 0 {
			return
		}
		delete(entries, k)
	}
}
