package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	iampb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// part is one kind of subject in the list of an organization. read returns at most n
// that follow a token, and the token of what follows them, "" at the end.
type part struct {
	name string
	kind iampb.SubjectType
	read func(v *viewer, ctx context.Context, token string, n int) ([]entity, string, error)
}

// parts make the list, in this order.
var parts = []part{
	{"users", iampb.SubjectType_USER_ACCOUNT, (*viewer).readUsers},
	{"accounts", iampb.SubjectType_SERVICE_ACCOUNT, (*viewer).readAccounts},
	{"groups", iampb.SubjectType_GROUP, (*viewer).readGroups},
	{"system", iampb.SubjectType_GROUP, (*viewer).readSystemGroups},
	{"invitees", iampb.SubjectType_INVITEE, (*viewer).readInvitees},
}

// batch is how many subjects are read at once.
const batch = 100

// List reads one page of the subjects of an organization. A service account or
// group is shown to who may read it, an invitee to who may list invitations.
func (s *details) List(ctx context.Context, req *iamv1.ListSubjectsRequest) (*iamv1.ListSubjectsResponse, error) {
	v, err := s.viewerOf(ctx, req.GetResourceContext(), req.GetFieldMask(), req.GetFilter())
	if err != nil {
		return nil, err
	}
	at, err := placeOf(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp, bytes := new(iamv1.ListSubjectsResponse), 0
	for want := page.Size(req.GetPageSize()); at.part < len(parts) && len(resp.GetSubjects()) < want && bytes < page.MaxBytes/2; {
		found, err := v.read(ctx, &at, min(want-len(resp.GetSubjects()), batch))
		if err != nil {
			return nil, err
		}
		for _, msg := range found {
			resp.Subjects = append(resp.Subjects, msg)
			bytes += proto.Size(msg)
		}
	}
	following := at // a page with a next one promises that there is something on it
	for at.part < len(parts) {
		found, err := v.read(ctx, &at, batch)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 {
			resp.NextPageToken = following.String()
			break
		}
	}
	return resp, nil
}

// place is where a list stands: in which part, and its token there.
type place struct {
	part  int
	token string
}

// String is the place as a page token. The token of the part is sealed by who reads
// it.
func (p place) String() string { return parts[p.part].name + "." + p.token }

// placeOf reads a page token; "" is the beginning.
func placeOf(text string) (place, error) {
	if text == "" {
		return place{}, nil
	}
	name, token, found := strings.Cut(text, ".")
	i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
	if !found || i < 0 {
		return place{}, apierr.InvalidField("page_token", "is not the token of a page of this list")
	}
	return place{i, token}, nil
}

// read reads at most n subjects of one part, leaves out what is not to be shown, and
// moves on. It may return nothing before the end.
func (v *viewer) read(ctx context.Context, at *place, n int) ([]*iampb.Subject, error) {
	p := parts[at.part]
	if v.match.Field == "type" && v.match.Value != p.kind.String() {
		*at = place{part: at.part + 1}
		return nil, nil
	}
	found, next, err := p.read(v, ctx, at.token, n)
	if err != nil {
		return nil, err
	}
	if at.token = next; next == "" {
		*at = place{part: at.part + 1}
	}
	seen, in := *v.seen[v.organization], []string(nil)
	if seen.groups {
		in = []string{v.organization}
	}
	var all []*iampb.Subject
	for _, e := range found {
		msg, err := v.complete(ctx, e, seen, in)
		if err != nil {
			return nil, err
		}
		if msg != nil {
			all = append(all, msg)
		}
	}
	return all, nil
}

func (v *viewer) readUsers(ctx context.Context, token string, n int) ([]entity, string, error) {
	resp, err := v.subjects.ListMembers(server.AsUnit(ctx), &accessv1.ListMembersRequest{
		Container: &accessv1.Resource{Type: typeOrganization, Id: v.organization}, PageSize: int64(n), PageToken: token,
	})
	if err != nil {
		return nil, "", fmt.Errorf("list members: %w", apierr.FromRPC(err))
	}
	found, err := v.describe(ctx, slices.DeleteFunc(resp.GetMembers(), func(m *accessv1.Subject) bool {
		return m.GetType() != authn.UserAccount && m.GetType() != authn.FederatedUser
	}))
	if err != nil {
		return nil, "", err
	}
	all := make([]entity, len(found))
	for i, k := range found {
		all[i] = entity{user: k.user}
	}
	return all, resp.GetNextPageToken(), nil
}

// readAccounts reads the service accounts of the clouds that the caller sees, as far
// as it may read them.
func (v *viewer) readAccounts(ctx context.Context, token string, n int) ([]entity, string, error) {
	scope := []string{"subjects", "accounts", v.organization}
	after, err := v.pages.Open(token, scope...)
	if err != nil {
		return nil, "", err
	}
	clouds, err := v.cloudsOf(ctx)
	if err != nil || len(clouds) == 0 {
		return nil, "", err
	}
	found, err := v.store.AccountsOfClouds(ctx, clouds, after.ID, n)
	if err != nil {
		return nil, "", err
	}
	refs := make([]authz.Resource, len(found))
	for i, a := range found {
		refs[i] = authz.Resource{Type: typeAccount, ID: a.ID}
	}
	may, err := v.decider.AuthorizeEach(ctx, v.caller, permissionGetAccount, refs)
	if err != nil {
		return nil, "", err
	}
	var all []entity
	for i := range found {
		if may[i] {
			all = append(all, entity{account: &found[i]})
		}
	}
	if len(found) < n {
		return all, "", nil
	}
	next, err := v.pages.Seal(page.Position{ID: found[n-1].ID}, scope...)
	return all, next, err
}

// cloudsOf are the clouds of the organization that the caller sees, read once.
func (v *viewer) cloudsOf(ctx context.Context) ([]string, error) {
	if v.clouded {
		return v.cloudIDs, nil
	}
	req := &rmv1.ListCloudsRequest{OrganizationId: v.organization, PageSize: page.MaxSize}
	for {
		resp, err := v.clouds.List(ctx, req)
		if apierr.CodeOf(err) == codes.PermissionDenied { // sees none of them
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list clouds: %w", apierr.FromRPC(err))
		}
		for _, c := range resp.GetClouds() {
			v.cloudIDs = append(v.cloudIDs, c.GetId())
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	v.clouded = true
	return v.cloudIDs, nil
}

// readGroups reads the groups that the caller sees.
func (v *viewer) readGroups(ctx context.Context, token string, n int) ([]entity, string, error) {
	resp, err := v.groupList.List(ctx, &orgv1.ListGroupsRequest{OrganizationId: v.organization, PageSize: int64(n), PageToken: token})
	if apierr.CodeOf(err) == codes.PermissionDenied { // sees none of them
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("list groups: %w", apierr.FromRPC(err))
	}
	all := make([]entity, len(resp.GetGroups()))
	for i, g := range resp.GetGroups() {
		all[i] = entity{group: &accessv1.BatchGetGroupsResponse_Group{Id: g.GetId(), OrganizationId: g.GetOrganizationId(), Name: g.GetName()}}
	}
	return all, resp.GetNextPageToken(), nil
}

func (v *viewer) readSystemGroups(_ context.Context, token string, n int) ([]entity, string, error) {
	scope := []string{"subjects", "system", v.organization}
	after, err := v.pages.Open(token, scope...)
	if err != nil {
		return nil, "", err
	}
	groups := systemGroups(v.organization)
	var all []entity
	for i := int(after.Time); i < len(groups) && len(all) < n; i++ {
		all = append(all, entity{system: &groups[i]})
	}
	read := after.Time + int64(len(all))
	if read >= int64(len(groups)) {
		return all, "", nil
	}
	next, err := v.pages.Seal(page.Position{Time: read}, scope...)
	return all, next, err
}

func (v *viewer) readInvitees(ctx context.Context, token string, n int) ([]entity, string, error) {
	scope := []string{"subjects", "invitees", v.organization}
	after, err := v.pages.Open(token, scope...)
	if err != nil || !v.seen[v.organization].invitations {
		return nil, "", err
	}
	query := InvitationQuery{OrganizationID: v.organization, State: Pending, Now: v.now()}
	found, err := v.store.ListInvitations(ctx, v.store.db, query, after, n)
	if err != nil {
		return nil, "", err
	}
	all := make([]entity, len(found))
	for i := range found {
		all[i] = entity{invitee: &found[i]}
	}
	if len(found) < n {
		return all, "", nil
	}
	next, err := v.pages.Seal(found[n-1].position(), scope...)
	return all, next, err
}
