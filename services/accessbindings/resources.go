package accessbindings

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// eventSource is the source of audit events of the internal services.
const eventSource = "access"

// Resources is bindery.access.v1.ResourceService.
type Resources struct {
	accessv1.UnimplementedResourceServiceServer
	committer *committer
	catalog   *roleBook
	bindings  *Bindings
	now       func() time.Time
}

// owners of types whose service is not named like the unit that keeps them.
var owners = map[string]string{
	"resource-manager":     "resourcemanager",
	typeOrganization:       "resourcemanager",
	"iam":                  "identity",
	typeGroup:              "accessbindings",
	"organization-manager": "identity", // federations, user pools, applications
	"billing":              "partner",
	"marketplace":          "marketplacerequests",
}

// errNotOwner is the refusal for a unit that touches another one's resources.
var errNotOwner = apierr.Denied("TYPE_NOT_OWNED", "the type of the resource belongs to another unit")

// owned refuses types that are not the calling unit's.
func owned(ctx context.Context, typ string) error {
	service, _, _ := strings.Cut(typ, ".")
	owner, special := owners[typ]
	if !special {
		owner, special = owners[service]
	}
	if !special {
		owner = service
	}
	if unit := authn.FromContext(ctx).Unit; unit == "" || unit != owner {
		return errNotOwner.WithMeta("unit", unit, "resourceType", typ)
	}
	return nil
}

// RegisterResource puts a resource into the tree with its first bindings and
// members (CR-4, CR-11). Repeated, it changes nothing, also where a binding that
// it made was taken away since. Fails: TYPE_NOT_OWNED, RESOURCE_NOT_FOUND (the
// parent), RESOURCE_DELETED, RESOURCE_MISMATCH, ROLE_NOT_FOUND, SUBJECT_NOT_FOUND.
func (s *Resources) RegisterResource(ctx context.Context, req *accessv1.RegisterResourceRequest) (*accessv1.RegisterResourceResponse, error) {
	in := &registerResource{
		resource: refOf(req.GetResource()), parent: refOf(req.GetParent()), catalog: s.catalog,
		record: recordOf(ctx, eventSource, "RegisterResource"),
	}
	if err := s.admit(ctx, in.resource, in.parent); err != nil {
		return nil, err
	}
	for _, b := range req.GetAccessBindings() {
		if err := checkText("access_bindings", b.GetSubject().GetId(), b.GetRoleId()); err != nil {
			return nil, err
		}
		in.bindings = append(in.bindings, Binding{
			Pair:    Pair{Role: b.GetRoleId(), Subject: subjectOf(b.GetSubject())},
			Sources: []Source{{Kind: accessv1.Source_DIRECT, End: micros(b.GetExpiresAt())}},
		})
	}
	for _, m := range req.GetMembers() {
		if err := checkText("members", m.GetType(), m.GetId()); err != nil {
			return nil, err
		}
		in.members = append(in.members, subjectOf(m))
	}
	if in.resource.Type == typeOrganization {
		in.groups = groupsOf(in.resource.ID, nowMicros(s.committer.now))
	}
	r, err := s.committer.submit(ctx, in)
	if err != nil {
		return nil, err
	}
	return &accessv1.RegisterResourceResponse{Revision: r.revision}, nil
}

// MoveResource hangs a resource below another parent of the same kind: a cloud
// below another organization (CR-7), nothing below another cloud (RH-7).
// Fails: TYPE_NOT_OWNED, RESOURCE_NOT_FOUND, RESOURCE_MISMATCH.
func (s *Resources) MoveResource(ctx context.Context, req *accessv1.MoveResourceRequest) (*accessv1.MoveResourceResponse, error) {
	in := &moveResource{
		resource: refOf(req.GetResource()), parent: refOf(req.GetParent()),
		record: recordOf(ctx, eventSource, "MoveResource"),
	}
	if err := s.admit(ctx, in.resource, in.parent); err != nil {
		return nil, err
	}
	r, err := s.committer.submit(ctx, in)
	if err != nil {
		return nil, err
	}
	return &accessv1.MoveResourceResponse{Revision: r.revision}, nil
}

