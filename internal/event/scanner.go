package event

import (
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"slices"
)

var crcTable = crc64.MakeTable(crc64.ECMA)

// readAhead is how much a Scanner asks its reader for at least, in bytes.
const readAhead = 64 << 10

// Scanner reads the frames of an object from one on, in order. It checks each
// frame by itself (Chain checks that it may follow the one before) and keeps the
// CRC-64 of the object. Its memory is in proportion to what is really there,
// whatever a header claims.
type Scanner struct {
	r        io.Reader
	codec    Codec
	position int64
	crc      uint64
	buf      []byte // bytes of the object as far as read
	start    int    // where in buf position is
	atEnd    bool   // r has ended
	bodies   bodies
	err      error // sticks
}

// NewScanner reads an object of codec c from position on, where a frame starts;
// crc is the CRC-64 of the bytes before it.
func NewScanner(r io.Reader, c Codec, position int64, crc uint64) *Scanner {
	return &Scanner{r: r, codec: c, position: position, crc: crc}
}

// Position is the end of the last frame returned, with its trailer: where the
// next one starts.
func (s *Scanner) Position() int64 { return s.position }

// CRC is the CRC-64 of the object up to Position.
func (s *Scanner) CRC() uint64 { return s.crc }

// Next returns the next frame and its uncompressed body, which is valid until the
// next call. At the end of the bytes, if a frame ends there, io.EOF itself;
// *CorruptError for bytes that are no well-formed frame, *UnknownError for a
// frame that needs a newer reader; errors of the reader, other than io.EOF,
// wrapped. After an error every call returns it again and Position and CRC stay.
func (s *Scanner) Next() (*Frame, []byte, error) {
	if s.err != nil {
		return nil, nil, s.err
	}
	f, body, err := s.next()
	if err != nil {
		s.err = err
		return nil, nil, err
	}
	s.crc = crc64.Update(s.crc, crcTable, s.ahead()[:f.Size])
	s.position += f.Size
	s.start += int(f.Size)
	return f, body, nil
}

// ahead is what was read from position on.
func (s *Scanner) ahead() []byte { return s.buf[s.start:] }

func (s *Scanner) next() (*Frame, []byte, error) {
	if err := s.fill(1); err != nil {
		return nil, nil, err
	}
	if len(s.ahead()) == 0 {
		return nil, nil, io.EOF
	}
	f, err := readHeader(s.ahead(), s.codec, s.position)
	for errors.Is(err, io.ErrUnexpectedEOF) {
		n := len(s.ahead())
		if err := s.fill(int64(n) + 4096); err != nil {
			return nil, nil, err
		}
		if len(s.ahead()) == n {
			return nil, nil, &CorruptError{s.position, "the object ends within a header"}
		}
		f, err = readHeader(s.ahead(), s.codec, s.position)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := s.fill(f.Size); err != nil {
		return nil, nil, err
	}
	p := s.ahead()
	if missing := f.Size - int64(len(p)); missing > 0 {
		return nil, nil, &CorruptError{s.position, fmt.Sprintf("the object ends %d bytes before the frame does", missing)}
	}
	body, what := s.bodies.open(f, s.codec, p[:f.Size])
	if what != "" {
		return nil, nil, &CorruptError{s.position, what}
	}
	return f, body, nil
}

// fill reads until n bytes are ahead or the object ends. The buffer doubles as
// bytes come, it never grows at once to a size that was only claimed.
func (s *Scanner) fill(n int64) error {
	if int64(len(s.ahead())) >= n {
		return nil
	}
	s.buf = append(s.buf[:0], s.ahead()...)
	s.start = 0
	for idle := 0; int64(len(s.buf)) < n && !s.atEnd; {
		if cap(s.buf)-len(s.buf) < readAhead {
			s.buf = slices.Grow(s.buf, max(readAhead, int(min(n, 2*int64(len(s.buf)))-int64(len(s.buf)))))
		}
		got, err := s.r.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+got]
		switch {
		case err == io.EOF:
			s.atEnd = true
		case err != nil:
			return fmt.Errorf("reading at position %d: %w", s.position+int64(len(s.buf)), err)
		case got > 0:
			idle = 0
		default:
			if idle++; idle == 100 {
				return fmt.Errorf("reading at position %d: %w", s.position+int64(len(s.buf)), io.ErrNoProgress)
			}
		}
	}
	return nil
}
