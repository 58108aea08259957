package accessbindings

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
)

const explainAccess, whoCan, whatCan = "iam.access.explain", "iam.access.listSubjects", "iam.access.listResources"

func (w *world) explain(as Subject, req *accessv1.ExplainRequest) (*accessv1.ExplainResponse, error) {
	return w.questions.Explain(w.Subject(as.Type, as.ID), req)
}

func why(permission string, on Ref, who Subject) *accessv1.ExplainRequest {
	req := &accessv1.ExplainRequest{Permission: permission, Resource: on.proto()}
	if who != (Subject{}) {
		req.Subject = who.proto()
	}
	return req
}

// whoCan lists all subjects by pages of a size.
func (w *world) whoCan(as Subject, req *accessv1.ListSubjectsRequest) (names []string, revision int64) {
	w.t.Helper()
	for {
		resp, err := w.questions.ListSubjects(w.Subject(as.Type, as.ID), req)
		w.must(err)
		if revision != 0 && resp.GetRevision() != revision {
			w.t.Fatalf("a page of revision %d after one of %d", resp.GetRevision(), revision)
		}
		revision = resp.GetRevision()
		for _, s := range resp.GetSubjects() {
			names = append(names, nameOf(s.GetSubject()))
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return names, revision
		}
		if len(resp.GetSubjects()) == 0 {
			w.t.Fatal("an empty page with a token")
		}
	}
}

// whatCan lists all resources by pages of a size.
func (w *world) whatCan(as Subject, req *accessv1.ListResourcesRequest) (names []string) {
	w.t.Helper()
	revision := int64(0)
	for {
		resp, err := w.questions.ListResources(w.Subject(as.Type, as.ID), req)
		w.must(err)
		if revision != 0 && resp.GetRevision() != revision {
			w.t.Fatalf("a page of revision %d after one of %d", resp.GetRevision(), revision)
		}
		revision = resp.GetRevision()
		for _, r := range resp.GetResources() {
			names = append(names, r.GetId())
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return names
		}
	}
}

func nameOf(s *accessv1.Subject) string { return s.GetType() + ":" + s.GetId() }

func sameNames(t testing.TB, what string, want, got []string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestEX1_WhichOfTheseDoIHold(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(adam, folder1, add(viewer, vera))
		test := func(as Subject, on Ref, permissions ...string) ([]string, error) {
			resp, err := w.questions.TestPermissions(w.Subject(as.Type, as.ID), &accessv1.TestPermissionsRequest{Resource: on.proto(), Permissions: permissions})
			return resp.GetPermissions(), err
		}
		held, err := test(vera, folder1, del, getFolder, getCloud, getFolder)
		w.must(err)
		sameNames(t, "of a viewer of the folder", []string{getFolder, getCloud}, held)
		held, err = test(vera, folder2, getFolder)
		w.must(err)
		sameNames(t, "beside it", nil, held)
		_, err = test(vera, Ref{folder1.Type, "none"}, getFolder)
		refused(t, err, codes.NotFound, "RESOURCE_NOT_FOUND")
		_, err = test(vera, folder1, "compute.disks.fly")
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
		_, err = test(vera, folder1)
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
	})
}

// TestEX2_WhyAndWhoGranted: the binding, its resource, the path of groups and of roles,
// who granted it and when.
func TestEX2_WhyAndWhoGranted(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		inner, outer := w.group(org1, "inner"), w.group(org1, "outer")
		w.join(inner, vera)
		w.must(w.change(outer, []Subject{memberOf(inner)}, nil))
		before := time.Now()
		w.mustUpdate(adam, cloud1, add(editor, group(outer.ID)))
		got, err := w.explain(carl, why(getFolder, folder1, vera))
		w.must(err)
		if !got.GetAllowed() || got.GetReason() != accessv1.ExplainResponse_GRANTED || !got.GetAllowedNow() || len(got.GetGrants()) != 1 || got.GetAdvice() != nil {
			t.Fatalf("explained as %v", got)
		}
		g := got.GetGrants()[0]
		if g.GetResource().GetId() != cloud1.ID || g.GetRoleId() != editor || nameOf(g.GetSubject()) != "group:"+outer.ID || nameOf(g.GetGrantedBy()) != "userAccount:adam" {
			t.Errorf("granted by %v", g)
		}
		if at := g.GetGrantedAt().AsTime(); at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) || g.GetGrantedRevision() == 0 {
			t.Errorf("granted at %v, revision %d", at, g.GetGrantedRevision())
		}
		var by []string
		for _, s := range g.GetGroupPath() {
			by = append(by, nameOf(s))
		}
		sameNames(t, "group path", []string{"userAccount:vera", "group:" + inner.ID, "group:" + outer.ID}, by)
		sameNames(t, "role path", []string{"editor", "viewer", "auditor"}, g.GetRolePath())
		var path []string
		for _, r := range got.GetPath() {
			path = append(path, r.GetId())
		}
		sameNames(t, "path", []string{"folder1", "cloud1", "org1"}, path)

		// An extension is a grant of its own; what is swept when a source ends is none.
		w.mustUpdate(olga, cloud1, until(add(viewer, nick), time.Now().Add(time.Hour)))
		w.mustUpdate(carl, cloud1, until(add(viewer, nick), time.Now().Add(2*time.Hour)))
		if got, err = w.explain(carl, why(getFolder, folder1, nick)); err != nil || nameOf(got.GetGrants()[0].GetGrantedBy()) != "userAccount:carl" {
			t.Errorf("after an extension: %v, %v", got, err)
		}
	})
}

