package archive

import (
	"context"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"ossuary/internal/ledger"
	"ossuary/internal/router"
)

// completeness compares what the archive holds with what its writers counted.
//
// A tally says how many events a lane was delivered in From..Floor and how many
// of these it left out on purpose. Every other one is in the archive, as an event
// or as a dead letter, because the floor passes a sequence only then. So fewer
// distinct sequences than events less skipped means that some are missing. (More
// are possible: a message that expired from the stream was delivered to one
// writer, who archived it, and not to the one who counted.) Which ones they are,
// the counts alone do not say: any sequence that the archive lacks may be one, or
// may never have been the lane's. The earlier tallies of the control log narrow
// it down, and the stream, if it still has them, names them.
func (v *verification) completeness(ctx context.Context) error {
	for _, source := range sortedKeys(v.seen.named) {
		if v.control.source(source) == nil {
			v.col.problem(Finding{Source: source, What: "there is no control log for this source: that its archive is complete cannot be proven",
				Mend: "restore the control log from a version or a copy"})
		}
	}
	for _, e := range v.lanes {
		// Events are counted only once the control log has a line.
		if t := e.Lane.Tally; t.Events > 0 && v.control.source(e.Source) == nil && !v.seen.named[e.Source] {
			v.col.problem(Finding{Source: e.Source, Key: "ledger " + e.Key,
				What: fmt.Sprintf("the ledger counts %d events up to sequence %d, and there is neither a control log nor an object of this source", t.Events, t.Floor),
				Mend: "correct oss.prefix if it is another than what was archived under; else restore the objects from versions or a copy"})
		}
	}
	for _, source := range v.control.sourceNames() {
		h := v.control.source(source)
		v.ledgerTallies(h)
		for _, incarnation := range sortedKeys(h.lives) {
			l := h.lives[incarnation]
			lanes := map[string]bool{}
			for lane := range l.tallies {
				lanes[lane] = true
			}
			if k := v.seen.lives[lifeKey{source, incarnation}]; k != nil {
				for lane := range k.lanes {
					lanes[lane] = true
				}
			}
			for _, lane := range sortedKeys(lanes) {
				if err := v.lane(ctx, h, l, lane); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ledgerTallies takes in what the ledger's lane entries add to the control log:
// they are written more often.
func (v *verification) ledgerTallies(h *history) {
	for _, e := range v.lanes {
		if e.Source != h.source {
			continue
		}
		f := Finding{Source: e.Source, Key: "ledger " + e.Key, Mend: "rebuild the ledger"}
		l := h.lives[e.Lane.Incarnation]
		if l == nil {
			f.What = fmt.Sprintf("the ledger's lane is in incarnation %d of the stream, the control log does not know it", e.Lane.Incarnation)
			v.col.problem(f)
			continue
		}
		if e.Lane.Floor > l.horizon {
			f.What = fmt.Sprintf("the ledger's floor %d is above every sequence that was ever handed out (%d)", e.Lane.Floor, l.horizon)
			v.col.problem(f)
			continue
		}
		if l.tallies[e.LaneName] == nil {
			l.tallies[e.LaneName] = &tallies{}
		}
		l.tallies[e.LaneName].add(e.Lane.Tally)
	}
}

// laneProof is the completeness of one lane in one incarnation.
type laneProof struct {
	v       *verification
	h       *history
	l       *life
	lane    string
	tallies *tallies

	have  *roaring64.Bitmap // what counts as archived in this lane
	union *roaring64.Bitmap // in any lane
}

func (p *laneProof) finding(mend, format string, args ...any) Finding {
	where := fmt.Sprintf("lane %s", p.lane)
	if p.l.stream.Incarnation > 0 || len(p.h.lives) > 1 {
		where += fmt.Sprintf(", incarnation %d", p.l.stream.Incarnation)
	}
	return Finding{Source: p.h.source, What: where + ": " + fmt.Sprintf(format, args...), Mend: mend}
}

func (p *laneProof) short(t ledger.Tally) uint64 {
	must := t.Events - min(t.Events, t.Skipped)
	return must - min(must, within(p.have, t.From, t.Floor))
}

func (v *verification) lane(ctx context.Context, h *history, l *life, lane string) error {
	incarnation := l.stream.Incarnation
	p := &laneProof{v: v, h: h, l: l, lane: lane, tallies: l.tallies[lane],
		have: v.seen.lane(h.source, incarnation, lane), union: v.seen.union(h.source, incarnation)}
	if p.tallies == nil || p.tallies.last.Floor < p.tallies.last.From {
		if !p.have.IsEmpty() {
			v.col.note(p.finding("", "no tally was recorded yet: that sequences %d-%d are complete cannot be proven", p.have.Minimum(), p.have.Maximum()))
		}
		return nil
	}
	t := p.tallies.last
	v.col.update(func(r *Report) { r.Skipped += t.Skipped })
	p.repeated(t)
	if !p.have.IsEmpty() && p.have.Maximum() > t.Floor {
		v.col.note(p.finding("", "the last recorded floor is %d: that sequences %d-%d are complete cannot be proven yet", t.Floor, t.Floor+1, p.have.Maximum()))
	}

	lost, err := p.ask(ctx, t)
	if err != nil {
		return err
	}
	short := p.short(t)
	if short == 0 && lost.count == 0 {
		return nil
	}
	p.conclude(t, short, lost)
	return nil
}

// repeated takes in what an earlier incarnation holds of a rewound stream: its
// messages up to the point of the rewind are delivered again, and recognised as
// archived. Where that point is, the sequences show only from above: one that is
// archived in both incarnations was another message the second time.
func (p *laneProof) repeated(t ledger.Tally) {
	for _, incarnation := range sortedKeys(p.h.lives) {
		if incarnation >= p.l.stream.Incarnation || !p.h.lives[incarnation].stream.Created.Equal(p.l.stream.Created) {
			continue
		}
		old := p.v.seen.lane(p.h.source, incarnation, p.lane).Clone()
		if both := roaring64.And(old, p.have); !both.IsEmpty() {
			old.RemoveRange(both.Minimum(), old.Maximum()+1)
		}
		if old.IsEmpty() {
			continue
		}
		p.v.col.note(p.finding("", "the stream was rewound: %d sequences up to %d are counted as archived because incarnation %d holds them; that those were the same messages cannot be proven",
			within(old, t.From, t.Floor), old.Maximum(), incarnation))
		p.have, p.union = roaring64.Or(p.have, old), roaring64.Or(p.union, old)
	}
}

// lostEvents is what the stream still has and the archive has not.
type lostEvents struct {
	asked   bool
	count   uint64
	ranges  []Range
	removed uint64 // of series whose front was removed on purpose, or before RemovedBefore
}

// ask looks into the stream for what the archive lacks up to the floor.
func (p *laneProof) ask(ctx context.Context, t ledger.Tally) (lost lostEvents, err error) {
	if p.v.opt.Probe == nil || p.l.stream.Incarnation != p.h.newest.Stream.Incarnation {
		return lost, nil
	}
	prober, err := p.v.opt.Probe(ctx, p.l.stream)
	if err != nil || prober == nil {
		if ctx.Err() != nil {
			return lost, ctx.Err()
		}
		if err != nil {
			p.v.col.note(p.finding("", "the stream could not be asked about gaps: %v", err))
		}
		return lost, nil
	}
	lost.asked = true
	q := question{p: p, prober: prober, routers: map[int]*router.Router{}, lost: &lost}
	at := t.From
	gaps(p.union, t.From, t.Floor, func(g Range) bool {
		for at = max(at, g.From); at <= g.To && err == nil; {
			at, err = q.next(ctx, at, g.To)
		}
		return err == nil
	})
	for n, r := range q.routers {
		p.v.layouts.put(n, p.lane, r)
	}
	if err != nil {
		if ctx.Err() != nil {
			return lost, ctx.Err()
		}
		p.v.col.note(p.finding("", "the stream could not be asked about gaps from %d on: %v", at, err))
		return lost, nil
	}
	lost.asked = true
	return lost, nil
}

// question asks the stream about one lane.
type question struct {
	p       *laneProof
	prober  Prober
	routers map[int]*router.Router // by layout
	lost    *lostEvents
}

// next looks at the first message from at on, which no series holds, and says
// where to go on. Gaps end at end.
func (q *question) next(ctx context.Context, at, end uint64) (uint64, error) {
	p := q.p
	incarnation := p.l.stream.Incarnation
	n := p.h.layoutAt(incarnation, at)
	// The filters are those of one layout, and say nothing of the next one's.
	until := p.h.layoutUntil(incarnation, at)
	r, known := q.routers[n]
	if !known {
		var err error
		if r, err = p.v.layouts.get(ctx, n, p.h.source, p.lane); err != nil {
			return at, err
		}
		if r == nil {
			return at, fmt.Errorf("layout %d cannot be used", n)
		}
		q.routers[n] = r
	}
	m, err := q.prober.Next(ctx, r.Filters(), at)
	switch {
	case err != nil:
		return at, err
	case m == nil || m.Sequence > until:
		return max(until, until+1), nil // without wrapping round
	case m.Sequence > end:
		return m.Sequence, nil
	}
	if target := r.Resolve(m); !target.Skip {
		p.lose(q.lost, m, target)
	}
	return m.Sequence + 1, nil
}

// lose counts a message that the stream has and the archive lacks.
func (p *laneProof) lose(lost *lostEvents, m *router.Message, target router.Target) {
	before := p.v.opt.RemovedBefore
	fr, exists := p.v.seen.front[target.Series]
	if !before.IsZero() && m.Time.Before(before) || exists && fr.removed &&
		(fr.incarnation > p.l.stream.Incarnation || m.Sequence < fr.sequence) {
		lost.removed++
		return
	}
	lost.count++
	if n := len(lost.ranges); n > 0 && lost.ranges[n-1].To+1 == m.Sequence {
		lost.ranges[n-1].To = m.Sequence
	} else if n < maxRanges {
		lost.ranges = append(lost.ranges, Range{m.Sequence, m.Sequence})
	}
}

// removable is up to which sequence events may be gone on purpose, 0 if none.
func (p *laneProof) removable() (bound uint64) {
	for _, fr := range p.v.seen.front {
		switch {
		case !fr.removed || fr.source != p.h.source || fr.lane != p.lane || fr.incarnation < p.l.stream.Incarnation:
		case fr.incarnation > p.l.stream.Incarnation:
			return ^uint64(0)
		default:
			bound = max(bound, fr.sequence-1)
		}
	}
	if !p.v.opt.RemovedBefore.IsZero() {
		late := uint64(0)
		if k := p.v.seen.lives[lifeKey{p.h.source, p.l.stream.Incarnation}]; k != nil {
			late = k.lateFirst
		}
		if late == 0 {
			return ^uint64(0)
		}
		bound = max(bound, late-1)
	}
	return bound
}

// conclude says what is missing, how certain that is, and where it lies.
func (p *laneProof) conclude(t ledger.Tally, short uint64, lost lostEvents) {
	const mend = "restore the objects that held them from versions or copies; what the stream still has can be archived again from there"
	certain := short
	if bound := min(p.removable(), t.Floor); bound >= t.From && bound > 0 {
		// At most so many can have been in what was removed: the sequences up to
		// the bound that nobody holds. A tally from behind the bound says more: what
		// was lacking then was lacking before it.
		free := bound - t.From + 1 - within(p.have, t.From, bound)
		certain = short - min(short, free)
		for _, c := range p.tallies.points {
			if c.Floor >= bound {
				certain = max(certain, short-min(short, p.short(c)))
				break
			}
		}
		certain = max(certain, lost.count)
		if gone := short - min(short, certain); gone > 0 {
			p.v.col.note(p.finding("", "%d events are not in the archive: the sequences up to %d that no object holds can account for them, so they were removed with whole segments, or are missing; which of the two cannot be proven", gone, bound))
		}
	}
	missing := max(certain, lost.count)
	if missing == 0 {
		return
	}
	p.v.col.update(func(r *Report) { r.Missing += missing })
	if lost.count > 0 {
		p.v.col.problem(p.finding(mend, "%d events are missing that the stream still has: sequences %s", lost.count, rangesText(lost.ranges)))
	}
	if missing == lost.count {
		return
	}
	what := fmt.Sprintf("%d events are missing: %d were delivered in %d-%d and %d of them skipped, the archive holds %d; the sequences it lacks there: %s",
		missing-lost.count, t.Events, t.From, t.Floor, t.Skipped, within(p.have, t.From, t.Floor), rangesText(firstGaps(p.union, t.From, t.Floor)))
	if lost.asked {
		what += "; the stream does not have them any more"
	}
	if where := p.narrow(); where != "" {
		what += "; by the recorded tallies they lie in " + where
	}
	p.v.col.problem(p.finding(mend, "%s", what))
}

// narrow says between which recorded floors the lack rises.
func (p *laneProof) narrow() string {
	var rs []Range
	from, short := p.tallies.last.From, uint64(0)
	for _, c := range append(p.tallies.points[:len(p.tallies.points):len(p.tallies.points)], p.tallies.last) {
		if c.Floor < from {
			continue
		}
		if s := p.short(c); s > short {
			rs = append(rs, Range{from, c.Floor})
			short = s
		}
		from = c.Floor + 1
	}
	if len(rs) == 0 || len(rs) == 1 && rs[0].From == p.tallies.last.From && rs[0].To == p.tallies.last.Floor {
		return ""
	}
	return rangesText(rs)
}
