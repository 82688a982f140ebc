package intake

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"

	"ossuary/internal/ledger"
)

func TestContiguity(t *testing.T) {
	meta := func(consumer, stream, delivered uint64) *jetstream.MsgMetadata {
		return &jetstream.MsgMetadata{NumDelivered: delivered, Sequence: jetstream.SequencePair{Consumer: consumer, Stream: stream}}
	}
	for name, c := range map[string]struct {
		deliveries []*jetstream.MsgMetadata
		bad        int // index of the breach, -1 for none
	}{
		"in order, with gaps in the stream":  {[]*jetstream.MsgMetadata{meta(1, 5, 1), meta(2, 6, 1), meta(3, 90, 1)}, -1},
		"does not begin at 1":                {[]*jetstream.MsgMetadata{meta(2, 5, 1)}, 0},
		"a delivery is missing":              {[]*jetstream.MsgMetadata{meta(1, 5, 1), meta(3, 7, 1)}, 1},
		"the same again":                     {[]*jetstream.MsgMetadata{meta(1, 5, 1), meta(1, 5, 1)}, 1},
		"after a reconnect 1 2 3 7":          {[]*jetstream.MsgMetadata{meta(1, 1, 1), meta(2, 2, 1), meta(3, 3, 1), meta(7, 7, 1)}, 3},
		"redelivered under the next number":  {[]*jetstream.MsgMetadata{meta(1, 5, 1), meta(2, 6, 2)}, 1},
		"the consumer was reset":             {[]*jetstream.MsgMetadata{meta(1, 5, 1), meta(2, 6, 1), meta(1, 7, 1)}, 2},
		"stream sequence falls":              {[]*jetstream.MsgMetadata{meta(1, 5, 1), meta(2, 4, 1)}, 1},
		"stream sequence stays":              {[]*jetstream.MsgMetadata{meta(1, 5, 1), meta(2, 5, 1)}, 1},
		"never delivered, says the metadata": {[]*jetstream.MsgMetadata{meta(1, 5, 0)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var o contiguity
			for i, d := range c.deliveries {
				err := o.check(d)
				var b *Breach
				if i == c.bad {
					if !errors.As(err, &b) {
						t.Fatalf("delivery %d: %v, want a breach", i, err)
					}
					return
				}
				if err != nil {
					t.Fatalf("delivery %d: %v", i, err)
				}
			}
			if c.bad >= 0 {
				t.Fatal("no breach")
			}
		})
	}
}

func TestHeaderLeavesThePinOut(t *testing.T) {
	if header(nil) != nil || header(map[string][]string{}) != nil || header(map[string][]string{pinHeader: {"x"}}) != nil {
		t.Error("no headers must be nil")
	}
	h := map[string][]string{pinHeader: {"x"}, "Nats-Msg-Id": {"a1"}}
	if got := header(h); len(got) != 1 || got["Nats-Msg-Id"][0] != "a1" {
		t.Errorf("got %v", got)
	}
	if len(h) != 2 {
		t.Error("the message's own headers were changed")
	}
}