// TestEX2_OwnRefusalsNeedNoPermission: all else needs iam.access.explain.
func TestEX2_OwnRefusalsNeedNoPermission(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		bob := user("bob")
		w.know(bob)
		w.mustUpdate(adam, folder1, add("auditor", bob), add(viewer, vera))
		for _, row := range []struct {
			name    string
			as      Subject
			req     *accessv1.ExplainRequest
			code    codes.Code
			allowed bool
		}{
			{"one's own refusal", nick, why(getFolder, folder1, Subject{}), codes.OK, false},
			{"one's own refusal, by one's name", nick, why(getFolder, folder1, nick), codes.OK, false},
			{"why one may oneself, of a viewer", vera, why(del, folder1, Subject{}), codes.OK, false},
			{"why one may oneself, of an auditor", bob, why(getFolder, folder1, Subject{}), codes.OK, true},
			{"another's refusal, of a stranger", nick, why(getFolder, folder1, user("ghost")), codes.PermissionDenied, false},
			{"why another may, of a stranger", nick, why(getFolder, folder1, vera), codes.PermissionDenied, false},
			{"why another may, of an auditor", bob, why(getFolder, folder1, vera), codes.OK, true},
			{"why another may elsewhere, of an auditor", bob, why(getFolder, folder2, carl), codes.PermissionDenied, false},
			{"of somebody of one's id and another type", nick, why(getFolder, folder1, robot(nick.ID)), codes.PermissionDenied, false},
			{"a resource that is not there", nick, why(getFolder, Ref{folder1.Type, "none"}, Subject{}), codes.NotFound, false},
			{"a permission that is not there", nick, why("no.such.one", folder1, Subject{}), codes.InvalidArgument, false},
			{"a group, which does not act", carl, why(getFolder, folder1, group("g")), codes.InvalidArgument, false},
			{"nothing", nick, &accessv1.ExplainRequest{}, codes.InvalidArgument, false},
		} {
			got, err := w.explain(row.as, row.req)
			if status.Code(err) != row.code || err == nil && got.GetAllowed() != row.allowed {
				t.Errorf("%s: %v, %v, want %v and allowed %t", row.name, got, err, row.code, row.allowed)
			}
			if row.code == codes.PermissionDenied && infoOf(err)["permission"] != explainAccess {
				t.Errorf("%s: the refusal names %q", row.name, infoOf(err)["permission"])
			}
		}
		w.strangersAreToldLittle(t)
		// A viewer is an auditor by PR-1; somebody whose role explains nothing may not see why.
		w.mustUpdate(adam, folder1, add("iam.serviceAccounts.user", nick))
		_, err := w.explain(nick, why("iam.serviceAccounts.get", folder1, Subject{}))
		refused(t, err, codes.PermissionDenied, "PERMISSION_DENIED")
	})
}

