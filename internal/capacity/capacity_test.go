package capacity

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"ossuary/internal/config"
)

// load is a configuration as a user writes it.
func configured(t *testing.T, routes string, more string) *config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "c.yaml")
	text := "archive: {name: a}\noss: {endpoint: http://127.0.0.1:9000, region: cn-hangzhou, bucket: bucket, access_key_id: a, access_key_secret: s}\n" +
		more + "\nsources:\n" + routes
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func source(name string, lanes int, series, more string) string {
	return fmt.Sprintf("  - stream: %s\n    lanes: %d\n    routes: [{name: r, subjects: [\"dev.*.x\"], series: \"%s\"%s}]\n", name, lanes, series, more)
}

func small() Load {
	l := DefaultLoad()
	l.Events, l.Series, l.EventSize, l.Sample = 20_000, 200, 100, 1_000_000
	return l
}

func planned(t *testing.T, cfg *config.Config, l Load) *Report {
	t.Helper()
	r, err := Plan(t.Context(), cfg, l)
	if err != nil {
		t.Fatal(err)
	}
	if r.Simulated.In != r.Simulated.Out || r.Simulated.In == 0 {
		t.Errorf("%d events in, %d out", r.Simulated.In, r.Simulated.Out)
	}
	for i, c := range r.Checks {
		if c.Source == "" || c.Mend == "" || c.Limit <= 0 || c.Load < 0 || math.IsNaN(c.Load) {
			t.Errorf("limit %+v", c)
		}
		if i > 0 && c.Headroom < r.Checks[i-1].Headroom {
			t.Errorf("%s comes behind a limit with more headroom", c.Name)
		}
	}
	return r
}

func check(t *testing.T, r *Report, name string) Check {
	t.Helper()
	for _, c := range r.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("there is no limit %q", name)
	return Check{}
}

// What comes in goes out, whatever the shape of the load and of the series.
func TestNothingGetsLost(t *testing.T) {
	for name, c := range map[string]struct {
		cfg    *config.Config
		change func(*Load)
	}{
		"one series":      {configured(t, source("S", 1, "all", ""), ""), func(*Load) {}},
		"by value":        {configured(t, source("S", 1, "x/{{wildcard(1)}}", ""), ""), func(*Load) {}},
		"by hour, Zipf":   {configured(t, source("S", 1, "x/{{wildcard(1)}}/{{time(%H)}}", ""), ""), func(l *Load) { l.Skew = 1 }},
		"lanes, sources":  {configured(t, source("S", 4, "s/{{lane}}/{{wildcard(1)}}", "")+source("T", 3, "t/{{lane}}/{{wildcard(1)}}", ", codec: zstd"), ""), func(l *Load) { l.Instances = 2 }},
		"few open series": {configured(t, source("S", 1, "x/{{wildcard(1)}}", ""), "limits: {open_series: 10}"), func(*Load) {}},
		"raw":             {configured(t, source("S", 1, "x/{{wildcard(1)}}", ", format: raw"), ""), func(l *Load) { l.Peak = 1 }},
		"little memory":   {configured(t, source("S", 1, "x/{{wildcard(1)}}", ", flush: {linger: 10m}"), "limits: {memory: 1MiB}\ndefaults: {flush: {size: 64KiB}}"), func(l *Load) { l.Events = 100_000; l.EventSize = 1000 }},
	} {
		t.Run(name, func(t *testing.T) {
			l := small()
			c.change(&l)
			r := planned(t, c.cfg, l)
			if got := r.Day.Events; math.Abs(got-l.Events) > 0.05*l.Events {
				t.Errorf("%.0f events were archived of about %.0f", got, l.Events)
			}
			if r.Day.Appends == 0 || r.Day.StoredBytes == 0 || r.Day.LedgerPuts > r.Day.Appends+r.Day.Seals {
				t.Errorf("day %+v", r.Day)
			}
		})
	}
}

func TestLongerLingerMakesFewerAppends(t *testing.T) {
	l := small()
	last := math.Inf(1)
	for _, linger := range []string{"0s", "10s", "1m", "10m", "1h"} {
		cfg := configured(t, source("S", 1, "x/{{wildcard(1)}}", ", flush: {linger: "+linger+"}"), "limits: {memory: 1GiB}")
		r := planned(t, cfg, l)
		if r.Day.Appends >= last {
			t.Errorf("linger %s: %.0f appends, no fewer than %.0f", linger, r.Day.Appends, last)
		}
		d, _ := time.ParseDuration(linger)
		if r.Delay.Longest < d.Seconds() {
			t.Errorf("linger %s: no append waited longer than %.1f s", linger, r.Delay.Longest)
		}
		last = r.Day.Appends
		// A series with n events a day makes n/(1+rT) appends, as the text of the mend has it.
		n := l.Events / float64(l.Series)
		if want := float64(l.Series) * n / (1 + n/86400*d.Seconds()); math.Abs(last-want) > 0.1*want {
			t.Errorf("linger %s: %.0f appends, the formula says %.0f", linger, last, want)
		}
	}
}

