package partner

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// CatalogService reads a service. Fails: SERVICE_NOT_FOUND.
func (s *Store) CatalogService(ctx context.Context, q sqldb.Querier, id string) (*billingv1.Service, error) {
	x := new(billingv1.Service)
	err := q.QueryRowContext(ctx, `SELECT id, name, description FROM partner_services WHERE id = $1`, id).Scan(&x.Id, &x.Name, &x.Description)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errServiceNotFound(id)
	}
	if err != nil {
		return nil, fmt.Errorf("get service: %w", err)
	}
	return x, nil
}

// CatalogServices reads at most limit services whose id follows after, by id.
func (s *Store) CatalogServices(ctx context.Context, f filter.Filter, after string, limit int) (all []*billingv1.Service, err error) {
	text, args := `SELECT id, name, description FROM partner_services WHERE id > $1`, []any{after, limit}
	if f.Field != "" {
		text += ` AND ` + f.Field + ` = $3` // one of the names that the filter was parsed with
		args = append(args, f.Value)
	}
	rows, err := s.db.QueryContext(ctx, text+` ORDER BY id LIMIT $2`, args...)
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		x := new(billingv1.Service)
		if err := rows.Scan(&x.Id, &x.Name, &x.Description); err != nil {
			return nil, fmt.Errorf("list services: %w", err)
		}
		all = append(all, x)
	}
	return all, rows.Err()
}

// PutServices adds services, and changes those that are there.
func (s *Store) PutServices(ctx context.Context, tx *sql.Tx, all []*billingv1.Service) error {
	for _, x := range all {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO partner_services (id, name, description) VALUES ($1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description`,
			x.GetId(), x.GetName(), x.GetDescription()); err != nil {
			return fmt.Errorf("put service: %w", err)
		}
	}
	return nil
}

const skuColumns = `id, service_id, name, description, pricing_unit, pricing`

// SKU reads a product. Fails: SKU_NOT_FOUND.
func (s *Store) SKU(ctx context.Context, q sqldb.Querier, id string) (*billingv1.Sku, error) {
	x, err := scanSKU(q.QueryRowContext(ctx, `SELECT `+skuColumns+` FROM partner_skus WHERE id = $1`, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errSKUNotFound(id)
	}
	if err != nil {
		return nil, fmt.Errorf("get product: %w", err)
	}
	return x, nil
}

// SKUs reads at most limit products whose id follows after, by id.
func (s *Store) SKUs(ctx context.Context, f filter.Filter, after string, limit int) (all []*billingv1.Sku, err error) {
	text, args := `SELECT `+skuColumns+` FROM partner_skus WHERE id > $1`, []any{after, limit}
	if f.Field != "" {
		text += ` AND ` + f.Field + ` = $3` // one of the names that the filter was parsed with
		args = append(args, f.Value)
	}
	rows, err := s.db.QueryContext(ctx, text+` ORDER BY id LIMIT $2`, args...)
	if err != nil {
		return nil, fmt.Errorf("list products: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		x, err := scanSKU(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list products: %w", err)
		}
		all = append(all, x)
	}
	return all, rows.Err()
}

// PutSKUs adds products, and changes those that are there. Fails: SERVICE_NOT_FOUND.
func (s *Store) PutSKUs(ctx context.Context, tx *sql.Tx, all []*billingv1.Sku) error {
	for _, x := range all {
		if _, err := s.CatalogService(ctx, tx, x.GetServiceId()); err != nil {
			return err
		}
		pricing, err := json.Marshal(pricingOf(x))
		if err != nil {
			return fmt.Errorf("put product: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO partner_skus (`+skuColumns+`) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (id) DO UPDATE SET service_id = excluded.service_id, name = excluded.name,
				description = excluded.description, pricing_unit = excluded.pricing_unit, pricing = excluded.pricing`,
			x.GetId(), x.GetServiceId(), x.GetName(), x.GetDescription(), x.GetPricingUnit(), string(pricing)); err != nil {
			return fmt.Errorf("put product: %w", err)
		}
	}
	return nil
}

// pricing is the prices of a product as they are stored.
type pricing struct{ sku *billingv1.Sku }

func pricingOf(x *billingv1.Sku) pricing {
	return pricing{&billingv1.Sku{PricingVersions: x.GetPricingVersions()}}
}

// MarshalJSON writes what protojson does, and json takes its spaces away.
func (p pricing) MarshalJSON() ([]byte, error) { return protojson.Marshal(p.sku) }

func scanSKU(scan func(...any) error) (*billingv1.Sku, error) {
	x := new(billingv1.Sku)
	var text string
	if err := scan(&x.Id, &x.ServiceId, &x.Name, &x.Description, &x.PricingUnit, &text); err != nil {
		return nil, err
	}
	prices := new(billingv1.Sku)
	if err := protojson.Unmarshal([]byte(text), prices); err != nil {
		return nil, fmt.Errorf("read pricing of %s: %w", x.GetId(), err)
	}
	x.PricingVersions = prices.GetPricingVersions()
	return x, nil
}
