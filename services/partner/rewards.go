package partner

import (
	"context"
	"database/sql"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/decimal"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Permissions on rewards.
const (
	permRebates          = "billing.partnerRebates.get"
	permRebateWithdraw   = "billing.partnerRebates.withdraw"
	permReferrals        = "billing.referrals.get"
	permReferralWithdraw = "billing.referrals.withdraw"
	permReferralUpdate   = "billing.referralLinks.update"
)

// ledger is one of the two accounts of what a partner has earned.
type ledger struct {
	name       string // as it is stored
	view       string // permission to see an entry
	withdraw   string // permission to withdraw
	verb       string // description of that operation
	event      string // of that
	takesPart  func(Programs) bool
	isReferral bool
}

// The ledgers: rebates of any partner (PT-8), and commission of one who refers (PT-3).
var (
	rebates = ledger{
		name: "REBATE", view: permRebates, withdraw: permRebateWithdraw, verb: "Withdraw rebate", event: eventRebateWithdraw,
		takesPart: func(p Programs) bool { return p != Programs{} },
	}
	referrals = ledger{
		name: "REFERRAL", view: permReferrals, withdraw: permReferralWithdraw, verb: "Withdraw referral commission", event: eventReferralWithdraw,
		takesPart: func(p Programs) bool { return p.Referral }, isReferral: true,
	}
)

// Entry is one line of a ledger. Amount is below zero for a withdrawal.
type Entry struct {
	ID        string
	AccountID string
	Ledger    string
	Amount    decimal.Decimal
	Base      string // of commission: what it is a part of, as it was sent; "" elsewhere
	LinkID    string
	Comment   string
	CreatedBy string
	CreatedAt int64 // microseconds
}

func (e Entry) position() page.Position { return page.Position{Time: e.CreatedAt, ID: e.ID} }

func (e Entry) proto() *partnerv1.RewardEntry {
	p := &partnerv1.RewardEntry{
		Id: e.ID, Kind: partnerv1.RewardEntry_ACCRUAL, Amount: e.Amount.String(), Comment: e.Comment, ReferralLinkId: e.LinkID,
		CreatedBy: e.CreatedBy, CreatedAt: timestamppb.New(sqldb.Time(e.CreatedAt)),
	}
	if e.Amount.Sign() < 0 {
		p.Kind, p.Amount = partnerv1.RewardEntry_WITHDRAWAL, decimal.Decimal{}.Sub(e.Amount).String()
	}
	return p
}

// rewards is our RewardService.
type rewards struct {
	partnerv1.UnsafeRewardServiceServer // a missing method does not compile
	*Service
}

// ListRebates lists the rebates of a partner (PT-8).
func (s *rewards) ListRebates(ctx context.Context, req *partnerv1.ListRebatesRequest) (*partnerv1.ListRebatesResponse, error) {
	entries, next, a, balance, err := s.entries(ctx, rebates, req.GetBillingAccountId(), req)
	if err != nil {
		return nil, err
	}
	return &partnerv1.ListRebatesResponse{Entries: entries, NextPageToken: next, Balance: balance.String(), Currency: a.Currency}, nil
}

// WithdrawRebate withdraws a part of the rebates (US-5). Fails: NOT_A_PARTNER,
// BALANCE_TOO_SMALL.
func (s *rewards) WithdrawRebate(ctx context.Context, req *partnerv1.WithdrawRebateRequest) (*operationpb.Operation, error) {
	return s.withdraw(ctx, rebates, req)
}

// entries reads one page of a ledger, newest first, and what is left in it.
func (s *Service) entries(ctx context.Context, l ledger, accountID string, req access.PageRequest) (all []*partnerv1.RewardEntry, next string, a Account, balance decimal.Decimal, err error) {
	if a, err = s.store.Account(ctx, s.store.db, accountID); err != nil {
		return nil, "", a, balance, err
	}
	scope := []string{"ledger", l.name, accountID}
	tokens := s.pages.Long()
	after, err := tokens.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", a, balance, err
	}
	size := page.Size(req.GetPageSize())
	var rows []Entry
	if err := sqldb.Snapshot(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		if balance, err = s.store.Balance(ctx, tx, l, accountID); err != nil {
			return err
		}
		rows, err = s.store.Entries(ctx, tx, l, accountID, after, size+1)
		return err
	}); err != nil {
		return nil, "", a, balance, err
	}
	for _, e := range rows[:min(len(rows), size)] {
		all = append(all, e.proto())
	}
	if fit := page.Fit(len(all), func(i int) int { return proto.Size(all[i]) }); fit < len(rows) {
		all = all[:fit]
		next, err = tokens.Seal(rows[fit-1].position(), scope...)
	}
	return all, next, a, balance, err
}

// withdrawal is a request to withdraw.
type withdrawal interface {
	GetBillingAccountId() string
	GetAmount() string
	GetComment() string
}

