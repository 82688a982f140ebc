package event

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/transparency-dev/merkle/rfc6962"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

var codecs = []Codec{Gzip, Zstd, Plain}

// segment is an object as a writer makes it, with what was put into it.
type segment struct {
	codec  Codec
	bytes  []byte
	frames []Content
	bodies []string
	starts []int // of the frames, and the end
	prev   Hash
	last   uint64
	great  time.Time
	w      *FrameWriter
	index  []IndexEntry
}

func newSegment(c Codec) *segment {
	return &segment{codec: c, w: NewFrameWriter(0), starts: []int{0}}
}

func (s *segment) content() *Content {
	return &Content{
		Archive: "main", Source: "ORDERS", Stream: StreamID{Name: "ORDERS", Created: when.Add(-time.Hour)},
		Layout: 1, Lane: "a", Series: "orders/<2026>", Segment: 1, Frame: len(s.frames) + 1,
		Last: s.last, Greatest: s.great, Prev: s.prev,
	}
}

// data appends a frame of the events that follow, every second sequence.
func (s *segment) data(t testing.TB, payloads ...string) {
	n := s.content()
	var body []byte
	for i, p := range payloads {
		e := &Event{Sequence: s.last + 2, Time: when.Add(time.Duration(s.last) * time.Second), Subject: "orders.new", Data: []byte(p)}
		var err error
		if body, err = (Encoder{}).Append(body, e); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			n.First, n.MinTime = e.Sequence, e.Time
		}
		n.Last, n.MaxTime, n.Greatest = e.Sequence, e.Time, e.Time
		s.last, s.great = e.Sequence, e.Time
		n.Count++
	}
	root := EventsRoot(body)
	n.EventsRoot = &root
	s.index = append(s.index, IndexEntry{int64(len(s.bytes)), n.First, n.MinTime})
	out, hash, err := s.w.Data(s.bytes, s.codec, n, int64(len(s.bytes)), body)
	s.add(t, out, hash, n, string(body), err)
}

func (s *segment) end(t testing.TB, kind string) {
	n := s.content()
	n.Next, n.Reason = "orders/<2026>.000002.ndjson", "because"
	at := int64(len(s.bytes))
	if kind == KindBreak {
		n.Valid = int64(s.starts[len(s.starts)-1])
		out, hash, err := s.w.Break(s.bytes, s.codec, n, at)
		s.add(t, out, hash, n, "", err)
		return
	}
	out, hash, err := s.w.Seal(s.bytes, s.codec, n, at, crc64.Checksum(s.bytes, crcTable), s.index)
	s.add(t, out, hash, n, "", err)
}

func (s *segment) add(t testing.TB, out []byte, hash Hash, n *Content, body string, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	s.bytes, s.prev = out, hash
	s.frames, s.bodies, s.starts = append(s.frames, *n), append(s.bodies, body), append(s.starts, len(out))
}

func sample(t testing.TB, c Codec) *segment {
	s := newSegment(c)
	s.data(t, `{"id":1}`)
	s.data(t, "text", "\xff\xfe", strings.Repeat("abc", 100))
	s.end(t, KindSeal)
	return s
}

func sameContent(a, b *Content) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// check reads frames until an error and compares each with what was written.
func (s *segment) check(t testing.TB, r io.Reader) (frames int, sc *Scanner, err error) {
	t.Helper()
	sc = NewScanner(r, s.codec, 0, 0)
	for {
		f, body, err := sc.Next()
		if err != nil {
			return frames, sc, err
		}
		if frames >= len(s.frames) || string(body) != s.bodies[frames] || !sameContent(&f.Content, &s.frames[frames]) {
			t.Fatalf("%v: frame %d is not what was written: %+v %q", s.codec, frames, f.Content, body)
		}
		frames++
		if f.Place.Position != int64(s.starts[frames-1]) || f.End() != int64(s.starts[frames]) || sc.Position() != f.End() {
			t.Fatalf("%v: frame %d lies at %d..%d", s.codec, frames, f.Place.Position, f.End())
		}
		if sc.CRC() != crc64.Checksum(s.bytes[:s.starts[frames]], crcTable) {
			t.Fatalf("%v: CRC of frame %d", s.codec, frames)
		}
	}
}

