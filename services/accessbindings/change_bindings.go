package accessbindings

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
)

// Reasons of refusals that the rules leave to whoever knows the state.
const (
	ReasonRoleNotFound    = "ROLE_NOT_FOUND"
	ReasonSubjectNotFound = "SUBJECT_NOT_FOUND"
)

// changeBindings is the intent of SetAccessBindings and UpdateAccessBindings. What
// it does to a pair (AB-5, and the sources of design §9):
//
//	ADD     a pair in force without end stays as it is; else it gets a direct
//	        source, or the end that its direct source is to have
//	REMOVE  the direct and the automatic source go, and those of grants; what a
//	        policy gives stays
//	Set     is ADD for each pair that is sent; each other loses its direct source.
//	        What a grant keeps in force stays as it is when it is sent back: whoever
//	        sets a list that was read (as Terraform does for the sake of another
//	        role) would else make access for good of access that ends
//
// What stays although it was to go, since a grant policy gives it, is told (SC-20).
//
// A pair whose rows change passes the rules; one that stays as it is does not, so
// that an admin may send back a list with an owner in it.
type changeBindings struct {
	resource Ref
	replace  bool // Set
	wishes   []wish
	caller   checker.Query // who asks, by which token
	catalog  *roleBook
	record   *audit.Record
	// permission is what who asks needs on the resource: the common one of its type, unless
	// the unit that owns it says otherwise.
	permission string
	verb       string // Set or Update, for the operation's description
	metadata   proto.Message
	limits     limits
}

// wish is one pair to be added or removed. An ADD without end keeps the end that
// the pair has.
type wish struct {
	Pair
	Add   bool
	End   int64
	field string // path in the request, for refusals
}

// change is what becomes of one pair.
type change struct {
	before, after Binding
	grants        bool // it adds or extends a source
	field         string
}

func (in *changeBindings) plan(ctx context.Context, on *state) (plan, error) {
	path := on.graph.above(in.resource)
	if len(path) == 0 {
		return plan{}, notFound(in.resource)
	}
	asked := in.caller
	asked.Resource, asked.Now = checker.Resource(in.resource), on.now
	if err := rules.MayManage(in.permission, on.graph.holds(asked)); err != nil {
		return plan{}, err
	}
	current, err := in.current(ctx, on)
	if err != nil {
		return plan{}, err
	}
	changes := in.changes(current, on.now)
	warnings, err := in.judge(ctx, on, path, asked, changes)
	if err != nil {
		return plan{}, err
	}
	if err := in.keepOwners(ctx, on, current, changes); err != nil {
		return plan{}, err
	}
	if err := in.room(ctx, on, organizationOf(path), changes); err != nil {
		return plan{}, err
	}
	warnings = append(warnings, in.stays(current)...)
	return in.result(path, changes, warnings, on.now), nil
}

// asks says whose rights the write depends on.
func (in *changeBindings) asks() Subject { return Subject(in.caller.Subject) }

// wants are the pairs of its wishes, unless it replaces the whole list or looks at
// owners, of whom one must remain.
func (in *changeBindings) wants() wants {
	if in.replace || slices.ContainsFunc(in.wishes, func(w wish) bool { return in.owns(w.Role) }) {
		return wants{}
	}
	places := make([]place, len(in.wishes))
	for i, w := range in.wishes {
		places[i] = place{in.resource, w.Pair}
	}
	return wants{pairs: places}
}

// current reads the pairs that the write must know.
func (in *changeBindings) current(ctx context.Context, on *state) ([]Binding, error) {
	if places := in.wants().pairs; len(places) > 0 {
		return on.pairsAt(ctx, places)
	}
	return on.bindingsOn(ctx, on.tx, in.resource, in.roles())
}

// roles are those whose pairs the write must know: all of them for a Set.
func (in *changeBindings) roles() []string {
	if in.replace {
		return nil
	}
	var roles []string
	for _, w := range in.wishes {
		if !slices.Contains(roles, w.Role) {
			roles = append(roles, w.Role)
		}
	}
	return roles
}

