package identity

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// Permissions on group mappings, which are held on the federation, and on each group
// that one names (AS-19).
const (
	permCreateMapping = "organization-manager.groupMappings.create"
	permUpdateMapping = "organization-manager.groupMappings.update"
	permDeleteMapping = "organization-manager.groupMappings.delete"
	permGroupMembers  = "organization-manager.groups.updateMembers"
	permExternalGroup = "organization-manager.groups.updateExternal" // of an external group (GR-4)
)

// maxMappingItems bounds the items of a mapping.
const maxMappingItems = 10_000

// groupMappings is yandex.cloud.organizationmanager.v1.GroupMappingService.
type groupMappings struct {
	orgv1.UnsafeGroupMappingServiceServer // a missing method does not compile
	*Service
}

// mappingItem is a group of an identity provider and the group that it is here.
type mappingItem struct{ external, internal string }

func (i mappingItem) proto() *orgv1.GroupMappingItem {
	return &orgv1.GroupMappingItem{ExternalGroupId: i.external, InternalGroupId: i.internal}
}

// Get reads the mapping of a federation. Fails: GROUP_MAPPING_NOT_FOUND.
func (s *groupMappings) Get(ctx context.Context, req *orgv1.GetGroupMappingRequest) (*orgv1.GetGroupMappingResponse, error) {
	enabled, err := s.store.GroupMapping(ctx, s.store.db, req.GetFederationId())
	if err != nil {
		return nil, err
	}
	return &orgv1.GetGroupMappingResponse{GroupMapping: &orgv1.GroupMapping{FederationId: req.GetFederationId(), Enabled: enabled}}, nil
}

// Create makes the mapping of a federation, without items. Fails:
// GROUP_MAPPING_EXISTS, FEDERATION_NOT_ACTIVE, BEING_DELETED.
func (s *groupMappings) Create(ctx context.Context, req *orgv1.CreateGroupMappingRequest) (*operationpb.Operation, error) {
	return s.onFederation(ctx, req.GetFederationId(), func(ctx context.Context, tx *sql.Tx, f SAMLFederation) (op operation.Operation, err error) {
		if err := s.store.InsertGroupMapping(ctx, tx, f.ID, req.GetEnabled()); err != nil {
			return op, err
		}
		return s.mappingDone(ctx, tx, f, mappingChange{
			description: "Create group mapping", event: "CreateGroupMapping", permission: permCreateMapping,
			metadata: &orgv1.CreateGroupMappingMetadata{FederationId: f.ID}, response: &orgv1.GroupMapping{FederationId: f.ID, Enabled: req.GetEnabled()},
		})
	})
}

// mappingFields are the fields that a mask may name; federation_id changes nothing.
var mappingFields = map[string]bool{"enabled": true}

// Update turns the mapping of a federation on or off. Fails: GROUP_MAPPING_NOT_FOUND,
// FEDERATION_NOT_ACTIVE, BEING_DELETED.
func (s *groupMappings) Update(ctx context.Context, req *orgv1.UpdateGroupMappingRequest) (*operationpb.Operation, error) {
	fields, err := fieldsOf(req.GetUpdateMask(), mappingFields, "federation_id")
	if err != nil {
		return nil, err
	}
	return s.onFederation(ctx, req.GetFederationId(), func(ctx context.Context, tx *sql.Tx, f SAMLFederation) (op operation.Operation, err error) {
		enabled, err := s.store.GroupMapping(ctx, tx, f.ID)
		if err != nil {
			return op, err
		}
		if slices.Contains(fields, "enabled") {
			enabled = req.GetEnabled()
		}
		if err := s.store.UpdateGroupMapping(ctx, tx, f.ID, enabled); err != nil {
			return op, err
		}
		return s.mappingDone(ctx, tx, f, mappingChange{
			description: "Update group mapping", event: "UpdateGroupMapping", permission: permUpdateMapping, details: map[string]any{"enabled": enabled},
			metadata: &orgv1.UpdateGroupMappingMetadata{FederationId: f.ID}, response: &orgv1.GroupMapping{FederationId: f.ID, Enabled: enabled},
		})
	})
}

// Delete deletes the mapping of a federation with its items; members that it made
// stay. Fails: GROUP_MAPPING_NOT_FOUND, FEDERATION_NOT_ACTIVE, BEING_DELETED.
func (s *groupMappings) Delete(ctx context.Context, req *orgv1.DeleteGroupMappingRequest) (*operationpb.Operation, error) {
	return s.onFederation(ctx, req.GetFederationId(), func(ctx context.Context, tx *sql.Tx, f SAMLFederation) (op operation.Operation, err error) {
		if _, err := s.store.GroupMapping(ctx, tx, f.ID); err != nil {
			return op, err
		}
		if err := s.store.DeleteGroupMapping(ctx, tx, f.ID); err != nil {
			return op, err
		}
		return s.mappingDone(ctx, tx, f, mappingChange{
			description: "Delete group mapping", event: "DeleteGroupMapping", permission: permDeleteMapping,
			metadata: &orgv1.DeleteGroupMappingMetadata{FederationId: f.ID}, response: new(emptypb.Empty),
		})
	})
}

