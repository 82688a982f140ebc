//go:build unix

package e2e

import (
	"fmt"
	"testing"
	"time"

	"ossuary/e2e/rig"
	"ossuary/internal/ossemu"
)

// Two instances archive the same stream at once, without a lease: each is refused
// where the other was quicker, and adopts what it wrote.
func TestTwoInstancesWithoutLease(t *testing.T) {
	t.Parallel()
	n := sized(t, size{10000, 1}, size{60000, 4}, size{200000, 10})
	w := newWorld(t)
	a := w.instance("a", settings{leaseDisabled: true})
	b := w.instance("b", settings{leaseDisabled: true})
	p := w.publish(n.events)
	a.Start()
	b.Start()
	step := n.events / (n.rounds + 1)
	for round := range n.rounds {
		p.Release((round + 1) * step)
		// Neither may fall behind so far that it only finds what is there.
		for _, i := range []*instance{a, b} {
			i.WaitFor("events under way", func(s rig.Status) bool { return s.Delivered >= uint64(step/4) })
		}
		victim := []*instance{a, b}[w.rand.IntN(2)]
		victim.Kill()
		p.Release((round+1)*step + step/2)
		victim.Start()
	}
	last := w.published()
	a.WaitFloor(last)
	b.WaitFloor(last)
	for _, i := range []*instance{a, b} {
		archived := i.Metric("ossuary_events_archived_total")
		t.Logf("%s: %.0f events in its own appends, %.0f appends refused, %.0f frames adopted with %.0f waiting events, %.0f found archived before sending",
			i.Name, archived, i.Metric("ossuary_append_refusals_total"), i.Metric("ossuary_adopted_frames_total"),
			i.Metric("ossuary_adopted_events_total"), i.Metric("ossuary_redelivered_events_total"))
		if refused := i.Metric("ossuary_append_refusals_total"); archived == 0 && refused == 0 {
			t.Errorf("%s neither appended nor was refused: it did not take part", i.Name)
		}
	}
	if w.metric("ossuary_adopted_frames_total") == 0 || w.metric("ossuary_append_refusals_total") == 0 {
		t.Error("no frame was adopted: the two have not met")
	}
	a.Stop()
	b.Stop()
	w.prove()
}

// An instance is paused with appends in flight until another has taken over, and
// goes on afterwards believing that nothing happened.
func TestPausedAndOvertaken(t *testing.T) {
	t.Parallel()
	n := sized(t, size{10000, 2}, size{60000, 6}, size{200000, 20})
	w := newWorld(t)
	one := w.instance("a", settings{})
	other := w.instance("b", settings{})
	p := w.publish(n.events)
	one.Start()
	one.WaitFor("runs", func(s rig.Status) bool { return s.State == "running" })
	other.Start()
	other.WaitFor("stands by", func(s rig.Status) bool { return s.State == "standby" })
	step := n.events / (n.rounds + 1)
	// Appends take a while, so that the pause finds some in flight.
	w.store.Fault(ossemu.Rule{Op: "append", Action: "delay", Delay: ossemu.Duration(20 * time.Millisecond), Probability: 0.5})
	var before uint64
	for round := range n.rounds {
		// On a slow machine the lease may change hands by itself.
		rig.Eventually(t, patience, "one runs and the other stands by", func() (bool, string) {
			s, err := one.Status()
			o, oerr := other.Status()
			if s.State == "standby" && o.State == "running" {
				one, other, s, o = other, one, o, s
			}
			before = s.Delivered
			return err == nil && oerr == nil && s.State == "running" && o.State == "standby", fmt.Sprintf("%+v, %+v", s, o)
		})
		p.Release((round + 1) * step)
		some := before + uint64(1+w.rand.IntN(step/4))
		one.WaitFor("events under way", func(s rig.Status) bool { return s.Delivered >= some && s.Delivered > uint64(s.Archived) })
		held, err := one.Status()
		if err != nil {
			t.Fatal(err)
		}
		epoch := held.Epoch
		one.Pause()
		p.Release((round+1)*step + step/2)
		s, err := other.Status()
		if err != nil {
			t.Fatal(err)
		}
		before = s.Delivered
		other.WaitFor("takes over and archives", func(s rig.Status) bool {
			return s.State == "running" && s.Delivered > before+uint64(step/4)
		})
		one.Resume()
		one.WaitFor("notices", func(s rig.Status) bool { return s.State != "running" || s.Epoch > epoch })
		one, other = other, one
	}
	last := w.published()
	rig.Eventually(t, patience, "all is archived", func() (bool, string) {
		s, err := one.Status()
		o, oerr := other.Status()
		return err == nil && oerr == nil && max(s.Floor, o.Floor) >= last, fmt.Sprintf("%d: %+v, %+v", last, s, o)
	})
	t.Logf("%d pauses: %.0f appends refused, %.0f in doubt, %.0f frames adopted with %.0f waiting events", n.rounds,
		w.metric("ossuary_append_refusals_total"), w.metric("ossuary_append_doubts_total"),
		w.metric("ossuary_adopted_frames_total"), w.metric("ossuary_adopted_events_total"))
	one.Stop()
	other.Stop()
	w.prove()
}
