package partner

import (
	"context"
	"database/sql"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// jobStanding is the kind of the job that tells the checker whether an account is
// stopped, and ends the operation that changed it: the operation is done when no check
// sees the state before it (PT-30).
const jobStanding = "tell-standing"

// standing is its payload. Operation is "" for a change by the operator.
type standing struct {
	Operation string `json:"operation"`
	Account   string `json:"account"`
	Customer  bool   `json:"customer"` // it answers a subaccount, else an account
	Public    bool   `json:"public"`   // in the platform's message
	Personal  bool   `json:"personal"` // with personal data
}

// turns reports whether a change of an account stops it, or lets it go on: one that is
// usable may be used, all others are stopped (BI-5, PT-27).
func turns(before, after Account) bool { return before.Usable() != after.Usable() }

// standingJob enqueues that job where a change turns an account; nil where it does not.
func (s *Service) standingJob(ctx context.Context, tx *sql.Tx, before, after Account, job standing) (*jobs.Ticket, error) {
	if !turns(before, after) {
		return nil, nil
	}
	t, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobStanding, Payload: job})
	return &t, err
}

// tellStanding is that job. It tells what is so now: of two that overtake one another
// the version says which is later.
func (s *Service) tellStanding(ctx context.Context, job standing) error {
	a, err := s.store.Account(ctx, s.store.db, job.Account)
	if apierr.CodeOf(err) == codes.NotFound {
		return nil // it was deleted, and pays for nothing
	}
	if err != nil {
		return err
	}
	_, err = s.payers.SetPayerStopped(server.AsUnit(ctx), &accessv1.SetPayerStoppedRequest{
		BillingAccountId: a.ID, Stopped: !a.Usable(), Version: a.Version,
	})
	if err != nil && apierr.CodeOf(err) != codes.NotFound { // it goes, and its operation ends
		return fmt.Errorf("tell the standing of %s: %w", a.ID, apierr.FromRPC(err))
	}
	if job.Operation == "" {
		return nil
	}
	answer := proto.Message(a.proto(s.cfg.KeepFor))
	if job.Customer {
		c, err := s.store.Customer(ctx, s.store.db, a.ID)
		if err != nil {
			return err
		}
		answer = c.proto(s.cfg.KeepFor, job.Personal)
		if job.Public {
			answer = c.public()
		}
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return s.operations.Finish(ctx, tx, job.Operation, nil, answer)
	})
}

// jobPayer is the kind of the job that tells the checker who pays for a cloud, and ends
// the operation that linked it.
const jobPayer = "tell-payer"

// payment is its payload. Operation is "" where another one is not waited for.
type payment struct {
	Operation string `json:"operation"`
	Cloud     string `json:"cloud"`
	Ended     *Link  `json:"ended,omitempty"` // what the operation answers where it ended a link
}

// tellPayer is that job. A cloud that is gone is nobody's.
func (s *Service) tellPayer(ctx context.Context, job payment) error {
	last, found, err := s.store.LastLink(ctx, s.store.db, job.Cloud)
	if err != nil || !found {
		return err
	}
	req := &accessv1.SetPayerRequest{CloudId: job.Cloud, BillingAccountId: last.AccountID, Version: 2 * sqldb.Micros(last.LinkedAt)}
	if !last.UnlinkedAt.IsZero() {
		req.BillingAccountId, req.Version = "", 2*sqldb.Micros(last.UnlinkedAt)-1 // before a link at that very time
	}
	if _, err := s.payers.SetPayer(server.AsUnit(ctx), req); err != nil && apierr.CodeOf(err) != codes.NotFound {
		return fmt.Errorf("tell who pays for %s: %w", job.Cloud, apierr.FromRPC(err))
	}
	if job.Operation == "" {
		return nil
	}
	answer := proto.Message(last.public())
	if job.Ended != nil {
		answer = job.Ended.proto()
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return s.operations.Finish(ctx, tx, job.Operation, nil, answer)
	})
}

// tellPayers has a worker tell who pays for clouds whose links have ended.
func (s *Service) tellPayers(ctx context.Context, tx *sql.Tx, clouds []string) error {
	for _, cloud := range clouds {
		if _, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobPayer, Payload: payment{Cloud: cloud}, NotBefore: s.now()}); err != nil {
			return err
		}
	}
	return nil
}
