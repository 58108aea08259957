package quota_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/quota"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	quotapb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quota"
)

// peer answers for resourcemanager.
type peer struct {
	limit int64
	err   error
	asked int
}

// Invoke answers GetLimits.
func (p *peer) Invoke(_ context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	p.asked++
	if p.err != nil {
		return p.err
	}
	req, _ := args.(*quotav1.GetLimitsRequest)
	resp, ok := reply.(*quotav1.GetLimitsResponse)
	if !ok || method != quotav1.LimitService_GetLimits_FullMethodName {
		return errors.New("another method: " + method)
	}
	resp.Limits = []*quotav1.Limit{{QuotaId: req.GetQuotaIds()[0], Limit: p.limit}}
	return nil
}

// NewStream is not used.
func (*peer) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams here")
}

var inCloud = quota.Resource{Type: "resource-manager.cloud", ID: "cld1"}

func newLimits(p *peer) (*quota.Limits, *time.Time) {
	now := time.Unix(1_700_000_000, 0)
	return quota.NewLimits(p, func() time.Time { return now }), &now
}

func TestQL2_RefusalNamesQuotaLimitAndUsage(t *testing.T) {
	limits, _ := newLimits(&peer{limit: 7})
	if err := limits.Check(t.Context(), catalog.QuotaFolders, inCloud, 6, 1); err != nil {
		t.Errorf("up to the limit: %v", err)
	}
	err := limits.Check(t.Context(), catalog.QuotaFolders, inCloud, 6, 2)
	e, ok := apierr.As(err)
	if !ok || e.Code != codes.ResourceExhausted || e.Reason != apierr.ReasonQuotaExceeded ||
		e.Meta["quotaId"] != catalog.QuotaFolders || e.Meta["resourceId"] != "cld1" {
		t.Fatalf("over the limit: %+v", err)
	}
	failure, ok := e.Details[1].(*quotapb.QuotaFailure)
	if !ok || len(failure.GetViolations()) != 1 {
		t.Fatalf("details %v", e.Details)
	}
	v := failure.GetViolations()[0]
	if v.GetMetric().GetName() != catalog.QuotaFolders || v.GetMetric().GetLimit() != 7 || v.GetMetric().GetUsage() != 6 || v.GetRequired() != 8 {
		t.Errorf("violation %v", v)
	}
}

func TestQL2_LoweredLimitOnlyStopsGrowth(t *testing.T) {
	limits, _ := newLimits(&peer{limit: 2})
	if err := limits.Check(t.Context(), catalog.QuotaFolders, inCloud, 5, 0); err != nil {
		t.Errorf("nothing is added: %v", err)
	}
	if err := limits.Check(t.Context(), catalog.QuotaFolders, inCloud, 5, 1); apierr.CodeOf(err) != codes.ResourceExhausted {
		t.Errorf("one is added: %v", err)
	}
	zero, _ := newLimits(&peer{limit: 0})
	if err := zero.Check(t.Context(), catalog.QuotaFolders, inCloud, 0, 1); apierr.CodeOf(err) != codes.ResourceExhausted {
		t.Errorf("a limit of zero: %v", err)
	}
}

func TestLimits_AreKeptForAMinute(t *testing.T) {
	p := &peer{limit: 7}
	limits, now := newLimits(p)
	want := func(what string, limit int64, asked int) {
		t.Helper()
		got, err := limits.Limit(t.Context(), catalog.QuotaFolders, inCloud)
		if err != nil || got != limit || p.asked != asked {
			t.Errorf("%s: limit %d, asked %d times (%v), want %d and %d", what, got, p.asked, err, limit, asked)
		}
	}
	want("first", 7, 1)
	p.limit = 9
	want("at once", 7, 1)
	*now = now.Add(time.Minute)
	want("a minute later", 9, 2)
}

// A limit that was just raised counts for the call that it refused before.
func TestLimits_RefusalAsksAnew(t *testing.T) {
	p := &peer{limit: 7}
	limits, now := newLimits(p)
	if err := limits.Check(t.Context(), catalog.QuotaFolders, inCloud, 7, 1); apierr.CodeOf(err) != codes.ResourceExhausted {
		t.Fatalf("before: %v", err)
	}
	p.limit = 8
	*now = now.Add(time.Second)
	if err := limits.Check(t.Context(), catalog.QuotaFolders, inCloud, 7, 1); err != nil {
		t.Errorf("after it was raised: %v", err)
	}
	asked := p.asked
	for range 10 {
		if err := limits.Check(t.Context(), catalog.QuotaFolders, inCloud, 8, 1); apierr.CodeOf(err) != codes.ResourceExhausted {
			t.Fatalf("at the new limit: %v", err)
		}
	}
	if p.asked != asked {
		t.Errorf("asked %d times within a second", p.asked-asked)
	}
}

func TestLimits_WhenNobodyAnswers(t *testing.T) {
	p := &peer{err: apierr.Unavailable(apierr.ReasonUnavailable, "away")}
	limits, now := newLimits(p)
	get := func(want int64, asked int) {
		t.Helper()
		got, err := limits.Limit(t.Context(), catalog.QuotaFolders, inCloud)
		if err != nil || got != want || p.asked != asked {
			t.Errorf("limit %d, asked %d times (%v), want %d and %d", got, p.asked, err, want, asked)
		}
	}
	get(50, 1) // the default
	get(50, 1) // and the unit is left alone
	*now = now.Add(5 * time.Second)
	p.err, p.limit = nil, 7
	get(7, 2)
	*now = now.Add(time.Hour)
	p.err = apierr.Unavailable(apierr.ReasonUnavailable, "away")
	get(7, 3) // what it said last
}

func TestLimits_Defects(t *testing.T) {
	limits, _ := newLimits(&peer{})
	for name, call := range map[string]func() error{
		"an unknown quota": func() error { return limits.Check(t.Context(), "a.b.count", inCloud, 0, 1) },
		"another type": func() error {
			return limits.Check(t.Context(), catalog.QuotaClouds, inCloud, 0, 1)
		},
	} {
		if err := call(); apierr.CodeOf(err) != codes.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLimits_CallerGoesAway(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	limits, _ := newLimits(&peer{err: context.Canceled})
	if _, err := limits.Limit(ctx, catalog.QuotaFolders, inCloud); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestUsages(t *testing.T) {
	one := func(_ context.Context, id string) (int64, error) { return int64(len(id)), nil }
	u := &quota.Usages{By: map[string]quota.Usage{catalog.QuotaFolders: one, catalog.QuotaClouds: one}}
	resp, err := u.GetUsage(t.Context(), &quotav1.GetUsageRequest{
		Resource: &quotav1.Resource{Type: inCloud.Type, Id: inCloud.ID},
		QuotaIds: []string{catalog.QuotaAPIKeys, catalog.QuotaFolders},
	})
	if err != nil || len(resp.GetUsage()) != 1 || resp.GetUsage()[0].GetQuotaId() != catalog.QuotaFolders || resp.GetUsage()[0].GetUsage() != 4 {
		t.Errorf("usage %v, %v", resp, err)
	}
	_, err = u.GetUsage(t.Context(), &quotav1.GetUsageRequest{
		Resource: &quotav1.Resource{Type: inCloud.Type, Id: inCloud.ID}, QuotaIds: []string{catalog.QuotaClouds},
	})
	if apierr.CodeOf(err) != codes.NotFound || apierr.ReasonOf(err) != quota.ReasonNotFound {
		t.Errorf("a quota of another type: %v", err)
	}
}
