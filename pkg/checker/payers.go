package checker

import "slices"

// PayerStopped is the policy that Explain names for what a stopped payer takes away.
// Nobody binds it: it follows from Pay and Stop.
const PayerStopped = "billing.payerStopped"

// Pay says who pays for a resource: another resource, or nobody when that is the zero
// value. A resource has one payer at most.
type Pay struct{ For, Payer Resource }

// Stop says whether a payer is stopped. While it is, nobody has these permissions on
// what it pays for and on all below that (PT-30), owners neither. It is one fact,
// however much the payer pays for; Permissions are those of a stopped one, all others
// being none.
type Stop struct {
	Payer       Resource
	Stopped     bool
	Permissions []string
}

// bill is what one resource has to do with paying. It is never written again once it is
// in place.
type bill struct {
	payer   uint32   // who pays for it, 0 for nobody
	pays    []uint32 // what it pays for
	stopped bits     // as a payer: what it takes away; nil unless it is stopped
}

// billOf is that of a resource to read.
func (d *draft) billOf(number uint32) bill {
	l, n := d.node(number)
	if p := l.policies(n, number); p != nil && p.bill != nil {
		return *p.bill
	}
	return bill{}
}

func (d *draft) setBill(number uint32, b bill) {
	l, n := d.node(number)
	var set *bill
	if b.payer != 0 || len(b.pays) > 0 || b.stopped != nil {
		set = &b
	}
	p := l.policies(n, number)
	l.putPolicies(n, number, p.ownOnes(), p.belowOnes(), set)
}

func (c Pay) apply(d *draft) error {
	self, payer := d.resource(c.For), uint32(0)
	if c.Payer != (Resource{}) {
		payer = d.resource(c.Payer)
	}
	mine := d.billOf(self)
	if mine.payer == payer {
		return nil
	}
	if mine.payer != 0 {
		before := d.billOf(mine.payer)
		before.pays = slices.DeleteFunc(slices.Clone(before.pays), func(n uint32) bool { return n == self })
		d.setBill(mine.payer, before)
	}
	if payer != 0 {
		now := d.billOf(payer)
		now.pays = append(slices.Clone(now.pays), self)
		d.setBill(payer, now)
	}
	mine = d.billOf(self) // a resource may pay for itself
	mine.payer = payer
	d.setBill(self, mine)
	d.follow(self)
	return nil
}

func (c Stop) apply(d *draft) error {
	payer := d.resource(c.Payer)
	b := d.billOf(payer)
	b.stopped = nil
	if c.Stopped {
		b.stopped = d.bits(c.Permissions)
	}
	d.setBill(payer, b)
	for _, paid := range b.pays {
		d.follow(paid)
	}
	return nil
}

// follow has a resource deny what its payer takes away, as a policy bound on it does.
func (d *draft) follow(self uint32) {
	l, n := d.node(self)
	if n.standing == removed {
		return
	}
	own := l.policies(n, self).others(PayerStopped)
	if payer := d.billOf(self).payer; payer != 0 {
		if stopped := d.billOf(payer).stopped; stopped != nil {
			own = append(own, denial{policy: PayerStopped, on: self, permissions: stopped})
		}
	}
	l, n = d.node(self)
	d.bind(self, l, n, own)
}
