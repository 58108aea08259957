// Command echo is the baseline of the benchmark: a bare grpc-go server that
// answers Authorize with ready answers of the sizes that bindery sends, picked by
// the permission that is asked for. It prints its address and serves until its
// standard input ends.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
)

// echo has a ready answer for each permission, or else a status.
type echo struct {
	accessservicev2.UnimplementedAccessServiceServer
	answers  map[string]*accessservicev2.AuthorizeResponse
	statuses map[string]*status.Status
}

// Authorize returns the ready answer, or the status with the id of the request, as any
// server makes it: the same bytes each time would not be sent again.
func (e *echo) Authorize(ctx context.Context, req *accessservicev2.AuthorizeRequest) (*accessservicev2.AuthorizeResponse, error) {
	if answer := e.answers[req.GetPermission()]; answer != nil {
		return answer, nil
	}
	id := strings.Join(metadata.ValueFromIncomingContext(ctx, "x-request-id"), "")
	st, err := e.statuses[req.GetPermission()].WithDetails(&errdetails.RequestInfo{RequestId: id})
	if err != nil {
		return nil, err
	}
	return nil, st.Err()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

// ready is an argument: what is answered for a permission.
type ready struct {
	Permission string
	Answer     json.RawMessage // an AuthorizeResponse, or null
	Status     json.RawMessage // a google.rpc.Status
}

// run serves the answers given as arguments.
func run() error {
	e := &echo{answers: map[string]*accessservicev2.AuthorizeResponse{}, statuses: map[string]*status.Status{}}
	for _, arg := range os.Args[1:] {
		var r ready
		if err := json.Unmarshal([]byte(arg), &r); err != nil {
			return fmt.Errorf("read an argument: %w", err)
		}
		if r.Status != nil {
			st := new(statuspb.Status)
			if err := protojson.Unmarshal(r.Status, st); err != nil {
				return fmt.Errorf("read a status: %w", err)
			}
			e.statuses[r.Permission] = status.FromProto(st)
			continue
		}
		e.answers[r.Permission] = new(accessservicev2.AuthorizeResponse)
		if err := protojson.Unmarshal(r.Answer, e.answers[r.Permission]); err != nil {
			return fmt.Errorf("read an answer: %w", err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := grpc.NewServer()
	accessservicev2.RegisterAccessServiceServer(server, e)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	if _, err := fmt.Fprintln(os.Stdout, listener.Addr()); err != nil {
		return fmt.Errorf("say the address: %w", err)
	}
	return server.Serve(listener)
}
