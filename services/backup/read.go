package backup

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// errDamaged begins every complaint about bytes that are not those written.
var errDamaged = errors.New("the backup is damaged or not whole")

// File is a backup that was verified: its checksum is right, its versions are those
// of the program, and every row can be read.
type File struct {
	Summary
	layout *layout
	file   *os.File
	size   int64 // of what the checksum covers
}

// Open verifies a backup whole, before anything is made of it. It refuses what is
// no backup, is damaged or cut off, or was made by another version of the schemas.
func Open(ctx context.Context, path string, units []Unit) (*File, error) {
	l, err := newLayout(ctx, units)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path) //nolint:gosec // the operator names the path
	if err != nil {
		return nil, err
	}
	b := &File{layout: l, file: f}
	if err := b.verify(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return b, nil
}

// Close closes the file.
func (b *File) Close() error { return b.file.Close() }

func (b *File) verify() error {
	if err := b.checkMagic(); err != nil {
		return err
	}
	if err := b.checkSum(); err != nil {
		return err
	}
	return b.rows(func(*tableHead, sqldb.Table) error { return nil }, func([]any) error { return nil })
}

// checkMagic tells a file of another format, or of none, from a damaged one.
func (b *File) checkMagic() error {
	begin := make([]byte, maxMagicLen)
	n, err := b.file.ReadAt(begin, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	first, _, whole := bytes.Cut(begin[:n], []byte("\n"))
	version, is := strings.CutPrefix(string(first), magicWord)
	switch {
	case !is || !whole:
		return errors.New("this is no backup of bindery")
	case string(first)+"\n" != magic:
		return fmt.Errorf("the backup has format %q, and this program reads %q only: use the program that made it", version, strings.TrimSpace(magic[len(magicWord):]))
	}
	return nil
}

// checkSum compares the checksum at the end with what is before it.
func (b *File) checkSum() error {
	info, err := b.file.Stat()
	if err != nil {
		return err
	}
	b.size = info.Size() - int64(sumLen)
	if b.size < int64(len(magic)) {
		return fmt.Errorf("%w: it ends early", errDamaged)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(b.file, 0, b.size)); err != nil {
		return err
	}
	last := make([]byte, sumLen)
	if _, err := b.file.ReadAt(last, b.size); err != nil {
		return err
	}
	if !bytes.HasPrefix(last, []byte(sumWord)) {
		return fmt.Errorf("%w: there is no checksum at its end", errDamaged)
	}
	if string(last) != fmt.Sprintf("%s%x\n", sumWord, sum.Sum(nil)) {
		return fmt.Errorf("%w: the checksum is not that of its bytes", errDamaged)
	}
	return nil
}

// rows reads the whole file, calling table for each table and row for each row.
func (b *File) rows(table func(*tableHead, sqldb.Table) error, row func([]any) error) error {
	body := bufio.NewReader(io.NewSectionReader(b.file, int64(len(magic)), b.size-int64(len(magic))))
	zip, err := gzip.NewReader(body)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	zip.Multistream(false)
	lines := bufio.NewScanner(zip)
	lines.Buffer(make([]byte, 1<<16), maxLine+1)
	r := &reader{layout: b.layout, table: table, row: row, tables: make(map[string]bool)}
	for lines.Scan() {
		if err := r.line(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if _, err := body.ReadByte(); !errors.Is(err, io.EOF) || !r.ended {
		return fmt.Errorf("%w: it does not end where it should", errDamaged)
	}
	b.Summary = Summary{Header: *r.header, Rows: r.n}
	return nil
}

// reader takes the lines of a backup in their order.
type reader struct {
	layout *layout
	table  func(*tableHead, sqldb.Table) error
	row    func([]any) error

	header  *Header
	current *sqldb.Table
	tables  map[string]bool // seen, by unit and name
	n       int64           // rows
	ended   bool
}

func (r *reader) line(line []byte) error {
	if r.ended {
		return fmt.Errorf("%w: a line after its end", errDamaged)
	}
	if len(line) > 0 && line[0] == '[' {
		if r.current == nil {
			return fmt.Errorf("%w: a row of no table", errDamaged)
		}
		values, err := decode(line, r.current.Columns)
		if err != nil {
			return fmt.Errorf("%w: a row of %s: %w", errDamaged, r.current.Name, err)
		}
		r.n++
		return r.row(values)
	}
	var m mark
	if err := json.Unmarshal(line, &m); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	switch {
	case m.Header != nil && r.header == nil:
		r.header = m.Header
		return r.layout.fits(m.Header)
	case m.Table != nil && r.header != nil:
		return r.begin(m.Table)
	case m.End != nil && r.header != nil:
		r.ended = true
		if m.End.Rows != r.n || m.End.Tables != len(r.tables) || m.End.Tables != r.layout.count() {
			return fmt.Errorf("%w: it holds %d rows of %d tables, and says %d of %d", errDamaged, r.n, len(r.tables), m.End.Rows, m.End.Tables)
		}
		return nil
	default:
		return fmt.Errorf("%w: a line out of its place", errDamaged)
	}
}

// begin takes the head of a table.
func (r *reader) begin(head *tableHead) error {
	t, ok := r.layout.table(head.Unit, head.Name)
	if !ok {
		return fmt.Errorf("%w: the unit %s has no table %s", errDamaged, head.Unit, head.Name)
	}
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	if !slices.Equal(names, head.Columns) {
		return fmt.Errorf("%w: the table %s has the columns %v, not %v", errDamaged, head.Name, names, head.Columns)
	}
	key := head.Unit + "." + head.Name
	if r.tables[key] {
		return fmt.Errorf("%w: the table %s is there twice", errDamaged, key)
	}
	r.tables[key] = true
	r.current = &t
	return r.table(head, t)
}

// fits refuses a backup of other versions than the program's.
func (l *layout) fits(h *Header) error {
	for unit, series := range h.Schemas {
		for name, version := range series {
			known, ok := l.schemas[unit][name]
			switch {
			case !ok:
				return fmt.Errorf("the backup holds %s of the unit %s, which this program does not know: restore it with bindery %s", name, unit, h.Program)
			case version > known:
				return fmt.Errorf("the backup is newer than this program: the schema of %s is at version %d and this program knows only %d; restore it with bindery %s", name, version, known, h.Program)
			case version < known:
				return fmt.Errorf("the backup is older than this program: the schema of %s is at version %d and this program needs %d; restore it with bindery %s, then migrate", name, version, known, h.Program)
			}
		}
	}
	for unit, series := range l.schemas {
		for name := range series {
			if _, ok := h.Schemas[unit][name]; !ok {
				return fmt.Errorf("the backup is older than this program: it does not hold %s of the unit %s; restore it with bindery %s, then migrate", name, unit, h.Program)
			}
		}
	}
	return nil
}
