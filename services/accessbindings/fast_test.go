package accessbindings

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// asBytes sends and receives messages as they are encoded.
type asBytes struct{ encoding.CodecV2 }

func (asBytes) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (asBytes) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func (asBytes) Name() string { return encodingproto.Name }

// ways sends requests to one method on the fast path and the long way.
type ways struct {
	*world
	method   string
	fast     func(context.Context, []byte) (any, bool)
	response proto.Message
}

func (w *world) ways(method string) *ways {
	f := w.service.access.fast()[method]
	s := &ways{world: w, method: method, fast: func(ctx context.Context, request []byte) (any, bool) {
		answer, refusal, ok := f(ctx, request)
		if refusal != nil {
			return refusal, ok
		}
		return answer, ok
	}, response: new(accessservicev2.AuthorizeResponse)}
	if method == accessservicev2.AccessService_BulkAuthorize_FullMethodName {
		s.response = new(accessservicev2.BulkAuthorizeResponse)
	}
	return s
}

// outcome is all that a caller sees of an answer.
type outcome struct {
	Response proto.Message
	Status   proto.Message
	Trailer  []string // keys
	Headers  []string
}

func (w *ways) send(ctx context.Context, request []byte) outcome {
	w.t.Helper()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", "the-same", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
	var answer []byte
	var header, trailer metadata.MD
	err := w.Conn.Invoke(ctx, w.method, request, &answer, grpc.ForceCodecV2(asBytes{}), grpc.Header(&header), grpc.Trailer(&trailer))
	o := outcome{Status: w.opened(status.Convert(err))}
	for key := range trailer {
		if key != "grpc-status-details-bin" { // read as the status
			o.Trailer = append(o.Trailer, key+"="+strings.Join(trailer[key], ","))
		}
	}
	for key := range header {
		o.Headers = append(o.Headers, key)
	}
	slices.Sort(o.Trailer)
	slices.Sort(o.Headers)
	if err == nil {
		o.Response = w.response.ProtoReflect().New().Interface()
		w.must(proto.Unmarshal(answer, o.Response))
	}
	return o
}

// opened is a status whose decision id is replaced by what it says, but for the time:
// no two seals are the same.
func (w *ways) opened(st *status.Status) proto.Message {
	w.t.Helper()
	p := st.Proto()
	for _, detail := range p.GetDetails() {
		info := new(errdetails.ErrorInfo)
		if detail.UnmarshalTo(info) != nil || info.GetMetadata()["decisionId"] == "" {
			continue
		}
		d, ok := decisionOf(w.service.committer.graph.seals, info.GetMetadata()["decisionId"])
		if !ok || time.Since(sqldb.Time(d.Now)).Abs() > time.Hour {
			w.t.Errorf("a decision id that says %+v", d)
		}
		d.Now = 0
		info.Metadata["decisionId"] = fmt.Sprintf("%+v", d)
		w.must(detail.MarshalFrom(info))
	}
	return p
}

// unusual adds a field that no message has: all that it changes is the way.
func unusual(request []byte) []byte {
	return protowire.AppendVarint(protowire.AppendTag(slices.Clone(request), 1000, protowire.VarintType), 1)
}

// compare sends a request both ways and returns whether the fast one took it.
func (w *ways) compare(name string, ctx context.Context, request []byte) bool {
	w.t.Helper()
	_, taken := w.fast(ctx, request)
	if _, ok := w.fast(ctx, unusual(request)); ok {
		w.t.Fatalf("%s: the fast path takes unknown fields", name)
	}
	if !taken {
		return false
	}
	if d := cmp.Diff(w.send(ctx, unusual(request)), w.send(ctx, request), protocmp.Transform(), cmp.Comparer(sameInfo)); d != "" {
		w.t.Errorf("%s: %x (-long way +fast):\n%s", name, request, d)
	}
	return true
}

func sameInfo(a, b *errdetails.ErrorInfo) bool { return proto.Equal(a, b) }

// TestFastPath sends good and bad requests both ways: nobody can tell which was gone.
func TestFastPath(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		robot1 := robot("robot1")
		account := Ref{typeServiceAccount, robot1.ID}
		w.register(account, folder1, nil)
		w.know(robot1)
		w.mustUpdate(adam, folder1, add(viewer, vera), add(viewer, robot1))
		for who, want := range map[Subject]int{vera: 4, robot1: 4} {
			t.Run(who.ID, func(t *testing.T) {
				token := w.issue(who)
				_, err := w.authorizeBy(token, getFolder, folder1) // a new token goes the long way
				w.must(err)
				taken := w.authorizeWays(t, token)
				if taken < want {
					t.Errorf("%d requests went the fast way, want %d at least", taken, want)
				}
				w.bulkWays(t, token)
			})
		}
	})
}

func (w *world) issue(who Subject) string {
	w.t.Helper()
	token, err := w.Issuer.Issue(who.Type, who.ID, time.Hour)
	w.must(err)
	return token.Text
}

