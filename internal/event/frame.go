package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"time"
)

// FrameWriter makes frames. It keeps its buffers between frames, so one per append
// worker is enough; it must not be used concurrently. Equal input gives equal bytes,
// whatever was written before.
type FrameWriter struct {
	level int
	body  bytes.Buffer // compressed body of the frame at work

	header []byte    // of the frame at work
	sum    hash.Hash // SHA-256
}

// NewFrameWriter makes a writer that compresses at level: 1 (fast) to 9 (small),
// the levels of gzip, which zstd maps to its own. 0 is the default of each codec.
func NewFrameWriter(level int) *FrameWriter {
	if level < 1 || level > 9 {
		level = 0
	}
	return &FrameWriter{level: level}
}

// Data appends a data frame that holds body, the lines of content.Count events,
// and starts at position in its object. The body may come in pieces; the frame is
// the same. It sets content's Version, Kind and SHA256 and returns the hash of the
// content, the next frame's Prev. After an error dst is as it was:
// ErrHeaderTooLarge, or content that no reader would take.
func (w *FrameWriter) Data(dst []byte, c Codec, content *Content, position int64, body ...[]byte) ([]byte, Hash, error) {
	pieces, hash, err := w.Pieces(dst, c, content, position, body...)
	if err != nil {
		return dst, Hash{}, err
	}
	dst = pieces[0]
	for _, p := range pieces[1:] {
		dst = append(dst, p...)
	}
	return dst, hash, nil
}

// Pieces is Data without a copy of what is stored as it is: the first piece is dst
// with what the frame adds, and the body's own pieces follow where the codec is Plain.
func (w *FrameWriter) Pieces(dst []byte, c Codec, content *Content, position int64, body ...[]byte) ([][]byte, Hash, error) {
	size := 0
	for _, p := range body {
		size += len(p)
	}
	if size > MaxBody {
		return nil, Hash{}, fmt.Errorf("frame body of %d bytes is larger than 1 GiB", size)
	}
	content.Kind = KindData
	out, hash, err := w.frame(dst, c, content, position, body, 0)
	if err != nil {
		return nil, Hash{}, err
	}
	if c != Plain {
		return [][]byte{out}, hash, nil
	}
	return append(append(make([][]byte, 0, 1+len(body)), out), body...), hash, nil
}

// Break appends a break frame: it ends the segment behind bytes that are not
// ours. content.Next must be set, Valid should. See Data.
func (w *FrameWriter) Break(dst []byte, c Codec, content *Content, position int64) ([]byte, Hash, error) {
	content.Kind = KindBreak
	if c == Plain {
		// The bytes before may end within a line.
		out, hash, err := w.frame(append(dst, '\n'), c, content, position, nil, 0)
		if err != nil {
			return dst, Hash{}, err
		}
		return out, hash, nil
	}
	return w.frame(dst, c, content, position, nil, 0)
}

// Seal appends a seal frame with the segment's index and the locator: it ends the
// segment. crc is the CRC-64 of the object before position, index has an entry
// for each data frame of the segment. content.Next must be set. See Data.
func (w *FrameWriter) Seal(dst []byte, c Codec, content *Content, position int64, crc uint64, index []IndexEntry) ([]byte, Hash, error) {
	content.Kind = KindSeal
	trailer := appendTrailer(nil, c, position, crc, index)
	out, hash, err := w.frame(dst, c, content, position, nil, len(trailer))
	if err != nil {
		return dst, Hash{}, err
	}
	return append(out, trailer...), hash, nil
}

