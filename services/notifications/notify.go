package notifications

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// jobRoute is the kind of the job that finds the recipients of a notice.
const jobRoute = "route"

// routing is its payload.
type routing struct {
	Notice string `json:"notice"`
}

// notices is bindery.notification.v1.NotificationService.
type notices struct {
	notificationv1.UnsafeNotificationServiceServer // a missing method does not compile
	*Service
}

// Notify takes a notice of another unit, once for each id. It is durable when the
// call returns.
func (s *notices) Notify(ctx context.Context, req *notificationv1.NotifyRequest) (*notificationv1.NotifyResponse, error) {
	n := Notice{Notice: req.GetNotice(), TakenBy: authn.FromContext(ctx).Unit, TakenAt: s.now()}
	known, err := s.take(ctx, n)
	if err != nil {
		return nil, err
	}
	return &notificationv1.NotifyResponse{Known: known}, nil
}

// take stores a notice with the job that routes it.
func (s *Service) take(ctx context.Context, n Notice) (known bool, err error) {
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		known, err = s.takeIn(ctx, tx, n)
		return err
	})
	s.mailJobs.Kick()
	return known, err
}

// takeIn is take within a transaction.
func (s *Service) takeIn(ctx context.Context, tx *sql.Tx, n Notice) (known bool, err error) {
	if known, err = s.store.InsertNotice(ctx, tx, n); err != nil || known {
		return known, err
	}
	_, err = s.mailJobs.Enqueue(ctx, tx, jobs.Job{Kind: jobRoute, Payload: routing{n.GetId()}, NotBefore: now()})
	return false, err
}

// route is the job that makes a delivery for each recipient of a notice.
func (s *Service) route(ctx context.Context, job routing) error {
	n, err := s.store.Notice(ctx, s.store.db, job.Notice)
	if errors.Is(err, errGone) || err == nil && n.Routed {
		return nil
	}
	if err != nil {
		return err
	}
	to, err := s.recipients(ctx, n)
	if err != nil {
		return fmt.Errorf("recipients of %s: %w", n.GetId(), err)
	}
	if len(to) == 0 {
		s.log.Info("a notice is for nobody", zap.String("notice_id", n.GetId()), zap.String("event", n.GetEvent()))
	}
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		first, err := s.store.MarkRouted(ctx, tx, n, s.now())
		if err != nil || !first {
			return err
		}
		for _, r := range to {
			d := Delivery{
				ID: id.New(id.Delivery), NoticeID: n.GetId(), Channel: r.channel, Target: r.target,
				State: Pending, CreatedAt: s.now(), NextAt: s.now(),
			}
			if err := s.store.InsertDelivery(ctx, tx, d); err != nil {
				return err
			}
			if err := s.enqueue(ctx, tx, d, now()); err != nil {
				return err
			}
		}
		return nil
	})
	s.kick()
	return err
}
