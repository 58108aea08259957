package main

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/services/identity/operator"

	supportv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/support/v1"
)

// ticketCommands are what the platform does about support tickets.
type ticketCommands struct {
	List     ticketListCommand     `cmd:"" help:"Print the tickets of everybody, each as JSON on a line of its own."`
	Show     ticketShowCommand     `cmd:"" help:"Print a ticket with its attachments, then its comments, each as JSON on a line of its own."`
	Answer   ticketAnswerCommand   `cmd:"" help:"Write a comment of the platform; who filed the ticket is told."`
	Close    ticketCloseCommand    `cmd:"" help:"Close a ticket, for good; who filed it is told."`
	Download ticketDownloadCommand `cmd:"" help:"Write an attachment to the standard output. It is whatever somebody has sent: do not run it."`
}

// support runs fn with a client of the operator socket of the unit resourcemanager.
func (f operatorFlags) support(ctx context.Context, fn func(context.Context, supportv1.OperatorServiceClient) error) error {
	return f.dial(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		if err := fn(ctx, supportv1.NewOperatorServiceClient(conn)); err != nil {
			return operator.Explain(err)
		}
		return nil
	})
}

type ticketListCommand struct {
	State string `default:"OPEN" enum:",OPEN,CLOSED" placeholder:"STATE" help:"In this state alone: OPEN (${default}) or CLOSED; empty for all."`
	operatorFlags
}

// Run prints the tickets, newest first.
func (c ticketListCommand) Run(ctx context.Context, out io.Writer) error {
	return c.support(ctx, func(ctx context.Context, client supportv1.OperatorServiceClient) error {
		req := &supportv1.ListAllTicketsRequest{PageSize: printed}
		if c.State != "" {
			req.Filter = `state = "` + c.State + `"`
		}
		return printPages(out, func(token string) ([]*supportv1.Ticket, string, error) {
			req.PageToken = token
			resp, err := client.ListAllTickets(ctx, req)
			return resp.GetTickets(), resp.GetNextPageToken(), err
		})
	})
}

type ticketShowCommand struct {
	Ticket string `required:"" placeholder:"ID" help:"The ticket."`
	operatorFlags
}

// Run prints the ticket and its comments, oldest first.
func (c ticketShowCommand) Run(ctx context.Context, out io.Writer) error {
	return c.support(ctx, func(ctx context.Context, client supportv1.OperatorServiceClient) error {
		t, err := client.GetAnyTicket(ctx, &supportv1.GetAnyTicketRequest{TicketId: c.Ticket})
		if err != nil {
			return err
		}
		if err := printLine(out, t); err != nil {
			return err
		}
		return printPages(out, func(token string) ([]*supportv1.TicketComment, string, error) {
			resp, err := client.ListComments(ctx, &supportv1.ListCommentsRequest{TicketId: c.Ticket, PageSize: printed, PageToken: token})
			return resp.GetComments(), resp.GetNextPageToken(), err
		})
	})
}

type ticketAnswerCommand struct {
	Ticket string `required:"" placeholder:"ID" help:"The ticket."`
	Text   string `required:"" placeholder:"TEXT" help:"What it says."`
	operatorFlags
}

// Run writes and prints the comment.
func (c ticketAnswerCommand) Run(ctx context.Context, out io.Writer) error {
	return c.support(ctx, func(ctx context.Context, client supportv1.OperatorServiceClient) error {
		m, err := client.CreateComment(ctx, &supportv1.CreateCommentRequest{TicketId: c.Ticket, Text: c.Text})
		if err != nil {
			return err
		}
		return printLine(out, m)
	})
}

type ticketCloseCommand struct {
	Ticket string `required:"" placeholder:"ID" help:"The ticket."`
	operatorFlags
}

// Run closes and prints the ticket.
func (c ticketCloseCommand) Run(ctx context.Context, out io.Writer) error {
	return c.support(ctx, func(ctx context.Context, client supportv1.OperatorServiceClient) error {
		t, err := client.CloseAnyTicket(ctx, &supportv1.CloseAnyTicketRequest{TicketId: c.Ticket})
		if err != nil {
			return err
		}
		return printLine(out, t)
	})
}

type ticketDownloadCommand struct {
	Ticket     string `required:"" placeholder:"ID" help:"The ticket."`
	Attachment string `required:"" placeholder:"ID" help:"The attachment."`
	operatorFlags
}

// Run writes the content as it was sent.
func (c ticketDownloadCommand) Run(ctx context.Context, out io.Writer) error {
	return c.support(ctx, func(ctx context.Context, client supportv1.OperatorServiceClient) error {
		stream, err := client.DownloadAttachment(ctx, &supportv1.DownloadAttachmentRequest{TicketId: c.Ticket, AttachmentId: c.Attachment})
		if err != nil {
			return err
		}
		for {
			part, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if _, err := out.Write(part.GetData()); err != nil {
				return err
			}
		}
	})
}
