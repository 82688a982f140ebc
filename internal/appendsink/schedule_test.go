package appendsink

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object/objecttest"
)

var (
	schedules = flag.Int("schedules", 150, "random schedules to run")
	seedFlag  = flag.Uint64("seed", 0, "run the schedule of this seed only")
)

// Random schedules: one to three writers with random faults of the store and the
// ledger, crashes, lost and rolled back ledgers, foreign bytes, codec changes.
// A failure prints its seed; -seed runs it again.
func TestSchedules(t *testing.T) {
	from, to := uint64(1), uint64(*schedules)
	if *seedFlag != 0 {
		from, to = *seedFlag, *seedFlag
	}
	var total Metrics
	for seed := from; seed <= to; seed++ {
		synctest.Test(t, func(t *testing.T) { schedule(t, seed, &total) })
		if t.Failed() {
			t.Fatalf("seed %d: run again with -run TestSchedules -seed %d", seed, seed)
		}
	}
	t.Logf("%d schedules: %d appends, %d refusals, %d doubts, %d garbled, %d adoptions with %d own events, %d breaks, %d seals, %d overtaken",
		to-from+1, total.Appends.Load(), total.Refusals.Load(), total.Doubts.Load(), total.Garbled.Load(), total.Adoptions.Load(),
		total.AdoptedEvents.Load(), total.Breaks.Load(), total.Seals.Load(), total.Overtaken.Load())
	if *seedFlag == 0 && (total.AdoptedEvents.Load() == 0 || total.Breaks.Load() == 0) {
		t.Error("nothing was adopted or broken off: the faults are not biting")
	}
}

func schedule(t *testing.T, seed uint64, total *Metrics) {
	rng := rand.New(rand.NewPCG(seed, 7))
	w := newWorld(t, 20+rng.IntN(80), 1+rng.IntN(3))
	if rng.IntN(3) == 0 {
		w.open = 1 // every change of series evicts
	}
	codecs := []event.Codec{event.Gzip, event.Zstd, event.Plain}
	spec := w.spec
	codec := codecs[rng.IntN(3)]
	w.spec = func(series string) Spec {
		s := spec(series)
		s.Codec = codec
		if rng.IntN(3) == 0 {
			s.Roll = Roll{Size: 1500, Idle: 30 * time.Second, Age: time.Minute}
		}
		return s
	}
	rate := rng.Float64() * 0.4
	foreign := rng.IntN(3) == 0
	faults := []func() objecttest.Fault{objecttest.NotApplied, objecttest.Lost, objecttest.Late, objecttest.Throttled, objecttest.Hold,
		objecttest.GarbledNext, objecttest.GarbledCRC}
	left := 60 // faults end at some time, or nothing would
	broken := 0
	w.store.SetFault(func(op, key string, i int) objecttest.Fault {
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		if foreign && broken < 3 && op == "append" && rng.IntN(20) == 0 {
			broken++
			// Behind the store's back, so that this very append meets it. Line
			// feeds around, or a plain segment's reader could not tell lines.
			go w.store.AppendRaw(key, []byte("\nforeign bytes\n"))
			synctestWait()
		}
		if left == 0 || rng.Float64() >= rate {
			return objecttest.Fault{}
		}
		left--
		return faults[rng.IntN(len(faults))]()
	})
	w.ledger.fault = func(op string) (error, error) {
		if rng.IntN(4) > 0 {
			return nil, nil
		}
		err := fmt.Errorf("planted ledger fault at %s", op)
		if op == "tails" {
			return nil, nil
		}
		if rng.IntN(2) == 0 {
			return err, nil
		}
		return nil, err
	}
	old := w.ledger.copy()
	writers := 1 + rng.IntN(3)
	done := make(chan struct{})
	for range writers {
		crashes := rng.IntN(4)
		pause := time.Duration(rng.IntN(400)) * time.Millisecond
		go func() {
			defer func() { done <- struct{}{} }()
			time.Sleep(pause)
			l := w.lane()
			for range crashes {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(1500))*time.Millisecond)
				l.finish(ctx)
				cancel()
				switch rng.IntN(6) {
				case 0:
					w.ledger.wipe()
				case 1:
					w.ledger.mu.Lock()
					w.ledger.tails = old
					w.ledger.mu.Unlock()
				case 2:
					old = w.ledger.copy()
				case 3:
					l = w.lane() // from the first event again
				}
			}
			l.finish(t.Context())
		}()
	}
	for range writers {
		<-done
	}
	w.store.Arrive()
	// A change of codec, and a writer that knows nothing.
	codec = codecs[rng.IntN(3)]
	w.ledger.wipe()
	w.publish(5)
	last := w.lane()
	last.finish(t.Context())
	if broken > 0 {
		w.checkBroken()
	} else {
		w.check()
	}
	total.Appends.Add(w.m.Appends.Load())
	total.Refusals.Add(w.m.Refusals.Load())
	total.Doubts.Add(w.m.Doubts.Load())
	total.Garbled.Add(w.m.Garbled.Load())
	total.Adoptions.Add(w.m.Adoptions.Load())
	total.AdoptedEvents.Add(w.m.AdoptedEvents.Load())
	total.Breaks.Add(w.m.Breaks.Load())
	total.Seals.Add(w.m.Seals.Load())
	total.Overtaken.Add(w.m.Overtaken.Load())
}

// synctestWait lets a goroutine that was just started do its work.
func synctestWait() { time.Sleep(time.Microsecond) }

// checkBroken is check for a store with foreign bytes: standard tools stop at
// them, so the frames are read as docs/FORMAT.md says, following breaks.
func (w *world) checkBroken() {
	w.t.Helper()
	want := map[string][]string{}
	for _, e := range w.events {
		name := strings.ReplaceAll(e.Subject, ".", "/")
		want[name] = append(want[name], fmt.Sprintf("%d %s", e.Sequence, e.Data))
	}
	got := w.walk()
	for name, lines := range want {
		if !slices.Equal(got[name], lines) {
			w.t.Errorf("series %s: archived\n  %s\nwant\n  %s", name, strings.Join(got[name], "\n  "), strings.Join(lines, "\n  "))
		}
	}
}
