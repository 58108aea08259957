package checker

import (
	"bytes"
	"slices"
)

// tokens is the set of revoked tokens. Ids are random, so their last byte spreads
// them evenly.
type tokens struct {
	owner uint64 // the draft that made it
	lists [256][]token
}

type token struct {
	id    TokenID
	until int64
}

// list returns the tokens that share a last byte, ordered by id.
func (t *tokens) list(id TokenID) *[]token { return &t.lists[id[len(id)-1]] }

func (t *tokens) search(id TokenID) (int, bool) {
	return slices.BinarySearchFunc(*t.list(id), id, func(a token, b TokenID) int { return bytes.Compare(a.id[:], b[:]) })
}

func (t *tokens) has(id TokenID) bool {
	_, found := t.search(id)
	return found
}

// ownTokens returns the set to write, of the draft's own. Its lists are shared still.
func (d *draft) ownTokens() *tokens {
	if d.view.tokens.owner != d.batch {
		mine := *d.view.tokens
		mine.owner = d.batch
		d.view.tokens = &mine
	}
	return d.view.tokens
}

func (c Revoke) apply(d *draft) error {
	t := d.ownTokens()
	at, found := t.search(c.Token)
	in, rest := t.list(c.Token), (*t.list(c.Token))[at:]
	if found {
		rest = rest[1:]
	}
	*in = slices.Concat((*in)[:at], []token{{c.Token, c.Until}}, rest)
	return nil
}

// forget drops the tokens that have ended by a time.
func (d *draft) forget(now int64) {
	t := d.ownTokens()
	for i, in := range t.lists {
		t.lists[i] = slices.DeleteFunc(slices.Clone(in), func(k token) bool { return k.until != 0 && k.until <= now })
	}
}
