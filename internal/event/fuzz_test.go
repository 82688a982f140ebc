package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// What is read from objects, whatever stands there. The targets look behind "does
// not panic": what is accepted must hold by checks that share nothing with the
// reader's, and must be what was written.

// read is a frame with a copy of its body.
type read struct {
	*Frame
	body string
}

// readAll reads frames until an error, which is no other than the scanner may
// give.
func readAll(t testing.TB, r io.Reader, c Codec) (out []read, sc *Scanner, err error) {
	sc = NewScanner(r, c, 0, 0)
	for {
		f, body, err := sc.Next()
		if err != nil {
			var corrupt *CorruptError
			var unknown *UnknownError
			if err != io.EOF && !errors.As(err, &corrupt) && !errors.As(err, &unknown) {
				t.Fatalf("%T %v", err, err)
			}
			return out, sc, err
		}
		out = append(out, read{f, string(body)})
	}
}

// holds asserts what is true of every frame that is accepted.
func holds(t testing.TB, c Codec, f read) {
	n := &f.Content
	if Hash(sha(f.body)) != n.SHA256 || n.Version != Version || f.Place.Codec != c || f.Size <= 0 || f.Head > MaxHead {
		t.Fatalf("%+v", f)
	}
	if n.Kind != KindData {
		if f.body != "" || n.Next == "" {
			t.Fatalf("a %s with a body of %q goes on in %q", n.Kind, f.body, n.Next)
		}
		return
	}
	lines := strings.SplitAfter(f.body, "\n")
	if last := len(lines) - 1; lines[last] != "" || last != n.Count || n.Count < 1 || n.First < 1 {
		t.Fatalf("%d lines for %d events from %d on", last, n.Count, n.First)
	}
	var seqs []uint64
	var times []time.Time
	if Sequences(f.Frame, []byte(f.body), func(seq uint64, at time.Time) bool {
		seqs, times = append(seqs, seq), append(times, at)
		return true
	}) != nil {
		return // well-formed, but its lines are not those of its header: the caller is told
	}
	if len(seqs) != n.Count || seqs[0] != n.First || seqs[len(seqs)-1] != n.Last || !slices.IsSorted(seqs) || len(slices.Compact(slices.Clone(seqs))) != len(seqs) {
		t.Fatalf("sequences %v of %d from %d to %d", seqs, n.Count, n.First, n.Last)
	}
	if n.Format == Envelope {
		for i, line := range lines[:n.Count] {
			var l Line
			if DecodeLine([]byte(line), &l) == nil && (l.Sequence != seqs[i] || !l.Time.Equal(times[i]) || l.Time.Before(n.MinTime) || l.Time.After(n.MaxTime)) {
				t.Fatalf("line %q has sequence %d of %s", line, seqs[i], times[i])
			}
		}
	}
	again, _, err := NewFrameWriter(1).Data(nil, c, ptr(*n), f.Place.Position, []byte(f.body))
	if n.Format == Raw && c == Plain {
		return // is not written
	}
	if err != nil {
		t.Fatalf("a frame that is read cannot be written: %v", err)
	}
	g, _, err := NewScanner(bytes.NewReader(again), c, f.Place.Position, 0).Next()
	if err != nil || !sameContent(utc(g.Content), utc(*n)) {
		t.Fatalf("written again it is %+v, %v; want %+v", g, err, n)
	}
}

func ptr[T any](v T) *T { return &v }

func utc(n Content) *Content {
	for _, t := range []*time.Time{&n.Stream.Created, &n.MinTime, &n.MaxTime, &n.Greatest} {
		*t = t.UTC()
	}
	return &n
}

// accepted reads p as an object and asserts all that: twice the same, however the
// bytes come, and as readers find it that know the codec alone.
func accepted(t testing.TB, p []byte, c Codec) []read {
	out, sc, err := readAll(t, bytes.NewReader(p), c)
	again, sc2, err2 := readAll(t, iotest.HalfReader(bytes.NewReader(p)), c)
	if len(out) != len(again) || sc.Position() != sc2.Position() || sc.CRC() != sc2.CRC() || fmt.Sprint(err) != fmt.Sprint(err2) {
		t.Fatalf("read at once %d frames and %v, in pieces %d and %v", len(out), err, len(again), err2)
	}
	var at int64
	var bodies strings.Builder
	known := true
	for i, f := range out {
		if f.Hash != again[i].Hash || f.body != again[i].body || f.Place.Position != at {
			t.Fatalf("frame %d: %+v and %+v", i, f, again[i])
		}
		at = f.End()
		holds(t, c, f)
		bodies.WriteString(f.body)
		known = known && (c != Plain || f.Content.Format == Envelope && allJSON(f.body))
	}
	if at != sc.Position() || at > int64(len(p)) {
		t.Fatalf("the frames end at %d, the scanner is at %d of %d", at, sc.Position(), len(p))
	}
	if known && at > 0 {
		if got := others(t, c, p[:at]); got != bodies.String() {
			t.Fatalf("other readers get %q, we %q", got, bodies.String())
		}
	}
	return out
}

