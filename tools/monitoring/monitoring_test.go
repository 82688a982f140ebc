// Package monitoring holds the checks of deploy/grafana and deploy/prometheus by
// the very libraries that read them: Prometheus parses and evaluates the rules,
// Grafana's own types take the dashboard. What they ask for is looked up in the
// metrics of a service that runs in this process.
package monitoring

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/rs/zerolog"

	"ossuary/internal/config"
	"ossuary/internal/service"
)

const (
	rulesFile     = "../../deploy/prometheus/alerts.yaml"
	dashboardFile = "../../deploy/grafana/ossuary.json"
	runbookFile   = "../../docs/RUNBOOK.md"
)

// exported runs an archive, has it archive something, and returns the series that
// Prometheus would have of it.
func exported(t *testing.T) []labels.Labels {
	t.Helper()
	cfg := config.Default()
	cfg.Embedded.DataDir = t.TempDir()
	cfg.NATS.URLs, cfg.OSS.Endpoint, cfg.HTTP.Listen = []string{"nats://127.0.0.1:0"}, "http://127.0.0.1:0", "127.0.0.1:0"
	cfg.Sources[0].Routes[0].Flush.Linger = 10 * time.Millisecond
	s, err := service.Open(t.Context(), cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	t.Cleanup(func() { // the test's context has ended
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	nc, err := nats.Connect(s.Report().NATS.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for limit := time.Now().Add(time.Minute); s.Report().Lanes[0].Archived == 0 || len(s.NotReady()) > 0; time.Sleep(10 * time.Millisecond) {
		if err := nc.Publish("events.x", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(limit) {
			t.Fatalf("nothing is archived: %+v", s.NotReady())
		}
	}
	resp, err := http.Get("http://" + s.HTTPAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var all []labels.Labels
	for name, f := range families {
		for _, m := range f.GetMetric() {
			b := labels.NewBuilder(labels.EmptyLabels())
			b.Set("job", "ossuary")
			b.Set("instance", s.HTTPAddr())
			for _, l := range m.GetLabel() {
				b.Set(l.GetName(), l.GetValue())
			}
			names := []string{name}
			if m.GetHistogram() != nil {
				names = []string{name + "_bucket", name + "_sum", name + "_count"}
			}
			for _, n := range names {
				b.Set(labels.MetricName, n)
				if strings.HasSuffix(n, "_bucket") {
					b.Set("le", "+Inf")
				} else {
					b.Del("le")
				}
				all = append(all, b.Labels())
			}
		}
	}
	return all
}

// checkExpr parses a query, and looks for each of its selectors among the series,
// and for each label that it groups or joins by in what lies below.
func checkExpr(t *testing.T, where, expr string, series []labels.Labels) {
	t.Helper()
	// What Grafana puts in.
	for variable, value := range map[string]string{
		"$__rate_interval": "5m", "$__range": "6h", "$archive": ".*", "$source": ".*",
	} {
		expr = strings.ReplaceAll(expr, variable, value)
	}
	if strings.Contains(expr, "$") {
		t.Errorf("%s: a variable that the dashboard does not have: %s", where, expr)
		return
	}
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v in %s", where, err, expr)
		return
	}
	wanted := func(names []string, below parser.Node) {
		for _, name := range names {
			if name != "le" && !slices.ContainsFunc(found(below, series), func(l labels.Labels) bool { return l.Has(name) }) {
				t.Errorf("%s: nothing below has label %q: %s", where, name, below)
			}
		}
	}
	parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			if len(found(n, series)) == 0 {
				t.Errorf("%s: a running instance exports nothing for %s", where, n)
			}
		case *parser.AggregateExpr:
			wanted(n.Grouping, n.Expr)
		case *parser.BinaryExpr:
			if m := n.VectorMatching; m != nil {
				wanted(m.MatchingLabels, n.LHS)
				wanted(m.MatchingLabels, n.RHS)
				wanted(m.Include, n.RHS)
			}
		}
		return nil
	})
}

// found are the series that the selectors in n take.
func found(n parser.Node, series []labels.Labels) (out []labels.Labels) {
	parser.Inspect(n, func(n parser.Node, _ []parser.Node) error {
		sel, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
	next:
		for _, l := range series {
			for _, m := range sel.LabelMatchers {
				if !l.Has(m.Name) || !m.Matches(l.Get(m.Name)) {
					continue next
				}
			}
			out = append(out, l)
		}
		return nil
	})
	return out
}

func rules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(rulesFile, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if t.Failed() {
		t.FailNow()
	}
	var all []rulefmt.Rule
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

func TestQueriesFindTheirMetrics(t *testing.T) {
	series := exported(t)
	for _, r := range rules(t) {
		checkExpr(t, r.Alert, r.Expr, series)
		for name, text := range r.Annotations {
			for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
				if !has(r.Expr, m[1], series) {
					t.Errorf("%s: its %s speaks of label %s, which %s does not keep", r.Alert, name, m[1], r.Expr)
				}
			}
		}
	}
	d := board(t)
	panels := 0
	for _, p := range d.Panels {
		if p.Panel == nil {
			continue // a row
		}
		panels++
		for _, query := range queries(t, p.Panel) {
			checkExpr(t, "panel "+*p.Panel.Title, query, series)
		}
	}
	for _, v := range d.Templating.List {
		if m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(variable(t, v)); m != nil {
			checkExpr(t, "variable "+v.Name, fmt.Sprintf("count by (%s) (%s)", m[2], m[1]), series)
		} else if v.Name != "datasource" {
			t.Errorf("variable %s is not asked of the metrics: %s", v.Name, variable(t, v))
		}
	}
	if panels < 20 {
		t.Errorf("%d panels were looked at", panels)
	}
}

// has says whether the outcome of expr may keep a label.
func has(expr, label string, series []labels.Labels) bool {
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return false
	}
	keeps, grouped := false, false
	parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
		if a, ok := n.(*parser.AggregateExpr); ok {
			grouped = true
			keeps = keeps || slices.Contains(a.Grouping, label)
		}
		return nil
	})
	return keeps || !grouped && slices.ContainsFunc(found(tree, series), func(l labels.Labels) bool { return l.Has(label) })
}

