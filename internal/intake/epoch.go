package intake

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"ossuary/internal/control"
	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/router"
)

var errMoved = errors.New("another instance changed the control log meanwhile")

// epoch is one uninterrupted, in-order run of the lane. It returns why it ended.
//
// A crash anywhere in it leaves at worst a consumer that the next epoch deletes,
// a lease that runs out and a horizon that is higher than what was handed out.
func (l *Lane) epoch(ctx, stop context.Context) (err error) {
	if err := l.baselayout(ctx); err != nil {
		return err
	}
	if err := l.replaced(ctx); err != nil {
		return err
	}

	// Take the lease, and keep it from here on.
	l.board.set(Starting, "taking the lease")
	entry, err := l.lease.take(ctx, func(owner string) {
		l.board.set(Standby, "")
		l.board.change(func(s *Status) { s.Owner = owner })
	}, func() {
		l.board.set(Starting, "no instance has this lane, and this one has as many as lease.lanes allows")
	})
	if err != nil {
		return ended("lease", err)
	}
	l.board.set(Starting, "loading")
	l.board.change(func(s *Status) { s.Owner, s.Epoch = l.lease.owner, entry.Epoch })
	// ctx stops the reading; work goes on behind it until the sink is drained.
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	work, endWork := context.WithCancel(stop)
	var running sync.WaitGroup
	defer running.Wait()
	defer endWork()
	var e atomic.Pointer[epoch]
	running.Go(func() {
		err := l.lease.keep(work, func() (checkpoint, int, bool) {
			if e := e.Load(); e != nil {
				return e.tracker.checkpoint(), e.id.Incarnation, true
			}
			return checkpoint{}, 0, false
		})
		if err != nil {
			end(ended("lease_lost", err))
		}
	})

	// Load what is known, and see whether the stream is what it was. In this order:
	// others may be at work, and a stream looked at before they went on would seem to
	// end before their floor.
	st, err := l.opt.Control.Refresh(ctx)
	if err != nil && !errors.Is(err, control.ErrNoLog) {
		return because(ctx, fmt.Errorf("reading the control log: %w", err))
	}
	stream, err := l.stream(ctx)
	if err != nil {
		return because(ctx, err)
	}
	point := l.position(st, entry)
	begin, err := l.identify(ctx, stream, st, entry, point)
	if err != nil {
		return because(ctx, err)
	}

	// Settle the layout and the horizon. From here on the control log holds our
	// promise to hand out nothing above the horizon.
	st, err = l.settle(ctx, stream, st, begin, &point)
	if err != nil {
		return because(ctx, err)
	}
	plan, err := l.plan(ctx, st)
	if err != nil {
		return because(ctx, err)
	}

	// Make this epoch's consumer, which begins right behind the floor.
	l.expired(stream.CachedInfo(), point)
	cons, number, err := l.consumer(ctx, stream, plan, entry.Epoch, point)
	if err != nil {
		return because(ctx, err)
	}
	if err := l.same(ctx, stream, st.Stream, point); err != nil {
		return because(ctx, err)
	}

	// Consume until something ends it.
	run, err := l.begin(st, stream, plan, number, point)
	if err != nil {
		return because(ctx, err)
	}
	switch err := run.sink.Load(ctx); {
	case errors.Is(err, ledger.ErrNewer):
		return newerLedger(err)
	case err != nil:
		return because(ctx, err)
	}
	e.Store(run)
	return run.consume(ctx, stop, end, cons)
}

// because prefers the reason for which ctx was ended over what followed from it.
func because(ctx context.Context, err error) error {
	var end *endError
	if errors.As(context.Cause(ctx), &end) {
		return end
	}
	return err
}

// baselayout remembers the layout that held when Run began: one that is newer
// when the lease comes to us was made by somebody who started after us.
func (l *Lane) baselayout(ctx context.Context) error {
	if l.based {
		return nil
	}
	st, err := l.opt.Control.Refresh(ctx)
	if err != nil && !errors.Is(err, control.ErrNoLog) {
		return fmt.Errorf("reading the control log: %w", err)
	}
	l.baseline, l.based = st.Layout(), true
	return nil
}