// strangersAreToldLittle: who is refused is told of the resource that they named, of what
// they may see above it, and what the denial itself told.
func (w *world) strangersAreToldLittle(t *testing.T) {
	t.Helper()
	fay := user("fay")
	w.know(fay)
	ids := func(e *accessv1.ExplainResponse) (all []string) {
		for _, r := range e.GetPath() {
			all = append(all, r.GetId())
		}
		return all
	}
	key := Ref{"kms.key", "key1"}
	_, err := w.unit(key.Type).RegisterResource(t.Context(), &accessv1.RegisterResourceRequest{Resource: key.proto(), Parent: folder1.proto()})
	w.must(err)
	got, err := w.explain(fay, why("kms.keys.get", key, Subject{}))
	w.must(err)
	sameNames(t, "the path, for a stranger", []string{key.ID}, ids(got))
	if a := got.GetAdvice(); !got.GetWithheld() || a.GetResource().GetId() == folder1.ID || len(a.GetRoleIds()) == 0 {
		t.Errorf("a stranger is told %v", got)
	}
	// Two policies deny what a role on the folder grants: one on the folder, one above it.
	w.mustUpdate(carl, folder1, add("iam.serviceAccounts.admin", fay))
	for _, on := range []Ref{folder1, cloud1} {
		_, err = w.bindPolicy(carl, on, denyAccounts)
		w.must(err)
	}
	got, err = w.explain(fay, why(createAccount, folder1, Subject{}))
	w.must(err)
	sameNames(t, "the path, for who holds a role on the folder", []string{folder1.ID}, ids(got))
	if d := got.GetDenials(); len(d) != 1 || d[0].GetResource().GetId() != folder1.ID || len(got.GetGrants()) != 0 || !got.GetWithheld() {
		t.Errorf("who holds a role on the folder is told %v", got)
	}
	_, err = w.unbindPolicy(carl, folder1, denyAccounts)
	w.must(err)
	_, err = w.authorize(fay, createAccount, folder1)
	told := infoOf(err)
	got, err = w.explain(fay, why(createAccount, folder1, Subject{}))
	w.must(err)
	if d := got.GetDenials(); len(d) != 1 || d[0].GetResource().GetId() != cloud1.ID || told["accessPolicyResourceId"] != cloud1.ID || d[0].GetBoundBy() != nil || d[0].GetBoundAt() != nil {
		t.Errorf("of a policy above, the denial tells %v, and the explanation %v", told, got)
	}
	// Members of the organization see whom to ask; holders of the permission see all.
	w.must(w.members(org1, []Subject{fay}, nil))
	got, err = w.explain(fay, why(createAccount, folder1, Subject{}))
	w.must(err)
	sameNames(t, "the path, for a member", []string{folder1.ID, cloud1.ID, org1.ID}, ids(got))
	if d := got.GetDenials(); len(d) != 1 || nameOf(d[0].GetBoundBy()) != nameOf(carl.proto()) || len(got.GetGrants()) != 0 {
		t.Errorf("a member is told %v", got)
	}
	got, err = w.explain(carl, why(createAccount, folder1, fay))
	w.must(err)
	if len(got.GetGrants()) != 1 || len(got.GetDenials()) != 1 || len(got.GetPath()) != 3 || got.GetWithheld() {
		t.Errorf("an owner is told %v", got)
	}
	_, err = w.unbindPolicy(carl, cloud1, denyAccounts)
	w.must(err)
}

