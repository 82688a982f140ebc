package appendsink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object/objecttest"
)

// onlyKey returns the one key of a series' segment.
func (w *world) key(segment int) string { return event.Key("p/", "e/0", segment, "ndjson.gz") }

// start makes a world of one series whose first n events are archived, in one
// open segment.
func start(t *testing.T, n int) (*world, *lane) {
	w := newWorld(t, n, 1)
	spec := w.spec
	w.spec = func(series string) Spec {
		s := spec(series)
		s.Roll.Size = 1 << 20
		return s
	}
	l := w.lane()
	l.finish(t.Context())
	if k := w.store.Keys(); len(k) != 1 || k[0] != w.key(1) {
		t.Fatalf("keys: %v", k)
	}
	return w, l
}

// sequences returns what the series holds, by walking it.
func (w *world) sequences() string {
	var out []string
	for _, l := range w.walk()["e/0"] {
		q, _, _ := strings.Cut(l, " ")
		out = append(out, q)
	}
	return strings.Join(out, " ")
}

func numbers(from, to int) string {
	var out []string
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return strings.Join(out, " ")
}

func TestDamagedSegments(t *testing.T) {
	for name, c := range map[string]struct {
		damage  func(w *world)
		lost    int  // the first events that are gone with the bytes
		segment int  // where the series goes on
		fresh   bool // a writer that knows nothing, rather than one with the ledger
	}{
		"foreign bytes at the end":         {damage: func(w *world) { w.store.AppendRaw(w.key(1), []byte("junk")) }, segment: 2},
		"foreign bytes, unknown writer":    {damage: func(w *world) { w.store.AppendRaw(w.key(1), []byte("junk")) }, segment: 2, fresh: true},
		"a foreign gzip member at the end": {damage: func(w *world) { w.store.AppendRaw(w.key(1), gzipOf("not ours\n")) }, segment: 2},
		"object deleted":                   {damage: func(w *world) { w.store.Delete(w.key(1)) }, lost: 10, segment: 2},
		"object replaced by junk":          {damage: func(w *world) { w.store.Replace(w.key(1), []byte("junk")) }, lost: 10, segment: 2},
		"object replaced by long junk":     {damage: func(w *world) { w.store.Replace(w.key(1), make([]byte, 100_000)) }, lost: 10, segment: 2},
		"object put over":                  {damage: func(w *world) { w.store.Put(w.key(1), []byte("junk")) }, lost: 10, segment: 2},
		"object emptied":                   {damage: func(w *world) { w.store.Truncate(w.key(1), 0) }, lost: 10, segment: 2},
		"object under retention":           {damage: func(w *world) { w.store.Lock(w.key(1)) }, segment: 2},
		"next segment's key taken":         {damage: func(w *world) { w.store.AppendRaw(w.key(1), []byte("x")); w.store.Put(w.key(2), []byte("x")) }, segment: 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, l := start(t, 10)
				c.damage(w)
				w.publish(10)
				if c.fresh {
					w.ledger.wipe()
					l = w.lane()
				}
				l.finish(t.Context())
				if w.m.Breaks.Load() == 0 {
					t.Error("no break was counted")
				}
				key := w.key(c.segment)
				if len(w.store.Bytes(key)) == 0 {
					t.Fatalf("%s holds nothing; keys: %v", key, w.store.Keys())
				}
				// Another writer that knows nothing adds nothing, and a third with
				// the ledger neither.
				w.ledger.wipe()
				again := w.lane()
				again.floor = uint64(c.lost)
				again.finish(t.Context())
				w.lane().finish(t.Context())
				if name == "object put over" || name == "next segment's key taken" || name == "object under retention" {
					return // walk knows no segments that were left without a break
				}
				if got, want := w.sequences(), numbers(c.lost+1, 20); got != want {
					t.Errorf("the series holds %s, want %s", got, want)
				}
			})
		})
	}
}

// An object that was cut back to whole frames (restored from an older copy) is
// left with a break: the loss shows, and what comes after is in order.
func TestTruncatedToWholeFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := start(t, 8)
		cut := int64(len(w.store.Bytes(w.key(1))))
		w.publish(8)
		l.finish(t.Context())
		w.store.Truncate(w.key(1), cut)
		w.publish(4)
		l.finish(t.Context())
		if got, want := w.sequences(), numbers(1, 8)+" "+numbers(17, 20); got != want {
			t.Errorf("the series holds %s, want %s", got, want)
		}
		if w.m.Breaks.Load() != 1 {
			t.Errorf("%d breaks, want 1", w.m.Breaks.Load())
		}
	})
}

