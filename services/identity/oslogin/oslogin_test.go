package oslogin_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
	"github.com/bindery-iam/bindery/services/accessbindings"
	"github.com/bindery-iam/bindery/services/identity"
	"github.com/bindery-iam/bindery/services/identity/oslogin"
	"github.com/bindery-iam/bindery/services/resourcemanager"
)

// world is the real units, with an organization of ann's.
type world struct {
	*servertest.World
	t        *testing.T
	ahead    atomic.Int64
	logins   orgv1.OsLoginServiceClient
	keys     orgv1.UserSshKeyServiceClient
	certs    orgv1.SshCertificateServiceClient
	operator identityv1.OperatorServiceClient
	ann      person
	org      string
	cloud    string
}

type person struct{ id, login, token string }

func forEach(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	sqldbtest.ForEach(t, identity.Name, identity.Unit().Migrations, func(t *testing.T, db *sqldb.DB) {
		cat, err := catalog.Load()
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t}
		w.World = servertest.Start(t, servertest.Options{
			Units: []server.Unit{accessbindings.Unit(), identity.Unit(), resourcemanager.Unit()}, DB: db, Catalog: cat,
			Now: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) },
		})
		socket, err := server.DialOperator(w.DataDir)
		w.must(err)
		t.Cleanup(func() { _ = socket.Close() }) // the test is over
		w.operator = identityv1.NewOperatorServiceClient(socket)
		w.logins, w.keys = orgv1.NewOsLoginServiceClient(w.Conn), orgv1.NewUserSshKeyServiceClient(w.Conn)
		w.certs = orgv1.NewSshCertificateServiceClient(w.Conn)
		w.ann = w.person("ann")
		op, err := rmv1.NewCloudServiceClient(w.Conn).Create(w.as(w.ann), &rmv1.CreateCloudRequest{Name: "first"})
		c := done(w, op, err, new(rmv1.Cloud))
		w.org, w.cloud = c.GetOrganizationId(), c.GetId()
		f(t, w)
	})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) as(p person) context.Context { return w.Context(p.token) }

func (w *world) person(login string) person {
	w.t.Helper()
	u, err := w.operator.CreateUser(w.t.Context(), &identityv1.CreateUserRequest{Login: login, Email: login + "@example.com"})
	w.must(err)
	token, err := w.operator.CreateToken(w.t.Context(), &identityv1.CreateTokenRequest{Login: login})
	w.must(err)
	return person{u.GetId(), login, token.GetIamToken()}
}

// member makes a person a member of the organization.
func (w *world) member(login string) person {
	w.t.Helper()
	p := w.person(login)
	_, err := accessv1.NewSubjectServiceClient(w.Unit("identity", "accessbindings")).UpdateMembers(w.t.Context(), &accessv1.UpdateMembersRequest{
		Container: &accessv1.Resource{Type: "organization-manager.organization", Id: w.org},
		Add:       []*accessv1.Subject{{Type: "userAccount", Id: p.id}},
	})
	w.must(err)
	return p
}

func done[M proto.Message](w *world, op *operationpb.Operation, err error, into M) M {
	w.t.Helper()
	w.must(err)
	if !op.GetDone() || op.GetMetadata() == nil {
		w.t.Fatalf("operation %v", op)
	}
	w.must(op.GetResponse().UnmarshalTo(into))
	return into
}

func (w *world) want(err error, code codes.Code, reason string) {
	w.t.Helper()
	if status.Code(err) != code || apierr.ReasonOf(err) != reason {
		w.t.Errorf("got %v, reason %q; want %v, %q", err, apierr.ReasonOf(err), code, reason)
	}
}

// newKey is a public key as a line, with its signer.
func (w *world) newKey() (string, ssh.Signer) {
	w.t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	w.must(err)
	signer, err := ssh.NewSignerFromKey(private)
	w.must(err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), signer
}

