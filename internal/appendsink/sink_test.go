package appendsink

import (
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/object/objecttest"
)

func TestArchivesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 100, 3)
		l := w.lane()
		l.finish(t.Context())
		if l.epochs != 1 {
			t.Errorf("took %d epochs: %v", l.epochs, l.last)
		}
		w.check()
		if w.m.Seals.Load() == 0 {
			t.Error("nothing was sealed; the roll size is too large for this test")
		}
		if used, held := w.budget.Used(); used != 0 || held != 0 {
			t.Errorf("budget: %d used, %d held after the end", used, held)
		}
	})
}

// Several writers at once, with nothing to keep them apart.
func TestManyWriters(t *testing.T) {
	for writers := 2; writers <= 3; writers++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 120, 2)
			w.store.SetFault(func(op, key string, i int) objecttest.Fault {
				time.Sleep(time.Duration(i%7) * time.Millisecond) // the bubble's clock: lets others in between
				return objecttest.Fault{}
			})
			done := make(chan struct{})
			for range writers {
				go func() {
					w.lane().finish(t.Context())
					done <- struct{}{}
				}()
			}
			for range writers {
				<-done
			}
			w.check()
			if w.m.Adoptions.Load() == 0 {
				t.Error("no frame was adopted: the writers did not meet")
			}
		})
	}
}
