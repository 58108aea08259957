package accessbindings

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Audience is bindery.access.v1.AudienceService.
type Audience struct {
	accessv1.UnimplementedAudienceServiceServer
	committer *committer
}

// ownerRoles are the roles whose holders are told of what becomes of a resource of
// a type and of what lies below it: the owners of a cloud of its folders as well,
// since folders have none (NT-1, NT-2).
var ownerRoles = map[string]string{
	typeCloud:        "resource-manager.clouds.owner",
	typeOrganization: "organization-manager.organizations.owner",
}

// GetAudience reads the path and the owners of a resource, and which candidates are
// active members of its organization. What it tells is in force. Fails:
// RESOURCE_NOT_FOUND.
func (s *Audience) GetAudience(ctx context.Context, req *accessv1.GetAudienceRequest) (*accessv1.GetAudienceResponse, error) {
	r := refOf(req.GetResource())
	if err := checkText("resource", r.Type, r.ID); err != nil {
		return nil, err
	}
	candidates := make([]Subject, len(req.GetCandidates()))
	for i, c := range req.GetCandidates() {
		if candidates[i] = subjectOf(c); candidates[i].Type != rules.UserAccount {
			candidates[i] = Subject{}
		}
		if err := checkText("candidates", candidates[i].ID); err != nil {
			return nil, err
		}
	}
	resp := new(accessv1.GetAudienceResponse)
	err := s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) error {
		resp.Reset()
		path, err := st.path(ctx, q, r)
		if err != nil {
			return err
		}
		if len(path) == 0 {
			return notFound(r)
		}
		owners, err := st.ownersOf(ctx, q, path, nowMicros(s.committer.now))
		if err != nil {
			return err
		}
		members, err := st.activeMembers(ctx, q, path[len(path)-1], candidates)
		if err != nil {
			return err
		}
		for _, at := range path {
			resp.Path = append(resp.Path, at.proto())
		}
		for _, who := range owners {
			resp.Owners = append(resp.Owners, who.proto())
		}
		for _, who := range members {
			resp.Members = append(resp.Members, who.proto())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ownersOf reads the active users who own the nearest resource of a path that has
// owners, directly or by a group, ordered by id.
func (s *store) ownersOf(ctx context.Context, q sqldb.Querier, path []Ref, now int64) ([]Subject, error) {
	i := slices.IndexFunc(path, func(r Ref) bool { return ownerRoles[r.Type] != "" })
	if i < 0 {
		return nil, nil
	}
	bindings, err := s.bindingsOn(ctx, q, path[i], []string{ownerRoles[path[i].Type]})
	if err != nil {
		return nil, err
	}
	var holders []Subject
	for _, b := range bindings {
		if b.inForce(now) {
			holders = append(holders, b.Subject)
		}
	}
	users, err := s.usersAmong(ctx, q, holders)
	if err != nil {
		return nil, err
	}
	return s.active(ctx, q, users)
}

// usersAmong puts the members of groups in the place of the groups, and leaves out
// who is neither user nor group.
func (s *store) usersAmong(ctx context.Context, q sqldb.Querier, holders []Subject) ([]Subject, error) {
	users, seen := []Subject(nil), make(map[Subject]bool, len(holders))
	for len(holders) > 0 {
		who := holders[0]
		holders = holders[1:]
		if seen[who] {
			continue
		}
		seen[who] = true
		switch who.Type {
		case rules.UserAccount:
			users = append(users, who)
		case rules.Group:
			members, err := s.membersOf(ctx, q, Ref{Type: typeGroup, ID: who.ID})
			if err != nil {
				return nil, err
			}
			holders = append(holders, members...)
		}
	}
	slices.SortFunc(users, func(a, b Subject) int { return cmp.Compare(a.ID, b.ID) })
	return users, nil
}

// active leaves out who may not act.
func (s *store) active(ctx context.Context, q sqldb.Querier, users []Subject) ([]Subject, error) {
	states, err := s.states(ctx, q, users)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(users, func(who Subject) bool { return states[who] != stateActive }), nil
}

// activeMembers returns those of some users who are direct members of a container
// and may act, in their order.
func (s *store) activeMembers(ctx context.Context, q sqldb.Querier, container Ref, users []Subject) ([]Subject, error) {
	const batch = 100 // bounds the number of parameters
	is := make(map[Subject]bool, len(users))
	for rest := users; len(rest) > 0; {
		n := min(batch, len(rest))
		found, err := s.membersAmong(ctx, q, container, rest[:n])
		if err != nil {
			return nil, err
		}
		for _, who := range found {
			is[who] = true
		}
		rest = rest[n:]
	}
	members := slices.DeleteFunc(slices.Clone(users), func(who Subject) bool { return !is[who] })
	return s.active(ctx, q, members)
}

// membersAmong reads those of some users who are direct members of a container.
func (s *store) membersAmong(ctx context.Context, q sqldb.Querier, container Ref, users []Subject) ([]Subject, error) {
	args := []any{container.Type, container.ID, rules.UserAccount}
	for _, who := range users {
		args = append(args, who.ID)
	}
	rows, err := q.QueryContext(ctx, `
		SELECT subject_type, subject_id FROM access_members
		WHERE container_type = $1 AND container_id = $2 AND subject_type = $3 AND subject_id IN `+placeholders(len(users), 3), args...)
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	return collect(rows, "read members", func() (who Subject, err error) {
		return who, rows.Scan(&who.Type, &who.ID)
	})
}
