package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// BenchmarkOverload offers more writes than the built program can make, whether it
// answers or not, and reports for 2 and 5 times its capacity
//
//	capacity-calls/s  writes per second of 32 callers that wait for their answers
//	goodput-ratio     writes made per second under the load, over the capacity
//	refusal-ms        99th percentile of the time until a call was refused, of a few
//	                  callers in a process of their own: those that make the load wait for
//	                  each other as well
//	bare-refusal-ms   the same of a bare grpc-go server that refuses everything and does
//	                  nothing else, at the same time: what the busy machine adds
//	recovery-s        after the load, until ten calls in a row are as fast as before
func BenchmarkOverload(b *testing.B) {
	l := newLoad(b, startServer(b, ""))
	l.bare = startBare(b)
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
	grpc    string // address, and the token of the caller
	token   string
	bare    string // address of the bare server
}

// measured is what a time of load came to.
type measured struct {
	made, refused, failed atomic.Int64
	other                 atomic.Value // the error of a failure
}

func newLoad(b *testing.B, s *server) *load {
	b.Helper()
	s.createUser("owner")
	viewer := s.createUser("viewer")
	conn := dialPlain(b, s.grpc)
	l := &load{user: viewer.ID, grpc: s.grpc, token: s.createToken("owner")}
	l.ctx = metadata.AppendToOutgoingContext(b.Context(), "authorization", "Bearer "+l.token)
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
	_, err := l.folders[n%int64(len(l.folders))].UpdateAccessBindings(ctx, &accesspb.UpdateAccessBindingsRequest{
		ResourceId: l.ids[n%int64(len(l.ids))], AccessBindingDeltas: []*accesspb.AccessBindingDelta{delta},
	})
	switch status.Code(err) {
	case codes.OK:
		m.made.Add(1)
	case codes.Unavailable, codes.ResourceExhausted:
		m.refused.Add(1)
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
	refusals := l.probe(b, l.grpc, span)
	bare := l.probe(b, l.bare, span)
	goodput := l.open(float64(times)*capacity, span, &m)
	recovered := l.recover(quiet)
	if n := m.failed.Load(); n > 0 {
		b.Errorf("%d calls failed otherwise than by a refusal, one by %v", n, m.other.Load())
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(capacity, "capacity-calls/s")
	b.ReportMetric(goodput/capacity, "goodput-ratio")
	b.ReportMetric(float64(m.refused.Load())/span.Seconds(), "refused/s")
	for name, all := range map[string][]time.Duration{"refusal-ms": refusals(), "bare-refusal-ms": bare()} {
		if len(all) > 0 {
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, name)
		}
	}
	b.ReportMetric(recovered.Seconds(), "recovery-s")
}

// probeVar tells the process of a probe what to call: address, token and folder. bareVar
// makes a process the bare server.
const (
	probeVar = "BINDERY_E2E_PROBE"
	bareVar  = "BINDERY_E2E_BARE"
)

// TestMain runs the tests, or is a probe, or the bare server.
func TestMain(m *testing.M) {
	var err error
	switch of := os.Getenv(probeVar); {
	case of != "":
		err = probe(of)
	case os.Getenv(bareVar) != "":
		err = serveBare()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serveBare refuses every call by its headers until its input ends. It prints its address.
func serveBare() error {
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.InTapHandle(func(ctx context.Context, _ *tap.Info) (context.Context, error) {
		return ctx, status.Error(codes.Unavailable, "no")
	}))
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		s.Stop()
	}()
	fmt.Println(at.Addr())
	return s.Serve(at)
}

// startBare starts the bare server, which ends with the benchmark, and returns its address.
func startBare(b *testing.B) string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), bareVar+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatalf("the bare server did not say its address: %v", err)
	}
	return strings.TrimSpace(address)
}

// probe calls, four at once and each a hundred times a second at most, until its input
// ends, and prints how long each call took that was refused.
func probe(of string) error {
	parts := strings.Fields(of)
	conn, err := grpc.NewClient(parts[0], grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+parts[1]))
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		took []string
	)
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				begin := time.Now()
				_, err := rmv1.NewFolderServiceClient(conn).UpdateAccessBindings(ctx, &accesspb.UpdateAccessBindingsRequest{
					ResourceId: parts[2], AccessBindingDeltas: []*accesspb.AccessBindingDelta{grant("viewer", parts[3])},
				})
				if code := status.Code(err); code == codes.Unavailable || code == codes.ResourceExhausted {
					mu.Lock()
					took = append(took, time.Since(begin).String())
					mu.Unlock()
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	cancel()
	wg.Wait()
	fmt.Println(strings.Join(took, "\n"))
	return err
}

// probe starts a probe of an address that ends after span; the result waits for it and returns how
// long each refusal took.
func (l *load) probe(b *testing.B, address string, span time.Duration) func() []time.Duration {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), probeVar+"="+strings.Join([]string{address, l.token, l.ids[0], l.user}, " "))
	cmd.Stderr = os.Stderr
	var out strings.Builder
	cmd.Stdout = &out
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	end := time.AfterFunc(span, func() { _ = in.Close() }) // or it was closed before
	return func() []time.Duration {
		end.Stop()
		_ = in.Close() // the same
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
		var all []time.Duration
		for _, line := range strings.Fields(out.String()) {
			d, err := time.ParseDuration(line)
			if err != nil {
				b.Fatal(err)
			}
			all = append(all, d)
		}
		return all
	}
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