func (w *world) allow(keys *orgv1.UpdateOsLoginSettingsRequest_UserSshKeySettings, certificates bool) {
	w.t.Helper()
	op, err := w.logins.UpdateSettings(w.as(w.ann), &orgv1.UpdateOsLoginSettingsRequest{
		OrganizationId: w.org, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"user_ssh_key_settings", "ssh_certificate_settings"}},
		UserSshKeySettings: keys, SshCertificateSettings: &orgv1.UpdateOsLoginSettingsRequest_SshCertificateSettings{Enabled: certificates},
	})
	done(w, op, err, new(orgv1.OsLoginSettings))
}

func (w *world) profile(of person, login string, uid int64) *orgv1.OsLoginProfile {
	w.t.Helper()
	op, err := w.logins.CreateProfile(w.as(w.ann), &orgv1.CreateOsLoginProfileRequest{OrganizationId: w.org, SubjectId: of.id, Login: login, Uid: uid})
	return done(w, op, err, new(orgv1.OsLoginProfile))
}

func TestSettings(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		get := &orgv1.GetOsLoginSettingsRequest{OrganizationId: w.org}
		off := &orgv1.OsLoginSettings{UserSshKeySettings: new(orgv1.UserSshKeySettings), SshCertificateSettings: new(orgv1.SshCertificateSettings)}
		if got, err := w.logins.GetSettings(w.as(w.ann), get); err != nil || !proto.Equal(got, off) {
			t.Errorf("before: %v %v", got, err)
		}
		w.allow(&orgv1.UpdateOsLoginSettingsRequest_UserSshKeySettings{Enabled: true, AllowManageOwnKeys: true}, true)
		op, err := w.logins.UpdateSettings(w.as(w.ann), &orgv1.UpdateOsLoginSettingsRequest{
			OrganizationId: w.org, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"ssh_certificate_settings"}},
		})
		got := done(w, op, err, new(orgv1.OsLoginSettings))
		want := &orgv1.OsLoginSettings{
			UserSshKeySettings: &orgv1.UserSshKeySettings{Enabled: true, AllowManageOwnKeys: true}, SshCertificateSettings: new(orgv1.SshCertificateSettings),
		}
		read, err := w.logins.GetSettings(w.as(w.ann), get)
		if err != nil || !proto.Equal(got, want) || !proto.Equal(read, want) {
			t.Errorf("after: %v, read %v %v", got, read, err)
		}
		_, err = w.logins.UpdateSettings(w.as(w.ann), &orgv1.UpdateOsLoginSettingsRequest{
			OrganizationId: w.org, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"nothing"}},
		})
		w.want(err, codes.InvalidArgument, apierr.ReasonInvalid)
	})
}

