package idempotency

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
)

// Header is the metadata key, lower case as gRPC has it.
const Header = "idempotency-key"

// MaxLength is the greatest number of characters of a key.
const MaxLength = 128

// ReasonReused is the refusal of a key that came before with another request.
const ReasonReused = "IDEMPOTENCY_KEY_REUSED"

var (
	errSeveral   = apierr.InvalidField(Header, "came several times, one is allowed")
	errMalformed = apierr.InvalidField(Header, "must be 1 to %d printable ASCII characters", MaxLength)
	errReused    = reused()
)

func reused() *apierr.Error {
	e := apierr.New(codes.InvalidArgument, ReasonReused, "%s: was used for another request of this method; a new request needs a new key", Header)
	e.Fields = []apierr.Field{{Name: Header, Message: "was used for another request of this method"}}
	return e
}

// Key is the idempotency key of one call: what is kept of it, and the text.
type Key struct {
	ref     [sha256.Size]byte // of caller, method and text
	request [sha256.Size]byte
	method  string
	text    string // never stored
}

// New returns the key of a call; nil when it brought none. values are those of the
// header. Fails: INVALID_ARGUMENT for what is no key.
func New(caller authn.Principal, method string, values []string, req proto.Message) (*Key, error) {
	switch {
	case len(values) == 0:
		return nil, nil //nolint:nilnil // most calls have no key, which is no failure
	case len(values) > 1:
		return nil, errSeveral
	case values[0] == "" || len(values[0]) > MaxLength || strings.IndexFunc(values[0], unprintable) >= 0:
		return nil, errMalformed
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("hash the request: %w", err)
	}
	return &Key{
		ref:     digest("key", scope(caller), method, values[0]),
		request: digest("request", string(req.ProtoReflect().Descriptor().FullName()), string(body)),
		method:  method, text: values[0],
	}, nil
}

func unprintable(r rune) bool { return r <= ' ' || r > '~' }

// scope names who calls: the subject, also where a unit carries its token along.
func scope(p authn.Principal) string {
	if p.IsSubject() {
		return "subject " + p.Subject()
	}
	return "unit " + p.Unit
}

// Ref tells keys apart.
type Ref [sha256.Size]byte

// Ref tells keys apart: of two calls with the same one, one is a replay.
func (k *Key) Ref() Ref { return k.ref }

// String keeps the key out of any log.
func (*Key) String() string { return "[idempotency key]" }

type contextKey struct{}

// NewContext returns a context with the key of the call; nil is none.
func NewContext(ctx context.Context, k *Key) context.Context {
	return context.WithValue(ctx, contextKey{}, k)
}

// FromContext returns the key of the call; nil when it has none.
func FromContext(ctx context.Context) *Key {
	k, _ := ctx.Value(contextKey{}).(*Key)
	return k
}

// PassOn returns a context in which a call to another unit carries a key derived
// from that of the call under way: for a method that leaves its write to that unit,
// and makes one such call. The derived key differs by method, so that a key that a
// caller uses for two methods stays two keys when both lead to one.
func PassOn(ctx context.Context) context.Context {
	k := FromContext(ctx)
	if k == nil {
		return ctx
	}
	derived := digest("passed on", k.method, k.text)
	return metadata.AppendToOutgoingContext(ctx, Header, base64.RawURLEncoding.EncodeToString(derived[:]))
}

// digest hashes parts under a purpose, unambiguously.
func digest(purpose string, parts ...string) [sha256.Size]byte {
	text := []byte("bindery idempotency 1 " + purpose)
	for _, p := range parts {
		text = binary.BigEndian.AppendUint64(text, uint64(len(p)))
		text = append(text, p...)
	}
	return sha256.Sum256(text)
}
