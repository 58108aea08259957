package main

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	recordsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/usage_records/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// sold is what a catalogue has.
func (w *accessWorld) sold() {
	w.t.Helper()
	_, err := partnerv1.NewMoneyOperatorServiceClient(w.socket).LoadCatalog(w.t.Context(), loadCatalog())
	w.must(err)
}

func loadCatalog() *partnerv1.LoadCatalogRequest {
	return &partnerv1.LoadCatalogRequest{
		Services: []*billingv1.Service{{Id: "compute", Name: "Compute", Description: "machines"}},
		Skus: []*billingv1.Sku{{
			Id: "cpu", ServiceId: "compute", Name: "CPU", PricingUnit: "core*hour",
			PricingVersions: []*billingv1.PricingVersion{{
				Type: billingv1.PricingVersionType_STREET_PRICE, EffectiveTime: timestamppb.Now(),
				PricingExpressions: []*billingv1.PricingExpression{{Rates: []*billingv1.Rate{{StartPricingQuantity: "0", UnitPrice: "1.5", Currency: "RUB"}}}},
			}},
		}},
	}
}

// refers makes an account a partner's who is in both programs, with something to withdraw
// from either and a link, which becomes the other node's id.
func refers(n *node) {
	n.w.putState(n, partnerv1.BillingAccount_ACTIVE)
	_, err := partnerv1.NewOperatorServiceClient(n.w.socket).SetPartnerStatus(n.w.t.Context(), &partnerv1.SetPartnerStatusRequest{
		BillingAccountId: n.id, Programs: []partnerv1.Partner_Program{partnerv1.Partner_VAR, partnerv1.Partner_REFERRAL},
	})
	n.w.must(err)
	op, err := partnerv1.NewReferralServiceClient(n.w.Conn).CreateReferralLink(n.w.as(n.owner), &partnerv1.CreateReferralLinkRequest{BillingAccountId: n.id, Name: "blog"})
	n.w.must(err)
	n.other = &node{w: n.w, id: n.w.made(op, new(partnerv1.ReferralLink))}
	for _, link := range []string{"", n.other.id} {
		_, err := partnerv1.NewMoneyOperatorServiceClient(n.w.socket).PostAccrual(n.w.t.Context(), &partnerv1.PostAccrualRequest{
			Id: n.w.unique(), BillingAccountId: n.id, ReferralLinkId: link, Amount: "1000",
		})
		n.w.must(err)
	}
}

// budgeted makes a budget of an account, which becomes the other node's id.
func budgeted(n *node) {
	op, err := billingv1.NewBudgetServiceClient(n.w.Conn).Create(n.w.as(n.owner), createBudget(n))
	n.w.must(err)
	n.other = &node{w: n.w, id: n.w.made(op, new(billingv1.Budget))}
}

func createBudget(n *node) *billingv1.CreateBudgetRequest {
	return &billingv1.CreateBudgetRequest{
		BillingAccountId: n.id, Name: "all", BudgetSpec: &billingv1.CreateBudgetRequest_CostBudgetSpec{CostBudgetSpec: &billingv1.CostBudgetSpec{
			Amount: "100", NotificationUserAccountIds: []string{n.owner.id}, EndDate: "2030-12-31",
			StartType:      &billingv1.CostBudgetSpec_ResetPeriod{ResetPeriod: billingv1.ResetPeriodType_MONTHLY},
			ThresholdRules: []*billingv1.ThresholdRule{{Type: billingv1.ThresholdType_PERCENT, Amount: "50", NotificationUserAccountIds: []string{n.owner.id}}},
			Filter: &billingv1.ConsumptionFilter{
				ServiceIds: []string{"compute"}, CloudFoldersFilters: []*billingv1.CloudFoldersConsumptionFilter{{CloudId: "cld", FolderIds: []string{"fld"}}},
			},
		}},
	}
}

