package identity

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iampb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// account makes a service account in a new folder of a cloud, as its own unit does.
func (w *town) account(owner citizen, cloud, name string) ServiceAccount {
	w.t.Helper()
	op, err := rmv1.NewFolderServiceClient(w.Conn).Create(owner.ctx, &rmv1.CreateFolderRequest{CloudId: cloud, Name: "of-" + name})
	folder := new(rmv1.Folder)
	w.done(op, err, folder)
	a := ServiceAccount{
		ID: id.New(id.ServiceAccount), FolderID: folder.GetId(), CloudID: cloud, Name: name, State: Active, Version: 1,
		CreatedBy: owner.id, CreatedAt: sqldb.Time(1_800_000_000_000_000),
	}
	store := &Store{db: w.db}
	err = sqldb.InTx(w.t.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error { return store.InsertAccount(ctx, tx, a) })
	if err != nil {
		w.t.Fatal(err)
	}
	unit := w.Unit(Name, "accessbindings")
	_, err = accessv1.NewResourceServiceClient(unit).RegisterResource(w.t.Context(), &accessv1.RegisterResourceRequest{
		Resource: &accessv1.Resource{Type: "iam.serviceAccount", Id: a.ID},
		Parent:   &accessv1.Resource{Type: "resource-manager.folder", Id: a.FolderID},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = w.subjects.SetSubject(w.t.Context(), &accessv1.SetSubjectRequest{
		Subject: &accessv1.Subject{Type: authn.ServiceAccount, Id: a.ID}, State: accessv1.SetSubjectRequest_ACTIVE,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func inOrganization(org string) *iamv1.Resource {
	return &iamv1.Resource{Type: typeOrganization, Id: org}
}

func (w *town) subject(as citizen, subjectID, org string) (*iampb.Subject, error) {
	req := &iamv1.GetSubjectRequest{SubjectId: subjectID}
	if org != "" {
		req.ResourceContext = inOrganization(org)
	}
	resp, err := w.details.Get(as.ctx, req)
	return resp.GetSubject(), err
}

// listSubjects reads all subjects of an organization, in pages of a size.
func (w *town) listSubjects(as citizen, org, filter string, size int64) []*iampb.Subject {
	w.t.Helper()
	var all []*iampb.Subject
	req := &iamv1.ListSubjectsRequest{ResourceContext: inOrganization(org), Filter: filter, PageSize: size}
	for {
		resp, err := w.details.List(as.ctx, req)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, resp.GetSubjects()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
		if len(resp.GetSubjects()) != int(size) {
			w.t.Fatalf("a page of %d with a next one, want %d", len(resp.GetSubjects()), size)
		}
	}
}

func kinds(all []*iampb.Subject) map[string]int {
	n := map[string]int{}
	for _, s := range all {
		n[s.GetType().String()]++
	}
	return n
}

// group makes a group with one member and returns its id.
func (w *town) group(owner citizen, org, name, member string) string {
	w.t.Helper()
	client := orgv1.NewGroupServiceClient(w.Conn)
	op, err := client.Create(owner.ctx, &orgv1.CreateGroupRequest{OrganizationId: org, Name: name})
	group := new(orgv1.Group)
	w.done(op, err, group)
	if _, err := client.UpdateMembers(owner.ctx, &orgv1.UpdateGroupMembersRequest{GroupId: group.GetId(), MemberDeltas: []*orgv1.MemberDelta{
		{Action: orgv1.MemberDelta_ADD, SubjectId: member},
	}}); err != nil {
		w.t.Fatal(err)
	}
	return group.GetId()
}

// Kinds and states of subjects, and the kinds of groups.
func TestSU10_KindsAndStates(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera := w.citizen("olga"), w.citizen("vera")
		org := w.organization(olga, "acme")
		cloud := w.cloud(olga, org)
		robot := w.account(olga, cloud, "robot")
		w.join(olga, org, vera)
		inv := w.invite(olga, org, "nick@example.com")
		team := w.group(olga, org, "Team", vera.id)
		if _, err := w.operator.SuspendUser(t.Context(), &identityv1.SuspendUserRequest{Login: "vera", Reason: "on leave"}); err != nil {
			t.Fatal(err)
		}
		for subjectID, want := range map[string]*iampb.Subject{
			vera.id: {
				Type: iampb.SubjectType_USER_ACCOUNT, Status: iampb.SubjectStatus_SUSPENDED, Name: "vera",
				Groups: []*iampb.Group{{Id: team, Name: "Team", Type: iampb.GroupType_EXPLICIT}},
				SubjectDetails: &iampb.Subject_UserAccount{UserAccount: &iampb.UserAccount{
					PreferredUsername: "vera", Email: "vera@example.com", SuspendReason: "on leave",
					SubjectContainer: &iampb.SubjectContainer{ContainerType: iampb.ContainerType_PASSPORT},
				}},
			},
			robot.ID: {
				Type: iampb.SubjectType_SERVICE_ACCOUNT, Status: iampb.SubjectStatus_ACTIVE, Name: "robot",
				SubjectDetails: &iampb.Subject_ServiceAccount{ServiceAccount: &iampb.ServiceAccount{
					Cloud: &iampb.Cloud{Id: cloud, Name: "cloud"}, Folder: &iampb.Folder{Id: robot.FolderID, Name: "of-robot"},
				}},
			},
			team: {
				Type: iampb.SubjectType_GROUP, Status: iampb.SubjectStatus_ACTIVE, Name: "Team",
				SubjectDetails: &iampb.Subject_Group{Group: &iampb.Group{Id: team, Name: "Team", Type: iampb.GroupType_EXPLICIT}},
			},
			inv.GetId(): {
				Type: iampb.SubjectType_INVITEE, Name: "nick@example.com",
				SubjectDetails: &iampb.Subject_Invitee{Invitee: &iampb.Invitee{Email: "nick@example.com"}},
			},
			"allUsers": {
				Type: iampb.SubjectType_GROUP, Status: iampb.SubjectStatus_ACTIVE, Name: "All users",
				SubjectDetails: &iampb.Subject_Group{Group: &iampb.Group{Id: "allUsers", Name: "All users", Type: iampb.GroupType_PUBLIC_ACCESS}},
			},
			"group:organization:" + org + ":users": {
				Type: iampb.SubjectType_GROUP, Status: iampb.SubjectStatus_ACTIVE, Name: "Members of the organization",
				SubjectDetails: &iampb.Subject_Group{Group: &iampb.Group{
					Id: "group:organization:" + org + ":users", Name: "Members of the organization", Type: iampb.GroupType_META,
				}},
			},
		} {
			want.Sub = subjectID
			for _, in := range []string{org, ""} {
				got, err := w.subject(olga, subjectID, in)
				if err != nil {
					t.Errorf("%s: %v", subjectID, err)
					continue
				}
				if got.GetCreatedAt() == nil && want.GetType() != iampb.SubjectType_GROUP {
					t.Errorf("%s was never made", subjectID)
				}
				got.CreatedAt, got.LastAuthenticatedAt = nil, nil
				if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
					t.Errorf("%s (-want +got):\n%s", subjectID, diff)
				}
			}
		}
	})
}

// The list of an organization is complete, in pages of any size, under any filter.
func TestListSubjects(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga := w.citizen("olga")
		org, other := w.organization(olga, "acme"), w.organization(olga, "other")
		cloud := w.cloud(olga, org)
		w.account(olga, w.cloud(olga, other), "elsewhere")
		w.invite(olga, other, "elsewhere@example.com")
		want := map[string]bool{
			olga.id: true, "allUsers": true, "allAuthenticatedUsers": true, "group:organization:" + org + ":users": true,
		}
		for i := range 4 {
			who := w.citizen(fmt.Sprintf("member%d", i))
			w.join(olga, org, who)
			want[who.id] = true
			want[w.account(olga, cloud, fmt.Sprintf("robot%d", i)).ID] = true
			want[w.invite(olga, org, fmt.Sprintf("guest%d@example.com", i)).GetId()] = true
		}
		want[w.group(olga, org, "one", olga.id)] = true
		want[w.group(olga, org, "two", olga.id)] = true
		w.group(olga, other, "elsewhere", olga.id)
		begun := map[string]bool{"Administrators": true, "Billing Administrators": true} // with the organization (SC-2)
		var first []*iampb.Subject
		for _, size := range []int64{1000, 1, 2, 3, 5, 16} {
			all := w.listSubjects(olga, org, "", size)
			if first == nil {
				first = all
				for _, s := range all {
					if begun[s.GetName()] {
						delete(begun, s.GetName())
						continue
					}
					if !want[s.GetSub()] {
						t.Errorf("%s is not of the organization", s)
					}
					delete(want, s.GetSub())
				}
				if len(want)+len(begun) > 0 {
					t.Errorf("left out: %v, %v", want, begun)
				}
			}
			if diff := cmp.Diff(first, all, protocmp.Transform()); diff != "" {
				t.Errorf("in pages of %d another list: %s", size, diff)
			}
		}
		for filter, n := range map[string]int{
			`type = "USER_ACCOUNT"`: 5, `type = "SERVICE_ACCOUNT"`: 4, `type = "GROUP"`: 7, `type = "INVITEE"`: 4,
			`status = "ACTIVE"`: 16, `status = "SUSPENDED"`: 0, `name = "robot2"`: 1, `name = "robot"`: 0, `name = "two"`: 1, `sub = "` + olga.id + `"`: 1,
		} {
			for _, size := range []int64{1000, 1} {
				if all := w.listSubjects(olga, org, filter, size); len(all) != n {
					t.Errorf("%s in pages of %d: %v, want %d", filter, size, all, n)
				}
			}
		}
		masked, err := w.details.List(olga.ctx, &iamv1.ListSubjectsRequest{
			ResourceContext: inOrganization(org), Filter: `name = "member1"`, FieldMask: &fieldmaskpb.FieldMask{Paths: []string{"sub", "user_account.email"}},
		})
		if err != nil || len(masked.GetSubjects()) != 1 {
			t.Fatalf("masked: %v, %v", masked, err)
		}
		only := &iampb.Subject{
			Sub: masked.GetSubjects()[0].GetSub(), SubjectDetails: &iampb.Subject_UserAccount{UserAccount: &iampb.UserAccount{Email: "member1@example.com"}},
		}
		if diff := cmp.Diff(only, masked.GetSubjects()[0], protocmp.Transform()); diff != "" {
			t.Errorf("masked (-want +got):\n%s", diff)
		}
		for _, bad := range []*iamv1.ListSubjectsRequest{
			{ResourceContext: inOrganization(org), Filter: `type = "ROBOT"`},
			{ResourceContext: inOrganization(org), Filter: `type = "SUBJECT_TYPE_UNSPECIFIED"`},
			{ResourceContext: inOrganization(org), Filter: `email = "a@b.c"`},
			{ResourceContext: inOrganization(org), PageToken: "users"},
			{ResourceContext: inOrganization(org), PageToken: "nobody.x"},
			{ResourceContext: inOrganization(org), PageToken: "accounts.x"},
			{ResourceContext: inOrganization(org), PageToken: "users.x"},
			{ResourceContext: inOrganization(org), FieldMask: &fieldmaskpb.FieldMask{Paths: []string{"password"}}},
			{ResourceContext: &iamv1.Resource{Type: "resource-manager.cloud", Id: cloud}},
		} {
			_, err := w.details.List(olga.ctx, bad)
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		}
	})
}

