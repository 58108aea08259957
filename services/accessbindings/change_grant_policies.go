package accessbindings

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// grantVerb is what a write does to a grant policy, by the words of its audit events
// (SC-19).
type grantVerb string

const (
	createGrant grantVerb = "Create"
	updateGrant grantVerb = "Update"
	deleteGrant grantVerb = "Delete"
)

// Bounds of grant policies.
const (
	maxGranted    = 1000 // pairs that one policy gives, as many as one Set takes
	maxPolicyName = 64
)

var errTooWide = func() *apierr.Error {
	e := apierr.Invalid()
	e.Reason, e.Message = "GRANT_POLICY_TOO_WIDE", fmt.Sprintf("the rules give over %d bindings", maxGranted)
	return e
}()

// changeGrantPolicy is the intent of every write of GrantPolicyService: a policy becomes
// another one, and what it gives with it.
//
// What it gives are bindings with the source policy:<id>, changed in the same write
// (SC-20). Each pair that changes passes the rules as one given or taken by hand does.
type changeGrantPolicy struct {
	verb        grantVerb
	description string // of the operation
	policy      string // the one that changes; "" for a new one
	source      string // the one that a new one is made of; "" for none

	// edit makes the policy of what it was: the new one without anything but its id and
	// organization, or the copied one.
	edit func(ctx context.Context, on *state, p *GrantPolicy) error

	made     GrantPolicy // id and organization of a new one
	caller   checker.Query
	catalog  *roleBook
	record   *audit.Record
	metadata proto.Message
	limits   limits
}

// grantDetails are the details of an audit record of a grant policy.
type grantDetails struct {
	PolicyID string         `json:"policy_id"`
	Name     string         `json:"name"`
	SourceID string         `json:"source_policy_id,omitempty"`
	Count    int            `json:"count"`                 // bindings that changed
	Deltas   []grantedDelta `json:"access_binding_deltas"` // the first of them
	Warnings []string       `json:"warnings,omitempty"`
}

type grantedDelta struct {
	bindingDelta
	ResourceType string `json:"resource_type"`
	ResourceID   string `json:"resource_id"`
}

// asks says whose rights the write depends on.
func (in *changeGrantPolicy) asks() Subject { return Subject(in.caller.Subject) }

func (in *changeGrantPolicy) plan(ctx context.Context, on *state) (plan, error) {
	before, after, err := in.versions(ctx, on)
	if err != nil {
		return plan{}, err
	}
	path, err := on.path(ctx, on.tx, after.organization())
	if err != nil {
		return plan{}, err
	}
	if len(path) == 0 {
		return plan{}, notFound(after.organization())
	}
	if err := in.mayManage(on, after.organization()); err != nil {
		return plan{}, err
	}
	if err := in.fits(ctx, on, before, after); err != nil {
		return plan{}, err
	}
	d := grantDetails{PolicyID: after.ID, Name: after.Name, SourceID: in.source, Deltas: []grantedDelta{}}
	p := plan{changes: []*accessv1.Change{grantPolicyChange(after)}}
	var response proto.Message = after.proto()
	if in.verb == deleteGrant {
		p.changes, response = []*accessv1.Change{grantPolicyRemoved(after.ID)}, new(emptypb.Empty)
	}
	changes, err := in.regrant(ctx, on, before, after, &d)
	if err != nil {
		return plan{}, err
	}
	p.changes = append(p.changes, changes...)
	p.record = recordOn(in.record, path, d)
	p.operation = &operation.New{
		Resource:       operation.Resource(after.organization()),
		ViewPermission: in.catalog.permission(typeOrganization, "listAccessBindings"),
		Description:    withWarnings(in.description, d.Warnings),
		CreatedBy:      in.caller.Subject.ID,
		Metadata:       in.metadata,
		Response:       response,
	}
	return p, nil
}

// versions are the policy as it is and as it is to be. A new one is nothing before, and
// one that is deleted gives nothing after.
func (in *changeGrantPolicy) versions(ctx context.Context, on *state) (before, after GrantPolicy, err error) {
	if in.policy == "" {
		after = in.made
		if in.source != "" {
			if after, err = on.grantPolicy(ctx, on.tx, in.source); err != nil {
				return before, after, err
			}
			after.ID = in.made.ID
		}
		after.CreatedAt = on.now
	} else {
		if before, err = on.grantPolicy(ctx, on.tx, in.policy); err != nil {
			return before, after, err
		}
		after = before
	}
	after.UpdatedAt = on.now
	if in.verb == deleteGrant {
		after.Rules = nil
		return before, after, nil
	}
	return before, after, in.edit(ctx, on, &after)
}

