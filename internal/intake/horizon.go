package intake

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"ossuary/internal/control"
)

// horizonRetry is the pause after a raise that failed.
const horizonRetry = time.Second

// firstStep caps the first raise of an epoch with a backlog.
const firstStep = 50_000

// horizon is the highest sequence that this writer may hand out. It is raised in
// the background before it is reached; a callback that reaches it waits.
//
// The control log guarantees that no layout begins at or below it, so what it
// allows to hand out is settled whatever happens meanwhile.
type horizon struct {
	limit atomic.Uint64
	low   atomic.Uint64 // raise when fewer sequences than this are left
	kick  chan struct{}

	mu    sync.Mutex
	want  uint64        // a callback waits for this sequence
	since time.Time     // since then; zero if none waits
	err   error         // of the last raise
	moved chan struct{} // closed and replaced when limit rises
}

func newHorizon(limit, step uint64) *horizon {
	h := &horizon{kick: make(chan struct{}, 1), moved: make(chan struct{})}
	h.limit.Store(limit)
	h.low.Store(step / 2)
	return h
}

// wait returns when seq may be handed out.
func (h *horizon) wait(ctx context.Context, seq uint64) error {
	if limit := h.limit.Load(); seq <= limit {
		if limit-seq < h.low.Load() {
			signal(h.kick)
		}
		return nil
	}
	defer func() {
		h.mu.Lock()
		h.since = time.Time{}
		h.mu.Unlock()
	}()
	for {
		h.mu.Lock()
		moved := h.moved
		h.want = max(h.want, seq)
		if h.since.IsZero() {
			h.since = time.Now()
		}
		h.mu.Unlock()
		if seq <= h.limit.Load() {
			return nil
		}
		signal(h.kick)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		}
	}
}

// stands is since when a callback has been waiting, zero if none does, and why
// the last raise failed.
func (h *horizon) stands() (since time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.since, h.err
}

func (h *horizon) failed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *horizon) raise(limit, step uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.low.Store(step / 2)
	h.limit.Store(max(limit, h.limit.Load()))
	h.err = nil
	close(h.moved)
	h.moved = make(chan struct{})
}

// stepper sizes the raises so that one lasts for about ahead at the rate that
// the last one was used up.
type stepper struct {
	step, least uint64
	ahead       time.Duration
	last        time.Time
}

func (s *stepper) next(now time.Time) uint64 {
	if !s.last.IsZero() {
		switch took := now.Sub(s.last); {
		case took < s.ahead/2: // half a step, see low
			s.step *= 2
		case took > 2*s.ahead:
			s.step = max(s.step/2, s.least)
		}
	}
	s.last = now
	return s.step
}

// keep raises the horizon until ctx ends, or a raise is refused for good. grant
// writes it to the control log and returns what is granted.
func (h *horizon) keep(ctx context.Context, st *stepper, handed func() uint64,
	grant func(ctx context.Context, limit uint64) (uint64, error), log zerolog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.kick:
		}
		h.mu.Lock()
		from := max(h.want, handed())
		h.mu.Unlock()
		limit := h.limit.Load()
		if from+h.low.Load() < limit {
			continue // kicked for what the last raise has mended
		}
		step := st.next(time.Now())
		granted, err := grant(ctx, max(from, limit)+step)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // ended, not refused
		case final(err):
			return err
		case err != nil:
			h.failed(err)
			log.Warn().Err(err).Msg("cannot raise the horizon in the control log, trying again")
			if pause(ctx, horizonRetry) != nil {
				return nil //nolint:nilerr // ended, and the error is logged
			}
			signal(h.kick)
			continue
		}
		h.raise(granted, step)
	}
}

// final reports whether the control log has refused for good.
func final(err error) bool {
	var fatal *FatalError
	return errors.Is(err, control.ErrNewerLayout) || errors.Is(err, control.ErrNewerIncarnation) ||
		errors.Is(err, control.ErrNoLog) || errors.As(err, &fatal)
}
