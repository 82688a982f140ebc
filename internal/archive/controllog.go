package archive

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ossuary/internal/control"
	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
)

// maxCheckpoints bounds the tallies remembered per lane and incarnation; beyond
// it every second one is let go.
const maxCheckpoints = 4096

// maxControlLine is the longest line with its newline; writers pass over longer
// ones.
const maxControlLine = 1<<20 + 1

// history is what a source's control log has said over its whole life. The
// package control reads only the newest line, which is all that writers need;
// what was archived under earlier incarnations is proven by earlier lines.
type history struct {
	source string

	mu     sync.Mutex
	lives  map[int]*life // by incarnation
	newest control.State
}

// life is one incarnation of a source's stream.
type life struct {
	stream  event.StreamID
	layouts []control.Since // of the newest line
	horizon uint64          // the highest ever granted
	tallies map[string]*tallies
}

// tallies is what was recorded of one lane in one incarnation, floors rising.
type tallies struct {
	last   ledger.Tally
	points []ledger.Tally
	stride int // of all that came, every stride-th is among points
	came   int
}

func (t *tallies) add(n ledger.Tally) {
	if n.Floor <= t.last.Floor && t.came > 0 {
		return
	}
	t.last = n
	t.came++
	if t.stride == 0 {
		t.stride = 1
	}
	if t.came%t.stride != 0 {
		return
	}
	if len(t.points) == maxCheckpoints {
		for i := range maxCheckpoints / 2 {
			t.points[i] = t.points[2*i+1]
		}
		t.points = t.points[:maxCheckpoints/2]
		t.stride *= 2
	}
	t.points = append(t.points, n)
}

// layoutAt is the layout that holds at a sequence of an incarnation, 0 if that
// is not known.
func (h *history) layoutAt(incarnation int, seq uint64) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lives[incarnation]
	if l == nil {
		return 0
	}
	return control.State{Layouts: l.layouts}.LayoutAt(seq)
}

// layoutUntil is the last sequence for which the layout at seq holds.
func (h *history) layoutUntil(incarnation int, seq uint64) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.lives[incarnation]; l != nil {
		for i, s := range l.layouts {
			if i > 0 && s.Since > seq {
				return s.Since - 1
			}
		}
	}
	return math.MaxUint64
}

// granted reports whether an event of this sequence may have been handed out.
func (h *history) granted(incarnation int, seq uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lives[incarnation]
	return l != nil && seq <= l.horizon
}

func (h *history) stream(incarnation int) (event.StreamID, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.lives[incarnation]; l != nil {
		return l.stream, true
	}
	return event.StreamID{}, false
}

// line takes the next line in. What it says of tallies counts only while counting
// is set: they must be older than the look at the objects.
func (h *history) line(s control.State, counting bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lives[s.Stream.Incarnation]
	if l == nil {
		l = &life{stream: s.Stream, tallies: map[string]*tallies{}}
		h.lives[s.Stream.Incarnation] = l
	}
	l.layouts = s.Layouts
	l.horizon = max(l.horizon, s.HighestHorizon())
	h.newest = s
	if !counting {
		return
	}
	for lane, t := range s.Tallies {
		if l.tallies[lane] == nil {
			l.tallies[lane] = &tallies{}
		}
		l.tallies[lane].add(t.Tally)
	}
}

// controlReader reads the control logs of an archive from their beginning, and
// later what was added.
type controlReader struct {
	st      store
	prefix  string
	archive string // "": what the first line says
	col     *collector

	mu      sync.Mutex
	objects map[string]*controlObject // by key
	sources map[string]*history
	// walked: the objects have been looked at since, so tallies of lines read
	// from now on may count events that were not seen.
	walked bool
}

type controlObject struct {
	read   int64  // bytes looked at; ends with a line
	source string // as its lines say, "" before the first
	told   int64  // foreign bytes already noted end here
	ended  bool   // a line named the next object: what follows counts for nobody
}

func newControlReader(st store, prefix, archive string, col *collector) *controlReader {
	return &controlReader{st: st, prefix: prefix, archive: archive, col: col,
		objects: map[string]*controlObject{}, sources: map[string]*history{}}
}

// source is nil if no control log speaks of it.
func (c *controlReader) source(name string) *history {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sources[name]
}

