package main

// The twin of append.go's other half: what follows an append's answer, doubt, stalls,
// and the end of an epoch.

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
		a.stall()
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
		k.from = k.tail
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
		k.req = request{}
		a.stall()
		return
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
	k.pc = look
	a.unsettle()
}

// unsettle: the attempt has stalled, and the next one settles first. What that
// begins with is done here, since it is not to be done again when it goes on.
func (a *at) unsettle() {
	k := a.k
	k.doubt = 1
	if t := a.t(); k.tail != 0 && a.pos(&t) == 0 && t.suspect == 0 {
		t.looked = 0
		a.set(t)
		if t.chain.seg == 1 {
			k.tail = 0
		}
	}
}

// stall: reading forward came to no end. What failed may be a break; then nothing
// was learnt.
func (a *at) stall() {
	k := a.k
	if k.known != 0 {
		k.tail, k.known = k.known, 0
	}
	if k.within == beginning {
		k.tail = 0
	}
	k.pc, k.sure, k.within, k.from = look, 0, 0, 0
	a.unsettle()
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
