package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"ossuary/internal/appendsink"
	ev "ossuary/internal/event"
	"ossuary/internal/object"
)

// compare holds the real state against the model's, after a step.
func (tw *twin) compare(before *state, did act) {
	for key := range uint8(maxKeys) {
		tw.compareObject(key)
	}
	for w := range tw.actors {
		tw.compareWriter(w, before)
	}
	for n := range uint8(tw.x.series) {
		tw.compareLedger(n)
	}
	tw.mu.Lock()
	confirmed := tw.confirmed
	tw.mu.Unlock()
	pending := false
	for w := range tw.actors {
		pending = pending || tw.pending(w)
	}
	if pending {
		confirmed |= tw.s.dead & tw.s.acked
	}
	if confirmed != tw.s.acked {
		tw.fault("confirmed are %s, in the model %s", tw.x.names(confirmed), tw.x.names(tw.s.acked))
	}
}

func (tw *twin) compareObject(key uint8) {
	o := tw.s.obj[key]
	info, err := tw.store.Head(context.Background(), keyString(tw, key))
	if object.KindOf(err) == object.NotFound || err == nil {
		if (err == nil) != (o != 0) {
			tw.fault("%s: there: %v, in the model: %v", keyName(key), err == nil, o != 0)
			return
		}
	}
	if o == 0 {
		return
	}
	if shut := tw.s.locked&(1<<key) != 0; shut == info.Appendable {
		tw.fault("%s: appendable: %v, in the model: %v", keyName(key), info.Appendable, !shut)
	}
	path := tw.x.path(o, nil)
	var all []byte
	var want, got []uint16
	for _, p := range path {
		want = append(want, tw.x.nodes[p].frame)
	}
	for _, p := range tw.pieces[key] {
		all = append(all, p.bytes...)
		got = append(got, p.frames...)
		if len(got) <= len(path) {
			tw.spots[path[len(got)-1]] = spot{int64(len(all)), object.CRC64(0, all)}
		}
	}
	if !slices.Equal(want, got) {
		var is string
		for _, f := range got {
			is += tw.x.frameName(f)
		}
		tw.fault("%s is {%s}, in the model %s", keyName(key), is, tw.x.objectName(o))
	}
	if !bytes.Equal(all, tw.store.Bytes(keyString(tw, key))) {
		tw.fault("%s has other bytes than the appends that made it", keyName(key))
	}
}

func (tw *twin) compareWriter(w int, before *state) {
	m := &tw.s.w[w]
	if m.up == 0 {
		tw.compareEnd(w, before)
		return
	}
	for n, a := range tw.actors[w] {
		if a == nil {
			continue
		}
		a.mu.Lock()
		over, err, held, c := a.over, a.err, a.held, a.call
		a.mu.Unlock()
		k := &m.sinks[n]
		name := fmt.Sprintf("W%d's sink of %c", w, 'A'+n)
		is := "between attempts"
		switch {
		case over:
			is = fmt.Sprintf("at its end: %v", err)
		case c != nil:
			is = fmt.Sprintf("at %s of %s", c.op, c.key)
		case !held:
			is = "in the middle of something"
		}
		want := "between attempts"
		switch k.pc {
		case forward:
			t := &tw.x.tails[k.tail]
			want = "at head of " + keyString(tw, t.key)
		case wait:
			want = "at append of " + keyString(tw, k.req.key-1)
		}
		if is != want {
			tw.fault("%s is %s, in the model %s", name, is, want)
			return
		}
		if k.pc == wait && !c.known {
			if err := tw.match(c, &k.req); err != nil {
				tw.fault("%s: what it sends is not the model's %s at %d: %v", name, tw.x.frameName(k.req.frame), k.req.pos, err)
				return
			}
		}
		if used, _ := a.budget.Used(); !tw.pending(w) && (used == 0) != (k.batch|k.queue == 0) {
			tw.fault("%s: %d bytes wait, in the model %s", name, used, tw.x.names(k.batch|k.queue))
		}
	}
}

// compareEnd: the writer's epoch has ended in the model. If it was not ended from
// outside, one of its sinks has ended it, for the same reason.
func (tw *twin) compareEnd(w int, before *state) {
	if tw.actors[w][0] == nil {
		return
	}
	var errs []error
	for _, a := range tw.actors[w] {
		if a == nil {
			continue
		}
		a.mu.Lock()
		if a.over {
			errs = append(errs, a.err)
		}
		a.mu.Unlock()
	}
	if len(errs) != 1 {
		tw.fault("W%d's epoch has not ended", w)
		return
	}
	var reuse *appendsink.ReuseError
	switch used := errors.As(errs[0], &reuse); {
	case used != (tw.s.w[w].reused != 0), !used && !errors.Is(errs[0], appendsink.ErrIncarnation):
		tw.fault("W%d's epoch has ended: %v; in the model used again: %v", w, errs[0], tw.s.w[w].reused != 0)
	}
	tw.down(w)
}

