package partner

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// Link is the time in which an account paid for a cloud.
type Link struct {
	CloudID    string
	AccountID  string
	LinkedAt   time.Time
	UnlinkedAt time.Time // zero while the link is in force
	LinkedBy   string    // id of the subject
}

func (l Link) position() page.Position {
	return page.Position{Time: sqldb.Micros(l.LinkedAt), ID: l.CloudID}
}

// public is the message of the platform.
func (l Link) public() *billingv1.BillableObjectBinding {
	return &billingv1.BillableObjectBinding{
		EffectiveTime: timestamppb.New(l.LinkedAt), BillableObject: &billingv1.BillableObject{Id: l.CloudID, Type: objectCloud},
	}
}

// proto is our own message.
func (l Link) proto() *partnerv1.CloudLink {
	p := &partnerv1.CloudLink{CloudId: l.CloudID, BillingAccountId: l.AccountID, LinkedAt: timestamppb.New(l.LinkedAt)}
	if !l.UnlinkedAt.IsZero() {
		p.UnlinkedAt = timestamppb.New(l.UnlinkedAt)
	}
	return p
}

const linkColumns = `cloud_id, account_id, linked_at, unlinked_at, linked_by`

// LastLink reads the newest link of a cloud, in force or not; found is false for a cloud
// that nobody has paid for.
func (s *Store) LastLink(ctx context.Context, q sqldb.Querier, cloudID string) (l Link, found bool, err error) {
	row := q.QueryRowContext(ctx, `SELECT `+linkColumns+` FROM partner_links WHERE cloud_id = $1 ORDER BY linked_at DESC LIMIT 1`, cloudID)
	l, err = scanLink(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Link{}, false, nil
	}
	if err != nil {
		return Link{}, false, fmt.Errorf("get link of %s: %w", cloudID, err)
	}
	return l, true, nil
}

// InsertLink adds a link.
func (s *Store) InsertLink(ctx context.Context, tx *sql.Tx, l Link) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO partner_links (`+linkColumns+`) VALUES ($1, $2, $3, $4, $5)`,
		l.CloudID, l.AccountID, sqldb.Micros(l.LinkedAt), sqldb.Micros(l.UnlinkedAt), l.LinkedBy)
	if err != nil {
		return fmt.Errorf("insert link: %w", err)
	}
	return nil
}

// EndLink ends the link of a cloud that is in force.
func (s *Store) EndLink(ctx context.Context, tx *sql.Tx, cloudID string, at time.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE partner_links SET unlinked_at = $2 WHERE cloud_id = $1 AND unlinked_at = 0`, cloudID, sqldb.Micros(at))
	if err != nil {
		return fmt.Errorf("end link: %w", err)
	}
	return nil
}

// EndLinksOf ends all links of an account that are in force, and returns the clouds.
func (s *Store) EndLinksOf(ctx context.Context, tx *sql.Tx, accountID string, at time.Time) (clouds []string, err error) {
	rows, err := tx.QueryContext(ctx, `
		UPDATE partner_links SET unlinked_at = CASE WHEN linked_at < $2 THEN $2 ELSE linked_at + 1 END
		WHERE account_id = $1 AND unlinked_at = 0 RETURNING cloud_id`, accountID, sqldb.Micros(at))
	if err != nil {
		return nil, fmt.Errorf("end links of %s: %w", accountID, err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		var cloud string
		if err := rows.Scan(&cloud); err != nil {
			return nil, fmt.Errorf("end links of %s: %w", accountID, err)
		}
		clouds = append(clouds, cloud)
	}
	return clouds, rows.Err()
}

// Links reads at most limit links of an account that follow after, oldest first; inForce
// leaves out those that have ended.
func (s *Store) Links(ctx context.Context, q sqldb.Querier, accountID string, inForce bool, after page.Position, limit int) ([]Link, error) {
	text := `SELECT ` + linkColumns + ` FROM partner_links WHERE account_id = $1 AND (linked_at, cloud_id) > ($2, $3)`
	if inForce {
		text += ` AND unlinked_at = 0`
	}
	rows, err := q.QueryContext(ctx, text+` ORDER BY linked_at, cloud_id LIMIT $4`, accountID, after.Time, after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("list links of %s: %w", accountID, err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	var all []Link
	for rows.Next() {
		l, err := scanLink(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list links of %s: %w", accountID, err)
		}
		all = append(all, l)
	}
	return all, rows.Err()
}

// CountLinks counts the clouds that an account pays for.
func (s *Store) CountLinks(ctx context.Context, q sqldb.Querier, accountID string) (int64, error) {
	return s.count(ctx, q, `SELECT COUNT(*) FROM partner_links WHERE account_id = $1 AND unlinked_at = 0`, accountID)
}

func scanLink(scan func(...any) error) (Link, error) {
	var l Link
	var linked, unlinked int64
	if err := scan(&l.CloudID, &l.AccountID, &linked, &unlinked, &l.LinkedBy); err != nil {
		return Link{}, err
	}
	l.LinkedAt, l.UnlinkedAt = sqldb.Time(linked), sqldb.Time(unlinked)
	return l, nil
}
