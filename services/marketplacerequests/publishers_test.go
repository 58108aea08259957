package marketplacerequests

import (
	"testing"

	"github.com/bindery-iam/bindery/pkg/apierr"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
)

func TestMR4_PublishersBelongToTheOwnerOfTheAccount(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		vera := w.person("vera")
		account := w.account(vera)
		create := func(by person) error {
			_, err := w.publishers.CreatePublisher(w.as(by), &marketplacev1.CreatePublisherRequest{BillingAccountId: account, Name: "Vera's"})
			return err
		}
		w.refused("by another", create(w.olga), apierr.ReasonPermissionDenied)
		for _, role := range []string{"billing.accounts.member", "billing.accounts.admin"} { // AS-20
			w.give(vera, typeBillingAccount, account, role, w.olga)
		}
		w.refused("by an administrator of the account", create(w.olga), apierr.ReasonPermissionDenied)
		w.must(create(vera))
		w.refused("a second one", create(vera), ReasonPublisherExists)
		mine, err := w.publishers.ListPublishers(w.as(vera), &marketplacev1.ListPublishersRequest{})
		w.must(err)
		if len(mine.GetPublishers()) != 1 || mine.GetPublishers()[0].GetCreatedBy() != vera.id {
			t.Fatalf("publishers %v", mine.GetPublishers())
		}
		id := mine.GetPublishers()[0].GetId()
		w.refused("give the ownership away", w.changeRole(vera, typePublisher, id, roleOwner, w.pia, accesspb.AccessBindingAction_ADD), "ROLE_NOT_ASSIGNABLE")
		w.refused("take it away", w.changeRole(vera, typePublisher, id, roleOwner, vera, accesspb.AccessBindingAction_REMOVE), "ROLE_NOT_ASSIGNABLE")
		op, err := w.publishers.UpdatePublisher(w.as(vera), &marketplacev1.UpdatePublisherRequest{PublisherId: id, Name: "New"})
		if got := done[*marketplacev1.Publisher](w, op, err)(new(marketplacev1.Publisher)); got.GetName() != "New" {
			t.Errorf("it is %v", got)
		}
		ops, err := w.publishers.ListPublisherOperations(w.as(vera), &marketplacev1.ListPublisherOperationsRequest{PublisherId: id})
		if w.must(err); len(ops.GetOperations()) != 2 {
			t.Errorf("operations %v", ops.GetOperations())
		}
	})
}

func TestMR16_MR17_PeopleAreAddedToAPublisher(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		vera, nick := w.person("vera"), w.person("nick")
		add := func(by person, users ...string) error {
			_, err := w.publishers.AddPublisherUsers(w.as(by), &marketplacev1.AddPublisherUsersRequest{PublisherId: w.publisher, Users: users})
			return err
		}
		get := func(p person) error {
			_, err := w.publishers.GetPublisher(w.as(p), &marketplacev1.GetPublisherRequest{PublisherId: w.publisher})
			return err
		}
		w.refused("by a stranger", add(vera, "vera@people.example"), apierr.ReasonPermissionDenied)
		w.refused("somebody who is nobody", add(w.olga, "vera@people.example", "none@people.example"), ReasonUserNotFound)
		w.refused("all or none", get(vera), apierr.ReasonPermissionDenied)
		w.must(add(w.olga, "Vera@people.example", "nick@people.example"))
		w.must(get(vera))
		w.must(get(nick))
		listed, err := w.publishers.ListPublishers(w.as(vera), &marketplacev1.ListPublishersRequest{})
		if w.must(err); len(listed.GetPublishers()) != 1 {
			t.Errorf("sees %v", listed.GetPublishers())
		}
		bob := w.person("bob")
		w.give(w.olga, typePublisher, w.publisher, "marketplace.publishers.member", bob)
		w.refused("a member alone", get(bob), apierr.ReasonPermissionDenied)
		// MR-17: a role on one product counts there.
		one, other := w.product(onRequest), w.product(onRequest)
		w.give(w.olga, typeProduct, one, "marketplace.product.admin", bob)
		for id, reason := range map[string]string{one: "", other: apierr.ReasonPermissionDenied} {
			_, err := w.products.GetProduct(w.as(bob), &marketplacev1.GetProductRequest{ProductId: id})
			w.refused("the product "+id, err, reason)
		}
		some, err := w.products.ListProducts(w.as(bob), &marketplacev1.ListProductsRequest{PublisherId: w.publisher})
		w.must(err)
		if len(some.GetProducts()) != 1 || some.GetProducts()[0].GetId() != one {
			t.Errorf("lists %v", some.GetProducts())
		}
	})
}
