// Package partner is the unit that owns billing accounts: who pays for which cloud
// since when, the partners who resell the platform, and their customers.
//
// Tables: partner_accounts, partner_links, partner_partners, partner_customers and
// partner_pending_roles; of money partner_usage_*, partner_services, partner_skus,
// partner_budgets, partner_budget_alerts, partner_ledger, partner_specializations and
// partner_referral_links; partner_cards of the catalogue of partners; of the kit partner_operations, _audit, _idempotency, _secrets
// and the queue goqite.
//
// RPCs: yandex.cloud.billing.v1 BillingAccountService (public_accounts.go, links.go) and
// CustomerService (subaccounts.go, customer_states.go); bindery.partner.v1
// BillingAccountService (accounts.go, create.go, delete.go), PartnerService (users.go),
// PartnerCardService (cards.go),
// SubaccountService (subaccounts.go, customer_states.go, invitations.go),
// SubaccountAccessService (subaccount_access.go), and
// OperatorService on the operator socket (operators.go). Of money: UsageIngestService
// (usage_ingest.go), UsageService (usage_report.go, usage_csv.go), the platform's
// ConsumptionCoreService (usage_records.go, usage_utc.go, usage_places.go) and
// MetadataService (usage_metadata.go, usage_used.go), RewardService (rewards.go), ReferralService (referrals.go), MoneyOperatorService on the operator socket;
// yandex.cloud.billing.v1 ServiceService, SkuService (catalog.go), BudgetService
// (budgets.go, balance.go).
//
// A billing account is a resource of the tree, a root of its own or below an
// organization; a subaccount stands below the account of its partner, so that the
// partner's roles reach it (PT-24). Which of the accounts pays for a cloud is no matter
// of the tree: it is a link, at most one at a time (BI-1), and the links of a cloud one
// after another say whose its usage is (BI-4).
//
// A call writes the row, the operation, the audit record and, where the tree must know,
// a durable job in one transaction; the job talks to accessbindings and then, in a second
// transaction, ends the operation. It is executed at once, so that the call returns an
// operation that is done; after a crash, or while accessbindings is away, a worker does it.
//
// Rules by number: BI-1 to BI-8 (accounts and links), PT-2 and PT-20 in users.go, PT-4
// to PT-18, PT-21, PT-29 and SC-8 in customer.go, invite.go and customer_states.go,
// US-1 to US-8 in usage_ingest.go, budget_alerts.go, balance.go, rewards.go,
// rewards_operators.go and usage_places.go, PT-26 in cards.go,
// PT-27 to PT-31 in standing.go (what stops in the checker), PT-32 to PT-39 in links.go,
// AU-6 in audit.go. Every refusal stands in refusals.go.
package partner
