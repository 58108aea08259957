package accessbindings

import (
	"context"
	"slices"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Subjects is bindery.access.v1.SubjectService.
type Subjects struct {
	accessv1.UnimplementedSubjectServiceServer
	committer *committer
	catalog   *roleBook
	pages     *page.Sealer
	bounded   *bounded
}

// SetSubject makes a subject known or changes its state or its end; it is in force when
// the call returns. Fails: SUBJECT_INVALID, SUBJECT_DELETED, LAST_OWNER when a subject
// that is deleted or suspended, or is to end, is the last owner of something (OW-1).
func (s *Subjects) SetSubject(ctx context.Context, req *accessv1.SetSubjectRequest) (*accessv1.SetSubjectResponse, error) {
	who := subjectOf(req.GetSubject())
	if err := checkSubject("subject", who); err != nil {
		return nil, err
	}
	if who.Type == rules.System || who.Type == rules.Group {
		return nil, apierr.InvalidField("subject.type", "system groups follow their containers, and groups are kept by GroupService")
	}
	if who.Type == rules.Group && req.GetExpiresAt() != nil {
		return nil, apierr.InvalidField("expires_at", "a group has no end")
	}
	r, err := s.committer.submit(ctx, &setSubject{
		subject:  who,
		standing: standing{State: req.GetState(), End: micros(req.GetExpiresAt()), Version: req.GetVersion()}, catalog: s.catalog, record: recordOf(ctx, eventSource, "SetSubject"),
	})
	if err != nil {
		return nil, err
	}
	return &accessv1.SetSubjectResponse{Revision: r.revision}, nil
}

// UpdateMembers adds and removes direct members of an organization, federation or
// user pool (SU-7). Who leaves an organization leaves its groups and loses its
// roles there (GR-6). Fails: RESOURCE_NOT_FOUND (the container), SUBJECT_NOT_FOUND,
// LAST_OWNER (OW-3), QUOTA_EXCEEDED.
func (s *Subjects) UpdateMembers(ctx context.Context, req *accessv1.UpdateMembersRequest) (*accessv1.UpdateMembersResponse, error) {
	in := &updateMembers{
		container: refOf(req.GetContainer()), catalog: s.catalog, record: recordOf(ctx, eventSource, "UpdateMembers"),
	}
	if _, container := rules.SystemGroup(in.container.Type, in.container.ID); !container {
		return nil, apierr.InvalidField("container.type", "a %s has no members of its own, or GroupService keeps them", in.container.Type)
	}
	if err := checkText("container", in.container.ID); err != nil {
		return nil, err
	}
	for _, list := range []struct {
		field string
		from  []*accessv1.Subject
		to    *[]Subject
	}{{"add", req.GetAdd(), &in.add}, {"remove", req.GetRemove(), &in.remove}} {
		for _, m := range list.from {
			who := subjectOf(m)
			if err := checkSubject(list.field, who); err != nil {
				return nil, err
			}
			if who.Type == rules.System || who.Type == rules.Group {
				return nil, apierr.InvalidField(list.field, "a subject of type %s is no member of a %s", who.Type, in.container.Type)
			}
			if !slices.Contains(*list.to, who) {
				*list.to = append(*list.to, who)
			}
		}
	}
	for _, who := range in.add {
		if slices.Contains(in.remove, who) {
			return nil, apierr.InvalidField("remove", "%s:%s is also added", who.Type, who.ID)
		}
	}
	r, err := s.bounded.submit(ctx, in.bounds(), func(l limits) intent {
		in.limits = l
		return in
	})
	if err != nil {
		return nil, err
	}
	return &accessv1.UpdateMembersResponse{Revision: r.revision}, nil
}

// RevokeToken makes a token void (TK-3); it is refused everywhere when the call
// returns.
func (s *Subjects) RevokeToken(ctx context.Context, req *accessv1.RevokeTokenRequest) (*accessv1.RevokeTokenResponse, error) {
	r, err := s.committer.submit(ctx, &revokeTokens{
		tokens: []*accessv1.TokenRevoked{{TokenId: req.GetTokenId(), ExpiresAt: req.GetExpiresAt()}},
		record: recordOf(ctx, eventSource, "RevokeToken"),
	})
	if err != nil {
		return nil, err
	}
	return &accessv1.RevokeTokenResponse{Revision: r.revision}, nil
}

// RevokeSessions makes all tokens of login sessions void (TK-5), those that were not
// issued yet included; they are refused everywhere when the call returns. The ids of
// sessions are as random as those of tokens, so the fact is the same.
func (s *Subjects) RevokeSessions(ctx context.Context, req *accessv1.RevokeSessionsRequest) (*accessv1.RevokeSessionsResponse, error) {
	in := &revokeTokens{record: recordOf(ctx, eventSource, "RevokeSessions")}
	for _, session := range req.GetSessions() {
		in.tokens = append(in.tokens, &accessv1.TokenRevoked{TokenId: session.GetSessionId(), ExpiresAt: session.GetExpiresAt()})
	}
	r, err := s.committer.submit(ctx, in)
	if err != nil {
		return nil, err
	}
	return &accessv1.RevokeSessionsResponse{Revision: r.revision}, nil
}

// ListMemberships lists the containers of a type in which a subject is a direct
// member. What it tells is in force.
func (s *Subjects) ListMemberships(ctx context.Context, req *accessv1.ListMembershipsRequest) (*accessv1.ListMembershipsResponse, error) {
	resp := new(accessv1.ListMembershipsResponse)
	err := s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) error {
		containers, err := st.containersOf(ctx, q, subjectOf(req.GetSubject()), req.GetContainerType())
		for _, c := range containers {
			resp.Containers = append(resp.Containers, c.proto())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// checkSubject checks a subject by itself: lengths, texts, and that type and id
// agree (SU-5, SU-6).
func checkSubject(field string, who Subject) error {
	if err := checkText(field, who.Type, who.ID); err != nil {
		return err
	}
	subject := rules.Subject{Type: who.Type, ID: who.ID}
	if err := rules.Lengths("", subject, ""); err != nil {
		return named(err, field)
	}
	return named(rules.Form(subject), field)
}
