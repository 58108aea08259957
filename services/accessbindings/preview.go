package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
)

// maxDifferences bounds what a preview shows; the rest it counts.
const maxDifferences = 1000

// errTried ends the transaction of a write that was only tried.
var errTried = errors.New("only tried")

// try plans a write on the locked state and makes nothing of it. The view is of the
// same state.
func (c *committer) try(ctx context.Context, in intent) (p plan, v *checker.View, now int64, err error) {
	err = c.inTx(ctx, c.db, func(ctx context.Context, tx *sql.Tx) error {
		on, err := c.lock(ctx, tx, new(sqldb.Batch))
		if err != nil {
			return err
		}
		if p, err = in.plan(ctx, on); err != nil {
			return err
		}
		v, now = on.graph.View(), on.now
		return errTried
	})
	if errors.Is(err, errTried) {
		return p, v, now, nil
	}
	return plan{}, nil, 0, err
}

// Preview is EX-6: the change is planned by the rules that would make it, and what it
// does to people is read off two views, one with it and one without. Fails as the
// change itself would.
func (s *Permissions) Preview(ctx context.Context, req *accessv1.PreviewRequest) (*accessv1.PreviewResponse, error) {
	if err := s.committer.atLeast(ctx, req.GetAtLeastRevision()); err != nil {
		return nil, err
	}
	if err := s.graph.fault(); err != nil {
		return nil, err
	}
	in, err := s.intended(ctx, req)
	if err != nil {
		return nil, err
	}
	l, err := s.bindings.bounded.read(ctx, s.bindings.bounds(in.resource))
	if err != nil {
		return nil, err
	}
	in.limits = l
	p, before, now, err := s.committer.try(ctx, in)
	if err != nil {
		return nil, s.bindings.told(in, err)
	}
	pairs, facts := pairsIn(p)
	after, err := before.Rebound(facts...)
	if err != nil {
		return nil, err
	}
	c := comparison{before: before, after: after, on: checker.Resource(in.resource), now: now, catalog: s.catalog, known: make(map[string]gainAndLoss)}
	resp := &accessv1.PreviewResponse{Revision: before.Revision()}
	var touched []checker.Subject
	for _, pair := range pairs {
		was, is := before.Bound(c.on, pair.Role, checker.Subject(pair.Subject), now), pair.inForce(now)
		if was == is {
			continue
		}
		action := accesspb.AccessBindingAction_ADD
		if was {
			action = accesspb.AccessBindingAction_REMOVE
		}
		resp.EffectiveDeltas = append(resp.EffectiveDeltas, &accessv1.AccessBindingDelta{
			Action: action, AccessBinding: &accessv1.AccessBinding{RoleId: pair.Role, Subject: pair.Subject.proto()},
		})
		touched = append(touched, checker.Subject(pair.Subject))
	}
	c.differences(resp, touched)
	c.warnings(resp, in.caller)
	return resp, nil
}

// intended is the write that a preview is about.
func (s *Permissions) intended(ctx context.Context, req *accessv1.PreviewRequest) (*changeBindings, error) {
	var in *changeBindings
	var err error
	if set := req.GetSet(); set != nil {
		in = s.bindings.setIntent(ctx, &accessv1.SetAccessBindingsRequest{Resource: req.GetResource(), AccessBindings: set.GetAccessBindings()}, "set.")
	} else {
		in, err = s.bindings.updateIntent(ctx, &accessv1.UpdateAccessBindingsRequest{
			Resource: req.GetResource(), AccessBindingDeltas: req.GetUpdate().GetAccessBindingDeltas(),
		}, "update.")
	}
	if err != nil {
		return nil, err
	}
	return in, s.bindings.check(in)
}

// pairsIn are the pairs that a plan changes, as they would be, and as facts.
func pairsIn(p plan) (pairs []Binding, facts []checker.Change) {
	for _, c := range p.changes {
		b := c.GetBindingChanged()
		if b == nil {
			continue
		}
		pair := Binding{Pair: Pair{Role: b.GetBinding().GetRoleId(), Subject: subjectOf(b.GetBinding().GetSubject())}}
		for _, src := range b.GetBinding().GetSources() {
			pair.Sources = append(pair.Sources, Source{Kind: src.GetKind(), ID: src.GetId(), End: micros(src.GetExpiresAt())})
		}
		pairs = append(pairs, pair)
		if f, err := fact(nil, c); err == nil { // bindings need no catalogue
			facts = append(facts, f)
		}
	}
	return pairs, facts
}

