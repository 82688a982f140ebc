package main

// The twin of look.go: finding a series' tail.

// passGone is series.passGone.
func (a *at) passGone(t *tail) {
	if a.bug != bugGoneInPlace && a.enterAbove(t) {
		a.k.pc, a.k.sure = forward, 0
		return
	}
	if a.k.pc != forward {
		return // the epoch has ended
	}
	a.say("%s is gone", keyName(t.key))
	a.breakOff(t, 0, 0, 2)
}

// keys lists the series' segments above the given one, in order.
func (a *at) keys(above uint8) (keys []uint8) {
	for seg := above + 1; seg <= maxSeg; seg++ {
		for ext := range uint8(2) {
			if key := keyOf(a.n, seg, ext); a.s.obj[key] != 0 {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// locate is series.locate. What the ledger knew when the epoch began stands in
// known until then.
func (a *at) locate() {
	k := a.k
	if k.known != 0 {
		k.tail, k.known = k.known, 0
		return
	}
	keys := a.keys(0)
	if len(keys) == 0 || a.bug == bugStartAtOne {
		if k.batch == 0 {
			return
		}
		keys = []uint8{keyOf(a.n, 1, a.firstExt())}
	}
	found, why := a.enter(keys)
	if why != fine {
		a.endEpoch(why)
		k.tail = 0
		return
	}
	if !found {
		t := tail{key: keys[0], node: 1, complete: 1}
		t.chain.seg = segOf(t.key)
		t.chain.anchored = 1
		t.proven = t.chain
		a.set(t)
	}
	if a.bug != bugEntersAhead {
		a.enterLower(keys)
	}
	t := a.t()
	a.goForward("lists the segments, and enters " + keyName(t.key))
}

// enterLower goes back to a segment that begins before whatever waits here, if
// the series seems to have some of it: it may have passed it without.
func (a *at) enterLower(keys []uint8) {
	t := a.t()
	least := uint8(255)
	for i := range a.world.events {
		if e := &a.world.events[i]; (a.k.batch|a.k.queue)&(1<<i) != 0 {
			least = min(least, e.seq)
		}
	}
	if least > t.chain.last {
		return
	}
	for i := len(keys) - 1; i >= 0; i-- {
		var buf [16]uint16
		first := uint8(255)
		for _, o := range a.path(a.s.obj[keys[i]], buf[:]) {
			if f, _ := a.last(o); a.frames[f].kind == kindData {
				first = a.frames[f].first
				break
			}
		}
		if first < least && segOf(keys[i]) != segOf(t.key) || i == 0 {
			if first < least && segOf(keys[i]) == segOf(t.key) {
				return
			}
			n := tail{key: keys[i], node: 1, complete: 1}
			n.chain.seg = segOf(n.key)
			if n.chain.seg == 1 {
				n.chain.anchored = 1
			}
			n.proven = n.chain
			a.set(n)
			return
		}
		if first < least {
			return
		}
	}
}

// firstExt is the codec of a series' first segment: the same for all, whatever
// their layout.
func (a *at) firstExt() uint8 {
	if a.bug == bugFirstByLayout {
		return a.extOf(a.k.batch)
	}
	return 0
}

// enter is series.enter.
func (a *at) enter(keys []uint8) (bool, int) {
	for i := len(keys) - 1; i >= 0; i-- {
		n := tail{key: keys[i], node: 1, complete: 1}
		n.chain.seg = segOf(n.key)
		if i == 0 && n.chain.seg == 1 || a.bug == bugHighestCounts {
			n.chain.anchored = 1
		}
		n.proven = n.chain
		a.set(n)
		o := a.s.obj[n.key]
		if o > 1 {
			// fromSeal
			f, _ := a.last(o)
			c := n.chain
			c.num, c.anchored = a.frames[f].num-1, 0
			if a.frames[f].kind == kindSeal && a.check(&c, n.key, f) {
				if a.frames[f].inc > a.w.inc {
					return false, newerLife
				}
				a.advance(&c, f)
				n.chain = c
				a.goOn(&n, a.frames[f].next)
				return true, fine
			}
		}
		if o != 0 {
			moved, why := a.readSegment(&n, o, false)
			switch {
			case why == newerLife:
				return false, why
			case moved:
				return true, fine
			case why == fine && (n.chain.num > 0 || a.bug == bugNotesNothing):
				a.set(n)
				a.note()
			}
			a.set(n)
		}
		if n.chain.num > 0 || a.bug == bugHighestCounts {
			return true, fine
		}
	}
	return false, fine
}

// enterAbove is series.enterAbove; it also ends the epoch.
func (a *at) enterAbove(t *tail) bool {
	was := a.k.tail
	found, why := a.enter(a.keys(t.chain.seg))
	if why != fine {
		a.endEpoch(why)
		return false
	}
	if !found {
		a.k.tail = was
	}
	return found
}
