package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/services/identity/operator"

	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// operatorTimeout bounds one call to the operator socket.
const operatorTimeout = 30 * time.Second

// operatorFlags lead to the running server.
type operatorFlags struct {
	DataDir string `default:"./bindery-data" placeholder:"DIR" help:"Data directory of the running server (${default})."`
}

// call runs fn with a client of the server's operator socket.
func (f operatorFlags) call(ctx context.Context, fn func(context.Context, identityv1.OperatorServiceClient) error) error {
	return f.dial(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		return fn(ctx, identityv1.NewOperatorServiceClient(conn))
	})
}

// dial runs fn with a connection to the server's operator socket.
func (f operatorFlags) dial(ctx context.Context, fn func(context.Context, grpc.ClientConnInterface) error) error {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	conn, err := operator.Dial(f.DataDir)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return fn(ctx, conn)
}

type userCreateCommand struct {
	Login string `required:"" placeholder:"L" help:"Login of the new user."`
	Email string `required:"" placeholder:"E" help:"E-mail address of the new user, which you know to be its own: invitations go by it."`

	GivenName  string `placeholder:"NAME" help:"Given name of the new user."`
	FamilyName string `placeholder:"NAME" help:"Family name of the new user."`
	Phone      string `placeholder:"+NUMBER" help:"Phone number of the new user, with its country."`
	operatorFlags
}

// createdUser is what user create prints; the names are relied on by scripts.
type createdUser struct {
	ID         string `json:"id"`
	Login      string `json:"login"`
	OAuthToken string `json:"oauthToken"`
}

// Run makes the user. Its OAuth token is shown here once.
func (c userCreateCommand) Run(ctx context.Context, out io.Writer) error {
	return c.call(ctx, func(ctx context.Context, client identityv1.OperatorServiceClient) error {
		user, err := client.CreateUser(ctx, &identityv1.CreateUserRequest{
			Login: c.Login, Email: c.Email, GivenName: c.GivenName, FamilyName: c.FamilyName, PhoneNumber: c.Phone,
		})
		if err != nil {
			return operator.Explain(err)
		}
		return json.NewEncoder(out).Encode(createdUser{ID: user.GetId(), Login: user.GetLogin(), OAuthToken: user.GetOauthToken()})
	})
}

type tokenCreateCommand struct {
	Login string `required:"" placeholder:"L" help:"Login of the user."`
	operatorFlags
}

// Run prints the token alone on a line.
func (c tokenCreateCommand) Run(ctx context.Context, out io.Writer) error {
	return c.call(ctx, func(ctx context.Context, client identityv1.OperatorServiceClient) error {
		token, err := client.CreateToken(ctx, &identityv1.CreateTokenRequest{Login: c.Login})
		if err != nil {
			return operator.Explain(err)
		}
		_, err = fmt.Fprintln(out, token.GetIamToken())
		return err
	})
}

type keyRotateCommand struct{ operatorFlags }

// Run prints the id of the key that signs from now on alone on a line.
func (c keyRotateCommand) Run(ctx context.Context, out io.Writer) error {
	return c.call(ctx, func(ctx context.Context, client identityv1.OperatorServiceClient) error {
		resp, err := client.RotateSigningKey(ctx, &identityv1.RotateSigningKeyRequest{})
		if err != nil {
			return operator.Explain(err)
		}
		_, err = fmt.Fprintln(out, resp.GetKeyId())
		return err
	})
}
