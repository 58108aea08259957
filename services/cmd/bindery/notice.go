package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/services/identity/operator"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// notices runs fn with a client of the operator socket of the unit notifications.
func (f operatorFlags) notices(ctx context.Context, fn func(context.Context, notificationv1.OperatorServiceClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	conn, err := operator.Dial(f.DataDir)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return fn(ctx, notificationv1.NewOperatorServiceClient(conn))
}

type noticeCreateCommand struct {
	Kind         string    `required:"" enum:"maintenance,incident,service" placeholder:"KIND" help:"maintenance, incident or service."`
	Organization string    `xor:"on" placeholder:"ID" help:"The organization that it is about."`
	Cloud        string    `xor:"on" placeholder:"ID" help:"The cloud that it is about."`
	Folder       string    `xor:"on" placeholder:"ID" help:"The folder that it is about."`
	Title        string    `required:"" placeholder:"T" help:"One line, the subject of mails."`
	Text         string    `required:"" placeholder:"T" help:"What people read. Time and place are added."`
	At           time.Time `placeholder:"TIME" help:"When planned work begins, or an incident was found: 2006-01-02T15:04:05Z."`
	Late         bool      `help:"Announce planned work later than three calendar days ahead."`
	Also         []string  `placeholder:"EMAIL" help:"Address that is told as well: of a data protection officer, say. Once for each."`
	operatorFlags
}

// createdNotice is what notice create prints; the names are relied on by scripts.
type createdNotice struct {
	ID       string   `json:"id"`
	Warnings []string `json:"warnings,omitempty"`
}

// Run sends the notice to owners and subscribers, and prints its id.
func (c noticeCreateCommand) Run(ctx context.Context, out io.Writer) error {
	req := &notificationv1.CreateNoticeRequest{
		Kind: map[string]notificationv1.CreateNoticeRequest_Kind{
			"maintenance": notificationv1.CreateNoticeRequest_MAINTENANCE,
			"incident":    notificationv1.CreateNoticeRequest_INCIDENT,
			"service":     notificationv1.CreateNoticeRequest_SERVICE,
		}[c.Kind],
		Title: c.Title, Text: c.Text, Late: c.Late, Also: c.Also,
	}
	switch {
	case c.Organization != "":
		req.Resource = &accessv1.Resource{Type: "organization-manager.organization", Id: c.Organization}
	case c.Cloud != "":
		req.Resource = &accessv1.Resource{Type: "resource-manager.cloud", Id: c.Cloud}
	case c.Folder != "":
		req.Resource = &accessv1.Resource{Type: "resource-manager.folder", Id: c.Folder}
	default:
		return errors.New("say what it is about: --organization, --cloud or --folder")
	}
	if !c.At.IsZero() {
		req.At = timestamppb.New(c.At)
	}
	return c.notices(ctx, func(ctx context.Context, client notificationv1.OperatorServiceClient) error {
		resp, err := client.CreateNotice(ctx, req)
		if err != nil {
			return operator.Explain(err)
		}
		return json.NewEncoder(out).Encode(createdNotice{resp.GetNoticeId(), resp.GetWarnings()})
	})
}

type noticeDeliveriesCommand struct {
	Notice string `placeholder:"ID" help:"Of this notice alone."`
	State  string `default:"" enum:",PENDING,DELIVERED,DEAD,DROPPED" placeholder:"STATE" help:"In this state alone: PENDING, DELIVERED, DEAD or DROPPED."`
	operatorFlags
}

// Run prints each delivery as JSON on a line, newest first.
func (c noticeDeliveriesCommand) Run(ctx context.Context, out io.Writer) error {
	return c.notices(ctx, func(ctx context.Context, client notificationv1.OperatorServiceClient) error {
		req := &notificationv1.ListDeliveriesRequest{
			NoticeId: c.Notice, State: notificationv1.Delivery_State(notificationv1.Delivery_State_value[c.State]), PageSize: 1000,
		}
		for {
			resp, err := client.ListDeliveries(ctx, req)
			if err != nil {
				return operator.Explain(err)
			}
			for _, d := range resp.GetDeliveries() {
				line, err := protojson.Marshal(d)
				if err != nil {
					return err
				}
				if _, err := out.Write(append(line, '\n')); err != nil {
					return err
				}
			}
			if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
				return nil
			}
		}
	})
}
