package notifications

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// Ref names a resource.
type Ref struct{ Type, ID string }

// Subscriber is a person or a webhook that is told of a resource.
type Subscriber struct {
	ID           string
	On           Ref
	UserID       string // "" for a webhook
	URL          string // "" for a person
	Events       []string
	Secret       []byte // sealed
	Disabled     bool
	FailingSince time.Time // zero while it does not fail
	CreatedBy    string
	CreatedAt    time.Time
}

// sealedSecrets are the secrets of webhooks; empty for people.
var sealedSecrets = secret.Column{Table: "notifications_subscribers", ID: "id", Value: "secret", Kind: "webhook secret"}

// Sealed are the columns of this unit whose values are sealed.
func Sealed() []secret.Column { return []secret.Column{sealedSecrets} }

func (s Subscriber) position() page.Position {
	return page.Position{Time: sqldb.Micros(s.CreatedAt), ID: s.ID}
}

func (s Subscriber) proto() *notificationv1.Subscriber {
	m := &notificationv1.Subscriber{Id: s.ID, CreatedAt: timestamppb.New(s.CreatedAt), CreatedBy: s.CreatedBy}
	if s.UserID != "" {
		m.Target = &notificationv1.Subscriber_UserId{UserId: s.UserID}
		return m
	}
	hook := &notificationv1.Webhook{Url: s.URL, Events: s.Events, State: notificationv1.Webhook_ACTIVE}
	if s.Disabled {
		hook.State = notificationv1.Webhook_DISABLED
	}
	m.Target = &notificationv1.Subscriber_Webhook{Webhook: hook}
	return m
}

// Names of the states of a subscriber in the table.
const (
	subscriberActive   = "ACTIVE"
	subscriberDisabled = "DISABLED"
)

