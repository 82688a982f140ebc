package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"ossuary/internal/embedded/embeddedtest"
	"ossuary/internal/event"
	"ossuary/internal/ledger"
)

func open(t *testing.T) (context.Context, jetstream.JetStream, *ledger.Ledger) {
	t.Helper()
	js := embeddedtest.JetStream(t)
	l, err := ledger.Open(t.Context(), js, ledger.Config{Archive: "a-1", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return t.Context(), js, l
}

func tail(segment int) ledger.Tail {
	return ledger.Tail{
		Key: fmt.Sprintf("p/s.%06d.ndjson.gz", segment), Segment: segment, Position: 77, CRC64: 1<<64 - 1, Frames: 2, Last: 9,
		Greatest: time.Unix(1, 999).UTC(), Created: time.Unix(0, 5).UTC(), Hash: event.Hash{1, 2}, Events: 4, Bytes: 100, Route: "r",
	}
}

func TestOpen(t *testing.T) {
	js := embeddedtest.JetStream(t)
	ctx := t.Context()
	if _, err := ledger.Open(ctx, js, ledger.Config{Archive: "a"}); !errors.Is(err, ledger.ErrNoBucket) {
		t.Fatalf("without Create: %v", err)
	}
	if _, err := ledger.Open(ctx, js, ledger.Config{Archive: "a.b", Create: true}); err == nil || !strings.Contains(err.Error(), `"a.b"`) {
		t.Fatalf("impossible name: %v", err)
	}
	for range 2 {
		if _, err := ledger.Open(ctx, js, ledger.Config{Archive: "a", Create: true}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := js.Stream(ctx, "KV_OSSUARY_a")
	if err != nil {
		t.Fatal(err)
	}
	if c := s.CachedInfo().Config; c.MaxMsgsPerSubject != 1 || c.Storage != jetstream.FileStorage || c.Replicas != 1 {
		t.Fatalf("%+v", c)
	}
}

func TestCompareAndSwap(t *testing.T) {
	ctx, _, l := open(t)

	if e, rev, err := l.Lane(ctx, "S", "main"); err != nil || rev != 0 || e != (ledger.Lane{}) {
		t.Fatalf("no entry: %+v %d %v", e, rev, err)
	}
	want := ledger.Lane{Version: ledger.Version, Owner: "o", Counter: 3, Floor: 8, FloorTime: time.Unix(3, 4).UTC()}
	rev1, err := l.PutLane(ctx, "S", "main", want, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.PutLane(ctx, "S", "main", want, 0); !errors.Is(err, ledger.ErrConflict) {
		t.Fatalf("second creation: %v", err)
	}
	want.Counter++
	rev2, err := l.PutLane(ctx, "S", "main", want, rev1)
	if err != nil || rev2 <= rev1 {
		t.Fatal(rev2, err)
	}
	if _, err := l.PutLane(ctx, "S", "main", want, rev1); !errors.Is(err, ledger.ErrConflict) {
		t.Fatalf("stale: %v", err)
	}
	if got, rev, err := l.Lane(ctx, "S", "main"); err != nil || rev != rev2 || got != want {
		t.Fatalf("%+v %d %v", got, rev, err)
	}

	w := tail(1)
	rev, err := l.PutTail(ctx, "S", "main", "orders/2026.11", w, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Version = ledger.Version
	if got, r, err := l.Tail(ctx, "S", "main", "orders/2026.11"); err != nil || r != rev || got != w {
		t.Fatalf("%+v %d %v", got, r, err)
	}
	if _, r, err := l.Tail(ctx, "S", "main2", "orders/2026.11"); err != nil || r != 0 {
		t.Fatalf("another lane's: %d %v", r, err)
	}
}

// A deleted series leaves nothing behind, and comes back as a new entry.
func TestDelete(t *testing.T) {
	ctx, js, l := open(t)
	rev, err := l.PutTail(ctx, "S", "l", "s", tail(1), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []uint64{0, rev + 1} {
		if err := l.DeleteTail(ctx, "S", "l", "s", wrong); !errors.Is(err, ledger.ErrConflict) {
			t.Fatalf("revision %d: %v", wrong, err)
		}
	}
	if err := l.DeleteTail(ctx, "S", "l", "s", rev); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(ctx, "KV_"+l.Bucket())
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 0 {
		t.Fatalf("%d messages are left", n)
	}
	if _, r, err := l.Tail(ctx, "S", "l", "s"); err != nil || r != 0 {
		t.Fatal(r, err)
	}
	if _, err := l.PutTail(ctx, "S", "l", "s", tail(2), rev); !errors.Is(err, ledger.ErrConflict) {
		t.Fatalf("a writer that still holds the old revision: %v", err)
	}
	if _, err := l.PutTail(ctx, "S", "l", "s", tail(2), 0); err != nil {
		t.Fatal(err)
	}
}

// A marker that stays, as another client's deletion does, is no entry.
func TestMarker(t *testing.T) {
	ctx, js, l := open(t)
	if _, err := l.PutTail(ctx, "S", "l", "s", tail(1), 0); err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, l.Bucket())
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(ctx, "tail.S.l.s"); err != nil {
		t.Fatal(err)
	}
	if _, r, err := l.Tail(ctx, "S", "l", "s"); err != nil || r != 0 {
		t.Fatal(r, err)
	}
	if m, err := l.Tails(ctx, "S", "l"); err != nil || len(m) != 0 {
		t.Fatal(m, err)
	}
	if _, err := l.PutTail(ctx, "S", "l", "s", tail(2), 0); err != nil {
		t.Fatal(err)
	}
}

func TestTails(t *testing.T) {
	ctx, js, l := open(t)
	if m, err := l.Tails(ctx, "S", "l"); err != nil || len(m) != 0 {
		t.Fatalf("empty bucket: %v %v", m, err)
	}
	const n = 10_500
	kv, err := js.KeyValue(ctx, l.Bucket())
	if err != nil {
		t.Fatal(err)
	}
	value := []byte(`{"v":1,"key":"k","segment":1,"position":5,"crc64":"9"}`)
	for i := range n {
		if err := js.Conn().Publish("$KV."+l.Bucket()+".tail.S.l."+ledger.EscapeName(fmt.Sprintf("a.%d/é", i)), value); err != nil {
			t.Fatal(err)
		}
	}
	// Acknowledged after all that this connection has sent before it.
	if _, err := kv.Put(ctx, "tail.S.other.x", value); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	m, err := l.Tails(ctx, "S", "l")
	t.Logf("%d tails in %s", len(m), time.Since(start))
	if err != nil || len(m) != n {
		t.Fatal(len(m), err)
	}
	for i := range n {
		if e := m[fmt.Sprintf("a.%d/é", i)]; e.Revision == 0 || e.Position != 5 || e.CRC64 != 9 {
			t.Fatalf("%d: %+v", i, e)
		}
	}
	if all, err := l.All(ctx); err != nil || len(all) != n+1 {
		t.Fatal(len(all), err)
	}
	if err := l.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	if m, err := l.Tails(ctx, "S", "l"); err != nil || len(m) != 0 {
		t.Fatal(len(m), err)
	}
}

func TestCancelledScan(t *testing.T) {
	_, _, l := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Tails(ctx, "S", "l"); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestForeignEntries(t *testing.T) {
	ctx, js, l := open(t)
	kv, err := js.KeyValue(ctx, l.Bucket())
	if err != nil {
		t.Fatal(err)
	}
	put := func(key, value string) uint64 {
		rev, err := kv.Put(ctx, key, []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		return rev
	}

	// Not readable: as good as none, and may be overwritten.
	for _, value := range []string{"", "hello", `{"v":0}`, `{"v":1}`, `{"v":1,"key":7}`} {
		rev := put("tail.S.l.s", value)
		e, r, err := l.Tail(ctx, "S", "l", "s")
		if err != nil || r != rev || e != (ledger.Tail{}) {
			t.Fatalf("%q: %+v %d %v", value, e, r, err)
		}
		if m, err := l.Tails(ctx, "S", "l"); err != nil || m["s"] != (ledger.TailEntry{Revision: rev}) {
			t.Fatalf("%q: %+v %v", value, m, err)
		}
		if _, err := l.PutTail(ctx, "S", "l", "s", tail(1), r); err != nil {
			t.Fatal(err)
		}
	}

	// Newer: not to be touched. The rest of it may have any form.
	rev := put("tail.S.l.s", `{"v":2,"key":["x"]}`)
	put("lane.S.l", `{"v":2}`)
	put("something.else", "x")
	if _, r, err := l.Tail(ctx, "S", "l", "s"); !errors.Is(err, ledger.ErrNewer) || r != 0 {
		t.Fatal(r, err)
	}
	if _, err := l.Tails(ctx, "S", "l"); !errors.Is(err, ledger.ErrNewer) {
		t.Fatal(err)
	}
	if _, _, err := l.Lane(ctx, "S", "l"); !errors.Is(err, ledger.ErrNewer) {
		t.Fatal(err)
	}
	if _, err := l.PutTail(ctx, "S", "l", "s", tail(1), rev-1); !errors.Is(err, ledger.ErrConflict) {
		t.Fatal(err)
	}
	all, err := l.All(ctx)
	if err != nil || len(all) != 2 || all[0].Key != "lane.S.l" || all[1].Series != "s" {
		t.Fatalf("%+v %v", all, err)
	}
	for _, e := range all {
		if !errors.Is(e.Err, ledger.ErrNewer) || e.Lane != nil || e.Tail != nil {
			t.Fatalf("%+v", e)
		}
	}
}

func TestLanes(t *testing.T) {
	ctx, _, l := open(t)
	for _, name := range []string{"b", "a.x"} {
		if _, err := l.PutLane(ctx, "S", name, ledger.Lane{Owner: name}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.PutTail(ctx, "S", "b", "s", tail(1), 0); err != nil {
		t.Fatal(err)
	}
	all, err := l.Lanes(ctx)
	if err != nil || len(all) != 2 || all[0].LaneName != "a.x" || all[1].LaneName != "b" || all[0].Lane.Owner != "a.x" {
		t.Fatalf("%+v %v", all, err)
	}
}

// The bucket is deleted while we run; and then somebody makes a new one.
func TestDeletedBucket(t *testing.T) {
	ctx, js, l := open(t)
	rev, err := l.PutTail(ctx, "S", "l", "s", tail(1), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(ctx, l.Bucket()); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"create": func() error { _, err := l.PutLane(ctx, "S", "l", ledger.Lane{}, 0); return err },
		"update": func() error { _, err := l.PutTail(ctx, "S", "l", "s", tail(1), rev); return err },
		"delete": func() error { return l.DeleteTail(ctx, "S", "l", "s", rev) },
		"read":   func() error { _, _, err := l.Tail(ctx, "S", "l", "s"); return err },
		"tails":  func() error { _, err := l.Tails(ctx, "S", "l"); return err },
		"purge":  func() error { return l.Purge(ctx) },
	} {
		if err := f(); !errors.Is(err, ledger.ErrNoBucket) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ledger.Open(ctx, js, ledger.Config{Archive: "a-1", Create: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.PutTail(ctx, "S", "l", "s", tail(1), rev); !errors.Is(err, ledger.ErrConflict) {
		t.Fatalf("in the new bucket: %v", err)
	}
	if _, err := l.PutTail(ctx, "S", "l", "s", tail(1), 0); err != nil {
		t.Fatalf("in the new bucket: %v", err)
	}
}

// A write that gets no answer is neither done nor refused.
func TestInDoubt(t *testing.T) {
	s := embeddedtest.Start(t)
	nc, js := embeddedtest.Connect(t, s)
	l, err := ledger.Open(t.Context(), js, ledger.Config{Archive: "a", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	rev, err := l.PutTail(t.Context(), "S", "l", "s", tail(1), 0)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	for name, err := range map[string]error{
		"update": second(l.PutTail(t.Context(), "S", "l", "s", tail(1), rev)),
		"create": second(l.PutTail(t.Context(), "S", "l", "t", tail(1), 0)),
		"delete": l.DeleteTail(t.Context(), "S", "l", "s", rev),
	} {
		if !errors.Is(err, ledger.ErrInDoubt) || errors.Is(err, ledger.ErrConflict) || errors.Is(err, ledger.ErrNoBucket) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second(_ uint64, err error) error { return err }

func TestEscape(t *testing.T) {
	for name, want := range map[string]string{
		"": "=", "a": "a", "orders/eu": "orders/eu", "a.b": "a=2Eb", "=": "=3D", "/x/": "/x/", "ä": "=C3=A4", "a b*>": "a=20b=2A=3E",
	} {
		if got := ledger.EscapeName(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	for _, token := range []string{"", "=2", "a=", "=2e", "=41", "a.b", "==", "=GG", "ä"} {
		if name, err := ledger.UnescapeName(token); err == nil {
			t.Errorf("%q taken for %q", token, name)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		name := string(rapid.SliceOf(rapid.Byte()).Draw(t, "name"))
		token := ledger.EscapeName(name)
		if strings.Trim(token, "-_/=abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" || token == "" {
			t.Fatalf("%q", token)
		}
		if back, err := ledger.UnescapeName(token); err != nil || back != name {
			t.Fatalf("%q -> %q -> %q %v", name, token, back, err)
		}
		if s := rapid.StringMatching(`[=A-F0-9a/._-]*`).Draw(t, "token"); s != "" {
			if n, err := ledger.UnescapeName(s); err == nil && ledger.EscapeName(n) != s {
				t.Fatalf("%q is a second token of %q", s, n)
			}
		}
	})
}

// Whatever the names, the server takes the keys, and no two are confused.
func TestNamesOnServer(t *testing.T) {
	ctx, _, l := open(t)
	rapid.Check(t, func(t *rapid.T) {
		name := func(label string) string {
			return rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", ".", "/", "//", "=", "*", ">", "a.b"})).Draw(t, label)
		}
		source, lane, series := name("source"), name("lane"), name("series")
		_, rev, err := l.Tail(ctx, source, lane, series)
		if err != nil {
			t.Fatal(err)
		}
		if rev, err = l.PutTail(ctx, source, lane, series, tail(1), rev); err != nil {
			t.Fatal(err)
		}
		m, err := l.Tails(ctx, source, lane)
		if err != nil || m[series].Revision != rev {
			t.Fatal(m, err)
		}
	})
}
