package appendsink

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

// Bytes in an object that has a segment's name, but no frame, say nothing of where
// the series is, though the number be the highest.
func TestSegmentOfJunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t, 4)
		w.store.AppendRaw(w.key(7), []byte("junk"))
		w.ledger.wipe()
		w.publish(4)
		finishes(t, w.lane())
		if got, want := w.sequences(), numbers(1, 8); got != want {
			t.Errorf("the series holds %s, want %s", got, want)
		}
	})
}

// What the ledger says of a first segment without a frame is not believed: the
// series may have begun under another codec, where nothing would refuse us.
func TestLedgerKnowsEmptySegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t, 4)
		e := w.ledger.copy()["e/0"]
		e.Tail = ledger.Tail{Version: e.Version, Key: event.Key("p/", "e/0", 1, "ndjson.zst"), Segment: 1, Route: e.Route}
		w.ledger.mu.Lock()
		w.ledger.tails["e/0"] = e
		w.ledger.mu.Unlock()
		w.publish(4)
		finishes(t, w.lane())
		if keys := w.store.Keys(); len(keys) != 1 || keys[0] != w.key(1) {
			t.Errorf("keys: %v", keys)
		}
		if got, want := w.sequences(), numbers(1, 8); got != want {
			t.Errorf("the series holds %s, want %s", got, want)
		}
	})
}

// A writer that knows nothing of a series reads its last segment, not all of them.
func TestHighestSegmentIsEntered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 400, 1)
		w.lane().finish(t.Context())
		keys := w.store.Keys()
		total := 0
		for _, key := range keys {
			total += len(w.store.Bytes(key))
		}
		if len(keys) < 10 {
			t.Fatalf("%d segments", len(keys))
		}
		w.ledger.wipe()
		w.publish(1)
		l := w.lane()
		set := l.newSet()
		c := &counted{Store: w.store}
		set.opt.Store = c
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- set.Run(ctx) }()
		add(t, l, set, ctx, 401, 401)
		if err := set.Drain(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		<-ran
		w.check()
		if read := c.n.Load(); read > int64(total/2) {
			t.Errorf("%d bytes were read of a series of %d", read, total)
		}
	})
}

// A seal with its locator at the end of an object whose bytes have changed proves
// nothing: the segment is read, and the damage is found.
func TestSealBehindChangedBytes(t *testing.T) {
	for _, codec := range []event.Codec{event.Gzip, event.Zstd, event.Plain} {
		synctest.Test(t, func(t *testing.T) {
			w, _ := startWith(t, 8, codec)
			spec := w.spec
			w.spec = func(s string) Spec {
				sp := spec(s)
				sp.Roll.Idle = time.Minute
				return sp
			}
			_, _, stop := running(t, w.lane())
			time.Sleep(5 * time.Minute)
			if err := stop(); err != nil || w.m.Seals.Load() != 1 {
				t.Fatalf("%v, %d seals", err, w.m.Seals.Load())
			}
			w.store.Flip(w.store.Keys()[0], 30)
			w.ledger.wipe()
			w.publish(4)
			l := w.lane()
			l.floor = 8
			finishes(t, l)
			if w.m.Breaks.Load() != 1 {
				t.Errorf("%v: %d breaks, want 1", codec, w.m.Breaks.Load())
			}
			if got, want := w.sequences(), numbers(9, 12); got != want {
				t.Errorf("%v: the series holds %s, want %s", codec, got, want)
			}
		})
	}
}

// asked notes which requests find out about a series, and does something behind the
// first listing.
type asked struct {
	*objecttest.Store
	ops    []string
	behind func()
}

func (a *asked) List(ctx context.Context, prefix string, fn func(object.Entry) error) error {
	a.ops = append(a.ops, "list")
	err := a.Store.List(ctx, prefix, fn)
	if f := a.behind; f != nil {
		a.behind = nil
		f()
	}
	return err
}

func (a *asked) Head(ctx context.Context, key string) (object.Info, error) {
	a.ops = append(a.ops, "head")
	return a.Store.Head(ctx, key)
}

// The first event of a series costs a listing besides its append. Who begins the
// series behind that listing is found by the append: it is refused, and what stands
// there is read from its start, and not written again.
func TestFirstEventOfASeries(t *testing.T) {
	for _, begun := range []int{0, 3, 8} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 8, 1)
			st := &asked{Store: w.store}
			l := w.lane()
			set := l.newSet()
			set.opt.Store, set.opt.Ledger = st, nil
			set.loaded = true
			if begun > 0 {
				st.behind = func() {
					other := w.lane().newSet()
					other.opt.Ledger, other.loaded = nil, true
					ctx, cancel := context.WithCancel(t.Context())
					ran := make(chan error, 1)
					go func() { ran <- other.Run(ctx) }()
					add(t, w.lane(), other, ctx, 1, begun)
					if err := other.Drain(ctx); err != nil {
						t.Error(err)
					}
					cancel()
					<-ran
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- set.Run(ctx) }()
			add(t, l, set, ctx, 1, 8)
			if err := set.Drain(ctx); err != nil {
				t.Error(err)
			}
			cancel()
			<-ran
			if got, want := w.sequences(), numbers(1, 8); got != want {
				t.Errorf("%d begun: the series holds %s, want %s", begun, got, want)
			}
			want := "list"
			if begun > 0 {
				want = "list head" // behind the refusal
			}
			if got := strings.Join(st.ops, " "); got != want {
				t.Errorf("%d begun: %s, want %s", begun, got, want)
			}
		})
	}
}
