package partner

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/server"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

func (w *world) rewards() partnerv1.RewardServiceClient {
	return partnerv1.NewRewardServiceClient(w.Conn)
}

func (w *world) referrals() partnerv1.ReferralServiceClient {
	return partnerv1.NewReferralServiceClient(w.Conn)
}

// moneyDesk is the operator's door to money.
func (w *world) moneyDesk() partnerv1.MoneyOperatorServiceClient {
	w.t.Helper()
	socket, err := server.DialOperator(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = socket.Close() }) // the test is over
	return partnerv1.NewMoneyOperatorServiceClient(socket)
}

// accrue has the operator book something once.
func (w *world) accrue(accountID, linkID, amount string) *partnerv1.RewardEntry {
	w.t.Helper()
	return must(w.moneyDesk().PostAccrual(w.t.Context(), &partnerv1.PostAccrualRequest{
		Id: "accrual-" + accountID + "-" + linkID, BillingAccountId: accountID, ReferralLinkId: linkID, Amount: amount,
	}))(w.t)
}

// refers puts an account into both programs.
func (w *world) refers(accountID string) {
	w.t.Helper()
	w.programs(accountID, partnerv1.Partner_VAR, partnerv1.Partner_REFERRAL)
}

func (w *world) referralLink(by person, accountID string) string {
	w.t.Helper()
	l := new(partnerv1.ReferralLink)
	w.done(must(w.referrals().CreateReferralLink(w.as(by), &partnerv1.CreateReferralLinkRequest{BillingAccountId: accountID, Name: "blog"}))(w.t), l, nil)
	return l.GetId()
}

