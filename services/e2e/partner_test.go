package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	auditv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/audit/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// The methods of the two documented days of a reseller.
const (
	ownAccounts    = "bindery.partner.v1.BillingAccountService/"
	partnersOf     = "bindery.partner.v1.PartnerService/"
	subaccountsOf  = "bindery.partner.v1.SubaccountService/"
	usageOf        = "bindery.partner.v1.UsageService/"
	publicAccounts = "yandex.cloud.billing.v1.BillingAccountService/"
	customersOf    = "yandex.cloud.billing.v1.CustomerService/"
	accessesOf     = "bindery.partner.v1.CustomerAccessService/"
	groupsOf       = "yandex.cloud.organizationmanager.v1.GroupService/"
	invitationsOf  = "bindery.identity.v1.InvitationService/"
	cardsOf        = "bindery.partner.v1.PartnerCardService/"
	grantPolicies  = "bindery.access.v1.GrantPolicyService/"
	accessOf       = "bindery.access.v1.AccessBindingService/"
	permissionsOf  = "bindery.access.v1.PermissionService/"
	cloudsOf       = "yandex.cloud.resourcemanager.v1.CloudService/"
	foldersOf      = "yandex.cloud.resourcemanager.v1.FolderService/"
)

var (
	notAPartner = answer{codes.PermissionDenied, "NOT_A_PARTNER"}
	denied      = answer{codes.PermissionDenied, "PERMISSION_DENIED"}
)

// TestPartnerDays walks the two documented ways into the partner portal, and the day that
// a reseller has in it, by gRPC and by REST; the operator's part by the program.
func TestPartnerDays(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *server) {
		for _, rest := range []bool{false, true} {
			name := map[bool]string{false: "grpc", true: "rest"}[rest]
			t.Run(name, func(t *testing.T) { newReseller(t, s, rest, name).day() })
			t.Run(name+" by a policy", func(t *testing.T) { newReseller(t, s, rest, name+"-policy").policyDay() })
		}
	})
}

// TestSC22_TheCustomerReadsWhatThePartnerDid has a colleague of the reseller enter the
// organization of a customer by its consent, change something and leave: the customer reads
// in the trail of its organization all that was done there.
func TestSC22_TheCustomerReadsWhatThePartnerDid(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *server) {
		r := newReseller(t, s, false, "trail")
		r.open()
		colleague, boss := r.person("colleague"), r.person("boss")
		r.done(r.owner.token, partnersOf+"AddUser", &partnerv1.AddUserRequest{
			BillingAccountId: r.account, Email: colleague.email, RoleIds: []string{"billing.accounts.admin"},
		}, new(partnerv1.PartnerUser))
		sub, accepted, cloud := new(partnerv1.Subaccount), new(partnerv1.InvitationToSubaccount), new(rmv1.Cloud)
		r.done(r.owner.token, subaccountsOf+"CreateSubaccount", r.customer("ACME", boss.email), sub)
		r.done(boss.token, subaccountsOf+"AcceptInvitation", &partnerv1.AcceptInvitationRequest{SubaccountId: sub.GetId()}, accepted)
		org := accepted.GetOrganizationId()
		r.done(boss.token, cloudsOf+"Create", &rmv1.CreateCloudRequest{Name: "prod", OrganizationId: org}, cloud)
		change := &rmv1.UpdateCloudRequest{CloudId: cloud.GetId(), Description: "more disks"}
		r.want(denied, colleague.token, cloudsOf+"Update", change, new(emptypb.Empty))
		entry := new(partnerv1.CustomerAccess)
		r.done(colleague.token, accessesOf+"RequestCustomerAccess", &partnerv1.RequestCustomerAccessRequest{
			SubaccountId: sub.GetId(), RoleId: "editor", Duration: durationpb.New(time.Hour), Reason: "The disks are full.",
		}, entry)
		r.done(boss.token, accessesOf+"ApproveCustomerAccess", &partnerv1.ApproveCustomerAccessRequest{AccessId: entry.GetId()}, entry)
		r.done(colleague.token, cloudsOf+"Update", change, cloud)
		r.done(boss.token, accessesOf+"RevokeCustomerAccess", &partnerv1.RevokeCustomerAccessRequest{AccessId: entry.GetId()}, entry)
		r.want(denied, colleague.token, cloudsOf+"Update", change, new(emptypb.Empty))
		trail := new(auditv1.ListEventsResponse)
		r.want(answer{}, boss.token, "bindery.audit.v1.AuditService/ListEvents", &auditv1.ListEventsRequest{
			Resource: &auditv1.Resource{Type: "organization-manager.organization", Id: org}, Filter: &auditv1.EventFilter{SubjectId: colleague.id},
		}, trail)
		var read []string
		for _, e := range trail.GetEvents() {
			read = append(read, strings.TrimPrefix(e.GetEventType(), "bindery.audit."))
		}
		if want := []string{"resourcemanager.UpdateCloud", "billing.CustomerAccessRequest"}; !slices.Equal(read, want) {
			t.Errorf("the customer reads %v, want %v", read, want)
		}
	})
}

