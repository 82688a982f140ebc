package router

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func sharded(l Layout, digits int) Layout {
	l.Shard = digits
	return l
}

// The function is for ever: what it makes stands in keys. The digits are those of
//
//	printf %s orders/2026/11 | sha256sum
func TestShardedIsWhatItWas(t *testing.T) {
	const name = "orders/2026/11"
	for digits, want := range []string{name, "9/" + name, "92/" + name, "929/" + name, "929d/" + name} {
		if got := Sharded(name, digits); got != want {
			t.Errorf("%d digits: %s, want %s", digits, got, want)
		}
	}
}

// A sharded series is the one that the same layout without shards names, and its
// name is told from it again.
func TestShards(t *testing.T) {
	series := []string{"{{subject}}", "x/{{header(A)|none}}/{{token(1)}}", "{{time(%Y/%m/%d/%H)}}"}
	rapid.Check(t, func(t *rapid.T) {
		l := layout(Route{Subjects: []string{">"}, Series: rapid.SampledFrom(series).Draw(t, "series")})
		digits := rapid.IntRange(1, MaxShard).Draw(t, "digits")
		plain, err1 := New(l)
		split, err2 := New(sharded(l, digits))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		for range 2 { // made, and remembered
			m := Message{Subject: subjects().Draw(t, "subject"), Header: map[string][]string{"A": {values().Draw(t, "A")}}, Time: at}
			a, b := plain.Resolve(&m), split.Resolve(&m)
			if a.Poison != "" || b.Poison != "" {
				if a.Poison != b.Poison {
					t.Fatalf("%+v, %+v", a, b)
				}
				return
			}
			name, ok := Unsharded(b.Series)
			if b.Series != Sharded(a.Series, digits) || !ok || name != a.Series || strings.Index(b.Series, "/") != digits {
				t.Fatalf("%q, and with shards %q", a.Series, b.Series)
			}
			if e := split.Explain(&m); e.Series != b.Series || e.Parts[0].Value != b.Series[:digits+1] {
				t.Fatalf("explained as %+v", e)
			}
		}
	})
}

func TestUnsharded(t *testing.T) {
	for _, s := range []string{"", "/", "9/", "orders/2026/11", "93/orders/2026/11", "929d1/orders/2026/11", "/orders/2026/11", "9"} {
		if name, ok := Unsharded(s); ok {
			t.Errorf("%q is taken for a shard and %q", s, name)
		}
	}
}

// Names spread evenly enough over the shards, also those that follow one another.
func TestShardsSpread(t *testing.T) {
	count := map[string]int{}
	const n = 25_600
	for i := range n {
		shard, _, _ := strings.Cut(Sharded(fmt.Sprintf("events/2026/%06d", i), 2), "/")
		count[shard]++
	}
	if len(count) != 256 {
		t.Errorf("%d shards", len(count))
	}
	for shard, k := range count {
		if k < n/256/2 || k > n/256*2 {
			t.Errorf("%d names in shard %s, %d on average", k, shard, n/256)
		}
	}
}

// Layouts without shards are what they were, to the byte.
func TestShardInLayouts(t *testing.T) {
	l := layout(Route{Subjects: []string{">"}, Series: "{{subject}}"})
	if p := l.Canonical(); bytes.Contains(p, []byte("shard")) {
		t.Errorf("%s", p)
	}
	l.Shard = 3
	back, err := ParseLayout(l.Canonical())
	if err != nil || back.Shard != 3 {
		t.Errorf("%+v, %v", back, err)
	}
	for _, digits := range []int{-1, MaxShard + 1} {
		if _, err := New(sharded(l, digits)); err == nil || !strings.Contains(err.Error(), "digits of a shard") {
			t.Errorf("%d: %v", digits, err)
		}
		if !slices.ContainsFunc(Check(sharded(l, digits)), func(p Problem) bool { return p.Field == "shard" }) {
			t.Errorf("%d passes the check", digits)
		}
	}
}

// A shard takes its room from the name, not from the key's end.
func TestShardCountsAgainstLength(t *testing.T) {
	l := sharded(layout(Route{Subjects: []string{">"}, Series: "{{header(A)}}"}), 4)
	r := mustNew(t, l)
	longest := MaxKey - keySuffix - len(l.Prefix) - 5
	for _, n := range []int{longest, longest + 1} {
		got := r.Resolve(&Message{Subject: "s", Header: map[string][]string{"A": {strings.Repeat("x", n)}}, Time: at})
		if (got.Poison == "") != (n == longest) {
			t.Errorf("%d bytes: %+v", n, got)
		}
		if got.Series != "" && len(l.Prefix)+len(got.Series)+keySuffix != MaxKey {
			t.Errorf("a key of %d bytes", len(l.Prefix)+len(got.Series)+keySuffix)
		}
	}
}

// Series of two sources meet also where a shard of one looks like a word of the other.
func TestShardsMeet(t *testing.T) {
	of := func(source, series string, digits int) Layout {
		l := sharded(layout(Route{Subjects: []string{"a.>"}, Series: series}), digits)
		l.Source = source
		return l
	}
	for _, tc := range []struct {
		a, b  Layout
		meets bool
	}{
		{of("A", "x/{{subject}}", 2), of("B", "x/{{subject}}", 2), true},
		{of("A", "x/{{subject}}", 2), of("B", "y/{{subject}}", 2), false},
		{of("A", "x/{{subject}}", 0), of("B", "x/{{subject}}", 2), false},
		{of("A", "{{wildcard(1)}}/x/{{subject}}", 0), of("B", "x/{{subject}}", 2), true},
		{of("A", "{{wildcard(1)}}/x/{{subject}}", 2), of("B", "x/{{subject}}", 0), false},
		{of("A", "abc/x/{{subject}}", 0), of("B", "x/{{subject}}", 3), true},
		{of("A", "ab/x/{{subject}}", 0), of("B", "x/{{subject}}", 3), false},
		{of("A", "x/{{subject}}", 3), of("B", "x/{{subject}}", 2), false},
	} {
		if _, _, ok := SourcesMeet(tc.a, tc.b); ok != tc.meets {
			t.Errorf("%s of %d and %s of %d meet: %t", tc.a.Routes[0].Series, tc.a.Shard, tc.b.Routes[0].Series, tc.b.Shard, ok)
		}
	}
}

// Lanes are told apart behind the shard as they are without one.
func TestShardsAndLanes(t *testing.T) {
	l := sharded(layout(Route{Subjects: []string{"a.>"}, Series: "{{lane}}/{{subject}}"}), 2)
	l.Lanes = 2
	if p := Check(l); len(p) > 0 {
		t.Error(p)
	}
	l.Routes[0].Series = "{{subject}}"
	if p := Check(l); len(p) == 0 {
		t.Error("two lanes may write one series, and nobody says so")
	}
}