// changes says which pairs change, in the order of the request and then of the list.
func (in *changeBindings) changes(current []Binding, now int64) []change {
	have := make(map[Pair]Binding, len(current))
	for _, b := range current {
		have[b.Pair] = b
	}
	var out []change
	sent := make(map[Pair]bool, len(in.wishes))
	for _, w := range in.wishes {
		sent[w.Pair] = true
		b, known := have[w.Pair]
		if !known {
			b.Pair = w.Pair
		}
		if c, changed := w.apply(b, now, in.replace); changed {
			out = append(out, c)
		}
	}
	if in.replace {
		for _, b := range current {
			if sent[b.Pair] {
				continue
			}
			if after := b.without(accessv1.Source_DIRECT); len(after.Sources) < len(b.Sources) {
				out = append(out, change{before: b, after: after, field: "access_bindings"})
			}
		}
	}
	return out
}

// stays says that pairs which were to go stay, since grant policies give them; nothing
// when there are none.
func (in *changeBindings) stays(current []Binding) []string {
	sent := make(map[Pair]bool, len(in.wishes)) // and whether it was to be there
	for _, w := range in.wishes {
		sent[w.Pair] = w.Add
	}
	n := 0
	for _, b := range current {
		add, named := sent[b.Pair]
		unwanted := named && !add || !named && in.replace
		if unwanted && slices.ContainsFunc(b.Sources, func(s Source) bool { return s.Kind == accessv1.Source_POLICY }) {
			n++
		}
	}
	switch n {
	case 0:
		return nil
	case 1:
		return []string{"1 binding stays, which a grant policy gives"}
	default:
		return []string{fmt.Sprintf("%d bindings stay, which grant policies give", n)}
	}
}

// apply says what a wish makes of a pair. listed is for one of a whole list (Set).
func (w wish) apply(b Binding, now int64, listed bool) (change, bool) {
	c := change{before: b, after: b, field: w.field}
	if !w.Add {
		c.after = b.without(accessv1.Source_DIRECT, accessv1.Source_AUTOMATIC, accessv1.Source_GRANT)
		return c, len(c.after.Sources) < len(b.Sources)
	}
	for _, s := range b.Sources {
		switch {
		case s.Kind == accessv1.Source_AUTOMATIC && s.End == 0:
			return c, false
		case s.Kind == accessv1.Source_GRANT && listed && w.End == 0 && s.current(now):
			return c, false
		case s.Kind == accessv1.Source_DIRECT && s.current(now) && (w.End == 0 || w.End == s.End):
			return c, false
		}
	}
	c.after = b.without(accessv1.Source_DIRECT)
	c.after.Sources = append(c.after.Sources, Source{Kind: accessv1.Source_DIRECT, End: w.End})
	c.grants = true
	return c, true
}

// without returns the binding with no source of the kinds.
func (b Binding) without(kinds ...accessv1.Source_Kind) Binding {
	b.Sources = slices.DeleteFunc(slices.Clone(b.Sources), func(s Source) bool { return slices.Contains(kinds, s.Kind) })
	return b
}

// judge runs the rules over each change and collects the warnings of PG-4.
func (in *changeBindings) judge(ctx context.Context, on *state, path []Ref, asked checker.Query, changes []change) (warnings []string, err error) {
	target := rules.Resource{Type: in.resource.Type, ID: in.resource.ID, Organization: organizationOf(path)}
	holds, limit := on.graph.holds(asked), on.graph.limit(asked)
	users, err := in.users(ctx, on, target, changes)
	if err != nil {
		return nil, err
	}
	for _, c := range changes {
		who := c.after.Subject
		role, listed := in.catalog.role(c.after.Role)
		if c.grants && !listed {
			return nil, named(apierr.NotFound(ReasonRoleNotFound, "role %q not found", c.after.Role), c.field)
		}
		if c.grants && !on.graph.knows(who) {
			return nil, named(apierr.NotFound(ReasonSubjectNotFound, "subject %s:%s not found", who.Type, who.ID), c.field)
		}
		d := rules.Delta{Add: c.grants, Role: role, Resource: target, Limit: limit, Subject: rules.Subject{Type: who.Type, ID: who.ID, Home: on.graph.home(who)}, Listed: users[who]}
		if err := rules.May(d, holds); err != nil {
			return nil, named(err, c.field)
		}
		if c.grants && who.Type == rules.Group {
			by := d
			if by.Subject, err = on.bearer(ctx, who); err != nil {
				return nil, err
			}
			if err := rules.MayGain(by); err != nil {
				return nil, named(err, c.field)
			}
		}
		if w := rules.Warning(d); w != "" {
			warnings = append(warnings, w)
		}
	}
	return warnings, nil
}

