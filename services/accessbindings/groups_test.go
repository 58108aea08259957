package accessbindings

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// made reads what a finished operation made.
func made[M proto.Message](t testing.TB, op *operationpb.Operation, err error, into M) M {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if !op.GetDone() {
		t.Fatalf("operation %v is not done", op)
	}
	if err := op.GetResponse().UnmarshalTo(into); err != nil {
		t.Fatal(err)
	}
	return into
}

// group makes a group in an organization of olga and returns it as a resource.
func (w *world) group(organization Ref, name string) Ref {
	w.t.Helper()
	op, err := w.groups.Create(w.User(olga.ID), &orgv1.CreateGroupRequest{OrganizationId: organization.ID, Name: name})
	return Ref{typeGroup, made(w.t, op, err, new(orgv1.Group)).GetId()}
}

// change adds members to a group and removes others, by olga.
func (w *world) change(g Ref, in, out []Subject) error { return w.changeAs(olga, g, in, out) }

// changeAs is change by somebody.
func (w *world) changeAs(as Subject, g Ref, in, out []Subject) error {
	req := &orgv1.UpdateGroupMembersRequest{GroupId: g.ID}
	for _, who := range in {
		req.MemberDeltas = append(req.MemberDeltas, &orgv1.MemberDelta{Action: orgv1.MemberDelta_ADD, SubjectId: who.ID})
	}
	for _, who := range out {
		req.MemberDeltas = append(req.MemberDeltas, &orgv1.MemberDelta{Action: orgv1.MemberDelta_REMOVE, SubjectId: who.ID})
	}
	_, err := w.groups.UpdateMembers(w.User(as.ID), req)
	return err
}

// join makes subjects members of org1 and then of a group of it.
func (w *world) join(g Ref, subjects ...Subject) {
	w.t.Helper()
	w.must(w.members(org1, subjects, nil))
	w.must(w.change(g, subjects, nil))
}

func memberOf(g Ref) Subject { return group(g.ID) }

func TestGR1_AGroupBelongsToOneOrganization(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ops, theirs := w.group(org1, "ops"), w.group(org2, "ops")
		w.register(Ref{typeServiceAccount, "bot"}, folder1, nil)
		w.know(robot("bot"))
		for _, who := range []Subject{vera, memberOf(theirs)} {
			refused(t, w.change(ops, []Subject{who}, nil), codes.FailedPrecondition, "MEMBER_FOREIGN")
		}
		refused(t, w.change(theirs, []Subject{robot("bot")}, nil), codes.FailedPrecondition, "MEMBER_FOREIGN")
		w.must(w.members(org2, []Subject{vera}, nil))
		refused(t, w.change(ops, []Subject{vera}, nil), codes.FailedPrecondition, "MEMBER_FOREIGN") // RH-6
		w.must(w.change(theirs, []Subject{vera}, nil))
		fed := w.federation(org1, "fed")
		guest := Subject{rules.FederatedUser, "guest"}
		w.know(guest)
		refused(t, w.change(ops, []Subject{guest}, nil), codes.FailedPrecondition, "MEMBER_FOREIGN")
		w.must(w.members(fed, []Subject{guest}, nil))
		w.must(w.change(ops, []Subject{guest, robot("bot")}, nil))
		refused(t, w.change(ops, []Subject{user("ghost")}, nil), codes.NotFound, ReasonSubjectNotFound)
		refused(t, w.change(ops, []Subject{{rules.System, "allUsers"}}, nil), codes.NotFound, ReasonSubjectNotFound)
	})
}

