package partner

import (
	"context"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/page"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	recordsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/usage_records/v1"
)

// PT-44: what there is to report on.

// usageMetadata is the platform's MetadataService.
type usageMetadata struct {
	recordsv1.UnsafeMetadataServiceServer // a missing method does not compile
	*Service
}

// maxUsed bounds each list of GetUsage, which is not paged.
const maxUsed = 10_000

// metadataRequest is what its requests have in common.
type metadataRequest interface {
	GetBillingAccountId() string
	GetStartDate() *timestamppb.Timestamp
	GetEndDate() *timestamppb.Timestamp
}

// choice is a filter of a request, by its field.
type choice struct {
	field  string
	values []string
}

// about reads which usage a request is about. Fails: BILLING_ACCOUNT_NOT_FOUND, and for
// filters of too many values and a wrong range of days.
func (s *usageMetadata) about(ctx context.Context, req metadataRequest, filters ...choice) (r Report, err error) {
	for _, f := range filters {
		if len(f.values) > maxChoices {
			return r, apierr.InvalidField(f.field, "has %d values, at most %d are allowed", len(f.values), maxChoices)
		}
	}
	if r.Account, err = s.store.Account(ctx, s.store.db, req.GetBillingAccountId()); err != nil {
		return r, err
	}
	r.From, r.To, err = utcDays(req.GetStartDate(), req.GetEndDate())
	return r, err
}

// GetUsage lists what usage there is of. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *usageMetadata) GetUsage(ctx context.Context, req *recordsv1.GetUsageRequest) (*recordsv1.GetUsageResponse, error) {
	r, err := s.about(ctx, req, choice{"cloud_ids", req.GetCloudIds()}, choice{"label_keys", req.GetLabelKeys()},
		choice{"service_ids", req.GetServiceIds()}, choice{"sku_ids", req.GetSkuIds()})
	if err != nil {
		return nil, err
	}
	r.Clouds, r.Services, r.SKUs, r.AnyLabel = req.GetCloudIds(), req.GetServiceIds(), req.GetSkuIds(), true
	for _, key := range req.GetLabelKeys() {
		r.Labels = append(r.Labels, labelFilter{key: key})
	}
	resp := new(recordsv1.GetUsageResponse)
	for _, list := range []struct {
		used used
		axis partnerv1.UsageReport_Axis // of what is known of them
		add  func(id string, i consumerInfo)
	}{
		{used{a: "k.account_id"}, partnerv1.UsageReport_SUBACCOUNT, func(id string, i consumerInfo) {
			resp.BillingAccounts = append(resp.BillingAccounts, &recordsv1.BillingAccount{Id: id, Name: i.name})
		}},
		{used{a: "k.cloud_id"}, partnerv1.UsageReport_CLOUD, func(id string, _ consumerInfo) {
			resp.Clouds = append(resp.Clouds, &recordsv1.Cloud{Id: id, BillingAccountId: r.Account.ID})
		}},
		{used{a: "l.name", names: req.GetLabelKeys()}, partnerv1.UsageReport_LABEL, func(id string, _ consumerInfo) {
			resp.LabelKeys = append(resp.LabelKeys, id)
		}},
		{used{a: "k.service_id"}, partnerv1.UsageReport_SERVICE, func(id string, i consumerInfo) {
			resp.Services = append(resp.Services, &recordsv1.Service{Id: id, Name: i.name, Description: i.description})
		}},
		{used{a: "k.sku_id"}, partnerv1.UsageReport_SKU, func(id string, i consumerInfo) {
			resp.Skus = append(resp.Skus, &recordsv1.SKU{Id: id, Name: i.name, PricingUnit: i.unit, ServiceId: i.service})
		}},
	} {
		values, err := s.store.Used(ctx, s.store.db, r, list.used, maxUsed+1)
		if err != nil {
			return nil, err
		}
		info, err := s.store.consumerInfo(ctx, s.store.db, list.axis, r.Account)
		if err != nil {
			return nil, err
		}
		for _, v := range values {
			list.add(v.a, info[v.a])
		}
		if len(values) > maxUsed || proto.Size(resp) > page.MaxBytes {
			return nil, apierr.InvalidField("cloud_ids", "there is usage of more than fits into an answer: name clouds, or fewer days")
		}
	}
	return resp, nil
}

