package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"ossuary/internal/appendsink"
	"ossuary/internal/config"
	"ossuary/internal/control"
	"ossuary/internal/intake"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
	"ossuary/internal/objectstore"
	"ossuary/internal/telemetry"
	"ossuary/internal/tracing"
)

// closeGrace is what a stop may take beyond intake.drain_timeout: closing
// connections and the embedded servers.
const closeGrace = 10 * time.Second

// Deps is what a service needs besides its configuration.
type Deps struct {
	Log    zerolog.Logger
	Opened func(*Service) // called once everything answers, before the first event; may be nil

	Load   func() (*config.Config, error) // reads the configuration again; nil: it cannot change
	Reload <-chan os.Signal               // asks for that; may be nil
}

// Run opens the archive and archives until ctx ends, then drains. A nil error
// means a clean stop. In between it takes changes of the configuration and of
// the files that it names, see reload.
func Run(ctx context.Context, cfg *config.Config, d Deps) error {
	r := &reloader{deps: d, log: d.Log}
	if err := r.open(ctx, cfg); err != nil {
		return err
	}
	defer func() { r.service().Close() }()
	if d.Opened != nil {
		d.Opened(r.service())
	}
	return r.service().serve(ctx, r, r.run)
}

// Service is one running archive.
type Service struct {
	cfg     *config.Config
	log     zerolog.Logger
	owner   string
	started time.Time

	local   *Local // nil without embedded servers
	nc      *nats.Conn
	js      jetstream.JetStream
	denied  denials // what the NATS server does not let us do
	store   bucket
	ledger  *ledger.Ledger
	budget  *appendsink.Budget
	lanes   []*lane
	metrics *telemetry.Metrics
	tracing *tracing.Tracing // nil: off
	counts  *counts          // over all reloads
	horizon uint64           // the least that a writer's horizon is raised by, in sequences; 0: the default
	http    net.Listener     // nil if http.listen is empty

	mu       sync.Mutex
	draining bool

	closing sync.Once
}

// Open connects to everything, creates what the configuration says to create,
// and reads no event yet. The caller closes the service.
func Open(ctx context.Context, cfg *config.Config, log zerolog.Logger) (_ *Service, err error) {
	s := &Service{cfg: cfg, log: log, owner: ownerID(cfg), started: time.Now().UTC()}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	limitMemory(cfg, log)
	// First, since it needs nobody else and costs nothing to give back.
	if cfg.HTTP.Listen != "" {
		var lc net.ListenConfig
		if s.http, err = lc.Listen(ctx, "tcp", cfg.HTTP.Listen); err != nil {
			return nil, fmt.Errorf("http.listen %s: %w; choose a free address, or \"\" to do without", cfg.HTTP.Listen, err)
		}
	}
	if cfg.Embedded.Enabled {
		if s.local, err = StartLocal(cfg, log); err != nil {
			return nil, err
		}
	}
	b := ReadBuild()
	s.budget = appendsink.NewBudget(cfg.Limits.Memory)
	s.metrics = telemetry.New(telemetry.Options{
		Archive: cfg.Archive.Name, Version: b.Version, Commit: b.Commit, Budget: s.budget,
	})
	s.configureMetrics()
	s.counts = &counts{measure: s.metrics.Lane}
	if cfg.Tracing.Endpoint != "" {
		s.tracing, err = tracing.Start(ctx, tracing.Options{
			Endpoint: cfg.Tracing.Endpoint, Sample: cfg.Tracing.Sample,
			Archive: cfg.Archive.Name, Owner: s.owner, Version: b.Version, Log: log,
		})
		if err != nil {
			return nil, err
		}
	}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// configureMetrics tells the metrics what the configuration in force has.
func (s *Service) configureMetrics() { s.metrics.Configure(routeNames(s.cfg), s.cfg.Limits.OpenSeries) }

// connect opens what a reload opens anew: the connections, streams, ledger and lanes.
func (s *Service) connect(ctx context.Context) error {
	cfg, log := s.cfg, s.log
	for _, w := range cfg.Warnings {
		log.Warn().Str("setting", w.Path).Str("what", w.What).Str("mend", w.Mend).Msg("configuration")
	}
	var err error
	if s.nc, s.js, err = connectNATS(ctx, cfg, &s.denied, log); err != nil {
		return err
	}
	store, err := openBucket(ctx, cfg, log)
	if err != nil {
		return err
	}
	s.store = seen{bucket: store, metrics: s.metrics, tracing: s.tracing}
	if err := s.openArchive(ctx, s.counts.lane); err != nil {
		return s.denied.explain(err)
	}
	log.Info().Str("archive", cfg.Archive.Name).Str("owner", s.owner).
		Str("nats", s.nc.ConnectedUrlRedacted()).Str("bucket", cfg.OSS.Bucket).Str("prefix", cfg.OSS.Prefix).
		Int("lanes", len(s.lanes)).Str("http", s.HTTPAddr()).Msg("archive opened")
	return nil
}

// bucket is what a service needs of its object store. Package appendsink says
// what Append, Head, Read and List have to hold to.
type bucket interface {
	Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error)
	Head(ctx context.Context, key string) (object.Info, error)
	Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error)
	List(ctx context.Context, prefix string, fn func(object.Entry) error) error
	Close()
}

