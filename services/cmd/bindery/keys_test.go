package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// reads begin the names of methods that change nothing.
var reads = []string{"Get", "BatchGet", "List", "Resolve", "Download", "Authenticate", "Authorize", "BulkAuthorize", "Export"}

// repeatable are the methods that change something, ignore the idempotency key, and
// why a repetition does no harm.
var repeatable = map[string]string{
	"/bindery.access.v1.ChangeService/Follow":                                                  "writes nothing",
	"/bindery.access.v1.GrantService/EndGrant":                                                 "finds the grant ended",
	"/bindery.access.v1.GrantService/PutGrant":                                                 "finds the grant made, or ended for good",
	"/bindery.access.v1.PayerService/SetPayer":                                                 "finds this version of who pays, or a later one",
	"/bindery.access.v1.PayerService/SetPayerStopped":                                          "finds this version of its state, or a later one",
	"/bindery.access.v1.PermissionService/Explain":                                             "writes nothing",
	"/bindery.access.v1.PermissionService/Preview":                                             "writes nothing",
	"/bindery.access.v1.PermissionService/TestPermissions":                                     "writes nothing",
	"/bindery.marketplace.v1.OperatorService/ReviewProduct":                                    "finds the product decided so (MR-3)",
	"/bindery.marketplace.v1.OperatorService/RevokeAccessRequest":                              "finds the access taken back (MR-8)",
	"/bindery.partner.v1.UsageIngestService/IngestUsage":                                       "finds the records taken, by their ids (US-1)",
	"/bindery.partner.v1.MoneyOperatorService/IngestUsage":                                     "finds the records taken, by their ids (US-1)",
	"/bindery.partner.v1.MoneyOperatorService/LoadCatalog":                                     "finds everything as it is to be",
	"/bindery.partner.v1.MoneyOperatorService/PostAccrual":                                     "finds the accrual booked, by its id (US-6)",
	"/bindery.partner.v1.MoneyOperatorService/SetBalance":                                      "finds the balance as it is to be",
	"/bindery.partner.v1.MoneyOperatorService/SetSpecialization":                               "finds the specialization as it is to be",
	"/bindery.access.v1.ResourceService/CheckGiver":                                            "writes nothing",
	"/bindery.access.v1.ResourceService/UpdateAutomaticBindings":                               "finds the bindings as they are to be",
	"/bindery.identity.v1.DirectoryService/FindUsers":                                          "writes nothing",
	"/bindery.marketplace.v1.ProductService/CheckAccess":                                       "writes nothing",
	"/bindery.marketplace.v1.ProductAccessRequestService/MarkProductAccessRequestMessagesRead": "finds the messages read",
	"/bindery.access.v1.RoleRequestService/MarkRoleRequestMessagesRead":                        "finds the messages read",
	"/bindery.support.v1.TicketService/MarkTicketCommentsRead":                                 "finds the comments read",
	"/bindery.support.v1.TicketService/UploadTicketAttachment":                                 "finds the same file attached (ST-4)",
	"/bindery.support.v1.OperatorService/CloseAnyTicket":                                       "finds the ticket closed (ST-3)",
	"/bindery.resourcemanager.v1.CustomerOrganizationService/CreateCustomerOrganization":       "finds the organization made, by the id that its caller chose",
	"/bindery.access.v1.ResourceService/RegisterResource":                                      "finds the resource registered",
	"/bindery.access.v1.ResourceService/MoveResource":                                          "finds the resource moved",
	"/bindery.access.v1.ResourceService/RemoveResource":                                        "finds the resource removed",
	"/bindery.access.v1.SubjectService/SetSubject":                                             "finds the subject in that state",
	"/bindery.access.v1.SubjectService/UpdateMembers":                                          "finds the members as they are to be",
	"/bindery.access.v1.SubjectService/UpdateMemberships":                                      "finds the memberships as they are to be",
	"/bindery.notification.v1.NotificationService/Notify":                                      "finds the notice taken, by its id",
	"/bindery.access.v1.SubjectService/RemoveMembership":                                       "finds the subject out of the organization",
	"/bindery.access.v1.SubjectService/RevokeToken":                                            "finds the token revoked",
	"/bindery.access.v1.SubjectService/RevokeSessions":                                         "finds the sessions revoked",
	"/yandex.cloud.organizationmanager.v1.SshCertificateService/Generate":                      "signs the same key once more, for the same hour",
	"/bindery.identity.v1.ApiKeyTokenService/CreateTokenForApiKey":                             "issues another token, and ends none (TK-2)",
	"/bindery.identity.v1.TokenExchangeService/ExchangeToken":                                  "issues another token, and ends none (TK-2)",
	"/yandex.cloud.iam.v1.IamTokenService/Create":                                              "issues another token, and ends none (TK-2)",
	"/yandex.cloud.iam.v1.IamTokenService/CreateForServiceAccount":                             "issues another token, and ends none (TK-2)",
	"/yandex.cloud.iam.v1.IamTokenService/Revoke":                                              "finds the token revoked (TK-3)",
	"/bindery.identity.v1.OperatorService/CreateToken":                                         "issues another token, and ends none (TK-2)",
	"/bindery.identity.v1.OperatorService/LinkUser":                                            "finds the account linked to the user",
	"/bindery.identity.v1.OperatorService/UnlinkUser":                                          "finds nobody linked to the account",
	"/bindery.identity.v1.WebService/Serve":                                                    "what is used once is refused the second time: states, codes and refresh tokens",
	"/bindery.identity.v1.OperatorService/SuspendUser":                                         "finds the user suspended",
	"/bindery.identity.v1.OperatorService/ReactivateUser":                                      "finds the user active",
	"/bindery.identity.v1.OperatorService/DeleteUser":                                          "finds no user of that login",
}

