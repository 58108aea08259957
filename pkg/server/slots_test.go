package server_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// Of the calls that are let in only some run, 32 for each processor; the others wait
// and are answered. Checks wait for nobody.
func TestFewOfTheCallsRunAtOnce(t *testing.T) {
	w := start(t, nil)
	slots := 32 * runtime.GOMAXPROCS(0)
	calls := slots + 8
	client := iamv1.NewUserAccountServiceClient(w.Conn)
	var all sync.WaitGroup
	defer all.Wait()
	defer close(w.release)
	for range calls {
		all.Go(func() {
			if _, err := client.Get(w.User("good"), &iamv1.GetUserAccountRequest{UserAccountId: "slow"}); err != nil {
				t.Error(err)
			}
		})
	}
	runs := func() bool {
		select {
		case <-w.entered:
			return true
		case <-time.After(20 * time.Second): // so that it fails and does not hang
			return false
		}
	}
	for n := range slots {
		if !runs() {
			t.Fatalf("%d calls run at once, want %d", n, slots)
		}
	}
	if _, err := accessservicev2.NewAccessServiceClient(w.Conn).Authorize(w.User("good"), &accessservicev2.AuthorizeRequest{
		Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: "t1.a.b"}, Permission: "p",
		ResourcePath: []*accessservicev2.Resource{{Type: "t", Id: "i"}},
	}); err != nil {
		t.Errorf("a check: %v", err)
	}
	select {
	case <-w.entered:
		t.Errorf("more than %d calls run at once", slots)
	default:
	}
	for range calls - slots {
		w.release <- struct{}{}
		if !runs() {
			t.Fatal("a call has ended and none that waited runs")
		}
	}
}
