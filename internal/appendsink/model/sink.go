package main

// The twin of append.go: prepare, append; seal. What follows, answer.go says.

// Why a pass did not go on.
const (
	fine = iota
	corrupt
	newerLife  // ErrIncarnation
	streamUsed // *ReuseError
)

// at is one writer's sink of one series in a state that is being changed.
type at struct {
	*world
	s *state
	w *writer
	k *sink
	i int   // of the writer
	n uint8 // of the series
}

func (x *world) at(s *state, i int, n uint8) *at {
	return &at{x, s, &s.w[i], &s.w[i].sinks[n], i, n}
}

func (a *at) t() tail { return a.tails[a.k.tail] }

func (a *at) pos(t *tail) uint8 { return a.depth[t.node] }

// spent is tail.spent.
func (x *world) spent(t *tail) bool { return x.depth[t.node] == 0 && t.chain.seg > 1 }

func (a *at) set(t tail) { a.k.tail = a.world.tail(t) }

// note is checkpointer.note.
func (a *at) note() { a.k.note = a.k.tail }

// attempt is series.attempt: one pass up to the request that it sends. roll: the
// segment is as large as it may get.
func (a *at) attempt(roll bool) {
	k := a.k
	k.pc = look
	if k.tail == 0 {
		a.locate()
		if k.tail == 0 { // to be sealed, but there is no segment
			a.rest()
			return
		}
		if k.pc != look {
			return
		}
	}
	t := a.t()
	if k.doubt == 1 || t.suspect == 1 {
		k.doubt = 0
		switch {
		case t.suspect == 0 && a.s.obj[t.key] == 0 && a.pos(&t) == 0 && t.entered == 1:
			a.lost()
			return
		case !a.settled(&t):
			k.within = settling
			a.goForward("")
			return
		case a.s.obj[t.key] != 0 && a.bug != bugSettleByLength:
			t.proven = t.chain
			a.set(t)
			a.firm()
		}
	}
	if k.batch == 0 {
		if k.sealing == 1 && a.pos(&t) > 0 {
			a.seal(extOf(t.key))
			return
		}
		a.rest()
		return
	}
	if why := a.dropHeld(&t); why != fine {
		a.endEpoch(why)
		return
	}
	if k.batch == 0 {
		a.say("nothing is left to append")
		a.rest()
		return
	}
	if a.spent(&t) && t.looked == 0 && a.bug != bugSpentTrusted {
		found := a.enterAbove(&t)
		if a.w.up == 0 {
			return
		}
		if found {
			u := a.t()
			a.goForward("finds the series above " + keyName(t.key) + ", and enters " + keyName(u.key))
			return
		}
		t.looked = 1
		a.set(t)
	}
	ext := a.extOf(k.batch)
	if extOf(t.key) != ext || roll && a.pos(&t) > 0 {
		if roll {
			a.s.used.roll++
		}
		a.seal(ext)
		return
	}
	a.sendData(&t)
}

// rest: the work is done.
func (a *at) rest() {
	a.k.pc, a.k.sealing, a.k.sure, a.k.known, a.k.within = idle, 0, 0, 0, 0
}

func (a *at) goForward(why string) {
	a.k.pc, a.k.sure = forward, 0
	if why != "" {
		a.say("%s", why)
	}
}

// settled is series.settle: the object is what the tail says.
func (a *at) settled(t *tail) bool {
	if t.suspect == 1 {
		return false
	}
	o := a.s.obj[t.key]
	if o == 0 {
		return a.pos(t) == 0
	}
	return a.s.locked&(1<<t.key) == 0 && (o == t.node || a.bug == bugSettleByLength && a.depth[o] == a.pos(t))
}

func (a *at) extOf(m mask) uint8 {
	for i := range a.events {
		if m&(1<<i) != 0 {
			return a.events[i].ext[a.contentAt(a.w, a.events[i].seq)]
		}
	}
	return 0
}

// has is compare.go: the series has the event, as far as its tail tells.
func has(c *chain, created uint8, e *event) bool {
	return c.created == created && e.seq <= c.last && e.time <= c.greatest
}

