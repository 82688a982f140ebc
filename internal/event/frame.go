package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// zstdWindow is the window that zstd frames are written with, in bytes; every
// zstd reader takes 8 MiB.
const zstdWindow = 4 << 20

// FrameWriter makes frames. It keeps its compressors between frames, so one per
// append worker is enough; it must not be used concurrently. Equal input gives
// equal bytes, whatever was written before.
type FrameWriter struct {
	level int
	flate *flate.Writer
	zstd  *zstd.Encoder
	body  bytes.Buffer // compressed body of the frame at work
}

// NewFrameWriter makes a writer that compresses at level: 1 (fast) to 9 (small),
// the levels of gzip, which zstd maps to its own. 0 is the default.
func NewFrameWriter(level int) *FrameWriter {
	if level < 1 || level > 9 {
		level = 0
	}
	return &FrameWriter{level: level}
}

// Data appends a data frame that holds body, the lines of content.Count events,
// and starts at position in its object. It sets content's Version, Kind and
// SHA256 and returns the hash of the content, the next frame's Prev. After an
// error dst is as it was: ErrHeaderTooLarge, or content that no reader would
// take.
func (w *FrameWriter) Data(dst []byte, c Codec, content *Content, position int64, body []byte) ([]byte, Hash, error) {
	if len(body) > MaxBody {
		return dst, Hash{}, fmt.Errorf("frame body of %d bytes is larger than 1 GiB", len(body))
	}
	if body == nil {
		body = []byte{}
	}
	content.Kind = KindData
	return w.frame(dst, c, content, position, body, 0)
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

func (w *FrameWriter) frame(dst []byte, c Codec, content *Content, position int64, body []byte, trailer int) ([]byte, Hash, error) {
	content.Version = Version
	content.SHA256 = sha256.Sum256(body)
	n := *content
	for _, t := range []*time.Time{&n.Stream.Created, &n.MinTime, &n.MaxTime, &n.Greatest} {
		*t = t.UTC()
	}
	if what := n.wrong(position, body); what != "" {
		return dst, Hash{}, errors.New("cannot write frame: " + what)
	}
	if n.Format == Raw && c == Plain {
		return dst, Hash{}, errors.New("cannot write frame: raw lines need gzip or zstd")
	}
	js, err := marshal(&n)
	if err != nil {
		return dst, Hash{}, fmt.Errorf("cannot write frame: %w", err)
	}
	stored, err := w.compress(c, body)
	if err != nil {
		return dst, Hash{}, fmt.Errorf("cannot write frame: compressing: %w", err)
	}
	hash := Hash(sha256.Sum256(js))
	place, err := marshal(&Place{
		Position: position, Length: int64(len(stored)), Trailer: int64(trailer), Codec: c, Content: hash,
	})
	if err != nil {
		return dst, Hash{}, fmt.Errorf("cannot write frame: %w", err)
	}
	header := make([]byte, 0, len(js)+len(place)+32)
	header = append(header, `{"content":`...)
	header = append(header, js...)
	header = append(header, `,"place":`...)
	header = append(header, place...)
	header = append(header, '}')
	if len(header) > maxHeader {
		return dst, Hash{}, ErrHeaderTooLarge
	}
	dst = appendBlock(dst, c, blockHeader, header)
	return append(dst, stored...), hash, nil
}

// marshal is compact JSON without HTML escapes. Text that is not UTF-8 would be
// altered, which n.wrong refuses.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// compress returns the stored form of body, valid until the next call.
func (w *FrameWriter) compress(c Codec, body []byte) ([]byte, error) {
	w.body.Reset()
	switch c {
	case Gzip:
		if len(body) == 0 {
			return gzipEmpty, nil
		}
		if w.flate == nil {
			level := w.level
			if level == 0 {
				level = flate.DefaultCompression
			}
			f, err := flate.NewWriter(nil, level)
			if err != nil {
				return nil, err
			}
			w.flate = f
		}
		w.flate.Reset(&w.body)
		if _, err := w.flate.Write(body); err != nil {
			return nil, err
		}
		if err := w.flate.Close(); err != nil {
			return nil, err
		}
		out := w.body.AvailableBuffer()
		out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(body))
		out = binary.LittleEndian.AppendUint32(out, uint32(len(body)))
		w.body.Write(out)
		return w.body.Bytes(), nil
	case Zstd:
		if w.zstd == nil {
			level := zstd.SpeedDefault
			if w.level > 0 {
				level = zstd.EncoderLevelFromZstd(w.level)
			}
			z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1),
				zstd.WithWindowSize(zstdWindow), zstd.WithZeroFrames(true), zstd.WithLowerEncoderMem(true))
			if err != nil {
				return nil, err
			}
			w.zstd = z
		}
		out := w.zstd.EncodeAll(body, w.body.AvailableBuffer())
		w.body.Write(out)
		return w.body.Bytes(), nil
	case Plain:
		return body, nil
	}
	return nil, fmt.Errorf("unknown codec %d", c)
}
