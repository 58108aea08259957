package marketplacerequests

import (
	"context"
	"database/sql"
	"slices"

	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

const permissionGetInstance = "marketplace.productInstances.get"

// instances is ProductInstanceService. Permissions: see the method options.
type instances struct {
	marketplacev1.UnsafeProductInstanceServiceServer // a missing method does not compile
	*Service
}

func (i Instance) resource() authz.Resource { return authz.Resource{Type: typeInstance, ID: i.ID} }

func (i Instance) proto() *marketplacev1.ProductInstance {
	state := i.State
	if state == Deleting {
		state = Inactive
	}
	return &marketplacev1.ProductInstance{
		Id: i.ID, FolderId: i.FolderID, ProductId: i.ProductID, Name: i.Name, CreatedBy: i.CreatedBy, CreatedAt: timestamppb.New(i.CreatedAt),
		State: marketplacev1.ProductInstance_State(marketplacev1.ProductInstance_State_value[string(state)]),
	}
}

// Jobs of installed products.
const (
	jobPlaceInstance  = "place-product-instance"
	jobDeleteInstance = "delete-product-instance"
)

// instanceJob is their payload.
type instanceJob struct {
	Operation string           `json:"operation"`
	Instance  string           `json:"instance"`
	Path      []audit.Resource `json:"path"` // for the audit record
}

// pathOf is where an installed product stands, the organization first. It asks the
// tree: call it before the transaction.
func (s *Service) pathOf(ctx context.Context, typ, resourceID string) ([]audit.Resource, error) {
	resp, err := s.tree.GetResourcePath(server.AsUnit(ctx), &accessv1.GetResourcePathRequest{Resource: &accessv1.Resource{Type: typ, Id: resourceID}})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	var path []audit.Resource
	for _, step := range slices.Backward(resp.GetPath()) {
		path = append(path, audit.Resource{Type: step.GetType(), ID: step.GetId()})
	}
	return path, nil
}

// CreateProductInstance is MR-12: installing needs the right to do so in the folder and
// access to the product; the rule of the method checks both. MR-13: taking the access
// back later leaves what is installed. Fails: PRODUCT_NOT_FOUND, PRODUCT_STATE,
// PRODUCT_INSTANCE_NAME_TAKEN, PARENT_DELETED.
func (s *instances) CreateProductInstance(ctx context.Context, req *marketplacev1.CreateProductInstanceRequest) (*operationpb.Operation, error) {
	i := Instance{
		ID: id.New(id.ProductInstance), FolderID: req.GetFolderId(), ProductID: req.GetProductId(), Name: req.GetName(), State: Creating,
		CreatedBy: authn.FromContext(ctx).ID, CreatedAt: s.now(),
	}
	path, err := s.pathOf(ctx, typeFolder, i.FolderID)
	if err != nil {
		return nil, err
	}
	path = append(path, audit.Resource{Type: typeInstance, ID: i.ID, Name: i.Name})
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) (w written, err error) {
		p, err := s.store.Product(ctx, tx, i.ProductID)
		if err != nil {
			return w, err
		}
		if p.State != Approved {
			return w, productState(p, "installed")
		}
		if err := s.store.InsertInstance(ctx, tx, i); err != nil {
			return w, err
		}
		w.op, err = s.operation(ctx, tx, i.resource(), authz.Resource{}, permissionGetInstance, "Create product instance",
			&marketplacev1.CreateProductInstanceMetadata{ProductInstanceId: i.ID, ProductId: p.ID}, nil)
		if err != nil {
			return w, err
		}
		if err := s.record(ctx, tx, event{
			name: "CreateProductInstance", path: path, permission: "marketplace.productInstances.create",
			on: authz.Resource{Type: typeFolder, ID: i.FolderID}, details: map[string]any{"operation_id": w.op.ID, "product_id": p.ID},
		}); err != nil {
			return w, err
		}
		w.ticket, err = s.enqueue(ctx, tx, jobPlaceInstance, instanceJob{Operation: w.op.ID, Instance: i.ID})
		return w, err
	})
}

