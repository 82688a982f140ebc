package main

// The model and the code, side by side: random walks through the model's
// transitions, in which the real sinks, in a bubble of testing/synctest, are made to
// take each step as well; after every step both are compared. Where they part, one
// of them has a bug.
//
//	go test ./internal/appendsink/model -run TestTwin -v
//	go test ./internal/appendsink/model -run TestTwin/any_world -walks 10000
//	go test ./internal/appendsink/model -run TestTwin/ledger -walks 1 -walk-seed 42
//
// # What is compared
//
// Objects, frame by frame: which are there, what each frame says (kind, series,
// segment, number, incarnation, creation, events, times, next key, valid length,
// prev), that they have the bytes of the appends that made them. Of each sink what it
// waits for: nothing, a Head to read forward from, or which append, to which
// position. Which events are confirmed, which became dead letters, whether a sink has
// events waiting. The ledger's entries. How an epoch ends. Frames that the model
// takes for equal must have equal hashes, and others must not; likewise objects, by
// length and CRC-64. In the end all must have been drained.
//
// # How a step is mirrored
//
// A sink stops where the model's steps end: before an attempt (it acquires its turn),
// before each turn of reading forward (a Head), and at each append. All other
// requests belong to the step and pass. Batches form as in the model: they linger for
// ever, and go when the budget is pressed. Segments roll by size when the model says
// so, and are idle likewise. Backoff passes in the bubble's time.
//
// # Where they differ in form
//
//   - An attempt that begins with reading forward (to settle a doubt, or behind a
//     look-up) goes on at once: the model's next step is made along with it.
//   - A writer is a Set for each series, so that each can be stepped alone.
//   - Whether a late request fits is a matter of lengths, and the model's coincide far
//     more often. Steps that rest on it are not walked; a walk that has nothing else
//     left ends there. So it is with the ledger's entries, which are compared by position.
//   - The model may write a checkpoint again that the code has written, which does not.
//   - A dead letter is a series with a worker of its own: it may come a little later,
//     and where there is one of a later incarnation, the epoch ends, and so the walk.
//   - An object under retention takes no append, and Head says so: it is put anew.
//   - Reasons of breaks are words in the one and numbers in the other. Where one
//     number stands for different words, the walk ends.
//
// # What is not mirrored
//
// Epochs, horizons, layouts and the floor are the model's: intake and control do not
// run here, and neither does the reader, internal/archive, whose rules check.go has.
// Head, Read and List fail only where reading forward begins. The codec of a series'
// first segment is its layout's in all instances, as in the code. What the model does
// not have (doc.go), the walks do not reach: time, eviction, held series, and a writer
// too far behind.

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ev "ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/object/objecttest"
)

var (
	walks    = flag.Int("walks", 0, "random walks with the real sinks, of each instance and of any world; 0: a few")
	walkSeed = flag.Uint64("walk-seed", 0, "seed of the first walk, 0: a new one")
)

func TestTwin(t *testing.T) {
	seed := *walkSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1e9
	}
	each := func(name string, few int, world func(seed uint64) *instance) {
		t.Run(name, func(t *testing.T) {
			n := few
			if *walks > 0 {
				n = *walks
			}
			steps, skipped, stuck, began := 0, 0, 0, time.Now()
			for i := range uint64(n) {
				tw := walk(t, world(seed+i), asIs, seed+i)
				steps, skipped, stuck = steps+len(tw.trace), skipped+tw.skipped, stuck+tw.stuck
				if tw.wrong != "" {
					t.Fatalf("model and code part ways; again with -run 'TestTwin/%s$' -walks 1 -walk-seed %d\n%s",
						strings.ReplaceAll(name, " ", "_"), seed+i, tw.words())
				}
			}
			t.Logf("%d walks from seed %d, %d steps (%d not mirrored, %d walks ended there), %v",
				n, seed, steps, skipped, stuck, time.Since(began).Round(time.Millisecond))
		})
	}
	for _, in := range instances() {
		each(in.name, 3, func(uint64) *instance { return in })
	}
	each("any world", 150, anyWorld)
}

// unseen are the planted bugs that the walks cannot see.
var unseen = map[int]string{
	bugFirstByLayout:   "so it is in the code",
	bugAnyBreak:        "it must fit the chain, which says the same",
	bugSameLife:        "intake is the model's",
	bugNoNewLife:       "intake is the model's",
	bugForgetsLayouts:  "intake is the model's",
	bugNoHorizon:       "intake is the model's",
	bugGrantsAnybody:   "intake is the model's",
	bugSwitchAtFloor:   "intake is the model's",
	bugForgetsHorizons: "intake is the model's",
	bugDoneForgets:     "intake is the model's",
}

