package notifications

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"code.dny.dev/ssrf"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
)

// Name of the unit, of its schema, and in the names of its kit tables.
const Name = "notifications"

// Unit is the unit with the default configuration: mail goes to the log.
func Unit() server.Unit { return Config{}.Unit() }

// Unit is notifications.
func (c Config) Unit() server.Unit {
	return server.Unit{
		Name:  Name,
		Needs: []string{"accessbindings", "identity", "resourcemanager"},
		Seals: true,
		Migrations: []sqldb.Migrations{
			Migrations(), operation.Migrations(Name), idempotency.Migrations(Name), jobs.Migrations(Name), audit.Migrations(Name),
			secret.Migrations(Name),
		},
		Build: c.withDefaults().build,
	}
}

// Service is what the RPCs and jobs of the unit share.
type Service struct {
	cfg        Config
	store      *Store
	operations *operation.Store
	keys       *idempotency.Store
	pages      *page.Sealer
	sealer     *secret.Sealer
	guard      *ssrf.Guardian
	mailJobs   *jobs.Queue // routing, too
	hookJobs   *jobs.Queue
	senders    map[Channel]sender
	metrics    *metrics
	now        func() time.Time
	log        *zap.Logger

	access    accessv1.AudienceServiceClient
	tree      accessv1.ResourceServiceClient
	directory identityv1.DirectoryServiceClient
	names     brmv1.ResourceNameServiceClient
}

// How many mails and webhooks are on their way at a time.
const (
	mailWorkers = 8
	hookWorkers = 16
)

func (c Config) build(ctx context.Context, base server.Base) (*server.Parts, error) {
	s, err := c.make(ctx, base)
	if err != nil {
		return nil, err
	}
	return s.parts(), nil
}

func (c Config) make(ctx context.Context, base server.Base) (*Service, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	key, err := secret.Get(ctx, base.DB, Name, "page", page.KeySize)
	if err != nil {
		return nil, err
	}
	pages, err := page.New(key)
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg:        c,
		store:      &Store{db: base.DB},
		operations: operation.NewStore(base.DB, Name, id.OperationNotifications, base.Now),
		keys:       idempotency.NewStore(base.DB, Name, base.Now),
		pages:      pages,
		sealer:     base.Sealer,
		guard:      newGuard(c),
		hookJobs:   jobs.New(jobs.Config{DB: base.DB, Unit: Name + "-webhooks", Log: base.Log, Workers: hookWorkers}),
		mailJobs:   jobs.New(jobs.Config{DB: base.DB, Unit: Name, Log: base.Log, Workers: mailWorkers}),
		now:        func() time.Time { return base.Now().Truncate(time.Microsecond) }, // as it is stored
		log:        base.Log,
		access:     accessv1.NewAudienceServiceClient(base.Peer("accessbindings")),
		tree:       accessv1.NewResourceServiceClient(base.Peer("accessbindings")),
		directory:  identityv1.NewDirectoryServiceClient(base.Peer("identity")),
		names:      brmv1.NewResourceNameServiceClient(base.Peer("resourcemanager")),
	}
	s.senders = map[Channel]sender{
		Mail:    &logMailer{log: base.Log},
		Webhook: &webhookSender{store: s.store, sealer: s.sealer, client: newWebhookClient(s.guard, c.tls), now: s.now},
	}
	if c.SMTP.Host != "" {
		mailer, err := newSMTPMailer(c)
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
		s.senders[Mail] = mailer
	}
	jobs.Register(s.mailJobs, jobRoute, s.route)
	jobs.Register(s.mailJobs, jobDeliver, s.deliver)
	jobs.Register(s.hookJobs, jobDeliver, s.deliver)
	if err := s.reseal(ctx); err != nil {
		return nil, err
	}
	s.metrics = newMetrics(s.store)
	for _, m := range []func() error{
		func() error { return base.Metrics.Register(s.mailJobs) },
		func() error { return base.Metrics.Register(s.metrics) },
	} {
		if err := m(); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return s, nil
}

// parts is what the unit gives its process.
func (s *Service) parts() *server.Parts {
	return &server.Parts{
		Register: func(r grpc.ServiceRegistrar) {
			notificationv1.RegisterNotificationServiceServer(r, &notices{Service: s})
			notificationv1.RegisterSubscriptionServiceServer(r, &subscriptions{Service: s})
		},
		RegisterOperator: func(r grpc.ServiceRegistrar) {
			notificationv1.RegisterOperatorServiceServer(r, &operators{Service: s})
		},
		Operations: s.operations,
		Keys:       s.keys,
		Keyed: []string{
			notificationv1.OperatorService_CreateNotice_FullMethodName,
			notificationv1.SubscriptionService_CreateOrganizationWebhook_FullMethodName,
			notificationv1.SubscriptionService_CreateCloudWebhook_FullMethodName,
			notificationv1.SubscriptionService_CreateFolderWebhook_FullMethodName,
		},
		Run: s.run,
	}
}

// reseal seals the secrets of webhooks by the key that seals now.
func (s *Service) reseal(ctx context.Context) error {
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return sealedSecrets.Reseal(ctx, tx, s.sealer)
	})
}

// queue is the one that tells recipients of a channel.
func (s *Service) queue(c Channel) *jobs.Queue {
	if c == Webhook {
		return s.hookJobs
	}
	return s.mailJobs
}

// kick wakes the workers, for jobs that are due at once.
func (s *Service) kick() {
	s.mailJobs.Kick()
	s.hookJobs.Kick()
}

// How often old notices and the subscribers of removed resources go, and how many
// notices in one transaction.
const (
	sweepEvery = 10 * time.Minute
	sweepMost  = 500
)

// run executes jobs and sweeps until ctx ends.
func (s *Service) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.mailJobs.Run(ctx) })
	g.Go(func() error { return s.hookJobs.Run(ctx) })
	g.Go(func() error {
		tick := time.NewTicker(sweepEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				if err := errors.Join(s.sweep(ctx), s.follow(ctx)); err != nil && ctx.Err() == nil {
					s.log.Warn("old notices and subscribers were not swept", zap.Error(err))
				}
			}
		}
	})
	return g.Wait()
}

// sweep deletes the notices that were taken longer than KeepFor ago and of which
// nobody is yet to be told.
func (s *Service) sweep(ctx context.Context) error {
	for {
		var swept int64
		err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) (err error) {
			swept, err = s.store.Sweep(ctx, tx, s.now().Add(-s.cfg.KeepFor), sweepMost)
			return err
		})
		if err != nil || swept == 0 {
			return err
		}
	}
}
