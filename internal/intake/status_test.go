package intake

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

// A lane that cannot go on for want of the control log says so, and when it is
// over, says that.
func TestSaysThatTheHorizonStands(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	p := r.start("first")
	r.publish(20)
	r.check()
	r.store.SetFault(func(op, key string, _ int) objecttest.Fault {
		if op == "append" && strings.Contains(key, "/control/") {
			return objecttest.Fault{Before: &object.Error{Kind: object.Refused, Message: "not today", Err: errors.New("not today")}}
		}
		return objecttest.Fault{}
	})
	r.publish(100)
	r.wait("it says that it waits", func() bool {
		s := p.lane.Status()
		return s.State == Running && strings.Contains(s.Reason, "not today")
	})
	r.store.SetFault(nil)
	r.check()
	r.wait("it says that it goes on", func() bool { return p.lane.Status().Reason == "" })
	p.stop()
}

// So does one whose server is connected and has no JetStream at the moment.
func TestSaysThatJetStreamIsAway(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), 0)
	r := rigOn(t, s)
	p := r.startOn(connect(t, s), "first")
	r.publish(20)
	r.check()
	if err := s.DisableJetStream(); err != nil {
		t.Fatal(err)
	}
	r.wait("it says so", func() bool { return p.lane.Status().State == Backoff || p.lane.Status().Reason != "" })
}
