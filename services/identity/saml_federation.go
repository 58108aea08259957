package identity

import (
	"context"
	"net/url"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
)

// Federations as resources, and permissions on them.
const (
	typeSAMLFederation = "organization-manager.federation"

	permGetFederation        = "organization-manager.federations.get"
	permCreateFederation     = "organization-manager.federations.create"
	permUpdateFederation     = "organization-manager.federations.update"
	permDeleteFederation     = "organization-manager.federations.delete"
	permCreateFederatedUsers = "organization-manager.federatedUsers.create"
	permUpdateFederatedUsers = "organization-manager.federatedUsers.update"
	permDeleteFederatedUsers = "organization-manager.federatedUsers.delete"
)

// How long a browser stays signed in when a federation does not say.
const defaultCookieMaxAge = 8 * time.Hour

// SAMLFederation is an identity provider of an organization.
type SAMLFederation struct {
	ID                  string
	OrganizationID      string
	Name                string
	Description         string
	Labels              map[string]string
	CookieMaxAge        time.Duration
	AutoCreate          bool // of users, at their first sign-in
	Issuer              string
	Binding             string // POST or REDIRECT
	SSOURL              string
	EncryptedAssertions bool
	ForceAuthn          bool
	CaseInsensitive     bool // how name ids are compared
	State               State
	Operation           string // that makes or deletes it; "" when none is under way
	CreatedAt           time.Time
}

// samlFederations is yandex.cloud.organizationmanager.v1.saml.FederationService.
// Permissions: see the method options.
type samlFederations struct {
	samlv1.UnsafeFederationServiceServer // a missing method does not compile
	*Service
}

// resource names the federation for the checker.
func (f SAMLFederation) resource() authz.Resource {
	return authz.Resource{Type: typeSAMLFederation, ID: f.ID}
}

// position is where f stands in a list.
func (f SAMLFederation) position() page.Position {
	return page.Position{Time: sqldb.Micros(f.CreatedAt), ID: f.ID}
}

// key is a name id as the federation compares them.
func (f SAMLFederation) key(nameID string) string {
	if f.CaseInsensitive {
		return fold(nameID)
	}
	return nameID
}

// proto is the public message of a federation.
func (f SAMLFederation) proto() *samlv1.Federation {
	return &samlv1.Federation{
		Id: f.ID, OrganizationId: f.OrganizationID, Name: f.Name, Description: f.Description, Labels: f.Labels,
		CreatedAt: timestamppb.New(f.CreatedAt), CookieMaxAge: durationpb.New(f.CookieMaxAge), AutoCreateAccountOnLogin: f.AutoCreate,
		Issuer: f.Issuer, SsoBinding: samlv1.BindingType(samlv1.BindingType_value[f.Binding]), SsoUrl: f.SSOURL,
		SecuritySettings:       &samlv1.FederationSecuritySettings{EncryptedAssertions: f.EncryptedAssertions, ForceAuthn: f.ForceAuthn},
		CaseInsensitiveNameIds: f.CaseInsensitive,
	}
}

// active refuses a federation that is being made or deleted.
func (f SAMLFederation) active() error {
	if f.State != Active {
		return errFederationNotActive(f)
	}
	return nil
}

// wellFormed refuses what both engines could not store alike, and an identity
// provider that nobody could be sent to; patterns judge the other fields before.
func (f SAMLFederation) wellFormed() error {
	var problems []apierr.Field
	wrong := func(field, problem string) { problems = append(problems, apierr.Field{Name: field, Message: problem}) }
	if sqldb.CheckText(f.Description) != nil {
		wrong("description", "must be valid UTF-8 without NUL")
	}
	if sqldb.CheckText(f.Issuer) != nil || strings.TrimSpace(f.Issuer) != f.Issuer || f.Issuer == "" {
		wrong("issuer", "must be valid UTF-8 without NUL and without spaces around it")
	}
	if f.Binding != samlv1.BindingType_POST.String() && f.Binding != samlv1.BindingType_REDIRECT.String() {
		wrong("sso_binding", "must be POST or REDIRECT")
	}
	if !webAddress(f.SSOURL) {
		wrong("sso_url", "must be an http or https address with a host, without user, fragment and spaces")
	}
	if len(problems) > 0 {
		return apierr.Invalid(problems...)
	}
	return nil
}