// replacedTimeout bounds a look that spares time and decides nothing.
const replacedTimeout = 5 * time.Second

// replaced ends an instance that has archived before and whose configuration was
// replaced since, rather than have it stand by behind whoever did that: it could
// never go on, and would tell nobody. A store that does not answer is asked again
// once the lease is taken.
func (l *Lane) replaced(ctx context.Context) error {
	if l.layout == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, replacedTimeout)
	defer cancel()
	st, err := l.opt.Control.Refresh(ctx)
	if err == nil {
		err = l.current(ctx, st)
	}
	var fatal *FatalError
	if errors.As(err, &fatal) {
		return fatal
	}
	return nil
}

// current is a *FatalError if st has switched to another layout than ours after
// we started.
func (l *Lane) current(ctx context.Context, st control.State) error {
	if st.Layout() <= max(l.layout, l.baseline) {
		return nil
	}
	newest, err := l.loadLayout(ctx, st.Layout())
	if err != nil {
		return err
	}
	if string(newest.Canonical()) != string(l.canonical) {
		return l.superseded(st.Layout())
	}
	return nil
}

// stream looks at the stream and refuses what cannot be archived.
func (l *Lane) stream(ctx context.Context) (jetstream.Stream, error) {
	o := CheckOptions{Archive: l.opt.Archive, Source: l.opt.Source, Lane: l.opt.Lane, Start: l.opt.Start,
		MaxAckPending: l.opt.MaxAckPending, LeaseOff: l.opt.LeaseOff, Outage: l.opt.Outage, ServerVersion: l.opt.serverVersion}
	if r, err := router.NewLane(l.opt.Layout, l.opt.Lane); err == nil {
		o.Filters = r.Filters()
	}
	found, err := Check(ctx, l.opt.JS, o)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if f.Refuse && l.seenStream {
			// It was fine, so it may become so again: a stream that is being made
			// anew, a server being replaced.
			return nil, ended("stream", errors.New(f.String()))
		}
		if f.Refuse {
			return nil, &FatalError{What: f.What, Mend: f.Mend}
		}
		if !l.warned[f.What] {
			l.warned[f.What] = true
			l.log.Warn().Str("mend", f.Mend).Msg(f.What)
		}
	}
	s, err := l.opt.JS.Stream(ctx, l.opt.Source)
	if err != nil {
		return nil, fmt.Errorf("looking at stream %s: %w", l.opt.Source, err)
	}
	l.seenStream = true
	return s, nil
}

