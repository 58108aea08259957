package main

import (
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/id"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// billingAccount makes a billing account, below an organization unless that is empty.
func (w *accessWorld) billingAccount(owner person, organizationID string) (id, operation string) {
	w.t.Helper()
	op, err := partnerv1.NewBillingAccountServiceClient(w.Conn).CreateBillingAccount(w.as(owner), &partnerv1.CreateBillingAccountRequest{
		Name: w.unique(), CountryCode: "RU", Currency: "RUB", OrganizationId: organizationID,
	})
	w.must(err)
	return w.made(op, new(partnerv1.BillingAccount)), op.GetId()
}

// inState has the operator put an account into a state.
func inState(state partnerv1.BillingAccount_State) func(*node) {
	return func(n *node) { n.w.putState(n, state) }
}

func (w *accessWorld) putState(n *node, state partnerv1.BillingAccount_State) {
	w.t.Helper()
	_, err := partnerv1.NewOperatorServiceClient(w.socket).SetBillingAccountState(w.t.Context(),
		&partnerv1.SetBillingAccountStateRequest{BillingAccountId: n.id, State: state})
	w.must(err)
}

const (
	publicBilling = "yandex.cloud.billing.v1.BillingAccountService/"
	ownBilling    = "bindery.partner.v1.BillingAccountService/"
)

// bindCloud is a request to link the cloud of a node to the account of another.
func bindCloud(account, cloud *node) proto.Message {
	return &billingv1.BindBillableObjectRequest{
		BillingAccountId: account.id, BillableObject: &billingv1.BillableObject{Id: cloud.id, Type: "cloud"},
	}
}

var billingRPCs = []rpc{
	{
		method: publicBilling + "Get", on: billing, guard: needs("billing.accounts.get"),
		request: func(n *node) proto.Message { return &billingv1.GetBillingAccountRequest{Id: n.id} },
	},
	{
		method: publicBilling + "List", guard: anySubject, // and sees what it may list
		request: fixed(&billingv1.ListBillingAccountsRequest{}),
	},
	{
		method: publicBilling + "ListBillableObjectBindings", on: billing, guard: needs("billing.accounts.listBillableObjectBindings"),
		request: func(n *node) proto.Message {
			return &billingv1.ListBillableObjectBindingsRequest{BillingAccountId: n.id}
		},
	},
	{
		method: publicBilling + "BindBillableObject", variant: "by who owns the cloud (BI-3)", on: billing,
		guard: needs("billing.accounts.bindBillableObject"),
		prepare: func(n *node) {
			n.w.putState(n, partnerv1.BillingAccount_ACTIVE)
			n.other = n.w.child(n.parent, cloud)
		},
		besides: func(n *node, who person) { n.w.grant("resource-manager.clouds.owner", n.other, who) },
		request: func(n *node) proto.Message { return bindCloud(n, n.other) },
	},
	{
		method: publicBilling + "BindBillableObject", variant: "by who may link to the account (BI-3)", on: cloud,
		guard: needs("resource-manager.clouds.linkBillingAccount"),
		prepare: func(n *node) {
			n.other = n.w.child(n.parent, billing)
			n.w.putState(n.other, partnerv1.BillingAccount_ACTIVE)
			n.w.open("billing.accounts.editor", n.other)
		},
		request: func(n *node) proto.Message { return bindCloud(n.other, n) },
	},
	{
		method: ownBilling + "CreateBillingAccount", variant: "of one's own", guard: anySubject,
		request: fixed(&partnerv1.CreateBillingAccountRequest{Name: "new", CountryCode: "KZ", Currency: "KZT"}),
	},
	{
		method: ownBilling + "CreateBillingAccount", variant: "in an organization", on: organization,
		guard: needs("organization-manager.organizations.linkBillingAccount"),
		request: func(n *node) proto.Message {
			return &partnerv1.CreateBillingAccountRequest{Name: "new", CountryCode: "RU", Currency: "RUB", OrganizationId: n.id}
		},
	},
	{
		method: ownBilling + "GetBillingAccount", on: billing, guard: needs("billing.accounts.get"),
		request: func(n *node) proto.Message { return &partnerv1.GetBillingAccountRequest{BillingAccountId: n.id} },
	},
	{
		method: ownBilling + "UpdateBillingAccount", on: billing, guard: needs("billing.accounts.update"),
		request: func(n *node) proto.Message {
			return &partnerv1.UpdateBillingAccountRequest{BillingAccountId: n.id, UpdateMask: mask("name"), Name: "changed"}
		},
	},
	{
		method: ownBilling + "DeleteBillingAccount", on: billing, guard: needs("billing.accounts.delete"),
		request: func(n *node) proto.Message {
			return &partnerv1.DeleteBillingAccountRequest{BillingAccountId: n.id}
		},
	},
	{
		method: ownBilling + "ActivateTrial", on: billing, guard: needs("billing.accounts.activateTrial"),
		request: func(n *node) proto.Message { return &partnerv1.ActivateTrialRequest{BillingAccountId: n.id} },
	},
	{
		method: ownBilling + "ActivatePaidVersion", on: billing, guard: needs("billing.accounts.activatePaidVersion"),
		prepare: inState(partnerv1.BillingAccount_TRIAL_EXPIRED),
		request: func(n *node) proto.Message {
			return &partnerv1.ActivatePaidVersionRequest{BillingAccountId: n.id}
		},
	},
	{
		method: ownBilling + "ListCloudLinks", on: billing, guard: needs("billing.accounts.listBillableObjectBindings"),
		request: func(n *node) proto.Message { return &partnerv1.ListCloudLinksRequest{BillingAccountId: n.id} },
	},
	{
		method: "bindery.partner.v1.OperatorService/SetBillingAccountState", on: billing, guard: guard{operator: true},
		request: func(n *node) proto.Message {
			return &partnerv1.SetBillingAccountStateRequest{BillingAccountId: n.id, State: partnerv1.BillingAccount_PENDING}
		},
	},
}

// company is the legal data of a customer.
var company = &billingv1.CustomerPerson{Name: "ACME", Tin: "7700000000"}

// becomePartner makes an account a partner's.
func becomePartner(n *node) {
	n.w.putState(n, partnerv1.BillingAccount_ACTIVE)
	n.w.makePartner(n.id)
}

func (w *accessWorld) makePartner(accountID string) {
	w.t.Helper()
	_, err := partnerv1.NewOperatorServiceClient(w.socket).SetPartnerStatus(w.t.Context(), &partnerv1.SetPartnerStatusRequest{
		BillingAccountId: accountID, Programs: []partnerv1.Partner_Program{partnerv1.Partner_VAR},
	})
	w.must(err)
}

// subaccount puts a subaccount of another account of the owner in the place of a node's
// account: the owner is the partner and, if anybody is invited, the customer, too.
func subaccount(invited bool, then ...func(*node)) func(*node) {
	return func(n *node) {
		partner := &node{w: n.w, kind: billing, parent: n.parent, owner: n.owner}
		partner.id, _ = n.w.billingAccount(n.owner, n.parent.id)
		becomePartner(partner)
		req := &partnerv1.CreateSubaccountRequest{ResellerId: partner.id, Name: "Customer", Person: company}
		if invited {
			req.InvitationEmail = n.owner.login + "@example.com"
		}
		op, err := partnerv1.NewSubaccountServiceClient(n.w.Conn).CreateSubaccount(n.w.as(n.owner), req)
		n.w.must(err)
		n.id, n.other = n.w.made(op, new(partnerv1.Subaccount)), partner
		for _, f := range then {
			f(n)
		}
	}
}

func activate(n *node) {
	_, err := partnerv1.NewSubaccountServiceClient(n.w.Conn).ActivateSubaccount(n.w.as(n.owner), &partnerv1.ActivateSubaccountRequest{SubaccountId: n.id})
	n.w.must(err)
}

func suspend(n *node) {
	_, err := partnerv1.NewSubaccountServiceClient(n.w.Conn).SuspendSubaccount(n.w.as(n.owner), &partnerv1.SuspendSubaccountRequest{SubaccountId: n.id})
	n.w.must(err)
}

// haveUser makes a person a user of an account.
func haveUser(n *node) {
	n.member = n.w.person()
	_, err := partnerv1.NewPartnerServiceClient(n.w.Conn).AddUser(n.w.as(n.owner), addUser(n))
	n.w.must(err)
}

func addUser(n *node) *partnerv1.AddUserRequest {
	return &partnerv1.AddUserRequest{BillingAccountId: n.id, Email: n.member.login + "@example.com", RoleIds: []string{"billing.accounts.viewer"}}
}

const partnerService = "bindery.partner.v1.PartnerService/"

var onlyPartner = guard{units: []string{"partner"}}

var partnerRPCs = []rpc{
	{
		method: partnerService + "GetSelf", variant: "one", on: billing, guard: needs("billing.partners.access"), prepare: becomePartner,
		request: func(n *node) proto.Message { return &partnerv1.GetSelfRequest{BillingAccountId: n.id} },
	},
	{
		method: partnerService + "AddUser", on: billing, guard: needs("billing.accounts.updateAccessBindings"),
		prepare: func(n *node) { n.member = n.w.person() },
		request: func(n *node) proto.Message { return addUser(n) },
	},
	{
		method: partnerService + "RemoveUser", on: billing, guard: needs("billing.accounts.updateAccessBindings"), prepare: haveUser,
		request: func(n *node) proto.Message {
			return &partnerv1.RemoveUserRequest{BillingAccountId: n.id, User: &partnerv1.RemoveUserRequest_SubjectId{SubjectId: n.member.id}}
		},
	},
	{
		method: partnerService + "ListUsers", on: billing, guard: needs("billing.accounts.listAccessBindings"),
		request: func(n *node) proto.Message { return &partnerv1.ListUsersRequest{BillingAccountId: n.id} },
	},
	{
		method: "bindery.partner.v1.OperatorService/SetPartnerStatus", on: billing, guard: guard{operator: true},
		prepare: inState(partnerv1.BillingAccount_ACTIVE),
		request: func(n *node) proto.Message {
			return &partnerv1.SetPartnerStatusRequest{BillingAccountId: n.id, Programs: []partnerv1.Partner_Program{partnerv1.Partner_VAR}}
		},
	},
	{
		method: "bindery.identity.v1.DirectoryService/FindUsers", guard: guard{units: []string{"marketplacerequests", "partner"}},
		request: func(n *node) proto.Message {
			return &identityv1.FindUsersRequest{Emails: []string{n.w.person().login + "@example.com"}}
		},
	},
	{
		method: "bindery.resourcemanager.v1.CustomerOrganizationService/CreateCustomerOrganization", guard: onlyPartner,
		request: func(n *node) proto.Message {
			return &brmv1.CreateCustomerOrganizationRequest{OrganizationId: id.New(id.Organization), Title: "Customer", OwnerIds: []string{n.w.person().id}}
		},
	},
	{
		method: "bindery.access.v1.ResourceService/UpdateAutomaticBindings", on: billing, guard: onlyPartner,
		request: func(n *node) proto.Message {
			return &accessv1.UpdateAutomaticBindingsRequest{Resource: n.resource(), Add: []*accessv1.AccessBinding{
				{RoleId: "billing.accounts.customer", Subject: n.w.person().subject()},
			}}
		},
	},
	{
		method: "bindery.access.v1.PayerService/SetPayer", on: cloud, guard: onlyPartner,
		request: func(n *node) proto.Message { return &accessv1.SetPayerRequest{CloudId: n.id, Version: 1} },
	},
	{
		method: "bindery.access.v1.PayerService/SetPayerStopped", on: billing, guard: onlyPartner,
		request: func(n *node) proto.Message {
			return &accessv1.SetPayerStoppedRequest{BillingAccountId: n.id, Stopped: true, Version: 1}
		},
	},
	{
		method: "bindery.access.v1.ResourceService/ListHolders", on: billing, guard: onlyPartner,
		request: func(n *node) proto.Message {
			return &accessv1.ListHoldersRequest{Resource: n.resource(), RoleId: "billing.accounts.owner"}
		},
	},
}

const (
	subaccountService = "bindery.partner.v1.SubaccountService/"
	customerService   = "yandex.cloud.billing.v1.CustomerService/"
)

var subaccountRPCs = []rpc{
	{
		method: subaccountService + "CreateSubaccount", on: billing, guard: needs("billing.customers.create"), prepare: becomePartner,
		request: func(n *node) proto.Message {
			return &partnerv1.CreateSubaccountRequest{ResellerId: n.id, Name: "Customer", InvitationEmail: n.w.unique() + "@example.com", Person: company}
		},
	},
	{
		method: subaccountService + "GetSubaccount", on: billing, guard: needs("billing.customers.get"), prepare: subaccount(false),
		request: func(n *node) proto.Message { return &partnerv1.GetSubaccountRequest{SubaccountId: n.id} },
	},
	{
		method: subaccountService + "ListSubaccounts", on: billing, guard: needs("billing.customers.list"),
		request: func(n *node) proto.Message { return &partnerv1.ListSubaccountsRequest{ResellerId: n.id} },
	},
	{
		method: subaccountService + "UpdateSubaccount", on: billing, guard: needs("billing.customers.update"), prepare: subaccount(false),
		request: func(n *node) proto.Message {
			return &partnerv1.UpdateSubaccountRequest{SubaccountId: n.id, UpdateMask: mask("comment"), Comment: "changed"}
		},
	},
	{
		method: subaccountService + "DeleteSubaccount", on: billing, guard: needs("billing.customers.delete"), prepare: subaccount(false),
		request: func(n *node) proto.Message { return &partnerv1.DeleteSubaccountRequest{SubaccountId: n.id} },
	},
	{
		method: subaccountService + "ActivateSubaccount", on: billing, guard: needs("billing.customers.activate"), prepare: subaccount(false),
		request: func(n *node) proto.Message { return &partnerv1.ActivateSubaccountRequest{SubaccountId: n.id} },
	},
	{
		method: subaccountService + "SuspendSubaccount", on: billing, guard: needs("billing.customers.suspend"), prepare: subaccount(false, activate),
		request: func(n *node) proto.Message { return &partnerv1.SuspendSubaccountRequest{SubaccountId: n.id} },
	},
	{
		method: subaccountService + "ResumeSubaccount", on: billing, guard: needs("billing.customers.resume"), prepare: subaccount(false, activate, suspend),
		request: func(n *node) proto.Message { return &partnerv1.ResumeSubaccountRequest{SubaccountId: n.id} },
	},
	{
		method: subaccountService + "ResendInvitation", on: billing, guard: needs("billing.customers.create"), prepare: subaccount(true),
		request: func(n *node) proto.Message { return &partnerv1.ResendInvitationRequest{SubaccountId: n.id} },
	},
	{
		method: subaccountService + "AcceptInvitation", on: billing, guard: needs("billing.customers.acceptInvitation"), prepare: subaccount(true),
		request: func(n *node) proto.Message { return &partnerv1.AcceptInvitationRequest{SubaccountId: n.id} },
	},
	{
		method: subaccountService + "DeclineInvitation", on: billing, guard: needs("billing.customers.declineInvitation"), prepare: subaccount(true),
		request: func(n *node) proto.Message { return &partnerv1.DeclineInvitationRequest{SubaccountId: n.id} },
	},
	{
		method: subaccountService + "ListIncomingInvitations", guard: anySubject, // and sees those to itself
		request: fixed(&partnerv1.ListIncomingInvitationsRequest{}),
	},
	{
		method: customerService + "List", on: billing, guard: needs("billing.customers.list"),
		request: func(n *node) proto.Message { return &billingv1.ListCustomersRequest{ResellerId: n.id} },
	},
	{
		method: customerService + "Invite", on: billing, guard: needs("billing.customers.create"), prepare: becomePartner,
		request: func(n *node) proto.Message {
			return &billingv1.InviteCustomerRequest{ResellerId: n.id, Name: "Customer", InvitationEmail: n.w.unique() + "@example.com", Person: company}
		},
	},
	{
		method: customerService + "CreateResellerServed", on: billing, guard: needs("billing.customers.create"), prepare: becomePartner,
		request: func(n *node) proto.Message {
			return &billingv1.CreateResellerServedCustomerRequest{ResellerId: n.id, Name: "Customer", Person: company}
		},
	},
	{
		method: customerService + "Activate", variant: "the first time", on: billing, guard: needs("billing.customers.activate"), prepare: subaccount(false),
		request: func(n *node) proto.Message { return &billingv1.ActivateCustomerRequest{CustomerId: n.id} },
	},
	{
		method: customerService + "Activate", variant: "after a suspension", on: billing, guard: needs("billing.customers.resume"),
		prepare: subaccount(false, activate, suspend),
		request: func(n *node) proto.Message { return &billingv1.ActivateCustomerRequest{CustomerId: n.id} },
	},
	{
		method: customerService + "Suspend", on: billing, guard: needs("billing.customers.suspend"), prepare: subaccount(false, activate),
		request: func(n *node) proto.Message { return &billingv1.SuspendCustomerRequest{CustomerId: n.id} },
	},
}
