package tickets_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	supportv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/support/v1"
	"github.com/bindery-iam/bindery/services/resourcemanager/tickets"
)

func TestST4_AttachmentsAreData(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		id := w.mustFile()
		ctx := w.as(w.ann)
		page := []byte("<html><script>alert(1)</script></html>")
		big := bytes.Repeat([]byte("0123456789abcdef\n"), 50_000) // three parts and a bit
		for _, c := range []struct {
			name, typ string
			data      []byte
			part      int
		}{
			{"picture.txt", "image/png", []byte("\x89PNG\r\n\x1a\n0123456789"), 3}, // not what its name says
			{"page.png", "text/html; charset=utf-8", page, 1000},
			{"данные.bin", "application/octet-stream", []byte{0, 1, 2, 0xff}, 1},
			{"log", "text/plain; charset=utf-8", big, 70_001},
		} {
			a, err := w.attach(ctx, id, c.name, int64(len(c.data)), c.data, c.part)
			w.must(err)
			if a.GetContentType() != c.typ || a.GetName() != c.name || a.GetSize() != int64(len(c.data)) || a.GetCreatedBy().GetId() != w.ann.id {
				t.Errorf("%s is %v", c.name, a)
			}
			back, err := w.download(w.ann, id, a.GetId())
			if w.must(err); !bytes.Equal(back, c.data) {
				t.Errorf("%s comes back as %d bytes, other ones", c.name, len(back))
			}
			again, err := w.attach(ctx, id, c.name, int64(len(c.data)), c.data, 1000)
			if w.must(err); again.GetId() != a.GetId() {
				t.Errorf("%s is attached twice", c.name)
			}
		}
		got, err := w.tickets.GetTicket(ctx, &supportv1.GetTicketRequest{TicketId: id})
		if w.must(err); len(got.GetAttachments()) != 4 {
			t.Errorf("it has %v", got.GetAttachments())
		}
		for what, c := range map[string]struct {
			name string
			size int64
			data string
		}{
			"no name": {"", 1, "a"}, "a path": {"../etc/passwd", 1, "a"}, "another path": {`a\b`, 1, "a"}, "a folder": {"..", 1, "a"}, "a line end": {"a\nb", 1, "a"},
			"no size": {"a", 0, "a"}, "too large": {"a", tickets.MaxAttachment + 1, "a"}, "negative": {"a", -1, "a"}, "more than was said": {"a", 1, "ab"}, "less than was said": {"a", 3, "ab"},
		} {
			_, err := w.attach(ctx, id, c.name, c.size, []byte(c.data), 1)
			w.refused(what, err, apierr.ReasonInvalid)
		}
		w.eventually("what was refused leaves nothing", func() bool {
			return w.rows(`SELECT COUNT(*) FROM resourcemanager_attachments`) == 4 &&
				w.rows(`SELECT COUNT(*) FROM resourcemanager_attachment_parts`) == 3+4 && w.rows(`SELECT files FROM resourcemanager_tickets`) == 4
		})
		stays, err := w.download(w.ann, w.mustFile(), got.GetAttachments()[0].GetId())
		w.refused(fmt.Sprint("by another ticket: ", len(stays)), err, tickets.ReasonAttachmentNotFound)
	})
}

// Room is taken before anything is sent, and given back by whatever ends early.
func TestST4_RoomForAttachments(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		id := w.mustFile()
		taken := func() int { return w.rows(`SELECT files FROM resourcemanager_tickets`) }
		begin := func() (cancel func()) {
			before := taken()
			ctx, cancel := context.WithCancel(w.as(w.ann))
			stream, err := w.tickets.UploadTicketAttachment(ctx)
			w.must(err)
			w.must(stream.Send(&supportv1.UploadTicketAttachmentRequest{TicketId: id, Name: "big", Size: tickets.MaxAttachment, Data: []byte("a")}))
			w.eventually("room is taken", func() bool { return taken() > before })
			return cancel
		}
		var cancels []func()
		for range tickets.MaxAttachments / tickets.MaxAttachment {
			cancels = append(cancels, begin())
		}
		_, err := w.attach(w.as(w.ann), id, "one", 1, []byte("a"), 1)
		w.refused("one byte more", err, tickets.ReasonAttachmentsFull)
		cancels[0]()
		w.eventually("a sender that went away leaves room", func() bool { return taken() == len(cancels)-1 })
		_, err = w.attach(w.as(w.ann), id, "one", 1, []byte("a"), 1)
		w.refused("into that room", err, "")
		for _, cancel := range cancels {
			cancel()
		}
		w.eventually("all went away", func() bool { return taken() == 1 })

		// A process that ended in the middle of an upload leaves rows; a sweep removes them.
		_, err = w.db.Pool().ExecContext(t.Context(), `UPDATE resourcemanager_attachments SET ready = FALSE`)
		w.must(err)
		s := w.service()
		w.must(s.Sweep(t.Context()))
		if n := w.rows(`SELECT COUNT(*) FROM resourcemanager_attachments`); n != 1 {
			t.Error("an upload that may be under way was swept")
		}
		w.ahead.Store(int64(2 * time.Hour))
		w.must(s.Sweep(t.Context()))
		if n := w.rows(`SELECT COUNT(*) FROM resourcemanager_attachments`) + w.rows(`SELECT COUNT(*) FROM resourcemanager_attachment_parts`) +
			w.rows(`SELECT files FROM resourcemanager_tickets`) + w.rows(`SELECT attached FROM resourcemanager_tickets`); n != 0 {
			t.Errorf("a lost upload leaves %d", n)
		}
	})
}