func TestFramesRoundTrip(t *testing.T) {
	for _, c := range codecs {
		s := sample(t, c)
		for name, r := range map[string]io.Reader{
			"whole": bytes.NewReader(s.bytes), "byte by byte": iotest.OneByteReader(bytes.NewReader(s.bytes)),
			"data with EOF": iotest.DataErrReader(bytes.NewReader(s.bytes)),
		} {
			n, sc, err := s.check(t, r)
			if err != io.EOF || n != 3 {
				t.Errorf("%v, %s: %d frames, %v", c, name, n, err)
			}
			if _, _, again := sc.Next(); again != io.EOF {
				t.Errorf("%v: after the end: %v", c, again)
			}
		}
		// From within, as after a forward read.
		sc := NewScanner(bytes.NewReader(s.bytes[s.starts[1]:]), c, int64(s.starts[1]), crc64.Checksum(s.bytes[:s.starts[1]], crcTable))
		if f, _, err := sc.Next(); err != nil || f.Content.Frame != 2 || f.Hash != s.frames[2].Prev {
			t.Errorf("%v: from the second frame: %v", c, err)
		}
		f, _, err := sc.Next()
		if err != nil || len(f.Index) != 2 || f.Index[1].Position != int64(s.starts[1]) || f.Index[1].First != 4 || !f.Index[1].MinTime.Equal(s.frames[1].MinTime) {
			t.Errorf("%v: seal %+v, %v", c, f, err)
		}
		if want := crc64.Checksum(s.bytes[:s.starts[2]], crcTable); f.Before != want || sc.CRC() != crc64.Checksum(s.bytes, crcTable) {
			t.Errorf("%v: CRC before the seal %x, want %x", c, f.Before, want)
		}
		seal, crc, ok := ReadLocator(s.bytes[len(s.bytes)-LocatorSize(c):], c)
		if !ok || seal != int64(s.starts[2]) || crc != f.Before {
			t.Errorf("%v: locator says %d %x %v", c, seal, crc, ok)
		}
	}
}

// What was written once stays readable, whatever becomes of the compressors: the
// files hold what sample writes. TestGolden -update writes them anew.
func TestGolden(t *testing.T) {
	for _, c := range codecs {
		s := sample(t, c)
		name := filepath.Join("testdata", "1."+Ext(Envelope, c))
		if *update {
			if err := os.WriteFile(name, s.bytes, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		p, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sc := NewScanner(bytes.NewReader(p), c, 0, 0)
		for i := range s.frames {
			f, body, err := sc.Next()
			if err != nil || string(body) != s.bodies[i] || !sameContent(&f.Content, &s.frames[i]) {
				t.Fatalf("%s, frame %d: %+v %v", name, i, f, err)
			}
		}
		if _, _, err := sc.Next(); err != io.EOF {
			t.Fatal(err)
		}
	}
}

func TestFramesOfAnyEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(codecs).Draw(t, "codec")
		w := NewFrameWriter(rapid.IntRange(0, 9).Draw(t, "level"))
		var object []byte
		var want []string
		for range rapid.IntRange(0, 4).Draw(t, "frames") {
			var body []byte
			n := &Content{Series: "s", Segment: 1, Frame: len(want) + 1, First: 1}
			for range rapid.IntRange(1, 5).Draw(t, "events") {
				body, _ = Encoder{}.Append(body, anyEvent(t))
				n.Count++
			}
			n.Last = uint64(n.Count)
			var err error
			if object, _, err = w.Data(object, c, n, int64(len(object)), body); err != nil {
				t.Fatal(err)
			}
			want = append(want, string(body))
		}
		sc := NewScanner(bytes.NewReader(object), c, 0, 0)
		for i := range want {
			if _, body, err := sc.Next(); err != nil || string(body) != want[i] {
				t.Fatalf("frame %d: %q, %v, want %q", i, body, err, want[i])
			}
		}
		if _, _, err := sc.Next(); err != io.EOF {
			t.Fatalf("at the end: %v", err)
		}
		if got := others(t, c, object); got != strings.Join(want, "") {
			t.Fatalf("other readers get %q, want %q", got, want)
		}
	})
}

