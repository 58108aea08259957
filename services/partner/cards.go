package partner

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"regexp"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/email"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// PT-26: a partner's card in the catalogue of partners, and which of its products stand on
// it. The card has an editor of its own, who may do nothing else.

// Permissions on cards.
const (
	permCard       = "billing.partners.get"
	permCardUpdate = "billing.partners.update"
)

// cards is our PartnerCardService.
type cards struct {
	partnerv1.UnsafePartnerCardServiceServer // a missing method does not compile
	*Service
}

// GetPartnerCard reads the card of a partner. Fails: BILLING_ACCOUNT_NOT_FOUND,
// NOT_A_PARTNER.
func (s *cards) GetPartnerCard(ctx context.Context, req *partnerv1.GetPartnerCardRequest) (*partnerv1.PartnerCard, error) {
	a, err := s.store.Account(ctx, s.store.db, req.GetBillingAccountId())
	if err != nil {
		return nil, err
	}
	switch programs, err := s.store.Partner(ctx, s.store.db, a.ID); {
	case err != nil:
		return nil, err
	case programs == (Programs{}) || a.State != Active:
		return nil, errNotAPartner
	}
	card, err := s.store.Card(ctx, s.store.db, a.ID)
	if err != nil {
		return nil, err
	}
	return shownCard(a, card), nil
}

// shownCard is a card as it is read: it has a name.
func shownCard(a Account, card *partnerv1.PartnerCard) *partnerv1.PartnerCard {
	card.BillingAccountId = a.ID
	if card.GetName() == "" {
		card.Name = a.Name
	}
	return card
}

// UpdatePartnerCard changes the card of a partner. Fails: BILLING_ACCOUNT_NOT_FOUND,
// BILLING_ACCOUNT_BUSY, NOT_A_PARTNER.
func (s *cards) UpdatePartnerCard(ctx context.Context, req *partnerv1.UpdatePartnerCardRequest) (*operationpb.Operation, error) {
	fields, err := cardFields(req)
	if err != nil {
		return nil, err
	}
	if err := checkCard(req, fields); err != nil {
		return nil, err
	}
	if slices.Contains(fields, "product_ids") {
		if err := s.checkProducts(ctx, req.GetBillingAccountId(), req.GetProductIds()); err != nil {
			return nil, err
		}
	}
	return s.writeNow(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		a, err := s.lockParticipant(ctx, tx, req.GetBillingAccountId(), func(p Programs) bool { return p != (Programs{}) })
		if err != nil {
			return op, err
		}
		card, err := s.store.Card(ctx, tx, a.ID)
		if err != nil {
			return op, err
		}
		for _, field := range fields {
			cardField[field].set(card, req)
		}
		card.UpdatedAt = timestamppb.New(s.now())
		if err := s.store.PutCard(ctx, tx, a.ID, card); err != nil {
			return op, err
		}
		if op, err = s.begun(ctx, tx, a.ID, operation.New{
			Description: "Update partner card", ViewPermission: permCard, Response: shownCard(a, card),
			Metadata: &partnerv1.UpdatePartnerCardMetadata{BillingAccountId: a.ID},
		}); err != nil {
			return op, err
		}
		return op, s.record(ctx, tx, a, event{
			name: eventCardUpdate, status: audit.Done, permission: permCardUpdate,
			details: map[string]any{"operation_id": op.ID, "fields": fields, "published": card.GetPublished()},
		})
	})
}

// cardField are the fields of a card that can be changed: whether a request has one, and
// what sets it.
var cardField = map[string]struct {
	has func(*partnerv1.UpdatePartnerCardRequest) bool
	set func(*partnerv1.PartnerCard, *partnerv1.UpdatePartnerCardRequest)
}{
	"name": {
		func(r *partnerv1.UpdatePartnerCardRequest) bool { return r.GetName() != "" },
		func(c *partnerv1.PartnerCard, r *partnerv1.UpdatePartnerCardRequest) { c.Name = r.GetName() },
	},
	"description": {
		func(r *partnerv1.UpdatePartnerCardRequest) bool { return r.GetDescription() != "" },
		func(c *partnerv1.PartnerCard, r *partnerv1.UpdatePartnerCardRequest) {
			c.Description = r.GetDescription()
		},
	},
	"site_url": {
		func(r *partnerv1.UpdatePartnerCardRequest) bool { return r.GetSiteUrl() != "" },
		func(c *partnerv1.PartnerCard, r *partnerv1.UpdatePartnerCardRequest) { c.SiteUrl = r.GetSiteUrl() },
	},
	"email": {
		func(r *partnerv1.UpdatePartnerCardRequest) bool { return r.GetEmail() != "" },
		func(c *partnerv1.PartnerCard, r *partnerv1.UpdatePartnerCardRequest) { c.Email = r.GetEmail() },
	},
	"phone": {
		func(r *partnerv1.UpdatePartnerCardRequest) bool { return r.GetPhone() != "" },
		func(c *partnerv1.PartnerCard, r *partnerv1.UpdatePartnerCardRequest) { c.Phone = r.GetPhone() },
	},
	"product_ids": {
		func(r *partnerv1.UpdatePartnerCardRequest) bool { return len(r.GetProductIds()) > 0 },
		func(c *partnerv1.PartnerCard, r *partnerv1.UpdatePartnerCardRequest) {
			c.ProductIds = r.GetProductIds()
		},
	},
	"published": {
		func(r *partnerv1.UpdatePartnerCardRequest) bool { return r.GetPublished() },
		func(c *partnerv1.PartnerCard, r *partnerv1.UpdatePartnerCardRequest) { c.Published = r.GetPublished() },
	},
}

