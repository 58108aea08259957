package accessbindings

import (
	"slices"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

func TestAB8_WhatASubjectWasGiven(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		analyzer := iamv1.NewAccessAnalyzerServiceClient(w.Conn)
		list := func(id string, organization Ref, size int64) []string {
			t.Helper()
			var all []string
			req := &iamv1.ListSubjectAccessBindingsRequest{SubjectId: id, OrganizationId: organization.ID, PageSize: size}
			for {
				resp, err := analyzer.ListSubjectAccessBindings(w.User(olga.ID), req)
				w.must(err)
				for _, b := range resp.GetSubjectAccessBindings() {
					if b.GetSubjectId() != id {
						t.Errorf("a binding of %s", b.GetSubjectId())
					}
					all = append(all, b.GetRoleId()+" "+b.GetResource().GetId())
				}
				if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
					return all
				}
				if len(resp.GetSubjectAccessBindings()) == 0 {
					t.Fatal("an empty page with a token")
				}
			}
		}
		ops := w.group(org1, "ops")
		w.join(ops, vera)
		staff := Subject{rules.System, "group:organization:org1:users"}
		w.mustUpdate(adam, folder1, add(editor, vera), until(add(viewer, vera), w.clock.now().Add(time.Hour)))
		for range 3 { // between those of another organization
			w.mustUpdate(olga, org2, add(viewer, vera))
			w.mustUpdate(olga, org2, add(editor, vera))
		}
		w.mustUpdate(adam, cloud1, add(viewer, memberOf(ops)), add(viewer, staff))
		w.mustUpdate(olga, org1, add("organization-manager.viewer", vera))
		w.mustUpdate(adam, folder2, add(viewer, vera))
		want := []string{"editor folder1", "viewer folder1", "organization-manager.viewer org1", "viewer folder2"}
		for _, size := range []int64{0, 1, 2, 4, 1000} {
			if got := list(vera.ID, org1, size); !slices.Equal(got, want) {
				t.Errorf("in pages of %d: %v, want %v", size, got, want)
			}
		}
		if got := list(vera.ID, org2, 1); !slices.Equal(got, []string{"viewer org2", "editor org2"}) {
			t.Errorf("in the other organization: %v", got)
		}
		for _, who := range []Subject{memberOf(ops), staff} {
			if got := list(who.ID, org1, 0); !slices.Equal(got, []string{"viewer cloud1"}) {
				t.Errorf("of %s: %v", who.ID, got)
			}
		}
		if got := list("ghost", org1, 0); got != nil {
			t.Errorf("of nobody: %v", got)
		}
		w.clock.advance(2 * time.Hour)
		if got := list(vera.ID, org1, 0); !slices.Equal(got, slices.Delete(want, 1, 2)) {
			t.Errorf("after the end of one: %v", got)
		}
		move(t, w, cloud1, org2)
		if got := list(vera.ID, org1, 0); !slices.Equal(got, []string{"organization-manager.viewer org1"}) {
			t.Errorf("after the cloud went: %v", got)
		}
	})
}
