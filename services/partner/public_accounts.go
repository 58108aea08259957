package partner

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/page"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// publicAccounts is the platform's BillingAccountService, which neither creates nor
// deletes. ListAccessBindings and UpdateAccessBindings are those of access.Bindings.
type publicAccounts struct {
	billingv1.UnsafeBillingAccountServiceServer // a missing method does not compile
	*Service
	access.Bindings
}

// Get reads an account. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *publicAccounts) Get(ctx context.Context, req *billingv1.GetBillingAccountRequest) (*billingv1.BillingAccount, error) {
	a, err := s.store.Account(ctx, s.store.db, req.GetId())
	if err != nil {
		return nil, err
	}
	return a.public(), nil
}

// List lists the accounts that the caller has a role on, subaccounts among them, oldest
// first.
func (s *publicAccounts) List(ctx context.Context, req *billingv1.ListBillingAccountsRequest) (*billingv1.ListBillingAccountsResponse, error) {
	const scope = "billing accounts"
	after, err := s.pages.Open(req.GetPageToken(), scope)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	seen, err := s.visible(ctx, permList, "", after, size+1)
	if err != nil {
		return nil, err
	}
	fit, next, err := onPage(s.Service, seen, size, Account.position, func(a Account) int { return proto.Size(a.public()) }, scope)
	if err != nil {
		return nil, err
	}
	resp := &billingv1.ListBillingAccountsResponse{NextPageToken: next}
	for _, a := range fit {
		resp.BillingAccounts = append(resp.BillingAccounts, a.public())
	}
	return resp, nil
}

// visible reads the first want accounts after a position on which the caller holds a
// permission, of one partner or of all; fewer when there are no more.
func (s *Service) visible(ctx context.Context, permission, partnerID string, after page.Position, want int) ([]Account, error) {
	p := authn.FromContext(ctx)
	var seen []Account
	for batch := min(want, authz.MaxEach); ; batch = authz.MaxEach { // where much is hidden, look further at once
		rows, err := s.store.Accounts(ctx, partnerID, after, batch)
		if err != nil || len(rows) == 0 {
			return seen, err
		}
		refs := make([]authz.Resource, len(rows))
		for i, a := range rows {
			refs[i] = a.resource()
		}
		may, err := s.decider.AuthorizeEach(ctx, p, permission, refs)
		if err != nil {
			return nil, err
		}
		for i, a := range rows {
			if may[i] {
				if seen = append(seen, a); len(seen) == want {
					return seen, nil
				}
			}
		}
		if len(rows) < batch {
			return seen, nil
		}
		after = rows[len(rows)-1].position()
	}
}
