package accessbindings

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"

	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
)

// manager stands for the unit resourcemanager, of which this unit asks the limits
// only: those of the catalogue, but for the ones that a test sets.
type manager struct {
	quotav1.UnsafeLimitServiceServer
	mu     sync.Mutex
	limits map[string]int64 // by quota and id of the resource
}

func (m *manager) unit(c *catalog.Catalog) server.Unit {
	for _, q := range c.Quotas() {
		m.set(q.ID, "", q.Limit)
	}
	return server.Unit{Name: "resourcemanager", Build: func(_ context.Context, base server.Base) (*server.Parts, error) {
		return &server.Parts{
			Register: func(r grpc.ServiceRegistrar) { quotav1.RegisterLimitServiceServer(r, m) },
			Decider:  authz.NewClient(base.Peer(Name)),
		}, nil
	}}
}

// set changes the limit of one resource, of all without one of their own for "".
func (m *manager) set(quotaID, resourceID string, limit int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.limits == nil {
		m.limits = make(map[string]int64)
	}
	m.limits[quotaID+" "+resourceID] = limit
}

func (m *manager) GetLimits(_ context.Context, req *quotav1.GetLimitsRequest) (*quotav1.GetLimitsResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	resp := new(quotav1.GetLimitsResponse)
	for _, id := range req.GetQuotaIds() {
		limit, own := m.limits[id+" "+req.GetResource().GetId()]
		if !own {
			limit = m.limits[id+" "]
		}
		resp.Limits = append(resp.Limits, &quotav1.Limit{QuotaId: id, Limit: limit})
	}
	return resp, nil
}
