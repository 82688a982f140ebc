package appendsink

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
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
// ledger, kills at any operation, lost and rolled back ledgers, and by turns the
// rest of what trouble says. A failure prints its seed; -seed runs it again, with
// the same plan, though goroutines may meet otherwise.
func TestSchedules(t *testing.T) {
	from, to := uint64(1), uint64(*schedules)
	if *seedFlag != 0 {
		from, to = *seedFlag, *seedFlag
	}
	var total Metrics
	for seed := from; seed <= to; seed++ {
		synctest.Test(t, func(t *testing.T) { schedule(t, seed, &total) }) // does not return if it fails
	}
	t.Logf("%d schedules: %d appends, %d refusals, %d doubts, %d garbled, %d adoptions with %d own events, %d breaks, %d seals, %d overtaken, %d forgotten",
		to-from+1, total.Appends.Load(), total.Refusals.Load(), total.Doubts.Load(), total.Garbled.Load(), total.Adoptions.Load(),
		total.AdoptedEvents.Load(), total.Breaks.Load(), total.Seals.Load(), total.Overtaken.Load(), total.Forgotten.Load())
	if *seedFlag == 0 && (total.AdoptedEvents.Load() == 0 || total.Breaks.Load() == 0 || total.Overtaken.Load() == 0) {
		t.Error("nothing was adopted, broken off or overtaken: the faults are not biting")
	}
}

// trouble is what a schedule has besides faults and crashes.
type trouble struct {
	evict   bool // one series open at a time
	tiny    bool // a budget of few events
	raw     bool
	layouts bool // format and codec change at a sequence
	vanish  bool // events go from the stream while it is read
	rewind  bool // the stream loses its end and hands out its sequences again
	foreign bool // foreign bytes are appended
	far     bool // little is remembered of frames ahead
	damage  bool // objects are deleted, cut, replaced, changed, closed
}

func troubles(r *random) trouble {
	one := func(n int) bool { return r.IntN(n) == 0 }
	return trouble{evict: one(3), tiny: one(4), raw: one(5), layouts: one(4), vanish: one(4), rewind: one(5), foreign: one(4),
		damage: one(4), far: one(6)}
}

// random may be used by many goroutines.
type random struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (r *random) IntN(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.r.IntN(n)
}

func (r *random) chance(p float64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.r.Float64() < p
}

func (r *random) millis(n int) time.Duration { return time.Duration(r.IntN(n)) * time.Millisecond }

