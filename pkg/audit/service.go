package audit

import (
	"context"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/page"
	auditv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/audit/v1"
)

// ReasonUnitNotFound is the reason for a unit that keeps no records here.
const ReasonUnitNotFound = "UNIT_NOT_FOUND"

// Trails is bindery.audit.v1.TrailService over the units of a process, by name.
type Trails struct {
	auditv1.UnsafeTrailServiceServer
	Of map[string]*Trail
}

// ListRecords lists the records of one unit, newest first. Fails: UNIT_NOT_FOUND.
func (t *Trails) ListRecords(ctx context.Context, req *auditv1.ListRecordsRequest) (*auditv1.ListRecordsResponse, error) {
	trail := t.Of[req.GetUnit()]
	if trail == nil {
		return nil, apierr.NotFound(ReasonUnitNotFound, "unit %q keeps no audit records here", req.GetUnit())
	}
	var after page.Position
	if p := req.GetBefore(); p != nil {
		after = PositionOf(p)
	}
	entries, err := trail.List(ctx, queryOf(req.GetResource(), req.GetFilter()), after, int(req.GetPageSize()))
	if err != nil {
		return nil, err
	}
	fit := page.Fit(len(entries), func(i int) int { return len(entries[i].Text) })
	resp := &auditv1.ListRecordsResponse{More: fit < len(entries)}
	for _, e := range entries[:fit] {
		resp.Records = append(resp.Records, &auditv1.AuditRecord{Place: PlaceOf(e.Position()), Json: e.Text})
	}
	return resp, nil
}

// queryOf reads what narrows a trail.
func queryOf(on *auditv1.Resource, f *auditv1.EventFilter) Query {
	q := Query{On: Resource{Type: on.GetType(), ID: on.GetId()}, SubjectID: f.GetSubjectId()}
	for _, typ := range f.GetEventTypes() {
		if !strings.HasPrefix(typ, eventPrefix) {
			typ = eventPrefix + typ
		}
		q.Types = append(q.Types, typ)
	}
	if f.GetFrom() != nil {
		q.From = f.GetFrom().AsTime()
	}
	if f.GetTo() != nil {
		q.To = f.GetTo().AsTime()
	}
	return q
}

// PlaceOf returns a position between units.
func PlaceOf(p page.Position) *auditv1.RecordPlace {
	return &auditv1.RecordPlace{
		EventTime: &timestamppb.Timestamp{Seconds: p.Time / 1e6, Nanos: int32(p.Time % 1e6 * 1e3)}, EventId: p.ID,
	}
}

// PositionOf is the reverse of PlaceOf.
func PositionOf(p *auditv1.RecordPlace) page.Position {
	return page.Position{Time: p.GetEventTime().AsTime().UnixMicro(), ID: p.GetEventId()}
}
