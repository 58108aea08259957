package accessbindings

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

const permitGetGroup = "organization-manager.groups.get"

// List lists the groups of an organization that the caller may see, oldest first
// (NM-7). Whoever lacks the list permission and sees none of them is refused.
func (s *Groups) List(ctx context.Context, req *orgv1.ListGroupsRequest) (*orgv1.ListGroupsResponse, error) {
	only, err := filter.Parse(req.GetFilter(), "name")
	if err != nil {
		return nil, err
	}
	everything := groupQuery{organization: req.GetOrganizationId()}
	query := everything
	query.name = only.Value
	list := groupList{query: query, empty: only.Field != "" && only.Value == "", permission: permitGetGroup}
	scope := []string{"ListGroups", query.organization, only.Field, only.Value}
	groups, token, err := s.page(ctx, list, page.Size(req.GetPageSize()), req.GetPageToken(), scope)
	if err != nil {
		return nil, err
	}
	if denied := authz.Withheld(ctx); denied != nil && len(groups) == 0 {
		anything, err := s.visible(ctx, groupList{query: everything, permission: permitGetGroup}, page.Position{}, 1)
		if err == nil && len(anything) == 0 {
			err = denied
		}
		return new(orgv1.ListGroupsResponse), err
	}
	return &orgv1.ListGroupsResponse{Groups: groupProtos(groups), NextPageToken: token}, nil
}

// ListExternal lists the external groups of a federation or user pool, oldest
// first (GR-4).
func (s *Groups) ListExternal(ctx context.Context, req *orgv1.ListExternalGroupsRequest) (*orgv1.ListExternalGroupsResponse, error) {
	only, err := filter.Parse(req.GetFilter(), "name", "external_id")
	if err != nil {
		return nil, err
	}
	list := groupList{query: groupQuery{container: req.GetSubjectContainerId()}, empty: only.Field != "" && only.Value == ""}
	if only.Field == "name" {
		list.query.name = only.Value
	} else {
		list.query.external = only.Value
	}
	scope := []string{"ListExternalGroups", list.query.container, only.Field, only.Value}
	groups, token, err := s.page(ctx, list, page.Size(req.GetPageSize()), req.GetPageToken(), scope)
	if err != nil {
		return nil, err
	}
	return &orgv1.ListExternalGroupsResponse{Groups: groupProtos(groups), NextPageToken: token}, nil
}

// groupList is what a list shows: what a query finds and the caller holds a
// permission on; "" is none.
type groupList struct {
	query      groupQuery
	empty      bool // nothing can be found
	permission string
}

// page reads one page of a list. It is full, by items or by bytes, unless it is the
// last one, and only a full page has a next one.
func (s *Groups) page(ctx context.Context, list groupList, size int, token string, scope []string) ([]Group, string, error) {
	after, err := s.pages.Open(token, scope...)
	if err != nil || list.empty {
		return nil, "", err
	}
	seen, err := s.visible(ctx, list, after, size+1)
	if err != nil {
		return nil, "", err
	}
	fit := page.Fit(min(len(seen), size), func(i int) int { return proto.Size(groupProto(seen[i])) })
	if fit == len(seen) {
		return seen, "", nil
	}
	token, err = s.pages.Seal(seen[fit-1].position(), scope...)
	return seen[:fit], token, err
}

// visible reads the first want groups of a list after a position, fewer when there
// are no more. What it tells is in force.
func (s *Groups) visible(ctx context.Context, list groupList, after page.Position, want int) ([]Group, error) {
	var seen []Group
	for batch := min(want, authz.MaxEach); ; batch = authz.MaxEach {
		var rows []Group
		err := s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) (err error) {
			rows, err = st.groupsAfter(ctx, q, list.query, after, batch)
			return err
		})
		if err != nil || len(rows) == 0 {
			return seen, err
		}
		may, err := s.may(ctx, list.permission, rows, Group.ref)
		if err != nil {
			return nil, err
		}
		for i, g := range rows {
			if may[i] {
				if seen = append(seen, g); len(seen) == want {
					return seen, nil
				}
			}
		}
		if len(rows) < batch {
			return seen, nil
		}
		after = rows[len(rows)-1].position()
	}
}

