package marketplacerequests

import (
	"context"
	"database/sql"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

const (
	permissionGetPublisher = "marketplace.publishers.get"
	typeBillingAccount     = "billing.account"
	roleOwner              = "marketplace.publishers.owner"
)

// publishers is PublisherService. Permissions: see the method options.
type publishers struct {
	marketplacev1.UnsafePublisherServiceServer // a missing method does not compile
	*Service
}

func (p Publisher) resource() authz.Resource { return authz.Resource{Type: typePublisher, ID: p.ID} }

func (p Publisher) proto() *marketplacev1.Publisher {
	return &marketplacev1.Publisher{
		Id: p.ID, BillingAccountId: p.BillingAccountID, Name: p.Name, Description: p.Description, CreatedBy: p.CreatedBy,
		CreatedAt: timestamppb.New(p.CreatedAt),
	}
}

// Jobs of publishers.
const (
	jobPlacePublisher  = "place-publisher"
	jobDeletePublisher = "delete-publisher"
)

// publisherJob is their payload. The owner is who made the publisher.
type publisherJob struct {
	Operation string `json:"operation"`
	Publisher string `json:"publisher"`
	OwnerType string `json:"owner_type,omitempty"`
	OwnerID   string `json:"owner_id,omitempty"`
}

// CreatePublisher is MR-4: a publisher is tied to a billing account and belongs to the
// owner of that account, who makes it: the permission for that is the owner's alone. The
// role cannot be given or taken by hand (AS-15). Fails: PUBLISHER_EXISTS.
func (s *publishers) CreatePublisher(ctx context.Context, req *marketplacev1.CreatePublisherRequest) (*operationpb.Operation, error) {
	caller := authn.FromContext(ctx)
	p := Publisher{
		ID: id.New(id.Publisher), BillingAccountID: req.GetBillingAccountId(), Name: req.GetName(), Description: req.GetDescription(),
		CreatedBy: caller.ID, CreatedAt: s.now(),
	}
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) (w written, err error) {
		if err := s.store.InsertPublisher(ctx, tx, p); err != nil {
			return w, err
		}
		w.op, err = s.operation(ctx, tx, p.resource(), authz.Resource{}, permissionGetPublisher, "Create publisher",
			&marketplacev1.CreatePublisherMetadata{PublisherId: p.ID}, nil)
		if err != nil {
			return w, err
		}
		if err := s.record(ctx, tx, event{
			name: "CreatePublisher", path: p.path(), permission: "marketplace.publishers.create",
			on:      authz.Resource{Type: typeBillingAccount, ID: p.BillingAccountID},
			details: map[string]any{"operation_id": w.op.ID, "billing_account_id": p.BillingAccountID},
		}); err != nil {
			return w, err
		}
		w.ticket, err = s.enqueue(ctx, tx, jobPlacePublisher, publisherJob{w.op.ID, p.ID, caller.Type, caller.ID})
		return w, err
	})
}

// placePublisher is the job that puts a publisher into the tree, with its owner.
func (s *Service) placePublisher(ctx context.Context, job publisherJob) error {
	p, err := s.store.Publisher(ctx, s.store.db, job.Publisher)
	if err != nil || p.Placed {
		return ignoreGone(err)
	}
	_, err = s.tree.RegisterResource(server.AsUnit(ctx), &accessv1.RegisterResourceRequest{
		Resource:       &accessv1.Resource{Type: typePublisher, Id: p.ID},
		AccessBindings: []*accessv1.AccessBinding{{RoleId: roleOwner, Subject: &accessv1.Subject{Type: job.OwnerType, Id: job.OwnerID}}},
	})
	cause := apierr.FromRPC(err)
	if cause != nil && !final(cause) {
		return cause
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if cause != nil { // the owner is gone
			if err := s.store.DeletePublisher(ctx, tx, p.ID); err != nil {
				return err
			}
			return s.operations.Fail(ctx, tx, job.Operation, nil, cause)
		}
		p.Placed = true
		if err := s.store.UpdatePublisher(ctx, tx, p); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, p.proto())
	})
}

// ignoreGone is for jobs about what is not there any more: there is nothing to do.
func ignoreGone(err error) error {
	if apierr.CodeOf(err) == codes.NotFound {
		return nil
	}
	return err
}

// final reports whether a refusal of a peer stays one when the call is repeated.
func final(err error) bool {
	switch apierr.CodeOf(err) {
	case codes.NotFound, codes.FailedPrecondition, codes.InvalidArgument:
		return true
	default:
		return false
	}
}

// GetPublisher reads a publisher. Fails: PUBLISHER_NOT_FOUND.
func (s *publishers) GetPublisher(ctx context.Context, req *marketplacev1.GetPublisherRequest) (*marketplacev1.Publisher, error) {
	p, err := s.store.Publisher(ctx, s.store.db, req.GetPublisherId())
	if err != nil {
		return nil, err
	}
	return p.proto(), nil
}

