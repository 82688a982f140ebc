package intake

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/router"
)

// fakeArchive holds series as the objects do: whoever appends, only what follows
// the last event gets in.
type fakeArchive struct {
	mu     sync.Mutex
	series map[string][]record
}

type record struct {
	incarnation int
	sequence    uint64
	at          time.Time
	layout      int
}

func (a *fakeArchive) append(series string, rs []record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range rs {
		have := a.series[series]
		if n := len(have); n > 0 {
			last := have[n-1]
			if x.incarnation < last.incarnation || x.incarnation == last.incarnation && x.sequence <= last.sequence {
				continue
			}
		}
		a.series[series] = append(have, x)
	}
}

func (a *fakeArchive) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, s := range a.series {
		n += len(s)
	}
	return n
}

func (a *fakeArchive) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.series)
}

// fakeSink appends each series' events in order, in batches, after random
// delays, and confirms them in whatever order that makes.
type fakeSink struct {
	p       *process
	o       SinkOptions
	wake    chan struct{}
	mu      sync.Mutex
	queue   map[string][]put
	busy    map[string]bool
	open    int
	last    uint64
	failure chan error
}

type put struct {
	record
	slot uint64
}

func (p *process) sink(o SinkOptions) (Sink, error) {
	return &fakeSink{p: p, o: o, wake: make(chan struct{}, 1), queue: map[string][]put{}, busy: map[string]bool{}, failure: make(chan error, 1)}, nil
}

func (s *fakeSink) Put(ctx context.Context, layout int, t router.Target, e *event.Event, slot uint64) error {
	if gate := s.p.gate.Load(); gate != nil {
		select {
		case <-*gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	st := s.p.log.State()
	s.p.mu.Lock()
	s.p.puts++
	bad := func(format string, v ...any) { s.p.broken = append(s.p.broken, fmt.Sprintf(format, v...)) }
	if h := st.Horizon(s.p.lane.writer); e.Sequence > h && !s.p.dead.Load() {
		bad("sequence %d was handed out beyond the horizon %d", e.Sequence, h)
	}
	if n := st.LayoutAt(e.Sequence); n != layout && st.Stream.Incarnation == s.o.Stream.Incarnation {
		bad("sequence %d was handed out under layout %d, it has layout %d", e.Sequence, layout, n)
	}
	if e.Subject != string(e.Data) {
		bad("sequence %d: subject %s, data %s", e.Sequence, e.Subject, e.Data)
	}
	s.p.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Sequence <= s.last {
		bad("sequence %d after %d", e.Sequence, s.last)
	}
	s.last = e.Sequence
	s.queue[t.Series] = append(s.queue[t.Series], put{record{s.o.Stream.Incarnation, e.Sequence, e.Time, layout}, slot})
	s.open++
	signal(s.wake)
	return nil
}

func (s *fakeSink) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.failure:
			return err
		case <-s.wake:
		}
		s.mu.Lock()
		for name, q := range s.queue {
			if len(q) > 0 && !s.busy[name] {
				s.busy[name] = true
				wg.Go(func() { s.work(ctx, name) })
			}
		}
		s.mu.Unlock()
	}
}

func (s *fakeSink) work(ctx context.Context, name string) {
	for {
		s.mu.Lock()
		n := min(len(s.queue[name]), 1+rand.N(20))
		batch := s.queue[name][:n]
		s.queue[name] = s.queue[name][n:]
		s.busy[name] = n > 0
		s.mu.Unlock()
		if n == 0 {
			return
		}
		if pause(ctx, time.Duration(rand.N(3000))*time.Microsecond) != nil || s.p.dead.Load() {
			return
		}
		records, slots := make([]record, n), make([]uint64, n)
		for i, p := range batch {
			records[i], slots[i] = p.record, p.slot
		}
		s.p.r.arch.append(name, records)
		if rand.N(20) == 0 && s.p.dead.Load() {
			return // the response is lost
		}
		s.o.Confirm(slots)
		s.mu.Lock()
		s.open -= n
		s.mu.Unlock()
	}
}

func (s *fakeSink) Load(context.Context) error { return nil }

func (s *fakeSink) Drain(ctx context.Context) error {
	for {
		s.mu.Lock()
		open := s.open
		s.mu.Unlock()
		if open == 0 {
			return nil
		}
		if s.p.dead.Load() {
			return errors.New("dead")
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}
