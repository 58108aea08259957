package resourcemanager

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/server"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	qmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quotamanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// quotas are the clients of the quota services.
type quotas struct {
	limits   qmv1.QuotaLimitServiceClient
	requests qmv1.QuotaRequestServiceClient
	operator quotav1.OperatorServiceClient
}

func (w *world) quotas() quotas {
	w.t.Helper()
	socket, err := server.DialOperator(w.DataDir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = socket.Close() }) // the test is over
	return quotas{qmv1.NewQuotaLimitServiceClient(w.Conn), qmv1.NewQuotaRequestServiceClient(w.Conn), quotav1.NewOperatorServiceClient(socket)}
}

func onCloud(cloudID string) *qmv1.Resource { return &qmv1.Resource{Type: cloud.typ, Id: cloudID} }

// folders asks for so many folders in a cloud.
func askFolders(cloudID string, limit float64) *qmv1.CreateQuotaRequestRequest {
	return &qmv1.CreateQuotaRequestRequest{Resource: onCloud(cloudID), DesiredQuotaLimits: []*qmv1.CreateQuotaRequestRequest_DesiredQuotaLimit{
		{QuotaId: catalog.QuotaFolders, DesiredLimit: limit},
	}}
}

// request makes a quota request.
func (w *world) request(q quotas, ctx context.Context, req *qmv1.CreateQuotaRequestRequest) *qmv1.QuotaRequest {
	w.t.Helper()
	r, metadata := new(qmv1.QuotaRequest), new(qmv1.CreateQuotaRequestMetadata)
	w.done(must[*operationpb.Operation](w.t)(q.requests.Create(ctx, req)), r, metadata)
	if metadata.GetQuotaRequestId() != r.GetId() {
		w.t.Errorf("metadata of %v", r)
	}
	return r
}

// QL-1: there are no hard limits; each one can be raised, for the installation and
// for one resource, and taken back.
func TestQL1_EveryLimitCanBeRaised(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		q, c := w.quotas(), w.first("ann")
		limits := quotav1.NewLimitServiceClient(w.Unit("identity", Name))
		get := func(id string, on *quotav1.Resource) int64 {
			t.Helper()
			return must[*quotav1.GetLimitsResponse](t)(limits.GetLimits(t.Context(), &quotav1.GetLimitsRequest{Resource: on, QuotaIds: []string{id}})).GetLimits()[0].GetLimit()
		}
		set := func(req *quotav1.SetLimitRequest) int64 {
			t.Helper()
			return must[*quotav1.SetLimitResponse](t)(q.operator.SetLimit(t.Context(), req)).GetLimit()
		}
		known, err := catalog.Load()
		if err != nil {
			t.Fatal(err)
		}
		for _, of := range known.Quotas() {
			on := &quotav1.Resource{Type: of.On, Id: "somebody"}
			switch of.On {
			case cloud.typ:
				on.Id = c.GetId()
			case organization.typ:
				on.Id = c.GetOrganizationId()
			case "organization-manager.group", "organization-manager.federation": // the tree of the test has none
				continue
			}
			if got := get(of.ID, on); got != of.Limit {
				t.Errorf("%s is %d at first, want %d", of.ID, got, of.Limit)
			}
			set(&quotav1.SetLimitRequest{QuotaId: of.ID, Change: &quotav1.SetLimitRequest_Limit{Limit: of.Limit + 1}})
			if got := get(of.ID, on); got != of.Limit+1 {
				t.Errorf("%s is %d after the default was raised", of.ID, got)
			}
			set(&quotav1.SetLimitRequest{QuotaId: of.ID, ResourceId: on.GetId(), Change: &quotav1.SetLimitRequest_Limit{Limit: of.Limit + 7}})
			if own, other := get(of.ID, on), get(of.ID, &quotav1.Resource{Type: of.On, Id: "other"}); own != of.Limit+7 || other != of.Limit+1 {
				t.Errorf("%s is %d where it was raised and %d elsewhere", of.ID, own, other)
			}
			if got := set(&quotav1.SetLimitRequest{QuotaId: of.ID, ResourceId: on.GetId(), Change: &quotav1.SetLimitRequest_Reset_{Reset_: true}}); got != of.Limit+1 {
				t.Errorf("%s is %d after it was taken back", of.ID, got)
			}
		}
		_, err = q.operator.SetLimit(t.Context(), &quotav1.SetLimitRequest{QuotaId: "a.b.count", Change: &quotav1.SetLimitRequest_Limit{Limit: 1}})
		wantRefusal(t, "an unknown quota", err, codes.NotFound, quota.ReasonNotFound)
		_, err = limits.GetLimits(t.Context(), &quotav1.GetLimitsRequest{Resource: &quotav1.Resource{Type: folder.typ, Id: "f"}, QuotaIds: []string{catalog.QuotaFolders}})
		wantRefusal(t, "a quota of another type", err, codes.NotFound, quota.ReasonNotFound)
	})
}

