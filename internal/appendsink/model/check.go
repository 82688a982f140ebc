package main

import "fmt"

// The invariants, checked at every state.

// What a step itself may have seen; see state.wrong.
const (
	beyond = 1 // the bounds of the representation: not a state at all
)

// Names of the invariants.
const (
	invConfirmed = "confirmed events are in the archive"
	invTwice     = "no event twice in the bytes"
	invRising    = "sequences rise within an incarnation"
	invAgree     = "what a writer believes is what a reader gets"
	invLedger    = "the ledger's tail is a prefix of what was in the object"
	invBehind    = "no frame behind a seal or a break"
	invLayouts   = "no event is handed out under two layouts"
	invBreak     = "nothing is broken off that is whole"
	invLife      = "a new incarnation only for a new life of the stream"
	invLive      = "running on archives everything"
)

// walked is what a reader gets of a series.
type walked struct {
	events  mask
	sound   mask   // of these, where nothing is wrong with the chain
	twice   mask   // sound ones that were met before
	unsound uint32 // objects with frames that are whole but have no place in the chain
	damage  bool   // the reader had something to report
	frames  []uint16
	chains  []chain // behind each
	rising  bool
}

// walk reads a series from its first segment, as internal/archive does: by the
// keys that seals and breaks name, and from one number to the next where a
// segment has neither.
func (x *world) walk(s *state, series uint8) *walked {
	id := objects{series: series, locked: s.locked}
	copy(id.obj[:], s.obj[series*maxSeg*2:])
	if v, ok := x.walks[id]; ok {
		return v
	}
	x.calm = true
	defer func() { x.calm = false }()
	v := &walked{rising: true}
	x.walks[id] = v
	var c chain
	key, found := x.listed(s, series, 1)
	for found {
		first := c.seg == 0
		c.seg, c.num = segOf(key), 0
		if first && c.seg == 1 {
			c.anchored = 1
		}
		next, ended := x.readObject(s, key, &c, v)
		if ended && s.obj[next] != 0 {
			key = next
			continue
		}
		seg := segOf(key)
		key, found = x.listed(s, series, seg+1)
		if found && (ended || segOf(key) != seg+1) {
			c.anchored = 0 // what was named is gone
		}
	}
	return v
}

// listed is the series' first object from segment seg on.
func (x *world) listed(s *state, series, seg uint8) (uint8, bool) {
	for ; seg <= maxSeg; seg++ {
		for ext := range uint8(2) {
			if key := keyOf(series, seg, ext); s.obj[key] != 0 {
				return key, true
			}
		}
	}
	return 0, false
}

// readObject reads one object for walk, up to its seal, its break or its end.
func (x *world) readObject(s *state, key uint8, c *chain, v *walked) (next uint8, ended bool) {
	var buf [16]uint16
	path := x.path(s.obj[key], buf[:])
	sound := true
	for i := range path {
		n, at := x.last(path[i])
		f := &x.frames[n]
		if !x.check(c, key, n) || f.kind == kindBreak && f.valid != at {
			// Damage: what counts is a break that leaves the segment here.
			left := uint16(0)
			for _, o := range path[i:] {
				m, _ := x.last(o)
				if g := &x.frames[m]; g.kind == kindBreak && g.valid == at && x.check(c, key, m) {
					left = m
					break
				}
			}
			switch {
			case left != 0:
				n, f = left, &x.frames[left]
			case f.kind == kindJunk || seriesOf(f.key) != seriesOf(key) || segOf(f.key) != segOf(key) || f.kind == kindBreak:
				// It reads on at the next frame that is one.
				v.damage, sound = true, false
				c.anchored = 0
				continue
			default:
				v.damage, sound = true, false
				v.unsound |= 1 << key
				c.anchored, c.num = 0, f.num-1
			}
		}
		if f.kind == kindData {
			if sound {
				v.twice |= v.sound & f.events
				v.sound |= f.events
			}
			v.events |= f.events
			if c.anchored == 1 && f.inc <= c.inc && f.first <= c.last && (f.inc < c.inc || c.created != 0) {
				v.rising = false
			}
		}
		x.advance(c, n)
		v.frames = append(v.frames, n)
		v.chains = append(v.chains, *c)
		if f.kind != kindData {
			return f.next, true
		}
	}
	return 0, false
}

