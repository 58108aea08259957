package accessbindings

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/checker"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// ReasonDecisionLost says that a decision was made before the store was restored.
const ReasonDecisionLost = "DECISION_OF_LOST_LINE"

var (
	errDecision     = apierr.InvalidField("decision_id", "is not the id of a decision of this installation")
	errDecisionLost = apierr.Precondition(ReasonDecisionLost, "the decision was made before the store was restored: what it rested on is lost")
)

// Explain is EX-2: whoever was refused may have it explained without any permission, as far
// as they may see what it rests on (withhold); why somebody else may or may not, or why one
// may oneself, tells iam.access.explain on the resource. Fails: INVALID_ARGUMENT, RESOURCE_NOT_FOUND, OUT_OF_RANGE,
// DECISION_OF_LOST_LINE.
func (s *Permissions) Explain(ctx context.Context, req *accessv1.ExplainRequest) (*accessv1.ExplainResponse, error) {
	if err := s.committer.atLeast(ctx, req.GetAtLeastRevision()); err != nil {
		return nil, err
	}
	d, m, self, err := s.question(ctx, req)
	if err != nil {
		return nil, err
	}
	q := d.Query
	refusal := s.holds(ctx, permissionExplain, q.Resource)
	if refusal != nil && !self {
		return nil, refusal
	}
	view, err := s.state(ctx, m, func(p *past) error { return p.forOne(ctx, q) })
	if err != nil {
		return nil, err
	}
	q.Now = m.now
	e := view.Explain(q)
	if e.Allowed && refusal != nil && !d.outOfScope {
		return nil, refusal
	}
	resp, err := s.explained(ctx, q, m, e)
	if err != nil {
		return nil, err
	}
	if d.outOfScope {
		resp.Allowed, resp.Reason = false, accessv1.ExplainResponse_OUT_OF_SCOPE
	}
	today, err := s.present()
	if err != nil {
		return nil, err
	}
	q.Now = today.now
	now := today.view.Decide(q)
	resp.AllowedNow = now.Allowed
	told := refusal == nil || s.inside(s.asked(ctx).Subject, today.view, q.Resource)
	if e.Reason == checker.NoGrant && now.Reason == checker.NoGrant {
		resp.Advice = s.advice(q, today, told)
	}
	if refusal != nil {
		withhold(resp, func(r *accessv1.Resource) bool { return told || s.sees(ctx, checker.Resource(refOf(r))) })
	}
	return resp, nil
}

// sees reports whether the caller may look at a resource now.
func (s *Permissions) sees(ctx context.Context, r checker.Resource) bool {
	q := s.asked(ctx)
	q.Permission, q.Resource = s.catalog.permission(r.Type, "get"), r
	return q.Permission != "" && s.graph.Decide(q).Allowed
}

// withhold takes out of an explanation what its caller, who may not have everything
// explained there, may not know: what grants, and of the resources above the one that they
// have named those that they do not see, with who did what there. Of such a one it leaves
// what the denial itself told: that a policy on it denies, the nearest one.
func withhold(resp *accessv1.ExplainResponse, sees func(*accessv1.Resource) bool) {
	named := resp.GetResource()
	hidden := func(r *accessv1.Resource) bool { return !proto.Equal(r, named) && !sees(r) }
	resp.Withheld = len(resp.GetGrants()) > 0 || slices.ContainsFunc(resp.GetPath(), hidden)
	resp.Grants = nil
	resp.Path = slices.DeleteFunc(resp.GetPath(), hidden)
	var denials []*accessv1.AccessDenial
	for i, d := range resp.GetDenials() {
		if sees(d.GetResource()) {
			denials = append(denials, d)
			continue
		}
		resp.Withheld = true
		if i == 0 {
			denials = append(denials, &accessv1.AccessDenial{Resource: d.GetResource(), AccessPolicyTemplateId: d.GetAccessPolicyTemplateId()})
		}
	}
	resp.Denials = denials
	if on := resp.GetAdvice().GetResource(); on != nil && hidden(on) {
		resp.Withheld, on.Id = true, ""
	}
}

// question reads what is asked: by its parts, or by a decision (EX-8).
func (s *Permissions) question(ctx context.Context, req *accessv1.ExplainRequest) (d decision, m moment, self bool, err error) {
	if req.GetDecisionId() == "" {
		d.Query, m, self, err = s.parts(ctx, req)
		return d, m, self, err
	}
	if req.GetResource() != nil || req.GetPermission() != "" || req.GetSubject() != nil || req.GetAt() != nil {
		return d, m, false, apierr.InvalidField("decision_id", "must be alone: it says what else the request may say")
	}
	d, ok := decisionOf(s.graph.seals, req.GetDecisionId())
	switch {
	case !ok:
		return d, m, false, errDecision
	case d.epoch != s.graph.now().Epoch:
		return d, m, false, errDecisionLost
	}
	if err := s.known(d.Permission, "decision_id"); err != nil {
		return d, m, false, err
	}
	return d, s.again(d.revision, d.Now), d.Subject == s.asked(ctx).Subject, nil
}

