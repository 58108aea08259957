package accessbindings

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// RemoveMembership takes a subject out of an organization with all that it holds
// and is a member of there (GR-6). A subject that is no member is left as it is.
// Fails: SUBJECT_INVALID, RESOURCE_NOT_FOUND, LAST_OWNER (OW-3, OW-4).
func (s *Subjects) RemoveMembership(ctx context.Context, req *accessv1.RemoveMembershipRequest) (*accessv1.RemoveMembershipResponse, error) {
	in := &removeMembership{
		organization: Ref{typeOrganization, req.GetOrganizationId()}, subject: subjectOf(req.GetSubject()),
		catalog: s.catalog, record: recordOf(ctx, eventSource, "RemoveMembership"),
	}
	if err := checkText("organization_id", in.organization.ID); err != nil {
		return nil, err
	}
	if err := checkSubject("subject", in.subject); err != nil {
		return nil, err
	}
	if in.subject.Type == rules.System {
		return nil, apierr.InvalidField("subject.type", "system groups are no members of an organization")
	}
	r, err := s.committer.submit(ctx, in)
	if err != nil {
		return nil, err
	}
	return &accessv1.RemoveMembershipResponse{Revision: r.revision, Removed: r.changed}, nil
}

// ListMembers lists the direct members of a container in the order in which they
// joined. What it tells is in force. Fails: RESOURCE_NOT_FOUND.
func (s *Subjects) ListMembers(ctx context.Context, req *accessv1.ListMembersRequest) (*accessv1.ListMembersResponse, error) {
	container, size := refOf(req.GetContainer()), page.Size(req.GetPageSize())
	if err := checkText("container", container.Type, container.ID); err != nil {
		return nil, err
	}
	members, token, err := listMembers(ctx, s.committer, s.pages, container, size, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &accessv1.ListMembersResponse{NextPageToken: token}
	for _, m := range members {
		resp.Members = append(resp.Members, m.proto())
	}
	return resp, nil
}

// listMembers reads one page of the members of a container.
func listMembers(ctx context.Context, c *committer, pages *page.Sealer, container Ref, size int, token string) ([]member, string, error) {
	scope := []string{"ListMembers", container.Type, container.ID}
	after, err := pages.Open(token, scope...)
	if err != nil {
		return nil, "", err
	}
	var found []member
	err = c.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) error {
		n, known, err := st.node(ctx, q, container)
		if err == nil && (!known || n.Removed) {
			err = notFound(container)
		}
		if err == nil {
			found, err = st.membersAfter(ctx, q, container, after.Time, size+1)
		}
		return err
	})
	if err != nil || len(found) <= size {
		return found, "", err
	}
	found = found[:size]
	token, err = pages.Seal(page.Position{Time: found[size-1].Number}, scope...)
	return found, token, err
}

// BatchGetGroups reads what groups are called; those that are not there are left
// out. What it tells is in force.
func (s *Subjects) BatchGetGroups(ctx context.Context, req *accessv1.BatchGetGroupsRequest) (*accessv1.BatchGetGroupsResponse, error) {
	if err := checkText("ids", req.GetIds()...); err != nil {
		return nil, err
	}
	resp := new(accessv1.BatchGetGroupsResponse)
	err := s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) error {
		groups, err := st.groups(ctx, q, req.GetIds())
		for _, g := range groups {
			resp.Groups = append(resp.Groups, &accessv1.BatchGetGroupsResponse_Group{
				Id: g.ID, OrganizationId: g.OrganizationID, Name: g.Name, External: g.ExternalID != "",
			})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
