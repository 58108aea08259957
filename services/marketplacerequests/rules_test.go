package marketplacerequests

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

func (w *world) setAccess(productID string, to marketplacev1.Product_Access) {
	w.t.Helper()
	op, err := w.products.UpdateProduct(w.as(w.olga), &marketplacev1.UpdateProductRequest{ProductId: productID, Access: to})
	if got := done[*marketplacev1.Product](w, op, err)(new(marketplacev1.Product)); got.GetAccess() != to {
		w.t.Errorf("the product is %v", got)
	}
}

func (w *world) archive(productID string) error {
	op, err := w.products.ArchiveProduct(w.as(w.olga), &marketplacev1.ArchiveProductRequest{ProductId: productID})
	if err == nil {
		done[*marketplacev1.Product](w, op, nil)(new(marketplacev1.Product))
	}
	return err
}

func TestMR1_MR2_MR19_WhoMayInstall(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.customer("ann"), w.customer("bob")
		product := w.product(onRequest)
		first, second := w.mustAsk(ann, product), w.mustAsk(bob, product)
		w.must(w.approve(w.pia, first))
		w.may(ann.person, product, true)
		w.may(bob.person, product, false)
		for range 2 { // there and back again
			w.setAccess(product, public)
			w.may(ann.person, product, true)
			w.may(bob.person, product, true)
			if got := w.state(first) + " " + w.state(second); got != "APPROVED CANCELED" {
				t.Errorf("the requests are %s", got)
			}
			if got := w.users(product); got != ann.id {
				t.Errorf("users %q, want %q", got, ann.id)
			}
			w.setAccess(product, onRequest)
			w.may(ann.person, product, true)
			w.may(bob.person, product, false)
		}
		w.mustAsk(bob, product)
	})
}

func TestMR3_ProductsAreReviewed(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		submit := func(id string) error {
			_, err := w.products.SubmitProduct(w.as(w.olga), &marketplacev1.SubmitProductRequest{ProductId: id})
			return err
		}
		review := func(id string, approve bool) error {
			_, err := w.desk.ReviewProduct(t.Context(), &marketplacev1.ReviewProductRequest{ProductId: id, Approve: approve, Comment: "Seen."})
			return err
		}
		ann := w.person("ann")
		id := w.draft(public)
		w.may(ann, id, false)
		w.refused("review a draft", review(id, true), ReasonProductState)
		w.must(submit(id))
		w.refused("submit again", submit(id), ReasonProductState)
		w.refused("archive in review", w.archive(id), ReasonProductState)
		w.must(review(id, false))
		w.must(review(id, false)) // again
		w.refused("approve what was rejected", review(id, true), ReasonProductState)
		got, err := w.products.GetProduct(w.as(w.olga), &marketplacev1.GetProductRequest{ProductId: id})
		w.must(err)
		if got.GetState() != marketplacev1.Product_REJECTED || got.GetReview() != "Seen." || got.GetNames()["ru"] != "Вещь" {
			t.Errorf("it is %v", got)
		}
		_, err = w.products.GetListing(w.as(ann), &marketplacev1.GetListingRequest{Slug: got.GetSlug()})
		w.refused("a listing of what is not offered", err, ReasonProductNotFound)
		w.must(submit(id))
		w.must(review(id, true))
		w.must(review(id, true))
		w.may(ann, id, true)
		listing, err := w.products.GetListing(w.as(ann), &marketplacev1.GetListingRequest{Slug: got.GetSlug()})
		w.must(err)
		if listing.GetProductId() != id || listing.GetPublisherName() != "Acme" {
			t.Errorf("the listing is %v", listing)
		}
		all, err := w.products.ListListings(w.as(ann), &marketplacev1.ListListingsRequest{})
		if w.must(err); len(all.GetListings()) != 1 {
			t.Errorf("listed are %v", all.GetListings())
		}
		_, err = w.products.CreateProduct(w.as(w.olga), &marketplacev1.CreateProductRequest{
			PublisherId: w.publisher, Slug: got.GetSlug(), Type: marketplacev1.Product_SAAS, Access: public, Names: map[string]string{"en": "x"},
		})
		w.refused("a name in links that is taken", err, ReasonSlugTaken)
	})
}

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

