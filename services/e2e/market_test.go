package e2e

import (
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// The documented flow, all three sides, as the README shows it: the publisher and the
// user by gRPC or by REST, the platform by the program.
func TestProductsOnRequest(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *server) {
		for _, rest := range []bool{false, true} {
			t.Run(map[bool]string{false: "grpc", true: "rest"}[rest], func(t *testing.T) {
				newWalker(t, s, rest).productOnRequest(map[bool]string{false: "g", true: "r"}[rest])
			})
		}
	})
}

const (
	requestsOf = "bindery.marketplace.v1.ProductAccessRequestService/"
	productsOf = "bindery.marketplace.v1.ProductService/"
)

func (m *walker) productOnRequest(suffix string) {
	m.t.Helper()
	owner, partner, user := m.s.createUser("owner-"+suffix), m.s.createUser("partner-"+suffix), m.s.createUser("user-"+suffix)
	tokens := map[string]string{}
	for _, u := range [][2]string{{"owner", owner.Login}, {"partner", partner.Login}, {"user", user.Login}} {
		tokens[u[0]] = m.s.createToken(u[1])
	}
	account := new(partnerv1.BillingAccount)
	m.made(tokens["owner"], "bindery.partner.v1.BillingAccountService/CreateBillingAccount", "/partner/v1/billingAccounts",
		&partnerv1.CreateBillingAccountRequest{Name: "acme", CountryCode: "RU", Currency: "RUB"}, account)
	publisher, product, request := new(marketplacev1.Publisher), new(marketplacev1.Product), new(marketplacev1.ProductAccessRequest)
	m.made(tokens["owner"], "bindery.marketplace.v1.PublisherService/CreatePublisher", "/marketplace/v1/publishers",
		&marketplacev1.CreatePublisherRequest{BillingAccountId: account.GetId(), Name: "Acme"}, publisher)
	m.made(tokens["owner"], productsOf+"CreateProduct", "/marketplace/v1/publishers/"+publisher.GetId()+"/products", &marketplacev1.CreateProductRequest{
		PublisherId: publisher.GetId(), Slug: "acme-db-" + suffix, Type: marketplacev1.Product_SAAS, Names: map[string]string{"en": "DB"},
		Access: marketplacev1.Product_ON_REQUEST,
	}, product)
	id := product.GetId()
	m.made(tokens["owner"], productsOf+"SubmitProduct", "/marketplace/v1/products/"+id+":submit", &marketplacev1.SubmitProductRequest{ProductId: id}, product)
	m.platform(product, "product", "approve", "--product", id)
	if product.GetState() != marketplacev1.Product_APPROVED {
		m.t.Fatalf("the product is %v", product)
	}
	m.made(tokens["owner"], "bindery.access.v1.AccessBindingService/UpdateAccessBindings", "/access/v1/marketplace.product/"+id+"/accessBindings:update",
		&accessv1.UpdateAccessBindingsRequest{
			Resource: &accessv1.Resource{Type: "marketplace.product", Id: id}, AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
				Action: accesspb.AccessBindingAction_ADD,
				AccessBinding: &accessv1.AccessBinding{
					RoleId: "marketplace.productAccessRequests.publisher", Subject: &accessv1.Subject{Type: "userAccount", Id: partner.ID},
				},
			}},
		}, new(accesspb.AccessBindingsOperationResult))
	cloud, folder := new(rmv1.Cloud), new(rmv1.Folder)
	m.made(tokens["user"], "yandex.cloud.resourcemanager.v1.CloudService/Create", "/resource-manager/v1/clouds", &rmv1.CreateCloudRequest{Name: "prod"}, cloud)
	m.made(tokens["user"], "yandex.cloud.resourcemanager.v1.FolderService/Create", "/resource-manager/v1/folders",
		&rmv1.CreateFolderRequest{CloudId: cloud.GetId(), Name: "main"}, folder)

	check := func(want codes.Code) {
		m.t.Helper()
		got := m.call(tokens["user"], productsOf+"CheckAccess", http.MethodGet, "/marketplace/v1/products/"+id+":checkAccess",
			&marketplacev1.CheckAccessRequest{ProductId: id}, new(marketplacev1.CheckAccessResponse))
		if got != want {
			m.t.Errorf("the check says %s, want %s", got, want)
		}
	}
	install := func(name string, want codes.Code) {
		m.t.Helper()
		got := m.call(tokens["user"], "bindery.marketplace.v1.ProductInstanceService/CreateProductInstance", http.MethodPost, "/marketplace/v1/productInstances",
			&marketplacev1.CreateProductInstanceRequest{FolderId: folder.GetId(), ProductId: id, Name: name}, new(operationpb.Operation))
		if got != want {
			m.t.Errorf("installing: %s, want %s", got, want)
		}
	}
	ask := func() {
		m.t.Helper()
		m.made(tokens["user"], requestsOf+"CreateProductAccessRequest", "/marketplace/v1/products/"+id+"/accessRequests",
			&marketplacev1.CreateProductAccessRequestRequest{ProductId: id, FolderId: folder.GetId(), Reason: "To keep our orders."}, request)
	}
	approve := func() {
		m.t.Helper()
		m.made(tokens["partner"], requestsOf+"ApproveProductAccessRequest", "/marketplace/v1/productAccessRequests/"+request.GetId()+":approve",
			&marketplacev1.ApproveProductAccessRequestRequest{RequestId: request.GetId()}, request)
	}
	check(codes.PermissionDenied)
	install("orders", codes.PermissionDenied)
	ask()
	at := "/marketplace/v1/productAccessRequests/" + request.GetId()
	m.made(tokens["user"], requestsOf+"CreateProductAccessRequestMessage", at+"/messages",
		&marketplacev1.CreateProductAccessRequestMessageRequest{RequestId: request.GetId(), Text: "How long does it take?"}, new(marketplacev1.Message))
	m.made(tokens["partner"], requestsOf+"CreateProductAccessRequestMessage", at+"/messages",
		&marketplacev1.CreateProductAccessRequestMessageRequest{RequestId: request.GetId(), Text: "A day."}, new(marketplacev1.Message))
	messages := new(marketplacev1.ListProductAccessRequestMessagesResponse)
	m.call(tokens["user"], requestsOf+"ListProductAccessRequestMessages", http.MethodGet, at+"/messages",
		&marketplacev1.ListProductAccessRequestMessagesRequest{RequestId: request.GetId()}, messages)
	if all := messages.GetMessages(); len(all) != 2 || all[1].GetText() != "A day." || all[1].GetSide() != marketplacev1.Message_PUBLISHER {
		m.t.Errorf("messages %v", all)
	}
	pending := new(marketplacev1.ListProductAccessRequestsResponse)
	m.call(tokens["partner"], requestsOf+"ListProductAccessRequests", http.MethodGet, "/marketplace/v1/products/"+id+`/accessRequests?filter=state%3D%22PENDING%22`,
		&marketplacev1.ListProductAccessRequestsRequest{ProductId: id, Filter: `state="PENDING"`}, pending)
	if len(pending.GetRequests()) != 1 || pending.GetRequests()[0].GetReason() != "To keep our orders." {
		m.t.Errorf("pending %v", pending)
	}
	approve()
	check(codes.OK)
	install("orders", codes.OK)
	users := new(marketplacev1.ListProductUsersResponse)
	m.call(tokens["partner"], productsOf+"ListProductUsers", http.MethodGet, "/marketplace/v1/products/"+id+"/users", &marketplacev1.ListProductUsersRequest{ProductId: id}, users)
	if len(users.GetUsers()) != 1 || users.GetUsers()[0].GetSubjectId() != user.ID {
		m.t.Errorf("users %v", users)
	}
	m.made(tokens["partner"], requestsOf+"RequestRevocation", at+":requestRevocation",
		&marketplacev1.RequestRevocationRequest{RequestId: request.GetId(), Reason: "They left."}, request)
	if listed := string(command(m.t, "access-request", "list", "--revocation-requested", "--product", id, "--data-dir", m.s.dataDir)); strings.Count(listed, "They left.") != 1 {
		m.t.Errorf("the platform is asked to revoke %s", listed)
	}
	m.platform(request, "access-request", "revoke", "--request", request.GetId(), "--reason", "As asked.")
	if request.GetState() != marketplacev1.ProductAccessRequest_REVOKED {
		m.t.Errorf("the request is %v", request)
	}
	check(codes.PermissionDenied)
	install("more", codes.PermissionDenied)
	ask()
	check(codes.PermissionDenied)
	approve()
	check(codes.OK)
	install("more", codes.OK)
}
