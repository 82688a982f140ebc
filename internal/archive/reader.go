package archive

import (
	"context"
	"errors"
	"iter"

	"ossuary/internal/event"
)

// Reader gives out the events of an archive.
type Reader struct {
	Store   Store
	Prefix  string
	Archive string // its name; "": whatever the objects say

	// Progress, if set, is told how many of the selected series' stored bytes were
	// read or passed over.
	Progress func(done, total int64)
}

// errStop ends a walk early: nothing more is wanted.
var errStop = errors.New("nothing more is wanted")

// Cat yields the selected events, series by series in the order of their names,
// each in the order in which it was archived, up to the length that its segments
// have when they are reached. An error that is a *DamageError concerns a part of
// the archive only, any other ends the sequence.
//
// It reads what is wanted and little more: the headers that lead there (from a
// seal's index, or by bisection), and from the first wanted frame on.
func (r *Reader) Cat(ctx context.Context, sel Selection) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		inv, err := r.list(ctx, &sel)
		if err != nil {
			yield(nil, err)
			return
		}
		c := &reading{ctx: ctx, r: r, sel: &sel, yield: yield}
		if err := c.all(inv); err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

// list finds the series in which selected events may be.
func (r *Reader) list(ctx context.Context, sel *Selection) ([]Series, error) {
	if err := sel.Check(); err != nil {
		return nil, err
	}
	below := sel.literal()
	if below != "" {
		sharded, err := anySharded(ctx, r.Store, r.Prefix)
		if err != nil {
			return nil, err
		}
		if sharded {
			below = "" // the wanted names begin with anything
		}
	}
	inv, err := walkBelow(ctx, r.Store, r.Prefix, below)
	if err != nil {
		return nil, err
	}
	var out []Series
	for i := range inv.Series {
		if sel.takesSeries(inv.Series[i].Name) {
			out = append(out, inv.Series[i])
		}
	}
	return out, nil
}

// all reads the series one after another; errStop if the caller has had enough.
func (c *reading) all(series []Series) error {
	if c.sel.Tail > 0 {
		return c.newest(series)
	}
	for i := range series {
		c.total += series[i].Size()
	}
	for i := range series {
		if err := c.forwards(&series[i]); err != nil {
			return err
		}
		c.before += series[i].Size()
	}
	return nil
}

func (c *reading) walker(s *Series) *walker {
	c.series, c.past, c.subject = s, false, false
	w := &walker{st: c.r.Store, prefix: c.r.Prefix, archive: c.r.Archive, series: s, visit: c,
		light: true, frozen: c.frozen, window: c.window}
	if w.window == nil && (c.sel.To != 0 || !c.sel.Until.IsZero()) {
		w.window = growing() // it may end long before the object does
	}
	return w
}

// growing asks for little at first and then for more and more.
func growing() func() int64 {
	const least, most = 128 << 10, 8 << 20
	n := int64(least / 2)
	return func() int64 {
		n = min(2*n, most)
		return n
	}
}

// forwards reads a series from the first frame on that can hold what is wanted.
func (c *reading) forwards(s *Series) error {
	w := c.walker(s)
	if c.ofAnother(w) {
		return c.ctx.Err()
	}
	wanted, err := c.seek(w)
	if err != nil || !wanted {
		return err
	}
	return c.walk(w)
}

// ofAnother reports whether the series is for certain of another stream than the
// one that is wanted.
func (c *reading) ofAnother(w *walker) bool {
	if c.sel.Source == "" {
		return false
	}
	h := c.firstHeader(w, &w.series.Segments[0])
	return h != nil && h.Content.Source != c.sel.Source
}

func (c *reading) walk(w *walker) error {
	err := w.walk(c.ctx)
	if errors.Is(err, errStop) && c.past {
		return nil
	}
	if err == nil && c.stopped {
		return errStop
	}
	return err
}

// scanOf is for looking into a segment without reading it.
func scanOf(w *walker, seg *Segment) *scan {
	_, codec, _ := event.ParseExt(seg.Ext)
	s := &scan{w: w, seg: seg, codec: codec}
	s.info.Length = seg.Size
	return s
}
