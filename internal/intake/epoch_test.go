package intake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"ossuary/internal/control"
	"ossuary/internal/embedded/embeddedtest"
	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/router"
)

// On interest retention the server deletes what is acknowledged: nothing is, past
// an event of a held series.
func TestHeldSeriesOnInterest(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.InterestPolicy)
	var held atomic.Bool
	var newest atomic.Pointer[fakeSink]
	held.Store(true)
	p := r.start("first", func(o *Options) {
		newSink := o.NewSink
		o.NewSink = func(so SinkOptions) (Sink, error) {
			s, err := newSink(so)
			newest.Store(s.(*fakeSink))
			return holding{s.(*fakeSink), &held}, err
		}
	})
	r.wait("it runs", func() bool { return p.lane.Status().State == Running })
	r.publish(200)
	r.wait("the other series are archived", func() bool { return r.arch.count() == 160-len(r.want["x/s1"]) })
	audits := p.audits.Load()
	r.wait("acknowledgements had their time", func() bool { return p.audits.Load() >= audits+3 })
	held.Store(false)
	newest.Load().failure <- errors.New("the hold is over")
	r.check()
	p.stop()
}

// late is a sink that does nothing before it is drained.
type late struct {
	*fakeSink
	drained chan struct{}
}

func (s late) Run(ctx context.Context) error {
	select {
	case <-s.drained:
	case <-ctx.Done():
		return nil
	}
	return s.fakeSink.Run(ctx)
}

func (s late) Drain(ctx context.Context) error {
	close(s.drained)
	return s.fakeSink.Drain(ctx)
}

// A clean stop archives what was delivered, and counts it.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first", func(o *Options) {
		newSink := o.NewSink
		o.NewSink = func(so SinkOptions) (Sink, error) {
			s, err := newSink(so)
			return late{s.(*fakeSink), make(chan struct{})}, err
		}
	})
	r.publish(50)
	r.wait("all is handed out", func() bool { return p.handed() == 40 })
	p.stop()
	if n := r.arch.count(); n != 40 {
		t.Errorf("%d events are archived, want 40", n)
	}
	if tally, _ := r.state().Tally(router.FirstLane); tally.Events-tally.Skipped != 40 {
		t.Errorf("tally %+v", tally)
	}
}

// Of two tallies of a lane the one that knows more stays in the control log.
func TestTallyThatIsFurtherStays(t *testing.T) {
	at := func(floor uint64) checkpoint {
		return checkpoint{Floor: floor, Tally: ledger.Tally{From: 1, Floor: floor}}
	}
	l := &Lane{opt: Options{Lane: "0"}, known: true}
	for _, c := range []struct{ have, ours, want uint64 }{{10, 5, 10}, {10, 10, 10}, {10, 20, 20}, {0, 5, 5}} {
		st := control.State{Number: 1}
		if c.have > 0 {
			st = st.WithTally("0", control.Tally{Tally: at(c.have).Tally})
		}
		if got, _ := l.tallied(st, 0, at(c.ours)).Tally("0"); got.Floor != c.want {
			t.Errorf("floor %d in the log, %d here: %d, want %d", c.have, c.ours, got.Floor, c.want)
		}
	}
	if st := l.tallied(control.State{Number: 1}, 1, at(5)); len(st.Tallies) != 0 {
		t.Errorf("a tally of another incarnation was set: %+v", st.Tallies)
	}
}

// The ledger may be of a time before the stream was made anew: its floor would
// have the new stream's events passed over.
func TestFloorOfAnotherIncarnation(t *testing.T) {
	st := control.State{Number: 1, From: 1, Stream: event.StreamID{Incarnation: 1}}
	st = st.WithTally("0", control.Tally{Tally: ledger.Tally{From: 1, Floor: 3}})
	for _, c := range []struct {
		incarnation int
		floor, want uint64
	}{{0, 50, 3}, {2, 50, 3}, {1, 50, 50}, {1, 2, 3}} {
		l := &Lane{opt: Options{Lane: "0"}}
		if got := l.position(st, ledger.Lane{Incarnation: c.incarnation, Floor: c.floor}); got.Floor != c.want {
			t.Errorf("the ledger's floor is %d of incarnation %d: begins at %d, want %d", c.floor, c.incarnation, got.Floor, c.want)
		}
		l.known, l.incarnation, l.point = true, c.incarnation, checkpoint{Floor: c.floor}
		if got := l.position(st, ledger.Lane{}); got.Floor != c.want {
			t.Errorf("the last epoch's floor is %d of incarnation %d: begins at %d, want %d", c.floor, c.incarnation, got.Floor, c.want)
		}
	}
}