func (s *Permissions) parts(ctx context.Context, req *accessv1.ExplainRequest) (q checker.Query, m moment, self bool, err error) {
	if req.GetResource() == nil {
		return q, m, false, apierr.InvalidField("resource", "must be set, or decision_id")
	}
	if err := s.known(req.GetPermission(), "permission"); err != nil {
		return q, m, false, err
	}
	if q.Subject, self, err = s.subject(ctx, req.GetSubject()); err != nil {
		return q, m, false, err
	}
	q.Permission, q.Resource = req.GetPermission(), checker.Resource(refOf(req.GetResource()))
	if err := checkText("resource", q.Resource.Type, q.Resource.ID); err != nil {
		return q, m, false, err
	}
	if m, err = s.moment(ctx, req.GetAt()); err != nil {
		return q, m, false, err
	}
	if req.GetAt() == nil && m.view.Path(q.Resource) == nil {
		return q, m, false, authz.NotFound(authz.Resource(q.Resource))
	}
	return q, m, self, nil
}

var reasons = map[checker.Reason]accessv1.ExplainResponse_Reason{
	checker.Granted:         accessv1.ExplainResponse_GRANTED,
	checker.NoGrant:         accessv1.ExplainResponse_NO_GRANT,
	checker.DeniedByPolicy:  accessv1.ExplainResponse_DENIED_BY_POLICY,
	checker.SubjectUnknown:  accessv1.ExplainResponse_SUBJECT_UNKNOWN,
	checker.SubjectInactive: accessv1.ExplainResponse_SUBJECT_INACTIVE,
	checker.ResourceUnknown: accessv1.ExplainResponse_RESOURCE_UNKNOWN,
	checker.ResourceDeleted: accessv1.ExplainResponse_RESOURCE_DELETED,
}

// explained is an explanation with who granted and denied.
func (s *Permissions) explained(ctx context.Context, q checker.Query, m moment, e checker.Explanation) (*accessv1.ExplainResponse, error) {
	keys := make(map[factKey]bool)
	for _, g := range e.Grants {
		keys[grantKey(g)] = true
	}
	for _, d := range e.Denials {
		keys[denialKey(d)] = true
	}
	by, err := s.granted(ctx, m.revision, keys)
	if err != nil {
		return nil, err
	}
	resp := &accessv1.ExplainResponse{
		Allowed: e.Allowed, Reason: reasons[e.Reason], Subject: Subject(q.Subject).proto(), Permission: q.Permission,
		Resource: Ref(q.Resource).proto(), Revision: m.revision, Time: stamp(m.now),
	}
	for _, r := range e.Path {
		resp.Path = append(resp.Path, Ref(r).proto())
	}
	for _, g := range e.Grants {
		resp.Grants = append(resp.Grants, s.grant(q.Permission, g, by[grantKey(g)]))
	}
	for _, d := range e.Denials {
		out := &accessv1.AccessDenial{Resource: Ref(d.Resource).proto(), AccessPolicyTemplateId: d.Policy}
		if was := by[denialKey(d)]; was != nil {
			out.BoundBy, out.BoundAt = authorOf(was), stamp(was.grantedAt)
		}
		resp.Denials = append(resp.Denials, out)
	}
	return resp, nil
}

func grantKey(g checker.Grant) factKey {
	return factKey{aboutBinding, Ref(g.Resource), Subject(g.By[len(g.By)-1]), g.Role}
}

func denialKey(d checker.Denial) factKey {
	return factKey{kind: aboutPolicy, about: Ref(d.Resource), name: d.Policy}
}

// grant shows a binding that grants; was is nil when the history does not know it.
func (s *Permissions) grant(permission string, g checker.Grant, was *span) *accessv1.AccessGrant {
	out := &accessv1.AccessGrant{
		Resource: Ref(g.Resource).proto(), RoleId: g.Role, Subject: Subject(g.By[len(g.By)-1]).proto(),
		RolePath: s.rolePath(g.Role, permission), ExpiresAt: stamp(g.Until),
	}
	for _, step := range g.By {
		out.GroupPath = append(out.GroupPath, Subject(step).proto())
	}
	if was != nil {
		out.GrantedBy, out.GrantedAt, out.GrantedRevision = authorOf(was), stamp(was.grantedAt), was.granted
	}
	return out
}

func authorOf(s *span) *accessv1.Subject {
	if s.author == (Subject{}) {
		return nil
	}
	return s.author.proto()
}

// rolePath leads from a role by its inclusions to one that holds a permission itself.
func (s *Permissions) rolePath(role, permission string) []string {
	var path []string
	for {
		path = append(path, role)
		r, ok := s.graph.catalog.Role(role)
		at := slices.IndexFunc(r.Includes, func(id string) bool {
			in, _ := s.graph.catalog.Role(id)
			return slices.Contains(in.Permissions, permission)
		})
		if !ok || at < 0 {
			return path
		}
		role = r.Includes[at]
	}
}
