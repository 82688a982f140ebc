package appendsink

import (
	"context"
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

// Every operation on the store, one after the other, fails in every way; after
// each the run completes and every event stands once.
func TestNthOperation(t *testing.T) {
	faults := map[string]objecttest.Fault{
		"not applied": objecttest.NotApplied(), "lost": objecttest.Lost(), "late": objecttest.Late(),
		"throttled": objecttest.Throttled(), "hold": objecttest.Hold(),
		"garbled next": objecttest.GarbledNext(), "garbled crc": objecttest.GarbledCRC(),
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			adoptions := int64(0)
			for n := 1; ; n++ {
				ops := 0
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 30, 2)
					w.store.SetFault(objecttest.OnNth(n, fault))
					w.lane().finish(t.Context())
					w.store.Arrive()
					w.ledger.wipe()
					w.publish(6)
					w.lane().finish(t.Context()) // from nothing
					w.check()
					ops = w.store.Operations()
					adoptions += w.m.Adoptions.Load()
				})
				if t.Failed() {
					t.Fatalf("operation %d", n)
				}
				if n > ops {
					break
				}
			}
			t.Logf("%d adoptions", adoptions)
		})
	}
}

// A writer crashes at every operation, before and after it is applied, and
// another goes on.
func TestCrashAtNthOperation(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			ops := 0
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 30, 2)
				ctx, crash := context.WithCancel(t.Context())
				w.store.SetFault(func(op, key string, i int) objecttest.Fault {
					if i != n {
						return objecttest.Fault{}
					}
					f := objecttest.NotApplied()
					if after {
						f = objecttest.Lost()
					}
					crash()
					return f
				})
				l := w.lane()
				l.finish(ctx)
				ops = w.store.Operations()
				crash()
				l.finish(t.Context())
				w.check()
			})
			if t.Failed() {
				t.Fatalf("operation %d, after: %v", n, after)
			}
			if n > ops {
				break
			}
		}
	}
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
