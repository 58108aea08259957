package main

import (
	"context"
	"encoding/json"
	"io"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bindery-iam/bindery/services/identity/operator"

	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

type userListCommand struct {
	Filter string `placeholder:"F" help:"Only the user with login = \"L\", email = \"E\" or id = \"I\"."`
	operatorFlags
}

// Run prints the users by id, each as JSON on a line of its own.
func (c userListCommand) Run(ctx context.Context, out io.Writer) error {
	return c.call(ctx, func(ctx context.Context, client identityv1.OperatorServiceClient) error {
		req := &identityv1.ListUsersRequest{Filter: c.Filter, PageSize: 1000}
		for {
			page, err := client.ListUsers(ctx, req)
			if err != nil {
				return operator.Explain(err)
			}
			for _, u := range page.GetUsers() {
				if err := printUser(out, u); err != nil {
					return err
				}
			}
			if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
				return nil
			}
		}
	})
}

// printUser prints a user as JSON on one line; the names are relied on by scripts.
func printUser(out io.Writer, u *identityv1.OperatorUser) error {
	text, err := protojson.Marshal(u)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(json.RawMessage(text)) // protojson varies its spaces, this does not
}

type userSuspendCommand struct {
	Login  string `required:"" placeholder:"L" help:"Login of the user."`
	Reason string `placeholder:"TEXT" help:"Why, for those who look at the user."`
	operatorFlags
}

// Run stops the user everywhere and prints it.
func (c userSuspendCommand) Run(ctx context.Context, out io.Writer) error {
	return c.call(ctx, func(ctx context.Context, client identityv1.OperatorServiceClient) error {
		resp, err := client.SuspendUser(ctx, &identityv1.SuspendUserRequest{Login: c.Login, Reason: c.Reason})
		if err != nil {
			return operator.Explain(err)
		}
		return printUser(out, resp.GetUser())
	})
}

type userReactivateCommand struct {
	Login string `required:"" placeholder:"L" help:"Login of the user."`
	operatorFlags
}

// Run ends a suspension and prints the user.
func (c userReactivateCommand) Run(ctx context.Context, out io.Writer) error {
	return c.call(ctx, func(ctx context.Context, client identityv1.OperatorServiceClient) error {
		resp, err := client.ReactivateUser(ctx, &identityv1.ReactivateUserRequest{Login: c.Login})
		if err != nil {
			return operator.Explain(err)
		}
		return printUser(out, resp.GetUser())
	})
}

type userDeleteCommand struct {
	Login string `required:"" placeholder:"L" help:"Login of the user."`
	operatorFlags
}

// Run deletes the user for good and prints nothing.
func (c userDeleteCommand) Run(ctx context.Context) error {
	return c.call(ctx, func(ctx context.Context, client identityv1.OperatorServiceClient) error {
		_, err := client.DeleteUser(ctx, &identityv1.DeleteUserRequest{Login: c.Login})
		return operator.Explain(err)
	})
}
