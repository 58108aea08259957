package gateway

import (
	"context"
	"fmt"
	"net/http"
	"path"

	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/proto"
	auditv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/audit/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	endpointpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/endpoint"
)

// Unit is the gateway.
func Unit() server.Unit {
	return server.Unit{Name: "gateway", Needs: []string{accessBindings, identity, marketplaceRequests, notifications, partner, resourceManager}, Build: build}
}

func build(ctx context.Context, base server.Base) (*server.Parts, error) {
	rest, err := newREST(ctx, base.Door)
	if err != nil {
		return nil, fmt.Errorf("register REST: %w", err)
	}
	if rest, err = counted(base.Metrics, rest); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	trails, err := newAudits(base)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", rest)
	mux.Handle("GET /openapi.json", openAPI(proto.OpenAPI))
	mux.Handle("/docs/", docs())
	for _, at := range webPaths {
		mux.Handle(at, webDoor{identityv1.NewWebServiceClient(base.Peer(identity))})
	}
	mux.Handle("GET /{$}", http.RedirectHandler("/docs/", http.StatusFound))
	return &server.Parts{
		Register: func(r grpc.ServiceRegistrar) {
			endpointpb.RegisterApiEndpointServiceServer(r, &endpoints{address: base.Address})
			auditv1.RegisterAuditServiceServer(r, trails)
		},
		RegisterOperator: func(r grpc.ServiceRegistrar) { auditv1.RegisterOperatorServiceServer(r, trails) },
		Routes:           &routes,
		HTTP:             asSent{mux, rest},
	}, nil
}

// asSent serves the paths of mux. One that mux would clean up, and answer by a redirect to
// another resource, is left to REST, which refuses it as what it is.
type asSent struct{ mux, rest http.Handler }

func (a asSent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if clean := path.Clean(r.URL.Path); r.URL.Path != clean && r.URL.Path != clean+"/" {
		a.rest.ServeHTTP(w, r)
		return
	}
	a.mux.ServeHTTP(w, r)
}
