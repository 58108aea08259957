package gateway

import "github.com/bindery-iam/bindery/pkg/server"

// Units whose methods clients reach at the gateway's address.
const (
	accessBindings      = "accessbindings"
	identity            = "identity"
	marketplaceRequests = "marketplacerequests"
	notifications       = "notifications"
	partner             = "partner"
	resourceManager     = "resourcemanager"
)

// routes say which unit owns what. Clients know one address for `iam` and one for
// `organization-manager`, which several of our units share out, so a call is routed
// by the full name of its service, and an operation by the prefix of its id. A
// process that holds a unit next to the gateway does not start when something of
// that unit is missing here.
var routes = server.Routes{
	Services: map[string]string{
		"bindery.access.v1.AccessBindingService":                       accessBindings,
		"bindery.access.v1.AccessPolicyService":                        accessBindings,
		"bindery.access.v1.ChangeService":                              accessBindings,
		"bindery.access.v1.PermissionService":                          accessBindings,
		"bindery.access.v1.GrantPolicyService":                         accessBindings,
		"bindery.access.v1.RoleCatalogService":                         accessBindings,
		"bindery.access.v1.RoleRequestService":                         accessBindings,
		"bindery.identity.v1.ApiKeyTokenService":                       identity,
		"bindery.identity.v1.InvitationService":                        identity,
		"bindery.marketplace.v1.ProductAccessRequestService":           marketplaceRequests,
		"bindery.marketplace.v1.ProductInstanceService":                marketplaceRequests,
		"bindery.marketplace.v1.ProductService":                        marketplaceRequests,
		"bindery.marketplace.v1.PublisherService":                      marketplaceRequests,
		"bindery.notification.v1.SubscriptionService":                  notifications,
		"bindery.identity.v1.SessionService":                           identity,
		"bindery.partner.v1.BillingAccountService":                     partner,
		"bindery.identity.v1.SigningKeyService":                        identity,
		"bindery.partner.v1.PartnerCardService":                        partner,
		"bindery.partner.v1.PartnerService":                            partner,
		"bindery.partner.v1.ReferralService":                           partner,
		"bindery.partner.v1.RewardService":                             partner,
		"bindery.partner.v1.SubaccountAccessService":                   partner,
		"bindery.partner.v1.SubaccountService":                         partner,
		"bindery.partner.v1.UsageService":                              partner,
		"bindery.partner.v1.CustomerQuotaService":                      partner,
		"bindery.partner.v1.CustomerAccessService":                     partner,
		"bindery.resourcemanager.v1.DeletionService":                   resourceManager,
		"bindery.resourcemanager.v1.OrganizationService":               resourceManager,
		"bindery.support.v1.TicketService":                             resourceManager,
		"yandex.cloud.billing.usage_records.v1.ConsumptionCoreService": partner,
		"yandex.cloud.billing.usage_records.v1.MetadataService":        partner,
		"yandex.cloud.billing.v1.BillingAccountService":                partner,
		"yandex.cloud.billing.v1.BudgetService":                        partner,
		"yandex.cloud.billing.v1.CustomerService":                      partner,
		"yandex.cloud.billing.v1.ServiceService":                       partner,
		"yandex.cloud.billing.v1.SkuService":                           partner,
		"yandex.cloud.iam.v1.AccessAnalyzerService":                    accessBindings,
		"yandex.cloud.iam.v1.AccessPolicyTemplateService":              accessBindings,
		"yandex.cloud.iam.v1.ApiKeyService":                            identity,
		"yandex.cloud.iam.v1.IamTokenService":                          identity,
		"yandex.cloud.iam.v1.KeyService":                               identity,
		"yandex.cloud.iam.v1.RefreshTokenService":                      identity,
		"yandex.cloud.iam.v1.RoleService":                              accessBindings,
		"yandex.cloud.iam.v1.ServiceAccountService":                    identity,
		"yandex.cloud.iam.v1.SubjectDetailsService":                    identity,
		"yandex.cloud.iam.v1.UserAccountService":                       identity,
		"yandex.cloud.iam.v1.YandexPassportUserAccountService":         identity,
		"yandex.cloud.organizationmanager.v1.GroupService":             accessBindings,
		"yandex.cloud.organizationmanager.v1.OrganizationService":      resourceManager,
		"yandex.cloud.organizationmanager.v1.UserService":              identity,
		"yandex.cloud.organizationmanager.v1.GroupMappingService":      identity,
		"yandex.cloud.organizationmanager.v1.saml.FederationService":   identity,
		"yandex.cloud.organizationmanager.v1.saml.CertificateService":  identity,
		"yandex.cloud.priv.accessservice.v2.AccessService":             accessBindings,
		"yandex.cloud.quotamanager.v1.QuotaLimitService":               resourceManager,
		"yandex.cloud.quotamanager.v1.QuotaRequestService":             resourceManager,
		"yandex.cloud.resourcemanager.v1.CloudService":                 resourceManager,
		"yandex.cloud.resourcemanager.v1.FolderService":                resourceManager,
		"bindery.identity.v1.SshAuthorityService":                      identity,
		"yandex.cloud.organizationmanager.v1.OsLoginService":           identity,
		"yandex.cloud.organizationmanager.v1.SshCertificateService":    identity,
		"yandex.cloud.organizationmanager.v1.UserSshKeyService":        identity,
		"yandex.cloud.iam.v1.OAuthClientService":                       identity,
		"yandex.cloud.iam.v1.OAuthClientSecretService":                 identity,

		"bindery.identity.v1.TokenExchangeService":                       identity,
		"yandex.cloud.iam.v1.workload.FederatedCredentialService":        identity,
		"yandex.cloud.iam.v1.workload.oidc.FederationService":            identity,
		"yandex.cloud.iam.v1.awscompatibility.AccessKeyService":          identity,
		"yandex.cloud.iam.v1.awscompatibility.TemporaryAccessKeyService": identity,
	},
	Operations: map[string]string{
		"oab": accessBindings,
		"oid": identity,
		"omp": marketplaceRequests,
		"ont": notifications,
		"opa": partner,
		"orm": resourceManager,
	},
}