func TestMR10_MR11_UsersAreThoseApproved(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		product := w.product(onRequest)
		var want []string
		for i := range 5 {
			c := w.customer(fmt.Sprint("customer", i))
			id := w.mustAsk(c, product)
			_, err := w.ask(c, product)
			w.refused("another one beside it", err, request.ReasonExists)
			switch i {
			case 0, 1, 2:
				w.must(w.approve(w.pia, id))
				if i == 0 {
					w.must(w.revoke(id))
					continue
				}
				want = append([]string{c.id}, want...)
				_, err := w.ask(c, product)
				w.refused("another one beside what is approved", err, request.ReasonExists)
			case 3:
				w.must(w.reject(w.pia, id))
				w.mustAsk(c, product) // a new one may be filed
			}
		}
		if got := w.users(product); got != strings.Join(want, " ") {
			t.Errorf("users %q, want %q", got, want)
		}
		var paged []string
		for req := (&marketplacev1.ListProductAccessRequestsRequest{ProductId: product, PageSize: 2, Filter: `state = "PENDING"`, OrderBy: "createdAt"}); ; {
			resp, err := w.requests.ListProductAccessRequests(w.as(w.pia), req)
			w.must(err)
			for _, r := range resp.GetRequests() {
				paged = append(paged, r.GetState().String())
			}
			if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		if len(paged) != 2 {
			t.Errorf("pending are %v", paged)
		}
	})
}

func TestMR12_MR13_Installing(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.customer("ann"), w.customer("bob")
		product := w.product(onRequest)
		w.must(w.approve(w.pia, w.mustAsk(ann, product)))
		_, err := w.install(customer{ann.person, bob.folder}, product, "x")
		w.refused("into another's folder", err, apierr.ReasonPermissionDenied)
		_, err = w.install(bob, product, "x")
		w.refused("without access", err, apierr.ReasonPermissionDenied)
		id, err := w.install(ann, product, "thing")
		w.must(err)
		_, err = w.install(ann, product, "thing")
		w.refused("a name that is taken", err, ReasonInstanceNameTaken)
		w.must(w.archive(product))
		ctx := w.as(ann.person)
		got, err := w.instances.GetProductInstance(ctx, &marketplacev1.GetProductInstanceRequest{ProductInstanceId: id})
		w.must(err)
		if got.GetState() != marketplacev1.ProductInstance_ACTIVE || got.GetFolderId() != ann.folder {
			t.Errorf("it is %v", got)
		}
		op, err := w.instances.DeactivateProductInstance(ctx, &marketplacev1.DeactivateProductInstanceRequest{ProductInstanceId: id})
		if s := done[*marketplacev1.ProductInstance](w, op, err)(new(marketplacev1.ProductInstance)).GetState(); s != marketplacev1.ProductInstance_INACTIVE {
			t.Errorf("switched off it is %s", s)
		}
		op, err = w.instances.ActivateProductInstance(ctx, &marketplacev1.ActivateProductInstanceRequest{ProductInstanceId: id})
		done[*marketplacev1.ProductInstance](w, op, err)(new(marketplacev1.ProductInstance))
		op, err = w.instances.UpdateProductInstance(ctx, &marketplacev1.UpdateProductInstanceRequest{ProductInstanceId: id, Name: "other"})
		if n := done[*marketplacev1.ProductInstance](w, op, err)(new(marketplacev1.ProductInstance)).GetName(); n != "other" {
			t.Errorf("it is called %s", n)
		}
		for filter, n := range map[string]int{"": 1, `name = "other"`: 1, `name = "thing"`: 0, `product_id = "` + product + `"`: 1} {
			resp, err := w.instances.ListProductInstances(ctx, &marketplacev1.ListProductInstancesRequest{FolderId: ann.folder, Filter: filter})
			if w.must(err); len(resp.GetProductInstances()) != n {
				t.Errorf("%q lists %v", filter, resp.GetProductInstances())
			}
		}
		_, err = w.instances.DeleteProductInstance(w.as(bob.person), &marketplacev1.DeleteProductInstanceRequest{ProductInstanceId: id})
		w.refused("removed by another", err, apierr.ReasonPermissionDenied)
		_, err = w.instances.DeleteProductInstance(ctx, &marketplacev1.DeleteProductInstanceRequest{ProductInstanceId: id})
		w.must(err)
		_, err = w.instances.GetProductInstance(ctx, &marketplacev1.GetProductInstanceRequest{ProductInstanceId: id})
		w.refused("read what is gone", err, apierr.ReasonResourceNotFound)

		open := w.product(public)
		id, err = w.install(ann, open, "open")
		w.must(err)
		_, err = w.folders.Delete(ctx, &rmv1.DeleteFolderRequest{FolderId: ann.folder, DeleteAfter: timestamppb.Now()})
		w.must(err)
		w.eventually("the installed product goes with its folder", func() bool {
			w.must(w.service.follow(t.Context()))
			_, err := w.service.store.Instance(t.Context(), w.db, id)
			return apierr.ReasonOf(err) == ReasonInstanceNotFound
		})
	})
}

