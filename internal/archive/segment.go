package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"ossuary/internal/event"
	"ossuary/internal/object"
)

// visitor is told what a walk over a series meets, in order. One goroutine calls
// it. Errors of frame end the walk and are returned as they are.
type visitor interface {
	// begin: the object is there and will be read to info.Length.
	begin(seg *Segment, info object.Info) error
	// boundary: the bytes before position are valid and end a frame, or position
	// is 0. crc is of these bytes; sound is false if damage before position makes
	// crc and frames mean nothing. chain is as it stands behind them.
	boundary(seg *Segment, position int64, crc uint64, sound bool, chain *event.Chain)
	// frame: a valid data frame. body may be used until frame returns.
	frame(seg *Segment, f *event.Frame, body []byte) error
	// end: a seal or break ends the segment; index is of its data frames, sound
	// as above, before the CRC-64 of the object before f.
	end(seg *Segment, f *event.Frame, before uint64, sound bool, index []event.IndexEntry, tree *event.Tree)
	problem(Finding)
	note(Finding)
	read(bytes int64)
}

// walker reads one series from its first segment to its last.
type walker struct {
	st      store
	prefix  string
	archive string // "": whatever the first frame says
	series  *Series
	visit   visitor

	// The walk may begin within the first segment: from is where a frame starts,
	// fromFrame how many stand before it. midway: something does, and was left
	// out on purpose.
	from      int64
	fromFrame int
	midway    bool

	// For a reader who wants events and no proof. light: no object is read only to
	// know its CRC-64. frozen: nothing is read that was not listed. limit, if not 0,
	// is where a frame of the first segment ends and the reading with it. resumed:
	// chain is that of an earlier walk. patient: a frame that is cut short by the
	// object's end is not there yet. window, if set, says how many bytes at a time
	// are asked for, so that no connection stays open in between.
	light, frozen, resumed, patient bool
	limit                           int64
	window                          func() int64

	chain   event.Chain
	started bool // chain knows source and lane
}

// segmentEnd is how the walk left a segment.
type segmentEnd struct {
	frame *event.Frame // the seal or break; nil: it has none
	info  object.Info
	gone  bool // it could not be read
}

func (w *walker) finding(key string, position int64, what, mend string) Finding {
	return Finding{Source: w.chain.Source, Series: w.series.Name, Key: key, Position: position, What: what, Mend: mend}
}

func (w *walker) problem(key string, position int64, mend, format string, args ...any) {
	w.visit.problem(w.finding(key, position, fmt.Sprintf(format, args...), mend))
}

func (w *walker) note(key string, position int64, format string, args ...any) {
	w.visit.note(w.finding(key, position, fmt.Sprintf(format, args...), ""))
}

// start makes the chain of the series' first frame that was read.
func (w *walker) start(seg *Segment, f *event.Frame) {
	if w.started {
		return
	}
	w.started = true
	w.chain.Archive, w.chain.Source, w.chain.Lane = w.archive, f.Content.Source, f.Content.Lane
	if w.archive == "" {
		w.chain.Archive = f.Content.Archive
	}
	w.chain.Series = w.series.Name
	w.chain.Segment = seg.Number
}

// reanchor lets f stand next, whatever came before it in the segment.
func (w *walker) reanchor(f *event.Frame) {
	w.chain.Anchored = false
	w.chain.Frame = f.Content.Frame - 1
}

// scan is the reading of one segment.
type scan struct {
	w     *walker
	seg   *Segment
	codec event.Codec
	info  object.Info
	part  bool // of the object, not all of it

	in    *rangeReader
	sc    *event.Scanner
	sound bool // no damage so far: CRC, index and tree cover every frame
	index []event.IndexEntry
	tree  event.Tree
	last  *event.Frame // the seal or break
}

