package intake

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"ossuary/internal/backoff"
	"ossuary/internal/control"
	"ossuary/internal/router"
)

const (
	// Pauses between epochs. An epoch that moved the floor starts them over.
	firstPause = 50 * time.Millisecond
	maxPause   = 30 * time.Second

	// releaseTimeout bounds the last write to the ledger.
	releaseTimeout = 2 * time.Second
)

// Lane reads one lane of a stream, epoch after epoch.
type Lane struct {
	opt       Options
	canonical []byte // our layout
	writer    string // names this run in the control log; never used again
	lease     *lease
	log       zerolog.Logger
	board     board

	handed    atomic.Uint64 // highest sequence handed out in this incarnation
	delivered atomic.Uint64
	skipped   atomic.Uint64

	// owned by Run
	routers     map[int]*router.Router // by layout; nil for one without this lane
	lanes       map[int]int            // how many, by layout
	seenStream  bool
	baseline    int  // newest layout when Run began
	based       bool // baseline is known
	layout      int  // ours, as last adopted; 0 before
	granted     bool // the control log may list us as a writer
	known       bool // incarnation and point are set
	incarnation int
	point       checkpoint // at the end of the last epoch
	reused      *int       // the incarnation under which a sink found sequences used again
	warned      map[string]bool
	told        struct{ delivered, skipped uint64 } // to Metrics; owned by the epoch's report
}

// New returns a lane that is not running yet.
func New(o Options) *Lane {
	o = o.withDefaults()
	log := o.Log.With().Str("source", o.Source).Str("lane", o.Lane).Logger()
	id := nuid.Next()
	run := o.Owner + "/" + id[len(id)-8:]
	l := &Lane{
		opt: o, canonical: o.Layout.Canonical(), log: log,
		writer: run + "/" + o.Lane,
		lease: &lease{turn: semaphore.NewWeighted(1), js: o.JS, ledger: o.Ledger, archive: o.Archive, replicas: o.LedgerReplicas, source: o.Source, lane: o.Lane,
			owner: run, ttl: o.LeaseTTL, off: o.LeaseOff, seats: o.Seats, log: log, metrics: o.Metrics},
		routers: map[int]*router.Router{},
		lanes:   map[int]int{},
		warned:  map[string]bool{},
	}
	l.lease.rival = l.rival
	l.board.s = Status{Source: o.Source, Lane: o.Lane, State: Starting, Since: time.Now().UTC()}
	return l
}

// Status is what the lane is doing now.
func (l *Lane) Status() Status {
	s := l.board.get()
	s.Delivered = l.delivered.Load()
	return s
}

// Run reads epoch after epoch until ctx ends. Then it stops pulling, drains the
// sink, acknowledges, and gives back horizon and lease, for DrainTimeout at most;
// what is not confirmed by then comes again. It returns nil after that, or a
// *FatalError at once for what no retry mends.
func (l *Lane) Run(ctx context.Context) error {
	// stop outlives ctx by DrainTimeout.
	stop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(l.opt.DrainTimeout, cancel) })()
	defer l.board.set(Stopped, "")

	pauses := backoff.New(firstPause, maxPause, 1.5)
	for ctx.Err() == nil {
		incarnation, floor := l.incarnation, l.point.Floor
		err := l.epoch(ctx, stop)
		if ctx.Err() != nil {
			break
		}
		var fatal *FatalError
		if errors.As(err, &fatal) {
			l.farewell(stop)
			return fatal
		}
		reason := "error"
		var end *endError
		if errors.As(err, &end) {
			reason = end.reason
		}
		if l.incarnation != incarnation || l.point.Floor > floor {
			pauses.Reset()
		}
		wait := pauses.Next()
		l.opt.Metrics.epochEnded(reason)
		l.board.set(Backoff, reason)
		l.board.change(func(s *Status) { s.LastErr = err.Error() })
		l.log.Warn().Err(err).Str("reason", reason).Dur("pause", wait).Msg("epoch ended")
		if pause(ctx, wait) != nil {
			break
		}
	}
	l.farewell(stop)
	return nil
}

// farewell gives back the horizon and the lease. Nothing is handed out after it.
// The lease goes last, so that the next owner finds the horizon given back, and
// on a time of its own, so that a store that does not answer keeps nobody
// waiting for the lease to run out.
func (l *Lane) farewell(stop context.Context) {
	ctx, cancel := context.WithTimeout(stop, l.opt.DrainTimeout)
	defer cancel()
	if l.granted {
		_, err := l.opt.Control.Update(ctx, func(s control.State) (control.State, error) {
			return l.tallied(s.Done(l.writer, l.incarnation, l.handed.Load()), l.incarnation, l.point), nil
		})
		if err != nil {
			l.log.Warn().Err(err).Msg("cannot give back the horizon; a change of the layout will begin above it")
		}
		l.granted = false
	}
	if l.lease.owned() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(stop), releaseTimeout)
		defer cancel()
		if err := l.lease.release(ctx, l.point, l.incarnation, l.known); err != nil {
			l.log.Warn().Err(err).Msg("cannot give back the lease; a standby waits until it runs out")
		}
	}
}

// tallied sets the lane's tally in s, unless s knows more.
func (l *Lane) tallied(s control.State, incarnation int, p checkpoint) control.State {
	if !l.known || !s.Exists() || s.Stream.Incarnation != incarnation {
		return s
	}
	t, known := s.Tally(l.opt.Lane)
	if known && t.Floor >= p.Floor {
		return s
	}
	return s.WithTally(l.opt.Lane, control.Tally{Tally: p.Tally, FloorTime: p.Time})
}

// consumerName is the durable's name, which ends in what tells the epoch from all
// others. What comes before is for people: the consumer's metadata say whose it is.
func (l *Lane) consumerName(unique string) string {
	parts := []string{"ossuary", l.opt.Archive, l.opt.Source, l.opt.Lane}
	if l.opt.LeaseOff {
		parts = append(parts, l.opt.Owner)
	}
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '_'
	}, strings.Join(parts, "-"))
	const longest = 255 // of a consumer's name, see server.JSMaxNameLen
	if room := longest - len(unique) - 1; len(name) > room {
		name = name[:room]
	}
	return name + "-" + unique
}
