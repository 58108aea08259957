package identity

import (
	"context"
	"net/url"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	oidcv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload/oidc"
	"github.com/bindery-iam/bindery/services/identity/outbound"
)

const (
	typeFederation = "iam.workloadIdentityFederation"

	permissionGetFederation         = "iam.workloadIdentityFederations.get"
	permissionGetFederationMetadata = "iam.workloadIdentityFederations.getMetadata"
)

// federations is yandex.cloud.iam.v1.workload.oidc.FederationService. Permissions: see
// the method options.
type federations struct {
	oidcv1.UnsafeFederationServiceServer // a missing method does not compile
	*Service
	access.Bindings
}

func (f Federation) resource() authz.Resource { return authz.Resource{Type: typeFederation, ID: f.ID} }

// message is a federation as it is shown; without issuer, audiences and the address of
// the keys to who may only know that it is there.
func (f Federation) message(whole bool) *oidcv1.Federation {
	m := &oidcv1.Federation{
		Id: f.ID, Name: f.Name, FolderId: f.FolderID, Description: f.Description, Enabled: !f.Disabled, Labels: f.Labels,
		CreatedAt: timestamppb.New(f.CreatedAt),
	}
	if whole {
		m.Audiences, m.Issuer, m.JwksUrl = f.Audiences, f.Issuer, f.KeysURL
	}
	return m
}

// usable refuses a federation that is on its way in or out.
func (f Federation) usable() error {
	switch f.State {
	case Active:
		return nil
	case Deleting:
		return apierr.Precondition(ReasonBeingDeleted, "federation %s is being deleted", f.ID)
	default:
		return errFederationNotFound(f.ID)
	}
}

// wellFormed refuses what no token could be of, where keys cannot be, and what both
// engines could not store alike; patterns judge the other fields before.
func (s *Service) wellFormed(f Federation) error {
	for field, text := range map[string]string{"description": f.Description, "issuer": f.Issuer, "jwks_url": f.KeysURL, "audiences": strings.Join(f.Audiences, "")} {
		if err := sqldb.CheckText(text); err != nil {
			return apierr.InvalidField(field, "must be valid UTF-8 without NUL").WithCause(err)
		}
	}
	if u, err := url.Parse(f.Issuer); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return apierr.InvalidField("issuer", "must be a URL: claim iss of the tokens, to the letter")
	}
	if err := s.outside.Check(f.KeysURL); err != nil {
		return apierr.InvalidField("jwks_url", "%s", strings.TrimPrefix(err.Error(), outbound.ErrAddress.Error()+": "))
	}
	return nil
}

// Get reads a federation. Fails: FEDERATION_NOT_FOUND.
func (s *federations) Get(ctx context.Context, req *oidcv1.GetFederationRequest) (*oidcv1.Federation, error) {
	f, err := s.store.Federation(ctx, s.store.db, req.GetFederationId())
	if err != nil {
		return nil, err
	}
	whole, err := s.decider.AuthorizeEach(ctx, authn.FromContext(ctx), permissionGetFederation, []authz.Resource{f.resource()})
	if err != nil {
		return nil, err
	}
	return f.message(whole[0]), nil
}

// List reads one page of the federations of a folder that the caller may see, oldest
// first (NM-7). Whoever lacks the list permission and sees nothing at all in the folder
// is refused.
func (s *federations) List(ctx context.Context, req *oidcv1.ListFederationsRequest) (*oidcv1.ListFederationsResponse, error) {
	scope := []string{"workload federations", req.GetFolderId()}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	seen, err := s.visibleFederations(ctx, req.GetFolderId(), after, size+1)
	if err != nil {
		return nil, err
	}
	if denied := authz.Withheld(ctx); denied != nil && len(seen) == 0 {
		anything, err := s.visibleFederations(ctx, req.GetFolderId(), page.Position{}, 1)
		if err == nil && len(anything) == 0 {
			err = denied
		}
		return &oidcv1.ListFederationsResponse{}, err
	}
	fit := page.Fit(min(len(seen), size), func(i int) int { return proto.Size(seen[i].message()) })
	resp := new(oidcv1.ListFederationsResponse)
	for _, f := range seen[:fit] {
		resp.Federations = append(resp.Federations, f.message())
	}
	if fit < len(seen) {
		resp.NextPageToken, err = s.pages.Seal(seen[fit-1].position(), scope...)
	}
	return resp, err
}

// seenFederation is a federation as somebody sees it.
type seenFederation struct {
	Federation
	whole bool
}

func (f seenFederation) message() *oidcv1.Federation { return f.Federation.message(f.whole) }

// visibleFederations reads the first want federations of a folder after a position that
// the caller may see, fewer when there are no more.
func (s *Service) visibleFederations(ctx context.Context, folderID string, after page.Position, want int) (seen []seenFederation, err error) {
	p := authn.FromContext(ctx)
	for {
		rows, err := s.store.FederationsIn(ctx, folderID, after, authz.MaxEach)
		if err != nil || len(rows) == 0 {
			return seen, err
		}
		refs := make([]authz.Resource, len(rows))
		for i, f := range rows {
			refs[i] = f.resource()
		}
		some, err := s.decider.AuthorizeEach(ctx, p, permissionGetFederationMetadata, refs)
		if err != nil {
			return nil, err
		}
		whole, err := s.decider.AuthorizeEach(ctx, p, permissionGetFederation, refs)
		if err != nil {
			return nil, err
		}
		for i, f := range rows {
			if some[i] || whole[i] {
				if seen = append(seen, seenFederation{f, whole[i]}); len(seen) == want {
					return seen, nil
				}
			}
		}
		if len(rows) < authz.MaxEach {
			return seen, nil
		}
		after = rows[len(rows)-1].position()
	}
}

// federationsOf counts the federations of a cloud.
func (s *Service) federationsOf(ctx context.Context, cloudID string) (int64, error) {
	return s.store.CountFederations(ctx, s.store.db, cloudID)
}
