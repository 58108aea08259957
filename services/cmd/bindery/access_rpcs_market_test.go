package main

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
)

const (
	marketPackage  = "bindery.marketplace.v1."
	publisherRPC   = marketPackage + "PublisherService/"
	productRPC     = marketPackage + "ProductService/"
	requestRPC     = marketPackage + "ProductAccessRequestService/"
	instanceRPC    = marketPackage + "ProductInstanceService/"
	marketDesk     = marketPackage + "OperatorService/"
	productUser    = "marketplace.products.user"
	requestsPrefix = "marketplace.productAccessRequests."
)

// publisherOf makes a publisher of a founder of organizations, with an account of its
// own behind it.
func (w *accessWorld) publisherOf(owner person) *node {
	w.t.Helper()
	accountID, _ := w.billingAccount(owner, "")
	op, err := marketplacev1.NewPublisherServiceClient(w.Conn).CreatePublisher(w.as(owner), &marketplacev1.CreatePublisherRequest{
		BillingAccountId: accountID, Name: w.unique(),
	})
	w.must(err)
	n := &node{w: w, kind: publisher, id: w.made(op, new(marketplacev1.Publisher)), owner: owner, operation: op.GetId()}
	w.grant(requestsPrefix+"publisher", n, owner) // owners do not decide requests by themselves
	return n
}

// productOf makes a product on request that is offered.
func (w *accessWorld) productOf(n *node) (id, operation string) {
	w.t.Helper()
	client := marketplacev1.NewProductServiceClient(w.Conn)
	op, err := client.CreateProduct(w.as(n.owner), newProduct(n))
	w.must(err)
	id = w.made(op, new(marketplacev1.Product))
	_, err = client.SubmitProduct(w.as(n.owner), &marketplacev1.SubmitProductRequest{ProductId: id})
	w.must(err)
	_, err = marketplacev1.NewOperatorServiceClient(w.socket).ReviewProduct(w.t.Context(), &marketplacev1.ReviewProductRequest{ProductId: id, Approve: true})
	w.must(err)
	return id, op.GetId()
}

func newProduct(n *node) *marketplacev1.CreateProductRequest {
	return &marketplacev1.CreateProductRequest{
		PublisherId: n.id, Slug: n.w.unique(), Type: marketplacev1.Product_SAAS, Names: map[string]string{"en": "Thing"},
		Access: marketplacev1.Product_ON_REQUEST,
	}
}

// instanceOf installs a product into a folder.
func (w *accessWorld) instanceOf(n *node) (id, operation string) {
	w.t.Helper()
	product := w.offered()
	w.letIn(product, n.owner)
	op, err := marketplacev1.NewProductInstanceServiceClient(w.Conn).CreateProductInstance(w.as(n.owner), &marketplacev1.CreateProductInstanceRequest{
		FolderId: n.id, ProductId: product.id, Name: w.unique(),
	})
	w.must(err)
	return w.made(op, new(marketplacev1.ProductInstance)), op.GetId()
}

// offered is a product for those whose fixtures need any.
func (w *accessWorld) offered() *node {
	w.t.Helper()
	if w.product == nil {
		w.product = w.grow(product)
	}
	return w.product
}

// letIn gives somebody access to a product, as an approved request does.
func (w *accessWorld) letIn(on *node, who person) {
	w.t.Helper()
	_, err := accessv1.NewGrantServiceClient(w.units["marketplacerequests"]).PutGrant(w.t.Context(), &accessv1.PutGrantRequest{
		GrantId: w.unique(), Resource: on.resource(), AccessBinding: &accessv1.AccessBinding{RoleId: productUser, Subject: who.subject()},
	})
	w.must(err)
}

// installed gives a folder an installed product.
func installed(n *node) { n.other = n.w.child(n, instance) }

