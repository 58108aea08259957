package resourcemanager

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// keyed is the context of a user's call with an idempotency key.
func (w *world) keyed(user, key string) context.Context {
	return metadata.AppendToOutgoingContext(w.User(user), idempotency.Header, key)
}

// sameAnswer checks that two answers are one.
func sameAnswer(t *testing.T, what string, first, second *operationpb.Operation) {
	t.Helper()
	if diff := cmp.Diff(first, second, protocmp.Transform()); diff != "" {
		t.Errorf("%s: the replay was answered otherwise (-first +replay):\n%s", what, diff)
	}
}

// write is a call that has an effect.
type write struct {
	name string
	key  string
	call func(ctx context.Context) (*operationpb.Operation, error)
}

// everyWrite are all writes of the unit on what ann has, in an order that works. They
// share a key where their methods differ.
func everyWrite(w *world, c *rmv1.Cloud, f *rmv1.Folder) []write {
	future := timestamppb.New(time.Now().Add(time.Hour))
	return []write{
		{"create organization", "k", func(ctx context.Context) (*operationpb.Operation, error) {
			return w.life.CreateOrganization(ctx, &brmv1.CreateOrganizationRequest{Name: "another"})
		}},
		{"create cloud", "k", func(ctx context.Context) (*operationpb.Operation, error) {
			return w.clouds.Create(ctx, &rmv1.CreateCloudRequest{OrganizationId: c.GetOrganizationId(), Name: "cloud"})
		}},
		{"create folder", "k", func(ctx context.Context) (*operationpb.Operation, error) {
			return w.folders.Create(ctx, &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "folder"})
		}},
		{"update organization", "k", func(ctx context.Context) (*operationpb.Operation, error) {
			return w.orgs.Update(ctx, &orgv1.UpdateOrganizationRequest{OrganizationId: c.GetOrganizationId(), Title: "Title"})
		}},
		{"update cloud", "k", func(ctx context.Context) (*operationpb.Operation, error) {
			return w.clouds.Update(ctx, &rmv1.UpdateCloudRequest{CloudId: c.GetId(), Description: "changed"})
		}},
		{"update folder", "k", func(ctx context.Context) (*operationpb.Operation, error) {
			return w.folders.Update(ctx, &rmv1.UpdateFolderRequest{FolderId: f.GetId(), Description: "changed"})
		}},
		{"delete folder later", "k", func(ctx context.Context) (*operationpb.Operation, error) {
			return w.folders.Delete(ctx, &rmv1.DeleteFolderRequest{FolderId: f.GetId(), DeleteAfter: future})
		}},
		{"cancel deletion of folder", "k", func(ctx context.Context) (*operationpb.Operation, error) {
			return w.deletions.CancelFolderDeletion(ctx, &brmv1.CancelFolderDeletionRequest{FolderId: f.GetId()})
		}},
		{"delete cloud later", "k", func(ctx context.Context) (*operationpb.Operation, error) {
			return w.clouds.Delete(ctx, &rmv1.DeleteCloudRequest{CloudId: c.GetId(), DeleteAfter: future})
		}},
		{"cancel deletion of cloud", "k", func(ctx context.Context) (*operationpb.Operation, error) {
			return w.deletions.CancelCloudDeletion(ctx, &brmv1.CancelCloudDeletionRequest{CloudId: c.GetId()})
		}},
		{"delete folder", "l", func(ctx context.Context) (*operationpb.Operation, error) {
			return w.folders.Delete(ctx, &rmv1.DeleteFolderRequest{FolderId: f.GetId(), DeleteAfter: timestamppb.New(time.Unix(0, 0))})
		}},
	}
}

func TestIdempotencyKeyOfEveryWrite(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		for _, wr := range everyWrite(w, c, w.folder("ann", c.GetId(), "web")) {
			first, err := wr.call(w.keyed("ann", wr.key))
			if err != nil {
				t.Fatalf("%s: %v", wr.name, err)
			}
			events := w.events()
			again := must[*operationpb.Operation](t)(wr.call(w.keyed("ann", wr.key)))
			sameAnswer(t, wr.name, first, again)
			if diff := cmp.Diff(events, w.events()); diff != "" {
				t.Errorf("%s: the replay had an effect (-before +after):\n%s", wr.name, diff)
			}
			op, err := wr.call(w.keyed("ann", "other"))
			if err == nil && op.GetId() == first.GetId() {
				t.Errorf("%s: another key was answered by the same operation", wr.name)
			}
			if slices.Contains([]string{"delete folder later", "delete cloud later"}, wr.name) && err != nil {
				t.Errorf("%s with another key: %v", wr.name, err)
			}
		}
	})
}

