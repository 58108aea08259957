package contract

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// boundary is a request at the edge of a limit.
type boundary struct {
	name    string
	request proto.Message
	field   string // path of the one field that is refused; empty when none is
}

// run validates each request and compares what is refused.
func run(t *testing.T, cases []boundary) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := protovalidate.Validate(c.request)
			var invalid *protovalidate.ValidationError
			if err != nil && !errors.As(err, &invalid) {
				t.Fatalf("cannot validate: %v", err)
			}
			got := map[string]bool{}
			if invalid != nil {
				for _, violation := range invalid.Violations {
					got[protovalidate.FieldPathString(violation.Proto.GetField())] = true
				}
			}
			if c.field == "" && len(got) > 0 {
				t.Errorf("refused: %v", err)
			}
			if c.field != "" && (len(got) != 1 || !got[c.field]) {
				t.Errorf("refused %v, want %s alone", got, c.field)
			}
		})
	}
}

// letters returns n characters of two bytes each: lengths are counted in
// characters.
func letters(n int) string { return strings.Repeat("я", n) }

// labels returns n different labels.
func labels(n int) map[string]string {
	all := make(map[string]string)
	for i := range n {
		all[fmt.Sprintf("k%d", i)] = ""
	}
	return all
}

func TestNames_C5(t *testing.T) {
	create := func(name string) proto.Message { return &rmv1.CreateFolderRequest{CloudId: "c", Name: name} }
	run(t, []boundary{
		{"create without", create(""), "name"},
		{"create with 1", create("a"), "name"},
		{"create with 2", create("ab"), "name"},
		{"create with 3", create("abc"), ""},
		{"create with 63", create(strings.Repeat("a", 63)), ""},
		{"create with 64", create(strings.Repeat("a", 64)), "name"},
		{"dash inside", create("a-1"), ""},
		{"dash at the end", create("ab-"), "name"},
		{"digit first", create("1ab"), "name"},
		{"upper case", create("aBc"), "name"},
		{"line break at the end", create("abc\n"), "name"},
		{"good line among others", create("x\nabc\ny"), "name"},
		{"cloud with 2", &rmv1.CreateCloudRequest{OrganizationId: "o", Name: "ab"}, "name"},
		{"update without", &rmv1.UpdateFolderRequest{FolderId: "f"}, ""},
		{"update with 2", &rmv1.UpdateFolderRequest{FolderId: "f", Name: "ab"}, "name"},
		{"update with 3", &rmv1.UpdateFolderRequest{FolderId: "f", Name: "abc"}, ""},
		{"update cloud with 2", &rmv1.UpdateCloudRequest{CloudId: "c", Name: "ab"}, "name"},
		{"update organization with 2", &orgv1.UpdateOrganizationRequest{OrganizationId: "o", Name: "ab"}, "name"},
	})
}

func TestFirstCloudNeedsNoOrganization_CR2(t *testing.T) {
	run(t, []boundary{
		{"none", &rmv1.CreateCloudRequest{Name: "first"}, ""},
		{"50 characters", &rmv1.CreateCloudRequest{Name: "first", OrganizationId: letters(50)}, ""},
		{"51 characters", &rmv1.CreateCloudRequest{Name: "first", OrganizationId: letters(51)}, "organization_id"},
		{"a folder needs its cloud", &rmv1.CreateFolderRequest{Name: "folder"}, "cloud_id"},
	})
}

func TestLabels_NM5(t *testing.T) {
	create := func(all map[string]string) proto.Message {
		return &rmv1.CreateFolderRequest{CloudId: "c", Name: "abc", Labels: all}
	}
	long := strings.Repeat("a", 64)
	run(t, []boundary{
		{"64", create(labels(64)), ""},
		{"65", create(labels(65)), "labels"},
		{"key of 63", create(map[string]string{long[:63]: ""}), ""},
		{"key of 64", create(map[string]string{long: ""}), `labels["` + long + `"]`},
		{"empty key", create(map[string]string{"": "v"}), `labels[""]`},
		{"key that begins with a digit", create(map[string]string{"1k": "v"}), `labels["1k"]`},
		{"value of 63", create(map[string]string{"k": long[:63]}), ""},
		{"value of 64", create(map[string]string{"k": long}), `labels["k"]`},
		{"value in upper case", create(map[string]string{"k": "V"}), `labels["k"]`},
	})
}

