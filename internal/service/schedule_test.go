package service

import (
	"flag"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	scheduleCount  = flag.Int("schedules", 300, "random schedules to run")
	scheduleRepeat = flag.Int("repeat", 20, "seeds to run three times")
	scheduleSeed   = flag.Uint64("seed", 0, "run the schedule of this seed only, and tell its story if it fails")
)

// tally is what a run of many schedules has met.
type tally struct {
	schedules int
	events    int
	counts    map[string]int
}

func TestSchedules(t *testing.T) {
	defer alone()()
	from, to := uint64(1), uint64(*scheduleCount)
	if *scheduleSeed != 0 {
		from, to = *scheduleSeed, *scheduleSeed
	}
	total := tally{counts: map[string]int{}}
	start := time.Now()
	for seed := from; seed <= to; seed++ {
		simulate(t, func(t *testing.T) { total.add(schedule(t, seed, *scheduleSeed != 0)) })
		if t.Failed() {
			break
		}
	}
	took := time.Since(start)
	t.Logf("%d schedules in %s, %s each; %d things traced", total.schedules, took.Round(time.Millisecond),
		(took / time.Duration(max(total.schedules, 1))).Round(time.Microsecond), total.events)
	for _, k := range slices.Sorted(maps.Keys(total.counts)) {
		t.Logf("%10d %s", total.counts[k], k)
	}
}

// alone keeps what is not simulated from deciding who comes first: other threads
// and the garbage collector.
func alone() (end func()) {
	procs, percent := runtime.GOMAXPROCS(1), debug.SetGCPercent(-1)
	return func() {
		runtime.GOMAXPROCS(procs)
		debug.SetGCPercent(percent)
	}
}

var simulations int

// simulate runs f on simulated time.
func simulate(t *testing.T, f func(*testing.T)) {
	if simulations++; simulations%20 == 0 {
		runtime.GC()
	}
	dropTimers()
	synctest.Test(t, f)
}

func (t *tally) add(w *world) {
	t.schedules++
	t.events += w.events
	for k, n := range w.counts {
		t.counts[k] += n
	}
}

// schedule runs one schedule.
func schedule(t *testing.T, seed uint64, tell bool) *world {
	w := newWorld(t, seed, tell)
	defer func() {
		if tell && (t.Failed() || testing.Verbose()) {
			t.Log("\n" + strings.Join(w.story, "\n"))
		}
		if t.Failed() {
			t.Logf("seed %d: run again with -run TestSchedules -seed %d", seed, seed)
		}
	}()
	for i := range w.plan.writers {
		s := &slot{w: w, name: fmt.Sprintf("w%d", i), variant: w.plan.variants[i], quit: make(chan struct{})}
		w.slots = append(w.slots, s)
	}
	for i, s := range w.slots {
		w.wg.Go(func() {
			time.Sleep(span(mix(seed+uint64(i)), 0, 50*time.Millisecond))
			s.loop()
		})
	}
	for _, s := range w.plan.steps {
		time.Sleep(time.Until(w.began.Add(s.at)))
		if s.what != "publish" {
			w.trace("", s.what, "", 0)
			w.count("step: "+s.what, true)
		}
		s.do(w)
	}
	w.finish()
	return w
}

// finish ends all trouble, lets a last writer archive what is left, and checks.
func (w *world) finish() {
	time.Sleep(time.Millisecond) // let the last step be over
	w.trace("", "peace", "", 0)
	w.peace.Store(true)
	last := w.slots[0]
	for i, s := range w.slots {
		if i > 0 && mix(w.seed+uint64(i))%3 > 0 {
			s.stop()
		}
	}
	w.await("everything is archived")
	for _, s := range w.slots {
		s.stop()
	}
	w.wg.Wait()
	if w.plan.again && !w.t.Failed() {
		w.srv.DeleteStream(scheduleBucket)
		for i := range 3 {
			w.publish(&published{id: 1000 + i, subject: "events.s0.g0", data: fmt.Sprintf(`{"n":%d}`, 1000+i)})
		}
		s := &slot{w: w, name: "again", variant: last.variant, quit: make(chan struct{})}
		w.slots = []*slot{s}
		w.wg.Go(s.loop)
		w.await("a last writer has gone over everything")
		s.stop()
		w.wg.Wait()
	}
	// The last zombies wake up, and what is still on its way arrives.
	for _, p := range w.all {
		p.thaw()
	}
	time.Sleep(time.Second)
	w.truth.check(w.store)
	m := &w.sinks
	for name, n := range map[string]int64{
		"appends": m.Appends.Load(), "refusals": m.Refusals.Load(), "doubts": m.Doubts.Load(), "garbled": m.Garbled.Load(),
		"adoptions": m.Adoptions.Load(), "adopted events": m.AdoptedEvents.Load(), "already held": m.AlreadyHeld.Load(), "breaks": m.Breaks.Load(),
		"seals": m.Seals.Load(), "overtaken": m.Overtaken.Load(), "dead letters": m.DeadLetters.Load(), "forgotten": m.Forgotten.Load(),
		"holds": m.Holds.Load(), "ledger conflicts": m.LedgerConflicts.Load(),
	} {
		w.counts[name] += int(n)
	}
	w.counts["floors checked"] += w.truth.floors
	w.counts["acknowledgements checked"] += w.truth.acks
	w.counts["virtual seconds"] += int(time.Since(w.began).Seconds())
}

const patienceForAll = 15 * time.Minute

func (w *world) await(what string) {
	for limit := time.Now().Add(patienceForAll); !w.truth.done(); time.Sleep(101 * time.Millisecond) {
		if time.Now().After(limit) {
			w.errorf("never: %s: %s", what, w.truth.state())
			return
		}
		if w.t.Failed() {
			return
		}
	}
}

func (t *truth) state() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%d missing, floor %d, control %+v", t.missing, t.floor, t.control)
	for _, p := range t.events {
		if _, ok := t.has[p.id]; !ok && p.wanted() {
			fmt.Fprintf(&b, "; %d at %d %s", p.id, p.seq, p.gone)
		}
	}
	return b.String()
}

// A seed decides a schedule to the nanosecond: what happened to the network and the
// store is the same in every run, or a failure could not be looked at again.
func TestSeedsReproduce(t *testing.T) {
	defer alone()()
	for seed := uint64(1); seed <= uint64(*scheduleRepeat); seed++ {
		var first *world
		for run := range 3 {
			var w *world
			simulate(t, func(t *testing.T) { w = schedule(t, seed, true) })
			if run == 0 {
				first = w
				continue
			}
			if w.digest == first.digest {
				continue
			}
			slices.Sort(first.story)
			slices.Sort(w.story)
			t.Errorf("seed %d, run %d: what happened once is\n%s", seed, run, strings.Join(unlike(first.story, w.story), "\n"))
			break
		}
	}
}

// unlike is what only one of two sorted lists has, the first few of it.
func unlike(a, b []string) (out []string) {
	for len(out) < 8 && len(a)+len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			out, a = append(out, "< "+a[0]), a[1:]
		case len(a) == 0 || b[0] < a[0]:
			out, b = append(out, "> "+b[0]), b[1:]
		default:
			a, b = a[1:], b[1:]
		}
	}
	return out
}
