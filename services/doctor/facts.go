package doctor

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// How long things may take before somebody should look.
const (
	jobLate       = 5 * time.Minute  // after it was due
	jobTries      = 5                // of which none succeeded
	operationLate = 10 * time.Minute // after it began
)

// facts looks at what the units keep, in one transaction.
type facts struct {
	*doctor
	tx *sql.Tx
}

// names puts the tables of units into a query: {accessbindings.access_revision}.
func (f *facts) names(query string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(query, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		name, after, _ := strings.Cut(rest, "}")
		unit, table, _ := strings.Cut(name, ".")
		b.WriteString(f.db.Qualified(unit, table))
		query = after
	}
}

// none complains about every row of a query.
func (f *facts) none(ctx context.Context, what, query string, args ...any) ([]string, error) {
	found, err := texts(ctx, f.tx, f.names(query), args...)
	return few(what, found), err
}

// line looks at the head of the store.
func (f *facts) line(ctx context.Context) {
	f.check("epoch", "the units agree about it, and the revision is that of the last change", func() ([]string, error) {
		var access, identity, revision, last int64
		err := f.tx.QueryRowContext(ctx, f.names(`
			SELECT a.epoch, i.epoch, a.revision, (SELECT COALESCE(MAX(revision), 0) FROM {accessbindings.access_changes})
			FROM {accessbindings.access_revision} a CROSS JOIN {identity.identity_epoch} i`)).Scan(&access, &identity, &revision, &last)
		if err != nil {
			return nil, err
		}
		var complaints []string
		if access != identity {
			complaints = append(complaints, fmt.Sprintf("accessbindings is in epoch %d and identity in %d: the database was put together from different backups", access, identity))
		}
		if last > revision {
			complaints = append(complaints, fmt.Sprintf("the revision is %d and there is a change of revision %d: the database was changed by hand, restore a backup", revision, last))
		}
		return complaints, nil
	})
}

// tree looks at the resources that the checker knows.
func (f *facts) tree(ctx context.Context) {
	f.check("tree", "every resource stands below one that is there", func() ([]string, error) {
		orphans, err := f.none(ctx, "resources below one that is not there", `
			SELECT r.type || ' ' || r.id FROM {accessbindings.access_resources} r
			LEFT JOIN {accessbindings.access_resources} p ON p.type = r.parent_type AND p.id = r.parent_id AND p.removed = 0
			WHERE r.removed = 0 AND r.parent_type <> '' AND p.id IS NULL ORDER BY 1`)
		if err != nil {
			return nil, err
		}
		circles, err := f.none(ctx, "resources that stand below themselves", `
			WITH RECURSIVE standing (type, id) AS (
				SELECT r.type, r.id FROM {accessbindings.access_resources} r
				LEFT JOIN {accessbindings.access_resources} p ON p.type = r.parent_type AND p.id = r.parent_id AND p.removed = 0
				WHERE r.removed = 0 AND p.id IS NULL
				UNION
				SELECT r.type, r.id FROM {accessbindings.access_resources} r
				JOIN standing s ON r.parent_type = s.type AND r.parent_id = s.id WHERE r.removed = 0
			)
			SELECT r.type || ' ' || r.id FROM {accessbindings.access_resources} r
			LEFT JOIN standing s ON s.type = r.type AND s.id = r.id
			WHERE r.removed = 0 AND s.id IS NULL ORDER BY 1`)
		return slices.Concat(orphans, circles), err
	})
}

