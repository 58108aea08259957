package resourcemanager

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
)

// QuotaStatus is where a quota request, or one quota of it, stands: the name of a
// value of the public enums (QL-4).
type QuotaStatus string

// Statuses (QL-4). A request is Pending, Processing, Processed or Canceled.
const (
	QuotaPending         QuotaStatus = "PENDING"
	QuotaProcessing      QuotaStatus = "PROCESSING"
	QuotaProcessed       QuotaStatus = "PROCESSED"
	QuotaPartialApproved QuotaStatus = "PARTIAL_APPROVED"
	QuotaApproved        QuotaStatus = "APPROVED"
	QuotaRejected        QuotaStatus = "REJECTED"
	QuotaCanceled        QuotaStatus = "CANCELED"
)

// undecided reports whether a quota of a request can still be decided or cancelled.
func (s QuotaStatus) undecided() bool { return s == QuotaPending || s == QuotaProcessing }

// QuotaRequest asks for other limits of one resource.
type QuotaRequest struct {
	ID        string
	On        authz.Resource
	Status    QuotaStatus
	CreatedBy string // id of the subject
	CreatedAt time.Time
	Limits    []RequestedLimit // in the order asked for
}

// RequestedLimit is one quota of a request.
type RequestedLimit struct {
	QuotaID    string
	Desired    int64
	Approved   int64 // 0 until something is
	Status     QuotaStatus
	Message    string
	ModifiedBy string // id of the subject, or authn.Operator; "" for nobody
}

// position is where r stands in a list.
func (r QuotaRequest) position() page.Position {
	return page.Position{Time: sqldb.Micros(r.CreatedAt), ID: r.ID}
}

// sum is the status of a request by those of its quotas.
func (r QuotaRequest) sum() QuotaStatus {
	var pending, undecided, canceled int
	for _, l := range r.Limits {
		if l.Status == QuotaPending {
			pending++
		}
		if l.Status.undecided() {
			undecided++
		}
		if l.Status == QuotaCanceled {
			canceled++
		}
	}
	switch {
	case canceled == len(r.Limits):
		return QuotaCanceled
	case undecided == 0:
		return QuotaProcessed
	case pending+canceled == len(r.Limits):
		return QuotaPending
	default:
		return QuotaProcessing
	}
}

