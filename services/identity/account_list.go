package identity

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/page"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// listAccounts reads one page of the service accounts of a folder that the caller may
// see, oldest first (NM-7). The page is full, by items or by bytes, unless it is the
// last one, and only a full page has a next one. Whoever lacks the list permission
// and sees nothing at all in the folder is refused.
func (s *Service) listAccounts(ctx context.Context, req *iamv1.ListServiceAccountsRequest) ([]ServiceAccount, string, error) {
	f, err := filter.Parse(req.GetFilter(), "name")
	if err != nil {
		return nil, "", err
	}
	scope := []string{"service accounts", req.GetFolderId(), f.Field, f.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	if f.Field != "" && f.Value == "" {
		return nil, "", nil // nothing has an empty name
	}
	size := page.Size(req.GetPageSize())
	seen, err := s.visibleAccounts(ctx, req.GetFolderId(), f.Value, after, size+1)
	if err != nil {
		return nil, "", err
	}
	if denied := authz.Withheld(ctx); denied != nil && len(seen) == 0 {
		anything, err := s.visibleAccounts(ctx, req.GetFolderId(), "", page.Position{}, 1)
		if err == nil && len(anything) == 0 {
			err = denied
		}
		return nil, "", err
	}
	fit := page.Fit(min(len(seen), size), func(i int) int { return proto.Size(seen[i].proto()) })
	if fit == len(seen) {
		return seen, "", nil
	}
	token, err := s.pages.Seal(seen[fit-1].position(), scope...)
	return seen[:fit], token, err
}

// visibleAccounts reads the first want service accounts of a folder after a position
// that the caller may see, fewer when there are no more. One that the checker does
// not know yet is not seen.
func (s *Service) visibleAccounts(ctx context.Context, folderID, name string, after page.Position, want int) ([]ServiceAccount, error) {
	p := authn.FromContext(ctx)
	var seen []ServiceAccount
	for batch := min(want, authz.MaxEach); ; batch = authz.MaxEach { // where much is hidden, look further at once
		rows, err := s.store.AccountsIn(ctx, folderID, name, after, batch)
		if err != nil || len(rows) == 0 {
			return seen, err
		}
		refs := make([]authz.Resource, len(rows))
		for i, a := range rows {
			refs[i] = a.resource()
		}
		may, err := s.decider.AuthorizeEach(ctx, p, permissionGetAccount, refs)
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
