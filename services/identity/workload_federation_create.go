package identity

import (
	"context"
	"database/sql"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	oidcv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload/oidc"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Jobs that make a federation known to the checker, and that delete one.
const (
	jobCreateFederation = "create-workload-federation"
	jobDeleteFederation = "delete-workload-federation"
)

// federationJob is the payload of both.
type federationJob struct {
	Operation  string           `json:"operation"`
	Federation string           `json:"federation"`
	Path       []audit.Resource `json:"path"` // for the audit record
}

// Create creates a federation in a folder. It is known as a resource when the operation
// is done. Fails: FOLDER_NOT_FOUND, <KIND>_NOT_ACTIVE (DL-15), FEDERATION_NAME_TAKEN,
// QUOTA_EXCEEDED (QL-2).
func (s *federations) Create(ctx context.Context, req *oidcv1.CreateFederationRequest) (*operationpb.Operation, error) {
	f := Federation{
		ID: id.New(id.WorkloadFederation), FolderID: req.GetFolderId(), Name: req.GetName(), Description: req.GetDescription(), Labels: req.GetLabels(),
		Disabled: req.GetDisabled(), Audiences: req.GetAudiences(), Issuer: req.GetIssuer(), KeysURL: req.GetJwksUrl(),
		State: Creating, CreatedBy: authn.FromContext(ctx).ID, CreatedAt: s.now(),
	}
	if err := s.wellFormed(f); err != nil {
		return nil, err
	}
	at, refusal := s.siteOf(ctx, f.FolderID) // asked before the transaction, and no news to a replay
	f.CloudID = at.cloudID
	on := quota.Resource{Type: typeCloud, ID: f.CloudID}
	limit, err := s.limits.Limit(ctx, catalog.QuotaWorkloadFederations, on)
	if err != nil {
		return nil, err
	}
	var ticket jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		if refusal != nil {
			return op, refusal
		}
		if err := s.roomForFederation(ctx, tx, on, limit); err != nil {
			return op, err
		}
		if op, err = s.operations.Insert(ctx, tx, operation.New{
			Resource: f.resource(), ViewPermission: permissionGetFederation, Description: "Create workload identity federation",
			CreatedBy: f.CreatedBy, Metadata: &oidcv1.CreateFederationMetadata{FederationId: f.ID},
		}); err != nil {
			return op, err
		}
		f.Operation = op.ID
		if err := s.store.InsertFederation(ctx, tx, f); err != nil {
			return op, err
		}
		path := append(at.path, audit.Resource{Type: typeFederation, ID: f.ID, Name: f.Name})
		if err := s.recordEvent(ctx, tx, event{
			name: "workload.oidc.CreateFederation", status: audit.Started, permission: "iam.workloadIdentityFederations.create",
			on: authz.Resource{Type: typeFolder, ID: f.FolderID}, path: path,
			details: map[string]any{"operation_id": op.ID, "issuer": f.Issuer, "audiences": f.Audiences, "jwks_url": f.KeysURL, "disabled": f.Disabled},
		}); err != nil {
			return op, err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobCreateFederation, Payload: federationJob{op.ID, f.ID, path}})
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

// roomForFederation refuses when a cloud has as many federations as its quota allows
// (QL-2). The lock makes creations in one cloud follow one another.
func (s *Service) roomForFederation(ctx context.Context, tx *sql.Tx, cloud quota.Resource, limit int64) error {
	if err := sqldb.Lock(ctx, s.store.db, tx, "workload federations of "+cloud.ID); err != nil {
		return err
	}
	n, err := s.store.CountFederations(ctx, tx, cloud.ID)
	if err != nil {
		return err
	}
	return quota.Exceeded(catalog.QuotaWorkloadFederations, cloud, limit, n, 1)
}

// registerFederation is the job that makes a federation known to the checker and ends
// its operation.
func (s *Service) registerFederation(ctx context.Context, job federationJob) error {
	f, err := s.store.Federation(ctx, s.store.db, job.Federation)
	if apierr.CodeOf(err) == codes.NotFound {
		return s.failFederationCreation(ctx, job, errFederationParentDeleted)
	}
	if err != nil || f.Operation != job.Operation {
		return err // done before, and lives on
	}
	_, err = s.tree.RegisterResource(server.AsUnit(ctx), &accessv1.RegisterResourceRequest{
		Resource: &accessv1.Resource{Type: typeFederation, Id: f.ID}, Parent: &accessv1.Resource{Type: typeFolder, Id: f.FolderID},
	})
	switch code := apierr.CodeOf(err); {
	case code == codes.NotFound || code == codes.FailedPrecondition:
		return s.failFederationCreation(ctx, job, errFederationParentDeleted.WithCause(err))
	case err != nil:
		return apierr.FromRPC(err)
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		f, err := s.store.LockFederation(ctx, tx, job.Federation)
		if apierr.CodeOf(err) == codes.NotFound {
			return s.operations.Fail(ctx, tx, job.Operation, nil, errFederationParentDeleted)
		}
		if err != nil || f.Operation != job.Operation {
			return err
		}
		f.State, f.Operation = Active, ""
		if err := s.store.UpdateFederation(ctx, tx, f); err != nil {
			return err
		}
		if err := s.recordEvent(ctx, tx, event{
			name: "workload.oidc.CreateFederation", status: audit.Done, path: job.Path, details: map[string]any{"operation_id": job.Operation},
		}); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, f.message(true))
	})
}

// failFederationCreation ends a creation that the deletion of its folder overtook.
func (s *Service) failFederationCreation(ctx context.Context, job federationJob, cause error) error {
	if err := s.removeFederationFromTree(ctx, job.Federation); err != nil {
		return err
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.store.DeleteFederations(ctx, tx, job.Federation); err != nil {
			return err
		}
		return s.operations.Fail(ctx, tx, job.Operation, nil, cause)
	})
}

func (s *Service) removeFederationFromTree(ctx context.Context, federationID string) error {
	_, err := s.tree.RemoveResource(server.AsUnit(ctx), &accessv1.RemoveResourceRequest{
		Resource: &accessv1.Resource{Type: typeFederation, Id: federationID},
	})
	return apierr.FromRPC(err)
}
