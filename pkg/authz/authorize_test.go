package authz

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	authzv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/authz/v1"
)

var deps = Deps{Catalog: catalog{}, Resolvers: map[string]Resolver{
	"known": func(_ context.Context, v string) (Resource, error) {
		if v == "k1" {
			return Resource{"rm.folder", "f1"}, nil
		}
		return Resource{}, apierr.NotFound("KEY_NOT_FOUND", "key %s not found", v)
	},
}}

// decider allows what is listed and records what it was asked.
type decider struct {
	allow map[string]bool // "permission type:id"
	known map[string]bool // "type:id"; nil means all
	auth  error           // answer of Authenticate, and of Authorize when set
	asked []string
}

func (d *decider) Authenticate(_ context.Context, p authn.Principal) error {
	d.asked = append(d.asked, "authenticate "+p.ID)
	return d.auth
}

func (d *decider) Authorize(_ context.Context, p authn.Principal, permission string, r Resource) error {
	q := permission + " " + r.Type + ":" + r.ID
	d.asked = append(d.asked, q)
	switch {
	case d.auth != nil:
		return d.auth
	case d.known != nil && !d.known[r.Type+":"+r.ID]:
		return apierr.Denied(apierr.ReasonResourceNotFound, "not in the tree")
	case !d.allow[q]:
		return Denied(permission, r)
	}
	return nil
}

func (d *decider) AuthorizeEach(context.Context, authn.Principal, string, []Resource) ([]bool, error) {
	return nil, errors.New("not asked here")
}

// request makes a request of the test method; pairs of field path and value.
func request(md protoreflect.MethodDescriptor, pairs ...string) proto.Message {
	m := dynamicpb.NewMessage(md.Input())
	for i := 0; i < len(pairs); i += 2 {
		var at protoreflect.Message = m
		name := pairs[i]
		if inner, ok := strings.CutPrefix(name, "inner."); ok {
			at, name = at.Mutable(md.Input().Fields().ByName("inner")).Message(), inner
		}
		at.Set(at.Descriptor().Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOfString(pairs[i+1]))
	}
	return m
}

var (
	nobody  = Caller{}
	user    = Caller{Principal: authn.Principal{Type: authn.UserAccount, ID: "u1", Token: "t1.x.y"}}
	unit    = Caller{Principal: authn.Principal{Unit: "identity"}}
	unitFor = Caller{Principal: authn.Principal{Type: authn.UserAccount, ID: "u1", Unit: "identity"}}
	cook    = Caller{Principal: authn.Principal{Unit: authn.Operator}}
	badly   = Caller{Err: apierr.Unauthenticated(apierr.ReasonTokenExpired, "expired")}
)

