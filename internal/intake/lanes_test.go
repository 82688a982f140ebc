package intake

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/control"
	"ossuary/internal/object"
	"ossuary/internal/router"
)

// laned is a layout of n lanes.
func laned(n int) router.Layout {
	l := testLayout()
	l.Lanes = n
	l.Routes = []router.Route{l.Routes[0]}
	l.Routes[0].Series = "x/{{lane}}"
	if n == 1 {
		l.Routes[0].Series = "x/all"
		l.Routes[0].Subjects = []string{"*.events.>"}
	}
	return l
}

func newLanedRig(t *testing.T, retention jetstream.RetentionPolicy) *rig {
	t.Helper()
	r := newRig(t, retention)
	cfg := r.info().Config
	cfg.Subjects = []string{"0.>", "1.>"}
	if _, err := r.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return r
}

// publishTo publishes n messages to the partitions in turns.
func (r *rig) publishTo(n int) (seqs []uint64) {
	r.t.Helper()
	for i := range n {
		subject := fmt.Sprintf("%d.events.x", i%2)
		ack, err := r.js.Publish(r.ctx(), subject, []byte(subject))
		if err != nil {
			r.t.Fatal(err)
		}
		seqs = append(seqs, ack.Sequence)
	}
	return seqs
}

func (r *rig) startLane(owner, lane string, lanes int, mods ...func(*Options)) *process {
	return r.start(owner, append([]func(*Options){func(o *Options) { o.Layout, o.Lane = laned(lanes), lane }}, mods...)...)
}

// What an older layout gave to a lane is archived by that lane only, so that no
// lane may go.
func TestFewerLanes(t *testing.T) {
	t.Parallel()
	r := newLanedRig(t, jetstream.LimitsPolicy)
	a, b := r.startLane("a", "0", 2), r.startLane("b", "1", 2)
	r.wait("both run", func() bool { return a.lane.Status().State == Running && b.lane.Status().State == Running })
	r.publishTo(20)
	r.wait("all is archived", func() bool { return r.arch.count() == 20 })
	b.kill()
	r.publishTo(20) // half of these are b's
	r.wait("its own are archived", func() bool { return r.arch.count() == 30 })
	a.stop()
	if fatal := r.startLane("c", "0", 1).fails(); !strings.Contains(fatal.Mend, "lanes to 2") {
		t.Error(fatal)
	}
	b = r.startLane("d", "1", 2)
	r.wait("all is archived", func() bool { return r.arch.count() == 40 })
	b.stop()
}

func TestMoreLanes(t *testing.T) {
	t.Parallel()
	for name, retention := range map[string]jetstream.RetentionPolicy{
		"limits": jetstream.LimitsPolicy, "interest": jetstream.InterestPolicy, "workqueue": jetstream.WorkQueuePolicy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newLanedRig(t, retention)
			p := r.startLane("a", "0", 1)
			r.wait("it runs", func() bool { return p.lane.Status().State == Running })
			r.publishTo(20)
			r.wait("all is archived", func() bool { return r.arch.count() == 20 })
			p.stop()
			r.publishTo(20)
			if retention != jetstream.LimitsPolicy {
				if fatal := r.startLane("b", "0", 2).fails(); !strings.Contains(fatal.Mend, "lanes to 1") {
					t.Error(fatal)
				}
				p = r.startLane("c", "0", 1)
				r.wait("all is archived", func() bool { return r.arch.count() == 40 })
				return
			}
			p = r.startLane("b", "0", 2)
			r.wait("it runs", func() bool { return p.lane.Status().State == Running })
			r.publishTo(20)
			r.startLane("c", "1", 2)
			r.publishTo(20)
			r.wait("all is archived", func() bool { return r.arch.count() == 80 })
			got := map[uint64]int{}
			for _, s := range r.arch.series {
				for _, x := range s {
					got[x.sequence]++
				}
			}
			if len(got) != 80 {
				t.Errorf("%d events are archived, want 80", len(got))
			}
		})
	}
}

// A lane is new while the old layout's writer gives its horizon back, so that the
// new layout begins lower than it seemed to.
func TestNewLaneBeginsWithItsLayout(t *testing.T) {
	t.Parallel()
	r := newLanedRig(t, jetstream.LimitsPolicy)
	a := r.startLane("a", "0", 1)
	r.publishTo(20)
	r.wait("all is archived", func() bool { return r.arch.count() == 20 })
	a.kill() // its horizon stays
	if h := r.state().HighestHorizon(); h < 25 {
		t.Fatalf("the horizon is %d", h)
	}
	r.startLane("b", "1", 2, func(o *Options) {
		o.Store = afterAppend{o.Store.(*wire), sync.OnceFunc(func() {
			l, err := control.Open(t.Context(), r.store, control.Options{Archive: testArchive, Source: testStream})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := l.Update(t.Context(), func(s control.State) (control.State, error) { return s.Done(a.lane.writer, 0, 20), nil }); err != nil {
				t.Error(err)
			}
		})}
	})
	r.wait("it switches", func() bool { return r.state().Layout() == 2 })
	if st := r.state(); st.Layouts[1].Since != 21 {
		t.Fatalf("layouts %+v", st.Layouts)
	}
	r.publishTo(20)
	r.wait("its half is archived", func() bool { return r.arch.count() == 30 })
}

// afterAppend calls then after an append to the store.
type afterAppend struct {
	*wire
	then func()
}

func (s afterAppend) Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error) {
	done, err := s.wire.Append(ctx, key, position, body, c)
	s.then()
	return done, err
}
