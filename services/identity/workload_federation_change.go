package identity

import (
	"context"
	"database/sql"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	oidcv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload/oidc"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// federationFields are the fields that a mask may name, and what each does. An empty
// name, address or list of audiences means unchanged; an empty description and no labels
// mean clear (NM-8).
var federationFields = map[string]func(f *Federation, req *oidcv1.UpdateFederationRequest){
	"name": func(f *Federation, req *oidcv1.UpdateFederationRequest) {
		if req.GetName() != "" {
			f.Name = req.GetName()
		}
	},
	"description": func(f *Federation, req *oidcv1.UpdateFederationRequest) { f.Description = req.GetDescription() },
	"labels":      func(f *Federation, req *oidcv1.UpdateFederationRequest) { f.Labels = req.GetLabels() },
	"disabled":    func(f *Federation, req *oidcv1.UpdateFederationRequest) { f.Disabled = req.GetDisabled() },
	"audiences": func(f *Federation, req *oidcv1.UpdateFederationRequest) {
		if len(req.GetAudiences()) > 0 {
			f.Audiences = req.GetAudiences()
		}
	},
	"jwks_url": func(f *Federation, req *oidcv1.UpdateFederationRequest) {
		if req.GetJwksUrl() != "" {
			f.KeysURL = req.GetJwksUrl()
		}
	},
}

// Update changes the named fields of a federation. Once it is disabled the tokens of its
// workloads are void when the operation is done (WI-3). Fails: FEDERATION_NOT_FOUND,
// BEING_DELETED, <KIND>_NOT_ACTIVE of what it lies in (DL-15), FEDERATION_NAME_TAKEN.
func (s *federations) Update(ctx context.Context, req *oidcv1.UpdateFederationRequest) (*operationpb.Operation, error) {
	fields, err := named(req.GetUpdateMask().GetPaths(), "federation_id", slices.Sorted(maps.Keys(federationFields))...)
	if err != nil {
		return nil, err
	}
	known, err := s.store.Federation(ctx, s.store.db, req.GetFederationId())
	if err != nil {
		return nil, err
	}
	at, refusal := s.siteOf(ctx, known.FolderID) // which never changes
	var ticket *jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		before, err := s.store.LockFederation(ctx, tx, known.ID)
		if err == nil {
			err = before.usable()
		}
		if err == nil {
			err = refusal
		}
		if err != nil {
			return op, err
		}
		after := before
		for field, change := range federationFields {
			if fields[field] {
				change(&after, req)
			}
		}
		if err := s.wellFormed(after); err != nil {
			return op, err
		}
		op, ticket, err = s.updateFederation(ctx, tx, before, after, at.path, fields)
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

// updateFederation writes an update. One that disables the federation is done when the
// job is that it returns; another one is done at once.
func (s *Service) updateFederation(ctx context.Context, tx *sql.Tx, before, after Federation, path []audit.Resource, fields map[string]bool) (op operation.Operation, _ *jobs.Ticket, err error) {
	var ending [][]byte
	if after.Disabled && !before.Disabled {
		if ending, err = s.renewSessions(ctx, tx, after.ID); err != nil {
			return op, nil, err
		}
	}
	n := operation.New{
		Resource: after.resource(), ViewPermission: permissionGetFederation, Description: "Update workload identity federation",
		CreatedBy: authn.FromContext(ctx).ID, Metadata: &oidcv1.UpdateFederationMetadata{FederationId: after.ID},
	}
	if len(ending) == 0 {
		n.Response = after.message(true)
	}
	if op, err = s.operations.Insert(ctx, tx, n); err != nil {
		return op, nil, err
	}
	if err := s.store.UpdateFederation(ctx, tx, after); err != nil {
		return op, nil, err
	}
	changed := slices.DeleteFunc(slices.Sorted(maps.Keys(fields)), func(f string) bool { return !fields[f] })
	if err := s.recordEvent(ctx, tx, event{
		name: "workload.oidc.UpdateFederation", permission: "iam.workloadIdentityFederations.update", on: after.resource(),
		path: append(path, audit.Resource{Type: typeFederation, ID: after.ID, Name: after.Name}),
		details: map[string]any{
			"operation_id": op.ID, "fields": changed, "audiences": after.Audiences, "jwks_url": after.KeysURL, "disabled": after.Disabled,
		},
	}); err != nil || len(ending) == 0 {
		return op, nil, err
	}
	ticket, err := s.jobs.Enqueue(ctx, tx, jobs.Job{
		Kind: jobEndWorkloadTokens, Payload: workloadEnding{Operation: op.ID, Updated: after.ID, Sessions: ending},
	})
	return op, &ticket, err
}

// renewSessions gives the credentials of a federation other sessions, and returns those
// that are to end: a federation that is enabled again lets workloads in anew, and none
// of the tokens of before.
func (s *Service) renewSessions(ctx context.Context, tx *sql.Tx, federationID string) ([][]byte, error) {
	all, err := s.store.CredentialsOfFederation(ctx, tx, federationID)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if err := s.store.RenewTokenSession(ctx, tx, c.ID); err != nil {
			return nil, err
		}
	}
	return sessionsOf(all), nil
}

// Delete deletes a federation: the checker lets go of it and its roles, the tokens of
// its workloads end, then its row goes with its credentials. Fails:
// FEDERATION_NOT_FOUND, BEING_DELETED.
func (s *federations) Delete(ctx context.Context, req *oidcv1.DeleteFederationRequest) (*operationpb.Operation, error) {
	on := Federation{ID: req.GetFederationId()}.resource()
	path, refusal := s.pathTo(ctx, on)
	var ticket jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		f, err := s.store.LockFederation(ctx, tx, on.ID)
		if err == nil {
			err = f.usable()
		}
		if err == nil {
			err = refusal
		}
		if err != nil {
			return op, err
		}
		path[len(path)-1].Name = f.Name
		if op, err = s.operations.Insert(ctx, tx, operation.New{
			Resource: on, ViewPermission: permissionGetFederation, Description: "Delete workload identity federation",
			CreatedBy: authn.FromContext(ctx).ID, Metadata: &oidcv1.DeleteFederationMetadata{FederationId: f.ID},
		}); err != nil {
			return op, err
		}
		f.State, f.Operation = Deleting, op.ID
		if err := s.store.UpdateFederation(ctx, tx, f); err != nil {
			return op, err
		}
		if err := s.recordEvent(ctx, tx, event{
			name: "workload.oidc.DeleteFederation", status: audit.Started, permission: "iam.workloadIdentityFederations.delete", on: on,
			path: path, details: map[string]any{"operation_id": op.ID},
		}); err != nil {
			return op, err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobDeleteFederation, Payload: federationJob{op.ID, f.ID, path}})
		return op, err
	})
	if err != nil {
		return nil, err
	}
	if again {
		return op.Answer()
	}
	return s.finish(ctx, op, ticket)
}

