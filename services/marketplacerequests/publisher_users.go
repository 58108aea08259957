package marketplacerequests

import (
	"context"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/email"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/server"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// addedRoles are what whoever is added to a publisher gets (MR-16). The first opens
// nothing by itself (MR-17).
var addedRoles = []string{"marketplace.publishers.member", "marketplace.publishers.viewer"}

// AddPublisherUsers is MR-16: people are added by their addresses, all of them or none,
// and become members and viewers. accessbindings makes the change with the token of
// the caller, whose rights it judges again. Fails: USER_NOT_FOUND.
func (s *publishers) AddPublisherUsers(ctx context.Context, req *marketplacev1.AddPublisherUsersRequest) (*operationpb.Operation, error) {
	found, err := s.directory.FindUsers(server.AsUnit(ctx), &identityv1.FindUsersRequest{Emails: req.GetUsers()})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	ids := make(map[string]string, len(found.GetUsers()))
	for _, u := range found.GetUsers() {
		ids[email.Fold(u.GetEmail())] = u.GetId()
	}
	update := &accessv1.UpdateAccessBindingsRequest{Resource: &accessv1.Resource{Type: typePublisher, Id: req.GetPublisherId()}}
	for i, address := range req.GetUsers() {
		userID := ids[email.Fold(address)]
		if userID == "" {
			e := *errUserNotFound
			e.Fields = []apierr.Field{{Name: fmt.Sprintf("users[%d]", i), Message: e.Message}}
			return nil, &e
		}
		for _, role := range addedRoles {
			update.AccessBindingDeltas = append(update.AccessBindingDeltas, &accessv1.AccessBindingDelta{
				Action:        accesspb.AccessBindingAction_ADD,
				AccessBinding: &accessv1.AccessBinding{RoleId: role, Subject: &accessv1.Subject{Type: "userAccount", Id: userID}},
			})
		}
	}
	op, err := s.bindings.UpdateAccessBindings(idempotency.PassOn(ctx), update)
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	return op, nil
}
