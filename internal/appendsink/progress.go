package appendsink

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
	"time"
)

// rateOver is the time over which a series' rate is taken.
const rateOver = 30 * time.Second

// Progress is what an open series does, for people.
type Progress struct {
	Series   string    `json:"series"`
	Route    string    `json:"route,omitempty"`
	Key      string    `json:"key"` // of its segment
	Segment  int       `json:"segment"`
	Position int64     `json:"position"`
	Last     uint64    `json:"last"`    // sequence
	Written  time.Time `json:"written"` // when something was last appended to it, or found in it
	Rate     float64   `json:"rate"`    // events archived per second, over some half a minute
	Waiting  int64     `json:"waiting"` // bytes of events that wait

	Held    string    `json:"held,omitempty"` // why it is
	LastErr string    `json:"last_error,omitempty"`
	ErrTime time.Time `json:"last_error_time,omitzero"`
}

// seen is what Progress is made of; guarded by set.mu.
type seen struct {
	Progress
	events uint64 // in the segment
	rate   float64
}

// progressed remembers how far the worker is.
func (s *series) progressed() {
	n, now := s.tail, time.Now()
	s.set.mu.Lock()
	defer s.set.mu.Unlock()
	p := &s.seen
	archived := n.events
	if p.Key == n.key && p.events <= n.events {
		archived -= p.events
	}
	// What a tail from the ledger has is not of now.
	if p.Key == "" {
		archived = 0
		if s.b != nil {
			archived = uint64(s.b.len())
		}
	}
	p.rate = decayed(p.rate, now.Sub(p.Written)) + float64(archived)/rateOver.Seconds()
	p.Route, p.Key, p.Segment, p.Position, p.Last, p.Written, p.events = s.route, n.key, n.chain.Segment, n.position, n.chain.Last, now.UTC(), n.events
}

// troubled remembers why the worker has to wait.
func (s *series) troubled(err error) {
	s.set.mu.Lock()
	defer s.set.mu.Unlock()
	s.seen.LastErr, s.seen.ErrTime = clip(err.Error()), time.Now().UTC()
}

func decayed(rate float64, by time.Duration) float64 {
	return rate * math.Exp(-by.Seconds()/rateOver.Seconds())
}

// Progress tells of at most so many of the open series, those in trouble first and
// then those that were written to last, and how many there are.
func (t *Set) Progress(most int) ([]Progress, int) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.foremost(most)
	out := make([]Progress, 0, len(first))
	for _, s := range first {
		p := s.seen.Progress
		p.Series, p.Waiting = s.name, s.waiting
		p.Rate = decayed(s.seen.rate, now.Sub(p.Written))
		if s.hold != nil {
			p.Held = s.hold.Reason
		}
		if p.Route == "" && s.spec != nil {
			p.Route = s.spec.Route
		}
		out = append(out, p)
	}
	return out, len(t.series)
}

// foremost are at most so many of the open series, in the order in which people want
// to see them; t.mu is held, which is why neither all of them are sorted nor anything
// is copied: with thousands of series nothing could be added meanwhile.
func (t *Set) foremost(most int) []*series {
	if most <= 0 {
		return nil
	}
	h := make(rearmost, 0, min(most, len(t.series)))
	for _, s := range t.series {
		switch {
		case len(h) < most:
			heap.Push(&h, s)
		case inOrder(s, h[0]) < 0:
			h[0] = s
			heap.Fix(&h, 0)
		}
	}
	slices.SortFunc(h, inOrder)
	return h
}

// inOrder compares what people want to see first; set.mu is held.
func inOrder(a, b *series) int {
	switch {
	case a.hold == nil && b.hold == nil:
	case a.hold == nil:
		return 1
	case b.hold == nil:
		return -1
	case a.hold.Reason != b.hold.Reason:
		return cmp.Compare(b.hold.Reason, a.hold.Reason)
	}
	return cmp.Or(b.seen.Written.Compare(a.seen.Written), cmp.Compare(a.name, b.name))
}

// rearmost is a heap of series with the last in order on top: the one that makes room
// for a better one.
type rearmost []*series

func (h rearmost) Len() int           { return len(h) }
func (h rearmost) Less(i, j int) bool { return inOrder(h[i], h[j]) > 0 }
func (h rearmost) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *rearmost) Push(x any) { *h = append(*h, x.(*series)) }

// Pop implements heap.Interface.
func (h *rearmost) Pop() any {
	s := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return s
}
