package marketplacerequests

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/thread"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

const permissionGetRequest = "marketplace.productAccessRequests.get"

// accessRequests is ProductAccessRequestService. Permissions: see the method options.
// MR-5, MR-17: the publisher's side is whoever holds them by a role on the product or
// on its publisher.
type accessRequests struct {
	marketplacev1.UnsafeProductAccessRequestServiceServer // a missing method does not compile
	*Service
}

// place is where the product is to be installed: the body of a request (MR-15).
type place struct {
	Folder    string `json:"folder"`
	Cloud     string `json:"cloud"`
	Publisher string `json:"publisher"` // of the product, which never changes it
}

func placeOf(r request.Request) (at place) {
	_ = json.Unmarshal(r.Body, &at) // it was marshalled from one
	return at
}

// resolveRequest leads from a request to what the caller needs a permission on: nothing
// for a requester's own, the product else.
func (s *Service) resolveRequest(ctx context.Context, requestID string) (authz.Resource, error) {
	r, err := s.requests.Store.Get(ctx, s.store.db, requestID)
	if err != nil {
		return authz.Resource{}, err
	}
	if r.Requester == caller(ctx) {
		return authz.Resource{Type: authz.UserAccount, ID: r.Requester.ID}, nil
	}
	return authz.Resource{Type: r.Thing.Type, ID: r.Thing.ID}, nil
}

// resolveProduct leads from a request to its product.
func (s *Service) resolveProduct(ctx context.Context, requestID string) (authz.Resource, error) {
	r, err := s.requests.Store.Get(ctx, s.store.db, requestID)
	return authz.Resource{Type: r.Thing.Type, ID: r.Thing.ID}, err
}

// side is the caller's side of a request that it may see.
func side(ctx context.Context, r request.Request) request.Side {
	if r.Requester == caller(ctx) {
		return request.Requester
	}
	return request.Decider
}

// show shows requests to a side.
func (s *Service) show(ctx context.Context, to request.Side, all ...request.Request) ([]*marketplacev1.ProductAccessRequest, error) {
	ids := make([]string, len(all))
	for i, r := range all {
		ids[i] = r.ID
	}
	sizes, err := s.requests.Threads.Sizes(ctx, s.store.db, string(to), ids...)
	if err != nil {
		return nil, err
	}
	shown := make([]*marketplacev1.ProductAccessRequest, len(all))
	for i, r := range all {
		shown[i] = message(r, sizes[r.ID])
		if to == request.Requester { // what the publisher asks of the platform is between them (MR-8)
			shown[i].RevocationReason, shown[i].RevocationRequestedAt = "", nil
		}
	}
	return shown, nil
}

// message is the public message of a request, with the plea.
func message(r request.Request, size thread.Size) *marketplacev1.ProductAccessRequest {
	at := placeOf(r)
	return &marketplacev1.ProductAccessRequest{
		Id: r.ID, ProductId: r.Thing.ID, RequesterType: r.Requester.Type, RequesterId: r.Requester.ID, FolderId: at.Folder, CloudId: at.Cloud,
		Reason: r.Reason, State: marketplacev1.ProductAccessRequest_State(marketplacev1.ProductAccessRequest_State_value[string(r.State)]),
		CreatedAt: timestamppb.New(r.CreatedAt), DecidedBy: r.DecidedBy.ID, DecidedAt: stamp(r.DecidedAt), Decision: r.Decision,
		RevocationReason: r.Plea, RevocationRequestedAt: stamp(r.PleaAt), EndedAt: stamp(r.EndedAt), EndReason: r.EndReason,
		MessageCount: size.Messages, UnreadCount: size.Unread, Settled: r.Settled,
	}
}

// stamp leaves the zero time out of a message.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// CreateProductAccessRequest files a request. MR-11: one live request for a product and
// a requester. MR-15: it holds the subject, and the cloud that it will install into.
// MR-24 [ours]: people ask; a service account installs what somebody answers for.
// Fails: PRODUCT_NOT_FOUND, PRODUCT_NOT_ON_REQUEST, REQUESTER_NOT_ELIGIBLE,
// REQUEST_EXISTS, RESOURCE_NOT_FOUND.
func (s *accessRequests) CreateProductAccessRequest(ctx context.Context, req *marketplacev1.CreateProductAccessRequestRequest) (*operationpb.Operation, error) {
	if err := thread.Check("reason", req.GetReason()); err != nil {
		return nil, err
	}
	requester := caller(ctx)
	if requester.Type != authn.UserAccount && requester.Type != federatedUser {
		return nil, errNotEligible
	}
	cloudID, err := s.cloudOf(ctx, req.GetFolderId())
	if err != nil {
		return nil, err
	}
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) (w written, err error) {
		p, err := s.store.LockProduct(ctx, tx, req.GetProductId()) // neither archived nor opened to all meanwhile
		switch {
		case err != nil:
			return w, err
		case p.State != Approved:
			return w, errProductNotFound
		case p.Access != OnRequest:
			return w, errNotOnRequest
		}
		body, err := json.Marshal(place{Folder: req.GetFolderId(), Cloud: cloudID, Publisher: p.PublisherID})
		if err != nil {
			return w, fmt.Errorf("place of request: %w", err)
		}
		r, err := s.requests.Create(ctx, tx, request.Request{
			ID: id.New(id.AccessRequest), Thing: p.thing(), Requester: requester, Reason: req.GetReason(), Body: body,
		})
		if err != nil {
			return w, err
		}
		w.op, err = s.requestOperation(ctx, &w.rest, r, "Create product access request",
			&marketplacev1.CreateProductAccessRequestMetadata{RequestId: r.ID, ProductId: p.ID}, message(r, thread.Size{}))
		if err != nil {
			return w, err
		}
		if err := s.note(ctx, &w.rest, r, "CreateProductAccessRequest", w.op.ID, "", nil); err != nil {
			return w, err
		}
		return w, s.tellOf(&w.rest, r, notice.AccessRequestCreated, 0, request.Decider)
	})
}

