package authn

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// world is an issuer and a verifier with one key and a clock of their own.
type world struct {
	issuer   *Issuer
	verifier *Verifier
	key      ed25519.PrivateKey
	clock    atomic.Int64 // unix nanoseconds
	epoch    atomic.Int64
	keys     func() ([]Key, error) // what the source answers
	reads    atomic.Int64
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := new(world)
	w.clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 500, time.UTC).UnixNano())
	w.epoch.Store(7)
	w.key = newKey("k1")
	w.keys = func() ([]Key, error) { return []Key{w.public("k1", w.key)}, nil }
	w.issuer = &Issuer{Key: func() SigningKey { return SigningKey{ID: "k1", Private: w.key} }, Epoch: w.epoch.Load, Now: w.now}
	source := KeySourceFunc(func(context.Context) ([]Key, error) { w.reads.Add(1); return w.keys() })
	w.verifier = NewVerifier(source, w.now)
	return w
}

func newKey(seed string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(fmt.Sprintf("%-32s", seed)))
}

func (w *world) public(id string, k ed25519.PrivateKey) Key {
	return Key{ID: id, Public: k.Public().(ed25519.PublicKey), Epoch: w.epoch.Load()}
}

func (w *world) now() time.Time          { return time.Unix(0, w.clock.Load()) }
func (w *world) advance(d time.Duration) { w.clock.Add(int64(d)) }

