package identity

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// jobEndSessions is the kind of the job that makes the tokens of ended sessions void.
const jobEndSessions = "end-sessions"

// ending is its payload.
type ending struct {
	Operation string        `json:"operation,omitempty"` // done when the tokens are void; "" for none
	Sessions  []endingOfOne `json:"sessions"`
}

type endingOfOne struct {
	ID        string `json:"id"`
	Key       []byte `json:"key"`        // as in the IAM tokens
	ExpiresAt int64  `json:"expires_at"` // microseconds
}

// endingOf is the payload for sessions.
func endingOf(operationID string, all []Session) ending {
	e := ending{Operation: operationID}
	for _, n := range all {
		e.Sessions = append(e.Sessions, endingOfOne{n.ID, n.Key[:], sqldb.Micros(n.ExpiresAt)})
	}
	return e
}

// endSessions makes the tokens of sessions void (TK-5), and then forgets the
// sessions: nothing of them is accepted any more. A token by which its user acts as a
// service account also names the session, so the fact stays for as long as one that
// was asked for in the last moment could.
func (s *Service) endSessions(ctx context.Context, e ending) error {
	req := new(accessv1.RevokeSessionsRequest)
	resp := new(iamv1.RevokeRefreshTokenResponse)
	for _, n := range e.Sessions {
		req.Sessions = append(req.Sessions, &accessv1.RevokedSession{
			SessionId: n.Key, ExpiresAt: timestamppb.New(sqldb.Time(n.ExpiresAt).Add(authn.MaxTokenLife)),
		})
		resp.RefreshTokenIds = append(resp.RefreshTokenIds, n.ID)
	}
	if _, err := s.subjects.RevokeSessions(server.AsUnit(ctx), req); err != nil {
		return apierr.FromRPC(err)
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		for _, n := range e.Sessions {
			if err := s.store.DeleteSession(ctx, tx, n.ID); err != nil {
				return err
			}
		}
		if e.Operation == "" {
			return nil
		}
		return s.operations.Finish(ctx, tx, e.Operation, nil, resp)
	})
}

// endSession ends a session for a cause, which its record tells. One that is over is none
// to end.
func (s *Service) endSession(ctx context.Context, sessionID, cause string) error {
	var ticket jobs.Ticket
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		n, err := s.store.LockSession(ctx, tx, sessionID)
		if err != nil {
			return err
		}
		if err := s.store.RevokeSession(ctx, tx, n.ID); err != nil {
			return err
		}
		err = s.recordEvent(ctx, tx, event{
			name: "credential.RevokeRefreshTokenForSubject", path: []audit.Resource{{Type: typeUserAccount, ID: n.UserID}},
			details: map[string]any{"refresh_token_ids": []string{n.ID}, "client_id": n.ClientID, "cause": cause},
		})
		if err != nil {
			return err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobEndSessions, Payload: endingOf("", []Session{n})})
		return err
	})
	if errors.Is(err, errRefreshTokenNotFound) {
		return nil // somebody else has ended it
	}
	if err != nil {
		return err
	}
	return s.jobs.Do(ctx, ticket)
}

// Sessions that ended by themselves are forgotten from time to time.
const (
	dropEvery = 10 * time.Minute
	dropAfter = time.Hour // their end; their tokens have ended long before
)

// dropSessions forgets the sessions that ended by themselves, and what sign-ins left.
func (s *Service) dropSessions(ctx context.Context) error {
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.store.DropSignIns(ctx, tx, s.now().Add(-dropAfter)); err != nil {
			return err
		}
		return s.store.DropSessions(ctx, tx, s.now().Add(-dropAfter))
	})
}
