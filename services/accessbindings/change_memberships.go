package accessbindings

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// updateMemberships is the intent of UpdateMemberships.
type updateMemberships struct {
	subject      Subject
	organization Ref
	add, remove  []string // ids of groups
	limits       limits
	record       *audit.Record

	leftOut []string // groups that it does not come into, once the write is done
}

func (in *updateMemberships) plan(ctx context.Context, on *state) (plan, error) {
	in.leftOut = nil
	path, err := on.path(ctx, on.tx, in.organization)
	if err != nil {
		return plan{}, err
	}
	if len(path) == 0 {
		return plan{}, notFound(in.organization)
	}
	if err := in.mayJoin(ctx, on); err != nil {
		return plan{}, err
	}
	containers, err := on.containersOf(ctx, on.tx, in.subject, typeGroup)
	if err != nil {
		return plan{}, err
	}
	var changes []*accessv1.Change
	for _, id := range in.remove {
		group := Ref{typeGroup, id}
		if here, err := on.within(ctx, in.organization, group); err != nil {
			return plan{}, err
		} else if here && slices.Contains(containers, group) {
			changes = append(changes, memberChange(group, in.subject, false))
		}
	}
	groups := int64(len(containers) - len(changes))
	for _, id := range in.add {
		group := Ref{typeGroup, id}
		if slices.Contains(containers, group) {
			continue
		}
		room, err := in.room(ctx, on, group, groups)
		if err != nil {
			return plan{}, err
		}
		if !room {
			in.leftOut = append(in.leftOut, id)
			continue
		}
		groups++
		changes = append(changes, memberChange(group, in.subject, true))
	}
	if len(changes) == 0 {
		return plan{}, nil
	}
	return plan{changes: changes, record: onPath(in.record, path, changes)}, nil
}

// mayJoin refuses a subject that is not there, or not of the organization (RH-6).
func (in *updateMemberships) mayJoin(ctx context.Context, on *state) error {
	if len(in.add) == 0 {
		return nil
	}
	one := []Subject{in.subject}
	known, err := on.known(ctx, one)
	if err != nil {
		return err
	}
	if !known[in.subject] {
		return apierr.NotFound(ReasonSubjectNotFound, "subject %s:%s not found", in.subject.Type, in.subject.ID)
	}
	member, err := on.isMember(ctx, in.organization, in.subject)
	if err != nil {
		return err
	}
	return rules.MayJoin(rules.Subject{Type: in.subject.Type, ID: in.subject.ID}, member)
}

// room reports whether a group of the organization is there that takes one member more,
// and the subject, in so many groups, may be in one more.
func (in *updateMemberships) room(ctx context.Context, on *state, group Ref, groups int64) (bool, error) {
	here, err := on.within(ctx, in.organization, group)
	if err != nil || !here {
		return false, err
	}
	n, err := on.countMembers(ctx, on.tx, group)
	if err != nil {
		return false, err
	}
	for _, full := range []error{
		in.limits.room(groupBound(group.ID), n, 1), in.limits.room(groupsOfBound(in.subject.ID), groups, 1),
	} {
		if full != nil {
			if apierr.CodeOf(full) != codes.ResourceExhausted {
				return false, full
			}
			return false, nil
		}
	}
	return true, nil
}

// UpdateMemberships makes a subject a member of groups of an organization and takes it
// out of others, as its identity provider says (AS-19). Fails: RESOURCE_NOT_FOUND (the
// organization), SUBJECT_NOT_FOUND, MEMBER_FOREIGN (RH-6).
func (s *Subjects) UpdateMemberships(ctx context.Context, req *accessv1.UpdateMembershipsRequest) (*accessv1.UpdateMembershipsResponse, error) {
	in := &updateMemberships{
		subject: subjectOf(req.GetSubject()), organization: Ref{typeOrganization, req.GetOrganizationId()},
		add: req.GetAddGroupIds(), remove: req.GetRemoveGroupIds(), record: recordOf(ctx, eventSource, "UpdateMemberships"),
	}
	if err := checkSubject("subject", in.subject); err != nil {
		return nil, err
	}
	if in.subject.Type != rules.FederatedUser && in.subject.Type != rules.UserAccount {
		return nil, apierr.InvalidField("subject.type", "no identity provider speaks of a subject of type %s", in.subject.Type)
	}
	if err := checkText("organization_id", in.organization.ID); err != nil {
		return nil, err
	}
	for _, list := range []struct {
		field string
		ids   []string
	}{{"add_group_ids", in.add}, {"remove_group_ids", in.remove}} {
		if err := checkText(list.field, list.ids...); err != nil {
			return nil, err
		}
	}
	for _, id := range in.add {
		if slices.Contains(in.remove, id) {
			return nil, apierr.InvalidField("remove_group_ids", "%s is also added", id)
		}
	}
	in.limits = limits{}
	r, err := s.bounded.submit(ctx, in.bounds(s.committer.graph.View()), func(l limits) intent {
		in.limits = l
		return in
	})
	if err != nil {
		return nil, err
	}
	return &accessv1.UpdateMembershipsResponse{Revision: r.revision, LeftOutGroupIds: in.leftOut}, nil
}

// bounds are those of the subject and of the groups that are there; a group that was made
// a moment ago is full to whom has not heard of it.
func (in *updateMemberships) bounds(view *checker.View) []ceiling {
	var bounds []ceiling
	for _, id := range in.add {
		if view.Path(checker.Resource{Type: typeGroup, ID: id}) != nil {
			bounds = append(bounds, groupBound(id))
		}
	}
	if len(bounds) > 0 {
		bounds = append(bounds, groupsOfBound(in.subject.ID))
	}
	return bounds
}