// reseller is the owner of a billing account that is yet to become a partner's.
type reseller struct {
	*walker
	suffix  string
	owner   signedIn
	org     string // that the account stands below; "" for none
	account string
}

// signedIn is a user who has signed in.
type signedIn struct{ id, email, token string }

func newReseller(t *testing.T, s *server, rest bool, suffix string) *reseller {
	t.Helper()
	r := &reseller{walker: newWalker(t, s, rest), suffix: suffix}
	r.owner = r.person("reseller")
	return r
}

// person makes a user, signed in.
func (r *reseller) person(name string) signedIn {
	r.t.Helper()
	u := r.s.createUser(name + "-" + r.suffix)
	return signedIn{u.ID, u.Login + "@example.com", r.s.createToken(u.Login)}
}

// open makes the account, which the platform then makes a partner's: nobody gets in
// before (PT-2).
func (r *reseller) open() {
	r.t.Helper()
	account := new(partnerv1.BillingAccount)
	r.done(r.owner.token, ownAccounts+"CreateBillingAccount", &partnerv1.CreateBillingAccountRequest{
		Name: "Reseller", CountryCode: "RU", Currency: "RUB", OrganizationId: r.org,
	}, account)
	r.account = account.GetId()
	r.self(r.owner, notAPartner)
	r.platform(account, "billing", "state", "--id", r.account, "--state", "ACTIVE")
	r.self(r.owner, notAPartner)
	r.platform(new(partnerv1.Partner), "billing", "partner", "--id", r.account, "--program", "VAR")
	r.self(r.owner, answer{})
}

// self logs somebody in to the portal.
func (r *reseller) self(who signedIn, want answer) {
	r.t.Helper()
	resp := new(partnerv1.GetSelfResponse)
	r.want(want, who.token, partnersOf+"GetSelf", new(partnerv1.GetSelfRequest), resp)
	if want == (answer{}) && (len(resp.GetPartners()) != 1 || resp.GetPartners()[0].GetBillingAccountId() != r.account) {
		r.t.Errorf("the portal shows %v, want %s", resp, r.account)
	}
}

// day is the first way: a colleague is added by e-mail on the dashboard, chooses nothing
// and gets in; then customers come, use, are stopped and go on.
func (r *reseller) day() {
	r.t.Helper()
	r.open()
	colleague := r.person("colleague")
	r.self(colleague, notAPartner)
	r.want(denied, colleague.token, partnersOf+"GetSelf", &partnerv1.GetSelfRequest{BillingAccountId: r.account}, new(partnerv1.GetSelfResponse))
	r.want(denied, colleague.token, subaccountsOf+"CreateSubaccount", r.customer("ACME", ""), new(emptypb.Empty))

	r.addUser(colleague.email, false)
	r.self(colleague, answer{})
	late := "late-" + r.suffix + "@example.com"
	r.addUser(late, true) // nobody has the address yet: it waits for the first sign-in
	lateComer := r.person("late")
	if lateComer.email != late {
		r.t.Fatalf("%s is %s", late, lateComer.email)
	}
	r.self(lateComer, answer{})
	users := new(partnerv1.ListUsersResponse)
	r.want(answer{}, r.owner.token, partnersOf+"ListUsers", &partnerv1.ListUsersRequest{BillingAccountId: r.account}, users)
	for _, who := range []signedIn{r.owner, colleague, lateComer} {
		if !slices.ContainsFunc(users.GetUsers(), func(u *partnerv1.PartnerUser) bool { return u.GetSubjectId() == who.id && u.GetEmail() == who.email }) {
			r.t.Errorf("%s is not among the users %v", who.email, users)
		}
	}
	r.customers(colleague, lateComer)
	r.presents(r.person("anybody"))
}