func TestAuthorize(t *testing.T) {
	folder := &authzv1.Rule{Permission: "folders.get", Resource: resource("rm.folder", "id")}
	with := func(on authzv1.OnEmpty) *authzv1.Rule {
		return &authzv1.Rule{Permission: "folders.get", Resource: &authzv1.Resource{Type: "rm.folder", Field: "id", OnEmpty: on}}
	}
	two := &authzv1.Rule{Permission: "folders.get", Resource: resource("rm.folder", "id"),
		Also: []*authzv1.Check{{Permission: "clouds.get", Resource: resource("rm.cloud", "other")}}}
	self := &authzv1.Rule{Permission: "folders.get", Resource: resource("rm.folder", "id"), SelfField: "other"}
	verb := &authzv1.Rule{Verb: "listAccessBindings", Resource: &authzv1.Resource{TypeField: "type", Field: "inner.id"}}
	listed := &authzv1.Rule{Permission: "folders.get", Resource: &authzv1.Resource{TypeField: "type", Field: "inner.id", OnEmpty: authzv1.OnEmpty_ON_EMPTY_LIST}}
	resolved := &authzv1.Rule{Permission: "folders.get", Resource: &authzv1.Resource{Type: "x.key", Field: "id", Resolve: "known"}}
	or := &authzv1.Rule{Permission: "folders.get", Or: []string{"folders.peek", "folders.own"}, Resource: resource("rm.folder", "id"),
		Also: []*authzv1.Check{{Verb: "listAccessBindings", Resource: &authzv1.Resource{Field: "other", Resolve: "known"}}}}
	asWell := &authzv1.Rule{Permission: "folders.get", Resource: resource("rm.folder", "id"), Units: []string{AllUnits}}
	internal := &authzv1.Rule{Internal: &authzv1.Internal{Units: []string{"identity"}}}
	anyUnit := &authzv1.Rule{Internal: &authzv1.Internal{Units: []string{AllUnits}}}
	operator := &authzv1.Rule{Internal: &authzv1.Internal{Units: []string{authn.Operator}}}
	proof := &authzv1.Rule{Authenticated: true, CredentialFields: []string{"other", "inner.id"}}
	allow := func(q ...string) map[string]bool {
		m := make(map[string]bool)
		for _, s := range q {
			m[s] = true
		}
		return m
	}
	suspended := apierr.Unauthenticated(apierr.ReasonSubjectInactive, "suspended")
	away := apierr.Unavailable(apierr.ReasonCheckerUnavailable, "away")

	for _, tt := range []struct {
		name   string
		rule   *authzv1.Rule
		caller Caller
		req    []string
		d      decider
		reason string // "" means admitted
		code   codes.Code
		asked  []string
	}{
		{name: "public, nobody", rule: &authzv1.Rule{Public: true}, caller: nobody},
		{name: "public, bad token", rule: &authzv1.Rule{Public: true}, caller: badly},

		{name: "internal, its unit", rule: internal, caller: unit},
		{name: "internal, its unit for a user", rule: internal, caller: unitFor},
		{name: "internal, user", rule: internal, caller: user, reason: apierr.ReasonUnitNotAdmitted, code: codes.PermissionDenied},
		{name: "internal, nobody", rule: internal, caller: nobody, reason: apierr.ReasonTokenMissing, code: codes.Unauthenticated},
		{name: "internal, operator", rule: internal, caller: cook, reason: apierr.ReasonUnitNotAdmitted, code: codes.PermissionDenied},
		{name: "any unit, a unit", rule: anyUnit, caller: unit},
		{name: "any unit, operator", rule: anyUnit, caller: cook, reason: apierr.ReasonUnitNotAdmitted, code: codes.PermissionDenied},
		{name: "operator, operator", rule: operator, caller: cook},
		{name: "operator, a unit", rule: operator, caller: unit, reason: apierr.ReasonUnitNotAdmitted, code: codes.PermissionDenied},

		{name: "authenticated, user", rule: &authzv1.Rule{Authenticated: true}, caller: user, asked: []string{"authenticate u1"}},
		{name: "authenticated, suspended", rule: &authzv1.Rule{Authenticated: true}, caller: user, d: decider{auth: suspended},
			reason: apierr.ReasonSubjectInactive, code: codes.Unauthenticated, asked: []string{"authenticate u1"}},
		{name: "authenticated, nobody", rule: &authzv1.Rule{Authenticated: true}, caller: nobody, reason: apierr.ReasonTokenMissing, code: codes.Unauthenticated},
		{name: "authenticated, bad token", rule: &authzv1.Rule{Authenticated: true}, caller: badly, reason: apierr.ReasonTokenExpired, code: codes.Unauthenticated},
		{name: "authenticated, a unit alone", rule: &authzv1.Rule{Authenticated: true}, caller: unit, reason: apierr.ReasonTokenMissing, code: codes.Unauthenticated},

		{name: "proof in the request", rule: proof, caller: nobody, req: []string{"inner.id", "token"}},
		{name: "proof and a bad header", rule: proof, caller: badly, req: []string{"other", "token"}},
		{name: "no proof, user", rule: proof, caller: user, asked: []string{"authenticate u1"}},
		{name: "no proof, a unit", rule: proof, caller: unit},
		{name: "no proof, a unit with a bad token", rule: proof, caller: Caller{Principal: unit.Principal, Err: badly.Err}, reason: apierr.ReasonTokenExpired, code: codes.Unauthenticated},
		{name: "no proof, nobody", rule: proof, caller: nobody, req: []string{"id", "x"}, reason: apierr.ReasonTokenMissing, code: codes.Unauthenticated},

		{name: "units as well, a unit", rule: asWell, caller: unit},
		{name: "units as well, a unit for a user", rule: asWell, caller: unitFor, req: []string{"id", "f1"}},
		{name: "units as well, operator", rule: asWell, caller: cook, reason: apierr.ReasonTokenMissing, code: codes.Unauthenticated},
		{name: "units as well, nobody", rule: asWell, caller: nobody, req: []string{"id", "f1"}, reason: apierr.ReasonTokenMissing, code: codes.Unauthenticated},
		{name: "units as well, a user who lacks it", rule: asWell, caller: user, req: []string{"id", "f1"}, reason: apierr.ReasonPermissionDenied,
			code: codes.PermissionDenied, asked: []string{"folders.get rm.folder:f1"}},

		{name: "held", rule: folder, caller: user, req: []string{"id", "f1"}, d: decider{allow: allow("folders.get rm.folder:f1")}, asked: []string{"folders.get rm.folder:f1"}},
		{name: "lacking", rule: folder, caller: user, req: []string{"id", "f1"}, reason: apierr.ReasonPermissionDenied, code: codes.PermissionDenied, asked: []string{"folders.get rm.folder:f1"}},
		{name: "unknown", rule: folder, caller: user, req: []string{"id", "f1"}, d: decider{known: allow()}, reason: apierr.ReasonResourceNotFound, code: codes.NotFound, asked: []string{"folders.get rm.folder:f1"}},
		{name: "checker away", rule: folder, caller: user, req: []string{"id", "f1"}, d: decider{auth: away}, reason: apierr.ReasonCheckerUnavailable, code: codes.Unavailable, asked: []string{"folders.get rm.folder:f1"}},
		{name: "nobody, also with an empty id", rule: folder, caller: nobody, reason: apierr.ReasonTokenMissing, code: codes.Unauthenticated},
		{name: "a unit alone", rule: folder, caller: unit, req: []string{"id", "f1"}, reason: apierr.ReasonTokenMissing, code: codes.Unauthenticated},
		{name: "empty id", rule: folder, caller: user, reason: apierr.ReasonInvalid, code: codes.InvalidArgument},
		{name: "oversized id", rule: folder, caller: user, req: []string{"id", strings.Repeat("x", maxID+1)}, reason: apierr.ReasonInvalid, code: codes.InvalidArgument},
		{name: "broken id", rule: folder, caller: user, req: []string{"id", "a\xff"}, reason: apierr.ReasonInvalid, code: codes.InvalidArgument},
		{name: "NUL in the id", rule: folder, caller: user, req: []string{"id", "a\x00b"}, reason: apierr.ReasonInvalid, code: codes.InvalidArgument},
		{name: "turned text in the id (NM-9)", rule: folder, caller: user, req: []string{"id", "a\u202Eb"}, reason: apierr.ReasonInvalid, code: codes.InvalidArgument},
		{name: "empty means the caller", rule: with(authzv1.OnEmpty_ON_EMPTY_CALLER), caller: user, d: decider{allow: allow("folders.get rm.folder:u1")}, asked: []string{"folders.get rm.folder:u1"}},
		{name: "empty means a list", rule: with(authzv1.OnEmpty_ON_EMPTY_LIST), caller: user, asked: []string{"authenticate u1"}},
		{name: "empty means anybody known", rule: with(authzv1.OnEmpty_ON_EMPTY_AUTHENTICATED), caller: user, d: decider{auth: suspended},
			reason: apierr.ReasonSubjectInactive, code: codes.Unauthenticated, asked: []string{"authenticate u1"}},
		{name: "a list of a parent", rule: with(authzv1.OnEmpty_ON_EMPTY_LIST), caller: user, req: []string{"id", "f1"},
			reason: apierr.ReasonPermissionDenied, code: codes.PermissionDenied, asked: []string{"folders.get rm.folder:f1"}},

		{name: "both held", rule: two, caller: user, req: []string{"id", "f1", "other", "c1"}, d: decider{allow: allow("folders.get rm.folder:f1", "clouds.get rm.cloud:c1")},
			asked: []string{"folders.get rm.folder:f1", "clouds.get rm.cloud:c1"}},
		{name: "one held", rule: two, caller: user, req: []string{"id", "f1", "other", "c1"}, d: decider{allow: allow("folders.get rm.folder:f1")},
			reason: apierr.ReasonPermissionDenied, code: codes.PermissionDenied, asked: []string{"folders.get rm.folder:f1", "clouds.get rm.cloud:c1"}},
		{name: "fields before questions", rule: two, caller: user, req: []string{"id", "f1"}, reason: apierr.ReasonInvalid, code: codes.InvalidArgument},

		{name: "about oneself", rule: self, caller: user, req: []string{"id", "f1", "other", "u1"}, asked: []string{"authenticate u1"}},
		{name: "about nobody is about oneself", rule: self, caller: user, req: []string{"id", "f1"}, asked: []string{"authenticate u1"}},
		{name: "about oneself, suspended", rule: self, caller: user, req: []string{"id", "f1"}, d: decider{auth: suspended},
			reason: apierr.ReasonSubjectInactive, code: codes.Unauthenticated, asked: []string{"authenticate u1"}},
		{name: "about oneself, nobody", rule: self, caller: nobody, req: []string{"id", "f1"}, reason: apierr.ReasonTokenMissing, code: codes.Unauthenticated},
		{name: "about oneself, a unit alone", rule: self, caller: unit, req: []string{"id", "f1"}, reason: apierr.ReasonTokenMissing, code: codes.Unauthenticated},
		{name: "about oneself, of nothing", rule: self, caller: user, reason: apierr.ReasonInvalid, code: codes.InvalidArgument},
		{name: "about somebody else", rule: self, caller: user, req: []string{"id", "f1", "other", "u2"},
			reason: apierr.ReasonPermissionDenied, code: codes.PermissionDenied, asked: []string{"folders.get rm.folder:f1"}},
		{name: "about somebody else, held", rule: self, caller: user, req: []string{"id", "f1", "other", "u2"},
			d: decider{allow: allow("folders.get rm.folder:f1")}, asked: []string{"folders.get rm.folder:f1"}},
		{name: "any type", rule: verb, caller: user, req: []string{"type", "rm.folder", "inner.id", "f1"}, d: decider{allow: allow("folders.listAccessBindings rm.folder:f1")},
			asked: []string{"folders.listAccessBindings rm.folder:f1"}},
		{name: "a type without bindings", rule: verb, caller: user, req: []string{"type", "rm.disk", "inner.id", "f1"}, reason: apierr.ReasonInvalid, code: codes.InvalidArgument},
		{name: "neither type nor id means a list", rule: listed, caller: user, asked: []string{"authenticate u1"}},
		{name: "an id without a type", rule: listed, caller: user, req: []string{"inner.id", "f1"}, reason: apierr.ReasonInvalid, code: codes.InvalidArgument},
		{name: "a list of a parent of any type", rule: listed, caller: user, req: []string{"type", "rm.folder", "inner.id", "f1"},
			reason: apierr.ReasonPermissionDenied, code: codes.PermissionDenied, asked: []string{"folders.get rm.folder:f1"}},
		{name: "no type", rule: verb, caller: user, req: []string{"inner.id", "f1"}, reason: apierr.ReasonInvalid, code: codes.InvalidArgument},

		{name: "resolved", rule: resolved, caller: user, req: []string{"id", "k1"}, d: decider{allow: allow("folders.get rm.folder:f1")}, asked: []string{"folders.get rm.folder:f1"}},
		{name: "the first of several", rule: or, caller: user, req: []string{"id", "f2", "other", "k1"},
			d:     decider{allow: allow("folders.get rm.folder:f2", "folders.listAccessBindings rm.folder:f1")},
			asked: []string{"folders.get rm.folder:f2", "folders.listAccessBindings rm.folder:f1"}},
		{name: "the last of several", rule: or, caller: user, req: []string{"id", "f2", "other", "k1"},
			d:     decider{allow: allow("folders.own rm.folder:f2", "folders.listAccessBindings rm.folder:f1")},
			asked: []string{"folders.get rm.folder:f2", "folders.peek rm.folder:f2", "folders.own rm.folder:f2", "folders.listAccessBindings rm.folder:f1"}},
		{name: "none of several", rule: or, caller: user, req: []string{"id", "f2", "other", "k1"}, d: decider{allow: allow("folders.listAccessBindings rm.folder:f1")},
			reason: apierr.ReasonPermissionDenied, code: codes.PermissionDenied,
			asked: []string{"folders.get rm.folder:f2", "folders.peek rm.folder:f2", "folders.own rm.folder:f2"}},
		{name: "several do not stand for what follows", rule: or, caller: user, req: []string{"id", "f2", "other", "k1"}, d: decider{allow: allow("folders.own rm.folder:f2")},
			reason: apierr.ReasonPermissionDenied, code: codes.PermissionDenied,
			asked: []string{"folders.get rm.folder:f2", "folders.peek rm.folder:f2", "folders.own rm.folder:f2", "folders.listAccessBindings rm.folder:f1"}},
		{name: "not resolved", rule: resolved, caller: user, req: []string{"id", "k2"}, reason: "KEY_NOT_FOUND", code: codes.NotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			md := method(t, tt.rule)
			m, problems := compile("/authztest.Service/Call", md, deps)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			_, err := m.Authorize(t.Context(), &tt.d, tt.caller, request(md, tt.req...))
			if apierr.ReasonOf(err) != tt.reason || apierr.CodeOf(err) != tt.code {
				t.Errorf("got %v %q, want %v %q", apierr.CodeOf(err), apierr.ReasonOf(err), tt.code, tt.reason)
			}
			if diff := cmp.Diff(tt.asked, tt.d.asked); diff != "" {
				t.Errorf("questions: %s", diff)
			}
		})
	}
}

