package secret

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// SealKeyFile is the name of the seal key file in a data directory.
const SealKeyFile = "seal.key"

// sealPrefix begins the line of a key.
const sealPrefix = "seal1."

const sealHeader = "# Seal keys of bindery: the first one seals, the others still open what they sealed.\n" +
	"# Keep a copy apart from the database and its backups: they cannot be used without it.\n"

// A seal key file holds a key in each line, "seal1." and 32 bytes in base64url, and
// comments that begin with #.

// CreateSealKey makes a file with one new key, for its owner alone. A file that is
// there is never replaced (fs.ErrExist): what it sealed would be lost.
func CreateSealKey(file string) error {
	// A link is there whole or not at all, and replaces nothing.
	if err := publish(file, sealHeader+newSealLine(), nil, os.Link); err != nil {
		return fmt.Errorf("make seal key: %w", err)
	}
	return nil
}

// RotateSealKey puts a new key first into a file, whose other keys go on opening.
// The file is replaced at once, and is good before and after.
func RotateSealKey(file string) error {
	text, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return fmt.Errorf("rotate seal key: %w", err)
	}
	if _, err := parseSealKeys(text); err != nil {
		return fmt.Errorf("rotate seal key: %s: %w", file, err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("rotate seal key: %w", err)
	}
	rest := strings.TrimPrefix(string(text), sealHeader)
	if err := publish(file, sealHeader+newSealLine()+rest, info, os.Rename); err != nil {
		return fmt.Errorf("rotate seal key: %w", err)
	}
	return nil
}

// publish writes a text beside file and then puts it there, so that it lasts. It
// belongs to the owner of what was there before.
func publish(file, text string, before fs.FileInfo, put func(from, to string) error) error {
	next, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(next.Name()) }() // gone when it was renamed
	_, err = next.WriteString(text)
	if before != nil {
		err = errors.Join(err, keepOwner(next, before))
	}
	if err = errors.Join(err, next.Sync(), next.Close()); err != nil {
		return err
	}
	if err := put(next.Name(), file); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// keepOwner gives a new file the owner of the old one, when another one writes it.
func keepOwner(f *os.File, before fs.FileInfo) error {
	st, ok := before.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() && int(st.Gid) == os.Getegid() {
		return nil
	}
	return errors.Join(f.Chown(int(st.Uid), int(st.Gid)), f.Chmod(before.Mode().Perm()))
}

// ReadSealer returns the Sealer of a file (fs.ErrNotExist when there is none).
func ReadSealer(file string) (*Sealer, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	s, err := parseSealKeys(text)
	if err != nil {
		return nil, fmt.Errorf("seal key: %s: %w", file, err)
	}
	return s, nil
}

// EnsureSealer is ReadSealer of the file in a data directory, which it makes when it
// is not there.
func EnsureSealer(dir string) (*Sealer, error) {
	file := filepath.Join(dir, SealKeyFile)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		// Somebody else may make it meanwhile.
		if err := CreateSealKey(file); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return ReadSealer(file)
}

func newSealLine() string {
	key := make([]byte, SealKeySize)
	_, _ = rand.Read(key) // never fails: the runtime ends the process instead
	return sealPrefix + base64.RawURLEncoding.EncodeToString(key) + "\n"
}

// parseSealKeys reads the text of a file. Its errors show nothing of the keys.
func parseSealKeys(text []byte) (*Sealer, error) {
	var keys [][]byte
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		encoded, ok := strings.CutPrefix(line, sealPrefix)
		key, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
		if !ok || err != nil || len(key) != SealKeySize {
			return nil, fmt.Errorf("line %d is not %q and %d bytes in base64url", number, sealPrefix, SealKeySize)
		}
		keys = append(keys, key)
	}
	return NewSealer(keys...)
}
