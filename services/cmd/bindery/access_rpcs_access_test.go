package main

import (
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/authn"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

var identityRPCs = []rpc{
	{
		method: "yandex.cloud.iam.v1.IamTokenService/Create", guard: everybody,
		request: func(n *node) proto.Message {
			return &iamv1.CreateIamTokenRequest{Identity: &iamv1.CreateIamTokenRequest_YandexPassportOauthToken{YandexPassportOauthToken: n.w.person().oauth}}
		},
	},
	{
		method: "yandex.cloud.iam.v1.IamTokenService/CreateForServiceAccount", on: account, guard: needs("iam.serviceAccounts.createToken"),
		request: func(n *node) proto.Message {
			return &iamv1.CreateIamTokenForServiceAccountRequest{ServiceAccountId: n.id}
		},
	},
	{
		method: "yandex.cloud.iam.v1.IamTokenService/Revoke", guard: anySubject,
		request: func(n *node) proto.Message { return &iamv1.RevokeIamTokenRequest{IamToken: n.w.person().token} },
	},
	{
		method: "yandex.cloud.iam.v1.RoleService/Get", guard: anySubject,
		request: fixed(&iamv1.GetRoleRequest{RoleId: "viewer"}),
	},
	{
		method: "yandex.cloud.iam.v1.RoleService/List", guard: anySubject,
		request: fixed(&iamv1.ListRolesRequest{}),
	},
	{
		method: "yandex.cloud.iam.v1.AccessPolicyTemplateService/List", guard: anySubject,
		request: fixed(&iamv1.ListAccessPolicyTemplatesRequest{}),
	},
	{
		method: "yandex.cloud.iam.v1.UserAccountService/Get", guard: anySubject,
		request: func(n *node) proto.Message { return &iamv1.GetUserAccountRequest{UserAccountId: n.w.person().id} },
	},
	{
		method: "yandex.cloud.iam.v1.YandexPassportUserAccountService/GetByLogin", guard: anySubject,
		request: func(n *node) proto.Message { return &iamv1.GetUserAccountByLoginRequest{Login: n.w.person().login} },
	},
	{
		method: "bindery.identity.v1.SigningKeyService/ListSigningKeys", guard: guard{public: true},
		request: fixed(&identityv1.ListSigningKeysRequest{}),
	},
}

var directoryRPCs = []rpc{
	{
		method: "bindery.identity.v1.DirectoryService/BatchGetSubjects", guard: guard{units: []string{"accessbindings", "marketplacerequests", "notifications", "partner", "resourcemanager"}},
		request: func(n *node) proto.Message {
			return &identityv1.BatchGetSubjectsRequest{Ids: []string{n.w.person().id}}
		},
	},
}

var operatorRPCs = []rpc{
	{
		method: "bindery.identity.v1.OperatorService/CreateUser", guard: guard{operator: true},
		request: func(n *node) proto.Message {
			login := n.w.unique()
			return &identityv1.CreateUserRequest{Login: login, Email: login + "@example.com"}
		},
	},
	{
		method: "bindery.identity.v1.OperatorService/CreateToken", guard: guard{operator: true},
		request: func(n *node) proto.Message { return &identityv1.CreateTokenRequest{Login: n.w.foreigner.login} },
	},
	{
		method: "bindery.identity.v1.OperatorService/RotateSigningKey", guard: guard{operator: true},
		request: fixed(&identityv1.RotateSigningKeyRequest{}),
	},
}

// Credentials in a request prove the caller themselves. Whoever asks about a
// subject by its name must be a subject or a unit.
var (
	anyUnit   = guard{units: suiteUnits}
	whoeverIs = guard{authenticated: true, units: suiteUnits}
	askers    = guard{permission: "iam.access.check", units: suiteUnits}
)

const checkService = "yandex.cloud.priv.accessservice.v2.AccessService/"

var checkRPCs = []rpc{
	{
		method: checkService + "Authenticate", variant: "a token", guard: everybody,
		request: func(n *node) proto.Message {
			return &accessservicev2.AuthenticateRequest{Credentials: &accessservicev2.AuthenticateRequest_IamToken{IamToken: n.w.person().token}}
		},
	},
	{
		method: checkService + "Authenticate", variant: "nothing", guard: whoeverIs,
		request: fixed(&accessservicev2.AuthenticateRequest{}), inside: codes.InvalidArgument,
	},
	{
		method: checkService + "Authorize", variant: "of a token", on: folder, guard: everybody,
		request: func(n *node) proto.Message {
			return &accessservicev2.AuthorizeRequest{
				Identity:   &accessservicev2.AuthorizeRequest_IamToken{IamToken: n.owner.token},
				Permission: "resource-manager.folders.get", ResourcePath: n.asked(),
			}
		},
	},
	{
		method: checkService + "Authorize", variant: "of a subject", on: folder, guard: askers,
		request: func(n *node) proto.Message {
			return &accessservicev2.AuthorizeRequest{
				Identity:   &accessservicev2.AuthorizeRequest_Subject{Subject: n.owner.asked()},
				Permission: "resource-manager.folders.get", ResourcePath: n.asked(),
			}
		},
	},
	{
		method: checkService + "BulkAuthorize", variant: "of a token", on: folder, guard: everybody,
		request: func(n *node) proto.Message {
			return &accessservicev2.BulkAuthorizeRequest{
				Identity:       &accessservicev2.BulkAuthorizeRequest_IamToken{IamToken: n.owner.token},
				Authorizations: questions(n),
			}
		},
	},
	{
		method: checkService + "BulkAuthorize", variant: "of a subject", on: folder, guard: askers,
		request: func(n *node) proto.Message {
			return &accessservicev2.BulkAuthorizeRequest{
				Identity:       &accessservicev2.BulkAuthorizeRequest_Subject{Subject: n.owner.asked()},
				Authorizations: questions(n),
			}
		},
	},
}

func questions(n *node) *accessservicev2.BulkAuthorizeRequest_Actions_ {
	return &accessservicev2.BulkAuthorizeRequest_Actions_{Actions: &accessservicev2.BulkAuthorizeRequest_Actions{
		Items: []*accessservicev2.BulkAuthorizeRequest_Action{{Permission: "resource-manager.folders.get", ResourcePath: n.asked()}},
	}}
}

// asked is the resource as the checker is asked about it.
func (n *node) asked() []*accessservicev2.Resource {
	return []*accessservicev2.Resource{{Type: string(n.kind), Id: n.id}}
}

func (p person) asked() *accessservicev2.Subject {
	return &accessservicev2.Subject{Type: &accessservicev2.Subject_UserAccount_{UserAccount: &accessservicev2.Subject_UserAccount{Id: p.id}}}
}

// A unit registers, moves and removes resources of its own types only.
var (
	onlyManager  = guard{units: []string{"resourcemanager"}}
	onlyIdentity = guard{units: []string{"identity"}}
	bothOfThem   = guard{units: []string{"identity", "resourcemanager"}}

	namesOfSubjects = guard{units: []string{"identity", "notifications", "resourcemanager"}}
)

var treeRPCs = []rpc{
	{
		method: "bindery.access.v1.ResourceService/RegisterResource", variant: "a folder", on: cloud, guard: onlyManager,
		request: func(n *node) proto.Message {
			return &accessv1.RegisterResourceRequest{Resource: &accessv1.Resource{Type: string(folder), Id: n.w.unique()}, Parent: n.resource()}
		},
	},
	{
		method: "bindery.access.v1.ResourceService/RegisterResource", variant: "a service account", on: folder, guard: onlyIdentity,
		request: func(n *node) proto.Message {
			return &accessv1.RegisterResourceRequest{Resource: &accessv1.Resource{Type: string(account), Id: n.w.unique()}, Parent: n.resource()}
		},
	},
	{
		method: "bindery.access.v1.ResourceService/MoveResource", on: cloud, guard: onlyManager,
		request: func(n *node) proto.Message {
			return &accessv1.MoveResourceRequest{Resource: n.resource(), Parent: n.w.root().resource()}
		},
	},
	{
		method: "bindery.access.v1.ResourceService/RemoveResource", on: folder, guard: onlyManager,
		request: func(n *node) proto.Message { return &accessv1.RemoveResourceRequest{Resource: n.resource()} },
	},
	{
		method: "bindery.access.v1.ChangeService/Follow", on: organization,
		guard: guard{units: suiteUnits, permission: "organization-manager.accessChanges.follow"},
		request: func(n *node) proto.Message {
			return &accessv1.FollowRequest{Message: &accessv1.FollowRequest_Start_{Start: &accessv1.FollowRequest_Start{OrganizationId: n.id}}}
		},
	},
	{
		method: "bindery.access.v1.ResourceService/GetResourcePath", on: folder, guard: anyUnit,
		request: func(n *node) proto.Message { return &accessv1.GetResourcePathRequest{Resource: n.resource()} },
	},
	{
		method: "bindery.access.v1.ResourceService/ListRemovedResources", guard: anyUnit,
		request: fixed(&accessv1.ListRemovedResourcesRequest{Type: string(account), After: &accessv1.RemovalPlace{Id: "x"}}),
	},
	{
		method: "bindery.access.v1.SubjectService/SetSubject", guard: onlyIdentity,
		request: func(n *node) proto.Message {
			return &accessv1.SetSubjectRequest{Subject: n.w.person().subject(), State: accessv1.SetSubjectRequest_SUSPENDED}
		},
	},
	{
		method: "bindery.access.v1.SubjectService/UpdateMembers", on: organization, guard: bothOfThem,
		request: func(n *node) proto.Message {
			return &accessv1.UpdateMembersRequest{Container: n.resource(), Add: []*accessv1.Subject{n.w.person().subject()}}
		},
	},
	{
		method: "bindery.access.v1.SubjectService/UpdateMemberships", on: organization, guard: onlyIdentity,
		request: func(n *node) proto.Message {
			return &accessv1.UpdateMembershipsRequest{Subject: n.owner.subject(), OrganizationId: n.id, RemoveGroupIds: []string{"x"}}
		},
	},
	{
		method: "bindery.access.v1.SubjectService/RevokeToken", guard: onlyIdentity,
		request: fixed(&accessv1.RevokeTokenRequest{TokenId: make([]byte, 16), ExpiresAt: timestamppb.Now()}),
	},
	{
		method: "bindery.access.v1.SubjectService/RevokeSessions", guard: onlyIdentity,
		request: fixed(&accessv1.RevokeSessionsRequest{
			Sessions: []*accessv1.RevokedSession{{SessionId: make([]byte, 16), ExpiresAt: timestamppb.Now()}},
		}),
	},
	{
		method: "bindery.access.v1.SubjectService/ListMemberships", on: organization, guard: bothOfThem,
		request: func(n *node) proto.Message {
			return &accessv1.ListMembershipsRequest{Subject: n.owner.subject(), ContainerType: string(organization)}
		},
	},
	{
		method: "bindery.access.v1.SubjectService/ListMembers", on: organization, guard: namesOfSubjects,
		request: func(n *node) proto.Message { return &accessv1.ListMembersRequest{Container: n.resource()} },
	},
	{
		method: "bindery.access.v1.SubjectService/RemoveMembership", on: organization, guard: bothOfThem,
		request: func(n *node) proto.Message {
			return &accessv1.RemoveMembershipRequest{OrganizationId: n.id, Subject: n.w.person().subject()}
		},
	},
	{
		method: "bindery.access.v1.SubjectService/BatchGetGroups", guard: namesOfSubjects,
		request: fixed(&accessv1.BatchGetGroupsRequest{Ids: []string{"grp1"}}),
	},
	{
		method: "bindery.access.v1.OperationLogService/ListOperations", on: cloud, guard: anyUnit,
		request: func(n *node) proto.Message { return &accessv1.ListOperationsRequest{Resource: n.resource()} },
	},
}

// ownerRoles are the roles that only owners give and take (AS-4).
var ownerRoles = map[kind]string{
	organization: "organization-manager.organizations.owner",
	cloud:        "resource-manager.clouds.owner",
	billing:      "billing.accounts.owner",
}

// bindings is a list that leaves a resource its owner (OW-3), and new pairs.
func bindings(n *node, roles ...string) []*accessv1.AccessBinding {
	var all []*accessv1.AccessBinding
	if role := ownerRoles[n.kind]; role != "" {
		all = append(all, &accessv1.AccessBinding{RoleId: role, Subject: n.owner.subject()})
	}
	for _, role := range roles {
		all = append(all, &accessv1.AccessBinding{RoleId: role, Subject: n.w.person().subject()})
	}
	return all
}

// bindSomebody makes an operation of accessbindings on a node.
func bindSomebody(n *node) {
	op, err := accessv1.NewAccessBindingServiceClient(n.w.Conn).UpdateAccessBindings(n.w.as(n.owner), &accessv1.UpdateAccessBindingsRequest{
		Resource: n.resource(), AccessBindingDeltas: []*accessv1.AccessBindingDelta{addition("viewer", n.w.person())},
	})
	n.w.must(err)
	n.operation = op.GetId()
}

// ownBindingRPCs are the uses of our own AccessBindingService for a kind.
func ownBindingRPCs(k kind, prefix string) []rpc {
	const service = "bindery.access.v1.AccessBindingService/"
	manage, variant := needs(prefix+".updateAccessBindings"), k.word()
	rpcs := []rpc{
		{
			method: service + "ListAccessBindings", variant: variant, on: k, guard: needs(prefix + ".listAccessBindings"),
			request: func(n *node) proto.Message { return &accessv1.ListAccessBindingsRequest{Resource: n.resource()} },
		},
		{
			method: service + "SetAccessBindings", variant: variant, on: k, guard: manage,
			request: func(n *node) proto.Message {
				return &accessv1.SetAccessBindingsRequest{Resource: n.resource(), AccessBindings: bindings(n, assigned(k))}
			},
		},
		{
			method: service + "UpdateAccessBindings", variant: variant, on: k, guard: manage,
			request: func(n *node) proto.Message {
				return &accessv1.UpdateAccessBindingsRequest{
					Resource: n.resource(), AccessBindingDeltas: []*accessv1.AccessBindingDelta{addition(assigned(k), n.w.person())},
				}
			},
		},
	}
	owner := ownerRoles[k]
	if owner == "" {
		return rpcs
	}
	assign := needs(prefix + ".assignOwner")
	return append(rpcs,
		rpc{
			method: service + "SetAccessBindings", variant: variant + " with a new owner", on: k, guard: assign,
			request: func(n *node) proto.Message {
				return &accessv1.SetAccessBindingsRequest{Resource: n.resource(), AccessBindings: bindings(n, owner)}
			},
		},
		rpc{
			method: service + "UpdateAccessBindings", variant: variant + " with a new owner", on: k, guard: assign,
			request: func(n *node) proto.Message {
				return &accessv1.UpdateAccessBindingsRequest{
					Resource: n.resource(), AccessBindingDeltas: []*accessv1.AccessBindingDelta{addition(owner, n.w.person())},
				}
			},
		})
}

// assigned is a role that fits a kind and is no owner's.
func assigned(k kind) string {
	if k == account {
		return "iam.serviceAccounts.user"
	}
	return "viewer"
}

// publicBindingRPCs are the methods on access bindings and policies that the
// public service of each kind has.
func publicBindingRPCs(service string, k kind, prefix string) []rpc {
	manage, managePolicies := needs(prefix+".updateAccessBindings"), needs(prefix+".updateAccessPolicyBindings")
	rpcs := []rpc{
		{method: "ListAccessBindings", guard: needs(prefix + ".listAccessBindings"), request: func(n *node) proto.Message {
			return &accesspb.ListAccessBindingsRequest{ResourceId: n.id}
		}},
		{method: "SetAccessBindings", guard: manage, request: setPublic("viewer")},
		{method: "UpdateAccessBindings", guard: manage, request: updatePublic("viewer")},
	}
	policies := []rpc{
		{method: "ListAccessPolicyBindings", guard: needs(prefix + ".listAccessPolicyBindings"), request: func(n *node) proto.Message {
			return &accesspb.ListAccessPolicyBindingsRequest{ResourceId: n.id}
		}},
		{method: "BindAccessPolicy", guard: managePolicies, request: func(n *node) proto.Message {
			return &accesspb.BindAccessPolicyRequest{ResourceId: n.id, AccessPolicyBinding: harmless}
		}},
		{method: "UnbindAccessPolicy", guard: managePolicies, prepare: bindHarmless, request: func(n *node) proto.Message {
			return &accesspb.UnbindAccessPolicyRequest{ResourceId: n.id, AccessPolicyTemplateId: harmless.GetAccessPolicyTemplateId()}
		}},
		{method: "UpdateAccessPolicyBindingParameters", guard: managePolicies, prepare: bindHarmless, request: func(n *node) proto.Message {
			return &accesspb.UpdateAccessPolicyBindingParametersRequest{ResourceId: n.id, AccessPolicyBinding: harmless}
		}},
	}
	if slices.Contains([]kind{organization, cloud, folder}, k) { // AP-2
		rpcs = append(rpcs, policies...)
	}
	if owner := ownerRoles[k]; owner != "" {
		assign := needs(prefix + ".assignOwner")
		rpcs = append(rpcs,
			rpc{method: "SetAccessBindings", variant: "with a new owner", guard: assign, request: setPublic(owner)},
			rpc{method: "UpdateAccessBindings", variant: "with a new owner", guard: assign, request: updatePublic(owner)})
	}
	if k == billing { // AB-4
		rpcs = slices.DeleteFunc(rpcs, func(r rpc) bool { return r.method == "SetAccessBindings" })
	}
	for i := range rpcs {
		rpcs[i].method, rpcs[i].on = service+"/"+rpcs[i].method, k
	}
	return slices.Clip(rpcs)
}

// harmless is a policy that denies nothing that other fixtures do on the node.
var harmless = &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: "iam.denyServiceAccountFederatedCredentialsCreation"}

