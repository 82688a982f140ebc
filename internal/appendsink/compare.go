package appendsink

// Whose events adopted frames hold. An event that waits here, or comes later in
// this epoch, and that the series passed without holding it, was overtaken: it
// was gone from the stream for the writer of those frames. What the ledger said of
// the series before the epoch's first event is taken at its word: what had been
// passed by then was gone for this writer too. What else it is met by, passed.go says.

import (
	"context"
	"time"

	"ossuary/internal/event"
)

// maxAhead bounds the events that a Set remembers of frames ahead of it. Behind a
// writer that is further ahead it cannot tell any more what was overtaken: its epoch
// ends, and the next one begins with what is in the ledger then, and with the events
// that are in the stream then.
var maxAhead = 1 << 18

// ahead is what adopted frames say about events up to their last.
type ahead struct {
	before   event.Chain // of the series, before the frames
	first    uint64
	last     uint64
	greatest int64               // of the series' timestamps, behind the frames
	times    map[uint64][2]int64 // by sequence: bounds of the event's timestamp, Unix nanoseconds

	// Since the tail was proven last: the sequences, and what was before them.
	fresh        []uint64
	sureLast     uint64 // 0: there was nothing
	sureGreatest int64
}

// has says that the series has an event by the rule of dropHeld.
func has(c *event.Chain, created time.Time, seq uint64, at int64) bool {
	return c.Created.Equal(created) && seq <= c.Last && at <= c.Greatest.UnixNano()
}

// judge says what the frames decide about an own event. What the series seemed to
// have before them, they do not; what they do not seem to have either, is new or
// a sequence that is used again.
func (a *ahead) judge(created time.Time, seq uint64, at int64) mark {
	switch t, ok := a.times[seq]; {
	case seq > a.last, !a.before.Anchored && seq < a.first, has(&a.before, created, seq, at):
		return unmarked
	case ok && t[0] <= at && at <= t[1]:
		return inSeries
	case at <= a.greatest:
		return overtaken
	}
	return unmarked
}

