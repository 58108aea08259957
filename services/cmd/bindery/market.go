package main

import (
	"context"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/services/identity/operator"

	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
)

// productCommands are what the platform does about products.
type productCommands struct {
	List    productListCommand   `cmd:"" help:"Print the products of all publishers, each as JSON on a line of its own."`
	Approve productReviewCommand `cmd:"" help:"Take a product in review into the offer."`
	Reject  productRejectCommand `cmd:"" help:"Give a product in review back to its publisher."`
}

// accessRequestCommands are what the platform does about requests for products.
type accessRequestCommands struct {
	List     requestListCommand     `cmd:"" help:"Print the requests for all products, each as JSON on a line of its own."`
	Revoke   requestRevokeCommand   `cmd:"" help:"Take back the access of an approved request."`
	Message  requestMessageCommand  `cmd:"" help:"Write a message of the platform to both sides of a request."`
	Messages requestMessagesCommand `cmd:"" help:"Print the messages of a request, each as JSON on a line of its own."`
}

// market runs fn with a client of the operator socket of the unit marketplacerequests.
func (f operatorFlags) market(ctx context.Context, fn func(context.Context, marketplacev1.OperatorServiceClient) error) error {
	return f.dial(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		if err := fn(ctx, marketplacev1.NewOperatorServiceClient(conn)); err != nil {
			return operator.Explain(err)
		}
		return nil
	})
}

// printLine prints a message as JSON on a line.
func printLine(out io.Writer, m proto.Message) error {
	line, err := protojson.Marshal(m)
	if err != nil {
		return err
	}
	_, err = out.Write(append(line, '\n'))
	return err
}

// printPages prints what pages hold, until a page has no next one.
func printPages[M proto.Message](out io.Writer, read func(token string) (all []M, next string, err error)) error {
	for token := ""; ; {
		all, next, err := read(token)
		if err != nil {
			return err
		}
		for _, m := range all {
			if err := printLine(out, m); err != nil {
				return err
			}
		}
		if token = next; token == "" {
			return nil
		}
	}
}

// printed is how many items the operator's lists read at once.
const printed = 1000

type productListCommand struct {
	State string `default:"" enum:",DRAFT,IN_REVIEW,APPROVED,REJECTED,ARCHIVED" placeholder:"STATE" help:"In this state alone: DRAFT, IN_REVIEW, APPROVED, REJECTED or ARCHIVED."`
	operatorFlags
}

// Run prints the products, newest first.
func (c productListCommand) Run(ctx context.Context, out io.Writer) error {
	return c.market(ctx, func(ctx context.Context, client marketplacev1.OperatorServiceClient) error {
		return printPages(out, func(token string) ([]*marketplacev1.Product, string, error) {
			resp, err := client.ListAllProducts(ctx, &marketplacev1.ListAllProductsRequest{
				State: marketplacev1.Product_State(marketplacev1.Product_State_value[c.State]), PageSize: printed, PageToken: token,
			})
			return resp.GetProducts(), resp.GetNextPageToken(), err
		})
	})
}

type productReviewCommand struct {
	Product string `required:"" placeholder:"ID" help:"The product."`
	Comment string `placeholder:"TEXT" help:"What the publisher is told."`
	operatorFlags
}

// Run approves the product and prints it.
func (c productReviewCommand) Run(ctx context.Context, out io.Writer) error {
	return c.review(ctx, out, true)
}

func (c productReviewCommand) review(ctx context.Context, out io.Writer, approve bool) error {
	return c.market(ctx, func(ctx context.Context, client marketplacev1.OperatorServiceClient) error {
		p, err := client.ReviewProduct(ctx, &marketplacev1.ReviewProductRequest{ProductId: c.Product, Approve: approve, Comment: c.Comment})
		if err != nil {
			return err
		}
		return printLine(out, p)
	})
}

type productRejectCommand struct{ productReviewCommand }

// Run rejects the product and prints it.
func (c productRejectCommand) Run(ctx context.Context, out io.Writer) error {
	return c.review(ctx, out, false)
}

type requestListCommand struct {
	Product             string `placeholder:"ID" help:"For this product alone."`
	State               string `default:"" enum:",PENDING,APPROVED,REJECTED,REVOKED,CANCELED" placeholder:"STATE" help:"In this state alone: PENDING, APPROVED, REJECTED, REVOKED or CANCELED."`
	RevocationRequested bool   `help:"Only those that their publisher asks to revoke."`
	operatorFlags
}

// Run prints the requests, newest first.
func (c requestListCommand) Run(ctx context.Context, out io.Writer) error {
	return c.market(ctx, func(ctx context.Context, client marketplacev1.OperatorServiceClient) error {
		return printPages(out, func(token string) ([]*marketplacev1.ProductAccessRequest, string, error) {
			resp, err := client.ListAccessRequests(ctx, &marketplacev1.ListAccessRequestsRequest{
				ProductId: c.Product, RevocationRequested: c.RevocationRequested, PageSize: printed, PageToken: token,
				State: marketplacev1.ProductAccessRequest_State(marketplacev1.ProductAccessRequest_State_value[c.State]),
			})
			return resp.GetRequests(), resp.GetNextPageToken(), err
		})
	})
}

type requestRevokeCommand struct {
	Request string `required:"" placeholder:"ID" help:"The request."`
	Reason  string `required:"" placeholder:"TEXT" help:"Why, for both sides."`
	operatorFlags
}

// Run revokes and prints the request. When it has, nobody installs by it any more.
func (c requestRevokeCommand) Run(ctx context.Context, out io.Writer) error {
	return c.market(ctx, func(ctx context.Context, client marketplacev1.OperatorServiceClient) error {
		r, err := client.RevokeAccessRequest(ctx, &marketplacev1.RevokeAccessRequestRequest{RequestId: c.Request, Reason: c.Reason})
		if err != nil {
			return err
		}
		return printLine(out, r)
	})
}

type requestMessageCommand struct {
	Request string `required:"" placeholder:"ID" help:"The request."`
	Text    string `required:"" placeholder:"TEXT" help:"What it says."`
	operatorFlags
}

// Run writes and prints the message.
func (c requestMessageCommand) Run(ctx context.Context, out io.Writer) error {
	return c.market(ctx, func(ctx context.Context, client marketplacev1.OperatorServiceClient) error {
		m, err := client.CreateMessage(ctx, &marketplacev1.CreateMessageRequest{RequestId: c.Request, Text: c.Text})
		if err != nil {
			return err
		}
		return printLine(out, m)
	})
}

type requestMessagesCommand struct {
	Request string `required:"" placeholder:"ID" help:"The request."`
	operatorFlags
}

// Run prints the messages, oldest first.
func (c requestMessagesCommand) Run(ctx context.Context, out io.Writer) error {
	return c.market(ctx, func(ctx context.Context, client marketplacev1.OperatorServiceClient) error {
		return printPages(out, func(token string) ([]*marketplacev1.Message, string, error) {
			resp, err := client.ListMessages(ctx, &marketplacev1.ListMessagesRequest{RequestId: c.Request, PageSize: printed, PageToken: token})
			return resp.GetMessages(), resp.GetNextPageToken(), err
		})
	})
}