// bindHarmless binds it.
func bindHarmless(n *node) {
	_, err := accessv1.NewAccessPolicyServiceClient(n.w.Conn).BindAccessPolicy(n.w.as(n.owner),
		&accessv1.BindAccessPolicyRequest{Resource: n.resource(), AccessPolicyBinding: harmless})
	n.w.must(err)
}

// ownPolicyRPCs are the uses of our own AccessPolicyService for a kind.
func ownPolicyRPCs(k kind, prefix string) []rpc {
	const service = "bindery.access.v1.AccessPolicyService/"
	manage, variant := needs(prefix+".updateAccessPolicyBindings"), k.word()
	return []rpc{
		{
			method: service + "ListAccessPolicyBindings", variant: variant, on: k, guard: needs(prefix + ".listAccessPolicyBindings"),
			request: func(n *node) proto.Message { return &accessv1.ListAccessPolicyBindingsRequest{Resource: n.resource()} },
		},
		{
			method: service + "BindAccessPolicy", variant: variant, on: k, guard: manage,
			request: func(n *node) proto.Message {
				return &accessv1.BindAccessPolicyRequest{Resource: n.resource(), AccessPolicyBinding: harmless}
			},
		},
		{
			method: service + "UnbindAccessPolicy", variant: variant, on: k, guard: manage, prepare: bindHarmless,
			request: func(n *node) proto.Message {
				return &accessv1.UnbindAccessPolicyRequest{Resource: n.resource(), AccessPolicyTemplateId: harmless.GetAccessPolicyTemplateId()}
			},
		},
		{
			method: service + "UpdateAccessPolicyBindingParameters", variant: variant, on: k, guard: manage, prepare: bindHarmless,
			request: func(n *node) proto.Message {
				return &accessv1.UpdateAccessPolicyBindingParametersRequest{Resource: n.resource(), AccessPolicyBinding: harmless}
			},
		},
	}
}

func setPublic(role string) func(*node) proto.Message {
	return func(n *node) proto.Message {
		req := &accesspb.SetAccessBindingsRequest{ResourceId: n.id}
		for _, b := range bindings(n, role) {
			req.AccessBindings = append(req.AccessBindings, publicBinding(b))
		}
		return req
	}
}

func updatePublic(role string) func(*node) proto.Message {
	return func(n *node) proto.Message {
		d := addition(role, n.w.person())
		return &accesspb.UpdateAccessBindingsRequest{ResourceId: n.id, AccessBindingDeltas: []*accesspb.AccessBindingDelta{
			{Action: d.GetAction(), AccessBinding: publicBinding(d.GetAccessBinding())},
		}}
	}
}

func publicBinding(b *accessv1.AccessBinding) *accesspb.AccessBinding {
	return &accesspb.AccessBinding{RoleId: b.GetRoleId(), Subject: &accesspb.Subject{Type: authn.UserAccount, Id: b.GetSubject().GetId()}}
}
