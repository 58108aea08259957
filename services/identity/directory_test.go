package identity

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/bindery-iam/bindery/pkg/authn"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

func TestDirectory(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		vera, nick := w.user("vera"), w.user("nick")
		client := identityv1.NewDirectoryServiceClient(w.Unit("notifications", Name))
		ids := []string{vera.GetId(), "usr00000000000000000", nick.GetId(), vera.GetId(), "' OR 1=1"}
		got, err := client.BatchGetSubjects(t.Context(), &identityv1.BatchGetSubjectsRequest{Ids: ids})
		if err != nil {
			t.Fatal(err)
		}
		want := &identityv1.BatchGetSubjectsResponse{}
		for _, u := range []*identityv1.CreateUserResponse{vera, nick} {
			want.Subjects = append(want.Subjects, &identityv1.SubjectEntry{
				Type: authn.UserAccount, Id: u.GetId(), Name: u.GetLogin(), Email: u.GetLogin() + "@example.com",
				State: identityv1.SubjectEntry_ACTIVE,
			})
		}
		slices.SortFunc(want.GetSubjects(), func(a, b *identityv1.SubjectEntry) int {
			return slices.Compare([]byte(a.GetId()), []byte(b.GetId()))
		})
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("the directory answers otherwise (-want +got):\n%s", diff)
		}
		if _, err := w.operator.SuspendUser(t.Context(), &identityv1.SuspendUserRequest{Login: "nick"}); err != nil {
			t.Fatal(err)
		}
		one, err := client.BatchGetSubjects(t.Context(), &identityv1.BatchGetSubjectsRequest{Ids: []string{nick.GetId()}})
		if err != nil || len(one.GetSubjects()) != 1 || one.GetSubjects()[0].GetState() != identityv1.SubjectEntry_SUSPENDED {
			t.Errorf("of a suspended user: %v, %v", one, err)
		}
		if none, err := client.BatchGetSubjects(t.Context(), &identityv1.BatchGetSubjectsRequest{}); err != nil || len(none.GetSubjects()) != 0 {
			t.Errorf("of nobody: %v, %v", none, err)
		}
	})
}
