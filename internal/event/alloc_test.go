//go:build !race

// The race detector has pools drop some of what they are given, so
// that allocations vary.

package event

import (
	"bytes"
	"testing"
)

// What a frame allocates does not depend on how many events it has.
func TestAllocationsPerFrame(t *testing.T) {
	const most = 4
	for _, c := range codecs {
		for _, events := range []int{10, 2000} {
			n := &Content{Archive: "main", Source: "ORDERS", Series: "orders/2026", Segment: 1, Frame: 1, First: 1, Last: uint64(events),
				Count: events, MinTime: when, MaxTime: when, Greatest: when}
			body := bytes.Repeat([]byte("{}\n"), events)
			w, out := NewFrameWriter(0), []byte(nil)
			got := testing.AllocsPerRun(10, func() {
				var err error
				if out, _, err = w.Data(out[:0], c, n, 0, body); err != nil {
					t.Fatal(err)
				}
			})
			if got > most {
				t.Errorf("%v: %.0f allocations for a frame of %d events, at most %d are right", c, got, events, most)
			}
			t.Logf("%v: %.0f allocations for a frame of %d events", c, got, events)
		}
	}
}
