// Package facts writes the facts of package checker as messages of
// bindery.access.v1, and reads them back: what the log of changes holds and what
// ChangeService sends.
package facts

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/checker"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Policy is what a template of access policies denies (AP-1, AP-8).
type Policy struct {
	Denies   []string
	OnParent []string
}

// Decode returns a change as a graph takes it; nil for one that changes no fact.
// policy finds a template by its id: one that is not found could not be enforced, and
// is an error, as is a change of a kind that is not known.
func Decode(c *accessv1.Change, policy func(id string) (Policy, bool)) (checker.Change, error) {
	switch f := c.GetFact().(type) {
	case *accessv1.Change_ResourcePlaced:
		return checker.Place{Resource: Resource(f.ResourcePlaced.GetResource()), Parent: Resource(f.ResourcePlaced.GetParent())}, nil
	case *accessv1.Change_ResourceRemoved:
		return checker.Remove{Resource: Resource(f.ResourceRemoved.GetResource())}, nil
	case *accessv1.Change_BindingChanged:
		return binding(f.BindingChanged), nil
	case *accessv1.Change_SubjectChanged:
		return checker.SetSubject{
			Subject: Subject(f.SubjectChanged.GetSubject()), State: State(f.SubjectChanged.GetState()),
			Until: micros(f.SubjectChanged.GetExpiresAt()),
		}, nil
	case *accessv1.Change_MemberChanged:
		m := f.MemberChanged
		if m.GetMember() {
			return checker.Join{Container: Resource(m.GetContainer()), Subject: Subject(m.GetSubject())}, nil
		}
		return checker.Leave{Container: Resource(m.GetContainer()), Subject: Subject(m.GetSubject())}, nil
	case *accessv1.Change_TokenRevoked:
		if n := len(f.TokenRevoked.GetTokenId()); n != len(checker.TokenID{}) {
			return nil, fmt.Errorf("a token id of %d bytes", n)
		}
		return checker.Revoke{
			Token: checker.TokenID(f.TokenRevoked.GetTokenId()), Until: micros(f.TokenRevoked.GetExpiresAt()),
		}, nil
	case *accessv1.Change_PolicyBound:
		on, id := Resource(f.PolicyBound.GetResource()), f.PolicyBound.GetTemplateId()
		p, ok := policy(id)
		if !ok {
			return nil, fmt.Errorf("the access policy %s is bound on %s %s, and this program does not know it", id, on.Type, on.ID)
		}
		return checker.Deny{Resource: on, Policy: id, Permissions: p.Denies, OnParent: p.OnParent}, nil
	case *accessv1.Change_PolicyUnbound:
		return checker.Undeny{Resource: Resource(f.PolicyUnbound.GetResource()), Policy: f.PolicyUnbound.GetTemplateId()}, nil
	case *accessv1.Change_PayerSet:
		return checker.Pay{For: Resource(f.PayerSet.GetResource()), Payer: Resource(f.PayerSet.GetPayer())}, nil
	case *accessv1.Change_PayerStopped:
		return stop(f.PayerStopped, policy)
	case *accessv1.Change_GroupChanged, *accessv1.Change_GrantEnded, *accessv1.Change_GrantPolicyChanged, *accessv1.Change_GrantPolicyRemoved, nil:
		return nil, nil
	default:
		return nil, fmt.Errorf("a change of kind %T is not known", f)
	}
}

// stop reads what a stopped payer takes away, which is the catalogue's.
func stop(f *accessv1.PayerStopped, policy func(id string) (Policy, bool)) (checker.Change, error) {
	c := checker.Stop{Payer: Resource(f.GetPayer()), Stopped: f.GetStopped()}
	if c.Stopped {
		p, ok := policy(checker.PayerStopped)
		if !ok {
			return nil, fmt.Errorf("%s %s is stopped, and this program does not know what that takes away", c.Payer.Type, c.Payer.ID)
		}
		c.Permissions = p.Denies
	}
	return c, nil
}

