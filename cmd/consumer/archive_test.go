package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"ossuary/internal/archive"
	"ossuary/internal/demo"
	"ossuary/internal/event"
	"ossuary/internal/ledger"
)

// What is published comes out of `cat` byte for byte, the archive is proven, and
// damage to it is found.
func TestArchiveReadVerify(t *testing.T) {
	w := newWorld(t)
	w.createStream(t)
	type sent struct {
		subject, id string
		data        []byte
	}
	published := map[uint64]sent{}
	send := func(n int) {
		for i := range n {
			m := sent{fmt.Sprintf("orders.%s.paid", []string{"eu", "us", "a/b ü"}[i%3]), fmt.Sprint(i), []byte(fmt.Sprintf(`{"id":%d,"x":1.50}`, i))}
			switch i % 7 {
			case 3:
				m.data = []byte("no JSON, but text\nof two lines")
			case 5:
				m.data = []byte{0, 0xff, 0xfe, byte(i)}
			case 6:
				m.subject = "noise.away"
			}
			m.subject = strings.ReplaceAll(m.subject, " ", "-")
			ack, err := w.js.PublishMsg(t.Context(), &nats.Msg{Subject: m.subject, Data: m.data, Header: nats.Header{"Id": {m.id}}})
			if err != nil {
				t.Fatal(err)
			}
			if m.subject != "noise.away" {
				published[ack.Sequence] = m
			}
		}
	}
	last := func() uint64 {
		s, err := w.js.Stream(t.Context(), "ORDERS")
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State.LastSeq
	}
	for round := range 2 { // the second goes on where the first ended
		url, stop := w.start(t)
		send(500)
		want := last()
		eventually(t, "the floor at the stream's end", func() bool {
			st, ok := status(url)
			return ok && len(st.Lanes) == 1 && st.Lanes[0].Floor == want
		})
		wantCode(t, exitGood, "health", "--config", w.config)
		if code, stderr := stop(); code != exitGood {
			t.Fatalf("round %d: exit %d\n%s", round, code, stderr)
		}
		if _, stderr := wantCode(t, exitUnable, "health", "--config", w.config); !strings.Contains(stderr, "http.listen") {
			t.Errorf("health: %s", stderr)
		}
	}

	stdout, _ := wantCode(t, exitGood, "cat", "--config", w.config)
	got := map[uint64]bool{}
	for line := range strings.Lines(stdout) {
		var l event.Line
		if err := event.DecodeLine([]byte(strings.TrimSuffix(line, "\n")), &l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		want, ok := published[l.Sequence]
		if !ok || got[l.Sequence] || want.subject != l.Subject || !bytes.Equal(want.data, l.Data) || l.Header["Id"][0] != want.id {
			t.Fatalf("sequence %d: got %s %q, want %s %q (seen %v)", l.Sequence, l.Subject, l.Data, want.subject, want.data, got[l.Sequence])
		}
		got[l.Sequence] = true
	}
	if len(got) != len(published) {
		t.Fatalf("cat prints %d events, %d were published", len(got), len(published))
	}

	report := verified(t, exitGood, "--config", w.config)
	if report.Result != archive.OK || report.Events != uint64(len(published)) || report.Duplicates != 0 || report.Missing != 0 || report.Skipped == 0 {
		t.Errorf("verify: %+v", report)
	}
	dir := filepath.Join(w.store, "bucket")
	if r := verified(t, exitGood, "--dir", dir, "--prefix", "archive/"); r.Events != report.Events {
		t.Errorf("verify --dir: %+v", r)
	}
	if out, _ := wantCode(t, exitGood, "cat", "--dir", dir, "--prefix", "archive/"); out != stdout {
		t.Error("cat --dir prints something else than cat")
	}
	t.Run("ledger", func(t *testing.T) { ledgerCommands(t, w) })
	t.Run("damage", func(t *testing.T) {
		files, err := filepath.Glob(filepath.Join(dir, "archive/orders/eu/*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no objects: %v", err)
		}
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		name := strings.Replace(files[0], dir, copied, 1)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 0x20
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r := verified(t, exitFound, "--dir", copied, "--prefix", "archive/")
		named := slices.ContainsFunc(r.Problems, func(f archive.Finding) bool { return strings.Contains(f.Key, "orders/eu") })
		if r.Result != archive.Damaged || !named {
			t.Errorf("verify of damaged bytes: %+v", r)
		}
		if _, stderr := wantCode(t, exitFound, "cat", "--dir", copied, "--prefix", "archive/"); !strings.Contains(stderr, "damage") {
			t.Errorf("cat of damaged bytes says %q", stderr)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if r := verified(t, exitFound, "--dir", copied, "--prefix", "archive/"); r.Missing == 0 {
			t.Errorf("verify without an object: %+v", r)
		}
	})
}

func verified(t *testing.T, code int, args ...string) archive.Report {
	t.Helper()
	stdout, stderr := wantCode(t, code, append([]string{"verify", "--json"}, args...)...)
	var r archive.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v in %s%s", err, stdout, stderr)
	}
	return r
}

// A ledger that is deleted and rebuilt says what the old one said.
func ledgerCommands(t *testing.T, w *world) {
	type key struct{ Source, Lane, Series string }
	read := func() map[key]entry {
		stdout, _ := wantCode(t, exitGood, "ledger", "list", "--json", "--config", w.config)
		var all []entry
		if err := json.Unmarshal([]byte(stdout), &all); err != nil {
			t.Fatalf("%v in %s", err, stdout)
		}
		out := map[key]entry{}
		for _, e := range all {
			out[key{e.Source, e.Lane, e.Series}] = e
		}
		return out
	}
	before := read()
	if len(before) < 4 { // a lane and three tails
		t.Fatalf("ledger: %+v", before)
	}
	if stdout, _ := wantCode(t, exitGood, "ledger", "list", "--config", w.config); !strings.Contains(stdout, "ORDERS") {
		t.Errorf("ledger list: %s", stdout)
	}
	for k, e := range before {
		stdout, _ := wantCode(t, exitGood, "ledger", "show", e.Key, "--config", w.config)
		if !strings.Contains(stdout, e.Key) {
			t.Errorf("ledger show %s: %s", k, stdout)
		}
	}
	wantCode(t, exitFound, "ledger", "show", "tail.nothing", "--config", w.config)
	if err := w.js.DeleteKeyValue(t.Context(), ledger.BucketPrefix+"test"); err != nil {
		t.Fatal(err)
	}
	if _, stderr := wantCode(t, exitUnable, "ledger", "list", "--config", w.config); !strings.Contains(stderr, "ledger rebuild") {
		t.Errorf("without a ledger: %s", stderr)
	}
	wantCode(t, exitGood, "ledger", "rebuild", "--config", w.config)
	after := read()
	for k, b := range before {
		a, ok := after[k]
		switch {
		case !ok:
			t.Errorf("%v is not in the rebuilt ledger", k)
		case b.Tail != nil && (a.Tail == nil || a.Tail.Position != b.Tail.Position || a.Tail.CRC64 != b.Tail.CRC64 || a.Tail.Hash != b.Tail.Hash || a.Tail.Last != b.Tail.Last):
			t.Errorf("%v: rebuilt %+v, was %+v", k, a.Tail, b.Tail)
		case b.Floor != nil && (a.Floor == nil || a.Floor.Floor != b.Floor.Floor || a.Floor.Tally != b.Floor.Tally):
			t.Errorf("%v: rebuilt %+v, was %+v", k, a.Floor, b.Floor)
		}
	}
	wantCode(t, exitGood, "verify", "--config", w.config)
}

func TestDemo(t *testing.T) {
	dir := t.TempDir()
	for round := range 2 {
		stdout, stderr := wantCode(t, exitGood, "demo", "--events", "2000", "--exit", "--json", "--data", dir)
		lines := strings.Split(strings.TrimSpace(stdout), "\n")
		var r demo.Result
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
			t.Fatalf("%v in %s%s", err, stdout, stderr)
		}
		if r.Published != 2000 || r.Archived != 2000 || r.Duplicates != 0 || r.Missing != 0 || r.Advisories == 0 || r.Objects < 5 {
			t.Errorf("round %d: %+v", round, r)
		}
	}
	stdout, _ := wantCode(t, exitGood, "cat", "--dir", filepath.Join(dir, "oss", "demo"), "--series", "orders/")
	if n := strings.Count(stdout, "\n"); n != 4000 {
		t.Errorf("cat prints %d orders", n)
	}
	// A directory above the archive's own: verify finds damage, and says where the archive is.
	if _, stderr := wantCode(t, exitFound, "verify", "--dir", dir); !strings.Contains(stderr, "--prefix oss/demo/") {
		t.Errorf("verify --dir of a directory above says %q", stderr)
	}
	wantCode(t, exitGood, "verify", "--dir", dir, "--prefix", "oss/demo/")
}

// The embedded set-up can be looked at while it runs, wherever it listens, and
// afterwards; without one there is a word on how to get one.
func TestEmbeddedIsReadWhileItRuns(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, stderr := wantCode(t, exitUnable, "verify"); !strings.Contains(stderr, "consumer run") {
		t.Errorf("without an archive: %s", stderr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var out, log bytes.Buffer
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"demo", "--events", "500", "--json"}, &out, &log) }()
	eventually(t, "events in the running archive", func() bool {
		code, stdout, _ := consumer(t, "cat", "--subject", "orders.>")
		return code == exitGood && strings.Count(stdout, "\n") >= 500
	})
	if r := verified(t, exitGood); r.Events < 500 {
		t.Errorf("verify: %+v", r)
	}
	cancel()
	if c := <-code; c != exitGood {
		t.Fatalf("exit %d\n%s", c, log.String())
	}
	if r := verified(t, exitGood); r.Events < 500 {
		t.Errorf("verify: %+v", r)
	}
}
