package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxNodes bounds what aliases can blow a small file up to.
const maxNodes = 100_000

// decoder fills structs from a YAML tree. It is not yaml.Unmarshal because that
// stops at the first fault, and knows neither where a good value stood (which
// the later checks want to show) nor what else the user may have meant.
type decoder struct {
	file     string
	lines    []string
	getenv   func(string) (string, bool)
	anchors  map[string]ast.Node
	at       map[string]place // by path, of every value that was read
	defaults Defaults         // what routes start from
	nodes    int
	problems []Problem
}

// place is where a value stands in the file.
type place struct {
	line, column, width int
	text                int // column of the first byte of a value on one line that stands in the file as it is; 0 otherwise
}

func (d *decoder) report(path string, p place, what, mend string) {
	d.problems = append(d.problems, d.problem(path, p, what, mend, true))
}

func (d *decoder) problem(path string, p place, what, mend string, values bool) Problem {
	return Problem{
		File: d.file, Line: p.line, Column: p.column, Path: path, What: what, Mend: mend,
		Excerpt: excerpt(d.lines, p.line, p.column, p.width, values),
	}
}

// decode reads data into cfg, which holds the defaults. A nil tree is an empty file.
func (d *decoder) decode(data []byte, cfg *Config) {
	d.lines = strings.Split(string(data), "\n")
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		var ye yaml.Error
		if errors.As(err, &ye) && ye.GetToken() != nil {
			p := placeOf(ye.GetToken())
			d.report("", p, "this is no YAML: "+ye.GetMessage(), orElse(d.quoteHint(p.line), syntaxHint))
			return
		}
		d.problems = append(d.problems, Problem{File: d.file, What: "this is no YAML: " + err.Error(), Mend: syntaxHint})
		return
	}
	var docs []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			docs = append(docs, doc.Body)
		}
	}
	switch {
	case len(docs) == 0:
		return
	case len(docs) > 1:
		d.report("", placeOf(docs[1].GetToken()), "a second document", "put everything into one, without ---")
		return
	}
	for _, n := range ast.Filter(ast.AnchorType, docs[0]) {
		a := n.(*ast.AnchorNode)
		d.anchors[a.Name.GetToken().Value] = a.Value
	}
	// Routes start from the defaults, wherever in the file these stand.
	quiet := *d
	quiet.problems, quiet.at = nil, map[string]place{}
	for _, kv := range quiet.pairs(docs[0], "") {
		if kv.name == "defaults" {
			quiet.value(kv.value, reflect.ValueOf(&cfg.Defaults).Elem(), "defaults", "")
		}
	}
	d.defaults = cfg.Defaults
	d.value(docs[0], reflect.ValueOf(cfg).Elem(), "", "")
}

// syntaxHint is for what the parser cannot read.
const syntaxHint = "look at indentation (spaces, no tabs), quotes and brackets here and in the line before"

type pair struct {
	name  string
	key   *token.Token
	value ast.Node
}

// pairs are the entries of a mapping, merged ones (<<) first so that the
// mapping's own win.
func (d *decoder) pairs(n ast.Node, path string) []pair {
	var merged, own []pair
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	}
	for _, kv := range values {
		if kv.Key.Type() == ast.MergeKeyType {
			if v := d.resolve(kv.Value, path); v != nil {
				merged = append(merged, d.pairs(v, path)...)
			}
			continue
		}
		own = append(own, pair{kv.Key.GetToken().Value, kv.Key.GetToken(), kv.Value})
	}
	return append(merged, own...)
}

