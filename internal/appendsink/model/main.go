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
	if *planted {
		for _, b := range plantedBugs() {
			if !strings.Contains(b.what, *only) {
				continue
			}
			fmt.Println("BUG:", b.what)
			if b.instance == "" {
				fmt.Println("    does not show:", b.why)
				continue
			}
			in := find(b.instance)
			r := explore(in, b.bug, *limit)
			bad = bad || r.invariant == ""
			fmt.Println(r.words(in))
		}
	} else {
		for _, in := range instances() {
			if strings.Contains(in.name, *only) && (*long || !in.long) {
				r := explore(in, asIs, *limit)
				bad = bad || r.invariant != ""
				fmt.Println(r.words(in))
			}
		}
	}
	if bad {
		os.Exit(1)
	}
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
