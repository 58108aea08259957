package identity

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// yard is a town with a folder of an owner, in which service accounts are made.
type yard struct {
	*town
	owner                       citizen
	organization, cloud, folder string
	accounts                    iamv1.ServiceAccountServiceClient
	folders                     rmv1.FolderServiceClient
}

func inYard(t *testing.T, test func(t *testing.T, w *yard)) {
	t.Helper()
	inTown(t, func(t *testing.T, w *town) {
		y := &yard{town: w, owner: w.citizen("owner"), accounts: iamv1.NewServiceAccountServiceClient(w.Conn), folders: rmv1.NewFolderServiceClient(w.Conn)}
		y.organization = w.organization(y.owner, "acme")
		y.cloud = w.cloud(y.owner, y.organization)
		y.folder = y.newFolder("folder")
		test(t, y)
	})
}

func (w *yard) newFolder(name string) string {
	w.t.Helper()
	op, err := w.folders.Create(w.owner.ctx, &rmv1.CreateFolderRequest{CloudId: w.cloud, Name: name})
	f := new(rmv1.Folder)
	w.done(op, err, f)
	return f.GetId()
}

// account makes a service account in the folder.
func (w *yard) account(name string) *iamv1.ServiceAccount {
	w.t.Helper()
	return w.create(&iamv1.CreateServiceAccountRequest{FolderId: w.folder, Name: name})
}

func (w *yard) create(req *iamv1.CreateServiceAccountRequest) *iamv1.ServiceAccount {
	w.t.Helper()
	op, err := w.accounts.Create(w.owner.ctx, req)
	a := new(iamv1.ServiceAccount)
	w.done(op, err, a)
	return a
}

