package oauthclients

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/writes"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Client is a program that may ask people to sign in to it.
type Client struct {
	ID           string
	FolderID     string
	CloudID      string
	Name         string
	Profile      string
	PKCE         bool // required
	RedirectURIs []string
	LogoutURIs   []string
	Scopes       []string
	Methods      []string // of authentication
	CreatedAt    time.Time
}

func (c Client) folder() authz.Resource { return authz.Resource{Type: typeFolder, ID: c.FolderID} }

func (c Client) position() page.Position {
	return page.Position{Time: sqldb.Micros(c.CreatedAt), ID: c.ID}
}

func (c Client) proto() *iamv1.OAuthClient {
	return &iamv1.OAuthClient{
		Id: c.ID, Name: c.Name, RedirectUris: c.RedirectURIs, Scopes: c.Scopes, FolderId: c.FolderID, Status: iamv1.OAuthClient_ACTIVE,
		ProfileId: c.Profile, PkceRequired: c.PKCE, AuthenticationMethods: c.Methods, PostLogoutRedirectUris: c.LogoutURIs,
	}
}

// clients is yandex.cloud.iam.v1.OAuthClientService.
type clients struct {
	iamv1.UnsafeOAuthClientServiceServer // a missing method does not compile
	*Service
}

// Get reads a client. Fails: OAUTH_CLIENT_NOT_FOUND.
func (s *clients) Get(ctx context.Context, req *iamv1.GetOAuthClientRequest) (*iamv1.OAuthClient, error) {
	c, err := s.store.client(ctx, s.Writes.DB, req.GetOauthClientId(), "")
	if err != nil {
		return nil, err
	}
	return c.proto(), nil
}

// List reads one page of the clients of a folder, oldest first (NM-7).
func (s *clients) List(ctx context.Context, req *iamv1.ListOAuthClientsRequest) (*iamv1.ListOAuthClientsResponse, error) {
	scope := []string{"OAuth clients", req.GetFolderId()}
	after, err := s.Pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	found, err := s.store.clients(ctx, req.GetFolderId(), after, size+1)
	if err != nil {
		return nil, err
	}
	resp := new(iamv1.ListOAuthClientsResponse)
	for _, c := range found[:min(len(found), size)] {
		resp.OauthClients = append(resp.OauthClients, &iamv1.OAuthClientListView{Id: c.ID, Name: c.Name})
	}
	if len(found) > size {
		resp.NextPageToken, err = s.Pages.Seal(found[size-1].position(), scope...)
	}
	return resp, err
}

// ListProfiles names the kinds of programs.
func (s *clients) ListProfiles(context.Context, *iamv1.ListProfilesRequest) (*iamv1.ListProfilesResponse, error) {
	resp := new(iamv1.ListProfilesResponse)
	for _, p := range profiles {
		resp.Profiles = append(resp.Profiles, p.proto())
	}
	return resp, nil
}

// Create makes a client in a folder. Fails: FOLDER_NOT_FOUND, FOLDER_NOT_ACTIVE (DL-15),
// QUOTA_EXCEEDED.
func (s *clients) Create(ctx context.Context, req *iamv1.CreateOAuthClientRequest) (*operationpb.Operation, error) {
	p, err := profileOf(req.GetProfileId())
	if err != nil {
		return nil, err
	}
	c := Client{
		ID: id.New(id.OAuthClient), FolderID: req.GetFolderId(), Name: req.GetName(), Profile: p.id, PKCE: req.GetPkceRequired(),
		RedirectURIs: req.GetRedirectUris(), LogoutURIs: req.GetPostLogoutRedirectUris(), Scopes: req.GetScopes(),
		Methods: req.GetAuthenticationMethods(), CreatedAt: s.Now(),
	}
	if err := p.fit(&c); err != nil {
		return nil, err
	}
	var path []audit.Resource
	if c.CloudID, path, err = s.Site(ctx, c.FolderID); err != nil {
		return nil, err
	}
	on := quota.Resource{Type: typeCloud, ID: c.CloudID}
	limit, err := s.Limits.Limit(ctx, catalog.QuotaOAuthClients, on)
	if err != nil {
		return nil, err
	}
	return s.Writes.Make(ctx, func(ctx context.Context, tx *sql.Tx) (w writes.Made, err error) {
		if err := sqldb.Lock(ctx, s.Writes.DB, tx, catalog.QuotaOAuthClients+" of "+c.CloudID); err != nil {
			return w, err
		}
		n, err := s.store.countClients(ctx, tx, c.CloudID)
		if err == nil {
			err = quota.Exceeded(catalog.QuotaOAuthClients, on, limit, n, 1)
		}
		if err == nil {
			err = s.store.insertClient(ctx, tx, c)
		}
		if err != nil {
			return w, err
		}
		w, err = s.operation(ctx, tx, c, permGet, "Create OAuth client", &iamv1.CreateOAuthClientMetadata{OauthClientId: c.ID}, c.proto())
		if err != nil {
			return w, err
		}
		return w, s.record(ctx, tx, "CreateOAuthClient", permCreate, c, path, "", map[string]any{"operation_id": w.Op.ID, "profile": c.Profile})
	})
}

