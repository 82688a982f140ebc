package intake

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/ledger"
)

// acking says which messages may be acknowledged, and how.
type acking uint8

const (
	// ackFreely: Limits retention. One ack (AckAll) for everything up to a
	// message; it frees nothing on the server, so it may run past events that
	// are not archived.
	ackFreely acking = iota
	// ackThrough: Interest retention. AckAll, but the server deletes what is
	// acknowledged: never past an event that is not archived.
	ackThrough
	// ackEach: WorkQueue retention. Every message by itself.
	ackEach
)

func ackingOf(r jetstream.RetentionPolicy) acking {
	switch r {
	case jetstream.InterestPolicy:
		return ackThrough
	case jetstream.WorkQueuePolicy:
		return ackEach
	}
	return ackFreely
}

// checkpoint is the floor with the counts that belong to it. The two are stored
// together or not at all, so that a restart counts nothing twice.
type checkpoint struct {
	Floor uint64    // every event of the lane up to this sequence is archived
	Time  time.Time // stream timestamp of the message at Floor; zero if unknown
	Tally ledger.Tally
}

type outcome uint8

const (
	waiting outcome = iota
	confirmed
	forgotten
)

// slot is one delivered message that the floor has not passed yet. A window has
// hundreds of thousands of them.
type slot struct {
	sequence uint64
	at       int64  // stream timestamp, Unix nanoseconds
	pending  uint32 // messages behind it, as its reply says
	outcome  outcome
	skipped  bool
	dead     bool
	uncount  bool // counted before this epoch, or not this lane's to count
}

// tracker follows which messages of an epoch are archived, and from that the
// floor and what may be acknowledged. Slots are consumer sequences: 1, 2, 3…
// without a hole. add is called by the consume callback, the rest from anywhere.
//
// It holds a slot per message between the oldest unresolved one and the newest;
// MaxAckPending bounds that on AckAll consumers, limit does in any case. A window
// that one event keeps full while others go on gives that event up, as the sink
// does with those of a held series that it has no room for: the floor stays before
// it, and an epoch after it was archived all the same brings what came behind.
type tracker struct {
	mode   acking
	limit  int
	wake   chan struct{} // of capacity 1: there is something to acknowledge
	room   chan struct{} // of capacity 1: the window has shrunk
	replay chan struct{} // of capacity 1: all that was given up is archived

	mu      sync.Mutex
	ring    []slot   // slot n stands at n & (len-1); len is a power of two
	odd     []string // likewise, replies that must be kept as they came; nil before the first
	replies replies
	low     uint64 // oldest unresolved slot, or next
	next    uint64 // slot of the next add
	high    uint64 // highest confirmed slot
	frozen  bool   // the floor stays before a forgotten slot
	point   checkpoint
	acked   uint64 // slots up to here are acknowledged or about to be; with ackEach, how many are
	each    []due  // ackEach: to acknowledge
	spare   []due  // the memory of what each was before
	through due    // else: what to acknowledge through; n is 0 if nothing is new
	ahead   bool   // acknowledge past waiting slots, see runAhead
	stuck   uint64 // where low stood when runAhead last looked
	since   time.Time
	passed  int                 // slots resolved behind low since it stands there
	given   map[uint64]struct{} // slots that were given up and are not archived yet
}

func newTracker(mode acking, limit int, start checkpoint) *tracker {
	return &tracker{
		mode: mode, limit: limit, point: start,
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1), replay: make(chan struct{}, 1),
		given: map[uint64]struct{}{},
		ring:  make([]slot, 64), low: 1, next: 1,
	}
}

func (t *tracker) at(n uint64) *slot { return &t.ring[n&uint64(len(t.ring)-1)] }

// ack is the acknowledgement of a slot.
func (t *tracker) ack(n uint64) due {
	d := due{n: n, slot: *t.at(n)}
	if t.odd != nil {
		d.odd = t.odd[n&uint64(len(t.odd)-1)]
	}
	return d
}

// add enters the next slot, whose numbers are those of r, and returns its number;
// false if the window is full (wait for room, try again).
func (t *tracker) add(s slot, r *reply) (uint64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(t.next-t.low) >= t.limit {
		t.giveUp()
	}
	width := int(t.next - t.low)
	if width >= t.limit {
		return 0, false
	}
	if width == len(t.ring) {
		t.grow()
	}
	// A work queue delivers again what was archived but whose acknowledgement
	// was lost; the floor and the counts have it already.
	s.uncount = s.uncount || s.sequence <= t.point.Floor
	n := t.next
	if t.replies.makes(r, n) {
		s.pending = uint32(r.pending)
	} else {
		if t.odd == nil {
			t.odd = make([]string, len(t.ring))
		}
		t.odd[n&uint64(len(t.odd)-1)] = r.text
	}
	*t.at(n) = s
	t.next++
	return n, true
}

// giveUp lets go of what waits in the oldest part of the window, if it is known
// that others go on.
func (t *tracker) giveUp() {
	if !t.ahead || t.passed == 0 {
		return
	}
	for end := t.low + uint64(max(t.limit/8, 1)); t.low < end; t.advance() {
		t.given[t.low] = struct{}{}
		t.at(t.low).outcome = forgotten
	}
	t.ahead = true // others like them stand behind
	signal(t.wake)
}