// presents has the reseller publish its card, which everybody finds in the catalogue of
// partners (PT-26).
func (r *reseller) presents(anybody signedIn) {
	r.t.Helper()
	card, catalog := new(partnerv1.PartnerCard), new(partnerv1.ListPartnerCardsResponse)
	r.done(r.owner.token, cardsOf+"UpdatePartnerCard", &partnerv1.UpdatePartnerCardRequest{
		BillingAccountId: r.account, Description: "We sell clouds", SiteUrl: "https://reseller.example", Published: true,
	}, card)
	r.want(answer{}, anybody.token, cardsOf+"ListPartnerCards", new(partnerv1.ListPartnerCardsRequest), catalog)
	if !slices.ContainsFunc(catalog.GetCards(), func(c *partnerv1.CatalogCard) bool {
		return c.GetCard().GetBillingAccountId() == r.account && c.GetCard().GetName() == "Reseller" && c.GetCard().GetSiteUrl() == card.GetSiteUrl()
	}) {
		r.t.Errorf("the catalogue shows %v, want %v", catalog, card)
	}
}

// addUser adds a user by e-mail, with the role that works with customers.
func (r *reseller) addUser(email string, invited bool) {
	r.t.Helper()
	user := new(partnerv1.PartnerUser)
	r.done(r.owner.token, partnersOf+"AddUser", &partnerv1.AddUserRequest{
		BillingAccountId: r.account, Email: email, RoleIds: []string{"billing.accounts.editor"},
	}, user)
	if user.GetEmail() != email || user.GetInvited() != invited {
		r.t.Errorf("added %v, want %s invited %t", user, email, invited)
	}
}

// customer is the request for a customer; without an address the partner serves it.
func (r *reseller) customer(name, email string) *partnerv1.CreateSubaccountRequest {
	return &partnerv1.CreateSubaccountRequest{
		ResellerId: r.account, Name: name, InvitationEmail: email, Person: &billingv1.CustomerPerson{Name: name, Tin: "7700000000"},
	}
}

// customers is what a colleague does in the portal: one customer says yes, another no, a
// third is served by the reseller.
func (r *reseller) customers(colleague, second signedIn) {
	r.t.Helper()
	boss, other := r.person("boss"), r.person("other")
	yes, no, served := new(partnerv1.Subaccount), new(partnerv1.Subaccount), new(billingv1.Customer)
	r.done(colleague.token, subaccountsOf+"CreateSubaccount", r.customer("ACME", boss.email), yes)
	r.done(second.token, subaccountsOf+"CreateSubaccount", r.customer("Other", other.email), no)
	r.done(colleague.token, customersOf+"CreateResellerServed", &billingv1.CreateResellerServedCustomerRequest{
		ResellerId: r.account, Name: "Served", Person: &billingv1.CustomerPerson{Name: "Served"},
	}, served)
	r.done(colleague.token, customersOf+"Activate", &billingv1.ActivateCustomerRequest{CustomerId: served.GetId()}, served)

	incoming := new(partnerv1.ListIncomingInvitationsResponse)
	r.want(answer{}, boss.token, subaccountsOf+"ListIncomingInvitations", new(partnerv1.ListIncomingInvitationsRequest), incoming)
	if all := incoming.GetInvitations(); len(all) != 1 || all[0].GetSubaccountId() != yes.GetId() || all[0].GetResellerName() != "Reseller" {
		r.t.Fatalf("invitations %v", all)
	}
	// Somebody else answers for nobody (PT-16).
	r.want(denied, other.token, subaccountsOf+"AcceptInvitation", &partnerv1.AcceptInvitationRequest{SubaccountId: yes.GetId()}, new(emptypb.Empty))
	r.want(denied, colleague.token, subaccountsOf+"AcceptInvitation", &partnerv1.AcceptInvitationRequest{SubaccountId: yes.GetId()}, new(emptypb.Empty))
	accepted, declined := new(partnerv1.InvitationToSubaccount), new(partnerv1.InvitationToSubaccount)
	r.done(boss.token, subaccountsOf+"AcceptInvitation", &partnerv1.AcceptInvitationRequest{SubaccountId: yes.GetId()}, accepted)
	r.done(other.token, subaccountsOf+"DeclineInvitation", &partnerv1.DeclineInvitationRequest{SubaccountId: no.GetId()}, declined)
	if accepted.GetOrganizationId() == "" || declined.GetState() != partnerv1.BillingAccount_INACTIVE {
		r.t.Errorf("accepted %v, declined %v", accepted, declined)
	}
	listed := new(billingv1.ListCustomersResponse)
	r.want(answer{}, colleague.token, customersOf+"List", &billingv1.ListCustomersRequest{ResellerId: r.account}, listed)
	if len(listed.GetCustomers()) != 3 {
		r.t.Errorf("customers %v", listed)
	}
	r.stopAndGoOn(colleague, boss, yes.GetId(), accepted.GetOrganizationId())
}

