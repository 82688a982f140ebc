package appendsink

// The append protocol, top to bottom: prepare, append, confirm; in doubt; seal. What a
// refused append leads to, reading forward, adopting, leaving a broken segment, is in
// read.go. One worker at a time runs both for a series, so that a series has one append
// in flight.
//
// The commit point is the store's answer to Append in place: once the bytes
// stand at the position that was asked for, the events are archived, whether or
// not the answer arrives. A crash before it leaves nothing; a crash after it
// leaves a frame that the next writer's append is refused for, which reads it
// and drops the events that it holds.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object"
)

// Why a segment is left; written into its seal or break.
const (
	whySize  = "size"
	whyAge   = "age"
	whyIdle  = "idle"
	whyCodec = "format or codec changed"
)

// maxFrames ends a segment of very small frames before its seal, whose index has
// an entry for each, outgrows maxSeal, or what is kept of them outgrows memory.
var maxFrames = 1 << 18

// commit brings every event of b into the series, or finds it there. With an
// empty b it only seals, for the reason why.
func (s *series) commit(ctx context.Context, b *batch, why string) error {
	var tries *patience // made when it is needed, which is seldom
	for {
		// One of the slots for requests in flight; not while waiting, so that a
		// series in trouble takes nobody's turn.
		if err := s.set.opt.Appends.Acquire(ctx, 1); err != nil {
			return err
		}
		done, err := s.attempt(ctx, b, why)
		s.set.opt.Appends.Release(1)
		var st *stall
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &st):
			// What was sent may have been applied, or may be yet: look before
			// anything is sent again.
			s.inDoubt = true
			if tries == nil {
				tries = newPatience()
			}
			if err := s.wait(ctx, st, tries); err != nil {
				return err
			}
		case err != nil:
			return err
		case done:
			s.freed()
			return nil
		}
	}
}

// attempt makes one pass. Not done without an error: the tail has moved, look at
// what is still to be done. A *stall: wait, then pass again.
func (s *series) attempt(ctx context.Context, b *batch, why string) (done bool, err error) {
	if n := s.tail; s.inDoubt && n != nil && n.position == 0 && !n.suspect {
		// Others may have begun the series, or gone on above, while we waited; and
		// perhaps under another codec, so that nothing would refuse us.
		if n.looked = false; n.chain.Segment == 1 {
			s.tail = nil
		}
	}
	if err := s.locate(ctx, b); err != nil {
		return false, err
	}
	if s.tail == nil {
		return true, nil // to be sealed, but there is no segment
	}
	if s.inDoubt || s.tail.suspect {
		if err := s.settle(ctx); err != nil {
			return false, err
		}
		s.inDoubt = false
	}
	if b == nil {
		return s.sealIdle(ctx, why)
	}
	if err := s.set.tooFar(ctx); err != nil {
		return false, err
	}
	if err := s.dropHeld(b); err != nil {
		return false, err
	}
	if b.len() == 0 {
		return true, nil
	}
	if n := s.tail; n.spent() && !n.looked {
		// Nothing refuses the first append to a segment that others have filled, and
		// that was deleted since.
		found, err := s.enterAbove(ctx, n)
		if err == nil && found {
			err = s.readForward(ctx)
		}
		if found || err != nil {
			return false, err
		}
		n.looked = true
	}
	if why := s.mustRoll(b); why != "" {
		return false, s.seal(ctx, why, b.spec.ext())
	}
	frame, f, err := s.frame(b)
	if err != nil {
		return false, err
	}
	if n := s.tail.position; n > 0 && n+int64(frame.Len()) > b.spec.rollSize() {
		buffers.put(frame[0])
		return false, s.seal(ctx, whySize, b.spec.ext()) // framed again in the next: position and prev are others there
	}
	// A request that was given up, or refused before all of it was sent, may be read
	// for as long as it likes: what it was made of changes no more, also when a later
	// one of the same events is confirmed.
	before := b.body.lent
	b.body.lent = before || len(frame) > 1
	ok, err := s.put(ctx, frame, f, b.body.size, b.spec.Create)
	if !ok || err != nil {
		return false, err
	}
	b.body.lent = before
	buffers.put(frame[0])
	s.checkpoint()
	s.m().Events.Add(int64(b.len()))
	s.set.archived(b.spec.Route, b.len(), frame.Len(), f.Content.MaxTime)
	s.set.confirmed(b.slots)
	return true, nil
}

