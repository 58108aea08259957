package oauthclients_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
	"github.com/bindery-iam/bindery/services/accessbindings"
	"github.com/bindery-iam/bindery/services/identity"
	"github.com/bindery-iam/bindery/services/identity/oauthclients"
	"github.com/bindery-iam/bindery/services/resourcemanager"
)

// world is the real units, with a folder.
type world struct {
	*servertest.World
	t       *testing.T
	db      *sqldb.DB
	clients iamv1.OAuthClientServiceClient
	secrets iamv1.OAuthClientSecretServiceClient
	ctx     context.Context //nolint:containedctx // of the owner of all
	folder  string
}

func forEach(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	sqldbtest.ForEach(t, identity.Name, identity.Unit().Migrations, func(t *testing.T, db *sqldb.DB) {
		cat, err := catalog.Load()
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, db: db}
		w.World = servertest.Start(t, servertest.Options{
			Units: []server.Unit{accessbindings.Unit(), identity.Unit(), resourcemanager.Unit()}, DB: db, Catalog: cat,
		})
		socket, err := server.DialOperator(w.DataDir)
		w.must(err)
		t.Cleanup(func() { _ = socket.Close() }) // the test is over
		operator := identityv1.NewOperatorServiceClient(socket)
		_, err = operator.CreateUser(t.Context(), &identityv1.CreateUserRequest{Login: "ann", Email: "ann@example.com"})
		w.must(err)
		token, err := operator.CreateToken(t.Context(), &identityv1.CreateTokenRequest{Login: "ann"})
		w.must(err)
		w.ctx = w.Context(token.GetIamToken())
		w.clients, w.secrets = iamv1.NewOAuthClientServiceClient(w.Conn), iamv1.NewOAuthClientSecretServiceClient(w.Conn)
		op, err := rmv1.NewCloudServiceClient(w.Conn).Create(w.ctx, &rmv1.CreateCloudRequest{Name: "first"})
		w.must(err)
		cloud := new(rmv1.Cloud)
		w.must(op.GetResponse().UnmarshalTo(cloud))
		op, err = rmv1.NewFolderServiceClient(w.Conn).Create(w.ctx, &rmv1.CreateFolderRequest{CloudId: cloud.GetId(), Name: "folder"})
		w.must(err)
		made := new(rmv1.Folder)
		w.must(op.GetResponse().UnmarshalTo(made))
		w.folder = made.GetId()
		f(t, w)
	})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) want(err error, code codes.Code, reason string) {
	w.t.Helper()
	if status.Code(err) != code || apierr.ReasonOf(err) != reason {
		w.t.Errorf("got %v, reason %q; want %v, %q", err, apierr.ReasonOf(err), code, reason)
	}
}

func (w *world) client(req *iamv1.CreateOAuthClientRequest) *iamv1.OAuthClient {
	w.t.Helper()
	req.FolderId = w.folder
	op, err := w.clients.Create(w.ctx, req)
	w.must(err)
	c := new(iamv1.OAuthClient)
	w.must(op.GetResponse().UnmarshalTo(c))
	return c
}

func TestProfiles(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		resp, err := w.clients.ListProfiles(w.ctx, new(iamv1.ListProfilesRequest))
		w.must(err)
		for _, p := range resp.GetProfiles() {
			c := w.client(&iamv1.CreateOAuthClientRequest{Name: "of-" + p.GetId(), ProfileId: p.GetId()})
			if fmt.Sprint(c.GetAuthenticationMethods()) != fmt.Sprint(p.GetAuthenticationMethodsDefaultValues()) {
				t.Errorf("%s: methods %v", p.GetId(), c.GetAuthenticationMethods())
			}
			if p.GetPkceRequiredReadonly() && c.GetPkceRequired() != p.GetPkceRequiredDefaultValue() {
				t.Errorf("%s: PKCE %t", p.GetId(), c.GetPkceRequired())
			}
		}
		native := w.client(&iamv1.CreateOAuthClientRequest{Name: "phone", ProfileId: "native", RedirectUris: []string{"com.example.app:/back"}})
		_, err = w.secrets.Create(w.ctx, &iamv1.CreateOAuthClientSecretRequest{OauthClientId: native.GetId()})
		w.want(err, codes.FailedPrecondition, oauthclients.ReasonNoSecrets)
		for name, req := range map[string]*iamv1.CreateOAuthClientRequest{
			"profile": {Name: "a", ProfileId: "nothing"}, "method": {Name: "a", AuthenticationMethods: []string{"none"}},
		} {
			req.FolderId = w.folder
			if _, err := w.clients.Create(w.ctx, req); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestRedirectURIs(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		for _, uri := range []string{
			"", "/back", "app.example.com/back", "http://app.example.com/", "https://a.example.com/#x", "https://a.example.com/*", "https://", "javascript:alert(1)",
			"data:text/html,x", "com.example.app:/back", "https://ann:x@a.example.com/", "https://a.example.com\\@b.example.com/", "https://a.example.com/\u202e", "http://10.0.0.1/",
			"https://a.example.com/ x", "file:///etc/passwd", "http://localhost.example.com/",
		} {
			for _, req := range []*iamv1.CreateOAuthClientRequest{{RedirectUris: []string{uri}}, {PostLogoutRedirectUris: []string{uri}}} {
				req.FolderId, req.Name = w.folder, "a"
				if _, err := w.clients.Create(w.ctx, req); status.Code(err) != codes.InvalidArgument {
					t.Errorf("%q: %v", uri, err)
				}
			}
		}
		for _, uri := range []string{"https://a.example.com/back?x=1", "http://127.0.0.1/back", "http://[::1]:8080/", "http://localhost:3000/cb"} {
			w.client(&iamv1.CreateOAuthClientRequest{Name: "a", RedirectUris: []string{uri}})
		}
	})
}

