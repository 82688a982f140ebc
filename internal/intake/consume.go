package intake

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/control"
	"ossuary/internal/ledger"
)

const (
	// The tracker's window in slots. Where messages are acknowledged past a waiting
	// event, that one event lets it grow: to 8 times what is delivered without, as far
	// as that is 24 MiB.
	windowFactor = 8
	minWindow    = 1 << 16
	mostWindow   = 1 << 20

	// ackFlush bounds the wait for the last acks to leave. They are hints.
	ackFlush = 2 * time.Second
)

var ack = []byte("+ACK")

// consume runs the epoch until ctx ends and returns why it did. Order of the end:
// stop pulling; wait for the callback; on a clean stop drain the sink; end the
// sink; acknowledge what it confirmed; store the floor.
func (e *epoch) consume(ctx, stop context.Context, end context.CancelCauseFunc, cons jetstream.Consumer) error {
	l := e.l
	e.report() // what an older epoch left there is told no longer
	var reading, sinking, acking sync.WaitGroup

	sinkCtx, endSink := context.WithCancel(stop)
	defer endSink()
	drainCtx, endDrain := context.WithCancel(stop)
	defer endDrain()
	sinking.Go(func() {
		defer endDrain()
		err := e.sink.Run(sinkCtx)
		if sinkCtx.Err() == nil {
			end(ended("sink", fmt.Errorf("the sink ended the epoch: %w", orEnded(err))))
		}
	})
	ackCtx, endAcks := context.WithCancel(stop)
	defer endAcks()
	acking.Go(func() { e.acknowledge(ackCtx) })
	reading.Go(func() {
		if err := e.horizon.keep(ctx, e.stepper, l.handed.Load, e.grant, e.log); err != nil {
			end(e.refused(err))
		}
	})
	reading.Go(func() { e.audit(ctx, end, cons) })

	pulls, err := newPuller(l.opt.JS, l.opt.Source, cons.CachedInfo().Name, l.opt.MaxAckPending, l.opt.PullBytes,
		func(m *nats.Msg) { e.handle(ctx, end, m) },
		func(reason string, err error) { end(ended(reason, fmt.Errorf("consuming: %w", err))) }, e.log)
	if err != nil {
		end(ended("consume", fmt.Errorf("consuming: %w", err)))
	} else {
		reading.Go(func() { pulls.keep(ctx) })
		l.board.set(Running, "")
		l.opt.Metrics.epochStarted(e.number)
		e.log.Info().Uint64("floor", e.tracker.checkpoint().Floor).Int("layout", e.layout).Msg("epoch runs")
	}

	<-ctx.Done()
	if pulls != nil {
		pulls.stop()
	}
	// The callback is out; when it comes in again it sees that ctx has ended.
	e.turn.Lock()
	e.turn.Unlock() //nolint:staticcheck // only the wait is wanted
	reading.Wait()

	var why *endError
	var fatal *FatalError
	cause := context.Cause(ctx)
	if !errors.As(cause, &why) && !errors.As(cause, &fatal) {
		l.board.set(Running, "draining")
		if err := e.sink.Drain(drainCtx); err != nil {
			e.log.Warn().Err(err).Int("open", e.tracker.open()).Msg("not everything could be drained; the rest comes again")
		}
	}
	endSink()
	sinking.Wait()
	endAcks()
	acking.Wait()
	e.flushAcks(stop)

	l.point = e.tracker.checkpoint()
	if err := l.lease.write(stop, func(entry *ledger.Lane) { l.lease.record(entry, l.point, e.id.Incarnation, true) }); err != nil && !errors.Is(err, errLeaseLost) {
		e.log.Warn().Err(err).Msg("cannot store the floor in the ledger; the next epoch replays a little more")
	}
	e.report()
	var again reused
	if errors.As(cause, &again) && again.StreamReused() {
		l.reused = &e.id.Incarnation
	}
	return cause
}

func orEnded(err error) error {
	if err == nil {
		return errors.New("it returned early")
	}
	return err
}

