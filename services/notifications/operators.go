package notifications

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// operators is bindery.notification.v1.OperatorService.
type operators struct {
	notificationv1.UnsafeOperatorServiceServer // a missing method does not compile
	*Service
}

// What NT-4 wants.
const (
	daysAhead    = 3 // calendar days, of planned work
	incidentToll = 24 * time.Hour
)

// CreateNotice tells the owners and subscribers of a resource of something (NT-1, NT-3,
// NT-4). Fails: RESOURCE_NOT_FOUND, NOTICE_TOO_SHORT.
func (s *operators) CreateNotice(ctx context.Context, req *notificationv1.CreateNoticeRequest) (*notificationv1.CreateNoticeResponse, error) {
	on := Ref{req.GetResource().GetType(), req.GetResource().GetId()}
	if !slices.Contains(named, on.Type) {
		return nil, apierr.InvalidField("resource.type", "must be one of %s", strings.Join(named, ", "))
	}
	warnings, err := timely(req, s.now())
	if err != nil {
		return nil, err
	}
	path, err := s.admit(ctx, on, nil)
	if err != nil {
		return nil, err
	}
	resp := new(notificationv1.CreateNoticeResponse)
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := s.keys.Answer(ctx, tx, resp, func() error {
			n := s.compose(req)
			resp.NoticeId, resp.Warnings = n.GetId(), warnings
			if _, err := s.takeIn(ctx, tx, n); err != nil {
				return err
			}
			return s.audit(ctx, tx, "CreateNotice", path, "", map[string]any{"notice_id": n.GetId(), "event": n.GetEvent()})
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	s.kick()
	return resp, nil
}

// timely is NT-4: planned work is announced three calendar days ahead, unless the
// operator says that it is late, and an incident within 24 hours, after which the
// notice goes out with a warning.
func timely(req *notificationv1.CreateNoticeRequest, now time.Time) (warnings []string, err error) {
	at, maintenance := req.GetAt(), req.GetKind() == notificationv1.CreateNoticeRequest_MAINTENANCE
	switch {
	case req.GetLate() && !maintenance:
		return nil, apierr.InvalidField("late", "goes with planned work alone")
	case req.GetKind() == notificationv1.CreateNoticeRequest_SERVICE && at != nil:
		return nil, apierr.InvalidField("at", "goes with planned work and incidents alone")
	case req.GetKind() == notificationv1.CreateNoticeRequest_SERVICE:
		return nil, nil
	case at == nil:
		return nil, apierr.InvalidField("at", "is required for planned work and for incidents")
	case maintenance && !at.AsTime().After(now):
		return nil, apierr.InvalidField("at", "must be in the future: it is when planned work begins")
	case maintenance && at.AsTime().Before(day(now).AddDate(0, 0, daysAhead)):
		if !req.GetLate() {
			return nil, errTooShort
		}
		return []string{fmt.Sprintf("planned work is announced %d calendar days ahead, and this is later (NT-4)", daysAhead)}, nil
	case !maintenance && at.AsTime().After(now):
		return nil, apierr.InvalidField("at", "must not be in the future: it is when the incident was found")
	case !maintenance && now.Sub(at.AsTime()) > incidentToll:
		return []string{"an incident is told of within 24 hours, and they have passed (NT-4)"}, nil
	}
	return nil, nil
}

// day is the beginning of a day, by UTC.
func day(t time.Time) time.Time {
	y, m, d := t.UTC().Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// compose makes the notice of a request.
func (s *operators) compose(req *notificationv1.CreateNoticeRequest) Notice {
	event, when := notice.ServiceAnnounced, ""
	switch req.GetKind() {
	case notificationv1.CreateNoticeRequest_MAINTENANCE:
		event, when = notice.MaintenancePlanned, "Begins: "
	case notificationv1.CreateNoticeRequest_INCIDENT:
		event, when = notice.IncidentReported, "Found: "
	case notificationv1.CreateNoticeRequest_SERVICE, notificationv1.CreateNoticeRequest_KIND_UNSPECIFIED:
	}
	n := &notificationv1.Notice{
		Id: notice.ID(event, id.New(id.Notice)), Event: event, Title: req.GetTitle(), Text: req.GetText(), Details: map[string]string{},
		Recipients: &notificationv1.Notice_Audience{Audience: &notificationv1.Audience{Resource: req.GetResource(), Also: req.GetAlso()}},
	}
	if when != "" {
		at := req.GetAt().AsTime().UTC()
		n.Text = strings.TrimRight(n.GetText(), "\n") + "\n\n" + when + at.Format("2006-01-02 15:04 UTC")
		n.Details["at"] = at.Format(time.RFC3339)
	}
	return Notice{Notice: n, TakenBy: "operator", TakenAt: s.now()}
}

// ListDeliveries lists deliveries, newest first (NM-7).
func (s *operators) ListDeliveries(ctx context.Context, req *notificationv1.ListDeliveriesRequest) (*notificationv1.ListDeliveriesResponse, error) {
	state := ""
	if req.GetState() != notificationv1.Delivery_STATE_UNSPECIFIED {
		state = req.GetState().String()
	}
	scope := []string{"deliveries", req.GetNoticeId(), state}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	found, err := s.store.Deliveries(ctx, s.store.db, req.GetNoticeId(), State(state), after, size+1)
	if err != nil {
		return nil, err
	}
	resp := new(notificationv1.ListDeliveriesResponse)
	for _, d := range found[:min(len(found), size)] {
		resp.Deliveries = append(resp.Deliveries, d.proto())
	}
	if len(found) > size {
		last := found[size-1]
		resp.NextPageToken, err = s.pages.Seal(page.Position{Time: sqldb.Micros(last.CreatedAt), ID: last.ID}, scope...)
	}
	return resp, err
}

func (d Delivery) proto() *notificationv1.Delivery {
	return &notificationv1.Delivery{
		Id: d.ID, NoticeId: d.NoticeID, Channel: string(d.Channel), Target: d.Target,
		State:    notificationv1.Delivery_State(notificationv1.Delivery_State_value[string(d.State)]),
		Attempts: d.Attempts, Failure: d.Failure, CreatedAt: stamp(d.CreatedAt), NextAt: stamp(d.NextAt), EndedAt: stamp(d.EndedAt),
	}
}

// stamp leaves the zero time out of a message.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
