package gateway

import "github.com/bindery-iam/bindery/pkg/server"

// Units whose methods clients reach at the gateway's address.
const (
	accessBindings  = "accessbindings"
	identity        = "identity"
	resourceManager = "resourcemanager"
)

// routes say which unit owns what. Clients know one address for `iam` and one for
// `organization-manager`, which several of our units share out, so a call is routed
// by the full name of its service, and an operation by the prefix of its id. A
// process that holds a unit next to the gateway does not start when something of
// that unit is missing here.
var routes = server.Routes{
	Services: map[string]string{
		"bindery.access.v1.AccessBindingService":                  accessBindings,
		"bindery.resourcemanager.v1.DeletionService":              resourceManager,
		"bindery.resourcemanager.v1.OrganizationService":          resourceManager,
		"yandex.cloud.iam.v1.IamTokenService":                     identity,
		"yandex.cloud.iam.v1.RoleService":                         accessBindings,
		"yandex.cloud.iam.v1.UserAccountService":                  identity,
		"yandex.cloud.iam.v1.YandexPassportUserAccountService":    identity,
		"yandex.cloud.organizationmanager.v1.OrganizationService": resourceManager,
		"yandex.cloud.priv.accessservice.v2.AccessService":        accessBindings,
		"yandex.cloud.resourcemanager.v1.CloudService":            resourceManager,
		"yandex.cloud.resourcemanager.v1.FolderService":           resourceManager,
	},
	Operations: map[string]string{
		"oab": accessBindings,
		"orm": resourceManager,
	},
}
