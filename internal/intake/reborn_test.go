package intake

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/control"
	"ossuary/internal/router"
)

// meanwhile has do called once the epoch has written its line to the control log:
// behind its look at the stream, before it makes its consumer.
func meanwhile(do func()) func(*Options) {
	return func(o *Options) { o.Store.(*wire).after = sync.OnceFunc(do) }
}

// The stream is made anew between the look at it and the consumer, which is made
// by the stream's name: it would begin behind the old one's floor, and what the new
// one has before would be archived by nobody.
func TestStreamMadeAnewBeforeItsConsumer(t *testing.T) {
	t.Parallel()
	for name, retention := range map[string]jetstream.RetentionPolicy{
		"limits": jetstream.LimitsPolicy, "workqueue": jetstream.WorkQueuePolicy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, retention)
			p := r.start("first")
			r.publish(20)
			r.check()
			p.stop()
			p = r.start("second", meanwhile(func() {
				if err := r.js.DeleteStream(t.Context(), testStream); err != nil {
					t.Error(err)
				}
				r.stream(retention)
				r.arch.clear()
				clear(r.want)
				r.publish(60)
			}))
			r.wait("the next incarnation", func() bool { return r.state().Stream.Incarnation == 1 })
			r.check()
			p.stop()
			for _, s := range r.arch.series {
				for _, x := range s {
					if x.incarnation != 1 {
						t.Fatalf("an event of the new stream was archived as one of the old: %+v", x)
					}
				}
			}
		})
	}
}

// The stream was set back and has grown beyond the floor again, and the message at
// the floor is gone: the one before it is younger than the floor's was.
func TestRewoundWithoutTheMessageAtTheFloor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		older       time.Duration
		incarnation int
		count       int
	}{
		"rewound":     {time.Hour, 1, 24 + 23},
		"not rewound": {0, 0, 24 + 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, jetstream.LimitsPolicy)
			p := r.start("first")
			r.publish(30)
			r.check()
			p.stop()
			if err := r.js.DeleteKeyValue(t.Context(), "OSSUARY_"+testArchive); err != nil {
				t.Fatal(err)
			}
			l, err := control.Open(t.Context(), r.store, control.Options{Archive: testArchive, Source: testStream})
			if err != nil {
				t.Fatal(err)
			}
			st, err := l.Update(t.Context(), func(s control.State) (control.State, error) {
				y, _ := s.Tally(router.FirstLane)
				y.FloorTime = y.FloorTime.Add(-c.older)
				return s.WithTally(router.FirstLane, y), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := mustStream(t, r).DeleteMsg(t.Context(), st.Tallies[router.FirstLane].Floor); err != nil {
				t.Fatal(err)
			}
			p = r.start("second")
			r.wait("it runs", func() bool { return p.lane.Status().State == Running })
			if c.incarnation == 0 {
				r.publish(10)
			}
			r.wait("all is archived", func() bool { return r.arch.count() >= c.count })
			p.stop()
			if n := r.state().Stream.Incarnation; n != c.incarnation {
				t.Errorf("incarnation %d, want %d", n, c.incarnation)
			}
			if n := r.arch.count(); n != c.count {
				t.Errorf("%d events, want %d", n, c.count)
			}
		})
	}
}
