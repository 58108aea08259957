package notifications

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

//go:embed migrations
var files embed.FS

// Migrations makes the tables of the unit.
func Migrations() sqldb.Migrations {
	return sqldb.Migrations{Name: Name, Unit: Name, FS: files}
}

// Store is the notices and their deliveries. Methods that take a Querier read from a
// transaction or, outside of one, what is committed.
type Store struct{ db *sqldb.DB }

// Notice is a notice that was taken.
type Notice struct {
	*notificationv1.Notice
	TakenBy string // unit
	TakenAt time.Time
	Routed  bool
}

// Channel is the way to a recipient.
type Channel string

// Channels.
const (
	Mail    Channel = "mail"
	Webhook Channel = "webhook"
)

// State is where a delivery stands.
type State string

// States. DEAD is one that was given up, DROPPED one whose recipient is gone.
const (
	Pending   State = "PENDING"
	Delivered State = "DELIVERED"
	Dead      State = "DEAD"
	Dropped   State = "DROPPED"
)

// Delivery is one recipient of one notice.
type Delivery struct {
	ID        string
	NoticeID  string
	Channel   Channel
	Target    string // mail address, or id of the subscriber with the webhook
	State     State
	Attempts  int64
	Failure   string // of the last attempt, "" when it succeeded
	CreatedAt time.Time
	NextAt    time.Time // zero once it is not tried again
	EndedAt   time.Time // zero while PENDING
}

// errGone is the error for what is not there any more; no caller sees it.
var errGone = errors.New("gone")

// InsertNotice adds a notice, unless its id was taken before (known).
func (s *Store) InsertNotice(ctx context.Context, tx *sql.Tx, n Notice) (known bool, err error) {
	body, err := proto.Marshal(n.Notice)
	if err != nil {
		return false, fmt.Errorf("insert notice: %w", err)
	}
	res, err := tx.ExecContext(ctx, `
		INSERT INTO notifications_notices (id, event, body, taken_by, taken_at, routed_at)
		VALUES ($1, $2, $3, $4, $5, 0) ON CONFLICT (id) DO NOTHING`,
		n.GetId(), n.GetEvent(), body, n.TakenBy, sqldb.Micros(n.TakenAt))
	if err != nil {
		return false, fmt.Errorf("insert notice: %w", err)
	}
	inserted, err := res.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("insert notice: %w", err)
	}
	return inserted == 0, nil
}

// Notice reads a notice. Fails: errGone.
func (s *Store) Notice(ctx context.Context, q sqldb.Querier, noticeID string) (Notice, error) {
	n := Notice{Notice: new(notificationv1.Notice)}
	var body []byte
	var taken, routed int64
	err := q.QueryRowContext(ctx, `
		SELECT body, taken_by, taken_at, routed_at FROM notifications_notices WHERE id = $1`, noticeID).
		Scan(&body, &n.TakenBy, &taken, &routed)
	if errors.Is(err, sql.ErrNoRows) {
		return n, errGone
	}
	if err == nil {
		err = proto.Unmarshal(body, n.Notice)
	}
	if err != nil {
		return n, fmt.Errorf("read notice: %w", err)
	}
	n.TakenAt, n.Routed = sqldb.Time(taken), routed > 0
	return n, nil
}

// MarkRouted stores a notice as it was routed, and reports whether nobody had done so
// before.
func (s *Store) MarkRouted(ctx context.Context, tx *sql.Tx, n Notice, at time.Time) (first bool, err error) {
	body, err := proto.Marshal(n.Notice)
	if err != nil {
		return false, fmt.Errorf("mark notice: %w", err)
	}
	res, err := tx.ExecContext(ctx, `
		UPDATE notifications_notices SET body = $2, routed_at = $3 WHERE id = $1 AND routed_at = 0`,
		n.GetId(), body, sqldb.Micros(at))
	if err != nil {
		return false, fmt.Errorf("mark notice: %w", err)
	}
	marked, err := res.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("mark notice: %w", err)
	}
	return marked > 0, nil
}

// InsertDelivery adds a delivery.
func (s *Store) InsertDelivery(ctx context.Context, tx *sql.Tx, d Delivery) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO notifications_deliveries
			(id, notice_id, channel, target, state, attempts, failure, created_at, next_at, ended_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		d.ID, d.NoticeID, string(d.Channel), d.Target, string(d.State), d.Attempts, d.Failure,
		sqldb.Micros(d.CreatedAt), sqldb.Micros(d.NextAt), sqldb.Micros(d.EndedAt))
	if err != nil {
		return fmt.Errorf("insert delivery: %w", err)
	}
	return nil
}

