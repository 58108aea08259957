package partner

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// ingests is whoever measures.
func (w *world) ingests() partnerv1.UsageIngestServiceClient {
	return partnerv1.NewUsageIngestServiceClient(w.Unit("metering", Name))
}

func (w *world) reports() partnerv1.UsageServiceClient {
	return partnerv1.NewUsageServiceClient(w.Conn)
}

// ingest takes records, or fails the test.
func (w *world) ingest(records ...*partnerv1.UsageRecord) *partnerv1.IngestUsageResponse {
	w.t.Helper()
	return must(w.ingests().IngestUsage(w.t.Context(), &partnerv1.IngestUsageRequest{Records: records}))(w.t)
}

// now is the time of the world.
func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// link links a cloud and returns when that begins.
func (w *world) link(who person, accountID, cloudID string) time.Time {
	w.t.Helper()
	b := new(billingv1.BillableObjectBinding)
	w.done(must(w.public.BindBillableObject(w.as(who), bind(accountID, cloudID)))(w.t), b, nil)
	return b.GetEffectiveTime().AsTime()
}

// used is a record of what was used in a cloud.
func (w *world) used(id, cloudID string, at time.Time, cost string) *partnerv1.UsageRecord {
	return &partnerv1.UsageRecord{Id: id, CloudId: cloudID, UsedAt: timestamppb.New(at), ServiceId: "compute", SkuId: "cpu", Cost: cost}
}

// rows reads a whole report, in pages of a size.
func (w *world) rows(who person, req *partnerv1.GetUsageReportRequest) []*partnerv1.UsageRow {
	w.t.Helper()
	var all []*partnerv1.UsageRow
	req, _ = proto.Clone(req).(*partnerv1.GetUsageReportRequest) // what it was cloned from
	for {
		page := must(w.reports().GetUsageReport(w.as(who), req))(w.t)
		all = append(all, page.GetRows()...)
		if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
		if len(page.GetRows()) == 0 {
			w.t.Fatal("an empty page with a token")
		}
	}
}

// export reads a report as CSV.
func (w *world) export(who person, accountID string, f *partnerv1.UsageFilter) [][]string {
	w.t.Helper()
	stream := must(w.reports().ExportUsageReport(w.as(who), &partnerv1.ExportUsageReportRequest{BillingAccountId: accountID, Filter: f}))(w.t)
	var text strings.Builder
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return must(csv.NewReader(strings.NewReader(text.String())).ReadAll())(w.t)
		}
		must(part, err)(w.t)
		if part.GetContentType() != "text/csv" {
			w.t.Errorf("type %q", part.GetContentType())
		}
		text.Write(part.GetData())
		text.WriteString("\n")
	}
}

// Reports of random records in clouds that move between accounts are what single records
// add up to, to the last digit, whatever is asked for, however often and in whatever order
// the records came.
func TestPT35_PT42_PT43_US1_US2_ReportsEqualTheSumOfRecords(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner, plain := w.partner(ann), w.account(ann, partnerv1.BillingAccount_ACTIVE)
		y := &tally{t: t, partners: make(map[string]string), links: make(map[string][]link)}
		payers := []string{partner, plain}
		for range 3 {
			id := w.served(ann, partner)
			y.partners[id] = partner
			payers = append(payers, id)
		}
		clouds := []string{w.cloud(ann, "").GetId()}
		organization := must(w.clouds.Get(w.as(ann), &rmv1.GetCloudRequest{CloudId: clouds[0]}))(t).GetOrganizationId()
		for len(clouds) < 4 {
			clouds = append(clouds, w.cloud(ann, organization).GetId())
		}
		clouds = append(clouds, "cldofnobody")
		begin := w.now()
		for range 40 {
			w.ahead.Add(int64(time.Hour) + rand.Int64N(int64(47*time.Hour)))
			ann = w.again(ann)
			cloud, account := clouds[rand.IntN(4)], payers[rand.IntN(len(payers))]
			from := w.link(ann, account, cloud)
			if at := y.links[cloud]; len(at) == 0 || at[len(at)-1].account != account {
				y.links[cloud] = append(at, link{account, from})
			}
		}
		y.records = randomRecords(y, clouds, begin.Add(-48*time.Hour), w.now())
		w.ingestTwice(y.records)
		for range 60 {
			w.compare(ann, y, payers[rand.IntN(len(payers))], y.randomFilter(payers, clouds, begin, w.now()))
		}
	})
}

