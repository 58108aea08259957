package e2e

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	workloadv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload"
	oidcv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload/oidc"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
	"github.com/bindery-iam/bindery/services/identity/workload/workloadtest"
)

const (
	jobSubject  = "repo:acme/app:ref:refs/heads/main"
	jobAudience = "https://bindery.example"
)

// TestWorkloadIdentity is a job of a CI service elsewhere: it exchanges its token at the
// token endpoint, for which keys are read over TLS, and calls the API by the official Go
// SDK. When its credential is deleted it is stopped at once, and stays so across a
// restart.
func TestWorkloadIdentity(t *testing.T) {
	binary(t)
	client := goClient(t, "gosdkv2")
	for name, form := range map[string]func(t *testing.T) (whole, identity *server){
		"all": func(t *testing.T) (*server, *server) {
			s := newServer(t, "")
			return s, s
		},
		"split": func(t *testing.T) (*server, *server) {
			s := newSplit(t)
			return s.server, s.unit["identity"]
		},
	} {
		t.Run(name, func(t *testing.T) {
			ci := startIssuer(t)
			s, identity := form(t)
			_, port, _ := strings.Cut(strings.TrimPrefix(ci.URL, "https://"), ":")
			identity.flags = append(identity.flags, "--issuer-allow", "127.0.0.1/32", "--issuer-port", port)
			s.start()
			j := newJob(t, s, ci)
			j.exchanges(t)
			sdk := startClient(t, []string{"SSL_CERT_FILE=" + s.caFile()}, client, "-endpoint", s.grpc)
			token := j.token(t)
			j.calls(t, sdk, token, "OK")
			j.revoke(t)
			j.calls(t, sdk, token, "UNAUTHENTICATED")
			if status, got := j.post(t, j.form()); status != http.StatusBadRequest || got["error"] != "invalid_request" {
				t.Errorf("after the end of the credential: %d %v", status, got)
			}
			for _, one := range append([]*server{s}, s.beside...) {
				one.kill()
			}
			s.start()
			j.world.connect(t)
			j.calls(t, sdk, token, "UNAUTHENTICATED")
			j.link(t)
			j.calls(t, sdk, j.token(t), "OK")
		})
	}
}

// startIssuer starts an issuer whose certificate the servers to come trust.
func startIssuer(t *testing.T) *workloadtest.Issuer {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	ci := workloadtest.New(t, "https://"+srv.Listener.Addr().String())
	srv.Config.Handler = ci
	srv.StartTLS()
	t.Cleanup(srv.Close)
	file := filepath.Join(t.TempDir(), "issuer.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(file, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	return ci
}

// job is a workload with what was made for it.
type job struct {
	world                  *world
	ci                     *workloadtest.Issuer
	folder, account        string
	federation, credential string
}

func newJob(t *testing.T, s *server, ci *workloadtest.Issuer) *job {
	t.Helper()
	j := &job{world: newWorld(t, s), ci: ci}
	ctx := j.owner()
	cloud, folder, account, federation := new(rmv1.Cloud), new(rmv1.Folder), new(iamv1.ServiceAccount), new(oidcv1.Federation)
	op, err := j.world.clouds().Create(ctx, &rmv1.CreateCloudRequest{OrganizationId: j.world.org, Name: "github"})
	j.did(t, op, err, cloud)
	op, err = j.world.folders().Create(ctx, &rmv1.CreateFolderRequest{CloudId: cloud.GetId(), Name: "github"})
	j.did(t, op, err, folder)
	op, err = iamv1.NewServiceAccountServiceClient(j.world.conn).Create(ctx, &iamv1.CreateServiceAccountRequest{FolderId: folder.GetId(), Name: "deployer"})
	j.did(t, op, err, account)
	op, err = j.world.folders().UpdateAccessBindings(ctx, &accesspb.UpdateAccessBindingsRequest{ResourceId: folder.GetId(), AccessBindingDeltas: []*accesspb.AccessBindingDelta{{
		Action:        accesspb.AccessBindingAction_ADD,
		AccessBinding: &accesspb.AccessBinding{RoleId: "viewer", Subject: &accesspb.Subject{Type: "serviceAccount", Id: account.GetId()}},
	}}})
	j.did(t, op, err, nil)
	op, err = oidcv1.NewFederationServiceClient(j.world.conn).Create(ctx, &oidcv1.CreateFederationRequest{
		FolderId: folder.GetId(), Name: "github", Audiences: []string{jobAudience}, Issuer: ci.URL, JwksUrl: ci.URL + "/keys",
	})
	j.did(t, op, err, federation)
	j.folder, j.account, j.federation = folder.GetId(), account.GetId(), federation.GetId()
	j.link(t)
	return j
}

func (j *job) owner() context.Context {
	return metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+j.world.owner)
}

// did waits for an operation and reads its answer.
func (j *job) did(t *testing.T, op *operationpb.Operation, err error, into proto.Message) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); err == nil && !op.GetDone(); time.Sleep(10 * time.Millisecond) { // polls
		if time.Now().After(deadline) {
			t.Fatalf("operation %s is not done after a minute", op.GetId())
		}
		op, err = j.world.operations().Get(j.owner(), &operationpb.GetOperationRequest{OperationId: op.GetId()})
	}
	if err == nil && into != nil {
		err = op.GetResponse().UnmarshalTo(into)
	}
	if err != nil || op.GetError() != nil {
		t.Fatalf("%v, %v", err, op.GetError())
	}
}

