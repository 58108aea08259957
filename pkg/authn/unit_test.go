package authn

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

func TestUnitStatements(t *testing.T) {
	key, other := newKey("unit"), newKey("other")
	clock := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now := func() time.Time { return clock }
	statement := func(unit, audience string, k ed25519.PrivateKey) string {
		md, err := NewUnitSigner(unit, audience, k, now).GetRequestMetadata(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return md[UnitHeader]
	}
	v := NewUnitVerifier(map[string]ed25519.PublicKey{
		"resourcemanager": key.Public().(ed25519.PublicKey),
		"identity":        other.Public().(ed25519.PublicKey),
	}, []string{"accessbindings"}, now)

	good := statement("resourcemanager", "accessbindings", key)
	for range 2 {
		if unit, err := v.Verify(good); unit != "resourcemanager" || err != nil {
			t.Fatalf("%q %v", unit, err)
		}
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	spelled := good[:len(good)-1] + string(alphabet[strings.IndexByte(alphabet, good[len(good)-1])|1])
	for name, bad := range map[string]string{
		"for another unit":    statement("resourcemanager", "identity", key),
		"key of another unit": statement("identity", "accessbindings", key),
		"unknown unit":        statement("partner", "accessbindings", key),
		"other spelling":      spelled,
		"renamed":             strings.Replace(good, "resourcemanager", "identity", 1),
		"line feed":           good + "\n",
		"sixth part":          good + ".x",
		"empty":               "",
		"a token":             "t1.AA.AA",
		"signs elsewhere":     (&UnitSigner{unit: "resourcemanager", audience: "accessbindings", key: key}).sign(clock.Add(time.Hour)),
		"time with a sign":    strings.Replace(good, fmt.Sprint(clock.Unix()+60), fmt.Sprint("+", clock.Unix()+60), 1),
	} {
		if unit, err := v.Verify(bad); err == nil || apierr.CodeOf(err) != codes.Unauthenticated || unit != "" {
			t.Errorf("%s: %q %v", name, unit, err)
		}
	}
	clock = clock.Add(unitLife)
	if _, err := v.Verify(good); err == nil {
		t.Error("accepted after its end")
	}
}

func TestUnitSignerRenews(t *testing.T) {
	clock := time.Unix(1_000_000, 0)
	s := NewUnitSigner("a", "b", newKey("unit"), func() time.Time { return clock })
	get := func() string {
		md, err := s.GetRequestMetadata(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return md[UnitHeader]
	}
	first := get()
	clock = clock.Add(unitLife/2 - time.Second)
	if get() != first {
		t.Error("signed anew for each call")
	}
	clock = clock.Add(time.Second)
	if get() == first {
		t.Error("not renewed at half its life")
	}
}

func FuzzUnitVerify(f *testing.F) {
	key := newKey("unit")
	now := func() time.Time { return time.Unix(1_000_000, 0) }
	v := NewUnitVerifier(map[string]ed25519.PublicKey{"a": key.Public().(ed25519.PublicKey)}, []string{"b"}, now)
	good := NewUnitSigner("a", "b", key, now).sign(now().Add(unitLife))
	f.Add(good)
	f.Add("u1.a.b.1.AA")
	f.Fuzz(func(t *testing.T, s string) {
		if unit, err := v.Verify(s); err == nil && s != good {
			t.Errorf("accepted %q as %q", s, unit)
		}
	})
}

func TestPrincipalHidesItsToken(t *testing.T) {
	p := Principal{Type: UserAccount, ID: "u1", Token: "t1.secret", Unit: "gateway"}
	for _, text := range []string{fmt.Sprint(p), fmt.Sprintf("%v %+v %#v", p, p, &p)} {
		if strings.Contains(text, "secret") {
			t.Errorf("the token shows in %q", text)
		}
	}
	if got := FromContext(context.Background()); got != (Principal{}) {
		t.Errorf("somebody in an empty context: %v", got)
	}
	if got := FromContext(NewContext(context.Background(), p)); got != p {
		t.Errorf("got %v", got)
	}
}