// compare marks those of our own waiting events that an adopted frame decides
// about, and remembers it for those that are still to come.
func (s *series) compare(f *event.Frame, body []byte) (found, missed int, err error) {
	t, c, created := s.set, &f.Content, s.set.opt.Stream.Created
	if !c.Stream.Created.Equal(created) {
		return 0, 0, nil // of an earlier life of the stream: it says nothing about this one
	}
	if !s.concerns(c) {
		return 0, 0, nil
	}
	before := s.tail.chain
	if !before.Anchored {
		before = s.tail.before
	}
	a := &ahead{before: before, first: c.First, last: c.Last, greatest: c.Greatest.UnixNano(), times: make(map[uint64][2]int64, c.Count)}
	err = event.Sequences(f, body, func(seq uint64, at time.Time) bool {
		least, most := at, at
		if at.IsZero() { // a raw line does not say
			least, most = c.MinTime, c.MaxTime
		}
		a.times[seq] = [2]int64{least.UnixNano(), most.UnixNano()}
		return true
	})
	if err != nil {
		return 0, 0, s.unreadable(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range s.waitingLocked() {
		for i, seq := range b.seqs {
			m := a.judge(created, seq, b.times[i])
			switch m {
			case unmarked:
				continue
			case inSeries:
				found++
			default:
				missed++
			}
			b.mark(i, m|fresh)
			s.unsure = true
		}
	}
	t.remember(s, a)
	return found, missed, nil
}

// concerns says whether the frame may decide about any event of ours. Sequences
// rise, so the ends of the batches tell.
func (s *series) concerns(f *event.Content) bool {
	s.set.mu.Lock()
	defer s.set.mu.Unlock()
	if s.newest < f.Last {
		return true
	}
	for _, b := range s.waitingLocked() {
		if b.len() > 0 && b.seqs[0] <= f.Last && b.seqs[b.len()-1] > s.proven() {
			return true
		}
	}
	return false
}

// waitingLocked are the batches that are not confirmed; t.mu is held.
func (s *series) waitingLocked() []*batch {
	out := append([]*batch{}, s.queue...)
	if s.b != nil {
		out = append(out, s.b)
	}
	return out
}

// remember keeps what a says of events that were not handed over yet; t.mu is
// held.
func (t *Set) remember(s *series, a *ahead) {
	if a.last <= s.newest {
		return
	}
	all := t.ahead[s.name]
	if all == nil {
		all = &ahead{before: a.before, first: a.first, times: map[uint64][2]int64{}}
		t.ahead[s.name] = all
	}
	all.last, all.greatest = a.last, a.greatest
	t.aheads -= len(all.times)
	for seq, at := range a.times {
		if seq > s.newest {
			all.times[seq] = at
			all.fresh = append(all.fresh, seq)
		}
	}
	s.unsure = true
	t.aheads += len(all.times)
	if t.aheads > maxAhead {
		t.forgetAhead(s.name)
		t.behind = t.opt.Ledger != nil // without one, the next epoch would be no wiser
		s.log.Warn().Uint64("last", a.last).Msg("another writer is far ahead, or the ledger far behind; too far to compare what comes with what is there")
	}
}

func (t *Set) forgetAhead(series string) {
	if a := t.ahead[series]; a != nil {
		t.aheads -= len(a.times)
		delete(t.ahead, series)
	}
}

// skipped says that the next frames to be adopted need not follow the last ones:
// what was found in those that are not proven may be found again, or be gone.
func (s *series) skipped() {
	s.unmark()
	s.set.mu.Lock()
	defer s.set.mu.Unlock()
	s.set.forgetAhead(s.name)
}

// judgeLate marks the event that was just put into b by what was adopted before
// it came; t.mu is held.
func (t *Set) judgeLate(s *series, b *batch) {
	a := t.ahead[s.name]
	if a == nil {
		return
	}
	i := b.len() - 1
	m := a.judge(t.opt.Stream.Created, b.seqs[i], b.times[i])
	if m != unmarked && s.unsure {
		m |= fresh
	}
	b.mark(i, m)
	if b.seqs[i] >= a.last {
		t.forgetAhead(s.name)
	}
}

// tooFar ends the epoch if the Set is too far behind another writer. What was read
// so far is in the ledger then, so that the next epoch is not.
func (t *Set) tooFar(ctx context.Context) error {
	t.mu.Lock()
	behind := t.behind
	t.mu.Unlock()
	if !behind {
		return nil
	}
	_ = t.point.flush(ctx) // logged there; the next epoch begins by reading the ledger, so it does not begin before that works
	return ErrBehind
}

// proven is the last sequence for which the tail was found to agree with the
// whole object; 0 if that was in another incarnation.
func (s *series) proven() uint64 {
	c, id := &s.tail.proven, s.set.opt.Stream
	if c.Incarnation != id.Incarnation || !c.Created.Equal(id.Created) {
		return 0
	}
	return c.Last
}

// firm says that the object was found to hold all that was read of it: the tail is
// proven.
func (s *series) firm() {
	s.set.mu.Lock()
	defer s.set.mu.Unlock()
	if !s.unsure {
		return
	}
	s.unsure = false
	for _, b := range s.waitingLocked() {
		for i := range b.marks {
			b.marks[i] &^= fresh
		}
	}
	if a := s.set.ahead[s.name]; a != nil {
		a.fresh, a.sureLast, a.sureGreatest = nil, a.last, a.greatest
	}
}

// unmark takes back what was found out about events since the tail was proven.
func (s *series) unmark() {
	t := s.set
	t.mu.Lock()
	defer t.mu.Unlock()
	if !s.unsure {
		return
	}
	s.unsure = false
	for _, b := range s.waitingLocked() {
		for i := range b.marks {
			if b.marks[i]&fresh != 0 {
				b.marks[i] = unmarked
			}
		}
	}
	a := t.ahead[s.name]
	switch {
	case a == nil:
	case a.sureLast == 0:
		t.forgetAhead(s.name)
	default:
		t.aheads -= len(a.times)
		for _, seq := range a.fresh {
			delete(a.times, seq)
		}
		t.aheads += len(a.times)
		a.fresh, a.last, a.greatest = nil, a.sureLast, a.sureGreatest
	}
}
