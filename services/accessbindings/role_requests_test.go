package accessbindings

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/thread"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// roleWorld is a world in which vera is a member of the organization, without a role.
type roleWorld struct {
	*world
	client accessv1.RoleRequestServiceClient
}

func forEachRoleWorld(t *testing.T, f func(t *testing.T, w *roleWorld)) {
	t.Helper()
	forEach(t, func(t *testing.T, w *world) {
		w.must(w.members(org1, []Subject{vera}, nil))
		f(t, &roleWorld{w, accessv1.NewRoleRequestServiceClient(w.Conn)})
	})
}

// asking is a request that is good, for viewer on the folder for an hour.
func asking(change ...func(*accessv1.CreateRoleRequestRequest)) *accessv1.CreateRoleRequestRequest {
	req := &accessv1.CreateRoleRequestRequest{
		Resource: folder1.proto(), RoleId: viewer, Reason: "To read the logs.",
		Term: &accessv1.CreateRoleRequestRequest_Duration{Duration: durationpb.New(time.Hour)},
	}
	for _, c := range change {
		c(req)
	}
	return req
}

func (w *roleWorld) ask(who Subject, change ...func(*accessv1.CreateRoleRequestRequest)) (string, error) {
	op, err := w.client.CreateRoleRequest(w.as(who), asking(change...))
	if err != nil {
		return "", err
	}
	return w.requestOf(op).GetId(), nil
}

func (w *roleWorld) mustAsk(who Subject, change ...func(*accessv1.CreateRoleRequestRequest)) string {
	w.t.Helper()
	id, err := w.ask(who, change...)
	w.must(err)
	return id
}

// requestOf unpacks the request of an operation that is done.
func (w *roleWorld) requestOf(op *operationpb.Operation) *accessv1.RoleRequest {
	w.t.Helper()
	r := new(accessv1.RoleRequest)
	if !op.GetDone() {
		w.t.Fatalf("the operation %v is not done", op)
	}
	w.must(op.GetResponse().UnmarshalTo(r))
	return r
}

// take takes an action as somebody.
func (w *roleWorld) take(who Subject, id string, a request.Action) (err error) {
	ctx := w.as(who)
	switch a {
	case request.Post:
		_, err = w.client.CreateRoleRequestMessage(ctx, &accessv1.CreateRoleRequestMessageRequest{RequestId: id, Text: "Hello."})
	case request.Approve:
		_, err = w.client.ApproveRoleRequest(ctx, &accessv1.ApproveRoleRequestRequest{RequestId: id, Comment: "Fine."})
	case request.Reject:
		_, err = w.client.RejectRoleRequest(ctx, &accessv1.RejectRoleRequestRequest{RequestId: id, Comment: "No."})
	case request.Cancel:
		_, err = w.client.CancelRoleRequest(ctx, &accessv1.CancelRoleRequestRequest{RequestId: id})
	case request.Revoke:
		_, err = w.client.EndRoleRequest(ctx, &accessv1.EndRoleRequestRequest{RequestId: id, Comment: "Done with it."})
	default:
		w.t.Fatalf("nobody takes %s", a)
	}
	return err
}

func (w *roleWorld) mustTake(who Subject, id string, a request.Action) {
	w.t.Helper()
	w.must(w.take(who, id, a))
}

func (w *roleWorld) read(id string) *accessv1.RoleRequest {
	w.t.Helper()
	r, err := w.client.GetRoleRequest(w.as(carl), &accessv1.GetRoleRequestRequest{RequestId: id})
	w.must(err)
	return r
}

// holds compares whether vera sees the folder.
func (w *roleWorld) holds(what string, want bool) {
	w.t.Helper()
	if got := w.allowed(vera, getFolder, folder1); got != want {
		w.t.Errorf("%s: vera sees the folder: %v, want %v", what, got, want)
	}
}

