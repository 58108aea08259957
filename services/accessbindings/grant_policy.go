package accessbindings

import (
	"slices"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/page"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// GrantPolicy is a named bundle of bindings (SC-13). Times are microseconds UTC.
type GrantPolicy struct {
	ID             string
	OrganizationID string
	CreatedAt      int64
	UpdatedAt      int64
	Name           string
	Description    string
	Tags           []string
	Principal      Subject // zero for nobody
	Rules          []GrantRule
}

// GrantRule gives permission sets on the organization of its policy, or on clouds and
// folders (SC-14). One that has neither gives nothing: its places are gone.
type GrantRule struct {
	Sets         []string
	Organization bool
	Places       []Ref
}

func (p GrantPolicy) position() page.Position { return page.Position{Time: p.CreatedAt, ID: p.ID} }

// organization is the organization as a resource.
func (p GrantPolicy) organization() Ref { return Ref{typeOrganization, p.OrganizationID} }

// source is that of the bindings which the policy gives.
func (p GrantPolicy) source() Source { return Source{Kind: accessv1.Source_POLICY, ID: p.ID} }

// given is one pair that a policy gives, and the rule that does.
type given struct {
	On   Ref
	Role string
	rule int
	set  int // of the rule
}

// gives lists what a policy gives, each pair once, in the order of its rules; nothing
// without a principal. Sets that the catalogue does not have any more give nothing.
func (p GrantPolicy) gives(of *catalog.Catalog) []given {
	if p.Principal == (Subject{}) {
		return nil
	}
	type pair struct {
		on   Ref
		role string
	}
	var all []given
	seen := make(map[pair]bool)
	for i, r := range p.Rules {
		places := r.Places
		if r.Organization {
			places = []Ref{p.organization()}
		}
		for k, name := range r.Sets {
			set, _ := of.PermissionSet(name)
			for _, on := range places {
				for _, role := range set.Roles {
					if !seen[pair{on, role}] {
						seen[pair{on, role}] = true
						all = append(all, given{on, role, i, k})
					}
				}
			}
		}
	}
	return all
}

// without is the policy without some places.
func (p GrantPolicy) without(gone func(Ref) bool) GrantPolicy {
	p.Rules = slices.Clone(p.Rules)
	for i, r := range p.Rules {
		p.Rules[i].Places = slices.DeleteFunc(slices.Clone(r.Places), gone)
	}
	return p
}

// grantPolicyOf reads a policy from the log.
func grantPolicyOf(m *accessv1.GrantPolicy) GrantPolicy {
	p := GrantPolicy{
		ID: m.GetId(), OrganizationID: m.GetOrganizationId(), CreatedAt: micros(m.GetCreatedAt()), UpdatedAt: micros(m.GetUpdatedAt()),
		Name: m.GetName(), Description: m.GetDescription(), Tags: m.GetTags(), Principal: subjectOf(m.GetSubject()),
	}
	for _, r := range m.GetRules() {
		p.Rules = append(p.Rules, grantRuleOf(r))
	}
	return p
}

func grantRuleOf(m *accessv1.GrantRule) GrantRule {
	r := GrantRule{Sets: m.GetPermissionSets(), Organization: m.GetOrganization()}
	for _, id := range m.GetPlaces().GetCloudIds() {
		r.Places = append(r.Places, Ref{typeCloud, id})
	}
	for _, id := range m.GetPlaces().GetFolderIds() {
		r.Places = append(r.Places, Ref{typeFolder, id})
	}
	return r
}

func (p GrantPolicy) proto() *accessv1.GrantPolicy {
	m := &accessv1.GrantPolicy{
		Id: p.ID, OrganizationId: p.OrganizationID, CreatedAt: stamp(p.CreatedAt), UpdatedAt: stamp(p.UpdatedAt),
		Name: p.Name, Description: p.Description, Tags: p.Tags, Principal: &accessv1.GrantPolicy_NoPrincipal{NoPrincipal: true},
	}
	if p.Principal != (Subject{}) {
		m.Principal = &accessv1.GrantPolicy_Subject{Subject: p.Principal.proto()}
	}
	for _, r := range p.Rules {
		m.Rules = append(m.Rules, r.proto())
	}
	return m
}

func (r GrantRule) proto() *accessv1.GrantRule {
	m := &accessv1.GrantRule{PermissionSets: r.Sets, Scope: &accessv1.GrantRule_Organization{Organization: true}}
	if r.Organization {
		return m
	}
	places := new(accessv1.GrantPlaces)
	for _, p := range r.Places {
		if p.Type == typeCloud {
			places.CloudIds = append(places.CloudIds, p.ID)
		} else {
			places.FolderIds = append(places.FolderIds, p.ID)
		}
	}
	m.Scope = &accessv1.GrantRule_Places{Places: places}
	return m
}

// grantPolicyChange is the entry of the log for a policy.
func grantPolicyChange(p GrantPolicy) *accessv1.Change {
	return &accessv1.Change{Fact: &accessv1.Change_GrantPolicyChanged{
		GrantPolicyChanged: &accessv1.GrantPolicyChanged{Policy: p.proto()},
	}}
}

func grantPolicyRemoved(id string) *accessv1.Change {
	return &accessv1.Change{Fact: &accessv1.Change_GrantPolicyRemoved{
		GrantPolicyRemoved: &accessv1.GrantPolicyRemoved{Id: id},
	}}
}