// federatedUser is the type of people of federations.
const federatedUser = "federatedUser"

// cloudOf reads the cloud of a folder.
func (s *Service) cloudOf(ctx context.Context, folderID string) (string, error) {
	resp, err := s.tree.GetResourcePath(server.AsUnit(ctx), &accessv1.GetResourcePathRequest{Resource: &accessv1.Resource{Type: typeFolder, Id: folderID}})
	if err != nil {
		return "", apierr.FromRPC(err)
	}
	for _, step := range resp.GetPath() {
		if step.GetType() == typeCloud {
			return step.GetId(), nil
		}
	}
	return "", nil
}

// GetProductAccessRequest reads a request. Fails: REQUEST_NOT_FOUND.
func (s *accessRequests) GetProductAccessRequest(ctx context.Context, req *marketplacev1.GetProductAccessRequestRequest) (*marketplacev1.ProductAccessRequest, error) {
	r, err := s.requests.Store.Get(ctx, s.store.db, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	shown, err := s.show(ctx, side(ctx, r), r)
	if err != nil {
		return nil, err
	}
	return shown[0], nil
}

// narrowed is what lists of requests have in common.
type narrowed interface {
	pageRequest
	GetFilter() string
	GetOrderBy() string
}

// listRequests reads one page of requests.
func (s *Service) listRequests(ctx context.Context, req narrowed, query request.Query, to request.Side, scope ...string) ([]*marketplacev1.ProductAccessRequest, string, error) {
	f, err := filter.Parse(req.GetFilter(), "state")
	if err != nil {
		return nil, "", err
	}
	if f.Field != "" {
		if v := marketplacev1.ProductAccessRequest_State_value[f.Value]; v == 0 {
			return nil, "", apierr.InvalidField("filter", "%q is not the state of a request", f.Value)
		}
		query.State, query.Now = request.State(f.Value), s.now()
	}
	switch req.GetOrderBy() {
	case "", "createdAt desc":
	case "createdAt", "createdAt asc":
		query.Oldest = true
	default:
		return nil, "", apierr.InvalidField("order_by", `must be "createdAt" or "createdAt desc"`)
	}
	return list(ctx, s, req, listing[request.Request, *marketplacev1.ProductAccessRequest]{
		scope: append(scope, f.Value, fmt.Sprint(query.Oldest)), position: request.Request.Position,
		fetch: func(ctx context.Context, after page.Position, limit int) ([]request.Request, error) {
			return s.requests.Store.List(ctx, s.store.db, query, after, limit)
		},
		show: func(ctx context.Context, all []request.Request) ([]*marketplacev1.ProductAccessRequest, error) {
			return s.show(ctx, to, all...)
		},
	})
}

// ListProductAccessRequests lists the requests for a product.
func (s *accessRequests) ListProductAccessRequests(ctx context.Context, req *marketplacev1.ListProductAccessRequestsRequest) (*marketplacev1.ListProductAccessRequestsResponse, error) {
	query := request.Query{Thing: request.Ref{Type: typeProduct, ID: req.GetProductId()}}
	all, next, err := s.listRequests(ctx, req, query, request.Decider, "requests", req.GetProductId())
	if err != nil {
		return nil, err
	}
	return &marketplacev1.ListProductAccessRequestsResponse{Requests: all, NextPageToken: next}, nil
}

// ListOwnProductAccessRequests lists the requests of the caller.
func (s *accessRequests) ListOwnProductAccessRequests(ctx context.Context, req *marketplacev1.ListOwnProductAccessRequestsRequest) (*marketplacev1.ListOwnProductAccessRequestsResponse, error) {
	who := caller(ctx)
	all, next, err := s.listRequests(ctx, req, request.Query{Requester: who}, request.Requester, "own requests", who.Type, who.ID)
	if err != nil {
		return nil, err
	}
	return &marketplacev1.ListOwnProductAccessRequestsResponse{Requests: all, NextPageToken: next}, nil
}

// requestOperation adds an operation on a request, shown to whoever may see it on the
// publisher's side too.
func (s *Service) requestOperation(ctx context.Context, b *sqldb.Batch, r request.Request, description string, metadata, response proto.Message) (operation.Operation, error) {
	return s.operations.InsertIn(ctx, b, operation.New{
		Resource: authz.Resource{Type: typeRequest, ID: r.ID}, ViewOn: authz.Resource{Type: r.Thing.Type, ID: r.Thing.ID}, ViewPermission: permissionGetRequest,
		Description: description, CreatedBy: authn.FromContext(ctx).ID, Metadata: metadata, Response: response,
	})
}
