package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Payers is bindery.access.v1.PayerService.
type Payers struct {
	accessv1.UnimplementedPayerServiceServer
	committer *committer
}

// SetPayer says which billing account pays for a cloud (BI-1). Fails: RESOURCE_NOT_FOUND.
func (s *Payers) SetPayer(ctx context.Context, req *accessv1.SetPayerRequest) (*accessv1.SetPayerResponse, error) {
	if err := checkText("cloud_id", req.GetCloudId(), req.GetBillingAccountId()); err != nil {
		return nil, err
	}
	set := &accessv1.PayerSet{Resource: &accessv1.Resource{Type: typeCloud, Id: req.GetCloudId()}, Version: req.GetVersion()}
	if req.GetBillingAccountId() != "" {
		set.Payer = &accessv1.Resource{Type: typeBillingAccount, Id: req.GetBillingAccountId()}
	}
	r, err := s.committer.submit(ctx, &setPayer{set: set, record: recordOf(ctx, eventSource, "SetPayer")})
	if err != nil {
		return nil, err
	}
	return &accessv1.SetPayerResponse{Revision: r.revision}, nil
}

// SetPayerStopped stops a billing account, or lets it go on (PT-30). Fails:
// RESOURCE_NOT_FOUND.
func (s *Payers) SetPayerStopped(ctx context.Context, req *accessv1.SetPayerStoppedRequest) (*accessv1.SetPayerStoppedResponse, error) {
	if err := checkText("billing_account_id", req.GetBillingAccountId()); err != nil {
		return nil, err
	}
	r, err := s.committer.submit(ctx, &stopPayer{
		set: &accessv1.PayerStopped{
			Payer:   &accessv1.Resource{Type: typeBillingAccount, Id: req.GetBillingAccountId()},
			Stopped: req.GetStopped(), Version: req.GetVersion(),
		},
		record: recordOf(ctx, eventSource, "SetPayerStopped"),
	})
	if err != nil {
		return nil, err
	}
	return &accessv1.SetPayerStoppedResponse{Revision: r.revision}, nil
}

// setPayer is the intent of SetPayer.
type setPayer struct {
	set    *accessv1.PayerSet
	record *audit.Record
}

func (in *setPayer) plan(ctx context.Context, on *state) (plan, error) {
	path, err := on.path(ctx, on.tx, refOf(in.set.GetResource()))
	if err != nil {
		return plan{}, err
	}
	if len(path) == 0 {
		return plan{}, notFound(refOf(in.set.GetResource()))
	}
	if payer := refOf(in.set.GetPayer()); payer != (Ref{}) {
		switch stands, err := on.stands(ctx, payer); {
		case err != nil:
			return plan{}, err
		case !stands:
			return plan{}, notFound(payer)
		}
	}
	_, version, err := on.payerOf(ctx, on.tx, in.set.GetResource().GetId())
	if err != nil || version >= in.set.GetVersion() {
		return plan{}, err
	}
	changes := []*accessv1.Change{{Fact: &accessv1.Change_PayerSet{PayerSet: in.set}}}
	return plan{changes: changes, record: onPath(in.record, path, changes)}, nil
}

// stopPayer is the intent of SetPayerStopped.
type stopPayer struct {
	set    *accessv1.PayerStopped
	record *audit.Record
}

func (in *stopPayer) plan(ctx context.Context, on *state) (plan, error) {
	path, err := on.path(ctx, on.tx, refOf(in.set.GetPayer()))
	if err != nil {
		return plan{}, err
	}
	if len(path) == 0 {
		return plan{}, notFound(refOf(in.set.GetPayer()))
	}
	version, err := on.stoppedVersion(ctx, on.tx, in.set.GetPayer().GetId())
	if err != nil || version >= in.set.GetVersion() {
		return plan{}, err
	}
	changes := []*accessv1.Change{{Fact: &accessv1.Change_PayerStopped{PayerStopped: in.set}}}
	return plan{changes: changes, record: onPath(in.record, path, changes)}, nil
}