// GetLabel lists the values of a label. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *usageMetadata) GetLabel(ctx context.Context, req *recordsv1.GetLabelRequest) (*recordsv1.GetLabelResponse, error) {
	r, err := s.about(ctx, req, choice{"label_value_filter", req.GetLabelValueFilter()}, choice{"cloud_ids", req.GetCloudIds()}, choice{"folder_ids", req.GetFolderIds()})
	if err != nil {
		return nil, err
	}
	r.Clouds, r.Folders = req.GetCloudIds(), req.GetFolderIds()
	scope := append([]string{"label", req.GetLabelValue(), req.GetLabelKey()}, scopeOf(r)...)
	pages := s.pages.Long() // a value has up to 63 characters
	after, err := pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	label := used{a: "l.value", names: []string{req.GetLabelKey()}, prefix: req.GetLabelValue()}
	if req.GetPageToken() != "" {
		label.after = &usedValue{a: after.ID}
	}
	size := page.Size(req.GetPageSize())
	values, err := s.store.Used(ctx, s.store.db, r, label, size+1)
	if err != nil {
		return nil, err
	}
	resp := new(recordsv1.GetLabelResponse)
	for _, v := range values[:min(len(values), size)] {
		resp.LabelValues = append(resp.LabelValues, v.a)
	}
	if len(values) > size {
		if resp.NextPageToken, err = pages.Seal(page.Position{ID: values[size-1].a}, scope...); err != nil {
			return nil, err
		}
	}
	if len(req.GetLabelValueFilter()) == 0 {
		return resp, nil
	}
	r.Labels = []labelFilter{{key: req.GetLabelKey(), values: req.GetLabelValueFilter()}}
	found, err := s.store.Used(ctx, s.store.db, r, used{a: "l.value", names: []string{req.GetLabelKey()}}, maxChoices)
	for _, v := range found {
		resp.LabelValueFilter = append(resp.LabelValueFilter, v.a)
	}
	return resp, err
}

// scopeOf is what the token of a page says of the usage that a list is of.
func scopeOf(r Report) []string {
	return []string{r.Account.ID, r.From.String(), r.To.String(), strings.Join(r.Clouds, "\n"), strings.Join(r.Folders, "\n")}
}

// GetCloud lists clouds with their folders. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *usageMetadata) GetCloud(ctx context.Context, req *recordsv1.GetCloudRequest) (*recordsv1.GetCloudResponse, error) {
	r, err := s.about(ctx, req, choice{"cloud_ids", req.GetCloudIds()}, choice{"folder_ids", req.GetFolderIds()})
	if err != nil {
		return nil, err
	}
	r.Clouds, r.Folders = req.GetCloudIds(), req.GetFolderIds()
	scope := append([]string{"clouds"}, scopeOf(r)...)
	pages := s.pages.Long() // whatever measures names clouds as it likes
	after, err := pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	clouds := used{a: "k.cloud_id"}
	if req.GetPageToken() != "" {
		clouds.after = &usedValue{a: after.ID}
	}
	size := page.Size(req.GetPageSize())
	values, err := s.store.Used(ctx, s.store.db, r, clouds, size+1)
	if err != nil || len(values) == 0 {
		return new(recordsv1.GetCloudResponse), err
	}
	more := len(values) > size
	values = values[:min(len(values), size)]
	r.Clouds = nil
	for _, v := range values {
		r.Clouds = append(r.Clouds, v.a)
	}
	folders, err := s.store.Used(ctx, s.store.db, r, used{a: "k.cloud_id", b: "k.folder_id"}, 0)
	if err != nil {
		return nil, err
	}
	resp := new(recordsv1.GetCloudResponse)
	for _, f := range folders {
		if last := len(resp.GetItems()) - 1; last < 0 || resp.Items[last].GetCloud().GetId() != f.a {
			resp.Items = append(resp.Items, &recordsv1.GetCloudResponse_CloudInfo{Cloud: &recordsv1.Cloud{Id: f.a, BillingAccountId: r.Account.ID}})
		}
		if f.b != "" {
			item := resp.Items[len(resp.Items)-1]
			item.Folders = append(item.Folders, &recordsv1.Folder{Id: f.b})
		}
	}
	fit := page.Fit(len(resp.GetItems()), func(i int) int { return proto.Size(resp.Items[i]) })
	if more || fit < len(resp.GetItems()) {
		resp.Items = resp.Items[:fit]
		resp.NextPageToken, err = pages.Seal(page.Position{ID: resp.Items[fit-1].GetCloud().GetId()}, scope...)
	}
	return resp, err
}

// GetServiceInstance lists instances of services, which no record names. Fails:
// BILLING_ACCOUNT_NOT_FOUND.
func (s *usageMetadata) GetServiceInstance(ctx context.Context, req *recordsv1.GetServiceInstanceRequest) (*recordsv1.GetServiceInstanceResponse, error) {
	_, err := s.about(ctx, req, choice{"service_instance_ids", req.GetServiceInstanceIds()})
	return new(recordsv1.GetServiceInstanceResponse), err
}

// GetResources lists resources, which no record names. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *usageMetadata) GetResources(ctx context.Context, req *recordsv1.GetResourcesRequest) (*recordsv1.GetResourcesResponse, error) {
	_, err := s.about(ctx, req, choice{"service_instances_ids", req.GetServiceInstancesIds()}, choice{"resource_ids", req.GetResourceIds()})
	if err == nil {
		_, err = s.pages.Open(req.GetPageToken(), "resources", req.GetBillingAccountId())
	}
	return new(recordsv1.GetResourcesResponse), err
}

// used is a list of the values that the usage of a report has in a column, or in two.
type used struct {
	a, b   string   // columns: of the key k, or of the label l; b may be empty
	names  []string // keys of labels, with a column of l; empty for all
	prefix string   // of a
	after  *usedValue
}

// usedValue is one of them.
type usedValue struct{ a, b string }
