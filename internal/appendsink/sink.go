// Package appendsink appends events to series of appendable objects, each event
// once and in stream order, whatever fails.
//
// The object is the log. AppendObject's position is a compare-and-swap, every
// append is a frame that says what it holds, and a writer that is refused reads
// the object forward, adopts the valid frames that it finds, drops the events
// they hold from its own batch, and goes on behind them. Any number of writers
// may do so at once: safety needs no lease, lock or clock. append.go is the
// protocol, top to bottom.
//
// Guaranteed: a slot is confirmed only after its event stands in a valid frame
// (or, for an event another writer passed over, in the dead letters); the bytes
// of a series never hold an event twice; sequences rise within an incarnation.
// Not guaranteed: that an event which was added is ever appended. The caller
// keeps it unacknowledged until it is confirmed.
//
// What lives here: batching, the memory budget, one in-flight append per
// series, sealing and rolling, checkpoints of the tails. What does not: how
// bytes look (internal/event), which series an event belongs to
// (internal/router), how requests are made (internal/objectstore).
package appendsink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
)

// store is the part of an object store that the protocol needs.
//
// Append is atomic: all of body stands at position and is durable when it
// returns without an error, or, after an error that is not object.InDoubt or
// object.Throttled, nothing was and nothing will be written by it. Head and
// Read see every append that was confirmed before they were called.
// All methods may be called concurrently.
type store interface {
	Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error)
	Head(ctx context.Context, key string) (object.Info, error)
	// Read streams the bytes [from, to).
	Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error)
	// List calls fn for each object whose key begins with prefix, in key order.
	List(ctx context.Context, prefix string, fn func(object.Entry) error) error
}

// checkpoints is the part of the ledger that keeps tails. Losing what was put
// costs reads, never correctness, so nothing here waits for it.
type checkpoints interface {
	Tails(ctx context.Context, source, lane string) (map[string]ledger.TailEntry, error)
	Tail(ctx context.Context, source, lane, series string) (ledger.Tail, uint64, error)
	PutTail(ctx context.Context, source, lane, series string, t ledger.Tail, rev uint64) (uint64, error)
	DeleteTail(ctx context.Context, source, lane, series string, rev uint64) error
}

// Flush says when a batch is sent, as soon as the series' line is free.
type Flush struct {
	Size   int           // bytes of encoded lines
	Events int           // events
	Linger time.Duration // since the batch's first event
}

// Roll says when a segment is sealed.
type Roll struct {
	Size int64         // bytes stored; a frame that would take the segment past it goes to the next
	Age  time.Duration // since its first append; 0: never
	Idle time.Duration // since its last append; 0: never
}

// Spec says how the events of one series are written. Specs are compared by
// pointer: use one per route, layout and series.
type Spec struct {
	Series  string
	Route   string
	Encoder event.Encoder
	Codec   event.Codec
	Audit   bool // with an RFC 6962 root over the events of each frame
	Layout  int
	Flush   Flush
	Roll    Roll
	Create  *object.Create // sent with the append that creates a segment; may be nil
}

func (sp *Spec) ext() string { return event.Ext(sp.Encoder.Format, sp.Codec) }

func (sp *Spec) rollSize() int64 {
	if sp.Roll.Size <= 0 {
		return defaultRollSize
	}
	return min(sp.Roll.Size, maxRollSize)
}

const (
	defaultRollSize = 1 << 30
	// maxRollSize leaves room below object.MaxSize for a seal with its index, and
	// for foreign bytes that a break has to stand behind.
	maxRollSize = 9 << 29 // 4.5 GiB
)

