package appendsink

import (
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/object/objecttest"
)

// A series tells how far it is, how fast, and what keeps it from going on; those in
// trouble come first.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 400, 2)
		var refused atomic.Bool
		w.store.SetFault(func(op, key string, _ int) objecttest.Fault {
			if refused.Load() && strings.HasPrefix(key, "p/e/1.") {
				return objecttest.Hold()
			}
			return objecttest.Fault{}
		})
		l := w.lane()
		set, ctx, stop := running(t, l)
		for i := 1; i <= 300; i += 2 { // one event a second for each series
			add(t, l, set, ctx, i, i+1)
			time.Sleep(time.Second)
		}
		all, open := set.Progress(10)
		if len(all) != 2 || open != 2 {
			t.Fatalf("%d of %d series", len(all), open)
		}
		for _, p := range all {
			tail := w.ledger.copy()[p.Series]
			if p.Position == 0 || p.Position != tail.Position || p.Last != tail.Last || p.Key != tail.Key || p.Held != "" || p.LastErr != "" || p.Waiting != 0 {
				t.Errorf("%+v, the ledger has %+v", p, tail)
			}
			if math.Abs(p.Rate-1) > 0.1 {
				t.Errorf("%s: %.2f events a second, want about 1", p.Series, p.Rate)
			}
		}
		refused.Store(true)
		add(t, l, set, ctx, 301, 302)
		time.Sleep(5 * time.Minute)
		all, _ = set.Progress(1)
		if p := all[0]; len(all) != 1 || p.Series != "e/1" || !strings.Contains(p.Held, "AccessDenied") || !strings.Contains(p.LastErr, "AccessDenied") ||
			p.Waiting == 0 || p.Rate > 0.01 || time.Since(p.ErrTime) > 2*time.Minute {
			t.Errorf("%+v", p)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}
