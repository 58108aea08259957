package checkertest

import (
	"slices"
	"strings"
)

// Assignment is a wish of one subject to give a role to another, or to take it.
type Assignment struct {
	By       Ref
	Give     bool
	Role     string
	To       Ref
	Resource Ref
	Now      int64
}

const (
	cloudOwner        = "resource-manager.clouds.owner"
	cloudMember       = "resource-manager.clouds.member"
	organizationOwner = "organization-manager.organizations.owner"
	accountOwner      = "billing.accounts.owner"
)

// MayAssign reports whether the rules AS, PG and SU-9 allow an assignment on an
// organization, a cloud, a folder or a service account. It reads the names of the
// roles off the rules, and only from them; that a role exists and is not withdrawn
// (AS-16) is the catalogue's.
func (w *World) MayAssign(a Assignment) bool {
	holds := func(roles ...string) bool { return w.holdsOneOf(a.By, a.Resource, a.Now, roles) }

	// AS-15: never set by hand.
	if a.Role == "billing.accounts.customer" || a.Role == "marketplace.publishers.owner" {
		return false
	}

	// AS-5, AS-6, OW-6: cloud ownership by its owners, and by the owners of the
	// organization; ownership of an organization by its owners alone. AS-4: not by
	// an admin. AS-7: the same for billing accounts.
	switch a.Role {
	case cloudOwner:
		if !holds(cloudOwner, organizationOwner) {
			return false
		}
	case organizationOwner:
		if !holds(organizationOwner) {
			return false
		}
	case accountOwner:
		if !holds(accountOwner, organizationOwner) {
			return false
		}
	}

	// AS-1: on the resource or above it, one of these; that of Resource Manager is
	// about clouds and what is below them. AS-2: on service accounts also these.
	// AS-8: editor assigns nothing.
	managers := []string{"admin", "organization-manager.admin", cloudOwner, organizationOwner}
	if a.Resource.Type() != "organization-manager.organization" {
		managers = append(managers, "resource-manager.admin")
	}
	if a.Resource.Type() == "iam.serviceAccount" {
		managers = append(managers, "iam.admin", "iam.serviceAccounts.admin")
	}
	return holds(managers...) && (!a.Give || fits(a) && w.mayHold(a) && !w.aboveOwn(a))
}

// aboveOwn is AS-3: nobody may give a role holding a permission that they lack. By
// C-4 that counts where the access policy says so, on the resource or above it; by
// AP-10 it counts for owners, too. What they lack is what no role gives them: a
// permission that a policy denies to everybody keeps nobody from giving it.
func (w *World) aboveOwn(a Assignment) bool {
	path, _ := w.path(a.Resource)
	strict := func(p Policy) bool {
		return p.Name == "bindery.denyGrantAboveOwn" && slices.Contains(path, p.Resource)
	}
	lacks := func(permission string) bool {
		return len(w.Grants(Query{Subject: a.By, Permission: permission, Resource: a.Resource, Now: a.Now})) == 0
	}
	return slices.ContainsFunc(w.Policies, strict) && slices.ContainsFunc(w.Roles[a.Role], lacks)
}

// fits is about the role and the type of the resource.
func fits(a Assignment) bool {
	const organization, cloud, folder = "organization-manager.organization", "resource-manager.cloud", "resource-manager.folder"

	// AS-10, AS-11, AS-13: roles with a list of their own.
	switch a.Role {
	case cloudOwner, cloudMember:
		return a.Resource.Type() == cloud
	case organizationOwner, "iam.userAccounts.refreshTokenViewer", "iam.userAccounts.refreshTokenRevoker":
		return a.Resource.Type() == organization
	case "billing.usagerecords.admin":
		return slices.Contains([]string{organization, cloud, folder}, a.Resource.Type())
	}

	// AS-9: the type that a role is made for, or a type above it. AS-12, AS-14: for
	// groups and billing accounts that is the organization. Primitive roles are made
	// for every type here.
	for _, made := range []struct {
		prefix string
		types  []string
	}{
		{"iam.serviceAccounts.", []string{"iam.serviceAccount", folder, cloud, organization}},
		{"iam.", []string{folder, cloud, organization}},
		{"kms.", []string{folder, cloud, organization}},
		{"resource-manager.", []string{folder, cloud, organization}},
		{"organization-manager.", []string{organization}},
		{"billing.accounts.", []string{organization}},
	} {
		if strings.HasPrefix(a.Role, made.prefix) {
			return slices.Contains(made.types, a.Resource.Type())
		}
	}
	return true
}

// mayHold is about the role and the subject (PG-3, PG-5, SU-9).
func (w *World) mayHold(a Assignment) bool {
	switch a.To.Type() {
	case "system":
		return !slices.Contains([]string{cloudOwner, cloudMember, organizationOwner, accountOwner}, a.Role)
	case "group":
		abroad := func(account Ref) bool { return !w.atHome(account, a.Resource) }
		return a.Role != organizationOwner && a.Role != accountOwner && !slices.ContainsFunc(w.AccountsIn(a.To), abroad)
	case "serviceAccount":
		return w.atHome(a.To, a.Resource)
	default:
		return true
	}
}

// atHome reports whether a resource is in the organization of a service account.
func (w *World) atHome(account, resource Ref) bool {
	there, _ := w.path(resource)
	return len(there) > 0 && w.Home(account) == there[len(there)-1]
}

// Home is the organization of a service account, "" when that was removed.
func (w *World) Home(account Ref) Ref {
	path, _ := w.path(Ref("iam.serviceAccount:" + account.ID()))
	if len(path) == 0 {
		return ""
	}
	return path[len(path)-1]
}

// AccountsIn are the service accounts in a group, and in the groups in it, whether they
// act or not.
func (w *World) AccountsIn(group Ref) []Ref {
	groups := []Ref{group}
	var accounts []Ref
	for i := 0; i < len(groups); i++ {
		for _, m := range w.Members {
			switch {
			case m.Container != Ref("organization-manager.group:"+groups[i].ID()) || w.removed(m.Container):
			case w.stateOf(m.Subject) == "deleted": // what is deleted is in no group
			case m.Subject.Type() == "serviceAccount" && w.Home(m.Subject) != "":
				accounts = append(accounts, m.Subject)
			case m.Subject.Type() == "group" && !slices.Contains(groups, m.Subject):
				groups = append(groups, m.Subject)
			}
		}
	}
	return accounts
}

// holdsOneOf reports whether a subject that may act has one of the roles on the
// resource or above it. Roles are meant by name: that a wider role includes a
// narrower one is written into the lists of the callers.
func (w *World) holdsOneOf(who, resource Ref, now int64, roles []string) bool {
	path, _ := w.path(resource)
	for _, b := range w.Bindings {
		if slices.Contains(path, b.Resource) && slices.Contains(roles, b.Role) && b.alive(now) && w.countsAs(who, b.Subject, nil) {
			return w.mayNotAct(who, now) == ""
		}
	}
	return false
}
