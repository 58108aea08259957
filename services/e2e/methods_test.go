package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	supportv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/support/v1"
	endpointpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/endpoint"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	awsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/awscompatibility"
	workloadv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload"
	oidcv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload/oidc"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// publicFiles are the files of the services that both doors serve.
var publicFiles = []protoreflect.FileDescriptor{
	accessservicev2.File_yandex_cloud_priv_accessservice_v2_access_service_proto,
	accessv1.File_bindery_access_v1_access_binding_service_proto,
	accessv1.File_bindery_access_v1_access_policy_service_proto,
	accessv1.File_bindery_access_v1_role_request_service_proto,
	identityv1.File_bindery_identity_v1_invitation_service_proto,
	identityv1.File_bindery_identity_v1_session_service_proto,
	notificationv1.File_bindery_notification_v1_subscription_service_proto,
	brmv1.File_bindery_resourcemanager_v1_deletion_service_proto,
	brmv1.File_bindery_resourcemanager_v1_organization_service_proto,
	supportv1.File_bindery_support_v1_ticket_service_proto,
	endpointpb.File_yandex_cloud_endpoint_api_endpoint_service_proto,
	iamv1.File_yandex_cloud_iam_v1_access_analyzer_service_proto,
	iamv1.File_yandex_cloud_iam_v1_access_policy_template_service_proto,
	iamv1.File_yandex_cloud_iam_v1_api_key_service_proto,
	iamv1.File_yandex_cloud_iam_v1_iam_token_service_proto,
	iamv1.File_yandex_cloud_iam_v1_key_service_proto,
	iamv1.File_yandex_cloud_iam_v1_refresh_token_service_proto,
	iamv1.File_yandex_cloud_iam_v1_role_service_proto,
	iamv1.File_yandex_cloud_iam_v1_oauth_client_secret_service_proto,
	iamv1.File_yandex_cloud_iam_v1_oauth_client_service_proto,
	iamv1.File_yandex_cloud_iam_v1_service_account_service_proto,
	iamv1.File_yandex_cloud_iam_v1_subject_details_service_proto,
	iamv1.File_yandex_cloud_iam_v1_user_account_service_proto,
	iamv1.File_yandex_cloud_iam_v1_yandex_passport_user_account_service_proto,
	awsv1.File_yandex_cloud_iam_v1_awscompatibility_access_key_service_proto,
	operationpb.File_yandex_cloud_operation_operation_service_proto,
	orgv1.File_yandex_cloud_organizationmanager_v1_group_service_proto,
	orgv1.File_yandex_cloud_organizationmanager_v1_organization_service_proto,
	orgv1.File_yandex_cloud_organizationmanager_v1_os_login_service_proto,
	orgv1.File_yandex_cloud_organizationmanager_v1_ssh_certificate_service_proto,
	orgv1.File_yandex_cloud_organizationmanager_v1_user_service_proto,
	orgv1.File_yandex_cloud_organizationmanager_v1_user_ssh_key_service_proto,
	rmv1.File_yandex_cloud_resourcemanager_v1_cloud_service_proto,
	rmv1.File_yandex_cloud_resourcemanager_v1_folder_service_proto,
}

// TestBothDoorsServeEveryMethod calls every method over gRPC and at each of its
// HTTP bindings, as the owner of what its path names and with nothing else in the
// request, and wants the same answer from both.
func TestBothDoorsServeEveryMethod(t *testing.T) {
	eitherForm(t, func(t *testing.T, s *server) {
		d := doors{t: t, server: s, user: s.createUser("ann").ID, token: s.createToken("ann")}
		conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		d.conn = conn
		for _, file := range publicFiles {
			for i := range file.Services().Len() {
				methods := file.Services().Get(i).Methods()
				for j := range methods.Len() {
					if !methods.Get(j).IsStreamingClient() && !methods.Get(j).IsStreamingServer() { // files: TestSupportTickets
						d.compare(methods.Get(j))
					}
				}
			}
		}
	})
}

// doors are the two ways to a method, with one person's token.
type doors struct {
	t      *testing.T
	server *server
	user   string
	token  string
	conn   *grpc.ClientConn

	org string // made with the first cloud
}

// seen is what both doors must agree on.
type seen struct {
	Code, Reason string
	Fields       []string
}

func (d *doors) compare(m protoreflect.MethodDescriptor) {
	name := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
	rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	if rule == nil { // the private packages say nothing of HTTP
		rule = &annotations.HttpRule{Pattern: &annotations.HttpRule_Post{Post: name}}
	}
	for _, binding := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
		verb, template := pathOf(binding)
		var in *dynamicpb.Message
		path := func(w things) string { // each door has things of its own: some methods end them
			in = dynamicpb.NewMessage(m.Input())
			return pathField.ReplaceAllStringFunc(template, func(part string) string {
				return put(in, strings.Trim(part, "{}"), w)
			})
		}
		path(d.things(m))
		overGRPC := d.overGRPC(name, in, dynamicpb.NewMessage(m.Output()))
		if overGRPC.Code == "UNIMPLEMENTED" {
			d.t.Errorf("%s is not implemented", name)
		}
		if diff := cmp.Diff(overGRPC, d.overREST(verb, path(d.things(m)))); diff != "" {
			d.t.Errorf("%s: %s %s is another answer than gRPC gives (-gRPC +REST):\n%s", name, verb, template, diff)
		}
	}
}

