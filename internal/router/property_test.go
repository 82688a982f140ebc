package router

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats-server/v2/server"
	"pgregory.net/rapid"
)

// unescape undoes Escape, which proves that it is injective.
func unescape(t *rapid.T, s string) string {
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			out = append(out, s[i])
			continue
		}
		var c byte
		if _, err := fmt.Sscanf(s[i+1:i+3], "%02X", &c); err != nil {
			t.Fatalf("%q at %d: %v", s, i, err)
		}
		out = append(out, c)
		i += 2
	}
	return string(out)
}

// values drawn are nasty more often than not.
func values() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom([]rune("./%_a2E-\\ \x00\u202e\ufeff\u00e9漢")), 0, 12, -1),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 12), func(p []byte) string { return string(p) }),
		rapid.String(),
	)
}

func TestEscapeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := values().Draw(t, "value")
		e := Escape(v)
		if back := unescape(t, e); back != v {
			t.Fatalf("%q became %q, which means %q", v, e, back)
		}
		if strings.ContainsAny(e, "/\\ \x00\n") || !utf8.ValidString(e) || e == "." || e == ".." {
			t.Fatalf("%q became %q", v, e)
		}
		for _, r := range e {
			if r < ' ' || unseen(r) {
				t.Fatalf("%q became %q with %U", v, e, r)
			}
		}
	})
}

func TestNamesStayInThePrefix(t *testing.T) {
	series := []string{
		"{{header(A)}}", "{{header(A)}}/{{header(B)}}", ".{{header(A)}}", "{{header(A)}}.", "x/{{header(A)}}{{header(B)}}/y", "{{subject}}/{{token(1)}}.{{header(B)|none}}",
		"{{json(k)}}/{{time(%Y/%m)}}", "_ossuary{{header(A)}}/{{header(B)}}",
	}
	var routers []*Router
	for _, s := range series {
		routers = append(routers, mustNew(t, layout(Route{Subjects: []string{">"}, Series: s})))
	}
	rapid.Check(t, func(t *rapid.T) {
		m := Message{
			Subject: subjects().Draw(t, "subject"),
			Header:  map[string][]string{"A": {values().Draw(t, "A")}, "B": {values().Draw(t, "B")}},
			Data:    fmt.Appendf(nil, "{%q:%q}", "k", rapid.String().Draw(t, "k")),
			Time:    at,
		}
		r := rapid.SampledFrom(routers).Draw(t, "router")
		got := r.Resolve(&m)
		if (got.Series == "") == (got.Poison == "") {
			t.Fatalf("%+v", got)
		}
		if got.Poison != "" {
			return
		}
		key := r.layout.Prefix + got.Series + ".000001.ndjson.zst"
		if len(key) > MaxKey || !utf8.ValidString(key) || path.Clean(key) != key || !strings.HasPrefix(path.Clean(key), "pre/") ||
			strings.HasPrefix(got.Series, "_ossuary/") || strings.HasPrefix(got.Series, "/") {
			t.Fatalf("key %q", key)
		}
	})
}

func subjects() *rapid.Generator[string] {
	return rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "..x"[2:], "%2E", "é"}), 1, 5), func(t []string) string { return strings.Join(t, ".") })
}

func filters() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		tokens := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "*", "*"}), 1, 5).Draw(t, "tokens")
		if rapid.IntRange(0, 2).Draw(t, "full") == 0 {
			tokens[len(tokens)-1] = ">"
		}
		return strings.Join(tokens, ".")
	})
}

func TestSubjectsAsTheServer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, s := filters().Draw(t, "a"), filters().Draw(t, "b"), subjects().Draw(t, "s")
		if got, want := Collide(a, b), server.SubjectsCollide(a, b); got != want {
			t.Fatalf("Collide(%s, %s) = %v, the server says %v", a, b, got, want)
		}
		if got, want := Contains(a, b), server.SubjectMatchesFilter(b, a); got != want {
			t.Fatalf("Contains(%s, %s) = %v, the server says %v", a, b, got, want)
		}
		if got, want := mismatch(a, strings.Split(s, ".")) == "", server.SubjectMatchesFilter(s, a); got != want {
			t.Fatalf("mismatch(%s, %s) says %v, the server %v", a, s, got, want)
		}
		if sup := superset(a, b); !Contains(sup, a) || !Contains(sup, b) || !server.IsValidSubject(sup) {
			t.Fatalf("superset(%s, %s) = %s", a, b, sup)
		}
	})
}

