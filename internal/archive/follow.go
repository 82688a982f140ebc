package archive

import (
	"context"
	"errors"
	"iter"
	"time"

	"ossuary/internal/event"
)

// Follow yields what Cat yields and then what is appended after it, looking every
// interval, until ctx ends. A listing and one read for each series that has grown
// is what a look costs. Events of one look come series by series. Before each wait
// idle is called; its error ends the sequence.
func (r *Reader) Follow(ctx context.Context, sel Selection, interval time.Duration, idle func() error) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		f := &following{c: &reading{ctx: ctx, r: r, sel: &sel, frozen: true}, known: map[string]*followed{}, told: map[place]bool{}}
		f.c.yield = func(rec *Record, err error) bool {
			var damage *DamageError
			if errors.As(err, &damage) {
				// Bytes that nobody mends are met again at every look.
				at := place{damage.Key, damage.Position}
				if f.told[at] {
					return true
				}
				f.told[at] = true
			}
			return yield(rec, err)
		}
		if err := f.run(interval, idle); err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

type place struct {
	key      string
	position int64
}

type following struct {
	c     *reading
	known map[string]*followed // by series
	told  map[place]bool       // damage
}

// followed is how far a series was read.
type followed struct {
	segments, size int64  // as listed then
	segment        string // key of the one in which the last valid frame ended
	position       int64
	chain          event.Chain
	started        bool
}

func (f *following) run(interval time.Duration, idle func() error) error {
	series, err := f.c.r.list(f.c.ctx, f.c.sel)
	if err != nil {
		return err
	}
	if f.c.sel.Tail > 0 {
		err = f.fromTheEnd(series)
	} else {
		err = f.look(series)
	}
	for err == nil {
		if err = idle(); err != nil {
			return err
		}
		select {
		case <-f.c.ctx.Done():
			return nil
		case <-time.After(interval):
		}
		if series, err = f.c.r.list(f.c.ctx, f.c.sel); err == nil {
			err = f.look(series)
		}
	}
	if f.c.ctx.Err() != nil {
		return nil //nolint:nilerr // that is how it ends
	}
	return err
}

// fromTheEnd yields the newest events and begins to follow behind them.
func (f *following) fromTheEnd(series []Series) error {
	yield := f.c.yield
	if err := f.c.newest(series); err != nil {
		return err
	}
	f.c.yield = func(*Record, error) bool { return true }
	for i := range series {
		s := &series[i]
		seg := &s.Segments[len(s.Segments)-1]
		at := f.remember(s)
		w := f.c.walker(s)
		if end := lastFrame(f.c.ctx, w, seg); end != nil {
			w.start(seg, end)
			w.reanchor(end)
			w.chain.Advance(end)
			if end.Content.Kind == event.KindData {
				at.segment, at.position, at.chain, at.started = seg.Key, end.End(), w.chain, true
				continue
			}
		}
		// It is not clear where it ends, or it ends in a seal: read it in silence.
		if err := f.follow(s, at); err != nil {
			return err
		}
	}
	f.c.yield = yield
	return nil
}

func (f *following) remember(s *Series) *followed {
	at := f.known[s.Name]
	if at == nil {
		at = &followed{}
		f.known[s.Name] = at
	}
	at.segments, at.size = int64(len(s.Segments)), s.Size()
	return at
}

// look reads the series that have grown.
func (f *following) look(series []Series) error {
	f.c.total, f.c.before, f.c.done = 0, 0, 0
	for i := range series {
		f.c.total += series[i].Size()
	}
	for i := range series {
		s := &series[i]
		at := f.known[s.Name]
		if at == nil || at.segments != int64(len(s.Segments)) || at.size != s.Size() {
			if err := f.follow(s, f.remember(s)); err != nil {
				return err
			}
		}
		f.c.before += s.Size()
	}
	return f.c.ctx.Err()
}

// follow reads the series on from where it was left.
func (f *following) follow(s *Series, at *followed) error {
	c := f.c
	w := c.walker(s)
	w.patient = true
	if at.started {
		for i := range s.Segments {
			if s.Segments[i].Key == at.segment {
				w.series = &Series{Name: s.Name, Segments: s.Segments[i:]}
				w.chain, w.started, w.resumed = at.chain, true, true
				w.from, w.fromFrame, w.midway = at.position, at.chain.Frame, true
				break
			}
		}
	} else if c.ofAnother(w) {
		return c.ctx.Err()
	} else if wanted, err := c.seek(w); err != nil {
		return err
	} else if !wanted {
		// Nothing yet: what comes is looked for again.
		return nil
	}
	c.begun = false
	if err := c.walk(w); err != nil {
		return err
	}
	if c.begun && !c.past {
		at.segment, at.position, at.chain, at.started = c.segment.Key, c.endsAt, c.chain, true
	}
	return nil
}
