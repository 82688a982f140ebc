package appendsink

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object/objecttest"
)

// turns has the codec change at a sequence, as a new layout does.
func turns(w *world, at uint64) *world {
	w.layout = func(e *event.Event, s *Spec) {
		s.Layout, s.Codec = 1, event.Gzip
		if e.Sequence >= at {
			s.Layout, s.Codec = 2, event.Zstd
		}
	}
	return w
}

func (w *world) zst(segment int) string { return event.Key("p/", "e/0", segment, "ndjson.zst") }

// A segment that was damaged long after the series had left it is not left again:
// its seal alone said what the next key was, and a break would name another one.
func TestDamageBehindTheSeries(t *testing.T) {
	for name, wipe := range map[string]bool{"an old ledger": false, "no ledger": true} {
		for _, what := range []string{"its first frame", "its seal"} {
			t.Run(name+", "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := turns(newWorld(t, 4, 1), 5)
					finishes(t, w.lane())
					old := w.ledger.copy()
					w.publish(4)
					finishes(t, w.lane())
					at := int64(30)
					if what == "its seal" {
						at += old["e/0"].Position
					}
					w.store.Flip(w.key(1), at)
					w.ledger.wipe()
					if !wipe {
						w.ledger.tails = old
					}
					w.publish(1)
					l := w.lane()
					l.floor = 4
					finishes(t, l)
					if keys := strings.Join(w.store.Keys(), " "); keys != w.key(1)+" "+w.zst(2) {
						t.Errorf("objects: %s", keys)
					}
					got := map[uint64]int{}
					for _, e := range w.stored()["e/0"] {
						got[e.seq]++
					}
					for q := uint64(5); q <= 9; q++ {
						if got[q] != 1 {
							t.Errorf("event %d stands %d times", q, got[q])
						}
					}
				})
			})
		}
	}
}

// A seal behind damaged bytes, and behind it the break with which another writer
// has left them: whoever is past the damage must not follow the seal.
func TestSealBehindDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := turns(newWorld(t, 5, 1), 5)
		first := w.lane()
		set, ctx, stop := running(t, first)
		add(t, first, set, ctx, 1, 4)
		time.Sleep(time.Second)
		w.store.Flip(w.key(1), 30)
		w.ledger.wipe()
		looks, goesOn := make(chan struct{}), make(chan struct{})
		answered := looks
		sealed, left := false, false
		w.store.SetFault(func(op, key string, _ int) objecttest.Fault {
			switch {
			case op == "append" && key == w.key(1) && !sealed:
				sealed = true
			case op == "head" && key == w.key(1) && sealed && looks != nil:
				f := objecttest.Fault{Wait: looks} // the answer was not as computed: it looks, in a while
				looks = nil
				return f
			case op == "append" && key == w.key(2) && !left:
				left = true
				return objecttest.Fault{Wait: goesOn}
			}
			return objecttest.Fault{}
		})
		add(t, first, set, ctx, 5, 5)
		synctest.Wait()
		time.Sleep(time.Second)

		second := w.lane()
		set2, ctx2, stop2 := running(t, second)
		add(t, second, set2, ctx2, 1, 4)
		time.Sleep(time.Second)
		synctest.Wait()
		if !sealed || !left {
			t.Fatalf("sealed: %v, left: %v", sealed, left)
		}
		close(answered)
		time.Sleep(time.Second)
		close(goesOn)
		if err := errors.Join(set.Drain(ctx), set2.Drain(ctx2), stop(), stop2()); err != nil {
			t.Fatal(err)
		}
		finishes(t, w.lane())
		got := map[uint64]int{} // in whatever series: what the byte destroyed may be a dead letter now
		for _, events := range w.stored() {
			for _, e := range events {
				got[e.seq]++
			}
		}
		for q := uint64(1); q <= 5; q++ {
			if got[q] != 1 {
				t.Errorf("event %d stands %d times; objects: %v", q, got[q], w.store.Keys())
			}
		}
	})
}

// While a first append is not getting through, another writer may begin the series
// under another codec. Nothing would refuse the append then, so it is looked up
// again before each try.
func TestBegunMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := turns(newWorld(t, 8, 1), 5)
		away := true
		w.store.SetFault(func(op, key string, _ int) objecttest.Fault {
			if away && op == "append" && key == w.key(1) {
				return objecttest.NotApplied()
			}
			return objecttest.Fault{}
		})
		slow, quick := w.lane(), w.lane()
		quick.skip = func(e *event.Event) bool { return e.Sequence < 5 } // gone for it
		set, ctx, stop := running(t, slow)
		add(t, slow, set, ctx, 1, 4)
		time.Sleep(time.Second)
		finishes(t, quick)
		away = false
		if err := errors.Join(set.Drain(ctx), stop()); err != nil {
			t.Fatal(err)
		}
		if b := w.store.Bytes(w.key(1)); b != nil {
			t.Errorf("the series has two first segments: %v", w.store.Keys())
		}
		if dead := w.check(); dead != 4 {
			t.Errorf("%d dead letters, want 4", dead)
		}
	})
}