func TestCheckFilterAsTheServer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOfN(rapid.SampledFrom([]rune("ab.*> \t")), 0, 8, -1).Draw(t, "s")
		if got, want := CheckFilter(s) == nil, server.IsValidSubject(s); got != want {
			t.Fatalf("CheckFilter(%q): %v, the server says %v", s, CheckFilter(s), want)
		}
	})
}

func TestFilterUnion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var routes []Route
		for i := range rapid.IntRange(1, 6).Draw(t, "routes") {
			routes = append(routes, Route{Name: fmt.Sprint(i), Subjects: rapid.SliceOfN(filters(), 1, 4).Draw(t, "subjects"), Series: "s"})
		}
		r, err := New(layout(routes...))
		if err != nil {
			t.Fatal(err)
		}
		got := r.Filters()
		for i, a := range got {
			for _, b := range got[:i] {
				if server.SubjectsCollide(a, b) {
					t.Fatalf("%s and %s overlap", a, b)
				}
			}
		}
		for _, rt := range routes {
			for _, s := range rt.Subjects {
				if !slices.ContainsFunc(got, func(f string) bool { return server.SubjectMatchesFilter(s, f) }) {
					t.Fatalf("%s is not in %v", s, got)
				}
			}
		}
		s := subjects().Draw(t, "s")
		want := -1
		for i, rt := range routes {
			if want < 0 && slices.ContainsFunc(rt.Subjects, func(f string) bool { return server.SubjectMatchesFilter(s, f) }) {
				want = i
			}
		}
		switch tg := r.Resolve(&Message{Subject: s}); {
		case (tg.Route == nil) != (want < 0):
			t.Fatalf("%s: %+v, want route %d", s, tg, want)
		case want >= 0 && tg.Route.Name != fmt.Sprint(want):
			t.Fatalf("%s: route %s, want %d", s, tg.Route.Name, want)
		}
	})
}

