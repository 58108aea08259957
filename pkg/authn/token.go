package authn

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// Limits of an IAM token.
const (
	MaxTokenLife = 12 * time.Hour // TK-1
	MaxTokenLen  = 1024           // characters, as AccessService takes them
)

const (
	tokenPrefix = "t1."
	// tokenDomain separates signatures over tokens from all others of the key.
	tokenDomain  = "bindery iam token t1\x00"
	signatureLen = 86 // base64url characters of an Ed25519 signature (TK-4)
)

// strict accepts exactly one spelling of each byte string, but for CR and LF,
// which base64 skips even so; decode refuses them.
var strict = base64.RawURLEncoding.Strict()

// errMalformed says that a text is not a token at all.
var errMalformed = errors.New("not of the form t1.<claims>.<signature>")

// SigningKey is a key that signs IAM tokens.
type SigningKey struct {
	ID      string // as in the claims
	Private ed25519.PrivateKey
}

// Token is a freshly issued IAM token.
type Token struct {
	Text      string // t1.<claims>.<signature>; a secret
	ID        TokenID
	ExpiresAt time.Time // whole seconds, UTC
}

// Issuer makes IAM tokens. Key, Epoch and Now are asked for each token and must
// be safe for concurrent use.
type Issuer struct {
	Key   func() SigningKey // the key to sign with now
	Epoch func() int64      // epoch of the store
	Now   func() time.Time
}

// Grant is whom a token is for.
type Grant struct {
	Type, ID string    // the subject
	Session  TokenID   // the login session that the token ends with (TK-5); zero for none
	Actor    Actor     // who acts as the subject by it (IM-1); zero for the subject itself
	Until    time.Time // when what it comes from ends, if that ends before its life; zero for never
}

// Issue signs a token for a subject, as IssueGrant does.
func (i *Issuer) Issue(subjectType, subjectID string, life time.Duration) (Token, error) {
	return i.IssueGrant(Grant{Type: subjectType, ID: subjectID}, life)
}

// IssueGrant signs a token; life is more than zero and at most MaxTokenLife (TK-1).
// It ends on a whole second, never later than asked. Fails when its Until is past.
func (i *Issuer) IssueGrant(g Grant, life time.Duration) (Token, error) {
	kind := kindOf(g.Type)
	switch {
	case kind == identityv1.TokenClaims_KIND_UNSPECIFIED:
		return Token{}, fmt.Errorf("issue token: no such subject type %q", g.Type)
	case g.ID == "":
		return Token{}, errors.New("issue token: empty subject id")
	case g.Actor != (Actor{}) && (kindOf(g.Actor.Type) == identityv1.TokenClaims_KIND_UNSPECIFIED || g.Actor.ID == ""):
		return Token{}, fmt.Errorf("issue token: %q is no actor", g.Actor)
	case life <= 0 || life > MaxTokenLife:
		return Token{}, fmt.Errorf("issue token: life %v out of (0, %v]", life, MaxTokenLife)
	}
	now, key := i.Now(), i.Key()
	end := now.Add(life)
	if !g.Until.IsZero() && g.Until.Before(end) {
		end = g.Until
	}
	if !end.After(now) {
		return Token{}, fmt.Errorf("issue token: until %v, which is past", g.Until)
	}
	t := Token{ExpiresAt: time.Unix(end.Unix(), 0).UTC()}
	if _, err := rand.Read(t.ID[:]); err != nil {
		return Token{}, fmt.Errorf("issue token: %w", err)
	}
	claims := &identityv1.TokenClaims{
		TokenId: t.ID[:], KeyId: key.ID, Epoch: i.Epoch(), Kind: kind, SubjectId: g.ID,
		IssuedAt: now.Unix(), ExpiresAt: t.ExpiresAt.Unix(), ActorKind: kindOf(g.Actor.Type), ActorId: g.Actor.ID,
	}
	if g.Session != (TokenID{}) {
		claims.SessionId = g.Session[:]
	}
	text, err := sign(key.Private, claims)
	if err != nil {
		return Token{}, fmt.Errorf("issue token: %w", err)
	}
	t.Text = text
	return t, nil
}

// sign encodes and signs claims.
func sign(key ed25519.PrivateKey, claims *identityv1.TokenClaims) (string, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(claims)
	if err != nil {
		return "", err
	}
	sig := ed25519.Sign(key, append([]byte(tokenDomain), raw...))
	text := tokenPrefix + strict.EncodeToString(raw) + "." + strict.EncodeToString(sig)
	if len(text) > MaxTokenLen {
		return "", fmt.Errorf("token of %d characters, at most %d fit", len(text), MaxTokenLen)
	}
	return text, nil
}

// parsed is a token taken apart, its signature not yet verified.
type parsed struct {
	claims *identityv1.TokenClaims
	signed []byte // what the signature is over
	sig    []byte
}

// parse takes a token apart; errMalformed, with no reason given to callers, when
// the text is not the one spelling of a token.
func parse(text string) (parsed, error) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok || len(text) > MaxTokenLen {
		return parsed{}, errMalformed
	}
	body, sig, ok := strings.Cut(rest, ".")
	if !ok || body == "" || len(sig) != signatureLen {
		return parsed{}, errMalformed
	}
	p := parsed{claims: new(identityv1.TokenClaims)}
	raw, ok := decode(body)
	if !ok || proto.Unmarshal(raw, p.claims) != nil {
		return parsed{}, errMalformed
	}
	if p.sig, ok = decode(sig); !ok {
		return parsed{}, errMalformed
	}
	c := p.claims
	if len(c.GetTokenId()) != len(TokenID{}) || c.GetKeyId() == "" || c.GetSubjectId() == "" || typeOf(c.GetKind()) == "" {
		return parsed{}, errMalformed
	}
	if n := len(c.GetSessionId()); n != 0 && n != len(TokenID{}) {
		return parsed{}, errMalformed
	}
	if (typeOf(c.GetActorKind()) == "") != (c.GetActorId() == "") || c.GetActorId() == "" && c.GetActorKind() != identityv1.TokenClaims_KIND_UNSPECIFIED {
		return parsed{}, errMalformed
	}
	p.signed = append([]byte(tokenDomain), raw...)
	return p, nil
}

// decode reads base64url in its one spelling.
func decode(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	b, err := strict.DecodeString(s)
	return b, err == nil
}

func kindOf(subjectType string) identityv1.TokenClaims_Kind {
	switch subjectType {
	case UserAccount:
		return identityv1.TokenClaims_USER_ACCOUNT
	case ServiceAccount:
		return identityv1.TokenClaims_SERVICE_ACCOUNT
	case FederatedUser:
		return identityv1.TokenClaims_FEDERATED_USER
	default:
		return identityv1.TokenClaims_KIND_UNSPECIFIED
	}
}

func typeOf(kind identityv1.TokenClaims_Kind) string {
	switch kind {
	case identityv1.TokenClaims_USER_ACCOUNT:
		return UserAccount
	case identityv1.TokenClaims_SERVICE_ACCOUNT:
		return ServiceAccount
	case identityv1.TokenClaims_FEDERATED_USER:
		return FederatedUser
	default:
		return ""
	}
}
