package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/bindery-iam/bindery/pkg/apierr"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// readyEvery is how often the health of the units is looked at.
const readyEvery = 100 * time.Millisecond

// Run serves until ctx ends or something fails, then drains: no new calls, those
// under way end (at most Options.DrainFor), the units' own calls and work last.
// It returns nil when ctx asked for the end.
func (p *Process) Run(ctx context.Context) error {
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	g, failed := errgroup.WithContext(work)
	g.Go(func() error { return serve(p.inner.Serve(p.innerListen)) })
	g.Go(func() error { return serve(p.public.Serve(p.listen)) })
	if p.operator != nil {
		g.Go(func() error { return serve(p.operator.Serve(p.opListen)) })
	}
	g.Go(p.http.serve)
	g.Go(p.ops.serve)
	for _, u := range p.units {
		if u.Keys != nil {
			g.Go(func() error { return u.Keys.Run(failed, p.unswept(u)) })
		}
		if u.Run == nil {
			continue
		}
		g.Go(func() error {
			if err := u.Run(failed); err != nil && failed.Err() == nil {
				return fmt.Errorf("unit %s: %w", u.Name, err)
			}
			return nil
		})
	}
	g.Go(func() error { p.watchHealth(failed); return nil })
	g.Go(func() error { p.sweepTrails(failed); return nil })

	select {
	case <-ctx.Done():
	case <-failed.Done():
	}
	p.drain(ctx, stopWork)
	err := g.Wait()
	return errors.Join(err, p.Close())
}

// unswept logs that a unit's old idempotency keys are still there.
func (p *Process) unswept(u builtUnit) func(error) {
	return func(err error) {
		p.opts.Log.Warn("old idempotency keys were not swept", zap.String("unit", u.Name), zap.Error(err))
	}
}

// drain ends in the order in which calls depend on each other.
func (p *Process) drain(ctx context.Context, stopWork func()) {
	p.health.Shutdown()
	for _, u := range p.units {
		if u.Drain != nil {
			u.Drain()
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.opts.DrainFor)
	defer cancel()
	p.http.shutdown(ctx)
	stop(ctx, p.operator)
	stop(ctx, p.public)
	stopWork()
	stop(ctx, p.inner)
	p.ops.shutdown(ctx)
	p.ops.close()
	p.http.close()
}

// stop ends a server gracefully until ctx ends, then at once.
func stop(ctx context.Context, s *grpc.Server) {
	if s == nil {
		return
	}
	defer context.AfterFunc(ctx, s.Stop)()
	s.GracefulStop()
}

func serve(err error) error {
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve gRPC: %w", err)
	}
	return nil
}

// WaitReady returns when every unit is ready, or when ctx ends.
func (p *Process) WaitReady(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := p.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// watchHealth sets what grpc.health.v1 answers for each unit and service, and for
// the whole.
func (p *Process) watchHealth(ctx context.Context) {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	was := healthv1.HealthCheckResponse_UNKNOWN
	for {
		all := healthv1.HealthCheckResponse_SERVING
		if len(p.meetPeers()) > 0 {
			all = healthv1.HealthCheckResponse_NOT_SERVING
		}
		for _, u := range p.units {
			state := healthv1.HealthCheckResponse_SERVING
			if u.Ready != nil {
				if err := u.Ready(ctx); err != nil {
					state, all = healthv1.HealthCheckResponse_NOT_SERVING, healthv1.HealthCheckResponse_NOT_SERVING
				}
			}
			p.health.SetServingStatus(u.Name, state) // what its peers look at
			for _, svc := range u.services {
				p.health.SetServingStatus(svc.desc.ServiceName, state)
			}
		}
		p.router.health(p.health)
		if all != was {
			p.opts.Log.Info("health", zap.Stringer("status", all))
		}
		was = all
		p.health.SetServingStatus("", all)
		p.health.SetServingStatus(operationpb.OperationService_ServiceDesc.ServiceName, all)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// healthService is grpc's own, whose one refusal passes our error edge.
type healthService struct{ *health.Server }

// Check tells the health of a service, or of a unit by its name.
func (h healthService) Check(ctx context.Context, req *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	resp, err := h.Server.Check(ctx, req)
	if err != nil {
		return nil, apierr.NotFound("SERVICE_NOT_FOUND", "service %q is not served here", req.GetService())
	}
	return resp, nil
}