// settle makes, in one line of the control log, what an epoch needs of it: the
// stream's identity, our layout, our horizon, and where the lane begins.
func (l *Lane) settle(ctx context.Context, s jetstream.Stream, st control.State, begin *beginning, point *checkpoint) (control.State, error) {
	if err := l.current(ctx, st); err != nil {
		return st, err
	}
	if begin == nil || begin.id.Created.Equal(st.Stream.Created) { // else the layouts begin anew
		if err := l.resplit(ctx, st, s.CachedInfo().Config.Retention); err != nil {
			return st, err
		}
	}
	n, err := control.SaveLayout(ctx, l.opt.Store, l.opt.Prefix, l.canonical, st.Layout())
	if err != nil {
		return st, fmt.Errorf("storing the layout: %w", err)
	}
	fresh := false
	if begin != nil {
		*point = checkpoint{Floor: begin.from - 1, Tally: ledger.Tally{From: begin.from, Floor: begin.from - 1}}
	} else if t, known := st.Tally(l.opt.Lane); !known && point.Floor == t.Floor {
		fresh = true
		if _, err := l.routerOf(ctx, n); err != nil { // newcomer asks for it
			return st, err
		}
	}
	judged := st
	backlog := s.CachedInfo().State.LastSeq - min(point.Floor, s.CachedInfo().State.LastSeq)
	step := max(l.opt.HorizonMin, min(backlog, firstStep))
	l.granted = true // even if Update fails: the line may yet appear
	next, err := l.opt.Control.Update(ctx, func(s control.State) (control.State, error) {
		if s.Exists() != judged.Exists() || s.Stream.Incarnation != judged.Stream.Incarnation || s.Layout() != judged.Layout() {
			return s, errMoved
		}
		var err error
		if begin != nil {
			if s, err = s.NewIncarnation(begin.id, n, begin.from); err != nil {
				return s, err
			}
		}
		if s, err = s.SwitchLayout(n); err != nil {
			return s, err
		}
		if fresh {
			*point = l.newcomer(s)
		}
		if t, known := s.Tally(l.opt.Lane); !known || t.Floor < point.Floor {
			s = s.WithTally(l.opt.Lane, control.Tally{Tally: point.Tally, FloorTime: point.Time})
		}
		var handed uint64
		if s.Stream.Incarnation == l.incarnation {
			handed = l.handed.Load()
		}
		return s.WithHorizon(control.Grant{Writer: l.writer, Incarnation: s.Stream.Incarnation, Layout: n,
			Horizon: point.Floor + step, Handed: handed, Time: time.Now().UTC()})
	})
	if err != nil {
		return st, fmt.Errorf("writing the control log: %w", err)
	}
	incarnation := judged.Stream.Incarnation
	if begin != nil {
		incarnation = begin.id.Incarnation
	}
	if next.Layout() != n || next.Stream.Incarnation != incarnation {
		return st, errMoved // right behind our line
	}
	if incarnation != l.incarnation {
		l.handed.Store(0)
	}
	l.layout, l.incarnation, l.point, l.known, l.reused = n, next.Stream.Incarnation, *point, true, nil
	l.announce(judged, next, begin)
	return next, nil
}

// newcomer is where a lane without a past begins: at the first layout in s that
// has it. What came before is other lanes'.
func (l *Lane) newcomer(s control.State) checkpoint {
	from := s.From
	for i, e := range s.Layouts {
		if l.routers[e.Layout] != nil {
			if i > 0 {
				from = max(from, e.Since)
			}
			break
		}
	}
	return checkpoint{Floor: from - 1, Tally: ledger.Tally{From: from, Floor: from - 1}}
}

func (l *Lane) announce(before, now control.State, begin *beginning) {
	l.board.change(func(s *Status) { s.Incarnation, s.Layout = now.Stream.Incarnation, now.Layout() })
	switch {
	case begin != nil && before.Exists():
		l.opt.Metrics.incarnation(now.Stream.Incarnation)
		l.log.Error().Str("why", begin.why).Int("incarnation", now.Stream.Incarnation).Uint64("from", begin.from).
			Msg("the stream's sequences are used again: a new incarnation begins, and nothing is dropped")
	case begin != nil:
		l.log.Info().Uint64("from", begin.from).Msg("the archive of this source begins")
	case before.Layout() != now.Layout():
		l.log.Info().Int("layout", now.Layout()).Uint64("since", now.Layouts[len(now.Layouts)-1].Since).Msg("the layout changes")
	}
}

// superseded is the end of an instance whose configuration somebody replaced.
// Going on would make the two switch back and forth.
func (l *Lane) superseded(n int) error {
	own := "an older one"
	if l.layout != 0 {
		own = fmt.Sprintf("layout %d", l.layout)
	}
	return &FatalError{
		What: fmt.Sprintf("another instance switched this archive to layout %d; this instance's configuration is %s", n, own),
		Mend: "give this instance the newer configuration and start it again",
		Err:  control.ErrNewerLayout}
}

// ErrOtherRoutes is the cause of the *FatalError of an instance that is refused
// because another one archives the source by other routes.
var ErrOtherRoutes = errors.New("another instance archives this source by other routes")

