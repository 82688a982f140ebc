package tracing

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ossuary/internal/appendsink"
)

// What OTEL_* say holds where the configuration says environment: address, headers,
// the service's name.
func TestEnvironment(t *testing.T) {
	var got atomic.Pointer[string]
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s := r.URL.Path + " " + r.Header.Get("X-Team") + " " + string(body)
		got.Store(&s)
	}))
	defer srv.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", srv.URL+"/below")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=archive")
	t.Setenv("OTEL_SERVICE_NAME", "bone-house")
	for name, o := range map[string]Options{
		"environment": {Endpoint: Environment, Sample: 1, Log: zerolog.Nop()},
		"URL":         {Endpoint: srv.URL + "/below/", Sample: 1, Log: zerolog.Nop()},
	} {
		got.Store(nil)
		tracing, err := Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		_, done := tracing.Batch(t.Context(), appendsink.BatchInfo{Series: "orders/eu", Began: time.Now(), Events: 3})
		done(nil)
		if err := tracing.Close(); err != nil {
			t.Fatal(err)
		}
		s := got.Load()
		if s == nil {
			t.Fatalf("%s: nothing was sent", name)
		}
		for _, want := range []string{"/below/v1/traces archive ", "bone-house", "orders/eu", "ossuary.events"} {
			if !strings.Contains(*s, want) {
				t.Errorf("%s: %q lacks %q", name, *s, want)
			}
		}
	}
}

// A part of the batches is a part of the batches: none at all with 0.
func TestSampleOfNone(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("something was sent") }))
	defer srv.Close()
	tracing, err := Start(t.Context(), Options{Endpoint: srv.URL, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, done := tracing.Batch(t.Context(), appendsink.BatchInfo{Began: time.Now()})
	if _, traced := tracing.Request(ctx, "append", "key", 0, 1); traced != nil {
		t.Error("a request is traced whose batch is not")
	}
	done(nil)
	if err := tracing.Close(); err != nil {
		t.Fatal(err)
	}
}

// A nil *Tracing is what a service has while nobody traces.
func TestOffCostsNothing(t *testing.T) {
	var off *Tracing
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if _, traced := off.Request(ctx, "append", "key", 0, 1); traced != nil {
			t.Error("something is traced")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