func TestMR14_EachSideIsToldOnce(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.customer("ann")
		product := w.product(onRequest)
		id := w.mustAsk(ann, product)
		w.must(w.say(ann.person, id, "secret words"))
		w.must(w.say(w.pia, id, "more of them"))
		w.must(w.approve(w.pia, id))
		w.must(w.approve(w.pia, id)) // no news
		w.must(w.revoke(id))
		want := []string{
			"access_request.approved:" + id + ":requester", "access_request.created:" + id + ":decider",
			"access_request.message:" + id + ":decider:1", "access_request.message:" + id + ":requester:2",
			"access_request.revoked:" + id + ":decider", "access_request.revoked:" + id + ":requester",
		}
		var got []string
		w.eventually("all are told", func() bool {
			got = w.notices(func(n *notificationv1.Notice) {
				if n.GetDetails()["request_id"] != id || n.GetDetails()["target"] != typeRequest+":"+id || strings.Contains(n.GetText(), "secret") {
					t.Errorf("the notice %v", n)
				}
				address := map[bool]string{true: "ann@people.example", false: "pia@people.example"}[strings.Contains(n.GetId(), ":requester")]
				if to := n.GetAddresses().GetEmails(); !slices.Equal(to, []string{address}) {
					t.Errorf("%s goes to %v, want %s", n.GetId(), to, address)
				}
			})
			return len(got) >= len(want)
		})
		if !slices.Equal(got, want) {
			t.Errorf("told of %v, want %v", got, want)
		}
		// A job that is executed again tells nothing new.
		w.must(w.service.tell(t.Context(), telling{id, "access_request.approved", 0, request.Requester}))
		if again := w.notices(nil); len(again) != len(want) {
			t.Errorf("told again: %v", again)
		}
	})
}

// notices are the ids of those that were taken about requests, ordered.
func (w *world) notices(each func(*notificationv1.Notice)) (ids []string) {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), `SELECT body FROM notifications_notices WHERE event LIKE 'access_request.%' ORDER BY id`)
	w.must(err)
	defer rows.Close()
	for rows.Next() {
		var body []byte
		w.must(rows.Scan(&body))
		n := new(notificationv1.Notice)
		w.must(proto.Unmarshal(body, n))
		ids = append(ids, n.GetId())
		if each != nil {
			each(n)
		}
	}
	w.must(rows.Err())
	return ids
}