// frame appends a frame to dst, without the body of a Plain one.
func (w *FrameWriter) frame(dst []byte, c Codec, content *Content, position int64, body [][]byte, trailer int) ([]byte, Hash, error) {
	if content.Format == Raw && c == Plain {
		return dst, Hash{}, errors.New("cannot write frame: raw lines need gzip or zstd")
	}
	what, err := w.compress(c, body)
	if err != nil {
		return dst, Hash{}, fmt.Errorf("cannot write frame: compressing: %w", err)
	}
	content.Version = Version
	content.SHA256 = what.hash
	n := *content
	for _, t := range []*time.Time{&n.Stream.Created, &n.MinTime, &n.MaxTime, &n.Greatest} {
		*t = t.UTC()
	}
	if what := n.wrong(position, &what.lines); what != "" {
		return dst, Hash{}, errors.New("cannot write frame: " + what)
	}
	const before = `{"content":`
	header, err := appendContent(append(w.header[:0], before...), &n)
	if err != nil {
		return dst, Hash{}, fmt.Errorf("cannot write frame: %w", err)
	}
	hash := Hash(sha256.Sum256(header[len(before):]))
	header, err = appendPlace(append(header, `,"place":`...), &Place{
		Position: position, Length: int64(what.size), Trailer: int64(trailer), Codec: c, Content: hash,
	})
	if err != nil {
		return dst, Hash{}, fmt.Errorf("cannot write frame: %w", err)
	}
	header = append(header, '}')
	w.header = header
	if len(header) > maxHeader {
		return dst, Hash{}, ErrHeaderTooLarge
	}
	dst = appendBlock(dst, c, blockHeader, header)
	return append(dst, what.stored...), hash, nil
}

// compressed is a body as it is to be stored, and what its header says of it.
type compressed struct {
	stored []byte // valid until the next frame; nil for Plain: the body itself
	size   int    // of what is stored
	hash   Hash   // of the body
	lines  lines  // of the body
}

// lines is what a header can be held against.
type lines struct {
	count int
	bytes int
	ended bool // by a newline
}

func (l *lines) add(p []byte) {
	if len(p) > 0 {
		l.count += bytes.Count(p, newline)
		l.bytes += len(p)
		l.ended = p[len(p)-1] == '\n'
	}
}

var newline = []byte{'\n'}

// bodyBlock is how much of a body is hashed, counted and compressed at a time, so that
// it comes from memory once.
const bodyBlock = 64 << 10

// compress reads a body in pieces.
func (w *FrameWriter) compress(c Codec, body [][]byte) (out compressed, err error) {
	size := 0
	for _, p := range body {
		size += len(p)
	}
	var z *packer
	switch {
	case c != Gzip && c != Zstd && c != Plain:
		return out, fmt.Errorf("unknown codec %d", c)
	case c != Plain && size > 0:
		w.body.Reset()
		if z, err = takePacker(c, w.level, size, &w.body); err != nil {
			return out, err
		}
		defer func() { z.giveBack(c, w.level, err != nil) }()
	}
	if w.sum == nil {
		w.sum = sha256.New()
	}
	sum := w.sum
	sum.Reset()
	crc := uint32(0)
	for _, p := range body {
		for len(p) > 0 {
			b := p[:min(len(p), bodyBlock)]
			p = p[len(b):]
			sum.Write(b)
			out.lines.add(b)
			if c == Gzip {
				crc = crc32.Update(crc, crc32.IEEETable, b)
			}
			if z != nil {
				if _, err := z.z.Write(b); err != nil {
					return out, err
				}
			}
		}
	}
	sum.Sum(out.hash[:0])
	switch {
	case z != nil:
		if err := z.z.Close(); err != nil {
			return out, err
		}
		if c == Gzip {
			end := w.body.AvailableBuffer()
			end = binary.LittleEndian.AppendUint32(end, crc)
			end = binary.LittleEndian.AppendUint32(end, uint32(out.lines.bytes))
			w.body.Write(end)
		}
		out.stored = w.body.Bytes()
	case c == Gzip:
		out.stored = gzipEmpty
	case c == Zstd:
		out.stored = zstdEmpty
	default:
		out.size = out.lines.bytes
		return out, nil
	}
	out.size = len(out.stored)
	return out, nil
}