func TestUS1_ARecordIsCountedOnce(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		account, cloud := w.account(ann, partnerv1.BillingAccount_ACTIVE), w.cloud(ann, "").GetId()
		w.link(ann, account, cloud)
		at := w.now()
		first, second := w.used("a", cloud, at, "10"), w.used("b", cloud, at, "0.5")
		total := func() string {
			t.Helper()
			rows := w.rows(ann, &partnerv1.GetUsageReportRequest{BillingAccountId: account})
			if len(rows) != 1 {
				t.Fatalf("%d rows", len(rows))
			}
			return rows[0].GetAmounts().GetCost()
		}
		if r := w.ingest(first, second, first); r.GetAccepted() != 2 || r.GetKnown() != 1 || r.GetUnlinked() != 0 {
			t.Errorf("the first time %v", r)
		}
		same := w.used("a", cloud, at, "10.000") // the same number
		if r := w.ingest(same); r.GetAccepted() != 0 || r.GetKnown() != 1 {
			t.Errorf("the second time %v", r)
		}
		for what, other := range map[string]*partnerv1.UsageRecord{
			"another amount": w.used("a", cloud, at, "11"), "another time": w.used("a", cloud, at.Add(-time.Second), "10"),
			"another cloud": w.used("a", "cldofnobody", at, "10"),
			"a label":       {Id: "a", CloudId: cloud, UsedAt: first.GetUsedAt(), ServiceId: "compute", SkuId: "cpu", Cost: "10", Labels: map[string]string{"a": "b"}},
		} {
			_, err := w.ingests().IngestUsage(t.Context(), &partnerv1.IngestUsageRequest{Records: []*partnerv1.UsageRecord{w.used("new", cloud, at, "1"), other}})
			wantRefusal(t, what, err, codes.AlreadyExists, ReasonUsageConflict)
			if err != nil && !strings.Contains(err.Error(), ": a") {
				t.Errorf("%s: %v names no record", what, err)
			}
		}
		_, err := w.ingests().IngestUsage(t.Context(), &partnerv1.IngestUsageRequest{Records: []*partnerv1.UsageRecord{w.used("c", cloud, at, "1"), w.used("c", cloud, at, "2")}})
		wantRefusal(t, "two of an id", err, codes.AlreadyExists, ReasonUsageConflict)
		if got := total(); got != "10.5" {
			t.Errorf("the sum is %s", got)
		}
		w.restart()
		ann = w.again(ann)
		if r := w.ingest(first, w.used("d", cloud, at, "0.000000001")); r.GetAccepted() != 1 || r.GetKnown() != 1 {
			t.Errorf("after a restart %v", r)
		}
		if got := total(); got != "10.500000001" {
			t.Errorf("the sum is %s", got)
		}
	})
}

func TestPT34_WhatNobodyPaysForIsInNoReport(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		account, cloud := w.account(ann, partnerv1.BillingAccount_ACTIVE), w.cloud(ann, "").GetId()
		before := w.now()
		w.ahead.Add(int64(time.Hour))
		w.link(ann, account, cloud)
		if r := w.ingest(w.used("a", cloud, before, "10"), w.used("b", cloud, w.now(), "1")); r.GetUnlinked() != 1 || r.GetAccepted() != 2 {
			t.Errorf("taken: %v", r)
		}
		rows := w.rows(ann, &partnerv1.GetUsageReportRequest{BillingAccountId: account})
		if len(rows) != 1 || rows[0].GetAmounts().GetCost() != "1" || rows[0].GetAmounts().GetRecords() != 1 {
			t.Errorf("the report is %v", rows)
		}
		if r := w.ingest(w.used("a", cloud, before, "10")); r.GetKnown() != 1 { // also what nobody paid for is known
			t.Errorf("again: %v", r)
		}
		// From the moment on at which a link ends nobody pays.
		ann = w.again(ann)
		partner := w.partner(ann)
		sub := w.served(ann, partner)
		w.link(ann, sub, cloud)
		w.ahead.Add(int64(time.Hour))
		must(w.subaccounts.DeleteSubaccount(w.as(ann), &partnerv1.DeleteSubaccountRequest{SubaccountId: sub}))(t)
		end := w.links(ann, sub)[0].GetUnlinkedAt().AsTime()
		w.ahead.Add(int64(time.Hour))
		if r := w.ingest(w.used("c", cloud, end.Add(-time.Microsecond), "3"), w.used("d", cloud, end, "20"), w.used("e", cloud, w.now(), "20")); r.GetUnlinked() != 2 {
			t.Errorf("at the end of a link: %v", r)
		}
		rows = w.rows(ann, &partnerv1.GetUsageReportRequest{BillingAccountId: partner, Filter: &partnerv1.UsageFilter{
			Axis: partnerv1.UsageReport_SUBACCOUNT, FromDate: (dayOf(end) - 1).String(), ToDate: dayOf(w.now()).String(),
		}})
		if len(rows) != 1 || rows[0].GetId() != sub || rows[0].GetAmounts().GetCost() != "3" {
			t.Errorf("the report of the deleted is %v", rows)
		}
	})
}