// rare are those that take thousands of walks.
var rare = map[int]bool{
	bugUnmarkBySequence: true, bugFollowsInside: true, bugSettleByLength: true, bugFollowsUnproven: true, bugSpentTrusted: true, bugOldLife: true,
}

// A model with a bug is not the code's twin, and the walks tell.
func TestTwinBites(t *testing.T) {
	for _, b := range plantedBugs() {
		t.Run(b.what, func(t *testing.T) {
			most := 400
			switch {
			case unseen[b.bug] != "":
				t.Skip(unseen[b.bug])
			case rare[b.bug] && *walks < 5000:
				t.Skip("takes -walks 5000")
			case *walks > 0:
				most = *walks
			}
			for n := range most {
				seed := uint64(n)
				in := find(b.instance)
				if in == nil || n%2 == 1 {
					in = anyWorld(seed)
				}
				if tw := walk(t, in, b.bug, seed); tw.wrong != "" {
					t.Logf("walk %d: %s", n+1, tw.wrong)
					return
				}
			}
			t.Errorf("%d walks do not tell", most)
		})
	}
}

// twin is the model and the real writers, side by side.
type twin struct {
	x     *world
	s     state
	r     *rand.Rand
	trace []string

	store  *objecttest.Store
	codecs [2]ev.Codec
	actors [maxWriters][maxSeries]*actor
	pieces [maxKeys][]piece
	late   []*call

	ledger, older [maxSeries]ledger.TailEntry
	revision      uint64

	hashes  map[uint16]ev.Hash // by number of the frame
	numbers map[ev.Hash]uint16
	spots   map[uint16]spot // by node

	mu        sync.Mutex
	confirmed mask
	wrong     string // where they part

	reworded bool // a break was sent again with another reason

	skipped int // steps of the model that the real writers cannot be made to take
	stuck   int // 1: nothing else was left
}

// piece is what one append, or somebody else, put into an object.
type piece struct {
	bytes  []byte
	frames []uint16 // of the model; more than one if it was a frame and is none any more
}

// spot is the end of a node in real bytes.
type spot struct {
	size int64
	crc  uint64
}

var junkBytes = []byte("\nbytes of somebody else\n")

// shortest is the length that every frame has at least.
const shortest = 20

func walk(t *testing.T, in *instance, bug int, seed uint64) (tw *twin) {
	as := *in
	in = &as
	in.series, in.queue = max(in.series, 1), max(in.queue, 2)
	in.agreed = false // the code is not; see doc.go
	r := rand.New(rand.NewPCG(seed, 1))
	tw = &twin{x: newWorld(in, bug), r: r, store: objecttest.New(), codecs: [2]ev.Codec{ev.Gzip, ev.Zstd},
		hashes: map[uint16]ev.Hash{0: {}}, numbers: map[ev.Hash]uint16{{}: 0}, spots: map[uint16]spot{0: {}, 1: {}}}
	tw.x.named = true
	tw.s = tw.x.initial()
	if r.IntN(2) == 0 { // compression takes most of the time
		tw.codecs = [2]ev.Codec{ev.Plain, ev.Gzip}
	}
	synctest.Test(t, func(*testing.T) {
		tw.run()
		for w := range tw.actors {
			tw.down(w)
		}
	})
	return tw
}

// run walks at random for a while, then lets the writers finish without faults.
func (tw *twin) run() {
	wild := 10 + tw.r.IntN(60)
	for n := 0; n < 600; n++ {
		next, did, said, found := tw.choose(n >= wild)
		if !found {
			if n < wild {
				n = wild
				continue
			}
			if tw.x.cut {
				tw.stuck = 1
				return
			}
			tw.finished()
			return
		}
		if !tw.mirrors(did, &next) {
			tw.skipped++
			continue
		}
		before := tw.s
		tw.trace = append(tw.trace, said)
		if !tw.take(did, &next) {
			tw.trace = tw.trace[:len(tw.trace)-1]
			tw.s = before
			continue
		}
		if tw.ended() {
			tw.stuck = 1
			return
		}
		if tw.compare(&before, did); tw.wrong != "" {
			return
		}
		if tw.reworded {
			tw.stuck = 1
			return
		}
	}
	if tw.skipped == 0 {
		tw.fault("there is no end")
	}
	tw.stuck = 1
}

