package accessbindings

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/page"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// lists keeps the last few lists that were asked for in pages, so that the next page
// costs no pass over everything. A page whose list is not here is made again from the
// history of its revision, on any replica.
type lists struct {
	one sync.Mutex // held over a pass over everything: one at a time, the checks go first

	mu   sync.Mutex
	kept []*list // the one used last is last
}

// list is what was found at one moment.
type list struct {
	key   string // what was asked, and when
	view  *checker.View
	found []checker.Subject // or resources: both are a type and an id
	used  time.Time
}

// Bounds of what is kept: of a list also the view, which holds on to what was changed
// since.
const (
	keptLists   = 4
	keptNames   = 2_000_000
	keptListFor = 2 * time.Minute
)

// get returns a list that is kept.
func (l *lists) get(key string) *list {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget()
	for i, one := range l.kept {
		if one.key == key {
			one.used = time.Now()
			l.kept = append(append(l.kept[:i:i], l.kept[i+1:]...), one)
			return one
		}
	}
	return nil
}

// put keeps a list.
func (l *lists) put(one *list) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one.used = time.Now()
	l.kept = append(l.kept, one)
	l.forget()
}

// forget drops the lists that were used longest ago, until what is kept is in bounds.
func (l *lists) forget() {
	names, from := 0, len(l.kept)
	for from > 0 && len(l.kept)-from < keptLists && time.Since(l.kept[from-1].used) < keptListFor {
		if names += len(l.kept[from-1].found); names > keptNames && from < len(l.kept) {
			break
		}
		from--
	}
	clear(l.kept[:from])
	l.kept = l.kept[from:]
}

// turn is a page of a list: of which moment, and what it follows.
type turn struct {
	moment
	after checker.Subject
	scope []byte // what is asked, as it binds a token
}

// seal makes the token of the page after this one.
func (t turn) seal(s *seals, last checker.Subject) string {
	b := roomFor(4*binary.MaxVarintLen64 + len(last.Type) + len(last.ID))
	b = binary.AppendVarint(b, t.revision)
	b = binary.AppendVarint(b, t.now)
	b = binary.AppendUvarint(b, uint64(len(last.Type)))
	b = append(b, last.Type...)
	return s.token(append(b, last.ID...), t.scope)
}

var errPage = apierr.InvalidField("page_token", "is not the token of a page of this list")

// turn reads which page is asked for; first says which moment the first one is of.
func (s *Permissions) turn(token string, scope []byte, first func() (moment, error)) (t turn, err error) {
	t.scope = scope
	if token == "" {
		t.moment, err = first()
		return t, err
	}
	b, ok := s.graph.seals.open(token, scope)
	if !ok {
		return t, errPage
	}
	var numbers [3]int64
	for i := range numbers {
		var n int64
		size := 0
		if i < 2 {
			n, size = binary.Varint(b)
		} else {
			var u uint64
			u, size = binary.Uvarint(b)
			n = int64(u) //nolint:gosec // checked below
		}
		if size <= 0 {
			return t, errPage
		}
		numbers[i], b = n, b[size:]
	}
	if numbers[2] < 0 || numbers[2] > int64(len(b)) {
		return t, errPage
	}
	t.moment = s.again(numbers[0], numbers[1])
	t.after = checker.Subject{Type: string(b[:numbers[2]]), ID: string(b[numbers[2]:])}
	return t, nil
}

