package archive

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"ossuary/internal/event"
)

const (
	// How many series are looked into at once before a merge begins.
	lookTogether = 16
	// What all open series of a merge may hold of stored bytes together, and one of
	// them at least and at most.
	mergeBytes            = 64 << 20
	leastWindow, mostPart = 32 << 10, 1 << 20
)

// SourcesError says that a selection takes events of several streams, or of none.
type SourcesError struct{ Sources []string }

func (e *SourcesError) Error() string {
	return "the archive holds events of several streams: " + strings.Join(e.Sources, ", ")
}

// Snapshot is a selection of what an archive held when it was listed. It can be
// read again and again, and stays the same while the archive grows.
type Snapshot struct {
	r      *Reader
	sel    Selection
	series []Series
	ahead  *[]lookedAt // at each series, once somebody wanted to know; shared with parts
}

// lookedAt is what a series was found to begin with.
type lookedAt struct {
	wanted    bool
	segments  []Segment // from the first that may be wanted on
	from      int64
	fromFrame int
	midway    bool
	single    bool
	source    string // "": not known
	least     struct {
		incarnation int
		sequence    uint64
	}
}

// Snapshot lists the archive. Tail is not looked at.
func (r *Reader) Snapshot(ctx context.Context, sel Selection) (*Snapshot, error) {
	sel.Tail = 0
	series, err := r.list(ctx, &sel)
	if err != nil {
		return nil, err
	}
	return &Snapshot{r: r, sel: sel, series: series, ahead: new([]lookedAt)}, nil
}

// Of is the part of the snapshot that is of one stream.
func (s *Snapshot) Of(source string) *Snapshot {
	part := *s
	part.sel.Source = source
	return &part
}

// Merge yields the selected events of one stream over all series and lanes in the
// order in which the stream had them: by incarnation and sequence, each once. A
// *SourcesError says that there are several streams.
//
// A series is opened when its first event is due and closed behind its last, so
// that memory is in proportion to the series that were written at the same time.
// Other errors are as with Cat.
func (s *Snapshot) Merge(ctx context.Context) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		m, err := s.merge(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		defer m.close()
		m.run(yield)
	}
}

// Sources names the streams of which the selection takes events.
func (s *Snapshot) Sources(ctx context.Context) ([]string, error) {
	m, err := s.merge(ctx)
	var several *SourcesError
	if errors.As(err, &several) {
		return several.Sources, nil
	}
	if err != nil {
		return nil, err
	}
	return m.sources, nil
}

