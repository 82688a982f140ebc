package intake

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/control"
	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/router"
)

// holding is a sink in which one series is held: its events are forgotten.
type holding struct {
	*fakeSink
	held *atomic.Bool
}

func (h holding) Put(ctx context.Context, layout int, t router.Target, e *event.Event, slot uint64) error {
	if h.held.Load() && t.Series == "x/s1" {
		h.o.Forget(slot)
		return nil
	}
	return h.fakeSink.Put(ctx, layout, t, e, slot)
}

// A held series holds up no other, also not through MaxAckPending, and its
// events come again when the hold ends.
func TestHeldSeries(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	var held atomic.Bool
	var newest atomic.Pointer[fakeSink]
	held.Store(true)
	p := r.start("first", func(o *Options) {
		o.MaxAckPending = 50
		newSink := o.NewSink
		o.NewSink = func(so SinkOptions) (Sink, error) {
			s, err := newSink(so)
			newest.Store(s.(*fakeSink))
			return holding{s.(*fakeSink), &held}, err
		}
	})
	r.publish(400)
	others := 320 - len(r.want["x/s1"])
	r.wait("the other series are archived", func() bool { return r.arch.count() == others })
	first := r.want["x/s1"][0]
	r.wait("the floor is known", func() bool { return p.lane.Status().Floor > 0 || first == 1 })
	if floor := p.lane.Status().Floor; floor >= first {
		t.Errorf("the floor %d passed the held event %d", floor, first)
	}
	held.Store(false)
	newest.Load().failure <- errors.New("the hold is over")
	r.check()
	// All is archived already; the floor follows as the events come again.
	last := uint64(0)
	for _, sequences := range r.want {
		last = max(last, sequences[len(sequences)-1])
	}
	r.wait("the floor has caught up", func() bool { return p.lane.Status().Floor >= last })
	p.stop()
	if tally, _ := r.state().Tally(router.FirstLane); tally.Events-tally.Skipped != 320 {
		t.Errorf("tally %+v", tally)
	}
}

// One event is stuck in its sink: on Limits the others go on past MaxAckPending.
func TestRunsAheadOfAStuckEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first", func(o *Options) {
		o.MaxAckPending = 50
		newSink := o.NewSink
		o.NewSink = func(so SinkOptions) (Sink, error) {
			confirm := so.Confirm
			so.Confirm = func(slots []uint64) {
				if i := bytes.IndexByte(lows(slots), 1); i >= 0 { // slot 1 is never confirmed
					slots = append(slots[:i:i], slots[i+1:]...)
				}
				confirm(slots)
			}
			return newSink(so)
		}
		o.DrainTimeout = 200 * time.Millisecond
	})
	r.publish(200)
	r.check()
	if floor := p.lane.Status().Floor; floor != 0 {
		t.Errorf("floor %d", floor)
	}
}

// A stuck event does not stop the others when the window is full either. Once it
// is free the floor catches up.
func TestGoesOnBehindAStuckEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	var stuck atomic.Bool
	var free atomic.Pointer[func()]
	stuck.Store(true)
	p := r.start("first", func(o *Options) {
		o.MaxAckPending, o.window = 50, 100
		newSink := o.NewSink
		o.NewSink = func(so SinkOptions) (Sink, error) {
			confirm := so.Confirm
			release := func() { confirm([]uint64{1}) }
			free.Store(&release)
			so.Confirm = func(slots []uint64) {
				if i := bytes.IndexByte(lows(slots), 1); i >= 0 && stuck.Load() {
					slots = append(slots[:i:i], slots[i+1:]...)
				}
				confirm(slots)
			}
			return newSink(so)
		}
	})
	r.publish(500)
	r.check()
	if floor := p.lane.Status().Floor; floor != 0 {
		t.Errorf("floor %d", floor)
	}
	stuck.Store(false)
	(*free.Load())()
	r.wait("the floor catches up", func() bool { return p.lane.Status().Floor >= 497 })
	r.check()
	p.stop()
	if tally, _ := r.state().Tally(router.FirstLane); tally.Events-tally.Skipped != 400 {
		t.Errorf("tally %+v", tally)
	}
}

// lows marks the slots that fit a byte.
func lows(slots []uint64) []byte {
	b := make([]byte, len(slots))
	for i, s := range slots {
		b[i] = byte(min(s, 255))
	}
	return b
}

// The stream was set back and its sequences are used again, under the same
// creation time: what is remembered of the floor tells.
func TestRewound(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*control.Tally){
		"the stream ends before the floor": func(y *control.Tally) { y.Floor, y.FloorTime = 5000, time.Time{} },
		"another message at the floor":     func(y *control.Tally) { y.FloorTime = y.FloorTime.Add(time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, jetstream.LimitsPolicy)
			p := r.start("first")
			r.publish(30)
			r.check()
			p.stop()
			if err := r.js.DeleteKeyValue(t.Context(), ledger.BucketPrefix+testArchive); err != nil {
				t.Fatal(err)
			}
			l, err := control.Open(t.Context(), r.store, control.Options{Archive: testArchive, Source: testStream})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.Update(t.Context(), func(s control.State) (control.State, error) {
				y, _ := s.Tally(router.FirstLane)
				change(&y)
				return s.WithTally(router.FirstLane, y), nil
			}); err != nil {
				t.Fatal(err)
			}
			p = r.start("second")
			r.wait("the next incarnation", func() bool { return r.arch.count() == 48 })
			p.stop()
			if st := r.state(); st.Stream.Incarnation != 1 {
				t.Errorf("stream %+v", st.Stream)
			}
		})
	}
}

