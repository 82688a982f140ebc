package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"ossuary/internal/control"
	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
	"ossuary/internal/router"
)

// builder writes an archive by the book, without the packages that do so in
// production: what these do wrong must not be invisible here.
type builder struct {
	t      testing.TB
	st     *objecttest.Store
	prefix string
	codec  event.Codec
	stream event.StreamID
	state  control.State
	layout router.Layout
	series map[string]*written
	fw     *event.FrameWriter
	audit  bool
}

// written is a series as its writer knows it.
type written struct {
	b     *builder
	name  string
	ext   string
	chain event.Chain
	key   string
	pos   int64
	crc   uint64
	index []event.IndexEntry
	tree  event.Tree
	tail  ledger.Tail
	lines uint64
	bytes int64
}

var epoch = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// timeOf is the stream timestamp of a sequence in its first life.
func timeOf(seq uint64) time.Time { return epoch.Add(time.Duration(seq) * time.Millisecond) }

func newBuilder(t testing.TB, codec event.Codec) *builder {
	b := &builder{t: t, st: objecttest.New(), prefix: "a/", codec: codec, series: map[string]*written{}, fw: event.NewFrameWriter(0),
		stream: event.StreamID{Name: "ORDERS", Created: epoch.Add(-time.Hour)}}
	b.layout = router.Layout{Version: router.LayoutVersion, Archive: "arch", Source: "ORDERS", Prefix: b.prefix, Lanes: 1,
		EscapeVersion: router.EscapeVersion, EncoderVersion: router.EncoderVersion, Routes: []router.Route{
			{Name: "noise", Subjects: []string{"orders.noise"}, Skip: true, Format: "envelope", Codec: codec.String(), Payload: "auto", Newline: "refuse"},
			{Name: "orders", Subjects: []string{"orders.>"}, Series: "orders/{{token(2)}}", Format: "envelope", Codec: codec.String(), Payload: "auto", Newline: "refuse"},
		}}
	b.saveLayout(1)
	b.state = control.State{Version: control.Version, Archive: "arch", Source: "ORDERS", Stream: b.stream, From: 1,
		Layouts: []control.Since{{Layout: 1, Since: 1}}, Base: 1_000_000}
	b.say(func(*control.State) {})
	return b
}

func (b *builder) saveLayout(n int) {
	b.st.Replace(fmt.Sprintf("%s_ossuary/layout/%d.json", b.prefix, n), b.layout.Canonical())
}

func (b *builder) controlKey() string { return b.prefix + "_ossuary/control/ORDERS.000001.jsonl" }

// say appends a line to the control log.
func (b *builder) say(change func(*control.State)) {
	b.state = b.state.Clone()
	change(&b.state)
	b.state.Number++
	b.state.ID = fmt.Sprintf("id%d", b.state.Number)
	b.state.Position = int64(len(b.st.Bytes(b.controlKey())))
	p, err := json.Marshal(b.state)
	if err != nil {
		b.t.Fatal(err)
	}
	b.st.AppendRaw(b.controlKey(), append(p, '\n'))
}

// tally records that everything up to floor is archived.
func (b *builder) tally(floor, events, skipped uint64) {
	b.say(func(s *control.State) {
		*s = s.WithTally("0", control.Tally{Tally: ledger.Tally{From: 1, Floor: floor, Events: events, Skipped: skipped}, FloorTime: timeOf(floor)})
	})
}

func (b *builder) open(name string) *written {
	if w := b.series[name]; w != nil {
		return w
	}
	w := &written{b: b, name: name, ext: event.Ext(event.Envelope, b.codec), chain: event.Chain{Archive: "arch", Source: "ORDERS", Lane: "0", Series: name, Segment: 1, Anchored: true}}
	w.key = event.Key(b.prefix, name, 1, w.ext)
	b.series[name] = w
	return w
}

func (w *written) content(kind string) event.Content {
	c := &w.chain
	id := w.b.stream
	if kind != event.KindData {
		id.Created, id.Incarnation = c.Created, c.Incarnation
	}
	format, _, _ := event.ParseExt(w.ext)
	return event.Content{Version: event.Version, Kind: kind, Archive: c.Archive, Source: c.Source, Stream: id, Layout: w.b.state.Layout(), Lane: c.Lane,
		Series: c.Series, Segment: c.Segment, Frame: c.Frame + 1, Format: format, Last: c.Last, Greatest: c.Greatest, Prev: c.Prev}
}

// append puts p at the end, whatever it is, and returns where it stands.
func (w *written) append(p []byte) int64 {
	at := int64(len(w.b.st.Bytes(w.key)))
	w.b.st.AppendRaw(w.key, p)
	w.pos = at + int64(len(p))
	w.crc = object.CRC64(w.crc, p)
	return at
}

func subjectOf(series string) string {
	if len(series) > 7 && series[:7] == "orders/" {
		return "orders." + series[7:]
	}
	return "orders.x"
}

func makeEvent(series string, seq uint64) *event.Event {
	return &event.Event{Sequence: seq, Time: timeOf(seq), Subject: subjectOf(series), Header: map[string][]string{"K": {"v"}},
		Data: fmt.Appendf(nil, `{"n":%d}`, seq)}
}

// put appends one frame of the events with these sequences.
func (w *written) put(seqs ...uint64) *written {
	evs := make([]*event.Event, len(seqs))
	for i, q := range seqs {
		evs[i] = makeEvent(w.name, q)
	}
	return w.events(evs...)
}

