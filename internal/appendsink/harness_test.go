package appendsink

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

// The harness: a stream as a slice, lanes that archive it epoch by epoch with
// the real sinks, and a reader that knows standard gzip and JSON only.

var created = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// fakeLedger keeps tails in memory. Each operation can fail, by what is planted in
// its context or by the hook, as those of objecttest.Store can.
type fakeLedger struct {
	mu    sync.Mutex
	tails map[string]ledger.TailEntry
	rev   uint64
	late  []func() // writes on the wire whose callers have given up
	fault func(op string) (before, after error)
}

func newLedger() *fakeLedger { return &fakeLedger{tails: map[string]ledger.TailEntry{}} }

// do is one operation. apply changes the tails, or reads them.
func (l *fakeLedger) do(ctx context.Context, op string, apply func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f := objecttest.Planted(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault != nil {
		before, after := l.fault(op)
		f.Before, f.After = cmp.Or(f.Before, before), cmp.Or(f.After, after)
	}
	switch {
	case f.Before != nil:
		l.arrive()
		return f.Before
	case f.Late:
		l.arrive()
		l.late = append(l.late, func() { _ = apply() }) // nobody waits for the answer
		return cmp.Or(f.After, ledger.ErrInDoubt)
	}
	err := apply()
	l.arrive()
	return cmp.Or(f.After, err)
}

// arrive lets the late writes arrive; l.mu is held.
func (l *fakeLedger) arrive() {
	late := l.late
	l.late = nil
	for _, apply := range late {
		apply()
	}
}

func (l *fakeLedger) Tails(ctx context.Context, _, _ string) (out map[string]ledger.TailEntry, err error) {
	err = l.do(ctx, "tails", func() error { out = maps.Clone(l.tails); return nil })
	return out, err
}

func (l *fakeLedger) Tail(ctx context.Context, _, _, series string) (t ledger.Tail, rev uint64, err error) {
	err = l.do(ctx, "tail", func() error { t, rev = l.tails[series].Tail, l.tails[series].Revision; return nil })
	return t, rev, err
}

func (l *fakeLedger) PutTail(ctx context.Context, _, _, series string, t ledger.Tail, rev uint64) (uint64, error) {
	var next uint64
	err := l.do(ctx, "put", func() error {
		if l.tails[series].Revision != rev {
			return ledger.ErrConflict
		}
		l.rev++
		next = l.rev
		l.tails[series] = ledger.TailEntry{Tail: t, Revision: next}
		return nil
	})
	if err != nil {
		return 0, err // next may yet be written to, if the write is late
	}
	return next, nil
}

func (l *fakeLedger) DeleteTail(ctx context.Context, _, _, series string, rev uint64) error {
	return l.do(ctx, "delete", func() error {
		if l.tails[series].Revision != rev {
			return ledger.ErrConflict
		}
		delete(l.tails, series)
		return nil
	})
}

func (l *fakeLedger) wipe() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tails = map[string]ledger.TailEntry{}
}

func (l *fakeLedger) copy() map[string]ledger.TailEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.tails)
}

// world is a stream, a store and a ledger.
type world struct {
	t      testing.TB
	store  *objecttest.Store
	ledger *fakeLedger
	mu     sync.Mutex
	events []event.Event
	series int
	spec   func(series string) Spec
	log    zerolog.Logger
	m      Metrics
	budget *Budget
	open   int

	layout   func(e *event.Event, s *Spec) // may be nil: one layout for all
	vanished func(e *event.Event) bool     // may be nil: an event that the stream has no more

	// Of a stream that is rewound: what the control log says. Guarded by mu.
	rewinds     bool
	incarnation int
	confirmed   map[uint64]bool // by anybody

	confirming func(slots []uint64) // may be nil: called first when slots are confirmed
	pressed    func() bool          // may be nil
}

func newWorld(t testing.TB, events, series int) *world {
	w := &world{t: t, store: objecttest.New(), ledger: newLedger(), series: series, budget: NewBudget(8 << 20), log: zerolog.Nop(),
		confirmed: map[uint64]bool{}}
	if os.Getenv("OSSUARY_TEST_LOG") != "" {
		w.log = zerolog.New(zerolog.NewConsoleWriter(func(c *zerolog.ConsoleWriter) { c.Out = os.Stderr })).Level(zerolog.DebugLevel)
	}
	w.spec = func(string) Spec {
		return Spec{Route: "r", Layout: 1, Codec: event.Gzip, Flush: Flush{Size: 400, Events: 4, Linger: 10 * time.Millisecond},
			Roll: Roll{Size: 3000}}
	}
	w.publish(events)
	return w
}

func (w *world) publish(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range n {
		w.publishLocked(created)
	}
}

