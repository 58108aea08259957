package accessbindings

import (
	cryptorand "crypto/rand"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/checker/checkertest"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// ask asks about one subject at one time, all questions at once and one of them
// alone, or by a token.
func (o *oracle) ask() {
	o.t.Helper()
	subject := o.gen.Query().Subject
	for !slices.Contains([]string{rules.UserAccount, rules.FederatedUser, rules.ServiceAccount}, subject.Type()) {
		subject = o.gen.Query().Subject // groups do not act
	}
	now := o.rng.Int64N(10)
	o.clock.set(o.at(now))
	actions := new(accessservicev2.BulkAuthorizeRequest_Actions)
	var questions []checkertest.Query
	for len(questions) < oracleQuestions {
		q := o.gen.Query()
		q.Subject, q.Now = subject, now
		if o.gen.World.Answer(q) == checkertest.PermissionUnknown {
			o.alone(q, false)
			continue
		}
		questions = append(questions, q)
		actions.Items = append(actions.Items, &accessservicev2.BulkAuthorizeRequest_Action{
			Permission: q.Permission, ResourcePath: wire(o.ref(q.Resource)),
		})
	}
	resp, err := o.asker.BulkAuthorize(o.t.Context(), &accessservicev2.BulkAuthorizeRequest{
		Identity:       &accessservicev2.BulkAuthorizeRequest_Subject{Subject: wireSubject(o.who(subject))},
		Authorizations: &accessservicev2.BulkAuthorizeRequest_Actions_{Actions: actions},
	})
	o.must(err)
	for i, item := range resp.GetResults().GetItems() {
		reason := "GRANTED"
		if e := item.GetPermissionDeniedError(); e != nil {
			info := new(errdetails.ErrorInfo)
			o.must(e.GetDetails()[0].UnmarshalTo(info))
			reason = info.GetReason()
		}
		o.compare(questions[i], reason)
	}
	o.alone(questions[0], false)
	o.alone(questions[1], true)
}

// alone asks one question by Authorize, as a subject or by its token.
func (o *oracle) alone(q checkertest.Query, byToken bool) {
	o.t.Helper()
	who := o.who(q.Subject)
	req := &accessservicev2.AuthorizeRequest{
		Permission: q.Permission, ResourcePath: wire(o.ref(q.Resource)),
		Identity: &accessservicev2.AuthorizeRequest_Subject{Subject: wireSubject(who)},
	}
	if byToken {
		session := authn.TokenID([]byte(cryptorand.Text()[:len(authn.TokenID{})]))
		token, err := o.Issuer.IssueGrant(authn.Grant{Type: who.Type, ID: who.ID, Session: session}, time.Hour)
		o.must(err)
		req.Identity = &accessservicev2.AuthorizeRequest_IamToken{IamToken: token.Text}
		switch o.rng.IntN(6) {
		case 0:
			_, err = o.subjects.RevokeToken(o.t.Context(),
				&accessv1.RevokeTokenRequest{TokenId: token.ID[:], ExpiresAt: timestamppb.New(token.ExpiresAt)})
			q.Token, o.gen.World.Revoked = "void", []string{"void"}
		case 1:
			_, err = o.subjects.RevokeSessions(o.t.Context(), &accessv1.RevokeSessionsRequest{
				Sessions: []*accessv1.RevokedSession{{SessionId: session[:], ExpiresAt: timestamppb.New(token.ExpiresAt)}}})
			q.Session, o.gen.World.Revoked = "over", []string{"over"}
		}
		o.must(err)
	}
	_, err := o.asker.Authorize(o.t.Context(), req)
	o.single++
	reason := "GRANTED"
	if err != nil {
		reason = apierr.ReasonOf(err)
	}
	o.compare(q, reason)
	if got, want := status.Code(err), o.code(q, byToken); got != want {
		o.t.Errorf("%s by token %v: code %v, want %v", q, byToken, got, want)
	}
}

// code is the code with which Authorize answers.
func (o *oracle) code(q checkertest.Query, byToken bool) codes.Code {
	switch o.gen.World.Answer(q) {
	case checkertest.Yes:
		return codes.OK
	case checkertest.PermissionUnknown:
		return codes.InvalidArgument
	case checkertest.TokenRevoked:
		return codes.Unauthenticated
	case checkertest.SubjectUnknown, checkertest.SubjectInactive:
		if byToken {
			return codes.Unauthenticated
		}
	}
	return codes.PermissionDenied
}

// compare fails the test when an answer is not that of the rules.
func (o *oracle) compare(q checkertest.Query, got string) {
	o.t.Helper()
	want := o.gen.World.Answer(q)
	o.answers[want]++
	ok := (got == "GRANTED") == (want == checkertest.Yes) && (got == reasonPolicy || got == apierr.ReasonPayerStopped) == (want == checkertest.DeniedByPolicy)
	if strings.HasPrefix(want, "RESOURCE_") {
		ok = ok && got == "RESOURCE_NOT_FOUND"
	}
	if !ok {
		s := checkertest.Scenario{World: *o.gen.World, Deny: []string{q.String()}}
		if want == checkertest.Yes {
			s.Allow, s.Deny = s.Deny, nil
		}
		o.t.Errorf("%s: got %s, want %s; the world:\n%s", q, got, want, s.YAML())
	}
}
