package archive

import (
	"cmp"
	"container/heap"
	"context"
	"io"
	"slices"
	"sort"

	"ossuary/internal/event"
)

// seek lets the walk begin late: at the segment, and in a sealed one at the
// frame, before which nothing that is wanted can stand. Where a header cannot be
// read the walk begins at the start, and says what is wrong.
func (c *reading) seek(w *walker) error {
	segs := w.series.Segments
	first := c.firstHeader(w, &segs[0])
	last := first
	if len(segs) > 1 {
		last = c.firstHeader(w, &segs[len(segs)-1])
	}
	// With two incarnations sequences do not rise over the series. (A third one
	// begun in the last segment shows in no header read here, but then nothing in
	// earlier segments is cut off by it: sequences rise up to there.)
	same := first != nil && last != nil && first.Content.Stream.Incarnation == last.Content.Stream.Incarnation
	c.single = same && c.lastIncarnation(w, &segs[len(segs)-1]) == first.Content.Stream.Incarnation
	if !same || c.sel.From == 0 && c.sel.Since.IsZero() {
		return c.ctx.Err()
	}
	failed := false
	i := sort.Search(len(segs), func(i int) bool {
		h := c.firstHeader(w, &segs[i])
		failed = failed || h == nil
		return h == nil || c.beyond(h.Content.First, h)
	})
	if failed || i == 0 {
		return c.ctx.Err()
	}
	i--
	w.series = &Series{Name: w.series.Name, Segments: segs[i:]}
	w.from, w.fromFrame = c.frameIn(w, &segs[i])
	w.midway = i > 0 || w.from > 0
	return c.ctx.Err()
}

// beyond reports whether wanted events may stand before the frame h.
func (c *reading) beyond(first uint64, h *event.Frame) bool {
	if c.sel.From > 0 && first <= c.sel.From {
		return false
	}
	if !c.sel.Since.IsZero() && h.Content.Greatest.Before(c.sel.Since) {
		return false
	}
	return true
}

func (c *reading) firstHeader(w *walker, seg *Segment) *event.Frame {
	_, codec, _ := event.ParseExt(seg.Ext)
	s := &scan{w: w, seg: seg, codec: codec}
	s.info.Length = seg.Size
	f := s.header(c.ctx, 0)
	if f == nil || f.Content.Kind != event.KindData || !s.ours(f) {
		return nil
	}
	return f
}

// lastIncarnation is that of a sealed segment's last frame; -1 if the segment is
// open, so that its end is not known.
func (c *reading) lastIncarnation(w *walker, seg *Segment) int {
	seal := readSeal(c.ctx, w, seg)
	if seal == nil {
		return -1
	}
	return seal.Content.Stream.Incarnation
}

// frameIn looks into a sealed segment's index for the frame to begin with.
func (c *reading) frameIn(w *walker, seg *Segment) (position int64, before int) {
	seal, first := readSeal(c.ctx, w, seg), c.firstHeader(w, seg)
	// The index does not say where another incarnation begins.
	if seal == nil || first == nil || seal.Content.Stream.Incarnation != first.Content.Stream.Incarnation {
		return 0, 0
	}
	for i, e := range seal.Index {
		if c.sel.From > 0 && e.First > c.sel.From || !c.sel.Since.IsZero() && e.MinTime.After(c.sel.Since.Add(-clockSkew)) {
			break
		}
		position, before = e.Position, i
	}
	return position, before
}

// readSeal reads a segment's seal from its end; nil if it has none there.
func readSeal(ctx context.Context, w *walker, seg *Segment) *event.Frame {
	_, codec, _ := event.ParseExt(seg.Ext)
	size := int64(event.LocatorSize(codec))
	if seg.Size < size {
		return nil
	}
	in := newRangeReader(ctx, w.st, seg.Key, seg.Size-size, seg.Size)
	tail := make([]byte, size)
	n, _ := io.ReadFull(in, tail)
	in.Close()
	at, crc, ok := event.ReadLocator(tail[:n], codec)
	if !ok || at < 0 || at >= seg.Size {
		return nil
	}
	in = newRangeReader(ctx, w.st, seg.Key, at, seg.Size)
	defer in.Close()
	f, _, err := event.NewScanner(in, codec, at, crc).Next()
	if err != nil || f.Content.Kind != event.KindSeal || f.Content.Series != w.series.Name || f.End() != seg.Size {
		return nil
	}
	return f
}

// backwards reads a series' segments from the last one on until older ones
// cannot matter to the newest records.
func (c *reading) backwards(s *Series, newest *newestRecords) error {
	for i := len(s.Segments) - 1; i >= 0; i-- {
		seg := &s.Segments[i]
		w := c.walker(s)
		c.single = false
		w.chain = event.Chain{Archive: c.archive, Series: s.Name, Segment: seg.Number}
		found := newest.added
		if _, err := w.segment(c.ctx, seg); err != nil {
			return err
		}
		if c.stopped {
			return errStop
		}
		if newest.added-found >= newest.n {
			return nil
		}
		if h := c.firstHeader(w, seg); h != nil && newest.full() && h.Content.MinTime.Add(clockSkew).Before(newest.h[0].Time) {
			return nil
		}
	}
	return nil
}

// newestRecords keeps the n newest of the records it is given.
type newestRecords struct {
	n, added int
	h        recordHeap
}

type recordHeap []*Record

func compareRecords(a, b *Record) int {
	return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Incarnation, b.Incarnation), cmp.Compare(a.Sequence, b.Sequence))
}

func (h recordHeap) Len() int           { return len(h) }
func (h recordHeap) Less(i, j int) bool { return compareRecords(h[i], h[j]) < 0 }
func (h recordHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *recordHeap) Push(x any)        { *h = append(*h, x.(*Record)) }
func (h *recordHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// add copies r if it is among the newest so far.
func (t *newestRecords) add(r *Record) {
	t.added++
	if t.full() && compareRecords(r, t.h[0]) <= 0 {
		return
	}
	kept := &Record{Series: r.Series, Key: r.Key, Position: r.Position, Source: r.Source, Incarnation: r.Incarnation,
		Sequence: r.Sequence, Time: r.Time, Format: r.Format, Line: slices.Clone(r.Line)}
	heap.Push(&t.h, kept)
	if len(t.h) > t.n {
		heap.Pop(&t.h)
	}
}

func (t *newestRecords) full() bool { return len(t.h) >= t.n }

func (t *newestRecords) sorted() []*Record {
	slices.SortFunc(t.h, compareRecords)
	return t.h
}