func TestGR2_MembersOfEveryType(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ops, inner := w.group(org1, "ops"), w.group(org1, "inner")
		w.register(Ref{typeServiceAccount, "bot"}, folder1, nil)
		w.know(robot("bot"))
		guest := Subject{rules.FederatedUser, "guest"}
		w.know(guest)
		w.must(w.members(org1, []Subject{vera, guest}, nil))
		want := []Subject{guest, robot("bot"), vera, memberOf(inner)}
		w.must(w.change(ops, want, nil))
		w.must(w.change(ops, want, nil)) // again, and nothing is twice
		var got []Subject
		req := &orgv1.ListGroupMembersRequest{GroupId: ops.ID, PageSize: 3}
		for {
			resp, err := w.groups.ListMembers(w.User(olga.ID), req)
			w.must(err)
			for _, m := range resp.GetMembers() {
				got = append(got, Subject{m.GetSubjectType(), m.GetSubjectId()})
			}
			if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("members %v, want %v", got, want)
		}
		w.must(w.change(ops, nil, []Subject{guest, user("ghost"), memberOf(inner)}))
		if got := w.membersIn(ops, 0); !slices.Equal(got, []Subject{robot("bot"), vera}) {
			t.Errorf("members %v after some left", got)
		}
		req1 := &orgv1.UpdateGroupMembersRequest{GroupId: ops.ID, MemberDeltas: []*orgv1.MemberDelta{
			{Action: orgv1.MemberDelta_ADD, SubjectId: vera.ID}, {Action: orgv1.MemberDelta_REMOVE, SubjectId: vera.ID},
		}}
		_, err := w.groups.UpdateMembers(w.User(olga.ID), req1)
		refused(t, err, codes.InvalidArgument, "DELTAS_CONTRADICT")
		req1.MemberDeltas = []*orgv1.MemberDelta{{Action: 7, SubjectId: vera.ID}}
		_, err = w.groups.UpdateMembers(w.User(olga.ID), req1)
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
	})
}

func TestGR3_MembersHaveTheRolesOfTheirGroups(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.must(w.members(org1, []Subject{vera}, nil))
		boxes := make([]Ref, maxNesting+1)
		for n := range boxes {
			boxes[n] = w.group(org1, fmt.Sprintf("g%d", n))
		}
		for n := range maxNesting - 1 { // g1 in g0, g2 in g1, …
			w.must(w.change(boxes[n], []Subject{memberOf(boxes[n+1])}, nil))
		}
		last := boxes[maxNesting-1]
		refused(t, w.change(last, []Subject{memberOf(boxes[maxNesting])}, nil), codes.FailedPrecondition, "MEMBERSHIP_TOO_DEEP")
		refused(t, w.change(last, []Subject{memberOf(boxes[0])}, nil), codes.FailedPrecondition, "MEMBERSHIP_CYCLE")
		refused(t, w.change(boxes[3], []Subject{memberOf(boxes[3])}, nil), codes.FailedPrecondition, "MEMBERSHIP_CYCLE")
		w.must(w.change(last, []Subject{vera}, nil))
		w.mustUpdate(adam, folder1, add(viewer, memberOf(boxes[0])))
		if !w.allowed(vera, getFolder, folder1) {
			t.Error("a member of the innermost group may not")
		}
		w.must(w.change(boxes[4], nil, []Subject{memberOf(boxes[5])}))
		if w.allowed(vera, getFolder, folder1) {
			t.Error("the chain is broken and vera may")
		}
		w.must(w.change(boxes[4], []Subject{memberOf(boxes[5])}, nil))
		w.state(vera, stateSuspended)
		if w.allowed(vera, getFolder, folder1) {
			t.Error("a suspended member may")
		}
		refused(t, w.members(org1, []Subject{memberOf(boxes[1])}, nil), codes.InvalidArgument, "VALIDATION_FAILED")
		refused(t, w.members(boxes[1], []Subject{vera}, nil), codes.InvalidArgument, "VALIDATION_FAILED")
		refused(t, w.members(cloud1, []Subject{vera}, nil), codes.InvalidArgument, "VALIDATION_FAILED")
		refused(t, w.change(Ref{typeGroup, "none"}, []Subject{vera}, nil), codes.NotFound, "RESOURCE_NOT_FOUND")
	})
}

// TestGR3_NoCycleFromTwoSides closes a ring of groups from both ends at once, many
// times: one side is refused each time.
func TestGR3_NoCycleFromTwoSides(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		for n := range 10 {
			a, b := w.group(org1, fmt.Sprintf("a%d", n)), w.group(org1, fmt.Sprintf("b%d", n))
			var both sync.WaitGroup
			errs := make([]error, 2)
			both.Go(func() { errs[0] = w.change(a, []Subject{memberOf(b)}, nil) })
			both.Go(func() { errs[1] = w.change(b, []Subject{memberOf(a)}, nil) })
			both.Wait()
			if (errs[0] == nil) == (errs[1] == nil) {
				t.Fatalf("round %d: %v and %v", n, errs[0], errs[1])
			}
			for _, err := range errs {
				if err != nil {
					refused(t, err, codes.FailedPrecondition, "MEMBERSHIP_CYCLE")
				}
			}
		}
	})
}

