package intake

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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
	second := r.start("second", func(o *Options) { o.Layout = layout; o.LeaseTTL = 200 * time.Millisecond })
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
	second := r.start("second", func(o *Options) { o.Layout = layout })
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
