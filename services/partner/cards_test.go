package partner

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/server"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

func (w *world) cards() partnerv1.PartnerCardServiceClient {
	return partnerv1.NewPartnerCardServiceClient(w.Conn)
}

// catalog is what everybody sees of partners.
func (w *world) catalog(who person) []*partnerv1.CatalogCard {
	w.t.Helper()
	return must(w.cards().ListPartnerCards(w.as(who), &partnerv1.ListPartnerCardsRequest{}))(w.t).GetCards()
}

// products makes products of the publisher of an account, which are offered.
func (w *world) products(owner person, accountID string, slugs ...string) (ids []string) {
	w.t.Helper()
	socket, err := server.DialOperator(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = socket.Close() }) // the test is over
	made := new(marketplacev1.Publisher)
	w.done(must(marketplacev1.NewPublisherServiceClient(w.Conn).CreatePublisher(w.as(owner), &marketplacev1.CreatePublisherRequest{
		BillingAccountId: accountID, Name: owner.login,
	}))(w.t), made, nil)
	client := marketplacev1.NewProductServiceClient(w.Conn)
	for _, slug := range slugs {
		p := new(marketplacev1.Product)
		w.done(must(client.CreateProduct(w.as(owner), &marketplacev1.CreateProductRequest{
			PublisherId: made.GetId(), Slug: slug, Type: marketplacev1.Product_SAAS, Names: map[string]string{"en": slug}, Access: marketplacev1.Product_PUBLIC,
		}))(w.t), p, nil)
		must(client.SubmitProduct(w.as(owner), &marketplacev1.SubmitProductRequest{ProductId: p.GetId()}))(w.t)
		must(marketplacev1.NewOperatorServiceClient(socket).ReviewProduct(w.t.Context(), &marketplacev1.ReviewProductRequest{ProductId: p.GetId(), Approve: true}))(w.t)
		ids = append(ids, p.GetId())
	}
	return ids
}