func (w *world) publishLocked(created time.Time) {
	q := uint64(1)
	at := created
	if n := len(w.events); n > 0 {
		q, at = w.events[n-1].Sequence+1, w.events[n-1].Time
	}
	w.events = append(w.events, event.Event{Sequence: q, Time: at.Add(time.Second),
		Subject: fmt.Sprintf("e.%d", int(q)%w.series), Data: fmt.Appendf(nil, `{"n":%d,"at":%d}`, q, at.Unix())})
}

func (w *world) at(i int) (event.Event, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i >= len(w.events) {
		return event.Event{}, false
	}
	return w.events[i], true
}

// lane is one instance at work.
type lane struct {
	w      *world
	store  store
	ledger checkpoints
	stream event.StreamID
	mu     sync.Mutex
	floor  uint64    // of confirmed, contiguous slots; slots are sequences here
	at     time.Time // of the event at the floor
	done   map[uint64]bool
	spec   func(series string) Spec
	specs  map[string]*Spec
	skip   func(e *event.Event) bool // an event that this lane does not see
	epochs int
	last   error
	rest   time.Duration // that nothing comes before an epoch is drained
}

func (w *world) lane() *lane {
	return &lane{w: w, store: w.store, ledger: w.ledger, stream: event.StreamID{Name: "S", Created: created}, done: map[uint64]bool{}, spec: w.spec, specs: map[string]*Spec{}}
}

