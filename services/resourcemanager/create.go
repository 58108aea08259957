package resourcemanager

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// jobRegister is the kind of the job that makes new resources known to the tree.
const jobRegister = "register"

// registration is its payload: resources to register, parents first, all made by
// one operation and one subject, who becomes the owner where the kind has one.
type registration struct {
	Operation   string   `json:"operation"`
	Resources   []string `json:"resources"`
	Kinds       []string `json:"kinds"`
	CreatorType string   `json:"creator_type"`
	CreatorID   string   `json:"creator_id"`
}

// draft returns a new resource of the caller, not stored yet.
func (s *Service) draft(ctx context.Context, k *kind, parentID string) Resource {
	return Resource{
		ID: id.New(k.idPrefix), Kind: k, ParentID: parentID, Status: Creating,
		CreatedBy: authn.FromContext(ctx).ID, CreatedAt: s.now(),
	}
}

// create makes new resources, parents first; the operation is about the last one
// and is done when the tree knows them all. allowed judges the state of things
// within the transaction, on locked rows.
func (s *Service) create(ctx context.Context, resources []Resource, allowed func(context.Context, *sql.Tx) error) (*operationpb.Operation, error) {
	p := authn.FromContext(ctx)
	job := registration{CreatorType: p.Type, CreatorID: p.ID}
	last := resources[len(resources)-1]
	if err := wellFormed(last); err != nil {
		return nil, err
	}
	var ticket jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (operation.Operation, error) {
		if err := allowed(ctx, tx); err != nil {
			return operation.Operation{}, err
		}
		op, err := s.operations.Insert(ctx, tx, operation.New{
			Resource: last.Kind.resource(last.ID), ViewPermission: last.Kind.get, Description: "Create " + last.Kind.name,
			CreatedBy: p.ID, Metadata: last.Kind.createMetadata(last.ID),
		})
		if err != nil {
			return op, err
		}
		job.Operation, job.Resources, job.Kinds = op.ID, nil, nil
		for _, r := range resources {
			r.Operation = op.ID
			if err := s.store.Insert(ctx, tx, r); err != nil {
				return op, err
			}
			if err := s.record(ctx, tx, r, creation(r)); err != nil {
				return op, err
			}
			job.Resources, job.Kinds = append(job.Resources, r.ID), append(job.Kinds, r.Kind.name)
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobRegister, Payload: job})
		return op, err
	})
	if err != nil {
		return nil, err
	}
	if again {
		return op.Answer()
	}
	return s.finish(ctx, op, ticket)
}

// write makes one write of a request in a transaction, once for each idempotency
// key. fn returns the operation that it made; again says that it was not run, and
// that the operation is the one of the first time, as it stands now.
func (s *Service) write(ctx context.Context, fn func(context.Context, *sql.Tx) (operation.Operation, error)) (op operation.Operation, again bool, err error) {
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		var opID string
		opID, again, err = s.keys.Operation(ctx, tx, func() (string, error) {
			op, err = fn(ctx, tx)
			return op.ID, err
		})
		if err == nil && again {
			op, err = s.operations.GetIn(ctx, tx, opID)
		}
		return err
	})
	return op, again, err
}

// wellFormed refuses what both engines could not store alike; patterns judge the
// other fields before.
func wellFormed(r Resource) error {
	var fields []apierr.Field
	for _, f := range []struct{ name, text string }{{"description", r.Description}, {"title", r.Title}} {
		if err := sqldb.CheckText(f.text); err != nil {
			fields = append(fields, apierr.Field{Name: f.name, Message: err.Error()})
		}
	}
	if len(fields) > 0 {
		return apierr.Invalid(fields...)
	}
	return nil
}

func creation(r Resource) event {
	e := event{verb: verbCreate, status: audit.Started, details: map[string]any{"operation_id": r.Operation}}
	if r.Kind.create != "" {
		e.permission, e.on = r.Kind.create, r.Kind.parent.resource(r.ParentID)
	}
	return e
}

// finish executes the last step of an operation at once and returns where the
// operation stands: done, or under way when a peer is away. One that could not
// succeed is the error of the call (clients.md 18).
func (s *Service) finish(ctx context.Context, op operation.Operation, ticket jobs.Ticket) (*operationpb.Operation, error) {
	if err := s.jobs.Do(ctx, ticket); err != nil {
		return op.Proto(), nil //nolint:nilerr // logged there; a worker goes on, and the operation tells
	}
	op, err := s.operations.Get(ctx, op.ID)
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// register is the job that makes resources known to the tree, with their owners
// and members, and ends their operation.
func (s *Service) register(ctx context.Context, job registration) error {
	for i, resourceID := range job.Resources {
		r, err := s.store.Get(ctx, s.store.db, kinds[job.Kinds[i]], resourceID)
		if apierr.CodeOf(err) == codes.NotFound {
			return s.failCreation(ctx, job, errParentDeleted)
		}
		if err != nil {
			return err
		}
		if r.Operation != job.Operation {
			continue // done before, and lives on
		}
		_, err = s.tree.RegisterResource(server.AsUnit(ctx), registerRequest(r, job))
		switch code := apierr.CodeOf(err); {
		case code == codes.NotFound || code == codes.FailedPrecondition:
			return s.failCreation(ctx, job, apierr.FromRPC(err))
		case err != nil:
			return fmt.Errorf("register %s %s: %w", r.Kind.name, r.ID, apierr.FromRPC(err))
		}
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return s.activate(ctx, tx, job)
	})
}

