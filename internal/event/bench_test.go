package event

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"
)

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
	return append(p, "]}"...)
}

func batch(b *testing.B, events, size int) (*Content, []byte) {
	r := rand.New(rand.NewPCG(1, 2))
	n := &Content{Archive: "main", Source: "ORDERS", Series: "orders/2026", Segment: 1, Frame: 1, First: 1, Last: uint64(events), Count: events}
	var body []byte
	for i := range events {
		e := &Event{Sequence: uint64(i + 1), Time: when.Add(time.Duration(i)), Subject: "orders.eu.created", Data: payload(size, r)}
		var err error
		if body, err = (Encoder{}).Append(body, e); err != nil {
			b.Fatal(err)
		}
	}
	n.MinTime, n.MaxTime, n.Greatest = when, when.Add(time.Duration(events-1)), when.Add(time.Duration(events-1))
	return n, body
}

func BenchmarkAppend(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{128, 1024} {
		e := &Event{Sequence: 123456789, Time: when, Subject: "orders.eu.created", Data: payload(size, r)}
		h := *e
		h.Header = map[string][]string{"Nats-Msg-Id": {"a1"}, "Trace": {"00-4bf92f3577b34da6a3ce929d0e0e4736"}}
		for _, c := range []struct {
			name string
			enc  Encoder
			e    *Event
		}{
			{"auto", Encoder{}, e}, {"auto-headers", Encoder{}, &h}, {"json", Encoder{Payload: JSON}, e},
			{"text", Encoder{Payload: Text}, e}, {"base64", Encoder{Payload: Base64}, e}, {"raw", Encoder{Format: Raw}, e},
		} {
			b.Run(fmt.Sprintf("%s/%d", c.name, size), func(b *testing.B) {
				buf := make([]byte, 0, 8<<10)
				b.ReportAllocs()
				b.SetBytes(int64(len(e.Data)))
				for b.Loop() {
					buf, _ = c.enc.Append(buf[:0], c.e)
				}
			})
		}
	}
}

func BenchmarkDecodeLine(b *testing.B) {
	for _, size := range []int{128, 1024} {
		_, line := batch(b, 1, size)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			var l Line
			b.ReportAllocs()
			b.SetBytes(int64(len(line)))
			for b.Loop() {
				if err := DecodeLine(line, &l); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFrameWriter(b *testing.B) {
	for _, c := range codecs {
		for _, events := range []int{10, 4000} {
			n, body := batch(b, events, 256)
			b.Run(fmt.Sprintf("%v/%d", c, events), func(b *testing.B) {
				w := NewFrameWriter(0)
				var out []byte
				b.ReportAllocs()
				b.SetBytes(int64(len(body)))
				for b.Loop() {
					var err error
					if out, _, err = w.Data(out[:0], c, n, 0, body); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(body))/float64(len(out)), "ratio")
			})
		}
	}
}

func BenchmarkScanner(b *testing.B) {
	for _, c := range codecs {
		n, body := batch(b, 4000, 256)
		w := NewFrameWriter(0)
		var object []byte
		for range 20 {
			var err error
			if object, _, err = w.Data(object, c, n, int64(len(object)), body); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(c.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(20 * len(body)))
			for b.Loop() {
				sc := NewScanner(bytes.NewReader(object), c, 0, 0)
				for {
					if _, _, err := sc.Next(); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkSequences(b *testing.B) {
	n, body := batch(b, 4000, 256)
	n.Kind = KindData
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if err := Sequences(&Frame{Content: *n}, body, func(uint64, time.Time) bool { return true }); err != nil {
			b.Fatal(err)
		}
	}
}
