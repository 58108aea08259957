package partner

import (
	"context"
	"database/sql"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/email"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Permissions on customers.
const (
	permCustomerList     = "billing.customers.list"
	permCustomerGet      = "billing.customers.get"
	permCustomerPersonal = "billing.customers.getPersonalData"
	permCustomerCreate   = "billing.customers.create"
	permCustomerUpdate   = "billing.customers.update"
	permCustomerActivate = "billing.customers.activate"
	permCustomerSuspend  = "billing.customers.suspend"
	permCustomerResume   = "billing.customers.resume"
	permCustomerDelete   = "billing.customers.delete"
	permCustomerAccept   = "billing.customers.acceptInvitation"
	permCustomerDecline  = "billing.customers.declineInvitation"
)

// subaccounts is our own SubaccountService.
type subaccounts struct {
	partnerv1.UnsafeSubaccountServiceServer // a missing method does not compile
	*Service
}

// CreateSubaccount makes a subaccount (PT-7, PT-9). Fails: NOT_A_PARTNER, CUSTOMER_EXISTS.
func (s *subaccounts) CreateSubaccount(ctx context.Context, req *partnerv1.CreateSubaccountRequest) (*operationpb.Operation, error) {
	return s.invite(ctx, newCustomer{
		resellerID: req.GetResellerId(), name: req.GetName(), email: req.GetInvitationEmail(), person: req.GetPerson(),
		externalID: req.GetExternalId(), comment: req.GetComment(), admins: req.GetAdminEmails(),
	})
}

// GetSubaccount reads a subaccount. Fails: SUBACCOUNT_NOT_FOUND.
func (s *subaccounts) GetSubaccount(ctx context.Context, req *partnerv1.GetSubaccountRequest) (*partnerv1.Subaccount, error) {
	c, err := s.store.Customer(ctx, s.store.db, req.GetSubaccountId())
	if err != nil {
		return nil, err
	}
	all, err := s.shownTo(ctx, []Customer{c})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// ListSubaccounts lists the subaccounts of a partner, oldest first, filtered by state,
// address, the partner's own id or who suspended them (SC-6).
func (s *subaccounts) ListSubaccounts(ctx context.Context, req *partnerv1.ListSubaccountsRequest) (*partnerv1.ListSubaccountsResponse, error) {
	f, err := filter.Parse(req.GetFilter(), "state", "invitation_email", "external_id", "suspended_by")
	if err != nil {
		return nil, err
	}
	if f.Field == "invitation_email" {
		if err := s.mayFilterByEmail(ctx, req.GetResellerId()); err != nil {
			return nil, err
		}
		f.Value = email.Fold(f.Value)
	}
	customers, next, err := s.customers(ctx, req.GetResellerId(), f, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &partnerv1.ListSubaccountsResponse{NextPageToken: next}
	resp.Subaccounts, err = s.shownTo(ctx, customers)
	return resp, err
}

// mayFilterByEmail is PT-23 for a filter: whoever may not see addresses may not guess
// them either.
func (s *Service) mayFilterByEmail(ctx context.Context, resellerID string) error {
	return s.decider.Authorize(ctx, authn.FromContext(ctx), permCustomerPersonal, accountResource(resellerID))
}

// customers reads one page of the subaccounts of a partner.
func (s *Service) customers(ctx context.Context, resellerID string, f filter.Filter, pageSize int64, token string) ([]Customer, string, error) {
	scope := []string{"subaccounts", resellerID, f.Field, f.Value}
	after, err := s.pages.Open(token, scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(pageSize)
	all, err := s.store.Customers(ctx, resellerID, f.Field, f.Value, after, size+1)
	if err != nil {
		return nil, "", err
	}
	return onPage(s, all, size, func(c Customer) page.Position { return c.position() },
		func(c Customer) int { return proto.Size(c.proto(s.cfg.KeepFor, true)) }, scope...)
}

// shownTo are subaccounts as the caller may see them: personal data only where the
// caller holds the permission (PT-23), on the subaccount or above it (PT-24).
func (s *Service) shownTo(ctx context.Context, all []Customer) ([]*partnerv1.Subaccount, error) {
	out := make([]*partnerv1.Subaccount, 0, len(all))
	for part := range slices.Chunk(all, authz.MaxEach) {
		refs := make([]authz.Resource, len(part))
		for i, c := range part {
			refs[i] = c.resource()
		}
		may, err := s.decider.AuthorizeEach(ctx, authn.FromContext(ctx), permCustomerPersonal, refs)
		if err != nil {
			return nil, err
		}
		for i, c := range part {
			out = append(out, c.proto(s.cfg.KeepFor, may[i]))
		}
	}
	return out, nil
}

// UpdateSubaccount changes what is known of a customer (PT-21: the owner). Fails:
// SUBACCOUNT_NOT_FOUND, SUBACCOUNT_STATE.
func (s *subaccounts) UpdateSubaccount(ctx context.Context, req *partnerv1.UpdateSubaccountRequest) (*operationpb.Operation, error) {
	settable := []string{"name", "person", "external_id", "comment"}
	paths := req.GetUpdateMask().GetPaths()
	if len(paths) == 0 {
		paths = settable
	}
	for _, path := range paths {
		if !slices.Contains(settable, path) {
			return nil, apierr.InvalidField("update_mask", "%q is not a field that can be changed: name, person, external_id, comment are", path)
		}
	}
	if req.GetPerson() != nil && slices.Contains(paths, "person") {
		if err := checkCustomer(req.GetName(), "", req.GetPerson(), nil); err != nil {
			return nil, err
		}
	}
	return s.changeCustomer(ctx, req.GetSubaccountId(), customerChange{
		verb: "Update subaccount", event: eventSubaccountUpdate, permission: permCustomerUpdate,
		apply: func(c Customer) (Customer, error) {
			if c.State == Inactive {
				return c, errSubaccountState(c, "it cannot be changed")
			}
			for _, path := range paths {
				switch {
				case path == "name" && req.GetName() != "":
					c.Name = req.GetName()
				case path == "person" && req.GetPerson() != nil:
					c.Person = req.GetPerson()
				case path == "external_id":
					c.ExternalID = req.GetExternalId()
				case path == "comment":
					c.Comment = req.GetComment()
				}
			}
			return c, nil
		},
	})
}

// maxSends is how often an invitation is mailed (PT-15).
const maxSends = 10

// ResendInvitation mails the invitation again (PT-15). Fails: SUBACCOUNT_NOT_FOUND,
// SUBACCOUNT_STATE, INVITATION_SENT_TOO_OFTEN.
func (s *subaccounts) ResendInvitation(ctx context.Context, req *partnerv1.ResendInvitationRequest) (*operationpb.Operation, error) {
	return s.changeCustomer(ctx, req.GetSubaccountId(), customerChange{
		verb: "Resend invitation", event: eventSubaccountInvite, permission: permCustomerCreate,
		apply: func(c Customer) (Customer, error) {
			switch {
			case c.State != AcceptanceRequired || c.Email == "":
				return c, errSubaccountState(c, "nobody is invited who has not answered")
			case c.Sends >= maxSends:
				return c, errSentTooOften
			}
			c.Sends++
			return c, nil
		},
		then: s.mailInvitation,
	})
}

// customerChange is one change of a subaccount. It is done with its transaction, or when
// the checker knows that the subaccount is stopped or goes on.
type customerChange struct {
	verb       string // description of the operation
	event      string
	permission string
	public     bool // it answers the platform's message
	apply      func(Customer) (Customer, error)
	then       func(context.Context, *sql.Tx, Customer) error // nil for nothing
	answer     func(Customer) proto.Message                   // nil for the subaccount
}

func (s *Service) changeCustomer(ctx context.Context, accountID string, change customerChange) (*operationpb.Operation, error) {
	personal, err := s.seesPersonalData(ctx, accountID)
	if err != nil {
		return nil, err
	}
	return s.writeMaybe(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, t *jobs.Ticket, err error) {
		before, err := s.store.LockCustomer(ctx, tx, accountID)
		if err != nil {
			return op, nil, err
		}
		after, err := change.apply(before)
		if err != nil {
			return op, nil, err
		}
		if err := s.store.UpdateCustomer(ctx, tx, after); err != nil {
			return op, nil, err
		}
		if change.then != nil {
			if err := change.then(ctx, tx, after); err != nil {
				return op, nil, err
			}
		}
		n := operation.New{Description: change.verb, ViewPermission: change.viewPermission(personal), Metadata: customerMetadata(after, change.public)}
		if !turns(before.Account, after.Account) {
			n.Response = change.message(s, after, personal)
		}
		if op, err = s.begun(ctx, tx, after.ID, n); err != nil {
			return op, nil, err
		}
		if err := s.record(ctx, tx, after.Account, event{
			name: change.event, status: audit.Done, permission: change.permission, details: changed(before.Account, after.Account, op.ID),
		}); err != nil {
			return op, nil, err
		}
		t, err = s.standingJob(ctx, tx, before.Account, after.Account, standing{op.ID, after.ID, true, change.public, personal})
		return op, t, err
	})
}

// viewPermission is what shows the operation to others than its maker: one that answers
// personal data is for who may see them (PT-23).
func (c customerChange) viewPermission(personal bool) string {
	if personal && !c.public && c.answer == nil {
		return permCustomerPersonal
	}
	return permCustomerGet
}

// message is what the operation answers.
func (c customerChange) message(s *Service, after Customer, personal bool) proto.Message {
	switch {
	case c.answer != nil:
		return c.answer(after)
	case c.public:
		return after.public()
	default:
		return after.proto(s.cfg.KeepFor, personal)
	}
}

// seesPersonalData reports whether the caller may see the personal data of a customer
// (PT-23).
func (s *Service) seesPersonalData(ctx context.Context, accountID string) (bool, error) {
	may, err := s.decider.AuthorizeEach(ctx, authn.FromContext(ctx), permCustomerPersonal, []authz.Resource{accountResource(accountID)})
	return err == nil && may[0], err
}

// customerMetadata is the metadata of an operation on a subaccount, of either API.
func customerMetadata(c Customer, public bool) proto.Message {
	if public {
		return &billingv1.CustomerMetadata{ResellerId: c.PartnerID, CustomerId: c.ID}
	}
	return &partnerv1.SubaccountMetadata{SubaccountId: c.ID, ResellerId: c.PartnerID}
}

// customerMessage is what an operation on a subaccount answers, of either API. An
// operation is read by whoever may see the subaccount, so it holds no personal data that
// its maker did not send (PT-23).
func (s *Service) customerMessage(c Customer, public bool) proto.Message {
	if public {
		return c.public()
	}
	return c.proto(s.cfg.KeepFor, false)
}

// publicCustomers is the platform's CustomerService.
type publicCustomers struct {
	billingv1.UnsafeCustomerServiceServer // a missing method does not compile
	*Service
}

// List lists the customers of a reseller, oldest first.
func (s *publicCustomers) List(ctx context.Context, req *billingv1.ListCustomersRequest) (*billingv1.ListCustomersResponse, error) {
	customers, next, err := s.customers(ctx, req.GetResellerId(), filter.Filter{}, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &billingv1.ListCustomersResponse{NextPageToken: next}
	for _, c := range customers {
		resp.Customers = append(resp.Customers, c.public())
	}
	return resp, nil
}

// Invite invites a customer (PT-7). Fails: NOT_A_PARTNER, CUSTOMER_EXISTS.
func (s *publicCustomers) Invite(ctx context.Context, req *billingv1.InviteCustomerRequest) (*operationpb.Operation, error) {
	return s.invite(ctx, newCustomer{
		resellerID: req.GetResellerId(), name: req.GetName(), email: req.GetInvitationEmail(), person: req.GetPerson(), public: true,
	})
}

// CreateResellerServed makes a customer whom the reseller serves itself (PT-7). Fails:
// NOT_A_PARTNER.
func (s *publicCustomers) CreateResellerServed(ctx context.Context, req *billingv1.CreateResellerServedCustomerRequest) (*operationpb.Operation, error) {
	return s.invite(ctx, newCustomer{resellerID: req.GetResellerId(), name: req.GetName(), person: req.GetPerson(), public: true})
}
