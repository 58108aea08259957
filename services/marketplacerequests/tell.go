package marketplacerequests

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// jobTell is the kind of the jobs that have a side told of something.
const jobTell = "tell"

// telling is their payload. Number is that of a message, 0 for what is none.
type telling struct {
	Request string       `json:"request"`
	Event   string       `json:"event"`
	Number  int64        `json:"number,omitempty"`
	To      request.Side `json:"to"`
}

// tellOf is MR-14: each side is told once of what another one did to a request, when the
// transaction has committed. Who that is, is found when it is sent.
func (s *Service) tellOf(b *sqldb.Batch, r request.Request, event string, number int64, to ...request.Side) error {
	if !s.outbox.Reaches() {
		return nil
	}
	for _, side := range to {
		job := jobs.Job{Kind: jobTell, Payload: telling{r.ID, event, number, side}, NotBefore: time.Now()}
		if _, err := s.jobs.EnqueueIn(b, job); err != nil {
			return err
		}
	}
	return nil
}

// mostAddresses is how many people of a publisher are told at most: those with the
// first ids.
const mostAddresses = 100

// tell is the job that hands a notice over. Its id is made of what it tells, so that it
// is one notice however often the job is executed.
func (s *Service) tell(ctx context.Context, job telling) error {
	r, err := s.requests.Store.Get(ctx, s.store.db, job.Request)
	if err != nil {
		return ignoreGone(err)
	}
	people := []string{r.Requester.ID}
	if job.To == request.Decider {
		if people, err = s.deciders(ctx, r); err != nil {
			return err
		}
	}
	addresses, err := s.addresses(ctx, people)
	if err != nil || len(addresses) == 0 {
		return err
	}
	return s.outbox.Send(ctx, compose(r, job, addresses))
}

// words say what happened.
var words = map[string]string{
	notice.AccessRequestCreated:  "was filed",
	notice.AccessRequestMessage:  "has a new message",
	notice.AccessRequestCanceled: "was cancelled",
	notice.AccessRequestApproved: "was approved: the product can be installed",
	notice.AccessRequestRejected: "was rejected",
	notice.AccessRequestRevoked:  "was revoked: the product cannot be installed any more; what is installed stays",
}

// compose makes the notice. It names the request, and shows nothing of what people
// wrote: mail is read in more places than the request.
func compose(r request.Request, job telling, addresses []string) *notificationv1.Notice {
	id := notice.ID(job.Event, r.ID, string(job.To))
	if job.Number > 0 {
		id = notice.ID(id, fmt.Sprint(job.Number))
	}
	return &notificationv1.Notice{
		Id: id, Event: job.Event, Title: fmt.Sprintf("Request for the product %s", r.Thing.ID),
		Text: fmt.Sprintf("The request %s for access to the product %s %s.\n", r.ID, r.Thing.ID, words[job.Event]),
		Details: map[string]string{
			"request_id": r.ID, "product_id": r.Thing.ID, "target": typeRequest + ":" + r.ID,
		},
		Recipients: &notificationv1.Notice_Addresses{Addresses: &notificationv1.Addresses{Emails: addresses}},
	}
}

// deciders are the people who may decide a request. The requester is none of them.
func (s *Service) deciders(ctx context.Context, r request.Request) ([]string, error) {
	resp, err := s.grants.ListPermissionHolders(server.AsUnit(ctx), &accessv1.ListPermissionHoldersRequest{
		Resource: &accessv1.Resource{Type: r.Thing.Type, Id: r.Thing.ID}, Permission: "marketplace.productAccessRequests.approve",
	})
	if apierr.CodeOf(err) == codes.NotFound {
		return nil, nil // the product is gone
	}
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	var people []string
	for _, who := range resp.GetHolders() {
		if who.GetId() != r.Requester.ID && len(people) < mostAddresses {
			people = append(people, who.GetId())
		}
	}
	return people, nil
}

// addresses reads the mail addresses of those people who may act.
func (s *Service) addresses(ctx context.Context, people []string) ([]string, error) {
	if len(people) == 0 {
		return nil, nil
	}
	resp, err := s.directory.BatchGetSubjects(server.AsUnit(ctx), &identityv1.BatchGetSubjectsRequest{Ids: people})
	if err != nil {
		return nil, fmt.Errorf("look up people: %w", apierr.FromRPC(err))
	}
	var all []string
	for _, who := range resp.GetSubjects() {
		if who.GetState() == identityv1.SubjectEntry_ACTIVE && who.GetEmail() != "" {
			all = append(all, who.GetEmail())
		}
	}
	return all, nil
}

// known says which requesters are there.
func (s *Service) known(ctx context.Context, all []request.Request) (map[string]bool, error) {
	known := make(map[string]bool, len(all))
	var ids []string
	for _, r := range all {
		if _, asked := known[r.Requester.ID]; !asked && r.Requester.Type == authn.UserAccount {
			known[r.Requester.ID] = false
			ids = append(ids, r.Requester.ID)
		}
	}
	if len(ids) == 0 {
		return known, nil
	}
	resp, err := s.directory.BatchGetSubjects(server.AsUnit(ctx), &identityv1.BatchGetSubjectsRequest{Ids: ids})
	if err != nil {
		return nil, fmt.Errorf("look up people: %w", apierr.FromRPC(err))
	}
	for _, who := range resp.GetSubjects() {
		known[who.GetId()] = true
	}
	return known, nil
}
