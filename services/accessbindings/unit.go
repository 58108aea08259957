package accessbindings

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// Name of the unit, of its schema, and in the names of its kit tables.
const Name = "accessbindings"

// operationPrefix begins the ids of the unit's operations.
const operationPrefix = "oab"

// Unit is the unit of the suite.
func Unit() server.Unit {
	return server.Unit{
		Name:  Name,
		Needs: []string{"identity"},
		Migrations: []sqldb.Migrations{
			Migrations(), operation.Migrations(Name), idempotency.Migrations(Name), audit.Migrations(Name), secret.Migrations(Name),
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
	bindings   *Bindings
	resources  *Resources
	subjects   *Subjects
	oplog      *OperationLog
	roles      *Roles
	access     *AccessService
	committer  *committer
	operations *operation.Store
	now        func() time.Time
	log        *zap.Logger
}

// New loads the graph from the store and begins to take writes.
func New(ctx context.Context, base server.Base) (*Service, error) {
	c, err := catalog.Load()
	if err != nil {
		return nil, fmt.Errorf("load the catalogue: %w", err)
	}
	key, err := secret.Get(ctx, base.DB, Name, "page", page.KeySize)
	if err != nil {
		return nil, err
	}
	pages, err := page.New(key)
	if err != nil {
		return nil, err
	}
	g, err := (&store{db: base.DB}).load(ctx, c)
	if err != nil {
		return nil, err
	}
	ops := operation.NewStore(base.DB, Name, operationPrefix, base.Now)
	w := newCommitter(base.DB, g, ops, base.Now, base.Log)
	if err := w.observe(base.Metrics); err != nil {
		return nil, err
	}
	w.start()
	book := newRoleBook(c)
	return &Service{
		bindings:   &Bindings{committer: w, catalog: book, pages: pages, now: base.Now},
		resources:  &Resources{committer: w, catalog: book},
		subjects:   &Subjects{committer: w, catalog: book},
		oplog:      &OperationLog{operations: ops, committer: w},
		roles:      &Roles{catalog: c, pages: pages},
		access:     &AccessService{graph: g, tokens: base.Tokens, now: base.Now},
		committer:  w,
		operations: ops, now: base.Now, log: base.Log,
	}, nil
}

// Parts is what the unit gives its process.
func (s *Service) Parts() *server.Parts {
	return &server.Parts{
		Register: func(r grpc.ServiceRegistrar) {
			accessservicev2.RegisterAccessServiceServer(r, s.access)
			accessv1.RegisterAccessBindingServiceServer(r, s.bindings)
			accessv1.RegisterResourceServiceServer(r, s.resources)
			accessv1.RegisterSubjectServiceServer(r, s.subjects)
			accessv1.RegisterOperationLogServiceServer(r, s.oplog)
			iamv1.RegisterRoleServiceServer(r, s.roles)
		},
		Decider:    &decider{graph: s.committer.graph, now: s.now},
		Quiet:      []string{accessservicev2.AccessService_ServiceDesc.ServiceName},
		Operations: s.operations,
		Keys:       s.committer.keys,
		Ready:      func(context.Context) error { return s.committer.graph.fault() },
		Run:        s.run,
		Close: func() error {
			s.committer.close()
			return nil
		},
	}
}

// sweepEvery is how often bindings that have ended leave the store. They decide
// nothing from their end on.
const sweepEvery = time.Minute

// run sweeps until ctx ends.
func (s *Service) run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
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
	if err := errors.Join(s.committer.expire(ctx), s.committer.forget(ctx)); err != nil && ctx.Err() == nil {
		s.log.Warn("ended bindings and tokens were not swept", zap.Error(err))
	}
}
