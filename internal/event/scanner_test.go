package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

func TestTruncated(t *testing.T) {
	for _, c := range codecs {
		s := sample(t, c)
		for cut := range len(s.bytes) {
			n, sc, err := s.check(t, bytes.NewReader(s.bytes[:cut]))
			want := 0
			for s.starts[want+1] <= cut {
				want++
			}
			var corrupt *CorruptError
			switch {
			case n != want || sc.Position() != int64(s.starts[want]):
				t.Fatalf("%v cut at %d: %d frames, want %d", c, cut, n, want)
			case cut == s.starts[want] && err != io.EOF:
				t.Fatalf("%v cut at %d, a frame's end: %v", c, cut, err)
			case cut != s.starts[want] && (!errors.As(err, &corrupt) || corrupt.Position != int64(s.starts[want])):
				t.Fatalf("%v cut at %d: %v", c, cut, err)
			}
			if _, err := ReadHeader(s.bytes[:cut], c); want == 0 && err != nil && err != io.ErrUnexpectedEOF {
				t.Fatalf("%v header cut at %d: %v", c, cut, err)
			}
		}
	}
}

func TestFlippedBits(t *testing.T) {
	for _, c := range codecs {
		s := sample(t, c)
		for i := 0; i < len(s.bytes)*8; i += 5 { // one or two bits of every byte
			s.bytes[i/8] ^= 1 << (i % 8)
			sc := NewScanner(bytes.NewReader(s.bytes), c, 0, 0)
			n := 0
			for {
				f, body, err := sc.Next()
				var corrupt *CorruptError
				var unknown *UnknownError
				if err == io.EOF || errors.As(err, &corrupt) || errors.As(err, &unknown) {
					break
				} else if err != nil {
					t.Fatalf("%v bit %d: %v", c, i, err)
				}
				if string(body) != s.bodies[n] || !sameContent(&f.Content, &s.frames[n]) {
					t.Fatalf("%v bit %d: frame %d is not what was written: %+v", c, i, n, f.Content)
				}
				n++
			}
			s.bytes[i/8] ^= 1 << (i % 8)
		}
	}
}

func TestReaderErrorsAreNoCorruption(t *testing.T) {
	for _, c := range codecs {
		s := sample(t, c)
		for _, broken := range []error{errors.New("connection lost"), io.ErrUnexpectedEOF} {
			for cut := 0; cut < len(s.bytes); cut += 13 {
				_, _, err := s.check(t, io.MultiReader(bytes.NewReader(s.bytes[:cut]), iotest.ErrReader(broken)))
				if !errors.Is(err, broken) {
					t.Fatalf("%v cut at %d: %v", c, cut, err)
				}
			}
		}
	}
}

// header makes a frame by hand, with an empty body, around content and place.
func header(c Codec, content, place string) []byte {
	hash := Hash(sha(content))
	place = strings.NewReplacer("HASH", hash.String(), "CODEC", c.String()).Replace(place)
	p := appendBlock(nil, c, blockHeader, []byte(`{"content":`+content+`,"place":`+place+`}`))
	if c == Gzip {
		p = append(p, gzipEmpty...)
	}
	return p
}

