package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pkgserver "github.com/bindery-iam/bindery/pkg/server"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// Sizes of the random history.
const (
	crowd          = 64 // clients at once
	crowdUsers     = 8  // whose requests they act on
	crowdProducts  = 2
	crowdRounds    = 2 // each ended by a kill
	crowdRoundTime = 4 * time.Second
)

// history is what clients were told.
type history struct {
	mu       sync.Mutex
	acted    map[string]map[string]bool  // by request: the actions that were acknowledged
	messages map[string]map[int64]string // by request: the texts that were acknowledged, by number
	texts    int                         // how many were written: each is another one
	lost     []string                    // what must not have happened
}

func (h *history) did(requestID, action string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.acted[requestID] == nil {
		h.acted[requestID] = map[string]bool{}
	}
	h.acted[requestID][action] = true
}

func (h *history) said(requestID string, number int64, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.messages[requestID] == nil {
		h.messages[requestID] = map[int64]string{}
	}
	if h.messages[requestID][number] != "" {
		h.lost = append(h.lost, fmt.Sprintf("message %d of %s was acknowledged twice", number, requestID))
	}
	h.messages[requestID][number] = text
}

// text is what a message says: something that no other one says.
func (h *history) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.texts++
	return fmt.Sprint("Hello number ", h.texts)
}

// any returns some request that was filed.
func (h *history) any(r *rand.Rand) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := r.IntN(max(1, len(h.acted)))
	for id := range h.acted {
		if n--; n < 0 {
			return id
		}
	}
	return "none"
}

// town is the world of the random history.
type town struct {
	*walker
	owner, decider string // tokens
	users          []user
	tokens         []string
	folder         string
	products       []string
	requests       marketplacev1.ProductAccessRequestServiceClient
	desk           marketplacev1.OperatorServiceClient
}

func newTown(t *testing.T, s *server) *town {
	t.Helper()
	w := &town{walker: newWalker(t, s, false)}
	s.createUser("owner")
	decider := s.createUser("decider")
	w.owner, w.decider = s.createToken("owner"), s.createToken("decider")
	account, publisher := new(partnerv1.BillingAccount), new(marketplacev1.Publisher)
	w.made(w.owner, "bindery.partner.v1.BillingAccountService/CreateBillingAccount", "",
		&partnerv1.CreateBillingAccountRequest{Name: "acme", CountryCode: "RU", Currency: "RUB"}, account)
	w.made(w.owner, "bindery.marketplace.v1.PublisherService/CreatePublisher", "",
		&marketplacev1.CreatePublisherRequest{BillingAccountId: account.GetId(), Name: "Acme"}, publisher)
	w.give(w.owner, "marketplace.publisher", publisher.GetId(), "marketplace.productAccessRequests.publisher", decider.ID)
	for i := range crowdProducts {
		p := new(marketplacev1.Product)
		w.made(w.owner, productsOf+"CreateProduct", "", &marketplacev1.CreateProductRequest{
			PublisherId: publisher.GetId(), Slug: fmt.Sprintf("thing-%d", i), Type: marketplacev1.Product_SAAS, Names: map[string]string{"en": "Thing"},
			Access: marketplacev1.Product_ON_REQUEST,
		}, p)
		w.made(w.owner, productsOf+"SubmitProduct", "", &marketplacev1.SubmitProductRequest{ProductId: p.GetId()}, p)
		w.platform(p, "product", "approve", "--product", p.GetId())
		w.products = append(w.products, p.GetId())
	}
	cloud, folder := new(rmv1.Cloud), new(rmv1.Folder)
	w.made(w.owner, "yandex.cloud.resourcemanager.v1.CloudService/Create", "", &rmv1.CreateCloudRequest{Name: "prod"}, cloud)
	w.made(w.owner, "yandex.cloud.resourcemanager.v1.FolderService/Create", "", &rmv1.CreateFolderRequest{CloudId: cloud.GetId(), Name: "main"}, folder)
	w.folder = folder.GetId()
	for i := range crowdUsers {
		u := s.createUser(fmt.Sprint("user", i))
		w.give(w.owner, "resource-manager.folder", w.folder, "viewer", u.ID)
		w.users, w.tokens = append(w.users, u), append(w.tokens, s.createToken(u.Login))
	}
	w.connect()
	return w
}

