package main

import "strings"

// silent are calls that are no reads by their name and leave no record, with the
// reason.
var silent = map[string]string{
	"grpc.health.v1.Health/Check":                                                             "reads",
	"grpc.health.v1.Health/Watch":                                                             "reads",
	"grpc.reflection.v1.ServerReflection/ServerReflectionInfo":                                "reads",
	"bindery.identity.v1.WebService/Serve":                                                    "a page that is only read",
	"bindery.identity.v1.DirectoryService/FindUsers":                                          "reads",
	"bindery.access.v1.ChangeService/Follow":                                                  "reads",
	"bindery.access.v1.ResourceService/CheckGiver":                                            "reads",
	"bindery.access.v1.PermissionService/Explain":                                             "reads",
	"bindery.access.v1.PermissionService/Preview":                                             "reads",
	"bindery.access.v1.PermissionService/TestPermissions":                                     "reads",
	"bindery.access.v1.SubjectService/RemoveMembership":                                       "the fixture's subject is no member",
	"bindery.access.v1.SubjectService/RevokeSessions":                                         "the fixture's session is over",
	"bindery.access.v1.SubjectService/UpdateMemberships":                                      "the fixture's subject is in no group",
	"bindery.partner.v1.UsageIngestService/IngestUsage":                                       "the records are kept",
	"bindery.partner.v1.MoneyOperatorService/IngestUsage":                                     "the records are kept",
	"bindery.partner.v1.MoneyOperatorService/LoadCatalog":                                     "a price list is no resource",
	"bindery.notification.v1.NotificationService/Notify":                                      "what is told is no change",
	"yandex.cloud.iam.v1.RefreshTokenService/Revoke":                                          "of oneself: the fixture's caller has no sessions",
	"bindery.marketplace.v1.ProductAccessRequestService/MarkProductAccessRequestMessagesRead": "what somebody has read is no change",
	"bindery.marketplace.v1.ProductAccessRequestService/CancelProductAccessRequest":           "the fixture's request is not there",
	"bindery.access.v1.RoleRequestService/MarkRoleRequestMessagesRead":                        "what somebody has read is no change",
	"bindery.access.v1.RoleRequestService/CreateRoleRequest":                                  "the fixture's folder is not there",
	"bindery.access.v1.RoleRequestService/CancelRoleRequest":                                  "the fixture's request is not there",
	"bindery.support.v1.TicketService/MarkTicketCommentsRead":                                 "what somebody has read is no change",
	"bindery.support.v1.TicketService/DownloadTicketAttachment":                               "reads",
	"bindery.support.v1.OperatorService/DownloadAttachment":                                   "reads",
	"bindery.marketplace.v1.ProductService/CheckAccess":                                       "reads",
}

