package service

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"ossuary/internal/appendsink"
	"ossuary/internal/config"
	"ossuary/internal/control"
	"ossuary/internal/intake"
	"ossuary/internal/router"
)

const firstLane = router.FirstLane

// lane is one lane of one source: its intake, and the set of its present epoch.
type lane struct {
	source  *config.Source
	name    string
	filters []string

	intake      *intake.Lane
	sinkMetrics *appendsink.Metrics

	mu  sync.Mutex
	set *appendsink.Set // of the newest epoch; nil before the first

	progress progress // guarded by mu
	broken   *breaks
}

// breaks are the segments that were left since the process began.
type breaks struct {
	mu   sync.Mutex
	list []BrokenSegment // the oldest first, at most maxBroken
}

// maxBroken bounds what is told of broken segments. A metric counts them all.
const maxBroken = 20

// BrokenSegment is a segment that was left because of what stood in it, or did
// not stand there any more.
type BrokenSegment struct {
	Key    string    `json:"key"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// progress tells an archive that waits for its store from one that has nothing
// to do: an outage holds no series, the sinks just try on.
type progress struct {
	appends int64
	moved   time.Time // when an append was last confirmed, or nothing waited for one
}

func (s *Service) newLane(source *config.Source, layout router.Layout, name string, ctl *control.Log, appends, seats *semaphore.Weighted, replicas int, m measure) (*lane, error) {
	r, err := router.NewLane(layout, name)
	if err != nil {
		return nil, err
	}
	sinkMetrics, intakeMetrics := m(source.Stream, name)
	l := &lane{source: source, name: name, filters: r.Filters(), sinkMetrics: sinkMetrics,
		broken: s.counts.broken(source.Stream, name, sinkMetrics)}
	deadSeries := r.DeadSeries()
	log := s.log.With().Str("source", source.Stream).Str("lane", name).Logger()
	var tracer appendsink.Tracer // not a nil *tracing.Tracing, which would be one
	if s.tracing != nil {
		tracer = s.tracing
	}
	newSink := func(o intake.SinkOptions) (intake.Sink, error) {
		sp, err := newSpecs(s.cfg, source, deadSeries)
		if err != nil {
			return nil, err
		}
		set := appendsink.NewSet(appendsink.Options{
			Archive: s.cfg.Archive.Name, Source: source.Stream, Lane: name, Prefix: s.cfg.OSS.Prefix,
			Stream: o.Stream, Store: s.store, Ledger: s.ledger, LedgerInterval: s.cfg.Ledger.Interval,
			Budget: s.budget, Appends: appends, OpenSeries: s.cfg.Limits.OpenSeries,
			Dead:      sp.dead,
			RouteRoll: func(route string) appendsink.Roll { return sp.timing(route).roll },
			Confirm:   o.Confirm, Forget: o.Forget, Pressed: o.Pressed,
			Floor:   func() uint64 { return l.intake.Status().Floor },
			Metrics: l.sinkMetrics, Tracer: tracer, Log: log.With().Uint64("epoch", o.Epoch).Logger(),
		})
		l.mu.Lock()
		l.set = set
		l.mu.Unlock()
		return &sink{set: set, specs: sp, deadLetter: o.DeadLetter}, nil
	}
	start := intake.Start{New: source.Start.New, Sequence: source.Start.Sequence, Time: source.Start.Time}
	l.intake = intake.New(intake.Options{
		Archive: s.cfg.Archive.Name, Prefix: s.cfg.OSS.Prefix, Source: source.Stream, Lane: name, Owner: s.owner,
		JS: s.js, Ledger: s.ledger, LedgerReplicas: replicas, Control: ctl, Store: s.store,
		Layout: layout, Start: start, NewSink: newSink,
		MaxAckPending: s.cfg.Limits.MaxAckPending, PullBytes: pullBytes(s.cfg), LeaseTTL: s.cfg.Lease.TTL, LeaseOff: s.cfg.Lease.Disabled,
		Replace: s.cfg.Lease.Replace, Seats: seats,
		AuditEvery: s.cfg.Intake.Audit, DrainTimeout: s.cfg.Intake.DrainTimeout, HorizonMin: s.horizon,
		Metrics: intakeMetrics, Log: s.log, // names source and lane itself
	})
	return l, nil
}

// pullBytes is what one pull may bring: two are under way, and each of them waits in the
// client library while the budget is full. 2,048 messages of 1 KiB fill 2 MiB.
func pullBytes(cfg *config.Config) int { return int(min(max(cfg.Limits.Memory/32, 1<<20), 8<<20)) }

func (l *lane) check(cfg *config.Config) intake.CheckOptions {
	return intake.CheckOptions{
		Archive: cfg.Archive.Name, Source: l.source.Stream, Lane: l.name, Filters: l.filters,
		Start:         intake.Start{New: l.source.Start.New, Sequence: l.source.Start.Sequence, Time: l.source.Start.Time},
		MaxAckPending: cfg.Limits.MaxAckPending, LeaseOff: cfg.Lease.Disabled,
	}
}

// look is called every now and then.
func (l *lane) look(now time.Time) {
	appends, open := l.sinkMetrics.Appends.Load(), l.intake.Status().Open
	l.mu.Lock()
	defer l.mu.Unlock()
	if open == 0 || appends != l.progress.appends || l.progress.moved.IsZero() {
		l.progress = progress{appends, now}
	}
}

// stalled is since when events have been waiting without any append going
// through, zero if they are not.
func (l *lane) stalled(now time.Time, patience time.Duration) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.progress.moved.IsZero() || now.Sub(l.progress.moved) < patience {
		return time.Time{}
	}
	return l.progress.moved
}

// held are the series of the present epoch that the store refuses.
func (l *lane) held() []appendsink.Hold {
	if set := l.sinks(); set != nil {
		return set.Held()
	}
	return nil
}

// sinks is the set of the present epoch, nil before the first.
func (l *lane) sinks() *appendsink.Set {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.set
}

func (b *breaks) note(key, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, old := range b.list {
		if old.Key == key {
			return // met again in a later epoch
		}
	}
	if len(b.list) == maxBroken {
		b.list = b.list[1:]
	}
	b.list = append(b.list, BrokenSegment{key, reason, time.Now().UTC()})
}

// left are the segments that were left without a seal since the process began.
func (l *lane) left() []BrokenSegment {
	l.broken.mu.Lock()
	defer l.broken.mu.Unlock()
	return slices.Clone(l.broken.list)
}