// give gives a role, as whoever a token is of.
func (w *town) give(token, typ, id, role, to string) {
	w.t.Helper()
	w.made(token, "bindery.access.v1.AccessBindingService/UpdateAccessBindings", "", &accessv1.UpdateAccessBindingsRequest{
		Resource: &accessv1.Resource{Type: typ, Id: id}, AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
			Action:        accesspb.AccessBindingAction_ADD,
			AccessBinding: &accessv1.AccessBinding{RoleId: role, Subject: &accessv1.Subject{Type: "userAccount", Id: to}},
		}},
	}, new(accesspb.AccessBindingsOperationResult))
}

// connect makes the clients anew, after a start.
func (w *town) connect() {
	w.t.Helper()
	w.walker = newWalker(w.t, w.s, false)
	w.requests = marketplacev1.NewProductAccessRequestServiceClient(w.conn)
	socket, err := pkgserver.DialOperator(w.s.deskOf("marketplacerequests"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = socket.Close() }) // the test is over
	w.desk = marketplacev1.NewOperatorServiceClient(socket)
}

func as(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// step takes one random action.
func (w *town) step(ctx context.Context, r *rand.Rand, h *history) {
	id, i := h.any(r), r.IntN(crowdUsers)
	switch r.IntN(8) {
	case 0, 1:
		op, err := w.requests.CreateProductAccessRequest(as(ctx, w.tokens[i]), &marketplacev1.CreateProductAccessRequestRequest{
			ProductId: w.products[r.IntN(crowdProducts)], FolderId: w.folder, Reason: "To work.",
		})
		made := new(marketplacev1.ProductAccessRequest)
		if err == nil && op.GetResponse().UnmarshalTo(made) == nil {
			h.did(made.GetId(), "create")
		}
	case 2:
		if _, err := w.requests.ApproveProductAccessRequest(as(ctx, w.decider), &marketplacev1.ApproveProductAccessRequestRequest{RequestId: id}); err == nil {
			h.did(id, "approve")
		}
	case 3:
		if _, err := w.requests.RejectProductAccessRequest(as(ctx, w.decider), &marketplacev1.RejectProductAccessRequestRequest{RequestId: id}); err == nil {
			h.did(id, "reject")
		}
	case 4:
		if _, err := w.requests.CancelProductAccessRequest(as(ctx, w.tokens[i]), &marketplacev1.CancelProductAccessRequestRequest{RequestId: id}); err == nil {
			h.did(id, "cancel")
		}
	case 5:
		if _, err := w.desk.RevokeAccessRequest(ctx, &marketplacev1.RevokeAccessRequestRequest{RequestId: id, Reason: "As asked."}); err == nil {
			h.did(id, "revoke")
		}
	default:
		text := h.text()
		op, err := w.requests.CreateProductAccessRequestMessage(as(ctx, w.decider), &marketplacev1.CreateProductAccessRequestMessageRequest{RequestId: id, Text: text})
		meta := new(marketplacev1.CreateProductAccessRequestMessageMetadata)
		if err == nil && op.GetMetadata().UnmarshalTo(meta) == nil {
			h.said(meta.GetRequestId(), meta.GetNumber(), text)
		}
	}
}

// wanted are the states that an acknowledged action leaves behind, whatever came later.
var wanted = map[string][]marketplacev1.ProductAccessRequest_State{
	"approve": {marketplacev1.ProductAccessRequest_APPROVED, marketplacev1.ProductAccessRequest_REVOKED},
	"reject":  {marketplacev1.ProductAccessRequest_REJECTED},
	"cancel":  {marketplacev1.ProductAccessRequest_CANCELED},
	"revoke":  {marketplacev1.ProductAccessRequest_REVOKED},
}

// Many clients at random on the same requests, the process killed under them: what they
// were told is so, one live request per pair, no message lost or doubled, and exactly
// those approved pass the check.
func TestRandomProductAccess(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *server) {
		w := newTown(t, s)
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		h := &history{acted: map[string]map[string]bool{}, messages: map[string]map[int64]string{}}
		for round := range crowdRounds {
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			for i := range crowd {
				r := rand.New(rand.NewPCG(seed, uint64(round*crowd+i)))
				all.Go(func() {
					for ctx.Err() == nil {
						call, end := context.WithTimeout(ctx, 10*time.Second)
						w.step(call, r, h)
						end()
					}
				})
			}
			time.Sleep(crowdRoundTime) // how long they go on, not what is waited for
			s.kill()
			cancel()
			all.Wait()
			s.start()
			w.connect()
		}
		w.judge(h)
	})
}

