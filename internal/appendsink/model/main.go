package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	only := flag.String("only", "", "explore the instances, or plant the bugs, whose name contains this")
	long := flag.Bool("long", false, "explore the long instances too, which takes minutes")
	planted := flag.Bool("bugs", false, "plant each bug in turn and print how it shows")
	limit := flag.Int("limit", 6_000_000, "states to expand at the most")
	flag.Parse()
	bad := false
	var all totals
	if *planted {
		for _, b := range plantedBugs() {
			if !strings.Contains(b.what, *only) {
				continue
			}
			fmt.Println("BUG:", b.what)
			if b.instance == "" {
				fmt.Println("    does not show:", b.why)
				all.hidden++
				continue
			}
			in := find(b.instance)
			r := explore(in, b.bug, *limit)
			bad = bad || r.invariant == ""
			if r.invariant != "" {
				all.caught++
			}
			all.planted++
			fmt.Println(r.words(in))
		}
		fmt.Printf("total: %d bugs planted, %d caught; %d more rules that something else stands in for\n", all.planted, all.caught, all.hidden)
	} else {
		for _, in := range instances() {
			if strings.Contains(in.name, *only) && (*long || !in.long) {
				r := explore(in, asIs, *limit)
				bad = bad || r.invariant != ""
				fmt.Println(r.words(in))
				all.add(&r)
			}
		}
		all.print()
	}
	if bad {
		os.Exit(1)
	}
}

// totals sums up a run.
type totals struct {
	instances, exhaustive, bounded, broken int
	states, steps, runs                    int
	took                                   time.Duration
	met                                    [mets]int
	planted, caught, hidden                int
}

func (t *totals) add(r *result) {
	t.instances++
	switch {
	case r.invariant != "":
		t.broken++
	case r.exhaustive && r.cut:
		t.bounded++
	case r.exhaustive:
		t.exhaustive++
	}
	t.states += r.states
	t.steps += r.edges
	t.runs += r.runs
	t.took += r.took
	for i, n := range r.met {
		t.met[i] += n
	}
}

func (t *totals) print() {
	fmt.Println("met on the way:")
	for i, n := range t.met {
		if n > 0 {
			fmt.Printf("  %10d %s\n", n, metWords[i])
		}
	}
	fmt.Printf("total: %d states and %d steps of %d instances in %s, %d exhaustive, %d up to segment %d; run on from %d of them; %d broken\n",
		t.states, t.steps, t.instances, t.took.Round(100*time.Millisecond), t.exhaustive, t.bounded, maxSeg, t.runs, t.broken)
}

func find(name string) *instance {
	for _, in := range instances() {
		if in.name == name {
			return in
		}
	}
	return nil
}

// line is a row of the table.
func (r *result) line(in *instance) string {
	how, res := "exhaustive", "holds"
	switch {
	case r.invariant != "":
		how, res = "stopped", "BROKEN: "+r.invariant
	case !r.exhaustive:
		how = "not exhaustive"
	case r.cut:
		how = fmt.Sprintf("up to segment %d", maxSeg)
	}
	return fmt.Sprintf("%-28s %8d states %9d steps  depth %3d  run on from %6d  %-16s %6.1fs  %s",
		in.name, r.states, r.edges, r.depth, r.runs, how, float64(r.took/time.Millisecond)/1000, res)
}

// words is the row, with the trace.
func (r *result) words(in *instance) string {
	out := r.line(in)
	if r.invariant != "" && r.what != "" {
		out += "\n    " + r.what
	}
	for i, t := range r.trace {
		out += fmt.Sprintf("\n    %2d %s", i+1, t)
	}
	return out
}
