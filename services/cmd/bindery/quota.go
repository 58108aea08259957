package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/services/identity/operator"

	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	qmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quotamanager/v1"
)

// quotaCommands are the operator's side of quotas.
type quotaCommands struct {
	List     quotaListCommand     `cmd:"" help:"List the quotas with their limits, of the installation or of one resource."`
	Set      quotaSetCommand      `cmd:"" help:"Change the limit of a resource, or a default."`
	Requests quotaRequestsCommand `cmd:"" help:"List the requests for other limits."`
	Approve  quotaApproveCommand  `cmd:"" help:"Approve a quota of a request, or all that are not decided yet."`
	Reject   quotaRejectCommand   `cmd:"" help:"Refuse a quota of a request, or all that are not decided yet."`
}

// onQuotas runs fn with a client of the running server's operator socket.
func (f operatorFlags) onQuotas(ctx context.Context, fn func(context.Context, quotav1.OperatorServiceClient) error) error {
	return f.dial(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		return fn(ctx, quotav1.NewOperatorServiceClient(conn))
	})
}

type quotaListCommand struct {
	Type string `placeholder:"TYPE" and:"resource" help:"Type of a resource, e.g. resource-manager.cloud."`
	ID   string `placeholder:"ID" and:"resource" help:"Id of the resource."`
	operatorFlags
}

// Run prints a table: quota, type of resource, limit, default, what is counted.
func (c quotaListCommand) Run(ctx context.Context, out io.Writer) error {
	return c.onQuotas(ctx, func(ctx context.Context, client quotav1.OperatorServiceClient) error {
		req := new(quotav1.ListLimitsRequest)
		if c.ID != "" {
			req.Resource = &quotav1.Resource{Type: c.Type, Id: c.ID}
		}
		resp, err := client.ListLimits(ctx, req)
		if err != nil {
			return operator.Explain(err)
		}
		t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(t, "QUOTA\tON\tLIMIT\tDEFAULT\tCOUNTS") // Flush tells
		for _, q := range resp.GetQuotas() {
			_, _ = fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\n", q.GetQuotaId(), q.GetResourceType(), q.GetLimit(), q.GetDefaultLimit(), q.GetUnit())
		}
		return t.Flush()
	})
}

type quotaSetCommand struct {
	Quota string `arg:"" help:"Id of the quota, e.g. resource-manager.folders.count."`
	Limit *int64 `xor:"change" required:"" placeholder:"N" help:"The new limit; one below what is in use only stops growth."`
	Reset bool   `xor:"change" required:"" help:"Go back to what it was before any change."`
	ID    string `placeholder:"ID" help:"Id of the resource; without it the default of the installation."`
	operatorFlags
}

// Run prints the limit from now on alone on a line.
func (c quotaSetCommand) Run(ctx context.Context, out io.Writer) error {
	return c.onQuotas(ctx, func(ctx context.Context, client quotav1.OperatorServiceClient) error {
		req := &quotav1.SetLimitRequest{QuotaId: c.Quota, ResourceId: c.ID}
		if c.Limit != nil {
			req.Change = &quotav1.SetLimitRequest_Limit{Limit: *c.Limit}
		} else {
			req.Change = &quotav1.SetLimitRequest_Reset_{Reset_: true}
		}
		resp, err := client.SetLimit(ctx, req)
		if err != nil {
			return operator.Explain(err)
		}
		_, err = fmt.Fprintln(out, resp.GetLimit())
		return err
	})
}

type quotaRequestsCommand struct {
	All bool `help:"Also those that are decided."`
	operatorFlags
}

