package partner

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/email"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Roles that the platform gives on a subaccount.
const (
	roleCustomer = "billing.accounts.customer" // PT-16: to the invited person
	roleAdmin    = "billing.accounts.admin"    // PT-18: to who made it and to those named
)

// jobSubaccount is the kind of the job that makes a new subaccount known to the tree.
const jobSubaccount = "register-subaccount"

// enrollment is its payload.
type enrollment struct {
	Operation string   `json:"operation"`
	Account   string   `json:"account"`
	Admins    []string `json:"admins"` // folded addresses
	Public    bool     `json:"public"` // the operation answers the platform's message
}

// newCustomer is what a request to make a customer holds, whichever API it came by.
type newCustomer struct {
	resellerID, name, email string
	person                  *billingv1.CustomerPerson
	externalID, comment     string
	admins                  []string
	public                  bool
}

// invite makes a subaccount in state ACCEPTANCE_REQUIRED (PT-9), and mails the invitation
// where there is an address (PT-7, PT-15). Fails: NOT_A_PARTNER (PT-2), CUSTOMER_EXISTS.
func (s *Service) invite(ctx context.Context, n newCustomer) (*operationpb.Operation, error) {
	if err := checkCustomer(n.name, n.email, n.person, n.admins); err != nil {
		return nil, err
	}
	p := authn.FromContext(ctx)
	admins := make([]string, 0, len(n.admins))
	for _, address := range n.admins {
		admins = append(admins, email.Fold(address))
	}
	return s.writeThen(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, t jobs.Ticket, err error) {
		partner, err := s.lockPartner(ctx, tx, n.resellerID)
		if err != nil {
			return op, t, err
		}
		c := Customer{
			Account: Account{
				ID: id.New(id.BillingAccount), PartnerID: partner.ID, Name: n.name, CountryCode: partner.CountryCode, Currency: partner.Currency,
				State: AcceptanceRequired, Phase: Creating, CreatedBy: p.ID, CreatedAt: s.now(),
			},
			Email: email.Fold(n.email), Person: n.person, ExternalID: n.externalID, Comment: n.comment, CreatorType: p.Type, CreatorID: p.ID,
		}
		verb := "Create subaccount"
		if n.email != "" {
			verb, c.Sends = "Invite customer", 1
		}
		if op, err = s.begun(ctx, tx, c.ID, operation.New{
			Description: verb, ViewPermission: permCustomerGet, Metadata: customerMetadata(c, n.public),
		}); err != nil {
			return op, t, err
		}
		c.Operation = op.ID
		if err := s.store.InsertAccount(ctx, tx, c.Account); err != nil {
			return op, t, err
		}
		if err := s.store.InsertCustomer(ctx, tx, c); err != nil {
			return op, t, err
		}
		if err := s.record(ctx, tx, c.Account, event{
			name: eventSubaccountCreate, status: audit.Started, permission: permCustomerCreate, on: partner.resource(),
			details: map[string]any{"operation_id": op.ID},
		}); err != nil {
			return op, t, err
		}
		t, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobSubaccount, Payload: enrollment{op.ID, c.ID, admins, n.public}})
		return op, t, err
	})
}

// lockPartner locks an account that may have customers: it is ACTIVE and in the program
// of direct partners (PT-2, PT-3). Fails: NOT_A_PARTNER.
func (s *Service) lockPartner(ctx context.Context, tx *sql.Tx, accountID string) (Account, error) {
	a, err := s.lockLiving(ctx, tx, accountID)
	if err != nil {
		return a, err
	}
	programs, err := s.store.Partner(ctx, tx, a.ID)
	if err == nil && (!programs.VAR || a.State != Active) {
		err = errNotAPartner
	}
	return a, err
}