// asked files a request for a product by somebody who has a folder.
func asked(n *node) {
	w := n.w
	if w.customer == nil || w.asked%8 == 0 {
		w.customer = w.grow(folder)
	}
	w.asked++
	n.member = w.person()
	w.grant("resource-manager.viewer", w.customer, n.member)
	op, err := marketplacev1.NewProductAccessRequestServiceClient(w.Conn).CreateProductAccessRequest(w.as(n.member), &marketplacev1.CreateProductAccessRequestRequest{
		ProductId: n.id, FolderId: w.customer.id, Reason: "To work.",
	})
	w.must(err)
	n.asking = w.made(op, new(marketplacev1.ProductAccessRequest))
}

// approvedAlready is asked, and approved.
func approvedAlready(n *node) {
	asked(n)
	decider := n.w.person()
	n.w.grant(requestsPrefix+"publisher", n, decider)
	_, err := marketplacev1.NewProductAccessRequestServiceClient(n.w.Conn).ApproveProductAccessRequest(n.w.as(decider), &marketplacev1.ApproveProductAccessRequestRequest{RequestId: n.asking})
	n.w.must(err)
}

// drafted puts a product in the place of the one that is offered.
func drafted(n *node) {
	op, err := marketplacev1.NewProductServiceClient(n.w.Conn).CreateProduct(n.w.as(n.owner), newProduct(n.parent))
	n.w.must(err)
	n.id = n.w.made(op, new(marketplacev1.Product))
}

// inReview is drafted, and handed in.
func inReview(n *node) {
	drafted(n)
	_, err := marketplacev1.NewProductServiceClient(n.w.Conn).SubmitProduct(n.w.as(n.owner), &marketplacev1.SubmitProductRequest{ProductId: n.id})
	n.w.must(err)
}

// byMarketplace is the guard of what only the unit of the marketplace may.
var byMarketplace = guard{units: []string{"marketplacerequests"}}

var grantRPCs = []rpc{
	{
		method: "bindery.access.v1.GrantService/PutGrant", on: product, guard: byMarketplace,
		request: func(n *node) proto.Message {
			return &accessv1.PutGrantRequest{
				GrantId: n.w.unique(), Resource: n.resource(), AccessBinding: &accessv1.AccessBinding{RoleId: productUser, Subject: n.owner.subject()},
			}
		},
	},
	{
		method: "bindery.access.v1.GrantService/EndGrant", on: product, guard: byMarketplace,
		request: func(n *node) proto.Message {
			return &accessv1.EndGrantRequest{
				GrantId: n.w.unique(), Resource: n.resource(), AccessBinding: &accessv1.AccessBinding{RoleId: productUser, Subject: n.owner.subject()},
			}
		},
	},
	{
		method: "bindery.access.v1.GrantService/ListGrants", on: product, guard: byMarketplace,
		request: func(n *node) proto.Message { return &accessv1.ListGrantsRequest{Resource: n.resource()} },
	},
	{
		method: "bindery.access.v1.GrantService/ListPermissionHolders", on: product, guard: byMarketplace,
		request: func(n *node) proto.Message {
			return &accessv1.ListPermissionHoldersRequest{Resource: n.resource(), Permission: "marketplace.products.get"}
		},
	},
}

