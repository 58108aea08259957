package tickets

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/thread"
)

// Reasons of refusals, beside those of package thread.
const (
	ReasonTicketNotFound     = "TICKET_NOT_FOUND"
	ReasonTicketClosed       = "TICKET_CLOSED"    // ST-3
	ReasonTooMany            = "TOO_MANY_TICKETS" // ST-2
	ReasonAttachmentNotFound = "ATTACHMENT_NOT_FOUND"
	ReasonAttachmentsFull    = "ATTACHMENTS_FULL" // ST-4
)

var (
	errTicketNotFound     = apierr.NotFound(ReasonTicketNotFound, "there is no such ticket")
	errTicketClosed       = apierr.Precondition(ReasonTicketClosed, "the ticket is closed, and takes nothing more")
	errTooMany            = apierr.Precondition(ReasonTooMany, "%d tickets are open, and more are not taken", MaxOpen)
	errAttachmentNotFound = apierr.NotFound(ReasonAttachmentNotFound, "the ticket has no such attachment")
	errAttachmentsFull    = apierr.Precondition(ReasonAttachmentsFull, "a ticket takes %d files of %d MiB together", MaxFiles, MaxAttachments>>20)
)

// States of tickets.
const (
	open   = "OPEN"
	closed = "CLOSED"
)

// Ticket is one ticket. A zero ClosedAt is that of an open one.
type Ticket struct {
	ID       string
	On       authz.Resource
	Title    string
	State    string
	By       thread.Author
	At       time.Time
	ClosedBy string
	ClosedAt time.Time
	Attached int64 // bytes, those that are on their way included
	Files    int64 // number of attachments, likewise
}

func (t Ticket) position() page.Position { return page.Position{Time: sqldb.Micros(t.At), ID: t.ID} }

// Attachment is one file of a ticket.
type Attachment struct {
	ID          string
	Ticket      string
	Name        string
	ContentType string
	Size        int64
	SHA256      string // hex
	By          thread.Author
	At          time.Time
	Ready       bool // all of it is there
}

// store is tickets and attachments.
type store struct{ db *sqldb.DB }

const ticketColumns = `id, resource_type, resource_id, title, state, created_by_type, created_by, created_at, closed_by, closed_at, attached, files`

func (s *store) insert(ctx context.Context, tx *sql.Tx, t Ticket) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO resourcemanager_tickets (`+ticketColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		t.ID, t.On.Type, t.On.ID, t.Title, t.State, t.By.Type, t.By.ID, sqldb.Micros(t.At), t.ClosedBy, sqldb.Micros(t.ClosedAt), t.Attached, t.Files)
	if err != nil {
		return fmt.Errorf("insert ticket: %w", err)
	}
	return nil
}

// update writes what can change of a ticket, which the caller has locked.
func (s *store) update(ctx context.Context, tx *sql.Tx, t Ticket) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE resourcemanager_tickets SET state = $2, closed_by = $3, closed_at = $4, attached = $5, files = $6 WHERE id = $1`,
		t.ID, t.State, t.ClosedBy, sqldb.Micros(t.ClosedAt), t.Attached, t.Files)
	if err != nil {
		return fmt.Errorf("update ticket: %w", err)
	}
	return nil
}