func ingestUsage(n *node) proto.Message {
	return &partnerv1.IngestUsageRequest{Records: []*partnerv1.UsageRecord{{
		Id: n.w.unique(), UsedAt: timestamppb.Now(), CloudId: "cld", ServiceId: "compute", SkuId: "cpu", Cost: "1", Labels: map[string]string{"a": "b"},
	}}}
}

const (
	rewardService   = "bindery.partner.v1.RewardService/"
	referralService = "bindery.partner.v1.ReferralService/"
	cardService     = "bindery.partner.v1.PartnerCardService/"
	moneyOperator   = "bindery.partner.v1.MoneyOperatorService/"
	budgetService   = "yandex.cloud.billing.v1.BudgetService/"
)

// consumptionRPCs are the platform's reports of usage, which have one request, and one guard;
// those that name places are open to who may see the usage of those, too (US-7).
func consumptionRPCs() (all []rpc) {
	const core = "yandex.cloud.billing.usage_records.v1.ConsumptionCoreService/Get"
	for _, by := range []string{"BillingAccount", "Cloud", "Folder", "Service", "SKU", "Resource", "LabelKey", "ServiceInstance"} {
		all = append(all, rpc{
			method: core + by + "UsageReport", variant: map[bool]string{true: "of an account"}[slices.Contains(usageOfPlaces, by)],
			on: billing, guard: needs("billing.usage.get"),
			request: func(n *node) proto.Message {
				return &recordsv1.UsageReportRequest{BillingAccountId: n.id, StartDate: timestamppb.Now(), EndDate: timestamppb.Now()}
			},
		})
	}
	for _, by := range usageOfPlaces {
		all = append(all, rpc{
			method: core + by + "UsageReport", variant: "of a cloud", on: cloud, guard: needs("billing.usageRecords.get"), prepare: paid,
			request: func(n *node) proto.Message {
				return &recordsv1.UsageReportRequest{BillingAccountId: n.other.id, StartDate: timestamppb.Now(), EndDate: timestamppb.Now(), CloudIds: []string{n.id}}
			},
		})
	}
	for what, request := range map[string]func(id string, day *timestamppb.Timestamp) proto.Message{
		"Usage": func(id string, day *timestamppb.Timestamp) proto.Message {
			return &recordsv1.GetUsageRequest{BillingAccountId: id, StartDate: day, EndDate: day}
		},
		"ServiceInstance": func(id string, day *timestamppb.Timestamp) proto.Message {
			return &recordsv1.GetServiceInstanceRequest{BillingAccountId: id, StartDate: day, EndDate: day}
		},
		"Label": func(id string, day *timestamppb.Timestamp) proto.Message {
			return &recordsv1.GetLabelRequest{BillingAccountId: id, StartDate: day, EndDate: day, LabelKey: "a"}
		},
		"Cloud": func(id string, day *timestamppb.Timestamp) proto.Message {
			return &recordsv1.GetCloudRequest{BillingAccountId: id, StartDate: day, EndDate: day}
		},
		"Resources": func(id string, day *timestamppb.Timestamp) proto.Message {
			return &recordsv1.GetResourcesRequest{BillingAccountId: id, StartDate: day, EndDate: day}
		},
	} {
		all = append(all, rpc{
			method: "yandex.cloud.billing.usage_records.v1.MetadataService/Get" + what, on: billing, guard: needs("billing.usage.get"),
			request: func(n *node) proto.Message { return request(n.id, timestamppb.Now()) },
		})
	}
	return all
}

// usageOfPlaces are the reports that name clouds, folders or what is in them.
var usageOfPlaces = []string{"Cloud", "Folder", "Resource"}

// paid makes a billing account that everybody may know of, which becomes the other node.
func paid(n *node) {
	id, _ := n.w.billingAccount(n.w.founder, "")
	n.other = &node{w: n.w, id: id}
}

