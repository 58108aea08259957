package partner

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// US-1: a record of usage is counted once, by its id; the same id with other contents is
// refused, and so is everything that came with it. US-2: sums by day and by month,
// and of the part of a day that is of another at UTC, are kept in the transaction that takes the records.

// ingest is our UsageIngestService, for whoever measures.
type ingest struct {
	partnerv1.UnsafeUsageIngestServiceServer // a missing method does not compile
	*Service
}

// IngestUsage takes records (US-1). Fails: USAGE_RECORD_CONFLICT.
func (s *ingest) IngestUsage(ctx context.Context, req *partnerv1.IngestUsageRequest) (*partnerv1.IngestUsageResponse, error) {
	return s.takeUsage(ctx, req)
}

// IngestUsage is the same for the operator.
func (s *moneyOperators) IngestUsage(ctx context.Context, req *partnerv1.IngestUsageRequest) (*partnerv1.IngestUsageResponse, error) {
	return s.takeUsage(ctx, req)
}

// maxViolations is how many wrong fields a refusal names.
const maxViolations = 20

// takeUsage takes records, all or none.
func (s *Service) takeUsage(ctx context.Context, req *partnerv1.IngestUsageRequest) (*partnerv1.IngestUsageResponse, error) {
	uses, err := readUses(req.GetRecords())
	if err != nil {
		return nil, err
	}
	t := taking{s: s, uses: uses}
	if err := sqldb.InTx(ctx, s.store.db, t.run); err != nil {
		return nil, err
	}
	s.usageKeys.add(t.keys)
	if t.looks {
		s.jobs.Kick()
	}
	return &partnerv1.IngestUsageResponse{
		Accepted: int64(len(t.fresh)), Known: int64(len(req.GetRecords()) - len(t.fresh)), Unlinked: t.unlinked,
	}, nil
}

// readUses reads the records of a request, ordered by id, each id once.
func readUses(records []*partnerv1.UsageRecord) ([]Use, error) {
	uses := make([]Use, 0, len(records))
	var bad []apierr.Field
	for i, r := range records {
		u, wrong := readUse(fmt.Sprintf("records[%d]", i), r)
		if bad = append(bad, wrong...); len(bad) >= maxViolations {
			break
		}
		u.index = i
		uses = append(uses, u)
	}
	if len(bad) > 0 {
		return nil, apierr.Invalid(bad[:min(len(bad), maxViolations)]...)
	}
	slices.SortStableFunc(uses, func(a, b Use) int { return cmp.Compare(a.ID, b.ID) })
	for i := 1; i < len(uses); i++ {
		if uses[i].ID == uses[i-1].ID && uses[i].digest != uses[i-1].digest {
			return nil, errUsageConflict([]string{uses[i].ID})
		}
	}
	return slices.CompactFunc(uses, func(a, b Use) bool { return a.ID == b.ID }), nil
}

// taking is the transaction that takes records. Everything that two of them may wait for
// each other with is locked in one order: links, keys by their hash, records by their id,
// sums by key and day.
type taking struct {
	s    *Service
	uses []Use

	payers   map[string][]payer // of each cloud
	keys     map[hash]usageKey
	keyOf    []hash // of each record
	fresh    []int  // records that are new
	unlinked int64
	looks    bool // whether budgets are to be looked at
}

// usageKey is what records have in common.
type usageKey struct {
	root, account, cloud, folder, service, sku, labels string
}

func (k usageKey) hash() hash {
	return hashOf(k.root, k.account, k.cloud, k.folder, k.service, k.sku, k.labels)
}

// run takes the records. It may be run again.
func (t *taking) run(ctx context.Context, tx *sql.Tx) error {
	t.payers, t.fresh, t.unlinked = make(map[string][]payer), nil, 0
	db := t.s.store.db
	// No link begins or ends before this transaction has: what is used until now has the
	// payer that is found now.
	if err := sqldb.LockShared(ctx, db, tx, linksLock); err != nil {
		return err
	}
	if err := t.checkTimes(); err != nil {
		return err
	}
	var b sqldb.Batch
	t.s.store.readPayers(&b, t.uses, t.payers)
	if err := b.Run(ctx, db, tx); err != nil {
		return fmt.Errorf("read links: %w", err)
	}
	t.attribute()
	t.insert(&b)
	if err := b.Run(ctx, db, tx); err != nil {
		return fmt.Errorf("insert usage records: %w", err)
	}
	if err := t.compareKnown(ctx, tx); err != nil {
		return err
	}
	since := t.sumUp(&b)
	var budgets []string
	t.s.store.readBudgetsOf(&b, t.accounts(), func(id string) { budgets = append(budgets, id) })
	if err := b.Run(ctx, db, tx); err != nil {
		return fmt.Errorf("sum usage up: %w", err)
	}
	t.looks = len(budgets) > 0
	return t.s.lookLater(ctx, tx, budgets, since)
}

// accounts are those whose sums change.
func (t *taking) accounts() *sqldb.Rows {
	rows, seen := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Texts}}, map[string]bool{"": true}
	for _, i := range t.fresh {
		k := t.keys[t.keyOf[i]]
		for _, id := range []string{k.account, k.root} {
			if !seen[id] {
				seen[id] = true
				rows.Add(id)
			}
		}
	}
	return rows
}