// payerOf reads who pays for a cloud, and the version of that.
func (s *store) payerOf(ctx context.Context, q sqldb.Querier, cloud string) (account string, version int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT account_id, version FROM access_payers WHERE cloud_id = $1`, cloud).Scan(&account, &version)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", 0, fmt.Errorf("read payer: %w", err)
	}
	return account, version, nil
}

// stoppedVersion reads the version of whether an account is stopped.
func (s *store) stoppedVersion(ctx context.Context, q sqldb.Querier, account string) (version int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT version FROM access_stopped_payers WHERE account_id = $1`, account).Scan(&version)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("read stopped payer: %w", err)
	}
	return version, nil
}

func (s *store) setPayer(ctx context.Context, tx *sql.Tx, f *accessv1.PayerSet) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO access_payers (cloud_id, account_id, version) VALUES ($1, $2, $3)
		ON CONFLICT (cloud_id) DO UPDATE SET account_id = excluded.account_id, version = excluded.version`,
		f.GetResource().GetId(), f.GetPayer().GetId(), f.GetVersion())
	return err
}

func (s *store) setStopped(ctx context.Context, tx *sql.Tx, f *accessv1.PayerStopped) error {
	stopped := 0
	if f.GetStopped() {
		stopped = 1
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO access_stopped_payers (account_id, stopped, version) VALUES ($1, $2, $3)
		ON CONFLICT (account_id) DO UPDATE SET stopped = excluded.stopped, version = excluded.version`,
		f.GetPayer().GetId(), stopped, f.GetVersion())
	return err
}

// payerFacts gives out who pays, and which payers are stopped.
func (s *store) payerFacts(c *catalog.Catalog) func(context.Context, sqldb.Querier, func(checker.Change) error) error {
	return func(ctx context.Context, q sqldb.Querier, put func(checker.Change) error) error {
		pay := checker.Pay{For: checker.Resource{Type: typeCloud}, Payer: checker.Resource{Type: typeBillingAccount}}
		err := each(ctx, q, "payers", `SELECT cloud_id, account_id FROM access_payers WHERE account_id <> ''`,
			[]any{&pay.For.ID, &pay.Payer.ID}, func() error { return put(pay) })
		if err != nil {
			return err
		}
		return s.stoppedFacts(ctx, q, c, "", put)
	}
}

// treePayerFacts gives out who pays for the clouds of an organization.
func (s *store) treePayerFacts(ctx context.Context, q sqldb.Querier, _ *catalog.Catalog, organization string, put func(checker.Change) error) error {
	pay := checker.Pay{For: checker.Resource{Type: typeCloud}, Payer: checker.Resource{Type: typeBillingAccount}}
	return eachOf(ctx, q, "payers", treeOf+`
		SELECT p.cloud_id, p.account_id
		FROM tree t JOIN access_payers p ON p.cloud_id = t.id AND t.type = '`+typeCloud+`'
		WHERE p.account_id <> ''`,
		[]any{organization}, []any{&pay.For.ID, &pay.Payer.ID}, func() error { return put(pay) })
}

// stoppedFacts gives out all payers that are stopped, which are few.
func (s *store) stoppedFacts(ctx context.Context, q sqldb.Querier, c *catalog.Catalog, _ string, put func(checker.Change) error) error {
	var account string
	return each(ctx, q, "stopped payers", `SELECT account_id FROM access_stopped_payers WHERE stopped = 1`,
		[]any{&account}, func() error {
			f, err := fact(c, &accessv1.Change{Fact: &accessv1.Change_PayerStopped{PayerStopped: &accessv1.PayerStopped{
				Payer: &accessv1.Resource{Type: typeBillingAccount, Id: account}, Stopped: true,
			}}})
			if err != nil {
				return err
			}
			return put(f)
		})
}
