package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"ossuary/internal/appendsink"
	ev "ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
)

const (
	prefix = "p/"
	dead   = "dead"

	sweepEvery  = 5 * time.Second  // appendsink.sweepEvery
	longestWait = 16 * time.Second // a little more than the longest backoff of a request in doubt
	ledgerEvery = 5 * time.Second
	never       = 100_000 * time.Hour
)

// actor is the real sink of one series of one writer: a Set that has no other
// series, so that the walk can have each take a step alone. Sets share nothing but
// what the walk does for them: one that ends takes its writer's others with it.
type actor struct {
	tw     *twin
	w, n   uint8
	set    *appendsink.Set
	ctx    context.Context
	cancel context.CancelFunc
	budget *appendsink.Budget
	specs  [2]*appendsink.Spec // by codec
	m      appendsink.Metrics

	mu    sync.Mutex
	over  bool // Run has returned
	err   error
	call  *call // the request that waits for the walk
	torn  uint8 // of the reads of this step, how many are cut
	put   bool  // the ledger takes a checkpoint
	drop  bool
	wrote bool
	floor uint64
	known map[string]ledger.TailEntry

	// turn is what a worker acquires before each attempt. The walk has two of two,
	// and one during an attempt.
	turn *semaphore.Weighted
	held bool
	sent int64 // events that were overtaken, and are archived as dead letters
}

// call is a request that is held up: an append, or the Head by which reading
// forward begins a turn.
type call struct {
	op       string
	key      string
	position int64
	body     object.Body // as the sink lends it
	within   bool        // of an attempt's first part: when it is read, the attempt goes on at once
	known    bool        // compared with the model's
	answer   chan answer
	model    request
}

type answer struct {
	got object.Appended
	err error
}

func (tw *twin) newActor(w, n uint8, known map[string]ledger.TailEntry) *actor {
	a := &actor{tw: tw, w: w, n: n, budget: appendsink.NewBudget(72 << 10), known: known, held: true, turn: semaphore.NewWeighted(2)}
	a.turn.TryAcquire(2)
	a.ctx, a.cancel = context.WithCancel(context.Background())
	for ext := range a.specs {
		a.specs[ext] = &appendsink.Spec{Series: seriesName(n), Route: "r", Codec: tw.codecs[ext], Layout: 1,
			Flush: appendsink.Flush{Size: 1 << 20, Events: 1 << 20, Linger: never}}
	}
	letters := &appendsink.Spec{Series: dead, Route: dead, Codec: ev.Plain, Flush: appendsink.Flush{Size: 1, Events: 1}}
	k := &tw.s.w[w]
	o := appendsink.Options{Archive: "a", Source: "S", Lane: "0", Prefix: prefix,
		Stream:         ev.StreamID{Name: "S", Created: createdAt(k.created), Incarnation: int(k.inc)},
		Store:          a,
		LedgerInterval: ledgerEvery,
		Budget:         a.budget, Appends: a.turn, Level: 1,
		Dead:    func(int) *appendsink.Spec { return letters },
		Confirm: func(slots []uint64) { tw.confirm(a, slots) },
		Forget:  func(slot uint64) { tw.fault("W%d lets event %d go", w, slot) },
		Floor:   a.floorNow, Metrics: &a.m, Log: zerolog.Nop()}
	if tw.x.ledger {
		o.Ledger = book{a}
	}
	a.set = appendsink.NewSet(o)
	go func() {
		err := a.set.Run(a.ctx)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.over, a.err = true, err
	}()
	return a
}

// pass lets the worker make an attempt, up to where it waits for the walk again.
func (a *actor) pass() {
	a.await()
	synctest.Wait()
	a.turn.Release(1) // to the worker, if it is there: it has waited longer
	synctest.Wait()
}

// await has the walk take its turn again when the worker is done.
func (a *actor) await() {
	a.set1(func() { a.held = false })
	go func() {
		_ = a.turn.Acquire(context.Background(), 1)
		a.set1(func() { a.held = true })
	}()
}

// letters lets dead letters go to the archive: each is a series of its own, whose
// worker acquires turns as well. They wait as long as the series' own worker would
// be the next.
func (a *actor) letters() {
	n := a.m.Overtaken.Load()
	k := &a.tw.s.w[a.w].sinks[a.n]
	if n == a.sent || a.tw.s.w[a.w].up == 0 || a.held && (k.pc != idle || k.queue != 0) {
		return
	}
	a.tw.sleep(sweepEvery) // the run loop looks up
	held := a.held
	a.turn.Release(1)
	synctest.Wait()
	if !held { // what came back is the walk's own turn
		a.turn.Release(1)
		synctest.Wait()
	}
	if !a.turn.TryAcquire(1) {
		a.tw.fault("W%d's dead letters come to no end", a.w)
	}
	if !held {
		a.await()
		synctest.Wait()
	}
	a.sent = n
}