// refresh reads what was added to all control logs since they were last read.
func (c *controlReader) refresh(ctx context.Context) error {
	var entries []object.Entry
	err := again(ctx, func() error {
		entries = nil
		return c.st.List(ctx, c.prefix+controlDir, func(e object.Entry) error {
			entries = append(entries, e)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("listing control logs: %w", err)
	}
	slices.SortFunc(entries, func(a, b object.Entry) int { return cmp.Compare(a.Key, b.Key) })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		if err := c.object(ctx, e.Key); err != nil {
			return err
		}
	}
	return nil
}

func (c *controlReader) problem(source, key string, position int64, mend, format string, args ...any) {
	c.col.problem(Finding{Source: source, Key: key, Position: position, What: fmt.Sprintf(format, args...), Mend: mend})
}

// object reads one object's new lines. The caller holds mu.
func (c *controlReader) object(ctx context.Context, key string) error {
	const restore = "restore the control log from a version or a copy"
	info, err := head(ctx, c.st, key)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.problem("", key, 0, "make it readable, then verify again", "the control log cannot be read: %v", err)
		return nil
	}
	o := c.objects[key]
	if o == nil {
		o = &controlObject{}
		c.objects[key] = o
		c.col.update(func(r *Report) { r.Objects++ })
	}
	first := o.read == 0
	if info.Length <= o.read {
		return nil
	}
	in := newRangeReader(ctx, c.st, key, o.read, info.Length)
	in.onRead = c.col.read
	defer in.Close()
	lines := bufio.NewReaderSize(in, 256<<10)
	at := o.read
	for {
		p, err := lines.ReadBytes('\n')
		if err != nil && err != io.EOF {
			var unreadable *readError
			if errors.As(err, &unreadable) && ctx.Err() == nil {
				c.problem(o.source, key, at, "make it readable, then verify again", "the control log cannot be read from here on: %v", unreadable.err)
				return nil
			}
			return err
		}
		whole := len(p) > 0 && p[len(p)-1] == '\n'
		if len(bytes.TrimSpace(p)) > 0 {
			c.parse(key, o, at, p, whole)
		}
		at += int64(len(p))
		if whole {
			o.read = at
		}
		if err == io.EOF {
			break
		}
	}
	if first && in.crc != info.CRC64 && in.position == info.Length {
		c.problem(o.source, key, 0, restore, "the object's bytes have CRC-64 %d, the store says %d", in.crc, info.CRC64)
	}
	if o.source == "" && first {
		c.problem("", key, 0, restore, "the control log holds no valid line")
	}
	return nil
}

// parse takes one line in, if it is one: a line states where it stands, and
// anything else is foreign. The caller holds mu.
func (c *controlReader) parse(key string, o *controlObject, at int64, p []byte, whole bool) {
	var s control.State
	var head struct {
		Version  int    `json:"v"`
		Position *int64 `json:"pos"`
	}
	ours := whole && !o.ended && p[0] == '{' && len(p) <= maxControlLine && json.Unmarshal(p, &head) == nil &&
		head.Position != nil && *head.Position == at && head.Version >= 1
	switch {
	case ours && head.Version > control.Version: // the rest may have any form
		c.problem(o.source, key, at, "verify with a newer version of this program", "a line of version %d, this program reads up to %d", head.Version, control.Version)
		return
	case !ours || json.Unmarshal(p, &s) != nil || s.Number < 1 || s.ID == "" || len(s.Layouts) == 0:
		if end := at + int64(len(p)); end > o.told {
			o.told = end
			c.col.note(Finding{Source: o.source, Key: key, Position: at,
				What: fmt.Sprintf("foreign bytes %d-%d in the control log: they are no line of it", at, end-1)})
		}
		return
	}
	if c.archive == "" {
		c.archive = s.Archive
	}
	if s.Archive != c.archive {
		c.problem(s.Source, key, at, "two archives must not share a prefix", "a line of archive %q, this is %q", s.Archive, c.archive)
		return
	}
	if want := cmp.Or(o.source, c.sourceOf(key)); want != "" && s.Source != want {
		c.problem(want, key, at, "two sources must not share a control log", "a line of source %q", s.Source)
		return
	}
	if s.Next != "" && s.Next != nextControl(key) {
		c.problem(s.Source, key, at, "restore the object: was it copied from elsewhere?", "a line that goes on in %q, which is no next object of this one", s.Next)
		return
	}
	o.source, o.ended = s.Source, s.Next != ""
	h := c.sources[s.Source]
	if h == nil {
		h = &history{source: s.Source, lives: map[int]*life{}}
		c.sources[s.Source] = h
		if s.Number != 1 {
			c.col.note(Finding{Source: s.Source, Key: key, Position: at,
				What: fmt.Sprintf("the control log starts with line %d: what earlier ones said is not known", s.Number)})
		}
	} else {
		switch prev := &h.newest; {
		case s.Number != prev.Number+1:
			c.problem(s.Source, key, at, "restore the control log from a version or a copy", "line %d follows line %d", s.Number, prev.Number)
		case s.Stream.Incarnation < prev.Stream.Incarnation:
			c.problem(s.Source, key, at, "", "incarnation %d follows %d", s.Stream.Incarnation, prev.Stream.Incarnation)
		case s.Stream.Incarnation == prev.Stream.Incarnation && !s.Stream.Created.Equal(prev.Stream.Created):
			c.problem(s.Source, key, at, "", "the stream's creation time changes within incarnation %d", s.Stream.Incarnation)
		}
	}
	h.line(s, !c.walked)
}

// splitControl takes the key of a control log's object apart; n is 0 if it is none.
func splitControl(key string) (log string, n int) {
	name, ok := strings.CutSuffix(key, ".jsonl")
	dot := strings.LastIndexByte(name, '.')
	if !ok || dot < 0 {
		return "", 0
	}
	n, err := strconv.Atoi(name[dot+1:])
	if err != nil || n < 1 || controlObjectKey(name[:dot], n) != key {
		return "", 0
	}
	return name[:dot], n
}

func controlObjectKey(log string, n int) string { return fmt.Sprintf("%s.%06d.jsonl", log, n) }

// sourceOf is the source whose control log stands under the key, "" if none does.
func (c *controlReader) sourceOf(key string) string {
	log, _ := splitControl(key)
	return strings.TrimPrefix(log, c.prefix+controlDir)
}

// nextControl is the key of the object in which the log of key goes on.
func nextControl(key string) string {
	log, n := splitControl(key)
	return controlObjectKey(log, n+1)
}

// sourceNames lists the sources that control logs speak of.
func (c *controlReader) sourceNames() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := make([]string, 0, len(c.sources))
	for n := range c.sources {
		names = append(names, n)
	}
	slices.SortFunc(names, strings.Compare)
	return names
}

// archiveName is the archive's name as asked for, or as the control logs say; ""
// if neither does.
func (c *controlReader) archiveName() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.archive
}
