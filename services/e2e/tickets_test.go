package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	supportv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/support/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

const ticketsOf = "bindery.support.v1.TicketService/"

// A ticket with three comments and an attachment as large as one may be goes round by
// each door, byte for byte, and by the operator's socket; a member of another cloud sees
// nothing of it.
func TestSupportTickets(t *testing.T) {
	eachForm(t, func(t *testing.T, s *server) {
		for _, rest := range []bool{false, true} {
			t.Run(map[bool]string{false: "grpc", true: "rest"}[rest], func(t *testing.T) {
				newWalker(t, s, rest).ticket(map[bool]string{false: "g", true: "r"}[rest])
			})
		}
	})
}

func (m *walker) ticket(suffix string) {
	m.t.Helper()
	boss, dev, other, theirs := m.s.createUser("tboss-"+suffix), m.s.createUser("tdev-"+suffix), m.s.createUser("tother-"+suffix), m.s.createUser("ttheirs-"+suffix)
	clouds := map[string]*rmv1.Cloud{}
	for owner, member := range map[user]user{boss: dev, other: theirs} {
		token, cloud := m.s.createToken(owner.Login), new(rmv1.Cloud)
		m.made(token, "yandex.cloud.resourcemanager.v1.CloudService/Create", "/resource-manager/v1/clouds", &rmv1.CreateCloudRequest{Name: "prod"}, cloud)
		m.made(token, "bindery.access.v1.AccessBindingService/UpdateAccessBindings", "/access/v1/resource-manager.cloud/"+cloud.GetId()+"/accessBindings:update",
			&accessv1.UpdateAccessBindingsRequest{
				Resource: &accessv1.Resource{Type: "resource-manager.cloud", Id: cloud.GetId()}, AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
					Action:        accesspb.AccessBindingAction_ADD,
					AccessBinding: &accessv1.AccessBinding{RoleId: "resource-manager.clouds.member", Subject: &accessv1.Subject{Type: "userAccount", Id: member.ID}},
				}},
			}, new(accesspb.AccessBindingsOperationResult))
		clouds[owner.Login] = cloud
	}
	on := &accessv1.Resource{Type: "resource-manager.cloud", Id: clouds[boss.Login].GetId()}
	token, stranger := m.s.createToken(dev.Login), m.s.createToken(theirs.Login)
	ticket := new(supportv1.Ticket)
	under := "/support/v1/resource-manager.cloud/" + on.GetId() + "/tickets"
	m.made(token, ticketsOf+"CreateTicket", under, &supportv1.CreateTicketRequest{Resource: on, Title: "It is slow", Text: "Since yesterday."}, ticket)
	at := "/support/v1/tickets/" + ticket.GetId()
	m.made(token, ticketsOf+"CreateTicketComment", at+"/comments", &supportv1.CreateTicketCommentRequest{TicketId: ticket.GetId(), Text: "See the log."}, new(supportv1.TicketComment))

	content := make([]byte, 10<<20)
	if _, err := rand.Read(content); err != nil {
		m.t.Fatal(err)
	}
	content[0] = 0 // like nothing known
	sum := sha256.Sum256(content)
	file, code := m.upload(token, ticket.GetId(), "данные & log.bin", content)
	if code != codes.OK || file.GetSize() != 10<<20 || file.GetSha256() != hex.EncodeToString(sum[:]) || file.GetContentType() != "application/octet-stream" {
		m.t.Fatalf("the attachment is %v (%s)", file, code)
	}
	if _, code := m.upload(token, ticket.GetId(), "too large", append(content, 1)); code != codes.InvalidArgument {
		m.t.Errorf("a byte too many: %s", code)
	}
	back, code := m.download(token, ticket.GetId(), file)
	if code != codes.OK || !bytes.Equal(back, content) {
		m.t.Errorf("it comes back as %d bytes (%s), the same: %v", len(back), code, bytes.Equal(back, content))
	}
	desk := m.s.deskOf("resourcemanager")
	answer := command(m.t, "ticket", "answer", "--ticket", ticket.GetId(), "--text", "We look at it.", "--data-dir", desk)
	if !bytes.Contains(answer, []byte("PLATFORM")) {
		m.t.Errorf("the answer is %s", answer)
	}
	if got := command(m.t, "ticket", "download", "--ticket", ticket.GetId(), "--attachment", file.GetId(), "--data-dir", desk); !bytes.Equal(got, content) {
		m.t.Errorf("the platform reads %d bytes, other ones", len(got))
	}
	comments := new(supportv1.ListTicketCommentsResponse)
	m.call(token, ticketsOf+"ListTicketComments", http.MethodGet, at+"/comments", &supportv1.ListTicketCommentsRequest{TicketId: ticket.GetId()}, comments)
	if all := comments.GetComments(); len(all) != 3 || all[1].GetText() != "See the log." || all[2].GetSide() != supportv1.TicketComment_PLATFORM {
		m.t.Errorf("comments %v", all)
	}

	for what, got := range map[string]codes.Code{
		"get":      m.call(stranger, ticketsOf+"GetTicket", http.MethodGet, at, &supportv1.GetTicketRequest{TicketId: ticket.GetId()}, new(supportv1.Ticket)),
		"list":     m.call(stranger, ticketsOf+"ListTickets", http.MethodGet, under, &supportv1.ListTicketsRequest{Resource: on}, new(supportv1.ListTicketsResponse)),
		"comments": m.call(stranger, ticketsOf+"ListTicketComments", http.MethodGet, at+"/comments", &supportv1.ListTicketCommentsRequest{TicketId: ticket.GetId()}, new(supportv1.ListTicketCommentsResponse)),
		"comment":  m.call(stranger, ticketsOf+"CreateTicketComment", http.MethodPost, at+"/comments", &supportv1.CreateTicketCommentRequest{TicketId: ticket.GetId(), Text: "Me too."}, new(supportv1.Ticket)),
		"close":    m.call(stranger, ticketsOf+"CloseTicket", http.MethodPost, at+":close", &supportv1.CloseTicketRequest{TicketId: ticket.GetId()}, new(supportv1.Ticket)),
		"upload":   second(m.upload(stranger, ticket.GetId(), "a", []byte("a"))),
		"download": second(m.download(stranger, ticket.GetId(), file)),
	} {
		if got != codes.PermissionDenied {
			m.t.Errorf("%s by a member of another cloud: %s", what, got)
		}
	}
	m.made(token, ticketsOf+"CloseTicket", at+":close", &supportv1.CloseTicketRequest{TicketId: ticket.GetId()}, ticket)
	if _, code := m.upload(token, ticket.GetId(), "late", []byte("a")); code != codes.FailedPrecondition {
		m.t.Errorf("a file for a closed ticket: %s", code)
	}
}

