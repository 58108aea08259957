package identity

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/filter"
	iampb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// details is yandex.cloud.iam.v1.SubjectDetailsService.
type details struct {
	iamv1.UnsafeSubjectDetailsServiceServer // a missing method does not compile
	*Service
}

// Get describes a subject (SU-10). Fails: SUBJECT_NOT_FOUND, also for one that is not
// of the organization that is asked about; PERMISSION_DENIED.
func (s *details) Get(ctx context.Context, req *iamv1.GetSubjectRequest) (*iamv1.GetSubjectResponse, error) {
	v, err := s.viewerOf(ctx, req.GetResourceContext(), req.GetFieldMask(), "")
	if err != nil {
		return nil, err
	}
	found, err := s.entities(ctx, []string{req.GetSubjectId()})
	if err != nil {
		return nil, err
	}
	e, known := found[req.GetSubjectId()]
	if !known {
		return nil, errSubjectNotFound
	}
	msg, err := v.show(ctx, e)
	switch {
	case err != nil:
		return nil, err
	case msg == nil && v.organization != "":
		return nil, errSubjectNotFound
	case msg == nil:
		return nil, errSubjectHidden
	}
	return &iamv1.GetSubjectResponse{Subject: msg}, nil
}

// BatchGet describes those of the named subjects that Get would describe, in the
// order of the request, each once.
func (s *details) BatchGet(ctx context.Context, req *iamv1.BatchGetSubjectsRequest) (*iamv1.BatchGetSubjectsResponse, error) {
	v, err := s.viewerOf(ctx, req.GetResourceContext(), req.GetFieldMask(), req.GetFilter())
	if err != nil {
		return nil, err
	}
	found, err := s.entities(ctx, req.GetSubjectIds())
	if err != nil {
		return nil, err
	}
	resp := new(iamv1.BatchGetSubjectsResponse)
	for _, subjectID := range req.GetSubjectIds() {
		e, known := found[subjectID]
		if !known {
			continue
		}
		delete(found, subjectID)
		msg, err := v.show(ctx, e)
		if err != nil {
			return nil, err
		}
		if msg != nil {
			resp.Subjects = append(resp.Subjects, msg)
		}
	}
	return resp, nil
}

// match is the filter of a list of subjects.
type match filter.Filter

// matchOf reads a filter. Fails: INVALID_ARGUMENT.
func matchOf(text string) (match, error) {
	f, err := filter.Parse(text, "sub", "type", "status", "name")
	if err != nil {
		return match{}, err
	}
	values := map[string]map[string]int32{"type": iampb.SubjectType_value, "status": iampb.SubjectStatus_value}[f.Field]
	if number, known := values[f.Value]; values != nil && (!known || number == 0) {
		return match{}, apierr.InvalidField("filter", "%q is no %s of a subject", f.Value, f.Field)
	}
	return match(f), nil
}

// of reports whether a subject, as it is shown, passes.
func (m match) of(msg *iampb.Subject) bool {
	switch m.Field {
	case "sub":
		return msg.GetSub() == m.Value
	case "type":
		return msg.GetType().String() == m.Value
	case "status":
		return msg.GetStatus().String() == m.Value
	case "name":
		return msg.GetName() == m.Value
	default:
		return true
	}
}
