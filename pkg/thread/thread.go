// Package thread keeps conversations for a unit: messages of two or more sides that
// are numbered, never changed, read in pages and counted while unread. What a
// conversation is about, and who may take part, is its unit's.
package thread

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/text"
)

//go:embed migrations
var files embed.FS

// Migrations makes the tables <unit>_threads, _thread_messages and _thread_reads.
func Migrations(unit string) sqldb.Migrations {
	return sqldb.Migrations{Name: unit + "_threads", Unit: unit, FS: files}
}

// Bounds of a thread.
const (
	MaxMessages   = 1000 // of a thread
	MaxCharacters = 4000 // of a message
)

// Reasons of refusals.
const (
	ReasonFull     = "THREAD_FULL"
	ReasonNotFound = "THREAD_NOT_FOUND"
)

var (
	errFull     = apierr.Precondition(ReasonFull, "the conversation has %d messages, and takes no more", MaxMessages)
	errNotFound = apierr.NotFound(ReasonNotFound, "there is no such conversation")
)

// Author is who wrote a message: a subject, or a type without an id for what is none.
type Author struct{ Type, ID string }

// Message is one message. Number counts from 1 within its thread.
type Message struct {
	Thread string
	Number int64
	Side   string // of the conversation, as the unit names it
	Author Author
	Text   string
	At     time.Time
}

// Store is the threads of one unit. It is safe for concurrent use.
type Store struct {
	db   *sqldb.DB
	unit string
}

// NewStore returns the store of a unit.
func NewStore(db *sqldb.DB, unit string) *Store { return &Store{db: db, unit: unit} }

// Check refuses a text that is no message: empty or of white space alone, over
// MaxCharacters, or with what NM-9 keeps out. field names it in the refusal.
func Check(field, message string) error {
	switch n := utf8.RuneCountInString(message); {
	case text.Problem(message) != "":
		return apierr.InvalidField(field, "%s", text.Problem(message))
	case strings.TrimSpace(message) == "":
		return apierr.InvalidField(field, "must say something: it is empty, or white space alone")
	case n > MaxCharacters:
		return apierr.InvalidField(field, "has %d characters, at most %d are taken", n, MaxCharacters)
	}
	return nil
}

// Open makes an empty thread. Its id is that of what it is about.
func (s *Store) Open(ctx context.Context, tx *sql.Tx, threadID string) error {
	if _, err := tx.ExecContext(ctx, s.sql(`INSERT INTO {{unit}}_threads (id, messages) VALUES ($1, 0)`), threadID); err != nil {
		return fmt.Errorf("open thread: %w", err)
	}
	return nil
}

// Post adds a message and returns it with its number; what its side had not read by
// then counts as read, since it answers. Fails: VALIDATION_FAILED of "text",
// THREAD_NOT_FOUND, THREAD_FULL.
func (s *Store) Post(ctx context.Context, tx *sql.Tx, m Message) (Message, error) {
	if err := Check("text", m.Text); err != nil {
		return Message{}, err
	}
	n, err := s.count(ctx, tx, m.Thread, s.db.ForUpdate())
	if err != nil {
		return Message{}, err
	}
	if n >= MaxMessages {
		return Message{}, errFull
	}
	m.Number = n + 1
	if _, err := tx.ExecContext(ctx, s.sql(`UPDATE {{unit}}_threads SET messages = $2 WHERE id = $1`), m.Thread, m.Number); err != nil {
		return Message{}, fmt.Errorf("post message: %w", err)
	}
	_, err = tx.ExecContext(ctx, s.sql(`
		INSERT INTO {{unit}}_thread_messages (thread_id, number, side, author_type, author_id, body, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`),
		m.Thread, m.Number, m.Side, m.Author.Type, m.Author.ID, m.Text, sqldb.Micros(m.At))
	if err != nil {
		return Message{}, fmt.Errorf("post message: %w", err)
	}
	return m, s.MarkRead(ctx, tx, m.Thread, m.Side, m.Number)
}

// count reads how many messages a thread has.
func (s *Store) count(ctx context.Context, q sqldb.Querier, threadID, suffix string) (n int64, err error) {
	err = q.QueryRowContext(ctx, s.sql(`SELECT messages FROM {{unit}}_threads WHERE id = $1`)+suffix, threadID).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, errNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("read thread: %w", err)
	}
	return n, nil
}

// List reads at most limit messages whose numbers are above after, in their order.
func (s *Store) List(ctx context.Context, q sqldb.Querier, threadID string, after int64, limit int) (all []Message, err error) {
	rows, err := q.QueryContext(ctx, s.sql(`
		SELECT number, side, author_type, author_id, body, created_at FROM {{unit}}_thread_messages
		WHERE thread_id = $1 AND number > $2 ORDER BY number LIMIT $3`), threadID, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list messages: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		m := Message{Thread: threadID}
		var at int64
		if err := rows.Scan(&m.Number, &m.Side, &m.Author.Type, &m.Author.ID, &m.Text, &at); err != nil {
			return nil, fmt.Errorf("list messages: %w", err)
		}
		m.At = sqldb.Time(at)
		all = append(all, m)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list messages: %w", err)
	}
	return all, nil
}

// MarkRead notes that a side has read a thread up to a message; what it read before
// stays read. A number beyond the last one is the last one. Fails: THREAD_NOT_FOUND.
func (s *Store) MarkRead(ctx context.Context, tx *sql.Tx, threadID, side string, number int64) error {
	n, err := s.count(ctx, tx, threadID, "")
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, s.sql(`
		INSERT INTO {{unit}}_thread_reads (thread_id, side, number) VALUES ($1, $2, $3)
		ON CONFLICT (thread_id, side) DO UPDATE SET number = excluded.number
		WHERE {{unit}}_thread_reads.number < excluded.number`), threadID, side, min(number, n))
	if err != nil {
		return fmt.Errorf("mark messages read: %w", err)
	}
	return nil
}

// Size is what a side sees of a thread without opening it.
type Size struct {
	Messages int64
	Unread   int64 // of other sides, after what this one has read
}

// Sizes reads the sizes of threads for a side; one that does not exist is absent.
// At most 1000 of them are asked for at once.
func (s *Store) Sizes(ctx context.Context, q sqldb.Querier, side string, threads ...string) (map[string]Size, error) {
	sizes := make(map[string]Size, len(threads))
	if len(threads) == 0 {
		return sizes, nil
	}
	marks, args := make([]string, len(threads)), []any{side}
	for i, threadID := range threads {
		marks[i] = fmt.Sprintf("$%d", i+2)
		args = append(args, threadID)
	}
	rows, err := q.QueryContext(ctx, s.sql(`
		SELECT t.id, t.messages, (
			SELECT COUNT(*) FROM {{unit}}_thread_messages m
			WHERE m.thread_id = t.id AND m.side <> $1 AND m.number > COALESCE(
				(SELECT r.number FROM {{unit}}_thread_reads r WHERE r.thread_id = t.id AND r.side = $1), 0))
		FROM {{unit}}_threads t WHERE t.id IN (`+strings.Join(marks, ", ")+`)`), args...)
	if err != nil {
		return nil, fmt.Errorf("read threads: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		var threadID string
		var size Size
		if err := rows.Scan(&threadID, &size.Messages, &size.Unread); err != nil {
			return nil, fmt.Errorf("read threads: %w", err)
		}
		sizes[threadID] = size
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read threads: %w", err)
	}
	return sizes, nil
}

func (s *Store) sql(query string) string { return strings.ReplaceAll(query, "{{unit}}", s.unit) }
