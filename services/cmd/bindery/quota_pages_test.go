package main

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	qmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quotamanager/v1"
)

// TestQL3_LimitsInPages reads the limits of an organization one at a time, each counted by
// another unit: together they are what one page says of them.
func TestQL3_LimitsInPages(t *testing.T) {
	w := newAccessWorld(t, sqldbtest.Open(t, sqldb.SQLite, "bindery", nil))
	n := w.grow(organization)
	limits := qmv1.NewQuotaLimitServiceClient(w.Conn)
	req := &qmv1.ListQuotaLimitsRequest{Resource: n.quotaed(), Service: "organization-manager", PageSize: 1000}
	whole, err := limits.List(w.as(n.owner), req)
	w.must(err)
	seen := make(map[string]bool)
	for _, l := range whole.GetQuotaLimits() {
		seen[l.GetQuotaId()] = true
		if l.GetUsage() == nil || l.GetLimit().GetValue() <= 0 {
			t.Errorf("%v: without what is used of it", l)
		}
	}
	for _, counted := range []string{catalog.QuotaAccessBindings, catalog.QuotaMemberships, catalog.QuotaInvites} {
		if !seen[counted] {
			t.Errorf("%s is not among %v", counted, whole)
		}
	}
	pages := &qmv1.ListQuotaLimitsResponse{Resource: whole.GetResource()}
	for req.PageSize = 1; ; {
		page, err := limits.List(w.as(n.owner), req)
		w.must(err)
		if len(page.GetQuotaLimits()) != 1 {
			t.Fatalf("a page of one: %v", page)
		}
		pages.QuotaLimits = append(pages.QuotaLimits, page.GetQuotaLimits()...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
		if len(pages.GetQuotaLimits()) > len(whole.GetQuotaLimits()) {
			t.Fatalf("pages without end: %v", pages)
		}
	}
	if !proto.Equal(pages, whole) {
		t.Errorf("in pages %v\nin one   %v", pages, whole)
	}
}
