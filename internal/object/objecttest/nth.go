package objecttest

import (
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Trial is something that must come out right whatever operation fails.
type Trial struct {
	Name string
	// Run does it once under a plan, checks what must hold, and returns how often
	// something was found that had been written without anybody being told.
	Run func(t *testing.T, p *Plan) (found int64)

	usual int64 // found without any fault
}

// NthOperation runs each trial with its first, second, third ... operation failing
// in each way, and then with two operations that fail: pairs that a seed picks,
// for as long as pairs says; with OSSUARY_LONG in the environment all of them, on
// as many cores as GOMAXPROCS has. OSSUARY_SEED picks the same pairs again, and
// OSSUARY_PLAN runs one plan, as a failure prints it. ops are the operations of
// which each way must have been met.
func NthOperation(t *testing.T, trials []Trial, ops string, pairs time.Duration) {
	if s := os.Getenv("OSSUARY_PLAN"); s != "" {
		name, steps, err := ParsePlan(s)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(trials, func(tr Trial) bool { return tr.Name == name })
		if i < 0 {
			t.Skipf("there is no %q here", name)
		}
		trials[i].try(t, steps...)
		return
	}
	long := os.Getenv("OSSUARY_LONG") != ""
	var sum tried
	steps := make([][]Step, len(trials))
	for i := range trials {
		t.Run(trials[i].Name, func(t *testing.T) {
			began := time.Now()
			_, trials[i].usual = trials[i].try(t)
			steps[i] = trials[i].singles(t, &sum, long)
			t.Logf("%d operations, %d steps, %s", steps[i][len(steps[i])-1].N, len(steps[i]), time.Since(began).Round(time.Millisecond))
		})
	}
	if t.Failed() {
		return
	}
	sum.log(t, "singles", time.Time{})
	for op := range strings.FieldsSeq(ops) {
		for _, w := range ways[op] {
			if _, met := sum.met.Load(op + ", " + w.Kind); !met {
				t.Errorf("no %s met %q", op, w.Kind)
			}
		}
	}
	t.Run("pairs", func(t *testing.T) {
		var sum tried
		began := time.Now()
		if long {
			allPairs(t, trials, steps, &sum)
		} else {
			somePairs(t, trials, steps, &sum, pairs)
		}
		sum.log(t, "pairs", began)
	})
}

// tried is what a set of runs came to.
type tried struct {
	runs, found atomic.Int64
	met         sync.Map // operations with the kinds of ways
}

func (s *tried) log(t *testing.T, what string, began time.Time) {
	took := ""
	if !began.IsZero() {
		took = " in " + time.Since(began).Round(time.Second).String()
	}
	t.Logf("%s: %d runs%s, in which %d writes more than usual were found by reading", what, s.runs.Load(), took, s.found.Load())
	if s.found.Load() == 0 {
		t.Error("the faults are not biting")
	}
}

// try runs a plan, and says which one if it fails.
func (tr *Trial) try(t *testing.T, steps ...Step) (p *Plan, found int64) {
	p = &Plan{steps: steps}
	defer func() { // also if Run does not return
		if t.Failed() {
			t.Logf("operations:\n  %s", strings.Join(p.log, "\n  "))
			t.Logf("again with: OSSUARY_PLAN='%s: %s'", tr.Name, p)
		}
	}()
	found = tr.Run(t, p)
	if t.Failed() {
		t.FailNow()
	}
	return p, found
}

// next runs one more step than first has, and reports whether the operation came
// and whether it has such a way.
func (tr *Trial) next(t *testing.T, sum *tried, steps ...Step) (operation, way bool) {
	p, found := tr.try(t, steps...)
	if len(p.met) < len(steps) {
		return false, false
	}
	if p.met[len(steps)-1].way == nil {
		return true, false
	}
	sum.runs.Add(1)
	sum.found.Add(max(0, found-tr.usual))
	for _, m := range p.met {
		if m.way != nil {
			sum.met.Store(m.op+", "+m.way.Kind, true)
		}
	}
	return true, true
}

// singles fails each operation in each way, and returns the steps that there are.
// Who goes on after a crash changes by turns; with every, all of them do, though
// they are not among the steps. With first, that step goes before.
func (tr *Trial) singles(t *testing.T, sum *tried, every bool, first ...Step) (steps []Step) {
	n, turn := 1, 0
	if len(first) > 0 {
		n, turn = first[0].N+1, first[0].i
	}
	for ; ; n++ {
		for i := 0; every; i++ {
			if _, way := tr.next(t, sum, Step{N: n, i: i, turn: -1}); !way {
				break
			}
		}
		for i := 0; ; i++ {
			s := Step{N: n, i: i, turn: n + turn}
			operation, way := tr.next(t, sum, append(slices.Clone(first), s)...)
			if !operation {
				return steps
			}
			if !way {
				break
			}
			steps = append(steps, s)
		}
	}
}

// allPairs runs every pair of steps of every trial, on all cores.
func allPairs(t *testing.T, trials []Trial, steps [][]Step, sum *tried) {
	type first struct {
		tr   *Trial
		step Step
	}
	var all []first
	for i := range steps {
		for _, s := range steps[i] {
			all = append(all, first{&trials[i], s})
		}
	}
	var next atomic.Int64
	t.Run("all", func(t *testing.T) { // returns when the shards are done
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				for i := next.Add(1); i <= int64(len(all)); i = next.Add(1) {
					all[i-1].tr.singles(t, sum, false, all[i-1].step)
				}
			})
		}
	})
}

// somePairs runs pairs that a seed picks, until the time is over.
func somePairs(t *testing.T, trials []Trial, steps [][]Step, sum *tried, d time.Duration) {
	seed, err := strconv.ParseUint(os.Getenv("OSSUARY_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("the pairs are those of OSSUARY_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for began := time.Now(); time.Since(began) < d; {
		i := r.IntN(len(trials))
		a, b := steps[i][r.IntN(len(steps[i]))], steps[i][r.IntN(len(steps[i]))]
		if a.N > b.N {
			a, b = b, a
		}
		if a.N < b.N {
			trials[i].next(t, sum, a, b)
		}
	}
}
