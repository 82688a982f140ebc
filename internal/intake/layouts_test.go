package intake

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/router"
)

// Everything below a switch goes by the old layout, everything above by the new,
// also what the old instance had not come to.
func TestLayoutSwitch(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first")
	r.publish(100)
	r.check()
	p.kill() // its horizon stays
	r.publish(600)
	layout := testLayout()
	layout.Routes[0].Series = "y/{{token(2)}}"
	next := r.start("second", func(o *Options) { o.Layout = layout })
	r.wait("it runs", func() bool { return next.lane.Status().State == Running })
	st := r.state()
	if len(st.Layouts) != 2 || st.Layouts[1].Since <= 100 || st.Layouts[1].Since > 650 {
		t.Fatalf("layouts %+v", st.Layouts)
	}
	want := map[string][]uint64{}
	for name, s := range r.want {
		for _, seq := range s {
			if as := name; seq < st.Layouts[1].Since {
				want[as] = append(want[as], seq)
			} else {
				want["y"+as[1:]] = append(want["y"+as[1:]], seq)
			}
		}
	}
	r.want = want
	r.check()
	next.stop()

	// Whoever starts later has the say: the first configuration again is a new layout.
	p = r.start("third")
	r.wait("it switches", func() bool { return r.state().Layout() == 3 })
	p.stop()
	if st := r.state(); len(st.Layouts) != 3 || st.Layouts[2].Since != next.lane.handed.Load()+1 {
		t.Errorf("layouts %+v, handed out up to %d", st.Layouts, next.lane.handed.Load())
	}
}

// While an instance is at work, one with other routes is refused, and changes
// nothing; one that is meant to take its place says for whom it waits, and does so.
func TestOtherRoutes(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	first := r.start("first")
	r.publish(10)
	r.check()
	layout := testLayout()
	layout.Routes[0].Series = "y/{{token(2)}}"
	other := func(o *Options) { o.Layout = layout }
	fatal := r.start("second", other).fails()
	if !errors.Is(fatal, ErrOtherRoutes) || !strings.HasPrefix(fatal.What, "first/") || !strings.Contains(fatal.What, "layout 1") || !strings.Contains(fatal.Mend, "lease.replace") {
		t.Errorf("%v", fatal)
	}
	same := r.start("same") // stands by, as ever
	third := r.start("third", other, func(o *Options) { o.Replace = true })
	r.wait("both stand by", func() bool {
		s := third.lane.Status()
		return same.lane.Status().State == Standby && s.State == Standby && strings.Contains(s.Reason, "layout 1")
	})
	if s := first.lane.Status().State; s != Running || r.state().Layout() != 1 {
		t.Errorf("the first is %s under layout %d", s, r.state().Layout())
	}
	same.stop()
	first.stop()
	r.wait("it takes the place", func() bool { return third.lane.Status().State == Running })
	if n := r.state().Layout(); n != 2 {
		t.Errorf("layout %d holds", n)
	}
	// And so the first one is refused now, as long as that is at work.
	if fatal := r.start("first again").fails(); !errors.Is(fatal, ErrOtherRoutes) {
		t.Errorf("%v", fatal)
	}
}

// A tail of a newer version is not guessed at: nothing is archived beside it.
func TestNewerTailEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	newer := fmt.Errorf("reading the tails: %w", ledger.ErrNewer)
	p := r.start("first", func(o *Options) {
		o.NewSink = func(SinkOptions) (Sink, error) { return refusingSink{newer}, nil }
	})
	if fatal := p.fails(); !errors.Is(fatal, ledger.ErrNewer) || !strings.Contains(fatal.What, "newer version") {
		t.Errorf("%v", fatal)
	}
}

// refusingSink cannot load what the ledger has.
type refusingSink struct{ err error }

func (s refusingSink) Load(context.Context) error { return s.err }
func (refusingSink) Put(context.Context, int, router.Target, *event.Event, uint64) error {
	return errors.New("nothing may be put")
}
func (refusingSink) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (refusingSink) Drain(context.Context) error   { return nil }

// A running instance whose layout was replaced gives up rather than fight.
func TestLayoutReplacedUnderneath(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	first := r.start("first", func(o *Options) { o.LeaseTTL = time.Hour; o.AuditEvery = time.Hour })
	r.publish(10)
	r.check()
	standby := r.start("standby", func(o *Options) { o.LeaseTTL = time.Hour })
	r.wait("it stands by", func() bool { return standby.lane.Status().State == Standby })
	layout := testLayout()
	layout.Routes[0].Series = "y/{{token(2)}}"
	second := r.start("second", func(o *Options) { o.Layout, o.Replace = layout, true; o.LeaseTTL = 200 * time.Millisecond })
	r.wait("it runs", func() bool { return second.lane.Status().State == Running })
	second.stop() // the lease is free: the old ones may come back, and find the newer layout
	if fatal := standby.fails(); fatal.Err == nil {
		t.Errorf("%v", fatal)
	}
	r.publish(200) // beyond the first one's horizon
	first.fails()
}

// An instance that lost its lease to a newer configuration, as while it was
// paused, does not stand by for it: it could never go on.
func TestLayoutReplacedBeforeStandingBy(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	proxy := r.proxy()
	nc, err := nats.Connect(proxy.l.Addr().String(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	first := r.startOn(nc, "first", func(o *Options) { o.AuditEvery = time.Hour })
	r.publish(10)
	r.check()
	proxy.swallow.Store(true) // it cannot renew its lease
	layout := testLayout()
	layout.Routes[0].Series = "y/{{token(2)}}"
	second := r.start("second", func(o *Options) { o.Layout, o.Replace = layout, true })
	r.wait("it runs", func() bool { return second.lane.Status().State == Running })
	proxy.swallow.Store(false)
	proxy.cut()
	if fatal := first.fails(); !strings.Contains(fatal.What, "switched this archive to layout 2") {
		t.Errorf("%v", fatal)
	}
	if s := second.lane.Status().State; s != Running {
		t.Errorf("the newer instance is %s", s)
	}
}
