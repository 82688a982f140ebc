package appendsink

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/object/objecttest"
)

// An event that is handed over while the epoch ends, or behind its end, is not
// taken: the budget is the process's, and what it held would be gone for good.
func TestAddBehindTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 20, 2)
		l := w.lane()
		set := l.newSet()
		ran := make(chan error, 1)
		go func() { ran <- set.Run(t.Context()) }()
		add(t, l, set, t.Context(), 1, 5)
		set.end(&ReuseError{Series: "x"})
		if err := <-ran; err == nil {
			t.Fatal("Run ended without a reason")
		}
		for i := 6; i <= 10; i++ {
			e, _ := w.at(i)
			var reuse *ReuseError
			if err := set.Add(t.Context(), l.target(&e), &e, e.Sequence); !errors.As(err, &reuse) {
				t.Fatalf("Add behind the end: %v, want the reason for it", err)
			}
		}
		w.idle()
	})
}

// Nobody waits for a series to be evicted once the epoch has ended.
func TestAddThatWaitsForASeriesEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 20, 2)
		w.open = 1
		w.store.SetFault(func(string, string, int) objecttest.Fault { return objecttest.NotApplied() })
		l := w.lane()
		set := l.newSet()
		ran := make(chan error, 1)
		go func() { ran <- set.Run(t.Context()) }()
		add(t, l, set, t.Context(), 1, 1)
		added := make(chan error, 1)
		e, _ := w.at(1)
		go func() { added <- set.Add(t.Context(), l.target(&e), &e, e.Sequence) }()
		time.Sleep(time.Second)
		set.end(ErrReplay)
		<-ran
		if err := <-added; !errors.Is(err, ErrReplay) {
			t.Errorf("Add: %v", err)
		}
		w.idle()
	})
}

// The end comes at every moment of a worker's work; nothing of the budget stays.
func TestBudgetAtTheEnd(t *testing.T) {
	for after := time.Duration(0); after < 120*time.Millisecond; after += time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 60, 2)
			w.budget = NewBudget(4 << 10)
			w.store.SetFault(func(op, key string, i int) objecttest.Fault {
				time.Sleep(time.Millisecond)
				switch {
				case strings.HasPrefix(key, "p/e/0.") && i%3 == 0:
					return objecttest.Hold()
				case i%5 == 0:
					return objecttest.Lost()
				}
				return objecttest.Fault{}
			})
			l := w.lane()
			set := l.newSet()
			ctx, cancel := context.WithCancel(t.Context())
			ran, fed := make(chan error, 1), make(chan struct{})
			go func() { ran <- set.Run(ctx) }()
			go func() {
				defer close(fed)
				for i := range 60 {
					e, _ := w.at(i)
					if set.Add(ctx, l.target(&e), &e, e.Sequence) != nil {
						return
					}
				}
			}()
			time.Sleep(after)
			if after%2 == 0 {
				set.end(ErrReplay)
				<-ran
				cancel()
			} else {
				cancel()
				<-ran
			}
			<-fed
			w.idle()
		})
		if t.Failed() {
			t.Fatalf("end after %v", after)
		}
	}
}

// A hold that ends between the decision to let an event go and its being let go
// must not be forgotten: without ErrReplay nothing would bring the event.
func TestForgottenAsTheHoldEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10, 1)
		w.budget = NewBudget(4 << 10)
		l := w.lane()
		set, ctx, stop := running(t, l)
		add(t, l, set, ctx, 1, 1)
		set.mu.Lock()
		s := set.series["e/0"]
		set.mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		s.held(errors.New("something about this very object"))
		if !set.mustForget("e/0", 2<<10) {
			t.Fatal("an event above the held series' share is to be kept")
		}
		s.freed()
		synctest.Wait()
		if err := stop(); !errors.Is(err, ErrReplay) {
			t.Errorf("the epoch ended with %v, want ErrReplay", err)
		}
	})
}