// TestEveryWriteHonoursIdempotencyKeys holds every registered method to one of three:
// it reads, it makes its write once for each key, or a repetition does no harm.
func TestEveryWriteHonoursIdempotencyKeys(t *testing.T) {
	left := maps.Clone(repeatable)
	for _, p := range builtParts(t) {
		for _, md := range registered(t, p) {
			name := "/" + string(md.Parent().FullName()) + "/" + string(md.Name())
			read := slices.ContainsFunc(reads, func(verb string) bool { return strings.HasPrefix(string(md.Name()), verb) })
			keyed := p.Keys != nil && (md.Output().FullName() == "yandex.cloud.operation.Operation" || slices.Contains(p.Keyed, name))
			why := repeatable[name]
			delete(left, name)
			switch {
			case read && (keyed || why != ""):
				t.Errorf("%s reads, by its name, and is said to write", name)
			case !read && keyed == (why != ""):
				t.Errorf("%s: name it in its unit's Keyed, or say here why a repetition does no harm; not both", name)
			}
		}
	}
	for name := range left {
		t.Errorf("%s is not registered", name)
	}
}

// builtParts builds all units and returns what they gave.
func builtParts(t *testing.T) []*server.Parts {
	t.Helper()
	c, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	all := units()
	parts := make([]*server.Parts, len(all))
	for i := range all {
		build := all[i].Build
		all[i].Build = func(ctx context.Context, base server.Base) (*server.Parts, error) {
			p, err := build(ctx, base)
			parts[i] = p
			return p, err
		}
	}
	servertest.Start(t, servertest.Options{Units: all, DB: sqldbtest.Open(t, sqldb.SQLite, "bindery", nil), Catalog: c})
	return parts
}

// registered returns the methods that a unit registers, at all its doors.
func registered(t *testing.T, p *server.Parts) []protoreflect.MethodDescriptor {
	t.Helper()
	var names serviceNames
	p.Register(&names)
	if p.RegisterOperator != nil {
		p.RegisterOperator(&names)
	}
	var methods []protoreflect.MethodDescriptor
	for _, name := range names {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			t.Fatal(err)
		}
		service, ok := d.(protoreflect.ServiceDescriptor)
		if !ok {
			t.Fatalf("%s is not a service", name)
		}
		for i := range service.Methods().Len() {
			methods = append(methods, service.Methods().Get(i))
		}
	}
	return methods
}

// serviceNames is a registrar that keeps names.
type serviceNames []string

// RegisterService keeps the name of a service.
func (n *serviceNames) RegisterService(desc *grpc.ServiceDesc, _ any) {
	*n = append(*n, desc.ServiceName)
}
