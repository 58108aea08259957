// Command remote is a service elsewhere that asks bindery about each call:
// remote BINDERY. Its one method needs resource-manager.folders.get, by the rule beside it.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
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
	conn, err := authz.Dial(authz.Dialing{Addresses: os.Args[1], Plaintext: true})
	must(err)
	guard := authz.NewGuard(authz.NewClient(conn), authn.NewVerifier(authn.KeysOver(conn), time.Now))
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