// Each alert has its entry in the runbook, and each entry its alert.
func TestRunbook(t *testing.T) {
	text, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]string{}
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		entries[name] = body
	}
	alerts := map[string]bool{}
	for _, r := range rules(t) {
		alerts[r.Alert] = true
		body, ok := entries[r.Alert]
		if !ok {
			t.Errorf("%s has no entry in %s", r.Alert, runbookFile)
			continue
		}
		for _, part := range []string{"**Means**", "**Look**", "**Do**"} {
			if !strings.Contains(body, part) {
				t.Errorf("the entry of %s does not say %s", r.Alert, part)
			}
		}
		if want := "docs/RUNBOOK.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want {
			t.Errorf("%s leads to %q, want %q", r.Alert, r.Annotations["runbook"], want)
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s has severity %q", r.Alert, s)
		}
		if r.Annotations["summary"] == "" {
			t.Errorf("%s has no summary", r.Alert)
		}
	}
	for name := range entries {
		if !alerts[name] {
			t.Errorf("%s has an entry for %s, which is no alert", runbookFile, name)
		}
	}
	for _, m := range regexp.MustCompile(`\bOssuary[A-Z]\w+`).FindAllString(string(text), -1) {
		if !alerts[m] {
			t.Errorf("%s sends its reader to %s, which is no alert", runbookFile, m)
		}
	}
}

// board is the dashboard as Grafana's types have it: generated from its schema,
// strict about what is unknown, missing or of another type, panels' options and
// queries included.
func board(t *testing.T) dashboard.Dashboard {
	t.Helper()
	data, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	d, err := parseBoard(data)
	if err != nil {
		t.Fatalf("%s is no dashboard: %v", dashboardFile, err)
	}
	return d
}

