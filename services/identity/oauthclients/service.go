package oauthclients

import (
	"context"
	"database/sql"
	"embed"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/writes"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

//go:embed migrations
var files embed.FS

// Migrations makes the tables of the package, which are of the unit identity.
func Migrations(unit string) sqldb.Migrations {
	return sqldb.Migrations{Name: unit + "_oauthclients", Unit: unit, FS: files}
}

// Permissions that records name, on the folder.
const (
	permGet          = "iam.oauthClients.get"
	permCreate       = "iam.oauthClients.create"
	permUpdate       = "iam.oauthClients.update"
	permDelete       = "iam.oauthClients.delete"
	permGetSecret    = "iam.oauthClientSecrets.get"
	permCreateSecret = "iam.oauthClientSecrets.create"
	permDeleteSecret = "iam.oauthClientSecrets.delete"
)

const (
	typeFolder = "resource-manager.folder"
	typeCloud  = "resource-manager.cloud"
	typeClient = "iam.oauthClient"
	typeSecret = "iam.oauthClientSecret"
)

// Keyed are the methods whose answers, which hold a secret, are given once for each
// idempotency key.
var Keyed = []string{iamv1.OAuthClientSecretService_Create_FullMethodName}

// Deps are what the package needs of its unit. All fields are required.
type Deps struct {
	Unit   string
	Writes writes.Writer
	Pages  *page.Sealer
	Limits *quota.Limits
	Now    func() time.Time // to a microsecond, as it is stored

	// Site is the cloud and the whole path of a folder in use: FOLDER_NOT_FOUND,
	// FOLDER_NOT_ACTIVE and the like.
	Site func(ctx context.Context, folderID string) (cloudID string, path []audit.Resource, err error)
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
	iamv1.RegisterOAuthClientServiceServer(r, &clients{Service: s})
	iamv1.RegisterOAuthClientSecretServiceServer(r, &secrets{Service: s})
}

// Resolvers lead from clients and secrets to their folders.
func (s *Service) Resolvers() map[string]authz.Resolver {
	return map[string]authz.Resolver{
		"oauthClient": func(ctx context.Context, clientID string) (authz.Resource, error) {
			c, err := s.store.client(ctx, s.Writes.DB, clientID, "")
			return c.folder(), err
		},
		"oauthClientSecret": func(ctx context.Context, secretID string) (authz.Resource, error) {
			x, err := s.store.secret(ctx, s.Writes.DB, secretID)
			if err != nil {
				return authz.Resource{}, err
			}
			c, err := s.store.client(ctx, s.Writes.DB, x.ClientID, "")
			return c.folder(), err
		},
	}
}

// LetGoFolders removes the clients of folders that are gone, with their secrets (DL-6).
func (s *Service) LetGoFolders(ctx context.Context, tx *sql.Tx, folderIDs []string) error {
	for _, folderID := range folderIDs {
		if err := s.store.deleteOf(ctx, tx, folderID); err != nil {
			return err
		}
	}
	return nil
}

// ClientsOf is what a cloud uses of its quota of clients.
func (s *Service) ClientsOf(ctx context.Context, cloudID string) (int64, error) {
	return s.store.countClients(ctx, s.Writes.DB, cloudID)
}

// operation makes an operation on a client that is done at once.
func (s *Service) operation(ctx context.Context, tx *sql.Tx, c Client, permission, description string, metadata, response proto.Message) (writes.Made, error) {
	op, err := s.Writes.Operation(ctx, tx, operation.New{
		Resource: operation.Resource{Type: typeClient, ID: c.ID}, ViewOn: c.folder(), ViewPermission: permission,
		Description: description, Metadata: metadata, Response: response,
	})
	return writes.Made{Op: op}, err
}

// record writes the audit record of a change of a client, or of a secret of it (AU-2).
func (s *Service) record(ctx context.Context, tx *sql.Tx, name, permission string, c Client, path []audit.Resource, secretID string, details map[string]any) error {
	e := audit.Event{
		Source: "iam", Name: "oauthclient." + name, At: s.Now(), Permission: permission, On: audit.Resource{Type: typeFolder, ID: c.FolderID},
		Path: append(path[:len(path):len(path)], audit.Resource{Type: typeClient, ID: c.ID, Name: c.Name}), Details: details,
	}
	if secretID != "" {
		e.Path = append(e.Path, audit.Resource{Type: typeSecret, ID: secretID})
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