func TestRQ1_WhoAsksForWhat(t *testing.T) {
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		on := func(r Ref) func(*accessv1.CreateRoleRequestRequest) {
			return func(req *accessv1.CreateRoleRequestRequest) { req.Resource = r.proto() }
		}
		role := func(id string) func(*accessv1.CreateRoleRequestRequest) {
			return func(req *accessv1.CreateRoleRequestRequest) { req.RoleId = id }
		}
		w.market()
		home, foreign := w.account("robot", folder1), Ref{typeServiceAccount, "foreign"}
		cloud2, folder3 := Ref{"resource-manager.cloud", "cloud2"}, Ref{"resource-manager.folder", "folder3"}
		w.register(cloud2, org2, []Pair{{cloudOwner, olga}})
		w.register(folder3, cloud2, nil)
		w.know(robot(foreign.ID))
		w.register(foreign, folder3, nil)
		for _, c := range []struct {
			what   string
			who    Subject
			change func(*accessv1.CreateRoleRequestRequest)
			code   codes.Code
			reason string
		}{
			{"a stranger", nick, nil, codes.PermissionDenied, ReasonRequesterNotEligible},
			{"a service account of another organization", robot(foreign.ID), nil, codes.PermissionDenied, ReasonRequesterNotEligible},
			{"no resource", vera, on(Ref{"resource-manager.folder", "none"}), codes.NotFound, apierr.ReasonResourceNotFound},
			{"outside of organizations", vera, on(product1), codes.FailedPrecondition, ReasonRequesterNotEligible},
			{"no role", vera, role("no.such.role"), codes.NotFound, ReasonRoleNotFound},
			{"a role that does not fit", vera, role(cloudOwner), codes.InvalidArgument, "ROLE_DOES_NOT_FIT"},
			{"a role of the platform", vera, role(productUser), codes.InvalidArgument, "ROLE_NOT_ASSIGNABLE"},
			{"no reason", vera, func(r *accessv1.CreateRoleRequestRequest) { r.Reason = "\n \t" }, codes.InvalidArgument, apierr.ReasonInvalid},
			{"a control character", vera, func(r *accessv1.CreateRoleRequestRequest) { r.Reason = "a\x1bb" }, codes.InvalidArgument, apierr.ReasonInvalid},
			{"too many words", vera, func(r *accessv1.CreateRoleRequestRequest) { r.Reason = strings.Repeat("ж", thread.MaxCharacters+1) }, codes.InvalidArgument, apierr.ReasonInvalid},
		} {
			change := c.change
			if change == nil {
				change = func(*accessv1.CreateRoleRequestRequest) {}
			}
			_, err := w.ask(c.who, change)
			if status.Code(err) != c.code || apierr.ReasonOf(err) != c.reason {
				t.Errorf("%s: %v, want %v %s", c.what, err, c.code, c.reason)
			}
		}
		w.mustAsk(vera, func(r *accessv1.CreateRoleRequestRequest) { r.Reason = strings.Repeat("ж", thread.MaxCharacters) })
		w.mustAsk(home)
		frida := Subject{rules.FederatedUser, "frida"}
		w.know(frida)
		w.must(w.members(org1, []Subject{frida}, nil))
		for _, who := range []Subject{frida, robot("second")} { // each reads its own, of whatever kind its account is
			if who.Type == rules.ServiceAccount {
				w.account(who.ID, folder1)
			}
			id := w.mustAsk(who)
			_, err := w.client.GetRoleRequest(w.as(who), &accessv1.GetRoleRequestRequest{RequestId: id})
			w.must(err)
			_, err = w.client.GetRoleRequest(w.as(vera), &accessv1.GetRoleRequestRequest{RequestId: id})
			refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		}
		w.state(vera, stateSuspended)
		if _, err := w.ask(vera, role(editor)); status.Code(err) == codes.OK {
			t.Error("a suspended subject asks")
		}
	})
}

