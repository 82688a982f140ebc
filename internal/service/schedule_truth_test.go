package service

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"ossuary/internal/archive"
	"ossuary/internal/embedded/fakenats"
	"ossuary/internal/object/objecttest"
)

// published is a message that the stream took.
type published struct {
	id      int
	subject string
	header  [2]string // name and value, if any
	data    string
	seq     uint64
	at      time.Time
	gone    fakenats.Removal // why it left the stream, "" if it has not
	poison  bool             // belongs to the dead letters
}

// wanted reports whether the message belongs into the archive.
func (p *published) wanted() bool { return strings.HasPrefix(p.subject, "events.") }

// excused reports whether the archive may lack the message: the stream dropped it
// before anybody said that it was archived.
func (p *published) excused() bool { return p.gone != "" && p.gone != fakenats.Acknowledged }

// place is where an event stands in the bucket.
type place struct{ series, line string }

// truth knows what was published and, at any moment, what the bucket holds. It
// reads the bytes by itself: standard gzip and zstd, and JSON.
type truth struct {
	w *world

	mu       sync.Mutex
	events   []*published // by sequence, from 1
	ids      map[int]*published
	has      map[int]place
	last     map[string]uint64   // by series, see chain
	firsts   map[string][]string // keys of first segments, by series
	missing  int                 // wanted, and neither archived nor excused
	control  controlLine
	variants map[int]int // layout number -> variant
	floors   int         // checked
	acks     int         // checked
	floor    uint64      // of the lane in the ledger, as last written
}

// controlLine is what an outsider needs of the control log.
type controlLine struct {
	Stream struct {
		Incarnation int `json:"incarnation"`
	} `json:"stream"`
	Layouts []struct {
		Layout int    `json:"layout"`
		Since  uint64 `json:"since"`
	} `json:"layouts"`
	Tallies map[string]struct {
		Floor uint64 `json:"floor"`
	} `json:"tallies"`
}

func newTruth(w *world) *truth {
	return &truth{w: w, ids: map[int]*published{}, has: map[int]place{}, last: map[string]uint64{}, firsts: map[string][]string{}, variants: map[int]int{}}
}

// stored is told of every message that the stream takes.
func (t *truth) stored(stream string, m *fakenats.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if stream != scheduleStream {
		t.ledgerEntry(m)
		return
	}
	p := t.w.publishing
	p.seq, p.at = m.Sequence, m.Time
	t.events = append(t.events, p)
	t.ids[p.id] = p
	if p.wanted() {
		t.missing++
	}
}

// ledgerEntry checks the floor that somebody has written into the ledger.
func (t *truth) ledgerEntry(m *fakenats.Message) {
	if !strings.Contains(m.Subject, ".lane.") {
		return
	}
	var e struct {
		Incarnation int
		Floor       uint64
	}
	if err := json.Unmarshal(m.Data, &e); err != nil {
		t.w.errorf("ledger entry %s: %v", m.Subject, err)
		return
	}
	t.floor = e.Floor
	t.checkFloor("the ledger", e.Floor)
}

// checkFloor: everything up to the floor must stand in the bucket by now.
func (t *truth) checkFloor(where string, floor uint64) {
	t.floors++
	for _, p := range t.events {
		if p.seq > floor {
			break
		}
		if _, ok := t.has[p.id]; !ok && p.wanted() && !p.excused() {
			t.w.errorf("%s says floor %d, and event %d at sequence %d is not archived", where, floor, p.id, p.seq)
		}
	}
}

