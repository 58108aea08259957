package accessbindings

import (
	"context"
	"sync"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// The fast path of AccessService (server.Fast): Authorize and BulkAuthorize by an IAM
// token that was seen before, answered yes or "no such grant". The request is read
// where it lies and the answer is written as it travels. All else, a question that is
// not well formed above all, is left to the handlers in authorize.go, and so are the
// denials that need more than the permission and the resource to be told.

// fast are the methods that have a fast path.
func (s *AccessService) fast() map[string]server.Fast {
	return map[string]server.Fast{
		accessservicev2.AccessService_Authorize_FullMethodName:     s.fastAuthorize,
		accessservicev2.AccessService_BulkAuthorize_FullMethodName: s.fastBulkAuthorize,
	}
}

// Limits of what the messages hold, in bytes; the contract counts characters.
const (
	maxTokenBytes      = 1024
	maxPermissionBytes = 128
	maxIDBytes         = 50
	maxTypeBytes       = 64
	maxFastPath        = 16 // resources; longer paths are left to the handler
)

// fastAuthorize answers Authorize.
func (s *AccessService) fastAuthorize(ctx context.Context, request []byte) ([]byte, *apierr.Ready, bool) {
	if asksAtLeast(ctx) {
		return nil, nil, false
	}
	f := fastRooms.Get().(*fastRoom) // it holds nothing else
	defer f.free()
	var q fastQuestion
	token, ok := readAuthorize(fields(request), &q)
	if !ok || !f.begin(s, token) || !f.locate(s, &q) {
		return nil, nil, false
	}
	switch f.asker.Decide(q.permission, q.at) {
	case checker.Granted:
		s.graph.asked.allowed.Inc()
		return f.allowed(s, &q), nil, true
	case checker.NoGrant:
		refusal, ok := f.denial(s, &q)
		if ok {
			s.graph.asked.denied.Inc()
		}
		return nil, refusal, ok
	default:
		return nil, nil, false
	}
}

// fastRoom is what one call needs while it is answered.
type fastRoom struct {
	view  *checker.View
	asker checker.Asker
	who   checker.Subject
	now   int64
	bulk  fastBulk
	text  []byte // under way
}

var fastRooms = sync.Pool{New: func() any { return new(fastRoom) }}

func (f *fastRoom) free() {
	f.view, f.who = nil, checker.Subject{}
	f.asker.Drop()
	f.bulk.drop()
	fastRooms.Put(f)
}

// begin finds out who is asked about, from the token of a request. The fault of the
// graph is asked for after the request has come, and before the graph is looked at.
func (f *fastRoom) begin(s *AccessService, token string) bool {
	p, ok := s.tokens.Known(token)
	if !ok || s.graph.fault() != nil {
		return false
	}
	f.view, f.who, f.now = s.graph.View(), checker.Subject{Type: p.Type, ID: p.ID}, nowMicros(s.now)
	f.asker.Ask(f.view, f.who, f.now, checker.TokenID(p.TokenID), checker.TokenID(p.Session))
	return true
}

// fastQuestion is one question: a permission on the first resource of a path that the
// tree knows.
type fastQuestion struct {
	permission string
	given      [maxFastPath]checker.Resource
	count      int // of the given
	known      int // which of them is the first that the tree knows
	at         checker.Spot
}

// locate finds the resource to decide on, as graph.complete does.
func (f *fastRoom) locate(s *AccessService, q *fastQuestion) bool {
	for i, r := range q.given[:q.count] {
		at, placed := f.view.Find(r)
		if placed {
			q.known, q.at = i, at
			return above(at, q.given[i+1:q.count])
		}
		_, registered := s.graph.catalog.ResourceType(r.Type)
		if registered || f.view.Removed(r) || !utf8.ValidString(r.Type) || !utf8.ValidString(r.ID) {
			return false
		}
	}
	return false
}

// above reports whether all given resources are above another, in their order.
func above(at checker.Spot, given []checker.Resource) bool {
	for len(given) > 0 {
		up, ok := at.Up()
		if !ok {
			return false
		}
		if at = up; at.Is(given[0]) {
			given = given[1:]
		}
	}
	return true
}

// denial is the refusal that the handler makes, with its decision id (EX-8). The
// permission is of the catalogue.
func (f *fastRoom) denial(s *AccessService, q *fastQuestion) (*apierr.Ready, bool) {
	r := q.given[q.known]
	if !apierr.Plain(r.Type) || !apierr.Plain(r.ID) {
		return nil, false
	}
	f.text = authz.AppendDenied(f.text[:0], q.permission, authz.Resource(r))
	refusal := &apierr.Ready{
		Code: codes.PermissionDenied, Reason: apierr.ReasonPermissionDenied, Message: string(f.text),
		Meta: [8]string{"permission", q.permission, "resourceType", r.Type, "resourceId", r.ID},
	}
	if s.graph.seals == nil {
		return refusal, true
	}
	d := decision{
		Query: checker.Query{Subject: f.who, Permission: q.permission, Resource: r, Now: f.now},
		epoch: s.graph.now().Epoch, revision: f.view.Revision(),
	}
	refusal.Meta[6], refusal.Meta[7] = "decisionId", d.id(s.graph.seals)
	return refusal, apierr.Plain(refusal.Meta[7])
}

// readAuthorize reads an AuthorizeRequest.
func readAuthorize(in fields, q *fastQuestion) (token string, ok bool) {
	for len(in) > 0 {
		number, value, ok := in.next()
		switch {
		case !ok:
			return "", false
		case number == 2 && token == "" && len(value) <= maxTokenBytes:
			token = string(value)
		case number == 4 && q.permission == "" && len(value) <= maxPermissionBytes:
			q.permission = string(value)
		case number == 5 && q.count < maxFastPath && readResource(value, &q.given[q.count]):
			q.count++
		default:
			return "", false
		}
	}
	return token, token != "" && q.permission != "" && q.count > 0
}

// readResource reads a Resource.
func readResource(in fields, r *checker.Resource) bool {
	for len(in) > 0 {
		number, value, ok := in.next()
		switch {
		case !ok:
			return false
		case number == 1 && r.ID == "" && len(value) <= maxIDBytes:
			r.ID = string(value)
		case number == 2 && r.Type == "" && len(value) <= maxTypeBytes:
			r.Type = string(value)
		default:
			return false
		}
	}
	return r.ID != "" && r.Type != ""
}

// fields is an encoded message. It is text so that what is read of it are parts of
// it, and the whole is one allocation.
type fields string

// next returns the next field, when it is text, bytes or a message with a number up to
// 15, of less than 2 MiB.
func (f *fields) next() (number int, value fields, ok bool) {
	in := *f
	if len(in) < 2 || in[0]&0x87 != byte(protowire.BytesType) {
		return 0, "", false
	}
	size, n := int(in[1]), 2
	for shift := 7; size>>shift != 0; shift += 7 { // the highest bit says that more follows
		if n == 4 || n == len(in) {
			return 0, "", false
		}
		size = size&(1<<shift-1) | int(in[n])<<shift
		n++
	}
	if size > len(in)-n {
		return 0, "", false
	}
	*f = in[n+size:]
	return int(in[0] >> 3), in[n : n+size], true
}

// allowed writes an AuthorizeResponse.
func (f *fastRoom) allowed(s *AccessService, q *fastQuestion) []byte {
	to := make([]byte, 0, 256)
	to = f.appendSubject(to, s)
	for _, r := range q.given[:q.known] {
		to = appendResource(to, 2, r.Type, r.ID)
	}
	for at, ok := q.at, true; ok; at, ok = at.Up() {
		to = appendSpot(to, 2, at)
	}
	return to
}

// appendSubject writes the field subject of an answer, as AccessService.subject
// makes it.
func (f *fastRoom) appendSubject(to []byte, s *AccessService) []byte {
	kind, more := protowire.Number(1), ""
	switch f.who.Type { // the third kind has nothing to add
	case rules.ServiceAccount:
		kind, more = 2, f.folderOf()
	case rules.FederatedUser:
		more = s.federation(f.who)
	}
	inner := textSize(f.who.ID) + textSize(more)
	to = protowire.AppendTag(to, 1, protowire.BytesType)
	to = protowire.AppendVarint(to, uint64(1+protowire.SizeBytes(inner))) //nolint:gosec // a length
	to = protowire.AppendTag(to, kind, protowire.BytesType)
	to = protowire.AppendVarint(to, uint64(inner)) //nolint:gosec // a length
	return appendText(appendText(to, 1, f.who.ID), 2, more)
}

// folderOf is the folder of the service account who is asked about.
func (f *fastRoom) folderOf() string {
	account, ok := f.view.Find(checker.Resource{Type: typeServiceAccount, ID: f.who.ID})
	if !ok {
		return ""
	}
	folder, ok := account.Up()
	if !ok || folder.Type() != typeFolder {
		return ""
	}
	return string(folder.AppendID(nil))
}

// appendSpot writes a field of type Resource.
func appendSpot(to []byte, field protowire.Number, at checker.Spot) []byte {
	typ, id := at.Type(), at.IDLen()
	to = protowire.AppendTag(to, field, protowire.BytesType)
	to = protowire.AppendVarint(to, uint64(1+protowire.SizeBytes(id)+textSize(typ))) //nolint:gosec // a length
	to = protowire.AppendTag(to, 1, protowire.BytesType)
	to = protowire.AppendVarint(to, uint64(id)) //nolint:gosec // a length
	return appendText(at.AppendID(to), 2, typ)
}

func appendResource(to []byte, field protowire.Number, typ, id string) []byte {
	to = protowire.AppendTag(to, field, protowire.BytesType)
	to = protowire.AppendVarint(to, uint64(textSize(typ)+textSize(id))) //nolint:gosec // a length
	return appendText(appendText(to, 1, id), 2, typ)
}

// appendText writes a field of text; an empty one is left out.
func appendText(to []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return to
	}
	to = protowire.AppendTag(to, field, protowire.BytesType)
	to = protowire.AppendVarint(to, uint64(len(s)))
	return append(to, s...)
}

// textSize is how many bytes appendText writes for a field up to 15.
func textSize(s string) int {
	if s == "" {
		return 0
	}
	return 1 + protowire.SizeBytes(len(s))
}
