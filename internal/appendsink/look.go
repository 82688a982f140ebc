package appendsink

// What the protocol in append.go asks the store for, and how it waits: finding a
// series' tail, requests other than Append, what errors mean, holds and backoff.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"ossuary/internal/backoff"
	"ossuary/internal/event"
	"ossuary/internal/object"
)

// errNone: the object does not exist.
var errNone = errors.New("no such object")

// stall ends a pass of the protocol: wait, then begin again from what is known.
type stall struct {
	hold bool // somebody has to mend something; otherwise the store just did not answer well
	err  error
}

// closedError: the store takes no append to the object, from anybody.
type closedError struct{ err error }

func (e *closedError) Error() string { return e.err.Error() }

func (e *stall) Error() string { return e.err.Error() }
func (e *stall) Unwrap() error { return e.err }

func (s *series) m() *Metrics { return s.set.m }

// locate finds the tail if nothing is known of the series yet: in the ledger,
// else by listing its segments. The highest one counts, whatever became of the
// others. So a ledger that was lost costs reads, never correctness.
func (s *series) locate(ctx context.Context, b *batch) error {
	if b != nil {
		s.route = b.spec.Route
	}
	if s.tail != nil {
		return nil
	}
	t := s.set
	t.mu.Lock()
	e, ok := t.known[s.name]
	t.mu.Unlock()
	if ok && (e.Segment > 1 || e.Position > 0) { // of an empty first segment it says nothing, not even its codec
		n, err := t.tailOf(s.name, e.Tail)
		if err != nil {
			return &stall{hold: true, err: err}
		}
		if s.route == "" {
			s.route = e.Route
		}
		s.tail = n // optimistic: if the entry lags, the first append is refused and says so
		return nil
	}
	keys, err := s.segments(ctx, 0)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		if b == nil {
			return nil
		}
		// Nothing is known of the series by anybody. Whether its first segment was begun
		// since it was listed, the append says: it is refused then, and what refused it
		// is read from its start. To ask before would only leave others more time.
		if s.tail, err = t.newTail(s.name, event.Key(t.opt.Prefix, s.name, 1, b.spec.ext())); err == nil {
			s.tail.anchor()
		}
		return err
	}
	found, err := s.enter(ctx, keys)
	if err == nil && found {
		err = s.enterLower(ctx, keys, nil)
	}
	if err == nil && !found {
		// Nothing is known of the series by anybody but that it was begun.
		if s.tail, err = t.newTail(s.name, keys[0]); err == nil {
			s.tail.anchor()
		}
	}
	if err != nil {
		s.tail = nil
		return err
	}
	err = s.readForward(ctx)
	if err != nil && !found {
		s.tail = nil
	}
	return err
}

// segments lists the keys of the series' segments from the given number on, in
// order.
func (s *series) segments(ctx context.Context, from int) ([]string, error) {
	prefix := s.set.opt.Prefix
	var keys []string
	number := map[string]int{}
	err := s.set.opt.Store.List(ctx, prefix+s.name+".", func(o object.Entry) error {
		name, segment, ext, ok := event.ParseKey(prefix, o.Key)
		if _, _, known := event.ParseExt(ext); ok && known && name == s.name && segment >= from {
			keys = append(keys, o.Key)
			number[o.Key] = segment
		}
		return nil
	})
	if err != nil {
		return nil, s.classify(err)
	}
	slices.SortStableFunc(keys, func(a, b string) int { return number[a] - number[b] })
	return keys, nil
}