// ticket reads a ticket. Fails: TICKET_NOT_FOUND.
func (s *store) ticket(ctx context.Context, q sqldb.Querier, ticketID, suffix string) (Ticket, error) {
	t, err := scanTicket(q.QueryRowContext(ctx, `SELECT `+ticketColumns+` FROM resourcemanager_tickets WHERE id = $1`+suffix, ticketID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Ticket{}, errTicketNotFound
	}
	if err != nil {
		return Ticket{}, fmt.Errorf("read ticket: %w", err)
	}
	return t, nil
}

// lock is ticket that keeps other transactions from changing it.
func (s *store) lock(ctx context.Context, tx *sql.Tx, ticketID string) (Ticket, error) {
	return s.ticket(ctx, tx, ticketID, s.db.ForUpdate())
}

func scanTicket(scan func(...any) error) (t Ticket, err error) {
	var at, closedAt int64
	err = scan(&t.ID, &t.On.Type, &t.On.ID, &t.Title, &t.State, &t.By.Type, &t.By.ID, &at, &t.ClosedBy, &closedAt, &t.Attached, &t.Files)
	t.At, t.ClosedAt = sqldb.Time(at), sqldb.Time(closedAt)
	return t, err
}

// newest stands before everything that a list shows newest first.
const newest = int64(1) << 62

// tickets reads at most limit tickets of a resource, of all for the zero one, that follow
// after, newest first.
func (s *store) tickets(ctx context.Context, q sqldb.Querier, on authz.Resource, state string, after page.Position, limit int) ([]Ticket, error) {
	if after == (page.Position{}) {
		after.Time = newest
	}
	where, args := `(created_at, id) < ($1, $2)`, []any{after.Time, after.ID, limit}
	if on != (authz.Resource{}) {
		where += ` AND resource_type = $4 AND resource_id = $5`
		args = append(args, on.Type, on.ID)
	}
	if state != "" {
		args = append(args, state)
		where += fmt.Sprintf(` AND state = $%d`, len(args))
	}
	return read(ctx, q, "list tickets", scanTicket,
		`SELECT `+ticketColumns+` FROM resourcemanager_tickets WHERE `+where+` ORDER BY created_at DESC, id DESC LIMIT $3`, args...)
}

func (s *store) countOpen(ctx context.Context, q sqldb.Querier, on authz.Resource) (n int, err error) {
	err = q.QueryRowContext(ctx, `
		SELECT COUNT(*) FROM resourcemanager_tickets WHERE resource_type = $1 AND resource_id = $2 AND state = $3`, on.Type, on.ID, open).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count tickets: %w", err)
	}
	return n, nil
}

const attachmentColumns = `id, ticket_id, name, content_type, size, sha256, created_by_type, created_by, created_at, ready`

func scanAttachment(scan func(...any) error) (a Attachment, err error) {
	var at int64
	err = scan(&a.ID, &a.Ticket, &a.Name, &a.ContentType, &a.Size, &a.SHA256, &a.By.Type, &a.By.ID, &at, &a.Ready)
	a.At = sqldb.Time(at)
	return a, err
}

func (s *store) insertAttachment(ctx context.Context, tx *sql.Tx, a Attachment) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO resourcemanager_attachments (`+attachmentColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		a.ID, a.Ticket, a.Name, a.ContentType, a.Size, a.SHA256, a.By.Type, a.By.ID, sqldb.Micros(a.At), a.Ready)
	if err != nil {
		return fmt.Errorf("insert attachment: %w", err)
	}
	return nil
}

// complete makes an attachment whose content is there one that people see; false when
// somebody has taken it for abandoned meanwhile.
func (s *store) complete(ctx context.Context, tx *sql.Tx, a Attachment) (bool, error) {
	res, err := tx.ExecContext(ctx, `
		UPDATE resourcemanager_attachments SET content_type = $2, sha256 = $3, created_at = $4, ready = TRUE WHERE id = $1`,
		a.ID, a.ContentType, a.SHA256, sqldb.Micros(a.At))
	if err != nil {
		return false, fmt.Errorf("complete attachment: %w", err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// remove removes an attachment with its content; false when it is not there.
func (s *store) removeAttachment(ctx context.Context, tx *sql.Tx, attachmentID string) (bool, error) {
	if _, err := tx.ExecContext(ctx, `DELETE FROM resourcemanager_attachment_parts WHERE attachment_id = $1`, attachmentID); err != nil {
		return false, fmt.Errorf("remove attachment: %w", err)
	}
	res, err := tx.ExecContext(ctx, `DELETE FROM resourcemanager_attachments WHERE id = $1`, attachmentID)
	if err != nil {
		return false, fmt.Errorf("remove attachment: %w", err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// attachments reads those of a ticket that people see, oldest first; at most MaxFiles.
func (s *store) attachments(ctx context.Context, q sqldb.Querier, ticketID string) ([]Attachment, error) {
	return read(ctx, q, "list attachments", scanAttachment,
		`SELECT `+attachmentColumns+` FROM resourcemanager_attachments WHERE ticket_id = $1 AND ready ORDER BY created_at, id`, ticketID)
}

// attachment reads one. Fails: ATTACHMENT_NOT_FOUND.
func (s *store) attachment(ctx context.Context, q sqldb.Querier, ticketID, attachmentID string) (Attachment, error) {
	all, err := read(ctx, q, "read attachment", scanAttachment,
		`SELECT `+attachmentColumns+` FROM resourcemanager_attachments WHERE id = $1 AND ticket_id = $2 AND ready`, attachmentID, ticketID)
	if err == nil && len(all) == 0 {
		err = errAttachmentNotFound
	}
	if err != nil {
		return Attachment{}, err
	}
	return all[0], nil
}

// underWay reads at most limit attachments that were begun before a time and are not
// there yet.
func (s *store) underWay(ctx context.Context, q sqldb.Querier, before time.Time, limit int) ([]Attachment, error) {
	return read(ctx, q, "read attachments", scanAttachment,
		`SELECT `+attachmentColumns+` FROM resourcemanager_attachments WHERE NOT ready AND created_at < $1 LIMIT $2`, sqldb.Micros(before), limit)
}

// addPart stores the next part of an attachment.
func (s *store) addPart(ctx context.Context, attachmentID string, number int64, data []byte) error {
	return sqldb.InTx(ctx, s.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO resourcemanager_attachment_parts (attachment_id, number, data) VALUES ($1, $2, $3)`, attachmentID, number, data)
		if err != nil {
			return fmt.Errorf("store part of attachment: %w", err)
		}
		return nil
	})
}

