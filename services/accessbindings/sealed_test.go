package accessbindings

import (
	"bytes"
	"testing"

	"github.com/bindery-iam/bindery/pkg/checker"
)

func sealsOf(t testing.TB, b byte) *seals {
	t.Helper()
	s, err := newSeals(bytes.Repeat([]byte{b}, sealKeySize), commonWords(testCatalog(t)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var someDecision = decision{
	Query: checker.Query{
		Subject: checker.Subject{Type: "userAccount", ID: "usr0123456789abcdefgh"}, Permission: getFolder,
		Resource: checker.Resource{Type: "resource-manager.folder", ID: "fld0123456789abcdefgh"}, Now: 1_800_000_000_000_000,
	}, epoch: 3, revision: 123_456,
}

// TestEX8_Seals: an id says what it was made of, to who has the key, for its use alone,
// and no two are the same.
func TestEX8_Seals(t *testing.T) {
	s := sealsOf(t, 1)
	id := someDecision.id(s)
	if got, ok := decisionOf(s, id); !ok || got != someDecision {
		t.Errorf("opened %+v, %t", got, ok)
	}
	scoped := someDecision
	scoped.outOfScope = true
	if got, ok := decisionOf(s, scoped.id(s)); !ok || got != scoped {
		t.Errorf("opened %+v, %t", got, ok)
	}
	if someDecision.id(s) == id {
		t.Error("two ids are the same")
	}
	if len(id) > 144 { // it is a quarter of a denial; more than 256 is cut from an ErrorInfo
		t.Errorf("an id has %d characters", len(id))
	}
	if got, ok := decisionOf(sealsOf(t, 1), id); !ok || got != someDecision {
		t.Error("another process with the same key cannot open it")
	}
	if _, ok := decisionOf(sealsOf(t, 2), id); ok {
		t.Error("opened with another key")
	}
	if _, ok := decisionOf(s, s.token(append(roomFor(9), "something"...), []byte("another use"))); ok {
		t.Error("a token of another use was taken for a decision")
	}
	for cut := range len(id) {
		if _, ok := decisionOf(s, id[:cut]); ok {
			t.Fatalf("opened %d characters of it", cut)
		}
	}
}

// TestEX8_CommonWords: words with the same checksum are spelled out, and so are all that
// the catalogue does not have.
func TestEX8_CommonWords(t *testing.T) {
	w := newWords("plumless", "buckeroo", "another", "another") // the first two have one CRC-32
	for text, want := range map[string]int{"plumless": 9, "buckeroo": 9, "another": 1 + sumSize, "unknown": 8, "": 1} {
		b := w.appendTo(nil, text)
		if got, rest, ok := w.read(append(b, 'x')); !ok || got != text || string(rest) != "x" || len(b) != want {
			t.Errorf("%q took %d bytes, want %d, and was read as %q, %q, %t", text, len(b), want, got, rest, ok)
		}
	}
	for _, b := range [][]byte{nil, {0}, {0, 1, 2, 3}, {0, 1, 2, 3, 4}, {3, 'a'}, {0x80}} {
		if got, _, ok := w.read(b); ok {
			t.Errorf("%x was read as %q", b, got)
		}
	}
}

func FuzzDecisionID(f *testing.F) {
	s := sealsOf(f, 1)
	f.Add("x", []byte{1})
	f.Add(someDecision.id(s), []byte{2, 4, 6, 2, 'a', 2, 'b', 2, 'c', 2, 'd', 1})
	f.Add(someDecision.id(s), []byte{2, 4, 6, 0, 1, 2, 3, 4, 2, 'b', 2, 'c', 2, 'd', 1})
	f.Fuzz(func(t *testing.T, id string, text []byte) {
		decisionOf(s, id)
		if d, ok := decisionOf(s, s.token(append(roomFor(len(text)), text...), useDecision)); ok {
			if again, ok := decisionOf(s, d.id(s)); !ok || again != d {
				t.Errorf("%+v became %+v", d, again)
			}
		}
	})
}

func BenchmarkDecisionID(b *testing.B) {
	s := sealsOf(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		someDecision.id(s)
	}
}
