package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"ossuary/internal/event"
	"ossuary/internal/object"
	"ossuary/internal/router"
)

// seriesVisitor checks what a walk over one series meets. Owned by the goroutine
// that walks.
type seriesVisitor struct {
	v      *verification
	w      *walker
	ctx    context.Context //nolint:containedctx // of the one walk that the visitor lives in
	series *Series
	tail   *tailCheck

	lengths     map[string]int64 // looked at, by key
	lastSegment int              // the highest that was there
	damaged     bool             // a problem was named

	lives    []*seriesLife // incarnations in the order met
	history  *history      // of the series' source
	routers  map[int]*router.Router
	unrouted uint64 // raw events, whose subject nobody knows
	notJSON  uint64

	line event.Line
	seqs []uint64 // of the frame at hand
	seg  *Segment
}

// seriesLife is what a series holds of one incarnation.
type seriesLife struct {
	incarnation  int
	created      time.Time
	bitmap       *roaring64.Bitmap
	first, last  uint64
	greatest     time.Time
	lateFirst    uint64 // the least first sequence of frames not before RemovedBefore; 0: none
	doubles      []uint64
	doubledCount uint64
}

func (sv *seriesVisitor) problem(f Finding) {
	sv.damaged = true
	sv.v.col.problem(f)
}

func (sv *seriesVisitor) note(f Finding)   { sv.v.col.note(f) }
func (sv *seriesVisitor) read(bytes int64) { sv.v.col.read(bytes) }

func (sv *seriesVisitor) at(position int64, mend, format string, args ...any) {
	sv.problem(sv.w.finding(sv.seg.Key, position, fmt.Sprintf(format, args...), mend))
}

func (sv *seriesVisitor) begin(seg *Segment, info object.Info) error {
	if sv.lengths == nil {
		sv.lengths = map[string]int64{}
	}
	sv.seg = seg
	sv.lengths[seg.Key] = info.Length
	sv.lastSegment = max(sv.lastSegment, seg.Number)
	sv.v.col.update(func(r *Report) { r.Objects++; r.Segments++ })
	return nil
}

func (sv *seriesVisitor) boundary(seg *Segment, position int64, crc uint64, sound bool, c *event.Chain) {
	if sv.tail != nil && sv.tail.Key == seg.Key {
		sv.tail.at(sv.v, sv.series.Name, position, crc, sound, c)
	}
}

func (sv *seriesVisitor) end(seg *Segment, f *event.Frame, before uint64, sound bool, index []event.IndexEntry, tree *event.Tree) {
	c := &f.Content
	if sv.tail != nil && sv.tail.Key == seg.Key && sv.tail.Position == f.End() {
		sv.tail.met = true
	}
	if c.Kind != event.KindSeal || !sound {
		return
	}
	const mend = "the frames themselves are whole; restore the object from a copy, or keep the finding with it"
	position := f.Place.Position
	if f.Before != before {
		sv.at(position, mend, "the seal's locator says that the bytes before it have CRC-64 %d, they have %d", f.Before, before)
	}
	if root := tree.Root(); c.SegmentRoot == nil || *c.SegmentRoot != root {
		sv.at(position, mend, "the seal's segment root is %v, the frames give %s", c.SegmentRoot, root)
	}
	if len(index) != len(f.Index) {
		sv.at(position, mend, "the seal's index has %d entries for %d frames", len(f.Index), len(index))
		return
	}
	for i, e := range index {
		if g := f.Index[i]; g.Position != e.Position || g.First != e.First || !g.MinTime.Equal(e.MinTime) {
			sv.at(position, mend, "the seal's index entry %d says position %d, first sequence %d; the frame has %d, %d", i+1, g.Position, g.First, e.Position, e.First)
			return
		}
	}
}

// frame checks a frame's events, which Scanner and Chain have not looked at.
func (sv *seriesVisitor) frame(seg *Segment, f *event.Frame, body []byte) error {
	c, position := &f.Content, f.Place.Position
	if err := sv.describe(f); err != nil {
		return err
	}
	if c.EventsRoot != nil {
		if root := event.EventsRoot(body); root != *c.EventsRoot {
			sv.at(position, "", "the frame's events have the root %s, it says %s", root, c.EventsRoot)
		}
	}
	check := lineCheck{sv: sv, f: f}
	rest := body
	sv.seqs = sv.seqs[:0]
	err := event.Sequences(f, body, func(seq uint64, _ time.Time) bool {
		sv.seqs = append(sv.seqs, seq)
		if c.Format != event.Envelope {
			return true
		}
		line := rest
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			line, rest = rest[:i], rest[i+1:]
		}
		return check.line(line, seq)
	})
	if check.err != nil {
		return check.err
	}
	check.report()
	if err != nil {
		sv.at(position, "the frame's hashes hold, so it was written like this: report a bug", "the frame's lines disagree with its header: %v", err)
	}
	sv.count(f)
	if c.Format == event.Raw && !sv.series.Dead() {
		sv.unrouted += uint64(len(sv.seqs))
	}
	return nil
}

