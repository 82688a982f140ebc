//go:build unix

package main

import (
	"slices"
)

// round is what one scenario gave in one round.
type round struct {
	Figures map[string]figures `json:"figures,omitempty"` // by contender
	Values  map[string]float64 `json:"values,omitempty"`  // other results, by name
}

// results are those of a run of the bench, complete or not.
type results struct {
	Commit   string              `json:"commit"`
	When     string              `json:"when"`
	Machine  string              `json:"machine"`
	Events   int                 `json:"events"`
	Rounds   map[string][]*round `json:"rounds"` // by scenario
	Failures []string            `json:"failures,omitempty"`
	Busy     string              `json:"busy,omitempty"`    // why the figures cannot be trusted
	Partial  string              `json:"partial,omitempty"` // why not everything was measured
	Targets  []outcome           `json:"targets"`
}

// spread is the least, the middle and the greatest of some rounds.
type spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
	Rounds int     `json:"rounds"`
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	mid := v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (v[len(v)/2-1] + mid) / 2
	}
	return spread{v[0], mid, v[len(v)-1], len(v)}
}

// over collects a value of each round that has it.
func (r *results) over(scenario string, value func(*round) (float64, bool)) []float64 {
	var out []float64
	for _, x := range r.Rounds[scenario] {
		if v, ok := value(x); ok {
			out = append(out, v)
		}
	}
	return out
}

// of is a figure of a contender.
func of(contender string, value func(figures) float64) func(*round) (float64, bool) {
	return func(x *round) (float64, bool) {
		f, ok := x.Figures[contender]
		return value(f), ok
	}
}

// against is the pace of one contender in terms of another's in the same round.
func against(contender, other string) func(*round) (float64, bool) {
	return func(x *round) (float64, bool) {
		f, ok1 := x.Figures[contender]
		o, ok2 := x.Figures[other]
		if !ok1 || !ok2 {
			return 0, false
		}
		return f.rate() / o.rate(), true
	}
}

// named is a value that a scenario has measured itself.
func named(name string) func(*round) (float64, bool) {
	return func(x *round) (float64, bool) { v, ok := x.Values[name]; return v, ok }
}
