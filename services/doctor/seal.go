package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/bindery-iam/bindery/pkg/secret"
)

// sealed looks at the seal key file, and whether its keys open what is sealed.
func (f *facts) sealed(ctx context.Context) {
	const name = "seal key"
	var values, old int
	var keys *secret.Sealer
	info, err := os.Stat(f.SealKey)
	missing := errors.Is(err, fs.ErrNotExist)
	if err == nil {
		keys, err = secret.ReadSealer(f.SealKey)
	}
	if err != nil && !missing {
		f.say(name, Wrong, "the seal key file cannot be used: %v", err)
		return
	}
	fine := f.SealKey + " is for its owner alone, and opens what is sealed"
	if missing {
		fine = "nothing is sealed yet, and the first start makes " + f.SealKey
	}
	f.check(name, fine, func() (complaints []string, err error) {
		var lost []string
		for _, u := range f.Units {
			for _, c := range u.Sealed {
				n, stale, broken, err := f.unsealable(ctx, keys, u.Name, c)
				if err != nil {
					return complaints, err
				}
				values, old, lost = values+n, old+stale, append(lost, broken...)
			}
		}
		switch {
		case missing && values > 0:
			return []string{fmt.Sprintf("there is no seal key file %s, and %d secrets in the database are sealed: bring it from where its copy is kept", f.SealKey, values)}, nil
		case !missing && info.Mode().Perm()&0o077 != 0:
			complaints = append(complaints, fmt.Sprintf("%s has the mode %04o, so that others can read it: chmod 0600 %s", f.SealKey, info.Mode().Perm(), f.SealKey))
		}
		return append(complaints, few("secrets that no key in "+f.SealKey+" opens", lost)...), nil
	})
	if old > 0 {
		f.say(name, Note, "%d secrets are sealed by an older key of the file, or not yet: start the server again, which seals them anew", old)
	}
}

// unsealable counts the values of a column, those that the first key did not seal,
// and names those that no key opens.
func (f *facts) unsealable(ctx context.Context, keys *secret.Sealer, unit string, c secret.Column) (n, stale int, lost []string, err error) {
	rows, err := f.tx.QueryContext(ctx, `SELECT `+c.ID+`, `+c.Value+` FROM `+f.db.Qualified(unit, c.Table)) //nolint:gosec // names of our own
	if err != nil {
		return 0, 0, nil, err
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		var id string
		var value []byte
		if err := rows.Scan(&id, &value); err != nil {
			return 0, 0, nil, err
		}
		if len(value) == 0 { // destroyed
			continue
		}
		n++
		if keys == nil {
			continue
		}
		switch _, err := keys.Open(c.Purpose(id), value); {
		case c.Plain(value) || err == nil && !keys.Fresh(value):
			stale++
		case err != nil:
			lost = append(lost, c.Kind+" "+id)
		}
	}
	return n, stale, lost, rows.Err()
}
