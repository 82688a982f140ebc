package intake

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"ossuary/internal/event"
	"ossuary/internal/router"
)

// counting is a sink that takes everything and confirms it in batches.
type counting struct {
	slots   []uint64
	confirm func([]uint64)
}

func (c *counting) Load(context.Context) error  { return nil }
func (c *counting) Run(context.Context) error   { return nil }
func (c *counting) Drain(context.Context) error { return nil }

func (c *counting) Put(_ context.Context, _ int, _ router.Target, _ *event.Event, slot uint64) error {
	if c.slots = append(c.slots, slot); len(c.slots) == cap(c.slots) {
		c.confirm(c.slots)
		c.slots = c.slots[:0]
	}
	return nil
}

// deliveries returns what a lane does with the next delivery, and a failure if the
// epoch ended over it.
func deliveries(t testing.TB) (next func(), failed func() error) {
	r, err := router.New(router.Layout{Version: router.LayoutVersion, Archive: testArchive, Source: "S", Lanes: 1, MaxEvent: 1 << 20,
		EscapeVersion: router.EscapeVersion, EncoderVersion: router.EncoderVersion, Routes: []router.Route{
			{Name: "r", Subjects: []string{"orders.>"}, Series: "orders/{{wildcard(1)}}", Format: "envelope", Codec: "plain", Payload: "auto", Newline: "refuse"}}})
	if err != nil {
		t.Fatal(err)
	}
	c := &counting{slots: make([]uint64, 0, 500)}
	e := &epoch{l: &Lane{}, plan: &plan{segments: []segment{{since: 1, layout: 1, router: r}}}, sink: c, log: zerolog.Nop(),
		tracker: newTracker(ackFreely, 1<<16, checkpoint{}), horizon: newHorizon(1<<40, 1000)}
	c.confirm = e.tracker.Confirm
	// Replies are made before: the client library makes each delivery's.
	const most = 30_000
	msgs := make([]nats.Msg, most)
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for i := range msgs {
		msgs[i] = nats.Msg{Subject: "orders.eu", Data: []byte(`{"id":1}`),
			Reply: fmt.Sprintf("$JS.ACK._.hash.S.consumer.1.%d.%d.%d.7.token", i+1, i+1, at.UnixNano()+int64(i))}
	}
	n := 0
	ctx := t.Context()
	var why error
	end := func(err error) { why = err }
	return func() {
		if n == most {
			n = 0
			e.order = contiguity{}
		}
		e.handle(ctx, end, &msgs[n])
		n++
	}, func() error { return why }
}

// From the delivery to the sink and back to the floor nothing is allocated.
func TestDeliveryDoesNotAllocate(t *testing.T) {
	next, failed := deliveries(t)
	for range 2000 { // the window has grown, the subject is known
		next()
	}
	if n := testing.AllocsPerRun(20_000, next); n != 0 {
		t.Errorf("%v allocations for a delivery", n)
	}
	if err := failed(); err != nil {
		t.Error(err)
	}
}

func BenchmarkDelivery(b *testing.B) {
	next, failed := deliveries(b)
	b.ReportAllocs()
	for b.Loop() {
		next()
	}
	if err := failed(); err != nil {
		b.Error(err)
	}
}
