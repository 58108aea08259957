package e2e

import (
	"bufio"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// The program of an example may not be longer than this, without its imports.
const longestExample = 40

// TestServicesElsewhere runs the two examples beside bindery: a service that asks for
// each call, and one that decides in its own process. Both answer from what was
// acknowledged; the one that decides by itself also when it is stopped for less and for
// more than its lease while a role is revoked, and when bindery is killed.
func TestServicesElsewhere(t *testing.T) {
	binary(t)
	s := startServer(t, "")
	w := newWorld(t, s)
	at := newElsewhere(t, w)
	remote, local := at.start("remote"), at.start("local", w.org)
	local.eventually(codes.PermissionDenied)
	at.turns(20, remote, local)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for round := range times(t, "BINDERY_FOLLOWER_STOPS", 2, 6) {
		at.grant()
		local.eventually(codes.OK)
		process := local.cmd.Process
		hang(t, process)
		if round%2 == 1 { // for less than its lease
			time.AfterFunc(time.Duration(random.IntN(2000))*time.Millisecond, func() { _ = process.Signal(syscall.SIGCONT) })
		}
		begun := time.Now()
		at.revoke()
		if took := time.Since(begun); took > deadReplica {
			t.Errorf("the revoke took %v", took)
		} else {
			t.Logf("round %d: the revoke was acknowledged after %v", round, took.Round(time.Millisecond))
		}
		if err := process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if err := local.ask(); err == nil {
				t.Fatalf("round %d: the service that stood allows what was revoked", round)
			}
		}
		local.eventually(codes.PermissionDenied)
	}
	at.grant()
	local.eventually(codes.OK)
	hang(t, local.cmd.Process)
	s.kill()
	s.start() // it knows nothing of who followed it but that somebody did
	at.revoke()
	if err := local.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if err := local.ask(); err == nil {
			t.Fatal("after the server was killed: the service that stood allows what was revoked")
		}
	}
	local.eventually(codes.PermissionDenied)
}

// TestServicesElsewhereBehindTheGateway: a service that decides by itself follows by the
// gateway of an installation in split units, over two replicas of the checker, one of
// which is killed meanwhile.
func TestServicesElsewhereBehindTheGateway(t *testing.T) {
	s := startSplit(t)
	w := newWorld(t, s.server)
	at := newElsewhere(t, w)
	local := at.start("local", w.org)
	local.eventually(codes.PermissionDenied)
	at.turns(20, local)
	for _, replica := range s.processesOf(replicated) {
		at.grant()
		local.eventually(codes.OK)
		replica.kill()
		at.revoke()
		for range 50 {
			if err := local.ask(); err == nil {
				t.Fatal("after a replica was killed: the service allows what was revoked")
			}
		}
		replica.start()
		local.eventually(codes.PermissionDenied)
	}
	at.turns(20, local)
}

// elsewhere is a folder on which services elsewhere are asked, and a role there that a
// member is given and loses.
type elsewhere struct {
	t     *testing.T
	world *world
	on    *folder
}

// newElsewhere makes the folder, and another member the one by whom services follow.
func newElsewhere(t *testing.T, w *world) *elsewhere {
	t.Helper()
	e := &elsewhere{t: t, world: w, on: &folder{name: "folder"}}
	if err := (&writer{world: w, cloud: w.cloud(t)}).create(e.on); err != nil {
		t.Fatal(err)
	}
	e.change(accesspb.AccessBindingAction_ADD, "organization-manager.organization", w.org, "organization-manager.accessChanges.follower", w.members[1].id)
	return e
}

// start starts one of the examples.
func (e *elsewhere) start(name string, args ...string) *example {
	e.t.Helper()
	one := startExample(e.t, e.world, name, e.on.id, args...)
	one.env("TOKEN=" + e.world.members[1].token)
	one.start()
	return one
}