// The consumer takes what each layout above the floor gives to the lane.
func TestPlanFilters(t *testing.T) {
	made := func(subject string) *router.Router {
		layout := testLayout()
		layout.Routes = layout.Routes[:1]
		layout.Routes[0].Subjects = []string{subject}
		r, err := router.NewLane(layout, router.FirstLane)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	p := &plan{segments: []segment{{since: 1, layout: 1, router: made("events.a.>")}, {since: 101, layout: 2, router: made("events.b.>")}}}
	for _, c := range []struct {
		floor uint64
		all   bool
		want  []string
	}{
		{0, false, []string{"events.a.>", "events.b.>"}},
		{99, false, []string{"events.a.>", "events.b.>"}},
		{100, false, []string{"events.b.>"}},
		{100, true, []string{"events.a.>", "events.b.>"}},
	} {
		if got := p.filters(c.floor, c.all); !slices.Equal(got, c.want) {
			t.Errorf("floor %d, all: %v: %v, want %v", c.floor, c.all, got, c.want)
		}
	}
}

// A layout that a later version wrote is nothing to go on without.
func TestNewerLayoutEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first")
	r.publish(10)
	r.check()
	p.stop()
	r.store.Replace("_ossuary/layout/1.json", []byte(`{"v":2}`))
	if fatal := r.start("second").fails(); !errors.Is(fatal.Err, router.ErrNewer) {
		t.Errorf("%v", fatal)
	}
}

// Another instance finds out that the stream was rewound, between our look at the
// control log and our line in it. What we know is of the incarnation before.
func TestControlLogMovesOnMeanwhile(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first")
	r.publish(20)
	r.check()
	p.stop()
	id := r.state().Stream
	id.Incarnation++
	layout := testLayout()
	layout.MaxEvent++ // has the layout stored, in between
	second := r.start("second", func(o *Options) {
		o.Layout = layout
		o.Store = afterAppend{o.Store.(*wire), sync.OnceFunc(func() {
			l, err := control.Open(t.Context(), r.store, control.Options{Archive: testArchive, Source: testStream})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := l.Update(t.Context(), func(s control.State) (control.State, error) { return s.NewIncarnation(id, 1, 1) }); err != nil {
				t.Error(err)
			}
		})}
	})
	r.wait("all is read again", func() bool { return r.arch.count() == 2*16 })
	second.stop()
}

// The order is broken, and nothing else tells: the epoch ends before anything that
// came out of order is handed out.
func TestBreachEndsTheEpoch(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first", func(o *Options) { o.AuditEvery = time.Hour })
	r.wait("it runs", func() bool { return p.lane.Status().State == Running })
	release := p.block()
	defer release()
	r.publish(30)
	const sent = 27 // three of them no route takes
	r.wait("all is delivered", func() bool { return delivered(t, r) == sent })
	// Somebody else refuses a message: it comes again behind those after it.
	for c := range mustStream(t, r).ListConsumers(t.Context()).Info() {
		reply := fmt.Sprintf("%s%s.%s.1.9.9.%d.0", ackPrefix, testStream, c.Name, time.Now().UnixNano())
		if err := r.js.Conn().Publish(reply, []byte("-NAK")); err != nil {
			t.Fatal(err)
		}
	}
	r.wait("one is delivered again", func() bool { return delivered(t, r) == sent+1 })
	release()
	r.publish(30)
	r.check()
	if got := p.ended(); len(got) != 1 || got[0] != "breach" {
		t.Errorf("epochs ended by %v", got)
	}
	p.stop()
}

