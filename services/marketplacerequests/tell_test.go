package marketplacerequests

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/request"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

func TestMR14_EachSideIsToldOnce(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.customer("ann")
		product := w.product(onRequest)
		id := w.mustAsk(ann, product)
		w.must(w.say(ann.person, id, "secret words"))
		w.must(w.say(w.pia, id, "more of them"))
		w.must(w.approve(w.pia, id))
		w.must(w.approve(w.pia, id)) // no news
		w.must(w.revoke(id))
		want := []string{
			"access_request.approved:" + id + ":requester", "access_request.created:" + id + ":decider",
			"access_request.message:" + id + ":decider:1", "access_request.message:" + id + ":requester:2",
			"access_request.revoked:" + id + ":decider", "access_request.revoked:" + id + ":requester",
		}
		var got []string
		w.eventually("all are told", func() bool {
			got = w.notices(func(n *notificationv1.Notice) {
				if n.GetDetails()["request_id"] != id || n.GetDetails()["target"] != typeRequest+":"+id || strings.Contains(n.GetText(), "secret") {
					t.Errorf("the notice %v", n)
				}
				address := map[bool]string{true: "ann@people.example", false: "pia@people.example"}[strings.Contains(n.GetId(), ":requester")]
				if to := n.GetAddresses().GetEmails(); !slices.Equal(to, []string{address}) {
					t.Errorf("%s goes to %v, want %s", n.GetId(), to, address)
				}
			})
			return len(got) >= len(want)
		})
		if !slices.Equal(got, want) {
			t.Errorf("told of %v, want %v", got, want)
		}
		// A job that is executed again tells nothing new.
		w.must(w.service.tell(t.Context(), telling{id, "access_request.approved", 0, request.Requester}))
		if again := w.notices(nil); len(again) != len(want) {
			t.Errorf("told again: %v", again)
		}
	})
}

// notices are the ids of those that were taken about requests, ordered.
func (w *world) notices(each func(*notificationv1.Notice)) (ids []string) {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), `SELECT body FROM notifications_notices WHERE event LIKE 'access_request.%' ORDER BY id`)
	w.must(err)
	defer rows.Close()
	for rows.Next() {
		var body []byte
		w.must(rows.Scan(&body))
		n := new(notificationv1.Notice)
		w.must(proto.Unmarshal(body, n))
		ids = append(ids, n.GetId())
		if each != nil {
			each(n)
		}
	}
	w.must(rows.Err())
	return ids
}
