package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"database/sql"
	"encoding/pem"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
)

// Certificates as resources, and permissions on them, which are held on the
// federation.
const (
	typeCertificate = "organization-manager.certificate"

	permGetCertificate    = "organization-manager.certificates.get"
	permCreateCertificate = "organization-manager.certificates.create"
	permUpdateCertificate = "organization-manager.certificates.update"
	permDeleteCertificate = "organization-manager.certificates.delete"
)

// Bounds of the RSA key of a certificate, in bits.
const (
	minCertificateRSA = 2048
	maxCertificateRSA = 8192
)

// SAMLCertificate holds a key by which an identity provider signs.
type SAMLCertificate struct {
	ID           string
	FederationID string
	Name         string // "" for none
	Description  string
	DER          []byte
	CreatedAt    time.Time
}

// samlCertificates is yandex.cloud.organizationmanager.v1.saml.CertificateService.
type samlCertificates struct {
	samlv1.UnsafeCertificateServiceServer // a missing method does not compile
	*Service
}

// parseCertificate reads one certificate in PEM. Fails: INVALID_ARGUMENT of the field
// data.
func parseCertificate(text string) ([]byte, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return nil, apierr.InvalidField("data", "must be one X.509 certificate in PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, apierr.InvalidField("data", "must be one X.509 certificate in PEM").WithCause(err)
	}
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minCertificateRSA || bits > maxCertificateRSA {
			return nil, apierr.InvalidField("data", "must hold an RSA key of %d to %d bits, this one has %d", minCertificateRSA, maxCertificateRSA, bits)
		}
	case *ecdsa.PublicKey:
	default:
		return nil, apierr.InvalidField("data", "must hold an RSA or ECDSA key")
	}
	return block.Bytes, nil
}

// proto is the public message of a certificate.
func (c SAMLCertificate) proto() *samlv1.Certificate {
	return &samlv1.Certificate{
		Id: c.ID, FederationId: c.FederationID, Name: c.Name, Description: c.Description, CreatedAt: timestamppb.New(c.CreatedAt),
		Data: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER})),
	}
}

func (c SAMLCertificate) resource() authz.Resource {
	return authz.Resource{Type: typeCertificate, ID: c.ID}
}

func (c SAMLCertificate) position() page.Position {
	return page.Position{Time: sqldb.Micros(c.CreatedAt), ID: c.ID}
}

// federationOfCertificate is the resolver of a certificate. Fails:
// CERTIFICATE_NOT_FOUND.
func (s *Service) federationOfCertificate(ctx context.Context, certificateID string) (authz.Resource, error) {
	if id.Prefix(certificateID) != id.Certificate {
		return authz.Resource{}, errCertificateNotFound(certificateID)
	}
	c, err := s.store.Certificate(ctx, s.store.db, certificateID)
	return authz.Resource{Type: typeSAMLFederation, ID: c.FederationID}, err
}

// Get reads a certificate. Fails: CERTIFICATE_NOT_FOUND.
func (s *samlCertificates) Get(ctx context.Context, req *samlv1.GetCertificateRequest) (*samlv1.Certificate, error) {
	c, err := s.store.Certificate(ctx, s.store.db, req.GetCertificateId())
	if err != nil {
		return nil, err
	}
	return c.proto(), nil
}