func allJSON(body string) bool {
	for line := range strings.Lines(body) {
		if !json.Valid([]byte(line)) || strings.HasPrefix(line, `{"_ossuary`) {
			return false
		}
	}
	return true
}

// FuzzForge makes frames around any header: SHA in the content stands for the
// body's hash, and the place fits, so that what is behind these checks is reached.
func FuzzForge(f *testing.F) {
	const front = `{"v":1,"kind":"data","archive":"a","source":"S","stream":{"name":"S","created":"2026-11-22T10:00:00Z"},"lane":"0","series":"s","segment":1,"frame":1,`
	const times = `"min_time":"2026-11-22T10:00:00Z","max_time":"2026-11-22T10:00:01Z","greatest":"2026-11-22T10:00:01Z",`
	const lines = `{"seq":3,"ts":"2026-11-22T10:00:00Z","subject":"s","data":1}` + "\n" + `{"seq":5,"ts":"2026-11-22T10:00:01Z","subject":"s","text":"x"}` + "\n"
	for c := range codecs {
		f.Add(uint8(c), front+times+`"format":"envelope","first":3,"last":5,"count":2,"sha256":"SHA","prev":"PREV"}`, lines, "", "", int64(0))
		f.Add(uint8(c), front+times+`"format":"raw","first":3,"last":5,"count":2,"seqs":"Ag==","sha256":"SHA","prev":"PREV"}`, "a\nb\n", "", "", int64(7))
		f.Add(uint8(c), strings.Replace(front, "data", "break", 1)+`"last":5,"next":"s.000002.ndjson","valid":4,"sha256":"SHA","prev":"PREV"}`, "", "", "", int64(9))
		f.Add(uint8(c), strings.Replace(front, "data", "seal", 1)+`"last":5,"next":"s.000002.ndjson","sha256":"SHA","prev":"PREV"}`, "", "",
			string(appendTrailer(nil, Codec(c), 0, 1, nil)), int64(0))
		f.Add(uint8(c), `{"v":2,"kind":"data"}`, "", "", "", int64(0))
	}
	f.Fuzz(func(t *testing.T, codec uint8, content, body, stored, trailer string, position int64) {
		c := Codec(codec % 3)
		sum := Hash(sha256.Sum256([]byte(body)))
		content = strings.NewReplacer("SHA", sum.String(), "PREV", Hash{}.String()).Replace(content)
		if stored == "" {
			p, err := NewFrameWriter(1).compress(c, [][]byte{[]byte(body)})
			if err != nil {
				t.Fatal(err)
			}
			if stored = string(p.stored); c == Plain {
				stored = body
			}
		}
		place := fmt.Sprintf(`{"position":%d,"length":%d,"trailer":%d,"codec":"%v","content":"%v"}`, position, len(stored), len(trailer), c, Hash(sha(content)))
		js := []byte(`{"content":` + content + `,"place":` + place + `}`)
		if len(js) > maxHeader {
			return
		}
		p := append(append(appendBlock(nil, c, blockHeader, js), stored...), trailer...)
		if position == 0 {
			accepted(t, p, c)
			return
		}
		if fr, body, err := NewScanner(bytes.NewReader(p), c, position, 0).Next(); err == nil {
			if fr.Place.Position != position {
				t.Fatalf("a frame for position %d was read at %d", fr.Place.Position, position)
			}
			holds(t, c, read{fr, string(body)})
			chain(t, fr)
		}
	})
}

// chain asserts that a frame that may follow may not follow itself.
func chain(t testing.TB, f *Frame) {
	n := &f.Content
	c := Chain{Archive: n.Archive, Source: n.Source, Lane: n.Lane, Series: n.Series, Segment: n.Segment, Frame: n.Frame - 1,
		Prev: n.Prev, Anchored: true, Incarnation: n.Stream.Incarnation, Created: n.Stream.Created}
	if n.Kind != KindData {
		c.Last, c.Greatest = n.Last, n.Greatest
	}
	if c.Check(f) != nil {
		return
	}
	c.Advance(f)
	if c.Check(f) == nil {
		t.Fatalf("the same frame may follow itself: %+v", n)
	}
	if c.Last != n.Last || c.Greatest.Before(n.Greatest) {
		t.Fatalf("behind %+v the chain is %+v", n, c)
	}
}