// checkTimes refuses what is not of the last maxLateness.
func (t *taking) checkTimes() error {
	now := t.s.now()
	for _, u := range t.uses {
		if u.UsedAt.After(now) || u.UsedAt.Before(now.Add(-maxLateness)) {
			return apierr.InvalidField(fmt.Sprintf("records[%d].used_at", u.index), "must be of the last 366 days, and not later than now")
		}
	}
	return nil
}

// attribute finds who pays for each record: the account that the cloud was linked to at
// its time (BI-4, PT-35); nobody pays for what was used without a link (PT-34).
func (t *taking) attribute() {
	t.keys, t.keyOf = make(map[hash]usageKey), make([]hash, len(t.uses))
	for i, u := range t.uses {
		k := usageKey{cloud: u.Cloud, folder: u.Folder, service: u.Service, sku: u.SKU, labels: u.labelsID}
		for _, p := range t.payers[u.Cloud] {
			if at := sqldb.Micros(u.UsedAt); p.from <= at && (p.to == 0 || at < p.to) {
				k.root, k.account = p.root, p.account
			}
		}
		t.keyOf[i] = k.hash()
		t.keys[t.keyOf[i]] = k
	}
}

// insert adds the records, and the keys and labels that may be new, to a batch.
func (t *taking) insert(b *sqldb.Batch) {
	s := t.s.store
	unknown := t.s.usageKeys.unknown(t.keys)
	s.insertLabels(b, t.uses, t.keyOf, unknown)
	s.insertKeys(b, t.keys, unknown)
	at := make(map[string]int, len(t.uses))
	for i, u := range t.uses {
		at[u.ID] = i
	}
	s.insertUses(b, t.uses, t.keyOf, sqldb.Micros(t.s.now()), func(id string) { t.fresh = append(t.fresh, at[id]) })
}

// compareKnown refuses records that were taken before and said something else.
func (t *taking) compareKnown(ctx context.Context, tx *sql.Tx) error {
	if len(t.fresh) == len(t.uses) {
		return nil
	}
	isFresh := make(map[int]bool, len(t.fresh))
	for _, i := range t.fresh {
		isFresh[i] = true
	}
	known := make(map[string]hash)
	for i, u := range t.uses {
		if !isFresh[i] {
			known[u.ID] = u.digest
		}
	}
	var b sqldb.Batch
	var conflicts []string
	t.s.store.readDigests(&b, known, func(id string, digest []byte) {
		if want := known[id]; !bytes.Equal(want[:], digest) {
			conflicts = append(conflicts, id)
		}
	})
	if err := b.Run(ctx, t.s.store.db, tx); err != nil {
		return fmt.Errorf("read usage records: %w", err)
	}
	if len(conflicts) > 0 {
		slices.Sort(conflicts)
		return errUsageConflict(conflicts)
	}
	return nil
}

// usageCell is a sum to be added to.
type usageCell struct {
	key   hash
	day   Day // of a sum by month its first
	month Day
}

// usageSum is what is added.
type usageSum struct {
	records int64
	Amounts
}

// sumUp adds the new records to the sums by day, by month and of nights, and returns the first day.
func (t *taking) sumUp(b *sqldb.Batch) (since Day) {
	days, months, nights := make(usageSums), make(usageSums), make(usageSums)
	since = dayOf(t.s.now())
	for _, i := range t.fresh {
		u, k := t.uses[i], t.keyOf[i]
		if t.keys[k].account == "" {
			t.unlinked++
			continue
		}
		day := dayOf(u.UsedAt)
		since = min(since, day)
		month := day.month()
		days.add(usageCell{k, day, month}, u.Amounts)
		months.add(usageCell{k, month, month}, u.Amounts)
		if utcDayOf(u.UsedAt) != day {
			nights.add(usageCell{k, day, month}, u.Amounts)
		}
	}
	t.s.store.addSums(b, days, months, nights)
	return since
}

// usageSums are sums to be added.
type usageSums map[usageCell]usageSum

func (sums usageSums) add(c usageCell, a Amounts) {
	sum := sums[c]
	sums[c] = usageSum{sum.records + 1, sum.add(a)}
}

// inOrder are the cells in the order in which they are locked.
func (sums usageSums) inOrder() []usageCell {
	cells := make([]usageCell, 0, len(sums))
	for c := range sums {
		cells = append(cells, c)
	}
	slices.SortFunc(cells, func(a, b usageCell) int {
		return cmp.Or(bytes.Compare(a.key[:], b.key[:]), cmp.Compare(a.day, b.day))
	})
	return cells
}

// knownKeys are keys that the store has, so that they need not be written again. It is
// safe for concurrent use.
type knownKeys struct {
	mu  sync.Mutex
	set map[hash]struct{}
}

// maxKnownKeys bounds the memory of knownKeys, to some 60 MB.
const maxKnownKeys = 1_000_000

// unknown returns those of the keys that may not be in the store, in order.
func (k *knownKeys) unknown(keys map[hash]usageKey) []hash {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []hash
	for h := range keys {
		if _, known := k.set[h]; !known {
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b hash) int { return bytes.Compare(a[:], b[:]) })
	return all
}

// add remembers keys that were committed.
func (k *knownKeys) add(keys map[hash]usageKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.set == nil || len(k.set) > maxKnownKeys {
		k.set = make(map[hash]struct{})
	}
	for h := range keys {
		k.set[h] = struct{}{}
	}
}
