package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"ossuary/internal/control"
	"ossuary/internal/embedded"
	"ossuary/internal/embedded/embeddedtest"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
	"ossuary/internal/router"
)

const (
	testArchive = "test"
	testStream  = "EVENTS"
)

// rig is a NATS server, an object store and what the lanes archived.
type rig struct {
	t     *testing.T
	srv   *embedded.Server
	js    jetstream.JetStream // of the test itself
	store *objecttest.Store
	arch  *fakeArchive
	want  map[string][]uint64 // series -> sequences
}

func newRig(t *testing.T, retention jetstream.RetentionPolicy) *rig {
	t.Helper()
	r := &rig{t: t, srv: embeddedtest.Start(t), store: objecttest.New(),
		arch: &fakeArchive{series: map[string][]record{}}, want: map[string][]uint64{}}
	_, r.js = embeddedtest.Connect(t, r.srv)
	r.stream(retention)
	return r
}

func (r *rig) stream(retention jetstream.RetentionPolicy) {
	r.t.Helper()
	embeddedtest.CreateStream(r.t, r.js, jetstream.StreamConfig{Name: testStream, Retention: retention,
		Subjects: []string{"events.>", "skip.>", "other.>"}})
}

func (r *rig) ctx() context.Context { return r.t.Context() }

// publish stores n messages on subjects of several series, some of which are
// skipped or have no route.
func (r *rig) publish(n int) {
	r.t.Helper()
	for i := range n {
		subject := fmt.Sprintf("events.s%d.x", rand.N(5))
		switch i % 10 {
		case 7:
			subject = "skip.x"
		case 9:
			subject = "other.x"
		}
		ack, err := r.js.Publish(r.ctx(), subject, []byte(subject))
		if err != nil {
			r.t.Fatal(err)
		}
		if name, ok := strings.CutPrefix(subject, "events."); ok {
			series := "x/" + strings.TrimSuffix(name, ".x")
			r.want[series] = append(r.want[series], ack.Sequence)
		}
	}
}

func testLayout() router.Layout {
	return router.Layout{Version: router.LayoutVersion, Archive: testArchive, Source: testStream, Lanes: 1, MaxEvent: 1 << 20,
		EscapeVersion: router.EscapeVersion, EncoderVersion: router.EncoderVersion,
		Routes: []router.Route{
			{Name: "events", Subjects: []string{"events.>"}, Series: "x/{{token(2)}}", Format: "envelope", Codec: "gzip", Payload: "auto", Newline: "refuse"},
			{Name: "skip", Subjects: []string{"skip.>"}, Skip: true, Format: "envelope", Codec: "gzip", Payload: "auto", Newline: "refuse"},
		}}
}

// process is a lane as it runs in a process of its own: with a connection and a
// way to the store that kill takes away.
type process struct {
	r      *rig
	lane   *Lane
	nc     *nats.Conn
	log    *control.Log
	dead   atomic.Bool
	gate   atomic.Pointer[chan struct{}] // Put waits for it
	stopIt context.CancelFunc
	done   chan error

	mu      sync.Mutex
	epochs  []string // reasons for which they ended
	broken  []string // what Put saw that must not be
	puts    int
	expired uint64
	audits  atomic.Int32
}

// start runs a lane. mods change its options.
func (r *rig) start(owner string, mods ...func(*Options)) *process {
	r.t.Helper()
	nc, err := nats.Connect(r.srv.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // the default prints
	if err != nil {
		r.t.Fatal(err)
	}
	return r.startOn(nc, owner, mods...)
}

func (r *rig) startOn(nc *nats.Conn, owner string, mods ...func(*Options)) *process {
	r.t.Helper()
	p := &process{r: r, nc: nc, done: make(chan error, 1)}
	js, err := jetstream.New(nc)
	if err != nil {
		r.t.Fatal(err)
	}
	log := zerolog.New(zerolog.NewTestWriter(r.t)).With().Str("who", owner).Logger()
	if !testing.Verbose() {
		log = zerolog.Nop()
	}
	led, err := ledger.Open(r.ctx(), js, ledger.Config{Archive: testArchive, Create: true, Log: log})
	if err != nil {
		r.t.Fatal(err)
	}
	store := &wire{store: r.store, dead: &p.dead}
	p.log, err = control.Open(r.ctx(), store, control.Options{Archive: testArchive, Source: testStream, Writer: owner, Log: log})
	if err != nil {
		r.t.Fatal(err)
	}
	o := Options{Archive: testArchive, Source: testStream, Lane: router.FirstLane, Owner: owner,
		JS: js, Ledger: led, Control: p.log, Store: store, Layout: testLayout(), NewSink: p.sink,
		MaxAckPending: 1000, LeaseTTL: 500 * time.Millisecond, AuditEvery: 50 * time.Millisecond, DrainTimeout: 5 * time.Second,
		HorizonMin: 20, Log: log,
		Metrics: &Metrics{
			EpochEnded: func(reason string) { p.mu.Lock(); p.epochs = append(p.epochs, reason); p.mu.Unlock() },
			Lag:        func(uint64, int) { p.audits.Add(1) },
			Expired:    func(n uint64) { p.mu.Lock(); p.expired += n; p.mu.Unlock() },
		}}
	for _, m := range mods {
		m(&o)
	}
	p.lane = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	p.stopIt = cancel
	go func() { p.done <- p.lane.Run(ctx) }()
	r.t.Cleanup(func() {
		p.kill()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, b := range p.broken {
			r.t.Errorf("%s: %s", owner, b)
		}
	})
	return p
}

// kill ends the process without a farewell: from one moment on nothing it does
// reaches anybody.
func (p *process) kill() {
	if p.dead.Swap(true) {
		return
	}
	p.nc.Close()
	p.stopIt()
	<-p.done
}

// stop ends the lane cleanly.
func (p *process) stop() {
	p.r.t.Helper()
	p.stopIt()
	select {
	case err := <-p.done:
		if err != nil {
			p.r.t.Fatalf("Run: %v", err)
		}
	case <-time.After(10 * time.Second):
		p.r.t.Fatal("the lane does not stop")
	}
	p.dead.Store(true)
	p.nc.Close()
}

// fails waits for Run to give up.
func (p *process) fails() *FatalError {
	p.r.t.Helper()
	select {
	case err := <-p.done:
		p.dead.Store(true)
		p.nc.Close()
		var fatal *FatalError
		if !errors.As(err, &fatal) {
			p.r.t.Fatalf("Run: %v, want a FatalError", err)
		}
		if fatal.Mend == "" {
			p.r.t.Errorf("no mend in %v", fatal)
		}
		return fatal
	case <-time.After(10 * time.Second):
		p.r.t.Fatalf("the lane does not give up, it is %+v", p.lane.Status())
		return nil
	}
}

func (p *process) ended() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.epochs...)
}

