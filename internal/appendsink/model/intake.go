package main

import "math/bits"

// The part of internal/intake and internal/control that the sinks rest on: when
// an epoch begins, what it hands out, and under which layout. An update of the
// control log is one step; that it is one, is the append by position.

// contentAt is the content of the layout under which a writer hands out seq.
func (x *world) contentAt(w *writer, seq uint8) uint8 { return layoutAt(&w.plan, seq) % 2 }

// layoutAt is State.LayoutAt.
func layoutAt(plan *[maxLayouts]since, seq uint8) uint8 {
	n := uint8(0)
	for i, l := range plan {
		if l.layout == 0 || i > 0 && l.since > seq {
			break
		}
		n = l.layout
	}
	return n
}

func (c *control) newest() (layout uint8, at int) {
	for i, l := range c.layouts {
		if l.layout != 0 {
			layout, at = l.layout, i
		}
	}
	return layout, at
}

// highest is State.HighestHorizon.
func (s *state) highest() uint8 {
	h := max(s.ctl.base, s.ctl.ghosts)
	for i := range s.w {
		h = max(h, s.w[i].horizon)
	}
	return h
}

// starts: writer i begins an epoch.
func (x *world) starts(s *state, i int, out emit) {
	begin := func(stale, floor bool) {
		did := act{kind: actStart, w: uint8(i)}
		if stale {
			did.arg = 1
		} else if floor {
			did.arg = 2
		}
		x.step(s, out, did, func(n *state) { x.start(n, i, stale, floor) })
	}
	begin(false, false)
	if x.floors && s.floor > 0 {
		begin(false, true)
	}
	if s.used.stale < x.faults.stale {
		for n := range x.series {
			if s.older[n] != s.ledger[n] {
				begin(true, false)
				break
			}
		}
	}
}

// start is intake's epoch up to the consumer: what settle writes, and what the
// sinks load. Layout 1 has content 1, layout 2 content 0, and so on.
func (x *world) start(s *state, i int, stale, floor bool) {
	w := &s.w[i]
	reused := w.reused
	*w = writer{up: 1}
	c := &s.ctl
	x.say("W%d starts", x.who[i])
	own := x.configs[i] // content of the configuration
	layout, at := c.newest()
	switch {
	case layout == 0:
		c.inc, c.created = 0, s.created
		c.layouts[0] = since{layout: 2 - own, since: 1}
	case layout%2 != own:
		if s.used.switched == x.faults.switched {
			s.wrong = beyond
			return
		}
		s.used.switched++
		n := since{layout: layout + 1, since: s.highest() + 1}
		switch x.bug {
		case bugSwitchAtFloor:
			n.since = s.floor + 1
		case bugForgetsHorizons:
			n.since = c.base + 1
		}
		for at > 0 && c.layouts[at].since >= n.since {
			c.layouts[at] = since{}
			at--
		}
		if c.layouts[at].since >= n.since {
			c.layouts[at].layout = n.layout
		} else if at+1 < maxLayouts {
			c.layouts[at+1] = n
		} else {
			s.wrong = beyond
			return
		}
		x.say("and switches to layout %d from %d on", n.layout, n.since)
		x.meets(metSwitched)
	}
	if c.created != s.created && x.bug != bugSameLife || reused == c.inc+1 && x.bug != bugNoNewLife {
		c.inc++
		c.base, s.floor = s.highest(), 0
		if c.created != s.created || x.bug == bugForgetsLayouts {
			layout, _ := c.newest()
			c.layouts, c.base = [maxLayouts]since{{layout: layout, since: 1}}, 0
			s.under = [2]mask{}
		}
		c.created, c.ghosts = s.created, 0
		for j := range s.w {
			s.w[j].horizon = 0
		}
		x.say("and begins incarnation %d", c.inc)
	}
	w.inc, w.created, w.plan = c.inc, c.created, c.layouts
	w.layout, _ = c.newest()
	if floor {
		w.handed = s.floor
		x.say("behind the floor %d", s.floor)
	}
	x.grant(s, i, w.handed+x.ahead)
	for n := range x.series {
		k := &w.sinks[n]
		k.known, k.rev = s.ledger[n], 1
		if stale {
			k.known, k.rev = s.older[n], 0
		}
		if t := &x.tails[k.known]; t.chain.seg == 1 && x.depth[t.node] == 0 {
			k.known = 0 // it says nothing
		}
		if k.known != 0 {
			t := &x.tails[k.known]
			x.say("knows %s at %d", keyName(t.key), x.depth[t.node])
		}
	}
	if stale {
		x.say("from a STALE ledger")
		x.meets(metStale)
	}
}

// grant is State.WithHorizon.
func (x *world) grant(s *state, i int, h uint8) {
	w := &s.w[i]
	if x.ahead == 0 {
		w.horizon = 0
		return
	}
	s.ctl.base = max(s.ctl.base, w.handed)
	w.horizon = max(w.horizon, min(h, x.lastSeq()), s.ctl.base)
}

