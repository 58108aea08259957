package partner

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// activates is PT-12 for the first activation: of a customer whom the partner serves
// itself. Whoever was invited accepts by itself.
func activates(c Customer) (Customer, error) {
	if c.State == Active {
		return c, nil
	}
	if c.State != AcceptanceRequired || c.Email != "" {
		return c, errSubaccountState(c, "only a customer without an invitation is activated by its partner")
	}
	c.Account = c.moved(Active, time.Time{})
	return c, nil
}

// suspends is PT-11 and PT-14: from ACTIVE alone, and a suspended one stays as it is. Only
// that the platform takes it over from its partner, who could let it go on else (SC-8).
func (s *Service) suspends(by, reason string) func(Customer) (Customer, error) {
	return func(c Customer) (Customer, error) {
		if c.State == Suspended {
			if by == byPlatform && c.SuspendedBy != by {
				c.SuspendedBy, c.Reason = by, reason
			}
			return c, nil
		}
		if c.State != Active {
			return c, errSubaccountState(c, "only an ACTIVE one is suspended")
		}
		c.Account = c.moved(Suspended, s.now())
		c.SuspendedBy, c.Reason = by, reason
		return c, nil
	}
}

// resumes is PT-11, PT-29 and SC-8: from SUSPENDED, by whoever suspended it, while the
// data is there.
func (s *Service) resumes(by string) func(Customer) (Customer, error) {
	return func(c Customer) (Customer, error) {
		switch {
		case c.State == Active:
			return c, nil
		case c.State != Suspended:
			return c, errSubaccountState(c, "only a SUSPENDED one is resumed")
		case c.SuspendedBy != by:
			return c, errSuspendedBy(c)
		case !s.now().Before(c.SuspendedAt.Add(s.cfg.KeepFor)):
			return c, errDataDestroyed(c)
		}
		c.Account = c.moved(Active, s.now())
		c.SuspendedBy, c.Reason = "", ""
		return c, nil
	}
}

// ActivateSubaccount makes a customer active whom the partner serves itself (PT-12).
// Fails: SUBACCOUNT_NOT_FOUND, SUBACCOUNT_STATE.
func (s *subaccounts) ActivateSubaccount(ctx context.Context, req *partnerv1.ActivateSubaccountRequest) (*operationpb.Operation, error) {
	return s.changeCustomer(ctx, req.GetSubaccountId(), customerChange{
		verb: "Activate subaccount", event: eventSubaccountActivate, permission: permCustomerActivate, apply: activates,
	})
}

// SuspendSubaccount stops the services of a customer (PT-11, PT-27). Fails:
// SUBACCOUNT_NOT_FOUND, SUBACCOUNT_STATE.
func (s *subaccounts) SuspendSubaccount(ctx context.Context, req *partnerv1.SuspendSubaccountRequest) (*operationpb.Operation, error) {
	return s.changeCustomer(ctx, req.GetSubaccountId(), customerChange{
		verb: "Suspend subaccount", event: eventSubaccountSuspend, permission: permCustomerSuspend, apply: s.suspends(byPartner, req.GetReason()),
	})
}

// ResumeSubaccount resumes them (PT-11). Fails: SUBACCOUNT_NOT_FOUND, SUBACCOUNT_STATE,
// DATA_DESTROYED (PT-29), SUSPENDED_BY_PLATFORM (SC-8).
func (s *subaccounts) ResumeSubaccount(ctx context.Context, req *partnerv1.ResumeSubaccountRequest) (*operationpb.Operation, error) {
	return s.changeCustomer(ctx, req.GetSubaccountId(), customerChange{
		verb: "Resume subaccount", event: eventSubaccountResume, permission: permCustomerResume, apply: s.resumes(byPartner),
	})
}