func schedule(t *testing.T, seed uint64, total *Metrics) {
	r := &random{r: rand.New(rand.NewPCG(seed, 7))}
	what := troubles(r)
	defer func() {
		if t.Failed() {
			t.Logf("seed %d (%+v): run again with -run TestSchedules -seed %d", seed, what, seed)
		}
	}()
	w := newWorld(t, 20+r.IntN(80), 1+r.IntN(3))
	if what.evict {
		w.open = 1 // every change of series evicts
	}
	if what.tiny {
		w.budget = NewBudget(int64(500 + r.IntN(4000)))
	}
	if what.far {
		defer func(n int) { maxAhead = n }(maxAhead)
		maxAhead = 5 + r.IntN(40)
	}
	formats := []event.Format{event.Envelope, event.Envelope}
	codecs := []event.Codec{event.Codec(r.IntN(3)), event.Codec(r.IntN(3))}
	if what.raw {
		formats[r.IntN(2)] = event.Raw
	}
	spec := w.spec
	w.spec = func(series string) Spec {
		s := spec(series)
		if r.IntN(3) == 0 {
			s.Roll = Roll{Size: int64(800 + r.IntN(1000)), Idle: 30 * time.Second, Age: time.Minute}
		}
		return s
	}
	since := uint64(1 << 60)
	if what.layouts {
		since = uint64(1 + r.IntN(60))
	}
	w.layout = func(e *event.Event, s *Spec) {
		i := 0
		if e.Sequence >= since {
			i = 1
		}
		s.Layout, s.Codec, s.Encoder.Format = i+1, codecs[i], formats[i]
		if s.Encoder.Format == event.Raw && s.Codec == event.Plain {
			s.Codec = event.Zstd
		}
	}
	gone := map[uint64]time.Duration{}
	if what.vanish {
		for q := range uint64(len(w.events)) {
			if r.IntN(8) == 0 {
				gone[q+1] = r.millis(1500)
			}
		}
		began := time.Now()
		w.vanished = func(e *event.Event) bool {
			at, ok := gone[e.Sequence]
			return ok && time.Since(began) >= at
		}
	}
	w.rewinds = what.rewind
	h := &hostile{w: w, r: r, what: what, rate: float64(r.IntN(40)) / 100, left: 60, kill: map[int]context.CancelFunc{}}
	w.store.SetFault(h.fault)
	w.ledger.fault = func(op string) (error, error) {
		err := fmt.Errorf("planted ledger fault at %s", op)
		switch {
		case op == "tails" || r.IntN(4) > 0:
			return nil, nil
		case r.IntN(2) == 0:
			return err, nil
		}
		return nil, err
	}
	writers := 1 + r.IntN(3)
	lanes := make([]*lane, writers)
	for i := range lanes {
		lanes[i] = w.lane()
	}
	if what.rewind {
		h.run(lanes, false)
		if r.IntN(2) == 0 {
			w.store.Arrive()
		}
		kept := 1 + r.IntN(len(w.events))
		maps.DeleteFunc(gone, func(q uint64, _ time.Duration) bool { return q > uint64(kept) })
		w.rewind(kept, 10+r.IntN(30))
	}
	h.run(lanes, true)
	w.store.Arrive()
	h.calm()
	// A change of codec, and a writer that knows nothing.
	codecs[1], since = event.Codec(r.IntN(3)), uint64(len(w.events))+1
	w.ledger.wipe()
	after := uint64(len(w.events))
	w.publish(5)
	w.lane().finish(t.Context())
	w.checkSchedule(what, after)
	if !what.raw && !what.vanish && !what.rewind && !what.damage && h.broken == 0 {
		w.check() // with standard tools
	}
	w.idle()
	w.m.addTo(total)
}

// rewind has the stream lose what is behind sequence kept, and go on.
func (w *world) rewind(kept, more int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	late := w.events[len(w.events)-1].Time.Add(time.Hour)
	w.events = slices.Clone(w.events[:kept])
	for range more {
		w.publishLocked(created)
		e := &w.events[len(w.events)-1]
		late = late.Add(time.Second)
		e.Time = late
		e.Data = fmt.Appendf(nil, `{"n":%d,"again":true}`, e.Sequence)
	}
}

func (m *Metrics) addTo(total *Metrics) {
	for _, c := range [][2]interface {
		Add(int64) int64
		Load() int64
	}{
		{&m.Appends, &total.Appends}, {&m.Refusals, &total.Refusals}, {&m.Doubts, &total.Doubts}, {&m.Garbled, &total.Garbled},
		{&m.Adoptions, &total.Adoptions}, {&m.AdoptedEvents, &total.AdoptedEvents}, {&m.Breaks, &total.Breaks}, {&m.Seals, &total.Seals},
		{&m.Overtaken, &total.Overtaken}, {&m.Forgotten, &total.Forgotten},
	} {
		c[1].Add(c[0].Load())
	}
}

// hostile is what happens to the store, the ledger and the writers.
type hostile struct {
	w      *world
	r      *random
	what   trouble
	rate   float64
	mu     sync.Mutex
	left   int // faults end at some time, or nothing would
	broken int // times that foreign bytes were appended, or objects damaged
	kill   map[int]context.CancelFunc
	peace  bool
}

func (h *hostile) calm() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.peace = true
}

