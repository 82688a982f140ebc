package main

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"slices"
	"time"
	"unsafe"
)

// instance is a small world that is explored to its end.
type instance struct {
	name      string
	events    []event
	writers   int
	series    int
	queue     int      // events that wait in a sink besides its batch
	configs   [3]uint8 // content of each writer's layout
	ahead     uint8    // how far a horizon is raised; 0: there are none
	stream    mask     // at the beginning; 0: all
	rewound   mask
	recreated mask
	ledger    bool // there are checkpoints
	floors    bool // and a floor

	agreed     bool // a series' first segment has a codec that all agree on, which the code does not do
	everywhere bool // any segment may be deleted, if all writers know the series
	faults     faults
	live       int  // check every n-th state for liveness; 0: none
	long       bool // not in the default set
}

// result is what exploring an instance gave.
type result struct {
	states, depth int
	edges         int
	runs          int // of the liveness check
	exhaustive    bool
	cut           bool
	invariant     string
	what          string
	trace         []string
	took          time.Duration
	met           [mets]int // of the exploration itself
}

// seed of the hashes by which states are known again. They have 64 bits: two of a
// million states share one with a probability below one in ten million.
var seed = maphash.MakeSeed()

// normalise brings states that do not differ into one form.
func (x *world) normalise(s *state) {
	if x.faults.del+x.faults.trunc == 0 && !x.named {
		for i := range s.orphans {
			if q := &s.orphans[i]; q.key != 0 && x.depth[s.obj[q.key-1]] > q.pos {
				*q = request{} // objects do not shrink here: it can only be refused
			}
		}
	}
	if !x.named && lessRequest(&s.orphans[1], &s.orphans[0]) {
		s.orphans[0], s.orphans[1] = s.orphans[1], s.orphans[0]
	}
	if !x.needsOlder() {
		s.older = [maxSeries]uint16{}
	}
	if !x.ledger {
		for i := range x.writers {
			for n := range s.w[i].sinks {
				s.w[i].sinks[n].note, s.w[i].sinks[n].rev = 0, 0
			}
		}
	}
	// Writers of one configuration are alike.
	x.perm = [maxWriters]uint8{0, 1, 2}
	for i := 1; i < x.writers && !x.named; i++ {
		for j := i; j > 0 && x.configs[j] == x.configs[j-1] && bytes.Compare(raw(&s.w[j]), raw(&s.w[j-1])) < 0; j-- {
			s.w[j], s.w[j-1] = s.w[j-1], s.w[j]
			x.perm[j], x.perm[j-1] = x.perm[j-1], x.perm[j]
		}
	}
}

func (x *world) needsOlder() bool { return x.faults.back+x.faults.stale > 0 }

func lessRequest(a, b *request) bool { return bytes.Compare(raw(a), raw(b)) < 0 }

// raw is the bytes of a value without pointers or padding that matters.
func raw[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// from is how a state was first reached.
type from struct {
	parent int32
	edge   uint16
}

func (x *world) initial() state {
	s := state{created: 1, stream: x.stream}
	if s.stream == 0 {
		s.stream = 1<<len(x.events) - 1
	}
	return s
}

// explore visits all states, breadth first, up to limit.
func explore(in *instance, bug, limit int) (r result) {
	began := time.Now()
	in.series, in.queue = max(in.series, 1), max(in.queue, 2)
	x := newWorld(in, bug)
	defer func() { r.took, r.cut, r.met = time.Since(began), x.cut, x.met }()
	first := x.initial()
	seen := map[uint64]struct{}{maphash.Comparable(seed, first): {}}
	ways := []from{{-1, 0}}
	now, then := []state{first}, []state(nil)
	at := 0 // number of now[0]
	for len(now) > 0 {
		for i := range now {
			s, me := &now[i], at+i
			if r.invariant, r.what = x.broken(s, false); r.invariant != "" {
				r.states = len(ways)
				r.trace = x.retrace(ways, me)
				return r
			}
			if x.live > 0 && me%x.live == 0 {
				r.runs++
				count := x.met
				inv, why, _ := x.runOn(s)
				x.met = count
				if inv != "" {
					r.invariant, r.what, r.states = inv, why, len(ways)
					r.trace = append(x.retrace(ways, me), "-- and from here on, without any fault:")
					_, _, steps := x.runOn(s) // again, now that the writers have their names
					r.trace = append(r.trace, steps...)
					return r
				}
			}
			if len(ways) > limit {
				continue
			}
			edge := uint16(0)
			x.next(s, func(n *state) {
				r.edges++
				h := maphash.Comparable(seed, *n)
				if _, ok := seen[h]; !ok {
					seen[h] = struct{}{}
					ways = append(ways, from{int32(me), edge})
					then = append(then, *n)
				}
				edge++
			})
		}
		at += len(now)
		now, then = then, now[:0]
		r.depth++
	}
	r.states, r.exhaustive = len(ways), len(ways) <= limit
	return r
}

// retrace says how state n was reached.
func (x *world) retrace(ways []from, n int) (out []string) {
	var edges []uint16
	for i := int32(n); ways[i].parent >= 0; i = ways[i].parent {
		edges = append(edges, ways[i].edge)
	}
	slices.Reverse(edges)
	s := x.initial()
	x.talk = true
	defer func() { x.talk = false }()
	for _, want := range edges {
		var chosen state
		var said string
		var perm [maxWriters]uint8
		edge := uint16(0)
		x.next(&s, func(n *state) {
			if edge == want {
				chosen, said, perm = *n, x.said, x.perm
			}
			edge++
		})
		s = chosen
		who := x.who
		for j := range who {
			x.who[j] = who[perm[j]]
		}
		out = append(out, said)
	}
	return append(out, x.picture(&s))
}

// picture is the objects in words.
func (x *world) picture(s *state) string {
	out := "objects:"
	for key, o := range s.obj {
		if o != 0 {
			out += fmt.Sprintf(" %s%s", keyName(uint8(key)), x.objectName(o))
		}
	}
	return out + ", confirmed " + x.names(s.acked) + ", dead letters " + x.names(s.dead)
}
