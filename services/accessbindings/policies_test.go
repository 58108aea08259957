package accessbindings

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/catalog"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

const (
	denyAccounts     = "iam.denyServiceAccountCreation"
	denyCredentials  = "iam.denyServiceAccountCredentialsCreation"
	denyImpersonate  = "iam.denyServiceAccountImpersonation"
	denyInvitations  = "organization.denyMemberInvitation"
	denyUsers        = "organization.denyUserListing"
	keepClouds       = "resourceManager.denyCloudRemoval"
	keepFolders      = "resourceManager.denyFolderRemoval"
	createAccount    = "iam.serviceAccounts.create"
	deleteCloud      = "resource-manager.clouds.delete"
	deleteFolder     = "resource-manager.folders.delete"
	reasonPolicy     = apierr.ReasonDeniedByPolicy
	reasonNotBound   = "ACCESS_POLICY_NOT_BOUND"
	reasonBound      = "ACCESS_POLICY_ALREADY_BOUND"
	reasonAbove      = "GRANT_ABOVE_OWN"
	templateField    = "access_policy_binding.access_policy_template_id"
	managingPolicies = ".updateAccessPolicyBindings"
)

func (w *world) policies() accessv1.AccessPolicyServiceClient {
	return accessv1.NewAccessPolicyServiceClient(w.Conn)
}

func (w *world) as(who Subject) context.Context { return w.Subject(who.Type, who.ID) }

func (w *world) bindPolicy(as Subject, r Ref, template string) (*operationpb.Operation, error) {
	return w.policies().BindAccessPolicy(w.as(as), &accessv1.BindAccessPolicyRequest{
		Resource: r.proto(), AccessPolicyBinding: &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: template},
	})
}

func (w *world) unbindPolicy(as Subject, r Ref, template string) (*operationpb.Operation, error) {
	return w.policies().UnbindAccessPolicy(w.as(as), &accessv1.UnbindAccessPolicyRequest{Resource: r.proto(), AccessPolicyTemplateId: template})
}

func (w *world) setParameters(as Subject, r Ref, template string, parameters map[string]string) (*operationpb.Operation, error) {
	return w.policies().UpdateAccessPolicyBindingParameters(w.as(as), &accessv1.UpdateAccessPolicyBindingParametersRequest{
		Resource: r.proto(), AccessPolicyBinding: &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: template, Parameters: parameters},
	})
}

func (w *world) mustBind(as Subject, r Ref, template string) *operationpb.Operation {
	w.t.Helper()
	op, err := w.bindPolicy(as, r, template)
	w.must(err)
	return op
}

func (w *world) mustUnbind(as Subject, r Ref, template string) *operationpb.Operation {
	w.t.Helper()
	op, err := w.unbindPolicy(as, r, template)
	w.must(err)
	return op
}

// bound lists the policies of a resource in pages of a size.
func (w *world) bound(as Subject, r Ref, size int64) []string {
	w.t.Helper()
	var all []string
	req := &accessv1.ListAccessPolicyBindingsRequest{Resource: r.proto(), PageSize: size}
	for {
		resp, err := w.policies().ListAccessPolicyBindings(w.as(as), req)
		w.must(err)
		for _, b := range resp.GetAccessPolicyBindings() {
			all = append(all, b.GetAccessPolicyTemplateId())
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
		if len(resp.GetAccessPolicyBindings()) == 0 || len(req.GetPageToken()) > 100 {
			w.t.Fatalf("a page of %d with the token %q", len(resp.GetAccessPolicyBindings()), req.GetPageToken())
		}
	}
}

// deniedBy checks that a policy denies, and that the refusal names it.
func (w *world) deniedBy(who Subject, permission string, r Ref, template string, on Ref) {
	w.t.Helper()
	_, err := w.authorize(who, permission, r)
	refused(w.t, err, codes.PermissionDenied, reasonPolicy)
	var meta map[string]string
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			meta = info.GetMetadata()
		}
	}
	if meta["decisionId"] == "" {
		w.t.Errorf("the refusal cannot be explained: %v", meta)
	}
	delete(meta, "decisionId") // another one each time
	want := map[string]string{
		"permission": permission, "resourceType": r.Type, "resourceId": r.ID,
		"accessPolicyTemplateId": template, "accessPolicyResourceType": on.Type, "accessPolicyResourceId": on.ID,
	}
	if diff := cmp.Diff(want, meta); diff != "" {
		w.t.Errorf("the refusal says (-want +got):\n%s", diff)
	}
}

// fieldOf is the field that a refusal names.
func fieldOf(err error) string {
	if e, ok := apierr.As(apierr.FromRPC(err)); ok && len(e.Fields) == 1 {
		return e.Fields[0].Name
	}
	return ""
}

