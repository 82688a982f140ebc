package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// lostAudits: after so many audits in a row that find deliveries which never
	// came, they will not come. One may catch them on their way.
	lostAudits = 2
	// stalledAudits: a pull may be on its way, a leader may be changing.
	stalledAudits = 3
	// unackedAudits: acknowledgements may be on their way.
	unackedAudits = 3
	// auditTimeout bounds one look at the consumer.
	auditTimeout = 5 * time.Second
	// reportEvery is how often status and metrics are brought up to date.
	reportEvery = time.Second
	// tidyAudits: what an older owner leaves behind only costs room in the stream.
	tidyAudits = 12
	// troubleAudits: what lasts for so many audits is told to people.
	troubleAudits = 2
)

// auditor compares what the server says it delivered with what was seen. After a
// reconnect without new traffic nothing else tells that deliveries were lost.
type auditor struct {
	deletes                bool // acknowledging frees messages
	seen                   uint64
	lost, stalled, unacked int
}

// judge returns why the epoch must end, nil if all is well. seen, owed and busy are
// from before info was asked for; owed is how many of the messages seen were not
// acknowledged.
func (a *auditor) judge(seen, owed uint64, busy bool, info *jetstream.ConsumerInfo) error {
	quiet := !busy && seen == a.seen
	a.seen = seen
	delivered := info.Delivered.Consumer
	if delivered < seen {
		return ended("audit", fmt.Errorf("the server forgot deliveries: it knows of %d, %d were seen", delivered, seen))
	}
	if !quiet || delivered == seen {
		a.lost = 0
	} else if a.lost++; a.lost >= lostAudits {
		return ended("audit", fmt.Errorf("deliveries were lost: the server sent %d, %d were seen", delivered, seen))
	}
	// Nobody tells of an acknowledgement that got lost, as one does without a leader.
	// The next one may cover it, but none follows where nothing is delivered any
	// more: neither to a consumer with MaxAckPending such messages, nor where none
	// comes.
	full := info.Config.MaxAckPending > 0 && info.NumAckPending >= info.Config.MaxAckPending
	if !quiet || delivered != seen || full || info.NumPending == 0 {
		a.stalled = 0
	} else if a.stalled++; a.stalled >= stalledAudits {
		return ended("stalled", fmt.Errorf("%d messages are waiting in the stream and none comes", info.NumPending))
	}
	if !quiet || delivered != seen || uint64(info.NumAckPending) <= owed || !full && !a.deletes {
		a.unacked = 0
	} else if a.unacked++; a.unacked >= unackedAudits {
		return ended("acks_lost", fmt.Errorf("acknowledgements were lost: the server waits for %d, %d are owed", info.NumAckPending, owed))
	}
	return nil
}

// audit looks at the consumer every few seconds, and keeps acknowledgements,
// status and metrics going meanwhile.
func (e *epoch) audit(ctx context.Context, end context.CancelCauseFunc, cons jetstream.Consumer) {
	look := time.NewTicker(e.l.opt.AuditEvery)
	defer look.Stop()
	report := time.NewTicker(reportEvery)
	defer report.Stop()
	a := auditor{deletes: e.tracker.mode != ackFreely}
	var gone losses
	answered := time.Now()
	var silent error               // why the server has not answered since
	past := e.tracker.checkpoint() // at the last look
	for looks := 1; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-report.C:
			e.tracker.runAhead(now, e.l.opt.AuditEvery)
			e.report()
			e.l.board.trouble(e.trouble(now, answered, silent))
			continue
		case <-e.tracker.replay:
			end(ended("replay", errors.New("an event that was held up is archived, and the floor has to catch up with those behind it")))
			return
		case <-look.C:
		}
		seen, owed, busy, reached := e.seen.Load(), e.tracker.owed(), e.busy.Load(), e.reached.Load()
		asked, cancel := context.WithTimeout(ctx, auditTimeout)
		first, last, err := e.bounds(asked)
		if err == nil && last >= reached {
			err = e.still(asked, past)
		}
		var info *jetstream.ConsumerInfo
		if err == nil {
			info, err = cons.Info(asked)
		}
		if looks++; err == nil && looks%tidyAudits == 0 && e.tracker.mode == ackThrough {
			err = e.tidy(asked)
		}
		cancel()
		var again rewoundError
		var changed *endError
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
			end(ended("consumer_gone", fmt.Errorf("looking at the consumer: %w", err)))
			return
		case errors.As(err, &again):
			end(ended("rewound", err))
			return
		case errors.As(err, &changed):
			end(changed)
			return
		case err == nil && last < reached: // the next epoch sees whether it is so
			end(ended("rewound", fmt.Errorf("the stream ends at sequence %d, and %d was delivered", last, reached)))
			return
		case err != nil: // the connection is down: says nothing about deliveries
			silent = err
			e.l.board.trouble(e.trouble(time.Now(), answered, silent))
			e.log.Debug().Err(err).Msg("cannot look at the consumer")
			continue
		}
		answered, silent, past = time.Now(), nil, e.tracker.checkpoint()
		if err := a.judge(seen, owed, busy, info); err != nil {
			end(err)
			return
		}
		if n := gone.judge(info, first); n > 0 {
			e.l.lost(gone.first, first-1, n)
		}
		e.l.board.change(func(s *Status) { s.Pending = info.NumPending })
		e.l.opt.Metrics.lag(info.NumPending, e.tracker.open())
	}
}

