package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// maxChanges bounds the changes of one write: numbers of bindings are made of
// revision and seq.
const maxChanges = 1 << 20

// A change has three forms, all made from the same message: the entry of the log
// (draft.enter), the rows (writeRows, and draft.rows for bindings) and the graph.

func errManyChanges(revision int64, n int) error {
	return fmt.Errorf("write revision %d: %d changes, fewer than %d fit", revision, n, maxChanges)
}

func errRows(revision int64, c *accessv1.Change, err error) error {
	return fmt.Errorf("write revision %d: %s: %w", revision, kindOf(c), err)
}

// kindOf names a change in the log.
func kindOf(c *accessv1.Change) string {
	m := c.ProtoReflect()
	if f := m.WhichOneof(m.Descriptor().Oneofs().ByName("fact")); f != nil {
		return string(f.Name())
	}
	return "nothing"
}

// writeRows stores what a change says. number is that of a binding, a policy
// or a membership which is new; t counts the pairs that come and go.
func (s *store) writeRows(ctx context.Context, tx *sql.Tx, t *tally, revision, number int64, c *accessv1.Change) error {
	switch f := c.GetFact().(type) {
	case *accessv1.Change_ResourcePlaced:
		return s.place(ctx, tx, t, refOf(f.ResourcePlaced.GetResource()), refOf(f.ResourcePlaced.GetParent()))
	case *accessv1.Change_ResourceRemoved:
		return s.remove(ctx, tx, t, refOf(f.ResourceRemoved.GetResource()), revision)
	case *accessv1.Change_BindingChanged:
		return s.bind(ctx, tx, t, number, f.BindingChanged)
	case *accessv1.Change_SubjectChanged:
		return s.setStanding(ctx, tx, t, subjectOf(f.SubjectChanged.GetSubject()), standingOf(f.SubjectChanged))
	case *accessv1.Change_MemberChanged:
		return s.setMember(ctx, tx, number, f.MemberChanged)
	case *accessv1.Change_GroupChanged:
		return s.setGroup(ctx, tx, groupOf(f.GroupChanged))
	case *accessv1.Change_TokenRevoked:
		_, err := tx.ExecContext(ctx, `
			INSERT INTO access_revoked_tokens (token_id, expires_at) VALUES ($1, $2) ON CONFLICT (token_id) DO NOTHING`,
			f.TokenRevoked.GetTokenId(), micros(f.TokenRevoked.GetExpiresAt()))
		return err
	case *accessv1.Change_PolicyBound:
		b := PolicyBinding{Template: f.PolicyBound.GetTemplateId(), Parameters: f.PolicyBound.GetParameters()}
		return s.bindPolicy(ctx, tx, number, refOf(f.PolicyBound.GetResource()), b)
	case *accessv1.Change_PolicyUnbound:
		return s.unbindPolicy(ctx, tx, refOf(f.PolicyUnbound.GetResource()), f.PolicyUnbound.GetTemplateId())
	case *accessv1.Change_GrantEnded:
		_, err := tx.ExecContext(ctx, `INSERT INTO access_ended_grants (id) VALUES ($1) ON CONFLICT (id) DO NOTHING`, f.GrantEnded.GetId())
		return err
	case *accessv1.Change_GrantPolicyChanged:
		return s.setGrantPolicy(ctx, tx, grantPolicyOf(f.GrantPolicyChanged.GetPolicy()))
	case *accessv1.Change_GrantPolicyRemoved:
		return s.removeGrantPolicy(ctx, tx, f.GrantPolicyRemoved.GetId())
	case *accessv1.Change_PayerSet:
		return s.setPayer(ctx, tx, f.PayerSet)
	case *accessv1.Change_PayerStopped:
		return s.setStopped(ctx, tx, f.PayerStopped)
	case nil:
		return nil
	default:
		return fmt.Errorf("no rows are known for it")
	}
}

func (s *store) place(ctx context.Context, tx *sql.Tx, t *tally, r, parent Ref) error {
	return s.recount(ctx, tx, t, r, func() error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO access_resources (type, id, parent_type, parent_id, removed) VALUES ($1, $2, $3, $4, 0)
			ON CONFLICT (type, id) DO UPDATE SET parent_type = excluded.parent_type, parent_id = excluded.parent_id`,
			r.Type, r.ID, parent.Type, parent.ID)
		return err
	})
}

// remove leaves the tombstone of one resource and drops what was said about it.
// The writer removes a subtree from below, one change for each resource.
func (s *store) remove(ctx context.Context, tx *sql.Tx, t *tally, r Ref, revision int64) error {
	if err := s.uncount(ctx, tx, t, r); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO access_resources (type, id, parent_type, parent_id, removed) VALUES ($1, $2, '', '', $3)
		ON CONFLICT (type, id) DO UPDATE SET removed = excluded.removed`, r.Type, r.ID, revision)
	if err != nil {
		return err
	}
	for _, query := range []string{
		`DELETE FROM access_bindings WHERE resource_type = $1 AND resource_id = $2`,
		`DELETE FROM access_members WHERE container_type = $1 AND container_id = $2`,
		`DELETE FROM access_groups WHERE $1 = '` + typeGroup + `' AND id = $2`,
		`DELETE FROM access_policies WHERE resource_type = $1 AND resource_id = $2`,
		`DELETE FROM access_grant_places WHERE resource_type = $1 AND resource_id = $2`,
		`DELETE FROM access_grant_policies WHERE $1 = '` + typeOrganization + `' AND organization_id = $2`,
		`DELETE FROM access_payers WHERE $1 = '` + typeCloud + `' AND cloud_id = $2`,
		`DELETE FROM access_stopped_payers WHERE $1 = '` + typeBillingAccount + `' AND account_id = $2`,
	} {
		if _, err := tx.ExecContext(ctx, query, r.Type, r.ID); err != nil {
			return err
		}
	}
	return nil
}

