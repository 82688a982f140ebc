package appendsink

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object/objecttest"
)

// An event that another writer passed over, and that is handed over here only
// after its frames were adopted, is not in the archive either: evicted or not.
func TestOvertakenBeforeItCame(t *testing.T) {
	for _, evict := range []bool{false, true} {
		for _, raw := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 24, 2)
				if evict {
					w.open = 1
				}
				if raw {
					spec := w.spec
					w.spec = func(s string) Spec {
						sp := spec(s)
						sp.Encoder.Format = event.Raw
						return sp
					}
				}
				slow, quick := w.lane(), w.lane()
				set, ctx, stop := running(t, slow)
				add(t, slow, set, ctx, 1, 4)
				time.Sleep(time.Second)
				synctest.Wait()
				quick.skip = func(e *event.Event) bool { return e.Sequence == 6 || e.Sequence == 12 || e.Sequence == 20 }
				finishes(t, quick)
				for i := 5; i <= 24; i++ {
					add(t, slow, set, ctx, i, i)
					time.Sleep(20 * time.Millisecond)
				}
				if err := set.Drain(ctx); err != nil {
					t.Fatal(err)
				}
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				if !raw { // which no JSON reader reads
					w.check()
				}
				if n := w.m.Overtaken.Load(); n != 3 {
					t.Errorf("%d overtaken, want 3", n)
				}
				if len(set.ahead) != 0 || set.aheads != 0 {
					t.Errorf("%d series, %d events are still remembered", len(set.ahead), set.aheads)
				}
				w.idle()
			})
		}
	}
}

// The other writer may still be in the incarnation before, or may have written
// the first frame of the present one.
func TestOvertakenAcrossIncarnations(t *testing.T) {
	for name, c := range map[string]struct {
		quick int  // incarnation of the one that lacks an event
		anew  bool // the stream was made anew, rather than rewound
	}{
		"a writer of the incarnation before": {quick: 0},
		"a rewound stream's first frame":     {quick: 1},
		"a new stream's first frame":         {quick: 1, anew: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, l := start(t, 6)
				made, from := created, uint64(7)
				if c.anew {
					made, from = created.Add(time.Hour), 1
				} else if c.quick == 1 {
					from = 4
				}
				w.events = nil
				for q := from; q < from+4; q++ {
					w.events = append(w.events, event.Event{Sequence: q, Time: created.Add(2*time.Hour + time.Duration(q)*time.Second),
						Subject: "e.0", Data: fmt.Appendf(nil, `{"again":%d}`, q)})
				}
				slow, quick := w.lane(), w.lane()
				slow.stream.Created, quick.stream.Created = made, made
				slow.stream.Incarnation, quick.stream.Incarnation = 1, c.quick
				lost := from
				if c.quick == 0 {
					lost = from + 1
				}
				quick.skip = func(e *event.Event) bool { return e.Sequence == lost }
				wait, first := make(chan struct{}), true
				w.store.SetFault(func(op, key string, i int) objecttest.Fault {
					if op == "append" && first {
						first = false
						return objecttest.Fault{Wait: wait}
					}
					return objecttest.Fault{}
				})
				done := make(chan struct{})
				go func() { finishes(t, slow); close(done) }()
				synctest.Wait()
				finishes(t, quick)
				close(wait)
				<-done
				got := map[uint64]bool{}
				for name, es := range w.archived() {
					for _, e := range es {
						if name != "e/0" || len(e.Data) > 0 && string(e.Data[:4]) == `{"ag` {
							if got[e.Sequence] {
								t.Errorf("event %d stands twice", e.Sequence)
							}
							got[e.Sequence] = true
						}
					}
				}
				if len(got) != 4 || w.m.Overtaken.Load() != 1 {
					t.Errorf("archived: %v; %d overtaken", got, w.m.Overtaken.Load())
				}
				_ = l
			})
		})
	}
}

// What is known from segments that were read and proven stays known when a later
// one has to be read again, also by a writer of a later incarnation than theirs.
func TestProvenAcrossIncarnations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := small(newWorld(t, 20, 1))
		finishes(t, w.lane())
		w.rewind(20, 4)
		w.ledger.wipe()
		keys := w.store.Keys()
		w.store.AppendRaw(keys[len(keys)-1], []byte("\nforeign bytes\n"))
		l := w.lane()
		l.stream.Incarnation = 1
		set, ctx, stop := running(t, l)
		add(t, l, set, ctx, 1, 2)
		time.Sleep(time.Second)
		add(t, l, set, ctx, 3, 24)
		if err := set.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if n := w.m.Overtaken.Load(); n != 0 {
			t.Errorf("%d events were taken for overtaken, none was", n)
		}
		if got, want := w.sequences(), numbers(1, 24); got != want {
			t.Errorf("the series holds %q, want %q", got, want)
		}
	})
}

