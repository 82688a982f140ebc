package intake

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/ledger"
	"ossuary/internal/object/objecttest"
	"ossuary/internal/router"
)

// Restarts of all kinds, on every kind of retention: every event once, in order.
func TestRestarts(t *testing.T) {
	for name, retention := range map[string]jetstream.RetentionPolicy{
		"limits": jetstream.LimitsPolicy, "interest": jetstream.InterestPolicy, "workqueue": jetstream.WorkQueuePolicy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, retention)
			p := r.start("first")
			r.wait("it runs", func() bool { return p.lane.Status().State == Running })
			for i := range 6 {
				before := r.arch.count()
				r.publish(150)
				r.wait("some of it is archived", func() bool { return r.arch.count() > before })
				if i%2 == 0 {
					p.kill()
				} else {
					p.stop()
				}
				r.publish(20)
				p = r.start(fmt.Sprint("next-", i))
			}
			r.publish(50)
			r.check()
			// What a stream keeps its messages for must outlive the server.
			for c := range mustStream(t, r).ListConsumers(t.Context()).Info() {
				if got := c.Config.MemoryStorage; got != (retention == jetstream.LimitsPolicy) {
					t.Errorf("consumer %s is kept in memory: %v", c.Name, got)
				}
			}
			p.stop()

			st := r.state()
			tally, _ := st.Tally(router.FirstLane)
			if len(st.Writers) > 3 { // the killed ones
				t.Errorf("writers that are done are listed: %+v", st.Writers)
			}
			archived := uint64(r.arch.count())
			if got := tally.Events - tally.Skipped; got > archived || retention == jetstream.LimitsPolicy && got != archived {
				t.Errorf("tally %+v, archived %d", tally, archived)
			}
			info := r.info()
			if retention != jetstream.LimitsPolicy {
				// What no route takes is never delivered: a work queue keeps it, interest does not.
				r.wait("everything is acknowledged", func() bool {
					n := r.info().State.Msgs
					return n == 0 || retention == jetstream.WorkQueuePolicy && n == left(t, r)
				})
			}
			if info.State.Consumers != 1 {
				t.Errorf("%d consumers are left, want 1", info.State.Consumers)
			}
		})
	}
}

// left counts the messages without a route.
func left(t *testing.T, r *rig) uint64 {
	t.Helper()
	s, err := r.js.Stream(t.Context(), testStream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context(), jetstream.WithSubjectFilter("other.>"))
	if err != nil {
		t.Fatal(err)
	}
	var n uint64
	for _, m := range info.State.Subjects {
		n += m
	}
	return n
}