// handle is the consume callback. It blocks for the horizon and for the sink,
// which stops the pulls.
func (e *epoch) handle(ctx context.Context, end context.CancelCauseFunc, msg *nats.Msg) {
	e.turn.Lock()
	defer e.turn.Unlock()
	if ctx.Err() != nil {
		return
	}
	e.busy.Store(true)
	defer e.busy.Store(false)

	meta, reply, err := metadata(msg)
	if err != nil {
		end(ended("breach", fmt.Errorf("reading a delivery's metadata: %w", err)))
		return
	}
	if err := e.order.check(&meta); err != nil {
		end(ended("breach", err))
		return
	}
	e.seen.Store(meta.Sequence.Consumer)
	e.reached.Store(max(meta.Sequence.Stream, e.reached.Load()))
	if e.horizon.wait(ctx, meta.Sequence.Stream) != nil {
		return
	}
	part := e.plan.at(meta.Sequence.Stream)
	fill(&e.event, &e.message, msg, &meta)
	s := slotOf(&meta)
	if part.router == nil { // another lane's event under this layout
		s.uncount = true
		if n, ok := e.enter(ctx, s, &reply); ok {
			e.skip(n)
		}
		return
	}
	target := part.router.Resolve(&e.message)
	s.skipped = target.Skip
	s.dead = !target.Skip && target.Poison != ""
	if target.Route == nil && e.tracker.mode == ackEach && !e.unrouted {
		e.unrouted = true
		e.log.Warn().Uint64("sequence", e.event.Sequence).Str("subject", e.event.Subject).Int("layout", part.layout).
			Msg("messages that no route takes under the layout of their sequence leave the work queue and are not archived")
	}
	n, ok := e.enter(ctx, s, &reply)
	if !ok {
		return
	}
	// Before the event is handed out: Done must never say less than was.
	if meta.Sequence.Stream > e.l.handed.Load() {
		e.l.handed.Store(meta.Sequence.Stream)
	}
	e.l.delivered.Add(1)
	if target.Skip {
		e.l.skipped.Add(1)
		e.skip(n)
		return
	}
	if err := e.sink.Put(ctx, part.layout, target, &e.event, n); err != nil && ctx.Err() == nil {
		end(ended("sink", fmt.Errorf("handing out sequence %d: %w", e.event.Sequence, err)))
	}
}

// enter gives the delivery its slot, and waits while the window is full.
func (e *epoch) enter(ctx context.Context, s slot, r *reply) (uint64, bool) {
	for {
		if n, ok := e.tracker.add(s, r); ok {
			return n, true
		}
		select {
		case <-ctx.Done():
			return 0, false
		case <-e.tracker.room:
		}
	}
}

func (e *epoch) skip(n uint64) {
	e.skipped[0] = n
	e.tracker.Confirm(e.skipped[:])
}

// grant raises this writer's horizon in the control log, and stores the floor
// with its counts there while at it.
func (e *epoch) grant(ctx context.Context, limit uint64) (uint64, error) {
	l := e.l
	p := e.tracker.checkpoint()
	st, err := l.opt.Control.Update(ctx, func(s control.State) (control.State, error) {
		s, err := s.WithHorizon(control.Grant{Writer: l.writer, Incarnation: e.id.Incarnation, Layout: e.layout,
			Horizon: limit, Handed: l.handed.Load(), Time: time.Now().UTC()})
		if err != nil {
			return s, err
		}
		return l.tallied(s, e.id.Incarnation, p), nil
	})
	if err != nil {
		return 0, err
	}
	granted := st.Writers[l.writer].Horizon
	l.board.change(func(s *Status) { s.Horizon = granted })
	return granted, nil
}

// refused makes an epoch's end of what the control log said.
func (e *epoch) refused(err error) error {
	switch {
	case errors.Is(err, control.ErrNewerLayout):
		return e.l.superseded(e.l.opt.Control.State().Layout())
	case errors.Is(err, control.ErrNewerIncarnation):
		return ended("incarnation", err)
	}
	return ended("control", fmt.Errorf("raising the horizon: %w", err))
}

// acknowledge sends acks as they become due.
func (e *epoch) acknowledge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.tracker.wake:
			e.sendAcks()
		}
	}
}

// sendAcks publishes what is due. A lost ack is harmless: the floor in the
// ledger and the objects decide.
func (e *epoch) sendAcks() {
	replies := e.tracker.takeAcks(nil)
	for _, reply := range replies {
		if err := e.l.opt.JS.Conn().Publish(reply, ack); err != nil {
			e.log.Debug().Err(err).Msg("an acknowledgement was not sent")
			break
		}
	}
	e.l.opt.Metrics.acked(len(replies))
}

func (e *epoch) flushAcks(ctx context.Context) {
	e.sendAcks()
	ctx, cancel := context.WithTimeout(ctx, ackFlush)
	defer cancel()
	if err := e.l.opt.JS.Conn().FlushWithContext(ctx); err != nil {
		e.log.Debug().Err(err).Msg("the last acknowledgements may not have been sent")
	}
}
