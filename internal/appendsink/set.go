package appendsink

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"ossuary/internal/event"
	"ossuary/internal/ledger"
)

const (
	// heldShare: held series together keep at most 1/heldShare of the budget
	// while other series can be appended to.
	heldShare = 4
	// sweepEvery is how often idle series are looked for. Idleness is measured in
	// minutes and hours.
	sweepEvery = 5 * time.Second
	// earlyBusy: under pressure batches go early while fewer series than this are
	// at work. It is more than are appended to at once (limits.parallel_appends), so
	// that there is always a next one.
	earlyBusy = 128
	// pressedEvery: after so many events it is asked whether the lane is pressed.
	pressedEvery = 16
)

// Set is the sinks of one lane in one epoch: a series each, with its waiting
// batches and its tail. Use: NewSet, Load, Run in a goroutine, Add from one goroutine,
// Drain before Run's context ends if nothing shall come again.
type Set struct {
	opt Options
	log zerolog.Logger
	m   *Metrics

	deadLog zerolog.Logger // of dead letters, of which there may be as many as there are events

	wake chan struct{} // the run loop has something to look at
	fail chan error    // capacity 1: the first reason to end the epoch

	mu       sync.Mutex
	series   map[string]*series          // open
	lru      *list.List                  // of *series, most recently used first
	known    map[string]ledger.TailEntry // from the ledger or evicted; not open
	loaded   bool
	timers   timers // series whose first batch waits for its time
	asked    uint   // events since the lane was asked whether it is pressed
	ready    []*series
	draining bool
	pending  int               // batches queued or in flight
	busy     int               // series with a worker
	holds    int               // of these, held ones
	ended    error             // why nothing is taken any more; nil before the end
	idle     chan struct{}     // closed and replaced when a series' work ends
	tookAny  int               // appends that the store took
	ahead    map[string]*ahead // by series; also of some that are not open
	aheads   int               // events in ahead
	behind   bool              // there were too many

	wg      sync.WaitGroup // workers and the checkpointer
	point   checkpointer
	writers sync.Pool     // of *event.FrameWriter
	done    chan struct{} // closed when Run returns
}

// series is one sink.
type series struct {
	set  *Set
	name string
	log  seriesLog

	// guarded by set.mu
	spec     *Spec // of the newest event
	queue    []*batch
	working  bool      // a worker has it, or it stands in ready
	dueIndex int       // in set.timers, -1 if not there
	ageIndex int       // likewise
	due      time.Time // of the first batch, while it stands in line
	oldest   uint64    // its first slot, likewise
	lru      *list.Element
	sealWhy  string // wanted: seal the segment if nothing is waiting
	hold     *Hold
	took0    int    // set.tookAny when the hold began
	alone    bool   // the trouble is this series', not everybody's
	forgot   bool   // events were forgotten: take none until the next epoch
	waiting  int64  // bytes of the budget
	b        *batch // in the worker's hand
	newest   uint64 // sequence of the newest event
	unsure   bool   // frames were compared since the tail was proven
	seen     seen   // for people

	// owned by the worker
	tail    *tail
	jumps   bool   // the next frame to be adopted need not follow the last one
	inDoubt bool   // an append's outcome is unknown: look before the next
	route   string // of the batch in hand, for the ledger
}

// NewSet returns the sinks of an epoch.
func NewSet(o Options) *Set {
	if o.LedgerInterval == 0 {
		o.LedgerInterval = time.Second
	}
	if o.OpenSeries == 0 {
		o.OpenSeries = 10_000
	}
	if o.Metrics == nil {
		o.Metrics = new(Metrics)
	}
	if o.Appends == nil {
		o.Appends = semaphore.NewWeighted(32)
	}
	t := &Set{
		opt: o, log: o.Log, m: o.Metrics,
		deadLog: o.Log.Sample(&zerolog.BurstSampler{Burst: deadLogged, Period: deadEvery}),
		wake:    make(chan struct{}, 1), fail: make(chan error, 1), idle: make(chan struct{}), done: make(chan struct{}),
		series: map[string]*series{}, lru: list.New(), known: map[string]ledger.TailEntry{}, ahead: map[string]*ahead{},
		loaded: o.Ledger == nil,
	}
	t.point.init(&t.opt)
	return t
}