// placeInstance is the job that puts an installed product into the tree.
func (s *Service) placeInstance(ctx context.Context, job instanceJob) error {
	i, err := s.store.Instance(ctx, s.store.db, job.Instance)
	if err != nil || i.State != Creating {
		return ignoreGone(err)
	}
	_, err = s.tree.RegisterResource(server.AsUnit(ctx), &accessv1.RegisterResourceRequest{
		Resource: &accessv1.Resource{Type: typeInstance, Id: i.ID}, Parent: &accessv1.Resource{Type: typeFolder, Id: i.FolderID},
	})
	cause := apierr.FromRPC(err)
	if cause != nil && !final(cause) {
		return cause
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if cause != nil { // the deletion of its folder overtook it
			if err := s.store.DeleteInstances(ctx, tx, i.ID); err != nil {
				return err
			}
			return s.operations.Fail(ctx, tx, job.Operation, nil, errParentDeleted.WithCause(cause))
		}
		i, err := s.store.LockInstance(ctx, tx, i.ID)
		if err != nil {
			return ignoreGone(err)
		}
		i.State = Active
		if err := s.store.UpdateInstance(ctx, tx, i); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, i.proto())
	})
}

// GetProductInstance reads an installed product. Fails: PRODUCT_INSTANCE_NOT_FOUND.
func (s *instances) GetProductInstance(ctx context.Context, req *marketplacev1.GetProductInstanceRequest) (*marketplacev1.ProductInstance, error) {
	i, err := s.store.Instance(ctx, s.store.db, req.GetProductInstanceId())
	if err != nil {
		return nil, err
	}
	return i.proto(), nil
}

// ListProductInstances lists the products installed in a folder that the caller may see.
func (s *instances) ListProductInstances(ctx context.Context, req *marketplacev1.ListProductInstancesRequest) (*marketplacev1.ListProductInstancesResponse, error) {
	f, err := filter.Parse(req.GetFilter(), "name", "product_id")
	if err != nil {
		return nil, err
	}
	all, next, err := list(ctx, s.Service, req, listing[Instance, *marketplacev1.ProductInstance]{
		scope: []string{"product instances", req.GetFolderId(), f.Field, f.Value}, position: Instance.position, show: each(Instance.proto),
		permission: permissionGetInstance, resource: Instance.resource,
		fetch: func(ctx context.Context, after page.Position, limit int) ([]Instance, error) {
			return s.store.Instances(ctx, s.store.db, req.GetFolderId(), f.Field, f.Value, after, limit)
		},
	})
	if err != nil {
		return nil, err
	}
	return &marketplacev1.ListProductInstancesResponse{ProductInstances: all, NextPageToken: next}, nil
}

// change makes one change of an installed product on its locked row.
func (s *instances) change(ctx context.Context, instanceID string, c productChange, fn func(*Instance)) (*operationpb.Operation, error) {
	path, err := s.pathOf(ctx, typeInstance, instanceID)
	if err != nil {
		return nil, err
	}
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) (w written, err error) {
		i, err := s.store.LockInstance(ctx, tx, instanceID)
		if err != nil {
			return w, err
		}
		if i.State == Deleting || i.State == Creating {
			return w, errInstanceNotFound
		}
		fn(&i)
		if err := s.store.UpdateInstance(ctx, tx, i); err != nil {
			return w, err
		}
		if w.op, err = s.operation(ctx, tx, i.resource(), authz.Resource{}, permissionGetInstance, c.description, c.metadata, i.proto()); err != nil {
			return w, err
		}
		return w, s.record(ctx, tx, event{
			name: c.event, path: path, permission: c.permission, on: i.resource(), details: map[string]any{"operation_id": w.op.ID, "state": string(i.State)},
		})
	})
}

// UpdateProductInstance changes the name. Fails: PRODUCT_INSTANCE_NOT_FOUND,
// PRODUCT_INSTANCE_NAME_TAKEN.
func (s *instances) UpdateProductInstance(ctx context.Context, req *marketplacev1.UpdateProductInstanceRequest) (*operationpb.Operation, error) {
	fields, err := masked(req.GetUpdateMask(), "product_instance_id", map[string]bool{"name": req.GetName() != ""})
	if err != nil {
		return nil, err
	}
	if len(fields) > 0 && req.GetName() == "" {
		return nil, apierr.InvalidField("name", "must not be empty")
	}
	c := productChange{
		"UpdateProductInstance", "marketplace.productInstances.update", "Update product instance",
		&marketplacev1.UpdateProductInstanceMetadata{ProductInstanceId: req.GetProductInstanceId()},
	}
	return s.change(ctx, req.GetProductInstanceId(), c, func(i *Instance) {
		if len(fields) > 0 {
			i.Name = req.GetName()
		}
	})
}

