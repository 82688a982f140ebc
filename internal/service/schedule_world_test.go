package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"ossuary/internal/appendsink"
	"ossuary/internal/config"
	"ossuary/internal/control"
	"ossuary/internal/embedded/fakenats"
	"ossuary/internal/intake"
	"ossuary/internal/object/objecttest"
)

const (
	scheduleArchive = "sched"
	scheduleStream  = "EVENTS"
	schedulePrefix  = "p/"
	scheduleDead    = "_ossuary/dead/EVENTS/0"
	scheduleBucket  = "KV_OSSUARY_" + scheduleArchive

	scheduleTTL   = 2 * time.Second
	scheduleAudit = 1307 * time.Millisecond // no multiple of another period: few things happen at once
	scheduleEvent = 600                     // bytes; larger events are poison
)

// scheduleVariants are the configurations that writers may have.
var scheduleVariants = []struct{ series, codec string }{
	{"a/{{token(2)}}", "gzip"},
	{"b/{{token(2)}}", "plain"},
	{"a/{{token(2)}}", "zstd"},
	{"all/{{token(3)}}", "gzip"},
}

// world is one schedule: a stream, a server, a bucket, and writers.
type world struct {
	t     testing.TB
	seed  uint64
	plan  *plan
	log   zerolog.Logger
	srv   *fakenats.Server
	store *objecttest.Store
	truth *truth
	slots []*slot
	all   []*process // that ever ran; guarded by mu
	began time.Time
	peace atomic.Bool
	wg    sync.WaitGroup // processes

	publishing *published // under the server's lock

	mu      sync.Mutex
	counts  map[string]int
	failed  int
	digest  uint64
	events  int      // traced
	story   []string // the trace, if wanted
	tell    bool
	out     *objecttest.Fault // of requests to the store, while it lasts
	outOf   string            // of those only whose key has this in it
	lag     uint64
	sinks   appendsink.Metrics
	running map[string]int // epochs begun, by process
}

func newWorld(t testing.TB, seed uint64, tell bool) *world {
	w := &world{t: t, seed: seed, log: zerolog.Nop(), store: objecttest.New(), began: time.Now(), tell: tell,
		counts: map[string]int{}, running: map[string]int{}, digest: seed}
	if os.Getenv("OSSUARY_TEST_LOG") != "" {
		w.log = zerolog.New(zerolog.NewConsoleWriter(func(c *zerolog.ConsoleWriter) {
			c.Out, c.NoColor, c.TimeFormat = os.Stderr, true, "05.000000"
		})).Level(zerolog.DebugLevel).With().Timestamp().Logger()
		zerolog.TimeFieldFormat = time.RFC3339Nano
	}
	w.plan = newPlan(seed)
	w.truth = newTruth(w)
	links := map[string]uint64{}
	var lost uint64
	w.srv = fakenats.New(fakenats.Options{
		Delay: func(link string, up bool, n uint64) time.Duration {
			id, ok := links[link]
			if !ok {
				id = mix(seed ^ text(link))
				links[link] = id
			}
			if up {
				id++
			}
			return span(mix(id^n*0x9e3779b97f4a7c15), 50*time.Microsecond, 3*time.Millisecond)
		},
		Lose: func(link string, what fakenats.Loss) bool {
			lost++
			rate := map[fakenats.Loss]float64{fakenats.LoseReply: w.plan.loseReply, fakenats.LoseDelivery: w.plan.loseDelivery, fakenats.LoseAck: w.plan.loseAck}[what]
			hit := chance(mix(seed^text(string(what))^lost*0x9e3779b97f4a7c15), w.rate(rate))
			w.count("lost: "+string(what), hit)
			return hit
		},
		Lag: func(stream string) uint64 {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.lag > 0 {
				w.counts["stale reads"]++
			}
			return w.lag
		},
		Silent:  func(string) bool { lost++; return mix(seed^lost)%3 == 0 },
		Stored:  w.truth.stored,
		Removed: w.truth.removed,
		Acked:   w.truth.acknowledged,
		Trace:   w.trace,
	})
	w.srv.CreateStream(jetstream.StreamConfig{Name: scheduleStream, Retention: w.plan.retention,
		Subjects: []string{"events.>", "skip.>", "other.>"}})
	return w
}

// rate is how often something goes wrong.
func (w *world) rate(p float64) float64 {
	if w.peace.Load() {
		return 0
	}
	return p
}

func (w *world) outage(key string) *objecttest.Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !strings.Contains(key, w.outOf) {
		return nil
	}
	return w.out
}

func (w *world) count(what string, yes bool) {
	if !yes {
		return
	}
	w.mu.Lock()
	w.counts[what]++
	w.mu.Unlock()
}

// errorf may be called under any lock.
func (w *world) errorf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed++; w.failed <= 10 {
		w.t.Errorf("%s: "+format, append([]any{time.Since(w.began)}, args...)...)
		if w.tell {
			w.story = append(w.story, fmt.Sprintf("%s FAILED: "+format, append([]any{time.Since(w.began)}, args...)...))
		}
	}
}