func TestMoreSeriesMakeMoreAppends(t *testing.T) {
	cfg := configured(t, source("S", 1, "x/{{wildcard(1)}}", ", flush: {linger: 10m}"), "limits: {memory: 1GiB}")
	last := 0.0
	for _, n := range []int{1, 10, 100, 1000} {
		l := small()
		l.Series = n
		r := planned(t, cfg, l)
		if r.Day.Appends <= last || r.Load.Series != float64(n) {
			t.Errorf("%d series: %.0f appends, %.0f with fewer; %.0f series", n, r.Day.Appends, last, r.Load.Series)
		}
		last = r.Day.Appends
	}
}

// A sample of the lanes, or of their values, tells what all of them do.
func TestSampleTellsAboutAll(t *testing.T) {
	cfg := configured(t, source("S", 40, "s/{{lane}}/{{wildcard(1)}}", ""), "")
	one := configured(t, source("S", 1, "s/{{wildcard(1)}}", ""), "")
	for name, c := range map[string]struct {
		cfg  *config.Config
		skew float64
	}{"lanes": {cfg, 0}, "lanes, Zipf": {cfg, 0.8}, "values": {one, 0}} {
		l := small()
		l.Events, l.Series, l.Skew = 100_000, 10_000, c.skew
		all := planned(t, c.cfg, l)
		l.Sample = 15_000
		some := planned(t, c.cfg, l)
		if some.Simulated.Events > 50_000 {
			t.Errorf("%s: %d events were simulated", name, some.Simulated.Events)
		}
		for what, x := range map[string][2]float64{"events": {all.Day.Events, some.Day.Events}, "appends": {all.Day.Appends, some.Day.Appends},
			"bytes": {all.Day.StoredBytes, some.Day.StoredBytes}, "lists": {all.Day.Lists, some.Day.Lists}, "series": {all.Load.Series, some.Load.Series}} {
			if math.Abs(x[0]-x[1]) > 0.1*x[0] {
				t.Errorf("%s: %s: %.0f of all, %.0f by the sample", name, what, x[0], x[1])
			}
		}
	}
}

func TestShardSpreadsRequests(t *testing.T) {
	const limit = "OSS requests within one range of names"
	l := small()
	plain := planned(t, configured(t, source("S", 1, "x/{{wildcard(1)}}", ""), ""), l)
	cfg := configured(t, source("S", 1, "x/{{wildcard(1)}}", ""), "")
	cfg.OSS.ShardPrefix = 2
	shard := planned(t, cfg, l)
	if a, b := check(t, plain, limit).Load, check(t, shard, limit).Load; math.Abs(a/b-256) > 20 {
		t.Errorf("%.3f and %.3f requests a second", a, b)
	}
}

// The nearest limit is the one that was set lowest, and what mends it is said.
func TestBottleneck(t *testing.T) {
	cfg := configured(t, source("S", 2, "s/{{lane}}/{{wildcard(1)}}", ""), "")
	for limit, set := range map[string]func(*Load){
		"OSS requests of the account":   func(l *Load) { l.Limits.OSSRequests = 0.1 },
		"OSS upload of the account":     func(l *Load) { l.Limits.OSSUpload = 1 },
		"messages of one stream":        func(l *Load) { l.Limits.Stream = 0.1 },
		"writes to the ledger's bucket": func(l *Load) { l.Limits.LedgerWrites = 0.1 },
		"events of one lane":            func(l *Load) { l.Limits.Lane = 0.01 },
		"memory of an instance":         func(l *Load) { l.RAM = 1 << 20 },
		"CPU of an instance":            func(l *Load) { l.CPUEvent = time.Hour },
	} {
		l := small()
		set(&l)
		if r := planned(t, cfg, l); r.Bottleneck.Limit != limit || r.Fits() || r.Bottleneck.Mend == "" {
			t.Errorf("%s: found %+v, fits %v", limit, r.Bottleneck, r.Fits())
		}
	}
	if r := planned(t, cfg, small()); !r.Fits() {
		t.Errorf("a small load does not fit: %+v", r.Bottleneck)
	}
}

// The linger that is said to be enough is.
func TestEnoughLinger(t *testing.T) {
	l := small()
	l.Limits.OSSRequests = 0.2
	text := func(linger string) string {
		return source("S", 1, "x/{{wildcard(1)}}", ", flush: {linger: "+linger+"}")
	}
	r := planned(t, configured(t, text("1s"), ""), l)
	c := check(t, r, "OSS requests of the account")
	_, rest, ok := strings.Cut(c.Mend, "flush.linger (")
	linger, _, _ := strings.Cut(rest, " ")
	if d, err := time.ParseDuration(linger); !ok || err != nil || d < time.Minute {
		t.Fatalf("mend %q", c.Mend)
	}
	c = check(t, planned(t, configured(t, text(linger), ""), l), "OSS requests of the account")
	if c.Load > 0.15 || c.Load < 0.07 { // half of the limit, and the control log
		t.Errorf("with a linger of %s there are %.3f requests a second", linger, c.Load)
	}
}

