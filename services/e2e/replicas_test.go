package e2e

import (
	"context"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// The longest that a dead replica delays a write: its lease and the margin, and time
// to find that out.
const deadReplica = 12 * time.Second

// TestReplicaStopped stops one of two replicas of the checker, as a debugger or a
// machine out of memory would, for less and for more than its lease, and revokes a
// role by the other one. The stopped one never answers from before the revoke: not a
// question that waited for it, and none after it goes on.
func TestReplicaStopped(t *testing.T) {
	binary(t)
	s := startSplit(t)
	w := newWorld(t, s.server)
	on := &folder{name: "folder"}
	if err := (&writer{world: w, cloud: w.cloud(t)}).create(on); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	var replicas []*checkReplica
	for _, one := range s.processesOf(replicated) {
		replicas = append(replicas, newCheckReplica(t, w, one, on.id))
	}
	for round := range times(t, "BINDERY_REPLICA_STOPS", 4, 8) {
		random.Shuffle(len(replicas), func(i, j int) { replicas[i], replicas[j] = replicas[j], replicas[i] })
		writer, stopped := replicas[0], replicas[1]
		writer.change(accesspb.AccessBindingAction_ADD)
		for _, one := range replicas {
			one.eventually(codes.OK)
		}
		process := stopped.server.cmd.Process
		hang(t, process)
		waiting := make(chan error, 1)
		go func() { waiting <- stopped.ask() }()
		if round%2 == 0 { // for less than its lease
			time.AfterFunc(time.Duration(random.IntN(2000))*time.Millisecond, func() { _ = process.Signal(syscall.SIGCONT) })
		}
		begun := time.Now()
		writer.change(accesspb.AccessBindingAction_REMOVE)
		took := time.Since(begun)
		if took > deadReplica {
			t.Errorf("the revoke took %v", took)
		}
		if code := status.Code(writer.ask()); code != codes.PermissionDenied {
			t.Errorf("after the revoke the writer answers %v", code)
		}
		if err := process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if err := stopped.ask(); err == nil {
				t.Fatalf("round %d: the replica that stood allows what was revoked", round)
			}
		}
		// The one that waited was asked before the revoke was acknowledged, and may be
		// answered from then only while nobody had acknowledged it.
		if err := <-waiting; err == nil && round%2 == 1 {
			t.Errorf("round %d: a question that waited for the replica that stood was allowed", round)
		}
		stopped.eventually(codes.PermissionDenied)
		t.Logf("round %d: the revoke was acknowledged after %v", round, took.Round(time.Millisecond))
	}
}

// checkReplica is one replica of the checker, asked at its own address about one
// member and one folder.
type checkReplica struct {
	t      *testing.T
	world  *world
	server *server
	conn   *grpc.ClientConn
	folder string
}

func newCheckReplica(t *testing.T, w *world, one *server, folder string) *checkReplica {
	t.Helper()
	conn, err := grpc.NewClient(one.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &checkReplica{t: t, world: w, server: one, conn: conn, folder: folder}
}

// ask is nil when the replica allows it.
func (r *checkReplica) ask() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return r.askAs(ctx, r.world.members[0].token)
}

// askAs is nil when the replica allows it to who has a token.
func (r *checkReplica) askAs(ctx context.Context, token string) error {
	_, err := accessservicev2.NewAccessServiceClient(r.conn).Authorize(ctx, &accessservicev2.AuthorizeRequest{
		Identity:     &accessservicev2.AuthorizeRequest_IamToken{IamToken: token},
		Permission:   folderGet,
		ResourcePath: []*accessservicev2.Resource{{Type: folderType, Id: r.folder}},
	})
	return err
}

// eventually waits while the replica cannot know, and wants that answer then.
func (r *checkReplica) eventually(want codes.Code) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) { // between two questions
		got := status.Code(r.ask())
		if got == want {
			return
		}
		if got != codes.Unavailable || time.Now().After(deadline) {
			r.t.Fatalf("it answers %v, not %v", got, want)
		}
	}
}

// change gives the member the role on the folder, or takes it, by this replica.
func (r *checkReplica) change(action accesspb.AccessBindingAction) {
	r.t.Helper()
	_, err := accessv1.NewAccessBindingServiceClient(r.conn).UpdateAccessBindings(r.world.as(r.world.owner), &accessv1.UpdateAccessBindingsRequest{
		Resource: &accessv1.Resource{Type: folderType, Id: r.folder},
		AccessBindingDeltas: []*accessv1.AccessBindingDelta{{Action: action, AccessBinding: &accessv1.AccessBinding{
			RoleId: viewerRole, Subject: &accessv1.Subject{Type: "userAccount", Id: r.world.members[0].id},
		}}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}
