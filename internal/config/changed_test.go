package config

import (
	"slices"
	"strings"
	"testing"
)

func TestReloadKeepsWhatARunningProcessHas(t *testing.T) {
	parse := func(y string) *Config {
		t.Helper()
		c, err := Parse("f.yaml", []byte(y), env(nil))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := parse(head + source + "nats: {token: hunter2}\n")
	for _, tc := range []struct {
		name, yaml    string
		changed, kept []string
	}{
		{"nothing", head + source + "nats: {token: hunter2}\n", nil, nil},
		{"a secret", head + source + "nats: {token: hunter3}\n", []string{"nats.token"}, nil},
		{"a route", head + source + "        codec: zstd\nnats: {token: hunter2}\n", []string{"sources[0].routes[0].codec"}, nil},
		{"one route more", head + source + "      - {subjects: [b.>], series: y}\nnats: {token: hunter2}\n", []string{"sources[0].routes"}, nil},
		{"a stream to make", strings.Replace(head+source, "stream: S", "stream: S\n    create: {subjects: a.>}", 1) + "nats: {token: hunter2}\n", []string{"sources[0].create"}, nil},
		{"the archive", strings.Replace(head, "name: a", "name: b", 1) + source + "nats: {token: hunter2}\n", []string{"archive.name"}, []string{"archive.name"}},
		{"process", head + source + "nats: {token: hunter2}\nhttp: {listen: \":1\"}\nlimits: {memory: 1GiB, open_series: 7}\n",
			[]string{"limits.memory", "limits.open_series", "limits.max_ack_pending", "http.listen"}, []string{"limits.memory", "http.listen"}},
	} {
		next := parse(tc.yaml)
		if got := Changed(before, next); !slices.Equal(got, tc.changed) {
			t.Errorf("%s: changed %q, want %q", tc.name, got, tc.changed)
		}
		merged, kept := before.Reload(next)
		if !slices.Equal(kept, tc.kept) {
			t.Errorf("%s: kept %q, want %q", tc.name, kept, tc.kept)
		}
		var taken []string
		for _, path := range tc.changed {
			if !slices.Contains(tc.kept, path) {
				taken = append(taken, path)
			}
		}
		if got := Changed(before, merged); !slices.Equal(got, taken) {
			t.Errorf("%s: %q are taken, want %q", tc.name, got, taken)
		}
	}

	run := Default()
	next := Default()
	next.NATS.URLs, next.OSS.Endpoint, next.Defaults.Codec = []string{"nats://elsewhere:1"}, "http://elsewhere", "zstd"
	merged, kept := run.Reload(next)
	if !slices.Equal(kept, []string{"nats.url", "oss.endpoint"}) || merged.OSS.Endpoint != run.OSS.Endpoint || merged.Defaults.Codec != "zstd" {
		t.Errorf("of embedded servers: %q, %+v", kept, merged.OSS)
	}
}