var marketRPCs = []rpc{
	{
		method: publisherRPC + "CreatePublisher", on: billing, guard: needs("marketplace.publishers.create"),
		request: func(n *node) proto.Message {
			return &marketplacev1.CreatePublisherRequest{BillingAccountId: n.id, Name: "new"}
		},
	},
	{
		method: publisherRPC + "GetPublisher", on: publisher, guard: needs("marketplace.publishers.get"),
		request: func(n *node) proto.Message { return &marketplacev1.GetPublisherRequest{PublisherId: n.id} },
	},
	{
		method: publisherRPC + "ListPublishers", guard: anySubject, // and sees what it may get
		request: fixed(&marketplacev1.ListPublishersRequest{}),
	},
	{
		method: publisherRPC + "UpdatePublisher", on: publisher, guard: needs("marketplace.publishers.update"),
		request: func(n *node) proto.Message {
			return &marketplacev1.UpdatePublisherRequest{PublisherId: n.id, UpdateMask: mask("description"), Description: "changed"}
		},
	},
	{
		method: publisherRPC + "DeletePublisher", on: publisher, guard: needs("marketplace.publishers.delete"),
		request: func(n *node) proto.Message { return &marketplacev1.DeletePublisherRequest{PublisherId: n.id} },
	},
	{
		method: publisherRPC + "AddPublisherUsers", on: publisher, guard: needs("marketplace.publishers.updateAccessBindings"),
		request: func(n *node) proto.Message {
			return &marketplacev1.AddPublisherUsersRequest{PublisherId: n.id, Users: []string{n.w.person().login + "@example.com"}}
		},
	},
	{
		method: publisherRPC + "ListPublisherOperations", on: publisher, guard: needs("marketplace.publishers.get"),
		request: func(n *node) proto.Message {
			return &marketplacev1.ListPublisherOperationsRequest{PublisherId: n.id}
		},
	},
	{
		method: productRPC + "CreateProduct", on: publisher, guard: needs("marketplace.products.create"),
		request: func(n *node) proto.Message { return newProduct(n) },
	},
	{
		method: productRPC + "GetProduct", on: product, guard: needs("marketplace.products.get"),
		request: func(n *node) proto.Message { return &marketplacev1.GetProductRequest{ProductId: n.id} },
	},
	{
		method: productRPC + "ListProducts", on: publisher, prepare: haveChild,
		guard:   guard{permission: "marketplace.products.list", items: "marketplace.products.get"},
		request: func(n *node) proto.Message { return &marketplacev1.ListProductsRequest{PublisherId: n.id} },
	},
	{
		method: productRPC + "UpdateProduct", on: product, guard: needs("marketplace.products.update"),
		request: func(n *node) proto.Message {
			return &marketplacev1.UpdateProductRequest{ProductId: n.id, UpdateMask: mask("description"), Description: "changed"}
		},
	},
	{
		method: productRPC + "SubmitProduct", on: product, guard: needs("marketplace.moderationRequests.create"), prepare: drafted,
		request: func(n *node) proto.Message { return &marketplacev1.SubmitProductRequest{ProductId: n.id} },
	},
	{
		method: productRPC + "ArchiveProduct", on: product, guard: needs("marketplace.products.delete"),
		request: func(n *node) proto.Message { return &marketplacev1.ArchiveProductRequest{ProductId: n.id} },
	},
	{
		method: productRPC + "ListProductUsers", on: product, guard: needs("marketplace.productUsers.list"),
		request: func(n *node) proto.Message { return &marketplacev1.ListProductUsersRequest{ProductId: n.id} },
	},
	{
		method: productRPC + "CheckAccess", on: product, guard: needs("marketplace.products.install"),
		prepare: func(n *node) { n.w.letIn(n, n.owner) },
		request: func(n *node) proto.Message { return &marketplacev1.CheckAccessRequest{ProductId: n.id} },
	},
	{
		method: productRPC + "ListProductOperations", on: product, guard: needs("marketplace.products.get"),
		request: func(n *node) proto.Message { return &marketplacev1.ListProductOperationsRequest{ProductId: n.id} },
	},
	{
		method: productRPC + "GetListing", guard: anySubject, inside: codes.NotFound,
		request: fixed(&marketplacev1.GetListingRequest{Slug: "no-such-product"}),
	},
	{
		method: productRPC + "ListListings", guard: anySubject, request: fixed(&marketplacev1.ListListingsRequest{}),
	},
	{
		method: requestRPC + "CreateProductAccessRequest", on: folder, guard: needs("resource-manager.folders.get"),
		prepare: func(n *node) { n.other = n.w.grow(product) },
		request: func(n *node) proto.Message {
			return &marketplacev1.CreateProductAccessRequestRequest{ProductId: n.other.id, FolderId: n.id, Reason: "To work."}
		},
	},
	{
		method: requestRPC + "GetProductAccessRequest", on: product, guard: needs(requestsPrefix + "get"), prepare: asked,
		request: func(n *node) proto.Message {
			return &marketplacev1.GetProductAccessRequestRequest{RequestId: n.asking}
		},
	},
	{
		method: requestRPC + "ListProductAccessRequests", on: product, guard: needs(requestsPrefix + "get"),
		request: func(n *node) proto.Message {
			return &marketplacev1.ListProductAccessRequestsRequest{ProductId: n.id}
		},
	},
	{
		method: requestRPC + "ListOwnProductAccessRequests", guard: anySubject, // and sees its own
		request: fixed(&marketplacev1.ListOwnProductAccessRequestsRequest{}),
	},
	{
		method: requestRPC + "CancelProductAccessRequest", guard: anySubject, inside: codes.NotFound, // its own alone
		request: fixed(&marketplacev1.CancelProductAccessRequestRequest{RequestId: "par00000000000000000"}),
	},
	{
		method: requestRPC + "ApproveProductAccessRequest", on: product, guard: needs(requestsPrefix + "approve"), prepare: asked,
		request: func(n *node) proto.Message {
			return &marketplacev1.ApproveProductAccessRequestRequest{RequestId: n.asking}
		},
	},
	{
		method: requestRPC + "RejectProductAccessRequest", on: product, guard: needs(requestsPrefix + "reject"), prepare: asked,
		request: func(n *node) proto.Message {
			return &marketplacev1.RejectProductAccessRequestRequest{RequestId: n.asking}
		},
	},
	{
		method: requestRPC + "RequestRevocation", on: product, guard: needs(requestsPrefix + "requestRevoke"), prepare: approvedAlready,
		request: func(n *node) proto.Message {
			return &marketplacev1.RequestRevocationRequest{RequestId: n.asking, Reason: "They left."}
		},
	},
	{
		method: requestRPC + "CreateProductAccessRequestMessage", on: product, guard: needs(requestsPrefix + "createMessage"), prepare: asked,
		request: func(n *node) proto.Message {
			return &marketplacev1.CreateProductAccessRequestMessageRequest{RequestId: n.asking, Text: "Hello."}
		},
	},
	{
		method: requestRPC + "ListProductAccessRequestMessages", on: product, guard: needs(requestsPrefix + "createMessage"), prepare: asked,
		request: func(n *node) proto.Message {
			return &marketplacev1.ListProductAccessRequestMessagesRequest{RequestId: n.asking}
		},
	},
	{
		method: requestRPC + "MarkProductAccessRequestMessagesRead", on: product, guard: needs(requestsPrefix + "createMessage"), prepare: asked,
		request: func(n *node) proto.Message {
			return &marketplacev1.MarkProductAccessRequestMessagesReadRequest{RequestId: n.asking, Number: 1}
		},
	},
	{
		method: instanceRPC + "CreateProductInstance", on: folder, guard: needs("marketplace.productInstances.create"),
		prepare: func(n *node) { n.w.letIn(n.w.offered(), n.owner) },
		besides: func(n *node, who person) { n.w.letIn(n.w.offered(), who) },
		request: func(n *node) proto.Message {
			return &marketplacev1.CreateProductInstanceRequest{FolderId: n.id, ProductId: n.w.offered().id, Name: n.w.unique()}
		},
	},
	{
		method: instanceRPC + "CreateProductInstance", variant: "by who may install into the folder (MR-12)", on: product,
		guard: needs("marketplace.products.install"),
		prepare: func(n *node) {
			n.other = n.w.grow(folder)
			n.w.open("editor", n.other)
			n.w.letIn(n, n.owner)
		},
		request: func(n *node) proto.Message {
			return &marketplacev1.CreateProductInstanceRequest{FolderId: n.other.id, ProductId: n.id, Name: n.w.unique()}
		},
	},
	{
		method: instanceRPC + "GetProductInstance", on: folder, prepare: installed, guard: needs("marketplace.productInstances.get"),
		request: func(n *node) proto.Message {
			return &marketplacev1.GetProductInstanceRequest{ProductInstanceId: n.other.id}
		},
	},
	{
		method: instanceRPC + "ListProductInstances", on: folder, child: instance,
		prepare: func(n *node) { n.w.child(n, instance) },
		guard:   guard{permission: "marketplace.productInstances.get", items: "marketplace.productInstances.get"},
		request: func(n *node) proto.Message { return &marketplacev1.ListProductInstancesRequest{FolderId: n.id} },
	},
	{
		method: instanceRPC + "UpdateProductInstance", on: folder, prepare: installed, guard: needs("marketplace.productInstances.update"),
		request: func(n *node) proto.Message {
			return &marketplacev1.UpdateProductInstanceRequest{ProductInstanceId: n.other.id, Name: n.w.unique()}
		},
	},
	{
		method: instanceRPC + "ActivateProductInstance", on: folder, prepare: installed, guard: needs("marketplace.productInstances.activate"),
		request: func(n *node) proto.Message {
			return &marketplacev1.ActivateProductInstanceRequest{ProductInstanceId: n.other.id}
		},
	},
	{
		method: instanceRPC + "DeactivateProductInstance", on: folder, prepare: installed, guard: needs("marketplace.productInstances.activate"),
		request: func(n *node) proto.Message {
			return &marketplacev1.DeactivateProductInstanceRequest{ProductInstanceId: n.other.id}
		},
	},
	{
		method: instanceRPC + "DeleteProductInstance", on: folder, prepare: installed, guard: needs("marketplace.productInstances.update"),
		request: func(n *node) proto.Message {
			return &marketplacev1.DeleteProductInstanceRequest{ProductInstanceId: n.other.id}
		},
	},
}

