package resourcemanager

import (
	"context"
	"database/sql"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
)

// customerOrganizations is our own CustomerOrganizationService.
type customerOrganizations struct {
	brmv1.UnsafeCustomerOrganizationServiceServer // a missing method does not compile
	*Service
}

// CreateCustomerOrganization makes the organization of a partner's customer (PT-17) with
// its first owners and admins (PT-18). The tree knows it first: a repetition after a
// crash goes on from there. Fails: SUBJECT_NOT_FOUND, RESOURCE_DELETED.
func (s *customerOrganizations) CreateCustomerOrganization(ctx context.Context, req *brmv1.CreateCustomerOrganizationRequest) (*brmv1.CreateCustomerOrganizationResponse, error) {
	_, err := s.store.Get(ctx, s.store.db, organization, req.GetOrganizationId())
	if apierr.CodeOf(err) != codes.NotFound {
		return new(brmv1.CreateCustomerOrganizationResponse), err // it is there already, or the store is not
	}
	in := &accessv1.RegisterResourceRequest{Resource: &accessv1.Resource{Type: organization.typ, Id: req.GetOrganizationId()}}
	for _, who := range []struct {
		role string
		ids  []string
	}{{organization.ownerRole, req.GetOwnerIds()}, {"admin", req.GetAdminIds()}} {
		for _, userID := range who.ids {
			in.AccessBindings = append(in.AccessBindings, &accessv1.AccessBinding{
				RoleId: who.role, Subject: &accessv1.Subject{Type: authn.UserAccount, Id: userID},
			})
		}
	}
	// The partner's owners have their role without being members: the first owner is the
	// customer, and the members are its people (PT-17: neither side enters the other's).
	for _, userID := range append([]string{req.GetOwnerIds()[0]}, req.GetAdminIds()...) {
		in.Members = append(in.Members, &accessv1.Subject{Type: authn.UserAccount, Id: userID})
	}
	if _, err := s.tree.RegisterResource(server.AsUnit(ctx), in); err != nil {
		return nil, fmt.Errorf("register organization %s: %w", req.GetOrganizationId(), apierr.FromRPC(err))
	}
	r := Resource{
		ID: req.GetOrganizationId(), Kind: organization, Name: organizationName(req.GetOrganizationId()), Title: req.GetTitle(),
		Status: Active, CreatedAt: s.now(),
	}
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := sqldb.Lock(ctx, s.store.db, tx, "organization "+r.ID); err != nil {
			return err
		}
		if _, err := s.store.Get(ctx, tx, organization, r.ID); apierr.CodeOf(err) != codes.NotFound {
			return err
		}
		if err := s.store.Insert(ctx, tx, r); err != nil {
			return err
		}
		return s.record(ctx, tx, r, event{verb: verbCreate, status: audit.Done, details: map[string]any{"customer": true}})
	})
	if err != nil {
		return nil, err
	}
	return new(brmv1.CreateCustomerOrganizationResponse), nil
}

// organizationName is the name of an organization that nobody has named.
func organizationName(organizationID string) string {
	return "organization-" + organizationID[len(organizationID)-8:]
}
