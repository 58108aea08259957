// Package tickets is support tickets: conversations of the people of a cloud or an
// organization with the platform's operators, with files. It is part of the unit
// resourcemanager, which owns what tickets are filed under.
//
// Rules by number, all ours: ST-1 (who sees and does what: by permissions on what a
// ticket was filed under alone) and ST-2 (bounds of tickets) here, ST-3 (a closed ticket
// takes nothing more) in comments.go, ST-4 (attachments are data) in attachments.go,
// ST-5 (the filer is told what the platform did) in tell.go, ST-6 (tickets go with what
// they were filed under) in sweep.go.
package tickets

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/log"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/text"
	"github.com/bindery-iam/bindery/pkg/thread"
	"github.com/bindery-iam/bindery/pkg/writes"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	supportv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/support/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Bounds (ST-2, ST-4).
const (
	MaxOpen        = 100      // open tickets of one resource
	MaxAttachment  = 10 << 20 // bytes
	MaxAttachments = 100 << 20
	MaxFiles       = 100 // of one ticket
)

// Permissions that the methods are guarded by.
const (
	permissionList   = "support.tickets.list"
	permissionCreate = "support.tickets.create"
	permissionUpdate = "support.tickets.update"
)

// Types of what tickets are filed under, and of tickets as resources of operations.
const (
	typeCloud        = "resource-manager.cloud"
	typeOrganization = "organization-manager.organization"
	typeTicket       = "support.ticket"
)

// Deps are what tickets need of their unit. All fields are required.
type Deps struct {
	Unit      string
	Writes    writes.Writer
	Pages     *page.Sealer
	Jobs      *jobs.Queue
	Outbox    *notice.Outbox
	Tree      accessv1.ResourceServiceClient
	Directory identityv1.DirectoryServiceClient
	Now       func() time.Time // to a microsecond, as it is stored
	Log       *zap.Logger
}

// Service is bindery.support.v1.TicketService. Permissions: see the method options.
type Service struct {
	supportv1.UnsafeTicketServiceServer // a missing method does not compile
	Deps
	store    *store
	comments *thread.Store
}

// New returns the service, whose jobs become jobs of its unit.
func New(deps Deps) *Service {
	s := &Service{Deps: deps, store: &store{deps.Writes.DB}, comments: thread.NewStore(deps.Writes.DB, deps.Unit)}
	jobs.Register(deps.Jobs, jobTell, s.tell)
	return s
}

// Register registers the service at the public port.
func (s *Service) Register(r grpc.ServiceRegistrar) { supportv1.RegisterTicketServiceServer(r, s) }

// RegisterOperator registers the operators' side at their socket.
func (s *Service) RegisterOperator(r grpc.ServiceRegistrar) {
	supportv1.RegisterOperatorServiceServer(r, &desk{Service: s})
}

// ResourceOf leads from a ticket to what it was filed under (ST-1).
func (s *Service) ResourceOf(ctx context.Context, ticketID string) (authz.Resource, error) {
	t, err := s.store.ticket(ctx, s.Writes.DB, ticketID, "")
	return t.On, err
}

// proto shows a ticket; lists leave its attachments out.
func (t Ticket) proto(size thread.Size, files []Attachment) *supportv1.Ticket {
	m := &supportv1.Ticket{
		Id: t.ID, Resource: &accessv1.Resource{Type: t.On.Type, Id: t.On.ID}, Title: t.Title,
		State: supportv1.Ticket_State(supportv1.Ticket_State_value[t.State]), CreatedBy: subject(t.By), CreatedAt: timestamppb.New(t.At),
		ClosedBy: t.ClosedBy, CommentCount: size.Messages, UnreadCount: size.Unread,
	}
	if !t.ClosedAt.IsZero() {
		m.ClosedAt = timestamppb.New(t.ClosedAt)
	}
	for _, f := range files {
		m.AttachmentBytes += f.Size
		m.Attachments = append(m.Attachments, f.proto())
	}
	return m
}

// subject shows who did something; nil for the platform.
func subject(a thread.Author) *accessv1.Subject {
	if a.ID == "" {
		return nil
	}
	return &accessv1.Subject{Type: a.Type, Id: a.ID}
}

// caller is who calls.
func caller(ctx context.Context) thread.Author {
	p := authn.FromContext(ctx)
	return thread.Author{Type: p.Type, ID: p.ID}
}

