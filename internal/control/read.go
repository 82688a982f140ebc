package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"ossuary/internal/backoff"
	"ossuary/internal/object"
)

const (
	firstWindow = 64 << 10    // bytes of the end that are read first, a hundred lines or so
	lastWindow  = 8 * maxLine // beyond that the window moves instead of growing
	rereads     = 3           // of bytes whose checksum is wrong, before somebody must look
)

// find places the cursor at the end of the newest object that holds a line.
func (l *Log) find(ctx context.Context) error {
	var numbers []int
	err := l.store.List(ctx, l.keyPrefix(), func(e object.Entry) error {
		if n, ok := l.parseKey(e.Key); ok {
			numbers = append(numbers, n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(numbers)
	for _, n := range slices.Backward(numbers) {
		at, state, err := l.readEnd(ctx, n)
		if err != nil {
			return err
		}
		if state != nil {
			l.at = at
			l.adopt(*state)
			return nil
		}
	}
	// Whatever stands in the first object is read by forward and passed over.
	l.at = cursor{number: 1}
	return nil
}

// readEnd looks for the last line of an object, in growing ranges from its end.
func (l *Log) readEnd(ctx context.Context, number int) (cursor, *State, error) {
	key := l.key(number)
	info, err := l.store.Head(ctx, key)
	if err != nil {
		return cursor{}, nil, err
	}
	at := cursor{number: number, length: info.Length, crc: info.CRC64}
	end, window := info.Length, int64(firstWindow)
	for end > 0 {
		from := max(0, end-window)
		f := l.finding(key, "")
		if err := l.scan(ctx, key, from, end, from == 0, f); err != nil {
			return cursor{}, nil, err
		}
		at.start = max(at.start, f.start)
		if f.blocked != nil {
			return cursor{}, nil, f.blocked
		}
		if f.last != nil {
			return at, f.last, nil
		}
		switch {
		case from == 0:
			end = 0
		case window < lastWindow:
			window *= 2
		default:
			end = from + maxLine + 1 // a line may stand across the window's edge
		}
	}
	return at, nil, nil
}

// forward reads from the cursor to the log's end, over the objects that follow
// too. It reports whether the log held anything new, and whether the line of
// the update id was in it. It retries until ctx ends, unless the store refuses.
func (l *Log) forward(ctx context.Context, id string) (moved, own bool, err error) {
	wrong := 0
	for {
		before := l.at
		var found bool
		err := retry(ctx, l.o.Log, func() (err error) {
			found, err = l.step(ctx, id, &wrong)
			return err
		})
		own = own || found
		var blocked *BlockedError
		l.stuck = errors.As(err, &blocked)
		if err != nil {
			return moved, own, err
		}
		if l.at == before {
			return moved, own, nil
		}
		moved = true
	}
}

// step reads what one object holds beyond the cursor.
func (l *Log) step(ctx context.Context, id string, wrong *int) (own bool, err error) {
	key := l.key(l.at.number)
	info, err := l.store.Head(ctx, key)
	switch {
	case err != nil && object.KindOf(err) == object.NotFound:
		if l.at.length == 0 {
			return false, nil
		}
		return false, l.blocked(l.at.length, "the object is gone", "restore it; every instance has to stop as long as it is missing")
	case err != nil:
		return false, err
	case info.Length < l.at.length:
		return false, l.blocked(info.Length, fmt.Sprintf("the object has become shorter than the %d bytes that were read before", l.at.length),
			"restore it; what was granted in the missing part still counts")
	case !info.Appendable && info.Length > 0:
		return false, l.blocked(info.Length, "the object was put, not appended", "restore the appendable object of this name")
	}

	// A line that was not ended may be so by now: it is read from its start.
	from, aligned := l.at.start, true
	if l.at.length-l.at.start > maxLine {
		from, aligned = l.at.length, false
	}
	f := l.finding(key, id)
	f.crc, f.crcFrom = l.at.crc, l.at.length
	if info.Length > l.at.length {
		if err := l.scan(ctx, key, from, info.Length, aligned, f); err != nil {
			return false, err
		}
	}
	if f.crc != info.CRC64 {
		// Bytes went wrong on the way, or others stand where ours stood.
		if *wrong++; *wrong < rereads {
			return false, fmt.Errorf("reading %s: checksum of its %d bytes is %d, not %d", key, info.Length, f.crc, info.CRC64)
		}
		return false, l.blocked(l.at.length, "the bytes before this position are not the ones that were read or written before",
			"find out who replaced the object; restart the service to take it as it is")
	}
	if f.blocked != nil {
		return false, f.blocked
	}
	l.at.length, l.at.crc, l.at.start = info.Length, f.crc, max(l.at.start, f.start)
	if f.last != nil {
		l.adopt(*f.last)
	}
	return f.own, nil
}

func (l *Log) blocked(position int64, what, mend string) error {
	return &BlockedError{Key: l.key(l.at.number), Position: position, What: what, Mend: mend}
}

// finding is what a scan has come across.
type finding struct {
	log     *Log
	key     string
	id      string
	last    *State // last line, if it is one of ours
	blocked error  // last line, if it is one that we must not go on behind
	own     bool   // the update id's line was among them
	start   int64  // behind the last newline, 0 if there was none
	crc     uint64 // extended over the bytes from crcFrom on
	crcFrom int64
}

func (l *Log) finding(key, id string) *finding { return &finding{log: l, key: key, id: id} }

// scan reads the bytes [from, to) of an object line by line. Unless aligned, the
// first line began before from and is passed over.
func (l *Log) scan(ctx context.Context, key string, from, to int64, aligned bool, f *finding) error {
	body, err := l.store.Read(ctx, key, from, to)
	if err != nil {
		if object.KindOf(err) == object.NotFound {
			return fmt.Errorf("reading %s: it vanished since it was looked at", key) // look again
		}
		return err
	}
	defer body.Close()
	r := bufio.NewReaderSize(io.LimitReader(body, to-from), firstWindow)
	at, line := from, make([]byte, 0, 4096)
	begin, good := from, aligned
	for {
		p, err := r.ReadSlice('\n')
		if skip := max(0, f.crcFrom-at); skip < int64(len(p)) {
			f.crc = object.CRC64(f.crc, p[skip:])
		}
		at += int64(len(p))
		if good = good && len(line)+len(p) <= maxLine+1; good {
			line = append(line, p...)
		}
		switch {
		case err == nil:
			if good {
				f.line(begin, line[:len(line)-1])
			}
			f.start, begin, good, line = at, at, true, line[:0]
		case errors.Is(err, bufio.ErrBufferFull):
		case !errors.Is(err, io.EOF):
			return fmt.Errorf("reading %s at position %d: %w", key, at, err)
		case at != to:
			return fmt.Errorf("reading %s: got %d of %d bytes: %w", key, at-from, to-from, io.ErrUnexpectedEOF)
		default:
			return nil
		}
	}
}

// line takes the bytes between two newlines, which begin at position. They are a
// line only if they parse and say that they stand there; anything else is
// foreign and passed over. Behind a line that names the next object there is
// nothing more.
func (f *finding) line(position int64, p []byte) {
	if f.last != nil && f.last.Next != "" || !bytes.HasPrefix(p, []byte("{")) {
		return
	}
	var head struct {
		Version  int    `json:"v"`
		Position *int64 `json:"pos"`
	}
	if json.Unmarshal(p, &head) != nil || head.Position == nil || *head.Position != position || head.Version < 1 {
		return
	}
	block := func(what, mend string) {
		f.last, f.blocked = nil, &BlockedError{Key: f.key, Position: position, What: what, Mend: mend}
	}
	if head.Version > Version {
		block(fmt.Sprintf("a line of version %d, this program knows %d", head.Version, Version), "run the newer program")
		return
	}
	var s State
	if json.Unmarshal(p, &s) != nil || s.ID == "" || s.Number < 1 || len(s.Layouts) == 0 {
		return
	}
	if o := f.log.o; s.Archive != o.Archive || s.Source != o.Source {
		block(fmt.Sprintf("a line of archive %q, source %q, where archive %q, source %q is expected", s.Archive, s.Source, o.Archive, o.Source),
			"give each archive a prefix of its own")
		return
	}
	if n, _ := f.log.parseKey(f.key); s.Next != "" && s.Next != f.log.key(n+1) {
		block(fmt.Sprintf("a line that goes on in %q, which is no next object of this one", s.Next),
			"was it copied from elsewhere? Restore the object, or start with a new prefix")
		return
	}
	f.last, f.blocked = &s, nil
	f.own = f.own || f.id != "" && s.ID == f.id
}

// patience waits between attempts, and says so.
type patience struct {
	b   backoff.Backoff
	log zerolog.Logger
}

func newPatience(log zerolog.Logger) patience {
	return patience{backoff.New(100*time.Millisecond, 10*time.Second, 2), log}
}

// sleep waits after err; it returns an error, which wraps err, when ctx ends.
func (p patience) sleep(ctx context.Context, err error) error {
	d := p.b.Next()
	var e *object.Error
	if errors.As(err, &e) {
		d = max(d, e.RetryAfter)
	}
	p.log.Warn().Err(err).Dur("wait", d).Msg("object store has no clear answer about the control log")
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w, last: %w", ctx.Err(), err)
	}
}