// scopeOf joins the parts of a question so that no two look alike.
func scopeOf(epoch int64, parts ...string) []byte {
	b := binary.AppendVarint(nil, epoch)
	for _, part := range parts {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return b
}

// list returns the list of a page: the one that is kept, or made of the state of its
// moment by find; read gathers what the history must tell for it.
func (s *Permissions) list(ctx context.Context, t turn, read func(*past) error, find func(*checker.View) []checker.Subject) (*list, error) {
	key := string(binary.AppendVarint(binary.AppendVarint(t.scope[:len(t.scope):len(t.scope)], t.revision), t.now))
	if l := s.lists.get(key); l != nil {
		return l, nil
	}
	view, err := s.state(ctx, t.moment, read)
	if err != nil {
		return nil, err
	}
	s.lists.one.Lock()
	defer s.lists.one.Unlock()
	l := &list{key: key, view: view, found: find(view)}
	s.lists.put(l)
	return l, ctx.Err()
}

// page is the part of a list that follows a place, and whether there is more.
func (l *list) page(after checker.Subject, size int) (some []checker.Subject, more bool) {
	low, high := 0, len(l.found)
	for low < high {
		mid := (low + high) / 2
		if f := l.found[mid]; f.Type < after.Type || f.Type == after.Type && f.ID <= after.ID {
			low = mid + 1
		} else {
			high = mid
		}
	}
	some = l.found[low:]
	if len(some) > size {
		return some[:size], true
	}
	return some, false
}

// ListSubjects is EX-4: everybody who holds a permission on a resource, each with the
// bindings that grant it. Fails: INVALID_ARGUMENT, OUT_OF_RANGE.
func (s *Permissions) ListSubjects(ctx context.Context, req *accessv1.ListSubjectsRequest) (*accessv1.ListSubjectsResponse, error) {
	if err := s.known(req.GetPermission(), "permission"); err != nil {
		return nil, err
	}
	if err := s.committer.atLeast(ctx, req.GetAtLeastRevision()); err != nil {
		return nil, err
	}
	on, typ := req.GetResource(), req.GetSubjectType()
	when, err := proto.MarshalOptions{Deterministic: true}.Marshal(req.GetAt())
	if err != nil {
		return nil, err
	}
	scope := scopeOf(s.graph.now().Epoch, "subjects", on.GetType(), on.GetId(), req.GetPermission(), typ, string(when))
	t, err := s.turn(req.GetPageToken(), scope, func() (moment, error) { return s.moment(ctx, req.GetAt()) })
	if err != nil {
		return nil, err
	}
	q := checker.Query{Permission: req.GetPermission(), Resource: checker.Resource(refOf(on)), Now: t.now}
	l, err := s.list(ctx, t, func(p *past) error { return p.forSubjects(ctx, q) }, func(v *checker.View) []checker.Subject {
		all := v.Subjects(q)
		if typ == "" {
			return all
		}
		var some []checker.Subject
		for _, who := range all {
			if who.Type == typ {
				some = append(some, who)
			}
		}
		return some
	})
	if err != nil {
		return nil, err
	}
	some, more := l.page(t.after, page.Size(req.GetPageSize()))
	resp := &accessv1.ListSubjectsResponse{Revision: t.revision, Time: stamp(t.now)}
	if resp.Subjects, err = s.access(ctx, t.moment, l.view, q, some); err != nil {
		return nil, err
	}
	if fit := page.Fit(len(resp.GetSubjects()), func(i int) int { return proto.Size(resp.GetSubjects()[i]) }); fit < len(some) {
		resp.Subjects, some, more = resp.GetSubjects()[:fit], some[:fit], true
	}
	if more {
		resp.NextPageToken = t.seal(s.graph.seals, some[len(some)-1])
	}
	return resp, nil
}

// access says of each subject by which bindings it has a permission.
func (s *Permissions) access(ctx context.Context, m moment, v *checker.View, q checker.Query, subjects []checker.Subject) ([]*accessv1.SubjectAccess, error) {
	keys := make(map[factKey]bool)
	grants := make([][]checker.Grant, len(subjects))
	for i, who := range subjects {
		q.Subject = who
		grants[i] = v.Explain(q).Grants
		for _, g := range grants[i] {
			keys[grantKey(g)] = true
		}
	}
	by, err := s.granted(ctx, m.revision, keys)
	if err != nil {
		return nil, err
	}
	out := make([]*accessv1.SubjectAccess, len(subjects))
	for i, who := range subjects {
		out[i] = &accessv1.SubjectAccess{Subject: Subject(who).proto()}
		for _, g := range grants[i] {
			out[i].Grants = append(out[i].Grants, s.grant(q.Permission, g, by[grantKey(g)]))
		}
	}
	return out, nil
}

// ListResources is EX-5: everything on which a subject holds a permission, one's own
// without any permission. Fails: INVALID_ARGUMENT, RESOURCE_NOT_FOUND, OUT_OF_RANGE.
func (s *Permissions) ListResources(ctx context.Context, req *accessv1.ListResourcesRequest) (*accessv1.ListResourcesResponse, error) {
	if err := s.known(req.GetPermission(), "permission"); err != nil {
		return nil, err
	}
	if err := s.committer.atLeast(ctx, req.GetAtLeastRevision()); err != nil {
		return nil, err
	}
	who, self, err := s.subject(ctx, req.GetSubject())
	if err != nil {
		return nil, err
	}
	within := checker.Resource(refOf(req.GetWithin()))
	if req.GetWithin() == nil && !self {
		return nil, apierr.InvalidField("within", "must be set, unless the caller asks about itself")
	}
	if !self { // the door may have taken it for the caller: there the id decides alone
		if err := s.holds(ctx, permissionListResources, within); err != nil {
			return nil, err
		}
	}
	scope := scopeOf(s.graph.now().Epoch, "resources", who.Type, who.ID, req.GetPermission(), within.Type, within.ID, req.GetResourceType())
	t, err := s.turn(req.GetPageToken(), scope, s.present)
	if err != nil {
		return nil, err
	}
	if req.GetWithin() != nil && s.graph.View().Path(within) == nil {
		return nil, authz.NotFound(authz.Resource(within))
	}
	q := checker.Query{Subject: who, Permission: req.GetPermission(), Now: t.now}
	l, err := s.list(ctx, t, func(p *past) error { return p.forResources(ctx, q) }, func(v *checker.View) []checker.Subject {
		all := v.Resources(q, req.GetResourceType(), within)
		names := make([]checker.Subject, len(all))
		for i, r := range all {
			names[i] = checker.Subject(r)
		}
		return names
	})
	if err != nil {
		return nil, err
	}
	some, more := l.page(t.after, page.Size(req.GetPageSize()))
	resp := &accessv1.ListResourcesResponse{Revision: t.revision, Time: stamp(t.now)}
	for _, r := range some {
		resp.Resources = append(resp.Resources, Ref(r).proto())
	}
	if more {
		resp.NextPageToken = t.seal(s.graph.seals, some[len(some)-1])
	}
	return resp, nil
}
