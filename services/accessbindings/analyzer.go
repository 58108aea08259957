package accessbindings

import (
	"context"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// Analyzer is yandex.cloud.iam.v1.AccessAnalyzerService.
type Analyzer struct {
	iamv1.UnsafeAccessAnalyzerServiceServer // a missing method does not compile
	committer                               *committer
	pages                                   *page.Sealer
	now                                     func() time.Time
}

// ListSubjectAccessBindings lists the bindings of a subject, of whatever type, on
// an organization and all below it that are in force, oldest first (AB-8). What it
// tells is in force. A subject that has none, or that nobody knows, has an empty
// list.
func (s *Analyzer) ListSubjectAccessBindings(ctx context.Context, req *iamv1.ListSubjectAccessBindingsRequest) (*iamv1.ListSubjectAccessBindingsResponse, error) {
	scope := []string{"ListSubjectAccessBindings", req.GetSubjectId(), req.GetOrganizationId()}
	at, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	found, err := s.within(ctx, req.GetOrganizationId(), req.GetSubjectId(), at.Time, size+1)
	if err != nil {
		return nil, err
	}
	resp := new(iamv1.ListSubjectAccessBindingsResponse)
	if len(found) > size {
		found = found[:size]
		if resp.NextPageToken, err = s.pages.Seal(page.Position{Time: found[size-1].number}, scope...); err != nil {
			return nil, err
		}
	}
	for _, h := range found {
		resp.SubjectAccessBindings = append(resp.SubjectAccessBindings, &iamv1.SubjectAccessBinding{
			RoleId: h.Role, Resource: &iamv1.Resource{Type: h.On.Type, Id: h.On.ID}, SubjectId: req.GetSubjectId(),
		})
	}
	return resp, nil
}

// within reads the first want bindings of a subject after a number that stand in an
// organization, fewer when there are no more. Where a resource stands is read off
// the graph, which by then has all that was read from the store.
func (s *Analyzer) within(ctx context.Context, organization, subjectID string, after int64, want int) ([]numbered, error) {
	root := checker.Resource{Type: typeOrganization, ID: organization}
	now := nowMicros(s.now)
	var found []numbered
	for batch := want; ; batch = page.MaxSize {
		var some []numbered
		err := s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) (err error) {
			some, err = st.heldAfter(ctx, q, subjectID, after, now, batch)
			return err
		})
		if err != nil {
			return nil, err
		}
		view := s.committer.graph.View()
		for _, h := range some {
			after = h.number
			path := view.Path(checker.Resource(h.On))
			if len(path) == 0 || path[len(path)-1] != root {
				continue
			}
			if found = append(found, h); len(found) == want {
				return found, nil
			}
		}
		if len(some) < batch {
			return found, nil
		}
	}
}

// numbered is a pair of a subject with its place in listings.
type numbered struct {
	held
	number int64
}

// heldAfter reads at most limit pairs of the subjects of an id that are in force at
// a time and whose number is above after, by number.
func (s *store) heldAfter(ctx context.Context, q sqldb.Querier, subjectID string, after, now int64, limit int) ([]numbered, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT DISTINCT resource_type, resource_id, role_id, number FROM access_bindings
		WHERE subject_type IN ($1, $2, $3, $4, $5) AND subject_id = $6 AND number > $7 AND (expires_at = 0 OR expires_at > $8)
		ORDER BY number LIMIT $9`,
		rules.UserAccount, rules.ServiceAccount, rules.FederatedUser, rules.Group, rules.System, subjectID, after, now, limit)
	if err != nil {
		return nil, fmt.Errorf("read bindings of subject: %w", err)
	}
	return collect(rows, "read bindings of subject", func() (h numbered, err error) {
		return h, rows.Scan(&h.On.Type, &h.On.ID, &h.Role, &h.number)
	})
}