// webAddress reports whether a browser can be sent to an address.
func webAddress(text string) bool {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return false
	}
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil && u.Fragment == "" && u.Opaque == ""
}

// organizationOfFederation is the resolver of what is asked on the organization of a
// federation. Fails: FEDERATION_NOT_FOUND.
func (s *Service) organizationOfFederation(ctx context.Context, federationID string) (authz.Resource, error) {
	if id.Prefix(federationID) != id.Federation {
		return authz.Resource{}, errSAMLFederationNotFound(federationID)
	}
	f, err := s.store.SAMLFederation(ctx, s.store.db, federationID)
	return authz.Resource{Type: typeOrganization, ID: f.OrganizationID}, err
}

// Get reads a federation. Fails: FEDERATION_NOT_FOUND.
func (s *samlFederations) Get(ctx context.Context, req *samlv1.GetFederationRequest) (*samlv1.Federation, error) {
	f, err := s.store.SAMLFederation(ctx, s.store.db, req.GetFederationId())
	if err != nil {
		return nil, err
	}
	return f.proto(), nil
}

// List lists the federations of an organization that the caller may see, oldest
// first (NM-7). Whoever lacks the list permission and sees nothing at all is refused.
func (s *samlFederations) List(ctx context.Context, req *samlv1.ListFederationsRequest) (*samlv1.ListFederationsResponse, error) {
	f, err := filter.Parse(req.GetFilter(), "name")
	if err != nil {
		return nil, err
	}
	scope := []string{"federations", req.GetOrganizationId(), f.Field, f.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	resp := new(samlv1.ListFederationsResponse)
	if f.Field != "" && f.Value == "" {
		return resp, nil // nothing has an empty name
	}
	size := page.Size(req.GetPageSize())
	seen, err := s.visibleSAMLFederations(ctx, req.GetOrganizationId(), f.Value, after, size+1)
	if err != nil {
		return nil, err
	}
	if denied := authz.Withheld(ctx); denied != nil && len(seen) == 0 {
		anything, err := s.visibleSAMLFederations(ctx, req.GetOrganizationId(), "", page.Position{}, 1)
		if err == nil && len(anything) == 0 {
			err = denied
		}
		return resp, err
	}
	for _, one := range seen {
		resp.Federations = append(resp.Federations, one.proto())
	}
	if fit := page.Fit(min(len(seen), size), func(i int) int { return proto.Size(resp.GetFederations()[i]) }); fit < len(seen) {
		resp.Federations = resp.GetFederations()[:fit]
		resp.NextPageToken, err = s.pages.Seal(seen[fit-1].position(), scope...)
	}
	return resp, err
}

// visibleSAMLFederations reads the first want federations of an organization after a
// position that the caller may see, fewer when there are no more. One that the
// checker does not know yet is not seen.
func (s *Service) visibleSAMLFederations(ctx context.Context, organizationID, name string, after page.Position, want int) ([]SAMLFederation, error) {
	var seen []SAMLFederation
	for batch := min(want, authz.MaxEach); ; batch = authz.MaxEach {
		rows, err := s.store.SAMLFederationsOf(ctx, organizationID, name, after, batch)
		if err != nil || len(rows) == 0 {
			return seen, err
		}
		refs := make([]authz.Resource, len(rows))
		for i, f := range rows {
			refs[i] = f.resource()
		}
		may, err := s.decider.AuthorizeEach(ctx, authn.FromContext(ctx), permGetFederation, refs)
		if err != nil {
			return nil, err
		}
		for i, f := range rows {
			if may[i] {
				if seen = append(seen, f); len(seen) == want {
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

// ListOperations lists the operations on a federation, newest first.
func (s *samlFederations) ListOperations(ctx context.Context, req *samlv1.ListFederationOperationsRequest) (*samlv1.ListFederationOperationsResponse, error) {
	log := access.Operations{Own: s.operations, Log: s.changes, Pages: s.pages}
	ops, next, err := log.List(ctx, authz.Resource{Type: typeSAMLFederation, ID: req.GetFederationId()}, req)
	if err != nil {
		return nil, err
	}
	return &samlv1.ListFederationOperationsResponse{Operations: ops, NextPageToken: next}, nil
}
