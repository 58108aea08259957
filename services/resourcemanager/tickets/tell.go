package tickets

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/server"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// jobTell is the kind of the jobs that have the filer of a ticket told of something.
const jobTell = "tell-ticket"

// telling is their payload. Number is that of a comment, 0 for what is none.
type telling struct {
	Ticket string `json:"ticket"`
	Event  string `json:"event"`
	Number int64  `json:"number,omitempty"`
}

// tellOf is ST-5 [ours]: who filed a ticket is told once of each answer of the platform,
// and that it closed the ticket, when the transaction has committed.
func (s *Service) tellOf(ctx context.Context, tx *sql.Tx, t Ticket, event string, number int64) error {
	if !s.Outbox.Reaches() {
		return nil
	}
	_, err := s.Jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobTell, Payload: telling{t.ID, event, number}, NotBefore: time.Now()})
	return err
}

var words = map[string]string{notice.TicketAnswered: "has an answer", notice.TicketClosed: "was closed"}

// tell is the job that hands a notice over. Its id is made of what it tells, so that it is
// one notice however often the job is executed. It shows nothing of what people wrote.
func (s *Service) tell(ctx context.Context, job telling) error {
	t, err := s.store.ticket(ctx, s.Writes.DB, job.Ticket, "")
	if apierr.CodeOf(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	resp, err := s.Directory.BatchGetSubjects(server.AsUnit(ctx), &identityv1.BatchGetSubjectsRequest{Ids: []string{t.By.ID}})
	if err != nil {
		return fmt.Errorf("look up people: %w", apierr.FromRPC(err))
	}
	for _, who := range resp.GetSubjects() {
		if who.GetState() != identityv1.SubjectEntry_ACTIVE || who.GetEmail() == "" {
			continue
		}
		ids := []string{t.ID}
		if job.Number > 0 {
			ids = append(ids, fmt.Sprint(job.Number))
		}
		return s.Outbox.Send(ctx, &notificationv1.Notice{
			Id: notice.ID(job.Event, ids...), Event: job.Event, Title: fmt.Sprintf("Support ticket %s", t.ID),
			Text:       fmt.Sprintf("The support ticket %s %s.\n", t.ID, words[job.Event]),
			Details:    map[string]string{"ticket_id": t.ID, "target": typeTicket + ":" + t.ID},
			Recipients: &notificationv1.Notice_Addresses{Addresses: &notificationv1.Addresses{Emails: []string{who.GetEmail()}}},
		})
	}
	return nil
}