func TestPT26_TheCardAndItsProducts(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob, zoe, eve := w.person("ann"), w.person("bob"), w.person("zoe"), w.person("eve")
		partner, other := w.partner(ann), w.partner(zoe)
		w.grant(ann, typeAccount, partner, "billing.partners.editor", bob)
		products := w.products(ann, partner, "one", "two", "three")
		foreign := w.products(zoe, other, "foreign")[0]
		update := func(req *partnerv1.UpdatePartnerCardRequest, paths ...string) (*partnerv1.PartnerCard, error) {
			req.BillingAccountId, req.UpdateMask = partner, &fieldmaskpb.FieldMask{Paths: paths}
			op, err := w.cards().UpdatePartnerCard(w.as(bob), req)
			card := new(partnerv1.PartnerCard)
			if err == nil {
				w.done(op, card, new(partnerv1.UpdatePartnerCardMetadata))
			}
			return card, err
		}
		get := &partnerv1.GetPartnerCardRequest{BillingAccountId: partner}
		if c := must(w.cards().GetPartnerCard(w.as(ann), get))(t); c.GetName() != "account of ann" || c.GetPublished() || c.GetUpdatedAt() != nil {
			t.Errorf("before anybody wrote: %v", c)
		}
		// The editor writes all of it, and reads nothing of the account.
		card := must(update(&partnerv1.UpdatePartnerCardRequest{
			Name: "Reseller", Description: "sells clouds", SiteUrl: "https://reseller.example/ru", Email: "sales@reseller.example", Phone: "+7 (495) 000-00-00",
			ProductIds: []string{products[2], products[0], products[1]},
		}))(t)
		if got := must(w.cards().GetPartnerCard(w.as(ann), get))(t); !proto.Equal(got, card) || got.GetName() != "Reseller" || len(got.GetProductIds()) != 3 {
			t.Errorf("read %v, written %v", got, card)
		}
		_, err := w.cards().GetPartnerCard(w.as(bob), get)
		wantRefusal(t, "the editor reads", err, codes.PermissionDenied, "PERMISSION_DENIED")
		if got := w.catalog(eve); len(got) > 0 {
			t.Errorf("before it is published: %v", got)
		}
		must(update(&partnerv1.UpdatePartnerCardRequest{Published: true}))(t)
		want := func(what string, slugs ...string) {
			t.Helper()
			all := w.catalog(eve)
			if len(all) != 1 {
				t.Fatalf("%s: %d cards", what, len(all))
			}
			var got []string
			for i, p := range all[0].GetProducts() {
				if got = append(got, p.GetSlug()); all[0].GetCard().GetProductIds()[i] != p.GetProductId() {
					t.Errorf("%s: product %d is %v", what, i, p)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(slugs) || all[0].GetCard().GetEmail() != "sales@reseller.example" || len(all[0].GetCard().GetProductIds()) != len(slugs) {
				t.Errorf("%s: %v, want %v", what, all[0], slugs)
			}
		}
		want("published", "three", "one", "two")
		must(marketplacev1.NewProductServiceClient(w.Conn).ArchiveProduct(w.as(ann), &marketplacev1.ArchiveProductRequest{ProductId: products[0]}))(t)
		want("one is offered no more", "three", "two")
		w.restart()
		want("after a restart", "three", "two")
		for field, req := range map[string]*partnerv1.UpdatePartnerCardRequest{
			"product_ids[1]": {ProductIds: []string{products[1], foreign}},
			"product_ids[0]": {ProductIds: []string{products[0]}}, // archived
			"site_url":       {SiteUrl: "http://reseller.example"},
			"email":          {Email: "nobody"},
			"phone":          {Phone: "call me"},
			"product_ids":    {ProductIds: []string{products[1], products[1]}},
		} {
			_, err := update(req)
			wantRefusal(t, fmt.Sprint(req), err, codes.InvalidArgument, field)
		}
		for _, site := range []string{"https://", "https://user@reseller.example", "javascript:alert(1)", "https://a b"} {
			_, err := update(&partnerv1.UpdatePartnerCardRequest{SiteUrl: site})
			wantRefusal(t, site, err, codes.InvalidArgument, "site_url")
		}
		_, err = update(&partnerv1.UpdatePartnerCardRequest{}, "billing_account_id")
		wantRefusal(t, "the account", err, codes.InvalidArgument, "update_mask")
		if c := must(update(&partnerv1.UpdatePartnerCardRequest{}, "name", "product_ids", "phone"))(t); c.GetName() != "account of ann" || len(c.GetProductIds()) > 0 || c.GetPhone() != "" || !c.GetPublished() {
			t.Errorf("with a mask what is empty is emptied: %v", c)
		}
		// Partner status, and an ACTIVE account, make it a partner's (PT-2).
		w.programs(partner)
		if got := w.catalog(eve); len(got) > 0 {
			t.Errorf("of no partner: %v", got)
		}
		_, err = w.cards().GetPartnerCard(w.as(ann), get)
		wantRefusal(t, "of no partner", err, codes.PermissionDenied, ReasonNotAPartner)
		_, err = update(&partnerv1.UpdatePartnerCardRequest{Name: "x"})
		wantRefusal(t, "of no partner", err, codes.PermissionDenied, ReasonNotAPartner)
		w.programs(partner, partnerv1.Partner_REFERRAL)
		if got := w.catalog(eve); len(got) != 1 {
			t.Errorf("again: %v", got)
		}
		w.state(partner, partnerv1.BillingAccount_SUSPENDED)
		if got := w.catalog(eve); len(got) > 0 {
			t.Errorf("of a suspended one: %v", got)
		}
	})
}

func TestPT26_PagesOfTheCatalogue(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		var want []string
		for range 5 {
			partner := w.partner(ann)
			must(w.cards().UpdatePartnerCard(w.as(ann), &partnerv1.UpdatePartnerCardRequest{BillingAccountId: partner, Published: true}))(t)
			want = append(want, partner)
		}
		var got []string
		for req := (&partnerv1.ListPartnerCardsRequest{PageSize: 2}); ; {
			page := must(w.cards().ListPartnerCards(w.as(ann), req))(t)
			for _, c := range page.GetCards() {
				got = append(got, c.GetCard().GetBillingAccountId())
			}
			if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("listed %v, want %v", got, want)
		}
	})
}
