package identity

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// An end is in force without a job, by the clock; it can be put off and taken away,
// also after it has come.
func TestSK1_ExpiresAt(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		end := time.Now().Add(time.Hour).Truncate(time.Microsecond)
		a := w.create(&iamv1.CreateServiceAccountRequest{FolderId: w.folder, Name: "robot", ExpiresAt: timestamppb.New(end)})
		if !a.GetExpiresAt().AsTime().Equal(end) {
			t.Errorf("it ends at %v, want %v", a.GetExpiresAt().AsTime(), end)
		}
		w.give(typeFolder, w.folder, "viewer", a.GetId())
		resp, err := w.tokens.CreateForServiceAccount(w.owner.ctx, &iamv1.CreateIamTokenForServiceAccountRequest{ServiceAccountId: a.GetId()})
		if err != nil || resp.GetExpiresAt().AsTime().After(end) {
			t.Fatalf("a token until %v, %v: the account ends at %v", resp.GetExpiresAt().AsTime(), err, end)
		}
		owner := func() context.Context { return w.again(w.owner) }
		robot := w.Context(resp.GetIamToken())
		set := func(at *timestamppb.Timestamp) error {
			op, err := w.accounts.Update(owner(), &iamv1.UpdateServiceAccountRequest{
				ServiceAccountId: a.GetId(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"expires_at"}}, ExpiresAt: at,
			})
			if err == nil {
				w.done(op, err, a)
			}
			return err
		}
		// Just before its end; the token itself has a leeway.
		w.advance(time.Until(end) - time.Second)
		if got := w.seesFolder(robot); got != codes.OK {
			t.Errorf("before its end: %v", got)
		}
		w.advance(2 * time.Second)
		if got := w.seesFolder(robot); got != codes.Unauthenticated {
			t.Errorf("after its end: %v", got)
		}
		_, err = w.tokens.CreateForServiceAccount(owner(), &iamv1.CreateIamTokenForServiceAccountRequest{ServiceAccountId: a.GetId()})
		wantCode(t, err, codes.FailedPrecondition, ReasonAccountNotActive)
		wantCode(t, set(timestamppb.New(end)), codes.OK, "") // as it is: no change
		wantCode(t, set(timestamppb.New(end.Add(time.Millisecond))), codes.InvalidArgument, "VALIDATION_FAILED")
		wantCode(t, set(timestamppb.New(end.Add(time.Hour))), codes.OK, "")
		if got := w.seesFolder(robot); got != codes.OK {
			t.Errorf("with an end that was put off: %v", got)
		}
		wantCode(t, set(nil), codes.OK, "")
		if a.GetExpiresAt() != nil || w.get2(owner(), a.GetId()).GetExpiresAt() != nil {
			t.Errorf("the end that was taken away is %v", a.GetExpiresAt())
		}
		_, err = w.accounts.Create(owner(), &iamv1.CreateServiceAccountRequest{FolderId: w.folder, Name: "late", ExpiresAt: timestamppb.New(end)})
		wantCode(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
	})
}

func (w *yard) get2(ctx context.Context, accountID string) *iamv1.ServiceAccount {
	w.t.Helper()
	a, err := w.accounts.Get(ctx, &iamv1.GetServiceAccountRequest{ServiceAccountId: accountID})
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// A suspension with an end ends by itself, unless another one took its place.
func TestSK1_SuspensionEndsByItself(t *testing.T) {
	inYard(t, func(t *testing.T, w *yard) {
		short, replaced := w.account("short"), w.account("replaced")
		soon := timestamppb.New(time.Now().Add(700 * time.Millisecond))
		for _, a := range []*iamv1.ServiceAccount{short, replaced} {
			op, err := w.accounts.Suspend(w.owner.ctx, &iamv1.SuspendServiceAccountRequest{ServiceAccountId: a.GetId(), ExpiresAt: soon})
			w.done(op, err, new(iamv1.SuspendServiceAccountResponse))
		}
		op, err := w.accounts.Suspend(w.owner.ctx, &iamv1.SuspendServiceAccountRequest{ServiceAccountId: replaced.GetId()})
		w.done(op, err, new(iamv1.SuspendServiceAccountResponse))
		eventually(t, "the suspension ends", func() bool { return w.get(short.GetId()).GetStatus() == iamv1.ServiceAccount_ACTIVE })
		w.actAs(w.owner, short.GetId())
		if got := w.get(replaced.GetId()).GetStatus(); got != iamv1.ServiceAccount_SUSPENDED {
			t.Errorf("the account that was suspended anew is %v", got)
		}
		_, err = w.accounts.Suspend(w.owner.ctx, &iamv1.SuspendServiceAccountRequest{ServiceAccountId: short.GetId(), ExpiresAt: soon})
		wantCode(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
	})
}
