package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/template"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// The demo world: one organization, two clouds with folders, four people.
//
//	demo                       olga   organization-manager.organizations.owner
//	├── production             adam   admin
//	│   ├── web                vera   viewer
//	│   └── billing
//	└── staging                edith  editor
//	    └── web
const (
	demoOrganization = "demo"
	demoOwner        = "olga"
)

var demoClouds = []demoCloud{
	{name: "production", folders: []string{"web", "billing"}, login: "adam", role: "admin"},
	{name: "staging", folders: []string{"web"}, login: "edith", role: "editor"},
}

// demoViewer may read the folder web of the cloud production and nothing else.
const demoViewer = "vera"

type demoCloud struct {
	name        string
	folders     []string
	login, role string
}

// demo makes the world through the doors that anybody has: the operator's socket
// for the people, gRPC for the rest.
type demo struct {
	operator      identityv1.OperatorServiceClient
	users         iamv1.YandexPassportUserAccountServiceClient
	organizations orgv1.OrganizationServiceClient
	creation      brmv1.OrganizationServiceClient
	clouds        rmv1.CloudServiceClient
	folders       rmv1.FolderServiceClient
}

// showDemo makes what is missing of the demo world and prints calls to try.
func showDemo(ctx context.Context, out io.Writer, dataDir, grpcAddress, httpAddress string) error {
	return operatorFlags{DataDir: dataDir}.call(ctx, func(ctx context.Context, op identityv1.OperatorServiceClient) error {
		conn, err := grpc.NewClient(grpcAddress, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		d := &demo{
			operator: op, users: iamv1.NewYandexPassportUserAccountServiceClient(conn),
			organizations: orgv1.NewOrganizationServiceClient(conn), creation: brmv1.NewOrganizationServiceClient(conn),
			clouds: rmv1.NewCloudServiceClient(conn), folders: rmv1.NewFolderServiceClient(conn),
		}
		world, err := d.make(ctx)
		if err != nil {
			return err
		}
		world.HTTP, world.DataDir = httpAddress, dataDir
		return demoText.Execute(out, world)
	})
}

// demoWorld is what the printed text names.
type demoWorld struct {
	HTTP, DataDir        string
	Organization         string
	Production, Staging  string
	ViewerFolder, Viewer string
	ViewerID             string
}

func (d *demo) make(ctx context.Context) (demoWorld, error) {
	w := demoWorld{Viewer: demoViewer}
	for _, login := range []string{demoOwner, "adam", "edith", demoViewer} {
		_, err := d.operator.CreateUser(ctx, &identityv1.CreateUserRequest{Login: login, Email: login + "@demo.example"})
		if err != nil && apierr.CodeOf(err) != codes.AlreadyExists {
			return w, fmt.Errorf("user %s: %w", login, err)
		}
	}
	token, err := d.operator.CreateToken(ctx, &identityv1.CreateTokenRequest{Login: demoOwner})
	if err != nil {
		return w, fmt.Errorf("token of %s: %w", demoOwner, err)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token.GetIamToken())
	if w.Organization, err = d.organization(ctx); err != nil {
		return w, fmt.Errorf("organization: %w", err)
	}
	for _, c := range demoClouds {
		cloud, folders, err := d.cloud(ctx, w.Organization, c)
		if err != nil {
			return w, fmt.Errorf("cloud %s: %w", c.name, err)
		}
		if c.name == "production" {
			w.Production, w.ViewerFolder = cloud, folders["web"]
		} else {
			w.Staging = cloud
		}
	}
	viewer, err := d.users.GetByLogin(ctx, &iamv1.GetUserAccountByLoginRequest{Login: demoViewer})
	if err != nil {
		return w, fmt.Errorf("user %s: %w", demoViewer, err)
	}
	w.ViewerID = viewer.GetId()
	_, err = d.folders.UpdateAccessBindings(ctx, addBinding(w.ViewerFolder, "viewer", w.ViewerID))
	return w, err
}

// organization returns the demo organization, which is made when absent.
func (d *demo) organization(ctx context.Context) (string, error) {
	found, err := d.organizations.List(ctx, &orgv1.ListOrganizationsRequest{Filter: named(demoOrganization)})
	if err != nil {
		return "", err
	}
	if len(found.GetOrganizations()) > 0 {
		return found.GetOrganizations()[0].GetId(), nil
	}
	op, err := d.creation.CreateOrganization(ctx, &brmv1.CreateOrganizationRequest{Name: demoOrganization, Title: "Demo"})
	return created(op, err, &orgv1.Organization{})
}

// cloud returns a cloud and its folders by name, made when absent, with the role
// of the person who works there.
func (d *demo) cloud(ctx context.Context, organization string, c demoCloud) (string, map[string]string, error) {
	found, err := d.clouds.List(ctx, &rmv1.ListCloudsRequest{OrganizationId: organization, Filter: named(c.name)})
	if err != nil {
		return "", nil, err
	}
	var id string
	if len(found.GetClouds()) > 0 {
		id = found.GetClouds()[0].GetId()
	} else {
		op, err := d.clouds.Create(ctx, &rmv1.CreateCloudRequest{OrganizationId: organization, Name: c.name})
		if id, err = created(op, err, &rmv1.Cloud{}); err != nil {
			return "", nil, err
		}
	}
	folders := make(map[string]string)
	for _, name := range c.folders {
		if folders[name], err = d.folder(ctx, id, name); err != nil {
			return "", nil, fmt.Errorf("folder %s: %w", name, err)
		}
	}
	user, err := d.users.GetByLogin(ctx, &iamv1.GetUserAccountByLoginRequest{Login: c.login})
	if err != nil {
		return "", nil, fmt.Errorf("user %s: %w", c.login, err)
	}
	_, err = d.clouds.UpdateAccessBindings(ctx, addBinding(id, c.role, user.GetId()))
	return id, folders, err
}

func (d *demo) folder(ctx context.Context, cloud, name string) (string, error) {
	found, err := d.folders.List(ctx, &rmv1.ListFoldersRequest{CloudId: cloud, Filter: named(name)})
	if err != nil {
		return "", err
	}
	if len(found.GetFolders()) > 0 {
		return found.GetFolders()[0].GetId(), nil
	}
	op, err := d.folders.Create(ctx, &rmv1.CreateFolderRequest{CloudId: cloud, Name: name})
	return created(op, err, &rmv1.Folder{})
}

func named(name string) string { return fmt.Sprintf("name = %q", name) }

func addBinding(resource, role, user string) *accesspb.UpdateAccessBindingsRequest {
	return &accesspb.UpdateAccessBindingsRequest{ResourceId: resource, AccessBindingDeltas: []*accesspb.AccessBindingDelta{{
		Action: accesspb.AccessBindingAction_ADD,
		AccessBinding: &accesspb.AccessBinding{
			RoleId: role, Subject: &accesspb.Subject{Type: "userAccount", Id: user},
		},
	}}}
}

// created reads the id of the resource that a finished operation made.
func created(op *operationpb.Operation, err error, into interface {
	proto.Message
	GetId() string
}) (string, error) {
	if err != nil {
		return "", err
	}
	if !op.GetDone() {
		return "", fmt.Errorf("operation %s is not done yet, start again in a moment", op.GetId())
	}
	if err := anypb.UnmarshalTo(op.GetResponse(), into, proto.UnmarshalOptions{}); err != nil {
		return "", fmt.Errorf("operation %s: %w", op.GetId(), err)
	}
	return into.GetId(), nil
}

var demoText = template.Must(template.New("demo").Parse(strings.TrimLeft(`
The demo world
  organization demo        {{.Organization}}   olga is its owner
    cloud production       {{.Production}}   adam is admin
      folder web           {{.ViewerFolder}}   vera is viewer
      folder billing
    cloud staging          {{.Staging}}   edith is editor
      folder web

Try, in another terminal. vera reads her folder (permitted):
  curl -sS -H "Authorization: Bearer $(bin/bindery token create --login vera --data-dir '{{.DataDir}}')" http://{{.HTTP}}/resource-manager/v1/folders/{{.ViewerFolder}}

vera reads the cloud above it (refused):
  curl -sS -H "Authorization: Bearer $(bin/bindery token create --login vera --data-dir '{{.DataDir}}')" http://{{.HTTP}}/resource-manager/v1/clouds/{{.Production}}

adam takes vera's role away; then the first call is refused, at once:
  curl -sS -X POST -H "Authorization: Bearer $(bin/bindery token create --login adam --data-dir '{{.DataDir}}')" http://{{.HTTP}}/resource-manager/v1/folders/{{.ViewerFolder}}:updateAccessBindings -d '{"accessBindingDeltas": [{"action": "REMOVE", "accessBinding": {"roleId": "viewer", "subject": {"type": "userAccount", "id": "{{.ViewerID}}"}}}]}'

Browse the API: http://{{.HTTP}}/docs/
`, "\n")))