// InsertQuotaRequest adds a request with its quotas.
func (s *Store) InsertQuotaRequest(ctx context.Context, tx *sql.Tx, r QuotaRequest) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO resourcemanager_quota_requests (id, resource_type, resource_id, status, created_by, created_at)
		VALUES ($1, $2, $3, $4, $5, $6)`, r.ID, r.On.Type, r.On.ID, string(r.Status), r.CreatedBy, sqldb.Micros(r.CreatedAt))
	if err != nil {
		return fmt.Errorf("insert quota request: %w", err)
	}
	for i, l := range r.Limits {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO resourcemanager_quota_request_limits
				(request_id, position, quota_id, desired, approved, status, message, modified_by)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			r.ID, i, l.QuotaID, l.Desired, l.Approved, string(l.Status), l.Message, l.ModifiedBy)
		if err != nil {
			return fmt.Errorf("insert quota request: %w", err)
		}
	}
	return nil
}

// UpdateQuotaRequest writes the statuses of a request and of its quotas.
func (s *Store) UpdateQuotaRequest(ctx context.Context, tx *sql.Tx, r QuotaRequest) error {
	_, err := tx.ExecContext(ctx, `UPDATE resourcemanager_quota_requests SET status = $2 WHERE id = $1`, r.ID, string(r.Status))
	if err != nil {
		return fmt.Errorf("update quota request: %w", err)
	}
	for _, l := range r.Limits {
		_, err := tx.ExecContext(ctx, `
			UPDATE resourcemanager_quota_request_limits SET approved = $3, status = $4, message = $5, modified_by = $6
			WHERE request_id = $1 AND quota_id = $2`, r.ID, l.QuotaID, l.Approved, string(l.Status), l.Message, l.ModifiedBy)
		if err != nil {
			return fmt.Errorf("update quota request: %w", err)
		}
	}
	return nil
}

// QuotaRequest reads a request. Fails: QUOTA_REQUEST_NOT_FOUND.
func (s *Store) QuotaRequest(ctx context.Context, q sqldb.Querier, requestID string) (QuotaRequest, error) {
	return s.quotaRequest(ctx, q, requestID, "")
}

// LockQuotaRequest is QuotaRequest that keeps other transactions from changing the
// request until this one ends.
func (s *Store) LockQuotaRequest(ctx context.Context, tx *sql.Tx, requestID string) (QuotaRequest, error) {
	return s.quotaRequest(ctx, tx, requestID, s.db.ForUpdate())
}

const quotaRequestColumns = `id, resource_type, resource_id, status, created_by, created_at`

func (s *Store) quotaRequest(ctx context.Context, q sqldb.Querier, requestID, suffix string) (QuotaRequest, error) {
	r, err := scanQuotaRequest(q.QueryRowContext(ctx, `
		SELECT `+quotaRequestColumns+` FROM resourcemanager_quota_requests WHERE id = $1`+suffix, requestID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return QuotaRequest{}, apierr.NotFound(ReasonQuotaRequestNotFound, "quota request %s not found", requestID)
	}
	if err != nil {
		return QuotaRequest{}, fmt.Errorf("get quota request: %w", err)
	}
	r.Limits, err = s.requestedLimits(ctx, q, r.ID)
	return r, err
}

func (s *Store) requestedLimits(ctx context.Context, q sqldb.Querier, requestID string) ([]RequestedLimit, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT quota_id, desired, approved, status, message, modified_by FROM resourcemanager_quota_request_limits
		WHERE request_id = $1 ORDER BY position`, requestID)
	if err != nil {
		return nil, fmt.Errorf("read quotas of a request: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	var all []RequestedLimit
	for rows.Next() {
		var l RequestedLimit
		if err := rows.Scan(&l.QuotaID, &l.Desired, &l.Approved, &l.Status, &l.Message, &l.ModifiedBy); err != nil {
			return nil, fmt.Errorf("read quotas of a request: %w", err)
		}
		all = append(all, l)
	}
	return all, rows.Err()
}

// RequestQuery narrows a list of requests.
type RequestQuery struct {
	On       authz.Resource // zero: of all resources
	Statuses []QuotaStatus  // empty: in any
}

// ListQuotaRequests reads at most limit requests that follow after, oldest first,
// without their quotas.
func (s *Store) ListQuotaRequests(ctx context.Context, query RequestQuery, after page.Position, limit int) ([]QuotaRequest, error) {
	text := `SELECT ` + quotaRequestColumns + ` FROM resourcemanager_quota_requests WHERE (created_at, id) > ($1, $2)`
	args := []any{after.Time, after.ID, limit}
	if query.On != (authz.Resource{}) {
		args = append(args, query.On.Type, query.On.ID)
		text += fmt.Sprintf(` AND resource_type = $%d AND resource_id = $%d`, len(args)-1, len(args))
	}
	for i, status := range query.Statuses {
		args = append(args, string(status))
		text += map[bool]string{true: ` AND status IN (`, false: `, `}[i == 0] + fmt.Sprintf(`$%d`, len(args))
	}
	if len(query.Statuses) > 0 {
		text += `)`
	}
	all, err := s.readQuotaRequests(ctx, text+` ORDER BY created_at, id LIMIT $3`, args...)
	if err != nil {
		return nil, fmt.Errorf("list quota requests: %w", err)
	}
	return all, nil
}

func (s *Store) readQuotaRequests(ctx context.Context, text string, args ...any) ([]QuotaRequest, error) {
	rows, err := s.db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	var all []QuotaRequest
	for rows.Next() {
		r, err := scanQuotaRequest(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// AskedFor returns which quota of a resource an undecided request asks for, of
// those given; "" for none.
func (s *Store) AskedFor(ctx context.Context, tx *sql.Tx, on authz.Resource, quotaIDs map[string]bool) (string, error) {
	rows, err := tx.QueryContext(ctx, `
		SELECT l.quota_id FROM resourcemanager_quota_requests r
		JOIN resourcemanager_quota_request_limits l ON l.request_id = r.id
		WHERE r.resource_type = $1 AND r.resource_id = $2 AND l.status IN ('PENDING', 'PROCESSING') ORDER BY l.quota_id`, on.Type, on.ID)
	if err != nil {
		return "", fmt.Errorf("list quotas asked for: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		var quotaID string
		if err := rows.Scan(&quotaID); err != nil {
			return "", fmt.Errorf("list quotas asked for: %w", err)
		}
		if quotaIDs[quotaID] {
			return quotaID, nil
		}
	}
	return "", rows.Err()
}

func scanQuotaRequest(scan func(...any) error) (QuotaRequest, error) {
	var r QuotaRequest
	var created int64
	err := scan(&r.ID, &r.On.Type, &r.On.ID, &r.Status, &r.CreatedBy, &created)
	r.CreatedAt = sqldb.Time(created)
	return r, err
}