func (w *yard) get(accountID string) *iamv1.ServiceAccount {
	w.t.Helper()
	a, err := w.accounts.Get(w.owner.ctx, &iamv1.GetServiceAccountRequest{ServiceAccountId: accountID})
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// give gives a service account a role.
func (w *yard) give(typ, resourceID, role, accountID string) {
	w.t.Helper()
	_, err := w.bindings.UpdateAccessBindings(w.owner.ctx, &accessv1.UpdateAccessBindingsRequest{
		Resource: &accessv1.Resource{Type: typ, Id: resourceID},
		AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
			Action:        accesspb.AccessBindingAction_ADD,
			AccessBinding: &accessv1.AccessBinding{RoleId: role, Subject: &accessv1.Subject{Type: "serviceAccount", Id: accountID}},
		}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// actAs returns the context of somebody who acts as a service account.
func (w *yard) actAs(by citizen, accountID string) context.Context {
	w.t.Helper()
	resp, err := w.tokens.CreateForServiceAccount(by.ctx, &iamv1.CreateIamTokenForServiceAccountRequest{ServiceAccountId: accountID})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.Context(resp.GetIamToken())
}

// seesFolder is how a read of the folder ends.
func (w *yard) seesFolder(ctx context.Context) codes.Code {
	_, err := w.folders.Get(ctx, &rmv1.GetFolderRequest{FolderId: w.folder})
	return status.Code(err)
}

// records are the audit records of the events of one service account, oldest first.
func (w *yard) records(accountID string) []audit.Record {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), `SELECT record FROM identity_audit ORDER BY event_time, id`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var all []audit.Record
	for rows.Next() {
		var text string
		var r audit.Record
		if err := errors.Join(rows.Scan(&text), json.Unmarshal([]byte(text), &r)); err != nil {
			w.t.Fatal(err)
		}
		path := r.ResourceMetadata.Path
		if len(path) == 0 || path[len(path)-1].ID != accountID {
			continue
		}
		if len(path) != 4 || path[0].ID != w.organization || path[1].ID != w.cloud || path[3].Name == "" {
			w.t.Errorf("%s of %s has the path %v", r.EventType, accountID, path)
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return all
}

func TestSK1_LifeOfAServiceAccount(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		a := w.create(&iamv1.CreateServiceAccountRequest{
			FolderId: w.folder, Name: "robot", Description: "does it", Labels: map[string]string{"k": "v"},
		})
		if a.GetStatus() != iamv1.ServiceAccount_ACTIVE || !strings.HasPrefix(a.GetId(), "sac") || a.GetFolderId() != w.folder ||
			a.GetName() != "robot" || a.GetDescription() != "does it" || a.GetLabels()["k"] != "v" || a.GetExpiresAt() != nil {
			t.Errorf("made %v", a)
		}
		w.give(typeFolder, w.folder, "viewer", a.GetId())
		ctx := w.actAs(w.owner, a.GetId())
		if got := w.seesFolder(ctx); got != codes.OK {
			t.Fatalf("an active account: %v", got)
		}
		for range 2 { // also when it is suspended already
			op, err := w.accounts.Suspend(w.owner.ctx, &iamv1.SuspendServiceAccountRequest{ServiceAccountId: a.GetId(), Reason: "odd"})
			w.done(op, err, new(iamv1.SuspendServiceAccountResponse))
			if got := w.seesFolder(ctx); got != codes.Unauthenticated {
				t.Errorf("a suspended account: %v", got)
			}
		}
		if got := w.get(a.GetId()).GetStatus(); got != iamv1.ServiceAccount_SUSPENDED {
			t.Errorf("its status is %v", got)
		}
		_, err := w.tokens.CreateForServiceAccount(w.owner.ctx, &iamv1.CreateIamTokenForServiceAccountRequest{ServiceAccountId: a.GetId()})
		wantCode(t, err, codes.FailedPrecondition, ReasonAccountNotActive)
		for range 2 {
			op, err := w.accounts.Reactivate(w.owner.ctx, &iamv1.ReactivateServiceAccountRequest{ServiceAccountId: a.GetId()})
			w.done(op, err, new(iamv1.ReactivateServiceAccountResponse))
			if got := w.seesFolder(ctx); got != codes.OK {
				t.Errorf("an account that is back: %v", got)
			}
		}
		op, err := w.accounts.Delete(w.owner.ctx, &iamv1.DeleteServiceAccountRequest{ServiceAccountId: a.GetId()})
		w.done(op, err, new(emptypb.Empty))
		if got := w.seesFolder(ctx); got != codes.Unauthenticated {
			t.Errorf("a deleted account: %v", got)
		}
		_, err = w.accounts.Get(w.owner.ctx, &iamv1.GetServiceAccountRequest{ServiceAccountId: a.GetId()})
		wantCode(t, err, codes.NotFound, apierr.ReasonResourceNotFound)
		bindings, err := w.folders.ListAccessBindings(w.owner.ctx, &accesspb.ListAccessBindingsRequest{ResourceId: w.folder})
		if err != nil || len(bindings.GetAccessBindings()) != 0 {
			t.Errorf("a deleted account holds %v, %v", bindings.GetAccessBindings(), err)
		}
		w.account("robot") // the name is free again

		var events []string
		for _, r := range w.records(a.GetId()) {
			events = append(events, strings.TrimPrefix(r.EventType, "bindery.audit.iam.")+" "+string(r.EventStatus))
			if r.Authentication.SubjectID != w.owner.id || r.EventStatus == audit.Started && len(r.Authorization.Permissions) != 1 {
				t.Errorf("%s: by %+v, checked %+v", r.EventType, r.Authentication, r.Authorization)
			}
		}
		want := "CreateServiceAccount STARTED, CreateServiceAccount DONE, CreateIamToken DONE, SuspendServiceAccount STARTED, SuspendServiceAccount DONE, " +
			"SuspendServiceAccount STARTED, SuspendServiceAccount DONE, ReactivateServiceAccount STARTED, ReactivateServiceAccount DONE, " +
			"ReactivateServiceAccount DONE, DeleteServiceAccount STARTED, DeleteServiceAccount DONE"
		if got := strings.Join(events, ", "); got != want {
			t.Errorf("events %s", got)
		}
	})
}

// Names are unique in the cloud, whatever the folder (NM-3), and have 3 to 63
// characters (NM-1).
func TestNM3_NamesOfServiceAccounts(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		a := w.account("robot")
		other := w.newFolder("other")
		b := w.create(&iamv1.CreateServiceAccountRequest{FolderId: other, Name: "second"})
		_, err := w.accounts.Create(w.owner.ctx, &iamv1.CreateServiceAccountRequest{FolderId: other, Name: "robot"})
		wantCode(t, err, codes.AlreadyExists, ReasonAccountNameTaken)
		_, err = w.accounts.Update(w.owner.ctx, &iamv1.UpdateServiceAccountRequest{ServiceAccountId: b.GetId(), Name: "robot"})
		wantCode(t, err, codes.AlreadyExists, ReasonAccountNameTaken)
		w.cloud = w.town.cloud(w.owner, w.organization)
		w.folder = w.newFolder("elsewhere")
		w.account("robot")
		for _, name := range []string{"", "ab", "Robot", "robot-", strings.Repeat("a", 64)} {
			_, err := w.accounts.Create(w.owner.ctx, &iamv1.CreateServiceAccountRequest{FolderId: w.folder, Name: name})
			wantCode(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
		}
		op, err := w.accounts.Update(w.owner.ctx, &iamv1.UpdateServiceAccountRequest{
			ServiceAccountId: a.GetId(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"labels", "name"}},
		})
		w.done(op, err, a)
		if a.GetName() != "robot" { // NM-8: empty means unchanged
			t.Errorf("an empty name made it %q", a.GetName())
		}
	})
}