// segment reads one segment to the length it has now.
func (w *walker) segment(ctx context.Context, seg *Segment) (segmentEnd, error) {
	info, err := w.look(ctx, seg.Key)
	if err != nil {
		if ctx.Err() != nil {
			return segmentEnd{}, ctx.Err()
		}
		if object.KindOf(err) == object.NotFound {
			w.problem(seg.Key, 0, "if a lifecycle rule removed it, nothing; else restore it from a version or a copy", "the segment was removed while it was about to be read")
		} else {
			w.problem(seg.Key, 0, "make it readable (permissions, restore from the archive class), then verify again", "the segment cannot be read: %v", err)
		}
		return segmentEnd{gone: true}, nil
	}
	part := w.frozen || w.limit > 0
	if w.frozen {
		info.Length = min(info.Length, seg.Size)
	}
	if w.limit > 0 {
		info.Length = min(info.Length, w.limit)
		w.limit = 0
	}
	_, codec, _ := event.ParseExt(seg.Ext)
	s := &scan{w: w, seg: seg, codec: codec, info: info, sound: true, part: part}
	if err := w.visit.begin(seg, info); err != nil {
		return segmentEnd{}, err
	}
	w.chain.Segment, w.chain.Frame = seg.Number, w.fromFrame
	from := w.from
	w.from, w.fromFrame = 0, 0
	err = s.run(ctx, from)
	if s.in != nil {
		s.in.Close()
	}
	var unreadable *readError
	if errors.As(err, &unreadable) && ctx.Err() == nil {
		w.problem(seg.Key, unreadable.position, "make it readable, then verify again", "the segment cannot be read from here on: %v", unreadable.err)
		return segmentEnd{info: info, gone: true}, nil
	}
	if err != nil {
		return segmentEnd{}, err
	}
	return segmentEnd{frame: s.last, info: info}, nil
}

// open starts to scan at position.
func (s *scan) open(ctx context.Context, position int64) {
	if s.in != nil {
		s.in.Close()
	}
	s.in = newRangeReader(ctx, s.w.st, s.seg.Key, position, s.info.Length)
	s.in.window = s.w.window
	// A part of an object has no CRC-64 to compare with, and a directory's copy
	// none but that of the same bytes.
	s.in.checked = s.part || s.w.light && s.info.CRC64 == 0
	if position == 0 {
		s.in.onRead = s.w.visit.read
	}
	s.sc = event.NewScanner(s.in, s.codec, position, 0)
}

func (s *scan) run(ctx context.Context, from int64) error {
	w := s.w
	s.sound = from == 0
	s.open(ctx, from)
	if w.started && from == 0 {
		w.visit.boundary(s.seg, 0, 0, true, &w.chain)
	}
	for s.last == nil {
		before := s.sc.CRC()
		position := s.sc.Position()
		f, body, err := s.sc.Next()
		if err == io.EOF { //nolint:errorlint // the end is io.EOF itself; a lost connection may wrap one
			break
		}
		if err == nil {
			w.start(s.seg, f)
			err = w.chain.Check(f)
			if err == nil && f.Content.Kind == event.KindBreak && f.Content.Valid != position {
				err = &event.CorruptError{Position: position, Reason: fmt.Sprintf("it is a break frame that says the valid bytes end at %d", f.Content.Valid)}
			}
		} else {
			f = nil
		}
		var unknown *event.UnknownError
		var corrupt *event.CorruptError
		var foreign *event.ForeignError
		switch {
		case err == nil:
			if err := s.accept(f, body, before); err != nil {
				return err
			}
		case errors.As(err, &unknown):
			w.problem(s.seg.Key, position, "verify with a newer version of this program", "%s: what follows in this segment could not be checked", unknown.What)
			return s.drain()
		case errors.As(err, &corrupt):
			if w.patient && s.cut(ctx, position) {
				return nil
			}
			if err := s.damaged(ctx, position, corrupt.Reason, f); err != nil {
				return err
			}
		case errors.As(err, &foreign):
			if err := s.damaged(ctx, position, foreign.What, f); err != nil {
				return err
			}
		default:
			return err
		}
		if s.sc == nil { // nothing more is readable here
			return nil
		}
	}
	return s.leftovers(ctx)
}