func (x *world) lastSeq() uint8 { return x.events[len(x.events)-1].seq }

// intake is what writer i may do besides its sinks' work.
func (x *world) intake(s *state, i int, out emit) {
	w := &s.w[i]
	if s.used.crash < x.faults.crash {
		x.step(s, out, act{kind: actCrash, w: uint8(i)}, func(n *state) {
			x.say("W%d crashes", x.who[i])
			x.meets(metCrashed)
			n.used.crash++
			x.down(n, i)
		})
	}
	if e := x.handable(s, i); e >= 0 {
		x.step(s, out, act{kind: actHand, w: uint8(i), arg: uint8(e)}, func(n *state) { x.hand(n, i, e) })
	}
	if x.ahead > 0 && w.horizon < x.lastSeq() && x.needs(s, i) {
		x.step(s, out, act{kind: actRaise, w: uint8(i)}, func(n *state) { x.raise(n, i) })
	}
	if f := x.floorOf(s, i); x.floors && f > s.floor && w.inc == s.ctl.inc {
		x.step(s, out, act{kind: actFloor, w: uint8(i)}, func(n *state) {
			n.floor = f
			x.say("W%d writes floor %d", x.who[i], f)
		})
	}
	if x.ahead > 0 && x.atRest(w) && w.horizon > w.handed && s.used.crash < x.faults.crash {
		x.step(s, out, act{kind: actStop, w: uint8(i)}, func(n *state) {
			n.used.crash++
			v := &n.w[i]
			if w.inc == n.ctl.inc && x.bug != bugDoneForgets {
				n.ctl.base = max(n.ctl.base, v.handed)
			}
			v.horizon = 0
			x.down(n, i)
			x.say("W%d stops, and gives back its horizon", x.who[i])
		})
	}
}

func (x *world) atRest(w *writer) bool {
	for n := range x.series {
		if k := &w.sinks[n]; k.pc != idle || k.queue != 0 {
			return false
		}
	}
	return true
}

// handable is the event that writer i receives next, -1 if there is none or the
// horizon does not allow it.
func (x *world) handable(s *state, i int) int {
	w := &s.w[i]
	if w.created != s.created || w.deaf == 1 {
		return -1 // its consumer was deleted with the old stream
	}
	best := -1
	for e := range x.events {
		if v := &x.events[e]; (s.stream|w.pulled)&(1<<e) != 0 && v.seq > w.handed && (best < 0 || v.seq < x.events[best].seq) {
			best = e
		}
	}
	if best >= 0 && x.ahead > 0 && x.events[best].seq > w.horizon && x.bug != bugNoHorizon {
		return -1
	}
	if best >= 0 {
		e := &x.events[best]
		k := &w.sinks[e.series[x.contentAt(w, e.seq)]]
		if bits.OnesCount16(k.queue) >= x.queue {
			return -1
		}
	}
	return best
}

// needs says that the next event waits for the horizon.
func (x *world) needs(s *state, i int) bool {
	w := &s.w[i]
	least := uint8(255)
	for e := range x.events {
		if v := &x.events[e]; (s.stream|w.pulled)&(1<<e) != 0 && v.seq > w.handed {
			least = min(least, v.seq)
		}
	}
	return least > w.horizon
}

// hand gives event e to its sink.
func (x *world) hand(s *state, i, e int) {
	v := &x.events[e]
	w := &s.w[i]
	n := v.series[x.contentAt(w, v.seq)]
	if x.ahead > 0 {
		s.under[x.contentAt(w, v.seq)] |= 1 << e
	}
	x.say("W%d receives %s for %c", x.who[i], x.names(1<<e), 'A'+n)
	k := &w.sinks[n]
	k.queue |= 1 << e
	w.handed, k.newest = v.seq, v.seq
	w.pulled &^= 1 << e
	x.at(s, i, n).judgeLate(e)
}

// raise asks for a higher horizon.
func (x *world) raise(s *state, i int) {
	w := &s.w[i]
	layout, _ := s.ctl.newest()
	switch {
	case x.bug == bugGrantsAnybody:
	case s.ctl.inc != w.inc, layout != w.layout:
		x.say("W%d is refused a higher horizon, and ends its epoch", x.who[i])
		x.meets(metNotRaised)
		x.down(s, i)
		return
	}
	x.grant(s, i, max(w.handed, w.horizon)+x.ahead)
	x.say("W%d raises its horizon to %d", x.who[i], w.horizon)
	x.meets(metRaised)
}

// floorOf is the sequence up to which everything that writer i has received is
// confirmed.
func (x *world) floorOf(s *state, i int) uint8 {
	w := &s.w[i]
	if w.up == 0 {
		return 0
	}
	f := w.handed
	for n := range x.series {
		k := &w.sinks[n]
		for e := range x.events {
			if (k.batch|k.queue)&(1<<e) != 0 {
				f = min(f, x.events[e].seq-1)
			}
		}
	}
	return f
}
