package accessbindings

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

func wire(refs ...Ref) []*accessservicev2.Resource {
	var path []*accessservicev2.Resource
	for _, r := range refs {
		path = append(path, &accessservicev2.Resource{Type: r.Type, Id: r.ID})
	}
	return path
}

func refs(path []*accessservicev2.Resource) []Ref {
	var out []Ref
	for _, r := range path {
		out = append(out, Ref{r.GetType(), r.GetId()})
	}
	return out
}

func TestAuthorizeCompletesThePath(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(adam, folder1, add(viewer, vera))
		trail, disk := Ref{"audit-trails.trail", "t1"}, Ref{"compute.disk", "d1"}
		for _, row := range []struct {
			name   string
			given  []Ref
			want   []Ref
			code   codes.Code
			reason string
		}{
			{"the folder alone", []Ref{folder1}, []Ref{folder1, cloud1, org1}, codes.OK, ""},
			{"with its cloud", []Ref{folder1, cloud1}, []Ref{folder1, cloud1, org1}, codes.OK, ""},
			{"with its organization only", []Ref{folder1, org1}, []Ref{folder1, cloud1, org1}, codes.OK, ""},
			{"a leaf that the tree does not know", []Ref{disk, folder1}, []Ref{disk, folder1, cloud1, org1}, codes.OK, ""},
			{"two such leaves", []Ref{disk, trail, folder1}, []Ref{disk, trail, folder1, cloud1, org1}, codes.OK, ""},
			{"below another cloud", []Ref{folder1, {cloud1.Type, "cloud2"}}, nil, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"below another folder", []Ref{folder1, folder2}, nil, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"in the wrong order", []Ref{folder1, org1, cloud1}, nil, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"below itself", []Ref{folder1, folder1}, nil, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"a folder that is not there", []Ref{{folder1.Type, "none"}, cloud1}, nil, codes.PermissionDenied, "RESOURCE_NOT_FOUND"},
			{"a leaf below nothing", []Ref{disk}, nil, codes.PermissionDenied, "RESOURCE_NOT_FOUND"},
			{"a leaf below an unknown folder", []Ref{disk, {folder1.Type, "none"}, cloud1}, nil, codes.PermissionDenied, "RESOURCE_NOT_FOUND"},
			{"the other folder", []Ref{folder2}, nil, codes.PermissionDenied, "PERMISSION_DENIED"},
			{"the cloud above", []Ref{cloud1}, nil, codes.PermissionDenied, "PERMISSION_DENIED"},
			{"nothing", nil, nil, codes.InvalidArgument, "VALIDATION_FAILED"},
		} {
			t.Run(row.name, func(t *testing.T) {
				resp, err := w.authorize(vera, getFolder, row.given...)
				refused(t, err, row.code, row.reason)
				if diff := cmp.Diff(row.want, refs(resp.GetResourcePath())); diff != "" {
					t.Errorf("path (-want +got):\n%s", diff)
				}
			})
		}
	})
}