// measure makes what a lane counts with.
type measure func(source, lane string) (*appendsink.Metrics, *intake.Metrics)

// openArchive opens streams, ledger and lanes over the connections that s has.
func (s *Service) openArchive(ctx context.Context, m measure) error {
	replicas := s.cfg.Ledger.Replicas
	for i := range s.cfg.Sources {
		info, err := ensureStream(ctx, s.js, s.cfg, i, s.log)
		if err != nil {
			return err
		}
		if replicas == 0 {
			replicas = info.Config.Replicas // as the source stream's
		}
	}
	var err error
	s.ledger, err = ledger.Open(ctx, s.js, ledger.Config{Archive: s.cfg.Archive.Name, Replicas: replicas, Create: true, Log: s.log})
	if err != nil {
		return fmt.Errorf("ledger bucket %s%s: %w; the user needs $KV.%[1]s%[2]s.> and the JetStream API of stream KV_%[1]s%[2]s", ledger.BucketPrefix, s.cfg.Archive.Name, err)
	}
	return s.openLanes(ctx, replicas, m)
}

func (s *Service) openLanes(ctx context.Context, replicas int, m measure) error {
	appends := semaphore.NewWeighted(int64(max(1, s.cfg.Limits.ParallelAppends)))
	var seats *semaphore.Weighted
	if n := s.cfg.Lease.Lanes; n > 0 {
		seats = semaphore.NewWeighted(int64(n))
	}
	for i, layout := range s.cfg.Layouts() {
		source := &s.cfg.Sources[i]
		log := s.log.With().Str("source", source.Stream).Logger()
		ctl, err := control.Open(ctx, s.store, control.Options{
			Archive: s.cfg.Archive.Name, Prefix: s.cfg.OSS.Prefix, Source: source.Stream, Writer: s.owner, Log: log,
		})
		if err != nil {
			return fmt.Errorf("control log of stream %s: %w", source.Stream, err)
		}
		for _, name := range layout.LaneNames() {
			l, err := s.newLane(source, layout, name, ctl, appends, seats, replicas, m)
			if err != nil {
				return fmt.Errorf("sources[%d] %s, lane %s: %w", i, source.Stream, name, err)
			}
			if err := s.checkLane(ctx, i, l); err != nil {
				return err
			}
			s.lanes = append(s.lanes, l)
		}
	}
	return nil
}

// checkLane asks the server whether the stream can be archived as configured.
func (s *Service) checkLane(ctx context.Context, i int, l *lane) error {
	found, err := intake.Check(ctx, s.js, l.check(s.cfg))
	if err != nil {
		return fmt.Errorf("sources[%d].stream: %w", i, err)
	}
	for _, f := range found {
		if f.Refuse {
			return fmt.Errorf("sources[%d].stream %s: %s", i, l.source.Stream, f)
		}
		if l.name == firstLane {
			s.log.Warn().Str("source", l.source.Stream).Str("what", f.What).Str("mend", f.Mend).Msg("stream settings")
		}
	}
	return nil
}

// Run archives until ctx ends, then drains.
func (s *Service) Run(ctx context.Context) error { return s.serve(ctx, s, s.archive) }

// reported is what telemetry shows.
type reported interface {
	telemetry.Watched
	Status(series int) any
}

// serve shows over HTTP what r reports while body runs.
func (s *Service) serve(ctx context.Context, r reported, body func(context.Context) error) error {
	// The server outlives the lanes, so that a probe can see them drain.
	httpCtx, stopHTTP := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHTTP()
	web := make(chan error, 1)
	if s.http != nil {
		s.metrics.Watch(r)
		h := telemetry.Handler(r, s.metrics.Registry(), s.cfg.HTTP.Pprof, s.log)
		go func() { web <- telemetry.Serve(httpCtx, s.http, h) }()
	} else {
		web <- nil
	}
	err := body(ctx)
	stopHTTP()
	if werr := <-web; werr != nil {
		s.log.Warn().Err(werr).Msg("HTTP server ended badly")
	}
	if err == nil {
		s.log.Info().Msg("stopped")
	}
	return err
}

