package checker

import "slices"

// policies are the bindings of access policies that bear on one resource. They are
// never written again once they are in place.
type policies struct {
	own   []denial // bound on it: they hold on it and on all below it (AP-2)
	below []denial // bound on its children, and holding on it alone (AP-8)
	bill  *bill    // what it pays for, and who pays for it (PT-30); nil for nothing
}

// denial is what one binding of an access policy denies.
type denial struct {
	policy      string
	on          uint32 // that it is bound on
	permissions bits
	onParent    bits // nil for nothing
}

// deniedBy reports whether one of the policies denies the permission, and notes
// those that do.
func (w *walk) deniedBy(denials []denial) bool {
	denied := false
	for i := range denials {
		if denials[i].permissions.has(w.permission) {
			denied = true
			if w.trail != nil {
				w.trail.denials = append(w.trail.denials, &denials[i])
			}
		}
	}
	return denied
}

// PolicyAbove returns the nearest resource on which an access policy is bound,
// beginning with the one given; false when there is none, or no whole path.
func (v *View) PolicyAbove(policy string, r Resource) (Resource, bool) {
	for _, on := range v.Path(r) {
		number := v.resources.find(name(on))
		l, n := v.node(number)
		if slices.ContainsFunc(l.policies(n, number).ownOnes(), func(d denial) bool { return d.policy == policy }) {
			return on, true
		}
	}
	return Resource{}, false
}

func (c Deny) apply(d *draft) error {
	self := d.resource(c.Resource)
	l, n := d.node(self)
	bound := denial{policy: c.Policy, on: self, permissions: d.bits(c.Permissions)}
	if len(c.OnParent) > 0 {
		bound.onParent = d.bits(c.OnParent)
	}
	d.bind(self, l, n, append(l.policies(n, self).others(c.Policy), bound))
	return nil
}

func (c Undeny) apply(d *draft) error {
	self := d.resource(c.Resource)
	l, n := d.node(self)
	d.bind(self, l, n, l.policies(n, self).others(c.Policy))
	return nil
}

// bits is the set of those of the permissions that the catalogue knows.
func (d *draft) bits(permissions []string) bits {
	set := newBits(len(d.view.rules.holders))
	for _, permission := range permissions {
		if p, known := d.view.rules.permissions[permission]; known {
			set.add(p)
		}
	}
	return set
}

// others returns a copy of the policies bound on a resource, all but one.
func (p *policies) others(policy string) []denial {
	return slices.DeleteFunc(slices.Clone(p.ownOnes()), func(d denial) bool { return d.policy == policy })
}

// bind puts policies in place of those that were bound on a resource.
func (d *draft) bind(self uint32, l *nodes, n *node, own []denial) {
	d.sink(self, l, n)
	l.setPolicies(n, self, own, l.policies(n, self).belowOnes())
	d.lift(self, l, n)
}

// lift has the policies of a resource hold on its parent as far as they say so, and
// sink takes that back. Whoever changes the parent or the policies of a resource
// sinks before and lifts after.
func (d *draft) lift(self uint32, l *nodes, n *node) {
	mine := l.policies(n, self)
	if n.parent == 0 || !mine.reachUp() {
		return
	}
	pl, p := d.node(n.parent)
	below := slices.Clone(pl.policies(p, n.parent).belowOnes())
	for _, own := range mine.own {
		if own.onParent != nil {
			below = append(below, denial{policy: own.policy, on: self, permissions: own.onParent})
		}
	}
	pl.setPolicies(p, n.parent, pl.policies(p, n.parent).ownOnes(), below)
}

func (d *draft) sink(self uint32, l *nodes, n *node) {
	if n.parent == 0 || !l.policies(n, self).reachUp() {
		return
	}
	pl, p := d.node(n.parent)
	theirs := pl.policies(p, n.parent)
	pl.setPolicies(p, n.parent, theirs.ownOnes(), slices.DeleteFunc(slices.Clone(theirs.belowOnes()), func(b denial) bool { return b.on == self }))
}

// reachUp reports whether one of the policies denies something on the parent.
func (p *policies) reachUp() bool {
	return slices.ContainsFunc(p.ownOnes(), func(d denial) bool { return d.onParent != nil })
}

func (p *policies) ownOnes() []denial {
	if p == nil {
		return nil
	}
	return p.own
}

func (p *policies) belowOnes() []denial {
	if p == nil {
		return nil
	}
	return p.below
}

func (l *nodes) setPolicies(n *node, number uint32, own, below []denial) {
	var kept *bill
	if p := l.policies(n, number); p != nil {
		kept = p.bill
	}
	l.putPolicies(n, number, own, below, kept)
}

func (l *nodes) putPolicies(n *node, number uint32, own, below []denial, b *bill) {
	var set *policies
	if len(own)+len(below) > 0 || b != nil {
		set = &policies{own: own, below: below, bill: b}
	}
	if set != nil || n.rare {
		l.setRare(n, number, func(r *rare) { r.policies = set })
	}
}