// Run prints a table with a line for each quota of each request, oldest first.
func (c quotaRequestsCommand) Run(ctx context.Context, out io.Writer) error {
	return c.onQuotas(ctx, func(ctx context.Context, client quotav1.OperatorServiceClient) error {
		t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(t, "REQUEST\tRESOURCE\tQUOTA\tWANTED\tAPPROVED\tSTATUS\tBY") // Flush tells
		req := &quotav1.ListRequestsRequest{Open: !c.All}
		for {
			resp, err := client.ListRequests(ctx, req)
			if err != nil {
				return operator.Explain(err)
			}
			for _, r := range resp.GetQuotaRequests() {
				for _, l := range r.GetQuotaLimits() {
					_, _ = fmt.Fprintf(t, "%s\t%s:%s\t%s\t%.0f\t%.0f\t%s\t%s\n", r.GetId(), r.GetResource().GetType(), r.GetResource().GetId(),
						l.GetQuotaId(), l.GetDesiredLimit(), l.GetApprovedLimit(), l.GetStatus(), r.GetCreatedBy())
				}
			}
			if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
				return t.Flush()
			}
		}
	})
}

// decision is what approve and reject have in common.
type decision struct {
	Request string `arg:"" help:"Id of the request."`
	Quota   string `placeholder:"QUOTA" help:"Id of one quota of it; without it all that are not decided yet."`
	Message string `placeholder:"TEXT" help:"Said to whoever asked."`
	operatorFlags
}

// decide sends one decision about each quota that is meant, and prints the status
// of the request alone on a line.
func (c decision) decide(ctx context.Context, out io.Writer, outcome func(*quotav1.Decision)) error {
	return c.onQuotas(ctx, func(ctx context.Context, client quotav1.OperatorServiceClient) error {
		ids := []string{c.Quota}
		if c.Quota == "" {
			var err error
			if ids, err = c.undecided(ctx, client); err != nil {
				return err
			}
		}
		req := &quotav1.DecideRequestRequest{QuotaRequestId: c.Request}
		for _, id := range ids {
			d := &quotav1.Decision{QuotaId: id, Message: c.Message}
			outcome(d)
			req.Decisions = append(req.Decisions, d)
		}
		resp, err := client.DecideRequest(ctx, req)
		if err != nil {
			return operator.Explain(err)
		}
		_, err = fmt.Fprintln(out, resp.GetQuotaRequest().GetStatus())
		return err
	})
}

// undecided returns the quotas of the request that are not decided yet.
func (c decision) undecided(ctx context.Context, client quotav1.OperatorServiceClient) ([]string, error) {
	req := &quotav1.ListRequestsRequest{Open: true}
	for {
		resp, err := client.ListRequests(ctx, req)
		if err != nil {
			return nil, operator.Explain(err)
		}
		for _, r := range resp.GetQuotaRequests() {
			if r.GetId() != c.Request {
				continue
			}
			var ids []string
			for _, l := range r.GetQuotaLimits() {
				if s := l.GetStatus(); s == qmv1.QuotaRequest_QuotaLimit_PENDING || s == qmv1.QuotaRequest_QuotaLimit_PROCESSING {
					ids = append(ids, l.GetQuotaId())
				}
			}
			return ids, nil
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return nil, fmt.Errorf("no request %s waits for a decision", c.Request)
		}
	}
}

type quotaApproveCommand struct {
	decision
	Limit *int64 `placeholder:"N" help:"Approve this limit instead of the one asked for."`
}

// Run approves; the limits are in force at once, elsewhere within a minute.
func (c quotaApproveCommand) Run(ctx context.Context, out io.Writer) error {
	return c.decide(ctx, out, func(d *quotav1.Decision) {
		if c.Limit != nil {
			d.Outcome = &quotav1.Decision_ApproveLimit{ApproveLimit: *c.Limit}
		} else {
			d.Outcome = &quotav1.Decision_Approve{Approve: true}
		}
	})
}

type quotaRejectCommand struct{ decision }

// Run refuses.
func (c quotaRejectCommand) Run(ctx context.Context, out io.Writer) error {
	return c.decide(ctx, out, func(d *quotav1.Decision) { d.Outcome = &quotav1.Decision_Reject{Reject: true} })
}
