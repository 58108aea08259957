package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/server"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// jobMail is the kind of the job that has an invitation mailed.
const jobMail = "mail-invitation"

// mailing is its payload: which of the sends of an invitation.
type mailing struct {
	Invitation string `json:"invitation"`
	Send       int64  `json:"send"`
}

// mail has an invitation mailed once the transaction has committed, by a worker: no
// caller waits for it.
func (s *Service) mail(ctx context.Context, tx *sql.Tx, inv Invitation) error {
	_, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobMail, Payload: mailing{inv.ID, inv.Sends}, NotBefore: time.Now()})
	return err
}

// sendMail is the job that hands an invitation to notifications, which mails it. One
// that can no longer be answered, or was sent again since, is not worth a mail.
func (s *Service) sendMail(ctx context.Context, job mailing) error {
	inv, err := s.store.Invitation(ctx, s.store.db, job.Invitation)
	if errors.Is(err, errInvitationNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if inv = inv.at(s.now()); inv.State != Pending || inv.Sends != job.Send {
		return nil
	}
	_, err = s.notices.Notify(server.AsUnit(ctx), &notificationv1.NotifyRequest{Notice: inv.notice()})
	if err != nil {
		return fmt.Errorf("notify: %w", apierr.FromRPC(err))
	}
	return nil
}

// maxTitle is how many characters of the name of an organization a mail shows.
const maxTitle = 100

// notice is the mail of an invitation. Nothing in it lets anybody in: the invitation
// is answered by who signs in to the account of the address.
func (i Invitation) notice() *notificationv1.Notice {
	name := i.OrganizationID
	if words := strings.Join(strings.Fields(i.OrganizationName), " "); words != "" {
		name = fmt.Sprintf("%s (%s)", cut(words, maxTitle), i.OrganizationID)
	}
	return &notificationv1.Notice{
		Id:    fmt.Sprintf("%s:%d", i.ID, i.Sends),
		Event: "invitation.sent",
		Title: "Invitation to the organization " + name,
		Text: fmt.Sprintf(`You are invited to become a member of the organization %s.

Sign in with the account of %s to accept or reject the invitation %s,
until %s.

If you do not expect it, do nothing.
`, name, i.Email, i.ID, i.ExpiresAt.UTC().Format("2 January 2006, 15:04 UTC")),
		Details:    map[string]string{"invitation_id": i.ID},
		Recipients: &notificationv1.Notice_Addresses{Addresses: &notificationv1.Addresses{Emails: []string{i.Email}}},
	}
}

// cut keeps the first n characters of a text.
func cut(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}
