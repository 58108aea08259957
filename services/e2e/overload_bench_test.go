package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// BenchmarkOverload offers more writes than the built program can make, whether it
// answers or not, and reports for 2 and 5 times its capacity
//
//	capacity-calls/s  writes per second of 32 callers that wait for their answers
//	goodput-ratio     writes made per second under the load, over the capacity
//	refusal-ms        99th percentile of the time until a call was refused
//	recovery-s        after the load, until ten calls in a row are as fast as before
func BenchmarkOverload(b *testing.B) {
	l := newLoad(b, startServer(b, ""))
	for _, times := range []int{2, 5} {
		b.Run(fmt.Sprintf("times=%d", times), func(b *testing.B) {
			for range b.N {
				l.measure(b, times)
			}
		})
	}
}

// load is a stream of changes of access bindings to one server.
type load struct {
	ctx     context.Context
	folders []rmv1.FolderServiceClient // over as many connections: one carries 1000 calls
	ids     []string
	user    string
	count   atomic.Int64
}

// measured is what a time of load came to.
type measured struct {
	made, refused, failed atomic.Int64
	other                 atomic.Value // the error of a failure
	mu                    sync.Mutex
	refusals              []time.Duration
}

func newLoad(b *testing.B, s *server) *load {
	b.Helper()
	s.createUser("owner")
	viewer := s.createUser("viewer")
	conn := dialPlain(b, s.grpc)
	l := &load{
		ctx:  metadata.AppendToOutgoingContext(b.Context(), "authorization", "Bearer "+s.createToken("owner")),
		user: viewer.ID,
	}
	for range 16 {
		l.folders = append(l.folders, rmv1.NewFolderServiceClient(dialPlain(b, s.grpc)))
	}
	op, err := rmv1.NewCloudServiceClient(conn).Create(l.ctx, &rmv1.CreateCloudRequest{Name: "load"})
	cloud := made(b, op, err, &rmv1.Cloud{}).GetId()
	for i := range 20 {
		op, err := l.folders[0].Create(l.ctx, &rmv1.CreateFolderRequest{CloudId: cloud, Name: "load-" + strconv.Itoa(i)})
		l.ids = append(l.ids, made(b, op, err, &rmv1.Folder{}).GetId())
	}
	return l
}

// write gives or takes a role, and tells how the call ended.
func (l *load) write(m *measured) {
	n := l.count.Add(1)
	delta := grant("viewer", l.user)
	if n/int64(len(l.ids))%2 == 1 {
		delta.Action = accesspb.AccessBindingAction_REMOVE
	}
	ctx, cancel := context.WithTimeout(l.ctx, 10*time.Second)
	defer cancel()
	begin := time.Now()
	_, err := l.folders[n%int64(len(l.folders))].UpdateAccessBindings(ctx, &accesspb.UpdateAccessBindingsRequest{
		ResourceId: l.ids[n%int64(len(l.ids))], AccessBindingDeltas: []*accesspb.AccessBindingDelta{delta},
	})
	switch status.Code(err) {
	case codes.OK:
		m.made.Add(1)
	case codes.Unavailable, codes.ResourceExhausted:
		m.refused.Add(1)
		m.mu.Lock()
		m.refusals = append(m.refusals, time.Since(begin))
		m.mu.Unlock()
	default:
		m.failed.Add(1)
		m.other.Store(status.Convert(err).Message())
	}
}

// closed is the rate of so many callers that wait for their answers.
func (l *load) closed(callers int, span time.Duration) float64 {
	var (
		m   measured
		wg  sync.WaitGroup
		end = time.Now().Add(span)
	)
	for range callers {
		wg.Go(func() {
			for time.Now().Before(end) {
				l.write(&m)
			}
		})
	}
	wg.Wait()
	return float64(m.made.Load()) / span.Seconds()
}

// open offers calls at a rate, whether they are answered or not, and returns the
// rate of those that were made meanwhile.
func (l *load) open(rate float64, span time.Duration, m *measured) float64 {
	var wg sync.WaitGroup
	begin := time.Now()
	for sent := 0; time.Since(begin) < span; time.Sleep(time.Millisecond) {
		for due := int(rate * time.Since(begin).Seconds()); sent < due; sent++ {
			wg.Go(func() { l.write(m) })
		}
	}
	made := float64(m.made.Load()) / time.Since(begin).Seconds()
	wg.Wait()
	return made
}

func (l *load) measure(b *testing.B, times int) {
	const span = 5 * time.Second
	quiet := l.pace()
	capacity := l.closed(32, span)
	var m measured
	goodput := l.open(float64(times)*capacity, span, &m)
	recovered := l.recover(quiet)
	if n := m.failed.Load(); n > 0 {
		b.Errorf("%d calls failed otherwise than by a refusal, one by %v", n, m.other.Load())
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(capacity, "capacity-calls/s")
	b.ReportMetric(goodput/capacity, "goodput-ratio")
	b.ReportMetric(float64(m.refused.Load())/span.Seconds(), "refused/s")
	if slices.Sort(m.refusals); len(m.refusals) > 0 {
		b.ReportMetric(float64(m.refusals[len(m.refusals)*99/100].Microseconds())/1000, "refusal-ms")
	}
	b.ReportMetric(recovered.Seconds(), "recovery-s")
}

// pace is how long one call takes when there is no other, the slowest of ten.
func (l *load) pace() time.Duration {
	var slowest time.Duration
	for range 10 {
		begin := time.Now()
		l.write(new(measured))
		slowest = max(slowest, time.Since(begin))
	}
	return slowest
}

// recover is how long it takes until ten calls in a row are made as fast as one was
// before, within twice.
func (l *load) recover(quiet time.Duration) time.Duration {
	begin := time.Now()
	for fast := 0; fast < 10 && time.Since(begin) < time.Minute; fast++ {
		var m measured
		at := time.Now()
		if l.write(&m); m.made.Load() == 0 || time.Since(at) > 2*quiet {
			fast = -1
		}
	}
	return time.Since(begin)
}
