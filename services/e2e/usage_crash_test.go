package e2e

import (
	"context"
	"encoding/csv"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// TestKilledIngest kills the server while records of usage are sent, by two senders each,
// until every one was acknowledged to both: nothing is lost and nothing is counted twice
// (US-1, US-2). Whoever measures has a key of its own.
func TestKilledIngest(t *testing.T) {
	binary(t)
	key := filepath.Join(t.TempDir(), "metering.key")
	command(t, "unit-key", "create", "--out", key)
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			url := ""
			if engine == "postgres" {
				url = sqldbtest.URL(t)
			}
			s := newServer(t, url)
			s.flags = []string{"--trust-unit", "metering=" + key + ".pub"}
			s.start()
			m := newMeter(t, s, key)
			for range times(t, "BINDERY_CRASH_ROUNDS", 4, 10) {
				m.send(t, 40, func() {
					for range 2 {
						time.Sleep(time.Duration(50+rand.IntN(400)) * time.Millisecond) // the moment of a kill is any
						s.kill()
						s.start()
					}
				})
			}
			m.compare(t)
		})
	}
}

// meter sends records of usage and knows what they add up to.
type meter struct {
	s       *server
	conn    *grpc.ClientConn
	metered *grpc.ClientConn
	token   string
	account string
	cloud   string

	batches []*partnerv1.IngestUsageRequest // what was acknowledged
}

