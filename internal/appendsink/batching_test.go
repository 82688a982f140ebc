package appendsink

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

func gzipOf(s string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(s))
	_ = z.Close()
	return b.Bytes()
}

// running starts a set in the bubble.
func running(t *testing.T, l *lane) (*Set, context.Context, func() error) {
	set := l.newSet()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- set.Run(ctx) }()
	synctest.Wait()
	return set, ctx, func() error { cancel(); return <-ran }
}

//nolint:revive // a test's t comes first
func add(t *testing.T, l *lane, set *Set, ctx context.Context, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		e, _ := l.w.at(i - 1)
		if err := set.Add(ctx, l.target(&e), &e, e.Sequence); err != nil {
			t.Fatal(err)
		}
	}
}

// One series that the store refuses keeps its events, others go on; when it is
// free again nothing is missing and the order holds.
func TestHeldSeriesHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3000, 2)
		w.budget = NewBudget(64 << 10)
		var refused atomic.Bool
		refused.Store(true)
		w.store.SetFault(func(op, key string, i int) objecttest.Fault {
			if refused.Load() && strings.HasPrefix(key, "p/e/0.") {
				return objecttest.Hold()
			}
			return objecttest.Fault{}
		})
		l := w.lane()
		set, ctx, stop := running(t, l)
		add(t, l, set, ctx, 1, 3000)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(w.archived()["e/1"]); n != 1500 {
			t.Errorf("the other series has %d events, want 1500", n)
		}
		if w.m.Forgotten.Load() == 0 {
			t.Error("nothing was forgotten: the budget is too large for this test")
		}
		if used, _ := w.budget.Used(); used > w.budget.Limit()*11/10 {
			t.Errorf("budget: %d used of %d", used, w.budget.Limit())
		}
		held := set.Held()
		if len(held) != 1 || held[0].Series != "e/0" || !strings.Contains(held[0].Reason, "AccessDenied") {
			t.Errorf("held: %+v", held)
		}
		refused.Store(false)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if err := stop(); !errors.Is(err, ErrReplay) {
			t.Errorf("the epoch ended with %v, want ErrReplay", err)
		}
		l.finish(t.Context())
		w.check()
		if used, held := w.budget.Used(); used != 0 || held != 0 {
			t.Errorf("budget: %d used, %d held after the end", used, held)
		}
	})
}

// A store that takes nothing at all blocks the intake within the budget, rather
// than having events forgotten.
func TestStoreDownBlocks(t *testing.T) {
	for name, fault := range map[string]objecttest.Fault{"down": objecttest.NotApplied(), "refused": objecttest.Hold()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3000, 4)
				w.budget = NewBudget(64 << 10)
				var down atomic.Bool
				down.Store(true)
				w.store.SetFault(func(op, key string, i int) objecttest.Fault {
					if down.Load() {
						return fault
					}
					return objecttest.Fault{}
				})
				l := w.lane()
				set, ctx, stop := running(t, l)
				fed := make(chan struct{})
				go func() { add(t, l, set, ctx, 1, 3000); close(fed) }()
				time.Sleep(time.Hour)
				synctest.Wait()
				select {
				case <-fed:
					t.Error("everything was taken although nothing can be archived")
				default:
				}
				// A buffer's growth is booked, not waited for.
				if used, _ := w.budget.Used(); used > w.budget.Limit()*11/10 || used < w.budget.Limit()/2 {
					t.Errorf("budget: %d used of %d", used, w.budget.Limit())
				}
				if len(set.Held()) == 0 {
					t.Error("nothing is held after an hour")
				}
				down.Store(false)
				<-fed
				if err := set.Drain(ctx); err != nil {
					t.Error(err)
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
				if w.m.Forgotten.Load() != 0 {
					t.Errorf("%d events were forgotten", w.m.Forgotten.Load())
				}
				w.check()
			})
		})
	}
}

func TestLingerAndGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 40, 1)
		spec := w.spec
		w.spec = func(s string) Spec {
			sp := spec(s)
			sp.Flush = Flush{Size: 1 << 20, Events: 1000, Linger: time.Second}
			return sp
		}
		var appendTime atomic.Int64
		w.store.SetFault(func(op, key string, i int) objecttest.Fault {
			time.Sleep(time.Duration(appendTime.Load()))
			return objecttest.Fault{}
		})
		l := w.lane()
		set, ctx, stop := running(t, l)
		add(t, l, set, ctx, 1, 3)
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		if n := w.m.Appends.Load(); n != 0 {
			t.Errorf("%d appends before the linger is over", n)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if n := w.m.Appends.Load(); n != 1 {
			t.Errorf("%d appends after the linger, want 1", n)
		}
		// While one append is in flight the next batch fills.
		appendTime.Store(int64(5 * time.Second))
		add(t, l, set, ctx, 4, 4)
		time.Sleep(1100 * time.Millisecond)
		for i := 5; i <= 40; i++ {
			add(t, l, set, ctx, i, i)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(20 * time.Second)
		if n := w.m.Appends.Load(); n != 3 {
			t.Errorf("%d appends, want 3: the events of the second linger in one", n)
		}
		if err := set.Drain(ctx); err != nil {
			t.Error(err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		w.check()
	})
}

func TestIdleSeriesAreSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 20, 2)
		spec := w.spec
		w.spec = func(s string) Spec {
			sp := spec(s)
			sp.Roll = Roll{Size: 1 << 20, Idle: time.Minute}
			return sp
		}
		l := w.lane()
		set, ctx, stop := running(t, l)
		add(t, l, set, ctx, 1, 10)
		if err := set.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if len(w.ledger.copy()) != 2 {
			t.Fatalf("the ledger has %d tails, want 2", len(w.ledger.copy()))
		}
		// The next epoch finds them in the ledger and ends them, though nothing
		// comes for them.
		_, _, stop = running(t, l)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if n := w.m.Seals.Load(); n != 2 {
			t.Errorf("%d seals, want 2", n)
		}
		if n := len(w.ledger.copy()); n != 0 {
			t.Errorf("the ledger still has %d tails of sealed series", n)
		}
		l.finish(t.Context())
		w.check()
		for _, k := range w.store.Keys() {
			if len(w.store.Bytes(k)) == 0 {
				t.Errorf("%s is empty", k)
			}
		}
	})
}

// A codec is a segment's: the open one is sealed, the next has the new ending,
// and a writer without a ledger goes on behind the highest.
func TestCodecChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t, 8)
		spec := w.spec
		w.spec = func(s string) Spec {
			sp := spec(s)
			sp.Codec = event.Zstd
			return sp
		}
		l := w.lane()
		w.publish(4)
		l.finish(t.Context())
		w.check()
		w.ledger.wipe()
		w.store.Delete(w.key(1))
		w.publish(4)
		floor := l.floor
		l = w.lane()
		l.floor = floor
		l.finish(t.Context())
		if k := w.store.Keys(); len(k) != 1 || k[0] != event.Key("p/", "e/0", 2, "ndjson.zst") {
			t.Errorf("keys: %v", k)
		}
		if got, want := w.sequences(), numbers(9, 16); got != want {
			t.Errorf("the series holds %s, want %s", got, want)
		}
	})
}

func TestOpenSeriesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 500, 50)
		w.open = 5
		l := w.lane()
		set, ctx, stop := running(t, l)
		for i := 1; i <= 500; i++ {
			add(t, l, set, ctx, i, i)
			if n := w.m.OpenSeries.Load(); n > 5 {
				t.Fatalf("%d series open, limit 5", n)
			}
		}
		if err := set.Drain(ctx); err != nil {
			t.Error(err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		w.check()
	})
}

func TestRaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 20, 1)
		w.spec = func(string) Spec {
			return Spec{Route: "r", Layout: 1, Encoder: event.Encoder{Format: event.Raw}, Codec: event.Gzip, Flush: Flush{Size: 100, Events: 3, Linger: time.Millisecond}}
		}
		w.store.SetFault(objecttest.OnNth(5, objecttest.Lost()))
		w.lane().finish(t.Context())
		w.ledger.wipe()
		w.lane().finish(t.Context())
		z, err := gzip.NewReader(bytes.NewReader(w.store.Bytes("p/e/0.000001.log.gz")))
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err := got.ReadFrom(z); err != nil {
			t.Fatal(err)
		}
		var want strings.Builder
		for _, e := range w.events {
			want.WriteString(string(e.Data) + "\n")
		}
		if got.String() != want.String() {
			t.Errorf("archived\n%s\nwant\n%s", got.String(), want.String())
		}
	})
}

func TestPoisonIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, 1)
		l := w.lane()
		set, ctx, stop := running(t, l)
		add(t, l, set, ctx, 1, 1)
		sp := l.spec("x")
		sp.Series, sp.Encoder = "x", event.Encoder{Format: event.Raw}
		bad := event.Event{Sequence: 2, Time: created, Subject: "e.x", Data: []byte("two\nlines")}
		err := set.Add(ctx, &sp, &bad, 2)
		var poison *event.PoisonError
		if !errors.As(err, &poison) {
			t.Fatalf("Add: %v, want a PoisonError", err)
		}
		if err := set.AddDead(ctx, 1, &bad, poison.Reason, "r", 2); err != nil {
			t.Fatal(err)
		}
		add(t, l, set, ctx, 3, 3)
		if err := set.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		w.events = append(w.events[:1], w.events[2])
		if n := w.check(); n != 1 {
			t.Errorf("%d dead letters, want 1", n)
		}
		if used, _ := w.budget.Used(); used != 0 {
			t.Errorf("budget: %d used after the end", used)
		}
	})
}

// slow is a store whose appends take a second.
type slow struct{ *objecttest.Store }

func (s slow) Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error) {
	time.Sleep(time.Second) // simulated
	return s.Store.Append(ctx, key, position, body, c)
}

// A batch is sent with flush.size bytes if the line is free, and grows to four times
// that while it is not, but for what a segment may hold.
func TestBatchesGrowBehindASlowAppend(t *testing.T) {
	for name, tt := range map[string]struct {
		roll  int64
		bytes int // of lines, in a batch that grew
	}{"to four times": {1 << 20, 4000}, "to what a segment holds": {2500, 2500}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 400, 1)
				w.spec = func(string) Spec {
					return Spec{Route: "r", Layout: 1, Codec: event.Zstd, Flush: Flush{Size: 1000, Events: 1000, Linger: time.Hour}, Roll: Roll{Size: tt.roll}}
				}
				l := w.lane()
				set := l.newSet()
				set.opt.Store = slow{w.store}
				var sent []int
				set.m.ObserveAppend = func(_ time.Duration, _, events int) {
					if events > 0 { // else it is a seal
						sent = append(sent, events)
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				ran := make(chan error, 1)
				go func() { ran <- set.Run(ctx) }()
				e, _ := w.at(99)
				line, _ := event.Encoder{}.Append(nil, &e)
				few, many := 1000/len(line)+1, tt.bytes/len(line)+1
				add(t, l, set, ctx, 1, few)
				time.Sleep(time.Second / 2) // the line was free
				add(t, l, set, ctx, few+1, 400)
				if err := set.Drain(ctx); err != nil {
					t.Error(err)
				}
				cancel()
				<-ran
				near := func(n, want int) bool { return n >= want-1 && n <= want+1 }
				if len(sent) < 3 || !near(sent[0], few) || !near(sent[1], many) || !near(sent[2], many) {
					t.Errorf("appends of %v events, want %d in the first and %d in the next ones", sent, few, many)
				}
				if len(w.confirmed) != 400 {
					t.Errorf("%d events are confirmed", len(w.confirmed))
				}
			})
		})
	}
}
