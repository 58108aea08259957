package main

import (
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/yandex-cloud/go-genproto/yandex/cloud/access"
	billingpb "github.com/yandex-cloud/go-genproto/yandex/cloud/billing/v1"
	operationpb "github.com/yandex-cloud/go-genproto/yandex/cloud/operation"
	ycsdk "github.com/yandex-cloud/go-sdk/v2"
)

// Names by which the SDK leads generated clients to their endpoints.
const (
	billingAccounts = "yandex.cloud.billing.v1.BillingAccountService"
	customers       = "yandex.cloud.billing.v1.CustomerService"
)

// billingCalls are those on billing accounts and a partner's customers.
func billingCalls(sdk *ycsdk.SDK) map[string]call {
	account := billingpb.NewBillingAccountServiceClient(connection{sdk, billingAccounts})
	customer := billingpb.NewCustomerServiceClient(connection{sdk, customers})
	w := waiter{operationpb.NewOperationServiceClient(connection{sdk, operations})}
	return map[string]call{
		"account.get":                        unary(account.Get),
		"account.list":                       list(account.List, "billingAccounts", (*billingpb.ListBillingAccountsResponse).GetBillingAccounts),
		"account.bindBillableObject":         long(w, account.BindBillableObject, &billingpb.BindBillableObjectMetadata{}, &billingpb.BillableObjectBinding{}),
		"account.listBillableObjectBindings": list(account.ListBillableObjectBindings, "billableObjectBindings", (*billingpb.ListBillableObjectBindingsResponse).GetBillableObjectBindings),
		"account.listAccessBindings":         list(account.ListAccessBindings, "accessBindings", (*access.ListAccessBindingsResponse).GetAccessBindings),
		"account.updateAccessBindings":       long(w, account.UpdateAccessBindings, &access.UpdateAccessBindingsMetadata{}, &emptypb.Empty{}),

		"customer.list":                 list(customer.List, "customers", (*billingpb.ListCustomersResponse).GetCustomers),
		"customer.invite":               long(w, customer.Invite, &billingpb.CustomerMetadata{}, &billingpb.Customer{}),
		"customer.createResellerServed": long(w, customer.CreateResellerServed, &billingpb.CustomerMetadata{}, &billingpb.Customer{}),
		"customer.activate":             long(w, customer.Activate, &billingpb.CustomerMetadata{}, &billingpb.Customer{}),
		"customer.suspend":              long(w, customer.Suspend, &billingpb.CustomerMetadata{}, &billingpb.Customer{}),
	}
}
