package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	"github.com/bindery-iam/bindery/services/identity"
	"github.com/bindery-iam/bindery/services/identity/operator"
	"github.com/bindery-iam/bindery/services/identity/signin"
)

// signInFlags say by which providers people sign in.
type signInFlags struct {
	PublicURL string            `name:"public-url" placeholder:"URL" help:"Where browsers find the HTTP port, such as https://iam.example; without it there are no pages to sign in by."`
	OIDC      map[string]string `name:"oidc" placeholder:"NAME=FILE" help:"OpenID provider that people sign in by: a JSON file with issuer, clientId, clientSecretFile and, if they become members of it, organizationId. Once for each."`
}

// config adds to the configuration of the unit identity.
func (f signInFlags) config(c *identity.Config) error {
	c.PublicURL = f.PublicURL
	for _, name := range slices.Sorted(maps.Keys(f.OIDC)) {
		p, err := signin.ReadProvider(name, f.OIDC[name])
		if err != nil {
			return fmt.Errorf("--oidc: %w", err)
		}
		c.Providers = append(c.Providers, p)
	}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("--public-url, --oidc: %w", err)
	}
	return nil
}

// externalLogin is an account of an OpenID provider.
type externalLogin struct {
	Issuer  string `required:"" placeholder:"URL" help:"The provider, exactly as it calls itself."`
	Subject string `required:"" placeholder:"SUB" help:"The account, as the provider names it in sub."`
}

type userLinkCommand struct {
	Login string `required:"" placeholder:"L" help:"Login of the user."`
	externalLogin
	operatorFlags
}

// Run lets a user sign in by an account of a provider.
func (c userLinkCommand) Run(ctx context.Context, out io.Writer) error {
	return c.call(ctx, func(ctx context.Context, client identityv1.OperatorServiceClient) error {
		resp, err := client.LinkUser(ctx, &identityv1.LinkUserRequest{Login: c.Login, Issuer: c.Issuer, Subject: c.Subject})
		return printID(out, resp.GetId(), err)
	})
}

type userUnlinkCommand struct {
	externalLogin
	operatorFlags
}

// Run ends that somebody may sign in by an account of a provider.
func (c userUnlinkCommand) Run(ctx context.Context, out io.Writer) error {
	return c.call(ctx, func(ctx context.Context, client identityv1.OperatorServiceClient) error {
		resp, err := client.UnlinkUser(ctx, &identityv1.UnlinkUserRequest{Issuer: c.Issuer, Subject: c.Subject})
		return printID(out, resp.GetId(), err)
	})
}

// printID prints whom a command was about.
func printID(out io.Writer, userID string, err error) error {
	if err != nil {
		return operator.Explain(err)
	}
	return json.NewEncoder(out).Encode(map[string]string{"id": userID})
}