// resolve follows anchors, aliases and tags; nil after a report.
func (d *decoder) resolve(n ast.Node, path string) ast.Node {
	for {
		if d.nodes++; d.nodes > maxNodes {
			if d.nodes == maxNodes+1 {
				d.report(path, placeOf(n.GetToken()), "the aliases of this file go on and on", "write the values out")
			}
			return nil
		}
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.TagNode:
			n = v.Value
		case *ast.AliasNode:
			name := v.Value.GetToken().Value
			target, ok := d.anchors[name]
			if !ok {
				d.report(path, placeOf(v.GetToken()), fmt.Sprintf("*%s: there is no &%s", name, name), "write &"+name+" before the value that is meant, or put the text in quotes")
				return nil
			}
			n = target
		case nil:
			return nil
		default:
			return n
		}
	}
}

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{}
	}
	p := place{line: t.Position.Line, column: t.Position.Column, width: max(len([]rune(strings.TrimSpace(t.Value))), 1)}
	switch t.Type {
	case token.StringType:
		p.text = p.column
	case token.DoubleQuoteType, token.SingleQuoteType:
		p.text = p.column + 1
		p.width += 2
	}
	return p
}

// value reads n into dst, which keeps what it has where n says nothing.
func (d *decoder) value(n ast.Node, dst reflect.Value, path, unit string) {
	here := n
	if n = d.resolve(n, path); n == nil {
		return
	}
	p := placeOf(here.GetToken())
	d.at[path] = p
	if n.Type() == ast.NullType {
		return
	}
	_, isText := dst.Addr().Interface().(encoding.TextUnmarshaler)
	switch k := dst.Kind(); {
	case k == reflect.Pointer:
		dst.Set(reflect.New(dst.Type().Elem()))
		d.value(n, dst.Elem(), path, unit)
	case k == reflect.Struct && !isText:
		d.structure(n, dst, path, p)
	case k == reflect.Slice:
		d.list(n, dst, path, unit, p)
	case k == reflect.Map:
		d.texts(n, dst, path, p)
	default:
		d.scalar(n, dst, path, unit, p)
	}
}

func (d *decoder) structure(n ast.Node, dst reflect.Value, path string, p place) {
	if n.Type() != ast.MappingType && n.Type() != ast.MappingValueType {
		d.report(path, p, "this wants settings of its own", "write them below it, indented: "+strings.Join(fieldNames(dst.Type()), ", "))
		return
	}
	for _, kv := range d.pairs(n, path) {
		sub := kv.name
		if path != "" {
			sub = path + "." + kv.name
		}
		i := fieldIndex(dst.Type(), kv.name)
		if i < 0 {
			mend := "known are " + strings.Join(fieldNames(dst.Type()), ", ")
			if c := closest(kv.name, fieldNames(dst.Type())); c != "" {
				mend = fmt.Sprintf("did you mean %q?", c)
			}
			d.problems = append(d.problems, d.problem(sub, placeOf(kv.key), "unknown setting", mend, false))
			continue
		}
		d.value(kv.value, dst.Field(i), sub, dst.Type().Field(i).Tag.Get("unit"))
		if _, ok := d.at[sub]; !ok || kv.value.Type() == ast.NullType {
			d.at[sub] = placeOf(kv.key)
		}
	}
}

func fieldNames(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("yaml"); tag != "-" && tag != "" {
			names = append(names, tag)
		}
	}
	return names
}

func fieldIndex(t reflect.Type, name string) int {
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("yaml"); tag == name && tag != "-" {
			return i
		}
	}
	return -1
}

// texts reads a mapping of names of the user's own.
func (d *decoder) texts(n ast.Node, dst reflect.Value, path string, p place) {
	if n.Type() != ast.MappingType && n.Type() != ast.MappingValueType {
		d.report(path, p, "this wants names with values", "write them below it, indented, as in team: payments")
		return
	}
	out := reflect.MakeMap(dst.Type())
	for _, kv := range d.pairs(n, path) {
		v := reflect.New(dst.Type().Elem()).Elem()
		d.value(kv.value, v, path+"."+kv.name, "")
		out.SetMapIndex(reflect.ValueOf(kv.name), v)
	}
	if out.Len() > 0 {
		dst.Set(out)
	}
}

