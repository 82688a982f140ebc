package config

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"time"

	"ossuary/internal/object"
	"ossuary/internal/router"
)

// declarations are the settings with their comments, which are the descriptions.
//
//go:embed config.go
var declarations string

// A value may come from the environment wherever a single one stands.
const fromEnvironment = `\$\{`

// The forms of texts that are read as something else.
const (
	durationForm = `^\s*\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*\s*$|^\s*\+?0\s*$`
	sizeForm     = `^\s*[0-9][0-9,]*(\.[0-9]*)?\s*[kKmMgGtTpPeE]?[iI]?[bB]?\s*$`
	integerForm  = `^\s*[-+]?[0-9_]+\s*$`
	numberForm   = `^\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s*$`
	boolForm     = `^\s*(true|false)\s*$`
	timeForm     = `\s*[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.,][0-9]+)?([Zz]|[-+][0-9]{2}:[0-9]{2})\s*`
)

// rule is what a setting takes besides what its type says. Most of what the
// validator knows is between settings, and no schema can say it.
type rule struct {
	words    []string // the only ones
	none     bool     // or ""
	pattern  string
	min, max any
}

// rules by path; [] stands for every entry of a list. A test compares them with
// what Parse takes.
var rules = map[string]rule{
	"archive.name":                             {pattern: archiveName.String()},
	"oss.shard_prefix":                         {min: 0, max: router.MaxShard},
	"oss.path_style":                           {words: []string{"auto", "true", "false"}},
	"oss.auth_version":                         {words: []string{"v4", "v1"}},
	"oss.bucket":                               {pattern: bucketName.String()},
	"oss.credentials.from":                     {words: []string{"auto", "file", "ecs", "oidc"}},
	"oss.traffic_limit":                        {max: object.MaxTrafficLimit},
	"objects.storage_class":                    {words: storageClasses, none: true},
	"objects.server_side_encryption":           {words: []string{"AES256", "KMS", "SM4"}, none: true},
	"objects.data_encryption":                  {words: []string{"SM4"}, none: true},
	"objects.acl":                              {words: []string{"default", "private", "public-read", "public-read-write"}, none: true},
	"objects.content_encoding":                 {words: []string{"gzip"}, none: true},
	"sources[].lanes":                          {min: 1, max: router.MaxLanes},
	"sources[].create.storage":                 {words: []string{"file", "memory"}},
	"sources[].create.retention":               {words: []string{"limits", "interest", "workqueue"}},
	"sources[].create.replicas":                {max: 5},
	"sources[].create.max_bytes":               {min: 0},
	"sources[].routes[].format":                {words: router.Formats},
	"sources[].routes[].codec":                 {words: router.Codecs},
	"sources[].routes[].payload":               {words: router.Payloads},
	"sources[].routes[].newline":               {words: router.Newlines},
	"sources[].routes[].flush.size":            {min: 1},
	"sources[].routes[].flush.events":          {min: 1},
	"sources[].routes[].roll.size":             {min: 1, max: maxRollSize},
	"sources[].routes[].objects.storage_class": {words: storageClasses, none: true},
	"defaults.format":                          {words: router.Formats},
	"defaults.codec":                           {words: router.Codecs},
	"defaults.payload":                         {words: router.Payloads},
	"defaults.flush.size":                      {min: 1},
	"defaults.flush.events":                    {min: 1},
	"defaults.roll.size":                       {min: 1, max: maxRollSize},
	"limits.memory":                            {min: 1 << 20},
	"limits.open_series":                       {min: 1},
	"limits.parallel_appends":                  {min: 1},
	"limits.max_ack_pending":                   {min: 0},
	"limits.max_event":                         {min: 0},
	"ledger.replicas":                          {min: 0, max: 5},
	"log.level":                                {words: []string{"trace", "debug", "info", "warn", "error"}},
	"log.format":                               {words: []string{"auto", "json", "console"}},
}

// required are the settings without which there is no configuration, by the path
// of what they stand in.
var required = map[string][]string{
	"sources[]":        {"stream"},
	"sources[].create": {"subjects"},
}

type node = map[string]any

