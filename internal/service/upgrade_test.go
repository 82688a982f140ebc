package service

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"ossuary/internal/appendsink"
	"ossuary/internal/archive"
	"ossuary/internal/config"
	"ossuary/internal/embedded/fakenats"
	"ossuary/internal/intake"
	"ossuary/internal/ledger"
	"ossuary/internal/object/objecttest"
)

// testdata/v1 is an archive as the first version of the format wrote it: every
// codec, seals, a break, dead letters, two layouts, and its ledger. It is never
// written anew once a release has gone out: what later programs make of it is what
// is promised. cmd/consumer proves and prints it.
const (
	firstDir    = "testdata/v1"
	firstStream = "ORDERS"
	firstSum    = "6ebc00a2298a8bfa6b58f9a02aa1ae90bab7a2e984c184dfff9442b8b75124b4" // of its objects
	firstBreaks = "shop/plain/x.000001.ndjson"                                       // somebody else appends to this object
)

var writeFirst = flag.String("write-first", "", "write the archive of testdata/v1 to this directory")

// act is a message that the stream takes, so long after it was created.
type act struct {
	at                    time.Duration
	subject, header, data string
	dead                  bool // a dead letter
}

const firstHeader = "NATS/1.0\r\nNats-Msg-Id: a1\r\nTenant: eu\r\nTenant: us\r\n\r\n"

// The stream's life, in the spans of three writers: both of the archive, and the
// one that goes on behind them.
var (
	firstActs = slices.Concat(
		acts(10*time.Second, "orders.gzip.eu.created", firstHeader, `{"id":1}`, `[1.50,{"a":null}]`, "text, \"quoted\"\nof two lines", "\x00\xff\xfe", ""),
		acts(11*time.Second, "orders.zstd.created", "", `{"id":2}`, `{"id":3}`, "no JSON"),
		acts(12*time.Second, "orders.plain.x", firstHeader, `{"id":4}`, "text", "\xff"),
		acts(13*time.Second, "orders.rawgz.a", "", "a line", "two\nlines \\ and\ra return"),
		acts(14*time.Second, "orders.rawzst.a", "", "a line"),
		deadLetter(15*time.Second, "orders.rawzst.b", "", "a\nb"), // has a newline
		acts(16*time.Second, "orders.skip.this", "", "skipped", "skipped"),
		acts(17*time.Second, "orders.named.a", firstHeader, `{"id":"n/1"}`),
		deadLetter(17*time.Second+123456789, "orders.named.a", firstHeader, `{"no":"name"}`),
		acts(18*time.Second, "orders.gzip.us.\xe4", "NATS/1.0\r\nLatin: \xfc\r\n\r\n", `{"id":5}`),
		acts(40*time.Second, "orders.plain.x", "", `{"behind":"foreign bytes"}`),
		acts(41*time.Second, "orders.gzip.eu.paid", "", `{"id":6}`),
		acts(2*time.Minute, "orders.zstd.created", "", `{"id":7}`), // in a new segment, by age
	)
	secondActs = slices.Concat(
		acts(4*time.Minute, "orders.gzip.eu.created", "", `{"id":8}`, `{"id":9}`),
		acts(4*time.Minute+time.Second, "orders.zstd.created", "", `{"id":10}`),
		acts(4*time.Minute+2*time.Second, "orders.skip.this", "", "skipped"),
		acts(4*time.Minute+3*time.Second, "orders.plain.x", firstHeader, "\xff\x00"),
		deadLetter(4*time.Minute+4*time.Second, "orders.named.b", "", `{"id":"no tenant"}`),
	)
	laterActs = slices.Concat(
		acts(8*time.Minute, "orders.gzip.eu.created", firstHeader, `{"id":11}`, "text"),
		acts(8*time.Minute+time.Second, "orders.zstd.created", "", `{"id":12}`),
		acts(8*time.Minute+2*time.Second, "orders.skip.this", "", "skipped"),
		acts(8*time.Minute+3*time.Second, "orders.new", "", `{"id":13}`),
		deadLetter(8*time.Minute+4*time.Second, "orders.named.b", "", "no name"),
	)
)

const (
	foreignAt = 30 * time.Second
	firstEnd  = 3 * time.Minute
	secondEnd = 6 * time.Minute
	laterEnd  = 10 * time.Minute
)

func acts(at time.Duration, subject, header string, data ...string) (all []act) {
	for i, d := range data {
		all = append(all, act{at: at + time.Duration(i)*123456789, subject: subject, header: header, data: d})
	}
	return all
}

