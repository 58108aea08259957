package main

import (
	"cmp"
	"context"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
	"google.golang.org/grpc"
)

// caller is one way to call an RPC. in says, by the guard of the RPC, whether it
// must get in; then target is its own, since what it asks for happens.
type caller struct {
	label  string
	conn   grpc.ClientConnInterface
	ctx    context.Context //nolint:containedctx // a row of a table
	target *node
	in     bool
}

// callers are everybody who calls an RPC, with what each of them needs made.
func (w *accessWorld) callers(r rpc) []caller {
	w.t.Helper()
	c := &cast{accessWorld: w, rpc: r}
	if r.on != "" {
		c.parent = w.grow(r.on).parent
	}
	c.shared = c.fresh()
	if r.operator {
		return c.operators()
	}
	c.anonymous()
	c.unitsOf()
	if r.permission != "" {
		c.holders()
	}
	return c.callers
}

// cast gathers the callers of one RPC.
type cast struct {
	*accessWorld
	rpc     rpc
	parent  *node // of every target
	shared  *node // the target of all who are to be refused
	callers []caller
}

// fresh makes a target.
func (c *cast) fresh() *node {
	c.t.Helper()
	if c.rpc.on == "" {
		return &node{w: c.accessWorld}
	}
	n := c.child(c.parent, c.rpc.on)
	if c.rpc.prepare != nil && c.rpc.on.below() != "" {
		n.child = c.child(n, c.rpc.below()) // afterwards it may be too late
	}
	if c.rpc.prepare != nil {
		c.rpc.prepare(n)
	}
	return n
}

// add adds a caller, in or not.
func (c *cast) add(in bool, label string, conn grpc.ClientConnInterface, ctx context.Context) {
	c.t.Helper()
	target := c.shared
	if in {
		target = c.fresh()
	}
	c.callers = append(c.callers, caller{label, conn, ctx, target, in})
}

// anonymous adds those whom no rule but `public` lets in, and a subject without
// any role.
func (c *cast) anonymous() {
	c.t.Helper()
	public, nobody := c.rpc.public, c.t.Context()
	c.add(public, "nobody", c.Conn, nobody)
	c.add(public, "bad token", c.Conn, c.Context("t1.bm90aGluZw."+c.foreigner.token[len(c.foreigner.token)-86:]))
	c.add(public, "revoked token", c.Conn, c.as(c.revoked))
	c.add(public, "suspended subject", c.Conn, c.as(c.suspended))
	c.add(false, "forged unit", c.forged, nobody) // a bad credential of a unit is refused even there
	c.add(public || c.rpc.authenticated, "stranger", c.Conn, c.as(c.person()))
}

// unitsOf adds units: all of them where some are admitted, else one, which on its
// own is nobody and with a user's token no more than that user.
func (c *cast) unitsOf() {
	c.t.Helper()
	names := callingUnits
	if len(c.rpc.units) == 0 {
		names = []string{"resourcemanager"}
	}
	for _, name := range names {
		admitted := c.rpc.public || slices.Contains(c.rpc.units, name)
		c.add(admitted, "unit "+name, c.units[name], c.t.Context())
		c.add(admitted || c.rpc.authenticated, "unit "+name+", token of a stranger", c.units[name], c.as(c.person()))
	}
	if len(c.rpc.units) > 0 && c.rpc.on != "" {
		holds := c.rpc.permission != "" && roles(c.t).holds(ownerRoles[organization], c.rpc.permission)
		c.add(c.rpc.authenticated || holds, "owner of the "+c.shared.kind.word(), c.Conn, c.as(c.shared.owner))
	}
}

// operators adds the caller of the operator socket, and those of the public port,
// where the method does not exist.
func (c *cast) operators() []caller {
	c.t.Helper()
	c.add(true, "operator, over the socket", c.socket, c.t.Context())
	c.add(true, "operator with a bad token, over the socket", c.socket, c.Context("t1.a.b"))
	c.add(false, "nobody", c.Conn, c.t.Context())
	c.add(false, "stranger", c.Conn, c.as(c.person()))
	for _, name := range callingUnits {
		c.add(false, "unit "+name, c.units[name], c.t.Context())
	}
	return c.callers
}

// holders adds those who hold a role somewhere: one that lacks the permission, and
// exactly a minimal one that has it, at every place from which it counts and at
// those from which it does not.
func (c *cast) holders() {
	c.t.Helper()
	k, permission := c.rpc.on, c.rpc.permission
	c.add(false, "owner of another organization", c.Conn, c.as(c.foreigner))

	lacking := roles(c.t).widestLacking(c, k, permission, c.rpc.items, c.rpc.either)
	if lacking != "" { // no role can be set on a federation
		who := c.person()
		c.grant(lacking, c.shared, who)
		c.add(false, "has on it a role without the permission: "+lacking, c.Conn, c.as(who))
	}

	if role := roles(c.t).smallest(c, k, permission); role != "" {
		who := c.person()
		c.add(true, "holds it there by "+role, c.Conn, c.as(who))
		c.grant(role, c.callers[len(c.callers)-1].target, who)
		c.entitle(who)

		who = c.person()
		beside := c.child(c.parent, k)
		c.grant(role, beside, who)
		c.add(false, "holds it beside, on another "+k.word()+", by "+role, c.Conn, c.as(who))
	}
	for _, above := range k.above() {
		role := roles(c.t).smallest(c, above, permission)
		if role == "" {
			continue
		}
		who := c.person()
		c.grant(role, c.shared.up(above), who)
		c.add(true, "holds it above, on the "+above.word()+", by "+role, c.Conn, c.as(who))
		c.entitle(who)
	}
	c.holderBelow()
}

