package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/text"
)

// expectation is what may be answered to a mutation.
type expectation struct {
	codes  []codes.Code
	fields []string // with INVALID_ARGUMENT one of them is named, or what holds it
}

// allows reports whether an answer is as expected.
func (e expectation) allows(st *status.Status) bool {
	if !slices.Contains(e.codes, st.Code()) {
		return false
	}
	if st.Code() != codes.InvalidArgument {
		return true
	}
	named := violated(st)
	return slices.ContainsFunc(e.fields, func(f string) bool {
		return slices.ContainsFunc(named, func(n string) bool { return n == f || holds(n, f) || holds(f, n) })
	})
}

// holds reports whether a field is the one at a path or below it.
func holds(path, field string) bool {
	return strings.HasPrefix(field, path+".") || strings.HasPrefix(field, path+"[")
}

func violated(st *status.Status) []string {
	var names []string
	for _, d := range st.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				names = append(names, v.GetField())
			}
		}
	}
	return names
}

// expect derives what a mutation must get from the constraints of the proto, then
// from the rule about text (NM-9), then from what the field means.
func expect(r rpc, m mutation, msg proto.Message) expectation {
	invalid := []codes.Code{codes.InvalidArgument}
	if !m.isUTF8() {
		return expectation{invalid, []string{m.field}}
	}
	var failed *protovalidate.ValidationError
	if err := protovalidate.Validate(msg); errors.As(err, &failed) {
		var fields []string
		for _, v := range failed.Violations {
			fields = append(fields, protovalidate.FieldPathString(v.Proto.GetField()))
		}
		return expectation{invalid, append(fields, m.field)}
	} else if err != nil {
		return expectation{nil, []string{err.Error()}}
	}
	if badForm(msg.ProtoReflect(), strings.HasPrefix(r.method, checkService)) {
		return expectation{invalid, []string{m.field}}
	}
	return meaning(r, m)
}

// badForm looks for text that NM-9 refuses, for times that are none and for enums
// without the value. A check keeps nothing of what it is sent and takes any text.
func badForm(m protoreflect.Message, check bool) bool {
	t, ok := m.Interface().(*timestamppb.Timestamp)
	found := ok && !check && t.CheckValid() != nil
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		look := func(fd protoreflect.FieldDescriptor, v protoreflect.Value) {
			switch {
			case fd.Kind() == protoreflect.StringKind:
				found = found || !check && text.Problem(v.String()) != ""
			case fd.Enum() != nil:
				found = found || fd.Enum().Values().ByNumber(v.Enum()) == nil
			case fd.Message() != nil:
				found = found || badForm(v.Message(), check)
			}
		}
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				found = found || text.Problem(k.String()) != ""
				look(fd.MapValue(), v)
				return true
			})
		case fd.IsList():
			for i := range v.List().Len() {
				look(fd, v.List().Get(i))
			}
		default:
			look(fd, v)
		}
		return true
	})
	return found
}