func TestUpdate(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		c := w.client(&iamv1.CreateOAuthClientRequest{Name: "before", RedirectUris: []string{"https://a.example.com/"}, Scopes: []string{"email"}})
		op, err := w.clients.Update(w.ctx, &iamv1.UpdateOAuthClientRequest{
			OauthClientId: c.GetId(), Name: "after", PkceRequired: true, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name", "redirect_uris"}},
		})
		w.must(err)
		got := new(iamv1.OAuthClient)
		w.must(op.GetResponse().UnmarshalTo(got))
		if got.GetName() != "after" || len(got.GetRedirectUris()) > 0 || got.GetPkceRequired() || len(got.GetScopes()) != 1 {
			t.Errorf("updated %v", got)
		}
		_, err = w.clients.Update(w.ctx, &iamv1.UpdateOAuthClientRequest{OauthClientId: c.GetId(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"profile_id"}}})
		w.want(err, codes.InvalidArgument, apierr.ReasonInvalid)
		for i := range 2 {
			w.client(&iamv1.CreateOAuthClientRequest{Name: fmt.Sprintf("more-%d", i)})
		}
		var names []string
		for token := ""; ; {
			page, err := w.clients.List(w.ctx, &iamv1.ListOAuthClientsRequest{FolderId: w.folder, PageSize: 2, PageToken: token})
			w.must(err)
			for _, v := range page.GetOauthClients() {
				names = append(names, v.GetName())
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		if strings.Join(names, " ") != "after more-0 more-1" {
			t.Errorf("listed %v", names)
		}
	})
}

// The value of a secret lies nowhere; of a client there are ten at most.
func TestSecrets(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		c := w.client(&iamv1.CreateOAuthClientRequest{Name: "app"})
		create := &iamv1.CreateOAuthClientSecretRequest{OauthClientId: c.GetId()}
		var values []string
		for range 10 {
			op, err := w.secrets.Create(w.ctx, create)
			w.must(err)
			made := new(iamv1.CreateOAuthClientSecretResponse)
			w.must(op.GetResponse().UnmarshalTo(made))
			values = append(values, made.GetSecretValue())
		}
		_, err := w.secrets.Create(w.ctx, create)
		w.want(err, codes.ResourceExhausted, apierr.ReasonQuotaExceeded)
		list, err := w.secrets.List(w.ctx, &iamv1.ListOAuthClientSecretsRequest{OauthClientId: c.GetId()})
		if err != nil || len(list.GetOauthClientSecrets()) != 10 {
			t.Errorf("listed %v %v", list, err)
		}
		tables, err := sqldb.Layout(t.Context(), identity.Unit().Migrations...)
		w.must(err)
		for _, table := range tables {
			for _, column := range table.Columns {
				rows, err := w.db.QueryContext(t.Context(), `SELECT `+column.Name+` FROM `+table.Name)
				w.must(err)
				for rows.Next() {
					var cell any
					w.must(rows.Scan(&cell))
					if b, ok := cell.([]byte); ok {
						cell = string(b)
					}
					for _, value := range values {
						if strings.Contains(fmt.Sprint(cell), value) {
							t.Errorf("%s.%s holds the value of a secret", table.Name, column.Name)
						}
					}
				}
				w.must(rows.Err())
			}
		}
	})
}

// A folder takes its clients with it.
func TestDL6_ClientsGoWithTheirFolder(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		c := w.client(&iamv1.CreateOAuthClientRequest{Name: "app"})
		_, err := w.secrets.Create(w.ctx, &iamv1.CreateOAuthClientSecretRequest{OauthClientId: c.GetId()})
		w.must(err)
		_, err = rmv1.NewFolderServiceClient(w.Conn).Delete(w.ctx, &rmv1.DeleteFolderRequest{FolderId: w.folder, DeleteAfter: timestamppb.Now()})
		w.must(err)
		if _, err := w.clients.Get(w.ctx, &iamv1.GetOAuthClientRequest{OauthClientId: c.GetId()}); status.Code(err) != codes.NotFound {
			t.Errorf("a client of a folder that is gone: %v", err)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			var n int
			w.must(w.db.QueryRowContext(t.Context(), `
				SELECT (SELECT COUNT(*) FROM identity_oauth_clients) + (SELECT COUNT(*) FROM identity_oauth_client_secrets)`).Scan(&n))
			if n == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d rows are left after a minute", n)
			}
		}
	})
}
