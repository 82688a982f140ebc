package intake

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"ossuary/internal/ledger"
)

// naive is what the tracker does, thought through slot by slot from the start.
type naive struct {
	slots []slot
	acks  []string // their replies
	start checkpoint
}

func (m *naive) checkpoint() checkpoint {
	p := m.start
	for _, s := range m.slots {
		if s.outcome != confirmed {
			break
		}
		if s.sequence > p.Floor {
			p.Floor, p.Time, p.Tally.Floor = s.sequence, time.Unix(0, s.at).UTC(), s.sequence
		}
		if s.uncount {
			continue
		}
		p.Tally.Events++
		if s.skipped {
			p.Tally.Skipped++
		}
		if s.dead {
			p.Tally.DeadLetters++
		}
	}
	return p
}

// through is the number of slots that may be acknowledged with one AckAll.
func (m *naive) through(mode acking) int {
	for i, s := range m.slots {
		if s.outcome == waiting || s.outcome == forgotten && mode != ackFreely {
			return i
		}
	}
	return len(m.slots)
}

func TestTrackerAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mode := rapid.SampledFrom([]acking{ackFreely, ackThrough, ackEach}).Draw(t, "mode")
		limit := rapid.IntRange(1, 200).Draw(t, "limit")
		start := checkpoint{Floor: 5, Tally: ledger.Tally{From: 1, Floor: 5, Events: 4, Skipped: 1}}
		tr := newTracker(mode, limit, start)
		m := &naive{start: start}
		var acks []string // each, or the last one
		sequence := uint64(rapid.IntRange(0, 10).Draw(t, "before"))
		open := func() []int {
			var w []int
			for i, s := range m.slots {
				if s.outcome == waiting {
					w = append(w, i)
				}
			}
			return w
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				for range rapid.IntRange(1, 40).Draw(t, "n") {
					sequence += uint64(rapid.IntRange(1, 3).Draw(t, "gap"))
					s := slot{sequence: sequence, at: int64(sequence) * 1000, skipped: rapid.Bool().Draw(t, "skip")}
					text := fmt.Sprintf("$JS.ACK._.hash.S.c.1.%d.%d.%d.%d", s.sequence, len(m.slots)+1, s.at, rapid.Uint64().Draw(t, "pending"))
					if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
						text += ".token" // as no other of the epoch
					}
					_, r, err := metadata(&nats.Msg{Reply: text})
					if err != nil {
						t.Fatal(err)
					}
					n, ok := tr.add(s, &r)
					low := slices.IndexFunc(m.slots, func(s slot) bool { return s.outcome == waiting })
					if low < 0 {
						low = len(m.slots)
					}
					if full := len(m.slots)-low >= limit; ok == full {
						t.Fatalf("add took the slot: %v, full: %v", ok, full)
					}
					if !ok {
						sequence--
						return
					}
					s.uncount = s.sequence <= start.Floor
					m.slots, m.acks = append(m.slots, s), append(m.acks, text)
					if int(n) != len(m.slots) {
						t.Fatalf("slot %d, want %d", n, len(m.slots))
					}
				}
			},
			"confirm": func(t *rapid.T) {
				w := open()
				if len(w) == 0 {
					return
				}
				var slots []uint64
				for range rapid.IntRange(1, 10).Draw(t, "n") {
					i := rapid.SampledFrom(w).Draw(t, "slot")
					if m.slots[i].outcome == waiting && rapid.IntRange(0, 9).Draw(t, "dead") == 0 {
						tr.DeadLetter(uint64(i + 1))
						m.slots[i].dead = true
					}
					m.slots[i].outcome = confirmed
					slots = append(slots, uint64(i+1)) // twice the same now and then
				}
				tr.Confirm(slots)
			},
			"confirm anything": func(t *rapid.T) { // late, doubled, never heard of
				n := uint64(rapid.IntRange(0, len(m.slots)+3).Draw(t, "slot"))
				tr.Confirm([]uint64{n})
				if n >= 1 && int(n) <= len(m.slots) && m.slots[n-1].outcome == waiting {
					m.slots[n-1].outcome = confirmed
				}
			},
			"forget": func(t *rapid.T) {
				w := open()
				if len(w) == 0 || rapid.IntRange(0, 5).Draw(t, "rarely") > 0 {
					return
				}
				i := rapid.SampledFrom(w).Draw(t, "slot")
				tr.Forget(uint64(i + 1))
				m.slots[i].outcome = forgotten
			},
			"": func(t *rapid.T) {
				if got, want := tr.checkpoint(), m.checkpoint(); got != want {
					t.Fatalf("checkpoint %+v, want %+v", got, want)
				}
				acks = tr.takeAcks(acks)
				if mode == ackEach {
					var want []string
					for i, s := range m.slots {
						if s.outcome == confirmed {
							want = append(want, m.acks[i])
						}
					}
					got := slices.Clone(acks)
					slices.Sort(got)
					slices.Sort(want)
					if !slices.Equal(got, want) {
						t.Fatalf("acknowledged %v, want %v", got, want)
					}
					return
				}
				got, want := "", ""
				if len(acks) > 0 {
					got = acks[len(acks)-1]
				}
				if n := m.through(mode); n > 0 {
					want = m.acks[n-1]
				}
				if got != want {
					t.Fatalf("acknowledged through %q, want %q", got, want)
				}
			},
		})
	})
}