func second[A, B any](_ A, b B) B { return b }

// upload attaches a file.
func (m *walker) upload(token, ticketID, name string, content []byte) (*supportv1.TicketAttachment, codes.Code) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	if m.rest {
		file := new(supportv1.TicketAttachment)
		resp := m.exchange(ctx, token, http.MethodPost, "/support/v1/tickets/"+ticketID+"/attachments?name="+url.QueryEscape(name), content)
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			m.t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			return file, codeIn(m.t, raw)
		}
		if err := protojson.Unmarshal(raw, file); err != nil {
			m.t.Fatal(err)
		}
		return file, codes.OK
	}
	stream, err := supportv1.NewTicketServiceClient(m.conn).UploadTicketAttachment(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token))
	if err != nil {
		m.t.Fatal(err)
	}
	msg := &supportv1.UploadTicketAttachmentRequest{TicketId: ticketID, Name: name, Size: int64(len(content))}
	for first := true; first || len(content) > 0; first = false {
		n := min(len(content), 1<<20)
		msg.Data, content = content[:n], content[n:]
		if err := stream.Send(msg); err != nil {
			break // the answer tells why
		}
		msg = new(supportv1.UploadTicketAttachmentRequest)
	}
	file, err := stream.CloseAndRecv()
	return file, status.Code(err)
}

// download reads a file.
func (m *walker) download(token, ticketID string, file *supportv1.TicketAttachment) (all []byte, code codes.Code) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	if m.rest {
		resp := m.exchange(ctx, token, http.MethodGet, "/support/v1/tickets/"+ticketID+"/attachments/"+file.GetId(), nil)
		defer resp.Body.Close()
		all, err := io.ReadAll(resp.Body)
		if err != nil {
			m.t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			return nil, codeIn(m.t, all)
		}
		how, names, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition"))
		if err != nil || how != "attachment" || names["filename"] != file.GetName() || resp.Header.Get("X-Content-Type-Options") != "nosniff" ||
			resp.Header.Get("Content-Type") != file.GetContentType() {
			m.t.Errorf("the answer has the headers %v", resp.Header)
		}
		return all, codes.OK
	}
	stream, err := supportv1.NewTicketServiceClient(m.conn).DownloadTicketAttachment(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token),
		&supportv1.DownloadTicketAttachmentRequest{TicketId: ticketID, AttachmentId: file.GetId()})
	if err != nil {
		m.t.Fatal(err)
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all, codes.OK
		}
		if err != nil {
			return nil, status.Code(err)
		}
		all = append(all, part.GetData()...)
	}
}

// exchange makes an HTTP request with raw bytes.
func (m *walker) exchange(ctx context.Context, token, verb, path string, body []byte) *http.Response {
	m.t.Helper()
	req, err := http.NewRequestWithContext(ctx, verb, "http://"+m.s.http+path, bytes.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	return resp
}
