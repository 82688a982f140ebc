package appendsink

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"ossuary/internal/object"
)

// A body in pieces holds what one buffer would, whatever the lines and the guesses
// of their lengths, also after some were dropped, and in memory that was used before.
func TestBodyAgainstOneBuffer(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	poison := errors.New("poison")
	for round := range 300 {
		var b body
		var ends []int
		var want [][]byte
		for range r.IntN(60) {
			line := bytes.Repeat([]byte{byte('a' + r.IntN(26))}, 1+r.IntN(1<<r.IntN(19)))
			before := b
			err := b.add(r.IntN(2*len(line)), func(dst []byte) ([]byte, error) {
				if r.IntN(8) == 0 {
					_ = append(dst, "half a line"...)
					return dst, poison
				}
				return append(dst, line...), nil
			})
			if err != nil {
				if b.size != before.size || b.memory != before.memory || len(b.pieces) != len(before.pieces) {
					t.Fatal("a line that could not be encoded left something behind")
				}
				continue
			}
			want = append(want, line)
			ends = append(ends, b.size)
		}
		for range 2 {
			check(t, &b, ends, want)
			drop := 1 + r.IntN(4)
			var left [][]byte
			keep := make([]bool, len(want))
			for i, line := range want {
				if keep[i] = r.IntN(4) >= drop; keep[i] {
					left = append(left, line)
				}
			}
			lent := r.IntN(2) == 0
			var seen, then [][]byte
			if lent {
				seen, then = slices.Clone(b.pieces), object.Body(b.pieces).Clone()
			}
			b.lent = lent
			b.cut(ends, func(i int) bool { return keep[i] })
			for i := range seen {
				if !bytes.Equal(seen[i], then[i]) {
					t.Fatalf("round %d: bytes that an append may be reading were changed", round)
				}
			}
			if b.lent && len(seen) > 0 {
				t.Fatalf("round %d: pieces of its own are still lent", round)
			}
			ends, want = nil, left
			size := 0
			for _, line := range want {
				size += len(line)
				ends = append(ends, size)
			}
		}
		check(t, &b, ends, want)
		if b.free(); b.size != 0 || b.memory != 0 {
			t.Fatalf("round %d: freed and not empty", round)
		}
	}
}

// Pieces that an append may still be reading are not used for the next batch.
func TestLentPiecesAreNotUsedAgain(t *testing.T) {
	line := func(c byte) func([]byte) ([]byte, error) {
		return func(dst []byte) ([]byte, error) { return append(dst, bytes.Repeat([]byte{c}, 100)...), nil }
	}
	for range 100 {
		var a, b body
		for range 30 {
			_ = a.add(100, line('a'))
		}
		lent := slices.Clone(a.pieces)
		a.lent = true
		a.free()
		for range 30 {
			_ = b.add(100, line('b'))
		}
		if bytes.Contains(bytes.Join(lent, nil), []byte("b")) {
			t.Fatal("the next batch's lines stand where an append may be reading")
		}
		b.free()
	}
}

func check(t *testing.T, b *body, ends []int, want [][]byte) {
	t.Helper()
	memory := int64(0)
	for _, p := range b.pieces {
		memory += int64(cap(p))
	}
	if memory != b.memory {
		t.Fatalf("takes %d bytes and says %d", memory, b.memory)
	}
	if got := bytes.Join(b.pieces, nil); b.size != len(got) || !bytes.Equal(got, bytes.Join(want, nil)) {
		t.Fatalf("%d bytes, says %d, want %d", len(got), b.size, len(bytes.Join(want, nil)))
	}
	start := 0
	for i, line := range want {
		if !bytes.Equal(b.line(start, ends[i]), line) {
			t.Fatalf("line %d is another", i)
		}
		start = ends[i]
	}
}