// fits checks what is about the policy itself: its name, its principal, how many there
// are and how much it gives.
func (in *changeGrantPolicy) fits(ctx context.Context, on *state, before, after GrantPolicy) error {
	if in.verb == deleteGrant {
		return nil
	}
	if after.Name != before.Name {
		taken, err := on.grantPolicyNamed(ctx, on.tx, after.OrganizationID, after.Name, after.ID)
		if err != nil {
			return err
		}
		if err := rules.GrantNameFree(after.Name, taken); err != nil {
			return named(err, "name")
		}
	}
	if who := after.Principal; who != before.Principal && who != (Subject{}) {
		if err := on.mayBePrincipal(ctx, after, who); err != nil {
			return named(err, "subject")
		}
	}
	if len(after.gives(in.catalog.Catalog)) > maxGranted {
		return named(errTooWide, "rules")
	}
	if in.policy != "" {
		return nil
	}
	n, err := on.countGrantPolicies(ctx, on.tx, after.OrganizationID)
	if err != nil {
		return err
	}
	return in.limits.room(organizationBound(catalog.QuotaGrantPolicies, after.OrganizationID), n, 1)
}

// mayBePrincipal checks a principal on the locked state.
func (on *state) mayBePrincipal(ctx context.Context, p GrantPolicy, who Subject) error {
	known, err := on.known(ctx, []Subject{who})
	if err != nil {
		return err
	}
	if !known[who] {
		return apierr.NotFound(ReasonSubjectNotFound, "subject %s:%s not found", who.Type, who.ID)
	}
	local, err := on.locals(ctx, p.OrganizationID, []Subject{who})
	if err != nil {
		return err
	}
	return rules.MayBePrincipal(rules.Subject{Type: who.Type, ID: who.ID}, p.OrganizationID, local[who])
}

// mayManage is AS-1 on a resource whose bindings change.
func (in *changeGrantPolicy) mayManage(on *state, r Ref) error {
	q := in.caller
	q.Resource, q.Now = checker.Resource(r), on.now
	return rules.MayManage(in.catalog.permission(r.Type, "updateAccessBindings"), on.graph.holds(q))
}

// regrant changes the bindings of a policy from what it gave to what it gives, resource
// by resource, and adds what changes to the details.
func (in *changeGrantPolicy) regrant(ctx context.Context, on *state, before, after GrantPolicy, d *grantDetails) ([]*accessv1.Change, error) {
	gave, gives := before.gives(in.catalog.Catalog), after.gives(in.catalog.Catalog)
	var places []Ref
	for _, g := range slices.Concat(gave, gives) {
		if !slices.Contains(places, g.On) {
			places = append(places, g.On)
		}
	}
	var all []*accessv1.Change
	var more int64
	for _, r := range places {
		changes, warnings, err := in.regrantOn(ctx, on, r, before, after, gave, gives)
		if err != nil {
			return nil, err
		}
		d.Warnings = append(d.Warnings, warnings...)
		for _, c := range changes {
			all = append(all, bindingChange(r, c.after, on.now))
			more += effectOf(c)
			d.add(r, c)
		}
	}
	if more <= 0 { // AB-13
		return all, nil
	}
	n, err := on.countAssignments(ctx, on.tx, after.OrganizationID)
	if err != nil {
		return nil, err
	}
	return all, in.limits.room(organizationBound(catalog.QuotaAccessBindings, after.OrganizationID), n, more)
}

// effectOf is how many pairs there are more by a change.
func effectOf(c change) int64 {
	switch was, is := len(c.before.Sources) > 0, len(c.after.Sources) > 0; {
	case is && !was:
		return 1
	case was && !is:
		return -1
	default:
		return 0
	}
}

// add tells a change in the record, unless there are many.
func (d *grantDetails) add(r Ref, c change) {
	d.Count++
	if len(d.Deltas) == maxDetails {
		return
	}
	action := "REMOVE"
	if c.grants {
		action = "ADD"
	}
	d.Deltas = append(d.Deltas, grantedDelta{bindingDelta{action, c.after.Role, c.after.Subject.Type, c.after.Subject.ID}, r.Type, r.ID})
}

