package main

// The twin of read.go, of look.go, compare.go and of
// event.Chain. Head and the read that follows are one step: what is read ends at
// the length that Head said, and that does not change below it but by damage.

// forwardStep is one turn of the loop in series.readForward. torn: of how many
// reads the bytes are cut on their way.
func (a *at) forwardStep(torn uint8) {
	k := a.k
	t := a.t()
	o := a.s.obj[t.key]
	shut := a.s.locked&(1<<t.key) != 0
	if o == 0 && a.pos(&t) == 0 && t.entered == 1 {
		a.lost()
		return
	}
	if o == 0 && a.pos(&t) == 0 {
		t.suspect = 0
		a.set(t)
		a.say("%s is not there yet", keyName(t.key))
		a.back()
		return
	}
	moved, why := false, corrupt
	switch {
	case o == 0:
	case t.suspect == 1:
		k.sure = 1
	default:
		moved, why = a.readSegment(&t, o, torn > 0)
		if !moved {
			a.set(t)
		}
	}
	switch {
	case why == newerLife:
		a.endEpoch(why)
	case why == corrupt && k.sure == 0 && a.bug != bugNoReread:
		a.say("reads %s at %s; once more", keyName(t.key), a.objectName(o))
		a.meets(metReread)
		k.sure = 1
	case o == 0:
		a.passGone(&t)
	case why == corrupt:
		a.rescan(o, torn == 2)
	case moved:
		k.sure = 0
	case shut && a.bug == bugCloseByBreak:
		a.breakOff(&t, a.pos(&t), o, 1)
	case shut:
		a.leave(&t)
	default:
		a.say("reads %s to its end: %s", keyName(t.key), a.objectName(o))
		a.back()
	}
}

// back: what there is was read; the next append will tell.
func (a *at) back() {
	k := a.k
	within, from := k.within, k.from
	k.pc, k.sure, k.within, k.from = look, 0, 0, 0
	if t := a.t(); from != 0 && t.key == a.tails[from].key && a.pos(&t) == a.depth[a.tails[from].node] {
		a.unsettle() // it took no append where it ends
		return
	}
	if k.sealing == 2 && k.known != 0 { // bugCarrySeal
		t := a.t()
		f := k.known
		k.sealing, k.known = 3, 0
		a.send(&t, f, a.pos(&t), t.node)
		return
	}
	if k.batch == 0 && within == 0 {
		a.rest() // a seal that was refused is dropped
	}
}

// readSegment is series.readSegment. If it has moved, the tail is set.
func (a *at) readSegment(t *tail, o uint16, torn bool) (moved bool, why int) {
	var buf [16]uint16
	n, from := a.depth[o], a.pos(t)
	if n < a.pos(t) || torn && n > a.pos(t) {
		return false, corrupt
	}
	for _, end := range a.path(o, buf[:]) {
		f, at := a.last(end)
		if a.depth[end] <= a.pos(t) {
			continue
		}
		if at != a.pos(t) || !a.check(&t.chain, t.key, f) {
			return false, corrupt
		}
		c := &a.frames[f]
		switch {
		case c.kind == kindData:
		case end == o && a.child(t.node, f) != o && a.bug != bugFollowsUnproven, end != o && from > 0 && a.bug != bugFollowsInside:
			return false, corrupt
		}
		if why := a.adopt(t, f); why != fine {
			return false, why
		}
		if c.kind != kindData {
			a.say("adopts %s", a.frameName(f))
			a.meets(metFollowed)
			a.goOn(t, c.next)
			return true, fine
		}
	}
	if t.node != o && a.bug != bugNoCRC {
		return false, corrupt
	}
	t.proven = t.chain
	a.firm()
	a.k.note = a.world.tail(*t)
	return false, fine
}

// adopt is series.adopt.
func (a *at) adopt(t *tail, n uint16) int {
	f := &a.frames[n]
	if f.inc > a.w.inc && a.bug != bugOldLife {
		return newerLife
	}
	if f.kind == kindData {
		a.meets(metAdopted)
		a.compare(t, f)
	}
	t.node = a.child(t.node, n)
	a.advance(&t.chain, n)
	t.before = chain{}
	return fine
}

// rescan is series.rescan.
func (a *at) rescan(o uint16, torn bool) {
	k := a.k
	known := a.t()
	known.suspect = 1
	if a.bug != bugNoUnmark {
		a.unmark(&known)
	}
	saved := a.world.tail(known)
	n := tail{key: known.key, node: 1, complete: 1}
	n.chain.seg = segOf(n.key)
	n.proven = n.chain
	if known.proven.num == 0 {
		n.before = known.proven
	}
	if a.bug == bugNoRescan {
		a.breakOff(&known, a.pos(&known), o, 1)
		return
	}
	moved, why := a.readSegment(&n, o, torn)
	switch {
	case moved:
		k.sure = 0
		return
	case why == newerLife:
		a.endEpoch(why)
		return
	}
	if n.chain.num == 0 {
		n.chain = known.proven
		n.chain.num = 0
	}
	reason := uint8(1)
	switch {
	case why == fine && known.chain.num == 0 && n.chain.num == 0,
		why == fine && n.chain.num > 0 && !behind(&n.chain, &known.proven):
		a.say("reads %s from its start: whole", keyName(n.key))
		a.meets(metWhole)
		a.set(n)
		k.sure = 0
		return
	case why == fine:
		reason = 10 + known.proven.last
	}
	// findBreak
	var buf [16]uint16
	for _, end := range a.path(o, buf[:]) {
		f, at := a.last(end)
		c := &a.frames[f]
		if at < a.pos(&n) || c.kind != kindBreak || a.bug == bugNoFindBreak {
			continue
		}
		if (c.valid == a.pos(&n) || a.bug == bugAnyBreak) && a.check(&n.chain, n.key, f) {
			a.say("follows the break in %s: %s", keyName(n.key), a.objectName(o))
			a.meets(metBreakFollowed)
			a.advance(&n.chain, f)
			a.goOn(&n, c.next)
			k.sure = 0
			return
		}
	}
	k.known = saved
	a.say("finds %s broken: %s", keyName(n.key), a.objectName(o))
	a.breakOff(&n, a.pos(&n), o, reason)
}

// behind is the function of that name.
func behind(c, known *chain) bool {
	if c.inc != known.inc {
		return c.inc < known.inc
	}
	return c.last < known.last
}

// breakOff is series.breakOff up to the request.
func (a *at) breakOff(t *tail, valid uint8, o uint16, reason uint8) {
	next, ok := a.nextKey(t.key, extOf(t.key))
	if !ok {
		return
	}
	f := a.content(t, kindBreak)
	f.next, f.valid, f.reason = next, valid, reason
	if valid == 0 {
		f.num = 1
	}
	if a.k.known == 0 {
		a.k.known = a.k.tail
	}
	a.set(*t)
	pos := a.depth[o]
	if a.bug == bugBreakAtValid {
		pos = valid
	}
	a.send(t, a.world.frame(f), pos, a.prefix(o, pos))
}
