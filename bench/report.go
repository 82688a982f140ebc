//go:build unix

package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
)

// String is a figure in a line.
func (f figures) String() string {
	return fmt.Sprintf("%s events/s, CPU µs per event %.1f + %.1f + %.1f, %d MiB", thousands(f.rate()), f.Client, f.Server, f.Store, f.Peak>>20)
}

func thousands(v float64) string { return humanize.Comma(int64(v + 0.5)) }

// digits writes a value with three that count.
func digits(v float64) string {
	if v >= 1000 || v <= -1000 {
		return thousands(v)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func (s spread) String() string {
	if s.Rounds == 1 || s.Min == s.Max {
		return digits(s.Median)
	}
	return digits(s.Min) + " – " + digits(s.Median) + " – " + digits(s.Max)
}

// targetTable is the table of targets.
func (r *results) targetTable() table.Writer {
	w := table.NewWriter()
	w.AppendHeader(table.Row{"target", "wanted", "measured", ""})
	for _, o := range r.Targets {
		sign, met := "≥ ", "met"
		if o.AtMost {
			sign = "≤ "
		}
		if !o.Met {
			met = "missed"
		}
		unit := ""
		if o.Unit != "" {
			unit = " " + o.Unit
		}
		w.AppendRow(table.Row{o.Title, sign + digits(o.Bound) + unit, o.Spread.String() + unit, met})
	}
	return w
}

// valueTable is the table of what is no pace.
func (r *results) valueTable() table.Writer {
	w := table.NewWriter()
	w.AppendHeader(table.Row{"scenario", "", "measured"})
	for _, s := range scenarios {
		names := map[string]bool{}
		for _, x := range r.Rounds[s.name] {
			for name := range x.Values {
				names[name] = true
			}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			w.AppendRow(table.Row{s.title, name, spreadOf(r.over(s.name, named(name))).String()})
		}
	}
	return w
}

// figureTable is the table of all contenders.
func (r *results) figureTable() table.Writer {
	w := table.NewWriter()
	w.AppendHeader(table.Row{"", "events/s", "against AckExplicit", "CPU µs: process", "server", "store", "peak MiB", "allocations", "appends per million", "ledger writes"})
	median := func(scenario, contender string, f func(figures) float64) float64 {
		return spreadOf(r.over(scenario, of(contender, f))).Median
	}
	for _, s := range scenarios {
		if len(s.contenders) == 0 || len(r.Rounds[s.name]) == 0 {
			continue
		}
		w.AppendRow(table.Row{s.title})
		for _, c := range s.contenders {
			rates := r.over(s.name, of(c, figures.rate))
			if len(rates) == 0 {
				continue
			}
			num := func(f func(figures) float64) string { return digits(median(s.name, c, f)) }
			ratio := ""
			if c != bareExplicit {
				if v := r.over(s.name, against(c, bareExplicit)); len(v) > 0 {
					ratio = spreadOf(v).String()
				}
			}
			row := table.Row{"  " + c, spreadOf(rates).String(), ratio,
				num(func(f figures) float64 { return f.Client }), num(func(f figures) float64 { return f.Server }), num(func(f figures) float64 { return f.Store }),
				num(func(f figures) float64 { return float64(f.Peak >> 20) }), num(func(f figures) float64 { return f.Mallocs }), "", ""}
			if v := median(s.name, c, func(f figures) float64 { return f.Appends }); v > 0 {
				row[8] = thousands(v)
			}
			if v := median(s.name, c, func(f figures) float64 { return f.LedgerWrites }); v > 0 {
				row[9] = thousands(v)
			}
			w.AppendRow(row)
		}
	}
	return w
}
