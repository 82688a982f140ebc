package service

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"ossuary/internal/appendsink"
	"ossuary/internal/backoff"
	"ossuary/internal/config"
	"ossuary/internal/intake"
	"ossuary/internal/telemetry"
)

// lookEvery is how often the files that the configuration names are looked at: often
// enough for a certificate, seldom enough for a network disk. A variable for tests.
var lookEvery = 5 * time.Second

// Pauses between attempts at files that have changed and do not work. Those of a
// changed configuration file have no second attempt until somebody asks for it.
const (
	firstRetry = 5 * time.Second
	maxRetry   = 5 * time.Minute
)

// mendItself is how long a lost connection is left to its client, which reads the files
// anew too: a service that drains without NATS takes all of intake.drain_timeout, and
// its lease has to run out.
const mendItself = 10 * time.Second

// errReloaded ends a service that another one follows.
var errReloaded = errors.New("the configuration was reloaded")

// Reloads are what became of changes to the configuration while the process runs.
type Reloads struct {
	Generation   int       `json:"generation"` // of what is in force; 1 is what the process began with
	Since        time.Time `json:"since"`
	Good         int       `json:"reloads_good"`
	Bad          int       `json:"reloads_bad"`
	LastError    string    `json:"last_error,omitempty"` // of the last one, if that was bad
	LastAttempt  time.Time `json:"last_attempt,omitzero"`
	NeedsRestart []string  `json:"needs_restart,omitempty"` // settings of the file that are not in force before a restart
}

// reloader runs one service after the other. For a change it connects the next one
// first, while the present one goes on: what does not open changes nothing. Then the
// present one drains, as at a stop, and the next one begins where it ended; where routes
// have changed, the control log says from which sequence on. A next one that opens but
// cannot archive gives the place back.
type reloader struct {
	deps Deps
	log  zerolog.Logger

	mu         sync.Mutex
	now        *Service
	state      Reloads
	loaded     *config.Config // what is in force, as it was read
	reconnects uint64         // of the services before

	// owned by run
	files  string         // what the files held when the present service was opened
	before *config.Config // to go back to; nil once the present one has archived
	failed string         // files with which opening failed
	pauses backoff.Backoff
	next   time.Time // of the next attempt at failed
	lost   time.Time // since when there is no connection, as far as was looked; zero if there is
}

func (r *reloader) open(ctx context.Context, cfg *config.Config) error {
	loaded := *cfg // opening completes cfg where servers are embedded
	r.files = content(cfg)
	s, err := Open(ctx, cfg, r.log)
	if err != nil {
		return err
	}
	r.now, r.loaded = s, &loaded
	r.state = Reloads{Generation: 1, Since: s.started}
	r.pauses = backoff.New(firstRetry, maxRetry, 2)
	s.metrics.ObserveReloads(func() telemetry.Reloads {
		st := r.reloads()
		return telemetry.Reloads{Generation: st.Generation, Good: st.Good, Bad: st.Bad, LastGood: st.LastError == "", Since: st.Since, NeedsRestart: len(st.NeedsRestart)}
	})
	return nil
}

func (r *reloader) service() *Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *reloader) reloads() Reloads {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// run archives until ctx ends.
func (r *reloader) run(ctx context.Context) error {
	for {
		s := r.service()
		running, end := context.WithCancelCause(ctx)
		done := make(chan error, 1)
		go func() { done <- s.archive(running) }()
		next, err := r.await(ctx, done)
		if next != nil {
			end(errReloaded)
			if err := <-done; err != nil {
				r.log.Warn().Err(err).Msg("the service ended badly under the old configuration")
			}
			r.replace(s, next)
			continue
		}
		end(nil)
		if err == nil || ctx.Err() != nil || r.before == nil {
			return err
		}
		next, berr := r.goBack(ctx, s, err)
		if berr != nil {
			return errors.Join(err, berr)
		}
		r.replace(s, next)
	}
}

// await returns the service that follows the present one, or how that one ended.
func (r *reloader) await(ctx context.Context, done <-chan error) (*Service, error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		asked := false
		select {
		case err := <-done:
			return nil, err
		case <-r.deps.Reload:
			asked = true
		case <-tick.C:
			if r.before != nil && r.service().underWay() {
				r.before = nil
			}
		}
		if ctx.Err() != nil {
			continue // it drains
		}
		if next := r.look(ctx, asked); next != nil {
			return next, nil
		}
	}
}

