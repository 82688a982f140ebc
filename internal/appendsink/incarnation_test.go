package appendsink

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/event"
)

// A stream that was made anew hands out sequences and even timestamps again (its
// server's clock was set back): its events are others all the same, whatever the
// series holds of the stream before.
func TestStreamMadeAnew(t *testing.T) {
	for name, lagging := range map[string]bool{"a writer that knows the series": false, "a writer that finds the frames": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, l := start(t, 4)
				old := w.ledger.copy()
				w.publish(4)
				finishes(t, l)
				if lagging {
					w.ledger.tails = old
				}
				for i := range w.events {
					w.events[i].Data = fmt.Appendf(nil, `{"again":%d}`, i+1)
				}
				again := w.lane()
				again.stream.Created = created.Add(-time.Hour)
				err := again.epoch(t.Context())
				var reuse *ReuseError
				if !errors.As(err, &reuse) {
					t.Errorf("within one incarnation the epoch ended with %v, want a ReuseError", err)
				}
				again.stream.Incarnation = 1
				again.done = map[uint64]bool{}
				finishes(t, again)
				if got, want := w.sequences(), numbers(1, 8)+" "+numbers(1, 8); got != want {
					t.Errorf("the series holds %s, want %s", got, want)
				}
				if w.m.DeadLetters.Load() != 0 {
					t.Errorf("%d dead letters", w.m.DeadLetters.Load())
				}
			})
		})
	}
}

// A writer that still believes in the stream's life before appends nothing behind
// frames of the next, although its event has a sequence above theirs.
func TestLaterIncarnationEndsTheEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t, 4)
		later := w.lane()
		later.stream.Incarnation = 1
		w.events = []event.Event{{Sequence: 2, Time: created.Add(time.Hour), Subject: "e.0", Data: []byte(`{"again":2}`)}}
		finishes(t, later)
		before := w.store.Bytes(w.key(1))

		zombie := w.lane()
		w.events = []event.Event{{Sequence: 9, Time: created.Add(9 * time.Second), Subject: "e.0", Data: []byte(`{"n":9}`)}}
		if err := zombie.epoch(t.Context()); !errors.Is(err, ErrIncarnation) {
			t.Errorf("the epoch ended with %v, want ErrIncarnation", err)
		}
		if string(w.store.Bytes(w.key(1))) != string(before) {
			t.Error("it appended all the same")
		}
	})
}

// The events of a rewound stream are not those that a writer finds under their
// sequences when it reads on.
func TestRewoundStreamIsReadOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := start(t, 6)
		old := w.ledger.copy()
		w.publish(4)
		finishes(t, l)
		w.rewind(6, 6)
		w.ledger.tails = old
		again := w.lane()
		again.stream.Incarnation = 1
		finishes(t, again)
		if got, want := w.sequences(), numbers(1, 10)+" "+numbers(7, 12); got != want {
			t.Errorf("the series holds %s, want %s", got, want)
		}
	})
}