func TestRQ2_Terms(t *testing.T) {
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		now := time.Now().Truncate(time.Second)
		w.clock.set(now)
		lasting := func(d *durationpb.Duration) func(*accessv1.CreateRoleRequestRequest) {
			return func(r *accessv1.CreateRoleRequestRequest) {
				r.Term = &accessv1.CreateRoleRequestRequest_Duration{Duration: d}
			}
		}
		until := func(at time.Time) func(*accessv1.CreateRoleRequestRequest) {
			return func(r *accessv1.CreateRoleRequestRequest) {
				r.Term = &accessv1.CreateRoleRequestRequest_ExpiresAt{ExpiresAt: timestamppb.New(at)}
			}
		}
		for what, change := range map[string]func(*accessv1.CreateRoleRequestRequest){
			"no term": func(r *accessv1.CreateRoleRequestRequest) { r.Term = nil }, "no time": lasting(durationpb.New(0)), "less than a second": lasting(durationpb.New(time.Second - 1)),
			"a negative time": lasting(durationpb.New(-time.Hour)), "over 90 days": lasting(durationpb.New(maxRoleTerm + time.Second)),
			"no duration": lasting(&durationpb.Duration{Seconds: 1 << 62}), "now": until(now), "the past": until(now.Add(-time.Hour)),
			"in ten years": until(now.AddDate(10, 0, 0)), "past 90 days": until(now.Add(maxRoleTerm + time.Second)),
		} {
			if _, err := w.ask(vera, change); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v, want it refused as invalid", what, err)
			}
		}
		id := w.mustAsk(vera, lasting(durationpb.New(maxRoleTerm)))
		w.mustTake(adam, id, request.Approve)
		if end := w.read(id).GetExpiresAt().AsTime(); !end.Equal(now.Add(maxRoleTerm)) {
			t.Errorf("the role ends %v", end)
		}
		w.holds("approved for 90 days", true)
		w.clock.set(now.Add(maxRoleTerm - time.Second))
		w.holds("a second before its end", true)
		w.clock.set(now.Add(maxRoleTerm))
		w.holds("at its end", false)
		if s := w.read(id).GetState(); s != accessv1.RoleRequest_EXPIRED {
			t.Errorf("at its end it is %s", s)
		}

		now = now.Add(maxRoleTerm)
		id = w.mustAsk(vera)
		w.clock.set(now.Add(rolePendingFor))
		if s := w.read(id).GetState(); s != accessv1.RoleRequest_EXPIRED {
			t.Errorf("nobody has decided for 14 days, and it is %s", s)
		}
		refused(t, w.take(adam, id, request.Approve), codes.FailedPrecondition, request.ReasonState)

		now = now.Add(rolePendingFor)
		end := now.Add(time.Hour)
		id = w.mustAsk(vera, until(end))
		w.clock.set(now.Add(time.Minute))
		w.mustTake(adam, id, request.Approve)
		if got := w.read(id).GetExpiresAt().AsTime(); !got.Equal(end) {
			t.Errorf("the role ends %v, want %v", got, end)
		}
		w.clock.set(end)
		w.holds("until a time", false)
		id = w.mustAsk(vera, until(end.Add(time.Minute)))
		w.clock.set(end.Add(time.Minute))
		refused(t, w.take(adam, id, request.Approve), codes.FailedPrecondition, request.ReasonState)
	})
}

func TestRQ3_OneLiveRequest(t *testing.T) {
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		var all sync.WaitGroup
		var mu sync.Mutex
		var ids []string
		for range 8 {
			all.Go(func() {
				id, err := w.ask(vera)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					ids = append(ids, id)
				} else if apierr.ReasonOf(err) != request.ReasonExists {
					t.Errorf("another one: %v", err)
				}
			})
		}
		all.Wait()
		if len(ids) != 1 {
			t.Fatalf("%d requests at once were taken", len(ids))
		}
		w.mustAsk(vera, func(r *accessv1.CreateRoleRequestRequest) { r.RoleId = editor })            // another role
		w.mustAsk(vera, func(r *accessv1.CreateRoleRequestRequest) { r.Resource = folder2.proto() }) // another resource
		w.mustTake(adam, ids[0], request.Approve)
		_, err := w.ask(vera)
		refused(t, err, codes.AlreadyExists, request.ReasonExists)
		w.mustTake(vera, ids[0], request.Revoke)
		w.mustAsk(vera)

		n := 3
		for _, r := range testCatalog(t).Roles() {
			id := r.ID
			_, err := w.ask(vera, func(req *accessv1.CreateRoleRequestRequest) { req.RoleId, req.Resource = id, cloud1.proto() })
			if err == nil {
				n++
				continue
			}
			if apierr.ReasonOf(err) == ReasonTooManyRequests {
				if n != maxPendingRequests {
					t.Errorf("no more after %d", n)
				}
				return
			}
		}
		t.Errorf("%d requests of one are pending", n)
	})
}

