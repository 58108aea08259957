package identity

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/server"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	iampb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// viewer is the caller of one request about subjects: what it may see where, asked
// once for each organization.
type viewer struct {
	*Service
	caller       authn.Principal
	organization string // the only one that is asked about; "" for any
	match        match
	mask         *fieldmaskpb.FieldMask
	seen         map[string]*sight // by organization; nil where the caller may see nobody
	names        map[string]string // of clouds and folders
	cloudIDs     []string          // of the organization, once clouded
	clouded      bool
}

// viewerOf reads the common parts of a request. The rule of the method has checked
// permMembers on its organization.
func (s *Service) viewerOf(ctx context.Context, on *iamv1.Resource, mask *fieldmaskpb.FieldMask, filter string) (*viewer, error) {
	if on != nil && on.GetType() != typeOrganization {
		return nil, apierr.InvalidField("resource_context.type", "must be %s", typeOrganization)
	}
	if mask != nil && !mask.IsValid(new(iampb.Subject)) {
		return nil, apierr.InvalidField("field_mask", "names a field that a subject does not have")
	}
	match, err := matchOf(filter)
	if err != nil {
		return nil, err
	}
	v := &viewer{
		Service: s, caller: authn.FromContext(ctx), organization: on.GetId(), match: match, mask: mask, seen: make(map[string]*sight),
		names: make(map[string]string),
	}
	if v.organization == "" {
		return v, nil
	}
	seen, err := s.sightOf(ctx, v.organization)
	v.seen[v.organization] = &seen
	return v, err
}

