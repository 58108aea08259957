package resourcemanager

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// world is the unit behind the production chain, a fake accessbindings beside it,
// and clients of every service.
type world struct {
	*servertest.World
	t      *testing.T
	cfg    Config
	db     *sqldb.DB
	access *fakeAccess
	ahead  atomic.Int64 // by how much the unit's clock is ahead, nanoseconds

	clouds     rmv1.CloudServiceClient
	folders    rmv1.FolderServiceClient
	orgs       orgv1.OrganizationServiceClient
	life       brmv1.OrganizationServiceClient
	deletions  brmv1.DeletionServiceClient
	operations operationpb.OperationServiceClient
}

// forEach runs a test in a world of its own on both engines.
func forEach(t *testing.T, cfg Config, f func(t *testing.T, w *world)) {
	sqldbtest.ForEach(t, Name, cfg.Unit().Migrations, func(t *testing.T, db *sqldb.DB) {
		c, err := catalog.Load()
		if err != nil {
			t.Fatal(err)
		}
		f(t, start(t, cfg, db, newFake(c)))
	})
}

// start runs the process over a database.
func start(t *testing.T, cfg Config, db *sqldb.DB, access *fakeAccess) *world {
	w := &world{t: t, cfg: cfg, db: db, access: access}
	w.World = servertest.Start(t, servertest.Options{
		Units: []server.Unit{access.unit(), cfg.Unit()}, DB: db, Catalog: access.catalog,
		Now: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) },
	})
	w.clients()
	return w
}

// clients makes the clients of the services.
func (w *world) clients() {
	w.clouds, w.folders = rmv1.NewCloudServiceClient(w.Conn), rmv1.NewFolderServiceClient(w.Conn)
	w.orgs, w.life = orgv1.NewOrganizationServiceClient(w.Conn), brmv1.NewOrganizationServiceClient(w.Conn)
	w.deletions, w.operations = brmv1.NewDeletionServiceClient(w.Conn), operationpb.NewOperationServiceClient(w.Conn)
}

// restart runs another process over the same database and tree, after Stop.
func (w *world) restart() *world { return start(w.t, w.cfg, w.db, w.access) }

// limit sets a limit of a resource, or of the installation.
func (w *world) limit(quotaID, resourceID string, limit int64) {
	w.t.Helper()
	err := sqldb.InTx(w.t.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error {
		return (&Store{db: w.db}).SetLimit(ctx, tx, quotaID, resourceID, limit)
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// must fails the test on an error and returns the value.
func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("call failed: %v", err)
		}
		return v
	}
}

// wantRefusal checks code and reason of an error. A field counts as the reason of
// INVALID_ARGUMENT.
func wantRefusal(t *testing.T, what string, err error, code codes.Code, reason string) {
	t.Helper()
	got := apierr.ReasonOf(err)
	if e, ok := apierr.As(apierr.FromRPC(err)); ok && len(e.Fields) > 0 {
		got = e.Fields[0].Name
	}
	if apierr.CodeOf(err) != code || got != reason {
		t.Errorf("%s: %v (%v, %s); want %v, %s", what, err, apierr.CodeOf(err), got, code, reason)
	}
}

// done unpacks a finished operation's response and metadata, whose types must be
// those of the messages given; nil is not looked at.
func (w *world) done(op *operationpb.Operation, response, metadata proto.Message) {
	w.t.Helper()
	if !op.GetDone() || op.GetResponse() == nil {
		w.t.Fatalf("operation %v, want it done with a response", op)
	}
	w.unpack(op, response, metadata)
}

func (w *world) unpack(op *operationpb.Operation, response, metadata proto.Message) {
	w.t.Helper()
	if response != nil {
		if err := op.GetResponse().UnmarshalTo(response); err != nil {
			w.t.Fatalf("response: %v", err)
		}
	}
	if metadata != nil {
		if err := op.GetMetadata().UnmarshalTo(metadata); err != nil {
			w.t.Fatalf("metadata: %v", err)
		}
	}
}

// first makes the first cloud of a user.
func (w *world) first(user string) *rmv1.Cloud {
	w.t.Helper()
	c := new(rmv1.Cloud)
	w.done(must[*operationpb.Operation](w.t)(w.clouds.Create(w.User(user), &rmv1.CreateCloudRequest{Name: "first"})), c, nil)
	return c
}

// cloud makes a cloud in an organization.
func (w *world) cloud(user, organizationID, name string) *rmv1.Cloud {
	w.t.Helper()
	c := new(rmv1.Cloud)
	w.done(must[*operationpb.Operation](w.t)(w.clouds.Create(w.User(user), &rmv1.CreateCloudRequest{OrganizationId: organizationID, Name: name})), c, nil)
	return c
}

// folder makes a folder in a cloud.
func (w *world) folder(user, cloudID, name string) *rmv1.Folder {
	w.t.Helper()
	f := new(rmv1.Folder)
	w.done(must[*operationpb.Operation](w.t)(w.folders.Create(w.User(user), &rmv1.CreateFolderRequest{CloudId: cloudID, Name: name})), f, nil)
	return f
}

// in returns a time of the unit's clock.
func (w *world) in(d time.Duration) *timestamppb.Timestamp {
	return timestamppb.New(time.Now().Add(time.Duration(w.ahead.Load()) + d))
}

// pass moves the unit's clock and makes all its jobs due, as if the time had passed.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	w.ahead.Add(int64(d))
	if _, err := w.db.Pool().ExecContext(w.t.Context(), `UPDATE goqite SET timeout = created`); err != nil {
		w.t.Fatal(err)
	}
}

// poll waits until an operation is done.
func (w *world) poll(ctx context.Context, opID string) *operationpb.Operation {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		op := must[*operationpb.Operation](w.t)(w.operations.Get(ctx, &operationpb.GetOperationRequest{OperationId: opID}))
		if op.GetDone() {
			return op
		}
		if time.Now().After(end) {
			w.t.Fatalf("operation %v is not done within 20 s", op)
		}
	}
}

// events returns the audit events written so far, as "type status subject".
func (w *world) events() []string {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), `SELECT record FROM resourcemanager_audit ORDER BY number`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var text string
		var r audit.Record
		if err := rows.Scan(&text); err != nil {
			w.t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, strings.Join([]string{strings.TrimPrefix(r.EventType, "bindery.audit."), string(r.EventStatus), r.Authentication.SubjectID}, " "))
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return all
}
