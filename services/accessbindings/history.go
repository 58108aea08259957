package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// historian makes the history of the log and forgets what is older than it is kept
// (EX-9). Writes do not wait for it: it follows a few seconds behind, and at once when
// somebody asks about the past. Any process of the unit may do it, one at a time.
type historian struct {
	db    *sqldb.DB
	store *store
	now   func() time.Time
	keeps time.Duration // 0 for ever
}

// Bounds of the historian.
const (
	historyStep  = 1024            // revisions in one transaction
	historyRows  = 200             // rows that are asked for in one statement
	pruneStep    = 10_000          // revisions of the log in one transaction
	historyEvery = 5 * time.Second // how often it looks for more
	minRetention = time.Hour       // those who follow the log may be behind by so much
)

// Kinds of the history.
const (
	aboutResource = "resource"
	aboutSubject  = "subject"
	aboutBinding  = "binding"
	aboutMember   = "member"
	aboutPolicy   = "policy"
)

// factKey names a fact of the history.
type factKey struct {
	kind  string
	about Ref
	who   Subject
	name  string
}

// span is a fact as it was over a span of revisions.
type span struct {
	factKey
	parent       Subject // of a resource, kept in the column of who
	began, ended int64
	granted      int64
	grantedAt    int64
	author       Subject
	change       *accessv1.Change
	stored       bool
}

