package event

import (
	"bytes"
	"encoding/binary"
)

// A block is what frames, index pieces and locators have in common: JSON of ours
// in a wrapper that readers of the codec alone pass over.
//
//	gzip   a member whose extra field holds the JSON under 'O' and the block's letter
//	zstd   a skippable frame: 'O', the block's letter, the JSON
//	plain  a line {"_ossuary":JSON}, {"_ossuary_index":JSON}, {"_ossuary_locator":JSON}
type block byte

const (
	blockHeader  block = 'S'
	blockIndex   block = 'I'
	blockLocator block = 'L'
)

const (
	gzipFixed     = 16 // member header, XLEN, subfield header
	gzipTrailer   = 8  // CRC-32 and length
	zstdFixed     = 10 // magic, length, two marker bytes
	zstdSkippable = 0x184D2A50
)

// The stream of a gzip member that holds nothing: one final block of static
// codes with its end, then CRC-32 0 and length 0.
var gzipEmpty = []byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// The member header up to XLEN: FEXTRA, no time, unknown system. A fixed form, so
// that equal events give equal bytes.
var gzipHeader = []byte{0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255}

func (b block) member() string {
	switch b {
	case blockIndex:
		return `{"_ossuary_index":`
	case blockLocator:
		return `{"_ossuary_locator":`
	default:
		return `{"_ossuary":`
	}
}

// overhead is the number of bytes that openBlock adds to the JSON.
func (b block) overhead(c Codec) int {
	switch c {
	case Gzip:
		return gzipFixed
	case Zstd:
		return zstdFixed
	default:
		return len(b.member()) + len("}\n")
	}
}

// appendBlock appends js, at most maxHeader bytes, in the wrapper of c. For gzip
// the member's compressed data has to follow.
func appendBlock(dst []byte, c Codec, b block, js []byte) []byte {
	switch c {
	case Gzip:
		dst = append(dst, gzipHeader...)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(len(js)+4))
		dst = append(dst, 'O', byte(b))
		dst = binary.LittleEndian.AppendUint16(dst, uint16(len(js)))
		return append(dst, js...)
	case Zstd:
		dst = binary.LittleEndian.AppendUint32(dst, zstdSkippable)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(js)+2))
		dst = append(dst, 'O', byte(b))
		return append(dst, js...)
	default:
		dst = append(dst, b.member()...)
		dst = append(dst, js...)
		return append(dst, '}', '\n')
	}
}

// openBlock finds the block that p starts with: its JSON and the bytes up to
// its end. With more true p may be the beginning of one; what says, in words,
// why p can be none.
func openBlock(p []byte, c Codec, b block) (js []byte, size int, more bool, what string) {
	const noBlock = "no header of ours"
	prefixed := func(want []byte) bool { n := min(len(p), len(want)); return bytes.Equal(p[:n], want[:n]) }
	var length, fixed int
	switch c {
	case Gzip:
		fixed = gzipFixed
		if !prefixed(gzipHeader) {
			return nil, 0, false, noBlock
		}
		if len(p) < fixed {
			return nil, 0, true, ""
		}
		length = int(binary.LittleEndian.Uint16(p[14:]))
		if p[12] != 'O' || block(p[13]) != b || int(binary.LittleEndian.Uint16(p[10:])) != length+4 {
			return nil, 0, false, noBlock
		}
	case Zstd:
		fixed = zstdFixed
		if !prefixed(binary.LittleEndian.AppendUint32(nil, zstdSkippable)) {
			return nil, 0, false, noBlock
		}
		if len(p) < fixed {
			return nil, 0, true, ""
		}
		claim := binary.LittleEndian.Uint32(p[4:])
		if p[8] != 'O' || block(p[9]) != b || claim < 2 || claim > maxHeader+2 {
			return nil, 0, false, noBlock
		}
		length = int(claim) - 2
	default:
		open := b.member()
		if !prefixed([]byte(open)) {
			return nil, 0, false, noBlock
		}
		fixed = len(open)
		end := bytes.IndexByte(p[:min(len(p), fixed+maxHeader+2)], '\n')
		switch {
		case end < 0 && len(p) < fixed+maxHeader+2:
			return nil, 0, true, ""
		case end < fixed+1 || p[end-1] != '}':
			return nil, 0, false, noBlock
		}
		return p[fixed : end-1], end + 1, false, ""
	}
	if length > maxHeader {
		return nil, 0, false, noBlock
	}
	if len(p) < fixed+length {
		return nil, 0, true, ""
	}
	return p[fixed : fixed+length], fixed + length, false, ""
}

// appendEmptyBlock appends a block that stands alone, as in a seal's trailer.
func appendEmptyBlock(dst []byte, c Codec, b block, js []byte) []byte {
	dst = appendBlock(dst, c, b, js)
	if c == Gzip {
		dst = append(dst, gzipEmpty...)
	}
	return dst
}

// openEmptyBlock is openBlock for a block that stands alone. The whole of it must
// be in p.
func openEmptyBlock(p []byte, c Codec, b block) (js []byte, size int, ok bool) {
	js, size, more, what := openBlock(p, c, b)
	if more || what != "" {
		return nil, 0, false
	}
	if c == Gzip {
		if !bytes.HasPrefix(p[size:], gzipEmpty) {
			return nil, 0, false
		}
		size += len(gzipEmpty)
	}
	return js, size, true
}
