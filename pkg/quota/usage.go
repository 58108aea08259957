package quota

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
)

// Usage counts what one resource uses of one quota, by the id of the resource; 0
// for one that is not known.
type Usage func(ctx context.Context, resourceID string) (int64, error)

// ReasonNotFound is the reason of NotFound.
const ReasonNotFound = "QUOTA_NOT_FOUND"

// NotFound is the refusal for a quota that the catalogue does not have on that type
// of resource.
func NotFound(quotaID, resourceType string) error {
	return apierr.NotFound(ReasonNotFound, "there is no quota %q on a resource of type %q", quotaID, resourceType)
}

// Usages is bindery.quota.v1.UsageService over the quotas that the units of a
// process own, by the id of the quota.
type Usages struct {
	quotav1.UnsafeUsageServiceServer
	By map[string]Usage
}

// GetUsage counts. What nobody here counts is left out. Fails: QUOTA_NOT_FOUND for
// what does not live on that type of resource.
func (u *Usages) GetUsage(ctx context.Context, req *quotav1.GetUsageRequest) (*quotav1.GetUsageResponse, error) {
	c, err := catalog.Load()
	if err != nil {
		return nil, err
	}
	resp := new(quotav1.GetUsageResponse)
	for _, quotaID := range req.GetQuotaIds() {
		q, ok := c.Quota(quotaID)
		if on := req.GetResource().GetType(); !ok || q.On != on {
			return nil, NotFound(quotaID, on)
		}
		count := u.By[quotaID]
		if count == nil {
			continue
		}
		n, err := count(ctx, req.GetResource().GetId())
		if err != nil {
			return nil, err
		}
		resp.Usage = append(resp.Usage, &quotav1.Usage{QuotaId: quotaID, Usage: n})
	}
	return resp, nil
}