// eventsOfOurs are the types of events that no rule names (AU-8), with what they
// are for.
var eventsOfOurs = map[string]string{
	"access.SetPayer":                               "a fact of the checker, by partner",
	"access.SetPayerStopped":                        "a fact of the checker, by partner",
	"access.MoveResource":                           "a fact of the tree, by a unit",
	"access.RegisterResource":                       "a fact of the tree, by a unit",
	"access.RemoveMembership":                       "a fact of the tree, by a unit",
	"access.RemoveResource":                         "a fact of the tree, by a unit",
	"access.RevokeSessions":                         "a fact of the checker, by identity",
	"access.RevokeToken":                            "a fact of the checker, by identity",
	"access.SetSubject":                             "a fact of the checker, by identity",
	"access.UpdateMembers":                          "a fact of the checker, by a unit",
	"access.UpdateMemberships":                      "a fact of the checker, by identity",
	"billing.BillableObjectBind":                    "the platform publishes two events of billing alone",
	"billing.BillableObjectUnbind":                  "the platform publishes two events of billing alone",
	"billing.BillingAccountBindOrganization":        "the platform publishes two events of billing alone",
	"billing.CustomerAccessRequest":                 "the platform publishes two events of billing alone",
	"billing.CustomerAccessApprove":                 "the platform publishes two events of billing alone",
	"billing.CustomerAccessReject":                  "the platform publishes two events of billing alone",
	"billing.CustomerAccessCancel":                  "the platform publishes two events of billing alone",
	"billing.CustomerAccessRevoke":                  "the platform publishes two events of billing alone",
	"billing.CustomerAccessExpire":                  "the platform publishes two events of billing alone",
	"billing.CustomerQuotaUpdate":                   "the platform publishes two events of billing alone",
	"billing.BillingAccountDelete":                  "the platform publishes two events of billing alone",
	"billing.UpdateAccountAccessBindings":           "the platform publishes two events of billing alone",
	"billing.SetAccountAccessBindings":              "the platform publishes two events of billing alone",
	"billing.SubaccountCreate":                      "the platform publishes two events of billing alone",
	"billing.SubaccountUpdate":                      "the platform publishes two events of billing alone",
	"billing.SubaccountInvitationResend":            "the platform publishes two events of billing alone",
	"billing.SubaccountActivate":                    "the platform publishes two events of billing alone",
	"billing.SubaccountSuspend":                     "the platform publishes two events of billing alone",
	"billing.SubaccountResume":                      "the platform publishes two events of billing alone",
	"billing.SubaccountDelete":                      "the platform publishes two events of billing alone",
	"billing.SubaccountInvitationAccept":            "the platform publishes two events of billing alone",
	"billing.SubaccountInvitationDecline":           "the platform publishes two events of billing alone",
	"billing.PartnerStatusUpdate":                   "the platform publishes two events of billing alone",
	"billing.PartnerUserAdd":                        "the platform publishes two events of billing alone",
	"billing.PartnerUserRemove":                     "the platform publishes two events of billing alone",
	"billing.PartnerUserSignIn":                     "the platform publishes two events of billing alone",
	"billing.BudgetCreate":                          "the platform publishes two events of billing alone",
	"billing.BudgetPass":                            "the platform publishes two events of billing alone",
	"billing.RebateWithdraw":                        "the platform publishes two events of billing alone",
	"billing.ReferralCommissionWithdraw":            "the platform publishes two events of billing alone",
	"billing.ReferralLinkCreate":                    "the platform publishes two events of billing alone",
	"billing.ReferralLinkUpdate":                    "the platform publishes two events of billing alone",
	"billing.RewardAccrue":                          "the platform publishes two events of billing alone",
	"billing.BalanceUpdate":                         "the platform publishes two events of billing alone",
	"billing.PartnerCardUpdate":                     "the platform publishes two events of billing alone",
	"billing.SpecializationUpdate":                  "the platform publishes two events of billing alone",
	"access.UpdateAutomaticBindings":                "a fact of the tree, by a unit",
	"iam.CreateUser":                                "the operator makes users",
	"iam.DeleteUser":                                "the operator deletes users",
	"iam.ReactivateUser":                            "the operator lets users back in",
	"iam.ReactivateServiceAccount":                  "the reverse of suspending, which the platform does by itself",
	"iam.SuspendServiceAccount":                     "suspending, which the platform does by itself",
	"iam.LinkUser":                                  "the operator says by which account somebody signs in",
	"iam.UnlinkUser":                                "the operator takes that back",
	"iam.SuspendUser":                               "the operator keeps users out",
	"iam.RotateSigningKey":                          "the operator rotates the key of tokens",
	"organizationmanager.ConvertAllGroupsToBasic":   "the platform publishes no events of external groups",
	"organizationmanager.ConvertGroupToExternal":    "the platform publishes no events of external groups",
	"organizationmanager.CreateNotice":              "the operator tells people",
	"quotamanager.CancelQuotaRequest":               "the platform publishes no events of quotas",
	"quotamanager.CreateQuotaRequest":               "the platform publishes no events of quotas",
	"quotamanager.DecideQuotaRequest":               "the operator answers requests",
	"quotamanager.SetQuotaLimit":                    "the operator sets limits",
	"resourcemanager.CancelCloudDeletion":           "cancelling a deletion (AU-8)",
	"resourcemanager.CancelFolderDeletion":          "cancelling a deletion (AU-8)",
	"access.PutGrant":                               "a fact of the tree, by a unit",
	"access.EndGrant":                               "a fact of the tree, by a unit",
	"access.CreateRoleRequest":                      "the platform has no requests for roles",
	"access.CreateRoleRequestMessage":               "the platform has no requests for roles",
	"access.ApproveRoleRequest":                     "the platform has no requests for roles",
	"access.RejectRoleRequest":                      "the platform has no requests for roles",
	"access.CancelRoleRequest":                      "the platform has no requests for roles",
	"access.EndRoleRequest":                         "the platform has no requests for roles",
	"access.GiveRequestedRole":                      "the platform has no requests for roles",
	"access.EndRequestedRole":                       "the platform has no requests for roles",
	"support.CreateTicket":                          "the platform publishes no events of tickets",
	"support.CreateTicketComment":                   "the platform publishes no events of tickets",
	"support.CloseTicket":                           "the platform publishes no events of tickets",
	"support.AttachFile":                            "the platform publishes no events of tickets",
	"marketplace.CreatePublisher":                   "the platform publishes no events of publishers",
	"marketplace.UpdatePublisher":                   "the platform publishes no events of publishers",
	"marketplace.DeletePublisher":                   "the platform publishes no events of publishers",
	"marketplace.UpdatePublisherAccessBindings":     "the platform publishes no events of publishers",
	"marketplace.CreateProduct":                     "the platform publishes no events of products",
	"marketplace.UpdateProduct":                     "the platform publishes no events of products",
	"marketplace.SubmitProduct":                     "the platform publishes no events of products",
	"marketplace.ReviewProduct":                     "the platform publishes no events of products",
	"marketplace.ArchiveProduct":                    "the platform publishes no events of products",
	"marketplace.CreateProductAccessRequest":        "the platform publishes no events of requests for access",
	"marketplace.ApproveProductAccessRequest":       "the platform publishes no events of requests for access",
	"marketplace.RejectProductAccessRequest":        "the platform publishes no events of requests for access",
	"marketplace.CancelProductAccessRequest":        "the platform publishes no events of requests for access",
	"marketplace.RequestRevocation":                 "the platform publishes no events of requests for access",
	"marketplace.RevokeProductAccessRequest":        "the platform publishes no events of requests for access",
	"marketplace.CreateProductAccessRequestMessage": "the platform publishes no events of requests for access",
	"marketplace.CreateProductInstance":             "the platform publishes no events of installed products",
	"marketplace.UpdateProductInstance":             "the platform publishes no events of installed products",
	"marketplace.ActivateProductInstance":           "the platform publishes no events of installed products",
	"marketplace.DeactivateProductInstance":         "the platform publishes no events of installed products",
	"marketplace.DeleteProductInstance":             "the platform publishes no events of installed products",
	"access.CreateDefaultGroups":                    "what a program does once over the store of an older one",
	"iam.CreateGrantPolicy":                         "the platform has no grant policies (SC-19)",
	"iam.DeleteGrantPolicy":                         "the platform has no grant policies (SC-19)",
	"iam.UpdateGrantPolicy":                         "the platform has no grant policies (SC-19)",
}

