package intake

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/control"
	"ossuary/internal/embedded/fakenats"
	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

// Whoever stores a layout and dies before it begins the control log has archived
// nothing, and nobody could ever give that log back.
func TestBeginsBehindAStrangeLayout(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	strange := testLayout()
	strange.MaxEvent++
	if _, err := control.SaveLayout(t.Context(), r.store, "", strange.Canonical(), 0); err != nil {
		t.Fatal(err)
	}
	r.publish(20)
	r.start("first").stopWhenDone()
	if n := r.state().Layout(); n != 2 {
		t.Errorf("layout %d holds, want the second", n)
	}
}

func (p *process) stopWhenDone() {
	p.r.t.Helper()
	p.r.check()
	p.stop()
}

// While one writer waits for the store, others archive on. What it hears of their
// floor is newer than what it knew of the stream, which has not been rewound.
func TestOthersGoOnMeanwhile(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	off := func(o *Options) { o.LeaseOff = true }
	r.publish(10)
	r.start("first", off).stopWhenDone()
	var looks atomic.Int32
	p := r.start("second", off, func(o *Options) {
		o.Store = &meddled{o.Store, nil}
		log, err := control.Open(t.Context(), &meddled{o.Store, func() {
			// Twice on opening, once before the lease is taken, once behind.
			if looks.Add(1) == 4 {
				r.publish(10)
				r.start("other", off).stopWhenDone()
			}
		}}, control.Options{Archive: testArchive, Source: testStream})
		if err != nil {
			t.Fatal(err)
		}
		o.Control = log
	})
	r.wait("the second runs", func() bool { return p.lane.Status().State == Running })
	if looks.Load() < 4 {
		t.Error("nobody went on meanwhile")
	}
	p.stopWhenDone()
	if n := r.state().Stream.Incarnation; n != 0 {
		t.Errorf("incarnation %d of a stream that was never rewound", n)
	}
}

// meddled calls before every look at the control log.
type meddled struct {
	store
	before func()
}

func (m *meddled) Head(ctx context.Context, key string) (object.Info, error) {
	if m.before != nil && strings.Contains(key, "_ossuary/control/") {
		m.before()
	}
	return m.store.Head(ctx, key)
}

// An acknowledgement that is lost tells nobody. Where it keeps new messages from
// coming, or an acknowledged one in its stream, the epoch has to end.
func TestLostAcknowledgements(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		retention jetstream.RetentionPolicy
		full      bool
		left      uint64
	}{
		"a full work queue":            {jetstream.WorkQueuePolicy, true, 4},
		"an idle work queue":           {jetstream.WorkQueuePolicy, false, 1},
		"an idle stream with interest": {jetstream.InterestPolicy, false, 0},
		"a full stream with limits":    {jetstream.LimitsPolicy, true, 41},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var deaf atomic.Bool
			deaf.Store(true)
			srv := fakenats.New(fakenats.Options{Lose: func(_ string, what fakenats.Loss) bool {
				return what == fakenats.LoseAck && deaf.Load()
			}})
			connect := func(name string) *nats.Conn {
				nc, err := nats.Connect("nats://127.0.0.1:4222", nats.SetCustomDialer(srv.Link(name)))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(nc.Close)
				return nc
			}
			r := &rig{t: t, store: objecttest.New(), arch: &fakeArchive{series: map[string][]record{}}, want: map[string][]uint64{}}
			var err error
			if r.js, err = jetstream.New(connect("test")); err != nil {
				t.Fatal(err)
			}
			r.stream(c.retention)
			p := r.startOn(connect("lane"), "first", func(o *Options) {
				if c.full {
					o.MaxAckPending = 10
				}
			})
			r.wait("the lane runs", func() bool { return p.lane.Status().State == Running })
			r.publish(11) // one of them on a subject without a route
			r.check()
			r.wait("all is acknowledged in vain", func() bool { return p.lane.Status().Floor == 11 })
			deaf.Store(false)
			if c.full {
				r.publish(30)
				r.check()
			}
			r.wait("the epoch has ended for it", func() bool { return slices.Contains(p.ended(), "acks_lost") })
			r.wait("what is archived has left the stream", func() bool { return r.info().State.Msgs == c.left })
			p.stop()
		})
	}
}
