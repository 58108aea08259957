package authn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnitKeyFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "identity.key")
	text, err := CreateUnitKey(file)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ReadUnitKey(file)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ReadUnitPublicKey(file + ".pub")
	if err != nil || !public.Equal(key.Public()) {
		t.Errorf("%v: the halves do not fit", err)
	}
	if kept, err := os.ReadFile(file + ".pub"); err != nil || string(kept) != string(text) {
		t.Errorf("%v: %q was returned and %q written", err, text, kept)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v, want a file for its owner alone", st.Mode(), err)
	}
	if _, err := CreateUnitKey(file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("again: %v, want it refused", err)
	}
	if again, err := ReadUnitKey(file); err != nil || !again.Equal(key) {
		t.Errorf("%v: the key was replaced", err)
	}
}

// A key whose public half is there from elsewhere is not made, and leaves nothing.
func TestUnitKeyReplacesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.key")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateUnitKey(file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v, want it refused", err)
	}
	if _, err := os.Stat(file + ".pub"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v: a public half without the private one", err)
	}
}

func TestUnitKeysThatAreNone(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	if _, err := CreateUnitKey(good); err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, _ := x509.MarshalPKCS8PrivateKey(other)
	public, _ := x509.MarshalPKIXPublicKey(other.Public())
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for _, tt := range []struct {
		file string
		read func(string) error
		want string
	}{
		{filepath.Join(dir, "none"), readPrivate, "no such file"},
		{good + ".pub", readPrivate, `not one PEM block "PRIVATE KEY"`},
		{write("ecdsa", pemPrivate, private), readPrivate, "holds no Ed25519 key"},
		{write("cut", pemPrivate, private[:9]), readPrivate, "cut: "},
		{good, readPublic, `not one PEM block "PUBLIC KEY"`},
		{write("ecdsa.pub", pemPublic, public), readPublic, "holds no Ed25519 key"},
		{write("cut.pub", pemPublic, public[:9]), readPublic, "cut.pub: "},
	} {
		if err := tt.read(tt.file); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", filepath.Base(tt.file), err, tt.want)
		}
	}
}

func readPrivate(file string) error { _, err := ReadUnitKey(file); return err }

func readPublic(file string) error { _, err := ReadUnitPublicKey(file); return err }