// meaning is what a value gets that keeps all constraints, by what its field is.
func meaning(r rpc, m mutation) expectation {
	accepted := []codes.Code{r.inside}
	refused := []codes.Code{codes.InvalidArgument}
	unknown := []codes.Code{codes.NotFound, codes.PermissionDenied, codes.InvalidArgument}
	unproven := []codes.Code{codes.Unauthenticated, codes.Unimplemented}
	for _, c := range []struct {
		field string // method, field and value, as a pattern
		codes []codes.Code
	}{
		{`CloudService/(Create|List) organization_id empty$`, append(refused, r.inside)},                                                // CR-2, and a list of everything
		{`(Subaccount|Customer)Service/\w+ (external_id|person|invitation_email|admin_emails|name|comment)`, append(refused, r.inside)}, // data of people
		{`GetSelf billing_account_id empty$|SetPayer billing_account_id `, append(unknown, codes.OK)},                                   // all of them; nobody
		{`CreateCustomerOrganization (owner|admin)_ids|FindUsers emails|ListHolders role_id|UpdateAutomaticBindings `, append(unknown, codes.OK)},
		{`CustomerQuotaService/\w+ (cloud_id|quota_id|limit)`, append(unknown, r.inside, codes.FailedPrecondition)}, // not linked; asked for already
		{`CustomerQuotaService/SetCloudLimit subject_id`, accepted},                                                 // units, for whom it may be
		{`CheckGiver `, append(unknown, codes.OK)},
		{`PartnerService/(Add|Remove)User (email|role_ids|subject_id)`, append(unknown, codes.OK)},
		{`SkuService/\w+ billing_account_id empty$`, append(refused, codes.OK)},  // prices of everybody
		{`billing\.v1\.(Service|Sku)Service/Get id `, append(unknown, codes.OK)}, // what LoadCatalog was sent before
		{`BudgetService/Create (name|cost_budget_spec)`, append(refused, codes.OK)},
		{`IngestUsage records`, append(refused, codes.OK, codes.AlreadyExists)},
		{`(LoadCatalog|PostAccrual|SetSpecialization) (services|skus|id|name|comment|referral)`, append(unknown, codes.OK, codes.AlreadyExists)},
		{`ConsumptionCoreService/\w+ \w+(_ids|_period|labels|_logic)`, append(refused, codes.OK)}, // what is not there was not used
		{`(usage_records\.v1\.MetadataService|CatalogService)/`, append(unknown, codes.OK)},       // the same
		{`UpdatePartnerCard (name|description|site_url|email|phone|published|product)`, append(refused, codes.OK)},
		{`OperatorService/UnlinkUser issuer`, append(unknown, codes.OK)},                           // whom nobody is linked to
		{`UsageReport filter`, append(refused, codes.OK)},                                          // what is not there was not used
		{`CreateBillingAccount organization_id empty$`, append(refused, r.inside)},                 // one that stands below nothing
		{`SubjectService/SetSubject subject.id at its limit, `, refused},                           // bytes count there
		{`SubjectService/SetSubject subject.id |OperatorService/CreateUser login`, accepted},       // makes it
		{`AuditService/\w+ filter|audit\.v1\.(Trail|Operator)Service/`, append(unknown, codes.OK)}, // what nothing is about lists nothing
		{`quota\.v1\.(Limit|Usage)Service/|ListLimits|ListServices resource_type`, append(unknown, codes.OK)},
		{`[ .](quota_ids|decisions)[ .\[]`, append(unknown, r.inside, codes.FailedPrecondition)},
		{`AddPublisherUsers users`, append(unknown, codes.OK)},                                                     // what is no address is nobody's
		{`ListAccessRequests product_id`, append(unknown, codes.OK)},                                               // what is not there has none
		{`GrantService/|FindUsers emails`, append(unknown, codes.OK)},                                              // units, of what may be gone
		{`marketplace\.v1\..* (text|reason|comment) `, append(refused, r.inside)},                                  // white space alone says nothing
		{`RoleRequestService/\w+ (text|reason|comment) |support\.v1\..* (text|title) `, append(refused, r.inside)}, // white space alone says nothing
		{`CreateRoleRequest (role_id|resource|duration|expires_at)`, append(unknown, r.inside)},
		{`UploadTicketAttachment (name|size|data) `, append(refused, r.inside)},
		{`SetLimit `, append(unknown, codes.OK)},
		{`identity\.v1\.(ApiKeyToken|Credential)Service/`, append(unproven, r.inside)},
		{`TokenExchangeService/`, append(unproven, codes.InvalidArgument)},
		{`oidc\.FederationService/\w+ (issuer|jwks_url|audiences)`, append(refused, r.inside)},
		{`FederatedCredentialService/Create external_subject_id`, append(refused, r.inside)},
		{`(ApiKey|AccessKey)Service/(List|Create) service_account_id empty$`, unknown},                                                // the caller is no service account
		{`v1\.(Resource|Subject|OperationLog)Service/|CreateToken`, append(unknown, codes.OK)},                                        // units, and what they made before
		{`NotificationService/Notify `, append(refused, codes.OK)},                                                                    // what is not there has no owners
		{`ChangeService/Follow start\.position`, append(accepted, codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange)}, // a place in another history
		{`ChangeService/Follow start\.organization_id `, append(unknown, codes.OK)},                                                   // units follow what is not there
		{`(Audience|ResourceName)Service/`, append(unknown, codes.OK)},                                                                // units ask of what may be gone
		{`/Update\w+Subscribers deltas`, append(refused, codes.OK, codes.FailedPrecondition)},                                         // what is gone is removed
		{`BulkAuthorize .*(\.id|\.type|federation_id|folder_id) `, accepted},                                                          // a denial is an answer
		{`Authorize subject(\..*)?federation_id `, append(accepted, codes.PermissionDenied)},                                          // says only of which kind the user is
		{`Authorize subject\.anonymous_account `, []codes.Code{codes.PermissionDenied, r.inside}},                                     // PG-2
		{`GroupService/(Create|ConvertTo)External external_id `, append(accepted, codes.AlreadyExists)},                               // the provider's own, in any form
		{`GroupService/ListEffective organization_id empty$`, accepted},                                                               // everywhere
		{`AccessAnalyzerService/ListSubjectAccessBindings subject_id `, append(unknown, codes.OK)},                                    // who has nothing
		{`UserService/DeleteMembership subject_id empty$`, append(unknown, codes.FailedPrecondition)},                                 // the caller itself
		{`PermissionService/\w+ (subject|subject_type|resource_type|within|at)[. ]`, append(unknown, codes.OK, codes.OutOfRange)},     // whoever is not there may nothing
		{`OsLoginService/\w+ login`, append(accepted, codes.AlreadyExists)},
		{`saml\.FederationService/\w+ auto_create_account_on_login `, accepted},                                // not the login of anybody
		{`saml\.FederationService/(Suspend|Reactivate)UserAccounts subject_ids`, append(unknown, r.inside)},    // all or none of them
		{`GroupMappingService/UpdateItems group_mapping_item_deltas\[0\]\.item\.external_group_id `, accepted}, // the provider's own, in any form
		{`OsLoginService/CreateProfile subject_id empty$`, append(unknown, codes.OK)},                          // the caller itself
		{`UserSshKeyService/List subject_id`, append(unknown, codes.OK)},                                       // who has none
		{`OAuthClientService/Create profile_id empty$`, accepted},                                              // the usual one
		{`PermissionService/Explain decision_id empty$`, accepted},
		{`PermissionService/Preview update`, append(unknown, codes.OK, codes.FailedPrecondition)},
		{`IamTokenService/Revoke iam_token `, refused},
		{`KeyService/(List|Create) service_account_id empty$`, accepted},                             // SK-5
		{`RefreshTokenService/(List|Revoke) (revoke_filter\.)?subject_id empty$`, accepted},          // the caller
		{`RefreshTokenService/Revoke revoke_filter(\.client_id|\.client_instance_info)? `, accepted}, // nothing may fit
		{`RefreshTokenService/Revoke (refresh_token|refresh_token_id) `, unknown},
		{`SessionService/CreateSession client_(id|instance_info) `, accepted},
		{`[ .](page_size|description|title|labels|sources)[ .\[]`, accepted},
		{`[ .]name `, append(accepted, codes.AlreadyExists)},
		{`[ .](page_token|filter) `, append(refused, r.inside)},
		{`[ .](iam_token|yandex_passport_oauth_token|oauth_token|jwt|api_key|iam_cookie|refresh_token|signature)[ .]`, append(unproven, r.inside)},
		{`OperatorService/(CreateNotice (also|at|late)|ListDeliveries)`, append(refused, codes.OK)},
		{`GrantPolicyService/\w+ .*(condition|places|organization |no_principal|tags)`, append(unknown, r.inside)},
		{`GrantPolicyService/\w+ .*permission_sets`, append(unknown, r.inside)},
		{`GrantPolicyService/\w+ subject(\.| )`, append(unknown, r.inside, codes.FailedPrecondition)},
		{`SetAccessBindings access_bindings`, append(unknown, r.inside, codes.FailedPrecondition)},
		{`(_id|[ .]id|type|login|permission) `, unknown},
		{`.`, append(refused, r.inside)},
	} {
		if regexp.MustCompile(c.field).MatchString(r.method + " " + m.String()) {
			if r.inside == codes.Unimplemented {
				c.codes = append(c.codes, r.inside)
			}
			fields := []string{m.field}
			if strings.HasPrefix(m.field, "rules[0].places") {
				fields = append(fields, "rules[0].permission_sets") // those given on an organization do not fit places
			}
			return expectation{c.codes, fields}
		}
	}
	return expectation{}
}

