//go:build unix

package e2e

import (
	"net/http"
	"testing"
	"time"

	"ossuary/e2e/rig"
	"ossuary/internal/ossemu"
)

// The store applies appends and answers 500, resets connections before and after
// the work, answers too late, applies a request long after it was given up, and
// fails reads.
func TestStoreInDoubt(t *testing.T) {
	t.Parallel()
	n := sized(t, size{10000, 0}, size{60000, 0}, size{200000, 0})
	w := newWorld(t)
	a := w.instance("a", settings{ossTimeout: 400 * time.Millisecond})
	p := w.publish(n.events)
	a.Start()
	w.store.Reseed(w.seed)
	for _, r := range []ossemu.Rule{
		{ID: "500 after", Op: "append", When: "after", Action: "error", Probability: 0.06},
		{ID: "503 before", Op: "append", Action: "error", Status: 503, Code: "ServiceUnavailable", Probability: 0.04},
		{ID: "cut after", Op: "append", When: "after", Action: "cut", Probability: 0.06},
		{ID: "cut before", Op: "append", Action: "cut", Probability: 0.04},
		{ID: "late by one", Op: "append", Action: "late", Probability: 0.03},
		{ID: "late", Op: "append", Action: "late", Delay: ossemu.Duration(150 * time.Millisecond), Probability: 0.03},
		{ID: "timeout after", Op: "append", When: "after", Action: "delay", Delay: ossemu.Duration(700 * time.Millisecond), Probability: 0.01},
		{ID: "timeout before", Op: "append", Action: "delay", Delay: ossemu.Duration(700 * time.Millisecond), Probability: 0.01},
		{ID: "head 500", Op: "head", Action: "error", Probability: 0.1},
		{ID: "read cut", Op: "get", Action: "cut", CutAfter: 1000, Probability: 0.2},
		{ID: "list 500", Op: "list", Action: "error", Probability: 0.1},
	} {
		w.store.Fault(r)
	}
	p.Pace(n.events / 3)
	last := w.paced(p)
	a.WaitFloor(last)
	fired := map[string]int{}
	for _, r := range w.store.Faults() {
		fired[r.ID] = r.Fired
	}
	w.store.ClearFaults()
	t.Logf("faults: %v", fired)
	t.Logf("%.0f appends confirmed, %.0f in doubt, %.0f refused, %.0f frames adopted", w.metric("ossuary_appends_total"),
		w.metric("ossuary_append_doubts_total"), w.metric("ossuary_append_refusals_total"), w.metric("ossuary_adopted_frames_total"))
	if fired["500 after"] == 0 || fired["cut after"] == 0 || w.metric("ossuary_adopted_frames_total") == 0 {
		t.Error("no lost response had to be found in the object: this proves nothing")
	}
	a.Stop()
	w.prove()
}

// paced is published without hurrying a publisher that keeps a pace.
func (w *world) paced(p *rig.Publisher) uint64 {
	w.t.Helper()
	select {
	case <-p.Done:
	case <-time.After(patience):
		w.t.Fatalf("the publisher has %d of %d acknowledgements", p.Acked(), p.Total)
	}
	return w.published()
}

// slowSeries makes the store slow for some series: their batches are in flight
// when an epoch ends, while others are far ahead of them.
func (w *world) slowSeries() {
	w.t.Helper()
	for _, key := range []string{rig.KeyPrefix + "blobs/*", rig.KeyPrefix + "audit/eu*", rig.KeyPrefix + "lines/*"} {
		w.store.Fault(ossemu.Rule{Op: "append", Key: key, Action: "delay", Delay: ossemu.Duration(1200 * time.Millisecond), Probability: 0.5})
	}
}

// The connection to NATS is cut, blocked and frozen with batches in flight:
// JetStream brings messages again and out of order, and some acknowledgements
// never arrive.
func TestNATSConnectionLost(t *testing.T) {
	t.Parallel()
	n := sized(t, size{10000, 2}, size{60000, 10}, size{200000, 30})
	w := newWorld(t)
	a := w.instance("a", settings{})
	p := w.publish(n.events)
	a.Start()
	w.slowSeries()
	step := n.events / (n.rounds + 1)
	for round := range n.rounds {
		before := w.natsProxy.CutCount()
		// In the middle of what is delivered now.
		w.natsProxy.CutAfter(1 + w.rand.IntN(step*150))
		p.Release((round + 1) * step)
		rig.Eventually(t, patience, "the connection is cut", func() (bool, string) { return w.natsProxy.CutCount() > before, "" })
		switch round % 3 {
		case 1: // then the network stands still, and is cut again
			a.WaitFor("events under way", func(s rig.Status) bool { return s.Delivered > uint64(round*step) })
			w.natsProxy.Freeze()
			p.Release((round+1)*step + step/2)
			time.Sleep(time.Duration(w.rand.IntN(700)) * time.Millisecond) // so long does it
			w.natsProxy.Cut()
			w.natsProxy.Thaw()
		case 2: // it stays away for a while
			w.natsProxy.Block()
			rig.Eventually(t, patience, "the outage is noticed", func() (bool, string) { return a.Ready() == http.StatusServiceUnavailable, "" })
			w.natsProxy.Unblock()
		}
	}
	a.WaitFloor(w.published())
	t.Logf("%d cuts; %.0f epochs; %.0f events came again", w.natsProxy.CutCount(), w.metric("ossuary_epochs_total"), w.metric("ossuary_redelivered_events_total"))
	if w.metric("ossuary_epochs_total") < 2 {
		t.Error("no epoch ended: this proves nothing")
	}
	a.Stop()
	w.prove()
}

// The NATS server is killed and comes back with what its files hold.
func TestNATSKilled(t *testing.T) {
	t.Parallel()
	n := sized(t, size{10000, 2}, size{60000, 5}, size{200000, 10})
	w := newWorld(t)
	a := w.instance("a", settings{})
	p := w.publish(n.events)
	a.Start()
	w.slowSeries()
	step := n.events / (n.rounds + 1)
	for round := range n.rounds {
		p.Release((round + 1) * step)
		some := uint64(round*step + 1 + w.rand.IntN(step/2))
		a.WaitFor("events under way", func(s rig.Status) bool { return s.Delivered >= some })
		p.Release((round+1)*step + step/2)
		w.nats.Kill()
		w.nats.Start()
	}
	a.WaitFloor(w.published())
	t.Logf("%d kills; %d messages published more than once; %.0f epochs; %.0f events came again",
		n.rounds, p.Retried(), w.metric("ossuary_epochs_total"), w.metric("ossuary_redelivered_events_total"))
	a.Stop()
	w.prove()
}

// The store is killed in the middle of appends and comes back.
func TestStoreKilled(t *testing.T) {
	t.Parallel()
	n := sized(t, size{10000, 2}, size{60000, 5}, size{200000, 10})
	w := newWorld(t)
	a := w.instance("a", settings{})
	p := w.publish(n.events)
	a.Start()
	step := n.events / (n.rounds + 1)
	for round := range n.rounds {
		p.Release((round + 1) * step)
		some := int64(1 + w.rand.IntN(step/2))
		a.WaitFor("events under way", func(s rig.Status) bool { return s.Archived >= some })
		w.store.Kill()
		p.Release((round+1)*step + step/2)
		w.store.Start()
	}
	a.WaitFloor(w.published())
	t.Logf("%d kills; %.0f appends in doubt, %.0f refused, %.0f frames adopted", n.rounds,
		w.metric("ossuary_append_doubts_total"), w.metric("ossuary_append_refusals_total"), w.metric("ossuary_adopted_frames_total"))
	a.Stop()
	w.prove()
}
