package accessbindings

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Bounds of what the notifications of a transaction tell of the log.
const (
	maxTold  = 5800 // bytes in one: PostgreSQL takes fewer than 8000 characters, base64 makes four of three
	maxTells = 16   // notifications
)

// announce adds to a batch what wakes the other replicas when it is committed, and tells
// them what it writes into the log, unless that is long: then they read it.
func (c *committer) announce(b *sqldb.Batch, d *draft) {
	self, of := " ", c.graph.now()
	if c.replicas != nil {
		self = c.replicas.name() + " "
	}
	all := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Texts}}
	for rows := d.log.Values; len(rows) > 0; {
		n := revisionAt(rows)
		size := toldSize(rows[:n])
		if size > maxTold || len(all.Values) == maxTells {
			all.Values = [][]any{{self}}
			break
		}
		for n < len(rows) {
			more := revisionAt(rows[n:])
			if size += toldSize(rows[n : n+more]); size > maxTold {
				break
			}
			n += more
		}
		all.Add(self + base64.StdEncoding.EncodeToString(tell(of, rows[:n])))
		rows = rows[n:]
	}
	b.ExecRows(`SELECT pg_notify('`+changesChannel+`', payload) FROM (`, all, `) AS told (payload)`)
}

// revisionAt is how many of the rows of a log are of the revision of the first.
func revisionAt(rows [][]any) int {
	n := 1
	for n < len(rows) && rows[n][0] == rows[0][0] {
		n++
	}
	return n
}

// toldSize is at least what tell makes of rows.
func toldSize(rows [][]any) int {
	size := 0
	for _, row := range rows {
		size += 3*binary.MaxVarintLen64 + len(row[3].([]byte)) + len(row[4].(string)) //nolint:forcetypeassert // draft.enter makes them
	}
	return size
}

// tell encodes rows of the log: the line, then of each the revision, the write and
// the change, with their lengths.
func tell(of line, rows [][]any) []byte {
	raw := binary.AppendVarint(binary.AppendVarint(nil, of.Epoch), of.Number)
	for _, row := range rows {
		revision, payload, writeID := row[0].(int64), row[3].([]byte), row[4].(string) //nolint:forcetypeassert // draft.enter makes them
		raw = binary.AppendVarint(raw, revision)
		for _, part := range []string{writeID, string(payload)} {
			raw = append(binary.AppendUvarint(raw, uint64(len(part))), part...)
		}
	}
	return raw
}

var errTold = errors.New("a notification of changes is damaged")

// heard decodes what tell has encoded, but not the changes of revisions that are known.
func heard(text string, known int64) (of line, entries []entry, err error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return line{}, nil, err
	}
	number := func() (n int64) {
		n, read := binary.Varint(raw)
		if raw = raw[max(0, read):]; read <= 0 {
			err = errTold
		}
		return n
	}
	part := func() []byte {
		n, read := binary.Uvarint(raw)
		if raw = raw[max(0, read):]; read <= 0 || n > uint64(len(raw)) {
			err = errTold
			return nil
		}
		b := raw[:n]
		raw = raw[n:]
		return b
	}
	of = line{number(), number()}
	for len(raw) > 0 && err == nil {
		e := entry{Revision: number(), WriteID: string(part())}
		payload := part()
		if err == nil && e.Revision > known {
			e.Change = new(accessv1.Change)
			err = proto.Unmarshal(payload, e.Change)
		}
		entries = append(entries, e)
	}
	return of, entries, err
}

// hearChanges applies what a replica tells of the log, but not what this one has told
// itself. Without a payload it is there to be read.
func (r *replicas) hearChanges(payload string) {
	from, text, _ := strings.Cut(payload, " ")
	if from != "" && from == r.name() {
		return
	}
	if of, entries, err := heard(text, r.graph.Revision()); err != nil || !r.told(of, entries) {
		wake(r.wakeFollow)
	}
}

// told applies what another replica has told of the log, and reports whether that was
// all that is missing up to there: whether the log need not be read.
func (c *committer) told(of line, entries []entry) bool {
	if of != c.graph.now() || len(entries) == 0 || entries[0].Revision > c.graph.Revision()+1 {
		return false
	}
	return c.enter(of, entries) == nil
}
