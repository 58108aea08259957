package marketplacerequests

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/revision"
	"github.com/bindery-iam/bindery/pkg/thread"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
)

const onRequest, public = marketplacev1.Product_ON_REQUEST, marketplacev1.Product_PUBLIC

// A decision of this unit tells which revision of the facts it is in force with, though
// another unit keeps those; one that changes nothing there tells none.
func TestDecisionsTellTheirRevision(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		asked := w.mustAsk(w.customer("ann"), w.product(onRequest))
		for _, revisions := range []int{1, 0} { // the second time it is approved already
			var trailer metadata.MD
			op, err := w.requests.ApproveProductAccessRequest(w.as(w.pia), &marketplacev1.ApproveProductAccessRequestRequest{RequestId: asked}, grpc.Trailer(&trailer))
			w.must(err)
			told := trailer.Get(access.RevisionTrailer)
			if len(told) != revisions {
				t.Fatalf("the trailer tells %q, want %d", told, revisions)
			}
			for _, text := range told {
				if r, ok := revision.Parse(text); !ok || r.Number == 0 {
					t.Errorf("the trailer tells %q", text)
				}
			}
			metadata := new(marketplacev1.ApproveProductAccessRequestMetadata)
			if err := op.GetMetadata().UnmarshalTo(metadata); err != nil || metadata.GetRevision() != strings.Join(told, "") {
				t.Errorf("the operation tells %v, %v; the trailer %q", metadata, err, told)
			}
		}
	})
}

// The documented flow, all three sides.
func TestMR6_MR8_MR9_TheFlow(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.customer("ann")
		product := w.product(onRequest)
		w.may(ann.person, product, false)
		_, err := w.install(ann, product, "thing")
		w.refused("install without access", err, apierr.ReasonPermissionDenied)

		first := w.mustAsk(ann, product)
		w.must(w.say(ann.person, first, "How long does it take?"))
		seen, err := w.requests.GetProductAccessRequest(w.as(w.pia), &marketplacev1.GetProductAccessRequestRequest{RequestId: first})
		w.must(err)
		if seen.GetReason() != "We need it." || seen.GetUnreadCount() != 1 || seen.GetMessageCount() != 1 || seen.GetState() != marketplacev1.ProductAccessRequest_PENDING {
			t.Errorf("the publisher sees %v", seen)
		}
		w.must(w.say(w.pia, first, "A day."))
		w.must(w.approve(w.pia, first))
		w.may(ann.person, product, true)
		if got := w.users(product); got != ann.id {
			t.Errorf("users %q, want %q", got, ann.id)
		}
		installed, err := w.install(ann, product, "thing")
		w.must(err)

		w.must(w.plead(w.pia, first))
		listed, err := w.desk.ListAccessRequests(t.Context(), &marketplacev1.ListAccessRequestsRequest{RevocationRequested: true})
		w.must(err)
		if len(listed.GetRequests()) != 1 || listed.GetRequests()[0].GetId() != first || listed.GetRequests()[0].GetRevocationReason() != "They left." {
			t.Errorf("the platform is asked to revoke %v", listed.GetRequests())
		}
		own, err := w.requests.GetProductAccessRequest(w.as(ann.person), &marketplacev1.GetProductAccessRequestRequest{RequestId: first})
		w.must(err)
		if own.GetRevocationReason() != "" || own.GetUnreadCount() != 1 {
			t.Errorf("the requester sees %v", own)
		}
		w.must(w.revoke(first))
		w.may(ann.person, product, false)
		if got := w.users(product); got != "" {
			t.Errorf("users %q after the revocation", got)
		}
		_, err = w.install(ann, product, "another")
		w.refused("install after the revocation", err, apierr.ReasonPermissionDenied)
		if _, err := w.instances.GetProductInstance(w.as(ann.person), &marketplacev1.GetProductInstanceRequest{ProductInstanceId: installed}); err != nil {
			t.Errorf("what is installed stays: %v", err)
		}

		second := w.mustAsk(ann, product)
		w.may(ann.person, product, false)
		w.must(w.approve(w.pia, second))
		w.may(ann.person, product, true)
		w.must(w.revoke(first)) // again, of the old one: changes nothing
		w.may(ann.person, product, true)
	})
}

// actor is somebody who may try an action.
type actor string