// Options are what a Set needs. Fields without a remark are required.
type Options struct {
	Archive, Source, Lane string
	Prefix                string         // of every key, may be ""
	Stream                event.StreamID // the incarnation that this epoch writes under
	Store                 store
	Ledger                checkpoints         // nil: keep no checkpoints
	LedgerInterval        time.Duration       // least time between two checkpoints of a series; 0: 1 s
	Budget                *Budget             // shared by all sets of the process
	Appends               *semaphore.Weighted // bounds the appends in flight, shared likewise
	OpenSeries            int                 // series kept in memory; 0: 10,000
	Level                 int                 // compression level; 0: the codec's default

	Dead      func(layout int) *Spec  // the lane's dead-letter series; called from any goroutine
	RouteRoll func(route string) Roll // for the sweep of series known from the ledger only

	Confirm func(slots []uint64) // the events of these slots are in the archive; must not call back into the Set
	Forget  func(slot uint64)    // the event was let go; the floor stays before it until the next epoch
	Floor   func() uint64        // the lane's floor; nil: never take sealed series out of the ledger
	// Pressed says that no more events will come before some are confirmed, soon;
	// nil: they always will. Called with the Set's lock held.
	Pressed func() bool

	Metrics *Metrics // nil: not counted
	Tracer  Tracer   // nil: batches are not traced
	Log     zerolog.Logger
}

// Reasons for which an epoch cannot go on. They end Run.
var (
	// ErrIncarnation: a series holds frames of a later incarnation than this
	// epoch believes in; who wrote them knows more.
	ErrIncarnation = errors.New("a series holds a later incarnation of the stream than this epoch knows")
	// ErrReplay: a held series is free again, and events were forgotten
	// meanwhile; the next epoch brings them.
	ErrReplay = errors.New("a held series is free again and has events to catch up on")
	// ErrBehind: frames of another writer, or of ours that the ledger lacks, are so
	// far ahead that what comes cannot be compared with all of them.
	ErrBehind = errors.New("a series is too far ahead of this epoch")
)

var errEnded = errors.New("the epoch has ended")

// ReuseError says that the stream hands out sequences again which the series
// already holds for other events: it was rewound or recreated, and nobody has
// raised the incarnation yet.
type ReuseError struct {
	Series      string
	Sequence    uint64
	Incarnation int // the one under which this was seen
}

func (e *ReuseError) Error() string {
	return fmt.Sprintf("series %s already holds another event with sequence %d (incarnation %d): the stream was rewound or recreated",
		e.Series, e.Sequence, e.Incarnation)
}

// StreamReused marks the error for the intake, which raises the incarnation.
func (e *ReuseError) StreamReused() bool { return true }

// Hold says why a series is not being appended to.
type Hold struct {
	Series string    `json:"series"`
	Cause  string    `json:"cause"` // see Cause
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`

	cause Cause
}

// Metrics counts what the sets of a process did. All fields may be read at any
// time.
type Metrics struct {
	Appends         atomic.Int64 // confirmed appends
	Bytes           atomic.Int64 // stored bytes of these
	Events          atomic.Int64 // events appended
	Refusals        atomic.Int64 // appends refused for their position
	Doubts          atomic.Int64 // appends whose outcome was unknown
	Garbled         atomic.Int64 // appends confirmed with a position or CRC-64 other than computed
	Adoptions       atomic.Int64 // frames of others, or of lost responses, that were adopted
	AdoptedEvents   atomic.Int64 // own waiting events found in such frames
	AlreadyHeld     atomic.Int64 // events that came again and were in the series already
	Breaks          atomic.Int64 // segments left for bytes that are no frame
	Seals           atomic.Int64
	Overtaken       atomic.Int64 // events sent to the dead letters because another writer passed them over
	DeadLetters     atomic.Int64 // events put into dead-letter series
	Forgotten       atomic.Int64
	Holds           ByCause
	LedgerWrites    atomic.Int64
	LedgerConflicts atomic.Int64
	LedgerErrors    atomic.Int64
	OpenSeries      atomic.Int64 // gauge
	HeldSeries      ByCause      // gauge

	ObserveAppend func(d time.Duration, bytes, events int) // may be nil; set before use
	ObserveBreak  func(key, reason string)                 // a segment was left that was not sealed; likewise
	// ObserveArchived is told of a route's events that are in the archive: how many
	// were appended just now, with the stored bytes, 0 if they were found there; and
	// the greatest stream timestamp among them. Likewise.
	ObserveArchived func(route string, appended, bytes int, newest time.Time)
}