func (t *truth) removed(stream string, seq uint64, why fakenats.Removal) {
	if stream != scheduleStream {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.events[seq-1]
	if _, ok := t.has[p.id]; !ok && p.wanted() {
		if why == fakenats.Acknowledged {
			t.w.errorf("event %d at sequence %d left the stream as acknowledged and is not archived", p.id, seq)
		} else if p.gone == "" {
			t.missing--
		}
	}
	p.gone = why
}

// acknowledged: where an acknowledgement deletes, the message must be archived when
// it reaches the server.
func (t *truth) acknowledged(stream, _ string, seqs []uint64) {
	if stream != scheduleStream || t.w.plan.retention == retentionLimits {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, seq := range seqs {
		t.acks++
		p := t.events[seq-1]
		if _, ok := t.has[p.id]; !ok && p.wanted() && !p.excused() {
			t.w.errorf("event %d at sequence %d was acknowledged and is not archived", p.id, seq)
		}
	}
}

// appended is told of every append at the moment it takes effect.
func (t *truth) appended(who, key string, body []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := strings.TrimPrefix(key, schedulePrefix)
	switch {
	case strings.HasPrefix(name, "_ossuary/layout/"):
		var n int
		if _, err := fmt.Sscanf(name, "_ossuary/layout/%d.json", &n); err != nil {
			t.w.errorf("%s: %v", key, err)
		}
		for v := range scheduleVariants {
			if bytes.Contains(body, []byte(`"`+scheduleVariants[v].series+`"`)) && bytes.Contains(body, []byte(`"`+scheduleVariants[v].codec+`"`)) {
				t.variants[n] = v
				return
			}
		}
		t.w.errorf("%s: no layout of ours: %s", key, body)
	case strings.HasPrefix(name, "_ossuary/control/"):
		for line := range bytes.Lines(body) {
			if !bytes.HasPrefix(line, []byte("{")) {
				continue
			}
			var c controlLine
			if err := json.Unmarshal(line, &c); err != nil {
				t.w.errorf("%s: %v", key, err)
			}
			t.control = c
			for _, tally := range c.Tallies {
				t.checkFloor("the control log", tally.Floor)
			}
		}
	default:
		err := eachLine(key, body, func(line string) error { return t.line(key, line) })
		if err != nil {
			t.w.errorf("%s appended to %s: %v", who, key, err)
		}
	}
}

// line enters an archived event.
func (t *truth) line(key, line string) error {
	series := seriesOf(key)
	p, err := t.parse(line)
	if err != nil {
		return err
	}
	if at, twice := t.has[p.id]; twice {
		return fmt.Errorf("event %d at sequence %d stands in %s already", p.id, p.seq, at.series)
	}
	t.begins(series, key)
	if last := t.last[t.chain(series, key)]; p.seq <= last {
		return fmt.Errorf("event %d at sequence %d comes behind sequence %d", p.id, p.seq, last)
	}
	if want := t.place(p); series != want && !(p.excused() && series == fmt.Sprintf("%s/overtaken/%d", scheduleDead, p.seq)) {
		return fmt.Errorf("event %d at sequence %d belongs to %s", p.id, p.seq, want)
	}
	if want := p.line(); !p.poison && !strings.HasPrefix(series, scheduleDead) && line != want {
		return fmt.Errorf("event %d reads\n%s\nwant\n%s", p.id, line, want)
	}
	t.has[p.id] = place{series, line}
	t.last[series], t.last[key] = p.seq, p.seq
	if p.gone == "" {
		t.missing--
	}
	return nil
}

func (t *truth) parse(line string) (*published, error) {
	var e struct {
		Seq     uint64
		Subject string
		Data    struct{ N int }
	}
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		return nil, fmt.Errorf("%w: %s", err, line)
	}
	p := t.ids[e.Data.N]
	if p == nil || p.seq != e.Seq || p.subject != e.Subject {
		return nil, fmt.Errorf("nobody published %s", line)
	}
	return p, nil
}

// line is what the archive must hold of the event, byte by byte.
func (p *published) line() string {
	header := ""
	if p.header[0] != "" {
		header = fmt.Sprintf(`,"headers":{%q:[%q]}`, p.header[0], p.header[1])
	}
	return fmt.Sprintf(`{"seq":%d,"ts":"%s","subject":"%s"%s,"data":%s}`, p.seq, p.at.UTC().Format(time.RFC3339Nano), p.subject, header, p.data)
}

// place is the series that the layout of the event's sequence says.
func (t *truth) place(p *published) string {
	if p.poison {
		return scheduleDead
	}
	layout := 0
	for i, l := range t.control.Layouts {
		if i == 0 || l.Since <= p.seq {
			layout = l.Layout
		}
	}
	v, ok := t.variants[layout]
	if !ok {
		return fmt.Sprintf("(unknown layout %d)", layout)
	}
	f := strings.Split(p.subject, ".")
	return strings.NewReplacer("{{token(2)}}", f[1], "{{token(3)}}", f[2]).Replace(scheduleVariants[v].series)
}

// done reports whether everything is archived and the floor has come to the end.
func (t *truth) done() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.missing > 0 {
		return false
	}
	for _, p := range slices.Backward(t.events) {
		if p.wanted() && p.gone == "" {
			return t.floor >= p.seq
		}
	}
	return true
}

