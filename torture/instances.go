//go:build unix

package main

import (
	"context"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"
)

const (
	// The means of the waiting times between two of a kind. A new owner needs the
	// lease's time to take over, so much faster would leave nobody any work.
	betweenKills   = 1800 * time.Millisecond
	betweenZombies = 1500 * time.Millisecond

	// How long a paused instance waits for another to take over. An election in the
	// cluster may come between.
	takeover = 8 * leaseTTL

	// How often counters are looked at: what is counted between a look and a kill
	// is not known.
	betweenLooks = 200 * time.Millisecond
)

// killInstances kills -9 and starts again.
func (w *world) killInstances(ctx context.Context, r *rand.Rand) {
	for sleep(ctx, exponential(r, betweenKills)) {
		down := upTo(r, 100*time.Millisecond)
		if r.IntN(3) == 0 {
			down = upTo(r, 2*leaseTTL)
		}
		s := w.free(r)
		if s == nil {
			continue // paused, or coming up
		}
		func() {
			defer s.busy.Unlock()
			s.Look()
			// In the middle of a clean stop, which may come to its end first.
			asked := r.IntN(5) == 0 && syscall.Kill(s.PID(), syscall.SIGTERM) == nil
			switch {
			case asked && w.stopped(ctx, s, upTo(r, 300*time.Millisecond)):
				w.tally.add("stopped by SIGTERM/instance", 1)
			case w.killed(s):
			case asked && w.stopped(ctx, s, 0):
				w.tally.add("stopped by SIGTERM/instance", 1)
			default:
				return // ended by itself: revive says why, and starts it
			}
			sleep(ctx, down)
			s.Process.Start()
		}()
	}
}

// stopped waits for the end of an instance that was asked to stop, and says
// whether it came in time. Such an end must be clean.
func (w *world) stopped(ctx context.Context, s *slot, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); s.Alive(); {
		if time.Now().After(deadline) || !sleep(ctx, 5*time.Millisecond) {
			return false
		}
	}
	s.Settle()
	// Before it runs it has nothing to stop: it is interrupted, or ended by the
	// signal itself if it does not listen yet, or refused by a server.
	if opened, _ := lastLife(s); opened && s.ExitCode() != 0 {
		w.noteExit(s) // it may have ended just before it was asked
	}
	return true
}

// free is an instance that runs and that nobody else does anything to, nil if
// there is none. It is held then.
func (w *world) free(r *rand.Rand) *slot {
	for _, i := range r.Perm(len(w.slots)) {
		if s := w.slots[i]; s != w.spared.Load() && s.busy.TryLock() {
			if s.Alive() {
				return s
			}
			s.busy.Unlock()
		}
	}
	return nil
}

// killed kills an instance and says whether it was that what ended it. If not, it
// was quicker.
func (w *world) killed(s *slot) bool {
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil || s.Wait(20*time.Second) != -1 {
		return false
	}
	s.Settle()
	w.tally.add(killsOfInstances, 1)
	w.Logf("killed %s", s.Name)
	return true
}

// revive starts instances again that have ended by themselves, as an init system
// does: one that finds no server when it starts ends, and so does one with an
// older configuration.
func (w *world) revive(ctx context.Context, r *rand.Rand) {
	for sleep(ctx, 100*time.Millisecond) {
		for _, s := range w.slots {
			if s.Alive() || !s.busy.TryLock() {
				continue
			}
			func() {
				defer s.busy.Unlock()
				if !s.Alive() {
					w.noteExit(s)
					sleep(ctx, upTo(r, 200*time.Millisecond))
					s.Process.Start()
				}
			}()
		}
	}
}

// noteExit counts an end that nobody has asked for. An instance that finds no
// server when it starts, or a newer layout than its own, says so and ends. Any
// other end is a fault.
func (w *world) noteExit(s *slot) {
	s.Settle()
	opened, lines := lastLife(s)
	why := lines[len(lines)-1]
	w.Logf("%s ended by itself: %s: %s", s.Name, s.Ended(), why)
	kind := ""
	switch {
	case !strings.HasPrefix(why, "consumer: ") || s.ExitCode() != 2:
	case strings.Contains(why, "another instance switched this archive"):
		kind = "an older configuration than the archive's"
	case opened:
	case strings.HasPrefix(why, "consumer: oss."):
		kind = "no answer from the store at its start"
	default:
		kind = "no answer from NATS at its start"
	}
	if kind == "" {
		kind = "for no good reason"
		w.Errorf("%s ended by itself, and should not: %s\n%s", s.Name, s.Ended(), strings.Join(lines[max(0, len(lines)-5):], "\n"))
	}
	w.tally.add("ended by itself/"+kind, 1)
}