// TestEX3_WhatWouldHelp: the smallest roles at the lowest level, and who may give them,
// told to members of the organization only.
func TestEX3_WhatWouldHelp(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		got, err := w.explain(vera, why(getFolder, folder1, Subject{}))
		w.must(err)
		a := got.GetAdvice()
		if got.GetReason() != accessv1.ExplainResponse_NO_GRANT || a.GetResource().GetId() != folder1.ID || len(a.GetRoleIds()) == 0 {
			t.Fatalf("explained as %v", got)
		}
		if len(a.GetGrantors()) != 0 || !a.GetGrantorsWithheld() {
			t.Errorf("a stranger is told of %v", a.GetGrantors())
		}
		c := testCatalog(t)
		for i, id := range a.GetRoleIds() {
			r, _ := c.Role(id)
			if !slices.Contains(r.Permissions, getFolder) || !c.Assignable(id, folder1.Type) {
				t.Errorf("%s does not help on a folder", id)
			}
			for k, other := range a.GetRoleIds() {
				if o, _ := c.Role(other); i != k && holdsAll(r, o) {
					t.Errorf("%s holds all of %s", id, other)
				}
			}
		}
		for _, r := range c.Roles() { // none is smaller, or left out
			if !slices.Contains(r.Permissions, getFolder) || !c.Assignable(r.ID, folder1.Type) {
				continue
			}
			if !slices.ContainsFunc(a.GetRoleIds(), func(id string) bool { small, _ := c.Role(id); return holdsAll(r, small) }) {
				t.Errorf("%s is no wider than any of %v, and not among them", r.ID, a.GetRoleIds())
			}
		}
		w.must(w.members(org1, []Subject{vera}, nil))
		got, err = w.explain(vera, why(getFolder, folder1, Subject{}))
		w.must(err)
		var grantors []string
		for _, s := range got.GetAdvice().GetGrantors() {
			grantors = append(grantors, nameOf(s))
		}
		sameNames(t, "grantors", []string{"userAccount:adam", "userAccount:carl", "userAccount:olga"}, grantors)
		w.mustUpdate(adam, folder1, add(got.GetAdvice().GetRoleIds()[0], vera))
		if !w.allowed(vera, getFolder, folder1) {
			t.Error("the advice does not help")
		}
		// What only owners hold is given on the cloud, by owners.
		got, err = w.explain(vera, why(deleteCloud, cloud1, Subject{}))
		w.must(err)
		sameNames(t, "roles of an owner", []string{cloudOwner}, got.GetAdvice().GetRoleIds())
		grantors = nil
		for _, s := range got.GetAdvice().GetGrantors() {
			grantors = append(grantors, nameOf(s))
		}
		sameNames(t, "grantors of an owner", []string{"userAccount:carl", "userAccount:olga"}, grantors)
		// SU-9: a service account of another organization cannot be helped.
		w.register(Ref{"resource-manager.cloud", "cloud2"}, org2, []Pair{{cloudOwner, olga}})
		w.register(Ref{folder1.Type, "folder9"}, Ref{"resource-manager.cloud", "cloud2"}, nil)
		w.register(Ref{typeServiceAccount, "far"}, Ref{folder1.Type, "folder9"}, nil)
		w.know(robot("far"))
		got, err = w.explain(robot("far"), why(getFolder, folder1, Subject{}))
		w.must(err)
		if got.GetAdvice() != nil {
			t.Errorf("advice to a stranger's account: %v", got.GetAdvice())
		}
		// No role helps against a policy.
		w.mustUpdate(carl, cloud1, add(cloudOwner, vera))
		_, err = w.policies().BindAccessPolicy(w.User(carl.ID), &accessv1.BindAccessPolicyRequest{Resource: cloud1.proto(),
			AccessPolicyBinding: &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: keepClouds}})
		w.must(err)
		got, err = w.explain(vera, why(deleteCloud, cloud1, Subject{}))
		w.must(err)
		if d := got.GetDenials(); got.GetReason() != accessv1.ExplainResponse_DENIED_BY_POLICY || got.GetAdvice() != nil || len(d) != 1 ||
			d[0].GetAccessPolicyTemplateId() != keepClouds || nameOf(d[0].GetBoundBy()) != "userAccount:carl" || d[0].GetBoundAt() == nil {
			t.Errorf("a policy: %v", got)
		}
	})
}

func TestEX4_WhoCan(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		staff := w.group(org1, "staff")
		w.join(staff, vera)
		w.mustUpdate(adam, folder1, add(viewer, group(staff.ID)))
		req := &accessv1.ListSubjectsRequest{Resource: folder1.proto(), Permission: getFolder, PageSize: 2}
		got, _ := w.whoCan(carl, req)
		sameNames(t, "who can get the folder", []string{"userAccount:adam", "userAccount:carl", "userAccount:olga", "userAccount:vera"}, got)
		req.SubjectType = rules.ServiceAccount
		got, _ = w.whoCan(carl, req)
		sameNames(t, "service accounts that can", nil, got)
		_, err := w.questions.ListSubjects(w.User(vera.ID), &accessv1.ListSubjectsRequest{Resource: folder2.proto(), Permission: getFolder})
		refused(t, err, codes.PermissionDenied, "PERMISSION_DENIED")
		if m := infoOf(err); m["permission"] != whoCan || m["decisionId"] == "" {
			t.Errorf("the refusal carries %v", m)
		}
		_, err = w.questions.ListSubjects(w.User(carl.ID), &accessv1.ListSubjectsRequest{Resource: folder1.proto(), Permission: "no.such.one"})
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
	})
}

