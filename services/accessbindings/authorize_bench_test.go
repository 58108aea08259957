package accessbindings

import (
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"

	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// BenchmarkAuthorize is one check by a token, allowed: the handler alone, and the
// whole RPC over a loopback connection.
func BenchmarkAuthorize(b *testing.B) {
	w := serve(b, sqldbtest.Open(b, sqldb.SQLite, Name, migrationsOf()))
	w.populate()
	token, err := w.Issuer.Issue(carl.Type, carl.ID, time.Hour)
	w.must(err)
	req := &accessservicev2.AuthorizeRequest{
		Identity:   &accessservicev2.AuthorizeRequest_IamToken{IamToken: token.Text},
		Permission: getFolder, ResourcePath: wire(folder1),
	}
	b.Run("handler", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.service.access.Authorize(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("rpc", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.check.Authorize(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
}
