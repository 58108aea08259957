package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	auditv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/audit/v1"
)

// audited are the units that keep audit records.
var audited = []string{accessBindings, identity, marketplaceRequests, notifications, partner, resourceManager}

// ndjson is the type of JSON lines.
const ndjson = "application/x-ndjson"

// exportBatch is how many records an export asks each unit for at once.
const exportBatch = 1000

// audits is bindery.audit.v1.AuditService, and the OperatorService beside it: the
// trails of all units as one.
type audits struct {
	auditv1.UnsafeAuditServiceServer // a missing method does not compile
	auditv1.UnsafeOperatorServiceServer

	peer  func(unit string) grpc.ClientConnInterface
	pages *page.Sealer
}

func newAudits(base server.Base) (*audits, error) {
	// The gateway stores nothing, so its processes share no key. A token holds a
	// place in time and nothing else; the seal only tells those of other lists apart.
	pages, err := page.New(make([]byte, page.KeySize))
	if err != nil {
		return nil, err
	}
	return &audits{peer: base.Peer, pages: pages}, nil
}

// ListEvents lists the events on a resource and below it, newest first. Fails:
// UNAVAILABLE while a unit is away.
func (s *audits) ListEvents(ctx context.Context, req *auditv1.ListEventsRequest) (*auditv1.ListEventsResponse, error) {
	filter, err := proto.MarshalOptions{Deterministic: true}.Marshal(req.GetFilter())
	if err != nil {
		return nil, fmt.Errorf("scope of a page token: %w", err)
	}
	scope := []string{"audit events", req.GetResource().GetType(), req.GetResource().GetId(), string(filter)}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	records, more, err := s.read(ctx, req.GetResource(), req.GetFilter(), after, size+1)
	if err != nil {
		return nil, err
	}
	resp := new(auditv1.ListEventsResponse)
	for _, r := range records[:min(len(records), size)] {
		event, err := eventOf(r)
		if err != nil {
			return nil, err
		}
		resp.Events = append(resp.Events, event)
	}
	fit := page.Fit(len(resp.GetEvents()), func(i int) int { return proto.Size(resp.GetEvents()[i]) })
	if fit == len(records) && !more {
		return resp, nil
	}
	resp.Events = resp.GetEvents()[:fit]
	resp.NextPageToken, err = s.pages.Seal(audit.PositionOf(records[fit-1].GetPlace()), scope...)
	return resp, err
}

// ExportEvents streams the events on a resource and below it, newest first.
func (s *audits) ExportEvents(req *auditv1.ExportEventsRequest, to grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	return s.export(req.GetResource(), req.GetFilter(), to)
}

// ExportAllEvents is ExportEvents for the operator, who may leave the resource out.
func (s *audits) ExportAllEvents(req *auditv1.ExportAllEventsRequest, to grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	return s.export(req.GetResource(), req.GetFilter(), to)
}

// export sends one message for each record, a line without its end, which REST adds.
func (s *audits) export(on *auditv1.Resource, filter *auditv1.EventFilter, to grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	var after page.Position
	for {
		records, more, err := s.read(to.Context(), on, filter, after, exportBatch)
		if err != nil {
			return err
		}
		for _, r := range records {
			if err := to.Send(&httpbody.HttpBody{ContentType: ndjson, Data: []byte(r.GetJson())}); err != nil {
				return err
			}
			after = audit.PositionOf(r.GetPlace())
		}
		if !more {
			return nil
		}
	}
}

// read returns at most want records of all units that follow after, newest first,
// and whether there may be more: never none of them with more to come.
func (s *audits) read(ctx context.Context, on *auditv1.Resource, filter *auditv1.EventFilter, after page.Position, want int) (all []*auditv1.AuditRecord, more bool, err error) {
	req := &auditv1.ListRecordsRequest{Resource: on, Filter: filter, PageSize: int64(want)}
	if after != (page.Position{}) {
		req.Before = audit.PlaceOf(after)
	}
	answers := make([]*auditv1.ListRecordsResponse, len(audited))
	g, gctx := errgroup.WithContext(server.AsUnit(ctx))
	for i, unit := range audited {
		g.Go(func() (err error) {
			own, _ := proto.Clone(req).(*auditv1.ListRecordsRequest) // what it was cloned from
			own.Unit = unit
			if answers[i], err = auditv1.NewTrailServiceClient(s.peer(unit)).ListRecords(gctx, own); err != nil {
				return apierr.FromRPC(err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, false, err
	}
	var known page.Position // what is older is not known of every unit
	for _, answer := range answers {
		records := answer.GetRecords()
		all = append(all, records...)
		if answer.GetMore() || len(records) == want {
			more = true
			if last := audit.PositionOf(records[len(records)-1].GetPlace()); newerThan(last, known) < 0 {
				known = last
			}
		}
	}
	slices.SortFunc(all, func(a, b *auditv1.AuditRecord) int {
		return newerThan(audit.PositionOf(a.GetPlace()), audit.PositionOf(b.GetPlace()))
	})
	all = slices.DeleteFunc(all, func(r *auditv1.AuditRecord) bool { return newerThan(known, audit.PositionOf(r.GetPlace())) < 0 })
	if len(all) > want {
		all, more = all[:want], true
	}
	return all, more, nil
}

// newerThan is negative when a comes before b, newest first.
func newerThan(a, b page.Position) int {
	return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(b.ID, a.ID))
}

// eventOf reads a record.
func eventOf(r *auditv1.AuditRecord) (*auditv1.Event, error) {
	var rec audit.Record
	if err := json.Unmarshal([]byte(r.GetJson()), &rec); err != nil {
		return nil, fmt.Errorf("read audit record %s: %w", r.GetPlace().GetEventId(), err)
	}
	a := rec.Authentication
	event := &auditv1.Event{
		EventId: r.GetPlace().GetEventId(), EventSource: rec.EventSource, EventType: rec.EventType,
		EventTime: timestamppb.New(rec.EventTime), EventStatus: string(rec.EventStatus),
		Authentication: &auditv1.Authentication{
			Authenticated: a.Authenticated, SubjectType: a.SubjectType, SubjectId: a.SubjectID, SubjectName: a.SubjectName,
			Unit: a.Unit, ActorType: a.ActorType, ActorId: a.ActorID,
		},
		Authorization: &auditv1.Authorization{Authorized: rec.Authorization.Authorized},
		RequestMetadata: &auditv1.RequestMetadata{
			RemoteAddress: rec.RequestMetadata.RemoteAddress, UserAgent: rec.RequestMetadata.UserAgent, RequestId: rec.RequestMetadata.RequestID,
		},
	}
	for _, p := range rec.Authorization.Permissions {
		event.Authorization.Permissions = append(event.Authorization.Permissions, &auditv1.CheckedPermission{
			Permission: p.Permission, ResourceType: p.ResourceType, ResourceId: p.ResourceID, Authorized: p.Authorized,
		})
	}
	for _, step := range rec.ResourceMetadata.Path {
		event.Path = append(event.Path, &auditv1.EventResource{ResourceType: step.Type, ResourceId: step.ID, ResourceName: step.Name})
	}
	var err error
	if rec.Details != nil {
		event.Details, err = structpb.NewValue(rec.Details)
	}
	return event, err
}