func TestProfiles(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		bob := w.member("bob")
		first, second := w.profile(bob, "bob", 1000), w.profile(bob, "bob-admin", 1001)
		if !first.GetIsDefault() || second.GetIsDefault() || first.GetHomeDirectory() != "/home/bob" || first.GetShell() != "/bin/bash" {
			t.Errorf("profiles %v, %v", first, second)
		}
		create := func(subject, login string, uid int64) error {
			_, err := w.logins.CreateProfile(w.as(w.ann), &orgv1.CreateOsLoginProfileRequest{OrganizationId: w.org, SubjectId: subject, Login: login, Uid: uid})
			return err
		}
		w.want(create(bob.id, "bob", 1002), codes.AlreadyExists, oslogin.ReasonLoginTaken)
		w.want(create(bob.id, "other", 1000), codes.AlreadyExists, oslogin.ReasonUIDTaken)
		w.want(create(bob.id, "other", 999), codes.InvalidArgument, apierr.ReasonInvalid)
		w.want(create(w.person("stranger").id, "stranger", 1003), codes.NotFound, identity.ReasonMembershipNotFound)

		if got, err := w.logins.GetProfile(w.as(bob), &orgv1.GetOsLoginProfileRequest{OsLoginProfileId: first.GetId()}); err != nil || !proto.Equal(got, first) {
			t.Errorf("one's own: %v %v", got, err)
		}
		_, err := w.logins.UpdateProfile(w.as(bob), &orgv1.UpdateOsLoginProfileRequest{OsLoginProfileId: first.GetId(), Login: "root", Uid: 1000})
		w.want(err, codes.PermissionDenied, apierr.ReasonPermissionDenied)

		_, err = w.logins.DeleteProfile(w.as(w.ann), &orgv1.DeleteOsLoginProfileRequest{Id: first.GetId()})
		w.want(err, codes.FailedPrecondition, oslogin.ReasonProfileIsDefault)
		op, err := w.logins.SetDefaultProfile(w.as(w.ann), &orgv1.SetDefaultOsLoginProfileRequest{OsLoginProfileId: second.GetId()})
		meta := new(orgv1.SetDefaultOsLoginProfileMetadata)
		if got := done(w, op, err, new(orgv1.OsLoginProfile)); !got.GetIsDefault() {
			t.Errorf("default %v", got)
		}
		w.must(op.GetMetadata().UnmarshalTo(meta))
		if meta.GetPreviousDefaultProfileId() != first.GetId() || meta.GetCurrentDefaultProfileId() != second.GetId() {
			t.Errorf("metadata %v", meta)
		}
		op, err = w.logins.UpdateProfile(w.as(w.ann), &orgv1.UpdateOsLoginProfileRequest{
			OsLoginProfileId: second.GetId(), Login: "ignored", Uid: 5000, Shell: "/bin/sh", UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"uid", "shell"}},
		})
		if got := done(w, op, err, new(orgv1.OsLoginProfile)); got.GetUid() != 5000 || got.GetShell() != "/bin/sh" || got.GetLogin() != "bob-admin" {
			t.Errorf("updated %v", got)
		}
		_, err = w.logins.UpdateProfile(w.as(w.ann), &orgv1.UpdateOsLoginProfileRequest{
			OsLoginProfileId: second.GetId(), Login: "bob-admin", Uid: 5000, Shell: "/bin/sh:x", UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"shell"}},
		})
		w.want(err, codes.InvalidArgument, apierr.ReasonInvalid)

		list, err := w.logins.ListProfiles(w.as(w.ann), &orgv1.ListOsLoginProfilesRequest{OrganizationId: w.org, PageSize: 1})
		w.must(err)
		rest, err := w.logins.ListProfiles(w.as(w.ann), &orgv1.ListOsLoginProfilesRequest{OrganizationId: w.org, PageSize: 1, PageToken: list.GetNextPageToken()})
		w.must(err)
		if len(list.GetProfiles()) != 1 || len(rest.GetProfiles()) != 1 || rest.GetProfiles()[0].GetId() != second.GetId() || rest.GetNextPageToken() != "" {
			t.Errorf("pages %v, %v", list, rest)
		}
		list, err = w.logins.ListProfiles(w.as(w.ann), &orgv1.ListOsLoginProfilesRequest{OrganizationId: w.org, Filter: `login = "bob"`})
		if err != nil || len(list.GetProfiles()) != 1 {
			t.Errorf("by login: %v %v", list, err)
		}
	})
}

