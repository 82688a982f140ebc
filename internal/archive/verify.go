package archive

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
	"ossuary/internal/router"
)

// ledgerReader is what verification reads of the ledger: all entries, as of one
// moment not earlier than the call.
type ledgerReader interface {
	All(ctx context.Context) ([]ledger.Entry, error)
}

// Prober asks the source stream itself.
type Prober interface {
	// Next returns the first message with a sequence not below from whose subject
	// one of the filters takes, nil if there is none.
	Next(ctx context.Context, filters []string, from uint64) (*router.Message, error)
}

// Options say what to verify, and against what.
type Options struct {
	Archive string // name; "": as the objects say (a copy without its configuration)
	Prefix  string
	Store   store

	Ledger ledgerReader // nil: not compared
	// Probe gives access to a source's stream, nil if it is not reachable or not
	// the stream of that identity any more. Optional.
	Probe func(ctx context.Context, id event.StreamID) (Prober, error)

	// RemovedBefore says that objects with events before this time may have been
	// removed on purpose (a lifecycle rule): that they are missing is then noted,
	// not a problem. Zero: nothing was removed but whole segments at the front of
	// series that still exist.
	RemovedBefore time.Time

	Parallel int                     // series read at once; 0: GOMAXPROCS
	Progress func(done, total int64) // bytes; called from any goroutine, one call at a time
}

// verification is one run of Verify.
type verification struct {
	opt     Options
	col     *collector
	control *controlReader
	layouts *layouts
	seen    *sequences
	tails   map[string]*tailCheck // by series
	lanes   []ledger.Entry        // lane entries
}