// at is what the caller sees in an organization; nil when nobody.
func (v *viewer) at(ctx context.Context, organizationID string) (*sight, error) {
	if seen, asked := v.seen[organizationID]; asked {
		return seen, nil
	}
	err := v.decider.Authorize(ctx, v.caller, permMembers, authz.Resource{Type: typeOrganization, ID: organizationID})
	if apierr.CodeOf(err) == codes.PermissionDenied {
		v.seen[organizationID] = nil
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	seen, err := v.sightOf(ctx, organizationID)
	v.seen[organizationID] = &seen
	return &seen, err
}

// show describes a subject as far as the caller may see it; nil when it may not, or
// the filter leaves it out.
func (v *viewer) show(ctx context.Context, e entity) (*iampb.Subject, error) {
	homes, platform, err := v.homes(ctx, e)
	if err != nil {
		return nil, err
	}
	var all sight
	var in []string // organizations whose groups are shown
	may := platform
	for _, home := range homes {
		if v.organization != "" && home != v.organization || platform {
			continue
		}
		seen, err := v.at(ctx, home)
		if err != nil {
			return nil, err
		}
		if seen == nil || e.invitee != nil && !seen.invitations {
			continue
		}
		may = true
		all.attributes, all.phone = all.attributes || seen.attributes, all.phone || seen.phone
		if seen.groups {
			in = append(in, home)
		}
	}
	if e.id() == v.caller.ID && (v.organization == "" || slices.Contains(homes, v.organization)) {
		may, all, in = true, sight{attributes: true, phone: true}, homes
		if v.organization != "" {
			in = []string{v.organization}
		}
	}
	if may && e.id() != v.caller.ID {
		if may, err = v.mayRead(ctx, e); err != nil {
			return nil, err
		}
	}
	if !may {
		return nil, nil
	}
	return v.complete(ctx, e, all, in)
}

// What groups are shown for, since they are resources, too.
const (
	typeGroup = "organization-manager.group"
	permGroup = "organization-manager.groups.get"
)

// mayRead reports whether the caller may read a subject as a resource; of what is
// none everybody may.
func (v *viewer) mayRead(ctx context.Context, e entity) (bool, error) {
	permission, typ := "", ""
	switch {
	case e.account != nil:
		permission, typ = permissionGetAccount, typeAccount
	case e.group != nil:
		permission, typ = permGroup, typeGroup
	default:
		return true, nil
	}
	may, err := v.decider.AuthorizeEach(ctx, v.caller, permission, []authz.Resource{{Type: typ, ID: e.id()}})
	return err == nil && may[0], err
}

// complete makes the message of a subject that the caller may see; nil when the
// filter leaves it out.
func (v *viewer) complete(ctx context.Context, e entity, seen sight, organizations []string) (*iampb.Subject, error) {
	msg := e.message(seen, v.now())
	if !v.match.of(msg) {
		return nil, nil
	}
	if err := v.nameParents(ctx, msg, seen); err != nil {
		return nil, err
	}
	if v.wants("groups") && len(organizations) > 0 {
		groups, err := v.groupsOf(ctx, e, organizations)
		if err != nil {
			return nil, err
		}
		msg.Groups = groups
	}
	if len(v.mask.GetPaths()) > 0 {
		prune(msg.ProtoReflect(), v.mask.GetPaths())
	}
	return msg, nil
}

// nameParents fills in what the cloud and the folder of a service account are called,
// for who may see more than that it is there.
func (v *viewer) nameParents(ctx context.Context, msg *iampb.Subject, seen sight) error {
	account := msg.GetServiceAccount()
	if account == nil || !seen.attributes || !v.wants("service_account") {
		return nil
	}
	ids := []string{account.GetCloud().GetId(), account.GetFolder().GetId()}
	for _, resourceID := range ids {
		if _, known := v.names[resourceID]; known {
			continue
		}
		resp, err := v.resourceNames.BatchGetResourceNames(server.AsUnit(ctx), &brmv1.BatchGetResourceNamesRequest{Ids: ids})
		if err != nil {
			return fmt.Errorf("read names: %w", apierr.FromRPC(err))
		}
		for _, each := range ids {
			v.names[each] = resp.GetNames()[each]
		}
	}
	account.Cloud.Name, account.Folder.Name = v.names[ids[0]], v.names[ids[1]]
	return nil
}

// wants reports whether the mask leaves a field of a subject in.
func (v *viewer) wants(field string) bool {
	paths := v.mask.GetPaths()
	return len(paths) == 0 || slices.ContainsFunc(paths, func(p string) bool { return p == field || strings.HasPrefix(p, field+".") })
}

// groupsOf are the groups of some organizations that a subject is a direct member
// of, ordered by id.
func (v *viewer) groupsOf(ctx context.Context, e entity, organizations []string) ([]*iampb.Group, error) {
	types := map[iampb.SubjectType]string{
		iampb.SubjectType_USER_ACCOUNT: authn.UserAccount, iampb.SubjectType_SERVICE_ACCOUNT: authn.ServiceAccount, iampb.SubjectType_GROUP: "group",
	}
	typ := types[e.kind()]
	if e.user != nil {
		typ = subjectTypeOf(e.user.ID)
	}
	if typ == "" || e.system != nil {
		return nil, nil
	}
	resp, err := v.subjects.ListMemberships(server.AsUnit(ctx), &accessv1.ListMembershipsRequest{
		Subject: &accessv1.Subject{Type: typ, Id: e.id()}, ContainerType: typeGroup,
	})
	if err != nil {
		return nil, fmt.Errorf("list memberships: %w", apierr.FromRPC(err))
	}
	var ids []string
	for _, c := range resp.GetContainers() {
		ids = append(ids, c.GetId())
	}
	found, err := v.groups(ctx, ids)
	if err != nil {
		return nil, err
	}
	var all []*iampb.Group
	for _, g := range found {
		if slices.Contains(organizations, g.GetOrganizationId()) {
			all = append(all, &iampb.Group{Id: g.GetId(), Name: g.GetName(), Type: iampb.GroupType_EXPLICIT})
		}
	}
	slices.SortFunc(all, func(a, b *iampb.Group) int { return cmp.Compare(a.GetId(), b.GetId()) })
	return all, nil
}

// prune clears what no path leads to. The paths are valid ones.
func prune(m protoreflect.Message, paths []string) {
	keep := fieldmaskpb.FieldMask{Paths: paths}
	keep.Normalize()
	below := make(map[string][]string) // nil for a field that is kept whole
	for _, p := range keep.GetPaths() {
		name, rest, deeper := strings.Cut(p, ".")
		if below[name] = append(below[name], rest); !deeper {
			below[name] = nil
		}
	}
	m.Range(func(fd protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		rest, kept := below[string(fd.Name())]
		switch {
		case !kept:
			m.Clear(fd)
		case rest != nil:
			prune(value.Message(), rest)
		}
		return true
	})
}
