package partner

import (
	"cmp"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// tally is a second reading of PT-42 and PT-43: exact fractions of single records.
type tally struct {
	t        testing.TB
	partners map[string]string        // of each subaccount
	links    map[string][]link        // of each cloud, in order
	records  []*partnerv1.UsageRecord // each once
}

type link struct {
	account string
	from    time.Time
}

// payer is who paid for a record: the last link of the cloud that had begun.
func (y *tally) payer(r *partnerv1.UsageRecord) (account string) {
	for _, l := range y.links[r.GetCloudId()] {
		if !r.GetUsedAt().AsTime().Before(l.from) {
			account = l.account
		}
	}
	return account
}

// rows are those of a report, by "value day": what each of the numbers is.
func (y *tally) rows(accountID string, f *partnerv1.UsageFilter) map[string]map[string]*big.Rat {
	out := make(map[string]map[string]*big.Rat)
	for _, r := range y.records {
		payer := y.payer(r)
		day := r.GetUsedAt().AsTime().UTC().Add(3 * time.Hour).Format(time.DateOnly)
		if payer == "" || payer != accountID && y.partners[payer] != accountID || day < f.GetFromDate() || day > f.GetToDate() || !y.passes(r, payer, f) {
			continue
		}
		key := y.value(r, payer, f) + " " + y.period(day, f)
		sum := out[key]
		if sum == nil {
			sum = make(map[string]*big.Rat)
			out[key] = sum
		}
		for name, text := range map[string]string{
			"quantity": r.GetQuantity(), "cost": r.GetCost(), "discount": r.GetDiscount(), "reward": r.GetReward(), "adjustment": r.GetAdjustment(),
		} {
			if sum[name] == nil {
				sum[name] = new(big.Rat)
			}
			n, ok := new(big.Rat).SetString(cmp.Or(text, "0"))
			if !ok {
				y.t.Fatalf("%q is no number", text)
			}
			sum[name].Add(sum[name], n)
		}
	}
	for _, sum := range out {
		sum["client"] = new(big.Rat).Sub(sum["cost"], sum["discount"])
		sum["partner"] = new(big.Rat).Add(new(big.Rat).Sub(sum["client"], sum["reward"]), sum["adjustment"])
	}
	return out
}

func (y *tally) passes(r *partnerv1.UsageRecord, payer string, f *partnerv1.UsageFilter) bool {
	for value, any := range map[string][]string{
		payer: f.GetSubaccountIds(), r.GetCloudId(): f.GetCloudIds(), r.GetServiceId(): f.GetServiceIds(), r.GetSkuId(): f.GetSkuIds(),
		"folder:" + r.GetFolderId(): prefixed("folder:", f.GetFolderIds()),
	} {
		if len(any) > 0 && !slices.Contains(any, value) {
			return false
		}
	}
	byKey := make(map[string]bool)
	for _, l := range f.GetLabels() {
		key, value, _ := strings.Cut(l, "=")
		has, there := r.GetLabels()[key]
		byKey[key] = byKey[key] || there && has == value
	}
	for _, ok := range byKey {
		if !ok {
			return false
		}
	}
	return true
}

func prefixed(prefix string, all []string) (out []string) {
	for _, s := range all {
		out = append(out, prefix+s)
	}
	return out
}

func (y *tally) value(r *partnerv1.UsageRecord, payer string, f *partnerv1.UsageFilter) string {
	switch f.GetAxis() {
	case partnerv1.UsageReport_SUBACCOUNT:
		return payer
	case partnerv1.UsageReport_CLOUD:
		return r.GetCloudId()
	case partnerv1.UsageReport_FOLDER:
		return r.GetFolderId()
	case partnerv1.UsageReport_SERVICE:
		return r.GetServiceId()
	case partnerv1.UsageReport_SKU:
		return r.GetSkuId()
	case partnerv1.UsageReport_LABEL:
		return r.GetLabels()[f.GetLabelKey()]
	default:
		return ""
	}
}

func (y *tally) period(day string, f *partnerv1.UsageFilter) string {
	d := must(time.Parse(time.DateOnly, day))(y.t)
	switch f.GetPeriod() {
	case partnerv1.UsageReport_DAY:
	case partnerv1.UsageReport_WEEK:
		for d.Weekday() != time.Monday {
			d = d.AddDate(0, 0, -1)
		}
	case partnerv1.UsageReport_MONTH:
		d = d.AddDate(0, 0, 1-d.Day())
	default:
		return f.GetFromDate()
	}
	return max(d.Format(time.DateOnly), f.GetFromDate())
}

// exactly writes a fraction of billionths as the API does.
func exactly(r *big.Rat) string {
	s := r.FloatString(9)
	if s = strings.TrimSuffix(strings.TrimRight(s, "0"), "."); s == "-0" {
		return "0"
	}
	return s
}

// randomNumber is one of those that Parse takes, often of few digits.
func randomNumber() string {
	whole := rand.Int64N(map[bool]int64{true: 100, false: 9_999_999_999}[rand.IntN(4) > 0])
	s := fmt.Sprintf("%d", whole)
	if digits := rand.IntN(10); digits > 0 {
		s += fmt.Sprintf(".%0*d", digits, rand.Int64N(pow10(digits)))
	}
	if rand.IntN(5) == 0 {
		s = "-" + s
	}
	return s
}

func pow10(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}

// some returns a few of some values, often none.
func some(of []string) (out []string) {
	if rand.IntN(3) > 0 {
		return nil
	}
	for range 1 + rand.IntN(3) {
		out = append(out, of[rand.IntN(len(of))])
	}
	return out
}

// randomRecords are records at random times, and at the moments at which links change.
func randomRecords(y *tally, clouds []string, from, to time.Time) (all []*partnerv1.UsageRecord) {
	add := func(cloud string, at time.Time) {
		r := &partnerv1.UsageRecord{
			Id: fmt.Sprintf("record-%d", len(all)), CloudId: cloud, UsedAt: timestamppb.New(at.Truncate(time.Microsecond)),
			FolderId:  []string{"", "folder-a", "folder-b"}[rand.IntN(3)],
			ServiceId: []string{"compute", "storage"}[rand.IntN(2)], SkuId: fmt.Sprintf("sku-%d", rand.IntN(5)),
			Quantity: randomNumber(), Cost: randomNumber(), Discount: randomNumber(), Reward: randomNumber(), Adjustment: randomNumber(),
		}
		if rand.IntN(2) == 0 {
			r.Labels = map[string]string{"env": []string{"prod", "test"}[rand.IntN(2)]}
			if rand.IntN(2) == 0 {
				r.Labels["team"] = []string{"red", "blue", ""}[rand.IntN(3)]
			}
		}
		all = append(all, r)
	}
	for range 2500 {
		add(clouds[rand.IntN(len(clouds))], from.Add(time.Duration(rand.Int64N(int64(to.Sub(from))))))
	}
	for cloud, links := range y.links {
		for _, l := range links {
			add(cloud, l.from)
			add(cloud, l.from.Add(-time.Microsecond))
		}
	}
	return all
}

// ingestTwice sends each record twice, in random batches, by several at once.
func (w *world) ingestTwice(records []*partnerv1.UsageRecord) {
	w.t.Helper()
	batches := make(chan []*partnerv1.UsageRecord)
	var all sync.WaitGroup
	client := w.ingests()
	var accepted int64
	var mu sync.Mutex
	for range 4 {
		all.Go(func() {
			for b := range batches {
				resp, err := client.IngestUsage(w.t.Context(), &partnerv1.IngestUsageRequest{Records: b})
				if err != nil {
					w.t.Errorf("ingest: %v", err)
				}
				mu.Lock()
				accepted += resp.GetAccepted()
				mu.Unlock()
			}
		})
	}
	twice := slices.Concat(records, records)
	rand.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
	for len(twice) > 0 {
		n := min(len(twice), 1+rand.IntN(300))
		batches <- twice[:n]
		twice = twice[n:]
	}
	close(batches)
	all.Wait()
	if accepted != int64(len(records)) {
		w.t.Errorf("%d records were accepted, of %d sent twice", accepted, len(records))
	}
}

func (y *tally) randomFilter(payers, clouds []string, begin, end time.Time) *partnerv1.UsageFilter {
	first := begin.Add(time.Duration(rand.Int64N(int64(end.Sub(begin)))))
	last := first.Add(time.Duration(rand.IntN(60)) * 24 * time.Hour)
	f := &partnerv1.UsageFilter{
		Axis: partnerv1.UsageReport_Axis(rand.IntN(7)), Period: partnerv1.UsageReport_Period(rand.IntN(4)),
		FromDate: first.UTC().Format(time.DateOnly), ToDate: last.UTC().Format(time.DateOnly),
		SubaccountIds: some(payers), CloudIds: some(clouds), FolderIds: some([]string{"folder-a", "folder-b"}),
		ServiceIds: some([]string{"compute", "storage"}), SkuIds: some([]string{"sku-0", "sku-1", "sku-2", "sku-3", "sku-4"}),
		Labels: some([]string{"env=prod", "env=test", "team=red", "team=blue", "team=", "none=x"}),
	}
	if rand.IntN(2) == 0 { // whole months are summed up from other sums
		f.FromDate = f.GetFromDate()[:8] + "01"
		f.ToDate = time.Date(last.UTC().Year(), last.UTC().Month()+1, 0, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
	}
	if f.GetAxis() == partnerv1.UsageReport_LABEL {
		f.LabelKey = []string{"env", "team", "none"}[rand.IntN(3)]
	}
	return f
}

// compare asks for a report in both forms and compares it with the tally.
func (w *world) compare(who person, y *tally, accountID string, f *partnerv1.UsageFilter) {
	w.t.Helper()
	want := y.rows(accountID, f)
	got := w.rows(who, &partnerv1.GetUsageReportRequest{BillingAccountId: accountID, Filter: f, PageSize: int64(1 + rand.IntN(200))})
	if len(got) != len(want) {
		w.t.Errorf("%v of %s: %d rows, want %d", f, accountID, len(got), len(want))
		return
	}
	lines := w.export(who, accountID, f)
	if len(lines) != len(got)+1 {
		w.t.Errorf("%v of %s: %d lines of CSV, want %d", f, accountID, len(lines), len(got)+1)
		return
	}
	column := make(map[string]int)
	for i, name := range lines[0] {
		column[name] = i
	}
	for i, row := range got {
		sum := want[row.GetId()+" "+row.GetFromDate()]
		if sum == nil {
			w.t.Errorf("%v of %s: a row %v", f, accountID, row)
			continue
		}
		a := row.GetAmounts()
		shown := map[string]string{
			"cost": a.GetCost(), "discount": a.GetDiscount(), "client": a.GetClientPayable(), "reward": a.GetReward(),
			"adjustment": a.GetAdjustment(), "partner": a.GetPartnerPayable(),
		}
		if f.GetAxis() == partnerv1.UsageReport_SKU {
			shown["quantity"] = a.GetQuantity()
		} else if a.GetQuantity() != "" {
			w.t.Errorf("%v: a quantity of many products: %v", f, row)
		}
		for name, text := range shown {
			in := map[string]string{"client": "client_payable", "partner": "partner_payable"}[name]
			if in == "" {
				in = name
			}
			if exact := exactly(sum[name]); text != exact || lines[i+1][column[in]] != exact {
				w.t.Errorf("%v of %s: %s of %q is %s, in CSV %s; want %s", f, accountID, name, row.GetId(), text, lines[i+1][column[in]], exact)
			}
		}
	}
}
