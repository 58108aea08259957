package partner

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/decimal"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// Kinds of jobs.
const (
	jobBudgets    = "budgets"
	jobBudgetMail = "budget-mail"
)

// budgetLook is the payload of the job that compares budgets with what was used since a
// day.
type budgetLook struct {
	Budgets []string `json:"budgets"`
	Since   int64    `json:"since"`
}

// budgetMail is the payload of the job that tells people of one limit of a budget.
type budgetMail struct {
	Budget string `json:"budget"`
	Period int64  `json:"period"`
	Limit  int    `json:"limit"`
	Spent  string `json:"spent"`        // of a budget of the balance: what is on the account
	At     int64  `json:"at,omitempty"` // when a limit of the balance was reached, microseconds
}

// atOnce is when jobs are due that workers do, not the call that enqueues them.
var atOnce = time.Unix(1, 0)

// budgetsInJob is how many budgets one job looks at.
const budgetsInJob = 100

// lookLater enqueues the look at budgets in the transaction that takes usage.
func (s *Service) lookLater(ctx context.Context, tx *sql.Tx, ids []string, since Day) error {
	slices.Sort(ids)
	for part := range slices.Chunk(ids, budgetsInJob) {
		if _, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobBudgets, Payload: budgetLook{part, int64(since)}, NotBefore: atOnce}); err != nil {
			return err
		}
	}
	return nil
}

// lookAtBudgets is that job. Each limit that is spent is told once in each period (US-3).
func (s *Service) lookAtBudgets(ctx context.Context, job budgetLook) error {
	for _, budgetID := range job.Budgets {
		if err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
			return s.lookAt(ctx, tx, budgetID, Day(job.Since))
		}); err != nil && apierr.CodeOf(err) != codes.NotFound {
			return err
		}
	}
	s.jobs.Kick() // for the mails
	return nil
}

func (s *Service) lookAt(ctx context.Context, tx *sql.Tx, budgetID string, since Day) error {
	b, err := s.store.Budget(ctx, tx, budgetID, s.store.db.ForUpdate())
	if err != nil {
		return err
	}
	a, err := s.store.Account(ctx, tx, b.AccountID)
	if err != nil {
		return err
	}
	if b.Spec.GetBalanceBudget() != nil {
		return s.lookAtBalance(ctx, tx, b, a)
	}
	for _, period := range b.spans(since, dayOf(s.now())) {
		sum, err := s.spent(ctx, tx, b, a, period)
		if err != nil {
			return err
		}
		for _, l := range b.limits() {
			if sum.Cmp(l.amount) < 0 {
				continue
			}
			if err := s.pass(ctx, tx, b, a, period.from, l, sum); err != nil {
				return err
			}
		}
	}
	return nil
}

// spent is what a budget counts of a period.
func (s *Service) spent(ctx context.Context, tx *sql.Tx, b Budget, a Account, period span) (decimal.Decimal, error) {
	f := b.terms().GetFilter()
	r := Report{Account: a, From: period.from, To: period.to, Services: f.GetServiceIds()}
	for _, p := range f.GetCloudFoldersFilters() {
		r.Places = append(r.Places, place{p.GetCloudId(), p.GetFolderIds()})
	}
	lines, err := s.store.Lines(ctx, tx, r, page.Position{}, 1)
	if err != nil || len(lines) == 0 {
		return decimal.Decimal{}, err
	}
	return b.spent(lines[0].Amounts), nil
}

// pass records that a limit is spent, and has people told of it, the first time.
func (s *Service) pass(ctx context.Context, tx *sql.Tx, b Budget, a Account, period Day, l limit, sum decimal.Decimal) error {
	at := s.now()
	first, err := s.store.InsertAlert(ctx, tx, b.ID, period, l.number, at)
	if err != nil || !first {
		return err
	}
	mail := budgetMail{Budget: b.ID, Period: int64(period), Limit: l.number, Spent: sum.String()}
	details := map[string]any{"budget_id": b.ID, "period": period.String(), "limit": l.amount.String(), "spent": sum.String()}
	if b.Spec.GetBalanceBudget() != nil {
		mail.At = sqldb.Micros(at)
		details = map[string]any{"budget_id": b.ID, "limit": l.amount.String(), "balance": sum.String()}
	}
	if err := s.record(ctx, tx, a, event{name: eventBudgetPassed, status: audit.Done, details: details}); err != nil {
		return err
	}
	_, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobBudgetMail, Payload: mail, NotBefore: atOnce})
	return err
}

