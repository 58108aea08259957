package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// Name of the unit, of its schema, and in the names of its kit tables.
const Name = "identity"

// Unit is identity.
func Unit() server.Unit {
	return server.Unit{
		Name:       Name,
		Needs:      []string{"accessbindings"},
		Migrations: []sqldb.Migrations{Migrations(), idempotency.Migrations(Name), jobs.Migrations(Name), audit.Migrations(Name)},
		Build: func(ctx context.Context, base server.Base) (*server.Parts, error) {
			s, err := New(ctx, base)
			if err != nil {
				return nil, err
			}
			return s.Parts(), nil
		},
	}
}

// Service is the unit at work.
type Service struct {
	store    *Store
	once     *idempotency.Store
	keys     *keyRing
	issuer   *authn.Issuer
	tokens   *authn.Verifier
	jobs     *jobs.Queue
	subjects accessv1.SubjectServiceClient
	now      func() time.Time
	log      *zap.Logger
}

// New reads the signing keys, making the first ones on the first start.
func New(ctx context.Context, base server.Base) (*Service, error) {
	s := &Service{
		store:    &Store{db: base.DB},
		once:     idempotency.NewStore(base.DB, Name, base.Now),
		keys:     &keyRing{db: base.DB, now: base.Now},
		tokens:   base.Tokens,
		jobs:     jobs.New(jobs.Config{DB: base.DB, Unit: Name, Log: base.Log}),
		subjects: accessv1.NewSubjectServiceClient(base.Peer("accessbindings")),
		now:      base.Now,
		log:      base.Log,
	}
	if err := s.keys.open(ctx); err != nil {
		return nil, err
	}
	s.issuer = &authn.Issuer{Key: s.keys.signing, Epoch: s.keys.epoch, Now: base.Now}
	jobs.Register(s.jobs, jobRegister, s.register)
	jobs.Register(s.jobs, jobRevoke, s.revoke)
	if err := base.Metrics.Register(s.jobs); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return s, nil
}

// Parts is what the unit gives its process.
func (s *Service) Parts() *server.Parts {
	return &server.Parts{
		Register: func(r grpc.ServiceRegistrar) {
			iamv1.RegisterIamTokenServiceServer(r, &tokens{Service: s})
			iamv1.RegisterUserAccountServiceServer(r, &users{Service: s})
			iamv1.RegisterYandexPassportUserAccountServiceServer(r, &logins{Service: s})
			identityv1.RegisterSigningKeyServiceServer(r, &signingKeys{Service: s})
		},
		RegisterOperator: func(r grpc.ServiceRegistrar) {
			identityv1.RegisterOperatorServiceServer(r, &operators{Service: s})
		},
		Keys: s.once,
		Keyed: []string{
			identityv1.OperatorService_CreateUser_FullMethodName,
			identityv1.OperatorService_RotateSigningKey_FullMethodName,
		},
		Ready: func(context.Context) error {
			if s.keys.signing().Private == nil {
				return errors.New("no signing key")
			}
			return nil
		},
		Run: s.run,
	}
}

// run executes jobs and follows rotations by other processes, until ctx ends.
func (s *Service) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.jobs.Run(ctx) })
	g.Go(func() error {
		tick := time.NewTicker(followEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				if err := s.keys.follow(ctx); err != nil && ctx.Err() == nil {
					s.log.Warn("signing keys were not read", zap.Error(err))
				}
			}
		}
	})
	return g.Wait()
}
