package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// maxChanges bounds the changes of one write: numbers of bindings are made of
// revision and seq.
const maxChanges = 1 << 20

// write stores one revision: the head, the log entry of each change, and the rows
// that the change is about. A change has three forms, all made from the same
// message: the entry of the log, the rows (here) and the graph (graph.go).
func (s *store) write(ctx context.Context, tx *sql.Tx, revision int64, writeID string, now int64, changes []*accessv1.Change) error {
	if len(changes) == 0 { // a write that changed no fact has its entry as well
		changes = []*accessv1.Change{{}}
	}
	if len(changes) >= maxChanges {
		return fmt.Errorf("write revision %d: %d changes, fewer than %d fit", revision, len(changes), maxChanges)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE access_revision SET revision = $1 WHERE one = 1`, revision); err != nil {
		return fmt.Errorf("write revision %d: %w", revision, err)
	}
	for seq, c := range changes {
		payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
		if err != nil {
			return fmt.Errorf("write revision %d: %w", revision, err)
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO access_changes (revision, seq, kind, payload, write_id, changed_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			revision, seq, kindOf(c), payload, writeID, now)
		if err != nil {
			return fmt.Errorf("write revision %d: %w", revision, err)
		}
		if err := s.writeRows(ctx, tx, revision, revision*maxChanges+int64(seq), c); err != nil {
			return fmt.Errorf("write revision %d: %s: %w", revision, kindOf(c), err)
		}
	}
	return nil
}

// kindOf names a change in the log.
func kindOf(c *accessv1.Change) string {
	m := c.ProtoReflect()
	if f := m.WhichOneof(m.Descriptor().Oneofs().ByName("fact")); f != nil {
		return string(f.Name())
	}
	return "nothing"
}

// writeRows stores what a change says. number is that of a binding which is new.
func (s *store) writeRows(ctx context.Context, tx *sql.Tx, revision, number int64, c *accessv1.Change) error {
	switch f := c.GetFact().(type) {
	case *accessv1.Change_ResourcePlaced:
		return s.place(ctx, tx, refOf(f.ResourcePlaced.GetResource()), refOf(f.ResourcePlaced.GetParent()))
	case *accessv1.Change_ResourceRemoved:
		return s.remove(ctx, tx, refOf(f.ResourceRemoved.GetResource()), revision)
	case *accessv1.Change_BindingChanged:
		return s.bind(ctx, tx, number, f.BindingChanged)
	case *accessv1.Change_SubjectChanged:
		return s.setState(ctx, tx, subjectOf(f.SubjectChanged.GetSubject()), f.SubjectChanged.GetState())
	case *accessv1.Change_MemberChanged:
		return s.setMember(ctx, tx, f.MemberChanged)
	case *accessv1.Change_TokenRevoked:
		_, err := tx.ExecContext(ctx, `
			INSERT INTO access_revoked_tokens (token_id, expires_at) VALUES ($1, $2) ON CONFLICT (token_id) DO NOTHING`,
			f.TokenRevoked.GetTokenId(), micros(f.TokenRevoked.GetExpiresAt()))
		return err
	case nil:
		return nil
	default:
		return fmt.Errorf("no rows are known for it")
	}
}

func (s *store) place(ctx context.Context, tx *sql.Tx, r, parent Ref) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO access_resources (type, id, parent_type, parent_id, removed) VALUES ($1, $2, $3, $4, 0)
		ON CONFLICT (type, id) DO UPDATE SET parent_type = excluded.parent_type, parent_id = excluded.parent_id`,
		r.Type, r.ID, parent.Type, parent.ID)
	return err
}