// archive runs the lanes until ctx ends, and drains them.
func (s *Service) archive(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), errReloaded) {
			return
		}
		s.mu.Lock()
		s.draining = true
		s.mu.Unlock()
		s.log.Info().Dur("timeout", s.cfg.Intake.DrainTimeout).Msg("draining")
	})()

	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go s.watch(watching)
	g, lanesCtx := errgroup.WithContext(ctx)
	for _, l := range s.lanes {
		g.Go(func() error {
			// Drains by itself when its context ends, in the documented order.
			if err := l.intake.Run(lanesCtx); err != nil {
				return fmt.Errorf("stream %s, lane %s: %w", l.source.Stream, l.name, err)
			}
			return nil
		})
	}
	err := g.Wait()
	if s.nc.IsConnected() { // the last acknowledgements are still in the buffer
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
		if ferr := s.nc.FlushWithContext(bounded); ferr != nil {
			s.log.Warn().Err(ferr).Msg("last acknowledgements may come again")
		}
		cancel()
	}
	return err
}

// Close ends the connections and the embedded servers. It may be called twice.
func (s *Service) Close() {
	s.closing.Do(func() {
		if s.http != nil {
			_ = s.http.Close() // closed already after a run
		}
		s.disconnect()
		if s.tracing != nil {
			if err := s.tracing.Close(); err != nil {
				s.log.Warn().Err(err).Msg("closing the tracing")
			}
		}
		if s.local != nil {
			s.local.Close()
		}
	})
}

// disconnect undoes connect.
func (s *Service) disconnect() {
	if s.nc != nil {
		s.nc.Close()
	}
	if s.store != nil {
		s.store.Close()
	}
}

// HTTPAddr is where telemetry is served, "" if nowhere.
func (s *Service) HTTPAddr() string {
	if s.http == nil {
		return ""
	}
	return s.http.Addr().String()
}

// openBucket makes the client, creates the bucket if the configuration says so,
// and sees that it answers.
func openBucket(ctx context.Context, cfg *config.Config, log zerolog.Logger) (*objectstore.Client, error) {
	c, err := OpenStore(cfg, log)
	if err != nil {
		return nil, err
	}
	err = reachStore(ctx, cfg, c)
	if err != nil && cfg.OSS.CreateBucket && noSuchBucket(err) {
		if err = unhurried(ctx, func() error { return c.CreateBucket(ctx) }); err == nil {
			log.Info().Str("bucket", cfg.OSS.Bucket).Msg("bucket created")
			err = reachStore(ctx, cfg, c)
		} else {
			err = explainStore(cfg, fmt.Errorf("oss.create_bucket: %w", err))
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// ownerID names this process in leases and control logs. Two processes never
// share one, unless they do without a lease: then it must survive a restart, so
// that an instance finds its own horizon again, and nats.name tells them apart.
func ownerID(cfg *config.Config) string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "unknown"
	}
	if cfg.Lease.Disabled {
		return host + "-" + cfg.NATS.Name
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), nuid.Next())
}

const (
	// memoryBeside is what the runtime may take beside limits.memory. Of that three eighths
	// is free of events that wait, so that there is room for garbage even when all the
	// rest is full.
	memoryBeside = 48 << 20
	// memorySeries is what an open series takes while it is tried again and again: what
	// is known of it, the stack of its worker and its part of the garbage. Half of
	// limits.memory has room for them; what has not is added. Where nearly as much lives
	// as the runtime may take, it collects all the time.
	memorySeries = 12 << 10
	// memoryEmbedded is for the servers, where they are in this process.
	memoryEmbedded = 512 << 20
)

// limitMemory tells the runtime what it may take. A soft limit: the collector works
// harder near it.
func limitMemory(cfg *config.Config, log zerolog.Logger) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := cfg.Limits.Memory + memoryBeside
	limit += max(int64(cfg.Limits.OpenSeries)*memorySeries-cfg.Limits.Memory/2, 0)
	if cfg.Embedded.Enabled {
		limit += memoryEmbedded
	}
	debug.SetMemoryLimit(limit)
	log.Debug().Int64("bytes", limit).Msg("memory limit of the runtime set")
}
