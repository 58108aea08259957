package accessbindings

import (
	"crypto/rand"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

func TestSubjectStates(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(adam, folder1, add(viewer, vera))
		ctx := w.User(vera.ID)
		read := func() error {
			_, err := w.bindings.ListAccessBindings(ctx, &accessv1.ListAccessBindingsRequest{Resource: folder1.proto()})
			return err
		}
		w.must(read())
		w.state(vera, stateSuspended)
		refused(t, read(), codes.Unauthenticated, "SUBJECT_INACTIVE")
		if w.allowed(vera, getFolder, folder1) {
			t.Error("a suspended subject may")
		}
		w.mustUpdate(adam, folder2, add(viewer, vera))
		w.state(vera, stateActive)
		w.must(read())
		if !w.allowed(vera, getFolder, folder1) || !w.allowed(vera, getFolder, folder2) {
			t.Error("a subject that came back may not what it held")
		}
		w.must(w.members(org1, []Subject{vera}, nil))
		w.state(vera, stateDeleted)
		refused(t, read(), codes.Unauthenticated, "SUBJECT_INACTIVE")
		if got := w.list(adam, folder1, 0); len(got) != 0 {
			t.Errorf("a deleted subject still stands in the list: %v", got)
		}
		_, err := w.subjects.SetSubject(t.Context(), &accessv1.SetSubjectRequest{Subject: vera.proto(), State: stateActive})
		refused(t, err, codes.FailedPrecondition, "SUBJECT_DELETED")
		_, err = w.update(adam, folder1, add(viewer, vera))
		refused(t, err, codes.NotFound, ReasonSubjectNotFound)
		refused(t, w.members(org1, []Subject{vera}, nil), codes.NotFound, ReasonSubjectNotFound)
		_, err = w.subjects.SetSubject(t.Context(), &accessv1.SetSubjectRequest{Subject: &accessv1.Subject{Type: "system", Id: "allUsers"}, State: stateActive})
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
	})
}