// FuzzMutation changes a good object somewhere. What is still accepted is, frame
// by frame, what was written.
func FuzzMutation(f *testing.F) {
	for c := range codecs {
		f.Add(uint8(c), uint16(20), uint16(1), []byte("x"))
		f.Add(uint8(c), uint16(400), uint16(0), []byte{0})
		f.Add(uint8(c), uint16(0), uint16(9000), []byte{})
		f.Add(uint8(c), uint16(700), uint16(3), []byte(`"ndjson":1`))
	}
	f.Fuzz(func(t *testing.T, codec uint8, at, cut uint16, put []byte) {
		c := Codec(codec % 3)
		s := sample(t, c)
		from := min(int(at), len(s.bytes))
		to := min(from+int(cut), len(s.bytes))
		p := slices.Concat(s.bytes[:from], put, s.bytes[to:])
		for i, fr := range accepted(t, p, c) {
			if i >= len(s.frames) || fr.body != s.bodies[i] || !sameContent(&fr.Content, &s.frames[i]) || fr.Place.Position != int64(s.starts[i]) {
				t.Fatalf("frame %d is %+v %q, written was %+v", i, fr.Content, fr.body, s.frames)
			}
		}
	})
}

// FuzzLocator reads the end of an object. A locator has one form.
func FuzzLocator(f *testing.F) {
	for c := range codecs {
		f.Add(uint8(c), appendEmptyBlock(nil, Codec(c), blockLocator, locatorJSON(123, math.MaxUint64)), int64(5), uint64(7))
	}
	f.Fuzz(func(t *testing.T, codec uint8, p []byte, position int64, crc uint64) {
		c := Codec(codec % 3)
		if at, sum, ok := ReadLocator(p, c); ok {
			if len(p) != LocatorSize(c) || !bytes.Equal(p, appendEmptyBlock(nil, c, blockLocator, locatorJSON(at, sum))) {
				t.Fatalf("%q is taken for a locator", p)
			}
		}
		position &= math.MaxInt64
		made := appendEmptyBlock(nil, c, blockLocator, locatorJSON(position, crc))
		if at, sum, ok := ReadLocator(made, c); !ok || at != position || sum != crc || len(made) != LocatorSize(c) {
			t.Fatalf("%d %x comes back as %d %x %v", position, crc, at, sum, ok)
		}
	})
}

// FuzzTrailer reads a seal's index. What it gives is in order, and comes back.
func FuzzTrailer(f *testing.F) {
	entries := []IndexEntry{{0, 1, when}, {99, 7, when.Add(time.Second)}}
	for c := range codecs {
		f.Add(uint8(c), appendTrailer(nil, Codec(c), 500, 9, entries), int64(500))
		piece := appendEmptyBlock(nil, Codec(c), blockIndex, []byte(`{"piece":1,"of":2,"frames":[[1,2,"2026-11-22T10:00:00Z",{}]]}`))
		piece = appendEmptyBlock(piece, Codec(c), blockIndex, []byte(`{"piece":2,"of":2,"frames":[]}`))
		f.Add(uint8(c), appendEmptyBlock(piece, Codec(c), blockLocator, locatorJSON(2, 0)), int64(2))
	}
	f.Fuzz(func(t *testing.T, codec uint8, p []byte, position int64) {
		c := Codec(codec % 3)
		index, crc, what := readTrailer(p, c, position)
		if what != "" {
			return
		}
		before := int64(-1)
		for _, e := range index {
			if e.Position <= before || e.Position >= position {
				t.Fatalf("%+v before %d", index, position)
			}
			before = e.Position
		}
		again, sum, what := readTrailer(appendTrailer(nil, c, position, crc, index), c, position)
		if what != "" || sum != crc || !slices.EqualFunc(index, again, func(a, b IndexEntry) bool {
			return a.Position == b.Position && a.First == b.First && a.MinTime.Equal(b.MinTime)
		}) {
			t.Fatalf("%+v comes back as %+v: %s", index, again, what)
		}
	})
}

