package object

import (
	"encoding/binary"
	"hash/crc64"
)

// CRC64 extends crc, the CRC-64/XZ (ECMA-182, reflected) of some prefix, over p.
// It is the checksum OSS returns for the whole object in x-oss-hash-crc64ecma;
// the CRC of nothing is 0.
//
// hash/crc64 takes each eight bytes only when the checksum of those before is known,
// and waits for its tables most of the time. Here three stretches go at once, and
// their checksums are put together: CRCs are linear.
func CRC64(crc uint64, p []byte) uint64 {
	if len(p) < 3*stretch {
		return crc64.Update(crc, ecma, p)
	}
	crc = ^crc
	for len(p) >= 3*stretch {
		a, b, c := three(crc, (*[stretch]byte)(p), (*[stretch]byte)(p[stretch:]), (*[stretch]byte)(p[2*stretch:]))
		crc = behind(behind(a)^b) ^ c
		p = p[3*stretch:]
	}
	return crc64.Update(^crc, ecma, p)
}

// stretch is long enough for putting together to cost little, and short enough for
// three to stay in the cache.
const stretch = 4 << 10

var (
	ecma   = crc64.MakeTable(crc64.ECMA)
	tables = slicing()
	shifts = shifting()
)

// three updates the checksums a, 0 and 0, without the inversions at either end.
func three(a uint64, p, q, r *[stretch]byte) (_, b, c uint64) {
	t := &tables
	for i := 0; i <= stretch-8; i += 8 {
		a ^= binary.LittleEndian.Uint64(p[i : i+8])
		b ^= binary.LittleEndian.Uint64(q[i : i+8])
		c ^= binary.LittleEndian.Uint64(r[i : i+8])
		a = t[7][byte(a)] ^ t[6][byte(a>>8)] ^ t[5][byte(a>>16)] ^ t[4][byte(a>>24)] ^
			t[3][byte(a>>32)] ^ t[2][byte(a>>40)] ^ t[1][byte(a>>48)] ^ t[0][a>>56]
		b = t[7][byte(b)] ^ t[6][byte(b>>8)] ^ t[5][byte(b>>16)] ^ t[4][byte(b>>24)] ^
			t[3][byte(b>>32)] ^ t[2][byte(b>>40)] ^ t[1][byte(b>>48)] ^ t[0][b>>56]
		c = t[7][byte(c)] ^ t[6][byte(c>>8)] ^ t[5][byte(c>>16)] ^ t[4][byte(c>>24)] ^
			t[3][byte(c>>32)] ^ t[2][byte(c>>40)] ^ t[1][byte(c>>48)] ^ t[0][c>>56]
	}
	return a, b, c
}

// behind is what crc becomes behind a stretch of zeros.
func behind(crc uint64) (out uint64) {
	for i := range shifts {
		out ^= shifts[i][crc&15]
		crc >>= 4
	}
	return out
}

// slicing makes the tables by which eight bytes are taken at once: table i is that of
// a byte with i zeros behind it.
func slicing() (t [8][256]uint64) {
	t[0] = *ecma
	for i := range t[0] {
		for j := 1; j < len(t); j++ {
			before := t[j-1][i]
			t[j][i] = t[0][byte(before)] ^ before>>8
		}
	}
	return t
}

// shifting makes the tables of behind: for each four bits of a checksum, what a
// stretch of zeros makes of them.
func shifting() (t [16][16]uint64) {
	var m [64]uint64 // what one zero makes of each bit; then two, four, …
	for i := range m {
		bit := uint64(1) << i
		m[i] = ecma[byte(bit)] ^ bit>>8
	}
	for n := 1; n < stretch; n *= 2 {
		var twice [64]uint64
		for i := range twice {
			twice[i] = times(&m, m[i])
		}
		m = twice
	}
	for i := range t {
		for bits := range t[i] {
			t[i][bits] = times(&m, uint64(bits)<<(4*i))
		}
	}
	return t
}

func times(m *[64]uint64, crc uint64) (out uint64) {
	for i := range m {
		if crc>>i&1 == 1 {
			out ^= m[i]
		}
	}
	return out
}
