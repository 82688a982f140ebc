package intake

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// loading looks, in Load, whether messages are asked for already.
type loading struct {
	*fakeSink
	r      *rig
	loads  *atomic.Int32
	pulled *atomic.Bool
}

func (s loading) Load(ctx context.Context) error {
	s.loads.Add(1)
	// Long enough for a pull that was begun before to reach the server.
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
		for c := range mustStream(s.r.t, s.r).ListConsumers(ctx).Info() {
			if c.Delivered.Consumer > 0 || c.NumWaiting > 0 {
				s.pulled.Store(true)
			}
		}
	}
	return nil
}

// A sink takes the ledger at its word, so it has to have read it before any
// message is on its way: one that has vanished since may have been passed by
// others, who then write into the ledger how far they are.
func TestLedgerIsReadBeforeThePulls(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	r.publish(20)
	var loads atomic.Int32
	var pulled atomic.Bool
	p := r.start("first", func(o *Options) {
		newSink := o.NewSink
		o.NewSink = func(so SinkOptions) (Sink, error) {
			s, err := newSink(so)
			return loading{s.(*fakeSink), r, &loads, &pulled}, err
		}
	})
	r.check()
	p.stop()
	if loads.Load() == 0 || pulled.Load() {
		t.Errorf("%d loads; messages were asked for before one was done: %v", loads.Load(), pulled.Load())
	}
}