// underWay reports whether every lane archives, or stands by.
func (s *Service) underWay() bool {
	for _, l := range s.lanes {
		if st := l.intake.Status().State; st != intake.Running && st != intake.Standby {
			return false
		}
	}
	return true
}

// look opens the next service if there is anything new. The configuration file is read
// when somebody asks for it only: it may be half edited. What it names is looked at
// always: that is rotated by programs.
func (r *reloader) look(ctx context.Context, asked bool) *Service {
	now := time.Now()
	r.mu.Lock()
	current, loaded := r.now, r.loaded
	r.mu.Unlock()
	fresh, kept := loaded, r.reloads().NeedsRestart
	if asked && r.deps.Load != nil {
		read, err := r.deps.Load()
		if err != nil {
			r.bad(fmt.Errorf("the configuration is not taken: %w", err))
			return nil
		}
		fresh, kept = loaded.Reload(read)
	}
	cfg, _ := current.cfg.Reload(fresh)
	files := content(cfg)
	changed := config.Changed(loaded, fresh)
	switch {
	case len(changed) == 0 && files == r.files:
		if asked {
			r.good(nil, kept)
			r.log.Info().Strs("needs_restart", kept).Msg("reload: nothing has changed that could be taken")
		}
		return nil
	case !asked && (files == r.failed && now.Before(r.next) || r.mending(current, now)):
		return nil
	}
	r.log.Info().Strs("settings", changed).Bool("files", files != r.files).Msg("reloading")
	s, err := current.successor(ctx, cfg)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		if files != r.failed {
			r.pauses.Reset()
		}
		r.failed, r.next = files, now.Add(r.pauses.Next())
		r.bad(fmt.Errorf("what has changed is not taken: %w", err))
		return nil
	}
	r.before, r.files, r.failed, r.lost = loaded, files, "", time.Time{}
	r.good(fresh, kept)
	return s
}

// mending reports whether the client is likely to connect again by itself. With another
// nkey it is not.
func (r *reloader) mending(s *Service, now time.Time) bool {
	if s.nc.IsConnected() {
		r.lost = time.Time{}
		return false
	}
	if r.lost.IsZero() {
		r.lost = now
	}
	return s.cfg.NATS.NKey == "" && now.Sub(r.lost) < mendItself
}

// goBack opens a service with the configuration before the present one, which ended
// with err before it had archived anything.
func (r *reloader) goBack(ctx context.Context, s *Service, err error) (*Service, error) {
	before := r.before
	r.before = nil
	cfg, _ := s.cfg.Reload(before)
	r.files = content(cfg)
	next, oerr := s.successor(ctx, cfg)
	if oerr != nil {
		return nil, fmt.Errorf("going back to the configuration before: %w", oerr)
	}
	r.mu.Lock()
	r.loaded = before
	r.state.Generation++
	r.state.Since = time.Now().UTC()
	r.mu.Unlock()
	r.bad(fmt.Errorf("the new configuration was given up, the one before it holds again: %w", err))
	return next, nil
}

func (r *reloader) replace(s, next *Service) {
	_, reconnects := s.Connection()
	r.mu.Lock()
	r.reconnects += reconnects
	r.now = next
	r.mu.Unlock()
	next.configureMetrics()
	s.disconnect()
}

func (r *reloader) bad(err error) {
	r.mu.Lock()
	r.state.Bad++
	r.state.LastError, r.state.LastAttempt = err.Error(), time.Now().UTC()
	r.mu.Unlock()
	r.log.Error().Err(err).Msg("reload")
}

// good notes what a reload took; nil is nothing.
func (r *reloader) good(taken *config.Config, kept []string) {
	r.mu.Lock()
	r.state.Good++
	r.state.LastError, r.state.LastAttempt, r.state.NeedsRestart = "", time.Now().UTC(), kept
	if taken != nil {
		r.loaded = taken
		r.state.Generation++
		r.state.Since = r.state.LastAttempt
	}
	generation := r.state.Generation
	r.mu.Unlock()
	if len(kept) > 0 {
		r.log.Warn().Strs("settings", kept).Msg("reload: these settings are not in force before the process is started again")
	}
	if taken != nil {
		r.log.Info().Int("generation", generation).Msg("reload: taken")
	}
}

