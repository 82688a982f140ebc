package redrive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nuid"

	"ossuary/internal/backoff"
	"ossuary/internal/object"
)

// Version is the version of a line; a reader refuses a higher one.
const Version = 1

// ErrNewer: the log has a line of a later version of this program. Whoever gets
// it must send nothing.
var ErrNewer = errors.New("redrive: the log is of a newer version")

const (
	// maxLog is the length past which nothing is appended: some ten million letters.
	maxLog = 1 << 30
	// spoil ends bytes that no newline ends before our own line begins, and keeps
	// them from ever being read as a line.
	spoil = "#\n"
	// rereads is how often bytes are read whose checksum is wrong.
	rereads = 3
)

// firstPause is the shortest wait for a store that does not answer. Tests shorten it.
var firstPause = 100 * time.Millisecond

// store is the part of an object store that the log lives on. Append is atomic
// and succeeds only where position is the object's length; errors are
// *object.Error.
type store interface {
	Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error)
	Head(ctx context.Context, key string) (object.Info, error)
	// Read streams the bytes [from, to).
	Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error)
}

// Name is a dead letter of a source: no two share one.
type Name struct {
	Incarnation int    `json:"incarnation"`
	Sequence    uint64 `json:"sequence"`
}

// sent says that a letter stands in the stream again.
type sent struct {
	Name
	As uint64 `json:"as"` // its sequence there; 0 if only the archive could say that it did
}

// entry is a line of the log.
type entry struct {
	Version  int       `json:"v"`
	Position int64     `json:"pos"` // where the line stands in the object
	ID       string    `json:"id"`  // by which its writer knows it again
	Archive  string    `json:"archive"`
	Source   string    `json:"source"`
	Writer   string    `json:"writer,omitempty"` // for people
	Time     time.Time `json:"time"`
	Sent     []sent    `json:"sent,omitempty"`
	// Sending are letters that may be published from here on, behind After of the
	// stream that was created at Created.
	Sending []Name    `json:"sending,omitempty"`
	After   uint64    `json:"after,omitempty"`
	Created time.Time `json:"created,omitzero"`
}

// State is what the log says of one letter. The zero State is a letter that
// nobody has ever tried to send.
type State struct {
	Sent  bool
	As    uint64    // where it stands in the stream again, if Sent; 0: somewhere
	When  time.Time // of that
	After uint64    // if not Sent: it may stand somewhere behind this sequence
	Life  time.Time // creation time of the stream that After belongs to; zero: never tried
}

// Tried reports whether the letter may have been published.
func (s State) Tried() bool { return s.Sent || !s.Life.IsZero() }

// Log is the redrive log of one source: an appendable object, in which every line
// was appended at the position behind what its writer had read. It is not safe
// for concurrent use.
type Log struct {
	store   store
	key     string
	archive string
	source  string
	writer  string

	letters map[Name]State
	length  int64
	start   int64 // behind the last newline
	crc     uint64
}

// OpenLog reads the log of a source, which need not exist. prefix stands before
// every key of the archive. archive may be "" for a reader that does not know.
func OpenLog(ctx context.Context, s store, archive, prefix, source, writer string) (*Log, error) {
	l := &Log{store: s, key: prefix + "_ossuary/redrive/" + source + ".jsonl", archive: archive, source: source, writer: writer,
		letters: map[Name]State{}}
	if _, err := l.forward(ctx, ""); err != nil {
		return nil, err
	}
	return l, nil
}

// Of is what the log says of a letter, as far as it was read.
func (l *Log) Of(n Name) State { return l.letters[n] }

// unmoved reports whether nobody has appended since the log was last read.
func (l *Log) unmoved(ctx context.Context) (bool, error) {
	var same bool
	err := l.retry(ctx, func() error {
		info, err := l.store.Head(ctx, l.key)
		same = err == nil && info.Length == l.length && info.CRC64 == l.crc
		return err
	})
	return same, err
}