const (
	theRequester actor = "requester"
	theDecider   actor = "holder on the publisher"
	onProduct    actor = "holder on the product"
	ofAnother    actor = "holder on another product"
	theOwner     actor = "owner of the publisher"
	aStranger    actor = "stranger"
	thePlatform  actor = "platform"
)

var actors = []actor{theRequester, theDecider, onProduct, ofAnother, theOwner, aStranger, thePlatform}

// cells is the table of actions: who may take one in which states. What is missing is
// refused. It is written from the documents, not from the grid.
var cells = map[request.Action]map[actor][]request.State{
	request.Post: {
		theRequester: {request.Pending}, theDecider: {request.Pending}, onProduct: {request.Pending},
		thePlatform: {request.Pending, request.Approved, request.Rejected, request.Revoked, request.Canceled},
	},
	request.Approve: {theDecider: {request.Pending, request.Approved}, onProduct: {request.Pending, request.Approved}}, // again succeeds
	request.Reject:  {theDecider: {request.Pending, request.Rejected}, onProduct: {request.Pending, request.Rejected}},
	request.Cancel:  {theRequester: {request.Pending, request.Canceled}},
	request.Plead:   {theDecider: {request.Approved}, onProduct: {request.Approved}},
	request.Revoke:  {thePlatform: {request.Approved, request.Revoked}},
}

// seeing are those who read a request, in every state.
var seeing = map[actor]bool{theRequester: true, theDecider: true, onProduct: true, thePlatform: true}

var outcomes = map[request.Action]request.State{
	request.Approve: request.Approved, request.Reject: request.Rejected, request.Cancel: request.Canceled, request.Revoke: request.Revoked,
}

// TestMR5_MR7_EveryActionOfEveryone takes every action as everyone in every state, for
// real, and looks at what became of the request and of the access.
func TestMR5_MR7_EveryActionOfEveryone(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		product, another := w.product(onRequest), w.product(onRequest)
		people := map[actor]person{
			theDecider: w.pia, onProduct: w.person("on-product"), ofAnother: w.person("of-another"), theOwner: w.olga, aStranger: w.person("stranger"),
		}
		w.give(w.olga, typeProduct, product, rolePublisher, people[onProduct])
		w.give(w.olga, typeProduct, another, rolePublisher, people[ofAnother])
		ann := w.customer("ann")
		people[theRequester] = ann.person
		in := func(s request.State) string {
			t.Helper()
			id := w.mustAsk(ann, product)
			switch s {
			case request.Approved:
				w.must(w.approve(w.pia, id))
			case request.Rejected:
				w.must(w.reject(w.pia, id))
			case request.Canceled:
				w.must(w.cancel(ann.person, id))
			case request.Revoked:
				w.must(w.approve(w.pia, id))
				w.must(w.revoke(id))
			default:
			}
			return id
		}
		for _, state := range []request.State{request.Pending, request.Approved, request.Rejected, request.Canceled, request.Revoked} {
			for _, who := range actors {
				for action, allowed := range cells {
					id := in(state)
					err := w.take(action, who, people[who], id)
					want := false
					for _, s := range allowed[who] {
						want = want || s == state
					}
					name := fmt.Sprintf("%s by %s in %s", action, who, state)
					if (err == nil) != want {
						t.Errorf("%s: %v, want allowed %v", name, err, want)
					}
					if err != nil && !refusals[apierr.ReasonOf(err)] {
						t.Errorf("%s: refused with %v", name, err)
					}
					after := state
					if want && outcomes[action] != "" {
						after = outcomes[action]
					}
					if got := w.state(id); got != string(after) {
						t.Errorf("%s: it is %s, want %s", name, got, after)
					}
					w.may(ann.person, product, after == request.Approved)
					if sees := w.sees(who, people[who], id); sees != seeing[who] {
						t.Errorf("%s in %s sees it: %v, want %v", who, state, sees, seeing[who])
					}
					switch after { // room for the next one
					case request.Pending:
						w.must(w.cancel(ann.person, id))
					case request.Approved:
						w.must(w.revoke(id))
					default:
					}
				}
			}
		}
	})
}

// refusals are the reasons for which an action may be refused there.
var refusals = map[string]bool{
	apierr.ReasonPermissionDenied: true, request.ReasonState: true, request.ReasonNotAllowed: true, request.ReasonOwn: true,
	notByAnyone: true,
}

// notByAnyone stands for a way that is not there: nobody revokes but over the socket,
// and the platform decides nothing.
const notByAnyone = "NOT_BY_ANYONE"