// binding folds the sources of a pair: it holds until the last of them ends.
func binding(c *accessv1.BindingChanged) checker.Change {
	on, who, role := Resource(c.GetResource()), Subject(c.GetBinding().GetSubject()), c.GetBinding().GetRoleId()
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

// Encode returns the message of a change: what Decode reads the same change from, and
// nothing else.
func Encode(c checker.Change) (*accessv1.Change, error) {
	switch f := c.(type) {
	case checker.Place:
		placed := &accessv1.ResourcePlaced{Resource: resource(f.Resource), Parent: resource(f.Parent)}
		return &accessv1.Change{Fact: &accessv1.Change_ResourcePlaced{ResourcePlaced: placed}}, nil
	case checker.Remove:
		return &accessv1.Change{Fact: &accessv1.Change_ResourceRemoved{ResourceRemoved: &accessv1.ResourceRemoved{Resource: resource(f.Resource)}}}, nil
	case checker.Bind:
		b := &accessv1.AccessBinding{RoleId: f.Role, Subject: subject(f.Subject), Sources: []*accessv1.Source{{ExpiresAt: stamp(f.Until)}}}
		return &accessv1.Change{Fact: &accessv1.Change_BindingChanged{BindingChanged: &accessv1.BindingChanged{Resource: resource(f.Resource), Binding: b}}}, nil
	case checker.Unbind:
		b := &accessv1.AccessBinding{RoleId: f.Role, Subject: subject(f.Subject)}
		return &accessv1.Change{Fact: &accessv1.Change_BindingChanged{BindingChanged: &accessv1.BindingChanged{Resource: resource(f.Resource), Binding: b}}}, nil
	case checker.SetSubject:
		set := &accessv1.SubjectChanged{Subject: subject(f.Subject), State: accessv1.SetSubjectRequest_State(f.State), ExpiresAt: stamp(f.Until)}
		return &accessv1.Change{Fact: &accessv1.Change_SubjectChanged{SubjectChanged: set}}, nil
	case checker.Join:
		return member(f.Container, f.Subject, true), nil
	case checker.Leave:
		return member(f.Container, f.Subject, false), nil
	case checker.Revoke:
		revoked := &accessv1.TokenRevoked{TokenId: f.Token[:], ExpiresAt: stamp(f.Until)}
		return &accessv1.Change{Fact: &accessv1.Change_TokenRevoked{TokenRevoked: revoked}}, nil
	case checker.Deny:
		bound := &accessv1.PolicyBound{Resource: resource(f.Resource), TemplateId: f.Policy}
		return &accessv1.Change{Fact: &accessv1.Change_PolicyBound{PolicyBound: bound}}, nil
	case checker.Undeny:
		unbound := &accessv1.PolicyUnbound{Resource: resource(f.Resource), TemplateId: f.Policy}
		return &accessv1.Change{Fact: &accessv1.Change_PolicyUnbound{PolicyUnbound: unbound}}, nil
	case checker.Pay:
		set := &accessv1.PayerSet{Resource: resource(f.For), Payer: resource(f.Payer)}
		return &accessv1.Change{Fact: &accessv1.Change_PayerSet{PayerSet: set}}, nil
	case checker.Stop:
		stopped := &accessv1.PayerStopped{Payer: resource(f.Payer), Stopped: f.Stopped}
		return &accessv1.Change{Fact: &accessv1.Change_PayerStopped{PayerStopped: stopped}}, nil
	default:
		return nil, fmt.Errorf("a change of type %T has no message", c)
	}
}

func member(in checker.Resource, who checker.Subject, is bool) *accessv1.Change {
	m := &accessv1.MemberChanged{Container: resource(in), Subject: subject(who), Member: is}
	return &accessv1.Change{Fact: &accessv1.Change_MemberChanged{MemberChanged: m}}
}

// Resource reads the name of a resource.
func Resource(r *accessv1.Resource) checker.Resource {
	return checker.Resource{Type: r.GetType(), ID: r.GetId()}
}

// Subject reads the name of a subject.
func Subject(s *accessv1.Subject) checker.Subject {
	return checker.Subject{Type: s.GetType(), ID: s.GetId()}
}

// State reads the state of a subject; one that is not known is Unknown.
func State(s accessv1.SetSubjectRequest_State) checker.State {
	switch s {
	case accessv1.SetSubjectRequest_ACTIVE:
		return checker.Active
	case accessv1.SetSubjectRequest_SUSPENDED:
		return checker.Suspended
	case accessv1.SetSubjectRequest_DELETED:
		return checker.Deleted
	default:
		return checker.Unknown
	}
}

func resource(r checker.Resource) *accessv1.Resource {
	if r == (checker.Resource{}) {
		return nil
	}
	return &accessv1.Resource{Type: r.Type, Id: r.ID}
}

func subject(s checker.Subject) *accessv1.Subject { return &accessv1.Subject{Type: s.Type, Id: s.ID} }

// micros is a time as the graph has it; 0 for none.
func micros(t *timestamppb.Timestamp) int64 {
	if t == nil {
		return 0
	}
	return t.AsTime().UnixMicro()
}

func stamp(micros int64) *timestamppb.Timestamp {
	if micros == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMicro(micros))
}