func TestAP1_RoleFirstThenPolicy(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(olga, folder1, add(editor, vera))
		w.mustBind(olga, org1, denyAccounts)
		w.deniedBy(vera, createAccount, folder1, denyAccounts, org1)
		_, err := w.authorize(nick, createAccount, folder1) // without a role nothing else is looked at
		refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		if !w.allowed(vera, "resource-manager.folders.update", folder1) {
			t.Error("another permission is denied as well")
		}
		w.mustUnbind(olga, org1, denyAccounts)
		if !w.allowed(vera, createAccount, folder1) {
			t.Error("the policy denies after it was acknowledged as gone")
		}
		w.sameAsStore()
	})
}

func TestAP2_InheritedDownSeveralPerResource(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.register(Ref{typeCloud, "cloud2"}, org1, []Pair{{cloudOwner, carl}})
		w.register(Ref{typeFolder, "folder3"}, Ref{typeCloud, "cloud2"}, nil)
		for _, on := range []Ref{org1, cloud1, folder1} {
			w.mustBind(olga, on, denyAccounts)
			w.mustBind(olga, on, denyImpersonate)
			w.deniedBy(olga, createAccount, folder1, denyAccounts, on)
			w.deniedBy(olga, "iam.serviceAccounts.createToken", folder1, denyImpersonate, on)
			if got := w.allowed(olga, createAccount, Ref{typeFolder, "folder3"}); got != (on != org1) {
				t.Errorf("bound on %s %s: another cloud's folder allows %v", on.Type, on.ID, got)
			}
			if got := w.allowed(olga, createAccount, folder2); got != (on == folder1) {
				t.Errorf("bound on %s %s: another folder allows %v", on.Type, on.ID, got)
			}
			w.mustUnbind(olga, on, denyAccounts)
			w.mustUnbind(olga, on, denyImpersonate)
		}
		w.sameAsStore()
	})
}

func TestAP3_AtMostOneBindingPerTemplate(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustBind(olga, cloud1, denyAccounts)
		_, err := w.bindPolicy(olga, cloud1, denyAccounts)
		refused(t, err, codes.AlreadyExists, reasonBound)
		w.mustBind(olga, org1, denyAccounts) // another resource

		_, err = w.unbindPolicy(olga, folder1, denyAccounts) // inherited, not bound there
		refused(t, err, codes.NotFound, reasonNotBound)
		_, err = w.setParameters(olga, folder1, denyAccounts, nil)
		refused(t, err, codes.NotFound, reasonNotBound)
		_, err = w.unbindPolicy(olga, cloud1, "no.suchTemplate")
		refused(t, err, codes.NotFound, reasonNotBound)

		w.mustUnbind(olga, cloud1, denyAccounts)
		_, err = w.unbindPolicy(olga, cloud1, denyAccounts)
		refused(t, err, codes.NotFound, reasonNotBound)
		w.deniedBy(olga, createAccount, folder1, denyAccounts, org1) // by what remains
		if got := w.bound(olga, cloud1, 0); len(got) != 0 {
			t.Errorf("bound on the cloud: %v", got)
		}
		w.sameAsStore()
	})
}

// TestAP4_WhoManagesPolicies: resource-manager.admin and admin on cloud and folder,
// organization-manager.admin and admin on the organization, and the owners.
func TestAP4_WhoManagesPolicies(t *testing.T) {
	managers := map[Ref][]string{
		org1:    {admin, "organization-manager.admin", orgOwner},
		cloud1:  {admin, "resource-manager.admin", cloudOwner},
		folder1: {admin, "resource-manager.admin"},
	}
	forEach(t, func(t *testing.T, w *world) {
		for on, may := range managers {
			for n, role := range []string{admin, editor, viewer, "auditor", "resource-manager.admin", "resource-manager.editor", "organization-manager.admin", "organization-manager.editor", "iam.admin", cloudOwner, orgOwner} {
				if !testCatalog(t).Assignable(role, on.Type) {
					continue
				}
				who := user(fmt.Sprintf("m%d-%s", n, on.ID))
				w.know(who)
				w.mustUpdate(olga, on, add(role, who))
				_, err := w.bindPolicy(who, on, keepClouds)
				if want := slices.Contains(may, role); (err == nil) != want {
					t.Errorf("%s binds on a %s: %v", role, on.Type, err)
				}
				if err != nil {
					refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
					_, err := w.unbindPolicy(who, on, keepClouds)
					refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
					_, err = w.setParameters(who, on, keepClouds, nil)
					refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
					continue
				}
				_, err = w.setParameters(who, on, keepClouds, nil)
				w.must(err)
				w.mustUnbind(who, on, keepClouds)
			}
		}
		account := Ref{typeServiceAccount, "robot"}
		w.register(account, folder1, nil)
		_, err := w.bindPolicy(olga, account, keepClouds)
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("a policy on a service account: %v, want INVALID_ARGUMENT", err)
		}
	})
}