// use is a permission of the data plane.
const use = "kms.keys.encrypt"

// stopAndGoOn links a cloud of a customer, suspends the customer and lets it go on.
func (r *reseller) stopAndGoOn(colleague, boss signedIn, subaccount, org string) {
	r.t.Helper()
	cloud, folder := new(rmv1.Cloud), new(rmv1.Folder)
	r.done(boss.token, cloudsOf+"Create", &rmv1.CreateCloudRequest{Name: "prod", OrganizationId: org}, cloud)
	r.done(boss.token, foldersOf+"Create", &rmv1.CreateFolderRequest{Name: "main", CloudId: cloud.GetId()}, folder)
	link := &billingv1.BindBillableObjectRequest{
		BillingAccountId: subaccount, BillableObject: &billingv1.BillableObject{Id: cloud.GetId(), Type: "cloud"},
	}
	// Both sides' rights are needed (BI-3): the colleague has none on the cloud yet.
	r.want(denied, colleague.token, publicAccounts+"BindBillableObject", link, new(emptypb.Empty))
	r.give(boss.token, "resource-manager.cloud", cloud.GetId(), "resource-manager.clouds.owner", "userAccount", colleague.id)
	linked := new(billingv1.BillableObjectBinding)
	r.done(colleague.token, publicAccounts+"BindBillableObject", link, linked)
	if linked.GetBillableObject().GetId() != cloud.GetId() || linked.GetEffectiveTime() == nil {
		r.t.Errorf("linked %v", linked)
	}
	before := r.bindings(boss, "resource-manager.cloud", cloud.GetId())
	r.uses(boss, folder.GetId(), answer{})
	r.sees(colleague, subaccount, cloud.GetId(), folder.GetId())
	state := new(partnerv1.Subaccount)
	r.done(colleague.token, subaccountsOf+"SuspendSubaccount", &partnerv1.SuspendSubaccountRequest{SubaccountId: subaccount, Reason: "unpaid"}, state)
	if state.GetState() != partnerv1.BillingAccount_SUSPENDED || state.GetSuspensionReason() != "unpaid" {
		r.t.Errorf("suspended: %v", state)
	}
	r.uses(boss, folder.GetId(), answer{codes.PermissionDenied, "PAYER_STOPPED"})
	if got := r.bindings(boss, "resource-manager.cloud", cloud.GetId()); !slices.Equal(got, before) { // PT-31
		r.t.Errorf("the suspension changed bindings from %v to %v", before, got)
	}
	r.done(colleague.token, subaccountsOf+"ResumeSubaccount", &partnerv1.ResumeSubaccountRequest{SubaccountId: subaccount}, state)
	r.uses(boss, folder.GetId(), answer{})
	// The same by the public API.
	r.done(colleague.token, customersOf+"Suspend", &billingv1.SuspendCustomerRequest{CustomerId: subaccount}, new(billingv1.Customer))
	r.uses(boss, folder.GetId(), answer{codes.PermissionDenied, "PAYER_STOPPED"})
	r.done(colleague.token, customersOf+"Activate", &billingv1.ActivateCustomerRequest{CustomerId: subaccount}, new(billingv1.Customer))
	r.uses(boss, folder.GetId(), answer{})
}

