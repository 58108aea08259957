package partner

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/decimal"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

const entryColumns = `id, account_id, ledger, units, nanos, base, link_id, comment, created_by, created_at`

// InsertEntry adds a line to a ledger.
func (s *Store) InsertEntry(ctx context.Context, tx *sql.Tx, e Entry) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO partner_ledger (`+entryColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		e.ID, e.AccountID, e.Ledger, e.Amount.Units, e.Amount.Nanos, e.Base, e.LinkID, e.Comment, e.CreatedBy, e.CreatedAt)
	if err != nil {
		return fmt.Errorf("insert ledger entry: %w", err)
	}
	return nil
}

// Entry reads a line of any ledger; found is false when there is none of the id.
func (s *Store) Entry(ctx context.Context, q sqldb.Querier, id string) (e Entry, found bool, err error) {
	e, err = scanEntry(q.QueryRowContext(ctx, `SELECT `+entryColumns+` FROM partner_ledger WHERE id = $1`, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Entry{}, false, nil
	}
	if err != nil {
		return Entry{}, false, fmt.Errorf("get ledger entry: %w", err)
	}
	return e, true, nil
}

// Entries reads at most limit lines of a ledger that come before a position, newest first;
// from the newest on for the zero Position.
func (s *Store) Entries(ctx context.Context, q sqldb.Querier, l ledger, accountID string, before page.Position, limit int) (all []Entry, err error) {
	text, args := `SELECT `+entryColumns+` FROM partner_ledger WHERE account_id = $1 AND ledger = $2`, []any{accountID, l.name, limit}
	if before != (page.Position{}) {
		text += ` AND (created_at, id) < ($4, $5)`
		args = append(args, before.Time, before.ID)
	}
	rows, err := q.QueryContext(ctx, text+` ORDER BY created_at DESC, id DESC LIMIT $3`, args...)
	if err != nil {
		return nil, fmt.Errorf("list ledger entries: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		e, err := scanEntry(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list ledger entries: %w", err)
		}
		all = append(all, e)
	}
	return all, rows.Err()
}

// Balance is the sum of a ledger.
func (s *Store) Balance(ctx context.Context, q sqldb.Querier, l ledger, accountID string) (sum decimal.Decimal, err error) {
	err = q.QueryRowContext(ctx, `
		SELECT CAST(COALESCE(SUM(units), 0) AS BIGINT), CAST(COALESCE(SUM(nanos), 0) AS BIGINT) FROM partner_ledger WHERE account_id = $1 AND ledger = $2`,
		accountID, l.name).Scan(&sum.Units, &sum.Nanos)
	if err != nil {
		return sum, fmt.Errorf("sum ledger up: %w", err)
	}
	return sum, nil
}

func scanEntry(scan func(...any) error) (e Entry, err error) {
	err = scan(&e.ID, &e.AccountID, &e.Ledger, &e.Amount.Units, &e.Amount.Nanos, &e.Base, &e.LinkID, &e.Comment, &e.CreatedBy, &e.CreatedAt)
	return e, err
}

// Specialization is one that a partner has or had.
type Specialization struct {
	Name      string
	GrantedAt time.Time
	RevokedAt time.Time // zero while it goes on
}

func (x Specialization) position() page.Position {
	return page.Position{Time: sqldb.Micros(x.GrantedAt), ID: x.Name}
}

func (x Specialization) proto() *partnerv1.Specialization {
	p := &partnerv1.Specialization{Name: x.Name, GrantedAt: timestamppb.New(x.GrantedAt)}
	if !x.RevokedAt.IsZero() {
		p.RevokedAt = timestamppb.New(x.RevokedAt)
	}
	return p
}

// Specializations reads at most limit specializations of an account that follow after,
// oldest first.
func (s *Store) Specializations(ctx context.Context, q sqldb.Querier, accountID string, after page.Position, limit int) (all []Specialization, err error) {
	rows, err := q.QueryContext(ctx, `
		SELECT name, granted_at, revoked_at FROM partner_specializations
		WHERE account_id = $1 AND (granted_at, name) > ($2, $3) ORDER BY granted_at, name LIMIT $4`, accountID, after.Time, after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("list specializations: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		var x Specialization
		var granted, revoked int64
		if err := rows.Scan(&x.Name, &granted, &revoked); err != nil {
			return nil, fmt.Errorf("list specializations: %w", err)
		}
		x.GrantedAt, x.RevokedAt = sqldb.Time(granted), sqldb.Time(revoked)
		all = append(all, x)
	}
	return all, rows.Err()
}

// SpecializationNow reads the one of a name that goes on; found is false without one.
func (s *Store) SpecializationNow(ctx context.Context, q sqldb.Querier, accountID, name string) (x Specialization, found bool, err error) {
	var granted int64
	err = q.QueryRowContext(ctx, `SELECT granted_at FROM partner_specializations WHERE account_id = $1 AND name = $2 AND revoked_at = 0`,
		accountID, name).Scan(&granted)
	if errors.Is(err, sql.ErrNoRows) {
		return Specialization{Name: name}, false, nil
	}
	if err != nil {
		return x, false, fmt.Errorf("get specialization: %w", err)
	}
	return Specialization{Name: name, GrantedAt: sqldb.Time(granted)}, true, nil
}

// PutSpecialization adds one, or writes the end of one that goes on.
func (s *Store) PutSpecialization(ctx context.Context, tx *sql.Tx, accountID string, x Specialization) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO partner_specializations (account_id, name, granted_at, revoked_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (account_id, granted_at, name) DO UPDATE SET revoked_at = excluded.revoked_at`,
		accountID, x.Name, sqldb.Micros(x.GrantedAt), sqldb.Micros(x.RevokedAt))
	if err != nil {
		return fmt.Errorf("put specialization: %w", err)
	}
	return nil
}
