package identity

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/page"
)

// listRequest is what the list requests of both kinds of keys have in common.
type listRequest interface {
	GetPageSize() int64
	GetPageToken() string
}

// listKeys reads one page of the keys of an account, oldest first, full by items or
// by bytes unless it is the last (NM-7).
func listKeys[K any](ctx context.Context, s *Service, kind *keyKind, account string, req listRequest,
	read func(ctx context.Context, accountID string, after page.Position, limit int) ([]K, error),
	show func(K) (proto.Message, page.Position),
) (keys []K, next string, err error) {
	scope := []string{kind.typ, account}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(req.GetPageSize())
	if keys, err = read(ctx, account, after, size+1); err != nil {
		return nil, "", err
	}
	fit := page.Fit(min(len(keys), size), func(i int) int { m, _ := show(keys[i]); return proto.Size(m) })
	if fit == len(keys) {
		return keys, "", nil
	}
	_, last := show(keys[fit-1])
	next, err = s.pages.Seal(last, scope...)
	return keys[:fit], next, err
}
