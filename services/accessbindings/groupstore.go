package accessbindings

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Group is what a group is called and where it comes from. Who is in it stands
// among the members, that it exists in the tree.
type Group struct {
	ID             string
	OrganizationID string
	CreatedAt      int64 // microseconds UTC
	Name           string
	Description    string
	ContainerID    string // federation or user pool of an external group, else "" (GR-4)
	ExternalID     string // its id there
	Labels         map[string]string
}

// groupOf reads an entry of the log.
func groupOf(c *accessv1.GroupChanged) Group {
	return Group{
		ID: c.GetId(), OrganizationID: c.GetOrganizationId(), CreatedAt: micros(c.GetCreatedAt()), Name: c.GetName(),
		Description: c.GetDescription(), ContainerID: c.GetSubjectContainerId(), ExternalID: c.GetExternalId(), Labels: c.GetLabels(),
	}
}

// groupChange is the entry of the log for a group.
func groupChange(g Group) *accessv1.Change {
	return &accessv1.Change{Fact: &accessv1.Change_GroupChanged{GroupChanged: &accessv1.GroupChanged{
		Id: g.ID, OrganizationId: g.OrganizationID, CreatedAt: stamp(g.CreatedAt), Name: g.Name,
		Description: g.Description, SubjectContainerId: g.ContainerID, ExternalId: g.ExternalID, Labels: g.Labels,
	}}}
}

func (g Group) ref() Ref { return Ref{typeGroup, g.ID} }

func (g Group) position() page.Position { return page.Position{Time: g.CreatedAt, ID: g.ID} }

// setGroup stores a group in place of what was known of it.
func (s *store) setGroup(ctx context.Context, tx *sql.Tx, g Group) error {
	labels := []byte("{}")
	if len(g.Labels) > 0 {
		var err error
		if labels, err = json.Marshal(g.Labels); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO access_groups (id, organization_id, created_at, name, description, container_id, external_id, labels)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description,
			container_id = excluded.container_id, external_id = excluded.external_id, labels = excluded.labels`,
		g.ID, g.OrganizationID, g.CreatedAt, g.Name, g.Description, g.ContainerID, g.ExternalID, string(labels))
	return err
}

// groupColumns are those of scanGroups.
const groupColumns = `id, organization_id, created_at, name, description, container_id, external_id, labels`

func (s *store) scanGroups(ctx context.Context, q sqldb.Querier, query string, args ...any) ([]Group, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	return collect(rows, "read groups", func() (g Group, err error) {
		var labels string
		if err := rows.Scan(&g.ID, &g.OrganizationID, &g.CreatedAt, &g.Name, &g.Description, &g.ContainerID, &g.ExternalID, &labels); err != nil {
			return g, err
		}
		return g, json.Unmarshal([]byte(labels), &g.Labels)
	})
}

// groups reads the groups of these ids that are there, in no order that matters.
func (s *store) groups(ctx context.Context, q sqldb.Querier, ids []string) ([]Group, error) {
	const batch = 200 // bounds the number of parameters
	distinct := slices.Compact(slices.Sorted(slices.Values(ids)))
	var all []Group
	for some := range slices.Chunk(distinct, batch) {
		args := make([]any, len(some))
		for i, id := range some {
			args[i] = id
		}
		found, err := s.scanGroups(ctx, q, `SELECT `+groupColumns+` FROM access_groups WHERE id IN `+placeholders(len(some), 0), args...)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// group reads one group. Fails: GROUP_NOT_FOUND.
func (s *store) group(ctx context.Context, q sqldb.Querier, id string) (Group, error) {
	found, err := s.groups(ctx, q, []string{id})
	if err != nil {
		return Group{}, err
	}
	if len(found) == 0 {
		return Group{}, apierr.NotFound("GROUP_NOT_FOUND", "group %q not found", id)
	}
	return found[0], nil
}

// groupNamed reads the group of a name in an organization.
func (s *store) groupNamed(ctx context.Context, q sqldb.Querier, organization, name string) (g Group, found bool, err error) {
	all, err := s.scanGroups(ctx, q, `
		SELECT `+groupColumns+` FROM access_groups WHERE organization_id = $1 AND name = $2`, organization, name)
	if err != nil || len(all) == 0 {
		return Group{}, false, err
	}
	return all[0], true, nil
}

// groupExternal reads the group that stands for one of a container.
func (s *store) groupExternal(ctx context.Context, q sqldb.Querier, container, external string) (g Group, found bool, err error) {
	all, err := s.scanGroups(ctx, q, `
		SELECT `+groupColumns+` FROM access_groups
		WHERE container_id = $1 AND external_id = $2 AND external_id <> ''`, container, external)
	if err != nil || len(all) == 0 {
		return Group{}, false, err
	}
	return all[0], true, nil
}

// externalGroups reads all groups that stand for one of a container.
func (s *store) externalGroups(ctx context.Context, q sqldb.Querier, container string) ([]Group, error) {
	return s.scanGroups(ctx, q, `
		SELECT `+groupColumns+` FROM access_groups WHERE container_id = $1 AND external_id <> '' ORDER BY id`, container)
}

// groupQuery narrows a list of groups: those of an organization, or the external
// ones of a container; "" is any.
type groupQuery struct{ organization, container, name, external string }

// groupsAfter reads at most limit groups after a position, oldest first.
func (s *store) groupsAfter(ctx context.Context, q sqldb.Querier, only groupQuery, after page.Position, limit int) ([]Group, error) {
	return s.scanGroups(ctx, q, `
		SELECT `+groupColumns+` FROM access_groups
		WHERE ($1 = '' OR organization_id = $1) AND ($2 = '' OR container_id = $2 AND external_id <> '')
			AND ($3 = '' OR name = $3) AND ($4 = '' OR external_id = $4)
			AND (created_at > $5 OR created_at = $5 AND id > $6)
		ORDER BY created_at, id LIMIT $7`,
		only.organization, only.container, only.name, only.external, after.Time, after.ID, limit)
}

// countGroups counts the groups of an organization.
func (s *store) countGroups(ctx context.Context, q sqldb.Querier, organization string) (n int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT COUNT(*) FROM access_groups WHERE organization_id = $1`, organization).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count groups: %w", err)
	}
	return n, nil
}
