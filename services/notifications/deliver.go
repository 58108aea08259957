package notifications

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// jobDeliver is the kind of the job that tells one recipient.
const jobDeliver = "deliver"

// telling is its payload.
type telling struct {
	Delivery string `json:"delivery"`
}

// pauses before the second attempt, the third and so on; the last one is repeated.
var pauses = []time.Duration{
	5 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour,
}

// maxFailure is how much of an error is kept, in bytes.
const maxFailure = 500

// pause is the time before the next attempt, up to a tenth longer, so that not all
// that failed at once comes back at once.
func pause(attempts int64) time.Duration {
	d := pauses[min(max(attempts, 1), int64(len(pauses)))-1]
	return d + rand.N(d/10) //nolint:gosec // nobody gains by guessing it
}

// now is when a job is due that is to be done at once. The queue goes by the clock of
// the machine, whatever the unit's is.
func now() time.Time { return time.Now() }

// enqueue makes the job of the next attempt of a delivery, in the queue of its
// channel: receivers that hang must not hold up mail.
func (s *Service) enqueue(ctx context.Context, tx *sql.Tx, d Delivery, at time.Time) error {
	_, err := s.queue(d.Channel).Enqueue(ctx, tx, jobs.Job{Kind: jobDeliver, Payload: telling{d.ID}, NotBefore: at})
	return err
}

// deliver is the job that tells one recipient, once more if need be. Its attempt is
// marked after it was made: whoever crashes between the two tells the recipient again,
// by the same id.
func (s *Service) deliver(ctx context.Context, job telling) error {
	d, err := s.store.Delivery(ctx, s.store.db, job.Delivery)
	if errors.Is(err, errGone) || err == nil && d.State != Pending {
		return nil
	}
	if err != nil {
		return err
	}
	n, err := s.store.Notice(ctx, s.store.db, d.NoticeID)
	if err != nil {
		return err
	}
	sent := s.senders[d.Channel].send(ctx, n, d)
	if sent != nil && ctx.Err() != nil {
		return sent // the process ends, or the attempt took too long: it does not count
	}
	return s.settle(ctx, d, sent)
}

// settle records how an attempt ended and, unless it was the last one, makes the job
// of the next.
func (s *Service) settle(ctx context.Context, d Delivery, sent error) error {
	d = s.judge(d, sent)
	done := false
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		if done, err = s.store.UpdateDelivery(ctx, tx, d); err != nil || !done {
			return err
		}
		if d.Channel == Webhook {
			if err := s.noteWebhook(ctx, tx, d.Target, sent); err != nil {
				return err
			}
		}
		if d.State != Pending {
			return nil
		}
		return s.enqueue(ctx, tx, d, now().Add(d.NextAt.Sub(s.now())))
	})
	if err != nil || !done {
		return err
	}
	s.metrics.ended(d, sent)
	if sent != nil {
		s.log.Warn("notice not delivered", zap.String("delivery_id", d.ID), zap.String("notice_id", d.NoticeID),
			zap.String("channel", string(d.Channel)), zap.String("state", string(d.State)), zap.Int64("attempt", d.Attempts),
			zap.Duration("retry_in", max(0, d.NextAt.Sub(s.now()))), zap.String("failure", d.Failure))
	}
	return nil
}

// judge is a delivery after an attempt.
func (s *Service) judge(d Delivery, sent error) Delivery {
	at := s.now()
	d.Attempts++
	d.Failure, d.NextAt, d.EndedAt = "", time.Time{}, at
	if sent == nil {
		d.State = Delivered
		return d
	}
	d.Failure = shorten(sent.Error())
	var last *final
	if errors.As(sent, &last) {
		d.State = last.state
		return d
	}
	next := at.Add(pause(d.Attempts)).Truncate(time.Microsecond)
	if next.Sub(d.CreatedAt) > s.cfg.GiveUpAfter {
		d.State = Dead
		return d
	}
	d.NextAt, d.EndedAt = next, time.Time{}
	return d
}

// shorten cuts a text to what is kept of it, and to what both engines store.
func shorten(text string) string {
	if len(text) > maxFailure {
		text = text[:maxFailure]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "�"), "\x00", "�")
}
