package identity

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	"github.com/bindery-iam/bindery/services/identity/operator"
)

// fakeAccess stands in for accessbindings: the subjects and revoked tokens it was
// told, behind the production chain. It can be told to be away.
type fakeAccess struct {
	accessv1.UnimplementedSubjectServiceServer
	accessservicev2.UnimplementedAccessServiceServer
	tokens *authn.Verifier

	mu       sync.Mutex
	subjects map[string]bool
	revoked  map[string]time.Time
	units    map[string]bool // who called
	away     atomic.Bool
}

func newFakeAccess() *fakeAccess {
	return &fakeAccess{subjects: map[string]bool{}, revoked: map[string]time.Time{}, units: map[string]bool{}}
}

func (f *fakeAccess) unit() server.Unit {
	return server.Unit{Name: "accessbindings", Build: func(_ context.Context, base server.Base) (*server.Parts, error) {
		f.tokens = base.Tokens
		return &server.Parts{Register: func(r grpc.ServiceRegistrar) {
			accessv1.RegisterSubjectServiceServer(r, f)
			accessservicev2.RegisterAccessServiceServer(r, f)
		}, Decider: authz.NewClient(base.Peer("accessbindings"))}, nil
	}}
}

// fakeManager stands in for resourcemanager, which this unit cannot do without.
func fakeManager() server.Unit {
	return server.Unit{Name: "resourcemanager", Build: func(context.Context, server.Base) (*server.Parts, error) {
		return &server.Parts{Register: func(grpc.ServiceRegistrar) {}}, nil
	}}
}

var errAway = apierr.Unavailable(apierr.ReasonUnavailable, "away")

