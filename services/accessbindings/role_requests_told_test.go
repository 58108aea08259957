package accessbindings

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// people is identity for notices: whoever is asked about is active and has an address.
type people struct {
	identityv1.DirectoryServiceClient
}

func (people) BatchGetSubjects(_ context.Context, req *identityv1.BatchGetSubjectsRequest, _ ...grpc.CallOption) (*identityv1.BatchGetSubjectsResponse, error) {
	resp := new(identityv1.BatchGetSubjectsResponse)
	for _, id := range req.GetIds() {
		resp.Subjects = append(resp.Subjects, &identityv1.SubjectEntry{Id: id, State: identityv1.SubjectEntry_ACTIVE, Email: id + "@people.example"})
	}
	return resp, nil
}

// postman is notifications: it keeps what it is handed.
type postman struct {
	notificationv1.UnimplementedNotificationServiceServer
	notices chan *notificationv1.Notice
}

func (p *postman) Notify(_ context.Context, req *notificationv1.NotifyRequest) (*notificationv1.NotifyResponse, error) {
	p.notices <- req.GetNotice()
	return new(notificationv1.NotifyResponse), nil
}

func TestRQ9_EachSideIsToldOnce(t *testing.T) {
	sqldbtest.ForEach(t, Name, migrationsOf(), func(t *testing.T, db *sqldb.DB) {
		post := &postman{notices: make(chan *notificationv1.Notice, 100)}
		fake := func(name string, register func(grpc.ServiceRegistrar)) server.Unit {
			return server.Unit{Name: name, Build: func(_ context.Context, base server.Base) (*server.Parts, error) {
				return &server.Parts{Register: register, Decider: authz.NewClient(base.Peer(Name))}, nil
			}}
		}
		w := &world{t: t, db: db, clock: new(clock), manager: new(manager), units: map[string]accessv1.ResourceServiceClient{}}
		unit := Unit()
		unit.Build = func(ctx context.Context, base server.Base) (*server.Parts, error) {
			s, err := New(ctx, base)
			if err != nil {
				return nil, err
			}
			w.service, s.requests.directory = s, people{}
			return s.Parts(), nil
		}
		w.World = servertest.Start(t, servertest.Options{
			Units: []server.Unit{
				unit, w.manager.unit(testCatalog(t)),
				fake("notifications", func(r grpc.ServiceRegistrar) { notificationv1.RegisterNotificationServiceServer(r, post) }),
			}, DB: db, Catalog: testCatalog(t), Now: w.clock.now,
		})
		w.connect()
		w.populate()
		w.must(w.members(org1, []Subject{vera}, nil))
		rw := &roleWorld{w, accessv1.NewRoleRequestServiceClient(w.Conn)}
		id := rw.mustAsk(vera)
		rw.mustTake(vera, id, request.Post)
		rw.mustTake(adam, id, request.Post)
		rw.mustTake(adam, id, request.Approve)
		rw.mustTake(adam, id, request.Approve) // no news
		rw.mustTake(adam, id, request.Revoke)
		second := rw.mustAsk(vera, func(r *accessv1.CreateRoleRequestRequest) {
			r.Term = &accessv1.CreateRoleRequestRequest_Duration{Duration: durationpb.New(time.Minute)}
		})
		rw.mustTake(carl, second, request.Approve)
		w.clock.advance(2 * time.Minute)
		w.must(w.service.requests.sweep(t.Context()))
		want := []string{
			"role_request.approved:" + id + ":requester", "role_request.approved:" + second + ":requester",
			"role_request.created:" + id + ":decider", "role_request.created:" + second + ":decider",
			"role_request.ended:" + id + ":requester", "role_request.expired:" + second + ":decider", "role_request.expired:" + second + ":requester",
			"role_request.message:" + id + ":decider:1", "role_request.message:" + id + ":requester:2",
		}
		slices.Sort(want)
		var got []string
		for end := time.After(30 * time.Second); len(got) < len(want); {
			select {
			case n := <-post.notices:
				got = append(got, n.GetId())
				to := []string{"vera@people.example"}
				if strings.Contains(n.GetId(), ":decider") {
					to = []string{"adam@people.example", "carl@people.example", "olga@people.example"}
				}
				if !slices.Equal(n.GetAddresses().GetEmails(), to) || strings.Contains(n.GetText(), "logs") || n.GetDetails()["target"] != typeRoleRequest+":"+n.GetDetails()["request_id"] {
					t.Errorf("the notice %v, to %v", n, to)
				}
			case <-end:
				t.Fatalf("told of %v, want %v", got, want)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("told of %v, want %v", got, want)
		}
	})
}
