package event

import (
	"crypto/sha256"
	"testing"

	"pgregory.net/rapid"
)

func sha(s string) [32]byte { return sha256.Sum256([]byte(s)) }

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		prefix, series string
		segment        int
		ext, key       string
	}{
		{"", "orders/2026/11/22/10", 1, "ndjson.gz", "orders/2026/11/22/10.000001.ndjson.gz"},
		{"a/", "b.c", 999999, "log.zst", "a/b.c.999999.log.zst"},
		{"a/", "x", 1000000, "ndjson", "a/x.1000000.ndjson"},
		{"", "x.000001", 2, "ndjson", "x.000001.000002.ndjson"},
	} {
		if got := Key(c.prefix, c.series, c.segment, c.ext); got != c.key {
			t.Errorf("got %s, want %s", got, c.key)
		}
		series, segment, ext, ok := ParseKey(c.prefix, c.key)
		if !ok || series != c.series || segment != c.segment || ext != c.ext {
			t.Errorf("%s: %q %d %q %v", c.key, series, segment, ext, ok)
		}
	}
	for _, key := range []string{
		"", "x", "b/x.000001.ndjson", "a/x.00001.ndjson", "a/x.0000001.ndjson", "a/x.000000.ndjson", "a/x.00000a.ndjson",
		"a/x.000001.jsonl", "a/.000001.ndjson", "a/x.000001.log", "a/000001.ndjson", "a/x.+00001.ndjson", "a/x.000001.ndjson.bz2",
	} {
		if _, _, _, ok := ParseKey("a/", key); ok {
			t.Errorf("%q is no segment's key", key)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		f, c := Format(rapid.IntRange(0, 1).Draw(t, "format")), Codec(rapid.IntRange(0, 1).Draw(t, "codec"))
		series, n := rapid.StringN(1, 30, -1).Draw(t, "series"), rapid.IntRange(1, 9999999).Draw(t, "segment")
		gotSeries, gotN, ext, ok := ParseKey("p/", Key("p/", series, n, Ext(f, c)))
		gotF, gotC, okExt := ParseExt(ext)
		if !ok || !okExt || gotSeries != series || gotN != n || gotF != f || gotC != c {
			t.Fatalf("%q %d %q", gotSeries, gotN, ext)
		}
	})
}

func TestNames(t *testing.T) {
	for _, c := range []Codec{Gzip, Zstd, Plain} {
		text, err := c.MarshalText()
		got, errParse := ParseCodec(c.String())
		var again Codec
		if err != nil || errParse != nil || got != c || again.UnmarshalText(text) != nil || again != c {
			t.Errorf("%v does not come back", c)
		}
	}
	for _, s := range []string{"auto", "json", "text", "base64"} {
		if p, err := ParsePayload(s); err != nil || p.String() != s {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"refuse", "escape"} {
		if p, err := ParseNewline(s); err != nil || p.String() != s {
			t.Errorf("%s: %v", s, err)
		}
	}
	if _, err := ParseFormat("avro"); err == nil {
		t.Error("avro is no format")
	}
	if _, err := Codec(9).MarshalText(); err == nil || Codec(9).String() != "unknown(9)" {
		t.Error("9 is no codec")
	}
}