// trace notes something that happened outside of the processes.
func (w *world) trace(who, what, name string, n uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.HasPrefix(name, "_INBOX") {
		name = "inbox"
	}
	at := time.Since(w.began)
	w.events++
	// A sum: at one instant it does not matter who came first.
	w.digest += mix(uint64(at) ^ text(who)*3 ^ text(what)*5 ^ text(name)*7 ^ n*11)
	if w.tell {
		w.story = append(w.story, fmt.Sprintf("%13.9f %-6s %-24s %s %d", at.Seconds(), who, what, name, n))
	}
}

// slot is where one process after the other runs.
type slot struct {
	w       *world
	name    string
	variant int

	mu         sync.Mutex
	p          *process
	generation int
	delay      time.Duration // before the next one starts
	stopped    bool
	quit       chan struct{} // closed when stopped
}

func (s *slot) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p
}

// stop ends the process cleanly, and none follows it.
func (s *slot) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.stopped = true
	close(s.quit)
	if s.p != nil {
		s.p.cancel()
	}
}

// loop starts processes until quit.
func (s *slot) loop() {
	for {
		s.mu.Lock()
		if s.stopped {
			s.mu.Unlock()
			return
		}
		s.generation++
		p := s.w.newProcess(fmt.Sprintf("%s.%d", s.name, s.generation), s.name, s.variant)
		s.p, s.delay = p, span(mix(p.id+9), 20*time.Millisecond, 300*time.Millisecond)
		s.mu.Unlock()
		s.w.wg.Go(p.main)
		select {
		case <-p.done:
			var fatal *intake.FatalError
			if errors.As(p.err, &fatal) {
				if !errors.Is(fatal, control.ErrNewerLayout) {
					s.w.errorf("%s gave up: %v", p.name, fatal)
				}
				s.w.count("superseded", true)
				s.mu.Lock()
				s.variant = s.w.truth.newest()
				s.mu.Unlock()
			}
		case <-p.killed:
		}
		s.mu.Lock()
		wait := time.NewTimer(s.delay)
		s.mu.Unlock()
		select {
		case <-s.quit:
		case <-wait.C:
		}
		wait.Stop()
	}
}

// newest is the variant of the newest layout.
func (t *truth) newest() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.control.Layouts)
	if n == 0 {
		return 0
	}
	return t.variants[t.control.Layouts[n-1].Layout]
}

// process is one run of the service.
type process struct {
	w      *world
	name   string
	owner  string
	id     uint64
	cfg    *config.Config
	link   *fakenats.Link
	bucket *bucketWire
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	killed chan struct{}
	once   sync.Once
	err    error // once done is closed
	frozen atomic.Bool
}

