package intake

import (
	"context"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"ossuary/internal/control"
	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
	"ossuary/internal/router"
)

// Sink is where an epoch's events go.
type Sink interface {
	// Load reads what the ledger knows of the archive, before the first message is
	// asked for. What others archive from then on is compared with what comes.
	Load(ctx context.Context) error
	// Put takes an event under the layout of that number. It blocks while there
	// is no room, which stops the pulls. e and what it refers to are free again
	// when Put returns. With a nil error the slot will be confirmed or forgotten
	// unless Run ends first.
	Put(ctx context.Context, layout int, t router.Target, e *event.Event, slot uint64) error
	// Run works until ctx ends (nil), or returns why the epoch has to end. No
	// slot is confirmed after it has returned.
	Run(ctx context.Context) error
	// Drain returns when everything that was put is confirmed, or ctx ends.
	// Nothing is put any more. Run is still running.
	Drain(ctx context.Context) error
}

// SinkOptions is what the sink of an epoch gets. Its functions may be called
// from many goroutines and do not block.
type SinkOptions struct {
	Stream     event.StreamID
	Epoch      uint64
	Confirm    func(slots []uint64) // these events are archived
	Forget     func(slot uint64)    // this one is not, and will not be in this epoch
	DeadLetter func(slot uint64)    // this one went to the dead letters; before Confirm
	// Pressed says that half of the events are open that may be: without the oldest
	// confirmed, no more will come soon.
	Pressed func() bool
}

// reused is implemented by the error with which a sink says that a series holds
// an event of this sequence that is not the one it was handed: the stream's
// sequences have been used again.
type reused interface{ StreamReused() bool }

// store is where the layouts are.
type store interface {
	Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error)
	Head(ctx context.Context, key string) (object.Info, error)
	Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error)
	List(ctx context.Context, prefix string, fn func(object.Entry) error) error
}

// Start says where a source begins of which nothing was ever archived. The zero
// value is the first message that the stream has.
type Start struct {
	New      bool      // after the last message
	Sequence uint64    // at this one
	Time     time.Time // at the first message of that time or later
}

// IsZero reports whether s is the stream's first message.
func (s Start) IsZero() bool { return !s.New && s.Sequence == 0 && s.Time.IsZero() }

// Options says what to read and where it goes. Zero durations and numbers mean
// the defaults below.
type Options struct {
	Archive, Prefix string
	Source          string // the stream's name
	Lane            string
	Owner           string // names this instance to people; with LeaseOff it must stay the same over restarts

	JS             jetstream.JetStream
	Ledger         *ledger.Ledger
	LedgerReplicas int // of the bucket, should it have to be made again
	Control        *control.Log
	Store          store

	Layout  router.Layout
	Start   Start
	NewSink func(SinkOptions) (Sink, error)

	MaxAckPending int                 // default 20000
	PullBytes     int                 // that one pull may bring; default 8 MiB, and room for any message in any case
	LeaseTTL      time.Duration       // default 15 s
	LeaseOff      bool                // several instances read the lane at once: safe, and work is done twice
	Replace       bool                // stand by for an owner with other routes, rather than be refused
	Seats         *semaphore.Weighted // shared by the lanes of this process: as many of them have their lease at once; nil: all
	HorizonAhead  time.Duration       // how much traffic a raise of the horizon should last for; default HorizonAhead(Layout.Lanes)
	HorizonMin    uint64              // the least it is raised by; default HorizonMin sequences
	AuditEvery    time.Duration       // default 5 s
	DrainTimeout  time.Duration       // default 30 s
	Outage        time.Duration       // see CheckOptions

	Metrics *Metrics // may be nil
	Log     zerolog.Logger

	serverVersion string // for tests: what the server is taken for
	window        int    // for tests: of the tracker
}

// HorizonMin is the least that a horizon is raised by, in sequences.
const HorizonMin = 1000

// HorizonAhead is how much traffic a raise of the horizon lasts for, about, in a
// source of so many lanes. All lanes write to one control log, which takes one
// append at a time, and each line of it tells of every lane: with many, each has to
// raise its horizon less often. What it costs is that a new layout takes hold later,
// behind the highest horizon.
func HorizonAhead(lanes int) time.Duration {
	return max(10*time.Second, time.Duration(lanes)*time.Second)
}

func (o Options) withDefaults() Options {
	if o.MaxAckPending == 0 {
		o.MaxAckPending = 20_000
	}
	if o.PullBytes == 0 {
		o.PullBytes = pullBytes
	}
	if o.HorizonMin == 0 {
		o.HorizonMin = HorizonMin
	}
	for p, d := range map[*time.Duration]time.Duration{
		&o.LeaseTTL:     15 * time.Second,
		&o.HorizonAhead: HorizonAhead(o.Layout.Lanes),
		&o.AuditEvery:   5 * time.Second,
		&o.DrainTimeout: 30 * time.Second,
	} {
		if *p == 0 {
			*p = d
		}
	}
	return o
}

// FatalError is a state of things that no retry mends.
type FatalError struct {
	What string
	Mend string // what a person has to do
	Err  error  // the cause, may be nil
}

func (e *FatalError) Error() string {
	s := e.What
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + "; " + e.Mend
}

func (e *FatalError) Unwrap() error { return e.Err }

// EndReasons are the words for why an epoch ended: values of a metric's label.
var EndReasons = []string{
	"acks_lost", "audit", "breach", "consume", "consumer_gone", "control", "error", "incarnation", "interrupted",
	"lease", "lease_lost", "replay", "rewound", "sink", "stalled", "stream",
}

// endError says why an epoch ended; its reason is one of EndReasons.
type endError struct {
	reason string
	err    error
}

func (e *endError) Error() string { return e.err.Error() }
func (e *endError) Unwrap() error { return e.err }

func ended(reason string, err error) error { return &endError{reason, err} }
