package config

import (
	"strings"
	"testing"
)

func TestTracing(t *testing.T) {
	for _, tt := range []struct{ name, yaml, want string }{
		{"collector", "endpoint: http://localhost:4318, sample: 0.1", ""},
		{"below a path", "endpoint: https://otel.example.com/ossuary", ""},
		{"environment", "endpoint: environment", ""},
		{"no scheme", "endpoint: localhost:4318", "tracing.endpoint: this is no collector's address; write http://host:4318"},
		{"gRPC", "endpoint: grpc://localhost:4317", "tracing.endpoint: this is no collector's address"},
		{"all and more", "endpoint: environment, sample: 100", "tracing.sample: 100 is no part of all batches; use a number from 0 to 1"},
		{"no number", "endpoint: environment, sample: NaN", "tracing.sample: NaN is no part"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(head+"tracing: {"+tt.yaml+"}\n"+source), env(nil))
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
	if c := Default(); c.Tracing.Endpoint != "" || c.HTTP.Pprof {
		t.Error("tracing and profiles are on although nobody asked for them")
	}
}
