package notifications

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// pageRequest is what the list requests of all kinds of resources have in common.
type pageRequest interface {
	GetPageSize() int64
	GetPageToken() string
}

// listSubscribers reads one page of the subscribers of a resource (NT-3, NM-7).
func (s *Service) listSubscribers(ctx context.Context, on Ref, req pageRequest) ([]*notificationv1.Subscriber, string, error) {
	scope := []string{"subscribers", on.Type, on.ID}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(req.GetPageSize())
	found, err := s.store.SubscribersOf(ctx, s.store.db, on, after, size+1)
	if err != nil {
		return nil, "", err
	}
	all := make([]*notificationv1.Subscriber, len(found))
	for i, sub := range found {
		all[i] = sub.proto()
	}
	fit := page.Fit(min(len(all), size), func(i int) int { return proto.Size(all[i]) })
	if fit == len(all) {
		return all, "", nil
	}
	token, err := s.pages.Seal(found[fit-1].position(), scope...)
	return all[:fit], token, err
}

// wishes are the changes that an update asks for.
type wishes struct {
	users       []string // to add
	remove      []string // users
	subscribers []string // to remove
}

// parseDeltas puts deltas into wishes. The same wish twice is one; a person that is
// added and removed is refused.
func parseDeltas(deltas []*notificationv1.SubscriberDelta) (wishes, error) {
	var w wishes
	add := func(to *[]string, s string) {
		if !slices.Contains(*to, s) {
			*to = append(*to, s)
		}
	}
	for i, d := range deltas {
		adds := d.GetAction() == notificationv1.SubscriberDelta_ADD
		switch {
		case adds && d.GetSubscriberId() != "":
			return w, apierr.InvalidField(fmt.Sprintf("deltas[%d].subscriber_id", i), "is for REMOVE: a person is added by user_id, a webhook by its own method")
		case adds:
			add(&w.users, d.GetUserId())
		case d.GetUserId() != "":
			add(&w.remove, d.GetUserId())
		default:
			add(&w.subscribers, d.GetSubscriberId())
		}
	}
	for i, d := range deltas {
		if slices.Contains(w.users, d.GetUserId()) && slices.Contains(w.remove, d.GetUserId()) {
			return w, apierr.InvalidField(fmt.Sprintf("deltas[%d].user_id", i), "is both added and removed")
		}
	}
	return w, nil
}

// updateSubscribers changes the subscribers of a resource, all or nothing (NT-3).
// Fails: RESOURCE_NOT_FOUND, USER_NOT_IN_ORGANIZATION, TOO_MANY_SUBSCRIBERS.
func (s *Service) updateSubscribers(ctx context.Context, on Ref, deltas []*notificationv1.SubscriberDelta) (*operationpb.Operation, error) {
	w, err := parseDeltas(deltas)
	if err != nil {
		return nil, err
	}
	path, err := s.admit(ctx, on, w.users)
	if err != nil {
		return nil, err
	}
	op, _, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (operation.Operation, error) {
		result, err := s.change(ctx, tx, on, w)
		if err != nil {
			return operation.Operation{}, err
		}
		op, err := s.operations.Insert(ctx, tx, operation.New{
			Resource: authz.Resource{Type: on.Type, ID: on.ID}, ViewPermission: kinds[on.Type].list, Description: "Update subscribers",
			CreatedBy: authn.FromContext(ctx).ID, Response: result,
			Metadata: &notificationv1.UpdateSubscribersMetadata{ResourceType: on.Type, ResourceId: on.ID},
		})
		if err != nil {
			return op, err
		}
		details := map[string]any{"operation_id": op.ID, "added": ids(result.GetAdded()), "removed": result.GetRemovedIds()}
		return op, s.record(ctx, tx, path, details)
	})
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// change makes the changes of an update.
func (s *Service) change(ctx context.Context, tx *sql.Tx, on Ref, w wishes) (*notificationv1.UpdateSubscribersResult, error) {
	there, err := s.lock(ctx, tx, on)
	if err != nil {
		return nil, err
	}
	result := new(notificationv1.UpdateSubscribersResult)
	for _, sub := range there {
		if slices.Contains(w.subscribers, sub.ID) || sub.UserID != "" && slices.Contains(w.remove, sub.UserID) {
			if err := s.store.DeleteSubscriber(ctx, tx, sub.ID); err != nil {
				return nil, err
			}
			result.RemovedIds = append(result.RemovedIds, sub.ID)
		}
	}
	for _, userID := range w.users {
		sub := s.subscriber(ctx, on)
		sub.UserID = userID
		known, err := s.store.InsertSubscriber(ctx, tx, sub)
		if err != nil {
			return nil, err
		}
		if !known {
			result.Added = append(result.Added, sub.proto())
		}
	}
	if len(there)+len(result.GetAdded())-len(result.GetRemovedIds()) > maxSubscribers {
		return nil, errTooManySubscribers
	}
	return result, nil
}

// lock keeps others from changing the subscribers of a resource until the transaction
// ends, and reads them.
func (s *Service) lock(ctx context.Context, tx *sql.Tx, on Ref) ([]Subscriber, error) {
	if err := sqldb.Lock(ctx, s.store.db, tx, "subscribers of "+on.Type+" "+on.ID); err != nil {
		return nil, err
	}
	return s.store.SubscribersOf(ctx, tx, on, page.Position{}, maxSubscribers+1)
}

// subscriber is a new one, made by the caller.
func (s *Service) subscriber(ctx context.Context, on Ref) Subscriber {
	return Subscriber{ID: id.New(id.Subscriber), On: on, CreatedBy: authn.FromContext(ctx).ID, CreatedAt: s.now()}
}

// admit reads the path of a resource, the resource first, and refuses people who are
// not active members of its organization. Fails: RESOURCE_NOT_FOUND,
// USER_NOT_IN_ORGANIZATION.
func (s *Service) admit(ctx context.Context, on Ref, users []string) ([]*accessv1.Resource, error) {
	req := &accessv1.GetAudienceRequest{Resource: &accessv1.Resource{Type: on.Type, Id: on.ID}}
	for _, userID := range users {
		req.Candidates = append(req.Candidates, &accessv1.Subject{Type: authn.UserAccount, Id: userID})
	}
	resp, err := s.access.GetAudience(server.AsUnit(ctx), req)
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	for _, userID := range users {
		if !slices.ContainsFunc(resp.GetMembers(), func(m *accessv1.Subject) bool { return m.GetId() == userID }) {
			return nil, errNotInOrganization(userID)
		}
	}
	return resp.GetPath(), nil
}

func ids(all []*notificationv1.Subscriber) []string {
	names := make([]string, len(all))
	for i, sub := range all {
		names[i] = sub.GetId()
	}
	return names
}

// write makes one write of a request in a transaction, once for each idempotency
// key. again says that fn was not run, and that the operation is the one of the first
// time.
func (s *Service) write(ctx context.Context, fn func(context.Context, *sql.Tx) (operation.Operation, error)) (op operation.Operation, again bool, err error) {
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		var opID string
		opID, again, err = s.keys.Operation(ctx, tx, func() (string, error) {
			op, err = fn(ctx, tx)
			return op.ID, err
		})
		if err == nil && again {
			op, err = s.operations.GetIn(ctx, tx, opID)
		}
		return err
	})
	return op, again, err
}