// others reads an object with readers that know only the codec.
func others(t interface{ Fatalf(string, ...any) }, c Codec, object []byte) string {
	var out []byte
	var err error
	switch c {
	case Gzip:
		if len(object) == 0 {
			return ""
		}
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(object)); err == nil {
			out, err = io.ReadAll(z)
		}
	case Zstd:
		var z *zstd.Decoder
		if z, err = zstd.NewReader(bytes.NewReader(object)); err == nil {
			defer z.Close()
			out, err = io.ReadAll(z)
		}
	default:
		for line := range bytes.Lines(object) {
			if !json.Valid(line) && len(bytes.TrimSpace(line)) > 0 {
				t.Fatalf("line is no JSON: %q", line)
			}
			if !bytes.HasPrefix(line, []byte(`{"_ossuary`)) && len(line) > 1 {
				out = append(out, line...)
			}
		}
	}
	if err != nil {
		t.Fatalf("%v: %v", c, err)
	}
	return string(out)
}

func TestOthersReadWholeSegments(t *testing.T) {
	for _, c := range codecs {
		for _, end := range []string{KindSeal, KindBreak} {
			s := newSegment(c)
			s.data(t, "1", "[2]")
			s.data(t, "three")
			s.end(t, end)
			if got, want := others(t, c, s.bytes), strings.Join(s.bodies, ""); got != want {
				t.Errorf("%v: %q, want %q", c, got, want)
			}
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	w := NewFrameWriter(0)
	good := func() *Content {
		return &Content{Series: "s", Segment: 1, Frame: 1, First: 1, Last: 2, Count: 2}
	}
	body := []byte("a\nb\n")
	if _, _, err := w.Data(nil, Gzip, good(), 0, body); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func([]byte) ([]byte, Hash, error){
		"no body":   func(p []byte) ([]byte, Hash, error) { return w.Data(p, Gzip, good(), 0, nil) },
		"open line": func(p []byte) ([]byte, Hash, error) { return w.Data(p, Gzip, good(), 0, []byte("a\nb")) },
		"count":     func(p []byte) ([]byte, Hash, error) { return w.Data(p, Gzip, good(), 0, []byte("a\n")) },
		"not UTF-8": func(p []byte) ([]byte, Hash, error) {
			n := good()
			n.Series = "\xff"
			return w.Data(p, Gzip, n, 0, body)
		},
		"raw plain": func(p []byte) ([]byte, Hash, error) {
			n := good()
			n.Format = Raw
			return w.Data(p, Plain, n, 0, body)
		},
		"break to nowhere": func(p []byte) ([]byte, Hash, error) {
			return w.Break(p, Plain, &Content{Segment: 1, Frame: 1}, 0)
		},
		"seal to nowhere": func(p []byte) ([]byte, Hash, error) {
			return w.Seal(p, Plain, &Content{Segment: 1, Frame: 1}, 0, 0, nil)
		},
	} {
		if p, _, err := write([]byte("x")); err == nil || string(p) != "x" {
			t.Errorf("%s: %q, %v", name, p, err)
		}
	}
	n := good()
	n.Seqs = strings.Repeat("A", maxHeader)
	for _, c := range codecs {
		if p, _, err := w.Data([]byte("x"), c, n, 0, body); err != ErrHeaderTooLarge || string(p) != "x" {
			t.Errorf("%v: %q, %v", c, p, err)
		}
	}
	// The largest header that goes in comes out.
	n.Seqs = ""
	_, _, _ = w.Data(nil, Plain, n, 0, body)
	for _, c := range codecs {
		lo, hi := 0, maxHeader
		for lo+1 < hi {
			mid := (lo + hi) / 2
			if n.Seqs = strings.Repeat("A", mid); func() error { _, _, err := w.Data(nil, c, n, 0, body); return err }() == nil {
				lo = mid
			} else {
				hi = mid
			}
		}
		n.Seqs = strings.Repeat("A", lo)
		p, _, err := w.Data(nil, c, n, 0, body)
		if err != nil {
			t.Fatal(err)
		}
		if f, err := ReadHeader(p[:min(len(p), MaxHead)], c); err != nil || f.Head > MaxHead {
			t.Errorf("%v: largest header: %v", c, err)
		}
	}
}

func TestFramesAreDeterministic(t *testing.T) {
	for _, c := range codecs {
		a, b := sample(t, c), newSegment(c)
		noise := bytes.Repeat([]byte("some other body\n"), 5000)
		if _, _, err := b.w.Data(nil, c, &Content{Segment: 1, Frame: 1, First: 1, Last: 5000, Count: 5000}, 0, noise); err != nil {
			t.Fatal(err)
		}
		b.data(t, `{"id":1}`)
		b.data(t, "text", "\xff\xfe", strings.Repeat("abc", 100))
		b.end(t, KindSeal)
		if !bytes.Equal(a.bytes, b.bytes) {
			t.Errorf("%v: a used writer gives other bytes than a new one", c)
		}
	}
}

func TestLongIndex(t *testing.T) {
	for _, c := range codecs {
		for _, entries := range []int{0, 1, 1000, 1500, 5000} {
			s := newSegment(c)
			at := int64(1_000_000)
			for i := range entries {
				s.index = append(s.index, IndexEntry{int64(i * 7), uint64(i + 1), when.Add(time.Duration(i))})
			}
			n := s.content()
			n.Next = "next"
			p, _, err := s.w.Seal(nil, c, n, at, 77, s.index)
			if err != nil {
				t.Fatal(err)
			}
			f, _, err := NewScanner(bytes.NewReader(p), c, at, 77).Next()
			if err != nil || len(f.Index) != entries || f.Before != 77 {
				t.Fatalf("%v, %d entries: %v", c, entries, err)
			}
			for i, e := range f.Index {
				if e != s.index[i] {
					t.Fatalf("%v: entry %d is %+v", c, i, e)
				}
			}
			others(t, c, p)
		}
	}
}

// An index whose positions fall or lie behind the seal, or a locator of another
// seal, would send readers astray.
func TestSealsThatLead(t *testing.T) {
	for _, c := range codecs {
		for name, made := range map[string]struct {
			index  []IndexEntry
			change func(p []byte) []byte
		}{
			"as it is":        {[]IndexEntry{{0, 1, when}, {7, 2, when}}, func(p []byte) []byte { return p }},
			"twice":           {[]IndexEntry{{7, 1, when}, {7, 2, when}}, func(p []byte) []byte { return p }},
			"falling":         {[]IndexEntry{{7, 1, when}, {0, 2, when}}, func(p []byte) []byte { return p }},
			"behind the seal": {[]IndexEntry{{0, 1, when}, {100, 2, when}}, func(p []byte) []byte { return p }},
			"negative":        {[]IndexEntry{{-1, 1, when}}, func(p []byte) []byte { return p }},
			"another position": {nil, func(p []byte) []byte {
				return bytes.Replace(p, []byte(`{"seal":"0000000000000064"`), []byte(`{"seal":"0000000000000063"`), 1)
			}},
		} {
			s := newSegment(c)
			n := s.content()
			n.Next = "next"
			p, _, err := s.w.Seal(nil, c, n, 100, 77, made.index)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = NewScanner(bytes.NewReader(made.change(p)), c, 100, 77).Next()
			var corrupt *CorruptError
			if ok := name == "as it is"; ok && err != nil || !ok && !errors.As(err, &corrupt) {
				t.Errorf("%v, index %s: %v", c, name, err)
			}
		}
	}
}

func TestSequences(t *testing.T) {
	s := sample(t, Gzip)
	f, body, err := func() (*Frame, []byte, error) {
		sc := NewScanner(bytes.NewReader(s.bytes), Gzip, 0, 0)
		_, _, _ = sc.Next()
		return sc.Next()
	}()
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	if err := Sequences(f, body, func(q uint64, at time.Time) bool { got = append(got, q); return !at.IsZero() }); err != nil || fmt.Sprint(got) != "[4 6 8]" {
		t.Fatalf("%v %v", got, err)
	}
	var stopped int
	if err := Sequences(f, body, func(uint64, time.Time) bool { stopped++; return false }); err != nil || stopped != 1 {
		t.Fatalf("stopped after %d, %v", stopped, err)
	}
	for name, spoil := range map[string]func(n *Content){
		"first": func(n *Content) { n.First-- }, "last": func(n *Content) { n.Last++ }, "count": func(n *Content) { n.Count-- },
		"least": func(n *Content) { n.MinTime = n.MinTime.Add(-1) }, "greatest": func(n *Content) { n.MaxTime = n.MaxTime.Add(1) },
		"raw": func(n *Content) { n.Format = Raw },
	} {
		g := *f
		spoil(&g.Content)
		var corrupt *CorruptError
		if err := Sequences(&g, body, func(uint64, time.Time) bool { return true }); !errors.As(err, &corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The ends are right, and what lies between them falls.
	var falling []byte
	for _, q := range []uint64{4, 7, 6, 8} {
		falling, err = Encoder{}.Append(falling, &Event{Sequence: q, Time: f.Content.MinTime, Subject: "s", Data: []byte("1")})
		if err != nil {
			t.Fatal(err)
		}
	}
	g := *f
	g.Content.Count, g.Content.MaxTime = 4, f.Content.MinTime
	var corrupt *CorruptError
	if err := Sequences(&g, falling, func(uint64, time.Time) bool { return true }); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "6 comes after 7") {
		t.Errorf("falling sequences: %v", err)
	}
	raw := &Frame{Content: Content{Kind: KindData, Format: Raw, First: 5, Last: 9, Count: 2, Seqs: base64.StdEncoding.EncodeToString([]byte{4})}}
	got = nil
	if err := Sequences(raw, []byte("a\nb\n"), func(q uint64, at time.Time) bool { got = append(got, q); return at.IsZero() }); err != nil || fmt.Sprint(got) != "[5 9]" {
		t.Fatalf("%v %v", got, err)
	}
}

func TestTreeIsRFC6962(t *testing.T) {
	var tree Tree
	var leaves [][]byte
	var reference func(leaves [][]byte) []byte
	h := rfc6962.DefaultHasher
	reference = func(leaves [][]byte) []byte {
		switch len(leaves) {
		case 0:
			return h.EmptyRoot()
		case 1:
			return h.HashLeaf(leaves[0])
		}
		k := 1
		for 2*k < len(leaves) {
			k *= 2
		}
		return h.HashChildren(reference(leaves[:k]), reference(leaves[k:]))
	}
	var body []byte
	for i := range 70 {
		if got := tree.Root(); !bytes.Equal(got[:], reference(leaves)) || tree.Size() != uint64(i) || EventsRoot(body) != got {
			t.Fatalf("root of %d leaves", i)
		}
		leaf := fmt.Appendf(nil, "leaf %d", i)
		leaves = append(leaves, leaf)
		tree.Add(leaf)
		body = append(append(body, leaf...), '\n')
	}
}
