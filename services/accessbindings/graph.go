package accessbindings

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/lease"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// graph is the checker's graph of one line of the store, with what callers wait
// for.
type graph struct {
	strand  atomic.Pointer[strand]
	catalog *catalog.Catalog
	broken  atomic.Pointer[apierr.Error]
	asked   checks
	seals   *seals       // of decision ids; nil in tests of the graph alone
	lease   *lease.Lease // without which it decides nothing; nil where the store is not shared
	applied func()       // called after a revision was applied; nil for nothing

	followers *followers // who decide by what this process sends them

	applying sync.Mutex
	writeID  string // the write that made the graph's revision; "" when that is not known

	mu   sync.Mutex
	next chan struct{} // closed when a revision is applied
}

func newGraph(c *catalog.Catalog, of line) *graph {
	roles, permissions := c.Matrix()
	g := &graph{catalog: c, asked: newChecks(), next: make(chan struct{})}
	g.strand.Store(&strand{checker.New(checker.Roles{Permissions: permissions, Roles: roles}), of})
	g.followers = newFollowers(g, lease.Default)
	return g
}

// step is a committed revision and the write that made it.
type step struct {
	revision int64
	writeID  string
	changes  []*accessv1.Change
}

// apply makes committed revisions of a line visible, which are in a row, and wakes those
// who wait for them. One that the graph has is compared with it: another write of the
// same number is a revision of another line. A graph that cannot take them is not the
// store's any more, and decides nothing from then on. A graph that follows another line
// by now is left as it is.
func (g *graph) apply(of line, revisions ...step) error {
	if len(revisions) == 0 {
		return nil
	}
	g.applying.Lock()
	defer g.applying.Unlock()
	if g.now() != of {
		return errUnavailable.WithCause(errLostLine)
	}
	at := g.Revision()
	for len(revisions) > 0 && revisions[0].revision <= at {
		r := revisions[0]
		if r.revision == at && g.writeID != r.writeID && g.writeID != "" {
			return g.fail(fmt.Errorf("revision %d is of write %s, the graph has it of %s: %w", r.revision, r.writeID, g.writeID, errLostLine))
		}
		revisions = revisions[1:]
	}
	if len(revisions) == 0 {
		return nil
	}
	for i, r := range revisions {
		if want := at + 1 + int64(i); r.revision != want {
			return g.fail(fmt.Errorf("revision %d comes after %d", r.revision, want-1))
		}
	}
	if err := g.put(revisions); err != nil {
		return g.fail(fmt.Errorf("apply revisions from %d on: %w", revisions[0].revision, err))
	}
	g.writeID = revisions[len(revisions)-1].writeID
	g.wake()
	if g.applied != nil {
		g.applied()
	}
	return nil
}

// put makes the facts of revisions visible: to followers one by one, and without any all
// at once.
func (g *graph) put(revisions []step) error {
	facts := make([][]checker.Change, len(revisions))
	for i, r := range revisions {
		facts[i] = make([]checker.Change, 0, len(r.changes))
		for _, c := range r.changes {
			f, err := fact(g.catalog, c)
			if err != nil {
				return err
			}
			if f != nil {
				facts[i] = append(facts[i], f)
			}
		}
	}
	if alone, err := g.followers.without(func() error { return g.ApplyAll(revisions[0].revision, facts...) }); alone {
		return err
	}
	for i, r := range revisions {
		before := g.View()
		if err := g.Apply(r.revision, facts[i]...); err != nil {
			return err
		}
		g.followers.add(before, g.View(), r.writeID, facts[i])
	}
	return nil
}

// settled is the revision that this process, and who follows it, answer from at least.
func (g *graph) settled() int64 { return g.followers.settled() }

// wake lets those who wait look again.
func (g *graph) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.next)
	g.next = make(chan struct{})
}

// await returns when the graph has a revision of a line.
func (g *graph) await(ctx context.Context, of line, revision int64) error {
	return g.until(ctx, of, revision, g.Revision)
}

// settle returns when a revision of a line is settled.
func (g *graph) settle(ctx context.Context, of line, revision int64) error {
	return g.until(ctx, of, revision, g.settled)
}