func TestAuditor(t *testing.T) {
	info := func(delivered, pending uint64, acks int) *jetstream.ConsumerInfo {
		return &jetstream.ConsumerInfo{Delivered: jetstream.SequenceInfo{Consumer: delivered}, NumPending: pending, NumAckPending: acks,
			Config: jetstream.ConsumerConfig{MaxAckPending: 10}}
	}
	type look struct {
		seen, owed uint64
		busy       bool
		info       *jetstream.ConsumerInfo
	}
	for name, c := range map[string]struct {
		looks  []look
		reason string // of the last look, "" for none
	}{
		"all is well":                  {[]look{{5, 0, false, info(5, 0, 0)}, {5, 0, false, info(5, 0, 0)}, {5, 0, false, info(5, 0, 0)}, {5, 0, false, info(5, 0, 0)}}, ""},
		"on the way once":              {[]look{{5, 4, false, info(9, 0, 4)}, {5, 4, false, info(9, 0, 4)}, {9, 4, false, info(9, 0, 4)}}, ""},
		"lost":                         {[]look{{5, 0, false, info(5, 0, 0)}, {5, 4, false, info(9, 0, 4)}, {5, 4, false, info(9, 0, 4)}}, "audit"},
		"not lost, the callback works": {[]look{{5, 4, true, info(9, 0, 4)}, {5, 4, true, info(9, 0, 4)}, {5, 4, true, info(9, 0, 4)}}, ""},
		"forgotten by the server":      {[]look{{5, 0, false, info(3, 0, 0)}}, "audit"},
		"stalled":                      {[]look{{0, 0, false, info(0, 3, 0)}, {0, 0, false, info(0, 3, 0)}, {0, 0, false, info(0, 3, 0)}}, "stalled"},
		"full, not stalled":            {[]look{{10, 10, false, info(10, 3, 10)}, {10, 10, false, info(10, 3, 10)}, {10, 10, false, info(10, 3, 10)}, {10, 10, false, info(10, 3, 10)}}, ""},
		"something came in between":    {[]look{{0, 0, false, info(0, 3, 0)}, {0, 0, false, info(0, 3, 0)}, {1, 0, false, info(1, 2, 0)}, {1, 0, false, info(1, 2, 0)}}, ""},
		"acknowledgements lost, full":  {[]look{{10, 4, false, info(10, 3, 10)}, {10, 4, false, info(10, 3, 10)}, {10, 4, false, info(10, 3, 10)}, {10, 4, false, info(10, 3, 10)}}, "acks_lost"},
		"lost, and harmless":           {[]look{{5, 0, false, info(5, 0, 2)}, {5, 0, false, info(5, 0, 2)}, {5, 0, false, info(5, 0, 2)}, {5, 0, false, info(5, 0, 2)}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var a auditor
			for i, l := range c.looks {
				err := a.judge(l.seen, l.owed, l.busy, l.info)
				if i < len(c.looks)-1 || c.reason == "" {
					if err != nil {
						t.Fatalf("look %d: %v", i, err)
					}
					continue
				}
				var end *endError
				if !errors.As(err, &end) || end.reason != c.reason {
					t.Fatalf("look %d: %v, want %s", i, err, c.reason)
				}
			}
		})
	}
}

func TestStepper(t *testing.T) {
	s := &stepper{step: 1000, least: 1000, ahead: 10 * time.Second}
	now := time.Now()
	for i, c := range []struct {
		after time.Duration
		want  uint64
	}{{0, 1000}, {time.Millisecond, 2000}, {time.Second, 4000}, {10 * time.Second, 4000}, {time.Minute, 2000}, {time.Minute, 1000}, {time.Minute, 1000}} {
		now = now.Add(c.after)
		if got := s.next(now); got != c.want {
			t.Fatalf("raise %d: %d, want %d", i, got, c.want)
		}
	}
}

func TestConsumerName(t *testing.T) {
	l := &Lane{opt: Options{Archive: "prod", Source: "ORDERS.eu", Lane: "0", Owner: "host a"}}
	if got := l.consumerName("7"); got != "ossuary-prod-ORDERS_eu-0-7" {
		t.Error(got)
	}
	l.opt.LeaseOff = true
	if got := l.consumerName("7"); got != "ossuary-prod-ORDERS_eu-0-host_a-7" {
		t.Error(got)
	}
}

// Who waits for another request about the lease, which may wait for the server,
// can be called off.
func TestRenewalEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lease{turn: semaphore.NewWeighted(1)}
		if err := l.turn.Acquire(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.write(ctx, func(*ledger.Lane) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("renewing ended by: %v", err)
		}
		if err := l.raiseEpoch(ctx, 2); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("raising the epoch ended by: %v", err)
		}
	})
}