// change is sent again while nobody can make it.
func (e *elsewhere) change(action accesspb.AccessBindingAction, typ, id, role, who string) {
	e.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		_, err := accessv1.NewAccessBindingServiceClient(e.world.conn).UpdateAccessBindings(e.world.as(e.world.owner), &accessv1.UpdateAccessBindingsRequest{
			Resource: &accessv1.Resource{Type: typ, Id: id},
			AccessBindingDeltas: []*accessv1.AccessBindingDelta{{Action: action, AccessBinding: &accessv1.AccessBinding{
				RoleId: role, Subject: &accessv1.Subject{Type: "userAccount", Id: who},
			}}},
		})
		if err == nil {
			return
		}
		if status.Code(err) != codes.Unavailable || time.Now().After(deadline) {
			e.t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // between two attempts
	}
}

func (e *elsewhere) grant() {
	e.t.Helper()
	e.change(accesspb.AccessBindingAction_ADD, folderType, e.on.id, viewerRole, e.world.members[0].id)
}

func (e *elsewhere) revoke() {
	e.t.Helper()
	e.change(accesspb.AccessBindingAction_REMOVE, folderType, e.on.id, viewerRole, e.world.members[0].id)
}

// turns gives and takes the role, which the services answer by at once, or not at all.
func (e *elsewhere) turns(n int, services ...*example) {
	e.t.Helper()
	for range n {
		e.grant()
		for _, one := range services {
			one.eventually(codes.OK)
		}
		e.revoke()
		for _, one := range services {
			one.eventually(codes.PermissionDenied)
		}
	}
}

// example is one of the example services, asked about one member and one folder.
type example struct {
	t      *testing.T
	name   string
	world  *world
	folder string
	cmd    *exec.Cmd
	client rmv1.FolderServiceClient
}

// startExample builds an example, which is started then.
func startExample(t *testing.T, w *world, name, folder string, args ...string) *example {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", program, "./example/"+name).CombinedOutput(); err != nil {
		t.Fatalf("build the example: %v\n%s", err, out)
	}
	e := &example{t: t, name: name, world: w, folder: folder}
	e.cmd = exec.Command(program, append([]string{w.server.grpc}, args...)...)
	e.cmd.Env, e.cmd.Stderr = os.Environ(), os.Stderr
	return e
}

func (e *example) env(pair string) { e.cmd.Env = append(e.cmd.Env, pair) }

func (e *example) start() {
	e.t.Helper()
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		_ = e.cmd.Process.Kill()
		_ = e.cmd.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		e.t.Fatalf("the example did not say its address: %v", err)
	}
	conn, err := grpc.NewClient(strings.TrimSpace(address), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { conn.Close() })
	e.client = rmv1.NewFolderServiceClient(conn)
}

// ask is nil when the service lets the member in.
func (e *example) ask() error {
	ctx, cancel := context.WithTimeout(e.world.as(e.world.members[0].token), 30*time.Second)
	defer cancel()
	_, err := e.client.Get(ctx, &rmv1.GetFolderRequest{FolderId: e.folder})
	return err
}

// eventually waits while the service cannot know, and wants that answer then.
func (e *example) eventually(want codes.Code) {
	e.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) { // between two questions
		got := status.Code(e.ask())
		if got == want {
			return
		}
		if got != codes.Unavailable || time.Now().After(deadline) {
			e.t.Fatalf("%s answers %v, not %v", e.name, got, want)
		}
	}
}

// The examples show how little it takes.
func TestExamplesAreShort(t *testing.T) {
	for _, name := range []string{"remote", "local"} {
		text, err := os.ReadFile(filepath.Join("example", name, "main.go"))
		if err != nil {
			t.Fatal(err)
		}
		_, code, found := strings.Cut(string(text), "\n)\n")
		if lines := strings.Count(strings.TrimSpace(code), "\n") + 1; !found || lines >= longestExample {
			t.Errorf("the example %s has %d lines without its imports, want fewer than %d", name, lines, longestExample)
		}
	}
}