func TestPT8_US5_US6_Rebates(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner, plain := w.partner(ann), w.account(ann, partnerv1.BillingAccount_ACTIVE)
		history := func() *partnerv1.ListRebatesResponse {
			t.Helper()
			return must(w.rewards().ListRebates(w.as(ann), &partnerv1.ListRebatesRequest{BillingAccountId: partner}))(t)
		}
		withdraw := func(accountID, amount string) error {
			_, err := w.rewards().WithdrawRebate(w.as(ann), &partnerv1.WithdrawRebateRequest{BillingAccountId: accountID, Amount: amount, Comment: "for a project"})
			return err
		}
		wantRefusal(t, "nothing was earned", withdraw(partner, "0.000000001"), codes.FailedPrecondition, ReasonBalanceTooSmall)
		wantRefusal(t, "no partner", withdraw(plain, "1"), codes.PermissionDenied, ReasonNotAPartner)
		for _, amount := range []string{"", "0", "-1", "1e2", "0.0000000001"} {
			wantRefusal(t, "amount "+amount, withdraw(partner, amount), codes.InvalidArgument, "amount")
		}
		post := func(id, amount string) error {
			_, err := w.moneyDesk().PostAccrual(t.Context(), &partnerv1.PostAccrualRequest{Id: id, BillingAccountId: partner, Amount: amount, Comment: "specialization"})
			return err
		}
		for range 2 { // the second is known
			must(0, post("june", "100.25"))(t)
		}
		must(0, post("july", "0.75"))(t)
		wantRefusal(t, "another amount", post("june", "100.26"), codes.AlreadyExists, ReasonAccrualConflict)
		if h := history(); h.GetBalance() != "101" || len(h.GetEntries()) != 2 || h.GetEntries()[0].GetId() != "july" || h.GetCurrency() != "RUB" {
			t.Errorf("the history is %v", h)
		}
		e := new(partnerv1.RewardEntry)
		w.done(must(w.rewards().WithdrawRebate(w.as(ann), &partnerv1.WithdrawRebateRequest{BillingAccountId: partner, Amount: "1.5"}))(t), e, new(partnerv1.RewardMetadata))
		if e.GetAmount() != "1.5" || e.GetKind() != partnerv1.RewardEntry_WITHDRAWAL || e.GetCreatedBy() != ann.id {
			t.Errorf("withdrawn: %v", e)
		}
		// Many at once take no more than there is.
		var all sync.WaitGroup
		var mu sync.Mutex
		taken := 0
		for range 12 {
			all.Go(func() {
				if err := withdraw(partner, "19.9"); err == nil {
					mu.Lock()
					taken++
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if h := history(); taken != 5 || h.GetBalance() != "0" || len(h.GetEntries()) != 8 {
			t.Errorf("%d were withdrawn, %s is left, %d entries", taken, h.GetBalance(), len(h.GetEntries()))
		}
		var pages int
		for req := (&partnerv1.ListRebatesRequest{BillingAccountId: partner, PageSize: 3}); ; pages++ {
			page := must(w.rewards().ListRebates(w.as(ann), req))(t)
			if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		if pages != 2 {
			t.Errorf("%d more pages", pages)
		}
		w.programs(partner)
		wantRefusal(t, "a partner no more", withdraw(partner, "1"), codes.PermissionDenied, ReasonNotAPartner)
	})
}

func TestPT3_ReferralLinks(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner, other := w.partner(ann), w.partner(ann)
		_, err := w.referrals().CreateReferralLink(w.as(ann), &partnerv1.CreateReferralLinkRequest{BillingAccountId: partner, Name: "blog"})
		wantRefusal(t, "another program", err, codes.PermissionDenied, ReasonNotAPartner)
		w.refers(partner)
		w.refers(other)
		link := w.referralLink(ann, partner)
		post := func(id, accountID, linkID, amount string) error {
			_, err := w.moneyDesk().PostAccrual(t.Context(), &partnerv1.PostAccrualRequest{Id: id, BillingAccountId: accountID, ReferralLinkId: linkID, Amount: amount})
			return err
		}
		must(0, post("june", partner, link, "123.45"))(t)
		wantRefusal(t, "somebody else's link", post("a", other, link, "1"), codes.NotFound, ReasonReferralNotFound)
		wantRefusal(t, "no link", post("b", partner, "rflx", "1"), codes.NotFound, ReasonReferralNotFound)
		update := func(req *partnerv1.UpdateReferralLinkRequest) *partnerv1.ReferralLink {
			t.Helper()
			l := new(partnerv1.ReferralLink)
			req.ReferralLinkId = link
			w.done(must(w.referrals().UpdateReferralLink(w.as(ann), req))(t), l, new(partnerv1.ReferralLinkMetadata))
			return l
		}
		if l := update(&partnerv1.UpdateReferralLinkRequest{UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}}, Name: "site"}); l.GetName() != "site" || !l.GetActive() {
			t.Errorf("renamed: %v", l)
		}
		if l := update(&partnerv1.UpdateReferralLinkRequest{UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"active"}}}); l.GetName() != "site" || l.GetActive() {
			t.Errorf("switched off: %v", l)
		}
		wantRefusal(t, "a link that is off", post("c", partner, link, "1"), codes.FailedPrecondition, ReasonReferralNotActive)
		_, err = w.referrals().UpdateReferralLink(w.as(ann), &partnerv1.UpdateReferralLinkRequest{ReferralLinkId: link, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"id"}}})
		wantRefusal(t, "the id", err, codes.InvalidArgument, "update_mask")
		_, err = w.referrals().UpdateReferralLink(w.as(ann), &partnerv1.UpdateReferralLinkRequest{ReferralLinkId: "rflx"})
		wantRefusal(t, "no link", err, codes.NotFound, ReasonReferralNotFound)
		h := must(w.referrals().ListReferralAccruals(w.as(ann), &partnerv1.ListReferralAccrualsRequest{BillingAccountId: partner}))(t)
		if h.GetBalance() != "12.345" || len(h.GetEntries()) != 1 || h.GetEntries()[0].GetReferralLinkId() != link {
			t.Errorf("earned: %v", h)
		}
		withdraw := func(amount string) error {
			_, err := w.referrals().WithdrawReferral(w.as(ann), &partnerv1.WithdrawReferralRequest{BillingAccountId: partner, Amount: amount})
			return err
		}
		wantRefusal(t, "more than there is", withdraw("12.346"), codes.FailedPrecondition, ReasonBalanceTooSmall)
		must(0, withdraw("12.345"))(t)
		if links := must(w.referrals().ListReferralLinks(w.as(ann), &partnerv1.ListReferralLinksRequest{BillingAccountId: partner}))(t); len(links.GetReferralLinks()) != 1 {
			t.Errorf("links: %v", links)
		}
		if rebates := must(w.rewards().ListRebates(w.as(ann), &partnerv1.ListRebatesRequest{BillingAccountId: partner}))(t); len(rebates.GetEntries()) != 0 || rebates.GetBalance() != "0" {
			t.Errorf("commission is among rebates: %v", rebates)
		}
	})
}