// UpdateDelivery writes how an attempt ended, on a delivery that is still PENDING;
// done is false when another process was first.
func (s *Store) UpdateDelivery(ctx context.Context, tx *sql.Tx, d Delivery) (done bool, err error) {
	res, err := tx.ExecContext(ctx, `
		UPDATE notifications_deliveries
		SET state = $2, attempts = $3, failure = $4, next_at = $5, ended_at = $6
		WHERE id = $1 AND state = $7 AND attempts < $3`,
		d.ID, string(d.State), d.Attempts, d.Failure, sqldb.Micros(d.NextAt), sqldb.Micros(d.EndedAt), string(Pending))
	if err != nil {
		return false, fmt.Errorf("update delivery: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("update delivery: %w", err)
	}
	return n > 0, nil
}

const deliveryColumns = `id, notice_id, channel, target, state, attempts, failure, created_at, next_at, ended_at`

// Delivery reads a delivery. Fails: errGone.
func (s *Store) Delivery(ctx context.Context, q sqldb.Querier, deliveryID string) (Delivery, error) {
	d, err := scanDelivery(q.QueryRowContext(ctx, `SELECT `+deliveryColumns+` FROM notifications_deliveries WHERE id = $1`, deliveryID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return d, errGone
	}
	if err != nil {
		return d, fmt.Errorf("read delivery: %w", err)
	}
	return d, nil
}

// Deliveries reads at most limit deliveries of a notice ("" for all) in a state ("" for
// any) that follow after, newest first; the zero Position begins at the newest.
func (s *Store) Deliveries(ctx context.Context, q sqldb.Querier, noticeID string, state State, after page.Position, limit int) (all []Delivery, err error) {
	query := `SELECT ` + deliveryColumns + ` FROM notifications_deliveries WHERE ($1 = '' OR notice_id = $1) AND ($2 = '' OR state = $2)`
	args := []any{noticeID, string(state), limit}
	if after != (page.Position{}) {
		query += ` AND (created_at, id) < ($4, $5)`
		args = append(args, after.Time, after.ID)
	}
	rows, err := q.QueryContext(ctx, query+` ORDER BY created_at DESC, id DESC LIMIT $3`, args...)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		d, err := scanDelivery(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list deliveries: %w", err)
		}
		all = append(all, d)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	return all, nil
}

// PendingByChannel counts the deliveries that are still tried.
func (s *Store) PendingByChannel(ctx context.Context, q sqldb.Querier) (map[Channel]int64, error) {
	counts := map[Channel]int64{Mail: 0, Webhook: 0}
	for channel := range counts {
		var n int64
		err := q.QueryRowContext(ctx, `
			SELECT COUNT(*) FROM notifications_deliveries WHERE state = $1 AND channel = $2`, string(Pending), string(channel)).Scan(&n)
		if err != nil {
			return nil, fmt.Errorf("count deliveries: %w", err)
		}
		counts[channel] = n
	}
	return counts, nil
}

// Sweep deletes the routed notices that were taken before a time and of which nothing
// is pending, with their deliveries; at most limit at once.
func (s *Store) Sweep(ctx context.Context, tx *sql.Tx, before time.Time, limit int) (swept int64, err error) {
	const old = `
		SELECT id FROM notifications_notices n
		WHERE taken_at < $1 AND routed_at > 0
			AND NOT EXISTS (SELECT 1 FROM notifications_deliveries d WHERE d.notice_id = n.id AND d.state = $2)
		ORDER BY taken_at, id LIMIT $3`
	args := []any{sqldb.Micros(before), string(Pending), limit}
	for _, query := range []string{
		`DELETE FROM notifications_deliveries WHERE notice_id IN (` + old + `)`,
		`DELETE FROM notifications_notices WHERE id IN (` + old + `)`,
	} {
		res, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return 0, fmt.Errorf("sweep notices: %w", err)
		}
		if swept, err = res.RowsAffected(); err != nil {
			return 0, fmt.Errorf("sweep notices: %w", err)
		}
	}
	return swept, nil
}

func scanDelivery(scan func(...any) error) (Delivery, error) {
	var d Delivery
	var channel, state string
	var created, next, ended int64
	err := scan(&d.ID, &d.NoticeID, &channel, &d.Target, &state, &d.Attempts, &d.Failure, &created, &next, &ended)
	d.Channel, d.State = Channel(channel), State(state)
	d.CreatedAt, d.NextAt, d.EndedAt = sqldb.Time(created), sqldb.Time(next), sqldb.Time(ended)
	return d, err
}
