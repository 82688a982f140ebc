package appendsink

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ossuary/internal/ledger"
	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

// A plan: the n-th operation of a run goes wrong in a given way. All operations
// on the store and on the ledger, of all writers, are counted in one sequence.

// way is one in which an operation goes wrong.
type way struct {
	name  string
	kind  string // the name without who goes on after a crash
	ops   string // of which it is a way
	fault objecttest.Fault
	crash bool // the writer dies with it, and what follows goes on
	turn  int  // of a crash, which of the four ways to go on:
	other bool // another goes on, which knows nothing; else itself anew
	lost  bool // without the ledger
}

const (
	anything = "append head read list tails tail put delete"
	writes   = "append put delete"
)

// ways are all of them. What is no way for the store's operations is the
// ledger's, whose errors say no more than that they are none of its conflicts.
var ways = func() []way {
	failed := objecttest.NotApplied()
	list := []way{
		{name: "not applied", ops: anything, fault: failed},
		{name: "response lost", ops: writes, fault: objecttest.Lost()},
		{name: "late", ops: writes, fault: objecttest.Late()},
		{name: "later", ops: "append", fault: objecttest.Fault{Late: true, Later: 1}},
		{name: "throttled", ops: "append head read list", fault: objecttest.Throttled()},
		{name: "hold", ops: "append head read list", fault: objecttest.Hold()},
		{name: "garbled next", ops: "append", fault: objecttest.GarbledNext()},
		{name: "garbled CRC", ops: "append", fault: objecttest.GarbledCRC()},
		{name: "cut", ops: "read", fault: objecttest.Fault{Cut: 1}},
		{name: "cut in the midst", ops: "read", fault: objecttest.Fault{Cut: 200}},
	}
	for _, c := range []way{
		{name: "crash before", ops: anything, fault: failed},
		{name: "crash after", ops: writes, fault: objecttest.Lost()},
		{name: "crash, late", ops: writes, fault: objecttest.Late()},
		{name: "crash, later", ops: "append", fault: objecttest.Fault{Late: true, Later: 2}},
	} {
		c.crash, c.kind, c.turn = true, c.name, -1
		for _, c.other = range []bool{false, true} {
			for _, c.lost = range []bool{false, true} {
				who, what := "itself", ""
				if c.other {
					who = "another"
				}
				if c.lost {
					what = " without ledger"
				}
				c.name = c.kind + ", " + who + what
				c.turn++
				list = append(list, c)
			}
		}
	}
	for i := range list {
		list[i].kind = cmp.Or(list[i].kind, list[i].name)
	}
	return list
}()

// waysOf are those of one operation, by index.
var waysOf = func() map[string][]*way {
	m := map[string][]*way{}
	for i := range ways {
		for op := range strings.FieldsSeq(ways[i].ops) {
			m[op] = append(m[op], &ways[i])
		}
	}
	return m
}()

// step plants the i-th way of operation n, or the one of that name. Of crashes
// only those of one turn count, unless that is negative.
type step struct {
	n, i, turn int
	name       string
}

func (s step) of(op string) *way {
	i := s.i
	for _, w := range waysOf[op] {
		switch {
		case s.name == w.name:
			return w
		case s.name != "", w.crash && s.turn >= 0 && w.turn != s.turn%4:
		case i == 0:
			return w
		default:
			i--
		}
	}
	return nil
}

// met is what became of a step.
type met struct {
	n   int
	op  string
	key string
	way *way // nil: the operation has no such way
}

func (m met) String() string { return fmt.Sprintf("%d %s", m.n, m.way.name) }

// run is one run of a world under a plan.
type run struct {
	w    *world
	plan []step

	mu  sync.Mutex
	n   int
	met []met
	log []string // of the operations, if there is somebody to read it
}

// begin counts an operation and says how it goes.
func (r *run) begin(op, key string) *way {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	var w *way
	for _, s := range r.plan {
		if s.n == r.n {
			w = s.of(op)
			r.met = append(r.met, met{r.n, op, key, w})
		}
	}
	line := fmt.Sprintf("%d %s %s", r.n, op, key)
	if w != nil {
		line += ": " + w.name
	}
	r.log = append(r.log, line)
	return w
}

// gate is a writer's way to the store and the ledger, where its operations are
// counted and go wrong.
type gate struct {
	r     *run
	pause time.Duration // that a request to the store takes, so that writers meet
	kill  context.CancelFunc
	mu    sync.Mutex
	death *way // that it died of
}

