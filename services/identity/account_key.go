package identity

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// accountKey is what API keys and access keys have in common: each is a secret that
// proves a service account, goes with it, and has its rights from it (SK-2).
type accountKey struct {
	ID          string
	AccountID   string
	Description string
	CreatedAt   time.Time
	ExpiresAt   time.Time // zero for never
	LastUsedAt  time.Time // zero when never; exact to a minute
}

// position is where a key stands in a list.
func (k accountKey) position() page.Position {
	return page.Position{Time: sqldb.Micros(k.CreatedAt), ID: k.ID}
}

// account is where the rights on a key come from.
func (k accountKey) account() authz.Resource {
	return authz.Resource{Type: typeServiceAccount, ID: k.AccountID}
}

// ended reports whether a key proves nobody any more: what ends now has ended.
func (k accountKey) ended(now time.Time) bool {
	return !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(now)
}

// keyKind tells apart the kinds of such keys.
type keyKind struct {
	table       string
	typ         string // of the resource
	name        string // for people
	event       string // in the names of audit events (AU-2)
	permissions string // which begin like this
	quota       string
	notFound    string // reason
}

var (
	apiKeyKind = keyKind{
		table: "identity_api_keys", typ: "iam.apiKey", name: "API key", event: "ApiKey",
		permissions: "iam.apiKeys", quota: catalog.QuotaAPIKeys, notFound: ReasonAPIKeyNotFound,
	}
	accessKeyKind = keyKind{
		table: "identity_access_keys", typ: "iam.accessKey", name: "access key", event: "AccessKey",
		permissions: "iam.accessKeys", quota: catalog.QuotaAccessKeys, notFound: ReasonAccessKeyNotFound,
	}
)

func (k *keyKind) errNotFound(keyID string) *apierr.Error {
	return apierr.NotFound(k.notFound, "%s %s not found", k.name, keyID)
}

func (k *keyKind) resource(keyID string) authz.Resource {
	return authz.Resource{Type: k.typ, ID: keyID}
}

// accountOf resolves a key to its service account (SK-2).
func (s *Service) accountOf(kind *keyKind) authz.Resolver {
	return func(ctx context.Context, keyID string) (authz.Resource, error) {
		k, err := s.store.accountKey(ctx, s.store.db, kind, keyID, "")
		return k.account(), err
	}
}

// accountID is the service account of a request: the caller when none is named
// (SK-5).
func accountID(ctx context.Context, named string) string {
	if named == "" {
		return authn.FromContext(ctx).ID
	}
	return named
}

// newKey makes a key with its audit record, once for each idempotency key, and fills
// in the answer with its secret. insert adds the row and says what the record tells.
// Fails: SERVICE_ACCOUNT_NOT_FOUND, QUOTA_EXCEEDED (of the account's cloud; a kind
// without a quota has none).
func (s *Service) newKey(ctx context.Context, kind *keyKind, e event, k accountKey, answer proto.Message,
	insert func(context.Context, *sql.Tx) error,
) error {
	a, err := s.store.ServiceAccount(ctx, s.store.db, k.AccountID)
	if err != nil {
		return err
	}
	on := quota.Resource{Type: "resource-manager.cloud", ID: a.CloudID}
	var limit int64
	if kind.quota != "" {
		if limit, err = s.limits.Limit(ctx, kind.quota, on); err != nil {
			return err
		}
	}
	if e.path, err = s.keyPath(ctx, kind, k.account(), k.ID); err != nil {
		return err
	}
	e.on = k.account()
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := s.once.Answer(ctx, tx, answer, func() error {
			if err := s.room(ctx, tx, kind, a, on, limit); err != nil {
				return err
			}
			if err := insert(ctx, tx); err != nil {
				return err
			}
			return s.recordEvent(ctx, tx, e)
		})
		return err
	})
}

