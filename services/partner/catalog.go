package partner

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/decimal"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// currencies are those of accounts and prices (BI-7).
var currencies = []string{"RUB", "USD", "KZT"}

// services is the platform's ServiceService.
type services struct {
	billingv1.UnsafeServiceServiceServer // a missing method does not compile
	*Service
}

// Get reads a service. Fails: SERVICE_NOT_FOUND.
func (s *services) Get(ctx context.Context, req *billingv1.GetServiceRequest) (*billingv1.Service, error) {
	return s.store.CatalogService(ctx, s.store.db, req.GetId())
}

// List lists the services, ordered by id.
func (s *services) List(ctx context.Context, req *billingv1.ListServicesRequest) (*billingv1.ListServicesResponse, error) {
	f, err := filter.Parse(req.GetFilter(), "id", "name")
	if err != nil {
		return nil, err
	}
	scope := []string{"services", f.Field, f.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	all, err := s.store.CatalogServices(ctx, f, after.ID, size+1)
	if err != nil {
		return nil, err
	}
	fit, next, err := onPage(s.Service, all, size, func(x *billingv1.Service) page.Position { return page.Position{ID: x.GetId()} },
		func(x *billingv1.Service) int { return proto.Size(x) }, scope...)
	return &billingv1.ListServicesResponse{Services: fit, NextPageToken: next}, err
}

// skus is the platform's SkuService.
type skus struct {
	billingv1.UnsafeSkuServiceServer // a missing method does not compile
	*Service
}

// Get reads a product. Fails: SKU_NOT_FOUND.
func (s *skus) Get(ctx context.Context, req *billingv1.GetSkuRequest) (*billingv1.Sku, error) {
	if err := checkCurrency(req.GetCurrency()); err != nil {
		return nil, err
	}
	sku, err := s.store.SKU(ctx, s.store.db, req.GetId())
	if err != nil {
		return nil, err
	}
	return pricedIn(sku, req.GetCurrency()), nil
}

// List lists the products, ordered by id.
func (s *skus) List(ctx context.Context, req *billingv1.ListSkusRequest) (*billingv1.ListSkusResponse, error) {
	if err := checkCurrency(req.GetCurrency()); err != nil {
		return nil, err
	}
	f, err := filter.Parse(req.GetFilter(), "id", "name", "service_id")
	if err != nil {
		return nil, err
	}
	scope := []string{"skus", req.GetCurrency(), f.Field, f.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	all, err := s.store.SKUs(ctx, f, after.ID, size+1)
	if err != nil {
		return nil, err
	}
	for i, sku := range all {
		all[i] = pricedIn(sku, req.GetCurrency())
	}
	fit, next, err := onPage(s.Service, all, size, func(x *billingv1.Sku) page.Position { return page.Position{ID: x.GetId()} },
		func(x *billingv1.Sku) int { return proto.Size(x) }, scope...)
	return &billingv1.ListSkusResponse{Skus: fit, NextPageToken: next}, err
}

// checkCurrency is BI-7 for what the contract leaves open.
func checkCurrency(currency string) error {
	if !slices.Contains(currencies, currency) {
		return apierr.InvalidField("currency", "must be one of %v (BI-7)", currencies)
	}
	return nil
}

// pricedIn is a product with its prices in one currency.
func pricedIn(sku *billingv1.Sku, currency string) *billingv1.Sku {
	var versions []*billingv1.PricingVersion
	for _, v := range sku.GetPricingVersions() {
		var expressions []*billingv1.PricingExpression
		for _, e := range v.GetPricingExpressions() {
			rates := slices.DeleteFunc(slices.Clone(e.GetRates()), func(r *billingv1.Rate) bool { return r.GetCurrency() != currency })
			if len(rates) > 0 {
				expressions = append(expressions, &billingv1.PricingExpression{Rates: rates})
			}
		}
		if len(expressions) > 0 {
			versions = append(versions, &billingv1.PricingVersion{
				Type: v.GetType(), EffectiveTime: v.GetEffectiveTime(), PricingExpressions: expressions,
			})
		}
	}
	sku.PricingVersions = versions
	return sku
}

// moneyOperators is our MoneyOperatorService, on the operator socket alone.
type moneyOperators struct {
	partnerv1.UnsafeMoneyOperatorServiceServer // a missing method does not compile
	*Service
}

// LoadCatalog adds and changes services and products. Fails: SERVICE_NOT_FOUND.
func (s *moneyOperators) LoadCatalog(ctx context.Context, req *partnerv1.LoadCatalogRequest) (*partnerv1.LoadCatalogResponse, error) {
	if err := checkCatalog(req); err != nil {
		return nil, err
	}
	resp := new(partnerv1.LoadCatalogResponse)
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		if err := s.store.PutServices(ctx, tx, req.GetServices()); err != nil {
			return err
		}
		if err := s.store.PutSKUs(ctx, tx, req.GetSkus()); err != nil {
			return err
		}
		if resp.Services, err = s.store.count(ctx, tx, `SELECT COUNT(*) FROM partner_services`); err != nil {
			return err
		}
		resp.Skus, err = s.store.count(ctx, tx, `SELECT COUNT(*) FROM partner_skus`)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// Longest texts of the catalogue, in characters; ids are ASCII and are page tokens, too.
const (
	maxCatalogID   = 36
	maxDescription = 4000
)

// checkCatalog collects what is wrong with services and products.
func checkCatalog(req *partnerv1.LoadCatalogRequest) error {
	var bad []apierr.Field
	refuse := func(field, format string, args ...any) {
		bad = append(bad, apierr.Field{Name: field, Message: fmt.Sprintf(format, args...)})
	}
	texts := func(field, id, name, description string) {
		if !isRecordID(id) || len(id) > maxCatalogID {
			refuse(field+".id", "must have 1 to %d letters, digits and . _ : -", maxCatalogID)
		}
		if n := utf8.RuneCountInString(name); n < 1 || n > maxName {
			refuse(field+".name", "must have 1 to %d characters", maxName)
		}
		if utf8.RuneCountInString(description) > maxDescription {
			refuse(field+".description", "must have at most %d characters", maxDescription)
		}
	}
	for i, x := range req.GetServices() {
		texts(fmt.Sprintf("services[%d]", i), x.GetId(), x.GetName(), x.GetDescription())
	}
	for i, x := range req.GetSkus() {
		field := fmt.Sprintf("skus[%d]", i)
		texts(field, x.GetId(), x.GetName(), x.GetDescription())
		if x.GetServiceId() == "" {
			refuse(field+".service_id", "is required")
		}
		if n := utf8.RuneCountInString(x.GetPricingUnit()); n < 1 || n > maxLabelText {
			refuse(field+".pricing_unit", "must have 1 to %d characters", maxLabelText)
		}
		for n, v := range x.GetPricingVersions() {
			checkPrice(fmt.Sprintf("%s.pricing_versions[%d]", field, n), v, refuse)
		}
	}
	if len(bad) > 0 {
		return apierr.Invalid(bad[:min(len(bad), maxViolations)]...)
	}
	return nil
}

// checkPrice collects what is wrong with one version of a price.
func checkPrice(field string, v *billingv1.PricingVersion, refuse func(field, format string, args ...any)) {
	if v.GetType() != billingv1.PricingVersionType_STREET_PRICE {
		refuse(field+".type", "must be STREET_PRICE")
	}
	if !v.GetEffectiveTime().IsValid() {
		refuse(field+".effective_time", "is required, and must be a time")
	}
	for i, e := range v.GetPricingExpressions() {
		for n, r := range e.GetRates() {
			at := fmt.Sprintf("%s.pricing_expressions[%d].rates[%d]", field, i, n)
			for name, number := range map[string]string{".start_pricing_quantity": r.GetStartPricingQuantity(), ".unit_price": r.GetUnitPrice()} {
				if d, err := decimal.Parse(number); err != nil || d.Sign() < 0 {
					refuse(at+name, "%v, and not below zero", decimal.ErrForm)
				}
			}
			if !slices.Contains(currencies, r.GetCurrency()) {
				refuse(at+".currency", "must be one of %v (BI-7)", currencies)
			}
		}
	}
}