// pass runs one operation.
func (g *gate) pass(ctx context.Context, op, key string, do func(context.Context) error) error {
	if g.pause > 0 && strings.Contains("append head read list", op) {
		time.Sleep(g.pause) // not the ledger's, which has a lock of ours: no time passes where a lock is waited for
	}
	if err := ctx.Err(); err != nil {
		return err // the dead ask for nothing
	}
	w := g.r.begin(op, key)
	if w == nil {
		return do(ctx)
	}
	if !w.crash {
		return do(objecttest.Plant(ctx, w.fault))
	}
	g.mu.Lock()
	g.death = w
	g.mu.Unlock()
	// It dies with the request: what becomes of that is not for its context to say.
	err := do(objecttest.Plant(context.WithoutCancel(ctx), w.fault))
	g.kill()
	return err
}

func (g *gate) Append(ctx context.Context, key string, position int64, body []byte, c *object.Create) (a object.Appended, err error) {
	err = g.pass(ctx, "append", key, func(ctx context.Context) error {
		a, err = g.r.w.store.Append(ctx, key, position, body, c)
		return err
	})
	return a, err
}

func (g *gate) Head(ctx context.Context, key string) (i object.Info, err error) {
	err = g.pass(ctx, "head", key, func(ctx context.Context) error {
		i, err = g.r.w.store.Head(ctx, key)
		return err
	})
	return i, err
}

func (g *gate) Read(ctx context.Context, key string, from, to int64) (rc io.ReadCloser, err error) {
	err = g.pass(ctx, "read", key, func(ctx context.Context) error {
		rc, err = g.r.w.store.Read(ctx, key, from, to)
		return err
	})
	return rc, err
}

func (g *gate) List(ctx context.Context, prefix string, fn func(object.Entry) error) error {
	return g.pass(ctx, "list", prefix, func(ctx context.Context) error { return g.r.w.store.List(ctx, prefix, fn) })
}

func (g *gate) Tails(ctx context.Context, source, lane string) (m map[string]ledger.TailEntry, err error) {
	err = g.pass(ctx, "tails", lane, func(ctx context.Context) error {
		m, err = g.r.w.ledger.Tails(ctx, source, lane)
		return err
	})
	return m, err
}

func (g *gate) Tail(ctx context.Context, source, lane, series string) (t ledger.Tail, rev uint64, err error) {
	err = g.pass(ctx, "tail", series, func(ctx context.Context) error {
		t, rev, err = g.r.w.ledger.Tail(ctx, source, lane, series)
		return err
	})
	return t, rev, err
}

func (g *gate) PutTail(ctx context.Context, source, lane, series string, t ledger.Tail, rev uint64) (next uint64, err error) {
	err = g.pass(ctx, "put", series, func(ctx context.Context) error {
		if b := g.r.w.store.Bytes(t.Key); int64(len(b)) < t.Position || object.CRC64(0, b[:t.Position]) != t.CRC64 {
			g.r.w.t.Errorf("a tail is put into the ledger that is no prefix of %s", t.Key)
		}
		next, err = g.r.w.ledger.PutTail(ctx, source, lane, series, t, rev)
		return err
	})
	return next, err
}

func (g *gate) DeleteTail(ctx context.Context, source, lane, series string, rev uint64) error {
	return g.pass(ctx, "delete", series, func(ctx context.Context) error {
		return g.r.w.ledger.DeleteTail(ctx, source, lane, series, rev)
	})
}

// write has a writer archive everything, through crashes and whoever goes on
// after them.
func (r *run) write(l *lane, pause time.Duration) {
	for {
		ctx, kill := context.WithCancel(r.w.t.Context())
		g := &gate{r: r, pause: pause, kill: kill}
		l.store, l.ledger = g, g
		// Of virtual time, in which a hold of the first kind lasts a second.
		ctx, stop := context.WithTimeout(ctx, time.Hour)
		l.finish(ctx)
		hung := g.death == nil && ctx.Err() != nil
		stop()
		kill()
		switch {
		case hung:
			r.w.t.Errorf("no end after an hour and %d epochs; last: %v", l.epochs, l.last)
			return
		case g.death == nil:
			return
		}
		if g.death.lost {
			r.w.ledger.wipe()
		}
		if g.death.other {
			next := r.w.lane()
			next.skip, next.rest, next.spec = l.skip, l.rest, l.spec
			l = next
		}
	}
}

// parsePlan reads "world: 5 late; 9 crash before, itself" as failures print it.
func parsePlan(t *testing.T, s string) (world string, plan []step) {
	world, rest, _ := strings.Cut(s, ": ")
	for part := range strings.SplitSeq(rest, "; ") {
		n, name, _ := strings.Cut(part, " ")
		i, err := strconv.Atoi(n)
		if err != nil || !slices.ContainsFunc(ways, func(w way) bool { return w.name == name }) {
			t.Fatalf("%q is no plan", s)
		}
		plan = append(plan, step{n: i, name: name})
	}
	return world, plan
}
