package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// link is a chain that has seen one frame, and the frame that may follow.
func link() (*Chain, *Frame) {
	created := when.Add(-time.Hour)
	c := &Chain{
		Archive: "main", Source: "ORDERS", Lane: "a", Series: "s", Segment: 2, Frame: 3, Prev: Hash{1}, Anchored: true,
		Incarnation: 1, Last: 10, Greatest: when, Created: created,
	}
	f := &Frame{Hash: Hash{2}, Content: Content{
		Kind: KindData, Archive: "main", Source: "ORDERS", Stream: StreamID{"ORDERS", created, 1}, Lane: "a", Series: "s",
		Segment: 2, Frame: 4, First: 11, Last: 12, Count: 2, MinTime: when, MaxTime: when.Add(1), Greatest: when.Add(1), Prev: Hash{1},
	}}
	f.Place.Position = 99
	return c, f
}

func seal(f *Frame) {
	n := &f.Content
	n.Kind, n.First, n.Last, n.Count, n.MinTime, n.MaxTime, n.Greatest = KindSeal, 0, 10, 0, time.Time{}, time.Time{}, when
}

func TestChain(t *testing.T) {
	const ok, foreign, corrupt = "", "foreign", "corrupt"
	for name, c := range map[string]struct {
		change func(c *Chain, f *Frame)
		want   string
	}{
		"next":                      {func(*Chain, *Frame) {}, ok},
		"gap":                       {func(_ *Chain, f *Frame) { f.Content.First, f.Content.Last = 100, 200 }, ok},
		"older timestamps":          {func(_ *Chain, f *Frame) { f.Content.MaxTime, f.Content.Greatest = when.Add(-5), when }, ok},
		"seal":                      {func(_ *Chain, f *Frame) { seal(f) }, ok},
		"seal by a later life":      {func(_ *Chain, f *Frame) { seal(f); f.Content.Stream.Incarnation = 2 }, ok},
		"higher incarnation":        {func(_ *Chain, f *Frame) { f.Content.Stream.Incarnation, f.Content.First, f.Content.Last = 2, 1, 2 }, ok},
		"recreated":                 {func(_ *Chain, f *Frame) { f.Content.Stream.Incarnation, f.Content.Stream.Created = 2, when }, ok},
		"unanchored":                {func(c *Chain, f *Frame) { c.Anchored, c.Last = false, 0; f.Content.Prev = Hash{9} }, ok},
		"archive":                   {func(_ *Chain, f *Frame) { f.Content.Archive = "x" }, foreign},
		"source":                    {func(_ *Chain, f *Frame) { f.Content.Source = "x" }, foreign},
		"lane":                      {func(_ *Chain, f *Frame) { f.Content.Lane = "x" }, foreign},
		"archive and all else":      {func(_ *Chain, f *Frame) { f.Content = Content{} }, foreign},
		"series":                    {func(_ *Chain, f *Frame) { f.Content.Series = "x" }, corrupt},
		"segment":                   {func(_ *Chain, f *Frame) { f.Content.Segment = 1 }, corrupt},
		"frame again":               {func(_ *Chain, f *Frame) { f.Content.Frame = 3 }, corrupt},
		"frame left out":            {func(_ *Chain, f *Frame) { f.Content.Frame = 5 }, corrupt},
		"unanchored frame left out": {func(c *Chain, f *Frame) { c.Anchored, c.Frame = false, 0 }, corrupt},
		"prev":                      {func(_ *Chain, f *Frame) { f.Content.Prev = Hash{9} }, corrupt},
		"sequence again":            {func(_ *Chain, f *Frame) { f.Content.First = 10 }, corrupt},
		"lower incarnation":         {func(_ *Chain, f *Frame) { f.Content.Stream.Incarnation = 0 }, corrupt},
		"seal of a lower one":       {func(_ *Chain, f *Frame) { seal(f); f.Content.Stream.Incarnation = 0 }, corrupt},
		"created":                   {func(_ *Chain, f *Frame) { f.Content.Stream.Created = when }, corrupt},
		"created unknown":           {func(c *Chain, f *Frame) { c.Created = time.Time{} }, ok},
		"greatest":                  {func(_ *Chain, f *Frame) { f.Content.Greatest = when.Add(2) }, corrupt},
		"greatest falls":            {func(_ *Chain, f *Frame) { f.Content.MaxTime, f.Content.Greatest = when.Add(-5), when.Add(-5) }, corrupt},
		"seal with other last":      {func(_ *Chain, f *Frame) { seal(f); f.Content.Last = 9 }, corrupt},
		"seal with other greatest":  {func(_ *Chain, f *Frame) { seal(f); f.Content.Greatest = when.Add(1) }, corrupt},
	} {
		chain, f := link()
		c.change(chain, f)
		err := chain.Check(f)
		var asForeign *ForeignError
		var asCorrupt *CorruptError
		got := ok
		switch {
		case errors.As(err, &asForeign) && asForeign.Position == 99:
			got = foreign
		case errors.As(err, &asCorrupt) && asCorrupt.Position == 99:
			got = corrupt
		case err != nil:
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q (%v)", name, got, c.want, err)
		}
	}
}