// regrantOn is regrant on one resource.
func (in *changeGrantPolicy) regrantOn(ctx context.Context, on *state, r Ref, before, after GrantPolicy, gave, gives []given) ([]change, []string, error) {
	path, err := on.path(ctx, on.tx, r)
	if err != nil {
		return nil, nil, err
	}
	if organizationOf(path) != after.OrganizationID { // one of another organization is as good as none
		at := slices.IndexFunc(gives, func(g given) bool { return g.On == r })
		if at < 0 {
			return nil, nil, nil // gone, with its bindings
		}
		return nil, nil, named(notFound(r), fmt.Sprintf("rules[%d].places", gives[at].rule))
	}
	var roles []string
	for _, g := range slices.Concat(gave, gives) {
		if g.On == r && !slices.Contains(roles, g.Role) {
			roles = append(roles, g.Role)
		}
	}
	current, err := on.bindingsOn(ctx, on.tx, r, roles)
	if err != nil {
		return nil, nil, err
	}
	changes := pairChanges(r, current, before, after, gave, gives)
	if len(changes) == 0 {
		return nil, nil, nil
	}
	if err := in.mayManage(on, r); err != nil {
		return nil, nil, err
	}
	as := &changeBindings{resource: r, caller: in.caller, catalog: in.catalog}
	asked := in.caller
	asked.Resource, asked.Now = checker.Resource(r), on.now
	warnings, err := as.judge(ctx, on, path, asked, changes)
	return changes, warnings, err
}

// pairChanges says which pairs on a resource get or lose the source of a policy.
func pairChanges(r Ref, current []Binding, before, after GrantPolicy, gave, gives []given) []change {
	have := make(map[Pair]Binding, len(current))
	for _, b := range current {
		have[b.Pair] = b
	}
	source := after.source()
	mine := func(s Source) bool { return s.Kind == source.Kind && s.ID == source.ID }
	stays := make(map[Pair]bool)
	var all []change
	for _, g := range gives {
		pair := Pair{g.Role, after.Principal}
		if g.On != r {
			continue
		}
		stays[pair] = true
		b := have[pair]
		b.Pair = pair
		if slices.ContainsFunc(b.Sources, mine) {
			continue
		}
		c := change{before: b, after: b, grants: true, field: fmt.Sprintf("rules[%d].permission_sets[%d]", g.rule, g.set)}
		c.after.Sources = append(slices.Clone(b.Sources), source)
		all = append(all, c)
	}
	for _, g := range gave {
		pair := Pair{g.Role, before.Principal}
		b := have[pair]
		if g.On != r || stays[pair] || !slices.ContainsFunc(b.Sources, mine) {
			continue
		}
		c := change{before: b, after: b, field: "policy_id"}
		c.after.Sources = slices.DeleteFunc(slices.Clone(b.Sources), mine)
		all = append(all, c)
	}
	return all
}

// copyName is a name for a copy that no policy of the organization has: with the lowest
// number that is free.
func copyName(ctx context.Context, on *state, p GrantPolicy) (string, error) {
	for n := 2; ; n++ {
		suffix := " (" + strconv.Itoa(n) + ")"
		base := []rune(p.Name)
		name := string(base[:min(len(base), maxPolicyName-len(suffix))]) + suffix
		taken, err := on.grantPolicyNamed(ctx, on.tx, p.OrganizationID, name, "")
		if err != nil || !taken {
			return name, err
		}
	}
}

// departGrantPolicies takes a subject that leaves an organization out of the policies
// there (GR-6, SC-16); what they gave goes with its other roles.
func (on *state) departGrantPolicies(ctx context.Context, organization string, who Subject) ([]*accessv1.Change, error) {
	found, err := on.grantPoliciesOf(ctx, on.tx, organization, who)
	if err != nil {
		return nil, err
	}
	var changes []*accessv1.Change
	for _, p := range found {
		p.Principal = Subject{}
		changes = append(changes, grantPolicyChange(p))
	}
	return changes, nil
}

// moveFromGrantPolicies takes a tree that moves to another organization out of the
// policies of the one that it leaves (CR-7): they give nothing there any more.
func (on *state) moveFromGrantPolicies(ctx context.Context, tree []below) ([]*accessv1.Change, error) {
	moved := make(map[Ref]bool, len(tree))
	for _, r := range tree {
		moved[r.Ref] = true
	}
	var changes []*accessv1.Change
	seen := make(map[string]bool)
	for _, r := range tree {
		found, err := on.grantPoliciesAt(ctx, on.tx, r.Ref)
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			if !seen[p.ID] {
				seen[p.ID] = true
				changes = append(changes, grantPolicyChange(p.without(func(r Ref) bool { return moved[r] })))
			}
		}
		if len(found) == 0 {
			continue
		}
		bindings, err := on.bindingsOn(ctx, on.tx, r.Ref, nil)
		if err != nil {
			return nil, err
		}
		for _, b := range bindings {
			if after := b.without(accessv1.Source_POLICY); len(after.Sources) < len(b.Sources) {
				changes = append(changes, bindingChange(r.Ref, after, on.now))
			}
		}
	}
	return changes, nil
}