// may says for each group whether the caller holds a permission on what of leads
// to; "" is held by everybody.
func (s *Groups) may(ctx context.Context, permission string, groups []Group, of func(Group) Ref) ([]bool, error) {
	may := make([]bool, 0, len(groups))
	if permission == "" {
		for range groups {
			may = append(may, true)
		}
		return may, nil
	}
	for some := range slices.Chunk(groups, authz.MaxEach) {
		refs := make([]authz.Resource, len(some))
		for i, g := range some {
			refs[i] = authz.Resource(of(g))
		}
		each, err := s.decider.AuthorizeEach(ctx, authn.FromContext(ctx), permission, refs)
		if err != nil {
			return nil, err
		}
		may = append(may, each...)
	}
	return may, nil
}

func groupProtos(groups []Group) []*orgv1.Group {
	all := make([]*orgv1.Group, len(groups))
	for i, g := range groups {
		all[i] = groupProto(g)
	}
	return all
}

// ListMembers lists the direct members of a group in the order in which they
// joined. What it tells is in force.
func (s *Groups) ListMembers(ctx context.Context, req *orgv1.ListGroupMembersRequest) (*orgv1.ListGroupMembersResponse, error) {
	members, token, err := listMembers(ctx, s.committer, s.pages, Ref{typeGroup, req.GetGroupId()}, page.Size(req.GetPageSize()), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &orgv1.ListGroupMembersResponse{NextPageToken: token}
	for _, m := range members {
		resp.Members = append(resp.Members, &orgv1.GroupMember{SubjectId: m.ID, SubjectType: m.Type})
	}
	return resp, nil
}

// ListEffective lists the groups in which a subject is, directly or by groups in
// groups, ordered by id: of one organization, or of all in which the caller may ask
// this. Fails: SUBJECT_NOT_FOUND.
func (s *Groups) ListEffective(ctx context.Context, req *orgv1.ListEffectiveRequest) (*orgv1.ListEffectiveResponse, error) {
	only, err := filter.Parse(req.GetFilter(), "name")
	if err != nil {
		return nil, err
	}
	scope := []string{"ListEffective", req.GetSubjectId(), req.GetOrganizationId(), only.Field, only.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	var groups []Group
	err = s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) (err error) {
		groups, err = st.groupsAround(ctx, q, req.GetSubjectId())
		return err
	})
	if err != nil {
		return nil, err
	}
	permission := ""
	if req.GetOrganizationId() == "" { // else the door asked for it
		permission = "organization-manager.users.listGroups"
	}
	may, err := s.may(ctx, permission, groups, func(g Group) Ref { return Ref{typeOrganization, g.OrganizationID} })
	if err != nil {
		return nil, err
	}
	resp, size := new(orgv1.ListEffectiveResponse), page.Size(req.GetPageSize())
	for i, g := range groups {
		if !may[i] || g.ID <= after.ID || only.Field != "" && g.Name != only.Value ||
			req.GetOrganizationId() != "" && g.OrganizationID != req.GetOrganizationId() {
			continue
		}
		if n := len(resp.GetGroupMembershipInfo()); n == size {
			last := resp.GetGroupMembershipInfo()[n-1].GetGroupId()
			resp.NextPageToken, err = s.pages.Seal(page.Position{ID: last}, scope...)
			return resp, err
		}
		resp.GroupMembershipInfo = append(resp.GroupMembershipInfo, &orgv1.GroupMembershipInfo{GroupId: g.ID, GroupName: g.Name})
	}
	return resp, nil
}

// groupsAround reads the groups in which the subject of an id is, directly or by
// groups in groups, ordered by id. Fails: SUBJECT_NOT_FOUND.
func (s *store) groupsAround(ctx context.Context, q sqldb.Querier, subjectID string) ([]Group, error) {
	named, err := s.subjectsNamed(ctx, q, []string{subjectID})
	if err != nil {
		return nil, err
	}
	if len(named[subjectID]) == 0 {
		return nil, apierr.NotFound(ReasonSubjectNotFound, "subject %q not found", subjectID)
	}
	var ids []string
	seen := make(map[Subject]bool)
	for next := named[subjectID]; len(next) > 0; next = next[1:] {
		containers, err := s.containersOf(ctx, q, next[0], typeGroup)
		if err != nil {
			return nil, err
		}
		for _, c := range containers {
			if g := (Subject{rules.Group, c.ID}); !seen[g] {
				seen[g] = true
				ids, next = append(ids, c.ID), append(next, g)
			}
		}
	}
	groups, err := s.groups(ctx, q, ids)
	slices.SortFunc(groups, func(a, b Group) int { return strings.Compare(a.ID, b.ID) })
	return groups, err
}
