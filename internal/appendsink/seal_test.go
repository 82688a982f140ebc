package appendsink

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

// A seal that landed on another object of the same length proves nothing of what
// stands before it: the segment is to be left by a break, as with a data frame.
func TestSealOnAnotherObjectOfTheSameLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := start(t, 4)
		spec := l.spec
		l.spec = func(s string) Spec {
			sp := spec(s)
			sp.Roll.Size = 1
			return sp
		}
		l.specs = map[string]*Spec{}
		w.publish(4)
		w.store.SetFault(func(op, _ string, _ int) objecttest.Fault {
			if op == "append" {
				w.store.SetFault(nil)
				w.store.Replace(w.key(1), make([]byte, len(w.store.Bytes(w.key(1)))))
			}
			return objecttest.Fault{}
		})
		finishes(t, l)
		if w.m.Garbled.Load() != 1 {
			t.Errorf("%d garbled", w.m.Garbled.Load())
		}
		if got, want := w.sequences(), numbers(5, 8); got != want {
			t.Errorf("the series holds %s, want %s", got, want)
		}
	})
}

// A segment is sealed before its seal, which indexes every frame, could outgrow
// what the store or a reader takes.
func TestManyFramesRoll(t *testing.T) {
	defer func(n int) { maxFrames = n }(maxFrames)
	maxFrames = 3
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t, 4)
		for range 4 {
			w.publish(1)
			w.lane().finish(t.Context())
		}
		w.check()
		if n := w.m.Seals.Load(); n != 1 {
			t.Errorf("%d seals, want 1", n)
		}
	})
}

// A writer that knows only the end of a segment, and that perhaps wrongly, reads it
// before it seals it: the seal lists every frame, and states the CRC-64 of what
// stands before it.
func TestSealStatesWhatWasRead(t *testing.T) {
	for name, change := range map[string]func(e *ledger.Tail){
		"the ledger is right":              func(*ledger.Tail) {},
		"the ledger has a wrong CRC-64":    func(e *ledger.Tail) { e.CRC64++ },
		"the ledger has another last hash": func(e *ledger.Tail) { e.Hash[0]++ },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _ := start(t, 10)
				spec := w.spec
				w.spec = func(s string) Spec {
					sp := spec(s)
					sp.Roll.Idle = time.Minute
					return sp
				}
				frames := w.frames(w.key(1))
				e := w.ledger.tails["e/0"]
				change(&e.Tail)
				w.ledger.tails["e/0"] = e
				_, _, stop := running(t, w.lane())
				time.Sleep(5 * time.Minute)
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				b := w.store.Bytes(w.key(1))
				sealed := w.frames(w.key(1))
				if len(sealed) != len(frames)+1 {
					t.Fatalf("%d frames, want %d and a seal", len(sealed), len(frames))
				}
				seal := sealed[len(frames)]
				if at := seal.Place.Position; seal.Before != object.CRC64(0, b[:at]) {
					t.Errorf("the seal states the CRC-64 %d of the bytes before it, they have %d", seal.Before, object.CRC64(0, b[:at]))
				}
				if !slices.EqualFunc(seal.Index, frames, func(e event.IndexEntry, f *event.Frame) bool {
					return e.Position == f.Place.Position && e.First == f.Content.First
				}) {
					t.Errorf("the seal lists %d frames, want %d: %v", len(seal.Index), len(frames), seal.Index)
				}
			})
		})
	}
}

// frames reads an object's frames.
func (w *world) frames(key string) (out []*event.Frame) {
	_, _, ext, _ := event.ParseKey("p/", key)
	_, codec, _ := event.ParseExt(ext)
	sc := event.NewScanner(bytes.NewReader(w.store.Bytes(key)), codec, 0, 0)
	for {
		f, _, err := sc.Next()
		if err != nil {
			return out
		}
		out = append(out, f)
	}
}

// A seal names the next segment's key. A writer that only knows the segment before
// goes there, also where the codec has changed and nothing stands there yet.
func TestSealNamesTheNextSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t, 8)
		w.layout = func(e *event.Event, s *Spec) {
			s.Layout = 1
			if e.Sequence > 8 {
				s.Layout, s.Codec = 2, event.Zstd
			}
		}
		old := w.ledger.copy()
		w.publish(8)
		next := event.Key("p/", "e/0", 2, "ndjson.zst")
		wait, first := make(chan struct{}), true
		w.store.SetFault(func(op, key string, _ int) objecttest.Fault {
			if op == "append" && key == next && first {
				first = false
				return objecttest.Fault{Wait: wait}
			}
			return objecttest.Fault{}
		})
		slow, done := w.lane(), make(chan struct{})
		go func() { finishes(t, slow); close(done) }()
		time.Sleep(time.Second)
		synctest.Wait()
		if len(w.frames(w.key(1))) == 0 || first {
			t.Fatal("the slow writer has not sealed the first segment")
		}
		w.ledger.mu.Lock()
		w.ledger.tails = old
		w.ledger.mu.Unlock()
		finishes(t, w.lane())
		close(wait)
		<-done
		if k := w.store.Keys(); !slices.Equal(k, []string{w.key(1), next}) {
			t.Errorf("keys: %v", k)
		}
		w.check()
	})
}