// check reads the whole bucket from its start once more, as an outsider would.
func (t *truth) check(s *objecttest.Store) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := map[int]bool{}
	last := map[string]uint64{}
	for _, key := range s.Keys() {
		if strings.HasPrefix(key, schedulePrefix+"_ossuary/layout/") || strings.HasPrefix(key, schedulePrefix+"_ossuary/control/") {
			continue
		}
		series := seriesOf(key)
		err := eachLine(key, s.Bytes(key), func(line string) error {
			p, err := t.parse(line)
			if err != nil {
				return err
			}
			if seen[p.id] {
				return fmt.Errorf("event %d stands twice", p.id)
			}
			seen[p.id] = true
			chain := t.chain(series, key)
			if p.seq <= last[chain] {
				return fmt.Errorf("event %d at sequence %d comes behind %d", p.id, p.seq, last[chain])
			}
			last[chain] = p.seq
			if at := t.has[p.id]; at != (place{series, line}) {
				return fmt.Errorf("event %d has changed:\n%s\nwas in %s\n%s", p.id, line, at.series, at.line)
			}
			// The layouts may not have been turned around since.
			if want := t.place(p); series != want && !strings.HasPrefix(series, scheduleDead+"/overtaken/") {
				return fmt.Errorf("event %d at sequence %d belongs to %s", p.id, p.seq, want)
			}
			return nil
		})
		if err != nil {
			t.w.errorf("%s: %v", key, err)
		}
	}
	for _, p := range t.events {
		if p.wanted() && !p.excused() && !seen[p.id] {
			t.w.errorf("event %d at sequence %d is not archived", p.id, p.seq)
		}
	}
	for series, keys := range t.firsts {
		if len(keys) > 1 {
			t.forked(s, series, keys)
		}
	}
}

// begins notes that a first segment has a line.
func (t *truth) begins(series, key string) {
	if strings.Contains(key, ".000001.") && !slices.Contains(t.firsts[series], key) {
		t.firsts[series] = append(t.firsts[series], key)
	}
}

// chain is whose lines have rising sequences: the series', or the object's where the
// series has two first segments.
func (t *truth) chain(series, key string) string {
	if len(t.firsts[series]) > 1 {
		return key
	}
	return series
}

// forked checks that a series with two first segments is what ARCHITECTURE.md tells of
// under Assumptions: an event that one of its writers had in its hands was gone from the
// stream for the other, there is more than one layout, and verify names the object
// that no reader looks at.
func (t *truth) forked(s *objecttest.Store, series string, keys []string) {
	t.w.count("two first segments", true)
	vanished := false
	for id, at := range t.has {
		vanished = vanished || at.series == series && t.ids[id].excused()
	}
	if !vanished || len(t.variants) < 2 { // the codecs stand in the objects' names
		t.w.errorf("%s has the first segments %s, and no event vanished between two writers of different layouts", series, keys)
		return
	}
	r, err := archive.Verify(t.w.t.Context(), archive.Options{Prefix: schedulePrefix, Store: s})
	if err != nil || !slices.ContainsFunc(r.Problems, func(f archive.Finding) bool {
		return f.Key == slices.Max(keys) && strings.HasPrefix(f.What, "no seal or break names this segment")
	}) {
		t.w.errorf("verify does not name %s: %v", slices.Max(keys), err)
	}
}

// seriesOf is the name before the segment's number.
func seriesOf(key string) string {
	name := strings.TrimPrefix(key, schedulePrefix)
	if i := strings.LastIndex(name, "/"); i >= 0 {
		base, _, _ := strings.Cut(name[i:], ".")
		return name[:i] + base
	}
	base, _, _ := strings.Cut(name, ".")
	return base
}

var (
	unzip = sync.Pool{New: func() any { return new(gzip.Reader) }}
	lines = sync.Pool{New: func() any { return bufio.NewReader(nil) }}
)

var unzstd = func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return d
}()

// eachLine calls fn for the lines of events in an object, or in what was appended
// to one.
func eachLine(key string, body []byte, fn func(string) error) error {
	var r io.Reader = bytes.NewReader(body)
	switch {
	case strings.HasSuffix(key, ".gz"):
		z := unzip.Get().(*gzip.Reader)
		defer unzip.Put(z)
		if err := z.Reset(r); err != nil {
			return err
		}
		r = z
	case strings.HasSuffix(key, ".zst"):
		p, err := unzstd.DecodeAll(body, nil)
		if err != nil {
			return err
		}
		r = bytes.NewReader(p)
	}
	b := lines.Get().(*bufio.Reader)
	defer lines.Put(b)
	b.Reset(r)
	for {
		line, err := b.ReadString('\n')
		switch {
		case errors.Is(err, io.EOF) && line == "":
			return nil
		case err != nil:
			return fmt.Errorf("%w behind %q", err, line)
		}
		if strings.HasPrefix(line, `{"_ossuary`) {
			continue
		}
		if err := fn(strings.TrimSuffix(line, "\n")); err != nil {
			return err
		}
	}
}
