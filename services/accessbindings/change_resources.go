package accessbindings

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Refusals of the tree.
var (
	errDeleted  = apierr.Precondition("RESOURCE_DELETED", "the id was used by a resource that is deleted")
	errMismatch = apierr.Precondition("RESOURCE_MISMATCH", "the resource stands elsewhere in the tree")
	errTooDeep  = apierr.Precondition("TREE_TOO_DEEP", "the tree would have over %d levels", maxDepth)
)

// registerResource is the intent of RegisterResource.
type registerResource struct {
	resource, parent Ref
	bindings         []Binding
	members          []Subject
	groups           []Group // the default ones of an organization (SC-2)
	catalog          *roleBook
	record           *audit.Record
}

func (in *registerResource) plan(ctx context.Context, on *state) (plan, error) {
	n, found, err := on.node(ctx, on.tx, in.resource)
	switch {
	case err != nil:
		return plan{}, err
	case n.Removed:
		return plan{}, errDeleted.Withf("%s %s was deleted", in.resource.Type, in.resource.ID)
	case found && n.Parent != in.parent:
		return plan{}, errMismatch.Withf("%s %s stands elsewhere in the tree", in.resource.Type, in.resource.ID)
	case found:
		return plan{}, nil
	}
	path, err := on.below(ctx, in.resource, in.parent, 0)
	if err != nil {
		return plan{}, err
	}
	changes := []*accessv1.Change{placed(in.resource, in.parent)}
	bindings, err := in.bind(ctx, on)
	if err != nil {
		return plan{}, err
	}
	changes = append(changes, bindings...)
	members, err := on.join(ctx, in.resource, in.members)
	if err != nil {
		return plan{}, err
	}
	changes = append(changes, members...)
	for i, g := range in.groups {
		changes = append(changes, g.begin(i, on.now)...)
	}
	return plan{changes: changes, record: onPath(in.record, path, changes)}, nil
}

// bind makes the first bindings. Who may give what to whom does not apply to
// the platform, but a role must exist and fit, and its holder be known.
func (in *registerResource) bind(ctx context.Context, on *state) ([]*accessv1.Change, error) {
	subjects := make([]Subject, len(in.bindings))
	for i, b := range in.bindings {
		subjects[i] = b.Subject
	}
	known, err := on.known(ctx, subjects)
	if err != nil {
		return nil, err
	}
	var changes []*accessv1.Change
	for i, b := range in.bindings {
		role, listed := in.catalog.role(b.Role)
		field := fmt.Sprintf("access_bindings[%d]", i)
		switch {
		case !listed:
			return nil, named(apierr.NotFound(ReasonRoleNotFound, "role %q not found", b.Role), field)
		case !slices.Contains(role.AssignableOn, in.resource.Type):
			return nil, apierr.InvalidField(field, "the role %s cannot be set on a %s", b.Role, in.resource.Type)
		case !known[b.Subject]:
			return nil, named(apierr.NotFound(ReasonSubjectNotFound, "subject %s:%s not found", b.Subject.Type, b.Subject.ID), field)
		}
		changes = append(changes, bindingChange(in.resource, b, on.now))
	}
	return changes, nil
}

// moveResource is the intent of MoveResource.
type moveResource struct {
	resource, parent Ref
	record           *audit.Record
}

func (in *moveResource) plan(ctx context.Context, on *state) (plan, error) {
	n, found, err := on.node(ctx, on.tx, in.resource)
	switch {
	case err != nil:
		return plan{}, err
	case !found || n.Removed:
		return plan{}, notFound(in.resource)
	case n.Parent == in.parent:
		return plan{}, nil
	}
	tree, err := on.subtree(ctx, on.tx, in.resource)
	if err != nil {
		return plan{}, err
	}
	path, err := on.below(ctx, in.resource, in.parent, tree[len(tree)-1].Depth)
	if err != nil {
		return plan{}, err
	}
	if slices.Contains(path[1:], in.resource) {
		return plan{}, errMismatch.Withf("%s %s cannot stand below itself", in.resource.Type, in.resource.ID)
	}
	before, err := on.path(ctx, on.tx, in.resource)
	if err != nil {
		return plan{}, err
	}
	if cloudAbove(before) != cloudAbove(path) { // RH-7
		return plan{}, errMismatch.Withf("%s %s cannot be moved to another cloud", in.resource.Type, in.resource.ID)
	}
	changes := []*accessv1.Change{moved(in.resource, n.Parent, in.parent)}
	if organizationOf(before) != organizationOf(path) {
		left, err := on.moveFromGrantPolicies(ctx, tree)
		if err != nil {
			return plan{}, err
		}
		changes = append(left, changes...)
	}
	return plan{changes: changes, record: onPath(in.record, path, changes)}, nil
}

// cloudAbove is the cloud above the first resource of a path; the zero Ref when
// there is none, as above a cloud itself.
func cloudAbove(path []Ref) Ref {
	for _, r := range path[1:] {
		if r.Type == typeCloud {
			return r
		}
	}
	return Ref{}
}

