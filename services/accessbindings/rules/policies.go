package rules

import "slices"

// Policy is what the rules need to know of a template of access policies.
type Policy struct {
	ID         string
	BindOn     []string // types of resources that may carry it
	Parameters []string // names that the parameters of a binding may have
}

// Limit is strict granting, where an access policy asks for it: nobody gives more
// than they were granted.
type Limit struct {
	Policy  string   // the template
	On      Resource // that it is bound on
	Granted Holds    // what whoever asks was granted by roles, policies aside
}

// MayManagePolicies is AP-4: binding and unbinding policies, and changing their
// parameters, needs the permission for that on the resource or above. As MayManage,
// it is asked again on the state that the change is made on.
func MayManagePolicies(permission string, holds Holds) error {
	if !holds(permission) {
		return errManagePolicies
	}
	return nil
}

// PolicyFits is AP-2, AP-6, AP-7: a policy is bound on the types that the catalogue
// lists for its template. That it does nothing there (AP-7) is no reason to refuse.
func PolicyFits(p Policy, resourceType string) error {
	if !slices.Contains(p.BindOn, resourceType) {
		return errPolicyType.Withf("the access policy %s cannot be bound on a %s", p.ID, resourceType)
	}
	return nil
}

// PolicyParameter is about one parameter of a binding: the template must know it. One
// that did nothing would let somebody believe that it does.
func PolicyParameter(p Policy, name string) error {
	if !slices.Contains(p.Parameters, name) {
		return errPolicyParameter.Withf("%q is not a parameter of the access policy %s", name, p.ID)
	}
	return nil
}

// PolicyBindable is AP-3: a template is bound at most once on a resource. A second
// binding would either change nothing or replace parameters unasked.
func PolicyBindable(template string, bound bool) error {
	if bound {
		return errPolicyBound.Withf("the access policy %s is bound on the resource already", template)
	}
	return nil
}

// PolicyIsBound is AP-3: what is not bound on the resource itself can neither be
// unbound nor changed there; what a parent has is taken away at the parent.
func PolicyIsBound(template string, bound bool) error {
	if !bound {
		return errPolicyNotBound.Withf("the access policy %s is not bound on the resource", template)
	}
	return nil
}

// AS-3, C-4: where granting is strict, a role is given only by who was granted every
// permission that it holds, owners included (AP-10). What a policy denies counts as
// granted: it denies the new holder, too.
func withinOwn(d Delta) error {
	if d.Limit == nil {
		return nil
	}
	for _, permission := range d.Role.Permissions {
		if !d.Limit.Granted(permission) {
			return errAboveOwn.Withf("the role %s holds %s, which you were not granted here yourself: the access policy %s on %s %s forbids to give it",
				d.Role.ID, permission, d.Limit.Policy, d.Limit.On.Type, d.Limit.On.ID).
				WithMeta("permission", permission, "accessPolicyTemplateId", d.Limit.Policy,
					"accessPolicyResourceType", d.Limit.On.Type, "accessPolicyResourceId", d.Limit.On.ID)
		}
	}
	return nil
}