// entitle gives the last caller what the RPC wants of it besides the permission.
func (c *cast) entitle(who person) {
	c.t.Helper()
	if c.rpc.besides != nil {
		c.rpc.besides(c.callers[len(c.callers)-1].target, who)
	}
}

// holderBelow adds who holds the permission on a child: a grant never counts
// upwards, but a list shows whoever lacks its permission the children they may see.
func (c *cast) holderBelow() {
	c.t.Helper()
	below, permission := c.rpc.below(), c.rpc.permission
	if c.rpc.items != "" {
		permission = c.rpc.items
	}
	role := ""
	if below != "" {
		role = roles(c.t).smallest(c, below, permission)
	}
	if role == "" {
		return
	}
	who, label := c.person(), "holds it below, on one "+below.word()+", by "+role
	target := c.shared
	if c.rpc.items != "" {
		label = "may see one " + below.word() + " of it by " + role
		target = c.fresh() // nobody else is to see more or less by it
	}
	child := target.child
	if child == nil {
		child = c.child(target, below)
	}
	c.grant(role, child, who)
	c.callers = append(c.callers, caller{label, c.Conn, c.as(who), target, c.rpc.items != ""})
}

// catalogFile is the text of the catalogue, read here by itself: who holds what
// must not depend on the code that is under test.
type catalogFile struct {
	roles       map[string]fileRole
	permissions map[string]filePermission
	free        []string // methods that need no permission, as the catalogue names them
}

type fileRole struct {
	ID       string   `yaml:"id"`
	Includes []string `yaml:"includes"`
	Implied  []string `yaml:"implied_includes"`
	Count    int      `yaml:"effective_count"`
	AllCount int      `yaml:"effective_count_with_implied"`
}

func (r fileRole) count() int { return max(r.Count, r.AllCount) }

type filePermission struct {
	ID        string   `yaml:"id"`
	CheckedOn string   `yaml:"checked_on"`
	Guards    []string `yaml:"guards"`
	GrantedBy []string `yaml:"granted_by"`
}

var readCatalog = sync.OnceValues(func() (*catalogFile, error) {
	var rs struct {
		Roles []fileRole `yaml:"roles"`
	}
	var ps struct {
		Free []struct {
			Method string `yaml:"method"`
		} `yaml:"no_permission_needed"`
		Permissions []filePermission `yaml:"permissions"`
	}
	for name, into := range map[string]any{"roles.yaml": &rs, "permissions.yaml": &ps} {
		text, err := os.ReadFile("../../../pkg/catalog/" + name)
		if err != nil {
			return nil, err
		}
		if err := yaml.Unmarshal(text, into); err != nil {
			return nil, err
		}
	}
	c := &catalogFile{roles: make(map[string]fileRole), permissions: make(map[string]filePermission)}
	for _, r := range rs.Roles {
		c.roles[r.ID] = r
	}
	for _, p := range ps.Permissions {
		c.permissions[p.ID] = p
	}
	for _, m := range ps.Free {
		c.free = append(c.free, m.Method)
	}
	return c, nil
})

func roles(t testing.TB) *catalogFile {
	t.Helper()
	c, err := readCatalog()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// holds reports whether a role has a permission: it is one of the smallest that
// the catalogue lists for it, or includes one of them.
func (f *catalogFile) holds(role, permission string) bool {
	r := f.roles[role]
	return slices.Contains(f.permissions[permission].GrantedBy, role) ||
		slices.ContainsFunc(slices.Concat(r.Includes, r.Implied), func(in string) bool { return f.holds(in, permission) })
}

// pick returns the first role by an order among those that can be set on a kind
// and are wanted; "" when there is none.
func (f *catalogFile) pick(c *cast, k kind, wanted func(role string) bool, order int) string {
	var found []fileRole
	for id, r := range f.roles {
		if c.catalog.Assignable(id, string(k)) && wanted(id) {
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		return ""
	}
	return slices.MinFunc(found, func(a, b fileRole) int {
		return cmp.Or(order*cmp.Compare(a.count(), b.count()), cmp.Compare(a.ID, b.ID))
	}).ID
}

// smallest is the role with the fewest permissions that has this one.
func (f *catalogFile) smallest(c *cast, k kind, permission string) string {
	return f.pick(c, k, func(role string) bool { return f.holds(role, permission) }, 1)
}

// widestLacking is the role with the most permissions that has none of these.
func (f *catalogFile) widestLacking(c *cast, k kind, permissions ...string) string {
	return f.pick(c, k, func(role string) bool {
		return !slices.ContainsFunc(permissions, func(p string) bool { return p != "" && f.holds(role, p) })
	}, -1)
}
