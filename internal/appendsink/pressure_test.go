package appendsink

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ossuary/internal/object/objecttest"
)

// window is what a lane may have open: no event is handed out beyond.
type window struct {
	mu   sync.Mutex
	size uint64
	done map[uint64]bool
	next uint64
	low  uint64 // the oldest that is not confirmed
	room *sync.Cond
}

func newWindow(size uint64) *window {
	w := &window{size: size, done: map[uint64]bool{}, next: 1, low: 1}
	w.room = sync.NewCond(&w.mu)
	return w
}

func (w *window) confirm(slots []uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range slots {
		w.done[s] = true
	}
	for w.done[w.low] {
		delete(w.done, w.low)
		w.low++
	}
	w.room.Broadcast()
}

// enter waits until the next event may be handed out.
func (w *window) enter() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.next-w.low >= w.size {
		w.room.Wait()
	}
	w.next++
}

func (w *window) pressed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next-w.low > w.size/2
}

// With few events open at once and a long linger, a lane is not as slow as a window
// per linger: batches go early, and only then.
func TestWindowPressure(t *testing.T) {
	const events, series, size, linger = 6000, 40, 600, 10 * time.Second
	for name, c := range map[string]struct {
		ask      bool
		min, max time.Duration
	}{
		"asked":       {true, 0, events / size * linger / 5},
		"never asked": {false, events / size * linger * 9 / 10, time.Hour}, // so the window is what it takes
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, events, series)
				spec := w.spec
				w.spec = func(s string) Spec {
					sp := spec(s)
					sp.Flush = Flush{Size: 1 << 20, Events: 10_000, Linger: linger}
					return sp
				}
				w.store.SetFault(func(op, key string, i int) objecttest.Fault {
					time.Sleep(20 * time.Millisecond)
					return objecttest.Fault{}
				})
				win := newWindow(size)
				w.confirming = win.confirm
				if c.ask {
					w.pressed = win.pressed
				}
				l := w.lane()
				set, ctx, stop := running(t, l)
				began := time.Now()
				for i := 1; i <= events; i++ {
					win.enter()
					add(t, l, set, ctx, i, i)
				}
				took, appends := time.Since(began), w.m.Appends.Load()
				if took < c.min || took > c.max {
					t.Errorf("it took %s, want %s to %s", took, c.min, c.max)
				}
				if most := int64(events); c.ask && appends > most/2 {
					t.Errorf("%d appends for %d events: batches go before anything presses", appends, most)
				}
				if err := set.Drain(ctx); err != nil {
					t.Error(err)
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
				w.check()
			})
		})
	}
}

// A lane that is not pressed sends nothing before its time, and neither does one with a
// held series: what is sent would not move the floor.
func TestPressedByAHeldSeriesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 400, 2)
		spec := w.spec
		w.spec = func(s string) Spec {
			sp := spec(s)
			sp.Flush = Flush{Size: 1 << 20, Events: 10_000, Linger: time.Hour}
			return sp
		}
		var held, pressed atomic.Bool
		held.Store(true)
		w.store.SetFault(func(op, key string, i int) objecttest.Fault {
			if held.Load() && key == "p/e/0.000001.ndjson.gz" {
				return objecttest.Hold()
			}
			return objecttest.Fault{}
		})
		w.pressed = pressed.Load
		l := w.lane()
		set, ctx, stop := running(t, l)
		add(t, l, set, ctx, 1, 100)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := w.m.Appends.Load(); n != 0 {
			t.Errorf("%d appends before the linger is over, and nothing presses", n)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(set.Held()) != 1 {
			t.Fatalf("held: %+v", set.Held())
		}
		before := w.m.Appends.Load()
		pressed.Store(true)
		add(t, l, set, ctx, 101, 200)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := w.m.Appends.Load(); n != before {
			t.Errorf("%d appends went early for a held series", n-before)
		}
		held.Store(false)
		time.Sleep(10 * time.Minute)
		add(t, l, set, ctx, 201, 400)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(w.archived()["e/1"]); n < 180 {
			t.Errorf("%d events of 200 were sent early after the hold", n)
		}
		if err := set.Drain(ctx); err != nil {
			t.Error(err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		w.check()
	})
}

// What waits is found by time and by age, whatever came and went before.
func TestTimers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l timers
		var in []*series
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				due := created.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "due")))
				s := &series{dueIndex: -1, queue: []*batch{{due: due, slots: []uint64{rapid.Uint64Range(1, 100).Draw(t, "slot")}}}}
				l.add(s)
				in = append(in, s)
			},
			"remove": func(t *rapid.T) {
				if len(in) == 0 {
					return
				}
				i := rapid.IntRange(0, len(in)-1).Draw(t, "i")
				l.remove(in[i])
				if in[i].dueIndex != -1 {
					t.Fatal("it still seems to be in line")
				}
				in = slices.Delete(in, i, i+1)
			},
			"": func(t *rapid.T) {
				if l.empty() != (len(in) == 0) {
					t.Fatalf("empty: %v, with %d in it", l.empty(), len(in))
				}
				for _, s := range in {
					if s.dueIndex < 0 || s.queue[0].due.Before(l.due[0].due) || s.queue[0].slots[0] < l.age[0].oldest {
						t.Fatalf("%+v is before the first", s)
					}
				}
			},
		})
	})
}
