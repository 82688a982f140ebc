package capacity

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"ossuary/internal/appendsink"
	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/object/objecttest"
)

// script is a load that both the model and the real writers get, event by event.
type script struct {
	events   int
	series   int
	skew     float64
	rate     float64 // events a second
	linger   time.Duration
	size     int // flush
	most     int
	request  time.Duration // what each one takes
	parallel int64
	memory   int64
	open     int
	idle     time.Duration
	slack    float64 // by which the two may differ
}

type happened struct {
	appends, lists, looks, seals, puts, deletes int
}

func (s *script) arrivals() (at []time.Duration, of []int) {
	rng := rand.New(rand.NewPCG(7, 9))
	weights := make([]float64, s.series)
	for i := range weights {
		weights[i] = zipf(i, s.skew)
	}
	pick := newPicker(weights)
	t := time.Duration(0)
	for range s.events {
		t += time.Duration(rng.ExpFloat64() / s.rate * 1e9)
		at, of = append(at, t), append(of, pick.next(rng))
	}
	return at, of
}

func (s *script) event(i, of int) event.Event {
	return event.Event{Sequence: uint64(i + 1), Time: time.Unix(1_700_000_000, int64(i)).UTC(), Subject: "e", Data: fmt.Appendf(nil, `{"series":%06d,"i":%06d}`, of, i)}
}

// after is how long both go on behind the last event.
func (s *script) after() time.Duration { return s.linger + 2*s.idle + 10*time.Minute }

func (s *script) model(t *testing.T) happened {
	m := &machine{c: costs{s.request, 1e18}, slots: int(s.parallel), limit: s.memory, day: true,
		ledgerEvery: time.Second, nextLedger: time.Second, nextFloor: time.Second, nextSweep: sweepEvery, wheel: map[int64][]*series{}}
	l := newLane(s.open)
	m.lanes = []*lane{l}
	ru := &rule{size: s.size, events: s.most, linger: s.linger, rollSize: 1 << 40, rollIdle: s.idle,
		sizes: &sizes{counts: []float64{1}, stored: []float64{500}}}
	at, of := s.arrivals()
	for i := range at {
		m.advance(at[i])
		name := fmt.Sprint(of[i])
		x := l.series[name]
		if x == nil {
			x = l.newSeries(name, ru)
		}
		e := s.event(i, of[i])
		line, err := event.Encoder{}.Append(nil, &e)
		if err != nil {
			t.Fatal(err)
		}
		m.arrive(l, x, int64(len(line)), int64(len(e.Data)+len(e.Subject))+64+eventOverhead)
	}
	m.advance(m.now + s.after())
	if c := m.count; c.in != s.events || c.out != s.events || m.used != 0 || m.inFlight != 0 {
		t.Errorf("the model took %d events of %d and archived %d; %d bytes and %d appends are left", c.in, s.events, c.out, m.used, m.inFlight)
	}
	return happened{m.count.appends, m.count.lists, m.count.looks, m.count.seals, m.count.puts, m.count.deletes}
}

// tails is a ledger that counts.
type tails struct {
	mu   sync.Mutex
	revs map[string]uint64
	happened
}

func (l *tails) Tails(context.Context, string, string) (map[string]ledger.TailEntry, error) {
	return map[string]ledger.TailEntry{}, nil
}

func (l *tails) Tail(context.Context, string, string, string) (ledger.Tail, uint64, error) {
	return ledger.Tail{}, 0, nil
}

func (l *tails) PutTail(_ context.Context, _, _, series string, _ ledger.Tail, rev uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.revs[series] != rev {
		return 0, ledger.ErrConflict
	}
	l.puts++
	l.revs[series] = rev + 1
	return rev + 1, nil
}

func (l *tails) DeleteTail(_ context.Context, _, _, series string, _ uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deletes++
	delete(l.revs, series)
	return nil
}

