package accessbindings

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

func TestRH2_FoldersStandInCloudsOnly(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		for name, parent := range map[string]Ref{
			"in a folder": folder1, "in an organization": org1, "in nothing": {}, "in a service account": {typeServiceAccount, "bot"},
		} {
			refused(t, w.tryRegister(Ref{folder1.Type, "f"}, parent, nil), codes.InvalidArgument, "VALIDATION_FAILED")
			_, err := w.authorize(olga, getFolder, Ref{folder1.Type, "f"})
			if refused(t, err, codes.PermissionDenied, "RESOURCE_NOT_FOUND"); t.Failed() {
				t.Fatalf("a folder %s", name)
			}
		}
		w.register(Ref{folder1.Type, "f"}, cloud1, nil)
	})
}

func TestRH7_NothingMovesToAnotherCloud(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		cloud2, account := Ref{cloud1.Type, "cloud2"}, Ref{typeServiceAccount, "bot"}
		folder3 := Ref{folder1.Type, "folder3"}
		w.register(cloud2, org1, nil)
		w.register(folder3, cloud2, nil)
		w.register(account, folder1, nil)
		_, err := w.resources.MoveResource(t.Context(), &accessv1.MoveResourceRequest{Resource: folder1.proto(), Parent: cloud2.proto()})
		refused(t, err, codes.FailedPrecondition, "RESOURCE_MISMATCH")
		_, err = w.identity.MoveResource(t.Context(), &accessv1.MoveResourceRequest{Resource: account.proto(), Parent: folder3.proto()})
		refused(t, err, codes.FailedPrecondition, "RESOURCE_MISMATCH")
		_, err = w.identity.MoveResource(t.Context(), &accessv1.MoveResourceRequest{Resource: account.proto(), Parent: folder2.proto()})
		w.must(err)
	})
}

func TestSU2_GroupsHoldRoles(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		team := w.group(org1, "team")
		w.join(team, vera)
		w.mustUpdate(adam, folder1, add(viewer, group(team.ID)))
		if got := w.list(adam, folder1, 0); !slices.Equal(got, []string{"viewer group:" + team.ID}) {
			t.Errorf("bindings %v", got)
		}
		if !w.allowed(vera, getFolder, folder1) || w.allowed(nick, getFolder, folder1) {
			t.Error("the role counts for the members of the group and nobody else")
		}
	})
}

func TestAB1_SeveralRolesAreSeveralBindings(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(adam, folder1, add(viewer, vera), add(editor, vera), add(viewer, nick))
		want := []string{"viewer userAccount:vera", "editor userAccount:vera", "viewer userAccount:nick"}
		if got := w.list(adam, folder1, 0); !slices.Equal(got, want) {
			t.Errorf("bindings %v, want %v", got, want)
		}
		w.mustUpdate(adam, folder1, remove(viewer, vera))
		if got := w.list(adam, folder1, 0); !slices.Equal(got, want[1:]) {
			t.Errorf("bindings %v after one was removed, want %v", got, want[1:])
		}
		if !w.allowed(vera, getFolder, folder1) {
			t.Error("the other role went along")
		}
	})
}
