package apierr

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// Domain is the domain of every ErrorInfo made here.
const Domain = "bindery"

// Reasons that no single service owns. A service names its own beside its rules.
const (
	ReasonInvalid            = "VALIDATION_FAILED"       // fields break their constraints; see BadRequest
	ReasonTokenMissing       = "TOKEN_MISSING"           // no credentials where some are needed
	ReasonTokenInvalid       = "TOKEN_INVALID"           // not a token of this installation
	ReasonTokenExpired       = "TOKEN_EXPIRED"           // past its expires_at
	ReasonTokenRevoked       = "TOKEN_REVOKED"           // revoked before its end (TK-3)
	ReasonSubjectInactive    = "SUBJECT_INACTIVE"        // unknown, suspended or deleted
	ReasonUnitInvalid        = "UNIT_CREDENTIAL_INVALID" // not a statement of a trusted unit
	ReasonUnitNotAdmitted    = "UNIT_NOT_ADMITTED"       // an internal method, and not for this caller
	ReasonPermissionDenied   = "PERMISSION_DENIED"       // the caller lacks a permission on a resource
	ReasonPayerStopped       = "PAYER_STOPPED"           // a role grants it, and who pays is suspended (PT-30)
	ReasonDeniedByPolicy     = "DENIED_BY_POLICY"        // a role grants it, an access policy denies it (AP-1)
	ReasonResourceNotFound   = "RESOURCE_NOT_FOUND"      // the checked resource is unknown
	ReasonQuotaExceeded      = "QUOTA_EXCEEDED"          // a limit is reached; see QuotaFailure
	ReasonCheckerUnavailable = "CHECKER_UNAVAILABLE"     // nobody could decide; never a pass
	ReasonUnavailable        = "UNAVAILABLE"             // try again
	ReasonOutcomeUnknown     = "OUTCOME_UNKNOWN"         // the change may have been made; the idempotency key finds it
	ReasonStorageFull        = "STORAGE_FULL"            // the database has no room for changes
	ReasonOverloaded         = "OVERLOADED"              // too many calls at once; see RetryInfo
	ReasonCancelled          = "CANCELLED"               // the caller went away
	ReasonDeadline           = "DEADLINE_EXCEEDED"       // the caller's deadline passed
	ReasonUnimplemented      = "UNIMPLEMENTED"           // not offered
	ReasonInternal           = "INTERNAL"                // our fault; the log knows more
)

// Error is a refusal that may be shown to a caller. Treat it as immutable: the
// With methods return copies, so that refusals can be package variables.
type Error struct {
	Code    codes.Code        // canonical code
	Reason  string            // UPPER_SNAKE_CASE, stable
	Message string            // one sentence for people, without secrets
	Meta    map[string]string // ErrorInfo.metadata; keys in lower camel case
	Fields  []Field           // BadRequest.field_violations, in field order
	Details []proto.Message   // further details, e.g. QuotaFailure
	cause   error
}

// Field is one field of a request and what is wrong with it.
type Field struct {
	Name    string // path as in the proto, e.g. "access_bindings[0].role_id"
	Message string // names the limit, e.g. "must have at most 50 characters"
}

// New returns a refusal with a code that no constructor below stands for.
func New(code codes.Code, reason, format string, args ...any) *Error {
	return &Error{Code: code, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// NotFound returns NOT_FOUND.
func NotFound(reason, format string, args ...any) *Error {
	return New(codes.NotFound, reason, format, args...)
}

// AlreadyExists returns ALREADY_EXISTS.
func AlreadyExists(reason, format string, args ...any) *Error {
	return New(codes.AlreadyExists, reason, format, args...)
}

// Invalid returns INVALID_ARGUMENT with one violation per field, in the order
// given.
func Invalid(fields ...Field) *Error {
	lines := make([]string, 0, len(fields))
	for _, f := range fields {
		lines = append(lines, f.Name+": "+f.Message)
	}
	return &Error{Code: codes.InvalidArgument, Reason: ReasonInvalid, Message: strings.Join(lines, "; "), Fields: fields}
}

// InvalidField returns INVALID_ARGUMENT for one field.
func InvalidField(field, format string, args ...any) *Error {
	return Invalid(Field{Name: field, Message: fmt.Sprintf(format, args...)})
}

// Denied returns PERMISSION_DENIED.
func Denied(reason, format string, args ...any) *Error {
	return New(codes.PermissionDenied, reason, format, args...)
}

// Precondition returns FAILED_PRECONDITION: the state of the system forbids it.
func Precondition(reason, format string, args ...any) *Error {
	return New(codes.FailedPrecondition, reason, format, args...)
}

// Conflict returns ABORTED: the caller lost a race and may start over.
func Conflict(reason, format string, args ...any) *Error {
	return New(codes.Aborted, reason, format, args...)
}

// Unauthenticated returns UNAUTHENTICATED: the credentials are missing or bad.
func Unauthenticated(reason, format string, args ...any) *Error {
	return New(codes.Unauthenticated, reason, format, args...)
}

// Unavailable returns UNAVAILABLE: the same call may succeed in a moment.
func Unavailable(reason, format string, args ...any) *Error {
	return New(codes.Unavailable, reason, format, args...)
}

// Unimplemented returns UNIMPLEMENTED.
func Unimplemented(format string, args ...any) *Error {
	return New(codes.Unimplemented, ReasonUnimplemented, format, args...)
}

// Internal returns INTERNAL with a message that says nothing; cause is for the log.
func Internal(cause error) *Error {
	return &Error{Code: codes.Internal, Reason: ReasonInternal, Message: "internal error", cause: cause}
}

// WithMeta returns a copy whose ErrorInfo carries the pairs as well: key, value,
// key, value. A key without a value is left out.
func (e *Error) WithMeta(pairs ...string) *Error {
	c := *e
	c.Meta = maps.Clone(e.Meta)
	if c.Meta == nil {
		c.Meta = make(map[string]string, len(pairs)/2)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		c.Meta[pairs[i]] = pairs[i+1]
	}
	return &c
}

// WithCause returns a copy that wraps cause, for the log only.
func (e *Error) WithCause(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// Withf returns a copy with another message and the same code and reason.
func (e *Error) Withf(format string, args ...any) *Error {
	c := *e
	c.Message = fmt.Sprintf(format, args...)
	return &c
}

// Error is the text for logs, with the cause. Callers see Message alone.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.Reason + ": " + e.Message
	}
	return e.Reason + ": " + e.Message + ": " + e.cause.Error()
}

// Unwrap returns the cause, nil when there is none.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is match by code and reason, so that a refusal matches the
// package variable it was derived from.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Reason == e.Reason
}

// CodeOf returns the code with which err would leave; OK for nil.
func CodeOf(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	return outward(err).Code
}

// ReasonOf returns the reason that err carries, also when a gRPC client returned
// it; for an error without one that with which it would leave; "" for nil.
func ReasonOf(err error) string {
	if err == nil {
		return ""
	}
	if reason := sentReason(err); reason != "" {
		return reason
	}
	return outward(err).Reason
}

// As returns the inner *Error of err, if there is one.
func As(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}