func (l *lane) confirm(slots []uint64) {
	if l.w.confirming != nil {
		l.w.confirming(slots)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range slots {
		if l.done[s] {
			l.w.t.Errorf("slot %d confirmed twice", s)
		}
		l.done[s] = true
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	for _, s := range slots {
		l.w.confirmed[s] = true
	}
}

// sees says whether the lane gets the event.
func (l *lane) sees(e *event.Event) bool {
	return (l.skip == nil || !l.skip(e)) && (l.w.vanished == nil || !l.w.vanished(e))
}

// identify finds out, as the intake does, whether the stream was rewound.
func (l *lane) identify() {
	w := l.w
	if !w.rewinds {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := int(l.floor); l.stream.Incarnation == w.incarnation && f > 0 && (len(w.events) < f || !w.events[f-1].Time.Equal(l.at)) {
		w.incarnation++
	}
	if l.stream.Incarnation != w.incarnation {
		l.stream.Incarnation, l.floor, l.done = w.incarnation, 0, map[uint64]bool{}
	}
}

// advance computes the floor, over events this lane does see.
func (l *lane) advance() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := 0; ; i++ {
		e, ok := l.w.at(i)
		if !ok {
			return l.floor
		}
		if e.Sequence <= l.floor || !l.sees(&e) {
			continue
		}
		if !l.done[e.Sequence] {
			return l.floor
		}
		l.floor, l.at = e.Sequence, e.Time
	}
}

func (l *lane) newSet() *Set {
	dead := &Spec{Series: "_ossuary/dead/S/0", Route: "dead", Flush: Flush{Size: 1000, Events: 10, Linger: time.Millisecond}}
	return NewSet(Options{Archive: "a", Source: "S", Lane: "0", Prefix: "p/", Stream: l.stream, Store: l.store, Ledger: l.ledger,
		LedgerInterval: 20 * time.Millisecond, Budget: l.w.budget, Appends: semaphore.NewWeighted(4), OpenSeries: l.w.open,
		Dead: func(int) *Spec { return dead }, RouteRoll: func(string) Roll { return l.spec("").Roll },
		Confirm: l.confirm, Forget: func(uint64) {}, Floor: l.advance, Pressed: l.w.pressed, Metrics: &l.w.m, Log: l.w.log})
}

func (l *lane) target(e *event.Event) *Spec {
	name := strings.ReplaceAll(e.Subject, ".", "/")
	var s Spec
	if l.w.layout != nil {
		l.w.layout(e, &s)
	}
	key := fmt.Sprint(s.Layout, s.Codec, " ", name)
	if l.specs[key] == nil {
		s = l.spec(name)
		s.Series = name
		if l.w.layout != nil {
			l.w.layout(e, &s)
		}
		l.specs[key] = &s
	}
	return l.specs[key]
}

// onTheWay is how many events a lane has pulled that it has not handed over.
const onTheWay = 8

// epoch archives everything there is above the floor, then drains.
func (l *lane) epoch(ctx context.Context) error {
	l.epochs++
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.identify()
	floor := l.advance()
	l.mu.Lock()
	l.done = map[uint64]bool{}
	l.mu.Unlock()
	set := l.newSet()
	if err := set.Load(ctx); err != nil {
		return err
	}
	ran := make(chan error, 1)
	go func() {
		ran <- set.Run(ctx)
		cancel()
	}()
	// A few events are on their way at any time: what vanishes then, arrives.
	var pulled []event.Event
	next := 0
	pull := func() {
		for len(pulled) < onTheWay {
			e, ok := l.w.at(next)
			if !ok {
				return
			}
			next++
			if e.Sequence > floor && l.sees(&e) {
				pulled = append(pulled, e)
			}
		}
	}
	feed := func() error {
		for {
			pull()
			if len(pulled) == 0 {
				if l.rest > 0 {
					select {
					case <-time.After(l.rest):
					case <-ctx.Done():
					}
				}
				return set.Drain(ctx)
			}
			e := pulled[0]
			pulled = pulled[1:]
			if err := set.Add(ctx, l.target(&e), &e, e.Sequence); err != nil {
				return err
			}
		}
	}
	err := feed()
	cancel()
	if runErr := <-ran; runErr != nil {
		err = runErr
	}
	return err
}

// finish runs epochs until everything is archived.
func (l *lane) finish(ctx context.Context) {
	for ctx.Err() == nil {
		err := l.epoch(ctx)
		if err == nil && l.complete() {
			return
		}
		l.last = err
		var reuse *ReuseError
		if errors.As(err, &reuse) {
			l.w.mu.Lock()
			l.w.incarnation = max(l.w.incarnation, reuse.Incarnation+1)
			l.w.mu.Unlock()
			if !l.w.rewinds {
				l.stream.Incarnation = reuse.Incarnation + 1
			}
			l.mu.Lock()
			l.floor, l.done = 0, map[uint64]bool{}
			l.mu.Unlock()
		}
		if l.epochs > 1000 {
			l.w.t.Fatalf("no end after %d epochs; last: %v", l.epochs, err)
		}
	}
}

// complete says that nothing was forgotten.
func (l *lane) complete() bool {
	floor := l.advance()
	for i := 0; ; i++ {
		e, ok := l.w.at(i)
		if !ok {
			return true
		}
		if e.Sequence > floor && l.sees(&e) {
			return false
		}
	}
}

// archived reads all segments as an outsider would: standard decompression, one
// JSON object per line. By series name, in segment order.
func (w *world) archived() map[string][]event.Event {
	w.t.Helper()
	out := map[string][]event.Event{}
	for _, key := range w.store.Keys() {
		rest, ok := strings.CutPrefix(key, "p/")
		if !ok {
			w.t.Fatalf("key %s is outside of the prefix", key)
		}
		base, ext, _ := strings.Cut(rest, ".")
		_, ext, _ = strings.Cut(ext, ".")
		var r io.Reader = bytes.NewReader(w.store.Bytes(key))
		switch ext {
		case "ndjson.gz":
			z, err := gzip.NewReader(r)
			if err != nil {
				w.t.Fatalf("%s: %v", key, err)
			}
			r = z
		case "ndjson.zst":
			z, err := zstd.NewReader(r)
			if err != nil {
				w.t.Fatal(err)
			}
			defer z.Close()
			r = z
		}
		sc := bufio.NewScanner(r)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			var line struct {
				Seq     uint64
				TS      time.Time
				Subject string
				Data    json.RawMessage
				Ossuary json.RawMessage `json:"_ossuary"`
				Index   json.RawMessage `json:"_ossuary_index"`
				Seal    json.RawMessage `json:"_ossuary_seal"`
			}
			if err := json.Unmarshal(sc.Bytes(), &line); err != nil {
				w.t.Fatalf("%s: %q: %v", key, sc.Text(), err)
			}
			if line.Seq == 0 {
				continue
			}
			out[base] = append(out[base], event.Event{Sequence: line.Seq, Time: line.TS, Subject: line.Subject, Data: line.Data})
		}
		if err := sc.Err(); err != nil && !errors.Is(err, gzip.ErrHeader) {
			w.t.Fatalf("%s: %v", key, err)
		}
	}
	return out
}

// check asserts that every event stands once, in order, in its series, with its
// bytes, and returns how many dead letters there are.
func (w *world) check() (dead int) {
	w.t.Helper()
	want := map[string][]event.Event{}
	for _, e := range w.events {
		name := strings.ReplaceAll(e.Subject, ".", "/")
		want[name] = append(want[name], e)
	}
	got := w.archived()
	letters := map[uint64]bool{}
	for name, es := range got {
		if strings.HasPrefix(name, "_ossuary/dead/") {
			for _, e := range es {
				if letters[e.Sequence] {
					w.t.Errorf("dead letter %d stands twice", e.Sequence)
				}
				letters[e.Sequence] = true
			}
			continue
		}
		if want[name] == nil {
			w.t.Errorf("series %s: not expected", name)
		}
	}
	for name, es := range want {
		es = slices.DeleteFunc(slices.Clone(es), func(e event.Event) bool { return letters[e.Sequence] })
		var a, b []string
		for _, e := range es {
			a = append(a, fmt.Sprintf("%d %s %s", e.Sequence, e.Subject, e.Data))
		}
		for _, e := range got[name] {
			b = append(b, fmt.Sprintf("%d %s %s", e.Sequence, e.Subject, e.Data))
		}
		if !slices.Equal(a, b) {
			w.t.Errorf("series %s: archived\n  %s\nwant\n  %s", name, strings.Join(b, "\n  "), strings.Join(a, "\n  "))
		}
	}
	w.checkChains()
	return len(letters)
}

// checkChains walks every series by its seals and breaks with the shared checker.
func (w *world) checkChains() {
	w.t.Helper()
	for _, key := range w.store.Keys() {
		name, segment, ext, ok := event.ParseKey("p/", key)
		if !ok {
			w.t.Errorf("%s is no segment", key)
			continue
		}
		_, codec, _ := event.ParseExt(ext)
		c := event.Chain{Archive: "a", Source: "S", Lane: "0", Series: name, Segment: segment}
		sc := event.NewScanner(bytes.NewReader(w.store.Bytes(key)), codec, 0, 0)
		for {
			f, _, err := sc.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = c.Check(f)
			}
			if err != nil {
				w.t.Errorf("%s: %v", key, err)
				break
			}
			c.Advance(f)
			if f.Content.Kind != event.KindData && sc.Position() != int64(len(w.store.Bytes(key))) {
				w.t.Errorf("%s: bytes behind the %s", key, f.Content.Kind)
			}
		}
	}
	for series, e := range w.ledger.copy() {
		b := w.store.Bytes(e.Key)
		if int64(len(b)) < e.Position || object.CRC64(0, b[:e.Position]) != e.CRC64 {
			w.t.Errorf("ledger entry of %s is not a prefix of %s", series, e.Key)
		}
	}
}