func TestDeleteAfter_DL4(t *testing.T) {
	at := func(at time.Time) proto.Message {
		return &rmv1.DeleteCloudRequest{CloudId: "c", DeleteAfter: timestamppb.New(at)}
	}
	first := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	last := time.Date(2105, 12, 31, 23, 59, 59, 999999999, time.UTC)
	run(t, []boundary{
		{"absent", &rmv1.DeleteCloudRequest{CloudId: "c"}, ""},
		{"first", at(first), ""},
		{"before the first", at(first.Add(-1)), "delete_after"},
		{"last", at(last), ""},
		{"after the last", at(last.Add(1)), "delete_after"},
	})
}

func TestLists_NM7(t *testing.T) {
	run(t, []boundary{
		{"page of 0", &rmv1.ListFoldersRequest{CloudId: "c"}, ""},
		{"page of -1", &rmv1.ListFoldersRequest{CloudId: "c", PageSize: -1}, "page_size"},
		{"page of 1000", &rmv1.ListFoldersRequest{CloudId: "c", PageSize: 1000}, ""},
		{"page of 1001", &rmv1.ListFoldersRequest{CloudId: "c", PageSize: 1001}, "page_size"},
		{"token of 2000", &rmv1.ListFoldersRequest{CloudId: "c", PageToken: letters(2000)}, ""},
		{"token of 2001", &rmv1.ListFoldersRequest{CloudId: "c", PageToken: letters(2001)}, "page_token"},
		{"filter of 1000", &rmv1.ListFoldersRequest{CloudId: "c", Filter: letters(1000)}, ""},
		{"filter of 1001", &rmv1.ListFoldersRequest{CloudId: "c", Filter: letters(1001)}, "filter"},
		{"clouds of all organizations", &rmv1.ListCloudsRequest{}, ""},
		{"operation without id", &operationpb.GetOperationRequest{}, "operation_id"},
	})
}

func TestAccessBindings_AB2_AB3(t *testing.T) {
	binding := func(role, typ, id string) *accesspb.AccessBinding {
		return &accesspb.AccessBinding{RoleId: role, Subject: &accesspb.Subject{Type: typ, Id: id}}
	}
	set := func(n int) proto.Message {
		request := &accesspb.SetAccessBindingsRequest{ResourceId: "r"}
		for range n {
			request.AccessBindings = append(request.AccessBindings, binding("viewer", "userAccount", "u"))
		}
		return request
	}
	update := func(n int, action accesspb.AccessBindingAction) proto.Message {
		request := &accesspb.UpdateAccessBindingsRequest{ResourceId: "r"}
		for range n {
			request.AccessBindingDeltas = append(request.AccessBindingDeltas, &accesspb.AccessBindingDelta{
				Action: action, AccessBinding: binding("viewer", "userAccount", "u"),
			})
		}
		return request
	}
	one := func(b *accesspb.AccessBinding) proto.Message {
		return &accesspb.SetAccessBindingsRequest{ResourceId: "r", AccessBindings: []*accesspb.AccessBinding{b}}
	}
	run(t, []boundary{
		{"set none", set(0), ""},
		{"set 1000", set(1000), ""},
		{"set 1001", set(1001), "access_bindings"},
		{"update none", update(0, accesspb.AccessBindingAction_ADD), "access_binding_deltas"},
		{"update 1", update(1, accesspb.AccessBindingAction_REMOVE), ""},
		{"update 1000", update(1000, accesspb.AccessBindingAction_ADD), ""},
		{"update 1001", update(1001, accesspb.AccessBindingAction_ADD), "access_binding_deltas"},
		{"no action", update(1, 0), "access_binding_deltas[0].action"},
		{"unknown action", update(1, 3), "access_binding_deltas[0].action"},
		{"role of 64", one(binding(letters(64), "group", "g")), ""},
		{"role of 65", one(binding(letters(65), "group", "g")), "access_bindings[0].role_id"},
		{"no subject", one(&accesspb.AccessBinding{RoleId: "viewer"}), "access_bindings[0].subject"},
		{"subject id of 100 (SU-6)", one(binding("viewer", "group", letters(100))), ""},
		{"subject id of 101 (SU-6)", one(binding("viewer", "group", letters(101))), "access_bindings[0].subject.id"},
		{"subject without type", one(binding("viewer", "", "g")), "access_bindings[0].subject.type"},
	})
}

