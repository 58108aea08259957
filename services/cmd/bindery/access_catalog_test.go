package main

import (
	"slices"
	"strings"
	"testing"
)

// designed are methods that the catalogue names as if they stood in the public
// services, which they do not: ours are beside them.
var designed = map[string]string{
	"bindery.access.v1.PermissionService/Explain":                                          "access.v1.PermissionService/Explain",
	"bindery.access.v1.PermissionService/ListResources":                                    "access.v1.PermissionService/ListResources",
	"bindery.access.v1.PermissionService/ListSubjects":                                     "access.v1.PermissionService/ListSubjects",
	"bindery.identity.v1.InvitationService/AcceptInvitation":                               "organizationmanager.v1.InvitationService/Accept",
	"bindery.identity.v1.InvitationService/CreateInvitations":                              "organizationmanager.v1.InvitationService/Create",
	"bindery.identity.v1.InvitationService/DeleteInvitation":                               "organizationmanager.v1.InvitationService/Delete",
	"bindery.identity.v1.InvitationService/GetInvitation":                                  "organizationmanager.v1.InvitationService/Get",
	"bindery.identity.v1.InvitationService/ListInvitations":                                "organizationmanager.v1.InvitationService/List",
	"bindery.identity.v1.InvitationService/RejectInvitation":                               "organizationmanager.v1.InvitationService/Reject",
	"bindery.identity.v1.SshAuthorityService/GetSshAuthority":                              "organizationmanager.v1.OsLoginService/GetSettings",
	"bindery.identity.v1.InvitationService/ResendInvitation":                               "organizationmanager.v1.InvitationService/Resend",
	"bindery.partner.v1.BillingAccountService/CreateBillingAccount":                        "billing.v1.BillingAccountService/Create",
	"bindery.partner.v1.BillingAccountService/UpdateBillingAccount":                        "billing.v1.BillingAccountService/Update",
	"bindery.partner.v1.BillingAccountService/DeleteBillingAccount":                        "billing.v1.BillingAccountService/Delete",
	"bindery.partner.v1.BillingAccountService/ActivateTrial":                               "billing.v1.BillingAccountService/ActivateTrial",
	"bindery.partner.v1.BillingAccountService/ActivatePaidVersion":                         "billing.v1.BillingAccountService/ActivatePaidVersion",
	"bindery.partner.v1.SubaccountService/CreateSubaccount":                                "partner.v1.SubaccountService/Create",
	"bindery.partner.v1.SubaccountService/GetSubaccount":                                   "partner.v1.SubaccountService/Get",
	"bindery.partner.v1.SubaccountService/ListSubaccounts":                                 "partner.v1.SubaccountService/List",
	"bindery.partner.v1.SubaccountService/UpdateSubaccount":                                "partner.v1.SubaccountService/Update",
	"bindery.partner.v1.SubaccountService/DeleteSubaccount":                                "partner.v1.SubaccountService/Delete",
	"bindery.partner.v1.SubaccountService/ActivateSubaccount":                              "partner.v1.SubaccountService/Activate",
	"bindery.partner.v1.SubaccountService/SuspendSubaccount":                               "partner.v1.SubaccountService/Suspend",
	"bindery.partner.v1.SubaccountService/ResumeSubaccount":                                "partner.v1.SubaccountService/Resume",
	"bindery.partner.v1.SubaccountService/ResendInvitation":                                "partner.v1.SubaccountService/ResendInvitation",
	"bindery.partner.v1.SubaccountService/AcceptInvitation":                                "partner.v1.SubaccountService/AcceptInvitation",
	"bindery.partner.v1.SubaccountService/DeclineInvitation":                               "partner.v1.SubaccountService/DeclineInvitation",
	"bindery.partner.v1.PartnerCardService/GetPartnerCard":                                 "partner.v1.PartnerService/Get",
	"bindery.partner.v1.PartnerCardService/UpdatePartnerCard":                              "partner.v1.PartnerService/Update",
	"bindery.partner.v1.PartnerService/GetSelf":                                            "partner.v1.PartnerService/GetSelf",
	"bindery.resourcemanager.v1.DeletionService/CancelCloudDeletion":                       "resourcemanager.v1.CloudService/CancelDelete",
	"bindery.resourcemanager.v1.DeletionService/CancelFolderDeletion":                      "resourcemanager.v1.FolderService/CancelDelete",
	"bindery.resourcemanager.v1.OrganizationService/CreateOrganization":                    "organizationmanager.v1.OrganizationService/Create",
	"bindery.resourcemanager.v1.OrganizationService/DeleteOrganization":                    "organizationmanager.v1.OrganizationService/Delete",
	"bindery.support.v1.TicketService/CreateTicket":                                        "support.v1.TicketService/Create",
	"bindery.support.v1.TicketService/GetTicket":                                           "support.v1.TicketService/Get",
	"bindery.support.v1.TicketService/ListTickets":                                         "support.v1.TicketService/List",
	"bindery.support.v1.TicketService/CloseTicket":                                         "support.v1.TicketService/Close",
	"bindery.support.v1.TicketService/CreateTicketComment":                                 "support.v1.TicketService/Comment",
	"bindery.support.v1.TicketService/UploadTicketAttachment":                              "support.v1.TicketService/AttachFile",
	"bindery.marketplace.v1.PublisherService/CreatePublisher":                              "marketplace.v1.PublisherService/Create",
	"bindery.marketplace.v1.PublisherService/GetPublisher":                                 "marketplace.v1.PublisherService/Get",
	"bindery.marketplace.v1.PublisherService/ListPublishers":                               "marketplace.v1.PublisherService/List",
	"bindery.marketplace.v1.PublisherService/UpdatePublisher":                              "marketplace.v1.PublisherService/Update",
	"bindery.marketplace.v1.PublisherService/DeletePublisher":                              "marketplace.v1.PublisherService/Delete",
	"bindery.marketplace.v1.PublisherService/AddPublisherUsers":                            "marketplace.v1.PublisherService/AddUser",
	"bindery.marketplace.v1.ProductService/CreateProduct":                                  "marketplace.v1.ProductService/Create",
	"bindery.marketplace.v1.ProductService/GetProduct":                                     "marketplace.v1.ProductService/Get",
	"bindery.marketplace.v1.ProductService/ListProducts":                                   "marketplace.v1.ProductService/List",
	"bindery.marketplace.v1.ProductService/UpdateProduct":                                  "marketplace.v1.ProductService/Update",
	"bindery.marketplace.v1.ProductService/ArchiveProduct":                                 "marketplace.v1.ProductService/Delete",
	"bindery.marketplace.v1.ProductService/SubmitProduct":                                  "marketplace.v1.ModerationRequestService/Create",
	"bindery.marketplace.v1.ProductService/ListProductUsers":                               "marketplace.v1.ProductUserService/List",
	"bindery.marketplace.v1.ProductService/CheckAccess":                                    "marketplace.v1.ProductService/CheckAccess",
	"bindery.marketplace.v1.ProductAccessRequestService/CreateProductAccessRequest":        "marketplace.v1.ProductAccessRequestService/Create",
	"bindery.marketplace.v1.ProductAccessRequestService/GetProductAccessRequest":           "marketplace.v1.ProductAccessRequestService/Get",
	"bindery.marketplace.v1.ProductAccessRequestService/ListProductAccessRequests":         "marketplace.v1.ProductAccessRequestService/List",
	"bindery.marketplace.v1.ProductAccessRequestService/CancelProductAccessRequest":        "marketplace.v1.ProductAccessRequestService/Cancel",
	"bindery.marketplace.v1.ProductAccessRequestService/ApproveProductAccessRequest":       "marketplace.v1.ProductAccessRequestService/Approve",
	"bindery.marketplace.v1.ProductAccessRequestService/RejectProductAccessRequest":        "marketplace.v1.ProductAccessRequestService/Reject",
	"bindery.marketplace.v1.ProductAccessRequestService/RequestRevocation":                 "marketplace.v1.ProductAccessRequestService/RequestRevoke",
	"bindery.marketplace.v1.ProductAccessRequestService/CreateProductAccessRequestMessage": "marketplace.v1.ProductAccessRequestService/CreateMessage",
	"bindery.marketplace.v1.ProductAccessRequestService/ListProductAccessRequestMessages":  "marketplace.v1.ProductAccessRequestService/ListMessages",
	"bindery.marketplace.v1.ProductInstanceService/CreateProductInstance":                  "marketplace.v1.ProductInstanceService/Create",
	"bindery.marketplace.v1.ProductInstanceService/GetProductInstance":                     "marketplace.v1.ProductInstanceService/Get",
	"bindery.marketplace.v1.ProductInstanceService/ListProductInstances":                   "marketplace.v1.ProductInstanceService/List",
	"bindery.marketplace.v1.ProductInstanceService/UpdateProductInstance":                  "marketplace.v1.ProductInstanceService/Update",
	"bindery.marketplace.v1.ProductInstanceService/ActivateProductInstance":                "marketplace.v1.ProductInstanceService/Activate",
	"bindery.marketplace.v1.ProductInstanceService/DeactivateProductInstance":              "marketplace.v1.ProductInstanceService/Deactivate",
}