// cut reports whether the object ends within a frame that begins at position.
func (s *scan) cut(ctx context.Context, position int64) bool {
	p, err := s.bytes(ctx, position, position+event.MaxHead)
	if err != nil {
		return false
	}
	f, err := event.ReadHeader(p, s.codec)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return position+int64(len(p)) == s.info.Length
	}
	return err == nil && f.Place.Position == position && f.End() > s.info.Length
}

// accept takes f, which is valid, as the next frame.
func (s *scan) accept(f *event.Frame, body []byte, before uint64) error {
	w := s.w
	if f.Content.Kind == event.KindBreak {
		s.broken(f)
	}
	w.chain.Advance(f)
	if f.Content.Kind != event.KindData {
		s.last = f
		w.visit.end(s.seg, f, before, s.sound, s.index, &s.tree)
		return nil
	}
	s.tree.Add(f.Hash[:])
	s.index = append(s.index, event.IndexEntry{Position: f.Place.Position, First: f.Content.First, MinTime: f.Content.MinTime})
	if err := w.visit.frame(s.seg, f, body); err != nil {
		return err
	}
	w.visit.boundary(s.seg, f.End(), s.sc.CRC(), s.sound, &w.chain)
	return nil
}

// broken names what the break f says was lost. A break behind foreign bytes says
// nothing of the kind.
func (s *scan) broken(f *event.Frame) {
	w, at, valid := s.w, f.Place.Position, f.Content.Valid
	const mend = "restore the segment from a version or a copy under another name; what was lost of it is lost to this archive"
	switch {
	case valid == 0 && at == 0:
		w.problem(s.seg.Key, at, mend, "the segment was deleted while it was written: a break frame stands at its start (%s)", f.Content.Reason)
	case valid == 0 && w.chain.Anchored && f.Content.Prev != w.chain.Prev:
		w.problem(s.seg.Key, at, mend, "the segment's frames were all replaced or damaged while it was written: a break stands behind what is there now (%s)", f.Content.Reason)
	case valid == at:
		w.problem(s.seg.Key, at, mend, "the segment was cut, or replaced by an older copy, while it was written: a break stands directly behind its valid frames (%s)", f.Content.Reason)
	default:
		return
	}
	s.sound = false
}

// damaged deals with bytes at position that are no valid next frame; bad is the
// frame if it is well-formed.
//
// A break that some writer set behind them makes them foreign bytes: nothing of
// the archive. Without one they are damage, and the walk goes on at the next
// frame of this segment that can be recognised, so that the report can say what
// exactly is affected.
func (s *scan) damaged(ctx context.Context, position int64, why string, bad *event.Frame) error {
	w := s.w
	if err := s.drain(); err != nil {
		return err
	}
	if w.started {
		br, err := s.findBreak(ctx, position, func(f *event.Frame) bool {
			return w.chain.Check(f) == nil && f.Content.Valid == position
		})
		if err != nil {
			return err
		}
		if br != nil {
			w.note(s.seg.Key, position, "foreign bytes %d-%d lie before a break frame: they are no part of the archive (%s)",
				position, br.Place.Position-1, why)
			return s.resume(ctx, br)
		}
	}
	s.sound = false
	next, err := s.findFrame(ctx, position+1)
	if err != nil {
		return err
	}
	end := s.info.Length
	if bad != nil && s.ours(bad) && (next == nil || bad.Content.Kind == event.KindData) {
		// The frame itself is whole; only its place in the chain is wrong.
		next = bad
	}
	if next != nil {
		end = next.Place.Position
	}
	what := fmt.Sprintf("no valid frame: %s", why)
	if end > position {
		what = fmt.Sprintf("bytes %d-%d are no valid frame: %s", position, end-1, why)
	}
	if bad == nil {
		if h := s.header(ctx, position); h != nil && s.ours(h) && h.Content.Kind == event.KindData {
			what += fmt.Sprintf("; its header says that it holds %d events, sequences %d-%d", h.Content.Count, h.Content.First, h.Content.Last)
		}
	}
	if w.started && next != nil && w.chain.Anchored && next != bad && next.Content.Kind == event.KindData {
		what += fmt.Sprintf("; what is affected lies between sequences %d and %d", w.chain.Last, next.Content.First)
	}
	mend := "restore the object from a version or a copy; the writer sets a break frame behind such bytes with its next append"
	if next != nil {
		mend = "restore the object from a version or a copy"
	}
	w.problem(s.seg.Key, position, mend, "%s", what)
	if next == nil {
		// What the next segment follows on is not known any more.
		s.sc, w.chain.Anchored = nil, false
		return nil
	}
	w.start(s.seg, next)
	w.reanchor(next)
	return s.resume(ctx, next)
}