// rival refuses to stand by for an instance that is at work under another layout
// than ours. The one that starts later has the say about the routes, so the two
// would change them back and forth, each whenever the other stops for a moment. An
// instance that is meant to replace the other, as when they are replaced one by
// one, has to say so.
//
// Which of the two is wrong nobody can know here; the one that works goes on.
func (l *Lane) rival(ctx context.Context, owner string) error {
	ctx, cancel := context.WithTimeout(ctx, replacedTimeout)
	defer cancel()
	st, err := l.opt.Control.Refresh(ctx)
	if err != nil || !st.Exists() {
		return nil // it decides nothing: another look follows with the next renewal
	}
	theirs, err := l.loadLayout(ctx, st.Layout())
	var fatal *FatalError
	if errors.As(err, &fatal) {
		return fatal
	}
	if err != nil || string(theirs.Canonical()) == string(l.canonical) {
		return nil
	}
	if l.opt.Replace {
		l.board.set(Standby, fmt.Sprintf("the owner archives by layout %d, whose routes are others; this instance's hold once it stops", st.Layout()))
		return nil
	}
	return &FatalError{
		What: fmt.Sprintf("%s archives stream %s by layout %d, whose routes (or lanes, limits, prefix) are not those of this configuration", owner, l.opt.Source, st.Layout()),
		Mend: "give this instance the same configuration; or stop the other one first, and this one's routes hold from one sequence on; " +
			"or set lease.replace, and it waits for that; or choose another archive.name and oss.prefix for an archive of its own",
		Err: ErrOtherRoutes}
}

// begin puts together what the epoch needs to consume.
func (l *Lane) begin(st control.State, s jetstream.Stream, p *plan, number uint64, point checkpoint) (*epoch, error) {
	mode := ackingOf(s.CachedInfo().Config.Retention)
	window := max(min(windowFactor*l.opt.MaxAckPending, mostWindow), 2*l.opt.MaxAckPending, minWindow)
	if l.opt.window > 0 {
		window = l.opt.window
	}
	h := st.Writers[l.writer].Horizon
	l.board.change(func(s *Status) { s.Horizon = h })
	step := max(l.opt.HorizonMin, h-min(point.Floor, h))
	e := &epoch{
		l: l, number: number, stream: s, id: st.Stream, layout: st.Layout(), plan: p,
		log:     l.log.With().Uint64("epoch", number).Int("incarnation", st.Stream.Incarnation).Logger(),
		tracker: newTracker(mode, window, point),
		horizon: newHorizon(h, step),
		stepper: &stepper{step: step, least: l.opt.HorizonMin, ahead: l.opt.HorizonAhead},
	}
	if point.Floor >= point.Tally.From { // else nothing was archived yet, and the start may lie ahead
		e.reached.Store(point.Floor)
		if mode != ackEach {
			e.order.stream = point.Floor // a consumer that begins before it was set back
		}
	}
	sink, err := l.opt.NewSink(SinkOptions{Stream: st.Stream, Epoch: number,
		Confirm: e.tracker.Confirm, Forget: e.tracker.Forget, DeadLetter: e.tracker.DeadLetter,
		Pressed: func() bool { return e.tracker.pressed(l.opt.MaxAckPending) }})
	if err != nil {
		return nil, fmt.Errorf("making the sink: %w", err)
	}
	e.sink = sink
	return e, nil
}

// epoch is a running epoch. What the callback owns is guarded by turn.
type epoch struct {
	l       *Lane
	number  uint64
	stream  jetstream.Stream
	id      event.StreamID
	layout  int
	log     zerolog.Logger
	tracker *tracker
	horizon *horizon
	stepper *stepper
	sink    Sink

	seen    atomic.Uint64 // last good consumer sequence
	reached atomic.Uint64 // the highest sequence that the stream is known to have had
	busy    atomic.Bool   // the callback is at work

	turn     sync.Mutex
	order    contiguity
	plan     *plan
	event    event.Event
	message  router.Message
	skipped  [1]uint64
	unrouted bool // some were met, and it was said
}
