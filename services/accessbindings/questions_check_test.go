package accessbindings

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// TestEX7_WhoAsksAboutOthers: whoever names a subject by its id must be a unit, the
// subject itself, or hold iam.access.check where they ask.
func TestEX7_WhoAsksAboutOthers(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		kms, bob := robot("kms"), user("bob")
		w.register(Ref{typeServiceAccount, kms.ID}, folder2, nil)
		w.know(kms)
		w.know(bob)
		w.mustUpdate(olga, org1, add("iam.accessChecker", kms))
		w.mustUpdate(adam, folder1, add(viewer, vera), add("auditor", bob))
		for _, row := range []struct {
			name    string
			asks    Subject
			about   Subject
			on      Ref
			code    codes.Code
			missing string // the permission that the refusal names
		}{
			{"a checker about somebody who may", kms, vera, folder1, codes.OK, ""},
			{"a checker about somebody who may not", kms, nick, folder1, codes.PermissionDenied, getFolder},
			{"an auditor of the folder", bob, vera, folder1, codes.OK, ""},
			{"an auditor of another folder", bob, vera, folder2, codes.PermissionDenied, permissionCheck},
			{"a stranger about somebody who may", nick, vera, folder1, codes.PermissionDenied, permissionCheck},
			{"a stranger about somebody who may not", nick, carl, org2, codes.PermissionDenied, permissionCheck},
			{"oneself, who may", vera, vera, folder1, codes.OK, ""},
			{"oneself, who may not", nick, nick, folder1, codes.PermissionDenied, getFolder},
			{"somebody of the same id and another type", vera, robot(vera.ID), folder2, codes.PermissionDenied, permissionCheck},
		} {
			as := w.Subject(row.asks.Type, row.asks.ID)
			_, err := w.check.Authorize(as, &accessservicev2.AuthorizeRequest{
				Identity:   &accessservicev2.AuthorizeRequest_Subject{Subject: wireSubject(row.about)},
				Permission: getFolder, ResourcePath: wire(row.on),
			})
			if got := infoOf(err)["permission"]; status.Code(err) != row.code || got != row.missing {
				t.Errorf("%s: %v naming %q, want %v naming %q", row.name, err, got, row.code, row.missing)
			}
			bulk, err := w.check.BulkAuthorize(as, &accessservicev2.BulkAuthorizeRequest{
				Identity: &accessservicev2.BulkAuthorizeRequest_Subject{Subject: wireSubject(row.about)},
				Authorizations: &accessservicev2.BulkAuthorizeRequest_Actions_{Actions: &accessservicev2.BulkAuthorizeRequest_Actions{
					Items: []*accessservicev2.BulkAuthorizeRequest_Action{{Permission: getFolder, ResourcePath: wire(row.on)}},
				}},
			})
			if row.missing == permissionCheck {
				refused(t, err, codes.PermissionDenied, "PERMISSION_DENIED")
				continue
			}
			if err != nil || (bulk.GetResults().GetItems()[0].GetPermissionDeniedError() == nil) != (row.code == codes.OK) {
				t.Errorf("%s, many at once: %v, %v", row.name, bulk, err)
			}
		}
		w.mustUpdate(olga, org1, remove("iam.accessChecker", kms))
		_, err := w.check.Authorize(w.Subject(kms.Type, kms.ID), &accessservicev2.AuthorizeRequest{
			Identity:   &accessservicev2.AuthorizeRequest_Subject{Subject: wireSubject(vera)},
			Permission: getFolder, ResourcePath: wire(folder1),
		})
		refused(t, err, codes.PermissionDenied, "PERMISSION_DENIED")
	})
}