func (w *world) take(a request.Action, who actor, p person, id string) error {
	if who == thePlatform {
		switch a {
		case request.Post:
			_, err := w.desk.CreateMessage(w.t.Context(), &marketplacev1.CreateMessageRequest{RequestId: id, Text: "We look at it."})
			return err
		case request.Revoke:
			return w.revoke(id)
		default:
			return apierr.Denied(notByAnyone, "the platform has no way to")
		}
	}
	switch a {
	case request.Post:
		return w.say(p, id, "Hello.")
	case request.Approve:
		return w.approve(p, id)
	case request.Reject:
		return w.reject(p, id)
	case request.Cancel:
		return w.cancel(p, id)
	case request.Plead:
		return w.plead(p, id)
	default:
		return apierr.Denied(notByAnyone, "the socket is the operator's")
	}
}

func (w *world) sees(who actor, p person, id string) bool {
	if who == thePlatform {
		_, err := w.desk.GetAccessRequest(w.t.Context(), &marketplacev1.GetAccessRequestRequest{RequestId: id})
		return err == nil
	}
	_, err := w.requests.GetProductAccessRequest(w.as(p), &marketplacev1.GetProductAccessRequestRequest{RequestId: id})
	_, lerr := w.requests.ListProductAccessRequestMessages(w.as(p), &marketplacev1.ListProductAccessRequestMessagesRequest{RequestId: id})
	if (err == nil) != (lerr == nil) {
		w.t.Errorf("%s sees the request (%v) or its messages (%v) alone", who, err, lerr)
	}
	return err == nil
}

func TestBadRequests(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.customer("ann"), w.customer("bob")
		product, open, draft := w.product(onRequest), w.product(public), w.draft(onRequest)
		create := func(by person, productID, folderID, reason string) error {
			_, err := w.requests.CreateProductAccessRequest(w.as(by), &marketplacev1.CreateProductAccessRequestRequest{ProductId: productID, FolderId: folderID, Reason: reason})
			return err
		}
		w.refused("a product that is not there", create(ann.person, "none", ann.folder, "x"), ReasonProductNotFound)
		w.refused("a draft", create(ann.person, draft, ann.folder, "x"), ReasonProductNotFound)
		w.refused("a product for all", create(ann.person, open, ann.folder, "x"), ReasonNotOnRequest)
		w.refused("another's folder", create(ann.person, product, bob.folder, "x"), apierr.ReasonPermissionDenied)
		w.refused("a folder that is not there", create(ann.person, product, "none", "x"), apierr.ReasonResourceNotFound)
		for _, reason := range []string{"", "\n\n", strings.Repeat("x", 4001), "a\x00"} {
			w.refused(fmt.Sprintf("the reason %.10q", reason), create(ann.person, product, ann.folder, reason), apierr.ReasonInvalid)
		}
		id := w.mustAsk(ann, product)
		w.refused("a second one", create(ann.person, product, ann.folder, "x"), request.ReasonExists)
		w.must(w.say(ann.person, id, strings.Repeat("ж", thread.MaxCharacters)))
		for _, text := range []string{"", "\n", strings.Repeat("ж", thread.MaxCharacters+1), "\x1b[31m", "\u202E"} {
			w.refused(fmt.Sprintf("the message %.10q", text), w.say(ann.person, id, text), apierr.ReasonInvalid)
		}
		w.refused("approve what is not there", w.approve(w.pia, "none"), request.ReasonNotFound)
		w.refused("cancel what is not there", w.cancel(ann.person, "none"), request.ReasonNotFound)
		w.refused("cancel another's", w.cancel(bob.person, id), request.ReasonNotAllowed)
		w.must(w.cancel(ann.person, id))
		w.refused("approve after the cancellation", w.approve(w.pia, id), request.ReasonState)
		w.refused("a message after it", w.say(ann.person, id, "x"), request.ReasonState)
		for _, filter := range []string{`state = "NONE"`, `state`, `id = "x"`} {
			_, err := w.requests.ListProductAccessRequests(w.as(w.pia), &marketplacev1.ListProductAccessRequestsRequest{ProductId: product, Filter: filter})
			w.refused("the filter "+filter, err, apierr.ReasonInvalid)
		}
		_, err := w.requests.ListProductAccessRequests(w.as(w.pia), &marketplacev1.ListProductAccessRequestsRequest{ProductId: product, OrderBy: "reason"})
		w.refused("an order", err, apierr.ReasonInvalid)
	})
}
