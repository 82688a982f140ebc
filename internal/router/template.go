package router

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// Keys are at most MaxKey bytes of UTF-8. A series leaves room for the longest
// end that a key can have, whatever the route's codec is or becomes.
const (
	MaxKey    = 1023
	keySuffix = len(".000001.ndjson.zst")
)

// reserved is where Ossuary's own objects stand, under the archive's prefix.
const reserved = "_ossuary/"

// TemplateError says what is wrong with a series template and where.
type TemplateError struct {
	Template string
	Column   int // in the template, bytes from 1
	What     string
	Mend     string
}

func (e *TemplateError) Error() string {
	return fmt.Sprintf("template %q, column %d: %s; %s", e.Template, e.Column, e.What, e.Mend)
}

type kind uint8

const (
	literal  kind = iota
	constant      // {{stream}}, {{lane}}: a value known when the template is compiled
	subject
	wildcard
	token
	header
	jsonPath
	timeOf
)

type part struct {
	kind     kind
	name     string // as written between the braces; of a literal, its text
	text     string // literal and constant: as it stands in the name; header name, JSON path, time format
	n        int    // of wildcard and token, from 1
	fallback string // after |, "" if none
	column   int
}

// template is a compiled series template:
//
//	{{subject}}         the whole subject
//	{{token(n)}}        its n-th token, from 1
//	{{wildcard(n)}}     what the n-th wildcard of the matched filter stands for, from 1;
//	                    for > the rest of the subject
//	{{stream}} {{lane}} names
//	{{header(Name)}}    the header's first value; names are compared as they are
//	{{json(a.b.0)}}     the value at a path of keys and array indices in a JSON payload:
//	                    a string, number or boolean
//	{{time(%Y/%m/%d)}}  the stream timestamp in UTC
//	{{…|text}}          text instead of a value that is missing or empty
//
// Values are escaped (Escape); only the template's own text makes segments.
type template struct {
	src   string
	parts []part
	// What the name depends on besides the subject.
	dynamic bool  // headers or payload
	unit    int64 // seconds within which the time part stays the same; 0: no time part
}

// names are the values that do not change while a router lives.
type names struct{ stream, lane string }

// compile reads src for a route with the given (valid) filters.
func compile(src string, filters []string, fixed names) (*template, error) {
	t := &template{src: src}
	fail := func(at int, mend, what string, args ...any) error {
		return &TemplateError{Template: src, Column: at + 1, What: fmt.Sprintf(what, args...), Mend: mend}
	}
	if src == "" {
		return nil, fail(0, "say where the route's events go, as in events/{{time(%Y/%m/%d)}}", "the template is empty")
	}
	if !utf8.ValidString(src) {
		return nil, fail(0, "write it in UTF-8", "the template is not UTF-8")
	}
	for i := 0; i < len(src); {
		open := strings.Index(src[i:], "{{")
		if open < 0 {
			open = len(src) - i
		}
		if open > 0 {
			text := src[i : i+open]
			if at, what, mend := checkLiteral(text); what != "" {
				return nil, fail(i+at, mend, "%s", what)
			}
			t.parts = append(t.parts, part{kind: literal, name: text, text: text, column: i + 1})
			i += open
			continue
		}
		end := strings.Index(src[i:], "}}")
		if end < 0 {
			return nil, fail(i, "close it with }}", "{{ is not closed")
		}
		p, what, mend, at := parsePart(src[i+2:i+end], filters, fixed)
		if what != "" {
			return nil, fail(i+2+at, mend, "%s", what)
		}
		p.column = i + 1
		t.parts = append(t.parts, p)
		switch p.kind {
		case header, jsonPath:
			t.dynamic = true
		case timeOf:
			u := timeUnit(p.text)
			if t.unit == 0 || u < t.unit {
				t.unit = u
			}
		}
		i += end + 2
	}
	return t, t.checkSegments(fail)
}

