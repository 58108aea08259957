package partner

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/csv"
	"strings"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// csvType is the type of an exported report.
const csvType = "text/csv"

// csvChunk is about how many bytes a message of an export has.
const csvChunk = 64 << 10

// ExportUsageReport streams a report as CSV (PT-45). It is of one moment, however long the
// caller takes to read it. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *usage) ExportUsageReport(req *partnerv1.ExportUsageReportRequest, to grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	r, err := s.report(to.Context(), req.GetBillingAccountId(), req.GetFilter())
	if err != nil {
		return err
	}
	w := newCSV(to)
	if err := w.write(r.heading()); err != nil {
		return err
	}
	if err := sqldb.Snapshot(to.Context(), s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return s.store.EachLine(ctx, tx, r, page.Position{}, 0, func(l Line) error { return w.write(r.cells(l)) })
	}); err != nil {
		return err
	}
	return w.flush()
}

// heading are the names of the columns.
func (r Report) heading() []string {
	var all []string
	if r.Axis != partnerv1.UsageReport_AXIS_UNSPECIFIED {
		all = append(all, strings.ToLower(r.Axis.String()), "name")
	}
	if r.Axis == partnerv1.UsageReport_SUBACCOUNT {
		all = append(all, "external_id")
	}
	all = append(all, "from_date", "currency")
	if r.Axis == partnerv1.UsageReport_SKU {
		all = append(all, "quantity")
	}
	all = append(all, "cost")
	if r.discounts {
		all = append(all, "discount", "client_payable", "reward", "adjustment", "partner_payable")
	}
	return all
}

// cells are the values of a line.
func (r Report) cells(l Line) []string {
	var all []string
	if r.Axis != partnerv1.UsageReport_AXIS_UNSPECIFIED {
		all = append(all, plain(l.ID), plain(l.Name))
	}
	if r.Axis == partnerv1.UsageReport_SUBACCOUNT {
		all = append(all, plain(l.ExternalID))
	}
	all = append(all, max(l.From, r.From).String(), r.Account.Currency)
	if r.Axis == partnerv1.UsageReport_SKU {
		all = append(all, l.Quantity.String())
	}
	all = append(all, l.Cost.String())
	if r.discounts {
		all = append(all, l.Discount.String(), l.client().String(), l.Reward.String(), l.Adjustment.String(), l.partner().String())
	}
	return all
}

// plain keeps a text that somebody chose from being a formula for programs that open CSV:
// those begin with one of these characters (OWASP, CSV injection).
func plain(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// csvStream sends lines of CSV, many in a message.
type csvStream struct {
	to   grpc.ServerStreamingServer[httpbody.HttpBody]
	text bytes.Buffer
	csv  *csv.Writer
}

func newCSV(to grpc.ServerStreamingServer[httpbody.HttpBody]) *csvStream {
	w := &csvStream{to: to}
	w.csv = csv.NewWriter(&w.text)
	return w
}

func (w *csvStream) write(cells []string) error {
	if err := w.csv.Write(cells); err != nil {
		return err
	}
	if w.csv.Flush(); w.text.Len() < csvChunk {
		return w.csv.Error()
	}
	return w.flush()
}

// flush sends what there is, without the last line feed, which REST adds.
func (w *csvStream) flush() error {
	if w.text.Len() == 0 {
		return nil
	}
	err := w.to.Send(&httpbody.HttpBody{ContentType: csvType, Data: bytes.TrimSuffix(bytes.Clone(w.text.Bytes()), []byte("\n"))})
	w.text.Reset()
	return err
}
