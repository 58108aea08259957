package resourcemanager

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/thread"
	"github.com/bindery-iam/bindery/pkg/writes"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	qmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quotamanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
	"github.com/bindery-iam/bindery/services/resourcemanager/tickets"
)

// Name of the unit.
const Name = "resourcemanager"

// Unit is the resource manager with the default configuration.
func Unit() server.Unit { return Config{}.Unit() }

// Unit is the resource manager.
func (c Config) Unit() server.Unit {
	return server.Unit{
		Name:  Name,
		Needs: []string{"accessbindings", "identity"},
		Migrations: []sqldb.Migrations{
			Migrations(), operation.Migrations(Name), idempotency.Migrations(Name), jobs.Migrations(Name), audit.Migrations(Name),
			secret.Migrations(Name), thread.Migrations(Name),
		},
		Build: c.withDefaults().build,
	}
}

// Service is what the RPCs of the unit share.
type Service struct {
	cfg        Config
	catalog    *catalog.Catalog
	peer       func(unit string) grpc.ClientConnInterface
	store      *Store
	operations *operation.Store
	keys       *idempotency.Store
	jobs       *jobs.Queue
	pages      *page.Sealer
	now        func() time.Time

	outbox   *notice.Outbox
	decider  authz.Decider
	tree     accessv1.ResourceServiceClient
	audience accessv1.AudienceServiceClient
	bindings accessv1.AccessBindingServiceClient
	policies accessv1.AccessPolicyServiceClient
	subjects accessv1.SubjectServiceClient
	log      access.Operations
}

func (c Config) build(ctx context.Context, base server.Base) (*server.Parts, error) {
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
	quotas, err := catalog.Load()
	if err != nil {
		return nil, err
	}
	peer := base.Peer("accessbindings")
	s := &Service{
		cfg:        c,
		catalog:    quotas,
		peer:       base.Peer,
		store:      &Store{db: base.DB},
		operations: operation.NewStore(base.DB, Name, id.OperationResourceManager, base.Now),
		keys:       idempotency.NewStore(base.DB, Name, base.Now),
		jobs:       jobs.New(jobs.Config{DB: base.DB, Unit: Name, Log: base.Log}),
		pages:      pages,
		now:        func() time.Time { return base.Now().Truncate(time.Microsecond) }, // as it is stored
		decider:    authz.NewClient(peer),
		tree:       accessv1.NewResourceServiceClient(peer),
		audience:   accessv1.NewAudienceServiceClient(peer),
		bindings:   accessv1.NewAccessBindingServiceClient(peer),
		policies:   accessv1.NewAccessPolicyServiceClient(peer),
		subjects:   accessv1.NewSubjectServiceClient(peer),
	}
	s.log = access.Operations{Own: s.operations, Log: accessv1.NewOperationLogServiceClient(peer), Pages: pages}
	jobs.Register(s.jobs, jobRegister, s.register)
	jobs.Register(s.jobs, jobDelete, s.purge)
	jobs.Register(s.jobs, jobTellDeleted, s.sendDeleted)
	s.outbox = notice.NewOutbox(base, s.jobs)
	s.operations.OnCancel(s.cancelOperation)
	support := tickets.New(tickets.Deps{
		Unit: Name, Writes: writes.Writer{DB: base.DB, Keys: s.keys, Operations: s.operations, Jobs: s.jobs}, Pages: pages, Jobs: s.jobs, Outbox: s.outbox,
		Tree: s.tree, Directory: identityv1.NewDirectoryServiceClient(base.Peer("identity")), Now: s.now, Log: base.Log,
	})
	if err := base.Metrics.Register(s.jobs); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return &server.Parts{
		Operations: s.operations, Keys: s.keys, Usage: s.usage(),
		Register: func(r grpc.ServiceRegistrar) {
			s.registerServices(r)
			support.Register(r)
		},
		RegisterOperator: func(r grpc.ServiceRegistrar) {
			quotav1.RegisterOperatorServiceServer(r, &quotaOperator{Service: s})
			support.RegisterOperator(r)
		},
		Keyed: append([]string{
			quotav1.OperatorService_SetLimit_FullMethodName, quotav1.OperatorService_DecideRequest_FullMethodName,
			quotav1.CustomerQuotaService_SetCloudLimit_FullMethodName,
		}, tickets.Keyed...),
		Resolvers: map[string]authz.Resolver{"quotaRequest": s.resourceOfRequest, "ticket": support.ResourceOf},
		Run: func(ctx context.Context) error {
			g, ctx := errgroup.WithContext(ctx)
			g.Go(func() error { return s.jobs.Run(ctx) })
			g.Go(func() error { return support.Run(ctx) })
			return g.Wait()
		},
	}, nil
}

func (s *Service) registerServices(r grpc.ServiceRegistrar) {
	rmv1.RegisterCloudServiceServer(r, &clouds{Service: s, accessMethods: s.access(cloud)})
	rmv1.RegisterFolderServiceServer(r, &folders{Service: s, accessMethods: s.access(folder)})
	orgv1.RegisterOrganizationServiceServer(r, &organizations{Service: s, accessMethods: s.access(organization)})
	brmv1.RegisterOrganizationServiceServer(r, &organizationLife{Service: s})
	brmv1.RegisterDeletionServiceServer(r, &deletions{Service: s})
	quotav1.RegisterLimitServiceServer(r, &limits{Service: s})
	quotav1.RegisterCustomerQuotaServiceServer(r, &customerQuotas{Service: s})
	brmv1.RegisterCustomerOrganizationServiceServer(r, &customerOrganizations{Service: s})
	brmv1.RegisterPlaceServiceServer(r, &places{Service: s})
	brmv1.RegisterResourceNameServiceServer(r, &resourceNames{Service: s})
	qmv1.RegisterQuotaLimitServiceServer(r, &quotaLimits{Service: s})
	qmv1.RegisterQuotaRequestServiceServer(r, &quotaRequests{Service: s})
}

// access is the access methods of a kind.
func (s *Service) access(k *kind) accessMethods {
	return accessMethods{Bindings: access.Bindings{Client: s.bindings, Type: k.typ}, service: s, kind: k}
}