// bindings looks at who has what where.
func (f *facts) bindings(ctx context.Context) {
	f.check("bindings", "all are of subjects and on resources that are there", func() ([]string, error) {
		resources, err := f.none(ctx, "bindings on resources that are not there", `
			SELECT DISTINCT b.resource_type || ' ' || b.resource_id FROM {accessbindings.access_bindings} b
			LEFT JOIN {accessbindings.access_resources} r ON r.type = b.resource_type AND r.id = b.resource_id AND r.removed = 0
			WHERE r.id IS NULL ORDER BY 1`)
		if err != nil {
			return nil, err
		}
		// 3 is a deleted subject; system groups are known by their names.
		subjects, err := f.none(ctx, "bindings of subjects that are not there", `
			SELECT DISTINCT b.subject_type || ' ' || b.subject_id FROM {accessbindings.access_bindings} b
			LEFT JOIN {accessbindings.access_subjects} s ON s.type = b.subject_type AND s.id = b.subject_id AND s.state <> 3
			WHERE s.id IS NULL AND b.subject_type <> 'system' ORDER BY 1`)
		if err != nil {
			return nil, err
		}
		members, err := f.none(ctx, "members that are not there", `
			SELECT DISTINCT m.subject_type || ' ' || m.subject_id FROM {accessbindings.access_members} m
			LEFT JOIN {accessbindings.access_subjects} s ON s.type = m.subject_type AND s.id = m.subject_id AND s.state <> 3
			WHERE s.id IS NULL ORDER BY 1`)
		return slices.Concat(resources, subjects, members), err
	})
	f.check("pairs", "organizations have as many pairs of role and subject as are counted for their quota", func() ([]string, error) {
		return f.none(ctx, "organizations whose number of pairs is wrong (AB-13)", `
			WITH RECURSIVE standing (organization, type, id) AS (
				SELECT id, type, id FROM {accessbindings.access_resources} WHERE type = 'organization-manager.organization' AND removed = 0
				UNION
				SELECT s.organization, r.type, r.id FROM {accessbindings.access_resources} r
				JOIN standing s ON r.parent_type = s.type AND r.parent_id = s.id WHERE r.removed = 0
			), pairs (organization, n) AS (
				SELECT s.organization, COUNT(*) FROM standing s
				JOIN (SELECT DISTINCT resource_type, resource_id, number FROM {accessbindings.access_bindings}) b ON b.resource_type = s.type AND b.resource_id = s.id
				GROUP BY s.organization
			)
			SELECT o.id || ': counted ' || COALESCE(a.pairs, 0) || ', there are ' || COALESCE(p.n, 0) FROM {accessbindings.access_resources} o
			LEFT JOIN pairs p ON p.organization = o.id
			LEFT JOIN {accessbindings.access_assignments} a ON a.organization_id = o.id
			WHERE o.type = 'organization-manager.organization' AND o.removed = 0 AND COALESCE(a.pairs, 0) <> COALESCE(p.n, 0) ORDER BY 1`)
	})
}

// kinds gives a row of resourcemanager the type that the tree knows it by.
const kinds = `CASE %[1]s.kind WHEN 'organization' THEN 'organization-manager.organization'
	WHEN 'cloud' THEN 'resource-manager.cloud' ELSE 'resource-manager.folder' END`

// units compares what the units keep with what the checker knows.
func (f *facts) units(ctx context.Context) {
	kind := fmt.Sprintf(kinds, "r")
	f.check("units", "users, service accounts, organizations, clouds and folders are the same for all units", func() ([]string, error) {
		unknown, err := f.none(ctx, "active resources that the checker does not know, or knows elsewhere", `
			SELECT r.kind || ' ' || r.id FROM {resourcemanager.resourcemanager_resources} r
			LEFT JOIN {accessbindings.access_resources} t ON t.type = `+kind+` AND t.id = r.id AND t.removed = 0 AND t.parent_id = COALESCE(r.parent_id, '')
			WHERE r.status = 'ACTIVE' AND t.id IS NULL ORDER BY 1`)
		if err != nil {
			return nil, err
		}
		without, err := f.none(ctx, "resources that only the checker knows", `
			SELECT t.type || ' ' || t.id FROM {accessbindings.access_resources} t
			LEFT JOIN {resourcemanager.resourcemanager_resources} r ON r.id = t.id AND t.type = `+kind+`
			WHERE t.removed = 0 AND r.id IS NULL
				AND t.type IN ('organization-manager.organization', 'resource-manager.cloud', 'resource-manager.folder')
			ORDER BY 1`)
		if err != nil {
			return nil, err
		}
		users, err := f.none(ctx, "active users that the checker does not know", `
			SELECT u.id FROM {identity.identity_users} u
			LEFT JOIN {accessbindings.access_subjects} s ON s.type = CASE u.federation_id WHEN '' THEN 'userAccount' ELSE 'federatedUser' END AND s.id = u.id
			WHERE u.state = 'ACTIVE' AND s.id IS NULL ORDER BY 1`)
		if err != nil {
			return nil, err
		}
		accounts, err := f.accounts(ctx)
		return slices.Concat(unknown, without, users, accounts), err
	})
}

