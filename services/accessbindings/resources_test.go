package accessbindings

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

func TestRegisterResource(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		f3 := Ref{folder1.Type, "folder3"}
		w.register(f3, cloud1, []Pair{{viewer, vera}})
		w.mustUpdate(adam, f3, remove(viewer, vera))
		w.register(f3, cloud1, []Pair{{viewer, vera}})
		if w.allowed(vera, getFolder, f3) {
			t.Error("a repeated registration brought back a binding")
		}
		for _, row := range []struct {
			name   string
			err    error
			code   codes.Code
			reason string
		}{
			{"elsewhere", w.tryRegister(folder1, Ref{cloud1.Type, "cloud2"}, nil), codes.FailedPrecondition, "RESOURCE_MISMATCH"},
			{"below nothing", w.tryRegister(Ref{folder1.Type, "f4"}, Ref{cloud1.Type, "cloud2"}, nil), codes.NotFound, "RESOURCE_NOT_FOUND"},
			{"RH-2: a folder in a folder", w.tryRegister(Ref{folder1.Type, "f4"}, folder1, nil), codes.InvalidArgument, "VALIDATION_FAILED"},
			{"RH-1: a cloud without an organization", w.tryRegister(Ref{cloud1.Type, "cloud3"}, Ref{}, nil), codes.InvalidArgument, "VALIDATION_FAILED"},
			{"an organization in an organization", w.tryRegister(Ref{typeOrganization, "org3"}, org1, nil), codes.InvalidArgument, "VALIDATION_FAILED"},
			{"a role that does not fit", w.tryRegister(Ref{folder1.Type, "f4"}, cloud1, []Pair{{cloudOwner, vera}}), codes.InvalidArgument, "VALIDATION_FAILED"},
			{"a role that is not", w.tryRegister(Ref{folder1.Type, "f4"}, cloud1, []Pair{{"no.such.role", vera}}), codes.NotFound, ReasonRoleNotFound},
			{"for nobody", w.tryRegister(Ref{folder1.Type, "f4"}, cloud1, []Pair{{viewer, user("ghost")}}), codes.NotFound, ReasonSubjectNotFound},
			{"another unit's type", w.tryRegister(Ref{"kms.key", "k1"}, folder1, nil), codes.PermissionDenied, "TYPE_NOT_OWNED"},
		} {
			t.Run(row.name, func(t *testing.T) { refused(t, row.err, row.code, row.reason) })
		}
		_, err := w.check.Authorize(w.User(vera.ID), nil)
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
		_, err = accessv1.NewResourceServiceClient(w.Conn).RegisterResource(w.User(olga.ID),
			&accessv1.RegisterResourceRequest{Resource: (Ref{folder1.Type, "f5"}).proto(), Parent: cloud1.proto()})
		refused(t, err, codes.PermissionDenied, "UNIT_NOT_ADMITTED")
	})
}

func TestCR7_MoveTakesTheSubtreeAlong(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.know(user("otto"))
		w.mustUpdate(olga, org2, add(viewer, user("otto")))
		w.mustUpdate(olga, org1, add(viewer, vera))
		move := &accessv1.MoveResourceRequest{Resource: cloud1.proto(), Parent: org2.proto()}
		for range 2 {
			_, err := w.resources.MoveResource(t.Context(), move)
			w.must(err)
		}
		if w.allowed(vera, getFolder, folder1) || !w.allowed(user("otto"), getFolder, folder1) || !w.allowed(carl, getFolder, folder1) {
			t.Error("the folders did not move with their cloud")
		}
		path, err := w.resources.GetResourcePath(t.Context(), &accessv1.GetResourcePathRequest{Resource: folder1.proto()})
		w.must(err)
		var got []Ref
		for _, r := range path.GetPath() {
			got = append(got, refOf(r))
		}
		if !slices.Equal(got, []Ref{folder1, cloud1, org2}) {
			t.Errorf("path %v", got)
		}
		_, err = w.resources.MoveResource(t.Context(), &accessv1.MoveResourceRequest{Resource: cloud1.proto(), Parent: folder1.proto()})
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
		_, err = w.resources.MoveResource(t.Context(),
			&accessv1.MoveResourceRequest{Resource: (Ref{cloud1.Type, "none"}).proto(), Parent: org1.proto()})
		refused(t, err, codes.NotFound, "RESOURCE_NOT_FOUND")
	})
}

func TestDL6_RemoveTakesTheSubtree(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		account, bot := Ref{typeServiceAccount, "bot"}, robot("bot")
		w.register(account, folder1, nil)
		w.know(bot)
		w.mustUpdate(adam, folder2, add(viewer, bot))
		w.mustUpdate(adam, folder1, add(viewer, vera))
		if !w.allowed(bot, getFolder, folder2) {
			t.Fatal("the service account may not what it holds")
		}
		for range 2 {
			_, err := w.resources.RemoveResource(t.Context(), &accessv1.RemoveResourceRequest{Resource: folder1.proto()})
			w.must(err)
		}
		_, err := w.authorize(vera, getFolder, folder1)
		refused(t, err, codes.PermissionDenied, "RESOURCE_NOT_FOUND")
		if w.allowed(bot, getFolder, folder2) {
			t.Error("the service account outlived its folder")
		}
		refused(t, w.tryRegister(folder1, cloud1, nil), codes.FailedPrecondition, "RESOURCE_DELETED")
		_, err = w.update(olga, folder1, add(viewer, vera))
		refused(t, err, codes.NotFound, "RESOURCE_NOT_FOUND")
		_, err = w.resources.RemoveResource(t.Context(), &accessv1.RemoveResourceRequest{Resource: org1.proto()})
		w.must(err)
		if w.allowed(olga, getCloud, cloud1) || w.allowed(carl, getCloud, cloud1) {
			t.Error("the organization is gone and its cloud is not")
		}
		late := Ref{folder1.Type, "late"}
		_, err = w.resources.RemoveResource(t.Context(), &accessv1.RemoveResourceRequest{Resource: late.proto()})
		w.must(err)
		refused(t, w.tryRegister(late, cloud1, nil), codes.FailedPrecondition, "RESOURCE_DELETED")
		_, err = w.resources.RemoveResource(t.Context(), &accessv1.RemoveResourceRequest{Resource: (Ref{"kms.key", "k"}).proto()})
		refused(t, err, codes.PermissionDenied, "TYPE_NOT_OWNED")
	})
}
