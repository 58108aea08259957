package identity

import (
	"context"
	"database/sql"
	"errors"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Permissions over the refresh tokens of others, on an organization that these are
// members of (AS-11).
const (
	listRefreshTokens   = "iam.refreshTokens.list"
	revokeRefreshTokens = "iam.refreshTokens.revoke"
)

// refreshTokens is yandex.cloud.iam.v1.RefreshTokenService.
type refreshTokens struct {
	iamv1.UnimplementedRefreshTokenServiceServer
	*Service
}

// List reads one page of the live refresh tokens of a subject, oldest first (NM-7).
// Fails: USER_NOT_FOUND, PERMISSION_DENIED.
func (s *refreshTokens) List(ctx context.Context, req *iamv1.ListRefreshTokensRequest) (*iamv1.ListRefreshTokensResponse, error) {
	f, err := filter.Parse(req.GetFilter(), "client_id")
	if err != nil {
		return nil, err
	}
	who := subjectOrCaller(ctx, req.GetSubjectId())
	if _, err := s.overTokensOf(ctx, who, listRefreshTokens); err != nil {
		return nil, err
	}
	scope := []string{"refresh tokens", who, f.Field, f.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	resp := new(iamv1.ListRefreshTokensResponse)
	if f.Field != "" && f.Value == "" {
		return resp, nil // no client has an empty id
	}
	size := page.Size(req.GetPageSize())
	found, err := s.store.Sessions(ctx, s.store.db, SessionQuery{UserID: who, ClientID: f.Value, LiveAt: s.now()}, after, size+1)
	if err != nil {
		return nil, err
	}
	fit := page.Fit(min(len(found), size), func(i int) int { return proto.Size(found[i].message()) })
	for _, n := range found[:fit] {
		resp.RefreshTokens = append(resp.RefreshTokens, n.message())
	}
	if fit < len(found) {
		resp.NextPageToken, err = s.pages.Seal(found[fit-1].position(), scope...)
	}
	return resp, err
}

// Revoke ends sessions: when its operation is done, nobody accepts their refresh
// tokens, nor any IAM token that came from them (TK-5). A filter that nothing fits
// is no failure. Fails: REFRESH_TOKEN_NOT_FOUND, USER_NOT_FOUND, PERMISSION_DENIED.
func (s *refreshTokens) Revoke(ctx context.Context, req *iamv1.RevokeRefreshTokenRequest) (*operationpb.Operation, error) {
	who, path, pick, err := s.revoked(ctx, req)
	if err != nil {
		return nil, err
	}
	var ticket jobs.Ticket
	var left bool // something to be done after the transaction
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		ending, err := pick(ctx, tx)
		if err != nil {
			return op, err
		}
		resp := new(iamv1.RevokeRefreshTokenResponse)
		for _, n := range ending {
			resp.RefreshTokenIds = append(resp.RefreshTokenIds, n.ID)
			if err := s.store.RevokeSession(ctx, tx, n.ID); err != nil {
				return op, err
			}
		}
		left = len(ending) > 0
		made := operation.New{
			Resource: authz.Resource{Type: typeUserAccount, ID: who}, ViewPermission: listRefreshTokens, Description: "Revoke refresh tokens",
			CreatedBy: authn.FromContext(ctx).ID,
			Metadata:  &iamv1.RevokeRefreshTokenMetadata{SubjectId: who, RefreshTokenIds: resp.GetRefreshTokenIds()},
		}
		if !left {
			made.Response = resp
		}
		if op, err = s.operations.Insert(ctx, tx, made); err != nil || !left {
			return op, err
		}
		if err := s.recordEvent(ctx, tx, event{
			name: "credential.RevokeRefreshTokenForSubject", path: path, details: map[string]any{"refresh_token_ids": resp.GetRefreshTokenIds()},
		}); err != nil {
			return op, err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobEndSessions, Payload: endingOf(op.ID, ending)})
		return op, err
	})
	if err != nil {
		return nil, err
	}
	if again || !left {
		return op.Answer()
	}
	return s.finish(ctx, op, ticket)
}

