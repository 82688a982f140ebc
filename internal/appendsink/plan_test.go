package appendsink

import (
	"context"
	"time"

	"ossuary/internal/ledger"
	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

// run is one run of a world under a plan.
type run struct {
	w    *world
	plan *objecttest.Plan
}

// gate is a writer's way to the store and the ledger.
type gate struct {
	*objecttest.Gate
	w *world
}

func (g gate) Tails(ctx context.Context, source, lane string) (m map[string]ledger.TailEntry, err error) {
	err = g.Pass(ctx, "tails", lane, func(ctx context.Context) error {
		m, err = g.w.ledger.Tails(ctx, source, lane)
		return err
	})
	return m, err
}

func (g gate) Tail(ctx context.Context, source, lane, series string) (t ledger.Tail, rev uint64, err error) {
	err = g.Pass(ctx, "tail", series, func(ctx context.Context) error {
		t, rev, err = g.w.ledger.Tail(ctx, source, lane, series)
		return err
	})
	return t, rev, err
}

func (g gate) PutTail(ctx context.Context, source, lane, series string, t ledger.Tail, rev uint64) (next uint64, err error) {
	if b := g.w.store.Bytes(t.Key); int64(len(b)) < t.Position || object.CRC64(0, b[:t.Position]) != t.CRC64 {
		g.w.t.Errorf("a tail is put into the ledger that is no prefix of %s", t.Key)
	}
	err = g.Pass(ctx, "put", series, func(ctx context.Context) error {
		next, err = g.w.ledger.PutTail(ctx, source, lane, series, t, rev)
		return err
	})
	return next, err
}

func (g gate) DeleteTail(ctx context.Context, source, lane, series string, rev uint64) error {
	return g.Pass(ctx, "delete", series, func(ctx context.Context) error {
		return g.w.ledger.DeleteTail(ctx, source, lane, series, rev)
	})
}

// write has a writer archive everything, through crashes, and whoever goes on
// after them. Its requests to the store take so long as pause says.
func (r *run) write(l *lane, pause time.Duration) {
	for {
		// Of virtual time, in which a hold of the first kind lasts a second.
		ctx, kill := context.WithTimeout(r.w.t.Context(), time.Hour)
		g := gate{objecttest.NewGate(r.plan, r.w.store, kill), r.w}
		g.Pause = pause
		l.store, l.ledger = g, g
		l.finish(ctx)
		death, hung := g.Death(), ctx.Err() != nil
		kill()
		switch {
		case death == nil && hung:
			r.w.t.Errorf("no end after an hour and %d epochs; last: %v", l.epochs, l.last)
			return
		case death == nil:
			return
		}
		if death.Lost {
			r.w.ledger.wipe()
		}
		if death.Other {
			next := r.w.lane()
			next.rest = l.rest
			l = next
		}
	}
}
