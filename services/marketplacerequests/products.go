package marketplacerequests

import (
	"context"
	"database/sql"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/request"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

const permissionGetProduct = "marketplace.products.get"

// products is ProductService. Permissions: see the method options.
type products struct {
	marketplacev1.UnsafeProductServiceServer // a missing method does not compile
	*Service
}

func (p Product) resource() authz.Resource { return authz.Resource{Type: typeProduct, ID: p.ID} }

// thing is the product as what requests are for.
func (p Product) thing() request.Ref { return request.Ref{Type: typeProduct, ID: p.ID} }

func (p Product) proto() *marketplacev1.Product {
	return &marketplacev1.Product{
		Id: p.ID, PublisherId: p.PublisherID, Slug: p.Slug, Type: marketplacev1.Product_Type(marketplacev1.Product_Type_value[p.Type]),
		Names: p.Names, Description: p.Description, Access: marketplacev1.Product_Access(marketplacev1.Product_Access_value[string(p.Access)]),
		State:  marketplacev1.Product_State(marketplacev1.Product_State_value[string(p.State)]),
		Review: p.Review, CreatedBy: p.CreatedBy, CreatedAt: timestamppb.New(p.CreatedAt),
	}
}

// CreateProduct makes a draft. MR-1: its access type is set when it is created. MR-3: its
// name in links is unique and for good. Fails: PUBLISHER_NOT_FOUND, SLUG_TAKEN.
func (s *products) CreateProduct(ctx context.Context, req *marketplacev1.CreateProductRequest) (*operationpb.Operation, error) {
	p := Product{
		ID: id.New(id.Product), PublisherID: req.GetPublisherId(), Slug: req.GetSlug(), Type: req.GetType().String(), Names: req.GetNames(),
		Description: req.GetDescription(), Access: Access(req.GetAccess().String()), State: Draft,
		CreatedBy: authn.FromContext(ctx).ID, CreatedAt: s.now(),
	}
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) (w written, err error) {
		owner, err := s.store.LockPublisher(ctx, tx, p.PublisherID)
		if err != nil {
			return w, err
		}
		if owner.Leaving {
			return w, errPublisherLeaving
		}
		if err := s.store.InsertProduct(ctx, tx, p); err != nil {
			return w, err
		}
		w.op, err = s.operation(ctx, tx, p.resource(), authz.Resource{}, permissionGetProduct, "Create product",
			&marketplacev1.CreateProductMetadata{ProductId: p.ID}, nil)
		if err != nil {
			return w, err
		}
		if err := s.record(ctx, tx, event{
			name: "CreateProduct", path: p.path(), permission: "marketplace.products.create", on: owner.resource(),
			details: map[string]any{"operation_id": w.op.ID, "access": string(p.Access)},
		}); err != nil {
			return w, err
		}
		w.ticket, err = s.enqueue(ctx, tx, jobPlaceProduct, productJob{Operation: w.op.ID, Product: p.ID})
		return w, err
	})
}

// GetProduct reads a product. Fails: PRODUCT_NOT_FOUND.
func (s *products) GetProduct(ctx context.Context, req *marketplacev1.GetProductRequest) (*marketplacev1.Product, error) {
	p, err := s.store.Product(ctx, s.store.db, req.GetProductId())
	if err != nil {
		return nil, err
	}
	return p.proto(), nil
}

// ListProducts lists the products of a publisher that the caller may see, newest first.
func (s *products) ListProducts(ctx context.Context, req *marketplacev1.ListProductsRequest) (*marketplacev1.ListProductsResponse, error) {
	f, err := filter.Parse(req.GetFilter(), "state", "slug")
	if err != nil {
		return nil, err
	}
	query := ProductQuery{PublisherID: req.GetPublisherId()}
	switch f.Field {
	case "state":
		if v := marketplacev1.Product_State_value[f.Value]; v == 0 {
			return nil, apierr.InvalidField("filter", "%q is not the state of a product", f.Value)
		}
		query.State = State(f.Value)
	case "slug":
		if query.Slug = f.Value; f.Value == "" {
			return new(marketplacev1.ListProductsResponse), nil // nothing has an empty name
		}
	}
	all, next, err := list(ctx, s.Service, req, listing[Product, *marketplacev1.Product]{
		scope: []string{"products", query.PublisherID, f.Field, f.Value}, position: Product.position, show: each(Product.proto),
		permission: permissionGetProduct, resource: Product.resource,
		fetch: func(ctx context.Context, after page.Position, limit int) ([]Product, error) {
			return s.store.Products(ctx, s.store.db, query, after, limit)
		},
	})
	if err != nil {
		return nil, err
	}
	return &marketplacev1.ListProductsResponse{Products: all, NextPageToken: next}, nil
}

// productChange names one change of a product.
type productChange struct {
	event, permission, description string
	metadata                       proto.Message
}

// change makes one change of a product, on its locked row, and has it made true.
func (s *products) change(ctx context.Context, productID string, c productChange, fn func(p *Product) error) (*operationpb.Operation, error) {
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) (w written, err error) {
		p, err := s.store.LockProduct(ctx, tx, productID)
		if err != nil {
			return w, err
		}
		before := p
		if err := fn(&p); err != nil {
			return w, err
		}
		job := p.settles(before)
		if err := s.store.UpdateProduct(ctx, tx, p); err != nil {
			return w, err
		}
		var response proto.Message // when there is nothing to be made true
		if job == nil {
			response = p.proto()
		}
		if w.op, err = s.operation(ctx, tx, p.resource(), authz.Resource{}, permissionGetProduct, c.description, c.metadata, response); err != nil {
			return w, err
		}
		if err := s.record(ctx, tx, event{
			name: c.event, path: p.path(), permission: c.permission, on: p.resource(),
			details: map[string]any{"operation_id": w.op.ID, "state": string(p.State), "access": string(p.Access)},
		}); err != nil || job == nil {
			return w, err
		}
		job.Operation = w.op.ID
		w.ticket, err = s.enqueue(ctx, tx, jobSettleProduct, *job)
		return w, err
	})
}

