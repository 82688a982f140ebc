package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
	"ossuary/internal/router"
)

// Rebuilt is a ledger made from the objects alone.
type Rebuilt struct {
	Lanes []RebuiltLane // by source and lane
	Tails []RebuiltTail // of the series that are open, by name
	// Problems are why an entry could not be made; the writer then looks the
	// series up by itself, as it does for every series without an entry.
	Problems []Finding
}

// RebuiltLane is a lane's checkpoint, from the newest line of its control log.
type RebuiltLane struct {
	Source, Lane string
	Entry        ledger.Lane
}

// RebuiltTail is a series' tail.
type RebuiltTail struct {
	Source, Lane, Series string
	Entry                ledger.Tail
}

// Rebuild reads the archive and makes the ledger's entries. They equal what the
// writers had put there, but for what only a writer's clock knew (opened,
// written, updated) and the lease. A series that ended with a seal and whose
// events the floor has passed needs no entry.
func Rebuild(ctx context.Context, st store, prefix, archive string, progress func(done, total int64)) (*Rebuilt, error) {
	col := newCollector(progress)
	control := newControlReader(st, prefix, archive, col)
	if err := control.refresh(ctx); err != nil {
		return nil, err
	}
	control.walked = true
	inv, err := Walk(ctx, st, prefix)
	if err != nil {
		return nil, err
	}
	col.update(func(*Report) { col.total = inv.Bytes() })
	out := &Rebuilt{}
	for _, source := range control.sourceNames() {
		s := control.source(source).newest
		for _, lane := range sortedKeys(s.Tallies) {
			t := s.Tallies[lane]
			out.Lanes = append(out.Lanes, RebuiltLane{source, lane, ledger.Lane{Version: ledger.Version, Incarnation: s.Stream.Incarnation,
				Floor: t.Floor, FloorTime: t.FloorTime, Tally: t.Tally}})
		}
	}
	lays := newLayouts(st, prefix, col)
	for i := range inv.Series {
		v := &tailMaker{col: col, ctx: ctx}
		w := &walker{st: st, prefix: prefix, archive: control.archiveName(), series: &inv.Series[i], visit: v}
		if err := w.walk(ctx); err != nil {
			return nil, err
		}
		t := v.tail(w)
		if t == nil {
			continue
		}
		h := control.source(w.chain.Source)
		if h != nil && t.Sealed && w.chain.Incarnation == h.newest.Stream.Incarnation {
			if lane, ok := h.newest.Tallies[w.chain.Lane]; ok && lane.Floor >= t.Last {
				continue
			}
		}
		if t.Route, err = v.route(lays, w); err != nil {
			return nil, err
		}
		out.Tails = append(out.Tails, RebuiltTail{w.chain.Source, w.chain.Lane, w.series.Name, *t})
	}
	out.Problems = col.report().Problems
	return out, nil
}

// tailMaker is the visitor of Rebuild.
type tailMaker struct {
	col *collector
	ctx context.Context //nolint:containedctx // of the one call that the visitor lives in

	key      string
	segment  int
	modified time.Time // of the segment, by the store's clock
	opened   time.Time
	position int64
	crc      uint64
	sound    bool
	frames   int
	events   uint64
	bytes    int64
	next     string // the key that a seal or break names
	damaged  bool   // the end of the series is not known
	layout   int
	line     []byte // the last one, if it is an envelope
}

func (v *tailMaker) begin(seg *Segment, info object.Info) error {
	v.key, v.segment, v.modified = seg.Key, seg.Number, info.Modified.UTC()
	v.opened, v.position, v.crc, v.frames, v.events, v.bytes, v.next = time.Time{}, 0, 0, 0, 0, 0, ""
	v.sound = true
	v.damaged = false // what was wrong with earlier segments does not matter to the tail
	return nil
}

func (v *tailMaker) boundary(_ *Segment, position int64, crc uint64, sound bool, c *event.Chain) {
	v.position, v.crc, v.sound, v.frames = position, crc, sound, c.Frame
}

