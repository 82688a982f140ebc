//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/e2e/rig"
)

const (
	latencyRate   = 5000 // events a second
	latencyTime   = 8 * time.Second
	latencyWarmUp = time.Second // of it; not counted
)

// latency publishes at a steady pace while the service runs with linger 0 and
// appends take 20 ms, and takes the time from just before an event is published
// until its acknowledgement passes by: acknowledgements are messages, and the
// bench subscribes to them. Ossuary acknowledges through the floor, so one for a
// sequence stands for all before it.
func latency(b *bench, t *trial, out *round) {
	b.archives++
	l := load{Series: 16, Payload: 1024, For: fmt.Sprintf("-latency%d", b.archives)}
	span := latencyTime
	if b.quick {
		span = 2 * time.Second
	}
	l.Events = int(latencyRate * span.Seconds())
	if _, err := b.js.CreateStream(t.Context(), l.streamConfig()); err != nil {
		t.Fatal(err)
	}
	defer b.dropStream(t, l)
	b.sink.slow(t, slowAppend)
	defer b.sink.slow(t, 0)
	a := b.archive(l, "plain")
	a.Linger = 0
	defer b.dropLedger(t, a)

	sent, acked := make([]time.Time, l.Events), make([]time.Time, l.Events)
	watch, err := nats.Connect(b.nats.url)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	var mu sync.Mutex
	through := 0
	if _, err := watch.Subscribe("$JS.ACK."+l.stream()+".>", func(m *nats.Msg) {
		now := time.Now()
		n, err := ackedSequence(m.Subject)
		mu.Lock()
		defer mu.Unlock()
		for ; err == nil && through < min(n, l.Events); through++ {
			acked[through] = now
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := watch.Flush(); err != nil {
		t.Fatal(err)
	}

	s := b.start(t, a)
	s.poll(10*time.Millisecond, "the lane runs", func(l laneStatus) bool { return l.State == "running" })
	js := rig.Must(jetstream.New(b.nc, jetstream.WithPublishAsyncMaxPending(publishAhead)))
	r := rand.New(rand.NewPCG(1, 2))
	began := time.Now()
	for i := range l.Events {
		p := payload(r, i, l.Payload)
		if due := began.Add(time.Duration(i) * time.Second / latencyRate); i%5 == 0 {
			time.Sleep(time.Until(due))
		}
		sent[i] = time.Now()
		if _, err := js.PublishAsync(l.subject(r.IntN(l.Series)), p, jetstream.WithStallWait(publishStall)); err != nil {
			t.Fatal(err)
		}
	}
	rig.Eventually(t, patience, "all events are acknowledged", func() (bool, string) {
		mu.Lock()
		defer mu.Unlock()
		return through == l.Events, fmt.Sprintf("%d of %d", through, l.Events)
	})
	s.Stop()
	var took []float64
	for i := int(latencyRate * latencyWarmUp.Seconds()); i < l.Events; i++ {
		took = append(took, float64(acked[i].Sub(sent[i]).Microseconds())/1000)
	}
	slices.Sort(took)
	at := func(q float64) float64 { return took[int(q*float64(len(took)-1))] }
	out.Values["p50, ms"], out.Values["p99, ms"], out.Values["longest, ms"] = at(0.5), at(0.99), at(1)
	b.say("  publish to acknowledged: p50 %.1f ms, p99 %.1f ms, longest %.1f ms", at(0.5), at(0.99), at(1))
}

// ackedSequence is the stream sequence in the subject of an acknowledgement:
// $JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer sequence>.<time>.<pending>,
// or with domain and account before the stream, and a token more at the end.
func ackedSequence(subject string) (int, error) {
	t := strings.Split(subject, ".")
	switch {
	case len(t) == 9:
		return strconv.Atoi(t[5])
	case len(t) >= 11:
		return strconv.Atoi(t[7])
	}
	return 0, fmt.Errorf("%q is no acknowledgement", subject)
}

// dropStream makes room.
func (b *bench) dropStream(t *trial, l load) {
	if err := b.js.DeleteStream(t.Context(), l.stream()); err != nil && !isGone(err) {
		t.Fatalf("deleting stream %s: %v", l.stream(), err)
	}
	delete(b.filled, l.stream())
}