// bind stores the sources of a pair in place of those it had. A pair that has
// rows keeps its number.
func (s *store) bind(ctx context.Context, tx *sql.Tx, t *tally, number int64, c *accessv1.BindingChanged) error {
	on, who, role := refOf(c.GetResource()), subjectOf(c.GetBinding().GetSubject()), c.GetBinding().GetRoleId()
	pair := []any{on.Type, on.ID, role, who.Type, who.ID}
	const where = ` WHERE resource_type = $1 AND resource_id = $2 AND role_id = $3 AND subject_type = $4 AND subject_id = $5`
	var kept int64
	switch err := tx.QueryRowContext(ctx, `SELECT number FROM access_bindings`+where+` LIMIT 1`, pair...).Scan(&kept); {
	case err == nil:
		number = kept
		t.resources[on]--
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM access_bindings`+where, pair...); err != nil {
		return err
	}
	if len(c.GetBinding().GetSources()) > 0 {
		t.resources[on]++
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

// setStanding stores the state of a subject; a deleted one loses its bindings and
// memberships.
func (s *store) setStanding(ctx context.Context, tx *sql.Tx, t *tally, who Subject, is standing) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO access_subjects (type, id, state, expires_at, version) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (type, id) DO UPDATE SET state = excluded.state, expires_at = excluded.expires_at, version = excluded.version`,
		who.Type, who.ID, int64(is.State), is.End, is.Version)
	if err != nil || is.State != stateDeleted {
		return err
	}
	if err := s.uncountHeld(ctx, tx, t, who); err != nil {
		return err
	}
	if err := s.leaveGrantPolicies(ctx, tx, who); err != nil { // SC-16
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

// setMember stores a membership; one that is there keeps its number.
func (s *store) setMember(ctx context.Context, tx *sql.Tx, number int64, c *accessv1.MemberChanged) error {
	container, who := refOf(c.GetContainer()), subjectOf(c.GetSubject())
	if !c.GetMember() {
		_, err := tx.ExecContext(ctx, `
			DELETE FROM access_members
			WHERE container_type = $1 AND container_id = $2 AND subject_type = $3 AND subject_id = $4`,
			container.Type, container.ID, who.Type, who.ID)
		return err
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO access_members (container_type, container_id, subject_type, subject_id, number) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (container_type, container_id, subject_type, subject_id) DO NOTHING`,
		container.Type, container.ID, who.Type, who.ID, number)
	return err
}

// entry is one row of the log.
type entry struct {
	Revision int64
	WriteID  string
	Change   *accessv1.Change // nil for one that the graph had when it was read
}

// since reads the log after a revision, in order.
func (s *store) since(ctx context.Context, q sqldb.Querier, revision int64) ([]entry, error) {
	rows, err := q.QueryContext(ctx, sinceQuery, revision, int64(math.MaxInt64))
	if err != nil {
		return nil, fmt.Errorf("read changes: %w", err)
	}
	return collect(rows, "read changes", func() (entry, error) { return scanEntry(rows, 0) })
}

// sinceQuery reads the log after a revision and up to another one, in order, for
// scanEntry. With one bound alone PostgreSQL expects a third of the log, and reads all of
// it.
const sinceQuery = `
	SELECT revision, payload, write_id FROM access_changes
	WHERE revision > $1 AND revision <= $2 ORDER BY revision, seq`

// scanEntry reads an entry, and what it says unless its revision is known.
func scanEntry(row sqldb.Scanner, known int64) (e entry, err error) {
	var payload []byte
	if err := row.Scan(&e.Revision, &payload, &e.WriteID); err != nil || e.Revision <= known {
		return e, err
	}
	e.Change = new(accessv1.Change)
	return e, proto.Unmarshal(payload, e.Change)
}

// wrote reports whether a revision is of a write.
func (s *store) wrote(ctx context.Context, q sqldb.Querier, revision int64, writeID string) (bool, error) {
	var n int
	err := q.QueryRowContext(ctx, `SELECT COUNT(*) FROM access_changes WHERE revision = $1 AND write_id = $2`, revision, writeID).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("read changes: %w", err)
	}
	return n > 0, nil
}

// forget drops revoked tokens that have ended by now: no verifier accepts them any
// more. It changes no decision and takes no revision.
func (s *store) forget(ctx context.Context, tx *sql.Tx, before int64) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM access_revoked_tokens WHERE expires_at < $1`, before)
	return err
}