// list reads a sequence; a single text stands for a list of it.
func (d *decoder) list(n ast.Node, dst reflect.Value, path, unit string, p place) {
	seq, ok := n.(*ast.SequenceNode)
	elem := dst.Type().Elem()
	if !ok {
		if elem.Kind() == reflect.Struct {
			d.report(path, p, "this wants a list", "begin each entry with -")
			return
		}
		one := reflect.New(elem).Elem()
		d.scalar(n, one, path, unit, p)
		dst.Set(reflect.Append(reflect.MakeSlice(dst.Type(), 0, 1), one))
		return
	}
	out := reflect.MakeSlice(dst.Type(), len(seq.Values), len(seq.Values))
	for i, v := range seq.Values {
		d.start(out.Index(i).Addr().Interface())
		d.value(v, out.Index(i), fmt.Sprintf("%s[%d]", path, i), unit)
	}
	dst.Set(out)
}

// start gives a new list entry what it has before the file speaks.
func (d *decoder) start(v any) {
	switch v := v.(type) {
	case *Route:
		*v = newRoute(d.defaults)
	case *Source:
		v.Lanes = 1
	}
}

func (d *decoder) scalar(n ast.Node, dst reflect.Value, path, unit string, p place) {
	raw, ok := scalarText(n)
	if !ok {
		d.report(path, p, "this wants a single value", orElse(d.quoteHint(p.line), "write it behind the colon, without a list and settings of its own"))
		return
	}
	text, what, mend := expand(raw, d.getenv)
	if what != "" {
		d.report(path, p, what, mend)
		return
	}
	if text != raw || n.Type() == ast.LiteralType {
		p.text = 0
		d.at[path] = p
	}
	if what, mend := setScalar(dst, text, unit); what != "" {
		d.report(path, p, what, mend)
	}
}

// quoteHint helps with a template that YAML takes for a mapping.
func (d *decoder) quoteHint(line int) string {
	if line > 0 && line <= len(d.lines) && strings.Contains(d.lines[line-1], "{{") {
		return `a value that begins with {{ must stand in quotes, as in "{{subject}}"`
	}
	return ""
}

// scalarText is the value as it was written, so that 010 or 1e3 or yes stay
// what the user typed where a text is wanted.
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
		return "", false
	}
	return n.GetToken().Value, true
}

// setScalar parses text into dst.
func setScalar(dst reflect.Value, text, unit string) (what, mend string) {
	if u, ok := dst.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			what, mend, _ := strings.Cut(err.Error(), "; ")
			return what, mend
		}
		return "", ""
	}
	if dst.Kind() == reflect.String {
		dst.SetString(text)
		return "", ""
	}
	text = strings.TrimSpace(text)
	switch {
	case dst.Type() == reflect.TypeFor[time.Duration]():
		v, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Sprintf("%q is no duration", text), "write a number with its unit, as in 500ms, 30s, 15m or 24h"
		}
		dst.SetInt(int64(v))
	case unit == "bytes":
		v, err := parseSize(text)
		if err != nil || dst.OverflowInt(v) {
			return fmt.Sprintf("%q is no size", text), "write bytes, or a number with its unit, as in 64KiB, 4MiB or 1GiB"
		}
		dst.SetInt(v)
	case dst.Kind() == reflect.Bool:
		switch text {
		case "true", "false":
			dst.SetBool(text == "true")
		default:
			return fmt.Sprintf("%q is neither true nor false", text), "write true or false"
		}
	case dst.CanInt():
		v, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, dst.Type().Bits())
		if err != nil {
			return fmt.Sprintf("%q is no whole number", text), "write one, as in 3"
		}
		dst.SetInt(v)
	case dst.CanFloat():
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Sprintf("%q is no number", text), "write one, as in 0.25"
		}
		dst.SetFloat(v)
	default:
		return fmt.Sprintf("internal error: no way to read a %s", dst.Type()), ""
	}
	return "", ""
}

func parseSize(s string) (int64, error) {
	v, err := humanize.ParseBytes(s)
	if err != nil {
		return 0, err
	}
	if v > 1<<62 {
		return 0, errors.New("too large")
	}
	return int64(v), nil
}