// filedUnder checks what tickets are filed under.
func filedUnder(r *accessv1.Resource) (authz.Resource, error) {
	if r.GetType() != typeCloud && r.GetType() != typeOrganization {
		return authz.Resource{}, apierr.InvalidField("resource.type", "must be %s or %s", typeCloud, typeOrganization)
	}
	return authz.Resource{Type: r.GetType(), ID: r.GetId()}, nil
}

// checkLine refuses a text that is no line: empty, of white space alone, or with a line
// end.
func checkLine(field, line string) error {
	switch {
	case text.Problem(line) != "":
		return apierr.InvalidField(field, "%s", text.Problem(line))
	case strings.TrimSpace(line) == "":
		return apierr.InvalidField(field, "must say something: it is empty, or white space alone")
	case strings.ContainsAny(line, "\n\r"):
		return apierr.InvalidField(field, "must be one line")
	}
	return nil
}

// CreateTicket files a ticket; its text is the first comment. ST-2: at most 100 tickets of
// a resource are open. Fails: TOO_MANY_TICKETS, RESOURCE_NOT_FOUND.
func (s *Service) CreateTicket(ctx context.Context, req *supportv1.CreateTicketRequest) (*operationpb.Operation, error) {
	on, err := filedUnder(req.GetResource())
	if err != nil {
		return nil, err
	}
	if err := checkLine("title", req.GetTitle()); err != nil {
		return nil, err
	}
	if err := thread.Check("text", req.GetText()); err != nil {
		return nil, err
	}
	path, err := s.path(ctx, on)
	if err != nil {
		return nil, err
	}
	t := Ticket{ID: id.New(id.Ticket), On: on, Title: req.GetTitle(), State: open, By: caller(ctx), At: s.Now()}
	return s.Writes.Make(ctx, func(ctx context.Context, tx *sql.Tx) (w writes.Made, err error) {
		n, err := s.store.countOpen(ctx, tx, on) // calls at once may make it a few more
		if err == nil && n >= MaxOpen {
			err = errTooMany
		}
		if err == nil {
			err = s.store.insert(ctx, tx, t)
		}
		if err == nil {
			err = s.comments.Open(ctx, tx, t.ID)
		}
		if err != nil {
			return w, err
		}
		if _, err := s.comments.Post(ctx, tx, thread.Message{Thread: t.ID, Side: customer, Author: t.By, Text: req.GetText(), At: t.At}); err != nil {
			return w, err
		}
		meta := &supportv1.CreateTicketMetadata{TicketId: t.ID}
		if w.Op, err = s.operation(ctx, tx, t, "Create ticket", meta, t.proto(thread.Size{Messages: 1}, nil)); err != nil {
			return w, err
		}
		return w, s.record(ctx, tx, "CreateTicket", permissionCreate, t, path, map[string]any{"operation_id": w.Op.ID})
	})
}

// operation makes an operation on a ticket, shown to whoever sees the ticket.
func (s *Service) operation(ctx context.Context, tx *sql.Tx, t Ticket, description string, metadata, response proto.Message) (operation.Operation, error) {
	return s.Writes.Operation(ctx, tx, operation.New{
		Resource: operation.Resource{Type: typeTicket, ID: t.ID}, ViewOn: t.On, ViewPermission: permissionList,
		Description: description, Metadata: metadata, Response: response,
	})
}

// GetTicket reads a ticket with its attachments. Fails: TICKET_NOT_FOUND.
func (s *Service) GetTicket(ctx context.Context, req *supportv1.GetTicketRequest) (*supportv1.Ticket, error) {
	return s.get(ctx, req.GetTicketId(), customer)
}

func (s *Service) get(ctx context.Context, ticketID, side string) (*supportv1.Ticket, error) {
	t, err := s.store.ticket(ctx, s.Writes.DB, ticketID, "")
	if err != nil {
		return nil, err
	}
	files, err := s.store.attachments(ctx, s.Writes.DB, t.ID)
	if err != nil {
		return nil, err
	}
	sizes, err := s.comments.Sizes(ctx, s.Writes.DB, side, t.ID)
	if err != nil {
		return nil, err
	}
	return t.proto(sizes[t.ID], files), nil
}

