package main

// The twin of append.go: prepare, append, confirm; in doubt; seal; break.

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
		case a.s.obj[t.key] == 0 && a.pos(&t) == 0 && t.entered == 1:
			a.lost()
			return
		case !a.settled(&t):
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
	a.k.pc, a.k.sealing, a.k.sure, a.k.known = idle, 0, 0, 0
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

// apply is what the store does with a request.
const (
	applied = iota
	refused
	closed
)

func (x *world) apply(s *state, q request) int {
	key := q.key - 1
	switch o := s.obj[key]; {
	case s.locked&(1<<key) != 0:
		return closed
	case x.depth[o] != q.pos:
		return refused
	default:
		s.obj[key] = x.child(o, q.frame)
		return applied
	}
}

// answered is the receiving half of put and breakOff.
func (a *at) answered(how int, garbled bool) {
	k, q := a.k, a.k.req
	key := q.key - 1
	k.req = request{}
	t := a.t()
	f := &a.frames[q.frame]
	if how == applied && (a.s.obj[key] != q.want || garbled) && a.bug != bugGarbledTaken && a.bug != bugDoubtIsSuccess {
		how = refused
		a.say("the answer is not as computed")
	}
	switch {
	case how == refused && a.bug == bugTrustLength && a.depth[a.s.obj[key]] == a.depth[q.want] && f.kind == kindData:
		a.say("takes the length for its own append's")
		how = applied
	case how == refused && a.bug == bugAppendAtLength && f.kind == kindData:
		t.node = a.s.obj[key]
		a.set(t)
		k.pc = look
		return
	}
	a.count(how, f, &t)
	switch {
	case how == applied:
	case how == closed && (a.bug == bugLeaveAtOnce || f.kind == kindBreak && a.bug != bugCloseByBreak):
		a.leave(&t)
		return
	case f.kind == kindBreak:
		// A stall: look again from what was known.
		k.tail, k.known = k.known, 0
		k.doubt, k.pc = 1, look
		return
	case a.bug == bugCarrySeal && f.kind == kindSeal && how == refused && k.sealing < 2:
		k.sealing = 2
		k.known = q.frame
		a.goForward("")
		return
	case how == closed && a.bug == bugCloseByBreak:
		a.breakOff(&t, a.pos(&t), a.s.obj[key], 1)
		return
	default:
		a.goForward("")
		return
	}
	if f.kind == kindBreak && a.bug == bugNoBreakAdvance {
		a.goOn(&t, f.next)
		k.pc, k.known = forward, 0
		return
	}
	t.node = a.child(t.node, q.frame)
	a.advance(&t.chain, q.frame)
	t.proven = t.chain
	switch f.kind {
	case kindData:
		a.set(t)
		a.note()
		a.confirm(k.batch)
		k.batch = 0
		k.found &= k.queue
		k.over &= k.queue
		k.fresh &= k.queue
		a.rest()
	case kindSeal:
		if a.bug == bugCheckpointSeal {
			u := t
			u.chain.seg--
			u.chain.num = f.num
			a.s.older[a.n], a.s.ledger[a.n] = a.s.ledger[a.n], a.world.tail(u)
		}
		a.goOn(&t, f.next)
		if k.batch != 0 { // something is appended to it right now
			t = a.t()
			t.looked = 1
			a.set(t)
		}
		a.afterSeal()
	case kindBreak:
		a.goOn(&t, f.next)
		k.pc, k.known = forward, 0
	}
}

// count counts the answer.
func (a *at) count(how int, f *frame, t *tail) {
	a.meets([...]met{applied: metApplied, refused: metRefused, closed: metClosed}[how])
	switch {
	case how == refused && t.complete == 0 && a.ledger:
		a.meets(metBehind)
	case how == applied && f.kind == kindBreak:
		a.meets(metBroken)
	case how == applied && f.kind == kindSeal:
		a.meets(metSealed)
		if extOf(f.next) != extOf(f.key) {
			a.meets(metTurned)
		}
	}
}

// inDoubt: no answer came.
func (a *at) inDoubt() {
	k := a.k
	f := &a.frames[k.req.frame]
	if f.kind == kindBreak {
		k.tail, k.known = k.known, 0
	}
	switch t := a.t(); {
	case a.bug == bugDoubtIsSuccess && f.kind == kindData:
		a.answered(applied, false)
		return
	case a.bug == bugDoubtElsewhere && f.kind == kindData:
		a.leave(&t)
		k.pc = look
		k.req = request{}
		return
	}
	k.req = request{}
	k.pc, k.doubt = look, 1
	if t := a.t(); a.pos(&t) == 0 && t.suspect == 0 {
		t.looked = 0
		a.set(t)
		if t.chain.seg == 1 {
			k.tail, k.known = 0, 0
		}
	}
}

// leave is series.leave: on to the next segment without a frame that says so.
func (a *at) leave(t *tail) {
	next, ok := a.nextKey(t.key, extOf(t.key))
	if !ok {
		return
	}
	a.say("leaves %s without a frame", keyName(t.key))
	a.meets(metLeft)
	a.goOn(t, next)
	a.goForward("")
	a.k.known = 0
}

// endEpoch: the writer is down until its next epoch.
func (a *at) endEpoch(why int) {
	reused := a.w.reused
	if why == streamUsed {
		reused = a.w.inc + 1
		a.say("the stream hands out sequences again; the epoch ends")
		a.meets(metReused)
	} else {
		a.say("the series is of a later incarnation; the epoch ends")
		a.meets(metNewerLife)
	}
	a.down(a.s, a.i)
	a.s.w[a.i].reused = reused
}

// down ends a writer; its requests stay on their way if there is room for them.
func (x *world) down(s *state, i int) {
	w := &s.w[i]
	for n := range w.sinks {
		if q := w.sinks[n].req; q.key != 0 {
			s.orphan(q)
		}
	}
	if w.up == 1 {
		s.ctl.ghosts = max(s.ctl.ghosts, w.horizon)
	}
	*w = writer{}
}

func (s *state) orphan(q request) bool {
	for i := range s.orphans {
		if s.orphans[i].key == 0 {
			s.orphans[i] = q
			return true
		}
	}
	return false
}
