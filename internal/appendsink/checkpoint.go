package appendsink

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"ossuary/internal/ledger"
)

const (
	// checkpointWrites bounds the ledger writes under way at once.
	checkpointWrites = 16
	// checkpointRound bounds the tails that a round writes; the others wait for the
	// next, and the newest is written then. With thousands of series each append
	// would else cost the server a write that takes as long as several events; behind
	// a crash there is a little more to read.
	checkpointRound = 500
)

// checkpointer writes tails into the ledger behind the appends. The newest tail
// of a series replaces one that still waits; writes of one series never overlap.
// Nothing depends on a write having happened.
type checkpointer struct {
	opt *Options

	mu     sync.Mutex
	dirty  map[string]ledger.Tail
	order  []string            // the series in dirty, longest dirty first; some are not dirty any more
	revs   map[string]uint64   // revision of each series' entry, as last seen
	drops  map[string]uint64   // sealed series: their last sequence
	failed bool                // the last round failed: log the next success
	round  *semaphore.Weighted // one round of writes at a time; waiting for it ends with the context
}

func (c *checkpointer) init(o *Options) {
	c.opt, c.round = o, semaphore.NewWeighted(1)
	c.dirty, c.revs, c.drops = map[string]ledger.Tail{}, map[string]uint64{}, map[string]uint64{}
}

func (c *checkpointer) load(known map[string]ledger.TailEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for series, e := range known {
		c.revs[series] = e.Revision
		if e.Sealed {
			c.drops[series] = e.Last
		}
	}
}

// note remembers a tail to be written.
func (c *checkpointer) note(series string, t ledger.Tail) {
	if c.opt.Ledger == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mark(series, t)
	if t.Sealed {
		c.drops[series] = t.Last
	} else {
		delete(c.drops, series)
	}
}

// mark makes t the tail to be written; c.mu is held.
func (c *checkpointer) mark(series string, t ledger.Tail) {
	if _, ok := c.dirty[series]; !ok {
		c.order = append(c.order, series)
	}
	c.dirty[series] = t
}

// take takes out the tails that were dirty longest, at most so many; c.mu is held.
func (c *checkpointer) take(most int) map[string]ledger.Tail {
	out := make(map[string]ledger.Tail, min(most, len(c.dirty)))
	n := 0
	for ; n < len(c.order) && len(out) < most; n++ {
		series := c.order[n]
		if t, ok := c.dirty[series]; ok {
			out[series] = t
			delete(c.dirty, series)
		}
	}
	if c.order = c.order[n:]; len(c.order) == 0 {
		c.order = nil
	}
	return out
}

// dropped reports whether the ledger no longer has an entry for the series, nor
// will get one.
func (c *checkpointer) dropped(series string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, dirty := c.dirty[series]
	_, has := c.revs[series]
	return c.opt.Ledger == nil || (!dirty && !has)
}

func (c *checkpointer) run(ctx context.Context) {
	tick := time.NewTicker(c.opt.LedgerInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = c.writeSome(ctx, checkpointRound) // logged there; the next round tries again
		}
	}
}

// flush writes all that is dirty.
func (c *checkpointer) flush(ctx context.Context) error { return c.writeSome(ctx, math.MaxInt) }

// writeSome writes what has been dirty longest and takes out what is sealed and
// archived for good.
func (c *checkpointer) writeSome(ctx context.Context, most int) error {
	if c.opt.Ledger == nil {
		return nil
	}
	if err := c.round.Acquire(ctx, 1); err != nil {
		return err
	}
	defer c.round.Release(1)
	c.mu.Lock()
	var drop []string
	if c.opt.Floor != nil && len(c.drops) > 0 {
		floor := c.opt.Floor()
		for series, last := range c.drops {
			if last <= floor {
				drop = append(drop, series)
				delete(c.dirty, series)
			}
		}
	}
	dirty := c.take(most)
	c.mu.Unlock()
	if len(dirty)+len(drop) == 0 {
		return nil
	}
	var g errgroup.Group
	g.SetLimit(checkpointWrites)
	for series, t := range dirty {
		g.Go(func() error { return c.write(ctx, series, t) })
	}
	for _, series := range drop {
		g.Go(func() error { return c.drop(ctx, series) })
	}
	err := g.Wait()
	c.mu.Lock()
	changed := (err != nil) != c.failed
	c.failed = err != nil
	c.mu.Unlock()
	switch {
	case changed && err != nil && ctx.Err() == nil:
		c.opt.Log.Warn().Err(err).Msg("the ledger does not take checkpoints; archiving goes on, a restart will have more to read")
	case changed && err == nil:
		c.opt.Log.Info().Msg("the ledger takes checkpoints again")
	}
	return err
}

func (c *checkpointer) write(ctx context.Context, series string, t ledger.Tail) error {
	c.mu.Lock()
	rev := c.revs[series]
	c.mu.Unlock()
	next, err := c.opt.Ledger.PutTail(ctx, c.opt.Source, c.opt.Lane, series, t, rev)
	if errors.Is(err, ledger.ErrConflict) {
		// Another instance, or a write of ours whose answer was lost. Theirs
		// stays if it is further.
		c.opt.Metrics.LedgerConflicts.Add(1)
		var theirs ledger.Tail
		theirs, next, err = c.opt.Ledger.Tail(ctx, c.opt.Source, c.opt.Lane, series)
		if err == nil && (next == 0 || before(theirs, t)) {
			next, err = c.opt.Ledger.PutTail(ctx, c.opt.Source, c.opt.Lane, series, t, next)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.opt.Metrics.LedgerErrors.Add(1)
		if _, newer := c.dirty[series]; !newer {
			c.mark(series, t)
		}
		return err
	}
	c.opt.Metrics.LedgerWrites.Add(1)
	c.revs[series] = next
	return nil
}

func before(a, b ledger.Tail) bool {
	if a.Segment != b.Segment {
		return a.Segment < b.Segment
	}
	return a.Position < b.Position
}

func (c *checkpointer) drop(ctx context.Context, series string) error {
	c.mu.Lock()
	rev := c.revs[series]
	c.mu.Unlock()
	if rev != 0 {
		err := c.opt.Ledger.DeleteTail(ctx, c.opt.Source, c.opt.Lane, series, rev)
		if err != nil && !errors.Is(err, ledger.ErrConflict) {
			c.opt.Metrics.LedgerErrors.Add(1)
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.revs, series)
	if _, again := c.dirty[series]; !again {
		delete(c.drops, series)
	}
	return nil
}