// sees has the platform take records of what a customer uses, and reads what it costs.
func (r *reseller) sees(who signedIn, subaccount, cloud, folder string) {
	r.t.Helper()
	var lines []byte
	for i, cost := range []string{"1.5", "0.000000001"} {
		line, err := protojson.Marshal(&partnerv1.UsageRecord{
			Id: fmt.Sprintf("%s-%d", subaccount, i), UsedAt: timestamppb.Now(), CloudId: cloud, FolderId: folder, ServiceId: "kms", SkuId: "key", Cost: cost,
		})
		if err != nil {
			r.t.Fatal(err)
		}
		lines = append(append(lines, line...), '\n')
	}
	file := filepath.Join(r.t.TempDir(), "usage.jsonl")
	if err := os.WriteFile(file, lines, 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.platform(new(partnerv1.IngestUsageResponse), "billing", "ingest", "--in", file)
	report := new(partnerv1.GetUsageReportResponse)
	r.want(answer{}, who.token, usageOf+"GetUsageReport", &partnerv1.GetUsageReportRequest{
		BillingAccountId: r.account, Filter: &partnerv1.UsageFilter{Axis: partnerv1.UsageReport_SUBACCOUNT},
	}, report)
	if rows := report.GetRows(); len(rows) != 1 || rows[0].GetId() != subaccount || rows[0].GetAmounts().GetCost() != "1.500000001" {
		r.t.Errorf("the customers used %v", report)
	}
}

// uses asks for the data plane of a folder: as the services there ask, by gRPC, and as
// people do, through the door.
func (r *reseller) uses(who signedIn, folder string, want answer) {
	r.t.Helper()
	asked := &accessservicev2.AuthorizeRequest{
		Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: who.token}, Permission: use,
		ResourcePath: []*accessservicev2.Resource{{Type: "resource-manager.folder", Id: folder}},
	}
	if got := r.byGRPC(who.token, "yandex.cloud.priv.accessservice.v2.AccessService/Authorize", asked, new(accessservicev2.AuthorizeResponse)); got != want {
		r.t.Errorf("%s: %v, want %v", use, got, want)
	}
	held := new(accessv1.TestPermissionsResponse)
	r.want(answer{}, who.token, permissionsOf+"TestPermissions", &accessv1.TestPermissionsRequest{
		Resource: &accessv1.Resource{Type: "resource-manager.folder", Id: folder}, Permissions: []string{use, "kms.keys.get"},
	}, held)
	holds := []string{use, "kms.keys.get"}
	if want != (answer{}) {
		holds = holds[1:] // looking goes on
	}
	if !slices.Equal(held.GetPermissions(), holds) {
		r.t.Errorf("holds %v, want %v", held.GetPermissions(), holds)
	}
}

// give gives a role on a resource.
func (r *reseller) give(token, typ, id, role, subjectType, subject string) {
	r.t.Helper()
	r.change(token, accesspb.AccessBindingAction_ADD, typ, id, role, subjectType, subject)
}

// change gives or takes a role on a resource.
func (r *reseller) change(token string, action accesspb.AccessBindingAction, typ, id, role, subjectType, subject string) {
	r.t.Helper()
	result := proto.Message(new(accesspb.AccessBindingsOperationResult))
	if typ == "organization-manager.organization" { // AB-4
		result = new(emptypb.Empty)
	}
	r.done(token, accessOf+"UpdateAccessBindings", &accessv1.UpdateAccessBindingsRequest{
		Resource: &accessv1.Resource{Type: typ, Id: id}, AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
			Action:        action,
			AccessBinding: &accessv1.AccessBinding{RoleId: role, Subject: &accessv1.Subject{Type: subjectType, Id: subject}},
		}},
	}, result)
}

// bindings are those of a resource, as "role subject", with " by a policy" where one is
// a source.
func (r *reseller) bindings(who signedIn, typ, id string) []string {
	r.t.Helper()
	resp := new(accessv1.ListAccessBindingsResponse)
	r.want(answer{}, who.token, accessOf+"ListAccessBindings", &accessv1.ListAccessBindingsRequest{Resource: &accessv1.Resource{Type: typ, Id: id}}, resp)
	var all []string
	for _, b := range resp.GetAccessBindings() {
		text := b.GetRoleId() + " " + b.GetSubject().GetId()
		if slices.ContainsFunc(b.GetSources(), func(s *accessv1.Source) bool { return s.GetKind() == accessv1.Source_POLICY }) {
			text += " by a policy"
		}
		all = append(all, text)
	}
	return all
}