// open are uses that the catalogue lets nobody in without a permission for, or
// does not know, and whose fixtures let more people in, with the reason.
var open = map[string]string{
	"yandex.cloud.organizationmanager.v1.UserService/DeleteMembership, of oneself":         "everybody may leave",
	"yandex.cloud.organizationmanager.v1.GroupMappingService/UpdateItems, to a group":      "on every mapped group, besides the one on the federation (AS-19)",
	"yandex.cloud.iam.v1.SubjectDetailsService/Get, anywhere":                              "it shows what the caller may see",
	"yandex.cloud.iam.v1.SubjectDetailsService/BatchGet, anywhere":                         "it shows what the caller may see",
	"yandex.cloud.billing.v1.BillingAccountService/List":                                   "without a parent it shows what the caller may list",
	"yandex.cloud.organizationmanager.v1.OrganizationService/List":                         "without a parent it shows what the caller may get",
	"yandex.cloud.resourcemanager.v1.CloudService/List, of everything":                     "without a parent it shows what the caller may get",
	"yandex.cloud.quotamanager.v1.QuotaLimitService/ListServices":                          "it names no resource",
	"yandex.cloud.quotamanager.v1.QuotaRequestService/List, of everything":                 "without a resource it shows what the caller may get",
	"yandex.cloud.organizationmanager.v1.GroupService/ListEffective, everywhere":           "it shows what the caller may see",
	"yandex.cloud.priv.accessservice.v2.AccessService/Authenticate, an API key":            "the key in the request proves its subject",
	"yandex.cloud.priv.accessservice.v2.AccessService/Authenticate, a signature of no key": "the signature in the request proves its subject",
	"yandex.cloud.iam.v1.KeyService/List, of oneself":                                      "everybody may with their own account",
	"yandex.cloud.iam.v1.KeyService/Create, for oneself":                                   "everybody may with their own account",
	"yandex.cloud.iam.v1.RefreshTokenService/List, of oneself":                             "everybody may with their own sessions",
	"yandex.cloud.iam.v1.RefreshTokenService/Revoke, of oneself":                           "everybody may with their own sessions",
	"yandex.cloud.iam.v1.RefreshTokenService/Revoke, by the token":                         "whoever holds it may",
	"yandex.cloud.organizationmanager.v1.SshCertificateService/Generate":                   "everybody may for their own profiles: TestCertificates",
	"yandex.cloud.iam.v1.OAuthClientService/ListProfiles":                                  "it names no resource",
	"yandex.cloud.endpoint.ApiEndpointService/Get":                                         "clients look addresses up before they have a token",
	"yandex.cloud.billing.v1.ServiceService/Get":                                           "free beside SkuService/Get, by the note there",
	"yandex.cloud.billing.v1.ServiceService/List":                                          "the same",
	"yandex.cloud.billing.v1.SkuService/List, of everybody":                                "the same",
	"yandex.cloud.billing.v1.SkuService/List, of an account":                               "naming an account asks for the prices of that account, and takes seeing it",
	"yandex.cloud.billing.v1.SkuService/Get, of an account":                                "the same",
	"yandex.cloud.endpoint.ApiEndpointService/List":                                        "clients look addresses up before they have a token",
	"yandex.cloud.priv.accessservice.v2.AccessService/Authenticate, a token":               "the token in the request proves its subject",
	"yandex.cloud.priv.accessservice.v2.AccessService/Authenticate, nothing":               "it is refused as a bad request",
	"yandex.cloud.priv.accessservice.v2.AccessService/Authorize, of a token":               "the token in the request proves its subject",
	"yandex.cloud.priv.accessservice.v2.AccessService/BulkAuthorize, of a token":           "the token in the request proves its subject",
}

