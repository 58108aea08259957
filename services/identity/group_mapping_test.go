package identity

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
)

func (w *town) mappings() orgv1.GroupMappingServiceClient {
	return orgv1.NewGroupMappingServiceClient(w.Conn)
}

func itemDelta(action orgv1.GroupMappingItemDelta_Action, external, internal string) *orgv1.GroupMappingItemDelta {
	return &orgv1.GroupMappingItemDelta{Action: action, Item: &orgv1.GroupMappingItem{ExternalGroupId: external, InternalGroupId: internal}}
}

// items are those of a mapping, read in pages of two.
func (w *town) items(by citizen, federationID, filter string) (all []string) {
	w.t.Helper()
	req := &orgv1.ListGroupMappingItemsRequest{FederationId: federationID, PageSize: 2, Filter: filter}
	for {
		resp, err := w.mappings().ListItems(by.ctx, req)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, i := range resp.GetGroupMappingItems() {
			all = append(all, i.GetExternalGroupId()+" "+i.GetInternalGroupId())
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
	}
}

func TestGroupMapping(t *testing.T) {
	const add, remove = orgv1.GroupMappingItemDelta_ADD, orgv1.GroupMappingItemDelta_REMOVE
	inTown(t, func(t *testing.T, w *town) {
		olga := w.citizen("olga")
		org := w.organization(olga, "acme")
		f := w.federation(olga, org, "corp")
		id := f.GetId()
		_, err := w.mappings().Get(olga.ctx, &orgv1.GetGroupMappingRequest{FederationId: id})
		wantCode(t, err, codes.NotFound, ReasonMappingNotFound)
		op, err := w.mappings().Create(olga.ctx, &orgv1.CreateGroupMappingRequest{FederationId: id})
		m := new(orgv1.GroupMapping)
		w.done(op, err, m)
		if m.GetFederationId() != id || m.GetEnabled() {
			t.Errorf("made %v", m)
		}
		_, err = w.mappings().Create(olga.ctx, &orgv1.CreateGroupMappingRequest{FederationId: id})
		wantCode(t, err, codes.AlreadyExists, ReasonMappingExists)
		op, err = w.mappings().Update(olga.ctx, &orgv1.UpdateGroupMappingRequest{FederationId: id, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"enabled"}}, Enabled: true})
		w.done(op, err, m)
		read, err := w.mappings().Get(olga.ctx, &orgv1.GetGroupMappingRequest{FederationId: id})
		if err != nil || !read.GetGroupMapping().GetEnabled() || !m.GetEnabled() {
			t.Errorf("turned on, it is %v (%v)", read, err)
		}

		one, two := w.group(olga, org, "one", olga.id), w.group(olga, org, "two", olga.id)
		update := func(deltas ...*orgv1.GroupMappingItemDelta) *orgv1.UpdateGroupMappingItemsResponse {
			t.Helper()
			op, err := w.mappings().UpdateItems(olga.ctx, &orgv1.UpdateGroupMappingItemsRequest{FederationId: id, GroupMappingItemDeltas: deltas})
			resp := new(orgv1.UpdateGroupMappingItemsResponse)
			w.done(op, err, resp)
			return resp
		}
		if got := update(itemDelta(add, "b", one), itemDelta(add, "a", two), itemDelta(add, "a", one), itemDelta(add, "a", one), itemDelta(remove, "z", two)); len(got.GetGroupMappingItemDeltas()) != 3 {
			t.Errorf("changed %v", got)
		}
		want := append(sorted([]string{"a " + one, "a " + two}), "b "+one)
		if got := w.items(olga, id, ""); !slices.Equal(got, want) {
			t.Errorf("listed %v, want %v", got, want)
		}
		if got := w.items(olga, id, fmt.Sprintf("internal_group_id = %q", two)); !slices.Equal(got, []string{"a " + two}) {
			t.Errorf("of one group %v", got)
		}
		if got := update(itemDelta(remove, "a", one), itemDelta(add, "b", one)); len(got.GetGroupMappingItemDeltas()) != 1 {
			t.Errorf("changed %v", got)
		}
		elsewhere := w.group(olga, w.organization(olga, "other"), "three", olga.id)
		for reason, deltas := range map[string][]*orgv1.GroupMappingItemDelta{
			ReasonGroupNotFound:  {itemDelta(add, "a", one), itemDelta(add, "a", elsewhere)},
			apierr.ReasonInvalid: {itemDelta(add, "a", one), itemDelta(remove, "a", one)},
		} {
			_, err = w.mappings().UpdateItems(olga.ctx, &orgv1.UpdateGroupMappingItemsRequest{FederationId: id, GroupMappingItemDeltas: deltas})
			if apierr.ReasonOf(err) != reason {
				t.Errorf("got %v, want %s", err, reason)
			}
		}
		if got := w.items(olga, id, ""); len(got) != 2 {
			t.Errorf("a refused update left %v", got)
		}

		// A group takes its items with it, and the federation the whole mapping.
		op, err = orgv1.NewGroupServiceClient(w.Conn).Delete(olga.ctx, &orgv1.DeleteGroupRequest{GroupId: one})
		w.done(op, err, new(emptypb.Empty))
		w.eventually("the items of the group go", func() bool { return slices.Equal(w.items(olga, id, ""), []string{"a " + two}) })
		op, err = w.federations().Delete(olga.ctx, &samlv1.DeleteFederationRequest{FederationId: id})
		w.done(op, err, new(emptypb.Empty))
		_, err = w.mappings().Get(olga.ctx, &orgv1.GetGroupMappingRequest{FederationId: id})
		wantCode(t, err, codes.NotFound, apierr.ReasonResourceNotFound)
	})
}

