package accessbindings

import (
	"fmt"

	"github.com/bindery-iam/bindery/pkg/checker"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// fact is an entry of the log as the graph takes it; nil for an entry that changes
// no fact.
func fact(c *accessv1.Change) (checker.Change, error) {
	switch f := c.GetFact().(type) {
	case *accessv1.Change_ResourcePlaced:
		return checker.Place{Resource: resourceFact(f.ResourcePlaced.GetResource()), Parent: resourceFact(f.ResourcePlaced.GetParent())}, nil
	case *accessv1.Change_ResourceRemoved:
		return checker.Remove{Resource: resourceFact(f.ResourceRemoved.GetResource())}, nil
	case *accessv1.Change_BindingChanged:
		return bindingFact(f.BindingChanged), nil
	case *accessv1.Change_SubjectChanged:
		return checker.SetSubject{
			Subject: subjectFact(f.SubjectChanged.GetSubject()), State: stateFact(f.SubjectChanged.GetState()),
		}, nil
	case *accessv1.Change_MemberChanged:
		m := f.MemberChanged
		if m.GetMember() {
			return checker.Join{Container: resourceFact(m.GetContainer()), Subject: subjectFact(m.GetSubject())}, nil
		}
		return checker.Leave{Container: resourceFact(m.GetContainer()), Subject: subjectFact(m.GetSubject())}, nil
	case *accessv1.Change_TokenRevoked:
		return checker.Revoke{
			Token: checker.TokenID(f.TokenRevoked.GetTokenId()), Until: micros(f.TokenRevoked.GetExpiresAt()),
		}, nil
	case nil:
		return nil, nil
	default:
		return nil, fmt.Errorf("entry %s of the change log is not known", kindOf(c))
	}
}

// bindingFact folds the sources of a pair: it holds until the last of them ends.
func bindingFact(c *accessv1.BindingChanged) checker.Change {
	on, who, role := resourceFact(c.GetResource()), subjectFact(c.GetBinding().GetSubject()), c.GetBinding().GetRoleId()
	sources := c.GetBinding().GetSources()
	if len(sources) == 0 {
		return checker.Unbind{Resource: on, Subject: who, Role: role}
	}
	ends := make([]int64, len(sources))
	for i, s := range sources {
		ends[i] = micros(s.GetExpiresAt())
	}
	return checker.Bind{Resource: on, Subject: who, Role: role, Until: checker.Last(ends...)}
}

func resourceFact(r *accessv1.Resource) checker.Resource { return checker.Resource(refOf(r)) }

func subjectFact(s *accessv1.Subject) checker.Subject { return checker.Subject(subjectOf(s)) }

func stateFact(s State) checker.State {
	switch s {
	case stateActive:
		return checker.Active
	case stateSuspended:
		return checker.Suspended
	case stateDeleted:
		return checker.Deleted
	default:
		return checker.Unknown
	}
}