// resume scans on at f, which was found ahead.
func (s *scan) resume(ctx context.Context, f *event.Frame) error {
	s.sound = s.sound && f.Content.Kind == event.KindBreak
	s.open(ctx, f.Place.Position)
	g, body, err := s.sc.Next()
	if err != nil {
		var corrupt *event.CorruptError
		if errors.As(err, &corrupt) { // the header was whole, the body is not
			return s.damaged(ctx, f.Place.Position, corrupt.Reason, nil)
		}
		return err
	}
	if err := s.w.chain.Check(g); err != nil {
		// It can only be a frame whose numbers contradict themselves.
		return s.damaged(ctx, f.Place.Position, err.Error(), nil)
	}
	return s.accept(g, body, 0)
}

// ours reports whether f says that it belongs into this segment.
func (s *scan) ours(f *event.Frame) bool {
	c := &f.Content
	if c.Series != s.w.series.Name || c.Segment != s.seg.Number || c.Frame < 1 {
		return false
	}
	if !s.w.started {
		return s.w.archive == "" || c.Archive == s.w.archive
	}
	return c.Archive == s.w.chain.Archive && c.Source == s.w.chain.Source && c.Lane == s.w.chain.Lane
}

// leftovers looks at what stands behind the seal or break, and compares the
// object's CRC.
func (s *scan) leftovers(ctx context.Context) error {
	if err := s.drain(); err != nil {
		return err
	}
	if s.last == nil || s.last.End() >= s.info.Length {
		return nil
	}
	w, from := s.w, s.last.End()
	f, err := s.findFrame(ctx, from)
	if err != nil {
		return err
	}
	if f != nil {
		w.problem(s.seg.Key, f.Place.Position, "readers pass it over; compare its events with the next segment's",
			"a frame of this series stands behind the %s that ended the segment", s.last.Content.Kind)
		return nil
	}
	w.note(s.seg.Key, from, "foreign bytes %d-%d stand behind the %s that ended the segment: they are no part of the archive",
		from, s.info.Length-1, s.last.Content.Kind)
	return nil
}

// drain reads the first reader to the object's end, once, to compare the CRC-64
// that the store keeps with the bytes that it gave.
func (s *scan) drain() error {
	if s.in == nil || s.in.start != 0 || s.in.checked {
		return nil
	}
	if _, err := io.Copy(io.Discard, s.in); err != nil {
		return err
	}
	s.in.checked = true
	switch {
	case s.in.position < s.info.Length:
		s.w.problem(s.seg.Key, s.in.position, "verify again; if it stays, the object was replaced or cut",
			"the object ends here, the store said that it has %d bytes", s.info.Length)
	case s.in.crc != s.info.CRC64:
		s.w.problem(s.seg.Key, 0, "verify again; if it stays, the bytes changed in the store: restore a version or a copy",
			"the object's bytes have CRC-64 %d, the store says %d", s.in.crc, s.info.CRC64)
	}
	return nil
}