func (v *tailMaker) frame(_ *Segment, f *event.Frame, body []byte) error {
	if v.events == 0 {
		v.opened = f.Content.MinTime
	}
	v.events += uint64(f.Content.Count)
	v.bytes += int64(len(body))
	v.layout, v.line = f.Content.Layout, v.line[:0]
	if f.Content.Format == event.Envelope && len(body) > 0 {
		start := bytes.LastIndexByte(body[:len(body)-1], '\n') + 1
		v.line = append(v.line, body[start:]...)
	}
	return nil
}

func (v *tailMaker) end(_ *Segment, f *event.Frame, _ uint64, _ bool, _ []event.IndexEntry, _ *event.Tree) {
	v.next = f.Content.Next
}

func (v *tailMaker) problem(f Finding) {
	v.damaged = true
	v.col.problem(f)
}

func (v *tailMaker) note(Finding)     {}
func (v *tailMaker) read(bytes int64) { v.col.read(bytes) }

// tail is what a writer would know now; nil if that cannot be said.
func (v *tailMaker) tail(w *walker) *ledger.Tail {
	c := &w.chain
	if !w.started || (v.next == "" && (v.damaged || !v.sound)) {
		return nil
	}
	t := &ledger.Tail{Version: ledger.Version, Key: v.key, Segment: v.segment, Position: v.position, CRC64: v.crc, Frames: v.frames,
		Last: c.Last, Greatest: c.Greatest, Created: c.Created, Incarnation: c.Incarnation, Hash: c.Prev,
		Events: v.events, Bytes: v.bytes, Opened: v.opened, Written: v.modified}
	if v.next != "" {
		t.Key, t.Segment, t.Position, t.CRC64, t.Frames, t.Events, t.Bytes = v.next, c.Segment, 0, 0, 0, 0, 0
		t.Opened, t.Sealed = time.Time{}, true
	}
	return t
}

// route asks the layout of the series' last frame which route made it; "" if
// that cannot be told (raw events have no subject).
func (v *tailMaker) route(lays *layouts, w *walker) (string, error) {
	var l event.Line
	if isDead(w.series.Name) || len(v.line) == 0 || event.DecodeLine(v.line, &l) != nil {
		return "", nil
	}
	r, err := lays.get(v.ctx, v.layout, w.chain.Source, w.chain.Lane)
	if err != nil || r == nil {
		return "", err
	}
	defer lays.put(v.layout, w.chain.Lane, r)
	t := r.Resolve(&router.Message{Subject: l.Subject, Header: l.Header, Data: l.Data, Time: l.Time, Sequence: l.Sequence})
	if t.Route == nil || t.Series != w.series.Name {
		return "", nil
	}
	return t.Route.Name, nil
}

// Differences compares the rebuilt ledger with one that is there, in words. An
// entry that only lags behind the objects is named too: after a clean stop none
// does.
func (r *Rebuilt) Differences(have []ledger.Entry) (out []string) {
	lanes, tails := map[string]*ledger.Lane{}, map[string]*ledger.Tail{}
	id := func(parts ...string) string { return fmt.Sprintf("%q", parts) }
	for _, e := range have {
		switch {
		case e.Lane != nil:
			lanes[id(e.Source, e.LaneName)] = e.Lane
		case e.Tail != nil:
			tails[id(e.Source, e.LaneName, e.Series)] = e.Tail
		}
	}
	for _, l := range r.Lanes {
		k := id(l.Source, l.Lane)
		switch e := lanes[k]; {
		case e == nil:
			out = append(out, fmt.Sprintf("lane %s of %s: the ledger has no entry; the control log says floor %d", l.Lane, l.Source, l.Entry.Floor))
		case e.Incarnation != l.Entry.Incarnation || e.Floor < l.Entry.Floor:
			out = append(out, fmt.Sprintf("lane %s of %s: the ledger says floor %d of incarnation %d, the control log %d of %d",
				l.Lane, l.Source, e.Floor, e.Incarnation, l.Entry.Floor, l.Entry.Incarnation))
		}
		delete(lanes, k)
	}
	for _, t := range r.Tails {
		k := id(t.Source, t.Lane, t.Series)
		e := tails[k]
		delete(tails, k)
		if e == nil {
			out = append(out, fmt.Sprintf("series %s: the ledger has no entry; the objects end in %s at %d, sequence %d", t.Series, t.Entry.Key, t.Entry.Position, t.Entry.Last))
			continue
		}
		if !sameTail(*e, t.Entry) {
			out = append(out, fmt.Sprintf("series %s: the ledger says %s at %d, sequence %d; the objects end in %s at %d, sequence %d",
				t.Series, e.Key, e.Position, e.Last, t.Entry.Key, t.Entry.Position, t.Entry.Last))
		}
	}
	for k, e := range lanes {
		out = append(out, fmt.Sprintf("lane %s: the ledger says floor %d, the control log has no such lane", k, e.Floor))
	}
	for k, e := range tails {
		out = append(out, fmt.Sprintf("tail %s: the ledger says %s at %d, there is no such open series", k, e.Key, e.Position))
	}
	slices.Sort(out)
	return out
}

