package resourcemanager

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/server"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// compose makes the notice of an event of a resource's deletion, for the owners and
// subscribers of it and of what it lies in (NT-1, NT-3), with ids and names (NT-5).
// operationID tells one deletion from another.
func (s *Service) compose(ctx context.Context, tx *sql.Tx, r Resource, event, operationID, title, text string) (*notificationv1.Notice, error) {
	path, err := s.path(ctx, tx, r)
	if err != nil {
		return nil, err
	}
	n := &notificationv1.Notice{
		Id: notice.ID(event, operationID), Event: event, OrganizationId: path[0].ID, Title: title, Text: text,
		Details: map[string]string{"operation_id": operationID},
		Recipients: &notificationv1.Notice_Audience{Audience: &notificationv1.Audience{
			Resource: &accessv1.Resource{Type: r.Kind.typ, Id: r.ID},
		}},
	}
	if who := authn.FromContext(ctx); who.IsSubject() {
		n.Details["subject_id"] = who.ID
	}
	for _, at := range path {
		n.Path = append(n.Path, &notificationv1.PathElement{Type: at.Type, Id: at.ID, Name: at.Name})
	}
	return n, nil
}

// tell enqueues the notice of an event in the transaction of what it tells of.
func (s *Service) tell(ctx context.Context, tx *sql.Tx, r Resource, event, operationID, title, text string) error {
	if event == "" || !s.outbox.Reaches() {
		return nil
	}
	n, err := s.compose(ctx, tx, r, event, operationID, title, text)
	if err != nil {
		return err
	}
	return s.outbox.Enqueue(ctx, tx, n)
}

func (s *Service) tellScheduled(ctx context.Context, tx *sql.Tx, r Resource, operationID string) error {
	title := fmt.Sprintf("%s %s is to be deleted", r.Kind.event, r.Name)
	text := fmt.Sprintf("The %s %s (%s) and everything in it is to be deleted after %s. Until then its deletion can be cancelled.",
		r.Kind.name, r.Name, r.ID, r.DeleteAfter.UTC().Format("2006-01-02 15:04:05 UTC"))
	return s.tell(ctx, tx, r, r.Kind.scheduled, operationID, title, text)
}

func (s *Service) tellCancelled(ctx context.Context, tx *sql.Tx, r Resource, operationID string) error {
	title := fmt.Sprintf("The deletion of %s %s was cancelled", r.Kind.name, r.Name)
	text := fmt.Sprintf("The %s %s (%s) is in use again and is not deleted.", r.Kind.name, r.Name, r.ID)
	return s.tell(ctx, tx, r, r.Kind.cancelled, operationID, title, text)
}

// jobTellDeleted is the kind of the job that tells of a resource that is gone.
const jobTellDeleted = "tell-deleted"

// deletedNotice is its payload.
type deletedNotice struct {
	Kind     string          `json:"kind"`
	Resource string          `json:"resource"`
	Notice   json.RawMessage `json:"notice"`
}

// deletedAfter is when that job is due: a little after the resource is gone.
const deletedAfter = 2 * time.Second

// owners finds who owns a resource that is about to be removed from the tree, after
// which nobody knows. known is false when it is removed already, or nobody is told.
func (s *Service) owners(ctx context.Context, k *kind, resourceID string) (owners []*accessv1.Subject, known bool, err error) {
	if k.deleted == "" || !s.outbox.Reaches() {
		return nil, false, nil
	}
	resp, err := s.audience.GetAudience(server.AsUnit(ctx), &accessv1.GetAudienceRequest{Resource: &accessv1.Resource{Type: k.typ, Id: resourceID}})
	if apierr.CodeOf(err) == codes.NotFound {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("owners of %s %s: %w", k.name, resourceID, apierr.FromRPC(err))
	}
	return resp.GetOwners(), true, nil
}

// tellDeleted enqueues the notice that a resource is gone, while its owners are known.
func (s *Service) tellDeleted(ctx context.Context, tx *sql.Tx, r Resource, owners []*accessv1.Subject) error {
	title := fmt.Sprintf("%s %s was deleted", r.Kind.event, r.Name)
	text := fmt.Sprintf("The %s %s (%s) and everything in it was deleted.", r.Kind.name, r.Name, r.ID)
	n, err := s.compose(ctx, tx, r, r.Kind.deleted, r.Operation, title, text)
	if err != nil {
		return err
	}
	n.GetAudience().Owners = owners
	body, err := protojson.Marshal(n)
	if err != nil {
		return fmt.Errorf("write notice: %w", err)
	}
	_, err = s.jobs.Enqueue(ctx, tx, jobs.Job{
		Kind: jobTellDeleted, Payload: deletedNotice{r.Kind.name, r.ID, body}, NotBefore: time.Now().Add(deletedAfter),
	})
	return err
}

// errStillThere sends the job that tells of a deletion back to wait.
var errStillThere = errors.New("the resource is not gone yet")

// sendDeleted is that job: it waits until the resource is gone.
func (s *Service) sendDeleted(ctx context.Context, job deletedNotice) error {
	_, err := s.store.Get(ctx, s.store.db, kinds[job.Kind], job.Resource)
	if err == nil {
		return errStillThere
	}
	if apierr.CodeOf(err) != codes.NotFound {
		return err
	}
	n := new(notificationv1.Notice)
	if err := protojson.Unmarshal(job.Notice, n); err != nil {
		return fmt.Errorf("read notice: %w", err)
	}
	return s.outbox.Send(ctx, n)
}