// What is remembered of frames ahead of us is bounded.
func TestAheadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8, 1)
		set := w.lane().newSet()
		s := &series{set: set, name: "e/0", log: seriesLog{log: &w.log}}
		for i := range uint64(5) {
			a := &ahead{first: i << 17, last: (i+1)<<17 - 1, times: map[uint64][2]int64{}}
			for q := a.first; q <= a.last; q++ {
				a.times[q] = [2]int64{}
			}
			set.remember(s, a)
			if n := len(set.ahead["e/0"].timesOrNone()); n > maxAhead || n != set.aheads {
				t.Fatalf("%d events remembered, %d counted", n, set.aheads)
			}
		}
	})
}

func (a *ahead) timesOrNone() map[uint64][2]int64 {
	if a == nil {
		return nil
	}
	return a.times
}

// A writer that is further behind than it can remember begins anew, rather than
// take for archived what the other one may have passed.
func TestFarBehind(t *testing.T) {
	defer func(n int) { maxAhead = n }(maxAhead)
	maxAhead = 30
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 400, 2)
		slow, quick := w.lane(), w.lane()
		set, ctx, stop := running(t, slow)
		add(t, slow, set, ctx, 1, 4)
		time.Sleep(time.Second)
		gone := func(e *event.Event) bool { return e.Sequence == 301 || e.Sequence == 302 }
		quick.skip = gone
		finishes(t, quick)
		var err error
		for i := 4; i < 400 && err == nil; i++ { // all of them were on their way to the slow one
			e, _ := w.at(i)
			err = set.Add(ctx, slow.target(&e), &e, e.Sequence)
			time.Sleep(5 * time.Millisecond)
		}
		if !errors.Is(err, ErrBehind) {
			t.Fatalf("Add: %v, want %v", err, ErrBehind)
		}
		if err := stop(); !errors.Is(err, ErrBehind) {
			t.Fatalf("Run: %v, want %v", err, ErrBehind)
		}
		if slow.done[301] || slow.done[302] {
			t.Error("events that nobody has archived were confirmed")
		}
		slow.skip = gone
		slow.done = map[uint64]bool{}
		finishes(t, slow)
		if slow.epochs > 3 {
			t.Errorf("%d epochs until it had caught up", slow.epochs)
		}
		w.events = slices.DeleteFunc(w.events, func(e event.Event) bool { return gone(&e) })
		w.check()
		w.idle()
	})
}

// Foreign bytes behind the frames that passed an event have the segment read
// anew; that it was overtaken must be found again.
func TestOvertakenBeforeForeignBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8, 1)
		slow, quick := w.lane(), w.lane()
		set, ctx, stop := running(t, slow)
		add(t, slow, set, ctx, 1, 2)
		time.Sleep(time.Second)
		if err := set.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		set.mu.Lock()
		s := set.series["e/0"]
		s.sealWhy = whyIdle
		set.schedule(s)
		set.mu.Unlock()
		set.poke()
		time.Sleep(time.Second)
		quick.skip = func(e *event.Event) bool { return e.Sequence == 3 }
		finishes(t, quick)
		w.store.AppendRaw(w.key(2), []byte("junk"))
		add(t, slow, set, ctx, 3, 8)
		if err := set.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if n := w.m.Overtaken.Load(); n != 1 {
			t.Errorf("%d overtaken, want 1", n)
		}
	})
}

// That an event was passed in a segment that was read to its seal stays known when
// a later segment has to be read anew, which does not tell it again.
func TestOvertakenSegmentsBeforeForeignBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := small(newWorld(t, 40, 1))
		slow, quick := w.lane(), w.lane()
		set, ctx, stop := running(t, slow)
		add(t, slow, set, ctx, 1, 2)
		time.Sleep(time.Second)
		quick.skip = func(e *event.Event) bool { return e.Sequence == 5 || e.Sequence == 9 }
		finishes(t, quick)
		keys := w.store.Keys()
		if len(keys) < 4 {
			t.Fatalf("keys: %v", keys)
		}
		w.store.AppendRaw(keys[len(keys)-1], []byte("junk"))
		// 5 waits while the frames are read; 9 comes after that.
		add(t, slow, set, ctx, 3, 6)
		time.Sleep(time.Second)
		add(t, slow, set, ctx, 7, 40)
		if err := set.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if n := w.m.Overtaken.Load(); n != 2 {
			t.Errorf("%d overtaken, want 2", n)
		}
		w.idle()
	})
}
