package main

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// link has the account of a node pay for the cloud of another, whose owner is the same.
func link(account, cloud *node) {
	req, _ := bindCloud(account, cloud).(*billingv1.BindBillableObjectRequest)
	_, err := billingv1.NewBillingAccountServiceClient(account.w.Conn).BindBillableObject(account.w.as(account.owner), req)
	account.w.must(err)
}

// payForCloud has an account pay for a cloud, which is the other node then.
func payForCloud(n *node) {
	n.other = n.w.child(n.parent, cloud)
	link(n, n.other)
}

// accept has the invited customer, who is the owner, accept.
func accept(n *node) {
	_, err := partnerv1.NewSubaccountServiceClient(n.w.Conn).AcceptInvitation(n.w.as(n.owner), &partnerv1.AcceptInvitationRequest{SubaccountId: n.id})
	n.w.must(err)
}

// askAccess is a request to enter the organization of a customer.
func askAccess(n *node) *partnerv1.RequestCustomerAccessRequest {
	return &partnerv1.RequestCustomerAccessRequest{SubaccountId: n.id, RoleId: "viewer", Duration: durationpb.New(time.Hour), Reason: "To help."}
}

// askToEnter has the partner ask for that.
func askToEnter(n *node) {
	op, err := partnerv1.NewCustomerAccessServiceClient(n.w.Conn).RequestCustomerAccess(n.w.as(n.owner), askAccess(n))
	n.w.must(err)
	n.entry = n.w.made(op, new(partnerv1.CustomerAccess))
}

// beAskedForAccess puts the organization of a customer in the place of a node's: somebody
// else is the partner, and asks to enter.
func beAskedForAccess(n *node) {
	partner, w := n.w.person(), n.w
	account := &node{w: w, kind: billing, owner: partner}
	account.id, _ = w.billingAccount(partner, "")
	becomePartner(account)
	req := &partnerv1.CreateSubaccountRequest{ResellerId: account.id, Name: "Customer", Person: company, InvitationEmail: n.owner.login + "@example.com"}
	op, err := partnerv1.NewSubaccountServiceClient(w.Conn).CreateSubaccount(w.as(partner), req)
	w.must(err)
	sub := &node{w: w, kind: billing, owner: n.owner, id: w.made(op, new(partnerv1.Subaccount))}
	op, err = partnerv1.NewSubaccountServiceClient(w.Conn).AcceptInvitation(w.as(n.owner), &partnerv1.AcceptInvitationRequest{SubaccountId: sub.id})
	w.must(err)
	answer := new(partnerv1.InvitationToSubaccount)
	w.must(op.GetResponse().UnmarshalTo(answer))
	n.id, sub.owner = answer.GetOrganizationId(), partner
	askToEnter(sub)
	n.entry = sub.entry
}

func letSomebodyIn(n *node) {
	beAskedForAccess(n)
	_, err := partnerv1.NewCustomerAccessServiceClient(n.w.Conn).ApproveCustomerAccess(n.w.as(n.owner), &partnerv1.ApproveCustomerAccessRequest{AccessId: n.entry})
	n.w.must(err)
}

const (
	customerAccessService = "bindery.partner.v1.CustomerAccessService/"

	subaccountAccessService = "bindery.partner.v1.SubaccountAccessService/"

	customerQuotaService = "bindery.partner.v1.CustomerQuotaService/"
	foldersQuota         = "resource-manager.folders.count"
)