// DeleteSubaccount makes a subaccount INACTIVE for good (PT-13); it pays for no cloud any
// more. Fails: SUBACCOUNT_NOT_FOUND.
func (s *subaccounts) DeleteSubaccount(ctx context.Context, req *partnerv1.DeleteSubaccountRequest) (*operationpb.Operation, error) {
	return s.changeCustomer(ctx, req.GetSubaccountId(), customerChange{
		verb: "Delete subaccount", event: eventSubaccountDelete, permission: permCustomerDelete,
		apply: func(c Customer) (Customer, error) {
			c.Account = c.moved(Inactive, s.now())
			c.SuspendedBy, c.Reason = "", ""
			return c, nil
		},
		then: func(ctx context.Context, tx *sql.Tx, c Customer) error {
			if err := sqldb.Lock(ctx, s.store.db, tx, linksLock); err != nil { // before the time is read
				return err
			}
			clouds, err := s.store.EndLinksOf(ctx, tx, c.ID, s.now())
			if err != nil {
				return err
			}
			return s.tellPayers(ctx, tx, clouds)
		},
	})
}

// Activate makes a customer active: the first time, or after a suspension (PT-12). Which of
// the two permissions it needs is decided by the state. Fails as ActivateSubaccount and
// ResumeSubaccount do.
func (s *publicCustomers) Activate(ctx context.Context, req *billingv1.ActivateCustomerRequest) (*operationpb.Operation, error) {
	seen, err := s.store.Customer(ctx, s.store.db, req.GetCustomerId())
	if err != nil {
		return nil, err
	}
	change := customerChange{verb: "Activate customer", event: eventSubaccountActivate, permission: permCustomerActivate, public: true}
	resumed := seen.State == Suspended
	if resumed {
		change.verb, change.event, change.permission = "Resume customer", eventSubaccountResume, permCustomerResume
	}
	if err := s.decider.Authorize(ctx, authn.FromContext(ctx), change.permission, seen.resource()); err != nil {
		return nil, err
	}
	change.apply = func(c Customer) (Customer, error) {
		if resumed {
			return s.resumes(byPartner)(c)
		}
		return activates(c)
	}
	return s.changeCustomer(ctx, req.GetCustomerId(), change)
}

// Suspend stops the services of a customer (PT-11, PT-27). Fails: SUBACCOUNT_NOT_FOUND,
// SUBACCOUNT_STATE.
func (s *publicCustomers) Suspend(ctx context.Context, req *billingv1.SuspendCustomerRequest) (*operationpb.Operation, error) {
	return s.changeCustomer(ctx, req.GetCustomerId(), customerChange{
		verb: "Suspend customer", event: eventSubaccountSuspend, permission: permCustomerSuspend, public: true, apply: s.suspends(byPartner, ""),
	})
}

// jobAccept is the kind of the job that does what an accepted invitation entails.
const jobAccept = "accept"

// acceptance is its payload.
type acceptance struct {
	Operation string `json:"operation"`
	Account   string `json:"account"`
	UserID    string `json:"user_id"`
}

// AcceptInvitation accepts the partner (PT-10): the customer's organization is made and
// owned by both sides (PT-17, PT-18), then the subaccount is ACTIVE. Fails:
// SUBACCOUNT_NOT_FOUND, SUBACCOUNT_STATE.
func (s *subaccounts) AcceptInvitation(ctx context.Context, req *partnerv1.AcceptInvitationRequest) (*operationpb.Operation, error) {
	p := authn.FromContext(ctx)
	return s.writeThen(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, t jobs.Ticket, err error) {
		c, err := s.store.LockCustomer(ctx, tx, req.GetSubaccountId())
		if err != nil {
			return op, t, err
		}
		if c.State != AcceptanceRequired {
			return op, t, errSubaccountState(c, "there is no invitation to accept")
		}
		if op, err = s.begun(ctx, tx, c.ID, operation.New{
			Description: "Accept invitation", ViewPermission: permCustomerGet, Metadata: customerMetadata(c, false),
		}); err != nil {
			return op, t, err
		}
		c.Organization, c.Operation = id.New(id.Organization), op.ID
		if err := s.store.UpdateCustomer(ctx, tx, c); err != nil {
			return op, t, err
		}
		if err := s.record(ctx, tx, c.Account, event{
			name: eventSubaccountAccept, status: audit.Started, permission: permCustomerAccept, details: map[string]any{"operation_id": op.ID},
		}); err != nil {
			return op, t, err
		}
		t, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobAccept, Payload: acceptance{op.ID, c.ID, p.ID}})
		return op, t, err
	})
}

