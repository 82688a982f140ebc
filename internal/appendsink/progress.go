package appendsink

import (
	"cmp"
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
	first := func(a, b *Progress) int {
		return cmp.Or(cmp.Compare(b.Held, a.Held), b.Written.Compare(a.Written), cmp.Compare(a.Series, b.Series))
	}
	// Only the first are kept in order: there may be many, and the sinks wait for this.
	out := make([]Progress, 0, min(most, len(t.series))+1)
	for _, s := range t.series {
		p := &s.seen.Progress
		p.Series, p.Held = s.name, ""
		if s.hold != nil {
			p.Held = s.hold.Reason
		}
		if len(out) == most && (most == 0 || first(p, &out[most-1]) > 0) {
			continue
		}
		i, _ := slices.BinarySearchFunc(out, p, func(a Progress, b *Progress) int { return first(&a, b) })
		out = slices.Insert(out, i, *p)
		q := &out[i]
		q.Waiting, q.Rate = s.waiting, decayed(s.seen.rate, now.Sub(p.Written))
		if q.Route == "" && s.spec != nil {
			q.Route = s.spec.Route
		}
		out = out[:min(most, len(out))]
	}
	return out, len(t.series)
}
