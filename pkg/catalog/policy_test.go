package catalog

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAP5_WhatTheTemplatesDeny is the rule written down a second time: every
// template of AP-5 but those of the backup service, whose permissions nobody
// catalogued, and ours.
func TestAP5_WhatTheTemplatesDeny(t *testing.T) {
	want := map[string][]string{
		"iam.denyServiceAccountCreation": {"iam.serviceAccounts.create"},
		"iam.denyServiceAccountCredentialsCreation": {
			"iam.accessKeys.create", "iam.apiKeys.create", "iam.authorizedKeys.create", "iam.ephemeralAccessKeys.create", "iam.federatedCredentials.create",
		},
		"iam.denyServiceAccountAccessKeysCreation":           {"iam.accessKeys.create", "iam.ephemeralAccessKeys.create"},
		"iam.denyServiceAccountApiKeysCreation":              {"iam.apiKeys.create"},
		"iam.denyServiceAccountAuthorizedKeysCreation":       {"iam.authorizedKeys.create"},
		"iam.denyServiceAccountFederatedCredentialsCreation": {"iam.federatedCredentials.create"},
		"iam.denyServiceAccountImpersonation":                {"iam.serviceAccounts.createToken"},
		"organization.denyMemberInvitation":                  {"organization-manager.invitations.create"},
		"organization.denyUserListing":                       {"organization-manager.users.list"},
		"resourceManager.denyCloudRemoval":                   {"resource-manager.clouds.delete"},
		"resourceManager.denyFolderRemoval":                  {"resource-manager.clouds.delete", "resource-manager.folders.delete"}, // AP-8
		DenyGrantAboveOwn:                                    nil,
	}
	got := map[string][]string{}
	for _, p := range mustLoad(t).Policies() {
		got[p.ID] = slices.Sorted(slices.Values(p.Denies))
		if len(p.Parameters) > 0 {
			t.Errorf("%s has the parameters %v, and AP-9 is out of scope", p.ID, p.Parameters)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("what is denied (-want +got):\n%s", d)
	}
	permissions := mustLoad(t).Permissions()
	if slices.ContainsFunc(permissions, func(p Permission) bool { return len(p.ID) > 7 && p.ID[:7] == "backup." }) {
		t.Error("the backup service has permissions by now: its two templates of AP-5 can be made")
	}
}

// TestAP6_AP7_WhereTemplatesAreBound: those of the organization only there; the
// others on all three levels, denyCloudRemoval on a folder included, where it does
// nothing since a cloud's path holds no folder.
func TestAP6_AP7_WhereTemplatesAreBound(t *testing.T) {
	const org, cloud, folder = "organization-manager.organization", "resource-manager.cloud", "resource-manager.folder"
	for _, p := range mustLoad(t).Policies() {
		want := []string{org, cloud, folder}
		if p.ID == "organization.denyMemberInvitation" || p.ID == "organization.denyUserListing" {
			want = []string{org}
		}
		if d := cmp.Diff(want, p.BindOn); d != "" {
			t.Errorf("%s may be bound on (-want +got):\n%s", p.ID, d)
		}
	}
	if p, _ := mustLoad(t).Permission("resource-manager.clouds.delete"); p.CheckedOn != cloud {
		t.Errorf("clouds.delete is checked on a %s", p.CheckedOn)
	}
}

// TestAP8_OnlyFolderRemovalReachesUp: a policy on a folder denies something on the
// cloud above it in this one case.
func TestAP8_OnlyFolderRemovalReachesUp(t *testing.T) {
	for _, p := range mustLoad(t).Policies() {
		var want []string
		if p.ID == "resourceManager.denyFolderRemoval" {
			want = []string{"resource-manager.clouds.delete"}
		}
		if d := cmp.Diff(want, p.DeniesOnParent); d != "" {
			t.Errorf("%s denies on the parent (-want +got):\n%s", p.ID, d)
		}
	}
}

func TestPolicyLookup(t *testing.T) {
	c := mustLoad(t)
	p, ok := c.Policy("iam.denyServiceAccountCreation")
	if !ok || p.Name != "Deny the creation of service accounts" || p.Description == "" {
		t.Errorf("the template: %+v, %t", p, ok)
	}
	if _, ok := c.Policy("backup.denyActivation"); ok {
		t.Error("backup.denyActivation is a template")
	}
	if !slices.IsSortedFunc(c.Policies(), func(a, b Policy) int { return strings.Compare(a.ID, b.ID) }) {
		t.Error("the templates are not ordered by id")
	}
}
