package appendsink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

// finishes runs the lane, which must not take longer than an hour of the
// bubble's time nor ask the store endlessly.
func finishes(t *testing.T, l *lane) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	l.finish(ctx)
	if ctx.Err() != nil {
		t.Fatalf("not done after an hour; last: %v", l.last)
	}
}

// A byte that changed in what was archived shows as soon as something is
// appended. The new events stand behind the damage then, where nobody reads: they
// must be appended again, not be taken for archived because they were found.
func TestFlippedByte(t *testing.T) {
	for _, codec := range []event.Codec{event.Gzip, event.Zstd, event.Plain} {
		synctest.Test(t, func(t *testing.T) {
			w, l := startWith(t, 8, codec)
			w.store.Flip(w.store.Keys()[0], 20)
			w.publish(8)
			finishes(t, l)
			if got, want := w.sequences(), numbers(9, 16); got != want {
				t.Errorf("the series holds %q, want %q", got, want)
			}
			w.idle()
		})
	}
}

// The same for a frame whose answer was lost, and with every operation after it
// failing in turn.
func TestFlippedByteWithFaults(t *testing.T) {
	for name, fault := range map[string]objecttest.Fault{
		"not applied": objecttest.NotApplied(), "lost": objecttest.Lost(), "late": objecttest.Late(), "cut": {Cut: 30},
		"garbled next": objecttest.GarbledNext(),
	} {
		for n := 1; n < 16; n++ {
			synctest.Test(t, func(t *testing.T) {
				w, l := startWith(t, 8, event.Gzip)
				w.store.Flip(w.key(1), 20)
				w.publish(8)
				w.store.SetFault(objecttest.OnNth(w.store.Operations()+n, fault))
				finishes(t, l)
				if got, want := w.sequences(), numbers(9, 16); got != want {
					t.Errorf("the series holds %q, want %q", got, want)
				}
			})
			if t.Failed() {
				t.Fatalf("%s, operation %d", name, n)
			}
		}
	}
}

// startWith is start with a codec.
func startWith(t *testing.T, n int, codec event.Codec) (*world, *lane) {
	w := newWorld(t, n, 1)
	spec := w.spec
	w.spec = func(series string) Spec {
		s := spec(series)
		s.Codec, s.Roll.Size = codec, 1<<20
		return s
	}
	l := w.lane()
	l.finish(t.Context())
	return w, l
}

// An object that takes no append any more still counts: what others have
// appended to it is read before a writer that did not know of it goes on in the
// next segment.
func TestUnappendableIsReadFirst(t *testing.T) {
	for name, closeIt := range map[string]func(w *world){
		"under retention":    func(w *world) { w.store.Lock(w.key(1)) },
		"put over by a copy": func(w *world) { w.store.Put(w.key(1), w.store.Bytes(w.key(1))) },
	} {
		for _, inDoubt := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, l := start(t, 4)
					old := w.ledger.copy()
					w.publish(8)
					l.finish(t.Context())
					closeIt(w)
					w.ledger.tails = old // as the other writer knows it
					zombie := w.lane()
					if inDoubt {
						w.store.SetFault(objecttest.OnNth(w.store.Operations()+1, objecttest.NotApplied()))
					}
					finishes(t, zombie)
					w.publish(3)
					finishes(t, zombie)
					w.check()
					w.idle()
				})
			})
		}
	}
}

// Segments that were deleted (lifecycle rules) while a writer slept do not make
// it begin anew where they were: the series is further.
func TestDeletedWhileAsleep(t *testing.T) {
	for gone := 1; gone <= 4; gone++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 4, 1)
			w.lane().finish(t.Context())
			old := w.ledger.copy()
			w.publish(60)
			w.lane().finish(t.Context())
			if len(w.store.Keys()) < 5 {
				t.Fatalf("keys: %v", w.store.Keys())
			}
			if gone == 4 {
				w.store.Delete(w.key(2)) // it is led there by the seal before
			} else {
				for i := 1; i <= gone; i++ {
					w.store.Delete(w.key(i))
				}
			}
			want := w.archived()["e/0"]
			w.ledger.tails = old
			zombie := w.lane()
			zombie.floor = 4
			finishes(t, zombie)
			got := w.archived()["e/0"]
			if len(got) != len(want) {
				t.Errorf("%d segments gone: the series has %d events, had %d", gone, len(got), len(want))
			}
			if w.m.Breaks.Load() != 0 {
				t.Errorf("%d segments gone: %d breaks; the series was further, nothing was lost", gone, w.m.Breaks.Load())
			}
			w.publish(3)
			finishes(t, zombie)
			if got := w.archived()["e/0"]; len(got) != len(want)+3 {
				t.Errorf("%d segments gone: the series has %d events, want %d", gone, len(got), len(want)+3)
			}
			w.idle()
		})
	}
}