// lastLife says whether the last life of an instance got so far that it had
// opened the archive, and what it has printed.
func lastLife(s *slot) (opened bool, lines []string) {
	life := s.LifeText()
	return strings.Contains(life, `"archive opened"`), strings.Split(strings.TrimSpace(life), "\n")
}

// makeZombies pauses the instance that works until another one does its work,
// and wakes it up with all that it had in its hands.
func (w *world) makeZombies(ctx context.Context, r *rand.Rand) {
	if len(w.slots) < 2 {
		return
	}
	for sleep(ctx, exponential(r, betweenZombies)) {
		victim := w.working(r)
		if victim == nil {
			continue
		}
		func() {
			defer victim.busy.Unlock()
			w.makeZombie(ctx, r, victim)
		}()
	}
}

func (w *world) makeZombie(ctx context.Context, r *rand.Rand, victim *slot) {
	// With events in its hands, if that is soon.
	for range 20 {
		st, err := victim.Status()
		if err != nil || st.State != "running" {
			return
		}
		if st.Open > 0 && uint64(st.Open) > st.Delivered/1000 {
			break
		}
		if !sleep(ctx, 5*time.Millisecond) {
			return
		}
	}
	victim.Look()
	refused := victim.Noted("ossuary_append_refusals_total")
	if !victim.Alive() {
		return
	}
	before := map[*slot]int64{}
	for _, s := range w.slots {
		if s != victim {
			if st, err := s.Status(); err == nil {
				before[s] = st.Archived
			}
		}
	}
	// Somebody has to be left to take over.
	for _, i := range r.Perm(len(w.slots)) {
		if s := w.slots[i]; s != victim && s.Alive() {
			w.spared.Store(s)
			defer w.spared.Store(nil)
			break
		}
	}
	if syscall.Kill(victim.PID(), syscall.SIGSTOP) != nil {
		return
	}
	began := time.Now()
	overtaken := w.overtaken(ctx, victim, before)
	if overtaken {
		sleep(ctx, leaseTTL-time.Since(began)) // also where no lease is needed for it
		sleep(ctx, upTo(r, leaseTTL/2))
	}
	victim.Resume()
	w.Logf("%s was paused for %s; another took over: %t", victim.Name, time.Since(began).Round(time.Millisecond), overtaken)
	if !overtaken {
		if ctx.Err() != nil {
			return // there was no time for it
		}
		w.tally.add("pause/instance, nobody took over", 1)
		return
	}
	w.tally.add(zombies, 1)
	// Time for what it was about to do, before it may be killed.
	if sleep(ctx, upTo(r, 800*time.Millisecond)) && victim.Alive() {
		victim.Look()
		if victim.Noted("ossuary_append_refusals_total") > refused {
			w.tally.add("pause/of these, refused by the store when it woke up", 1)
		}
	}
}

// overtaken waits until another instance archives what the paused one does not.
func (w *world) overtaken(ctx context.Context, victim *slot, before map[*slot]int64) bool {
	for limit := time.Now().Add(takeover); time.Now().Before(limit) && sleep(ctx, 20*time.Millisecond); {
		for _, s := range w.slots {
			if s == victim {
				continue
			}
			st, err := s.Status()
			if err != nil {
				continue
			}
			// An instance that was started meanwhile counts anew.
			if was := before[s]; st.Archived < was {
				before[s] = 0
			} else if st.State == "running" && st.Archived > was {
				return true
			}
		}
	}
	return false
}

// working is an instance that archives, nil if none does. It is held then.
func (w *world) working(r *rand.Rand) *slot {
	for _, i := range r.Perm(len(w.slots)) {
		s := w.slots[i]
		if !s.busy.TryLock() {
			continue
		}
		st, err := s.Status()
		if err == nil && st.State == "running" {
			return s
		}
		s.busy.Unlock()
	}
	return nil
}

// watch looks at the counters of all instances.
func (w *world) watch(ctx context.Context, _ *rand.Rand) {
	for sleep(ctx, betweenLooks) {
		for _, s := range w.slots {
			// Not one that is paused: it does not answer.
			if s.Alive() && s.busy.TryLock() {
				s.busy.Unlock()
				s.Look()
			}
		}
	}
}