func TestForeignFramesHold(t *testing.T) {
	for name, mend := range map[string]func(o *Options){
		"another archive": func(o *Options) { o.Archive = "b" },
		"another lane":    func(o *Options) { o.Lane = "1" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, l := start(t, 4)
				w.publish(4)
				w.ledger.wipe()
				other := l.newSet()
				mend(&other.opt)
				ctx, cancel := context.WithCancel(t.Context())
				ran := make(chan error)
				go func() { ran <- other.Run(ctx) }()
				e, _ := w.at(5)
				if err := other.Add(ctx, l.target(&e), &e, 6); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				held := other.Held()
				if len(held) != 1 || !strings.Contains(held[0].Reason, w.key(1)) {
					t.Errorf("held: %+v", held)
				}
				cancel()
				<-ran
				if w.m.Breaks.Load() != 0 {
					t.Error("a frame of another writer was broken off")
				}
				l.finish(t.Context())
				w.check()
			})
		})
	}
}

// A stream that was rewound hands out sequences again: nothing is dropped for
// its sequence, nothing that stayed is doubled.
func TestRewoundStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t, 10)
		kept := w.events[:6]
		w.events = append([]event.Event{}, kept...)
		for q := uint64(7); q <= 12; q++ {
			w.events = append(w.events, event.Event{Sequence: q, Time: created.Add(time.Duration(100+q) * time.Second), Subject: "e.0",
				Data: fmt.Appendf(nil, `{"again":%d}`, q)})
		}
		l := w.lane() // the ledger's floor is above the stream; a real lane starts over
		l.finish(t.Context())
		var reuse *ReuseError
		if !errors.As(l.last, &reuse) {
			t.Fatalf("last error: %v", l.last)
		}
		if got, want := w.sequences(), numbers(1, 10)+" "+numbers(7, 12); got != want {
			t.Errorf("the series holds %s, want %s", got, want)
		}
		// Everything again, from nothing: still nothing doubled.
		w.ledger.wipe()
		l.floor = 0
		l.finish(t.Context())
		if got, want := w.sequences(), numbers(1, 10)+" "+numbers(7, 12); got != want {
			t.Errorf("after a second run the series holds %s, want %s", got, want)
		}
		// A writer that still believes in the old life learns better.
		old := w.lane()
		if err := old.epoch(t.Context()); !errors.Is(err, ErrIncarnation) {
			t.Errorf("a writer of the old incarnation ended with %v", err)
		}
	})
}

// An event that one writer never saw (it was gone from the stream by then) and
// another still has in its hands goes to the dead letters, once.
func TestOvertaken(t *testing.T) {
	for _, codec := range []event.Codec{event.Gzip, event.Plain} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 12, 1)
			spec := w.spec
			w.spec = func(s string) Spec {
				sp := spec(s)
				sp.Codec = codec
				return sp
			}
			// The slow writer's first append arrives when the other is done.
			wait := make(chan struct{})
			first := true
			w.store.SetFault(func(op, key string, i int) objecttest.Fault {
				if op == "append" && first {
					first = false
					return objecttest.Fault{Wait: wait}
				}
				return objecttest.Fault{}
			})
			slow, quick := w.lane(), w.lane()
			quick.skip = func(e *event.Event) bool { return e.Sequence == 2 || e.Sequence == 7 }
			done := make(chan struct{})
			go func() { slow.finish(t.Context()); close(done) }()
			synctest.Wait()
			quick.finish(t.Context())
			close(wait)
			<-done
			if n := w.check(); n != 2 {
				t.Errorf("%d dead letters, want 2", n)
			}
			if w.m.Overtaken.Load() != 2 {
				t.Errorf("%d overtaken, want 2", w.m.Overtaken.Load())
			}
		})
	}
}

// A connection that is lost while frames are read says nothing about the
// object, even if its error wraps io.EOF, which many do.
func TestLostWhileReading(t *testing.T) {
	for first := 1; first <= 6; first++ {
		for cuts := 1; cuts <= 6; cuts++ {
			synctest.Test(t, func(t *testing.T) {
				w, _ := start(t, 10)
				w.publish(4)
				w.ledger.wipe()
				reads := 0
				w.store.SetFault(func(op, key string, i int) objecttest.Fault {
					if op != "read" {
						return objecttest.Fault{}
					}
					if reads++; reads < first || reads >= first+cuts {
						return objecttest.Fault{}
					}
					return objecttest.Fault{Cut: 250, After: fmt.Errorf("connection lost: %w", io.EOF)}
				})
				w.lane().finish(t.Context())
				w.check()
				if w.m.Breaks.Load() != 0 {
					t.Errorf("reads %d to %d lost: %d segments broken off", first, first+cuts-1, w.m.Breaks.Load())
				}
			})
		}
	}
}
