package partner

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// sweepEvery is how often accesses whose time is over, or whose binding was taken away by
// hand, are noted as such. Nobody is let in from their end on, noted or not.
const sweepEvery = time.Minute

// sweep notes what the time brings: which accesses are over, and which budgets begin.
func (s *Service) sweep(ctx context.Context) error {
	expired := func(ctx context.Context, tx *sql.Tx, r request.Request) error {
		return s.recordAccess(ctx, tx, r, accessEvents[request.Expire], "", "")
	}
	return errors.Join(s.requests.Sweep(ctx, expired), s.endTaken(ctx), s.beginBudgets(ctx))
}

// sweepBatch is how many accesses are looked at at once.
const sweepBatch = 1000

// endTaken looks for accesses whose binding somebody took away by hand.
func (s *Service) endTaken(ctx context.Context) error {
	for after := ""; ; {
		all, err := s.requests.Store.LiveAfter(ctx, s.store.db, after, sweepBatch)
		if err != nil || len(all) == 0 {
			return err
		}
		if err := s.endTakenAmong(ctx, all); err != nil {
			return err
		}
		after = all[len(all)-1].ID
	}
}

// endTakenAmong revokes those of some accesses whose binding somebody took away by hand:
// the person is out, so that the access is over (SC-21).
func (s *Service) endTakenAmong(ctx context.Context, all []request.Request) error {
	inForce := make(map[string]map[string]bool) // of each organization
	for _, r := range all {
		if r.At(s.now()).State != request.Approved || !r.Settled {
			continue
		}
		if inForce[r.Thing.ID] == nil {
			var err error
			if inForce[r.Thing.ID], err = s.grantsOn(ctx, r.Thing.ID); err != nil {
				return err
			}
		}
		if !inForce[r.Thing.ID][r.ID] {
			if err := s.endAccess(ctx, r.ID, "its binding was taken away"); err != nil {
				return err
			}
		}
	}
	return nil
}

// endTakenOf ends the accesses of one person to one customer whose binding was taken away,
// so that they do not stand in the way of another one.
func (s *Service) endTakenOf(ctx context.Context, subaccountID string, p authn.Principal) error {
	c, err := s.store.Customer(ctx, s.store.db, subaccountID)
	if err != nil || c.Organization == "" {
		return err
	}
	query := request.Query{
		Thing: request.Ref{Type: typeOrganization, ID: c.Organization}, Requester: request.Ref{Type: p.Type, ID: p.ID}, State: request.Approved, Now: s.now(),
	}
	all, err := s.requests.Store.List(ctx, s.store.db, query, page.Position{}, sweepBatch)
	if err != nil {
		return err
	}
	return s.endTakenAmong(ctx, all)
}

// grantsOn are the grants in force on an organization; none when it is gone.
func (s *Service) grantsOn(ctx context.Context, organization string) (map[string]bool, error) {
	resp, err := s.grants.ListGrants(server.AsUnit(ctx), &accessv1.ListGrantsRequest{
		Resource: &accessv1.Resource{Type: typeOrganization, Id: organization},
	})
	if err := apierr.FromRPC(err); err != nil && apierr.CodeOf(err) != codes.NotFound {
		return nil, fmt.Errorf("list grants: %w", err)
	}
	ids := make(map[string]bool)
	for _, id := range resp.GetGrantIds() {
		ids[id] = true
	}
	return ids, nil
}

// endAccess ends a live access by the unit itself.
func (s *Service) endAccess(ctx context.Context, accessID, reason string) error {
	var ticket *jobs.Ticket
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		ticket = nil
		r, a, changed, err := s.requests.End(ctx, tx, accessID, reason)
		if err != nil || !changed {
			return err
		}
		if err := s.recordAccess(ctx, tx, r, accessEvents[a.Action], "", ""); err != nil || r.Settled {
			return err
		}
		t, err := s.requests.Settle(ctx, tx, accessID, "")
		ticket = &t
		return err
	})
	if err != nil || ticket == nil {
		return err
	}
	return s.jobs.Do(ctx, *ticket)
}

