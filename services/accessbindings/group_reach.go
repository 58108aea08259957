package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"
)

// mayGain judges those who join a group as if each were given every role that the group,
// and the groups that it is in, hold now: whoever adds a member gives these roles
// (AS-3), and a service account has none abroad by way of a group either (SU-9).
func (in *updateGroupMembers) mayGain(ctx context.Context, on *state, g Group, coming []Subject) error {
	if len(coming) == 0 {
		return nil
	}
	gained, err := on.heldByWayOf(ctx, g.ID)
	if err != nil || len(gained) == 0 {
		return err
	}
	bearers := make([]rules.Subject, len(coming))
	for i, who := range coming {
		if bearers[i], err = on.bearer(ctx, who); err != nil {
			return err
		}
	}
	for _, h := range gained {
		path, err := on.path(ctx, on.tx, h.On)
		if err != nil {
			return err
		}
		asked := in.caller
		asked.Resource, asked.Now = checker.Resource(h.On), on.now
		d := rules.Delta{
			Add: true, Limit: on.graph.limit(asked),
			Resource: rules.Resource{Type: h.On.Type, ID: h.On.ID, Organization: organizationOf(path)},
		}
		d.Role, _ = in.catalog.role(h.Role) // one that is in no catalogue gives nothing
		for i, who := range bearers {
			d.Subject = who
			if err := rules.MayGain(d); err != nil {
				return in.at(coming[i].ID, err)
			}
		}
	}
	return nil
}

// heldByWayOf are the roles in force that a member of a group has by it: those of the
// group, and of the groups that it is in.
func (on *state) heldByWayOf(ctx context.Context, group string) ([]held, error) {
	above, err := on.chain(ctx, group, on.groupsAbove)
	if err != nil {
		return nil, err
	}
	var all []held
	for _, id := range slices.Sorted(maps.Keys(above)) {
		found, err := on.heldInForce(ctx, on.tx, Subject{rules.Group, id}, on.now)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// heldInForce reads the roles that a subject itself holds at a time, on everything.
func (s *store) heldInForce(ctx context.Context, q sqldb.Querier, who Subject, now int64) ([]held, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT DISTINCT resource_type, resource_id, role_id FROM access_bindings
		WHERE subject_type = $1 AND subject_id = $2 AND (expires_at = 0 OR expires_at > $3)
		ORDER BY resource_type, resource_id, role_id`, who.Type, who.ID, now)
	if err != nil {
		return nil, fmt.Errorf("read roles of subject: %w", err)
	}
	return collect(rows, "read roles of subject", func() (h held, err error) {
		return h, rows.Scan(&h.On.Type, &h.On.ID, &h.Role)
	})
}

// bearer is the subject that the rules are to judge when a subject gets a role: itself,
// or of a group with service accounts in it one of those, which SU-9 binds most.
func (on *state) bearer(ctx context.Context, who Subject) (rules.Subject, error) {
	if who.Type == rules.Group {
		account, err := on.accountIn(ctx, who.ID)
		if err != nil {
			return rules.Subject{}, err
		}
		if account.ID != "" {
			who = account
		}
	}
	return rules.Subject{Type: who.Type, ID: who.ID, Home: on.graph.home(who)}, nil
}

// accountIn finds a service account in a group or in the groups in it; the zero Subject
// when there is none.
func (on *state) accountIn(ctx context.Context, group string) (Subject, error) {
	below, err := on.chain(ctx, group, on.groupsBelow)
	if err != nil {
		return Subject{}, err
	}
	for _, id := range slices.Sorted(maps.Keys(below)) {
		account := Subject{Type: rules.ServiceAccount}
		err := on.tx.QueryRowContext(ctx, `
			SELECT MIN(subject_id) FROM access_members
			WHERE container_type = $1 AND container_id = $2 AND subject_type = $3
			HAVING COUNT(*) > 0`, typeGroup, id, account.Type).Scan(&account.ID)
		switch {
		case err == nil:
			return account, nil
		case !errors.Is(err, sql.ErrNoRows):
			return Subject{}, fmt.Errorf("find service account in group: %w", err)
		}
	}
	return Subject{}, nil
}
