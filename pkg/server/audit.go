package server

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/audit"
	auditv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/audit/v1"
)

// sweepEvery is how often records are looked at that may be too old.
const sweepEvery = time.Hour

// trails are those of the units that keep audit records, by name.
func (p *Process) trails() map[string]*audit.Trail {
	all := make(map[string]*audit.Trail)
	for _, u := range p.units {
		if audit.Kept(u.Name, u.Migrations) {
			all[u.Name] = audit.NewTrail(p.opts.DB(u.Name), u.Name)
		}
	}
	return all
}

// trailService returns the one TrailService of the process.
func (p *Process) trailService() service {
	return service{&auditv1.TrailService_ServiceDesc, &audit.Trails{Of: p.trails()}}
}

// sweepTrails removes audit records that are older than Options.AuditRetention, at
// once and then every hour, until ctx ends.
func (p *Process) sweepTrails(ctx context.Context) {
	if p.opts.AuditRetention == 0 {
		return
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		for unit, trail := range p.trails() {
			n, err := trail.Sweep(ctx, p.opts.Now().Add(-p.opts.AuditRetention))
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				p.opts.Log.Warn("old audit records were not removed", zap.String("unit", unit), zap.Error(err))
			case n > 0:
				p.opts.Log.Info("old audit records were removed", zap.String("unit", unit), zap.Int64("records", n))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
