package archive

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// sequences is what all series together hold. Its memory is that of roaring
// bitmaps: a bit or two for each event of a dense stream.
type sequences struct {
	mu    sync.Mutex
	lives map[lifeKey]*lifeSequences
	// front is the first event of each series that still exists; series that lost
	// segments at their front say from where on they are whole.
	front map[string]front
	named map[string]bool // sources that series speak of
}

type lifeKey struct {
	source      string
	incarnation int
}

// lifeSequences is what is archived of one incarnation of a stream.
type lifeSequences struct {
	lanes     map[string]*roaring64.Bitmap
	lateFirst uint64 // see seriesLife
}

type front struct {
	source, lane string
	removed      bool // segments before the first one are gone
	incarnation  int
	sequence     uint64
}

func newSequences() *sequences {
	return &sequences{lives: map[lifeKey]*lifeSequences{}, front: map[string]front{}, named: map[string]bool{}}
}

// merge takes in what one series holds, and names what others hold too.
func (s *sequences) merge(col *collector, sv *seriesVisitor) {
	if !sv.w.started {
		return
	}
	source, lane := sv.w.chain.Source, sv.w.chain.Lane
	s.mu.Lock()
	defer s.mu.Unlock()
	s.named[source] = true
	fr := front{source: source, lane: lane, removed: sv.series.Segments[0].Number > 1, incarnation: sv.w.chain.Incarnation, sequence: sv.w.chain.Last + 1}
	if len(sv.lives) > 0 {
		fr.incarnation, fr.sequence = sv.lives[0].incarnation, sv.lives[0].first
	}
	s.front[sv.series.Name] = fr
	for _, l := range sv.lives {
		if l.doubledCount > 0 {
			slices.Sort(l.doubles)
			s.duplicates(col, sv, l.doubledCount, toRanges(l.doubles), "are in this series more than once")
		}
		k := lifeKey{source, l.incarnation}
		all := s.lives[k]
		if all == nil {
			all = &lifeSequences{lanes: map[string]*roaring64.Bitmap{}}
			s.lives[k] = all
		}
		for _, have := range all.lanes {
			if n := have.AndCardinality(l.bitmap); n > 0 {
				s.duplicates(col, sv, n, bitmapRanges(roaring64.And(have, l.bitmap)), "are in another series too")
			}
		}
		if have := all.lanes[lane]; have == nil {
			all.lanes[lane] = l.bitmap
		} else {
			have.Or(l.bitmap)
		}
		if l.lateFirst > 0 && (all.lateFirst == 0 || l.lateFirst < all.lateFirst) {
			all.lateFirst = l.lateFirst
		}
		l.bitmap = nil
	}
}

func (s *sequences) duplicates(col *collector, sv *seriesVisitor, n uint64, rs []Range, how string) {
	col.update(func(r *Report) { r.Duplicates += n })
	sv.problem(sv.w.finding("", 0, fmt.Sprintf("%d events are archived twice: sequences %s %s", n, rangesText(rs), how),
		"consumers of the archive must drop the second of two events with the same sequence and time; report a bug unless somebody else writes to the bucket"))
}

// union is all that is archived of one incarnation, in whatever lane.
func (s *sequences) union(source string, incarnation int) *roaring64.Bitmap {
	u := roaring64.New()
	if l := s.lives[lifeKey{source, incarnation}]; l != nil {
		for _, b := range l.lanes {
			u.Or(b)
		}
	}
	return u
}

// lane is what is archived of a lane; empty if nothing is.
func (s *sequences) lane(source string, incarnation int, lane string) *roaring64.Bitmap {
	if l := s.lives[lifeKey{source, incarnation}]; l != nil && l.lanes[lane] != nil {
		return l.lanes[lane]
	}
	return roaring64.New()
}

// maxRanges bounds the lists of ranges that are made for a report.
const maxRanges = 1000

func toRanges(sorted []uint64) (rs []Range) {
	for _, q := range sorted {
		if n := len(rs); n > 0 && q <= rs[n-1].To+1 {
			rs[n-1].To = q
			continue
		}
		rs = append(rs, Range{q, q})
	}
	return rs
}

// bitmapRanges lists a bitmap's runs, maxRanges of them at most.
func bitmapRanges(b *roaring64.Bitmap) (rs []Range) {
	for it := b.Iterator(); it.HasNext(); {
		q := it.Next()
		if n := len(rs); n > 0 && q == rs[n-1].To+1 {
			rs[n-1].To = q
			continue
		}
		if len(rs) == maxRanges {
			return rs
		}
		rs = append(rs, Range{q, q})
	}
	return rs
}

// gaps calls fn for the runs of sequences in from..to that b lacks, ascending,
// until fn returns false.
func gaps(b *roaring64.Bitmap, from, to uint64, fn func(Range) bool) {
	it := b.Iterator()
	it.AdvanceIfNeeded(from)
	for next := from; next <= to; {
		if !it.HasNext() {
			fn(Range{next, to})
			return
		}
		q := it.Next()
		if q > to {
			fn(Range{next, to})
			return
		}
		if q > next && !fn(Range{next, q - 1}) {
			return
		}
		next = q + 1
	}
}

// firstGaps lists the first gaps.
func firstGaps(b *roaring64.Bitmap, from, to uint64) (rs []Range) {
	gaps(b, from, to, func(r Range) bool {
		rs = append(rs, r)
		return len(rs) < maxRanges
	})
	return rs
}

// within counts the members of b in from..to.
func within(b *roaring64.Bitmap, from, to uint64) uint64 {
	if from > to {
		return 0
	}
	n := b.Rank(to)
	if from > 0 {
		n -= b.Rank(from - 1)
	}
	return n
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
