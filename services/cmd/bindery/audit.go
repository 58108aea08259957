package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/services/identity/operator"

	auditv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/audit/v1"
)

type auditExportCommand struct {
	Resource string    `placeholder:"TYPE:ID" help:"Only what is on this resource or below it, such as resource-manager.cloud:ID."`
	Subject  string    `placeholder:"ID" help:"Only what this subject did."`
	Event    []string  `placeholder:"TYPE" help:"Only events of this type, such as resourcemanager.CreateFolder; may be repeated."`
	Since    time.Time `placeholder:"TIME" help:"Only from this time on, such as 2026-11-22T10:00:00Z."`
	Until    time.Time `placeholder:"TIME" help:"Only before this time."`
	operatorFlags
}

// Run prints one JSON object on a line for each event, newest first. What was
// printed before an error is not all there is.
func (c auditExportCommand) Run(ctx context.Context, out io.Writer) error {
	req := &auditv1.ExportAllEventsRequest{Filter: &auditv1.EventFilter{SubjectId: c.Subject, EventTypes: c.Event}}
	if c.Resource != "" {
		typ, id, ok := strings.Cut(c.Resource, ":")
		if !ok {
			return fmt.Errorf("--resource %s: the form is TYPE:ID", c.Resource)
		}
		req.Resource = &auditv1.Resource{Type: typ, Id: id}
	}
	if !c.Since.IsZero() {
		req.Filter.From = timestamppb.New(c.Since)
	}
	if !c.Until.IsZero() {
		req.Filter.To = timestamppb.New(c.Until)
	}
	conn, err := operator.Dial(c.DataDir)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stream, err := auditv1.NewOperatorServiceClient(conn).ExportAllEvents(ctx, req)
	if err != nil {
		return operator.Explain(err)
	}
	for {
		line, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return operator.Explain(err)
		}
		if _, err := fmt.Fprintf(out, "%s\n", line.GetData()); err != nil {
			return err
		}
	}
}
