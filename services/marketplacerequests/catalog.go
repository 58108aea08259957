package marketplacerequests

import (
	"context"
	"fmt"
	"strings"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
)

// offers is our CatalogService, for other units.
type offers struct {
	marketplacev1.UnsafeCatalogServiceServer // a missing method does not compile
	products
}

// BatchGetListings reads those of some products that are offered, with who offers them
// (PT-26).
func (s *offers) BatchGetListings(ctx context.Context, req *marketplacev1.BatchGetListingsRequest) (*marketplacev1.BatchGetListingsResponse, error) {
	all, err := s.store.Offered(ctx, s.store.db, req.GetProductIds())
	if err != nil {
		return nil, err
	}
	shown, err := s.listings(ctx, all)
	if err != nil {
		return nil, err
	}
	resp := new(marketplacev1.BatchGetListingsResponse)
	for i, p := range all {
		owner, err := s.store.Publisher(ctx, s.store.db, p.PublisherID)
		if ignoreGone(err) != nil {
			return nil, err
		}
		resp.Listings = append(resp.Listings, &marketplacev1.OwnedListing{Listing: shown[i], BillingAccountId: owner.BillingAccountID})
	}
	return resp, nil
}

// Offered reads those of some products that are APPROVED.
func (s *Store) Offered(ctx context.Context, q sqldb.Querier, ids []string) ([]Product, error) {
	marks, args := make([]string, len(ids)), []any{string(Approved)}
	for i, id := range ids {
		args = append(args, id)
		marks[i] = fmt.Sprintf("$%d", len(args))
	}
	return read(ctx, q, "read products", scanProduct,
		`SELECT `+productColumns+` FROM marketplacerequests_products WHERE state = $1 AND id IN (`+strings.Join(marks, ", ")+`)`, args...)
}