// A store that refuses appends although it says that the object is as long as
// they want is asked again and again, but not without a pause.
func TestRefusedAtTheRightPlace(t *testing.T) {
	for _, broken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w, l := start(t, 4)
			w.publish(4)
			if broken {
				w.store.AppendRaw(w.key(1), []byte("junk")) // the break is refused
			}
			w.store.SetFault(func(op, _ string, i int) objecttest.Fault {
				if op == "append" {
					return objecttest.Fault{Before: &object.Error{Kind: object.Mismatch, Status: 409, Code: "PositionNotEqualToLength"}}
				}
				if i > 2000 {
					panic("asked without a pause") // nothing else would end it
				}
				return objecttest.Fault{}
			})
			set, ctx, stop := running(t, l)
			add(t, l, set, ctx, 5, 8)
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			if len(set.Held()) == 0 {
				t.Error("the series is not held after five minutes")
			}
			w.store.SetFault(nil)
			if err := set.Drain(ctx); err != nil {
				t.Error(err)
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
			if got, want := w.sequences(), numbers(1, 8); got != want {
				t.Errorf("the series holds %s, want %s", got, want)
			}
			w.idle()
		})
	}
}

// What foreign bytes say goes into the break's reason, but never so much of it
// that the break could not be written.
func TestForeignFrameWithALongName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := start(t, 4)
		b := w.store.Bytes(w.key(1))
		c := event.Content{Archive: "a", Source: "S", Lane: "0", Series: strings.Repeat("\u2028", 10_000), Segment: 1, Frame: 2,
			Stream: l.stream, First: 5, Last: 5, MinTime: created, MaxTime: created, Greatest: created, Count: 1}
		frame, _, err := event.NewFrameWriter(0).Data(nil, event.Gzip, &c, int64(len(b)), []byte("x\n"))
		if err != nil {
			t.Fatal(err)
		}
		w.store.AppendRaw(w.key(1), frame)
		w.publish(4)
		finishes(t, l)
		if got, want := w.sequences(), numbers(1, 8); got != want {
			t.Errorf("the series holds %s, want %s", got, want)
		}
	})
}

// An object that was made anew, as long as the one before, is not what was
// appended to; an append whose outcome is unknown must not be repeated onto it.
func TestInDoubtOnAnotherObjectOfTheSameLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := start(t, 4)
		w.publish(4)
		w.store.SetFault(func(op, _ string, _ int) objecttest.Fault {
			if op != "append" {
				return objecttest.Fault{}
			}
			w.store.SetFault(nil)
			w.store.Replace(w.key(1), make([]byte, len(w.store.Bytes(w.key(1)))))
			return objecttest.NotApplied()
		})
		finishes(t, l)
		if got, want := w.sequences(), numbers(5, 8); got != want {
			t.Errorf("the series holds %s, want %s", got, want)
		}
		if w.m.Garbled.Load() != 0 {
			t.Error("a frame was appended to the other object")
		}
	})
}

// The same for one that was idle since it sealed the last segment that it knew.
func TestDeletedWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t, 8)
		spec := w.spec
		w.spec = func(s string) Spec {
			sp := spec(s)
			sp.Roll = Roll{Size: 3000, Idle: time.Minute}
			return sp
		}
		l := w.lane()
		set, ctx, stop := running(t, l)
		add(t, l, set, ctx, 1, 8)
		time.Sleep(2 * time.Minute)
		if w.m.Seals.Load() != 1 {
			t.Fatal("the segment is not sealed")
		}
		w.publish(40)
		finishes(t, w.lane())
		w.store.Delete(w.key(2))
		want := len(w.archived()["e/0"])
		add(t, l, set, ctx, 9, 48)
		if err := set.Drain(ctx); err != nil {
			t.Error(err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if got := len(w.archived()["e/0"]); got != want {
			t.Errorf("the series has %d events, had %d", got, want)
		}
	})
}

// keeper is a store whose requests in doubt go on reading the bytes they were
// given, as a transport may behind a timeout.
type keeper struct {
	*objecttest.Store
	kept   []object.Body
	copies []object.Body
}

func (k *keeper) Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error) {
	a, err := k.Store.Append(ctx, key, position, body, c)
	if err != nil {
		k.kept, k.copies = append(k.kept, body), append(k.copies, body.Clone())
	}
	return a, err
}