func TestBadUsageRecords(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		good := w.used("a", "cld", w.now(), "1")
		for _, tt := range []struct {
			field string
			spoil func(*partnerv1.UsageRecord)
		}{
			{"records[0].id", func(r *partnerv1.UsageRecord) { r.Id = "" }},
			{"records[0].id", func(r *partnerv1.UsageRecord) { r.Id = strings.Repeat("x", 65) }},
			{"records[0].id", func(r *partnerv1.UsageRecord) { r.Id = "a b" }},
			{"records[0].used_at", func(r *partnerv1.UsageRecord) { r.UsedAt = nil }},
			{"records[0].used_at", func(r *partnerv1.UsageRecord) { r.UsedAt = timestamppb.New(w.now().Add(time.Hour)) }},
			{"records[0].used_at", func(r *partnerv1.UsageRecord) { r.UsedAt = timestamppb.New(w.now().AddDate(-2, 0, 0)) }},
			{"records[0].cloud_id", func(r *partnerv1.UsageRecord) { r.CloudId = "" }},
			{"records[0].service_id", func(r *partnerv1.UsageRecord) { r.ServiceId = "" }},
			{"records[0].sku_id", func(r *partnerv1.UsageRecord) { r.SkuId = strings.Repeat("x", 51) }},
			{"records[0].labels", func(r *partnerv1.UsageRecord) { r.Labels = map[string]string{"": "x"} }},
			{"records[0].cost", func(r *partnerv1.UsageRecord) { r.Cost = "1e3" }},
			{"records[0].cost", func(r *partnerv1.UsageRecord) { r.Cost = "0.0000000001" }},
			{"records[0].reward", func(r *partnerv1.UsageRecord) { r.Reward = "12345678901" }},
		} {
			bad, _ := proto.Clone(good).(*partnerv1.UsageRecord) // what it was cloned from
			bad.Id = "bad"
			tt.spoil(bad)
			_, err := w.ingests().IngestUsage(t.Context(), &partnerv1.IngestUsageRequest{Records: []*partnerv1.UsageRecord{bad, good}})
			wantRefusal(t, fmt.Sprint(bad), err, codes.InvalidArgument, tt.field)
		}
		if r := w.ingest(good); r.GetAccepted() != 1 {
			t.Errorf("a refused request left something: %v", r)
		}
		_, err := w.ingests().IngestUsage(t.Context(), &partnerv1.IngestUsageRequest{})
		wantRefusal(t, "no records", err, codes.InvalidArgument, "records")
		_, err = partnerv1.NewUsageIngestServiceClient(w.Unit("identity", Name)).IngestUsage(t.Context(), &partnerv1.IngestUsageRequest{Records: []*partnerv1.UsageRecord{good}})
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("another unit: %v", err)
		}
	})
}