func TestChainAdvances(t *testing.T) {
	c, f := link()
	c.Advance(f)
	if c.Frame != 4 || c.Segment != 2 || c.Prev != f.Hash || c.Last != 12 || !c.Greatest.Equal(when.Add(1)) {
		t.Fatalf("behind data: %+v", c)
	}
	for _, kind := range []string{KindSeal, KindBreak} {
		c, f = link()
		seal(f)
		f.Content.Kind, f.Content.Stream.Incarnation = kind, 2
		c.Advance(f)
		if c.Frame != 0 || c.Segment != 3 || c.Prev != f.Hash || c.Last != 10 || c.Incarnation != 1 {
			t.Fatalf("behind a %s: %+v", kind, c)
		}
	}
	c, f = link()
	*c = Chain{Archive: "main", Source: "ORDERS", Lane: "a", Series: "s", Segment: 2, Frame: 3}
	seal(f)
	c.Advance(f)
	if !c.Anchored || c.Last != 10 || c.Incarnation != 1 || !c.Greatest.Equal(when) {
		t.Fatalf("unanchored behind a seal: %+v", c)
	}
}

func TestChainOfASegment(t *testing.T) {
	for _, codec := range codecs {
		s := sample(t, codec)
		c := &Chain{Archive: "main", Source: "ORDERS", Lane: "a", Series: "orders/<2026>", Segment: 1, Anchored: true}
		sc := NewScanner(bytes.NewReader(s.bytes), codec, 0, 0)
		for range s.frames {
			f, _, err := sc.Next()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Check(f); err != nil {
				t.Fatal(err)
			}
			c.Advance(f)
			if c.Check(f) == nil {
				t.Fatal("the same frame may follow itself")
			}
		}
		if c.Segment != 2 || c.Frame != 0 || c.Last != s.last || c.Prev != s.prev {
			t.Fatalf("%+v", c)
		}
	}
}

