package resourcemanager

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
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
			secret.Migrations(Name),
		},
		Build: c.withDefaults().build,
	}
}

// Service is what the RPCs of the unit share.
type Service struct {
	cfg        Config
	store      *Store
	operations *operation.Store
	keys       *idempotency.Store
	jobs       *jobs.Queue
	pages      *page.Sealer
	now        func() time.Time

	decider  authz.Decider
	tree     accessv1.ResourceServiceClient
	bindings accessv1.AccessBindingServiceClient
	subjects accessv1.SubjectServiceClient
	log      accessv1.OperationLogServiceClient
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
	access := base.Peer("accessbindings")
	s := &Service{
		cfg:        c,
		store:      &Store{db: base.DB},
		operations: operation.NewStore(base.DB, Name, id.OperationResourceManager, base.Now),
		keys:       idempotency.NewStore(base.DB, Name, base.Now),
		jobs:       jobs.New(jobs.Config{DB: base.DB, Unit: Name, Log: base.Log}),
		pages:      pages,
		now:        func() time.Time { return base.Now().Truncate(time.Microsecond) }, // as it is stored
		decider:    authz.NewClient(access),
		tree:       accessv1.NewResourceServiceClient(access),
		bindings:   accessv1.NewAccessBindingServiceClient(access),
		subjects:   accessv1.NewSubjectServiceClient(access),
		log:        accessv1.NewOperationLogServiceClient(access),
	}
	jobs.Register(s.jobs, jobRegister, s.register)
	jobs.Register(s.jobs, jobDelete, s.purge)
	s.operations.OnCancel(s.cancelOperation)
	if err := base.Metrics.Register(s.jobs); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return &server.Parts{Register: s.registerServices, Operations: s.operations, Keys: s.keys, Run: s.jobs.Run}, nil
}

func (s *Service) registerServices(r grpc.ServiceRegistrar) {
	rmv1.RegisterCloudServiceServer(r, &clouds{Service: s, access: access{s, cloud}})
	rmv1.RegisterFolderServiceServer(r, &folders{Service: s, access: access{s, folder}})
	orgv1.RegisterOrganizationServiceServer(r, &organizations{Service: s, access: access{s, organization}})
	brmv1.RegisterOrganizationServiceServer(r, &organizationLife{Service: s})
	brmv1.RegisterDeletionServiceServer(r, &deletions{Service: s})
}
