//go:build unix

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/embedded"
	"ossuary/internal/ossemu"
)

const (
	archiveName = "torture"
	bucketName  = "bucket"
	keyPrefix   = "archive/"
	accessKey   = "e2e-key"
	secretKey   = "e2e-secret"

	// ledgerStream holds the KV bucket of the ledger.
	ledgerBucket = "OSSUARY_" + archiveName

	// How long the archive may take to catch up after faults have stopped.
	patience = 3 * time.Minute
)

// program is the real thing, built once for all tests.
var program string

// Environment of the test binary when it is started as a NATS server.
const natsDirEnv, natsPortEnv = "OSSUARY_E2E_NATS_DIR", "OSSUARY_E2E_NATS_PORT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(natsDirEnv); dir != "" {
		os.Exit(serveNATS(dir, os.Getenv(natsPortEnv)))
	}
	dir, err := os.MkdirTemp("", "ossuary-e2e-bin-")
	if err == nil {
		err = build(dir)
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

func build(dir string) error {
	program = filepath.Join(dir, "consumer")
	args := []string{"build", "-o", program}
	if os.Getenv("OSSUARY_RACE") != "" {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "../cmd/consumer")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("building the binary: %w\n%s", err, out)
	}
	return nil
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

// serveNATS is the life of a child process.
func serveNATS(dir, port string) int {
	n, err := strconv.Atoi(port)
	if err == nil {
		_, err = embedded.Start(embedded.Options{StoreDir: dir, Port: n, ServerName: "e2e"})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	return 0 // as rough as a kill; the store must bear it
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

	nats       *natsServer
	store      *store
	natsProxy  *proxy // what the instances connect to
	storeProxy *proxy

	js         jetstream.JetStream // the test's own, past the proxy
	publishers []*publisher
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
	w.nats = &natsServer{port: w.freePort()}
	w.nats.process = w.newProcess("nats", func() *exec.Cmd {
		cmd := exec.Command(must(os.Executable()), "-test.run=^$")
		cmd.Env = append(os.Environ(), natsDirEnv+"="+filepath.Join(dir, "nats"), fmt.Sprintf("%s=%d", natsPortEnv, w.nats.port))
		return cmd
	})
	w.store = &store{addr: fmt.Sprintf("127.0.0.1:%d", w.freePort())}
	w.store.process = w.newProcess("store", func() *exec.Cmd {
		return exec.Command(program, "emulator", "--listen", w.store.addr, "--dir", filepath.Join(dir, "oss"),
			"--bucket", bucketName, "--access-key", accessKey, "--secret-key", secretKey, "--admin")
	})
	w.nats.start()
	w.store.start()
	w.natsProxy = newProxy(t, fmt.Sprintf("127.0.0.1:%d", w.nats.port))
	w.storeProxy = newProxy(t, w.store.addr)
	nc, err := nats.Connect(w.nats.url(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	_, err = w.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: streamName, Subjects: []string{"ev.>"}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// freePort is a port that stays ours over restarts: none of those that the
// system gives to outgoing connections.
func (w *world) freePort() int {
	for range 100 {
		port := 15000 + rand.IntN(15000)
		if _, taken := ports.LoadOrStore(port, true); taken {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			return port
		}
	}
	w.t.Fatal("no free port")
	return 0
}

// ports are those that tests of this process were given.
var ports sync.Map

// natsServer is a NATS server with JetStream and a file store in a process of
// its own. kill and start leave port and files as they are.
type natsServer struct {
	*process
	port int
}

func (s *natsServer) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.port) }

func (s *natsServer) start() {
	s.t.Helper()
	s.process.start()
	eventually(s.t, 30*time.Second, "NATS serves", func() (bool, string) {
		if !s.alive() {
			s.t.Fatalf("NATS ended: %s", s.logTail(10))
		}
		nc, err := nats.Connect(s.url(), nats.Timeout(2*time.Second), nats.NoReconnect())
		if err != nil {
			return false, err.Error()
		}
		defer nc.Close()
		js := must(jetstream.New(nc))
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, err = js.AccountInfo(ctx)
		return err == nil, fmt.Sprint(err)
	})
}

// quiet keeps a client from printing that its server is away.
var quiet = nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})

// store is the emulator in a process of its own. Rules for faults are gone when
// it was started again.
type store struct {
	*process
	addr string
}

func (s *store) start() {
	s.t.Helper()
	s.process.start()
	eventually(s.t, 30*time.Second, "the store serves", func() (bool, string) {
		if !s.alive() {
			s.t.Fatalf("the store ended: %s", s.logTail(10))
		}
		resp, err := http.Get("http://" + s.addr + "/_ossemu/counters")
		if err != nil {
			return false, err.Error()
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK, resp.Status
	})
}

func (s *store) admin(method, path string, body, answer any) {
	s.t.Helper()
	b := must(json.Marshal(body))
	req := must(http.NewRequest(method, "http://"+s.addr+"/_ossemu/"+path, bytes.NewReader(b)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatalf("asking the store: %v", err)
	}
	defer resp.Body.Close()
	b, err = io.ReadAll(resp.Body)
	if err == nil && answer != nil {
		err = json.Unmarshal(b, answer)
	}
	if err != nil || resp.StatusCode/100 != 2 {
		s.t.Fatalf("%s %s: %s %v %s", method, path, resp.Status, err, b)
	}
}

// fault plants a rule. Rules with probabilities follow the seed of reseed.
func (s *store) fault(r ossemu.Rule) { s.t.Helper(); s.admin("POST", "faults", r, nil) }

func (s *store) reseed(seed uint64) {
	s.t.Helper()
	s.admin("POST", "seed?n="+strconv.FormatUint(seed, 10), nil, nil)
}

// faults returns the rules with how often they fired.
func (s *store) faults() (out []ossemu.Rule) {
	s.t.Helper()
	s.admin("GET", "faults", nil, &out)
	return out
}

func (s *store) clearFaults() { s.t.Helper(); s.admin("DELETE", "faults", nil, nil) }

// objects is the directory in which the archive's objects lie.
func (w *world) objects() string {
	return filepath.Join(w.dir, "oss", bucketName, filepath.FromSlash(strings.TrimSuffix(keyPrefix, "/")))
}

// instance is `consumer run` with a configuration of its own.
type instance struct {
	*process
	w      *world
	config string // file
	http   string // address

	counted map[string]float64 // metrics of lives that have ended, as last looked at
}

// settings are what instances differ in; the zero value is the usual one.
type settings struct {
	leaseDisabled bool
	leaseTTL      time.Duration // default 500 ms
	ossTimeout    time.Duration // default 5 s
	routes        string        // default: routes
	more          string        // further top-level YAML
}

// instance makes one, without starting it. name must be unlike others'.
func (w *world) instance(name string, s settings) *instance {
	w.t.Helper()
	if s.leaseTTL == 0 {
		s.leaseTTL = 500 * time.Millisecond
	}
	if s.ossTimeout == 0 {
		s.ossTimeout = 5 * time.Second
	}
	if s.routes == "" {
		s.routes = routes
	}
	i := &instance{w: w, config: filepath.Join(w.dir, name+".yaml"), http: fmt.Sprintf("127.0.0.1:%d", w.freePort()), counted: map[string]float64{}}
	text := fmt.Sprintf(`archive: {name: %s}
nats: {url: "nats://%s", name: %s}
oss:
  endpoint: http://%s
  region: cn-hangzhou
  bucket: %s
  prefix: %s
  access_key_id: %s
  access_key_secret: %s
  timeout: %s
sources:
  - stream: %s
    routes:
%slease: {ttl: %s, disabled: %t}
ledger: {interval: 50ms}
intake: {audit: 300ms}
http: {listen: "%s"}
log: {level: debug, format: json}
%s`, archiveName, w.natsProxy.addr, name, w.storeProxy.addr, bucketName, keyPrefix, accessKey, secretKey,
		s.ossTimeout, streamName, s.routes, s.leaseTTL, s.leaseDisabled, i.http, s.more)
	if err := os.WriteFile(i.config, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	i.process = w.newProcess(name, func() *exec.Cmd { return exec.Command(program, "run", "--config", i.config) })
	w.instances = append(w.instances, i)
	return i
}

// start returns when the instance answers, whatever it does then.
func (i *instance) start() {
	i.t.Helper()
	i.process.start()
	eventually(i.t, 30*time.Second, i.name+" answers", func() (bool, string) {
		if !i.alive() {
			i.t.Fatalf("%s ended: %s\n%s", i.name, i.cmd.ProcessState, i.logTail(10))
		}
		_, err := i.status()
		return err == nil, fmt.Sprint(err)
	})
}

// kill notes the metrics and kills.
func (i *instance) kill() { i.t.Helper(); i.note(); i.process.kill() }
func (i *instance) stop() { i.t.Helper(); i.note(); i.process.stop() }

// status is what /status says of the one lane.
type status struct {
	State     string `json:"state"`
	Reason    string `json:"reason"`
	Epoch     uint64 `json:"epoch"`
	Floor     uint64 `json:"floor"`
	Delivered uint64 `json:"delivered"`
	Open      int    `json:"open"`
	Archived  int64  `json:"archived"`
	Appends   int64  `json:"appends"`
	LastErr   string `json:"last_error"`
}

var statusClient = &http.Client{Timeout: 2 * time.Second}

func (i *instance) get(path string) ([]byte, error) {
	resp, err := statusClient.Get("http://" + i.http + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func (i *instance) status() (status, error) {
	b, err := i.get("/status")
	if err != nil {
		return status{}, err
	}
	var doc struct{ Lanes []status }
	if err := json.Unmarshal(b, &doc); err != nil {
		return status{}, err
	}
	if len(doc.Lanes) != 1 {
		return status{}, errors.New("not one lane")
	}
	return doc.Lanes[0], nil
}

// ready is what /readyz answers, 0 if nothing does.
func (i *instance) ready() int {
	resp, err := statusClient.Get("http://" + i.http + "/readyz")
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// waitFor waits until the instance's status is as wanted.
func (i *instance) waitFor(what string, ok func(status) bool) {
	i.t.Helper()
	eventually(i.t, patience, i.name+": "+what, func() (bool, string) {
		if !i.alive() {
			i.t.Fatalf("%s ended: %s\n%s", i.name, i.cmd.ProcessState, i.logTail(20))
		}
		s, err := i.status()
		return err == nil && ok(s), fmt.Sprintf("%+v %v", s, err)
	})
}

func (i *instance) waitFloor(sequence uint64) {
	i.t.Helper()
	i.waitFor(fmt.Sprintf("floor %d", sequence), func(s status) bool { return s.Floor >= sequence })
}

// scrape sums each metric over its labels.
func (i *instance) scrape() (map[string]float64, error) {
	b, err := i.get("/metrics")
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for l := range strings.Lines(string(b)) {
		if strings.HasPrefix(l, "ossuary_") {
			name, value, ok := strings.Cut(strings.TrimSpace(l), " ")
			if end := strings.LastIndexByte(l, '}'); end >= 0 {
				name, value, ok = l[:strings.IndexByte(l, '{')], strings.TrimSpace(l[end+1:]), true
			}
			if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
				out[name] += v
			}
		}
	}
	return out, nil
}

func (i *instance) note() {
	m, err := i.scrape()
	if err != nil {
		return
	}
	for name, v := range m {
		i.counted[name] += v
	}
}

// metric is a counter's value over all lives of the instance, short of what was
// counted between a look and a kill.
func (i *instance) metric(name string) float64 {
	v := i.counted[name]
	if i.alive() {
		if m, err := i.scrape(); err == nil {
			v += m[name]
		}
	}
	return v
}

// metric sums over all instances.
func (w *world) metric(name string) (v float64) {
	for _, i := range w.instances {
		v += i.metric(name)
	}
	return v
}

// published waits until every message was acknowledged to its publisher, and
// returns the stream's last sequence.
func (w *world) published() uint64 {
	w.t.Helper()
	for _, p := range w.publishers {
		p.release(p.total)
		select {
		case <-p.done:
			if p.err != nil {
				w.t.Fatal(p.err)
			}
		case <-time.After(patience):
			w.t.Fatalf("the publisher has %d of %d acknowledgements after %s", p.acked(), p.total, patience)
		}
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	s, err := w.js.Stream(ctx, streamName)
	if err != nil {
		w.t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

// run runs a command of the binary to its end.
func (w *world) run(args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	dieWithUs(cmd)
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// report is what `consumer verify --json` prints.
type report struct {
	Objects, Segments   int
	Events, Skipped     uint64
	DeadLetters         uint64 `json:"dead_letters"`
	Duplicates, Missing uint64
	Problems, Notes     []struct{ Key, Series, What, Mend string }
	Result              string
}

// verify runs `consumer verify` with an instance's configuration.
func (i *instance) verify() (int, report) {
	i.t.Helper()
	code, out, errs := i.w.run("verify", "--config", i.config, "--json", "--log-level", "warn")
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		i.t.Fatalf("verify: exit %d, %v\n%s\n%s", code, err, out, errs)
	}
	return code, r
}

// contents reads what the stream holds now: what must be in the archive.
func (w *world) contents() map[uint64]expected {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	s, err := w.js.Stream(ctx, streamName)
	if err != nil {
		w.t.Fatal(err)
	}
	want := make(map[uint64]expected, s.CachedInfo().State.Msgs)
	if s.CachedInfo().State.Msgs == 0 {
		return want
	}
	cons, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		w.t.Fatal(err)
	}
	it, err := cons.Messages()
	if err != nil {
		w.t.Fatal(err)
	}
	defer it.Stop()
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			w.t.Fatalf("reading the stream: %v", err)
		}
		meta := must(m.Metadata())
		headers := map[string][]string(m.Headers())
		want[meta.Sequence.Stream] = expected{
			series: seriesOf(m.Subject(), headers, meta.Timestamp), subject: m.Subject(), time: meta.Timestamp,
			headers: headers, payload: sha256.Sum256(m.Data()),
		}
		if meta.NumPending == 0 {
			return want
		}
	}
}

// verifier is an instance that is never started: its configuration is for
// commands that read.
func (w *world) verifier() *instance {
	const name = "verifier"
	for _, i := range w.instances {
		if i.name == name {
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
		if len(p.journal) != p.total {
			w.t.Errorf("the journal has %d sequences for %d messages", len(p.journal), p.total)
		}
		for seq, e := range p.journal {
			got, ok := want[seq]
			if !ok || got.payload != e.payload || got.subject != e.subject {
				w.t.Fatalf("the stream does not hold sequence %d as it was acknowledged (message %d)", seq, e.index)
			}
		}
	}
	skipped := 0
	for seq, e := range want {
		if e.series == "" {
			delete(want, seq)
			skipped++
		}
	}
	began = time.Now()
	// Not an instance's own settings: they may be meant to make it suffer.
	code, r := w.verifier().verify()
	verified := time.Since(began)
	began = time.Now()
	if code != 0 || r.Result != "ok" || r.Events != uint64(len(want)) || r.DeadLetters != 0 || r.Duplicates != 0 || r.Missing != 0 {
		w.t.Errorf("verify: exit %d for %d events: %+v", code, len(want), r)
	}
	a, err := readArchive(w.objects())
	if err != nil {
		w.t.Fatalf("the independent reader: %v", err)
	}
	for _, s := range a.compare(want) {
		w.t.Errorf("the independent reader: %s", s)
	}
	w.t.Logf("proven: %d events and %d skipped in %d series, %d segments; reading the stream %.1fs, verify %.1fs, reading the objects %.1fs",
		a.lines, skipped, len(a.series), a.segments, fetched.Seconds(), verified.Seconds(), time.Since(began).Seconds())
}

// ledgerFloor reads the lane's floor from the ledger, 0 if there is none.
func (w *world) ledgerFloor() uint64 {
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
	defer cancel()
	kv, err := w.js.KeyValue(ctx, ledgerBucket)
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
