package gateway

import (
	"context"
	"sort"

	"github.com/bindery-iam/bindery/pkg/apierr"
	endpointpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/endpoint"
)

// endpointIDs are the services that the official clients look for and that
// bindery serves, by the ids of their discovery tables (clients.md, A2). One
// that does not answer must not stand here: a client would wait for it.
var endpointIDs = []string{"billing", "endpoint", "iam", "marketplace", "operation", "organization-manager", "quota-manager", "resource-manager"}

// endpoints implements yandex.cloud.endpoint.ApiEndpointService: every service
// is reached at the one address that clients are told.
type endpoints struct {
	endpointpb.UnimplementedApiEndpointServiceServer

	// address is HOST:PORT as clients dial it. It is known once the process
	// listens, which is before the first call.
	address func() string
}

// Get returns one endpoint. Fails: ENDPOINT_NOT_FOUND.
func (e *endpoints) Get(_ context.Context, req *endpointpb.GetApiEndpointRequest) (*endpointpb.ApiEndpoint, error) {
	id := req.GetApiEndpointId()
	i := sort.SearchStrings(endpointIDs, id)
	if i == len(endpointIDs) || endpointIDs[i] != id {
		return nil, apierr.NotFound("ENDPOINT_NOT_FOUND", "endpoint %q is not served here", id)
	}
	return &endpointpb.ApiEndpoint{Id: id, Address: e.address()}, nil
}

// List returns every endpoint in one page, whatever page size is asked for:
// clients do not follow next_page_token here.
func (e *endpoints) List(context.Context, *endpointpb.ListApiEndpointsRequest) (*endpointpb.ListApiEndpointsResponse, error) {
	out := &endpointpb.ListApiEndpointsResponse{}
	for _, id := range endpointIDs {
		out.Endpoints = append(out.Endpoints, &endpointpb.ApiEndpoint{Id: id, Address: e.address()})
	}
	return out, nil
}
