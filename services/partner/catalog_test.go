package partner

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// price is a product of a service with a price in two currencies.
func price(id, service, rubles, dollars string) *billingv1.Sku {
	rate := func(price, currency string) *billingv1.PricingExpression {
		return &billingv1.PricingExpression{Rates: []*billingv1.Rate{{StartPricingQuantity: "0", UnitPrice: price, Currency: currency}}}
	}
	return &billingv1.Sku{
		Id: id, ServiceId: service, Name: "Product " + id, PricingUnit: "core*hour",
		PricingVersions: []*billingv1.PricingVersion{{
			Type: billingv1.PricingVersionType_STREET_PRICE, EffectiveTime: timestamppb.New(time.Unix(1_700_000_000, 0)),
			PricingExpressions: []*billingv1.PricingExpression{rate(rubles, "RUB"), rate(dollars, "USD")},
		}},
	}
}

func TestCatalogOfWhatIsSold(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, desk := w.person("ann"), w.moneyDesk()
		load := func(req *partnerv1.LoadCatalogRequest) (*partnerv1.LoadCatalogResponse, error) {
			return desk.LoadCatalog(t.Context(), req)
		}
		resp := must(load(&partnerv1.LoadCatalogRequest{
			Services: []*billingv1.Service{{Id: "compute", Name: "Compute"}, {Id: "storage", Name: "Storage", Description: "objects"}},
			Skus:     []*billingv1.Sku{price("cpu", "compute", "1.5", "0.02"), price("ram", "compute", "0.5", "0.01"), price("gb", "storage", "2", "0.03")},
		}))(t)
		if resp.GetServices() != 2 || resp.GetSkus() != 3 {
			t.Errorf("loaded %v", resp)
		}
		_, err := load(&partnerv1.LoadCatalogRequest{Skus: []*billingv1.Sku{price("lost", "nothing", "1", "1")}})
		wantRefusal(t, "a product of no service", err, codes.NotFound, ReasonServiceNotFound)
		must(load(&partnerv1.LoadCatalogRequest{Skus: []*billingv1.Sku{price("cpu", "compute", "1.75", "0.02")}}))(t)

		services, skus := billingv1.NewServiceServiceClient(w.Conn), billingv1.NewSkuServiceClient(w.Conn)
		if s := must(services.Get(w.as(ann), &billingv1.GetServiceRequest{Id: "storage"}))(t); s.GetName() != "Storage" || s.GetDescription() != "objects" {
			t.Errorf("service %v", s)
		}
		_, err = services.Get(w.as(ann), &billingv1.GetServiceRequest{Id: "nothing"})
		wantRefusal(t, "no service", err, codes.NotFound, ReasonServiceNotFound)
		var ids []string
		for req := (&billingv1.ListServicesRequest{PageSize: 1}); ; {
			page := must(services.List(w.as(ann), req))(t)
			for _, s := range page.GetServices() {
				ids = append(ids, s.GetId())
			}
			if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		if fmt.Sprint(ids) != "[compute storage]" {
			t.Errorf("services %v", ids)
		}
		sku := must(skus.Get(w.as(ann), &billingv1.GetSkuRequest{Id: "cpu", Currency: "RUB"}))(t)
		if v := sku.GetPricingVersions(); len(v) != 1 || len(v[0].GetPricingExpressions()) != 1 || v[0].GetPricingExpressions()[0].GetRates()[0].GetUnitPrice() != "1.75" {
			t.Errorf("the product is %v", sku)
		}
		if sku := must(skus.Get(w.as(ann), &billingv1.GetSkuRequest{Id: "cpu", Currency: "KZT"}))(t); len(sku.GetPricingVersions()) != 0 {
			t.Errorf("in tenge %v", sku)
		}
		_, err = skus.Get(w.as(ann), &billingv1.GetSkuRequest{Id: "cpu", Currency: "EUR"})
		wantRefusal(t, "another currency", err, codes.InvalidArgument, "currency")
		_, err = skus.Get(w.as(ann), &billingv1.GetSkuRequest{Id: "nothing", Currency: "RUB"})
		wantRefusal(t, "no product", err, codes.NotFound, ReasonSKUNotFound)
		for filter, want := range map[string]int{"": 3, `service_id = "compute"`: 2, `id = "gb"`: 1, `name = "Product ram"`: 1, `id = "x"`: 0} {
			if page := must(skus.List(w.as(ann), &billingv1.ListSkusRequest{Currency: "RUB", Filter: filter}))(t); len(page.GetSkus()) != want {
				t.Errorf("%q: %d products, want %d", filter, len(page.GetSkus()), want)
			}
		}
		_, err = skus.List(w.as(ann), &billingv1.ListSkusRequest{Currency: "RUB", Filter: `pricing_unit = "x"`})
		wantRefusal(t, "another filter", err, codes.InvalidArgument, "filter")
		mine, other := w.account(ann, partnerv1.BillingAccount_ACTIVE), w.account(w.person("bob"), partnerv1.BillingAccount_ACTIVE)
		must(skus.List(w.as(ann), &billingv1.ListSkusRequest{Currency: "RUB", BillingAccountId: mine}))(t)
		_, err = skus.List(w.as(ann), &billingv1.ListSkusRequest{Currency: "RUB", BillingAccountId: other})
		wantRefusal(t, "somebody's account", err, codes.PermissionDenied, "PERMISSION_DENIED")
	})
}

