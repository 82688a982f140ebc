package appendsink

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object/objecttest"
)

// small has segments of a few frames.
func small(w *world) *world {
	spec := w.spec
	w.spec = func(s string) Spec {
		sp := spec(s)
		sp.Roll.Size = 1400
		return sp
	}
	return w
}

// A writer whose ledger does not know the series, and that waited while another
// one filled segments without some of its events, learns that from the frames.
func TestEntersBelowWhatWaits(t *testing.T) {
	for _, c := range []struct {
		name string
		lost []uint64 // gone for the quick writer
		roll int      // the quick writer seals in the end
	}{
		{name: "in the first segment", lost: []uint64{2}},
		{name: "the very first event", lost: []uint64{1}},
		{name: "in many segments", lost: []uint64{1, 6, 7, 12, 20, 31, 39}},
		{name: "all is sealed", lost: []uint64{1, 20, 39}, roll: 1},
	} {
		for _, codec := range []event.Codec{event.Gzip, event.Zstd, event.Plain} {
			t.Run(fmt.Sprint(c.name, codec), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := small(newWorld(t, 40, 1))
					spec := w.spec
					w.spec = func(s string) Spec {
						sp := spec(s)
						sp.Codec = codec
						return sp
					}
					slow, quick := w.lane(), w.lane()
					quick.skip = func(e *event.Event) bool { return slices.Contains(c.lost, e.Sequence) }
					set, ctx, stop := running(t, slow)
					finishes(t, quick)
					if c.roll > 0 {
						quick.sealIdle(t, "e/0")
					}
					if n := len(w.store.Keys()); n < 3 {
						t.Fatalf("%d segments", n)
					}
					add(t, slow, set, ctx, 1, 40)
					if err := set.Drain(ctx); err != nil {
						t.Fatal(err)
					}
					if err := stop(); err != nil {
						t.Fatal(err)
					}
					if dead := w.check(); dead != len(c.lost) {
						t.Errorf("%d dead letters, want %d", dead, len(c.lost))
					}
					w.idle()
				})
			})
		}
	}
}

// sealIdle has an epoch of its own seal the series.
func (l *lane) sealIdle(t *testing.T, series string) {
	t.Helper()
	set, _, stop := running(t, l)
	set.sealNow(series)
	time.Sleep(time.Second)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// sealNow is what the sweep does for a series that is idle.
func (t *Set) sealNow(name string) {
	t.mu.Lock()
	s := t.openKnown(name)
	s.sealWhy = whyIdle
	t.schedule(s)
	t.mu.Unlock()
	t.poke()
}

// So does one that knows a segment to be sealed, and meets the series again some
// segments above.
func TestEntersBelowWhatWaitsAbove(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		for i, lost := range [][]uint64{{5}, {6, 14}, {5, 9, 30}, {6, 14}} {
			t.Run(fmt.Sprint(deleted, i), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := small(newWorld(t, 40, 1))
					slow, quick := w.lane(), w.lane()
					set, ctx, stop := running(t, slow)
					add(t, slow, set, ctx, 1, 4)
					time.Sleep(time.Second)
					set.sealNow("e/0")
					time.Sleep(time.Second)
					quick.skip = func(e *event.Event) bool { return slices.Contains(lost, e.Sequence) }
					finishes(t, quick)
					if deleted {
						w.store.Delete(w.key(1))
					}
					if i == 3 { // they come one by one, when all others were read long ago
						for q := 5; q < 20; q++ {
							add(t, slow, set, ctx, q, q)
							time.Sleep(time.Second)
						}
						add(t, slow, set, ctx, 20, 40)
					} else {
						add(t, slow, set, ctx, 5, 40)
					}
					if err := set.Drain(ctx); err != nil {
						t.Fatal(err)
					}
					if err := stop(); err != nil {
						t.Fatal(err)
					}
					if n := w.m.Overtaken.Load(); int(n) != len(lost) {
						t.Errorf("%d overtaken, want %d", n, len(lost))
					}
					if !deleted {
						w.check()
					}
					w.idle()
				})
			})
		}
	}
}

// What the ledger says of a series is taken at its word, so it must not be read
// after an event was received that others may have passed since.
func TestLedgerIsLoadedBeforeTheFirstEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8, 1)
		slow, quick := w.lane(), w.lane()
		set := slow.newSet()
		if err := set.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		quick.skip = func(e *event.Event) bool { return e.Sequence == 3 }
		finishes(t, quick)
		ran := make(chan error, 1)
		go func() { ran <- set.Run(t.Context()) }()
		add(t, slow, set, t.Context(), 1, 8)
		if err := set.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		set.end(nil)
		if err := <-ran; err != nil {
			t.Fatal(err)
		}
		if dead := w.check(); dead != 1 {
			t.Errorf("%d dead letters, want 1", dead)
		}
	})
}

// Looking a series up costs as much as waits in it: sealed segments that hold
// nothing of what waits are not read.
func TestLookingUpReadsWhatWaits(t *testing.T) {
	for _, c := range []struct {
		from int  // of the events that come again
		all  bool // segments are read; else only the last one, whose seal is read in any case
	}{{from: 41}, {from: 40}, {from: 1, all: true}} {
		t.Run(fmt.Sprint(c.from), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := small(newWorld(t, 40, 1))
				l := w.lane()
				finishes(t, l)
				l.sealIdle(t, "e/0")
				w.ledger.wipe()
				w.publish(1)
				var mu sync.Mutex
				read := map[string]bool{}
				w.store.SetFault(func(op, key string, _ int) objecttest.Fault {
					mu.Lock()
					defer mu.Unlock()
					if op == "read" {
						read[key] = true
					}
					return objecttest.Fault{}
				})
				keys := w.store.Keys()
				set, ctx, stop := running(t, w.lane())
				add(t, l, set, ctx, c.from, 41)
				if err := set.Drain(ctx); err != nil {
					t.Fatal(err)
				}
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				want := keys[len(keys)-1:]
				if c.all {
					want = keys
				}
				for _, key := range keys {
					if read[key] != slices.Contains(want, key) {
						t.Errorf("%s was read: %v", strings.TrimPrefix(key, "p/"), read[key])
					}
				}
				w.check()
			})
		})
	}
}

// A segment that is entered further back and deleted in that moment is not where
// the series begins, however little could be read of it.
func TestDeletedAsItIsEntered(t *testing.T) {
	for n := 1; ; n++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			w := small(newWorld(t, 40, 1))
			slow := w.lane()
			set, ctx, stop := running(t, slow)
			finishes(t, w.lane())
			if k := w.store.Keys(); len(k) < 3 {
				t.Fatalf("keys: %v", k)
			}
			w.store.Flip(w.key(1), 20) // no frame can be read of it
			from := w.store.Operations()
			w.store.SetFault(func(_, _ string, i int) objecttest.Fault {
				if i == from+n {
					w.store.Delete(w.key(1))
				}
				return objecttest.Fault{}
			})
			add(t, slow, set, ctx, 1, 40)
			if err := set.Drain(ctx); err != nil {
				t.Error(err)
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
			done = w.store.Operations() < from+n
			if b := w.store.Bytes(w.key(1)); !done && b != nil {
				t.Errorf("%s was begun anew, with %d bytes", w.key(1), len(b))
			}
		})
		if t.Failed() {
			t.Fatalf("deleted before operation %d", n)
		}
		if done {
			break
		}
	}
}
