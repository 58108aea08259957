package accessbindings

import (
	"context"
	"fmt"
	"slices"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// automaticBindings is the intent of UpdateAutomaticBindings. A pair that is added
// gets an automatic source, one that is removed loses it; whatever else keeps it in
// force stays. Who may give what to whom does not apply to the platform (AS-15), but to
// a giver for whom it adds them.
type automaticBindings struct {
	resource    Ref
	giver       Subject // zero for the platform
	add, remove []Pair
	catalog     *roleBook
	record      *audit.Record
}

func (in *automaticBindings) plan(ctx context.Context, on *state) (plan, error) {
	path, err := on.path(ctx, on.tx, in.resource)
	if err != nil {
		return plan{}, err
	}
	if len(path) == 0 {
		return plan{}, notFound(in.resource)
	}
	current, err := on.bindingsOn(ctx, on.tx, in.resource, nil)
	if err != nil {
		return plan{}, err
	}
	have := make(map[Pair]Binding, len(current))
	for _, b := range current {
		have[b.Pair] = b
	}
	if err := in.judge(ctx, on); err != nil {
		return plan{}, err
	}
	if err := in.judgeGiver(ctx, on, path); err != nil {
		return plan{}, err
	}
	var changes []*accessv1.Change
	for _, p := range in.add {
		b := have[p]
		if slices.ContainsFunc(b.Sources, func(s Source) bool { return s.Kind == accessv1.Source_AUTOMATIC && s.End == 0 }) {
			continue
		}
		b.Pair = p
		b = b.without(accessv1.Source_AUTOMATIC)
		b.Sources = append(b.Sources, Source{Kind: accessv1.Source_AUTOMATIC})
		have[p] = b
		changes = append(changes, bindingChange(in.resource, b, on.now))
	}
	for _, p := range in.remove {
		b := have[p]
		after := b.without(accessv1.Source_AUTOMATIC)
		if len(after.Sources) == len(b.Sources) {
			continue
		}
		have[p] = after
		changes = append(changes, bindingChange(in.resource, after, on.now))
	}
	if len(changes) == 0 {
		return plan{}, nil
	}
	return plan{changes: changes, record: onPath(in.record, path, changes)}, nil
}

// judge wants each role that is added to be one that fits, and its holder known.
func (in *automaticBindings) judge(ctx context.Context, on *state) error {
	subjects := make([]Subject, len(in.add))
	for i, p := range in.add {
		subjects[i] = p.Subject
	}
	known, err := on.known(ctx, subjects)
	if err != nil {
		return err
	}
	for i, p := range in.add {
		role, listed := in.catalog.role(p.Role)
		field := fmt.Sprintf("add[%d]", i)
		switch {
		case !listed:
			return named(apierr.NotFound(ReasonRoleNotFound, "role %q not found", p.Role), field)
		case !slices.Contains(role.AssignableOn, in.resource.Type):
			return apierr.InvalidField(field, "the role %s cannot be set on a %s", p.Role, in.resource.Type)
		case !known[p.Subject]:
			return named(apierr.NotFound(ReasonSubjectNotFound, "subject %s:%s not found", p.Subject.Type, p.Subject.ID), field)
		}
	}
	return nil
}

// judgeGiver has the rules look at what is added as if the giver added it (AS-1, AS-3, AS-7).
func (in *automaticBindings) judgeGiver(ctx context.Context, on *state, path []Ref) error {
	if in.giver == (Subject{}) {
		return nil
	}
	asked := checker.Query{Subject: checker.Subject(in.giver), Resource: checker.Resource(in.resource), Now: on.now}
	if err := rules.MayManage(in.catalog.permission(in.resource.Type, "updateAccessBindings"), on.graph.holds(asked)); err != nil {
		return err
	}
	changes := make([]change, len(in.add))
	for i, p := range in.add {
		changes[i] = change{after: Binding{Pair: p}, grants: true, field: fmt.Sprintf("add[%d]", i)}
	}
	by := &changeBindings{resource: in.resource, caller: asked, catalog: in.catalog}
	_, err := by.judge(ctx, on, path, asked, changes)
	return err
}

// givenBindings are automatic bindings with a giver.
type givenBindings struct{ *automaticBindings }

// asks says whose rights the write depends on.
func (in givenBindings) asks() Subject { return in.giver }

// UpdateAutomaticBindings gives and takes what the platform grants by itself (PT-16,
// PT-18). Fails: TYPE_NOT_OWNED, RESOURCE_NOT_FOUND, ROLE_NOT_FOUND, SUBJECT_NOT_FOUND;
// with a giver as UpdateAccessBindings by the giver would.
func (s *Resources) UpdateAutomaticBindings(ctx context.Context, req *accessv1.UpdateAutomaticBindingsRequest) (*accessv1.UpdateAutomaticBindingsResponse, error) {
	in := &automaticBindings{
		resource: refOf(req.GetResource()), catalog: s.catalog, record: recordOf(ctx, eventSource, "UpdateAutomaticBindings"),
	}
	if err := owned(ctx, in.resource.Type); err != nil {
		return nil, err
	}
	if g := req.GetGiver(); g != nil {
		in.giver = subjectOf(g)
		if err := checkSubject("giver", in.giver); err != nil {
			return nil, err
		}
	}
	for _, part := range []struct {
		name string
		from []*accessv1.AccessBinding
		into *[]Pair
	}{{"add", req.GetAdd(), &in.add}, {"remove", req.GetRemove(), &in.remove}} {
		for _, b := range part.from {
			if err := checkText(part.name, b.GetRoleId(), b.GetSubject().GetType(), b.GetSubject().GetId()); err != nil {
				return nil, err
			}
			*part.into = append(*part.into, Pair{Role: b.GetRoleId(), Subject: subjectOf(b.GetSubject())})
		}
	}
	made := intent(in)
	if in.giver != (Subject{}) {
		made = givenBindings{in}
	}
	r, err := s.committer.submit(ctx, made)
	if err != nil {
		return nil, err
	}
	return &accessv1.UpdateAutomaticBindingsResponse{Revision: r.revision}, nil
}

// CheckGiver answers when the giver may give the roles to a user who is not known yet
// (AS-1, AS-3, AS-7, AS-9, AS-15, AS-16). Fails: TYPE_NOT_OWNED, RESOURCE_NOT_FOUND,
// ROLE_NOT_FOUND, and as UpdateAccessBindings by the giver would.
func (s *Resources) CheckGiver(ctx context.Context, req *accessv1.CheckGiverRequest) (*accessv1.CheckGiverResponse, error) {
	on, giver, g := refOf(req.GetResource()), subjectOf(req.GetGiver()), s.committer.graph
	if err := owned(ctx, on.Type); err != nil {
		return nil, err
	}
	if err := checkText("resource", on.ID); err != nil {
		return nil, err
	}
	if err := checkSubject("giver", giver); err != nil {
		return nil, err
	}
	if err := g.fault(); err != nil {
		return nil, err
	}
	revision, path := g.Revision(), g.above(on)
	if len(path) == 0 {
		return nil, notFound(on)
	}
	asked := checker.Query{Subject: checker.Subject(giver), Resource: checker.Resource(on), Now: nowMicros(s.now)}
	holds, limit := g.holds(asked), g.limit(asked)
	if err := rules.MayManage(s.catalog.permission(on.Type, "updateAccessBindings"), holds); err != nil {
		return nil, err
	}
	target := rules.Resource{Type: on.Type, ID: on.ID, Organization: organizationOf(path)}
	for i, id := range req.GetRoleIds() {
		field := fmt.Sprintf("role_ids[%d]", i)
		role, listed := s.catalog.role(id)
		if !listed {
			return nil, named(apierr.NotFound(ReasonRoleNotFound, "role %q not found", id), field)
		}
		d := rules.Delta{Add: true, Role: role, Resource: target, Limit: limit, Subject: rules.Subject{Type: rules.UserAccount},
			Listed: slices.Contains(req.GetRoleIds(), rules.Member)}
		if err := rules.May(d, holds); err != nil {
			return nil, named(err, field)
		}
	}
	return &accessv1.CheckGiverResponse{Revision: revision}, nil
}

// ListHolders lists who holds a role on a resource itself, in force now. What it tells is
// in force everywhere. Fails: TYPE_NOT_OWNED, RESOURCE_NOT_FOUND.
func (s *Resources) ListHolders(ctx context.Context, req *accessv1.ListHoldersRequest) (*accessv1.ListHoldersResponse, error) {
	on := refOf(req.GetResource())
	if err := owned(ctx, on.Type); err != nil {
		return nil, err
	}
	if err := checkText("role_id", req.GetRoleId(), on.ID); err != nil {
		return nil, err
	}
	now, resp := nowMicros(s.now), new(accessv1.ListHoldersResponse)
	err := s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) error {
		path, err := st.path(ctx, q, on)
		if err == nil && len(path) == 0 {
			err = notFound(on)
		}
		if err != nil {
			return err
		}
		all, err := st.bindingsOn(ctx, q, on, []string{req.GetRoleId()})
		resp.Subjects = nil
		for _, b := range all {
			if b.inForce(now) {
				resp.Subjects = append(resp.Subjects, &accessv1.Subject{Type: b.Subject.Type, Id: b.Subject.ID})
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
