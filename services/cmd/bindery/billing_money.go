package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bindery-iam/bindery/services/identity/operator"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// money runs fn with a client of what the operator says about money, for as long as it
// takes.
func (f operatorFlags) money(ctx context.Context, fn func(context.Context, partnerv1.MoneyOperatorServiceClient) error) error {
	conn, err := operator.Dial(f.DataDir)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return fn(ctx, partnerv1.NewMoneyOperatorServiceClient(conn))
}

// once bounds one call of many.
func once[Req, Resp any](ctx context.Context, call func(context.Context, Req, ...grpc.CallOption) (Resp, error), req Req) (Resp, error) {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	resp, err := call(ctx, req)
	if err != nil {
		err = operator.Explain(err)
	}
	return resp, err
}

type billingCatalogCommand struct {
	In string `required:"" placeholder:"FILE" help:"JSON as of LoadCatalogRequest: services and skus. - reads standard input."`
	operatorFlags
}

// catalogPart is how many products one call loads.
const catalogPart = 500

// Run loads what is sold.
func (c billingCatalogCommand) Run(ctx context.Context, out io.Writer) error {
	text, err := readInput(c.In)
	if err != nil {
		return err
	}
	whole := new(partnerv1.LoadCatalogRequest)
	if err := protojson.Unmarshal(text, whole); err != nil {
		return fmt.Errorf("%s: %w", c.In, err)
	}
	return c.money(ctx, func(ctx context.Context, client partnerv1.MoneyOperatorServiceClient) error {
		var resp *partnerv1.LoadCatalogResponse
		for first := true; first || len(whole.GetServices())+len(whole.GetSkus()) > 0; first = false {
			part := new(partnerv1.LoadCatalogRequest) // services first: products are of them
			part.Services, whole.Services = cutOff(whole.GetServices())
			if len(whole.GetServices()) == 0 {
				part.Skus, whole.Skus = cutOff(whole.GetSkus())
			}
			if resp, err = once(ctx, client.LoadCatalog, part); err != nil {
				return err
			}
		}
		return printMessage(out, resp)
	})
}

// cutOff takes the first part of a list.
func cutOff[T *billingv1.Service | *billingv1.Sku](all []T) (part, rest []T) {
	n := min(len(all), catalogPart)
	return all[:n], all[n:]
}

type billingIngestCommand struct {
	In string `required:"" placeholder:"FILE" help:"A UsageRecord as JSON on each line. - reads standard input."`
	operatorFlags
}

// Bounds of one call of the command.
const (
	ingestPart  = 5000
	maxJSONLine = 1 << 20
)

// Run takes records of usage. After a failure the same file may be given again: what was
// taken is known.
func (c billingIngestCommand) Run(ctx context.Context, out io.Writer) error {
	in := os.Stdin
	if c.In != "-" {
		f, err := os.Open(c.In)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // it was read
		in = f
	}
	return c.money(ctx, func(ctx context.Context, client partnerv1.MoneyOperatorServiceClient) error {
		total := new(partnerv1.IngestUsageResponse)
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, maxJSONLine)
		var part []*partnerv1.UsageRecord
		send := func() error {
			resp, err := once(ctx, client.IngestUsage, &partnerv1.IngestUsageRequest{Records: part})
			part = nil
			total.Accepted += resp.GetAccepted()
			total.Known += resp.GetKnown()
			total.Unlinked += resp.GetUnlinked()
			return err
		}
		for n := 1; lines.Scan(); n++ {
			r := new(partnerv1.UsageRecord)
			if err := protojson.Unmarshal(lines.Bytes(), r); err != nil {
				return fmt.Errorf("%s, line %d: %w", c.In, n, err)
			}
			if part = append(part, r); len(part) == ingestPart {
				if err := send(); err != nil {
					return fmt.Errorf("%s, up to line %d: %w", c.In, n, err)
				}
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("%s: %w", c.In, err)
		}
		if len(part) > 0 {
			if err := send(); err != nil {
				return err
			}
		}
		return printMessage(out, total)
	})
}

// readInput reads a file, or standard input for "-".
func readInput(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(os.Stdin)
	}
	text, err := os.ReadFile(name) //nolint:gosec // the operator names the path
	return text, err
}

type billingAccrueCommand struct {
	ID      string `required:"" name:"id" placeholder:"ID" help:"The partner's billing account."`
	Accrual string `required:"" placeholder:"ID" help:"Id of the accrual, chosen by you: booked once, however often it is sent."`
	Amount  string `required:"" placeholder:"DECIMAL" help:"The rebate; with --link what the referred pay, of which 10 percent are booked."`
	Link    string `placeholder:"ID" help:"The referral link that earned it."`
	Comment string `placeholder:"TEXT" help:"What for."`
	operatorFlags
}

// Run books what a partner has earned (US-6).
func (c billingAccrueCommand) Run(ctx context.Context, out io.Writer) error {
	return c.money(ctx, func(ctx context.Context, client partnerv1.MoneyOperatorServiceClient) error {
		e, err := once(ctx, client.PostAccrual, &partnerv1.PostAccrualRequest{
			Id: c.Accrual, BillingAccountId: c.ID, Amount: c.Amount, ReferralLinkId: c.Link, Comment: c.Comment,
		})
		if err != nil {
			return err
		}
		return printMessage(out, e)
	})
}

type billingBalanceCommand struct {
	ID      string `required:"" name:"id" placeholder:"ID" help:"The billing account."`
	Balance string `required:"" placeholder:"DECIMAL" help:"What is on it in its currency; below zero for what is owed."`
	operatorFlags
}

// Run sets the balance (US-8).
func (c billingBalanceCommand) Run(ctx context.Context, out io.Writer) error {
	return c.money(ctx, func(ctx context.Context, client partnerv1.MoneyOperatorServiceClient) error {
		b, err := once(ctx, client.SetBalance, &partnerv1.SetBalanceRequest{BillingAccountId: c.ID, Balance: c.Balance})
		if err != nil {
			return err
		}
		return printMessage(out, b)
	})
}

type billingSpecializationCommand struct {
	ID     string `required:"" name:"id" placeholder:"ID" help:"The partner's billing account."`
	Name   string `required:"" placeholder:"NAME" help:"The specialization."`
	Revoke bool   `help:"Take it away."`
	operatorFlags
}

// Run grants a specialization, or takes it away (PT-8).
func (c billingSpecializationCommand) Run(ctx context.Context, out io.Writer) error {
	return c.money(ctx, func(ctx context.Context, client partnerv1.MoneyOperatorServiceClient) error {
		x, err := once(ctx, client.SetSpecialization, &partnerv1.SetSpecializationRequest{BillingAccountId: c.ID, Name: c.Name, Revoked: c.Revoke})
		if err != nil {
			return err
		}
		return printMessage(out, x)
	})
}