func TestRQ5_ARoleIsGivenOnceAndEnds(t *testing.T) {
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		ctx, s := t.Context(), w.service.requests
		id := w.mustAsk(vera)
		w.mustTake(adam, id, request.Approve)
		w.holds("approved", true)
		if b := w.list(carl, folder1, 10); len(b) != 1 || b[0] != "viewer userAccount:vera" {
			t.Errorf("bindings %v", b)
		}
		head := w.head()
		again := func() {
			t.Helper()
			r, err := s.engine.Store.Get(ctx, w.db, id)
			w.must(err)
			c := &roleConsequence{s}
			if r.At(s.now()).State == request.Approved {
				w.must(c.Grant(ctx, r))
			} else {
				w.must(c.Withdraw(ctx, r))
			}
		}
		if again(); w.head() != head {
			t.Error("a job that is executed again changes something")
		}
		w.clock.advance(time.Hour)
		w.holds("after an hour", false)
		w.must(s.sweep(ctx))
		w.eventually("the grant is ended", func() error {
			if len(w.records("EndRequestedRole")) == 0 {
				return errors.New("not yet")
			}
			return nil
		})
		r, err := s.engine.Store.Get(ctx, w.db, id)
		w.must(err)
		if r.State != request.Expired {
			t.Errorf("the sweep leaves it %s", r.State)
		}
		refused(t, (&roleConsequence{s}).Grant(ctx, r), codes.FailedPrecondition, ReasonGrantEnded) // a late one
		again()
		w.holds("at last", false)
	})
}

func TestRQ6_EitherSideEndsEarly(t *testing.T) {
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		for _, who := range []Subject{vera, adam, carl} {
			id := w.mustAsk(vera)
			w.mustTake(adam, id, request.Approve)
			w.holds("approved", true)
			w.mustTake(who, id, request.Revoke)
			w.holds("ended by "+who.ID, false)
			if r := w.read(id); r.GetState() != accessv1.RoleRequest_REVOKED || r.GetEndedBy() != who.ID || r.GetEndReason() != "Done with it." || !r.GetSettled() {
				t.Errorf("it is %v", r)
			}
			w.mustTake(who, id, request.Revoke) // again
		}
	})
}

func TestRQ7_RequestsEndWithWhatTheyAreFor(t *testing.T) {
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		s := w.service.requests
		becomes := func(what, id, state, reason string) {
			t.Helper()
			w.must(s.sweep(t.Context()))
			r, err := s.engine.Store.Get(t.Context(), w.db, id)
			w.must(err)
			if string(r.State) != state || r.EndReason != reason {
				t.Errorf("%s: it is %s (%s), want %s (%s)", what, r.State, r.EndReason, state, reason)
			}
		}
		id := w.mustAsk(vera)
		becomes("nothing has happened", id, "PENDING", "")
		w.mustTake(adam, id, request.Approve)
		becomes("nothing has happened", id, "APPROVED", "")
		w.state(vera, stateSuspended)
		becomes("a suspended requester waits", id, "APPROVED", "")
		w.state(vera, stateActive)
		w.mustUpdate(carl, folder1, remove(viewer, vera))
		becomes("taken by hand", id, "REVOKED", "the role was taken away")

		id, pending := w.mustAsk(vera), w.mustAsk(vera, func(r *accessv1.CreateRoleRequestRequest) { r.RoleId = editor })
		w.mustTake(adam, id, request.Approve)
		_, err := w.leave(org1, vera)
		w.must(err)
		w.holds("left", false)
		becomes("left", id, "REVOKED", "the requester is not of the organization any more")
		becomes("left", pending, "CANCELED", "the requester is not of the organization any more")

		w.must(w.members(org1, []Subject{vera}, nil))
		w.holds("back again", false)
		id = w.mustAsk(vera, func(r *accessv1.CreateRoleRequestRequest) { r.Resource = folder2.proto() })
		_, err = w.resources.RemoveResource(t.Context(), &accessv1.RemoveResourceRequest{Resource: folder2.proto()})
		w.must(err)
		becomes("the resource is gone", id, "CANCELED", "the resource is gone")
		moved := w.mustAsk(vera)
		_, err = w.resources.MoveResource(t.Context(), &accessv1.MoveResourceRequest{Resource: cloud1.proto(), Parent: org2.proto()})
		w.must(err)
		becomes("moved", moved, "CANCELED", "the resource has gone to another organization")
	})
}

