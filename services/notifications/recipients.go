package notifications

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/server"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
)

// recipient is where a notice goes.
type recipient struct {
	channel Channel
	target  string
}

// recipients finds who is told of a notice, each once, and completes its path with
// ids and names (NT-5). Fails: UNAVAILABLE.
func (s *Service) recipients(ctx context.Context, n Notice) ([]recipient, error) {
	ctx = server.AsUnit(ctx)
	var to []recipient
	emails := n.GetAddresses().GetEmails()
	if a := n.GetAudience(); a != nil {
		people, hooks, err := s.audience(ctx, n, a)
		if err != nil {
			return nil, err
		}
		found, err := s.addresses(ctx, people)
		if err != nil {
			return nil, err
		}
		to, emails = hooks, append(found, a.GetAlso()...)
	}
	if err := s.name(ctx, n.GetPath()); err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(emails))
	for _, email := range emails {
		if folded := strings.ToLower(email); !seen[folded] {
			seen[folded] = true
			to = append(to, recipient{Mail, email})
		}
	}
	return to, nil
}

// audience finds the people and webhooks that are told of a resource: its owners
// (NT-1, NT-2), and the subscribers of it and of what it lies in (NT-2, NT-3). The
// owners of a resource that is gone are those whom the notice names.
func (s *Service) audience(ctx context.Context, n Notice, a *notificationv1.Audience) (people []string, hooks []recipient, err error) {
	owners := a.GetOwners()
	resp, err := s.access.GetAudience(ctx, &accessv1.GetAudienceRequest{Resource: a.GetResource()})
	switch {
	case apierr.CodeOf(err) == codes.NotFound:
	case err != nil:
		return nil, nil, apierr.FromRPC(err)
	default:
		n.Path = whole(n.GetPath(), resp.GetPath())
		if len(owners) == 0 {
			owners = resp.GetOwners()
		}
	}
	for _, who := range slices.Concat(owners, a.GetPeople()) {
		people = append(people, who.GetId())
	}
	users, hooks, err := s.subscribed(ctx, n)
	return append(people, users...), hooks, err
}

// subscribed finds the people and webhooks that are subscribers of something on the
// path of a notice. People who have left the organization are told nothing.
func (s *Service) subscribed(ctx context.Context, n Notice) (users []string, hooks []recipient, err error) {
	var on []Ref
	for _, at := range n.GetPath() {
		on = append(on, Ref{at.GetType(), at.GetId()})
	}
	found, err := s.store.SubscribersAmong(ctx, s.store.db, on)
	if err != nil {
		return nil, nil, err
	}
	var candidates []*accessv1.Subject
	for _, sub := range found {
		switch {
		case sub.UserID != "":
			candidates = append(candidates, &accessv1.Subject{Type: authn.UserAccount, Id: sub.UserID})
		case !sub.Disabled && sub.wants(n.GetEvent()):
			hooks = append(hooks, recipient{Webhook, sub.ID})
		}
	}
	if len(candidates) == 0 {
		return nil, hooks, nil
	}
	root := n.GetPath()[0] // it outlives what is below it
	resp, err := s.access.GetAudience(ctx, &accessv1.GetAudienceRequest{
		Resource: &accessv1.Resource{Type: root.GetType(), Id: root.GetId()}, Candidates: candidates,
	})
	if apierr.CodeOf(err) == codes.NotFound {
		return nil, hooks, nil // the organization is gone, and with it everybody's membership
	}
	if err != nil {
		return nil, nil, apierr.FromRPC(err)
	}
	for _, who := range resp.GetMembers() {
		users = append(users, who.GetId())
	}
	return users, hooks, nil
}

// whole is a path as the tree has it, the organization first, with the names that the
// notice brought.
func whole(told []*notificationv1.PathElement, tree []*accessv1.Resource) []*notificationv1.PathElement {
	names := make(map[string]string, len(told))
	for _, at := range told {
		names[at.GetId()] = at.GetName()
	}
	path := make([]*notificationv1.PathElement, 0, len(tree))
	for _, r := range slices.Backward(tree) {
		path = append(path, &notificationv1.PathElement{Type: r.GetType(), Id: r.GetId(), Name: names[r.GetId()]})
	}
	return path
}

// directoryBatch is how many subjects the directory is asked about at once.
const directoryBatch = 1000

// addresses reads the mail addresses of those people who may act.
func (s *Service) addresses(ctx context.Context, people []string) ([]string, error) {
	slices.Sort(people)
	var emails []string
	for batch := range slices.Chunk(slices.Compact(people), directoryBatch) {
		resp, err := s.directory.BatchGetSubjects(ctx, &identityv1.BatchGetSubjectsRequest{Ids: batch})
		if err != nil {
			return nil, fmt.Errorf("look up people: %w", apierr.FromRPC(err))
		}
		for _, who := range resp.GetSubjects() {
			if who.GetState() == identityv1.SubjectEntry_ACTIVE && who.GetEmail() != "" {
				emails = append(emails, who.GetEmail())
			}
		}
	}
	return emails, nil
}

// name fills in the names of organizations, clouds and folders that a path lacks.
func (s *Service) name(ctx context.Context, path []*notificationv1.PathElement) error {
	var nameless []string
	for _, at := range path {
		if at.GetName() == "" && slices.Contains(named, at.GetType()) {
			nameless = append(nameless, at.GetId())
		}
	}
	if len(nameless) == 0 {
		return nil
	}
	resp, err := s.names.BatchGetResourceNames(ctx, &brmv1.BatchGetResourceNamesRequest{Ids: nameless})
	if err != nil {
		return fmt.Errorf("look up names: %w", apierr.FromRPC(err))
	}
	for _, at := range path {
		if at.GetName() == "" {
			at.Name = resp.GetNames()[at.GetId()]
		}
	}
	return nil
}

// Types of resources that have names and subscribers.
const (
	typeOrganization = "organization-manager.organization"
	typeCloud        = "resource-manager.cloud"
	typeFolder       = "resource-manager.folder"
)

var named = []string{typeOrganization, typeCloud, typeFolder}
