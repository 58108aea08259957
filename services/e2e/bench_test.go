package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "google.golang.org/genproto/googleapis/rpc/errdetails" // protojson writes them
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// BenchmarkAuthorize compares Authorize of the built program with a bare grpc-go
// server (echo) that answers with as many bytes: each a process of its own, called by
// the same client over one connection each, with the token of the calling service and
// a request id of its own for each call. Checks that are permitted and checks that are
// denied, with their details, are measured each for itself. A denial is compared with
// an answer of as many bytes, and (refused) with an echo that refuses with the same
// status and the id of the request, made by the library. For each it reports
//
//	rate   calls per second, bindery over echo      (1 is the price of a bare call)
//	cpu    processor time of the server per call, bindery over echo
//	p99    99th percentile of the time of a call, bindery over echo
//
// as the median over turns: the two take turns, so that the noise of a shared machine
// falls on both.
func BenchmarkAuthorize(b *testing.B) {
	s := startServer(b, "")
	w := benchWorld(b, s)
	echo := startEcho(b, w)
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			for range b.N {
				w.compare(b, callers, echo)
			}
		})
	}
}

// Turns of a comparison, and calls in each of each kind.
const (
	benchTurns = 15
	benchCalls = 6000
)

// compare calls both sides in turns, with so many callers at once.
func (w *benchmark) compare(b *testing.B, callers int, echo *side) {
	b.Helper()
	kinds := []struct {
		name           string
		bindery, echos *accessservicev2.AuthorizeRequest
	}{
		{"allowed", w.allowed, w.allowed}, {"denied", w.denied, w.denied}, {"refused", w.denied, w.status},
	}
	ratios := make(map[string][]float64)
	for turn := range benchTurns + 1 {
		for _, kind := range kinds {
			mine := w.run(b, callers, kind.bindery)
			theirs := echo.run(b, callers, kind.echos)
			if turn == 0 { // warms up
				continue
			}
			note := func(what string, ratio float64) {
				ratios[kind.name+"-"+what] = append(ratios[kind.name+"-"+what], ratio)
			}
			note("rate", theirs.took.Seconds()/mine.took.Seconds())
			note("p99", mine.p99.Seconds()/theirs.p99.Seconds())
			if theirs.cpu > 0 {
				note("cpu", mine.cpu.Seconds()/theirs.cpu.Seconds())
				ratios[kind.name+"-µs"] = append(ratios[kind.name+"-µs"], float64(mine.cpu.Microseconds())/benchCalls)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // of both sides together it says nothing
	for name, values := range ratios {
		slices.Sort(values)
		b.ReportMetric(values[len(values)/2], name)
	}
}

// side is a server under measurement.
type side struct {
	conn *grpc.ClientConn
	pid  int
}

// cost is what the calls of one turn took.
type cost struct {
	took, cpu, p99 time.Duration
}

// run makes the calls of one turn by so many callers.
func (s *side) run(b *testing.B, callers int, r *accessservicev2.AuthorizeRequest) cost {
	b.Helper()
	var (
		left    atomic.Int64
		wg      sync.WaitGroup
		failure atomic.Pointer[error]
	)
	left.Store(benchCalls)
	client := accessservicev2.NewAccessServiceClient(s.conn)
	took := make([][]time.Duration, callers)
	cpu, begin := processorTime(s.pid), time.Now()
	for n := range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				ctx := metadata.AppendToOutgoingContext(b.Context(), "x-request-id", strconv.FormatInt(requestIDs.Add(1), 16))
				from := time.Now()
				_, err := client.Authorize(ctx, r)
				took[n] = append(took[n], time.Since(from))
				if code := status.Code(err); code != codes.OK && code != codes.PermissionDenied {
					failure.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	c := cost{took: time.Since(begin), cpu: processorTime(s.pid) - cpu}
	if err := failure.Load(); err != nil {
		b.Fatal(*err)
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	c.p99 = all[len(all)*99/100]
	return c
}

// requestIDs are of as many digits as those of a service at work.
var requestIDs = func() *atomic.Int64 {
	n := new(atomic.Int64)
	n.Store(1 << 60)
	return n
}()

// processorTime is the time that the threads of a process ran; 0 where the machine
// does not say.
func processorTime(pid int) time.Duration {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0
		}
		sum += time.Duration(n)
	}
	return sum
}

// bearer is the token of the service that calls.
type bearer string

// GetRequestMetadata puts the token into a call.
func (t bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(t)}, nil
}

// RequireTransportSecurity is false: the benchmark is on loopback.
func (bearer) RequireTransportSecurity() bool { return false }

// benchmark is a server with a world, and what is asked of it.
type benchmark struct {
	*side
	caller                  bearer
	allowed, denied, status *accessservicev2.AuthorizeRequest // status is for the echo
	world                   *benchFacts
}

// benchFacts names what the world of the benchmark holds.
type benchFacts struct {
	token   string // of the viewer
	folders []string
}

// benchWorld makes folders that somebody may view by a role on their cloud, beside 200
// other bindings.
func benchWorld(b *testing.B, s *server) *benchmark {
	b.Helper()
	s.createUser("owner")
	viewer := s.createUser("viewer")
	conn := dialPlain(b, s.grpc)
	ctx := metadata.AppendToOutgoingContext(b.Context(), "authorization", "Bearer "+s.createToken("owner"))
	op, err := rmv1.NewCloudServiceClient(conn).Create(ctx, &rmv1.CreateCloudRequest{Name: "bench"})
	cloud := made(b, op, err, &rmv1.Cloud{}).GetId()
	facts := &benchFacts{token: s.createToken("viewer")}
	for n := range 20 {
		op, err = rmv1.NewFolderServiceClient(conn).Create(ctx, &rmv1.CreateFolderRequest{CloudId: cloud, Name: "bench" + strconv.Itoa(n)})
		facts.folders = append(facts.folders, made(b, op, err, &rmv1.Folder{}).GetId())
	}
	deltas := []*accesspb.AccessBindingDelta{grant("viewer", viewer.ID)}
	for i := range 200 {
		deltas = append(deltas, grant("editor", s.createUser("other"+strconv.Itoa(i)).ID))
	}
	if _, err := rmv1.NewCloudServiceClient(conn).UpdateAccessBindings(ctx, &accesspb.UpdateAccessBindingsRequest{
		ResourceId: cloud, AccessBindingDeltas: deltas,
	}); err != nil {
		b.Fatal(err)
	}
	w := &benchmark{caller: bearer(s.createToken("owner")), world: facts}
	w.allowed, w.denied, w.status = facts.ask("resource-manager.folders.get"), facts.ask("resource-manager.folders.delete"), facts.ask("resource-manager.folders.update")
	w.side = &side{conn: dialPlain(b, s.grpc, grpc.WithPerRPCCredentials(w.caller)), pid: s.cmd.Process.Pid}
	return w
}

func (f *benchFacts) ask(permission string) *accessservicev2.AuthorizeRequest {
	return &accessservicev2.AuthorizeRequest{
		Identity:   &accessservicev2.AuthorizeRequest_IamToken{IamToken: f.token},
		Permission: permission, ResourcePath: []*accessservicev2.Resource{{Type: "resource-manager.folder", Id: f.folders[0]}},
	}
}

// BenchmarkBulkAuthorize asks the built program 1,000 questions at a time, half of them
// denied, by four callers over one connection, and reports
//
//	decisions/s  answers per second, the callers' own work on the same machine included
//	server-ns    processor time of the server for each
//
// as medians over turns. Requests are encoded before and answers are not decoded: both
// are work of the callers.
func BenchmarkBulkAuthorize(b *testing.B) {
	w := benchWorld(b, startServer(b, ""))
	if _, err := accessservicev2.NewAccessServiceClient(w.conn).Authorize(b.Context(), w.allowed); err != nil {
		b.Fatal(err)
	}
	for name, request := range map[string][]byte{"actions": w.world.bulk(b, false), "matrix": w.world.bulk(b, true)} {
		b.Run(name, func(b *testing.B) {
			var rates, times []float64
			for range b.N {
				for turn := range benchTurns + 1 {
					cpu, begin := processorTime(w.pid), time.Now()
					var wg sync.WaitGroup
					for range bulkCallers {
						wg.Go(func() { w.askBulk(b, request) })
					}
					wg.Wait()
					asked := float64(bulkCallers * bulkCalls * bulkQuestions)
					if took := time.Since(begin).Seconds(); turn > 0 {
						rates = append(rates, asked/took)
						times = append(times, float64((processorTime(w.pid)-cpu).Nanoseconds())/asked)
					}
				}
			}
			slices.Sort(rates)
			slices.Sort(times)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(rates[len(rates)/2], "decisions/s")
			b.ReportMetric(times[len(times)/2], "server-ns")
		})
	}
}

// Callers of BenchmarkBulkAuthorize, calls of each in a turn, questions of a call.
const (
	bulkCallers   = 4
	bulkCalls     = 25
	bulkQuestions = 1000
)

// askBulk makes the calls of one caller in a turn.
func (w *benchmark) askBulk(b *testing.B, request []byte) {
	for range bulkCalls {
		var answer []byte
		if err := w.conn.Invoke(b.Context(), accessservicev2.AccessService_BulkAuthorize_FullMethodName, request, &answer, grpc.ForceCodecV2(asBytes{})); err != nil {
			b.Error(err)
			return
		}
		if len(answer) < bulkQuestions*100 {
			b.Errorf("an answer of %d bytes", len(answer))
		}
	}
}

// bulk is 1,000 questions about the folders, half of them denied, encoded.
func (f *benchFacts) bulk(b *testing.B, matrix bool) []byte {
	b.Helper()
	req := &accessservicev2.BulkAuthorizeRequest{Identity: &accessservicev2.BulkAuthorizeRequest_IamToken{IamToken: f.token}}
	permissions := []string{"resource-manager.folders.get", "resource-manager.folders.delete"}
	m, actions := new(accessservicev2.BulkAuthorizeRequest_ActionMatrix), new(accessservicev2.BulkAuthorizeRequest_Actions)
	m.Permissions = permissions
	for n := range bulkQuestions / len(permissions) {
		path := []*accessservicev2.Resource{{Type: "resource-manager.folder", Id: f.folders[n%len(f.folders)]}}
		m.ResourcePaths = append(m.ResourcePaths, &accessservicev2.ResourcePath{Path: path})
		for _, p := range permissions {
			actions.Items = append(actions.Items, &accessservicev2.BulkAuthorizeRequest_Action{Permission: p, ResourcePath: path})
		}
	}
	req.Authorizations = &accessservicev2.BulkAuthorizeRequest_Actions_{Actions: actions}
	if matrix {
		req.Authorizations = &accessservicev2.BulkAuthorizeRequest_ActionMatrix_{ActionMatrix: m}
	}
	request, err := proto.Marshal(req)
	if err != nil {
		b.Fatal(err)
	}
	return request
}

// asBytes sends and receives messages as they are encoded.
type asBytes struct{ encoding.CodecV2 }

// Marshal takes the bytes of a message.
func (asBytes) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

// Unmarshal gives the bytes of a message.
func (asBytes) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// Name is that of messages.
func (asBytes) Name() string { return encodingproto.Name }

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

func dialPlain(b *testing.B, address string, more ...grpc.DialOption) *grpc.ClientConn {
	b.Helper()
	conn, err := grpc.NewClient(address, append(more, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return conn
}

// startEcho builds and starts the baseline, which ends with the benchmark. It answers
// what bindery answers: for a permitted check the message; for a denied one a message
// of as many bytes as the denial has in the trailer, or the same status.
func startEcho(b *testing.B, w *benchmark) *side {
	b.Helper()
	program := filepath.Join(b.TempDir(), "echo")
	if out, err := exec.Command("go", "build", "-o", program, "./echo").CombinedOutput(); err != nil {
		b.Fatalf("build echo: %v\n%s", err, out)
	}
	client := accessservicev2.NewAccessServiceClient(w.conn)
	answer, err := client.Authorize(b.Context(), w.allowed)
	if err != nil {
		b.Fatal(err)
	}
	_, denial := client.Authorize(b.Context(), w.denied)
	if status.Code(denial) != codes.PermissionDenied || len(status.Convert(denial).Details()) < 2 {
		b.Fatalf("denied with %v", denial)
	}
	st := status.Convert(denial).Proto()
	bare := &statuspb.Status{Code: st.GetCode(), Message: st.GetMessage(), Details: st.GetDetails()[:1]} // the id of the request it adds
	long := &accessservicev2.AuthorizeResponse{ResourcePath: []*accessservicev2.Resource{{Id: strings.Repeat("x", proto.Size(st)-5)}}}
	if got, want := proto.Size(long), proto.Size(st); got < want || got > want+3 {
		b.Fatalf("an answer of %d bytes for a denial of %d", got, want)
	}
	cmd := exec.Command(program, readyAnswer(b, w.allowed, answer), readyAnswer(b, w.denied, long), readyAnswer(b, w.status, bare))
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
	return &side{conn: dialPlain(b, strings.TrimSpace(address), grpc.WithPerRPCCredentials(w.caller)), pid: cmd.Process.Pid}
}

// readyAnswer is what the echo answers to a request, as it takes it.
func readyAnswer(b *testing.B, to *accessservicev2.AuthorizeRequest, answer proto.Message) string {
	b.Helper()
	text, err := protojson.Marshal(answer)
	if err != nil {
		b.Fatal(err)
	}
	field := "Answer"
	if _, refused := answer.(*statuspb.Status); refused {
		field = "Status"
	}
	arg, err := json.Marshal(map[string]any{"Permission": to.GetPermission(), field: json.RawMessage(text)})
	if err != nil {
		b.Fatal(err)
	}
	return string(arg)
}
