package archive

import (
	"cmp"
	"container/heap"
	"slices"

	"ossuary/internal/event"
)

// The bytes that are read at first from the end of a segment for its newest
// events; as long as these do not suffice, twice as many.
const leastTail = 128 << 10

// newest yields the newest of the selected events.
func (c *reading) newest(series []Series) error {
	newest := &newestRecords{n: c.sel.Tail}
	yield := c.yield
	c.yield = func(r *Record, err error) bool {
		if err != nil {
			return yield(nil, err)
		}
		newest.add(r)
		return true
	}
	for i := range series {
		if err := c.backwards(&series[i], newest); err != nil {
			return err
		}
	}
	for _, r := range newest.sorted() {
		if !yield(r, nil) {
			return errStop
		}
	}
	return nil
}

// backwards reads a series from its end on, piece by piece, until what is older
// cannot matter to the newest records.
func (c *reading) backwards(s *Series, newest *newestRecords) error {
	found := newest.added
	if c.ofAnother(c.walker(s)) {
		return c.ctx.Err()
	}
	for i := len(s.Segments) - 1; i >= 0; i-- {
		seg := &s.Segments[i]
		end := int64(0) // of what was not read yet; 0: the object's
		for size := int64(leastTail); ; size *= 2 {
			w := c.walker(s)
			c.single = false
			w.chain = event.Chain{Archive: c.r.Archive, Series: s.Name, Segment: seg.Number}
			start := c.pieceBefore(w, seg, end, size)
			if start != nil {
				w.from, w.fromFrame = start.Place.Position, start.Content.Frame-1
			}
			w.limit = end
			from := w.from
			if _, err := w.segment(c.ctx, seg); err != nil {
				return err
			}
			if c.stopped {
				return errStop
			}
			if newest.added-found >= newest.n {
				return nil
			}
			if start == nil {
				start = c.firstHeader(w, seg)
			}
			if start != nil && newest.full() && start.Content.MinTime.Add(clockSkew).Before(newest.h[0].Time) {
				return nil
			}
			if from == 0 {
				break
			}
			end = from
		}
	}
	return nil
}

// pieceBefore finds the frame with which the last size bytes before end begin, or
// one further ahead; nil: begin at the segment's start.
func (c *reading) pieceBefore(w *walker, seg *Segment, end, size int64) *event.Frame {
	s := scanOf(w, seg)
	if end == 0 {
		end = seg.Size
	}
	for ; size < end && c.ctx.Err() == nil; size *= 2 {
		if f := s.locate(c.ctx, end-size, end); f != nil {
			return f
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
	kept := &Record{Series: r.Series, Key: r.Key, Position: r.Position, Archive: r.Archive, Source: r.Source, Incarnation: r.Incarnation,
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