// users is the Users list of a billing account outside of organizations, with those whom
// the call puts on it; nil for any other resource, which has none (AS-20).
func (in *changeBindings) users(ctx context.Context, on *state, target rules.Resource, changes []change) (map[Subject]bool, error) {
	if target.Type != rules.Account || target.Organization != "" {
		return nil, nil
	}
	all, err := on.bindingsOn(ctx, on.tx, in.resource, nil)
	if err != nil {
		return nil, err
	}
	users := make(map[Subject]bool)
	for _, b := range all {
		users[b.Subject] = users[b.Subject] || b.inForce(on.now)
	}
	for _, c := range changes {
		if c.grants && c.after.Role == rules.Member && c.after.Subject.Type != rules.Group && c.after.Subject.Type != rules.System {
			users[c.after.Subject] = true
		}
	}
	return users, nil
}

// keepOwners refuses the call when the last owner who stays would go (OW-2, OW-3).
func (in *changeBindings) keepOwners(ctx context.Context, on *state, current []Binding, changes []change) error {
	all := slices.DeleteFunc(slices.Clone(current), func(b Binding) bool { return !in.owns(b.Role) })
	for _, c := range changes {
		if in.owns(c.after.Role) {
			all = append(all, c.after)
		}
	}
	if len(all) == 0 {
		return nil
	}
	lasting, err := on.lasting(ctx, in.resource, all)
	if err != nil {
		return err
	}
	remains := func(b Binding) bool { return b.stays() && lasting[b.Subject] }
	before, after := make(map[string]int), make(map[string]int)
	for _, b := range current {
		if remains(b) {
			before[b.Role]++
			after[b.Role]++
		}
	}
	for _, c := range changes {
		if remains(c.before) {
			after[c.before.Role]--
		}
		if remains(c.after) {
			after[c.after.Role]++
		}
	}
	for _, c := range changes {
		role, _ := in.catalog.role(c.after.Role)
		if err := rules.OwnerRemains(role, in.resource.Type, before[role.ID], after[role.ID]); err != nil {
			return named(err, c.field)
		}
	}
	return nil
}

// room checks the limit of pairs in an organization, unless the call leaves no more
// of them than it finds (AB-13).
func (in *changeBindings) room(ctx context.Context, on *state, organization string, changes []change) error {
	var more int64
	for _, c := range changes {
		if len(c.before.Sources) == 0 {
			more++
		}
		if len(c.after.Sources) == 0 {
			more--
		}
	}
	if organization == "" || more <= 0 {
		return nil
	}
	n, err := on.countAssignments(ctx, on.tx, organization)
	if err != nil {
		return err
	}
	return in.limits.room(organizationBound(catalog.QuotaAccessBindings, organization), n, more)
}

// owns reports whether a role owns the resource.
func (in *changeBindings) owns(role string) bool {
	r, _ := in.catalog.role(role)
	return r.Owns == in.resource.Type
}

