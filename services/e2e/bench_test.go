package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// BenchmarkAuthorize compares a permitted Authorize of the built program with a
// bare grpc-go server that answers the same bytes (echo), each a process of its
// own, called in turns by the same client. It reports
//
//	rate-ratio  calls per second, bindery over echo      (1 is the price of a bare call)
//	cpu-ratio   processor time of the server per call, bindery over echo
//
// The two take turns, so that the noise of a shared machine falls on both.
func BenchmarkAuthorize(b *testing.B) {
	s := startServer(b, "")
	request := benchWorld(b, s)
	bindery := &side{conn: dialPlain(b, s.grpc), pid: s.cmd.Process.Pid}
	answer, err := bindery.authorize(b.Context(), request)
	if err != nil {
		b.Fatal(err)
	}
	echo := startEcho(b, answer)
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			compare(b, callers, request, bindery, echo)
		})
	}
}

// compare makes b.N calls on each side, in turns, with so many callers at once.
func compare(b *testing.B, callers int, request *accessservicev2.AuthorizeRequest, bindery, echo *side) {
	const turns = 10
	bindery.reset()
	echo.reset()
	for turn := range turns {
		calls := b.N*(turn+1)/turns - b.N*turn/turns
		for _, s := range []*side{bindery, echo} {
			if err := s.run(b.Context(), calls, callers, request); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // of both sides together it says nothing
	b.ReportMetric(bindery.rate(b.N), "calls/s")
	b.ReportMetric(echo.rate(b.N), "echo-calls/s")
	b.ReportMetric(bindery.rate(b.N)/echo.rate(b.N), "rate-ratio")
	if echo.cpu > 0 {
		b.ReportMetric(float64(bindery.cpu)/float64(echo.cpu), "cpu-ratio")
		b.ReportMetric(float64(bindery.cpu.Microseconds())/float64(b.N), "server-cpu-µs/call")
	}
}

// side is a server under measurement.
type side struct {
	conn *grpc.ClientConn
	pid  int
	took time.Duration // of the calls
	cpu  time.Duration // of the process meanwhile
}

func (s *side) reset()             { s.took, s.cpu = 0, 0 }
func (s *side) rate(n int) float64 { return float64(n) / s.took.Seconds() }

func (s *side) authorize(ctx context.Context, r *accessservicev2.AuthorizeRequest) (*accessservicev2.AuthorizeResponse, error) {
	return accessservicev2.NewAccessServiceClient(s.conn).Authorize(ctx, r)
}

// run makes calls by so many callers and adds what they cost.
func (s *side) run(ctx context.Context, calls, callers int, r *accessservicev2.AuthorizeRequest) error {
	var (
		left    atomic.Int64
		wg      sync.WaitGroup
		failure atomic.Pointer[error]
	)
	left.Store(int64(calls))
	cpu, begin := processorTime(s.pid), time.Now()
	for range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := s.authorize(ctx, r); err != nil {
					failure.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	s.took += time.Since(begin)
	s.cpu += processorTime(s.pid) - cpu
	if err := failure.Load(); err != nil {
		return *err
	}
	return nil
}

// processorTime is the user and system time of a process; 0 where the machine has
// no /proc. Its unit is 10 ms, so it tells something only of many calls.
func processorTime(pid int) time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ, proc(5)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var sum time.Duration
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0
		}
		sum += time.Duration(n) * tick
	}
	return sum
}

// benchWorld makes a folder that somebody may view by a role on its cloud, beside
// 200 other bindings, and returns that check.
func benchWorld(b *testing.B, s *server) *accessservicev2.AuthorizeRequest {
	b.Helper()
	s.createUser("owner")
	viewer := s.createUser("viewer")
	conn := dialPlain(b, s.grpc)
	ctx := metadata.AppendToOutgoingContext(b.Context(), "authorization", "Bearer "+s.createToken("owner"))
	op, err := rmv1.NewCloudServiceClient(conn).Create(ctx, &rmv1.CreateCloudRequest{Name: "bench"})
	cloud := made(b, op, err, &rmv1.Cloud{}).GetId()
	op, err = rmv1.NewFolderServiceClient(conn).Create(ctx, &rmv1.CreateFolderRequest{CloudId: cloud, Name: "bench"})
	folder := made(b, op, err, &rmv1.Folder{}).GetId()
	deltas := []*accesspb.AccessBindingDelta{grant("viewer", viewer.ID)}
	for i := range 200 {
		deltas = append(deltas, grant("editor", s.createUser("other"+strconv.Itoa(i)).ID))
	}
	if _, err := rmv1.NewCloudServiceClient(conn).UpdateAccessBindings(ctx, &accesspb.UpdateAccessBindingsRequest{
		ResourceId: cloud, AccessBindingDeltas: deltas,
	}); err != nil {
		b.Fatal(err)
	}
	return &accessservicev2.AuthorizeRequest{
		Identity:     &accessservicev2.AuthorizeRequest_IamToken{IamToken: s.createToken("viewer")},
		Permission:   "resource-manager.folders.get",
		ResourcePath: []*accessservicev2.Resource{{Type: "resource-manager.folder", Id: folder}},
	}
}

func grant(role, user string) *accesspb.AccessBindingDelta {
	return &accesspb.AccessBindingDelta{Action: accesspb.AccessBindingAction_ADD, AccessBinding: &accesspb.AccessBinding{
		RoleId: role, Subject: &accesspb.Subject{Type: "userAccount", Id: user},
	}}
}

// made reads what a finished operation made.
func made[M interface {
	proto.Message
	GetId() string
}](b *testing.B, op *operationpb.Operation, err error, into M) M {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	if err := op.GetResponse().UnmarshalTo(into); err != nil {
		b.Fatal(err)
	}
	return into
}

func dialPlain(b *testing.B, address string) *grpc.ClientConn {
	b.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return conn
}

// startEcho builds and starts the baseline, which ends with the benchmark.
func startEcho(b *testing.B, answer *accessservicev2.AuthorizeResponse) *side {
	b.Helper()
	program := filepath.Join(b.TempDir(), "echo")
	if out, err := exec.Command("go", "build", "-o", program, "./echo").CombinedOutput(); err != nil {
		b.Fatalf("build echo: %v\n%s", err, out)
	}
	text, err := protojson.Marshal(answer)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, string(text))
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
		b.Fatalf("echo did not say its address: %v", err)
	}
	return &side{conn: dialPlain(b, strings.TrimSpace(address)), pid: cmd.Process.Pid}
}