func TestTrackerRunsAheadOnLimitsOnly(t *testing.T) {
	for mode, want := range map[acking][]string{ackFreely: {"3"}, ackThrough: nil, ackEach: {"2", "3"}} {
		tr := newTracker(mode, 100, checkpoint{})
		for n := uint64(1); n <= 4; n++ {
			tr.add(slot{sequence: n}, &reply{text: fmt.Sprint(n)})
		}
		tr.Confirm([]uint64{2, 3})
		now := time.Now()
		tr.runAhead(now, time.Second)
		if acks := tr.takeAcks(nil); mode != ackEach && len(acks) != 0 {
			t.Errorf("mode %d: acknowledged %v at once", mode, acks)
		} else if mode == ackEach {
			tr.Confirm([]uint64{2, 3}) // resolved already
			if !slices.Equal(acks, want) {
				t.Errorf("mode %d: acknowledged %v, want %v", mode, acks, want)
			}
			continue
		}
		tr.runAhead(now.Add(2*time.Second), time.Second)
		if got := tr.takeAcks(nil); !slices.Equal(got, want) {
			t.Errorf("mode %d: acknowledged %v, want %v", mode, got, want)
		}
		if mode != ackFreely {
			continue
		}
		tr.Confirm([]uint64{4})
		if got := tr.takeAcks(nil); !slices.Equal(got, []string{"4"}) {
			t.Errorf("while ahead: acknowledged %v", got)
		}
		if p := tr.checkpoint(); p.Floor != 0 {
			t.Errorf("the floor ran ahead to %d", p.Floor)
		}
		tr.Confirm([]uint64{1})
		if p := tr.checkpoint(); p.Floor != 4 || tr.ahead {
			t.Errorf("floor %d, still ahead: %v", p.Floor, tr.ahead)
		}
	}
}

// Half of what the server delivers without an acknowledgement presses, and half of the
// window where messages are acknowledged past those that wait.
func TestTrackerIsPressed(t *testing.T) {
	tr := newTracker(ackFreely, 30, checkpoint{})
	add := func(n int) {
		for range n {
			tr.add(slot{sequence: tr.next}, &reply{text: "r"})
		}
	}
	want := func(want bool) {
		t.Helper()
		if got := tr.pressed(10); got != want {
			t.Errorf("pressed: %v with %d open and %d owed", got, tr.open(), tr.owed())
		}
	}
	add(5)
	want(false)
	add(1)
	want(true)
	tr.Confirm([]uint64{1})
	want(false)
	add(9)
	tr.Confirm([]uint64{15})
	now := time.Now()
	tr.runAhead(now, time.Second)
	want(true)
	tr.runAhead(now.Add(2*time.Second), time.Second)
	want(false) // all are acknowledged, and 14 open
	add(2)
	tr.Confirm([]uint64{16, 17})
	want(true)
}

func BenchmarkTracker(b *testing.B) {
	tr := newTracker(ackFreely, 1<<16, checkpoint{})
	batch := make([]uint64, 0, 256)
	_, r, err := metadata(&nats.Msg{Reply: "$JS.ACK._.hash.ORDERS.consumer.1.1.1.1.1.token"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r.consumer = tr.next
		n, _ := tr.add(slot{sequence: tr.next}, &r)
		if batch = append(batch, n); len(batch) == cap(batch) {
			tr.Confirm(batch)
			batch = batch[:0]
		}
	}
}