// unbuilt are permissions that guard a served method for resources which nothing
// serves yet, or fields of its answer alone.
var unbuilt = map[string]string{
	"organization-manager.users.getPhone":                 "shows a field: TestSubjectsAreHidden",
	"organization-manager.users.getAttributes":            "shows fields: TestSubjectsAreHidden",
	"iam.operations.get":                                  "operations are seen by the rights on what they are about",
	"organization-manager.userpools.listExternalGroups":   "there are no user pools yet",
	"organization-manager.userpools.bindExternalGroups":   "there are no user pools yet",
	"organization-manager.userpools.unbindExternalGroups": "there are no user pools yet",
	"billing.customers.getPersonalData":                   "shows fields: TestPT23_PersonalDataIsHidden",
	"marketplace.publishers.get":                          "its list shows items, one by one",
	"billing.accounts.list":                               "it shows items, one by one: TestBillingAccountsListed",
	"audit-trails.quotas.get":                             "there are no quotas of audit trails",
	"kms.quotas.get":                                      "there are no keys here",
}

// TestAccessGuardsFollowCatalogue holds the guards of the fixtures to the
// catalogue: each permission that guards a served method has a fixture, on a
// target of the type that the permission is checked on, and nothing is open that
// the catalogue does not list as free.
func TestAccessGuardsFollowCatalogue(t *testing.T) {
	c := roles(t)
	used := make(map[string][]string) // permissions by method, as the catalogue names it
	for _, r := range allRPCs() {
		method := designed[r.method]
		if method == "" {
			method = strings.TrimPrefix(r.method, "yandex.cloud.")
		}
		used[method] = append(used[method], r.permission)
		p, known := c.permissions[r.permission]
		switch {
		case r.permission != "" && !known:
			t.Errorf("%s: permission %s is not in the catalogue", r.name(), r.permission)
		case r.permission != "" && p.CheckedOn != string(r.on):
			t.Errorf("%s: %s is checked on a %s, the fixture's target is a %s", r.name(), r.permission, p.CheckedOn, r.on)
		case (r.public || r.authenticated) && strings.Contains(r.method, ".cloud."):
			if !slices.Contains(c.free, method) && open[r.name()] == "" {
				t.Errorf("%s needs no permission by its fixture, and the catalogue does not list it as free", r.name())
			}
		}
	}
	for _, p := range c.permissions {
		for _, method := range p.Guards {
			if unbuilt[p.ID] != "" {
				continue
			}
			if perms, served := used[method]; served && !slices.Contains(perms, p.ID) && open["yandex.cloud."+method] == "" {
				t.Errorf("%s is guarded by %s, and no fixture calls it with and without", method, p.ID)
			}
		}
	}
	for _, r := range allRPCs() {
		if r.permission == "" || !strings.HasPrefix(r.method, "yandex.cloud.") || strings.Contains(r.method, ".operation.") || open[r.name()] != "" {
			continue
		}
		if method := strings.TrimPrefix(r.method, "yandex.cloud."); !slices.Contains(c.permissions[r.permission].Guards, method) {
			t.Errorf("%s: the catalogue does not guard it by %s", r.name(), r.permission)
		}
	}
}