func (t *tracker) grow() {
	old := t.ring
	t.ring = make([]slot, 2*len(old))
	for n := t.low; n < t.next; n++ {
		*t.at(n) = old[n&uint64(len(old)-1)]
	}
	if odd := t.odd; odd != nil {
		t.odd = make([]string, len(t.ring))
		for n := t.low; n < t.next; n++ {
			t.odd[n&uint64(len(t.odd)-1)] = odd[n&uint64(len(odd)-1)]
		}
	}
}

// Confirm says that the events of these slots are archived. Slots it does not
// know, or knows as resolved, are ignored.
func (t *tracker) Confirm(slots []uint64) { t.resolve(slots, confirmed) }

// Forget says that the event of this slot is not archived and will not be in
// this epoch: the floor stays before it.
func (t *tracker) Forget(n uint64) { t.resolve([]uint64{n}, forgotten) }

// DeadLetter says that the event of this slot went to the dead letters. It has
// to come before the slot is confirmed.
func (t *tracker) DeadLetter(n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n >= t.low && n < t.next {
		t.at(n).dead = true
	}
}

func (t *tracker) resolve(slots []uint64, o outcome) {
	t.mu.Lock()
	for _, n := range slots {
		if n < t.low || n >= t.next {
			if _, ok := t.given[n]; ok {
				if delete(t.given, n); len(t.given) == 0 && o == confirmed {
					signal(t.replay)
				}
			}
			continue
		}
		s := t.at(n)
		if s.outcome != waiting {
			continue
		}
		s.outcome = o
		t.passed++
		if o == confirmed {
			t.high = max(t.high, n)
			if t.mode == ackEach {
				t.each = append(t.each, t.ack(n))
				t.acked++
			}
		}
	}
	moved := t.advance()
	if t.ahead && t.high > t.acked {
		t.through, t.acked = t.ack(t.high), t.high
	}
	due := t.through.n != 0 || len(t.each) > 0
	room := moved || t.ahead // or what waits can be given up
	t.mu.Unlock()
	if due {
		signal(t.wake)
	}
	if room {
		signal(t.room)
	}
}

// advance moves low over resolved slots, and the floor with it until the first
// forgotten one.
func (t *tracker) advance() bool {
	from := t.low
	for ; t.low < t.next; t.low++ {
		s := t.at(t.low)
		if s.outcome == waiting {
			break
		}
		if s.outcome == forgotten {
			t.frozen = true
		}
		if !t.frozen {
			t.pass(s)
		}
		if t.mode != ackEach && (!t.frozen || t.mode == ackFreely) && t.low > t.acked {
			t.through, t.acked = t.ack(t.low), t.low
		}
		*s = slot{}
		if t.odd != nil {
			t.odd[t.low&uint64(len(t.odd)-1)] = ""
		}
	}
	if t.low == from {
		return false
	}
	t.ahead, t.passed = false, 0
	return true
}

func (t *tracker) pass(s *slot) {
	if s.sequence > t.point.Floor {
		t.point.Floor, t.point.Time = s.sequence, time.Unix(0, s.at).UTC()
		t.point.Tally.Floor = s.sequence
	}
	if s.uncount {
		return
	}
	t.point.Tally.Events++
	if s.skipped {
		t.point.Tally.Skipped++
	}
	if s.dead {
		t.point.Tally.DeadLetters++
	}
}

// runAhead is called every now and then. Once the oldest waiting slot has stood
// still for grace on Limits retention, messages are acknowledged up to the newest
// confirmed one: otherwise a held series would stall all others through
// MaxAckPending. That is harmless there because nothing is decided by
// acknowledgements. It ends when the slot is resolved.
func (t *tracker) runAhead(now time.Time, grace time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.low != t.stuck || t.low == t.next {
		t.stuck, t.since = t.low, now
		return
	}
	if t.mode != ackFreely || now.Sub(t.since) < grace {
		return
	}
	t.ahead = true
	signal(t.room)
	if t.high > t.acked {
		t.through, t.acked = t.ack(t.high), t.high
		signal(t.wake)
	}
}

// takeAcks hands over the reply subjects to acknowledge. It is called by one goroutine
// at a time.
func (t *tracker) takeAcks(dst []string) []string {
	t.mu.Lock()
	each, through, made := t.each, t.through, t.replies
	t.each, t.spare, t.through = t.spare[:0], nil, due{}
	t.mu.Unlock()
	if through.n != 0 {
		dst = append(dst, made.of(&through))
	}
	for i := range each {
		dst = append(dst, made.of(&each[i]))
	}
	clear(each) // of what was kept
	t.mu.Lock()
	t.spare = each
	t.mu.Unlock()
	return dst
}

// checkpoint returns the floor and its counts.
func (t *tracker) checkpoint() checkpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.point
}

// open returns how many delivered messages are not resolved or stand behind one
// that is not.
func (t *tracker) open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int(t.next - t.low)
}

// oldest is the stream timestamp of the oldest delivered message that is not
// resolved, zero if there is none.
func (t *tracker) oldest() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.low == t.next {
		return time.Time{}
	}
	return time.Unix(0, t.at(t.low).at).UTC()
}

// owed returns how many delivered messages were not acknowledged.
func (t *tracker) owed() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next - 1 - t.acked
}

// pressed reports whether half of what may be open is: of the messages that the
// server delivers without an acknowledgement, or of the window.
func (t *tracker) pressed(maxAckPending int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int(t.next-1-t.acked) > maxAckPending/2 || int(t.next-t.low) > t.limit/2
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
