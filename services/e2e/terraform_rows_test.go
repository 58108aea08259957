package e2e

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	awsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/awscompatibility"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// byName is the filter of data sources, whose names are put in without any escaping.
func byName(name string) string { return `name = "` + name + `"` }

// fields is the mask of an update, which has top-level names only.
func fields(names ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: names} }

// oneOf wants what a data source by name wants of the first page: one item of that name.
func oneOf[M interface {
	proto.Message
	GetName() string
}](p *provider, items []M, want M) {
	p.t.Helper()
	var found []M
	for _, item := range items {
		if item.GetName() == want.GetName() {
			found = append(found, item)
		}
	}
	if len(found) != 1 || !proto.Equal(found[0], want) {
		p.t.Errorf("by the name %q there are %v, want %v", want.GetName(), found, want)
	}
}

// clouds is the row of yandex_resourcemanager_cloud and its data source.
func (p *provider) clouds() {
	clouds := rmv1.NewCloudServiceClient(p.conn)
	op, err := clouds.Create(p.ctx(), &rmv1.CreateCloudRequest{
		OrganizationId: p.org, Name: "tf-cloud", Description: "by the provider", Labels: map[string]string{"env": "test"},
	})
	cloud := done(p, op, err, new(rmv1.Cloud))
	named(p, op, "cloud_id", cloud.GetId())
	get := &rmv1.GetCloudRequest{CloudId: cloud.GetId()}
	read, err := clouds.Get(p.ctx(), get)
	p.same(cloud, read, err)
	if !cloud.GetCreatedAt().IsValid() || cloud.GetLabels()["env"] != "test" || cloud.GetOrganizationId() != p.org {
		p.t.Errorf("created %v", cloud)
	}
	list, err := clouds.List(p.ctx(), &rmv1.ListCloudsRequest{PageSize: 100, Filter: byName("tf-cloud")}) // it names no organization
	p.must(err)
	oneOf(p, list.GetClouds(), cloud)
	for _, tt := range []struct {
		mask *fieldmaskpb.FieldMask
		req  *rmv1.UpdateCloudRequest
		want func(*rmv1.Cloud)
	}{
		{fields("description"), &rmv1.UpdateCloudRequest{Description: "changed"}, func(c *rmv1.Cloud) { c.Description = "changed" }},
		{fields("labels", "name"), &rmv1.UpdateCloudRequest{Name: "tf-cloud-2"}, func(c *rmv1.Cloud) { c.Name, c.Labels = "tf-cloud-2", nil }},
	} {
		tt.req.CloudId, tt.req.UpdateMask = cloud.GetId(), tt.mask
		op, err = clouds.Update(p.ctx(), tt.req)
		updated := done(p, op, err, new(rmv1.Cloud))
		named(p, op, "cloud_id", cloud.GetId())
		tt.want(cloud)
		p.same(cloud, updated, nil)
		read, err = clouds.Get(p.ctx(), get)
		p.same(cloud, read, err)
	}
	p.bindings(clouds, cloud.GetId(), true)
	remove := &rmv1.DeleteCloudRequest{CloudId: cloud.GetId(), DeleteAfter: timestamppb.Now()}
	op, err = clouds.Delete(p.ctx(), remove)
	done(p, op, err, new(emptypb.Empty))
	named(p, op, "cloud_id", cloud.GetId())
	_, err = clouds.Get(p.ctx(), get)
	p.code(err, codes.NotFound)
	_, err = clouds.Delete(p.ctx(), remove)
	p.code(err, codes.NotFound)
	_, err = clouds.ListAccessBindings(p.ctx(), listBindings(cloud.GetId()))
	p.code(err, codes.NotFound)
}

