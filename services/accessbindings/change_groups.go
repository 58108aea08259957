package accessbindings

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Refusals about groups.
var (
	errGroupName     = apierr.AlreadyExists("GROUP_NAME_TAKEN", "the organization has a group of this name")
	errGroupExternal = apierr.AlreadyExists("EXTERNAL_GROUP_TAKEN", "another group stands for this one of the container")
	errGroupIsBound  = apierr.Precondition("GROUP_IS_EXTERNAL", "the group is an external one already")
)

// Permissions on groups. An external group wants the last one in place of those
// before it.
const (
	permitCreateGroup   = "organization-manager.groups.create"
	permitCreateForeign = "organization-manager.groups.createExternal"
	permitConvert       = "organization-manager.groups.convertToExternal"
	permitUpdateGroup   = "organization-manager.groups.update"
	permitDeleteGroup   = "organization-manager.groups.delete"
	permitUpdateMembers = "organization-manager.groups.updateMembers"
	permitExternal      = "organization-manager.groups.updateExternal"
)

// editorRole is what make_editor gives on an external group: the only role that
// changes, deletes and re-staffs one (GR-4).
const editorRole = "organization-manager.groups.externalManager"

// groupCall is what all writes of GroupService carry.
type groupCall struct {
	caller      checker.Query // who asks, by which token
	catalog     *roleBook
	record      *audit.Record
	description string // of the operation
	metadata    proto.Message
}

// asks says whose rights the write depends on.
func (c *groupCall) asks() Subject { return Subject(c.caller.Subject) }

// permit refuses a caller who lacks a permission on the state that the change is
// made on; the door asked before, without the lock.
func (c *groupCall) permit(on *state, permission string, r Ref) error {
	q := c.caller
	q.Resource, q.Now = checker.Resource(r), on.now
	if !on.graph.holds(q)(permission) {
		return authz.Denied(permission, authz.Resource(r))
	}
	return nil
}

// open reads a group that the caller may change: a basic one by the permission, an
// external one by permitExternal in its place.
func (c *groupCall) open(ctx context.Context, on *state, id, permission string) (Group, []Ref, error) {
	g, err := on.group(ctx, on.tx, id)
	if err != nil {
		return Group{}, nil, err
	}
	if g.ExternalID != "" && permission != permitConvert {
		permission = permitExternal
	}
	if err := c.permit(on, permission, g.ref()); err != nil {
		return Group{}, nil, err
	}
	path, err := on.path(ctx, on.tx, g.ref())
	return g, path, err
}

// result puts the plan of a call together. details go into the audit record.
func (c *groupCall) result(on Ref, name string, path []Ref, changes []*accessv1.Change, response proto.Message, details any) plan {
	record := recordOn(c.record, path, details)
	if steps := record.ResourceMetadata.Path; name != "" && len(steps) > 0 {
		steps[len(steps)-1].Name = name
	}
	return plan{changes: changes, record: record, operation: &operation.New{
		Resource: operation.Resource(on), ViewPermission: c.catalog.viewPermission(on.Type), Description: c.description,
		CreatedBy: c.caller.Subject.ID, Metadata: c.metadata, Response: response,
	}}
}

// groupDetails are the details of an audit record of a group.
type groupDetails struct {
	GroupID    string   `json:"group_id,omitempty"`
	Name       string   `json:"name,omitempty"`
	Container  string   `json:"subject_container_id,omitempty"`
	ExternalID string   `json:"external_id,omitempty"`
	MakeEditor bool     `json:"make_editor,omitempty"`
	Fields     []string `json:"fields,omitempty"`
	Groups     []string `json:"group_ids,omitempty"`
}

// createGroup is the intent of Create and CreateExternal.
type createGroup struct {
	groupCall
	group  Group
	editor bool
	limits limits
}

func (in *createGroup) plan(ctx context.Context, on *state) (plan, error) {
	g := in.group
	organization := Ref{typeOrganization, g.OrganizationID}
	permission := permitCreateGroup
	if g.ExternalID != "" {
		permission = permitCreateForeign
	}
	path, err := on.below(ctx, g.ref(), organization, 0)
	if err != nil {
		return plan{}, err
	}
	if err := in.permit(on, permission, organization); err != nil {
		return plan{}, err
	}
	if err := on.freeName(ctx, g); err != nil {
		return plan{}, err
	}
	if g.ExternalID != "" {
		if err := on.freeExternal(ctx, g); err != nil {
			return plan{}, err
		}
	}
	n, err := on.countGroups(ctx, on.tx, g.OrganizationID)
	if err != nil {
		return plan{}, err
	}
	if err := in.limits.room(organizationBound(catalog.QuotaGroups, g.OrganizationID), n, 1); err != nil {
		return plan{}, err
	}
	changes := []*accessv1.Change{
		placed(g.ref(), organization), subjectChange(Subject{rules.Group, g.ID}, stateActive), groupChange(g),
	}
	if in.editor {
		changes = append(changes, makeEditor(g, in.caller, on.now))
	}
	return in.result(g.ref(), g.Name, path, changes, groupProto(g),
		groupDetails{GroupID: g.ID, Name: g.Name, Container: g.ContainerID, ExternalID: g.ExternalID, MakeEditor: in.editor}), nil
}

// makeEditor gives the caller the role that manages an external group (GR-4).
func makeEditor(g Group, caller checker.Query, now int64) *accessv1.Change {
	return bindingChange(g.ref(), Binding{
		Pair:    Pair{Role: editorRole, Subject: Subject(caller.Subject)},
		Sources: []Source{{Kind: accessv1.Source_DIRECT}},
	}, now)
}

