package marketplacerequests

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
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
