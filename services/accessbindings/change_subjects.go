package accessbindings

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// errSubjectDeleted is the refusal for a subject that is to come back.
var errSubjectDeleted = apierr.Precondition("SUBJECT_DELETED", "a deleted subject does not come back")

// setSubject is the intent of SetSubject.
type setSubject struct {
	subject Subject
	standing
	catalog *roleBook
	record  *audit.Record
}

func (in *setSubject) plan(ctx context.Context, on *state) (plan, error) {
	old, err := on.standingOf(ctx, on.tx, in.subject)
	is := in.standing
	if is.Version == 0 {
		is.Version = old.Version
	}
	switch {
	case err != nil:
		return plan{}, err
	case old == is, old.State == stateDeleted && is.State == stateDeleted, is.Version < old.Version:
		return plan{}, nil
	case old.State == stateDeleted:
		return plan{}, errSubjectDeleted.Withf("%s:%s is deleted", in.subject.Type, in.subject.ID)
	}
	if old.lasts() && !is.lasts() {
		if err := on.mayCease(ctx, in.catalog, in.subject); err != nil {
			return plan{}, err
		}
	}
	changes := []*accessv1.Change{standingChange(in.subject, is)}
	return plan{changes: changes, record: onPath(in.record, nil, changes)}, nil
}

// mayCease checks that a subject which is to last no longer is nowhere the last owner
// (OW-1): one that is suspended or ends by itself cannot keep what it owns.
func (on *state) mayCease(ctx context.Context, catalog *roleBook, who Subject) error {
	holdings, err := on.heldBy(ctx, on.tx, who)
	if err != nil {
		return err
	}
	return on.ownersRemain(ctx, catalog, who, holdings)
}

// ownersRemain checks that a subject which loses what it holds is nowhere the last
// owner.
func (on *state) ownersRemain(ctx context.Context, catalog *roleBook, who Subject, holdings []held) error {
	for _, h := range holdings {
		role, _ := catalog.role(h.Role)
		if role.Owns != h.On.Type {
			continue
		}
		owners, err := on.bindingsOn(ctx, on.tx, h.On, []string{h.Role})
		if err != nil {
			return err
		}
		lasting, err := on.lasting(ctx, h.On, owners)
		if err != nil {
			return err
		}
		before, after := 0, 0
		for _, b := range owners {
			if b.stays() && lasting[b.Subject] {
				before++
				if b.Subject != who {
					after++
				}
			}
		}
		if err := rules.OwnerRemains(role, h.On.Type, before, after); err != nil {
			if e, ok := apierr.As(err); ok {
				return e.WithMeta("resourceType", h.On.Type, "resourceId", h.On.ID)
			}
			return err
		}
	}
	return nil
}

// revokeTokens is the intent of RevokeToken and RevokeSessions. What is void already
// stays so.
type revokeTokens struct {
	tokens []*accessv1.TokenRevoked
	record *audit.Record
}

func (in *revokeTokens) plan(ctx context.Context, on *state) (plan, error) {
	var changes []*accessv1.Change
	planned := map[string]bool{}
	for _, t := range in.tokens {
		done, err := on.revoked(ctx, on.tx, t.GetTokenId())
		if err != nil {
			return plan{}, err
		}
		if done || planned[string(t.GetTokenId())] {
			continue
		}
		planned[string(t.GetTokenId())] = true
		changes = append(changes, &accessv1.Change{Fact: &accessv1.Change_TokenRevoked{TokenRevoked: t}})
	}
	if len(changes) == 0 {
		return plan{}, nil
	}
	return plan{changes: changes, record: onPath(in.record, nil, changes)}, nil
}

func subjectChange(who Subject, state State) *accessv1.Change {
	return standingChange(who, standing{State: state})
}

func standingChange(who Subject, s standing) *accessv1.Change {
	return &accessv1.Change{Fact: &accessv1.Change_SubjectChanged{
		SubjectChanged: &accessv1.SubjectChanged{Subject: who.proto(), State: s.State, ExpiresAt: stamp(s.End), Version: s.Version},
	}}
}
