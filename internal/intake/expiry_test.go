package intake

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Messages may expire while an epoch runs and cannot deliver, as during an outage
// of the store. It is told as at its start.
func TestExpiredDuringAnEpoch(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first", func(o *Options) { o.MaxAckPending = 20 })
	r.publish(20)
	r.check()
	release := p.block()
	r.publish(100)
	r.wait("deliveries wait", func() bool { return delivered(t, r) >= 26 && p.lane.Status().Pending > 0 })
	time.Sleep(20 * time.Millisecond) // the last ones are on their way
	seen := uint64(0)
	for c := range mustStream(t, r).ListConsumers(t.Context()).Info() {
		seen = c.Delivered.Stream
	}
	for name, s := range r.want {
		r.want[name] = slices.DeleteFunc(s, func(seq uint64) bool { return seq > seen && seq < 80 })
	}
	if err := mustStream(t, r).Purge(t.Context(), jetstream.WithPurgeSequence(80)); err != nil {
		t.Fatal(err)
	}
	r.wait("it is told", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.expired == 80-seen-1
	})
	release()
	r.check()
	r.publish(20)
	r.check()
	p.stop()
	if got := p.ended(); len(got) != 0 {
		t.Errorf("epochs ended by %v", got)
	}
	if p.expired != 80-seen-1 {
		t.Errorf("%d messages are said to be gone, want %d", p.expired, 80-seen-1)
	}
}

// What was never the lane's, or was delivered, does not count.
func TestNotExpired(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first")
	r.publish(20)
	r.check()
	for range 50 {
		if _, err := r.js.Publish(t.Context(), "other.x", nil); err != nil {
			t.Fatal(err)
		}
	}
	r.wait("an audit saw these", func() bool { return p.audits.Load() > 2 })
	if err := mustStream(t, r).Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.publish(20)
	r.check()
	p.stop()
	if p.expired != 0 {
		t.Errorf("%d messages are said to be gone", p.expired)
	}
}
