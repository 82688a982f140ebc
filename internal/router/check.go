package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Names that a layout may use; package event gives them their meaning.
var (
	Formats  = []string{"envelope", "raw"}
	Codecs   = []string{"gzip", "zstd", "plain"}
	Payloads = []string{"auto", "json", "text", "base64"}
	Newlines = []string{"refuse", "escape"}
)

// Problem is one thing wrong with a layout.
type Problem struct {
	Route   int    // index, -1: the layout itself
	Field   string // JSON name of the field, with an index where it is a list; "" if none is to blame
	Column  int    // in the field's text, from 1; 0 if unknown
	What    string
	Mend    string
	Warning bool // it works, but hardly as meant

	name string
}

func (p Problem) Error() string {
	s := p.What
	if p.Column > 0 {
		s = fmt.Sprintf("column %d: %s", p.Column, s)
	}
	if p.Field != "" {
		s = p.Field + ": " + s
	}
	if p.Route >= 0 {
		s = fmt.Sprintf("route %q: %s", p.name, s)
	}
	if p.Mend != "" {
		s += "; " + p.Mend
	}
	return s
}

// Check says everything that is wrong with a layout: what New refuses, and what
// a person who writes one should not want. New must go on taking layouts that
// were archived under, so it refuses less.
func Check(l Layout) []Problem {
	routes := make([]*template, len(l.Routes))
	out := compileAll(l, FirstLane, routes)
	out = append(out, checkWords(l)...)
	out = append(out, checkReached(l)...)
	if len(out) == 0 || !slices.ContainsFunc(out, func(p Problem) bool { return !p.Warning }) {
		out = append(out, checkLanes(l, routes)...)
		out = append(out, checkShared(l, routes)...)
	}
	for i := range out {
		if n := out[i].Route; n >= 0 {
			out[i].name = l.Routes[n].Name
		}
	}
	return out
}

// compileAll compiles every route's template into dst and says what cannot work.
func compileAll(l Layout, lane string, dst []*template) (out []Problem) {
	layout := func(field, what, mend string) {
		out = append(out, Problem{Route: -1, Field: field, What: what, Mend: mend})
	}
	if l.Version != LayoutVersion || l.EscapeVersion != EscapeVersion || l.EncoderVersion != EncoderVersion {
		layout("v", fmt.Sprintf("the layout has version %d, escaping %d, encoder %d; this program knows %d, %d, %d",
			l.Version, l.EscapeVersion, l.EncoderVersion, LayoutVersion, EscapeVersion, EncoderVersion),
			"use the program that wrote it, or a newer one")
	}
	if what, mend := checkPrefix(l.Prefix); what != "" {
		layout("prefix", what, mend)
	}
	if what, mend := l.checkShard(); what != "" {
		layout("shard", what, mend)
	}
	if l.Lanes < 0 || l.Lanes > MaxLanes {
		layout("lanes", fmt.Sprintf("%d lanes", l.Lanes), fmt.Sprintf("use 1 to %d", MaxLanes))
	}
	if l.Source == "" {
		layout("source", "the stream has no name", "name it")
	}
	if dead := len(l.Prefix) + len(reserved) + len("dead/") + len(Escape(l.Source)) + len("/255"); dead+keySuffix > MaxKey {
		layout("prefix", "prefix and stream name leave no room in a key", "use a shorter prefix")
	}
	for i, r := range l.Routes {
		at := func(field string, column int, what, mend string) {
			out = append(out, Problem{Route: i, Field: field, Column: column, What: what, Mend: mend, name: r.Name})
		}
		if len(r.Subjects) == 0 {
			at("subjects", 0, "the route has no subject", "name at least one, as in orders.>")
		}
		bad := false
		for j, s := range r.Subjects {
			if err := CheckFilter(s); err != nil {
				bad = true
				at(fmt.Sprintf("subjects[%d]", j), 0, err.Error(), "write a NATS subject, as in orders.*.created or orders.>")
			}
		}
		if r.Skip || bad {
			continue
		}
		t, err := compile(r.Series, r.Subjects, names{l.Source, lane})
		var te *TemplateError
		if errors.As(err, &te) {
			at("series", te.Column, te.What, te.Mend)
			continue
		}
		dst[i] = t
	}
	return out
}

func checkPrefix(p string) (what, mend string) {
	switch {
	case p == "":
		return "", ""
	case !utf8.ValidString(p):
		return "the prefix is not UTF-8", "write it in UTF-8"
	case !strings.HasSuffix(p, "/"):
		return fmt.Sprintf("the prefix %q does not end with /", p), fmt.Sprintf("write %q", p+"/")
	}
	for s := range strings.SplitSeq(strings.TrimSuffix(p, "/"), "/") {
		switch s {
		case "":
			return fmt.Sprintf("the prefix %q has an empty segment", p), "leave out the / that is too many"
		case ".", "..", strings.TrimSuffix(reserved, "/"):
			return fmt.Sprintf("the prefix %q has a segment %s", p, s), "choose another prefix"
		}
	}
	if _, what, mend := checkLiteral(p); what != "" {
		return "the prefix: " + what, mend
	}
	return "", ""
}

