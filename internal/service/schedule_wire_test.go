package service

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

// bucketWire is the way of one process to the object store. Every request takes a
// delay of its own, and by the same draw something may go wrong with it. A request
// that is on its way arrives, whatever becomes of the one who sent it.
type bucketWire struct {
	w    *world
	name string
	id   uint64

	mu     sync.Mutex
	counts map[string]uint64 // by operation and key
	dead   bool
	frozen chan struct{} // closed by thaw; nil while not frozen
}

func (b *bucketWire) freeze() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frozen = make(chan struct{})
}

func (b *bucketWire) thaw() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.frozen != nil {
		close(b.frozen)
		b.frozen = nil
	}
}

// die ends the process: what it sends from now on arrives nowhere.
func (b *bucketWire) die() {
	b.mu.Lock()
	b.dead = true
	b.mu.Unlock()
	b.thaw()
}

// fate is what becomes of one request.
type fate struct {
	draw     uint64
	up, down time.Duration
	fault    objecttest.Fault
	late     time.Duration // the caller is told that nobody knows, and it arrives so much later
	kind     string
}

func (b *bucketWire) fate(op, key string) fate {
	b.mu.Lock()
	b.counts[op+key]++
	n := b.counts[op+key]
	b.mu.Unlock()
	h := mix(b.id ^ text(op+key) ^ n*0x9e3779b97f4a7c15)
	f := fate{draw: h, up: span(mix(h+1), 200*time.Microsecond, 6*time.Millisecond), down: span(mix(h+2), 200*time.Microsecond, 6*time.Millisecond)}
	w := b.w
	if kind := w.outage(key); kind != nil {
		f.fault, f.kind = *kind, "outage"
		return f
	}
	if !chance(mix(h+3), w.rate(w.plan.storeFaults)) {
		return f
	}
	pick := mix(h+4) % 16
	if op != "append" {
		switch {
		case pick < 6:
			f.fault, f.kind = objecttest.NotApplied(), "not applied"
		case pick < 9:
			f.fault, f.kind = objecttest.Throttled(), "throttled"
		case pick < 10:
			f.fault, f.kind = objecttest.Hold(), "refused"
		case op == "read":
			f.fault, f.kind = objecttest.Fault{Cut: 1 + int(mix(h+5)%700)}, "cut"
		default:
			f.fault, f.kind = objecttest.Lost(), "lost"
		}
		return f
	}
	switch {
	case pick < 2:
		f.fault, f.kind = objecttest.NotApplied(), "not applied"
	case pick < 7:
		f.fault, f.kind = objecttest.Lost(), "lost"
	case pick < 11:
		f.fault, f.kind = objecttest.Lost(), "late"
		f.late = span(mix(h+6), time.Millisecond, 600*time.Millisecond)
	case pick < 12:
		f.fault, f.kind = objecttest.Throttled(), "throttled"
	case pick < 13:
		f.fault, f.kind = objecttest.Hold(), "refused"
	case pick < 15:
		f.fault, f.kind = objecttest.GarbledNext(), "garbled"
	default:
		f.fault, f.kind = objecttest.GarbledCRC(), "garbled"
	}
	return f
}

// planted completes a fault's error.
func planted(err error, op, key string) error {
	var e *object.Error
	if !errors.As(err, &e) {
		return err
	}
	c := *e
	c.Op, c.Key = op, key
	return &c
}

