package request

import (
	"slices"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

// State is where a request stands.
type State string

// States. Those after Approved are final.
const (
	Pending  State = "PENDING"
	Approved State = "APPROVED"
	Rejected State = "REJECTED"
	Revoked  State = "REVOKED"
	Canceled State = "CANCELED"
	Expired  State = "EXPIRED" // nobody decided in time, or what was given for a time has ended
)

// States are all of them.
var States = []State{Pending, Approved, Rejected, Revoked, Canceled, Expired}

// Live reports whether a request in this state keeps its requester from another one.
func (s State) Live() bool { return s == Pending || s == Approved }

// Action is what can be done with a request.
type Action string

// Actions.
const (
	Post    Action = "post" // a message
	Approve Action = "approve"
	Reject  Action = "reject"
	Cancel  Action = "cancel"
	Plead   Action = "plead" // ask that it be revoked
	Revoke  Action = "revoke"
	Expire  Action = "expire"
)

// Actions are all of them.
var Actions = []Action{Post, Approve, Reject, Cancel, Plead, Revoke, Expire}

// ways are all ways from state to state. An action that stands with its own state
// changes none.
var ways = map[Action]map[State]State{
	Post:    {Pending: Pending, Approved: Approved, Rejected: Rejected, Revoked: Revoked, Canceled: Canceled, Expired: Expired},
	Approve: {Pending: Approved},
	Reject:  {Pending: Rejected},
	Cancel:  {Pending: Canceled},
	Plead:   {Approved: Approved},
	Revoke:  {Approved: Revoked},
	Expire:  {Pending: Expired, Approved: Expired},
}

// Next is the state to which an action leads from a state; ok is false where there is
// no way.
func (s State) Next(a Action) (next State, ok bool) {
	next, ok = ways[a][s]
	return next, ok
}

// outcome is the state in which an action leaves a request, "" when that is the state
// it finds.
func (a Action) outcome() State {
	switch a {
	case Approve:
		return Approved
	case Reject:
		return Rejected
	case Cancel:
		return Canceled
	case Revoke:
		return Revoked
	case Expire:
		return Expired
	default:
		return ""
	}
}

// Side is a party to a request.
type Side string

// Sides.
const (
	Requester Side = "requester"
	Decider   Side = "decider"
	Platform  Side = "platform" // whoever runs the installation
	System    Side = "system"   // the unit by itself: it may take every way that there is
)

// Grid says in which states a side may take an action. What is not in it is not
// allowed.
type Grid map[Side]map[Action][]State

// Permit says whether a side may take an action in a state. Fails: ACTION_NOT_ALLOWED
// for an action that is not the side's in any state, REQUEST_STATE for one that is, in
// another.
func (g Grid) Permit(side Side, a Action, in State) error {
	_, way := in.Next(a)
	if side == System {
		if !way {
			return stateError(a, in)
		}
		return nil
	}
	states := g[side][a]
	switch {
	case len(states) == 0:
		return errNotAllowed.Withf("the %s of a request cannot %s it", side, a)
	case !way || !slices.Contains(states, in):
		return stateError(a, in)
	}
	return nil
}

// Reasons of refusals.
const (
	ReasonNotFound   = "REQUEST_NOT_FOUND"
	ReasonExists     = "REQUEST_EXISTS"
	ReasonState      = "REQUEST_STATE"
	ReasonNotAllowed = "ACTION_NOT_ALLOWED"
	ReasonOwn        = "OWN_REQUEST"
)

var (
	errNotFound   = apierr.NotFound(ReasonNotFound, "there is no such request")
	errExists     = apierr.AlreadyExists(ReasonExists, "there is a live request of the same subject for the same thing")
	errState      = apierr.Precondition(ReasonState, "the state of the request does not allow it")
	errNotAllowed = apierr.Denied(ReasonNotAllowed, "the action is another side's")
	errOwn        = apierr.Denied(ReasonOwn, "nobody decides a request of their own")
)

func stateError(a Action, in State) error {
	return errState.Withf("the request is %s: no %s is possible", in, a).WithMeta("state", string(in), "action", string(a))
}
