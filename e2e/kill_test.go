//go:build unix

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"ossuary/e2e/rig"
)

// killed starts and kills a, each time with events under way, while p publishes.
// whileDown runs between a kill and the next start. Afterwards a runs and
// everything has been archived.
func (w *world) killed(a *instance, p *rig.Publisher, rounds int, whileDown func(round int)) {
	w.t.Helper()
	step := p.Total / (rounds + 1)
	open := 0
	for round := range rounds {
		a.Start()
		p.Release((round + 1) * step)
		// Somewhere in what is published now, and an arbitrary moment later.
		some := uint64(1 + w.rand.IntN(step*9/10))
		var at rig.Status
		a.WaitFor(fmt.Sprintf("%d events under way in round %d", some, round), func(s rig.Status) bool {
			at = s
			return s.Delivered >= some
		})
		time.Sleep(time.Duration(w.rand.IntN(60)) * time.Millisecond) // at any moment of an append
		if s, err := a.Status(); err == nil {
			at = s
		}
		a.Kill()
		w.t.Logf("kill %d: %d published, %d delivered in this life, %d of them archived in %d appends", round+1, p.Acked(), at.Delivered, at.Archived, at.Appends)
		if at.Delivered > uint64(at.Archived) {
			open++
		}
		p.Release((round+1)*step + step/2) // publishing goes on meanwhile
		if whileDown != nil {
			whileDown(round)
		}
	}
	a.Start()
	a.WaitFloor(w.published())
	w.t.Logf("%d kills, %d with events in memory; %.0f events came again, %.0f frames adopted",
		rounds, open, w.metric("ossuary_redelivered_events_total"), w.metric("ossuary_adopted_frames_total"))
	if w.metric("ossuary_redelivered_events_total")+w.metric("ossuary_adopted_frames_total") == 0 {
		w.t.Error("no kill hit an archive with something to find again: this proves nothing")
	}
}

// The process is killed again and again: nothing is lost and nothing is twice.
func TestKilled(t *testing.T) {
	t.Parallel()
	n := sized(t, size{12000, 3}, size{60000, 6}, size{200000, 10})
	w := newWorld(t)
	a := w.instance("a", settings{})
	w.killed(a, w.publish(n.events), n.rounds, nil)
	a.Kill() // verify must not need a clean stop
	w.prove()
}

// The process is killed, and the ledger deleted before it comes back: the
// objects hold all that the ledger held.
func TestKilledLedgerDeleted(t *testing.T) {
	t.Parallel()
	n := sized(t, size{12000, 3}, size{60000, 6}, size{200000, 10})
	w := newWorld(t)
	a := w.instance("a", settings{})
	w.killed(a, w.publish(n.events), n.rounds, func(int) { w.deleteLedger() })
	a.Stop()
	w.prove()
}

// The ledger is deleted under a running instance.
func TestLedgerDeletedWhileRunning(t *testing.T) {
	t.Parallel()
	n := sized(t, size{6000, 2}, size{30000, 6}, size{100000, 20})
	w := newWorld(t)
	a := w.instance("a", settings{})
	p := w.publish(n.events)
	a.Start()
	for round := range n.rounds {
		p.Release((round + 1) * n.events / (n.rounds + 1))
		a.WaitFor("events under way", func(s rig.Status) bool { return s.Archived > int64(round*n.events/(n.rounds+1)/2) })
		w.deleteLedger()
		rig.Eventually(t, patience, "the ledger is there again", func() (bool, string) { return w.ledgerFloor() > 0, "" })
	}
	a.WaitFloor(w.published())
	rig.Eventually(t, patience, "the ledger is there again, with the floor", func() (bool, string) {
		s, err := a.Status()
		floor := w.ledgerFloor()
		return err == nil && floor > 0 && floor == s.Floor, fmt.Sprintf("ledger %d, status %+v %v", floor, s, err)
	})
	a.Stop()
	w.prove()
}

func (w *world) deleteLedger() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	if err := w.js.DeleteKeyValue(ctx, rig.LedgerBucket); err != nil {
		w.t.Fatalf("deleting the ledger: %v", err)
	}
}
