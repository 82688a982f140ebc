package appendsink

// What refused an append: reading forward, adopting frames, and leaving a segment whose
// bytes do not hold. When it is called for, and what follows, append.go says; how the
// store is asked, look.go.

import (
	"context"
	"errors"
	"fmt"
	"io"

	"ossuary/internal/event"
	"ossuary/internal/object"
)

// readForward reads the series from the tail to its end, adopts the valid frames
// it finds, follows seals and breaks, and leaves a segment whose bytes are not
// valid by a break of its own. Afterwards the tail is at the end of what could
// be read, to be tried by the next append.
func (s *series) readForward(ctx context.Context) error {
	// Whatever looks wrong is read once more before it is believed: the bytes may
	// have been cut on their way, and another writer may have mended it.
	sure := false
	for {
		n, moved := s.tail, false
		info, err := s.head(ctx, n.key)
		switch {
		case err != nil:
		case n.suspect:
			sure, err = true, &event.CorruptError{Reason: "what was known of the segment does not fit its bytes"}
		default:
			moved, err = s.readSegment(ctx, info)
		}
		var bad *event.CorruptError
		gone, corrupt := errors.Is(err, errNone), errors.As(err, &bad)
		switch {
		case gone && n.position == 0 && n.entered:
			return s.lost(n.key)
		case gone && n.position == 0:
			n.suspect = false
			return nil // nothing here yet
		case (gone || corrupt) && !sure:
			sure = true
			continue
		case gone:
			err = s.passGone(ctx)
		case corrupt:
			err = s.rescan(ctx, info, bad)
		case err == nil && !moved && !info.Appendable:
			err = s.leave(fmt.Errorf("%s is not an appendable object", n.key))
		case err == nil && !moved:
			return nil
		}
		if err != nil {
			return err
		}
		sure = false // the tail has moved, or was mended: on from there
	}
}

// readSegment adopts the frames between the tail and the object's end. It
// reports whether a seal or break has moved the tail to another segment. A
// *event.CorruptError says that the bytes, or what is known of those before,
// do not hold; the tail is then behind the last frame that does.
func (s *series) readSegment(ctx context.Context, info object.Info) (moved bool, err error) {
	n := s.tail
	from := n.position
	if info.Length < n.position {
		return false, &event.CorruptError{Position: info.Length, Reason: fmt.Sprintf("the object has %d bytes, %d were known", info.Length, n.position)}
	}
	if info.Length > n.position {
		r, err := s.read(ctx, n.key, n.position, info.Length)
		if err != nil {
			return false, err
		}
		defer func() { _ = r.Close() }()
		sc := event.NewScanner(r, n.codec, n.position, n.crc)
		for sc.Position() < info.Length {
			f, body, err := sc.Next()
			if err == io.EOF { //nolint:errorlint // the end is io.EOF itself; a lost connection may wrap one
				break
			}
			if err != nil {
				return false, s.unreadable(err)
			}
			if err := n.chain.Check(f); err != nil {
				return false, s.unreadable(err)
			}
			switch kind := f.Content.Kind; {
			case kind == event.KindData:
			case sc.Position() == info.Length && sc.CRC() != info.CRC64:
				// It ends the object, but not the bytes that were known before it.
				return false, &event.CorruptError{Position: n.position, Reason: fmt.Sprintf(
					"the object has CRC-64 %d, with a %s behind what was known it would have %d", info.CRC64, kind, sc.CRC())}
			case sc.Position() != info.Length && from > 0:
				// Whether it ends what was known cannot be told: a break behind it may say
				// that it stands behind bytes that are no frame, where nobody follows it.
				return false, &event.CorruptError{Position: sc.Position(), Reason: "bytes stand behind a " + kind}
			}
			if err := s.adopt(f, body, sc.Position(), sc.CRC()); err != nil {
				return false, err
			}
			if f.Content.Kind != event.KindData {
				return true, s.goOn(f.Content.Next)
			}
		}
	}
	if n.position != info.Length || n.crc != info.CRC64 {
		return false, &event.CorruptError{Position: n.position, Reason: fmt.Sprintf(
			"the object has %d bytes with CRC-64 %d, the frames read end at %d with %d", info.Length, info.CRC64, n.position, n.crc)}
	}
	n.proven = n.chain
	s.firm()
	s.checkpoint()
	return false, nil
}

// adopt takes a valid next frame, of whatever writer, into the tail, and compares
// the events that wait here with those it holds.
func (s *series) adopt(f *event.Frame, body []byte, end int64, crc uint64) error {
	n := s.tail
	if f.Content.Stream.Incarnation > s.set.opt.Stream.Incarnation {
		return ErrIncarnation
	}
	if s.jumps {
		s.jumps = false
		s.skipped()
	}
	if f.Content.Kind == event.KindData {
		found, missed, err := s.compare(f, body)
		if err != nil {
			return err
		}
		s.m().Adoptions.Add(1)
		s.m().AdoptedEvents.Add(int64(found))
		s.log.Debug().Str("key", n.key).Int64("position", n.position).Uint64("first", f.Content.First).
			Uint64("last", f.Content.Last).Int("own_found", found).Int("own_overtaken", missed).
			Msg("adopted a frame found in the object")
	}
	n.advance(f, end-n.position, crc, len(body))
	return nil
}