// The largest event goes through although a held series keeps its share of the
// budget, so that the budget is never empty.
func TestLargeEventPassesAHeldSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 40, 2)
		w.budget = NewBudget(16 << 10)
		w.store.SetFault(func(op, key string, i int) objecttest.Fault {
			if strings.HasPrefix(key, "p/e/0.") {
				return objecttest.Hold()
			}
			return objecttest.Fault{}
		})
		l := w.lane()
		set, ctx, stop := running(t, l)
		add(t, l, set, ctx, 1, 40)
		time.Sleep(time.Minute)
		synctest.Wait()
		big, _ := w.at(38)
		big.Sequence, big.Data = 41, []byte(`"`+strings.Repeat("x", 15<<10)+`"`)
		if big.Subject != "e.1" {
			t.Fatal("wrong series")
		}
		ctx, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		if err := set.Add(ctx, l.target(&big), &big, 41); err != nil {
			t.Errorf("Add: %v", err)
		}
		time.Sleep(time.Minute)
		if err := stop(); err != nil {
			t.Error(err)
		}
		if n := len(w.archived()["e/1"]); n != 21 {
			t.Errorf("the other series has %d events, want 21", n)
		}
		w.idle()
	})
}

// A drain that a held series outlasts says so, and leaves nothing behind.
func TestDrainWithAHeldSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10, 2)
		w.store.SetFault(func(op, key string, i int) objecttest.Fault {
			if strings.HasPrefix(key, "p/e/0.") {
				return objecttest.Hold()
			}
			return objecttest.Fault{}
		})
		l := w.lane()
		set, ctx, stop := running(t, l)
		add(t, l, set, ctx, 1, 10)
		dctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		err := set.Drain(dctx)
		if err == nil || !strings.Contains(err.Error(), "e/0: ") || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain: %v", err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if n := len(w.archived()["e/1"]); n != 5 {
			t.Errorf("the other series has %d events, want 5", n)
		}
		w.idle()
	})
}

// A series that is held over the seal of its idle segment, with no event waiting,
// is not held any more when the epoch ends.
func TestHeldOverASealAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4, 1)
		respec(func(s *Spec) { s.Roll.Idle = time.Second })(w)
		l := w.lane()
		set, ctx, stop := running(t, l)
		add(t, l, set, ctx, 1, 4)
		time.Sleep(time.Second)
		synctest.Wait()
		w.store.SetFault(func(string, string, int) objecttest.Fault { return objecttest.Hold() })
		time.Sleep(2 * sweepEvery)
		synctest.Wait()
		if len(set.Held()) != 1 {
			t.Fatal("the series is not held")
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		w.idle()
	})
}

// A series may come to forget events between an event's getting its memory and its
// being taken: it must not stand behind those that are gone.
func TestNothingBehindAForgottenEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 12, 1)
		w.budget = NewBudget(1640) // five events and no more than a few
		l := w.lane()
		set, ctx, stop := running(t, l)
		var on atomic.Bool
		w.store.SetFault(func(string, string, int) objecttest.Fault {
			if on.Load() {
				return objecttest.NotApplied()
			}
			return objecttest.Fault{}
		})
		on.Store(true)
		add(t, l, set, ctx, 1, 5)
		time.Sleep(time.Second)
		set.mu.Lock()
		s := set.series["e/0"]
		set.mu.Unlock()
		// Called as soon as the next event has its memory.
		once := false
		defer w.budget.subscribe(func() {
			if !once {
				once = true
				s.held(errors.New("something about this very object"))
			}
		})()
		add(t, l, set, ctx, 6, 6)
		set.mu.Lock()
		queued, forgot := len(s.queue), s.forgot
		set.mu.Unlock()
		if !once || !forgot || queued != 0 {
			t.Errorf("held: %v, events forgotten: %v; %d batches wait", once, forgot, queued)
		}
		on.Store(false)
		time.Sleep(5 * time.Minute)
		if err := stop(); !errors.Is(err, ErrReplay) {
			t.Errorf("the epoch ended with %v, want ErrReplay", err)
		}
		finishes(t, l)
		w.check()
		w.idle()
	})
}
