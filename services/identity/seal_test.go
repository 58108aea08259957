package identity

import (
	"context"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// signingRows reads the private parts of signing keys as they are stored, by id.
func (w *world) signingRows() map[string][]byte {
	w.t.Helper()
	all := make(map[string][]byte)
	rows, err := w.db.QueryContext(w.t.Context(), `SELECT id, private_key FROM identity_signing_keys WHERE state <> 'RETIRED'`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var value []byte
		if err := rows.Scan(&id, &value); err != nil {
			w.t.Fatal(err)
		}
		all[id] = value
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// A store of a version that kept private keys plain is sealed at the next start, and
// so is one whose seal key was rotated; tokens stay good throughout.
func TestSigningKeysAreSealedAnew(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		token := w.token(w.user("alice")).GetIamToken()
		file := filepath.Join(w.DataDir, secret.SealKeyFile)
		sealer := func() *secret.Sealer {
			s, err := secret.ReadSealer(file)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		for id, value := range w.signingRows() {
			private, err := sealer().Open(sealedSigningKeys.Purpose(id), value)
			if err != nil || len(private) != ed25519.PrivateKeySize {
				t.Fatalf("%s: %v", id, err)
			}
			if _, err := w.db.Pool().ExecContext(t.Context(), `UPDATE identity_signing_keys SET private_key = $1 WHERE id = $2`, private, id); err != nil {
				t.Fatal(err)
			}
		}
		for _, round := range []string{"plain", "rotated"} {
			w = w.restart()
			s := sealer()
			for id, value := range w.signingRows() {
				if _, err := s.Open(sealedSigningKeys.Purpose(id), value); err != nil || !s.Fresh(value) {
					t.Errorf("%s: %s is not sealed by the key that seals now: %v", round, id, err)
				}
			}
			if err := w.works(token); err != nil {
				t.Errorf("%s: a token from before: %v", round, err)
			}
			if err := secret.RotateSealKey(file); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Without its seal key the unit does not start, says what to do, and leaves the
// sealed keys as they are.
func TestMissingSealKey(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		file := filepath.Join(w.DataDir, secret.SealKeyFile)
		before := w.signingRows()
		w.Stop()
		if err := os.Rename(file, file+".away"); err != nil {
			t.Fatal(err)
		}
		other, err := secret.EnsureSealer(w.DataDir)
		if err != nil {
			t.Fatal(err)
		}
		err = openRing(t.Context(), w.db, other)
		if err == nil || !strings.Contains(err.Error(), "use the seal key file of this installation (--seal-key, otherwise seal.key in the data directory); no backup holds it") {
			t.Errorf("got %v", err)
		}
		for id, value := range w.signingRows() {
			if string(value) != string(before[id]) {
				t.Errorf("%s was changed", id)
			}
		}
		if err := os.Rename(file+".away", file); err != nil {
			t.Fatal(err)
		}
		w.restart()
	})
}

func openRing(ctx context.Context, db *sqldb.DB, s *secret.Sealer) error {
	return (&keyRing{db: db, sealer: s, now: time.Now}).open(ctx)
}