func TestNM8_UpdateServiceAccount(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		a := w.create(&iamv1.CreateServiceAccountRequest{
			FolderId: w.folder, Name: "robot", Description: "one", Labels: map[string]string{"k": "v"},
		})
		update := func(req *iamv1.UpdateServiceAccountRequest, paths ...string) error {
			req.ServiceAccountId = a.GetId()
			if len(paths) > 0 {
				req.UpdateMask = &fieldmaskpb.FieldMask{Paths: paths}
			}
			op, err := w.accounts.Update(w.owner.ctx, req)
			if err == nil {
				w.done(op, nil, a)
			}
			return err
		}
		wantCode(t, update(&iamv1.UpdateServiceAccountRequest{Description: "two"}, "description"), codes.OK, "")
		if a.GetDescription() != "two" || a.GetLabels()["k"] != "v" || a.GetName() != "robot" {
			t.Errorf("with a mask of the description: %v", a)
		}
		wantCode(t, update(&iamv1.UpdateServiceAccountRequest{Name: "arm"}, "name", "labels"), codes.OK, "")
		if a.GetName() != "arm" || len(a.GetLabels()) != 0 || a.GetDescription() != "two" {
			t.Errorf("with a mask of name and labels: %v", a)
		}
		end := timestamppb.New(time.Now().Add(time.Hour).Truncate(time.Microsecond))
		wantCode(t, update(&iamv1.UpdateServiceAccountRequest{Labels: map[string]string{"a": "b"}, ExpiresAt: end}), codes.OK, "")
		if a.GetName() != "arm" || a.GetLabels()["a"] != "b" || a.GetDescription() != "" || !a.GetExpiresAt().AsTime().Equal(end.AsTime()) {
			t.Errorf("without a mask: %v", a)
		}
		if got := w.get(a.GetId()); got.String() != a.String() {
			t.Errorf("stored %v, answered %v", got, a)
		}
		wantCode(t, update(&iamv1.UpdateServiceAccountRequest{}, "status"), codes.InvalidArgument, "VALIDATION_FAILED")
		wantCode(t, update(&iamv1.UpdateServiceAccountRequest{Description: "a\x00b"}, "description"), codes.InvalidArgument, "VALIDATION_FAILED")
	})
}

