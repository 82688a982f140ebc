package object

import (
	"fmt"
	"hash/crc64"
	"math/rand/v2"
	"testing"
)

func TestCRC64IsThatOfTheStandardLibrary(t *testing.T) {
	r := rand.NewChaCha8([32]byte{1})
	p := make([]byte, 200_000)
	_, _ = r.Read(p)
	n := rand.New(r)
	for range 500 {
		from := n.IntN(len(p))
		to := from + n.IntN(len(p)-from+1)
		if n.IntN(4) == 0 { // around whole stretches
			to = min(len(p), from+3*stretch*n.IntN(4)+n.IntN(3)-1)
			to = max(from, to)
		}
		crc := n.Uint64()
		if got, want := CRC64(crc, p[from:to]), crc64.Update(crc, ecma, p[from:to]); got != want {
			t.Fatalf("%d bytes behind %x: %x, want %x", to-from, crc, got, want)
		}
	}
	if got := CRC64(0, []byte("123456789")); got != 0x995dc9bbdf1939fa { // the check value of CRC-64/XZ
		t.Errorf("%x", got)
	}
}

func BenchmarkCRC64(b *testing.B) {
	for _, size := range []int{100, 20_000, 4 << 20} {
		p := make([]byte, size)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				CRC64(1, p)
			}
		})
	}
}
