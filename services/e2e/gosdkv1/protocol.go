package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// request is one line of input: one call of the scenario.
type request struct {
	// Session says who calls.
	Session session `json:"session"`
	// Call is a name of the table in calls.go, e.g. "folder.create".
	Call string `json:"call"`
	// Message is the request message as proto JSON.
	Message json.RawMessage `json:"message"`
	// All follows the pages of a list with the SDK's own iterator.
	All bool `json:"all"`
	// Wait waits for the operation with the SDK's own waiter.
	Wait bool `json:"wait"`
}

// session is one credential of the SDK; exactly one field is set.
type session struct {
	OAuthToken string     `json:"oauthToken"`
	IAMToken   string     `json:"iamToken"`
	AccountKey accountKey `json:"accountKey"`
}

// accountKey is an authorized key of a service account, with the names of the file
// that the command line of the cloud writes.
type accountKey struct {
	ID               string `json:"id"`
	ServiceAccountID string `json:"service_account_id"`
	PrivateKey       string `json:"private_key"`
}

// answer is one line of output: what the call gave.
type answer struct {
	// Code is the name of the gRPC code, e.g. "NOT_FOUND".
	Code string `json:"code"`
	// Error is the text of the error; for people, not for comparison.
	Error string `json:"error,omitempty"`
	// Reason is the one of the ErrorInfo detail.
	Reason string `json:"reason,omitempty"`
	// Fields are the fields of the BadRequest detail, in order.
	Fields []string `json:"fields,omitempty"`
	// Message is the answer as proto JSON; of an operation, its last state.
	Message json.RawMessage `json:"message,omitempty"`
}

// call performs one request with the SDK.
type call func(context.Context, request) (json.RawMessage, error)

// serve answers one line after the other until the input ends. A call that
// fails is an answer; an input that cannot be understood is an error.
func serve(ctx context.Context, in io.Reader, out io.Writer, find func(context.Context, request) (call, error)) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var req request
		if err := json.Unmarshal(lines.Bytes(), &req); err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		do, err := find(ctx, req)
		if err != nil {
			return fmt.Errorf("%s: %w", req.Call, err)
		}
		msg, err := do(ctx, req)
		if err := json.NewEncoder(out).Encode(answerOf(msg, err)); err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
	}
	return lines.Err()
}

// answerOf shows what the caller of an SDK sees of a result.
func answerOf(msg json.RawMessage, err error) answer {
	st := status.Convert(err)
	a := answer{Code: code.Code(st.Code()).String(), Message: msg}
	if err == nil {
		return a
	}
	a.Error, a.Message = err.Error(), nil
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			a.Reason = d.GetReason()
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				a.Fields = append(a.Fields, v.GetField())
			}
		}
	}
	return a
}

// message is a pointer to T that is a message, so that a T can be made.
type message[T any] interface {
	*T
	proto.Message
}

// method is an RPC of a generated client.
type method[Q any, A any] func(context.Context, Q, ...grpc.CallOption) (A, error)

// parse reads a request message from its JSON.
func parse[T any, P message[T]](req request) (P, error) {
	m := P(new(T))
	if len(req.Message) == 0 {
		return m, nil
	}
	return m, protojson.Unmarshal(req.Message, m)
}

// unary calls an RPC whose answer is shown as it is.
func unary[T any, P message[T], A proto.Message](rpc method[P, A]) call {
	return func(ctx context.Context, req request) (json.RawMessage, error) {
		in, err := parse[T, P](req)
		if err != nil {
			return nil, err
		}
		out, err := rpc(ctx, in)
		if err != nil {
			return nil, err
		}
		return protojson.Marshal(out)
	}
}

// merged shows the items of all pages of a list as one answer.
func merged[T proto.Message](field string, items []T) (json.RawMessage, error) {
	list := make([]json.RawMessage, 0, len(items))
	for _, item := range items {
		text, err := protojson.Marshal(item)
		if err != nil {
			return nil, err
		}
		list = append(list, text)
	}
	return json.Marshal(map[string]any{field: list})
}
