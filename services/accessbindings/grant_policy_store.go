package accessbindings

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// storedRule is a rule as the column rules has it.
type storedRule struct {
	Sets         []string `json:"sets"`
	Organization bool     `json:"organization,omitempty"`
}

// setGrantPolicy stores a policy in place of what was known of it.
func (s *store) setGrantPolicy(ctx context.Context, tx *sql.Tx, p GrantPolicy) error {
	rules := make([]storedRule, len(p.Rules))
	for i, r := range p.Rules {
		rules[i] = storedRule{r.Sets, r.Organization}
	}
	tags := p.Tags
	if tags == nil {
		tags = []string{}
	}
	rulesText, err := json.Marshal(rules)
	if err != nil {
		return err
	}
	tagsText, err := json.Marshal(tags)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO access_grant_policies
			(id, organization_id, created_at, updated_at, name, description, tags, principal_type, principal_id, rules)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (id) DO UPDATE SET updated_at = excluded.updated_at, name = excluded.name, description = excluded.description,
			tags = excluded.tags, principal_type = excluded.principal_type, principal_id = excluded.principal_id, rules = excluded.rules`,
		p.ID, p.OrganizationID, p.CreatedAt, p.UpdatedAt, p.Name, p.Description, string(tagsText), p.Principal.Type, p.Principal.ID, string(rulesText))
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM access_grant_places WHERE policy_id = $1`, p.ID); err != nil {
		return err
	}
	for i, r := range p.Rules {
		for k, on := range r.Places {
			_, err := tx.ExecContext(ctx, `
				INSERT INTO access_grant_places (policy_id, rule, place, resource_type, resource_id) VALUES ($1, $2, $3, $4, $5)`,
				p.ID, i, k, on.Type, on.ID)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *store) removeGrantPolicy(ctx context.Context, tx *sql.Tx, id string) error {
	for _, query := range []string{
		`DELETE FROM access_grant_places WHERE policy_id = $1`,
		`DELETE FROM access_grant_policies WHERE id = $1`,
	} {
		if _, err := tx.ExecContext(ctx, query, id); err != nil {
			return err
		}
	}
	return nil
}

// leaveGrantPolicies takes a deleted subject out of the policies whose principal it is
// (SC-16).
func (s *store) leaveGrantPolicies(ctx context.Context, tx *sql.Tx, who Subject) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE access_grant_policies SET principal_type = '', principal_id = ''
		WHERE principal_type = $1 AND principal_id = $2`, who.Type, who.ID)
	return err
}

// scanGrantPolicies reads policies whole.
func (s *store) scanGrantPolicies(ctx context.Context, q sqldb.Querier, where string, args ...any) ([]GrantPolicy, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT id, organization_id, created_at, updated_at, name, description, tags, principal_type, principal_id, rules
		FROM access_grant_policies `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read grant policies: %w", err)
	}
	all, err := collect(rows, "read grant policies", func() (p GrantPolicy, err error) {
		var tags, rulesText string
		err = rows.Scan(&p.ID, &p.OrganizationID, &p.CreatedAt, &p.UpdatedAt, &p.Name, &p.Description, &tags, &p.Principal.Type, &p.Principal.ID, &rulesText)
		if err != nil {
			return p, err
		}
		if err := json.Unmarshal([]byte(tags), &p.Tags); err != nil {
			return p, err
		}
		var stored []storedRule
		err = json.Unmarshal([]byte(rulesText), &stored)
		for _, r := range stored {
			p.Rules = append(p.Rules, GrantRule{Sets: r.Sets, Organization: r.Organization})
		}
		return p, err
	})
	for i := range all {
		if err == nil {
			err = s.places(ctx, q, &all[i])
		}
	}
	return all, err
}

// places reads the clouds and folders of the rules of a policy.
func (s *store) places(ctx context.Context, q sqldb.Querier, p *GrantPolicy) error {
	rows, err := q.QueryContext(ctx, `
		SELECT rule, resource_type, resource_id FROM access_grant_places WHERE policy_id = $1 ORDER BY rule, place`, p.ID)
	if err != nil {
		return fmt.Errorf("read places of a grant policy: %w", err)
	}
	_, err = collect(rows, "read places of a grant policy", func() (struct{}, error) {
		var i int
		var r Ref
		if err := rows.Scan(&i, &r.Type, &r.ID); err != nil {
			return struct{}{}, err
		}
		if i >= len(p.Rules) {
			return struct{}{}, fmt.Errorf("policy %s has places of a rule %d that it does not have", p.ID, i)
		}
		p.Rules[i].Places = append(p.Rules[i].Places, r)
		return struct{}{}, nil
	})
	return err
}

// grantPolicy reads a policy. Fails: GRANT_POLICY_NOT_FOUND.
func (s *store) grantPolicy(ctx context.Context, q sqldb.Querier, id string) (GrantPolicy, error) {
	found, err := s.scanGrantPolicies(ctx, q, `WHERE id = $1`, id)
	if err != nil {
		return GrantPolicy{}, err
	}
	if len(found) == 0 {
		return GrantPolicy{}, apierr.NotFound("GRANT_POLICY_NOT_FOUND", "grant policy %q not found", id)
	}
	return found[0], nil
}

// grantPolicyNamed reports whether an organization has a policy of a name, other than
// one.
func (s *store) grantPolicyNamed(ctx context.Context, q sqldb.Querier, organization, name, but string) (bool, error) {
	var n int64
	err := q.QueryRowContext(ctx, `
		SELECT COUNT(*) FROM access_grant_policies WHERE organization_id = $1 AND name = $2 AND id <> $3`, organization, name, but).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("read grant policies: %w", err)
	}
	return n > 0, nil
}

// grantPoliciesAfter reads at most limit policies of an organization after a position,
// oldest first.
func (s *store) grantPoliciesAfter(ctx context.Context, q sqldb.Querier, organization string, after page.Position, limit int) ([]GrantPolicy, error) {
	return s.scanGrantPolicies(ctx, q, `
		WHERE organization_id = $1 AND (created_at > $2 OR created_at = $2 AND id > $3)
		ORDER BY created_at, id LIMIT $4`, organization, after.Time, after.ID, limit)
}

// grantPoliciesOf reads the policies of an organization whose principal is a subject.
func (s *store) grantPoliciesOf(ctx context.Context, q sqldb.Querier, organization string, who Subject) ([]GrantPolicy, error) {
	return s.scanGrantPolicies(ctx, q, `
		WHERE organization_id = $1 AND principal_type = $2 AND principal_id = $3 ORDER BY id`, organization, who.Type, who.ID)
}

// grantPoliciesAt reads the policies of which a rule names a cloud or folder.
func (s *store) grantPoliciesAt(ctx context.Context, q sqldb.Querier, r Ref) ([]GrantPolicy, error) {
	return s.scanGrantPolicies(ctx, q, `
		WHERE id IN (SELECT policy_id FROM access_grant_places WHERE resource_type = $1 AND resource_id = $2) ORDER BY id`, r.Type, r.ID)
}

// countGrantPolicies counts the policies of an organization.
func (s *store) countGrantPolicies(ctx context.Context, q sqldb.Querier, organization string) (n int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT COUNT(*) FROM access_grant_policies WHERE organization_id = $1`, organization).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count grant policies: %w", err)
	}
	return n, nil
}
