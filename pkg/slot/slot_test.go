package slot_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/bindery-iam/bindery/pkg/slot"
)

func TestSlotsAreTakenInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := slot.New(2)
		var (
			begun []int
			mu    sync.Mutex
			goOn  = make(chan struct{})
			all   sync.WaitGroup
		)
		for n := range 10 {
			all.Go(func() {
				_, done, err := p.Take(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				defer done()
				mu.Lock()
				begun = append(begun, n)
				mu.Unlock()
				<-goOn
			})
			synctest.Wait()
		}
		for n := range 10 {
			if want := min(2+n, 10); len(begun) != want {
				t.Errorf("%d have begun when %d had ended, want %d", len(begun), n, want)
			}
			goOn <- struct{}{}
			synctest.Wait()
		}
		all.Wait()
		if !slices.IsSorted(begun) {
			t.Errorf("begun in the order %v", begun)
		}
	})
}

// Who waits for others gives up the slot once, however many goroutines of it wait, and
// has it back without waiting.
func TestAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := slot.New(1)
		ctx, done, err := p.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var (
			running atomic.Int64
			all     sync.WaitGroup
			goOn    = make(chan struct{})
		)
		for range 3 {
			all.Go(func() {
				_, leave, err := p.Take(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				running.Add(1)
				<-goOn
				leave()
			})
		}
		expect := func(when string, want int64) {
			t.Helper()
			synctest.Wait()
			if got := running.Load(); got != want {
				t.Errorf("%s: %d others run, want %d", when, got, want)
			}
		}
		expect("while it runs", 0)
		first, second := slot.Aside(ctx), slot.Aside(ctx)
		expect("while it waits twice", 1)
		first()
		second() // at once, though the slot is another's
		expect("when it is back", 1)
		slot.Aside(ctx)()
		expect("after a wait of no length, with one too many running", 1)
		late := slot.Aside(ctx)
		done()
		late()
		expect("when it has ended", 1) // that one holds the slot
		slot.Aside(t.Context())()      // no call's
		close(goOn)
		all.Wait()
	})
}

func TestWhoGivesUpWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := slot.New(1)
		_, done, err := p.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() {
			_, _, err := p.Take(ctx)
			failed <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("gave up with %v", err)
		}
		done()
		_, done, err = p.Take(t.Context()) // would wait for ever if the slot were lost
		if err != nil {
			t.Fatal(err)
		}
		done()
	})
}
