package identity

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

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
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
)

// jobCreateSAMLFederation makes a new federation known to the checker.
const jobCreateSAMLFederation = "create-saml-federation"

// samlFederationJob is the payload of the jobs on a federation.
type samlFederationJob struct {
	Operation  string `json:"operation"`
	Federation string `json:"federation"`
}

// cookieMaxAge is how long a browser stays signed in.
func cookieMaxAge(asked time.Duration) time.Duration {
	if asked == 0 {
		return defaultCookieMaxAge
	}
	return asked
}

// Create creates a federation. It is known as a resource when the operation is done.
// Fails: FEDERATION_NAME_TAKEN (NM-3), QUOTA_EXCEEDED (QL-2).
func (s *samlFederations) Create(ctx context.Context, req *samlv1.CreateFederationRequest) (*operationpb.Operation, error) {
	f := SAMLFederation{
		ID: id.New(id.Federation), OrganizationID: req.GetOrganizationId(), Name: req.GetName(), Description: req.GetDescription(),
		Labels: req.GetLabels(), CookieMaxAge: cookieMaxAge(req.GetCookieMaxAge().AsDuration().Truncate(time.Microsecond)),
		AutoCreate: req.GetAutoCreateAccountOnLogin(), Issuer: req.GetIssuer(), Binding: req.GetSsoBinding().String(), SSOURL: req.GetSsoUrl(),
		EncryptedAssertions: req.GetSecuritySettings().GetEncryptedAssertions(), ForceAuthn: req.GetSecuritySettings().GetForceAuthn(),
		CaseInsensitive: req.GetCaseInsensitiveNameIds(), State: Creating, CreatedAt: s.now(),
	}
	if err := f.wellFormed(); err != nil {
		return nil, err
	}
	on := quota.Resource{Type: typeOrganization, ID: f.OrganizationID}
	limit, err := s.limits.Limit(ctx, catalog.QuotaFederations, on)
	if err != nil {
		return nil, err
	}
	var ticket jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		if err := s.roomForSAMLFederation(ctx, tx, on, limit); err != nil {
			return op, err
		}
		if op, err = s.insertFederationOperation(ctx, tx, f, "Create federation", &samlv1.CreateFederationMetadata{FederationId: f.ID}, nil); err != nil {
			return op, err
		}
		f.Operation = op.ID
		if err := s.store.InsertSAMLFederation(ctx, tx, f); err != nil {
			return op, err
		}
		if err := s.recordFederation(ctx, tx, f, federationEvent{
			name: "saml.CreateFederation", status: audit.Started, permission: permCreateFederation,
			on: authz.Resource{Type: typeOrganization, ID: f.OrganizationID}, operation: op.ID,
		}); err != nil {
			return op, err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobCreateSAMLFederation, Payload: samlFederationJob{op.ID, f.ID}})
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

// roomForSAMLFederation refuses when an organization has as many federations as its quota
// allows (QL-2). The lock makes creations in one organization follow one another.
func (s *Service) roomForSAMLFederation(ctx context.Context, tx *sql.Tx, organization quota.Resource, limit int64) error {
	if err := sqldb.Lock(ctx, s.store.db, tx, "federations of "+organization.ID); err != nil {
		return err
	}
	n, err := s.store.CountSAMLFederations(ctx, tx, organization.ID)
	if err != nil {
		return err
	}
	return quota.Exceeded(catalog.QuotaFederations, organization, limit, n, 1)
}

// federationsIn counts the federations of an organization.
func (s *Service) federationsIn(ctx context.Context, organizationID string) (int64, error) {
	return s.store.CountSAMLFederations(ctx, s.store.db, organizationID)
}

// certificatesIn counts the certificates of a federation.
func (s *Service) certificatesIn(ctx context.Context, federationID string) (int64, error) {
	return s.store.CountCertificates(ctx, s.store.db, federationID)
}

// federatedUsersIn counts the users of a federation.
func (s *Service) federatedUsersIn(ctx context.Context, federationID string) (int64, error) {
	return s.store.CountFederatedUsers(ctx, s.store.db, federationID)
}

// handleFederations registers what federations and what belongs to them need.
func (s *Service) handleFederations() {
	jobs.Register(s.jobs, jobCreateSAMLFederation, s.registerSAMLFederation)
	jobs.Register(s.jobs, jobAddFederatedUsers, s.registerFederatedUsers)
	jobs.Register(s.jobs, jobDeleteFederatedUsers, s.deleteFederatedUsers)
	jobs.Register(s.jobs, jobFederatedStates, s.tellStandings)
	jobs.Register(s.jobs, jobDeleteSAMLFederation, s.deleteSAMLFederation)
	jobs.Register(s.jobs, jobLetGoSAMLFederation, s.letGoSAMLFederation)
	s.resolvers["samlFederation"] = s.organizationOfFederation
	s.resolvers["samlCertificate"] = s.federationOfCertificate
	s.removals.on(typeSAMLFederation, s.letGoSAMLFederations)
	s.removals.on(typeGroup, s.letGoGroups)
}