// withdraw books a withdrawal, of no more than there is (US-5). Fails: NOT_A_PARTNER,
// BALANCE_TOO_SMALL.
func (s *Service) withdraw(ctx context.Context, l ledger, req withdrawal) (*operationpb.Operation, error) {
	amount, err := positive("amount", req.GetAmount())
	if err != nil {
		return nil, err
	}
	return s.writeNow(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		a, err := s.lockParticipant(ctx, tx, req.GetBillingAccountId(), l.takesPart)
		if err != nil {
			return op, err
		}
		balance, err := s.store.Balance(ctx, tx, l, a.ID)
		if err != nil {
			return op, err
		}
		if balance.Cmp(amount) < 0 {
			return op, errBalanceTooSmall(balance, a.Currency)
		}
		e := Entry{
			ID: id.New(id.Withdrawal), AccountID: a.ID, Ledger: l.name, Amount: decimal.Decimal{}.Sub(amount), Comment: req.GetComment(),
			CreatedBy: authn.FromContext(ctx).ID, CreatedAt: sqldb.Micros(s.now()),
		}
		if err := s.store.InsertEntry(ctx, tx, e); err != nil {
			return op, err
		}
		if op, err = s.begun(ctx, tx, a.ID, operation.New{
			Description: l.verb, ViewPermission: l.view, Response: e.proto(),
			Metadata: &partnerv1.RewardMetadata{EntryId: e.ID, BillingAccountId: a.ID},
		}); err != nil {
			return op, err
		}
		return op, s.record(ctx, tx, a, event{
			name: l.event, status: audit.Done, permission: l.withdraw,
			details: map[string]any{"operation_id": op.ID, "entry_id": e.ID, "amount": amount.String()},
		})
	})
}

// lockParticipant locks the account of a partner that takes part in something. Fails:
// NOT_A_PARTNER (PT-2).
func (s *Service) lockParticipant(ctx context.Context, tx *sql.Tx, accountID string, takesPart func(Programs) bool) (Account, error) {
	a, err := s.lockLiving(ctx, tx, accountID)
	if err != nil {
		return a, err
	}
	programs, err := s.store.Partner(ctx, tx, a.ID)
	if err == nil && (!takesPart(programs) || a.State != Active) {
		err = errNotAPartner
	}
	return a, err
}

// positive reads an amount of more than zero.
func positive(field, text string) (decimal.Decimal, error) {
	d, err := decimal.Parse(text)
	if err == nil && d.Sign() > 0 {
		return d, nil
	}
	return d, apierr.InvalidField(field, "%v, and more than zero", decimal.ErrForm)
}

// ListSpecializations lists the specializations of a partner, oldest first.
func (s *rewards) ListSpecializations(ctx context.Context, req *partnerv1.ListSpecializationsRequest) (*partnerv1.ListSpecializationsResponse, error) {
	scope := []string{"specializations", req.GetBillingAccountId()}
	tokens := s.pages.Long()
	after, err := tokens.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	all, err := s.store.Specializations(ctx, s.store.db, req.GetBillingAccountId(), after, size+1)
	if err != nil {
		return nil, err
	}
	resp := new(partnerv1.ListSpecializationsResponse)
	for _, x := range all[:min(len(all), size)] {
		resp.Specializations = append(resp.Specializations, x.proto())
	}
	if len(all) > size {
		resp.NextPageToken, err = tokens.Seal(all[size-1].position(), scope...)
	}
	return resp, err
}

// ListBonuses lists what came off the invoices of a partner (PT-8, PT-45).
func (s *rewards) ListBonuses(ctx context.Context, req *partnerv1.ListBonusesRequest) (*partnerv1.ListBonusesResponse, error) {
	a, err := s.store.Account(ctx, s.store.db, req.GetBillingAccountId())
	if err != nil {
		return nil, err
	}
	r := Report{Account: a, Axis: partnerv1.UsageReport_SUBACCOUNT, Period: partnerv1.UsageReport_MONTH}
	if r.From, r.To, err = s.months(req.GetFromDate(), req.GetToDate()); err != nil {
		return nil, err
	}
	scope := []string{"bonuses", a.ID, r.From.String(), r.To.String()}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	lines, err := s.store.Lines(ctx, s.store.db, r, after, size+1)
	if err != nil {
		return nil, err
	}
	fit, next, err := onPage(s.Service, lines, size, Line.position, func(l Line) int { return proto.Size(l.bonus()) }, scope...)
	if err != nil {
		return nil, err
	}
	resp := &partnerv1.ListBonusesResponse{NextPageToken: next, Currency: a.Currency}
	for _, l := range fit {
		resp.Bonuses = append(resp.Bonuses, l.bonus())
	}
	return resp, nil
}

// months reads months by any of their days: at most twelve, or the month of today.
func (s *Service) months(from, to string) (first, last Day, err error) {
	if first, last, err = s.days("", from, to); err != nil {
		return 0, 0, err
	}
	first, last = first.month(), last.monthEnd()
	if last-first+1 > maxReportDays {
		return 0, 0, apierr.InvalidField("to_date", "at most twelve months are listed: ask for a year at a time")
	}
	return first, last, nil
}

func (l Line) bonus() *partnerv1.Bonus {
	return &partnerv1.Bonus{
		SubaccountId: l.ID, Name: l.Name, Month: l.From.String(), Consumption: l.client().String(), Reward: l.Reward.String(),
	}
}
