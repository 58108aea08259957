package resourcemanager

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/page"
)

// filteredRequest is a list request with a filter.
type filteredRequest interface {
	access.PageRequest
	GetFilter() string
}

// list reads one page of the resources of a kind that the caller may see, oldest
// first, below a parent when one is given (NM-7). The page is full, by items or by
// bytes, unless it is the last one, and only a full page has a next one. Whoever lacks the list
// permission and sees nothing at all below the parent is refused.
func (s *Service) list(ctx context.Context, k *kind, parentID string, req filteredRequest) ([]Resource, string, error) {
	f, err := filter.Parse(req.GetFilter(), "name")
	if err != nil {
		return nil, "", err
	}
	query := Query{Kind: k, ParentID: parentID, Name: f.Value}
	scope := []string{"list", k.name, parentID, f.Field, f.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	if f.Field != "" && f.Value == "" {
		return nil, "", nil // nothing has an empty name
	}
	size := page.Size(req.GetPageSize())
	seen, err := s.visible(ctx, query, after, size+1)
	if err != nil {
		return nil, "", err
	}
	if denied := authz.Withheld(ctx); denied != nil && len(seen) == 0 {
		anything, err := s.visible(ctx, Query{Kind: k, ParentID: parentID}, page.Position{}, 1)
		if err == nil && len(anything) == 0 {
			err = denied
		}
		return nil, "", err
	}
	fit := page.Fit(min(len(seen), size), func(i int) int { return proto.Size(k.message(seen[i])) })
	if fit == len(seen) {
		return seen, "", nil
	}
	token, err := s.pages.Seal(seen[fit-1].position(), scope...)
	return seen[:fit], token, err
}

// visible reads the first want resources after a position that the caller may see,
// fewer when there are no more.
func (s *Service) visible(ctx context.Context, query Query, after page.Position, want int) ([]Resource, error) {
	p := authn.FromContext(ctx)
	var seen []Resource
	for batch := min(want, authz.MaxEach); ; batch = authz.MaxEach { // where much is hidden, look further at once
		rows, err := s.store.List(ctx, query, after, batch)
		if err != nil || len(rows) == 0 {
			return seen, err
		}
		refs := make([]authz.Resource, len(rows))
		for i, r := range rows {
			refs[i] = query.Kind.resource(r.ID)
		}
		may, err := s.decider.AuthorizeEach(ctx, p, query.Kind.get, refs)
		if err != nil {
			return nil, err
		}
		for i, r := range rows {
			if may[i] {
				if seen = append(seen, r); len(seen) == want {
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