func TestGR5_ADeletedGroupIsGoneEverywhere(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ops, outer := w.group(org1, "ops"), w.group(org1, "outer")
		w.join(ops, vera)
		w.must(w.change(outer, []Subject{memberOf(ops)}, nil))
		w.mustUpdate(adam, folder1, add(viewer, memberOf(ops)))
		w.mustUpdate(olga, org2, add(viewer, memberOf(ops)))
		w.mustUpdate(olga, ops, add("organization-manager.groups.viewer", vera))
		if !w.allowed(vera, getFolder, folder1) {
			t.Fatal("a member may not")
		}
		op, err := w.groups.Delete(w.User(olga.ID), &orgv1.DeleteGroupRequest{GroupId: ops.ID})
		w.must(err)
		if !op.GetDone() || op.GetResponse().MessageName() != "google.protobuf.Empty" {
			t.Errorf("operation %v", op)
		}
		if w.allowed(vera, getFolder, folder1) || w.allowed(vera, "organization-manager.organizations.get", org2) {
			t.Error("a member of a deleted group may")
		}
		for r, who := range map[Ref]Subject{folder1: adam, org2: olga} {
			if got := w.list(who, r, 0); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, ops.ID) }) {
				t.Errorf("on %s %s: %v", r.Type, r.ID, got)
			}
		}
		if got := w.membersIn(outer, 0); len(got) != 0 {
			t.Errorf("still in another group: %v", got)
		}
		_, err = w.groups.Get(w.User(olga.ID), &orgv1.GetGroupRequest{GroupId: ops.ID})
		refused(t, err, codes.NotFound, "RESOURCE_NOT_FOUND")
		_, err = w.groups.Delete(w.User(olga.ID), &orgv1.DeleteGroupRequest{GroupId: ops.ID})
		refused(t, err, codes.NotFound, "RESOURCE_NOT_FOUND")
		w.group(org1, "ops") // the name is free again
		_, err = w.resources.RemoveResource(t.Context(), &accessv1.RemoveResourceRequest{Resource: org1.proto()})
		w.must(err)
		var rows int
		w.must(w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM access_groups WHERE organization_id = 'org1'`).Scan(&rows))
		if rows != 0 {
			t.Errorf("%d groups of a removed organization are left", rows)
		}
	})
}

func TestNM3_GroupNamesAreUniqueInTheirOrganization(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ops := w.group(org1, "Ops")
		w.group(org1, "ops") // another case, another name
		w.group(org2, "Ops")
		_, err := w.groups.Create(w.User(olga.ID), &orgv1.CreateGroupRequest{OrganizationId: org1.ID, Name: "Ops"})
		refused(t, err, codes.AlreadyExists, "GROUP_NAME_TAKEN")
		_, err = w.groups.Update(w.User(olga.ID), &orgv1.UpdateGroupRequest{GroupId: ops.ID, Name: "ops"})
		refused(t, err, codes.AlreadyExists, "GROUP_NAME_TAKEN")
		_, err = w.groups.Create(w.User(olga.ID), &orgv1.CreateGroupRequest{OrganizationId: "nowhere", Name: "x"})
		refused(t, err, codes.NotFound, "RESOURCE_NOT_FOUND")
	})
}

func TestUpdateGroup(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		op, err := w.groups.Create(w.User(olga.ID), &orgv1.CreateGroupRequest{
			OrganizationId: org1.ID, Name: "ops", Description: "all", Labels: map[string]string{"a": "b"},
		})
		g := made(t, op, err, new(orgv1.Group))
		if meta := new(orgv1.CreateGroupMetadata); op.GetMetadata().UnmarshalTo(meta) != nil || meta.GetGroupId() != g.GetId() {
			t.Errorf("metadata %v", op.GetMetadata())
		}
		step := func(req *orgv1.UpdateGroupRequest, paths ...string) *orgv1.Group {
			t.Helper()
			req.GroupId = g.GetId()
			if paths != nil {
				req.UpdateMask = &fieldmaskpb.FieldMask{Paths: paths}
			}
			op, err := w.groups.Update(w.User(olga.ID), req)
			got := made(t, op, err, new(orgv1.Group))
			read, err := w.groups.Get(w.User(olga.ID), &orgv1.GetGroupRequest{GroupId: g.GetId()})
			w.must(err)
			if !proto.Equal(got, read) {
				t.Errorf("the operation says %v, Get says %v", got, read)
			}
			return got
		}
		if got := step(&orgv1.UpdateGroupRequest{Name: "dev"}, "name", "group_id"); got.GetName() != "dev" || got.GetDescription() != "all" || len(got.GetLabels()) != 1 {
			t.Errorf("after a new name: %v", got)
		}
		if got := step(&orgv1.UpdateGroupRequest{}, "labels", "name"); len(got.GetLabels()) != 0 || got.GetName() != "dev" { // clears, and NM-8
			t.Errorf("after labels without labels: %v", got)
		}
		if got := step(&orgv1.UpdateGroupRequest{Labels: map[string]string{"x": ""}}); got.GetDescription() != "" || got.GetName() != "dev" || len(got.GetLabels()) != 1 {
			t.Errorf("after a change without a mask: %v", got)
		}
		_, err = w.groups.Update(w.User(olga.ID), &orgv1.UpdateGroupRequest{GroupId: g.GetId(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"external_id"}}})
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
		ops, err := w.groups.ListOperations(w.User(olga.ID), &orgv1.ListGroupOperationsRequest{GroupId: g.GetId(), PageSize: 3})
		w.must(err)
		rest, err := w.groups.ListOperations(w.User(olga.ID), &orgv1.ListGroupOperationsRequest{GroupId: g.GetId(), PageToken: ops.GetNextPageToken()})
		w.must(err)
		if len(ops.GetOperations()) != 3 || len(rest.GetOperations()) != 1 || rest.GetOperations()[0].GetDescription() != "Create group" {
			t.Errorf("operations %v, then %v", ops.GetOperations(), rest.GetOperations())
		}
	})
}

func TestAS12_RolesOnAGroup(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ops := w.group(org1, "ops")
		w.must(w.members(org1, []Subject{vera, nick}, nil))
		op, err := w.groups.UpdateAccessBindings(w.User(olga.ID), &accesspb.UpdateAccessBindingsRequest{
			ResourceId: ops.ID, AccessBindingDeltas: []*accesspb.AccessBindingDelta{{
				Action:        accesspb.AccessBindingAction_ADD,
				AccessBinding: &accesspb.AccessBinding{RoleId: "organization-manager.groups.memberAdmin", Subject: &accesspb.Subject{Type: vera.Type, Id: vera.ID}},
			}},
		})
		w.must(err)
		if got := effective(t, op); !slices.Equal(got, []string{"+organization-manager.groups.memberAdmin userAccount:vera"}) {
			t.Errorf("effective deltas %v", got)
		}
		add := &orgv1.UpdateGroupMembersRequest{GroupId: ops.ID, MemberDeltas: []*orgv1.MemberDelta{{Action: orgv1.MemberDelta_ADD, SubjectId: nick.ID}}}
		_, err = w.groups.UpdateMembers(w.User(vera.ID), add)
		w.must(err)
		_, err = w.groups.Update(w.User(vera.ID), &orgv1.UpdateGroupRequest{GroupId: ops.ID, Name: "x"})
		refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		_, err = w.groups.SetAccessBindings(w.User(olga.ID), &accesspb.SetAccessBindingsRequest{ResourceId: ops.ID})
		w.must(err)
		list, err := w.groups.ListAccessBindings(w.User(olga.ID), &accesspb.ListAccessBindingsRequest{ResourceId: ops.ID})
		if w.must(err); len(list.GetAccessBindings()) != 0 {
			t.Errorf("bindings %v after an empty Set", list.GetAccessBindings())
		}
		_, err = w.groups.UpdateMembers(w.User(vera.ID), add)
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("who lost the role changes members: %v", err)
		}
	})
}

func TestNM2_NamesOfGroups(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		for name, good := range map[string]bool{
			"a": true, "Z": true, "a1": true, "A.b_c-d": true, "a" + strings.Repeat("b", 62): true,
			"": false, "1a": false, "a-": false, "a.": false, "_a": false, "a b": false, "é": false, "a\n": false, "a" + strings.Repeat("b", 63): false,
		} {
			_, err := w.groups.Create(w.User(olga.ID), &orgv1.CreateGroupRequest{OrganizationId: org1.ID, Name: name})
			if want := map[bool]codes.Code{true: codes.OK, false: codes.InvalidArgument}[good]; status.Code(err) != want {
				t.Errorf("a group named %q: %v, want %v", name, err, want)
			}
		}
	})
}

func TestPG4_TheOperationTellsTheWarning(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		everybody := Subject{rules.System, "allAuthenticatedUsers"}
		op := w.mustUpdate(adam, folder1, add(viewer, everybody), add(editor, vera))
		if op.GetDescription() != "Update access bindings" {
			t.Errorf("nothing to warn of: %q", op.GetDescription())
		}
		op = w.mustUpdate(adam, folder1, add(editor, everybody), add(admin, everybody))
		if got := op.GetDescription(); !strings.Contains(got, "Warning: the role editor for allAuthenticatedUsers") || !strings.HasSuffix(got, "and 1 more") {
			t.Errorf("description %q", got)
		}
		w.register(Ref{typeFolder, strings.Repeat("f", 50)}, cloud1, nil)
		far := Ref{"organization-manager.organization", strings.Repeat("o", 50)}
		w.register(far, Ref{}, []Pair{{orgOwner, olga}})
		staff := Subject{rules.System, "group:organization:" + far.ID + ":users"}
		op = w.mustUpdate(olga, Ref{typeFolder, strings.Repeat("f", 50)}, add(editor, staff))
		if n := len([]rune(op.GetDescription())); n > maxDescription || n < 100 {
			t.Errorf("a description of %d characters: %q", n, op.GetDescription())
		}
	})
}

func TestGroupsAreMadeOnceForEachKey(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ctx := metadata.AppendToOutgoingContext(w.User(olga.ID), idempotency.Header, "k1")
		req := &orgv1.CreateGroupRequest{OrganizationId: org1.ID, Name: "ops"}
		first, err := w.groups.Create(ctx, req)
		w.must(err)
		again, err := w.groups.Create(ctx, req)
		if w.must(err); !proto.Equal(first, again) {
			t.Errorf("another answer: %v, then %v", first, again)
		}
		g := made(t, first, nil, new(orgv1.Group))
		ctx = metadata.AppendToOutgoingContext(w.User(olga.ID), idempotency.Header, "k2")
		w.must(w.members(org1, []Subject{vera}, nil))
		in := &orgv1.UpdateGroupMembersRequest{GroupId: g.GetId(), MemberDeltas: []*orgv1.MemberDelta{{Action: orgv1.MemberDelta_ADD, SubjectId: vera.ID}}}
		_, err = w.groups.UpdateMembers(ctx, in)
		w.must(err)
		w.must(w.change(Ref{typeGroup, g.GetId()}, nil, []Subject{vera}))
		_, err = w.groups.UpdateMembers(ctx, in) // a replay does not let her in again
		if w.must(err); len(w.membersIn(Ref{typeGroup, g.GetId()}, 0)) != 0 {
			t.Error("the replay was made once more")
		}
		_, err = w.groups.Create(ctx, req) // the key of another request
		if err == nil {
			t.Error("a key was good for another request")
		}
	})
}

func TestAU4_EventsOfGroups(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		g := w.group(org1, "ops")
		w.join(g, vera)
		_, err := w.groups.Update(w.User(olga.ID), &orgv1.UpdateGroupRequest{GroupId: g.ID, Name: "dev"})
		w.must(err)
		w.mustUpdate(olga, g, add("organization-manager.groups.viewer", vera))
		_, err = w.groups.Delete(w.User(olga.ID), &orgv1.DeleteGroupRequest{GroupId: g.ID})
		w.must(err)
		rows, err := w.db.QueryContext(t.Context(), `SELECT record FROM accessbindings_audit`) //nolint:sqlclosecheck // collect closes it
		w.must(err)
		records, err := collect(rows, "read", func() (r audit.Record, err error) {
			var text string
			if err := rows.Scan(&text); err != nil {
				return r, err
			}
			return r, json.Unmarshal([]byte(text), &r)
		})
		w.must(err)
		seen := make(map[string]bool)
		for _, r := range records {
			if path := r.ResourceMetadata.Path; r.EventSource == organizationEvents && len(path) == 2 && path[0].ID == org1.ID && path[1].ID == g.ID {
				seen[r.EventType] = true
			}
		}
		for _, event := range []string{"CreateGroup", "UpdateGroupMembers", "UpdateGroup", "UpdateGroupAccessBindings", "DeleteGroup"} {
			if !seen["bindery.audit.organizationmanager."+event] {
				t.Errorf("no %s with the path up to the organization", event)
			}
		}
	})
}
