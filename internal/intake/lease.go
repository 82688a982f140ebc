package intake

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"ossuary/internal/ledger"
)

// checkpointEvery is how often the floor is written to the ledger while it
// moves. A lost second of it costs a second's replay, which the sinks drop.
const checkpointEvery = time.Second

// casTries bounds how often one write is tried anew after a conflict that was
// none of another owner's.
const casTries = 5

var errLeaseLost = errors.New("another instance has taken the lease")

// lease is the lane's entry in the ledger: who reads the lane, and the floor.
// It keeps two instances from doing the same work. Nothing is unsafe without it.
type lease struct {
	js       jetstream.JetStream
	ledger   *ledger.Ledger
	archive  string
	replicas int
	source   string
	lane     string
	owner    string // names this lane's run, not only its instance
	ttl      time.Duration
	off      bool
	seats    *semaphore.Weighted // one for each lane that this instance may have; nil: for all
	log      zerolog.Logger
	metrics  *Metrics
	rival    func(ctx context.Context, owner string) error // asked of an owner that was seen at work; its error ends the wait

	held  atomic.Bool
	sits  atomic.Bool         // has one of the seats
	turn  *semaphore.Weighted // held over requests, so that waiting for it ends with a context
	entry ledger.Lane         // as last written here; guarded by turn, like rev
	rev   uint64
}

// take returns when the lease is ours, with the entry that was there before and
// its epoch already raised. Meanwhile standby is told who has it, and crowded that
// nobody has it although this instance has as many lanes as it may.
//
// A crash right after it leaves a lease that nobody renews: the next owner waits
// for the TTL.
func (l *lease) take(ctx context.Context, standby func(owner string), crowded func()) (_ ledger.Lane, err error) {
	var seen ledger.Lane
	var since time.Time // monotonic: when seen was first seen
	var free time.Time  // likewise: when the lease was first seen free without a seat for us
	defer func() {
		if err != nil && !l.held.Load() {
			l.stand()
		}
	}()
	for {
		e, rev, err := l.read(ctx)
		if err != nil {
			return ledger.Lane{}, err
		}
		if rev != 0 && e.Owner != "" && e.Owner != l.owner && !l.off {
			now := time.Now()
			if since.IsZero() || seen.Owner != e.Owner || seen.Counter != e.Counter {
				if !since.IsZero() && seen.Owner == e.Owner { // it was renewed under our eyes
					if err := l.rival(ctx, e.Owner); err != nil {
						return ledger.Lane{}, err
					}
				}
				if seen.Owner != e.Owner || !free.IsZero() {
					l.log.Info().Str("owner", e.Owner).Dur("ttl", l.ttl).Msg("another instance has the lease, standing by")
					standby(e.Owner)
				}
				seen, since = e, now
			}
			if now.Sub(since) < l.ttl {
				free = time.Time{}
				if err := pause(ctx, l.poll()); err != nil {
					return ledger.Lane{}, err
				}
				continue
			}
		}
		if !l.sit() {
			// Another instance takes it. If none does, there are too few seats.
			switch now := time.Now(); {
			case free.IsZero():
				free = now
				standby("")
			case now.Sub(free) >= l.ttl:
				crowded()
			}
			if err := pause(ctx, l.poll()); err != nil {
				return ledger.Lane{}, err
			}
			continue
		}
		if rev != 0 && e.Owner != "" && e.Owner != l.owner && !l.off {
			l.log.Warn().Str("owner", e.Owner).Uint64("epoch", e.Epoch).Dur("ttl", l.ttl).
				Msg("the lease was not renewed, taking it over")
		}
		next := e
		next.Owner, next.Counter, next.Epoch, next.Updated = l.owner, e.Counter+1, e.Epoch+1, time.Now().UTC()
		newRev, err := l.ledger.PutLane(ctx, l.source, l.lane, next, rev)
		switch {
		case errors.Is(err, ledger.ErrConflict): // somebody was quicker, or the read was stale
			if !l.held.Load() {
				l.stand()
			}
			if err := pause(ctx, l.poll()); err != nil {
				return ledger.Lane{}, err
			}
			continue
		case err != nil:
			return ledger.Lane{}, fmt.Errorf("taking the lease: %w", err)
		}
		if err := l.turn.Acquire(context.WithoutCancel(ctx), 1); err != nil { // nobody has it
			return ledger.Lane{}, err
		}
		l.entry, l.rev = next, newRev
		l.turn.Release(1)
		l.held.Store(true)
		l.metrics.lease(true)
		return next, nil
	}
}

// poll is the pause between two looks at a lease of another's. An instance that has
// all the lanes that it may looks seldom: a thousand lanes that everybody looks at
// each second would be a load of their own.
func (l *lease) poll() time.Duration {
	if l.full() {
		return l.ttl / 2
	}
	return min(max(l.ttl/10, 20*time.Millisecond), time.Second)
}

// sit takes a seat, if there is one or the lane has it already.
func (l *lease) sit() bool {
	if l.seats == nil || l.off || l.sits.Load() {
		return true
	}
	if !l.seats.TryAcquire(1) {
		return false
	}
	l.sits.Store(true)
	return true
}

// stand gives the seat back.
func (l *lease) stand() {
	if l.sits.CompareAndSwap(true, false) {
		l.seats.Release(1)
	}
}

func (l *lease) full() bool {
	switch {
	case l.seats == nil, l.off, l.sits.Load():
		return false
	case !l.seats.TryAcquire(1):
		return true
	}
	l.seats.Release(1)
	return false
}