// marketDeskRPCs are what the operator does in the marketplace.
var marketDeskRPCs = []rpc{
	{
		method: marketDesk + "ListAllProducts", guard: guard{operator: true}, request: fixed(&marketplacev1.ListAllProductsRequest{}),
	},
	{
		method: marketDesk + "ReviewProduct", on: product, guard: guard{operator: true}, prepare: inReview,
		request: func(n *node) proto.Message {
			return &marketplacev1.ReviewProductRequest{ProductId: n.id, Approve: true}
		},
	},
	{
		method: marketDesk + "GetAccessRequest", on: product, guard: guard{operator: true}, prepare: asked,
		request: func(n *node) proto.Message { return &marketplacev1.GetAccessRequestRequest{RequestId: n.asking} },
	},
	{
		method: marketDesk + "ListAccessRequests", guard: guard{operator: true}, request: fixed(&marketplacev1.ListAccessRequestsRequest{}),
	},
	{
		method: marketDesk + "RevokeAccessRequest", on: product, guard: guard{operator: true}, prepare: approvedAlready,
		request: func(n *node) proto.Message {
			return &marketplacev1.RevokeAccessRequestRequest{RequestId: n.asking, Reason: "As asked."}
		},
	},
	{
		method: marketDesk + "CreateMessage", on: product, guard: guard{operator: true}, prepare: asked,
		request: func(n *node) proto.Message {
			return &marketplacev1.CreateMessageRequest{RequestId: n.asking, Text: "We look at it."}
		},
	},
	{
		method: marketDesk + "ListMessages", on: product, guard: guard{operator: true}, prepare: asked,
		request: func(n *node) proto.Message { return &marketplacev1.ListMessagesRequest{RequestId: n.asking} },
	},
}
