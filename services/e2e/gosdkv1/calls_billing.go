package main

import ycsdk "github.com/yandex-cloud/go-sdk"

// billingCalls are those on billing accounts and a partner's customers.
func billingCalls(sdk *ycsdk.SDK) map[string]call {
	account, customer := sdk.Billing().BillingAccount(), sdk.Billing().Customer()
	return map[string]call{
		"account.get":                        unary(account.Get),
		"account.list":                       list(account.List, "billingAccounts", account.BillingAccountIterator),
		"account.bindBillableObject":         long(sdk, account.BindBillableObject),
		"account.listBillableObjectBindings": list(account.ListBillableObjectBindings, "billableObjectBindings", account.BillingAccountBillableObjectBindingsIterator),
		"account.listAccessBindings":         list(account.ListAccessBindings, "accessBindings", account.BillingAccountAccessBindingsIterator),
		"account.updateAccessBindings":       long(sdk, account.UpdateAccessBindings),

		"customer.list":                 list(customer.List, "customers", customer.CustomerIterator),
		"customer.invite":               long(sdk, customer.Invite),
		"customer.createResellerServed": long(sdk, customer.CreateResellerServed),
		"customer.activate":             long(sdk, customer.Activate),
		"customer.suspend":              long(sdk, customer.Suspend),
	}
}
