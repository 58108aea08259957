package accessbindings

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

func atRevision(n int64) *accessv1.Moment {
	return &accessv1.Moment{Moment: &accessv1.Moment_Revision{Revision: n}}
}

func atTime(at time.Time) *accessv1.Moment {
	return &accessv1.Moment{Moment: &accessv1.Moment_Time{Time: timestamppb.New(at)}}
}

func tokenRequest(token, permission string, on Ref) *accessservicev2.AuthorizeRequest {
	return &accessservicev2.AuthorizeRequest{
		Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: token}, Permission: permission, ResourcePath: wire(on),
	}
}

func (w *world) head() int64 {
	w.t.Helper()
	h, err := w.service.committer.store.head(w.t.Context(), w.db, false)
	w.must(err)
	return h.Revision
}

// TestEX9_WhoCouldWhen asks at revisions and at times in the past who could, by what,
// and who had granted it: through groups that changed, states, ends, moves and removals.
func TestEX9_WhoCouldWhen(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		staff := w.group(org1, "staff")
		w.must(w.members(org1, []Subject{vera, nick}, nil))
		type then struct {
			at       int64
			time     time.Time
			subjects []string
		}
		var past []then
		note := func(extra ...string) {
			t.Helper()
			time.Sleep(2 * time.Millisecond)
			want := append([]string{"userAccount:adam", "userAccount:carl", "userAccount:olga"}, extra...)
			slices.Sort(want)
			got, revision := w.whoCan(olga, &accessv1.ListSubjectsRequest{Resource: folder1.proto(), Permission: getFolder})
			sameNames(t, "now", want, got)
			past = append(past, then{revision, time.Now(), want})
			time.Sleep(2 * time.Millisecond)
		}
		note()
		w.mustUpdate(adam, folder1, add(viewer, vera))
		note("userAccount:vera")
		w.mustUpdate(carl, cloud1, add(viewer, group(staff.ID)))
		note("userAccount:vera")
		w.must(w.change(staff, []Subject{nick}, nil))
		note("userAccount:vera", "userAccount:nick")
		w.state(vera, stateSuspended)
		note("userAccount:nick")
		w.state(vera, stateActive)
		w.mustUpdate(adam, folder1, remove(viewer, vera))
		note("userAccount:nick")
		_, err := w.groups.Delete(w.User(olga.ID), &orgv1.DeleteGroupRequest{GroupId: staff.ID})
		w.must(err)
		note()
		for _, p := range past {
			got, revision := w.whoCan(olga, &accessv1.ListSubjectsRequest{Resource: folder1.proto(), Permission: getFolder, At: atRevision(p.at), PageSize: 2})
			sameNames(t, fmt.Sprintf("at revision %d", p.at), p.subjects, got)
			if revision != p.at {
				t.Errorf("revision %d, asked at %d", revision, p.at)
			}
			got, _ = w.whoCan(olga, &accessv1.ListSubjectsRequest{Resource: folder1.proto(), Permission: getFolder, At: atTime(p.time)})
			sameNames(t, fmt.Sprintf("at %v", p.time), p.subjects, got)
		}
		req := why(getFolder, folder1, nick)
		req.At = atRevision(past[3].at)
		got, err := w.explain(olga, req)
		w.must(err)
		if !got.GetAllowed() || got.GetAllowedNow() || got.GetRevision() != past[3].at || len(got.GetGrants()) != 1 {
			t.Fatalf("in the past: %v", got)
		}
		if g := got.GetGrants()[0]; nameOf(g.GetSubject()) != "group:"+staff.ID || nameOf(g.GetGrantedBy()) != "userAccount:carl" || g.GetGrantedRevision() != past[2].at {
			t.Errorf("granted by %v", g)
		}
		req.At = atRevision(0)
		if got, err = w.explain(nick, &accessv1.ExplainRequest{Permission: getFolder, Resource: folder1.proto(), At: atRevision(0)}); err != nil || got.GetReason() != accessv1.ExplainResponse_SUBJECT_UNKNOWN {
			t.Errorf("before anything was: %v, %v", got, err)
		}
		for _, at := range []*accessv1.Moment{atRevision(w.head() + 1), atTime(time.Now().Add(time.Hour))} {
			req.At = at
			_, err = w.explain(olga, req)
			refused(t, err, codes.OutOfRange, ReasonNotYet)
		}
		_, err = w.explain(olga, &accessv1.ExplainRequest{Permission: getFolder, Resource: folder1.proto(), At: atRevision(-1)})
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
	})
}

