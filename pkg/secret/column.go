package secret

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Column is a column of sealed values in a unit's table.
type Column struct {
	Table, ID, Value string
	// Kind is what the values are; each is sealed for the Purpose of its row.
	Kind string
	// PlainSize is the length of values that a version before sealing kept plain; 0
	// when none did. No sealed value of the column has it.
	PlainSize int
}

// Plain reports whether a value is from a version that did not seal it.
func (c Column) Plain(value []byte) bool { return c.PlainSize > 0 && len(value) == c.PlainSize }

// Purpose is what the value of the row with that id is sealed for.
func (c Column) Purpose(id string) string { return c.Kind + "/" + id }

// Open opens the value of a row. A seal key that is missing is told with what to
// do about it: it is a mistake of whoever runs the program.
func (c Column) Open(s *Sealer, id string, sealed []byte) ([]byte, error) {
	text, err := s.Open(c.Purpose(id), sealed)
	if errors.Is(err, ErrSealKeyUnknown) {
		return nil, fmt.Errorf("%s %s is %w: use the seal key file of this installation (--seal-key, otherwise %s in the data directory); no backup holds it",
			c.Kind, id, err, SealKeyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", c.Kind, id, err)
	}
	return text, nil
}

// Reseal seals by the key that seals now what an older one sealed, so that a key
// that was rotated out is needed no more after the next start.
func (c Column) Reseal(ctx context.Context, tx *sql.Tx, s *Sealer) error {
	stale, err := c.stale(ctx, tx, s)
	if err != nil {
		return fmt.Errorf("seal anew: %w", err)
	}
	for id, value := range stale {
		text := value
		if !c.Plain(value) {
			if text, err = c.Open(s, id, value); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `UPDATE `+c.Table+` SET `+c.Value+` = $1 WHERE `+c.ID+` = $2`, s.Seal(c.Purpose(id), text), id) //nolint:gosec // names of our own
		if err != nil {
			return fmt.Errorf("seal anew %s %s: %w", c.Kind, id, err)
		}
	}
	return nil
}

// stale reads what the key that seals now did not seal, by id.
func (c Column) stale(ctx context.Context, tx *sql.Tx, s *Sealer) (map[string][]byte, error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+c.ID+`, `+c.Value+` FROM `+c.Table) //nolint:gosec // names of our own
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	stale := make(map[string][]byte)
	for rows.Next() {
		var id string
		var value []byte
		if err := rows.Scan(&id, &value); err != nil {
			return nil, err
		}
		if len(value) > 0 && !s.Fresh(value) {
			stale[id] = value
		}
	}
	return stale, rows.Err()
}