// parsePart reads what stands between the braces. at is where in it the fault is.
func parsePart(expr string, filters []string, fixed names) (p part, what, mend string, at int) {
	p.name = expr
	call, fallback, hasFallback := cutFallback(expr)
	at = len(call) - len(strings.TrimLeft(call, " "))
	call = strings.TrimSpace(call)
	name, arg, hasArg := strings.Cut(call, "(")
	if hasArg {
		if !strings.HasSuffix(arg, ")") {
			return p, fmt.Sprintf("%q has no closing parenthesis", call), "write " + name + "(…)", at
		}
		arg = arg[:len(arg)-1]
	}
	name = strings.TrimSpace(name)
	kinds := map[string]kind{
		"subject": subject, "stream": constant, "lane": constant, "wildcard": wildcard,
		"token": token, "header": header, "json": jsonPath, "time": timeOf,
	}
	k, ok := kinds[name]
	if !ok {
		return p, fmt.Sprintf("%q is no part of a name", name),
			"use subject, token(n), wildcard(n), stream, lane, header(Name), json(path) or time(format)", at
	}
	p.kind = k
	takes := k == wildcard || k == token || k == header || k == jsonPath || k == timeOf
	switch {
	case takes && (!hasArg || arg == ""):
		return p, name + " wants an argument", "write it as " + map[kind]string{
			wildcard: "wildcard(1)", token: "token(1)", header: "header(Tenant)", jsonPath: "json(order.id)", timeOf: "time(%Y/%m/%d)",
		}[k], at
	case !takes && hasArg:
		return p, name + " takes no argument", "write {{" + name + "}}", at
	}
	argAt := at + strings.Index(expr[at:], "(") + 1
	switch k {
	case wildcard, token:
		n, err := strconv.Atoi(strings.TrimSpace(arg))
		if err != nil || n < 1 {
			return p, fmt.Sprintf("%s(%s): %q is no number from 1", name, arg, arg), "count from 1, as in " + name + "(1)", argAt
		}
		p.n = n
		if what, mend := checkReach(k, n, filters); what != "" {
			return p, what, mend, argAt
		}
	case header:
		p.text = strings.TrimSpace(arg)
		if i := strings.IndexFunc(p.text, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == ':' }); i >= 0 || p.text == "" {
			return p, fmt.Sprintf("%q is no header name", arg), "write the header's name as it is sent, as in header(Tenant)", argAt
		}
	case jsonPath:
		p.text = strings.TrimSpace(arg)
		if what := checkPath(p.text); what != "" {
			return p, what, "join keys and array indices by dots, as in json(order.items.0.id)", argAt
		}
	case timeOf:
		p.text = arg
		if i, what, mend := checkTime(arg); what != "" {
			return p, what, mend, argAt + i
		}
	case constant:
		p.text = Escape(map[string]string{"stream": fixed.stream, "lane": fixed.lane}[name])
	}
	if hasFallback {
		if k == timeOf || k == constant || k == subject {
			return p, name + " always has a value", "leave out |" + fallback, len(expr) - len(fallback) - 1
		}
		if fallback == "" || Escape(fallback) != fallback {
			return p, fmt.Sprintf("the default %q has characters that would be escaped, or none at all", fallback),
				"use letters, digits and - _ . = @ ,", len(expr) - len(fallback)
		}
		p.fallback = fallback
	}
	return p, "", "", 0
}

// cutFallback splits at the first | behind the call, so that an argument may hold one.
func cutFallback(expr string) (call, fallback string, ok bool) {
	closing := strings.LastIndex(expr, ")") + 1
	if i := strings.Index(expr, "("); i < 0 {
		closing = 0
	}
	i := strings.Index(expr[closing:], "|")
	if i < 0 {
		return expr, "", false
	}
	return expr[:closing+i], expr[closing+i+1:], true
}

// checkReach refuses a wildcard or token that some filter of the route never has.
func checkReach(k kind, n int, filters []string) (what, mend string) {
	for _, f := range filters {
		switch have := wildcards(f); {
		case k == wildcard && have == 0:
			return fmt.Sprintf("wildcard(%d): the subject %s has no wildcard", n, f),
				"use token(n), or give that subject a route of its own"
		case k == wildcard && n > have:
			return fmt.Sprintf("wildcard(%d): the subject %s has only %d", n, f, have),
				fmt.Sprintf("use wildcard(1) to wildcard(%d), or give that subject a route of its own", have)
		case k == token:
			tokens := strings.Count(f, ".") + 1
			if !strings.HasSuffix(f, ">") && n > tokens {
				return fmt.Sprintf("token(%d): the subject %s has only %d tokens", n, f, tokens),
					fmt.Sprintf("use token(1) to token(%d), or give that subject a route of its own", tokens)
			}
		}
	}
	return "", ""
}

// checkPath keeps to the part of gjson's paths that means one thing for good:
// no queries, modifiers, wildcards or escapes.
func checkPath(p string) string {
	for key := range strings.SplitSeq(p, ".") {
		if key == "" {
			return fmt.Sprintf("the JSON path %q has an empty key", p)
		}
	}
	if i := strings.IndexAny(p, "|#@*?!{}[]()\"\\ ~:"); i >= 0 {
		return fmt.Sprintf("the JSON path %q has a %q", p, p[i])
	}
	return ""
}

