package service

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/embedded/fakenats"
	"ossuary/internal/object/objecttest"
)

const retentionLimits = jetstream.LimitsPolicy

// plan is all that a seed decides before anything runs.
type plan struct {
	retention jetstream.RetentionPolicy
	writers   int
	variants  [3]int // of the writers at first
	leaseOff  bool
	length    time.Duration

	storeFaults                      float64 // of requests
	loseReply, loseDelivery, loseAck float64

	linger        time.Duration
	flushEvents   int
	rollSize      int64
	rollIdle      time.Duration
	memory        int64
	openSeries    int
	maxAckPending int
	horizon       uint64

	steps []step
	again bool // at the end a new writer with an empty ledger goes over it all
}

// step is something that happens to the world at a time.
type step struct {
	at   time.Duration
	what string
	do   func(*world)
}

func newPlan(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 0x05500a7e))
	one := func(n int) bool { return r.IntN(n) == 0 }
	within := func(from, to time.Duration) time.Duration { return from + time.Duration(r.Int64N(int64(to-from))) }
	p := &plan{
		retention: []jetstream.RetentionPolicy{jetstream.LimitsPolicy, jetstream.LimitsPolicy, jetstream.InterestPolicy, jetstream.WorkQueuePolicy}[r.IntN(4)],
		writers:   []int{1, 2, 2, 3}[r.IntN(4)],
		length:    within(500*time.Millisecond, 3*time.Second),
		linger:    within(0, 40*time.Millisecond), flushEvents: 1 + r.IntN(8), rollSize: 6000, memory: 1 << 20, openSeries: 1000,
		maxAckPending: 1000, horizon: uint64(2 + r.IntN(12)), again: one(3),
	}
	first := r.IntN(len(scheduleVariants))
	for i := range p.variants {
		if p.variants[i] = first; one(6) {
			p.variants[i] = r.IntN(len(scheduleVariants))
		}
	}
	p.leaseOff = p.retention != jetstream.WorkQueuePolicy && one(3)
	if one(2) {
		p.storeFaults = 0.02 + 0.2*r.Float64()
	}
	if one(3) {
		p.loseReply = 0.05 * r.Float64()
	}
	if one(4) {
		p.loseDelivery = 0.05 * r.Float64()
	}
	if one(3) {
		p.loseAck = 0.5 * r.Float64()
	}
	if one(4) {
		p.rollSize = int64(900 + r.IntN(1500))
	}
	if one(5) {
		p.rollIdle = within(300*time.Millisecond, 2*time.Second)
	}
	if one(6) {
		p.memory = int64(700 + r.IntN(1500))
	}
	if one(6) {
		p.openSeries = 1
	}
	if one(4) {
		p.maxAckPending = 2 + r.IntN(10)
	}

	add := func(what string, do func(*world)) {
		p.steps = append(p.steps, step{within(0, p.length), what, do})
	}
	for id := range 6 + r.IntN(24) {
		m := &published{id: id + 1, subject: fmt.Sprintf("events.s%d.g%d", r.IntN(3), r.IntN(2)), data: fmt.Sprintf(`{"n":%d}`, id+1)}
		switch r.IntN(24) {
		case 0:
			m.subject = "skip.x"
		case 1:
			m.subject = "other.x"
		case 2:
			m.data, m.poison = fmt.Sprintf(`{"n":%d,"pad":"%s"}`, id+1, strings.Repeat("x", scheduleEvent)), true
		case 3, 4:
			m.header = [2]string{"K", fmt.Sprintf("v%d", id)}
		}
		add("publish", func(w *world) { w.publish(m) })
	}

	kinds := []func(){
		func() { // a connection breaks
			n, lose, blind := r.IntN(3), one(2), within(0, 400*time.Millisecond)
			if one(2) {
				blind = 0
			}
			add("cut", func(w *world) { w.some(n, func(p *process) { p.link.Cut(lose, blind) }) })
		},
		func() { // a process is paused
			n, d := r.IntN(3), within(100*time.Millisecond, 2*time.Second)
			if one(2) {
				d += 2 * scheduleTTL
			}
			add("freeze", func(w *world) { w.some(n, func(p *process) { p.freeze(d) }) })
		},
		func() { // a process dies
			n, lose, blind, back := r.IntN(3), one(2), within(0, 400*time.Millisecond), within(10*time.Millisecond, 3*time.Second)
			add("crash", func(w *world) {
				w.some(n, func(p *process) {
					w.slots[n%len(w.slots)].setDelay(back)
					p.kill(lose, blind)
				})
			})
		},
		func() { // a process is stopped, and may get another configuration
			n, back, v := r.IntN(3), within(10*time.Millisecond, time.Second), r.IntN(2*len(scheduleVariants))
			add("stop", func(w *world) {
				w.some(n, func(p *process) {
					s := w.slots[n%len(w.slots)]
					s.setDelay(back)
					if v < len(scheduleVariants) {
						s.mu.Lock()
						s.variant = v
						s.mu.Unlock()
					}
					p.cancel()
				})
			})
		},
		func() { // the server restarts
			down, forget, resurrect := within(10*time.Millisecond, time.Second), one(2), one(2)
			add("restart", func(w *world) { w.srv.Restart(down, forget, resurrect) })
		},
		func() { // another server leads
			stream, without, forget := []string{scheduleStream, scheduleBucket}[r.IntN(2)], within(10*time.Millisecond, 2*time.Second), one(2)
			add("leader", func(w *world) { w.srv.ChangeLeader(stream, without, forget) })
		},
		func() { add("consumer gone", func(w *world) { w.srv.DeleteConsumers(scheduleStream) }) },
		func() { // what was delivered comes again
			late := one(2)
			add("redeliver", func(w *world) { w.count("redeliveries", w.srv.Redeliver(scheduleStream, late) > 0) })
		},
		func() { add("ledger deleted", func(w *world) { w.srv.DeleteStream(scheduleBucket) }) },
		func() { // the ledger is put back to an old copy
			var old []*fakenats.Message
			add("ledger copied", func(w *world) { old = w.srv.Copy(scheduleBucket) })
			add("ledger restored", func(w *world) { w.count("ledgers restored", len(old) > 0); w.srv.Restore(scheduleBucket, old) })
		},
		func() { // replicas lag
			n, d := uint64(1+r.IntN(20)), within(50*time.Millisecond, time.Second)
			add("lag", func(w *world) {
				w.setLag(n)
				time.AfterFunc(d, func() { w.setLag(0) })
			})
		},
		func() { // the store answers nobody, or refuses everybody
			d, f := within(50*time.Millisecond, 2*time.Second), objecttest.NotApplied()
			if one(4) {
				f = objecttest.Hold()
			}
			add("outage", func(w *world) {
				w.setOutage(&f, "")
				time.AfterFunc(d, func() { w.setOutage(nil, "") })
			})
		},
		func() { // the store refuses one series, and its neighbours go on
			d, series := within(200*time.Millisecond, 2*time.Second), fmt.Sprintf("/s%d", r.IntN(3))
			add("one refused", func(w *world) {
				f := objecttest.Hold()
				w.setOutage(&f, series)
				time.AfterFunc(d, func() { w.setOutage(nil, "") })
			})
		},
		func() { // messages vanish
			n, front := 1+r.IntN(6), one(2)
			pick := r.Uint64()
			if p.retention != jetstream.LimitsPolicy {
				return
			}
			add("expire", func(w *world) { w.expire(n, front, pick) })
		},
	}
	for range r.IntN(9) {
		kinds[r.IntN(len(kinds))]()
	}
	slices.SortStableFunc(p.steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return p
}

// some does something to the n-th process, if it is there.
func (w *world) some(n int, f func(*process)) {
	s := w.slots[n%len(w.slots)]
	if p := s.process(); p != nil {
		select {
		case <-p.done:
		default:
			f(p)
		}
	}
}

func (s *slot) setDelay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

func (w *world) setLag(n uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lag = n
}

// setOutage has the store fail every request for keys with of in them; nil ends it.
func (w *world) setOutage(f *objecttest.Fault, of string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out, w.outOf = f, of
}

// expire removes messages from the stream, its oldest or any.
func (w *world) expire(n int, front bool, pick uint64) {
	first, last := w.srv.State(scheduleStream)
	if last < first {
		return
	}
	var seqs []uint64
	for i := range uint64(n) {
		seq := first + i
		if !front {
			seq = first + mix(pick+i)%(last-first+1)
		}
		if seq <= last {
			seqs = append(seqs, seq)
		}
	}
	w.count("expired", true)
	w.srv.Expire(scheduleStream, seqs...)
}
