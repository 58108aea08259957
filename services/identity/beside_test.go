package identity

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	"github.com/bindery-iam/bindery/services/accessbindings"
	"github.com/bindery-iam/bindery/services/identity/operator"
	"github.com/bindery-iam/bindery/services/resourcemanager"
)

// beside starts the unit with the real accessbindings.
func beside(t *testing.T, db *sqldb.DB, dir string) *world {
	t.Helper()
	cat, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, World: servertest.Start(t, servertest.Options{
		Units: []server.Unit{accessbindings.Unit(), resourcemanager.Unit(), Unit()}, DB: db, Catalog: cat, DataDir: dir,
	})}
	conn, err := operator.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	w.operator = identityv1.NewOperatorServiceClient(conn)
	w.tokens = iamv1.NewIamTokenServiceClient(w.Conn)
	w.logins = iamv1.NewYandexPassportUserAccountServiceClient(w.Conn)
	return w
}

func TestTK3_BesideAccessBindings(t *testing.T) {
	sqldbtest.ForEach(t, Name, servertest.Series(Unit(), accessbindings.Unit(), resourcemanager.Unit()), func(t *testing.T, db *sqldb.DB) {
		dir := t.TempDir()
		w := beside(t, db, dir)
		u := w.user("alice")
		void, kept := w.token(u).GetIamToken(), w.token(u).GetIamToken()
		if _, err := w.tokens.Revoke(w.Context(kept), &iamv1.RevokeIamTokenRequest{IamToken: void}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // before and after a restart
			wantCode(t, w.works(void), codes.Unauthenticated, apierr.ReasonTokenRevoked)
			if err := w.works(kept); err != nil {
				t.Error(err)
			}
			w.Stop()
			w = beside(t, db, dir)
		}
	})
}
