package main

// How the real writers, the store and the ledger take a step of the model.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"ossuary/internal/appendsink"
	ev "ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
)

// mirrors says whether the real writers can be made to take the step.
func (tw *twin) mirrors(did act, next *state) bool {
	var c *call
	var q request
	switch did.kind {
	case actAnswer, actGarble:
		c, q = tw.actors[did.w][did.n].waiting(), tw.s.w[did.w].sinks[did.n].req
	case actArrive:
		q = tw.s.orphans[did.arg]
		c = tw.lateCall(q)
	case actForward:
		from, k := tw.s.w[did.w].sinks[did.n].from, &next.w[did.w].sinks[did.n]
		if from == 0 || k.from != 0 || k.tail == 0 {
			return true
		}
		was, is := &tw.x.tails[from], &tw.x.tails[k.tail]
		return was.key != is.key || tw.x.depth[was.node] != tw.x.depth[is.node] || tw.spots[was.node].size == tw.spots[is.node].size
	case actCheckpoint:
		note := &tw.x.tails[tw.s.w[did.w].sinks[did.n].note]
		l := tw.s.ledger[did.n]
		if l == 0 || tw.x.tails[l].chain.seg != note.chain.seg {
			return true
		}
		return (tw.ledger[did.n].Position < tw.spots[note.node].size) == (tw.x.depth[tw.x.tails[l].node] < tw.x.depth[note.node])
	case actCrash, actStop, actRaise:
		return next.w[did.w].up == 1 || !tw.pending(int(did.w))
	default:
		return true
	}
	// In the model lengths coincide that do not here.
	fits := int64(len(tw.store.Bytes(c.key))) == c.position
	return fits == (tw.x.depth[tw.s.obj[q.key-1]] == q.pos)
}

// ended says that a dead letter has ended an epoch: its series had one of a later
// incarnation.
func (tw *twin) ended() bool {
	for w := range tw.actors {
		for _, a := range tw.actors[w] {
			if a != nil && a.sent != a.m.Overtaken.Load() && tw.s.w[w].up == 0 {
				return true // with letters on their way
			}
			if a != nil && a.over && errors.Is(a.err, appendsink.ErrIncarnation) && strings.Contains(a.err.Error(), "series "+dead) {
				return true
			}
		}
	}
	return false
}

// pending says that dead letters of the writer are still on their way.
func (tw *twin) pending(w int) bool {
	for _, a := range tw.actors[w] {
		if a != nil && a.sent != a.m.Overtaken.Load() {
			return true
		}
	}
	return false
}

// take makes the real writers, the store and the ledger take the step; false: they
// would not, and nothing has happened.
func (tw *twin) take(did act, next *state) bool {
	var flying []*call
	for w := range tw.actors {
		for n, a := range tw.actors[w] {
			if a != nil && tw.s.w[w].sinks[n].req.key != 0 {
				flying = append(flying, a.waiting())
			}
		}
	}
	var a *actor
	if did.w < maxWriters && did.n < maxSeries {
		a = tw.actors[did.w][did.n]
	}
	key := keyString(tw, did.arg)
	switch did.kind {
	case actStart:
		tw.start(did, next)
	case actHand:
		tw.hand(did)
	case actTake:
		a.press()
		a.roll(did.arg == 1)
		a.pass()
	case actSeal:
		a.roll(false)
		a.idle()
		a.pass()
	case actLook:
		if tw.s.w[did.w].sinks[did.n].doubt == 1 {
			tw.sleep(longestWait)
		}
		a.roll(did.arg == 1)
		a.pass()
	case actForward:
		a.roll(did.part == 2)
		a.torn = did.arg
		a.answer(object.Appended{}, nil)
		synctest.Wait()
		a.torn = 0
	case actFail:
		a.answer(object.Appended{}, &object.Error{Op: "head", Key: a.waiting().key})
	case actAnswer:
		got, err := tw.apply(a.waiting())
		a.answer(got, err)
	case actGarble:
		got, err := tw.apply(a.waiting())
		switch {
		case err != nil: // to be told nonsense, it would have to be taken
		case tw.r.IntN(2) == 0:
			got.Next++
		default:
			got.CRC64++
		}
		a.answer(got, err)
	case actDoubt:
		a.answer(object.Appended{}, &object.Error{Op: "append", Key: a.waiting().key, Kind: object.Kind(tw.r.IntN(2))})
	case actArrive:
		_, _ = tw.apply(tw.lateCall(tw.s.orphans[did.arg]))
	case actCrash, actStop:
		tw.down(int(did.w))
	case actCheckpoint, actDrop:
		if !tw.checkpoint(a, did) {
			return false
		}
	case actLedgerLost:
		tw.older[did.n], tw.ledger[did.n] = ledger.TailEntry{}, ledger.TailEntry{}
	case actLedgerBack:
		tw.revision++
		tw.ledger[did.n] = tw.older[did.n]
		if tw.ledger[did.n].Revision != 0 {
			tw.ledger[did.n].Revision = tw.revision
		}
	case actTouch:
		tw.put(did.arg, nil)
		tw.pieces[did.arg] = nil
	case actJunk:
		tw.put(did.arg, junkBytes)
		tw.pieces[did.arg] = append(tw.pieces[did.arg], piece{junkBytes, []uint16{tw.x.frame(frame{kind: kindJunk})}})
	case actDelete:
		tw.store.Delete(key)
		tw.pieces[did.arg] = nil
	case actLock:
		tw.store.Put(key, tw.store.Bytes(key))
	case actCut, actFlip:
		tw.damage(did)
	}
	synctest.Wait()
	tw.s = *next
	for w := range tw.actors {
		for _, a := range tw.actors[w] {
			if a != nil {
				a.letters()
			}
		}
	}
	if did.kind == actRaise && next.w[did.w].up == 0 {
		tw.down(int(did.w))
	}
	// What is on its way now.
	flying = append(flying, tw.late...)
	tw.late = nil
	for _, q := range next.orphans {
		if q.key == 0 {
			continue
		}
		i := slices.IndexFunc(flying, func(c *call) bool { return c.model == q })
		if i < 0 {
			tw.fault("no request like %s to %s was sent", tw.x.frameName(q.frame), keyName(q.key-1))
			return true
		}
		tw.late = append(tw.late, flying[i])
		flying = slices.Delete(flying, i, i+1)
	}
	return true
}

