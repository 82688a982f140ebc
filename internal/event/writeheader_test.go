package event

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// asJSON is what the standard library makes of a part of a header.
func asJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// compareHeader holds the bytes of a header's parts against the standard library's.
// Whatever n.wrong lets through is in reach, and more.
func compareHeader(t *testing.T, n *Content, p *Place) {
	t.Helper()
	want, wantErr := asJSON(n)
	got, err := appendContent([]byte("before"), n)
	switch {
	case (err != nil) != (wantErr != nil):
		t.Fatalf("%+v: error %v, encoding/json says %v", n, err, wantErr)
	case err == nil && string(got) != "before"+string(want):
		t.Fatalf("content\n%s, encoding/json writes\n%s", got, want)
	}
	want, wantErr = asJSON(p)
	got, err = appendPlace([]byte("before"), p)
	switch {
	case (err != nil) != (wantErr != nil):
		t.Fatalf("%+v: error %v, encoding/json says %v", p, err, wantErr)
	case err == nil && string(got) != "before"+string(want):
		t.Fatalf("place\n%s, encoding/json writes\n%s", got, want)
	}
}

// strange is text with all that JSON treats in a way of its own.
var strange = []string{"", "orders/eu", `"quoted" \ back`, "\x00\x01\b\t\n\v\f\r\x1f\x7f", "<a href='x'>&amp;</a>", "äöü 東京 🦴",
	"\u2028\u2029\u0085\ufffd\ufeff", "\xff\xfe broken \xc3", "\u2027\u202a", strings.Repeat("x", 3000) + "\"", "a/b.c-d_e=20260101T10"}

func headerText(r *rand.Rand) string {
	if r.IntN(3) > 0 {
		return strange[r.IntN(len(strange))]
	}
	p := make([]byte, r.IntN(30))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	if r.IntN(2) == 0 {
		return strings.ToValidUTF8(string(p), "?")
	}
	return string(p)
}

// fill puts something into every field, whatever fields there are: one that is added
// and not written shows here.
func fill(r *rand.Rand, v reflect.Value) {
	some := []int64{0, 1, -1, 9, 10, 1 << 20, math.MaxInt64, math.MinInt64, r.Int64()}
	if r.IntN(4) == 0 {
		return // zero: omitted, or not
	}
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(r.Int64N(1<<33), []int64{0, r.Int64N(1e9), 1, 100, 999_999_999, 120_000_000}[r.IntN(6)]).UTC()
		if r.IntN(20) == 0 { // years that RFC 3339 has not, and the last that it has
			*x = time.Date([]int{-1, 0, 1, 9999, 10000}[r.IntN(5)], 12, 31, 23, 59, 59, r.IntN(1e9), time.UTC)
		}
		return
	case *Hash:
		for i := range x {
			x[i] = byte(r.Uint32())
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(r, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(4), 4))
		for i := range v.Len() {
			fill(r, v.Index(i))
		}
	case reflect.String:
		v.SetString(headerText(r))
	case reflect.Int, reflect.Int64:
		v.SetInt(some[r.IntN(len(some))])
	case reflect.Uint64:
		v.SetUint(uint64(some[r.IntN(len(some))]))
	case reflect.Uint8:
		v.SetUint(r.Uint64N(4)) // one or two of these are unknown names
	default:
		panic("a header has a field of a kind that was not thought of: " + v.Type().String())
	}
}

func TestHeaderIsJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		var n Content
		var p Place
		fill(r, reflect.ValueOf(&n).Elem())
		fill(r, reflect.ValueOf(&p).Elem())
		compareHeader(t, &n, &p)
	}
}

func FuzzHeaderIsJSON(f *testing.F) {
	for i, s := range strange {
		f.Add(uint64(i), s, strange[(i+1)%len(strange)], []byte(s), int64(i)*1e9)
	}
	f.Fuzz(func(t *testing.T, seed uint64, a, b string, sum []byte, at int64) {
		r := rand.New(rand.NewPCG(seed, 1))
		var n Content
		var p Place
		fill(r, reflect.ValueOf(&n).Elem())
		fill(r, reflect.ValueOf(&p).Elem())
		for _, s := range []*string{&n.Kind, &n.Archive, &n.Source, &n.Stream.Name, &n.Lane, &n.Series, &n.Seqs, &n.Next, &n.Reason, &p.Enc} {
			switch r.IntN(3) {
			case 0:
				*s = a
			case 1:
				*s = b
			}
		}
		copy(n.SHA256[:], sum)
		n.MaxTime = time.Unix(0, at).UTC()
		if len(sum) >= 8 {
			n.Last = binary.LittleEndian.Uint64(sum)
		}
		compareHeader(t, &n, &p)
	})
}

// What the writer makes is read as it was meant, and text that only looks as if it
// needed an escape stays as it is.
func TestHeaderText(t *testing.T) {
	for _, s := range strange {
		got := appendQuoted(nil, s)
		var back string
		if err := json.Unmarshal(got, &back); err != nil || utf8.ValidString(s) && back != s {
			t.Errorf("%q becomes %s, which is read as %q, %v", s, got, back, err)
		}
	}
}

func BenchmarkHeader(b *testing.B) {
	n, body := batch(b, 15, 1024)
	n.Lane, n.Stream = "0", StreamID{Name: "ORDERS", Created: when}
	n.SHA256[0], n.Prev[0] = byte(len(body)), 1
	p := &Place{Position: 1 << 20, Length: int64(len(body)), Codec: Gzip, Content: n.SHA256}
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = asJSON(n)
			_, _ = asJSON(p)
		}
	})
	b.Run("written", func(b *testing.B) {
		b.ReportAllocs()
		var out []byte
		for b.Loop() {
			out, _ = appendContent(out[:0], n)
			out, _ = appendPlace(out, p)
		}
	})
}
