package appendsink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object/objecttest"
)

// Two writers meet bytes that are no frame. Whatever moment the other one leaves
// the segment at, and goes on: there is one break, at the end of what both have
// seen, and everybody follows it.
func TestBreakOfAnotherIsFollowed(t *testing.T) {
	for n := 1; ; n++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			w, l := start(t, 4)
			w.store.AppendRaw(w.key(1), []byte("junk"))
			w.publish(8)
			other, from := w.lane(), w.store.Operations()
			w.store.SetFault(func(_, _ string, i int) objecttest.Fault {
				if i == from+n {
					w.store.SetFault(nil)
					finishes(t, other)
				}
				return objecttest.Fault{}
			})
			finishes(t, l)
			done = other.epochs == 0
			b := w.store.Bytes(w.key(1))
			at := int64(bytes.Index(b, []byte("junk")))
			f, end, err := event.FindBreak(bytes.NewReader(b[at:]), event.Gzip, at, func(*event.Frame) bool { return true })
			if err != nil || f == nil || f.Content.Valid != at || end != int64(len(b)) {
				t.Errorf("the first break says that %v, and ends at %d of %d: %v", f, end, len(b), err)
			}
			if got, want := w.sequences(), numbers(1, 12); got != want {
				t.Errorf("the series holds %s, want %s", got, want)
			}
			if k := w.store.Keys(); len(k) != 2 {
				t.Errorf("keys: %v", k)
			}
		})
		if t.Failed() {
			t.Fatalf("the other writer comes before operation %d", n)
		}
		if done {
			break
		}
	}
}

// A segment that is gone is left by a break at its start. One that another writer
// has begun anew meanwhile is not gone.
func TestBreakStandsBehindWhatWasSeen(t *testing.T) {
	for n := 1; ; n++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			w, l := start(t, 4)
			w.store.Delete(w.key(1))
			w.publish(4)
			anew, from := w.lane(), w.store.Operations()
			anew.floor = 4
			w.store.SetFault(func(_, _ string, i int) objecttest.Fault {
				if i == from+n {
					w.store.SetFault(nil)
					w.ledger.wipe()
					finishes(t, anew)
				}
				return objecttest.Fault{}
			})
			finishes(t, l)
			done = anew.epochs == 0
			if got, want := w.sequences(), numbers(5, 8); got != want {
				t.Errorf("the series holds %s, want %s", got, want)
			}
			w.checkChains()
		})
		if t.Failed() {
			t.Fatalf("the other writer comes before operation %d", n)
		}
		if done {
			break
		}
	}
}

// flipping is a store of which two reads in a row give a wrong byte.
type flipping struct {
	*objecttest.Store
	reads, wrong int
}

func (s *flipping) Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	r, err := s.Store.Read(ctx, key, from, to)
	if s.reads++; err != nil || s.reads != s.wrong && s.reads != s.wrong+1 {
		return r, err
	}
	p, err := io.ReadAll(r)
	if len(p) > 20 {
		p[20] ^= 1
	}
	return io.NopCloser(bytes.NewReader(p)), err
}

// Bytes that came wrong, over a proxy or from a disk, are no reason to leave a
// segment if they come right when they are asked for again.
func TestWrongTwiceIsReadAgain(t *testing.T) {
	for wrong := 1; ; wrong++ {
		reads := 0
		synctest.Test(t, func(t *testing.T) {
			w, _ := start(t, 4)
			old := w.ledger.copy()
			w.publish(6)
			finishes(t, w.lane())
			w.publish(4)
			w.ledger.tails = old
			s := &flipping{Store: w.store, wrong: wrong}
			l := w.lane()
			set := l.newSet()
			set.opt.Store = s
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- set.Run(ctx) }()
			add(t, l, set, ctx, 1, 14)
			if err := set.Drain(ctx); err != nil {
				t.Error(err)
			}
			cancel()
			<-ran
			w.check()
			if w.m.Breaks.Load() != 0 {
				t.Errorf("%d segments were left", w.m.Breaks.Load())
			}
			reads = s.reads
		})
		if t.Failed() {
			t.Fatalf("reads %d and %d were wrong", wrong, wrong+1)
		}
		if wrong > reads {
			break
		}
	}
}