// Everybody sees what their permissions show, and not more.
func TestSubjectsAreHidden(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, nick, stranger := w.citizen("olga"), w.citizen("nick"), w.citizen("stranger")
		org, other := w.organization(olga, "acme"), w.organization(nick, "other")
		vera, err := w.operator.CreateUser(t.Context(), &identityv1.CreateUserRequest{
			Login: "vera", Email: "vera@example.com", GivenName: "Vera", FamilyName: "Nova", PhoneNumber: "+4930123456",
		})
		if err != nil {
			t.Fatal(err)
		}
		her := citizen{id: vera.GetId(), login: "vera", email: "vera@example.com", ctx: w.Context(w.token(vera).GetIamToken())}
		w.join(olga, org, her)
		robot := w.account(olga, w.cloud(olga, org), "robot")
		inv := w.invite(olga, org, "guest@example.com")
		team := w.group(olga, org, "Team", her.id)

		auditor, agent := w.citizen("auditor"), w.citizen("agent")
		w.grant(olga, typeOrganization, org, "auditor", auditor)                                // no phone numbers, no invitations
		w.grant(olga, typeOrganization, org, "organization-manager.userpools.syncAgent", agent) // users.list alone
		for _, c := range []struct {
			who                   citizen
			name, email, phone    string
			robots, guests, total int
		}{
			{olga, "Vera Nova", "vera@example.com", "+4930123456", 1, 1, 10},
			{auditor, "Vera Nova", "vera@example.com", "", 1, 0, 9},
			{agent, "vera", "", "", 0, 0, 5},
		} {
			got, err := w.subject(c.who, her.id, "")
			if err != nil || got.GetName() != c.name || got.GetUserAccount().GetEmail() != c.email || got.GetUserAccount().GetPhoneNumber() != c.phone {
				t.Errorf("%s sees %v, %v", c.who.login, got, err)
			}
			all := w.listSubjects(c.who, org, "", 100)
			if n := kinds(all); n["SERVICE_ACCOUNT"] != c.robots || n["INVITEE"] != c.guests || len(all) != c.total {
				t.Errorf("%s sees %v", c.who.login, n)
			}
			if i := slices.IndexFunc(all, func(s *iampb.Subject) bool { return s.GetSub() == her.id }); i < 0 || !proto.Equal(all[i], got) {
				t.Errorf("%s sees her in the list otherwise than alone: %v", c.who.login, all)
			}
		}
		for _, resource := range []string{robot.ID, team} { // whose own permissions the agent lacks
			_, err := w.subject(agent, resource, "")
			wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		}
		own, err := w.subject(her, her.id, "")
		if err != nil || own.GetUserAccount().GetPhoneNumber() != "+4930123456" {
			t.Errorf("she sees herself as %v, %v", own, err)
		}
		for _, hidden := range []string{olga.id, robot.ID, inv.GetId(), team} {
			_, err := w.subject(her, hidden, "") // a member may list nobody
			wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
			_, err = w.subject(stranger, hidden, "")
			wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
			if strings.Contains(err.Error(), org) {
				t.Errorf("the refusal tells the organization: %v", err)
			}
			_, err = w.subject(nick, hidden, other) // his own organization does not have it
			wantCode(t, err, codes.NotFound, ReasonSubjectNotFound)
			_, err = w.subject(nick, hidden, org)
			wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		}
		for _, nobody := range []string{"usr00000000000000000", "sac00000000000000000", "inv00000000000000000", "grp00000000000000000", "x", "group:organization:x:users"} {
			_, err := w.subject(olga, nobody, "")
			wantCode(t, err, codes.NotFound, ReasonSubjectNotFound)
		}
		batch := func(who citizen, on *iamv1.Resource, filter string) []string {
			resp, err := w.details.BatchGet(who.ctx, &iamv1.BatchGetSubjectsRequest{
				SubjectIds: []string{robot.ID, "x", her.id, inv.GetId(), her.id, nick.id, "allUsers"}, ResourceContext: on, Filter: filter,
			})
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, s := range resp.GetSubjects() {
				ids = append(ids, s.GetSub())
			}
			return ids
		}
		for _, c := range []struct {
			got, want []string
		}{
			{batch(olga, nil, ""), []string{robot.ID, her.id, inv.GetId(), "allUsers"}},
			{batch(olga, inOrganization(org), ""), []string{robot.ID, her.id, inv.GetId(), "allUsers"}},
			{batch(olga, nil, `type = "USER_ACCOUNT"`), []string{her.id}},
			{batch(auditor, nil, ""), []string{robot.ID, her.id, "allUsers"}},
			{batch(nick, nil, ""), []string{nick.id, "allUsers"}},
			{batch(stranger, nil, ""), []string{"allUsers"}},
		} {
			if diff := cmp.Diff(c.want, c.got); diff != "" {
				t.Errorf("several at once: %s", diff)
			}
		}
	})
}

// A login leads to an id and back, for everybody; the address is for the user and for
// who may see it.
func TestTK6_AddressesAreHidden(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera, stranger := w.citizen("olga"), w.citizen("vera"), w.citizen("stranger")
		org := w.organization(olga, "acme")
		w.join(olga, org, vera)
		for _, c := range []struct {
			who   citizen
			email string
		}{{vera, vera.email}, {olga, vera.email}, {stranger, ""}} {
			byLogin, err := w.logins.GetByLogin(c.who.ctx, &iamv1.GetUserAccountByLoginRequest{Login: "vera"})
			if err != nil {
				t.Fatal(err)
			}
			byID, err := w.users.Get(c.who.ctx, &iamv1.GetUserAccountRequest{UserAccountId: vera.id})
			if err != nil || !proto.Equal(byLogin, byID) {
				t.Errorf("%s: by login %v, by id %v, %v", c.who.login, byLogin, byID, err)
			}
			account := byID.GetYandexPassportUserAccount()
			if byID.GetId() != vera.id || account.GetLogin() != "vera" || account.GetDefaultEmail() != c.email || (byID.GetLastAuthenticatedAt() != nil) != (c.email != "") {
				t.Errorf("%s sees %v", c.who.login, byID)
			}
		}
	})
}
