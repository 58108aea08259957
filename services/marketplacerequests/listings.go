package marketplacerequests

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/page"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
)

// GetListing reads what everybody sees of a product that is offered. Fails:
// PRODUCT_NOT_FOUND, also for one that is not.
func (s *products) GetListing(ctx context.Context, req *marketplacev1.GetListingRequest) (*marketplacev1.Listing, error) {
	p, err := s.store.ProductBySlug(ctx, s.store.db, req.GetSlug())
	if err != nil {
		return nil, err
	}
	if p.State != Approved {
		return nil, errProductNotFound
	}
	all, err := s.listings(ctx, []Product{p})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// ListListings lists the products that are offered, newest first.
func (s *products) ListListings(ctx context.Context, req *marketplacev1.ListListingsRequest) (*marketplacev1.ListListingsResponse, error) {
	all, next, err := list(ctx, s.Service, req, listing[Product, *marketplacev1.Listing]{
		scope: []string{"listings"}, position: Product.position, show: s.listings,
		fetch: func(ctx context.Context, after page.Position, limit int) ([]Product, error) {
			return s.store.Products(ctx, s.store.db, ProductQuery{State: Approved}, after, limit)
		},
	})
	if err != nil {
		return nil, err
	}
	return &marketplacev1.ListListingsResponse{Listings: all, NextPageToken: next}, nil
}

// listings shows products as everybody sees them.
func (s *products) listings(ctx context.Context, all []Product) ([]*marketplacev1.Listing, error) {
	names := make(map[string]string)
	shown := make([]*marketplacev1.Listing, len(all))
	for i, p := range all {
		name, known := names[p.PublisherID]
		if !known {
			owner, err := s.store.Publisher(ctx, s.store.db, p.PublisherID)
			if err != nil && ignoreGone(err) != nil {
				return nil, err
			}
			name = owner.Name
			names[p.PublisherID] = name
		}
		m := p.proto()
		shown[i] = &marketplacev1.Listing{
			ProductId: p.ID, Slug: p.Slug, Type: m.GetType(), Names: p.Names, Description: p.Description, Access: m.GetAccess(), PublisherName: name,
		}
	}
	return shown, nil
}
