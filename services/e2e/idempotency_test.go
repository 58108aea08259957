package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

const (
	// senders go through their requests one after the other, each in a folder of its
	// own; together they stay below the quota of folders, and with all their sends below
	// the calls that a server lets in at once.
	senders = 12
	// sends is how often each request is sent at once: half over gRPC, half over REST.
	sends = 10
)

// keyedRequests is how many requests are sent: 300, or what
// BINDERY_IDEMPOTENCY_REQUESTS says.
func keyedRequests(t *testing.T) int {
	t.Helper()
	text := os.Getenv("BINDERY_IDEMPOTENCY_REQUESTS")
	if text == "" {
		return 300
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("BINDERY_IDEMPOTENCY_REQUESTS=%q is not a number of requests", text)
	}
	return n
}

// TestIdempotencyKeys sends many different requests, each ten times at once with its
// key, over both doors. Each has one effect and one answer, which outlives a
// restart; others with the same key learn nothing.
func TestIdempotencyKeys(t *testing.T) {
	requests := keyedRequests(t)
	eachForm(t, func(t *testing.T, s *server) {
		k := newKeyedWorld(t, s)
		begun := time.Now()
		var all sync.WaitGroup
		for n := range senders {
			all.Go(func() {
				mine := k.sender(n, k.tenTimes)
				if err := mine.work(func() bool { return n+mine.made*senders < requests }, mine.asOthers); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		t.Logf("%d requests, each sent %d times: %v", requests, sends, time.Since(begun).Round(time.Millisecond))
		if t.Failed() {
			return
		}
		k.onlyTheirFolders(t)
		s.stop()
		s.start()
		k.connect(t, s)
		for n, sent := range k.last {
			if err := k.replayed(sent, fmt.Sprintf("sender %d after a restart", n)); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestIdempotencyKeysAcrossKills kills the server again and again while requests are
// sent, each until it is answered. Whoever does not know what became of a request
// sends it again, and each has one effect.
func TestIdempotencyKeysAcrossKills(t *testing.T) {
	const kills = 5
	eachEngine(t, func(t *testing.T, s *server) {
		k := newKeyedWorld(t, s)
		over := make(chan struct{})
		more := func() bool {
			select {
			case <-over:
				return false
			default:
				return true
			}
		}
		var all sync.WaitGroup
		var made, sent atomic.Int64
		for n := range senders {
			all.Go(func() {
				mine := k.sender(n, func(r keyed) (*operationpb.Operation, error) { return k.untilDone(r, &sent) })
				if err := mine.work(more, nil); err != nil {
					t.Error(err)
				}
				made.Add(int64(mine.made))
			})
		}
		for range kills {
			time.Sleep(time.Second)
			s.kill()
			s.start()
		}
		close(over)
		all.Wait()
		t.Logf("%d requests were sent %d times", made.Load(), sent.Load())
		k.onlyTheirFolders(t)
	})
}

// keyedWorld is what all senders share: ann owns a cloud, eve may edit in it, mallory
// may nothing.
type keyedWorld struct {
	conn *grpc.ClientConn
	rest string
	http *http.Client

	ann, eve, mallory string // IAM tokens
	eveID             string
	cloud             string
	last              [senders]answered // the last request of each sender
}

// answered is a request with its key and the answer that it had.
type answered struct {
	keyed
	answer *operationpb.Operation
}

func newKeyedWorld(t *testing.T, s *server) *keyedWorld {
	t.Helper()
	k := &keyedWorld{http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders * sends}}}
	t.Cleanup(k.http.CloseIdleConnections)
	k.connect(t, s)
	s.createUser("ann")
	s.createUser("mallory")
	k.eveID = s.createUser("eve").ID
	k.ann, k.eve, k.mallory = s.createToken("ann"), s.createToken("eve"), s.createToken("mallory")

	first := keyed{key: "first-cloud", method: rmv1.CloudService_Create_FullMethodName, verb: "POST", path: "clouds", request: &rmv1.CreateCloudRequest{Name: "first"}}
	op, err := k.tenTimes(first)
	if err != nil {
		t.Fatal(err)
	}
	cloud := new(rmv1.Cloud)
	if err := op.GetResponse().UnmarshalTo(cloud); err != nil {
		t.Fatal(err)
	}
	k.cloud = cloud.GetId()
	granted := k.bindings("clouds", k.cloud, rmv1.CloudService_UpdateAccessBindings_FullMethodName, "editor", accesspb.AccessBindingAction_ADD)
	granted.key = "eve-may-edit"
	if _, err := k.tenTimes(granted); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *keyedWorld) connect(t *testing.T, s *server) {
	t.Helper()
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1, MaxDelay: 20 * time.Millisecond}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	k.conn, k.rest = conn, "http://"+s.http+"/resource-manager/v1/"
}

// keyed is a request with its key, as both doors take it.
type keyed struct {
	key        string
	method     string
	verb, path string
	query      string // of a verb without a body
	request    proto.Message
}

// overGRPC sends a request as somebody.
func (k *keyedWorld) overGRPC(token string, r keyed) (*operationpb.Operation, error) {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+token, "idempotency-key", r.key)
	op := new(operationpb.Operation)
	return op, k.conn.Invoke(ctx, r.method, r.request, op)
}

// overREST does the same at the other door.
func (k *keyedWorld) overREST(token string, r keyed) (*operationpb.Operation, error) {
	var body []byte
	url := k.rest + r.path
	if r.verb == "DELETE" {
		url += "?" + r.query
	} else {
		var err error
		if body, err = protojson.Marshal(r.request); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(context.Background(), r.verb, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Idempotency-Key", r.key)
	resp, err := k.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s %s", r.verb, r.path, resp.Status, text)
	}
	op := new(operationpb.Operation)
	return op, protojson.Unmarshal(text, op)
}

// tenTimes sends a request ten times at once, and wants one answer.
func (k *keyedWorld) tenTimes(r keyed) (*operationpb.Operation, error) {
	var ops [sends]*operationpb.Operation
	var errs [sends]error
	var all sync.WaitGroup
	for i := range sends {
		all.Go(func() {
			if i%2 == 0 {
				ops[i], errs[i] = k.overGRPC(k.ann, r)
			} else {
				ops[i], errs[i] = k.overREST(k.ann, r)
			}
		})
	}
	all.Wait()
	for i := range sends {
		if errs[i] != nil {
			return nil, fmt.Errorf("%s with key %s, send %d: %w", r.method, r.key, i, errs[i])
		}
		if diff := cmp.Diff(ops[0], ops[i], protocmp.Transform()); diff != "" {
			return nil, fmt.Errorf("%s with key %s: two answers:\n%s", r.method, r.key, diff)
		}
	}
	if !ops[0].GetDone() {
		return nil, fmt.Errorf("%s with key %s: the operation %v is not done", r.method, r.key, ops[0])
	}
	return ops[0], nil
}

// untilDone sends a request until it is answered by an operation that is done, at most
// a minute long, and counts how often it did.
func (k *keyedWorld) untilDone(r keyed, sent *atomic.Int64) (*operationpb.Operation, error) {
	first := ""
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		sent.Add(1)
		op, err := k.overGRPC(k.ann, r)
		switch {
		case err != nil && (status.Code(err) != codes.Unavailable || time.Now().After(end)):
			return nil, fmt.Errorf("%s with key %s: %w", r.method, r.key, err)
		case err != nil:
			continue
		case first != "" && op.GetId() != first:
			return nil, fmt.Errorf("%s with key %s was answered by %s and by %s", r.method, r.key, first, op.GetId())
		case op.GetDone():
			return op, nil
		case time.Now().After(end):
			return nil, fmt.Errorf("%s with key %s: operation %s is not done", r.method, r.key, op.GetId())
		}
		first = op.GetId()
	}
}

// replayed wants the answer that a request had before, at both doors.
func (k *keyedWorld) replayed(r answered, when string) error {
	for door, send := range map[string]func(string, keyed) (*operationpb.Operation, error){"gRPC": k.overGRPC, "REST": k.overREST} {
		op, err := send(k.ann, r.keyed)
		if err != nil {
			return fmt.Errorf("%s, over %s: %s: %w", when, door, r.method, err)
		}
		if diff := cmp.Diff(r.answer, op, protocmp.Transform()); diff != "" {
			return fmt.Errorf("%s, over %s: %s was answered otherwise (-before +now):\n%s", when, door, r.method, diff)
		}
	}
	return nil
}

// bindings is a change of a role of eve.
func (k *keyedWorld) bindings(collection, id, method, role string, action accesspb.AccessBindingAction) keyed {
	return keyed{method: method, verb: "POST", path: collection + "/" + id + ":updateAccessBindings", request: &accesspb.UpdateAccessBindingsRequest{
		ResourceId: id, AccessBindingDeltas: []*accesspb.AccessBindingDelta{{
			Action: action, AccessBinding: &accesspb.AccessBinding{RoleId: role, Subject: &accesspb.Subject{Type: "userAccount", Id: k.eveID}},
		}},
	}}
}

// onlyTheirFolders wants the folders of the senders, and nothing that a second
// creation made or a deletion left.
func (k *keyedWorld) onlyTheirFolders(t *testing.T) {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+k.ann)
	resp, err := rmv1.NewFolderServiceClient(k.conn).List(ctx, &rmv1.ListFoldersRequest{CloudId: k.cloud, PageSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(resp.GetFolders()); got != senders {
		t.Errorf("%d folders, want %d", got, senders)
	}
}

// sender makes its share of the requests.
type sender struct {
	*keyedWorld
	send    func(keyed) (*operationpb.Operation, error) // to the end
	n       int
	folder  string // its own
	passing string // made by one request, deleted by the next
	effects int    // on folder, by ann and eve
	made    int
}

func (k *keyedWorld) sender(n int, send func(keyed) (*operationpb.Operation, error)) *sender {
	return &sender{keyedWorld: k, n: n, send: send}
}

// work sends requests while there are more and counts their effects. others, if not
// nil, is called with each and its answer.
func (s *sender) work(more func() bool, others func(keyed, *operationpb.Operation) error) error {
	op, err := s.send(s.create(fmt.Sprintf("folder-%d", s.n)))
	if err != nil {
		return err
	}
	if s.folder, err = folderOf(op); err != nil {
		return err
	}
	s.effects++
	for ; more(); s.made++ {
		r, op, err := s.request()
		if err == nil && others != nil {
			err = others(r, op)
		}
		if err != nil {
			return err
		}
	}
	if s.passing != "" {
		if _, err := s.send(s.remove()); err != nil {
			return err
		}
	}
	got, err := s.operations()
	if err == nil && got != s.effects {
		err = fmt.Errorf("folder of sender %d has %d operations, %d were asked for", s.n, got, s.effects)
	}
	return err
}

// request sends the next request.
func (s *sender) request() (r keyed, op *operationpb.Operation, err error) {
	text := fmt.Sprintf("request-%d-%d", s.n, s.made)
	switch s.made % 4 {
	case 0:
		r = keyed{method: rmv1.FolderService_Update_FullMethodName, verb: "PATCH", path: "folders/" + s.folder, request: &rmv1.UpdateFolderRequest{
			FolderId: s.folder, Description: text, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"description"}},
		}}
	case 1:
		action := accesspb.AccessBindingAction_ADD
		if s.made%8 > 4 {
			action = accesspb.AccessBindingAction_REMOVE
		}
		r = s.bindings("folders", s.folder, rmv1.FolderService_UpdateAccessBindings_FullMethodName, "viewer", action)
	case 2:
		r = s.create(text)
	case 3:
		r = s.remove()
	}
	r.key = text
	if op, err = s.send(r); err != nil {
		return r, nil, err
	}
	s.last[s.n] = answered{r, op}
	switch s.made % 4 {
	case 2:
		s.passing, err = folderOf(op)
	case 3:
		s.passing = ""
	default:
		s.effects++
	}
	return r, op, err
}

// asOthers sends the request of ann, with its key, as who may nothing, and as who
// may the same.
func (s *sender) asOthers(r keyed, of *operationpb.Operation) error {
	want := codes.PermissionDenied
	if s.made%4 == 3 { // what was to be deleted is gone
		want = codes.NotFound
	}
	if op, err := s.overGRPC(s.mallory, r); status.Code(err) != want {
		return fmt.Errorf("%s with the key of another: %v, %w; want %v", r.method, op, err, want)
	}
	if s.made%4 != 0 {
		return nil
	}
	op, err := s.overGRPC(s.eve, r)
	if err != nil || op.GetId() == of.GetId() || op.GetCreatedBy() != s.eveID {
		return fmt.Errorf("%s by eve with the key of another: %v, %w; want an operation of her own", r.method, op, err)
	}
	s.effects++
	return nil
}

func (s *sender) create(name string) keyed {
	return keyed{
		key: name, method: rmv1.FolderService_Create_FullMethodName, verb: "POST", path: "folders",
		request: &rmv1.CreateFolderRequest{CloudId: s.cloud, Name: name, Labels: map[string]string{"a": "1", "b": "2", "c": "3"}},
	}
}

// remove deletes the passing folder at once.
func (s *sender) remove() keyed {
	return keyed{
		key: "remove-" + s.passing, method: rmv1.FolderService_Delete_FullMethodName, verb: "DELETE", path: "folders/" + s.passing,
		query:   "deleteAfter=1970-01-01T00:00:00Z",
		request: &rmv1.DeleteFolderRequest{FolderId: s.passing, DeleteAfter: timestamppb.New(time.Unix(0, 0))},
	}
}

// operations counts the operations on the sender's folder.
func (s *sender) operations() (n int, err error) {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+s.ann)
	req := &rmv1.ListFolderOperationsRequest{FolderId: s.folder, PageSize: 1000}
	for {
		resp, err := rmv1.NewFolderServiceClient(s.conn).ListOperations(ctx, req)
		if err != nil {
			return 0, err
		}
		n += len(resp.GetOperations())
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return n, nil
		}
	}
}

func folderOf(op *operationpb.Operation) (string, error) {
	f := new(rmv1.Folder)
	if err := op.GetResponse().UnmarshalTo(f); err != nil {
		return "", err
	}
	return f.GetId(), nil
}