// comparison compares what subjects may on a resource in two views.
type comparison struct {
	before, after *checker.View
	on            checker.Resource
	now           int64
	catalog       *roleBook
	known         map[string]gainAndLoss // by the roles before and after
}

// gainAndLoss is what one change of roles gains and loses.
type gainAndLoss struct{ gained, lost []string }

// differences finds all subjects whom a change of pairs touches, groups expanded, and
// what each gains and loses. Public groups are everybody: they stand for themselves.
func (c *comparison) differences(resp *accessv1.PreviewResponse, touched []checker.Subject) {
	var groups, all []checker.Subject
	for _, who := range touched {
		if who.Type == rules.System && rules.Public(who.ID) {
			all = append(all, who)
		} else {
			groups = append(groups, who)
		}
	}
	all = append(all, c.before.Having(c.now, groups...)...)
	slices.SortFunc(all, func(a, b checker.Subject) int { return strings.Compare(a.Type+":"+a.ID, b.Type+":"+b.ID) })
	for _, who := range slices.Compact(all) {
		d := c.of(who)
		switch {
		case len(d.gained)+len(d.lost) == 0:
		case len(resp.GetDifferences()) == maxDifferences:
			resp.MoreDifferences++
		default:
			resp.Differences = append(resp.Differences, &accessv1.AccessDifference{Subject: Subject(who).proto(), Gained: d.gained, Lost: d.lost})
		}
	}
}

// of compares what one subject may. Two subjects with the same roles differ in nothing.
func (c *comparison) of(who checker.Subject) gainAndLoss {
	q := checker.Query{Subject: who, Resource: c.on, Now: c.now}
	was, is := c.before.RolesOn(q), c.after.RolesOn(q)
	key := strings.Join(was, " ") + "|" + strings.Join(is, " ")
	d, known := c.known[key]
	if !known {
		had, has := c.permissions(was), c.permissions(is)
		d = gainAndLoss{c.beyond(has, had), c.beyond(had, has)}
		c.known[key] = d
	}
	return d
}

// permissions are those of some roles.
func (c *comparison) permissions(roles []string) map[string]bool {
	all := make(map[string]bool)
	for _, id := range roles {
		r, _ := c.catalog.Role(id)
		for _, p := range r.Permissions {
			all[p] = true
		}
	}
	return all
}

// beyond are the permissions of one set that another one lacks and no policy denies.
func (c *comparison) beyond(of, other map[string]bool) []string {
	var out []string
	for p := range of {
		if !other[p] && !c.before.DeniedOn(c.on, p) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// warnings say what the change would better not do.
func (c *comparison) warnings(resp *accessv1.PreviewResponse, caller checker.Query) {
	warn := func(kind accessv1.PreviewWarning_Kind, b *accessv1.AccessBinding, message string) {
		resp.Warnings = append(resp.Warnings, &accessv1.PreviewWarning{Kind: kind, Message: message, RoleId: b.GetRoleId(), Subject: b.GetSubject()})
	}
	caller.Resource, caller.Now = c.on, c.now
	caller.Permission = c.catalog.permission(c.on.Type, "updateAccessBindings")
	if c.before.Decide(caller).Allowed && !c.after.Decide(caller).Allowed {
		warn(accessv1.PreviewWarning_OWN_LOCKOUT, &accessv1.AccessBinding{Subject: Subject(caller.Subject).proto()},
			"you could not change the access bindings of the resource any more")
	}
	for _, d := range resp.GetEffectiveDeltas() {
		b := d.GetAccessBinding()
		role, _ := c.catalog.role(b.GetRoleId())
		if d.GetAction() == accesspb.AccessBindingAction_REMOVE {
			if role.Owns == c.on.Type {
				warn(accessv1.PreviewWarning_OWNER_REMOVED, b, "an owner of the resource would own it no longer")
			}
			continue
		}
		if b.GetSubject().GetType() == rules.System && rules.Public(b.GetSubject().GetId()) {
			warn(accessv1.PreviewWarning_PUBLIC_GROUP, b, "everybody with an account would have the role, of whatever organization")
		}
		wide := rules.Warning(rules.Delta{
			Add: true, Role: role, Subject: rules.Subject{Type: b.GetSubject().GetType(), ID: b.GetSubject().GetId()},
			Resource: rules.Resource{Type: c.on.Type, ID: c.on.ID},
		})
		if wide != "" {
			warn(accessv1.PreviewWarning_WIDE_ROLE, b, wide)
		}
	}
}
