package accessbindings

import (
	"context"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// treeOf selects an organization and all that stands or stood below it, removed
// resources included.
const treeOf = `
	WITH RECURSIVE tree (type, id, depth) AS (
		SELECT type, id, 0 FROM access_resources WHERE type = '` + typeOrganization + `' AND id = $1
		UNION ALL
		SELECT r.type, r.id, t.depth + 1
		FROM access_resources r JOIN tree t ON r.parent_type = t.type AND r.parent_id = t.id
		WHERE t.depth < 64
	)`

// organizationFacts gives out the facts that decide in an organization, as picker picks
// them, in no order that matters, and returns the containers of others whose members are
// among them.
func (s *store) organizationFacts(ctx context.Context, q sqldb.Querier, c *catalog.Catalog, organization string, put func(checker.Change) error) (map[Ref]bool, error) {
	for _, read := range []func(context.Context, sqldb.Querier, *catalog.Catalog, string, func(checker.Change) error) error{
		s.treeFacts, s.actorFacts, s.treeMemberFacts, s.treeBindingFacts, s.treePolicyFacts, s.treePayerFacts, s.stoppedFacts,
	} {
		if err := read(ctx, q, c, organization, put); err != nil {
			return nil, err
		}
	}
	if err := s.tokenFacts(ctx, q, put); err != nil {
		return nil, err
	}
	return s.foreign(ctx, q, organization, put)
}

func (s *store) treeFacts(ctx context.Context, q sqldb.Querier, _ *catalog.Catalog, organization string, put func(checker.Change) error) error {
	var r, parent checker.Resource
	var removed int64
	one := func() error {
		if removed > 0 {
			return put(checker.Remove{Resource: r})
		}
		return put(checker.Place{Resource: r, Parent: parent})
	}
	err := eachOf(ctx, q, "resources", treeOf+`
		SELECT r.type, r.id, r.parent_type, r.parent_id, r.removed
		FROM tree t JOIN access_resources r ON r.type = t.type AND r.id = t.id`,
		[]any{organization}, []any{&r.Type, &r.ID, &parent.Type, &parent.ID, &removed}, one)
	if err != nil {
		return err
	}
	return eachOf(ctx, q, "removed accounts", `
		SELECT type, id, removed FROM access_resources WHERE type = '`+typeServiceAccount+`' AND removed > 0 AND parent_id = ''`,
		nil, []any{&r.Type, &r.ID, &removed}, one)
}

// actorFacts are the states of all subjects that act, and of the organization's groups.
func (s *store) actorFacts(ctx context.Context, q sqldb.Querier, _ *catalog.Catalog, organization string, put func(checker.Change) error) error {
	var who checker.Subject
	var state State
	var end int64
	return eachOf(ctx, q, "subjects", treeOf+`
		SELECT type, id, state, expires_at FROM access_subjects WHERE type <> '`+rules.Group+`'
		UNION ALL
		SELECT g.type, g.id, g.state, g.expires_at
		FROM tree t JOIN access_subjects g ON g.id = t.id AND g.type = '`+rules.Group+`'
		WHERE t.type = '`+typeGroup+`'`,
		[]any{organization}, []any{&who.Type, &who.ID, &state, &end}, func() error {
			return put(checker.SetSubject{Subject: who, State: stateFact(state), Until: end})
		})
}

func (s *store) treeMemberFacts(ctx context.Context, q sqldb.Querier, _ *catalog.Catalog, organization string, put func(checker.Change) error) error {
	var container checker.Resource
	var who checker.Subject
	return eachOf(ctx, q, "members", treeOf+`
		SELECT m.container_type, m.container_id, m.subject_type, m.subject_id
		FROM tree t JOIN access_members m ON m.container_type = t.type AND m.container_id = t.id`,
		[]any{organization}, []any{&container.Type, &container.ID, &who.Type, &who.ID}, func() error {
			return put(checker.Join{Container: container, Subject: who})
		})
}

func (s *store) treeBindingFacts(ctx context.Context, q sqldb.Querier, _ *catalog.Catalog, organization string, put func(checker.Change) error) error {
	var b checker.Bind
	return eachOf(ctx, q, "bindings", treeOf+`
		SELECT b.resource_type, b.resource_id, b.role_id, b.subject_type, b.subject_id,
			CASE WHEN MIN(b.expires_at) = 0 THEN 0 ELSE MAX(b.expires_at) END
		FROM tree t JOIN access_bindings b ON b.resource_type = t.type AND b.resource_id = t.id
		GROUP BY b.resource_type, b.resource_id, b.role_id, b.subject_type, b.subject_id`,
		[]any{organization}, []any{&b.Resource.Type, &b.Resource.ID, &b.Role, &b.Subject.Type, &b.Subject.ID, &b.Until}, func() error {
			return put(b)
		})
}

func (s *store) treePolicyFacts(ctx context.Context, q sqldb.Querier, c *catalog.Catalog, organization string, put func(checker.Change) error) error {
	var r checker.Resource
	var template string
	return eachOf(ctx, q, "access policies", treeOf+`
		SELECT p.resource_type, p.resource_id, p.template_id
		FROM tree t JOIN access_policies p ON p.resource_type = t.type AND p.resource_id = t.id`,
		[]any{organization}, []any{&r.Type, &r.ID, &template}, func() error {
			d, err := denyFact(c, r, template)
			if err != nil {
				return err
			}
			return put(d)
		})
}

// foreign finds the containers of other organizations to which something was given in
// this one, and those in them, and gives out who is in them; put may be nil.
func (s *store) foreign(ctx context.Context, q sqldb.Querier, organization string, put func(checker.Change) error) (map[Ref]bool, error) {
	var who checker.Subject
	var named []Ref
	name := func() error {
		if c, ok := containerOf(who); ok {
			named = append(named, c)
		}
		return nil
	}
	err := eachOf(ctx, q, "given containers", treeOf+`
		SELECT DISTINCT b.subject_type, b.subject_id
		FROM tree t JOIN access_bindings b ON b.resource_type = t.type AND b.resource_id = t.id
		WHERE b.subject_type IN ('`+rules.Group+`', '`+rules.System+`')
		UNION
		SELECT m.subject_type, m.subject_id
		FROM tree t JOIN access_members m ON m.container_type = t.type AND m.container_id = t.id
		WHERE m.subject_type = '`+rules.Group+`'`,
		[]any{organization}, []any{&who.Type, &who.ID}, name)
	if err != nil {
		return nil, err
	}
	all, roots := make(map[Ref]bool), s.roots(ctx, q)
	for len(named) > 0 {
		c := named[0]
		named = named[1:]
		if home, err := roots(c); err != nil || home == organization || all[c] {
			if err != nil {
				return nil, err
			}
			continue
		}
		all[c] = true
		err := eachOf(ctx, q, "members", `SELECT subject_type, subject_id FROM access_members WHERE container_type = $1 AND container_id = $2`,
			[]any{c.Type, c.ID}, []any{&who.Type, &who.ID}, func() error {
				if put != nil {
					if err := put(checker.Join{Container: checker.Resource(c), Subject: who}); err != nil {
						return err
					}
				}
				return name()
			})
		if err != nil {
			return nil, err
		}
		if err := s.foreignState(ctx, q, c, put); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// foreignState gives out that a container was removed, and the state of a group.
func (s *store) foreignState(ctx context.Context, q sqldb.Querier, c Ref, put func(checker.Change) error) error {
	if put == nil {
		return nil
	}
	n, found, err := s.node(ctx, q, c)
	if err == nil && found && n.Removed {
		err = put(checker.Remove{Resource: checker.Resource(c)})
	}
	if err != nil || c.Type != typeGroup {
		return err
	}
	var state State
	var end int64
	return eachOf(ctx, q, "group", `SELECT state, expires_at FROM access_subjects WHERE type = '`+rules.Group+`' AND id = $1`,
		[]any{c.ID}, []any{&state, &end}, func() error {
			return put(checker.SetSubject{Subject: checker.Subject{Type: rules.Group, ID: c.ID}, State: stateFact(state), Until: end})
		})
}

// roots returns a function that finds the organization that a resource stands or stood
// in; "" for none.
func (s *store) roots(ctx context.Context, q sqldb.Querier) func(Ref) (string, error) {
	known := make(map[Ref]string)
	return func(r Ref) (string, error) {
		var way []Ref
		root := ""
		for at := r; ; {
			if org, seen := known[at]; seen {
				root = org
				break
			}
			if len(way) > maxDepth {
				return "", fmt.Errorf("read the root of %s %s: over %d levels", r.Type, r.ID, maxDepth)
			}
			way = append(way, at)
			n, found, err := s.node(ctx, q, at)
			if err != nil {
				return "", err
			}
			if !found || n.Parent == (Ref{}) {
				if found && at.Type == typeOrganization {
					root = at.ID
				}
				break
			}
			at = n.Parent
		}
		for _, at := range way {
			known[at] = root
		}
		return root, nil
	}
}

// maxWindow bounds the revisions that a follower can catch up on from the log.
const maxWindow = 10_000

// window reads the log after a revision as followers are sent it. It is right unless
// something was moved between organizations since; where a move concerns one, its
// follower begins anew, so what else was in it then does not matter.
func (s *store) window(ctx context.Context, q sqldb.Querier, c *catalog.Catalog, after int64) ([]followed, error) {
	entries, err := s.since(ctx, q, after)
	if err != nil {
		return nil, err
	}
	roots := s.roots(ctx, q)
	var fault error
	in := func(r checker.Resource) string {
		org, err := roots(Ref(r))
		fault = errors.Join(fault, err)
		return org
	}
	var all []followed
	for _, e := range entries {
		if len(all) == 0 || all[len(all)-1].revision != e.Revision {
			all = append(all, followed{revision: e.Revision, line: e.WriteID})
		}
		f, err := fact(c, e.Change)
		if err != nil {
			return nil, err
		}
		if f == nil {
			continue
		}
		last := &all[len(all)-1]
		last.changes = append(last.changes, scopeOfEntry(f, e.Change, in))
	}
	if fault == nil && len(all) > 0 && all[0].revision != after+1 {
		return nil, errTooOld
	}
	return all, fault
}

// scopeOfEntry is scope by what the entry itself says of a move.
func scopeOfEntry(f checker.Change, c *accessv1.Change, in func(checker.Resource) string) scoped {
	from := c.GetResourcePlaced().GetMovedFrom()
	if from == nil {
		return scope(f, in, "", false)
	}
	return scope(f, in, in(checker.Resource(refOf(from))), true)
}

// lineAt is the write that made a revision; "" when the log does not have it.
func (s *store) lineAt(ctx context.Context, q sqldb.Querier, revision int64) (line string, err error) {
	err = eachOf(ctx, q, "line", `SELECT write_id FROM access_changes WHERE revision = $1 AND seq = 0`,
		[]any{revision}, []any{&line}, func() error { return nil })
	return line, err
}

// eachOf is each for a query with arguments.
func eachOf(ctx context.Context, q sqldb.Querier, what, query string, args, dest []any, put func() error) (err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("read %s: %w", what, err)
		}
		if err := put(); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}