// newer makes a frame of a plain segment one of a later version.
func newer(t *testing.T, frame []byte) []byte {
	const open, middle = `{"_ossuary":{"content":`, `,"place":`
	content, rest, ok := strings.Cut(strings.TrimPrefix(string(frame), open), middle)
	old, err := event.ReadHeader(frame, event.Plain)
	if !ok || err != nil {
		t.Fatalf("%q: %v", frame, err)
	}
	content = strings.Replace(content, `"v":1`, `"v":2`, 1)
	hash := event.Hash(sha256.Sum256([]byte(content)))
	return []byte(open + content + middle + strings.Replace(rest, old.Hash.String(), hash.String(), 1))
}

// What a later version has written is nothing to break off: the series waits
// until it is read by one that knows it.
func TestNewerFrameHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := startWith(t, 4, event.Plain)
		key := w.store.Keys()[0]
		b := w.store.Bytes(key)
		c := event.Content{Archive: "a", Source: "S", Lane: "0", Series: "e/0", Segment: 1, Frame: 2, Stream: l.stream,
			First: 5, Last: 5, MinTime: created, MaxTime: created, Greatest: created, Count: 1}
		frame, _, err := event.NewFrameWriter(0).Data(nil, event.Plain, &c, int64(len(b)), []byte("x\n"))
		if err != nil {
			t.Fatal(err)
		}
		w.store.AppendRaw(key, newer(t, frame))
		w.publish(4)
		set, ctx, stop := running(t, l)
		add(t, l, set, ctx, 5, 8)
		time.Sleep(time.Hour)
		synctest.Wait()
		if held := set.Held(); len(held) != 1 || !strings.Contains(held[0].Reason, "newer version") {
			t.Errorf("held: %+v", held)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if w.m.Breaks.Load() != 0 || len(w.store.Keys()) != 1 {
			t.Errorf("%d breaks, keys %v", w.m.Breaks.Load(), w.store.Keys())
		}
	})
}

// A break that speaks of another place than where the valid bytes end is none of
// this segment's: it is foreign bytes like those before it.
func TestBreakOfAnotherPlace(t *testing.T) {
	for _, off := range []int64{-1, 1} {
		synctest.Test(t, func(t *testing.T) {
			w, l := start(t, 4)
			frames := w.frames(w.key(1))
			last := frames[len(frames)-1]
			c := last.Content
			c.Frame, c.Prev, c.First, c.Count, c.MinTime, c.MaxTime = c.Frame+1, last.Hash, 0, 0, time.Time{}, time.Time{}
			c.Next, c.Valid = event.Key("p/", "e/0", 2, "ndjson.zst"), last.End()+off
			w.store.AppendRaw(w.key(1), []byte("junk"))
			frame, _, err := event.NewFrameWriter(0).Break(nil, event.Gzip, &c, last.End()+4)
			if err != nil {
				t.Fatal(err)
			}
			w.store.AppendRaw(w.key(1), frame)
			w.publish(4)
			finishes(t, l)
			if got, want := w.sequences(), numbers(1, 8); got != want {
				t.Errorf("the series holds %s, want %s", got, want)
			}
			if w.store.Bytes(w.key(2)) == nil || w.m.Breaks.Load() != 1 {
				t.Errorf("keys %v, %d breaks", w.store.Keys(), w.m.Breaks.Load())
			}
		})
	}
}

// An append is confirmed by both of what the store says of it, or the object is
// read.
func TestConfirmationIsChecked(t *testing.T) {
	for name, fault := range map[string]objecttest.Fault{"next position": objecttest.GarbledNext(), "CRC-64": objecttest.GarbledCRC()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, l := start(t, 4)
				w.publish(4)
				w.store.SetFault(objecttest.OnNth(w.store.Operations()+1, fault))
				finishes(t, l)
				if w.m.Garbled.Load() != 1 || w.m.Adoptions.Load() != 1 {
					t.Errorf("%d answers were not as computed and %d frames were found by reading, want one each", w.m.Garbled.Load(), w.m.Adoptions.Load())
				}
				w.check()
			})
		})
	}
}
