package resourcemanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
)

// installation stands for the id of a resource where a default of the whole
// installation is meant.
const installation = ""

// limits is bindery.quota.v1.LimitService: what the other units are told.
type limits struct {
	quotav1.UnsafeLimitServiceServer
	*Service
}

// GetLimits returns limits in the order asked for. Fails: QUOTA_NOT_FOUND.
func (s *limits) GetLimits(ctx context.Context, req *quotav1.GetLimitsRequest) (*quotav1.GetLimitsResponse, error) {
	resp := new(quotav1.GetLimitsResponse)
	for _, quotaID := range req.GetQuotaIds() {
		q, err := s.quotaOn(quotaID, req.GetResource().GetType())
		if err != nil {
			return nil, err
		}
		limit, err := s.store.Limit(ctx, s.store.db, q, req.GetResource().GetId())
		if err != nil {
			return nil, err
		}
		resp.Limits = append(resp.Limits, &quotav1.Limit{QuotaId: quotaID, Limit: limit})
	}
	return resp, nil
}

// quotaOn returns a quota that lives on resources of a type. Fails:
// QUOTA_NOT_FOUND.
func (s *Service) quotaOn(quotaID, resourceType string) (catalog.Quota, error) {
	q, ok := s.catalog.Quota(quotaID)
	if !ok || q.On != resourceType {
		return catalog.Quota{}, quota.NotFound(quotaID, resourceType)
	}
	return q, nil
}

// checkQuota refuses when a resource, whose use of a quota the caller has locked
// and counted, has no room for one more (QL-2).
func (s *Service) checkQuota(ctx context.Context, tx *sql.Tx, quotaID, resourceID string, usage int64) error {
	q, ok := s.catalog.Quota(quotaID)
	if !ok {
		return fmt.Errorf("quota %q is not in the catalogue", quotaID)
	}
	limit, err := s.store.Limit(ctx, tx, q, resourceID)
	if err != nil {
		return err
	}
	return quota.Exceeded(quotaID, quota.Resource{Type: q.On, ID: resourceID}, limit, usage, 1)
}

// usage counts what this unit owns of a quota, for the kit's UsageService.
func (s *Service) usage() map[string]quota.Usage {
	return map[string]quota.Usage{
		catalog.QuotaClouds: func(ctx context.Context, id string) (int64, error) {
			return s.store.CountIn(ctx, s.store.db, cloud, id)
		},
		catalog.QuotaFolders: func(ctx context.Context, id string) (int64, error) {
			return s.store.CountIn(ctx, s.store.db, folder, id)
		},
		catalog.QuotaOrganizations: func(ctx context.Context, id string) (int64, error) {
			return s.store.CountOrganizationsOf(ctx, s.store.db, id)
		},
	}
}

// Limit reads the limit of a resource: its own, or the installation's default, or
// that of the catalogue.
func (s *Store) Limit(ctx context.Context, q sqldb.Querier, of catalog.Quota, resourceID string) (limit int64, err error) {
	err = q.QueryRowContext(ctx, `
		SELECT value FROM resourcemanager_quota_limits
		WHERE quota_id = $1 AND resource_id IN ($2, '') ORDER BY resource_id DESC LIMIT 1`, of.ID, resourceID).Scan(&limit)
	if errors.Is(err, sql.ErrNoRows) {
		return of.Limit, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read limit %s: %w", of.ID, err)
	}
	return limit, nil
}

// SetLimit changes the limit of a resource, or the installation's default.
func (s *Store) SetLimit(ctx context.Context, tx *sql.Tx, quotaID, resourceID string, limit int64) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO resourcemanager_quota_limits (quota_id, resource_id, value) VALUES ($1, $2, $3)
		ON CONFLICT (quota_id, resource_id) DO UPDATE SET value = excluded.value`, quotaID, resourceID, limit)
	if err != nil {
		return fmt.Errorf("set limit %s: %w", quotaID, err)
	}
	return nil
}

// ResetLimit takes a change back; one that was not made changes nothing.
func (s *Store) ResetLimit(ctx context.Context, tx *sql.Tx, quotaID, resourceID string) error {
	_, err := tx.ExecContext(ctx, `
		DELETE FROM resourcemanager_quota_limits WHERE quota_id = $1 AND resource_id = $2`, quotaID, resourceID)
	if err != nil {
		return fmt.Errorf("reset limit %s: %w", quotaID, err)
	}
	return nil
}
