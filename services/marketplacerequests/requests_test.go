package marketplacerequests

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

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
