package accessbindings

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// created is the action that begins a request.
const created request.Action = "create"

// roleTrace is what an action leaves: its audit event, the notice, and what that says.
type roleTrace struct{ event, notice, words string }

var roleTraces = map[request.Action]roleTrace{
	created:         {"CreateRoleRequest", notice.RoleRequestCreated, "was filed, and waits for a decision"},
	request.Post:    {"CreateRoleRequestMessage", notice.RoleRequestMessage, "has a new message"},
	request.Approve: {"ApproveRoleRequest", notice.RoleRequestApproved, "was approved: the role is given"},
	request.Reject:  {"RejectRoleRequest", notice.RoleRequestRejected, "was rejected"},
	request.Cancel:  {"CancelRoleRequest", notice.RoleRequestCanceled, "was withdrawn"},
	request.Revoke:  {"EndRoleRequest", notice.RoleRequestEnded, "was ended before its time: the role is taken back"},
	request.Expire:  {"ExpireRoleRequest", notice.RoleRequestExpired, "has come to its end"},
}

// leave leaves the traces of an action on a request, in its transaction. RQ-9 [ours]: the
// other side is told, and both of what nobody of theirs did. number is that of a message.
func (s *RoleRequests) leave(ctx context.Context, tx *sql.Tx, r request.Request, a request.Act, operationID string, number int64) error {
	details := map[string]any{
		"request_id": r.ID, "role_id": r.Aspect, "requester_type": r.Requester.Type, "requester_id": r.Requester.ID, "state": string(r.State),
	}
	for name, value := range map[string]string{"text": a.Text, "operation_id": operationID} {
		if value != "" {
			details[name] = value
		}
	}
	if number > 0 {
		details["number"] = number
	}
	if !r.EndsAt.IsZero() {
		details["expires_at"] = r.EndsAt.UTC().Format(time.RFC3339Nano)
	}
	var checked []audit.Permission
	if a.Side == request.Decider {
		checked = []audit.Permission{{
			Permission: s.catalog.permission(r.Thing.Type, "updateAccessBindings"), ResourceType: r.Thing.Type, ResourceID: r.Thing.ID, Authorized: true,
		}}
	}
	t := roleTraces[a.Action]
	if err := s.record(ctx, tx, r, t.event, checked, details); err != nil {
		return err
	}
	to := map[request.Side][]request.Side{
		request.Requester: {request.Decider}, request.Decider: {request.Requester}, request.System: {request.Requester, request.Decider},
	}[a.Side]
	if !s.outbox.Reaches() {
		return nil
	}
	for _, side := range to {
		job := jobs.Job{Kind: jobTellRoleRequest, Payload: roleTelling{r.ID, a.Action, number, side}, NotBefore: time.Now()}
		if _, err := s.jobs.Enqueue(ctx, tx, job); err != nil {
			return err
		}
	}
	return nil
}

// jobTellRoleRequest is the kind of the jobs that have a side told of something.
const jobTellRoleRequest = "tell-role-request"

// roleTelling is their payload. Number is that of a message, 0 for what is none.
type roleTelling struct {
	Request string         `json:"request"`
	Action  request.Action `json:"action"`
	Number  int64          `json:"number,omitempty"`
	To      request.Side   `json:"to"`
}

// tell is the job that hands a notice over. Its id is made of what it tells, so that it
// is one notice however often the job is executed.
func (s *RoleRequests) tell(ctx context.Context, job roleTelling) error {
	r, err := s.engine.Store.Get(ctx, s.committer.db, job.Request)
	if apierr.CodeOf(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	people := []string{r.Requester.ID}
	if job.To == request.Decider {
		people = s.deciders(r)
	}
	if len(people) == 0 {
		return nil
	}
	resp, err := s.directory.BatchGetSubjects(server.AsUnit(ctx), &identityv1.BatchGetSubjectsRequest{Ids: people})
	if err != nil {
		return fmt.Errorf("look up people: %w", apierr.FromRPC(err))
	}
	var addresses []string
	for _, who := range resp.GetSubjects() {
		if who.GetState() == identityv1.SubjectEntry_ACTIVE && who.GetEmail() != "" {
			addresses = append(addresses, who.GetEmail())
		}
	}
	if len(addresses) == 0 {
		return nil
	}
	return s.outbox.Send(ctx, roleNotice(r, job, addresses))
}

// roleNotice is what people are told. It names the request, and shows nothing of what
// people wrote: mail is read in more places than the request.
func roleNotice(r request.Request, job roleTelling, addresses []string) *notificationv1.Notice {
	t := roleTraces[job.Action]
	id := notice.ID(t.notice, r.ID, string(job.To))
	if job.Number > 0 {
		id = notice.ID(id, fmt.Sprint(job.Number))
	}
	return &notificationv1.Notice{
		Id: id, Event: t.notice, OrganizationId: r.Scope, Title: fmt.Sprintf("Request for the role %s", r.Aspect),
		Text: fmt.Sprintf("The request %s of %s %s for the role %s on %s %s %s.\n", r.ID, r.Requester.Type, r.Requester.ID, r.Aspect, r.Thing.Type, r.Thing.ID, t.words),
		Details: map[string]string{
			"request_id": r.ID, "role_id": r.Aspect, "resource_type": r.Thing.Type, "resource_id": r.Thing.ID, "target": typeRoleRequest + ":" + r.ID,
		},
		Recipients: &notificationv1.Notice_Addresses{Addresses: &notificationv1.Addresses{Emails: addresses}},
	}
}

// mostDeciders is how many people are told of a request at most: those with the first
// ids.
const mostDeciders = 100

// deciders are the people who may grant the role of a request. The requester is none of
// them.
func (s *RoleRequests) deciders(r request.Request) (people []string) {
	now := nowMicros(s.now)
	manage := s.catalog.permission(r.Thing.Type, "updateAccessBindings")
	s.lists.one.Lock() // a pass over all subjects
	defer s.lists.one.Unlock()
	for _, who := range s.graph.View().Subjects(checker.Query{Permission: manage, Resource: checker.Resource(r.Thing), Now: now}) {
		person := who.Type == rules.UserAccount || who.Type == rules.FederatedUser
		if person && who != checker.Subject(r.Requester) && grantable(s.graph, s.catalog, checker.Query{Subject: who, Now: now}, r) == nil {
			if people = append(people, who.ID); len(people) == mostDeciders {
				break
			}
		}
	}
	return people
}