// TestAP5_WhatEachTemplateDenies binds every template on the organization and asks
// its owner about all that it denies, and about its neighbours.
func TestAP5_WhatEachTemplateDenies(t *testing.T) {
	account, key := Ref{typeServiceAccount, "robot"}, []string{
		"iam.accessKeys.create", "iam.ephemeralAccessKeys.create", "iam.apiKeys.create", "iam.authorizedKeys.create", "iam.federatedCredentials.create",
	}
	denied := map[string]map[string]Ref{
		denyAccounts:    {createAccount: folder1},
		denyCredentials: {key[0]: account, key[1]: account, key[2]: account, key[3]: account, key[4]: account},
		"iam.denyServiceAccountAccessKeysCreation":           {key[0]: account, key[1]: account},
		"iam.denyServiceAccountApiKeysCreation":              {key[2]: account},
		"iam.denyServiceAccountAuthorizedKeysCreation":       {key[3]: account},
		"iam.denyServiceAccountFederatedCredentialsCreation": {key[4]: account},
		denyImpersonate:           {"iam.serviceAccounts.createToken": account},
		denyInvitations:           {"organization-manager.invitations.create": org1},
		denyUsers:                 {"organization-manager.users.list": org1},
		keepClouds:                {deleteCloud: cloud1},
		keepFolders:               {deleteFolder: folder1, deleteCloud: cloud1},
		catalog.DenyGrantAboveOwn: {},
	}
	forEach(t, func(t *testing.T, w *world) {
		w.register(account, folder1, nil)
		asked := map[string]Ref{"resource-manager.clouds.update": cloud1, "iam.serviceAccounts.use": account}
		for _, of := range denied {
			maps.Copy(asked, of)
		}
		for template, of := range denied {
			w.mustBind(olga, org1, template)
			for permission, r := range asked {
				if _, no := of[permission]; no {
					w.deniedBy(olga, permission, r, template, org1)
				} else if !w.allowed(olga, permission, r) {
					t.Errorf("%s denies %s on a %s", template, permission, r.Type)
				}
			}
			w.mustUnbind(olga, org1, template)
		}
		for permission, r := range asked {
			if !w.allowed(olga, permission, r) {
				t.Errorf("%s on a %s stays denied", permission, r.Type)
			}
		}
	})
}

func TestAP6_TemplatesOfTheOrganization(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		for _, template := range []string{denyInvitations, denyUsers} {
			for _, on := range []Ref{cloud1, folder1} {
				_, err := w.bindPolicy(olga, on, template)
				refused(t, err, codes.InvalidArgument, "ACCESS_POLICY_DOES_NOT_FIT")
				if got := fieldOf(err); got != templateField {
					t.Errorf("the refusal names %q", got)
				}
			}
			w.mustBind(olga, org1, template)
		}
		w.deniedBy(olga, "organization-manager.users.list", org1, denyUsers, org1)
	})
}

func TestAP7_CloudRemovalOnAFolderDoesNothing(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustBind(olga, folder1, keepClouds)
		for permission, r := range map[string]Ref{deleteCloud: cloud1, deleteFolder: folder1} {
			if !w.allowed(olga, permission, r) {
				t.Errorf("%s is denied", permission)
			}
		}
	})
}