func TestQL2_LoweredQuotaStopsGrowthAlone(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c, ann := w.first("ann"), w.User("ann")
		f := w.folder("ann", c.GetId(), "one")
		w.folder("ann", c.GetId(), "two")
		w.limit(catalog.QuotaFolders, c.GetId(), 1)
		_, err := w.folders.Create(ann, &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "three"})
		wantRefusal(t, "a third folder of one", err, codes.ResourceExhausted, apierr.ReasonQuotaExceeded)
		w.done(must[*operationpb.Operation](t)(w.folders.Update(ann, &rmv1.UpdateFolderRequest{FolderId: f.GetId(), Description: "kept"})), nil, nil)

		// Of many at once exactly as many succeed as there is room for.
		w.limit(catalog.QuotaFolders, c.GetId(), 5)
		var wg sync.WaitGroup
		var made atomic.Int64
		for i := range 9 {
			wg.Go(func() {
				_, err := w.folders.Create(ann, &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "many-" + string(rune('a'+i))})
				if err == nil {
					made.Add(1)
				} else {
					wantRefusal(t, "a folder too many", err, codes.ResourceExhausted, apierr.ReasonQuotaExceeded)
				}
			})
		}
		wg.Wait()
		if made.Load() != 3 {
			t.Errorf("%d folders were made in the room of 3", made.Load())
		}
	})
}

func TestQL3_LimitAndUsageOfAResource(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		q, c, ann := w.quotas(), w.first("ann"), w.User("ann")
		w.folder("ann", c.GetId(), "one")
		w.limit(catalog.QuotaFolders, c.GetId(), 60)
		got := must[*qmv1.QuotaLimit](t)(q.limits.Get(ann, &qmv1.GetQuotaLimitRequest{Resource: onCloud(c.GetId()), QuotaId: catalog.QuotaFolders}))
		if got.GetLimit().GetValue() != 60 || got.GetUsage() == nil || got.GetUsage().GetValue() != 1 {
			t.Errorf("folders of the cloud: %v", got)
		}
		list := must[*qmv1.ListQuotaLimitsResponse](t)(q.limits.List(ann, &qmv1.ListQuotaLimitsRequest{Resource: onCloud(c.GetId()), Service: "resource-manager"}))
		if len(list.GetQuotaLimits()) != 1 || list.GetNextPageToken() != "" || list.GetResource().GetId() != c.GetId() || list.GetQuotaLimits()[0].GetUsage().GetValue() != 1 {
			t.Errorf("resource-manager on the cloud: %v", list)
		}
		req := &qmv1.ListQuotaLimitsRequest{Resource: &qmv1.Resource{Type: organization.typ, Id: c.GetOrganizationId()}, Service: "organization-manager", PageSize: 1}
		list = must[*qmv1.ListQuotaLimitsResponse](t)(q.limits.List(ann, req))
		if len(list.GetQuotaLimits()) != 1 || list.GetQuotaLimits()[0].GetQuotaId() != catalog.QuotaAccessBindings || list.GetNextPageToken() == "" {
			t.Errorf("a page of organization-manager: %v, want %s", list, catalog.QuotaAccessBindings)
		}
		if list.GetQuotaLimits()[0].GetUsage() != nil {
			t.Errorf("access bindings are counted by nobody here: %v", list)
		}
		req.PageToken = list.GetNextPageToken() // the next one is of identity, which is not here: a limit without what is used of it would mislead
		_, err := q.limits.List(ann, req)
		wantRefusal(t, "the limit of a unit that is not here", err, codes.Internal, apierr.ReasonInternal)
		services := must[*qmv1.ListServicesResponse](t)(q.limits.ListServices(ann, &qmv1.ListServicesRequest{ResourceType: cloud.typ, PageSize: 1}))
		if len(services.GetServices()) != 1 || services.GetServices()[0].GetId() != "iam" || services.GetNextPageToken() == "" {
			t.Errorf("services: %v", services)
		}
		_, err = q.limits.Get(ann, &qmv1.GetQuotaLimitRequest{Resource: onCloud(c.GetId()), QuotaId: catalog.QuotaClouds})
		wantRefusal(t, "a quota of organizations on a cloud", err, codes.NotFound, quota.ReasonNotFound)
		_, err = q.limits.Get(w.User("eve"), &qmv1.GetQuotaLimitRequest{Resource: onCloud(c.GetId()), QuotaId: "no.such.count"})
		wantRefusal(t, "a stranger about an unknown quota", err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
	})
}

