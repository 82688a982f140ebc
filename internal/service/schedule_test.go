package service

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	scheduleCount  = flag.Int("schedules", defaultSchedules, "random schedules to run")
	scheduleFrom   = flag.Uint64("from", 1, "seed of the first")
	scheduleSeed   = flag.Uint64("seed", 0, "run the schedule of this seed only, and tell its story")
	scheduleShards = flag.Int("shards", 1, "processes that share the schedules")
	scheduleTally  = flag.String("tally", "", "file for what was met, in JSON")
	scheduleRepeat = flag.Int("repeat", 20, "seeds to run three times")
)

// tally is what many schedules have met.
type tally struct {
	Schedules int
	Events    int // on the network and at the store
	Counts    map[string]int
	Failed    []uint64 // seeds
}

// Random schedules: one to three writers, with and without the lease, under
// configurations that change, on a stream of each retention. They crash, are paused
// and come back; connections, acknowledgements, answers and deliveries are lost;
// servers restart and forget, leaders change, consumers vanish, messages come again
// or expire; the ledger is deleted or put back; the store loses answers, applies
// requests late, refuses and fails. At every moment a floor and an acknowledgement
// must be true, and in the end each event stands where it belongs, once.
//
// A failure prints its seed, which gives the same schedule again. A long run:
//
//	go test ./internal/service -run TestSchedules -schedules 1000000 -shards 2 -timeout 0 -v
func TestSchedules(t *testing.T) {
	total := tally{Counts: map[string]int{}}
	start := time.Now()
	switch {
	case *scheduleSeed != 0:
		total.run(t, *scheduleSeed, 1)
	case *scheduleShards > 1:
		total.share(t)
	default:
		total.run(t, *scheduleFrom, *scheduleCount)
	}
	if *scheduleTally != "" {
		b, err := json.Marshal(total)
		if err == nil {
			err = os.WriteFile(*scheduleTally, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(start)
	t.Logf("%d schedules in %s, one each %s; %d things happened", total.Schedules, took.Round(time.Millisecond),
		(took / time.Duration(max(total.Schedules, 1))).Round(time.Microsecond), total.Events)
	for _, k := range slices.Sorted(maps.Keys(total.Counts)) {
		t.Logf("%10d %s", total.Counts[k], k)
	}
	for _, seed := range total.Failed {
		t.Errorf("seed %d failed: -run TestSchedules -seed %[1]d -v", seed)
	}
	if total.Schedules >= biting {
		total.bites(t)
	}
}

// biting is how many schedules meet everything that can go wrong, but for what is seldom.
const biting = 2000

// bites fails the test if what should have gone wrong has not.
func (c *tally) bites(t *testing.T) {
	expected := []string{
		"end: breach", "end: audit", "end: consumer_gone", "end: lease", "end: lease_lost", "end: acks_lost", "end: error",
		"redeliveries", "already held", "adoptions", "adopted events", "doubts", "refusals", "garbled", "holds", "seals", "dead letters",
		"zombies", "superseded", "stale reads", "ledgers restored", "ledger conflicts", "expired",
		"lost: ack", "lost: delivery", "lost: reply", "store: late", "store: lost", "floors checked", "acknowledgements checked",
	}
	if c.Schedules >= 20*biting { // seldom: a held series that has to forget needs more events than most have
		expected = append(expected, "end: sink")
	}
	for _, what := range expected {
		if c.Counts[what] == 0 {
			t.Errorf("%s: never happened", what)
		}
	}
}

// run runs the schedules of n seeds.
func (c *tally) run(t *testing.T, from uint64, n int) {
	defer alone()()
	for seed := from; seed < from+uint64(n) && len(c.Failed) < 5; seed++ {
		var w *world
		simulate(t, func(t *testing.T) { w = schedule(t, seed, *scheduleSeed != 0) })
		c.Schedules++
		if w == nil || w.failed > 0 {
			c.Failed = append(c.Failed, seed)
			continue
		}
		c.Events += w.events
		for k, n := range w.counts {
			c.Counts[k] += n
		}
	}
}

// share runs the schedules in processes of their own.
func (c *tally) share(t *testing.T) {
	var wg sync.WaitGroup
	tallies := make([]tally, *scheduleShards)
	from := *scheduleFrom
	for i := range tallies {
		n := *scheduleCount / *scheduleShards
		if i == 0 {
			n += *scheduleCount % *scheduleShards
		}
		file := filepath.Join(t.TempDir(), "tally")
		cmd := exec.Command(os.Args[0], "-test.run=^TestSchedules$", "-test.timeout=0", "-tally", file,
			"-from", strconv.FormatUint(from, 10), "-schedules", strconv.Itoa(n))
		from += uint64(n)
		wg.Go(func() {
			out, runErr := cmd.CombinedOutput()
			b, err := os.ReadFile(file)
			if err == nil {
				err = json.Unmarshal(b, &tallies[i])
			}
			if runErr != nil || err != nil {
				t.Errorf("%s: %v, %v\n%s", cmd, runErr, err, out)
			}
		})
	}
	wg.Wait()
	for _, o := range tallies {
		c.Schedules += o.Schedules
		c.Events += o.Events
		c.Failed = append(c.Failed, o.Failed...)
		for k, n := range o.Counts {
			c.Counts[k] += n
		}
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
		"holds": m.Holds.Total(), "ledger conflicts": m.LedgerConflicts.Load(),
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