func TestUnknownAndImpossibleHeaders(t *testing.T) {
	const place = `{"position":0,"length":10,"codec":"CODEC","content":"HASH"}`
	const data = `{"v":1,"kind":"data","segment":1,"frame":1,"first":1,"last":1,"count":1`
	for name, h := range map[string]struct {
		content, place string
		unknown        bool
	}{
		"version":         {`{"v":2,"kind":{},"new":[]}`, place, true},
		"must":            {data + `,"must":["x"]}`, place, true},
		"kind":            {`{"v":1,"kind":"data2"}`, place, true},
		"enc":             {data + `}`, strings.Replace(place, `"length"`, `"enc":"aes","length"`, 1), true},
		"elsewhere":       {`{"v":2}`, strings.Replace(place, `0`, `1`, 1), false},
		"no position":     {`{"v":2}`, strings.Replace(place, `position`, `p`, 1), false},
		"wrong hash":      {`{"v":2}`, strings.Replace(place, `HASH`, strings.Repeat("0", 64), 1), false},
		"no version":      {`{"kind":"data"}`, place, false},
		"version 0":       {`{"v":0}`, place, false},
		"text version":    {`{"v":"2"}`, place, false},
		"codec":           {data + `}`, strings.Replace(place, `CODEC`, `lz4`, 1), false},
		"negative length": {data + `}`, strings.Replace(place, `10`, `-1`, 1), false},
		"huge length":     {data + `}`, strings.Replace(place, `10`, `9223372036854775807`, 1), false},
		"no events":       {strings.Replace(data, `"count":1`, `"count":0`, 1) + `}`, place, false},
		"too many events": {strings.Replace(data, `"count":1`, `"count":2`, 1) + `}`, place, false},
		"falling":         {strings.Replace(data, `"first":1`, `"first":2`, 1) + `}`, place, false},
		"frame 0":         {strings.Replace(data, `"frame":1`, `"frame":0`, 1) + `}`, place, false},
		"times":           {data + `,"min_time":"2026-01-02T00:00:00Z","max_time":"2026-01-01T00:00:00Z"}`, place, false},
		"bad format":      {data + `,"format":"avro"}`, place, false},
		"trailer":         {data + `}`, strings.Replace(place, `10`, `10,"trailer":5`, 1), false},
		"endless seal":    {`{"v":1,"kind":"seal","segment":1,"frame":1,"next":"x"}`, place, false},
		"seal to nowhere": {`{"v":1,"kind":"seal","segment":1,"frame":1}`, strings.Replace(place, `10`, `10,"trailer":5`, 1), false},
		"break beyond":    {`{"v":1,"kind":"break","segment":1,"frame":1,"next":"x","valid":1}`, place, false},
		"break of events": {`{"v":1,"kind":"break","segment":1,"frame":1,"next":"x","count":1}`, place, false},
	} {
		for _, c := range codecs {
			p := header(c, h.content, h.place)
			_, _, err := NewScanner(bytes.NewReader(p), c, 0, 0).Next()
			var corrupt *CorruptError
			var unknown *UnknownError
			if (h.unknown && !errors.As(err, &unknown)) || (!h.unknown && !errors.As(err, &corrupt)) {
				t.Errorf("%s, %v: %v", name, c, err)
			}
		}
	}
}

// A frame that is whole but for the codec that it names was copied from elsewhere.
func TestFramesOfAnotherCodec(t *testing.T) {
	body := "x\n"
	content := fmt.Sprintf(`{"v":1,"kind":"data","segment":1,"frame":1,"first":1,"last":1,"count":1,"sha256":"%s"}`, Hash(sha(body)))
	for _, named := range codecs {
		place := fmt.Sprintf(`{"position":0,"length":%d,"codec":"%s","content":"HASH"}`, len(body), named)
		p := append(header(Plain, content, place), body...)
		_, _, err := NewScanner(bytes.NewReader(p), Plain, 0, 0).Next()
		var corrupt *CorruptError
		if ok := named == Plain; ok && err != nil || !ok && !errors.As(err, &corrupt) {
			t.Errorf("a frame in a plain object that names %v: %v", named, err)
		}
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	body := `{"seq":1,"ts":"2026-11-22T10:00:00Z","subject":"s","data":1}` + "\n"
	content := fmt.Sprintf(`{ "v":1,"new":{"a":[1]}, "kind":"data","segment":1,"frame":1,"first":1,"last":1,"count":1,"sha256":"%s"}`, Hash(sha(body)))
	place := fmt.Sprintf(`{"position":0,"length":%d,"codec":"plain","content":"HASH","new":1},"more":[1]`, len(body))
	p := append(header(Plain, content, place), body...)
	f, got, err := NewScanner(bytes.NewReader(p), Plain, 0, 0).Next()
	if err != nil || string(got) != body || f.Hash != Hash(sha(content)) {
		t.Fatalf("%+v %q %v", f, got, err)
	}
}

func TestClaimsCostNothing(t *testing.T) {
	const content = `{"v":1,"kind":"data","segment":1,"frame":1,"first":1,"last":9000000000000000000,"count":9000000000000000000}`
	for _, c := range codecs {
		p := header(c, content, `{"position":0,"length":8000000000,"codec":"CODEC","content":"HASH"}`)
		if c == Zstd { // a single segment of 1 GiB
			p = append(p, 0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 1, 0, 0)
		}
		sc := NewScanner(bytes.NewReader(p), c, 0, 0)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, _, err := sc.Next(); err == nil {
			t.Fatal("no error")
		}
		runtime.ReadMemStats(&after)
		got := after.TotalAlloc - before.TotalAlloc
		if got > 1<<20 {
			t.Errorf("%v: %d bytes allocated for %d bytes of input", c, got, len(p))
		}
	}
	var b bodies
	for _, h := range []string{"\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x40\x01\x00\x00", "\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00"} {
		if _, what := b.unzstd([]byte(h)); !strings.Contains(what, "window") {
			t.Errorf("a zstd window beyond 8 MiB: %q", what)
		}
	}
}