// things are ids to put into a request, by the name of the field.
type things map[string]string

// things makes a cloud and a folder for a method of a service.
func (d *doors) things(m protoreflect.MethodDescriptor) things {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+d.token)
	op, err := rmv1.NewCloudServiceClient(d.conn).Create(ctx, &rmv1.CreateCloudRequest{OrganizationId: d.org, Name: "cloud"})
	if err != nil {
		d.t.Fatal(err)
	}
	var cloud rmv1.Cloud
	if err := op.GetResponse().UnmarshalTo(&cloud); err != nil {
		d.t.Fatal(err)
	}
	d.org = cloud.GetOrganizationId()
	made, err := rmv1.NewFolderServiceClient(d.conn).Create(ctx, &rmv1.CreateFolderRequest{CloudId: cloud.GetId(), Name: "folder"})
	if err != nil {
		d.t.Fatal(err)
	}
	var folder rmv1.Folder
	if err := made.GetResponse().UnmarshalTo(&folder); err != nil {
		d.t.Fatal(err)
	}
	w := things{
		"organization_id": d.org, "cloud_id": cloud.GetId(), "folder_id": folder.GetId(), "operation_id": op.GetId(),
		"user_account_id": d.user, "subject_id": d.user, "invitation_id": "inv00000000000000000", "key_id": "aky00000000000000000", "role_id": "viewer", "api_endpoint_id": "iam",
		"request_id": "rrq00000000000000000", "ticket_id": "tkt00000000000000000",
		"oauth_client_id": "oac00000000000000000", "oauth_client_secret_id": "oas00000000000000000",
		"os_login_profile_id": "olp00000000000000000", "user_ssh_key_id": "usk00000000000000000",
		"subject_container_id": "fed00000000000000000", "external_id": "a-team",
		"type": "resource-manager.folder", "id": folder.GetId(), // of a resource of any type
	}
	d.subjects(ctx, m.Parent().Name(), folder.GetId(), w)
	w["resource_id"] = map[protoreflect.Name]string{
		"OrganizationService": d.org, "CloudService": cloud.GetId(), "FolderService": folder.GetId(),
		"ServiceAccountService": w["service_account_id"], "GroupService": w["group_id"], "FederationService": w["federation_id"],
	}[m.Parent().Name()]
	return w
}

// subjects makes a service account with its keys, or a group, for the services that are
// about them.
func (d *doors) subjects(ctx context.Context, service protoreflect.Name, folder string, w things) {
	made := func(op *operationpb.Operation, err error, into proto.Message) {
		if err == nil {
			err = op.GetResponse().UnmarshalTo(into)
		}
		if err != nil {
			d.t.Fatal(err)
		}
	}
	if service == "GroupService" {
		group := new(orgv1.Group)
		op, err := orgv1.NewGroupServiceClient(d.conn).Create(ctx, &orgv1.CreateGroupRequest{OrganizationId: d.org, Name: "group-" + rand.Text()})
		made(op, err, group)
		w["group_id"] = group.GetId()
		return
	}
	account := new(iamv1.ServiceAccount)
	op, err := iamv1.NewServiceAccountServiceClient(d.conn).Create(ctx, &iamv1.CreateServiceAccountRequest{FolderId: folder, Name: "robot"})
	made(op, err, account)
	w["service_account_id"] = account.GetId()
	switch service {
	case "ApiKeyService":
		key, err := iamv1.NewApiKeyServiceClient(d.conn).Create(ctx, &iamv1.CreateApiKeyRequest{ServiceAccountId: account.GetId()})
		if err != nil {
			d.t.Fatal(err)
		}
		w["api_key_id"] = key.GetApiKey().GetId()
	case "AccessKeyService":
		key, err := awsv1.NewAccessKeyServiceClient(d.conn).Create(ctx, &awsv1.CreateAccessKeyRequest{ServiceAccountId: account.GetId()})
		if err != nil {
			d.t.Fatal(err)
		}
		w["access_key_id"] = key.GetAccessKey().GetId()
	case "FederationService", "FederatedCredentialService":
		federation, credential := new(oidcv1.Federation), new(workloadv1.FederatedCredential)
		op, err := oidcv1.NewFederationServiceClient(d.conn).Create(ctx, &oidcv1.CreateFederationRequest{
			FolderId: folder, Name: "issuer", Audiences: []string{"bindery"}, Issuer: "https://issuer.example", JwksUrl: "https://issuer.example/keys",
		})
		made(op, err, federation)
		op, err = workloadv1.NewFederatedCredentialServiceClient(d.conn).Create(ctx, &workloadv1.CreateFederatedCredentialRequest{
			ServiceAccountId: account.GetId(), FederationId: federation.GetId(), ExternalSubjectId: "workload",
		})
		made(op, err, credential)
		w["federation_id"], w["federated_credential_id"] = federation.GetId(), credential.GetId()
	case "KeyService":
		key, err := iamv1.NewKeyServiceClient(d.conn).Create(ctx, &iamv1.CreateKeyRequest{ServiceAccountId: account.GetId()})
		if err != nil {
			d.t.Fatal(err)
		}
		w["key_id"] = key.GetKey().GetId()
	}
}

