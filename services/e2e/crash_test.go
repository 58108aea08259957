package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// writers is how many change things at once; each gives roles to its own member,
// and all of them on one shared folder too.
const writers = 4

// recentRounds is how many rounds of writers are looked at after each kill. What a
// kill leaves behind is settled within five.
const recentRounds = 6

// times is how often something bad happens: as a variable says, else a few times,
// more of them in CI.
func times(t *testing.T, variable string, few, ci int) int {
	t.Helper()
	if text := os.Getenv(variable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
		return n
	}
	if os.Getenv("CI") != "" {
		return ci
	}
	return few
}

// TestKill kills the server in the middle of concurrent writes, again and again.
// Whatever was acknowledged holds after the restart, from the first answer on;
// whatever was not is there whole or not at all; operations end; and no check
// allows what an acknowledged revoke forbids.
func TestKill(t *testing.T) {
	rounds := times(t, "BINDERY_CRASH_ROUNDS", 3, 20)
	eachEngine(t, func(t *testing.T, s *server) {
		begun := time.Now()
		seed := uint64(begun.UnixNano())
		t.Logf("seed %d", seed)
		w := newWorld(t, s)
		random := rand.New(rand.NewPCG(seed, 0))
		var all []*writer
		for round := range rounds {
			now := w.writers(t, round, random)
			w.writeUntil(t, now, time.Duration(200+random.IntN(800))*time.Millisecond, s.kill)
			if round%3 == 2 { // once more, while it picks up the pieces
				s.launch()
				time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
				s.kill()
			}
			s.start()
			w.connect(t)
			all = append(all, now...)
			// The last rounds are looked at each time, what is older now and then: all
			// of it each time would make the last of many rounds take for ever.
			last := round == rounds-1
			whole := last || round%25 == 24
			recent := all
			if !whole {
				recent = all[max(0, len(all)-recentRounds*writers):]
			}
			w.each(t, recent, (*writer).verify)
			// What a kill leaves behind meets more kills before it is waited for.
			if whole || round%5 == 4 {
				w.each(t, recent, (*writer).settle)
				w.each(t, recent, (*writer).verify)
			}
			if round%10 == 9 {
				t.Logf("%d rounds, after %v", round+1, time.Since(begun).Round(time.Second))
			}
			if t.Failed() {
				t.Fatalf("round %d", round)
			}
		}
		folders := 0
		for _, each := range all {
			folders += len(each.folders)
		}
		t.Logf("%d rounds, %d folders", rounds, folders)
	})
}

// TestStop stops the server in the middle of concurrent writes, as an operator
// does. It ends well, and what it had acknowledged holds.
func TestStop(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *server) {
		w := newWorld(t, s)
		all := w.writers(t, 0, rand.New(rand.NewPCG(1, 1)))
		w.writeUntil(t, all, time.Second, s.stop)
		w.server.start()
		w.connect(t)
		w.each(t, all, (*writer).verify)
		w.each(t, all, (*writer).settle)
	})
}

// world is the server under test and the people in it. They keep their tokens
// through all restarts.
type world struct {
	server  *server
	owner   string // IAM token of who owns the organization
	org     string
	members [writers]member
	crews   [writers]*crew

	conn       *grpc.ClientConn
	persistent *persistent // what conn does about faults; nil means nothing
}

// member is somebody to whom roles are given.
type member struct{ id, token string }

func newWorld(t testing.TB, s *server) *world {
	t.Helper()
	w := &world{server: s}
	s.createUser("owner")
	w.owner = s.createToken("owner")
	for i := range w.members {
		login := "member-" + strconv.Itoa(i)
		w.members[i] = member{id: s.createUser(login).ID, token: s.createToken(login)}
	}
	w.connect(t)
	op, err := w.clouds().Create(w.as(w.owner), &rmv1.CreateCloudRequest{Name: "first"})
	if err != nil {
		t.Fatal(err)
	}
	var first rmv1.Cloud
	if err := op.GetResponse().UnmarshalTo(&first); err != nil {
		t.Fatal(err)
	}
	w.org = first.GetOrganizationId()
	w.hire(t, first.GetId())
	return w
}

// connect opens a connection to the server as it runs now.
func (w *world) connect(t testing.TB) {
	t.Helper()
	conn, err := grpc.NewClient(w.server.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w.conn = conn
}

func (w *world) clouds() rmv1.CloudServiceClient   { return rmv1.NewCloudServiceClient(w.conn) }
func (w *world) folders() rmv1.FolderServiceClient { return rmv1.NewFolderServiceClient(w.conn) }
func (w *world) operations() operationpb.OperationServiceClient {
	return operationpb.NewOperationServiceClient(w.conn)
}
func (w *world) access() accessservicev2.AccessServiceClient {
	return accessservicev2.NewAccessServiceClient(w.conn)
}

// as is the context of a call with a token.
func (w *world) as(token string) context.Context {
	return metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+token)
}

// writers makes the writers of a round, each with a cloud of its own, and one
// folder that all of them share.
func (w *world) writers(t *testing.T, round int, random *rand.Rand) []*writer {
	t.Helper()
	var all []*writer
	for n := range writers {
		op, err := w.clouds().Create(w.as(w.owner), &rmv1.CreateCloudRequest{
			OrganizationId: w.org, Name: "cloud-" + strconv.Itoa(round) + "-" + strconv.Itoa(n),
		})
		if err != nil {
			t.Fatal(err)
		}
		var cloud rmv1.Cloud
		if err := op.GetResponse().UnmarshalTo(&cloud); err != nil {
			t.Fatal(err)
		}
		all = append(all, &writer{world: w, n: n, cloud: cloud.GetId(), random: rand.New(rand.NewPCG(random.Uint64(), 0))})
	}
	shared := &folder{name: "shared"}
	if err := all[0].create(shared); err != nil {
		t.Fatal(err)
	}
	for _, each := range all[1:] {
		each.shared = shared
	}
	all[0].shared = shared
	return all
}

// writeUntil lets the writers write at once, and ends the server after a while. A
// writer that is refused, or cut off before, fails the test.
func (w *world) writeUntil(t *testing.T, all []*writer, after time.Duration, end func()) {
	t.Helper()
	var ending atomic.Bool
	var running sync.WaitGroup
	for _, each := range all {
		running.Go(func() {
			err := each.write()
			if !ending.Load() || !isCutOff(err) {
				t.Errorf("writer %d: %v", each.n, err)
			}
		})
	}
	time.Sleep(after)
	ending.Store(true)
	end()
	running.Wait()
	w.conn.Close()
	if t.Failed() {
		t.FailNow()
	}
}

// subject is a member as a binding names it.
func (m member) subject() *accesspb.Subject { return &accesspb.Subject{Type: "userAccount", Id: m.id} }
