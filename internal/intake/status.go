package intake

import (
	"sync"
	"time"
)

// State is what a lane is doing.
type State string

// The states of a lane. It is ready when it is standing by, or running without a
// reason why it does not get on.
const (
	Starting State = "starting"
	Standby  State = "standby" // another instance has the lease
	Running  State = "running"
	Backoff  State = "backoff" // an epoch ended, the next one follows
	Stopped  State = "stopped"
)

// States are all of them.
var States = []State{Starting, Standby, Running, Backoff, Stopped}

// Status is a lane's state at one moment.
type Status struct {
	Source      string    `json:"source"`
	Lane        string    `json:"lane"`
	State       State     `json:"state"`
	Reason      string    `json:"reason,omitempty"` // what it waits for, or why the last epoch ended
	Since       time.Time `json:"since"`
	Owner       string    `json:"owner,omitempty"` // who has the lease while standing by
	Epoch       uint64    `json:"epoch"`
	Incarnation int       `json:"incarnation"`
	Layout      int       `json:"layout"`
	Floor       uint64    `json:"floor"`
	FloorTime   time.Time `json:"floor_time,omitzero"`
	Horizon     uint64    `json:"horizon"`
	Delivered   uint64    `json:"delivered"`       // by this process
	Open        int       `json:"open"`            // delivered and not archived
	Oldest      time.Time `json:"oldest,omitzero"` // stream timestamp of the oldest of these
	Pending     uint64    `json:"pending"`         // in the stream and not delivered, as of the last audit
	LastErr     string    `json:"last_error,omitempty"`
}

// Metrics are hooks that are called a few times a second at most; each may be
// nil, and so may the Metrics. They must not block. What has a value at any moment
// stands in Status.
type Metrics struct {
	EpochStarted func(epoch uint64)
	EpochEnded   func(reason string)
	Lag          func(pending uint64, open int) // not delivered; delivered and not archived
	Delivered    func(n uint64)                 // more
	Skipped      func(n uint64)                 // more
	Acked        func(n int)                    // more acknowledgements sent
	Lease        func(held bool)
	Expired      func(n uint64)           // at most so many messages were gone before they were archived
	Incarnation  func(incarnation int)    // a new one has begun
	Renewal      func(took time.Duration) // of the lease or of the floor in the ledger
}

func (m *Metrics) epochStarted(n uint64) {
	if m != nil && m.EpochStarted != nil {
		m.EpochStarted(n)
	}
}

func (m *Metrics) epochEnded(reason string) {
	if m != nil && m.EpochEnded != nil {
		m.EpochEnded(reason)
	}
}

func (m *Metrics) lag(pending uint64, open int) {
	if m != nil && m.Lag != nil {
		m.Lag(pending, open)
	}
}

func (m *Metrics) counted(delivered, skipped uint64) {
	if m != nil && m.Delivered != nil && delivered > 0 {
		m.Delivered(delivered)
	}
	if m != nil && m.Skipped != nil && skipped > 0 {
		m.Skipped(skipped)
	}
}

func (m *Metrics) acked(n int) {
	if m != nil && m.Acked != nil {
		m.Acked(n)
	}
}

func (m *Metrics) lease(held bool) {
	if m != nil && m.Lease != nil {
		m.Lease(held)
	}
}

func (m *Metrics) expired(n uint64) {
	if m != nil && m.Expired != nil {
		m.Expired(n)
	}
}

func (m *Metrics) incarnation(n int) {
	if m != nil && m.Incarnation != nil {
		m.Incarnation(n)
	}
}

func (m *Metrics) renewal(took time.Duration) {
	if m != nil && m.Renewal != nil {
		m.Renewal(took)
	}
}

// board holds the status.
type board struct {
	mu sync.Mutex
	s  Status
}

func (b *board) set(state State, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.s.State != state {
		b.s.Since = time.Now().UTC()
	}
	b.s.State, b.s.Reason = state, reason
}

// trouble says what keeps a running lane from going on.
func (b *board) trouble(reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.s.State == Running {
		b.s.Reason = reason
	}
}

func (b *board) change(f func(*Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.s)
}

func (b *board) get() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.s
}
