package accessbindings

import (
	"context"
	"database/sql"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/thread"
)

// giveRequested is the intent that makes an approval true: the role, until its end, by a
// grant with the id of the request. It is planned on the state in which the role is
// given: whoever approved may grant it there, or it is not given (RQ-4).
type giveRequested struct {
	unitGrant
	request request.Request
	limits  limits
}

// asks says whose rights the write depends on.
func (in *giveRequested) asks() Subject { return Subject(in.request.DecidedBy) }

func (in *giveRequested) plan(ctx context.Context, on *state) (plan, error) {
	made, err := (&putGrant{in.unitGrant}).plan(ctx, on)
	if err != nil || made.record == nil { // refused, or given before
		return made, err
	}
	by := checker.Query{Subject: checker.Subject(in.request.DecidedBy), Now: on.now}
	if err := grantable(on.graph, in.catalog, by, in.request); err != nil {
		return plan{}, err
	}
	path := on.graph.above(in.on)
	if organizationOf(path) != in.request.Scope || !eligible(in.pair.Subject, on.graph.View(), in.request.Scope, on.now) {
		return plan{}, errRequesterInactive
	}
	if len(made.changes[0].GetBindingChanged().GetBinding().GetSources()) > 1 {
		return made, nil // the pair is there already
	}
	n, err := on.countAssignments(ctx, on.tx, in.request.Scope)
	if err == nil {
		err = in.limits.room(organizationBound(catalog.QuotaAccessBindings, in.request.Scope), n, 1)
	}
	return made, err
}

// roleConsequence is what decisions on role requests mean. RQ-5 [ours]: the requester
// holds the role from the approval to its end, once, by a grant that the checker knows the
// end of.
type roleConsequence struct{ *RoleRequests }

// grantOf is the grant of a request, by a principal as far as it is the caller.
func (c *roleConsequence) grantOf(ctx context.Context, r request.Request, event string, by request.Ref) unitGrant {
	if party(ctx) != by { // a worker, or somebody else whose call came across it
		p := authn.Principal{Type: by.Type, ID: by.ID}
		if by == (request.Ref{}) {
			p = authn.Principal{Unit: Name}
		}
		ctx = authn.NewContext(ctx, p)
	}
	return unitGrant{
		id: r.ID, on: Ref(r.Thing), pair: Pair{Role: r.Aspect, Subject: Subject(r.Requester)}, end: sqldb.Micros(r.EndsAt),
		catalog: c.catalog, record: recordOf(ctx, eventSource, event),
	}
}

// Grant gives the role. That its decider may not grant it any more is a refusal for good,
// and so is that there is no room for it.
func (c *roleConsequence) Grant(ctx context.Context, r request.Request) error {
	in := &giveRequested{unitGrant: c.grantOf(ctx, r, "GiveRequestedRole", r.DecidedBy), request: r}
	_, err := c.bindings.bounded.submit(ctx, c.bindings.bounds(in.on), func(l limits) intent {
		in.limits = l
		return in
	})
	switch apierr.CodeOf(err) {
	case codes.PermissionDenied:
		return errDeciderLost.WithCause(err)
	case codes.ResourceExhausted:
		return apierr.Precondition(apierr.ReasonOf(err), "there is no room for the role").WithCause(err)
	default:
		return err
	}
}

// Withdraw takes the role back for good.
func (c *roleConsequence) Withdraw(ctx context.Context, r request.Request) error {
	by := party(ctx)
	if by.ID != r.EndedBy {
		by = request.Ref{}
	}
	_, err := c.committer.submit(ctx, &endGrant{c.grantOf(ctx, r, "EndRequestedRole", by)})
	return err
}

// Settled ends the operation of an action. What could not be given was revoked by the
// engine, and leaves the traces of that.
func (c *roleConsequence) Settled(ctx context.Context, tx *sql.Tx, b *sqldb.Batch, r request.Request, operationID string, cause error) error {
	if cause != nil {
		a := request.Act{Action: request.Revoke, Side: request.System, Text: r.EndReason}
		if err := c.leave(ctx, tx, r, a, operationID, 0); err != nil {
			return err
		}
	}
	switch {
	case operationID == "":
		return nil
	case cause != nil:
		return c.committer.operations.Fail(ctx, tx, operationID, nil, cause)
	default:
		return c.committer.operations.FinishIn(ctx, tx, b, operationID, nil, roleRequestOf(r, thread.Size{}))
	}
}

// record writes the audit record of what happened to a request. RQ-8 [ours]: the trail of
// the resource has the whole of it: why, with which words, and the messages.
func (s *RoleRequests) record(ctx context.Context, tx *sql.Tx, r request.Request, event string, checked []audit.Permission, details map[string]any) error {
	if p := authn.FromContext(ctx); !p.IsSubject() && p.Unit == "" {
		ctx = authn.NewContext(ctx, authn.Principal{Unit: Name})
	}
	path := s.graph.above(Ref(r.Thing))
	if len(path) == 0 { // it is gone; its organization keeps the trail
		path = []Ref{Ref(r.Thing), {typeOrganization, r.Scope}}
	}
	record := recordOn(recordOf(ctx, eventSource, event, checked...), path, details)
	record.EventTime, record.EventStatus = s.now(), audit.Done
	return audit.Write(ctx, tx, Name, *record)
}
