package partner

import (
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	recordsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/usage_records/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// consumptionReports are the reports by what they sum up by, and how the value of an entity
// is read off it.
func (w *world) consumptionReports(as person) map[string]func(*recordsv1.UsageReportRequest) (proto.Message, error) {
	c, ctx := recordsv1.NewConsumptionCoreServiceClient(w.Conn), w.as(as)
	return map[string]func(*recordsv1.UsageReportRequest) (proto.Message, error){
		"billing_account": func(r *recordsv1.UsageReportRequest) (proto.Message, error) {
			return c.GetBillingAccountUsageReport(ctx, r)
		},
		"cloud":    func(r *recordsv1.UsageReportRequest) (proto.Message, error) { return c.GetCloudUsageReport(ctx, r) },
		"folder":   func(r *recordsv1.UsageReportRequest) (proto.Message, error) { return c.GetFolderUsageReport(ctx, r) },
		"service":  func(r *recordsv1.UsageReportRequest) (proto.Message, error) { return c.GetServiceUsageReport(ctx, r) },
		"sku":      func(r *recordsv1.UsageReportRequest) (proto.Message, error) { return c.GetSKUUsageReport(ctx, r) },
		"resource": func(r *recordsv1.UsageReportRequest) (proto.Message, error) { return c.GetResourceUsageReport(ctx, r) },
		"label":    func(r *recordsv1.UsageReportRequest) (proto.Message, error) { return c.GetLabelKeyUsageReport(ctx, r) },
		"service_instance": func(r *recordsv1.UsageReportRequest) (proto.Message, error) {
			return c.GetServiceInstanceUsageReport(ctx, r)
		},
	}
}

// shownConsumption reads an answer as "entity day what" → number; the total is the entity "".
func shownConsumption(by string, answer proto.Message) map[string]string {
	out := make(map[string]string)
	read := func(at string, m protoreflect.Message) {
		for name, field := range map[string]protoreflect.Name{"cost": "cost", "expense": "expense", "quantity": "pricing_quantity"} {
			if f := m.Descriptor().Fields().ByName(field); f != nil && m.Has(f) {
				out[at+" "+name] = textOf(m.Get(f).Message(), "value")
			}
		}
		if f := m.Descriptor().Fields().ByName("credit_details"); m.Has(f) {
			credit := m.Get(f).Message()
			out[at+" credit"] = textOf(credit.Get(credit.Descriptor().Fields().ByName("credit")).Message(), "value")
		}
	}
	all := answer.ProtoReflect()
	read("total", all)
	entities := all.Get(all.Descriptor().Fields().ByName("entities_data")).List()
	for i := range entities.Len() {
		e := entities.Get(i).Message()
		of := e.Get(e.Descriptor().Fields().ByName(protoreflect.Name(by))).Message()
		name := "id:"
		if by == "label" {
			name += textOf(of, "key") + "=" + textOf(of, "value")
		} else {
			name += textOf(of, "id")
		}
		read(name, e)
		periods := e.Get(e.Descriptor().Fields().ByName("periodic")).List()
		for j := range periods.Len() {
			p := periods.Get(j).Message()
			at, _ := p.Get(p.Descriptor().Fields().ByName("timestamp")).Message().Interface().(*timestamppb.Timestamp)
			read(name+" "+at.AsTime().Format(time.RFC3339), p)
		}
	}
	return out
}

func textOf(m protoreflect.Message, field protoreflect.Name) string {
	return m.Get(m.Descriptor().Fields().ByName(field)).String()
}

// consumption is the same, from single records: a second reading of PT-44.
func (y *tally) consumption(by string, req *recordsv1.UsageReportRequest) map[string]string {
	sums := make(map[string]*big.Rat)
	add := func(at string, r *partnerv1.UsageRecord) {
		cost, discount := y.exact(r.GetCost()), y.exact(r.GetDiscount())
		for name, n := range map[string]*big.Rat{"cost": cost, "credit": new(big.Rat).Neg(discount), "expense": new(big.Rat).Sub(cost, discount), "quantity": y.exact(r.GetQuantity())} {
			if name == "quantity" && (by != "sku" || at == "total" || len(at) > 20 && at[len(at)-1] == 'Z') {
				continue
			}
			if sums[at+" "+name] == nil {
				sums[at+" "+name] = new(big.Rat)
			}
			sums[at+" "+name].Add(sums[at+" "+name], n)
		}
	}
	for name := range map[string]bool{"cost": true, "credit": true, "expense": true} {
		sums["total "+name] = new(big.Rat)
	}
	first, last := req.GetStartDate().AsTime().Truncate(24*time.Hour), req.GetEndDate().AsTime().Truncate(24*time.Hour)
	for _, r := range y.records {
		payer, day := y.payer(r), r.GetUsedAt().AsTime().UTC().Truncate(24*time.Hour)
		if payer == "" || payer != req.GetBillingAccountId() && y.partners[payer] != req.GetBillingAccountId() || day.Before(first) || day.After(last) || !wanted(r, req) {
			continue
		}
		add("total", r)
		for _, name := range entitiesOf(by, r, payer, req) {
			begin := beginOf(day, req.GetAggregationPeriod())
			if begin.Before(first) {
				begin = first
			}
			add("id:"+name, r)
			add("id:"+name+" "+begin.Format(time.RFC3339), r)
		}
	}
	out := make(map[string]string)
	for at, n := range sums {
		out[at] = exactly(n)
	}
	return out
}

func (y *tally) exact(text string) *big.Rat {
	if text == "" {
		text = "0"
	}
	n, ok := new(big.Rat).SetString(text)
	if !ok {
		y.t.Fatalf("%q is no number", text)
	}
	return n
}

func wanted(r *partnerv1.UsageRecord, req *recordsv1.UsageReportRequest) bool {
	for _, f := range []struct {
		value string
		any   []string
	}{{r.GetCloudId(), req.GetCloudIds()}, {r.GetFolderId(), req.GetFolderIds()}, {r.GetServiceId(), req.GetServiceIds()}, {r.GetSkuId(), req.GetSkuIds()}} {
		if len(f.any) > 0 && !slices.Contains(f.any, f.value) {
			return false
		}
	}
	if len(req.GetResourceIds()) > 0 || len(req.GetServiceInstanceIds()) > 0 {
		return false
	}
	have := 0
	for key, values := range req.GetLabels() {
		if value, has := r.GetLabels()[key]; has && (len(values.GetValues()) == 0 || slices.Contains(values.GetValues(), value)) {
			have++
		}
	}
	return have == len(req.GetLabels()) || req.GetLabelsOrFilterLogic() && have > 0
}

func entitiesOf(by string, r *partnerv1.UsageRecord, payer string, req *recordsv1.UsageReportRequest) (names []string) {
	if by == "label" {
		for key, value := range r.GetLabels() {
			if _, named := req.GetLabels()[key]; named || len(req.GetLabels()) == 0 {
				names = append(names, key+"="+value)
			}
		}
		return names
	}
	return []string{map[string]string{
		"billing_account": payer, "cloud": r.GetCloudId(), "folder": r.GetFolderId(), "service": r.GetServiceId(), "sku": r.GetSkuId(),
	}[by]}
}

func beginOf(day time.Time, grouping recordsv1.TimeGrouping) time.Time {
	month := day.AddDate(0, 0, 1-day.Day())
	switch grouping {
	case recordsv1.TimeGrouping_WEEK:
		for day.Weekday() != time.Monday {
			day = day.AddDate(0, 0, -1)
		}
	case recordsv1.TimeGrouping_MONTH:
		return month
	case recordsv1.TimeGrouping_QUARTER:
		for month.Month() != time.January && month.Month() != time.April && month.Month() != time.July && month.Month() != time.October {
			month = month.AddDate(0, -1, 0)
		}
		return month
	case recordsv1.TimeGrouping_YEAR:
		return time.Date(day.Year(), time.January, 1, 0, 0, 0, 0, time.UTC)
	case recordsv1.TimeGrouping_TIME_GROUPING_UNSPECIFIED, recordsv1.TimeGrouping_DAY:
	}
	return day
}

// randomUsage ingests random records of two clouds that move between a partner's account, one
// of a customer of it and another account, all of ann's; the tally knows all of it.
func (w *world) randomUsage() (ann person, y *tally, payers, clouds []string, begin time.Time) {
	t := w.t
	ann = w.person("ann")
	partner, plain := w.partner(ann), w.account(ann, partnerv1.BillingAccount_ACTIVE)
	y = &tally{t: t, partners: make(map[string]string), links: make(map[string][]link)}
	payers = []string{partner, plain, w.served(ann, partner)}
	y.partners[payers[2]] = partner
	clouds = []string{w.cloud(ann, "").GetId()}
	organization := must(w.clouds.Get(w.as(ann), &rmv1.GetCloudRequest{CloudId: clouds[0]}))(t).GetOrganizationId()
	clouds = append(clouds, w.cloud(ann, organization).GetId())
	begin = w.now()
	for range 12 {
		w.ahead.Add(int64(24*time.Hour) + rand.Int64N(int64(200*time.Hour)))
		ann = w.again(ann)
		cloud, account := clouds[rand.IntN(2)], payers[rand.IntN(3)]
		from := w.link(ann, account, cloud)
		if at := y.links[cloud]; len(at) == 0 || at[len(at)-1].account != account {
			y.links[cloud] = append(at, link{account, from})
		}
	}
	y.records = randomRecords(y, clouds, begin.Add(-48*time.Hour), w.now())
	w.ingestTwice(y.records)
	return ann, y, payers, clouds, begin
}

// TestPT44_ConsumptionEqualsTheSumOfRecords compares the platform's report of random records,
// in clouds that move between accounts, with what the records add up to by days of UTC.
func TestPT44_ConsumptionEqualsTheSumOfRecords(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, y, payers, clouds, begin := w.randomUsage()
		reports := w.consumptionReports(ann)
		for range 60 {
			first := begin.Add(time.Duration(rand.Int64N(int64(w.now().Sub(begin)))))
			req := &recordsv1.UsageReportRequest{
				BillingAccountId: payers[rand.IntN(3)], StartDate: timestamppb.New(first), EndDate: timestamppb.New(first.Add(time.Duration(rand.IntN(100)) * 24 * time.Hour)),
				CloudIds: some(clouds), FolderIds: some([]string{"folder-a", "folder-b"}), ServiceIds: some([]string{"compute", "storage"}),
				SkuIds: some([]string{"sku-0", "sku-1", "sku-2"}), AggregationPeriod: recordsv1.TimeGrouping(rand.IntN(6)), LabelsOrFilterLogic: rand.IntN(2) == 0,
			}
			if rand.IntN(2) == 0 {
				req.Labels = map[string]*recordsv1.LabelList{"env": {Values: some([]string{"prod", "test"})}}
				if rand.IntN(2) == 0 {
					req.Labels["team"] = &recordsv1.LabelList{Values: []string{"red", ""}}
				}
			}
			if rand.IntN(10) == 0 {
				req.ResourceIds = []string{"none"}
			}
			for by, call := range reports {
				got, want := shownConsumption(by, must(call(req))(t)), y.consumption(by, req)
				if !maps.Equal(got, want) {
					t.Fatalf("by %s, %v:\ngot  %v\nwant %v", by, req, got, want)
				}
			}
		}
	})
}

