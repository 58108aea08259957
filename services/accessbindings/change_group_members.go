package accessbindings

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// errAmbiguous is the refusal for an id that subjects of several types share, so that
// it does not say which of them is to be let in.
var errAmbiguous = apierr.Precondition("SUBJECT_AMBIGUOUS", "the id is that of several subjects")

// errContradiction is the refusal for a subject that is to come and to go.
var errContradiction = func() *apierr.Error {
	e := apierr.Invalid()
	e.Reason, e.Message = "DELTAS_CONTRADICT", "the same subject is both added and removed"
	return e
}()

// updateGroupMembers is the intent of GroupService.UpdateMembers. The ids are
// those that it adds and removes, each once.
type updateGroupMembers struct {
	groupCall
	id     string
	add    []string
	remove []string
	fields map[string]string // path in the request, by id, for refusals
	limits limits
}

// take reads the deltas of a request: an id that stands twice counts once (AB-6),
// one that comes and goes is refused.
func (in *updateGroupMembers) take(deltas []*orgv1.MemberDelta) error {
	in.fields = make(map[string]string, len(deltas))
	adds := make(map[string]bool, len(deltas))
	for i, d := range deltas {
		field, who := fmt.Sprintf("member_deltas[%d]", i), d.GetSubjectId()
		add := d.GetAction() == orgv1.MemberDelta_ADD
		if !add && d.GetAction() != orgv1.MemberDelta_REMOVE {
			return apierr.InvalidField(field+".action", "must be ADD or REMOVE")
		}
		if before, again := adds[who]; again {
			if before != add {
				return named(errContradiction.Withf("%q both comes and goes", who), field)
			}
			continue
		}
		adds[who], in.fields[who] = add, field+".subject_id"
		if add {
			in.add = append(in.add, who)
		} else {
			in.remove = append(in.remove, who)
		}
	}
	return nil
}

// membersDetails are the details of the audit record.
type membersDetails struct {
	GroupID string        `json:"group_id"`
	Deltas  []memberDelta `json:"member_deltas"` // the effective ones
}

type memberDelta struct {
	Action      string `json:"action"`
	SubjectType string `json:"subject_type"`
	SubjectID   string `json:"subject_id"`
}

func (in *updateGroupMembers) plan(ctx context.Context, on *state) (plan, error) {
	g, path, err := in.open(ctx, on, in.id, permitUpdateMembers)
	if err != nil {
		return plan{}, err
	}
	there, err := on.membersNamed(ctx, on.tx, g.ref(), slices.Concat(in.add, in.remove))
	if err != nil {
		return plan{}, err
	}
	var going []Subject
	for _, id := range in.remove {
		going = append(going, there[id]...)
	}
	coming, err := in.coming(ctx, on, g, there)
	if err != nil {
		return plan{}, err
	}
	if err := in.mayGain(ctx, on, g, coming); err != nil {
		return plan{}, err
	}
	if err := in.room(ctx, on, g, coming, len(going)); err != nil {
		return plan{}, err
	}
	details := membersDetails{GroupID: g.ID, Deltas: []memberDelta{}}
	var changes []*accessv1.Change
	for _, who := range going {
		changes = append(changes, memberChange(g.ref(), who, false))
		details.Deltas = append(details.Deltas, memberDelta{"REMOVE", who.Type, who.ID})
	}
	for _, who := range coming {
		changes = append(changes, memberChange(g.ref(), who, true))
		details.Deltas = append(details.Deltas, memberDelta{"ADD", who.Type, who.ID})
	}
	return in.result(g.ref(), g.Name, path, changes, new(emptypb.Empty), details), nil
}

// coming are the subjects, service accounts too (C-6), of the added ids that are no members yet and may be.
func (in *updateGroupMembers) coming(ctx context.Context, on *state, g Group, there map[string][]Subject) ([]Subject, error) {
	ids := slices.DeleteFunc(slices.Clone(in.add), func(id string) bool { return len(there[id]) > 0 })
	named, err := on.subjectsNamed(ctx, on.tx, ids)
	if err != nil {
		return nil, err
	}
	subjects := make([]Subject, 0, len(ids))
	for _, id := range ids {
		switch who := named[id]; len(who) {
		case 0:
			return nil, in.at(id, apierr.NotFound(ReasonSubjectNotFound, "subject %q not found", id))
		case 1:
			subjects = append(subjects, who[0])
		default:
			return nil, in.at(id, errAmbiguous.Withf("%q is the id of several subjects", id))
		}
	}
	local, err := on.locals(ctx, g.OrganizationID, subjects)
	if err != nil {
		return nil, err
	}
	for _, who := range subjects {
		if err := rules.MayJoin(rules.Subject{Type: who.Type, ID: who.ID}, local[who]); err != nil {
			return nil, in.at(who.ID, err)
		}
		if who.Type == rules.Group {
			if err := on.mayNest(ctx, g.ref(), who); err != nil {
				return nil, in.at(who.ID, err)
			}
		}
	}
	return subjects, nil
}

// at names the field of the request that a refusal is about.
func (in *updateGroupMembers) at(id string, err error) error { return named(err, in.fields[id]) }

// room checks the limits of the group and of those who come (QL).
func (in *updateGroupMembers) room(ctx context.Context, on *state, g Group, coming []Subject, going int) error {
	if len(coming) == 0 {
		return nil
	}
	n, err := on.countMembers(ctx, on.tx, g.ref())
	if err != nil {
		return err
	}
	if err := in.limits.room(groupBound(g.ID), n-int64(going), int64(len(coming))); err != nil {
		return err
	}
	counts, err := on.countMemberships(ctx, on.tx, typeGroup, coming)
	if err != nil {
		return err
	}
	for _, who := range coming {
		if err := in.limits.room(groupsOfBound(who.ID), counts[who], 1); err != nil {
			return in.at(who.ID, err)
		}
	}
	return nil
}

// groupBound bounds the members of a group.
func groupBound(group string) ceiling {
	return ceiling{catalog.QuotaGroupMembers, quota.Resource{Type: typeGroup, ID: group}}
}

// groupsOfBound bounds the groups in which a subject is.
func groupsOfBound(subject string) ceiling {
	return ceiling{catalog.QuotaSubjectGroups, quota.Subject(subject)}
}

// locals says which subjects belong to an organization (RH-6): users who are its
// members or those of a federation or user pool of it, groups that stand in it and
// service accounts that live in it.
func (on *state) locals(ctx context.Context, organization string, subjects []Subject) (map[Subject]bool, error) {
	root := Ref{typeOrganization, organization}
	local, err := on.areMembers(ctx, on.tx, root, subjects)
	if err != nil {
		return nil, err
	}
	view := on.graph.View()
	here := func(typ, id string) bool {
		path := view.Path(checker.Resource{Type: typ, ID: id})
		return len(path) > 0 && path[len(path)-1] == checker.Resource(root)
	}
	for _, who := range subjects {
		switch who.Type {
		case rules.Group:
			local[who] = here(typeGroup, who.ID)
		case rules.ServiceAccount:
			local[who] = here(typeServiceAccount, who.ID)
		default:
			if local[who] {
				continue
			}
			containers, err := on.containersOf(ctx, on.tx, who, "")
			if err != nil {
				return nil, err
			}
			local[who] = slices.ContainsFunc(containers, func(c Ref) bool {
				return slices.Contains(subjectContainers, c.Type) && here(c.Type, c.ID)
			})
		}
	}
	return local, nil
}