// A replay of the first cloud is not refused for being the second (CR-2, CR-3).
func TestIdempotencyKeyOfTheFirstCloud(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		req := &rmv1.CreateCloudRequest{Name: "first"}
		first := must[*operationpb.Operation](t)(w.clouds.Create(w.keyed("ann", "k"), req))
		sameAnswer(t, "first cloud", first, must[*operationpb.Operation](t)(w.clouds.Create(w.keyed("ann", "k"), req)))
		_, err := w.clouds.Create(w.keyed("ann", "other"), req)
		wantRefusal(t, "another key (CR-3)", err, codes.InvalidArgument, "organization_id")
		if got := must[*rmv1.ListCloudsResponse](t)(w.clouds.List(w.User("ann"), &rmv1.ListCloudsRequest{})); len(got.GetClouds()) != 1 {
			t.Errorf("clouds = %v, want one", got)
		}

		w.Stop()
		w = w.restart()
		sameAnswer(t, "after a restart", first, must[*operationpb.Operation](t)(w.clouds.Create(w.keyed("ann", "k"), req)))
	})
}

func TestIdempotencyKeyIsReused(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		w.access.grant("bob", "editor", cloud.typ, c.GetId())
		create := func(ctx context.Context, name string) (*operationpb.Operation, error) {
			return w.folders.Create(ctx, &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: name})
		}
		first := must[*operationpb.Operation](t)(create(w.keyed("ann", "k"), "one"))
		_, err := create(w.keyed("ann", "k"), "two")
		wantRefusal(t, "another request", err, codes.InvalidArgument, idempotency.Header)
		if got := apierr.ReasonOf(err); got != idempotency.ReasonReused {
			t.Errorf("another request: reason %s, want %s", got, idempotency.ReasonReused)
		}
		if op := must[*operationpb.Operation](t)(create(w.keyed("bob", "k"), "two")); op.GetId() == first.GetId() || op.GetCreatedBy() != "bob" {
			t.Errorf("another caller's same key was answered %v", op)
		}
		_, err = create(w.keyed("bob", "second"), "one") // the same refusal as without a key
		wantRefusal(t, "another caller's same request", err, codes.AlreadyExists, ReasonFolderNameTaken)
		_, err = create(w.keyed("eve", "k"), "one")
		wantRefusal(t, "a caller who may not", err, codes.PermissionDenied, apierr.ReasonPermissionDenied)

		for _, bad := range []string{"", "a b", strings.Repeat("a", idempotency.MaxLength+1)} {
			_, err := create(w.keyed("ann", bad), "three")
			wantRefusal(t, fmt.Sprintf("key %q", bad), err, codes.InvalidArgument, idempotency.Header)
			if _, err := w.folders.List(w.keyed("ann", bad), &rmv1.ListFoldersRequest{CloudId: c.GetId()}); err != nil {
				t.Errorf("a read with key %q: %v, want it ignored", bad, err)
			}
		}
		_, err = create(metadata.AppendToOutgoingContext(w.keyed("ann", "a"), idempotency.Header, "b"), "three")
		wantRefusal(t, "two keys", err, codes.InvalidArgument, idempotency.Header)
	})
}

func TestIdempotencyKeyOfARefusal(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		taken := w.folder("ann", c.GetId(), "web")
		create := func() (*operationpb.Operation, error) {
			return w.folders.Create(w.keyed("ann", "k"), &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "web"})
		}
		_, err := create()
		wantRefusal(t, "taken", err, codes.AlreadyExists, ReasonFolderNameTaken)
		w.done(must[*operationpb.Operation](t)(w.folders.Update(w.User("ann"), &rmv1.UpdateFolderRequest{FolderId: taken.GetId(), Name: "old"})), nil, nil)
		sameAnswer(t, "free by now", must[*operationpb.Operation](t)(create()), must[*operationpb.Operation](t)(create()))
	})
}

func TestIdempotencyKeyIsKeptForADay(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		create := func() *operationpb.Operation {
			return must[*operationpb.Operation](t)(w.life.CreateOrganization(w.keyed("ann", "k"), &brmv1.CreateOrganizationRequest{Name: "org"}))
		}
		first := create()
		w.ahead.Store(int64(idempotency.Kept - time.Minute))
		sameAnswer(t, "within a day", first, create())
		w.ahead.Add(int64(2 * time.Minute))
		second := create()
		if second.GetId() == first.GetId() {
			t.Error("the key still stood for the first call after a day")
		}
		sameAnswer(t, "kept anew", second, create())
	})
}

// An operation that is under way is replayed as it stands.
func TestIdempotencyKeyOfWorkUnderWay(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		w.access.fail(apierr.Unavailable(apierr.ReasonUnavailable, "away"))
		create := func() *operationpb.Operation {
			return must[*operationpb.Operation](t)(w.folders.Create(w.keyed("ann", "k"), &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "web"}))
		}
		first := create()
		if first.GetDone() {
			t.Fatalf("operation %v, want it under way", first)
		}
		sameAnswer(t, "under way", first, create())
		w.access.fail(nil)
		done := w.poll(w.User("ann"), first.GetId())
		sameAnswer(t, "done", done, create())
	})
}