// ListTickets lists the tickets of a resource itself, newest first.
func (s *Service) ListTickets(ctx context.Context, req *supportv1.ListTicketsRequest) (*supportv1.ListTicketsResponse, error) {
	on, err := filedUnder(req.GetResource())
	if err != nil {
		return nil, err
	}
	all, next, err := s.list(ctx, req, on, customer)
	if err != nil {
		return nil, err
	}
	return &supportv1.ListTicketsResponse{Tickets: all, NextPageToken: next}, nil
}

// listRequest is what the lists of tickets have in common.
type listRequest interface {
	GetPageSize() int64
	GetPageToken() string
	GetFilter() string
}

// list reads one page of tickets, of all resources for the zero one.
func (s *Service) list(ctx context.Context, req listRequest, on authz.Resource, side string) ([]*supportv1.Ticket, string, error) {
	f, err := filter.Parse(req.GetFilter(), "state")
	if err == nil && f.Field != "" && supportv1.Ticket_State_value[f.Value] == 0 {
		err = apierr.InvalidField("filter", "%q is not the state of a ticket", f.Value)
	}
	if err != nil {
		return nil, "", err
	}
	scope := []string{"tickets", side, on.Type, on.ID, f.Value}
	after, err := s.Pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(req.GetPageSize())
	found, err := s.store.tickets(ctx, s.Writes.DB, on, f.Value, after, size+1)
	if err != nil {
		return nil, "", err
	}
	ids := make([]string, min(len(found), size))
	for i := range ids {
		ids[i] = found[i].ID
	}
	sizes, err := s.comments.Sizes(ctx, s.Writes.DB, side, ids...)
	if err != nil {
		return nil, "", err
	}
	shown := make([]*supportv1.Ticket, len(ids))
	for i, ticketID := range ids {
		shown[i] = found[i].proto(sizes[ticketID], nil)
		shown[i].AttachmentBytes = found[i].Attached
	}
	fit := page.Fit(len(shown), func(i int) int { return proto.Size(shown[i]) })
	if fit == len(found) {
		return shown, "", nil
	}
	token, err := s.Pages.Seal(found[fit-1].position(), scope...)
	return shown[:fit], token, err
}

// path is where a resource stands, for the audit trail, the root first. Fails:
// RESOURCE_NOT_FOUND.
func (s *Service) path(ctx context.Context, on authz.Resource) ([]audit.Resource, error) {
	resp, err := s.Tree.GetResourcePath(server.AsUnit(ctx), &accessv1.GetResourcePathRequest{Resource: &accessv1.Resource{Type: on.Type, Id: on.ID}})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	path := make([]audit.Resource, len(resp.GetPath()))
	for i, step := range resp.GetPath() {
		path[len(path)-1-i] = audit.Resource{Type: step.GetType(), ID: step.GetId()}
	}
	return path, nil
}

// pathOf is where a ticket was filed. Fails: TICKET_NOT_FOUND, RESOURCE_NOT_FOUND.
func (s *Service) pathOf(ctx context.Context, ticketID string) ([]audit.Resource, error) {
	on, err := s.ResourceOf(ctx, ticketID)
	if err != nil {
		return nil, err
	}
	return s.path(ctx, on)
}

// eventSource is the service of the events about tickets.
const eventSource = "support"

// record writes the audit record of what happened to a ticket (AU-8). It says nothing of
// what people wrote; permission is "" for the platform.
func (s *Service) record(ctx context.Context, tx *sql.Tx, event, permission string, t Ticket, path []audit.Resource, details map[string]any) error {
	p, req := authn.FromContext(ctx), log.RequestFrom(ctx)
	details["ticket_id"] = t.ID
	rec := audit.Record{
		EventSource: eventSource, EventType: audit.EventType(eventSource, event), EventTime: s.Now(), EventStatus: audit.Done,
		Authentication: audit.By(p), Authorization: audit.Authorization{Authorized: true}, ResourceMetadata: audit.ResourceMetadata{Path: path},
		RequestMetadata: audit.RequestMetadata{RemoteAddress: req.Remote, UserAgent: req.UserAgent, RequestID: req.ID}, Details: details,
	}
	if permission != "" {
		rec.Authorization.Permissions = []audit.Permission{{
			Permission: permission, ResourceType: t.On.Type, ResourceID: t.On.ID, Authorized: true,
		}}
	}
	return audit.Write(ctx, tx, s.Unit, rec)
}