// Schema is the JSON Schema of the configuration file, for editors. It takes every
// file that Parse takes. What it cannot say, Parse finds.
//
// It is made of the very types that Parse fills. No library does it, since what a
// setting takes is the decoder's business here: a size may have a unit, a single text
// may stand for a list, and ${NAME} for anything.
func Schema() []byte {
	d := base()
	d.Sources = []Source{{Lanes: 1, Create: &Create{}, Routes: []Route{newRoute(d.Defaults)}}}
	d.complete()
	s := schema{comments: comments()}
	root := s.structure(reflect.ValueOf(*d), "")
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	root["title"] = "Ossuary"
	root["description"] = "The configuration of Ossuary, as `consumer run --config FILE` reads it."
	// With embedded servers everything has a default.
	root["if"] = node{
		"required": []string{"embedded"},
		"properties": node{"embedded": node{
			"type": "object", "required": []string{"enabled"},
			"properties": node{"enabled": node{"not": node{"enum": []any{false, "false", nil}}}},
		}},
	}
	root["else"] = node{
		"required":   []string{"archive", "oss", "sources"},
		"properties": node{"archive": needs("name"), "oss": needs("endpoint", "bucket"), "sources": node{"type": "array", "minItems": 1}},
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil { // texts, numbers, lists, maps
		panic(fmt.Sprintf("config: schema: %v", err))
	}
	return b.Bytes()
}

func needs(names ...string) node { return node{"type": "object", "required": names} }

type schema struct{ comments map[string]string }

// structure describes v, which holds the defaults.
func (s schema) structure(v reflect.Value, path string) node {
	properties := node{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("yaml")
		if name == "-" || name == "" {
			continue
		}
		at := name
		if path != "" {
			at = path + "." + name
		}
		n := s.value(v.Field(i), at, f.Tag.Get("unit"))
		if what := s.describe(v.Type(), f); what != "" {
			n["description"] = what
		}
		properties[name] = n
	}
	n := node{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	if names := required[path]; names != nil {
		n["required"] = names
	}
	if path == "sources[].routes[]" {
		n["required"] = []string{"subjects"}
		n["anyOf"] = []node{{"required": []string{"series"}}, {"required": []string{"skip"}}}
	}
	return n
}

// describe is the comment of a field, else of its type.
func (s schema) describe(in reflect.Type, f reflect.StructField) string {
	if c := s.comments[in.Name()+"."+f.Name]; c != "" {
		return c
	}
	t := f.Type
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return s.comments[t.Name()]
}

func (s schema) value(v reflect.Value, path, unit string) node {
	var n node
	switch t := v.Type(); {
	case t == reflect.TypeFor[Start]():
		n = text(`^\s*(all|new|[0-9]*[1-9][0-9]*|`+timeForm+`)\s*$`, "string", "integer")
		n["minimum"] = 1
	case t == reflect.TypeFor[Moment]():
		n = text(`^\s*$|^`+timeForm+`$`, "string")
	case t == reflect.TypeFor[time.Duration]():
		n = text(durationForm, "string", "integer")
		n["minimum"], n["maximum"] = 0, 0 // without a unit
	case t.Kind() == reflect.Pointer:
		return s.value(v.Elem(), path, unit)
	case t.Kind() == reflect.Struct:
		return s.structure(v, path)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		items := s.structure(v.Index(0), path+"[]")
		items["type"] = "object"
		return node{"type": []string{"array", "null"}, "items": items}
	case t.Kind() == reflect.Slice:
		n = node{"type": []string{"array", "string", "number", "boolean", "null"}, "items": node{"type": []string{"string", "number", "boolean"}}}
	case t.Kind() == reflect.Map:
		return node{"type": []string{"object", "null"}, "additionalProperties": node{"type": []string{"string", "number", "boolean"}}}
	case unit == "bytes":
		n = text(sizeForm, "string", "number")
	case t.Kind() == reflect.Bool:
		n = text(boolForm, "boolean", "string")
	case v.CanInt():
		n = text(integerForm, "integer", "string")
	case v.CanFloat():
		n = text(numberForm, "number", "string")
	default:
		n = node{"type": []string{"string", "number", "boolean", "null"}}
	}
	rules[path].add(n)
	if !v.IsZero() || v.CanInt() || v.Kind() == reflect.Bool {
		n["default"] = plain(v, unit, false)
	}
	return n
}

// text is a value of some types; one that is a string has the form.
func text(form string, types ...string) node {
	return node{"type": append(types, "null"), "pattern": form + "|" + fromEnvironment}
}

func (r rule) add(n node) {
	if r.words != nil {
		var words []any
		for _, w := range r.words {
			words = append(words, w)
			switch w {
			case "true", "false":
				words = append(words, w == "true") // as YAML reads them
			}
		}
		if r.none {
			words = append(words, "")
		}
		n["anyOf"] = []node{{"enum": append(words, nil)}, {"type": "string", "pattern": fromEnvironment}}
	}
	if r.pattern != "" {
		n["pattern"] = r.pattern + "|" + fromEnvironment
	}
	if r.min != nil {
		n["minimum"] = r.min
	}
	if r.max != nil {
		n["maximum"] = r.max
	}
}

// comments are those of the types and of their fields, by Type and Type.Field.
func comments() map[string]string {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", declarations, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		panic(fmt.Sprintf("config: its own source: %v", err)) // it was compiled
	}
	out := map[string]string{}
	words := func(groups ...*ast.CommentGroup) string {
		for _, g := range groups {
			if s := strings.Join(strings.Fields(g.Text()), " "); s != "" {
				return s
			}
		}
		return ""
	}
	ast.Inspect(file, func(n ast.Node) bool {
		decl, ok := n.(*ast.GenDecl)
		if !ok {
			return true
		}
		for _, spec := range decl.Specs {
			t, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			out[t.Name.Name] = words(t.Doc, decl.Doc)
			if st, ok := t.Type.(*ast.StructType); ok {
				for _, f := range st.Fields.List {
					for _, name := range f.Names {
						out[t.Name.Name+"."+name.Name] = words(f.Doc, f.Comment)
					}
				}
			}
		}
		return false
	})
	return out
}
