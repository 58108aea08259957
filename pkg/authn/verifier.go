package authn

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

// Leeway is how long past expires_at a token is still good: no client renews
// before the end, so a token may arrive a little late. It is also how far ahead
// of ours the issuer's clock may be.
const Leeway = 30 * time.Second

// Bounds of a Verifier.
const (
	refreshEvery    = time.Minute // keys are read again, for those withdrawn
	refreshPause    = time.Second // at least between two readings, whoever asks
	refreshDeadline = 5 * time.Second
	cachedTokens    = 1 << 14
)

// Key is the public half of a key that signs IAM tokens.
type Key struct {
	ID     string
	Public ed25519.PublicKey
	// Epoch is the store's. Tokens of another one are void: what they were issued
	// for may be gone with a restored backup.
	Epoch int64
}

// KeySource reads the keys with which unexpired tokens may be signed.
type KeySource interface {
	SigningKeys(ctx context.Context) ([]Key, error)
}

// KeySourceFunc is a function as a KeySource.
type KeySourceFunc func(ctx context.Context) ([]Key, error)

// SigningKeys calls f.
func (f KeySourceFunc) SigningKeys(ctx context.Context) ([]Key, error) { return f(ctx) }

// Verifier turns the text of IAM tokens into Principals. It keeps the tokens
// that it verified, so that a token used again costs one map lookup and no
// allocation. Safe for concurrent use.
type Verifier struct {
	source KeySource
	now    func() time.Time
	cache  cache[verified]

	keys     atomic.Pointer[keySet]
	refresh  sync.Mutex  // held while the keys are read
	renewing atomic.Bool // a reading beside the callers is under way
}

type keySet struct {
	byID   map[string]Key
	readAt time.Time
	err    error // of the last reading; byID is then of the one before
}

// verified is a token whose signature holds.
type verified struct {
	principal *Principal
	keyID     string
	epoch     int64
	expires   int64 // unix seconds, leeway included
}

// NewVerifier returns a Verifier that reads keys from source at first need, each
// minute, and when a token names an unknown key or another epoch, but never twice
// in a second.
func NewVerifier(source KeySource, now func() time.Time) *Verifier {
	v := &Verifier{source: source, now: now}
	v.cache.limit = cachedTokens
	v.keys.Store(new(keySet))
	return v
}

// Verify returns the subject of a token. It fails with UNAUTHENTICATED
// (TOKEN_INVALID, TOKEN_EXPIRED), or with UNAVAILABLE when the keys could not be
// read. The returned Principal is shared: do not change it.
func (v *Verifier) Verify(ctx context.Context, token string) (*Principal, error) {
	now := v.now()
	t, hit := v.cache.get(token)
	if !hit {
		var err error
		if t, err = v.verify(ctx, token, now); err != nil {
			return nil, err
		}
	}
	if now.Unix() >= t.expires {
		return nil, errExpired
	}
	if hit { // the key may have been withdrawn since
		_, err := v.key(ctx, t.keyID, t.epoch, now)
		return t.principal, err
	}
	v.cache.put(token, t, t.expires, now.Unix())
	return t.principal, nil
}

// Known returns the subject of a token that was verified before and is good still,
// without waiting for anything. False means that Verify must be asked; so it is for
// keys that are to be read again. The returned Principal is shared: do not change it.
func (v *Verifier) Known(token string) (*Principal, bool) {
	t, hit := v.cache.get(token)
	if !hit {
		return nil, false
	}
	now, set := v.now(), v.keys.Load()
	key, ok := set.byID[t.keyID]
	fresh := now.Sub(set.readAt) < refreshEvery
	return t.principal, ok && fresh && key.Epoch == t.epoch && now.Unix() < t.expires
}