// Members manage their own keys where the organization says so.
func TestOwnKeys(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		bob := w.member("bob")
		line, _ := w.newKey()
		create := &orgv1.CreateUserSshKeyRequest{OrganizationId: w.org, SubjectId: bob.id, Data: line + " bob@laptop"}
		_, err := w.keys.Create(w.as(bob), create)
		w.want(err, codes.PermissionDenied, oslogin.ReasonOwnKeysNotAllowed)
		w.allow(&orgv1.UpdateOsLoginSettingsRequest_UserSshKeySettings{Enabled: true, AllowManageOwnKeys: true}, false)
		op, err := w.keys.Create(w.as(bob), create)
		key := done(w, op, err, new(orgv1.UserSshKey))
		parsed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		w.must(err)
		if key.GetFingerprint() != ssh.FingerprintSHA256(parsed) || key.GetName() != "bob@laptop" || key.GetData() != create.GetData() || !key.GetCreatedAt().IsValid() {
			t.Errorf("key %v", key)
		}
		_, err = w.keys.Create(w.as(bob), create)
		w.want(err, codes.AlreadyExists, oslogin.ReasonKeyExists)
		_, err = w.keys.Create(w.as(bob), &orgv1.CreateUserSshKeyRequest{OrganizationId: w.org, SubjectId: w.ann.id, Data: line})
		w.want(err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		_, err = w.keys.Create(w.as(w.person("stranger")), &orgv1.CreateUserSshKeyRequest{OrganizationId: w.org, SubjectId: w.person("s").id, Data: line})
		w.want(err, codes.PermissionDenied, apierr.ReasonPermissionDenied)

		list, err := w.keys.List(w.as(bob), &orgv1.ListUserSshKeysRequest{OrganizationId: w.org})
		if err != nil || len(list.GetSshKeys()) != 1 {
			t.Errorf("one's own: %v %v", list, err)
		}
		_, err = w.keys.List(w.as(bob), &orgv1.ListUserSshKeysRequest{OrganizationId: w.org, SubjectId: w.ann.id})
		w.want(err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		_, err = w.keys.List(w.as(w.person("nobody")), &orgv1.ListUserSshKeysRequest{OrganizationId: w.org})
		w.want(err, codes.PermissionDenied, apierr.ReasonPermissionDenied)

		w.allow(nil, false)
		_, err = w.keys.Delete(w.as(bob), &orgv1.DeleteUserSshKeyRequest{UserSshKeyId: key.GetId()})
		w.want(err, codes.PermissionDenied, oslogin.ReasonOwnKeysNotAllowed)
		_, err = w.keys.Delete(w.as(w.ann), &orgv1.DeleteUserSshKeyRequest{UserSshKeyId: key.GetId()})
		w.must(err)
		_, err = w.keys.Get(w.as(bob), &orgv1.GetUserSshKeyRequest{UserSshKeyId: key.GetId()})
		w.want(err, codes.NotFound, oslogin.ReasonKeyNotFound)
	})
}

func TestBadKeys(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		small, err := rsa.GenerateKey(rand.Reader, 1024)
		w.must(err)
		weak, err := ssh.NewPublicKey(&small.PublicKey)
		w.must(err)
		line, _ := w.newKey()
		for name, data := range map[string]string{
			"nothing": "x", "no base64": "ssh-ed25519 ????", "another type": "ssh-rsa " + strings.Fields(line)[1],
			"options": `command="id" ` + line, "two": line + "\n" + line, "weak": string(ssh.MarshalAuthorizedKey(weak)), "a private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
		} {
			_, err := w.keys.Create(w.as(w.ann), &orgv1.CreateUserSshKeyRequest{OrganizationId: w.org, SubjectId: w.ann.id, Data: data})
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err = w.keys.Create(w.as(w.ann), &orgv1.CreateUserSshKeyRequest{
			OrganizationId: w.org, SubjectId: w.ann.id, Data: line, ExpiresAt: timestamppb.New(time.Now().Add(-time.Hour)),
		})
		w.want(err, codes.InvalidArgument, apierr.ReasonInvalid)
	})
}

// Who leaves the organization, or is deleted, leaves no way in behind (GR-6).
func TestGR6_WhoLeavesLeavesNoKeyBehind(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		bob, eve := w.member("bob"), w.member("eve")
		for i, p := range []person{bob, eve} {
			w.profile(p, p.login, int64(2000+i))
			line, _ := w.newKey()
			_, err := w.keys.Create(w.as(w.ann), &orgv1.CreateUserSshKeyRequest{OrganizationId: w.org, SubjectId: p.id, Data: line})
			w.must(err)
		}
		op, err := orgv1.NewUserServiceClient(w.Conn).DeleteMembership(w.as(bob), &orgv1.DeleteMembershipRequest{OrganizationId: w.org})
		done(w, op, err, new(orgv1.DeleteMembershipResponse))
		_, err = w.operator.DeleteUser(t.Context(), &identityv1.DeleteUserRequest{Login: "eve"})
		w.must(err)
		profiles, err := w.logins.ListProfiles(w.as(w.ann), &orgv1.ListOsLoginProfilesRequest{OrganizationId: w.org})
		w.must(err)
		keys, err := w.keys.List(w.as(w.ann), &orgv1.ListUserSshKeysRequest{OrganizationId: w.org})
		w.must(err)
		if len(profiles.GetProfiles()) > 0 || len(keys.GetSshKeys()) > 0 {
			t.Errorf("left: %v, %v", profiles, keys)
		}
	})
}

