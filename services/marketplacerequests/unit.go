package marketplacerequests

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/thread"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
)

// Name of the unit, of its schema, and in the names of its kit tables.
const Name = "marketplacerequests"

// Types of resources.
const (
	typePublisher = "marketplace.publisher"
	typeProduct   = "marketplace.product"
	typeInstance  = "marketplace.productInstance"
	typeFolder    = "resource-manager.folder"
	typeCloud     = "resource-manager.cloud"
	typeRequest   = "marketplace.productAccessRequest" // of operations; it stands in no tree
)

// Unit is the unit of the suite.
func Unit() server.Unit {
	return server.Unit{
		Name:  Name,
		Needs: []string{"accessbindings", "identity"},
		Migrations: []sqldb.Migrations{
			Migrations(), request.Migrations(Name), thread.Migrations(Name), operation.Migrations(Name), idempotency.Migrations(Name),
			jobs.Migrations(Name), audit.Migrations(Name), secret.Migrations(Name),
		},
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
	store      *Store
	requests   *request.Engine
	operations *operation.Store
	keys       *idempotency.Store
	pages      *page.Sealer
	jobs       *jobs.Queue
	outbox     *notice.Outbox
	now        func() time.Time // to a microsecond, as it is stored
	log        *zap.Logger

	decider   authz.Decider
	tree      accessv1.ResourceServiceClient
	grants    accessv1.GrantServiceClient
	bindings  accessv1.AccessBindingServiceClient
	changes   accessv1.OperationLogServiceClient
	directory identityv1.DirectoryServiceClient
}

// workers is how many jobs are executed at a time beside those of requests: few, since
// whoever decides has the consequence executed in the call, and should not wait for the
// telling of what others decided.
const workers = 3

// New makes the unit.
func New(ctx context.Context, base server.Base) (*Service, error) {
	key, err := secret.Get(ctx, base.DB, Name, "page", page.KeySize)
	if err != nil {
		return nil, err
	}
	pages, err := page.New(key)
	if err != nil {
		return nil, err
	}
	peer := base.Peer("accessbindings")
	s := &Service{
		store:      &Store{db: base.DB},
		operations: operation.NewStore(base.DB, Name, id.OperationMarketplace, base.Now),
		keys:       idempotency.NewStore(base.DB, Name, base.Now),
		pages:      pages,
		jobs:       jobs.New(jobs.Config{DB: base.DB, Unit: Name, Log: base.Log, Workers: workers}),
		now:        func() time.Time { return base.Now().Truncate(time.Microsecond) },
		log:        base.Log,
		decider:    authz.NewClient(peer),
		tree:       accessv1.NewResourceServiceClient(peer),
		grants:     accessv1.NewGrantServiceClient(peer),
		bindings:   accessv1.NewAccessBindingServiceClient(peer),
		changes:    accessv1.NewOperationLogServiceClient(peer),
		directory:  identityv1.NewDirectoryServiceClient(base.Peer("identity")),
	}
	s.outbox = notice.NewOutbox(base, s.jobs)
	s.requests = request.New(request.Config{
		DB: base.DB, Unit: Name, Jobs: s.jobs, Grid: grid, Consequence: &consequence{Service: s}, Now: s.now,
	})
	jobs.Register(s.jobs, jobPlacePublisher, s.placePublisher)
	jobs.Register(s.jobs, jobDeletePublisher, s.deletePublisher)
	jobs.Register(s.jobs, jobPlaceProduct, s.placeProduct)
	jobs.Register(s.jobs, jobSettleProduct, s.settleProduct)
	jobs.Register(s.jobs, jobPlaceInstance, s.placeInstance)
	jobs.Register(s.jobs, jobDeleteInstance, s.deleteInstance)
	jobs.Register(s.jobs, jobTell, s.tell)
	if err := base.Metrics.Register(s.jobs); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return s, nil
}

// Parts is what the unit gives its process.
func (s *Service) Parts() *server.Parts {
	return &server.Parts{
		Register: func(r grpc.ServiceRegistrar) {
			marketplacev1.RegisterPublisherServiceServer(r, &publishers{Service: s})
			marketplacev1.RegisterProductServiceServer(r, &products{Service: s})
			marketplacev1.RegisterCatalogServiceServer(r, &offers{products: products{Service: s}})
			marketplacev1.RegisterProductAccessRequestServiceServer(r, &accessRequests{Service: s})
			marketplacev1.RegisterProductInstanceServiceServer(r, &instances{Service: s})
		},
		RegisterOperator: func(r grpc.ServiceRegistrar) {
			marketplacev1.RegisterOperatorServiceServer(r, &operators{Service: s})
		},
		Resolvers:  map[string]authz.Resolver{"accessRequest": s.resolveRequest, "requestedProduct": s.resolveProduct},
		Operations: s.operations,
		Keys:       s.keys,
		Keyed:      []string{marketplacev1.OperatorService_CreateMessage_FullMethodName},
		Run:        s.run,
	}
}

// How often what goes beside requests is done.
const (
	followEvery  = 2 * time.Second
	departedEach = 10 * time.Minute
)

// run executes jobs, follows the removal of folders and lets go the requests of
// people who are gone, until ctx ends.
func (s *Service) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.jobs.Run(ctx) })
	g.Go(func() error { return s.every(ctx, followEvery, "removed resources were not followed", s.follow) })
	g.Go(func() error {
		return s.every(ctx, departedEach, "requests of people who are gone were not ended", s.endDeparted)
	})
	return g.Wait()
}

// every does something again and again; what fails is tried again.
func (s *Service) every(ctx context.Context, pause time.Duration, failure string, do func(context.Context) error) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := do(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn(failure, zap.Error(err))
			}
		}
	}
}
