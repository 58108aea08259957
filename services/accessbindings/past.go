package accessbindings

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"
)

// past gathers those facts of one revision that a question is about. They make a
// graph of their own, in which the question is answered by the walk of every check.
type past struct {
	q        sqldb.Querier
	revision int64
	catalog  *catalog.Catalog

	facts []checker.Change
	seen  map[factKey]bool
}

// wherePast narrows the history to what held at a revision, $1.
const wherePast = `began <= $1 AND (ended = 0 OR ended > $1) AND `

// read adds what held at the revision of some facts, and returns those that are new.
// The first parameter of where is $2.
func (p *past) read(ctx context.Context, where string, args ...any) ([]*span, error) {
	found, err := spans(ctx, p.q, wherePast+where, append([]any{p.revision}, args...)...)
	if err != nil {
		return nil, err
	}
	fresh := found[:0]
	for _, s := range found {
		if p.seen[s.factKey] {
			continue
		}
		p.seen[s.factKey] = true
		fresh = append(fresh, s)
		f, err := fact(p.catalog, s.change)
		if err != nil {
			return nil, err
		}
		if f != nil {
			p.facts = append(p.facts, f)
		}
	}
	return fresh, nil
}

// byName reads facts of a kind by the pairs in two columns.
func (p *past) byName(ctx context.Context, kind, column string, pairs []Ref, further string) (all []*span, err error) {
	for some := range slices.Chunk(pairs, historyRows) {
		values, args := pairsOf(some, 2)
		found, err := p.read(ctx, `kind = $2 AND (`+column+`_type, `+column+`_id) IN (VALUES `+values+`)`+further, append([]any{kind}, args...)...)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// path reads a resource and all above it, with their policies and payers, and the
// policies below that protect it (AP-8).
func (p *past) path(ctx context.Context, r Ref) (path []Ref, err error) {
	for at := r; at != (Ref{}) && len(path) <= maxDepth; {
		found, err := p.byName(ctx, aboutResource, "about", []Ref{at}, "")
		if err != nil {
			return nil, err
		}
		path = append(path, at)
		if len(found) == 0 {
			break
		}
		at = Ref(found[0].parent)
	}
	if _, err := p.byName(ctx, aboutPolicy, "about", path, ""); err != nil {
		return nil, err
	}
	if err := p.payers(ctx, path); err != nil {
		return nil, err
	}
	below, err := p.read(ctx, `kind = $2 AND EXISTS (
		SELECT 1 FROM access_history r WHERE r.kind = $3 AND r.who_type = $4 AND r.who_id = $5
			AND r.about_type = access_history.about_type AND r.about_id = access_history.about_id
			AND r.began <= $1 AND (r.ended = 0 OR r.ended > $1))`, aboutPolicy, aboutResource, r.Type, r.ID)
	if err != nil {
		return nil, err
	}
	_, err = p.byName(ctx, aboutResource, "about", abouts(below), "")
	return path, err
}

func abouts(all []*span) []Ref {
	var refs []Ref
	for _, s := range all {
		if !slices.Contains(refs, s.about) {
			refs = append(refs, s.about)
		}
	}
	return refs
}

// standing reads subjects, and the resources that some of them also are.
func (p *past) standing(ctx context.Context, subjects []Ref) error {
	if _, err := p.byName(ctx, aboutSubject, "about", subjects, ""); err != nil {
		return err
	}
	var also []Ref
	for _, s := range subjects {
		switch s.Type {
		case rules.ServiceAccount:
			also = append(also, Ref{typeServiceAccount, s.ID})
		case rules.Group:
			also = append(also, Ref{typeGroup, s.ID})
		case rules.System:
			if typ, id, ok := rules.Container(s.ID); ok {
				also = append(also, Ref{typ, id})
			}
		}
	}
	_, err := p.byName(ctx, aboutResource, "about", also, "")
	return err
}

// identities reads a subject and all groups that it is in, and returns whose roles it
// may have.
func (p *past) identities(ctx context.Context, who Ref) ([]Ref, error) {
	all := []Ref{who, {rules.System, checker.AllUsers}, {rules.System, checker.AllAuthenticatedUsers}}
	for next := []Ref{who}; len(next) > 0; {
		found, err := p.byName(ctx, aboutMember, "who", next, "")
		if err != nil {
			return nil, err
		}
		next = nil
		for _, container := range abouts(found) {
			s, ok := identityOf(container)
			if !ok || slices.Contains(all, s) {
				continue
			}
			all = append(all, s)
			if s.Type == rules.Group {
				next = append(next, s)
			}
		}
	}
	return all, p.standing(ctx, all)
}

// identityOf is the subject that the members of a container are.
func identityOf(container Ref) (Ref, bool) {
	if container.Type == typeGroup {
		return Ref{rules.Group, container.ID}, true
	}
	id, ok := rules.SystemGroup(container.Type, container.ID)
	return Ref{rules.System, id}, ok
}

// members reads everybody who has what is bound to some subjects.
func (p *past) members(ctx context.Context, of []Ref) error {
	seen, public := make(map[Ref]bool), false
	for next := of; len(next) > 0; {
		var containers []Ref
		for _, s := range next {
			switch {
			case s.Type == rules.Group:
				containers = append(containers, Ref{typeGroup, s.ID})
			case s.Type == rules.System && rules.Public(s.ID):
				if public = true; !seen[s] {
					if _, err := p.read(ctx, `kind = $2`, aboutSubject); err != nil {
						return err
					}
				}
			case s.Type == rules.System:
				if typ, id, ok := rules.Container(s.ID); ok {
					containers = append(containers, Ref{typ, id})
				}
			}
			seen[s] = true
		}
		if err := p.standing(ctx, next); err != nil {
			return err
		}
		found, err := p.byName(ctx, aboutMember, "about", containers, "")
		if err != nil {
			return err
		}
		next = nil
		for _, m := range found {
			if who := Ref(m.who); !seen[who] {
				seen[who] = true
				next = append(next, who)
			}
		}
	}
	if !public {
		return nil
	}
	// Those whom a public group brought are resources as well, if service accounts.
	_, err := p.read(ctx, `kind = $2 AND about_type = $3`, aboutResource, typeServiceAccount)
	return err
}

// subtrees reads some resources and all below them, with all above and the policies
// and payers of all of them.
func (p *past) subtrees(ctx context.Context, tops []Ref) error {
	for _, top := range tops {
		if _, err := p.path(ctx, top); err != nil {
			return err
		}
	}
	seen := make(map[Ref]bool)
	for next := tops; len(next) > 0; {
		for _, r := range next {
			seen[r] = true
		}
		children, err := p.children(ctx, next)
		if err != nil {
			return err
		}
		if _, err := p.byName(ctx, aboutPolicy, "about", children, ""); err != nil {
			return err
		}
		if err := p.payers(ctx, children); err != nil {
			return err
		}
		next = slices.DeleteFunc(children, func(r Ref) bool { return seen[r] })
	}
	return nil
}

// children reads the resources that stand directly below others, those too that were
// read before.
func (p *past) children(ctx context.Context, of []Ref) (all []Ref, err error) {
	if _, err := p.byName(ctx, aboutResource, "who", of, ""); err != nil {
		return nil, err
	}
	parents := make(map[checker.Resource]bool, len(of))
	for _, r := range of {
		parents[checker.Resource(r)] = true
	}
	for _, f := range p.facts {
		if place, ok := f.(checker.Place); ok && parents[place.Parent] {
			all = append(all, Ref(place.Resource))
		}
	}
	return all, nil
}

// holding narrows bindings to the roles that hold a permission; false when none does.
func (p *past) holding(permission string) (narrow string, any bool) {
	var names []string
	for _, r := range p.catalog.Roles() {
		if slices.Contains(r.Permissions, permission) {
			names = append(names, "'"+r.ID+"'") // ids of the catalogue: letters, digits, dots
		}
	}
	return ` AND name IN (` + strings.Join(names, ", ") + `)`, len(names) > 0
}

// view is the state that the facts make.
func (p *past) view(g *checker.Graph) (*checker.View, error) {
	made := g.Empty()
	err := made.Load(p.revision, func(yield func(checker.Change, error) bool) {
		for _, f := range p.facts {
			if !yield(f, nil) {
				return
			}
		}
	})
	return made.View(), err
}

// forOne reads what decides about one subject, permission and resource.
func (p *past) forOne(ctx context.Context, q checker.Query) error {
	path, err := p.path(ctx, Ref(q.Resource))
	if err != nil {
		return err
	}
	identities, err := p.identities(ctx, Ref(q.Subject))
	if err != nil {
		return err
	}
	narrow, some := p.holding(q.Permission)
	if !some {
		return nil
	}
	for holders := range slices.Chunk(identities, historyRows) {
		on, args := pairsOf(path, 2)
		to, more := pairsOf(holders, 2+len(args))
		_, err := p.read(ctx, `kind = $2 AND (about_type, about_id) IN (VALUES `+on+`) AND (who_type, who_id) IN (VALUES `+to+`)`+narrow,
			slices.Concat([]any{aboutBinding}, args, more)...)
		if err != nil {
			return err
		}
	}
	return nil
}

// forSubjects reads what decides about all subjects that may have a permission on a
// resource.
func (p *past) forSubjects(ctx context.Context, q checker.Query) error {
	path, err := p.path(ctx, Ref(q.Resource))
	if err != nil {
		return err
	}
	narrow, some := p.holding(q.Permission)
	if !some {
		return nil
	}
	found, err := p.byName(ctx, aboutBinding, "about", path, narrow)
	if err != nil {
		return err
	}
	holders := make(map[Ref]bool)
	for _, s := range found {
		holders[Ref(s.who)] = true
	}
	return p.members(ctx, slices.Collect(maps.Keys(holders)))
}

// forResources reads what decides about all resources on which a subject may have a
// permission.
func (p *past) forResources(ctx context.Context, q checker.Query) error {
	identities, err := p.identities(ctx, Ref(q.Subject))
	if err != nil {
		return err
	}
	narrow, some := p.holding(q.Permission)
	if !some {
		return nil
	}
	found, err := p.byName(ctx, aboutBinding, "who", identities, narrow)
	if err != nil {
		return err
	}
	return p.subtrees(ctx, abouts(found))
}
