package partner

import (
	"context"
	"slices"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	recordsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/usage_records/v1"
)

// permUsageOfPlace opens the usage of a cloud or a folder without any right on the account
// that pays.
const permUsageOfPlace = "billing.usageRecords.get"

// reportOfPlaces is report for whoever may see the usage of the account, and of clouds or
// folders for whoever may see that of all of them that the request names (US-7).
func (s *consumption) reportOfPlaces(ctx context.Context, axis partnerv1.UsageReport_Axis, req *recordsv1.UsageReportRequest) (*consumed, error) {
	if withheld := authz.Withheld(ctx); withheld != nil {
		if err := choices(req); err != nil {
			return nil, err
		}
		if err := s.maySeePlaces(ctx, req, withheld); err != nil {
			return nil, err
		}
	}
	return s.report(ctx, axis, req)
}

// maySeePlaces refuses unless the caller may see the usage of all clouds that the request
// names, or of all folders: the filters are joined by AND.
func (s *consumption) maySeePlaces(ctx context.Context, req *recordsv1.UsageReportRequest, withheld error) error {
	denied := withheld
	for _, f := range []struct {
		typ string
		ids []string
	}{{typeCloud, req.GetCloudIds()}, {typeFolder, req.GetFolderIds()}} {
		missing, err := s.withoutUsage(ctx, f.typ, f.ids)
		switch {
		case err != nil:
			return err
		case missing != "":
			denied = authz.Denied(permUsageOfPlace, authz.Resource{Type: f.typ, ID: missing})
		case len(f.ids) > 0:
			return nil
		}
	}
	return denied
}

// withoutUsage returns the first of some places whose usage the caller may not see; "" for
// none.
func (s *consumption) withoutUsage(ctx context.Context, typ string, ids []string) (string, error) {
	for part := range slices.Chunk(ids, authz.MaxEach) {
		places := make([]authz.Resource, len(part))
		for i, id := range part {
			places[i] = authz.Resource{Type: typ, ID: id}
		}
		may, err := s.decider.AuthorizeEach(ctx, authn.FromContext(ctx), permUsageOfPlace, places)
		if err != nil {
			return "", err
		}
		if i := slices.Index(may, false); i >= 0 {
			return part[i], nil
		}
	}
	return "", nil
}