// settle finds out, after an append of unknown outcome, whether the object is
// still what the tail says. The request may be under way even so: should it land
// late, the next one is refused, and the forward read finds our own frame.
func (s *series) settle(ctx context.Context) error {
	if s.tail.suspect {
		return s.readForward(ctx)
	}
	info, err := s.head(ctx, s.tail.key)
	switch {
	case errors.Is(err, errNone) && s.tail.position == 0 && s.tail.entered:
		return s.lost(s.tail.key)
	case errors.Is(err, errNone) && s.tail.position == 0:
		return nil
	case err == nil && info.Length == s.tail.position && info.CRC64 == s.tail.crc && info.Appendable:
		s.tail.proven = s.tail.chain
		s.firm()
		return nil
	case err == nil || errors.Is(err, errNone):
		return s.readForward(ctx)
	}
	return err
}

// dropHeld takes out of b what the series holds already, and confirms it.
//
// An event is in the series if its sequence is not above the series' last, its
// time not above the series' greatest, and both are of the same life of the
// stream. If the sequence says yes and the others no, the stream hands out
// sequences again: under a higher incarnation the series goes on, otherwise the
// epoch ends so that the incarnation can be raised. Nothing is dropped for its
// sequence alone. Once one event is new, so are those behind it.
func (s *series) dropHeld(b *batch) error {
	c, id := &s.tail.chain, s.set.opt.Stream
	if c.Incarnation > id.Incarnation {
		return ErrIncarnation
	}
	behind := 0 // events from here on are new
scan:
	for i, q := range b.seqs {
		switch {
		case b.found(i) != unmarked:
		case c.Created.IsZero(): // nothing was ever written
			break scan
		case !c.Created.Equal(id.Created) && c.Incarnation == id.Incarnation:
			return &ReuseError{s.name, q, id.Incarnation}
		case !c.Created.Equal(id.Created), q > c.Last:
			break scan
		case b.times[i] <= c.Greatest.UnixNano():
		case c.Incarnation == id.Incarnation:
			return &ReuseError{s.name, q, id.Incarnation}
		default:
			break scan
		}
		behind = i + 1
	}
	if behind == 0 && b.marks == nil {
		return nil
	}
	var held []uint64
	var newest int64
	b.keep(func(i int) bool {
		switch {
		case i >= behind && b.found(i) == unmarked:
			return true
		case b.found(i) == overtaken:
			s.passOver(b, i)
		default:
			held, newest = append(held, b.slots[i]), max(newest, b.times[i])
		}
		return false
	})
	if len(held) > 0 {
		s.set.archived(b.spec.Route, 0, 0, time.Unix(0, newest))
	}
	s.m().AlreadyHeld.Add(int64(len(held)))
	s.set.confirmed(held)
	return nil
}

// passOver sends an event to the dead letters that another writer's frames have
// passed without holding it: it was gone from the stream for that writer, so it
// never had it, and the series' sequences cannot go back.
func (s *series) passOver(b *batch, i int) {
	l := event.Line{Event: event.Event{Sequence: b.seqs[i], Time: time.Unix(0, b.times[i]).UTC()}}
	line := b.line(i)
	if b.spec.Encoder.Format == event.Envelope {
		if err := event.DecodeLine(line, &l); err != nil {
			s.log.Error().Err(err).Uint64("sequence", b.seqs[i]).Msg("own line does not parse; archiving its bytes as a dead letter")
			l.Data = line
		}
	} else {
		l.Data = line[:len(line)-1] // a raw line never had subject or headers
	}
	s.log.Warn().Uint64("sequence", b.seqs[i]).Msg("event was overtaken by another writer; it goes to the dead letters")
	s.set.addOvertaken(&l.Event, b.spec, b.slots[i])
}