// Load loads the tails from the ledger, if Run has not yet. To be called before
// the first event is asked for: a tail is taken at its word, and one that is
// younger than an event's delivery may have passed that event, gone from the
// stream since for whoever wrote it.
func (t *Set) Load(ctx context.Context) error {
	t.mu.Lock()
	loaded := t.loaded
	t.mu.Unlock()
	if loaded {
		return nil
	}
	known, err := t.opt.Ledger.Tails(ctx, t.opt.Source, t.opt.Lane)
	if err != nil {
		return fmt.Errorf("loading the tails from the ledger: %w", err)
	}
	for _, e := range known {
		t.archived(e.Route, 0, 0, e.Greatest)
	}
	t.mu.Lock()
	t.known, t.loaded = known, true
	t.mu.Unlock()
	t.point.load(known)
	return nil
}

// Run works until ctx ends (nil) or the epoch cannot go on. When it returns,
// nothing of the Set runs any more; appends in flight were abandoned, which is
// harmless: whoever comes next finds them in the object.
func (t *Set) Run(ctx context.Context) (err error) {
	defer close(t.done)
	defer func() { t.letGo(err) }() // behind the workers, which book as long as they run
	ctx, cancel := context.WithCancel(ctx)
	defer t.wg.Wait()
	defer cancel()
	defer t.opt.Budget.subscribe(t.poke)()

	if t.opt.Ledger != nil {
		if err := t.Load(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		t.wg.Go(func() { t.point.run(ctx) })
	}

	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		start, next := t.due(time.Now())
		for _, s := range start {
			t.wg.Go(func() { t.work(ctx, s) })
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-t.fail:
			return err
		case <-t.wake:
		case <-timer.C:
		case now := <-sweep.C:
			t.sweep(now)
		}
	}
}

// letGo gives back what the waiting batches hold of the shared budget. From here
// on nothing is taken: nobody would give that back.
func (t *Set) letGo(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = errEnded
	if why != nil {
		t.ended = fmt.Errorf("%w: %w", errEnded, why)
	}
	for _, s := range t.series {
		held := int64(0)
		if s.hold != nil { // perhaps over a seal, with no event waiting
			held = s.waiting
			t.m.HeldSeries[s.hold.cause].Add(-1)
		}
		if s.waiting != 0 {
			t.opt.Budget.add(-s.waiting, -held)
		}
		s.waiting, s.queue, s.hold = 0, nil, nil
	}
	t.m.OpenSeries.Add(-int64(len(t.series)))
	t.series = map[string]*series{}
}

func (t *Set) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *Set) end(err error) {
	select {
	case t.fail <- err:
	default:
	}
}

// Add hands over one event of a slot. It blocks while the budget is full. An
// *event.PoisonError means that the event cannot be encoded under spec and was
// not taken; it belongs to AddDead. Once Run has ended nothing is taken, and the
// error wraps the reason. The event's bytes are free again on return.
func (t *Set) Add(ctx context.Context, spec *Spec, e *event.Event, slot uint64) error {
	return t.add(ctx, spec, e, slot, func(dst []byte) ([]byte, error) { return spec.Encoder.Append(dst, e) })
}

