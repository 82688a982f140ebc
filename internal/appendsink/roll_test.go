package appendsink

import (
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/object"
)

// A segment's age is that of its first append, not of its events: a backlog that
// is older than roll.age must not make a segment of every frame.
func TestOldEventsDoNotRoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0, 1)
		w.publishLocked(time.Now().Add(-240 * time.Hour))
		w.publish(59)
		spec := w.spec
		w.spec = func(s string) Spec {
			sp := spec(s)
			sp.Roll = Roll{Size: 1 << 20, Age: 24 * time.Hour}
			return sp
		}
		l := w.lane()
		l.stream.Created = time.Now().Add(-250 * time.Hour)
		finishes(t, l)
		if k := w.store.Keys(); len(k) != 1 {
			t.Errorf("%d segments, want 1", len(k))
		}
		// The same for one who only finds the frames.
		w.ledger.wipe()
		w.publish(20)
		l.floor = 0
		finishes(t, l)
		if k := w.store.Keys(); len(k) != 1 {
			t.Errorf("%d segments, want 1", len(k))
		}
		w.check()
	})
}

// Idle series are sealed although more of them were written to than can be open.
func TestMoreIdleSeriesThanCanBeOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 40, 20)
		w.open = 3
		spec := w.spec
		w.spec = func(s string) Spec {
			sp := spec(s)
			sp.Roll.Idle = time.Minute
			return sp
		}
		l := w.lane()
		set, ctx, stop := running(t, l)
		add(t, l, set, ctx, 1, 40)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := w.m.Seals.Load(); n != 20 {
			t.Errorf("%d series are sealed, want 20", n)
		}
		if n := w.m.OpenSeries.Load(); n > 3 {
			t.Errorf("%d series are open", n)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		w.check()
	})
}

// A writer whose knowledge lags sees that a series is not idle when its seal is
// refused: it leaves the segment open, and seals it once it is idle.
func TestActiveSeriesIsNotSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := start(t, 8)
		spec := w.spec
		w.spec = func(s string) Spec {
			sp := spec(s)
			sp.Roll.Idle = time.Hour
			return sp
		}
		old := w.ledger.copy()
		time.Sleep(2 * time.Hour)
		w.publish(8)
		finishes(t, l)
		w.ledger.tails = old
		other := w.lane()
		_, _, stop := running(t, other)
		time.Sleep(time.Minute)
		if n := w.m.Seals.Load(); n != 0 {
			t.Errorf("%d seals, want none: it was appended to a minute ago", n)
		}
		time.Sleep(2 * time.Hour)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if n := w.m.Seals.Load(); n != 1 {
			t.Errorf("%d seals after two hours, want 1", n)
		}
		w.check()
	})
}

// Whatever is configured, the largest seal and a break still fit behind the last
// frame.
func TestRollSizeIsBounded(t *testing.T) {
	for _, size := range []int64{0, -1, 1, object.MaxSize, 1 << 62} {
		if got := (&Spec{Roll: Roll{Size: size}}).rollSize(); got < 1 || got > object.MaxSize-2*maxSeal {
			t.Errorf("roll.size %d lets segments grow to %d bytes", size, got)
		}
	}
}
