package accessbindings

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Kinds of the history about paying: who pays for a cloud, and which payers are stopped.
const (
	aboutPayer   = "payer"
	aboutStopped = "stopped"
)

// payerKeyOf names the fact that an entry about paying is about (EX-9, PT-30).
func payerKeyOf(c *accessv1.Change) (key factKey, ok bool) {
	switch f := c.GetFact().(type) {
	case *accessv1.Change_PayerSet:
		return factKey{kind: aboutPayer, about: refOf(f.PayerSet.GetResource())}, true
	case *accessv1.Change_PayerStopped:
		return factKey{kind: aboutStopped, about: refOf(f.PayerStopped.GetPayer())}, true
	default:
		return factKey{}, false
	}
}

// payerEnds reports whether an entry says that nobody pays, or that a payer goes on.
func payerEnds(c *accessv1.Change) bool {
	switch f := c.GetFact().(type) {
	case *accessv1.Change_PayerSet:
		return f.PayerSet.GetPayer() == nil
	case *accessv1.Change_PayerStopped:
		return !f.PayerStopped.GetStopped()
	default:
		return false
	}
}

// payers reads who paid for some resources, and which of those were stopped.
func (p *past) payers(ctx context.Context, of []Ref) error {
	clouds := slices.DeleteFunc(slices.Clone(of), func(r Ref) bool { return r.Type != typeCloud })
	paid, err := p.byName(ctx, aboutPayer, "about", clouds, "")
	if err != nil {
		return err
	}
	var payers []Ref
	for _, s := range paid {
		payers = append(payers, refOf(s.change.GetPayerSet().GetPayer()))
	}
	_, err = p.byName(ctx, aboutStopped, "about", payers, "")
	return err
}

// upgradePayerHistory is the name of the step by which the history of a store of an older
// program, which left it out, learns of paying.
const upgradePayerHistory = "payer_history"

// learnPayers makes the history of paying anew from the log, as far as the history is
// made, once. What was so before the log that is kept begins, and still is, counts from
// there on; what changed since then is not known to have been before.
func (h *historian) learnPayers(ctx context.Context) error {
	done, err := h.store.upgraded(ctx, upgradePayerHistory)
	if err != nil || done {
		return err
	}
	return sqldb.InTx(ctx, h.db, func(ctx context.Context, tx *sql.Tx) error {
		written, kept, err := h.head(ctx, tx, h.db.ForUpdate())
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM access_history WHERE kind IN ($1, $2)`, aboutPayer, aboutStopped); err != nil {
			return fmt.Errorf("make history of paying anew: %w", err)
		}
		entries, err := payerEntries(ctx, tx, written)
		if err != nil {
			return err
		}
		p := &pen{db: h.db, tx: tx, open: make(map[factKey]*span)}
		told := make(map[factKey]bool)
		for _, e := range entries {
			if removed := e.change.GetResourceRemoved(); removed != nil {
				if err := p.drop(ctx, "about", refOf(removed.GetResource()), e.revision, aboutPayer, aboutStopped); err != nil {
					return err
				}
				continue
			}
			key, _ := payerKeyOf(e.change)
			told[key] = true
			if err := p.take(ctx, e); err != nil {
				return err
			}
		}
		standing, err := h.store.payerRows(ctx, tx)
		if err != nil {
			return err
		}
		for _, c := range standing {
			if key, _ := payerKeyOf(c); !told[key] && !payerEnds(c) {
				since := max(kept, 1) // there are no revisions before that
				p.spans = append(p.spans, &span{factKey: key, began: since, granted: since, change: c})
			}
		}
		if err := p.write(ctx); err != nil {
			return fmt.Errorf("make history of paying anew: %w", err)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO access_upgrades (name) VALUES ($1) ON CONFLICT (name) DO NOTHING`, upgradePayerHistory)
		return err
	})
}

// payerEntries reads the entries of the log up to a revision that are about paying, and
// those that remove what pays or is paid for.
func payerEntries(ctx context.Context, q sqldb.Querier, written int64) ([]logged, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT revision, changed_at, payload FROM access_changes
		WHERE revision <= $1 AND kind IN ('payer_set', 'payer_stopped', 'resource_removed') ORDER BY revision, seq`, written)
	if err != nil {
		return nil, fmt.Errorf("read changes of paying: %w", err)
	}
	all, err := collect(rows, "read changes of paying", func() (e logged, err error) {
		var payload []byte
		if err := rows.Scan(&e.revision, &e.at, &payload); err != nil {
			return e, err
		}
		e.change = new(accessv1.Change)
		return e, proto.Unmarshal(payload, e.change)
	})
	return slices.DeleteFunc(all, func(e logged) bool {
		typ := e.change.GetResourceRemoved().GetResource().GetType()
		return e.change.GetResourceRemoved() != nil && typ != typeCloud && typ != typeBillingAccount
	}), err
}

// payerRows reads what is in force about paying, as changes.
func (s *store) payerRows(ctx context.Context, q sqldb.Querier) ([]*accessv1.Change, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT cloud_id, account_id, version, 0 FROM access_payers
		UNION ALL SELECT '', account_id, version, stopped FROM access_stopped_payers`)
	if err != nil {
		return nil, fmt.Errorf("read payers: %w", err)
	}
	return collect(rows, "read payers", func() (*accessv1.Change, error) {
		var cloud, account string
		var version, stopped int64
		if err := rows.Scan(&cloud, &account, &version, &stopped); err != nil {
			return nil, err
		}
		payer := &accessv1.Resource{Type: typeBillingAccount, Id: account}
		if cloud == "" {
			return &accessv1.Change{Fact: &accessv1.Change_PayerStopped{PayerStopped: &accessv1.PayerStopped{
				Payer: payer, Stopped: stopped == 1, Version: version,
			}}}, nil
		}
		set := &accessv1.PayerSet{Resource: &accessv1.Resource{Type: typeCloud, Id: cloud}, Version: version}
		if account != "" {
			set.Payer = payer
		}
		return &accessv1.Change{Fact: &accessv1.Change_PayerSet{PayerSet: set}}, nil
	})
}