// walk reads every series frame by frame from its first segment, following seals
// and breaks by the keys they name.
func (w *world) walk() map[string][]string {
	w.t.Helper()
	out := map[string][]string{}
	first := map[string]string{}
	for _, key := range w.store.Keys() {
		if name, _, _, ok := event.ParseKey("p/", key); ok && first[name] == "" {
			first[name] = key
		}
	}
	for name, key := range first {
		_, segment, _, _ := event.ParseKey("p/", key)
		c := event.Chain{Archive: "a", Source: "S", Lane: "0", Series: name, Segment: segment, Anchored: segment == 1}
		for key != "" {
			_, _, ext, _ := event.ParseKey("p/", key)
			_, codec, _ := event.ParseExt(ext)
			b := w.store.Bytes(key)
			sc := event.NewScanner(bytes.NewReader(b), codec, 0, 0)
			next := ""
			for next == "" {
				at := sc.Position()
				f, body, err := sc.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err == nil {
					err = c.Check(f)
				}
				if err != nil {
					f, _, ferr := event.FindBreak(bytes.NewReader(b[at:]), codec, at, func(f *event.Frame) bool {
						return f.Content.Valid == at && c.Check(f) == nil
					})
					if ferr != nil || f == nil {
						// Foreign bytes at the very end, met by nobody yet.
						if !bytes.HasSuffix(b, []byte("foreign bytes\n")) {
							w.t.Errorf("%s: %v, and no break: %v", key, err, ferr)
						}
						break
					}
					c.Advance(f)
					next = f.Content.Next
					break
				}
				c.Advance(f)
				next = f.Content.Next
				for _, line := range bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n")) {
					if len(line) == 0 {
						continue
					}
					var l event.Line
					if err := event.DecodeLine(line, &l); err != nil {
						w.t.Errorf("%s: %v", key, err)
					}
					out[name] = append(out[name], fmt.Sprintf("%d %s", l.Sequence, l.Data))
				}
			}
			if next != "" {
				_, segment, _, _ := event.ParseKey("p/", next)
				c.Segment, c.Frame = segment, 0
			}
			key = next
		}
	}
	return out
}

// idle asserts that nothing of the budget is taken and no gauge is up, as must be
// once no set runs any more.
func (w *world) idle() {
	w.t.Helper()
	if used, held := w.budget.Used(); used != 0 || held != 0 {
		w.t.Errorf("budget: %d used, %d held after the end", used, held)
	}
	if open, held := w.m.OpenSeries.Load(), w.m.HeldSeries.Total(); open != 0 || held != 0 {
		w.t.Errorf("metrics: %d series open, %d held after the end", open, held)
	}
}