// TestAP8_FolderRemovalProtectsTheCloud: on the organization, the cloud, or any
// folder of the cloud.
func TestAP8_FolderRemovalProtectsTheCloud(t *testing.T) {
	cloud2 := Ref{typeCloud, "cloud2"}
	forEach(t, func(t *testing.T, w *world) {
		w.register(cloud2, org1, []Pair{{cloudOwner, carl}})
		for _, on := range []Ref{org1, cloud1, folder1, folder2} {
			w.mustBind(olga, on, keepFolders)
			w.deniedBy(carl, deleteCloud, cloud1, keepFolders, on)
			if got := w.allowed(carl, deleteCloud, cloud2); got != (on != org1) {
				t.Errorf("bound on %s %s: another cloud allows %v", on.Type, on.ID, got)
			}
			if got := w.allowed(carl, deleteFolder, folder2); got != (on == folder1) {
				t.Errorf("bound on %s %s: deleting folder2 is allowed: %v", on.Type, on.ID, got)
			}
			w.mustUnbind(olga, on, keepFolders)
		}
		w.mustBind(olga, folder1, keepFolders)
		w.mustBind(olga, folder2, keepFolders)
		w.mustUnbind(olga, folder1, keepFolders)
		w.deniedBy(carl, deleteCloud, cloud1, keepFolders, folder2)

		// The policy goes with the folder, and counts again where a cloud moves.
		_, err := w.resources.MoveResource(t.Context(), &accessv1.MoveResourceRequest{Resource: cloud1.proto(), Parent: org2.proto()})
		w.must(err)
		w.deniedBy(carl, deleteCloud, cloud1, keepFolders, folder2)
		_, err = w.resources.RemoveResource(t.Context(), &accessv1.RemoveResourceRequest{Resource: folder2.proto()})
		w.must(err)
		if !w.allowed(carl, deleteCloud, cloud1) {
			t.Error("a folder that is gone protects its cloud")
		}
		var left int
		w.must(w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM access_policies`).Scan(&left))
		if left != 0 {
			t.Errorf("%d policies are stored, the last one went with its folder", left)
		}
		w.sameAsStore()
	})
}

// TestAP9_ParametersThatNoTemplateHas: none of the templates has parameters; one
// that is sent is refused, since it would do nothing.
func TestAP9_ParametersThatNoTemplateHas(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		given := map[string]string{"allowed_src_ips": "10.0.0.0/8"}
		_, err := w.policies().BindAccessPolicy(w.as(olga), &accessv1.BindAccessPolicyRequest{
			Resource: org1.proto(), AccessPolicyBinding: &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: denyAccounts, Parameters: given},
		})
		refused(t, err, codes.InvalidArgument, "ACCESS_POLICY_PARAMETER_UNKNOWN")
		if got := fieldOf(err); got != `access_policy_binding.parameters["allowed_src_ips"]` {
			t.Errorf("the refusal names %q", got)
		}
		w.mustBind(olga, org1, denyAccounts)
		_, err = w.setParameters(olga, org1, denyAccounts, given)
		refused(t, err, codes.InvalidArgument, "ACCESS_POLICY_PARAMETER_UNKNOWN")
		op, err := w.setParameters(olga, org1, denyAccounts, nil)
		w.must(err)
		response, meta := new(accesspb.UpdateAccessPolicyBindingParametersResponse), new(accesspb.UpdateAccessPolicyBindingParametersMetadata)
		w.must(op.GetResponse().UnmarshalTo(response))
		w.must(op.GetMetadata().UnmarshalTo(meta))
		_, err = w.bindPolicy(olga, org1, "serverless.functions.restrictNetworkAccess")
		refused(t, err, codes.NotFound, ReasonTemplateNotFound)
	})
}

// TestAP10_PoliciesBindOwners: owners and the platform's own grants, and yet nobody
// is locked out, since no template can deny managing policies.
func TestAP10_PoliciesBindOwners(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		for _, p := range testCatalog(t).Policies() {
			w.mustBind(olga, org1, p.ID)
			if slices.Contains(p.BindOn, typeFolder) {
				w.mustBind(olga, cloud1, p.ID)
				w.mustBind(olga, folder1, p.ID)
			}
		}
		w.deniedBy(olga, deleteCloud, cloud1, keepClouds, cloud1)
		w.deniedBy(carl, deleteCloud, cloud1, keepClouds, cloud1)
		for _, r := range []Ref{org1, cloud1, folder1} {
			permission, _ := testCatalog(t).PermissionFor(r.Type, managingPolicies[1:])
			if !w.allowed(olga, permission, r) {
				t.Errorf("nobody can unbind on a %s", r.Type)
			}
			for _, template := range w.bound(olga, r, 2) {
				w.mustUnbind(olga, r, template)
			}
		}
		if !w.allowed(carl, deleteCloud, cloud1) {
			t.Error("the cloud stays protected")
		}
	})
}

// Whoever loses the right to manage policies loses it for the call under way, too.
func TestAP4_IsAskedOnTheLockedState(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		in := &changePolicy{
			verb: bindPolicy, resource: cloud1, binding: PolicyBinding{Template: denyAccounts},
			permission: "resource-manager.clouds" + managingPolicies, caller: w.query(vera, "", cloud1), record: new(audit.Record),
		}
		_, err := w.service.committer.submit(t.Context(), in)
		refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		in.resource = Ref{typeCloud, "none"}
		_, err = w.service.committer.submit(t.Context(), in)
		refused(t, err, codes.NotFound, apierr.ReasonResourceNotFound)
	})
}
