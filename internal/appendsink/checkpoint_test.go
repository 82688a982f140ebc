package appendsink

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/ledger"
)

// Of two checkpoints of a series the one that is further stays, whoever writes
// last.
func TestCheckpointThatIsFurtherStays(t *testing.T) {
	for name, c := range map[string]struct{ theirs, ours, want ledger.Tail }{
		"theirs":         {ledger.Tail{Segment: 1, Position: 20}, ledger.Tail{Segment: 1, Position: 10}, ledger.Tail{Segment: 1, Position: 20}},
		"ours":           {ledger.Tail{Segment: 1, Position: 10}, ledger.Tail{Segment: 1, Position: 20}, ledger.Tail{Segment: 1, Position: 20}},
		"their segment":  {ledger.Tail{Segment: 2, Position: 0}, ledger.Tail{Segment: 1, Position: 20}, ledger.Tail{Segment: 2, Position: 0}},
		"our segment":    {ledger.Tail{Segment: 1, Position: 20}, ledger.Tail{Segment: 2, Position: 0}, ledger.Tail{Segment: 2, Position: 0}},
		"none was there": {ours: ledger.Tail{Segment: 1, Position: 5}, want: ledger.Tail{Segment: 1, Position: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 0, 1)
			set := w.lane().newSet()
			if c.theirs.Segment > 0 { // written since the set loaded what it knows
				if _, err := w.ledger.PutTail(t.Context(), "S", "0", "e/0", c.theirs, 0); err != nil {
					t.Fatal(err)
				}
			}
			set.point.note("e/0", c.ours)
			if err := set.point.flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := w.ledger.copy()["e/0"].Tail; got != c.want {
				t.Errorf("the ledger has segment %d at %d, want segment %d at %d", got.Segment, got.Position, c.want.Segment, c.want.Position)
			}
		})
	}
}

// A sealed series is needed in the ledger as long as events that it holds may
// come again.
func TestSealedSeriesStaysUntilTheFloor(t *testing.T) {
	w := newWorld(t, 0, 1)
	set := w.lane().newSet()
	floor := uint64(9)
	set.opt.Floor = func() uint64 { return floor }
	set.point.note("e/0", ledger.Tail{Segment: 2, Sealed: true, Last: 10})
	for _, there := range []bool{true, false} {
		if err := set.point.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, ok := w.ledger.copy()["e/0"]; ok != there {
			t.Errorf("floor %d: the ledger has the series: %v, want %v", floor, ok, there)
		}
		floor++
	}
}

// Who waits until another round of checkpoints is through, which may wait for the
// server, can be called off.
func TestFlushEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		point := &newWorld(t, 0, 1).lane().newSet().point
		if err := point.round.Acquire(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := point.flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended by: %v", err)
		}
	})
}

// A round writes a bounded number of tails, those first that wait longest, and each
// as it is then; what is waited for writes all.
func TestCheckpointRoundIsBounded(t *testing.T) {
	w := newWorld(t, 0, 1)
	set := w.lane().newSet()
	const series = 2*checkpointRound + 100
	note := func(position int64) {
		for i := range series {
			set.point.note(strconv.Itoa(i), ledger.Tail{Segment: 1, Position: position})
		}
	}
	written := func(position int64) (n int) {
		for _, e := range w.ledger.copy() {
			if e.Position == position {
				n++
			}
		}
		return n
	}
	note(1)
	for round, want := range []int{checkpointRound, 2 * checkpointRound, series} {
		if err := set.point.writeSome(t.Context(), checkpointRound); err != nil {
			t.Fatal(err)
		}
		if got := written(int64(1)); round == 0 && got != want {
			t.Errorf("the first round wrote %d, want %d", got, want)
		}
		note(2) // those that wait stay where they are in the line
		if got := len(w.ledger.copy()); got != want {
			t.Errorf("round %d: the ledger has %d series, want %d", round, got, want)
		}
	}
	if err := set.point.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := written(2); got != series || len(set.point.dirty) != 0 {
		t.Errorf("%d of %d are as they are, %d wait", got, series, len(set.point.dirty))
	}
}