// outside are the types of events that are about no organization and no user account,
// with what they are about.
var outside = map[string]string{
	"marketplace.CreatePublisher":                   "what stands in no organization",
	"marketplace.UpdatePublisher":                   "what stands in no organization",
	"marketplace.DeletePublisher":                   "what stands in no organization",
	"marketplace.UpdatePublisherAccessBindings":     "what stands in no organization",
	"marketplace.CreateProduct":                     "what stands in no organization",
	"marketplace.UpdateProduct":                     "what stands in no organization",
	"marketplace.SubmitProduct":                     "what stands in no organization",
	"marketplace.ReviewProduct":                     "what stands in no organization",
	"marketplace.ArchiveProduct":                    "what stands in no organization",
	"marketplace.CreateProductAccessRequest":        "what stands in no organization",
	"marketplace.ApproveProductAccessRequest":       "what stands in no organization",
	"marketplace.RejectProductAccessRequest":        "what stands in no organization",
	"marketplace.CancelProductAccessRequest":        "what stands in no organization",
	"marketplace.RequestRevocation":                 "what stands in no organization",
	"marketplace.RevokeProductAccessRequest":        "what stands in no organization",
	"marketplace.CreateProductAccessRequestMessage": "what stands in no organization",
	"access.PutGrant":                               "a product, which stands in no organization",
	"access.EndGrant":                               "a product, which stands in no organization",
	"access.RevokeSessions":                         "sessions of subjects of the platform",
	"access.RevokeToken":                            "a token of a subject of the platform",
	"access.SetSubject":                             "a subject of the platform",
	"iam.RotateSigningKey":                          "the installation",
}

// rootless are uses of RPCs that are about a resource of no organization.
var rootless = map[string]string{
	"bindery.marketplace.v1.PublisherService/CreatePublisher":                     "a publisher stands below nothing",
	"bindery.marketplace.v1.ProductService/CreateProduct":                         "a product stands below a publisher",
	"bindery.partner.v1.BillingAccountService/CreateBillingAccount, of one's own": "an account that stands below nothing",
}