func (h *hostile) fault(op, key string, _ int) objecttest.Fault {
	r := h.r
	time.Sleep(r.millis(20))
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.peace {
		return objecttest.Fault{}
	}
	if h.what.foreign && h.broken < 3 && op == "append" && r.IntN(20) == 0 {
		h.broken++
		h.w.log.Info().Str("key", key).Msg("foreign bytes")
		// Just before this very append. Line feeds around, or a plain segment's
		// reader could not tell lines.
		h.w.store.AppendRaw(key, []byte("\nforeign bytes\n"))
	}
	if h.what.damage && h.broken < 4 && r.IntN(25) == 0 {
		h.broken++
		h.damage()
	}
	if h.left == 0 || !r.chance(h.rate) {
		return objecttest.Fault{}
	}
	h.left--
	faults := []func() objecttest.Fault{objecttest.NotApplied, objecttest.Lost, objecttest.Late, objecttest.Throttled, objecttest.Hold,
		objecttest.GarbledNext, objecttest.GarbledCRC, func() objecttest.Fault { return objecttest.Fault{Cut: 1 + r.IntN(900)} }}
	f := faults[r.IntN(len(faults))]()
	if r.IntN(6) == 0 { // the process dies with it
		for _, kill := range h.kill {
			kill()
			break
		}
	}
	return f
}

// damage does something to an object that no writer of ours does.
func (h *hostile) damage() {
	r, s := h.r, h.w.store
	keys := s.Keys()
	if len(keys) == 0 {
		return
	}
	key := keys[r.IntN(len(keys))]
	b := s.Bytes(key)
	n := r.IntN(8)
	if n < 2 {
		// Not where the series has gone on, or is about to: a request that is under
		// way to a segment that was ended and then deleted cannot be told from the
		// first one.
		if h.broken > 1 {
			return
		}
		name, highest, ext, _ := event.ParseKey("p/", key)
		_, codec, _ := event.ParseExt(ext)
		if _, _, sealed := event.ReadLocator(b[max(0, len(b)-event.LocatorSize(codec)):], codec); sealed {
			return
		}
		for _, k := range keys {
			if other, i, _, _ := event.ParseKey("p/", k); other == name && i > highest {
				return
			}
		}
	}
	h.w.log.Info().Str("key", key).Int("kind", n).Int("bytes", len(b)).Msg("damage")
	switch n {
	case 0:
		s.Delete(key)
	case 1:
		s.Truncate(key, int64(r.IntN(len(b)+1)))
	case 2:
		s.Replace(key, []byte("\nforeign bytes\n"))
	case 3:
		s.Put(key, []byte("\nforeign bytes\n"))
	case 4:
		s.Put(key, b)
	case 5:
		s.Lock(key)
	case 6:
		s.Replace(key, make([]byte, len(b)))
	case 7:
		if len(b) > 0 {
			s.Flip(key, int64(r.IntN(len(b))))
		}
	}
}

// run has every lane crash a few times, then finish if it shall.
func (h *hostile) run(lanes []*lane, finish bool) {
	w, r := h.w, h.r
	old := w.ledger.copy()
	var oldMu sync.Mutex
	var wg sync.WaitGroup
	for i := range lanes {
		l := lanes[i]
		crashes, pause := r.IntN(4), r.millis(400)
		wg.Go(func() {
			time.Sleep(pause)
			for range crashes {
				ctx, cancel := context.WithTimeout(w.t.Context(), r.millis(1500))
				h.mu.Lock()
				h.kill[i] = cancel
				h.mu.Unlock()
				l.finish(ctx)
				cancel()
				h.mu.Lock()
				delete(h.kill, i)
				h.mu.Unlock()
				oldMu.Lock()
				switch r.IntN(6) {
				case 0:
					w.ledger.wipe()
				case 1:
					w.ledger.mu.Lock()
					w.ledger.tails = maps.Clone(old)
					w.ledger.mu.Unlock()
				case 2:
					old = w.ledger.copy()
				case 3:
					l = w.lane() // from the first event again
				}
				oldMu.Unlock()
			}
			if finish {
				l.finish(w.t.Context())
			}
			l.advance()
			lanes[i] = l
		})
	}
	wg.Wait()
}