func TestFramesInDoubtAreNotReused(t *testing.T) {
	for _, codec := range []event.Codec{event.Gzip, event.Plain} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 60, 1)
			for i := range w.events { // as long as what is kept for use again
				w.events[i].Data = fmt.Appendf(nil, `"%s"`, strings.Repeat(string(rune('a'+i%26)), 2000))
			}
			spec := w.spec
			w.spec = func(s string) Spec {
				sp := spec(s)
				sp.Codec, sp.Flush.Size, sp.Roll.Size = codec, 7000, 50_000
				return sp
			}
			appends := 0 // one series: they come one after the other
			w.store.SetFault(func(op, _ string, _ int) objecttest.Fault {
				if op != "append" {
					return objecttest.Fault{}
				}
				switch appends++; appends % 4 {
				case 0:
					return objecttest.Lost()
				case 2: // the next request has the same events, and is confirmed
					return objecttest.NotApplied()
				}
				return objecttest.Fault{}
			})
			k := &keeper{Store: w.store}
			l := w.lane()
			set := l.newSet()
			set.opt.Store = k
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- set.Run(ctx) }()
			for q := 1; q <= 60; q += 6 { // later ones are encoded where earlier ones were
				add(t, l, set, ctx, q, q+5)
				time.Sleep(time.Minute)
			}
			if err := set.Drain(ctx); err != nil {
				t.Error(err)
			}
			cancel()
			<-ran
			if len(k.kept) < 3 {
				t.Fatalf("only %d appends failed", len(k.kept))
			}
			for i := range k.kept {
				if !bytes.Equal(k.kept[i].Bytes(), k.copies[i].Bytes()) {
					t.Fatalf("the bytes of append %d were written over while its outcome was unknown", i)
				}
			}
		})
	}
}

// counted counts the bytes that are read.
type counted struct {
	*objecttest.Store
	n atomic.Int64
}

func (c *counted) Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	c.n.Add(to - from)
	return c.Store.Read(ctx, key, from, to)
}

// A writer that knows nothing of a series finds its end by the seal alone, also
// behind the very first segment.
func TestSealedSegmentIsNotRead(t *testing.T) {
	for _, codec := range []event.Codec{event.Gzip, event.Zstd, event.Plain} {
		synctest.Test(t, func(t *testing.T) {
			w, l := startWith(t, 200, codec)
			set, ctx, stop := running(t, l)
			set.mu.Lock()
			s := set.openKnown("e/0")
			s.sealWhy = whyIdle
			set.schedule(s)
			set.mu.Unlock()
			set.poke()
			synctest.Wait()
			time.Sleep(time.Second)
			if err := stop(); err != nil || w.m.Seals.Load() != 1 {
				t.Fatalf("%v, %d seals", err, w.m.Seals.Load())
			}
			w.ledger.wipe()
			w.publish(1)
			l = w.lane()
			set = l.newSet()
			c := &counted{Store: w.store}
			set.opt.Store = c
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- set.Run(ctx) }()
			add(t, l, set, ctx, 201, 201)
			if err := set.Drain(ctx); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			cancel()
			<-ran
			w.check()
			if size := int64(len(w.store.Bytes(w.store.Keys()[0]))); c.n.Load() > size/3 {
				t.Errorf("%d bytes were read of a sealed segment of %d", c.n.Load(), size)
			}
		})
	}
}

// Where the seal that named the next segment is destroyed, a writer that lags
// names one of the old codec. It must not fill that beside the one that there is,
// even if it cannot look at once.
func TestSealDestroyedAtACodecChange(t *testing.T) {
	for n := range 12 {
		synctest.Test(t, func(t *testing.T) {
			w, _ := start(t, 8)
			since := uint64(9)
			w.layout = func(e *event.Event, s *Spec) {
				s.Layout = 1
				if e.Sequence >= since {
					s.Layout, s.Codec = 2, event.Zstd
				}
			}
			old := w.ledger.copy()
			w.publish(8)
			finishes(t, w.lane())
			w.store.Replace(w.key(1), []byte("junk"))
			w.ledger.tails = old
			if n > 0 {
				w.store.SetFault(objecttest.OnNth(w.store.Operations()+n, objecttest.Hold()))
			}
			zombie := w.lane()
			zombie.floor = 8
			finishes(t, zombie)
			if got := len(w.stored()["e/0"]); got != 8 {
				t.Errorf("operation %d: %d events stand in the series, want 8", n, got)
			}
			if w.store.Bytes(w.key(2)) != nil {
				t.Errorf("operation %d: %s was written beside the real segment 2", n, w.key(2))
			}
		})
	}
}