func TestFilteredListsEnterWithoutThePermission(t *testing.T) {
	md := method(t, &authzv1.Rule{Permission: "folders.get", Resource: resource("rm.folder", "id"), Filtered: true})
	m, _ := compile("/authztest.Service/Call", md, deps)
	req := request(md, "id", "f1")

	ctx, err := m.Authorize(t.Context(), &decider{}, user, req)
	if err != nil {
		t.Fatalf("lacking the permission: %v", err)
	}
	if got := Withheld(ctx); apierr.CodeOf(got) != codes.PermissionDenied {
		t.Errorf("withheld %v, want the denial", got)
	}
	ctx, err = m.Authorize(t.Context(), &decider{allow: map[string]bool{"folders.get rm.folder:f1": true}}, user, req)
	if err != nil || Withheld(ctx) != nil {
		t.Errorf("holding it: %v, withheld %v", err, Withheld(ctx))
	}
	for name, d := range map[string]*decider{
		"unknown":   {known: map[string]bool{}},
		"suspended": {auth: apierr.Unauthenticated(apierr.ReasonSubjectInactive, "suspended")},
		"away":      {auth: apierr.Unavailable(apierr.ReasonCheckerUnavailable, "away")},
	} {
		if _, err := m.Authorize(t.Context(), d, user, req); err == nil {
			t.Errorf("%s: admitted", name)
		}
	}
}

