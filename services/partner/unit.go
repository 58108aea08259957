package partner

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/thread"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	recordsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/usage_records/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// Name of the unit.
const Name = "partner"

// Unit is the partner unit with the default configuration.
func Unit() server.Unit { return Config{}.Unit() }

// Unit is the partner unit.
func (c Config) Unit() server.Unit {
	return server.Unit{
		Name:  Name,
		Needs: []string{"accessbindings", "identity", "marketplacerequests", "notifications", "resourcemanager"},
		Migrations: []sqldb.Migrations{
			Migrations(), operation.Migrations(Name), idempotency.Migrations(Name), jobs.Migrations(Name), audit.Migrations(Name),
			secret.Migrations(Name), request.Migrations(Name), thread.Migrations(Name),
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
	limits     *quota.Limits
	catalog    *catalog.Catalog
	now        func() time.Time

	decider  authz.Decider
	tree     accessv1.ResourceServiceClient
	bindings accessv1.AccessBindingServiceClient
	log      access.Operations

	payers        accessv1.PayerServiceClient
	directory     identityv1.DirectoryServiceClient
	organizations brmv1.CustomerOrganizationServiceClient
	notices       notificationv1.NotificationServiceClient
	offers        marketplacev1.CatalogServiceClient

	checks         accessservicev2.AccessServiceClient
	usageKeys      knownKeys
	quotas         quotav1.LimitServiceClient
	customerLimits quotav1.CustomerQuotaServiceClient

	requests *request.Engine
	grants   accessv1.GrantServiceClient
	logger   *zap.Logger
}

func (c Config) build(ctx context.Context, base server.Base) (*server.Parts, error) {
	key, err := secret.Get(ctx, base.DB, Name, "page", page.KeySize)
	if err != nil {
		return nil, err
	}
	pages, err := page.New(key)
	if err != nil {
		return nil, err
	}
	cat, err := catalog.Load()
	if err != nil {
		return nil, err
	}
	peer := base.Peer("accessbindings")
	s := &Service{
		cfg:        c,
		store:      &Store{db: base.DB},
		operations: operation.NewStore(base.DB, Name, id.OperationPartner, base.Now),
		keys:       idempotency.NewStore(base.DB, Name, base.Now),
		jobs:       jobs.New(jobs.Config{DB: base.DB, Unit: Name, Log: base.Log}),
		pages:      pages,
		limits:     quota.NewLimits(base.Peer("resourcemanager"), base.Now),
		now:        func() time.Time { return base.Now().Truncate(time.Microsecond) }, // as it is stored
		decider:    authz.NewClient(peer),
		tree:       accessv1.NewResourceServiceClient(peer),
		bindings:   accessv1.NewAccessBindingServiceClient(peer),
		catalog:    cat,

		payers:        accessv1.NewPayerServiceClient(peer),
		directory:     identityv1.NewDirectoryServiceClient(base.Peer("identity")),
		organizations: brmv1.NewCustomerOrganizationServiceClient(base.Peer("resourcemanager")),
		checks:        accessservicev2.NewAccessServiceClient(peer),
		notices:       notificationv1.NewNotificationServiceClient(base.Peer("notifications")),
		offers:        marketplacev1.NewCatalogServiceClient(base.Peer("marketplacerequests")),

		quotas:         quotav1.NewLimitServiceClient(base.Peer("resourcemanager")),
		customerLimits: quotav1.NewCustomerQuotaServiceClient(base.Peer("resourcemanager")),

		grants: accessv1.NewGrantServiceClient(peer),
		logger: base.Log,
	}
	s.log = access.Operations{Own: s.operations, Log: accessv1.NewOperationLogServiceClient(peer), Pages: pages}
	s.requests = request.New(request.Config{
		DB: base.DB, Unit: Name, Jobs: s.jobs, Grid: accessGrid, Consequence: &letIn{Service: s}, Now: s.now,
	})
	jobs.Register(s.jobs, jobRegister, s.register)
	jobs.Register(s.jobs, jobDelete, s.deleteAccount)
	jobs.Register(s.jobs, jobSubaccount, s.enroll)
	jobs.Register(s.jobs, jobAccept, s.accept)
	jobs.Register(s.jobs, jobMail, s.sendInvitation)
	jobs.Register(s.jobs, jobStanding, s.tellStanding)
	jobs.Register(s.jobs, jobPayer, s.tellPayer)
	jobs.Register(s.jobs, jobMailUser, s.sendUserMail)
	s.handleBudgets()
	jobs.Register(s.jobs, jobBindOrganization, s.bindOrganization)
	jobs.Register(s.jobs, jobAccessMail, s.sendAccessMail)
	if err := base.Metrics.Register(s.jobs); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return &server.Parts{
		Register: s.registerServices, Operations: s.operations, Keys: s.keys, Usage: s.usage(), Run: s.run,
		RegisterOperator: func(r grpc.ServiceRegistrar) {
			partnerv1.RegisterOperatorServiceServer(r, &operators{Service: s})
			partnerv1.RegisterMoneyOperatorServiceServer(r, &moneyOperators{Service: s})
		},
		Resolvers: map[string]authz.Resolver{
			"budget": s.resolveBudget, "referralLink": s.resolveReferralLink,
			"customerAccess": s.accessedOrganization, "customerAccessAccount": s.accessAccount,
		},
		Keyed: []string{partnerv1.OperatorService_SetBillingAccountState_FullMethodName, partnerv1.OperatorService_SetPartnerStatus_FullMethodName},
	}, nil
}

func (s *Service) registerServices(r grpc.ServiceRegistrar) {
	billingv1.RegisterBillingAccountServiceServer(r, &publicAccounts{
		Service: s, Bindings: access.Bindings{Client: s.bindings, Type: typeAccount},
	})
	partnerv1.RegisterBillingAccountServiceServer(r, &accounts{Service: s})
	partnerv1.RegisterPartnerServiceServer(r, &partners{Service: s})
	partnerv1.RegisterPartnerCardServiceServer(r, &cards{Service: s})
	partnerv1.RegisterSubaccountServiceServer(r, &subaccounts{Service: s})
	partnerv1.RegisterSubaccountAccessServiceServer(r, &subaccountAccess{Service: s})
	billingv1.RegisterCustomerServiceServer(r, &publicCustomers{Service: s})
	partnerv1.RegisterUsageServiceServer(r, &usage{Service: s})
	recordsv1.RegisterConsumptionCoreServiceServer(r, &consumption{Service: s})
	recordsv1.RegisterMetadataServiceServer(r, &usageMetadata{Service: s})
	partnerv1.RegisterUsageIngestServiceServer(r, &ingest{Service: s})
	partnerv1.RegisterRewardServiceServer(r, &rewards{Service: s})
	partnerv1.RegisterReferralServiceServer(r, &referralService{Service: s})
	billingv1.RegisterServiceServiceServer(r, &services{Service: s})
	billingv1.RegisterSkuServiceServer(r, &skus{Service: s})
	billingv1.RegisterBudgetServiceServer(r, &budgets{Service: s})
	partnerv1.RegisterCustomerQuotaServiceServer(r, &customerQuotas{Service: s})
	partnerv1.RegisterCustomerAccessServiceServer(r, &customerAccesses{Service: s})
}

// run executes jobs, and notes what is over or begins, until ctx ends.
func (s *Service) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.jobs.Run(ctx) })
	g.Go(func() error {
		tick := time.NewTicker(sweepEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
					s.logger.Warn("accesses that are over, or budgets that begin, were not noted", zap.Error(err))
				}
			}
		}
	})
	return g.Wait()
}

// usage counts the quotas that the unit owns (QL-3).
func (s *Service) usage() map[string]quota.Usage {
	return map[string]quota.Usage{
		catalog.QuotaBillingAccounts: func(ctx context.Context, subjectID string) (int64, error) {
			return s.store.CountAccountsOf(ctx, s.store.db, subjectID)
		},
	}
}

// handleBudgets registers what budgets need.
func (s *Service) handleBudgets() {
	jobs.Register(s.jobs, jobBudgets, s.lookAtBudgets)
	jobs.Register(s.jobs, jobBudgetMail, s.sendBudgetMail)
}
