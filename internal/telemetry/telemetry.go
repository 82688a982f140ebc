// Package telemetry shows a running archive to the outside: liveness,
// readiness with its reasons, Prometheus metrics and a status document, all over
// one plain HTTP server.
//
// It only looks. Nothing here decides anything about events, and a reader that
// hangs or a scrape that fails holds nothing up. The server has no
// authentication: it belongs on a loopback or cluster-internal address. It shows
// names of streams, series and keys, never payloads or credentials. Profiles, which
// cost time, are served only where they are wanted.
package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

// Reason is one thing that keeps the archive from being ready, or that somebody
// should look at although it is.
type Reason struct {
	What   string    `json:"what"` // "lane", "series", "nats", "store"; of a warning "segment"
	Name   string    `json:"name"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since,omitzero"`
}

// subject is what the server reports on. Its methods are called from any
// goroutine, must not block on the network and must not be nil.
type subject interface {
	// NotReady returns the reasons against readiness; empty means ready.
	NotReady() []Reason
	// Warnings returns what wants a person and keeps nothing from going on.
	Warnings() []Reason
	// Status returns a document that encoding/json can write, with at most so many
	// series of a lane.
	Status(series int) any
}

// MostSeries is how many series of a lane a status has at most, and unless fewer are
// asked for.
const MostSeries = 100

// How long the server waits for a client, and at the end for its last answers.
const (
	headerTimeout   = 5 * time.Second
	answerTimeout   = 30 * time.Second
	shutdownTimeout = 2 * time.Second
)

// Handler serves /livez, /readyz, /metrics and /status, and with profiles also what
// `go tool pprof` asks for, below /debug/pprof/.
func Handler(s subject, reg *prometheus.Registry, profiles bool, log zerolog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, readiness{Status: "alive"}, log)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if reasons := s.NotReady(); len(reasons) > 0 {
			answer(w, http.StatusServiceUnavailable, readiness{Status: "not ready", Reasons: reasons, Warnings: s.Warnings()}, log)
			return
		}
		answer(w, http.StatusOK, readiness{Status: "ready", Warnings: s.Warnings()}, log)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		series, err := seriesWanted(r.URL.RawQuery)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer(w, http.StatusOK, s.Status(series), log)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, "ossuary\n\n/livez\n/readyz\n/metrics\n/status\n")
		if profiles {
			fmt.Fprint(w, "/debug/pprof/\n")
		}
	})
	all := http.NewServeMux()
	all.Handle("/", timely(mux))
	if profiles { // which take as long as they are asked to
		all.HandleFunc("GET /debug/pprof/", pprof.Index)
		all.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		all.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		all.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		all.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return all
}

// seriesWanted is how many series of a lane a request for the status wants to see.
func seriesWanted(query string) (int, error) {
	q, err := url.ParseQuery(query)
	if err != nil {
		return 0, fmt.Errorf("the query %q cannot be read: %w; ask for /status or /status?series=0", query, err)
	}
	values, given := q["series"]
	if !given {
		return MostSeries, nil
	}
	n, err := strconv.Atoi(values[0])
	if err != nil || n < 0 || n > MostSeries || len(values) > 1 {
		return 0, fmt.Errorf("series=%s: give one number of series for each lane, from 0 (none) to %d, or leave it out for %[2]d", strings.Join(values, ","), MostSeries)
	}
	return n, nil
}

// timely gives up on a client that does not take its answer.
func timely(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Where it cannot be set, in a test's recorder, nobody waits either.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
		h.ServeHTTP(w, r)
	})
}

// readiness is the document of /livez and /readyz.
type readiness struct {
	Status   string   `json:"status"`
	Reasons  []Reason `json:"reasons,omitempty"`
	Warnings []Reason `json:"warnings,omitempty"`
}

func answer(w http.ResponseWriter, code int, v any, log zerolog.Logger) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		log.Error().Err(err).Msg("cannot encode an answer")
		http.Error(w, "cannot encode the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // the client has gone: nobody left to tell
}

// Serve answers on l until ctx ends, and closes l.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serving http.listen %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := srv.Shutdown(bounded)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close() // a client that does not hang up does not keep us
	}
	if served := <-done; err == nil && !errors.Is(served, http.ErrServerClosed) {
		err = served
	}
	if err != nil {
		return fmt.Errorf("closing http.listen %s: %w", l.Addr(), err)
	}
	return nil
}
