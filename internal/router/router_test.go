package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var at = time.Date(2026, 11, 2, 9, 5, 7, 123456789, time.UTC)

func layout(routes ...Route) Layout {
	for i := range routes {
		r := &routes[i]
		if r.Name == "" {
			r.Name = fmt.Sprintf("r%d", i+1)
		}
		r.Format, r.Codec, r.Payload, r.Newline = orElse(r.Format, "envelope"), orElse(r.Codec, "gzip"), "auto", "refuse"
	}
	return Layout{
		Version: LayoutVersion, EscapeVersion: EscapeVersion, EncoderVersion: EncoderVersion,
		Archive: "a", Source: "ORDERS", Prefix: "pre/", Lanes: 1, Routes: routes,
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func mustNew(t testing.TB, l Layout) *Router {
	t.Helper()
	r, err := New(l)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTemplates(t *testing.T) {
	full := Message{
		Subject: "orders.eu.created.x.y",
		Header:  map[string][]string{"Tenant": {"acme", "other"}, "Odd": {"a/b c"}, "Empty": {""}, "Dots": {".."}, "Long": {strings.Repeat("x", 2000)}, "Own": {"_ossuary"}},
		Data:    []byte(`{"id":17,"big":1e5,"name":"Bob","ok":true,"nil":null,"list":[{"k":"v"}],"a":{"b":"c"},"slash":"../../etc"}`),
		Time:    at,
	}
	tests := []struct{ filter, series, want, poison string }{
		{"orders.>", "plain", "plain", ""},
		{"orders.>", "{{subject}}", "orders.eu.created.x.y", ""},
		{"orders.>", "{{ subject }}", "orders.eu.created.x.y", ""},
		{"orders.>", "s/{{wildcard(1)}}", "s/eu.created.x.y", ""},
		{"orders.*.created.>", "{{wildcard(1)}}/{{wildcard(2)}}", "eu/x.y", ""},
		{"*.*.*.*.*", "{{wildcard(5)}}-{{wildcard(1)}}", "y-orders", ""},
		{"orders.>", "{{token(1)}}/{{token(5)}}", "orders/y", ""},
		{"orders.>", "{{token(6)}}", "", "{{token(6)}}: the subject has 5 tokens"},
		{"orders.>", "{{token(6)|none}}", "none", ""},
		{"orders.>", "{{stream}}/{{lane}}", "ORDERS/0", ""},
		{"orders.>", "{{header(Tenant)}}", "acme", ""},
		{"orders.>", "{{header(tenant)}}", "", "{{header(tenant)}}: the event has no such header"},
		{"orders.>", "{{header(tenant)|none}}", "none", ""},
		{"orders.>", "{{header(Empty)}}", "", "{{header(Empty)}}: it is empty"},
		{"orders.>", "{{header(Empty)|none}}", "none", ""},
		{"orders.>", "{{header(Odd)}}", "a%2Fb%20c", ""},
		{"orders.>", "{{header(Dots)}}/x", "%2E%2E/x", ""},
		{"orders.>", ".{{header(Dots)}}", ".%2E%2E", ""},
		{"orders.>", "{{header(Long)}}", "", "the series name has 2000 bytes, 1001 fit into a key"},
		{"orders.>", "{{header(Own)}}/x", "", "the series name begins with _ossuary/, which holds the archive's own objects"},
		{"orders.>", "{{header(Own)}}", "_ossuary", ""},
		{"orders.>", "{{json(id)}}/{{json(name)}}/{{json(ok)}}", "17/Bob/true", ""},
		{"orders.>", "{{json(big)}}", "1e5", ""},
		{"orders.>", "{{json(list.0.k)}}{{json(a.b)}}", "vc", ""},
		{"orders.>", "{{json(slash)}}", "..%2F..%2Fetc", ""},
		{"orders.>", "{{json(nil)}}", "", "{{json(nil)}}: the payload has no such value"},
		{"orders.>", "{{json(none)|x}}", "x", ""},
		{"orders.>", "{{json(list)}}", "", "{{json(list)}}: it is an object or an array"},
		{"orders.>", "e/{{time(%Y/%m/%d/%H)}}", "e/2026/11/02/09", ""},
		{"orders.>", "{{time(%F)}}-{{time(%-d.%-m.%y %H%M%S)}}", "2026-11-02-2.11.26 090507", ""},
		{"orders.>", "{{time(%G-W%V-%u %j %R %T)}}", "2026-W45-1 306 09:05 09:05:07", ""},
	}
	for _, tt := range tests {
		t.Run(tt.series, func(t *testing.T) {
			r := mustNew(t, layout(Route{Subjects: []string{tt.filter}, Series: tt.series}))
			m := full
			got := r.Resolve(&m)
			if got.Series != tt.want || got.Poison != tt.poison || got.Skip || got.Route == nil {
				t.Errorf("got %+v, want %q, %q", got, tt.want, tt.poison)
			}
			if again := r.Resolve(&m); again != got {
				t.Errorf("the second time %+v, the first %+v", again, got)
			}
		})
	}
}

func TestTemplateErrors(t *testing.T) {
	tests := []struct {
		series string
		column int
		what   string
	}{
		{"", 1, "is empty"},
		{"/a", 1, "cannot begin with /"},
		{"a/", 2, "cannot end with /"},
		{"a//b", 3, "two / in a row"},
		{"a/{{time(%Y/)}}/b", 3, "two / in a row"},
		{"a/../b", 3, "segment of a name cannot be .."},
		{"./{{subject}}", 1, "segment of a name cannot be ."},
		{"{{time(./%Y)}}", 1, "segment of a name cannot be ."},
		{"_ossuary/x", 1, "holds the archive's own objects"},
		{"_ossuary/{{subject}}", 1, "holds the archive's own objects"},
		{"a%2F", 2, "escapes"},
		{`a\b`, 2, "backslash"},
		{"a\nb", 2, "U+000A"},
		{"a\u202eb", 2, "U+202E"},
		{"a\xff", 1, "not UTF-8"},
		{"x{{subject", 2, "not closed"},
		{"x}}", 2, "}} without {{"},
		{"x{{sbject}}", 4, `"sbject" is no part`},
		{"x{{ token(9) }}", 11, "token(9): the subject a.* has only 2 tokens"},
		{"{{wildcard(2)}}", 12, "wildcard(2): the subject a.* has only 1"},
		{"{{wildcard(0)}}", 12, "no number from 1"},
		{"{{wildcard(x)}}", 12, "no number from 1"},
		{"{{wildcard}}", 3, "wants an argument"},
		{"{{subject(1)}}", 3, "takes no argument"},
		{"{{header(}}", 3, "no closing parenthesis"},
		{"{{header(A B)}}", 10, "no header name"},
		{"{{json(a..b)}}", 8, "empty key"},
		{"{{json(a.#)}}", 8, "has a '#'"},
		{"{{json(@pretty)}}", 8, "has a '@'"},
		{"{{time(%Y %e)}}", 11, "%e does not"},
		{"{{time(%B)}}", 8, "%B does not"},
		{"{{time(%K)}}", 8, "no conversion known"},
		{"{{time(%:Y)}}", 8, "no conversion known"},
		{"{{time(%-Y)}}", 8, "no conversion known"},
		{"{{time(%EY)}}", 8, "%E does not"},
		{"{{time(%)}}", 8, "lone %"},
		{"{{time(now)}}", 8, "has no conversion"},
		{"{{time(%Y)|x}}", 11, "always has a value"},
		{"{{header(A)|a/b}}", 13, "would be escaped"},
		{"{{header(A)|}}", 13, "would be escaped, or none"},
	}
	for _, tt := range tests {
		t.Run(tt.series, func(t *testing.T) {
			_, err := compile(tt.series, []string{"a.*"}, names{"S", "0"})
			te, ok := err.(*TemplateError)
			if !ok {
				t.Fatalf("got %v", err)
			}
			if te.Column != tt.column || !strings.Contains(te.What, tt.what) || te.Mend == "" {
				t.Errorf("got column %d: %s; %s", te.Column, te.What, te.Mend)
			}
		})
	}
}

func TestFirstMatchWins(t *testing.T) {
	r := mustNew(t, layout(
		Route{Subjects: []string{"a.b.c", "a.*.d"}, Series: "one"},
		Route{Subjects: []string{"a.b.>"}, Skip: true},
		Route{Subjects: []string{"a.>"}, Series: "three"},
	))
	for subj, want := range map[string]string{
		"a.b.c": "r1 one", "a.x.d": "r1 one", "a.b.d": "r1 one", "a.b.e": "r2 skip", "a.x": "r3 three", "a": "none", "b.a": "none",
	} {
		got := "none"
		switch tg := r.Resolve(&Message{Subject: subj}); {
		case tg.Route == nil && tg.Skip:
		case tg.Skip:
			got = tg.Route.Name + " skip"
		default:
			got = tg.Route.Name + " " + tg.Series
		}
		if got != want {
			t.Errorf("%s: %s, want %s", subj, got, want)
		}
	}
}

func TestMaxEvent(t *testing.T) {
	l := layout(Route{Subjects: []string{"a"}, Series: "s"})
	l.MaxEvent = 3
	r := mustNew(t, l)
	if got := r.Resolve(&Message{Subject: "a", Data: []byte("abc")}); got.Poison != "" {
		t.Error(got)
	}
	if got := r.Resolve(&Message{Subject: "a", Data: []byte("abcd")}); got.Poison == "" {
		t.Error(got)
	}
}

func TestLanes(t *testing.T) {
	l := layout(Route{Subjects: []string{"a.>"}, Series: "x/{{lane}}/{{token(2)}}/{{subject}}"})
	l.Lanes = 8
	r, err := NewLane(l, "6")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Resolve(&Message{Subject: "6.a.b"}); got.Series != "x/6/b/a.b" {
		t.Error(got)
	}
	if got := r.Resolve(&Message{Subject: "5.a.b"}); got.Route != nil {
		t.Error(got)
	}
	if got := r.Filters(); len(got) != 1 || got[0] != "6.a.>" {
		t.Error(got)
	}
	if r.DeadSeries() != "_ossuary/dead/ORDERS/6" {
		t.Error(r.DeadSeries())
	}
	if _, err := NewLane(l, "8"); err == nil {
		t.Error("there is no lane 8")
	}
	if lane, ok := l.LaneOf("6.a"); lane != "6" || !ok {
		t.Error(lane, ok)
	}
	if _, ok := l.LaneOf("06.a"); ok {
		t.Error("06 is no lane")
	}
}

func TestCheck(t *testing.T) {
	two := func(a, b Route) Layout { return layout(a, b) }
	s := func(subjects, series string) Route {
		return Route{Subjects: strings.Fields(subjects), Series: series}
	}
	z := func(r Route) Route { r.Codec = "zstd"; return r }
	lanes := func(l Layout) Layout { l.Lanes = 20; return l }
	tests := []struct {
		name string
		l    Layout
		want string // "" for none; ? for a warning
	}{
		{"good", two(s("a", "x"), s("b", "x")), ""},
		{"contained", two(s("a.>", "x"), s("a.b a.c", "y")), `route "r2": subjects: a.b is never reached`},
		{"half contained", two(s("a.>", "x"), s("a.b b", "y")), `?route "r2": subjects[0]: a.b is never reached`},
		{"same name, same form", two(z(s("a", "x/{{header(A)}}")), z(s("b", "{{header(B)}}/y"))), ""},
		{"same name, other form", two(s("a", "x/{{header(A)}}"), z(s("b", "{{header(B)}}/y"))), "can write the same series"},
		{"values have no slash", two(s("a", "x/{{header(A)}}"), z(s("b", "x/{{header(B)}}/y"))), ""},
		{"tokens have no dot", two(s("a.*", "x/{{wildcard(1)}}.log"), z(s("b.*", "x/{{wildcard(1)}}.l/og"))), ""},
		{"literal tokens", two(s("a.>", "{{token(1)}}/{{token(2)}}"), z(s("b.>", "{{token(1)}}/{{token(2)}}"))), ""},
		{"subjects", two(s("a.*", "{{subject}}"), z(s("b.*", "{{subject}}"))), ""},
		{"subjects that meet", two(s("a.*", "{{subject}}"), z(s("*.b.c *.x", "{{subject}}"))), "can write the same series"},
		{"digits", two(s("a", "{{time(%Y)}}"), z(s("b", "{{time(%m)}}"))), ""},
		{"digits meet", two(s("a", "{{time(%Y)}}"), z(s("b", "{{time(%m)}}{{time(%d)}}"))), "can write the same series"},
		{"date", two(s("a", "{{time(%F)}}"), z(s("b", "{{time(%Y-%m-%d)}}"))), "can write the same series"},
		{"lane missing", lanes(layout(s("a", "x"))), "two of them could write this series"},
		{"lane first", lanes(two(s("a", "{{lane}}/x"), s("b", "{{lane}}"))), ""},
		{"lane behind a value", lanes(layout(s("a", "{{subject}}/{{lane}}"))), "two of them could write"},
		{"lane before digits", lanes(layout(s("a", "x{{lane}}1/"+"y"))), "a part of its number"},
		{"lane before a value", lanes(layout(s("a", "x{{lane}}{{subject}}"))), "a part of its number"},
		{"lane heads", lanes(two(s("a", "x/{{lane}}"), s("b", "x/1{{lane}}"))), `another lane of route "r1"`},
		{"lane heads apart", lanes(two(s("a", "x/{{lane}}"), s("b", "x/y{{lane}}"))), ""},
		{"no subject", layout(s("", "x")), "the route has no subject"},
		{"bad subject", layout(s("a..b", "x")), "token 2 of the subject is empty"},
		{"bad subject", layout(s("a.>.b", "x")), "> stands at token 2"},
		{"no route", layout(), "there is no route"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, p := range Check(tt.l) {
				w := ""
				if p.Warning {
					w = "?"
				}
				got = append(got, w+p.Error())
			}
			all := strings.Join(got, "\n")
			if tt.want == "" && all != "" || !strings.Contains(all, tt.want) {
				t.Errorf("got %q, want %q", all, tt.want)
			}
		})
	}
}

func TestPrefixes(t *testing.T) {
	for p, ok := range map[string]bool{"": true, "a/": true, "a/b.c/": true, "a": false, "/a/": false, "a//": false, "../": false, "a/./": false,
		"_ossuary/": false, "a/_ossuary/": false, "a\\/": false, "a\n/": false, strings.Repeat("x", 1000) + "/": false} {
		l := layout(Route{Subjects: []string{"a"}, Series: "s"})
		l.Prefix = p
		if _, err := New(l); (err == nil) != ok {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestExplain(t *testing.T) {
	r := mustNew(t, layout(
		Route{Subjects: []string{"a.b", "a.*.c"}, Series: "one"},
		Route{Subjects: []string{"a.>"}, Series: "two/{{token(2)}}/{{header(H)}}/{{time(%Y)}}"},
	))
	e := r.Explain(&Message{Subject: "a.x.d", Time: at})
	if e.Route != "r2" || e.Filter != "a.>" || e.Poison == "" || len(e.Earlier) != 2 || len(e.Parts) != 6 {
		t.Fatalf("%+v", e)
	}
	if w := e.Earlier[0].Why; w != `token 2 is "x", the filter wants "b"` {
		t.Error(w)
	}
	if w := e.Earlier[1].Why; w != `token 3 is "d", the filter wants "c"` {
		t.Error(w)
	}
	if p := e.Parts[1]; p != (Value{Part: "{{token(2)}}", Value: "x"}) {
		t.Error(p)
	}
	if p := e.Parts[3]; p.Reason == "" {
		t.Error(p)
	}
	if e := r.Explain(&Message{Subject: "b"}); e.Route != "" || !e.Skip || len(e.Earlier) != 3 {
		t.Errorf("%+v", e)
	}
	if e := r.Explain(&Message{Subject: "a.b"}); e.Series != "one" || len(e.Earlier) != 0 {
		t.Errorf("%+v", e)
	}
}

func TestCanonical(t *testing.T) {
	l := layout(Route{Subjects: []string{"a.>"}, Series: "x<{{subject}}"}, Route{Subjects: []string{"b"}, Skip: true})
	const want = `{"v":1,"archive":"a","source":"ORDERS","prefix":"pre/","lanes":1,"max_event":0,"escape":1,"encoder":1,"routes":[` +
		`{"name":"r1","subjects":["a.\u003e"],"series":"x\u003c{{subject}}","format":"envelope","codec":"gzip","payload":"auto","newline":"refuse"},` +
		`{"name":"r2","subjects":["b"],"skip":true,"format":"envelope","codec":"gzip","payload":"auto","newline":"refuse"}]}` + "\n"
	if got := string(l.Canonical()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	back, err := ParseLayout(l.Canonical())
	if err != nil {
		t.Fatal(err)
	}
	if string(back.Canonical()) != want {
		t.Error("it does not come back the same")
	}
	for _, bad := range []string{"", "{}", `{"v":2}`, `{"v":0}`, `{"v":1,"other":1}`, want + "x", want + want} {
		if _, err := ParseLayout([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A name does not depend on the zone in which a time is given.
func TestTimesAreUTC(t *testing.T) {
	r := mustNew(t, layout(Route{Subjects: []string{"a"}, Series: "s/{{time(%Y/%m/%d/%H)}}"}))
	at := time.Date(2026, 11, 22, 23, 30, 0, 0, time.UTC)
	for _, zone := range []*time.Location{time.UTC, time.FixedZone("", 8*3600), time.FixedZone("", -5*3600)} {
		if got := r.Resolve(&Message{Subject: "a", Time: at.In(zone)}).Series; got != "s/2026/11/22/23" {
			t.Errorf("in %v: %s", zone, got)
		}
		r = mustNew(t, r.Layout()) // it may remember the name
	}
}

// A layout of a newer version is told from one that is no layout: whoever meets it
// has to be replaced, not the layout.
func TestNewerLayout(t *testing.T) {
	for text, newer := range map[string]bool{`{"v":2}`: true, `{"v":99,"routes":"of another form"}`: true, `{"v":0}`: false, `{"v":"2"}`: false} {
		if _, err := ParseLayout([]byte(text)); errors.Is(err, ErrNewer) != newer || err == nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A name that depends on more than the subject is made anew for each message.
func TestNameOfEachMessage(t *testing.T) {
	r := mustNew(t, layout(Route{Subjects: []string{"h"}, Series: "{{header(A)}}"}, Route{Subjects: []string{"j"}, Series: "{{json(k)}}"}))
	for _, v := range []string{"one", "two"} {
		if got := r.Resolve(&Message{Subject: "h", Header: map[string][]string{"A": {v}}}).Series; got != v {
			t.Errorf("by header: %q, want %q", got, v)
		}
		if got := r.Resolve(&Message{Subject: "j", Data: fmt.Appendf(nil, `{"k":%q}`, v)}).Series; got != v {
			t.Errorf("by payload: %q, want %q", got, v)
		}
	}
}