func TestTokens_TK(t *testing.T) {
	jwt := func(n int) proto.Message {
		return &iamv1.CreateIamTokenRequest{Identity: &iamv1.CreateIamTokenRequest_Jwt{Jwt: letters(n)}}
	}
	run(t, []boundary{
		{"no credentials", &iamv1.CreateIamTokenRequest{}, "identity"},
		{"jwt of 8000", jwt(8000), ""},
		{"jwt of 8001", jwt(8001), ""}, // for whoever reads it to refuse (SK-3)
		{"revoke nothing", &iamv1.RevokeIamTokenRequest{}, "iam_token"},
		{"login of 100", &iamv1.GetUserAccountByLoginRequest{Login: letters(100)}, ""},
		{"login of 101", &iamv1.GetUserAccountByLoginRequest{Login: letters(101)}, "login"},
	})
}

func TestChecks_RH8(t *testing.T) {
	path := func(n int) []*accessservicev2.Resource {
		var all []*accessservicev2.Resource
		for range n {
			all = append(all, &accessservicev2.Resource{Type: "resource-manager.folder", Id: "f"})
		}
		return all
	}
	token := func(n, resources int) proto.Message {
		return &accessservicev2.AuthorizeRequest{
			Identity:   &accessservicev2.AuthorizeRequest_IamToken{IamToken: letters(n)},
			Permission: "resource-manager.folders.get", ResourcePath: path(resources),
		}
	}
	subject := func(s *accessservicev2.Subject) proto.Message {
		return &accessservicev2.AuthorizeRequest{
			Identity:   &accessservicev2.AuthorizeRequest_Subject{Subject: s},
			Permission: "resource-manager.folders.get", ResourcePath: path(1),
		}
	}
	anonymous := &accessservicev2.Subject_AnonymousAccount_{AnonymousAccount: &accessservicev2.Subject_AnonymousAccount{}}
	bulk := func(actions, resources int) proto.Message {
		all := &accessservicev2.BulkAuthorizeRequest_Actions{}
		for range actions {
			all.Items = append(all.Items, &accessservicev2.BulkAuthorizeRequest_Action{Permission: "p", ResourcePath: path(resources)})
		}
		return &accessservicev2.BulkAuthorizeRequest{
			Identity:       &accessservicev2.BulkAuthorizeRequest_IamToken{IamToken: "t"},
			Authorizations: &accessservicev2.BulkAuthorizeRequest_Actions_{Actions: all},
		}
	}
	run(t, []boundary{
		{"token of 1024", token(1024, 1), ""},
		{"token of 1025", token(1025, 1), "iam_token"},
		{"no resource", token(1, 0), "resource_path"},
		{"nobody", &accessservicev2.AuthorizeRequest{Permission: "p", ResourcePath: path(1)}, "identity"},
		{"no permission", &accessservicev2.AuthorizeRequest{
			Identity: &accessservicev2.AuthorizeRequest_ApiKey{ApiKey: "k"}, ResourcePath: path(1),
		}, "permission"},
		{"subject of no type", subject(&accessservicev2.Subject{}), "subject.type"},
		{"subject without id", subject(&accessservicev2.Subject{
			Type: &accessservicev2.Subject_UserAccount_{UserAccount: &accessservicev2.Subject_UserAccount{}},
		}), "subject.user_account.id"},
		{"anonymous", subject(&accessservicev2.Subject{Type: anonymous}), ""},
		{"no action", bulk(0, 1), "actions.items"},
		{"1000 actions", bulk(1000, 1), ""},
		{"1001 actions", bulk(1001, 1), "actions.items"},
		{"path of 128", bulk(1, 128), ""},
		{"path of 129", bulk(1, 129), "actions.items[0].resource_path"},
		{"nothing asked", &accessservicev2.BulkAuthorizeRequest{
			Identity: &accessservicev2.BulkAuthorizeRequest_IamToken{IamToken: "t"},
		}, "authorizations"},
	})
}
