package partner

import (
	"context"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	recordsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/usage_records/v1"
)

// GetBillingAccountUsageReport sums up by accounts. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *consumption) GetBillingAccountUsageReport(ctx context.Context, req *recordsv1.UsageReportRequest) (*recordsv1.BillingAccountUsageReportResponse, error) {
	c, err := s.report(ctx, partnerv1.UsageReport_SUBACCOUNT, req)
	if err != nil {
		return nil, err
	}
	resp := &recordsv1.BillingAccountUsageReportResponse{Currency: c.currency(), Cost: number(c.total.Cost)}
	resp.CreditDetails, resp.Expense = c.credit(c.total)
	for _, by := range c.by {
		data := &recordsv1.BillingAccountUsageReportEntityData{
			Cost: number(by.Cost), Periodic: c.periodic(by),
			BillingAccount: &recordsv1.BillingAccount{Id: by.id, Name: c.info[by.id].name},
		}
		data.CreditDetails, data.Expense = c.credit(by.Amounts)
		resp.EntitiesData = append(resp.EntitiesData, data)
	}
	return resp, nil
}

// GetCloudUsageReport sums up by clouds. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *consumption) GetCloudUsageReport(ctx context.Context, req *recordsv1.UsageReportRequest) (*recordsv1.CloudUsageReportResponse, error) {
	c, err := s.reportOfPlaces(ctx, partnerv1.UsageReport_CLOUD, req)
	if err != nil {
		return nil, err
	}
	resp := &recordsv1.CloudUsageReportResponse{Currency: c.currency(), Cost: number(c.total.Cost)}
	resp.CreditDetails, resp.Expense = c.credit(c.total)
	for _, by := range c.by {
		data := &recordsv1.CloudUsageReportEntityData{
			Cost: number(by.Cost), Periodic: c.periodic(by),
			Cloud: &recordsv1.Cloud{Id: by.id, BillingAccountId: c.Account.ID},
		}
		data.CreditDetails, data.Expense = c.credit(by.Amounts)
		resp.EntitiesData = append(resp.EntitiesData, data)
	}
	return resp, nil
}

// GetFolderUsageReport sums up by folders. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *consumption) GetFolderUsageReport(ctx context.Context, req *recordsv1.UsageReportRequest) (*recordsv1.FolderUsageReportResponse, error) {
	c, err := s.reportOfPlaces(ctx, partnerv1.UsageReport_FOLDER, req)
	if err != nil {
		return nil, err
	}
	resp := &recordsv1.FolderUsageReportResponse{Currency: c.currency(), Cost: number(c.total.Cost)}
	resp.CreditDetails, resp.Expense = c.credit(c.total)
	for _, by := range c.by {
		data := &recordsv1.FolderUsageReportEntityData{
			Cost: number(by.Cost), Periodic: c.periodic(by),
			Folder: &recordsv1.Folder{Id: by.id},
		}
		data.CreditDetails, data.Expense = c.credit(by.Amounts)
		resp.EntitiesData = append(resp.EntitiesData, data)
	}
	return resp, nil
}

// GetServiceUsageReport sums up by services. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *consumption) GetServiceUsageReport(ctx context.Context, req *recordsv1.UsageReportRequest) (*recordsv1.ServiceUsageReportResponse, error) {
	c, err := s.report(ctx, partnerv1.UsageReport_SERVICE, req)
	if err != nil {
		return nil, err
	}
	resp := &recordsv1.ServiceUsageReportResponse{Currency: c.currency(), Cost: number(c.total.Cost)}
	resp.CreditDetails, resp.Expense = c.credit(c.total)
	for _, by := range c.by {
		data := &recordsv1.ServiceUsageReportEntityData{
			Cost: number(by.Cost), Periodic: c.periodic(by),
			Service: &recordsv1.Service{Id: by.id, Name: c.info[by.id].name, Description: c.info[by.id].description},
		}
		data.CreditDetails, data.Expense = c.credit(by.Amounts)
		resp.EntitiesData = append(resp.EntitiesData, data)
	}
	return resp, nil
}

