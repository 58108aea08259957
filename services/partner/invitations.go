package partner

import (
	"context"
	"database/sql"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/email"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// ListIncomingInvitations lists the invitations to the caller that wait for an answer,
// oldest first. What was sent before there was an account of the address is the
// caller's from now on.
func (s *subaccounts) ListIncomingInvitations(ctx context.Context, req *partnerv1.ListIncomingInvitationsRequest) (*partnerv1.ListIncomingInvitationsResponse, error) {
	address, err := s.signIn(ctx)
	if err != nil || address == "" {
		return new(partnerv1.ListIncomingInvitationsResponse), err
	}
	scope := []string{"incoming invitations", authn.FromContext(ctx).ID}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	all, err := s.store.InvitedCustomers(ctx, address, after, size+1)
	if err != nil {
		return nil, err
	}
	fit, next, err := onPage(s.Service, all, size, func(c Customer) page.Position { return c.position() },
		func(c Customer) int { return proto.Size(c.invitation("")) + maxName }, scope...)
	if err != nil {
		return nil, err
	}
	resp := &partnerv1.ListIncomingInvitationsResponse{NextPageToken: next}
	names := make(map[string]string)
	for _, c := range fit {
		if _, known := names[c.PartnerID]; !known {
			partner, err := s.store.Account(ctx, s.store.db, c.PartnerID)
			if err != nil {
				return nil, err
			}
			names[c.PartnerID] = partner.Name
		}
		resp.Invitations = append(resp.Invitations, c.invitation(names[c.PartnerID]))
	}
	return resp, nil
}

// signIn turns the roles that wait for the address of the caller into bindings (PT-20),
// and returns that address, folded; "" for a caller who has none, such as a service
// account.
func (s *Service) signIn(ctx context.Context) (string, error) {
	p := authn.FromContext(ctx)
	if p.Type != authn.UserAccount {
		return "", nil
	}
	resp, err := s.directory.BatchGetSubjects(server.AsUnit(ctx), &identityv1.BatchGetSubjectsRequest{Ids: []string{p.ID}})
	if err != nil {
		return "", fmt.Errorf("look the caller up: %w", apierr.FromRPC(err))
	}
	if len(resp.GetSubjects()) == 0 || resp.GetSubjects()[0].GetEmail() == "" {
		return "", nil
	}
	address := email.Fold(resp.GetSubjects()[0].GetEmail())
	pending, err := s.store.PendingOf(ctx, s.store.db, address)
	if err != nil {
		return "", err
	}
	byAccount := make(map[string][]PendingRole)
	var accounts []string
	for _, r := range pending {
		if byAccount[r.AccountID] == nil {
			accounts = append(accounts, r.AccountID)
		}
		byAccount[r.AccountID] = append(byAccount[r.AccountID], r)
	}
	for _, accountID := range accounts {
		if err := s.redeem(ctx, p, accountID, address, byAccount[accountID]); err != nil {
			return "", err
		}
	}
	return address, nil
}

// redeem gives a user the roles on one account that wait for the user's address. A role
// whose giver may not give it any more is dropped. The tree knows the bindings before
// the waiting ends: a repetition changes nothing.
func (s *Service) redeem(ctx context.Context, p authn.Principal, accountID, address string, roles []PendingRole) error {
	a, err := s.store.Account(ctx, s.store.db, accountID)
	if apierr.CodeOf(err) == codes.NotFound || err == nil && a.Phase != Living {
		return nil
	}
	if err != nil {
		return err
	}
	var given []string
	for _, r := range roles {
		still, err := s.give(ctx, p.ID, a, r)
		if err != nil {
			return err
		}
		if still {
			given = append(given, r.RoleID)
		}
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		n, err := s.store.DeletePending(ctx, tx, a.ID, address)
		if err != nil || n == 0 {
			return err
		}
		return s.record(ctx, tx, a, event{name: eventUserSignIn, status: audit.Done, details: map[string]any{"role_ids": given}})
	})
}

// give gives a user a pending role, by the rights that its giver has now (AS-1, AS-3,
// AS-7). false is for one that the giver may not give any more.
func (s *Service) give(ctx context.Context, userID string, a Account, r PendingRole) (bool, error) {
	req := &accessv1.UpdateAutomaticBindingsRequest{Resource: treeResource(a.resource()), Add: addBinding(nil, r.RoleID, userID)}
	if r.GivenBy != "" { // else it is the platform
		if r.RoleID != roleMember {
			req.Add = addBinding(req.GetAdd(), roleMember, userID) // AS-20: whichever of the roles comes first
		}
		resp, err := s.directory.BatchGetSubjects(server.AsUnit(ctx), &identityv1.BatchGetSubjectsRequest{Ids: []string{r.GivenBy}})
		if err != nil {
			return false, fmt.Errorf("look up who gave a role: %w", apierr.FromRPC(err))
		}
		if len(resp.GetSubjects()) == 0 {
			return false, nil
		}
		req.Giver = &accessv1.Subject{Type: resp.GetSubjects()[0].GetType(), Id: r.GivenBy}
	}
	_, err := s.tree.UpdateAutomaticBindings(server.AsUnit(ctx), req)
	switch code := apierr.CodeOf(err); {
	case err == nil:
		return true, nil
	case req.GetGiver() != nil && (code == codes.PermissionDenied || code == codes.InvalidArgument):
		return false, nil
	default:
		return false, fmt.Errorf("give roles on %s: %w", a.ID, apierr.FromRPC(err))
	}
}