// A connection that was made again ends the epoch, although what comes next has
// the number that is expected. A server that has crashed counts its last deliveries
// again, and those that were lost on the connection may have taken these numbers.
func TestReconnectEndsTheEpoch(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.InterestPolicy)
	proxy := r.proxy()
	nc, err := nats.Connect("nats://"+proxy.l.Addr().String(), nats.MaxReconnects(-1), nats.ReconnectWait(5*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	p := r.startOn(nc, "first", func(o *Options) { o.AuditEvery = time.Hour })
	r.wait("it runs", func() bool { return p.lane.Status().State == Running })
	r.publish(50)
	r.check()
	proxy.cut()
	r.publish(30)
	r.check()
	if got := p.ended(); len(got) != 1 || got[0] != "interrupted" {
		t.Errorf("epochs ended by %v", got)
	}
	p.stop()
}

// stuck is a sink that takes all and archives nothing.
type stuck struct{ *fakeSink }

func (stuck) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (stuck) Drain(context.Context) error   { return errors.New("stuck") }

// A writer that ends, with whatever it could not archive, says how far it has
// handed out: no other layout may begin below.
func TestDoneStatesWhatWasHandedOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first", func(o *Options) {
		o.HorizonMin = 1000 // is not raised meanwhile, which states it too
		newSink := o.NewSink
		o.NewSink = func(so SinkOptions) (Sink, error) {
			s, err := newSink(so)
			return stuck{s.(*fakeSink)}, err
		}
	})
	r.publish(50)
	r.wait("all is handed out", func() bool { return p.handed() == 40 })
	p.stop()
	handed := p.lane.handed.Load()
	if st := r.state(); len(st.Writers) != 0 || st.HighestHorizon() < handed {
		t.Errorf("sequences up to %d were handed out, the control log says %d: %+v", handed, st.HighestHorizon(), st)
	}
}

// Each lane has a consumer of its own, and lets that of another one be.
func TestLanesLeaveEachOtherAlone(t *testing.T) {
	t.Parallel()
	r := newLanedRig(t, jetstream.LimitsPolicy)
	a := r.startLane("a", "0", 2)
	r.wait("it runs", func() bool { return a.lane.Status().State == Running })
	b := r.startLane("b", "1", 2)
	r.wait("both run", func() bool { return b.lane.Status().State == Running })
	r.publishTo(20)
	r.wait("all is archived", func() bool { return r.arch.count() == 20 })
	if n := r.info().State.Consumers; n != 2 {
		t.Errorf("%d consumers, want one each", n)
	}
	b.stop()
	a.stop()
	if got := append(a.ended(), b.ended()...); len(got) != 0 {
		t.Errorf("epochs ended by %v", got)
	}
}

// A stream that was made anew may have grown beyond the floor, and may have no
// message there to compare: its creation time tells.
func TestStreamMadeAnewBeyondTheFloor(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first")
	r.publish(20)
	r.check()
	p.stop()
	floor := r.state().Tallies[router.FirstLane].Floor
	if err := r.js.DeleteStream(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	r.stream(jetstream.LimitsPolicy)
	r.arch.clear()
	clear(r.want)
	r.publish(60)
	if err := mustStream(t, r).DeleteMsg(t.Context(), floor); err != nil {
		t.Fatal(err)
	}
	for name, s := range r.want {
		r.want[name] = slices.DeleteFunc(s, func(seq uint64) bool { return seq == floor })
	}
	p = r.start("second")
	r.check()
	p.stop()
	if st := r.state(); st.Stream.Incarnation != 1 {
		t.Errorf("stream %+v", st.Stream)
	}
}

// An owner that finds another one in its lease has lost it.
func TestLeaseLost(t *testing.T) {
	t.Parallel()
	js := embeddedtest.JetStream(t)
	led, err := ledger.Open(t.Context(), js, ledger.Config{Archive: testArchive, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	made := func(owner string, ttl time.Duration) *lease {
		l := &lease{turn: semaphore.NewWeighted(1), js: js, ledger: led, archive: testArchive, source: testStream, lane: router.FirstLane, owner: owner, ttl: ttl, log: zerolog.Nop(), metrics: &Metrics{}}
		if _, err := l.take(t.Context(), func(string) {}, func() {}); err != nil {
			t.Fatal(err)
		}
		return l
	}
	first := made("first", time.Hour)
	second := made("second", time.Millisecond)
	nothing := func(*ledger.Lane) {}
	if err := first.write(t.Context(), nothing); !errors.Is(err, errLeaseLost) || first.owned() {
		t.Errorf("the first owner writes: %v, and owns it: %v", err, first.owned())
	}
	if err := second.write(t.Context(), nothing); err != nil || !second.owned() {
		t.Errorf("the second owner writes: %v, and owns it: %v", err, second.owned())
	}
}