// losses finds messages that left the stream before they were delivered, as they
// do when an outage lasts longer than the stream keeps them.
type losses struct {
	delivered jetstream.SequenceInfo // at the last look; what was lost counts
	pending   bool                   // something was, at the last look
	first     uint64                 // of what was lost
}

// judge returns how many are lost at most since the last look, from first on:
// those of other subjects count with them. start is the stream's first sequence,
// 0 where acknowledgements move it.
//
// Nothing can be told once something behind start was delivered, and where nothing
// was pending it was others' messages that left.
func (g *losses) judge(info *jetstream.ConsumerInfo, start uint64) (n uint64) {
	now, last := info.Delivered, g.delivered
	came := now.Consumer - min(last.Consumer, now.Consumer)
	if g.pending && start > last.Stream+1 && now.Stream < start {
		if n = start - 1 - last.Stream; n > came {
			n -= came
			g.first = last.Stream + 1
		} else {
			n = 0
		}
		now.Stream = start - 1
	}
	g.delivered, g.pending = now, info.NumPending > 0
	return n
}

// bounds are the first and the last sequence that the stream has; first is 0 where
// acknowledgements move it.
func (e *epoch) bounds(ctx context.Context) (first, last uint64, err error) {
	info, err := e.stream.Info(ctx)
	if err != nil {
		return 0, 0, err
	}
	if retention := info.Config.Retention; ackingOf(retention) != e.tracker.mode {
		return 0, 0, ended("stream", fmt.Errorf("the stream's retention was changed to %s", retention))
	}
	if e.tracker.mode == ackFreely {
		first = info.State.FirstSeq
	}
	return first, info.State.LastSeq, nil
}

// rewoundError says that the stream was set back while the epoch read it.
type rewoundError string

func (e rewoundError) Error() string    { return "the stream was set back: " + string(e) }
func (rewoundError) StreamReused() bool { return true }

// still compares the message at a floor of some time ago. A stream that was set back
// and has grown beyond what was delivered goes on as if nothing had happened: its
// consumer passes over the sequences that are used again, and so would the floor.
func (e *epoch) still(ctx context.Context, past checkpoint) error {
	if past.Floor == 0 || past.Time.IsZero() {
		return nil
	}
	why, _, err := e.l.another(ctx, past)
	if err == nil && why != "" {
		return rewoundError(why)
	}
	return err
}

// trouble is why the lane does not go on although nothing has ended the epoch, ""
// if it does.
func (e *epoch) trouble(now, answered time.Time, silent error) string {
	patience := troubleAudits * e.l.opt.AuditEvery
	if since, err := e.horizon.stands(); !since.IsZero() && now.Sub(since) > patience {
		if err != nil {
			return "waiting for the control log: " + err.Error()
		}
		return "waiting for the control log"
	}
	if silent != nil && now.Sub(answered) > patience {
		return "the server does not answer for the consumer: " + silent.Error()
	}
	return ""
}

// report brings status and metrics up to date. It is called by one goroutine at
// a time.
func (e *epoch) report() {
	p, open, oldest := e.tracker.checkpoint(), e.tracker.open(), e.tracker.oldest()
	e.l.board.change(func(s *Status) { s.Floor, s.FloorTime, s.Open, s.Oldest = p.Floor, p.Time, open, oldest })
	delivered, skipped := e.l.delivered.Load(), e.l.skipped.Load()
	e.l.opt.Metrics.counted(delivered-e.l.told.delivered, skipped-e.l.told.skipped)
	e.l.told.delivered, e.l.told.skipped = delivered, skipped
}
