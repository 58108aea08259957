package accessbindings

import (
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/checker/checkertest"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// groupKeeper administers every organization of the oracle, so that its groups are
// made, changed and deleted through GroupService. No world knows of it.
var groupKeeper = user("keeper")

// found makes an organization that the keeper administers.
func (o *oracle) found(r checkertest.Ref) error {
	o.know(groupKeeper)
	_, err := o.unit(r.Type()).RegisterResource(o.t.Context(), &accessv1.RegisterResourceRequest{
		Resource: o.ref(r).proto(), AccessBindings: []*accessv1.AccessBinding{{RoleId: admin, Subject: groupKeeper.proto()}},
	})
	return err
}

// isGroup reports whether a step is about the life or the members of a group.
func isGroup(s checkertest.Step) bool {
	if s.Kind == checkertest.Set {
		return s.Subject.Type() == rules.Group
	}
	return s.Resource.Type() == typeGroup && s.Kind != checkertest.Bind && s.Kind != checkertest.Unbind
}

// groupStep makes such a step real by GroupService. What only a fact can say is an
// intent of the test: states of a group, and members from another organization.
func (o *oracle) groupStep(s checkertest.Step) error {
	ctx := o.User(groupKeeper.ID)
	switch s.Kind {
	case checkertest.Place:
		op, err := o.groups.Create(ctx, &orgv1.CreateGroupRequest{OrganizationId: o.ref(s.Parent).ID, Name: "g" + s.Resource.ID()})
		if err == nil {
			o.ids[s.Resource.ID()] = made(o.t, op, err, new(orgv1.Group)).GetId()
		}
		return err
	case checkertest.Remove:
		_, err := o.groups.Delete(ctx, &orgv1.DeleteGroupRequest{GroupId: o.ref(s.Resource).ID})
		return err
	case checkertest.Set:
		state := map[string]State{"active": stateActive, "suspended": stateSuspended, "deleted": stateDeleted}[s.State]
		in := &setSubject{subject: o.who(s.Subject), standing: standing{State: state}, catalog: o.service.subjects.catalog, record: &audit.Record{
			EventSource: "test", EventType: "test",
		}}
		_, err := o.service.committer.submit(o.t.Context(), in)
		return err
	case checkertest.Join:
		return o.groupMember(s, orgv1.MemberDelta_ADD)
	case checkertest.Leave:
		return o.groupMember(s, orgv1.MemberDelta_REMOVE)
	case checkertest.Bind, checkertest.Unbind, checkertest.Revoke, checkertest.Deny, checkertest.Undeny,
		checkertest.Pay, checkertest.Stop, checkertest.Go:
	}
	return fmt.Errorf("a step of kind %s is not about a group", s.Kind)
}

// groupMember has a subject join a group or leave it.
func (o *oracle) groupMember(s checkertest.Step, action orgv1.MemberDelta_MemberAction) error {
	ctx := o.User(groupKeeper.ID)
	_, err := o.groups.UpdateMembers(ctx, &orgv1.UpdateGroupMembersRequest{
		GroupId: o.ref(s.Resource).ID, MemberDeltas: []*orgv1.MemberDelta{{Action: action, SubjectId: o.who(s.Subject).ID}},
	})
	foreign := slices.Contains([]string{"MEMBER_FOREIGN", "SERVICE_ACCOUNT_FOREIGN"}, apierr.ReasonOf(err)) // the latter by what the group holds elsewhere (SU-9)
	if foreign || status.Code(err) == codes.NotFound && action == orgv1.MemberDelta_REMOVE {
		return o.raw(memberChange(o.ref(s.Resource), o.who(s.Subject), action == orgv1.MemberDelta_ADD))
	}
	if err == nil {
		o.byRPC++
	}
	return err
}