func TestAuthorizeIdentities(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(adam, folder1, add(viewer, vera), add(viewer, Subject{rules.System, "allUsers"}))
		good, err := w.Issuer.Issue(vera.Type, vera.ID, time.Hour)
		w.must(err)
		ghost, err := w.Issuer.Issue(vera.Type, "ghost", time.Hour)
		w.must(err)
		anonymous := &accessservicev2.Subject{Type: &accessservicev2.Subject_AnonymousAccount_{AnonymousAccount: &accessservicev2.Subject_AnonymousAccount{}}}
		token := func(s string) *accessservicev2.AuthorizeRequest {
			return &accessservicev2.AuthorizeRequest{Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: s}}
		}
		subject := func(s *accessservicev2.Subject) *accessservicev2.AuthorizeRequest {
			return &accessservicev2.AuthorizeRequest{Identity: &accessservicev2.AuthorizeRequest_Subject{Subject: s}}
		}
		for _, row := range []struct {
			name       string
			req        *accessservicev2.AuthorizeRequest
			permission string
			nobody     bool // asked without credentials of one's own
			code       codes.Code
			reason     string
		}{
			{"a token is enough", token(good.Text), getFolder, true, codes.OK, ""},
			{"an empty token", token(""), getFolder, true, codes.Unauthenticated, "TOKEN_MISSING"},
			{"no token", token("t1.x.y"), getFolder, true, codes.Unauthenticated, "TOKEN_INVALID"},
			{"of an unknown subject", token(ghost.Text), getFolder, true, codes.Unauthenticated, "SUBJECT_INACTIVE"},
			{"over 1024 characters", token(strings.Repeat("x", 1025)), getFolder, true, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"an API key, and nobody who knows it", &accessservicev2.AuthorizeRequest{Identity: &accessservicev2.AuthorizeRequest_ApiKey{ApiKey: "x"}}, getFolder, true, codes.Unavailable, apierr.ReasonUnavailable},
			{"a subject, asked by nobody", subject(wireSubject(vera)), getFolder, true, codes.Unauthenticated, "TOKEN_MISSING"},
			{"a subject", subject(wireSubject(vera)), getFolder, false, codes.OK, ""},
			{"an unknown subject", subject(wireSubject(user("ghost"))), getFolder, false, codes.PermissionDenied, "PERMISSION_DENIED"},
			{"PG-2: anonymous", subject(anonymous), getFolder, false, codes.PermissionDenied, "PERMISSION_DENIED"},
			{"no permission of the catalogue", token(good.Text), "compute.disks.fly", true, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"no permission", token(good.Text), "", true, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"no identity", &accessservicev2.AuthorizeRequest{}, getFolder, false, codes.InvalidArgument, "VALIDATION_FAILED"},
		} {
			t.Run(row.name, func(t *testing.T) {
				client := w.check
				if !row.nobody {
					client = w.asker
				}
				row.req.Permission, row.req.ResourcePath = row.permission, wire(folder1)
				resp, err := client.Authorize(t.Context(), row.req)
				refused(t, err, row.code, row.reason)
				if err == nil && resp.GetSubject().GetUserAccount().GetId() != vera.ID {
					t.Errorf("subject %v", resp.GetSubject())
				}
			})
		}
	})
}

func TestAuthenticate(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		bot, fed := robot("bot"), Subject{rules.FederatedUser, "frida"}
		w.know(bot)
		w.know(fed)
		w.register(Ref{typeServiceAccount, "bot"}, folder1, nil)
		pool := Ref{rules.Federation, "fed1"}
		_, err := w.identity.RegisterResource(t.Context(), registerRequest(pool, org1))
		w.must(err)
		w.must(w.members(pool, []Subject{fed}, nil))
		who := func(s Subject) *accessservicev2.Subject {
			token, err := w.Issuer.Issue(s.Type, s.ID, time.Hour)
			w.must(err)
			resp, err := w.check.Authenticate(t.Context(), &accessservicev2.AuthenticateRequest{
				Credentials: &accessservicev2.AuthenticateRequest_IamToken{IamToken: token.Text}})
			w.must(err)
			return resp.GetSubject()
		}
		if got := who(vera).GetUserAccount(); got.GetId() != vera.ID || got.GetFederationId() != "" {
			t.Errorf("a user is %v", got)
		}
		if got := who(bot).GetServiceAccount(); got.GetId() != bot.ID || got.GetFolderId() != folder1.ID {
			t.Errorf("a service account is %v", got)
		}
		if got := who(fed).GetUserAccount(); got.GetId() != fed.ID || got.GetFederationId() != "fed1" {
			t.Errorf("a federated user is %v", got)
		}
		for _, row := range []struct {
			req    *accessservicev2.AuthenticateRequest
			code   codes.Code
			reason string
		}{
			{&accessservicev2.AuthenticateRequest{Credentials: &accessservicev2.AuthenticateRequest_IamToken{}}, codes.Unauthenticated, "TOKEN_MISSING"},
			{&accessservicev2.AuthenticateRequest{Credentials: &accessservicev2.AuthenticateRequest_IamCookie{IamCookie: "c"}}, codes.Unauthenticated, "CREDENTIALS_INVALID"},
			{&accessservicev2.AuthenticateRequest{}, codes.Unauthenticated, "TOKEN_MISSING"},
		} {
			_, err := w.check.Authenticate(t.Context(), row.req)
			refused(t, err, row.code, row.reason)
		}
	})
}

