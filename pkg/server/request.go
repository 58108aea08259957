package server

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/bindery-iam/bindery/pkg/log"
)

// Metadata keys of requests and answers. The official clients send one of the
// first two, under the name that their generation knows.
const (
	headerRequestID       = "x-request-id"
	headerClientRequestID = "x-client-request-id"
	headerTraceParent     = "traceparent"
	headerServerTraceID   = "x-server-trace-id"
	headerUserAgent       = "user-agent"
)

const (
	maxRequestID   = 64
	traceParentLen = 55 // of version 00
)

// incoming reads what the metadata says of the request. None of it is identity.
func incoming(ctx context.Context, method string) log.Request {
	r := log.Request{Method: method}
	identify(ctx, &r)
	r.UserAgent = printable(one(ctx, headerUserAgent), 256)
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		r.Remote = p.Addr.String()
	}
	return r
}

// identify reads the ids of the request.
func identify(ctx context.Context, r *log.Request) {
	for _, key := range []string{headerRequestID, headerClientRequestID} {
		if v := one(ctx, key); validRequestID(v) {
			r.ID = v
			break
		}
	}
	if parent := one(ctx, headerTraceParent); traceID(parent) != "" {
		r.TraceID, r.TraceParent = traceID(parent), "00"+parent[2:traceParentLen]
	}
	ofSpan(ctx, r)
}

// named gives the request the ids that its caller did not bring.
func named(r *log.Request) {
	if r.ID == "" {
		r.ID = uuid.NewString()
	}
	if r.TraceID == "" {
		var b [16]byte
		binary.NativeEndian.PutUint64(b[:], rand.Uint64())  //nolint:gosec // no secret
		binary.NativeEndian.PutUint64(b[8:], rand.Uint64()) //nolint:gosec // no secret
		r.TraceID = hex.EncodeToString(b[:])
		// The one span of a trace that nobody keeps is its first call.
		r.TraceParent = "00-" + r.TraceID + "-" + r.TraceID[:16] + "-00"
	}
}

// ids is the metadata with which an answer names its request.
func ids(r *log.Request) metadata.MD {
	return metadata.Pairs(headerRequestID, r.ID, headerServerTraceID, r.TraceID)
}

// one returns the value of a key that came exactly once, "" otherwise.
func one(ctx context.Context, key string) string {
	if v := metadata.ValueFromIncomingContext(ctx, key); len(v) == 1 {
		return v[0]
	}
	return ""
}

// validRequestID accepts what can stand in a log line and a header unescaped.
func validRequestID(s string) bool {
	return s != "" && len(s) <= maxRequestID && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// traceID returns the trace id of a W3C traceparent, "" when it is none. One of a
// later version has more parts, which are not looked at.
func traceID(parent string) string {
	parts := strings.Split(parent, "-")
	if len(parts) < 4 || !isHex(parts[0], 2) || !isHex(parts[3], 2) {
		return ""
	}
	for i, digits := range []int{1: 32, 2: 16} {
		if digits > 0 && (!isHex(parts[i], digits) || strings.Trim(parts[i], "0") == "") {
			return ""
		}
	}
	return parts[1]
}

// isHex reports whether s is so many lower-case hex digits.
func isHex(s string, digits int) bool {
	return len(s) == digits && strings.Trim(s, "0123456789abcdef") == ""
}

// printable cuts s to n bytes of printable ASCII.
func printable(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), n)]
}
