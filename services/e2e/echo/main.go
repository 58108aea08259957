// Command echo is the baseline of the benchmark: a bare grpc-go server that
// answers Authorize with a ready answer of the size that bindery sends. It
// prints its address and serves until its standard input ends.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"

	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
)

// echo answers every call with the same message.
type echo struct {
	accessservicev2.UnimplementedAccessServiceServer
	answer *accessservicev2.AuthorizeResponse
}

// Authorize returns the ready answer.
func (e *echo) Authorize(context.Context, *accessservicev2.AuthorizeRequest) (*accessservicev2.AuthorizeResponse, error) {
	return e.answer, nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

// run serves the answer given as protojson in the first argument.
func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: echo ANSWER")
	}
	answer := &accessservicev2.AuthorizeResponse{}
	if err := protojson.Unmarshal([]byte(os.Args[1]), answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := grpc.NewServer()
	accessservicev2.RegisterAccessServiceServer(server, &echo{answer: answer})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	if _, err := fmt.Fprintln(os.Stdout, listener.Addr()); err != nil {
		return fmt.Errorf("say the address: %w", err)
	}
	return server.Serve(listener)
}