func TestMR15_MR24_PeopleAskForTheirCloud(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.customer("ann")
		product := w.product(onRequest)
		id := w.mustAsk(ann, product)
		r, err := w.requests.GetProductAccessRequest(w.as(ann.person), &marketplacev1.GetProductAccessRequestRequest{RequestId: id})
		w.must(err)
		f, err := w.folders.Get(w.as(ann.person), &rmv1.GetFolderRequest{FolderId: ann.folder})
		w.must(err)
		if r.GetFolderId() != ann.folder || r.GetCloudId() != f.GetCloudId() || r.GetRequesterId() != ann.id || r.GetRequesterType() != "userAccount" {
			t.Errorf("the request is %v", r)
		}
		op, err := iamv1.NewServiceAccountServiceClient(w.Conn).Create(w.as(ann.person), &iamv1.CreateServiceAccountRequest{FolderId: ann.folder, Name: "robot"})
		robot := done[*iamv1.ServiceAccount](w, op, err)(new(iamv1.ServiceAccount))
		_, err = w.bindings.UpdateAccessBindings(w.as(ann.person), &accessv1.UpdateAccessBindingsRequest{
			Resource: &accessv1.Resource{Type: typeFolder, Id: ann.folder}, AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
				Action:        accesspb.AccessBindingAction_ADD,
				AccessBinding: &accessv1.AccessBinding{RoleId: "viewer", Subject: &accessv1.Subject{Type: "serviceAccount", Id: robot.GetId()}},
			}},
		})
		w.must(err)
		w.give(ann.person, "iam.serviceAccount", robot.GetId(), "iam.serviceAccounts.tokenCreator", ann.person)
		token, err := iamv1.NewIamTokenServiceClient(w.Conn).CreateForServiceAccount(w.as(ann.person), &iamv1.CreateIamTokenForServiceAccountRequest{ServiceAccountId: robot.GetId()})
		w.must(err)
		_, err = w.ask(customer{person{robot.GetId(), "robot", token.GetIamToken()}, ann.folder}, product)
		w.refused("a service account asks", err, ReasonNotEligible)

		// Whoever asked reaches their own, people of a federation as well: no role is wanted.
		frida := request.Ref{Type: federatedUser, ID: "frida"}
		own := request.Request{ID: "par-frida", Thing: request.Ref{Type: typeProduct, ID: product}, Requester: frida, Body: []byte(`{}`)}
		w.must(sqldb.InTx(t.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error {
			_, err := w.service.requests.Create(ctx, tx, own)
			return err
		}))
		for who, want := range map[string]authz.Resource{
			"frida": {Type: authz.UserAccount, ID: "frida"}, "another": {Type: typeProduct, ID: product},
		} {
			got, err := w.service.resolveRequest(authn.NewContext(t.Context(), authn.Principal{Type: federatedUser, ID: who}), own.ID)
			if w.must(err); got != want {
				t.Errorf("%s is led to %v, want %v", who, got, want)
			}
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

func TestMR20_MR21_ArchivingAndDeleting(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.customer("ann"), w.customer("bob")
		product, open := w.product(onRequest), w.product(public)
		approved := w.mustAsk(ann, product)
		w.must(w.approve(w.pia, approved))
		pending := w.mustAsk(bob, product)
		remove := func() error {
			_, err := w.publishers.DeletePublisher(w.as(w.olga), &marketplacev1.DeletePublisherRequest{PublisherId: w.publisher})
			return err
		}
		w.refused("delete a publisher with products", remove(), ReasonPublisherNotEmpty)
		w.must(w.archive(product))
		w.may(ann.person, product, false)
		if got := w.state(approved) + " " + w.state(pending); got != "REVOKED CANCELED" {
			t.Errorf("the requests are %s", got)
		}
		_, err := w.ask(ann, product)
		w.refused("ask for what is archived", err, ReasonProductNotFound)
		_, err = w.products.UpdateProduct(w.as(w.olga), &marketplacev1.UpdateProductRequest{ProductId: product, Description: "x"})
		w.refused("change what is archived", err, ReasonProductState)
		w.may(bob.person, open, true)
		w.must(w.archive(open))
		w.may(bob.person, open, false)
		w.refused("archive again", w.archive(open), ReasonProductState)
		w.must(remove())
		_, err = w.publishers.GetPublisher(w.as(w.olga), &marketplacev1.GetPublisherRequest{PublisherId: w.publisher})
		w.refused("read what is gone", err, apierr.ReasonResourceNotFound)
		own, err := w.requests.GetProductAccessRequest(w.as(ann.person), &marketplacev1.GetProductAccessRequestRequest{RequestId: approved})
		if w.must(err); own.GetState() != marketplacev1.ProductAccessRequest_REVOKED || own.GetEndReason() == "" {
			t.Errorf("the requester sees %v", own)
		}
	})
}

func TestMR22_RequestsEndWithTheirRequesters(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob, eve, cat := w.customer("ann"), w.person("bob"), w.person("eve"), w.person("cat")
		for _, p := range []person{bob, eve, cat} {
			w.give(ann.person, typeFolder, ann.folder, "viewer", p)
		}
		product := w.product(onRequest)
		approved, pending, suspended := w.mustAsk(customer{bob, ann.folder}, product), w.mustAsk(customer{eve, ann.folder}, product), w.mustAsk(customer{cat, ann.folder}, product)
		w.must(w.approve(w.pia, approved))
		w.must(w.approve(w.pia, suspended))
		for _, login := range []string{"bob", "eve"} {
			_, err := w.operator.DeleteUser(t.Context(), &identityv1.DeleteUserRequest{Login: login})
			w.must(err)
		}
		_, err := w.operator.SuspendUser(t.Context(), &identityv1.SuspendUserRequest{Login: "cat"})
		w.must(err)
		_, err = w.ask(customer{cat, ann.folder}, product)
		w.refused("a request by a suspended subject", err, apierr.ReasonSubjectInactive)
		w.must(w.service.endDeparted(t.Context()))
		if got := w.state(approved) + " " + w.state(pending) + " " + w.state(suspended); got != "REVOKED CANCELED APPROVED" {
			t.Errorf("the requests are %s", got)
		}
		if got := w.users(product); got != cat.id {
			t.Errorf("users %q", got)
		}
	})
}