// FuzzFindBreak finds the break that stands first, as one finds it who tries every
// byte.
func FuzzFindBreak(f *testing.F) {
	for c := range codecs {
		whole := sample(f, Codec(c))
		f.Add(uint8(c), []byte("garbage"), []byte("more"), false)
		f.Add(uint8(c), whole.bytes[:100], gzipHeader, true)
		f.Add(uint8(c), []byte("\n{\"_ossuary\":"), whole.bytes, true)
	}
	f.Fuzz(func(t *testing.T, codec uint8, before, behind []byte, placed bool) {
		if len(before)+len(behind) > 2048 {
			return
		}
		c := Codec(codec % 3)
		s := newSegment(c)
		s.data(t, "1")
		valid := len(s.bytes)
		s.bytes = append(s.bytes, before...)
		if placed {
			s.end(t, KindBreak)
		}
		p := append(slices.Clone(s.bytes), behind...)[valid:]
		accept := func(f *Frame) bool { return f.Content.Valid == int64(valid) }
		var want *Frame
		var end int64
		var unknown *UnknownError
		for i := 0; i < len(p) && want == nil; i++ {
			if p[i] != "\x1f\x50\n"[c] {
				continue // only for speed: no frame begins so
			}
			sc := NewScanner(bytes.NewReader(p[i:]), c, int64(valid+i), 0)
			fr, _, err := sc.Next()
			if errors.As(err, &unknown) {
				break
			}
			if err == nil && fr.Content.Kind == KindBreak && accept(fr) {
				want, end = fr, sc.Position()
			}
		}
		got, at, err := FindBreak(iotest.HalfReader(bytes.NewReader(p)), c, int64(valid), accept)
		switch {
		case unknown != nil:
			if !errors.As(err, &unknown) {
				t.Fatalf("a frame of a newer version is passed over: %+v %v", got, err)
			}
		case err != nil:
			t.Fatal(err)
		case want == nil && got != nil, want != nil && got == nil:
			t.Fatalf("found %+v, want %+v", got, want)
		case want != nil && (got.Hash != want.Hash || at != end || got.Place.Position != want.Place.Position):
			t.Fatalf("found %+v up to %d, want %+v up to %d", got, at, want, end)
		case placed && got == nil:
			t.Fatal("the break is not found")
		}
	})
}

// FuzzKey takes keys apart: they have one form, and what was put together comes
// apart again.
func FuzzKey(f *testing.F) {
	f.Add("p/", "p/orders/x.000001.ndjson.gz", "a.000001", uint16(1))
	f.Add("", "a.1000000.log.zst", ".ndjson", uint16(999))
	f.Add("p/", "p/_ossuary/control/S.000001.jsonl", "a", uint16(0))
	f.Fuzz(func(t *testing.T, prefix, key, series string, number uint16) {
		if name, segment, ext, ok := ParseKey(prefix, key); ok {
			if _, _, known := ParseExt(ext); !known || name == "" || segment < 1 || Key(prefix, name, segment, ext) != key {
				t.Fatalf("%q is taken for segment %d of %q, %q", key, segment, name, ext)
			}
		}
		segment := int(number) + 1
		if series == "" {
			return
		}
		for _, format := range []Format{Envelope, Raw} {
			for _, c := range codecs {
				ext := Ext(format, c)
				gotFormat, gotCodec, known := ParseExt(ext)
				if format == Raw && c == Plain {
					if known {
						t.Fatal("a plain object of raw lines is none")
					}
					continue
				}
				name, n, e, ok := ParseKey(prefix, Key(prefix, series, segment, ext))
				if !ok || !known || name != series || n != segment || e != ext || gotFormat != format || gotCodec != c {
					t.Fatalf("segment %d of %q, %s, comes back as %d of %q, %s", segment, series, ext, n, name, e)
				}
			}
		}
	})
}

// FuzzSeqs decodes lists of sequences: they rise from first to last, and come
// back.
func FuzzSeqs(f *testing.F) {
	f.Add("Ag==", uint64(3), uint64(5), 2)
	f.Add("", uint64(3), uint64(5), 3)
	f.Add("gQABAQ==", uint64(math.MaxUint64-3), uint64(math.MaxUint64), 4)
	f.Fuzz(func(t *testing.T, text string, first, last uint64, count int) {
		const most = 10_000
		var seqs []uint64
		err := DecodeSeqs(text, first, last, count, func(seq uint64) bool {
			seqs = append(seqs, seq)
			return len(seqs) < most
		})
		if err != nil || len(seqs) == most {
			return
		}
		for i := 1; i < len(seqs); i++ {
			if seqs[i] <= seqs[i-1] {
				t.Fatalf("%v does not rise", seqs)
			}
		}
		if len(seqs) != count || seqs[0] != first || seqs[count-1] != last {
			t.Fatalf("%v are not %d from %d to %d", seqs, count, first, last)
		}
		var again []uint64
		err = DecodeSeqs(string(AppendSeqs(nil, seqs)), first, last, count, func(seq uint64) bool { again = append(again, seq); return true })
		if err != nil || !slices.Equal(seqs, again) {
			t.Fatalf("%v comes back as %v: %v", seqs, again, err)
		}
	})
}
