package identity

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	workloadv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload"
	oidcv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload/oidc"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
	"github.com/bindery-iam/bindery/services/identity/workload/workloadtest"
)

const (
	workloadSubject  = "repo:acme/app:ref:refs/heads/main"
	workloadAudience = "https://iam.example"
)

// factory is a suite with an issuer that a federation of the folder trusts, and an account
// that a workload acts as.
type factory struct {
	*suite
	issuer      *workloadtest.Issuer
	federations oidcv1.FederationServiceClient
	credentials workloadv1.FederatedCredentialServiceClient
	exchange    identityv1.TokenExchangeServiceClient

	account    string
	federation string
	credential string
}

func inFactory(t *testing.T, test func(t *testing.T, w *factory)) {
	t.Helper()
	inSuite(t, func(t *testing.T, s *suite) {
		w := &factory{
			suite: s, federations: oidcv1.NewFederationServiceClient(s.Conn), credentials: workloadv1.NewFederatedCredentialServiceClient(s.Conn),
			exchange: identityv1.NewTokenExchangeServiceClient(s.Conn),
		}
		srv := httptest.NewUnstartedServer(nil)
		w.issuer = workloadtest.New(t, "http://"+srv.Listener.Addr().String())
		srv.Config.Handler = w.issuer
		srv.Start()
		t.Cleanup(srv.Close)
		w.account = w.suite.account("robot")
		w.grant("viewer", typeFolder, w.folder, "serviceAccount", w.account)
		w.federation = w.federate(w.folder, "github").GetId()
		w.credential = w.link(w.account, w.federation, workloadSubject)
		test(t, w)
	})
}

// did reads what a finished operation answers with.
func (w *factory) did(op *operationpb.Operation, err error, into proto.Message) {
	w.t.Helper()
	w.must(err)
	if !op.GetDone() || op.GetError() != nil {
		w.t.Fatalf("operation %v", op)
	}
	if into != nil {
		w.must(op.GetResponse().UnmarshalTo(into))
	}
}

func (w *factory) request(folder, name string) *oidcv1.CreateFederationRequest {
	return &oidcv1.CreateFederationRequest{
		FolderId: folder, Name: name, Audiences: []string{workloadAudience}, Issuer: w.issuer.URL, JwksUrl: w.issuer.URL + "/keys",
		Labels: map[string]string{"of": "ci"},
	}
}

func (w *factory) federate(folder, name string) *oidcv1.Federation {
	w.t.Helper()
	f := new(oidcv1.Federation)
	op, err := w.federations.Create(w.asOwner, w.request(folder, name))
	w.did(op, err, f)
	return f
}

func (w *factory) link(account, federation, subject string) string {
	w.t.Helper()
	c := new(workloadv1.FederatedCredential)
	op, err := w.credentials.Create(w.asOwner, &workloadv1.CreateFederatedCredentialRequest{
		ServiceAccountId: account, FederationId: federation, ExternalSubjectId: subject,
	})
	w.did(op, err, c)
	return c.GetId()
}

func (w *factory) good() string {
	return w.issuer.Token(w.issuer.Claims(workloadSubject, workloadAudience, w.time()))
}

func (w *factory) take(token string) (*identityv1.ExchangeTokenResponse, error) {
	return w.exchange.ExchangeToken(w.t.Context(), &identityv1.ExchangeTokenRequest{ServiceAccountId: w.account, SubjectToken: token})
}

// workload is a context of a workload that acts as the account.
func (w *factory) workload() context.Context {
	w.t.Helper()
	got, err := w.take(w.good())
	w.must(err)
	return w.Context(got.GetIamToken())
}

// may reports how a call of the workload ends.
func (w *factory) may(ctx context.Context) codes.Code {
	_, err := rmv1.NewFolderServiceClient(w.Conn).Get(ctx, &rmv1.GetFolderRequest{FolderId: w.folder})
	return apierr.CodeOf(err)
}