func (w *written) events(evs ...*event.Event) *written {
	w.b.t.Helper()
	c := w.content(event.KindData)
	var body []byte
	var err error
	var seqs []uint64
	for i, e := range evs {
		if isDead(w.name) {
			body = event.AppendDeadLetter(body, e, "because", "orders")
		} else if body, err = (event.Encoder{Format: c.Format}).Append(body, e); err != nil {
			w.b.t.Fatal(err)
		}
		if i == 0 || e.Time.Before(c.MinTime) {
			c.MinTime = e.Time
		}
		if e.Time.After(c.MaxTime) {
			c.MaxTime = e.Time
		}
		seqs = append(seqs, e.Sequence)
	}
	c.First, c.Last, c.Count = seqs[0], seqs[len(seqs)-1], len(evs)
	if c.Format == event.Raw {
		c.Seqs = string(event.AppendSeqs(nil, seqs))
	}
	if c.MaxTime.After(c.Greatest) {
		c.Greatest = c.MaxTime
	}
	if w.b.audit {
		root := event.EventsRoot(body)
		c.EventsRoot = &root
	}
	return w.frame(c, body)
}

// frame appends a data frame and goes on behind it.
func (w *written) frame(c event.Content, body []byte) *written {
	w.b.t.Helper()
	p, hash, err := w.b.fw.Data(nil, w.b.codec, &c, w.pos, body)
	if err != nil {
		w.b.t.Fatal(err)
	}
	at := w.append(p)
	w.tree.Add(hash[:])
	w.index = append(w.index, event.IndexEntry{Position: at, First: c.First, MinTime: c.MinTime})
	w.chain.Advance(&event.Frame{Content: c, Hash: hash})
	w.lines += uint64(c.Count)
	w.bytes += int64(len(body))
	return w.note()
}

// note keeps the tail as the ledger would.
func (w *written) note() *written {
	c := &w.chain
	w.tail = ledger.Tail{Version: ledger.Version, Key: w.key, Segment: c.Segment, Position: w.pos, CRC64: w.crc, Frames: c.Frame, Last: c.Last,
		Greatest: c.Greatest, Created: c.Created, Incarnation: c.Incarnation, Hash: c.Prev, Events: w.lines, Bytes: w.bytes, Sealed: w.pos == 0 && c.Segment > 1}
	return w
}

func (w *written) goOn(next string) *written {
	w.key, w.pos, w.crc, w.index, w.tree, w.lines, w.bytes = next, 0, 0, nil, event.Tree{}, 0, 0
	return w.note()
}

func (w *written) seal() *written {
	w.b.t.Helper()
	c := w.content(event.KindSeal)
	root := w.tree.Root()
	c.SegmentRoot, c.Reason = &root, "size"
	c.Next = event.Key(w.b.prefix, w.name, c.Segment+1, w.ext)
	p, hash, err := w.b.fw.Seal(nil, w.b.codec, &c, w.pos, w.crc, w.index)
	if err != nil {
		w.b.t.Fatal(err)
	}
	w.append(p)
	w.chain.Advance(&event.Frame{Content: c, Hash: hash})
	return w.goOn(c.Next)
}

// breakOff puts a break frame at the end of the object, valid bytes ending at valid.
func (w *written) breakOff(valid int64) *written {
	w.b.t.Helper()
	c := w.content(event.KindBreak)
	c.Reason, c.Valid = "test", valid
	c.Next = event.Key(w.b.prefix, w.name, c.Segment+1, w.ext)
	p, hash, err := w.b.fw.Break(nil, w.b.codec, &c, int64(len(w.b.st.Bytes(w.key))))
	if err != nil {
		w.b.t.Fatal(err)
	}
	w.append(p)
	w.chain.Advance(&event.Frame{Content: c, Hash: hash})
	return w.goOn(c.Next)
}

// standard is an archive with two series of three segments each, dead letters,
// skipped events and an open end: sequences 1-60 without 50 (skipped).
func standard(t testing.TB, codec event.Codec) *builder {
	b := newBuilder(t, codec)
	eu, us := b.open("orders/eu"), b.open("orders/us")
	eu.put(1, 3, 5).put(7, 9)
	us.put(2, 4, 6).put(8, 10)
	eu.seal()
	b.tally(10, 10, 0)
	eu.put(11, 13, 15).put(17, 19).put(21)
	us.seal().put(12, 14, 16, 18, 20)
	b.tally(21, 21, 0)
	eu.seal().put(23, 25, 27, 29).put(31, 33)
	us.put(22, 24).put(26, 28, 30).seal().put(32, 34)
	b.open("_ossuary/dead/ORDERS/0").put(35, 36)
	for q := uint64(37); q < 60; q += 2 {
		eu.put(q)
		if q+1 != 50 {
			us.put(q + 1)
		}
	}
	b.tally(60, 60, 1)
	return b
}

func (b *builder) options() Options {
	return Options{Archive: "arch", Prefix: b.prefix, Store: b.st, Ledger: b.ledger()}
}

// ledger is as the writers left it.
func (b *builder) ledger() fakeLedger {
	var l fakeLedger
	for name, w := range b.series {
		tail := w.tail
		l = append(l, ledger.Entry{Key: "tail." + name, Source: "ORDERS", LaneName: "0", Series: name, Tail: &tail})
	}
	if t, ok := b.state.Tally("0"); ok {
		l = append(l, ledger.Entry{Key: "lane.0", Source: "ORDERS", LaneName: "0", Lane: &ledger.Lane{Version: 1, Incarnation: b.stream.Incarnation,
			Floor: t.Floor, FloorTime: t.FloorTime, Tally: t.Tally}})
	}
	return l
}

type fakeLedger []ledger.Entry

func (l fakeLedger) All(context.Context) ([]ledger.Entry, error) { return l, nil }

func verify(t testing.TB, opt Options) *Report {
	t.Helper()
	r, err := Verify(context.Background(), opt)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	return r
}
