package apierr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/bindery-iam/bindery/pkg/text"
)

// Edge returns what may leave for err: code, message and details of its inner
// *Error; CANCELLED or DEADLINE_EXCEEDED for a context error; what FromRPC makes
// of an answer of another unit; INTERNAL "internal error" for all else. A
// requestID is added as google.rpc.RequestInfo, since clients find it there when
// they cannot read trailers. Edge of nil is nil, the status of success.
func Edge(err error, requestID string) *status.Status {
	if err == nil {
		return nil
	}
	e := outward(err)
	if requestID != "" {
		c := *e
		c.Details = append(append(c.Details[:0:0], e.Details...), &errdetails.RequestInfo{RequestId: requestID})
		e = &c
	}
	return e.GRPCStatus()
}

// FromRPC turns the error of a call to another unit into one of this package:
// refusals made here travel on unchanged, those about the call's own deadline
// keep their code, UNAVAILABLE stays so, and all else (no such method, a unit
// that may not call, a message too large) is our fault: INTERNAL. The original
// is kept for the log. FromRPC of nil is nil.
func FromRPC(err error) error {
	if err == nil {
		return nil
	}
	return outward(err)
}

// GRPCStatus is the status of the error, without its cause.
func (e *Error) GRPCStatus() *status.Status {
	st := status.New(e.Code, clean(e.Message))
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: e.Reason, Domain: Domain, Metadata: cleanMap(e.Meta)}}
	if len(e.Fields) > 0 {
		bad := new(errdetails.BadRequest)
		for _, f := range e.Fields[:min(len(e.Fields), maxViolations)] {
			bad.FieldViolations = append(bad.FieldViolations,
				&errdetails.BadRequest_FieldViolation{Field: short(f.Name, 128), Description: short(f.Message, 256), Reason: e.Reason})
		}
		details = append(details, bad)
	}
	for _, d := range e.Details {
		details = append(details, protoadapt.MessageV1Of(d))
	}
	full, err := st.WithDetails(details...)
	if err != nil { // only for code OK, which no refusal has
		return status.New(codes.Internal, "internal error")
	}
	return full
}

// outward returns the *Error as which err leaves. err is not nil.
func outward(err error) *Error {
	if e, ok := As(err); ok {
		if e == nil || e.Code == codes.OK {
			return Internal(errors.New("a refusal without a code"))
		}
		return e
	}
	if e := fromContext(err); e != nil {
		return e
	}
	// Not status.FromError: it puts the text of all that wraps a status into it.
	var inner interface{ GRPCStatus() *status.Status }
	if errors.As(err, &inner) {
		return fromStatus(inner.GRPCStatus(), err)
	}
	return Internal(err)
}

// fromContext returns the refusal for a context error, nil for other errors.
func fromContext(err error) *Error {
	switch {
	case errors.Is(err, context.Canceled):
		return New(codes.Canceled, ReasonCancelled, "the caller cancelled the call").WithCause(err)
	case errors.Is(err, context.DeadlineExceeded):
		return New(codes.DeadlineExceeded, ReasonDeadline, "the deadline of the call passed").WithCause(err)
	default:
		return nil
	}
}

// fromStatus reads a status that another unit answered.
func fromStatus(st *status.Status, err error) *Error {
	switch st.Code() { //nolint:exhaustive // the other codes are refusals, read below
	case codes.Canceled:
		return New(codes.Canceled, ReasonCancelled, "the caller cancelled the call").WithCause(err)
	case codes.DeadlineExceeded:
		return New(codes.DeadlineExceeded, ReasonDeadline, "the deadline of the call passed").WithCause(err)
	case codes.OK, codes.Unknown, codes.Internal, codes.DataLoss:
		return Internal(err)
	}
	e := &Error{Code: st.Code(), Message: st.Message(), cause: err}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == Domain {
				e.Reason, e.Meta = d.GetReason(), d.GetMetadata()
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.Fields = append(e.Fields, Field{Name: v.GetField(), Message: v.GetDescription()})
			}
		case *errdetails.RequestInfo: // the outermost call adds its own
		case protoadapt.MessageV2:
			e.Details = append(e.Details, d)
		}
	}
	switch {
	case e.Reason == ReasonUnitInvalid || e.Reason == ReasonUnitNotAdmitted:
		return Internal(err) // the unit's mistake, not its caller's
	case e.Reason != "":
		return e
	case st.Code() == codes.Unavailable:
		return Unavailable(ReasonUnavailable, "a service behind this one cannot be reached, try again").WithCause(err)
	default:
		return Internal(err)
	}
}

// sentReason returns the reason in the status of err, "" when it has none of ours.
func sentReason(err error) string {
	var inner interface{ GRPCStatus() *status.Status }
	if _, ours := As(err); ours || !errors.As(err, &inner) {
		return ""
	}
	for _, d := range inner.GRPCStatus().Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return info.GetReason()
		}
	}
	return ""
}

// A status travels in the trailer, of which clients take 8 KiB in all.
const (
	maxMessage    = 512
	maxValue      = 256 // of metadata
	maxViolations = 8
)

// clean makes text fit for a status: not endless, valid UTF-8, and nothing that a
// terminal would obey.
func clean(s string) string { return short(s, maxMessage) }

func short(s string, limit int) string {
	if len(s) > limit {
		cut := limit
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	if text.Problem(s) == "" {
		return s
	}
	return strings.Map(func(r rune) rune {
		if text.Problem(string(r)) != "" {
			return utf8.RuneError
		}
		return r
	}, s)
}

func cleanMap(m map[string]string) map[string]string {
	for k, v := range m {
		if text.Problem(k) != "" || text.Problem(v) != "" || len(v) > maxValue {
			c := make(map[string]string, len(m))
			for k, v := range m {
				if len(v) > maxValue {
					v = fmt.Sprintf("%.256s", v)
				}
				c[clean(k)] = clean(v)
			}
			return c
		}
	}
	return m
}
