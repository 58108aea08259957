package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bindery-iam/bindery/pkg/secret"
)

// TestSealKeyFlags says which processes make a seal key themselves, and which must
// be given one.
func TestSealKeyFlags(t *testing.T) {
	const url = "postgres://db/bindery"
	given := filepath.Join(t.TempDir(), "given.key")
	if err := secret.CreateSealKey(given); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		units []string
		url   string
		file  string
		makes bool   // a file in the data directory
		none  bool   // nothing is sealed
		err   string // part of the refusal
	}{
		{name: "all on SQLite", units: []string{"all"}, makes: true},
		{name: "all on PostgreSQL", units: []string{"all"}, url: url, makes: true},
		{name: "apart on SQLite", units: []string{"identity"}, makes: true},
		{name: "apart on PostgreSQL", units: []string{"identity"}, url: url, err: "bindery seal-key create --out FILE"},
		{name: "with others on PostgreSQL", units: []string{"identity", "accessbindings"}, url: url, err: "--seal-key FILE"},
		{name: "given", units: []string{"identity"}, url: url, file: given},
		{name: "given and missing", units: []string{"all"}, file: given + ".none", err: "bring that of this installation"},
		{name: "who seals nothing", units: []string{"gateway", "accessbindings"}, url: url, none: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chosen, err := choose(tt.units)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "data")
			s, err := sealFlags{SealKey: tt.file}.sealer(storeFlags{DataDir: dir, DatabaseURL: tt.url}, chosen)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || (s == nil) != tt.none {
				t.Errorf("got a sealer: %t, %v", s != nil, err)
			}
			if _, err := os.Stat(filepath.Join(dir, secret.SealKeyFile)); (err == nil) != tt.makes {
				t.Errorf("made a file: %v", err)
			}
		})
	}
}

func TestSealKeyCommands(t *testing.T) {
	file := filepath.Join(t.TempDir(), "seal.key")
	var out strings.Builder
	if err := (sealKeyCreateCommand{Out: file}).Run(&out); err != nil {
		t.Fatal(err)
	}
	if err := (sealKeyCreateCommand{Out: file}).Run(&out); !errors.Is(err, os.ErrExist) {
		t.Errorf("made again: %v", err)
	}
	if err := (sealKeyRotateCommand{File: file}).Run(&out); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), "seal1.") != 2 {
		t.Errorf("%v, %d keys", err, strings.Count(string(text), "seal1."))
	}
	if strings.Contains(out.String(), "seal1.") || !strings.Contains(out.String(), "start them again") {
		t.Errorf("said %q", out.String())
	}
}
