package backup

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// Summary is what a backup holds.
type Summary struct {
	Header
	Rows int64
}

// Create backs up what db holds into a new file, which is there whole or not at
// all. db was opened without a schema; read only is enough. Its schemas are at the
// version of the program. Fails when the file is there already.
func Create(ctx context.Context, path string, db *sqldb.DB, units []Unit, program string, now time.Time) (s Summary, err error) {
	if _, err := os.Lstat(path); err == nil {
		return s, fmt.Errorf("%s is there already: a backup replaces no file", path)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return s, fmt.Errorf("make backup file: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if s, err = write(ctx, f, db, units, program, now); err != nil {
		return s, err
	}
	if err := f.Sync(); err != nil {
		return s, fmt.Errorf("write backup file: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return s, fmt.Errorf("name backup file: %w", err)
	}
	return s, errors.Join(f.Close(), syncDir(dir))
}

// syncDir makes the name of a file last.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the operator names the path
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// write writes a backup.
func write(ctx context.Context, to io.Writer, db *sqldb.DB, units []Unit, program string, now time.Time) (s Summary, err error) {
	l, err := newLayout(ctx, units)
	if err != nil {
		return s, err
	}
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(to, sum), 1<<16)
	if _, err := out.WriteString(magic); err != nil {
		return s, err
	}
	zip, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return s, err
	}
	err = sqldb.Snapshot(ctx, db, func(ctx context.Context, tx *sql.Tx) error {
		if err := l.verify(ctx, db, tx); err != nil {
			return err
		}
		s.Header = Header{Program: program, Engine: string(db.Engine()), MadeAt: now.UTC(), Schemas: l.schemas}
		if s.Revision, s.Epoch, err = l.head(ctx, db, tx); err != nil {
			return err
		}
		w := &writer{to: zip, db: db, tx: tx}
		if err := w.mark(mark{Header: &s.Header}); err != nil {
			return err
		}
		if err := l.each(func(u Unit, t sqldb.Table) error { return w.table(ctx, u.Name, t) }); err != nil {
			return err
		}
		s.Rows = w.rows
		return w.mark(mark{End: &end{Tables: l.count(), Rows: w.rows}})
	})
	if err != nil {
		return s, err
	}
	if err := errors.Join(zip.Close(), out.Flush()); err != nil {
		return s, fmt.Errorf("write backup: %w", err)
	}
	_, err = fmt.Fprintf(to, "%s%x\n", sumWord, sum.Sum(nil))
	return s, err
}

// verify refuses a store of another version than the program's.
func (l *layout) verify(ctx context.Context, db *sqldb.DB, q sqldb.Querier) error {
	for _, u := range l.units {
		for _, series := range slices.Sorted(maps.Keys(l.schemas[u.Name])) {
			have, err := sqldb.Version(ctx, db, q, u.Name, series)
			if err != nil {
				return err
			}
			if want := l.schemas[u.Name][series]; have != want {
				return fmt.Errorf("the schema of %s is at version %d and this program needs %d: back up with the program that serves it, or run bindery migrate", series, have, want)
			}
		}
	}
	return nil
}

// writer writes the lines of a backup.
type writer struct {
	to   io.Writer
	db   *sqldb.DB
	tx   *sql.Tx
	rows int64
	line []byte
}

func (w *writer) mark(m mark) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = w.to.Write(append(raw, '\n'))
	return err
}

func (w *writer) table(ctx context.Context, unit string, t sqldb.Table) error {
	c, err := w.db.Contents(ctx, w.tx, unit, t)
	if err != nil {
		return err
	}
	head := tableHead{Unit: unit, Name: t.Name}
	for _, col := range t.Columns {
		head.Columns = append(head.Columns, col.Name)
	}
	if head.Counter, err = c.Counter(ctx, w.tx); err != nil {
		return err
	}
	if err := w.mark(mark{Table: &head}); err != nil {
		return err
	}
	return c.Each(ctx, w.tx, func(values []any) error {
		var err error
		if w.line, err = encode(w.line[:0], t.Columns, values); err != nil {
			return fmt.Errorf("a row of %s: %w", t.Name, err)
		}
		if len(w.line) > maxLine {
			return fmt.Errorf("a row of %s has over %d bytes", t.Name, maxLine)
		}
		w.rows++
		_, err = w.to.Write(w.line)
		return err
	})
}
