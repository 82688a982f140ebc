package event

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// Bodies as archives have them: a third or so of an order is random, small events are
// mostly envelope, and a log says the same words again and again.
var archivedBodies = []struct {
	name string
	data func(r *rand.Rand, i int) []byte
}{
	{"orders-1024", func(r *rand.Rand, i int) []byte { return order(r, i, 1024) }},
	{"orders-128", func(r *rand.Rand, i int) []byte { return order(r, i, 128) }},
	{"log", logLine},
}

var (
	someNames  = []string{"anna", "boris", "chen", "dalia", "emeka", "farah", "goran", "hana", "ivo", "jun"}
	someStates = []string{"created", "paid", "packed", "shipped", "delivered", "returned"}
	someWords  = []string{"blue", "lamp", "with", "shade", "oak", "table", "round", "small", "chair", "green", "shelf", "of", "steel", "glass", "box", "large", "for", "books", "kitchen", "garden"}
)

// order is what the bench publishes.
func order(r *rand.Rand, i, size int) []byte {
	p := fmt.Appendf(nil, `{"id":%d,"state":"%s","customer":"%s","trace":"%x","note":"`, i, someStates[r.IntN(len(someStates))], someNames[r.IntN(len(someNames))], r.Uint64())
	for len(p) < size-2 {
		if r.IntN(4) == 0 {
			p = strconv.AppendUint(p, uint64(r.Uint32()), 10)
		} else {
			p = append(p, someWords[r.IntN(len(someWords))]...)
		}
		p = append(p, ' ')
	}
	return append(p[:size-2], `"}`...)
}

// logLine is a line of a program's log, in JSON as most are today.
func logLine(r *rand.Rand, i int) []byte {
	level := []string{"info", "info", "info", "info", "debug", "warn", "error"}[r.IntN(7)]
	return fmt.Appendf(nil, `{"time":"2026-11-22T10:%02d:%02d.%03dZ","level":"%s","service":"checkout","pod":"checkout-7d9c-%04x","request":"%016x","method":"%s","path":"/api/v1/carts/%d/items","status":%d,"duration_ms":%d,"message":"%s %s"}`,
		i/60000%60, i/1000%60, i%1000, level, r.IntN(8), r.Uint64(), []string{"GET", "POST", "PUT"}[r.IntN(3)], r.IntN(1e6), []int{200, 200, 200, 201, 404, 500}[r.IntN(6)],
		r.IntN(400), someStates[r.IntN(len(someStates))], someWords[r.IntN(len(someWords))])
}

// linesOf is the body of a frame, of about size bytes, in pieces as a batch has them.
func linesOf(data func(*rand.Rand, int) []byte, size int) (*Content, [][]byte) {
	const piece = 128 << 10
	r := rand.New(rand.NewPCG(1, 2))
	n := &Content{Archive: "main", Source: "ORDERS", Series: "orders/2026", Segment: 1, Frame: 1, First: 1, MinTime: when, Greatest: when}
	var pieces [][]byte
	line := []byte(nil)
	for total := 0; total < size; total += len(line) {
		n.Count++
		n.Last++
		n.MaxTime = when.Add(time.Duration(n.Count) * time.Microsecond)
		line, _ = (Encoder{}).Append(line[:0], &Event{Sequence: n.Last, Time: n.MaxTime, Subject: "orders.eu.created", Data: data(r, n.Count)})
		if last := len(pieces) - 1; last < 0 || len(pieces[last])+len(line) > piece {
			pieces = append(pieces, make([]byte, 0, piece))
		}
		pieces[len(pieces)-1] = append(pieces[len(pieces)-1], line...)
	}
	n.Greatest = n.MaxTime
	return n, pieces
}

// What compressing costs and brings, by level; docs/PERFORMANCE.md has a table of it.
// 0 is the default.
func BenchmarkLevels(b *testing.B) {
	for _, body := range archivedBodies {
		for _, size := range []int{64 << 10, 1 << 20, 4 << 20} {
			n, pieces := linesOf(body.data, size)
			total := 0
			for _, p := range pieces {
				total += len(p)
			}
			for _, c := range []Codec{Gzip, Zstd} {
				for level := range 10 {
					b.Run(fmt.Sprintf("%s/%dKiB/%v/%d", body.name, size>>10, c, level), func(b *testing.B) {
						w := NewFrameWriter(level)
						var out []byte
						b.ReportAllocs()
						b.SetBytes(int64(total))
						for b.Loop() {
							var err error
							if out, _, err = w.Data(out[:0], c, n, 0, pieces...); err != nil {
								b.Fatal(err)
							}
						}
						b.ReportMetric(float64(total)/float64(len(out)), "ratio")
					})
				}
			}
		}
	}
}

// Many writers at once, as append workers are, of small frames: what they compress with
// must not push one another out of the caches.
func BenchmarkWritersAtOnce(b *testing.B) {
	for _, c := range []Codec{Gzip, Zstd} {
		for _, size := range []int{16 << 10, 64 << 10, 1 << 20} {
			n, pieces := linesOf(archivedBodies[0].data, size)
			total := 0
			for _, p := range pieces {
				total += len(p)
			}
			for _, level := range []int{0, 5} {
				b.Run(fmt.Sprintf("%v/%d/%dKiB", c, level, size>>10), func(b *testing.B) {
					b.ReportAllocs()
					b.SetBytes(int64(total))
					b.SetParallelism(32)
					b.RunParallel(func(p *testing.PB) {
						n, w := *n, NewFrameWriter(level)
						var out []byte
						for p.Next() {
							var err error
							if out, _, err = w.Data(out[:0], c, &n, 0, pieces...); err != nil {
								b.Error(err)
								return
							}
						}
					})
				})
			}
		}
	}
}
