package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is the largest window that a zstd frame may ask for, in bytes: what
// every zstd reader must take.
const maxWindow = 8 << 20

// bodies opens the stored bodies of frames. It keeps its decompressors and its
// buffer between frames.
type bodies struct {
	in      bytes.Reader
	inflate io.ReadCloser
	zstd    *zstd.Decoder
	out     []byte
}

// open takes the body out of p, the frame's Size bytes, and checks it, and a
// seal's trailer, against the header; what says in words what is wrong. The body
// is valid until the next call.
func (b *bodies) open(f *Frame, c Codec, p []byte) (body []byte, what string) {
	stored := p[f.Head : f.Head+f.Place.Length]
	switch c {
	case Gzip:
		body, what = b.gunzip(stored)
	case Zstd:
		body, what = b.unzstd(stored)
	default:
		body = stored
	}
	n := &f.Content
	switch {
	case what != "":
		return nil, what
	case Hash(sha256.Sum256(body)) != n.SHA256:
		return nil, "its body does not have the hash that its header says"
	case len(body) == 0 && n.Kind == KindData:
		return nil, "a data frame has no body"
	}
	var l lines
	l.add(body)
	if what := n.wrong(f.Place.Position, &l); what != "" {
		return nil, what
	}
	if n.Kind == KindSeal {
		f.Index, f.Before, what = readTrailer(p[f.Head+f.Place.Length:], c, f.Place.Position)
	}
	return body, what
}

// gunzip inflates what follows a gzip member's header.
func (b *bodies) gunzip(p []byte) (body []byte, what string) {
	if len(p) < gzipTrailer {
		return nil, "its length is too short for a gzip member"
	}
	end := p[len(p)-gzipTrailer:]
	size := int64(binary.LittleEndian.Uint32(end[4:]))
	if size > MaxBody {
		return nil, "its body is larger than 1 GiB"
	}
	b.in.Reset(p)
	if b.inflate == nil {
		b.inflate = flate.NewReader(&b.in)
	} else if err := b.inflate.(flate.Resetter).Reset(&b.in, nil); err != nil {
		return nil, err.Error()
	}
	if what := b.read(b.inflate, len(p), size); what != "" {
		return nil, what
	}
	switch {
	case b.in.Len() != gzipTrailer:
		return nil, "its compressed data does not end where its length says"
	case int64(len(b.out)) != size || crc32.ChecksumIEEE(b.out) != binary.LittleEndian.Uint32(end):
		return nil, "its gzip checksum is wrong"
	}
	return b.out, ""
}

func (b *bodies) unzstd(p []byte) (body []byte, what string) {
	n, window := zstdFrameSize(p)
	if n != len(p) {
		return nil, "its length is not that of a zstd frame"
	}
	if window > maxWindow {
		return nil, "its zstd window is larger than 8 MiB"
	}
	b.in.Reset(p)
	if b.zstd == nil {
		// As a stream: DecodeAll would allocate by the size that the frame claims.
		z, err := zstd.NewReader(&b.in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(MaxBody), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err.Error()
		}
		b.zstd = z
	} else if err := b.zstd.Reset(&b.in); err != nil {
		return nil, err.Error()
	}
	if what := b.read(b.zstd, len(p), MaxBody); what != "" {
		return nil, what
	}
	return b.out, ""
}

// read fills out from r to its end, which comes after at most limit bytes. The
// buffer grows with what really comes.
func (b *bodies) read(r io.Reader, stored int, limit int64) (what string) {
	b.out = b.out[:0]
	want := min(limit, int64(stored)*4)
	for {
		if len(b.out) == cap(b.out) {
			b.out = slices.Grow(b.out, int(max(want-int64(len(b.out)), 4096)))
		}
		n, err := r.Read(b.out[len(b.out):cap(b.out)])
		b.out = b.out[:len(b.out)+n]
		switch {
		case int64(len(b.out)) > limit:
			return "its body is larger than it says, or than 1 GiB"
		case err == io.EOF:
			return ""
		case err != nil:
			return fmt.Sprintf("decompressing: %v", err)
		}
	}
}

// zstdFrameSize is the length of the one zstd data frame that p starts with, -1
// if there is none, and the window that it wants. The decoder would take several,
// and pass over what it may; and it would allocate the window of a frame in a
// single segment, whatever its size.
func zstdFrameSize(p []byte) (size int, window uint64) {
	var h zstd.Header
	if err := h.Decode(p); err != nil || h.Skippable {
		return -1, 0
	}
	at := h.HeaderSize
	for last := false; !last; {
		if at < 0 || at > len(p)-3 {
			return -1, 0
		}
		block := uint32(p[at]) | uint32(p[at+1])<<8 | uint32(p[at+2])<<16
		last = block&1 != 0
		size := int(block >> 3)
		if block>>1&3 == 1 { // RLE: one byte, repeated
			size = 1
		}
		at += 3 + size
	}
	if h.HasCheckSum {
		at += 4
	}
	if at > len(p) {
		return -1, 0
	}
	if h.SingleSegment {
		return at, h.FrameContentSize
	}
	return at, h.WindowSize
}