// judge looks at what there is, once all jobs that the kills left are done.
func (w *town) judge(h *history) {
	w.t.Helper()
	if len(h.acted) < crowdUsers {
		w.t.Fatalf("only %d requests were filed", len(h.acted))
	}
	for _, lost := range h.lost {
		w.t.Error(lost)
	}
	found := map[string]*marketplacev1.ProductAccessRequest{}
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) { // jobs go on beside the test
		clear(found)
		settled := true
		for req := (&marketplacev1.ListAccessRequestsRequest{PageSize: 1000}); ; {
			resp, err := w.desk.ListAccessRequests(w.t.Context(), req)
			if err != nil {
				w.t.Fatal(err)
			}
			for _, r := range resp.GetRequests() {
				found[r.GetId()] = r
				settled = settled && r.GetSettled()
			}
			if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		if settled {
			break
		}
		if time.Now().After(end) {
			w.t.Fatal("not all decisions are in force within a minute")
		}
	}
	live, approved := map[string]int{}, map[string]bool{}
	for id, r := range found {
		pair := r.GetRequesterId() + " " + r.GetProductId()
		if s := r.GetState(); s == marketplacev1.ProductAccessRequest_PENDING || s == marketplacev1.ProductAccessRequest_APPROVED {
			live[pair]++
			approved[pair] = approved[pair] || s == marketplacev1.ProductAccessRequest_APPROVED
		}
		w.judgeMessages(id, r.GetMessageCount(), h.messages[id])
	}
	for pair, n := range live {
		if n > 1 {
			w.t.Errorf("%s has %d live requests", pair, n)
		}
	}
	for id, acts := range h.acted {
		r := found[id]
		if r == nil {
			w.t.Errorf("the request %s was acknowledged, and is lost", id)
			continue
		}
		for act := range acts {
			if states := wanted[act]; states != nil && !slices.Contains(states, r.GetState()) {
				w.t.Errorf("%s of %s was acknowledged, and it is %s", act, id, r.GetState())
			}
		}
	}
	for _, product := range w.products {
		w.judgeUsers(product, approved)
	}
	for i, u := range w.users {
		for _, product := range w.products {
			err := w.conn.Invoke(as(w.t.Context(), w.tokens[i]), "/"+productsOf+"CheckAccess", &marketplacev1.CheckAccessRequest{ProductId: product}, new(marketplacev1.CheckAccessResponse))
			want := codes.PermissionDenied
			if approved[u.ID+" "+product] {
				want = codes.OK
			}
			if status.Code(err) != want {
				w.t.Errorf("the check of %s on %s: %v, want %s", u.Login, product, err, want)
			}
		}
	}
	w.t.Logf("%d requests, %d of them acknowledged", len(found), len(h.acted))
}

// judgeUsers holds the users of a product to those approved: all of them, each once, and
// nobody else.
func (w *town) judgeUsers(product string, approved map[string]bool) {
	w.t.Helper()
	resp := new(marketplacev1.ListProductUsersResponse)
	err := w.conn.Invoke(as(w.t.Context(), w.decider), "/"+productsOf+"ListProductUsers", &marketplacev1.ListProductUsersRequest{ProductId: product}, resp)
	if err != nil {
		w.t.Fatal(err)
	}
	var got, want []string
	for _, u := range resp.GetUsers() {
		got = append(got, u.GetSubjectId())
	}
	for _, u := range w.users {
		if approved[u.ID+" "+product] {
			want = append(want, u.ID)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Errorf("the users of %s are %v, want %v", product, got, want)
	}
}

// judgeMessages holds the messages of a request to their numbers, and to those that
// were acknowledged: none is lost, none there twice.
func (w *town) judgeMessages(id string, count int64, said map[int64]string) {
	w.t.Helper()
	var next int64 = 1
	texts := map[string]bool{}
	for req := (&marketplacev1.ListMessagesRequest{RequestId: id, PageSize: 1000}); ; {
		resp, err := w.desk.ListMessages(w.t.Context(), req)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, m := range resp.GetMessages() {
			if m.GetNumber() != next {
				w.t.Errorf("message %d of %s where %d is next", m.GetNumber(), id, next)
			}
			next = m.GetNumber() + 1
			if text := said[m.GetNumber()]; text != "" && text != m.GetText() || texts[m.GetText()] {
				w.t.Errorf("message %d of %s says %q, acknowledged was %q", m.GetNumber(), id, m.GetText(), text)
			}
			texts[m.GetText()] = true
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if next != count+1 {
		w.t.Errorf("%s has %d messages, and says %d", id, next-1, count)
	}
	for number := range said {
		if number >= next {
			w.t.Errorf("message %d of %s was acknowledged, and is lost", number, id)
		}
	}
}
