package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/server"
)

// sealFlags say where the keys are that seal secrets in the database.
type sealFlags struct {
	SealKey string `placeholder:"FILE" help:"Keys that seal secrets in the database, of bindery seal-key create. When empty: seal.key in the data directory, made at the first start."`
}

// errSealKeyNeeded refuses a key of the machine's own: the unit may run on several,
// which share the database and must share the key.
var errSealKeyNeeded = errors.New("units in processes of their own over PostgreSQL seal by one key that they are all given: make it once (bindery seal-key create --out FILE), and start each with --seal-key FILE")

// sealer returns what the chosen units seal with; nil when none of them seals.
func (f sealFlags) sealer(store storeFlags, chosen []server.Unit) (*secret.Sealer, error) {
	if !slices.ContainsFunc(chosen, func(u server.Unit) bool { return u.Seals }) {
		return nil, nil
	}
	if f.SealKey != "" {
		s, err := secret.ReadSealer(f.SealKey)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: bring that of this installation, or make one for a new installation by bindery seal-key create --out %s", err, f.SealKey)
		}
		return s, err
	}
	if store.DatabaseURL != "" && len(chosen) < len(units()) {
		return nil, errSealKeyNeeded
	}
	if err := os.MkdirAll(store.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	return secret.EnsureSealer(store.DataDir)
}

// file is where the keys are.
func (f sealFlags) file(store storeFlags) string {
	if f.SealKey != "" {
		return f.SealKey
	}
	return filepath.Join(store.DataDir, secret.SealKeyFile)
}

type sealKeyCreateCommand struct {
	Out string `required:"" placeholder:"FILE" help:"File to make, for --seal-key. Keep a copy of it apart from the database."`
}

// Run makes a seal key file.
func (c sealKeyCreateCommand) Run(io.Writer) error {
	err := secret.CreateSealKey(c.Out)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("a seal key is never replaced, what it sealed would be lost: %w", err)
	}
	return err
}

type sealKeyRotateCommand struct {
	File string `required:"" placeholder:"FILE" help:"Seal key file, to which a new key is added that seals from the next start on."`
}

// Run adds a key, and says what is left to do.
func (c sealKeyRotateCommand) Run(out io.Writer) error {
	if err := secret.RotateSealKey(c.File); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "%s: a new key seals from the next start on. Bring the file to every process that seals, and start them again: what is in the database is then sealed anew.\n", c.File)
	return err
}