// cardFields are the names of the fields that a request changes, in order.
func cardFields(req *partnerv1.UpdatePartnerCardRequest) (fields []string, err error) {
	for _, path := range req.GetUpdateMask().GetPaths() {
		if _, known := cardField[path]; !known {
			return nil, apierr.InvalidField("update_mask", "%q is not a field that can be changed: name, description, site_url, email, phone, product_ids, published are", path)
		}
		fields = union(fields, []string{path})
	}
	if len(req.GetUpdateMask().GetPaths()) == 0 {
		for name, f := range cardField {
			if f.has(req) {
				fields = append(fields, name)
			}
		}
	}
	slices.Sort(fields)
	return fields, nil
}

// phone is how a phone is written on a card.
var phone = regexp.MustCompile(`^\+?[0-9][0-9 ()-]{2,48}$`)

// checkCard collects what is wrong with what a request changes: a card may lack anything.
func checkCard(req *partnerv1.UpdatePartnerCardRequest, fields []string) error {
	var bad []apierr.Field
	for _, f := range []struct{ name, text, problem string }{
		{"site_url", req.GetSiteUrl(), siteProblem(req.GetSiteUrl())},
		{"email", req.GetEmail(), email.Problem(req.GetEmail())},
		{"phone", req.GetPhone(), map[bool]string{false: "must be digits, spaces, dashes and parentheses, with a + in front or not"}[phone.MatchString(req.GetPhone())]},
	} {
		if slices.Contains(fields, f.name) && f.text != "" && f.problem != "" {
			bad = append(bad, apierr.Field{Name: f.name, Message: f.problem})
		}
	}
	if len(bad) > 0 {
		return apierr.Invalid(bad...)
	}
	return nil
}

func siteProblem(text string) string {
	if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return "must be an address with https:// and a host, and without a user"
	}
	return ""
}

// checkProducts refuses products that the publisher of the account does not offer.
func (s *Service) checkProducts(ctx context.Context, accountID string, ids []string) error {
	offered, err := s.offered(ctx, ids)
	if err != nil {
		return err
	}
	for i, id := range ids {
		if offered[id].GetBillingAccountId() != accountID {
			return apierr.InvalidField(fmt.Sprintf("product_ids[%d]", i), "the publisher of the account offers no product %s", id)
		}
	}
	return nil
}

// offered asks the marketplace which of some products are offered, and by whom; at most
// maxCardProducts.
func (s *Service) offered(ctx context.Context, ids []string) (map[string]*marketplacev1.OwnedListing, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	resp, err := s.offers.BatchGetListings(server.AsUnit(ctx), &marketplacev1.BatchGetListingsRequest{ProductIds: ids})
	if err != nil {
		return nil, fmt.Errorf("ask what is offered: %w", apierr.FromRPC(err))
	}
	all := make(map[string]*marketplacev1.OwnedListing)
	for _, l := range resp.GetListings() {
		all[l.GetListing().GetProductId()] = l
	}
	return all, nil
}

// maxCardProducts is how many products one page of the catalogue asks for.
const maxCardProducts = 1000

// ListPartnerCards lists the catalogue of partners. A page ends early where its cards name
// many products.
func (s *cards) ListPartnerCards(ctx context.Context, req *partnerv1.ListPartnerCardsRequest) (*partnerv1.ListPartnerCardsResponse, error) {
	const scope = "partner cards"
	after, err := s.pages.Open(req.GetPageToken(), scope)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	all, err := s.store.PublishedCards(ctx, s.store.db, after, size+1)
	if err != nil {
		return nil, err
	}
	var ids []string
	for i, c := range all {
		if len(ids)+len(c.card.GetProductIds()) > maxCardProducts {
			size = min(size, i) // there is more, and it is on the next page
			break
		}
		ids = append(ids, c.card.GetProductIds()...)
	}
	offered, err := s.offered(ctx, union(nil, ids))
	if err != nil {
		return nil, err
	}
	shown := func(c accountCard) *partnerv1.CatalogCard {
		card := shownCard(c.account, proto.CloneOf(c.card))
		m := &partnerv1.CatalogCard{Card: card}
		card.ProductIds = slices.DeleteFunc(card.GetProductIds(), func(id string) bool { return offered[id].GetBillingAccountId() != c.account.ID })
		for _, id := range card.GetProductIds() {
			m.Products = append(m.Products, offered[id].GetListing())
		}
		return m
	}
	fit, next, err := onPage(s.Service, all, size, accountCard.position, func(c accountCard) int { return proto.Size(shown(c)) }, scope)
	if err != nil {
		return nil, err
	}
	resp := &partnerv1.ListPartnerCardsResponse{NextPageToken: next}
	for _, c := range fit {
		resp.Cards = append(resp.Cards, shown(c))
	}
	return resp, nil
}