// until returns when what is at a revision of a line has come to it.
func (g *graph) until(ctx context.Context, of line, revision int64, is func() int64) error {
	for {
		g.mu.Lock()
		next := g.next
		g.mu.Unlock()
		before := g.now()
		at := is()
		if before != of || g.now() != of { // between the two it is of that line
			return errGone
		}
		if at >= revision {
			return nil
		}
		if err := g.lost(); err != nil {
			return err
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fail marks the graph as not the store's any more: it decides nothing from then
// on. The returned refusal carries the cause.
func (g *graph) fail(cause error) error {
	g.broken.CompareAndSwap(nil, errUnavailable.WithCause(cause))
	g.wake()
	return g.lost()
}

// lost is the refusal of a graph that failed; nil for a sound one.
func (g *graph) lost() error {
	if e := g.broken.Load(); e != nil {
		return e
	}
	return nil
}

// fault is why the graph must not answer now: it failed, or this process does not hold
// its lease. It is asked before the graph is, for each answer.
func (g *graph) fault() error {
	if g.lease != nil && !g.lease.Held() {
		return errNoLease
	}
	return g.lost()
}

// answers reports whether the graph may answer now.
func (g *graph) answers() bool { return g.fault() == nil }

// mayAct refuses a void token, one of a session that is over (TK-5), and a subject
// that is unknown, suspended or deleted.
func (g *graph) mayAct(p authn.Principal, now int64) error {
	if err := g.fault(); err != nil {
		return err
	}
	v := g.View()
	switch {
	case v.TokenRevoked(checker.TokenID(p.TokenID)) || v.TokenRevoked(checker.TokenID(p.Session)):
		return errRevoked
	case !v.MayAct(checker.Subject{Type: p.Type, ID: p.ID}, now):
		return errInactive
	default:
		return nil
	}
}

// decide is nil for yes.
func (g *graph) decide(q checker.Query) error {
	_, err := g.answer(q)
	return err
}

// judge is decide, and a denial carries a decision id (EX-8). It is for answers that
// are the whole answer to a call: among many it would cost more than the decision.
func (g *graph) judge(q checker.Query) error {
	d, err := g.answer(q)
	if err == nil || d.Reason == checker.Granted {
		return err
	}
	if e, ok := apierr.As(err); ok && e.Code == codes.PermissionDenied && e.Meta["permission"] != "" {
		g.sign(e, q, d.Revision)
	}
	return err
}

// sign gives a denial of its own for a question its decision id.
func (g *graph) sign(e *apierr.Error, q checker.Query, revision int64) {
	g.seal(e, &decision{Query: q, revision: revision})
}

// seal gives a denial the id of a decision, which is of the line of now.
func (g *graph) seal(e *apierr.Error, d *decision) {
	if g.seals != nil {
		d.epoch = g.now().Epoch
		e.Meta["decisionId"] = d.id(g.seals)
	}
}

// answer is the decision, and as an error what is told of it.
func (g *graph) answer(q checker.Query) (checker.Decision, error) {
	if err := g.fault(); err != nil {
		g.asked.unavailable.Inc()
		return checker.Decision{}, err
	}
	v := g.View()
	d := v.Decide(q)
	switch d.Reason {
	case checker.Granted:
		g.asked.allowed.Inc()
		return d, nil
	case checker.DeniedByPolicy:
		g.asked.denied.Inc()
		return d, deniedByPolicy(q, v.Explain(q).Denials[0])
	case checker.TokenRevoked:
		g.asked.unauthenticated.Inc()
		return d, errRevoked
	case checker.SubjectInactive, checker.SubjectUnknown:
		if q.Token != (checker.TokenID{}) {
			g.asked.unauthenticated.Inc()
			return d, errInactive
		}
	case checker.ResourceUnknown, checker.ResourceDeleted:
		g.asked.notFound.Inc()
		return d, unknownResource(q.Resource)
	case checker.PermissionUnknown:
		g.asked.invalid.Inc()
		return d, apierr.InvalidField("permission", "%q is not in the catalogue", q.Permission)
	case checker.NoGrant:
	}
	g.asked.denied.Inc()
	return d, authz.Denied(q.Permission, authz.Resource(q.Resource))
}

// unknownResource is the denial for a resource that the tree does not know: a
// denial, so that a caller who only asks yes or no needs no case for it.
func unknownResource(r checker.Resource) error {
	return apierr.Denied(apierr.ReasonResourceNotFound, "%s %q not found", r.Type, r.ID).
		WithMeta("resourceType", r.Type, "resourceId", r.ID)
}

// deniedByPolicy is the denial for what a role grants and an access policy takes
// away (AP-1). It names the template and the resource that carries it, the nearest
// one. Whoever reads it holds a role that grants the permission there, and so may
// know the path; for a policy below (AP-8) they may delete what is above it.
func deniedByPolicy(q checker.Query, by checker.Denial) error {
	if by.Policy == checker.PayerStopped {
		return authz.DeniedByPayer(q.Permission, authz.Resource(q.Resource), authz.Resource(by.Resource))
	}
	return apierr.Denied(apierr.ReasonDeniedByPolicy, "permission %s on %s %q is denied by the access policy %s on %s %q",
		q.Permission, q.Resource.Type, q.Resource.ID, by.Policy, by.Resource.Type, by.Resource.ID).
		WithMeta("permission", q.Permission, "resourceType", q.Resource.Type, "resourceId", q.Resource.ID,
			"accessPolicyTemplateId", by.Policy, "accessPolicyResourceType", by.Resource.Type, "accessPolicyResourceId", by.Resource.ID)
}

// limit is strict granting on the resource of the question (AS-3); nil where no
// policy asks for it. What the caller was granted is looked up once for each
// permission.
func (g *graph) limit(q checker.Query) *rules.Limit {
	v := g.View()
	on, strict := v.PolicyAbove(catalog.DenyGrantAboveOwn, q.Resource)
	if !strict {
		return nil
	}
	seen := make(map[string]bool)
	return &rules.Limit{
		Policy: catalog.DenyGrantAboveOwn, On: rules.Resource{Type: on.Type, ID: on.ID},
		Granted: func(permission string) bool {
			granted, known := seen[permission]
			if !known {
				q.Permission = permission
				reason := v.Decide(q).Reason
				granted = reason == checker.Granted || reason == checker.DeniedByPolicy
				seen[permission] = granted
			}
			return granted
		},
	}
}

// holds tells the rules what a subject holds on a resource.
func (g *graph) holds(q checker.Query) rules.Holds {
	return func(permission string) bool {
		q.Permission = permission
		return g.Decide(q).Allowed
	}
}

// complete returns the full path of the first given resource, and which element of
// it is the first that the tree knows: the one to decide on. Types of the
// catalogue are registered, so one that is not in the tree does not exist; a leaf
// of another type stands below the next given element. From the first known
// element on the tree's own path counts, and given elements that are not on it are
// INVALID_ARGUMENT.
func (g *graph) complete(given []*accessservicev2.Resource) (path []*accessservicev2.Resource, at int, err error) {
	if len(given) == 0 {
		return nil, 0, errNothing
	}
	if len(given) > maxPath {
		return nil, 0, errLongPath
	}
	v := g.View()
	for i, r := range given {
		self := checker.Resource{Type: r.GetType(), ID: r.GetId()}
		known := v.Path(self)
		if known == nil {
			if _, registered := g.catalog.ResourceType(self.Type); registered || v.Removed(self) {
				return nil, 0, unknownResource(self)
			}
			continue
		}
		if !within(given[i+1:], known[1:]) {
			return nil, 0, apierr.InvalidField("resource_path", "%s %q does not stand below what follows it", self.Type, self.ID)
		}
		path = make([]*accessservicev2.Resource, i, i+len(known))
		copy(path, given)
		room := make([]accessservicev2.Resource, len(known))
		for k, step := range known {
			room[k].Type, room[k].Id = step.Type, step.ID
			path = append(path, &room[k])
		}
		return path, i, nil
	}
	return nil, 0, unknownResource(checker.Resource{Type: given[0].GetType(), ID: given[0].GetId()})
}

// within reports whether all given resources are on a path, in its order.
func within(given []*accessservicev2.Resource, path []checker.Resource) bool {
	for _, step := range path {
		if len(given) > 0 && given[0].GetType() == step.Type && given[0].GetId() == step.ID {
			given = given[1:]
		}
	}
	return len(given) == 0
}

// folderOf is the folder of a service account; "" when it stands in none.
func (g *graph) folderOf(account string) string {
	path := g.View().Path(checker.Resource{Type: typeServiceAccount, ID: account})
	if len(path) < 2 || path[1].Type != typeFolder {
		return ""
	}
	return path[1].ID
}

// federationOf is the federation that a federated user comes from; "" when it is
// in none.
func (g *graph) federationOf(who checker.Subject) string {
	for _, id := range g.View().Identities(who) {
		if typ, federation, ok := rules.Container(id.ID); ok && id.Type == rules.System && typ == rules.Federation {
			return federation
		}
	}
	return ""
}