// mustRoll says why b may not go into the present segment, "" if it may.
func (s *series) mustRoll(b *batch) string {
	n := s.tail
	switch {
	case event.Ext(n.format, n.codec) != b.spec.ext():
		return whyCodec // even if it is empty: its key was named by a seal that others follow
	case n.position == 0:
		return ""
	case n.chain.Frame >= maxFrames:
		return whySize
	case overdue(Roll{Age: b.spec.Roll.Age}, n.written, n.opened, time.Now()) != "":
		return whyAge
	}
	return ""
}

// frame encodes b as the next frame.
func (s *series) frame(b *batch) (object.Body, *event.Frame, error) {
	lo, hi := b.span()
	c := s.content(event.KindData)
	c.Stream = s.set.opt.Stream
	c.Layout, c.Format = b.spec.Layout, b.spec.Encoder.Format
	c.First, c.Last, c.Count, c.MinTime, c.MaxTime = b.seqs[0], b.seqs[b.len()-1], b.len(), lo, hi
	if hi.After(c.Greatest) {
		c.Greatest = hi
	}
	if c.Format == event.Raw {
		c.Seqs = string(event.AppendSeqs(nil, b.seqs))
	}
	if b.spec.Audit {
		root := event.EventsRoot(b.body.pieces...)
		c.EventsRoot = &root
	}
	w := s.set.writer()
	defer s.set.writers.Put(w)
	out, hash, err := w.Pieces(buffers.get(s.frameSize(b)), s.tail.codec, &c, s.tail.position, b.body.pieces...)
	if err != nil {
		return nil, nil, fmt.Errorf("framing %d events: %w", b.len(), err)
	}
	return out, &event.Frame{Content: c, Hash: hash}, nil
}

// frameSize is about what b's frame will take besides b.
func (s *series) frameSize(b *batch) int {
	const header = 2 << 10
	if s.tail.codec == event.Plain {
		return header
	}
	return b.body.size/4 + header
}

// content is the header that every frame of the series has next; what is about
// the events is still to be filled in.
func (s *series) content(kind string) event.Content {
	c := &s.tail.chain
	return event.Content{Version: event.Version, Kind: kind, Archive: c.Archive, Source: c.Source,
		Stream: event.StreamID{Name: s.set.opt.Stream.Name, Created: c.Created, Incarnation: c.Incarnation},
		Lane:   c.Lane, Series: c.Series, Segment: c.Segment, Frame: c.Frame + 1, Format: s.tail.format,
		Last: c.Last, Greatest: c.Greatest, Prev: c.Prev}
}

// put appends frame at the tail. True: it stands there and the tail is behind
// it. False: it was refused, and the tail is where the object says.
func (s *series) put(ctx context.Context, frame object.Body, f *event.Frame, uncompressed int, create *object.Create) (bool, error) {
	n, key, position := s.tail, s.tail.key, s.tail.position
	want := frame.CRC64(n.crc)
	ok, err := s.append(ctx, position, frame, want, f.Content.Count, create)
	var closed *closedError
	if err != nil && !errors.As(err, &closed) {
		return false, err
	}
	if !ok {
		if err := s.readForward(ctx); err != nil {
			return false, err
		}
		switch moved := s.tail.key != key || s.tail.position != position; {
		case closed != nil && s.tail.key == key:
			return false, s.leave(closed.err)
		case !moved:
			return false, &stall{err: fmt.Errorf("%s took no append at position %d, although it ends there", key, position)}
		}
		return false, nil
	}
	n.advance(f, int64(frame.Len()), want, uncompressed)
	n.proven = n.chain
	s.m().Bytes.Add(int64(frame.Len()))
	return true, nil
}

