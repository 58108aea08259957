package accessbindings

import (
	"sort"
	"time"

	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"
)

// maxTail bounds the changes that are kept for followers, which otherwise read them
// from the log.
const maxTail = 1 << 16

// tail is the newest revisions, as followers are sent them. The zero tail keeps none.
type tail struct {
	on      bool
	base    int64      // the revision before the first of them
	entries []followed // of consecutive revisions
	changes int        // in all of them
}

// followed is one revision.
type followed struct {
	revision int64
	line     string        // the write that made it
	at       time.Duration // when this process had it
	changes  []scoped
}

// scoped is a change with the organizations that it is about.
type scoped struct {
	checker.Change
	in     string   // of the resource or container that it is about; "" for none
	from   string   // of a resource that is moved: where it stood before
	moved  bool     // the resource stood in a tree before
	within *nesting // of a binding or a membership of a container's members
}

// nesting names a container whose members are given something, and its organization.
type nesting struct {
	container Ref
	in        string
}

// add appends a revision and drops the oldest beyond the bound.
func (t *tail) add(e followed) {
	if !t.on {
		return
	}
	t.entries, t.changes = append(t.entries, e), t.changes+len(e.changes)
	drop := 0
	for drop < len(t.entries) && t.changes > maxTail {
		t.changes -= len(t.entries[drop].changes)
		t.base = t.entries[drop].revision
		drop++
	}
	if drop > 0 {
		t.entries = append([]followed(nil), t.entries[drop:]...)
	}
	if len(t.entries) == 0 {
		t.base = e.revision
	}
}

// after returns the revisions after one; ok is false when the tail does not reach back
// to it. Nobody changes what it returns.
func (t *tail) after(revision int64) (entries []followed, ok bool) {
	if !t.on || revision < t.base {
		return nil, false
	}
	at := sort.Search(len(t.entries), func(i int) bool { return t.entries[i].revision > revision })
	return t.entries[at:len(t.entries):len(t.entries)], true
}

// since is when this process had a revision, which it has by now; 0 for one that is
// older than the tail.
func (t *tail) since(revision int64, now time.Duration) time.Duration {
	switch entries, ok := t.after(revision - 1); {
	case !ok:
		return 0
	case len(entries) == 0: // it is in the graph, and about to come here
		return now
	default:
		return entries[0].at
	}
}

// scope says which organizations a change is about. in finds that of a resource, from
// that of one that is moved, by where it stood.
func scope(c checker.Change, in func(checker.Resource) string, from string, moved bool) scoped {
	s := scoped{Change: c}
	switch f := c.(type) {
	case checker.Place:
		s.in, s.from, s.moved = in(f.Resource), from, moved
	case checker.Remove:
		s.in = in(f.Resource)
	case checker.Bind:
		s.in = in(f.Resource)
		s.within = nestingOf(f.Subject, in)
	case checker.Unbind:
		s.in = in(f.Resource)
	case checker.Deny:
		s.in = in(f.Resource)
	case checker.Undeny:
		s.in = in(f.Resource)
	case checker.Pay:
		s.in = in(f.For)
	case checker.Join:
		s.in = in(f.Container)
		s.within = nestingOf(f.Subject, in)
	case checker.Leave:
		s.in = in(f.Container)
	case checker.SetSubject:
		if c, ok := containerOf(f.Subject); ok {
			s.in = in(checker.Resource(c))
		}
	}
	return s
}

// containerOf is the container whose members a subject stands for; ok is false for
// those that are themselves, and for the public groups.
func containerOf(who checker.Subject) (Ref, bool) {
	switch who.Type {
	case rules.Group:
		return Ref{typeGroup, who.ID}, true
	case rules.System:
		typ, id, ok := rules.Container(who.ID)
		return Ref{typ, id}, ok
	default:
		return Ref{}, false
	}
}

func nestingOf(who checker.Subject, in func(checker.Resource) string) *nesting {
	c, ok := containerOf(who)
	if !ok {
		return nil
	}
	return &nesting{container: c, in: in(checker.Resource(c))}
}

// rootIn is the organization that a resource stands in, by one view or else by another;
// "" for none.
func rootIn(views ...*checker.View) func(checker.Resource) string {
	return func(r checker.Resource) string {
		for _, v := range views {
			if path := v.Path(r); path != nil {
				if root := path[len(path)-1]; root.Type == typeOrganization {
					return root.ID
				}
				return ""
			}
		}
		return ""
	}
}

// scopes says what a revision is about, by the graph before and after it.
func scopes(before, after *checker.View, facts []checker.Change) []scoped {
	in, was := rootIn(after, before), rootIn(before)
	all := make([]scoped, len(facts))
	for i, c := range facts {
		from, moved := "", false
		if p, ok := c.(checker.Place); ok && before.Path(p.Resource) != nil {
			from, moved = was(p.Resource), true
		}
		all[i] = scope(c, in, from, moved)
	}
	return all
}

// picker picks the facts that decide in one organization, and nothing else: those about
// its tree; about the members of its containers, and of those of other organizations that
// something was given to in it (foreign); and about every subject that acts and every
// token, since wherever they are known, active and not void, the public groups give them
// what is given to all.
type picker struct {
	organization string // "" for all facts
	foreign      map[Ref]bool
}

// pick reports whether a follower is sent a change; anew that it has to begin with a
// snapshot, since facts that it has not been sent decide from now on, or that others
// decide no more.
func (p *picker) pick(s scoped) (send, anew bool) {
	if p.organization == "" {
		return true, false
	}
	mine := s.in == p.organization
	switch f := s.Change.(type) {
	case checker.Revoke, checker.Stop: // a payer of another organization may pay in this one
		return true, false
	case checker.SetSubject:
		c, stands := containerOf(f.Subject)
		return !stands || mine || p.foreign[c], false
	case checker.Place:
		return mine, s.moved && mine != (s.from == p.organization)
	case checker.Remove:
		return mine || p.foreign[Ref(f.Resource)] || s.in == "" && f.Resource.Type == typeServiceAccount, false
	case checker.Join:
		mine = mine || p.foreign[Ref(f.Container)]
		return mine, mine && p.strange(s.within)
	case checker.Leave:
		return mine || p.foreign[Ref(f.Container)], false
	case checker.Bind:
		return mine, mine && p.strange(s.within)
	default:
		return mine, false
	}
}

// strange reports whether the members of a container are not followed yet.
func (p *picker) strange(n *nesting) bool {
	return n != nil && n.in != p.organization && !p.foreign[n.container]
}