// Partitions are those of the server.
func TestPartition(t *testing.T) {
	for _, n := range []int{1, 2, 7, 250} {
		tr, err := server.NewSubjectTransform("dev.*.*", fmt.Sprintf("{{partition(%d,1)}}.dev.{{wildcard(1)}}.{{wildcard(2)}}", n))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 500 {
			subject := fmt.Sprintf("dev.%d.x", i)
			if got, want := fmt.Sprintf("%d.%s", Partition(n, fmt.Sprint(i)), subject), tr.TransformSubject(subject); got != want {
				t.Fatalf("%s becomes %s, the server says %s", subject, got, want)
			}
		}
	}
}

func TestCurve(t *testing.T) {
	for _, peak := range []float64{1, 1.5, 2, 3, 10} {
		c, sum, most := newCurve(peak), 0.0, 0.0
		for m := range 1440 {
			x := c.at(time.Duration(m) * time.Minute)
			sum, most = sum+x, max(most, x)
		}
		if math.Abs(sum/1440-1) > 0.001 || math.Abs(most-peak) > 0.01*peak {
			t.Errorf("peak %g: the mean is %g, the peak %g", peak, sum/1440, most)
		}
	}
}

// What cannot be is said in a way that mends it.
func TestBadLoads(t *testing.T) {
	cfg := configured(t, source("S", 1, "x/{{wildcard(1)}}", ""), "")
	for want, change := range map[string]func(*Load){
		"events a day":        func(l *Load) { l.Events = 0 },
		"a peak of 0.5":       func(l *Load) { l.Peak = 0.5 },
		"0 series":            func(l *Load) { l.Series = 0 },
		"has no {n}":          func(l *Load) { l.Subject = "a.b" },
		"token 2":             func(l *Load) { l.Subject = "a..{n}" },
		"a sample of 1":       func(l *Load) { l.Sample = 1 },
		"an append time of 0": func(l *Load) { l.AppendTime = 0 },
		"0 instances":         func(l *Load) { l.Instances = 0 },
	} {
		l := small()
		change(&l)
		if _, err := Plan(t.Context(), cfg, l); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	none := configured(t, source("S", 1, "x", ""), "")
	none.Sources[0].Routes[0].Subjects = []string{"fixed"}
	if _, err := Plan(t.Context(), none, small()); err == nil || !strings.Contains(err.Error(), "{n}") {
		t.Errorf("no wildcard: %v", err)
	}
}

// A load that the writers cannot take is said to be one, rather than played to its
// end.
func TestOverrun(t *testing.T) {
	cfg := configured(t, source("S", 1, "x/{{wildcard(1)}}", ", flush: {linger: 0s, events: 1}"), "limits: {parallel_appends: 1, memory: 1MiB}\ndefaults: {flush: {size: 64KiB}}")
	l := small()
	l.Events, l.AppendTime = 200_000, 10*time.Second
	if _, err := Plan(t.Context(), cfg, l); !errors.Is(err, ErrOverrun) {
		t.Errorf("got %v", err)
	}
}

// Events that no route takes, or that get no name, are told of.
func TestOtherEvents(t *testing.T) {
	cfg := configured(t, source("S", 1, "x/{{header(Tenant)}}", ""), "")
	r := planned(t, cfg, small())
	if r.Day.DeadLetters == 0 || !strings.Contains(strings.Join(r.Notes, "\n"), "dead letters") {
		t.Errorf("day %+v, notes %q", r.Day, r.Notes)
	}
	l := small()
	l.Subject = "other.{n}"
	r = planned(t, configured(t, source("S", 1, "x", ""), ""), l)
	if r.Day.Skipped == 0 || !strings.Contains(strings.Join(r.Notes, "\n"), "no route takes them") {
		t.Errorf("day %+v, notes %q", r.Day, r.Notes)
	}
}

// The tests that docs/SCALE.md says show something are there.
func TestDocumentNamesTests(t *testing.T) {
	text, err := os.ReadFile("../../docs/SCALE.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z]+)\\.(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 8 {
		t.Fatalf("it names %d tests", len(named))
	}
	for _, m := range named {
		files, err := filepath.Glob("../" + m[1] + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range files {
			p, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.Contains(string(p), "\nfunc "+m[2]+"(")
		}
		if !found {
			t.Errorf("there is no test %s.%s", m[1], m[2])
		}
	}
}