func newMeter(t *testing.T, s *server, keyFile string) *meter {
	t.Helper()
	key, err := authn.ReadUnitKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{s: s}
	dial := func(options ...grpc.DialOption) *grpc.ClientConn {
		conn, err := grpc.NewClient(s.grpc, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	m.conn = dial()
	m.metered = dial(grpc.WithPerRPCCredentials(authn.NewUnitSigner("metering", "partner", key, time.Now)))
	s.createUser("owner")
	m.token = s.createToken("owner")
	ctx := new(world).as(m.token)
	made := func(op *operationpb.Operation, err error, into proto.Message) {
		t.Helper()
		if err == nil {
			err = op.GetResponse().UnmarshalTo(into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	account, cloud := new(partnerv1.BillingAccount), new(rmv1.Cloud)
	op, err := partnerv1.NewBillingAccountServiceClient(m.conn).CreateBillingAccount(ctx, &partnerv1.CreateBillingAccountRequest{Name: "a", CountryCode: "RU", Currency: "RUB"})
	made(op, err, account)
	command(t, "billing", "state", "--id", account.GetId(), "--state", "ACTIVE", "--data-dir", s.dataDir)
	op, err = rmv1.NewCloudServiceClient(m.conn).Create(ctx, &rmv1.CreateCloudRequest{Name: "first"})
	made(op, err, cloud)
	op, err = billingv1.NewBillingAccountServiceClient(m.conn).BindBillableObject(ctx, &billingv1.BindBillableObjectRequest{
		BillingAccountId: account.GetId(), BillableObject: &billingv1.BillableObject{Id: cloud.GetId(), Type: "cloud"},
	})
	made(op, err, new(billingv1.BillableObjectBinding))
	m.account, m.cloud = account.GetId(), cloud.GetId()
	return m
}

// send has each of some batches sent by two senders until both are answered, and calls
// meanwhile.
func (m *meter) send(t *testing.T, batches int, meanwhile func()) {
	t.Helper()
	var all sync.WaitGroup
	queues := make([]chan *partnerv1.IngestUsageRequest, 4)
	for i := range queues {
		queues[i] = make(chan *partnerv1.IngestUsageRequest, batches)
		all.Go(func() {
			for b := range queues[i] {
				m.insist(t, b)
			}
		})
	}
	first := len(m.batches)
	for range batches {
		b := m.batch(len(m.batches))
		m.batches = append(m.batches, b)
	}
	for i, b := range m.batches[first:] {
		queues[i%2*2] <- b
		queues[i%2*2+1] <- b
	}
	for _, q := range queues {
		close(q)
	}
	meanwhile()
	all.Wait()
}

// batch makes records that no other batch has.
func (m *meter) batch(n int) *partnerv1.IngestUsageRequest {
	b := new(partnerv1.IngestUsageRequest)
	for i := range 200 {
		b.Records = append(b.Records, &partnerv1.UsageRecord{
			Id: fmt.Sprintf("%d-%d", n, i), UsedAt: timestamppb.Now(), CloudId: m.cloud, ServiceId: "compute", SkuId: fmt.Sprint("sku", rand.IntN(5)),
			Cost: fmt.Sprintf("%d.%09d", rand.IntN(1000), rand.IntN(1_000_000_000)),
		})
	}
	return b
}

// insist sends a batch until it is acknowledged.
func (m *meter) insist(t *testing.T, b *partnerv1.IngestUsageRequest) {
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) { // the server comes back by itself
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		resp, err := partnerv1.NewUsageIngestServiceClient(m.metered).IngestUsage(ctx, b)
		cancel()
		if err == nil {
			if resp.GetAccepted()+resp.GetKnown() != int64(len(b.GetRecords())) || resp.GetUnlinked() != 0 {
				t.Errorf("taken: %v", resp)
			}
			return
		}
		if time.Now().After(end) {
			t.Errorf("never acknowledged: %v", err)
			return
		}
	}
}

// compare compares the report, over both doors, with the records that were acknowledged,
// each once; and sends all of them once more, which changes nothing.
func (m *meter) compare(t *testing.T) {
	t.Helper()
	want, records := make(map[string]*big.Rat), int64(0)
	for _, b := range m.batches {
		for _, r := range b.GetRecords() {
			if want[r.GetSkuId()] == nil {
				want[r.GetSkuId()] = new(big.Rat)
			}
			cost, _ := new(big.Rat).SetString(r.GetCost()) // a number, as it was written
			want[r.GetSkuId()].Add(want[r.GetSkuId()], cost)
			records++
		}
	}
	today := time.Now().UTC().Add(3 * time.Hour)
	from, to := today.AddDate(0, 0, -1).Format(time.DateOnly), today.Format(time.DateOnly)
	check := func(when string) {
		t.Helper()
		resp, err := partnerv1.NewUsageServiceClient(m.conn).GetUsageReport(new(world).as(m.token), &partnerv1.GetUsageReportRequest{
			BillingAccountId: m.account, Filter: &partnerv1.UsageFilter{Axis: partnerv1.UsageReport_SKU, FromDate: from, ToDate: to},
		})
		if err != nil {
			t.Fatal(err)
		}
		var counted int64
		for _, row := range resp.GetRows() {
			got, _ := new(big.Rat).SetString(row.GetAmounts().GetCost())
			if counted += row.GetAmounts().GetRecords(); got == nil || got.Cmp(want[row.GetId()]) != 0 {
				t.Errorf("%s: %s costs %s, and its records %s", when, row.GetId(), row.GetAmounts().GetCost(), want[row.GetId()].FloatString(9))
			}
		}
		if counted != records || len(resp.GetRows()) != len(want) {
			t.Errorf("%s: %d records in %d rows, and %d were acknowledged in %d", when, counted, len(resp.GetRows()), records, len(want))
		}
	}
	check("after the kills")
	for _, b := range m.batches[:len(m.batches)/4] {
		m.insist(t, b)
	}
	check("sent again")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		"http://"+m.s.http+"/partner/v1/billingAccounts/"+m.account+"/usageReport:export?filter.axis=SKU&filter.fromDate="+from+"&filter.toDate="+to, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines, err := csv.NewReader(resp.Body).ReadAll()
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/csv") || len(lines) != len(want)+1 {
		t.Fatalf("CSV over REST: %s, %s, %v, %v", resp.Status, resp.Header.Get("Content-Type"), lines, err)
	}
	for _, line := range lines[1:] {
		if got, _ := new(big.Rat).SetString(line[5]); lines[0][5] != "cost" || got == nil || got.Cmp(want[line[0]]) != 0 {
			t.Errorf("CSV over REST: %v", line)
		}
	}
}