// TestEX9_HistoryEndsWhereItIsKept: what is older than it is kept is an error, what is
// younger stays exactly what it was, who granted what still holds is known for ever.
func TestEX9_HistoryEndsWhereItIsKept(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		h := w.service.history
		h.keeps = time.Hour
		w.mustUpdate(adam, folder1, add(viewer, vera))
		old := w.head()
		w.clock.advance(30 * time.Minute)
		w.mustUpdate(adam, folder1, remove(viewer, vera), add(viewer, nick))
		young := w.head()
		w.must(h.prune(t.Context()))
		who := func(at *accessv1.Moment) ([]string, error) {
			resp, err := w.questions.ListSubjects(w.User(olga.ID), &accessv1.ListSubjectsRequest{Resource: folder1.proto(), Permission: getFolder, At: at})
			var names []string
			for _, s := range resp.GetSubjects() {
				names = append(names, strings.TrimPrefix(nameOf(s.GetSubject()), "userAccount:"))
			}
			return names, err
		}
		got, err := who(atRevision(old))
		w.must(err)
		sameNames(t, "kept", []string{"adam", "carl", "olga", "vera"}, got)
		w.clock.advance(45 * time.Minute) // the first change is 75 minutes old, the second 45
		w.mustUpdate(adam, folder2, add(viewer, vera))
		w.must(h.prune(t.Context()))
		w.must(h.prune(t.Context()))
		got, err = who(atRevision(old)) // in force when what is kept begins
		w.must(err)
		sameNames(t, "the oldest that is kept", []string{"adam", "carl", "olga", "vera"}, got)
		for _, at := range []*accessv1.Moment{atRevision(old - 1), atRevision(0), atTime(w.clock.now().Add(-2 * time.Hour))} {
			_, err = who(at)
			refused(t, err, codes.OutOfRange, ReasonHistoryForgotten)
		}
		w.clock.advance(45 * time.Minute)
		w.must(h.prune(t.Context()))
		_, err = who(atRevision(old))
		refused(t, err, codes.OutOfRange, ReasonHistoryForgotten)
		got, err = who(atRevision(young))
		w.must(err)
		sameNames(t, "kept still", []string{"adam", "carl", "nick", "olga"}, got)
		w.clock.advance(5 * time.Hour)
		w.must(h.prune(t.Context()))
		got, err = who(nil)
		w.must(err)
		sameNames(t, "now", []string{"adam", "carl", "nick", "olga"}, got)
		e, err := w.explain(olga, why(getFolder, folder1, nick))
		w.must(err)
		if g := e.GetGrants()[0]; nameOf(g.GetGrantedBy()) != "userAccount:adam" || g.GetGrantedRevision() != young {
			t.Errorf("granted by %v", g)
		}
		var n, log int
		w.must(w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM access_history WHERE ended > 0`).Scan(&n))
		w.must(w.db.QueryRowContext(t.Context(), `SELECT COUNT(DISTINCT revision) FROM access_changes`).Scan(&log))
		if n != 0 || log != 1 {
			t.Errorf("%d ended spans and %d revisions of the log are left", n, log)
		}
		w.mustUpdate(adam, folder1, add(viewer, vera)) // and the line goes on
		again := serve(t, w.db)
		if !again.allowed(vera, getFolder, folder1) {
			t.Error("a restart after forgetting lost a binding")
		}
	})
}

func TestConfig_KeepsAnHourAtLeast(t *testing.T) {
	for d, good := range map[time.Duration]bool{0: true, time.Hour: true, 59 * time.Minute: false, -time.Hour: false} {
		if err := (Config{HistoryRetention: d}).Validate(); (err == nil) != good {
			t.Errorf("%s: %v", d, err)
		}
	}
}

// TestEX8_DecisionIDs: a refusal carries what Explain needs to tell why, as it was,
// to its subject and to holders of iam.access.explain.
func TestEX8_DecisionIDs(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		token, err := w.Issuer.Issue(nick.Type, nick.ID, time.Hour)
		w.must(err)
		_, err = w.check.Authorize(t.Context(), tokenRequest(token.Text, getFolder, folder1))
		refused(t, err, codes.PermissionDenied, "PERMISSION_DENIED")
		m := infoOf(err)
		id := m["decisionId"]
		if m["permission"] != getFolder || m["resourceType"] != folder1.Type || m["resourceId"] != folder1.ID || id == "" {
			t.Fatalf("the refusal carries %v", m)
		}
		at := w.head()
		w.mustUpdate(adam, folder1, add(viewer, nick))
		got, err := w.explain(nick, &accessv1.ExplainRequest{DecisionId: id})
		w.must(err)
		if got.GetAllowed() || !got.GetAllowedNow() || got.GetReason() != accessv1.ExplainResponse_NO_GRANT || got.GetRevision() != at ||
			nameOf(got.GetSubject()) != "userAccount:nick" || got.GetPermission() != getFolder || got.GetResource().GetId() != folder1.ID {
			t.Errorf("explained as %v, want what was at %d", got, at)
		}
		if _, err = w.explain(adam, &accessv1.ExplainRequest{DecisionId: id}); err != nil {
			t.Errorf("a holder of explain: %v", err)
		}
		_, err = w.explain(vera, &accessv1.ExplainRequest{DecisionId: id})
		refused(t, err, codes.PermissionDenied, "PERMISSION_DENIED")
		if got := infoOf(err)["permission"]; got != explainAccess {
			t.Errorf("the refusal names %q", got)
		}
		for _, bad := range []string{id[1:], id + "A", strings.ToUpper(id), "x", id[:len(id)-1] + "\n", strings.Repeat("A", 1000)} {
			_, err = w.explain(nick, &accessv1.ExplainRequest{DecisionId: bad})
			refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
		}
		_, err = w.explain(nick, &accessv1.ExplainRequest{DecisionId: id, Permission: getFolder})
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
		now := w.service.committer.graph.strand.Load()
		w.service.committer.graph.strand.Store(&strand{now.Graph, line{now.Epoch + 1, 1}})
		_, err = w.explain(nick, &accessv1.ExplainRequest{DecisionId: id})
		refused(t, err, codes.FailedPrecondition, ReasonDecisionLost)
		w.service.committer.graph.strand.Store(now)

		// One of many, when the details are asked for by name.
		bulk := &accessservicev2.BulkAuthorizeRequest{
			Identity: &accessservicev2.BulkAuthorizeRequest_IamToken{IamToken: token.Text},
			Authorizations: &accessservicev2.BulkAuthorizeRequest_ActionMatrix_{ActionMatrix: &accessservicev2.BulkAuthorizeRequest_ActionMatrix{
				Permissions: []string{getFolder, del, deleteCloud}, ResourcePaths: []*accessservicev2.ResourcePath{{Path: wire(folder1)}},
			}},
		}
		for _, paths := range [][]string{nil, {"permission_denied_error"}, {"permission", "permission_denied_error.details"}} {
			if paths != nil {
				bulk.ResultMask = &fieldmaskpb.FieldMask{Paths: paths}
			}
			resp, err := w.check.BulkAuthorize(t.Context(), bulk)
			w.must(err)
			for i, item := range resp.GetResults().GetItems() {
				if i == 0 {
					continue // granted by now
				}
				info := new(errdetails.ErrorInfo)
				w.must(item.GetPermissionDeniedError().GetDetails()[0].UnmarshalTo(info))
				one := info.GetMetadata()["decisionId"]
				if (one != "") != (len(paths) == 2) {
					t.Errorf("with the mask %v a denial of many has the decision id %q", paths, one)
				}
				if one == "" {
					continue
				}
				if got, err := w.explain(nick, &accessv1.ExplainRequest{DecisionId: one}); err != nil || got.GetAllowed() || got.GetPermission() != item.GetPermission() {
					t.Errorf("one of many: %v, %v", got, err)
				}
			}
		}

		// What the rules refuse for want of a permission: who may not appoint owners.
		_, err = w.update(adam, cloud1, add(cloudOwner, vera))
		refused(t, err, codes.PermissionDenied, "OWNER_NOT_ASSIGNABLE")
		if m := infoOf(err); m["permission"] != "resource-manager.clouds.assignOwner" || m["resourceId"] != cloud1.ID {
			t.Errorf("the refusal carries %v", m)
		}
		if got, err := w.explain(adam, &accessv1.ExplainRequest{DecisionId: infoOf(err)["decisionId"]}); err != nil || got.GetAllowed() ||
			!slices.Contains(got.GetAdvice().GetRoleIds(), cloudOwner) {
			t.Errorf("explained as %v, %v", got, err)
		}

		// A method of the unit's own, and one that a policy denies.
		_, err = w.questions.ListSubjects(w.User(vera.ID), &accessv1.ListSubjectsRequest{Resource: folder1.proto(), Permission: getFolder})
		if got, err := w.explain(vera, &accessv1.ExplainRequest{DecisionId: infoOf(err)["decisionId"]}); err != nil || got.GetPermission() != whoCan {
			t.Errorf("of a method: %v, %v", got, err)
		}
		_, err = w.policies().BindAccessPolicy(w.User(carl.ID), &accessv1.BindAccessPolicyRequest{Resource: cloud1.proto(),
			AccessPolicyBinding: &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: keepClouds}})
		w.must(err)
		_, err = w.authorize(carl, deleteCloud, cloud1)
		refused(t, err, codes.PermissionDenied, "DENIED_BY_POLICY")
		got, err = w.explain(carl, &accessv1.ExplainRequest{DecisionId: infoOf(err)["decisionId"]})
		if err != nil || got.GetReason() != accessv1.ExplainResponse_DENIED_BY_POLICY || len(got.GetDenials()) != 1 {
			t.Errorf("of a policy: %v, %v", got, err)
		}
	})
}
