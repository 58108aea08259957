package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"

	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// TestReplicasInstall approves and revokes a request for a product, again and again, over
// three replicas of the checker: once a decision is acknowledged each of them answers by
// it at once, and so does installing, whichever of them it asks.
func TestReplicasInstall(t *testing.T) {
	binary(t)
	s := newSplitOn(t, sqldbtest.URL(t), 3)
	s.start()
	w := newTown(t, s.server)
	product, user, token := w.products[0], w.users[0], w.tokens[0]
	w.give(w.owner, "resource-manager.folder", w.folder, "editor", user.ID)
	var replicas []*checkReplica
	for _, one := range s.processesOf(replicated) {
		replicas = append(replicas, newCheckReplica(t, &world{}, one, product))
	}
	if len(replicas) != 3 {
		t.Fatalf("%d replicas", len(replicas))
	}
	installed := 0
	everywhere := func(when string, want codes.Code) {
		t.Helper()
		for i, r := range replicas {
			if got := status.Code(r.mayInstall(t.Context(), token, product)); got != want {
				t.Errorf("%s: replica %d answers %s, want %s", when, i, got, want)
			}
		}
		for range 2 * len(replicas) { // by whichever replica it meets
			installed++
			got := w.call(token, "bindery.marketplace.v1.ProductInstanceService/CreateProductInstance", http.MethodPost, "",
				&marketplacev1.CreateProductInstanceRequest{FolderId: w.folder, ProductId: product, Name: fmt.Sprint("copy-", installed)},
				new(operationpb.Operation))
			if got != want {
				t.Errorf("%s: installing is %s, want %s", when, got, want)
			}
		}
	}
	everywhere("without a request", codes.PermissionDenied)
	for range 3 {
		request := new(marketplacev1.ProductAccessRequest)
		w.made(token, requestsOf+"CreateProductAccessRequest", "",
			&marketplacev1.CreateProductAccessRequestRequest{ProductId: product, FolderId: w.folder, Reason: "To work."}, request)
		everywhere("asked", codes.PermissionDenied)
		w.made(w.decider, requestsOf+"ApproveProductAccessRequest", "", &marketplacev1.ApproveProductAccessRequestRequest{RequestId: request.GetId()}, request)
		everywhere("approved", codes.OK)
		w.platform(request, "access-request", "revoke", "--request", request.GetId(), "--reason", "As asked.")
		everywhere("revoked", codes.PermissionDenied)
	}
}

// mayInstall is nil when the replica lets whoever has a token install a product.
func (r *checkReplica) mayInstall(ctx context.Context, token, product string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err := accessservicev2.NewAccessServiceClient(r.conn).Authorize(ctx, &accessservicev2.AuthorizeRequest{
		Identity:     &accessservicev2.AuthorizeRequest_IamToken{IamToken: token},
		Permission:   "marketplace.products.install",
		ResourcePath: []*accessservicev2.Resource{{Type: "marketplace.product", Id: product}},
	})
	return err
}
