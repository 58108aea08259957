package accessbindings

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// GrantPolicies is bindery.access.v1.GrantPolicyService (SC-11 to SC-20).
type GrantPolicies struct {
	accessv1.UnsafeGrantPolicyServiceServer // a missing method does not compile
	committer                               *committer
	catalog                                 *roleBook
	pages                                   *page.Sealer
	bounded                                 *bounded
}

// GetGrantPolicy reads a policy. What it tells is in force. Fails:
// GRANT_POLICY_NOT_FOUND.
func (s *GrantPolicies) GetGrantPolicy(ctx context.Context, req *accessv1.GetGrantPolicyRequest) (*accessv1.GrantPolicy, error) {
	var p GrantPolicy
	err := s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) (err error) {
		p, err = st.grantPolicy(ctx, q, req.GetPolicyId())
		return err
	})
	if err != nil {
		return nil, err
	}
	return p.proto(), nil
}

// organizationOf is the resolver of a policy by its id. Fails: GRANT_POLICY_NOT_FOUND.
func (s *GrantPolicies) organizationOf(ctx context.Context, id string) (authz.Resource, error) {
	p, err := s.committer.store.grantPolicy(ctx, s.committer.db, id)
	return authz.Resource(p.organization()), err
}

// grantBatch is how many policies a list with a filter reads at once.
const grantBatch = 200

