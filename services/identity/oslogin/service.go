package oslogin

import (
	"context"
	"database/sql"
	"embed"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/writes"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

//go:embed migrations
var files embed.FS

// Migrations makes the tables of the package, which are of the unit identity.
func Migrations(unit string) sqldb.Migrations {
	return sqldb.Migrations{Name: unit + "_oslogin", Unit: unit, FS: files}
}

// Permissions that guard the methods, on the organization.
const (
	permLogins     = "organization-manager.osLogins.get"
	permSetLogins  = "organization-manager.osLogins.update"
	permKeys       = "organization-manager.userSshKeys.get"
	permManageKeys = "organization-manager.userSshKeys.update"
)

const typeOrganization = "organization-manager.organization"

// Deps are what the package needs of its unit. All fields are required.
type Deps struct {
	Unit    string
	Writes  writes.Writer
	Pages   *page.Sealer
	Sealer  *secret.Sealer
	Limits  *quota.Limits
	Decider authz.Decider
	Tree    accessv1.ResourceServiceClient
	Now     func() time.Time // to a microsecond, as it is stored

	// Belongs refuses a subject that does not belong to an organization, or is not there:
	// MEMBERSHIP_NOT_FOUND.
	Belongs func(ctx context.Context, organizationID, subjectID string) error
}

// Service is what the package serves.
type Service struct {
	Deps
	store *store
}

// New returns the service.
func New(deps Deps) *Service { return &Service{Deps: deps, store: &store{deps.Writes.DB}} }

// Register registers the services at the public port.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	orgv1.RegisterOsLoginServiceServer(r, &logins{Service: s})
	orgv1.RegisterUserSshKeyServiceServer(r, &keys{Service: s})
	orgv1.RegisterSshCertificateServiceServer(r, &certificates{Service: s})
	identityv1.RegisterSshAuthorityServiceServer(r, &authorities{Service: s})
}

// Resolvers lead from profiles and keys to their organizations, or to the caller where
// they are its own.
func (s *Service) Resolvers() map[string]authz.Resolver {
	return map[string]authz.Resolver{
		"osLoginProfile": func(ctx context.Context, profileID string) (authz.Resource, error) {
			p, err := s.store.profile(ctx, s.Writes.DB, profileID, "")
			return ownOr(ctx, p.SubjectID, p.OrganizationID), err
		},
		"osLoginProfileOwner": func(ctx context.Context, profileID string) (authz.Resource, error) {
			p, err := s.store.profile(ctx, s.Writes.DB, profileID, "")
			return organization(p.OrganizationID), err
		},
		"userSshKey": func(ctx context.Context, keyID string) (authz.Resource, error) {
			k, err := s.store.key(ctx, s.Writes.DB, keyID, "")
			return ownOr(ctx, k.SubjectID, k.OrganizationID), err
		},
	}
}

// LetGoOrganizations removes all that organizations had which are gone.
func (s *Service) LetGoOrganizations(ctx context.Context, tx *sql.Tx, organizationIDs []string) error {
	for _, organizationID := range organizationIDs {
		for _, table := range []string{"settings", "profiles"} {
			if err := s.store.drop(ctx, tx, "identity_os_login_"+table, `organization_id = $1`, organizationID); err != nil {
				return err
			}
		}
		for _, table := range []string{"identity_user_ssh_keys", "identity_ssh_authorities"} {
			if err := s.store.drop(ctx, tx, table, `organization_id = $1`, organizationID); err != nil {
				return err
			}
		}
	}
	return nil
}

// LetGoSubjects removes all that subjects had which are gone.
func (s *Service) LetGoSubjects(ctx context.Context, tx *sql.Tx, subjectIDs []string) error {
	for _, subjectID := range subjectIDs {
		for _, table := range ofSubjects {
			if err := s.store.drop(ctx, tx, table, `subject_id = $1`, subjectID); err != nil {
				return err
			}
		}
	}
	return nil
}

// LetGoMember removes all that a subject had in an organization which it has left (GR-6).
func (s *Service) LetGoMember(ctx context.Context, tx *sql.Tx, organizationID, subjectID string) error {
	for _, table := range ofSubjects {
		if err := s.store.drop(ctx, tx, table, `organization_id = $1 AND subject_id = $2`, organizationID, subjectID); err != nil {
			return err
		}
	}
	return nil
}

// ofSubjects are the tables of what subjects have in organizations.
var ofSubjects = []string{"identity_os_login_profiles", "identity_user_ssh_keys"}

func organization(organizationID string) authz.Resource {
	return authz.Resource{Type: typeOrganization, ID: organizationID}
}

// ownOr is the caller itself where it is the subject, and the organization otherwise.
func ownOr(ctx context.Context, subjectID, organizationID string) authz.Resource {
	if subjectID != "" && subjectID == authn.FromContext(ctx).ID {
		return authz.Resource{Type: authz.UserAccount, ID: subjectID}
	}
	return organization(organizationID)
}

// operation makes an operation in an organization that is done at once.
func (s *Service) operation(ctx context.Context, tx *sql.Tx, organizationID, permission, description string, metadata, response proto.Message) (writes.Made, error) {
	op, err := s.Writes.Operation(ctx, tx, operation.New{
		Resource: organization(organizationID), ViewPermission: permission, Description: description, Metadata: metadata, Response: response,
	})
	return writes.Made{Op: op}, err
}

// record writes the audit record of a change in an organization (AU-4).
func (s *Service) record(ctx context.Context, tx *sql.Tx, name, permission, organizationID string, below audit.Resource, details map[string]any) error {
	on := audit.Resource{Type: typeOrganization, ID: organizationID}
	e := audit.Event{
		Source: "organizationmanager", Name: name, At: s.Now(), Permission: permission, On: on, Path: []audit.Resource{on}, Details: details,
	}
	if below.ID != "" {
		e.Path = append(e.Path, below)
	}
	return audit.Write(ctx, tx, s.Unit, e.Record(ctx, s.Unit))
}

// masked reads an update mask, whose paths are fields of the request; without one all are
// meant. The id itself, which some clients put in, means nothing.
func masked(paths []string, id string, all ...string) (map[string]bool, error) {
	fields := make(map[string]bool, len(all))
	for _, f := range all {
		fields[f] = len(paths) == 0
	}
	for _, path := range paths {
		if path == id {
			continue
		}
		if _, known := fields[path]; !known {
			return nil, apierr.InvalidField("update_mask", "%q is not a field that can be changed", path)
		}
		fields[path] = true
	}
	return fields, nil
}
