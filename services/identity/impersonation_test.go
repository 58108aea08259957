package identity

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

const tokenCreator = "iam.serviceAccounts.tokenCreator"

func asAccount(accountID string) *iamv1.CreateIamTokenForServiceAccountRequest {
	return &iamv1.CreateIamTokenForServiceAccountRequest{ServiceAccountId: accountID}
}

// Whoever may make its tokens acts as the account, with exactly its grants (IM-1,
// TK-7), and every record of what is done so names both.
func TestTK7_IM1_ActingAsAServiceAccount(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		a, user := w.account("robot"), w.citizen("user")
		_, err := w.tokens.CreateForServiceAccount(user.ctx, asAccount(a.GetId()))
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		_, err = w.tokens.CreateForServiceAccount(user.ctx, asAccount("sac00000000000000000"))
		wantCode(t, err, codes.NotFound, apierr.ReasonResourceNotFound)

		w.grant(w.owner, typeAccount, a.GetId(), tokenCreator, user)
		w.grant(w.owner, typeFolder, w.folder, "viewer", user)
		resp, err := w.tokens.CreateForServiceAccount(user.ctx, asAccount(a.GetId()))
		if err != nil {
			t.Fatal(err)
		}
		if life := time.Until(resp.GetExpiresAt().AsTime()); life > authn.MaxTokenLife || life < authn.MaxTokenLife-time.Minute {
			t.Errorf("the token lives %v (TK-1)", life)
		}
		robot := w.Context(resp.GetIamToken())
		if got := w.seesFolder(robot); got != codes.PermissionDenied {
			t.Errorf("what the user may do, the account may not: %v", got)
		}
		w.give(typeFolder, w.folder, "editor", a.GetId())
		op, err := w.folders.Update(robot, &rmv1.UpdateFolderRequest{FolderId: w.folder, Description: "by a robot"})
		w.done(op, err, new(rmv1.Folder))
		if op.GetCreatedBy() != a.GetId() {
			t.Errorf("the operation is by %s", op.GetCreatedBy())
		}
		var text string
		if err := w.db.QueryRowContext(t.Context(), `
			SELECT record FROM resourcemanager_audit WHERE event_type = 'bindery.audit.resourcemanager.UpdateFolder'`).Scan(&text); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"subject_id":"` + a.GetId(), `"actor_type":"userAccount"`, `"actor_id":"` + user.id} {
			if !strings.Contains(text, want) {
				t.Errorf("the record lacks %s: %s", want, text)
			}
		}
		records := w.records(a.GetId())
		last := records[len(records)-1]
		if last.EventType != "bindery.audit.iam.CreateIamToken" || last.Authentication.SubjectID != user.id ||
			len(last.Authorization.Permissions) != 1 || last.Authorization.Permissions[0].Permission != permissionActAsAccount {
			t.Errorf("the record of the token is %+v", last)
		}
		if _, err := w.tokens.Revoke(w.owner.ctx, &iamv1.RevokeIamTokenRequest{IamToken: resp.GetIamToken()}); err != nil {
			t.Error(err)
		}
		if got := w.seesFolder(robot); got != codes.Unauthenticated {
			t.Errorf("by a revoked token: %v", got)
		}
	})
}

// The role neither changes access to the account nor deletes it; taking it away ends
// new tokens (IM-2).
func TestIM2_TokenCreatorMayNothingElse(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		a, user := w.account("robot"), w.citizen("user")
		w.grant(w.owner, typeAccount, a.GetId(), tokenCreator, user)
		w.give(typeFolder, w.folder, "viewer", a.GetId())
		robot := w.actAs(user, a.GetId())
		for name, err := range map[string]error{
			"delete": func() error {
				_, err := w.accounts.Delete(user.ctx, &iamv1.DeleteServiceAccountRequest{ServiceAccountId: a.GetId()})
				return err
			}(),
			"suspend": func() error {
				_, err := w.accounts.Suspend(user.ctx, &iamv1.SuspendServiceAccountRequest{ServiceAccountId: a.GetId()})
				return err
			}(),
			"update": func() error {
				_, err := w.accounts.Update(user.ctx, &iamv1.UpdateServiceAccountRequest{ServiceAccountId: a.GetId(), Description: "x"})
				return err
			}(),
			"set access": func() error {
				_, err := w.accounts.SetAccessBindings(user.ctx, &accesspb.SetAccessBindingsRequest{ResourceId: a.GetId()})
				return err
			}(),
		} {
			t.Run(name, func(t *testing.T) { wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied) })
		}
		_, err := w.accounts.UpdateAccessBindings(w.owner.ctx, &accesspb.UpdateAccessBindingsRequest{
			ResourceId: a.GetId(),
			AccessBindingDeltas: []*accesspb.AccessBindingDelta{{
				Action: accesspb.AccessBindingAction_REMOVE,
				AccessBinding: &accesspb.AccessBinding{
					RoleId: tokenCreator, Subject: &accesspb.Subject{Type: authn.UserAccount, Id: user.id},
				},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.tokens.CreateForServiceAccount(user.ctx, asAccount(a.GetId()))
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		if got := w.seesFolder(robot); got != codes.OK {
			t.Errorf("by a token of before: %v", got)
		}
	})
}

// A service account that acts as another one is the actor; whoever acts as it is
// found by the record of its own token.
func TestIM1_AccountActsAsAccount(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		first, second := w.account("first"), w.account("second")
		w.give(typeAccount, second.GetId(), tokenCreator, first.GetId())
		robot := w.actAs(w.owner, first.GetId())
		resp, err := w.tokens.CreateForServiceAccount(robot, asAccount(second.GetId()))
		if err != nil {
			t.Fatal(err)
		}
		records := w.records(second.GetId())
		last := records[len(records)-1].Authentication
		if last.SubjectID != first.GetId() || last.ActorID != w.owner.id {
			t.Errorf("the token was made by %+v", last)
		}
		_, err = w.tokens.Revoke(w.Context(resp.GetIamToken()), &iamv1.RevokeIamTokenRequest{IamToken: resp.GetIamToken()})
		if err != nil {
			t.Error(err)
		}
	})
}

// SK-6: whoever administers service accounts on the folder makes them; SK-7: an
// editor of one changes it, a viewer and a user of one read it; SK-9: auditors list
// its bindings.
func TestSK6_SK7_SK9_WhoMayWhat(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		a := w.account("robot")
		allowed := func(err error) bool {
			if err != nil && apierr.CodeOf(apierr.FromRPC(err)) != codes.PermissionDenied {
				t.Fatal(err)
			}
			return err == nil
		}
		for i, row := range []struct {
			role, on                        string
			id                              string
			creates, updates, reads, audits bool
		}{
			{"iam.serviceAccounts.admin", typeFolder, w.folder, true, true, true, true},
			{"iam.editor", typeFolder, w.folder, true, true, true, true},
			{"editor", typeFolder, w.folder, true, true, true, true},
			{"viewer", typeFolder, w.folder, false, false, true, true},
			{"editor", typeAccount, a.GetId(), false, true, true, true},
			{"viewer", typeAccount, a.GetId(), false, false, true, true},
			{"auditor", typeAccount, a.GetId(), false, false, true, true},
			{"iam.serviceAccounts.user", typeAccount, a.GetId(), false, false, true, false},
			{tokenCreator, typeAccount, a.GetId(), false, false, false, false},
		} {
			who := w.citizen("user-" + string(rune('a'+i)))
			w.grant(w.owner, row.on, row.id, row.role, who)
			_, err := w.accounts.Create(who.ctx, &iamv1.CreateServiceAccountRequest{FolderId: w.folder, Name: "new-" + string(rune('a'+i))})
			if got := allowed(err); got != row.creates {
				t.Errorf("SK-6: %s on the %s creates: %t", row.role, row.on, got)
			}
			_, err = w.accounts.Update(who.ctx, &iamv1.UpdateServiceAccountRequest{ServiceAccountId: a.GetId(), Description: row.role})
			if got := allowed(err); got != row.updates {
				t.Errorf("SK-7: %s on the %s updates: %t", row.role, row.on, got)
			}
			_, err = w.accounts.Get(who.ctx, &iamv1.GetServiceAccountRequest{ServiceAccountId: a.GetId()})
			if got := allowed(err); got != row.reads {
				t.Errorf("SK-7: %s on the %s reads: %t", row.role, row.on, got)
			}
			_, err = w.accounts.ListAccessBindings(who.ctx, &accesspb.ListAccessBindingsRequest{ResourceId: a.GetId()})
			if got := allowed(err); got != row.audits {
				t.Errorf("SK-9: %s on the %s lists bindings: %t", row.role, row.on, got)
			}
		}
	})
}

// What is done by hand in accessbindings is shown among the operations of an account,
// newest first, page by page.
func TestServiceAccountOperations(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		a := w.account("robot")
		binding := &accesspb.AccessBinding{RoleId: "viewer", Subject: &accesspb.Subject{Type: authn.UserAccount, Id: w.owner.id}}
		if _, err := w.accounts.SetAccessBindings(w.owner.ctx, &accesspb.SetAccessBindingsRequest{
			ResourceId: a.GetId(), AccessBindings: []*accesspb.AccessBinding{binding},
		}); err != nil {
			t.Fatal(err)
		}
		op, err := w.accounts.Suspend(w.owner.ctx, &iamv1.SuspendServiceAccountRequest{ServiceAccountId: a.GetId()})
		w.done(op, err, new(iamv1.SuspendServiceAccountResponse))
		got, err := w.accounts.ListAccessBindings(w.owner.ctx, &accesspb.ListAccessBindingsRequest{ResourceId: a.GetId()})
		if err != nil || len(got.GetAccessBindings()) != 1 || got.GetAccessBindings()[0].GetRoleId() != "viewer" {
			t.Errorf("bindings %v, %v", got.GetAccessBindings(), err)
		}
		want := "Suspend service account, Set access bindings, Create service account"
		for _, size := range []int64{0, 1, 2} {
			var all []string
			for token := ""; ; {
				resp, err := w.accounts.ListOperations(w.owner.ctx, &iamv1.ListServiceAccountOperationsRequest{
					ServiceAccountId: a.GetId(), PageSize: size, PageToken: token,
				})
				if err != nil {
					t.Fatal(err)
				}
				for _, op := range resp.GetOperations() {
					all = append(all, op.GetDescription())
				}
				if token = resp.GetNextPageToken(); token == "" {
					break
				}
			}
			if got := strings.Join(all, ", "); got != want {
				t.Errorf("in pages of %d: %s", size, got)
			}
		}
	})
}

// A call that is sent again with its idempotency key is answered as it was, and
// changes nothing more; also when what it was about has changed or gone since.
func TestServiceAccountsHonourIdempotencyKeys(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		const first, second, third = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222", "33333333-3333-4333-8333-333333333333"
		create := &iamv1.CreateServiceAccountRequest{FolderId: w.folder, Name: "robot"}
		made, err := w.accounts.Create(w.owner.keyed(first), create)
		a := new(iamv1.ServiceAccount)
		w.done(made, err, a)
		suspend := &iamv1.SuspendServiceAccountRequest{ServiceAccountId: a.GetId()}
		op, err := w.accounts.Suspend(w.owner.keyed(second), suspend)
		w.done(op, err, new(iamv1.SuspendServiceAccountResponse))
		back, err := w.accounts.Reactivate(w.owner.ctx, &iamv1.ReactivateServiceAccountRequest{ServiceAccountId: a.GetId()})
		w.done(back, err, new(iamv1.ReactivateServiceAccountResponse))
		if again, err := w.accounts.Suspend(w.owner.keyed(second), suspend); err != nil || again.GetId() != op.GetId() {
			t.Errorf("a repeated suspension: %v, %v", again, err)
		}
		if got := w.get(a.GetId()).GetStatus(); got != iamv1.ServiceAccount_ACTIVE {
			t.Errorf("after a repeated suspension it is %v", got)
		}
		remove := &iamv1.DeleteServiceAccountRequest{ServiceAccountId: a.GetId()}
		gone, err := w.accounts.Delete(w.owner.keyed(third), remove)
		w.done(gone, err, new(emptypb.Empty))
		if again, err := w.accounts.Delete(w.owner.keyed(third), remove); err != nil || again.GetId() != gone.GetId() {
			t.Errorf("a repeated deletion: %v, %v", again, err)
		}
		if again, err := w.accounts.Create(w.owner.keyed(first), create); err != nil || again.GetId() != made.GetId() {
			t.Errorf("a repeated creation: %v, %v", again, err)
		}
		other := &iamv1.CreateServiceAccountRequest{FolderId: w.folder, Name: "other"}
		if _, err := w.accounts.Create(w.owner.keyed(first), other); err == nil {
			t.Error("the key of another call was taken")
		}
	})
}

// Whoever follows another type of resource is told of its removals too, once in the
// transaction that notes them; a place of a lost line begins anew.
func TestFollowRemovals(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		var told []string
		fail := true
		f := &removals{
			db: w.db, tree: accessv1.NewResourceServiceClient(w.Unit(Name, "accessbindings")), types: map[string][]letGo{},
		}
		f.on(typeFolder, func(_ context.Context, _ *sql.Tx, ids []string) error {
			if fail {
				return errors.New("not now")
			}
			told = append(told, ids...)
			return nil
		})
		doomed := w.newFolder("doomed")
		op, err := w.folders.Delete(w.owner.ctx, &rmv1.DeleteFolderRequest{FolderId: doomed, DeleteAfter: timestamppb.Now()})
		w.done(op, err, new(emptypb.Empty))
		if err := f.follow(t.Context(), typeFolder); err == nil {
			t.Error("a failure was not told")
		}
		fail = false
		for range 2 {
			if err := f.follow(t.Context(), typeFolder); err != nil {
				t.Fatal(err)
			}
		}
		if len(told) != 1 || told[0] != doomed {
			t.Errorf("told of %q, want %q once", told, doomed)
		}
		err = sqldb.InTx(t.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE identity_removals SET epoch = epoch + 7, revision = 1000000 WHERE type = $1`, typeFolder)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.follow(t.Context(), typeFolder); err != nil || len(told) != 2 {
			t.Errorf("from a lost line: told of %q, %v", told, err)
		}
	})
}

// An access policy forbids acting as service accounts, to owners as well (IM-3, AP-10).
func TestIM3_APolicyForbidsImpersonation(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		a := w.account("robot")
		w.actAs(w.owner, a.GetId())
		_, err := w.folders.BindAccessPolicy(w.owner.ctx, &accesspb.BindAccessPolicyRequest{
			ResourceId:          w.folder,
			AccessPolicyBinding: &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: "iam.denyServiceAccountImpersonation"},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.tokens.CreateForServiceAccount(w.owner.ctx, asAccount(a.GetId()))
		wantCode(t, err, codes.PermissionDenied, "DENIED_BY_POLICY")
		w.get(a.GetId())
	})
}
