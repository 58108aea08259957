package request

import (
	"testing"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

// The whole table of states, read a second time: rows are states, columns actions.
var table = map[State]map[Action]State{
	Pending:  {Post: Pending, Approve: Approved, Reject: Rejected, Cancel: Canceled, Expire: Expired},
	Approved: {Post: Approved, Plead: Approved, Revoke: Revoked, Expire: Expired},
	Rejected: {Post: Rejected},
	Revoked:  {Post: Revoked},
	Canceled: {Post: Canceled},
	Expired:  {Post: Expired},
}

func TestEveryWay(t *testing.T) {
	for _, s := range States {
		for _, a := range Actions {
			want, way := table[s][a]
			if next, ok := s.Next(a); ok != way || next != want {
				t.Errorf("%s by %s: %q %v, want %q %v", s, a, next, ok, want, way)
			}
		}
		if s.Live() != (s == Pending || s == Approved) {
			t.Errorf("%s is live: %v", s, s.Live())
		}
	}
}

func TestGridPermits(t *testing.T) {
	g := Grid{
		Requester: {Cancel: {Pending}},
		Decider:   {Approve: {Pending, Approved}}, // the second is no way, and stays none
	}
	for _, c := range []struct {
		side   Side
		action Action
		in     State
		reason string
	}{
		{Requester, Cancel, Pending, ""},
		{Requester, Cancel, Approved, ReasonState},
		{Requester, Approve, Pending, ReasonNotAllowed},
		{Decider, Approve, Pending, ""},
		{Decider, Approve, Approved, ReasonState},
		{Decider, Cancel, Pending, ReasonNotAllowed},
		{Platform, Revoke, Approved, ReasonNotAllowed},
		{System, Revoke, Approved, ""},
		{System, Revoke, Pending, ReasonState},
		{"nobody", Approve, Pending, ReasonNotAllowed},
	} {
		if err := g.Permit(c.side, c.action, c.in); (err == nil) != (c.reason == "") || err != nil && apierr.ReasonOf(err) != c.reason {
			t.Errorf("%s %s in %s: %v, want %q", c.side, c.action, c.in, err, c.reason)
		}
	}
}
