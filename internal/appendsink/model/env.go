package main

// What may happen next: the writers' steps, the network's, and what the
// environment does to them.

// next hands every state that may follow s to out.
func (x *world) next(s *state, out emit) {
	for i := range x.writers {
		if s.w[i].up == 0 {
			x.starts(s, i, out)
			continue
		}
		x.intake(s, i, out)
		for n := range x.series {
			x.worker(s, i, uint8(n), out)
		}
	}
	for i := range s.orphans {
		q := s.orphans[i]
		if q.key == 0 {
			continue
		}
		x.step(s, out, act{kind: actArrive, arg: uint8(i)}, func(n *state) {
			n.orphans[i] = request{}
			how := x.apply(n, q)
			x.say("a late request puts %s to %s at %d: %s", x.frameName(q.frame), keyName(q.key-1), q.pos,
				[...]string{"applied", "refused", "not appendable"}[how])
			if how == applied {
				x.meets(metLate)
			}
		})
		x.step(s, out, act{kind: actLost, arg: uint8(i)}, func(n *state) {
			n.orphans[i] = request{}
			x.say("a late request is lost: %s to %s at %d", x.frameName(q.frame), keyName(q.key-1), q.pos)
		})
	}
	x.ledgerFaults(s, out)
	x.objectFaults(s, out)
	x.streamFaults(s, out)
}

// worker is what one sink may do.
func (x *world) worker(s *state, i int, n uint8, out emit) {
	k := &s.w[i].sinks[n]
	do := func(kind, arg uint8, change func(a *at)) {
		x.step(s, out, act{kind: kind, w: uint8(i), n: n, arg: arg}, func(m *state) {
			x.say("W%d", x.who[i])
			change(x.at(m, i, n))
		})
	}
	rolls := s.used.roll < x.faults.roll
	switch k.pc {
	case idle:
		if k.queue != 0 {
			do(actTake, 0, func(a *at) { a.take(); a.attempt(false) })
			if rolls {
				do(actTake, 1, func(a *at) { a.take(); a.attempt(true) })
			}
		} else if rolls && k.tail != 0 && x.depth[x.tails[k.tail].node] > 0 {
			do(actSeal, 0, func(a *at) { a.s.used.roll++; a.k.sealing = 1; a.attempt(false) })
		}
	case look:
		do(actLook, 0, func(a *at) { a.attempt(false) })
		if rolls && k.batch != 0 {
			do(actLook, 1, func(a *at) { a.attempt(true) })
		}
	case forward:
		do(actForward, 0, func(a *at) { a.forwardStep(0) })
		for torn := uint8(1); torn <= 2 && s.used.torn+torn <= x.faults.torn && s.obj[x.tails[k.tail].key] != 0; torn++ {
			do(actForward, torn, func(a *at) {
				a.s.used.torn += torn
				a.say("reads bytes that were cut")
				a.meets(metTorn)
				a.forwardStep(torn)
			})
		}
		if s.used.fail < x.faults.fail {
			do(actFail, 0, func(a *at) {
				a.s.used.fail++
				a.say("is told nothing of %s", keyName(a.t().key))
				a.meets(metFailed)
				a.stall()
			})
		}
	case wait:
		do(actAnswer, 0, func(a *at) {
			how := x.apply(a.s, a.k.req)
			a.say("is told: %s", [...]string{"applied", "refused", "not appendable"}[how])
			a.answered(how, false)
		})
		if s.used.garble < x.faults.garble && x.depth[s.obj[k.req.key-1]] == k.req.pos {
			do(actGarble, 0, func(a *at) {
				a.s.used.garble++
				how := x.apply(a.s, a.k.req)
				a.say("is told nonsense")
				a.meets(metGarbled)
				a.answered(how, true)
			})
		}
		if s.used.doubt < x.faults.doubt {
			do(actDoubt, 0, func(a *at) {
				a.s.used.doubt++
				if !a.s.orphan(a.k.req) {
					a.s.wrong = beyond
					return
				}
				a.say("is told nothing")
				a.meets(metDoubt)
				a.inDoubt()
			})
		}
	}
	// The ledger, behind the scenes.
	if e := x.entry(k.note); x.ledger && k.note != 0 && e != s.ledger[n] {
		do(actCheckpoint, 0, func(a *at) {
			l, rev := a.s.ledger[n], a.k.rev
			t := &x.tails[e]
			out := x.spent(t) && t.chain.last == 0 // taken out rather than written, if it is as it was
			if out {
				e = 0
			}
			if rev == 1 || !out && (l == 0 || x.before(l, e)) {
				a.s.older[n], a.s.ledger[n] = l, e
				for j := range a.s.w {
					a.s.w[j].sinks[n].rev = 0
				}
			}
			a.k.rev = 1
			if out {
				a.k.rev = 0
			}
			a.say("checkpoints %s at %d", keyName(x.tails[a.k.note].key), x.depth[x.tails[a.k.note].node])
		})
	}
	// A series that ended with a seal leaves the ledger once the floor has passed.
	if t := &x.tails[k.note]; s.used.drop < x.faults.drop && k.note != 0 && k.rev == 1 && s.ledger[n] != 0 &&
		x.spent(t) && t.chain.last <= x.floorOf(s, i) {
		do(actDrop, 0, func(a *at) {
			a.s.used.drop++
			a.s.older[n], a.s.ledger[n], a.k.rev = a.s.ledger[n], 0, 0
			a.say("takes the series out of the ledger")
			a.meets(metDropped)
		})
	}
}

