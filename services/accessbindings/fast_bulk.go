package accessbindings

import (
	"context"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/checker"

	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// fastBulk is the questions of a BulkAuthorize, as they were asked: each permission on
// each path of a matrix, or the n-th permission on the n-th path.
type fastBulk struct {
	matrix      bool
	permissions []string
	resources   []checker.Resource // of all paths, one after the other
	ends        []int              // of each path, in resources
	results     []byte             // of the questions answered so far
	item        []byte             // the result under way
}

// maxFastResources bounds the resources of all paths of one call.
const maxFastResources = 4 * maxQuestions

func (b *fastBulk) drop() {
	clear(b.permissions)
	clear(b.resources)
	*b = fastBulk{permissions: b.permissions[:0], resources: b.resources[:0], ends: b.ends[:0], results: b.results[:0], item: b.item[:0]}
}

// fastBulkAuthorize answers BulkAuthorize: all questions from one view, the subject
// and its identities looked up once, a path once for all permissions of a matrix.
func (s *AccessService) fastBulkAuthorize(ctx context.Context, request []byte) ([]byte, *apierr.Ready, bool) {
	if asksAtLeast(ctx) {
		return nil, nil, false
	}
	f := fastRooms.Get().(*fastRoom) // it holds nothing else
	defer f.free()
	token, filter, ok := f.bulk.read(fields(request))
	if !ok || !f.begin(s, token) {
		return nil, nil, false
	}
	results, ok := f.results(s, f.bulk.results[:0], filter)
	f.bulk.results = results
	if !ok {
		return nil, nil, false
	}
	to := f.appendSubject(make([]byte, 0, len(results)+192), s)
	to = protowire.AppendTag(to, 3, protowire.BytesType)
	return protowire.AppendBytes(to, results), nil, true
}

// results writes the results that the filter lets through.
func (f *fastRoom) results(s *AccessService, to []byte, filter accessservicev2.BulkAuthorizeRequest_ResultFilter) (out []byte, ok bool) {
	var q fastQuestion
	granted, denied := 0, 0
	defer func() {
		if ok { // what is left to the handler it counts
			s.graph.asked.allowed.Add(float64(granted))
			s.graph.asked.denied.Add(float64(denied))
		}
	}()
	from := 0
	for n, end := range f.bulk.ends {
		q.count = copy(q.given[:], f.bulk.resources[from:end])
		from = end
		if !f.locate(s, &q) {
			return to, false
		}
		permissions := f.bulk.permissions
		if !f.bulk.matrix {
			permissions = permissions[n : n+1]
		}
		for _, q.permission = range permissions {
			switch f.asker.Decide(q.permission, q.at) {
			case checker.Granted:
				granted++
				if filter == accessservicev2.BulkAuthorizeRequest_RESULT_FILTER_UNSPECIFIED {
					to = f.appendResult(to, &q, true)
				}
			case checker.NoGrant:
				denied++
				to = f.appendResult(to, &q, false)
				if filter == accessservicev2.BulkAuthorizeRequest_FIRST_FAILED {
					return to, true
				}
			default:
				return to, false
			}
		}
	}
	return to, true
}

// appendResult writes one result, as resultMask.result makes it without a mask.
func (f *fastRoom) appendResult(to []byte, q *fastQuestion, allowed bool) []byte {
	item := appendText(f.bulk.item[:0], 1, q.permission)
	given := q.given[:q.count]
	if allowed {
		given = given[:q.known]
	}
	for _, r := range given {
		item = appendResource(item, 2, r.Type, r.ID)
	}
	if allowed {
		for at, ok := q.at, true; ok; at, ok = at.Up() {
			item = appendSpot(item, 2, at)
		}
	} else {
		item = f.appendDenial(item, 3, q)
	}
	f.bulk.item = item
	to = protowire.AppendTag(to, 1, protowire.BytesType)
	return protowire.AppendBytes(to, item)
}

// appendDenial writes a field of type BulkAuthorizeResponse.Error, as expected makes it
// of the denial.
func (f *fastRoom) appendDenial(to []byte, field protowire.Number, q *fastQuestion) []byte {
	r := q.given[q.known]
	text := authz.AppendDenied(f.text[:0], q.permission, authz.Resource(r))
	message := len(text)
	text = apierr.AppendInfo(text, apierr.ReasonPermissionDenied, "permission", q.permission, "resourceType", r.Type, "resourceId", r.ID)
	f.text = text
	size := 2 + protowire.SizeBytes(message) + protowire.SizeBytes(len(text)-message)
	to = protowire.AppendTag(to, field, protowire.BytesType)
	to = protowire.AppendVarint(to, uint64(size)) //nolint:gosec // a length
	to = protowire.AppendBytes(protowire.AppendTag(to, 1, protowire.BytesType), text[:message])
	return protowire.AppendBytes(protowire.AppendTag(to, 2, protowire.BytesType), text[message:])
}

// read reads a BulkAuthorizeRequest.
func (b *fastBulk) read(in fields) (token string, filter accessservicev2.BulkAuthorizeRequest_ResultFilter, ok bool) {
	for len(in) > 0 {
		if len(in) >= 2 && in[0] == 7<<3 && in[1] <= byte(accessservicev2.BulkAuthorizeRequest_ALL_FAILED) { // result_filter, a number
			filter, in = accessservicev2.BulkAuthorizeRequest_ResultFilter(in[1]), in[2:]
			continue
		}
		number, value, ok := in.next()
		switch {
		case !ok:
			return "", 0, false
		case number == 2 && token == "" && len(value) <= maxTokenBytes:
			token = string(value)
		case number == 5 && len(b.ends) == 0 && b.readActions(value):
		case number == 6 && len(b.ends) == 0 && b.readMatrix(value):
			b.matrix = true
		default:
			return "", 0, false
		}
	}
	asked := len(b.ends)
	if b.matrix {
		asked *= len(b.permissions)
	}
	return token, filter, token != "" && asked > 0 && asked <= maxQuestions
}

// readActions reads Actions.
func (b *fastBulk) readActions(in fields) bool {
	for len(in) > 0 {
		number, action, ok := in.next()
		if !ok || number != 1 || len(b.ends) == maxQuestions {
			return false
		}
		permission := ""
		for len(action) > 0 {
			number, value, ok := action.next()
			switch {
			case !ok:
				return false
			case number == 1 && b.readStep(value):
			case number == 2 && permission == "" && len(value) <= maxPermissionBytes:
				permission = string(value)
			default:
				return false
			}
		}
		if permission == "" || !b.endPath() {
			return false
		}
		b.permissions = append(b.permissions, permission)
	}
	return true
}

// readMatrix reads an ActionMatrix.
func (b *fastBulk) readMatrix(in fields) bool {
	for len(in) > 0 {
		number, value, ok := in.next()
		switch {
		case !ok:
			return false
		case number == 1 && len(value) <= maxPermissionBytes && len(b.permissions) < maxQuestions:
			b.permissions = append(b.permissions, string(value))
		case number == 2 && len(b.ends) < maxQuestions:
			for len(value) > 0 {
				number, step, ok := value.next()
				if !ok || number != 1 || !b.readStep(step) {
					return false
				}
			}
			if !b.endPath() {
				return false
			}
		default:
			return false
		}
	}
	return len(b.permissions) > 0
}

// readStep reads a Resource of the path under way.
func (b *fastBulk) readStep(in fields) bool {
	if len(b.resources) == maxFastResources {
		return false
	}
	b.resources = append(b.resources, checker.Resource{})
	return readResource(in, &b.resources[len(b.resources)-1])
}

// endPath ends a path, which has at least one resource.
func (b *fastBulk) endPath() bool {
	from := 0
	if len(b.ends) > 0 {
		from = b.ends[len(b.ends)-1]
	}
	b.ends = append(b.ends, len(b.resources))
	return len(b.resources) > from && len(b.resources)-from <= maxFastPath
}