// remove leaves the tombstone of one resource and drops what was said about it.
// The writer removes a subtree from below, one change for each resource.
func (s *store) remove(ctx context.Context, tx *sql.Tx, r Ref, revision int64) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO access_resources (type, id, parent_type, parent_id, removed) VALUES ($1, $2, '', '', $3)
		ON CONFLICT (type, id) DO UPDATE SET removed = excluded.removed`, r.Type, r.ID, revision)
	if err != nil {
		return err
	}
	for _, query := range []string{
		`DELETE FROM access_bindings WHERE resource_type = $1 AND resource_id = $2`,
		`DELETE FROM access_members WHERE container_type = $1 AND container_id = $2`,
	} {
		if _, err := tx.ExecContext(ctx, query, r.Type, r.ID); err != nil {
			return err
		}
	}
	return nil
}

// bind stores the sources of a pair in place of those it had. A pair that has
// rows keeps its number.
func (s *store) bind(ctx context.Context, tx *sql.Tx, number int64, c *accessv1.BindingChanged) error {
	on, who, role := refOf(c.GetResource()), subjectOf(c.GetBinding().GetSubject()), c.GetBinding().GetRoleId()
	pair := []any{on.Type, on.ID, role, who.Type, who.ID}
	const where = ` WHERE resource_type = $1 AND resource_id = $2 AND role_id = $3 AND subject_type = $4 AND subject_id = $5`
	var kept int64
	switch err := tx.QueryRowContext(ctx, `SELECT number FROM access_bindings`+where+` LIMIT 1`, pair...).Scan(&kept); {
	case err == nil:
		number = kept
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM access_bindings`+where, pair...); err != nil {
		return err
	}
	for _, src := range c.GetBinding().GetSources() {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO access_bindings
				(resource_type, resource_id, role_id, subject_type, subject_id, source_kind, source_id, expires_at, number)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			append(pair, int64(src.GetKind()), src.GetId(), micros(src.GetExpiresAt()), number)...)
		if err != nil {
			return err
		}
	}
	return nil
}

// setState stores the state of a subject; a deleted one loses its bindings and
// memberships.
func (s *store) setState(ctx context.Context, tx *sql.Tx, who Subject, state State) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO access_subjects (type, id, state) VALUES ($1, $2, $3)
		ON CONFLICT (type, id) DO UPDATE SET state = excluded.state`, who.Type, who.ID, int64(state))
	if err != nil || state != stateDeleted {
		return err
	}
	for _, query := range []string{
		`DELETE FROM access_bindings WHERE subject_type = $1 AND subject_id = $2`,
		`DELETE FROM access_members WHERE subject_type = $1 AND subject_id = $2`,
	} {
		if _, err := tx.ExecContext(ctx, query, who.Type, who.ID); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) setMember(ctx context.Context, tx *sql.Tx, c *accessv1.MemberChanged) error {
	container, who := refOf(c.GetContainer()), subjectOf(c.GetSubject())
	query := `
		DELETE FROM access_members
		WHERE container_type = $1 AND container_id = $2 AND subject_type = $3 AND subject_id = $4`
	if c.GetMember() {
		query = `
			INSERT INTO access_members (container_type, container_id, subject_type, subject_id) VALUES ($1, $2, $3, $4)
			ON CONFLICT (container_type, container_id, subject_type, subject_id) DO NOTHING`
	}
	_, err := tx.ExecContext(ctx, query, container.Type, container.ID, who.Type, who.ID)
	return err
}

// entry is one row of the log.
type entry struct {
	Revision int64
	WriteID  string
	Change   *accessv1.Change
}

// since reads the log after a revision, in order.
func (s *store) since(ctx context.Context, q sqldb.Querier, revision int64) ([]entry, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT revision, payload, write_id FROM access_changes WHERE revision > $1 ORDER BY revision, seq`, revision)
	if err != nil {
		return nil, fmt.Errorf("read changes: %w", err)
	}
	return collect(rows, "read changes", func() (e entry, err error) {
		var payload []byte
		if err := rows.Scan(&e.Revision, &payload, &e.WriteID); err != nil {
			return e, err
		}
		e.Change = new(accessv1.Change)
		return e, proto.Unmarshal(payload, e.Change)
	})
}

// forget drops revoked tokens that have ended by now: no verifier accepts them any
// more. It changes no decision and takes no revision.
func (s *store) forget(ctx context.Context, tx *sql.Tx, before int64) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM access_revoked_tokens WHERE expires_at < $1`, before)
	return err
}