// take makes a batch of what waits: as much as has one codec.
func (a *at) take() {
	ext := a.extOf(a.k.queue)
	for i := range a.world.events {
		e, bit := &a.world.events[i], mask(1)<<i
		if a.k.queue&bit == 0 {
			continue
		}
		if e.ext[a.contentAt(a.w, e.seq)] != ext {
			break
		}
		a.k.batch |= bit
	}
	a.k.queue &^= a.k.batch
}

// entry is what the ledger keeps of a tail: tail.entry and Set.tailOf.
func (x *world) entry(n uint16) uint16 {
	if n == 0 {
		return 0
	}
	t := x.tails[n]
	t.suspect, t.looked, t.entered, t.chain.anchored, t.complete = 0, 0, 0, 1, 0
	if x.depth[t.node] == 0 {
		t.complete = 1
	}
	t.proven = t.chain
	return x.tail(t)
}

// before is the function of that name in checkpoint.go.
func (x *world) before(a, b uint16) bool {
	p, q := &x.tails[a], &x.tails[b]
	if p.chain.seg != q.chain.seg {
		return p.chain.seg < q.chain.seg
	}
	return x.depth[p.node] < x.depth[q.node]
}

func (x *world) ledgerFaults(s *state, out emit) {
	for n := range x.series {
		if s.ledger[n] != 0 && s.used.lost < x.faults.lost {
			x.step(s, out, act{kind: actLedgerLost, n: uint8(n)}, func(m *state) {
				m.used.lost++
				m.older[n], m.ledger[n] = 0, 0
				for j := range m.w {
					m.w[j].sinks[n].rev = 0
				}
				x.say("the ledger loses %c", 'A'+n)
				x.meets(metLost)
			})
		}
		if s.older[n] != s.ledger[n] && s.used.back < x.faults.back {
			x.step(s, out, act{kind: actLedgerBack, n: uint8(n)}, func(m *state) {
				m.used.back++
				m.ledger[n] = m.older[n]
				for j := range m.w {
					m.w[j].sinks[n].rev = 0
				}
				x.say("the ledger rolls %c back", 'A'+n)
				x.meets(metBack)
			})
		}
	}
}

