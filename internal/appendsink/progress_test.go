package appendsink

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"ossuary/internal/object/objecttest"
)

// A series tells how far it is, how fast, and what keeps it from going on; those in
// trouble come first.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 400, 2)
		var refused atomic.Bool
		w.store.SetFault(func(op, key string, _ int) objecttest.Fault {
			if refused.Load() && strings.HasPrefix(key, "p/e/1.") {
				return objecttest.Hold()
			}
			return objecttest.Fault{}
		})
		l := w.lane()
		set, ctx, stop := running(t, l)
		for i := 1; i <= 300; i += 2 { // one event a second for each series
			add(t, l, set, ctx, i, i+1)
			time.Sleep(time.Second)
		}
		all, open := set.Progress(10)
		if len(all) != 2 || open != 2 {
			t.Fatalf("%d of %d series", len(all), open)
		}
		for _, p := range all {
			tail := w.ledger.copy()[p.Series]
			if p.Position == 0 || p.Position != tail.Position || p.Last != tail.Last || p.Key != tail.Key || p.Held != "" || p.LastErr != "" || p.Waiting != 0 {
				t.Errorf("%+v, the ledger has %+v", p, tail)
			}
			if math.Abs(p.Rate-1) > 0.1 {
				t.Errorf("%s: %.2f events a second, want about 1", p.Series, p.Rate)
			}
		}
		refused.Store(true)
		add(t, l, set, ctx, 301, 302)
		time.Sleep(5 * time.Minute)
		all, _ = set.Progress(1)
		if p := all[0]; len(all) != 1 || p.Series != "e/1" || !strings.Contains(p.Held, "AccessDenied") || !strings.Contains(p.LastErr, "AccessDenied") ||
			p.Waiting == 0 || p.Rate > 0.01 || time.Since(p.ErrTime) > 2*time.Minute {
			t.Errorf("%+v", p)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// anyOpen is a set of so many open series, some held, some never written to, and many
// written to at the same moment.
func anyOpen(r *rand.Rand, n int) *Set {
	set := NewSet(Options{Log: zerolog.Nop()})
	for i := range n {
		s := set.openKnown(fmt.Sprintf("s/%d", i))
		s.waiting = int64(i)
		switch r.IntN(4) {
		case 0:
		case 1:
			s.spec = &Spec{Route: "spec"}
			s.seen.Written = created
		default:
			s.seen.Route, s.seen.Written = "seen", created.Add(time.Duration(r.IntN(n))*time.Millisecond)
		}
		if r.IntN(10) == 0 {
			s.hold = &Hold{Series: s.name, Reason: string("abc"[r.IntN(3)])}
			set.holds++
		}
	}
	return set
}

// The first of the series are those that sorting all of them would put first.
func TestProgressIsTheBeginningOfAll(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		n := r.IntN(60)
		set := anyOpen(r, n)
		var all []Progress
		for name, s := range set.series {
			p := Progress{Series: name, Route: s.seen.Route, Written: s.seen.Written, Waiting: s.waiting}
			if p.Route == "" && s.spec != nil {
				p.Route = s.spec.Route
			}
			if s.hold != nil {
				p.Held = s.hold.Reason
			}
			all = append(all, p)
		}
		sort.Slice(all, func(i, j int) bool {
			a, b := &all[i], &all[j]
			switch {
			case a.Held != b.Held:
				return a.Held > b.Held
			case !a.Written.Equal(b.Written):
				return a.Written.After(b.Written)
			}
			return a.Series < b.Series
		})
		held := 0
		for held < n && all[held].Held != "" {
			held++
		}
		if got := set.Held(); len(got) != held {
			t.Fatalf("%d series are held, not %d", len(got), held)
		}
		for _, most := range []int{0, 1, 2, r.IntN(n + 2), n, n + 1, 1000} {
			got, open := set.Progress(most)
			if open != n || !slices.Equal(got, all[:min(most, n)]) {
				t.Fatalf("%d of %d series:\n%+v\nwant\n%+v", most, n, got, all)
			}
		}
	}
}

func BenchmarkProgress(b *testing.B) {
	set := anyOpen(rand.New(rand.NewPCG(5, 6)), 10_000)
	for _, most := range []int{0, 100, 10_000} {
		b.Run(strconv.Itoa(most), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set.Progress(most)
			}
		})
	}
}