// UpdateProduct changes names, description or access. MR-19: what becomes available to
// all needs no requests, so the pending ones are cancelled; the approved ones stay,
// and count again when it becomes available on request, when nobody else has access
// any more. Fails: PRODUCT_NOT_FOUND, PRODUCT_STATE.
func (s *products) UpdateProduct(ctx context.Context, req *marketplacev1.UpdateProductRequest) (*operationpb.Operation, error) {
	fields, err := masked(req.GetUpdateMask(), "product_id", map[string]bool{
		"names": len(req.GetNames()) > 0, "description": req.GetDescription() != "", "access": req.GetAccess() != 0,
	})
	if err != nil {
		return nil, err
	}
	switch {
	case slices.Contains(fields, "names") && len(req.GetNames()) == 0:
		return nil, apierr.InvalidField("names", "must hold one name at least")
	case slices.Contains(fields, "access") && req.GetAccess() == 0:
		return nil, apierr.InvalidField("access", "must be PUBLIC or ON_REQUEST")
	}
	c := productChange{"UpdateProduct", "marketplace.products.update", "Update product", &marketplacev1.UpdateProductMetadata{ProductId: req.GetProductId()}}
	return s.change(ctx, req.GetProductId(), c, func(p *Product) error {
		if p.State == Archived {
			return productState(*p, "changed")
		}
		for _, field := range fields {
			switch field {
			case "names":
				p.Names = req.GetNames()
			case "description":
				p.Description = req.GetDescription()
			case "access":
				p.Access = Access(req.GetAccess().String())
			}
		}
		return nil
	})
}

// SubmitProduct hands a product to the platform for review (MR-3). Fails:
// PRODUCT_NOT_FOUND, PRODUCT_STATE.
func (s *products) SubmitProduct(ctx context.Context, req *marketplacev1.SubmitProductRequest) (*operationpb.Operation, error) {
	c := productChange{"SubmitProduct", "marketplace.moderationRequests.create", "Submit product", &marketplacev1.SubmitProductMetadata{ProductId: req.GetProductId()}}
	return s.change(ctx, req.GetProductId(), c, func(p *Product) error {
		if p.State != Draft && p.State != Rejected {
			return productState(*p, "submitted")
		}
		p.State, p.Review = InReview, ""
		return nil
	})
}

// ArchiveProduct is MR-20: an archived product is installed by nobody any more. Pending
// requests are cancelled and approved ones revoked by the platform; what is installed
// stays, as after any revocation (MR-13). Fails: PRODUCT_NOT_FOUND, PRODUCT_STATE.
func (s *products) ArchiveProduct(ctx context.Context, req *marketplacev1.ArchiveProductRequest) (*operationpb.Operation, error) {
	c := productChange{"ArchiveProduct", "marketplace.products.delete", "Archive product", &marketplacev1.ArchiveProductMetadata{ProductId: req.GetProductId()}}
	return s.change(ctx, req.GetProductId(), c, func(p *Product) error {
		if p.State == InReview || p.State == Archived {
			return productState(*p, "archived")
		}
		p.State = Archived
		return nil
	})
}

// ListProductUsers is MR-10: whoever has access to a product by an approved request,
// exactly those.
func (s *products) ListProductUsers(ctx context.Context, req *marketplacev1.ListProductUsersRequest) (*marketplacev1.ListProductUsersResponse, error) {
	query := request.Query{Thing: request.Ref{Type: typeProduct, ID: req.GetProductId()}, State: request.Approved, Now: s.now()}
	all, next, err := list(ctx, s.Service, req, listing[request.Request, *marketplacev1.ProductUser]{
		scope: []string{"product users", req.GetProductId()}, position: request.Request.Position,
		fetch: func(ctx context.Context, after page.Position, limit int) ([]request.Request, error) {
			return s.requests.Store.List(ctx, s.store.db, query, after, limit)
		},
		show: each(func(r request.Request) *marketplacev1.ProductUser {
			return &marketplacev1.ProductUser{
				SubjectType: r.Requester.Type, SubjectId: r.Requester.ID, RequestId: r.ID, ApprovedAt: timestamppb.New(r.DecidedAt),
			}
		}),
	})
	if err != nil {
		return nil, err
	}
	return &marketplacev1.ListProductUsersResponse{Users: all, NextPageToken: next}, nil
}

// CheckAccess is MR-2, MR-12: it is the check of its rule and nothing else.
func (s *products) CheckAccess(context.Context, *marketplacev1.CheckAccessRequest) (*marketplacev1.CheckAccessResponse, error) {
	return new(marketplacev1.CheckAccessResponse), nil
}

// ListProductOperations lists the operations on a product, newest first.
func (s *products) ListProductOperations(ctx context.Context, req *marketplacev1.ListProductOperationsRequest) (*marketplacev1.ListProductOperationsResponse, error) {
	ops, next, err := s.operationsOn(ctx, authz.Resource{Type: typeProduct, ID: req.GetProductId()}, req)
	if err != nil {
		return nil, err
	}
	return &marketplacev1.ListProductOperationsResponse{Operations: ops, NextPageToken: next}, nil
}