func TestCertificates(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		bob, eve := w.member("bob"), w.member("eve")
		w.profile(bob, "bob", 3000)
		line, _ := w.newKey()
		inOrg := &orgv1.GenerateSshCertificateRequest_OrganizationId{OrganizationId: w.org}
		own := &orgv1.GenerateSshCertificateRequest{Scope: inOrg, PublicKey: line}
		_, err := w.certs.Generate(w.as(bob), own)
		w.want(err, codes.FailedPrecondition, oslogin.ReasonCertificatesDisabled)
		w.allow(nil, true)
		authority, err := identityv1.NewSshAuthorityServiceClient(w.Conn).GetSshAuthority(w.as(w.ann), &identityv1.GetSshAuthorityRequest{OrganizationId: w.org})
		w.must(err)
		trusted, _, _, _, err := ssh.ParseAuthorizedKey([]byte(authority.GetPublicKey()))
		w.must(err)
		checker := &ssh.CertChecker{
			IsUserAuthority: func(k ssh.PublicKey) bool { return string(k.Marshal()) == string(trusted.Marshal()) },
			Clock:           time.Now,
		}
		for name, req := range map[string]*orgv1.GenerateSshCertificateRequest{
			"of the organization": own,
			"of a cloud":          {Scope: &orgv1.GenerateSshCertificateRequest_CloudId{CloudId: w.cloud}, PublicKey: line},
			"by login":            {Scope: inOrg, PublicKey: line, Subject: &orgv1.GenerateSshCertificateRequest_OsLogin{OsLogin: "bob"}},
		} {
			resp, err := w.certs.Generate(w.as(bob), req)
			w.must(err)
			key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(resp.GetSignedCertificate()))
			w.must(err)
			cert, ok := key.(*ssh.Certificate)
			if !ok {
				t.Fatalf("%s: a %T", name, key)
			}
			if err := checker.CheckCert("bob", cert); err != nil || !checker.IsUserAuthority(cert.SignatureKey) || cert.KeyId != bob.id {
				t.Errorf("%s: %v, signed by %v for %s", name, err, cert.SignatureKey, cert.KeyId)
			}
			if err := checker.CheckCert("root", cert); err == nil {
				t.Errorf("%s: it is good for another login", name)
			}
			if left := time.Until(time.Unix(int64(cert.ValidBefore), 0)); left > time.Hour {
				t.Errorf("%s: it is good for %v", name, left)
			}
		}
		for name, req := range map[string]*orgv1.GenerateSshCertificateRequest{
			"by login": {Scope: inOrg, PublicKey: line, Subject: &orgv1.GenerateSshCertificateRequest_OsLogin{OsLogin: "bob"}},
			"nobody's": {Scope: inOrg, PublicKey: line, Subject: &orgv1.GenerateSshCertificateRequest_OsLogin{OsLogin: "nobody"}},
			"no own":   own,
		} {
			if _, err := w.certs.Generate(w.as(eve), req); apierr.ReasonOf(err) != oslogin.ReasonProfileNotFound {
				t.Errorf("somebody else, %s: %v", name, err)
			}
		}
		ofBob := &orgv1.GenerateSshCertificateRequest{Scope: inOrg, PublicKey: line, Subject: &orgv1.GenerateSshCertificateRequest_SubjectId{SubjectId: bob.id}}
		_, err = w.certs.Generate(w.as(eve), ofBob)
		w.want(err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		if _, err := w.certs.Generate(w.as(w.ann), ofBob); err != nil {
			t.Errorf("by whoever manages keys: %v", err)
		}
	})
}