func (f *fakeAccess) enter(ctx context.Context) error {
	if f.away.Load() {
		return errAway
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.units[authn.FromContext(ctx).Unit] = true
	return nil
}

// SetSubject makes a subject known.
func (f *fakeAccess) SetSubject(ctx context.Context, req *accessv1.SetSubjectRequest) (*accessv1.SetSubjectResponse, error) {
	if err := f.enter(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subjects[req.GetSubject().GetType()+":"+req.GetSubject().GetId()] = req.GetState() == accessv1.SetSubjectRequest_ACTIVE
	return &accessv1.SetSubjectResponse{Revision: 1}, nil
}

// ListMemberships knows no organization.
func (f *fakeAccess) ListMemberships(ctx context.Context, _ *accessv1.ListMembershipsRequest) (*accessv1.ListMembershipsResponse, error) {
	return new(accessv1.ListMembershipsResponse), f.enter(ctx)
}

// RevokeToken makes a token void.
func (f *fakeAccess) RevokeToken(ctx context.Context, req *accessv1.RevokeTokenRequest) (*accessv1.RevokeTokenResponse, error) {
	if err := f.enter(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revoked[string(req.GetTokenId())] = req.GetExpiresAt().AsTime()
	return &accessv1.RevokeTokenResponse{Revision: 1}, nil
}

// RevokeSessions makes the tokens of sessions void.
func (f *fakeAccess) RevokeSessions(ctx context.Context, req *accessv1.RevokeSessionsRequest) (*accessv1.RevokeSessionsResponse, error) {
	if err := f.enter(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range req.GetSessions() {
		f.revoked[string(s.GetSessionId())] = s.GetExpiresAt().AsTime()
	}
	return &accessv1.RevokeSessionsResponse{Revision: 1}, nil
}

// Authenticate answers from what it was told.
func (f *fakeAccess) Authenticate(ctx context.Context, req *accessservicev2.AuthenticateRequest) (*accessservicev2.AuthenticateResponse, error) {
	p, err := f.tokens.Verify(ctx, req.GetIamToken())
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, gone := f.revoked[string(p.TokenID[:])]
	_, over := f.revoked[string(p.Session[:])]
	if gone || over {
		return nil, apierr.Unauthenticated(apierr.ReasonTokenRevoked, "revoked")
	}
	if !f.subjects[p.Subject()] {
		return nil, apierr.Unauthenticated(apierr.ReasonSubjectInactive, "unknown subject")
	}
	return &accessservicev2.AuthenticateResponse{}, nil
}

// Authorize knows no resource.
func (f *fakeAccess) Authorize(context.Context, *accessservicev2.AuthorizeRequest) (*accessservicev2.AuthorizeResponse, error) {
	return nil, apierr.Denied(apierr.ReasonResourceNotFound, "unknown")
}

// world is the unit in a process with its clients.
type world struct {
	*servertest.World
	t        *testing.T
	db       *sqldb.DB
	access   *fakeAccess
	clock    *atomic.Int64 // added to the clock of the process
	operator identityv1.OperatorServiceClient
	tokens   iamv1.IamTokenServiceClient
	users    iamv1.UserAccountServiceClient
	logins   iamv1.YandexPassportUserAccountServiceClient
}

// forEach runs a test on both engines.
func forEach(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	sqldbtest.ForEach(t, Name, Unit().Migrations, func(t *testing.T, db *sqldb.DB) {
		test(t, start(t, db, newFakeAccess(), t.TempDir(), new(atomic.Int64)))
	})
}

func start(t *testing.T, db *sqldb.DB, access *fakeAccess, dir string, clock *atomic.Int64) *world {
	t.Helper()
	cat, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, access: access, clock: clock}
	w.World = servertest.Start(t, servertest.Options{
		Units: []server.Unit{Unit(), access.unit(), fakeManager()}, DB: db, Catalog: cat, DataDir: dir,
		Now: func() time.Time { return time.Now().Add(time.Duration(clock.Load())) },
	})
	conn, err := operator.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	w.operator = identityv1.NewOperatorServiceClient(conn)
	w.tokens = iamv1.NewIamTokenServiceClient(w.Conn)
	w.users = iamv1.NewUserAccountServiceClient(w.Conn)
	w.logins = iamv1.NewYandexPassportUserAccountServiceClient(w.Conn)
	return w
}

// restart ends the process and starts another one over the same database.
func (w *world) restart() *world {
	w.t.Helper()
	w.Stop()
	return start(w.t, w.db, w.access, w.DataDir, w.clock)
}

func (w *world) advance(d time.Duration) { w.clock.Add(int64(d)) }

// user makes a user and returns it with its OAuth token.
func (w *world) user(login string) *identityv1.CreateUserResponse {
	w.t.Helper()
	u, err := w.operator.CreateUser(w.t.Context(), &identityv1.CreateUserRequest{Login: login, Email: login + "@example.com"})
	if err != nil {
		w.t.Fatalf("create user %s: %v", login, err)
	}
	return u
}

func oauth(token string) *iamv1.CreateIamTokenRequest {
	return &iamv1.CreateIamTokenRequest{Identity: &iamv1.CreateIamTokenRequest_YandexPassportOauthToken{YandexPassportOauthToken: token}}
}

// token signs in.
func (w *world) token(u *identityv1.CreateUserResponse) *iamv1.CreateIamTokenResponse {
	w.t.Helper()
	tok, err := w.tokens.Create(w.t.Context(), oauth(u.GetOauthToken()))
	if err != nil {
		w.t.Fatalf("sign in %s: %v", u.GetLogin(), err)
	}
	return tok
}

// works returns the error of a call with a token.
func (w *world) works(token string) error {
	_, err := w.logins.GetByLogin(w.Context(token), &iamv1.GetUserAccountByLoginRequest{Login: "nobody"})
	if status.Code(err) == codes.NotFound {
		return nil
	}
	return err
}

func wantCode(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	if status.Code(err) != code || apierr.ReasonOf(err) != reason {
		t.Errorf("got %v, reason %q; want %v, %q", err, apierr.ReasonOf(err), code, reason)
	}
}

// events counts the audit records by type.
func (w *world) events() map[string]int {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), `SELECT event_type, record FROM identity_audit`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]int{}
	for rows.Next() {
		var typ, record string
		if err := rows.Scan(&typ, &record); err != nil {
			w.t.Fatal(err)
		}
		if strings.Contains(record, oauthPrefix) || strings.Contains(record, "t1.") {
			w.t.Errorf("a secret in the audit record %s", record)
		}
		out[strings.TrimPrefix(typ, "bindery.audit.iam.")]++
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return out
}