// answer waits for an answer that takes its time.
func answer[T any](ctx context.Context, b *bucketWire, op, key string, f fate, do func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var none T
	got := make(chan result, 1)
	var arrive func()
	arrive = func() {
		b.mu.Lock()
		frozen, dead := b.frozen, b.dead
		b.mu.Unlock()
		switch {
		case frozen != nil: // it has not left the process yet
			<-frozen
			arrive()
			return
		case dead && mix(f.draw+7)%2 == 0:
			return
		}
		var r result
		if f.fault.Before == nil {
			r.v, r.err = do()
		}
		got <- r
	}
	b.mu.Lock()
	dead := b.dead
	b.mu.Unlock()
	if dead {
		<-ctx.Done()
	}
	if err := ctx.Err(); err != nil {
		return none, &object.Error{Op: op, Key: key, Err: err}
	}
	time.AfterFunc(f.up+f.late, arrive)
	var r result
	wait := time.NewTimer(f.up + f.down)
	defer wait.Stop()
	if f.late == 0 {
		select {
		case r = <-got:
		case <-ctx.Done():
			b.w.trace(b.name, op+" given up", key, 0)
			return none, &object.Error{Op: op, Key: key, Err: ctx.Err()}
		}
		wait.Reset(f.down)
	}
	for {
		select {
		case <-wait.C:
		case <-ctx.Done():
			b.w.trace(b.name, op+" given up", key, 0)
			return none, &object.Error{Op: op, Key: key, Err: ctx.Err()}
		}
		b.mu.Lock()
		frozen := b.frozen
		b.mu.Unlock()
		if frozen == nil {
			break
		}
		select {
		case <-frozen:
		case <-ctx.Done():
		}
		wait.Reset(f.down)
	}
	b.w.count("store: "+f.kind, f.kind != "")
	what := op
	if f.kind != "" {
		what += " " + f.kind
	}
	b.w.trace(b.name, what, key, 0)
	switch {
	case f.fault.Before != nil:
		return none, planted(f.fault.Before, op, key)
	case f.fault.After != nil:
		return none, planted(f.fault.After, op, key)
	}
	return r.v, r.err
}

func (b *bucketWire) Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error) {
	f := b.fate("append", key)
	return answer(ctx, b, "append", key, f, func() (object.Appended, error) {
		done, err := b.w.store.Append(context.Background(), key, position, body, c)
		b.w.trace(b.name, "applied", key, uint64(position))
		if err == nil {
			b.w.truth.appended(b.name, key, body.Bytes())
			if f.fault.Garble != nil {
				f.fault.Garble(&done)
			}
		}
		return done, err
	})
}

func (b *bucketWire) Head(ctx context.Context, key string) (object.Info, error) {
	return answer(ctx, b, "head", key, b.fate("head", key), func() (object.Info, error) {
		return b.w.store.Head(context.Background(), key)
	})
}

func (b *bucketWire) Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	f := b.fate("read", key)
	return answer(ctx, b, "read", key, f, func() (io.ReadCloser, error) {
		r, err := b.w.store.Read(context.Background(), key, from, to)
		if err != nil || f.fault.Cut == 0 {
			return r, err
		}
		p, err := io.ReadAll(r)
		if err != nil || len(p) <= f.fault.Cut {
			return io.NopCloser(strings.NewReader(string(p))), err
		}
		return io.NopCloser(io.MultiReader(strings.NewReader(string(p[:f.fault.Cut])), broken{key})), nil
	})
}

func (b *bucketWire) List(ctx context.Context, prefix string, fn func(object.Entry) error) error {
	all, err := answer(ctx, b, "list", prefix, b.fate("list", prefix), func() ([]object.Entry, error) {
		var all []object.Entry
		err := b.w.store.List(context.Background(), prefix, func(e object.Entry) error {
			all = append(all, e)
			return nil
		})
		return all, err
	})
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

func (b *bucketWire) Close() {}

// broken is a connection that ends early.
type broken struct{ key string }

func (b broken) Read([]byte) (int, error) {
	return 0, &object.Error{Op: "read", Key: b.key, Err: errors.New("connection lost (planted)")}
}

// The draws: every one follows from the seed and from what it is for, so that it
// is the same in each run, whoever comes first.

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func text(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

func span(h uint64, from, to time.Duration) time.Duration {
	return from + time.Duration(h%uint64(to-from))
}

func chance(h uint64, p float64) bool { return float64(h>>11)/(1<<53) < p }
