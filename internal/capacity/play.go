package capacity

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"ossuary/internal/router"
)

// A load is too much when so many events wait, and so much of the day's.
const (
	mostBlocked     = 10_000
	mostBlockedPart = 0.2
)

// ErrOverrun: the writers fall behind, and further behind as time passes.
var ErrOverrun = errors.New("the load is more than the writers can take")

// machine makes the chosen lanes.
func (w *world) machine() (*machine, error) {
	// What the chosen lanes have of an instance.
	part := w.part()
	c := w.cfg
	// A part of the slots is seldom a whole number: requests take as much shorter or
	// longer as makes the part bear what it should.
	exact := float64(c.Limits.ParallelAppends) * part
	slots := max(int(exact+0.5), 1)
	stretch := float64(slots) / exact
	m := &machine{
		dawn: w.warm, c: costs{time.Duration(float64(w.load.AppendTime) * stretch), w.load.Bandwidth / stretch},
		slots: slots, limit: max(int64(float64(c.Limits.Memory)*part), 1),
		ledgerEvery: c.Ledger.Interval, nextLedger: c.Ledger.Interval, nextFloor: floorEvery, nextSweep: sweepEvery,
		wheel: map[int64][]*series{},
	}
	for _, i := range w.chosen {
		r, err := router.NewLane(w.layouts[w.lanes[i].source], w.lanes[i].name)
		if err != nil {
			return nil, fmt.Errorf("sources[%d]: %w", w.lanes[i].source, err)
		}
		l := newLane(max(c.Limits.OpenSeries/w.thin, 1))
		l.router = r
		m.lanes = append(m.lanes, l)
	}
	return m, nil
}

// part is what the simulated lanes, or their values, are of an instance.
func (w *world) part() float64 {
	return min(1, float64(len(w.chosen))/float64(w.lanesPerInstance())/float64(w.thin))
}

// thing is what an event is about: one value of {n}, in a lane.
type thing struct {
	lane    int // of the machine
	subject string
	last    *series
}

// play sends a day of events through m, after some time before it.
func (w *world) play(ctx context.Context, m *machine) error {
	var things []thing
	var weights []float64
	for k, i := range w.chosen {
		l := &w.lanes[i]
		for _, n := range l.values {
			things = append(things, thing{lane: k, subject: w.subjectFor(l, n)})
			weights = append(weights, w.weight(int(n)))
		}
	}
	rng := rand.New(rand.NewPCG(w.load.Seed, 0x6f737375617279))
	pick := newPicker(weights)
	rules := map[ruleKey]*rule{}
	data := payload(w.load.EventSize, rng)
	mean := w.load.Events * w.share / (24 * time.Hour).Seconds() // events a second
	end := w.warm + 24*time.Hour
	msg := router.Message{Data: data}
	most := max(mostBlocked, int(mostBlockedPart*w.load.Events*w.share))
	rate, until := 0.0, time.Duration(0)
	for t := time.Duration(0); ; {
		for t >= until { // the rate of this minute
			if err := ctx.Err(); err != nil {
				return err
			}
			rate = mean * w.curve.at(until-w.warm)
			until += time.Minute
		}
		gap := time.Duration(min(rng.ExpFloat64()/rate, 1e9) * 1e9)
		if t+gap > until { // without memory: begin again with the next minute's rate
			t = until
			if t >= end {
				break
			}
			continue
		}
		if t += gap; t >= end {
			break
		}
		if !m.day && t >= m.dawn {
			m.advance(m.dawn)
			m.day = true
		}
		m.advance(t)
		th := &things[pick.next(rng)]
		l := m.lanes[th.lane]
		msg.Subject, msg.Time = th.subject, day0.Add(t-w.warm)
		target := l.router.Resolve(&msg)
		switch {
		case target.Skip:
			m.pass(&m.count.skipped)
			continue
		case target.Poison != "":
			m.pass(&m.count.dead)
			continue
		}
		s := th.last
		if s == nil || s.gone || s.name != target.Series {
			var err error
			if s, err = w.series(m, l, w.chosen[th.lane], target, &msg, rules); err != nil {
				return err
			}
			th.last = s
		}
		line := int64(s.rule.sizes.line)
		m.arrive(l, s, line, int64(len(data)+len(th.subject))+64+eventOverhead)
		if len(m.blocked) > most {
			return fmt.Errorf("%w: %d events wait for an instance after %s of the day; add instances, raise limits.parallel_appends or limits.memory, or lengthen flush.linger",
				ErrOverrun, len(m.blocked), max(t-w.warm, 0).Round(time.Minute))
		}
	}
	m.advance(end)
	m.day = false
	m.drain()
	return nil
}

func (m *machine) pass(n *int) {
	m.count.in++
	m.count.out++
	if m.day {
		m.count.arrived++
		*n++
	}
}

func (w *world) weight(n int) float64 {
	if w.load.Skew == 0 {
		return 1
	}
	return zipf(n, w.load.Skew)
}

type ruleKey struct {
	source int
	route  string
}

// series finds the target's series in the lane, or makes it.
func (w *world) series(m *machine, l *lane, at int, t router.Target, msg *router.Message, rules map[ruleKey]*rule) (*series, error) {
	if s := l.series[t.Series]; s != nil {
		return s, nil
	}
	source := w.lanes[at].source
	key := ruleKey{source, t.Route.Name}
	ru := rules[key]
	if ru == nil {
		for _, r := range w.cfg.Sources[source].Routes {
			if r.Name != t.Route.Name {
				continue
			}
			ru = &rule{size: r.Flush.Size, events: r.Flush.Events, linger: r.Flush.Linger,
				rollSize: r.Roll.Size, rollAge: r.Roll.Age, rollIdle: r.Roll.Idle, raw: r.Format == "raw"}
		}
		if ru == nil {
			return nil, fmt.Errorf("sources[%d]: there is no route %q", source, t.Route.Name)
		}
		most := ru.events
		if ru.raw {
			most = min(most, maxRawEvents)
		}
		var err error
		if ru.sizes, err = measure(t.Route, msg, t.Series, w.load.EventSize, most, ru.size); err != nil {
			return nil, err
		}
		rules[key] = ru
	}
	s := l.newSeries(t.Series, ru)
	// What was there the day before and is not sealed for being idle goes on.
	before := *msg
	before.Time = msg.Time.Add(-24 * time.Hour)
	if ru.rollIdle <= 0 || ru.rollIdle > w.warm {
		if o := l.router.Resolve(&before); o.Series == t.Series {
			s.known, s.inLedger, s.partial, s.position = true, true, true, 1
		}
		l.router.Resolve(msg)
	}
	return s, nil
}
