package service

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"ossuary/internal/config"
)

// scrape is what Prometheus would get of a running service.
func scrape(t *testing.T, s *Service) map[string]*dto.MetricFamily {
	t.Helper()
	resp, err := http.Get("http://" + s.HTTPAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %s, %v", resp.Status, err)
	}
	return families
}

// one is the value of the metric that has these labels, in pairs.
func one(t *testing.T, families map[string]*dto.MetricFamily, name string, labels ...string) (float64, bool) {
	t.Helper()
metrics:
	for _, m := range families[name].GetMetric() {
		for i := 0; i < len(labels); i += 2 {
			if labelOf(m, labels[i]) != labels[i+1] {
				continue metrics
			}
		}
		switch {
		case m.Gauge != nil:
			return m.Gauge.GetValue(), true
		case m.Counter != nil:
			return m.Counter.GetValue(), true
		case m.Histogram != nil:
			return float64(m.Histogram.GetSampleCount()), true
		}
		t.Fatalf("%s is a %s", name, families[name].GetType())
	}
	return 0, false
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// What a running instance exports is what docs/METRICS.md says, in both
// directions; OSSUARY_UPDATE=1 writes its tables.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *config.Config) { c.HTTP.Listen = "127.0.0.1:0" })
	stop := run(t, s)
	publish(t, s.js, 100)
	eventually(t, "all is archived", func() bool { return s.Report().Lanes[0].Floor == 100 })
	families := scrape(t, s)
	source := []string{"source", "EVENTS", "lane", "0"}
	for name, want := range map[string]float64{
		"ossuary_ready": 1, "ossuary_nats_connected": 1, "ossuary_lease_held": 1, "ossuary_events_archived_total": 100,
		"ossuary_floor_sequence": 100, "ossuary_lag_events": 0, "ossuary_lag_seconds": 0, "ossuary_warnings": 0, "ossuary_layout": 1,
	} {
		labels := source
		if !strings.Contains(strings.Join(labelNames(families[name]), " "), "lane") {
			labels = nil
		}
		if got, ok := one(t, families, name, labels...); !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", name, got, ok, want)
		}
	}
	if got, _ := one(t, families, "ossuary_horizon_sequence", source...); got < 100 {
		t.Errorf("the horizon is %v, and 100 events were handed out", got)
	}
	route := append(source, "route", "events.>")
	if got, _ := one(t, families, "ossuary_route_events_archived_total", route...); got != 100 {
		t.Errorf("%v events of the route, want 100", got)
	}
	if got, ok := one(t, families, "ossuary_route_freshness_seconds", route...); !ok || got < 0 || got > 600 {
		t.Errorf("freshness of a route that was just written: %v (%v)", got, ok)
	}
	if got, _ := one(t, families, "ossuary_store_requests_total", "op", "append", "outcome", "ok"); got < 2 {
		t.Errorf("%v appends that went well, want one of the control log and one of events at least", got)
	}
	problems, err := promlint.NewWithMetricFamilies(slices.Collect(maps.Values(families))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems { // names and units as Prometheus wants them
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	checkDocument(t, families)
	if _, err := stop(); err != nil {
		t.Error(err)
	}
}

func labelNames(f *dto.MetricFamily) []string {
	names := map[string]bool{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			names[l.GetName()] = true
		}
	}
	delete(names, "archive") // all have it
	return slices.Sorted(maps.Keys(names))
}

const (
	document     = "../../docs/METRICS.md"
	tablesBegin  = "<!-- tables: written by OSSUARY_UPDATE=1 go test ./internal/service -run TestMetricsAreDocumented -->\n"
	tablesEnd    = "<!-- end of tables -->\n"
	wordsOfLabel = " op outcome reason state what "
)

func checkDocument(t *testing.T, families map[string]*dto.MetricFamily) {
	t.Helper()
	var b strings.Builder
	b.WriteString(tablesBegin + "| metric | type | labels | what it says |\n|---|---|---|---|\n")
	words := map[string][]string{} // of labels, by metric
	for _, name := range slices.Sorted(maps.Keys(families)) {
		f := families[name]
		if !strings.HasPrefix(name, "ossuary_") {
			continue
		}
		if strings.TrimSpace(f.GetHelp()) == "" {
			t.Errorf("%s has no help text", name)
		}
		for _, m := range f.GetMetric() {
			if labelOf(m, "archive") != "main" {
				t.Errorf("%s does not name its archive: %v", name, m)
			}
		}
		labels := labelNames(f)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
		for _, l := range labels {
			if !strings.Contains(wordsOfLabel, " "+l+" ") {
				continue
			}
			values := map[string]bool{}
			for _, m := range f.GetMetric() {
				values[labelOf(m, l)] = true
			}
			words[name] = append(words[name], fmt.Sprintf("| `%s` | %s | %s |\n", name, l, strings.Join(slices.Sorted(maps.Keys(values)), ", ")))
		}
	}
	b.WriteString("\n| metric | label | its values |\n|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(words)) {
		b.WriteString(strings.Join(words[name], ""))
	}
	b.WriteString(tablesEnd)

	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), tablesBegin)
	old, after, ends := strings.Cut(rest, tablesEnd)
	if !begins || !ends {
		t.Fatalf("%s lacks its tables' first or last line:\n%s%s", document, tablesBegin, tablesEnd)
	}
	if tablesBegin+old+tablesEnd == b.String() {
		return
	}
	if os.Getenv("OSSUARY_UPDATE") != "" {
		if err := os.WriteFile(document, []byte(before+b.String()+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	written := strings.Split(tablesBegin+old+tablesEnd, "\n")
	exported := strings.Split(b.String(), "\n")
	for _, l := range exported {
		if !slices.Contains(written, l) {
			t.Errorf("%s lacks: %s", document, l)
		}
	}
	for _, l := range written {
		if !slices.Contains(exported, l) {
			t.Errorf("%s has what is not exported: %s", document, l)
		}
	}
	if !t.Failed() {
		t.Errorf("%s has its rows in another order; OSSUARY_UPDATE=1 writes them", document)
	}
}

// Profiles are served only where they are asked for.
func TestProfilesAreOffByDefault(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		s := open(t, func(c *config.Config) { c.HTTP.Listen, c.HTTP.Pprof = "127.0.0.1:0", on })
		stop := run(t, s)
		want := http.StatusNotFound
		if on {
			want = http.StatusOK
		}
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline"} {
			resp, err := http.Get("http://" + s.HTTPAddr() + path)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("pprof %v: %s answers %d, want %d", on, path, resp.StatusCode, want)
			}
		}
		if _, err := stop(); err != nil {
			t.Error(err)
		}
	}
}