func (s *script) real(t *testing.T) (h happened) {
	synctest.Test(t, func(t *testing.T) {
		led := &tails{revs: map[string]uint64{}}
		store := objecttest.New()
		store.SetFault(func(op, key string, _ int) objecttest.Fault {
			led.mu.Lock()
			switch op {
			case "append":
				led.appends++
			case "list":
				led.lists++
			default:
				led.looks++
			}
			led.mu.Unlock()
			time.Sleep(s.request)
			return objecttest.Fault{}
		})
		var metrics appendsink.Metrics
		specs := make([]*appendsink.Spec, s.series)
		for i := range specs {
			specs[i] = &appendsink.Spec{Series: fmt.Sprintf("s/%d", i), Route: "r", Codec: event.Plain, Layout: 1,
				Flush: appendsink.Flush{Size: s.size, Events: s.most, Linger: s.linger}, Roll: appendsink.Roll{Idle: s.idle}}
		}
		confirmed := 0
		set := appendsink.NewSet(appendsink.Options{Archive: "a", Source: "S", Lane: "0", Stream: event.StreamID{Name: "S"}, Store: store, Ledger: led,
			Budget: appendsink.NewBudget(s.memory), Appends: semaphore.NewWeighted(s.parallel), OpenSeries: s.open,
			Dead: func(int) *appendsink.Spec { return specs[0] }, RouteRoll: func(string) appendsink.Roll { return specs[0].Roll },
			Confirm: func(slots []uint64) { led.mu.Lock(); confirmed += len(slots); led.mu.Unlock() }, Forget: func(uint64) { t.Error("an event was forgotten") },
			Floor: func() uint64 { return 1 << 60 }, Metrics: &metrics, Log: zerolog.Nop()})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- set.Run(ctx) }()
		synctest.Wait()
		start := time.Now()
		at, of := s.arrivals()
		for i := range at {
			time.Sleep(time.Until(start.Add(at[i])))
			e := s.event(i, of[i])
			if err := set.Add(ctx, specs[of[i]], &e, uint64(i+1)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(s.after())
		synctest.Wait()
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if confirmed != s.events {
			t.Errorf("%d of %d events are archived", confirmed, s.events)
		}
		h = led.happened
		h.seals = int(metrics.Seals.Load())
		h.appends -= h.seals
	})
	return h
}

// The model makes the requests that the real writers make of the same events.
func TestAgreesWithTheWriters(t *testing.T) {
	base := script{events: 2000, series: 50, rate: 200, linger: time.Second, size: 4 << 20, most: 10_000,
		request: 20 * time.Millisecond, parallel: 32, memory: 64 << 20, open: 10_000, slack: 0.01}
	for name, change := range map[string]func(*script){
		"linger":                func(*script) {},
		"linger, Zipf":          func(s *script) { s.skew = 1.1 },
		"no linger":             func(s *script) { s.linger = 0 },
		"no linger, slow":       func(s *script) { s.linger, s.request, s.series = 0, 300*time.Millisecond, 5 },
		"full by events":        func(s *script) { s.most, s.series = 10, 4 },
		"full by bytes":         func(s *script) { s.size, s.series = 2000, 4 },
		"few appends at once":   func(s *script) { s.parallel, s.linger = 2, 100*time.Millisecond },
		"rare events":           func(s *script) { s.rate, s.events, s.series = 2, 1500, 200 },
		"idle series":           func(s *script) { s.rate, s.events, s.series, s.idle = 2, 1500, 200, time.Minute },
		"few open, idle":        func(s *script) { s.open, s.rate, s.events, s.series, s.idle = 20, 2, 1500, 200, time.Minute },
		"few open series":       func(s *script) { s.open, s.rate, s.slack = 20, 20, 0.02 },
		"few open, all at once": func(s *script) { s.open, s.rate, s.slack = 20, 2000, 0.5 }, // goroutines decide who is forgotten
		"little memory":         func(s *script) { s.memory, s.linger, s.rate, s.slack = 40_000, 20*time.Second, 400, 0.2 },
	} {
		t.Run(name, func(t *testing.T) {
			s := base
			change(&s)
			model, writers := s.model(t), s.real(t)
			t.Logf("model %+v, real %+v", model, writers)
			for what, n := range map[string][2]int{
				"appends": {model.appends, writers.appends}, "lists": {model.lists, writers.lists}, "heads and reads": {model.looks, writers.looks}, "seals": {model.seals, writers.seals},
				"ledger writes": {model.puts, writers.puts}, "ledger deletes": {model.deletes, writers.deletes},
			} {
				d := float64(n[0] - n[1])
				if d < 0 {
					d = -d
				}
				if d > 2+s.slack*float64(n[1]) {
					t.Errorf("%s: the model makes %d, the writers %d", what, n[0], n[1])
				}
			}
		})
	}
}