// RemoveResource removes a resource and all below it. Service accounts and groups
// among them end as subjects too. Repeated, or for a resource that never was, it
// leaves the tombstone that keeps the id from being used later. Fails:
// TYPE_NOT_OWNED, LAST_OWNER for a service account (OW-1).
func (s *Resources) RemoveResource(ctx context.Context, req *accessv1.RemoveResourceRequest) (*accessv1.RemoveResourceResponse, error) {
	in := &removeResource{resource: refOf(req.GetResource()), catalog: s.catalog, record: recordOf(ctx, eventSource, "RemoveResource")}
	if err := owned(ctx, in.resource.Type); err != nil {
		return nil, err
	}
	if err := checkText("resource", in.resource.Type, in.resource.ID); err != nil {
		return nil, err
	}
	r, err := s.committer.submit(ctx, in)
	if err != nil {
		return nil, err
	}
	return &accessv1.RemoveResourceResponse{Revision: r.revision}, nil
}

// defaultRemoved is how many removed resources a list has that does not say.
const defaultRemoved = 100

// ListRemovedResources lists the removed resources of a type after a place, in the
// order of their removal; those of a place in another epoch begin anew. What it tells
// is in force.
func (s *Resources) ListRemovedResources(ctx context.Context, req *accessv1.ListRemovedResourcesRequest) (*accessv1.ListRemovedResourcesResponse, error) {
	after := req.GetAfter()
	if err := checkText("after", req.GetType(), after.GetId()); err != nil {
		return nil, err
	}
	size := cmp.Or(int(req.GetPageSize()), defaultRemoved)
	resp := new(accessv1.ListRemovedResourcesResponse)
	err := s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) error {
		h, err := st.head(ctx, q, false)
		if err != nil {
			return err
		}
		if after.GetEpoch() != h.Epoch {
			after = &accessv1.RemovalPlace{Epoch: h.Epoch}
		}
		gone, err := st.removedAfter(ctx, q, req.GetType(), after.GetRevision(), after.GetId(), size)
		resp.Last = after
		for _, r := range gone {
			resp.Ids = append(resp.Ids, r.ID)
			resp.Last = &accessv1.RemovalPlace{Epoch: h.Epoch, Revision: r.Revision, Id: r.ID}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// GetResourcePath reads the path of a resource: itself first, the root last. What
// it tells is in force. Fails: RESOURCE_NOT_FOUND.
func (s *Resources) GetResourcePath(ctx context.Context, req *accessv1.GetResourcePathRequest) (*accessv1.GetResourcePathResponse, error) {
	var path []Ref
	err := s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) (err error) {
		path, err = st.path(ctx, q, refOf(req.GetResource()))
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(path) == 0 {
		return nil, notFound(refOf(req.GetResource()))
	}
	resp := new(accessv1.GetResourcePathResponse)
	for _, r := range path {
		resp.Path = append(resp.Path, r.proto())
	}
	return resp, nil
}

// admit checks what needs no state: whose type it is, texts, and that the parent
// is of the type that the catalogue has for it (RH-1, RH-2).
func (s *Resources) admit(ctx context.Context, r, parent Ref) error {
	if err := owned(ctx, r.Type); err != nil {
		return err
	}
	if err := checkText("resource", r.Type, r.ID, parent.Type, parent.ID); err != nil {
		return err
	}
	typ, catalogued := s.catalog.ResourceType(r.Type)
	switch {
	case !catalogued, parent.Type == typ.Parent, parent == (Ref{}) && typ.ParentOptional, typ.Nested && parent.Type == r.Type:
		return nil
	case typ.Parent == "":
		return apierr.InvalidField("parent", "a %s is the root of its tree", r.Type)
	default:
		return apierr.InvalidField("parent", "a %s stands below a %s", r.Type, typ.Parent)
	}
}
