package main

import (
	"google.golang.org/protobuf/proto"

	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

const (
	keyService          = "yandex.cloud.iam.v1.KeyService/"
	refreshTokenService = "yandex.cloud.iam.v1.RefreshTokenService/"
	sessionService      = "bindery.identity.v1.SessionService/"
)

// makeKey makes an authorized key of a service account.
func makeKey(n *node) {
	made, err := iamv1.NewKeyServiceClient(n.w.Conn).Create(n.w.as(n.owner), &iamv1.CreateKeyRequest{ServiceAccountId: n.id})
	n.w.must(err)
	n.key = made.GetKey().GetId()
}

// keyRPCs are checked on the account of a key. Whoever names none means themselves:
// a user needs no permission for that.
var keyRPCs = []rpc{
	{
		method: keyService + "Get", on: account, guard: needs("iam.authorizedKeys.get"), prepare: makeKey,
		request: func(n *node) proto.Message { return &iamv1.GetKeyRequest{KeyId: n.key} },
	},
	{
		method: keyService + "List", on: account, guard: needs("iam.authorizedKeys.list"),
		request: func(n *node) proto.Message { return &iamv1.ListKeysRequest{ServiceAccountId: n.id} },
	},
	{
		method: keyService + "List", variant: "of oneself", guard: anySubject,
		request: fixed(&iamv1.ListKeysRequest{}),
	},
	{
		method: keyService + "Create", on: account, guard: needs("iam.authorizedKeys.create"),
		request: func(n *node) proto.Message { return &iamv1.CreateKeyRequest{ServiceAccountId: n.id} },
	},
	{
		method: keyService + "Create", variant: "for oneself", guard: anySubject,
		request: fixed(&iamv1.CreateKeyRequest{}),
	},
	{
		method: keyService + "Update", on: account, guard: needs("iam.authorizedKeys.update"), prepare: makeKey,
		request: func(n *node) proto.Message { return &iamv1.UpdateKeyRequest{KeyId: n.key, Description: "new"} },
	},
	{
		method: keyService + "ListOperations", on: account, guard: needs("iam.authorizedKeys.get"), prepare: makeKey,
		request: func(n *node) proto.Message { return &iamv1.ListKeyOperationsRequest{KeyId: n.key} },
	},
	{
		method: keyService + "Delete", on: account, guard: needs("iam.authorizedKeys.delete"), prepare: makeKey,
		request: func(n *node) proto.Message { return &iamv1.DeleteKeyRequest{KeyId: n.key} },
	},
}

// sessionRPCs: everybody has their own sessions; those of a member of an organization
// are open to whoever has the role there.
var sessionRPCs = []rpc{
	{
		method: refreshTokenService + "List", on: organization, guard: needs("iam.refreshTokens.list"), prepare: haveMember,
		request: func(n *node) proto.Message { return &iamv1.ListRefreshTokensRequest{SubjectId: n.member.id} },
	},
	{
		method: refreshTokenService + "List", variant: "of oneself", guard: anySubject,
		request: fixed(&iamv1.ListRefreshTokensRequest{}),
	},
	{
		method: refreshTokenService + "Revoke", on: organization, guard: needs("iam.refreshTokens.revoke"), prepare: haveMember,
		request: func(n *node) proto.Message { return revokeOf(n.member.id) },
	},
	{
		method: refreshTokenService + "Revoke", variant: "one of them", on: organization, guard: needs("iam.refreshTokens.revoke"), prepare: haveMember,
		request: func(n *node) proto.Message {
			return &iamv1.RevokeRefreshTokenRequest{
				Filter: &iamv1.RevokeRefreshTokenRequest_RefreshTokenId{RefreshTokenId: n.w.session(n.member).GetRefreshTokenId()},
			}
		},
	},
	{
		method: refreshTokenService + "Revoke", variant: "of oneself", guard: anySubject,
		request: fixed(revokeOf("")),
	},
	{
		method: refreshTokenService + "Revoke", variant: "by the token", guard: anySubject,
		request: func(n *node) proto.Message {
			return &iamv1.RevokeRefreshTokenRequest{
				Filter: &iamv1.RevokeRefreshTokenRequest_RefreshToken{RefreshToken: n.w.session(n.w.person()).GetRefreshToken()},
			}
		},
	},
	{
		method: sessionService + "CreateSession", guard: everybody,
		request: func(n *node) proto.Message { return newSession(n.w.person()) },
	},
	{
		method: sessionService + "RefreshSession", guard: everybody,
		request: func(n *node) proto.Message {
			return &identityv1.RefreshSessionRequest{RefreshToken: n.w.session(n.w.person()).GetRefreshToken()}
		},
	},
}

func revokeOf(subjectID string) *iamv1.RevokeRefreshTokenRequest {
	return &iamv1.RevokeRefreshTokenRequest{
		Filter: &iamv1.RevokeRefreshTokenRequest_RevokeFilter{RevokeFilter: &iamv1.RevokeFilter{SubjectId: subjectID}},
	}
}

func newSession(p person) *identityv1.CreateSessionRequest {
	return &identityv1.CreateSessionRequest{
		Identity: &identityv1.CreateSessionRequest_OauthToken{OauthToken: p.oauth}, ClientId: "access-test",
	}
}

// session signs somebody in.
func (w *accessWorld) session(p person) *identityv1.Session {
	w.t.Helper()
	made, err := identityv1.NewSessionServiceClient(w.Conn).CreateSession(w.t.Context(), newSession(p))
	w.must(err)
	return made.GetSession()
}