// result puts the plan together. The operation's result lists the pairs that began
// or ceased to be in force (AB-4).
func (in *changeBindings) result(path []Ref, changes []change, warnings []string, now int64) plan {
	effective := new(accesspb.AccessBindingsOperationResult)
	p := plan{changes: make([]*accessv1.Change, 0, len(changes))}
	for _, c := range changes {
		p.changes = append(p.changes, bindingChange(in.resource, c.after, now))
		was, is := c.before.inForce(now), c.after.inForce(now)
		if was == is {
			continue
		}
		action := accesspb.AccessBindingAction_ADD
		if was {
			action = accesspb.AccessBindingAction_REMOVE
		}
		effective.EffectiveDeltas = append(effective.EffectiveDeltas, &accesspb.AccessBindingDelta{
			Action: action, AccessBinding: &accesspb.AccessBinding{
				RoleId:  c.after.Role,
				Subject: &accesspb.Subject{Type: c.after.Subject.Type, Id: c.after.Subject.ID},
			},
		})
	}
	p.record = recordOn(in.record, path, detailsOf(effective, warnings))
	p.operation = &operation.New{
		Resource:       operation.Resource{Type: in.resource.Type, ID: in.resource.ID},
		ViewPermission: in.catalog.viewPermission(in.resource.Type),
		Description:    described(in.verb, warnings),
		CreatedBy:      in.caller.Subject.ID,
		Metadata:       in.metadata,
		Response:       effective,
	}
	if in.resource.Type == typeOrganization || in.resource.Type == typeBillingAccount { // AB-4
		p.operation.Response = new(emptypb.Empty)
	}
	return p
}

// maxDescription is the contract's limit on the description of an operation.
const maxDescription = 256

// described is the description of the operation, which tells whoever changed
// something what is advised against (PG-4): its metadata and response are of types
// that have no place for that.
func described(verb string, warnings []string) string {
	return withWarnings(verb+" access bindings", warnings)
}

func withWarnings(text string, warnings []string) string {
	if len(warnings) == 0 {
		return text
	}
	text += ". Warning: " + warnings[0]
	if more := len(warnings) - 1; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	if runes := []rune(text); len(runes) > maxDescription {
		return string(runes[:maxDescription-1]) + "…"
	}
	return text
}

// bindingDetails are the details of an audit record of bindings.
type bindingDetails struct {
	Deltas   []bindingDelta `json:"access_binding_deltas"`
	Warnings []string       `json:"warnings,omitempty"` // PG-4
}

type bindingDelta struct {
	Action      string `json:"action"`
	RoleID      string `json:"role_id"`
	SubjectType string `json:"subject_type"`
	SubjectID   string `json:"subject_id"`
}

func detailsOf(effective *accesspb.AccessBindingsOperationResult, warnings []string) bindingDetails {
	d := bindingDetails{Deltas: make([]bindingDelta, 0, len(effective.GetEffectiveDeltas())), Warnings: warnings}
	for _, e := range effective.GetEffectiveDeltas() {
		b := e.GetAccessBinding()
		d.Deltas = append(d.Deltas, bindingDelta{e.GetAction().String(), b.GetRoleId(), b.GetSubject().GetType(), b.GetSubject().GetId()})
	}
	return d
}

// bindingChange is the entry of the log for a pair: the sources that still count.
func bindingChange(r Ref, b Binding, now int64) *accessv1.Change {
	return &accessv1.Change{Fact: &accessv1.Change_BindingChanged{
		BindingChanged: &accessv1.BindingChanged{Resource: r.proto(), Binding: b.proto(now)},
	}}
}

// named says in a refusal which field of the request it is about.
func named(err error, field string) error {
	e, ok := apierr.As(err)
	if !ok {
		return err
	}
	c := *e
	c.Fields = []apierr.Field{{Name: field, Message: e.Message}}
	return &c
}

// notFound is the refusal for a resource that the tree does not know.
func notFound(r Ref) error {
	return apierr.NotFound(apierr.ReasonResourceNotFound, "%s %q not found", r.Type, r.ID).
		WithMeta("resourceType", r.Type, "resourceId", r.ID)
}

// organizationOf is the organization at the root of a path, "" when there is none.
func organizationOf(path []Ref) string {
	if len(path) > 0 && path[len(path)-1].Type == typeOrganization {
		return path[len(path)-1].ID
	}
	return ""
}
