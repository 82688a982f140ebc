package main

import (
	"fmt"
	"math/bits"
	"slices"
)

// Bounds of the representation. An instance that needs more is cut there, and its
// row says so.
const (
	maxSeries  = 2
	maxSeg     = 5
	maxKeys    = maxSeries * maxSeg * 2 // two codecs
	maxWriters = 3
	maxOrphans = 2
	maxLayouts = 3
)

// An event is one message of the stream. An instance has a fixed catalogue of
// them, by number; sets of events are bit masks.
type event struct {
	seq, time uint8
	created   uint8    // creation of the stream that holds it, from 1
	series    [2]uint8 // where it goes, by content of the layout
	ext       [2]uint8 // codec of its route, likewise
}

type mask = uint16

// Kinds of what stands in an object.
const (
	kindData = iota + 1
	kindSeal
	kindBreak
	kindJunk // bytes that are no frame
)

// Reasons of seals, besides size.
const (
	sealIdle = iota + 1
	sealCodec
)

// frame is the content of a frame; equal content has equal hashes, and so one
// number. A frame is as long as it has events, others have one byte: lengths
// coincide often.
type frame struct {
	kind          uint8
	key           uint8 // series, segment and codec it was written for
	num           uint8 // within the segment
	inc, created  uint8
	first, last   uint8
	max, greatest uint8
	valid, next   uint8 // of a break; of a seal or break
	reason        uint8
	events        mask
	prev          uint16
	before        uint16 // of a seal: the object that it ends, as its locator says
}

// node is the bytes of an object: those before, and one frame behind them. Node 0
// is no object, node 1 an empty one. A node's number stands for its CRC-64.
type node struct {
	parent, frame uint16
}

// chain is event.Chain.
type chain struct {
	seg, num, anchored           uint8
	inc, created, last, greatest uint8
	prev                         uint16
}

// tail is tail.go: what a writer or the ledger believes of a series.
type tail struct {
	key               uint8
	suspect, complete uint8
	entered           uint8  // at a segment's start, before frames that are there
	looked            uint8  // whether the series has gone on above was looked up
	node              uint16 // position and CRC-64
	chain, proven     chain
	before            chain // of a second reading: what the segment follows, as far as that is known
}

// ahead is compare.go: what adopted frames say about events still to come.
type ahead struct {
	before                chain
	first, last, greatest uint8
	events                mask

	fresh                  mask // since the tail was proven last
	sureLast, sureGreatest uint8
}

// What a sink is doing.
const (
	idle    = iota
	look    // attempt is to be made
	forward // readForward
	wait    // a request is in flight
)

// An attempt begins with reading forward, and goes on at once, to settle a doubt or
// where it has looked the series up. If nothing was found and that fails, it is
// looked up again.
const (
	settling = 1 + iota
	beginning
)

// request is an append on its way.
type request struct {
	key, pos    uint8 // key: +1, 0 is none
	frame, want uint16
}

// sink is one series in the hands of one writer.
type sink struct {
	pc, sure, doubt, sealing, rev uint8
	newest                        uint8
	within                        uint8 // what an attempt reads forward for before it goes on
	_                             uint8
	tail, known, note, ahead      uint16 // numbers in the tables, 0: none
	from                          uint16 // the tail that an append was refused at
	batch, queue, found, over     mask
	fresh                         mask // of found and over: since the tail was proven last
	unsure                        uint16
	req                           request
}

// writer is one process, and its epoch.
type writer struct {
	up, inc, created uint8
	handed           uint8 // highest sequence handed out
	horizon          uint8
	layout           uint8 // the newest it knows
	reused           uint8 // +1: the incarnation in which a series met other events
	deaf             uint8 // receives nothing more, but its sinks still work
	pulled           mask  // events that vanished, but were on their way to it
	plan             [maxLayouts]since
	sinks            [maxSeries]sink
}

// since says from which sequence on a layout holds; layout n has content n%2.
type since struct{ layout, since uint8 }

// control is the newest line of the control log.
type control struct {
	inc, created, base uint8
	ghosts             uint8 // the highest horizon of writers that are gone
	layouts            [maxLayouts]since
}

// faults counts what the environment did, or may do.
type faults struct {
	crash, doubt, roll       uint8
	junk, flip, del, trunc   uint8
	lock, lost, back, stale  uint8
	vanish, rewind, recreate uint8
	torn, garble, switched   uint8
	drop, touch, fail        uint8
}

// state is everything. It is comparable, and has no pointers.
type state struct {
	locked    uint32
	hurt      uint32 // objects that the environment changed
	obj       [maxKeys]uint16
	w         [maxWriters]writer
	orphans   [maxOrphans]request
	ledger    [maxSeries]uint16
	older     [maxSeries]uint16
	stream    mask
	acked     mask
	dead      mask
	under     [2]mask // events that were handed out, by content of the layout
	destroyed mask    // events whose bytes the environment damaged
	floor     uint8
	created   uint8
	ctl       control
	used      faults
	wrong     uint8 // an invariant that a step itself has seen broken
}