// describe checks what the frame's header says of the stream and the layout.
func (sv *seriesVisitor) describe(f *event.Frame) error {
	c, position := &f.Content, f.Place.Position
	if format, _, _ := event.ParseExt(sv.seg.Ext); c.Format != format {
		sv.at(position, "", "a frame in %s form in an object named .%s", c.Format, sv.seg.Ext)
	}
	if sv.series.Dead() {
		want := deadDir + router.Escape(c.Source) + "/" + c.Lane
		if rest, below := strings.CutPrefix(sv.series.Name, want+overtakenDir); want != sv.series.Name && !(below && isNumber(rest)) {
			sv.at(position, "", "dead letters of source %q, lane %q do not belong here but in %s", c.Source, c.Lane, want)
		}
	}
	if c.Stream.Name != c.Source {
		sv.at(position, "", "a frame of source %q that names the stream %q", c.Source, c.Stream.Name)
	}
	// The line of the control log that allows the frame was written before it:
	// what is not known yet is there now.
	layout := func(sequence uint64) bool {
		n := sv.history.layoutAt(c.Stream.Incarnation, sequence)
		return n == c.Layout || c.Layout == 0 && sv.series.Dead() // early writers did not say it of dead letters
	}
	known := func() bool {
		if sv.history = sv.v.control.source(c.Source); sv.history == nil {
			return false
		}
		_, ok := sv.history.stream(c.Stream.Incarnation)
		return ok && sv.history.granted(c.Stream.Incarnation, c.Last) &&
			layout(c.First) && layout(c.Last)
	}
	if !known() {
		if err := sv.v.control.refresh(sv.ctx); err != nil {
			return err
		}
	}
	if known() {
		if id, _ := sv.history.stream(c.Stream.Incarnation); !id.Created.Equal(c.Stream.Created) {
			sv.at(position, "", "incarnation %d of the stream was created at %s, the frame says %s", c.Stream.Incarnation,
				id.Created.Format(time.RFC3339Nano), c.Stream.Created.Format(time.RFC3339Nano))
		}
		return nil
	}
	if sv.history == nil {
		return nil // named once per source by completeness
	}
	id, ok := sv.history.stream(c.Stream.Incarnation)
	switch {
	case !ok:
		sv.at(position, "", "the frame is of incarnation %d of the stream, the control log does not know it", c.Stream.Incarnation)
	case !id.Created.Equal(c.Stream.Created):
		sv.at(position, "", "incarnation %d of the stream was created at %s, the frame says %s", c.Stream.Incarnation,
			id.Created.Format(time.RFC3339Nano), c.Stream.Created.Format(time.RFC3339Nano))
	case !sv.history.granted(c.Stream.Incarnation, c.Last):
		sv.at(position, "report a bug", "the frame holds sequence %d, which no writer was allowed to hand out yet", c.Last)
	default:
		sv.at(position, "report a bug", "sequences %d-%d were archived under layout %d; the control log says layouts %d and %d for them", c.First, c.Last,
			c.Layout, sv.history.layoutAt(c.Stream.Incarnation, c.First), sv.history.layoutAt(c.Stream.Incarnation, c.Last))
	}
	return nil
}

// count takes the frame's sequences into the series' bitmaps.
func (sv *seriesVisitor) count(f *event.Frame) {
	c := &f.Content
	n := uint64(len(sv.seqs))
	sv.v.col.update(func(r *Report) {
		if sv.series.Dead() {
			r.DeadLetters += n
		} else {
			r.Events += n
		}
	})
	if n == 0 {
		return
	}
	var l *seriesLife
	for _, have := range sv.lives {
		if have.incarnation == c.Stream.Incarnation {
			l = have
		}
	}
	if l == nil {
		l = &seriesLife{incarnation: c.Stream.Incarnation, created: c.Stream.Created, bitmap: roaring64.New(), first: sv.seqs[0]}
		sv.lives = append(sv.lives, l)
	}
	if sv.seqs[0] > l.last {
		l.bitmap.AddMany(sv.seqs)
	} else {
		for _, q := range sv.seqs {
			if !l.bitmap.CheckedAdd(q) {
				l.double(q)
			}
		}
	}
	l.first, l.last = min(l.first, sv.seqs[0]), max(l.last, sv.seqs[len(sv.seqs)-1])
	if c.MaxTime.After(l.greatest) {
		l.greatest = c.MaxTime
	}
	if t := sv.v.opt.RemovedBefore; !t.IsZero() && !c.MinTime.Before(t) && (l.lateFirst == 0 || sv.seqs[0] < l.lateFirst) {
		l.lateFirst = sv.seqs[0]
	}
	sv.rewound(l, f)
}