// successor opens a service that goes on where s ends. It has the process's own things
// from s: address, embedded servers, memory, metrics.
func (s *Service) successor(ctx context.Context, cfg *config.Config) (*Service, error) {
	next := &Service{
		cfg: cfg, log: s.log, owner: s.owner, started: s.started,
		local: s.local, budget: s.budget, metrics: s.metrics, tracing: s.tracing, counts: s.counts, horizon: s.horizon, http: s.http,
	}
	if err := next.connect(ctx); err != nil {
		next.disconnect()
		return nil, err
	}
	return next, nil
}

// counts are what the lanes count with. A lane that comes again after a reload counts on.
type counts struct {
	measure measure

	mu   sync.Mutex
	have map[[2]string]counted
}

type counted struct {
	sink   *appendsink.Metrics
	intake *intake.Metrics
	broken *breaks
}

func (c *counts) lane(source, lane string) (*appendsink.Metrics, *intake.Metrics) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := [2]string{source, lane}
	m, ok := c.have[at]
	if !ok {
		m.sink, m.intake = c.measure(source, lane)
		m.broken = observe(m.sink)
		if c.have == nil {
			c.have = map[[2]string]counted{}
		}
		c.have[at] = m
	}
	return m.sink, m.intake
}

// broken are the broken segments of a lane. Its sinks may still be ending when the next
// service is there, so they keep telling the same one.
func (c *counts) broken(source, lane string, sink *appendsink.Metrics) *breaks {
	if c == nil {
		return observe(sink)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.have[[2]string{source, lane}].broken
}

func observe(m *appendsink.Metrics) *breaks {
	b := new(breaks)
	m.ObserveBreak = b.note
	return b
}

// watchedFiles are those that the connections are made with. OSS's keys are not
// among them: they are read with every request.
func watchedFiles(cfg *config.Config) []string {
	var out []string
	n := cfg.NATS
	if n.Context != "" {
		if path, err := contextFile(n.Context); err == nil {
			out = append(out, path)
		}
		if completed, err := withContext(n); err == nil {
			n = completed
		}
	}
	for _, path := range []string{n.Creds, n.NKey, n.PasswordFile, n.TokenFile, n.TLS.CA, n.TLS.Cert, n.TLS.Key, cfg.OSS.TLS.CA} {
		if path != "" {
			out = append(out, path)
		}
	}
	return out
}

// content is a digest of what these files hold.
func content(cfg *config.Config) string {
	h := sha256.New()
	for _, path := range watchedFiles(cfg) {
		p, err := os.ReadFile(path)
		fmt.Fprintf(h, "%q %x %v\n", path, sha256.Sum256(p), err != nil)
	}
	return string(h.Sum(nil))
}

// Status implements telemetry's subject.
func (r *reloader) Status(series int) any {
	st := r.service().report(series)
	reloads := r.reloads()
	st.Configuration = &reloads
	return st
}

// Lanes implements telemetry's subject.
func (r *reloader) Lanes() []intake.Status { return r.service().Lanes() }

// Connection implements telemetry's subject. The connections of a process count on.
func (r *reloader) Connection() (connected bool, reconnects uint64) {
	r.mu.Lock()
	now, before := r.now, r.reconnects
	r.mu.Unlock()
	connected, reconnects = now.Connection()
	return connected, before + reconnects
}

// NotReady implements telemetry's subject.
func (r *reloader) NotReady() []telemetry.Reason { return r.service().NotReady() }

// Warnings implements telemetry's subject: those of the service, and a reload that
// has not done what was wanted.
func (r *reloader) Warnings() []telemetry.Reason {
	out := r.service().Warnings()
	st := r.reloads()
	if st.LastError != "" {
		out = append(out, telemetry.Reason{What: "configuration", Name: "reload", Reason: st.LastError, Since: st.LastAttempt})
	}
	if len(st.NeedsRestart) > 0 {
		out = append(out, telemetry.Reason{What: "configuration", Name: "restart",
			Reason: "not in force before the process is started again: " + strings.Join(st.NeedsRestart, ", "), Since: st.LastAttempt})
	}
	return out
}