var moneyRPCs = []rpc{
	{
		method: "bindery.partner.v1.UsageService/GetUsageReport", on: billing, guard: needs("billing.partnerUsage.get"),
		request: func(n *node) proto.Message {
			return &partnerv1.GetUsageReportRequest{BillingAccountId: n.id, Filter: &partnerv1.UsageFilter{Axis: partnerv1.UsageReport_CLOUD}}
		},
	},
	{
		method: "bindery.partner.v1.UsageService/ExportUsageReport", on: billing, guard: needs("billing.partnerUsage.get"),
		request: func(n *node) proto.Message {
			return &partnerv1.ExportUsageReportRequest{BillingAccountId: n.id, Filter: &partnerv1.UsageFilter{Axis: partnerv1.UsageReport_SUBACCOUNT}}
		},
	},
	{method: "bindery.partner.v1.UsageIngestService/IngestUsage", guard: guard{units: []string{"metering"}}, request: ingestUsage},
	{method: moneyOperator + "IngestUsage", guard: guard{operator: true}, request: ingestUsage},
	{
		method: moneyOperator + "LoadCatalog", guard: guard{operator: true},
		request: func(*node) proto.Message { return loadCatalog() },
	},
	{
		method: moneyOperator + "PostAccrual", on: billing, guard: guard{operator: true}, prepare: refers,
		request: func(n *node) proto.Message {
			return &partnerv1.PostAccrualRequest{Id: n.w.unique(), BillingAccountId: n.id, Amount: "10", Comment: "June"}
		},
	},
	{
		method: moneyOperator + "SetBalance", on: billing, guard: guard{operator: true},
		request: func(n *node) proto.Message {
			return &partnerv1.SetBalanceRequest{BillingAccountId: n.id, Balance: "10.5"}
		},
	},
	{
		method: cardService + "GetPartnerCard", on: billing, guard: needs("billing.partners.get"), prepare: refers,
		request: func(n *node) proto.Message { return &partnerv1.GetPartnerCardRequest{BillingAccountId: n.id} },
	},
	{
		method: cardService + "UpdatePartnerCard", on: billing, guard: needs("billing.partners.update"), prepare: refers,
		request: func(n *node) proto.Message {
			return &partnerv1.UpdatePartnerCardRequest{
				BillingAccountId: n.id, UpdateMask: mask("name", "description", "site_url", "email", "phone"), Name: "Reseller", Description: "sells",
				SiteUrl: "https://reseller.example", Email: "sales@reseller.example", Phone: "+7 495 000-00-00",
			}
		},
	},
	{
		method: cardService + "ListPartnerCards", guard: anySubject,
		request: fixed(&partnerv1.ListPartnerCardsRequest{}),
	},
	{
		method: "bindery.marketplace.v1.CatalogService/BatchGetListings", guard: guard{units: []string{"partner"}},
		request: func(n *node) proto.Message {
			return &marketplacev1.BatchGetListingsRequest{ProductIds: []string{n.w.offered().id}}
		},
	},
	{
		method: moneyOperator + "SetSpecialization", on: billing, guard: guard{operator: true}, prepare: refers,
		request: func(n *node) proto.Message {
			return &partnerv1.SetSpecializationRequest{BillingAccountId: n.id, Name: "Data"}
		},
	},
	{
		method: rewardService + "ListBonuses", on: billing, guard: needs("billing.partnerDiscounts.get"),
		request: func(n *node) proto.Message { return &partnerv1.ListBonusesRequest{BillingAccountId: n.id} },
	},
	{
		method: rewardService + "ListRebates", on: billing, guard: needs("billing.partnerRebates.get"),
		request: func(n *node) proto.Message { return &partnerv1.ListRebatesRequest{BillingAccountId: n.id} },
	},
	{
		method: rewardService + "WithdrawRebate", on: billing, guard: needs("billing.partnerRebates.withdraw"), prepare: refers,
		request: func(n *node) proto.Message {
			return &partnerv1.WithdrawRebateRequest{BillingAccountId: n.id, Amount: "0.5"}
		},
	},
	{
		method: rewardService + "ListSpecializations", on: billing, guard: needs("billing.partnerSpecializations.get"),
		request: func(n *node) proto.Message { return &partnerv1.ListSpecializationsRequest{BillingAccountId: n.id} },
	},
	{
		method: referralService + "ListReferralLinks", on: billing, guard: needs("billing.referralLinks.get"),
		request: func(n *node) proto.Message { return &partnerv1.ListReferralLinksRequest{BillingAccountId: n.id} },
	},
	{
		method: referralService + "CreateReferralLink", on: billing, guard: needs("billing.referralLinks.update"), prepare: refers,
		request: func(n *node) proto.Message {
			return &partnerv1.CreateReferralLinkRequest{BillingAccountId: n.id, Name: "new"}
		},
	},
	{
		method: referralService + "UpdateReferralLink", on: billing, guard: needs("billing.referralLinks.update"), prepare: refers,
		request: func(n *node) proto.Message {
			return &partnerv1.UpdateReferralLinkRequest{ReferralLinkId: n.other.id, UpdateMask: mask("name"), Name: "changed"}
		},
	},
	{
		method: referralService + "ListReferralAccruals", on: billing, guard: needs("billing.referrals.get"),
		request: func(n *node) proto.Message { return &partnerv1.ListReferralAccrualsRequest{BillingAccountId: n.id} },
	},
	{
		method: referralService + "WithdrawReferral", on: billing, guard: needs("billing.referrals.withdraw"), prepare: refers,
		request: func(n *node) proto.Message {
			return &partnerv1.WithdrawReferralRequest{BillingAccountId: n.id, Amount: "0.5"}
		},
	},
	{
		method: "yandex.cloud.billing.v1.ServiceService/Get", guard: anySubject,
		request: fixed(&billingv1.GetServiceRequest{Id: "compute"}),
	},
	{
		method: "yandex.cloud.billing.v1.ServiceService/List", guard: anySubject,
		request: fixed(&billingv1.ListServicesRequest{Filter: `name = "Compute"`}),
	},
	{
		method: "yandex.cloud.billing.v1.SkuService/Get", variant: "of everybody", guard: anySubject,
		request: fixed(&billingv1.GetSkuRequest{Id: "cpu", Currency: "RUB"}),
	},
	{
		method: "yandex.cloud.billing.v1.SkuService/Get", variant: "of an account", on: billing, guard: needs("billing.accounts.get"),
		request: func(n *node) proto.Message {
			return &billingv1.GetSkuRequest{Id: "cpu", Currency: "RUB", BillingAccountId: n.id}
		},
	},
	{
		method: "yandex.cloud.billing.v1.SkuService/List", variant: "of everybody", guard: anySubject,
		request: fixed(&billingv1.ListSkusRequest{Currency: "RUB", Filter: `service_id = "compute"`}),
	},
	{
		method: "yandex.cloud.billing.v1.SkuService/List", variant: "of an account", on: billing, guard: needs("billing.accounts.get"),
		request: func(n *node) proto.Message {
			return &billingv1.ListSkusRequest{Currency: "RUB", BillingAccountId: n.id}
		},
	},
	{
		method: budgetService + "Get", on: billing, guard: needs("billing.budgets.get"), prepare: budgeted,
		request: func(n *node) proto.Message { return &billingv1.GetBudgetRequest{Id: n.other.id} },
	},
	{
		method: budgetService + "List", on: billing, guard: needs("billing.budgets.get"),
		request: func(n *node) proto.Message { return &billingv1.ListBudgetsRequest{BillingAccountId: n.id} },
	},
	{
		method: budgetService + "Create", on: billing, guard: needs("billing.budgets.create"),
		request: func(n *node) proto.Message { return createBudget(n) },
	},
}