// customerRPCs are about what a partner's customers have: quotas, links, organizations.
var customerRPCs = []rpc{
	{
		method: subaccountAccessService + "ListSubaccountAccessBindings", on: billing, guard: needs("billing.customers.listAccessBindings"),
		prepare: subaccount(false),
		request: func(n *node) proto.Message { return &partnerv1.ListSubaccountAccessBindingsRequest{SubaccountId: n.id} },
	},
	{
		method: subaccountAccessService + "UpdateSubaccountAccessBindings", on: billing, guard: needs("billing.customers.updateAccessBindings"),
		prepare: subaccount(false),
		request: func(n *node) proto.Message {
			return &partnerv1.UpdateSubaccountAccessBindingsRequest{SubaccountId: n.id, AccessBindingDeltas: []*accesspb.AccessBindingDelta{{
				Action: accesspb.AccessBindingAction_ADD, AccessBinding: &accesspb.AccessBinding{
					RoleId: "billing.accounts.viewer", Subject: &accesspb.Subject{Type: "userAccount", Id: n.w.person().id},
				},
			}}}
		},
	},
	{
		method: "bindery.access.v1.ResourceService/ListOwnedBindings", on: billing, guard: onlyPartner,
		request: func(n *node) proto.Message {
			return &accessv1.ListOwnedBindingsRequest{Resource: n.resource()}
		},
	},
	{
		// That the unit may ask gives no rights to the user it asks for, or to itself.
		method: "bindery.access.v1.ResourceService/UpdateOwnedBindings", on: billing, guard: onlyPartner, inside: codes.PermissionDenied,
		request: func(n *node) proto.Message {
			return &accessv1.UpdateOwnedBindingsRequest{
				Resource: n.resource(), Permission: "billing.customers.updateAccessBindings", AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
					Action: accesspb.AccessBindingAction_ADD, AccessBinding: &accessv1.AccessBinding{RoleId: "billing.accounts.viewer", Subject: n.w.person().subject()},
				}},
			}
		},
	},
	{
		method: ownBilling + "UnlinkCloud", variant: "by who owns the cloud (BI-9)", on: billing,
		guard:   needs("billing.accounts.bindBillableObject"),
		prepare: func(n *node) { n.w.putState(n, partnerv1.BillingAccount_ACTIVE); payForCloud(n) },
		besides: func(n *node, who person) { n.w.grant("resource-manager.clouds.owner", n.other, who) },
		request: func(n *node) proto.Message {
			return &partnerv1.UnlinkCloudRequest{BillingAccountId: n.id, CloudId: n.other.id}
		},
	},
	{
		method: ownBilling + "UnlinkCloud", variant: "by who may link to the account (BI-9)", on: cloud,
		guard: needs("resource-manager.clouds.linkBillingAccount"),
		prepare: func(n *node) {
			n.other = n.w.child(n.parent, billing)
			n.w.putState(n.other, partnerv1.BillingAccount_ACTIVE)
			n.w.open("billing.accounts.editor", n.other)
			link(n.other, n)
		},
		request: func(n *node) proto.Message {
			return &partnerv1.UnlinkCloudRequest{BillingAccountId: n.other.id, CloudId: n.id}
		},
	},
	{
		method: ownBilling + "BindOrganization", variant: "by who may link accounts to the organization", on: billing,
		guard:   needs("billing.accounts.bindOrganization"),
		besides: func(n *node, who person) { n.w.grant("organization-manager.admin", n.parent, who) },
		request: func(n *node) proto.Message {
			return &partnerv1.BindOrganizationRequest{BillingAccountId: n.id, OrganizationId: n.parent.id}
		},
	},
	{
		method: ownBilling + "BindOrganization", variant: "by who owns the account", on: organization,
		guard:   needs("organization-manager.organizations.linkBillingAccount"),
		prepare: func(n *node) { n.other = n.w.child(n, billing) },
		besides: func(n *node, who person) { n.w.grant("billing.accounts.owner", n.other, who) },
		request: func(n *node) proto.Message {
			return &partnerv1.BindOrganizationRequest{BillingAccountId: n.other.id, OrganizationId: n.id}
		},
	},
	{
		method: customerQuotaService + "ListCustomerQuotas", on: billing, guard: needs("billing.customers.updateQuotas"),
		prepare: subaccount(false, activate, payForCloud),
		request: func(n *node) proto.Message {
			return &partnerv1.ListCustomerQuotasRequest{SubaccountId: n.id, CloudId: n.other.id}
		},
	},
	{
		method: customerQuotaService + "UpdateCustomerQuota", on: billing, guard: needs("billing.customers.updateQuotas"),
		prepare: subaccount(false, activate, payForCloud),
		request: func(n *node) proto.Message {
			return &partnerv1.UpdateCustomerQuotaRequest{SubaccountId: n.id, CloudId: n.other.id, QuotaId: foldersQuota, Limit: 3}
		},
	},
	{
		method: customerAccessService + "RequestCustomerAccess", on: billing, guard: needs("billing.customers.updateAccessBindings"),
		prepare: subaccount(true, accept),
		request: func(n *node) proto.Message { return askAccess(n) },
	},
	{
		method: customerAccessService + "ApproveCustomerAccess", on: organization,
		guard: needs("organization-manager.organizations.updateAccessBindings"), prepare: beAskedForAccess,
		request: func(n *node) proto.Message { return &partnerv1.ApproveCustomerAccessRequest{AccessId: n.entry} },
	},
	{
		method: customerAccessService + "RejectCustomerAccess", on: organization,
		guard: needs("organization-manager.organizations.updateAccessBindings"), prepare: beAskedForAccess,
		request: func(n *node) proto.Message { return &partnerv1.RejectCustomerAccessRequest{AccessId: n.entry} },
	},
	{
		method: customerAccessService + "RevokeCustomerAccess", on: organization,
		guard: needs("organization-manager.organizations.updateAccessBindings"), prepare: letSomebodyIn,
		request: func(n *node) proto.Message { return &partnerv1.RevokeCustomerAccessRequest{AccessId: n.entry} },
	},
	{
		method: customerAccessService + "CancelCustomerAccess", on: billing, guard: needs("billing.customers.updateAccessBindings"),
		prepare: subaccount(true, accept, askToEnter),
		request: func(n *node) proto.Message { return &partnerv1.CancelCustomerAccessRequest{AccessId: n.entry} },
	},
	{
		method: customerAccessService + "ListCustomerAccesses", on: billing, guard: needs("billing.customers.get"), prepare: subaccount(true, accept),
		request: func(n *node) proto.Message { return &partnerv1.ListCustomerAccessesRequest{SubaccountId: n.id} },
	},
	{
		method: customerAccessService + "ListOrganizationAccesses", on: organization, guard: needs("organization-manager.organizations.listAccessBindings"),
		request: func(n *node) proto.Message { return &partnerv1.ListOrganizationAccessesRequest{OrganizationId: n.id} },
	},
	{
		method: "bindery.quota.v1.CustomerQuotaService/SetCloudLimit", on: cloud, guard: onlyPartner,
		request: func(n *node) proto.Message {
			return &quotav1.SetCloudLimitRequest{CloudId: n.id, QuotaId: foldersQuota, Limit: 3, SubjectId: n.owner.id}
		},
	},
	{
		method: "bindery.access.v1.ResourceService/CheckGiver", on: billing, guard: onlyPartner,
		request: func(n *node) proto.Message {
			return &accessv1.CheckGiverRequest{
				Resource: n.resource(), Giver: &accessv1.Subject{Type: "userAccount", Id: n.owner.id}, RoleIds: []string{"billing.accounts.viewer"},
			}
		},
	},
}
