package main

import "slices"

// The twin of look.go and passed.go: finding a series' tail.

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
	a.meets(metGone)
	a.breakOff(t, 0, 0, 2)
}

// keys lists the series' segments from the given one on, in order.
func (a *at) keys(from uint8) (keys []uint8) {
	for seg := max(from, 1); seg <= maxSeg; seg++ {
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
	if len(keys) == 0 && k.batch == 0 {
		return
	}
	if len(keys) == 0 && a.bug != bugStartAtOne {
		// Nobody knows anything of it; the append says whether that is still so.
		a.begin(keyOf(a.n, 1, a.firstExt()))
		return
	}
	if a.bug == bugStartAtOne {
		keys = []uint8{keyOf(a.n, 1, a.firstExt())}
	}
	a.meets(metListed)
	found, why := a.enter(keys)
	if why != fine {
		a.endEpoch(why)
		k.tail = 0
		return
	}
	if !found {
		a.begin(keys[0])
	}
	if found && a.bug != bugEntersAhead && a.enterLower(keys, nil) != fine {
		a.endEpoch(newerLife)
		return
	}
	t := a.t()
	a.k.within = settling
	if !found {
		a.k.within = beginning
	}
	a.goForward("lists the segments, and enters " + keyName(t.key))
}

// begin makes the tail of a series that nothing is known of.
func (a *at) begin(key uint8) {
	t := tail{key: key, node: 1, complete: 1}
	t.chain.seg = segOf(t.key)
	t.chain.anchored = 1
	t.proven = t.chain
	a.set(t)
}

// enterLower is series.enterLower.
func (a *at) enterLower(keys []uint8, from *tail) int {
	w := a.t()
	least, yes := a.seems(&w.chain)
	if !yes {
		return fine
	}
	at := -1
	for i := len(keys) - 1; i >= 0; i-- {
		f, empty := a.firstFrame(keys[i])
		if empty {
			continue
		}
		at = i
		if f != nil && f.kind == kindData && f.first < least {
			break
		}
	}
	if at < 0 || keys[at] == w.key {
		return fine
	}
	a.meets(metLower)
	a.skipped()
	if from != nil && keys[at] == from.key {
		a.set(*from)
		return fine
	}
	n := tail{key: keys[at], node: 1, complete: 1, entered: 1}
	n.chain.seg = segOf(n.key)
	if n.chain.seg == 1 {
		n.chain.anchored = 1
	}
	n.proven = n.chain
	moved, why := a.readSegment(&n, a.s.obj[n.key], false)
	if !moved {
		a.set(n)
	}
	if why == newerLife {
		return why
	}
	return fine
}

// lost is series.lost.
func (a *at) lost() {
	a.say("%s is gone since it was listed", keyName(a.t().key))
	a.stall()
	a.k.tail = 0
}

// firstFrame is series.firstFrame.
func (a *at) firstFrame(key uint8) (f *frame, empty bool) {
	o := a.s.obj[key]
	if o <= 1 {
		return nil, true
	}
	for a.depth[a.nodes[o].parent] > 0 {
		o = a.nodes[o].parent
	}
	n, _ := a.last(o)
	if !a.check(&chain{seg: segOf(key)}, key, n) {
		return nil, false
	}
	return &a.frames[n], false
}

// seems is series.seems.
func (a *at) seems(c *chain) (least uint8, yes bool) {
	for i := range a.world.events {
		if e := &a.world.events[i]; (a.k.batch|a.k.queue)&(1<<i) != 0 {
			return e.seq, has(c, a.w.created, e)
		}
	}
	return a.k.newest + 1, c.created == a.w.created && c.last > a.k.newest
}

// firstExt is the codec of a series' first segment: its layout's. Where an instance
// says so, one that all agree on, whatever their layout.
func (a *at) firstExt() uint8 {
	if a.agreed && a.bug != bugFirstByLayout {
		return 0
	}
	return a.extOf(a.k.batch)
}

// enter is series.enter. What was found out before stays, if it enters nothing.
func (a *at) enter(keys []uint8) (found bool, why int) {
	was := *a.k
	a.skipped()
	defer func() {
		if !found && why == fine {
			a.k.found, a.k.over, a.k.fresh, a.k.unsure, a.k.ahead = was.found, was.over, was.fresh, was.unsure, was.ahead
		}
	}()
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
			if a.frames[f].kind == kindSeal && a.frames[f].before == a.nodes[o].parent && a.check(&c, n.key, f) {
				if a.frames[f].inc > a.w.inc {
					return false, newerLife
				}
				a.advance(&c, f)
				n.chain = c
				a.goOn(&n, a.frames[f].next)
				a.meets(metFromSeal)
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
	keys := a.keys(t.chain.seg)
	found, why := a.enter(slices.DeleteFunc(slices.Clone(keys), func(key uint8) bool { return key == t.key }))
	if found && a.bug != bugEntersAhead && a.bug != bugAboveAhead {
		why = a.enterLower(keys, t)
	}
	if why != fine {
		a.endEpoch(why)
		return false
	}
	if found {
		a.meets(metAbove)
	} else {
		a.k.tail = was
	}
	return found
}
