package resourcemanager

import (
	"context"
	"database/sql"
	"slices"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/operation"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// updateRequest is what the update requests of all kinds have in common.
type updateRequest interface {
	GetUpdateMask() *fieldmaskpb.FieldMask
	GetName() string
	GetDescription() string
	GetLabels() map[string]string
}

// settable are the fields that a mask may name, and what each does. An empty name
// means unchanged, an empty description or no labels mean clear (NM-8).
var settable = map[string]func(r *Resource, req updateRequest){
	"name": func(r *Resource, req updateRequest) {
		if req.GetName() != "" {
			r.Name = req.GetName()
		}
	},
	"description": func(r *Resource, req updateRequest) { r.Description = req.GetDescription() },
	"labels":      func(r *Resource, req updateRequest) { r.Labels = req.GetLabels() },
	"title": func(r *Resource, req updateRequest) {
		if titled, ok := req.(interface{ GetTitle() string }); ok {
			r.Title = titled.GetTitle()
		}
	},
}

// changes returns the fields that a request changes, by name: those in its mask,
// or all that the kind has when there is no mask. The resource's own id may stand
// in a mask and says nothing, since the Terraform provider sends it (B3).
func changes(k *kind, mask *fieldmaskpb.FieldMask) ([]string, error) {
	all := []string{"name", "description", "labels"}
	if k == organization {
		all = []string{"name", "description", "title", "labels"}
	}
	if len(mask.GetPaths()) == 0 {
		return all, nil
	}
	var named []string
	for _, path := range mask.GetPaths() {
		switch {
		case path == k.name+"_id" || slices.Contains(named, path):
		case slices.Contains(all, path):
			named = append(named, path)
		default:
			return nil, apierr.InvalidField("update_mask", "%q is not a field that can be changed", path)
		}
	}
	return named, nil
}

// update changes the named fields of a resource (CR-9). Fails: <KIND>_NOT_FOUND,
// <KIND>_NOT_ACTIVE of it or of its parent (DL-15), FOLDER_NAME_TAKEN (NM-3).
func (s *Service) update(ctx context.Context, k *kind, resourceID string, req updateRequest) (*operationpb.Operation, error) {
	fields, err := changes(k, req.GetUpdateMask())
	if err != nil {
		return nil, err
	}
	op, _, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		r, err := s.lockWithParent(ctx, tx, k, resourceID)
		if err != nil {
			return op, err
		}
		if r.Status != Active {
			return op, errNotActive(k, r)
		}
		for _, field := range fields {
			settable[field](&r, req)
		}
		if err := wellFormed(r); err != nil {
			return op, err
		}
		if err := s.store.Update(ctx, tx, r); err != nil {
			return op, err
		}
		if op, err = s.operations.Insert(ctx, tx, operation.New{
			Resource: k.resource(r.ID), ViewPermission: k.get, Description: "Update " + k.name,
			CreatedBy: authn.FromContext(ctx).ID, Metadata: k.updateMetadata(r.ID), Response: k.message(r),
		}); err != nil {
			return op, err
		}
		return op, s.record(ctx, tx, r, event{
			verb: verbUpdate, status: audit.Done, permission: k.update, on: k.resource(r.ID),
			details: map[string]any{"operation_id": op.ID, "fields": fields},
		})
	})
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// lockWithParent locks the parent of a resource, which must be in use (DL-15), and
// then the resource.
func (s *Service) lockWithParent(ctx context.Context, tx *sql.Tx, k *kind, resourceID string) (Resource, error) {
	if k.parent != nil {
		r, err := s.store.Get(ctx, tx, k, resourceID) // its parent never changes
		if err != nil {
			return Resource{}, err
		}
		if err := s.lockActive(ctx, tx, k.parent, r.ParentID); err != nil {
			return Resource{}, err
		}
	}
	return s.store.Lock(ctx, tx, k, resourceID)
}