func TestTK3_ARevokedTokenIsVoidAtOnce(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		token, err := w.Issuer.Issue(vera.Type, vera.ID, time.Hour)
		w.must(err)
		w.mustUpdate(adam, folder1, add(viewer, vera))
		ask := func() (err error) {
			_, err = w.check.Authorize(t.Context(), &accessservicev2.AuthorizeRequest{
				Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: token.Text}, Permission: getFolder,
				ResourcePath: []*accessservicev2.Resource{{Type: folder1.Type, Id: folder1.ID}},
			})
			return err
		}
		w.must(ask())
		for range 2 {
			_, err = w.subjects.RevokeToken(t.Context(),
				&accessv1.RevokeTokenRequest{TokenId: token.ID[:], ExpiresAt: timestamppb.New(token.ExpiresAt)})
			w.must(err)
		}
		refused(t, ask(), codes.Unauthenticated, "TOKEN_REVOKED")
		_, err = w.roles.List(w.Context(token.Text), nil)
		refused(t, err, codes.Unauthenticated, "TOKEN_REVOKED")
		w.clock.advance(2 * time.Hour)
		w.service.sweep(t.Context())
		var rows int
		w.must(w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM access_revoked_tokens`).Scan(&rows))
		if rows != 0 {
			t.Errorf("%d ids of revoked tokens are kept after their end", rows)
		}
		if err := ask(); err == nil {
			t.Error("an expired token is good")
		}
	})
}

func TestSU7_SystemGroupsFollowMembership(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		staff := Subject{rules.System, "group:organization:org1:users"}
		w.mustUpdate(adam, folder1, add(viewer, staff))
		if w.allowed(vera, getFolder, folder1) {
			t.Error("a stranger may what the members may")
		}
		w.must(w.members(org1, []Subject{vera}, nil))
		if !w.allowed(vera, getFolder, folder1) {
			t.Error("a member may not what the members may")
		}
		resp, err := w.subjects.ListMemberships(t.Context(),
			&accessv1.ListMembershipsRequest{Subject: vera.proto(), ContainerType: typeOrganization})
		w.must(err)
		if got := resp.GetContainers(); len(got) != 1 || refOf(got[0]) != org1 {
			t.Errorf("memberships %v", got)
		}
		w.must(w.members(org1, nil, []Subject{vera}))
		if w.allowed(vera, getFolder, folder1) {
			t.Error("who left may what the members may")
		}
		_, err = w.update(adam, folder1, add(viewer, Subject{rules.System, "group:organization:nowhere:users"}))
		refused(t, err, codes.NotFound, ReasonSubjectNotFound)
	})
}

func TestPG1_PublicGroupsAreEverybody(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(adam, folder1, add(viewer, Subject{rules.System, "allAuthenticatedUsers"}))
		w.mustUpdate(adam, folder2, add(viewer, Subject{rules.System, "allUsers"}))
		for _, r := range []Ref{folder1, folder2} {
			if !w.allowed(nick, getFolder, r) {
				t.Errorf("everybody may, but not nick on %s", r.ID)
			}
			if w.allowed(user("ghost"), getFolder, r) {
				t.Errorf("a subject that nobody knows may on %s", r.ID)
			}
		}
		_, err := w.update(carl, cloud1, add(cloudOwner, Subject{rules.System, "allUsers"}))
		refused(t, err, codes.InvalidArgument, "SUBJECT_NOT_ELIGIBLE")
		_, err = w.update(adam, folder1, add(viewer, user("allUsers")))
		refused(t, err, codes.InvalidArgument, "SUBJECT_INVALID")
		_, err = w.update(adam, folder1, add(viewer, Subject{"robot", "x"}))
		refused(t, err, codes.InvalidArgument, "SUBJECT_INVALID")
	})
}

func TestSU9_ServiceAccountsAtHome(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		bot := robot("bot")
		w.know(bot)
		_, err := w.update(adam, folder1, add(viewer, bot))
		refused(t, err, codes.FailedPrecondition, "SERVICE_ACCOUNT_FOREIGN")
		w.register(Ref{typeServiceAccount, "bot"}, folder2, nil)
		w.mustUpdate(adam, folder1, add(viewer, bot))
		if !w.allowed(bot, getFolder, folder1) {
			t.Error("a service account may not at home")
		}
		_, err = w.update(olga, org2, add(viewer, bot))
		refused(t, err, codes.FailedPrecondition, "SERVICE_ACCOUNT_FOREIGN")
		w.mustUpdate(olga, org1, add("iam.serviceAccounts.admin", vera))
		w.mustUpdate(vera, Ref{typeServiceAccount, "bot"}, add(viewer, nick)) // AS-2
		_, err = w.update(vera, folder2, add(viewer, nick))
		refused(t, err, codes.PermissionDenied, "PERMISSION_DENIED")
	})
}

// A token of a session ends with it, also one that is issued later; tokens of other
// sessions, and those of none, stay good.
func TestTK5_ATokenEndsWithItsSession(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(adam, folder1, add(viewer, vera))
		ended, also, other := authn.TokenID{1}, authn.TokenID{2}, authn.TokenID{3}
		issue := func(session authn.TokenID) string {
			t.Helper()
			token, err := w.Issuer.IssueGrant(authn.Grant{Type: vera.Type, ID: vera.ID, Session: session}, time.Hour)
			w.must(err)
			return token.Text
		}
		before, kept, free := issue(ended), issue(other), issue(authn.TokenID{})
		for range 2 {
			_, err := w.subjects.RevokeSessions(t.Context(), &accessv1.RevokeSessionsRequest{Sessions: []*accessv1.RevokedSession{
				{SessionId: ended[:], ExpiresAt: timestamppb.New(w.clock.now().Add(time.Hour))},
				{SessionId: also[:], ExpiresAt: timestamppb.New(w.clock.now().Add(time.Hour))},
				{SessionId: ended[:], ExpiresAt: timestamppb.New(w.clock.now().Add(time.Hour))},
			}})
			w.must(err)
		}
		for _, c := range []struct {
			name, token string
			code        codes.Code
			reason      string
		}{
			{"issued before", before, codes.Unauthenticated, "TOKEN_REVOKED"},
			{"issued after", issue(ended), codes.Unauthenticated, "TOKEN_REVOKED"},
			{"of the other one that ended", issue(also), codes.Unauthenticated, "TOKEN_REVOKED"},
			{"of a session that goes on", kept, codes.OK, ""},
			{"of no session", free, codes.OK, ""},
		} {
			path := []*accessservicev2.Resource{{Type: folder1.Type, Id: folder1.ID}}
			_, alone := w.check.Authorize(t.Context(), &accessservicev2.AuthorizeRequest{
				Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: c.token}, Permission: getFolder, ResourcePath: path})
			_, who := w.check.Authenticate(t.Context(), &accessservicev2.AuthenticateRequest{
				Credentials: &accessservicev2.AuthenticateRequest_IamToken{IamToken: c.token}})
			_, list := w.bindings.ListAccessBindings(w.Context(c.token), &accessv1.ListAccessBindingsRequest{Resource: folder1.proto()})
			for door, err := range map[string]error{"Authorize": alone, "Authenticate": who, "the unit's own methods": list} {
				if status.Code(err) != c.code || apierr.ReasonOf(err) != c.reason {
					t.Errorf("a token %s, %s: %v", c.name, door, err)
				}
			}
		}
		var rows int
		w.must(w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM access_revoked_tokens`).Scan(&rows))
		if rows != 2 {
			t.Errorf("%d facts are kept of 2 sessions", rows)
		}
	})
}

func TestOnlyIdentityChangesSubjects(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		asManager := accessv1.NewSubjectServiceClient(w.Unit("resourcemanager", Name))
		asUser := accessv1.NewSubjectServiceClient(w.Conn)
		id := make([]byte, 16)
		_, _ = rand.Read(id)
		for name, call := range map[string]func(accessv1.SubjectServiceClient) error{
			"SetSubject": func(c accessv1.SubjectServiceClient) error {
				_, err := c.SetSubject(w.User(olga.ID), &accessv1.SetSubjectRequest{Subject: vera.proto(), State: stateSuspended})
				return err
			},
			"RevokeSessions": func(c accessv1.SubjectServiceClient) error {
				_, err := c.RevokeSessions(w.User(olga.ID), &accessv1.RevokeSessionsRequest{
					Sessions: []*accessv1.RevokedSession{{SessionId: id, ExpiresAt: timestamppb.Now()}}})
				return err
			},
			"UpdateMemberships": func(c accessv1.SubjectServiceClient) error {
				_, err := c.UpdateMemberships(w.User(olga.ID), &accessv1.UpdateMembershipsRequest{Subject: vera.proto(), OrganizationId: org1.ID})
				return err
			},
			"RevokeToken": func(c accessv1.SubjectServiceClient) error {
				_, err := c.RevokeToken(w.User(olga.ID), &accessv1.RevokeTokenRequest{TokenId: id, ExpiresAt: timestamppb.Now()})
				return err
			},
		} {
			for _, client := range []accessv1.SubjectServiceClient{asManager, asUser} {
				if err := call(client); apierr.ReasonOf(err) != "UNIT_NOT_ADMITTED" {
					t.Errorf("%s by another: %v", name, err)
				}
			}
		}
	})
}
