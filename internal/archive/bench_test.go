package archive

import (
	"testing"

	"ossuary/internal/event"
)

// BenchmarkVerify reports stored bytes per second, and events in the name's unit.
func BenchmarkVerify(b *testing.B) {
	a := newBuilder(b, event.Gzip)
	const frames, each = 200, 500
	seq := uint64(0)
	for range frames {
		seqs := make([]uint64, each)
		for i := range seqs {
			seq++
			seqs[i] = seq
		}
		a.open("orders/eu").put(seqs...)
	}
	a.tally(seq, seq, 0)
	opt := a.options()
	for b.Loop() {
		r := verify(b, opt)
		wantOK(b, r)
		b.SetBytes(r.Bytes)
	}
	b.ReportMetric(float64(b.N)*float64(seq)/b.Elapsed().Seconds(), "events/s")
}