// revoked says whose refresh tokens a request means, what the audit record is about,
// and which they are: pick is run in the transaction that revokes them. One that is
// revoked already but still accepted by somebody is picked again, so that what is
// told to be done is in force.
func (s *Service) revoked(ctx context.Context, req *iamv1.RevokeRefreshTokenRequest) (
	who string, path []audit.Resource, pick func(context.Context, *sql.Tx) ([]Session, error), err error,
) {
	one := func(sessionID string) func(context.Context, *sql.Tx) ([]Session, error) {
		return func(ctx context.Context, tx *sql.Tx) ([]Session, error) {
			n, err := s.store.LockSession(ctx, tx, sessionID)
			return []Session{n}, err
		}
	}
	switch by := req.GetFilter().(type) {
	case *iamv1.RevokeRefreshTokenRequest_RefreshTokenId:
		n, err := s.store.Session(ctx, s.store.db, by.RefreshTokenId)
		if err != nil {
			return "", nil, nil, err
		}
		path, err = s.overTokensOf(ctx, n.UserID, revokeRefreshTokens)
		return n.UserID, path, one(n.ID), err
	case *iamv1.RevokeRefreshTokenRequest_RefreshToken:
		n, err := s.held(ctx, by.RefreshToken)
		return n.UserID, []audit.Resource{{Type: typeUserAccount, ID: n.UserID}}, one(n.ID), err
	default:
		f := req.GetRevokeFilter()
		who = subjectOrCaller(ctx, f.GetSubjectId())
		path, err = s.overTokensOf(ctx, who, revokeRefreshTokens)
		return who, path, func(ctx context.Context, tx *sql.Tx) ([]Session, error) {
			query := SessionQuery{UserID: who, ClientID: f.GetClientId(), Instance: f.GetClientInstanceInfo()}
			return s.store.Sessions(ctx, tx, query, page.Position{}, maxSessions)
		}, err
	}
}

// held returns the session of a refresh token, one that was used before included:
// whoever holds it may end the session. Fails: REFRESH_TOKEN_NOT_FOUND.
func (s *Service) held(ctx context.Context, text string) (Session, error) {
	sessionID, ok := sessionOf(text)
	if !ok {
		return Session{}, apierr.InvalidField("refresh_token", "must be a refresh token of this installation")
	}
	if _, err := s.store.RefreshTokenUsed(ctx, s.store.db, sessionID, hashRefreshToken(text)); err != nil {
		return Session{}, err
	}
	return s.store.Session(ctx, s.store.db, sessionID)
}

// subjectOrCaller is the subject of a request: the caller when none is named.
func subjectOrCaller(ctx context.Context, subjectID string) string {
	if subjectID == "" {
		return authn.FromContext(ctx).ID
	}
	return subjectID
}

// overTokensOf refuses whoever has no right over the refresh tokens of a subject:
// everybody has over their own; over those of another user, who holds the permission
// on one of the organizations that the user is a member of. It returns what an audit
// record is about. Fails: USER_NOT_FOUND, PERMISSION_DENIED.
func (s *Service) overTokensOf(ctx context.Context, who, permission string) ([]audit.Resource, error) {
	p := authn.FromContext(ctx)
	about := []audit.Resource{{Type: typeUserAccount, ID: who}}
	if p.ID == who {
		return about, nil
	}
	if u, err := s.store.User(ctx, s.store.db, who); err != nil {
		return nil, err
	} else if !u.exists() {
		return nil, errUserNotFound
	}
	resp, err := s.subjects.ListMemberships(server.AsUnit(ctx), &accessv1.ListMembershipsRequest{
		Subject: &accessv1.Subject{Type: subjectTypeOf(who), Id: who}, ContainerType: typeOrganization,
	})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	var organizations []authz.Resource
	for _, c := range resp.GetContainers() {
		organizations = append(organizations, authz.Resource{Type: c.GetType(), ID: c.GetId()})
	}
	if len(organizations) > authz.MaxEach {
		return nil, apierr.Internal(errors.New("a user of too many organizations"))
	}
	may, err := s.decider.AuthorizeEach(ctx, p, permission, organizations)
	if err != nil {
		return nil, err
	}
	for i, o := range organizations {
		if may[i] {
			return append([]audit.Resource{{Type: o.Type, ID: o.ID}}, about...), nil
		}
	}
	return nil, apierr.Denied(apierr.ReasonPermissionDenied, "permission %s is missing on the organizations of user %q", permission, who).
		WithMeta("permission", permission, "resourceType", typeOrganization)
}

// message is a session as it is shown.
func (s Session) message() *iamv1.RefreshToken {
	return &iamv1.RefreshToken{
		Id: s.ID, ClientInstanceInfo: s.Instance, ClientId: s.ClientID, SubjectId: s.UserID,
		CreatedAt: timestamppb.New(s.CreatedAt), ExpiresAt: timestamppb.New(s.ExpiresAt), LastUsedAt: timestamppb.New(s.LastUsedAt),
		ProtectionLevel: iamv1.RefreshToken_NO_PROTECTION,
	}
}
