package partner

import (
	"context"
	"database/sql"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// objectCloud is the one type of objects that can be linked (BI-7).
const objectCloud = "cloud"

// BindBillableObject links a cloud to an account, which pays for it from now on; the
// account that paid before pays no longer (BI-1, PT-35, PT-37). The rights on both
// sides are in the rule of the method (BI-3, C-9, PT-33, PT-36); the API is PT-39. Fails: BILLING_ACCOUNT_NOT_FOUND,
// BILLING_ACCOUNT_BUSY, BILLING_ACCOUNT_NOT_ACTIVE (BI-5, PT-32).
func (s *publicAccounts) BindBillableObject(ctx context.Context, req *billingv1.BindBillableObjectRequest) (*operationpb.Operation, error) {
	object := req.GetBillableObject()
	if object.GetType() != objectCloud {
		return nil, apierr.InvalidField("billable_object.type", "must be %q (BI-7)", objectCloud)
	}
	return s.writeThen(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, t jobs.Ticket, err error) {
		a, link, err := s.link(ctx, tx, req.GetBillingAccountId(), object.GetId())
		if err != nil {
			return op, t, err
		}
		if op, err = s.begun(ctx, tx, a.ID, operation.New{
			Description: "Link cloud to billing account",
			Metadata:    &billingv1.BindBillableObjectMetadata{BillableObjectId: object.GetId()},
		}); err != nil {
			return op, t, err
		}
		if err := s.record(ctx, tx, a, event{
			name: eventBindObject, status: audit.Done, permission: permBind,
			details: map[string]any{"operation_id": op.ID, "cloud_id": link.CloudID},
		}); err != nil {
			return op, t, err
		}
		t, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobPayer, Payload: payment{Operation: op.ID, Cloud: link.CloudID}})
		return op, t, err
	})
}

// link has an account pay for a cloud from now on; where it does already nothing
// changes (BI-1). Links of one cloud follow one another, each later than the one before.
func (s *Service) link(ctx context.Context, tx *sql.Tx, accountID, cloudID string) (Account, Link, error) {
	a, err := s.lockLiving(ctx, tx, accountID)
	if err != nil {
		return a, Link{}, err
	}
	if !a.Usable() {
		return a, Link{}, errAccountNotUsable(a)
	}
	for _, name := range []string{linksLock, "links of " + cloudID} { // before the time of the link is read
		if err := sqldb.Lock(ctx, s.store.db, tx, name); err != nil {
			return a, Link{}, err
		}
	}
	last, found, err := s.store.LastLink(ctx, tx, cloudID)
	if err != nil || found && last.AccountID == a.ID && last.UnlinkedAt.IsZero() {
		return a, last, err
	}
	l := Link{CloudID: cloudID, AccountID: a.ID, LinkedAt: s.now(), LinkedBy: authn.FromContext(ctx).ID}
	if found {
		l.LinkedAt = later(l.LinkedAt, last)
		if err := s.store.EndLink(ctx, tx, cloudID, l.LinkedAt); err != nil {
			return a, l, err
		}
	}
	return a, l, s.store.InsertLink(ctx, tx, l)
}

// later returns a time that is after the beginning of a link and not before its end,
// whatever the clock says.
func later(now time.Time, last Link) time.Time {
	if first := last.LinkedAt.Add(time.Microsecond); now.Before(first) {
		now = first
	}
	if now.Before(last.UnlinkedAt) {
		now = last.UnlinkedAt
	}
	return now
}

// ListBillableObjectBindings lists what an account pays for now, oldest link first.
func (s *publicAccounts) ListBillableObjectBindings(ctx context.Context, req *billingv1.ListBillableObjectBindingsRequest) (*billingv1.ListBillableObjectBindingsResponse, error) {
	links, next, err := s.links(ctx, req.GetBillingAccountId(), true, req)
	if err != nil {
		return nil, err
	}
	resp := &billingv1.ListBillableObjectBindingsResponse{NextPageToken: next}
	for _, l := range links {
		resp.BillableObjectBindings = append(resp.BillableObjectBindings, l.public())
	}
	return resp, nil
}

// links reads one page of the links of an account.
func (s *Service) links(ctx context.Context, accountID string, inForce bool, req access.PageRequest) ([]Link, string, error) {
	scope := []string{"all links", accountID}
	if inForce {
		scope[0] = "links in force"
	}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(req.GetPageSize())
	all, err := s.store.Links(ctx, s.store.db, accountID, inForce, after, size+1)
	if err != nil {
		return nil, "", err
	}
	return onPage(s, all, size, Link.position, func(l Link) int { return proto.Size(l.proto()) }, scope...)
}
