// Package tracing sends what becomes of batches to a collector of OpenTelemetry,
// over HTTP: a span for each batch, from its first event to its confirmation, and
// below it one for each request to the store.
//
// It only looks: a collector that is slow or away costs spans, never events, and
// says so in the log once. Spans hold names of series and keys, sequences and
// counts, never payloads, subjects or headers. Nothing here is global; without a
// *Tracing nothing is done and nothing allocated.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"ossuary/internal/appendsink"
	"ossuary/internal/object"
)

// Environment as an endpoint means what the OTEL_* variables say.
const Environment = "environment"

// closeTimeout bounds the sending of the last spans.
const closeTimeout = 5 * time.Second

// Options say where spans go and whose they are.
type Options struct {
	Endpoint                string  // Environment, or the URL of a collector, to which /v1/traces is added
	Sample                  float64 // which part of the batches, from 0 to 1
	Archive, Owner, Version string
	Log                     zerolog.Logger
}

// Tracing makes spans until it is closed.
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// Start begins to trace. Nothing is sent yet: whether the collector answers shows
// with the first spans.
func Start(ctx context.Context, o Options) (*Tracing, error) {
	var to []otlptracehttp.Option
	if o.Endpoint != Environment {
		u, err := url.Parse(o.Endpoint)
		if err != nil {
			return nil, fmt.Errorf("tracing.endpoint: %w", err)
		}
		u.Path = strings.TrimRight(u.Path, "/") + "/v1/traces"
		to = append(to, otlptracehttp.WithEndpointURL(u.String()))
	}
	exporter, err := otlptracehttp.New(ctx, to...)
	if err != nil {
		return nil, fmt.Errorf("tracing.endpoint %s: %w", o.Endpoint, err)
	}
	whose, err := resource.New(ctx,
		resource.WithAttributes(
			attribute.String("service.name", "ossuary"), attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Owner), attribute.String("ossuary.archive", o.Archive)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w; write it as key=value,key=value", err)
	}
	with := []sdktrace.TracerProviderOption{
		sdktrace.WithBatcher(&heard{SpanExporter: exporter, log: o.Log}), sdktrace.WithResource(whose),
	}
	if o.Endpoint != Environment || o.Sample != 1 { // else OTEL_TRACES_SAMPLER decides
		with = append(with, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(o.Sample))))
	}
	p := sdktrace.NewTracerProvider(with...)
	return &Tracing{provider: p, tracer: p.Tracer("ossuary", trace.WithInstrumentationVersion(o.Version))}, nil
}

// Flush sends what waits.
func (t *Tracing) Flush(ctx context.Context) error { return t.provider.ForceFlush(ctx) }

// Close sends what waits, for a few seconds at most.
func (t *Tracing) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("sending the last spans: %w", err)
	}
	return nil
}

// Batch implements appendsink.Tracer.
func (t *Tracing) Batch(ctx context.Context, b appendsink.BatchInfo) (context.Context, func(error)) {
	route := b.Route
	if route == "" {
		route = "(dead letters)"
	}
	ctx, span := t.tracer.Start(ctx, "batch", trace.WithTimestamp(b.Began), trace.WithAttributes(
		attribute.String("ossuary.source", b.Source), attribute.String("ossuary.lane", b.Lane),
		attribute.String("ossuary.route", route), attribute.String("ossuary.series", b.Series),
		attribute.Int("ossuary.events", b.Events), attribute.Int("ossuary.bytes", b.Bytes),
		sequence("ossuary.first", b.First), sequence("ossuary.last", b.Last)))
	span.AddEvent("taken") // before, it waited for more events and for its turn
	return ctx, func(err error) { end(span, err) }
}

// Request begins the span of a request to the store, if it is made for a batch that
// is traced; done is nil if it is not. t may be nil.
func (t *Tracing) Request(ctx context.Context, op, key string, position, size int64) (_ context.Context, done func(error)) {
	if t == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, nil
	}
	ctx, span := t.tracer.Start(ctx, op, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("ossuary.key", key), attribute.Int64("ossuary.position", position), attribute.Int64("ossuary.size", size)))
	return ctx, func(err error) {
		var e *object.Error
		if errors.As(err, &e) {
			span.SetAttributes(attribute.String("ossuary.outcome", e.Kind.String()), attribute.Int("http.response.status_code", e.Status),
				attribute.String("ossuary.code", e.Code), attribute.String("ossuary.request_id", e.RequestID))
			if e.Kind == object.Mismatch || e.Kind == object.NotFound { // an answer like others
				err = nil
			}
		}
		end(span, err)
	}
}

func end(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// sequence is n as an attribute; OpenTelemetry has no unsigned numbers.
func sequence(key string, n uint64) attribute.KeyValue {
	return attribute.Int64(key, int64(n))
}

// heard is an exporter whose errors are logged, when they begin and when they end,
// instead of being handed to a handler that the whole process shares.
type heard struct {
	sdktrace.SpanExporter
	log  zerolog.Logger
	lost atomic.Int64 // spans since the last that arrived
}

func (h *heard) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := h.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && h.lost.Add(int64(len(spans))) == int64(len(spans)):
		h.log.Warn().Err(err).Msg("spans do not arrive and are dropped; archiving goes on: look at tracing.endpoint and the collector")
	case err == nil:
		if n := h.lost.Swap(0); n > 0 {
			h.log.Info().Int64("lost", n).Msg("spans arrive again")
		}
	}
	return nil
}