func (w *world) authorizeBy(token, permission string, path ...Ref) (*accessservicev2.AuthorizeResponse, error) {
	return w.check.Authorize(w.t.Context(), &accessservicev2.AuthorizeRequest{
		Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: token}, Permission: permission, ResourcePath: wire(path...),
	})
}

// paths are good and bad ones.
func paths() map[string][]Ref {
	disk, trail := Ref{"audit-trails.trail", "t1"}, Ref{"compute.disk", "d1"}
	long := strings.Repeat("x", 51)
	return map[string][]Ref{
		"a folder": {folder1}, "another folder": {folder2}, "a cloud": {cloud1}, "the organization": {org1},
		"with its cloud": {folder1, cloud1}, "with its organization": {folder1, org1}, "the whole path": {folder1, cloud1, org1},
		"below another": {folder1, folder2}, "wrong order": {folder1, org1, cloud1}, "below itself": {folder1, folder1},
		"an unknown folder": {{folder1.Type, "none"}}, "a leaf below it": {disk, {folder1.Type, "none"}},
		"a leaf": {disk, folder1}, "two leaves": {disk, trail, folder1}, "a leaf alone": {disk}, "a leaf of nothing": {disk, {"", ""}},
		"nothing": nil, "no id": {{folder1.Type, ""}}, "no type": {{"", folder1.ID}}, "a long id": {{folder1.Type, long}},
		"a leaf with a long id": {{disk.Type, long}, folder1}, "a leaf with a long type": {{strings.Repeat("x", 65), "d"}, folder1},
		"a leaf of 50 letters": {{disk.Type, strings.Repeat("я", 50)}, folder1}, "a quoted leaf": {{disk.Type, "\"\\\n"}, folder1},
		"many leaves": append(slices.Repeat([]Ref{disk}, 20), folder1), "over 128": append(slices.Repeat([]Ref{disk}, 128), folder1),
	}
}

func (w *world) authorizeWays(t *testing.T, token string) (taken int) {
	ways := w.ways(accessservicev2.AccessService_Authorize_FullMethodName)
	for name, path := range paths() {
		for _, permission := range []string{getFolder, getCloud, "resource-manager.folders.delete", "compute.disks.fly", "", strings.Repeat("x", 129)} {
			for _, text := range []string{token, "", "t1.x.y", token + "A", strings.Repeat("x", 1025)} {
				request, err := proto.Marshal(&accessservicev2.AuthorizeRequest{
					Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: text}, Permission: permission, ResourcePath: wire(path...),
				})
				w.must(err)
				if ways.compare(name+" "+permission, t.Context(), request) {
					taken++
				}
			}
		}
	}
	return taken
}

func (w *world) bulkWays(t *testing.T, token string) {
	ways := w.ways(accessservicev2.AccessService_BulkAuthorize_FullMethodName)
	permissions := []string{getFolder, getCloud, "resource-manager.folders.delete", "compute.disks.fly", ""}
	taken := 0
	for n := range 400 {
		rng := rand.New(rand.NewPCG(1, uint64(n)))
		req := &accessservicev2.BulkAuthorizeRequest{
			Identity:     &accessservicev2.BulkAuthorizeRequest_IamToken{IamToken: token},
			ResultFilter: accessservicev2.BulkAuthorizeRequest_ResultFilter(rng.IntN(5) % 4),
		}
		known := len(permissions)
		if rng.IntN(4) > 0 {
			known = 3
		}
		var chosen [][]Ref
		for name, path := range paths() {
			if rng.IntN(8) == 0 && (known == len(permissions) || slices.Contains([]string{"a folder", "another folder", "a cloud", "the whole path", "a leaf"}, name)) {
				chosen = append(chosen, path)
			}
		}
		switch rng.IntN(8) {
		case 0:
			req.ResultMask = &fieldmaskpb.FieldMask{Paths: []string{"permission"}}
		case 1:
			for range 40 {
				chosen = append(chosen, []Ref{folder1}, []Ref{folder2, cloud1}, []Ref{cloud1})
			}
		}
		if rng.IntN(2) == 0 {
			matrix := &accessservicev2.BulkAuthorizeRequest_ActionMatrix{Permissions: slices.Repeat(permissions[:1+rng.IntN(known)], 1+rng.IntN(3))}
			for _, path := range chosen {
				matrix.ResourcePaths = append(matrix.ResourcePaths, &accessservicev2.ResourcePath{Path: wire(path...)})
			}
			req.Authorizations = &accessservicev2.BulkAuthorizeRequest_ActionMatrix_{ActionMatrix: matrix}
		} else {
			actions := new(accessservicev2.BulkAuthorizeRequest_Actions)
			for _, path := range chosen {
				actions.Items = append(actions.Items, &accessservicev2.BulkAuthorizeRequest_Action{Permission: permissions[rng.IntN(known)], ResourcePath: wire(path...)})
			}
			req.Authorizations = &accessservicev2.BulkAuthorizeRequest_Actions_{Actions: actions}
		}
		request, err := proto.Marshal(req)
		w.must(err)
		if ways.compare("bulk", t.Context(), request) {
			taken++
		}
	}
	if taken < 50 {
		t.Errorf("%d bulk requests went the fast way, too few to tell", taken)
	}
}

