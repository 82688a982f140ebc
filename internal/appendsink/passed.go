package appendsink

// A series that is met behind what waits here: found by listing, or again above a
// segment that was left. It seems to have events of ours, and may have passed one
// that was gone from the stream for whoever wrote those frames. Only the frames
// say so, so it is entered further back and read from there. Where nothing that
// waits lies at or below the series' last sequence, as is usual, nothing is read.

import (
	"context"
	"errors"
	"fmt"
	"io"

	"ossuary/internal/event"
)

// seems says whether a series that ends with c seems to have events that wait
// here, or are still to come in this epoch, and the lowest sequence of these. Once
// one event is new, so are those behind it.
func (s *series) seems(c *event.Chain) (least uint64, yes bool) {
	created := s.set.opt.Stream.Created
	s.set.mu.Lock()
	defer s.set.mu.Unlock()
	var first *batch
	for _, b := range s.waitingLocked() {
		if b.len() > 0 && (first == nil || b.seqs[0] < first.seqs[0]) {
			first = b
		}
	}
	if first == nil {
		return s.newest + 1, c.Created.Equal(created) && c.Last > s.newest
	}
	return first.seqs[0], has(c, created, first.seqs[0], first.times[0])
}

// enterLower moves the tail that enter has found among keys to the last segment
// that begins below what waits, if the series seems to have that. To be read on
// from there. Among keys may be the one of from, a tail that is known: nil if
// there is none.
func (s *series) enterLower(ctx context.Context, keys []string, from *tail) error {
	found := s.tail
	least, yes := s.seems(&found.chain)
	if !yes {
		return nil
	}
	at := -1
	for i := len(keys) - 1; i >= 0; i-- {
		f, empty, err := s.firstFrame(ctx, keys[i])
		if err != nil {
			return err
		}
		if empty {
			continue // the series has not gone on from there
		}
		at = i
		if f != nil && f.Content.Kind == event.KindData && f.Content.First < least {
			break
		}
	}
	if at < 0 || keys[at] == found.key {
		return nil // it was read from its start
	}
	s.skipped()
	if from != nil && keys[at] == from.key {
		s.tail = from
		return nil
	}
	n, err := s.set.newTail(s.name, keys[at])
	if err != nil {
		return &stall{hold: true, err: err}
	}
	if n.chain.Segment == 1 {
		n.anchor()
	}
	n.entered = true
	s.tail = n
	s.log.Debug().Str("key", n.key).Uint64("sequence", least).Uint64("last", found.chain.Last).
		Msg("the series seems to have events that wait here; reading it from before them")
	info, err := s.head(ctx, n.key)
	if err == nil {
		_, err = s.readSegment(ctx, info)
	}
	var bad *event.CorruptError
	switch {
	case errors.Is(err, errNone):
		return s.lost(n.key)
	case errors.As(err, &bad):
		return nil // reading on says what it is
	}
	return err
}

// lost: a segment that was entered, and of which nothing is known yet, was deleted
// in that moment. It is not the series' beginning for that.
func (s *series) lost(key string) error {
	s.tail = nil
	return &stall{err: fmt.Errorf("%s is gone since it was listed", key)}
}

// firstFrame is the frame that a segment begins with, nil if none can be read;
// empty: there are no bytes.
func (s *series) firstFrame(ctx context.Context, key string) (f *event.Frame, empty bool, err error) {
	n, err := s.set.newTail(s.name, key)
	if err != nil {
		return nil, false, &stall{hold: true, err: err}
	}
	info, err := s.head(ctx, key)
	switch {
	case errors.Is(err, errNone), err == nil && info.Length == 0:
		return nil, true, nil
	case err != nil:
		return nil, false, err
	}
	r, err := s.read(ctx, key, 0, info.Length)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = r.Close() }()
	f, _, err = event.NewScanner(r, n.codec, 0, 0).Next()
	if err == nil {
		err = n.chain.Check(f)
	}
	if err == nil {
		return f, false, nil
	}
	var bad *event.CorruptError
	if err != io.EOF { //nolint:errorlint // see readSegment
		err = s.unreadable(err)
	}
	if err == io.EOF || errors.As(err, &bad) { //nolint:errorlint // likewise
		err = nil
	}
	return nil, false, err
}