// stored is an event as a frame has it.
type stored struct {
	seq         uint64
	incarnation int
	line        string
}

// stored reads the valid frames of every segment from its start, up to the first
// that is none.
func (w *world) stored() map[string][]stored {
	w.t.Helper()
	type segment struct {
		number int
		key    string
	}
	segments := map[string][]segment{}
	for _, key := range w.store.Keys() {
		if name, n, _, ok := event.ParseKey("p/", key); ok {
			segments[name] = append(segments[name], segment{n, key})
		}
	}
	out := map[string][]stored{}
	for name, list := range segments {
		slices.SortStableFunc(list, func(a, b segment) int { return a.number - b.number })
		for _, s := range list {
			_, _, ext, _ := event.ParseKey("p/", s.key)
			_, codec, _ := event.ParseExt(ext)
			c := event.Chain{Archive: "a", Source: "S", Lane: "0", Series: name, Segment: s.number}
			sc := event.NewScanner(bytes.NewReader(w.store.Bytes(s.key)), codec, 0, 0)
			for {
				f, body, err := sc.Next()
				if err != nil || c.Check(f) != nil {
					break
				}
				c.Advance(f)
				lines := bytes.Split(body, []byte("\n"))
				i := 0
				err = event.Sequences(f, body, func(seq uint64, _ time.Time) bool {
					out[name] = append(out[name], stored{seq, f.Content.Stream.Incarnation, string(lines[i])})
					i++
					return true
				})
				if err != nil {
					w.t.Errorf("%s: %v", s.key, err)
				}
				if f.Content.Kind != event.KindData {
					break
				}
			}
		}
	}
	return out
}

// checkSchedule asserts what holds whatever happened: no event twice, sequences
// rise, every event is there. Events that vanished may lack if nobody was told
// that they are archived; where objects were damaged, only those published
// afterwards must be there.
func (w *world) checkSchedule(what trouble, after uint64) {
	w.t.Helper()
	const dead = "_ossuary/dead/"
	has := map[string]string{} // series by what tells an event
	got := w.stored()
	for name, events := range got {
		last := stored{}
		for _, e := range events {
			if e.incarnation < last.incarnation || (e.incarnation == last.incarnation && e.seq <= last.seq) {
				w.t.Errorf("series %s: event %d of incarnation %d comes after %d of %d", name, e.seq, e.incarnation, last.seq, last.incarnation)
			}
			last = e
			_, id, _ := strings.Cut(e.line, `"n":`)
			id, _, _ = strings.Cut(id, "}")
			if other, twice := has[id]; twice && !what.damage {
				w.t.Errorf("event %s stands in %s and in %s", id, other, name)
			} else if twice && other == name {
				w.t.Errorf("event %s stands twice in %s", id, name)
			}
			has[id] = name
			if strings.HasPrefix(name, dead) && !what.vanish && !what.damage && !what.rewind {
				w.t.Errorf("event %s is a dead letter", id)
			}
		}
	}
	for i := range w.events {
		e := &w.events[i]
		_, id, _ := strings.Cut(string(e.Data), `"n":`)
		id = strings.TrimSuffix(id, "}")
		name := strings.ReplaceAll(e.Subject, ".", "/")
		in, there := has[id]
		switch {
		case there && in != name && !strings.HasPrefix(in, dead):
			w.t.Errorf("event %s is in %s, want %s", id, in, name)
		case there, what.damage && e.Sequence <= after:
		case w.vanished != nil && w.vanished(e) && !w.confirmed[e.Sequence]:
		default:
			w.t.Errorf("event %s of %s is not archived (confirmed: %v)", id, name, w.confirmed[e.Sequence])
		}
	}
	if w.t.Failed() {
		for name, events := range got {
			w.t.Logf("%s: %v", name, events)
		}
	}
	if !what.damage && !what.foreign {
		w.checkChains()
	}
}
