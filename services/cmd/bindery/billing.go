package main

import (
	"context"
	"encoding/json"
	"io"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/services/identity/operator"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// billingCommands are what the operator does about billing accounts.
type billingCommands struct {
	State   billingStateCommand   `cmd:"" help:"Put an account into a state, as payments have it, and print it as JSON."`
	Partner billingPartnerCommand `cmd:"" help:"Give an account partner status, or take it away, and print it as JSON."`

	Catalog        billingCatalogCommand        `cmd:"" help:"Add services, products and prices to what is sold, or change them."`
	Ingest         billingIngestCommand         `cmd:"" help:"Take records of usage from a file of JSON lines, each once."`
	Accrue         billingAccrueCommand         `cmd:"" help:"Book a rebate, or commission for a referral link, and print the entry as JSON."`
	Balance        billingBalanceCommand        `cmd:"" help:"Say what is on an account, as payments have it, and print it as JSON."`
	Specialization billingSpecializationCommand `cmd:"" help:"Grant a partner a specialization, or take it away."`
}

// billing runs fn with a client of the operator socket of the unit partner.
func (f operatorFlags) billing(ctx context.Context, fn func(context.Context, partnerv1.OperatorServiceClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	conn, err := operator.Dial(f.DataDir)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return fn(ctx, partnerv1.NewOperatorServiceClient(conn))
}

type billingStateCommand struct {
	ID     string `required:"" name:"id" placeholder:"ID" help:"The billing account."`
	State  string `required:"" enum:"NEW,PENDING,PAYMENT_NOT_CONFIRMED,TRIAL_ACTIVE,TRIAL_SUSPENDED,TRIAL_EXPIRED,FIRST_PAYMENT_REQUIRED,ACTIVE,PAYMENT_REQUIRED,SUSPENDED" placeholder:"STATE" help:"NEW, PENDING, PAYMENT_NOT_CONFIRMED, TRIAL_ACTIVE, TRIAL_SUSPENDED, TRIAL_EXPIRED, FIRST_PAYMENT_REQUIRED, ACTIVE, PAYMENT_REQUIRED or SUSPENDED; of a subaccount SUSPENDED or ACTIVE."`
	Reason string `name:"reason" placeholder:"TEXT" help:"Why, for the customer of a subaccount that is suspended to read."`
	operatorFlags
}

// Run sets the state (BI-5).
func (c billingStateCommand) Run(ctx context.Context, out io.Writer) error {
	return c.billing(ctx, func(ctx context.Context, client partnerv1.OperatorServiceClient) error {
		a, err := client.SetBillingAccountState(ctx, &partnerv1.SetBillingAccountStateRequest{
			BillingAccountId: c.ID, State: partnerv1.BillingAccount_State(partnerv1.BillingAccount_State_value[c.State]), Reason: c.Reason,
		})
		if err != nil {
			return operator.Explain(err)
		}
		return printMessage(out, a)
	})
}

type billingPartnerCommand struct {
	ID       string   `required:"" name:"id" placeholder:"ID" help:"The billing account."`
	Programs []string `name:"program" enum:"VAR,REFERRAL" placeholder:"PROGRAM" help:"VAR or REFERRAL, once for each; none takes the status away."`
	operatorFlags
}

// Run sets the programs (PT-2, PT-3).
func (c billingPartnerCommand) Run(ctx context.Context, out io.Writer) error {
	req := &partnerv1.SetPartnerStatusRequest{BillingAccountId: c.ID}
	for _, p := range c.Programs {
		req.Programs = append(req.Programs, partnerv1.Partner_Program(partnerv1.Partner_Program_value[p]))
	}
	return c.billing(ctx, func(ctx context.Context, client partnerv1.OperatorServiceClient) error {
		p, err := client.SetPartnerStatus(ctx, req)
		if err != nil {
			return operator.Explain(err)
		}
		return printMessage(out, p)
	})
}

// printMessage prints a message as JSON on a line.
func printMessage(out io.Writer, m proto.Message) error {
	text, err := protojson.Marshal(m)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(json.RawMessage(text)) // protojson varies its spaces, this does not
}