// Verify reads the whole archive and proves what can be proven of it. An error
// means that it could not be done; what is wrong with the archive is in the
// report.
//
// An archive that is being written verifies clean, because of the order of the
// reads. What promises something of the objects (the tallies of the control log,
// the tails and floors of the ledger) is read before the objects are listed and
// their lengths taken: everything promised then is in the bytes looked at later.
// What the objects rest on (layouts, horizons, incarnations) is read again
// whenever a frame asks for more than is known: it was written before the frame.
func Verify(ctx context.Context, opt Options) (*Report, error) {
	v := &verification{opt: opt, col: newCollector(opt.Progress), tails: map[string]*tailCheck{}}
	v.control = newControlReader(opt.Store, opt.Prefix, opt.Archive, v.col)
	v.layouts = newLayouts(opt.Store, opt.Prefix, v.col)
	v.seen = newSequences()

	if err := v.readLedger(ctx); err != nil {
		return nil, err
	}
	if err := v.control.refresh(ctx); err != nil {
		return nil, err
	}
	v.control.walked = true

	inv, err := Walk(ctx, opt.Store, opt.Prefix)
	if err != nil {
		return nil, err
	}
	v.col.update(func(*Report) { v.col.total = inv.Bytes() })
	for _, e := range inv.Strange {
		v.col.note(Finding{Key: e.Key, What: "not an object of this archive; it was not looked at"})
	}
	if err := v.layouts.loadAll(ctx, inv.Layouts); err != nil {
		return nil, err
	}

	group, gctx := errgroup.WithContext(ctx)
	if opt.Parallel <= 0 {
		opt.Parallel = runtime.GOMAXPROCS(0)
	}
	group.SetLimit(opt.Parallel)
	for i := range inv.Series {
		group.Go(func() error {
			if gctx.Err() != nil {
				return gctx.Err()
			}
			return v.series(gctx, &inv.Series[i])
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := v.completeness(ctx); err != nil {
		return nil, err
	}
	v.looseTails(ctx)
	if len(inv.Series)+len(inv.Layouts)+len(v.control.sourceNames()) == 0 {
		v.col.note(Finding{What: fmt.Sprintf("there is no object of an archive under the prefix %q: nothing was proven", v.opt.Prefix)})
	}
	return v.col.report(), nil
}

// series walks one series.
func (v *verification) series(ctx context.Context, s *Series) error {
	sv := &seriesVisitor{v: v, ctx: ctx, series: s, tail: v.tails[s.Name]}
	w := &walker{st: v.opt.Store, prefix: v.opt.Prefix, archive: v.control.archiveName(), series: s, visit: sv}
	sv.w = w
	err := w.walk(ctx)
	sv.release()
	if err != nil {
		return err
	}
	if sv.tail != nil {
		v.compareTail(sv)
	}
	v.seen.merge(v.col, sv)
	return nil
}

// readLedger takes the ledger's entries as they are before anything is listed.
func (v *verification) readLedger(ctx context.Context) error {
	if v.opt.Ledger == nil {
		return nil
	}
	entries, err := v.opt.Ledger.All(ctx)
	if errors.Is(err, ledger.ErrNoBucket) {
		v.col.note(Finding{What: "there is no ledger: nothing was compared with it"})
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the ledger: %w", err)
	}
	for _, e := range entries {
		f := Finding{Source: e.Source, Series: e.Series, Key: "ledger " + e.Key}
		switch {
		case errors.Is(e.Err, ledger.ErrNewer):
			f.What, f.Mend = "the ledger's entry is of a newer version", "verify with a newer version of this program"
			v.col.problem(f)
		case e.Err != nil:
			f.What, f.Mend = fmt.Sprintf("the ledger's entry cannot be read: %v", e.Err), "rebuild the ledger"
			v.col.problem(f)
		case e.Lane != nil:
			v.lanes = append(v.lanes, e)
		case e.Tail != nil:
			if other := v.tails[e.Series]; other != nil {
				f.What, f.Mend = fmt.Sprintf("two lanes have a tail of this series: %s/%s and this one", other.source, other.lane), "rebuild the ledger"
				v.col.note(f)
			}
			v.tails[e.Series] = &tailCheck{Tail: *e.Tail, source: e.Source, lane: e.LaneName, entry: e.Key}
		}
	}
	return nil
}

// tailCheck compares a ledger entry with the object it speaks of.
type tailCheck struct {
	ledger.Tail
	source, lane, entry string

	met bool // a frame ends at its position, or it is at a segment's start
	ran bool // its series was walked
}

func (v *verification) tailProblem(t *tailCheck, series, format string, args ...any) {
	v.col.problem(Finding{Source: t.source, Series: series, Key: t.Key, Position: t.Position,
		What: "the ledger's entry " + t.entry + ": " + fmt.Sprintf(format, args...),
		Mend: "if the segment itself is whole, rebuild the ledger; a writer that believes the entry finds out and reads on"})
}

// at compares the entry where a frame ends.
func (t *tailCheck) at(v *verification, series string, position int64, crc uint64, sound bool, c *event.Chain) {
	if position != t.Position {
		return
	}
	t.met = true
	if !sound {
		return // named as damage already
	}
	if position > 0 && crc != t.CRC64 {
		v.tailProblem(t, series, "it says that the bytes before %d have CRC-64 %d, they have %d", position, t.CRC64, crc)
		return
	}
	if position == 0 && !c.Anchored {
		return
	}
	switch {
	case c.Prev != t.Hash:
		v.tailProblem(t, series, "it says that the last frame's hash is %s, it is %s", t.Hash, c.Prev)
	case c.Last != t.Last || c.Incarnation != t.Incarnation:
		v.tailProblem(t, series, "it says that the last sequence is %d of incarnation %d, it is %d of %d", t.Last, t.Incarnation, c.Last, c.Incarnation)
	case position > 0 && c.Frame != t.Frames:
		v.tailProblem(t, series, "it says that %d frames stand before its position, there are %d", t.Frames, c.Frame)
	case !c.Greatest.Equal(t.Greatest):
		v.tailProblem(t, series, "it says that the greatest timestamp is %s, it is %s", t.Greatest.Format(time.RFC3339Nano), c.Greatest.Format(time.RFC3339Nano))
	}
}

// compareTail is called behind the walk of the entry's series.
func (v *verification) compareTail(sv *seriesVisitor) {
	t, c := sv.tail, &sv.w.chain
	t.ran = true
	if sv.w.started && (c.Source != t.source || c.Lane != t.lane) {
		v.tailProblem(t, sv.series.Name, "the series is of source %q, lane %q", c.Source, c.Lane)
		return
	}
	switch first := sv.series.Segments[0].Number; {
	case t.met:
	case t.Segment < first:
		v.col.note(Finding{Source: t.source, Series: sv.series.Name, Key: t.Key, Position: t.Position,
			What: "the ledger's tail is in a segment that was removed; the writer will look for the highest one"})
	case t.Position == 0 && (t.Segment > sv.lastSegment || !sv.w.started):
		// Nothing was written to this segment yet. What came before it, the
		// chain's end says.
		t.met = true
		if sv.w.started && !sv.damaged && t.Segment == c.Segment {
			t.at(v, sv.series.Name, 0, 0, true, c)
		}
	case t.Position == 0: // older than the segment's first frame
	case sv.lengths[t.Key] < t.Position:
		v.tailProblem(t, sv.series.Name, "it says that the object has at least %d bytes, it has %d", t.Position, sv.lengths[t.Key])
	case !sv.damaged:
		v.tailProblem(t, sv.series.Name, "no frame ends at its position")
	}
}

// looseTails names entries of series that have no object at all.
func (v *verification) looseTails(ctx context.Context) {
	for series, t := range v.tails {
		if t.ran || t.Position == 0 {
			continue
		}
		// The listing was taken after the ledger was read: the object was there.
		if _, err := head(ctx, v.opt.Store, t.Key); err == nil || object.KindOf(err) != object.NotFound {
			continue
		}
		v.tailProblem(t, series, "the object it speaks of does not exist, nor does any other of its series")
	}
}
