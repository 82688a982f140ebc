package ossemu

import (
	"bytes"
	"crypto/md5"
	"hash"
	"hash/crc64"
	"io"
)

var ecma = crc64.MakeTable(crc64.ECMA)

// spoolAt is the size from which on a body waits on the disk.
const spoolAt = 32 << 20

// body is a request's body, read to its end before anything is changed: a body
// that is cut short counts as nothing, and a slow client holds no lock.
type body struct {
	mem []byte
	tmp string // name of the temporary file, "" if mem has it all
	n   int64
	md5 [md5.Size]byte
}

// readBody reads all of r. onDisk asks for a temporary file whatever the size.
func readBody(f files, r io.Reader, hint, limit int64, onDisk, sum bool) (*body, error) {
	b := &body{}
	r = io.LimitReader(r, limit+1)
	var h hash.Hash
	if sum {
		h = md5.New()
		r = io.TeeReader(r, h)
	}
	threshold := int64(spoolAt)
	if onDisk {
		threshold = 0
	}
	var buf bytes.Buffer
	if hint > 0 && hint <= spoolAt && !onDisk {
		buf.Grow(int(hint) + bytes.MinRead)
	}
	if _, err := io.CopyN(&buf, r, threshold); err != nil && err != io.EOF { //nolint:errorlint // the end is io.EOF itself; what wraps it is a body cut short
		return nil, err
	}
	b.n = int64(buf.Len())
	if b.n == threshold {
		if err := b.spool(f, &buf, r); err != nil {
			return nil, err
		}
	}
	if b.tmp == "" {
		b.mem = buf.Bytes()
	}
	if b.n > limit {
		b.drop(f)
		return nil, errorf(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.", "0017-00000601")
	}
	if h != nil {
		h.Sum(b.md5[:0])
	}
	return b, nil
}

// spool moves what was read and what remains to a temporary file, where there
// are such.
func (b *body) spool(f files, buf *bytes.Buffer, r io.Reader) error {
	w, name, err := f.temp()
	if err != nil {
		return err
	}
	if w == nil {
		n, err := buf.ReadFrom(r)
		b.n += n
		return err
	}
	b.tmp = name
	b.n, err = io.Copy(w, io.MultiReader(buf, r))
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		b.drop(f)
	}
	return err
}

// drop removes the temporary file, if it is still there.
func (b *body) drop(f files) {
	if b.tmp != "" {
		f.removeTemp(b.tmp)
	}
}

func (b *body) open(f files) (io.ReadCloser, error) {
	if b.tmp == "" {
		return io.NopCloser(bytes.NewReader(b.mem)), nil
	}
	return f.openTemp(b.tmp)
}

func (b *body) writeTo(f files, w io.Writer) (int64, error) {
	if b.tmp == "" {
		n, err := w.Write(b.mem)
		return int64(n), err
	}
	r, err := b.open(f)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return io.Copy(w, r)
}

// crc extends an object's CRC-64 over the body.
func (b *body) crc(f files, crc uint64) (uint64, error) {
	w := crcWriter{crc}
	_, err := b.writeTo(f, &w)
	return w.crc, err
}

type crcWriter struct{ crc uint64 }

func (w *crcWriter) Write(p []byte) (int, error) {
	w.crc = crc64.Update(w.crc, ecma, p)
	return len(p), nil
}
