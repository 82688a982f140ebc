package appendsink

import (
	"testing"
	"testing/synctest"

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
