package tickets

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gabriel-vasile/mimetype"
	"go.uber.org/zap"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	supportv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/support/v1"
)

const (
	partSize     = 256 << 10       // bytes of a stored part, but of the last one
	sniffed      = 3072            // first bytes that tell the type
	uploadFor    = 5 * time.Minute // how long an upload may take
	abandonAfter = time.Hour       // when one that did not end is taken for lost: its process is gone
	maxName      = 255             // characters
)

func (a Attachment) proto() *supportv1.TicketAttachment {
	return &supportv1.TicketAttachment{
		Id: a.ID, Name: a.Name, ContentType: a.ContentType, Size: a.Size, Sha256: a.SHA256, CreatedBy: subject(a.By), CreatedAt: timestamppb.New(a.At),
	}
}

// checkName refuses what is no name of a file: whoever saves it must not be led out of
// the folder that they save into.
func checkName(name string) error {
	if err := checkLine("name", name); err != nil {
		return err
	}
	switch {
	case utf8.RuneCountInString(name) > maxName:
		return apierr.InvalidField("name", "has over %d characters", maxName)
	case strings.ContainsAny(name, `/\`) || name == "." || name == "..":
		return apierr.InvalidField("name", "must be the name of a file, without a path")
	}
	return nil
}

// UploadTicketAttachment attaches a file to an open ticket. ST-4 [ours]: an attachment is
// data of at most 10 MiB, of a ticket 100 MiB together; its type is what its first bytes
// look like; nothing runs it, shows it or looks into it. Room is taken first and the
// content stored part by part, so that an upload holds neither memory nor a lock for as
// long as its sender takes. Fails: TICKET_CLOSED, ATTACHMENTS_FULL.
func (s *Service) UploadTicketAttachment(stream grpc.ClientStreamingServer[supportv1.UploadTicketAttachmentRequest, supportv1.TicketAttachment]) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return apierr.InvalidField("ticket_id", "must be set in the first message")
	}
	if err != nil {
		return err
	}
	if err := checkName(first.GetName()); err != nil {
		return err
	}
	if first.GetSize() < 1 {
		return apierr.InvalidField("size", "must be 1 byte to %d MiB", MaxAttachment>>20)
	}
	ctx, cancel := context.WithTimeout(stream.Context(), uploadFor)
	defer cancel()
	path, err := s.pathOf(ctx, first.GetTicketId())
	if err != nil {
		return err
	}
	a := Attachment{
		ID: id.New(id.Attachment), Ticket: first.GetTicketId(), Name: first.GetName(), Size: first.GetSize(), By: caller(ctx), At: s.Now(),
	}
	if err := s.reserve(ctx, a); err != nil {
		return err
	}
	made, err := s.receive(ctx, a, path, &content{messages: messagesOf(ctx, stream), first: first})
	if err != nil {
		s.abandon(context.WithoutCancel(ctx), a)
		return err
	}
	return stream.SendAndClose(made.proto())
}

// reserve takes room for an attachment.
func (s *Service) reserve(ctx context.Context, a Attachment) error {
	return sqldb.InTx(ctx, s.Writes.DB, func(ctx context.Context, tx *sql.Tx) error {
		t, err := s.openTicket(ctx, tx, a.Ticket)
		if err != nil {
			return err
		}
		if t.Attached, t.Files = t.Attached+a.Size, t.Files+1; t.Attached > MaxAttachments || t.Files > MaxFiles {
			return errAttachmentsFull
		}
		if err := s.store.update(ctx, tx, t); err != nil {
			return err
		}
		return s.store.insertAttachment(ctx, tx, a)
	})
}

// receive stores the content of an attachment and makes it one that people see, or finds
// the same one there.
func (s *Service) receive(ctx context.Context, a Attachment, path []audit.Resource, from *content) (Attachment, error) {
	sum, head, part, total, number := sha256.New(), []byte(nil), make([]byte, 0, partSize), int64(0), int64(0)
	for {
		data, err := from.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return a, err
		}
		if total += int64(len(data)); total > a.Size {
			return a, errSizes(a.Size, "more bytes")
		}
		_, _ = sum.Write(data) // it never fails
		head = append(head, data[:min(len(data), sniffed-len(head))]...)
		for len(data) > 0 {
			n := min(len(data), partSize-len(part))
			part, data = append(part, data[:n]...), data[n:]
			if len(part) < partSize {
				continue
			}
			if err := s.store.addPart(ctx, a.ID, number, part); err != nil {
				return a, err
			}
			part, number = part[:0], number+1
		}
	}
	if total < a.Size {
		return a, errSizes(a.Size, fmt.Sprintf("%d bytes", total))
	}
	if len(part) > 0 {
		if err := s.store.addPart(ctx, a.ID, number, part); err != nil {
			return a, err
		}
	}
	a.ContentType, a.SHA256, a.At = mimetype.Detect(head).String(), hex.EncodeToString(sum.Sum(nil)), s.Now()
	return s.attach(ctx, a, path)
}

// errSizes refuses a content that is not as large as was said: either may be what is wrong.
func errSizes(said int64, sent string) error {
	text := fmt.Sprintf("size is %d, and %s were sent", said, sent)
	return apierr.Invalid(apierr.Field{Name: "size", Message: text}, apierr.Field{Name: "data", Message: text})
}

// attach makes an attachment whose content is there one that people see. The same
// content of the same subject under the same name is not attached again.
func (s *Service) attach(ctx context.Context, a Attachment, path []audit.Resource) (made Attachment, err error) {
	err = sqldb.InTx(ctx, s.Writes.DB, func(ctx context.Context, tx *sql.Tx) error {
		t, err := s.openTicket(ctx, tx, a.Ticket)
		if err != nil {
			return err
		}
		all, err := s.store.attachments(ctx, tx, t.ID)
		if err != nil {
			return err
		}
		for _, there := range all {
			if there.SHA256 == a.SHA256 && there.Name == a.Name && there.By == a.By && there.Size == a.Size {
				made = there
				return s.release(ctx, tx, t, a)
			}
		}
		made = a
		if ok, err := s.store.complete(ctx, tx, a); err != nil || !ok {
			return errors.Join(err, map[bool]error{false: errAttachmentNotFound}[ok])
		}
		return s.record(ctx, tx, "AttachFile", permissionUpdate, t, path, map[string]any{
			"attachment_id": a.ID, "size": a.Size, "content_type": a.ContentType, "sha256": a.SHA256,
		})
	})
	return made, err
}

// release gives back the room of an attachment that does not come to be.
func (s *Service) release(ctx context.Context, tx *sql.Tx, t Ticket, a Attachment) error {
	removed, err := s.store.removeAttachment(ctx, tx, a.ID)
	if err != nil || !removed {
		return err
	}
	t.Attached, t.Files = t.Attached-a.Size, t.Files-1
	return s.store.update(ctx, tx, t)
}

// abandonTimeout bounds the cleaning up after an upload that failed; a sweep does it else.
const abandonTimeout = 10 * time.Second

// abandon removes what there is of an upload that failed.
func (s *Service) abandon(ctx context.Context, a Attachment) {
	ctx, cancel := context.WithTimeout(ctx, abandonTimeout)
	defer cancel()
	err := sqldb.InTx(ctx, s.Writes.DB, func(ctx context.Context, tx *sql.Tx) error {
		t, err := s.store.lock(ctx, tx, a.Ticket)
		if err != nil {
			return err
		}
		return s.release(ctx, tx, t, a)
	})
	if err != nil {
		s.Log.Warn("an upload that failed was not cleaned up; it will be", zap.String("attachment_id", a.ID), zap.Error(err))
	}
}

// content is what an upload sends, message by message.
type content struct {
	messages func() (*supportv1.UploadTicketAttachmentRequest, error)
	first    *supportv1.UploadTicketAttachmentRequest // nil once it was read
}

// next returns the next bytes, io.EOF at the end.
func (c *content) next() ([]byte, error) {
	if m := c.first; m != nil {
		c.first = nil
		return m.GetData(), nil
	}
	m, err := c.messages()
	if err == nil && (m.GetTicketId() != "" || m.GetName() != "" || m.GetSize() != 0) {
		err = apierr.InvalidField("ticket_id", "is for the first message alone, and so are name and size")
	}
	return m.GetData(), err
}

// received is one message of an upload, or why there is none.
type received struct {
	message *supportv1.UploadTicketAttachmentRequest
	err     error
}

// messagesOf reads the messages of an upload until ctx ends, whatever its sender does:
// the stream by itself waits for as long as that is connected.
func messagesOf(ctx context.Context, stream grpc.ClientStreamingServer[supportv1.UploadTicketAttachmentRequest, supportv1.TicketAttachment]) func() (*supportv1.UploadTicketAttachmentRequest, error) {
	all := make(chan received)
	go func() { // ends with the stream, when the method returns
		for {
			m, err := stream.Recv()
			select {
			case all <- received{m, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return func() (*supportv1.UploadTicketAttachmentRequest, error) {
		select {
		case r := <-all:
			return r.message, r.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// DownloadTicketAttachment sends the parts of an attachment. Fails: TICKET_NOT_FOUND,
// ATTACHMENT_NOT_FOUND.
func (s *Service) DownloadTicketAttachment(req *supportv1.DownloadTicketAttachmentRequest, to grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	return s.download(req.GetTicketId(), req.GetAttachmentId(), to)
}

func (s *Service) download(ticketID, attachmentID string, to grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	ctx := to.Context()
	if _, err := s.store.ticket(ctx, s.Writes.DB, ticketID, ""); err != nil {
		return err
	}
	a, err := s.store.attachment(ctx, s.Writes.DB, ticketID, attachmentID)
	if err != nil {
		return err
	}
	for sent, number := int64(0), int64(0); sent < a.Size; number++ {
		data, err := s.store.part(ctx, a.ID, number)
		if err != nil {
			return err
		}
		if err := to.Send(&httpbody.HttpBody{ContentType: a.ContentType, Data: data}); err != nil {
			return err
		}
		sent += int64(len(data))
	}
	return nil
}