func (w *world) newProcess(name, slot string, variant int) *process {
	p := &process{w: w, name: name, owner: name, id: mix(w.seed ^ text(name)), cfg: w.config(variant),
		link: w.srv.Link(name), done: make(chan struct{}), killed: make(chan struct{})}
	if p.cfg.Lease.Disabled {
		p.owner = slot
	}
	p.bucket = &bucketWire{w: w, name: name, id: p.id + 3, counts: map[string]uint64{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	w.mu.Lock()
	w.all = append(w.all, p)
	w.mu.Unlock()
	return p
}

// config is what a process runs with.
func (w *world) config(variant int) *config.Config {
	v, pl := scheduleVariants[variant], w.plan
	route := config.Route{Name: "events", Subjects: []string{"events.>"}, Series: v.series,
		Format: "envelope", Codec: v.codec, Payload: "auto", Newline: "refuse",
		Flush: config.Flush{Size: 500, Events: pl.flushEvents, Linger: pl.linger},
		Roll:  config.Roll{Size: pl.rollSize, Idle: pl.rollIdle}}
	skip := route
	skip.Name, skip.Subjects, skip.Skip, skip.Codec = "skip", []string{"skip.>"}, true, "gzip"
	return &config.Config{
		Archive: config.Archive{Name: scheduleArchive},
		NATS:    config.NATS{Name: "schedule"},
		OSS:     config.OSS{Prefix: schedulePrefix},
		Sources: []config.Source{{Stream: scheduleStream, Lanes: 1, Routes: []config.Route{route, skip}}},
		Defaults: config.Defaults{Format: "envelope", Codec: "gzip", Payload: "auto",
			Flush: config.Flush{Size: 500, Events: 4, Linger: pl.linger}, Roll: config.Roll{Size: 3000}},
		Limits: config.Limits{Memory: pl.memory, OpenSeries: pl.openSeries, ParallelAppends: 4, MaxAckPending: pl.maxAckPending, MaxEvent: scheduleEvent},
		Ledger: config.Ledger{Replicas: 1, Interval: 310 * time.Millisecond},
		Lease:  config.Lease{TTL: scheduleTTL, Disabled: pl.leaseOff, Replace: true},
		Intake: config.Intake{Audit: scheduleAudit, DrainTimeout: scheduleTTL},
	}
}

// main runs the service as Run does, over the connections of the schedule.
func (p *process) main() {
	defer close(p.done)
	defer p.cancel()
	p.err = p.run()
	p.w.trace(p.name, "ended", fmt.Sprint(p.err != nil), 0)
}

func (p *process) run() error {
	opts, err := natsOptions(p.cfg.NATS, new(denials), p.w.log)
	if err != nil {
		return err
	}
	var tries uint64
	nc, err := nats.Connect("nats://127.0.0.1:4222", append(opts, nats.SetCustomDialer(p.link),
		nats.CustomReconnectDelay(func(int) time.Duration {
			tries++
			return span(mix(p.id+tries), 30*time.Millisecond, 700*time.Millisecond)
		}))...)
	if err != nil {
		return err
	}
	s := &Service{cfg: p.cfg, log: p.w.log.With().Str("who", p.name).Logger(), owner: p.owner, started: time.Now(), nc: nc, store: p.bucket,
		budget: appendsink.NewBudget(p.cfg.Limits.Memory), horizon: p.w.plan.horizon}
	defer s.Close()
	if s.js, err = openJetStream(p.ctx, nc, p.cfg.NATS); err != nil {
		return err
	}
	if err := s.openArchive(p.ctx, p.measure); err != nil {
		return err
	}
	defer func() {
		for _, l := range s.lanes {
			addMetrics(&p.w.sinks, l.sinkMetrics)
		}
	}()
	return s.Run(p.ctx)
}

func (p *process) measure(string, string) (*appendsink.Metrics, *intake.Metrics) {
	return new(appendsink.Metrics), &intake.Metrics{
		EpochStarted: func(n uint64) {
			p.w.trace(p.name, "epoch", "", n)
			p.w.mu.Lock()
			defer p.w.mu.Unlock()
			p.w.counts["epochs"]++
			p.w.running[p.name]++
		},
		EpochEnded: func(reason string) {
			p.w.trace(p.name, "epoch ended", reason, 0)
			p.w.count("end: "+reason, true)
		},
		Incarnation: func(n int) { p.w.errorf("%s begins incarnation %d of a stream that was never rewound", p.name, n) },
	}
}

func addMetrics(to, from *appendsink.Metrics) {
	to.Appends.Add(from.Appends.Load())
	to.Refusals.Add(from.Refusals.Load())
	to.Doubts.Add(from.Doubts.Load())
	to.Garbled.Add(from.Garbled.Load())
	to.Adoptions.Add(from.Adoptions.Load())
	to.AdoptedEvents.Add(from.AdoptedEvents.Load())
	to.AlreadyHeld.Add(from.AlreadyHeld.Load())
	to.Breaks.Add(from.Breaks.Load())
	to.Seals.Add(from.Seals.Load())
	to.Overtaken.Add(from.Overtaken.Load())
	to.DeadLetters.Add(from.DeadLetters.Load())
	to.Forgotten.Add(from.Forgotten.Load())
	for i := range from.Holds {
		to.Holds[i].Add(from.Holds[i].Load())
	}
	to.LedgerConflicts.Add(from.LedgerConflicts.Load())
}

// kill ends the process at once: nothing that it does from now on reaches anybody,
// apart from what was on its way.
func (p *process) kill(lose bool, blind time.Duration) {
	p.once.Do(func() {
		p.w.trace(p.name, "killed", "", 0)
		p.link.Sever(lose, blind)
		p.bucket.die()
		p.cancel()
		close(p.killed)
	})
}

// freeze stops what the process sends and gets, for d: to everybody else it is
// paused, and then it goes on from where it stood.
func (p *process) freeze(d time.Duration) {
	select {
	case <-p.killed:
		return
	default:
	}
	if p.frozen.Swap(true) {
		return
	}
	w := p.w
	w.trace(p.name, "frozen", "", uint64(d))
	before := w.epochsOfOthers(p.name)
	p.link.Freeze()
	p.bucket.freeze()
	time.AfterFunc(d, func() {
		w.count("zombies", p.thaw() && w.epochsOfOthers(p.name) > before)
	})
}

// thaw reports whether the process was frozen and goes on.
func (p *process) thaw() bool {
	if !p.frozen.Swap(false) {
		return false
	}
	select {
	case <-p.killed:
		return false
	default:
	}
	p.w.trace(p.name, "thawed", "", 0)
	p.bucket.thaw()
	p.link.Thaw()
	return true
}

// epochsOfOthers counts the epochs that other processes have begun.
func (w *world) epochsOfOthers(name string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for who, epochs := range w.running {
		if who != name {
			n += epochs
		}
	}
	return n
}

// publish stores the next message.
func (w *world) publish(p *published) {
	w.publishing = p
	var header []byte
	if p.header[0] != "" {
		header = fmt.Appendf(nil, "NATS/1.0\r\n%s: %s\r\n\r\n", p.header[0], p.header[1])
	}
	if seq := w.srv.Publish(scheduleStream, p.subject, header, []byte(p.data)); seq > 0 {
		w.trace("", "published", p.subject, seq)
	}
}