// TestFastPath_SpoiltBytes changes bytes of good requests: what the fast path takes, the
// long way answers alike.
func TestFastPath_SpoiltBytes(t *testing.T) {
	w := serve(t, sqldbtest.Open(t, sqldb.SQLite, Name, migrationsOf()))
	w.populate()
	token := w.issue(carl)
	_, err := w.authorizeBy(token, getFolder, folder1)
	w.must(err)
	good := map[string][]proto.Message{
		accessservicev2.AccessService_Authorize_FullMethodName: {&accessservicev2.AuthorizeRequest{
			Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: token}, Permission: getFolder, ResourcePath: wire(folder1, cloud1),
		}},
		accessservicev2.AccessService_BulkAuthorize_FullMethodName: {&accessservicev2.BulkAuthorizeRequest{
			Identity: &accessservicev2.BulkAuthorizeRequest_IamToken{IamToken: token}, ResultFilter: 2,
			Authorizations: &accessservicev2.BulkAuthorizeRequest_ActionMatrix_{ActionMatrix: &accessservicev2.BulkAuthorizeRequest_ActionMatrix{
				Permissions: []string{getFolder, getCloud}, ResourcePaths: []*accessservicev2.ResourcePath{{Path: wire(folder1)}, {Path: wire(cloud1, org1)}},
			}},
		}},
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for method, messages := range good {
		ways, taken := w.ways(method), 0
		for _, m := range messages {
			request, err := proto.Marshal(m)
			w.must(err)
			for range 5_000 {
				spoilt := slices.Clone(request)
				for range 1 + rng.IntN(3) {
					switch at := rng.IntN(len(spoilt)); rng.IntN(4) {
					case 0:
						spoilt[at] = byte(rng.Uint32())
					case 1:
						spoilt[at]++
					case 2:
						spoilt = slices.Delete(spoilt, at, min(at+1+rng.IntN(8), len(spoilt)-1))
					default:
						piece := request[rng.IntN(len(request)):]
						spoilt = slices.Insert(spoilt, at, piece[:rng.IntN(min(len(piece), 40))]...)
					}
				}
				if ways.compare("spoilt", t.Context(), spoilt) {
					taken++
				}
			}
		}
		if taken == 0 {
			t.Errorf("%s: no spoilt request went the fast way, so nothing was compared", method)
		}
		t.Logf("%s: %d spoilt requests went the fast way", method, taken)
	}
}

// TestFastPath_Fails: what the long way refuses for the sake of the caller, the graph or
// the lease, no fast path answers.
func TestFastPath_Fails(t *testing.T) {
	w := serve(t, sqldbtest.Open(t, sqldb.SQLite, Name, migrationsOf()))
	w.populate()
	token := w.issue(adam)
	request, err := proto.Marshal(&accessservicev2.AuthorizeRequest{
		Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: token}, Permission: getFolder, ResourcePath: wire(folder1),
	})
	w.must(err)
	ways := w.ways(accessservicev2.AccessService_Authorize_FullMethodName)
	taken := func() bool { _, ok := ways.fast(t.Context(), request); return ok }
	if taken() {
		t.Error("a token that was never verified is taken")
	}
	_, err = w.authorizeBy(token, getFolder, folder1)
	w.must(err)
	if !taken() {
		t.Error("a token that was verified is not taken")
	}
	w.clock.advance(2 * time.Hour)
	if taken() {
		t.Error("a token that has ended is taken")
	}
	w.clock.advance(-2 * time.Hour)
	w.state(adam, stateSuspended)
	if taken() {
		t.Error("a suspended subject is answered")
	}
	w.state(adam, stateActive)
	if !taken() {
		t.Error("a subject that is active again is not answered")
	}
	_ = w.service.access.graph.fail(errEnough)
	if taken() {
		t.Error("a graph that is lost answers")
	}
}

// TestFastPath_Federated: the answer names the federation.
func TestFastPath_Federated(t *testing.T) {
	w := serve(t, sqldbtest.Open(t, sqldb.SQLite, Name, migrationsOf()))
	w.populate()
	fred := Subject{rules.FederatedUser, "fred"}
	w.know(fred)
	w.mustUpdate(adam, folder1, add(viewer, fred))
	token := w.issue(fred)
	_, err := w.authorizeBy(token, getFolder, folder1)
	w.must(err)
	if w.authorizeWays(t, token) == 0 {
		t.Error("no request went the fast way")
	}
}