func (w *world) token(t testing.TB) Token {
	t.Helper()
	tok, err := w.issuer.Issue(UserAccount, "usr00000000000000001", MaxTokenLife)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func (w *world) reason(token string) string {
	_, err := w.verifier.Verify(context.Background(), token)
	return apierr.ReasonOf(err)
}

func TestTK1_TokenLivesAtMost12Hours(t *testing.T) {
	w := newWorld(t)
	tok := w.token(t)
	if got := tok.ExpiresAt.Sub(w.now()); got > MaxTokenLife || got < MaxTokenLife-time.Second {
		t.Errorf("lives %v", got)
	}
	for _, life := range []time.Duration{0, -time.Second, MaxTokenLife + 1} {
		if _, err := w.issuer.Issue(UserAccount, "u", life); err == nil {
			t.Errorf("issued for %v", life)
		}
	}
	long, err := sign(w.key, claims(func(c *identityv1.TokenClaims) { c.ExpiresAt = c.IssuedAt + int64(MaxTokenLife/time.Second) + 1 }))
	if err != nil {
		t.Fatal(err)
	}
	if got := w.reason(long); got != apierr.ReasonTokenInvalid {
		t.Errorf("a token of more than 12 hours: %q", got)
	}
}

func TestTK4_TokenForm(t *testing.T) {
	w := newWorld(t)
	form := regexp.MustCompile(`^t1\.[A-Z0-9a-z_-]+\.[A-Z0-9a-z_-]{86}$`)
	tok := w.token(t)
	if !form.MatchString(tok.Text) || len(tok.Text) > MaxTokenLen {
		t.Errorf("%d characters: %s", len(tok.Text), tok.Text)
	}
	if _, err := w.issuer.Issue(ServiceAccount, strings.Repeat("a", 900), time.Hour); err == nil {
		t.Error("issued a token longer than a checker takes")
	}
}

func TestVerify(t *testing.T) {
	w := newWorld(t)
	for _, typ := range []string{UserAccount, ServiceAccount, FederatedUser} {
		tok, err := w.issuer.Issue(typ, "id-of-"+typ, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second one is kept
			p, err := w.verifier.Verify(context.Background(), tok.Text)
			if err != nil {
				t.Fatal(err)
			}
			if want := (Principal{Type: typ, ID: "id-of-" + typ, TokenID: tok.ID, Token: tok.Text}); *p != want {
				t.Errorf("got %#v, want %#v", p, want)
			}
		}
	}
	if _, err := w.issuer.Issue("system", "allUsers", time.Hour); err == nil {
		t.Error("issued a token for a group")
	}
	if _, err := w.issuer.Issue(UserAccount, "", time.Hour); err == nil {
		t.Error("issued a token for nobody")
	}
}

// What a token comes from may end between the look at it and the signature: the end
// counts, not how far away it was.
func TestTK5_ATokenEndsWithWhatItComesFrom(t *testing.T) {
	w := newWorld(t)
	until := w.now().Add(90*time.Second + 500*time.Millisecond)
	for _, waited := range []time.Duration{0, 30 * time.Second, 59 * time.Second} {
		w.clock.Add(int64(waited))
		tok, err := w.issuer.IssueGrant(Grant{Type: UserAccount, ID: "usr00000000000000001", Until: until}, MaxTokenLife)
		if err != nil || tok.ExpiresAt.After(until) || until.Sub(tok.ExpiresAt) > time.Second {
			t.Errorf("ends at %v, %v; want %v, in whole seconds", tok.ExpiresAt, err, until)
		}
	}
	if tok, err := w.issuer.IssueGrant(Grant{Type: UserAccount, ID: "usr00000000000000001", Until: until}, 100*time.Millisecond); err != nil || tok.ExpiresAt.After(w.now().Add(100*time.Millisecond)) {
		t.Errorf("ends at %v, %v; want its life, which is shorter", tok.ExpiresAt, err)
	}
	w.clock.Add(int64(time.Minute))
	if _, err := w.issuer.IssueGrant(Grant{Type: UserAccount, ID: "usr00000000000000001", Until: until}, MaxTokenLife); err == nil {
		t.Error("issued a token of what is over")
	}
}

func TestTK5_ATokenNamesItsSession(t *testing.T) {
	w := newWorld(t)
	session := TokenID{1, 2, 3}
	tok, err := w.issuer.IssueGrant(Grant{Type: UserAccount, ID: "usr00000000000000001", Session: session}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.verifier.Verify(context.Background(), tok.Text)
	if err != nil || p.Session != session || p.TokenID != tok.ID {
		t.Errorf("got %#v, %v; want the session %x", p, err, session)
	}
	short, err := sign(w.key, claims(func(c *identityv1.TokenClaims) { c.SessionId = []byte{1} }))
	if err != nil {
		t.Fatal(err)
	}
	if got := w.reason(short); got != apierr.ReasonTokenInvalid {
		t.Errorf("a session id of one byte: %q", got)
	}
}

// Each of the 4 spare bits of a lenient decoder gives another spelling of the same
// bytes; CR and LF give more.
func TestOneSpellingPerToken(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	w := newWorld(t)
	tok := w.token(t).Text
	last := strings.IndexByte(alphabet, tok[len(tok)-1])
	good := 0
	for spare := range 16 {
		spelling := tok[:len(tok)-1] + string(alphabet[last&^15|spare])
		if w.reason(spelling) == "" {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d spellings of one signature are accepted", good)
	}
	head, rest, _ := strings.Cut(tok, ".")
	body, sig, _ := strings.Cut(rest, ".")
	for name, bad := range map[string]string{
		"line feed in the claims": head + "." + body[:4] + "\n" + body[4:] + "." + sig,
		"return in the signature": head + "." + body + "." + sig[:4] + "\r" + sig[4:],
		"for a signature's end":   head + "." + body + "." + sig[:85] + "\n",
		"padding":                 tok + "==",
		"padded claims":           head + "." + body + "=." + sig,
		"space":                   tok + " ",
		"leading space":           " " + tok,
		"other alphabet":          head + "." + strings.NewReplacer("-", "+", "_", "/").Replace(body) + "+." + sig,
		"fourth part":             tok + ".x",
		"no signature":            head + "." + body + ".",
		"no claims":               head + ".." + sig,
		"other version":           "t2" + strings.TrimPrefix(tok, "t1"),
		"upper case prefix":       "T1" + strings.TrimPrefix(tok, "t1"),
		"empty":                   "",
		"too long":                head + "." + strings.Repeat("A", MaxTokenLen) + "." + sig,
		"a JWT":                   "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1In0." + sig,
	} {
		if got := w.reason(bad); got != apierr.ReasonTokenInvalid {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func claims(change func(*identityv1.TokenClaims)) *identityv1.TokenClaims {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Unix()
	c := &identityv1.TokenClaims{
		TokenId: []byte("0123456789abcdef"), KeyId: "k1", Epoch: 7, Kind: identityv1.TokenClaims_USER_ACCOUNT,
		SubjectId: "usr1", IssuedAt: at, ExpiresAt: at + 3600,
	}
	change(c)
	return c
}

func TestClaims(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*identityv1.TokenClaims)
		reason string
	}{
		{"good", func(*identityv1.TokenClaims) {}, ""},
		{"a second old", func(c *identityv1.TokenClaims) { c.ExpiresAt = c.IssuedAt - 1 }, ""}, // leeway
		{"no id", func(c *identityv1.TokenClaims) { c.TokenId = nil }, apierr.ReasonTokenInvalid},
		{"long id", func(c *identityv1.TokenClaims) { c.TokenId = make([]byte, 17) }, apierr.ReasonTokenInvalid},
		{"no subject", func(c *identityv1.TokenClaims) { c.SubjectId = "" }, apierr.ReasonTokenInvalid},
		{"no kind", func(c *identityv1.TokenClaims) { c.Kind = 0 }, apierr.ReasonTokenInvalid},
		{"unknown kind", func(c *identityv1.TokenClaims) { c.Kind = 99 }, apierr.ReasonTokenInvalid},
		{"unknown key", func(c *identityv1.TokenClaims) { c.KeyId = "k9" }, apierr.ReasonTokenInvalid},
		{"old epoch", func(c *identityv1.TokenClaims) { c.Epoch = 6 }, apierr.ReasonTokenInvalid},
		{"from the future", func(c *identityv1.TokenClaims) { c.IssuedAt += 60; c.ExpiresAt += 60 }, apierr.ReasonTokenInvalid},
		{"clock a little ahead", func(c *identityv1.TokenClaims) { c.IssuedAt += 20; c.ExpiresAt += 20 }, ""},
		{"expired", func(c *identityv1.TokenClaims) { c.IssuedAt -= 7200; c.ExpiresAt -= 7200 }, apierr.ReasonTokenExpired},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			text, err := sign(w.key, claims(tt.change))
			if err != nil {
				t.Fatal(err)
			}
			if got := w.reason(text); got != tt.reason {
				t.Errorf("reason %q, want %q", got, tt.reason)
			}
		})
	}
}

// A signature by the same key over the same bytes with another purpose is no token.
func TestSignatureIsForTokensOnly(t *testing.T) {
	w := newWorld(t)
	raw, err := proto.Marshal(claims(func(*identityv1.TokenClaims) {}))
	if err != nil {
		t.Fatal(err)
	}
	text := tokenPrefix + strict.EncodeToString(raw) + "." + strict.EncodeToString(ed25519.Sign(w.key, raw))
	if got := w.reason(text); got != apierr.ReasonTokenInvalid {
		t.Errorf("%q", got)
	}
}

func TestExpiryIsJudgedEachTime(t *testing.T) {
	w := newWorld(t)
	tok := w.token(t).Text
	for _, step := range []struct {
		after  time.Duration
		reason string
	}{{0, ""}, {MaxTokenLife, ""}, {Leeway - 2*time.Second, ""}, {3 * time.Second, apierr.ReasonTokenExpired}} {
		w.advance(step.after)
		if got := w.reason(tok); got != step.reason {
			t.Errorf("after %v more: %q, want %q", step.after, got, step.reason)
		}
	}
}

// A verifier that goes on running while the store is restored takes the tokens of
// the new line at once, and none of the old one from then on.
func TestNewEpoch(t *testing.T) {
	w := newWorld(t)
	old := w.token(t).Text
	if got := w.reason(old); got != "" {
		t.Fatalf("before: %q", got)
	}
	w.epoch.Store(8)
	w.advance(2 * refreshPause)
	if got := w.reason(w.token(t).Text); got != "" {
		t.Errorf("a token of the new epoch: %q", got)
	}
	if got := w.reason(old); got != apierr.ReasonTokenInvalid {
		t.Errorf("a token of the old epoch: %q", got)
	}
}

func TestInspectAlsoAfterTheEnd(t *testing.T) {
	w := newWorld(t)
	tok := w.token(t)
	for range 2 {
		p, end, err := w.verifier.Inspect(context.Background(), tok.Text)
		if err != nil || p.TokenID != tok.ID || !end.Equal(tok.ExpiresAt) {
			t.Errorf("got %v until %v, %v; want until %v", p, end, err, tok.ExpiresAt)
		}
		w.advance(2 * MaxTokenLife)
	}
	if _, _, err := w.verifier.Inspect(context.Background(), tok.Text+"A"); apierr.ReasonOf(err) != apierr.ReasonTokenInvalid {
		t.Errorf("a changed token: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	f.Add(w.token(f).Text)
	f.Add("t1.AA.AA")
	issued := w.token(f).Text
	f.Fuzz(func(t *testing.T, text string) {
		p, err := w.verifier.Verify(context.Background(), text)
		if err == nil && text != issued && p.ID != "usr00000000000000001" {
			t.Errorf("accepted %q", text)
		}
		if err != nil && apierr.CodeOf(err) != codes.Unauthenticated {
			t.Errorf("%q: %v", text, err)
		}
		parsed, err := parse(text)
		if err != nil {
			return
		}
		// Whatever parses is the one spelling of what it says.
		raw := parsed.signed[len(tokenDomain):]
		if again := tokenPrefix + strict.EncodeToString(raw) + "." + strict.EncodeToString(parsed.sig); again != text {
			t.Errorf("%q and %q are the same token", text, again)
		}
	})
}

func TestIM1_TokenNamesTheActor(t *testing.T) {
	w := newWorld(t)
	actor := Actor{Type: UserAccount, ID: "usr00000000000000001"}
	tok, err := w.issuer.IssueGrant(Grant{Type: ServiceAccount, ID: "sac1", Actor: actor}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.verifier.Verify(t.Context(), tok.Text)
	if err != nil || p.Type != ServiceAccount || p.ID != "sac1" || p.Actor != actor {
		t.Errorf("got %+v, %v; want sac1 by %v", p, err, actor)
	}
	if p, err := w.verifier.Verify(t.Context(), w.token(t).Text); err != nil || p.Actor != (Actor{}) {
		t.Errorf("a token that nobody else asked for names %+v, %v", p, err)
	}
	for _, actor := range []Actor{{Type: UserAccount}, {ID: "usr1"}, {Type: "group", ID: "grp1"}} {
		if _, err := w.issuer.IssueGrant(Grant{Type: ServiceAccount, ID: "sac1", Actor: actor}, time.Hour); err == nil {
			t.Errorf("issued for %v", actor)
		}
	}
	claims := func(edit func(*identityv1.TokenClaims)) string {
		c := &identityv1.TokenClaims{
			TokenId: make([]byte, 16), KeyId: "k1", Epoch: 7, Kind: identityv1.TokenClaims_SERVICE_ACCOUNT, SubjectId: "sac1",
			IssuedAt: w.now().Unix(), ExpiresAt: w.now().Add(time.Hour).Unix(),
		}
		edit(c)
		text, err := sign(w.key, c)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got := w.reason(claims(func(*identityv1.TokenClaims) {})); got != "" {
		t.Fatalf("sound claims: %s", got)
	}
	for name, edit := range map[string]func(*identityv1.TokenClaims){
		"an actor without a kind": func(c *identityv1.TokenClaims) { c.ActorId = "usr1" },
		"an actor without an id":  func(c *identityv1.TokenClaims) { c.ActorKind = identityv1.TokenClaims_USER_ACCOUNT },
		"an actor of no kind":     func(c *identityv1.TokenClaims) { c.ActorId, c.ActorKind = "usr1", 77 },
		"no actor of no kind":     func(c *identityv1.TokenClaims) { c.ActorKind = 77 },
	} {
		if got := w.reason(claims(edit)); got != apierr.ReasonTokenInvalid {
			t.Errorf("%s: %q", name, got)
		}
	}
}