// ListItems reads one page of the items of a mapping, by the name of the external
// group and then the id of the internal one. Fails: GROUP_MAPPING_NOT_FOUND.
func (s *groupMappings) ListItems(ctx context.Context, req *orgv1.ListGroupMappingItemsRequest) (*orgv1.ListGroupMappingItemsResponse, error) {
	f, err := filter.Parse(req.GetFilter(), "external_group_id", "internal_group_id")
	if err != nil {
		return nil, err
	}
	scope := []string{"group mapping items", req.GetFederationId(), f.Field, f.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	if _, err := s.store.GroupMapping(ctx, s.store.db, req.GetFederationId()); err != nil {
		return nil, err
	}
	all, err := s.store.MappingItems(ctx, s.store.db, req.GetFederationId())
	if err != nil {
		return nil, err
	}
	if f.Field != "" {
		all = slices.DeleteFunc(all, func(i mappingItem) bool {
			return f.Field == "external_group_id" && i.external != f.Value || f.Field == "internal_group_id" && i.internal != f.Value
		})
	}
	start := min(int(after.Time), len(all)) // a position is how many came before; writes in between may shift it
	rows, size := all[start:], page.Size(req.GetPageSize())
	resp := new(orgv1.ListGroupMappingItemsResponse)
	for _, i := range rows[:min(len(rows), size)] {
		resp.GroupMappingItems = append(resp.GroupMappingItems, i.proto())
	}
	fit := page.Fit(len(resp.GetGroupMappingItems()), func(i int) int { return proto.Size(resp.GetGroupMappingItems()[i]) })
	if fit < len(rows) {
		resp.GroupMappingItems = resp.GetGroupMappingItems()[:fit]
		resp.NextPageToken, err = s.pages.Seal(page.Position{Time: int64(start + fit)}, scope...)
	}
	return resp, err
}

// UpdateItems adds and removes items, all or none. Fails: GROUP_MAPPING_NOT_FOUND,
// GROUP_NOT_FOUND for one that is added, PERMISSION_DENIED on a group whose members the
// caller may not change (AS-19), TOO_MANY_MAPPING_ITEMS, FEDERATION_NOT_ACTIVE,
// BEING_DELETED.
func (s *groupMappings) UpdateItems(ctx context.Context, req *orgv1.UpdateGroupMappingItemsRequest) (*operationpb.Operation, error) {
	deltas, err := mappingDeltas(req.GetGroupMappingItemDeltas())
	if err != nil {
		return nil, err
	}
	known, err := s.store.SAMLFederation(ctx, s.store.db, req.GetFederationId())
	if err != nil {
		return nil, err
	}
	refusal := s.mayMap(ctx, known, deltas) // asked before the transaction, and no news to a replay
	return s.onFederation(ctx, req.GetFederationId(), func(ctx context.Context, tx *sql.Tx, f SAMLFederation) (op operation.Operation, err error) {
		if refusal != nil {
			return op, refusal
		}
		if _, err := s.store.GroupMapping(ctx, tx, f.ID); err != nil {
			return op, err
		}
		resp := new(orgv1.UpdateGroupMappingItemsResponse)
		for _, d := range deltas {
			changed, err := s.store.changeMappingItem(ctx, tx, f.ID, mappingItem{d.GetItem().GetExternalGroupId(), d.GetItem().GetInternalGroupId()},
				d.GetAction() == orgv1.GroupMappingItemDelta_ADD)
			if err != nil {
				return op, err
			}
			if changed {
				resp.GroupMappingItemDeltas = append(resp.GroupMappingItemDeltas, d)
			}
		}
		n, err := s.store.count(ctx, tx, `SELECT COUNT(*) FROM identity_group_mapping_items WHERE federation_id = $1`, f.ID)
		if err != nil {
			return op, err
		}
		if n > maxMappingItems {
			return op, errTooManyItems
		}
		return s.mappingDone(ctx, tx, f, mappingChange{
			description: "Update group mapping items", event: "UpdateGroupMapping", permission: permUpdateMapping,
			details:  map[string]any{"changed": len(resp.GetGroupMappingItemDeltas())},
			metadata: &orgv1.UpdateGroupMappingItemsMetadata{FederationId: f.ID}, response: resp,
		})
	})
}

// mappingDeltas reads the deltas of a request; one that stands twice counts once.
func mappingDeltas(deltas []*orgv1.GroupMappingItemDelta) ([]*orgv1.GroupMappingItemDelta, error) {
	actions := make(map[mappingItem]orgv1.GroupMappingItemDelta_Action, len(deltas))
	var distinct []*orgv1.GroupMappingItemDelta
	for i, d := range deltas {
		field := fmt.Sprintf("group_mapping_item_deltas[%d]", i)
		item := mappingItem{d.GetItem().GetExternalGroupId(), d.GetItem().GetInternalGroupId()}
		switch before, again := actions[item]; {
		case d.GetItem() == nil:
			return nil, apierr.InvalidField(field+".item", "is missing")
		case sqldb.CheckText(item.external) != nil || sqldb.CheckText(item.internal) != nil:
			return nil, apierr.InvalidField(field+".item", "must be valid UTF-8 without NUL")
		case d.GetAction() != orgv1.GroupMappingItemDelta_ADD && d.GetAction() != orgv1.GroupMappingItemDelta_REMOVE:
			return nil, apierr.InvalidField(field+".action", "must be ADD or REMOVE")
		case again && before != d.GetAction():
			return nil, apierr.InvalidField(field, "the same item is both added and removed")
		case again:
			continue
		}
		actions[item] = d.GetAction()
		distinct = append(distinct, d)
	}
	return distinct, nil
}

// mayMap refuses deltas of groups whose members the caller may not change (AS-19), and
// additions of groups that are not in the organization of the federation. What is left
// of a group that is gone may be removed.
func (s *Service) mayMap(ctx context.Context, f SAMLFederation, deltas []*orgv1.GroupMappingItemDelta) error {
	var ids []string
	for _, d := range deltas {
		ids = append(ids, d.GetItem().GetInternalGroupId())
	}
	found, err := s.groups(ctx, ids)
	if err != nil {
		return err
	}
	wants := make(map[string]string, len(found)) // permission, of a group in the organization
	for _, g := range found {
		switch {
		case g.GetOrganizationId() != f.OrganizationID:
		case g.GetExternal():
			wants[g.GetId()] = permExternalGroup
		default:
			wants[g.GetId()] = permGroupMembers
		}
	}
	refs := map[string][]authz.Resource{} // by permission
	for i, d := range deltas {
		groupID := d.GetItem().GetInternalGroupId()
		switch {
		case wants[groupID] != "":
			refs[wants[groupID]] = append(refs[wants[groupID]], authz.Resource{Type: typeGroup, ID: groupID})
		case d.GetAction() == orgv1.GroupMappingItemDelta_ADD:
			return errGroupNotFound.Withf("group_mapping_item_deltas[%d].item.internal_group_id: no group of the organization has this id", i)
		}
	}
	for _, permission := range []string{permGroupMembers, permExternalGroup} {
		for some := range slices.Chunk(refs[permission], authz.MaxEach) {
			may, err := s.decider.AuthorizeEach(ctx, authn.FromContext(ctx), permission, some)
			if err != nil {
				return err
			}
			if i := slices.Index(may, false); i >= 0 {
				return apierr.Denied(apierr.ReasonPermissionDenied, "permission %s on group %s is missing (AS-19)", permission, some[i].ID)
			}
		}
	}
	return nil
}

// mappingChange is a write on a mapping.
type mappingChange struct {
	description, event, permission string
	metadata, response             proto.Message
	details                        map[string]any
}

// mappingDone ends a write on a mapping: its operation, done, and its audit record
// (AU-4).
func (s *Service) mappingDone(ctx context.Context, tx *sql.Tx, f SAMLFederation, c mappingChange) (operation.Operation, error) {
	op, err := s.insertFederationOperation(ctx, tx, f, c.description, c.metadata, c.response)
	if err != nil {
		return op, err
	}
	return op, s.recordFederation(ctx, tx, f, federationEvent{
		name: c.event, status: audit.Done, permission: c.permission, operation: op.ID, details: c.details,
	})
}

// letGoGroups drops the items of groups that are gone.
func (s *Service) letGoGroups(ctx context.Context, tx *sql.Tx, ids []string) error {
	for _, groupID := range ids {
		for _, table := range []string{"identity_group_mapping_items WHERE internal_group_id", "identity_mapped_members WHERE group_id"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` = $1`, groupID); err != nil { //nolint:gosec // names of our own
				return fmt.Errorf("drop mapping of group: %w", err)
			}
		}
	}
	return nil
}
