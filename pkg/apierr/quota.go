package apierr

import (
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	quotapb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quota"
)

// Quota is one limit that a call would have exceeded.
type Quota struct {
	Metric   string // id of the limit, e.g. "resource-manager.folders.count"
	Subject  string // what the limit is counted for, e.g. "cloud:cld…"
	Limit    int64  // the limit
	Usage    int64  // used before the call
	Required int64  // what the call needs in all: usage plus its own part
}

// Exhausted returns RESOURCE_EXHAUSTED with google.rpc.QuotaFailure for every
// client and yandex.cloud.quota.QuotaFailure for those that know the platform.
func Exhausted(quotas ...Quota) *Error {
	rpc, platform := new(errdetails.QuotaFailure), new(quotapb.QuotaFailure)
	msg := "quota exceeded"
	for i, q := range quotas {
		text := fmt.Sprintf("%s: limit %d, %d required", q.Metric, q.Limit, q.Required)
		if i == 0 {
			msg += ": " + text
		} else {
			msg += "; " + text
		}
		rpc.Violations = append(rpc.Violations, &errdetails.QuotaFailure_Violation{Subject: q.Subject, Description: text})
		platform.Violations = append(platform.Violations, &quotapb.QuotaFailure_Violation{
			Metric:   &quotapb.QuotaMetric{Name: q.Metric, Limit: q.Limit, Usage: float64(q.Usage)},
			Required: q.Required,
		})
	}
	return &Error{
		Code: codes.ResourceExhausted, Reason: ReasonQuotaExceeded, Message: msg,
		Details: []proto.Message{rpc, platform},
	}
}