func registerRequest(r Resource, job registration) *accessv1.RegisterResourceRequest {
	creator := &accessv1.Subject{Type: job.CreatorType, Id: job.CreatorID}
	req := &accessv1.RegisterResourceRequest{Resource: &accessv1.Resource{Type: r.Kind.typ, Id: r.ID}}
	if r.ParentID != "" {
		req.Parent = &accessv1.Resource{Type: r.Kind.parent.typ, Id: r.ParentID}
	}
	if r.Kind.ownerRole != "" {
		req.AccessBindings = []*accessv1.AccessBinding{{RoleId: r.Kind.ownerRole, Subject: creator}}
	}
	if r.Kind == organization {
		req.Members = []*accessv1.Subject{creator}
	}
	return req
}

// activate ends a creation: the resources are in use, the operation is done.
func (s *Service) activate(ctx context.Context, tx *sql.Tx, job registration) error {
	var last Resource
	for i, resourceID := range job.Resources {
		r, err := s.store.Lock(ctx, tx, kinds[job.Kinds[i]], resourceID)
		if apierr.CodeOf(err) == codes.NotFound {
			return s.operations.Fail(ctx, tx, job.Operation, nil, errParentDeleted)
		}
		if err != nil {
			return err
		}
		if r.Operation == job.Operation && r.Status == Creating {
			r.Status, r.Operation = Active, ""
			if err := s.store.Update(ctx, tx, r); err != nil {
				return err
			}
			done := event{verb: verbCreate, status: audit.Done, details: map[string]any{"operation_id": job.Operation}}
			if err := s.record(ctx, tx, r, done); err != nil {
				return err
			}
		}
		last = r
	}
	return s.operations.Finish(ctx, tx, job.Operation, nil, last.Kind.message(last))
}

// failCreation ends a creation that cannot succeed any more, since the deletion of
// its parent or of its creator overtook it.
func (s *Service) failCreation(ctx context.Context, job registration, cause error) error {
	for i, resourceID := range slices.Backward(job.Resources) {
		if err := s.removeFromTree(ctx, kinds[job.Kinds[i]], resourceID); err != nil {
			return err
		}
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		for i, resourceID := range slices.Backward(job.Resources) {
			r, err := s.store.Lock(ctx, tx, kinds[job.Kinds[i]], resourceID)
			if apierr.CodeOf(err) == codes.NotFound {
				continue
			}
			if err != nil {
				return err
			}
			if r.Operation == job.Operation && r.Status == Creating {
				if err := s.store.Delete(ctx, tx, r.ID); err != nil {
					return err
				}
			}
		}
		return s.operations.Fail(ctx, tx, job.Operation, nil, cause)
	})
}

// lockActive locks what a new resource is made in, or a changed one lies in, and
// refuses when it is not in use (DL-15).
func (s *Service) lockActive(ctx context.Context, tx *sql.Tx, k *kind, resourceID string) error {
	r, err := s.store.Lock(ctx, tx, k, resourceID)
	if err != nil {
		return err
	}
	if r.Status != Active {
		return errNotActive(k, r)
	}
	return nil
}

// roomIn refuses when a parent, locked by the caller, has as many children as its
// quota allows (QL-2).
func (s *Service) roomIn(ctx context.Context, tx *sql.Tx, k *kind, parentID, quotaID string) error {
	n, err := s.store.CountIn(ctx, tx, k, parentID)
	if err != nil {
		return err
	}
	return s.checkQuota(ctx, tx, quotaID, parentID, n)
}

// mayFound refuses a service account, which has no roles outside its own
// organization (SU-9), and a subject that has made as many organizations as it may
// (QL-2). The lock makes creations by one subject follow one another.
func (s *Service) mayFound(ctx context.Context, tx *sql.Tx, p authn.Principal) error {
	if p.Type == authn.ServiceAccount {
		return errServiceAccount
	}
	if err := sqldb.Lock(ctx, s.store.db, tx, "organizations of "+p.ID); err != nil {
		return err
	}
	n, err := s.store.CountOrganizationsOf(ctx, tx, p.ID)
	if err != nil {
		return err
	}
	return s.checkQuota(ctx, tx, catalog.QuotaOrganizations, p.ID, n)
}

// hadCloud reports whether a subject is a member of an organization that has a
// cloud (CR-3). It also returns the organizations of the subject's own making that
// were judged by that: the tree knew them before it was asked.
func (s *Service) hadCloud(ctx context.Context, p authn.Principal) (found bool, judged map[string]bool, err error) {
	founded, err := s.store.Founded(ctx, s.store.db, p.ID)
	if err != nil {
		return false, nil, err
	}
	judged = map[string]bool{}
	for _, r := range founded {
		judged[r.ID] = r.Status != Creating
	}
	resp, err := s.subjects.ListMemberships(server.AsUnit(ctx), &accessv1.ListMembershipsRequest{
		Subject: &accessv1.Subject{Type: p.Type, Id: p.ID}, ContainerType: organization.typ,
	})
	if err != nil {
		return false, nil, fmt.Errorf("list memberships: %w", apierr.FromRPC(err))
	}
	for _, c := range resp.GetContainers() {
		if found, err = s.store.HasCloudIn(ctx, s.store.db, c.GetId()); found || err != nil {
			return found, judged, err
		}
	}
	return false, judged, nil
}

// stillFirst refuses when a subject has made an organization with a cloud beside
// those that were judged. It runs under the lock of mayFound.
func (s *Service) stillFirst(ctx context.Context, tx *sql.Tx, subjectID string, judged map[string]bool) error {
	founded, err := s.store.Founded(ctx, tx, subjectID)
	if err != nil {
		return err
	}
	for _, r := range founded {
		if !judged[r.ID] {
			return errNotFirstCloud
		}
	}
	return nil
}
