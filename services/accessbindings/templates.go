package accessbindings

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/page"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// Templates is yandex.cloud.iam.v1.AccessPolicyTemplateService: it shows what can be
// bound as an access policy (AP-5).
type Templates struct {
	iamv1.UnimplementedAccessPolicyTemplateServiceServer
	catalog *catalog.Catalog
	pages   *page.Sealer
}

// List lists the templates ordered by id.
func (s *Templates) List(_ context.Context, req *iamv1.ListAccessPolicyTemplatesRequest) (*iamv1.ListAccessPolicyTemplatesResponse, error) {
	const scope = "ListAccessPolicyTemplates"
	after, err := s.pages.Open(req.GetPageToken(), scope)
	if err != nil {
		return nil, err
	}
	all := s.catalog.Policies()
	begin := min(int(after.Time), len(all))
	end := min(begin+page.Size(req.GetPageSize()), len(all))
	resp := new(iamv1.ListAccessPolicyTemplatesResponse)
	for _, t := range all[begin:end] {
		resp.AccessPolicyTemplates = append(resp.AccessPolicyTemplates, &accesspb.AccessPolicy{Id: t.ID, Name: t.Name, Description: t.Description})
	}
	if end < len(all) {
		resp.NextPageToken, err = s.pages.Seal(page.Position{Time: int64(end)}, scope)
	}
	return resp, err
}
