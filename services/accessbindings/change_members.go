package accessbindings

import (
	"context"
	"slices"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Refusals about memberships.
var (
	errCycle  = apierr.Precondition("MEMBERSHIP_CYCLE", "a group cannot be a member of itself, not by way of others either")
	errNested = apierr.Precondition("MEMBERSHIP_TOO_DEEP", "groups can stand in one another %d deep", maxNesting)
)

// maxNesting bounds a chain of groups in groups (design §9).
const maxNesting = 16

// updateMembers is the intent of UpdateMembers.
type updateMembers struct {
	container   Ref
	add, remove []Subject
	limits      limits
	catalog     *roleBook
	record      *audit.Record
}

func (in *updateMembers) plan(ctx context.Context, on *state) (plan, error) {
	path, err := on.path(ctx, on.tx, in.container)
	if err != nil {
		return plan{}, err
	}
	if len(path) == 0 {
		return plan{}, notFound(in.container)
	}
	var changes []*accessv1.Change
	left := 0
	for _, who := range in.remove {
		member, err := on.isMember(ctx, in.container, who)
		if err != nil {
			return plan{}, err
		}
		if !member {
			continue
		}
		changes = append(changes, memberChange(in.container, who, false))
		left++
		if in.container.Type != typeOrganization {
			continue
		}
		gone, err := on.depart(ctx, in.catalog, in.container, who)
		if err != nil {
			return plan{}, err
		}
		changes = append(changes, gone...)
	}
	joined, err := on.join(ctx, in.container, in.add)
	if err != nil {
		return plan{}, err
	}
	if err := in.room(ctx, on, joined, left); err != nil {
		return plan{}, err
	}
	if changes = append(changes, joined...); len(changes) == 0 {
		return plan{}, nil
	}
	return plan{changes: changes, record: onPath(in.record, path, changes)}, nil
}

// bounds are those of subjects who join an organization: how many it may have, and
// in how many each of them may be.
func (in *updateMembers) bounds() []ceiling {
	if in.container.Type != typeOrganization || len(in.add) == 0 {
		return nil
	}
	bounds := []ceiling{organizationBound(catalog.QuotaMemberships, in.container.ID)}
	for _, who := range in.add {
		bounds = append(bounds, organizationsOfBound(who.ID))
	}
	return bounds
}

// organizationsOfBound bounds the organizations in which a subject is.
func organizationsOfBound(subject string) ceiling {
	return ceiling{catalog.QuotaSubjectOrganizations, quota.Subject(subject)}
}

// room checks the bounds of those who join, of whom others may leave.
func (in *updateMembers) room(ctx context.Context, on *state, joined []*accessv1.Change, left int) error {
	if in.container.Type != typeOrganization || len(joined) == 0 {
		return nil
	}
	n, err := on.countMembers(ctx, on.tx, in.container)
	if err != nil {
		return err
	}
	more := int64(len(joined))
	if err := in.limits.room(organizationBound(catalog.QuotaMemberships, in.container.ID), n-int64(left), more); err != nil {
		return err
	}
	counts, err := on.countMemberships(ctx, on.tx, typeOrganization, in.add)
	if err != nil {
		return err
	}
	for _, c := range joined {
		who := subjectOf(c.GetMemberChanged().GetSubject())
		if err := in.limits.room(organizationsOfBound(who.ID), counts[who], 1); err != nil {
			return err
		}
	}
	return nil
}

// removeMembership is the intent of RemoveMembership (GR-6).
type removeMembership struct {
	organization Ref
	subject      Subject
	catalog      *roleBook
	record       *audit.Record
}

func (in *removeMembership) plan(ctx context.Context, on *state) (plan, error) {
	path, err := on.path(ctx, on.tx, in.organization)
	if err != nil {
		return plan{}, err
	}
	if len(path) == 0 {
		return plan{}, notFound(in.organization)
	}
	member, err := on.isMember(ctx, in.organization, in.subject)
	if err != nil || !member {
		return plan{}, err
	}
	changes, err := on.depart(ctx, in.catalog, in.organization, in.subject)
	if err != nil {
		return plan{}, err
	}
	changes = append(changes, memberChange(in.organization, in.subject, false))
	return plan{changes: changes, record: onPath(in.record, path, changes)}, nil
}

// depart takes a subject out of the groups, federations and user pools of an
// organization and takes its roles there (GR-6), unless something would lose its
// last owner (OW-3, OW-4).
func (on *state) depart(ctx context.Context, catalog *roleBook, organization Ref, who Subject) ([]*accessv1.Change, error) {
	holdings, err := on.heldBy(ctx, on.tx, who)
	if err != nil {
		return nil, err
	}
	var changes []*accessv1.Change
	var lost []held
	for _, h := range holdings {
		if here, err := on.within(ctx, organization, h.On); err != nil {
			return nil, err
		} else if here {
			lost = append(lost, h)
			changes = append(changes, bindingChange(h.On, Binding{Pair: Pair{Role: h.Role, Subject: who}}, on.now))
		}
	}
	if err := on.ownersRemain(ctx, catalog, who, lost); err != nil {
		return nil, err
	}
	policies, err := on.departGrantPolicies(ctx, organization.ID, who)
	if err != nil {
		return nil, err
	}
	changes = append(changes, policies...)
	containers, err := on.containersOf(ctx, on.tx, who, "")
	if err != nil {
		return nil, err
	}
	for _, c := range containers {
		if c == organization {
			continue
		}
		if here, err := on.within(ctx, organization, c); err != nil {
			return nil, err
		} else if here {
			changes = append(changes, memberChange(c, who, false))
		}
	}
	return changes, nil
}

// within reports whether a resource is an organization or stands below it.
func (on *state) within(ctx context.Context, organization, r Ref) (bool, error) {
	path, err := on.path(ctx, on.tx, r)
	return len(path) > 0 && path[len(path)-1] == organization, err
}

// join makes known subjects members of a container; those that are already stay.
func (on *state) join(ctx context.Context, container Ref, subjects []Subject) ([]*accessv1.Change, error) {
	known, err := on.known(ctx, subjects)
	if err != nil {
		return nil, err
	}
	var changes []*accessv1.Change
	for _, who := range subjects {
		if !known[who] {
			return nil, apierr.NotFound(ReasonSubjectNotFound, "subject %s:%s not found", who.Type, who.ID)
		}
		member, err := on.isMember(ctx, container, who)
		if err != nil {
			return nil, err
		}
		if member {
			continue
		}
		changes = append(changes, memberChange(container, who, true))
	}
	return changes, nil
}

func (on *state) isMember(ctx context.Context, container Ref, who Subject) (bool, error) {
	containers, err := on.containersOf(ctx, on.tx, who, container.Type)
	return slices.Contains(containers, container), err
}

// mayNest refuses a group as a member of another one when a cycle or too long a
// chain would come of it. All members of one call join the same group, so that the
// groups above it, and those below each member, are as they are stored.
func (on *state) mayNest(ctx context.Context, container Ref, member Subject) error {
	above, err := on.chain(ctx, container.ID, on.groupsAbove)
	if err != nil {
		return err
	}
	below, err := on.chain(ctx, member.ID, on.groupsBelow)
	if err != nil {
		return err
	}
	if _, cycle := below[container.ID]; cycle {
		return errCycle
	}
	if longest(above)+longest(below) > maxNesting {
		return errNested
	}
	return nil
}

// chain walks from a group over all groups that next leads to and returns how many
// groups stand on the longest way to each, the first included.
func (on *state) chain(ctx context.Context, group string, next func(context.Context, string) ([]string, error)) (map[string]int, error) {
	length := map[string]int{group: 1}
	for level := []string{group}; len(level) > 0; {
		var following []string
		for _, g := range level {
			groups, err := next(ctx, g)
			if err != nil {
				return nil, err
			}
			for _, n := range groups {
				if length[n] < length[g]+1 && length[g] <= maxNesting {
					length[n] = length[g] + 1
					following = append(following, n)
				}
			}
		}
		level = following
	}
	return length, nil
}

func (on *state) groupsAbove(ctx context.Context, group string) ([]string, error) {
	containers, err := on.containersOf(ctx, on.tx, Subject{rules.Group, group}, typeGroup)
	ids := make([]string, len(containers))
	for i, c := range containers {
		ids[i] = c.ID
	}
	return ids, err
}

func (on *state) groupsBelow(ctx context.Context, group string) ([]string, error) {
	members, err := on.membersOf(ctx, on.tx, Ref{typeGroup, group})
	var ids []string
	for _, m := range members {
		if m.Type == rules.Group {
			ids = append(ids, m.ID)
		}
	}
	return ids, err
}

func longest(chain map[string]int) int {
	n := 0
	for _, length := range chain {
		n = max(n, length)
	}
	return n
}

func memberChange(container Ref, who Subject, member bool) *accessv1.Change {
	return &accessv1.Change{Fact: &accessv1.Change_MemberChanged{
		MemberChanged: &accessv1.MemberChanged{Container: container.proto(), Subject: who.proto(), Member: member},
	}}
}
