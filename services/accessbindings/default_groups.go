package accessbindings

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// defaultGroup is a group that every organization begins with (SC-2), and the role that
// it has there. It is a group as any other: it may be changed and deleted, its role be
// taken away, and it does not come back.
type defaultGroup struct{ name, description, role string }

// defaultGroups are those of the second provider; their roles are ours.
var defaultGroups = []defaultGroup{
	{"Administrators", "Administers the organization and everything in it", "admin"},
	{"Billing Administrators", "Administers the billing accounts of the organization", "billing.accounts.admin"},
}

// groupsOf are the default groups of an organization, to be made.
func groupsOf(organization string, now int64) []Group {
	all := make([]Group, len(defaultGroups))
	for i, d := range defaultGroups {
		all[i] = Group{ID: id.New(id.Group), OrganizationID: organization, CreatedAt: now, Name: d.name, Description: d.description}
	}
	return all
}

// begin makes the default group g, the n-th, with its role.
func (g Group) begin(n int, now int64) []*accessv1.Change {
	organization := Ref{typeOrganization, g.OrganizationID}
	return []*accessv1.Change{
		placed(g.ref(), organization), subjectChange(Subject{rules.Group, g.ID}, stateActive), groupChange(g),
		bindingChange(organization, Binding{
			Pair:    Pair{Role: defaultGroups[n].role, Subject: Subject{rules.Group, g.ID}},
			Sources: []Source{{Kind: accessv1.Source_DIRECT}},
		}, now),
	}
}

// beginGroups is the intent that gives its default groups to an organization which is
// older than they. A name that is taken there is left to the group that has it.
type beginGroups struct {
	groups []Group
	record *audit.Record
}

func (in *beginGroups) plan(ctx context.Context, on *state) (plan, error) {
	organization := Ref{typeOrganization, in.groups[0].OrganizationID}
	path, err := on.path(ctx, on.tx, organization)
	if err != nil || len(path) == 0 {
		return plan{}, err
	}
	var changes []*accessv1.Change
	for i, g := range in.groups {
		_, taken, err := on.groupNamed(ctx, on.tx, g.OrganizationID, g.Name)
		if err != nil {
			return plan{}, err
		}
		if !taken {
			changes = append(changes, g.begin(i, on.now)...)
		}
	}
	if len(changes) == 0 {
		return plan{}, nil
	}
	return plan{changes: changes, record: onPath(in.record, path, changes)}, nil
}

// upgradeDefaultGroups is the name of the step that beginGroups belongs to.
const upgradeDefaultGroups = "default_groups"

// giveDefaultGroups gives the default groups to the organizations of a store that an
// older program made, once: a group that somebody deleted does not come back.
func (s *Service) giveDefaultGroups(ctx context.Context) error {
	st := s.committer.store
	done, err := st.upgraded(ctx, upgradeDefaultGroups)
	if err != nil || done {
		return err
	}
	organizations, err := st.organizations(ctx, s.committer.db)
	if err != nil {
		return err
	}
	for _, organization := range organizations {
		in := &beginGroups{groups: groupsOf(organization, nowMicros(s.now)), record: recordOf(ctx, eventSource, "CreateDefaultGroups")}
		if _, err := s.committer.submit(ctx, in); err != nil {
			return fmt.Errorf("default groups of %s: %w", organization, err)
		}
	}
	return st.markUpgraded(ctx, upgradeDefaultGroups)
}

// organizations reads the ids of all organizations.
func (s *store) organizations(ctx context.Context, q sqldb.Querier) ([]string, error) {
	rows, err := q.QueryContext(ctx, `SELECT id FROM access_resources WHERE type = $1 AND removed = 0 ORDER BY id`, typeOrganization) //nolint:sqlclosecheck // collect closes it
	if err != nil {
		return nil, fmt.Errorf("read organizations: %w", err)
	}
	return collect(rows, "read organizations", func() (id string, err error) { return id, rows.Scan(&id) })
}

// upgraded reports whether a step was taken over the store.
func (s *store) upgraded(ctx context.Context, step string) (bool, error) {
	var n int
	err := s.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM access_upgrades WHERE name = $1`, step).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("read upgrades: %w", err)
	}
	return n > 0, nil
}

func (s *store) markUpgraded(ctx context.Context, step string) error {
	return sqldb.InTx(ctx, s.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO access_upgrades (name) VALUES ($1) ON CONFLICT (name) DO NOTHING`, step)
		return err
	})
}