// insertFederationOperation adds an operation on a federation; one with a response is
// done. What a sign-in makes, the federation has made.
func (s *Service) insertFederationOperation(ctx context.Context, tx *sql.Tx, f SAMLFederation, description string, metadata, response proto.Message) (operation.Operation, error) {
	return s.operations.Insert(ctx, tx, operation.New{
		Resource: f.resource(), ViewPermission: permGetFederation, Description: description,
		CreatedBy: cmp.Or(authn.FromContext(ctx).ID, f.ID), Metadata: metadata, Response: response,
	})
}

// registerSAMLFederation is the job that puts a federation into the tree and ends its
// operation.
func (s *Service) registerSAMLFederation(ctx context.Context, job samlFederationJob) error {
	f, err := s.store.SAMLFederation(ctx, s.store.db, job.Federation)
	if apierr.CodeOf(err) == codes.NotFound {
		return s.failFederation(ctx, job, nil)
	}
	if err != nil || f.Operation != job.Operation {
		return err // done before
	}
	_, err = s.tree.RegisterResource(server.AsUnit(ctx), &accessv1.RegisterResourceRequest{
		Resource: &accessv1.Resource{Type: typeSAMLFederation, Id: f.ID}, Parent: &accessv1.Resource{Type: typeOrganization, Id: f.OrganizationID},
	})
	switch code := apierr.CodeOf(err); {
	case code == codes.NotFound || code == codes.FailedPrecondition:
		return s.failFederation(ctx, job, err)
	case err != nil:
		return apierr.FromRPC(err)
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		f, err := s.store.LockSAMLFederation(ctx, tx, job.Federation)
		if apierr.CodeOf(err) == codes.NotFound {
			return s.operations.Fail(ctx, tx, job.Operation, nil, errSAMLFederationParentDeleted)
		}
		if err != nil || f.Operation != job.Operation {
			return err
		}
		f.State, f.Operation = Active, ""
		if err := s.store.UpdateSAMLFederation(ctx, tx, f); err != nil {
			return err
		}
		if err := s.recordFederation(ctx, tx, f, federationEvent{name: "saml.CreateFederation", status: audit.Done, operation: job.Operation}); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, f.proto())
	})
}

// failFederation ends a creation that the deletion of the organization overtook.
func (s *Service) failFederation(ctx context.Context, job samlFederationJob, cause error) error {
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.store.DeleteSAMLFederation(ctx, tx, job.Federation); err != nil {
			return err
		}
		return s.operations.Fail(ctx, tx, job.Operation, nil, errSAMLFederationParentDeleted.WithCause(cause))
	})
}

// samlFederationFields are the fields that a mask may name, and what each does. An empty
// name, issuer or sso_url and no binding mean unchanged (NM-8).
var samlFederationFields = map[string]func(f *SAMLFederation, req *samlv1.UpdateFederationRequest){
	"name":        func(f *SAMLFederation, req *samlv1.UpdateFederationRequest) { replace(&f.Name, req.GetName()) },
	"description": func(f *SAMLFederation, req *samlv1.UpdateFederationRequest) { f.Description = req.GetDescription() },
	"labels":      func(f *SAMLFederation, req *samlv1.UpdateFederationRequest) { f.Labels = req.GetLabels() },
	"cookie_max_age": func(f *SAMLFederation, req *samlv1.UpdateFederationRequest) {
		f.CookieMaxAge = cookieMaxAge(req.GetCookieMaxAge().AsDuration().Truncate(time.Microsecond))
	},
	"auto_create_account_on_login": func(f *SAMLFederation, req *samlv1.UpdateFederationRequest) {
		f.AutoCreate = req.GetAutoCreateAccountOnLogin()
	},
	"issuer": func(f *SAMLFederation, req *samlv1.UpdateFederationRequest) { replace(&f.Issuer, req.GetIssuer()) },
	"sso_binding": func(f *SAMLFederation, req *samlv1.UpdateFederationRequest) {
		if req.GetSsoBinding() != samlv1.BindingType_BINDING_TYPE_UNSPECIFIED {
			f.Binding = req.GetSsoBinding().String()
		}
	},
	"sso_url": func(f *SAMLFederation, req *samlv1.UpdateFederationRequest) { replace(&f.SSOURL, req.GetSsoUrl()) },
	"security_settings": func(f *SAMLFederation, req *samlv1.UpdateFederationRequest) {
		f.EncryptedAssertions = req.GetSecuritySettings().GetEncryptedAssertions()
		f.ForceAuthn = req.GetSecuritySettings().GetForceAuthn()
	},
	"security_settings.encrypted_assertions": func(f *SAMLFederation, req *samlv1.UpdateFederationRequest) {
		f.EncryptedAssertions = req.GetSecuritySettings().GetEncryptedAssertions()
	},
	"security_settings.force_authn": func(f *SAMLFederation, req *samlv1.UpdateFederationRequest) {
		f.ForceAuthn = req.GetSecuritySettings().GetForceAuthn()
	},
	"case_insensitive_name_ids": func(f *SAMLFederation, req *samlv1.UpdateFederationRequest) {
		f.CaseInsensitive = req.GetCaseInsensitiveNameIds()
	},
}

