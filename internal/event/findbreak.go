package event

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxBreak bounds a break frame's stored body, which holds nothing.
const maxBreak = 64

// FindBreak searches an object behind bytes that are no frames: r gives its bytes
// from position on. It returns the first break frame that is well-formed, stands
// where its place says, and that accept takes, and the position behind it. Without
// one it returns nil and the position where r ended. A frame that stands where it
// says and needs a newer reader is an *UnknownError: it may be the end of the
// segment to those who know it.
func FindBreak(r io.Reader, c Codec, position int64, accept func(*Frame) bool) (*Frame, int64, error) {
	var signature []byte
	switch c {
	case Gzip:
		signature = gzipHeader
	case Zstd:
		signature = binary.LittleEndian.AppendUint32(nil, zstdSkippable)
	default:
		signature = append([]byte{'\n'}, blockHeader.member()...)
	}
	var (
		in     = bufio.NewReaderSize(r, 4*MaxHead)
		opener bodies
	)
	for {
		p, err := in.Peek(MaxHead + maxBreak)
		if err != nil && err != io.EOF { //nolint:errorlint // the end is io.EOF itself; a lost connection may wrap one
			return nil, position, fmt.Errorf("reading at position %d: %w", position+int64(len(p)), err)
		}
		ended := err != nil
		i := bytes.Index(p, signature)
		if i > 0 || (i < 0 && !ended) {
			if i < 0 {
				i = len(p) - len(signature) + 1
			}
			n, _ := in.Discard(i) // peeked, so it is there
			position += int64(n)
			continue
		}
		if i < 0 {
			return nil, position + int64(len(p)), nil
		}
		f, err := readHeader(p, c, position)
		var unknown *UnknownError
		if errors.As(err, &unknown) {
			return nil, position, err
		}
		if err == nil && f.Content.Kind == KindBreak && f.Place.Length <= maxBreak && f.Size <= int64(len(p)) {
			if _, what := opener.open(f, c, p[:f.Size]); what == "" && accept(f) {
				return f, position + f.Size, nil
			}
		}
		_, _ = in.Discard(1)
		position++
	}
}
