package partner

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/decimal"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// maxReferralLinks is how many links a partner has at most. **ours**
const maxReferralLinks = 1000

// commission is what a referral earns, in percents of what the referred pay (PT-3).
var commission = decimal.Decimal{Units: 10}

// ReferralLink is what a partner hands out (PT-3).
type ReferralLink struct {
	ID        string
	AccountID string
	Name      string
	Active    bool
	CreatedBy string
	CreatedAt time.Time
}

func (l ReferralLink) position() page.Position {
	return page.Position{Time: sqldb.Micros(l.CreatedAt), ID: l.ID}
}

func (l ReferralLink) proto() *partnerv1.ReferralLink {
	return &partnerv1.ReferralLink{
		Id: l.ID, BillingAccountId: l.AccountID, Name: l.Name, Active: l.Active, CreatedBy: l.CreatedBy, CreatedAt: timestamppb.New(l.CreatedAt),
	}
}

// referralService is our ReferralService.
type referralService struct {
	partnerv1.UnsafeReferralServiceServer // a missing method does not compile
	*Service
}

// ListReferralLinks lists the links of a partner, oldest first.
func (s *referralService) ListReferralLinks(ctx context.Context, req *partnerv1.ListReferralLinksRequest) (*partnerv1.ListReferralLinksResponse, error) {
	scope := []string{"referral links", req.GetBillingAccountId()}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	all, err := s.store.ReferralLinks(ctx, s.store.db, req.GetBillingAccountId(), after, size+1)
	if err != nil {
		return nil, err
	}
	fit, next, err := onPage(s.Service, all, size, ReferralLink.position, func(l ReferralLink) int { return proto.Size(l.proto()) }, scope...)
	if err != nil {
		return nil, err
	}
	resp := &partnerv1.ListReferralLinksResponse{NextPageToken: next}
	for _, l := range fit {
		resp.ReferralLinks = append(resp.ReferralLinks, l.proto())
	}
	return resp, nil
}

// CreateReferralLink makes a link (PT-3). Fails: NOT_A_PARTNER, REFERRAL_LINKS_TOO_MANY.
func (s *referralService) CreateReferralLink(ctx context.Context, req *partnerv1.CreateReferralLinkRequest) (*operationpb.Operation, error) {
	return s.writeNow(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		a, err := s.lockParticipant(ctx, tx, req.GetBillingAccountId(), referrals.takesPart)
		if err != nil {
			return op, err
		}
		n, err := s.store.count(ctx, tx, `SELECT COUNT(*) FROM partner_referral_links WHERE account_id = $1`, a.ID)
		if err != nil {
			return op, err
		}
		if n >= maxReferralLinks {
			return op, errTooManyLinks
		}
		l := ReferralLink{
			ID: id.New(id.ReferralLink), AccountID: a.ID, Name: req.GetName(), Active: true, CreatedBy: authn.FromContext(ctx).ID, CreatedAt: s.now(),
		}
		return s.putLink(ctx, tx, a, l, "Create referral link", eventReferralCreate)
	})
}

// UpdateReferralLink changes a link (PT-3). Fails: REFERRAL_LINK_NOT_FOUND, NOT_A_PARTNER.
func (s *referralService) UpdateReferralLink(ctx context.Context, req *partnerv1.UpdateReferralLinkRequest) (*operationpb.Operation, error) {
	settable := []string{"name", "active"}
	paths := req.GetUpdateMask().GetPaths()
	if len(paths) == 0 {
		paths = settable
	}
	for _, path := range paths {
		if !slices.Contains(settable, path) {
			return nil, apierr.InvalidField("update_mask", "%q is not a field that can be changed: name, active are", path)
		}
	}
	return s.writeNow(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		l, err := s.store.ReferralLink(ctx, tx, req.GetReferralLinkId())
		if err != nil {
			return op, err
		}
		a, err := s.lockParticipant(ctx, tx, l.AccountID, referrals.takesPart)
		if err != nil {
			return op, err
		}
		if l, err = s.store.ReferralLink(ctx, tx, l.ID); err != nil { // as it is under the lock
			return op, err
		}
		if slices.Contains(paths, "name") && req.GetName() != "" {
			l.Name = req.GetName()
		}
		if slices.Contains(paths, "active") {
			l.Active = req.GetActive()
		}
		return s.putLink(ctx, tx, a, l, "Update referral link", eventReferralUpdate)
	})
}

