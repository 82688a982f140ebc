package event

import (
	"cmp"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

const (
	// gzipLevel is the default level of gzip. Level 5, which was the default, makes
	// bodies 4 % (random ones) to 11 % (logs) smaller and takes a third to two thirds
	// as long again; level 1 is hardly faster and level 3 hardly smaller.
	// docs/PERFORMANCE.md has the table, BenchmarkLevels makes it.
	gzipLevel = 2
	// zstdLevel is the default of zstd, its fastest; the next one makes orders 2 %
	// smaller, logs no smaller, and takes half as long again.
	zstdLevel = 1
	// zstdWindow is the window of zstd frames, in bytes. It is what an encoder and a
	// reader need memory for; lines that are alike stand nearer to each other, and
	// larger windows made nothing smaller that was tried. Readers take 8 MiB.
	zstdWindow = 1 << 20
)

// zstdEmpty is the zstd frame of no bytes.
var zstdEmpty = []byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0}

// turns bounds how many frames are compressed at once to what the processor can do.
// More of them are no faster, but each has tables of its own, up to a MiB: in turn they
// push one another out of the caches, which makes frames of 64 KiB half as dear again,
// and all of them take memory. Turns are taken in the order of asking. Who has one
// waits for nothing, so that it ends.
var turns = make(chan struct{}, runtime.GOMAXPROCS(0))

// packer compresses the bodies of frames, one after the other.
type packer struct {
	z     io.WriteCloser // one of these two
	flate *flate.Writer
	zstd  *zstd.Encoder

	out io.Writer // of the frame at work
}

// packers keeps them between frames, by codec and level, for all writers. There are
// hardly more of them than turns.
var packers [2][10]sync.Pool

func packersOf(c Codec, level int) *sync.Pool {
	if c == Gzip {
		return &packers[0][level]
	}
	return &packers[1][level]
}

// newPacker makes one for gzip or zstd. level is as for NewFrameWriter.
func newPacker(c Codec, level int) (p *packer, err error) {
	p = new(packer)
	if c == Gzip {
		p.flate, err = flate.NewWriter(p, cmp.Or(level, gzipLevel))
		p.z = p.flate
		return p, err
	}
	p.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(cmp.Or(level, zstdLevel))),
		zstd.WithEncoderConcurrency(1), // which starts no goroutine
		zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true))
	p.z = p.zstd
	return p, err
}

// takePacker waits for a turn and begins a body of size bytes, of which none is written
// yet. Whatever was compressed before, equal bodies give equal bytes, in pieces of
// whatever size they are written. The packer belongs to giveBack afterwards.
func takePacker(c Codec, level, size int, out io.Writer) (*packer, error) {
	turns <- struct{}{}
	p, _ := packersOf(c, level).Get().(*packer)
	if p == nil {
		var err error
		if p, err = newPacker(c, level); err != nil {
			<-turns
			return nil, err
		}
	}
	p.begin(size, out)
	return p, nil
}

func (p *packer) begin(size int, out io.Writer) {
	p.out = out
	if p.flate != nil {
		p.flate.Reset(p)
	} else {
		p.zstd.ResetContentSize(p, int64(size))
	}
}

// giveBack ends the turn. A packer that has failed is not used again.
func (p *packer) giveBack(c Codec, level int, failed bool) {
	p.out = nil
	if !failed {
		packersOf(c, level).Put(p)
	}
	<-turns
}

// Write implements io.Writer for the compressor: it takes what is compressed.
func (p *packer) Write(b []byte) (int, error) { return p.out.Write(b) }
