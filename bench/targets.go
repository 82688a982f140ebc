//go:build unix

package main

// target is one row of the table of targets.
type target struct {
	title    string
	scenario string
	value    func(*round) (float64, bool)
	bound    float64
	atMost   bool // else at least
	unit     string
}

// outcome is a target with what was measured.
type outcome struct {
	Title    string  `json:"title"`
	Scenario string  `json:"scenario"`
	Unit     string  `json:"unit,omitempty"`
	Bound    float64 `json:"bound"`
	AtMost   bool    `json:"at_most"`
	Spread   spread  `json:"measured"`
	Met      bool    `json:"met"` // by the median
}

var targets = []target{
	{title: "16 series, 1 KiB, plain: pace against bare AckExplicit", scenario: "series-16", value: against(plain, bareExplicit), bound: 1.1},
	{title: "1,000 series: pace against bare AckExplicit", scenario: "series-1000", value: against(known, bareExplicit), bound: 0.9},
	{title: "1,000 series, each met for the first time: pace against bare AckExplicit", scenario: "series-1000", value: against(plain, bareExplicit), bound: 0.9},
	{title: "10,000 series, linger 5 s, limits.memory 1 GiB: pace against bare AckExplicit", scenario: "series-10000", value: against(known, bareExplicit), bound: 0.6},
	{title: "10,000 series, linger 5 s, limits.memory 1 GiB, each met for the first time: pace against bare AckExplicit", scenario: "series-10000", value: against(plain, bareExplicit), bound: 0.6},
	{title: "16 series, 128 B: pace against bare AckExplicit", scenario: "small", value: against(plain, bareExplicit), bound: 1.2},
	{title: "appends of 20 ms: pace against appends that take none", scenario: "series-16", value: against(plainSlow, plain), bound: 0.95},
	{title: "gzip: pace against plain", scenario: "series-16", value: against(gzipped, plain), bound: 0.6},
	{title: "CPU of the process per event, 16 series, 1 KiB, plain", scenario: "series-16", value: of(plain, func(f figures) float64 { return f.Client }), bound: 5, atMost: true, unit: "µs"},
	{title: "heap allocations per event, beyond those of a bare client", scenario: "series-16", value: beyond(plain, bareAll), bound: 1, atMost: true},
	{title: "resident memory with 10,000 open series, limits.memory 1 GiB: that and 100 MiB", scenario: "series-10000", value: greatest(peak, plain, known), bound: 1024 + 100, atMost: true, unit: "MiB"},
	{title: "resident memory with 10,000 open series, limits.memory 256 MiB: that and 100 MiB", scenario: "series-10000", value: of(knownSmall, peak), bound: 256 + 100, atMost: true, unit: "MiB"},
	{title: "5,000 events/s, linger 0, appends of 20 ms: publish to acknowledged, p99", scenario: "latency", value: named("p99, ms"), bound: 80, atMost: true, unit: "ms"},
	{title: "restart with 10,000 open series and a backlog: first append after", scenario: "restart", value: named("first append after, s"), bound: 1, atMost: true, unit: "s"},
	{title: "one lost answer: bytes read to adopt, in frames", scenario: "adoption", value: named("bytes read per byte of the frame"), bound: 1, atMost: true},
	{title: "replay of what is archived already: pace against bare AckExplicit", scenario: "replay", value: against(plain, bareExplicit), bound: 0.9},
	{title: "verify: pace against zcat | sha256sum of the same objects", scenario: "verify", value: named("pace in terms of zcat | sha256sum"), bound: 0.8},
}

// greatest is the greatest value of those contenders that there are.
func greatest(value func(figures) float64, contenders ...string) func(*round) (float64, bool) {
	return func(x *round) (most float64, found bool) {
		for _, c := range contenders {
			if f, ok := x.Figures[c]; ok {
				most, found = max(most, value(f)), true
			}
		}
		return most, found
	}
}

// peak is a contender's greatest resident memory, in MiB.
func peak(f figures) float64 { return float64(f.Peak) / (1 << 20) }

// beyond is what one contender allocates per event more than another.
func beyond(contender, other string) func(*round) (float64, bool) {
	return func(x *round) (float64, bool) {
		f, ok1 := x.Figures[contender]
		o, ok2 := x.Figures[other]
		return f.Mallocs - o.Mallocs, ok1 && ok2
	}
}

// judge makes the table of targets of what there is so far.
func (r *results) judge() {
	r.Targets = nil
	for _, t := range targets {
		values := r.over(t.scenario, t.value)
		if len(values) == 0 {
			continue
		}
		o := outcome{Title: t.title, Scenario: t.scenario, Unit: t.unit, Bound: t.bound, AtMost: t.atMost, Spread: spreadOf(values)}
		o.Met = o.Spread.Median >= t.bound
		if t.atMost {
			o.Met = o.Spread.Median <= t.bound
		}
		r.Targets = append(r.Targets, o)
	}
}
