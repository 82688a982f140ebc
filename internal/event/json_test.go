package event

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"unicode/utf8"
)

// embeddableSlowly is what embeddable must say of payloads that are not nested too
// deeply, by the standard library.
func embeddableSlowly(p []byte) bool {
	return len(p) > 0 && json.Valid(p) && utf8.Valid(p) && !bytes.ContainsAny(p, "\r\n") && !isSpace(p[0]) && !isSpace(p[len(p)-1])
}

// Whether a payload is JSON decides its bytes in the archive for good. So it is
// compared with encoding/json on JSON that was damaged, and on what looks like some.
func TestEmbeddableOnAlmostJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 9))
	parts := []string{"{", "}", "[", "]", ",", ":", `"`, `\`, `\u00e9`, "null", "true", "false", "0", "-1.5e+3", "1e9", ".", "-", " ", "\t", "\n", "\r",
		"a", "é", "\x80", "\x1f", "\x00", `"abcdefgh"`, `"a\nb"`, `"k":`, `"abcdefghijklmnop\u12aFqrst"`, "0123456789"}
	whole := []string{`{"a":[1,2,{"b":null}],"c":"d\u0041"}`, `[[[],{}],{"x":{}}]`, `"str"`, `-0.5e-7`, string(payload(400, r)),
		`{ "a" : [ 1 , true , "x" ] , "b" : { } }`, `{"text":"eight by eight \"until\" the end, and on"}`}
	part := func() []byte { return []byte(parts[r.IntN(len(parts))]) }
	valid := 0
	for n := range 100_000 {
		var p []byte
		if n%2 == 0 {
			for range 1 + r.IntN(12) {
				p = append(p, part()...)
			}
		} else {
			p = []byte(whole[r.IntN(len(whole))])
			for range r.IntN(4) {
				switch at := r.IntN(len(p) + 1); {
				case r.IntN(3) == 0:
					p = append(p[:at:at], append(part(), p[at:]...)...)
				case at == len(p):
				case r.IntN(2) == 0:
					p = append(p[:at:at], p[at+1:]...)
				default:
					p[at] = byte(r.Uint32())
				}
			}
		}
		want := embeddableSlowly(p)
		if got := embeddable(p); got != want {
			t.Fatalf("%q: %v, want %v", p, got, want)
		}
		if want {
			valid++
		}
	}
	if valid < 10_000 {
		t.Errorf("only %d were JSON", valid)
	}
}

func TestEmbeddableIsBoundedInDepth(t *testing.T) {
	for d := 1; d < 2*maxDepth; d++ {
		for _, n := range []struct {
			open, close string
			deep        int
		}{{"[", "]", 1}, {`{"a":`, "}", 1}, {`{"a":[`, "]}", 2}, {`[1,{"b":2,"a":`, "},3]", 2}} {
			p := append(append(bytes.Repeat([]byte(n.open), d), '1'), bytes.Repeat([]byte(n.close), d)...)
			if got, want := embeddable(p), d*n.deep <= maxDepth; got != want {
				t.Fatalf("%s, %d times: %v", n.open, d, got)
			}
		}
	}
}

func FuzzEmbeddable(f *testing.F) {
	f.Add([]byte(`{"a":[1,-0.5e+7,"x\u00e9\n",true,null,{}],"b":[]}`))
	f.Add([]byte("{\"a\"\t: [ ] }"))
	f.Add([]byte("[\"\xff\"]"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if bytes.Count(p, []byte("["))+bytes.Count(p, []byte("{")) > maxDepth {
			return // see TestEmbeddableIsBoundedInDepth
		}
		if got, want := embeddable(p), embeddableSlowly(p); got != want {
			t.Fatalf("%q: %v, want %v", p, got, want)
		}
	})
}
