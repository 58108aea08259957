package identity

import (
	"context"
	"database/sql"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	workloadv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// federatedCredentialKind is what federated credentials have in common with the keys of
// service accounts.
var federatedCredentialKind = keyKind{
	table: "identity_federated_credentials", typ: "iam.federatedCredential", name: "federated credential", event: "FederatedCredential",
	permissions: "iam.federatedCredentials", quota: catalog.QuotaFederatedCredentials, notFound: ReasonFederatedCredentialNotFound,
}

// federatedCredentials is yandex.cloud.iam.v1.workload.FederatedCredentialService.
type federatedCredentials struct {
	workloadv1.UnsafeFederatedCredentialServiceServer // a missing method does not compile
	*Service
}

func (c FederatedCredential) message() *workloadv1.FederatedCredential {
	return &workloadv1.FederatedCredential{
		Id: c.ID, ServiceAccountId: c.AccountID, FederationId: c.FederationID, ExternalSubjectId: c.Subject, CreatedAt: timestamppb.New(c.CreatedAt),
	}
}

// accountOfCredential resolves a credential to its service account (SK-2).
func (s *Service) accountOfCredential(ctx context.Context, credentialID string) (authz.Resource, error) {
	c, err := s.store.FederatedCredential(ctx, s.store.db, credentialID)
	return authz.Resource{Type: typeServiceAccount, ID: c.AccountID}, err
}

// Get reads a credential. Fails: FEDERATED_CREDENTIAL_NOT_FOUND.
func (s *federatedCredentials) Get(ctx context.Context, req *workloadv1.GetFederatedCredentialRequest) (*workloadv1.FederatedCredential, error) {
	c, err := s.store.FederatedCredential(ctx, s.store.db, req.GetFederatedCredentialId())
	if err != nil {
		return nil, err
	}
	return c.message(), nil
}

// List reads one page of the credentials of an account, oldest first (NM-7). Whoever may
// list them sees all.
func (s *federatedCredentials) List(ctx context.Context, req *workloadv1.ListFederatedCredentialsRequest) (*workloadv1.ListFederatedCredentialsResponse, error) {
	all, next, err := listKeys(ctx, s.Service, &federatedCredentialKind, req.GetServiceAccountId(), req, s.store.FederatedCredentials,
		func(c FederatedCredential) (proto.Message, page.Position) { return c.message(), c.position() })
	if err != nil {
		return nil, err
	}
	resp := &workloadv1.ListFederatedCredentialsResponse{NextPageToken: next}
	for _, c := range all {
		resp.FederatedCredentials = append(resp.FederatedCredentials, c.message())
	}
	return resp, nil
}

// Create lets a workload act as an account, which needs rights on both sides (WI-4): the
// rule of the method has them. Fails: SERVICE_ACCOUNT_NOT_FOUND, FEDERATION_NOT_FOUND,
// BEING_DELETED, FEDERATED_CREDENTIAL_EXISTS, QUOTA_EXCEEDED.
func (s *federatedCredentials) Create(ctx context.Context, req *workloadv1.CreateFederatedCredentialRequest) (*operationpb.Operation, error) {
	if err := sqldb.CheckText(req.GetExternalSubjectId()); err != nil {
		return nil, apierr.InvalidField("external_subject_id", "must be valid UTF-8 without NUL").WithCause(err)
	}
	a, err := s.store.ServiceAccount(ctx, s.store.db, req.GetServiceAccountId())
	if err != nil {
		return nil, err
	}
	on := quota.Resource{Type: typeCloud, ID: a.CloudID}
	limit, err := s.limits.Limit(ctx, federatedCredentialKind.quota, on)
	if err != nil {
		return nil, err
	}
	c := FederatedCredential{
		ID: id.New(id.FederatedCredential), AccountID: a.ID, FederationID: req.GetFederationId(), Subject: req.GetExternalSubjectId(),
		Session: newTokenSession(), CreatedAt: s.now(),
	}
	path, err := s.keyPath(ctx, &federatedCredentialKind, a.resource(), c.ID)
	if err != nil {
		return nil, err
	}
	op, _, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		if err := s.room(ctx, tx, &federatedCredentialKind, a, on, limit); err != nil {
			return op, err
		}
		f, err := s.store.LockFederation(ctx, tx, c.FederationID)
		if err == nil {
			err = f.usable()
		}
		if err == nil {
			err = s.store.InsertFederatedCredential(ctx, tx, c)
		}
		if err != nil {
			return op, err
		}
		n := c.operation(ctx, "Create")
		n.Metadata, n.Response = &workloadv1.CreateFederatedCredentialMetadata{FederatedCredentialId: c.ID}, c.message()
		if op, err = s.operations.Insert(ctx, tx, n); err != nil {
			return op, err
		}
		return op, s.recordEvent(ctx, tx, event{
			name: "workload.CreateFederatedCredential", path: path, permission: "iam.federatedCredentials.create", on: a.resource(),
			details: c.details(op.ID),
		})
	})
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

func (c FederatedCredential) operation(ctx context.Context, verb string) operation.New {
	return operation.New{
		Resource: federatedCredentialKind.resource(c.ID), ViewOn: authz.Resource{Type: typeServiceAccount, ID: c.AccountID},
		ViewPermission: federatedCredentialKind.permissions + ".get", Description: verb + " " + federatedCredentialKind.name,
		CreatedBy: authn.FromContext(ctx).ID,
	}
}

func (c FederatedCredential) details(operationID string) map[string]any {
	return map[string]any{
		"operation_id": operationID, "federated_credential_id": c.ID, "service_account_id": c.AccountID, "federation_id": c.FederationID,
		"external_subject_id": c.Subject,
	}
}

// Delete ends that a workload acts as an account: it gets no token from then on, and
// those that it has are void when the operation is done (WI-3). Fails:
// FEDERATED_CREDENTIAL_NOT_FOUND.
func (s *federatedCredentials) Delete(ctx context.Context, req *workloadv1.DeleteFederatedCredentialRequest) (*operationpb.Operation, error) {
	on, err := s.accountOfCredential(ctx, req.GetFederatedCredentialId())
	if err != nil {
		return nil, err
	}
	path, err := s.keyPath(ctx, &federatedCredentialKind, on, req.GetFederatedCredentialId())
	if err != nil {
		return nil, err
	}
	var ticket jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		c, err := s.store.LockFederatedCredential(ctx, tx, req.GetFederatedCredentialId())
		if err != nil {
			return op, err
		}
		if err := s.store.deleteKey(ctx, tx, &federatedCredentialKind, c.ID); err != nil {
			return op, err
		}
		n := c.operation(ctx, "Delete")
		n.Metadata = &workloadv1.DeleteFederatedCredentialMetadata{FederatedCredentialId: c.ID}
		if op, err = s.operations.Insert(ctx, tx, n); err != nil {
			return op, err
		}
		if err := s.recordEvent(ctx, tx, event{
			name: "workload.DeleteFederatedCredential", path: path, permission: "iam.federatedCredentials.delete", on: on, details: c.details(op.ID),
		}); err != nil {
			return op, err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{
			Kind: jobEndWorkloadTokens, Payload: workloadEnding{Operation: op.ID, Sessions: [][]byte{c.Session[:]}},
		})
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