// rewound looks for events that the series holds from an earlier incarnation of
// the same stream: a rewound stream delivers them again, and they must have been
// recognised by sequence and time.
func (sv *seriesVisitor) rewound(l *seriesLife, f *event.Frame) {
	for _, old := range sv.lives {
		if old.incarnation >= l.incarnation || !old.created.Equal(l.created) {
			continue
		}
		if f.Content.MaxTime.After(old.greatest) {
			continue // at least its end is new, and within a stream times rise
		}
		for _, q := range sv.seqs {
			if q <= old.last && old.bitmap.Contains(q) {
				l.double(q)
			}
		}
	}
}

func (l *seriesLife) double(q uint64) {
	l.doubledCount++
	if len(l.doubles) < 1000 {
		l.doubles = append(l.doubles, q)
	}
}

// release gives the routers back and closes the series' account.
func (sv *seriesVisitor) release() {
	if sv.w.started {
		for n, r := range sv.routers {
			sv.v.layouts.put(n, sv.w.chain.Lane, r)
		}
	}
	if sv.unrouted > 0 {
		sv.note(sv.w.finding("", 0, fmt.Sprintf("%d raw events: their subjects are not in the archive, so it cannot be proven that they belong here", sv.unrouted), ""))
	}
	if sv.notJSON > 0 {
		sv.note(sv.w.finding("", 0, fmt.Sprintf("%d events of routes with `payload: json` hold data that is not valid JSON", sv.notJSON), ""))
	}
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

// lineCheck routes the events of one frame again.
type lineCheck struct {
	sv  *seriesVisitor
	f   *event.Frame
	err error

	wrong      int // events that the layout sends elsewhere
	wrongFirst uint64
	wrongTo    string
	broken     error
	brokenAt   uint64
}

func (k *lineCheck) line(line []byte, seq uint64) bool {
	sv, c := k.sv, &k.f.Content
	l := &sv.line
	if err := event.DecodeLine(line, l); err != nil || l.Sequence != seq {
		if err == nil {
			err = fmt.Errorf("it says sequence %d", l.Sequence)
		}
		if k.broken == nil {
			k.broken, k.brokenAt = err, seq
		}
		return true
	}
	if sv.series.Dead() != l.Dead && k.broken == nil {
		k.broken, k.brokenAt = fmt.Errorf("a dead letter has a reason, an event has none"), seq
	}
	if sv.series.Dead() {
		return true
	}
	r, err := sv.router(c.Layout)
	if err != nil {
		k.err = err
		return false
	}
	if r == nil {
		return true
	}
	t := r.Resolve(&router.Message{Subject: l.Subject, Header: l.Header, Data: l.Data, Time: l.Time, Sequence: l.Sequence})
	if t.Route != nil && t.Route.Payload == event.JSON.String() && l.Payload == event.JSON && !json.Valid(l.Data) {
		sv.notJSON++
	}
	if t.Series == sv.series.Name && !t.Skip && t.Poison == "" {
		return true
	}
	k.wrong++
	if k.wrong == 1 {
		k.wrongFirst = seq
		switch {
		case t.Poison != "":
			k.wrongTo = "to the dead letters (" + t.Poison + ")"
		case t.Skip:
			k.wrongTo = "nowhere (it is skipped)"
		default:
			k.wrongTo = "to series " + t.Series
		}
	}
	return true
}

// router is for the layout n and the series' lane; nil if there is none, which
// is named once.
func (sv *seriesVisitor) router(n int) (*router.Router, error) {
	if r, ok := sv.routers[n]; ok {
		return r, nil
	}
	r, err := sv.v.layouts.get(sv.ctx, n, sv.w.chain.Source, sv.w.chain.Lane)
	if err != nil {
		return nil, err
	}
	if sv.routers == nil {
		sv.routers = map[int]*router.Router{}
	}
	sv.routers[n] = r
	return r, nil
}

func (k *lineCheck) report() {
	sv, position := k.sv, k.f.Place.Position
	const bug = "the frame's hashes hold, so it was written like this: report a bug"
	if k.broken != nil {
		sv.at(position, bug, "the line of sequence %d: %v", k.brokenAt, k.broken)
	}
	if k.wrong > 0 {
		sv.at(position, bug, "%d events, from sequence %d on, do not belong into this series: layout %d sends that one %s",
			k.wrong, k.wrongFirst, k.f.Content.Layout, k.wrongTo)
	}
}