// replace sets a text, which an empty one leaves as it is (NM-8).
func replace(at *string, text string) {
	if text != "" {
		*at = text
	}
}

// fieldsOf returns the fields that a mask names, each once; all of them for an absent
// mask. The ids in own are accepted and change nothing, as clients send them.
func fieldsOf[F any](mask *fieldmaskpb.FieldMask, fields map[string]F, own ...string) ([]string, error) {
	var named []string
	if len(mask.GetPaths()) == 0 {
		for name := range fields {
			named = append(named, name)
		}
		slices.Sort(named)
		return named, nil
	}
	for _, path := range mask.GetPaths() {
		_, known := fields[path]
		switch {
		case slices.Contains(own, path) || slices.Contains(named, path):
		case known:
			named = append(named, path)
		default:
			return nil, apierr.InvalidField("update_mask", "%q is not a field that can be changed", path)
		}
	}
	return named, nil
}

// Update changes the named fields of a federation. Fails: FEDERATION_NOT_FOUND,
// FEDERATION_NOT_ACTIVE, BEING_DELETED, FEDERATION_NAME_TAKEN (NM-3), NAME_IDS_COLLIDE.
func (s *samlFederations) Update(ctx context.Context, req *samlv1.UpdateFederationRequest) (*operationpb.Operation, error) {
	fields, err := fieldsOf(req.GetUpdateMask(), samlFederationFields, "federation_id")
	if err != nil {
		return nil, err
	}
	op, _, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		before, err := s.store.LockSAMLFederation(ctx, tx, req.GetFederationId())
		if err == nil {
			err = before.active()
		}
		if err != nil {
			return op, err
		}
		after := before
		for _, field := range fields {
			samlFederationFields[field](&after, req)
		}
		if err := after.wellFormed(); err != nil {
			return op, err
		}
		if err := s.store.UpdateSAMLFederation(ctx, tx, after); err != nil {
			return op, err
		}
		if after.CaseInsensitive != before.CaseInsensitive {
			if err := s.store.RekeyFederatedUsers(ctx, tx, after); err != nil {
				return op, err
			}
		}
		op, err = s.insertFederationOperation(ctx, tx, after, "Update federation", &samlv1.UpdateFederationMetadata{FederationId: after.ID}, after.proto())
		if err != nil {
			return op, err
		}
		return op, s.recordFederation(ctx, tx, after, federationEvent{
			name: "saml.UpdateFederation", status: audit.Done, permission: permUpdateFederation, operation: op.ID, details: map[string]any{"fields": fields},
		})
	})
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// federationEvent is one audit event about a federation (AU-5).
type federationEvent struct {
	name       string
	status     audit.Status
	permission string         // "" when none was checked
	on         authz.Resource // where it was checked; the federation when zero
	operation  string
	below      []audit.Resource // what of it changed; nothing for the federation itself
	details    map[string]any
}

// recordFederation writes the audit record of an event within the transaction of its
// change.
func (s *Service) recordFederation(ctx context.Context, tx *sql.Tx, f SAMLFederation, e federationEvent) error {
	details := map[string]any{"operation_id": e.operation}
	for name, value := range e.details {
		details[name] = value
	}
	if e.on == (authz.Resource{}) {
		e.on = f.resource()
	}
	return s.recordOrganization(ctx, tx, organizationEvent{
		name: e.name, status: e.status, permission: e.permission, on: e.on, details: details,
		organization: audit.Resource{Type: typeOrganization, ID: f.OrganizationID},
		below:        append([]audit.Resource{{Type: typeSAMLFederation, ID: f.ID, Name: f.Name}}, e.below...),
	})
}