// deadLetter is an event that no layout can archive under its route.
func deadLetter(at time.Duration, subject, header, data string) []act {
	return []act{{at, subject, header, data, true}}
}

// firstWorld is the stream and the store, on simulated time.
type firstWorld struct {
	t     *testing.T
	began time.Time
	srv   *fakenats.Server
	store *objecttest.Store
}

func newFirstWorld(t *testing.T) *firstWorld {
	w := &firstWorld{t: t, began: time.Now(), srv: fakenats.New(fakenats.Options{}), store: objecttest.New()}
	w.srv.CreateStream(jetstream.StreamConfig{Name: firstStream, Subjects: []string{"orders.>"}, Retention: jetstream.LimitsPolicy})
	return w
}

func (w *firstWorld) until(at time.Duration) { time.Sleep(at - time.Since(w.began)) }

func (w *firstWorld) publish(all []act) {
	for _, a := range all {
		w.until(a.at)
		if w.srv.Publish(firstStream, a.subject, []byte(a.header), []byte(a.data)) == 0 {
			w.t.Fatalf("the stream did not take %+v", a)
		}
	}
}

// unclosed is a store that outlives its service.
type unclosed struct{ *objecttest.Store }

func (unclosed) Close() {}

func (w *firstWorld) connect() (*nats.Conn, jetstream.JetStream) {
	opts, err := natsOptions(config.NATS{}, &denials{}, zerolog.Nop())
	if err != nil {
		w.t.Fatal(err)
	}
	nc, err := nats.Connect("nats://127.0.0.1:4222", append(opts, nats.SetCustomDialer(w.srv.Link("writer")))...)
	if err != nil {
		w.t.Fatal(err)
	}
	js, err := openJetStream(w.t.Context(), nc, config.NATS{})
	if err != nil {
		w.t.Fatal(err)
	}
	return nc, js
}