// List reads one page of the certificates of a federation, oldest first (NM-7).
func (s *samlCertificates) List(ctx context.Context, req *samlv1.ListCertificatesRequest) (*samlv1.ListCertificatesResponse, error) {
	f, err := filter.Parse(req.GetFilter(), "name")
	if err != nil {
		return nil, err
	}
	scope := []string{"certificates", req.GetFederationId(), f.Field, f.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	resp := new(samlv1.ListCertificatesResponse)
	if f.Field != "" && f.Value == "" {
		return resp, nil // an empty name is none
	}
	size := page.Size(req.GetPageSize())
	rows, err := s.store.CertificatesOf(ctx, s.store.db, req.GetFederationId(), f.Value, after, size+1)
	if err != nil {
		return nil, err
	}
	for _, c := range rows {
		resp.Certificates = append(resp.Certificates, c.proto())
	}
	if fit := page.Fit(min(len(rows), size), func(i int) int { return proto.Size(resp.GetCertificates()[i]) }); fit < len(rows) {
		resp.Certificates = resp.GetCertificates()[:fit]
		resp.NextPageToken, err = s.pages.Seal(rows[fit-1].position(), scope...)
	}
	return resp, err
}

// Create adds a certificate to a federation. Fails: FEDERATION_NOT_FOUND,
// FEDERATION_NOT_ACTIVE, BEING_DELETED, CERTIFICATE_NAME_TAKEN, QUOTA_EXCEEDED.
func (s *samlCertificates) Create(ctx context.Context, req *samlv1.CreateCertificateRequest) (*operationpb.Operation, error) {
	c := SAMLCertificate{ID: id.New(id.Certificate), FederationID: req.GetFederationId(), Name: req.GetName(), Description: req.GetDescription(), CreatedAt: s.now()}
	if sqldb.CheckText(c.Description) != nil {
		return nil, errDescription
	}
	var err error
	if c.DER, err = parseCertificate(req.GetData()); err != nil {
		return nil, err
	}
	on := quota.Resource{Type: typeSAMLFederation, ID: c.FederationID}
	limit, err := s.limits.Limit(ctx, catalog.QuotaCertificates, on)
	if err != nil {
		return nil, err
	}
	return s.onFederation(ctx, c.FederationID, func(ctx context.Context, tx *sql.Tx, f SAMLFederation) (op operation.Operation, err error) {
		n, err := s.store.CountCertificates(ctx, tx, f.ID)
		if err != nil {
			return op, err
		}
		if err := quota.Exceeded(catalog.QuotaCertificates, on, limit, n, 1); err != nil {
			return op, err
		}
		if err := s.store.InsertCertificate(ctx, tx, c); err != nil {
			return op, err
		}
		return s.certificateDone(ctx, tx, f, c, "Create certificate", "CreateCertificate", permCreateCertificate, &samlv1.CreateCertificateMetadata{CertificateId: c.ID}, c.proto(), nil)
	})
}

// onFederation makes one write on what belongs to a federation in use, which it is
// given locked.
func (s *Service) onFederation(ctx context.Context, federationID string, fn func(context.Context, *sql.Tx, SAMLFederation) (operation.Operation, error)) (*operationpb.Operation, error) {
	op, _, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		f, err := s.store.LockSAMLFederation(ctx, tx, federationID)
		if err == nil {
			err = f.active()
		}
		if err != nil {
			return op, err
		}
		return fn(ctx, tx, f)
	})
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// onCertificate is onFederation for a certificate of it. Fails: CERTIFICATE_NOT_FOUND.
func (s *Service) onCertificate(ctx context.Context, certificateID string, fn func(context.Context, *sql.Tx, SAMLFederation, SAMLCertificate) (operation.Operation, error)) (*operationpb.Operation, error) {
	known, err := s.store.Certificate(ctx, s.store.db, certificateID)
	if err != nil {
		return nil, err
	}
	return s.onFederation(ctx, known.FederationID, func(ctx context.Context, tx *sql.Tx, f SAMLFederation) (op operation.Operation, err error) {
		c, err := s.store.Certificate(ctx, tx, certificateID)
		if err != nil {
			return op, err
		}
		return fn(ctx, tx, f, c)
	})
}

// certificateDone ends a write on a certificate: its operation, done, and its audit
// record (AU-2).
func (s *Service) certificateDone(ctx context.Context, tx *sql.Tx, f SAMLFederation, c SAMLCertificate, description, name, permission string, metadata, response proto.Message, details map[string]any) (operation.Operation, error) {
	op, err := s.operations.Insert(ctx, tx, operation.New{
		Resource: c.resource(), ViewOn: f.resource(), ViewPermission: permGetCertificate, Description: description,
		CreatedBy: authn.FromContext(ctx).ID, Metadata: metadata, Response: response,
	})
	if err != nil {
		return op, err
	}
	if details == nil {
		details = make(map[string]any)
	}
	details["operation_id"] = op.ID
	return op, s.recordEvent(ctx, tx, event{
		name: name, permission: permission, on: f.resource(), details: details,
		path: []audit.Resource{{Type: typeOrganization, ID: f.OrganizationID}, {Type: typeSAMLFederation, ID: f.ID, Name: f.Name}, {Type: typeCertificate, ID: c.ID, Name: c.Name}},
	})
}

