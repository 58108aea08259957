package accessbindings

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/bindery-iam/bindery/pkg/notice"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// told are the events of which the owners and subscribers of a resource of a type are
// told (NT-1).
type told struct{ ownerAdded, ownerRemoved, policyBound string }

var tellsOf = map[string]told{
	typeOrganization: {notice.OrganizationOwnerAdded, notice.OrganizationOwnerRemoved, notice.OrganizationPolicyBound},
	typeCloud:        {notice.CloudOwnerAdded, notice.CloudOwnerRemoved, notice.CloudPolicyBound},
}

// happened is one event on one resource, and whom it is about.
type happened struct {
	event    string
	on       Ref
	subjects []Subject
	template string
}

// tell enqueues, in the transaction of a write, the notices of what it changes that
// people are told of: owners of organizations and clouds, and access policies on them.
// It is called before the changes are stored, since it looks at what was. What
// goes with a deleted subject or resource is told by whoever deletes that.
func (c *committer) tell(ctx context.Context, on *state, p plan, writeID string) error {
	if c.outbox == nil || !c.outbox.Reaches() {
		return nil
	}
	events, err := on.happens(ctx, p.changes)
	if err != nil {
		return err
	}
	for _, h := range events {
		path, err := on.path(ctx, on.tx, h.on)
		if err != nil {
			return err
		}
		if err := c.outbox.Enqueue(ctx, on.tx, h.notice(path, writeID)); err != nil {
			return err
		}
	}
	return nil
}

// happens finds the events among changes that are not stored yet.
func (s *state) happens(ctx context.Context, changes []*accessv1.Change) ([]happened, error) {
	var all []happened
	for _, c := range changes {
		h, err := s.happensBy(ctx, c)
		if err != nil {
			return nil, err
		}
		if h.event == "" || slices.ContainsFunc(changes, func(c *accessv1.Change) bool { return refOf(c.GetResourcePlaced().GetResource()) == h.on }) {
			continue // whoever makes a resource knows that it is theirs
		}
		same := func(o happened) bool { return o.event == h.event && o.on == h.on && o.template == h.template }
		if i := slices.IndexFunc(all, same); i >= 0 {
			all[i].subjects = append(all[i].subjects, h.subjects...)
			continue
		}
		all = append(all, h)
	}
	return all, nil
}

// happensBy is the event of one change; without one its event is empty.
func (s *state) happensBy(ctx context.Context, c *accessv1.Change) (h happened, err error) {
	if b := c.GetBindingChanged(); b != nil {
		h.on = refOf(b.GetResource())
		role := b.GetBinding().GetRoleId()
		if ownerRoles[h.on.Type] != role {
			return happened{}, nil
		}
		who := subjectOf(b.GetBinding().GetSubject())
		before, err := s.bindingsOn(ctx, s.tx, h.on, []string{role})
		if err != nil {
			return happened{}, err
		}
		was := slices.ContainsFunc(before, func(b Binding) bool { return b.Subject == who && b.inForce(s.now) })
		is := len(b.GetBinding().GetSources()) > 0
		if was == is {
			return happened{}, nil
		}
		h.event, h.subjects = tellsOf[h.on.Type].ownerRemoved, []Subject{who}
		if is {
			h.event = tellsOf[h.on.Type].ownerAdded
		}
	}
	if b := c.GetPolicyBound(); b != nil {
		h.on, h.template = refOf(b.GetResource()), b.GetTemplateId()
		bound, err := s.policyBound(ctx, s.tx, h.on, h.template)
		if err != nil || bound {
			return happened{}, err
		}
		h.event = tellsOf[h.on.Type].policyBound
	}
	return h, nil
}

// notice is what people are told. Whom it is about is told as well: one that is an owner
// no more would learn nothing otherwise.
func (h happened) notice(path []Ref, writeID string) *notificationv1.Notice {
	kind := h.on.Type[strings.LastIndexByte(h.on.Type, '.')+1:]
	names := make([]string, len(h.subjects))
	audience := &notificationv1.Audience{Resource: h.on.proto()}
	for i, who := range h.subjects {
		names[i] = who.Type + " " + who.ID
		audience.People = append(audience.People, who.proto())
	}
	n := &notificationv1.Notice{
		Id: notice.ID(h.event, writeID, h.on.ID), Event: h.event, Details: map[string]string{},
		Recipients: &notificationv1.Notice_Audience{Audience: audience},
	}
	switch {
	case h.template != "":
		n.Id += ":" + h.template
		n.Title = fmt.Sprintf("An access policy was bound to a %s", kind)
		n.Text = fmt.Sprintf("The access policy %s denies from now on what it says, on the %s %s and on everything below, to owners as well.", h.template, kind, h.on.ID)
		n.Details["access_policy_template_id"] = h.template
	case h.event == tellsOf[h.on.Type].ownerAdded:
		n.Title = fmt.Sprintf("A %s has new owners", kind)
		n.Text = fmt.Sprintf("Owner of the %s %s from now on: %s.", kind, h.on.ID, strings.Join(names, ", "))
	default:
		n.Title = fmt.Sprintf("A %s has lost owners", kind)
		n.Text = fmt.Sprintf("Owner of the %s %s no more: %s.", kind, h.on.ID, strings.Join(names, ", "))
	}
	if len(names) > 0 {
		n.Details["subjects"] = cutText(strings.Join(names, ","), 1024)
	}
	n.Text = cutText(n.Text, 10000)
	for _, at := range slices.Backward(path) {
		n.Path = append(n.Path, &notificationv1.PathElement{Type: at.Type, Id: at.ID})
	}
	return n
}

// cutText cuts a text of names to what a field takes.
func cutText(text string, most int) string {
	if len(text) > most {
		return strings.ToValidUTF8(text[:most-3], "") + "…"
	}
	return text
}
