package accessbindings

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// alone makes the committer the only one over its store. What its predecessor granted, if
// it ended without taking that back, is waited for.
func (c *committer) alone(ctx context.Context) error {
	h := c.graph.followers
	h.mark, h.row = c.noteAlone, func() string { return aloneRow }
	var id string
	return each(ctx, c.db, "replicas", `SELECT id FROM access_replicas`, []any{&id}, func() error {
		h.heirloom()
		return nil
	})
}

// aloneRow is the row of a process whose store is not shared, while it has followers.
const aloneRow = "alone"

func (c *committer) noteAlone(ctx context.Context, followed bool) (row string, err error) {
	query := `DELETE FROM access_replicas WHERE id = $1`
	if followed {
		query = `
			INSERT INTO access_replicas (id, renewals, applied, joined_at, followed) VALUES ($1, 0, 0, 0, 1)
			ON CONFLICT (id) DO NOTHING`
	}
	err = sqldb.InTx(ctx, c.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, query, aloneRow)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("note followers: %w", err)
	}
	return aloneRow, nil
}