func TestQL4_LifeOfARequest(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		q, c, ann := w.quotas(), w.first("ann"), w.User("ann")
		ask := &qmv1.CreateQuotaRequestRequest{Resource: onCloud(c.GetId())}
		for _, quotaID := range []string{catalog.QuotaFolders, catalog.QuotaServiceAccounts, catalog.QuotaAPIKeys, catalog.QuotaAccessKeys} {
			ask.DesiredQuotaLimits = append(ask.DesiredQuotaLimits, &qmv1.CreateQuotaRequestRequest_DesiredQuotaLimit{QuotaId: quotaID, DesiredLimit: 90})
		}
		r := w.request(q, ann, ask)
		want := func(what string, r *qmv1.QuotaRequest, status qmv1.QuotaRequest_Status, limits ...qmv1.QuotaRequest_QuotaLimit_Status) {
			t.Helper()
			if r.GetStatus() != status {
				t.Errorf("%s: request is %v, want %v", what, r.GetStatus(), status)
			}
			for i, l := range r.GetQuotaLimits() {
				if l.GetStatus() != limits[i] {
					t.Errorf("%s: %s is %v, want %v", what, l.GetQuotaId(), l.GetStatus(), limits[i])
				}
			}
		}
		const pending, processing, canceled = qmv1.QuotaRequest_QuotaLimit_PENDING, qmv1.QuotaRequest_QuotaLimit_PROCESSING, qmv1.QuotaRequest_QuotaLimit_CANCELED
		const approved, partial, rejected = qmv1.QuotaRequest_QuotaLimit_APPROVED, qmv1.QuotaRequest_QuotaLimit_PARTIAL_APPROVED, qmv1.QuotaRequest_QuotaLimit_REJECTED
		want("new", r, qmv1.QuotaRequest_PENDING, pending, pending, pending, pending)

		decide := func(decisions ...*quotav1.Decision) (*qmv1.QuotaRequest, error) {
			resp, err := q.operator.DecideRequest(t.Context(), &quotav1.DecideRequestRequest{QuotaRequestId: r.GetId(), Decisions: decisions})
			return resp.GetQuotaRequest(), err
		}
		r = must[*qmv1.QuotaRequest](t)(decide(&quotav1.Decision{QuotaId: catalog.QuotaFolders, Outcome: &quotav1.Decision_Start{Start: true}}))
		want("looked at", r, qmv1.QuotaRequest_PROCESSING, processing, pending, pending, pending)
		cancel := &qmv1.CancelQuotaRequestRequest{QuotaRequestId: r.GetId(), QuotaIds: []string{catalog.QuotaAccessKeys}}
		w.done(must[*operationpb.Operation](t)(q.requests.Cancel(ann, cancel)), r, new(qmv1.CancelQuotaRequestMetadata))
		want("one cancelled", r, qmv1.QuotaRequest_PROCESSING, processing, pending, pending, canceled)
		_, err := q.requests.Cancel(ann, cancel)
		wantRefusal(t, "cancelled twice", err, codes.FailedPrecondition, ReasonQuotaDecided)

		r = must[*qmv1.QuotaRequest](t)(decide(
			&quotav1.Decision{QuotaId: catalog.QuotaFolders, Outcome: &quotav1.Decision_Approve{Approve: true}},
			&quotav1.Decision{QuotaId: catalog.QuotaServiceAccounts, Outcome: &quotav1.Decision_ApproveLimit{ApproveLimit: 70}, Message: "for now"},
			&quotav1.Decision{QuotaId: catalog.QuotaAPIKeys, Outcome: &quotav1.Decision_Reject{Reject: true}, Message: "too many"},
		))
		want("decided", r, qmv1.QuotaRequest_PROCESSED, approved, partial, rejected, canceled)
		if l := r.GetQuotaLimits()[1]; l.GetApprovedLimit() != 70 || l.GetMessage() != "for now" || l.GetModifiedBy() != "operator" || l.GetUnit() != "accounts" {
			t.Errorf("partly approved: %v", l)
		}
		got := must[*qmv1.QuotaLimit](t)(q.limits.Get(ann, &qmv1.GetQuotaLimitRequest{Resource: onCloud(c.GetId()), QuotaId: catalog.QuotaFolders}))
		if got.GetLimit().GetValue() != 90 {
			t.Errorf("the approved limit: %v", got)
		}
		_, err = decide(&quotav1.Decision{QuotaId: catalog.QuotaFolders, Outcome: &quotav1.Decision_Reject{Reject: true}})
		wantRefusal(t, "decided twice", err, codes.FailedPrecondition, ReasonQuotaDecided)
		_, err = decide(&quotav1.Decision{QuotaId: catalog.QuotaAuthorizedKeys, Outcome: &quotav1.Decision_Reject{Reject: true}})
		wantRefusal(t, "not asked for", err, codes.NotFound, ReasonQuotaNotRequested)

		again := w.request(q, ann, askFolders(c.GetId(), 95))
		w.done(must[*operationpb.Operation](t)(q.requests.Cancel(ann, &qmv1.CancelQuotaRequestRequest{QuotaRequestId: again.GetId(), QuotaIds: []string{catalog.QuotaFolders}})), again, nil)
		want("all cancelled", again, qmv1.QuotaRequest_CANCELED, canceled)
		ops := must[*qmv1.ListQuotaRequestOperationsResponse](t)(q.requests.ListOperations(ann, &qmv1.ListQuotaRequestOperationsRequest{QuotaRequestId: again.GetId(), PageSize: 1}))
		if len(ops.GetOperations()) != 1 || ops.GetOperations()[0].GetDescription() != "Cancel quota request" || ops.GetNextPageToken() == "" {
			t.Errorf("operations: %v", ops)
		}
	})
}

