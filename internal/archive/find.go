package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object"
)

// readAttempts bounds how often a read goes on after a broken connection
// without having got any byte in between, and how often a question is asked;
// retryPause is the first wait.
const (
	readAttempts = 5
	retryPause   = 200 * time.Millisecond
)

// readError marks an error of the store, as opposed to one of the bytes.
type readError struct {
	position int64
	err      error
}

func (e *readError) Error() string { return fmt.Sprintf("reading at %d: %v", e.position, e.err) }
func (e *readError) Unwrap() error { return e.err }

// rangeReader reads [start,end) of an object, reopening where a connection
// broke, and keeps the CRC-64 of what it gave.
type rangeReader struct {
	ctx             context.Context //nolint:containedctx // of the one call that the reader lives in; io.Reader has no place for it
	st              store
	key             string
	start, position int64
	end             int64
	crc             uint64
	checked         bool
	onRead          func(int64)
	window          func() int64 // see walker

	body   io.ReadCloser
	opened int64 // where
	failed int
}

func newRangeReader(ctx context.Context, st store, key string, start, end int64) *rangeReader {
	return &rangeReader{ctx: ctx, st: st, key: key, start: start, position: start, end: end}
}

// Read implements io.Reader.
func (r *rangeReader) Read(p []byte) (int, error) {
	for r.position < r.end {
		var n int
		err := error(nil)
		if r.body == nil {
			r.body, err = r.open()
		}
		if err == nil {
			n, err = r.body.Read(p[:min(int64(len(p)), r.end-r.position)])
		}
		if n > 0 {
			r.crc = object.CRC64(r.crc, p[:n])
			r.position += int64(n)
			r.failed = 0
			if r.onRead != nil {
				r.onRead(int64(n))
			}
			return n, nil // an error that came with it comes again
		}
		if err == nil {
			continue
		}
		r.Close()
		if err == io.EOF { //nolint:errorlint // the end is io.EOF itself; a store that hangs up wraps one, and is asked again
			if r.window != nil && r.opened < r.position {
				continue // the window's end
			}
			return 0, io.EOF // shorter than announced: the caller compares
		}
		if err := r.retry(err); err != nil {
			return 0, err
		}
	}
	return 0, io.EOF
}

// open asks for what follows: all of it, or a window that is read at once.
func (r *rangeReader) open() (io.ReadCloser, error) {
	r.opened = r.position
	if r.window == nil {
		return r.st.Read(r.ctx, r.key, r.position, r.end)
	}
	body, err := r.st.Read(r.ctx, r.key, r.position, min(r.end, r.position+r.window()))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	p, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(p)), nil
}

// retry waits, or says that it is of no use.
func (r *rangeReader) retry(err error) error {
	r.failed++
	if kind := object.KindOf(err); r.ctx.Err() != nil || r.failed >= readAttempts || (kind != object.InDoubt && kind != object.Throttled) {
		return &readError{r.position, err}
	}
	select {
	case <-r.ctx.Done():
		return &readError{r.position, r.ctx.Err()}
	case <-time.After(pause(r.failed, err)):
		return nil
	}
}

// pause is how long to wait after the failed attempts, the last with err: at least
// as long as the store wants to be left alone.
func pause(failed int, err error) time.Duration {
	d := retryPause << (failed - 1)
	var e *object.Error
	if errors.As(err, &e) {
		d = max(d, e.RetryAfter)
	}
	return d
}

// Close releases the connection; the reader opens another when it is read again.
func (r *rangeReader) Close() error {
	if r.body == nil {
		return nil
	}
	err := r.body.Close()
	r.body = nil
	return err
}

// again asks the store until it has a clear answer, as often and as slowly as
// readAttempts and its own wishes say: an archive must not be called damaged for a
// timeout.
func again(ctx context.Context, ask func() error) error {
	for failed := 1; ; failed++ {
		err := ask()
		if err == nil || ctx.Err() != nil || failed >= readAttempts {
			return err
		}
		if kind := object.KindOf(err); kind != object.InDoubt && kind != object.Throttled {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause(failed, err)):
		}
	}
}