// certificateFields are the fields that a mask may name, and what each does. An empty
// name or data means unchanged (NM-8).
var certificateFields = map[string]func(c *SAMLCertificate, req *samlv1.UpdateCertificateRequest) error{
	"name": func(c *SAMLCertificate, req *samlv1.UpdateCertificateRequest) error {
		replace(&c.Name, req.GetName())
		return nil
	},
	"description": func(c *SAMLCertificate, req *samlv1.UpdateCertificateRequest) error {
		if c.Description = req.GetDescription(); sqldb.CheckText(c.Description) != nil {
			return errDescription
		}
		return nil
	},
	"data": func(c *SAMLCertificate, req *samlv1.UpdateCertificateRequest) (err error) {
		if req.GetData() != "" {
			c.DER, err = parseCertificate(req.GetData())
		}
		return err
	},
}

// Update changes the named fields of a certificate. Fails: CERTIFICATE_NOT_FOUND,
// CERTIFICATE_NAME_TAKEN, FEDERATION_NOT_ACTIVE, BEING_DELETED.
func (s *samlCertificates) Update(ctx context.Context, req *samlv1.UpdateCertificateRequest) (*operationpb.Operation, error) {
	fields, err := fieldsOf(req.GetUpdateMask(), certificateFields, "certificate_id")
	if err != nil {
		return nil, err
	}
	return s.onCertificate(ctx, req.GetCertificateId(), func(ctx context.Context, tx *sql.Tx, f SAMLFederation, c SAMLCertificate) (op operation.Operation, err error) {
		for _, field := range fields {
			if err := certificateFields[field](&c, req); err != nil {
				return op, err
			}
		}
		if err := s.store.UpdateCertificate(ctx, tx, c); err != nil {
			return op, err
		}
		return s.certificateDone(ctx, tx, f, c, "Update certificate", "UpdateCertificate", permUpdateCertificate,
			&samlv1.UpdateCertificateMetadata{CertificateId: c.ID}, c.proto(), map[string]any{"fields": fields})
	})
}

// Delete deletes a certificate; what is signed by its key is not accepted once the
// call returns. Fails: CERTIFICATE_NOT_FOUND, FEDERATION_NOT_ACTIVE, BEING_DELETED.
func (s *samlCertificates) Delete(ctx context.Context, req *samlv1.DeleteCertificateRequest) (*operationpb.Operation, error) {
	return s.onCertificate(ctx, req.GetCertificateId(), func(ctx context.Context, tx *sql.Tx, f SAMLFederation, c SAMLCertificate) (op operation.Operation, err error) {
		if err := s.store.DeleteCertificate(ctx, tx, c.ID); err != nil {
			return op, err
		}
		return s.certificateDone(ctx, tx, f, c, "Delete certificate", "DeleteCertificate", permDeleteCertificate,
			&samlv1.DeleteCertificateMetadata{CertificateId: c.ID}, new(emptypb.Empty), nil)
	})
}

// ListOperations lists the operations on a certificate, newest first.
func (s *samlCertificates) ListOperations(ctx context.Context, req *samlv1.ListCertificateOperationsRequest) (*samlv1.ListCertificateOperationsResponse, error) {
	log := access.Operations{Own: s.operations, Log: s.changes, Pages: s.pages}
	ops, next, err := log.List(ctx, authz.Resource{Type: typeCertificate, ID: req.GetCertificateId()}, req)
	if err != nil {
		return nil, err
	}
	return &samlv1.ListCertificateOperationsResponse{Operations: ops, NextPageToken: next}, nil
}