func TestQuotaRequests_Refusals(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		q, c, ann := w.quotas(), w.first("ann"), w.User("ann")
		twice := askFolders(c.GetId(), 9)
		twice.DesiredQuotaLimits = append(twice.DesiredQuotaLimits, twice.DesiredQuotaLimits[0])
		other := askFolders(c.GetId(), 9)
		other.DesiredQuotaLimits[0].QuotaId = catalog.QuotaClouds
		for _, tt := range []struct {
			name   string
			req    *qmv1.CreateQuotaRequestRequest
			code   codes.Code
			reason string
		}{
			{"no resource", &qmv1.CreateQuotaRequestRequest{DesiredQuotaLimits: twice.GetDesiredQuotaLimits()[:1]}, codes.InvalidArgument, "resource.type"},
			{"nothing", &qmv1.CreateQuotaRequestRequest{Resource: onCloud(c.GetId())}, codes.InvalidArgument, "desired_quota_limits"},
			{"half a folder", askFolders(c.GetId(), 1.5), codes.InvalidArgument, "desired_quota_limits[0].desired_limit"},
			{"less than nothing", askFolders(c.GetId(), -1), codes.InvalidArgument, "desired_quota_limits[0].desired_limit"},
			{"no number", askFolders(c.GetId(), math.NaN()), codes.InvalidArgument, "desired_quota_limits[0].desired_limit"},
			{"a quota twice", twice, codes.InvalidArgument, "desired_quota_limits[1].quota_id"},
			{"a quota of another type", other, codes.NotFound, quota.ReasonNotFound},
			{"a cloud that is not there", askFolders("cldnone", 9), codes.NotFound, apierr.ReasonResourceNotFound},
		} {
			_, err := q.requests.Create(ann, tt.req)
			wantRefusal(t, tt.name, err, tt.code, tt.reason)
		}
		r := w.request(q, ann, askFolders(c.GetId(), math.MaxInt64))
		if got := r.GetQuotaLimits()[0].GetDesiredLimit(); got != math.MaxInt64 {
			t.Errorf("as many as there can be: %v", got)
		}
		_, err := q.requests.Create(ann, askFolders(c.GetId(), 10))
		wantRefusal(t, "while another one is open", err, codes.FailedPrecondition, ReasonQuotaRequestPending)
		_, err = q.requests.Get(ann, &qmv1.GetQuotaRequestRequest{QuotaRequestId: "qrqnone"})
		wantRefusal(t, "an unknown request", err, codes.NotFound, ReasonQuotaRequestNotFound)
	})
}