// policyDay is the second way: policies, create with name, description and tags, principal
// group, scope organization features, the reseller's set; then users, invited where they
// are no members, added to the group.
func (r *reseller) policyDay() {
	r.t.Helper()
	cloud := new(rmv1.Cloud)
	r.done(r.owner.token, cloudsOf+"Create", &rmv1.CreateCloudRequest{Name: "home"}, cloud)
	r.org = cloud.GetOrganizationId()
	r.open()
	// By gRPC a rule cannot be written with both scopes.
	both := `{"organizationId":"` + r.org + `","name":"both","noPrincipal":true,
		"rules":[{"permissionSets":["ResellerFullAccess"],"organization":true,"places":{"cloudIds":["` + cloud.GetId() + `"]}}]}`
	if got := r.send(r.owner.token, http.MethodPost, "/access/v1/grantPolicies", []byte(both), new(emptypb.Empty)); got.code != codes.InvalidArgument {
		r.t.Errorf("a rule with both scopes: %v", got)
	}
	for i, name := range []string{"Administrators", "Billing Administrators"} {
		r.policyFor(name, "policy-user-"+string(rune('a'+i)))
	}
}

// policyFor walks it for one of the two groups that an organization begins with.
func (r *reseller) policyFor(group, login string) {
	r.t.Helper()
	groups := new(orgv1.ListGroupsResponse)
	r.want(answer{}, r.owner.token, groupsOf+"List", &orgv1.ListGroupsRequest{OrganizationId: r.org, Filter: `name = "` + group + `"`}, groups)
	if len(groups.GetGroups()) != 1 {
		r.t.Fatalf("groups %v", groups)
	}
	id, policy := groups.GetGroups()[0].GetId(), new(accessv1.GrantPolicy)
	r.done(r.owner.token, grantPolicies+"CreateGrantPolicy", &accessv1.CreateGrantPolicyRequest{
		OrganizationId: r.org, Name: "partner space of " + group, Description: "Opens the partner space", Tags: []string{"reseller"},
		Principal: &accessv1.CreateGrantPolicyRequest_Subject{Subject: &accessv1.Subject{Type: "group", Id: id}},
		Rules:     []*accessv1.GrantRule{{PermissionSets: []string{"ResellerFullAccess"}, Scope: &accessv1.GrantRule_Organization{Organization: true}}},
	}, policy)
	opens := "billing.accounts.partnerAdmin " + id + " by a policy"
	if got := r.bindings(r.owner, "organization-manager.organization", r.org); !slices.Contains(got, opens) {
		r.t.Errorf("the policy gives %v, want %s", got, opens)
	}
	user := r.person(login)
	r.self(user, notAPartner)
	r.invite(user)
	r.self(user, notAPartner) // a member has no rights yet
	member := &orgv1.UpdateGroupMembersRequest{GroupId: id, MemberDeltas: []*orgv1.MemberDelta{{Action: orgv1.MemberDelta_ADD, SubjectId: user.id}}}
	r.done(r.owner.token, groupsOf+"UpdateMembers", member, new(emptypb.Empty))
	r.self(user, answer{})
	r.done(user.token, subaccountsOf+"CreateSubaccount", r.customer("Customer of "+group, ""), new(partnerv1.Subaccount))

	// It is the policy that opens it: without the group's own role it still does, and
	// with the policy deleted nothing does.
	role := map[string]string{"Administrators": "admin", "Billing Administrators": "billing.accounts.admin"}[group]
	r.change(r.owner.token, accesspb.AccessBindingAction_REMOVE, "organization-manager.organization", r.org, role, "group", id)
	r.self(user, answer{})
	r.done(r.owner.token, grantPolicies+"DeleteGrantPolicy", &accessv1.DeleteGrantPolicyRequest{PolicyId: policy.GetId()}, new(emptypb.Empty))
	r.self(user, notAPartner)
}

// invite makes somebody a member of the organization, who accepts.
func (r *reseller) invite(who signedIn) {
	r.t.Helper()
	sent, joined := new(identityv1.CreateInvitationsResponse), new(identityv1.Invitation)
	r.done(r.owner.token, invitationsOf+"CreateInvitations", &identityv1.CreateInvitationsRequest{OrganizationId: r.org, Emails: []string{who.email}}, sent)
	r.done(who.token, invitationsOf+"AcceptInvitation", &identityv1.AcceptInvitationRequest{InvitationId: sent.GetInvitations()[0].GetId()}, joined)
	if joined.GetState() != identityv1.Invitation_ACCEPTED {
		r.t.Errorf("invitation %v", joined)
	}
}
