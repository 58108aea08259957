package secret_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bindery-iam/bindery/pkg/secret"
)

func newSealer(t *testing.T) *secret.Sealer {
	t.Helper()
	s, err := secret.EnsureSealer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealAndOpen(t *testing.T) {
	s := newSealer(t)
	for _, text := range []string{"", "x", strings.Repeat("secret", 1000)} {
		sealed := s.Seal("key/1", []byte(text))
		if len(text) > 1 && bytes.Contains(sealed, []byte(text)) {
			t.Error("the sealed text shows what it holds")
		}
		if bytes.Equal(sealed, s.Seal("key/1", []byte(text))) {
			t.Error("sealed twice alike")
		}
		if got, err := s.Open("key/1", sealed); err != nil || string(got) != text {
			t.Errorf("opened %q, %v; want %q", got, err, text)
		}
		if _, err := s.Open("key/2", sealed); !errors.Is(err, secret.ErrSealBroken) {
			t.Errorf("opened for another purpose: %v", err)
		}
		if !s.Fresh(sealed) {
			t.Error("not fresh")
		}
	}
}

// Every changed bit, every cut and every addition is noticed.
func TestOpenRefusesWhatIsDamaged(t *testing.T) {
	s := newSealer(t)
	sealed := s.Seal("p", []byte("text"))
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			if _, err := s.Open("p", bad); !errors.Is(err, secret.ErrSealBroken) && !errors.Is(err, secret.ErrSealKeyUnknown) {
				t.Errorf("byte %d bit %d: %v", i, bit, err)
			}
		}
		if _, err := s.Open("p", sealed[:i]); !errors.Is(err, secret.ErrSealBroken) {
			t.Errorf("cut after %d bytes: %v", i, err)
		}
	}
	if _, err := s.Open("p", append(bytes.Clone(sealed), 0)); !errors.Is(err, secret.ErrSealBroken) {
		t.Errorf("longer: %v", err)
	}
	if _, err := newSealer(t).Open("p", sealed); !errors.Is(err, secret.ErrSealKeyUnknown) {
		t.Errorf("by another key: %v", err)
	}
}

func TestRotateSealKey(t *testing.T) {
	dir := t.TempDir()
	old, err := secret.EnsureSealer(dir)
	if err != nil {
		t.Fatal(err)
	}
	sealed := old.Seal("p", []byte("text"))
	file := filepath.Join(dir, secret.SealKeyFile)
	for range 2 {
		if err := secret.RotateSealKey(file); err != nil {
			t.Fatal(err)
		}
	}
	s, err := secret.EnsureSealer(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Open("p", sealed); err != nil || string(got) != "text" {
		t.Errorf("%q, %v", got, err)
	}
	if s.Fresh(sealed) {
		t.Error("sealed by the old key, and fresh")
	}
	if _, err := old.Open("p", s.Seal("p", nil)); !errors.Is(err, secret.ErrSealKeyUnknown) {
		t.Errorf("the old file opens what the new key sealed: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v: more than the file was left", entries, err)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), "# Seal keys") != 1 || strings.Count(string(text), "seal1.") != 3 {
		t.Errorf("%v: the file reads\n%d lines", err, strings.Count(string(text), "\n"))
	}
}

func TestSealKeyFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "seal.key")
	if _, err := secret.ReadSealer(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := secret.CreateSealKey(file); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := secret.CreateSealKey(file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was replaced: %v", err)
	}
	key := make([]byte, secret.SealKeySize)
	_, _ = rand.Read(key)
	line := "seal1." + base64.RawURLEncoding.EncodeToString(key)
	for name, text := range map[string]string{
		"empty":         "",
		"comments only": "# nothing\n\n",
		"no prefix":     line[6:],
		"short":         "seal1." + base64.RawURLEncoding.EncodeToString(key[1:]),
		"padded":        line + "=",
		"twice":         line + "\n" + line,
		"a unit key":    "-----BEGIN PRIVATE KEY-----\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := secret.ReadSealer(file)
		if err == nil || strings.Contains(err.Error(), line[6:20]) {
			t.Errorf("%s: %v", name, err)
		}
		if err := secret.RotateSealKey(file); err == nil {
			t.Errorf("%s: rotated", name)
		}
	}
	if err := os.WriteFile(file, []byte("\r\n # ours\n  "+line+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.ReadSealer(file); err != nil {
		t.Errorf("with white space: %v", err)
	}
}

func TestNewSealerRefuses(t *testing.T) {
	for name, keys := range map[string][][]byte{"none": nil, "short": {make([]byte, 31)}, "twice": {make([]byte, 32), make([]byte, 32)}} {
		if _, err := secret.NewSealer(keys...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSealerShowsNoKey(t *testing.T) {
	key := bytes.Repeat([]byte("k"), secret.SealKeySize)
	s, err := secret.NewSealer(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{fmt.Sprint(s), fmt.Sprintf("%+v %#v", s, s)} {
		if strings.Contains(shown, "kkkk") || strings.Contains(shown, "107 107 107") || strings.Contains(shown, "0x6b, 0x6b, 0x6b") {
			t.Errorf("the key shows in %q", shown)
		}
	}
}

// What opens was sealed: whatever the input, nothing else is ever read out of
// it. The seeds hold sealed texts of the process that made them, which each
// fuzzing process can open too and whose bytes it does not know: seals differ
// each time.
func FuzzOpen(f *testing.F) {
	s, err := secret.NewSealer(make([]byte, secret.SealKeySize))
	if err != nil {
		f.Fatal(err)
	}
	good := s.Seal("p", []byte("text"))
	f.Add(good, 0, byte(0))
	f.Add(good[:20], 0, byte(0))
	f.Add([]byte("text"), 3, byte(1))
	f.Fuzz(func(t *testing.T, data []byte, at int, change byte) {
		if text, err := s.Open("p", data); err == nil && string(text) != "text" {
			t.Errorf("opened %x as %q", data, text)
		}
		sealed := s.Seal("p", data)
		if text, err := s.Open("p", sealed); err != nil || !bytes.Equal(text, data) {
			t.Errorf("sealed %x, opened %x, %v", data, text, err)
		}
		if at < 0 || change == 0 {
			return
		}
		sealed[at%len(sealed)] ^= change
		if text, err := s.Open("p", sealed); err == nil {
			t.Errorf("opened %x, changed at %d by %x, as %q", sealed, at%len(sealed), change, text)
		}
	})
}
