package event

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// A body may come in pieces, as a batch keeps it; the frame's bytes are the same,
// wherever it is cut and whatever the codec and level.
func TestBodyInPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range codecs {
		for _, level := range []int{0, 1, 4, 9} {
			w := NewFrameWriter(level)
			for _, events := range []int{1, 40, 250} {
				n := &Content{Archive: "main", Source: "ORDERS", Series: "orders/2026", Segment: 1, Frame: 1, First: 1, Last: uint64(events),
					Count: events, MinTime: when, MaxTime: when, Greatest: when}
				var body []byte
				for i := range events {
					e := &Event{Sequence: uint64(i + 1), Time: when, Subject: "orders.eu.created", Data: payload(r.IntN(1500), r)}
					var err error
					if body, err = (Encoder{}).Append(body, e); err != nil {
						t.Fatal(err)
					}
				}
				whole, hash, err := NewFrameWriter(level).Data(nil, c, n, 0, body)
				if err != nil {
					t.Fatal(err)
				}
				var pieces [][]byte
				for rest := body; len(rest) > 0; {
					at := r.IntN(len(rest)+1) / (1 + r.IntN(8))
					pieces = append(pieces, rest[:at])
					rest = rest[at:]
					if at == 0 {
						pieces = append(pieces, rest[:1])
						rest = rest[1:]
					}
				}
				got, again, err := w.Data([]byte("before"), c, n, 0, pieces...)
				if err != nil || again != hash || string(got) != "before"+string(whole) {
					t.Fatalf("%v, level %d, %d events in %d pieces: another frame, %v", c, level, events, len(pieces), err)
				}
				if EventsRoot(body) != EventsRoot(bytes.SplitAfter(body, []byte{'\n'})...) {
					t.Fatalf("%v: another root", c)
				}
			}
		}
	}
}
