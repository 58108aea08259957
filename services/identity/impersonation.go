package identity

import (
	"context"
	"database/sql"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// CreateForServiceAccount issues a token by which the caller acts as a service
// account, with exactly what the account may do (IM-1, TK-7). The token names the
// caller, so that audit records do; it ends after 12 hours (TK-1), with the account,
// and with the session that the caller's own token came from (TK-5). Taking the role
// away ends new tokens only (IM-2). Fails: SERVICE_ACCOUNT_NOT_FOUND,
// SERVICE_ACCOUNT_NOT_ACTIVE for one that is suspended, at its end or being deleted.
func (t *tokens) CreateForServiceAccount(ctx context.Context, req *iamv1.CreateIamTokenForServiceAccountRequest) (*iamv1.CreateIamTokenResponse, error) {
	a, err := t.store.ServiceAccount(ctx, t.store.db, req.GetServiceAccountId())
	if err != nil {
		return nil, err
	}
	now := t.now()
	if !a.MayAct(now) {
		return nil, errAccountNotActive(a, now)
	}
	path, err := t.pathTo(ctx, a.resource())
	if err != nil {
		return nil, err
	}
	path[len(path)-1].Name = a.Name
	until := a.ExpiresAt
	p := authn.FromContext(ctx)
	if p.Session != (authn.TokenID{}) { // the caller's own token ends with it, and so does this one
		_, end, err := t.tokens.Inspect(ctx, p.Token)
		if err != nil {
			return nil, err
		}
		if !end.After(now) {
			return nil, errSessionOver
		}
		if until.IsZero() || end.Before(until) {
			until = end
		}
	}
	token, err := t.issuer.IssueGrant(authn.Grant{
		Type: authn.ServiceAccount, ID: a.ID, Session: p.Session, Actor: authn.Actor{Type: p.Type, ID: p.ID}, Until: until,
	}, authn.MaxTokenLife)
	if err != nil {
		return nil, err
	}
	err = sqldb.InTx(ctx, t.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return t.recordEvent(ctx, tx, event{
			name: "CreateIamToken", status: audit.Done, permission: permissionActAsAccount, on: a.resource(), path: path,
			details: map[string]any{"expires_at": token.ExpiresAt},
		})
	})
	if err != nil {
		return nil, err
	}
	return &iamv1.CreateIamTokenResponse{IamToken: token.Text, ExpiresAt: timestamppb.New(token.ExpiresAt)}, nil
}
