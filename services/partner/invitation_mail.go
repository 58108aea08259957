package partner

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/server"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// sendInvitation is the job that hands an invitation to notifications, which mails it.
// One that can no longer be answered, or was sent again since, is not worth a mail.
func (s *Service) sendInvitation(ctx context.Context, job mailing) error {
	c, err := s.store.Customer(ctx, s.store.db, job.Account)
	if apierr.CodeOf(err) == codes.NotFound || err == nil && (c.State != AcceptanceRequired || c.Sends != job.Send) {
		return nil
	}
	if err != nil {
		return err
	}
	partner, err := s.store.Account(ctx, s.store.db, c.PartnerID)
	if err != nil {
		return err
	}
	return s.notify(ctx, &notificationv1.Notice{
		Id: fmt.Sprintf("subaccount:%s:%d", c.ID, c.Sends), Event: "subaccount.invited",
		Title: "Invitation of the partner " + shown(partner.Name),
		Text: fmt.Sprintf(`The partner %s wants to serve you as its customer %s.

Sign in with the account of %s to accept or decline the invitation to the subaccount %s.
Nothing of yours becomes the partner's by accepting.

If you do not expect it, do nothing.
`, shown(partner.Name), shown(c.Name), c.Email, c.ID),
		Details:    map[string]string{"subaccount_id": c.ID},
		Recipients: &notificationv1.Notice_Addresses{Addresses: &notificationv1.Addresses{Emails: []string{c.Email}}},
	})
}

// jobMailUser is the kind of the job that tells somebody of access to an account.
const jobMailUser = "mail-user"

// userMail is its payload.
type userMail struct {
	Account string `json:"account"`
	Email   string `json:"email"`
	At      int64  `json:"at"`
}

// sendUserMail is that job (PT-20).
func (s *Service) sendUserMail(ctx context.Context, job userMail) error {
	a, err := s.store.Account(ctx, s.store.db, job.Account)
	if apierr.CodeOf(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	return s.notify(ctx, &notificationv1.Notice{
		Id: fmt.Sprintf("partner-user:%s:%x:%d", a.ID, hashOf(job.Email), job.At), Event: "partner.user_invited",
		Title: "Access to the billing account " + shown(a.Name),
		Text: fmt.Sprintf(`You are given access to the billing account %s (%s).

Sign in to the partner portal with an account of %s; your access begins then.
`, shown(a.Name), a.ID, job.Email),
		Details:    map[string]string{"billing_account_id": a.ID},
		Recipients: &notificationv1.Notice_Addresses{Addresses: &notificationv1.Addresses{Emails: []string{job.Email}}},
	})
}

func (s *Service) notify(ctx context.Context, n *notificationv1.Notice) error {
	if _, err := s.notices.Notify(server.AsUnit(ctx), &notificationv1.NotifyRequest{Notice: n}); err != nil {
		return fmt.Errorf("notify: %w", apierr.FromRPC(err))
	}
	return nil
}

// maxShown is how many characters of a name a mail shows.
const maxShown = 100

// shown is a name as a mail shows it: one line, not too long.
func shown(name string) string {
	words := []rune(strings.Join(strings.Fields(name), " "))
	if len(words) > maxShown {
		return string(words[:maxShown-1]) + "…"
	}
	return string(words)
}