// sameTail compares what the objects determine.
func sameTail(a, b ledger.Tail) bool {
	return a.Key == b.Key && a.Segment == b.Segment && a.Position == b.Position && a.CRC64 == b.CRC64 && a.Frames == b.Frames &&
		a.Last == b.Last && a.Greatest.Equal(b.Greatest) && a.Created.Equal(b.Created) && a.Incarnation == b.Incarnation && a.Hash == b.Hash &&
		a.Events == b.Events && a.Bytes == b.Bytes && a.Sealed == b.Sealed && (a.Route == b.Route || a.Route == "" || b.Route == "")
}

// ledgerWriter is what writing a rebuilt ledger needs. Writes are compare-and-swap
// on the revision, 0 for an entry that is not there.
type ledgerWriter interface {
	Lane(ctx context.Context, source, lane string) (ledger.Lane, uint64, error)
	PutLane(ctx context.Context, source, lane string, e ledger.Lane, rev uint64) (uint64, error)
	Tail(ctx context.Context, source, lane, series string) (ledger.Tail, uint64, error)
	PutTail(ctx context.Context, source, lane, series string, t ledger.Tail, rev uint64) (uint64, error)
}

// Write puts the entries into a ledger, where they say more than what it has: an
// entry that is ahead was written by a service that runs, and stays; so does a
// lane's lease. It is safe beside a running service, and does nothing twice when
// repeated. It returns how many entries it wrote.
func (r *Rebuilt) Write(ctx context.Context, w ledgerWriter) (written int, err error) {
	now := time.Now().UTC()
	for _, l := range r.Lanes {
		have, rev, err := w.Lane(ctx, l.Source, l.Lane)
		if err != nil {
			return written, fmt.Errorf("reading lane %s of %s: %w", l.Lane, l.Source, err)
		}
		e := l.Entry
		if rev != 0 {
			if have.Incarnation > e.Incarnation || have.Incarnation == e.Incarnation && have.Floor >= e.Floor {
				continue
			}
			e.Owner, e.Counter, e.Epoch = have.Owner, have.Counter, have.Epoch
		}
		e.Updated = now
		if _, err := w.PutLane(ctx, l.Source, l.Lane, e, rev); errors.Is(err, ledger.ErrConflict) {
			continue // somebody is at work there, and knows more
		} else if err != nil {
			return written, fmt.Errorf("writing lane %s of %s: %w", l.Lane, l.Source, err)
		}
		written++
	}
	for _, t := range r.Tails {
		have, rev, err := w.Tail(ctx, t.Source, t.Lane, t.Series)
		if err != nil {
			return written, fmt.Errorf("reading the tail of %s: %w", t.Series, err)
		}
		if rev != 0 && (sameTail(have, t.Entry) || have.Segment > t.Entry.Segment || have.Segment == t.Entry.Segment && have.Position > t.Entry.Position) {
			continue
		}
		if _, err := w.PutTail(ctx, t.Source, t.Lane, t.Series, t.Entry, rev); errors.Is(err, ledger.ErrConflict) {
			continue
		} else if err != nil {
			return written, fmt.Errorf("writing the tail of %s: %w", t.Series, err)
		}
		written++
	}
	return written, nil
}