// The wire is cut while deliveries are on it. What comes after them first must
// not get through.
func TestConnectionLoss(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	proxy := r.proxy()
	nc, err := nats.Connect("nats://"+proxy.l.Addr().String(), nats.MaxReconnects(-1), nats.ReconnectWait(5*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	p := r.startOn(nc, "first")
	r.wait("it runs", func() bool { return p.lane.Status().State == Running })
	for round := range 4 {
		r.publish(50)
		r.check()
		ended := len(p.ended())
		proxy.swallow.Store(true)
		sent := delivered(t, r)
		r.publish(30)
		r.wait("the server has sent some", func() bool { return delivered(t, r) >= sent+20 })
		proxy.cut()
		proxy.swallow.Store(false)
		if round%2 == 0 {
			r.publish(30) // shows the breach; else only the audit can
		}
		r.check()
		r.wait("the epoch has ended", func() bool { return len(p.ended()) > ended })
	}
	// The breach, the audit and the look at the connection race; any may see it first.
	for _, reason := range p.ended() {
		if reason != "breach" && reason != "audit" && reason != "interrupted" {
			t.Errorf("an epoch ended by %s", reason)
		}
	}
	p.stop()
}

// delivered is what the server says it has delivered on the stream's consumers.
func delivered(t *testing.T, r *rig) uint64 {
	t.Helper()
	var n uint64
	for c := range mustStream(t, r).ListConsumers(t.Context()).Info() {
		n += c.Delivered.Consumer
	}
	return n
}

func mustStream(t *testing.T, r *rig) jetstream.Stream {
	t.Helper()
	s, err := r.js.Stream(t.Context(), testStream)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Deliveries vanish without any traffic after: only the audit can tell.
func TestAuditFindsLostDeliveries(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first")
	r.publish(20)
	r.check()
	// Somebody pulls from our consumer.
	names, _, err := p.lane.consumers(t.Context(), mustStream(t, r), math.MaxUint64)
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	c, err := mustStream(t, r).Consumer(t.Context(), names[0])
	if err != nil {
		t.Fatal(err)
	}
	batch, err := c.Fetch(1, jetstream.FetchMaxWait(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	// The pulls are served in turns. Behind what theirs gets nothing comes any more, so
	// that no hole shows.
	for taken := false; !taken; {
		r.publish(1)
		stored := r.info().State.LastSeq
		r.wait("it is delivered", func() bool {
			select {
			case m, ok := <-batch.Messages():
				taken = ok && m != nil
			default:
			}
			info, err := c.Info(t.Context())
			return taken || err == nil && info.Delivered.Stream >= stored && p.lane.handed.Load() >= stored
		})
	}
	r.check()
	if got := p.ended(); !slices.Contains(got, "audit") {
		t.Errorf("epochs ended by %v, not by the audit", got)
	}
}

func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	first := r.start("first")
	r.publish(50)
	r.check()
	second := r.start("second")
	r.wait("the second stands by", func() bool { return second.lane.Status().State == Standby })
	r.publish(50)
	r.check()
	if n := second.handed(); n != 0 {
		t.Fatalf("the standby has handed out %d events", n)
	}
	first.kill()
	r.publish(50)
	r.check()
	// A clean stop lets the next one in at once, far before the TTL.
	third := r.start("third", func(o *Options) { o.LeaseTTL = time.Hour })
	r.wait("the third stands by", func() bool { return third.lane.Status().State == Standby })
	second.stop()
	r.publish(10)
	r.check()
	third.stop()
}

// A zombie wakes up after its lease was taken: its next write of the lease fails,
// it ends its epoch, and nothing is lost or doubled.
func TestZombie(t *testing.T) {
	t.Parallel()
	for name, retention := range map[string]jetstream.RetentionPolicy{"limits": jetstream.LimitsPolicy, "workqueue": jetstream.WorkQueuePolicy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, retention)
			// It renews so rarely that it seems to be gone while it is blocked.
			first := r.start("first", func(o *Options) { o.LeaseTTL = time.Hour; o.AuditEvery = time.Hour })
			r.publish(30)
			r.check()
			release := first.block()
			r.publish(100)
			r.wait("the first is blocked", func() bool { return first.lane.Status().State == Running && first.handed() >= 24 })
			second := r.start("second", func(o *Options) { o.LeaseTTL = 200 * time.Millisecond })
			r.wait("the second runs", func() bool { return second.lane.Status().State == Running })
			r.publish(100)
			release()
			r.check()
			r.wait("the first ends its epoch", func() bool { return len(first.ended()) > 0 })
			r.wait("the first stands by", func() bool { return first.lane.Status().State == Standby })
			r.publish(20)
			r.check()
			second.stop()
			first.stop()
		})
	}
}

func TestStreamMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first")
	r.publish(80)
	r.check()
	if err := r.js.DeleteStream(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	r.wait("it notices", func() bool { return len(p.ended()) > 0 })
	r.stream(jetstream.LimitsPolicy)
	r.arch.clear()
	clear(r.want)
	r.publish(60)
	r.check()
	p.stop()
	if st := r.state(); st.Stream.Incarnation != 1 || !st.Stream.Created.Equal(r.info().Created) {
		t.Errorf("stream %+v", st.Stream)
	}
	for _, s := range r.arch.series {
		for _, x := range s {
			if x.incarnation != 1 {
				t.Fatalf("%+v", x)
			}
		}
	}
}

// A sink finds other events at the sequences that it knows.
func TestSequencesUsedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	var sinks []*fakeSink
	p := r.start("first", func(o *Options) {
		newSink := o.NewSink
		o.NewSink = func(so SinkOptions) (Sink, error) {
			s, err := newSink(so)
			sinks = append(sinks, s.(*fakeSink))
			return s, err
		}
	})
	r.publish(40)
	r.check()
	sinks[0].failure <- usedAgain{}
	r.wait("the next incarnation", func() bool { return p.lane.Status().Incarnation == 1 })
	r.wait("all again", func() bool { return r.arch.count() == 2*40*8/10 })
	p.stop()
	if st := r.state(); st.Stream.Incarnation != 1 {
		t.Errorf("stream %+v", st.Stream)
	}
}

type usedAgain struct{}

func (usedAgain) Error() string      { return "sequence used again" }
func (usedAgain) StreamReused() bool { return true }

