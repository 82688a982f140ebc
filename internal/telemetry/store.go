package telemetry

import (
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ossuary/internal/object"
)

// storeMetrics count the requests that the archive makes to its store, those about
// the control log included: what is paid for, and what the store says to it.
type storeMetrics struct {
	requests map[string]map[string]prometheus.Counter // by operation and outcome
	seconds  map[string]prometheus.Observer
}

// The operations of the store.
const (
	OpAppend = "append"
	OpHead   = "head"
	OpRead   = "read"
	OpList   = "list"
)

var outcomes = func() []string {
	out := []string{"ok"}
	for k := object.InDoubt; k <= object.Invalid; k++ {
		out = append(out, outcome(&object.Error{Kind: k}))
	}
	return out
}()

// outcome is the word for how a request ended.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	var e *object.Error
	if !errors.As(err, &e) { // what a caller made of it, or did himself
		return outcome(&object.Error{Kind: object.InDoubt})
	}
	return strings.ReplaceAll(e.Kind.String(), " ", "_")
}

func (m *storeMetrics) register(reg prometheus.Registerer) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ossuary_store_requests_total", Help: "Requests to the store, those about the control log included, by operation and outcome; a listing of several pages counts once.",
	}, []string{"op", "outcome"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ossuary_store_request_duration_seconds", Help: "Time of requests to the store, whatever their outcome; of a read until its first byte.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 17), // 1 ms to 65 s
	}, []string{"op"})
	reg.MustRegister(requests, seconds)
	m.requests, m.seconds = map[string]map[string]prometheus.Counter{}, map[string]prometheus.Observer{}
	for _, op := range []string{OpAppend, OpHead, OpRead, OpList} {
		m.requests[op], m.seconds[op] = map[string]prometheus.Counter{}, seconds.WithLabelValues(op)
		for _, o := range outcomes {
			m.requests[op][o] = requests.WithLabelValues(op, o)
		}
	}
}

// Request counts a request to the store that has ended.
func (m *Metrics) Request(op string, took time.Duration, err error) {
	m.store.requests[op][outcome(err)].Inc()
	m.store.seconds[op].Observe(took.Seconds())
}