// head is how far the history is made, and since when it is kept.
func (h *historian) head(ctx context.Context, q sqldb.Querier, lock string) (written, kept int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT written, kept FROM access_history_head WHERE one = 1`+lock).Scan(&written, &kept)
	if err != nil {
		return 0, 0, fmt.Errorf("read history: %w", err)
	}
	return written, kept, nil
}

// upTo returns when the history has a revision.
func (h *historian) upTo(ctx context.Context, revision int64) error {
	written, _, err := h.head(ctx, h.db, "")
	for err == nil && written < revision {
		if written, err = h.step(ctx, h.db.ForUpdate()); err == nil {
			err = ctx.Err()
		}
	}
	return err
}

// run follows the log until ctx ends, half of the time at most: the rest is for
// writes. What fails is tried again.
func (h *historian) run(ctx context.Context, failed func(error)) {
	for ctx.Err() == nil {
		begun := time.Now()
		more, err := h.follow(ctx)
		if err != nil && ctx.Err() == nil {
			failed(err)
		}
		rest := historyEvery
		if more && err == nil {
			rest = time.Since(begun)
		}
		pause(ctx, rest)
	}
}

// follow takes one step if there is something to write, unless another process takes
// one, and reports whether there is more of it.
func (h *historian) follow(ctx context.Context) (more bool, err error) {
	head, err := h.store.head(ctx, h.db, false)
	if err != nil {
		return false, err
	}
	written, _, err := h.head(ctx, h.db, "")
	if err != nil || written >= head.Revision {
		return false, err
	}
	written, err = h.step(ctx, h.db.ForUpdateSkipLocked())
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return written < head.Revision, err
}

// step takes up the next revisions of the log, and returns how far the history is. lock
// is how the head of the history is locked.
func (h *historian) step(ctx context.Context, lock string) (written int64, err error) {
	err = sqldb.InTx(ctx, h.db, func(ctx context.Context, tx *sql.Tx) error {
		if written, _, err = h.head(ctx, tx, lock); err != nil {
			return err
		}
		entries, last, err := h.entries(ctx, tx, written)
		if err != nil || last == written {
			return err
		}
		p := &pen{db: h.db, tx: tx, open: make(map[factKey]*span)}
		if err := p.read(ctx, entries); err != nil {
			return err
		}
		for _, e := range entries {
			if err := p.take(ctx, e); err != nil {
				return err
			}
		}
		if err := p.write(ctx); err != nil {
			return err
		}
		written = last
		_, err = tx.ExecContext(ctx, `UPDATE access_history_head SET written = $1 WHERE one = 1`, written)
		return err
	})
	if err != nil {
		return written, fmt.Errorf("write history: %w", err)
	}
	return written, nil
}

// logged is an entry of the log with its time.
type logged struct {
	revision, at int64
	change       *accessv1.Change
}

// entries reads the log of some revisions after one, whole ones.
func (h *historian) entries(ctx context.Context, q sqldb.Querier, after int64) (all []logged, last int64, err error) {
	last = after
	rows, err := q.QueryContext(ctx, `
		SELECT revision, changed_at, payload FROM access_changes WHERE revision > $1 AND revision <= $2 ORDER BY revision, seq`,
		after, after+historyStep)
	if err != nil {
		return nil, last, fmt.Errorf("read changes: %w", err)
	}
	all, err = collect(rows, "read changes", func() (e logged, err error) {
		var payload []byte
		if err := rows.Scan(&e.revision, &e.at, &payload); err != nil {
			return e, err
		}
		e.change = new(accessv1.Change)
		last = e.revision
		return e, proto.Unmarshal(payload, e.change)
	})
	return all, last, err
}

// pen writes the spans of some revisions.
type pen struct {
	db    *sqldb.DB
	tx    *sql.Tx
	open  map[factKey]*span // as of the revision that was taken last; nil for none
	spans []*span           // that are new, or ended
}

// keyOf names the fact that an entry is about; ok is false for an entry that the
// history does not keep, since it decides nothing or is not asked about.
func keyOf(c *accessv1.Change) (key factKey, parent Subject, ok bool) {
	switch f := c.GetFact().(type) {
	case *accessv1.Change_ResourcePlaced:
		return factKey{kind: aboutResource, about: refOf(f.ResourcePlaced.GetResource())}, Subject(refOf(f.ResourcePlaced.GetParent())), true
	case *accessv1.Change_ResourceRemoved:
		return factKey{kind: aboutResource, about: refOf(f.ResourceRemoved.GetResource())}, Subject{}, true
	case *accessv1.Change_SubjectChanged:
		return factKey{kind: aboutSubject, about: Ref(subjectOf(f.SubjectChanged.GetSubject()))}, Subject{}, true
	case *accessv1.Change_BindingChanged:
		b := f.BindingChanged.GetBinding()
		return factKey{aboutBinding, refOf(f.BindingChanged.GetResource()), subjectOf(b.GetSubject()), b.GetRoleId()}, Subject{}, true
	case *accessv1.Change_MemberChanged:
		m := f.MemberChanged
		return factKey{kind: aboutMember, about: refOf(m.GetContainer()), who: subjectOf(m.GetSubject())}, Subject{}, true
	case *accessv1.Change_PolicyBound:
		return factKey{kind: aboutPolicy, about: refOf(f.PolicyBound.GetResource()), name: f.PolicyBound.GetTemplateId()}, Subject{}, true
	case *accessv1.Change_PolicyUnbound:
		return factKey{kind: aboutPolicy, about: refOf(f.PolicyUnbound.GetResource()), name: f.PolicyUnbound.GetTemplateId()}, Subject{}, true
	default:
		key, ok = payerKeyOf(c)
		return key, Subject{}, ok
	}
}

// ends reports whether an entry says that its fact is no more.
func ends(c *accessv1.Change) bool {
	switch f := c.GetFact().(type) {
	case *accessv1.Change_BindingChanged:
		return len(f.BindingChanged.GetBinding().GetSources()) == 0
	case *accessv1.Change_MemberChanged:
		return !f.MemberChanged.GetMember()
	case *accessv1.Change_PolicyUnbound:
		return true
	default:
		return payerEnds(c)
	}
}

// take takes up one entry.
func (p *pen) take(ctx context.Context, e logged) error {
	key, parent, ok := keyOf(e.change)
	if !ok {
		return nil
	}
	before := p.open[key]
	if before != nil && proto.Equal(before.change, e.change) {
		return nil
	}
	if before != nil {
		p.end(before, e.revision)
	}
	delete(p.open, key)
	if !ends(e.change) {
		s := &span{
			factKey: key, parent: parent, began: e.revision, granted: e.revision, grantedAt: e.at,
			author: subjectOf(e.change.GetAuthor()), change: e.change,
		}
		if before != nil && shrinks(before.change, e.change) {
			s.granted, s.grantedAt, s.author = before.granted, before.grantedAt, before.author
		}
		p.open[key], p.spans = s, append(p.spans, s)
	}
	switch f := e.change.GetFact().(type) {
	case *accessv1.Change_ResourceRemoved:
		return p.drop(ctx, "about", key.about, e.revision, aboutBinding, aboutMember, aboutPolicy, aboutPayer, aboutStopped)
	case *accessv1.Change_SubjectChanged:
		if f.SubjectChanged.GetState() == stateDeleted {
			return p.drop(ctx, "who", key.about, e.revision, aboutBinding, aboutMember)
		}
	}
	return nil
}

// shrinks reports whether a change of a pair only takes sources away: nobody grants
// anything by it.
func shrinks(before, after *accessv1.Change) bool {
	was, is := before.GetBindingChanged().GetBinding().GetSources(), after.GetBindingChanged().GetBinding().GetSources()
	for _, s := range is {
		if !slices.ContainsFunc(was, func(w *accessv1.Source) bool { return proto.Equal(w, s) }) {
			return false
		}
	}
	return len(is) > 0
}

// end ends a span.
func (p *pen) end(s *span, revision int64) {
	if s.ended = revision; s.stored && !slices.Contains(p.spans, s) {
		p.spans = append(p.spans, s)
	}
}

// drop ends what was said about a resource, or about a subject elsewhere.
func (p *pen) drop(ctx context.Context, column string, of Ref, revision int64, kinds ...string) error {
	for key, s := range p.open {
		about := column == "about" && key.about == of || column == "who" && Ref(key.who) == of
		if about && slices.Contains(kinds, key.kind) {
			p.end(s, revision)
			delete(p.open, key)
		}
	}
	for _, kind := range kinds {
		query := `UPDATE access_history SET ended = $1 WHERE kind = $2 AND about_type = $3 AND about_id = $4 AND ended = 0`
		if column == "who" {
			query = `UPDATE access_history SET ended = $1 WHERE kind = $2 AND who_type = $3 AND who_id = $4 AND ended = 0`
		}
		_, err := p.tx.ExecContext(ctx, query, revision, kind, of.Type, of.ID)
		if err != nil {
			return err
		}
	}
	return nil
}

const spanColumns = `kind, about_type, about_id, who_type, who_id, name, began, ended, granted, granted_at, author_type, author_id, fact`

// Columns that name a fact, and those of a whole span.
var (
	factTypes = slices.Repeat([]sqldb.Type{sqldb.Texts}, 6)
	spanTypes = slices.Concat(factTypes, slices.Repeat([]sqldb.Type{sqldb.Ints}, 4), factTypes[:2], []sqldb.Type{sqldb.Blobs})
)

// read reads what holds of all facts that the entries are about.
func (p *pen) read(ctx context.Context, entries []logged) error {
	named, resources := &sqldb.Rows{Columns: factTypes}, &sqldb.Rows{Columns: factTypes[:2]}
	seen := make(map[factKey]bool)
	for _, e := range entries {
		key, _, ok := keyOf(e.change)
		switch {
		case !ok || seen[key]:
		case key.kind == aboutResource:
			resources.Add(key.about.Type, key.about.ID)
		default:
			named.Add(key.kind, key.about.Type, key.about.ID, key.who.Type, key.who.ID, key.name)
		}
		seen[key] = true
	}
	open := func(row sqldb.Scanner) error {
		s, err := scanSpan(row)
		if err != nil {
			return err
		}
		s.stored = true
		p.open[s.factKey] = s
		return nil
	}
	const holding = `SELECT ` + spanColumns + ` FROM access_history WHERE ended = 0 AND `
	var b sqldb.Batch
	// Of a fact that comes and goes there are many spans, of which the last may be open.
	b.QueryRows(open, `WITH asked (k, at, ai, wt, wi, n) AS (`, named, `)
		SELECT `+spanColumns+`
		FROM asked JOIN access_history ON kind = k AND about_type = at AND about_id = ai AND who_type = wt AND who_id = wi AND name = n
			AND began = (
				SELECT MAX(o.began) FROM access_history o
				WHERE o.kind = k AND o.about_type = at AND o.about_id = ai AND o.who_type = wt AND o.who_id = wi AND o.name = n
			)
		WHERE ended = 0`)
	b.QueryRows(open, holding+`kind = '`+aboutResource+`' AND (about_type, about_id) IN (`, resources, `)`)
	return b.Run(ctx, p.db, p.tx)
}

// write stores all spans that are new, or ended.
func (p *pen) write(ctx context.Context) error {
	fresh := &sqldb.Rows{Columns: spanTypes}
	ended := &sqldb.Rows{Columns: spanTypes[:len(factTypes)+2]}
	for _, s := range p.spans {
		who := s.who
		if s.kind == aboutResource {
			who = s.parent
		}
		if s.stored {
			ended.Add(s.kind, s.about.Type, s.about.ID, who.Type, who.ID, s.name, s.began, s.ended)
			continue
		}
		if s.ended == s.began {
			continue // it came and went in one revision
		}
		fact, err := proto.MarshalOptions{Deterministic: true}.Marshal(s.change)
		if err != nil {
			return err
		}
		fresh.Add(s.kind, s.about.Type, s.about.ID, who.Type, who.ID, s.name, s.began, s.ended, s.granted, s.grantedAt, s.author.Type, s.author.ID, fact)
	}
	var b sqldb.Batch
	b.ExecRows(`WITH over (kind, about_type, about_id, who_type, who_id, name, began, ended) AS (`, ended, `)
		UPDATE access_history SET ended = over.ended FROM over
		WHERE access_history.kind = over.kind AND access_history.about_type = over.about_type AND access_history.about_id = over.about_id
			AND access_history.who_type = over.who_type AND access_history.who_id = over.who_id AND access_history.name = over.name
			AND access_history.began = over.began`)
	b.ExecRows(`INSERT INTO access_history (`+spanColumns+`)`, fresh, ``)
	return b.Run(ctx, p.db, p.tx)
}

// rowsOf returns ($1, $2), ($3, $4) for rows of values.
func rowsOf(rows [][]any) string {
	var b strings.Builder
	n := 0
	for i, row := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		for k := range row {
			b.WriteString([]string{"(", ", "}[min(k, 1)])
			n++
			b.WriteString("$" + strconv.Itoa(n))
		}
		b.WriteByte(')')
	}
	return b.String()
}

// spans reads spans.
func spans(ctx context.Context, q sqldb.Querier, where string, args ...any) ([]*span, error) {
	rows, err := q.QueryContext(ctx, `SELECT `+spanColumns+` FROM access_history WHERE `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return collect(rows, "read history", func() (*span, error) {
		return scanSpan(rows)
	})
}

// scanSpan reads the spanColumns of a row.
func scanSpan(row sqldb.Scanner) (*span, error) {
	s := &span{change: new(accessv1.Change)}
	var fact []byte
	err := row.Scan(&s.kind, &s.about.Type, &s.about.ID, &s.who.Type, &s.who.ID, &s.name,
		&s.began, &s.ended, &s.granted, &s.grantedAt, &s.author.Type, &s.author.ID, &fact)
	if s.kind == aboutResource {
		s.parent, s.who = s.who, Subject{}
	}
	return s, errors.Join(err, proto.Unmarshal(fact, s.change))
}

// prune forgets the states from before the one that was in force when what is kept
// begins, and the log up to it.
func (h *historian) prune(ctx context.Context) error {
	if h.keeps == 0 {
		return nil
	}
	head, err := h.store.head(ctx, h.db, false)
	if err != nil {
		return err
	}
	_, kept, err := h.head(ctx, h.db, "")
	if err != nil {
		return err
	}
	keep, err := h.at(ctx, sqldb.Micros(h.now().Add(-h.keeps)), kept, head.Revision)
	if err != nil || keep <= kept {
		return err
	}
	if err := h.upTo(ctx, keep); err != nil {
		return err
	}
	for to := kept; to < keep; {
		to = min(keep, to+pruneStep)
		err := sqldb.InTx(ctx, h.db, func(ctx context.Context, tx *sql.Tx) error {
			for _, query := range []string{
				`UPDATE access_history_head SET kept = $1 WHERE one = 1 AND kept < $1`,
				`DELETE FROM access_history WHERE ended > 0 AND ended <= $1`,
				`DELETE FROM access_changes WHERE revision < $1`,
			} {
				if _, err := tx.ExecContext(ctx, query, to); err != nil {
					return fmt.Errorf("forget history: %w", err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// at returns the last revision that was made until a time, of those that are kept:
// the one before them when none of them was. The clocks of those who write may
// differ a little: so much may it be off.
func (h *historian) at(ctx context.Context, until, kept, head int64) (int64, error) {
	low, high := max(kept, 1), head+1 // the first that was made later is in between
	for low < high {
		mid := low + (high-low)/2
		made, err := h.made(ctx, mid)
		if err != nil {
			return 0, err
		}
		if made <= until {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low - 1, nil
}

// made is when a revision was made.
func (h *historian) made(ctx context.Context, revision int64) (at int64, err error) {
	err = h.db.QueryRowContext(ctx, `SELECT MIN(changed_at) FROM access_changes WHERE revision = $1`, revision).Scan(&at)
	if err != nil {
		return 0, fmt.Errorf("read time of revision %d: %w", revision, err)
	}
	return at, nil
}
