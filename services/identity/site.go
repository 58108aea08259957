package identity

import (
	"context"
	"slices"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/server"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
)

// site is where service accounts are made or changed: a folder in use, with what it
// lies in.
type site struct {
	cloudID string
	path    []audit.Resource // the organization first, the folder last
}

// siteOf reads the site that a folder is. Fails: FOLDER_NOT_FOUND, FOLDER_NOT_ACTIVE,
// CLOUD_NOT_ACTIVE, ORGANIZATION_NOT_ACTIVE (DL-15).
func (s *Service) siteOf(ctx context.Context, folderID string) (site, error) {
	got, err := s.places.GetPlace(server.AsUnit(ctx), &brmv1.GetPlaceRequest{FolderId: folderID})
	if err != nil {
		return site{}, apierr.FromRPC(err)
	}
	var p site
	for _, r := range got.GetPath() {
		p.path = append(p.path, audit.Resource{Type: r.GetType(), ID: r.GetId(), Name: r.GetName()})
		if r.GetType() == typeCloud {
			p.cloudID = r.GetId()
		}
	}
	return p, nil
}

// of is the path of a service account on the site.
func (p site) of(a ServiceAccount) []audit.Resource {
	return append(slices.Clone(p.path), audit.Resource{Type: typeAccount, ID: a.ID, Name: a.Name})
}
