package intake

import (
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/control"
	"ossuary/internal/embedded/fakenats"
	"ossuary/internal/object/objecttest"
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

// The server loses the stream's end while an epoch reads it, and hands the sequences
// out again. The consumer may stay where it was, and pass over them.
func TestRewoundUnderAnEpoch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		audit     time.Duration
		reconcile bool // the server sets the consumer back
		idle      bool // the epoch has been delivered nothing
		later     int  // publish more only when it was noticed that the stream is shorter
	}{
		"noticed while it is shorter":          {audit: 50 * time.Millisecond, later: 40},
		"noticed when it has grown beyond":     {audit: 50 * time.Millisecond},
		"noticed by what comes from before it": {audit: time.Hour, reconcile: true, idle: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := fakenats.New(fakenats.Options{})
			connect := func(who string) *nats.Conn {
				nc, err := nats.Connect("nats://127.0.0.1:4222", nats.SetCustomDialer(srv.Link(who)))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(nc.Close)
				return nc
			}
			js, err := jetstream.New(connect("test"))
			if err != nil {
				t.Fatal(err)
			}
			r := &rig{t: t, js: js, store: objecttest.New(), arch: &fakeArchive{series: map[string][]record{}}, want: map[string][]uint64{}}
			r.stream(jetstream.LimitsPolicy)
			mod := func(o *Options) { o.AuditEvery = c.audit }
			p := r.startOn(connect("first"), "first", mod)
			r.publish(30)
			r.check()
			if c.idle {
				p.stop()
				p = r.startOn(connect("second"), "second", mod)
			}
			r.wait("it runs and has its floor", func() bool {
				s := p.lane.Status()
				return s.State == Running && s.Floor == 29 && (c.audit > time.Minute || p.audits.Load() > 2)
			})
			r.arch.clear()
			for name, s := range r.want {
				r.want[name] = slices.DeleteFunc(s, func(seq uint64) bool { return seq > 20 })
			}
			srv.Rewind(testStream, 20, c.reconcile)
			if c.later > 0 {
				r.wait("the next incarnation", func() bool { return r.state().Stream.Incarnation == 1 })
			}
			r.publish(40)
			r.wait("the next incarnation", func() bool { return r.state().Stream.Incarnation == 1 })
			r.wait("everything is archived", func() bool {
				r.arch.mu.Lock()
				defer r.arch.mu.Unlock()
				for name, want := range r.want {
					var got []uint64
					for _, x := range r.arch.series[name] {
						if x.incarnation == 1 {
							got = append(got, x.sequence)
						}
					}
					if !slices.Equal(got, want) {
						return false
					}
				}
				return true
			})
			p.stop()
		})
	}
}

// A control log that was restored from an old backup has forgotten what it granted
// since: other layouts might come to hold for what is archived already.
func TestControlLogOfAnOlderTime(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*rig){
		"horizons": func(r *rig) { r.publish(500) },
		"incarnations": func(r *rig) {
			if err := r.js.DeleteStream(t.Context(), testStream); err != nil {
				t.Fatal(err)
			}
			r.stream(jetstream.LimitsPolicy)
			r.arch.clear()
			clear(r.want)
			r.publish(10)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, jetstream.LimitsPolicy)
			p := r.start("first")
			r.publish(20)
			r.check()
			p.stop()
			key := p.log.Key()
			info, err := r.store.Head(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			body, err := r.store.Read(t.Context(), key, 0, info.Length)
			if err != nil {
				t.Fatal(err)
			}
			old, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			change(r)
			p = r.start("second")
			r.check()
			p.stop()
			r.store.Delete(key)
			r.store.AppendRaw(key, old)
			r.start("third").fails()
		})
	}
}

// An older owner was paused while it made its consumer, and has lost the lease since. On
// interest retention every message would wait for that consumer.
func TestConsumerOfAnOlderOwner(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.InterestPolicy)
	start := func() *process {
		p := r.start("first")
		r.wait("it runs", func() bool { return p.lane.Status().State == Running })
		return p
	}
	start().stop()
	p := start()
	left := func(epoch string, owner string) string {
		name := "left-by-" + owner
		if _, err := mustStream(t, r).CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckAllPolicy,
			Metadata: map[string]string{metaArchive: testArchive, metaSource: testStream, metaLane: router.FirstLane, metaEpoch: epoch}}); err != nil {
			t.Fatal(err)
		}
		return name
	}
	newer := left("9", "newer")
	older := left("1", "older")
	r.wait("the older one is deleted", func() bool {
		_, err := mustStream(t, r).Consumer(t.Context(), older)
		return errors.Is(err, jetstream.ErrConsumerNotFound)
	})
	if _, err := mustStream(t, r).Consumer(t.Context(), newer); err != nil {
		t.Errorf("the newer one: %v", err)
	}
	r.publish(20)
	r.check()
	if n := len(p.ended()); n != 0 {
		t.Errorf("%d epochs ended", n)
	}
	p.stop()
}

// Where the stream comes to delete what is acknowledged, an epoch that acknowledges
// past waiting events must not go on.
func TestRetentionChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first")
	r.publish(20)
	r.check()
	cfg := r.info().Config
	cfg.Retention = jetstream.InterestPolicy
	if _, err := r.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	r.wait("the epoch ends", func() bool { return slices.Equal(p.ended(), []string{"stream"}) })
	r.publish(20)
	r.check()
	p.stop()
}
