package accessbindings

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/lease"
	"github.com/bindery-iam/bindery/pkg/notice"
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
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// Name of the unit, of its schema, and in the names of its kit tables.
const Name = "accessbindings"

// operationPrefix begins the ids of the unit's operations.
const operationPrefix = "oab"

// Config is what may be said of the unit. Its zero value works.
type Config struct {
	// HistoryRetention is how long the history of the facts is kept, for questions about
	// the past and for those who follow the log; 0 is for ever, and what is longer than
	// that must be at least an hour.
	HistoryRetention time.Duration
}

// Validate reports what is wrong with the configuration.
func (c Config) Validate() error {
	if c.HistoryRetention != 0 && c.HistoryRetention < minRetention {
		return fmt.Errorf("the history is to be kept for %s: at least %s, or 0 for ever", c.HistoryRetention, minRetention)
	}
	return nil
}

// Unit is the unit of the suite, by default configuration.
func Unit() server.Unit { return Config{}.Unit() }

// Unit is the unit of the suite.
func (c Config) Unit() server.Unit {
	return server.Unit{
		Name:  Name,
		Needs: []string{"identity", "resourcemanager"},
		Migrations: []sqldb.Migrations{
			Migrations(), operation.Migrations(Name), idempotency.Migrations(Name), audit.Migrations(Name), secret.Migrations(Name),
			jobs.Migrations(Name), request.Migrations(Name), thread.Migrations(Name),
		},
		Build: func(ctx context.Context, base server.Base) (*server.Parts, error) {
			s, err := newService(ctx, base, c, lease.Default)
			if err != nil {
				return nil, err
			}
			return s.Parts(), nil
		},
	}
}

// Service is the unit at work.
type Service struct {
	bindings   *Bindings
	policies   *Policies
	templates  *Templates
	resources  *Resources
	grants     *Grants
	subjects   *Subjects
	groups     *Groups
	bundles    *GrantPolicies
	oplog      *OperationLog
	audience   *Audience
	roles      *Roles
	contents   *RoleCatalog
	analyzer   *Analyzer
	access     *AccessService
	changes    *Changes
	questions  *Permissions
	requests   *RoleRequests
	history    *historian
	every      time.Duration // between two sweeps
	committer  *committer
	jobs       *jobs.Queue // of the outbox
	operations *operation.Store
	now        func() time.Time
	log        *zap.Logger
}

// New loads the graph from the store and begins to take writes. Where the store is
// shared it answers once it has joined the other replicas.
func New(ctx context.Context, base server.Base) (*Service, error) {
	return newService(ctx, base, Config{}, lease.Default)
}

// openSeals makes what seals page tokens and decision ids, by keys of the store.
func openSeals(ctx context.Context, base server.Base, c *catalog.Catalog) (*page.Sealer, *seals, error) {
	key, err := secret.Get(ctx, base.DB, Name, "page", page.KeySize)
	if err != nil {
		return nil, nil, err
	}
	pages, err := page.New(key)
	if err != nil {
		return nil, nil, err
	}
	if key, err = secret.Get(ctx, base.DB, Name, "decision", sealKeySize); err != nil {
		return nil, nil, err
	}
	decisions, err := newSeals(key, commonWords(c))
	return pages, decisions, err
}

func newService(ctx context.Context, base server.Base, cfg Config, terms lease.Terms) (*Service, error) {
	c, err := catalog.Load()
	if err != nil {
		return nil, fmt.Errorf("load the catalogue: %w", err)
	}
	pages, decisions, err := openSeals(ctx, base, c)
	if err != nil {
		return nil, err
	}
	g, err := (&store{db: base.DB}).load(ctx, c)
	if err != nil {
		return nil, err
	}
	g.seals = decisions
	at := keepTime(&base)
	ops := operation.NewStore(base.DB, Name, operationPrefix, base.Now)
	w := newCommitter(base.DB, g, ops, base.Now, base.Log)
	w.at = at
	if err := w.place(ctx, base.DataDir, terms); err != nil {
		return nil, err
	}
	if err := w.observe(base.Metrics); err != nil {
		return nil, err
	}
	queue := jobs.New(jobs.Config{DB: base.DB, Unit: Name, Log: base.Log, Workers: 1})
	w.outbox = notice.NewOutbox(base, queue)
	if err := base.Metrics.Register(queue); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	changes, err := newChanges(w, c, &decider{graph: g, now: base.Now}, base.Tokens, base.Now)
	if err != nil {
		return nil, err
	}
	w.start()
	book := newRoleBook(c)
	within := &bounded{committer: w, limits: quota.NewLimits(base.Peer("resourcemanager"), base.Now)}
	bindings := &Bindings{committer: w, catalog: book, pages: pages, bounded: within, now: base.Now}
	lists := new(lists)
	requests := newRoleRequests(RoleRequests{
		committer: w, graph: g, catalog: book, bindings: bindings, pages: pages, jobs: queue, outbox: w.outbox, lists: lists,
		directory: identityv1.NewDirectoryServiceClient(base.Peer("identity")), now: base.Now,
	})
	past := &historian{db: base.DB, store: w.store, now: base.Now, keeps: cfg.HistoryRetention}
	return &Service{
		bindings: bindings,
		groups: &Groups{
			groupAccess: groupAccess{bindings}, committer: w, catalog: book, pages: pages, operations: ops,
			decider: &decider{graph: g, now: base.Now}, bounded: within, now: base.Now,
		},
		policies:  &Policies{committer: w, catalog: book, pages: pages},
		bundles:   &GrantPolicies{committer: w, catalog: book, pages: pages, bounded: within},
		templates: &Templates{catalog: c, pages: pages},
		resources: &Resources{committer: w, catalog: book, bindings: bindings, now: base.Now},
		grants:    &Grants{committer: w, catalog: book},
		subjects:  &Subjects{committer: w, catalog: book, pages: pages, bounded: within},
		oplog:     &OperationLog{operations: ops, committer: w},
		audience:  &Audience{committer: w},
		roles:     &Roles{catalog: c, pages: pages},
		contents:  &RoleCatalog{catalog: c, pages: pages},
		analyzer:  &Analyzer{committer: w, pages: pages, now: base.Now},
		access:    &AccessService{graph: g, after: func(ctx context.Context) error { return w.atLeast(ctx, "") }, tokens: base.Tokens, keys: identityv1.NewCredentialServiceClient(base.Peer("identity")), now: base.Now},
		changes:   changes,
		questions: &Permissions{
			committer: w, graph: g, history: past, catalog: book, bindings: bindings, lists: lists, now: base.Now,
		},
		requests:  requests,
		history:   past,
		every:     sweepEvery,
		committer: w, jobs: queue, operations: ops, now: base.Now, log: base.Log,
	}, nil
}

