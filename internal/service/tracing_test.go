package service

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"ossuary/internal/config"
	"ossuary/internal/ossemu"
)

// spans is a collector of OpenTelemetry.
type spans struct {
	*httptest.Server
	mu       sync.Mutex
	got      []*tracepb.Span
	resource string
}

func collect(t *testing.T) *spans {
	c := &spans{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = z
		}
		data, err := io.ReadAll(body)
		var req collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(data, &req)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, rs := range req.GetResourceSpans() {
			c.resource = rs.GetResource().String()
			for _, ss := range rs.GetScopeSpans() {
				c.got = append(c.got, ss.GetSpans()...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *spans) named(name string) (out []*tracepb.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.got {
		if s.GetName() == name {
			out = append(out, s)
		}
	}
	return out
}

func attribute(s *tracepb.Span, key string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			return a.GetValue().String()
		}
	}
	return ""
}

// A batch whose first append was applied but lost its answer shows what was done
// about it: two looks at the least, and where it ended.
func TestBatchesAreTraced(t *testing.T) {
	t.Parallel()
	c := collect(t)
	s := open(t, func(cfg *config.Config) { cfg.Tracing = config.Tracing{Endpoint: c.URL, Sample: 1} })
	if _, err := s.local.oss.AddFault(ossemu.Rule{Op: "append", Key: "events/*", Nth: 1, When: "after", Action: "cut"}); err != nil {
		t.Fatal(err)
	}
	stop := run(t, s)
	publish(t, s.js, 100)
	eventually(t, "all is archived", func() bool { return s.Report().Lanes[0].Floor == 100 })
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
	s.Close() // sends the last spans

	batches, events := c.named("batch"), int64(0)
	for _, span := range batches {
		for _, a := range span.GetAttributes() {
			if a.GetKey() == "ossuary.events" {
				events += a.GetValue().GetIntValue()
			}
		}
	}
	if len(batches) == 0 || events != 100 {
		t.Fatalf("%d spans of batches with %d events, want all 100", len(batches), events)
	}
	first := batches[0]
	below := map[string]int{}
	for _, op := range []string{"append", "head", "read"} {
		for _, span := range c.named(op) {
			if string(span.GetTraceId()) == string(first.GetTraceId()) && string(span.GetParentSpanId()) == string(first.GetSpanId()) {
				below[op]++
				if !strings.Contains(attribute(span, "ossuary.key"), "events/") {
					t.Errorf("%s of a batch has key %s", op, attribute(span, "ossuary.key"))
				}
			}
		}
	}
	if below["append"] == 0 || below["head"] == 0 || below["read"] == 0 {
		t.Errorf("the batch whose answer was lost was appended, looked for and read back; its span has %v below it", below)
	}
	if took := time.Duration(first.GetEndTimeUnixNano() - first.GetStartTimeUnixNano()); took <= 0 || took > time.Hour {
		t.Errorf("the span of a batch lasts %s", took)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, want := range []string{"ossuary", "service.version", "service.instance.id", "ossuary.archive"} {
		if !strings.Contains(c.resource, want) {
			t.Errorf("the spans' resource lacks %s: %s", want, c.resource)
		}
	}
	for _, span := range c.got {
		if len(span.GetParentSpanId()) == 0 && span.GetName() != "batch" {
			t.Errorf("%s is traced although it belongs to no batch", span.GetName())
		}
	}
}

// logLines keeps what is logged.
type logLines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// A collector that takes nothing costs spans and one line of the log.
func TestCollectorThatRefuses(t *testing.T) {
	t.Parallel()
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadRequest) }))
	defer refusing.Close()
	var log logLines
	cfg := openConfig(t)
	cfg.Tracing = config.Tracing{Endpoint: refusing.URL, Sample: 1}
	s, err := Open(context.Background(), cfg, zerolog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stop := run(t, s)
	for n := range uint64(2) {
		publish(t, s.js, 20)
		eventually(t, "all is archived", func() bool { return s.Report().Lanes[0].Floor == 20*(n+1) })
		if err := s.tracing.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stop(); err != nil {
		t.Error(err)
	}
	s.Close()
	if n := strings.Count(log.String(), "tracing.endpoint"); n != 1 {
		t.Errorf("the log speaks of it %d times, want once:\n%s", n, log.String())
	}
}