// Inspect returns to whom a token was issued and when it ends, also after that
// end, for revoking it. It fails as Verify does, but for TOKEN_EXPIRED. A revoked
// token must be remembered for Leeway past its end.
func (v *Verifier) Inspect(ctx context.Context, token string) (Principal, time.Time, error) {
	t, err := v.verify(ctx, token, v.now())
	if err != nil {
		return Principal{}, time.Time{}, err
	}
	return *t.principal, time.Unix(t.expires, 0).Add(-Leeway).UTC(), nil
}

var (
	errInvalid = apierr.Unauthenticated(apierr.ReasonTokenInvalid, "the IAM token is not valid")
	errExpired = apierr.Unauthenticated(apierr.ReasonTokenExpired, "the IAM token has expired")
)

func (v *Verifier) verify(ctx context.Context, token string, now time.Time) (verified, error) {
	p, err := parse(token)
	if err != nil {
		return verified{}, errInvalid.WithCause(err)
	}
	c := p.claims
	switch {
	case now.Add(Leeway).Unix() < c.GetIssuedAt():
		return verified{}, errInvalid.WithCause(fmt.Errorf("issued in the future"))
	case c.GetExpiresAt()-c.GetIssuedAt() > int64(MaxTokenLife/time.Second):
		return verified{}, errInvalid.WithCause(fmt.Errorf("lives longer than %v", MaxTokenLife))
	}
	key, err := v.key(ctx, c.GetKeyId(), c.GetEpoch(), now)
	if err != nil {
		return verified{}, err
	}
	if !ed25519.Verify(key, p.signed, p.sig) {
		return verified{}, errInvalid
	}
	principal := &Principal{
		Type: typeOf(c.GetKind()), ID: c.GetSubjectId(), TokenID: TokenID(c.GetTokenId()), Token: token,
		Actor: Actor{Type: typeOf(c.GetActorKind()), ID: c.GetActorId()},
	}
	copy(principal.Session[:], c.GetSessionId())
	return verified{
		principal: principal,
		keyID:     c.GetKeyId(), epoch: c.GetEpoch(),
		expires: c.GetExpiresAt() + int64(Leeway/time.Second),
	}, nil
}

// key returns the public key of that id, for tokens of that epoch. One that is not
// known makes the caller wait for a reading of the source; keys that are merely old
// are read again beside it.
func (v *Verifier) key(ctx context.Context, id string, epoch int64, now time.Time) (ed25519.PublicKey, error) {
	set := v.keys.Load()
	key, ok := set.byID[id]
	switch {
	case !ok || key.Epoch != epoch:
		set = v.read(ctx, set)
		key, ok = set.byID[id]
	case now.Sub(set.readAt) >= refreshEvery && v.renewing.CompareAndSwap(false, true):
		go func() {
			defer v.renewing.Store(false)
			v.read(context.WithoutCancel(ctx), set)
		}()
	}
	switch {
	case ok && key.Epoch == epoch:
		return key.Public, nil
	case set.err != nil:
		return nil, apierr.Unavailable(apierr.ReasonUnavailable, "the signing keys cannot be read, try again").WithCause(set.err)
	case ok:
		return nil, errInvalid.WithMeta("cause", "epoch")
	default:
		return nil, errInvalid.WithCause(fmt.Errorf("unknown key"))
	}
}

// read reads the source, unless somebody has since old was loaded or less than
// refreshPause ago, and returns the newest set. A failure keeps the old keys.
func (v *Verifier) read(ctx context.Context, old *keySet) *keySet {
	v.refresh.Lock()
	defer v.refresh.Unlock()
	set := v.keys.Load()
	if set != old || (!set.readAt.IsZero() && v.now().Sub(set.readAt) < refreshPause) {
		return set
	}
	// The reading serves all callers, so it does not end with this one.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshDeadline)
	defer cancel()
	keys, err := v.source.SigningKeys(ctx)
	next := &keySet{byID: set.byID, readAt: v.now(), err: err}
	if err == nil {
		next.byID = make(map[string]Key, len(keys))
		for _, k := range keys {
			if len(k.Public) == ed25519.PublicKeySize {
				next.byID[k.ID] = k
			}
		}
	}
	v.keys.Store(next)
	return next
}