// Who manages a federation maps only groups whose members they may change.
func TestAS19_MappingNeedsRoleOnGroup(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera := w.citizen("olga"), w.citizen("vera")
		org := w.organization(olga, "acme")
		f := w.federation(olga, org, "corp")
		op, err := w.mappings().Create(olga.ctx, &orgv1.CreateGroupMappingRequest{FederationId: f.GetId(), Enabled: true})
		w.done(op, err, new(orgv1.GroupMapping))
		w.join(olga, org, vera)
		w.grant(olga, typeOrganization, org, "organization-manager.federations.editor", vera)
		one, two := w.group(olga, org, "one", olga.id), w.group(olga, org, "two", olga.id)
		w.grant(olga, typeGroup, one, "organization-manager.groups.memberAdmin", vera)
		for _, action := range []orgv1.GroupMappingItemDelta_Action{orgv1.GroupMappingItemDelta_ADD, orgv1.GroupMappingItemDelta_REMOVE} {
			_, err = w.mappings().UpdateItems(vera.ctx, &orgv1.UpdateGroupMappingItemsRequest{
				FederationId: f.GetId(), GroupMappingItemDeltas: []*orgv1.GroupMappingItemDelta{itemDelta(action, "a", one), itemDelta(action, "a", two)},
			})
			wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
			op, err = w.mappings().UpdateItems(vera.ctx, &orgv1.UpdateGroupMappingItemsRequest{
				FederationId: f.GetId(), GroupMappingItemDeltas: []*orgv1.GroupMappingItemDelta{itemDelta(action, "a", one)},
			})
			w.done(op, err, new(orgv1.UpdateGroupMappingItemsResponse))
		}
		// An external group wants the role that changes one (GR-4).
		op, err = orgv1.NewGroupServiceClient(w.Conn).CreateExternal(olga.ctx, &orgv1.CreateExternalGroupRequest{
			OrganizationId: org, Name: "three", SubjectContainerId: f.GetId(), ExternalId: "a",
		})
		three := new(orgv1.Group)
		w.done(op, err, three)
		w.grant(olga, typeGroup, three.GetId(), "organization-manager.groups.memberAdmin", vera)
		_, err = w.mappings().UpdateItems(vera.ctx, &orgv1.UpdateGroupMappingItemsRequest{
			FederationId: f.GetId(), GroupMappingItemDeltas: []*orgv1.GroupMappingItemDelta{itemDelta(orgv1.GroupMappingItemDelta_ADD, "a", three.GetId())},
		})
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
	})
}