// read reads the entry, and makes the bucket again if somebody deleted it: that
// loses nothing but time.
func (l *lease) read(ctx context.Context) (ledger.Lane, uint64, error) {
	e, rev, err := l.ledger.Lane(ctx, l.source, l.lane)
	if errors.Is(err, ledger.ErrNoBucket) {
		if err := l.reopen(ctx); err != nil {
			return e, 0, err
		}
		e, rev, err = l.ledger.Lane(ctx, l.source, l.lane)
	}
	switch {
	case errors.Is(err, ledger.ErrNewer):
		return e, 0, newerLedger(err)
	case err != nil:
		return e, 0, fmt.Errorf("reading the lease: %w", err)
	}
	return e, rev, nil
}

func newerLedger(err error) error {
	return &FatalError{What: "the ledger was written by a newer version of Ossuary", Err: err,
		Mend: "update this instance, or stop the newer ones"}
}

func (l *lease) reopen(ctx context.Context) error {
	l.log.Warn().Str("bucket", l.ledger.Bucket()).Msg("the ledger is gone, making it again; the objects hold all that it held")
	// The old handle finds the new bucket by its name.
	_, err := ledger.Open(ctx, l.js, ledger.Config{Archive: l.archive, Replicas: l.replicas, Create: true, Log: l.log})
	if err != nil {
		return fmt.Errorf("making the ledger again: %w", err)
	}
	return nil
}

// write renews the lease and stores what change makes of the entry. It returns
// errLeaseLost if another owner has it. Any other error leaves things open and
// is mended by the next write.
func (l *lease) write(ctx context.Context, change func(*ledger.Lane)) error {
	if err := l.turn.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("renewing the lease: %w", err)
	}
	defer l.turn.Release(1)
	if !l.held.Load() {
		return errLeaseLost
	}
	start := time.Now()
	defer func() { l.metrics.renewal(time.Since(start)) }()
	for range casTries {
		next := l.entry
		next.Counter++
		next.Updated = time.Now().UTC()
		change(&next)
		rev, err := l.ledger.PutLane(ctx, l.source, l.lane, next, l.rev)
		if err == nil {
			l.entry, l.rev = next, rev
			return nil
		}
		switch {
		case errors.Is(err, ledger.ErrNoBucket):
			if err := l.reopen(ctx); err != nil {
				return err
			}
			l.rev = 0
			continue
		case !errors.Is(err, ledger.ErrConflict):
			return fmt.Errorf("renewing the lease: %w", err)
		}
		e, rev, err := l.read(ctx)
		if err != nil {
			return err
		}
		switch {
		case l.off:
			// Several instances write: the higher floor stays.
			if e.Incarnation > l.entry.Incarnation || e.Incarnation == l.entry.Incarnation && e.Floor > l.entry.Floor {
				l.entry = e
			}
			l.entry.Counter = max(l.entry.Counter, e.Counter)
			l.entry.Epoch = max(l.entry.Epoch, e.Epoch)
		case rev == 0, e.Version == 0: // deleted, or unreadable: written anew from what we know
		case e.Owner == l.owner: // a write of ours whose answer was lost, or the ledger was rolled back
			l.entry.Counter = max(l.entry.Counter, e.Counter)
		default:
			l.held.Store(false)
			l.stand()
			l.metrics.lease(false)
			return fmt.Errorf("%w: %s", errLeaseLost, e.Owner)
		}
		l.rev = rev
	}
	return errors.New("renewing the lease: the entry keeps changing")
}

// keep renews the lease, and stores the floor when it has moved, until ctx ends
// or the lease is lost. point says what to store; false means that there is
// nothing yet.
func (l *lease) keep(ctx context.Context, point func() (checkpoint, int, bool)) error {
	renew := l.ttl / 3
	tick := time.NewTicker(min(renew, checkpointEvery))
	defer tick.Stop()
	var stored uint64
	wrote := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		p, incarnation, ok := point()
		if (!ok || p.Floor == stored) && time.Since(wrote) < renew-min(renew, checkpointEvery)/2 {
			continue
		}
		err := l.write(ctx, func(e *ledger.Lane) { l.record(e, p, incarnation, ok) })
		var fatal *FatalError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errLeaseLost), errors.As(err, &fatal):
			return err
		case err != nil:
			l.log.Warn().Err(err).Msg("cannot write the lane to the ledger")
			continue
		}
		if ok {
			stored = p.Floor
		}
		wrote = time.Now()
	}
}

// record puts a checkpoint into the entry. Among several writers the higher
// floor stays, and a newer incarnation.
func (l *lease) record(e *ledger.Lane, p checkpoint, incarnation int, ok bool) {
	if !ok || l.off && (incarnation < e.Incarnation || incarnation == e.Incarnation && p.Floor < e.Floor) {
		return
	}
	e.Incarnation, e.Floor, e.FloorTime, e.Tally = incarnation, p.Floor, p.Time, p.Tally
}

func (l *lease) owned() bool { return l.held.Load() }

// raiseEpoch moves the entry's epoch past one that the ledger did not know of.
func (l *lease) raiseEpoch(ctx context.Context, epoch uint64) error {
	if err := l.turn.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("raising the epoch: %w", err)
	}
	defer l.turn.Release(1)
	l.entry.Epoch = max(l.entry.Epoch, epoch)
	return nil
}

// release stores the last floor and lets the next owner in at once.
func (l *lease) release(ctx context.Context, p checkpoint, incarnation int, ok bool) error {
	err := l.write(ctx, func(e *ledger.Lane) {
		l.record(e, p, incarnation, ok)
		if !l.off {
			e.Owner = ""
		}
	})
	l.held.Store(false)
	l.stand()
	l.metrics.lease(false)
	if errors.Is(err, errLeaseLost) {
		return nil
	}
	return err
}

// pause waits, and returns ctx's error if that ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
