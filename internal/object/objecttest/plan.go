package objecttest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ossuary/internal/object"
)

// A plan: the n-th operation of a run goes wrong in a given way. All operations,
// of all writers, are counted in one sequence; those on a ledger too, where a
// test sends them through Gate.Pass.

// Way is one in which an operation goes wrong.
type Way struct {
	Name  string
	Kind  string // the name without who goes on after a crash
	Fault Fault
	Crash bool // the writer dies with it, and what follows goes on
	Other bool // after a crash: another goes on, which knows nothing; else itself anew
	Lost  bool // after a crash: without the ledger

	ops  string // of which it is a way
	turn int    // of a crash, which of the four ways to go on it has
}

const (
	anything = "append head read list tails tail put delete"
	requests = "append head read list"
	writes   = "append put delete"
)

// ways are all of them, by operation. What makes no sense for a ledger is none of
// its ways; of the errors it only needs to know that they are no conflict.
var ways = func() map[string][]*Way {
	list := []Way{
		{Name: "not applied", ops: anything, Fault: NotApplied()},
		{Name: "response lost", ops: writes, Fault: Lost()},
		{Name: "late", ops: writes, Fault: Late()},
		{Name: "later", ops: "append", Fault: Fault{Late: true, Later: 1}},
		{Name: "throttled", ops: requests, Fault: Throttled()},
		{Name: "hold", ops: requests, Fault: Hold()},
		{Name: "garbled next", ops: "append", Fault: GarbledNext()},
		{Name: "garbled CRC", ops: "append", Fault: GarbledCRC()},
		{Name: "cut", ops: "read", Fault: Fault{Cut: 1}},
		{Name: "cut in the midst", ops: "read", Fault: Fault{Cut: 200}},
	}
	for _, c := range []Way{
		{Kind: "crash before", ops: anything, Fault: NotApplied()},
		{Kind: "crash after", ops: writes, Fault: Lost()},
		{Kind: "crash, late", ops: writes, Fault: Late()},
		{Kind: "crash, later", ops: "append", Fault: Fault{Late: true, Later: 2}},
	} {
		c.Crash = true
		for turn, who := range []string{"itself", "itself without ledger", "another", "another without ledger"} {
			c.Name, c.turn = c.Kind+", "+who, turn
			c.Other, c.Lost = turn >= 2, turn%2 == 1
			list = append(list, c)
		}
	}
	m := map[string][]*Way{}
	for i := range list {
		list[i].Kind = cmp.Or(list[i].Kind, list[i].Name)
		for op := range strings.FieldsSeq(list[i].ops) {
			m[op] = append(m[op], &list[i])
		}
	}
	return m
}()

// Step plants a way of the N-th operation: the one of that name, or the i-th.
type Step struct {
	N       int
	Name    string
	i, turn int // of crashes only those of the turn count, unless that is negative
}

func (s Step) of(op string) *Way {
	i := s.i
	for _, w := range ways[op] {
		switch {
		case s.Name == w.Name:
			return w
		case s.Name != "", w.Crash && s.turn >= 0 && w.turn != s.turn%4:
		case i == 0:
			return w
		default:
			i--
		}
	}
	return nil
}

// Plan is the steps of one run, and what became of them.
type Plan struct {
	steps []Step

	mu   sync.Mutex
	n    int
	met  []met
	log  []string
	over bool
}

type met struct {
	n   int
	op  string
	way *Way // nil: the operation has no such way
}

// Empty says that nothing is to go wrong.
func (p *Plan) Empty() bool { return len(p.steps) == 0 }

// End says that what comes now is not counted any more: the check of what was done.
func (p *Plan) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// String is the plan as ParsePlan reads it.
func (p *Plan) String() string {
	var s []string
	for _, m := range p.met {
		if m.way != nil {
			s = append(s, fmt.Sprintf("%d %s", m.n, m.way.Name))
		}
	}
	return strings.Join(s, "; ")
}

// ParsePlan reads a world and a plan, "world: 5 late; 9 crash before, itself".
func ParsePlan(s string) (world string, steps []Step, err error) {
	world, rest, _ := strings.Cut(s, ": ")
	for part := range strings.SplitSeq(rest, "; ") {
		n, name, _ := strings.Cut(part, " ")
		i, err := strconv.Atoi(n)
		if err != nil || !slices.ContainsFunc(slices.Concat(ways["append"], ways["read"]), func(w *Way) bool { return w.Name == name }) {
			return "", nil, fmt.Errorf("%q is no plan", s)
		}
		steps = append(steps, Step{N: i, Name: name})
	}
	return world, steps, nil
}

// begin counts an operation and says how it goes.
func (p *Plan) begin(op, key string) *Way {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return nil
	}
	p.n++
	line := fmt.Sprintf("%d %s %s", p.n, op, key)
	var w *Way
	for _, s := range p.steps {
		if s.N != p.n {
			continue
		}
		if w = s.of(op); w != nil {
			line += ": " + w.Name
		}
		p.met = append(p.met, met{p.n, op, w})
	}
	p.log = append(p.log, line)
	return w
}

// Gate is a writer's way to the store, on which its operations are counted and go
// wrong. It dies of a crash.
type Gate struct {
	// Pause is how long a request to the store takes first, so that writers meet.
	// In a bubble of synctest no lock may be held meanwhile that others wait for.
	Pause time.Duration

	plan  *Plan
	store *Store
	kill  context.CancelFunc
	mu    sync.Mutex
	death *Way
}

// NewGate returns a way to s under plan p. kill ends the writer's context.
func NewGate(p *Plan, s *Store, kill context.CancelFunc) *Gate {
	return &Gate{plan: p, store: s, kill: kill}
}

// Death is the way in which the writer died, nil if it has not.
func (g *Gate) Death() *Way {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.death
}

// Pass runs one operation: do is called with a context that has the fault planted,
// and one that does not end with the writer's if it dies of this.
func (g *Gate) Pass(ctx context.Context, op, key string, do func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err // the dead ask for nothing
	}
	w := g.plan.begin(op, key)
	switch {
	case w == nil:
		return do(ctx)
	case !w.Crash:
		return do(Plant(ctx, w.Fault))
	}
	g.mu.Lock()
	g.death = w
	g.mu.Unlock()
	defer g.kill()
	return do(Plant(context.WithoutCancel(ctx), w.Fault))
}

func (g *Gate) request(ctx context.Context, op, key string, do func(context.Context) error) error {
	if g.Pause > 0 {
		time.Sleep(g.Pause)
	}
	return g.Pass(ctx, op, key, do)
}

// Append is Store.Append.
func (g *Gate) Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (a object.Appended, err error) {
	err = g.request(ctx, "append", key, func(ctx context.Context) error {
		a, err = g.store.Append(ctx, key, position, body, c)
		return err
	})
	return a, err
}

// Head is Store.Head.
func (g *Gate) Head(ctx context.Context, key string) (i object.Info, err error) {
	err = g.request(ctx, "head", key, func(ctx context.Context) error {
		i, err = g.store.Head(ctx, key)
		return err
	})
	return i, err
}

// Read is Store.Read.
func (g *Gate) Read(ctx context.Context, key string, from, to int64) (r io.ReadCloser, err error) {
	err = g.request(ctx, "read", key, func(ctx context.Context) error {
		r, err = g.store.Read(ctx, key, from, to)
		return err
	})
	return r, err
}

// List is Store.List.
func (g *Gate) List(ctx context.Context, prefix string, fn func(object.Entry) error) error {
	return g.request(ctx, "list", prefix, func(ctx context.Context) error { return g.store.List(ctx, prefix, fn) })
}