// append makes the request and judges the answer. True: confirmed by the next
// position and the CRC-64 of the whole object, both as computed here. False:
// refused, or not as computed; the object has to be read. A *closedError: it
// takes no append at all. A *stall: the outcome is unknown, or the store refuses
// us.
func (s *series) append(ctx context.Context, position int64, frame object.Body, want uint64, events int, create *object.Create) (bool, error) {
	n := s.tail
	if position > 0 {
		create = nil
	}
	began := time.Now()
	got, err := s.set.opt.Store.Append(ctx, n.key, position, frame, create)
	switch {
	case err == nil && got.Next == position+int64(frame.Len()) && got.CRC64 == want:
		s.took(time.Since(began), frame.Len(), events)
		return true, nil
	case err == nil:
		// Committed, but not as computed here: the bytes decide.
		s.m().Garbled.Add(1)
		s.log.Warn().Str("key", n.key).Int64("position", position).Int64("next", got.Next).
			Uint64("crc64", got.CRC64).Uint64("want_crc64", want).Str("request", got.RequestID).
			Msg("the store confirmed an append with a position or CRC-64 other than computed; reading it back")
		return false, nil
	}
	switch object.KindOf(err) {
	case object.Mismatch, object.NotFound:
		s.m().Refusals.Add(1)
		return false, nil
	case object.Unappendable:
		s.m().Refusals.Add(1)
		return false, &closedError{err}
	case object.Refused, object.Invalid:
		return false, &stall{hold: true, err: err}
	}
	s.m().Doubts.Add(1)
	return false, &stall{err: err}
}

// sealIdle seals the segment of a series nothing waits for, if there is one.
func (s *series) sealIdle(ctx context.Context, why string) (done bool, err error) {
	n := s.tail
	if n.position == 0 {
		return true, nil
	}
	// The ledger may lag, and another instance may have gone on: then the seal is
	// refused, and what was read forward counts as written now, so that the series
	// is not idle any more.
	if err := s.seal(ctx, why, event.Ext(n.format, n.codec)); err != nil {
		return false, err
	}
	s.tail.looked = false // who knows when the next event comes
	return true, nil
}

// seal ends the segment with a seal frame that names the next one. A refused
// seal is dropped: what it was refused for is read, and the caller decides anew
// whether the segment it then stands in is to be sealed.
func (s *series) seal(ctx context.Context, why, ext string) error {
	n := s.tail
	if !n.complete {
		err := s.collect(ctx)
		var bad *event.CorruptError
		if errors.As(err, &bad) {
			s.log.Error().Str("key", n.key).Err(err).Msg("the segment to be sealed does not read as it was written")
			n.suspect = true
			return s.readForward(ctx)
		}
		if err != nil {
			return err
		}
	}
	root := segmentRoot(n.hashes)
	c := s.content(event.KindSeal)
	c.Reason, c.SegmentRoot, c.Next = why, &root, s.nextKey(ext)
	w := s.set.writer()
	frame, hash, err := w.Seal(nil, n.codec, &c, n.position, n.crc, n.index)
	s.set.writers.Put(w)
	if err != nil {
		return fmt.Errorf("framing a seal: %w", err)
	}
	ok, err := s.put(ctx, object.Body{frame}, &event.Frame{Content: c, Hash: hash}, 0, nil)
	if !ok || err != nil {
		return err
	}
	s.m().Seals.Add(1)
	s.log.Debug().Str("key", n.key).Str("reason", why).Str("next", c.Next).Msg("segment sealed")
	err = s.goOn(c.Next)
	s.tail.looked = true
	return err
}

// goOn moves the tail to the segment that the last frame named.
func (s *series) goOn(key string) error {
	next, err := s.set.follow(s.tail, key)
	if err != nil {
		return err
	}
	s.tail = next
	s.firm()
	s.checkpoint()
	return nil
}

// leave goes on in the next segment without a frame that says so, because the
// store takes no append to this object at all. It is safe as long as it takes
// none from anybody: another writer is refused likewise, and goes the same way.
func (s *series) leave(cause error) error {
	n := s.tail
	next := s.nextKey(event.Ext(n.format, n.codec))
	s.m().Breaks.Add(1)
	s.broke(cause.Error())
	s.log.Error().Err(cause).Str("key", n.key).Str("next", next).
		Msg("the store takes no more appends to this segment; going on in the next")
	return s.goOn(next)
}

func (s *series) nextKey(ext string) string {
	return event.Key(s.set.opt.Prefix, s.name, s.tail.chain.Segment+1, ext)
}
