// Command local is the same service, deciding in its own process: local BINDERY
// ORGANIZATION, with its IAM token in TOKEN. One line differs.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/authz/replica"
	"github.com/bindery-iam/bindery/pkg/catalog"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

type folders struct {
	rmv1.UnimplementedFolderServiceServer
}

func (folders) Get(ctx context.Context, req *rmv1.GetFolderRequest) (*rmv1.Folder, error) {
	return &rmv1.Folder{Id: req.GetFolderId(), Description: "for " + authn.FromContext(ctx).Subject()}, nil
}

func main() {
	token := func(context.Context) (string, error) { return os.Getenv("TOKEN"), nil }
	conn, err := authz.Dial(authz.Dialing{Addresses: os.Args[1], Plaintext: true, Token: token})
	must(err)
	decider := replica.Start(context.Background(), replica.Config{Conn: conn, Organization: os.Args[2]})
	guard := authz.NewGuard(decider, decider.Tokens())
	server := grpc.NewServer(guard.Options()...)
	rmv1.RegisterFolderServiceServer(server, folders{})
	roles, err := catalog.Load()
	must(err)
	must(guard.Compile(server, authz.Deps{Catalog: roles}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	_, err = fmt.Fprintln(os.Stdout, listener.Addr())
	must(err)
	must(server.Serve(listener))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