func TestUnion(t *testing.T) {
	for in, want := range map[string]string{
		"a b":                   "a b",
		"a.b a.*":               "a.*",
		"a.* a.b":               "a.*",
		"a.> a.b c":             "a.> c",
		"a.*.c a.b.*":           "a.*.*",
		"*.b a.>":               "*.>",
		"a.*.c a.b.* a.x":       "a.*.* a.x",
		"a.b.* a.*.c *.q.r x.>": "*.>",
	} {
		if got := strings.Join(Union(strings.Fields(in)), " "); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	var many []string
	for i := range MaxFilters + 1 {
		many = append(many, fmt.Sprintf("a.%d", i))
	}
	if got := mustNew(t, layout(Route{Subjects: many, Series: "s"})).Filters(); !slices.Equal(got, []string{"a.*"}) {
		t.Errorf("%d filters", len(got))
	}
}

// A router that has seen much says the same as a fresh one.
func TestCacheEqualsFresh(t *testing.T) {
	l := layout(
		Route{Subjects: []string{"a.*"}, Series: "{{wildcard(1)}}/{{time(%Y/%m/%d/%H)}}"},
		Route{Subjects: []string{"b.>"}, Series: "{{time(%j-%M)}}/{{token(3)}}"},
		Route{Subjects: []string{"c.>"}, Series: "{{header(A)}}.{{json(k)|none}}"},
		Route{Subjects: []string{"a.>"}, Skip: true},
		Route{Subjects: []string{"*.a", "*.*"}, Series: "{{wildcard(1)}}/{{subject}}"},
	)
	old := mustNew(t, l)
	rapid.Check(t, func(t *rapid.T) {
		m := Message{
			Subject: subjects().Draw(t, "subject"),
			Header:  map[string][]string{"A": {values().Draw(t, "A")}},
			Time:    time.Unix(rapid.Int64Range(-10_000_000, 10_000_000).Draw(t, "seconds"), 0),
		}
		fresh, err := New(l)
		if err != nil {
			t.Fatal(err)
		}
		a, b := old.Resolve(&m), fresh.Resolve(&m)
		an, bn := "", ""
		if a.Route != nil {
			an = a.Route.Name
		}
		if b.Route != nil {
			bn = b.Route.Name
		}
		a.Route, b.Route = nil, nil
		if a != b || an != bn {
			t.Fatalf("%s %+v, fresh %s %+v", an, a, bn, b)
		}
	})
}

// The text of a time part stays the same within a bucket.
func TestTimeUnits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var formats []string
		for c := range timeSpecs {
			formats = append(formats, "%"+string(c))
		}
		slices.Sort(formats)
		f := rapid.SampledFrom(formats).Draw(t, "format")
		a := time.Unix(rapid.Int64Range(-1e10, 9e9).Draw(t, "a"), 0)
		b := a.Add(time.Duration(rapid.Int64Range(0, int64(25*time.Hour)).Draw(t, "by")))
		if u := timeUnit(f); bucket(a, u) == bucket(b, u) {
			if x, y := appendTime(nil, f, a), appendTime(nil, f, b); string(x) != string(y) {
				t.Fatalf("%s: %s and %s in one bucket", f, x, y)
			}
		}
	})
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"{{subject}}", "a/{{wildcard(1)}}/{{time(%Y/%m)}}", "{{header(A)|x}}", "{{json(a.0)}}", "{{{{}}}}", "{{time(%", "|{{|}}", "{{)(}}", "{{token( 1 )|a}}"} {
		f.Add(s, "a.b", "v")
	}
	f.Fuzz(func(t *testing.T, series, subj, value string) {
		r, err := New(layout(Route{Subjects: []string{"*.>"}, Series: series}))
		if err != nil {
			_ = err.Error()
			return
		}
		if !server.IsValidLiteralSubject(subj) {
			return
		}
		m := Message{Subject: subj, Header: map[string][]string{"A": {value}}, Data: []byte(value), Time: at}
		tg := r.Resolve(&m)
		r.Explain(&m)
		if tg.Series != "" {
			if k := "pre/" + tg.Series; path.Clean(k) != k || !strings.HasPrefix(k, "pre/") || len(k) > MaxKey || !utf8.ValidString(k) {
				t.Fatalf("series %q of template %q", tg.Series, series)
			}
		}
	})
}

func benchmark(b *testing.B, series string, m Message) {
	r := mustNew(b, layout(
		Route{Subjects: []string{"x.>"}, Skip: true},
		Route{Subjects: []string{"orders.*.created", "orders.>"}, Series: series},
	))
	m.Subject, m.Time = "orders.eu.created", at
	b.ReportAllocs()
	for b.Loop() {
		m.Time = m.Time.Add(time.Microsecond)
		if r.Resolve(&m).Series == "" {
			b.Fatal("no series")
		}
	}
}

func BenchmarkResolveSubject(b *testing.B) { benchmark(b, "{{subject}}/{{token(2)}}", Message{}) }

func BenchmarkResolveTime(b *testing.B) {
	benchmark(b, "{{wildcard(1)}}/{{time(%Y/%m/%d/%H)}}", Message{})
}

func BenchmarkResolveHeader(b *testing.B) {
	benchmark(b, "{{header(Tenant)}}/{{token(2)}}", Message{Header: map[string][]string{"Tenant": {"acme"}}})
}

func BenchmarkResolveJSON(b *testing.B) {
	benchmark(b, "{{json(order.id)}}", Message{Data: []byte(`{"order":{"id":17}}`)})
}

func TestNoAllocations(t *testing.T) {
	for _, series := range []string{"{{subject}}/{{token(2)}}", "{{wildcard(1)}}/{{time(%Y/%m/%d/%H)}}", "{{header(Tenant)}}"} {
		r := mustNew(t, layout(Route{Subjects: []string{"orders.>"}, Series: series}))
		m := Message{Subject: "orders.eu", Time: at, Header: map[string][]string{"Tenant": {"acme"}}}
		if n := testing.AllocsPerRun(100, func() { r.Resolve(&m) }); n != 0 {
			t.Errorf("%s: %v allocations", series, n)
		}
	}
}
