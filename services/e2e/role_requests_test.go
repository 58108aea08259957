package e2e

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

const roleRequestsOf = "bindery.access.v1.RoleRequestService/"

// A role for a while, as the README shows it: a refused call, its explanation, the
// request that this advises, the approval, the call allowed, and refused again once the
// time is over, without anybody's doing.
func TestRoleRequests(t *testing.T) {
	eachForm(t, func(t *testing.T, s *server) {
		for _, rest := range []bool{false, true} {
			t.Run(map[bool]string{false: "grpc", true: "rest"}[rest], func(t *testing.T) {
				newWalker(t, s, rest).roleForAWhile(map[bool]string{false: "g", true: "r"}[rest])
			})
		}
	})
}

func (m *walker) roleForAWhile(suffix string) {
	m.t.Helper()
	boss, dev := m.s.createUser("boss-"+suffix), m.s.createUser("dev-"+suffix)
	bossToken, devToken := m.s.createToken(boss.Login), m.s.createToken(dev.Login)
	cloud, folder := new(rmv1.Cloud), new(rmv1.Folder)
	m.made(bossToken, "yandex.cloud.resourcemanager.v1.CloudService/Create", "/resource-manager/v1/clouds", &rmv1.CreateCloudRequest{Name: "prod"}, cloud)
	m.made(bossToken, "yandex.cloud.resourcemanager.v1.FolderService/Create", "/resource-manager/v1/folders",
		&rmv1.CreateFolderRequest{CloudId: cloud.GetId(), Name: "main"}, folder)
	m.join(bossToken, devToken, cloud.GetOrganizationId(), dev)

	look := func() codes.Code {
		return m.call(devToken, "yandex.cloud.resourcemanager.v1.FolderService/Get", http.MethodGet, "/resource-manager/v1/folders/"+folder.GetId(),
			&rmv1.GetFolderRequest{FolderId: folder.GetId()}, new(rmv1.Folder))
	}
	if got := look(); got != codes.PermissionDenied {
		m.t.Fatalf("without a role the folder answers %s", got)
	}
	why := new(accessv1.ExplainResponse)
	m.call(devToken, "bindery.access.v1.PermissionService/Explain", http.MethodGet,
		"/access/v1/access:explain?permission=resource-manager.folders.get&resource.type=resource-manager.folder&resource.id="+folder.GetId(),
		&accessv1.ExplainRequest{Permission: "resource-manager.folders.get", Resource: &accessv1.Resource{Type: "resource-manager.folder", Id: folder.GetId()}}, why)
	req := why.GetAdvice().GetRequest()
	if why.GetAllowed() || req.GetRoleId() == "" || req.GetResource().GetId() != folder.GetId() {
		m.t.Fatalf("the explanation is %v", why)
	}
	req.Reason, req.Term = "To see why it fails.", &accessv1.CreateRoleRequestRequest_Duration{Duration: durationpb.New(2 * time.Second)}
	r := new(accessv1.RoleRequest)
	m.made(devToken, roleRequestsOf+"CreateRoleRequest", "/access/v1/resource-manager.folder/"+folder.GetId()+"/roleRequests", req, r)
	at := "/access/v1/roleRequests/" + r.GetId()
	m.made(devToken, roleRequestsOf+"CreateRoleRequestMessage", at+"/messages",
		&accessv1.CreateRoleRequestMessageRequest{RequestId: r.GetId(), Text: "Please."}, new(accessv1.RoleRequestMessage))
	if got := look(); got != codes.PermissionDenied {
		m.t.Errorf("while the request is pending the folder answers %s", got)
	}
	waiting := new(accessv1.ListRoleRequestsResponse)
	organization := &accessv1.Resource{Type: "organization-manager.organization", Id: cloud.GetOrganizationId()}
	m.call(bossToken, roleRequestsOf+"ListRoleRequests", http.MethodGet,
		"/access/v1/organization-manager.organization/"+organization.GetId()+"/roleRequests?below=true&filter=state%3D%22PENDING%22",
		&accessv1.ListRoleRequestsRequest{Resource: organization, Below: true, Filter: `state="PENDING"`}, waiting)
	if all := waiting.GetRequests(); len(all) != 1 || all[0].GetId() != r.GetId() || all[0].GetUnreadCount() != 1 {
		m.t.Errorf("waiting are %v", waiting)
	}
	m.made(bossToken, roleRequestsOf+"ApproveRoleRequest", at+":approve", &accessv1.ApproveRoleRequestRequest{RequestId: r.GetId(), Comment: "Two seconds."}, r)
	// From here on the clock runs: the answer comes long before the end, or else is of no use.
	if got := look(); got != codes.OK && time.Now().Before(r.GetExpiresAt().AsTime()) {
		m.t.Errorf("with the role the folder answers %s", got)
	}
	if r.GetExpiresAt().AsTime().Sub(r.GetDecidedAt().AsTime()) != 2*time.Second || !r.GetSettled() {
		m.t.Errorf("the request is %v", r)
	}
	time.Sleep(time.Until(r.GetExpiresAt().AsTime())) // its end, by the clock of this machine, which is the server's
	if got := look(); got != codes.PermissionDenied {
		m.t.Errorf("after its end the folder answers %s", got)
	}
	m.call(devToken, roleRequestsOf+"GetRoleRequest", http.MethodGet, at, &accessv1.GetRoleRequestRequest{RequestId: r.GetId()}, r)
	if r.GetState() != accessv1.RoleRequest_EXPIRED {
		m.t.Errorf("after its end it is %v", r)
	}
	m.trail(bossToken, organization.GetId(), r.GetId())
}

// join makes a user a member of an organization, by an invitation.
func (m *walker) join(bossToken, token, organizationID string, who user) {
	m.t.Helper()
	op, meta := new(operationpb.Operation), new(identityv1.CreateInvitationsMetadata)
	m.call(bossToken, "bindery.identity.v1.InvitationService/CreateInvitations", http.MethodPost, "/organization-manager/v1/organizations/"+organizationID+"/invitations",
		&identityv1.CreateInvitationsRequest{OrganizationId: organizationID, Emails: []string{who.Login + "@example.com"}}, op)
	if err := op.GetMetadata().UnmarshalTo(meta); err != nil || len(meta.GetInvitationIds()) != 1 {
		m.t.Fatalf("the invitation: %v %v", op, err)
	}
	id := meta.GetInvitationIds()[0]
	code := m.call(token, "bindery.identity.v1.InvitationService/AcceptInvitation", http.MethodPost, "/organization-manager/v1/invitations/"+id+":accept",
		&identityv1.AcceptInvitationRequest{InvitationId: id}, new(operationpb.Operation))
	if code != codes.OK {
		m.t.Fatalf("accepting the invitation: %s", code)
	}
}

// trail wants the whole of a request in the audit trail of its organization (RQ-8).
func (m *walker) trail(token, organizationID, requestID string) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, "http://"+m.s.http+
		"/audit/v1/events?pageSize=1000&resource.type=organization-manager.organization&resource.id="+organizationID, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Events []struct {
			EventType string
			Details   map[string]any
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		m.t.Fatal(err)
	}
	texts := map[any]bool{}
	for _, e := range answer.Events {
		if e.Details["request_id"] == requestID {
			texts[e.Details["text"]] = true
		}
	}
	for _, text := range []string{"To see why it fails.", "Please.", "Two seconds."} {
		if !texts[text] {
			m.t.Errorf("the trail lacks %q: %v", text, texts)
		}
	}
}
