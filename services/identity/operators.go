package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/email"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/log"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// operators is bindery.identity.v1.OperatorService.
type operators struct {
	identityv1.UnimplementedOperatorServiceServer
	*Service
}

// registration is the payload of jobRegister.
type registration struct {
	UserID string `json:"user_id"`
}

const jobRegister = "register-user"

// CreateUser makes a user with an OAuth token, and answers when the permission
// checker knows the user. When it cannot be reached the user is withdrawn, since
// the token that nobody saw would be lost: the call may be repeated. With an
// idempotency key the same user and token are the answer again. Fails: LOGIN_TAKEN,
// EMAIL_TAKEN, UNAVAILABLE.
func (s *operators) CreateUser(ctx context.Context, req *identityv1.CreateUserRequest) (*identityv1.CreateUserResponse, error) {
	u := User{
		ID: id.New(id.User), Login: req.GetLogin(), Email: req.GetEmail(), State: Creating, CreatedAt: s.now(),
		GivenName: req.GetGivenName(), FamilyName: req.GetFamilyName(), Phone: req.GetPhoneNumber(),
	}
	if problem := email.Problem(u.Email); problem != "" {
		return nil, apierr.InvalidField("email", "%s", problem)
	}
	token, hash := newOAuthToken()
	resp := new(identityv1.CreateUserResponse)
	var ticket jobs.Ticket
	var again bool
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		again, err = s.once.Answer(ctx, tx, resp, func() error {
			if err := s.store.InsertUser(ctx, tx, u, hash); err != nil {
				return err
			}
			if err := s.record(ctx, tx, "CreateUser", u.ID, map[string]any{"login": u.Login}); err != nil {
				return err
			}
			resp.Id, resp.Login, resp.OauthToken = u.ID, u.Login, token
			ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobRegister, Payload: registration{u.ID}})
			return err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	if again {
		if err := s.complete(ctx, resp.GetId()); err != nil {
			return nil, err
		}
		return resp, nil
	}
	if err := s.jobs.Do(ctx, ticket); err != nil {
		if err := s.withdraw(ctx, u, err); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// complete registers a user whose first call did not live to do it. Fails:
// UNAVAILABLE, also when that call withdraws the user meanwhile.
func (s *operators) complete(ctx context.Context, userID string) error {
	u, err := s.store.User(ctx, s.store.db, userID)
	if err == nil && u.State == Creating {
		if err = s.register(ctx, registration{userID}); err == nil {
			_, err = s.store.User(ctx, s.store.db, userID)
		}
	}
	if errors.Is(err, errUserNotFound) {
		return errWithdrawn
	}
	return err
}

// register makes the checker know a user, then makes the user visible.
func (s *Service) register(ctx context.Context, r registration) error {
	if _, err := s.store.User(ctx, s.store.db, r.UserID); errors.Is(err, errUserNotFound) {
		return nil // withdrawn
	} else if err != nil {
		return err
	}
	_, err := s.subjects.SetSubject(ctx, &accessv1.SetSubjectRequest{
		Subject: &accessv1.Subject{Type: authn.UserAccount, Id: r.UserID},
		State:   accessv1.SetSubjectRequest_ACTIVE,
	})
	if err != nil {
		return apierr.FromRPC(err)
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return s.store.Activate(ctx, tx, r.UserID)
	})
}

// withdraw takes back a user that could not be registered, and returns cause; nil
// when a worker has registered it meanwhile. A caller that went away leaves it to
// the workers.
func (s *operators) withdraw(ctx context.Context, u User, cause error) error {
	if ctx.Err() != nil {
		return cause
	}
	var withdrawn bool
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		var err error
		if withdrawn, err = s.store.Withdraw(ctx, tx, u.ID); err != nil || !withdrawn {
			return err
		}
		if err = s.once.Forget(ctx, tx); err != nil {
			return err
		}
		return s.record(ctx, tx, "WithdrawUser", u.ID, map[string]any{"login": u.Login})
	})
	if err != nil {
		return errors.Join(cause, err)
	}
	if !withdrawn {
		return nil
	}
	return fmt.Errorf("register user: %w", cause)
}

// CreateToken issues an IAM token of a user. Fails: USER_NOT_FOUND.
func (s *operators) CreateToken(ctx context.Context, req *identityv1.CreateTokenRequest) (*identityv1.CreateTokenResponse, error) {
	u, err := s.store.UserByLogin(ctx, s.store.db, req.GetLogin())
	if err == nil && !u.mayAct() {
		err = errUserNotFound
	}
	if err != nil {
		return nil, err
	}
	token, err := s.issuer.Issue(authn.UserAccount, u.ID, authn.MaxTokenLife)
	if err != nil {
		return nil, err
	}
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return s.record(ctx, tx, "CreateIamToken", u.ID, nil)
	})
	if err != nil {
		return nil, err
	}
	return &identityv1.CreateTokenResponse{IamToken: token.Text, ExpiresAt: timestamppb.New(token.ExpiresAt)}, nil
}

// RotateSigningKey begins to sign with the key that was made for it before, and
// destroys the private part of the old one. Sent again with the same idempotency
// key, it does not rotate again.
func (s *operators) RotateSigningKey(ctx context.Context, _ *identityv1.RotateSigningKeyRequest) (*identityv1.RotateSigningKeyResponse, error) {
	resp := new(identityv1.RotateSigningKeyResponse)
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := s.once.Answer(ctx, tx, resp, func() (err error) {
			if resp.KeyId, err = s.keys.rotate(ctx, tx); err != nil {
				return err
			}
			return s.record(ctx, tx, "RotateSigningKey", "", map[string]any{"key_id": resp.GetKeyId()})
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := s.keys.follow(ctx); err != nil {
		return nil, err
	}
	return resp, nil
}

// record writes the audit record of an event about a user, in the transaction of
// its change (AU-3; CreateUser, WithdrawUser and RotateSigningKey are ours).
func (s *Service) record(ctx context.Context, tx *sql.Tx, event, userID string, details map[string]any) error {
	p, req := authn.FromContext(ctx), log.RequestFrom(ctx)
	r := audit.Record{
		EventSource: "iam", EventType: audit.EventType("iam", event), EventTime: s.now(), EventStatus: audit.Done,
		Authentication:  audit.By(p),
		Authorization:   audit.Authorization{Authorized: true},
		RequestMetadata: audit.RequestMetadata{RemoteAddress: req.Remote, UserAgent: req.UserAgent, RequestID: req.ID},
	}
	if userID != "" {
		r.ResourceMetadata.Path = []audit.Resource{{Type: "iam.userAccount", ID: userID}}
	}
	if details != nil {
		r.Details = details
	}
	return audit.Write(ctx, tx, Name, r)
}
