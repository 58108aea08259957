package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// walker walks through one door of a server, as a documented flow says.
type walker struct {
	t    *testing.T
	s    *server
	rest bool
	conn *grpc.ClientConn
}

func newWalker(t *testing.T, s *server, rest bool) *walker {
	t.Helper()
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the test is over
	return &walker{t: t, s: s, rest: rest, conn: conn}
}

// answer is what a call gave: OK, or a code with the reason of its ErrorInfo.
type answer struct {
	code   codes.Code
	reason string
}

// call calls a method by gRPC, or by REST as verb and path say, and returns the code.
func (w *walker) call(token, method, verb, path string, req, resp proto.Message) codes.Code {
	w.t.Helper()
	if !w.rest {
		return w.byGRPC(token, method, req, resp).code
	}
	return w.byREST(token, verb, path, req, resp).code
}

// do calls a method by gRPC, or by REST where the contract has it.
func (w *walker) do(token, method string, req, resp proto.Message) answer {
	w.t.Helper()
	if !w.rest {
		return w.byGRPC(token, method, req, resp)
	}
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(method, "/", ".")))
	if err != nil {
		w.t.Fatal(err)
	}
	rule, _ := proto.GetExtension(found.Options(), annotations.E_Http).(*annotations.HttpRule)
	verb, template := pathOf(rule)
	left := proto.Clone(req)
	path := pathField.ReplaceAllStringFunc(template, func(part string) string {
		holder, names := left.ProtoReflect(), strings.Split(strings.Trim(part, "{}"), ".")
		for _, name := range names[:len(names)-1] {
			holder = holder.Mutable(holder.Descriptor().Fields().ByName(protoreflect.Name(name))).Message()
		}
		field := holder.Descriptor().Fields().ByName(protoreflect.Name(names[len(names)-1]))
		value := holder.Get(field).String()
		holder.Clear(field)
		return url.PathEscape(value)
	})
	if rule.GetBody() == "" {
		query := make(url.Values)
		asQuery(left.ProtoReflect(), "", query)
		path, left = path+"?"+query.Encode(), nil
	}
	return w.byREST(token, verb, path, left, resp)
}

// asQuery writes what is set in a message as a query: scalars, and messages of them.
func asQuery(m protoreflect.Message, prefix string, into url.Values) {
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if name := prefix + field.JSONName(); field.Message() != nil {
			asQuery(v.Message(), name+".", into)
		} else {
			into.Set(name, v.String())
		}
		return true
	})
}

func (w *walker) byGRPC(token, method string, req, resp proto.Message) answer {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	return answerOf(status.Convert(w.conn.Invoke(ctx, "/"+method, req, resp)))
}

// byREST sends a request, with a body unless it is nil.
func (w *walker) byREST(token, verb, path string, req, resp proto.Message) answer {
	w.t.Helper()
	var body []byte
	if req != nil && verb != http.MethodGet {
		var err error
		if body, err = protojson.Marshal(req); err != nil {
			w.t.Fatal(err)
		}
	}
	return w.send(token, verb, path, body, resp)
}

// send sends a request with that body.
func (w *walker) send(token, verb, path string, body []byte, resp proto.Message) answer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	call, err := http.NewRequestWithContext(ctx, verb, "http://"+w.s.http+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	call.Header.Set("Authorization", "Bearer "+token)
	came, err := http.DefaultClient.Do(call)
	if err != nil {
		w.t.Fatal(err)
	}
	defer came.Body.Close()
	raw, err := io.ReadAll(came.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	failed := new(rpcstatus.Status)
	into := resp
	if came.StatusCode != http.StatusOK {
		into = failed
	}
	if err := protojson.Unmarshal(raw, into); err != nil {
		w.t.Fatalf("%s %s: %v: %s", verb, path, err, raw)
	}
	return answerOf(status.FromProto(failed))
}

func answerOf(s *status.Status) answer {
	a := answer{code: s.Code()}
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			a.reason = info.GetReason()
		}
	}
	return a
}

// made is call of what makes something, whose response it returns, done.
func (w *walker) made(token, method, path string, req, into proto.Message) {
	w.t.Helper()
	op := new(operationpb.Operation)
	if code := w.call(token, method, http.MethodPost, path, req, op); code != codes.OK {
		w.t.Fatalf("%s: %s", method, code)
	}
	w.finished(method, op, into)
}

// done is do of what changes something, whose response it returns.
func (w *walker) done(token, method string, req, into proto.Message) {
	w.t.Helper()
	op := new(operationpb.Operation)
	w.want(answer{}, token, method, req, op)
	w.finished(method, op, into)
}

// want is do of what must have an answer.
func (w *walker) want(want answer, token, method string, req, resp proto.Message) {
	w.t.Helper()
	if got := w.do(token, method, req, resp); got != want {
		w.t.Fatalf("%s: %v, want %v", method, got, want)
	}
}

// finished reads the response of an operation that must be done.
func (w *walker) finished(method string, op *operationpb.Operation, into proto.Message) {
	w.t.Helper()
	if !op.GetDone() || op.GetResponse() == nil {
		w.t.Fatalf("%s: %v, want it done", method, op)
	}
	if err := op.GetResponse().UnmarshalTo(into); err != nil {
		w.t.Fatal(err)
	}
}

// codeIn reads the code of an error as REST answers it.
func codeIn(t *testing.T, raw []byte) codes.Code {
	t.Helper()
	failed := new(rpcstatus.Status)
	if err := protojson.Unmarshal(raw, failed); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return codes.Code(failed.GetCode())
}

// deskUnits are the units whose operators a command is for, by its first word.
var deskUnits = map[string]string{"billing": "partner", "product": "marketplacerequests", "access-request": "marketplacerequests"}

// platform runs the program as the operator and reads what it prints.
func (w *walker) platform(into proto.Message, args ...string) {
	w.t.Helper()
	out := command(w.t, append(args, "--data-dir", w.s.deskOf(deskUnits[args[0]]))...)
	if err := protojson.Unmarshal(bytes.TrimSpace(out), into); err != nil {
		w.t.Fatal(fmt.Errorf("%v printed %s: %w", args, out, err))
	}
}