// accounts compares the service accounts of identity with the tree and the subjects.
// Those of a folder that is gone go after it.
func (f *facts) accounts(ctx context.Context) ([]string, error) {
	unknown, err := f.none(ctx, "service accounts that the checker does not know, or knows elsewhere", `
		SELECT a.id FROM {identity.identity_service_accounts} a
		JOIN {accessbindings.access_resources} f ON f.type = 'resource-manager.folder' AND f.id = a.folder_id AND f.removed = 0
		LEFT JOIN {accessbindings.access_resources} t ON t.type = 'iam.serviceAccount' AND t.id = a.id AND t.removed = 0
			AND t.parent_type = f.type AND t.parent_id = f.id
		LEFT JOIN {accessbindings.access_subjects} s ON s.type = 'serviceAccount' AND s.id = a.id AND s.state <> 3
		WHERE a.status IN ('ACTIVE', 'SUSPENDED') AND (t.id IS NULL OR s.id IS NULL) ORDER BY 1`)
	if err != nil {
		return nil, err
	}
	without, err := f.none(ctx, "service accounts that only the checker knows", `
		SELECT t.id FROM {accessbindings.access_resources} t
		LEFT JOIN {identity.identity_service_accounts} a ON a.id = t.id
		WHERE t.type = 'iam.serviceAccount' AND t.removed = 0 AND a.id IS NULL ORDER BY 1`)
	return slices.Concat(unknown, without), err
}

// jobs looks for those that wait too long, or fail again and again.
func (f *facts) jobs(ctx context.Context) {
	f.check("jobs", "none is late or fails again and again", func() ([]string, error) {
		var complaints []string
		for _, u := range f.Units {
			late, failing, err := f.queue(ctx, u)
			if err != nil {
				return complaints, err
			}
			complaints = append(complaints, few(fmt.Sprintf("jobs of %s that were due over %v ago, and nobody does: is it served?", u.Name, jobLate), late)...)
			complaints = append(complaints, few(fmt.Sprintf("jobs of %s that fail again and again: its log says why", u.Name), failing)...)
		}
		return complaints, nil
	})
}

// queue reads the jobs of a unit that somebody should look at.
func (f *facts) queue(ctx context.Context, u Unit) (late, failing []string, err error) {
	tables, err := sqldb.Layout(ctx, u.Migrations...)
	if err != nil {
		return nil, nil, err
	}
	at := slices.IndexFunc(tables, func(t sqldb.Table) bool { return t.Name == "goqite" })
	if at < 0 {
		return nil, nil, nil
	}
	c, err := f.db.Contents(ctx, f.tx, u.Name, tables[at])
	if err != nil {
		return nil, nil, err
	}
	column := func(name string) int {
		return slices.IndexFunc(c.Columns, func(col sqldb.Column) bool { return col.Name == name })
	}
	idAt, dueAt, triesAt := column("id"), column("timeout"), column("received")
	err = c.Each(ctx, f.tx, func(values []any) error {
		id, _ := values[idAt].(string)
		text, _ := values[dueAt].(string)
		tries, _ := values[triesAt].(int64)
		due, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return fmt.Errorf("job %s: %w", id, err)
		}
		if waited := f.Now().Sub(due); waited > jobLate {
			late = append(late, fmt.Sprintf("%s since %v", id, waited.Round(time.Minute)))
		}
		if tries >= jobTries {
			failing = append(failing, fmt.Sprintf("%s, tried %d times", id, tries))
		}
		return nil
	})
	return late, failing, err
}

// operations looks for those that should have ended. A pending deletion waits for
// its time.
func (f *facts) operations(ctx context.Context) {
	before := sqldb.Micros(f.Now().Add(-operationLate))
	f.check("operations", "none is stuck", func() ([]string, error) {
		rm, err := f.none(ctx, fmt.Sprintf("operations that began over %v ago and did not end", operationLate), `
			SELECT o.id FROM {resourcemanager.resourcemanager_operations} o
			LEFT JOIN {resourcemanager.resourcemanager_resources} r
				ON r.operation = o.id AND r.status = 'PENDING_DELETION' AND r.delete_after > $1
			WHERE NOT o.done AND o.created_at < $1 AND r.id IS NULL ORDER BY 1`, before)
		if err != nil {
			return nil, err
		}
		access, err := f.none(ctx, "operations of accessbindings that did not end", `
			SELECT id FROM {accessbindings.accessbindings_operations} WHERE NOT done AND created_at < $1 ORDER BY 1`, before)
		return slices.Concat(rm, access), err
	})
}