// writer runs the service as configured while body does, and stops it at end.
func (w *firstWorld) writer(file string, end time.Duration, body func()) {
	w.t.Helper()
	cfg := firstConfig(w.t, file)
	nc, js := w.connect()
	s := &Service{cfg: cfg, log: zerolog.Nop(), owner: file, started: time.Now(), nc: nc, js: js, store: unclosed{w.store},
		budget: appendsink.NewBudget(cfg.Limits.Memory)}
	defer s.Close()
	err := s.openArchive(w.t.Context(), func(string, string) (*appendsink.Metrics, *intake.Metrics) {
		return new(appendsink.Metrics), new(intake.Metrics)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	body()
	w.until(end - time.Second)
	for _, r := range s.NotReady() {
		w.t.Errorf("with %s: not ready: %+v", file, r)
	}
	cancel()
	if err := <-done; err != nil {
		w.t.Fatalf("with %s: %v", file, err)
	}
	w.until(end)
}

func firstConfig(t *testing.T, file string) *config.Config {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(firstDir, file))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse(file, text, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// dump is the ledger: its values by key.
func (w *firstWorld) dump() map[string]json.RawMessage {
	nc, js := w.connect()
	defer nc.Close()
	l, err := ledger.Open(w.t.Context(), js, ledger.Config{Archive: "first"})
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := l.All(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	values := map[string]json.RawMessage{}
	for _, e := range all {
		values[e.Key] = e.Value
	}
	return values
}

// TestWriteFirst makes testdata/v1, or what the present program would write.
func TestWriteFirst(t *testing.T) {
	if *writeFirst == "" {
		t.Skip("writes an archive; -write-first DIR")
	}
	simulate(t, func(t *testing.T) {
		w := newFirstWorld(t)
		w.until(time.Second)
		w.writer("config-1.yaml", firstEnd, func() {
			half := slices.IndexFunc(firstActs, func(a act) bool { return a.at > foreignAt })
			w.publish(firstActs[:half])
			w.until(foreignAt)
			w.store.AppendRaw(firstBreaks, []byte("{\"from\":\"somebody else\"}\n"))
			w.publish(firstActs[half:])
		})
		w.writer("config-2.yaml", secondEnd, func() { w.publish(secondActs) })
		for _, key := range w.store.Keys() {
			name := filepath.Join(*writeFirst, "objects", filepath.FromSlash(key))
			writeFile(t, name, w.store.Bytes(key))
		}
		text, err := json.MarshalIndent(w.dump(), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(*writeFirst, "ledger.json"), append(text, '\n'))
	})
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := cmp.Or(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, data, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// The present program goes on behind the first archive, with the ledger that was
// left and without one: it changes no byte of what is there, archives each later
// event once, and the whole is proven.
func TestGoesOnBehindTheFirst(t *testing.T) {
	before := map[string][]byte{}
	root := os.DirFS(filepath.Join(firstDir, "objects"))
	err := fs.WalkDir(root, ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			before[name], err = fs.ReadFile(root, name)
		}
		return err
	})
	if err != nil || len(before) == 0 {
		t.Fatalf("no archive of the first version: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(firstDir, "ledger.json"))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &values); err != nil || len(values) == 0 {
		t.Fatalf("ledger.json holds %d entries: %v", len(values), err)
	}
	if got := sumOf(before); got != firstSum {
		t.Errorf("testdata/v1/objects has the sum %s, not %s: it stays as the first version wrote it; what a later one writes belongs into a directory of its own", got, firstSum)
	}
	for _, left := range []string{"ledger", "no ledger"} {
		t.Run(left, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newFirstWorld(t)
				for key, data := range before {
					switch {
					case strings.HasSuffix(key, ".json"): // layouts
						w.store.Put(key, data)
					default:
						w.store.AppendRaw(key, data)
					}
				}
				w.publish(firstActs)
				w.publish(secondActs)
				w.until(secondEnd)
				if left == "ledger" {
					w.load(values)
				}
				w.writer("config-2.yaml", laterEnd, func() { w.publish(laterActs) })
				w.check(before)
			})
		})
	}
}

// sumOf is one hash over all objects, by their keys.
func sumOf(objects map[string][]byte) string {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		fmt.Fprintf(h, "%s %d\n%s", key, len(objects[key]), objects[key])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// load makes the ledger that was dumped.
func (w *firstWorld) load(values map[string]json.RawMessage) {
	nc, js := w.connect()
	defer nc.Close()
	if _, err := ledger.Open(w.t.Context(), js, ledger.Config{Archive: "first", Create: true}); err != nil {
		w.t.Fatal(err)
	}
	kv, err := js.KeyValue(w.t.Context(), ledger.BucketPrefix+"first")
	if err != nil {
		w.t.Fatal(err)
	}
	for key, value := range values {
		var compact bytes.Buffer
		err := json.Compact(&compact, value)
		if err == nil {
			_, err = kv.Put(w.t.Context(), key, compact.Bytes())
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *firstWorld) check(before map[string][]byte) {
	w.t.Helper()
	grown := 0
	for key, data := range before {
		now := w.store.Bytes(key)
		if !bytes.HasPrefix(now, data) {
			w.t.Errorf("%s: the bytes of the first version have changed", key)
		}
		if len(now) > len(data) && !strings.Contains(key, "_ossuary/") {
			grown++
		}
	}
	if grown == 0 {
		w.t.Error("no segment of the first version has grown: nobody went on behind it")
	}
	report, err := archive.Verify(w.t.Context(), archive.Options{Archive: "first", Prefix: "shop/", Store: w.store})
	if err != nil {
		w.t.Fatal(err)
	}
	skips, dead := 0, 0
	published := slices.Concat(firstActs, secondActs, laterActs)
	from := len(firstActs) + len(secondActs)
	later := map[uint64]act{}
	for i, a := range published {
		switch {
		case strings.HasPrefix(a.subject, "orders.skip."):
			skips++
		case a.dead:
			dead++
		case i >= from:
			later[uint64(i+1)] = a
		}
	}
	if report.Result != archive.OK || int(report.Skipped) != skips || int(report.DeadLetters) != dead || int(report.Events) != len(published)-skips-dead {
		w.t.Errorf("%d events published, of them %d not to be archived and %d dead letters: %+v", len(published), skips, dead, report)
	}
	for r, err := range (&archive.Reader{Store: w.store, Prefix: "shop/", Archive: "first"}).Cat(w.t.Context(), archive.Selection{From: uint64(from + 1)}) {
		if err != nil {
			w.t.Fatal(err)
		}
		e, err := r.Event()
		if err != nil {
			w.t.Fatal(err)
		}
		a, ok := later[r.Sequence]
		if !ok || e.Subject != a.subject || string(e.Data) != a.data || !r.Time.Equal(w.began.Add(a.at)) {
			w.t.Errorf("sequence %d is archived as %+v, published was %+v (%v)", r.Sequence, e, a, ok)
		}
		delete(later, r.Sequence)
	}
	if len(later) > 0 {
		w.t.Errorf("not archived: %s", fmt.Sprint(later))
	}
}
