package appendsink

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object/objecttest"
)

// nthWorld is what a plan is tried on.
type nthWorld struct {
	name   string
	events int
	series int
	change func(w *world)          // before anything is written; may be nil
	before func(w *world)          // what stands there when operations begin to count; may be nil
	run    func(r *run, w *world)  // the operations that count
	walked bool                    // not for standard tools: there are foreign bytes
	must   func(m *Metrics) string // what has to happen in it without any fault; may be nil
}

// archiveAll is the common run: a writer, then another that knows nothing.
func archiveAll(r *run, w *world) {
	r.write(w.lane(), 0)
	w.ledger.wipe()
	w.publish(2)
	r.write(w.lane(), 0)
}

func sealed(n int64) func(*Metrics) string {
	return func(m *Metrics) string {
		if got := m.Seals.Load(); got < n {
			return fmt.Sprintf("%d seals, want %d", got, n)
		}
		return ""
	}
}

func respec(change func(s *Spec)) func(w *world) {
	return func(w *world) {
		spec := w.spec
		w.spec = func(series string) Spec {
			s := spec(series)
			change(&s)
			return s
		}
	}
}

var nthWorlds = []nthWorld{
	{name: "plain", events: 7, series: 2, run: archiveAll},
	{name: "roll", events: 7, series: 1, change: respec(func(s *Spec) { s.Roll.Size, s.Flush.Events = 1200, 3 }), run: archiveAll,
		must: sealed(1)},
	{name: "change of codec", events: 6, series: 1, run: archiveAll, must: sealed(1), change: func(w *world) {
		w.layout = func(e *event.Event, s *Spec) {
			s.Layout, s.Codec = 1, event.Gzip
			if e.Sequence > 3 {
				s.Layout, s.Codec = 2, event.Plain
			}
		}
	}},
	{name: "two writers", events: 8, series: 1, change: respec(func(s *Spec) { s.Flush.Events = 2; s.Roll.Size = 1600 }),
		run: func(r *run, w *world) {
			var wg sync.WaitGroup
			for i := range 2 {
				wg.Go(func() { r.write(w.lane(), time.Duration(2+i)*time.Millisecond) })
			}
			wg.Wait()
		},
		must: func(m *Metrics) string {
			if m.Adoptions.Load() == 0 {
				return "the writers did not meet"
			}
			return ""
		}},
	{name: "ledger lags", events: 4, series: 2, before: func(w *world) {
		w.lane().finish(w.t.Context())
		old := w.ledger.copy()
		w.publish(4)
		w.lane().finish(w.t.Context())
		w.ledger.tails = old
		w.publish(4)
	}, run: func(r *run, w *world) { r.write(w.lane(), 0) }},
	{name: "ledger lost", events: 6, series: 2, change: respec(func(s *Spec) { s.Roll.Size = 900 }), before: func(w *world) {
		w.lane().finish(w.t.Context())
		w.ledger.wipe()
		w.publish(4)
	}, run: func(r *run, w *world) { r.write(w.lane(), 0) }},
	{name: "idle", events: 4, series: 2, change: respec(func(s *Spec) { s.Roll.Idle = 4 * time.Second }), must: sealed(2),
		run: func(r *run, w *world) {
			l := w.lane()
			l.rest = 11 * time.Second // two sweeps
			r.write(l, 0)
			w.publish(2)
			r.write(w.lane(), 0)
		}},
	{name: "evicted", events: 7, series: 2, change: func(w *world) { w.open = 1 }, run: archiveAll},
	{name: "foreign bytes", events: 4, series: 1, before: func(w *world) {
		w.lane().finish(w.t.Context())
		w.store.AppendRaw(w.key(1), []byte("\nforeign bytes\n"))
		w.publish(4)
	}, run: archiveAll, walked: true, must: func(m *Metrics) string {
		if m.Breaks.Load() == 0 {
			return "no break"
		}
		return ""
	}},
}

