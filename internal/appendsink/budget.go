package appendsink

import (
	"context"
	"sync"
)

// Budget is the memory that events take on their way through a process, over all of
// its lanes. Those that wait may take five eighths of it; from half of it on batches
// go early. The rest is for what is not counted one by one: the state of open series,
// messages that the client library has, frames that are being sent. Without it the
// collector would have no room to work in, and would work all the time.
//
// A full budget blocks the intake, which stops the pulls; an empty one admits any
// single event, so that no size of event can wedge it. The share that held series keep
// for long does not count there.
type Budget struct {
	limit int64 // of all
	most  int64 // of what waits

	mu     sync.Mutex
	used   int64
	held   int64         // of used: in held series
	change chan struct{} // closed and replaced when what is taken changes, if somebody waits
	waits  int           // for change
	wakes  []func()
	awake  []func() // wakes without those that were cancelled; replaced, never changed
}

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget {
	return &Budget{limit: limit, most: limit / 8 * 5, change: make(chan struct{})}
}

// Used returns the bytes taken and, of these, those of held series.
func (b *Budget) Used() (used, held int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.held
}

// Limit returns how many bytes what waits may take.
func (b *Budget) Limit() int64 { return b.most }

// subscribe has wake called, without a lock of ours, whenever the budget is more
// than half used and something about it changes.
func (b *Budget) subscribe(wake func()) (cancel func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := len(b.wakes)
	b.wakes = append(b.wakes, wake)
	b.awake = b.subscribed()
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.wakes[i] = nil
		for len(b.wakes) > 0 && b.wakes[len(b.wakes)-1] == nil {
			b.wakes = b.wakes[:len(b.wakes)-1]
		}
		b.awake = b.subscribed()
	}
}

func (b *Budget) subscribed() []func() {
	out := make([]func(), 0, len(b.wakes))
	for _, w := range b.wakes {
		if w != nil {
			out = append(out, w)
		}
	}
	return out
}

// try takes n bytes if the budget is at ease: not more than half used with them. What
// there is to decide, and whom to wake, beyond that, acquire knows.
func (b *Budget) try(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.limit/2 {
		return false
	}
	b.used += n
	return true
}

// acquire takes n bytes, waiting until they fit. It returns false without having
// taken any once giveUp says so.
func (b *Budget) acquire(ctx context.Context, n int64, giveUp func() bool) (bool, error) {
	for {
		if giveUp() {
			return false, nil
		}
		b.mu.Lock()
		if b.used+n <= b.most || (b.used == b.held && b.held <= b.limit/heldShare) {
			b.used += n
			wakes := b.pressedLocked()
			b.mu.Unlock()
			for _, w := range wakes {
				w()
			}
			return true, nil
		}
		change, wakes := b.change, b.pressedLocked()
		b.waits++
		b.mu.Unlock()
		for _, w := range wakes {
			w()
		}
		var err error
		select {
		case <-change:
		case <-ctx.Done():
			err = ctx.Err()
		}
		b.mu.Lock()
		b.waits--
		b.mu.Unlock()
		if err != nil {
			return false, err
		}
	}
}

// add changes what is taken without waiting: a buffer grew, or events are done.
func (b *Budget) add(n, held int64) {
	b.mu.Lock()
	b.used += n
	b.held += held
	if n < 0 || held != 0 {
		b.changed()
	}
	wakes := b.pressedLocked()
	b.mu.Unlock()
	for _, w := range wakes {
		w()
	}
}

// nudge makes those who wait look again.
func (b *Budget) nudge() {
	b.mu.Lock()
	b.changed()
	b.mu.Unlock()
}

// changed makes those who wait look again; b.mu is held. Whoever looks and then
// waits does both under one hold of b.mu.
func (b *Budget) changed() {
	if b.waits > 0 {
		close(b.change)
		b.change = make(chan struct{})
	}
}

func (b *Budget) pressed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used > b.limit/2
}

func (b *Budget) heldOver(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held+n > b.limit/heldShare
}

// pressedLocked are those to be woken; b.mu is held.
func (b *Budget) pressedLocked() []func() {
	if b.used <= b.limit/2 {
		return nil
	}
	return b.awake
}
