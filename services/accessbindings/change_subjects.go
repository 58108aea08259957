package accessbindings

import (
	"bytes"
	"context"
	"slices"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Refusals about subjects.
var (
	errSubjectDeleted = apierr.Precondition("SUBJECT_DELETED", "a deleted subject does not come back")
	errCycle          = apierr.Precondition("MEMBERSHIP_CYCLE", "a group cannot be a member of itself, not by way of others either")
	errNested         = apierr.Precondition("MEMBERSHIP_TOO_DEEP", "groups can stand in one another %d deep", maxNesting)
)

// maxNesting bounds a chain of groups in groups (design §9).
const maxNesting = 16

// setSubject is the intent of SetSubject.
type setSubject struct {
	subject Subject
	state   State
	catalog *roleBook
	record  *audit.Record
}

func (in *setSubject) plan(ctx context.Context, on *state) (plan, error) {
	states, err := on.states(ctx, on.tx, []Subject{in.subject})
	if err != nil {
		return plan{}, err
	}
	old := states[in.subject]
	if old == in.state {
		return plan{}, nil
	}
	if old == stateDeleted {
		return plan{}, errSubjectDeleted.Withf("%s:%s is deleted", in.subject.Type, in.subject.ID)
	}
	var changes []*accessv1.Change
	if in.state == stateDeleted {
		if changes, err = in.leave(ctx, on); err != nil {
			return plan{}, err
		}
	}
	changes = append(changes, subjectChange(in.subject, in.state))
	return plan{changes: changes, record: onPath(in.record, nil, changes)}, nil
}

// leave checks that no owner is lost (OW-1) and lets the members of a group go.
// What the subject itself holds and is a member of goes with its state.
func (in *setSubject) leave(ctx context.Context, on *state) ([]*accessv1.Change, error) {
	holdings, err := on.heldBy(ctx, on.tx, in.subject)
	if err != nil {
		return nil, err
	}
	if err := on.ownersRemain(ctx, in.catalog, in.subject, holdings); err != nil {
		return nil, err
	}
	if in.subject.Type != rules.Group {
		return nil, nil
	}
	container := Ref{typeGroup, in.subject.ID}
	members, err := on.membersOf(ctx, on.tx, container)
	if err != nil {
		return nil, err
	}
	var changes []*accessv1.Change
	for _, m := range members {
		changes = append(changes, memberChange(container, m, false))
	}
	return changes, nil
}

// ownersRemain checks that a subject which loses what it holds is nowhere the last
// owner.
func (on *state) ownersRemain(ctx context.Context, catalog *roleBook, who Subject, holdings []held) error {
	for _, h := range holdings {
		role, _ := catalog.role(h.Role)
		if role.Owns != h.On.Type {
			continue
		}
		owners, err := on.bindingsOn(ctx, on.tx, h.On, []string{h.Role})
		if err != nil {
			return err
		}
		before, after := 0, 0
		for _, b := range owners {
			if b.stays() {
				before++
				if b.Subject != who {
					after++
				}
			}
		}
		if err := rules.OwnerRemains(role, h.On.Type, before, after); err != nil {
			if e, ok := apierr.As(err); ok {
				return e.WithMeta("resourceType", h.On.Type, "resourceId", h.On.ID)
			}
			return err
		}
	}
	return nil
}

// updateMembers is the intent of UpdateMembers.
type updateMembers struct {
	container   Ref
	add, remove []Subject
	catalog     *roleBook
	record      *audit.Record
}

func (in *updateMembers) plan(ctx context.Context, on *state) (plan, error) {
	path, err := in.path(ctx, on)
	if err != nil {
		return plan{}, err
	}
	var changes []*accessv1.Change
	for _, who := range in.remove {
		member, err := on.isMember(ctx, in.container, who)
		if err != nil {
			return plan{}, err
		}
		if !member {
			continue
		}
		changes = append(changes, memberChange(in.container, who, false))
		if in.container.Type != typeOrganization {
			continue
		}
		gone, err := in.depart(ctx, on, who)
		if err != nil {
			return plan{}, err
		}
		changes = append(changes, gone...)
	}
	joined, err := on.join(ctx, in.container, in.add)
	if err != nil {
		return plan{}, err
	}
	if changes = append(changes, joined...); len(changes) == 0 {
		return plan{}, nil
	}
	return plan{changes: changes, record: onPath(in.record, path, changes)}, nil
}

// path is the container's, which must be there: a resource of the tree, or a group
// that is known as a subject only.
func (in *updateMembers) path(ctx context.Context, on *state) ([]Ref, error) {
	path, err := on.path(ctx, on.tx, in.container)
	if err != nil || len(path) > 0 {
		return path, err
	}
	if in.container.Type == typeGroup {
		group := Subject{rules.Group, in.container.ID}
		known, err := on.known(ctx, []Subject{group})
		if err != nil || known[group] {
			return []Ref{in.container}, err
		}
	}
	return nil, notFound(in.container)
}

// depart takes a subject out of the groups of an organization and takes its roles
// there (GR-6), unless something would lose its last owner (OW-3).
func (in *updateMembers) depart(ctx context.Context, on *state, who Subject) ([]*accessv1.Change, error) {
	within := func(r Ref) (bool, error) {
		path, err := on.path(ctx, on.tx, r)
		return len(path) > 0 && path[len(path)-1] == in.container, err
	}
	holdings, err := on.heldBy(ctx, on.tx, who)
	if err != nil {
		return nil, err
	}
	var changes []*accessv1.Change
	var lost []held
	for _, h := range holdings {
		if here, err := within(h.On); err != nil {
			return nil, err
		} else if here {
			lost = append(lost, h)
			changes = append(changes, bindingChange(h.On, Binding{Pair: Pair{Role: h.Role, Subject: who}}, on.now))
		}
	}
	if err := on.ownersRemain(ctx, in.catalog, who, lost); err != nil {
		return nil, err
	}
	groups, err := on.containersOf(ctx, on.tx, who, typeGroup)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if here, err := within(g); err != nil {
			return nil, err
		} else if here {
			changes = append(changes, memberChange(g, who, false))
		}
	}
	return changes, nil
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
		if who.Type == rules.Group {
			if err := on.mayNest(ctx, container, who); err != nil {
				return nil, err
			}
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

// revokeToken is the intent of RevokeToken.
type revokeToken struct {
	tokenID []byte
	end     int64
	record  *audit.Record
}

func (in *revokeToken) plan(ctx context.Context, on *state) (plan, error) {
	done, err := on.revoked(ctx, on.tx, in.tokenID)
	if err != nil || done {
		return plan{}, err
	}
	changes := []*accessv1.Change{{Fact: &accessv1.Change_TokenRevoked{
		TokenRevoked: &accessv1.TokenRevoked{TokenId: bytes.Clone(in.tokenID), ExpiresAt: stamp(in.end)},
	}}}
	return plan{changes: changes, record: onPath(in.record, nil, changes)}, nil
}

func subjectChange(who Subject, state State) *accessv1.Change {
	return &accessv1.Change{Fact: &accessv1.Change_SubjectChanged{
		SubjectChanged: &accessv1.SubjectChanged{Subject: who.proto(), State: state},
	}}
}

func memberChange(container Ref, who Subject, member bool) *accessv1.Change {
	return &accessv1.Change{Fact: &accessv1.Change_MemberChanged{
		MemberChanged: &accessv1.MemberChanged{Container: container.proto(), Subject: who.proto(), Member: member},
	}}
}