// enroll is the job that makes a subaccount known to the tree, below its partner's account
// (PT-24), with the first roles on it (PT-16, PT-18). Those for addresses that nobody has
// wait for a sign-in.
func (s *Service) enroll(ctx context.Context, job enrollment) error {
	c, err := s.store.Customer(ctx, s.store.db, job.Account)
	if apierr.CodeOf(err) == codes.NotFound || err == nil && c.Operation != job.Operation {
		return nil // done before
	}
	if err != nil {
		return err
	}
	wanted := []PendingRole{{AccountID: c.ID, Email: c.Email, RoleID: roleCustomer}}
	if c.Email == "" {
		wanted = nil
	}
	for _, address := range job.Admins {
		wanted = append(wanted, PendingRole{AccountID: c.ID, Email: address, RoleID: roleAdmin})
	}
	found, err := s.usersOf(ctx, wanted)
	if err != nil {
		return err
	}
	bindings := []*accessv1.AccessBinding{{RoleId: roleAdmin, Subject: &accessv1.Subject{Type: c.CreatorType, Id: c.CreatorID}}}
	var pending []PendingRole
	for _, w := range wanted {
		if user := found[w.Email]; user != "" {
			bindings = addBinding(bindings, w.RoleID, user)
		} else {
			w.GivenAt = sqldb.Micros(s.now())
			pending = append(pending, w)
		}
	}
	_, err = s.tree.RegisterResource(server.AsUnit(ctx), &accessv1.RegisterResourceRequest{
		Resource: treeResource(c.resource()), Parent: treeResource(c.parent()), AccessBindings: bindings,
	})
	switch code := apierr.CodeOf(err); {
	case code == codes.NotFound || code == codes.FailedPrecondition:
		return s.failCreation(ctx, registration{Operation: job.Operation, Account: c.ID}, c.Account, apierr.FromRPC(err))
	case err != nil:
		return fmt.Errorf("register subaccount %s: %w", c.ID, apierr.FromRPC(err))
	}
	return s.endJob(ctx, c.Account, job.Operation, func(ctx context.Context, tx *sql.Tx, a Account) error {
		a.Phase, a.Operation = Living, ""
		if err := s.store.UpdateAccount(ctx, tx, a); err != nil {
			return err
		}
		if err := s.store.InsertPending(ctx, tx, pending...); err != nil {
			return err
		}
		if err := s.record(ctx, tx, a, done(eventSubaccountCreate, job.Operation)); err != nil {
			return err
		}
		c.Account = a
		if err := s.mailInvitation(ctx, tx, c); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, s.customerMessage(c, job.Public))
	})
}

// addBinding adds a role of a user, once.
func addBinding(bindings []*accessv1.AccessBinding, role, user string) []*accessv1.AccessBinding {
	if slices.ContainsFunc(bindings, func(b *accessv1.AccessBinding) bool { return b.GetRoleId() == role && b.GetSubject().GetId() == user }) {
		return bindings
	}
	return append(bindings, &accessv1.AccessBinding{RoleId: role, Subject: &accessv1.Subject{Type: authn.UserAccount, Id: user}})
}

// usersOf finds the users of the addresses of some roles, by folded address.
func (s *Service) usersOf(ctx context.Context, roles []PendingRole) (map[string]string, error) {
	var addresses []string
	for _, r := range roles {
		addresses = append(addresses, r.Email)
	}
	return s.usersByEmail(ctx, addresses...)
}

// usersByEmail finds users by folded addresses, at most 100.
func (s *Service) usersByEmail(ctx context.Context, addresses ...string) (map[string]string, error) {
	found := make(map[string]string, len(addresses))
	if len(addresses) == 0 {
		return found, nil
	}
	resp, err := s.directory.FindUsers(server.AsUnit(ctx), &identityv1.FindUsersRequest{Emails: addresses})
	if err != nil {
		return nil, fmt.Errorf("find users: %w", apierr.FromRPC(err))
	}
	for _, u := range resp.GetUsers() {
		found[email.Fold(u.GetEmail())] = u.GetId()
	}
	return found, nil
}

// jobMail is the kind of the job that has an invitation mailed.
const jobMail = "mail-invitation"

// mailing is its payload: which of the sends of an invitation.
type mailing struct {
	Account string `json:"account"`
	Send    int64  `json:"send"`
}

// mailInvitation has the invitation to a subaccount mailed once the transaction has
// committed (PT-15).
func (s *Service) mailInvitation(ctx context.Context, tx *sql.Tx, c Customer) error {
	if c.Email == "" {
		return nil
	}
	_, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobMail, Payload: mailing{c.ID, c.Sends}, NotBefore: time.Now()})
	return err
}
