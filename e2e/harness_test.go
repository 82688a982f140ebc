//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/e2e/reader"
	"ossuary/e2e/rig"
)

// patience is how long the archive may take to catch up after faults have stopped.
const patience = rig.Patience

// program is the real thing, built once for all tests.
var program string

func TestMain(m *testing.M) {
	rig.BeNATS()
	dir, err := os.MkdirTemp("", "ossuary-e2e-bin-")
	if err == nil {
		program = filepath.Join(dir, "consumer")
		err = rig.Build("../cmd/consumer", program, os.Getenv("OSSUARY_RACE") != "")
	}
	code := 1
	if err == nil {
		// The tests wait for processes more than they compute.
		flag.Parse()
		if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
			flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
		}
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// The results of go test are cached by the files that tests look at. The binary
// is built outside of their sight, before they run: here they look at its sources.
func TestResultsDependOnTheProduct(t *testing.T) {
	for _, d := range []string{"../cmd", "../internal", "../go.mod"} {
		err := filepath.WalkDir(d, func(file string, _ fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(file) == ".go" {
				_, err = os.Stat(file)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// size is how much a test does.
type size struct {
	events, rounds int
}

// sized picks by OSSUARY_TORTURE.
func sized(t *testing.T, quick, short, long size) size {
	switch v := os.Getenv("OSSUARY_TORTURE"); v {
	case "":
		return quick
	case "short":
		return short
	case "long":
		return long
	default:
		t.Fatalf("OSSUARY_TORTURE=%s: use short or long", v)
		return quick
	}
}

// world is a NATS server and a store, each a process with a proxy before it, a
// stream, and the instances that archive it.
type world struct {
	t    *testing.T
	dir  string
	seed uint64
	rand *rand.Rand // for the test's own goroutine

	nats       *rig.NATS
	store      *rig.Store
	natsProxy  *rig.Proxy // what the instances connect to
	storeProxy *rig.Proxy

	js         jetstream.JetStream // the test's own, past the proxy
	publishers []*rig.Publisher
	instances  []*instance
}

// newWorld starts both servers and makes the stream.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, seed: rand.Uint64()}
	if s := os.Getenv("OSSUARY_SEED"); s != "" {
		var err error
		if w.seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("OSSUARY_SEED: %v", err)
		}
	}
	t.Logf("OSSUARY_SEED=%d", w.seed)
	w.rand = rand.New(rand.NewPCG(w.seed, 0))
	dir, err := os.MkdirTemp("", "ossuary-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	w.dir = dir
	t.Cleanup(func() {
		if t.Failed() || os.Getenv("OSSUARY_KEEP") != "" {
			t.Logf("files are kept in %s", dir)
			return
		}
		os.RemoveAll(dir)
	})
	w.nats = rig.NewNATS(t, dir, "nats")
	w.store = rig.NewStore(t, program, dir)
	w.nats.Start()
	w.store.Start()
	w.natsProxy = rig.NewProxy(t, fmt.Sprintf("127.0.0.1:%d", w.nats.Port))
	w.storeProxy = rig.NewProxy(t, w.store.Addr)
	nc := rig.Connect(t, w.nats.URL())
	if w.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	_, err = w.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: rig.StreamName, Subjects: []string{"ev.>"}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// objects is the directory in which the archive's objects lie.
func (w *world) objects() string { return w.store.Objects() }

// instance is `consumer run` with a configuration of its own.
type instance struct {
	*rig.Instance
	w *world
	t *testing.T
}

// settings are what instances differ in; the zero value is the usual one.
type settings struct {
	leaseDisabled bool
	leaseTTL      time.Duration
	ossTimeout    time.Duration
	routes        string
	more          string // further top-level YAML
}

// instance makes one, without starting it. name must be unlike others'.
func (w *world) instance(name string, s settings) *instance {
	w.t.Helper()
	i := &instance{w: w, t: w.t, Instance: rig.NewInstance(w.t, program, w.dir, name, rig.Settings{
		NATS: "nats://" + w.natsProxy.Addr, Store: w.storeProxy.Addr, LeaseDisabled: s.leaseDisabled, LeaseTTL: s.leaseTTL,
		OSSTimeout: s.ossTimeout, Routes: s.routes, More: s.more,
	})}
	w.instances = append(w.instances, i)
	return i
}

// metric sums over all instances.
func (w *world) metric(name string) (v float64) {
	for _, i := range w.instances {
		v += i.Metric(name)
	}
	return v
}

// published waits until every message was acknowledged to its publisher, and
// returns the stream's last sequence.
func (w *world) published() uint64 {
	w.t.Helper()
	for _, p := range w.publishers {
		p.Release(p.Total)
		select {
		case <-p.Done:
			if p.Err != nil {
				w.t.Fatal(p.Err)
			}
		case <-time.After(patience):
			w.t.Fatalf("the publisher has %d of %d acknowledgements after %s", p.Acked(), p.Total, patience)
		}
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	s, err := w.js.Stream(ctx, rig.StreamName)
	if err != nil {
		w.t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

// run runs a command of the binary to its end.
func (w *world) run(args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	return rig.Run(w.t, program, 2*time.Minute, args...)
}

// publish starts publishing n messages. They wait until they are released.
func (w *world) publish(n int) *rig.Publisher {
	w.t.Helper()
	p := rig.Publish(w.t, w.nats.URL(), w.rand.Uint64(), n)
	w.publishers = append(w.publishers, p)
	return p
}

// contents reads what the stream holds now: what must be in the archive.
func (w *world) contents() map[uint64]reader.Expected {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	want, err := rig.Messages(ctx, w.js, rig.StreamName, func(subject string, headers map[string][]string, ts time.Time, _ uint64) string {
		return rig.SeriesOf(subject, headers, ts)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return want
}

// verifier is an instance that is never started: its configuration is for
// commands that read.
func (w *world) verifier() *instance {
	const name = "verifier"
	for _, i := range w.instances {
		if i.Name == name {
			return i
		}
	}
	return w.instance(name, settings{ossTimeout: time.Minute})
}

// prove is the end of every test: `consumer verify` finds nothing wrong, and the
// independent reader finds in the raw bytes what the stream holds and the
// publishers were told is stored: every event once, in order, byte by byte.
func (w *world) prove() {
	w.t.Helper()
	began := time.Now()
	want := w.contents()
	fetched := time.Since(began)
	for _, p := range w.publishers {
		journal := p.Journal()
		if len(journal) != p.Total {
			w.t.Errorf("the journal has %d sequences for %d messages", len(journal), p.Total)
		}
		for seq, e := range journal {
			got, ok := want[seq]
			if !ok || got.Payload != e.Payload || got.Subject != e.Subject {
				w.t.Fatalf("the stream does not hold sequence %d as it was acknowledged (message %d)", seq, e.Index)
			}
		}
	}
	skipped := 0
	for seq, e := range want {
		if e.Series == "" {
			delete(want, seq)
			skipped++
		}
	}
	began = time.Now()
	// Not an instance's own settings: they may be meant to make it suffer.
	code, r := w.verifier().Verify()
	verified := time.Since(began)
	began = time.Now()
	if code != 0 || r.Result != "ok" || r.Events != uint64(len(want)) || r.DeadLetters != 0 || r.Duplicates != 0 || r.Missing != 0 {
		w.t.Errorf("verify: exit %d for %d events: %+v", code, len(want), r)
	}
	a, err := reader.Read(w.objects())
	if err != nil {
		w.t.Fatalf("the independent reader: %v", err)
	}
	for _, s := range a.Compare(want).Words {
		w.t.Errorf("the independent reader: %s", s)
	}
	w.t.Logf("proven: %d events and %d skipped in %d series, %d segments; reading the stream %.1fs, verify %.1fs, reading the objects %.1fs",
		a.Lines, skipped, len(a.Series), a.Segments, fetched.Seconds(), verified.Seconds(), time.Since(began).Seconds())
}

// ledgerFloor reads the lane's floor from the ledger, 0 if there is none.
func (w *world) ledgerFloor() uint64 {
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
	defer cancel()
	kv, err := w.js.KeyValue(ctx, rig.LedgerBucket)
	if err != nil {
		return 0
	}
	keys, err := kv.Keys(ctx)
	if err != nil {
		return 0
	}
	for _, k := range keys {
		if strings.HasPrefix(k, "lane.") {
			if e, err := kv.Get(ctx, k); err == nil {
				var lane struct{ Floor uint64 }
				if json.Unmarshal(e.Value(), &lane) == nil {
					return lane.Floor
				}
			}
		}
	}
	return 0
}