func TestMR23_NobodyDecidesTheirOwn(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.customer("ann")
		product := w.product(onRequest)
		w.give(w.olga, typeProduct, product, rolePublisher, ann.person)
		id := w.mustAsk(ann, product)
		w.refused("approve", w.approve(ann.person, id), request.ReasonOwn)
		w.refused("reject", w.reject(ann.person, id), request.ReasonOwn)
		w.may(ann.person, product, false)
		w.must(w.cancel(ann.person, id))
	})
}

// MR-25, and MR-11 under concurrency.
func TestMR25_DecisionsAtOnce(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, quinn := w.customer("ann"), w.person("quinn")
		product := w.product(onRequest)
		w.give(w.olga, typeProduct, product, rolePublisher, quinn)
		for range 5 {
			var mu sync.Mutex
			var ids []string
			var all sync.WaitGroup
			for range 6 {
				all.Go(func() {
					id, err := w.ask(ann, product)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						ids = append(ids, id)
					} else if apierr.ReasonOf(err) != request.ReasonExists {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if len(ids) != 1 {
				t.Fatalf("live requests %v", ids)
			}
			ok := map[string]int{}
			for i := range 6 {
				by := []person{w.pia, quinn}[i%2]
				all.Go(func() {
					what, err := "approved", error(nil)
					if i < 3 {
						err = w.approve(by, ids[0])
					} else {
						what, err = "rejected", w.reject(by, ids[0])
					}
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						ok[what]++
					} else if apierr.ReasonOf(err) != request.ReasonState {
						t.Error(err)
					}
				})
			}
			all.Wait()
			approved := w.state(ids[0]) == "APPROVED"
			if want := map[bool]string{true: "approved", false: "rejected"}[approved]; len(ok) != 1 || ok[want] != 3 {
				t.Errorf("it is %s, and these succeeded: %v", w.state(ids[0]), ok)
			}
			w.may(ann.person, product, approved)
			if approved {
				w.must(w.revoke(ids[0]))
			}
		}
	})
}

// A decider whose role was taken, and acknowledged, decides nothing any more.
func TestDecidingAfterTheRoleIsTaken(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, quinn := w.customer("ann"), w.person("quinn")
		product := w.product(onRequest)
		for range 5 {
			w.give(w.olga, typeProduct, product, rolePublisher, quinn)
			id := w.mustAsk(ann, product)
			var racing sync.WaitGroup
			var decided error
			racing.Go(func() { decided = w.approve(quinn, id) })
			w.must(w.changeRole(w.olga, typeProduct, product, rolePublisher, quinn, accesspb.AccessBindingAction_REMOVE))
			w.refused("approve after the role is taken", w.reject(quinn, id), apierr.ReasonPermissionDenied)
			racing.Wait()
			w.may(ann.person, product, decided == nil)
			if decided == nil {
				w.must(w.revoke(id))
			} else {
				w.refused("approve while it is taken", decided, apierr.ReasonPermissionDenied)
				w.must(w.cancel(ann.person, id))
			}
		}
	})
}

// Revoking many requests goes on over several executions of the job.
func TestArchivingManyRequests(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.customer("ann")
		product := w.product(onRequest)
		w.must(sqldb.InTx(t.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error {
			for i := range settleMost + 5 {
				_, err := w.service.requests.Create(ctx, tx, request.Request{
					ID: fmt.Sprintf("many%d", i), Thing: request.Ref{Type: typeProduct, ID: product}, Requester: request.Ref{Type: "userAccount", ID: fmt.Sprint("u", i)},
					Body: []byte(`{}`),
				})
				if err != nil {
					return err
				}
			}
			return nil
		}))
		id := w.mustAsk(ann, product)
		op, err := w.products.ArchiveProduct(w.as(w.olga), &marketplacev1.ArchiveProductRequest{ProductId: product})
		w.must(err)
		if op.GetDone() {
			t.Error("done at once, with so many requests")
		}
		w.eventually("the operation is done", func() bool {
			got, err := w.service.operations.Get(t.Context(), op.GetId())
			w.must(err)
			return got.Done
		})
		if got := w.state(id) + w.state("many0"); got != "CANCELEDCANCELED" {
			t.Errorf("the requests are %s", got)
		}
	})
}