// Large messages wait in the client while the callback blocks; none is dropped.
func TestLargeMessagesBehindABlockedSink(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first", func(o *Options) {
		newSink := o.NewSink
		o.NewSink = func(so SinkOptions) (Sink, error) {
			s, err := newSink(so)
			return trimming{s.(*fakeSink)}, err
		}
	})
	r.wait("it runs", func() bool { return p.lane.Status().State == Running })
	release := p.block()
	body := append([]byte("events.s0.x"), bytes.Repeat([]byte("."), 900<<10)...)
	for range 100 { // more than the 64 MiB that a subscription holds
		ack, err := r.js.Publish(t.Context(), "events.s0.x", body)
		if err != nil {
			t.Fatal(err)
		}
		r.want["x/s0"] = append(r.want["x/s0"], ack.Sequence)
	}
	r.wait("deliveries wait", func() bool { return delivered(t, r) >= 8 })
	release()
	r.check()
	p.stop()
	if got := p.ended(); len(got) != 0 {
		t.Errorf("epochs ended by %v", got)
	}
}

type trimming struct{ *fakeSink }

func (s trimming) Put(ctx context.Context, layout int, t router.Target, e *event.Event, slot uint64) error {
	e.Data = e.Data[:min(len(e.Data), len(e.Subject))]
	return s.fakeSink.Put(ctx, layout, t, e, slot)
}

func TestFindings(t *testing.T) {
	base := func() *jetstream.StreamInfo {
		return &jetstream.StreamInfo{Config: jetstream.StreamConfig{Name: "S", Replicas: 3}}
	}
	for name, c := range map[string]struct {
		change func(*jetstream.StreamInfo, *CheckOptions)
		refuse bool
		want   string // in the finding; "" for none
	}{
		"fine":   {func(*jetstream.StreamInfo, *CheckOptions) {}, false, ""},
		"memory": {func(i *jetstream.StreamInfo, _ *CheckOptions) { i.Config.Storage = jetstream.MemoryStorage }, false, "memory"},
		"one replica": {func(i *jetstream.StreamInfo, _ *CheckOptions) {
			i.Config.Replicas = 1
			i.Cluster = &jetstream.ClusterInfo{Name: "c"}
		}, false, "one replica"},
		"one server":    {func(i *jetstream.StreamInfo, _ *CheckOptions) { i.Config.Replicas = 1 }, false, ""},
		"short max_age": {func(i *jetstream.StreamInfo, _ *CheckOptions) { i.Config.MaxAge = time.Hour }, false, "keeps messages for 1h"},
		"ttls":          {func(i *jetstream.StreamInfo, _ *CheckOptions) { i.Config.AllowMsgTTL = true }, false, "TTL"},
		"per subject":   {func(i *jetstream.StreamInfo, _ *CheckOptions) { i.Config.MaxMsgsPerSubject = 1 }, false, "per subject"},
		"discard old":   {func(i *jetstream.StreamInfo, _ *CheckOptions) { i.Config.MaxMsgs = 10 }, false, "discards its oldest"},
		"queue, old": {func(i *jetstream.StreamInfo, _ *CheckOptions) {
			i.Config.MaxMsgs, i.Config.Retention = 10, jetstream.WorkQueuePolicy
		}, false, "archived or not"},
		"discard new": {func(i *jetstream.StreamInfo, _ *CheckOptions) {
			i.Config.MaxMsgs, i.Config.Discard = 10, jetstream.DiscardNew
		}, false, "frees no room"},
		"ack pending": {func(i *jetstream.StreamInfo, o *CheckOptions) {
			i.Config.ConsumerLimits.MaxAckPending = 10
			o.MaxAckPending = 5000
		}, true, "unacknowledged"},
		"low ack pending": {func(_ *jetstream.StreamInfo, o *CheckOptions) { o.MaxAckPending = 10 }, false, "at most that many"},
		"queue, start": {func(i *jetstream.StreamInfo, o *CheckOptions) {
			i.Config.Retention = jetstream.WorkQueuePolicy
			o.Start.New = true
		}, true, "first message"},
		"max consumers": {func(i *jetstream.StreamInfo, _ *CheckOptions) { i.Config.MaxConsumers, i.State.Consumers = 1, 1 }, false, "all of the 1"},
	} {
		t.Run(name, func(t *testing.T) {
			info, o := base(), CheckOptions{Source: "S", Lane: "0"}
			c.change(info, &o)
			got := checkStream(info, o)
			if c.want == "" {
				if len(got) != 0 {
					t.Errorf("found %v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Refuse != c.refuse || !strings.Contains(got[0].What, c.want) || got[0].Mend == "" {
				t.Errorf("found %v, want %q", got, c.want)
			}
		})
	}
	for v, ok := range map[string]bool{"2.9.25": false, "2.10.0": true, "2.15.2": true, "3.0.0": true, "1.4.1": false, "2.10.0-RC.1": true, "": true} {
		major, minor, parsed := parseVersion(v)
		if got := !parsed || major > minMajor || major == minMajor && minor >= minMinor; got != ok {
			t.Errorf("server %q: %v", v, got)
		}
	}
}