// A cloud has at most as many service accounts as its quota allows, also when many
// are made at once (QL-2).
func TestQL2_ServiceAccountsPerCloud(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		err := sqldb.InTx(t.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error {
			for i := range 97 {
				a := ServiceAccount{ID: fmt.Sprintf("sac%d", i), FolderID: w.folder, CloudID: w.cloud, Name: fmt.Sprintf("old-%d", i), State: Active, Version: 1}
				if err := (&Store{db: w.db}).InsertAccount(ctx, tx, a); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan error)
		for i := range 8 {
			go func() {
				_, err := w.accounts.Create(w.owner.ctx, &iamv1.CreateServiceAccountRequest{FolderId: w.folder, Name: fmt.Sprintf("new-%d", i)})
				results <- err
			}()
		}
		made := 0
		for range 8 {
			if err := <-results; err == nil {
				made++
			} else {
				wantCode(t, err, codes.ResourceExhausted, apierr.ReasonQuotaExceeded)
			}
		}
		if made != 3 {
			t.Errorf("%d were made in a cloud that has room for 3", made)
		}
	})
}

// What is being deleted, now or later, takes no new service accounts, and those in it
// are not changed (DL-15); they can still be suspended and deleted.
func TestDL15_FolderInDeletion(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		a := w.account("robot")
		for _, step := range []struct {
			what, reason string
			remove       func() error
		}{
			{"a folder", "FOLDER_NOT_ACTIVE", func() error {
				_, err := w.folders.Delete(w.owner.ctx, &rmv1.DeleteFolderRequest{FolderId: w.folder})
				return err
			}},
			{"a cloud", "FOLDER_NOT_ACTIVE", func() error {
				_, err := w.clouds.Delete(w.owner.ctx, &rmv1.DeleteCloudRequest{CloudId: w.cloud})
				return err
			}},
		} {
			if err := step.remove(); err != nil {
				t.Fatal(err)
			}
			_, err := w.accounts.Create(w.owner.ctx, &iamv1.CreateServiceAccountRequest{FolderId: w.folder, Name: "another"})
			wantCode(t, err, codes.FailedPrecondition, step.reason)
			_, err = w.accounts.Update(w.owner.ctx, &iamv1.UpdateServiceAccountRequest{ServiceAccountId: a.GetId(), Description: "x"})
			wantCode(t, err, codes.FailedPrecondition, step.reason)
		}
		op, err := w.accounts.Suspend(w.owner.ctx, &iamv1.SuspendServiceAccountRequest{ServiceAccountId: a.GetId()})
		w.done(op, err, new(iamv1.SuspendServiceAccountResponse))
		op, err = w.accounts.Delete(w.owner.ctx, &iamv1.DeleteServiceAccountRequest{ServiceAccountId: a.GetId()})
		w.done(op, err, new(emptypb.Empty))
	})
}

// Service accounts go with what they lie in: at once for the checker, their rows soon
// after (DL-6, DL-14, SK-2).
func TestSK2_AccountsGoWithTheirFolder(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		keep := w.account("keep")
		doomed := w.newFolder("doomed")
		gone := w.create(&iamv1.CreateServiceAccountRequest{FolderId: doomed, Name: "gone"})
		w.give(typeFolder, w.folder, "viewer", gone.GetId())
		ctx := w.actAs(w.owner, gone.GetId())
		op, err := w.folders.Delete(w.owner.ctx, &rmv1.DeleteFolderRequest{FolderId: doomed, DeleteAfter: timestamppb.Now()})
		w.done(op, err, new(emptypb.Empty))
		if got := w.seesFolder(ctx); got != codes.Unauthenticated {
			t.Errorf("an account whose folder is deleted: %v", got)
		}
		_, err = w.accounts.Get(w.owner.ctx, &iamv1.GetServiceAccountRequest{ServiceAccountId: gone.GetId()})
		wantCode(t, err, codes.NotFound, apierr.ReasonResourceNotFound)
		s := &Store{db: w.db}
		eventually(t, "the row goes", func() bool {
			_, err := s.ServiceAccount(t.Context(), w.db, gone.GetId())
			return apierr.ReasonOf(err) == ReasonAccountNotFound
		})
		w.create(&iamv1.CreateServiceAccountRequest{FolderId: w.folder, Name: "gone"})
		w.get(keep.GetId())
	})
}

