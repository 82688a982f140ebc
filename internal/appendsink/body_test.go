package appendsink

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
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
			b.cut(ends, func(i int) bool { return keep[i] })
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