// removeResource is the intent of RemoveResource.
type removeResource struct {
	resource Ref
	catalog  *roleBook
	record   *audit.Record
}

func (in *removeResource) plan(ctx context.Context, on *state) (plan, error) {
	n, found, err := on.node(ctx, on.tx, in.resource)
	switch {
	case err != nil:
		return plan{}, err
	case n.Removed:
		return plan{}, nil
	case !found:
		changes := []*accessv1.Change{removed(in.resource)}
		return plan{changes: changes, record: onPath(in.record, []Ref{in.resource}, changes)}, nil
	}
	path, err := on.path(ctx, on.tx, in.resource)
	if err != nil {
		return plan{}, err
	}
	if err := in.mayGo(ctx, on); err != nil {
		return plan{}, err
	}
	tree, err := on.subtree(ctx, on.tx, in.resource)
	if err != nil {
		return plan{}, err
	}
	within := make(map[Ref]bool, len(tree))
	for _, r := range tree {
		within[r.Ref] = true
	}
	var changes []*accessv1.Change
	for _, r := range slices.Backward(tree) {
		gone, err := on.end(ctx, r.Ref, within)
		if err != nil {
			return plan{}, err
		}
		changes = append(changes, gone...)
	}
	return plan{changes: changes, record: onPath(in.record, path, changes)}, nil
}

// mayGo refuses to remove a service account that is the last owner of something
// (OW-1). One that goes with its folder is not asked: DL-6 is irrevocable by then, and
// the owner of the organization may appoint another one (OW-6).
func (in *removeResource) mayGo(ctx context.Context, on *state) error {
	if in.resource.Type != typeServiceAccount {
		return nil
	}
	who := Subject{rules.ServiceAccount, in.resource.ID}
	is, err := on.standingOf(ctx, on.tx, who)
	if err != nil || !is.lasts() {
		return err
	}
	return on.mayCease(ctx, in.catalog, who)
}

// end is what a resource takes along: the subject that it also is, the bindings of
// the system group that it was where they are not removed anyway, and itself.
func (on *state) end(ctx context.Context, r Ref, within map[Ref]bool) ([]*accessv1.Change, error) {
	var changes []*accessv1.Change
	switch r.Type {
	case typeServiceAccount:
		changes = append(changes, subjectChange(Subject{rules.ServiceAccount, r.ID}, stateDeleted))
	case typeGroup:
		changes = append(changes, subjectChange(Subject{rules.Group, r.ID}, stateDeleted))
	default:
		id, ok := rules.SystemGroup(r.Type, r.ID)
		if !ok {
			break
		}
		gone := Subject{rules.System, id}
		holdings, err := on.heldBy(ctx, on.tx, gone)
		if err != nil {
			return nil, err
		}
		for _, h := range holdings {
			if within[h.On] {
				continue
			}
			changes = append(changes, bindingChange(h.On, Binding{Pair: Pair{Role: h.Role, Subject: gone}}, on.now))
		}
	}
	return append(changes, removed(r)), nil
}

// below returns the path that a resource would have below a parent. height is how
// far its own tree reaches down.
func (on *state) below(ctx context.Context, r, parent Ref, height int) ([]Ref, error) {
	if parent == (Ref{}) {
		return []Ref{r}, nil
	}
	path, err := on.path(ctx, on.tx, parent)
	if err != nil {
		return nil, err
	}
	if len(path) == 0 {
		return nil, notFound(parent)
	}
	if len(path)+1+height > maxDepth {
		return nil, errTooDeep
	}
	return append([]Ref{r}, path...), nil
}

func placed(r, parent Ref) *accessv1.Change {
	return &accessv1.Change{Fact: &accessv1.Change_ResourcePlaced{
		ResourcePlaced: &accessv1.ResourcePlaced{Resource: r.proto(), Parent: parent.proto()},
	}}
}

// moved is placed for a resource that stood elsewhere.
func moved(r, from, to Ref) *accessv1.Change {
	c := placed(r, to)
	c.GetResourcePlaced().MovedFrom = from.proto()
	return c
}

func removed(r Ref) *accessv1.Change {
	return &accessv1.Change{Fact: &accessv1.Change_ResourceRemoved{
		ResourceRemoved: &accessv1.ResourceRemoved{Resource: r.proto()},
	}}
}

// maxDetails bounds the changes that an audit record shows; the log has all.
const maxDetails = 100

// changeDetails are the details of an audit record of the internal services.
type changeDetails struct {
	Count   int               `json:"count"`
	Changes []json.RawMessage `json:"changes"`
}

// onPath completes a record of the internal services.
func onPath(r *audit.Record, path []Ref, changes []*accessv1.Change) *audit.Record {
	d := changeDetails{Count: len(changes)}
	for _, c := range changes[:min(len(changes), maxDetails)] {
		if text, err := protojson.Marshal(c); err == nil { // it has no Any, the only thing that can fail
			d.Changes = append(d.Changes, text)
		}
	}
	return recordOn(r, path, d)
}