// enter makes the tail from the highest segment that says anything about the
// series, to be read on from there; not found: there is none. One that holds no
// valid frame (foreign bytes came first, or nothing did) says nothing; the one
// before names it, and reading on from there treats it as any writer would.
func (s *series) enter(ctx context.Context, keys []string) (found bool, err error) {
	s.jumps = true
	defer func() {
		if found && s.jumps {
			s.skipped()
		}
		s.jumps = false
	}()
	for i := len(keys) - 1; i >= 0; i-- {
		n, err := s.set.newTail(s.name, keys[i])
		if err != nil {
			return false, &stall{hold: true, err: err}
		}
		s.tail = n
		if i == 0 && n.chain.Segment == 1 {
			n.anchor() // on nothing: it is the first
		}
		if err := s.fromSeal(ctx); err != nil {
			return false, err
		}
		if s.tail != n {
			return true, nil
		}
		info, err := s.head(ctx, n.key)
		if err != nil && !errors.Is(err, errNone) {
			return false, err
		}
		if err == nil {
			_, err = s.readSegment(ctx, info)
			var bad *event.CorruptError
			if err != nil && !errors.As(err, &bad) {
				return false, err
			}
		}
		if n.chain.Frame > 0 || s.tail != n {
			return true, nil
		}
	}
	return false, nil
}

// enterAbove looks whether the series has gone on above n, or in a segment of the
// same number and another codec, and enters it there, to be read on. If it has
// not, or on an error, the tail is n.
func (s *series) enterAbove(ctx context.Context, n *tail) (found bool, err error) {
	keys, err := s.segments(ctx, n.chain.Segment)
	if err == nil {
		found, err = s.enter(ctx, slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return key == n.key }))
	}
	if err == nil && found {
		err = s.enterLower(ctx, keys, n)
	}
	if err != nil || !found {
		s.tail = n
	}
	return found, err
}

// passGone goes on where the tail's segment is gone. It may have been deleted
// (lifecycle rules) long after the series went on: then in its last segment.
// Else by a break that says so.
func (s *series) passGone(ctx context.Context) error {
	found, err := s.enterAbove(ctx, s.tail)
	if found || err != nil {
		return err
	}
	return s.breakOff(ctx, "the object is gone", 0, object.Info{})
}

// fromSeal spares reading a whole sealed segment: the locator at its end says
// where the seal begins and what the CRC-64 before it was, which with the store's
// own CRC-64 of the whole proves that the seal is the segment's end. Anything
// else than a perfect match is left to readForward.
func (s *series) fromSeal(ctx context.Context) error {
	n := s.tail
	info, err := s.head(ctx, n.key)
	if errors.Is(err, errNone) {
		return nil
	}
	size := int64(event.LocatorSize(n.codec))
	if err != nil || info.Length < size {
		return err
	}
	end, err := s.fetch(ctx, n.key, info.Length-size, info.Length)
	if err != nil {
		return err
	}
	at, crc, ok := event.ReadLocator(end, n.codec)
	if !ok || at < 0 || at >= info.Length || info.Length-at > maxSeal {
		return nil
	}
	p, err := s.fetch(ctx, n.key, at, info.Length)
	if err != nil {
		return err
	}
	if object.CRC64(crc, p) != info.CRC64 {
		return nil
	}
	sc := event.NewScanner(bytes.NewReader(p), n.codec, at, crc)
	f, _, err := sc.Next()
	if err != nil || f.Content.Kind != event.KindSeal || sc.Position() != info.Length {
		return nil //nolint:nilerr // whatever it is, reading forward says
	}
	return s.afterSeal(f, info)
}

// afterSeal moves the tail behind the seal that ends its segment.
func (s *series) afterSeal(f *event.Frame, info object.Info) error {
	n := s.tail
	chain := n.chain
	chain.Frame, chain.Anchored = f.Content.Frame-1, false
	if chain.Check(f) != nil {
		return nil //nolint:nilerr // reading forward says what it is
	}
	if f.Content.Stream.Incarnation > s.set.opt.Stream.Incarnation {
		return ErrIncarnation
	}
	chain.Advance(f)
	n.chain = chain
	n.position, n.crc = info.Length, info.CRC64
	return s.goOn(f.Content.Next)
}

// maxSeal bounds what is read at once for a seal with its index: over 40 bytes
// for each of a million frames.
const maxSeal = 64 << 20

// head returns errNone for an object that does not exist, else a *stall.
func (s *series) head(ctx context.Context, key string) (object.Info, error) {
	info, err := s.set.opt.Store.Head(ctx, key)
	if err != nil {
		return info, s.classify(err)
	}
	return info, nil
}