func TestPT42_DaysAndLimitsOfReports(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		account := w.account(ann, partnerv1.BillingAccount_ACTIVE)
		for _, tt := range []struct {
			field  string
			filter *partnerv1.UsageFilter
		}{
			{"filter.to_date", &partnerv1.UsageFilter{FromDate: "2016-01-01", ToDate: "2025-12-31"}},
			{"filter.to_date", &partnerv1.UsageFilter{FromDate: "2025-01-01", ToDate: "2026-01-02"}},
			{"filter.to_date", &partnerv1.UsageFilter{FromDate: "2026-01-02", ToDate: "2026-01-01"}},
			{"filter.to_date", &partnerv1.UsageFilter{FromDate: "2026-01-02"}},
			{"filter.from_date", &partnerv1.UsageFilter{ToDate: "2026-01-02"}},
			{"filter.from_date", &partnerv1.UsageFilter{FromDate: "2026-02-30", ToDate: "2026-03-01"}},
			{"filter.from_date", &partnerv1.UsageFilter{FromDate: "yesterday", ToDate: "2026-03-01"}},
			{"filter.label_key", &partnerv1.UsageFilter{Axis: partnerv1.UsageReport_LABEL}},
			{"filter.label_key", &partnerv1.UsageFilter{LabelKey: "env"}},
			{"filter.labels[0]", &partnerv1.UsageFilter{Labels: []string{"env"}}},
		} {
			_, err := w.reports().GetUsageReport(w.as(ann), &partnerv1.GetUsageReportRequest{BillingAccountId: account, Filter: tt.filter})
			wantRefusal(t, fmt.Sprint(tt.filter), err, codes.InvalidArgument, tt.field)
			stream := must(w.reports().ExportUsageReport(w.as(ann), &partnerv1.ExportUsageReportRequest{BillingAccountId: account, Filter: tt.filter}))(t)
			_, err = stream.Recv()
			wantRefusal(t, fmt.Sprint("export ", tt.filter), err, codes.InvalidArgument, tt.field)
		}
		_, err := w.reports().GetUsageReport(w.as(ann), &partnerv1.GetUsageReportRequest{BillingAccountId: account, Filter: &partnerv1.UsageFilter{FromDate: "2016-01-01", ToDate: "2025-12-31"}})
		if err == nil || !strings.Contains(err.Error(), "366 days") {
			t.Errorf("a report over ten years: %v", err)
		}
		must(w.reports().GetUsageReport(w.as(ann), &partnerv1.GetUsageReportRequest{
			BillingAccountId: account, Filter: &partnerv1.UsageFilter{FromDate: "2024-01-01", ToDate: "2024-12-31"}, // a leap year
		}))(t)
		// What is not said is the month of today, whose days begin at UTC+3.
		resp := must(w.reports().GetUsageReport(w.as(ann), &partnerv1.GetUsageReportRequest{BillingAccountId: account}))(t)
		today := w.now().UTC().Add(3 * time.Hour)
		if want := today.Format("2006-01") + "-01"; resp.GetFromDate() != want || resp.GetToDate() != today.AddDate(0, 1, -today.Day()).Format(time.DateOnly) {
			t.Errorf("the report is from %s to %s", resp.GetFromDate(), resp.GetToDate())
		}
	})
}

