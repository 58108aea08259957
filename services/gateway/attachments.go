package gateway

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/apierr"
	supportv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/support/v1"
)

// Paths of the files of support tickets. The translation of the library would wrap them in
// JSON or put line ends between their parts, so they have handlers of their own.
const (
	uploadPath   = "/support/v1/tickets/{ticket_id}/attachments"
	downloadPath = "/support/v1/tickets/{ticket_id}/attachments/{attachment_id}"
)

var fileURL = regexp.MustCompile(`^/support/v1/tickets/[^/]+/attachments(/[^/]+)?$`)

const (
	maxFile     = 10 << 20 // bytes, as TicketService takes
	filePart    = 256 << 10
	fileTimeout = 5 * time.Minute // for one file, either way
)

// files are the REST doors of UploadTicketAttachment and DownloadTicketAttachment.
type files struct {
	mux    *runtime.ServeMux
	client supportv1.TicketServiceClient
}

// registerFiles adds them to a mux, in place of what the library made of their paths.
func registerFiles(_ context.Context, mux *runtime.ServeMux, conn *grpc.ClientConn) error {
	f := &files{mux, supportv1.NewTicketServiceClient(conn)}
	return errors.Join(mux.HandlePath(http.MethodPost, uploadPath, f.upload), mux.HandlePath(http.MethodGet, downloadPath, f.download))
}

// isFile says whether a request carries a file or answers with one.
func isFile(r *http.Request) bool { return fileURL.MatchString(r.URL.Path) }

// upload sends the body of a request, as it comes, as a file.
func (f *files) upload(w http.ResponseWriter, r *http.Request, path map[string]string) {
	ctx, m, err := f.begin(r, supportv1.TicketService_UploadTicketAttachment_FullMethodName, uploadPath, "name")
	if err == nil && (r.ContentLength < 1 || r.ContentLength > maxFile) {
		err = apierr.InvalidField("size", "the request must say by Content-Length that its body has 1 byte to %d MiB", maxFile>>20)
	}
	var made *supportv1.TicketAttachment
	var answer runtime.ServerMetadata
	if err == nil {
		made, answer, err = f.send(ctx, r, path["ticket_id"])
	}
	if ctx == nil {
		ctx = r.Context()
	}
	ctx = runtime.NewServerMetadataContext(ctx, answer)
	if err != nil {
		runtime.HTTPError(ctx, f.mux, m, w, r, err)
		return
	}
	runtime.ForwardResponseMessage(ctx, f.mux, m, w, r, made, f.mux.GetForwardResponseOptions()...)
}

// send streams the body of a request to the unit.
func (f *files) send(ctx context.Context, r *http.Request, ticketID string) (*supportv1.TicketAttachment, runtime.ServerMetadata, error) {
	var answer runtime.ServerMetadata
	stream, err := f.client.UploadTicketAttachment(ctx)
	if err != nil {
		return nil, answer, err
	}
	msg := &supportv1.UploadTicketAttachmentRequest{TicketId: ticketID, Name: r.URL.Query().Get("name"), Size: r.ContentLength}
	part := make([]byte, filePart)
	for {
		n, readErr := io.ReadFull(r.Body, part)
		msg.Data = part[:n]
		if n > 0 || msg.GetName() != "" || msg.GetTicketId() != "" {
			if err := stream.Send(msg); err != nil {
				break // the answer tells why
			}
		}
		msg = new(supportv1.UploadTicketAttachmentRequest)
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF) {
			break
		}
		if readErr != nil {
			return nil, answer, apierr.InvalidField("body", "ended before its Content-Length")
		}
	}
	made, err := stream.CloseAndRecv()
	answer.HeaderMD, _ = stream.Header()
	answer.TrailerMD = stream.Trailer()
	return made, answer, err
}

// begin reads the headers of a request, and refuses query parameters that are not known.
func (f *files) begin(r *http.Request, method, path string, known ...string) (context.Context, runtime.Marshaler, error) {
	_, m := runtime.MarshalerForRequest(f.mux, r)
	ctx, err := runtime.AnnotateContext(r.Context(), f.mux, r, method, runtime.WithHTTPPathPattern(path))
	if err != nil {
		return nil, m, err
	}
	for key, values := range r.URL.Query() {
		if len(known) == 0 || key != known[0] || len(values) > 1 {
			return ctx, m, apierr.InvalidField(key, "is not a parameter of this call, or is there twice")
		}
	}
	return ctx, m, nil
}

// download answers with the content of a file, to be saved under its name: what a
// stranger attached must run in nobody's browser (ST-4).
func (f *files) download(w http.ResponseWriter, r *http.Request, path map[string]string) {
	ctx, m, err := f.begin(r, supportv1.TicketService_DownloadTicketAttachment_FullMethodName, downloadPath)
	if ctx == nil {
		ctx = r.Context()
	}
	if err == nil {
		err = f.copy(ctx, w, &supportv1.DownloadTicketAttachmentRequest{TicketId: path["ticket_id"], AttachmentId: path["attachment_id"]})
	}
	if err != nil {
		runtime.HTTPError(ctx, f.mux, m, w, r, err)
	}
}

var errNoFile = apierr.NotFound("ATTACHMENT_NOT_FOUND", "the ticket has no such attachment")

// describe reads what is known of a file.
func (f *files) describe(ctx context.Context, ticketID, attachmentID string) (*supportv1.TicketAttachment, error) {
	t, err := f.client.GetTicket(ctx, &supportv1.GetTicketRequest{TicketId: ticketID})
	if err != nil {
		return nil, err
	}
	for _, file := range t.GetAttachments() {
		if file.GetId() == attachmentID {
			return file, nil
		}
	}
	return nil, errNoFile
}

// copy sends a file as the answer. After its first byte an error can only be shown by
// ending the connection before the length that was promised.
func (f *files) copy(ctx context.Context, w http.ResponseWriter, req *supportv1.DownloadTicketAttachmentRequest) error {
	stream, err := f.client.DownloadTicketAttachment(ctx, req)
	if err != nil {
		return err
	}
	for begun := false; ; begun = true {
		part, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && begun:
			panic(http.ErrAbortHandler) //nolint:forbidigo // how a handler of net/http ends a connection
		case err != nil:
			return err
		}
		if !begun {
			file, err := f.describe(ctx, req.GetTicketId(), req.GetAttachmentId())
			if err != nil {
				return err
			}
			h := w.Header()
			h.Set("Content-Type", file.GetContentType())
			h.Set("Content-Length", strconv.FormatInt(file.GetSize(), 10))
			h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": file.GetName()}))
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
			h.Set("Cache-Control", "private, no-store")
		}
		if _, err := w.Write(part.GetData()); err != nil {
			return nil //nolint:nilerr // the caller is gone, nobody to tell
		}
	}
}