// ListPublishers lists the publishers that the caller may see, newest first.
func (s *publishers) ListPublishers(ctx context.Context, req *marketplacev1.ListPublishersRequest) (*marketplacev1.ListPublishersResponse, error) {
	all, next, err := list(ctx, s.Service, req, listing[Publisher, *marketplacev1.Publisher]{
		scope: []string{"publishers"}, position: Publisher.position, show: each(Publisher.proto),
		permission: permissionGetPublisher, resource: Publisher.resource,
		fetch: func(ctx context.Context, after page.Position, limit int) ([]Publisher, error) {
			return s.store.Publishers(ctx, s.store.db, after, limit)
		},
	})
	if err != nil {
		return nil, err
	}
	return &marketplacev1.ListPublishersResponse{Publishers: all, NextPageToken: next}, nil
}

// UpdatePublisher changes name or description. Fails: PUBLISHER_NOT_FOUND.
func (s *publishers) UpdatePublisher(ctx context.Context, req *marketplacev1.UpdatePublisherRequest) (*operationpb.Operation, error) {
	fields, err := masked(req.GetUpdateMask(), "publisher_id", map[string]bool{"name": req.GetName() != "", "description": req.GetDescription() != ""})
	if err != nil {
		return nil, err
	}
	if slices.Contains(fields, "name") && req.GetName() == "" {
		return nil, apierr.InvalidField("name", "must not be empty")
	}
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) (w written, err error) {
		p, err := s.store.LockPublisher(ctx, tx, req.GetPublisherId())
		if err != nil {
			return w, err
		}
		for _, field := range fields {
			switch field {
			case "name":
				p.Name = req.GetName()
			case "description":
				p.Description = req.GetDescription()
			}
		}
		if err := s.store.UpdatePublisher(ctx, tx, p); err != nil {
			return w, err
		}
		w.op, err = s.operation(ctx, tx, p.resource(), authz.Resource{}, permissionGetPublisher, "Update publisher",
			&marketplacev1.UpdatePublisherMetadata{PublisherId: p.ID}, p.proto())
		if err != nil {
			return w, err
		}
		return w, s.record(ctx, tx, event{
			name: "UpdatePublisher", path: p.path(), permission: "marketplace.publishers.update", on: p.resource(),
			details: map[string]any{"operation_id": w.op.ID, "fields": fields},
		})
	})
}

// DeletePublisher is MR-21: a publisher goes when all its products are archived, so
// that nobody loses access by it unawares; its products go with it, their names in
// links stay taken, and requesters still see their requests. Fails:
// PUBLISHER_NOT_FOUND, PUBLISHER_NOT_EMPTY.
func (s *publishers) DeletePublisher(ctx context.Context, req *marketplacev1.DeletePublisherRequest) (*operationpb.Operation, error) {
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) (w written, err error) {
		p, err := s.store.LockPublisher(ctx, tx, req.GetPublisherId()) // a product is made under the same lock
		if err != nil {
			return w, err
		}
		if busy, err := s.store.Unarchived(ctx, tx, p.ID); err != nil {
			return w, err
		} else if busy {
			return w, errPublisherNotEmpty
		}
		p.Leaving = true
		if err := s.store.UpdatePublisher(ctx, tx, p); err != nil {
			return w, err
		}
		w.op, err = s.operation(ctx, tx, p.resource(), authz.Resource{}, permissionGetPublisher, "Delete publisher",
			&marketplacev1.DeletePublisherMetadata{PublisherId: p.ID}, nil)
		if err != nil {
			return w, err
		}
		if err := s.record(ctx, tx, event{
			name: "DeletePublisher", status: audit.Started, path: p.path(), permission: "marketplace.publishers.delete", on: p.resource(),
			details: map[string]any{"operation_id": w.op.ID},
		}); err != nil {
			return w, err
		}
		w.ticket, err = s.enqueue(ctx, tx, jobDeletePublisher, publisherJob{Operation: w.op.ID, Publisher: p.ID})
		return w, err
	})
}

// deletePublisher is the job that ends a publisher, in the tree first.
func (s *Service) deletePublisher(ctx context.Context, job publisherJob) error {
	_, err := s.tree.RemoveResource(server.AsUnit(ctx), &accessv1.RemoveResourceRequest{
		Resource: &accessv1.Resource{Type: typePublisher, Id: job.Publisher},
	})
	if err != nil {
		return apierr.FromRPC(err)
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		p, err := s.store.LockPublisher(ctx, tx, job.Publisher)
		if err != nil {
			return ignoreGone(err)
		}
		if err := s.store.DeletePublisher(ctx, tx, p.ID); err != nil {
			return err
		}
		if err := s.record(ctx, tx, event{
			name: "DeletePublisher", path: p.path(), details: map[string]any{"operation_id": job.Operation},
		}); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, new(emptypb.Empty))
	})
}

// ListPublisherOperations lists the operations on a publisher, newest first.
func (s *publishers) ListPublisherOperations(ctx context.Context, req *marketplacev1.ListPublisherOperationsRequest) (*marketplacev1.ListPublisherOperationsResponse, error) {
	ops, next, err := s.operationsOn(ctx, authz.Resource{Type: typePublisher, ID: req.GetPublisherId()}, req)
	if err != nil {
		return nil, err
	}
	return &marketplacev1.ListPublisherOperationsResponse{Operations: ops, NextPageToken: next}, nil
}

// operationsOn reads one page of the operations on a resource.
func (s *Service) operationsOn(ctx context.Context, r authz.Resource, req pageRequest) ([]*operationpb.Operation, string, error) {
	return access.Operations{Own: s.operations, Log: s.changes, Pages: s.pages}.List(ctx, r, req)
}