// sendBudgetMail hands the mail to notifications, once whatever is tried again: its id is
// that of the alert. Only who may see the budget is told (US-4).
func (s *Service) sendBudgetMail(ctx context.Context, job budgetMail) error {
	b, err := s.store.Budget(ctx, s.store.db, job.Budget, "")
	if err == nil && job.Limit >= len(b.limits()) {
		return nil
	}
	if err != nil {
		return err
	}
	a, err := s.store.Account(ctx, s.store.db, b.AccountID)
	if apierr.CodeOf(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	l := b.limits()[job.Limit]
	emails, err := s.whoMaySee(ctx, a, l.users)
	if err != nil || len(emails) == 0 {
		return err
	}
	n := &notificationv1.Notice{
		Id: fmt.Sprintf("budget:%s:%d:%d", b.ID, job.Period, job.Limit), Event: "budget.passed",
		Title:      "Budget " + shown(b.Spec.GetName()) + " of " + shown(a.Name),
		Recipients: &notificationv1.Notice_Addresses{Addresses: &notificationv1.Addresses{Emails: emails}},
	}
	if b.Spec.GetBalanceBudget() != nil {
		n.Id = fmt.Sprintf("budget:%s:balance:%d:%d", b.ID, job.At, job.Limit)
		n.Text = b.balanceNotice(a, l, job)
		n.Details = map[string]string{"billing_account_id": a.ID, "budget_id": b.ID, "limit": l.amount.String(), "balance": job.Spent}
		return s.notify(ctx, n)
	}
	what := map[bool]string{true: "expenses", false: "costs"}[b.Spec.GetExpenseBudget() != nil]
	n.Text = fmt.Sprintf(`The %s of the billing account %s (%s) since %s are %s %s.

That is more than %s of the budget %s, which is %s %s.
`, what, shown(a.Name), a.ID, Day(job.Period), job.Spent, a.Currency, l.text, shown(b.Spec.GetName()), b.terms().GetAmount(), a.Currency)
	n.Details = map[string]string{
		"billing_account_id": a.ID, "budget_id": b.ID, "period": Day(job.Period).String(), "limit": l.amount.String(), "spent": job.Spent,
	}
	return s.notify(ctx, n)
}

// whoMaySee are the addresses of those users who may see the budgets of an account now.
func (s *Service) whoMaySee(ctx context.Context, a Account, ids []string) (emails []string, err error) {
	known, err := s.users(ctx, union(nil, ids))
	if err != nil {
		return nil, err
	}
	for _, userID := range union(nil, ids) {
		user := known[userID]
		if user.GetEmail() == "" || user.GetState() != identityv1.SubjectEntry_ACTIVE {
			continue
		}
		may, err := s.userMay(ctx, userID, permBudgets, a.resource())
		if err != nil {
			return nil, fmt.Errorf("ask who may see a budget: %w", err)
		}
		if may {
			emails = append(emails, user.GetEmail())
		}
	}
	return emails, nil
}

// userMay asks whether a user holds a permission.
func (s *Service) userMay(ctx context.Context, userID, permission string, on authz.Resource) (bool, error) {
	_, err := s.checks.Authorize(server.AsUnit(ctx), &accessservicev2.AuthorizeRequest{
		Identity: &accessservicev2.AuthorizeRequest_Subject{Subject: &accessservicev2.Subject{
			Type: &accessservicev2.Subject_UserAccount_{UserAccount: &accessservicev2.Subject_UserAccount{Id: userID}},
		}},
		Permission: permission, ResourcePath: []*accessservicev2.Resource{{Type: on.Type, Id: on.ID}},
	})
	switch err := apierr.FromRPC(err); apierr.CodeOf(err) {
	case codes.OK:
		return true, nil
	case codes.PermissionDenied, codes.Unauthenticated, codes.NotFound:
		return false, nil
	default:
		return false, err
	}
}