func TestQuotaRequests_Lists(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		q, ann, eve := w.quotas(), w.User("ann"), w.User("eve")
		mine, theirs := w.first("ann"), w.first("eve")
		a := w.request(q, ann, askFolders(mine.GetId(), 60))
		b := w.request(q, eve, askFolders(theirs.GetId(), 60))
		c := w.request(q, ann, &qmv1.CreateQuotaRequestRequest{Resource: onCloud(mine.GetId()), DesiredQuotaLimits: []*qmv1.CreateQuotaRequestRequest_DesiredQuotaLimit{
			{QuotaId: catalog.QuotaAPIKeys, DesiredLimit: 2000},
		}})
		ids := func(ctx context.Context, req *qmv1.ListQuotaRequestRequest, opts ...grpc.CallOption) (ids []string) {
			t.Helper()
			for {
				resp := must[*qmv1.ListQuotaRequestResponse](t)(q.requests.List(ctx, req, opts...))
				for _, r := range resp.GetQuotaRequests() {
					ids = append(ids, r.GetId())
				}
				if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
					return ids
				}
			}
		}
		equal := func(what string, got []string, want ...string) {
			t.Helper()
			if len(got) != len(want) {
				t.Errorf("%s: %q, want %q", what, got, want)
				return
			}
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("%s: %q, want %q", what, got, want)
				}
			}
		}
		equal("of a cloud, by pages of one", ids(ann, &qmv1.ListQuotaRequestRequest{Resource: onCloud(mine.GetId()), PageSize: 1}), a.GetId(), c.GetId())
		equal("of everything that ann sees", ids(ann, &qmv1.ListQuotaRequestRequest{}), a.GetId(), c.GetId())
		equal("of everything that eve sees", ids(eve, &qmv1.ListQuotaRequestRequest{PageSize: 1}), b.GetId())
		equal("of a status", ids(ann, &qmv1.ListQuotaRequestRequest{Filter: `status = "PROCESSED"`}))
		_, err := q.requests.List(ann, &qmv1.ListQuotaRequestRequest{Resource: onCloud(theirs.GetId())})
		wantRefusal(t, "of another's cloud", err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		_, err = q.requests.List(ann, &qmv1.ListQuotaRequestRequest{Filter: `status = "OPEN"`})
		wantRefusal(t, "an unknown status", err, codes.InvalidArgument, "filter")

		open := must[*quotav1.ListRequestsResponse](t)(q.operator.ListRequests(t.Context(), &quotav1.ListRequestsRequest{Open: true, PageSize: 2}))
		if len(open.GetQuotaRequests()) != 2 || open.GetNextPageToken() == "" || len(open.GetQuotaRequests()[0].GetQuotaLimits()) != 1 {
			t.Errorf("open requests: %v", open)
		}
		// What is deleted takes its quotas and its requests along.
		w.done(must[*operationpb.Operation](t)(w.clouds.Delete(ann, &rmv1.DeleteCloudRequest{CloudId: mine.GetId(), DeleteAfter: w.in(0)})), nil, nil)
		equal("after the cloud", ids(ann, &qmv1.ListQuotaRequestRequest{}))
	})
}
