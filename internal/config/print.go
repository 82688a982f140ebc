package config

import (
	"bytes"
	"encoding"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

const hidden = "(hidden)"

// Print is the effective configuration as YAML, secrets hidden.
func (c *Config) Print() []byte {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b, yaml.Indent(2), yaml.IndentSequence(true))
	if err := enc.Encode(plain(reflect.ValueOf(*c), "", false)); err != nil { // texts, numbers, lists, maps
		panic(fmt.Sprintf("config: printing: %v", err))
	}
	return b.Bytes()
}

// plain turns settings into what the YAML encoder writes as the user would.
func plain(v reflect.Value, unit string, secret bool) any {
	if t, ok := v.Interface().(encoding.TextMarshaler); ok {
		p, _ := t.MarshalText() // these never fail
		return string(p)
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		return formatDuration(time.Duration(v.Int()))
	case unit == "bytes":
		return formatSize(v.Int())
	}
	switch v.Kind() {
	case reflect.Struct:
		var out yaml.MapSlice
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name := f.Tag.Get("yaml")
			if name == "-" || name == "" || v.Field(i).Kind() == reflect.Pointer && v.Field(i).IsNil() {
				continue
			}
			out = append(out, yaml.MapItem{Key: name, Value: plain(v.Field(i), f.Tag.Get("unit"), f.Tag.Get("secret") != "")})
		}
		return out
	case reflect.Pointer:
		return plain(v.Elem(), unit, secret)
	case reflect.Slice:
		out := []any{}
		for i := range v.Len() {
			out = append(out, plain(v.Index(i), unit, secret))
		}
		return out
	case reflect.Map:
		out := yaml.MapSlice{}
		for _, k := range slices.SortedFunc(slices.Values(v.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) }) {
			out = append(out, yaml.MapItem{Key: k.String(), Value: plain(v.MapIndex(k), "", false)})
		}
		return out
	case reflect.String:
		s := v.String()
		switch {
		case secret && s != "":
			return hidden
		case strings.Contains(s, "@"):
			return hidePassword(s)
		}
		return s
	}
	return v.Interface()
}

// hidePassword hides what stands before the @ of an address: user and password,
// or a token, which has the user's place.
func hidePassword(s string) string {
	u, err := url.Parse(s)
	switch {
	case err == nil && u.User != nil:
		u.User = url.User("hidden")
		return u.String()
	case err == nil:
		return s
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return hidden
	}
	return scheme + "://hidden" + rest[max(strings.LastIndex(rest, "@"), 0):]
}

func formatSize(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size && n%u.size == 0 {
			return fmt.Sprintf("%d%s", n/u.size, u.name)
		}
	}
	return fmt.Sprint(n)
}

func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