// folders is the row of yandex_resourcemanager_folder and its data source.
func (p *provider) folders() {
	folders := rmv1.NewFolderServiceClient(p.conn)
	op, err := folders.Create(p.ctx(), &rmv1.CreateFolderRequest{CloudId: p.cloud, Name: "tf-folder", Labels: map[string]string{"env": "test"}})
	folder := done(p, op, err, new(rmv1.Folder))
	named(p, op, "folder_id", folder.GetId())
	get := &rmv1.GetFolderRequest{FolderId: folder.GetId()}
	read, err := folders.Get(p.ctx(), get)
	p.same(folder, read, err)
	if folder.GetStatus() != rmv1.Folder_ACTIVE || !folder.GetCreatedAt().IsValid() || folder.GetCloudId() != p.cloud {
		p.t.Errorf("created %v", folder)
	}
	for name, n := range map[string]int{"tf-folder": 1, "TF-folder": 0, "tf-folde": 0} { // to the letter
		list, err := folders.List(p.ctx(), &rmv1.ListFoldersRequest{CloudId: p.cloud, PageSize: 100, Filter: byName(name)})
		p.must(err)
		if len(list.GetFolders()) != n {
			p.t.Errorf("by the name %q there are %v", name, list.GetFolders())
		}
		if n == 1 {
			oneOf(p, list.GetFolders(), folder)
		}
	}
	// In a cloud that is not there nothing is found by name: that is told from an empty
	// list by the code.
	const unknown = "b1g00000000000000000"
	_, err = folders.List(p.ctx(), &rmv1.ListFoldersRequest{CloudId: unknown, PageSize: 100, Filter: byName("tf-folder")})
	p.code(err, codes.NotFound)
	_, err = folders.Get(p.ctx(), &rmv1.GetFolderRequest{FolderId: unknown})
	p.code(err, codes.NotFound)
	_, err = folders.Create(p.ctx(), &rmv1.CreateFolderRequest{CloudId: unknown, Name: "tf-folder"})
	p.code(err, codes.NotFound)
	op, err = folders.Update(p.ctx(), &rmv1.UpdateFolderRequest{FolderId: folder.GetId(), UpdateMask: fields("labels", "name"), Name: "tf-folder-2"})
	folder.Name, folder.Labels = "tf-folder-2", nil
	p.same(folder, done(p, op, err, new(rmv1.Folder)), nil)
	read, err = folders.Get(p.ctx(), get)
	p.same(folder, read, err)
	p.bindings(folders, folder.GetId(), false)
	// The clock of the provider may be ahead by a few seconds.
	remove := &rmv1.DeleteFolderRequest{FolderId: folder.GetId(), DeleteAfter: timestamppb.New(time.Now().Add(2 * time.Second))}
	op, err = folders.Delete(p.ctx(), remove)
	done(p, op, err, new(emptypb.Empty))
	named(p, op, "folder_id", folder.GetId())
	_, err = folders.Get(p.ctx(), get)
	p.code(err, codes.NotFound)
	_, err = folders.Delete(p.ctx(), remove)
	p.code(err, codes.NotFound)
}

// serviceAccounts is the row of yandex_iam_service_account and its data source.
func (p *provider) serviceAccounts() {
	accounts := iamv1.NewServiceAccountServiceClient(p.conn)
	account := p.account("tf-account")
	get := &iamv1.GetServiceAccountRequest{ServiceAccountId: account.GetId()}
	read, err := accounts.Get(p.ctx(), get)
	p.same(account, read, err)
	if !account.GetCreatedAt().IsValid() || account.GetFolderId() != p.folder {
		p.t.Errorf("created %v", account)
	}
	list, err := accounts.List(p.ctx(), &iamv1.ListServiceAccountsRequest{FolderId: p.folder, PageSize: 100, Filter: byName("tf-account")})
	p.must(err)
	oneOf(p, list.GetServiceAccounts(), account)
	_, err = accounts.List(p.ctx(), &iamv1.ListServiceAccountsRequest{FolderId: "b1g00000000000000000", PageSize: 100, Filter: byName("tf-account")})
	p.code(err, codes.NotFound)
	op, err := accounts.Update(p.ctx(), &iamv1.UpdateServiceAccountRequest{
		ServiceAccountId: account.GetId(), UpdateMask: fields("labels", "name"), Name: "tf-account-2",
	})
	updated := done(p, op, err, new(iamv1.ServiceAccount))
	named(p, op, "service_account_id", account.GetId())
	account.Name, account.Labels = "tf-account-2", nil
	p.same(account, updated, nil)
	read, err = accounts.Get(p.ctx(), get)
	p.same(account, read, err)
	p.bindings(accounts, account.GetId(), false)
	remove := &iamv1.DeleteServiceAccountRequest{ServiceAccountId: account.GetId()}
	op, err = accounts.Delete(p.ctx(), remove)
	done(p, op, err, new(emptypb.Empty))
	named(p, op, "service_account_id", account.GetId())
	_, err = accounts.Get(p.ctx(), get)
	p.code(err, codes.NotFound)
	_, err = accounts.Delete(p.ctx(), remove)
	p.code(err, codes.NotFound)
}