func (s *series) read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	r, err := s.set.opt.Store.Read(ctx, key, from, to)
	if err != nil {
		err = s.classify(err)
		if errors.Is(err, errNone) {
			err = &stall{err: err} // it was there for Head: look again
		}
		return nil, err
	}
	return r, nil
}

func (s *series) fetch(ctx context.Context, key string, from, to int64) ([]byte, error) {
	r, err := s.read(ctx, key, from, to)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	p := make([]byte, to-from)
	if _, err := io.ReadFull(r, p); err != nil {
		return nil, &stall{err: fmt.Errorf("reading %s: %w", key, err)}
	}
	return p, nil
}

// classify turns an error of a Head, Read or List into what the protocol does
// about it.
func (s *series) classify(err error) error {
	switch object.KindOf(err) {
	case object.NotFound:
		return errNone
	case object.Refused, object.Invalid, object.Unappendable, object.Mismatch:
		return &stall{hold: true, err: err}
	}
	return &stall{err: err}
}

// unreadable does so for an error met while reading frames. Bytes that are no
// frame stay a *event.CorruptError; a frame of somebody else, or of a version
// that is not known here, is nothing to write behind or to break off.
func (s *series) unreadable(err error) error {
	var bad *event.CorruptError
	var foreign *event.ForeignError
	var unknown *event.UnknownError
	switch {
	case errors.As(err, &bad):
		return bad
	case errors.As(err, &foreign), errors.As(err, &unknown):
		return &stall{hold: true, err: fmt.Errorf("%s: %w", s.tail.key, err)}
	}
	return &stall{err: fmt.Errorf("reading %s: %w", s.tail.key, err)}
}

// collect reads the segment from its start up to the tail, for the index and the
// root of its seal. What it reads must be what was known.
func (s *series) collect(ctx context.Context) error {
	n := s.tail
	again, err := s.set.newTail(s.name, n.key)
	if err != nil {
		return err
	}
	r, err := s.read(ctx, n.key, 0, n.position)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	sc := event.NewScanner(r, n.codec, 0, 0)
	for sc.Position() < n.position {
		f, body, err := sc.Next()
		if err != nil {
			if err == io.EOF { //nolint:errorlint // see readSegment
				err = &event.CorruptError{Position: sc.Position(), Reason: "the object ends here"}
			}
			return s.unreadable(err)
		}
		if err := again.chain.Check(f); err != nil {
			return s.unreadable(err)
		}
		again.advance(f, sc.Position()-again.position, sc.CRC(), len(body))
	}
	if again.position != n.position || again.chain.Prev != n.chain.Prev || again.crc != n.crc {
		return &event.CorruptError{Position: again.position, Reason: "the frames read are not those that were confirmed"}
	}
	n.index, n.hashes, n.complete = again.index, again.hashes, true
	return nil
}

// took notes that the store takes appends, for this series and in general.
func (s *series) took(d time.Duration, bytes, events int) {
	t := s.set
	t.m.Appends.Add(1)
	t.mu.Lock()
	t.tookAny++
	t.mu.Unlock()
	if f := t.m.ObserveAppend; f != nil {
		f(d, bytes, events)
	}
}

// broke tells operators that the present segment was left, by whomever, without a
// seal.
func (s *series) broke(why string) {
	if f := s.m().ObserveBreak; f != nil {
		f(s.tail.key, why)
	}
}

func (s *series) checkpoint() {
	s.set.point.note(s.name, s.tail.entry(s.route))
	s.progressed()
}

// How long a series waits between tries. A store that does not answer well is
// tried again soon; one that refuses us needs a person, and gets a try a minute.
const (
	doubtFirst, doubtMost = 50 * time.Millisecond, 10 * time.Second
	holdFirst, holdMost   = time.Second, time.Minute
	// A series whose appends stay in doubt for so long counts as held: others
	// shall not wait for it.
	doubtIsHold = 30 * time.Second
)

// patience is the backoff of one batch.
type patience struct {
	doubt, hold backoff.Backoff
	since       time.Time // first doubt without success
}

