package event

import (
	"bytes"
	stdflate "compress/flate"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// packed is body compressed by a packer that is given cut bytes at a time.
func packed(t *testing.T, p *packer, body []byte, cut int) []byte {
	var out bytes.Buffer
	p.begin(len(body), &out)
	for rest := body; len(rest) > 0; {
		n := min(cut, len(rest))
		if _, err := p.z.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := p.z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// unpacked reads it with what is not ours.
func unpacked(t *testing.T, c Codec, p []byte) []byte {
	var r io.Reader = stdflate.NewReader(bytes.NewReader(p))
	if c == Zstd {
		z, err := zstd.NewReader(bytes.NewReader(p), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Whatever a packer has compressed before, and however the body is cut, the bytes are
// those of a new one; around the sizes of blocks and windows too.
func TestPackersForget(t *testing.T) {
	_, pieces := linesOf(logLine, 3<<20)
	whole := bytes.Join(pieces, nil)
	r := rand.New(rand.NewPCG(7, 8))
	sizes := []int{1, 63, 1023, 1024, 65535, 65536, 65537, 131071, 131072, 131073, zstdWindow - 1, zstdWindow, zstdWindow + 1, 3 << 20}
	for range 20 {
		sizes = append(sizes, 1+r.IntN(200_000))
	}
	for _, c := range []Codec{Gzip, Zstd} {
		for _, level := range []int{0, 1, 3, 6, 8} {
			used, err := newPacker(c, level)
			if err != nil {
				t.Fatal(err)
			}
			r.Shuffle(len(sizes), func(i, j int) { sizes[i], sizes[j] = sizes[j], sizes[i] })
			for _, size := range sizes {
				fresh, err := newPacker(c, level)
				if err != nil {
					t.Fatal(err)
				}
				from := r.IntN(len(whole) - size + 1)
				body := whole[from : from+size]
				want := packed(t, fresh, body, size)
				if got := packed(t, used, body, 1+r.IntN(size)); !bytes.Equal(got, want) {
					t.Fatalf("%v, level %d, %d bytes: a used packer makes other bytes", c, level, size)
				}
				if c == Zstd {
					var h zstd.Header
					if err := h.Decode(want); err != nil || h.WindowSize > zstdWindow || !h.HasCheckSum || h.HasFCS && h.FrameContentSize != uint64(size) {
						t.Fatalf("level %d, %d bytes: %+v %v", level, size, h, err)
					}
				}
				if !bytes.Equal(unpacked(t, c, want), body) {
					t.Fatalf("%v, level %d, %d bytes: it does not come back", c, level, size)
				}
			}
		}
	}
}

func TestEmptyBodies(t *testing.T) {
	z, err := zstd.NewWriter(nil, zstd.WithZeroFrames(true))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	if got := z.EncodeAll(nil, nil); !bytes.Equal(got, zstdEmpty) {
		t.Errorf("the empty zstd frame is % x", got)
	}
	if got := unpacked(t, Zstd, zstdEmpty); len(got) != 0 {
		t.Errorf("zstd: %d bytes", len(got))
	}
	if got := unpacked(t, Gzip, gzipEmpty[:2]); len(got) != 0 {
		t.Errorf("gzip: %d bytes", len(got))
	}
}

// No more frames are compressed at once than there are turns, and each gets one.
func TestTurns(t *testing.T) {
	var all []*packer
	for range cap(turns) {
		p, err := takePacker(Gzip, 0, 1, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	n, body := linesOf(logLine, 1000)
	want := make(chan []byte, 64)
	var wg sync.WaitGroup
	for i := range cap(want) {
		wg.Go(func() {
			n := *n
			out, _, err := NewFrameWriter(0).Data(nil, []Codec{Gzip, Zstd}[i%2], &n, 0, body...)
			if err != nil {
				t.Error(err)
			}
			want <- out
		})
	}
	// Plain frames and empty ones take no turn.
	for _, c := range codecs {
		next := Content{Archive: "main", Source: "ORDERS", Series: "orders/2026", Segment: 1, Frame: 2, Last: 1, Greatest: when, Next: Key("", "orders/2026", 2, Ext(Envelope, c))}
		if _, _, err := NewFrameWriter(0).Break(nil, c, &next, 100); err != nil {
			t.Fatal(err)
		}
	}
	m := *n
	if _, _, err := NewFrameWriter(0).Data(nil, Plain, &m, 0, body...); err != nil {
		t.Fatal(err)
	}
	if len(want) != 0 {
		t.Error("a frame was compressed without a turn")
	}
	for _, p := range all {
		p.giveBack(Gzip, 0, false)
	}
	wg.Wait()
	if len(want) != cap(want) || len(turns) != 0 {
		t.Errorf("%d of %d frames, and %d turns are taken still", len(want), cap(want), len(turns))
	}
}