func (a *actor) set1(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// press has the batch that waits sent: a budget that is more than half used sends
// the oldest before their time.
func (a *actor) press() {
	ctx, cancel := context.WithCancel(context.Background())
	ballast := appendsink.NewSet(appendsink.Options{Budget: a.budget, Appends: semaphore.NewWeighted(0), Log: zerolog.Nop()})
	spec := &appendsink.Spec{Series: "ballast", Flush: appendsink.Flush{Size: 2 << 20, Events: 2, Linger: never}}
	e := &ev.Event{Sequence: 1, Time: createdAt(1), Data: ballastData}
	if err := ballast.Add(ctx, spec, e, 0); err != nil {
		a.tw.fault("the budget takes no ballast: %v", err)
	}
	synctest.Wait()
	cancel()
	_ = ballast.Run(ctx) // gives it back
}

var ballastData = []byte(`"` + strings.Repeat("x", 40<<10) + `"`)

// roll says whether the segment is as large as it may get.
func (a *actor) roll(now bool) {
	a.edit(func(spec *appendsink.Spec) {
		spec.Roll.Size = 0
		if now {
			spec.Roll.Size = 1
		}
	})
}

// edit changes what the set reads under its lock while nothing runs. The race detector
// does not count the end of a bubble's sleep as an order, so the lock is taken around it.
func (a *actor) edit(change func(*appendsink.Spec)) {
	a.set.Held()
	for _, spec := range a.specs {
		change(spec)
	}
	a.set.Held()
}

// idle has the sweep find the series idle.
func (a *actor) idle() {
	a.edit(func(spec *appendsink.Spec) { spec.Roll.Idle = 1 })
	a.tw.sleep(sweepEvery)
	a.edit(func(spec *appendsink.Spec) { spec.Roll.Idle = 0 })
}

// answer lets the request that is held up go on.
func (a *actor) answer(got object.Appended, err error) {
	var c *call
	a.set1(func() { c, a.call = a.call, nil })
	c.answer <- answer{got, err}
}

func (a *actor) waiting() *call {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.call
}

// hold has the request wait for the walk.
func (a *actor) hold(ctx context.Context, c *call) answer {
	c.answer = make(chan answer, 1)
	a.mu.Lock()
	if a.call != nil {
		a.tw.fault("W%d has two requests in flight", a.w)
	}
	a.call = c
	a.mu.Unlock()
	select {
	case v := <-c.answer:
		return v
	case <-ctx.Done():
		return answer{err: &object.Error{Op: c.op, Key: c.key, Err: ctx.Err()}}
	}
}

// stop ends the epoch; what is in flight stays on its way.
func (a *actor) stop() {
	a.cancel()
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.over {
		a.tw.fault("W%d does not end", a.w)
	}
}

// The store, as the sink sees it.

func (a *actor) Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error) {
	if strings.HasPrefix(key, prefix+dead) {
		return a.tw.store.Append(ctx, key, position, body, c)
	}
	v := a.hold(ctx, &call{op: "append", key: key, position: position, body: body})
	return v.got, v.err
}

func (a *actor) Head(ctx context.Context, key string) (object.Info, error) {
	if by := callers(); by[1] == "readForward" && !strings.HasPrefix(key, prefix+dead) {
		within := false
		for _, name := range by {
			within = within || name == "locate" || name == "settle"
		}
		if v := a.hold(ctx, &call{op: "head", key: key, within: within}); v.err != nil {
			return object.Info{}, v.err
		}
	}
	return a.tw.store.Head(ctx, key)
}

func (a *actor) Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	r, err := a.tw.store.Read(ctx, key, from, to)
	if by := callers(); err == nil && by[1] == "readSegment" && (by[2] == "readForward" && a.torn > 0 || by[2] == "rescan" && a.torn > 1) {
		return io.NopCloser(io.LimitReader(r, int64(a.tw.r.IntN(shortest)))), nil
	}
	return r, err
}

func (a *actor) List(ctx context.Context, prefix string, fn func(object.Entry) error) error {
	return a.tw.store.List(ctx, prefix, fn)
}

// callers names the methods of a series that a request comes from, innermost
// first. What makes a request tells where the model's steps end: with an append,
// with an attempt, and with each turn of readForward.
func callers() (names []string) {
	var pcs [24]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		if _, name, ok := strings.Cut(f.Function, "appendsink.(*series)."); ok {
			names = append(names, name)
		}
		if !more {
			return append(names, "", "", "")
		}
	}
}

// book is the ledger, as the sink sees it. It takes a checkpoint when the walk
// says so, and is away otherwise.
type book struct{ *actor }

var errAway = fmt.Errorf("%w: it is away", ledger.ErrInDoubt)

func (b book) Tails(context.Context, string, string) (map[string]ledger.TailEntry, error) {
	return b.known, nil
}

func (b book) Tail(context.Context, string, string, string) (ledger.Tail, uint64, error) {
	e := b.tw.ledger[b.n]
	return e.Tail, e.Revision, nil
}

func (b book) PutTail(_ context.Context, _, _, series string, t ledger.Tail, rev uint64) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if series != seriesName(b.n) {
		return 1, nil // of a dead letter
	}
	if !b.put {
		return 0, errAway
	}
	b.wrote = true
	if rev != b.tw.ledger[b.n].Revision {
		return 0, ledger.ErrConflict
	}
	b.tw.revision++
	b.tw.older[b.n], b.tw.ledger[b.n] = b.tw.ledger[b.n], ledger.TailEntry{Tail: t, Revision: b.tw.revision}
	return b.tw.revision, nil
}

func (b book) DeleteTail(_ context.Context, _, _, series string, rev uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if series != seriesName(b.n) {
		return nil
	}
	if !b.put && !b.drop {
		return errAway
	}
	b.wrote = true
	if rev != b.tw.ledger[b.n].Revision {
		return ledger.ErrConflict
	}
	b.tw.older[b.n], b.tw.ledger[b.n] = b.tw.ledger[b.n], ledger.TailEntry{}
	return nil
}

func (a *actor) floorNow() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.floor
}
