package identity

import (
	"bytes"
	"context"
	"database/sql"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
	"github.com/bindery-iam/bindery/services/accessbindings"
	"github.com/bindery-iam/bindery/services/identity/operator"
	"github.com/bindery-iam/bindery/services/resourcemanager"
)

// suite is the unit with the real units around it, and a tree with its owner.
type suite struct {
	*world
	service *Service
	log     *lines
	stopped atomic.Int64 // unix nanoseconds at which the clock stands; 0 while it goes
	keys    iamv1.KeyServiceClient
	access  accessv1.AccessBindingServiceClient

	owner      *identityv1.CreateUserResponse
	org        string
	cloud      string
	folder     string
	asOwner    context.Context //nolint:containedctx // of the whole test
	asIdentity accessv1.SubjectServiceClient
}

// lines is the log of a suite, from its most talkative level on.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

// Write adds to the log.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

// String is what was logged so far.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// inSuite runs a test on both engines.
func inSuite(t *testing.T, test func(t *testing.T, w *suite)) {
	t.Helper()
	sqldbtest.ForEach(t, Name, servertest.Series(Unit(), accessbindings.Unit(), resourcemanager.Unit()), func(t *testing.T, db *sqldb.DB) { test(t, newSuite(t, db)) })
}

func newSuite(t *testing.T, db *sqldb.DB) *suite {
	t.Helper()
	w := &suite{world: &world{t: t, db: db, clock: new(atomic.Int64)}, log: new(lines)}
	w.serve(Config{}, servertest.Options{Units: []server.Unit{accessbindings.Unit(), resourcemanager.Unit()}, DB: db})
	w.plant()
	return w
}

// serve runs the unit among others.
func (w *suite) serve(c Config, opts servertest.Options) {
	w.t.Helper()
	cat, err := catalog.Load()
	w.must(err)
	self := Unit()
	self.Build = func(ctx context.Context, base server.Base) (*server.Parts, error) {
		if w.service, err = New(ctx, base); err != nil {
			return nil, err
		}
		c.Issuers.Loopback = true
		w.service.configure(c.withDefaults())
		return w.service.Parts(), w.service.openSignIn(ctx)
	}
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	opts.Units, opts.Catalog, opts.Now = append(opts.Units, self), cat, w.time
	opts.Log = zap.New(zapcore.NewCore(encoder, zapcore.AddSync(w.log), zap.DebugLevel))
	w.World = servertest.Start(w.t, opts)
	conn, err := operator.Dial(w.DataDir)
	w.must(err)
	w.t.Cleanup(func() { _ = conn.Close() }) // the test is over
	w.operator = identityv1.NewOperatorServiceClient(conn)
	w.tokens = iamv1.NewIamTokenServiceClient(w.Conn)
	w.users = iamv1.NewUserAccountServiceClient(w.Conn)
	w.logins = iamv1.NewYandexPassportUserAccountServiceClient(w.Conn)
	w.keys = iamv1.NewKeyServiceClient(w.Conn)
	w.access = accessv1.NewAccessBindingServiceClient(w.Conn)
	w.asIdentity = accessv1.NewSubjectServiceClient(w.Unit(Name, "accessbindings"))
}

// time is the clock of the process.
func (w *suite) time() time.Time {
	if at := w.stopped.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Now().Add(time.Duration(w.clock.Load()))
}

// stopClock makes the clock stand still.
func (w *suite) stopClock() { w.stopped.Store(w.time().UnixNano()) }

// plant makes an organization, a cloud and a folder.
func (w *suite) plant() {
	w.t.Helper()
	w.owner = w.user("owner")
	w.asOwner = w.Context(w.token(w.owner).GetIamToken())
	clouds := rmv1.NewCloudServiceClient(w.Conn)
	op, err := clouds.Create(w.asOwner, &rmv1.CreateCloudRequest{Name: "first"})
	w.must(err)
	made := new(rmv1.Cloud)
	w.must(op.GetResponse().UnmarshalTo(made))
	w.cloud, w.org = made.GetId(), made.GetOrganizationId()
	op, err = rmv1.NewFolderServiceClient(w.Conn).Create(w.asOwner, &rmv1.CreateFolderRequest{CloudId: w.cloud, Name: "folder"})
	w.must(err)
	f := new(rmv1.Folder)
	w.must(op.GetResponse().UnmarshalTo(f))
	w.folder = f.GetId()
}

func (w *suite) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// account makes a service account in the folder.
func (w *suite) account(name string) string {
	w.t.Helper()
	op, err := iamv1.NewServiceAccountServiceClient(w.Conn).Create(w.asOwner, &iamv1.CreateServiceAccountRequest{FolderId: w.folder, Name: name})
	w.must(err)
	a := new(iamv1.ServiceAccount)
	w.must(op.GetResponse().UnmarshalTo(a))
	return a.GetId()
}

// change changes what is stored of a service account.
func (w *suite) change(accountID string, edit func(a *ServiceAccount)) {
	w.t.Helper()
	w.must(sqldb.InTx(w.t.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error {
		a, err := w.service.store.LockAccount(ctx, tx, accountID)
		if err != nil {
			return err
		}
		edit(&a)
		return w.service.store.UpdateAccount(ctx, tx, a)
	}))
}

// grant gives a role on a resource.
func (w *suite) grant(role, typ, on, subjectType, subject string) {
	w.t.Helper()
	_, err := w.access.UpdateAccessBindings(w.asOwner, &accessv1.UpdateAccessBindingsRequest{
		Resource: &accessv1.Resource{Type: typ, Id: on},
		AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
			Action:        accesspb.AccessBindingAction_ADD,
			AccessBinding: &accessv1.AccessBinding{RoleId: role, Subject: &accessv1.Subject{Type: subjectType, Id: subject}},
		}},
	})
	w.must(err)
}