// broken is the name of an invariant that s breaks, and what is wrong. Where the
// environment has damaged objects, events may stand twice until the writers have
// settled it.
func (x *world) broken(s *state, settled bool) (string, string) {
	var all mask
	var walks [maxSeries]*walked
	for n := range x.series {
		walks[n] = x.walk(s, uint8(n))
		if twice := (walks[n].twice | all&walks[n].sound) &^ s.destroyed; twice != 0 && (s.hurt == 0 || settled) {
			return invTwice, "a reader gets " + x.names(twice) + " twice"
		}
		all |= walks[n].events
		if !walks[n].rising && s.hurt == 0 {
			return invRising, ""
		}
		if u := &s.used; walks[n].unsound&^s.hurt != 0 && u.flip+u.trunc == 0 {
			return invAgree, "a reader finds whole frames that do not follow on what is before them"
		}
		if walks[n].damage && s.hurt == 0 {
			return invAgree, "a reader finds damage where there is none"
		}
	}
	if lost := s.acked &^ (all | s.dead | s.destroyed | x.unknowable(s)); lost != 0 {
		return invConfirmed, "lost: " + x.names(lost)
	}
	if s.ctl.inc > s.used.rewind+s.used.recreate {
		return invLife, ""
	}
	if both := s.under[0] & s.under[1]; both != 0 {
		return invLayouts, x.names(both)
	}
	if inv, what := x.bytesBroken(s); inv != "" {
		return inv, what
	}
	if twice := all & s.dead &^ s.destroyed; twice != 0 && (s.hurt == 0 || settled) {
		return invTwice, "in the series and in the dead letters: " + x.names(twice)
	}
	for n := range x.series {
		if l := s.ledger[n]; l != 0 {
			t := &x.tails[l]
			o := s.obj[t.key]
			if s.hurt&(1<<t.key) == 0 && (x.prefix(o, x.depth[t.node]) != t.node && x.depth[t.node] > 0) {
				return invLedger, fmt.Sprintf("%s is %s, the ledger believes in %s", keyName(t.key), x.objectName(o), x.objectName(t.node))
			}
			if s.hurt == 0 && t.chain.prev != 0 && !x.agrees(&t.chain, walks[n]) {
				return invLedger, fmt.Sprintf("the ledger's last frame, %s, is none that a reader gets", x.frameName(t.chain.prev))
			}
		}
		for i := range x.writers {
			k := &s.w[i].sinks[n]
			if k.tail == 0 || k.pc != idle || s.hurt != 0 {
				continue
			}
			if t := &x.tails[k.tail]; t.chain.prev != 0 && !x.agrees(&t.chain, walks[n]) {
				return invAgree, fmt.Sprintf("W%d believes that %s ends %s, a reader does not", x.who[i], x.frameName(t.chain.prev), keyName(t.key))
			}
		}
	}
	return "", ""
}

// unknowable is the events that vanished, and lie where a segment is gone: whether
// it held them, or had passed them, nobody can tell who meets the series behind it.
func (x *world) unknowable(s *state) (out mask) {
	if s.used.del == 0 {
		return 0
	}
	for n := range uint8(x.series) {
		missing := false
		var buf [16]uint16
		for seg := uint8(1); seg <= maxSeg; seg++ {
			key, found := x.listed(s, n, seg)
			if !found {
				break
			}
			missing = missing || segOf(key) != seg
			seg = segOf(key)
			for _, o := range x.path(s.obj[key], buf[:]) {
				f, _ := x.last(o)
				if x.frames[f].kind != kindData {
					continue
				}
				for i := range x.events {
					if missing && s.stream&(1<<i) == 0 && x.events[i].seq < x.frames[f].first {
						out |= 1 << i
					}
				}
				missing = false
			}
		}
	}
	return out
}

// agrees says that the chain is one that a reader has had.
func (x *world) agrees(c *chain, v *walked) bool {
	for i, f := range v.frames {
		if f == c.prev {
			w := &v.chains[i]
			return w.last == c.last && w.greatest == c.greatest && w.created == c.created
		}
	}
	return false
}

// bytesBroken checks what the objects hold, whoever reads them.
func (x *world) bytesBroken(s *state) (string, string) {
	var raw mask
	var buf [16]uint16
	for key := range uint8(x.series * maxSeg * 2) {
		ended := false
		junk := false
		for _, o := range x.path(s.obj[key], buf[:]) {
			n, _ := x.last(o)
			f := &x.frames[n]
			switch f.kind {
			case kindData:
				if s.hurt&(1<<key) != 0 {
					continue // what counts there is what a reader gets
				}
				if twice := raw & f.events &^ s.destroyed; twice != 0 {
					return invTwice, fmt.Sprintf("%s again in %s", x.names(twice), keyName(key))
				}
				raw |= f.events
				if ended {
					return invBehind, x.frameName(n) + " in " + keyName(key)
				}
			case kindJunk:
				junk = true
			case kindBreak:
				if s.hurt == 0 && !junk {
					return invBreak, x.frameName(n) + " in " + keyName(key)
				}
			}
			ended = ended || f.kind == kindSeal || f.kind == kindBreak
		}
	}
	return "", ""
}