func TestRefusalNamesPermissionAndResource(t *testing.T) {
	md := method(t, &authzv1.Rule{Permission: "folders.get", Resource: resource("rm.folder", "id")})
	m, _ := compile("/authztest.Service/Call", md, deps)
	_, err := m.Authorize(t.Context(), &decider{}, user, request(md, "id", "f1"))
	e, _ := apierr.As(err)
	want := map[string]string{"permission": "folders.get", "resourceType": "rm.folder", "resourceId": "f1"}
	if e == nil || !cmp.Equal(e.Meta, want) {
		t.Errorf("got %+v, want metadata %v", e, want)
	}
}

func TestFieldConstraintsOfTheProto(t *testing.T) {
	sd := accessv1.File_bindery_access_v1_access_binding_service_proto.Services().ByName("AccessBindingService")
	m, problems := compile("/x/List", sd.Methods().ByName("ListAccessBindings"), deps)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	_, err := m.Authorize(t.Context(), &decider{}, user, &accessv1.ListAccessBindingsRequest{
		Resource: &accessv1.Resource{Type: "rm.folder", Id: strings.Repeat("я", 51)}})
	e, _ := apierr.As(err)
	want := []apierr.Field{{Name: "resource.id", Message: "must have at most 50 characters"}}
	if e == nil || !cmp.Equal(e.Fields, want) {
		t.Errorf("got %+v, want %v", e, want)
	}
	_, err = m.Authorize(t.Context(), &decider{allow: map[string]bool{"folders.listAccessBindings rm.folder:" + strings.Repeat("я", 50): true}}, user,
		&accessv1.ListAccessBindingsRequest{Resource: &accessv1.Resource{Type: "rm.folder", Id: strings.Repeat("я", 50)}})
	if err != nil {
		t.Errorf("50 characters: %v", err)
	}
	if _, err = m.Authorize(t.Context(), &decider{}, user, &accessv1.ListAccessBindingsRequest{}); apierr.CodeOf(err) != codes.InvalidArgument {
		t.Errorf("no resource: %v", err)
	}
}

func ExampleDenied() {
	fmt.Println(Denied("resource-manager.folders.get", Resource{"resource-manager.folder", "fld1"}).Message)
	// Output: permission resource-manager.folders.get on resource-manager.folder "fld1" is missing
}