// A deletion takes away what a replay would be authorized on. Its maker is answered
// all the same, and nobody else.
func TestIdempotencyKeyOfADeletion(t *testing.T) {
	together(t, []string{"ann", "eve", "max"}, func(t *testing.T, w *world) {
		c := w.first("ann")
		web := w.folder("ann", c.GetId(), "web")
		must[*operationpb.Operation](t)(w.clouds.UpdateAccessBindings(w.User("ann"), &accesspb.UpdateAccessBindingsRequest{
			ResourceId: c.GetId(),
			AccessBindingDeltas: []*accesspb.AccessBindingDelta{{Action: accesspb.AccessBindingAction_ADD, AccessBinding: &accesspb.AccessBinding{
				RoleId: "editor", Subject: &accesspb.Subject{Type: "userAccount", Id: "max"},
			}}},
		}))
		req := &rmv1.DeleteFolderRequest{FolderId: web.GetId(), DeleteAfter: timestamppb.New(time.Unix(0, 0))}
		first := must[*operationpb.Operation](t)(w.folders.Delete(w.keyed("max", "k"), req))
		sameAnswer(t, "deletion", first, must[*operationpb.Operation](t)(w.folders.Delete(w.keyed("max", "k"), req)))
		other := &rmv1.DeleteFolderRequest{FolderId: web.GetId()}
		for what, call := range map[string]func() (*operationpb.Operation, error){
			"without a key":  func() (*operationpb.Operation, error) { return w.folders.Delete(w.User("max"), req) },
			"another key":    func() (*operationpb.Operation, error) { return w.folders.Delete(w.keyed("max", "other"), req) },
			"a bad key":      func() (*operationpb.Operation, error) { return w.folders.Delete(w.keyed("max", ""), req) },
			"other request":  func() (*operationpb.Operation, error) { return w.folders.Delete(w.keyed("max", "k"), other) },
			"another caller": func() (*operationpb.Operation, error) { return w.folders.Delete(w.keyed("eve", "k"), req) },
		} {
			_, err := call()
			wantRefusal(t, what, err, codes.NotFound, apierr.ReasonResourceNotFound)
		}
		subjects := accessv1.NewSubjectServiceClient(w.Unit("identity", "accessbindings"))
		must[*accessv1.SetSubjectResponse](t)(subjects.SetSubject(t.Context(), &accessv1.SetSubjectRequest{
			Subject: &accessv1.Subject{Type: "userAccount", Id: "max"}, State: accessv1.SetSubjectRequest_SUSPENDED,
		}))
		_, err := w.folders.Delete(w.keyed("max", "k"), req)
		wantRefusal(t, "suspended", err, codes.Unauthenticated, apierr.ReasonSubjectInactive)
	})
}

// Changes of access bindings are kept by accessbindings, which gets a key of its own
// for each method.
func TestIdempotencyKeyIsPassedOn(t *testing.T) {
	together(t, []string{"ann", "eve"}, func(t *testing.T, w *world) {
		c := w.first("ann")
		web := w.folder("ann", c.GetId(), "web")
		update := func(client accessClient, resourceID string, action accesspb.AccessBindingAction) (*operationpb.Operation, error) {
			return client.UpdateAccessBindings(w.keyed("ann", "k"), &accesspb.UpdateAccessBindingsRequest{
				ResourceId: resourceID, AccessBindingDeltas: []*accesspb.AccessBindingDelta{{
					Action: action, AccessBinding: &accesspb.AccessBinding{RoleId: "viewer", Subject: &accesspb.Subject{Type: "userAccount", Id: "eve"}},
				}},
			})
		}
		seen := map[string]bool{}
		for _, on := range []struct {
			client     accessClient
			resourceID string
		}{{w.orgs, c.GetOrganizationId()}, {w.clouds, c.GetId()}, {w.folders, web.GetId()}} {
			first := must[*operationpb.Operation](t)(update(on.client, on.resourceID, accesspb.AccessBindingAction_ADD))
			sameAnswer(t, on.resourceID, first, must[*operationpb.Operation](t)(update(on.client, on.resourceID, accesspb.AccessBindingAction_ADD)))
			_, err := update(on.client, on.resourceID, accesspb.AccessBindingAction_REMOVE)
			wantRefusal(t, "another request", err, codes.InvalidArgument, idempotency.Header)
			seen[first.GetId()] = true
		}
		if len(seen) != 3 {
			t.Errorf("operations %v, want one for each resource", seen)
		}
	})
}

func TestIdempotencyKeyConcurrently(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		const keys, calls = 12, 10 // as many calls at once as are let in
		c := w.first("ann")
		answers := make([][]*operationpb.Operation, keys)
		for i := range answers {
			answers[i] = make([]*operationpb.Operation, calls)
		}
		var all sync.WaitGroup
		for i := range keys * calls {
			all.Go(func() {
				key := fmt.Sprint("key-", i%keys)
				op, err := w.folders.Create(w.keyed("ann", key), &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: key})
				if err != nil {
					t.Error(err)
				}
				answers[i%keys][i/keys] = op
			})
		}
		all.Wait()
		for _, of := range answers {
			for _, op := range of[1:] {
				sameAnswer(t, "concurrent", of[0], op)
			}
		}
		if got := must[*rmv1.ListFoldersResponse](t)(w.folders.List(w.User("ann"), &rmv1.ListFoldersRequest{CloudId: c.GetId(), PageSize: 1000})); len(got.GetFolders()) != keys {
			t.Errorf("%d folders for %d keys", len(got.GetFolders()), keys)
		}
	})
}
