package identity

import (
	"context"
	"database/sql"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// jobEndWorkloadTokens makes the tokens void that were issued for federated credentials
// (WI-3).
const jobEndWorkloadTokens = "end-workload-tokens"

// workloadEnding is its payload.
type workloadEnding struct {
	Operation string   `json:"operation,omitempty"` // done when the tokens are void; "" for none
	Updated   string   `json:"updated,omitempty"`   // the federation that it answers with; "" for nothing
	Sessions  [][]byte `json:"sessions"`
}

// sessionsAtOnce is how many sessions the checker ends in one change.
const sessionsAtOnce = 1000

func sessionsOf(all []FederatedCredential) [][]byte {
	var sessions [][]byte
	for _, c := range all {
		sessions = append(sessions, c.Session[:])
	}
	return sessions
}

// endTokensOf makes all tokens of sessions void, those that are yet to be issued too. A
// token of a workload by which it acts as a further account names the session as well,
// so the facts stay for as long as one that was asked for in the last moment could.
func (s *Service) endTokensOf(ctx context.Context, sessions [][]byte) error {
	until := timestamppb.New(s.now().Add(2 * authn.MaxTokenLife))
	for chunk := range slices.Chunk(sessions, sessionsAtOnce) {
		req := new(accessv1.RevokeSessionsRequest)
		for _, session := range chunk {
			req.Sessions = append(req.Sessions, &accessv1.RevokedSession{SessionId: session, ExpiresAt: until})
		}
		if _, err := s.subjects.RevokeSessions(server.AsUnit(ctx), req); err != nil {
			return apierr.FromRPC(err)
		}
	}
	return nil
}

// endWorkloadTokens is the job.
func (s *Service) endWorkloadTokens(ctx context.Context, job workloadEnding) error {
	if err := s.endTokensOf(ctx, job.Sessions); err != nil || job.Operation == "" {
		return err
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		var response proto.Message = new(emptypb.Empty)
		if job.Updated != "" {
			f, err := s.store.Federation(ctx, tx, job.Updated)
			if err != nil && apierr.ReasonOf(err) != ReasonFederationNotFound {
				return err
			}
			if err != nil {
				return s.operations.Fail(ctx, tx, job.Operation, nil, err)
			}
			response = f.message(true)
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, response)
	})
}