// checkLiteral refuses text that could not stand in a key, or that escapes use.
func checkLiteral(s string) (at int, what, mend string) {
	for i, r := range s {
		switch {
		case r == '%':
			return i, "% is what escapes of values begin with", "leave it out"
		case r == '\\':
			return i, "a backslash cannot stand in a name", "separate segments by /"
		case r < ' ' || r == 0x7f || unseen(r):
			return i, fmt.Sprintf("the character %U cannot stand in a name", r), "leave it out"
		}
	}
	if i := strings.Index(s, "}}"); i >= 0 {
		return i, "}} without {{", "open it with {{, or leave it out"
	}
	return 0, "", ""
}

// checkSegments looks at the template with every value, none of which is empty
// or holds a slash, replaced by one sign.
func (t *template) checkSegments(fail func(at int, mend, what string, args ...any) error) error {
	const value = "\x00"
	type piece struct {
		text string
		at   int // where it begins in src
	}
	var segments []piece
	cur := piece{}
	write := func(s string, at, step int) {
		for i, c := range []byte(s) {
			if c == '/' {
				segments = append(segments, cur)
				cur = piece{at: at + step*(i+1)}
			} else {
				cur.text += string(rune(c))
			}
		}
	}
	for _, p := range t.parts {
		switch p.kind {
		case literal:
			write(p.text, p.column-1, 1)
		case timeOf:
			write(timeSkeleton(p.text, value), p.column-1, 0) // faults show where the part begins
		default:
			cur.text += value
		}
	}
	segments = append(segments, cur)
	for i, s := range segments {
		switch {
		case s.text == "" && i == 0:
			return fail(s.at, "leave out the /", "a name cannot begin with /")
		case s.text == "" && i == len(segments)-1:
			return fail(max(s.at-1, 0), "leave out the /, or put something behind it", "a name cannot end with /")
		case s.text == "":
			return fail(min(s.at, len(t.src)-1), "leave one out", "two / in a row")
		case s.text == "." || s.text == "..":
			return fail(s.at, "leave it out", "a segment of a name cannot be %s", s.text)
		case i == 0 && s.text+"/" == reserved && len(segments) > 1:
			return fail(0, "choose another name", "%s holds the archive's own objects", reserved)
		}
	}
	return nil
}

// append makes the name. A reason instead means that there is none for this
// message. filter is the one that matched, tokens are the subject's.
func (t *template) append(dst []byte, m *Message, subj, filter string, tokens []string) ([]byte, string) {
	for i := range t.parts {
		p := &t.parts[i]
		var reason string
		dst, reason = p.append(dst, m, subj, filter, tokens)
		if reason != "" {
			return dst, reason
		}
	}
	return dst, ""
}

func (p *part) append(dst []byte, m *Message, subj, filter string, tokens []string) ([]byte, string) {
	var v, reason string
	switch p.kind {
	case literal, constant:
		return append(dst, p.text...), ""
	case timeOf:
		return appendTime(dst, p.text, m.Time), ""
	case subject:
		v = subj
	case token:
		if p.n <= len(tokens) {
			v = tokens[p.n-1]
		} else {
			reason = fmt.Sprintf("the subject has %d tokens", len(tokens))
		}
	case wildcard:
		v = wildcardValue(filter, tokens, p.n)
	case header:
		v, reason = headerValue(m.Header, p.text)
	case jsonPath:
		v, reason = jsonValue(m.Data, p.text)
	}
	if reason == "" && v == "" {
		reason = "it is empty"
	}
	if reason != "" {
		if p.fallback != "" {
			return append(dst, p.fallback...), ""
		}
		return dst, fmt.Sprintf("{{%s}}: %s", p.name, reason)
	}
	return appendEscaped(dst, v), ""
}

func wildcardValue(filter string, tokens []string, n int) string {
	i := 0
	for f := range strings.SplitSeq(filter, ".") {
		if f == "*" || f == ">" {
			n--
		}
		if n == 0 {
			if f == ">" {
				return strings.Join(tokens[i:], ".")
			}
			return tokens[i]
		}
		i++
	}
	return ""
}

func headerValue(h map[string][]string, name string) (v, reason string) {
	vs := h[name]
	if len(vs) == 0 {
		return "", "the event has no such header"
	}
	return vs[0], ""
}

func jsonValue(data []byte, path string) (v, reason string) {
	if !gjson.ValidBytes(data) {
		return "", "the payload is not JSON"
	}
	res := gjson.GetBytes(data, path)
	switch res.Type {
	case gjson.String:
		return res.Str, ""
	case gjson.Number:
		return res.Raw, ""
	case gjson.True:
		return "true", ""
	case gjson.False:
		return "false", ""
	case gjson.JSON:
		return "", "it is an object or an array"
	}
	return "", "the payload has no such value"
}