// match compares a request's bytes with the model's frame, and notes what the
// model's numbers stand for.
func (tw *twin) match(c *call, q *request) error {
	x := tw.x
	parent := max(x.nodes[q.want].parent, 1)
	at, ok := tw.spots[parent]
	switch {
	case !ok:
		return fmt.Errorf("nobody has seen the object before it, %s", x.objectName(parent))
	case c.position != at.size:
		return fmt.Errorf("it goes to position %d, not %d", c.position, at.size)
	}
	sc := ev.NewScanner(bytes.NewReader(c.body.Bytes()), tw.codecs[extOf(q.key-1)], c.position, at.crc)
	f, body, err := sc.Next()
	if err != nil {
		return err
	}
	if sc.Position() != c.position+int64(c.body.Len()) {
		return errors.New("it is more than one frame")
	}
	if what := tw.differs(f, body, q.frame, parent); what != "" {
		return errors.New(what)
	}
	switch h, ok := tw.hashes[q.frame]; {
	case !ok || h == f.Hash:
	case f.Content.Kind == ev.KindBreak:
		tw.reworded = true
		return nil
	default:
		return errors.New("the model knows the frame by the same number, and it had another hash")
	}
	if n, ok := tw.numbers[f.Hash]; ok && n != q.frame {
		return errors.New("the model knows a frame of the same hash by another number")
	}
	tw.hashes[q.frame], tw.numbers[f.Hash] = f.Hash, q.frame
	end := spot{sc.Position(), sc.CRC()}
	if was, ok := tw.spots[q.want]; ok && was != end {
		return errors.New("the model knows the object by the same number, and it had another CRC-64")
	}
	tw.spots[q.want] = end
	c.known, c.model = true, *q
	return nil
}

func (tw *twin) differs(f *ev.Frame, body []byte, number, parent uint16) string {
	x, c := tw.x, &f.Content
	m := &x.frames[number]
	var d []string
	check := func(what string, got, want any) {
		if got != want {
			d = append(d, fmt.Sprintf("%s is %v, in the model %v", what, got, want))
		}
	}
	at := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return t.UnixNano()
	}
	check("kind", c.Kind, [...]string{kindData: ev.KindData, kindSeal: ev.KindSeal, kindBreak: ev.KindBreak}[m.kind])
	check("series", c.Series, seriesName(seriesOf(m.key)))
	check("segment", c.Segment, int(segOf(m.key)))
	check("frame", c.Frame, int(m.num))
	check("incarnation", c.Stream.Incarnation, int(m.inc))
	check("created", at(c.Stream.Created), at(createdAt(m.created)))
	check("first", c.First, uint64(m.first))
	check("last", c.Last, uint64(m.last))
	check("greatest", at(c.Greatest), at(timeOf(m.greatest)))
	check("max time", at(c.MaxTime), at(timeOf(m.max)))
	check("prev", c.Prev, tw.hashes[m.prev])
	if m.kind != kindData {
		check("next", c.Next, keyString(tw, m.next))
	}
	if m.kind == kindBreak {
		check("valid", c.Valid, tw.spots[max(x.prefix(parent, m.valid), 1)].size)
	}
	var events mask
	for _, line := range bytes.Split(body, []byte("\n")) {
		var l ev.Line
		if len(line) == 0 || m.kind != kindData {
			continue
		}
		if err := ev.DecodeLine(line, &l); err != nil {
			return err.Error()
		}
		e := 0
		if _, err := fmt.Sscanf(string(l.Data), `{"e":%d}`, &e); err != nil {
			return err.Error()
		}
		events |= 1 << e
	}
	check("events", x.names(events), x.names(m.events))
	return strings.Join(d, "; ")
}

func (tw *twin) compareLedger(n uint8) {
	if !tw.x.ledger {
		return
	}
	e := tw.ledger[n]
	l := tw.s.ledger[n]
	if (e.Revision == 0) != (l == 0) {
		tw.fault("the ledger has an entry: %v, in the model: %v", e.Revision != 0, l != 0)
		return
	}
	if l == 0 {
		return
	}
	t := &tw.x.tails[l]
	c := &t.chain
	var d []string
	check := func(what string, got, want any) {
		if got != want {
			d = append(d, fmt.Sprintf("%s is %v, in the model %v", what, got, want))
		}
	}
	check("key", e.Key, keyString(tw, t.key))
	check("segment", e.Segment, int(c.seg))
	check("position", e.Position, tw.spots[t.node].size)
	check("CRC-64", e.CRC64, tw.spots[t.node].crc)
	check("frames", e.Frames, int(c.num))
	check("last", e.Last, uint64(c.last))
	check("greatest", e.Greatest.UTC(), timeOf(c.greatest))
	check("created", e.Created.UTC(), createdAt(c.created))
	check("incarnation", e.Incarnation, int(c.inc))
	check("hash", e.Hash, tw.hashes[c.prev])
	check("sealed", e.Sealed, tw.x.spent(t))
	if len(d) > 0 {
		tw.fault("the ledger's entry of %c: %s", 'A'+n, strings.Join(d, "; "))
	}
}

// finished: the writers have done what there was to do.
func (tw *twin) finished() {
	for w := range tw.actors {
		for _, a := range tw.actors[w] {
			if a == nil {
				continue
			}
			a.set1(func() { a.put = true })
			if err := a.set.Drain(a.ctx); err != nil {
				tw.fault("W%d has not finished: %v", w, err)
			}
		}
	}
	var letters mask
	for _, key := range tw.store.Keys() {
		for _, m := range letter.FindAllSubmatch(tw.store.Bytes(key), -1) {
			if e := mask(1) << (m[1][0] - '0'); !strings.HasPrefix(key, prefix+dead) {
				continue
			} else if letters |= e; len(letter.FindAll(tw.store.Bytes(key), -1)) != 1 {
				tw.fault("%s has more than one letter", key)
			}
		}
	}
	if letters != tw.s.dead {
		tw.fault("the dead letters are %s, in the model %s", tw.x.names(letters), tw.x.names(tw.s.dead))
	}
}

var letter = regexp.MustCompile(`"data":\{"e":(\d)\}`)