func newPatience() *patience {
	return &patience{doubt: backoff.New(doubtFirst, doubtMost, 1.5), hold: backoff.New(holdFirst, holdMost, 1.5)}
}

// wait waits for the next pass, and says why where operators look.
func (s *series) wait(ctx context.Context, st *stall, p *patience) error {
	s.troubled(st.err)
	d := p.doubt.Next()
	var oe *object.Error
	switch {
	case st.hold:
		d = p.hold.Next()
		s.held(st.err)
	case p.since.IsZero():
		p.since = time.Now()
		s.log.Debug().Err(st.err).Dur("wait", d).Msg("the outcome of a request is unknown; looking again")
	case time.Since(p.since) > doubtIsHold:
		s.held(fmt.Errorf("the store has not answered well for %s: %w", time.Since(p.since).Round(time.Second), st.err))
	}
	if errors.As(st.err, &oe) && oe.RetryAfter > d {
		d = oe.RetryAfter
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// held marks the series as held. Its events keep at most a share of the budget
// while others can be archived; see Set.mustForget.
func (s *series) held(why error) {
	t, now := s.set, time.Now()
	t.mu.Lock()
	first := s.hold == nil
	cause := causeOf(why)
	if first {
		s.hold = &Hold{Series: s.name, Since: now.UTC()}
		t.holds++
		t.m.Holds[cause].Add(1)
		t.opt.Budget.add(0, s.waiting)
	} else {
		t.m.HeldSeries[s.hold.cause].Add(-1)
	}
	t.m.HeldSeries[cause].Add(1)
	s.hold.cause, s.hold.Cause, s.hold.Reason = cause, cause.String(), why.Error()
	// The trouble is this series' alone if it is about what stands in its very
	// object, or if others were appended to since it began.
	var oe *object.Error
	if first {
		s.took0 = t.tookAny
	}
	s.alone = s.alone || t.tookAny > s.took0 || !errors.As(why, &oe)
	// More than the share, gathered before this was known: let the newest go.
	var gone []uint64
	for n := len(s.queue); s.alone && n > 0 && t.opt.Budget.heldOver(0); n-- {
		b := s.queue[n-1]
		s.queue = s.queue[:n-1]
		gone = append(gone, b.slots...)
		t.pending--
		s.book(-b.cost)
		s.forgot = true
	}
	t.mu.Unlock()
	for _, slot := range gone {
		t.forget(slot)
	}
	if first {
		s.log.Error().Err(why).Msg("series is held: its events wait and are not acknowledged; it is tried again about once a minute")
	}
	t.opt.Budget.nudge()
}

// freed ends a hold. Events that were forgotten meanwhile need a new epoch.
func (s *series) freed() {
	t := s.set
	t.mu.Lock()
	was, forgot := s.hold, s.forgot
	s.hold, s.alone = nil, false
	if was != nil {
		t.holds--
		t.m.HeldSeries[was.cause].Add(-1)
		t.opt.Budget.add(0, -s.waiting)
	}
	t.mu.Unlock()
	if was != nil {
		s.log.Info().Dur("held", time.Since(was.Since)).Msg("series is no longer held")
		if forgot {
			t.end(ErrReplay)
		}
	}
}

func (t *Set) writer() *event.FrameWriter {
	if w, ok := t.writers.Get().(*event.FrameWriter); ok {
		return w
	}
	return event.NewFrameWriter(t.opt.Level)
}

// buffers recycles the bytes of frames.
var buffers bufferPool

type bufferPool struct{ p sync.Pool }

// get returns an empty buffer with room for n bytes.
func (b *bufferPool) get(n int) []byte {
	if v, ok := b.p.Get().(*[]byte); ok && cap(*v) >= n {
		return (*v)[:0]
	}
	return make([]byte, 0, max(n, 4<<10))
}

func (b *bufferPool) put(p []byte) {
	// A large one would stay large for good.
	if cap(p) > 0 && cap(p) <= 8<<20 {
		b.p.Put(&p)
	}
}
