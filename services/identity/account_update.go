package identity

import (
	"context"
	"database/sql"
	"maps"
	"slices"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// accountFields are the fields that a mask may name, and what each does. An empty
// name means unchanged; an empty description, no labels or no end mean clear (NM-8).
var accountFields = map[string]func(a *ServiceAccount, req *iamv1.UpdateServiceAccountRequest){
	"name": func(a *ServiceAccount, req *iamv1.UpdateServiceAccountRequest) {
		if req.GetName() != "" {
			a.Name = req.GetName()
		}
	},
	"description": func(a *ServiceAccount, req *iamv1.UpdateServiceAccountRequest) { a.Description = req.GetDescription() },
	"labels":      func(a *ServiceAccount, req *iamv1.UpdateServiceAccountRequest) { a.Labels = req.GetLabels() },
	"expires_at": func(a *ServiceAccount, req *iamv1.UpdateServiceAccountRequest) {
		a.ExpiresAt = timeOf(req.GetExpiresAt())
	},
}

// maskedFields returns the fields that a mask names, each once; all of them for an
// absent mask. The id is accepted and changes nothing, as clients send it.
func maskedFields(mask *fieldmaskpb.FieldMask) ([]string, error) {
	if len(mask.GetPaths()) == 0 {
		return slices.Sorted(maps.Keys(accountFields)), nil
	}
	var named []string
	for _, path := range mask.GetPaths() {
		switch {
		case path == "service_account_id" || slices.Contains(named, path):
		case accountFields[path] != nil:
			named = append(named, path)
		default:
			return nil, apierr.InvalidField("update_mask", "%q is not a field that can be changed", path)
		}
	}
	return named, nil
}

// Update changes the named fields of a service account (SK-7). Fails:
// SERVICE_ACCOUNT_NOT_FOUND, SERVICE_ACCOUNT_BUSY, BEING_DELETED, <KIND>_NOT_ACTIVE of
// what it lies in (DL-15), SERVICE_ACCOUNT_NAME_TAKEN (NM-3), LAST_OWNER for an end of
// a last owner (OW-1).
func (s *accounts) Update(ctx context.Context, req *iamv1.UpdateServiceAccountRequest) (*operationpb.Operation, error) {
	fields, err := maskedFields(req.GetUpdateMask())
	if err != nil {
		return nil, err
	}
	known, err := s.store.ServiceAccount(ctx, s.store.db, req.GetServiceAccountId())
	if err != nil {
		return nil, err
	}
	at, refusal := s.siteOf(ctx, known.FolderID) // which never changes
	var ticket *jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		before, err := s.store.LockAccount(ctx, tx, known.ID)
		if err == nil {
			err = before.idle()
		}
		if err == nil {
			err = refusal
		}
		if err != nil {
			return op, err
		}
		after := before
		for _, field := range fields {
			accountFields[field](&after, req)
		}
		if err := after.wellFormed(); err != nil {
			return op, err
		}
		op, ticket, err = s.updateAccount(ctx, tx, before, after, at.of(after), fields)
		return op, err
	})
	if err != nil {
		return nil, err
	}
	if again || ticket == nil {
		return op.Answer()
	}
	return s.finish(ctx, op, *ticket)
}

// updateAccount writes an update. A new end is a change of standing, whose job is
// returned; without one the operation is done.
func (s *Service) updateAccount(ctx context.Context, tx *sql.Tx, before, after ServiceAccount, path []audit.Resource, fields []string) (op operation.Operation, _ *jobs.Ticket, err error) {
	n := operation.New{
		Resource: before.resource(), ViewPermission: permissionGetAccount, Description: "Update service account",
		CreatedBy: authn.FromContext(ctx).ID, Metadata: &iamv1.UpdateServiceAccountMetadata{ServiceAccountId: before.ID},
	}
	e := event{
		name: "UpdateServiceAccount", status: audit.Done, permission: permissionUpdateAccount, on: before.resource(), path: path,
		details: map[string]any{"fields": fields},
	}
	if after.ExpiresAt.Equal(before.ExpiresAt) {
		n.Response = after.proto()
		if op, err = s.operations.Insert(ctx, tx, n); err != nil {
			return op, nil, err
		}
		if err := s.store.UpdateAccount(ctx, tx, after); err != nil {
			return op, nil, err
		}
		e.details["operation_id"] = op.ID
		return op, nil, s.recordEvent(ctx, tx, e)
	}
	if err := s.ahead(after.ExpiresAt); err != nil {
		return op, nil, err
	}
	change := standingChange{
		State: before.State, ExpiresAt: after.ExpiresAt,
		Undo: &accountTexts{before.Name, before.Description, before.Labels},
	}
	after.ExpiresAt = before.ExpiresAt // until the checker knows
	op, ticket, err := s.changeStanding(ctx, tx, after, change, n, e)
	return op, &ticket, err
}