// deleteFederation is the job that deletes a federation. One that went with its folder
// meanwhile is deleted as well.
func (s *Service) deleteFederation(ctx context.Context, job federationJob) error {
	f, err := s.store.Federation(ctx, s.store.db, job.Federation)
	if err != nil && apierr.CodeOf(err) != codes.NotFound {
		return err
	}
	if err == nil && f.Operation != job.Operation {
		return nil
	}
	if err := s.removeFederationFromTree(ctx, job.Federation); err != nil {
		return err
	}
	all, err := s.store.CredentialsOfFederation(ctx, s.store.db, job.Federation) // none is added any more
	if err != nil {
		return err
	}
	if err := s.endTokensOf(ctx, sessionsOf(all)); err != nil {
		return err
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.store.DeleteFederations(ctx, tx, job.Federation); err != nil {
			return err
		}
		if err := s.recordEvent(ctx, tx, event{
			name: "workload.oidc.DeleteFederation", status: audit.Done, path: job.Path, details: map[string]any{"operation_id": job.Operation},
		}); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, new(emptypb.Empty))
	})
}

// letGoFederations drops the rows of federations that went with their folder, and ends
// the tokens of their workloads, whose accounts may be elsewhere.
func (s *Service) letGoFederations(ctx context.Context, tx *sql.Tx, ids []string) error {
	var ending [][]byte
	for _, federationID := range ids {
		all, err := s.store.CredentialsOfFederation(ctx, tx, federationID)
		if err != nil {
			return err
		}
		ending = append(ending, sessionsOf(all)...)
	}
	if err := s.store.DeleteFederations(ctx, tx, ids...); err != nil || len(ending) == 0 {
		return err
	}
	_, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobEndWorkloadTokens, Payload: workloadEnding{Sessions: ending}})
	return err
}