// account makes a service account in the folder of the environment.
func (p *provider) account(name string) *iamv1.ServiceAccount {
	p.t.Helper()
	op, err := iamv1.NewServiceAccountServiceClient(p.conn).Create(p.ctx(), &iamv1.CreateServiceAccountRequest{
		FolderId: p.folder, Name: name, Description: "by the provider", Labels: map[string]string{"env": "test"},
	})
	account := done(p, op, err, new(iamv1.ServiceAccount))
	named(p, op, "service_account_id", account.GetId())
	return account
}

// authorizedKeys is the row of yandex_iam_service_account_key; a provider that is given
// such a key signs in by it.
func (p *provider) authorizedKeys() {
	keys, account := iamv1.NewKeyServiceClient(p.conn), p.account("tf-key")
	made, err := keys.Create(p.ctx(), &iamv1.CreateKeyRequest{
		ServiceAccountId: account.GetId(), Description: "by the provider", Format: iamv1.KeyFormat_PEM_FILE, KeyAlgorithm: iamv1.Key_RSA_2048,
	})
	p.must(err)
	key := made.GetKey()
	if made.GetPrivateKey() == "" || key.GetPublicKey() == "" || !key.GetCreatedAt().IsValid() || key.GetServiceAccountId() != account.GetId() {
		p.t.Errorf("created %v, with a private key: %t", key, made.GetPrivateKey() != "")
	}
	get := &iamv1.GetKeyRequest{KeyId: key.GetId(), Format: iamv1.KeyFormat_PEM_FILE}
	read, err := keys.Get(p.ctx(), get)
	p.same(key, read, err)
	op, err := keys.Update(p.ctx(), &iamv1.UpdateKeyRequest{KeyId: key.GetId(), UpdateMask: fields("description"), Description: "changed"})
	key.Description = "changed"
	p.same(key, done(p, op, err, new(iamv1.Key)), nil)

	robot := *p
	robot.wire = &wire{t: p.t, declared: p.wire.declared}
	robot.conn = p.dial(robot.wire)
	signed := func() *iamv1.CreateIamTokenRequest {
		return &iamv1.CreateIamTokenRequest{Identity: &iamv1.CreateIamTokenRequest_Jwt{Jwt: p.jwt(made)}}
	}
	robot.exchange(signed())
	if _, err := iamv1.NewRoleServiceClient(robot.conn).Get(p.ctx(), &iamv1.GetRoleRequest{RoleId: "viewer"}); err != nil {
		p.t.Errorf("by the key: %v", err)
	}
	op, err = keys.Delete(p.ctx(), &iamv1.DeleteKeyRequest{KeyId: key.GetId()}) // nobody waits for it
	p.must(err)
	named(p, op, "key_id", key.GetId())
	_, err = keys.Get(p.ctx(), get)
	p.code(err, codes.NotFound)
	_, err = keys.Delete(p.ctx(), &iamv1.DeleteKeyRequest{KeyId: key.GetId()})
	p.code(err, codes.NotFound)
	_, err = iamv1.NewIamTokenServiceClient(robot.conn).Create(p.ctx(), signed())
	p.code(err, codes.Unauthenticated)
}

