package accessbindings

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// graph is the checker's graph of one line of the store, with what callers wait
// for. The committer alone changes it.
type graph struct {
	*checker.Graph
	catalog *catalog.Catalog
	epoch   int64
	broken  atomic.Pointer[apierr.Error]
	asked   checks

	mu   sync.Mutex
	next chan struct{} // closed when a revision is applied
}

func newGraph(c *catalog.Catalog, epoch int64) *graph {
	roles, permissions := c.Matrix()
	return &graph{
		Graph:   checker.New(checker.Roles{Permissions: permissions, Roles: roles}),
		catalog: c, epoch: epoch, asked: newChecks(), next: make(chan struct{}),
	}
}

// apply makes a committed revision visible and wakes those who wait for it.
func (g *graph) apply(revision int64, changes []*accessv1.Change) error {
	facts := make([]checker.Change, 0, len(changes))
	for _, c := range changes {
		f, err := fact(c)
		if err != nil {
			return err
		}
		if f != nil {
			facts = append(facts, f)
		}
	}
	if err := g.Apply(revision, facts...); err != nil {
		return err
	}
	g.wake()
	return nil
}

// wake lets those who wait look again.
func (g *graph) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.next)
	g.next = make(chan struct{})
}

// await returns when the graph has a revision.
func (g *graph) await(ctx context.Context, revision int64) error {
	for {
		g.mu.Lock()
		next := g.next
		g.mu.Unlock()
		if g.Revision() >= revision {
			return nil
		}
		if err := g.fault(); err != nil {
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
	return g.fault()
}

// fault is the refusal of a graph that failed; nil for a sound one.
func (g *graph) fault() error {
	if e := g.broken.Load(); e != nil {
		return e
	}
	return nil
}

// mayAct refuses a void token and a subject that is unknown, suspended or deleted.
func (g *graph) mayAct(who checker.Subject, token checker.TokenID) error {
	if err := g.fault(); err != nil {
		return err
	}
	v := g.View()
	switch {
	case v.TokenRevoked(token):
		return errRevoked
	case v.State(who) != checker.Active:
		return errInactive
	default:
		return nil
	}
}

// decide is nil for yes.
func (g *graph) decide(q checker.Query) error {
	if err := g.fault(); err != nil {
		g.asked.unavailable.Inc()
		return err
	}
	d := g.Decide(q)
	switch d.Reason {
	case checker.Granted:
		g.asked.allowed.Inc()
		return nil
	case checker.TokenRevoked:
		g.asked.unauthenticated.Inc()
		return errRevoked
	case checker.SubjectInactive, checker.SubjectUnknown:
		if q.Token != (checker.TokenID{}) {
			g.asked.unauthenticated.Inc()
			return errInactive
		}
	case checker.ResourceUnknown, checker.ResourceDeleted:
		g.asked.notFound.Inc()
		return unknownResource(q.Resource)
	case checker.PermissionUnknown:
		g.asked.invalid.Inc()
		return apierr.InvalidField("permission", "%q is not in the catalogue", q.Permission)
	case checker.NoGrant, checker.DeniedByPolicy:
	}
	g.asked.denied.Inc()
	return authz.Denied(q.Permission, authz.Resource(q.Resource))
}

// unknownResource is the denial for a resource that the tree does not know: a
// denial, so that a caller who only asks yes or no needs no case for it.
func unknownResource(r checker.Resource) error {
	return apierr.Denied(apierr.ReasonResourceNotFound, "%s %q not found", r.Type, r.ID).
		WithMeta("resourceType", r.Type, "resourceId", r.ID)
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
