package archive

import (
	"bytes"
	"context"
	"io"
	"sort"

	"ossuary/internal/event"
)

const (
	// A part of a segment below this size, in bytes, is read rather than searched.
	searchFrom = 96 << 10
	// How many bytes are looked through at first for the next frame, and at most.
	leastLook, mostLook = 16 << 10, 1 << 20
)

// seek lets the walk begin late: at the segment and the frame before which
// nothing that is wanted can stand. Where a header cannot be read it begins at
// the start, and says what is wrong. wanted is false if the whole series is out
// of the question.
//
// Two numbers in the headers only rise: greatest, over the whole series, and
// last, over one incarnation of the stream.
func (c *reading) seek(w *walker) (wanted bool, err error) {
	segs := w.series.Segments
	sel := c.sel
	if sel.From == 0 && sel.To == 0 && sel.Since.IsZero() && sel.Until.IsZero() {
		return true, c.ctx.Err()
	}
	c.single = false
	end := lastFrame(c.ctx, w, &segs[len(segs)-1])
	if end != nil && c.passedBy(end) {
		return false, c.ctx.Err()
	}
	first := c.firstHeader(w, &segs[0])
	c.single = first != nil && end != nil && first.Content.Stream.Incarnation == end.Content.Stream.Incarnation
	if first == nil || end == nil || sel.From == 0 && sel.Since.IsZero() {
		return true, c.ctx.Err()
	}
	if c.passedBy(end) {
		return false, c.ctx.Err()
	}
	failed := false
	i := sort.Search(len(segs), func(i int) bool {
		h := c.firstHeader(w, &segs[i])
		failed = failed || h == nil
		return h == nil || !c.passedBy(h)
	})
	if failed {
		return true, c.ctx.Err()
	}
	i = max(i-1, 0)
	w.series = &Series{Name: w.series.Name, Segments: segs[i:]}
	if f := c.frameIn(w, &segs[i]); f != nil {
		w.from, w.fromFrame = f.Place.Position, f.Content.Frame-1
	}
	w.midway = i > 0 || w.from > 0
	return true, c.ctx.Err()
}

// passedBy reports whether neither f nor what stands before it is wanted.
func (c *reading) passedBy(f *event.Frame) bool {
	n := &f.Content
	return !c.sel.Since.IsZero() && n.Greatest.Before(c.sel.Since) || c.single && c.sel.From > 0 && n.Last < c.sel.From
}

// firstHeader is the header of a segment's first frame; nil if it holds no events
// or cannot be read.
func (c *reading) firstHeader(w *walker, seg *Segment) *event.Frame {
	s := scanOf(w, seg)
	f := s.header(c.ctx, 0)
	if f == nil || f.Content.Kind != event.KindData || !s.ours(f) {
		return nil
	}
	return f
}

// frameIn finds the first frame of the segment that may be wanted; nil: begin at
// the start.
func (c *reading) frameIn(w *walker, seg *Segment) *event.Frame {
	s := scanOf(w, seg)
	seal := readSeal(c.ctx, w, seg)
	if seal == nil {
		return c.bisect(s)
	}
	var found *event.Frame
	failed := false
	sort.Search(len(seal.Index), func(i int) bool {
		f := s.header(c.ctx, seal.Index[i].Position)
		if failed = failed || f == nil || !s.ours(f); failed {
			return true
		}
		if c.passedBy(f) {
			return false
		}
		found = f
		return true
	})
	if failed {
		return nil
	}
	return found
}

// bisect finds, in a segment without an index, the first frame that may be
// wanted; nil: begin at the start.
func (c *reading) bisect(s *scan) *event.Frame {
	low := s.header(c.ctx, 0) // is before it, high is not
	if low == nil || !s.ours(low) || low.Content.Kind != event.KindData || !c.passedBy(low) {
		return nil
	}
	var high *event.Frame
	to := s.info.Length // nothing that is before it begins from here on
	for end := to; ; {
		from := low.End()
		if end-from > searchFrom {
			middle := from + (end-from)/2
			switch f := s.locate(c.ctx, middle, end); {
			case f == nil:
				end = middle // no frame begins behind it
			case c.passedBy(f):
				low, end = f, to
			default:
				high, end, to = f, f.Place.Position, f.Place.Position
			}
			continue
		}
		if high != nil && from == high.Place.Position {
			return high
		}
		f := s.header(c.ctx, from)
		if f == nil || !s.ours(f) || f.Content.Kind != event.KindData || f.Content.Prev != low.Hash {
			return low // the walk will see what is there
		}
		if !c.passedBy(f) {
			return f
		}
		low = f
	}
}

// locate finds the first data frame that begins in [from,to) and proves itself:
// it stands where it says, has the hash that it says, and ends the object or is
// the one before the next.
func (s *scan) locate(ctx context.Context, from, to int64) *event.Frame {
	mark := frameMark(s.codec)
	shift := int64(0)
	if s.codec == event.Zstd {
		shift = 1
	}
	for size := int64(leastLook); from < to && ctx.Err() == nil; size = min(2*size, mostLook) {
		p, err := s.bytes(ctx, from, min(from+size, to+int64(len(mark))))
		if err != nil {
			return nil
		}
		for at := 0; ; at++ {
			i := bytes.Index(p[at:], mark)
			if i < 0 {
				break
			}
			at += i
			position := from + int64(at) - shift
			if position < from || position >= to || s.codec == event.Plain && at > 0 && p[at-1] != '\n' {
				continue
			}
			if f := s.header(ctx, position); f != nil && f.Content.Kind == event.KindData && s.ours(f) && s.proven(ctx, f) {
				return f
			}
		}
		if int64(len(p)) < size {
			return nil
		}
		from += int64(len(p)-len(mark)) - shift // a mark may lie across
	}
	return nil
}

func (s *scan) proven(ctx context.Context, f *event.Frame) bool {
	if f.End() == s.info.Length {
		return true
	}
	next := s.header(ctx, f.End())
	return next != nil && next.Content.Prev == f.Hash
}

// lastFrame is the seal of a sealed segment, or the last frame of an open one;
// nil if it is not clear which that is.
func lastFrame(ctx context.Context, w *walker, seg *Segment) *event.Frame {
	if seal := readSeal(ctx, w, seg); seal != nil {
		return seal
	}
	s := scanOf(w, seg)
	for size := int64(leastLook); ; size *= 4 {
		f := s.locate(ctx, max(seg.Size-size, 0), seg.Size)
		for f != nil && f.End() < seg.Size {
			next := s.header(ctx, f.End())
			if next == nil || next.Content.Prev != f.Hash || next.Content.Kind != event.KindData {
				return nil
			}
			f = next
		}
		if f != nil && f.End() == seg.Size {
			return f
		}
		if size >= seg.Size || ctx.Err() != nil {
			return nil
		}
	}
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