func TestLedgerDeleted(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first")
	r.publish(60)
	r.check()
	epoch := p.lane.Status().Epoch
	p.stop()
	if err := r.js.DeleteKeyValue(t.Context(), ledger.BucketPrefix+testArchive); err != nil {
		t.Fatal(err)
	}
	p = r.start("second") // goes on from the control log's floor
	r.publish(60)
	r.check()
	if n := p.lane.Status().Epoch; n <= epoch {
		t.Errorf("epoch %d behind epoch %d, of which a consumer is left", n, epoch)
	}
	if n := p.handed(); n != 48 {
		t.Errorf("handed out %d events, want the 48 new ones", n)
	}
	// And while it runs.
	if err := r.js.DeleteKeyValue(t.Context(), ledger.BucketPrefix+testArchive); err != nil {
		t.Fatal(err)
	}
	r.publish(30)
	r.check()
	r.wait("the ledger is there again", func() bool {
		l, err := ledger.Open(t.Context(), r.js, ledger.Config{Archive: testArchive})
		if err != nil {
			return false
		}
		e, _, err := l.Lane(t.Context(), testStream, router.FirstLane)
		return err == nil && e.Floor >= 145
	})
	if got := p.ended(); len(got) != 0 {
		t.Errorf("epochs ended by %v", got)
	}
	p.stop()
}

func TestControlLogMissing(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first")
	r.publish(20)
	r.check()
	key := p.log.Key()
	p.stop()
	r.store.Delete(key)
	r.start("second").fails()
	if err := r.js.DeleteKeyValue(t.Context(), ledger.BucketPrefix+testArchive); err != nil {
		t.Fatal(err)
	}
	layout := testLayout()
	layout.MaxEvent++
	r.store.AppendRaw("x/s0.000001.ndjson.gz", []byte("a segment"))
	r.start("third", func(o *Options) { o.Layout = layout }).fails() // a layout of this source is stored
}

// With the ledger lost, and its consumer deleted, epochs are counted from 1 again.
// Whoever still believes in an older epoch of that number must not find a consumer
// of its name: it would take deliveries for its own that another one is to archive,
// and where the counts fit, move its floor over them.
func TestConsumerNamesNeverComeAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	names := map[string]bool{}
	for _, owner := range []string{"first", "second"} {
		p := r.start(owner)
		r.publish(20)
		r.check()
		s, err := r.js.Stream(t.Context(), testStream)
		if err != nil {
			t.Fatal(err)
		}
		list := s.ConsumerNames(t.Context())
		for name := range list.Name() {
			if names[name] {
				t.Errorf("consumer %s was there before", name)
			}
			names[name] = true
			if err := s.DeleteConsumer(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		if err := list.Err(); err != nil {
			t.Fatal(err)
		}
		p.kill()
		if err := r.js.DeleteKeyValue(t.Context(), ledger.BucketPrefix+testArchive); err != nil {
			t.Fatal(err)
		}
	}
	if len(names) < 2 {
		t.Errorf("consumers: %v", names)
	}
}

// A log that another instance has begun since we looked is no log that is missing,
// nor is one that cannot be read at once.
func TestControlLogBegunMeanwhile(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]bool{"read at once": false, "refused at first": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			controlLogBegunMeanwhile(t, refuse)
		})
	}
}

func controlLogBegunMeanwhile(t *testing.T, refuse bool) {
	t.Helper()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first")
	r.publish(20)
	r.check()
	key := p.log.Key()
	p.stop()
	line := r.store.Bytes(key)
	r.store.Delete(key)
	if err := r.js.DeleteKeyValue(t.Context(), ledger.BucketPrefix+testArchive); err != nil {
		t.Fatal(err)
	}
	var begun, refused atomic.Bool
	r.store.SetFault(func(op, what string, _ int) objecttest.Fault {
		switch {
		case op == "list" && strings.HasPrefix(what, "_ossuary/layout/") && begun.CompareAndSwap(false, true):
			r.store.AppendRaw(key, line)
		case refuse && op == "read" && what == key && begun.Load() && refused.CompareAndSwap(false, true):
			return objecttest.Hold()
		}
		return objecttest.Fault{}
	})
	layout := testLayout()
	layout.MaxEvent++
	r.store.AppendRaw("x/s0.000001.ndjson.gz", []byte("a segment"))
	// It ends all the same, for the other has the archive now; the reason is true.
	if err := r.start("second", func(o *Options) { o.Layout = layout }).fails(); !strings.Contains(err.What, "another instance switched") {
		t.Errorf("ended by: %v", err)
	}
	if !begun.Load() || refused.Load() != refuse {
		t.Errorf("the log was begun: %v, and refused: %v", begun.Load(), refused.Load())
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.WorkQueuePolicy)
	t.Run("server too old", func(t *testing.T) {
		r.start("a", func(o *Options) { o.serverVersion = "2.9.25" }).fails()
	})
	t.Run("no stream", func(t *testing.T) {
		r.start("b", func(o *Options) { o.Source = "NOPE" }).fails()
	})
	t.Run("start on a work queue", func(t *testing.T) {
		r.start("c", func(o *Options) { o.Start = Start{New: true} }).fails()
	})
	t.Run("two readers of a work queue", func(t *testing.T) {
		r.start("d", func(o *Options) { o.LeaseOff = true }).fails()
	})
	t.Run("foreign consumer of a work queue", func(t *testing.T) {
		_, err := mustStream(t, r).CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "theirs", FilterSubject: "events.s1.>", AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			t.Fatal(err)
		}
		if fatal := r.start("e").fails(); !strings.Contains(fatal.What, "theirs") {
			t.Error(fatal)
		}
	})
}

func TestStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	r.publish(40)
	m, err := mustStream(t, r).GetMsg(t.Context(), 25)
	if err != nil {
		t.Fatal(err)
	}
	if err := mustStream(t, r).DeleteMsg(t.Context(), 24); err != nil { // the search meets a hole
		t.Fatal(err)
	}
	if err := mustStream(t, r).Purge(t.Context(), jetstream.WithPurgeSequence(6)); err != nil { // begins at 6
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		start Start
		want  uint64
	}{
		"all":      {Start{}, 6},
		"new":      {Start{New: true}, 41},
		"sequence": {Start{Sequence: 17}, 17},
		"future":   {Start{Sequence: 1000}, 1000},
		"time":     {Start{Time: m.Time}, 24}, // where the hole is: 25 comes next
		"long ago": {Start{Time: time.Unix(1, 0)}, 6},
		"not yet":  {Start{Time: time.Now().Add(time.Hour)}, 41},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := r.js.Stream(t.Context(), testStream)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.start.resolve(t.Context(), r.js, s); err != nil || got != c.want {
				t.Errorf("begins at %d, %v; want %d", got, err, c.want)
			}
		})
	}
	// It is remembered: a second start does not choose again.
	p := r.start("first", func(o *Options) { o.Start = Start{New: true} })
	r.wait("it runs", func() bool { return p.lane.Status().State == Running })
	p.stop()
	clear(r.want)
	r.publish(20)
	p = r.start("second", func(o *Options) { o.Start = Start{New: true} })
	r.check()
	p.stop()
	if tally, _ := r.state().Tally(router.FirstLane); tally.From != 41 || tally.Floor < 58 {
		t.Errorf("tally %+v", tally)
	}
}

func TestExpiredBeforeArchived(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first")
	r.publish(20)
	r.check()
	p.stop()
	floor := r.state().Tallies[router.FirstLane].Floor
	r.publish(20)
	for name, s := range r.want {
		r.want[name] = slices.DeleteFunc(s, func(seq uint64) bool { return seq > floor && seq < 30 })
	}
	if err := mustStream(t, r).Purge(t.Context(), jetstream.WithPurgeSequence(30)); err != nil {
		t.Fatal(err)
	}
	p = r.start("second")
	r.check()
	p.stop()
	if want := 30 - floor - 1; p.expired != want {
		t.Errorf("%d messages are said to be gone, want %d", p.expired, want)
	}
}

// Several instances without a lease: work is done twice, and nothing else.
func TestLeaseOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	off := func(o *Options) { o.LeaseOff = true }
	a, b := r.start("a", off), r.start("b", off)
	r.wait("both run", func() bool { return a.lane.Status().State == Running && b.lane.Status().State == Running })
	began := len(b.ended()) // both write the control log at first, and one may have been later
	r.publish(200)
	r.check()
	r.wait("both have handed out all of it", func() bool { return a.handed() == b.handed() && a.handed() == 160 })
	if n := r.info().State.Consumers; n != 2 {
		t.Errorf("%d consumers, want one each", n)
	}
	a.kill()
	a = r.start("a", off)
	r.publish(50)
	r.check()
	r.wait("a has only its own new consumer", func() bool { return r.info().State.Consumers == 2 })
	a.stop()
	b.stop()
	if got := b.ended()[began:]; len(got) != 0 {
		t.Errorf("b's epochs ended by %v", got)
	}
}