func TestPT8_Specializations(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner, plain := w.partner(ann), w.account(ann, partnerv1.BillingAccount_ACTIVE)
		set := func(accountID, name string, revoked bool) error {
			_, err := w.moneyDesk().SetSpecialization(t.Context(), &partnerv1.SetSpecializationRequest{BillingAccountId: accountID, Name: name, Revoked: revoked})
			return err
		}
		wantRefusal(t, "no partner", set(plain, "Data", false), codes.PermissionDenied, ReasonNotAPartner)
		for _, step := range []struct {
			name    string
			revoked bool
		}{{"Data", false}, {"Data", false}, {"Security", false}, {"Data", true}, {"Data", true}, {"Data", false}, {"None", true}} {
			must(0, set(partner, step.name, step.revoked))(t)
			w.ahead.Add(int64(time.Second))
		}
		var got []string
		for req := (&partnerv1.ListSpecializationsRequest{BillingAccountId: partner, PageSize: 1}); ; {
			page := must(w.rewards().ListSpecializations(w.as(ann), req))(t)
			for _, x := range page.GetSpecializations() {
				got = append(got, fmt.Sprint(x.GetName(), " ", x.GetRevokedAt() == nil))
			}
			if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		if fmt.Sprint(got) != "[Data false Security true Data true]" {
			t.Errorf("specializations %v", got)
		}
	})
}

func TestPT45_Bonuses(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner := w.partner(ann)
		sub := w.served(ann, partner)
		cloud := w.cloud(ann, "").GetId()
		w.link(ann, sub, cloud)
		var months []string
		for i := range 3 {
			at := w.now()
			r := w.used(fmt.Sprint("r", i), cloud, at, "10")
			r.Discount, r.Reward = "1", fmt.Sprintf("0.%d", i+1)
			w.ingest(r)
			months = append(months, at.UTC().Add(3*time.Hour).Format("2006-01")+"-01")
			w.ahead.Add(int64(31 * 24 * time.Hour))
		}
		ann = w.again(ann)
		req := &partnerv1.ListBonusesRequest{BillingAccountId: partner, FromDate: months[0], ToDate: months[2], PageSize: 2}
		var got []*partnerv1.Bonus
		for {
			page := must(w.rewards().ListBonuses(w.as(ann), req))(t)
			got = append(got, page.GetBonuses()...)
			if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		if len(got) != 3 {
			t.Fatalf("bonuses %v", got)
		}
		for i, b := range got {
			if b.GetSubaccountId() != sub || b.GetName() != "Customer" || b.GetMonth() != months[i] || b.GetConsumption() != "9" || b.GetReward() != fmt.Sprintf("0.%d", i+1) {
				t.Errorf("bonus of %s: %v", months[i], b)
			}
		}
		_, err := w.rewards().ListBonuses(w.as(ann), &partnerv1.ListBonusesRequest{BillingAccountId: partner, FromDate: "2020-01-01", ToDate: "2021-01-31"})
		wantRefusal(t, "thirteen months", err, codes.InvalidArgument, "to_date")
	})
}
