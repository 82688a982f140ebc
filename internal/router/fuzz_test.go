package router

import (
	"bytes"
	"encoding/json"
	"errors"
	"path"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzLayout reads a layout object. What is accepted has one form that comes back,
// and says all that the bytes said; a newer version is told as such.
func FuzzLayout(f *testing.F) {
	f.Add(layout(Route{Name: "r", Subjects: []string{"a.>"}, Series: "{{subject}}", Format: "envelope", Codec: "gzip", Payload: "auto", Newline: "refuse"}).Canonical())
	f.Add(layout().Canonical())
	f.Add([]byte(`{"v":2,"routes":{}}`))
	f.Add([]byte(`{"v":1,"V":1,"lanes":3,"routes":null}`))
	f.Add([]byte(`{"v":1} {}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		var version struct {
			V int `json:"v"`
		}
		newer := json.Unmarshal(p, &version) == nil && version.V > LayoutVersion
		l, err := ParseLayout(p)
		if errors.Is(err, ErrNewer) != newer {
			t.Fatalf("version %d: %v", version.V, err)
		}
		if err != nil {
			return
		}
		canonical := l.Canonical()
		again, err := ParseLayout(canonical)
		if err != nil || !bytes.Equal(again.Canonical(), canonical) {
			t.Fatalf("%s comes back as %s: %v", canonical, again.Canonical(), err)
		}
		r, err := New(l)
		if err != nil {
			return
		}
		m := Message{Subject: "a.b", Header: map[string][]string{"A": {"../x"}}, Data: []byte(`{"k":"v"}`), Time: at}
		other, err := New(again)
		if err != nil {
			t.Fatalf("accepted, but not as it comes back: %v", err)
		}
		if a, b := r.Resolve(&m), other.Resolve(&m); a.Series != b.Series || (a.Route == nil) != (b.Route == nil) {
			t.Fatalf("%+v, as it comes back %+v", a, b)
		}
	})
}

// FuzzEscape: a value comes back from what it was escaped to, so that no two are
// one; and wherever it stands it leads nowhere else.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", ".", "..", "a/b", "%2F", "a b", "ä\u202e", "\xff\xfe", "...", ".a", "\u00a0", "\U000e0041"} {
		f.Add(s, "x")
	}
	f.Fuzz(func(t *testing.T, s, other string) {
		e := Escape(s)
		if back, ok := unescaped(e); !ok || back != s {
			t.Fatalf("%q is escaped to %q, which is %q", s, e, back)
		}
		if other != s && Escape(other) == e {
			t.Fatalf("%q and %q are both %q", s, other, e)
		}
		if strings.ContainsAny(e, "/\\\x00 *>") || !utf8.ValidString(e) || s != "" && strings.Trim(e, ".") == "" {
			t.Fatalf("%q is escaped to %q", s, e)
		}
		for _, c := range e {
			if c < ' ' || c == 0x7f || unseen(c) {
				t.Fatalf("%q is escaped to %q", s, e)
			}
		}
		if e != "" {
			if k := "pre/" + e + "/x"; path.Clean(k) != k {
				t.Fatalf("%q leads to %q", k, path.Clean(k))
			}
		}
	})
}

// unescaped undoes %XX, as written by Escape and in no other form.
func unescaped(s string) (string, bool) {
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			out = append(out, s[i])
			continue
		}
		if i+3 > len(s) || strings.ToUpper(s[i+1:i+3]) != s[i+1:i+3] {
			return "", false
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		out = append(out, byte(n))
		i += 2
	}
	return string(out), true
}
