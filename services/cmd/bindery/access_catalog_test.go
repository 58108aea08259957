package main

import (
	"slices"
	"strings"
	"testing"
)

// designed are methods that the catalogue names as if they stood in the public
// services, which they do not: ours are beside them.
var designed = map[string]string{
	"bindery.resourcemanager.v1.DeletionService/CancelCloudDeletion":    "resourcemanager.v1.CloudService/CancelDelete",
	"bindery.resourcemanager.v1.DeletionService/CancelFolderDeletion":   "resourcemanager.v1.FolderService/CancelDelete",
	"bindery.resourcemanager.v1.OrganizationService/CreateOrganization": "organizationmanager.v1.OrganizationService/Create",
	"bindery.resourcemanager.v1.OrganizationService/DeleteOrganization": "organizationmanager.v1.OrganizationService/Delete",
}

// open are uses that the catalogue lets nobody in without a permission for, or
// does not know, and whose fixtures let more people in, with the reason.
var open = map[string]string{
	"yandex.cloud.organizationmanager.v1.OrganizationService/List":                 "without a parent it shows what the caller may get",
	"yandex.cloud.resourcemanager.v1.CloudService/List, of everything":             "without a parent it shows what the caller may get",
	"yandex.cloud.endpoint.ApiEndpointService/Get":                                 "clients look addresses up before they have a token",
	"yandex.cloud.endpoint.ApiEndpointService/List":                                "clients look addresses up before they have a token",
	"yandex.cloud.priv.accessservice.v2.AccessService/Authenticate, a token":       "the token in the request proves its subject",
	"yandex.cloud.priv.accessservice.v2.AccessService/Authenticate, nothing":       "it is refused as a bad request",
	"yandex.cloud.priv.accessservice.v2.AccessService/Authorize, of a token":       "the token in the request proves its subject",
	"yandex.cloud.priv.accessservice.v2.AccessService/Authorize, of a subject":     "services of others ask about their callers",
	"yandex.cloud.priv.accessservice.v2.AccessService/BulkAuthorize, of a token":   "the token in the request proves its subject",
	"yandex.cloud.priv.accessservice.v2.AccessService/BulkAuthorize, of a subject": "services of others ask about their callers",
}

// unbuilt are permissions that guard a served method for resources which nothing
// serves yet.
var unbuilt = map[string]string{"iam.operations.get": "identity has no operations yet"}

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
		if r.permission == "" || !strings.HasPrefix(r.method, "yandex.cloud.") || strings.Contains(r.method, ".operation.") {
			continue
		}
		if method := strings.TrimPrefix(r.method, "yandex.cloud."); !slices.Contains(c.permissions[r.permission].Guards, method) {
			t.Errorf("%s: the catalogue does not guard it by %s", r.name(), r.permission)
		}
	}
}