// putLink writes a link, and the operation and the record of that.
func (s *Service) putLink(ctx context.Context, tx *sql.Tx, a Account, l ReferralLink, verb, name string) (op operation.Operation, err error) {
	if err := s.store.PutReferralLink(ctx, tx, l); err != nil {
		return op, err
	}
	if op, err = s.begun(ctx, tx, a.ID, operation.New{
		Description: verb, ViewPermission: "billing.referralLinks.get", Response: l.proto(),
		Metadata: &partnerv1.ReferralLinkMetadata{ReferralLinkId: l.ID, BillingAccountId: a.ID},
	}); err != nil {
		return op, err
	}
	return op, s.record(ctx, tx, a, event{
		name: name, status: audit.Done, permission: permReferralUpdate,
		details: map[string]any{"operation_id": op.ID, "referral_link_id": l.ID, "active": l.Active},
	})
}

// ListReferralAccruals lists what the links of a partner have earned (PT-3).
func (s *referralService) ListReferralAccruals(ctx context.Context, req *partnerv1.ListReferralAccrualsRequest) (*partnerv1.ListReferralAccrualsResponse, error) {
	entries, next, a, balance, err := s.entries(ctx, referrals, req.GetBillingAccountId(), req)
	if err != nil {
		return nil, err
	}
	return &partnerv1.ListReferralAccrualsResponse{Entries: entries, NextPageToken: next, Balance: balance.String(), Currency: a.Currency}, nil
}

// WithdrawReferral withdraws a part of the commission (US-5). Fails: NOT_A_PARTNER,
// BALANCE_TOO_SMALL.
func (s *referralService) WithdrawReferral(ctx context.Context, req *partnerv1.WithdrawReferralRequest) (*operationpb.Operation, error) {
	return s.withdraw(ctx, referrals, req)
}

// resolveReferralLink leads from a link to its account.
func (s *Service) resolveReferralLink(ctx context.Context, linkID string) (authz.Resource, error) {
	l, err := s.store.ReferralLink(ctx, s.store.db, linkID)
	return accountResource(l.AccountID), err
}

const linkFields = `id, account_id, name, active, created_by, created_at`

// PutReferralLink adds a link, or changes name and active of one that is there.
func (s *Store) PutReferralLink(ctx context.Context, tx *sql.Tx, l ReferralLink) error {
	active := int64(0)
	if l.Active {
		active = 1
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO partner_referral_links (`+linkFields+`) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, active = excluded.active`,
		l.ID, l.AccountID, l.Name, active, l.CreatedBy, sqldb.Micros(l.CreatedAt))
	if err != nil {
		return fmt.Errorf("put referral link: %w", err)
	}
	return nil
}

// ReferralLink reads a link. Fails: REFERRAL_LINK_NOT_FOUND.
func (s *Store) ReferralLink(ctx context.Context, q sqldb.Querier, linkID string) (ReferralLink, error) {
	l, err := scanReferralLink(q.QueryRowContext(ctx, `SELECT `+linkFields+` FROM partner_referral_links WHERE id = $1`, linkID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return l, errReferralLinkNotFound(linkID)
	}
	if err != nil {
		return l, fmt.Errorf("get referral link: %w", err)
	}
	return l, nil
}

// ReferralLinks reads at most limit links of an account that follow after, oldest first.
func (s *Store) ReferralLinks(ctx context.Context, q sqldb.Querier, accountID string, after page.Position, limit int) (all []ReferralLink, err error) {
	rows, err := q.QueryContext(ctx, `
		SELECT `+linkFields+` FROM partner_referral_links
		WHERE account_id = $1 AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4`, accountID, after.Time, after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("list referral links: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		l, err := scanReferralLink(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list referral links: %w", err)
		}
		all = append(all, l)
	}
	return all, rows.Err()
}

func scanReferralLink(scan func(...any) error) (l ReferralLink, err error) {
	var active, created int64
	err = scan(&l.ID, &l.AccountID, &l.Name, &active, &l.CreatedBy, &created)
	l.Active, l.CreatedAt = active == 1, sqldb.Time(created)
	return l, err
}
