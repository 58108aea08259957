package notifications

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// Planned work is announced three calendar days ahead, an incident within 24 hours.
func TestNT4_PlannedWorkThreeDaysAheadIncidentsWithinADay(t *testing.T) {
	const maintenance, incident, service = notificationv1.CreateNoticeRequest_MAINTENANCE, notificationv1.CreateNoticeRequest_INCIDENT, notificationv1.CreateNoticeRequest_SERVICE
	now := time.Date(2026, 3, 10, 23, 30, 0, 0, time.UTC)
	for _, tt := range []struct {
		name   string
		kind   notificationv1.CreateNoticeRequest_Kind
		at     time.Time
		late   bool
		code   codes.Code
		warned bool
	}{
		{name: "three days by the calendar", kind: maintenance, at: time.Date(2026, 3, 13, 0, 0, 0, 0, time.UTC)},
		{name: "a second too soon", kind: maintenance, at: time.Date(2026, 3, 12, 23, 59, 59, 0, time.UTC), code: codes.FailedPrecondition},
		{name: "said to be late", kind: maintenance, at: now.Add(time.Hour), late: true, warned: true},
		{name: "late, and in time", kind: maintenance, at: now.AddDate(0, 0, 9), late: true},
		{name: "in the past", kind: maintenance, at: now.Add(-time.Second), late: true, code: codes.InvalidArgument},
		{name: "no time", kind: maintenance, code: codes.InvalidArgument},
		{name: "incident today", kind: incident, at: now.Add(-23 * time.Hour)},
		{name: "incident of yesterday", kind: incident, at: now.Add(-25 * time.Hour), warned: true},
		{name: "incident of tomorrow", kind: incident, at: now.Add(time.Hour), code: codes.InvalidArgument},
		{name: "incident without a time", kind: incident, code: codes.InvalidArgument},
		{name: "late incident", kind: incident, at: now, late: true, code: codes.InvalidArgument},
		{name: "anything else", kind: service},
		{name: "anything else, with a time", kind: service, at: now, code: codes.InvalidArgument},
	} {
		req := &notificationv1.CreateNoticeRequest{Kind: tt.kind, Late: tt.late}
		if !tt.at.IsZero() {
			req.At = timestamppb.New(tt.at)
		}
		warnings, err := timely(req, now)
		if apierr.CodeOf(err) != tt.code || len(warnings) > 0 != tt.warned {
			t.Errorf("%s: %v, %v; want %v, warned %v", tt.name, warnings, err, tt.code, tt.warned)
		}
	}
}

// The operator tells owners, subscribers and whoever else must know; what became of it
// can be seen.
func TestNT4_OperatorTells(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		at := w.tree(ann)
		on := &accessv1.Resource{Type: typeFolder, Id: at.folder}
		begins := timestamppb.New(time.Now().AddDate(0, 0, 5))
		made := must(w.desk.CreateNotice(t.Context(), &notificationv1.CreateNoticeRequest{
			Kind: notificationv1.CreateNoticeRequest_MAINTENANCE, Resource: on, Title: "Disks", Text: "New disks.", At: begins, Also: []string{"dpo@people.example"},
		}))(t)
		want := []string{"mail " + ann.email + " DELIVERED", "mail dpo@people.example DELIVERED"}
		if diff := cmp.Diff(want, w.settled(made.GetNoticeId())); diff != "" || len(made.GetWarnings()) > 0 {
			t.Errorf("warnings %v, deliveries (-want +got):\n%s", made.GetWarnings(), diff)
		}
		raw := w.mail.letters("dpo@people.example")[0].raw
		for _, want := range []string{"New disks.", "Begins: " + begins.AsTime().Format("2006-01-02 15:04 UTC"), "billing (" + at.folder + ")", "prod (" + at.cloud + ")"} {
			if !strings.Contains(raw, want) {
				t.Errorf("the letter does not hold %q:\n%s", want, raw)
			}
		}
		var seen []string
		for req := (&notificationv1.ListDeliveriesRequest{NoticeId: made.GetNoticeId(), State: notificationv1.Delivery_DELIVERED, PageSize: 1}); ; {
			page := must(w.desk.ListDeliveries(t.Context(), req))(t)
			for _, d := range page.GetDeliveries() {
				seen = append(seen, d.GetChannel()+" "+d.GetTarget()+" "+d.GetState().String())
			}
			if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		slices.Sort(seen)
		if diff := cmp.Diff(want, seen); diff != "" {
			t.Errorf("deliveries (-want +got):\n%s", diff)
		}
		for what, refused := range map[string]struct {
			req    *notificationv1.CreateNoticeRequest
			reason string
		}{
			"too short": {&notificationv1.CreateNoticeRequest{
				Kind: notificationv1.CreateNoticeRequest_MAINTENANCE, Resource: on, Title: "x", Text: "x", At: timestamppb.New(time.Now().Add(time.Hour)),
			}, ReasonNoticeTooShort},
			"nowhere": {&notificationv1.CreateNoticeRequest{
				Kind: notificationv1.CreateNoticeRequest_SERVICE, Resource: &accessv1.Resource{Type: typeCloud, Id: "cld00000000000000000"}, Title: "x", Text: "x",
			}, apierr.ReasonResourceNotFound},
			"another type": {&notificationv1.CreateNoticeRequest{
				Kind: notificationv1.CreateNoticeRequest_SERVICE, Resource: &accessv1.Resource{Type: "iam.serviceAccount", Id: "x"}, Title: "x", Text: "x",
			}, apierr.ReasonInvalid},
			"two lines": {&notificationv1.CreateNoticeRequest{
				Kind: notificationv1.CreateNoticeRequest_SERVICE, Resource: on, Title: "x\r\nBcc: eve@example.com", Text: "x",
			}, apierr.ReasonInvalid},
		} {
			if _, err := w.desk.CreateNotice(t.Context(), refused.req); apierr.ReasonOf(err) != refused.reason {
				t.Errorf("%s: %v, want %s", what, err, refused.reason)
			}
		}
	})
}
