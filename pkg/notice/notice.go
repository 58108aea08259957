// Package notice hands notices to the unit notifications, which tells people of
// them: from a transaction, so that there is a notice if and only if what it tells of
// has happened. It is the outbox of whoever has something to tell; addresses,
// retries and subscriptions are of the unit notifications.
package notice

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/server"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// Unit is the name of the unit that delivers notices.
const Unit = "notifications"

// jobNotify is the kind of the jobs of an outbox.
const jobNotify = "notify"

// Outbox sends notices of one unit by the unit's own queue of jobs. It is safe for
// concurrent use.
type Outbox struct {
	queue  *jobs.Queue
	client notificationv1.NotificationServiceClient
	log    *zap.Logger
	absent bool
}

// NewOutbox returns the outbox of a unit; its jobs become jobs of queue. In an
// installation without the unit notifications it takes notices and drops them, and
// says so in the log once.
func NewOutbox(base server.Base, queue *jobs.Queue) *Outbox {
	o := &Outbox{queue: queue, client: notificationv1.NewNotificationServiceClient(base.Peer(Unit)), log: base.Log, absent: !base.Has(Unit)}
	if o.absent {
		o.log.Warn("nobody is told of what happens: no unit notifications (--peer notifications=HOST:PORT)")
	}
	jobs.Register(queue, jobNotify, func(ctx context.Context, body json.RawMessage) error {
		n := new(notificationv1.Notice)
		if err := protojson.Unmarshal(body, n); err != nil {
			return fmt.Errorf("read notice: %w", err)
		}
		return o.Send(ctx, n)
	})
	return o
}

// Reaches reports whether anybody is told: whether there is a unit notifications.
func (o *Outbox) Reaches() bool { return !o.absent }

// Enqueue sees to it that a notice is sent once the transaction has committed, also
// after a crash. What ID makes is a good id for it.
func (o *Outbox) Enqueue(ctx context.Context, tx *sql.Tx, n *notificationv1.Notice) error {
	if o.absent {
		return nil
	}
	body, err := protojson.Marshal(n)
	if err != nil {
		return fmt.Errorf("enqueue notice: %w", err)
	}
	_, err = o.queue.Enqueue(ctx, tx, jobs.Job{Kind: jobNotify, Payload: json.RawMessage(body), NotBefore: time.Now()})
	return err
}

// Send hands a notice over now, for a job of the unit's own. A notice that is refused
// as malformed can never be sent: that is a defect, and logged as one. Fails:
// UNAVAILABLE.
func (o *Outbox) Send(ctx context.Context, n *notificationv1.Notice) error {
	if o.absent {
		return nil
	}
	_, err := o.client.Notify(server.AsUnit(ctx), &notificationv1.NotifyRequest{Notice: n})
	if apierr.CodeOf(err) == codes.InvalidArgument {
		o.log.Error("a notice was refused and is lost", zap.String("notice_id", n.GetId()), zap.String("event", n.GetEvent()), zap.Error(err))
		return nil
	}
	if err != nil {
		return apierr.FromRPC(err)
	}
	return nil
}

// ID is a stable id of a notice: what it tells of, and the ids of that.
func ID(event string, ids ...string) string {
	return strings.Join(append([]string{event}, ids...), ":")
}