// Raw names the selected series that hold raw events, of which neither subject
// nor headers are archived.
func (s *Snapshot) Raw(ctx context.Context) ([]string, error) {
	m, err := s.merge(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range m.waiting {
		for i := range s.series.Segments {
			if format, _, _ := event.ParseExt(s.series.Segments[i].Ext); format == event.Raw {
				names = append(names, s.series.Name)
				break
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// merge is k-way over the series; those whose turn has not come wait with the
// least that they can begin with.
type merge struct {
	waiting mergeHeap
	sources []string
	open    int
	passed  func(*mergeSeries)
}

type mergeSeries struct {
	series *Series
	c      *reading
	w      *walker

	// The next event, or, while record is nil, what it cannot be before.
	incarnation int
	sequence    uint64
	record      *Record

	next func() (*Record, error, bool)
	stop func()
	done int64 // of its stored bytes
}

type mergeHeap []*mergeSeries

func (h mergeHeap) Len() int { return len(h) }
func (h mergeHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if c := cmp.Or(cmp.Compare(a.incarnation, b.incarnation), cmp.Compare(a.sequence, b.sequence)); c != 0 {
		return c < 0
	}
	if (a.record == nil) != (b.record == nil) {
		return a.record == nil // it may hold the same event, in a series that comes first
	}
	if a.series.Dead() != b.series.Dead() {
		return b.series.Dead()
	}
	return a.series.Name < b.series.Name
}
func (h mergeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *mergeHeap) Push(x any)   { *h = append(*h, x.(*mergeSeries)) }
func (h *mergeHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func (s *Snapshot) merge(ctx context.Context) (*merge, error) {
	series, sel := s.series, &s.sel
	m := &merge{}
	var total, done int64
	for i := range series {
		total += series[i].Size()
	}
	report := func(more int64) {
		if done += more; s.r.Progress != nil {
			s.r.Progress(done, total)
		}
	}
	if err := s.look(ctx); err != nil {
		return nil, err
	}
	for i := range series {
		at := &(*s.ahead)[i]
		if !at.wanted || sel.Source != "" && at.source != "" && at.source != sel.Source {
			report(series[i].Size())
			continue
		}
		if at.source != "" && !slices.Contains(m.sources, at.source) {
			m.sources = append(m.sources, at.source)
		}
		one := &mergeSeries{series: &series[i], incarnation: at.least.incarnation, sequence: at.least.sequence}
		own := *s.r
		own.Progress = func(done, _ int64) {
			report(done - one.done)
			one.done = done
		}
		one.c = &reading{ctx: ctx, r: &own, sel: sel, frozen: true, window: m.window, total: one.series.Size()}
		one.w = one.c.walker(&Series{Name: one.series.Name, Segments: at.segments})
		one.c.series, one.c.single = one.series, at.single
		one.w.from, one.w.fromFrame, one.w.midway = at.from, at.fromFrame, at.midway
		m.waiting = append(m.waiting, one)
	}
	slices.Sort(m.sources)
	if len(m.sources) > 1 {
		return nil, &SourcesError{m.sources}
	}
	m.passed = func(s *mergeSeries) { report(s.series.Size() - s.done) }
	heap.Init(&m.waiting)
	return m, nil
}

// look finds out what each series begins with.
func (s *Snapshot) look(ctx context.Context) error {
	if len(*s.ahead) == len(s.series) {
		return nil
	}
	quiet := *s.r
	quiet.Progress = nil
	ahead := make([]lookedAt, len(s.series))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookTogether)
	for i := range s.series {
		g.Go(func() (err error) {
			c := &reading{ctx: gctx, r: &quiet, sel: &s.sel, frozen: true}
			w := c.walker(&s.series[i])
			at := &ahead[i]
			if at.wanted, err = c.seek(w); err != nil {
				return err
			}
			at.segments, at.from, at.fromFrame, at.midway, at.single = w.series.Segments, w.from, w.fromFrame, w.midway, c.single
			in := scanOf(w, &at.segments[0])
			if f := in.header(gctx, w.from); f != nil && in.ours(f) {
				at.source = f.Content.Source
				if f.Content.Kind == event.KindData {
					at.least.incarnation, at.least.sequence = f.Content.Stream.Incarnation, f.Content.First
				}
			}
			return gctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	*s.ahead = ahead
	return nil
}

// window is how much each open series may ask for at a time.
func (m *merge) window() int64 {
	return min(max(mergeBytes/int64(max(1, m.open)), leastWindow), mostPart)
}

func (m *merge) run(yield func(*Record, error) bool) {
	var last mergeSeries
	begun := false
	for len(m.waiting) > 0 {
		s := m.waiting[0]
		if s.record != nil {
			// Once, whatever series it stands in: a dead letter that was driven
			// through the routes again stands in two.
			if again := begun && s.incarnation == last.incarnation && s.sequence == last.sequence; !again {
				begun, last.incarnation, last.sequence = true, s.incarnation, s.sequence
				if !yield(s.record, nil) {
					return
				}
			}
		}
		if s.next == nil {
			m.open++
			s.next, s.stop = iter.Pull2(s.events())
		}
		record, err, ok := s.next()
		for ok && err != nil {
			if !yield(nil, err) {
				return
			}
			var damage *DamageError
			if !errors.As(err, &damage) {
				return
			}
			record, err, ok = s.next()
		}
		if !ok {
			s.stop()
			m.open--
			m.passed(s)
			heap.Pop(&m.waiting)
			continue
		}
		s.record, s.incarnation, s.sequence = record, record.Incarnation, record.Sequence
		heap.Fix(&m.waiting, 0)
	}
}

// events walks the series from where seek has left it.
func (s *mergeSeries) events() iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		s.c.yield = yield
		if err := s.c.walk(s.w); err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

func (m *merge) close() {
	for _, s := range m.waiting {
		if s.stop != nil {
			s.stop()
		}
	}
}
