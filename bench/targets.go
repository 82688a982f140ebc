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
	{title: "16 series, 1 KiB, plain: against bare AckExplicit", scenario: "series-16", value: against(plain, bareExplicit), bound: 1.1},
	{title: "appends of 20 ms: against appends that take none", scenario: "series-16", value: against(plainSlow, plain), bound: 0.95},
	{title: "CPU of the process per event, 16 series, 1 KiB, plain", scenario: "series-16", value: of(plain, func(f figures) float64 { return f.Client }), bound: 5, atMost: true, unit: "µs"},
	{title: "heap allocations per event beyond a bare AckAll client's", scenario: "series-16", value: beyond(plain, bareAll), bound: 1, atMost: true},
}

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