const del = "resource-manager.folders.delete"

// askBulk asks whether vera may get and delete folder1, folder2 and one that is
// not there.
func (w *world) askBulk(change func(*accessservicev2.BulkAuthorizeRequest)) (*accessservicev2.BulkAuthorizeResponse, error) {
	none := Ref{folder1.Type, "none"}
	req := &accessservicev2.BulkAuthorizeRequest{
		Identity: &accessservicev2.BulkAuthorizeRequest_Subject{Subject: wireSubject(vera)},
		Authorizations: &accessservicev2.BulkAuthorizeRequest_ActionMatrix_{ActionMatrix: &accessservicev2.BulkAuthorizeRequest_ActionMatrix{
			Permissions:   []string{getFolder, del},
			ResourcePaths: []*accessservicev2.ResourcePath{{Path: wire(folder1)}, {Path: wire(folder2)}, {Path: wire(none)}},
		}},
	}
	change(req)
	return w.asker.BulkAuthorize(w.t.Context(), req)
}

// results are those of a bulk answer: permission, resource, reason of the denial.
func (w *world) results(resp *accessservicev2.BulkAuthorizeResponse) []string {
	var out []string
	for _, r := range resp.GetResults().GetItems() {
		line := r.GetPermission()
		if len(r.GetResourcePath()) > 0 {
			line += " " + r.GetResourcePath()[0].GetId()
		}
		if e := r.GetPermissionDeniedError(); e != nil {
			info := new(errdetails.ErrorInfo)
			w.must(e.GetDetails()[0].UnmarshalTo(info))
			line += " " + info.GetReason()
		}
		out = append(out, line)
	}
	return out
}

func TestBulkAuthorizeFilters(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(adam, folder1, add(viewer, vera))
		all := []string{
			getFolder + " folder1", del + " folder1 PERMISSION_DENIED", getFolder + " folder2 PERMISSION_DENIED",
			del + " folder2 PERMISSION_DENIED", getFolder + " none RESOURCE_NOT_FOUND", del + " none RESOURCE_NOT_FOUND",
		}
		for _, row := range []struct {
			name   string
			filter accessservicev2.BulkAuthorizeRequest_ResultFilter
			want   []string
		}{
			{"everything", accessservicev2.BulkAuthorizeRequest_RESULT_FILTER_UNSPECIFIED, all},
			{"all failed", accessservicev2.BulkAuthorizeRequest_ALL_FAILED, all[1:]},
			{"first failed", accessservicev2.BulkAuthorizeRequest_FIRST_FAILED, all[1:2]},
		} {
			resp, err := w.askBulk(func(r *accessservicev2.BulkAuthorizeRequest) { r.ResultFilter = row.filter })
			w.must(err)
			if diff := cmp.Diff(row.want, w.results(resp)); diff != "" || resp.GetSubject().GetUserAccount().GetId() != vera.ID {
				t.Errorf("%s (-want +got):\n%s", row.name, diff)
			}
		}
	})
}