// rescan reads the segment from its start, trusting nothing that was known of
// it, after what was known turned out not to fit its bytes. It mends the tail,
// or follows or makes a break where the bytes are no frames.
//
// That counts for the frames just adopted as well: they may be our own, appended
// behind bytes that no longer hold, where no reader comes.
func (s *series) rescan(ctx context.Context, info object.Info, why *event.CorruptError) (err error) {
	known := s.tail
	known.suspect = true
	s.unmark()
	defer func() {
		if err != nil {
			s.tail = known
		}
	}()
	n, err := s.set.newTail(s.name, known.key)
	if err != nil {
		return err
	}
	if known.proven.Frame == 0 {
		n.before = known.proven
	}
	s.tail = n
	moved, err := s.readSegment(ctx, info)
	var bad *event.CorruptError
	switch {
	case err == nil && moved:
		return nil
	case err != nil && !errors.As(err, &bad):
		return err
	}
	if n.chain.Frame == 0 {
		// Not one frame of this segment is left: what is known of the series can
		// only come from here.
		n.chain = known.proven
		n.chain.Frame = 0
	}
	switch {
	case bad == nil && known.chain.Frame == 0 && n.chain.Frame == 0:
		return nil // an empty object, and nothing else was expected
	case bad == nil && n.chain.Frame > 0 && !behind(&n.chain, &known.proven):
		return nil // what was known was wrong or old; the object is whole
	case bad == nil:
		// Whole frames, but fewer than were confirmed: the object was cut or
		// replaced by an older copy. A break says so where every reader sees it.
		bad = &event.CorruptError{Position: info.Length, Reason: fmt.Sprintf(
			"the object ends with sequence %d, the archive had confirmed %d", n.chain.Last, known.proven.Last)}
	}
	// Somebody may have left it already: the first break that names this very
	// place is the one that everybody follows.
	f, end, err := s.findBreak(ctx, info)
	if err != nil {
		return err
	}
	if f != nil {
		s.log.Warn().Str("key", n.key).Int64("valid", n.position).Str("next", f.Content.Next).
			Msg("another writer has left this segment for bytes that are no frame; following it")
		s.broke(f.Content.Reason)
		n.chain.Advance(f)
		n.position = end
		return s.goOn(f.Content.Next)
	}
	s.log.Error().Str("key", n.key).Int64("position", bad.Position).Str("reason", bad.Reason).Str("first_seen", why.Reason).
		Msg("segment holds bytes that are no valid frame, or lacks some that were; leaving it")
	return s.breakOff(ctx, bad.Reason, n.position, info)
}

// findBreak looks behind the tail for a break that leaves the segment at the
// tail. Where no valid frame stands before it, the break itself says what the
// series' last frame was.
func (s *series) findBreak(ctx context.Context, info object.Info) (*event.Frame, int64, error) {
	n := s.tail
	if info.Length <= n.position {
		return nil, 0, nil
	}
	r, err := s.read(ctx, n.key, n.position, info.Length)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = r.Close() }()
	f, end, err := event.FindBreak(r, n.codec, n.position, func(f *event.Frame) bool {
		return f.Content.Valid == n.position && n.chain.Check(f) == nil
	})
	if err != nil {
		return nil, 0, s.unreadable(err)
	}
	return f, end, nil
}

// behind says that a series that ends with c has less than one that ends with
// known.
func behind(c, known *event.Chain) bool {
	if c.Incarnation != known.Incarnation {
		return c.Incarnation < known.Incarnation
	}
	return c.Last < known.Last
}

// breakOff leaves a segment whose bytes from valid on are no frames: a break
// frame at its present length (its start, if the object is gone), which every
// writer and reader follows. If the object has changed meanwhile the break is
// refused and all is read again: a break only ever stands behind bytes that
// were seen.
func (s *series) breakOff(ctx context.Context, why string, valid int64, info object.Info) error {
	n := s.tail
	c := s.content(event.KindBreak)
	c.Next, c.Reason, c.Valid = s.nextKey(event.Ext(n.format, n.codec)), clip(why), valid
	if valid == 0 {
		c.Frame = 1
	}
	w := s.set.writer()
	frame, hash, err := w.Break(nil, n.codec, &c, info.Length)
	s.set.writers.Put(w)
	if err != nil {
		return fmt.Errorf("framing a break: %w", err)
	}
	ok, err := s.append(ctx, info.Length, object.Body{frame}, object.CRC64(info.CRC64, frame), 0, nil)
	var closed *closedError
	switch {
	case errors.As(err, &closed):
		return s.leave(closed.err)
	case err != nil:
		return err
	case !ok:
		// All is read again, and finds it if it stands there after all.
		return &stall{err: fmt.Errorf("%s took no break at its end, position %d", n.key, info.Length)}
	}
	s.m().Breaks.Add(1)
	s.broke(why)
	s.log.Error().Str("key", n.key).Int64("valid", valid).Int64("length", info.Length).Str("reason", why).Str("next", c.Next).
		Msg("segment left by a break frame; run verify, and find out who else writes to the bucket")
	n.chain.Advance(&event.Frame{Content: c, Hash: hash})
	return s.goOn(c.Next)
}
