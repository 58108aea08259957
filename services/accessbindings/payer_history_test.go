package accessbindings

import (
	"context"
	"database/sql"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

const useKey = "kms.keys.encrypt" // of the data plane

// paying is a world in which two accounts pay for clouds in turn.
type paying struct {
	*world
	payers          accessv1.PayerServiceClient
	account, second Ref
	version         int64
}

func newPaying(w *world) *paying {
	w.t.Helper()
	p := &paying{
		world: w, payers: accessv1.NewPayerServiceClient(w.Unit("partner", Name)),
		account: Ref{typeBillingAccount, "account1"}, second: Ref{typeBillingAccount, "account2"},
	}
	for _, a := range []Ref{p.account, p.second} {
		_, err := w.unit(typeBillingAccount).RegisterResource(w.t.Context(), registerRequest(a, Ref{}))
		w.must(err)
	}
	return p
}

// pays has an account pay for a cloud from now on.
func (p *paying) pays(account, cloud Ref) {
	p.t.Helper()
	p.version++
	_, err := p.payers.SetPayer(p.t.Context(), &accessv1.SetPayerRequest{CloudId: cloud.ID, BillingAccountId: account.ID, Version: p.version})
	p.must(err)
}

// stop stops an account, or lets it go on.
func (p *paying) stop(account Ref, stopped bool) {
	p.t.Helper()
	p.version++
	_, err := p.payers.SetPayerStopped(p.t.Context(), &accessv1.SetPayerStoppedRequest{BillingAccountId: account.ID, Stopped: stopped, Version: p.version})
	p.must(err)
}

// TestEX9_PT30_WhatWasStoppedWhen asks at past revisions what suspended payers took away
// then: through links that move, accounts that go on, and the removal of a cloud.
func TestEX9_PT30_WhatWasStoppedWhen(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		p := newPaying(w)
		type then struct {
			at     int64
			usable bool
		}
		var past []then
		note := func(what string, usable bool) {
			t.Helper()
			got, err := w.explain(olga, why(useKey, folder1, olga))
			w.must(err)
			if got.GetAllowed() != usable {
				t.Fatalf("%s: %v", what, got)
			}
			past = append(past, then{w.head(), usable})
		}
		note("nobody pays", true)
		p.pays(p.account, cloud1)
		note("somebody pays", true)
		p.stop(p.account, true)
		note("stopped", false)
		p.pays(p.second, cloud1)
		note("moved to one that goes on", true)
		p.pays(p.account, cloud1)
		note("moved back", false)
		p.stop(p.account, false)
		note("goes on", true)
		p.stop(p.account, true)
		note("stopped again", false)
		p.pays(Ref{}, cloud1)
		note("nobody pays any more", true)
		p.pays(p.second, cloud1)
		note("somebody else does", true)

		ask := func(what string) {
			t.Helper()
			for i, one := range past {
				req := why(useKey, folder1, olga)
				req.At = atRevision(one.at)
				got, err := w.explain(olga, req)
				w.must(err)
				if got.GetAllowed() != one.usable {
					t.Errorf("%s, %d: %v, want %t", what, i, got, one.usable)
				}
				if !one.usable && (got.GetReason() != accessv1.ExplainResponse_DENIED_BY_POLICY || len(got.GetDenials()) != 1 ||
					got.GetDenials()[0].GetAccessPolicyTemplateId() != checker.PayerStopped || got.GetDenials()[0].GetResource().GetId() != cloud1.ID) {
					t.Errorf("%s, %d: %v, want the stopped payer named", what, i, got)
				}
				subjects, _ := w.whoCan(olga, &accessv1.ListSubjectsRequest{Resource: folder1.proto(), Permission: useKey, At: atRevision(one.at)})
				if (len(subjects) > 0) != one.usable {
					t.Errorf("%s, %d: who can %v, want %t", what, i, subjects, one.usable)
				}
			}
		}
		ask("as it was written")
		w.forgetPayerHistory()
		w.must(w.service.history.learnPayers(t.Context()))
		ask("as a store of an older program learns it")
		w.must(w.service.history.learnPayers(t.Context())) // and once is enough
		_, err := w.unit(typeCloud).RemoveResource(t.Context(), &accessv1.RemoveResourceRequest{Resource: cloud1.proto()})
		w.must(err)
		w.must(w.service.history.upTo(t.Context(), w.head()))
		var open int
		w.must(w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM access_history WHERE kind = 'payer' AND ended = 0`).Scan(&open))
		if open != 0 {
			t.Errorf("somebody pays for %d clouds that are removed", open)
		}
	})
}

// A decision of the past is explained as it was: what denied it was the stopped payer.
func TestEX8_PT30_DenialsByStoppedPayers(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		p := newPaying(w)
		p.pays(p.account, cloud1)
		p.stop(p.account, true)
		_, err := w.authorize(olga, useKey, folder1)
		refused(t, err, codes.PermissionDenied, apierr.ReasonPayerStopped)
		id := infoOf(err)["decisionId"]
		p.stop(p.account, false)
		got, err := w.explain(olga, &accessv1.ExplainRequest{DecisionId: id})
		w.must(err)
		if got.GetAllowed() || !got.GetAllowedNow() {
			t.Errorf("then %v", got)
		}
	})
}

// TestEX9_PayersOfAForgottenLog: what was so before the log that is kept begins counts
// from there on.
func TestEX9_PayersOfAForgottenLog(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		p := newPaying(w)
		p.pays(p.account, cloud1)
		p.stop(p.account, true)
		w.mustUpdate(adam, folder1, add(viewer, nick))
		at := w.head()
		w.must(w.service.history.upTo(t.Context(), at))
		w.forgetPayerHistory()
		w.exec(`DELETE FROM access_changes WHERE kind IN ('payer_set', 'payer_stopped')`)
		w.must(w.service.history.learnPayers(t.Context()))
		w.mustUpdate(adam, folder1, add(viewer, vera)) // the graph goes on, so that the history tells
		req := why(useKey, folder1, olga)
		req.At = atRevision(at)
		got, err := w.explain(olga, req)
		w.must(err)
		if got.GetAllowed() {
			t.Errorf("explained as %v", got)
		}
	})
}

// forgetPayerHistory makes the history what an older program left.
func (w *world) forgetPayerHistory() {
	w.t.Helper()
	w.exec(`DELETE FROM access_history WHERE kind IN ('payer', 'stopped')`)
	w.exec(`DELETE FROM access_upgrades WHERE name = '` + upgradePayerHistory + `'`)
}

func (w *world) exec(query string) {
	w.t.Helper()
	w.must(sqldb.InTx(w.t.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, query)
		return err
	}))
}
