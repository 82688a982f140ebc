package appendsink

import (
	"math/bits"
	"sync"
)

// body is the encoded lines of a batch, in pieces. A piece holds whole lines and
// never grows, so that a batch of megabytes is copied once, into its frame. As one
// buffer it would be copied, and its memory be cleared and collected, several times
// over while it fills.
type body struct {
	pieces [][]byte
	size   int   // bytes of all lines
	memory int64 // what the pieces take
	excess int   // by how much a line was longer than guessed, at most
	lent   bool  // an append may be reading the pieces: they change no more
}

const (
	// Pieces are of a power of two from leastPiece to mostPiece, and used again. The
	// first ones of a batch are smaller and those of long lines larger: as large as
	// they must be, since what they take counts before the events do.
	leastPiece, mostPiece = 1 << 10, 128 << 10
	// lineOverhead is what an envelope adds to an event without headers, about.
	lineOverhead = 96
)

// add appends the line that encode makes behind what it is given. n is the guess of
// its length. After an error nothing has changed.
func (b *body) add(n int, encode func([]byte) ([]byte, error)) error {
	n += b.excess
	last := len(b.pieces) - 1
	fresh := last < 0 || cap(b.pieces[last])-len(b.pieces[last]) < n
	var p []byte
	if fresh {
		p = pieces.get(max(n, min(b.size/2, mostPiece)))
	} else {
		p = b.pieces[last]
	}
	out, err := encode(p)
	if err != nil {
		if fresh {
			pieces.put(p)
		}
		return err
	}
	length := len(out) - len(p)
	if cap(out) != cap(p) { // it did not fit, and the encoder made room elsewhere
		b.excess = min(b.excess+length-n, mostPiece)
		line := out[len(p):]
		if fresh {
			pieces.put(p)
		}
		fresh = true
		out = append(pieces.get(length), line...)
	}
	if fresh {
		b.pieces = append(b.pieces, out)
		b.memory += int64(cap(out))
	} else {
		b.pieces[last] = out
	}
	b.size += length
	return nil
}

// cut drops the lines for which keep is false; line i ends at ends[i]. It does not
// change ends.
func (b *body) cut(ends []int, keep func(i int) bool) {
	if b.lent {
		b.detach()
	}
	piece, base, kept, start := 0, 0, 0, 0 // base: where the piece began
	b.size = 0
	for i, end := range ends {
		for start-base == len(b.pieces[piece]) {
			base, b.pieces[piece] = start, b.pieces[piece][:kept]
			piece, kept = piece+1, 0
		}
		if keep(i) {
			p := b.pieces[piece]
			kept += copy(p[kept:], p[start-base:end-base])
			b.size += end - start
		}
		start = end
	}
	if piece < len(b.pieces) {
		b.pieces[piece] = b.pieces[piece][:kept]
	}
}

// detach has the lines in pieces of their own. Who was lent the old ones keeps them.
func (b *body) detach() {
	own := make([][]byte, len(b.pieces))
	b.memory = 0
	for i, p := range b.pieces {
		own[i] = append(pieces.get(len(p)), p...)
		b.memory += int64(cap(own[i]))
	}
	b.pieces, b.lent = own, false
}

// line is the bytes [from, to), which are a line.
func (b *body) line(from, to int) []byte {
	base := 0
	for _, p := range b.pieces {
		if from < base+len(p) {
			return p[from-base : to-base]
		}
		base += len(p)
	}
	return nil
}

// free gives the pieces back, unless they are lent. Nothing else may refer to them
// any more.
func (b *body) free() {
	if !b.lent {
		for _, p := range b.pieces {
			pieces.put(p)
		}
	}
	*b = body{}
}

// pieces recycles the memory of bodies.
var pieces piecePool

type piecePool [classes]sync.Pool // of *[]byte, by size

const classes = 8 // leastPiece to mostPiece

// get returns an empty piece with room for n bytes.
func (p *piecePool) get(n int) []byte {
	if n < leastPiece || n > mostPiece {
		return make([]byte, 0, n)
	}
	class := bits.Len(uint(n-1) / leastPiece)
	if v, ok := p[class].Get().(*[]byte); ok {
		return *v
	}
	return make([]byte, 0, leastPiece<<class)
}

func (p *piecePool) put(b []byte) {
	if n := cap(b); n >= leastPiece && n <= mostPiece && n&(n-1) == 0 {
		b = b[:0]
		p[bits.Len(uint(n/leastPiece))-1].Put(&b)
	}
}
