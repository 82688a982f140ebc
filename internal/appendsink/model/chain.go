package main

// The twin of event.Chain and of compare.go.

// anew is Chain.anew.
func anew(c *chain, f *frame) bool { return f.kind == kindBreak && f.valid == 0 && c.num == 0 }

// check is Chain.Check, with what the scanner checks of a frame by itself.
func (x *world) check(c *chain, key uint8, n uint16) bool {
	f := &x.frames[n]
	switch {
	case f.kind == kindJunk:
		return false
	case seriesOf(f.key) != seriesOf(key), segOf(f.key) != c.seg, f.num != c.num+1:
		return false
	case extOf(f.key) != extOf(key):
		return false
	case anew(c, f) && (x.calm || x.bug != bugBreakNotAnew):
		return true
	case c.anchored == 1 && f.prev != c.prev && (x.calm || x.bug != bugNoPrev):
		return false
	case c.anchored == 0:
		return true
	case f.inc < c.inc, f.inc == c.inc && c.created != 0 && f.created != c.created:
		return false
	case f.kind != kindData:
		return f.last == c.last && f.greatest == c.greatest || !x.calm && x.bug == bugNoPrev
	}
	return (f.inc > c.inc || f.first > c.last) && (f.greatest == max(c.greatest, f.max) || !x.calm && x.bug == bugNoPrev)
}

// advance is Chain.Advance.
func (x *world) advance(c *chain, n uint16) {
	f := &x.frames[n]
	if f.kind == kindData || c.anchored == 0 || anew(c, f) {
		c.inc, c.created, c.last, c.greatest = f.inc, f.created, f.last, f.greatest
	}
	c.prev, c.anchored = n, 1
	if f.kind == kindData {
		c.num = f.num
		return
	}
	c.seg, c.num = segOf(f.key)+1, 0
}

// judge is ahead.judge: found, overtaken or neither.
func (a *at) judge(h *ahead, i int) (found, over bool) {
	e := &a.world.events[i]
	held := h.events&(1<<i) != 0
	if a.bug == bugCompareSequence {
		for j := range a.world.events {
			held = held || h.events&(1<<j) != 0 && a.world.events[j].seq == e.seq
		}
	}
	switch {
	case e.seq > h.last, h.before.anchored == 0 && e.seq < h.first, has(&h.before, a.w.created, e):
		return false, false
	case held:
		return true, false
	case a.bug == bugCompareCount:
		return true, false
	}
	return false, e.time <= h.greatest && a.bug != bugNoOvertaken
}

// compare is series.compare.
func (a *at) compare(t *tail, f *frame) {
	k := a.k
	if f.created != a.w.created || a.bug == bugNoCompare {
		return
	}
	before := t.chain
	if before.anchored == 0 {
		before = t.before
	}
	h := ahead{before: before, first: f.first, last: f.last, greatest: f.greatest, events: f.events}
	for i := range a.world.events {
		bit := mask(1) << i
		if (k.batch|k.queue)&bit == 0 {
			continue
		}
		found, over := a.judge(&h, i)
		if found || over {
			k.found &^= bit
			k.over &^= bit
			k.fresh |= bit
			k.unsure = 1
		}
		if found {
			a.say("finds its %s in a frame", a.names(bit))
			a.meets(metOwn)
			k.found |= bit
		}
		if over {
			k.over |= bit
		}
	}
	if h.last <= k.newest {
		return // nothing to remember
	}
	all := h
	if k.ahead != 0 {
		all = a.aheads[k.ahead]
		all.last, all.greatest = h.last, h.greatest
		all.events |= h.events
	}
	all.fresh |= h.events
	for i := range a.world.events {
		if a.world.events[i].seq <= k.newest {
			all.events &^= 1 << i
			all.fresh &^= 1 << i
		}
	}
	k.unsure = 1
	k.ahead = number(&a.world.aheads, a.aheadOf, all)
}

// judgeLate is Set.judgeLate: event i was just handed over.
func (a *at) judgeLate(i int) {
	k := a.k
	if k.ahead == 0 {
		return
	}
	h := a.aheads[k.ahead]
	found, over := a.judge(&h, i)
	if found {
		k.found |= 1 << i
	}
	if over {
		k.over |= 1 << i
		a.meets(metOvertakenLate)
	}
	if (found || over) && k.unsure == 1 {
		k.fresh |= 1 << i
	}
	if a.world.events[i].seq >= h.last {
		k.ahead = 0
	}
}

// skipped is series.skipped.
func (a *at) skipped() {
	a.unmark(nil)
	a.k.ahead = 0
}

// firm is series.firm.
func (a *at) firm() {
	k := a.k
	k.unsure, k.fresh = 0, 0
	if k.ahead != 0 {
		h := a.aheads[k.ahead]
		h.fresh, h.sureLast, h.sureGreatest = 0, h.last, h.greatest
		k.ahead = number(&a.world.aheads, a.aheadOf, h)
	}
}

// unmark is series.unmark. known is only for a bug.
func (a *at) unmark(known *tail) {
	k := a.k
	if a.bug == bugUnmarkBySequence && known != nil {
		a.unmarkBySequence(known)
		return
	}
	k.found &^= k.fresh
	k.over &^= k.fresh
	k.unsure, k.fresh = 0, 0
	if k.ahead == 0 {
		return
	}
	h := a.aheads[k.ahead]
	if h.sureLast == 0 {
		k.ahead = 0
		return
	}
	h.events &^= h.fresh
	h.fresh, h.last, h.greatest = 0, h.sureLast, h.sureGreatest
	k.ahead = number(&a.world.aheads, a.aheadOf, h)
}

func (a *at) unmarkBySequence(t *tail) {
	k, base := a.k, uint8(0)
	if t.proven.inc == a.w.inc && t.proven.created == a.w.created {
		base = t.proven.last
	}
	var gone mask
	for i := range a.world.events {
		if a.world.events[i].seq > base {
			gone |= 1 << i
		}
	}
	k.found &^= gone
	k.over &^= gone
	if k.ahead != 0 {
		h := a.aheads[k.ahead]
		h.events &^= gone
		h.last = min(h.last, base)
		k.ahead = number(&a.world.aheads, a.aheadOf, h)
	}
}