var register = sync.OnceFunc(plugins.RegisterDefaultPlugins)

func parseBoard(data []byte) (d dashboard.Dashboard, err error) {
	register()
	var strict dashboard.Dashboard
	for _, err := range []error{strict.UnmarshalJSONStrict(data), json.Unmarshal(data, &d), d.Validate()} {
		var all cog.BuildErrors
		if errors.As(err, &all) && len(all) == 0 {
			continue // they return an empty list of errors as an error, and what was read is not complete then
		}
		if err != nil {
			return d, err
		}
	}
	return d, nil
}

// The schema must notice what is wrong, or the test below shows nothing.
func TestSchemaIsStrict(t *testing.T) {
	data, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"unknown setting":            {`"editable": true`, `"editible": true`},
		"another type":               {`"graphTooltip": 1`, `"graphTooltip": "1"`},
		"unknown setting of a panel": {`"datasource": {`, `"data": {`},
		"unknown option of a panel":  {`"reduceOptions": {`, `"reduceOption": {`},
		"unknown way to draw":        {`"drawStyle": "line"`, `"drawStile": "line"`},
		"unknown part of a query":    {`"legendFormat": `, `"legend": `},
	} {
		bad := strings.Replace(string(data), change[0], change[1], 1)
		if bad == string(data) {
			t.Errorf("%s: the dashboard does not have %s", name, change[0])
		} else if _, err := parseBoard([]byte(bad)); err == nil {
			t.Errorf("%s: %s is taken", name, change[1])
		}
	}
}

func TestDashboard(t *testing.T) {
	d := board(t)
	if d.Uid == nil || *d.Uid != "ossuary" || d.SchemaVersion < 36 {
		t.Errorf("uid or schema version: %v, %d", d.Uid, d.SchemaVersion)
	}
	ids := map[uint32]bool{}
	var taken [][4]uint32
	check := func(id *uint32, title *string, at *dashboard.GridPos) {
		if id == nil || ids[*id] || title == nil || *title == "" || at == nil {
			t.Fatalf("a panel lacks its title, its place or an id of its own: %v", id)
		}
		ids[*id] = true
		box := [4]uint32{at.X, at.Y, at.X + at.W, at.Y + at.H}
		if box[2] > 24 {
			t.Errorf("%s goes beyond the right edge", *title)
		}
		for _, o := range taken {
			if box[0] < o[2] && o[0] < box[2] && box[1] < o[3] && o[1] < box[3] {
				t.Errorf("%s lies over another panel", *title)
			}
		}
		taken = append(taken, box)
	}
	for _, p := range d.Panels {
		if r := p.RowPanel; r != nil {
			check(&r.Id, r.Title, r.GridPos)
			continue
		}
		check(p.Panel.Id, p.Panel.Title, p.Panel.GridPos)
		if p.Panel.Datasource == nil || p.Panel.Datasource.Uid == nil || *p.Panel.Datasource.Uid != "${datasource}" {
			t.Errorf("%s asks a data source of somebody's own", *p.Panel.Title)
		}
	}
}

func queries(t *testing.T, p *dashboard.Panel) (out []string) {
	t.Helper()
	for _, target := range p.Targets {
		data, err := json.Marshal(target)
		if err != nil {
			t.Fatal(err)
		}
		var q struct{ Expr string }
		if err := json.Unmarshal(data, &q); err != nil {
			t.Fatal(err)
		}
		if q.Expr == "" {
			t.Errorf("panel %s has a query without an expression: %s", *p.Title, data)
		}
		out = append(out, q.Expr)
	}
	if len(out) == 0 {
		t.Errorf("panel %s asks nothing", *p.Title)
	}
	return out
}

func variable(t *testing.T, v dashboard.VariableModel) string {
	t.Helper()
	if v.Query == nil {
		return ""
	}
	if v.Query.String != nil {
		return *v.Query.String
	}
	q, _ := v.Query.Map["query"].(string)
	return q
}