// ActivateProductInstance switches an installed product on.
func (s *instances) ActivateProductInstance(ctx context.Context, req *marketplacev1.ActivateProductInstanceRequest) (*operationpb.Operation, error) {
	c := productChange{
		"ActivateProductInstance", "marketplace.productInstances.activate", "Activate product instance",
		&marketplacev1.ActivateProductInstanceMetadata{ProductInstanceId: req.GetProductInstanceId()},
	}
	return s.change(ctx, req.GetProductInstanceId(), c, func(i *Instance) { i.State = Active })
}

// DeactivateProductInstance switches an installed product off.
func (s *instances) DeactivateProductInstance(ctx context.Context, req *marketplacev1.DeactivateProductInstanceRequest) (*operationpb.Operation, error) {
	c := productChange{
		"DeactivateProductInstance", "marketplace.productInstances.activate", "Deactivate product instance",
		&marketplacev1.DeactivateProductInstanceMetadata{ProductInstanceId: req.GetProductInstanceId()},
	}
	return s.change(ctx, req.GetProductInstanceId(), c, func(i *Instance) { i.State = Inactive })
}

// DeleteProductInstance removes an installed product. Fails: PRODUCT_INSTANCE_NOT_FOUND.
func (s *instances) DeleteProductInstance(ctx context.Context, req *marketplacev1.DeleteProductInstanceRequest) (*operationpb.Operation, error) {
	path, refusal := s.pathOf(ctx, typeInstance, req.GetProductInstanceId()) // no news to a replay
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) (w written, err error) {
		i, err := s.store.LockInstance(ctx, tx, req.GetProductInstanceId())
		if err != nil {
			return w, err
		}
		if refusal != nil {
			return w, refusal
		}
		i.State = Deleting
		if err := s.store.UpdateInstance(ctx, tx, i); err != nil {
			return w, err
		}
		w.op, err = s.operation(ctx, tx, i.resource(), authz.Resource{}, permissionGetInstance, "Delete product instance",
			&marketplacev1.DeleteProductInstanceMetadata{ProductInstanceId: i.ID}, nil)
		if err != nil {
			return w, err
		}
		if err := s.record(ctx, tx, event{
			name: "DeleteProductInstance", status: audit.Started, path: path, permission: "marketplace.productInstances.update", on: i.resource(),
			details: map[string]any{"operation_id": w.op.ID},
		}); err != nil {
			return w, err
		}
		w.ticket, err = s.enqueue(ctx, tx, jobDeleteInstance, instanceJob{w.op.ID, i.ID, path})
		return w, err
	})
}

// deleteInstance is the job that ends an installed product, in the tree first.
func (s *Service) deleteInstance(ctx context.Context, job instanceJob) error {
	_, err := s.tree.RemoveResource(server.AsUnit(ctx), &accessv1.RemoveResourceRequest{
		Resource: &accessv1.Resource{Type: typeInstance, Id: job.Instance},
	})
	if err != nil {
		return apierr.FromRPC(err)
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.store.DeleteInstances(ctx, tx, job.Instance); err != nil {
			return err
		}
		if err := s.record(ctx, tx, event{
			name: "DeleteProductInstance", path: job.Path, details: map[string]any{"operation_id": job.Operation},
		}); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, new(emptypb.Empty))
	})
}

// followBatch is how many removals are read at once.
const followBatch = 200

// follow drops installed products whose folders were removed, with all that was below
// them (DL-6).
func (s *Service) follow(ctx context.Context) error {
	for {
		at, err := s.store.RemovalPlace(ctx, s.store.db, typeInstance)
		if err != nil {
			return err
		}
		req := &accessv1.ListRemovedResourcesRequest{Type: typeInstance, PageSize: followBatch}
		if at != (removalPlace{}) {
			req.After = &accessv1.RemovalPlace{Epoch: at.epoch, Revision: at.revision, Id: at.id}
		}
		resp, err := s.tree.ListRemovedResources(server.AsUnit(ctx), req)
		if err != nil {
			return apierr.FromRPC(err)
		}
		if len(resp.GetIds()) == 0 {
			return nil
		}
		last := removalPlace{resp.GetLast().GetEpoch(), resp.GetLast().GetRevision(), resp.GetLast().GetId()}
		err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
			if err := s.store.DeleteInstances(ctx, tx, resp.GetIds()...); err != nil {
				return err
			}
			return s.store.SetRemovalPlace(ctx, tx, typeInstance, last)
		})
		if err != nil || len(resp.GetIds()) < followBatch {
			return err
		}
	}
}