// change locks a client and changes it. Where its folder is on its way out the change
// still counts; what is recorded then names the folder alone.
func (s *Service) change(ctx context.Context, clientID string, fn func(context.Context, *sql.Tx, Client, []audit.Resource) (writes.Made, error)) (*operationpb.Operation, error) {
	c, err := s.store.client(ctx, s.Writes.DB, clientID, "")
	if err != nil {
		return nil, err
	}
	path := s.pathOf(ctx, c)
	return s.Writes.Make(ctx, func(ctx context.Context, tx *sql.Tx) (w writes.Made, err error) {
		c, err := s.store.client(ctx, tx, clientID, s.Writes.DB.ForUpdate())
		if err != nil {
			return w, err
		}
		return fn(ctx, tx, c, path)
	})
}

// pathOf is where a client lies.
func (s *Service) pathOf(ctx context.Context, c Client) []audit.Resource {
	if _, path, err := s.Site(ctx, c.FolderID); err == nil {
		return path
	}
	return []audit.Resource{{Type: typeFolder, ID: c.FolderID}}
}

// Update changes the fields that the mask names; an empty name means unchanged (NM-8).
// Fails: OAUTH_CLIENT_NOT_FOUND.
func (s *clients) Update(ctx context.Context, req *iamv1.UpdateOAuthClientRequest) (*operationpb.Operation, error) {
	fields, err := masked(req.GetUpdateMask().GetPaths(), "oauth_client_id",
		"name", "redirect_uris", "scopes", "pkce_required", "authentication_methods", "post_logout_redirect_uris")
	if err != nil {
		return nil, err
	}
	return s.change(ctx, req.GetOauthClientId(), func(ctx context.Context, tx *sql.Tx, c Client, path []audit.Resource) (w writes.Made, err error) {
		if fields["name"] && req.GetName() != "" {
			c.Name = req.GetName()
		}
		for field, list := range map[string]struct {
			into *[]string
			sent []string
		}{
			"redirect_uris": {&c.RedirectURIs, req.GetRedirectUris()}, "scopes": {&c.Scopes, req.GetScopes()},
			"authentication_methods":    {&c.Methods, req.GetAuthenticationMethods()},
			"post_logout_redirect_uris": {&c.LogoutURIs, req.GetPostLogoutRedirectUris()},
		} {
			if fields[field] {
				*list.into = list.sent
			}
		}
		if fields["pkce_required"] {
			c.PKCE = req.GetPkceRequired()
		}
		p, err := profileOf(c.Profile)
		if err == nil {
			err = p.fit(&c)
		}
		if err == nil {
			err = s.store.updateClient(ctx, tx, c)
		}
		if err != nil {
			return w, err
		}
		w, err = s.operation(ctx, tx, c, permGet, "Update OAuth client", &iamv1.UpdateOAuthClientMetadata{OauthClientId: c.ID}, c.proto())
		if err != nil {
			return w, err
		}
		changed := make([]string, 0, len(fields))
		for field, is := range fields {
			if is {
				changed = append(changed, field)
			}
		}
		slices.Sort(changed)
		return w, s.record(ctx, tx, "UpdateOAuthClient", permUpdate, c, path, "", map[string]any{"operation_id": w.Op.ID, "fields": changed})
	})
}

// Delete removes a client with its secrets. Fails: OAUTH_CLIENT_NOT_FOUND.
func (s *clients) Delete(ctx context.Context, req *iamv1.DeleteOAuthClientRequest) (*operationpb.Operation, error) {
	return s.change(ctx, req.GetOauthClientId(), func(ctx context.Context, tx *sql.Tx, c Client, path []audit.Resource) (w writes.Made, err error) {
		if err := s.store.deleteClient(ctx, tx, c.ID); err != nil {
			return w, err
		}
		var none proto.Message = new(emptypb.Empty)
		w, err = s.operation(ctx, tx, c, permGet, "Delete OAuth client", &iamv1.DeleteOAuthClientMetadata{OauthClientId: c.ID}, none)
		if err != nil {
			return w, err
		}
		return w, s.record(ctx, tx, "DeleteOAuthClient", permDelete, c, path, "", map[string]any{"operation_id": w.Op.ID})
	})
}