// updateGroup is the intent of Update.
type updateGroup struct {
	groupCall
	id     string
	fields []string // those to change, of name, description, labels
	to     Group
}

func (in *updateGroup) plan(ctx context.Context, on *state) (plan, error) {
	g, path, err := in.open(ctx, on, in.id, permitUpdateGroup)
	if err != nil {
		return plan{}, err
	}
	before := g.Name
	for _, field := range in.fields {
		switch field {
		case "name":
			if in.to.Name != "" { // NM-8
				g.Name = in.to.Name
			}
		case "description":
			g.Description = in.to.Description
		case "labels":
			g.Labels = in.to.Labels
		}
	}
	if g.Name != before {
		if err := on.freeName(ctx, g); err != nil {
			return plan{}, err
		}
	}
	return in.result(g.ref(), g.Name, path, []*accessv1.Change{groupChange(g)}, groupProto(g),
		groupDetails{GroupID: g.ID, Name: g.Name, Fields: in.fields}), nil
}

// deleteGroup is the intent of Delete (GR-5). No owner is lost by it: a group is
// never the owner who remains (OW-1).
type deleteGroup struct {
	groupCall
	id string
}

func (in *deleteGroup) plan(ctx context.Context, on *state) (plan, error) {
	g, path, err := in.open(ctx, on, in.id, permitDeleteGroup)
	if err != nil {
		return plan{}, err
	}
	changes, err := on.end(ctx, g.ref(), map[Ref]bool{g.ref(): true})
	if err != nil {
		return plan{}, err
	}
	return in.result(g.ref(), g.Name, path, changes, new(emptypb.Empty), groupDetails{GroupID: g.ID, Name: g.Name}), nil
}

// convertGroup is the intent of ConvertToExternal.
type convertGroup struct {
	groupCall
	id, container, external string
	editor                  bool
}

func (in *convertGroup) plan(ctx context.Context, on *state) (plan, error) {
	g, path, err := in.open(ctx, on, in.id, permitConvert)
	if err != nil {
		return plan{}, err
	}
	if g.ExternalID != "" {
		return plan{}, errGroupIsBound.Withf("group %s is an external one already", g.ID)
	}
	g.ContainerID, g.ExternalID = in.container, in.external
	if err := on.freeExternal(ctx, g); err != nil {
		return plan{}, err
	}
	changes := []*accessv1.Change{groupChange(g)}
	if in.editor {
		changes = append(changes, makeEditor(g, in.caller, on.now))
	}
	return in.result(g.ref(), g.Name, path, changes, groupProto(g),
		groupDetails{GroupID: g.ID, Name: g.Name, Container: g.ContainerID, ExternalID: g.ExternalID, MakeEditor: in.editor}), nil
}

// basicGroups is the intent of ConvertAllToBasic.
type basicGroups struct {
	groupCall
	container string
}

func (in *basicGroups) plan(ctx context.Context, on *state) (plan, error) {
	container, path, err := on.subjectContainer(ctx, in.container)
	if err != nil {
		return plan{}, err
	}
	if err := in.permit(on, in.catalog.permission(container.Type, "unbindExternalGroups"), container); err != nil {
		return plan{}, err
	}
	groups, err := on.externalGroups(ctx, on.tx, in.container)
	if err != nil {
		return plan{}, err
	}
	var changes []*accessv1.Change
	details := groupDetails{Container: in.container}
	for _, g := range groups {
		g.ContainerID, g.ExternalID = "", ""
		changes = append(changes, groupChange(g))
		details.Groups = append(details.Groups, g.ID)
	}
	return in.result(container, "", path, changes, new(emptypb.Empty), details), nil
}

// freeName refuses a name that another group of the organization has (NM-3).
func (on *state) freeName(ctx context.Context, g Group) error {
	other, found, err := on.groupNamed(ctx, on.tx, g.OrganizationID, g.Name)
	if err != nil || !found || other.ID == g.ID {
		return err
	}
	return errGroupName.Withf("a group named %q exists in the organization", g.Name)
}

// freeExternal checks that the container of an external group is one of its
// organization, and that no other group stands for the same one there (NM-3).
func (on *state) freeExternal(ctx context.Context, g Group) error {
	_, path, err := on.subjectContainer(ctx, g.ContainerID)
	if err != nil {
		return err
	}
	if organizationOf(path) != g.OrganizationID {
		return apierr.InvalidField("subject_container_id", "must be a federation or user pool of the group's organization")
	}
	other, found, err := on.groupExternal(ctx, on.tx, g.ContainerID, g.ExternalID)
	if err != nil || !found || other.ID == g.ID {
		return err
	}
	return errGroupExternal.Withf("group %s stands for the external id already", other.ID)
}

// subjectContainer finds the federation or user pool of an id, with its path.
func (on *state) subjectContainer(ctx context.Context, id string) (Ref, []Ref, error) {
	for _, typ := range subjectContainers {
		r := Ref{typ, id}
		path, err := on.path(ctx, on.tx, r)
		if err != nil {
			return Ref{}, nil, fmt.Errorf("read the container: %w", err)
		}
		if len(path) > 0 {
			return r, path, nil
		}
	}
	return Ref{}, nil, errNoContainer(id)
}

// subjectContainers are the types of containers that external groups come from.
var subjectContainers = []string{rules.Federation, rules.UserPool}

func errNoContainer(id string) error {
	return apierr.NotFound("SUBJECT_CONTAINER_NOT_FOUND", "federation or user pool %q not found", id)
}
