package capacity

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"ossuary/internal/config"
	"ossuary/internal/router"
	"ossuary/internal/service"
)

// The whole service, with servers and all, makes the appends and about the bytes
// that the model makes of the same events. Batches are full or drained, so that no
// clock decides.
func TestAgreesWithTheService(t *testing.T) {
	const events, devices, most, size = 600, 25, 7, 300
	rng := rand.New(rand.NewPCG(3, 5))
	pick := newPicker(func() (w []float64) {
		for i := range devices {
			w = append(w, zipf(i, 1))
		}
		return w
	}())
	var of []int
	for range events {
		of = append(of, pick.next(rng))
	}

	cfg := config.Default()
	cfg.Embedded.DataDir = t.TempDir()
	cfg.NATS.URLs, cfg.OSS.Endpoint, cfg.HTTP.Listen = []string{"nats://127.0.0.1:0"}, "http://127.0.0.1:0", ""
	r := &cfg.Sources[0].Routes[0]
	r.Name, r.Subjects, r.Series = "r", []string{"events.*"}, "x/{{wildcard(1)}}"
	r.Flush.Linger, r.Flush.Events = time.Hour, most

	// The model.
	lay := cfg.Layouts()[0]
	rt, err := router.New(lay)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{c: costs{time.Millisecond, 1e9}, slots: cfg.Limits.ParallelAppends, limit: cfg.Limits.Memory, day: true,
		ledgerEvery: time.Second, nextLedger: time.Second, nextFloor: time.Second, nextSweep: sweepEvery, wheel: map[int64][]*series{}}
	l := newLane(cfg.Limits.OpenSeries)
	m.lanes = []*lane{l}
	ru := &rule{size: r.Flush.Size, events: most, linger: r.Flush.Linger, rollSize: r.Roll.Size}
	for i, d := range of {
		msg := &router.Message{Subject: fmt.Sprintf("events.%d", d), Time: day0, Data: payload(size, rng)}
		name := rt.Resolve(msg).Series
		if ru.sizes == nil {
			if ru.sizes, err = measure(&lay.Routes[0], msg, name, size, most, r.Flush.Size); err != nil {
				t.Fatal(err)
			}
		}
		s := l.series[name]
		if s == nil {
			s = l.newSeries(name, ru)
		}
		m.advance(time.Duration(i) * time.Millisecond)
		m.arrive(l, s, int64(ru.sizes.line), size+100)
	}
	m.drain()

	// The service.
	s, err := service.Open(t.Context(), cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	nc, err := nats.Connect(cfg.NATS.URLs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range of {
		if _, err := js.Publish(t.Context(), fmt.Sprintf("events.%d", d), payload(size, rng)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for end := time.Now().Add(time.Minute); s.Report().Lanes[0].Delivered < events; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the lane is %+v", s.Report().Lanes[0])
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got := s.Report().Lanes[0]
	if got.Archived != events || m.count.archived != events {
		t.Errorf("the service archived %d events, the model %d, of %d", got.Archived, m.count.archived, events)
	}
	if got.Appends != int64(m.count.appends) {
		t.Errorf("the service made %d appends, the model %d", got.Appends, m.count.appends)
	}
	if d := math.Abs(float64(got.Bytes)-m.count.stored) / float64(got.Bytes); d > 0.05 {
		t.Errorf("the service stored %d bytes, the model %.0f", got.Bytes, m.count.stored)
	}
}