// ListGrantPolicies lists the policies of an organization, oldest first (NM-7). What it
// tells is in force.
func (s *GrantPolicies) ListGrantPolicies(ctx context.Context, req *accessv1.ListGrantPoliciesRequest) (*accessv1.ListGrantPoliciesResponse, error) {
	only, err := filter.Parse(req.GetFilter(), "name", "tag", "subject_id")
	if err != nil {
		return nil, err
	}
	scope := []string{"ListGrantPolicies", req.GetOrganizationId(), only.Field, only.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	var found []GrantPolicy
	err = s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) error {
		for len(found) <= size {
			some, err := st.grantPoliciesAfter(ctx, q, req.GetOrganizationId(), after, grantBatch)
			if err != nil {
				return err
			}
			for _, p := range some {
				after = p.position()
				if passes(p, only) {
					found = append(found, p)
				}
			}
			if len(some) < grantBatch {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	resp := new(accessv1.ListGrantPoliciesResponse)
	for _, p := range found[:min(len(found), size)] {
		resp.Policies = append(resp.Policies, p.proto())
	}
	fit := page.Fit(len(resp.GetPolicies()), func(i int) int { return proto.Size(resp.GetPolicies()[i]) })
	if fit < len(found) {
		resp.Policies = resp.GetPolicies()[:fit]
		resp.NextPageToken, err = s.pages.Seal(found[fit-1].position(), scope...)
	}
	return resp, err
}

// passes reports whether a policy is one that a filter asks for.
func passes(p GrantPolicy, only filter.Filter) bool {
	switch only.Field {
	case "name":
		return p.Name == only.Value
	case "tag":
		return slices.Contains(p.Tags, only.Value)
	case "subject_id":
		return p.Principal.ID == only.Value
	default:
		return true
	}
}

// CreateGrantPolicy makes a policy and gives what it says (SC-13, SC-14).
func (s *GrantPolicies) CreateGrantPolicy(ctx context.Context, req *accessv1.CreateGrantPolicyRequest) (*operationpb.Operation, error) {
	granted, err := s.rules(req.GetRules())
	if err != nil {
		return nil, err
	}
	principal, err := principalOf(req.GetSubject())
	if err != nil {
		return nil, err
	}
	in := s.call(ctx, createGrant, "Create grant policy", req.GetOrganizationId())
	in.made = GrantPolicy{ID: id.New(id.GrantPolicy), OrganizationID: req.GetOrganizationId()}
	in.metadata = &accessv1.CreateGrantPolicyMetadata{PolicyId: in.made.ID}
	in.edit = func(_ context.Context, _ *state, p *GrantPolicy) error {
		p.Name, p.Description, p.Tags, p.Principal, p.Rules = req.GetName(), req.GetDescription(), req.GetTags(), principal, granted
		return nil
	}
	return s.submit(ctx, in, req.GetOrganizationId())
}

// UpdateGrantPolicy changes what a policy is called and who its principal is.
func (s *GrantPolicies) UpdateGrantPolicy(ctx context.Context, req *accessv1.UpdateGrantPolicyRequest) (*operationpb.Operation, error) {
	fields, err := grantFields(req)
	if err != nil {
		return nil, err
	}
	principal, err := principalOf(req.GetSubject())
	if err != nil {
		return nil, err
	}
	return s.change(ctx, req.GetPolicyId(), "Update grant policy", &accessv1.UpdateGrantPolicyMetadata{PolicyId: req.GetPolicyId()},
		func(p *GrantPolicy) {
			for _, field := range fields {
				switch field {
				case "name":
					if req.GetName() != "" { // NM-8
						p.Name = req.GetName()
					}
				case "description":
					p.Description = req.GetDescription()
				case "tags":
					p.Tags = req.GetTags()
				case "principal":
					p.Principal = principal
				}
			}
		})
}

// grantFields are the fields that a request changes: those in its mask, or all that are
// there. A principal is changed to what the request has; to nobody only where it says
// so.
func grantFields(req *accessv1.UpdateGrantPolicyRequest) ([]string, error) {
	fields := []string{"name", "description", "tags"}
	if req.GetPrincipal() != nil {
		fields = append(fields, "principal")
	}
	if len(req.GetUpdateMask().GetPaths()) == 0 {
		return fields, nil
	}
	var named []string
	for _, path := range req.GetUpdateMask().GetPaths() {
		switch path {
		case "policy_id":
		case "principal", "subject", "no_principal":
			if req.GetPrincipal() == nil {
				return nil, apierr.InvalidField("update_mask", "names the principal, and the request has neither subject nor no_principal")
			}
			named = append(named, "principal")
		case "name", "description", "tags":
			named = append(named, path)
		default:
			return nil, apierr.InvalidField("update_mask", "%q is not a field that can be changed", path)
		}
	}
	return named, nil
}

// SetGrantPolicyRules replaces the rules of a policy (SC-15).
func (s *GrantPolicies) SetGrantPolicyRules(ctx context.Context, req *accessv1.SetGrantPolicyRulesRequest) (*operationpb.Operation, error) {
	granted, err := s.rules(req.GetRules())
	if err != nil {
		return nil, err
	}
	return s.change(ctx, req.GetPolicyId(), "Set rules of grant policy", &accessv1.SetGrantPolicyRulesMetadata{PolicyId: req.GetPolicyId()},
		func(p *GrantPolicy) { p.Rules = granted })
}

func (s *GrantPolicies) change(ctx context.Context, policy, description string, metadata proto.Message, edit func(*GrantPolicy)) (*operationpb.Operation, error) {
	on, err := s.organizationOf(ctx, policy)
	if err != nil {
		return nil, err
	}
	in := s.call(ctx, updateGrant, description, on.ID)
	in.policy, in.metadata = policy, metadata
	in.edit = func(_ context.Context, _ *state, p *GrantPolicy) error {
		edit(p)
		return nil
	}
	return s.submit(ctx, in, on.ID)
}

// CloneGrantPolicy makes another policy of one (SC-16).
func (s *GrantPolicies) CloneGrantPolicy(ctx context.Context, req *accessv1.CloneGrantPolicyRequest) (*operationpb.Operation, error) {
	on, err := s.organizationOf(ctx, req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	in := s.call(ctx, createGrant, "Clone grant policy", on.ID)
	in.source, in.made = req.GetPolicyId(), GrantPolicy{ID: id.New(id.GrantPolicy), OrganizationID: on.ID}
	in.metadata = &accessv1.CloneGrantPolicyMetadata{PolicyId: in.made.ID, SourcePolicyId: in.source}
	in.edit = func(ctx context.Context, on *state, p *GrantPolicy) (err error) {
		if p.Name = req.GetName(); p.Name == "" {
			p.Name, err = s.nameOfCopy(ctx, on, in.source)
		}
		return err
	}
	return s.submit(ctx, in, on.ID)
}

func (s *GrantPolicies) nameOfCopy(ctx context.Context, on *state, source string) (string, error) {
	p, err := on.grantPolicy(ctx, on.tx, source)
	if err != nil {
		return "", err
	}
	return copyName(ctx, on, p)
}

// DeleteGrantPolicy deletes a policy with what it gives (SC-16).
func (s *GrantPolicies) DeleteGrantPolicy(ctx context.Context, req *accessv1.DeleteGrantPolicyRequest) (*operationpb.Operation, error) {
	on, err := s.organizationOf(ctx, req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	in := s.call(ctx, deleteGrant, "Delete grant policy", on.ID)
	in.policy, in.metadata = req.GetPolicyId(), &accessv1.DeleteGrantPolicyMetadata{PolicyId: req.GetPolicyId()}
	return s.submit(ctx, in, on.ID)
}

// ListPermissionSets lists the sets of the catalogue, ordered by id (SC-18).
func (s *GrantPolicies) ListPermissionSets(_ context.Context, req *accessv1.ListPermissionSetsRequest) (*accessv1.ListPermissionSetsResponse, error) {
	scope := []string{"ListPermissionSets"}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	sets := s.catalog.PermissionSets()
	start := min(int(after.Time), len(sets))
	end := min(start+page.Size(req.GetPageSize()), len(sets))
	resp := new(accessv1.ListPermissionSetsResponse)
	for _, set := range sets[start:end] {
		of := accessv1.PermissionSet_PLACES
		if set.Scope == catalog.OfOrganization {
			of = accessv1.PermissionSet_ORGANIZATION
		}
		resp.PermissionSets = append(resp.PermissionSets, &accessv1.PermissionSet{Id: set.ID, Description: set.Description, Scope: of, RoleIds: set.Roles})
	}
	if end < len(sets) {
		resp.NextPageToken, err = s.pages.Seal(page.Position{Time: int64(end)}, scope...)
	}
	return resp, err
}

// rules reads the rules of a request and checks them by themselves (SC-14).
func (s *GrantPolicies) rules(sent []*accessv1.GrantRule) ([]GrantRule, error) {
	all := make([]GrantRule, len(sent))
	for i, m := range sent {
		field := fmt.Sprintf("rules[%d]", i)
		r := grantRuleOf(m)
		g := rules.Grant{Condition: m.GetCondition(), Whole: r.Organization}
		for k, name := range r.Sets {
			set, known := s.catalog.PermissionSet(name)
			if !known {
				return nil, named(apierr.NotFound("PERMISSION_SET_NOT_FOUND", "permission set %q not found", name), fmt.Sprintf("%s.permission_sets[%d]", field, k))
			}
			g.Sets = append(g.Sets, rules.SetOfPermissions{ID: name, Whole: set.Scope == catalog.OfOrganization})
		}
		if at, err := rules.GrantFits(g); err != nil {
			if at < 0 {
				return nil, named(err, field+".condition")
			}
			return nil, named(err, fmt.Sprintf("%s.permission_sets[%d]", field, at))
		}
		if !r.Organization && len(r.Places) == 0 {
			return nil, apierr.InvalidField(field+".places", "must name a cloud or a folder")
		}
		all[i] = r
	}
	return all, nil
}

// principalOf checks a principal by itself; nobody without one.
func principalOf(m *accessv1.Subject) (Subject, error) {
	if m == nil {
		return Subject{}, nil
	}
	who := subjectOf(m)
	return who, checkSubject("subject", who)
}

// call is what a write carries: who asks, and what the door checked.
func (s *GrantPolicies) call(ctx context.Context, verb grantVerb, description, organization string) *changeGrantPolicy {
	p := authn.FromContext(ctx)
	return &changeGrantPolicy{
		verb: verb, description: description, catalog: s.catalog,
		caller: checker.Query{Subject: checker.Subject{Type: p.Type, ID: p.ID}, Token: checker.TokenID(p.TokenID), Session: checker.TokenID(p.Session)},
		record: recordOf(ctx, "iam", string(verb)+"GrantPolicy", audit.Permission{
			Permission:   s.catalog.permission(typeOrganization, "updateAccessBindings"),
			ResourceType: typeOrganization, ResourceID: organization, Authorized: true,
		}),
	}
}

func (s *GrantPolicies) submit(ctx context.Context, in *changeGrantPolicy, organization string) (*operationpb.Operation, error) {
	bounds := []ceiling{organizationBound(catalog.QuotaAccessBindings, organization), organizationBound(catalog.QuotaGrantPolicies, organization)}
	return operationOf(s.bounded.submit(ctx, bounds, func(l limits) intent {
		in.limits = l
		return in
	}))
}