// world is an instance with its tables.
type world struct {
	*instance
	bug    int
	frames []frame
	nodes  []node
	depth  []uint8
	tails  []tail
	aheads []ahead

	frameOf map[frame]uint16
	nodeOf  map[node]uint16
	tailOf  map[tail]uint16
	aheadOf map[ahead]uint16
	walks   map[objects]*walked

	met  [mets]int
	who  [maxWriters]uint8 // names of the writers, which change places when alike
	perm [maxWriters]uint8
	calm bool   // no bug is at work: a reader reads
	cut  bool   // a bound of the representation was met
	talk bool   // say what happens
	said string // the last transition
	did  act    // likewise

	named bool // writers keep their places, and late requests stay
}

type objects struct {
	series uint8
	locked uint32
	obj    [maxKeys / maxSeries]uint16
}

func newWorld(in *instance, bug int) *world {
	x := &world{instance: in, bug: bug, frameOf: map[frame]uint16{}, nodeOf: map[node]uint16{},
		tailOf: map[tail]uint16{}, aheadOf: map[ahead]uint16{}, walks: map[objects]*walked{}}
	x.frames, x.tails, x.aheads = make([]frame, 1), make([]tail, 1), make([]ahead, 1)
	x.who, x.perm = [maxWriters]uint8{0, 1, 2}, [maxWriters]uint8{0, 1, 2}
	x.nodes, x.depth = make([]node, 2), make([]uint8, 2)
	return x
}

// number gives v its number in a table.
func number[T comparable](table *[]T, index map[T]uint16, v T) uint16 {
	n, ok := index[v]
	if !ok {
		if len(*table) == 1<<16 {
			panic("the instance is too large for its tables")
		}
		n = uint16(len(*table))
		*table = append(*table, v)
		index[v] = n
	}
	return n
}

func (x *world) frame(f frame) uint16 { return number(&x.frames, x.frameOf, f) }
func (x *world) tail(t tail) uint16   { return number(&x.tails, x.tailOf, t) }

// child is object n with f behind it.
func (x *world) child(n, f uint16) uint16 {
	n = max(n, 1)
	c := number(&x.nodes, x.nodeOf, node{n, f})
	if int(c) == len(x.depth) {
		x.depth = append(x.depth, x.depth[n]+x.length(f))
	}
	return c
}

func (x *world) length(f uint16) uint8 {
	return max(1, uint8(bits.OnesCount16(x.frames[f].events)))
}

// path is the objects that end with each frame of o in turn.
func (x *world) path(o uint16, buf []uint16) []uint16 {
	buf = buf[:0]
	for ; o > 1; o = x.nodes[o].parent {
		buf = append(buf, o)
	}
	slices.Reverse(buf)
	return buf
}

// last is the last frame of an object, and where it starts.
func (x *world) last(o uint16) (f uint16, at uint8) {
	return x.nodes[o].frame, x.depth[x.nodes[o].parent]
}

// prefix is the frames of an object that end within its first n bytes.
func (x *world) prefix(o uint16, n uint8) uint16 {
	for x.depth[o] > n {
		o = x.nodes[o].parent
	}
	return o
}

func keyOf(series, seg, ext uint8) uint8 { return (series*maxSeg+seg-1)*2 + ext }
func seriesOf(key uint8) uint8           { return key / 2 / maxSeg }
func segOf(key uint8) uint8              { return key/2%maxSeg + 1 }
func extOf(key uint8) uint8              { return key % 2 }

func keyName(key uint8) string {
	return fmt.Sprintf("%c.%d.%s", 'A'+seriesOf(key), segOf(key), [...]string{"gz", "zst"}[extOf(key)])
}

func (x *world) say(format string, args ...any) {
	if x.talk {
		if x.said != "" {
			x.said += "; "
		}
		x.said += fmt.Sprintf(format, args...)
	}
}

// names lists events: sequence, and a mark for each life of it.
func (x *world) names(m mask) string {
	out := ""
	for i, e := range x.events {
		if m&(1<<i) == 0 {
			continue
		}
		if out != "" {
			out += " "
		}
		out += fmt.Sprint(e.seq)
		for j := range i {
			if x.events[j].seq == e.seq {
				out += "'"
			}
		}
	}
	return "[" + out + "]"
}

func (x *world) frameName(n uint16) string {
	switch f := &x.frames[n]; f.kind {
	case kindData:
		return x.names(f.events)
	case kindSeal:
		return "seal>" + keyName(f.next)
	case kindBreak:
		return fmt.Sprintf("break(valid %d)>%s", f.valid, keyName(f.next))
	}
	return "junk"
}

func (x *world) objectName(n uint16) string {
	if n == 0 {
		return "none"
	}
	out := ""
	for _, o := range x.path(n, nil) {
		out += x.frameName(x.nodes[o].frame)
	}
	return "{" + out + "}"
}