// Parts is what the unit gives its process.
func (s *Service) Parts() *server.Parts {
	return &server.Parts{
		Register: func(r grpc.ServiceRegistrar) {
			accessservicev2.RegisterAccessServiceServer(r, s.access)
			accessv1.RegisterAccessBindingServiceServer(r, s.bindings)
			accessv1.RegisterAccessPolicyServiceServer(r, s.policies)
			accessv1.RegisterResourceServiceServer(r, s.resources)
			accessv1.RegisterGrantServiceServer(r, s.grants)
			accessv1.RegisterSubjectServiceServer(r, s.subjects)
			accessv1.RegisterPayerServiceServer(r, &Payers{committer: s.committer})
			accessv1.RegisterOperationLogServiceServer(r, s.oplog)
			accessv1.RegisterAudienceServiceServer(r, s.audience)
			iamv1.RegisterRoleServiceServer(r, s.roles)
			iamv1.RegisterAccessPolicyTemplateServiceServer(r, s.templates)
			accessv1.RegisterRoleCatalogServiceServer(r, s.contents)
			accessv1.RegisterChangeServiceServer(r, s.changes)
			accessv1.RegisterPermissionServiceServer(r, s.questions)
			iamv1.RegisterAccessAnalyzerServiceServer(r, s.analyzer)
			orgv1.RegisterGroupServiceServer(r, s.groups)
			accessv1.RegisterGrantPolicyServiceServer(r, s.bundles)
			accessv1.RegisterRoleRequestServiceServer(r, s.requests)
		},
		Resolvers:  map[string]authz.Resolver{"subject_container": s.groups.containerOf, "grant_policy": s.bundles.organizationOf, "role_request": s.requests.resolve, "requested_role": s.requests.resourceOf},
		Decider:    &decider{graph: s.committer.graph, now: s.now},
		Fast:       s.access.fast(),
		Quiet:      []string{accessservicev2.AccessService_ServiceDesc.ServiceName},
		Operations: s.operations,
		Keys:       s.committer.keys,
		Usage:      s.committer.store.usage(),
		Ready:      func(context.Context) error { return s.committer.graph.fault() },
		Run:        s.run,
		Drain:      s.committer.graph.followers.stop,
		Close:      s.committer.close,
	}
}

// sweepEvery is how often bindings that have ended leave the store. They decide
// nothing from their end on.
const sweepEvery = time.Minute

// run sweeps, sends notices, and keeps the lease, until ctx ends.
func (s *Service) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if s.committer.replicas != nil {
		g.Go(func() error { return s.committer.replicas.run(ctx) })
	}
	g.Go(func() error { return s.jobs.Run(ctx) })
	g.Go(func() error { return s.sweeps(ctx) })
	g.Go(func() error {
		s.history.run(ctx, func(err error) { s.log.Warn("the history was not written", zap.Error(err)) })
		return nil
	})
	g.Go(func() error { return s.upgrade(ctx) })
	return g.Wait()
}

// upgradePause is between two attempts at a step over the store of an older program.
const upgradePause = 5 * time.Second

// upgrade takes the steps that a store of an older program needs. What fails is tried
// again.
func (s *Service) upgrade(ctx context.Context) error {
	for {
		err := errors.Join(s.giveDefaultGroups(ctx), s.history.learnPayers(ctx))
		if err == nil || ctx.Err() != nil {
			return nil //nolint:nilerr // ctx ended, which is no fault
		}
		s.log.Warn("the store was not brought up to this version, trying again", zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(upgradePause):
		}
	}
}

func (s *Service) sweeps(ctx context.Context) error {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.sweep(ctx)
		}
	}
}

// sweep drops the sources of bindings that have ended, and the ids of revoked
// tokens that no verifier accepts any more. What fails is tried again next time.
func (s *Service) sweep(ctx context.Context) {
	_, noteErr := s.committer.graph.followers.unnote(ctx)
	if err := errors.Join(s.committer.expire(ctx), s.committer.forget(ctx), noteErr); err != nil && ctx.Err() == nil {
		s.log.Warn("ended bindings and tokens were not swept", zap.Error(err))
	}
	if err := s.requests.sweep(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("ended role requests were not swept", zap.Error(err))
	}
	if err := s.history.prune(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("old history was not forgotten", zap.Error(err))
	}
}
