package doctor_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/services/doctor"
	"github.com/bindery-iam/bindery/services/identity"
)

// The seal key file is looked at, and whether it opens what the database holds.
func TestSealKey(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *patient) {
		keys, err := secret.EnsureSealer(p.opts.DataDir)
		if err != nil {
			t.Fatal(err)
		}
		signing := identity.Sealed()[0]
		insert := func(id string, value []byte) {
			t.Helper()
			_, err := p.db.Pool().ExecContext(t.Context(), fmt.Sprintf(
				`INSERT INTO %s (id, state, public_key, private_key, created_at, retired_at) VALUES ($1, 'RETIRED', $2, $2, 0, 0)`,
				p.db.Qualified(identity.Name, signing.Table)), id, value)
			if err != nil {
				t.Fatal(err)
			}
		}
		notes := func() (all []string) {
			for _, f := range doctor.Run(t.Context(), p.opts) {
				if f.Check == "seal key" && f.State == doctor.Note {
					all = append(all, f.Text)
				}
			}
			return all
		}
		insert("good", keys.Seal(signing.Purpose("good"), []byte("x")))
		insert("destroyed", []byte{})
		if got := p.wrong(); got != "" || notes() != nil {
			t.Errorf("nothing is wrong: %s; notes %v", got, notes())
		}

		insert("plain", bytes.Repeat([]byte{1}, signing.PlainSize))
		if err := secret.RotateSealKey(p.opts.SealKey); err != nil {
			t.Fatal(err)
		}
		if got := p.wrong(); got != "" || len(notes()) != 1 || !strings.HasPrefix(notes()[0], "2 secrets are sealed by an older key") {
			t.Errorf("after a rotation: %s; notes %v", got, notes())
		}

		if err := os.Chmod(p.opts.SealKey, 0o640); err != nil {
			t.Fatal(err)
		}
		insert("moved", keys.Seal(signing.Purpose("good"), []byte("x")))
		got := p.wrong()
		for _, want := range []string{
			"seal key: " + p.opts.SealKey + " has the mode 0640, so that others can read it: chmod 0600 " + p.opts.SealKey,
			"seal key: secrets that no key in " + p.opts.SealKey + " opens: iam token signing key moved",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("got:\n%s\nwant %q", got, want)
			}
		}

		if err := os.WriteFile(p.opts.SealKey, []byte("nothing"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := p.wrong(); !strings.Contains(got, "seal key: the seal key file cannot be used: ") || strings.Contains(got, "nothing") {
			t.Errorf("a file without keys: %s", got)
		}
		if err := os.Remove(p.opts.SealKey); err != nil {
			t.Fatal(err)
		}
		if got := p.wrong(); !strings.Contains(got, "seal key: there is no seal key file "+p.opts.SealKey+", and 3 secrets in the database are sealed") {
			t.Errorf("no file: %s", got)
		}
	})
}