func (w *factory) wantMay(ctx context.Context, what string, want codes.Code) {
	w.t.Helper()
	if got := w.may(ctx); got != want {
		w.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// A token of the issuer becomes one of the account, which does what the account may.
func TestWI1_AWorkloadActsAsItsAccount(t *testing.T) {
	inFactory(t, func(t *testing.T, w *factory) {
		got, err := w.take(w.good())
		w.must(err)
		if life := got.GetExpiresAt().AsTime().Sub(w.time()); life > 12*time.Hour || life < 11*time.Hour {
			t.Errorf("the token lives %v (TK-1)", life)
		}
		ctx := w.Context(got.GetIamToken())
		w.wantMay(ctx, "reading", codes.OK)
		_, err = rmv1.NewFolderServiceClient(w.Conn).Update(ctx, &rmv1.UpdateFolderRequest{FolderId: w.folder, Description: "x"})
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		a, err := iamv1.NewServiceAccountServiceClient(w.Conn).Get(w.asOwner, &iamv1.GetServiceAccountRequest{ServiceAccountId: w.account})
		w.must(err)
		if a.GetLastAuthenticatedAt() == nil {
			t.Error("the account was never used")
		}
		var text string
		w.must(w.db.QueryRowContext(t.Context(), `SELECT record FROM identity_audit WHERE event_type = 'bindery.audit.iam.CreateIamToken'
			AND record LIKE '%federated_credential_id%'`).Scan(&text))
		for _, want := range []string{w.credential, w.federation, w.account, workloadSubject, w.issuer.URL} {
			if !strings.Contains(text, want) {
				t.Errorf("the record lacks %s: %s", want, text)
			}
		}
	})
}

// Of the corpus nothing is exchanged, nor a good token for what it was not made for, and
// every refusal reads the same.
func TestWI1_BadTokens(t *testing.T) {
	inFactory(t, func(t *testing.T, w *factory) {
		w.must(proofOf(w.take(w.good())))
		reads := w.issuer.Reads.Load()
		bad := w.issuer.Bad(workloadSubject, workloadAudience, w.time())
		for name, token := range bad {
			_, err := w.take(token)
			switch name {
			case "empty":
				wantFailure(t, err, codes.InvalidArgument)
			case "huge":
				if code := apierr.CodeOf(err); code != codes.InvalidArgument {
					t.Errorf("huge: %v", err)
				}
			default:
				if apierr.CodeOf(err) != codes.Unauthenticated || apierr.ReasonOf(apierr.FromRPC(err)) != ReasonCredentialsInvalid {
					t.Errorf("%s: %v, want CREDENTIALS_INVALID", name, err)
				}
			}
		}
		if n := w.issuer.Reads.Load() - reads; n != 0 {
			t.Errorf("the keys were read %d times, want none within the period", n)
		}
		other := w.suite.account("other")
		for name, accountID := range map[string]string{"another account": other, "no account": "sac00000000000000000", "a user": w.owner.GetId()} {
			_, err := w.exchange.ExchangeToken(t.Context(), &identityv1.ExchangeTokenRequest{ServiceAccountId: accountID, SubjectToken: w.good()})
			if apierr.ReasonOf(apierr.FromRPC(err)) != ReasonCredentialsInvalid {
				t.Errorf("%s: %v", name, err)
			}
		}
		if strings.Contains(w.log.String(), strings.Split(w.good(), ".")[1][:40]) {
			t.Error("the log has a token")
		}
	})
}

// wantFailure is wantCode for any reason.
func wantFailure(t *testing.T, err error, code codes.Code) {
	t.Helper()
	if got := apierr.CodeOf(err); got != code {
		t.Errorf("%v, want %v", err, code)
	}
}

func proofOf(_ *identityv1.ExchangeTokenResponse, err error) error { return err }

// Two issuers of the same subject are two workloads.
func TestWI1_TheSameSubjectOfAnotherIssuer(t *testing.T) {
	inFactory(t, func(t *testing.T, w *factory) {
		evil := workloadtest.New(t, w.issuer.URL) // says that it is the issuer
		_, err := w.take(evil.Token(evil.Claims(workloadSubject, workloadAudience, w.time())))
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
		evil.URL = "https://evil.example"
		_, err = w.take(evil.Token(evil.Claims(workloadSubject, workloadAudience, w.time())))
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
	})
}

// Keys that cannot be read are no reason to refuse for good; those that were are used
// for a while; a new one is found.
func TestWI2_KeysOfIssuers(t *testing.T) {
	inFactory(t, func(t *testing.T, w *factory) {
		w.issuer.Down.Store(true)
		_, err := w.take(w.good())
		wantCode(t, err, codes.Unavailable, ReasonIssuerUnavailable)
		w.issuer.Down.Store(false)
		w.advance(time.Minute)
		w.must(proofOf(w.take(w.good())))
		w.issuer.Down.Store(true)
		w.advance(30 * time.Minute)
		w.must(proofOf(w.take(w.good())))
		w.advance(time.Hour)
		_, err = w.take(w.good())
		wantCode(t, err, codes.Unavailable, ReasonIssuerUnavailable)
		w.issuer.Down.Store(false)
		w.advance(time.Minute)
		w.must(proofOf(w.take(w.good())))
		w.issuer.Rotate("second")
		w.advance(time.Minute)
		w.must(proofOf(w.take(w.good())))
	})
}

// Addresses that are not public are refused when a federation is made.
func TestWI2_AddressesOfKeys(t *testing.T) {
	inFactory(t, func(t *testing.T, w *factory) {
		for _, url := range []string{
			"http://issuer.example/keys", "https://10.0.0.1/keys", "https://169.254.169.254/latest", "https://[fd00::1]/keys", "https://issuer.example:22/",
			"https://a:b@issuer.example/", "file:///etc/passwd", "keys", "https://issuer.example/#x",
		} {
			req := w.request(w.folder, "refused")
			req.JwksUrl = url
			_, err := w.federations.Create(w.asOwner, req)
			wantFailure(t, err, codes.InvalidArgument)
			_, err = w.federations.Update(w.asOwner, &oidcv1.UpdateFederationRequest{FederationId: w.federation, JwksUrl: url, UpdateMask: paths("jwks_url")})
			wantFailure(t, err, codes.InvalidArgument)
		}
		req := w.request(w.folder, "refused")
		req.Issuer = "issuer"
		_, err := w.federations.Create(w.asOwner, req)
		wantFailure(t, err, codes.InvalidArgument)
	})
}

func paths(all ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: all} }

// The end of what a token came from is the end of the token, when the operation is done.
func TestWI3_TokensEndWithWhatTheyCameFrom(t *testing.T) {
	inFactory(t, func(t *testing.T, w *factory) {
		refused := func(what string) {
			t.Helper()
			_, err := w.take(w.good())
			wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
			if t.Failed() {
				t.Fatalf("so far with %s", what)
			}
		}
		// The credential.
		w.link(w.account, w.federation, "repo:acme/other")
		first := w.workload()
		kept, err := w.take(w.issuer.Token(w.issuer.Claims("repo:acme/other", workloadAudience, w.time())))
		w.must(err)
		op, err := w.credentials.Delete(w.asOwner, &workloadv1.DeleteFederatedCredentialRequest{FederatedCredentialId: w.credential})
		w.did(op, err, nil)
		w.wantMay(first, "after its credential was deleted", codes.Unauthenticated)
		w.wantMay(w.Context(kept.GetIamToken()), "by another credential", codes.OK)
		refused("a deleted credential")
		w.credential = w.link(w.account, w.federation, workloadSubject)
		w.wantMay(first, "after it was made again", codes.Unauthenticated)

		// The federation, disabled and enabled again.
		second := w.workload()
		op, err = w.federations.Update(w.asOwner, &oidcv1.UpdateFederationRequest{FederationId: w.federation, Disabled: true, UpdateMask: paths("disabled")})
		f := new(oidcv1.Federation)
		w.did(op, err, f)
		if f.GetEnabled() {
			t.Error("it is enabled")
		}
		w.wantMay(second, "after the federation was disabled", codes.Unauthenticated)
		refused("a disabled federation")
		op, err = w.federations.Update(w.asOwner, &oidcv1.UpdateFederationRequest{FederationId: w.federation, UpdateMask: paths("disabled")})
		w.did(op, err, f)
		w.wantMay(second, "after it was enabled again", codes.Unauthenticated)
		third := w.workload()
		w.wantMay(third, "anew", codes.OK)

		// The account, suspended.
		accounts := iamv1.NewServiceAccountServiceClient(w.Conn)
		op, err = accounts.Suspend(w.asOwner, &iamv1.SuspendServiceAccountRequest{ServiceAccountId: w.account})
		w.did(op, err, nil)
		w.wantMay(third, "of a suspended account", codes.Unauthenticated)
		refused("a suspended account")
		op, err = accounts.Reactivate(w.asOwner, &iamv1.ReactivateServiceAccountRequest{ServiceAccountId: w.account})
		w.did(op, err, nil)

		// The federation, deleted with its credentials.
		fourth := w.workload()
		op, err = w.federations.Delete(w.asOwner, &oidcv1.DeleteFederationRequest{FederationId: w.federation})
		w.did(op, err, nil)
		w.wantMay(fourth, "after the federation was deleted", codes.Unauthenticated)
		refused("a deleted federation")
		_, err = w.credentials.Get(w.asOwner, &workloadv1.GetFederatedCredentialRequest{FederatedCredentialId: w.credential})
		wantCode(t, err, codes.NotFound, ReasonFederatedCredentialNotFound)
		_, err = w.federations.Get(w.asOwner, &oidcv1.GetFederationRequest{FederationId: w.federation})
		wantFailure(t, err, codes.NotFound)

		// The folder of a federation, and the account.
		folders := rmv1.NewFolderServiceClient(w.Conn)
		made := new(rmv1.Folder)
		op, err = folders.Create(w.asOwner, &rmv1.CreateFolderRequest{CloudId: w.cloud, Name: "elsewhere"})
		w.did(op, err, made)
		w.federation = w.federate(made.GetId(), "github").GetId()
		w.credential = w.link(w.account, w.federation, workloadSubject)
		fifth := w.workload()
		_, err = accessv1.NewResourceServiceClient(w.Unit("resourcemanager", "accessbindings")).RemoveResource(t.Context(), &accessv1.RemoveResourceRequest{
			Resource: &accessv1.Resource{Type: typeFolder, Id: made.GetId()},
		})
		w.must(err)
		eventually(t, "the token ends with the folder of its federation", func() bool { return w.may(fifth) == codes.Unauthenticated })
		refused("a federation whose folder is gone")
	})
}

// Linking needs rights on both sides, and what a federation trusts is shown to who may
// read it whole.
func TestWI4_RightsOnBothSides(t *testing.T) {
	inFactory(t, func(t *testing.T, w *factory) {
		u := w.user("linker")
		as := w.Context(w.token(u).GetIamToken())
		link := &workloadv1.CreateFederatedCredentialRequest{ServiceAccountId: w.account, FederationId: w.federation, ExternalSubjectId: "repo:acme/mine"}
		refused := func() {
			t.Helper()
			_, err := w.credentials.Create(as, link)
			wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		}
		refused()
		w.grant("iam.serviceAccounts.federatedCredentialEditor", typeAccount, w.account, "userAccount", u.GetId())
		refused()
		get := &oidcv1.GetFederationRequest{FederationId: w.federation}
		_, err := w.federations.Get(as, get)
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.grant("iam.workloadIdentityFederations.user", typeFederation, w.federation, "userAccount", u.GetId())
		op, err := w.credentials.Create(as, link)
		w.did(op, err, new(workloadv1.FederatedCredential))
		_, err = w.credentials.Create(as, link)
		wantCode(t, err, codes.AlreadyExists, ReasonFederatedCredentialExists)

		w.grant("iam.workloadIdentityFederations.auditor", typeFolder, w.folder, "userAccount", u.GetId())
		f, err := w.federations.Get(as, get)
		w.must(err)
		if f.GetName() != "github" || f.GetIssuer() != "" || f.GetJwksUrl() != "" || len(f.GetAudiences()) != 0 {
			t.Errorf("an auditor sees %v", f)
		}
		all, err := w.federations.List(as, &oidcv1.ListFederationsRequest{FolderId: w.folder})
		w.must(err)
		if len(all.GetFederations()) != 1 || all.GetFederations()[0].GetIssuer() != "" {
			t.Errorf("an auditor lists %v", all)
		}
		w.grant("iam.workloadIdentityFederations.viewer", typeFederation, w.federation, "userAccount", u.GetId())
		f, err = w.federations.Get(as, get)
		w.must(err)
		if f.GetIssuer() != w.issuer.URL || f.GetJwksUrl() == "" || len(f.GetAudiences()) != 1 || !f.GetEnabled() {
			t.Errorf("a viewer sees %v", f)
		}
	})
}

// What is stored is what was asked for, page by page; names are unique in the folder;
// quotas end what they end.
func TestFederationsAndTheirCredentials(t *testing.T) {
	inFactory(t, func(t *testing.T, w *factory) {
		_, err := w.federations.Create(w.asOwner, w.request(w.folder, "github"))
		wantCode(t, err, codes.AlreadyExists, ReasonFederationNameTaken)
		second := w.federate(w.folder, "cluster")
		_, err = w.federations.Update(w.asOwner, &oidcv1.UpdateFederationRequest{FederationId: second.GetId(), Name: "github", UpdateMask: paths("name")})
		wantCode(t, err, codes.AlreadyExists, ReasonFederationNameTaken)
		op, err := w.federations.Update(w.asOwner, &oidcv1.UpdateFederationRequest{
			FederationId: second.GetId(), Name: "k8s", Description: "changed", Audiences: []string{"a", "b"}, UpdateMask: paths("name", "description", "audiences", "labels"),
		})
		got := new(oidcv1.Federation)
		w.did(op, err, got)
		want := proto.CloneOf(second)
		want.Name, want.Description, want.Audiences, want.Labels = "k8s", "changed", []string{"a", "b"}, nil
		if !proto.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		page, err := w.federations.List(w.asOwner, &oidcv1.ListFederationsRequest{FolderId: w.folder, PageSize: 1})
		w.must(err)
		next, err := w.federations.List(w.asOwner, &oidcv1.ListFederationsRequest{FolderId: w.folder, PageSize: 1, PageToken: page.GetNextPageToken()})
		w.must(err)
		if len(page.GetFederations()) != 1 || len(next.GetFederations()) != 1 || next.GetNextPageToken() != "" || !proto.Equal(next.GetFederations()[0], want) {
			t.Errorf("pages %v and %v", page, next)
		}
		long := strings.Repeat("я", 1000) // does not fit an index
		w.link(w.account, w.federation, long)
		list, err := w.credentials.List(w.asOwner, &workloadv1.ListFederatedCredentialsRequest{ServiceAccountId: w.account})
		w.must(err)
		if len(list.GetFederatedCredentials()) != 2 || list.GetFederatedCredentials()[1].GetExternalSubjectId() != long {
			t.Errorf("credentials %v", list)
		}
		_, err = w.credentials.Create(w.asOwner, &workloadv1.CreateFederatedCredentialRequest{ServiceAccountId: w.account, FederationId: w.federation, ExternalSubjectId: "a\x00b"})
		wantFailure(t, err, codes.InvalidArgument)
		op, err = iamv1.NewServiceAccountServiceClient(w.Conn).Delete(w.asOwner, &iamv1.DeleteServiceAccountRequest{ServiceAccountId: w.account})
		w.did(op, err, nil)
		_, err = w.credentials.Get(w.asOwner, &workloadv1.GetFederatedCredentialRequest{FederatedCredentialId: w.credential})
		wantCode(t, err, codes.NotFound, ReasonFederatedCredentialNotFound)
		_, err = w.take(w.good())
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
	})
}