func TestFindBreak(t *testing.T) {
	every := func(*Frame) bool { return true }
	for _, codec := range codecs {
		s := newSegment(codec)
		s.data(t, "1")
		valid := len(s.bytes)
		whole := sample(t, codec)
		// Garbage with everything that is nearly the break: frames copied from
		// elsewhere, a break that stands elsewhere, half frames, bare signatures.
		stray := newSegment(codec)
		stray.bytes = make([]byte, 5)
		stray.end(t, KindBreak)
		half := stray.bytes[5 : len(stray.bytes)-3]
		for _, garbage := range [][]byte{
			{}, []byte("x"), whole.bytes, stray.bytes, half,
			bytes.Join([][]byte{whole.bytes, half, stray.bytes, appendBlock(nil, codec, blockHeader, []byte(`{"content":{"v":7},"place":{}}`))}, nil),
			bytes.Repeat(gzipHeader, 30000), bytes.Repeat([]byte("\n{\"_ossuary\":"), 30000), make([]byte, 3*MaxHead),
		} {
			s.bytes = append(s.bytes[:valid:valid], garbage...)
			s.frames, s.starts = s.frames[:1], s.starts[:2]
			r := func() io.Reader { return iotest.HalfReader(bytes.NewReader(s.bytes[valid:])) }
			f, end, err := FindBreak(r(), codec, int64(valid), every)
			if f != nil || end != int64(len(s.bytes)) || err != nil {
				t.Fatalf("%v: no break: %+v %d %v", codec, f, end, err)
			}
			at := len(s.bytes)
			s.end(t, KindBreak)
			s.bytes = append(s.bytes, whole.bytes...) // a zombie's, ignored
			f, end, err = FindBreak(r(), codec, int64(valid), every)
			if err != nil || f == nil || f.Place.Position != int64(at) || f.Content.Valid != int64(valid) || end != f.End() || f.Hash != s.prev {
				t.Fatalf("%v, %d bytes of garbage: %+v %d %v", codec, len(garbage), f, end, err)
			}
			if f, _, err := FindBreak(r(), codec, int64(valid), func(*Frame) bool { return false }); f != nil || err != nil {
				t.Fatalf("%v: not accepted, but found %+v %v", codec, f, err)
			}
			broken := fmt.Errorf("connection lost: %w", io.EOF) // which is not the end
			_, _, err = FindBreak(io.MultiReader(bytes.NewReader(s.bytes[valid:at]), iotest.ErrReader(broken)), codec, int64(valid), every)
			if !errors.Is(err, broken) {
				t.Fatalf("%v: %v", codec, err)
			}
		}
	}
}

func TestFindBreakStopsAtNewerFrames(t *testing.T) {
	for _, codec := range codecs {
		garbage := "garbage\n"
		p := append([]byte(garbage), header(codec, `{"v":2,"kind":"end"}`, strings.Replace(`{"position":AT,"content":"HASH"}`, "AT", "8", 1))...)
		at := 0
		if codec == Plain { // the newline before the line is taken for the frame's own
			at = 7
			p = []byte(strings.Replace(string(p), `"position":8`, `"position":7`, 1))
		}
		var unknown *UnknownError
		if _, _, err := FindBreak(bytes.NewReader(p[at:]), codec, int64(at), func(*Frame) bool { return true }); !errors.As(err, &unknown) {
			t.Errorf("%v: %v", codec, err)
		}
	}
}

func fuzzScanner(f *testing.F, c Codec) {
	s := sample(f, c)
	f.Add(s.bytes)
	f.Add(s.bytes[s.starts[2]:])
	b := newSegment(c)
	b.end(f, KindBreak)
	f.Add(b.bytes)
	f.Add(header(c, `{"v":2}`, `{"position":0,"content":"HASH"}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		accepted(t, p, c)
		if f, end, err := FindBreak(bytes.NewReader(p), c, 0, func(*Frame) bool { return true }); err == nil && f != nil && f.End() != end {
			t.Fatalf("%+v ends at %d", f, end)
		}
		if n := LocatorSize(c); len(p) >= n {
			ReadLocator(p[len(p)-n:], c)
		}
	})
}

func FuzzScannerGzip(f *testing.F)  { fuzzScanner(f, Gzip) }
func FuzzScannerZstd(f *testing.F)  { fuzzScanner(f, Zstd) }
func FuzzScannerPlain(f *testing.F) { fuzzScanner(f, Plain) }

func FuzzReadHeader(f *testing.F) {
	for _, c := range codecs {
		f.Add(sample(f, c).bytes, uint8(c))
	}
	f.Fuzz(func(t *testing.T, p []byte, c uint8) {
		h, err := ReadHeader(p, Codec(c%3))
		switch {
		case err == nil && (h.Head > int64(len(p)) || h.Head > MaxHead || h.Size < h.Head):
			t.Fatalf("%+v", h)
		case err == io.ErrUnexpectedEOF && len(p) >= MaxHead:
			t.Fatal("MaxHead bytes must suffice")
		}
	})
}