// dropHeld is series.dropHeld.
func (a *at) dropHeld(t *tail) int {
	k, c := a.k, &t.chain
	if c.inc > a.w.inc && a.bug != bugOldLife {
		return newerLife
	}
	behind := 0
	if a.bug != bugNotDropped {
	scan:
		for i := range a.events {
			e, bit := &a.events[i], mask(1)<<i
			switch {
			case k.batch&bit == 0:
				continue
			case (k.found|k.over)&bit != 0:
			case c.created == 0:
				break scan
			case a.bug == bugDropBySequence && e.seq <= c.last:
			case c.created != a.w.created && c.inc == a.w.inc && a.bug != bugOldLife:
				return streamUsed
			case c.created != a.w.created, e.seq > c.last:
				break scan
			case e.time <= c.greatest:
			case c.inc == a.w.inc:
				return streamUsed
			default:
				break scan
			}
			behind = i + 1
		}
	}
	for i := range a.events {
		bit := mask(1) << i
		switch {
		case k.batch&bit == 0, i >= behind && (k.found|k.over)&bit == 0:
			continue
		case k.over&bit != 0 && a.bug != bugOvertakenHeld:
			a.say("%s was overtaken and goes to the dead letters", a.names(bit))
			a.meets(metOvertaken)
			a.s.dead |= bit
		default:
			a.say("%s is in the series", a.names(bit))
			a.meets(metHeld)
		}
		k.batch &^= bit
		a.confirm(bit)
	}
	k.found &= k.batch | k.queue
	k.over &= k.batch | k.queue
	k.fresh &= k.batch | k.queue
	return fine
}

func (a *at) confirm(m mask) {
	a.s.acked |= m
}

// content is series.content.
func (a *at) content(t *tail, kind uint8) frame {
	c := &t.chain
	inc := a.w.inc
	if kind != kindData && a.bug != bugSealOfWriter {
		inc = c.inc // Last is a sequence of that one
	}
	return frame{kind: kind, key: t.key, num: c.num + 1, inc: inc, created: c.created, last: c.last, greatest: c.greatest, prev: c.prev}
}

// sendData is series.frame and the sending half of put.
func (a *at) sendData(t *tail) {
	f := a.content(t, kindData)
	f.created, f.events = a.w.created, a.k.batch
	for i := range a.events {
		if e := &a.events[i]; f.events&(1<<i) != 0 {
			if f.first == 0 {
				f.first = e.seq
			}
			f.last, f.max = e.seq, max(f.max, e.time)
		}
	}
	f.greatest = max(f.greatest, f.max)
	a.send(t, a.world.frame(f), a.pos(t), t.node)
	if a.bug == bugAckEarly {
		a.confirm(f.events)
	}
}

func (a *at) send(t *tail, f uint16, pos uint8, before uint16) {
	a.k.req = request{key: t.key + 1, pos: pos, frame: f, want: a.child(before, f)}
	a.k.pc, a.k.sure = wait, 0
	a.say("sends %s to %s at %d", a.frameName(f), keyName(t.key), pos)
}

// nextKey is series.nextKey.
func (a *at) nextKey(key, ext uint8) (uint8, bool) {
	if segOf(key) == maxSeg {
		a.cut = true
		a.halt()
		return 0, false
	}
	return keyOf(seriesOf(key), segOf(key)+1, ext), true
}

// halt takes the writer out of a state that is beyond the bounds.
func (a *at) halt() { a.s.wrong = beyond }

// seal is series.seal up to the request.
func (a *at) seal(ext uint8) {
	t := a.t()
	if t.complete == 0 && a.s.obj[t.key] == 0 {
		a.unsettle() // what is gone cannot be collected
		return
	}
	if t.complete == 0 {
		// collect reads the segment up to the tail.
		if a.prefix(a.s.obj[t.key], a.pos(&t)) != t.node {
			t.suspect = 1
			a.set(t)
			a.goForward("is to seal, but the segment does not read as it was written")
			return
		}
		t.complete = 1
		a.set(t)
	}
	next, ok := a.nextKey(t.key, ext)
	if !ok {
		return
	}
	if a.bug == bugSealInLedger {
		a.say("seals %s in the ledger only", keyName(t.key))
		t.chain.seg++
		t.chain.num = 0
		a.goOn(&t, next)
		a.afterSeal()
		return
	}
	f := a.content(&t, kindSeal)
	f.next, f.before = next, t.node
	switch {
	case ext != extOf(t.key):
		f.reason = sealCodec
	case a.k.batch == 0:
		f.reason = sealIdle
	}
	a.send(&t, a.world.frame(f), a.pos(&t), t.node)
}

func (a *at) afterSeal() {
	if a.k.batch == 0 {
		a.rest()
	} else {
		a.k.pc = look
	}
}

// goOn is series.goOn: the tail moves to the segment that the last frame named.
func (a *at) goOn(t *tail, key uint8) {
	if a.bug == bugIgnoreNext {
		key = keyOf(a.n, segOf(key), a.ownExt())
	}
	n := tail{key: key, node: 1, complete: 1, chain: t.chain}
	n.chain.seg, n.chain.num = segOf(key), 0
	n.proven = n.chain
	a.set(n)
	a.firm()
	a.note()
}

func (a *at) ownExt() uint8 {
	for i := range a.events {
		if e := &a.events[i]; e.series[a.contentAt(a.w, e.seq)] == a.n {
			return e.ext[a.w.layout%2]
		}
	}
	return 0
}