// try runs the world under a plan and checks what must hold.
func (nw *nthWorld) try(t *testing.T, plan *objecttest.Plan) (adoptions int64) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nw.events, nw.series)
		if nw.change != nil {
			nw.change(w)
		}
		if nw.before != nil {
			nw.before(w)
		}
		w.confirming = w.holds
		began := w.m.Adoptions.Load()
		nw.run(&run{w, plan}, w)
		w.store.Arrive()
		adoptions = w.m.Adoptions.Load() - began
		if plan.Empty() && nw.must != nil {
			if what := nw.must(&w.m); what != "" {
				t.Errorf("without any fault: %s", what)
			}
		}
		// Whoever comes next has nothing to add.
		w.lane().finish(t.Context())
		if !nw.walked {
			if dead := w.check(); dead > 0 {
				t.Errorf("%d dead letters", dead)
			}
		}
		w.checkWalk()
		w.idle()
	})
	return adoptions
}

// holds asserts that the events of these slots stand in the archive now.
func (w *world) holds(slots []uint64) {
	has := map[string]map[string]bool{}
	for _, slot := range slots {
		e, _ := w.at(int(slot) - 1)
		name := strings.ReplaceAll(e.Subject, ".", "/")
		if has[name] == nil {
			has[name] = w.lines(name)
		}
		if !has[name][fmt.Sprintf("%d %s", e.Sequence, e.Data)] {
			w.t.Errorf("event %d was confirmed and is not in %s", e.Sequence, name)
		}
	}
}

// parsed remembers what objects hold: the runs of a world write mostly the same
// bytes, and each confirmation has them read again.
var parsed sync.Map // of []string, by key and bytes

// lines are the events in the valid frames of a series, as the store has it now.
func (w *world) lines(series string) map[string]bool {
	out := map[string]bool{}
	for _, key := range w.store.Keys() {
		name, segment, ext, _ := event.ParseKey("p/", key)
		if name != series {
			continue
		}
		b := w.store.Bytes(key)
		id := key + "\n" + string(b)
		lines, ok := parsed.Load(id)
		if !ok {
			_, codec, _ := event.ParseExt(ext)
			c := event.Chain{Archive: "a", Source: "S", Lane: "0", Series: name, Segment: segment}
			lines = frameLines(w.t, b, codec, c)
			parsed.Store(id, lines)
		}
		for _, l := range lines.([]string) {
			out[l] = true
		}
	}
	return out
}

func frameLines(t testing.TB, b []byte, codec event.Codec, c event.Chain) (out []string) {
	sc := event.NewScanner(bytes.NewReader(b), codec, 0, 0)
	for {
		f, body, err := sc.Next()
		if err != nil || c.Check(f) != nil {
			return out
		}
		c.Advance(f)
		for line := range bytes.Lines(body) {
			var l event.Line
			if err := event.DecodeLine(bytes.TrimSuffix(line, []byte("\n")), &l); err != nil {
				t.Errorf("segment %d of %s: %v", c.Segment, c.Series, err)
			}
			out = append(out, fmt.Sprintf("%d %s", l.Sequence, l.Data))
		}
	}
}

// checkWalk asserts that the series, followed from seal to seal and over breaks,
// hold just the events, in order.
func (w *world) checkWalk() {
	w.t.Helper()
	want := map[string][]string{}
	for _, e := range w.events {
		name := strings.ReplaceAll(e.Subject, ".", "/")
		want[name] = append(want[name], fmt.Sprintf("%d %s", e.Sequence, e.Data))
	}
	if got := w.walk(); !maps.EqualFunc(got, want, slices.Equal) {
		w.t.Errorf("archived\n%v, want\n%v", got, want)
	}
	for series, e := range w.ledger.copy() {
		if b := w.store.Bytes(e.Key); int64(len(b)) < e.Position || e.Position > 0 && len(b) == 0 {
			w.t.Errorf("ledger entry of %s is at %d of %s, which has %d bytes", series, e.Position, e.Key, len(b))
		}
	}
}

// Every operation on the store and on the ledger fails in every way, and pairs of
// them do. After each the run completes, every event stands once and in order,
// each was there when it was confirmed, and the ledger tells no lies.
func TestNthOperation(t *testing.T) {
	var trials []objecttest.Trial
	for i := range nthWorlds {
		trials = append(trials, objecttest.Trial{Name: nthWorlds[i].name, Run: nthWorlds[i].try})
	}
	objecttest.NthOperation(t, trials, "append head read list tails tail put delete", 2*time.Second)
}