// jwt is what the provider signs with a key: an array as audience, and a whole hour.
func (p *provider) jwt(with *iamv1.CreateKeyResponse) string {
	p.t.Helper()
	_, rest, ok := strings.Cut(with.GetPrivateKey(), "-----BEGIN")
	block, _ := pem.Decode([]byte("-----BEGIN" + rest))
	if !ok || block == nil {
		p.t.Fatal("the private key is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	p.must(err)
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		p.t.Fatalf("the private key is a %T", parsed)
	}
	now := time.Now().Unix()
	var text []string
	for _, part := range []any{
		map[string]string{"alg": "PS256", "typ": "JWT", "kid": with.GetKey().GetId()},
		map[string]any{
			"iss": with.GetKey().GetServiceAccountId(), "aud": []string{"https://iam.api.cloud.yandex.net/iam/v1/tokens"}, "iat": now, "exp": now + 3600,
		},
	} {
		raw, err := json.Marshal(part)
		p.must(err)
		text = append(text, base64.RawURLEncoding.EncodeToString(raw))
	}
	digest := sha256.Sum256([]byte(strings.Join(text, ".")))
	signature, err := rsa.SignPSS(rand.Reader, private, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	p.must(err)
	return strings.Join(append(text, base64.RawURLEncoding.EncodeToString(signature)), ".")
}

// apiKeys is the row of yandex_iam_service_account_api_key: without scopes there are some
// in the answer, and the older field for one is empty, or every plan would show a change.
func (p *provider) apiKeys() {
	keys, account := iamv1.NewApiKeyServiceClient(p.conn), p.account("tf-api-key")
	made, err := keys.Create(p.ctx(), &iamv1.CreateApiKeyRequest{ServiceAccountId: account.GetId(), Description: "by the provider"})
	p.must(err)
	key := made.GetApiKey()
	if made.GetSecret() == "" || len(key.GetScopes()) == 0 || key.GetScope() != "" || !key.GetCreatedAt().IsValid() || key.GetMaskedSecret() == "" { //nolint:staticcheck // the older field is there to be empty
		p.t.Errorf("created %v, with a secret: %t", key, made.GetSecret() != "")
	}
	get := &iamv1.GetApiKeyRequest{ApiKeyId: key.GetId()}
	read, err := keys.Get(p.ctx(), get)
	p.same(key, read, err)
	op, err := keys.Update(p.ctx(), &iamv1.UpdateApiKeyRequest{ApiKeyId: key.GetId(), UpdateMask: fields("description"), Description: "changed"})
	key.Description = "changed"
	p.same(key, done(p, op, err, new(iamv1.ApiKey)), nil)
	read, err = keys.Get(p.ctx(), get)
	p.same(key, read, err)
	scoped, err := keys.Create(p.ctx(), &iamv1.CreateApiKeyRequest{ServiceAccountId: account.GetId(), Scopes: []string{"yc.resource-manager.view"}})
	p.must(err)
	if got := scoped.GetApiKey().GetScopes(); len(got) != 1 || got[0] != "yc.resource-manager.view" {
		p.t.Errorf("scopes %v", got)
	}
	op, err = keys.Delete(p.ctx(), &iamv1.DeleteApiKeyRequest{ApiKeyId: key.GetId()})
	p.must(err)
	named(p, op, "api_key_id", key.GetId())
	_, err = keys.Get(p.ctx(), get)
	p.code(err, codes.NotFound)
	_, err = keys.Delete(p.ctx(), &iamv1.DeleteApiKeyRequest{ApiKeyId: key.GetId()})
	p.code(err, codes.NotFound)
}

// accessKeys is the row of yandex_iam_service_account_static_access_key.
func (p *provider) accessKeys() {
	keys, account := awsv1.NewAccessKeyServiceClient(p.conn), p.account("tf-access-key")
	made, err := keys.Create(p.ctx(), &awsv1.CreateAccessKeyRequest{ServiceAccountId: account.GetId(), Description: "by the provider"})
	p.must(err)
	key := made.GetAccessKey()
	if made.GetSecret() == "" || key.GetKeyId() == "" || !key.GetCreatedAt().IsValid() {
		p.t.Errorf("created %v, with a secret: %t", key, made.GetSecret() != "")
	}
	get := &awsv1.GetAccessKeyRequest{AccessKeyId: key.GetId()}
	read, err := keys.Get(p.ctx(), get)
	p.same(key, read, err)
	op, err := keys.Update(p.ctx(), &awsv1.UpdateAccessKeyRequest{AccessKeyId: key.GetId(), UpdateMask: fields("description"), Description: "changed"})
	key.Description = "changed"
	p.same(key, done(p, op, err, new(awsv1.AccessKey)), nil)
	op, err = keys.Delete(p.ctx(), &awsv1.DeleteAccessKeyRequest{AccessKeyId: key.GetId()})
	p.must(err)
	named(p, op, "access_key_id", key.GetId())
	_, err = keys.Get(p.ctx(), get)
	p.code(err, codes.NotFound)
	_, err = keys.Delete(p.ctx(), &awsv1.DeleteAccessKeyRequest{AccessKeyId: key.GetId()})
	p.code(err, codes.NotFound)
}

// rolesAndUsers is the row of the data sources yandex_iam_role and yandex_iam_user.
func (p *provider) rolesAndUsers() {
	roles, users := iamv1.NewRoleServiceClient(p.conn), iamv1.NewUserAccountServiceClient(p.conn)
	role, err := roles.Get(p.ctx(), &iamv1.GetRoleRequest{RoleId: "editor"})
	p.must(err)
	if role.GetId() != "editor" || role.GetDescription() == "" {
		p.t.Errorf("role %v", role)
	}
	_, err = roles.Get(p.ctx(), &iamv1.GetRoleRequest{RoleId: "no.such.role"})
	p.code(err, codes.NotFound)
	byLogin := iamv1.NewYandexPassportUserAccountServiceClient(p.conn)
	found, err := byLogin.GetByLogin(p.ctx(), &iamv1.GetUserAccountByLoginRequest{Login: p.login})
	p.must(err)
	if found.GetId() != p.user || found.GetYandexPassportUserAccount().GetLogin() != p.login || found.GetYandexPassportUserAccount().GetDefaultEmail() == "" {
		p.t.Errorf("found %v", found)
	}
	read, err := users.Get(p.ctx(), &iamv1.GetUserAccountRequest{UserAccountId: found.GetId()})
	p.same(found, read, err)
	_, err = byLogin.GetByLogin(p.ctx(), &iamv1.GetUserAccountByLoginRequest{Login: "nobody-at-all"})
	p.code(err, codes.NotFound)
	_, err = users.Get(p.ctx(), &iamv1.GetUserAccountRequest{UserAccountId: "aje00000000000000000"})
	p.code(err, codes.NotFound)
}

// groups is the row of yandex_organizationmanager_group and of its members.
func (p *provider) groups() {
	groups := orgv1.NewGroupServiceClient(p.conn)
	op, err := groups.Create(p.ctx(), &orgv1.CreateGroupRequest{
		OrganizationId: p.org, Name: "tf-group", Description: "by the provider", Labels: map[string]string{"env": "test"},
	})
	group := done(p, op, err, new(orgv1.Group))
	named(p, op, "group_id", group.GetId())
	get := &orgv1.GetGroupRequest{GroupId: group.GetId()}
	read, err := groups.Get(p.ctx(), get)
	p.same(group, read, err)
	list, err := groups.List(p.ctx(), &orgv1.ListGroupsRequest{OrganizationId: p.org, PageSize: 100, Filter: byName("tf-group")})
	p.must(err)
	oneOf(p, list.GetGroups(), group)
	op, err = groups.Update(p.ctx(), &orgv1.UpdateGroupRequest{GroupId: group.GetId(), UpdateMask: fields("labels", "name"), Name: "tf-group-2"})
	group.Name, group.Labels = "tf-group-2", nil
	p.same(group, done(p, op, err, new(orgv1.Group)), nil)
	account := p.account("tf-member")
	members := func(want map[string]string) {
		p.t.Helper()
		got := map[string]string{}
		list, err := groups.ListMembers(p.ctx(), &orgv1.ListGroupMembersRequest{GroupId: group.GetId(), PageSize: 1000})
		p.must(err)
		for _, m := range list.GetMembers() {
			got[m.GetSubjectId()] = m.GetSubjectType()
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			p.t.Errorf("members %v, want %v", got, want)
		}
	}
	change := func(action orgv1.MemberDelta_MemberAction, ids ...string) {
		p.t.Helper()
		req := &orgv1.UpdateGroupMembersRequest{GroupId: group.GetId()}
		for _, id := range ids { // without a type: the server knows what they are
			req.MemberDeltas = append(req.MemberDeltas, &orgv1.MemberDelta{Action: action, SubjectId: id})
		}
		op, err := groups.UpdateMembers(p.ctx(), req)
		done(p, op, err, new(emptypb.Empty))
		named(p, op, "group_id", group.GetId())
	}
	members(map[string]string{})
	change(orgv1.MemberDelta_ADD, p.user, account.GetId())
	members(map[string]string{p.user: "userAccount", account.GetId(): "serviceAccount"})
	change(orgv1.MemberDelta_ADD, p.user) // who is in already
	change(orgv1.MemberDelta_REMOVE, p.user)
	members(map[string]string{account.GetId(): "serviceAccount"})
	change(orgv1.MemberDelta_REMOVE, p.user) // who is not in any more
	p.bindings(groups, group.GetId(), false)
	remove := &orgv1.DeleteGroupRequest{GroupId: group.GetId()}
	op, err = groups.Delete(p.ctx(), remove)
	done(p, op, err, new(emptypb.Empty))
	named(p, op, "group_id", group.GetId())
	_, err = groups.Get(p.ctx(), get)
	p.code(err, codes.NotFound)
	_, err = groups.Delete(p.ctx(), remove)
	p.code(err, codes.NotFound)
}

// inParallel is what the provider does by default: ten resources at once, with no call
// sent again but those that were UNAVAILABLE.
func (p *provider) inParallel() {
	folders := rmv1.NewFolderServiceClient(p.conn)
	const parallel = 10
	failed := make(chan error, 2*parallel)
	ids := make([]string, parallel)
	at := func(f func(n int) error) {
		for n := range parallel {
			go func() { failed <- f(n) }()
		}
		for range parallel {
			if err := <-failed; err != nil {
				p.t.Errorf("of %d calls at once, one got %v", parallel, err)
			}
		}
	}
	at(func(n int) error {
		op, err := folders.Create(p.ctx(), &rmv1.CreateFolderRequest{CloudId: p.cloud, Name: fmt.Sprintf("tf-parallel-%d", n)})
		var folder rmv1.Folder
		if err == nil {
			err = op.GetResponse().UnmarshalTo(&folder)
		}
		ids[n] = folder.GetId()
		return err
	})
	at(func(n int) error { // members of one folder, as of one configuration
		_, err := folders.UpdateAccessBindings(p.ctx(), add(ids[0], roleOf(n), "userAccount", p.user))
		return err
	})
	if got := p.read(folders, ids[0]); len(got) != parallel {
		p.t.Errorf("of %d bindings there are %v", parallel, got)
	}
	at(func(n int) error {
		_, err := folders.Delete(p.ctx(), &rmv1.DeleteFolderRequest{FolderId: ids[n], DeleteAfter: timestamppb.Now()})
		return err
	})
}

// sentAgain is a call whose answer was lost: its idempotency key stays, and so does its
// operation.
func (p *provider) sentAgain() {
	folders := rmv1.NewFolderServiceClient(p.conn)
	ctx := func(key string) context.Context {
		return metadata.AppendToOutgoingContext(p.ctx(), "idempotency-key", key)
	}
	key, req := uuid.NewString(), &rmv1.CreateFolderRequest{CloudId: p.cloud, Name: "tf-again"}
	op, err := folders.Create(ctx(key), req)
	folder := done(p, op, err, new(rmv1.Folder))
	again, err := folders.Create(ctx(key), req)
	p.same(op, again, err)
	_, err = folders.Create(ctx(uuid.NewString()), req)
	p.code(err, codes.AlreadyExists)
	key = uuid.NewString()
	remove := &rmv1.DeleteFolderRequest{FolderId: folder.GetId(), DeleteAfter: timestamppb.Now()}
	op, err = folders.Delete(ctx(key), remove)
	done(p, op, err, new(emptypb.Empty))
	again, err = folders.Delete(ctx(key), remove)
	p.must(err)
	if again.GetId() != op.GetId() {
		p.t.Errorf("deleted by %s, and then by %s", op.GetId(), again.GetId())
	}
}
