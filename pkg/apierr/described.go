package apierr

import (
	"errors"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Described is the refusal for a status without details, which a library made, e.g.
// grpc-gateway about a body that is no JSON. What is wrong with the request is said
// in words that are no library's, with the field or the body named; what is not
// about the request becomes what FromRPC makes of it. Other errors it returns as
// they are. Described of nil is nil.
func Described(err error, reason string) error {
	var inner interface{ GRPCStatus() *status.Status }
	if _, ours := As(err); ours || !errors.As(err, &inner) || len(inner.GRPCStatus().Details()) > 0 {
		return err
	}
	st := inner.GRPCStatus()
	switch st.Code() {
	case codes.InvalidArgument:
		return unreadable(st.Message(), reason).WithCause(err)
	case codes.ResourceExhausted:
		return New(codes.InvalidArgument, reason, "the request is too large").WithCause(err)
	case codes.NotFound, codes.Unimplemented:
		return New(st.Code(), reason, "%s", st.Message()).WithCause(err)
	default:
		return outward(err)
	}
}

var (
	// ofLibrary is what stands in texts of libraries and says nothing to callers.
	ofLibrary = regexp.MustCompile(`proto:[ \x{a0}]*|strconv\.[A-Za-z]+: |http: |json: |syntax error |google\.protobuf\.`)
	ofField   = regexp.MustCompile(`(?:field|parameter:?) "?([a-z][A-Za-z0-9_.]*)`)
	// ofRequest is where libraries repeat what was sent: it may be a secret. Names of
	// fields stay.
	ofRequest = regexp.MustCompile(`(unexpected token|invalid value(?: for \S+ (?:field|key)[^:]*)?):? .*|((?:field|parameter:?) "[^"]*")|(?:: parsing)?[ :]*"(?:[^"\\]|\\.)*"?`)
)

// unreadable is the refusal of a request that could not be read.
func unreadable(message, reason string) *Error {
	field := "body"
	if m := ofField.FindStringSubmatch(message); m != nil {
		field = m[1]
	}
	message = ofRequest.ReplaceAllString(ofLibrary.ReplaceAllString(message, ""), "$1$2")
	if strings.Contains(message, "request body too large") {
		field, message = "body", "is too large"
	}
	e := InvalidField(field, "%s", message)
	e.Reason = reason
	return e
}