func TestRQ8_TheTrailHasTheThread(t *testing.T) {
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		id := w.mustAsk(vera)
		w.mustTake(vera, id, request.Post)
		w.mustTake(adam, id, request.Post)
		w.mustTake(adam, id, request.Approve)
		w.mustTake(adam, id, request.Approve) // leaves no trace
		w.mustTake(vera, id, request.Revoke)
		for event, want := range map[string][]string{
			"CreateRoleRequest": {"vera To read the logs."}, "CreateRoleRequestMessage": {"vera Hello.", "adam Hello."},
			"ApproveRoleRequest": {"adam Fine."}, "EndRoleRequest": {"vera Done with it."}, "GiveRequestedRole": {"adam <nil>"}, "EndRequestedRole": {"vera <nil>"},
		} {
			var got []string
			for _, r := range w.records(event) {
				details, _ := r.Details.(map[string]any)
				got = append(got, fmt.Sprintf("%s %v", r.Authentication.SubjectID, details["text"]))
				if last := r.ResourceMetadata.Path[len(r.ResourceMetadata.Path)-1]; last.ID != folder1.ID || r.ResourceMetadata.Path[0].ID != org1.ID {
					t.Errorf("%s stands on %v", event, r.ResourceMetadata.Path)
				}
			}
			if strings.Join(got, "|") != strings.Join(want, "|") {
				t.Errorf("%s: %q, want %q", event, got, want)
			}
		}
	})
}

func TestRQ10_ARefusalSaysWhichRequestToFile(t *testing.T) {
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		e, err := w.explain(vera, &accessv1.ExplainRequest{Resource: folder1.proto(), Permission: getFolder})
		w.must(err)
		req := e.GetAdvice().GetRequest()
		if req.GetRoleId() != e.GetAdvice().GetRoleIds()[0] || refOf(req.GetResource()) != refOf(e.GetAdvice().GetResource()) {
			t.Fatalf("advised is %v", e.GetAdvice())
		}
		req.Reason, req.Term = "As advised.", &accessv1.CreateRoleRequestRequest_Duration{Duration: durationpb.New(time.Minute)}
		op, err := w.client.CreateRoleRequest(w.as(vera), req)
		w.must(err)
		w.mustTake(adam, w.requestOf(op).GetId(), request.Approve)
		w.holds("as advised", true)
		e, err = w.explain(nick, &accessv1.ExplainRequest{Resource: folder1.proto(), Permission: getFolder})
		w.must(err)
		if e.GetAdvice().GetRequest() != nil {
			t.Errorf("a stranger is advised to ask: %v", e.GetAdvice())
		}
	})
}

func TestListsOfRoleRequests(t *testing.T) {
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		on := func(r Ref, role string) func(*accessv1.CreateRoleRequestRequest) {
			return func(req *accessv1.CreateRoleRequestRequest) { req.Resource, req.RoleId = r.proto(), role }
		}
		first, second := w.mustAsk(vera, on(folder1, viewer)), w.mustAsk(vera, on(folder2, viewer))
		third, fourth := w.mustAsk(vera, on(cloud1, viewer)), w.mustAsk(vera, on(org1, "resource-manager.viewer"))
		w.mustTake(adam, first, request.Reject)
		list := func(who Subject, r Ref, below bool, filter string) (ids []string) {
			t.Helper()
			req := &accessv1.ListRoleRequestsRequest{Resource: r.proto(), Below: below, Filter: filter, PageSize: 1, OrderBy: "createdAt"}
			for {
				resp, err := w.client.ListRoleRequests(w.as(who), req)
				w.must(err)
				for _, one := range resp.GetRequests() {
					ids = append(ids, one.GetId())
				}
				if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
					return ids
				}
			}
		}
		same := func(what string, got []string, want ...string) {
			t.Helper()
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		same("on the folder", list(adam, folder1, false, ""), first)
		same("on the cloud", list(adam, cloud1, false, ""), third)
		same("below the cloud", list(adam, cloud1, true, ""), first, second, third)
		same("below the organization", list(olga, org1, true, ""), first, second, third, fourth)
		same("pending", list(olga, org1, true, `state = "PENDING"`), second, third, fourth)
		own, err := w.client.ListOwnRoleRequests(w.as(vera), &accessv1.ListOwnRoleRequestsRequest{})
		w.must(err)
		if len(own.GetRequests()) != 4 || own.GetRequests()[0].GetId() != fourth {
			t.Errorf("own: %v", own.GetRequests())
		}
		_, err = w.client.ListRoleRequests(w.as(vera), &accessv1.ListRoleRequestsRequest{Resource: folder1.proto()})
		refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		for _, bad := range []*accessv1.ListRoleRequestsRequest{{Filter: `state = "NONE"`}, {OrderBy: "reason"}, {PageToken: "x"}} {
			bad.Resource = folder1.proto()
			if _, err := w.client.ListRoleRequests(w.as(adam), bad); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%v: %v", bad, err)
			}
		}
	})
}