// accept is that job. Who owns and administrates is read when it is done, so that nobody
// who lost a role meanwhile gets one.
func (s *Service) accept(ctx context.Context, job acceptance) error {
	c, err := s.store.Customer(ctx, s.store.db, job.Account)
	if apierr.CodeOf(err) == codes.NotFound || err == nil && c.Operation != job.Operation {
		return nil
	}
	if err != nil {
		return err
	}
	partner, err := s.store.Account(ctx, s.store.db, c.PartnerID)
	if err != nil {
		return err
	}
	owners, err := s.holders(ctx, partner.ID, roleOwner)
	if err != nil {
		return err
	}
	admins, err := s.holders(ctx, c.ID, roleAdmin)
	if err != nil {
		return err
	}
	_, err = s.organizations.CreateCustomerOrganization(server.AsUnit(ctx), &brmv1.CreateCustomerOrganizationRequest{
		OrganizationId: c.Organization, Title: c.Name, OwnerIds: union([]string{job.UserID}, owners), AdminIds: union(nil, admins),
	})
	if err != nil {
		return fmt.Errorf("make the organization of %s: %w", c.ID, apierr.FromRPC(err))
	}
	return s.endJob(ctx, c.Account, job.Operation, func(ctx context.Context, tx *sql.Tx, a Account) error {
		a = a.moved(Active, s.now())
		a.Operation = ""
		c.Account = a
		if err := s.store.UpdateCustomer(ctx, tx, c); err != nil {
			return err
		}
		if err := s.record(ctx, tx, a, done(eventSubaccountAccept, job.Operation)); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, c.invitation(partner.Name))
	})
}

// holders are the users who hold a role on an account itself; service accounts own
// nothing outside of their organization (SU-9).
func (s *Service) holders(ctx context.Context, accountID, role string) ([]string, error) {
	resp, err := s.tree.ListHolders(server.AsUnit(ctx), &accessv1.ListHoldersRequest{
		Resource: treeResource(accountResource(accountID)), RoleId: role,
	})
	if err != nil {
		return nil, fmt.Errorf("read holders of %s: %w", role, apierr.FromRPC(err))
	}
	var ids []string
	for _, subject := range resp.GetSubjects() {
		if subject.GetType() == authn.UserAccount {
			ids = append(ids, subject.GetId())
		}
	}
	return ids, nil
}

// union adds ids that are not there yet.
func union(ids, more []string) []string {
	seen := make(map[string]bool, len(ids))
	for _, one := range ids {
		seen[one] = true
	}
	for _, one := range more {
		if !seen[one] {
			seen[one], ids = true, append(ids, one)
		}
	}
	return ids
}

// DeclineInvitation declines the partner: the subaccount is INACTIVE (PT-10). Fails:
// SUBACCOUNT_NOT_FOUND, SUBACCOUNT_STATE.
func (s *subaccounts) DeclineInvitation(ctx context.Context, req *partnerv1.DeclineInvitationRequest) (*operationpb.Operation, error) {
	seen, err := s.store.Customer(ctx, s.store.db, req.GetSubaccountId())
	if err != nil {
		return nil, err
	}
	partner, err := s.store.Account(ctx, s.store.db, seen.PartnerID)
	if err != nil {
		return nil, err
	}
	return s.changeCustomer(ctx, req.GetSubaccountId(), customerChange{
		verb: "Decline invitation", event: eventSubaccountDecline, permission: permCustomerDecline,
		apply: func(c Customer) (Customer, error) {
			if c.State != AcceptanceRequired {
				return c, errSubaccountState(c, "there is no invitation to decline")
			}
			c.Account = c.moved(Inactive, s.now())
			return c, nil
		},
		answer: func(c Customer) proto.Message { return c.invitation(partner.Name) },
	})
}