// TestPT44_WhatIsHiddenAndRefused: without the right to see discounts there is neither a
// credit nor an expense, that tells it; a report has an end, and is of one year.
func TestPT44_WhatIsHiddenAndRefused(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		owner, seller, stranger := w.person("owner"), w.person("seller"), w.person("stranger")
		partnerID := w.partner(owner)
		w.grant(owner, typeAccount, partnerID, "billing.accounts.varWithoutDiscounts", seller)
		cloud := w.cloud(owner, "").GetId()
		w.link(owner, partnerID, cloud)
		r := w.used("a", cloud, w.now(), "10")
		r.Discount = "1.5"
		w.ingest(r)
		day := timestamppb.New(w.now())
		req := &recordsv1.UsageReportRequest{BillingAccountId: partnerID, StartDate: day, EndDate: day}
		for who, want := range map[person]string{owner: "10 -1.5 8.5", seller: "10  "} {
			for by, call := range w.consumptionReports(who) {
				got := shownConsumption(by, must(call(req))(t))
				if text := fmt.Sprint(got["total cost"], " ", got["total credit"], " ", got["total expense"]); text != want {
					t.Errorf("by %s as %s: %s, want %s", by, who.login, text, want)
				}
			}
		}
		call := w.consumptionReports(owner)["cloud"]
		for field, bad := range map[string]*recordsv1.UsageReportRequest{
			"end_date":   {BillingAccountId: partnerID, StartDate: day, EndDate: timestamppb.New(day.AsTime().Add(-24 * time.Hour))},
			"start_date": {BillingAccountId: partnerID, StartDate: &timestamppb.Timestamp{Seconds: 1, Nanos: -1}, EndDate: day},
		} {
			_, err := call(bad)
			wantRefusal(t, "a wrong "+field, err, codes.InvalidArgument, field)
		}
		_, err := call(&recordsv1.UsageReportRequest{BillingAccountId: partnerID, StartDate: timestamppb.New(day.AsTime().AddDate(-10, 0, 0)), EndDate: day})
		wantRefusal(t, "ten years", err, codes.InvalidArgument, "end_date")
		_, err = w.consumptionReports(stranger)["cloud"](req)
		wantRefusal(t, "a stranger", err, codes.PermissionDenied, "PERMISSION_DENIED")
	})
}