// damage notes what a change of an object destroys: what stood there.
func (x *world) damage(s *state, key uint8, from uint8) {
	var buf [16]uint16
	for _, o := range x.path(s.obj[key], buf[:]) {
		if f, at := x.last(o); at >= from {
			s.destroyed |= x.frames[f].events
		}
	}
	s.hurt |= 1 << key
}

// deletable says that a segment may be deleted: one that the series has left
// behind, as lifecycle rules do, or any one once all writers know the series. In
// either case by nobody who believes that nothing is in it yet: his append would
// not be refused.
func (x *world) deletable(s *state, key uint8) bool {
	left := x.everywhere
	for seg := segOf(key) + 1; seg <= maxSeg; seg++ {
		left = left || s.obj[keyOf(seriesOf(key), seg, 0)] > 1
	}
	for i := range s.orphans {
		if q := &s.orphans[i]; q.key == key+1 && q.pos == 0 {
			return false
		}
	}
	for i := range x.writers {
		k := &s.w[i].sinks[seriesOf(key)]
		t := &x.tails[k.tail]
		if x.everywhere && (k.tail == 0 || x.depth[t.node] == 0) {
			return false
		}
		unborn := t.key == key && x.depth[t.node] == 0 && (t.looked == 1 || t.chain.seg == 1)
		if k.tail != 0 && unborn || k.req.key == key+1 && k.req.pos == 0 {
			return false
		}
	}
	return left
}

func (x *world) objectFaults(s *state, out emit) {
	f := &x.faults
	junk := uint16(0)
	if f.junk > 0 {
		junk = x.frame(frame{kind: kindJunk})
	}
	for key := range uint8(x.series * maxSeg * 2) {
		o := s.obj[key]
		series, seg := seriesOf(key), segOf(key)
		if o == 0 {
			// Bytes of somebody else come first in the next segment's place.
			if seg > 1 && f.touch > s.used.touch && extOf(key) == 0 && s.obj[keyOf(series, seg-1, 0)] != 0 {
				x.step(s, out, act{kind: actTouch, arg: key}, func(m *state) {
					m.used.touch++
					m.obj[key] = 1
					m.hurt |= 1 << key
					x.say("SOMEBODY makes %s, empty", keyName(key))
				})
			}
			if seg > 1 && s.used.junk < f.junk && extOf(key) == 0 && s.obj[keyOf(series, seg-1, 0)] != 0 {
				x.step(s, out, act{kind: actJunk, arg: key}, func(m *state) {
					m.used.junk++
					m.obj[key] = x.child(1, junk)
					m.hurt |= 1 << key
					x.say("FOREIGN bytes in %s before anything", keyName(key))
					x.meets(metJunk)
				})
			}
			continue
		}
		if s.used.junk < f.junk {
			x.step(s, out, act{kind: actJunk, arg: key}, func(m *state) {
				m.used.junk++
				m.hurt |= 1 << key
				m.obj[key] = x.child(o, junk)
				x.say("FOREIGN bytes are appended to %s", keyName(key))
				x.meets(metJunk)
			})
		}
		if s.used.del < f.del && x.deletable(s, key) {
			x.step(s, out, act{kind: actDelete, arg: key}, func(m *state) {
				m.used.del++
				x.damage(m, key, 0)
				m.obj[key] = 0
				m.locked &^= 1 << key
				x.say("%s is DELETED", keyName(key))
				x.meets(metDeleted)
			})
		}
		if s.locked&(1<<key) == 0 && s.used.lock < f.lock {
			x.step(s, out, act{kind: actLock, arg: key}, func(m *state) {
				m.used.lock++
				m.locked |= 1 << key
				x.say("%s is put under RETENTION", keyName(key))
				x.meets(metLocked)
			})
		}
		var buf [16]uint16
		path := x.path(o, buf[:])
		for i := range path {
			_, p := x.last(path[i])
			if s.used.trunc < f.trunc {
				x.step(s, out, act{kind: actCut, arg: key, part: uint8(i)}, func(m *state) {
					m.used.trunc++
					x.damage(m, key, p)
					m.obj[key] = max(x.prefix(o, p), 1)
					x.say("%s is CUT to %s", keyName(key), x.objectName(m.obj[key]))
					x.meets(metCut)
				})
			}
			if hit, _ := x.last(path[i]); s.used.flip < f.flip && x.frames[hit].kind != kindJunk && !x.turning(s, key) {
				x.step(s, out, act{kind: actFlip, arg: key, part: uint8(i)}, func(m *state) {
					m.used.flip++
					x.damage(m, key, p) // what stands behind is given up with it
					n := max(x.prefix(o, p), 1)
					for j := range x.length(hit) {
						n = x.child(n, x.frame(frame{kind: kindJunk, num: j, prev: hit}))
					}
					for _, g := range path[i+1:] {
						f, _ := x.last(g)
						n = x.child(n, f)
					}
					m.obj[key] = n
					x.say("a byte FLIPS in %s: %s", keyName(key), x.objectName(n))
					x.meets(metFlipped)
				})
			}
		}
	}
}

