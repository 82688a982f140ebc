package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/replay"
)

// each calls fn for every message of a stream, in order.
func each(t *testing.T, js jetstream.JetStream, stream string, fn func(jetstream.Msg)) {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if s.CachedInfo().State.Msgs == 0 {
		return
	}
	c, err := s.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	it, err := c.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer it.Stop()
	for {
		m, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		fn(m)
		if meta, err := m.Metadata(); err != nil || meta.NumPending == 0 {
			return
		}
	}
}

func messages(t *testing.T, js jetstream.JetStream, stream string) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if i := s.CachedInfo().State; i.Msgs == i.LastSeq {
		return i.Msgs
	}
	t.Fatalf("stream %s has holes", stream)
	return 0
}

// replayed runs the command and reads what it prints.
func replayed(t *testing.T, code int, args ...string) (r struct {
	Result replay.Result
	Proof  *replay.Proof
}) {
	t.Helper()
	stdout, _ := wantCode(t, code, append([]string{"replay", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	return r
}

// publishMany publishes n messages of all kinds, and waits until they are stored.
func publishMany(t *testing.T, js jetstream.JetStream, n int) {
	t.Helper()
	for i := range n {
		m := &nats.Msg{Subject: fmt.Sprintf("orders.r%d.s%d", i%7, i%3), Data: fmt.Appendf(nil, `{"order":%d}`, i)}
		switch i % 10 {
		case 1, 2, 3, 4:
			m.Header = nats.Header{"Nats-Msg-Id": {fmt.Sprint("order-", i)}, "Content-Type": {"application/json"}}
		case 5:
			m.Header = nats.Header{"Trace": {"a", "", "b: c"}, "Nats-Expected-Stream": {"ORDERS"}}
		case 6:
			m.Data = []byte{0xff, 0, byte(i), '\n'}
		case 7:
			m.Data = nil
		case 8:
			m.Data = []byte("two lines\nof text, äöü")
		}
		if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(5 * time.Minute):
		t.Fatal("the server does not store the events")
	}
}

// A whole stream is archived, restored into a new one and equal to it; a second
// replay adds nothing.
func TestReplayRestoresAStream(t *testing.T) {
	n := 1500
	if os.Getenv("OSSUARY_LONG") != "" {
		n = 200_000
	}
	w := newWorld(t)
	w.createStream(t)
	publishMany(t, w.js, n)
	base, stop := w.start(t)
	eventually(t, "all archived", func() bool {
		st, ok := status(base)
		return ok && len(st.Lanes) == 1 && st.Lanes[0].Floor == uint64(n)
	})
	if code, stderr := stop(); code != exitGood {
		t.Fatalf("exit %d\n%s", code, stderr)
	}

	args := []string{"--config", w.config, "--to", "RESTORED", "--map", "orders.>=restored.orders.>"}
	if r := replayed(t, exitGood, append(args, "--dry-run")...); r.Result.Published != uint64(n) {
		t.Errorf("a dry run: %+v", r.Result)
	}
	if _, err := w.js.Stream(t.Context(), "RESTORED"); err == nil {
		t.Fatal("a dry run made the stream")
	}
	start := time.Now()
	r := replayed(t, exitGood, append(args, "--create", "--verify")...)
	if r.Result.Published != uint64(n) || r.Proof == nil || r.Proof.Equal != uint64(n) || !r.Proof.Holds() {
		t.Fatalf("%+v %+v", r.Result, r.Proof)
	}
	t.Logf("%d events replayed and proven in %s", n, time.Since(start).Round(time.Millisecond))
	wantRestored(t, w.js, n)

	start = time.Now()
	r = replayed(t, exitGood, append(args, "--verify")...)
	if r.Result.Published != 0 || r.Result.Already != uint64(n) || !r.Proof.Holds() {
		t.Errorf("a second replay: %+v %+v", r.Result, r.Proof)
	}
	t.Logf("the second time in %s", time.Since(start).Round(time.Millisecond))
	if got := messages(t, w.js, "RESTORED"); got != uint64(n) {
		t.Errorf("a second replay left %d messages", got)
	}

	// From a copy of the objects, without the store; a part only, to elsewhere.
	copied := []string{"--dir", filepath.Join(w.store, "bucket"), "--prefix", "archive/", "--nats", w.nats, "--to", "PART",
		"--map", "orders.*.s0=part.{{wildcard(1)}}", "--subject", "orders.r1.s0", "--seq", fmt.Sprint("..", n/2), "--create", "--create-subject", "part.*"}
	want := uint64(0)
	for i := range n / 2 {
		if i%7 == 1 && i%3 == 0 {
			want++
		}
	}
	if r := replayed(t, exitGood, copied...); r.Result.Published != want || r.Result.Mapped != "part.r1" {
		t.Errorf("a part: %+v, want %d", r.Result, want)
	}
	if r := replayed(t, exitGood, append(copied, "--verify")...); r.Result.Published != 0 || r.Proof.Equal != want {
		t.Errorf("a part again: %+v %+v", r.Result, r.Proof)
	}
}

// wantRestored compares both streams message by message, by what docs/REPLAY.md
// says of headers and nothing else.
func wantRestored(t *testing.T, js jetstream.JetStream, n int) {
	t.Helper()
	type message struct {
		subject, data, headers, time string
		sequence                     uint64
	}
	text := func(h nats.Header) string {
		names := make([]string, 0, len(h))
		for name := range h {
			names = append(names, name)
		}
		slices.Sort(names)
		var b strings.Builder
		for _, name := range names {
			fmt.Fprintf(&b, "%s: %q\n", name, h[name])
		}
		return b.String()
	}
	originals := make([]message, 0, n)
	each(t, js, "ORDERS", func(m jetstream.Msg) {
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		originals = append(originals, message{m.Subject(), string(m.Data()), text(m.Headers()), meta.Timestamp.UTC().Format(time.RFC3339Nano), meta.Sequence.Stream})
	})
	i := 0
	each(t, js, "RESTORED", func(m jetstream.Msg) {
		if i == len(originals) {
			t.Fatalf("more than %d messages", i)
		}
		want := originals[i]
		i++
		h := m.Headers()
		if h.Get("Ossuary-Sequence") != fmt.Sprint(want.sequence) || h.Get("Ossuary-Time") != want.time || h.Get("Ossuary-Stream") != "ORDERS" || h.Get("Ossuary-Archive") != "test" {
			t.Fatalf("message %d: %v, want sequence %d of %s", i, h, want.sequence, want.time)
		}
		left := nats.Header{}
		for name, values := range h {
			if kept, ok := strings.CutPrefix(name, "Ossuary-Kept-"); ok {
				left[kept] = values
			} else if !strings.HasPrefix(name, "Ossuary-") && !strings.HasPrefix(name, "Nats-") {
				left[name] = values
			}
		}
		if m.Subject() != "restored."+want.subject || string(m.Data()) != want.data || text(left) != want.headers {
			t.Fatalf("message %d: %s %q %s, want %+v", i, m.Subject(), m.Data(), text(left), want)
		}
	})
	if i != n || len(originals) != n {
		t.Fatalf("%d and %d messages, want %d", len(originals), i, n)
	}
}

func TestReplaySaysWhatToDo(t *testing.T) {
	w := newWorld(t)
	w.createStream(t)
	base, stop := w.start(t)
	publish(t, w.js, "orders.eu.paid", "orders.us.paid", "orders.eu.paid")
	eventually(t, "all archived", func() bool {
		st, ok := status(base)
		return ok && len(st.Lanes) == 1 && st.Lanes[0].Floor == 3
	})
	if code, stderr := stop(); code != exitGood {
		t.Fatalf("exit %d\n%s", code, stderr)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--to", "NONE"}, "give --create"},
		{[]string{"--to", "X", "--map", "orders.>"}, "FROM=TO"},
		{[]string{"--to", "X", "--create"}, "map them to others"},
		{[]string{"--to", "X", "--subject", "users.>"}, "nothing to replay"},
		{[]string{"--to", "X", "--dead", "--no-dead"}, "exclude each other"},
		{[]string{"--to", "X", "--nats", "nats://" + nobody(t)}, "cannot connect"},
		{[]string{}, `"to" not set`},
	} {
		if _, stderr := wantCode(t, exitUnable, append([]string{"replay", "--config", w.config}, tt.args...)...); !strings.Contains(stderr, tt.want) {
			t.Errorf("%v: %s, want %q in it", tt.args, stderr, tt.want)
		}
	}

	// Damage stops it, unless it shall not.
	objects, err := filepath.Glob(filepath.Join(w.store, "bucket", "archive", "orders", "us", "*.gz"))
	if err != nil || len(objects) != 1 {
		t.Fatal(objects, err)
	}
	b, err := os.ReadFile(objects[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-20] ^= 1
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(w.store, "bucket", "archive"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "orders", "us", filepath.Base(objects[0])), b, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"replay", "--dir", dir, "--nats", w.nats, "--to", "HALF", "--map", "orders.>=half.>", "--create"}
	if _, stderr := wantCode(t, exitFound, args...); !strings.Contains(stderr, "damage") || !strings.Contains(stderr, "--skip-damage") {
		t.Errorf("damage: %s", stderr)
	}
	wantCode(t, exitFound, append(args, "--skip-damage")...)
	if got := messages(t, w.js, "HALF"); got != 2 {
		t.Errorf("%d messages of what is whole", got)
	}
}
