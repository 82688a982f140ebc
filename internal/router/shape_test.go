package router

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Shapes may see a meeting where there is none, never the other way round: two
// routes that were let through do not make one name, whatever the events.
func TestShapesMissNoMeeting(t *testing.T) {
	part := rapid.SampledFrom([]string{
		"a", "x", "/", "/", ".", "1", "20", "{{subject}}", "{{token(1)}}", "{{token(2)|n}}", "{{wildcard(1)}}", "{{header(A)}}", "{{header(A)|x}}",
		"{{stream}}", "{{lane}}", "{{time(%Y)}}", "{{time(%-H)}}", "{{time(%F)}}", "{{time(%m%d)}}", "{{time(%R)}}", "{{json(k)}}",
	})
	series := rapid.Map(rapid.SliceOfN(part, 1, 4), func(p []string) string { return strings.Join(p, "") })
	filter := rapid.SampledFrom([]string{"a.*", "*.x", "a.>", ">", "*.*.1", "x.*.>", "*"})
	value := rapid.SampledFrom([]string{"a", "x", "1", "20", "2020", "a.x", "a/x", ".", "a.1.20"})
	met := 0
	rapid.Check(t, func(t *rapid.T) {
		type made struct {
			tmpl   *template
			filter string
			names  map[string]bool
		}
		var both [2]made
		for i := range both {
			f, s := filter.Draw(t, "filter"), series.Draw(t, "series")
			tmpl, err := compile(s, []string{f}, names{"S", "0"})
			if err != nil {
				return
			}
			both[i] = made{tmpl, f, map[string]bool{}}
		}
		for _, b := range both {
			for range 30 {
				tokens := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "x", "1", "20"}), 1, 3).Draw(t, "tokens")
				if mismatch(b.filter, tokens) != "" {
					continue
				}
				m := Message{
					Subject: strings.Join(tokens, "."),
					Header:  map[string][]string{"A": {value.Draw(t, "A")}},
					Data:    []byte(`{"k":"` + value.Draw(t, "k") + `"}`),
					Time:    time.Date(2020, 1, 20, rapid.IntRange(0, 2).Draw(t, "hour"), 1, 0, 0, time.UTC),
				}
				if n, reason := b.tmpl.append(nil, &m, m.Subject, b.filter, tokens); reason == "" {
					b.names[string(n)] = true
				}
			}
		}
		a, b := both[0], both[1]
		for n := range a.names {
			if b.names[n] {
				met++
				if !a.tmpl.meets(b.tmpl, []string{a.filter}, []string{b.filter}) {
					t.Fatalf("%s of %s and %s of %s make %q", a.tmpl.src, a.filter, b.tmpl.src, b.filter, n)
				}
			}
		}
	})
	t.Logf("met %d times", met)
}

// A layout that Check lets through gives no two lanes one name.
func TestLanesStayApart(t *testing.T) {
	part := rapid.SampledFrom([]string{"a", "/", "1", "{{lane}}", "{{lane}}", "{{lane}}/", "{{token(1)}}", "-"})
	series := rapid.Map(rapid.SliceOfN(part, 1, 4), func(p []string) string { return strings.Join(p, "") })
	token := rapid.SampledFrom([]string{"1", "11", "2", "a", "-1"})
	rapid.Check(t, func(t *rapid.T) {
		l := layout(Route{Subjects: []string{"*"}, Series: series.Draw(t, "one")}, Route{Subjects: []string{"*.b"}, Series: series.Draw(t, "two")})
		l.Lanes = 13
		for _, p := range Check(l) {
			if !p.Warning {
				return
			}
		}
		owner := map[string]string{}
		for _, lane := range []string{"1", "2", "11", "12"} {
			r, err := NewLane(l, lane)
			if err != nil {
				t.Fatal(err)
			}
			for range 10 {
				s := lane + "." + token.Draw(t, "token") + rapid.SampledFrom([]string{"", ".b"}).Draw(t, "end")
				n := r.Resolve(&Message{Subject: s}).Series
				if n == "" {
					continue
				}
				if o, ok := owner[n]; ok && o != lane {
					t.Fatalf("lanes %s and %s make %q", o, lane, n)
				}
				owner[n] = lane
			}
		}
	})
}