// turning: a seal that changes the codec is under way to the object, or ends it and
// nothing follows yet. That seal alone says what the next segment's key is.
func (x *world) turning(s *state, key uint8) bool {
	turns := func(n uint16) bool {
		f := &x.frames[n]
		return f.kind == kindSeal && extOf(f.next) != extOf(f.key)
	}
	for i := range s.orphans {
		if q := &s.orphans[i]; q.key == key+1 && turns(q.frame) {
			return true
		}
	}
	for i := range x.writers {
		if q := &s.w[i].sinks[seriesOf(key)].req; q.key == key+1 && turns(q.frame) {
			return true
		}
	}
	if o := s.obj[key]; o > 1 {
		n, _ := x.last(o)
		return turns(n) && s.obj[x.frames[n].next] == 0
	}
	return false
}

// streamFaults: events vanish, the stream is rewound or made anew.
func (x *world) streamFaults(s *state, out emit) {
	if s.used.vanish < x.faults.vanish {
		for i := range x.events {
			if s.stream&(1<<i) != 0 && s.acked&(1<<i) == 0 {
				x.vanish(s, i, out)
			}
		}
	}
	if s.used.rewind < x.faults.rewind {
		x.step(s, out, act{kind: actRewind}, func(m *state) {
			m.used.rewind++
			m.stream = x.rewound
			for i := range m.w {
				m.w[i].deaf = 1 // the server was away: the consumer has skipped or doubled something
			}
			x.say("the stream is REWOUND and holds %s", x.names(m.stream))
			x.meets(metRewound)
		})
	}
	if s.used.recreate < x.faults.recreate {
		x.step(s, out, act{kind: actRecreate}, func(m *state) {
			m.used.recreate++
			m.stream = x.recreated
			m.created++
			x.say("the stream is made ANEW and holds %s", x.names(m.stream))
			x.meets(metRecreated)
		})
	}
}

// vanish has event i go from the stream. It may be on its way to some of the
// writers by then.
func (x *world) vanish(s *state, i int, out emit) {
	for who := range uint8(1) << x.writers {
		waits := true
		for j := range x.writers {
			w := &s.w[j]
			waits = waits && (who&(1<<j) == 0 || w.up == 1 && w.deaf == 0 && w.created == s.created && w.handed < x.events[i].seq)
		}
		if !waits {
			continue
		}
		x.step(s, out, act{kind: actVanish, w: who, arg: uint8(i)}, func(m *state) {
			m.used.vanish++
			m.stream &^= 1 << i
			x.say("%s VANISHES from the stream", x.names(1<<i))
			x.meets(metVanished)
			for j := range x.writers {
				if who&(1<<j) != 0 {
					m.w[j].pulled |= 1 << i
					x.say("on its way to W%d", x.who[j])
					x.meets(metPulled)
				}
			}
		})
	}
}
