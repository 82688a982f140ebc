package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"

	"ossuary/internal/object"
)

const (
	// defaultRoll is the size past which a log goes on in a next object. It only
	// keeps objects handy: the end is all that is read.
	defaultRoll = 64 << 20
	// maxLine is the longest line in bytes, without its newline. Longer ones are
	// no lines, so that a reader need not hold what somebody else has put there.
	maxLine = 1 << 20
	// spoil ends bytes that no newline ends before our own line begins. The mark
	// keeps them from ever being read as a line: the bytes may be a whole line
	// but for its newline, which its writer was told nothing of, and which every
	// reader so far has passed over.
	spoil = "#\n"
)

// store is the part of an object store that the control log lives on. Append is
// atomic and succeeds only where position is the object's length; errors are
// *object.Error.
type store interface {
	Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error)
	Head(ctx context.Context, key string) (object.Info, error)
	Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error)
	List(ctx context.Context, prefix string, fn func(object.Entry) error) error
}

// Options names the control log of one source of one archive.
type Options struct {
	Archive string
	Prefix  string // of every key of the archive
	Source  string // name of the stream
	Writer  string // this instance, noted in every line for people
	Roll    int64  // bytes after which the log goes on in a next object; 0 means 64 MiB
	Log     zerolog.Logger
}

// BlockedError says why the log can be neither believed nor written. Nothing but
// a person mends it.
type BlockedError struct {
	Key      string
	Position int64
	What     string
	Mend     string
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("%s at position %d: %s; %s", e.Key, e.Position, e.What, e.Mend)
}

// Log is the control log of one source. It is safe for concurrent use.
type Log struct {
	store  store
	o      Options
	turn   chan struct{} // holds a token while nobody reads or writes the object
	at     cursor        // guarded by turn
	stuck  bool          // the log was blocked when it was last read; guarded by turn
	state  atomic.Pointer[State]
	object atomic.Int64 // at.number, for those who have no turn
}

// cursor is how far the log was read.
type cursor struct {
	number int    // of the object
	length int64  // of the object, as far as it was read: where the next append goes
	crc    uint64 // of these bytes
	start  int64  // behind the last newline before length; less than length behind foreign bytes
}

// Open reads the newest state of the control log, which need not exist. It
// retries until ctx ends, unless the store refuses.
func Open(ctx context.Context, s store, o Options) (*Log, error) {
	if o.Roll == 0 {
		o.Roll = defaultRoll
	}
	l := &Log{store: s, o: o, turn: make(chan struct{}, 1)}
	l.state.Store(&State{})
	l.object.Store(1)
	if err := retry(ctx, o.Log, func() error { return l.find(ctx) }); err != nil {
		return nil, fmt.Errorf("opening the control log of %s: %w", o.Source, err)
	}
	if _, _, err := l.forward(ctx, ""); err != nil {
		return nil, fmt.Errorf("opening the control log of %s: %w", o.Source, err)
	}
	l.turn <- struct{}{}
	return l, nil
}

// Exists reports whether the log held a line when it was last read.
func (l *Log) Exists() bool { return l.State().Exists() }

// State is the newest state that was read or written here; the zero State if
// the log does not exist. It must not be changed.
func (l *Log) State() State { return *l.state.Load() }

// Key is the object that the log stands in at present.
func (l *Log) Key() string { return l.key(int(l.object.Load())) }

// Refresh reads what others have appended and returns the newest state. It
// retries until ctx ends, unless the store refuses.
func (l *Log) Refresh(ctx context.Context) (State, error) {
	if err := l.take(ctx); err != nil {
		return l.State(), err
	}
	defer l.give()
	if _, _, err := l.forward(ctx, ""); err != nil {
		return l.State(), fmt.Errorf("reading the control log of %s: %w", l.o.Source, err)
	}
	return l.State(), nil
}