// eventsOfRules are the types of events of rules AU-1 to AU-7.
var eventsOfRules = func() map[string]bool {
	all := make(map[string]bool)
	for source, names := range map[string]string{
		"resourcemanager": `
			AddCloudToOrganization BindCloudAccessPolicy BindFolderAccessPolicy CreateCloud CreateFolder DeleteCloud DeleteFolder
			UnbindCloudAccessPolicy UnbindFolderAccessPolicy UpdateCloud UpdateCloudAccessBindings
			UpdateCloudAccessPolicyBindingParameters UpdateFolder UpdateFolderAccessBindings
			UpdateFolderAccessPolicyBindingParameters SetCloudAccessBindings SetFolderAccessBindings
		`,
		"iam": `
			AddFederatedUserAccounts CreateAccessKey CreateApiKey CreateCertificate CreateFederation CreateIamCookieForSubject
			CreateKey CreateServiceAccount DeleteAccessKey DeleteApiKey DeleteCertificate DeleteFederation DeleteKey
			DeleteServiceAccount DetectLeakedCredential DisableService EnableService oauthclient.CreateOAuthClient
			oauthclient.CreateOAuthClientSecret oauthclient.DeleteOAuthClient oauthclient.DeleteOAuthClientSecret
			oauthclient.UpdateOAuthClient RevokeLeakedCredential SetServiceAccountAccessBindings UpdateAccessKey UpdateApiKey
			UpdateCertificate UpdateFederation UpdateKey UpdateServiceAccount UpdateServiceAccountAccessBindings
			workload.CreateFederatedCredential workload.DeleteFederatedCredential workload.oidc.CreateFederation
			workload.oidc.DeleteFederation workload.oidc.SetFederationAccessBindings workload.oidc.UpdateFederation
			workload.oidc.UpdateFederationAccessBindings
			awscompatibility.CreateEphemeralAccessKey awscompatibility.CreateTemporaryAccessKey CreateIamToken
			credential.ApplicationLoginEvent credential.CreateRefreshTokenForSubject credential.RevokeRefreshTokenForSubject
			credential.RevokeSsoSession mfa.VerifyUserCredential oslogin.CheckSshPolicy oslogin.GenerateSshCertificate
			RevokeIamToken
		`,
		"organizationmanager": `
			AcceptInvitation ActivateMfaEnforcement AttachRegion BindOrganizationAccessPolicy CreateGroup CreateGroupMapping
			CreateInvitations CreateMembership CreateMfaEnforcement CreateOrganization CreateOsLoginProfile CreateUserSshKey
			DeactivateMfaEnforcement DeleteGroup DeleteGroupMapping DeleteInvitation DeleteMembership DeleteMfaEnforcement
			DeleteOrganization DeleteOsLoginProfile DeleteUserSshKey RejectInvitation ResendInvitation SetDefaultProfile
			SetGroupAccessBindings SetOrganizationAccessBindings UnbindOrganizationAccessPolicy UpdateGroup
			UpdateGroupAccessBindings UpdateGroupMapping UpdateGroupMembers UpdateMfaEnforcement UpdateMfaEnforcementAudience
			UpdateOrganization UpdateOrganizationAccessBindings UpdateOrganizationAccessPolicyBindingParameters UpdateOsLoginProfile
			UpdateOsLoginSettings UpdateSubscribers UpdateUserSshKey
			idp.AddUserpoolDomain idp.ChangeOneTimePassword idp.ConvertUserToExternal idp.CreateUser idp.CreateUserpool
			idp.DeleteUser idp.DeleteUserpool idp.DeleteUserpoolDomain idp.ReactivateUser idp.SetUserPassword
			idp.SetUserpoolAccessBindings idp.SuspendUser idp.UpdateSubscriptionLimit idp.UpdateUser idp.UpdateUserpool
			idp.UpdateUserpoolAccessBindings idp.ValidateUserpoolDomain oauth.CreateApplication oauth.DeleteApplication
			oauth.ReactivateApplication oauth.SetApplicationAccessBindings oauth.SuspendApplication oauth.UpdateApplication
			oauth.UpdateApplicationAccessBindings oauth.UpdateApplicationAssignments saml.AddFederationDomain
			saml.AddFederatedUserAccounts saml.CreateApplication saml.CreateFederation saml.CreateSignatureCertificate
			saml.DeleteApplication saml.DeleteFederation saml.DeleteFederationDomain saml.DeleteFederatedUserAccounts
			saml.DeleteSignatureCertificate saml.ReactivateApplication saml.ReactivateFederatedUserAccounts
			saml.SetApplicationAccessBindings saml.SuspendApplication saml.SuspendFederatedUserAccounts saml.UpdateApplication
			saml.UpdateApplicationAccessBindings saml.UpdateApplicationAssignments saml.UpdateFederation
			saml.UpdateSignatureCertificate saml.UploadSignatureCertificate saml.ValidateFederationDomain
		`,
		"billing": `
			BillingAccountCreate BillingAccountUpdate
		`,
		"marketplace.licensemanager": `
			CreateLicenseInstance DeleteLicenseInstance LockLicenseInstance MoveLicenseInstance UnlockLicenseInstance
		`,
	} {
		for name := range strings.FieldsSeq(names) {
			all[source+"."+name] = true
		}
	}
	return all
}()