// head asks what the store knows of an object.
func head(ctx context.Context, st store, key string) (info object.Info, err error) {
	err = again(ctx, func() (err error) {
		info, err = st.Head(ctx, key)
		return err
	})
	return info, err
}

// look is head, for a light walk from what tells the least.
func (w *walker) look(ctx context.Context, key string) (info object.Info, err error) {
	st, ok := w.st.(interface {
		Stat(ctx context.Context, key string) (object.Info, error)
	})
	if !w.light || !ok {
		return head(ctx, w.st, key)
	}
	err = again(ctx, func() (err error) {
		info, err = st.Stat(ctx, key)
		return err
	})
	return info, err
}

// findBreak looks for a break frame from position on; nil if there is none.
func (s *scan) findBreak(ctx context.Context, position int64, accept func(*event.Frame) bool) (*event.Frame, error) {
	in := newRangeReader(ctx, s.w.st, s.seg.Key, position, s.info.Length)
	defer in.Close()
	f, _, err := event.FindBreak(in, s.codec, position, accept)
	var unreadable *readError
	if errors.As(err, &unreadable) {
		return nil, err
	}
	if err != nil {
		return nil, nil
	}
	return f, nil
}

// bytes reads [from,to) of the object, less where it is shorter.
func (s *scan) bytes(ctx context.Context, from, to int64) ([]byte, error) {
	in := newRangeReader(ctx, s.w.st, s.seg.Key, from, min(s.info.Length, to))
	defer in.Close()
	return io.ReadAll(in)
}

// header reads the frame header at position; nil if there is none.
func (s *scan) header(ctx context.Context, position int64) *event.Frame {
	// Headers are small but for raw frames' with their lists of sequences.
	for _, room := range []int64{2 << 10, event.MaxHead} {
		p, err := s.bytes(ctx, position, position+room)
		if err != nil {
			return nil
		}
		f, err := event.ReadHeader(p, s.codec)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			continue
		}
		if err != nil || f.Place.Position != position {
			return nil
		}
		return f
	}
	return nil
}

// frameMark is how a frame's header starts under each codec.
func frameMark(c event.Codec) []byte {
	switch c {
	case event.Zstd:
		return []byte{0x2a, 0x4d, 0x18} // behind the first byte, 0x50-0x5f
	case event.Plain:
		return []byte(`{"_ossuary":`)
	}
	return []byte{0x1f, 0x8b, 0x08}
}

// findFrame looks for the next header from position on that stands where it says
// and belongs to this segment; nil if there is none. It keeps about 1 MiB.
func (s *scan) findFrame(ctx context.Context, position int64) (*event.Frame, error) {
	const window = 1 << 20
	mark, back := frameMark(s.codec), int64(0)
	if s.codec != event.Gzip {
		back = 1
	}
	in := newRangeReader(ctx, s.w.st, s.seg.Key, position, s.info.Length)
	defer in.Close()
	var buf []byte
	base := position // of buf[0]
	for eof := false; !eof; {
		have := len(buf)
		room := min(int64(window+event.MaxHead-have), s.info.Length-base-int64(have)+1)
		buf = append(buf, make([]byte, room)...)
		n, err := io.ReadFull(in, buf[have:])
		buf = buf[:have+n]
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			eof = true
		case err != nil:
			return nil, err
		}
		// A mark in the last MaxHead bytes is looked at with the next window,
		// where its header is whole.
		limit := window
		if eof {
			limit = len(buf)
		}
		for at := 0; at < limit; {
			i := bytes.Index(buf[at:], mark)
			if i < 0 {
				break
			}
			at += i
			// A plain break starts with a newline of its own.
			for _, from := range []int64{int64(at) - back, int64(at)} {
				if from < 0 || from >= int64(limit) {
					continue
				}
				f, err := event.ReadHeader(buf[from:], s.codec)
				if err == nil && f.Place.Position == base+from && s.ours(f) {
					return f, nil
				}
			}
			at++
		}
		if !eof {
			keep := len(buf) - window + int(back)
			copy(buf, buf[len(buf)-keep:])
			base += int64(len(buf) - keep)
			buf = buf[:keep]
		}
	}
	return nil, nil
}