// anyWorld is a world too large to be explored.
func anyWorld(seed uint64) *instance {
	r := rand.New(rand.NewPCG(seed, 2))
	in := &instance{name: "any world", writers: 1 + r.IntN(3), ledger: r.IntN(2) == 0, queue: 1 + r.IntN(4)}
	f := &in.faults
	for _, n := range []*uint8{&f.crash, &f.doubt, &f.roll, &f.junk, &f.flip, &f.del, &f.trunc, &f.lock, &f.vanish, &f.torn, &f.fail, &f.garble} {
		if r.IntN(3) == 0 {
			*n = uint8(1 + r.IntN(3))
		}
	}
	if in.ledger {
		for _, n := range []*uint8{&f.lost, &f.back, &f.stale, &f.drop, &f.touch} {
			if r.IntN(3) == 0 {
				*n = uint8(1 + r.IntN(2))
			}
		}
	}
	n := 2 + r.IntN(5)
	layouts := false
	switch r.IntN(7) {
	case 0, 1:
		in.events = row(n)
	case 2:
		in.events, in.series = gaps(n), 2
	case 3:
		in.events, layouts = codecs(n), true
	case 4:
		in.events, in.series, layouts = routes(n), 2, true
	case 5:
		in.events, in.stream, in.rewound, f.rewind = rewind(), 0b0011, 0b1101, 1
	case 6:
		in.events, in.stream, in.recreated, f.recreate = anew2(), 0b0011, 0b1100, 1
	}
	if layouts {
		in.configs, in.ahead, f.switched = [3]uint8{1, 0, 1}, uint8(1+r.IntN(2)), uint8(1+r.IntN(2))
	}
	in.floors = r.IntN(2) == 0
	in.everywhere = r.IntN(4) == 0
	return in
}

func (tw *twin) fault(format string, args ...any) {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	if tw.wrong == "" {
		tw.wrong = fmt.Sprintf(format, args...)
	}
}

func (tw *twin) words() string {
	out := tw.wrong
	for i, t := range tw.trace {
		out += fmt.Sprintf("\n    %2d %s", i+1, t)
	}
	return out + "\n       " + tw.x.picture(&tw.s)
}

// sleep lets time pass for everybody.
func (tw *twin) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// calm are the steps that are no faults.
func calm(did act) bool {
	switch did.kind {
	case actTake, actLook, actForward, actStart:
		return did.arg == 0
	case actAnswer, actHand, actRaise, actArrive, actLost:
		return true
	}
	return false
}

// choose picks a transition, and with it one that the code makes in one go.
func (tw *twin) choose(quiet bool) (next state, did act, said string, found bool) {
	var count [2]int // faults, steps that are none
	kind := func(d act) int {
		if calm(d) {
			return 1
		}
		return 0
	}
	tw.x.next(&tw.s, func(*state) { count[kind(tw.x.did)]++ })
	of := 1
	if !quiet && (count[1] == 0 || count[0] > 0 && tw.r.IntN(4) == 0) {
		of = 0
	}
	if count[of] == 0 {
		return next, did, "", false
	}
	want := tw.r.IntN(count[of])
	pick := func(s state, ok func(act) bool) (found bool) {
		tw.x.talk = true
		defer func() { tw.x.talk = false }()
		tw.x.next(&s, func(n *state) {
			if ok(tw.x.did) && !found {
				next, did, found = *n, tw.x.did, true
				said += tw.x.said + " "
			}
		})
		return found
	}
	pick(tw.s, func(d act) bool {
		if kind(d) != of {
			return false
		}
		want--
		return want == -1
	})
	// Where an attempt begins with reading forward, it goes on at once.
	first := did
	if first.kind == actForward && tw.actors[first.w][first.n].waiting().within && next.w[first.w].up == 1 && next.w[first.w].sinks[first.n].pc == look &&
		next.w[first.w].sinks[first.n].tail != 0 {
		roll := uint8(tw.r.IntN(2))
		if quiet {
			roll = 0
		}
		again := func(d act) bool { return d.kind == actLook && d.w == first.w && d.n == first.n && d.arg == roll }
		if !pick(next, again) {
			if roll = 0; !pick(next, again) {
				return next, did, "", false // beyond the bounds
			}
		}
		first.part = 1 + roll
		did = first
	}
	return next, did, said, true
}
