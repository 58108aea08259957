package accessbindings

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"
)

// containersOf reads the containers of a type ("" for any) of which a subject is
// a direct member, ordered by type and id.
func (s *store) containersOf(ctx context.Context, q sqldb.Querier, who Subject, typ string) ([]Ref, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT container_type, container_id FROM access_members
		WHERE subject_type = $1 AND subject_id = $2 AND ($3 = '' OR container_type = $3)
		ORDER BY container_type, container_id`, who.Type, who.ID, typ)
	if err != nil {
		return nil, fmt.Errorf("read memberships: %w", err)
	}
	return collect(rows, "read memberships", func() (r Ref, err error) {
		return r, rows.Scan(&r.Type, &r.ID)
	})
}

// member is a direct member of a container. Number is its place in listings: the
// higher, the later it joined.
type member struct {
	Subject
	Number int64
}

// membersAfter reads at most limit direct members of a container whose number is
// above after, in the order of listings.
func (s *store) membersAfter(ctx context.Context, q sqldb.Querier, container Ref, after int64, limit int) ([]member, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT subject_type, subject_id, number FROM access_members
		WHERE container_type = $1 AND container_id = $2 AND number > $3
		ORDER BY number LIMIT $4`, container.Type, container.ID, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	return collect(rows, "read members", func() (m member, err error) {
		return m, rows.Scan(&m.Type, &m.ID, &m.Number)
	})
}

// membersOf reads the direct members of a container, ordered by type and id.
func (s *store) membersOf(ctx context.Context, q sqldb.Querier, container Ref) ([]Subject, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT subject_type, subject_id FROM access_members
		WHERE container_type = $1 AND container_id = $2
		ORDER BY subject_type, subject_id`, container.Type, container.ID)
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	return collect(rows, "read members", func() (m Subject, err error) {
		return m, rows.Scan(&m.Type, &m.ID)
	})
}

// subjectBatch bounds the subjects that one statement names.
const subjectBatch = 100

// pairsOf are types and ids as a list of values of a statement, after from arguments.
func pairsOf[T ~struct{ Type, ID string }](pairs []T, from int) (values string, args []any) {
	var b strings.Builder
	for i, pair := range pairs {
		who := Subject(pair)
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("($" + strconv.Itoa(from+2*i+1) + ", $" + strconv.Itoa(from+2*i+2) + ")")
		args = append(args, who.Type, who.ID)
	}
	return b.String(), args
}

// areMembers says which of the subjects are direct members of a container.
func (s *store) areMembers(ctx context.Context, q sqldb.Querier, container Ref, subjects []Subject) (map[Subject]bool, error) {
	found := make(map[Subject]bool, len(subjects))
	for some := range slices.Chunk(subjects, subjectBatch) {
		values, args := pairsOf(some, 2)
		rows, err := q.QueryContext(ctx, `
			SELECT subject_type, subject_id FROM access_members
			WHERE container_type = $1 AND container_id = $2 AND (subject_type, subject_id) IN (VALUES `+values+`)`,
			append([]any{container.Type, container.ID}, args...)...)
		if err != nil {
			return nil, fmt.Errorf("read members: %w", err)
		}
		members, err := collect(rows, "read members", func() (m Subject, err error) { return m, rows.Scan(&m.Type, &m.ID) })
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			found[m] = true
		}
	}
	return found, nil
}

// membersNamed reads the direct members of a container that have one of the ids,
// by id: several when they differ in type.
func (s *store) membersNamed(ctx context.Context, q sqldb.Querier, container Ref, ids []string) (map[string][]Subject, error) {
	found := make(map[string][]Subject, len(ids))
	for some := range slices.Chunk(ids, subjectBatch) {
		args := []any{container.Type, container.ID}
		for _, id := range some {
			args = append(args, id)
		}
		rows, err := q.QueryContext(ctx, `
			SELECT subject_type, subject_id FROM access_members
			WHERE container_type = $1 AND container_id = $2 AND subject_id IN `+placeholders(len(some), 2)+`
			ORDER BY subject_type, subject_id`, args...)
		if err != nil {
			return nil, fmt.Errorf("read members: %w", err)
		}
		members, err := collect(rows, "read members", func() (m Subject, err error) { return m, rows.Scan(&m.Type, &m.ID) })
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			found[m.ID] = append(found[m.ID], m)
		}
	}
	return found, nil
}

// subjectsNamed finds the subjects of ids, of whatever type, that are known and not
// deleted: by id, one for ids that bindery makes.
func (s *store) subjectsNamed(ctx context.Context, q sqldb.Querier, ids []string) (map[string][]Subject, error) {
	found := make(map[string][]Subject, len(ids))
	for some := range slices.Chunk(ids, subjectBatch) {
		args := []any{rules.FederatedUser, rules.Group, rules.ServiceAccount, rules.UserAccount, int64(stateDeleted)}
		for _, id := range some {
			args = append(args, id)
		}
		rows, err := q.QueryContext(ctx, `
			SELECT type, id FROM access_subjects
			WHERE type IN ($1, $2, $3, $4) AND state <> $5 AND id IN `+placeholders(len(some), 5)+`
			ORDER BY type`, args...)
		if err != nil {
			return nil, fmt.Errorf("read subjects: %w", err)
		}
		subjects, err := collect(rows, "read subjects", func() (m Subject, err error) { return m, rows.Scan(&m.Type, &m.ID) })
		if err != nil {
			return nil, err
		}
		for _, m := range subjects {
			found[m.ID] = append(found[m.ID], m)
		}
	}
	return found, nil
}

// countMembers counts the direct members of a container.
func (s *store) countMembers(ctx context.Context, q sqldb.Querier, container Ref) (n int64, err error) {
	err = q.QueryRowContext(ctx, `
		SELECT COUNT(*) FROM access_members WHERE container_type = $1 AND container_id = $2`, container.Type, container.ID).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count members: %w", err)
	}
	return n, nil
}

// countMemberships counts the containers of a type in which each subject is
// directly.
func (s *store) countMemberships(ctx context.Context, q sqldb.Querier, typ string, subjects []Subject) (map[Subject]int64, error) {
	counts := make(map[Subject]int64, len(subjects))
	for some := range slices.Chunk(subjects, subjectBatch) {
		values, args := pairsOf(some, 1)
		rows, err := q.QueryContext(ctx, `
			SELECT subject_type, subject_id, COUNT(*) FROM access_members
			WHERE container_type = $1 AND (subject_type, subject_id) IN (VALUES `+values+`)
			GROUP BY subject_type, subject_id`, append([]any{typ}, args...)...)
		if err != nil {
			return nil, fmt.Errorf("count memberships: %w", err)
		}
		all, err := collect(rows, "count memberships", func() (m member, err error) { return m, rows.Scan(&m.Type, &m.ID, &m.Number) })
		if err != nil {
			return nil, err
		}
		for _, m := range all {
			counts[m.Subject] = m.Number
		}
	}
	return counts, nil
}

// countContainers counts the containers of a type in which the subject of an id is.
func (s *store) countContainers(ctx context.Context, q sqldb.Querier, subjectID, typ string) (int64, error) {
	named, err := s.subjectsNamed(ctx, q, []string{subjectID})
	if err != nil {
		return 0, err
	}
	counts, err := s.countMemberships(ctx, q, typ, named[subjectID])
	var n int64
	for _, count := range counts {
		n += count
	}
	return n, err
}