func (p *process) handed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.puts
}

// block makes Put wait until the function that it returns is called.
func (p *process) block() (release func()) {
	gate := make(chan struct{})
	p.gate.Store(&gate)
	return sync.OnceFunc(func() { close(gate) })
}

// wire is the way of one process to the store.
type wire struct {
	store *objecttest.Store
	dead  *atomic.Bool
	after func() // each append; may be nil
}

func (w *wire) cut() error {
	if w.dead.Load() {
		return &object.Error{Kind: object.Refused, Message: "this process is dead"}
	}
	return nil
}

func (w *wire) Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error) {
	if err := w.cut(); err != nil {
		return object.Appended{}, err
	}
	done, err := w.store.Append(ctx, key, position, body, c)
	if w.after != nil {
		w.after()
	}
	return done, err
}

func (w *wire) Head(ctx context.Context, key string) (object.Info, error) {
	if err := w.cut(); err != nil {
		return object.Info{}, err
	}
	return w.store.Head(ctx, key)
}

func (w *wire) Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	if err := w.cut(); err != nil {
		return nil, err
	}
	return w.store.Read(ctx, key, from, to)
}

func (w *wire) List(ctx context.Context, prefix string, fn func(object.Entry) error) error {
	if err := w.cut(); err != nil {
		return err
	}
	return w.store.List(ctx, prefix, fn)
}

// wait waits for a condition of other goroutines and of the server, or fails the
// test.
func (r *rig) wait(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			r.t.Fatalf("never happened: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// complete reports whether everything published is archived.
func (r *rig) complete() bool {
	n := 0
	for _, s := range r.want {
		n += len(s)
	}
	return r.arch.count() >= n
}

// check compares the archive with what was published: all of it, once, in order.
func (r *rig) check() {
	r.t.Helper()
	r.wait("everything is archived", r.complete)
	r.arch.mu.Lock()
	defer r.arch.mu.Unlock()
	for name, want := range r.want {
		var got []uint64
		for _, x := range r.arch.series[name] {
			got = append(got, x.sequence)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			r.t.Errorf("series %s holds\n%v\nwant\n%v", name, got, want)
		}
	}
}

func (r *rig) info() *jetstream.StreamInfo {
	r.t.Helper()
	s, err := r.js.Stream(r.ctx(), testStream)
	if err != nil {
		r.t.Fatal(err)
	}
	return s.CachedInfo()
}

// state reads the control log anew.
func (r *rig) state() control.State {
	r.t.Helper()
	l, err := control.Open(r.ctx(), r.store, control.Options{Archive: testArchive, Source: testStream})
	if err != nil {
		r.t.Fatal(err)
	}
	return l.State()
}

// proxy passes TCP on to the server until it is cut. While it swallows, what the
// server sends gets lost on the way.
type proxy struct {
	l       net.Listener
	swallow atomic.Bool
	mu      sync.Mutex
	conns   []net.Conn
}

func (r *rig) proxy() *proxy {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	p := &proxy{l: l}
	r.t.Cleanup(func() { l.Close(); p.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", strings.TrimPrefix(r.srv.ClientURL(), "nats://"))
			if err != nil {
				c.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, c, up)
			p.mu.Unlock()
			go func() { _, _ = io.Copy(up, c); up.Close() }()
			go func() { _, _ = io.Copy(throat{p, c}, up); c.Close() }()
		}
	}()
	return p
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

type throat struct {
	p *proxy
	net.Conn
}

func (t throat) Write(b []byte) (int, error) {
	if t.p.swallow.Load() {
		return len(b), nil
	}
	return t.Conn.Write(b)
}