// Nobody sees discounts, or what tells them, without the permission; personal data is in no
// report.
func TestPT23_PT43_PT45_WhatReportsShow(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		partner := w.partner(ann)
		sub := w.served(ann, partner)
		must(w.subaccounts.UpdateSubaccount(w.as(ann), &partnerv1.UpdateSubaccountRequest{SubaccountId: sub, Name: "=cmd()", ExternalId: "crm-7", Person: company}))(t)
		cloud := w.cloud(ann, "").GetId()
		w.link(ann, sub, cloud)
		r := w.used("a", cloud, w.now(), "10")
		r.Quantity, r.Discount, r.Reward, r.Adjustment = "3", "1", "0.5", "0.25"
		w.ingest(r)
		by := &partnerv1.UsageFilter{Axis: partnerv1.UsageReport_SUBACCOUNT}
		req := &partnerv1.GetUsageReportRequest{BillingAccountId: partner, Filter: by}
		for role, want := range map[string]int{ // 0 nothing, 1 cost, 2 all
			"viewer": 2, "accountant": 2, "editor": 2, "admin": 2, "varWithoutDiscounts": 1, "piiPartnerViewer": 2, "partnerAdmin": 2,
			"partnerViewer": 0, "partnerEditor": 0, "member": 0,
		} {
			who := w.person("who-" + strings.ToLower(role))
			w.grant(ann, typeAccount, partner, "billing.accounts."+role, who)
			if want == 0 {
				_, err := w.reports().GetUsageReport(w.as(who), req)
				wantRefusal(t, role, err, codes.PermissionDenied, "PERMISSION_DENIED")
				continue
			}
			resp := must(w.reports().GetUsageReport(w.as(who), req))(t)
			if len(resp.GetRows()) != 1 || resp.GetDiscountsHidden() != (want == 1) || resp.GetCurrency() != "RUB" {
				t.Errorf("%s sees %v", role, resp)
				continue
			}
			row := resp.GetRows()[0]
			full := &partnerv1.UsageAmounts{Cost: "10", Discount: "1", ClientPayable: "9", Reward: "0.5", Adjustment: "0.25", PartnerPayable: "8.75", Records: 1}
			if want == 1 {
				full = &partnerv1.UsageAmounts{Cost: "10", Records: 1}
			}
			if !proto.Equal(row.GetAmounts(), full) || row.GetId() != sub || row.GetName() != "=cmd()" || row.GetExternalId() != "crm-7" {
				t.Errorf("%s sees %v", role, row)
			}
			lines := w.export(who, partner, by)
			text := fmt.Sprint(lines)
			if len(lines) != 2 || lines[1][1] != "'=cmd()" || (want == 1) != (len(lines[0]) == 6) {
				t.Errorf("%s is given %v", role, lines)
			}
			for _, secret := range []string{company.GetEmail(), company.GetPhone(), "people.example"} {
				if strings.Contains(text, secret) || strings.Contains(resp.String(), secret) {
					t.Errorf("%s sees %s", role, secret)
				}
			}
		}
		// A role on one customer's account opens the report of that alone (PT-24).
		w.grant(ann, typeAccount, sub, "billing.accounts.viewer", bob)
		if rows := w.rows(bob, &partnerv1.GetUsageReportRequest{BillingAccountId: sub}); len(rows) != 1 || rows[0].GetAmounts().GetCost() != "10" {
			t.Errorf("of the subaccount %v", rows)
		}
		_, err := w.reports().GetUsageReport(w.as(bob), req)
		wantRefusal(t, "the partner's", err, codes.PermissionDenied, "PERMISSION_DENIED")
	})
}

// A move of a link and records of its moment follow one another: whatever the race, the
// report agrees with the links.
func TestBI4_UsageBesidesMovingLinks(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		y := &tally{t: t, links: make(map[string][]link)}
		payers := []string{w.account(ann, partnerv1.BillingAccount_ACTIVE), w.account(ann, partnerv1.BillingAccount_ACTIVE)}
		cloud := w.cloud(ann, "").GetId()
		w.link(ann, payers[0], cloud)
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		var mu sync.Mutex
		client := w.ingests()
		for n := range 3 {
			all.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					r := w.used(fmt.Sprintf("r-%d-%d", n, i), cloud, w.now().Truncate(time.Microsecond), "1")
					if _, err := client.IngestUsage(t.Context(), &partnerv1.IngestUsageRequest{Records: []*partnerv1.UsageRecord{r}}); err != nil {
						t.Errorf("ingest: %v", err)
					}
					mu.Lock()
					y.records = append(y.records, r)
					mu.Unlock()
				}
			})
		}
		for i := range 20 {
			w.link(ann, payers[(i+1)%2], cloud)
		}
		stop()
		all.Wait()
		for _, account := range payers {
			for _, l := range w.links(ann, account) {
				y.links[cloud] = append(y.links[cloud], link{account, l.GetLinkedAt().AsTime()})
			}
		}
		slices.SortFunc(y.links[cloud], func(a, b link) int { return a.from.Compare(b.from) })
		day := w.now().UTC().Add(3 * time.Hour)
		for _, account := range payers {
			w.compare(ann, y, account, &partnerv1.UsageFilter{FromDate: day.AddDate(0, 0, -1).Format(time.DateOnly), ToDate: day.Format(time.DateOnly)})
		}
	})
}
