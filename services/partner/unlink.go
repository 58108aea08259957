package partner

import (
	"context"
	"database/sql"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// UnlinkCloud has an account pay for a cloud no longer (BI-9): what is used from now on is
// nobody's. An account that is stopped keeps its clouds, since unlinking one would end what
// the suspension takes away (PT-30). Fails: BILLING_ACCOUNT_NOT_FOUND,
// BILLING_ACCOUNT_BUSY, BILLING_ACCOUNT_NOT_ACTIVE, CLOUD_NOT_LINKED.
func (s *accounts) UnlinkCloud(ctx context.Context, req *partnerv1.UnlinkCloudRequest) (*operationpb.Operation, error) {
	return s.writeThen(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, t jobs.Ticket, err error) {
		a, ended, err := s.unlink(ctx, tx, req.GetBillingAccountId(), req.GetCloudId())
		if err != nil {
			return op, t, err
		}
		if op, err = s.begun(ctx, tx, a.ID, operation.New{
			Description: "Unlink cloud from billing account",
			Metadata:    &partnerv1.UnlinkCloudMetadata{BillingAccountId: a.ID, CloudId: req.GetCloudId()},
		}); err != nil {
			return op, t, err
		}
		if err := s.record(ctx, tx, a, event{
			name: eventUnbindObject, status: audit.Done, permission: permBind,
			details: map[string]any{"operation_id": op.ID, "cloud_id": req.GetCloudId()},
		}); err != nil {
			return op, t, err
		}
		t, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobPayer, Payload: payment{Operation: op.ID, Cloud: ended.CloudID, Ended: &ended}})
		return op, t, err
	})
}

// unlink ends the link of a cloud to an account that is in force.
func (s *Service) unlink(ctx context.Context, tx *sql.Tx, accountID, cloudID string) (Account, Link, error) {
	a, err := s.lockLiving(ctx, tx, accountID)
	if err != nil {
		return a, Link{}, err
	}
	for _, name := range []string{linksLock, "links of " + cloudID} { // before the time of the link is read
		if err := sqldb.Lock(ctx, s.store.db, tx, name); err != nil {
			return a, Link{}, err
		}
	}
	last, found, err := s.store.LastLink(ctx, tx, cloudID)
	switch {
	case err != nil:
		return a, last, err
	case !found || last.AccountID != a.ID || !last.UnlinkedAt.IsZero():
		return a, last, errCloudNotLinked(cloudID, a.ID)
	case !a.Usable():
		return a, last, errAccountNotUsable(a)
	}
	last.UnlinkedAt = later(s.now(), last)
	return a, last, s.store.EndLink(ctx, tx, cloudID, last.UnlinkedAt)
}