func TestBadCatalogs(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		for _, tt := range []struct {
			field string
			spoil func(*partnerv1.LoadCatalogRequest)
		}{
			{"services[0].id", func(r *partnerv1.LoadCatalogRequest) { r.Services[0].Id = "" }},
			{"services[0].id", func(r *partnerv1.LoadCatalogRequest) { r.Services[0].Id = strings.Repeat("x", 37) }},
			{"services[0].name", func(r *partnerv1.LoadCatalogRequest) { r.Services[0].Name = "" }},
			{"skus[0].id", func(r *partnerv1.LoadCatalogRequest) { r.Skus[0].Id = "a b" }},
			{"skus[0].service_id", func(r *partnerv1.LoadCatalogRequest) { r.Skus[0].ServiceId = "" }},
			{"skus[0].pricing_unit", func(r *partnerv1.LoadCatalogRequest) { r.Skus[0].PricingUnit = "" }},
			{"skus[0].pricing_versions[0].type", func(r *partnerv1.LoadCatalogRequest) {
				r.Skus[0].PricingVersions[0].Type = billingv1.PricingVersionType_CONTRACT_PRICE
			}},
			{"skus[0].pricing_versions[0].effective_time", func(r *partnerv1.LoadCatalogRequest) { r.Skus[0].PricingVersions[0].EffectiveTime = nil }},
			{"skus[0].pricing_versions[0].pricing_expressions[0].rates[0].unit_price", func(r *partnerv1.LoadCatalogRequest) {
				r.Skus[0].PricingVersions[0].PricingExpressions[0].Rates[0].UnitPrice = "-1"
			}},
			{"skus[0].pricing_versions[0].pricing_expressions[1].rates[0].currency", func(r *partnerv1.LoadCatalogRequest) {
				r.Skus[0].PricingVersions[0].PricingExpressions[1].Rates[0].Currency = "EUR"
			}},
		} {
			req := &partnerv1.LoadCatalogRequest{
				Services: []*billingv1.Service{{Id: "compute", Name: "Compute"}}, Skus: []*billingv1.Sku{price("cpu", "compute", "1", "1")},
			}
			tt.spoil(req)
			_, err := w.moneyDesk().LoadCatalog(t.Context(), req)
			wantRefusal(t, tt.field, err, codes.InvalidArgument, tt.field)
		}
	})
}