func (tw *twin) lateCall(q request) *call {
	for _, c := range tw.late {
		if c.model == q {
			return c
		}
	}
	return nil
}

func (tw *twin) start(did act, next *state) {
	tw.s = *next // of which the Set takes its incarnation
	for n := range uint8(tw.x.series) {
		known := map[string]ledger.TailEntry{}
		e := tw.ledger[n]
		if did.arg == 1 {
			e = tw.older[n]
		}
		if e.Revision != 0 {
			known[seriesName(n)] = e
		}
		tw.actors[did.w][n] = tw.newActor(did.w, n, known)
	}
}

func (tw *twin) hand(did act) {
	e := &tw.x.events[did.arg]
	c := tw.x.contentAt(&tw.s.w[did.w], e.seq)
	a := tw.actors[did.w][e.series[c]]
	err := a.set.Add(a.ctx, a.specs[e.ext[c]], &ev.Event{Sequence: uint64(e.seq), Time: timeOf(e.time), Subject: "s",
		Data: fmt.Appendf(nil, `{"e":%d}`, did.arg)}, uint64(did.arg))
	if err != nil {
		tw.fault("W%d does not take %s: %v", did.w, tw.x.names(1<<did.arg), err)
	}
}

func (tw *twin) checkpoint(a *actor, did act) bool {
	a.set1(func() {
		a.put, a.drop, a.wrote = did.kind == actCheckpoint, did.kind == actDrop, false
		if a.drop {
			a.floor = uint64(tw.x.floorOf(&tw.s, int(did.w)))
		}
	})
	tw.sleep(ledgerEvery)
	a.set1(func() { a.put, a.drop, a.floor = false, false, 0 })
	return a.wrote
}

// down ends a writer's epoch.
func (tw *twin) down(w int) {
	for n, a := range tw.actors[w] {
		if a != nil {
			a.stop()
			tw.actors[w][n] = nil
		}
	}
}

// apply gives the store an append.
func (tw *twin) apply(c *call) (object.Appended, error) {
	got, err := tw.store.Append(context.Background(), c.key, c.position, c.body, nil)
	if err == nil {
		key := c.model.key - 1
		tw.pieces[key] = append(tw.pieces[key], piece{slices.Concat(c.body...), []uint16{c.model.frame}})
	}
	return got, err
}

func (tw *twin) put(number uint8, p []byte) {
	key := keyString(tw, number)
	n := int64(len(tw.store.Bytes(key)))
	if tw.s.locked&(1<<number) != 0 {
		tw.store.Put(key, append(tw.store.Bytes(key), p...))
		return
	}
	if _, err := tw.store.Append(context.Background(), key, n, object.Body{p}, nil); err != nil {
		tw.fault("%v", err)
	}
}

// damage cuts an object before a frame, or flips that frame's first byte: the
// model has as many bytes that are no frame as the frame was long.
func (tw *twin) damage(did act) {
	key := keyString(tw, did.arg)
	part, at, i := int(did.part), int64(0), 0
	p := tw.pieces[did.arg]
	for ; part >= len(p[i].frames); i++ {
		part -= len(p[i].frames)
		at += int64(len(p[i].bytes))
	}
	if did.kind == actCut {
		tw.store.Truncate(key, at+int64(part))
		tw.pieces[did.arg] = slices.Clone(p[:i])
		if part > 0 { // within bytes that are no frame any more
			tw.pieces[did.arg] = append(tw.pieces[did.arg], piece{p[i].bytes[:part], p[i].frames[:part]})
		}
		return
	}
	tw.store.Flip(key, at)
	p = slices.Clone(p)
	junk := piece{bytes: bytes.Clone(p[i].bytes)}
	junk.bytes[0] ^= 0xff
	hit := p[i].frames[0]
	for j := range tw.x.length(hit) {
		junk.frames = append(junk.frames, tw.x.frame(frame{kind: kindJunk, num: j, prev: hit}))
	}
	p[i] = junk
	tw.pieces[did.arg] = p
}

func (tw *twin) confirm(_ *actor, slots []uint64) {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	for _, s := range slots {
		tw.confirmed |= 1 << s
	}
}

// Names of the model's numbers.

func seriesName(n uint8) string { return string(rune('a' + n)) }

func createdAt(n uint8) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Date(2026, 11, 22, int(n), 0, 0, 0, time.UTC)
}

func timeOf(t uint8) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Date(2026, 11, 23, 10, 0, int(t), 0, time.UTC)
}

func keyString(tw *twin, key uint8) string {
	return ev.Key(prefix, seriesName(seriesOf(key)), int(segOf(key)), ev.Ext(ev.Envelope, tw.codecs[extOf(key)]))
}