// The last owner of a cloud can be neither suspended, nor given an end, nor deleted
// (OW-1), and is afterwards what it was.
func TestOW1_ServiceAccountThatOwns(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		a := w.account("owner-bot")
		w.give(typeCloud, w.cloud, "resource-manager.clouds.owner", a.GetId())
		_, err := w.bindings.UpdateAccessBindings(w.owner.ctx, &accessv1.UpdateAccessBindingsRequest{
			Resource: &accessv1.Resource{Type: typeCloud, Id: w.cloud},
			AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
				Action:        accesspb.AccessBindingAction_REMOVE,
				AccessBinding: &accessv1.AccessBinding{RoleId: "resource-manager.clouds.owner", Subject: w.owner.subject()},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		before := w.get(a.GetId())
		_, err = w.accounts.Suspend(w.owner.ctx, &iamv1.SuspendServiceAccountRequest{ServiceAccountId: a.GetId()})
		wantCode(t, err, codes.FailedPrecondition, "LAST_OWNER")
		_, err = w.accounts.Update(w.owner.ctx, &iamv1.UpdateServiceAccountRequest{
			ServiceAccountId: a.GetId(), Name: "renamed", ExpiresAt: timestamppb.New(time.Now().Add(time.Hour)),
		})
		wantCode(t, err, codes.FailedPrecondition, "LAST_OWNER")
		_, err = w.accounts.Delete(w.owner.ctx, &iamv1.DeleteServiceAccountRequest{ServiceAccountId: a.GetId()})
		wantCode(t, err, codes.FailedPrecondition, "LAST_OWNER")
		if after := w.get(a.GetId()); after.String() != before.String() {
			t.Errorf("after the refusals it is %v, was %v", after, before)
		}
		w.grant(w.owner, typeCloud, w.cloud, "resource-manager.clouds.owner", w.owner)
		op, err := w.accounts.Delete(w.owner.ctx, &iamv1.DeleteServiceAccountRequest{ServiceAccountId: a.GetId()})
		w.done(op, err, new(emptypb.Empty))
	})
}

func TestListServiceAccounts(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		var want []string
		for i := range 7 {
			want = append(want, w.account(fmt.Sprintf("robot-%d", i)).GetId())
		}
		list := func(ctx context.Context, size int64, filter string) (ids []string) {
			t.Helper()
			for token := ""; ; {
				resp, err := w.accounts.List(ctx, &iamv1.ListServiceAccountsRequest{FolderId: w.folder, PageSize: size, PageToken: token, Filter: filter})
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range resp.GetServiceAccounts() {
					ids = append(ids, a.GetId())
				}
				if token = resp.GetNextPageToken(); token == "" {
					return ids
				}
				if len(resp.GetServiceAccounts()) == 0 {
					t.Fatal("an empty page with a token")
				}
			}
		}
		for _, size := range []int64{0, 1, 3, 7, 1000} {
			if got := list(w.owner.ctx, size, ""); !slices.Equal(got, want) {
				t.Errorf("in pages of %d: %q, want %q", size, got, want)
			}
		}
		if got := list(w.owner.ctx, 0, `name = "robot-3"`); !slices.Equal(got, want[3:4]) {
			t.Errorf("by name: %q", got)
		}
		if got := list(w.owner.ctx, 0, `name = "nobody"`); len(got) > 0 {
			t.Errorf("by a name that nothing has: %q", got)
		}
		reader, stranger := w.citizen("reader"), w.citizen("stranger")
		w.grant(w.owner, typeAccount, want[2], "viewer", reader)
		w.grant(w.owner, typeAccount, want[5], "iam.serviceAccounts.user", reader)
		if got := list(reader.ctx, 1, ""); !slices.Equal(got, []string{want[2], want[5]}) {
			t.Errorf("whoever may see two sees %q", got)
		}
		_, err := w.accounts.List(stranger.ctx, &iamv1.ListServiceAccountsRequest{FolderId: w.folder})
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		_, err = w.accounts.List(w.owner.ctx, &iamv1.ListServiceAccountsRequest{FolderId: w.folder, Filter: `folder = "x"`})
		wantCode(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
	})
}