func (t *Set) add(ctx context.Context, spec *Spec, e *event.Event, slot uint64, encode func([]byte) ([]byte, error)) error {
	need := int64(len(e.Data)+len(e.Subject)) + 64 + eventOverhead
	if done, err := t.addNow(spec, e, slot, need, encode); done {
		return err
	}
	took, err := t.opt.Budget.acquire(ctx, need, func() bool { return t.mustForget(spec.Series, need) })
	if err != nil {
		return err
	}
	if took {
		// What it really takes is booked by fill; a moment of both is a bound
		// kept, a moment of neither would be one broken.
		defer t.opt.Budget.add(-need, 0)
	}
	for {
		t.mu.Lock()
		if t.ended != nil {
			defer t.mu.Unlock()
			return t.ended
		}
		if len(t.series) < t.opt.OpenSeries || t.series[spec.Series] != nil || t.evict() {
			break
		}
		idle := t.idle
		t.mu.Unlock()
		t.poke()
		select {
		case <-idle:
		case <-t.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s := t.open(spec)
	if !took || s.forgot {
		t.mu.Unlock()
		t.forget(slot)
		return nil
	}
	wake, err := t.fill(s, spec, e, slot, encode)
	t.mu.Unlock()
	if wake {
		t.poke()
	}
	return err
}

// addNow is add where there is nothing to wait for or to decide, as is usual: the
// series is open, nothing is the matter with it, and there is room to spare. Not done:
// nothing has changed.
func (t *Set) addNow(spec *Spec, e *event.Event, slot uint64, need int64, encode func([]byte) ([]byte, error)) (done bool, err error) {
	t.mu.Lock()
	s := t.series[spec.Series]
	usual := t.ended == nil && s != nil && s.hold == nil && !s.forgot
	if !usual || !t.opt.Budget.try(need) {
		t.mu.Unlock()
		return false, nil
	}
	t.lru.MoveToFront(s.lru)
	s.spec = spec
	wake, err := t.fill(s, spec, e, slot, encode)
	t.mu.Unlock()
	t.opt.Budget.add(-need, 0) // what it really takes was booked by fill; see add
	if wake {
		t.poke()
	}
	return true, err
}

func (t *Set) forget(slot uint64) {
	t.m.Forgotten.Add(1)
	t.opt.Forget(slot)
}

// mustForget decides whether an event of a held series is let go rather than
// kept: if the held series have had their share, and it is known that only some
// are in trouble, so that waiting would hold the others up. If the store takes
// nothing from anybody, waiting is right. The series remembers it at once, so
// that a hold that ends this moment ends the epoch.
func (t *Set) mustForget(name string, n int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.series[name]
	if s == nil {
		return false
	}
	s.forgot = s.forgot || (s.hold != nil && s.alone && t.opt.Budget.heldOver(n))
	return s.forgot
}

// open returns the sink of spec's series; t.mu is held.
func (t *Set) open(spec *Spec) *series {
	s := t.openKnown(spec.Series)
	s.spec = spec
	return s
}

func (t *Set) openKnown(name string) *series {
	s := t.series[name]
	if s == nil {
		s = &series{set: t, name: name, dueIndex: -1, log: seriesLog{&t.log, name}}
		s.lru = t.lru.PushFront(s)
		t.series[name] = s
		t.m.OpenSeries.Add(1)
	} else {
		t.lru.MoveToFront(s.lru)
	}
	return s
}

// fill encodes an event into the series' last batch, or a new one; t.mu is held.
// It reports whether the run loop should look.
func (t *Set) fill(s *series, spec *Spec, e *event.Event, slot uint64, encode func([]byte) ([]byte, error)) (wake bool, err error) {
	var b *batch
	if n := len(s.queue); n > 0 && !s.queue[n-1].full && s.queue[n-1].spec == spec {
		b = s.queue[n-1]
	} else {
		b = &batch{spec: spec}
	}
	if err := b.body.add(len(e.Data)+len(e.Subject)+lineOverhead, encode); err != nil {
		return false, err
	}
	if b.len() == 0 {
		if n := len(s.queue); n > 0 {
			s.queue[n-1].full = true // nothing may be added behind a later batch
		}
		b.due = time.Now().Add(spec.Flush.Linger)
		s.queue = append(s.queue, b)
		t.pending++
	}
	b.push(e, slot)
	s.newest = e.Sequence
	t.judgeLate(s, b)
	grown := b.memory() - b.cost
	b.cost += grown
	s.book(grown)
	wake = t.schedule(s)
	if t.asked++; t.asked >= pressedEvery {
		t.asked = 0
		wake = wake || t.narrow()
	}
	return wake, nil
}

// narrow reports whether the lane will soon get no more events, for those that it has
// and that are not confirmed; t.mu is held. A held series' events stay, whatever else
// is sent, so that others keep to their time then.
func (t *Set) narrow() bool { return t.opt.Pressed != nil && t.holds == 0 && t.opt.Pressed() }

// book changes what the series takes of the budget; t.mu is held.
func (s *series) book(n int64) {
	if n == 0 {
		return
	}
	s.waiting += n
	held := int64(0)
	if s.hold != nil {
		held = n
	}
	s.set.opt.Budget.add(n, held)
}

// schedule puts the series where it belongs: with a worker if its first batch is
// due, else among the timers; t.mu is held. It reports whether the run loop
// should look.
func (t *Set) schedule(s *series) bool {
	if s.working || (len(s.queue) == 0 && s.sealWhy == "") {
		return false
	}
	if s.dueIndex >= 0 && len(s.queue) == 1 && !s.queue[0].enough && !s.queue[0].full && !t.draining {
		return false // the timer says when; a clock costs more than all else here
	}
	if s.ripe(time.Now(), t.draining) {
		t.begin(s)
		return true
	}
	if s.dueIndex < 0 {
		t.timers.add(s)
		return s.dueIndex == 0
	}
	return false
}

// begin has a worker take the series; t.mu is held.
func (t *Set) begin(s *series) {
	if s.dueIndex >= 0 {
		t.timers.remove(s)
	}
	s.working = true
	t.busy++
	t.ready = append(t.ready, s)
}

func (s *series) ripe(now time.Time, draining bool) bool {
	if len(s.queue) == 0 {
		return s.sealWhy != ""
	}
	b := s.queue[0]
	return draining || b.enough || b.full || len(s.queue) > 1 || !now.Before(b.due)
}

// due takes the series that need a worker, and the time at which the next will.
func (t *Set) due(now time.Time) (start []*series, next time.Time) {
	pressed := t.opt.Budget.pressed()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.loaded {
		return nil, time.Time{}
	}
	for !t.timers.empty() && (t.draining || !now.Before(t.timers.due[0].due)) {
		t.begin(t.timers.due[0])
	}
	// Over half the budget, or with half of the events that may be unconfirmed, the
	// oldest batches go before their time: as many as keep the line busy, so that the
	// rest can still grow. Series in trouble keep no line busy.
	if pressed || t.narrow() {
		for !t.timers.empty() && t.busy-t.holds < earlyBusy {
			t.begin(t.timers.age[0])
		}
	}
	start, t.ready = t.ready, nil
	if !t.timers.empty() {
		next = t.timers.due[0].due
	}
	return start, next
}

// work is a series' worker: it has the series for itself until nothing is due.
func (t *Set) work(ctx context.Context, s *series) {
	first := true
	for {
		t.mu.Lock()
		var b *batch
		why := ""
		switch {
		case len(s.queue) > 0 && (first || s.ripe(time.Now(), t.draining)):
			b = s.queue[0]
			s.queue = s.queue[1:]
			b.full = true
		case len(s.queue) == 0 && s.sealWhy != "":
			why = s.sealWhy
		default:
			s.working = false
			t.busy--
			wake := t.schedule(s) || !t.timers.empty() && t.narrow() // there is room for another
			close(t.idle)
			t.idle = make(chan struct{})
			t.mu.Unlock()
			if wake {
				t.poke()
			}
			return
		}
		s.sealWhy = ""
		s.b = b
		t.mu.Unlock()
		first = false

		traced, done := t.trace(ctx, b)
		err := s.commit(traced, b, why)
		if done != nil {
			done(err)
		}
		if err != nil {
			if ctx.Err() == nil {
				t.end(fmt.Errorf("series %s: %w", s.name, err))
			}
			return // the series stays with this worker: nobody appends to it in this epoch again
		}
		if b != nil {
			t.mu.Lock()
			t.pending--
			s.b = nil
			s.book(-b.cost)
			t.mu.Unlock()
			b.body.free()
		}
	}
}

// confirmed tells the caller that events are in the archive.
func (t *Set) confirmed(slots []uint64) {
	if len(slots) > 0 {
		t.opt.Confirm(slots)
	}
}

// Drain sends everything that waits, waits until all of it is confirmed, and
// writes the checkpoints. The error says what is left if ctx ends first.
func (t *Set) Drain(ctx context.Context) error {
	for {
		t.mu.Lock()
		t.draining = true
		left, idle := t.pending, t.idle
		t.mu.Unlock()
		if left == 0 {
			break
		}
		t.poke()
		select {
		case <-idle:
		case <-t.done:
			return fmt.Errorf("%d batches were not appended: the epoch has ended", left)
		case <-ctx.Done():
			return fmt.Errorf("%d batches are still waiting to be appended%s: %w", left, t.heldWords(), ctx.Err())
		}
	}
	return t.point.flush(ctx)
}

// evict forgets the least recently used series that has nothing to do; t.mu is
// held. If there is none it has the oldest flushed, so that there will be.
func (t *Set) evict() bool {
	now := time.Now()
	flushed := 0
	for e := t.lru.Back(); e != nil; e = e.Prev() {
		s := e.Value.(*series)
		if s.working {
			continue
		}
		if len(s.queue) == 0 && !s.forgot {
			t.close(s)
			return true
		}
		if len(s.queue) > 0 {
			s.queue[0].due = now
			if s.dueIndex >= 0 {
				t.timers.remove(s)
			}
			t.schedule(s)
			if flushed++; flushed == 16 {
				break
			}
		}
	}
	return false
}

// close takes an idle series out of memory; t.mu is held.
func (t *Set) close(s *series) {
	if s.tail != nil {
		if s.tail.spent() && t.point.dropped(s.name) {
			delete(t.known, s.name)
		} else {
			t.known[s.name] = ledger.TailEntry{Tail: s.tail.entry(s.route)}
		}
	}
	t.lru.Remove(s.lru)
	delete(t.series, s.name)
	t.m.OpenSeries.Add(-1)
}
