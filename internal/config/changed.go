package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Changed lists the settings in which two configurations differ, as errors name
// them: oss.endpoint, sources[0].routes[1].series. Values are not shown.
func Changed(a, b *Config) []string {
	var out []string
	differ(reflect.ValueOf(*a), reflect.ValueOf(*b), "", &out)
	return out
}

func differ(a, b reflect.Value, path string, out *[]string) {
	if reflect.DeepEqual(a.Interface(), b.Interface()) {
		return
	}
	switch {
	case a.Kind() == reflect.Struct && fieldNames(a.Type()) != nil:
		for i := range a.NumField() {
			if name := a.Type().Field(i).Tag.Get("yaml"); name != "-" && name != "" {
				differ(a.Field(i), b.Field(i), strings.TrimPrefix(path+"."+name, "."), out)
			}
		}
	case a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil():
		differ(a.Elem(), b.Elem(), path, out)
	case a.Kind() == reflect.Slice && a.Type().Elem().Kind() == reflect.Struct && a.Len() == b.Len():
		for i := range a.Len() {
			differ(a.Index(i), b.Index(i), fmt.Sprintf("%s[%d]", path, i), out)
		}
	default:
		*out = append(*out, path)
	}
}

// untilRestart are settings, or whole sections, that a running process keeps: what
// names the archive, and what is there once for the whole process.
var untilRestart = []string{
	"archive", "oss.bucket", "oss.prefix", "limits.memory", "lease.disabled", "http", "tracing", "log", "embedded",
}

// Reload is next with the settings of c that cannot change in a running process, and
// the names of those that next would have otherwise. Nothing else says that they are
// not in force before the process is started again.
func (c *Config) Reload(next *Config) (merged *Config, kept []string) {
	out := *next
	keep := slices.Clone(untilRestart)
	if c.Embedded.Enabled { // its addresses and keys are those of servers that run
		keep = append(keep, "nats", "oss")
	}
	for _, path := range Changed(c, next) {
		if slices.ContainsFunc(keep, func(k string) bool { return path == k || strings.HasPrefix(path, k+".") }) {
			kept = append(kept, path)
		}
	}
	for _, path := range keep {
		from, to := reflect.ValueOf(c).Elem(), reflect.ValueOf(&out).Elem()
		for name := range strings.SplitSeq(path, ".") {
			i := fieldIndex(from.Type(), name)
			from, to = from.Field(i), to.Field(i)
		}
		to.Set(from)
	}
	return &out, kept
}
