package accessbindings

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// policyBound reports whether a policy is bound on the resource itself.
func (s *store) policyBound(ctx context.Context, q sqldb.Querier, r Ref, template string) (bool, error) {
	var n int64
	err := q.QueryRowContext(ctx, `
		SELECT COUNT(*) FROM access_policies WHERE resource_type = $1 AND resource_id = $2 AND template_id = $3`,
		r.Type, r.ID, template).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("read access policy: %w", err)
	}
	return n > 0, nil
}

// policiesOn reads at most limit policies on a resource whose number is above
// after, in the order of listings.
func (s *store) policiesOn(ctx context.Context, q sqldb.Querier, r Ref, after int64, limit int) ([]PolicyBinding, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT template_id, parameters, number FROM access_policies
		WHERE resource_type = $1 AND resource_id = $2 AND number > $3
		ORDER BY number LIMIT $4`, r.Type, r.ID, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read access policies: %w", err)
	}
	return collect(rows, "read access policies", func() (b PolicyBinding, err error) {
		var parameters string
		if err := rows.Scan(&b.Template, &parameters, &b.Number); err != nil {
			return b, err
		}
		return b, json.Unmarshal([]byte(parameters), &b.Parameters)
	})
}

// bindPolicy stores a policy, or other parameters of one that is bound, which keeps
// its number.
func (s *store) bindPolicy(ctx context.Context, tx *sql.Tx, number int64, r Ref, b PolicyBinding) error {
	if b.Parameters == nil {
		b.Parameters = map[string]string{}
	}
	parameters, err := json.Marshal(b.Parameters)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO access_policies (resource_type, resource_id, template_id, parameters, number) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (resource_type, resource_id, template_id) DO UPDATE SET parameters = excluded.parameters`,
		r.Type, r.ID, b.Template, string(parameters), number)
	return err
}

func (s *store) unbindPolicy(ctx context.Context, tx *sql.Tx, r Ref, template string) error {
	_, err := tx.ExecContext(ctx, `
		DELETE FROM access_policies WHERE resource_type = $1 AND resource_id = $2 AND template_id = $3`, r.Type, r.ID, template)
	return err
}

// policyFacts tells what the policies of the store deny by the catalogue.
func (s *store) policyFacts(c *catalog.Catalog) func(context.Context, sqldb.Querier, func(checker.Change) error) error {
	return func(ctx context.Context, q sqldb.Querier, put func(checker.Change) error) error {
		var r checker.Resource
		var template string
		return each(ctx, q, "access policies", `SELECT resource_type, resource_id, template_id FROM access_policies`,
			[]any{&r.Type, &r.ID, &template}, func() error {
				d, err := denyFact(c, r, template)
				if err != nil {
					return err
				}
				return put(d)
			})
	}
}
