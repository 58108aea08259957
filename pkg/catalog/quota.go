package catalog

import (
	"cmp"
	_ "embed"
	"slices"
	"strings"
)

//go:embed quotas.yaml
var quotasYAML []byte

// Ids of the quotas, for those who count and refuse.
const (
	QuotaClouds               = "resource-manager.clouds.count"
	QuotaFolders              = "resource-manager.folders.count"
	QuotaOrganizations        = "organization-manager.organizations.count"        // that a subject has made
	QuotaSubjectOrganizations = "organization-manager.subjectOrganizations.count" // that a subject belongs to
	QuotaMemberships          = "organization-manager.memberships.count"
	QuotaInvites              = "organization-manager.invites.count"
	QuotaFederations          = "organization-manager.federations.count"
	QuotaCertificates         = "organization-manager.certificates.count"   // of a federation
	QuotaFederatedUsers       = "organization-manager.federatedUsers.count" // of a federation
	QuotaAccessBindings       = "organization-manager.accessBindings.count"
	QuotaGroups               = "organization-manager.groups.count"
	QuotaGrantPolicies        = "organization-manager.grantPolicies.count"
	QuotaGroupMembers         = "organization-manager.groupMembers.count"
	QuotaSubjectGroups        = "organization-manager.subjectGroups.count" // that a subject is in
	QuotaOsLoginProfiles      = "organization-manager.osLoginProfiles.count"
	QuotaBillingAccounts      = "billing.accounts.count" // that a subject has made
	QuotaServiceAccounts      = "iam.serviceAccounts.count"
	QuotaAPIKeys              = "iam.apiKeys.count"
	QuotaAuthorizedKeys       = "iam.authorizedKeys.count"
	QuotaAccessKeys           = "iam.accessKeys.count"
	QuotaOAuthClients         = "iam.oauthClients.count"
	QuotaWorkloadFederations  = "iam.oidcWLIFederations.count"
	QuotaFederatedCredentials = "iam.saFederatedCredentials.count"
)

// OnSubject is the type of resource of a quota that a single subject has.
const OnSubject = "subject"

// Quota is a limit on how much of something there may be on one resource (QL-3).
type Quota struct {
	ID    string
	On    string // type of the resource, or OnSubject
	Owner string // unit that counts and refuses
	Limit int64  // default, at least 0
	Unit  string // what is counted: "folders"
}

// Service returns the first part of the quota's id.
func (q Quota) Service() string { return service(q.ID) }

// QuotaService is a service that has quotas.
type QuotaService struct {
	ID   string // first part of the ids of its quotas
	Name string // for people
}

// Quota returns a quota by its id.
func (c *Catalog) Quota(id string) (Quota, bool) {
	q, ok := c.quotas[id]
	return q, ok
}

// Quotas returns all quotas, ordered by id.
func (c *Catalog) Quotas() []Quota { return c.sortedQuotas }

// QuotaServices returns all services that have quotas, ordered by id.
func (c *Catalog) QuotaServices() []QuotaService { return c.quotaServices }

// quotasFile is quotas.yaml; its own comment says what the fields mean.
type quotasFile struct {
	Version  int            `yaml:"version"`
	Services []serviceEntry `yaml:"services"`
	Quotas   []quotaEntry   `yaml:"quotas"`
}

type serviceEntry struct {
	ID   string `yaml:"id"`
	Name string `yaml:"name"`
}

type quotaEntry struct {
	ID         string `yaml:"id"`
	On         string `yaml:"on"`
	Owner      string `yaml:"owner"`
	Limit      int64  `yaml:"limit"`
	Unit       string `yaml:"unit"`
	Ours       bool   `yaml:"ours"`
	Documented int64  `yaml:"documented"`
	Note       string `yaml:"note"`
}

// quotas takes the quotas and their services; types are known by then.
func (b *builder) quotas(f *quotasFile) {
	c := &b.catalog
	for _, s := range f.Services {
		c.quotaServices = append(c.quotaServices, QuotaService(s))
	}
	slices.SortFunc(c.quotaServices, func(a, b QuotaService) int { return cmp.Compare(a.ID, b.ID) })
	for _, e := range f.Quotas {
		q := Quota{ID: e.ID, On: e.On, Owner: e.Owner, Limit: e.Limit, Unit: e.Unit}
		b.quota(q)
		c.quotas[q.ID] = q
		c.sortedQuotas = append(c.sortedQuotas, q)
	}
	slices.SortFunc(c.sortedQuotas, func(a, b Quota) int { return cmp.Compare(a.ID, b.ID) })
}

// quota checks one quota against the rest of the catalogue.
func (b *builder) quota(q Quota) {
	c := &b.catalog
	if _, twice := c.quotas[q.ID]; twice {
		b.problem("quota %s: listed twice", q.ID)
	}
	if strings.Count(q.ID, ".") != 2 || !strings.HasSuffix(q.ID, ".count") {
		b.problem("quota %q: the form is <service>.<what is counted>.count", q.ID)
	}
	if !slices.ContainsFunc(c.quotaServices, func(s QuotaService) bool { return s.ID == q.Service() }) {
		b.problem("quota %s: its service %s is not listed", q.ID, q.Service())
	}
	if _, ok := c.types[q.On]; !ok && q.On != OnSubject {
		b.problem("quota %s: on %s, which is not listed", q.ID, q.On)
	}
	if q.Limit < 0 || q.Owner == "" || q.Unit == "" {
		b.problem("quota %s: needs an owner, a unit and a limit of at least 0", q.ID)
	}
}

// service returns the first part of an id: iam for iam.apiKeys.count.
func service(id string) string {
	s, _, _ := strings.Cut(id, ".")
	return s
}