// GetSKUUsageReport sums up by products. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *consumption) GetSKUUsageReport(ctx context.Context, req *recordsv1.UsageReportRequest) (*recordsv1.SKUUsageReportResponse, error) {
	c, err := s.report(ctx, partnerv1.UsageReport_SKU, req)
	if err != nil {
		return nil, err
	}
	resp := &recordsv1.SKUUsageReportResponse{Currency: c.currency(), Cost: number(c.total.Cost)}
	resp.CreditDetails, resp.Expense = c.credit(c.total)
	for _, by := range c.by {
		data := &recordsv1.SKUUsageReportEntityData{
			Cost: number(by.Cost), Periodic: c.periodic(by),
			PricingQuantity: number(by.Quantity),
			Sku:             &recordsv1.SKU{Id: by.id, Name: c.info[by.id].name, PricingUnit: c.info[by.id].unit, ServiceId: c.info[by.id].service},
		}
		data.CreditDetails, data.Expense = c.credit(by.Amounts)
		resp.EntitiesData = append(resp.EntitiesData, data)
	}
	return resp, nil
}

// GetResourceUsageReport sums up by resources, which no record names. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *consumption) GetResourceUsageReport(ctx context.Context, req *recordsv1.UsageReportRequest) (*recordsv1.ResourceUsageReportResponse, error) {
	c, err := s.reportOfPlaces(ctx, partnerv1.UsageReport_AXIS_UNSPECIFIED, req)
	if err != nil {
		return nil, err
	}
	resp := &recordsv1.ResourceUsageReportResponse{Currency: c.currency(), Cost: number(c.total.Cost)}
	resp.CreditDetails, resp.Expense = c.credit(c.total)
	for _, by := range c.by {
		data := &recordsv1.ResourceUsageReportEntityData{
			Cost: number(by.Cost), Periodic: c.periodic(by),
			Resource: &recordsv1.Resource{Id: by.id},
		}
		data.CreditDetails, data.Expense = c.credit(by.Amounts)
		resp.EntitiesData = append(resp.EntitiesData, data)
	}
	return resp, nil
}

// GetLabelKeyUsageReport sums up by labels and their values. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *consumption) GetLabelKeyUsageReport(ctx context.Context, req *recordsv1.UsageReportRequest) (*recordsv1.LabelKeyUsageReportResponse, error) {
	c, err := s.report(ctx, partnerv1.UsageReport_LABEL, req)
	if err != nil {
		return nil, err
	}
	resp := &recordsv1.LabelKeyUsageReportResponse{Currency: c.currency(), Cost: number(c.total.Cost)}
	resp.CreditDetails, resp.Expense = c.credit(c.total)
	for _, by := range c.by {
		data := &recordsv1.LabelUsageReportEntityData{
			Cost: number(by.Cost), Periodic: c.periodic(by),
			Label: &recordsv1.Label{Key: by.key, Value: by.id},
		}
		data.CreditDetails, data.Expense = c.credit(by.Amounts)
		resp.EntitiesData = append(resp.EntitiesData, data)
	}
	return resp, nil
}

// GetServiceInstanceUsageReport sums up by instances of services, which no record names. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *consumption) GetServiceInstanceUsageReport(ctx context.Context, req *recordsv1.UsageReportRequest) (*recordsv1.ServiceInstanceUsageReportResponse, error) {
	c, err := s.report(ctx, partnerv1.UsageReport_AXIS_UNSPECIFIED, req)
	if err != nil {
		return nil, err
	}
	resp := &recordsv1.ServiceInstanceUsageReportResponse{Currency: c.currency(), Cost: number(c.total.Cost)}
	resp.CreditDetails, resp.Expense = c.credit(c.total)
	for _, by := range c.by {
		data := &recordsv1.ServiceInstanceUsageReportEntityData{
			Cost: number(by.Cost), Periodic: c.periodic(by),
			ServiceInstance: &recordsv1.ServiceInstance{Id: by.id, BillingAccountId: c.Account.ID},
		}
		data.CreditDetails, data.Expense = c.credit(by.Amounts)
		resp.EntitiesData = append(resp.EntitiesData, data)
	}
	return resp, nil
}