// Update replaces the newest state by what fn makes of it, as one
// compare-and-swap, and returns the newest state after it. fn is called again
// whenever somebody else was quicker; the error that it returns for the newest
// state is Update's. A state that fn leaves as it was is not written again. What
// holds is the state that Update returns, not what fn made last: an earlier
// attempt may be the one that landed.
//
// A store that does not answer is asked again until ctx ends. After an error that
// is not fn's the line may have been written, or may yet appear.
func (l *Log) Update(ctx context.Context, fn func(State) (State, error)) (State, error) {
	if err := l.take(ctx); err != nil {
		return l.State(), err
	}
	defer l.give()
	if l.stuck {
		if _, _, err := l.forward(ctx, ""); err != nil {
			return l.State(), fmt.Errorf("reading the control log of %s: %w", l.o.Source, err)
		}
	}

	// One ID for all attempts. At most one of them can land: each is tied to a
	// position, and the position is only left when other bytes stand there. It
	// need not be the last attempt, so what counts is the line in the object.
	id := nuid.Next()
	wait := newPatience(l.o.Log)
	newest := false // whether the state was the newest at some time since the call
	for {
		state := l.State()
		next, err := fn(state.Clone())
		unchanged := err == nil && reflect.DeepEqual(state, next)
		if err == nil && !unchanged {
			err = l.admissible(state, next)
		}
		if err != nil || unchanged {
			// Refused, or nothing to do: only the newest state can say that.
			if newest {
				return state, err
			}
			moved, own, ferr := l.forward(ctx, id)
			switch {
			case ferr != nil:
				return state, fmt.Errorf("reading the control log of %s: %w", l.o.Source, ferr)
			case own:
				return l.State(), nil
			case !moved:
				return state, err
			}
			newest = true
			continue
		}

		body, err := l.encode(state, &next, id)
		if err != nil {
			return state, err
		}
		var create *object.Create
		if l.at.length == 0 {
			create = &object.Create{ContentType: "application/x-ndjson"}
		}
		end, crc := l.at.length+int64(len(body)), object.CRC64(l.at.crc, body)
		done, err := l.store.Append(ctx, l.key(l.at.number), l.at.length, object.Body{body}, create)
		if err == nil && done.Next == end && done.CRC64 == crc {
			// The commit point. A crash before it leaves the old state or, if the
			// response was lost, this one; either is whole.
			l.at.length, l.at.crc, l.at.start = end, crc, end
			l.adopt(next)
			return l.State(), nil
		}
		switch kind := object.KindOf(err); {
		case err == nil:
			l.o.Log.Warn().Str("key", l.key(l.at.number)).Int64("position", l.at.length).Int64("next", done.Next).
				Msg("append to the control log was confirmed with another length or checksum than it should have; reading it again")
		case kind == object.Mismatch, kind == object.NotFound:
		case kind == object.InDoubt, kind == object.Throttled:
			if werr := wait.sleep(ctx, err); werr != nil {
				return state, fmt.Errorf("writing the control log of %s: %w", l.o.Source, werr)
			}
		default:
			return state, fmt.Errorf("writing the control log of %s: %w", l.o.Source, err)
		}

		// Somebody was quicker, or we do not know: the object tells. While its
		// length is what it was the append may still arrive, but then the next
		// attempt, at the same position, does not; once it has grown by other bytes
		// neither does.
		moved, own, ferr := l.forward(ctx, id)
		switch {
		case ferr != nil:
			return state, fmt.Errorf("reading the control log of %s: %w", l.o.Source, ferr)
		case own:
			return l.State(), nil
		case !moved && object.KindOf(err) == object.Mismatch:
			// Refused at what Head calls the length. Odd, but no reason to spin.
			if werr := wait.sleep(ctx, err); werr != nil {
				return state, fmt.Errorf("writing the control log of %s: %w", l.o.Source, werr)
			}
		}
		newest = true
	}
}

// admissible refuses what must not be written, whatever the caller wants.
func (l *Log) admissible(state, next State) error {
	if len(next.Layouts) == 0 {
		return ErrNoLog
	}
	return state.follows(next)
}

// encode completes next as the line behind state and returns the bytes to append.
func (l *Log) encode(state State, next *State, id string) ([]byte, error) {
	var lead string
	if l.at.start < l.at.length {
		lead = spoil
	}
	next.Version = Version
	next.Position = l.at.length + int64(len(lead))
	next.Number = state.Number + 1
	next.ID = id
	next.Archive, next.Source = l.o.Archive, l.o.Source
	next.Next = ""
	next.Updated = time.Now().UTC()
	next.Writer = l.o.Writer
	line, err := json.Marshal(next)
	if err == nil && next.Position+int64(len(line)) >= l.o.Roll {
		next.Next = l.key(l.at.number + 1)
		line, err = json.Marshal(next)
	}
	if err != nil {
		return nil, fmt.Errorf("control: encoding the state: %w", err)
	}
	if len(line) > maxLine {
		return nil, fmt.Errorf("control: the state takes %d bytes, a line may have %d", len(line), maxLine)
	}
	return append(append([]byte(lead), line...), '\n'), nil
}

// adopt makes s the newest state, and goes to the next object if s names one.
func (l *Log) adopt(s State) {
	if s.Next != "" {
		s.Next = ""
		l.at = cursor{number: l.at.number + 1}
	}
	l.state.Store(&s)
	l.object.Store(int64(l.at.number))
}

func (l *Log) key(number int) string {
	return fmt.Sprintf("%s%06d.jsonl", l.keyPrefix(), number)
}

func (l *Log) keyPrefix() string {
	return l.o.Prefix + "_ossuary/control/" + l.o.Source + "."
}

// parseKey is the number of the object, if key is one of this log.
func (l *Log) parseKey(key string) (int, bool) {
	digits, ok := strings.CutSuffix(strings.TrimPrefix(key, l.keyPrefix()), ".jsonl")
	var n int
	if _, err := fmt.Sscanf(digits, "%d", &n); !ok || err != nil || n < 1 {
		return 0, false
	}
	return n, l.key(n) == key
}

func (l *Log) take(ctx context.Context) error {
	select {
	case <-l.turn:
		return nil
	default:
	}
	select {
	case <-l.turn:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the control log: %w", ctx.Err())
	}
}

func (l *Log) give() { l.turn <- struct{}{} }

// retry calls op until it succeeds, ctx ends or it fails in a way that
// repeating does not mend.
func retry(ctx context.Context, log zerolog.Logger, op func() error) error {
	wait := newPatience(log)
	for {
		err := op()
		var blocked *BlockedError
		if err == nil || errors.As(err, &blocked) {
			return err
		}
		if k := object.KindOf(err); k != object.InDoubt && k != object.Throttled {
			return err
		}
		if err := wait.sleep(ctx, err); err != nil {
			return err
		}
	}
}