// InsertSubscriber adds a subscriber, unless the person is one already (known).
func (s *Store) InsertSubscriber(ctx context.Context, tx *sql.Tx, sub Subscriber) (known bool, err error) {
	events, err := json.Marshal(append([]string{}, sub.Events...))
	if err != nil {
		return false, fmt.Errorf("insert subscriber: %w", err)
	}
	res, err := tx.ExecContext(ctx, `
		INSERT INTO notifications_subscribers
			(id, resource_type, resource_id, user_id, url, events, secret, state, failing_since, created_by, created_at, gone_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, 0) ON CONFLICT DO NOTHING`,
		sub.ID, sub.On.Type, sub.On.ID, sub.UserID, sub.URL, string(events), append([]byte{}, sub.Secret...), subscriberActive,
		sub.CreatedBy, sqldb.Micros(sub.CreatedAt))
	if err != nil {
		return false, fmt.Errorf("insert subscriber: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("insert subscriber: %w", err)
	}
	return n == 0, nil
}

// DeleteSubscriber removes a subscriber.
func (s *Store) DeleteSubscriber(ctx context.Context, tx *sql.Tx, subscriberID string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM notifications_subscribers WHERE id = $1`, subscriberID); err != nil {
		return fmt.Errorf("delete subscriber: %w", err)
	}
	return nil
}

const subscriberColumns = `id, resource_type, resource_id, user_id, url, events, secret, state, failing_since, created_by, created_at`

// Subscriber reads a subscriber. Fails: errGone.
func (s *Store) Subscriber(ctx context.Context, q sqldb.Querier, subscriberID string) (Subscriber, error) {
	all, err := s.subscribers(ctx, q, `WHERE id = $1`, subscriberID)
	if err == nil && len(all) == 0 {
		err = errGone
	}
	if err != nil {
		return Subscriber{}, err
	}
	return all[0], nil
}

// SubscribersOf reads at most limit subscribers of a resource that follow after,
// oldest first.
func (s *Store) SubscribersOf(ctx context.Context, q sqldb.Querier, r Ref, after page.Position, limit int) ([]Subscriber, error) {
	return s.subscribers(ctx, q, `
		WHERE resource_type = $1 AND resource_id = $2 AND (created_at, id) > ($3, $4)
		ORDER BY created_at, id LIMIT $5`, r.Type, r.ID, after.Time, after.ID, limit)
}

// SubscribersAmong reads the subscribers of some resources.
func (s *Store) SubscribersAmong(ctx context.Context, q sqldb.Querier, resources []Ref) ([]Subscriber, error) {
	if len(resources) == 0 {
		return nil, nil
	}
	marks, args := make([]string, len(resources)), make([]any, 0, 2*len(resources))
	for i, r := range resources {
		marks[i] = "($" + strconv.Itoa(2*i+1) + ", $" + strconv.Itoa(2*i+2) + ")"
		args = append(args, r.Type, r.ID)
	}
	return s.subscribers(ctx, q, `
		WHERE (resource_type, resource_id) IN (VALUES `+strings.Join(marks, ", ")+`) ORDER BY created_at, id`, args...)
}

// SetFailing notes since when a webhook fails, zero when it does not, and whether it
// is disabled for it.
func (s *Store) SetFailing(ctx context.Context, tx *sql.Tx, subscriberID string, since time.Time, disabled bool) error {
	state := subscriberActive
	if disabled {
		state = subscriberDisabled
	}
	_, err := tx.ExecContext(ctx, `UPDATE notifications_subscribers SET failing_since = $2, state = $3 WHERE id = $1`,
		subscriberID, sqldb.Micros(since), state)
	if err != nil {
		return fmt.Errorf("update subscriber: %w", err)
	}
	return nil
}

func (s *Store) subscribers(ctx context.Context, q sqldb.Querier, where string, args ...any) (all []Subscriber, err error) {
	rows, err := q.QueryContext(ctx, `SELECT `+subscriberColumns+` FROM notifications_subscribers `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read subscribers: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		sub, err := scanSubscriber(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("read subscribers: %w", err)
		}
		all = append(all, sub)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read subscribers: %w", err)
	}
	return all, nil
}

func scanSubscriber(scan func(...any) error) (Subscriber, error) {
	var sub Subscriber
	var events, state string
	var failing, created int64
	err := scan(&sub.ID, &sub.On.Type, &sub.On.ID, &sub.UserID, &sub.URL, &events, &sub.Secret, &state, &failing, &sub.CreatedBy, &created)
	if err == nil {
		err = json.Unmarshal([]byte(events), &sub.Events)
	}
	sub.Disabled = state == subscriberDisabled
	sub.FailingSince, sub.CreatedAt = sqldb.Time(failing), sqldb.Time(created)
	return sub, err
}

// MarkGone notes that resources of a type are removed, and where the following of
// their removals stands.
func (s *Store) MarkGone(ctx context.Context, tx *sql.Tx, typ string, ids []string, at time.Time, place removalPlace) error {
	for _, resourceID := range ids {
		_, err := tx.ExecContext(ctx, `
			UPDATE notifications_subscribers SET gone_at = $3 WHERE resource_type = $1 AND resource_id = $2 AND gone_at = 0`,
			typ, resourceID, sqldb.Micros(at))
		if err != nil {
			return fmt.Errorf("mark subscribers: %w", err)
		}
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO notifications_removals (type, epoch, revision, id) VALUES ($1, $2, $3, $4)
		ON CONFLICT (type) DO UPDATE SET epoch = excluded.epoch, revision = excluded.revision, id = excluded.id`,
		typ, place.epoch, place.revision, place.id)
	if err != nil {
		return fmt.Errorf("mark place: %w", err)
	}
	return nil
}

// removalPlace is how far the removals of a type were followed; zero from the first.
type removalPlace struct {
	epoch, revision int64
	id              string
}

// RemovalPlace reads how far the removals of a type were followed.
func (s *Store) RemovalPlace(ctx context.Context, q sqldb.Querier, typ string) (p removalPlace, err error) {
	err = q.QueryRowContext(ctx, `SELECT epoch, revision, id FROM notifications_removals WHERE type = $1`, typ).Scan(&p.epoch, &p.revision, &p.id)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return p, fmt.Errorf("read place: %w", err)
	}
	return p, nil
}

// DropGone deletes the subscribers of resources that were found removed before a time.
func (s *Store) DropGone(ctx context.Context, tx *sql.Tx, before time.Time) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM notifications_subscribers WHERE gone_at > 0 AND gone_at < $1`, sqldb.Micros(before))
	if err != nil {
		return fmt.Errorf("drop subscribers: %w", err)
	}
	return nil
}
