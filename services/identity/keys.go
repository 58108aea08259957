package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

const (
	keyPrefix = "key"

	// followEvery is how late another process may notice a rotation and go on
	// signing with the old key.
	followEvery = 10 * time.Second

	// keepRetired is how long a retired key stays in the list: as long as a token
	// signed by it may be accepted, by a process that noticed late.
	keepRetired = authn.MaxTokenLife + 10*followEvery
)

// States of a signing key.
const (
	keyNext    = "NEXT"
	keyActive  = "ACTIVE"
	keyRetired = "RETIRED"
)

// keyRing is the keys that sign IAM tokens, and the epoch in which they do.
type keyRing struct {
	db     *sqldb.DB
	sealer *secret.Sealer
	now    func() time.Time
	active atomic.Pointer[authn.SigningKey]
	line   atomic.Int64 // the epoch; 0 before open
}

// EpochTable holds the epoch of the unit's store in one row, column epoch.
const EpochTable = "identity_epoch"

// publicKey is a key as it is handed out.
type publicKey struct {
	id        string
	public    ed25519.PublicKey
	createdAt time.Time
}

// signing returns the key to sign with; one without a private part before open.
func (k *keyRing) signing() authn.SigningKey {
	if key := k.active.Load(); key != nil {
		return *key
	}
	return authn.SigningKey{}
}

// epoch returns the epoch of the store; 0 before open.
func (k *keyRing) epoch() int64 { return k.line.Load() }

// open makes the first two keys if there are none, seals anew those that an older
// version kept plain or an older seal key sealed, and loads the active one.
func (k *keyRing) open(ctx context.Context) error {
	err := sqldb.InTx(ctx, k.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := k.lock(ctx, tx); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM identity_signing_keys`).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return reseal(ctx, tx, k.sealer, sealedSigningKeys)
		}
		return errors.Join(k.insert(ctx, tx, keyActive), k.insert(ctx, tx, keyNext))
	})
	if err != nil {
		return fmt.Errorf("make or seal signing keys: %w", err)
	}
	return k.follow(ctx)
}

// follow loads the active key, which another process may have changed.
func (k *keyRing) follow(ctx context.Context) error {
	var key authn.SigningKey
	var sealed []byte
	var epoch int64
	err := k.db.QueryRowContext(ctx, `
		SELECT k.id, k.private_key, e.epoch FROM identity_signing_keys k CROSS JOIN identity_epoch e WHERE k.state = $1`, keyActive).
		Scan(&key.ID, &sealed, &epoch)
	if err != nil {
		return fmt.Errorf("read signing key: %w", err)
	}
	private, err := unseal(k.sealer, sealedSigningKeys, key.ID, sealed)
	if err != nil {
		return fmt.Errorf("read signing key: %w", err)
	}
	if len(private) != ed25519.PrivateKeySize {
		return fmt.Errorf("read signing key: %s has %d bytes", key.ID, len(private))
	}
	key.Private = private
	k.line.Store(epoch)
	k.active.Store(&key)
	return nil
}

// rotate retires the active key, destroys its private part, makes the next one
// active, whose id it returns, and makes another next. After the commit follow
// begins to sign with it.
func (k *keyRing) rotate(ctx context.Context, tx *sql.Tx) (keyID string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("rotate signing keys: %w", err)
		}
	}()
	if err := k.lock(ctx, tx); err != nil {
		return "", err
	}
	if err := tx.QueryRowContext(ctx, `SELECT id FROM identity_signing_keys WHERE state = $1`, keyNext).Scan(&keyID); err != nil {
		return "", err
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE identity_signing_keys SET state = $1, retired_at = $2, private_key = $3 WHERE state = $4`,
		keyRetired, sqldb.Micros(k.now()), []byte{}, keyActive)
	if err != nil {
		return "", err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE identity_signing_keys SET state = $1 WHERE id = $2`, keyActive, keyID); err != nil {
		return "", err
	}
	return keyID, k.insert(ctx, tx, keyNext)
}

// public lists the keys by which a token may be verified, newest first.
func (k *keyRing) public(ctx context.Context) ([]publicKey, error) {
	rows, err := k.db.QueryContext(ctx, `
		SELECT id, public_key, created_at FROM identity_signing_keys
		WHERE state <> $1 OR retired_at > $2 ORDER BY created_at DESC, id DESC`,
		keyRetired, sqldb.Micros(k.now().Add(-keepRetired)))
	if err != nil {
		return nil, fmt.Errorf("list signing keys: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	var keys []publicKey
	for rows.Next() {
		var p publicKey
		var public []byte
		var created int64
		if err := rows.Scan(&p.id, &public, &created); err != nil {
			return nil, fmt.Errorf("list signing keys: %w", err)
		}
		p.public, p.createdAt = public, sqldb.Time(created)
		keys = append(keys, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list signing keys: %w", err)
	}
	return keys, nil
}

func (k *keyRing) lock(ctx context.Context, tx *sql.Tx) error {
	return sqldb.Lock(ctx, k.db, tx, "identity signing keys")
}

func (k *keyRing) insert(ctx context.Context, tx *sql.Tx, state string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	keyID := id.New(keyPrefix)
	_, err = tx.ExecContext(ctx, `
		INSERT INTO identity_signing_keys (id, state, public_key, private_key, created_at, retired_at) VALUES ($1, $2, $3, $4, $5, 0)`,
		keyID, state, []byte(public), k.sealer.Seal(sealedSigningKeys.Purpose(keyID), private), sqldb.Micros(k.now()))
	return err
}

// signingKeys is bindery.identity.v1.SigningKeyService.
type signingKeys struct {
	identityv1.UnimplementedSigningKeyServiceServer
	*Service
}

// ListSigningKeys lists the keys by which tokens are verified, the one that will
// sign next included, so that no process meets a token of a key it cannot know.
func (s *signingKeys) ListSigningKeys(ctx context.Context, _ *identityv1.ListSigningKeysRequest) (*identityv1.ListSigningKeysResponse, error) {
	keys, err := s.keys.public(ctx)
	if err != nil {
		return nil, err
	}
	resp := &identityv1.ListSigningKeysResponse{Epoch: s.keys.epoch()}
	for _, k := range keys {
		resp.Keys = append(resp.Keys, &identityv1.SigningKey{Id: k.id, PublicKey: k.public, CreatedAt: timestamppb.New(k.createdAt)})
	}
	return resp, nil
}
