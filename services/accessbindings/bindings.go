package accessbindings

import (
	"context"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Bindings is bindery.access.v1.AccessBindingService.
type Bindings struct {
	accessv1.UnimplementedAccessBindingServiceServer
	committer *committer
	catalog   *roleBook
	pages     *page.Sealer
	bounded   *bounded
	now       func() time.Time
}

// ListAccessBindings lists the resource's own bindings that are in force, oldest
// first (AB-7), those of grant policies too unless only what can be changed is asked for
// (SC-20). What it tells is in force: it waits for the revision it read.
func (s *Bindings) ListAccessBindings(ctx context.Context, req *accessv1.ListAccessBindingsRequest) (*accessv1.ListAccessBindingsResponse, error) {
	resource, size := refOf(req.GetResource()), page.Size(req.GetPageSize())
	scope := []string{"ListAccessBindings", resource.Type, resource.ID}
	if req.GetChangeableOnly() {
		scope = append(scope, "changeable")
	}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	now := nowMicros(s.now)
	var found []Binding
	err = s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) (err error) {
		found, err = st.pageOn(ctx, q, resource, after.Time, now, size+1, req.GetChangeableOnly())
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := new(accessv1.ListAccessBindingsResponse)
	if len(found) > size {
		found = found[:size]
		if resp.NextPageToken, err = s.pages.Seal(page.Position{Time: found[size-1].Number}, scope...); err != nil {
			return nil, err
		}
	}
	for _, b := range found {
		resp.AccessBindings = append(resp.AccessBindings, b.proto(now))
	}
	return resp, nil
}

// SetAccessBindings replaces the direct bindings of a resource (AB-2). Fails, in
// this order: INVALID_ARGUMENT, RESOURCE_NOT_FOUND, ROLE_NOT_FOUND,
// SUBJECT_NOT_FOUND, a refusal of package rules.
func (s *Bindings) SetAccessBindings(ctx context.Context, req *accessv1.SetAccessBindingsRequest) (*operationpb.Operation, error) {
	return s.submit(ctx, s.setIntent(ctx, req, ""))
}

// setIntent is what a Set asks for. in is where the request stands in another one, ""
// for nowhere.
func (s *Bindings) setIntent(ctx context.Context, req *accessv1.SetAccessBindingsRequest, in string) *changeBindings {
	wishes := make([]wish, 0, len(req.GetAccessBindings()))
	for i, b := range req.GetAccessBindings() {
		wishes = append(wishes, wishOf(b, true, fmt.Sprintf("%saccess_bindings[%d]", in, i)))
	}
	made := s.intent(ctx, req.GetResource(), "Set", wishes)
	made.replace, made.metadata = true, &accesspb.SetAccessBindingsMetadata{ResourceId: req.GetResource().GetId()}
	return made
}

// UpdateAccessBindings adds and removes bindings, all or none (AB-3, AB-6). Fails
// as SetAccessBindings does.
func (s *Bindings) UpdateAccessBindings(ctx context.Context, req *accessv1.UpdateAccessBindingsRequest) (*operationpb.Operation, error) {
	in, err := s.updateIntent(ctx, req, "")
	if err != nil {
		return nil, err
	}
	return s.submit(ctx, in)
}

// updateIntent is what an Update asks for, as setIntent.
func (s *Bindings) updateIntent(ctx context.Context, req *accessv1.UpdateAccessBindingsRequest, in string) (*changeBindings, error) {
	wishes := make([]wish, 0, len(req.GetAccessBindingDeltas()))
	for i, d := range req.GetAccessBindingDeltas() {
		field := fmt.Sprintf("%saccess_binding_deltas[%d]", in, i)
		switch d.GetAction() {
		case accesspb.AccessBindingAction_ADD, accesspb.AccessBindingAction_REMOVE:
			wishes = append(wishes, wishOf(d.GetAccessBinding(), d.GetAction() == accesspb.AccessBindingAction_ADD, field+".access_binding"))
		default:
			return nil, apierr.InvalidField(field+".action", "must be ADD or REMOVE")
		}
	}
	made := s.intent(ctx, req.GetResource(), "Update", wishes)
	made.metadata = &accesspb.UpdateAccessBindingsMetadata{ResourceId: req.GetResource().GetId()}
	return made, nil
}

func wishOf(b *accessv1.AccessBinding, add bool, field string) wish {
	return wish{
		Pair: Pair{Role: b.GetRoleId(), Subject: subjectOf(b.GetSubject())},
		Add:  add, End: micros(b.GetExpiresAt()), field: field,
	}
}

// intent is what a call asks for, with who asks and what the door checked.
func (s *Bindings) intent(ctx context.Context, r *accessv1.Resource, verb string, wishes []wish) *changeBindings {
	p := authn.FromContext(ctx)
	source, event := bindingEvent(verb, r.GetType())
	permission := s.catalog.permission(r.GetType(), "updateAccessBindings")
	return &changeBindings{
		resource: refOf(r), wishes: wishes, verb: verb, catalog: s.catalog, permission: permission,
		caller: checker.Query{Subject: checker.Subject{Type: p.Type, ID: p.ID}, Token: checker.TokenID(p.TokenID), Session: checker.TokenID(p.Session)},
		record: recordOf(ctx, source, event, audit.Permission{
			Permission: permission, ResourceType: r.GetType(), ResourceID: r.GetId(), Authorized: true,
		}),
	}
}

// submit has a change made.
func (s *Bindings) submit(ctx context.Context, in *changeBindings) (*operationpb.Operation, error) {
	if err := s.check(in); err != nil {
		return nil, err
	}
	op, err := operationOf(s.bounded.submit(ctx, s.bounds(in.resource), func(l limits) intent {
		in.limits = l
		return in
	}))
	return op, s.told(in, err)
}

// check checks what needs no state, and leaves each pair once.
func (s *Bindings) check(in *changeBindings) error {
	now := nowMicros(s.now)
	pairs := make([]rules.Wish, len(in.wishes))
	for i, w := range in.wishes {
		if err := checkPair(in.resource, w, now); err != nil {
			return err
		}
		pairs[i] = rules.Wish{Add: w.Add, Pair: rules.Pair{Role: w.Role, SubjectType: w.Subject.Type, SubjectID: w.Subject.ID}}
	}
	kept, at, err := rules.Distinct(pairs)
	if err != nil {
		return named(err, in.wishes[at].field)
	}
	wishes := make([]wish, len(kept))
	for i, k := range kept {
		wishes[i] = in.wishes[k]
	}
	in.wishes = wishes
	return nil
}

// bounds are those of a change on a resource: the pairs of its organization
// (AB-13). Should it move meanwhile, the change is refused as if there were no room.
func (s *Bindings) bounds(r Ref) []ceiling {
	path := s.committer.graph.View().Path(checker.Resource(r))
	if len(path) == 0 || path[len(path)-1].Type != typeOrganization {
		return nil
	}
	return []ceiling{organizationBound(catalog.QuotaAccessBindings, path[len(path)-1].ID)}
}

// checkPair checks one pair by itself. What is removed needs no form: whatever is
// there can be named. Roles on a billing account do not end (AB-11).
func checkPair(on Ref, w wish, now int64) error {
	if err := checkText(w.field, w.Role, w.Subject.Type, w.Subject.ID); err != nil {
		return err
	}
	if !w.Add {
		return nil
	}
	if w.End != 0 && on.Type == typeBillingAccount {
		return apierr.InvalidField(w.field+".expires_at", "a role on a billing account has no end")
	}
	if w.End != 0 && w.End <= now {
		return apierr.InvalidField(w.field+".expires_at", "must be in the future")
	}
	return checkSubject(w.field+".subject", w.Subject)
}