func TestBulkAuthorizeMaskAndFaults(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(adam, folder1, add(viewer, vera))
		resp, err := w.askBulk(func(r *accessservicev2.BulkAuthorizeRequest) {
			r.ResultMask = &fieldmaskpb.FieldMask{Paths: []string{"permission", "permission_denied_error.message"}}
		})
		w.must(err)
		if got := resp.GetResults().GetItems()[1]; got.GetResourcePath() != nil || got.GetPermissionDeniedError() == nil || got.GetPermission() != del {
			t.Errorf("masked result %v", got)
		}
		resp, err = w.askBulk(func(r *accessservicev2.BulkAuthorizeRequest) {
			r.Identity = &accessservicev2.BulkAuthorizeRequest_IamToken{IamToken: "t1.x.y"}
		})
		w.must(err)
		if resp.GetUnauthenticatedError() == nil || resp.GetSubject() != nil || resp.GetResults() != nil {
			t.Errorf("for bad credentials: %v", resp)
		}
		for name, change := range map[string]func(*accessservicev2.BulkAuthorizeRequest){
			"an unknown mask": func(r *accessservicev2.BulkAuthorizeRequest) {
				r.ResultMask = &fieldmaskpb.FieldMask{Paths: []string{"colour"}}
			},
			"an unknown permission": func(r *accessservicev2.BulkAuthorizeRequest) {
				r.GetActionMatrix().Permissions = []string{"compute.disks.fly"}
			},
			"an unknown filter": func(r *accessservicev2.BulkAuthorizeRequest) { r.ResultFilter = 7 },
			"a contradicting path": func(r *accessservicev2.BulkAuthorizeRequest) {
				r.GetActionMatrix().ResourcePaths = []*accessservicev2.ResourcePath{{Path: wire(folder1, folder2)}}
			},
			"over 1000 questions": func(r *accessservicev2.BulkAuthorizeRequest) {
				r.GetActionMatrix().Permissions = slices.Repeat([]string{getFolder}, 334)
			},
		} {
			_, err := w.askBulk(change)
			if got := apierr.ReasonOf(err); got != "VALIDATION_FAILED" {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestFaultsNameTheFieldOfTheRequest(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(adam, folder1, add(viewer, vera))
		long := make([]*accessservicev2.Resource, maxPath+1)
		for i := range long {
			long[i] = wire(folder1)[0]
		}
		actions := &accessservicev2.BulkAuthorizeRequest_Actions_{Actions: &accessservicev2.BulkAuthorizeRequest_Actions{
			Items: []*accessservicev2.BulkAuthorizeRequest_Action{
				{Permission: getFolder, ResourcePath: wire(folder1)}, {Permission: "compute.disks.fly", ResourcePath: wire(folder1)},
			},
		}}
		for field, change := range map[string]func(*accessservicev2.BulkAuthorizeRequest){
			"action_matrix.permissions[1]": func(r *accessservicev2.BulkAuthorizeRequest) {
				r.GetActionMatrix().Permissions = []string{getFolder, "compute.disks.fly"}
			},
			"action_matrix.resource_paths[1].path": func(r *accessservicev2.BulkAuthorizeRequest) {
				r.GetActionMatrix().ResourcePaths = []*accessservicev2.ResourcePath{{Path: wire(folder1)}, {Path: wire(folder1, folder2)}}
			},
			"actions.items[1].permission": func(r *accessservicev2.BulkAuthorizeRequest) { r.Authorizations = actions },
		} {
			_, err := w.askBulk(change)
			if e, ok := apierr.As(apierr.FromRPC(err)); !ok || len(e.Fields) != 1 || e.Fields[0].Name != field {
				t.Errorf("%v, want one about %s", err, field)
			}
		}
		_, err := w.asker.Authorize(t.Context(), &accessservicev2.AuthorizeRequest{
			Identity: &accessservicev2.AuthorizeRequest_Subject{Subject: wireSubject(vera)}, Permission: getFolder, ResourcePath: long,
		})
		if apierr.CodeOf(err) != codes.InvalidArgument {
			t.Errorf("a path of %d resources: %v", len(long), err)
		}
	})
}