// TestEX4_PagesAreOfOneRevision: changes in between do not show, whether the list is
// kept or made of the history; tokens are of their list alone.
func TestEX4_PagesAreOfOneRevision(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		var want []string
		for i := range 7 {
			who := user(fmt.Sprintf("u%d", i))
			w.know(who)
			w.mustUpdate(adam, folder1, add(viewer, who))
			want = append(want, nameOf(who.proto()))
		}
		want = append(want, "userAccount:adam", "userAccount:carl", "userAccount:olga")
		slices.Sort(want)
		for _, forgotten := range []bool{false, true} {
			req := &accessv1.ListSubjectsRequest{Resource: folder1.proto(), Permission: getFolder, PageSize: 3}
			first, err := w.questions.ListSubjects(w.User(carl.ID), req)
			w.must(err)
			var got []string
			for _, s := range first.GetSubjects() {
				got = append(got, nameOf(s.GetSubject()))
			}
			w.mustUpdate(adam, folder1, remove(viewer, user("u5")), add(viewer, nick))
			w.mustUpdate(adam, cloud1, add(viewer, vera))
			if forgotten {
				w.service.questions.lists.kept = nil
			}
			req.PageToken = first.GetNextPageToken()
			other := &accessv1.ListSubjectsRequest{Resource: folder2.proto(), Permission: getFolder, PageToken: req.GetPageToken()}
			_, err = w.questions.ListSubjects(w.User(carl.ID), other)
			refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
			rest, revision := w.whoCan(carl, req)
			sameNames(t, fmt.Sprintf("forgotten %t", forgotten), want, append(got, rest...))
			if revision != first.GetRevision() {
				t.Errorf("pages of revisions %d and %d", first.GetRevision(), revision)
			}
			w.mustUpdate(adam, folder1, add(viewer, user("u5")), remove(viewer, nick))
			w.mustUpdate(adam, cloud1, remove(viewer, vera))
		}
	})
}

func TestEX5_WhatCan(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(adam, folder1, add(viewer, vera))
		w.register(Ref{typeServiceAccount, "acc1"}, folder1, nil)
		ask := func(as Subject, req *accessv1.ListResourcesRequest) []string { return w.whatCan(as, req) }
		sameNames(t, "one's own", []string{"acc1", "folder1"}, ask(vera, &accessv1.ListResourcesRequest{Permission: getFolder, PageSize: 1}))
		sameNames(t, "one's own of a type", []string{"folder1"}, ask(vera, &accessv1.ListResourcesRequest{Permission: getFolder, ResourceType: folder1.Type}))
		sameNames(t, "another's below the cloud", []string{"folder1"},
			ask(carl, &accessv1.ListResourcesRequest{Permission: getFolder, ResourceType: folder1.Type, Subject: vera.proto(), Within: cloud1.proto()}))
		sameNames(t, "another's below another folder", nil,
			ask(carl, &accessv1.ListResourcesRequest{Permission: getFolder, Subject: vera.proto(), Within: folder2.proto()}))
		sameNames(t, "an owner's", []string{"cloud1", "folder1", "folder2"},
			ask(carl, &accessv1.ListResourcesRequest{Permission: getFolder, Within: cloud1.proto(), PageSize: 2})[1:])
		_, err := w.questions.ListResources(w.User(carl.ID), &accessv1.ListResourcesRequest{Permission: getFolder, Subject: vera.proto()})
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
		_, err = w.questions.ListResources(w.User(vera.ID), &accessv1.ListResourcesRequest{Permission: getFolder, Subject: carl.proto(), Within: cloud1.proto()})
		refused(t, err, codes.PermissionDenied, "PERMISSION_DENIED")
		if got := infoOf(err)["permission"]; got != whatCan {
			t.Errorf("the refusal names %q", got)
		}
		// A subject of the caller's id and another type is somebody else.
		w.know(robot(vera.ID))
		_, err = w.questions.ListResources(w.User(vera.ID), &accessv1.ListResourcesRequest{Permission: getFolder, Subject: robot(vera.ID).proto(), Within: cloud1.proto()})
		refused(t, err, codes.PermissionDenied, "PERMISSION_DENIED")

		// Pages stay of one revision, of the history too.
		req := &accessv1.ListResourcesRequest{Permission: getFolder, Within: cloud1.proto(), PageSize: 2}
		first, err := w.questions.ListResources(w.User(carl.ID), req)
		w.must(err)
		w.register(Ref{folder1.Type, "folder3"}, cloud1, nil)
		w.service.questions.lists.kept = nil
		req.PageToken = first.GetNextPageToken()
		sameNames(t, "the second page", []string{"folder1", "folder2"}, ask(carl, req))
	})
}
