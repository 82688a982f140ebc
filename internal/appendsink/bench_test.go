package appendsink

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"ossuary/internal/event"
	"ossuary/internal/object"
)

// lengths is a store that keeps of each object what an append is judged by, and
// costs next to nothing.
type lengths struct {
	mu      sync.Mutex
	objects map[string]object.Appended
	appends int
}

func newLengths() *lengths { return &lengths{objects: map[string]object.Appended{}} }

func (s *lengths) Append(_ context.Context, key string, position int64, body object.Body, _ *object.Create) (object.Appended, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[key]
	if o.Next != position {
		return o, &object.Error{Op: "append", Kind: object.Mismatch, Key: key, Length: o.Next}
	}
	o.Next, o.CRC64 = o.Next+int64(body.Len()), body.CRC64(o.CRC64)
	s.objects[key] = o
	s.appends++
	return o, nil
}

func (s *lengths) Head(_ context.Context, key string) (object.Info, error) {
	return object.Info{}, &object.Error{Op: "head", Kind: object.NotFound, Key: key, Length: -1}
}

func (s *lengths) Read(_ context.Context, key string, _, _ int64) (io.ReadCloser, error) {
	return nil, &object.Error{Op: "read", Kind: object.NotFound, Key: key, Length: -1}
}

func (s *lengths) List(context.Context, string, func(object.Entry) error) error { return nil }

// line is a running Set, events for it, and how many were confirmed.
type line struct {
	set       *Set
	specs     []*Spec
	event     event.Event
	confirmed atomic.Int64
	settled   chan struct{}
}

// newLine takes events of size bytes and sends batches of as many as batch to the
// store, as many at once.
func newLine(t testing.TB, series, size, batch int, codec event.Codec, st store, atOnce int64) *line {
	l := &line{settled: make(chan struct{}, 1)}
	dead := &Spec{Series: "dead"}
	l.set = NewSet(Options{Archive: "a", Source: "S", Lane: "0", Prefix: "p/", Stream: event.StreamID{Name: "S", Created: created},
		Store: st, Budget: NewBudget(256 << 20), Appends: semaphore.NewWeighted(atOnce), Dead: func(int) *Spec { return dead },
		Confirm: func(slots []uint64) {
			l.confirmed.Add(int64(len(slots)))
			select {
			case l.settled <- struct{}{}:
			default:
			}
		},
		Forget: func(uint64) { t.Error("an event was let go") }, Log: zerolog.Nop()})
	for i := range series {
		l.specs = append(l.specs, &Spec{Series: "s/" + strconv.Itoa(i), Route: "r", Codec: codec, Layout: 1,
			Flush: Flush{Size: 4 << 20, Events: batch, Linger: time.Hour}})
	}
	l.event = event.Event{Time: created, Subject: "orders.eu.created"}
	l.event.Data = fmt.Appendf(nil, `{"id":1,"items":["%0*d"]}`, max(size-22, 1), 7)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- l.set.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	return l
}

// add adds events, one after the other over the series.
func (l *line) add(t testing.TB, n int) {
	for range n {
		l.put(t, int(l.event.Sequence+1)%len(l.specs))
	}
}

// put adds an event to one of the series.
func (l *line) put(t testing.TB, series int) {
	l.event.Sequence++
	l.event.Time = l.event.Time.Add(time.Microsecond)
	if err := l.set.Add(context.Background(), l.specs[series], &l.event, l.event.Sequence); err != nil {
		t.Fatal(err)
	}
}

// wait waits until all is confirmed.
func (l *line) wait() { l.waitFor(int64(l.event.Sequence)) }

func (l *line) waitFor(confirmed int64) {
	for l.confirmed.Load() < confirmed {
		<-l.settled
	}
}

func BenchmarkArchive(b *testing.B) {
	for _, c := range []struct {
		series, size, batch int
		codec               event.Codec
	}{
		{16, 1024, 4000, event.Plain}, {16, 1024, 4000, event.Gzip}, {16, 128, 10_000, event.Plain}, {10_000, 1024, 20, event.Plain},
	} {
		b.Run(fmt.Sprintf("%d_series/%d_bytes/%v", c.series, c.size, c.codec), func(b *testing.B) {
			l := newLine(b, c.series, c.size, c.batch, c.codec, newLengths(), 32)
			round := c.series * c.batch
			b.ReportAllocs()
			b.SetBytes(int64(len(l.event.Data)))
			b.ResetTimer()
			for left := b.N; left > 0; left -= round {
				l.add(b, min(left, round))
				if left >= round {
					l.wait()
				}
			}
			b.StopTimer()
			if err := l.set.Drain(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// Nothing is allocated per event: what an append takes is the same for a batch of 50
// and of 500, but for what its buffers take when they are new.
func TestAllocationsPerAppend(t *testing.T) {
	if raced {
		t.Skip("under the race detector pools forget at random")
	}
	const series, most = 8, 85
	for _, codec := range []event.Codec{event.Plain, event.Gzip, event.Zstd} {
		for _, batch := range []int{50, 500} {
			store := newLengths()
			l := newLine(t, series, 300, batch, codec, store, 32)
			got := testing.AllocsPerRun(5, func() {
				l.add(t, series*batch)
				l.wait()
			}) / series
			if store.appends != 6*series {
				t.Errorf("%v: %d appends, want %d", codec, store.appends, 6*series)
			}
			if got > most {
				t.Errorf("%v: %.0f allocations for an append of %d events, at most %d are right", codec, got, batch, most)
			}
			t.Logf("%v: %.0f allocations for an append of %d events", codec, got, batch)
		}
	}
}
