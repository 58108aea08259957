package accessbindings

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// organizationEvents is the source of audit events of groups (AU-4).
const organizationEvents = "organizationmanager"

// Groups is yandex.cloud.organizationmanager.v1.GroupService. Permissions: see the
// method options. Every write is in force when the call returns.
type Groups struct {
	orgv1.UnsafeGroupServiceServer // a missing method does not compile
	groupAccess
	committer  *committer
	catalog    *roleBook
	pages      *page.Sealer
	operations *operation.Store
	decider    *decider
	bounded    *bounded
	now        func() time.Time
}

func groupProto(g Group) *orgv1.Group {
	return &orgv1.Group{
		Id: g.ID, OrganizationId: g.OrganizationID, CreatedAt: stamp(g.CreatedAt), Name: g.Name, Description: g.Description,
		SubjectContainerId: g.ContainerID, ExternalId: g.ExternalID, Labels: g.Labels,
	}
}

// Get reads a group. What it tells is in force. Fails: GROUP_NOT_FOUND.
func (s *Groups) Get(ctx context.Context, req *orgv1.GetGroupRequest) (*orgv1.Group, error) {
	var g Group
	err := s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) (err error) {
		g, err = st.group(ctx, q, req.GetGroupId())
		return err
	})
	if err != nil {
		return nil, err
	}
	return groupProto(g), nil
}