// link makes the credential.
func (j *job) link(t *testing.T) {
	t.Helper()
	made := new(workloadv1.FederatedCredential)
	op, err := workloadv1.NewFederatedCredentialServiceClient(j.world.conn).Create(j.owner(), &workloadv1.CreateFederatedCredentialRequest{
		ServiceAccountId: j.account, FederationId: j.federation, ExternalSubjectId: jobSubject,
	})
	j.did(t, op, err, made)
	j.credential = made.GetId()
}

// revoke deletes it.
func (j *job) revoke(t *testing.T) {
	t.Helper()
	op, err := workloadv1.NewFederatedCredentialServiceClient(j.world.conn).Delete(j.owner(), &workloadv1.DeleteFederatedCredentialRequest{
		FederatedCredentialId: j.credential,
	})
	j.did(t, op, err, nil)
}

// form is a good request to the token endpoint.
func (j *job) form() url.Values {
	return url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"audience": {j.account}, "subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"},
		"subject_token": {j.ci.Token(j.ci.Claims(jobSubject, jobAudience, time.Now()))},
	}
}

func (j *job) post(t *testing.T, form url.Values) (status int, answer map[string]any) {
	t.Helper()
	resp, err := http.PostForm("http://"+j.world.server.http+"/oauth/token", form) //nolint:noctx // of a test
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s has the headers %v", resp.Status, resp.Header)
	}
	return resp.StatusCode, answer
}

// token exchanges a token.
func (j *job) token(t *testing.T) string {
	t.Helper()
	status, got := j.post(t, j.form())
	if status != http.StatusOK {
		t.Fatalf("%d %v", status, got)
	}
	return got["access_token"].(string)
}

// calls reads the folder by the SDK.
func (j *job) calls(t *testing.T, sdk *client, token, want string) {
	t.Helper()
	got, err := sdk.do(call{Session: session{IAMToken: token}, Name: "folder.get", Message: map[string]any{"folderId": j.folder}})
	if err != nil || got.Code != want {
		t.Errorf("%+v, %v; want %s", got, err, want)
	}
}

// exchanges holds the endpoint to RFC 6749 and RFC 8693.
func (j *job) exchanges(t *testing.T) {
	t.Helper()
	status, got := j.post(t, j.form())
	life, _ := got["expires_in"].(float64)
	if status != http.StatusOK || got["token_type"] != "Bearer" || got["issued_token_type"] != "urn:ietf:params:oauth:token-type:access_token" ||
		life < 11*3600 || life > 12*3600 || !strings.HasPrefix(got["access_token"].(string), "t1.") {
		t.Errorf("%d %v", status, got)
	}
	for name, c := range map[string]struct {
		change func(url.Values)
		want   string
	}{
		"no grant":            {func(f url.Values) { f.Del("grant_type") }, "invalid_request"},
		"another grant":       {func(f url.Values) { f.Set("grant_type", "password") }, "unsupported_grant_type"},
		"no token":            {func(f url.Values) { f.Del("subject_token") }, "invalid_request"},
		"no type":             {func(f url.Values) { f.Del("subject_token_type") }, "invalid_request"},
		"another type":        {func(f url.Values) { f.Set("subject_token_type", "urn:ietf:params:oauth:token-type:saml2") }, "invalid_request"},
		"another type wanted": {func(f url.Values) { f.Set("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token") }, "invalid_request"},
		"no audience":         {func(f url.Values) { f.Del("audience") }, "invalid_target"},
		"two audiences":       {func(f url.Values) { f.Add("audience", "x") }, "invalid_target"},
		"a resource":          {func(f url.Values) { f.Set("resource", "https://api.example") }, "invalid_target"},
		"a scope":             {func(f url.Values) { f.Set("scope", "all") }, "invalid_scope"},
		"an actor":            {func(f url.Values) { f.Set("actor_token", "x") }, "invalid_request"},
		"a token twice":       {func(f url.Values) { f.Add("subject_token", "x") }, "invalid_request"},
		"another account":     {func(f url.Values) { f.Set("audience", "sac00000000000000000") }, "invalid_request"},
		"another audience":    {func(f url.Values) { f.Set("subject_token", j.ci.Token(j.ci.Claims(jobSubject, "other", time.Now()))) }, "invalid_request"},
		"another subject": {func(f url.Values) {
			f.Set("subject_token", j.ci.Token(j.ci.Claims("repo:evil/app", jobAudience, time.Now())))
		}, "invalid_request"},
		"a token that is none": {func(f url.Values) { f.Set("subject_token", "x\x00\xff") }, "invalid_request"},
		"a huge form":          {func(f url.Values) { f.Set("subject_token", strings.Repeat("x", 1<<17)) }, "invalid_request"},
		"a huge token":         {func(f url.Values) { f.Set("subject_token", strings.Repeat("x", 20_000)) }, "invalid_request"},
	} {
		f := j.form()
		c.change(f)
		status, got := j.post(t, f)
		if status != http.StatusBadRequest || got["error"] != c.want || got["access_token"] != nil {
			t.Errorf("%s: %d %v, want 400 %s", name, status, got, c.want)
		}
	}
	base := "http://" + j.world.server.http + "/oauth/token"
	for name, c := range map[string]struct {
		method, url, kind string
		status            int
	}{
		"GET":                   {http.MethodGet, base + "?" + j.form().Encode(), "", http.StatusMethodNotAllowed},
		"JSON":                  {http.MethodPost, base, "application/json", http.StatusBadRequest},
		"parameters in the URL": {http.MethodPost, base + "?" + j.form().Encode(), "application/x-www-form-urlencoded", http.StatusBadRequest},
	} {
		req, err := http.NewRequest(c.method, c.url, strings.NewReader("{}")) //nolint:noctx // of a test
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", c.kind)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", name, resp.Status, c.status)
		}
	}
}