// checkWords refuses words nobody knows and names that do not tell routes apart.
func checkWords(l Layout) (out []Problem) {
	seen := map[string]int{}
	for i, r := range l.Routes {
		word := func(field, v string, known []string) {
			if !slices.Contains(known, v) {
				out = append(out, Problem{Route: i, Field: field, What: fmt.Sprintf("%q is not known", v),
					Mend: "use " + strings.Join(known, ", ")})
			}
		}
		if j, ok := seen[r.Name]; ok {
			out = append(out, Problem{Route: i, Field: "name", What: fmt.Sprintf("route %d has the name %q too", j+1, r.Name),
				Mend: "give each route of a source its own name"})
		}
		seen[r.Name] = i
		if r.Skip {
			continue
		}
		word("format", r.Format, Formats)
		word("codec", r.Codec, Codecs)
		word("payload", r.Payload, Payloads)
		word("newline", r.Newline, Newlines)
		if r.Format == "raw" && r.Codec == "plain" {
			out = append(out, Problem{Route: i, Field: "codec", What: "the raw format has no room for frame headers without compression",
				Mend: "use codec gzip or zstd, or format envelope"})
		}
	}
	if len(l.Routes) == 0 {
		out = append(out, Problem{Route: -1, Field: "routes", What: "there is no route", Mend: "add one, as in {subjects: [\">\"], series: \"{{subject}}\"}"})
	}
	return out
}

// checkReached finds routes whose subjects earlier ones take. It sees a subject
// that one earlier subject contains, not one that several cover together.
func checkReached(l Layout) (out []Problem) {
	type taken struct {
		route   int
		subject string
	}
	var before []taken
	for i, r := range l.Routes {
		var hidden []Problem
		for j, s := range r.Subjects {
			k := slices.IndexFunc(before, func(t taken) bool { return Contains(t.subject, s) })
			if k >= 0 {
				hidden = append(hidden, Problem{Route: i, Field: fmt.Sprintf("subjects[%d]", j), Warning: true,
					What: fmt.Sprintf("%s is never reached: route %q takes %s before", s, l.Routes[before[k].route].Name, before[k].subject),
					Mend: "move this route up, or leave the subject out"})
			}
		}
		if n := len(hidden); n > 0 && n == len(r.Subjects) {
			hidden = hidden[:1]
			hidden[0].Warning = false
			hidden[0].Field = "subjects"
		}
		out = append(out, hidden...)
		for _, s := range r.Subjects {
			before = append(before, taken{i, s})
		}
	}
	return out
}

// checkLanes makes sure that no two lanes write one series: a name must tell its
// lane. It does where {{lane}} stands behind plain text and before a sign that
// is no digit, and where no two such texts differ by digits only.
func checkLanes(l Layout, routes []*template) (out []Problem) {
	if l.Lanes <= 1 {
		return nil
	}
	heads := make([]string, len(routes))
	for i, t := range routes {
		if t == nil {
			continue
		}
		bad := func(what string) {
			out = append(out, Problem{Route: i, Field: "series", What: what,
				Mend: "begin the name with {{lane}}/, or with text and {{lane}}/"})
		}
		n := 0
		if t.parts[0].kind == literal {
			heads[i], n = t.parts[0].text, 1
		}
		isLanePart := n < len(t.parts) && t.parts[n].kind == constant && strings.TrimSpace(t.parts[n].name) == "lane"
		switch {
		case !isLanePart:
			bad(fmt.Sprintf("with %d lanes two of them could write this series", l.Lanes))
			continue
		case n+1 < len(t.parts) && (t.parts[n+1].kind != literal || isDigit(t.parts[n+1].text[0])):
			bad("what follows {{lane}} could be taken for a part of its number")
			continue
		}
		for j := range i {
			a, b := heads[j], heads[i]
			if routes[j] == nil {
				continue
			}
			if len(a) > len(b) {
				a, b = b, a
			}
			if a != b && strings.HasPrefix(b, a) && isDigit(b[len(a)]) {
				bad(fmt.Sprintf("another lane of route %q could write this series", l.Routes[j].Name))
			}
		}
	}
	return out
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// checkShared finds routes that could put lines of different forms into one
// series. Routes of the same form may share one.
func checkShared(l Layout, routes []*template) (out []Problem) {
	for i, b := range routes {
		for j, a := range routes[:i] {
			ra, rb := l.Routes[j], l.Routes[i]
			if a == nil || b == nil || ra.Format == rb.Format && ra.Codec == rb.Codec {
				continue
			}
			if a.meets(b, ra.Subjects, rb.Subjects) {
				out = append(out, Problem{Route: i, Field: "series",
					What: fmt.Sprintf("route %q can write the same series as %s %s, this one as %s %s", ra.Name, ra.Format, ra.Codec, rb.Format, rb.Codec),
					Mend: "begin the names with different words, or give both routes the same format and codec"})
			}
		}
	}
	return out
}

// SourcesMeet finds a route of a and one of b, layouts of different sources,
// that could write the same series: frames name their source, and the second
// one to write would be refused. Both must have passed Check.
func SourcesMeet(a, b Layout) (i, j int, ok bool) {
	ta, tb := make([]*template, len(a.Routes)), make([]*template, len(b.Routes))
	if len(compileAll(a, FirstLane, ta))+len(compileAll(b, FirstLane, tb)) > 0 {
		return 0, 0, false
	}
	for i, x := range ta {
		for j, y := range tb {
			if x != nil && y != nil && x.meetsUnder(a.shardShape(), y, b.shardShape(), a.Routes[i].Subjects, b.Routes[j].Subjects) {
				return i, j, true
			}
		}
	}
	return 0, 0, false
}
