package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	auditv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/audit/v1"
)

// trailOf answers for the TrailService of one unit: at most `most` records at a
// time, as if they were long.
type trailOf struct {
	records []page.Position // newest first
	most    int
	err     error
}

// Invoke answers ListRecords.
func (u *trailOf) Invoke(_ context.Context, _ string, args, reply any, _ ...grpc.CallOption) error {
	if u.err != nil {
		return u.err
	}
	req, _ := args.(*auditv1.ListRecordsRequest)
	resp, ok := reply.(*auditv1.ListRecordsResponse)
	if !ok {
		return errors.New("another method")
	}
	rest := u.records
	if b := req.GetBefore(); b != nil {
		i := slices.IndexFunc(rest, func(p page.Position) bool { return newerThan(audit.PositionOf(b), p) < 0 })
		if i < 0 {
			return nil
		}
		rest = rest[i:]
	}
	rest = rest[:min(len(rest), int(req.GetPageSize()))]
	resp.More = len(rest) > u.most
	for _, p := range rest[:min(len(rest), u.most)] {
		resp.Records = append(resp.Records, &auditv1.AuditRecord{Place: audit.PlaceOf(p), Json: `{"event_type":"x","details":{"of":"` + req.GetUnit() + `"}}`})
	}
	return nil
}

// NewStream is not used.
func (*trailOf) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams here")
}

// lines takes what an export sends.
type lines struct {
	grpc.ServerStreamingServer[httpbody.HttpBody]
	ctx  context.Context //nolint:containedctx // the interface asks for it
	sent int
}

// Context is that of the call.
func (l *lines) Context() context.Context { return l.ctx }

// Send counts a line.
func (l *lines) Send(*httpbody.HttpBody) error { l.sent++; return nil }

// TestAU_TrailsOfUnitsAreOne lists random trails by pages of all sizes: every event
// comes once, newest first, and no page but the last is empty.
func TestAU_TrailsOfUnitsAreOne(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		units, total := map[string]*trailOf{}, 0
		for i, name := range audited {
			u := &trailOf{most: 1 + random.IntN(30)}
			for n := random.IntN(40); n > 0; n-- {
				u.records = append(u.records, page.Position{Time: 1 + random.Int64N(20), ID: fmt.Sprintf("aud%d-%03d", i, n)})
			}
			slices.SortFunc(u.records, newerThan)
			units[name] = u
			total += len(u.records)
		}
		s := must(newAudits(server.Base{Peer: func(unit string) grpc.ClientConnInterface { return units[unit] }}))(t)
		req := &auditv1.ListEventsRequest{Resource: &auditv1.Resource{Type: "t", Id: "r"}, PageSize: 1 + random.Int64N(30)}
		var all []*auditv1.Event
		for {
			resp := must(s.ListEvents(t.Context(), req))(t)
			all = append(all, resp.GetEvents()...)
			if len(resp.GetEvents()) == 0 && len(all) > 0 || int64(len(resp.GetEvents())) > req.GetPageSize() {
				t.Fatalf("seed %d: a page of %d events of %d", seed, len(resp.GetEvents()), req.GetPageSize())
			}
			if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		place := func(e *auditv1.Event) page.Position { return page.Position{Time: 0, ID: e.GetEventId()} }
		seen := map[page.Position]bool{}
		for _, e := range all {
			seen[place(e)] = true
		}
		if len(all) != total || len(seen) != total {
			t.Errorf("seed %d: %d events, %d different ones, want %d", seed, len(all), len(seen), total)
		}
		out := &lines{ctx: t.Context()}
		if err := s.ExportEvents(&auditv1.ExportEventsRequest{Resource: req.GetResource()}, out); err != nil || out.sent != total {
			t.Errorf("seed %d: %d lines exported (%v), want %d", seed, out.sent, err, total)
		}
	}
}

func TestAU_OrderOfEvents(t *testing.T) {
	units := map[string]*trailOf{marketplaceRequests: {}, notifications: {}, partner: {}} // have none
	for i, name := range []string{accessBindings, identity, resourceManager} {
		units[name] = &trailOf{most: 2, records: []page.Position{
			{Time: int64(30 + i), ID: fmt.Sprintf("b%d", i)}, {Time: 20, ID: fmt.Sprintf("a%d", i)}, {Time: int64(10 - i), ID: fmt.Sprintf("c%d", i)},
		}}
	}
	s := must(newAudits(server.Base{Peer: func(unit string) grpc.ClientConnInterface { return units[unit] }}))(t)
	var got []string
	req := &auditv1.ListEventsRequest{Resource: &auditv1.Resource{Type: "t", Id: "r"}, PageSize: 4}
	for ok := true; ok; ok = req.GetPageToken() != "" {
		resp := must(s.ListEvents(t.Context(), req))(t)
		for _, e := range resp.GetEvents() {
			got = append(got, e.GetEventId())
		}
		req.PageToken = resp.GetNextPageToken()
	}
	if want := []string{"b2", "b1", "b0", "a2", "a1", "a0", "c0", "c1", "c2"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	req.PageToken = ""
	first := must(s.ListEvents(t.Context(), req))(t)
	if details := first.GetEvents()[0].GetDetails().GetStructValue().GetFields()["of"].GetStringValue(); details != resourceManager {
		t.Errorf("details of the newest: %v", first.GetEvents()[0])
	}
	for name, other := range map[string]*auditv1.ListEventsRequest{
		"another resource": {Resource: &auditv1.Resource{Type: "t", Id: "r2"}},
		"another filter":   {Resource: req.GetResource(), Filter: &auditv1.EventFilter{SubjectId: "ann"}},
	} {
		other.PageToken = first.GetNextPageToken()
		if _, err := s.ListEvents(t.Context(), other); apierr.CodeOf(err) != codes.InvalidArgument {
			t.Errorf("the token of a page with %s: %v", name, err)
		}
	}
}

// While one unit is away nothing is shown as if it were all.
func TestAU_NoPartOfATrail(t *testing.T) {
	for _, away := range audited {
		s := must(newAudits(server.Base{Peer: func(unit string) grpc.ClientConnInterface {
			u := &trailOf{most: 9, records: []page.Position{{Time: 1, ID: unit}}}
			if unit == away {
				u.err = apierr.Unavailable(apierr.ReasonUnavailable, "away")
			}
			return u
		}}))(t)
		_, err := s.ListEvents(t.Context(), &auditv1.ListEventsRequest{Resource: &auditv1.Resource{Type: "t", Id: "r"}})
		if apierr.CodeOf(err) != codes.Unavailable {
			t.Errorf("%s is away: %v", away, err)
		}
		out := &lines{ctx: t.Context()}
		if err := s.ExportEvents(new(auditv1.ExportEventsRequest), out); apierr.CodeOf(err) != codes.Unavailable || out.sent != 0 {
			t.Errorf("%s is away: %d lines and %v", away, out.sent, err)
		}
	}
}

// must fails the test on an error and returns the value.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