// part reads one part of an attachment. Fails: ATTACHMENT_NOT_FOUND.
func (s *store) part(ctx context.Context, attachmentID string, number int64) (data []byte, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT data FROM resourcemanager_attachment_parts WHERE attachment_id = $1 AND number = $2`, attachmentID, number).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errAttachmentNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read part of attachment: %w", err)
	}
	return data, nil
}

// places reads what tickets were filed under, at most limit that follow after.
func (s *store) places(ctx context.Context, after authz.Resource, limit int) ([]authz.Resource, error) {
	return read(ctx, s.db, "read tickets", func(scan func(...any) error) (r authz.Resource, err error) {
		return r, scan(&r.Type, &r.ID)
	}, `SELECT DISTINCT resource_type, resource_id FROM resourcemanager_tickets
		WHERE (resource_type, resource_id) > ($1, $2) ORDER BY resource_type, resource_id LIMIT $3`, after.Type, after.ID, limit)
}

// removeAll removes the tickets of a resource with all that they have.
func (s *store) removeAll(ctx context.Context, tx *sql.Tx, on authz.Resource) error {
	const of = `(SELECT id FROM resourcemanager_tickets WHERE resource_type = $1 AND resource_id = $2)`
	for _, query := range []string{
		`DELETE FROM resourcemanager_attachment_parts WHERE attachment_id IN (SELECT id FROM resourcemanager_attachments WHERE ticket_id IN ` + of + `)`,
		`DELETE FROM resourcemanager_attachments WHERE ticket_id IN ` + of,
		`DELETE FROM resourcemanager_thread_reads WHERE thread_id IN ` + of,
		`DELETE FROM resourcemanager_thread_messages WHERE thread_id IN ` + of,
		`DELETE FROM resourcemanager_threads WHERE id IN ` + of,
		`DELETE FROM resourcemanager_tickets WHERE resource_type = $1 AND resource_id = $2`,
	} {
		if _, err := tx.ExecContext(ctx, query, on.Type, on.ID); err != nil {
			return fmt.Errorf("remove tickets: %w", err)
		}
	}
	return nil
}

// read scans all rows of a query.
func read[T any](ctx context.Context, q sqldb.Querier, what string, scan func(func(...any) error) (T, error), query string, args ...any) (all []T, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		one, err := scan(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return all, nil
}