// internalText is what no answer may show.
var internalText = regexp.MustCompile(`(?i)pq:|pgx|sqlite|sqlstate|constraint|SELECT |INSERT |\bgoroutine\b|panic|\.go:|\*?[a-z0-9]+v[12]\.[A-Z]|proto: |protobuf|unmarshal|grpc:|desc = |/home/|/root/|/tmp/|runtime error|nil pointer|context canceled`)

// decisionID is the sealed id of a denial: any letters may come in it.
var decisionID = regexp.MustCompile(`"decisionId":\s*"[A-Za-z0-9_-]*"`)

// leaks returns the internal text in an answer, or what a terminal could not show
// as it is.
func leaks(st *status.Status) string {
	raw, err := protojson.Marshal(st.Proto())
	if err != nil {
		return err.Error()
	}
	for _, s := range append(messages(st), string(raw)) {
		if problem := text.Problem(s); problem != "" {
			return fmt.Sprintf("%.200q: %s", s, problem)
		}
	}
	return internalText.FindString(decisionID.ReplaceAllString(string(raw), ""))
}

func messages(st *status.Status) []string {
	all := []string{st.Message()}
	for _, d := range st.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				all = append(all, v.GetField(), v.GetDescription())
			}
		}
	}
	return all
}

// describe is an answer in one line.
func describe(st *status.Status) string {
	return fmt.Sprintf("%s %q naming %q", st.Code(), cut(st.Message()), violated(st))
}

func cut(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
