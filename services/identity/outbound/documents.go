package outbound

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// How old documents are used, and how often they are read.
const (
	// Fresh is how long a document is used without being read again.
	Fresh = 10 * time.Minute
	// Stale is how long it is used after that while it cannot be read.
	Stale = time.Hour
	// Period is the least time between two reads of one document, failed ones included.
	Period = 30 * time.Second

	mostBytes = 32 << 20 // of documents that are kept, as they came
)

// Documents keeps what was read at URLs, each parsed once. Safe for concurrent use.
type Documents[T any] struct {
	client *Client
	parse  func([]byte) (T, error)
	now    func() time.Time
	flight singleflight.Group

	mu    sync.Mutex
	kept  map[string]*document[T]
	bytes int
}

// document is what is known of a URL.
type document[T any] struct {
	value   T
	size    int
	readAt  time.Time // of value; zero when it was never read
	triedAt time.Time // when it was last tried, and with what end
	err     error
	usedAt  time.Time
}

// NewDocuments returns a store of documents that parse understands; what it refuses
// counts as unread. It must not keep what it is given. now may be nil.
func NewDocuments[T any](client *Client, now func() time.Time, parse func([]byte) (T, error)) *Documents[T] {
	if now == nil {
		now = time.Now
	}
	return &Documents[T]{client: client, parse: parse, now: now, kept: map[string]*document[T]{}}
}

// Get returns the document at a URL, at most Fresh old, and Stale older while it
// cannot be read. Fails: ErrAddress, ErrUnread, and ctx's own end.
func (d *Documents[T]) Get(ctx context.Context, url string) (T, error) {
	return d.get(ctx, url, Fresh)
}

// Newer returns the document, read again unless it was within the last Period: what
// lacks the key that a token names may have it by now. Fails as Get.
func (d *Documents[T]) Newer(ctx context.Context, url string) (T, error) {
	return d.get(ctx, url, Period)
}

func (d *Documents[T]) get(ctx context.Context, url string, within time.Duration) (T, error) {
	if value, err, known := d.look(url, within); known {
		return value, err
	}
	// Whoever gives up leaves the others their answer.
	read := d.flight.DoChan(url, func() (any, error) {
		if _, _, known := d.look(url, within); !known { // the flight before may have ended just now
			d.read(context.WithoutCancel(ctx), url)
		}
		return nil, nil
	})
	select {
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("wait for a document: %w", context.Cause(ctx))
	case <-read:
		return d.have(url)
	}
}

// look returns what is known, if it needs no read.
func (d *Documents[T]) look(url string, within time.Duration) (value T, err error, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	doc, now := d.kept[url], d.now()
	if doc == nil {
		return value, nil, false
	}
	if !doc.readAt.IsZero() && now.Sub(doc.readAt) < within || now.Sub(doc.triedAt) < Period {
		value, err = doc.answer(now)
		return value, err, true
	}
	return value, nil, false
}

// have returns what is known after a read.
func (d *Documents[T]) have(url string) (value T, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	doc := d.kept[url]
	if doc == nil { // dropped to make room
		return value, errBusy
	}
	return doc.answer(d.now())
}

func (doc *document[T]) answer(now time.Time) (value T, err error) {
	doc.usedAt = now
	if !doc.readAt.IsZero() && now.Sub(doc.readAt) < Fresh+Stale {
		return doc.value, nil
	}
	return value, doc.err
}

// read reads a document and keeps it, or the failure.
func (d *Documents[T]) read(ctx context.Context, url string) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	began := d.now()
	body, err := d.client.Get(ctx, url)
	var value T
	if err == nil {
		if value, err = d.parse(body); err != nil {
			err = fmt.Errorf("%w: %w", ErrUnread, err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	doc := d.kept[url]
	if doc == nil {
		doc = &document[T]{size: len(url)}
		d.kept[url] = doc
		d.bytes += doc.size
	}
	doc.triedAt, doc.usedAt = began, d.now()
	if doc.err = err; err == nil {
		d.bytes += len(url) + len(body) - doc.size
		doc.value, doc.readAt, doc.size = value, began, len(url)+len(body)
	}
	d.makeRoom(url)
}

// documentCost is what a document takes beside its bytes, so that failures are bounded too.
const documentCost = 1 << 10

// makeRoom drops the documents that were not used for longest, but the one just read.
func (d *Documents[T]) makeRoom(keep string) {
	for d.bytes+documentCost*len(d.kept) > mostBytes && len(d.kept) > 1 {
		var oldest string
		for url, doc := range d.kept {
			if url != keep && (oldest == "" || doc.usedAt.Before(d.kept[oldest].usedAt)) {
				oldest = url
			}
		}
		d.bytes -= d.kept[oldest].size
		delete(d.kept, oldest)
	}
}
