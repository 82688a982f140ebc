package object

import (
	"bytes"
	"slices"
)

// Body is the bytes of an append, in pieces that follow one another. A store reads
// them, also after it has given up waiting for an answer: until an append is
// confirmed nobody may change them.
type Body [][]byte

// Len is the number of bytes.
func (b Body) Len() int {
	n := 0
	for _, p := range b {
		n += len(p)
	}
	return n
}

// Bytes is all of it in one piece, which is its own if there is only one.
func (b Body) Bytes() []byte {
	if len(b) == 1 {
		return b[0]
	}
	return bytes.Join(b, nil)
}

// Clone shares no memory with b.
func (b Body) Clone() Body {
	out := make(Body, len(b))
	for i, p := range b {
		out[i] = slices.Clone(p)
	}
	return out
}

// CRC64 extends crc over it, see CRC64.
func (b Body) CRC64(crc uint64) uint64 {
	for _, p := range b {
		crc = CRC64(crc, p)
	}
	return crc
}