var pathField = regexp.MustCompile(`\{[^}]+\}`)

// put sets a field that a path names and returns what the path has there.
func put(request protoreflect.Message, field string, w things) string {
	var value string
	for part := range strings.SplitSeq(field, ".") {
		fd := request.Descriptor().Fields().ByName(protoreflect.Name(part))
		if fd.Kind() == protoreflect.MessageKind {
			request = request.Mutable(fd).Message()
			continue
		}
		value = w[part]
		request.Set(fd, protoreflect.ValueOfString(value))
	}
	return value
}

func pathOf(rule *annotations.HttpRule) (verb, path string) {
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch
	case *annotations.HttpRule_Put:
		return http.MethodPut, p.Put
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete
	default:
		return "", ""
	}
}

func (d *doors) overGRPC(method string, in, out proto.Message) seen {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+d.token)
	st := status.Convert(d.conn.Invoke(ctx, method, in, out))
	s := seen{Code: code.Code(st.Code()).String()}
	for _, detail := range st.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			s.Reason = detail.GetReason()
		case *errdetails.BadRequest:
			for _, v := range detail.GetFieldViolations() {
				s.Fields = append(s.Fields, v.GetField())
			}
		}
	}
	return s
}

func (d *doors) overREST(verb, path string) seen {
	var body *bytes.Reader
	if verb == http.MethodGet || verb == http.MethodDelete {
		body = bytes.NewReader(nil)
	} else {
		body = bytes.NewReader([]byte("{}"))
	}
	req, err := http.NewRequest(verb, "http://"+d.server.http+path, body)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	r, err := readResult(resp)
	if err != nil {
		d.t.Errorf("%s %s: %v", verb, path, err)
	}
	return seen{Code: r.Code, Reason: r.Reason, Fields: r.Fields}
}

// TestREST wants that the authorization header alone says who a REST caller is, and
// that what no method understands is the caller's fault.
func TestREST(t *testing.T) { eitherForm(t, testREST) }

func testREST(t *testing.T, s *server) {
	ann := s.createUser("ann")
	token := s.createToken("ann")
	for _, c := range []struct {
		name, path string
		header     http.Header
		status     int
		code       string
	}{
		{name: "no such path", path: "/nothing/v1/here", status: 404, code: "NOT_FOUND"},
		{name: "a token", path: "/iam/v1/userAccounts/" + ann.ID, header: http.Header{"Authorization": {"Bearer " + token}}, status: 200, code: "OK"},
		{name: "no token", path: "/iam/v1/userAccounts/" + ann.ID, status: 401, code: "UNAUTHENTICATED"},
		{
			name: "a gRPC metadata header is not a token", path: "/iam/v1/userAccounts/" + ann.ID, status: 401, code: "UNAUTHENTICATED",
			header: http.Header{"Grpc-Metadata-Authorization": {"Bearer " + token}},
		},
		{
			name: "a unit's name is not a credential", path: "/iam/v1/userAccounts/" + ann.ID, status: 401, code: "UNAUTHENTICATED",
			header: http.Header{"Bindery-Unit": {"identity"}, "Grpc-Metadata-Bindery-Unit": {"identity"}},
		},
		{
			name: "two tokens are none", path: "/iam/v1/userAccounts/" + ann.ID, status: 401, code: "UNAUTHENTICATED",
			header: http.Header{"Authorization": {"Bearer nonsense", "Bearer " + token}},
		},
		{name: "a path that is no text", path: "/iam/v1/userAccounts/%ff", status: 400, code: "INVALID_ARGUMENT"},
		{name: "a query that is no text", path: "/iam/v1/roles?filter=%ff", status: 400, code: "INVALID_ARGUMENT"},
		{name: "a query that is none", path: "/iam/v1/roles?filter=%zz", status: 400, code: "INVALID_ARGUMENT"},
		{name: "endpoints need no token", path: "/endpoints", status: 200, code: "OK"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodGet, "http://"+s.http+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = c.header
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := readResult(resp)
			if err != nil || resp.StatusCode != c.status || got.Code != c.code {
				t.Errorf("got %d %+v, %v; want %d %s", resp.StatusCode, got, err, c.status, c.code)
			}
		})
	}
}

// TestDescription wants every public path in the OpenAPI description.
func TestDescription(t *testing.T) {
	s := startServer(t, "")
	resp, err := http.Get("http://" + s.http + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var description struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&description); err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	var described []string
	for path, verbs := range description.Paths {
		for verb := range verbs {
			described = append(described, strings.ToUpper(verb)+" "+pathField.ReplaceAllString(path, "{}"))
		}
	}
	for name, at := range routes {
		if want := at.verb + " " + pathField.ReplaceAllString(at.path, "{}"); !slices.Contains(described, want) {
			t.Errorf("%s: %s is not described", name, want)
		}
	}
}
