package accessbindings

import (
	"context"

	"github.com/bindery-iam/bindery/services/accessbindings/rules"
)

// known says which subjects can be given something: accounts and groups that were
// made known and not deleted, public groups, and system groups whose container
// stands in the tree.
func (on *state) known(ctx context.Context, subjects []Subject) (map[Subject]bool, error) {
	states, err := on.states(ctx, on.tx, subjects)
	if err != nil {
		return nil, err
	}
	known := make(map[Subject]bool, len(subjects))
	for _, who := range subjects {
		switch {
		case who.Type != rules.System:
			s := states[who]
			known[who] = s == stateActive || s == stateSuspended
		case rules.Public(who.ID):
			known[who] = true
		default:
			typ, id, _ := rules.Container(who.ID)
			if known[who], err = on.stands(ctx, Ref{typ, id}); err != nil {
				return nil, err
			}
		}
	}
	return known, nil
}

// stands reports whether a resource is in the tree.
func (on *state) stands(ctx context.Context, r Ref) (bool, error) {
	n, found, err := on.node(ctx, on.tx, r)
	return found && !n.Removed, err
}

// home is the organization in which a service account lives, as a resource of the
// tree with the id of the subject; "" for other subjects.
func (on *state) home(ctx context.Context, who Subject) (string, error) {
	if who.Type != rules.ServiceAccount {
		return "", nil
	}
	path, err := on.path(ctx, on.tx, Ref{typeServiceAccount, who.ID})
	return organizationOf(path), err
}