// showTaken shows accesses whose binding was taken away by hand as what they are, before
// the sweep has noted it: revoked.
func (s *Service) showTaken(ctx context.Context, organization string, all []*partnerv1.CustomerAccess) error {
	var inForce map[string]bool
	for _, a := range all {
		if a.GetState() != partnerv1.CustomerAccess_APPROVED || !a.GetSettled() {
			continue
		}
		if inForce == nil {
			var err error
			if inForce, err = s.grantsOn(ctx, organization); err != nil {
				return err
			}
		}
		if !inForce[a.GetId()] {
			a.State = partnerv1.CustomerAccess_REVOKED
		}
	}
	return nil
}

// jobAccessMail is the kind of the job that tells a customer that somebody of its partner
// asks to enter.
const jobAccessMail = "access-mail"

// accessMail is its payload.
type accessMail struct {
	Access string `json:"access"`
}

// sendAccessMail is that job, for everybody who may decide: the users who manage the access
// of the organization and are not of the partner (SC-21).
func (s *Service) sendAccessMail(ctx context.Context, job accessMail) error {
	r, err := s.requests.Store.Get(ctx, s.store.db, job.Access)
	if apierr.CodeOf(err) == codes.NotFound || err == nil && r.At(s.now()).State != request.Pending {
		return nil
	}
	if err != nil {
		return err
	}
	e := entryOf(r)
	c, err := s.store.Customer(ctx, s.store.db, e.Subaccount)
	if err != nil {
		return err
	}
	partner, err := s.store.Account(ctx, s.store.db, c.PartnerID)
	if err != nil {
		return err
	}
	emails, err := s.deciders(ctx, r, partner)
	if err != nil || len(emails) == 0 {
		return err
	}
	return s.notify(ctx, &notificationv1.Notice{
		Id: "customer-access:" + r.ID, Event: "customer_access.requested",
		Title: "The partner " + shown(partner.Name) + " asks to enter your organization",
		Text: fmt.Sprintf(`Somebody of the partner %s asks for the role %s in the organization %s, for %s:

%s

Nobody is let in unless you approve the access %s. Whoever you let in you throw out by revoking it.
`, shown(partner.Name), e.Role, r.Thing.ID, r.Lasts, r.Reason, r.ID),
		Details:    map[string]string{"access_id": r.ID, "organization_id": r.Thing.ID, "subaccount_id": e.Subaccount},
		Recipients: &notificationv1.Notice_Addresses{Addresses: &notificationv1.Addresses{Emails: emails}},
	})
}

// deciders are the addresses of who may decide on an access.
func (s *Service) deciders(ctx context.Context, r request.Request, partner Account) (emails []string, err error) {
	resp, err := s.grants.ListPermissionHolders(server.AsUnit(ctx), &accessv1.ListPermissionHoldersRequest{
		Resource: &accessv1.Resource{Type: r.Thing.Type, Id: r.Thing.ID}, Permission: permDecideAccess,
	})
	if err := apierr.FromRPC(err); apierr.CodeOf(err) == codes.NotFound {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("ask who decides on an access: %w", err)
	}
	var ids []string
	for _, h := range resp.GetHolders() {
		ofPartner, err := s.userMay(ctx, h.GetId(), permPortal, authz.Resource{Type: typeAccount, ID: partner.ID})
		if err != nil {
			return nil, fmt.Errorf("ask who decides on an access: %w", err)
		}
		if !ofPartner {
			ids = append(ids, h.GetId())
		}
	}
	known, err := s.users(ctx, union(nil, ids))
	if err != nil {
		return nil, err
	}
	for _, userID := range union(nil, ids) {
		if user := known[userID]; user.GetEmail() != "" && user.GetState() == identityv1.SubjectEntry_ACTIVE {
			emails = append(emails, user.GetEmail())
		}
	}
	return emails, nil
}