// append adds the line that what makes of the newest state. It is called again
// whenever somebody else was quicker. An empty entry is not written.
func (l *Log) append(ctx context.Context, what func() entry) error {
	id := nuid.Next() // of all attempts: at most one of them can land
	wait := backoff.New(firstPause, 10*time.Second, 2)
	for {
		e := what()
		if len(e.Sending) == 0 && len(e.Sent) == 0 {
			return nil
		}
		lead := ""
		if l.start < l.length {
			lead = spoil
		}
		e.Version, e.Position, e.ID, e.Archive, e.Source = Version, l.length+int64(len(lead)), id, l.archive, l.source
		e.Writer, e.Time = l.writer, time.Now().UTC()
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("redrive: encoding a line: %w", err)
		}
		body := append(append([]byte(lead), line...), '\n')
		if l.length+int64(len(body)) > maxLog {
			return fmt.Errorf("%s is full at %d bytes; keep it, and move on to a new archive", l.key, l.length)
		}
		var create *object.Create
		if l.length == 0 {
			create = &object.Create{ContentType: "application/x-ndjson"}
		}
		end, crc := l.length+int64(len(body)), object.CRC64(l.crc, body)
		done, err := l.store.Append(ctx, l.key, l.length, object.Body{body}, create)
		if err == nil && done.Next == end && done.CRC64 == crc {
			// The commit point: from here on everybody knows of these letters.
			l.length, l.crc, l.start = end, crc, end
			l.take(&e)
			return nil
		}
		if k := object.KindOf(err); err != nil && k != object.Mismatch && k != object.NotFound && k != object.InDoubt && k != object.Throttled {
			return fmt.Errorf("writing %s: %w", l.key, err)
		}
		// Refused, or nobody knows: the object tells. An append of ours that is still
		// under way is refused once another line stands at its position, and is that
		// line if ours is found there.
		before := l.length
		own, ferr := l.forward(ctx, id)
		switch {
		case ferr != nil:
			return ferr
		case own:
			return nil
		}
		if l.length == before {
			if werr := pause(ctx, wait.Next()); werr != nil {
				return fmt.Errorf("writing %s: %w, last: %w", l.key, werr, err)
			}
		}
	}
}

// forward reads what was appended since, and reports whether the line id is
// among it.
func (l *Log) forward(ctx context.Context, id string) (own bool, err error) {
	wrong := 0
	err = l.retry(ctx, func() error {
		info, err := l.store.Head(ctx, l.key)
		switch {
		case object.KindOf(err) == object.NotFound && err != nil && l.length == 0:
			return nil
		case object.KindOf(err) == object.NotFound && err != nil:
			return errors.New("the object is gone; restore it, it says what was sent")
		case err != nil:
			return err
		case info.Length < l.length:
			return fmt.Errorf("the object has become shorter than the %d bytes that were read before; restore it, it says what was sent", l.length)
		case info.Length == l.length && info.CRC64 == l.crc:
			return nil
		}
		r, err := l.store.Read(ctx, l.key, l.start, info.Length)
		if err != nil {
			return err
		}
		p, err := io.ReadAll(io.LimitReader(r, info.Length-l.start))
		r.Close()
		if err != nil {
			return fmt.Errorf("%w: %w", errAgain, err)
		}
		seen := min(l.length-l.start, int64(len(p)))
		crc := object.CRC64(l.crc, p[seen:])
		if l.start+int64(len(p)) != info.Length || crc != info.CRC64 {
			if wrong++; wrong < rereads {
				return errAgain
			}
			return errors.New("its bytes are not those that its checksum speaks of, or that were read before; find out who replaced the object")
		}
		own, err = l.lines(p, id)
		if err == nil {
			l.length, l.crc = info.Length, crc
		}
		return err
	})
	return own, err
}

// lines takes the whole lines of p, which begins at start.
func (l *Log) lines(p []byte, id string) (own bool, err error) {
	at := l.start
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			l.start = at
			return own, nil
		}
		line := p[:i]
		var e entry
		var head struct {
			Version  int    `json:"v"`
			Position *int64 `json:"pos"`
		}
		// What does not parse, or does not stand where it says, is somebody else's.
		if json.Unmarshal(line, &head) == nil && head.Position != nil && *head.Position == at && head.Version > 0 {
			switch {
			case head.Version > Version:
				return own, fmt.Errorf("%w: a line of version %d at position %d, this program knows %d; use that version", ErrNewer, head.Version, at, Version)
			case json.Unmarshal(line, &e) != nil || e.ID == "":
			case l.archive != "" && e.Archive != l.archive || e.Source != l.source:
				return own, fmt.Errorf("a line of archive %q, source %q at position %d; give each archive a prefix of its own", e.Archive, e.Source, at)
			default:
				l.take(&e)
				own = own || e.ID == id
			}
		}
		p, at = p[i+1:], at+int64(i)+1
	}
}

func (l *Log) take(e *entry) {
	for _, s := range e.Sent {
		if !l.letters[s.Name].Sent {
			l.letters[s.Name] = State{Sent: true, As: s.As, When: e.Time}
		}
	}
	for _, n := range e.Sending {
		if !l.letters[n].Tried() { // the first one counts: it may have landed at any time since
			l.letters[n] = State{After: e.After, Life: e.Created}
		}
	}
}

var errAgain = errors.New("its bytes are not what its checksum speaks of")

// retry calls op until it gives a clear answer.
func (l *Log) retry(ctx context.Context, op func() error) error {
	wait := backoff.New(firstPause, 10*time.Second, 2)
	for {
		err := op()
		var e *object.Error
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errAgain):
		case !errors.As(err, &e) || e.Kind != object.InDoubt && e.Kind != object.Throttled:
			return fmt.Errorf("the redrive log %s: %w", l.key, err)
		}
		if werr := pause(ctx, wait.Next()); werr != nil {
			return fmt.Errorf("the redrive log %s: %w, last: %w", l.key, werr, err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