// ResolveExternal reads the group that stands for one of a container (GR-4).
// Fails: SUBJECT_CONTAINER_NOT_FOUND, GROUP_NOT_FOUND.
func (s *Groups) ResolveExternal(ctx context.Context, req *orgv1.ResolveExternalGroupRequest) (*orgv1.Group, error) {
	var g Group
	err := s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) error {
		found := false
		var err error
		if g, found, err = st.groupExternal(ctx, q, req.GetSubjectContainerId(), req.GetExternalId()); err == nil && !found {
			err = apierr.NotFound("GROUP_NOT_FOUND", "no group stands for the external id")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return groupProto(g), nil
}

// Create creates a group without members. Fails: GROUP_NAME_TAKEN (NM-3),
// QUOTA_EXCEEDED.
func (s *Groups) Create(ctx context.Context, req *orgv1.CreateGroupRequest) (*operationpb.Operation, error) {
	g := s.draft(req.GetOrganizationId(), req)
	in := &createGroup{group: g}
	in.groupCall = s.call(ctx, "Create group", "CreateGroup", permitCreateGroup, Ref{typeOrganization, g.OrganizationID})
	in.metadata = &orgv1.CreateGroupMetadata{GroupId: g.ID}
	return s.create(ctx, in)
}

// CreateExternal creates a group that stands for one of a federation or user pool
// (GR-4). Fails: SUBJECT_CONTAINER_NOT_FOUND, GROUP_NAME_TAKEN,
// EXTERNAL_GROUP_TAKEN (NM-3), QUOTA_EXCEEDED.
func (s *Groups) CreateExternal(ctx context.Context, req *orgv1.CreateExternalGroupRequest) (*operationpb.Operation, error) {
	g := s.draft(req.GetOrganizationId(), req)
	g.ContainerID, g.ExternalID = req.GetSubjectContainerId(), req.GetExternalId()
	in := &createGroup{group: g, editor: req.GetMakeEditor()}
	in.groupCall = s.call(ctx, "Create external group", "CreateGroup", permitCreateForeign, Ref{typeOrganization, g.OrganizationID})
	in.metadata = &orgv1.CreateExternalGroupMetadata{
		GroupId: g.ID, OrganizationId: g.OrganizationID, GroupName: g.Name,
		SubjectContainerId: g.ContainerID, ExternalId: g.ExternalID, MakeEditor: in.editor,
	}
	return s.create(ctx, in)
}

func (s *Groups) create(ctx context.Context, in *createGroup) (*operationpb.Operation, error) {
	bounds := []ceiling{organizationBound(catalog.QuotaGroups, in.group.OrganizationID)}
	return operationOf(s.bounded.submit(ctx, bounds, func(l limits) intent {
		in.limits = l
		return in
	}))
}

// draft is a group to be made, of what both ways to make one have in common.
func (s *Groups) draft(organization string, req interface {
	GetName() string
	GetDescription() string
	GetLabels() map[string]string
}) Group {
	return Group{
		ID: id.New(id.Group), OrganizationID: organization, CreatedAt: nowMicros(s.now),
		Name: req.GetName(), Description: req.GetDescription(), Labels: req.GetLabels(),
	}
}

// Update changes name, description and labels. Fails: GROUP_NOT_FOUND,
// GROUP_NAME_TAKEN (NM-3).
func (s *Groups) Update(ctx context.Context, req *orgv1.UpdateGroupRequest) (*operationpb.Operation, error) {
	fields, err := groupFields(req.GetUpdateMask())
	if err != nil {
		return nil, err
	}
	in := &updateGroup{
		id: req.GetGroupId(), fields: fields,
		to: Group{Name: req.GetName(), Description: req.GetDescription(), Labels: req.GetLabels()},
	}
	in.groupCall = s.call(ctx, "Update group", "UpdateGroup", permitUpdateGroup, Ref{typeGroup, in.id})
	in.metadata = &orgv1.UpdateGroupMetadata{GroupId: in.id}
	return s.submit(ctx, in)
}

// groupFields are the fields that a request changes: those in its mask, or all. The
// group's own id may stand in a mask and says nothing (clients.md B3).
func groupFields(mask *fieldmaskpb.FieldMask) ([]string, error) {
	all := []string{"name", "description", "labels"}
	if len(mask.GetPaths()) == 0 {
		return all, nil
	}
	var named []string
	for _, path := range mask.GetPaths() {
		switch {
		case path == "group_id" || slices.Contains(named, path):
		case slices.Contains(all, path):
			named = append(named, path)
		default:
			return nil, apierr.InvalidField("update_mask", "%q is not a field that can be changed", path)
		}
	}
	return named, nil
}

// Delete deletes a group with its roles everywhere (GR-5). Fails: GROUP_NOT_FOUND.
func (s *Groups) Delete(ctx context.Context, req *orgv1.DeleteGroupRequest) (*operationpb.Operation, error) {
	in := &deleteGroup{id: req.GetGroupId()}
	in.groupCall = s.call(ctx, "Delete group", "DeleteGroup", permitDeleteGroup, Ref{typeGroup, in.id})
	in.metadata = &orgv1.DeleteGroupMetadata{GroupId: in.id}
	return s.submit(ctx, in)
}

// ConvertToExternal makes a basic group stand for one of a federation or user pool
// (GR-4). Fails: GROUP_NOT_FOUND, GROUP_IS_EXTERNAL, SUBJECT_CONTAINER_NOT_FOUND,
// EXTERNAL_GROUP_TAKEN (NM-3).
func (s *Groups) ConvertToExternal(ctx context.Context, req *orgv1.ConvertToExternalGroupRequest) (*operationpb.Operation, error) {
	in := &convertGroup{
		id: req.GetGroupId(), container: req.GetSubjectContainerId(), external: req.GetExternalId(), editor: req.GetMakeEditor(),
	}
	in.groupCall = s.call(ctx, "Convert group to external", "ConvertGroupToExternal", permitConvert, Ref{typeGroup, in.id})
	in.metadata = &orgv1.ConvertToExternalGroupMetadata{
		GroupId: in.id, SubjectContainerId: in.container, ExternalId: in.external, MakeEditor: in.editor,
	}
	return s.submit(ctx, in)
}

// ConvertAllToBasic makes all external groups of a federation or user pool basic
// ones; their members and roles stay (GR-4). Fails: SUBJECT_CONTAINER_NOT_FOUND.
func (s *Groups) ConvertAllToBasic(ctx context.Context, req *orgv1.ConvertAllToBasicGroupsRequest) (*operationpb.Operation, error) {
	container, err := s.containerOf(ctx, req.GetSubjectContainerId())
	if err != nil {
		return nil, err
	}
	in := &basicGroups{container: container.ID}
	in.groupCall = s.call(ctx, "Convert all external groups to basic", "ConvertAllGroupsToBasic",
		s.catalog.permission(container.Type, "unbindExternalGroups"), Ref(container))
	in.metadata = &orgv1.ConvertAllToBasicGroupsMetadata{SubjectContainerId: container.ID}
	return s.submit(ctx, in)
}

// UpdateMembers adds and removes members, all or none (GR-2). Fails:
// GROUP_NOT_FOUND, DELTAS_CONTRADICT, SUBJECT_NOT_FOUND, MEMBER_FOREIGN (RH-6),
// MEMBERSHIP_CYCLE, MEMBERSHIP_TOO_DEEP, QUOTA_EXCEEDED.
func (s *Groups) UpdateMembers(ctx context.Context, req *orgv1.UpdateGroupMembersRequest) (*operationpb.Operation, error) {
	in := &updateGroupMembers{id: req.GetGroupId()}
	if err := in.take(req.GetMemberDeltas()); err != nil {
		return nil, err
	}
	in.groupCall = s.call(ctx, "Update group members", "UpdateGroupMembers", permitUpdateMembers, Ref{typeGroup, in.id})
	in.metadata = &orgv1.UpdateGroupMembersMetadata{GroupId: in.id}
	bounds := []ceiling{groupBound(in.id)}
	for _, who := range in.add {
		bounds = append(bounds, groupsOfBound(who))
	}
	return operationOf(s.bounded.submit(ctx, bounds, func(l limits) intent {
		in.limits = l
		return in
	}))
}

// containerOf is the resolver of a federation or user pool by its id alone. Fails:
// SUBJECT_CONTAINER_NOT_FOUND.
func (s *Groups) containerOf(_ context.Context, id string) (authz.Resource, error) {
	view := s.committer.graph.View()
	for _, typ := range subjectContainers {
		if view.Path(checker.Resource{Type: typ, ID: id}) != nil {
			return authz.Resource{Type: typ, ID: id}, nil
		}
	}
	return authz.Resource{}, errNoContainer(id)
}

// call is what a write carries: who asks, and what the door checked.
func (s *Groups) call(ctx context.Context, description, event, permission string, on Ref) groupCall {
	p := authn.FromContext(ctx)
	return groupCall{
		caller:  checker.Query{Subject: checker.Subject{Type: p.Type, ID: p.ID}, Token: checker.TokenID(p.TokenID)},
		catalog: s.catalog, description: description,
		record: recordOf(ctx, organizationEvents, event, audit.Permission{
			Permission: permission, ResourceType: on.Type, ResourceID: on.ID, Authorized: true,
		}),
	}
}

func (s *Groups) submit(ctx context.Context, in intent) (*operationpb.Operation, error) {
	return operationOf(s.committer.submit(ctx, in))
}

// operationOf is the answer to a write of the public API.
func operationOf(r result, err error) (*operationpb.Operation, error) {
	if err != nil {
		return nil, err
	}
	return r.operation.Proto(), nil
}

// ListOperations lists the operations on a group, newest first, those on its
// access bindings included. What it shows as done is in force.
func (s *Groups) ListOperations(ctx context.Context, req *orgv1.ListGroupOperationsRequest) (*orgv1.ListGroupOperationsResponse, error) {
	scope := []string{"ListGroupOperations", req.GetGroupId()}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	ops, err := s.operations.List(ctx, operation.Resource{Type: typeGroup, ID: req.GetGroupId()}, after, size+1)
	if err != nil {
		return nil, err
	}
	if err := s.committer.settle(ctx); err != nil {
		return nil, err
	}
	resp := new(orgv1.ListGroupOperationsResponse)
	for _, op := range ops {
		resp.Operations = append(resp.Operations, op.Proto())
	}
	fit := page.Fit(min(len(ops), size), func(i int) int { return proto.Size(resp.GetOperations()[i]) })
	if fit < len(ops) {
		resp.Operations = resp.GetOperations()[:fit]
		resp.NextPageToken, err = s.pages.Seal(page.Position{Time: sqldb.Micros(ops[fit-1].CreatedAt), ID: ops[fit-1].ID}, scope...)
	}
	return resp, err
}
