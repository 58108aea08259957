package authn

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

// UnitHeader is the metadata key of a unit's statement. No door forwards it from
// outside.
const UnitHeader = "bindery-unit"

const (
	unitPrefix = "u1."
	unitDomain = "bindery unit statement u1\x00"
	unitLife   = time.Minute
	// maxUnitStatement bounds what is looked at: prefix, two names, time, signature.
	maxUnitStatement = 256
)

// UnitSigner proves a unit to another one. It is the grpc.PerRPCCredentials of
// the connection: each call carries u1.<unit>.<audience>.<end>.<signature>, good
// for a minute and for that audience only.
type UnitSigner struct {
	unit, audience string
	key            ed25519.PrivateKey
	now            func() time.Time

	mu      sync.Mutex
	header  map[string]string // shared by calls, never changed
	renewAt time.Time
}

// NewUnitSigner returns the credentials of unit for calls to the unit audience.
// Names have no dot.
func NewUnitSigner(unit, audience string, key ed25519.PrivateKey, now func() time.Time) *UnitSigner {
	return &UnitSigner{unit: unit, audience: audience, key: key, now: now}
}

// GetRequestMetadata returns the statement, renewed at half its life.
func (s *UnitSigner) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); s.header == nil || !now.Before(s.renewAt) {
		s.header = map[string]string{UnitHeader: s.sign(now.Add(unitLife))}
		s.renewAt = now.Add(unitLife / 2)
	}
	return s.header, nil
}

// RequireTransportSecurity is false: over loopback units speak plaintext, and
// over anything else the server refuses plaintext by itself.
func (s *UnitSigner) RequireTransportSecurity() bool { return false }

func (s *UnitSigner) sign(end time.Time) string {
	body := unitPrefix + s.unit + "." + s.audience + "." + strconv.FormatInt(end.Unix(), 10)
	return body + "." + strict.EncodeToString(ed25519.Sign(s.key, []byte(unitDomain+body)))
}

// UnitVerifier checks statements of trusted units. Safe for concurrent use.
type UnitVerifier struct {
	keys      map[string]ed25519.PublicKey
	audiences map[string]bool
	now       func() time.Time
	cache     cache[unitStatement]
}

type unitStatement struct {
	unit string
	end  int64 // unix seconds
}

// NewUnitVerifier returns a verifier that trusts the given keys by unit name and
// accepts statements made for one of the audiences, the units served here.
func NewUnitVerifier(keys map[string]ed25519.PublicKey, audiences []string, now func() time.Time) *UnitVerifier {
	v := &UnitVerifier{keys: keys, audiences: make(map[string]bool, len(audiences)), now: now}
	for _, a := range audiences {
		v.audiences[a] = true
	}
	v.cache.limit = 1024
	return v
}

// Verify returns the name of the unit that made the statement, or
// UNAUTHENTICATED (UNIT_CREDENTIAL_INVALID).
func (v *UnitVerifier) Verify(statement string) (string, error) {
	now := v.now().Unix()
	s, hit := v.cache.get(statement)
	if !hit {
		var err error
		if s, err = v.verify(statement, now); err != nil {
			return "", errUnit.WithCause(err)
		}
	}
	if now >= s.end {
		return "", errUnit.WithCause(errors.New("expired"))
	}
	if !hit {
		v.cache.put(statement, s, s.end, now)
	}
	return s.unit, nil
}

var errUnit = apierr.Unauthenticated(apierr.ReasonUnitInvalid, "the credential of the calling unit is not valid")

func (v *UnitVerifier) verify(statement string, now int64) (unitStatement, error) {
	if len(statement) > maxUnitStatement || !strings.HasPrefix(statement, unitPrefix) {
		return unitStatement{}, errors.New("not a unit statement")
	}
	parts := strings.Split(statement, ".")
	if len(parts) != 5 {
		return unitStatement{}, errors.New("not of five parts")
	}
	unit, audience := parts[1], parts[2]
	end, err := strconv.ParseInt(parts[3], 10, 64)
	if err != nil || strconv.FormatInt(end, 10) != parts[3] {
		return unitStatement{}, errors.New("bad end")
	}
	sig, ok := decode(parts[4])
	key := v.keys[unit]
	switch {
	case !ok || len(sig) != ed25519.SignatureSize:
		return unitStatement{}, errors.New("bad signature encoding")
	case len(key) != ed25519.PublicKeySize:
		return unitStatement{}, fmt.Errorf("unit %q is not trusted", unit)
	case !v.audiences[audience]:
		return unitStatement{}, fmt.Errorf("made for unit %q, which is not served here", audience)
	case end > now+int64((unitLife+Leeway)/time.Second):
		return unitStatement{}, errors.New("ends too late")
	case !ed25519.Verify(key, []byte(unitDomain+statement[:len(statement)-len(parts[4])-1]), sig):
		return unitStatement{}, errors.New("wrong signature")
	}
	return unitStatement{unit: unit, end: end}, nil
}