// room refuses one more key than there may be in a cloud, and any for an account
// that is on its way in or out. It locks both.
func (s *Service) room(ctx context.Context, tx *sql.Tx, kind *keyKind, a ServiceAccount, on quota.Resource, limit int64) error {
	if kind.quota != "" {
		if err := sqldb.Lock(ctx, s.store.db, tx, kind.quota+" of "+a.CloudID); err != nil {
			return err
		}
	}
	a, err := s.store.LockAccount(ctx, tx, a.ID)
	if err != nil {
		return err
	}
	if a.State == Creating || a.State == Deleting {
		return errAccountNotFound(a.ID)
	}
	if kind.quota == "" {
		return nil
	}
	n, err := s.store.countKeys(ctx, tx, kind, a.CloudID)
	if err != nil {
		return err
	}
	return quota.Exceeded(kind.quota, on, limit, n, 1)
}

// keysOfCloud tells the usage of a kind's quota.
func (s *Service) keysOfCloud(kind *keyKind) quota.Usage {
	return func(ctx context.Context, cloudID string) (int64, error) {
		return s.store.countKeys(ctx, s.store.db, kind, cloudID)
	}
}

// keyPath is the path of a key for an audit record. It asks the tree.
func (s *Service) keyPath(ctx context.Context, kind *keyKind, on authz.Resource, keyID string) ([]audit.Resource, error) {
	path, err := s.pathTo(ctx, on)
	return append(path, audit.Resource{Type: kind.typ, ID: keyID}), err
}

// changed is what a write on a key answers with.
type changed struct{ metadata, response proto.Message }

// changeKeyOf makes one write on a locked key, which is done at once. Fails: the
// kind's NOT_FOUND.
func (s *Service) changeKeyOf(ctx context.Context, kind *keyKind, keyID, verb string,
	write func(context.Context, *sql.Tx) (changed, map[string]any, error),
) (*operationpb.Operation, error) {
	on, err := s.accountOf(kind)(ctx, keyID)
	if err != nil {
		return nil, err
	}
	path, err := s.keyPath(ctx, kind, on, keyID)
	if err != nil {
		return nil, err
	}
	op, _, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		if _, err := s.store.accountKey(ctx, tx, kind, keyID, s.store.db.ForUpdate()); err != nil {
			return op, err
		}
		c, details, err := write(ctx, tx)
		if err != nil {
			return op, err
		}
		op, err = s.operations.Insert(ctx, tx, operation.New{
			Resource: kind.resource(keyID), ViewOn: on, ViewPermission: kind.permissions + ".get",
			Description: verb + " " + kind.name, CreatedBy: authn.FromContext(ctx).ID, Metadata: c.metadata, Response: c.response,
		})
		if err != nil {
			return op, err
		}
		if details == nil {
			details = map[string]any{}
		}
		details["operation_id"], details["service_account_id"] = op.ID, on.ID
		return op, s.recordEvent(ctx, tx, event{
			name: verb + kind.event, path: path, permission: kind.permissions + "." + strings.ToLower(verb), on: on, details: details,
		})
	})
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// named returns the fields of a mask that a request may change, all of them when it
// is empty. The id of the key may stand in it and says nothing (B3).
func named(mask []string, id string, all ...string) (map[string]bool, error) {
	fields := make(map[string]bool, len(all))
	for _, f := range all {
		fields[f] = len(mask) == 0
	}
	for _, path := range mask {
		if _, known := fields[path]; !known && path != id {
			return nil, apierr.InvalidField("update_mask", "%q is not a field that can be changed", path)
		}
		if path != id {
			fields[path] = true
		}
	}
	return fields, nil
}

// stamp is a time as messages show it; nil for none.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// futureTime reads the end in a request: later than now, to a microsecond; zero for
// none.
func (s *Service) futureTime(field string, at *timestamppb.Timestamp) (time.Time, error) {
	if at == nil {
		return time.Time{}, nil
	}
	t := at.AsTime().Truncate(time.Microsecond)
	if !t.After(s.now()) {
		return time.Time{}, apierr.InvalidField(field, "must be later than now")
	}
	return t, nil
}
