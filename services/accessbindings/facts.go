package accessbindings

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Types of resources that this unit knows by name.
const (
	typeOrganization   = rules.Organization
	typeBillingAccount = "billing.account"
	typeServiceAccount = "iam.serviceAccount"
	typeGroup          = "organization-manager.group"
	typeCloud          = rules.Cloud
	typeFolder         = "resource-manager.folder"
)

// Ref names a resource, or a container of subjects, which is one as well.
type Ref struct{ Type, ID string }

// Subject names who can hold a role or be a member.
type Subject struct{ Type, ID string }

// State is the state of a subject.
type State = accessv1.SetSubjectRequest_State

// States of a subject; one that nobody ever made known has none of them.
const (
	stateUnknown   = accessv1.SetSubjectRequest_STATE_UNSPECIFIED
	stateActive    = accessv1.SetSubjectRequest_ACTIVE
	stateSuspended = accessv1.SetSubjectRequest_SUSPENDED
	stateDeleted   = accessv1.SetSubjectRequest_DELETED
)

// Source is one reason why a pair is in force. End is in microseconds UTC, 0 for
// none.
type Source struct {
	Kind accessv1.Source_Kind
	ID   string
	End  int64
}

// Pair is one role for one subject.
type Pair struct {
	Role    string
	Subject Subject
}

// Binding is a pair on a resource with all its sources. Number is its place in
// listings.
type Binding struct {
	Pair
	Number  int64
	Sources []Source
}

// current reports whether the source counts at a time.
func (s Source) current(now int64) bool { return s.End == 0 || s.End > now }

// inForce reports whether one source counts at a time (a pair stays in force
// while one source remains).
func (b Binding) inForce(now int64) bool {
	for _, s := range b.Sources {
		if s.current(now) {
			return true
		}
	}
	return false
}

// stays reports whether one source has no end: such a holder of an owner role is
// one who remains (OW-1).
func (b Binding) stays() bool {
	for _, s := range b.Sources {
		if s.End == 0 {
			return true
		}
	}
	return false
}

func refOf(r *accessv1.Resource) Ref { return Ref{Type: r.GetType(), ID: r.GetId()} }

func (r Ref) proto() *accessv1.Resource {
	if r == (Ref{}) {
		return nil
	}
	return &accessv1.Resource{Type: r.Type, Id: r.ID}
}

func subjectOf(s *accessv1.Subject) Subject { return Subject{Type: s.GetType(), ID: s.GetId()} }

func (s Subject) proto() *accessv1.Subject { return &accessv1.Subject{Type: s.Type, Id: s.ID} }

// proto shows the sources that count at a time, and the end of the last of them.
func (b Binding) proto(now int64) *accessv1.AccessBinding {
	m := &accessv1.AccessBinding{RoleId: b.Role, Subject: b.Subject.proto()}
	var last int64
	for _, s := range b.Sources {
		if s.current(now) {
			m.Sources = append(m.Sources, &accessv1.Source{Kind: s.Kind, Id: s.ID, ExpiresAt: stamp(s.End)})
			last = max(last, s.End)
		}
	}
	if !b.stays() {
		m.ExpiresAt = stamp(last)
	}
	return m
}

// stamp is a stored time as a message; nil for none.
func stamp(micros int64) *timestamppb.Timestamp {
	if micros == 0 {
		return nil
	}
	return timestamppb.New(sqldb.Time(micros))
}

// micros is a message's time as it is stored; 0 for none.
func micros(t *timestamppb.Timestamp) int64 {
	if t == nil {
		return 0
	}
	return sqldb.Micros(t.AsTime())
}

// nowMicros is a clock's time as it is stored.
func nowMicros(now func() time.Time) int64 { return sqldb.Micros(now()) }
