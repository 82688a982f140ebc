package capacity

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/router"
)

// sizes says what a frame of n events takes, from frames that were really written.
type sizes struct {
	line   float64 // bytes of an event's line
	counts []float64
	stored []float64 // bytes of a frame with that many events
}

// payload is JSON of about size bytes, as different from one to the next as orders
// are.
func payload(size int, r *rand.Rand) []byte {
	p := fmt.Appendf(nil, `{"id":%d,"customer":"c-%06d","total":%d.%02d,"items":[`, r.Int64(), r.IntN(1e6), r.IntN(1000), r.IntN(100))
	for i := 0; len(p) < size-40; i++ {
		if i > 0 {
			p = append(p, ',')
		}
		p = fmt.Appendf(p, `{"sku":"%08x","quantity":%d}`, r.Uint32(), r.IntN(10))
	}
	p = append(p, "]}"...)
	if len(p) > size { // too small for all of that
		p = fmt.Appendf(nil, `%0*d`, size, 0)[:size]
		for i := range p {
			p[i] = '0' + byte(r.IntN(9)+1)%10
		}
	}
	return p
}

// measure writes frames of more and more events of the route, up to most events
// or bytes.
func measure(rt *router.Route, m *router.Message, series string, size int, mostEvents, mostBytes int) (*sizes, error) {
	format, err := event.ParseFormat(rt.Format)
	if err != nil {
		return nil, err
	}
	codec, err := event.ParseCodec(rt.Codec)
	if err != nil {
		return nil, err
	}
	enc := event.Encoder{Format: format}
	if enc.Payload, err = event.ParsePayload(rt.Payload); err != nil {
		return nil, err
	}
	if enc.Newline, err = event.ParseNewline(rt.Newline); err != nil {
		return nil, err
	}
	// Enough to see what compression makes of many; beyond it goes on as it went.
	const enough = 4 << 20
	rng := rand.New(rand.NewPCG(1, 2))
	frames := event.NewFrameWriter(0)
	s := new(sizes)
	var body []byte
	n := 0
	for want := 1; ; want *= 4 {
		want = min(want, max(mostEvents, 1))
		for ; n < want; n++ {
			e := &event.Event{Sequence: uint64(1_000_000 + 37*n), Time: m.Time.Add(time.Duration(n) * 7919 * time.Microsecond),
				Subject: m.Subject, Data: payload(size, rng)}
			if body, err = enc.Append(body, e); err != nil {
				return nil, fmt.Errorf("an event as this load has them cannot be archived by route %q: %w", rt.Name, err)
			}
		}
		c := &event.Content{Archive: "archive", Source: "SOURCE", Lane: "0", Series: series, Layout: 1, Segment: 1, Frame: 1, Format: format,
			First: 1_000_000, Last: uint64(1_000_000 + 37*n), Count: n,
			MinTime: m.Time, MaxTime: m.Time.Add(time.Hour), Greatest: m.Time.Add(time.Hour)}
		c.Stream = event.StreamID{Name: "SOURCE", Created: m.Time}
		if format == event.Raw {
			seqs := make([]uint64, n)
			for i := range seqs {
				seqs[i] = uint64(1_000_000 + 37*(i+1))
			}
			c.First, c.Last = seqs[0], seqs[n-1]
			c.Seqs = string(event.AppendSeqs(nil, seqs))
		}
		frame, _, err := frames.Data(nil, codec, c, 0, body)
		if err != nil {
			return nil, fmt.Errorf("writing a frame of route %q: %w", rt.Name, err)
		}
		s.counts, s.stored = append(s.counts, float64(n)), append(s.stored, float64(len(frame)))
		s.line = float64(len(body)) / float64(n)
		if n >= mostEvents || len(body) >= mostBytes || len(body) >= enough {
			return s, nil
		}
	}
}

// frame is what a frame of n events takes.
func (s *sizes) frame(n int) float64 {
	x := float64(n)
	i := sort.SearchFloat64s(s.counts, x)
	last := len(s.counts) - 1
	switch {
	case i <= last && s.counts[i] == x, last == 0 && i == 0:
		return s.stored[min(i, last)]
	case i > last:
		return s.stored[last] * x / s.counts[last]
	}
	// Bytes per event change with the logarithm of their number.
	part := (math.Log(x) - math.Log(s.counts[i-1])) / (math.Log(s.counts[i]) - math.Log(s.counts[i-1]))
	a, b := s.stored[i-1]/s.counts[i-1], s.stored[i]/s.counts[i]
	return x * (a + part*(b-a))
}
